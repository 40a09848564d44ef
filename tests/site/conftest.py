"""A real browser over the built site: fixtures shared by all tests of this folder.

Without a browser the tests are skipped on a learner's machine and fail under CI.
"""

from __future__ import annotations

import contextlib
import functools
import html
import itertools
import os
import pathlib
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote

import firefox
import pytest
from bs4 import BeautifulSoup, SoupStrainer
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, sync_playwright

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tools.browser import QUIET, find_browser, serving  # noqa: E402

HTML = ROOT / "_build" / "html"
# What a page's Content-Security-Policy stops counts as a complaint of the page.
BLOCKED = """addEventListener('securitypolicyviolation', (event) => console.error(
  `policy: ${event.effectiveDirective} ${event.blockedURI} ${event.sourceFile}`))"""
# The elements of MathML that have a fixed number of children.
CHILDREN = {
    **dict.fromkeys(("mfrac", "mroot", "msub", "msup", "munder", "mover"), 2),
    **dict.fromkeys(("msubsup", "munderover"), 3),
}
# Firefox says so of a wrong formula, and of a right one that it lays out while half of it is still
# to arrive.
HALF_FORMULA = re.compile(r"Incorrect number of children for <\w+/> tag\.")
HALF_FORMULAS = """(children) => [...document.querySelectorAll('math *')].filter(
  (e) => e.children.length !== (children[e.localName] ?? e.children.length)
).map((e) => `formula: ${e.outerHTML.slice(0, 200)}`)"""


def skip_or_fail(reason: str) -> None:
    """Under CI a missing browser or site is a failure, elsewhere a skip."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def firefox_or_skip() -> str:
    """Path of Firefox; where there is none, under CI a failure, elsewhere a skip."""
    executable = firefox.find_firefox()
    if executable is None:
        skip_or_fail("no Firefox found")
    return str(executable)


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    """What drives the browsers."""
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="session")
def browser(playwright: Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One headless browser for the session: Chromium, or a Firefox that $NIHAO_BROWSER names."""
    executable = find_browser()
    if executable is None:
        skip_or_fail("no Chromium or Chrome found; set NIHAO_BROWSER to one")
    if "firefox" in pathlib.Path(str(executable)).name:
        launched = firefox.launch(playwright, executable, tmp_path_factory.mktemp("firefox"))
    else:
        launched = playwright.chromium.launch(executable_path=executable, args=list(QUIET))
    yield launched
    launched.close()


@pytest.fixture(scope="session")
def site() -> Iterator[str]:
    """Address of the built site, served locally."""
    if not (HTML / "index.html").exists():
        skip_or_fail("the site is not built; run `make book`")
    with serving(HTML) as address:
        yield address


class Watch:
    """What a page asked for and complained about while a test used it."""

    def __init__(self, context: BrowserContext, own: str) -> None:
        self.requests: list[str] = []
        self.foreign: list[str] = []
        self.failed: list[str] = []
        self.messages: list[str] = []
        self.doubted: list[Page] = []  # the pages of which Firefox said HALF_FORMULA
        self._own = own
        context.add_init_script(BLOCKED)
        context.on("request", self._on_request)
        context.on("response", self._on_response)
        context.on("console", self._on_console)
        context.on("weberror", self._on_error)

    def _on_request(self, request: Any) -> None:
        self.requests.append(request.url)
        if not request.url.startswith((self._own, "data:", "blob:", "about:")):
            self.foreign.append(request.url)

    def _on_response(self, response: Any) -> None:
        if response.status >= 400:
            self.failed.append(f"{response.status} {response.url}")

    def _on_console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.messages.append(f"{message.type}: {message.text}")

    def _on_error(self, error: Any) -> None:
        text = str(error.error)
        if HALF_FORMULA.fullmatch(text) and error.page is not None:
            self.doubted.append(error.page)
        else:
            self.messages.append(text)

    def clear(self) -> None:
        """Forget everything, for the next test."""
        for found in (self.requests, self.foreign, self.failed, self.messages, self.doubted):
            found.clear()

    def complaints(self) -> list[str]:
        """Foreign requests, what was missing, errors and warnings, formulas that lack a part."""
        formulas = [page.evaluate(HALF_FORMULAS, CHILDREN) for page in dict.fromkeys(self.doubted)]
        return [*self.foreign, *self.failed, *self.messages, *itertools.chain(*formulas)]

    def assert_clean(self) -> None:
        """Nothing to complain about."""
        assert self.complaints() == []


