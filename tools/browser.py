"""What the tests and tools of the site share: an installed Chromium or Chrome, and a server."""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CANDIDATES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)

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


def find_browser() -> str | None:
    """Path of a Chromium or Chrome, from $NIHAO_BROWSER or the usual places."""
    named = os.environ.get("NIHAO_BROWSER")
    for candidate in (named,) if named else CANDIDATES:
        if found := shutil.which(candidate):
            return found
    return None


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing: the tests' own messages matter."""


def serving(folder: Path) -> contextlib.AbstractContextManager[str]:
    """Serve ``folder`` on a free local port and give its address."""
    return serving_by(functools.partial(_Handler, directory=str(folder)))


@contextlib.contextmanager
def serving_by(handler: Callable[..., Any]) -> Iterator[str]:
    """Answer by ``handler`` on a free local port and give its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
