"""What every chapter has: goals, questions, quizzes, exercises, corrections, a summary, figures."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from stored_chapters import ROOT, cells, each_chapter

QUIZ = re.compile(
    r'<details class="quiz">\n<summary>(.*?)</summary>\n(.*?)\n</details>\n</details>', re.S
)
CHOICE = re.compile(r"<details>\n<summary>(.*?)</summary>\n\n(.*?)\n\n</details>", re.S)


def prose(path: Path) -> str:
    return "\n\n".join(cell.source for cell in cells(path, "markdown"))


def code(path: Path) -> str:
    return "\n".join(cell.source for cell in cells(path, "code"))


def quizzes(path: Path) -> list[tuple[str, list[tuple[str, str]]]]:
    found = QUIZ.findall(prose(path))
    return [(question, CHOICE.findall(body + "\n\n</details>")) for question, body in found]


@each_chapter
def test_it_begins_with_goals_and_ends_with_exercises(path: Path) -> None:
    text = prose(path)
    assert text.startswith("# ")
    head = text[: text.index("\n## ")]
    assert "**读完以后你能**" in head
    assert "**需要先会的**" in head
    assert re.search(r"约 \d+ 分钟。", head)
    titles = [title.split("\u3000")[-1] for title in re.findall(r"^## (.*)", text, flags=re.M)]
    assert titles[-3:] == ["原文勘误", "小结", "练习"]
    assert "**延伸阅读**" in text
    # Sections are questions of the reader, nearly all.
    asked = [title for title in titles[:-3] if title.endswith("？")]
    assert len(asked) >= 0.8 * len(titles[:-3])


@each_chapter
def test_each_choice_of_a_quiz_is_explained_and_one_is_right(path: Path) -> None:
    asked = quizzes(path)
    assert len(asked) >= 5
    assert prose(path).count('<details class="quiz">') == len(asked)
    for number, (question, choices) in enumerate(asked, start=1):
        assert question.startswith(f"小测 {number}\u3000"), question
        assert len(choices) >= 2, question
        verdicts = [explanation.split("。")[0] for _, explanation in choices]
        assert sorted(set(verdicts)) == ["不对", "对"], question
        assert verdicts.count("对") == 1, question
        assert all(len(explanation) > 12 for _, explanation in choices), question


@each_chapter
def test_the_right_choice_stands_anywhere(path: Path) -> None:
    places = [
        [explanation.startswith("对。") for _, explanation in choices].index(True)
        for _, choices in quizzes(path)
    ]
    assert len(set(places)) > 1


@each_chapter
def test_exercises_are_numbered_and_solved(path: Path) -> None:
    text = prose(path)
    numbers = re.findall(r"^\*\*练习 (\d+)", text, flags=re.M)
    assert numbers == [str(n) for n in range(1, len(numbers) + 1)]
    assert len(numbers) >= 8
    exercises = text[text.index("\n## 练习") :]
    assert exercises.count('<details class="solution">') == len(numbers)
    to_code = re.findall(r"^\*\*练习 \d+ ✎", text, flags=re.M)
    assert len(to_code) == len(re.findall(r'^check\("', code(path), flags=re.M)) >= 4


@each_chapter
def test_numbers_are_asserted(path: Path) -> None:
    printing = [c for c in cells(path, "code") if "print(" in c.source]
    asserting = [c for c in printing if "assert" in c.source]
    assert len(asserting) >= 0.7 * len(printing)


@each_chapter
def test_it_is_plain_markdown(path: Path) -> None:
    """Colab and GitHub show MyST directives and roles as they are written."""
    text = prose(path)
    assert not re.findall(r"^(?:```|:::)\{", text, flags=re.M)
    assert not re.findall(r"\{[a-z:-]+\}`", text)


@each_chapter
def test_it_stands_in_the_contents_and_on_the_map(path: Path) -> None:
    name = f"chapters/{path.stem}"
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    listed = [chapter["file"] for part in contents["parts"] for chapter in part["chapters"]]
    assert name in listed
    plan = yaml.safe_load((ROOT / "book" / "map.yml").read_text(encoding="utf-8"))
    (title,) = (c["title"] for part in plan for c in part["chapters"] if c["file"] == name)
    assert prose(path).startswith(f"# {title}\n")
    chapters = [file for file in listed if file.startswith("chapters/")]
    assert chapters == sorted(chapters)
