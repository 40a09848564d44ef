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

import pytest
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


@pytest.fixture
def open_page(browser: Browser, site: str) -> Iterator[Callable[..., tuple[Page, Watch]]]:
    """``open_page(path, width=…, dark=…) -> (page, watch)``; every page is closed at the end."""
    contexts = []

    def open_(
        path: str, *, width: int = 1280, height: int = 900, dark: bool = False, **options: Any
    ) -> tuple[Page, Watch]:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            locale="zh-CN",
            **options,
        )
        contexts.append(context)
        watch = Watch(context, site)
        page = context.new_page()
        page.goto(f"{site}/{path}", wait_until="load")
        return page, watch

    yield open_
    for context in contexts:
        context.close()


def built_pages() -> list[str]:
    """Every content page of the built site, relative to its root."""
    return sorted(
        str(path.relative_to(HTML))
        for folder in ("book", "chapters")
        for path in (HTML / folder).glob("*.html")
    )
