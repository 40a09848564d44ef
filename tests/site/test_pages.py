"""Every page of the built site, in a real browser: clean, light, readable, accessible."""

from __future__ import annotations

import doctest
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from xml.etree import ElementTree

import pytest
from axe_checks import violations
from bs4 import BeautifulSoup
from conftest import CHILDREN, HTML, ROOT, Watch, built_pages, dead_links, opened
from playwright.sync_api import Browser, Page, expect

from tools import page_table

PAGES = [*built_pages(), "404.html", "search.html"]
CHAPTERS = [page for page in PAGES if page.startswith("chapters/")]
NO_TEXT = ("404.html", "search.html")
BUDGET = 1_000_000  # bytes, uncompressed, of a first visit before any interaction
SEARCH_BUDGET = 1_500_000  # of the search page, which is the text of the whole book
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


# What a page shows with no script, counted where it is drawn. What folded boxes hold is meant to be
# hidden; of a formula, the MathML lies under what is drawn of it.
SEEN = """() => {
  const drawn = (e) => {
    const { width, height } = e.getBoundingClientRect();
    return width > 0 && height > 0 && e.checkVisibility({ visibilityProperty: true });
  };
  const folded = (e) => e.closest('details:not([open])') && !e.closest('summary');
  const count = (selector, ok) =>
    [...document.querySelectorAll(selector)].filter((e) => folded(e) || ok(e)).length;
  const inked = (image) => drawn(image) && image.complete && image.naturalWidth > 0 && image.alt;
  const texts = 'main :is(h1, h2, h3, p, li, td, pre, figcaption)';
  return {
    heading: drawn(document.querySelector('main h1')),
    hidden: [...document.querySelectorAll(texts)].filter(
      (e) => e.textContent.trim() && !folded(e) && !drawn(e)).map((e) => e.outerHTML.slice(0, 100)),
    formulas: count('main .katex-html', drawn),
    figures: count('main .nl-live', (place) => inked(place.querySelector(':scope > img'))),
    pictures: count('main img', inked),
  };
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


def scroll_through(page: Any) -> None:
    """Scroll to the end step by step, so that everything lazy is loaded."""
    page.evaluate(
        """async () => {
          const root = document.scrollingElement;
          for (let y = 0; y < root.scrollHeight; y += innerHeight) {
            scrollTo(0, y);
            for (let frame = 0; frame < 2; frame++) await new Promise(requestAnimationFrame);
          }
        }"""
    )
    page.wait_for_load_state("networkidle")


class Opened(NamedTuple):
    """A page that was opened on a desktop and scrolled to its end; all its tests share it."""

    path: str
    page: Page
    watch: Watch
    sizes: dict[str, int]
    """What the first visit fetched before any interaction: address → bytes, uncompressed."""


# To open a chapter takes seconds: each page is opened once for all of its tests.
@pytest.fixture(scope="module", params=PAGES)
def desktop(request: Any, browser: Browser, site: str) -> Iterator[Opened]:
    """Each page on a desktop, light."""
    path = request.param
    with opened(browser, site, None) as (page, watch):
        sizes = page_table.fetched(page, f"{site}/{path}")
        scroll_through(page)
        yield Opened(path, page, watch, sizes)


@pytest.fixture
def phone(desktop: Opened) -> Iterator[Opened]:
    """The same page as wide as a phone, in the dark."""
    desktop.page.set_viewport_size({"width": 360, "height": 740})
    desktop.page.emulate_media(color_scheme="dark")
    if desktop.path != "404.html":  # which has no controls, and follows the system
        expect(desktop.page.locator("html[data-theme=dark]")).to_be_attached()
    yield desktop
    desktop.page.emulate_media(color_scheme="light")
    desktop.page.set_viewport_size({"width": 1280, "height": 900})


def test_the_site_has_the_pages_of_the_book() -> None:
    assert "chapters/05_encoder_decoder.html" in PAGES
    assert any(page.startswith("book/") for page in PAGES)


def test_docstring_examples() -> None:
    assert doctest.testmod(page_table) == doctest.TestResults(failed=0, attempted=2)


@pytest.mark.parametrize("path", PAGES)
def test_links_lead_somewhere(path: str) -> None:
    """To a page of the site, and to a place that is on it."""
    assert dead_links(path) == []


@pytest.mark.parametrize("path", PAGES)
def test_formulas_are_mathml_as_it_is_defined(path: str) -> None:
    """What screen readers read: each element with as many children as it needs."""
    text = (HTML / path).read_text(encoding="utf-8")
    wrong = []
    for formula in re.findall(r"<math .*?</math>", text, re.DOTALL):
        for element in ElementTree.fromstring(formula).iter():
            name = element.tag.rpartition("}")[2]
            if len(element) != CHILDREN.get(name, len(element)) or "" in element.attrib.values():
                wrong.append(ElementTree.tostring(element, "unicode")[:200])
    assert wrong == []
    assert path != "chapters/05_encoder_decoder.html" or "<math " in text


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


def test_every_figure_has_started(desktop: Opened) -> None:
    places = desktop.page.locator(".nl-live")
    states = places.evaluate_all("places => places.map((place) => place.dataset.status)")
    assert states == ["ready"] * (HTML / desktop.path).read_text("utf-8").count('class="nl-live"')


def test_accessibility(desktop: Opened) -> None:
    assert violations(desktop.page) == []


def test_first_visit_is_light(desktop: Opened) -> None:
    """Bytes over the wire without compression, with an empty cache, before any interaction."""
    sizes = desktop.sizes
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:12]
    print(f"{desktop.path}: {sum(sizes.values())} bytes in {len(sizes)} files; {largest}")
    budget = SEARCH_BUDGET if desktop.path == "search.html" else BUDGET
    assert 0 < sum(sizes.values()) < budget, largest
    stated = page_table.stated((ROOT / "README.md").read_text(encoding="utf-8"))
    assert stated.keys() == set(page_table.pages())
    if desktop.path in stated:
        assert sum(sizes.values()) / 1000 == pytest.approx(stated[desktop.path], rel=0.15)


def test_colab_and_download_are_offered(desktop: Opened) -> None:
    page, path = desktop.page, desktop.path
    colab = page.locator("a[href^='https://colab.research.google.com/github/']")
    if path not in CHAPTERS:
        expect(colab).to_have_count(0)
        return
    notebook = path.replace(".html", ".ipynb")
    assert str(colab.first.get_attribute("href")).endswith(f"/blob/main/{notebook}")
    with page.expect_download() as download:
        page.locator("a[download]").first.click()
    assert download.value.path().read_bytes() == (HTML.parents[1] / notebook).read_bytes()


# ------------------------------------------------------------------ on a phone, in the dark


def test_no_sideways_scrolling_on_a_phone(phone: Opened) -> None:
    assert_no_sideways_scrolling(phone.page)


def test_accessibility_on_a_phone_in_the_dark(phone: Opened) -> None:
    assert violations(phone.page) == []


def assert_no_sideways_scrolling(page: Page) -> None:
    found = page.evaluate(OVERFLOWING)
    assert found["page"] <= found["wide"], found["out"]


# ------------------------------------------------------------------ without scripts


@pytest.mark.parametrize(
    "path", [page for page in PAGES if page not in ("search.html", "404.html")]
)
def test_page_is_whole_before_any_script_has_run(path: str, open_page: Callable[..., Any]) -> None:
    """Text, formulas and pictures, the still one of each live figure too, are there to be seen."""
    page, watch = open_page(path, java_script_enabled=False)
    seen = page.evaluate(SEEN)
    soup = BeautifulSoup((HTML / path).read_text(encoding="utf-8"), "html.parser")
    assert seen["heading"]
    # The zip is offered only where a script finds it.
    assert [each for each in seen["hidden"] if 'class="book-zip"' not in each] == []
    assert seen["formulas"] == len(soup.select("main .katex-html"))
    assert seen["figures"] == len(soup.select("main .nl-live"))
    assert seen["pictures"] == len(soup.select("main img"))
    if path in CHAPTERS:
        assert seen["formulas"] > 0
    assert watch.foreign == []
