"""A real browser over the built site: fixtures shared by all tests of this folder.

Without a browser the tests are skipped on a learner's machine and fail under CI.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import pathlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote

import pytest
from bs4 import BeautifulSoup
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tools.browser import find_browser  # noqa: E402

HTML = ROOT / "_build" / "html"
# Without these the browser itself calls its maker's hosts, which is not the site's doing.
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def skip_or_fail(reason: str) -> None:
    """Under CI a missing browser or site is a failure, elsewhere a skip."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One headless browser for the session."""
    executable = find_browser()
    if executable is None:
        skip_or_fail("no Chromium or Chrome found; set NIHAO_BROWSER to one")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=executable, args=list(QUIET))
        yield launched
        launched.close()


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing: the tests' own messages matter."""


@contextlib.contextmanager
def serving(folder: pathlib.Path) -> Iterator[str]:
    """Serve ``folder`` on a free local port and give its address."""
    handler = functools.partial(_Handler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


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
        self.bytes = 0
        self._own = own
        context.on("request", self._on_request)
        context.on("response", self._on_response)
        context.on("console", self._on_console)
        context.on("weberror", lambda error: self.messages.append(str(error.error)))

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

    def assert_clean(self) -> None:
        """No foreign request, nothing missing, no error or warning in the console."""
        assert self.foreign == []
        assert self.failed == []
        assert self.messages == []


@contextlib.contextmanager
def opened(
    browser: Browser,
    site: str,
    path: str,
    *,
    width: int = 1280,
    height: int = 900,
    dark: bool = False,
    **options: Any,
) -> Iterator[tuple[Page, Watch]]:
    """A page in a context of its own, and what it asks for and complains about."""
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        locale="zh-CN",
        **options,
    )
    watch = Watch(context, site)
    page = context.new_page()
    page.goto(f"{site}/{path}", wait_until="load")
    yield page, watch
    context.close()


@pytest.fixture
def open_page(browser: Browser, site: str) -> Iterator[Callable[..., tuple[Page, Watch]]]:
    """``open_page(path, width=…, dark=…) -> (page, watch)``; every page is closed at the end."""
    with contextlib.ExitStack() as pages:
        yield lambda path, **options: pages.enter_context(opened(browser, site, path, **options))


@functools.cache
def _anchors(page: pathlib.Path) -> frozenset[str]:
    """The ids on a page."""
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    return frozenset(str(tag["id"]) for tag in soup.select("[id]"))


@functools.cache
def dead_links(path: str) -> list[str]:
    """The links of a page's text to no page of the site, or to no place that is on it."""
    soup = BeautifulSoup((HTML / path).read_text(encoding="utf-8"), "html.parser")
    dead = []
    for link in soup.select("main a[href]"):
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