class Opened(NamedTuple):
    """A page in a context of its own, and what it asks for and complains about."""

    context: BrowserContext
    page: Page
    watch: Watch


def new_page(
    browser: Browser,
    site: str,
    *,
    width: int = 1280,
    height: int = 900,
    dark: bool = False,
    **options: Any,
) -> Opened:
    """An empty page for the site at this address."""
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        locale="zh-CN",
        **options,
    )
    watch = Watch(context, site)
    return Opened(context, context.new_page(), watch)


@contextlib.contextmanager
def opened(
    browser: Browser, site: str, path: str | None, *, from_disk: bool = False, **options: Any
) -> Iterator[tuple[Page, Watch]]:
    """A page with nothing in the browser's cache; it is empty where no path is given."""
    site = HTML.as_uri() if from_disk else site
    context, page, watch = new_page(browser, site, **options)
    if path is not None:
        page.goto(f"{site}/{path}", wait_until="load")
    yield page, watch
    context.close()


# By browser, site and options: pages that no test uses at the moment. A used one costs half.
_idle: dict[tuple[Browser, str, str], list[Opened]] = {}


@contextlib.contextmanager
def borrowed(
    browser: Browser, site: str, path: str, **options: Any
) -> Iterator[tuple[Page, Watch]]:
    """A page that earlier tests may have used, and that remembers nothing of them."""
    idle = _idle.setdefault((browser, site, repr(sorted(options.items()))), [])
    kept = idle.pop() if idle else new_page(browser, site, **options)
    context, page, watch = kept
    page.bring_to_front()  # Firefox gives the focus to the page that was opened last
    page.goto(f"{site}/{path}", wait_until="load")
    viewport = page.viewport_size
    yield page, watch
    page.unroute_all()
    page.evaluate("localStorage.clear()")
    context.clear_permissions()
    context.clear_cookies()
    page.goto("about:blank")
    if viewport is not None:
        page.set_viewport_size(viewport)
    page.emulate_media(
        color_scheme="dark" if options.get("dark") else "light",
        reduced_motion=options.get("reduced_motion", "no-preference"),
    )
    watch.clear()
    idle.append(kept)


@pytest.fixture
def open_page(browser: Browser, site: str) -> Iterator[Callable[..., tuple[Page, Watch]]]:
    """``open_page(path, width=…, dark=…) -> (page, watch)``, as good as new."""
    with contextlib.ExitStack() as pages:

        def open_(path: str, **options: Any) -> tuple[Page, Watch]:
            # What a test grants to a page, or a page from disk, is for this test alone.
            alone = options.keys() & {"from_disk", "permissions"}
            visit = opened if alone else borrowed
            return pages.enter_context(visit(browser, site, path, **options))

        yield open_


@functools.cache
def _anchors(page: pathlib.Path) -> frozenset[str]:
    """The ids on a page."""
    found = re.findall(r'<[^>]*? id="([^"]*)"', page.read_text(encoding="utf-8"))
    return frozenset(map(html.unescape, found))


@functools.cache
def dead_links(path: str) -> list[str]:
    """The links of a page's text to no page of the site, or to no place that is on it."""
    text = (HTML / path).read_text(encoding="utf-8")
    main = text[text.index("<main") : text.index("</main>")]
    dead = []
    for link in BeautifulSoup(main, "html.parser", parse_only=SoupStrainer("a", href=True)):
        file, _, anchor = str(link["href"]).partition("#")
        if ":" in file or "download" in link.attrs:
            continue
        target = (HTML / path).parent / unquote(file) if file else HTML / path
        if not target.exists() or unquote(anchor) not in {"", *_anchors(target)}:
            dead.append(str(link["href"]))
    return dead


def built_pages() -> list[str]:
    """Every content page of the built site, relative to its root."""
    return sorted(
        str(path.relative_to(HTML))
        for folder in ("book", "chapters")
        for path in (HTML / folder).glob("*.html")
    )
