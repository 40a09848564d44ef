"""The typography of the book's Chinese, and the tool that checks it."""

from __future__ import annotations

import doctest
from pathlib import Path

import nbformat
import pytest
from stored_chapters import NOTEBOOKS, ROOT

from tools import prose
from tools.prose import CODE, FILLED, Passage

FILES = prose.files()
NAMES = [path.relative_to(ROOT).as_posix() for path in FILES]


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_typography(path: Path) -> None:
    assert prose.check(path) == []


def test_every_page_is_read() -> None:
    """Chapters that are new are found by themselves; every one of them has much to read."""
    assert set(NOTEBOOKS) <= set(FILES)
    assert {"README.md", "book/index.md", "book/usage.md", "book/map.yml"} <= set(NAMES)
    assert all(len(prose.passages(path)) > 100 for path in NOTEBOOKS)
    assert len(prose.passages(ROOT / "README.md")) > 5
    assert any(name.endswith(".js") and prose.passages(ROOT / name) for name in NAMES)


def test_what_stands_as_it_is_does_stand_somewhere() -> None:
    text = "\n".join(p.text for path in FILES for p in prose.passages(path))
    assert [piece for piece in prose.as_it_is() if piece not in text] == []


def test_docstring_examples() -> None:
    result = doctest.testmod(prose)
    assert result.attempted > 0
    assert result.failed == 0


WRONG = [
    "训练GPT 要数据。",
    "用 3个头。",
    "第3 章",
    "你好,世界",
    "你好;世界",
    "真的吗?",
    "见下:",
    "到这里为止.",
    "甲、 乙",
    "甲 ，乙",
    "「好」 吗",
    "你好(世界)",
    "(你好)",
    "他说“好”。",
    "他说‘好’。",
    "好…吧",
    "好...吧",
    "好，，吧",
    "好。，吧",
    "真的吗？？",
    "你好 世界",
    "二-三元",
    "好——吧",
    "三～五",
    "１２ 个",
]
WRONG_ON_A_PAGE = [
    '他说"好"。',
    "有  3 个",
    "读了 3 000 首",
    "约 11000 个",
    "这是**粗。**的",
    "小节\u3000题目",
    "「好",
    "（好",
]
RIGHT = [
    "训练 GPT，要 3 个头：第 3 章。",
    "「好」吗？（好）",
    "甲、乙；丙……",
    "编码器—解码器，Kneser–Ney 平滑",
    "P(界 | 你好世) = 1",
    "η = 0.021：60 步以后",
    "90% 的 4096 个，共 12 476 416 个，形状 (3, 5, 10000)",
    "小测 2\u3000为什么？",
    "练习 3 ✎（手算）\u3000算一算。",
    "图 3.1\u3000看左边。",
]


@pytest.mark.parametrize("text", WRONG)
def test_a_mistake_is_found_everywhere(text: str) -> None:
    assert prose.complaints(Passage("", text))
    assert prose.complaints(Passage("", text, page=True))


@pytest.mark.parametrize("text", WRONG_ON_A_PAGE)
def test_a_mistake_is_found_on_a_page(text: str) -> None:
    (passage,) = prose.of_markdown(text, "")
    assert prose.complaints(passage)


@pytest.mark.parametrize("text", RIGHT)
def test_what_is_right_is_left_alone(text: str) -> None:
    assert prose.complaints(Passage("", text, page=True)) == []


def test_what_stands_as_it_is_is_left_alone() -> None:
    passage = Passage("", "写成「你 好」。")
    assert prose.complaints(passage)
    assert prose.complaints(passage, kept=("你 好",)) == []


def texts(passages: object) -> list[str]:
    return [p.text for p in passages]  # type: ignore[attr-defined]


def test_markdown_loses_its_markup() -> None:
    source = (
        "---\ndescription: 说明\n---\n\n# 题\n\n用 `a,b` 算 $x,y$ 的**和**[甲](乙.md)。\n第二行\n\n"
        "| 甲 | 乙 |\n|---|---|\n| 一 | 二 |\n\n```python\n'代码'\n```\n\n$$\n\\text{式}\n$$\n\n"
        "<summary>问 &lt;pad&gt; 吗 <code>a</code></summary>\n\n:::{note}\n框\n:::\n\n"
        "按 <kbd>Tab,</kbd> 键"
    )
    passages = list(prose.of_markdown(source, "x.md"))
    lines = [text.strip() for text in texts(passages) if text.strip()]
    assert lines == [
        *("说明", "题", "用 x 算 x 的和甲。", "第二行", "甲", "乙", "一", "二"),
        *("问 x 吗 x", "框", "按 x 键"),
    ]  # fmt: skip
    assert all(p.page for p in passages)
    assert [p.where for p in passages if p.text == "第二行"] == ["x.md:8"]


def test_strings_of_programs() -> None:
    python = 'def f(n):\n    """说明"""\n    # 注\n    return f"共{n}个" + "`a,b` 好\\n下"\n'
    assert sorted(texts(prose.of_python(python, ""))) == sorted(
        [f"共{FILLED}个", f"{CODE} 好", "下"]
    )
    assert texts(prose.of_comments("%pip install a\n" + python, "")) == [" 注"]
    javascript = '// 注\nf("甲", `共${n({ a: 1 })}个<b>乙</b>`, "it\'s");\n'
    assert texts(prose.of_javascript(javascript, "")) == [
        "甲", f"共{FILLED}个{FILLED}乙{FILLED}", "it's",
    ]  # fmt: skip
    yaml = "# 注\n- title: 题\n  x:\n    - 项\n"
    assert [t for t in texts(prose.of_yaml(yaml, "")) if t.strip()] == ["题", "  x:", "    - 项"]


def test_a_notebook_gives_text_comments_and_alt_texts(tmp_path: Path) -> None:
    code = nbformat.v4.new_code_cell('x = "代码"  # 注')
    code.outputs = [
        nbformat.v4.new_output(
            "display_data", data={"image/png": ""}, metadata={"image/png": {"alt": "图里"}}
        )
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("正文"), code])
    (tmp_path / "chapters").mkdir()
    path = tmp_path / "chapters" / "01.ipynb"
    nbformat.write(notebook, path)
    found = prose.passages(path, root=tmp_path)
    assert [(p.text, p.page) for p in found] == [("正文", True), (" 注", False), ("图里", False)]


def test_the_readme_is_read_from_its_chinese_title(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("# Title, 书\n\nEnglish\n\n# 书\n\n中文\n", encoding="utf-8")
    found = prose.passages(path, root=tmp_path)
    assert [(p.where, p.text) for p in found] == [("README.md:5", "书"), ("README.md:7", "中文")]


def test_a_file_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match=r"pyproject\.toml is none of"):
        prose.passages(ROOT / "pyproject.toml")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prose.main([str(ROOT / "book" / "index.md")]) == 0
    assert capsys.readouterr().out == ""
