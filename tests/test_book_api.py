"""The API pages: every public module stands on one, docstrings become entries, names links."""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from bs4 import BeautifulSoup, Tag
from docutils import nodes
from small_book import CONF, REPOSITORY, build, write_notebook
from sphinx import addnodes
from sphinx.domains.python import ObjectEntry

import lmlib.attention

from nihao_book import apidoc, apilinks, public_api, search  # isort: skip

PAGES = apidoc.read_pages(REPOSITORY / "book/api.yml")
LISTED = [module for page in PAGES for module in page["modules"]]
ADDRESS = yaml.safe_load((REPOSITORY / "_config.yml").read_text("utf-8"))["repository"]["url"]

SMALL_PAGES = """
- file: layers
  title: 零件
  modules:
    lmlib.attention: 注意力
- file: figures
  title: 图
  modules:
    lmlib.viz: 静态图
"""
TEXT = """# 一章

## 甲

先看 `MultiHeadAttention`，再看 `MultiHeadAttention`；`causal_mask(4)` 与
`lmlib.attention.KVCache`。变量 `show`、`query`、`nn.MultiheadAttention`、`causal_maskX` 不是；
`show(...)` 是，`KVCache.crop` 也是。
[链接里的 `padding_mask`](layers.md) 不动。

## 乙里的 `KVCache`

`MultiHeadAttention` 又出现，`lmlib.attention` 是模块。

```python
from lmlib.attention import KVCache, causal_mask as mask  # KVCache
from lmlib.attention import (
    MultiHeadAttention,
    padding_mask,
)
from lmlib import viz
from torch.nn import MultiHeadAttention
```
"""


