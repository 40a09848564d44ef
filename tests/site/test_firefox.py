"""The site in Firefox: every page clean, every figure at work, search, theme, from disk as well.

The tests of the figures are those of the other files, which open the pages in Firefox here.
`NIHAO_BROWSER=firefox-esr` runs any of the other files in Firefox.
"""

from __future__ import annotations

import doctest
import http.server
import time
from collections.abc import Callable, Iterator
from typing import Any

import firefox as driver
import pytest
from conftest import HTML, firefox_or_skip, opened
from playwright.sync_api import Browser, Playwright, expect
from test_bpe_stepper_page import stepper, test_stepper_learns_the_merges_of_lmlib  # noqa: F401
from test_fill_mask_page import (  # noqa: F401
    lmlib,
    masks,
    test_a_candidate_is_filled_in,
)
from test_live_figures import (  # noqa: F401
    heatmap,
    test_figures_run_from_a_downloaded_copy,
    test_heatmap_controls_show_what_lmlib_computes,
    test_walk_multiplies_the_chain_rule,
    walk,
)
from test_ngram_explorer_page import (  # noqa: F401
    explorer,
    quatrains,
    test_explorer_controls_show_what_lmlib_computes,
)
from test_pages import PAGES
from test_poem_writer_page import (  # noqa: F401
    test_the_first_touch_loads_once_and_the_stored_poem_comes_out_again,
    writer,
)
from test_policy import inject
from test_search import (
    assert_found_by_the_dialog,
    test_search_opens_from_any_page_by_keyboard,  # noqa: F401
)
from test_theme_controls import (  # noqa: F401
    test_drawer_of_a_phone,
    test_theme_goes_round_and_is_remembered,
    visit,
)
from test_training_curve_page import curve, test_curve_hides_and_shows_its_runs  # noqa: F401
from test_translator_page import (  # noqa: F401
    test_it_translates_as_lmlib_does,
    translator,
    write,
)

from tools.browser import serving_by


@pytest.fixture(scope="session")
def browser(playwright: Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Firefox, in place of Chromium."""
    executable = firefox_or_skip()
    launched = driver.launch(playwright, executable, tmp_path_factory.mktemp("firefox"))
    yield launched
    launched.close()


def test_docstring_examples() -> None:
    assert doctest.testmod(driver) == doctest.TestResults(failed=0, attempted=1)


def test_it_is_firefox(browser: Browser, open_page: Callable[..., Any]) -> None:
    page, _ = open_page("404.html")
    assert "Firefox/" in page.evaluate("navigator.userAgent")


def test_every_page_opens_clean_and_every_figure_starts(browser: Browser, site: str) -> None:
    complaints: dict[str, Any] = {}
    figures = 0
    with opened(browser, site, None) as (page, watch):
        for path in PAGES:
            page.goto(f"{site}/{path}", wait_until="load")
            for place in page.locator(".nl-live").all():
                place.scroll_into_view_if_needed()
                place.locator("[data-nl=figure]").wait_for()
                expect(place).to_have_attribute("data-status", "ready")
                figures += 1
            if found := watch.complaints():
                complaints[path] = found
            watch.clear()
    assert complaints == {}
    wanted = [(HTML / path).read_text("utf-8").count('class="nl-live"') for path in PAGES]
    assert figures == sum(wanted) > 10


class InTwoHalves(http.server.BaseHTTPRequestHandler):
    """A page with one formula, the second half of which comes late."""

    formula = ("<math><msub><mi>d</mi>", "<mi>k</mi></msub></math>")

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        first, second = self.formula
        self.wfile.write(f"<!doctype html><title>d</title><p>{first}".encode())
        time.sleep(1)
        self.wfile.write(second.encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing: the tests' own messages matter."""


class LacksOne(InTwoHalves):
    formula = ("<math><msub><mi>d</mi>", "</msub></math>")


@pytest.mark.parametrize(("page_", "wrong"), [(InTwoHalves, 0), (LacksOne, 1)])
def test_only_a_formula_that_stays_a_half_is_wrong(
    browser: Browser, page_: type[InTwoHalves], wrong: int
) -> None:
    """Firefox complains of a formula as soon as it lays out a half of it that has arrived."""
    with serving_by(page_) as site, opened(browser, site, "") as (page, watch):
        assert watch.doubted == [page] * len(watch.doubted) != []
        assert [text[:15] for text in watch.complaints()] == ["formula: <msub>"] * wrong


def test_search_by_its_form_from_disk(browser: Browser) -> None:
    """Its form leads from file to file, which Firefox holds to be another origin."""
    with opened(browser, "", "book/usage.html", from_disk=True) as (page, watch):
        assert_found_by_the_dialog(page, "因果掩码")
        watch.assert_clean()


def test_a_foreign_script_is_blocked(open_page: Callable[..., Any]) -> None:
    page, watch = open_page("book/usage.html")
    watch.assert_clean()
    inject(page, "script-src-elem")
    assert "policy: script-src-elem http://localhost:1/x.js" in " ".join(watch.messages)
