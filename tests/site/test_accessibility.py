"""Every kind of live figure while it runs: axe-core, the names of its parts, the keyboard alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from axe_checks import violations
from conftest import opened
from figures import part, saved_figures, start, wait_for
from playwright.sync_api import Browser, Page

from lmlib import widgets

# One figure of each kind, and for those that run a model: the control that makes it run.
FIGURES = {
    "ngram_explorer": ("01_chain_rule", "sample"),
    "bpe_stepper": ("02_data", "next"),
    "training_curve": ("03_neural_lm", "next"),
    "attention_heatmap": ("04_attention", "heatmap"),
    "forward_pass": ("05_encoder_decoder", "next"),
    "translator": ("06_training", "text"),
    "fill_mask": ("07_bert", "text"),
    "poem_writer": ("09_inference", "finish"),
}
# What can be reached by Tab, as the page has it; what a role hides or a fold closes cannot.
TABBABLE = """(figure) => [...figure.querySelectorAll(
    'a[href], button, input, select, textarea, summary, [tabindex]')].filter((e) =>
  e.tabIndex >= 0 && !e.disabled && e.checkVisibility({ visibilityProperty: true })
  && !e.closest('details:not([open]) > :not(summary)')).length"""
# Marks what has the focus: "no" outside of the figure, else whether it was there before, and
# whether it is seen that it has the focus.
FOCUSED = """(figure) => {
  const e = document.activeElement;
  if (!figure.contains(e) || e === figure) return { inside: false };
  const { outlineStyle, outlineWidth, boxShadow } = getComputedStyle(e);
  const ringed = (outlineStyle !== 'none' && parseFloat(outlineWidth) >= 1) || boxShadow !== 'none';
  const again = e.dataset.visited === 'yes';
  e.dataset.visited = 'yes';
  return { inside: true, ringed, again, name: e.outerHTML.slice(0, 120) };
}"""
UNNAMED = """(figure) => [...figure.querySelectorAll(
    'canvas, svg, img, [role=img], [role=application], [role=slider], [role=progressbar]')].filter(
  (e) => !e.closest('[aria-hidden=true]')
    && !/[\\u4e00-\\u9fff]{2}/.test(e.getAttribute('aria-label') ?? '')
    // What names all of its parts is named by them.
    && !e.closest('[role=img]')).map((e) => e.outerHTML.slice(0, 120))"""


class Running(NamedTuple):
    """A figure that was started by the keyboard."""

    page: Page
    figure: Any
    traits: dict[str, Any]


def test_every_kind_of_figure_is_among_them() -> None:
    assert {name.replace("_", "") for name in FIGURES} == {name.lower() for name in widgets.__all__}


@pytest.fixture(scope="module", params=FIGURES)
def running(request: Any, browser: Browser, site: str) -> Iterator[Running]:
    """One figure of each kind; its tests share the page."""
    chapter, control = FIGURES[request.param]
    model, traits = saved_figures(chapter, request.param)[0]
    path = f"chapters/{chapter}.html"
    with opened(browser, site, path, reduced_motion="reduce") as (page, watch):
        figure = start(page, model)
        part(figure, control).focus()
        page.keyboard.press("Enter")
        if request.param == "fill_mask":  # which reads what is written
            page.keyboard.type("。")
        if traits.get("model"):
            wait_for(page, figure, "done", "cut")
        yield Running(page, figure, traits)
        watch.assert_clean()


def test_it_says_what_it_shows(running: Running) -> None:
    """The figure by the text that its picture has; whatever is drawn in it by one of its own."""
    figure, traits = running.figure, running.traits
    assert figure.get_attribute("role") == "group"
    assert figure.get_attribute("aria-label") == traits["alt"]
    assert len(re.findall(r"[\u4e00-\u9fff]", traits["alt"])) >= 20
    assert figure.evaluate(UNNAMED) == []


def test_every_control_is_reached_by_tab_and_seen(running: Running) -> None:
    """In one round from the first to the last, and then out of the figure."""
    page, figure, _ = running
    figure.evaluate("""(figure) => {
      for (const e of figure.querySelectorAll('[data-visited]')) delete e.dataset.visited;
      const before = document.createElement('button');
      figure.before(before);
      before.focus();
      before.addEventListener('blur', () => before.remove());
    }""")
    wanted = figure.evaluate(TABBABLE)
    visited: list[dict[str, Any]] = []
    while len(visited) <= wanted:
        page.keyboard.press("Tab")
        focused = figure.evaluate(FOCUSED)
        if not focused["inside"]:
            break
        visited.append(focused)
    assert [v["name"] for v in visited if v["again"] or not v["ringed"]] == []
    assert len(visited) == wanted > 2, [v["name"] for v in visited]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_objects_to_nothing(running: Running, theme: Any) -> None:
    running.page.emulate_media(color_scheme=theme)
    running.page.locator(f"html[data-theme={theme}]").wait_for(state="attached")
    assert violations(running.page, running.figure) == []


def test_axe_would_object(open_page: Callable[..., Any]) -> None:
    page, _ = open_page("book/usage.html")
    assert violations(page) == []
    page.evaluate("""() => {
      document.querySelector('main p').style.color = '#ccc';
      document.querySelector('.site-header button').removeAttribute('aria-label');
      document.querySelector('.site-header button').removeAttribute('title');
    }""")
    assert sorted(found.split(":")[0] for found in violations(page)) == [
        "button-name",
        "color-contrast",
    ]
