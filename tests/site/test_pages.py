"""Every page of the built site, in a real browser: clean, light, readable, accessible."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from axe_core_python.sync_playwright import Axe
from conftest import HTML, built_pages

PAGES = [*built_pages(), "search.html"]
CHAPTERS = [page for page in PAGES if page.startswith("chapters/")]
BUDGET = 1_000_000  # bytes, uncompressed, of a chapter's first visit before any interaction
WIDTHS = [pytest.param(360, id="phone"), pytest.param(1280, id="desktop")]
THEMES = [pytest.param(False, id="light"), pytest.param(True, id="dark")]
each_page = pytest.mark.parametrize("path", PAGES)

OVERFLOWING = """() => {
  const wide = document.documentElement.clientWidth;
  const scrolls = (e) => {
    for (let p = e.parentElement; p; p = p.parentElement) {
      const s = getComputedStyle(p);
      if (/(auto|scroll|hidden|clip)/.test(s.overflowX)) return true;
    }
    return false;
  };
  const out = [...document.querySelectorAll('body *')].filter((e) => {
    const r = e.getBoundingClientRect();
    return r.width && r.right > wide + 1 && !scrolls(e) && getComputedStyle(e).position !== 'fixed';
  }).map((e) => `${e.tagName}.${e.className} ${Math.round(e.getBoundingClientRect().right)}`);
  return { page: document.documentElement.scrollWidth, wide, out: out.slice(0, 5) };
}"""


def scroll_through(page: Any) -> None:
    """Scroll to the end step by step, so that everything lazy is loaded."""
    page.evaluate(
        """async () => {
          const root = document.scrollingElement;
          for (let y = 0; y < root.scrollHeight; y += innerHeight) {
            scrollTo(0, y);
            await new Promise((done) => setTimeout(done, 60));
          }
        }"""
    )
    page.wait_for_load_state("networkidle")


def test_the_site_has_the_pages_of_the_book() -> None:
    assert "chapters/05_encoder_decoder.html" in PAGES
    assert any(page.startswith("book/") for page in PAGES)


@each_page
def test_no_foreign_request_and_nothing_to_complain_about(
    path: str, open_page: Callable[..., Any]
) -> None:
    page, watch = open_page(path)
    scroll_through(page)
    watch.assert_clean()


@pytest.mark.parametrize("path", CHAPTERS)
def test_first_visit_is_light(path: str, browser: Any, site: str) -> None:
    """Bytes over the wire without compression, with an empty cache, before any interaction."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    sizes: dict[str, int] = {}

    def note(response: Any) -> None:
        sizes[response.url.removeprefix(site)] = len(response.body())

    page.on("requestfinished", lambda request: note(request.response()))
    page.goto(f"{site}/{path}", wait_until="networkidle")
    context.close()
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:12]
    print(f"{path}: {sum(sizes.values())} bytes in {len(sizes)} files; {largest}")
    assert 0 < sum(sizes.values()) < BUDGET, largest


@each_page
@pytest.mark.parametrize("width", WIDTHS)
def test_no_sideways_scrolling(path: str, width: int, open_page: Callable[..., Any]) -> None:
    page, _ = open_page(path, width=width, height=740)
    scroll_through(page)
    found = page.evaluate(OVERFLOWING)
    assert found["page"] <= found["wide"], found["out"]


@each_page
@pytest.mark.parametrize("dark", THEMES)
def test_accessibility(path: str, dark: bool, open_page: Callable[..., Any]) -> None:
    page, _ = open_page(path, dark=dark)
    scroll_through(page)
    violations = [
        f"{v['id']}: {v['nodes'][0]['html'][:160]} ({len(v['nodes'])}×)"
        for v in Axe().run(page)["violations"]
    ]
    assert violations == []


@each_page
def test_is_chinese_throughout(path: str, open_page: Callable[..., Any]) -> None:
    """The language is declared, and no button or placeholder of the theme speaks English."""
    page, _ = open_page(path)
    assert page.evaluate("document.documentElement.lang").startswith("zh")
    labels = page.evaluate(
        """() => [...document.querySelectorAll('button, input, [title], [aria-label]')].map(
          (e) => e.getAttribute('aria-label') || e.title || e.placeholder || '').filter(Boolean)"""
    )
    english = [label for label in labels if re.fullmatch(r"[A-Za-z][A-Za-z ]{3,}", label.strip())]
    assert english == []


@pytest.mark.parametrize("path", CHAPTERS)
def test_text_is_readable_before_any_script_has_run(
    path: str, open_page: Callable[..., Any]
) -> None:
    page, _ = open_page(path, java_script_enabled=False)
    heading = page.locator("main h1").first
    assert heading.is_visible()
    assert page.locator("main .katex-html").first.is_visible()
    assert page.locator("main img").first.get_attribute("alt")


@pytest.mark.parametrize("path", CHAPTERS)
def test_every_picture_says_what_it_shows(path: str, open_page: Callable[..., Any]) -> None:
    page, _ = open_page(path)
    alts = page.evaluate("[...document.querySelectorAll('main img')].map((i) => i.alt)")
    assert alts
    assert [alt for alt in alts if not re.search(r"[\u4e00-\u9fff]{4}", alt)] == []


@pytest.mark.parametrize("path", CHAPTERS)
def test_colab_and_download_are_offered(path: str, open_page: Callable[..., Any]) -> None:
    page, _ = open_page(path)
    colab = page.locator("a[href^='https://colab.research.google.com/github/']").first
    notebook = path.replace(".html", ".ipynb")
    assert colab.get_attribute("href").endswith(f"/blob/main/{notebook}")
    with page.expect_download() as download:
        page.locator("a[download]").first.click()
    stored = (HTML.parents[1] / notebook).read_bytes()
    with open(download.value.path(), "rb") as file:
        same = file.read() == stored
    assert same


def test_line_breaks_inside_chinese_text_leave_no_gap(open_page: Callable[..., Any]) -> None:
    for path in built_pages():
        page, _ = open_page(path)
        gaps = page.evaluate(
            r"""() => {
              const walker = document.createTreeWalker(
                document.querySelector('main'), NodeFilter.SHOW_TEXT);
              const found = [];
              while (walker.nextNode()) {
                const node = walker.currentNode;
                const apart = 'pre, code, script, style, svg, .nl-figure';
                if (node.parentElement.closest(apart)) continue;
                const m = node.data.match(/[\u4e00-\u9fff，。；：！？]\s*\n\s*[\u4e00-\u9fff]/);
                if (m) found.push(node.data.slice(Math.max(0, m.index - 10), m.index + 14));
              }
              return found;
            }"""
        )
        assert gaps == [], path
