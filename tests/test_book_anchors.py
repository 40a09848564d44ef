"""Anchors of sections: made from the title, so that they outlive what is inserted before them."""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
import sphinx.locale
from bs4 import BeautifulSoup, Tag
from small_book import build, write_book

from nihao_book import anchors  # isort: skip

INSERTED = "\n## 新的一节\n\n## ？？\n"
PAGE = """# 第一页

[到标签](#why)、[到标题](#同名)、[到另一页](second.md#两页都有)、{ref}`why`、{doc}`second`。

(why)=
## 2　为什么要除以 $\\sqrt{d_k}$？（S0 §4.2）

(label)=
## Label

## 同名

## 同名

### ？！

## `masked_fill(mask == 0, -1e9)` 与 **强调**

| 表 |
|---|
| 格 |
"""
SECOND = """# 第二页

[回去](index.md#同名)、[回标签](#why)、[论文](papers.md#vaswani)、
[除法](index.md#为什么要除以-d_k)、[](chapter.ipynb#章里的一节)

## 两页都有

## 1. ASCII Title
"""


def write_pages(folder: Path, inserted: str) -> None:
    """A book of two pages whose sections refer to each other in every way there is."""
    write_book(folder, ["# 章\n\n## 章里的一节"], {})
    toctree = "\n```{toctree}\nsecond\nchapter\nmask\npapers\n```\n"
    page = PAGE.replace("\n(why)=", f"{inserted}\n(why)=") + toctree
    (folder / "index.md").write_text(page, encoding="utf-8")
    (folder / "second.md").write_text(SECOND, encoding="utf-8")


def read_pages(folder: Path) -> dict[str, BeautifulSoup]:
    site = folder / "_build/html"
    return {
        name: BeautifulSoup((site / f"{name}.html").read_text(encoding="utf-8"), "html.parser")
        for name in ("index", "second", "chapter", "papers")
    }


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, BeautifulSoup]:
    folder = tmp_path_factory.mktemp("anchors") / "book"
    write_pages(folder, "")
    assert build(folder) == ""
    return read_pages(folder)


def section_ids(page: BeautifulSoup) -> list[str]:
    return [str(section["id"]) for section in page.select("section")]


def targets(page: BeautifulSoup) -> set[str]:
    return {str(element["id"]) for element in page.select("[id]")}


def link(page: BeautifulSoup, text: str) -> str:
    (found,) = [a for a in page.select("section a.reference") if a.get_text() == text]
    return unquote(str(found["href"]))


def test_docstring_examples() -> None:
    result = doctest.testmod(anchors)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    ("title", "anchor"),
    [
        ("10　小结", "小结"),
        ("3.2　小结", "小结"),
        ("4、小结", "小结"),
        ("3 种办法", "3-种办法"),
        ("CPU 还是 GPU", "cpu-还是-gpu"),
        ("（整个在括号里）", "整个在括号里"),
        ("掩码（甲）与残差（乙）", "掩码-甲-与残差"),
        ("“引号”、'单引号'、<b>&\"", "引号-单引号-b"),
        ("__init__", "init"),
        ("？！", ""),
    ],
)
def test_anchor_of_a_title(title: str, anchor: str) -> None:
    assert anchors.anchor_of(title) == anchor


def test_sections_are_named_by_their_titles(pages: dict[str, BeautifulSoup]) -> None:
    *named, without_letters, last = section_ids(pages["index"])
    assert named == ["第一页", "why", "label", "同名", "同名-2"]
    assert re.fullmatch(r"id\d+", without_letters)
    assert last == "masked_fill-mask-0-1e9-与-强调"
    # The label that an author has set comes first, and the title is an anchor besides.
    assert "为什么要除以-d_k" in targets(pages["index"])
    assert section_ids(pages["second"]) == ["第二页", "两页都有", "ascii-title"]
    assert section_ids(pages["chapter"]) == ["章", "章里的一节"]


def test_ids_are_unique_and_without_blanks(pages: dict[str, BeautifulSoup]) -> None:
    for page in pages.values():
        ids = [str(element["id"]) for element in page.select("[id]")]
        assert len(ids) == len(set(ids))
        assert not [name for name in ids if re.search(r"\s", name)]


def test_every_link_to_a_section_arrives(pages: dict[str, BeautifulSoup]) -> None:
    assert link(pages["index"], "到标签") == "#why"
    assert link(pages["index"], "到标题") == "#同名"
    assert link(pages["index"], "到另一页") == "second.html#两页都有"
    assert link(pages["second"], "回去") == "index.html#同名"
    assert link(pages["second"], "回标签") == "index.html#why"
    assert link(pages["second"], "论文") == "papers.html#vaswani"
    assert link(pages["second"], "除法") == "index.html#为什么要除以-d_k"
    assert link(pages["second"], "章里的一节") == "chapter.html#章里的一节"
    checked = 0
    for name, page in pages.items():
        for a in page.select("a[href*='#']"):
            file, _, fragment = unquote(str(a["href"])).partition("#")
            other = pages.get(file.removesuffix(".html") or name)
            if other is not None and fragment:
                assert fragment in targets(other), a
                checked += 1
    assert checked > 20


def test_contents_and_permalinks_follow(pages: dict[str, BeautifulSoup]) -> None:
    contents = [unquote(str(a["href"])) for a in pages["second"].select(".sphinxsidebar ul a")]
    assert {"#两页都有", "#ascii-title"} <= set(contents)
    for section in pages["index"].select("section"):
        permalink = section.find(["h1", "h2", "h3"]).find("a", class_="headerlink")  # type: ignore[union-attr]
        assert isinstance(permalink, Tag)
        assert unquote(str(permalink["href"])) == f"#{section['id']}"
        assert permalink["title"] == "本节的链接"


def test_anchors_stay_when_a_section_is_inserted(
    pages: dict[str, BeautifulSoup], tmp_path: Path
) -> None:
    write_pages(tmp_path / "book", INSERTED)
    build(tmp_path / "book")
    before = [name for name in section_ids(pages["index"]) if not re.fullmatch(r"id\d+", name)]
    after = section_ids(read_pages(tmp_path / "book")["index"])
    assert [name for name in after if name in before] == before
    assert "新的一节" in after


def test_works_are_named_by_their_keys(pages: dict[str, BeautifulSoup]) -> None:
    assert "vaswani" in targets(pages["papers"])


def test_sphinx_writes_no_english_titles(pages: dict[str, BeautifulSoup]) -> None:
    for page in pages.values():
        for element in page.select(".headerlink"):
            assert re.search("[\u4e00-\u9fff]", str(element["title"])), element


def test_words_are_those_that_sphinx_lacks() -> None:
    """Each word is asked for by Sphinx and unknown to its own Chinese catalogue."""
    package = Path(sphinx.__file__).parent
    source = "".join(file.read_text(encoding="utf-8") for file in package.rglob("*.py"))
    own, _ = sphinx.locale.init([str(package / "locale")], "zh_CN", "sphinx", "check")
    asked = set(re.findall(r"_\(['\"](Link to this [^'\"]*)['\"]\)", source))
    assert asked == anchors.WORDS.keys()
    assert [word for word in anchors.WORDS if own.gettext(word) != word] == []
