"""Take the README's picture from the built site: the trained example at its cross-attention.

Run by ``make picture`` after ``make book``; needs an installed Chromium or Chrome.
"""

from __future__ import annotations

import pathlib
import sys

from playwright.sync_api import sync_playwright

from tools.browser import find_browser

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = ROOT / "_build" / "html" / "chapters" / "05_encoder_decoder.html"
PICTURE = ROOT / "book" / "picture.png"
BOX = "decoder.layers.0.cross_attention"
STEP = f"{BOX}.weights"


def main() -> int:
    """Open the chapter, walk the before-and-after figure to ``STEP``, store its picture."""
    executable = find_browser()
    if executable is None or not PAGE.exists():
        sys.exit("make picture needs a Chromium or Chrome and the built site (make book)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1000}, locale="zh-CN")
        page.goto(PAGE.as_uri())
        place = page.locator(".nl-live[data-figure=forward_pass]").last
        place.scroll_into_view_if_needed()
        figure = place.locator("[data-nl=figure]")
        figure.wait_for()
        figure.locator("[data-nl=variant] button").last.click()
        # The box of the cross-attention shows its siblings; one of them is the weights.
        figure.locator(f"[data-box='{BOX}']").first.click()
        figure.locator(f"button[data-step='{STEP}']").first.click()
        page.mouse.move(0, 0)
        page.wait_for_timeout(500)
        figure.screenshot(path=str(PICTURE))
        browser.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
