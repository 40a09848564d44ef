"""Search over a small book: what stands in it is found, the best first, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sphinx
from small_book import GOOD_CELLS, GOOD_MODELS, STATIC, build, run_in_node, write_book

from nihao_book import search  # isort: skip

TOP = "chapter.html"
WHY = "chapter.html#为什么要除以-d_k"
MASKS = "mask.html"
CAUSAL = "mask.html#因果掩码"
PADDING = "mask.html#填充掩码"
PAPERS = "papers.html"
# Query → the places to find, the best first.
PRESENT = {
    "缩放点积注意力": [TOP],
    "点积": [TOP],
    "这一段有换行": [TOP],
    "强调后面": [TOP],
    "注意力": [TOP, WHY],
    "softmax": [TOP, WHY],
    "SOFTMAX": [TOP, WHY],
    "√d_k": [WHY, TOP],
    "√dₖ": [WHY, TOP],
    "d_k": [WHY, TOP],
    "QKᵀ": [TOP],
    "Q": [TOP],
    "Ｌayer norm": [WHY],
    "LayerNorm": [WHY],
    "Norm": [WHY],  # inside words
    "self attention": [WHY],
    "自注意力": [WHY],
    "你好世界": [WHY],
    "softmax越尖": [WHY],
    "为什么要除以？": [WHY],
    "损失先快后慢": [WHY],
    "d_model": [CAUSAL],
    "掩码": [MASKS, CAUSAL, PADDING],
    "因果掩码": [CAUSAL],
    "掩码 未来": [CAUSAL],
    "未来softmax": [],
    "分成八份": [CAUSAL],
    "P(x_t": [CAUSAL],
    "句子长短不一": [PADDING],
    "attention is all you need": [PAPERS],
    "Vaswani": [PAPERS],
    "八份 句子": [PADDING, CAUSAL],
}
ABSENT = [
    "",
    "  ",
    "？",
    "强化学习",
    "注意掩码",
    "码未来",
    "d_k 强化学习",
    "x_t|y",
    "<b>",
    "[",
    "el",
]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The index of the small book."""
    folder = tmp_path_factory.mktemp("search") / "book"
    write_book(folder, GOOD_CELLS, GOOD_MODELS)
    build(folder)
    for name in search.STOCK_FILES:
        assert not (folder / "_build/html/_static" / name).exists()
    return (folder / "_build/html/searchindex.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def found(index: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[Any]]]:
    """For each query its results as [place, marked words]."""
    engine = (STATIC / "search.js").read_text(encoding="utf-8")
    queries = json.dumps([*PRESENT, *ABSENT])
    script = f"""{engine}\n{index}
    const results = {queries}.map((query) => [query, bookSearch.search(query).map(
      ({{ section, terms }}) => [
        section.url + (section.anchor && "#") + section.anchor,
        [section.heading, section.body].flatMap((part) => bookSearch.snippet(part, terms))
          .filter((piece) => piece.hit).map((piece) => piece.text),
      ])]);
    process.stdout.write(JSON.stringify(results));"""
    return dict(run_in_node(tmp_path_factory.mktemp("node"), script))


@pytest.mark.parametrize("query", PRESENT)
def test_what_stands_in_the_text_is_found(found, query: str) -> None:
    assert [place for place, _ in found[query]] == PRESENT[query]
    assert all(marked for _, marked in found[query])


@pytest.mark.parametrize("query", ABSENT)
def test_nothing_else_is_found(found, query: str) -> None:
    assert found[query] == []


def test_the_hit_is_marked_as_it_is_written(found) -> None:
    assert found["你好世界"] == [[WHY, ["你 好 世 界"]]]
    assert found["self attention"] == [[WHY, ["Self-attention"]]]
    assert found["掩码 未来"] == [[CAUSAL, ["掩码", "掩码", "未来"]]]


def test_sections_are_read_as_the_reader_sees_them(index: str) -> None:
    pages = json.loads(index.removeprefix("bookSearch.load(").removesuffix(");\n"))
    by_url = {page["url"]: page["sections"] for page in pages}
    assert by_url["mask.html"] == [
        ["", "掩码", ""],
        ["因果掩码", "因果掩码", "掩码挡住未来，即 P(x_t | x_<t)。把 d_model 分成八份。"],
        ["填充掩码", "填充掩码", "一批句子长短不一。 句 子"],
    ]
    shown = by_url["chapter.html"][1][2]
    assert shown.endswith("show() 损失先快后慢 show() d_k 越大，softmax 越尖")


def test_sphinx_still_names_its_search_files_so() -> None:
    static = Path(sphinx.__file__).parent / "themes/basic/static"
    for name in search.STOCK_FILES:
        assert list(static.glob(f"{name}*")), f"Sphinx has no {name} any more"
