"""The API pages in a real browser: reached from a chapter and by search, readable on a phone."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from bs4 import BeautifulSoup
from conftest import HTML, ROOT, dead_links

sys.path.insert(0, str(ROOT / "book/_ext"))

from nihao_book import apidoc, public_api

PAGES = apidoc.read_pages(ROOT / "book/api.yml")
FILES = {module: f"{page['file']}.html" for page in PAGES for module in page["modules"]}
NAMES = ["scaled_dot_product_attention", "MultiHeadAttention", "TransformerConfig", "KVCache.crop"]
LARGEST = 300_000  # bytes of a page, uncompressed

IN_VIEW = """(id) => {
  const box = document.getElementById(id).getBoundingClientRect();
  const header = document.querySelector('.site-header').getBoundingClientRect().bottom;
  return box.top >= header && box.top < innerHeight;
}"""


@pytest.mark.parametrize("module", FILES)
def test_every_public_name_is_on_the_page(module: str) -> None:
    soup = BeautifulSoup((HTML / FILES[module]).read_text(encoding="utf-8"), "html.parser")
    there = {tag["id"] for tag in soup.select("main [id]")}
    names = public_api.public_names(public_api.find(module))
    assert [name for name in names if f"{module}.{name}" not in there] == []
    assert f"module-{module}" in there


@pytest.mark.parametrize("path", ["book/api.html", *sorted(set(FILES.values()))])
def test_a_page_is_small_and_its_links_lead_somewhere(path: str) -> None:
    text = (HTML / path).read_text(encoding="utf-8")
    assert len(text.encode()) < LARGEST
    assert dead_links(path) == []


@pytest.mark.parametrize("path", sorted(set(FILES.values())))
def test_nothing_of_a_docstring_is_shown_raw(path: str) -> None:
    """No mark of code that was not understood, and no signature that Sphinx could not read."""
    soup = BeautifulSoup((HTML / path).read_text(encoding="utf-8"), "html.parser")
    for code in soup.select("main :is(pre, code)"):
        code.extract()
    raw = [p.get_text() for p in soup.select("main :is(p, li)") if re.search(r"`|\*\*", p.text)]
    assert raw == []
    signatures = [sig.get_text() for sig in soup.select("main .sig")]
    assert [sig for sig in signatures if re.search(r"~\w|,,", sig)] == []


@pytest.mark.parametrize("name", NAMES)
def test_search_leads_to_the_entry(name: str, open_page: Callable[..., Any], site: str) -> None:
    page, watch = open_page(f"search.html?q={quote(name)}")
    link = page.locator("#search-results li > a", has_text=name).first
    target = (link.get_attribute("href") or "").partition("#")[2]
    assert re.fullmatch(rf"lmlib\.\w+\.{re.escape(name)}", target)
    link.click()
    page.wait_for_url("**/book/api_*")
    page.wait_for_function(IN_VIEW, arg=target)
    watch.assert_clean()


def test_a_chapter_leads_to_the_entry(open_page: Callable[..., Any]) -> None:
    page, watch = open_page("chapters/05_encoder_decoder.html", width=360, height=740)
    page.locator(".cell_input a", has_text="LearnedPositionalEmbedding").first.click()
    page.wait_for_url("**/book/api_*")
    page.wait_for_function(IN_VIEW, arg="lmlib.positions.LearnedPositionalEmbedding")
    watch.assert_clean()


def test_copied_code_is_the_code_of_the_notebook(open_page: Callable[..., Any]) -> None:
    page, _ = open_page("chapters/05_encoder_decoder.html")
    cell = page.locator(".cell_input pre:has(a)").first
    assert re.search(r"^from lmlib\.\w+ import \w+", cell.text_content(), re.MULTILINE)


def test_docstrings_are_marked_as_english(open_page: Callable[..., Any]) -> None:
    page, _ = open_page(FILES["lmlib.attention"])
    languages = page.evaluate(
        """() => ['dd p', 'dd .field-list > dt', 'h2', '.source-link'].map(
          (s) => document.querySelector('main ' + s).closest('[lang]').lang)"""
    )
    assert languages == ["en", "zh-CN", "zh-CN", "zh-CN"]
