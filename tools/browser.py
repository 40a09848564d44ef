"""Find the browser that the tests and ``make picture`` drive: an installed Chromium or Chrome."""

from __future__ import annotations

import os
import shutil

CANDIDATES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)


def find_browser() -> str | None:
    """Path of a Chromium or Chrome, from $NIHAO_BROWSER or the usual places."""
    named = os.environ.get("NIHAO_BROWSER")
    for candidate in (named,) if named else CANDIDATES:
        if found := shutil.which(candidate):
            return found
    return None
