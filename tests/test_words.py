"""One term per concept: the glossary's, in the whole book, with its English beside it once."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest
import yaml
from stored_chapters import NOTEBOOKS, ROOT

from tools import prose
from tools.prose import Passage

WORDS = yaml.safe_load((ROOT / "book" / "words.yml").read_text(encoding="utf-8"))
GLOSSARY = (ROOT / "book" / "notation.md").read_text(encoding="utf-8").partition("\n## 术语\n")[2]
ROW = re.compile(r"^\| (.+?) \| (.+?) \| .+? \|$", flags=re.M)
FILES = prose.files()
NAMES = [path.relative_to(ROOT).as_posix() for path in FILES]


def entries() -> dict[str, str]:
    """Each entry of the glossary and its English."""
    rows = ROW.findall(GLOSSARY)
    return {term: english for term, english in rows if term != "中文" and "---" not in term}


def names(entry: str) -> list[str]:
    """The terms of an entry: 「前归一化、后归一化」 are two, 「对齐（翻译）」 is 对齐."""
    return re.sub(r"（.*?）", "", entry).replace("$n$", prose.CODE).split("、")


TERMS = [*WORDS["not"], *(name for entry in entries() for name in names(entry))]


def other_words(passage: Passage) -> list[str]:
    """The words of a passage for which the book has another one."""
    text = re.sub(r"\[(?:CLS|MASK|SEP|UNK)\]", "", passage.text)  # tokens, as BERT writes them
    for piece in WORDS["quoted"]:
        text = text.replace(piece, "")
    found = []
    for term, variants in WORDS["not"].items():
        for variant in variants:
            rest = text
            for longer in TERMS:
                if variant in longer:
                    rest = rest.replace(longer, "")
            if variant.isascii():
                # In a program it is the name of an argument; on a page in brackets, the English.
                rest = re.sub(r"（[^（）]*）", "", rest) if passage.page else ""
                there = re.search(rf"(?<![\w.-]){re.escape(variant)}(?![\w-])", rest, re.A | re.I)
            else:
                there = re.search(re.escape(variant), rest)
            if there:
                found.append(f"{variant} → {term}：{passage.text[:60]}")
    return found


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_one_term_per_concept(path: Path) -> None:
    found = [f"{p.where}  {said}" for p in prose.passages(path) for said in other_words(p)]
    assert found == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("切成令牌", ["令牌"]),
        ("一个 token 一行", ["token"]),
        ("一个词元（token）一行", []),
        ("对 Logits 求导", ["logits"]),
        ("对数几率", []),
        ("条件几率", ["几率"]),
        ("写下提示", []),
        ("写下提示词", ["提示词"]),
        ("tokens_per_batch 与 subtoken", []),
        ("「注意力分数矩阵」（S4 §3.1）", []),
        ("注意力分数", ["注意力分数"]),
    ],
)
def test_another_word_is_found(text: str, wrong: list[str]) -> None:
    assert [said.split(" → ")[0] for said in other_words(Passage("", text, page=True))] == wrong


def test_english_in_a_program_is_a_name() -> None:
    assert other_words(Passage("", "padding 与掩码")) == []
    assert other_words(Passage("", "遮罩"))


def test_the_list_of_words_is_sound() -> None:
    """No term is forbidden elsewhere, no word stands twice, and nothing is left over."""
    variants = [variant for several in WORDS["not"].values() for variant in several]
    assert len(variants) == len(set(variants))
    assert set(variants) & set(TERMS) == set()
    text = "\n".join(p.text for path in FILES for p in prose.passages(path))
    assert [piece for piece in WORDS["quoted"] if piece not in text] == []
    later = [entry for several in WORDS["later"].values() for entry in several]
    assert set(later) <= entries().keys()
    plan = (ROOT / "book" / "map.yml").read_text(encoding="utf-8")
    assert [chapter for chapter in WORDS["later"] if f"file: {chapter}\n" not in plan] == []


@functools.cache
def book() -> str:
    """The text of all chapters that are written."""
    return "\n".join(p.text for path in NOTEBOOKS for p in prose.passages(path) if p.page)


def not_yet() -> set[str]:
    """The entries whose chapter is not there."""
    chapters = WORDS["later"].items()
    return {
        e for name, several in chapters if not (ROOT / f"{name}.ipynb").exists() for e in several
    }


@pytest.mark.parametrize("entry", entries())
def test_a_term_of_the_glossary_is_used_in_the_book(entry: str) -> None:
    if entry in not_yet():
        pytest.skip("its chapter is still to be written")
    assert [name for name in names(entry) if name not in book()] == []


@pytest.mark.parametrize("entry", entries())
def test_its_english_stands_once_in_brackets(entry: str) -> None:
    """「词元（token）」, or one of several: byte-pair encoding, BPE."""
    english = entries()[entry]
    if entry in not_yet() or names(entry) == [english]:
        pytest.skip("its chapter is still to be written, or it has no other name")
    words = [word.strip().removesuffix(" gradients") for word in english.split(",")]
    assert any(re.search(rf"（[^（）]*{re.escape(word)}", book(), re.I) for word in words)
