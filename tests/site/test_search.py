"""Search in the built site finds what stands in its text, and nothing that does not."""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from bs4 import BeautifulSoup
from conftest import HTML, built_pages
from playwright.sync_api import expect

PHRASES = 30
ABSENT = ["量子计算机", "编码你好解", "zyxwvut", "掩码因果力"]
FIXED = ["因果掩码", "layernorm", "LayerNorm", "d_model", "你好世界", "交叉注意力", "softmax"]


@functools.cache
def text_of(path: str) -> str:
    """The running text of a page, paragraph by paragraph."""
    soup = BeautifulSoup((HTML / path).read_text(encoding="utf-8"), "html.parser")
    for unwanted in soup.select("pre, script, style, .katex, svg, .headerlink"):
        unwanted.replace_with("\n")
    return "\n".join(p.get_text() for p in soup.select("main p, main li, main h2, main h3"))


def phrases() -> list[tuple[str, str]]:
    """(phrase, page) pairs: Chinese runs of 4 to 9 characters, from all pages, evenly."""
    chance = random.Random(0)
    pages = built_pages()
    found = []
    for number in range(PHRASES):
        path = pages[number % len(pages)]
        runs = re.findall(r"[\u4e00-\u9fff]{4,}", text_of(path))
        run = chance.choice(runs)
        length = min(len(run), chance.randint(4, 9))
        start = chance.randrange(len(run) - length + 1)
        found.append((run[start : start + length], path))
    return found


def shown(page: Any) -> list[str]:
    """Addresses of the results, relative to the root, the best first."""
    page.wait_for_function("() => document.getElementById('search-progress').textContent")
    links = page.locator("#search-results li > a").evaluate_all(
        "links => links.map((link) => link.getAttribute('href'))"
    )
    return [re.split("[?#]", link)[0] for link in links]


def results(page: Any, site: str, query: str) -> list[str]:
    """What is shown for a query in the page's address."""
    page.goto(f"{site}/search.html?q={quote(query)}")
    return shown(page)


def typed(page: Any, query: str) -> list[str]:
    """What is shown for a query in the page's own field."""
    page.locator("main input[name=q]").fill(query)
    return shown(page)


def assert_found_by_the_dialog(page: Any, words: str) -> None:
    """Asked for on any page, by the keyboard, and marked in the first page that is found."""
    page.keyboard.press("Control+k")
    page.locator(".search-dialog input").fill(words)
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=*")
    page.locator("#search-results li > a").first.click()
    expect(page.locator("main mark").first).to_have_text(words)


def test_what_stands_in_the_text_is_found(open_page: Callable[..., Any]) -> None:
    page, watch = open_page("search.html")
    missed = [(phrase, path) for phrase, path in phrases() if path not in typed(page, phrase)]
    assert missed == []
    watch.assert_clean()


@pytest.mark.parametrize("query", FIXED)
def test_terms_of_the_book_are_found(query: str, open_page: Callable[..., Any], site: str) -> None:
    page, watch = open_page("search.html")
    assert "chapters/05_encoder_decoder.html" in results(page, site, query)
    watch.assert_clean()


@pytest.mark.parametrize("query", ABSENT)
def test_what_does_not_stand_there_is_not_found(
    query: str, open_page: Callable[..., Any], site: str
) -> None:
    page, _ = open_page("search.html")
    assert results(page, site, query) == []
    assert re.search(r"没有", page.locator("main").inner_text())


def test_search_opens_from_any_page_by_keyboard(open_page: Callable[..., Any]) -> None:
    page, watch = open_page("chapters/05_encoder_decoder.html")
    page.keyboard.press("Control+k")
    expect(page.locator(".search-dialog input")).to_be_focused()
    page.keyboard.type("因果掩码")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=*")
    page.locator("#search-results li > a").first.wait_for()
    watch.assert_clean()
