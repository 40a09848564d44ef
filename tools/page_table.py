"""What it takes to open a page, as a table in the README: ``python -m tools.page_table``.

Each page is opened in Chromium with an empty cache, from a server on the same machine, three times;
the table has the medians. A test compares its bytes with those of the built site; its times hold
for the machine that is named under it.
"""

from __future__ import annotations

import os
import platform
import re
import statistics
import sys
from pathlib import Path
from typing import NamedTuple

from playwright.sync_api import Browser, Page, Request, sync_playwright

from tools.browser import QUIET, find_browser, serving

ROOT = Path(__file__).resolve().parents[1]
HTML = ROOT / "_build" / "html"
README = ROOT / "README.md"
TIMES = 3
PAGES = ("book/index.html", "search.html", "chapters/*.html")
HEAD = ("| page | KB, first visit | first paint, ms | first live figure, ms |", "|---|--:|--:|--:|")
MARKS = ("<!-- written by tools/page_table.py -->\n", "<!-- end -->\n")
_BETWEEN = re.compile(f"(?<={re.escape(MARKS[0])}).*?(?={re.escape(MARKS[1])})", re.DOTALL)
_ROW = re.compile(r"^\| `(?P<page>[\w/.]+)` \| (?P<kilobytes>\d+) \|", re.MULTILINE)
# Goes to the first figure as soon as the text is there, as a reader would who knows the page.
FIRST_FIGURE = """addEventListener('DOMContentLoaded', () => {
  const place = document.querySelector('.nl-live');
  if (!place) return;
  new MutationObserver(() => {
    if (place.dataset.status === 'ready') window.firstFigure ??= performance.now();
  }).observe(place, { attributeFilter: ['data-status'] });
  place.scrollIntoView();
})"""
# The fonts of what a page shows are asked for when it is laid out, the figures near the screen when
# it is drawn; a slow machine may pause before either.
SETTLED = """async () => {
  const drawn = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  do {
    await drawn();
    await document.fonts.ready;
  } while (document.querySelector('.nl-live[data-status=loading]'));
}"""
# A page's policy lets Playwright wait for functions only, not for texts that it evaluates.
PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


class Visit(NamedTuple):
    """One first visit: bytes without compression, and milliseconds since it was asked for."""

    bytes: int
    paint: float
    figure: float | None


def pages() -> list[str]:
    """Return the pages of the table, below the site's root."""
    return [str(path.relative_to(HTML)) for name in PAGES for path in sorted(HTML.glob(name))]


def fetched(page: Page, address: str) -> dict[str, int]:
    """Open an address and return what was fetched until all of it was drawn: address → bytes."""
    requests: list[Request] = []

    def note(request: Request) -> None:
        requests.append(request)

    page.on("request", note)
    page.goto(address, wait_until="networkidle")
    page.evaluate(SETTLED)
    page.remove_listener("request", note)
    answers = [(request.url, request.response()) for request in requests]
    return {url: len(answer.body()) for url, answer in answers if answer}


def first_visit(browser: Browser, address: str) -> Visit:
    """Open a page with an empty cache: once untouched for its bytes, once going to its figure."""
    untouched, going = (
        browser.new_context(viewport={"width": 1280, "height": 900}, locale="zh-CN").new_page()
        for _ in range(2)
    )
    size = sum(fetched(untouched, address).values())
    untouched.wait_for_function(f"() => {PAINT}")
    paint = untouched.evaluate(PAINT)
    untouched.context.close()
    going.add_init_script(FIRST_FIGURE)
    going.goto(address, wait_until="load")
    figure = None
    if going.locator(".nl-live").count():
        going.wait_for_function("() => window.firstFigure")
        figure = going.evaluate("window.firstFigure")
    going.context.close()
    return Visit(size, paint, figure)


def row(name: str, visits: list[Visit]) -> str:
    """Return a page's line: kilobytes and the medians of its times.

    >>> row("a.html", [Visit(1500, 80.4, None), Visit(1500, 90.0, None), Visit(1500, 99.0, None)])
    '| `a.html` | 2 | 90 | – |'
    """
    figures = [visit.figure for visit in visits if visit.figure is not None]
    figure = f"{statistics.median(figures):.0f}" if figures else "–"
    kilobytes = round(statistics.median(visit.bytes for visit in visits) / 1000)
    paint = statistics.median(visit.paint for visit in visits)
    return f"| `{name}` | {kilobytes} | {paint:.0f} | {figure} |"


def machine(version: str) -> str:
    """Return what the times were measured with."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.+)$", info.read_text() if info.exists() else "", re.M)
    processor = names[0] if names else platform.processor() or platform.machine()
    return f"Chromium {version}, {os.cpu_count()} cores of {processor}"


def stated(readme: str) -> dict[str, int]:
    """Return what the README says: page → kilobytes.

    >>> stated("| `search.html` | 240 | 90 | – |")
    {'search.html': 240}
    """
    return {match["page"]: int(match["kilobytes"]) for match in _ROW.finditer(readme)}


def main() -> int:
    """Measure all pages and put the table where the README's old one stands."""
    executable = find_browser()
    if executable is None or not (HTML / "index.html").exists():
        sys.exit("page_table needs a Chromium or Chrome and the built site (make book)")
    rows = list(HEAD)
    with sync_playwright() as playwright, serving(HTML) as site:
        browser = playwright.chromium.launch(executable_path=executable, args=list(QUIET))
        for name in pages():
            visits = [first_visit(browser, f"{site}/{name}") for _ in range(TIMES)]
            rows.append(row(name, visits))
            print(rows[-1], flush=True)
        note = f"Medians of {TIMES} visits with an empty cache: {machine(browser.version)}."
        browser.close()
    text = README.read_text(encoding="utf-8")
    if not _BETWEEN.search(text):
        sys.exit(f"README.md must have the lines {MARKS[0].strip()} and {MARKS[1].strip()}")
    table = "\n".join([*rows, "", note, ""])
    README.write_text(_BETWEEN.sub(lambda _: table, text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