def write_api_book(folder: Path) -> None:
    conf = CONF.format(static=str(REPOSITORY / "book/_static"))
    conf = conf.replace("figures, math,", "address, apidoc, apilinks, math,")
    conf = conf.replace("(anchors, math, text, figures, search)",
                        "(address, anchors, math, text, apidoc, apilinks, search)")  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / "conf.py").write_text(conf + "nitpicky = True\n", encoding="utf-8")
    (folder / "_config.yml").write_text(f"repository: {{url: '{ADDRESS}'}}\n", encoding="utf-8")
    (folder / "references.bib").write_text("", encoding="utf-8")
    pages = "layers\nfigures\nchapter\ncells\n"
    text = f"# 书\n\n```{{toctree}}\n{pages}```\n\n```{{api-overview}} api.yml\n```\n"
    (folder / "index.md").write_text(text, encoding="utf-8")
    (folder / "api.yml").write_text(SMALL_PAGES, encoding="utf-8")
    for name in ("layers", "figures"):
        text = f"# 页 {name}\n\n导读。\n\n```{{api-modules}} api.yml\n```\n"
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
    (folder / "chapter.md").write_text(TEXT, encoding="utf-8")
    write_notebook(folder / "cells.ipynb", ["# 笔记本\n\n看 `padding_mask`。", []], {})


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The HTML of a small book with two API pages, which builds without a warning."""
    folder = tmp_path_factory.mktemp("api") / "book"
    write_api_book(folder)
    assert build(folder) == ""
    return folder / "_build/html"


def page(book: Path, name: str) -> BeautifulSoup:
    return BeautifulSoup((book / f"{name}.html").read_text(encoding="utf-8"), "html.parser")


def by_id(soup: BeautifulSoup, name: str) -> Tag:
    found = soup.find(id=name)
    assert isinstance(found, Tag), name
    return found


@pytest.mark.parametrize("module", [public_api, apidoc, apilinks])
def test_docstring_examples(module: Any) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


# ------------------------------------------------------------------ what is public


def test_every_public_module_stands_on_one_page() -> None:
    missing = sorted(set(public_api.public_modules()) - set(LISTED))
    assert missing == [], "add a line to book/api.yml"
    assert len(LISTED) == len(set(LISTED))
    assert sorted(set(LISTED) - set(public_api.public_modules())) == []


def test_the_pages_are_in_the_table_of_contents_and_have_a_chinese_text() -> None:
    contents = yaml.safe_load((REPOSITORY / "_toc.yml").read_text(encoding="utf-8"))
    files = [entry for part in contents["parts"] for entry in part["chapters"]]
    (api,) = [entry for entry in files if entry["file"] == "book/api"]
    assert [entry["file"] for entry in api["sections"]] == [entry["file"] for entry in PAGES]
    for entry in PAGES:
        text = (REPOSITORY / f"{entry['file']}.md").read_text(encoding="utf-8")
        assert text.startswith(f"# API：{entry['title']}\n")
        assert re.search(r"[\u4e00-\u9fff]{8}", text.split("\n", 1)[1])


def test_public_modules_leave_out_what_is_private_and_what_a_package_speaks_for() -> None:
    found = public_api.public_modules()
    assert found[0] == "lmlib"
    assert {"lmlib.attention", "lmlib.viz", "lmlib.recipes", "lmlib.recipes.vocab"} <= set(found)
    assert not [name for name in found if "._" in name]
    assert "lmlib.viz.charts" not in found


def test_public_names_of_a_module() -> None:
    names = public_api.public_names(lmlib.attention)
    assert sorted(names) == sorted(lmlib.attention.__all__)
    # What it defines, in the order of its source, then what it passes on.
    homes = [getattr(lmlib.attention, name).__module__ for name in names]
    own = homes.count("lmlib.attention")
    assert own > 0
    assert set(homes[:own]) == {"lmlib.attention"}
    assets = public_api.public_names(public_api.find("lmlib.assets"))
    assert "Path" not in assets
    assert {"path", "font_path", "vocab_path"} <= set(assets)
    assert "__version__" not in public_api.public_names(lmlib)


def test_the_string_below_a_constant_is_its_docstring(tmp_path, monkeypatch) -> None:
    (tmp_path / "shelf_a").mkdir()
    (tmp_path / "shelf_a/__init__.py").write_text("from .inner import A, B, C\nD = 4\n")
    inner = 'A = 1\n"""One,\n    two."""\nB: int = 2\n"""Two."""\nC = 3\nprint\n"""Not C."""\n'
    (tmp_path / "shelf_a/inner.py").write_text(inner)
    monkeypatch.syspath_prepend(tmp_path)
    docs = [public_api.constant_doc("shelf_a", name) for name in "ABCDE"]
    assert docs == ["One,\ntwo.", "Two.", "", "", ""]


# ------------------------------------------------------------------ entries


def test_every_public_name_has_an_entry_with_its_source(book: Path) -> None:
    soup = page(book, "layers")
    for name in lmlib.attention.__all__:
        signature = by_id(soup, f"lmlib.attention.{name}")
        link = signature.select_one("a.source-link")
        assert link is not None
        assert link["href"].startswith(f"{ADDRESS}/blob/main/lmlib/")  # type: ignore[union-attr]
        file, first, last = re.findall(r"lmlib/(\w+\.py)#L(\d+)-L(\d+)$", str(link["href"]))[0]
        lines = (REPOSITORY / "lmlib" / file).read_text(encoding="utf-8").splitlines()
        assert re.match(rf"(def|class) {name}\b", lines[int(first) - 1])
        assert int(first) < int(last) <= len(lines)
    assert by_id(soup, "lmlib.attention.KVCache.crop")
    assert by_id(soup, "module-lmlib.attention")


def test_an_entry_is_readable(book: Path) -> None:
    soup = page(book, "layers")
    signature = by_id(soup, "lmlib.attention.causal_mask")
    lines = [line.get_text() for line in signature.select(".sig-line")]
    assert lines[:2] == ["n_q: int,", "n_k: int | None = None,"]
    assert not signature.select("dl, .pre")
    body = signature.find_next_sibling("dd")
    assert isinstance(body, Tag)
    assert body["lang"] == "en"
    fields = {dt.get_text().rstrip(":："): dt for dt in body.select(".field-list > dt")}
    assert list(fields) == ["参数", "返回", "报错"]
    assert all(dt["lang"] == "zh-CN" for dt in fields.values())
    assert "n_q – number of queries." in body.get_text()
    assert "--" not in body.get_text()
    assert body.select_one(".doctest")


def test_a_chinese_default_is_shown_as_it_is_written(book: Path) -> None:
    signature = by_id(page(book, "figures"), "lmlib.viz.plot_attention")
    lines = [line.get_text() for line in signature.select(".sig-line")]
    assert "query_label: str = '查询'," in lines


def test_foreign_types_are_plain_text_and_foreign_members_left_out(book: Path) -> None:
    assert not page(book, "layers").find("a", string="Tensor")
    figures = page(book, "figures")
    assert by_id(figures, "lmlib.viz.BookFigure")
    assert figures.find(id="lmlib.viz.BookFigure.set") is None
    assert "Alias for field number" not in figures.get_text() + page(book, "layers").get_text()


def test_what_a_module_in_a_package_says_stands_before_its_names(book: Path) -> None:
    text = page(book, "figures").get_text()
    charts = (public_api.find("lmlib.viz.charts").__doc__ or "").splitlines()[0]
    assert 0 < text.index(charts) < text.index("plot_curves(")


def test_single_backticks_are_links_or_code_and_a_dead_name_a_warning(
    tmp_path: Path, monkeypatch
) -> None:
    write_api_book(tmp_path / "book")
    doc = (
        "See `padding_mask`, `show`, `lmlib.viz.show`, `KVCache.crop`, `d_model`: `lmlib.viz.gone`."
    )
    monkeypatch.setattr(lmlib.attention.causal_mask, "__doc__", doc)
    warnings = build(tmp_path / "book")
    assert warnings.count("\n") == 1
    assert "lmlib.viz.gone" in warnings
    soup = page(tmp_path / "book/_build/html", "layers")
    body = by_id(soup, "lmlib.attention.causal_mask").find_next_sibling("dd")
    assert isinstance(body, Tag)
    assert [code.get_text() for code in body.select("p code")] == re.findall("`(.*?)`", doc)
    assert [(a.get_text(), a["href"]) for a in body.select("p a")] == [
        ("padding_mask", "#lmlib.attention.padding_mask"),
        ("lmlib.viz.show", "figures.html#lmlib.viz.show"),
        ("KVCache.crop", "#lmlib.attention.KVCache.crop"),
    ]


def test_a_module_may_move_to_another_page(tmp_path: Path) -> None:
    folder = tmp_path / "book"
    write_api_book(folder)
    assert build(folder) == ""
    moved = SMALL_PAGES.replace("lmlib.attention: 注意力", "lmlib.assets: 文件")
    moved = moved.replace("lmlib.viz: 静态图", "lmlib.attention: 注意力")
    (folder / "api.yml").write_text(moved, encoding="utf-8")
    assert "duplicate" not in build(folder, fresh=False)


def test_the_overview_links_every_name(book: Path) -> None:
    links = {a["href"] for a in page(book, "index").select(".api-overview a")}
    assert {"layers.html", "layers.html#module-lmlib.attention"} <= links
    assert {f"layers.html#lmlib.attention.{name}" for name in lmlib.attention.__all__} <= links


def test_only_api_pages_get_their_style(book: Path) -> None:
    assert "api.css" in (book / "layers.html").read_text(encoding="utf-8")
    assert "api.css" not in (book / "chapter.html").read_text(encoding="utf-8")


# ------------------------------------------------------------------ links from the text


def links_in(soup: BeautifulSoup, section: str) -> list[tuple[str, str]]:
    part = by_id(soup, section)
    found = part.select("p a.reference.internal:has(> code)")
    return [(a.get_text(), str(a["href"]).partition("#")[2]) for a in found]


def test_the_first_mention_of_a_name_in_a_section_is_a_link(book: Path) -> None:
    soup = page(book, "chapter")
    assert links_in(soup, "甲") == [
        ("MultiHeadAttention", "lmlib.attention.MultiHeadAttention"),
        ("causal_mask(4)", "lmlib.attention.causal_mask"),
        ("lmlib.attention.KVCache", "lmlib.attention.KVCache"),
        ("show(...)", "lmlib.viz.show"),
        ("KVCache.crop", "lmlib.attention.KVCache.crop"),
    ]
    assert links_in(soup, "乙里的-kvcache") == [
        ("MultiHeadAttention", "lmlib.attention.MultiHeadAttention"),
        ("lmlib.attention", "module-lmlib.attention"),
    ]
    assert not soup.select("h2 a code")
    assert not soup.select("a a")
    assert links_in(page(book, "cells"), "笔记本") == [
        ("padding_mask", "lmlib.attention.padding_mask")
    ]


def test_imports_in_code_are_links_and_the_code_stays_what_it_is(book: Path) -> None:
    code = page(book, "chapter").select_one(".highlight pre")
    assert code is not None
    assert code.get_text().strip() == TEXT.split("```python\n")[1].split("\n```")[0]
    links = [(a.get_text(), str(a["href"])) for a in code.select("a")]
    module = ("lmlib.attention", "layers.html#module-lmlib.attention")
    assert links == [
        module,
        ("KVCache", "layers.html#lmlib.attention.KVCache"),
        ("causal_mask", "layers.html#lmlib.attention.causal_mask"),
        module,
        ("MultiHeadAttention", "layers.html#lmlib.attention.MultiHeadAttention"),
        ("padding_mask", "layers.html#lmlib.attention.padding_mask"),
        ("viz", "figures.html#module-lmlib.viz"),
    ]


def test_an_ambiguous_name_means_nothing() -> None:
    def entry(kind: str, aliased: bool = False) -> ObjectEntry:
        return ObjectEntry("page", "id", kind, aliased)

    names = apilinks.short_names(
        {
            "lmlib.a": entry("module"),
            "lmlib.a.Tool": entry("class"),
            "lmlib._a.Tool": entry("class", aliased=True),
            "lmlib.a.Tool.use": entry("method"),
            "lmlib.a.twice_here": entry("function"),
            "lmlib.b.twice_here": entry("function"),
        }
    )
    assert names == {
        "lmlib.a": "lmlib.a",
        "lmlib.a.Tool": "lmlib.a.Tool",
        "Tool": "lmlib.a.Tool",
        "lmlib.a.Tool.use": "lmlib.a.Tool.use",
        "Tool.use": "lmlib.a.Tool.use",
        "lmlib.a.twice_here": "lmlib.a.twice_here",
        "lmlib.b.twice_here": "lmlib.b.twice_here",
    }


# ------------------------------------------------------------------ search


def test_each_entry_is_found_by_itself(book: Path) -> None:
    index = (book / "searchindex.js").read_text(encoding="utf-8")
    pages = yaml.safe_load(index.removeprefix("bookSearch.load(").rstrip().removesuffix(");"))
    (layers,) = [entry for entry in pages if entry["url"] == "layers.html"]
    places = {anchor: (heading, text) for anchor, heading, text in layers["sections"]}
    heading, text = places["lmlib.attention.scaled_dot_product_attention"]
    assert heading == "lmlib.attention.scaled_dot_product_attention"
    assert "Vaswani et al. 2017" in text
    assert "num_heads is a multiple of num_kv_heads" in text  # in the list of its parameters
    assert "lmlib.attention.KVCache.crop" in places
    assert "num_kv_heads" not in places["注意力-lmlib-attention"][1]


def test_fields_above_a_page_are_no_text() -> None:
    fields = nodes.field_list("", nodes.field("", nodes.field_name("", "a"), nodes.field_body()))
    assert search.words(fields) == ""
    content = addnodes.desc_content("", fields.deepcopy())
    assert search.words(content) == "a"


def test_a_name_in_a_docstring_is_text_and_an_unresolved_title_is_not() -> None:
    code = nodes.literal("", "causal_mask")
    assert search.words(addnodes.pending_xref("", code, refdomain="py")) == "causal_mask"
    assert search.words(addnodes.pending_xref("", code.deepcopy(), refdomain="std")) == ""
