"""Every page of the built site, in a real browser: clean, light, readable, accessible."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from axe_core_python.sync_playwright import Axe
from conftest import HTML, Watch, built_pages, dead_links, opened
from playwright.sync_api import Browser, Page

PAGES = [*built_pages(), "search.html"]
CHAPTERS = [page for page in PAGES if page.startswith("chapters/")]
BUDGET = 1_000_000  # bytes, uncompressed, of a chapter's first visit before any interaction
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


GAPS = r"""() => {
  const walker = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const node = walker.currentNode;
    if (node.parentElement.closest('pre, code, script, style, svg, .nl-figure')) continue;
    const m = node.data.match(/[\u4e00-\u9fff，。；：！？]\s*\n\s*[\u4e00-\u9fff]/);
    if (m) found.push(node.data.slice(Math.max(0, m.index - 10), m.index + 14));
  }
  return found;
}"""


# A chapter has thousands of spans of code and formulas, for which axe-core takes most of a minute:
# code of each colour once, and ten formulas, are enough.
THIN_OUT = """() => {
  const seen = new Set();
  for (const e of document.querySelectorAll('main .highlight span:not(:has(*))')) {
    const { color, backgroundColor, fontSize, fontWeight } = getComputedStyle(e);
    const look = [color, backgroundColor, fontSize, fontWeight].join();
    if (seen.has(look)) e.remove();
    seen.add(look);
  }
  [...document.querySelectorAll('main .katex')].slice(10).forEach((e) => e.remove());
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


class Opened(NamedTuple):
    """A page that has been scrolled to its end; its tests share it, axe-core comes last."""

    path: str
    page: Page
    watch: Watch


def scrolled(browser: Browser, site: str, path: str, **options: Any) -> Iterator[Opened]:
    """Open a page, scroll it through, close it afterwards."""
    with opened(browser, site, path, **options) as (page, watch):
        scroll_through(page)
        yield Opened(path, page, watch)


# To open a chapter takes seconds: each page is opened once for all tests of a fixture.
@pytest.fixture(scope="module", params=PAGES)
def desktop(request: Any, browser: Browser, site: str) -> Iterator[Opened]:
    """Each page on a desktop, light."""
    yield from scrolled(browser, site, request.param)


@pytest.fixture(scope="module", params=PAGES)
def phone(request: Any, browser: Browser, site: str) -> Iterator[Opened]:
    """Each page at 360 px, dark."""
    yield from scrolled(browser, site, request.param, width=360, height=740, dark=True)


def test_the_site_has_the_pages_of_the_book() -> None:
    assert "chapters/05_encoder_decoder.html" in PAGES
    assert any(page.startswith("book/") for page in PAGES)


@pytest.mark.parametrize("path", PAGES)
def test_links_lead_somewhere(path: str) -> None:
    """To a page of the site, and to a place that is on it."""
    assert dead_links(path) == []


# ------------------------------------------------------------------ on a desktop


def test_no_foreign_request_and_nothing_to_complain_about(desktop: Opened) -> None:
    desktop.watch.assert_clean()


def test_is_chinese_throughout(desktop: Opened) -> None:
    """The language is declared, and no button or placeholder of the theme speaks English."""
    assert desktop.page.evaluate("document.documentElement.lang").startswith("zh")
    labels = desktop.page.evaluate(
        """() => [...document.querySelectorAll('button, input, [title], [aria-label]')].map(
          (e) => e.getAttribute('aria-label') || e.title || e.placeholder || '').filter(Boolean)"""
    )
    english = [label for label in labels if re.fullmatch(r"[A-Za-z][A-Za-z ]{3,}", label.strip())]
    assert english == []


def test_every_picture_says_what_it_shows(desktop: Opened) -> None:
    alts = desktop.page.evaluate("[...document.querySelectorAll('main img')].map((i) => i.alt)")
    assert alts or desktop.path not in CHAPTERS
    assert [alt for alt in alts if not re.search(r"[\u4e00-\u9fff]{4}", alt)] == []


def test_line_breaks_inside_chinese_text_leave_no_gap(desktop: Opened) -> None:
    gaps = desktop.page.evaluate(GAPS)
    assert gaps == []


def test_no_sideways_scrolling_on_a_desktop(desktop: Opened) -> None:
    assert_no_sideways_scrolling(desktop.page)


def test_accessibility(desktop: Opened) -> None:
    assert violations(desktop.page) == []


# ------------------------------------------------------------------ on a phone, in the dark


def test_no_sideways_scrolling_on_a_phone(phone: Opened) -> None:
    assert_no_sideways_scrolling(phone.page)


def test_accessibility_on_a_phone_in_the_dark(phone: Opened) -> None:
    assert violations(phone.page) == []


def assert_no_sideways_scrolling(page: Page) -> None:
    found = page.evaluate(OVERFLOWING)
    assert found["page"] <= found["wide"], found["out"]


def violations(page: Page) -> list[str]:
    """What axe-core objects to; afterwards the page is no longer whole."""
    page.evaluate(THIN_OUT)
    page.evaluate(Axe().axe_script)
    found = page.evaluate("axe.run({ resultTypes: ['violations'] }).then((r) => r.violations)")
    return [f"{v['id']}: {v['nodes'][0]['html'][:160]} ({len(v['nodes'])}×)" for v in found]


# ------------------------------------------------------------------ chapters


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
