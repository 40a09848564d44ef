"""The training curves of chapter 3 in the built page, their numbers compared with lmlib's."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from figures import number, part, saved_figures, settled, start
from looks import assert_fits_and_is_legible
from playwright.sync_api import expect

from lmlib.widgets.training_curve import AXES, TrainingCurve

NEURAL = "03_neural_lm"
PAGE = f"chapters/{NEURAL}.html"
SHARED = ("measure", "axis", "log_x", "log_y", "smoothing", "run", "step", "hidden")
UNITS = {"亿": 1e8, "万": 1e4, "小时": 3600, "分": 60, "秒": 1}


def twin(traits: dict[str, Any]) -> TrainingCurve:
    """lmlib's figure of the runs and samples that the page has."""
    runs, pages = {}, {}
    for place, run in enumerate(traits["runs"]):
        columns = [name for name in run if name != "name"]
        values = zip(*(run[name] for name in columns), strict=True)
        runs[run["name"]] = [dict(zip(columns, row, strict=True)) for row in values]
        pages[run["name"]] = [page for page in traits["samples"] if page["run"] == place]
    figure = TrainingCurve(runs, pages, dict(traits["references"]), title="题", alt="图")
    assert figure.runs == traits["runs"]
    assert figure.samples == traits["samples"]
    for name in SHARED:
        setattr(figure, name, traits[name])
    return figure


@pytest.fixture(params=["two runs", "a shipped model"])
def curve(request: Any, open_page: Callable[..., Any]) -> Any:
    """Page, figure and its twin; the first figure has two runs and a line to compare with."""
    figures = saved_figures(NEURAL, "training_curve")
    model, traits = figures[["two runs", "a shipped model"].index(request.param)]
    page, watch = open_page(PAGE)
    yield page, start(page, model), twin(traits)
    watch.assert_clean()


def amount(text: str) -> float:
    """A count or a duration as it is written: 7083, 15.5 万, 67 分 25 秒."""
    found = re.findall(r"([\d.]+)\s*(亿|万|小时|分|秒)?", text)
    return sum(float(digits) * UNITS.get(unit, 1) for digits, unit in found)


def stops_of(lmlib: TrainingCurve) -> list[tuple[int, int]]:
    """(run, step) of every place of the cursor: all rows and samples, from left to right."""
    places: dict[float, tuple[int, int]] = {}
    for run, table in enumerate(lmlib.runs):
        steps = [*table["step"], *(p["step"] for p in lmlib.samples if p["run"] == run)]
        given = lmlib.series(run)["x"]
        at = dict(zip(table["step"], given, strict=True))
        for step in steps:
            x = at.get(step, np.interp(step, [0, *table["step"]], [0, *given]))
            places.setdefault(float(x), (run, step))
    return [places[x] for x in sorted(places)]


def assert_readings(page: Any, figure: Any, lmlib: TrainingCurve) -> None:
    """All numbers and texts below the chart are what lmlib reads at the cursor."""
    settled(page)
    for run, reading in enumerate(lmlib.readings()):
        row = part(figure, f"reading-{run}")
        if lmlib.runs[run]["name"] in lmlib.hidden:
            assert row.count() == 0
            assert part(figure, f"sample-{run}").is_hidden()
            continue
        cells = {cell.get_attribute("data-column"): cell for cell in row.locator("dd").all()}
        assert {"step", "loss", "perplexity"} <= set(cells)
        for column, cell in cells.items():
            text, expected = cell.evaluate("(cell) => cell.firstChild.data"), reading[column]
            if expected is None:
                assert text == "—"
            elif column in ("tokens", "seconds"):
                # From an hour on seconds are left out, in millions of tokens the last digits.
                rounding = {"rel": 6e-4, "abs": 60 if "小时" in text else 0.5}
                assert amount(text) == pytest.approx(expected, **rounding), column
            else:
                digits = 3 if column in ("epoch", "learning_rate", "grad_norm") else 4
                assert number(text) == pytest.approx(expected, rel=0.51 * 10 ** (1 - digits)), (
                    column
                )
        if reading["validation"] is not None:
            note = cells["validation"].locator("small").inner_text()
            assert note == f"第 {reading['validation_step']} 步"
        if reading["sample"] is None:
            assert part(figure, f"sample-{run}").is_hidden()
            continue
        written = lmlib.samples[reading["sample"]]
        shown = part(figure, f"sample-{run}").locator("[data-current=true] li").all_inner_texts()
        assert shown == [text or "（什么也没写）" for text in written["texts"]]
        heading = part(figure, f"sample-step-{run}").inner_text()
        assert heading.endswith(f"在第 {written['step']} 步写的：")


def places_of(figure: Any, anchor: str, log: bool) -> Callable[[Any], np.ndarray]:
    """Value → pixels in the chart, learnt from the labels of an axis ("end": the vertical one)."""
    ticks = figure.locator(f".tc-tick[text-anchor={anchor}]").all()
    values = np.array([amount(tick.text_content()) for tick in ticks])
    pixels = [float(tick.get_attribute("y" if anchor == "end" else "x")) for tick in ticks]
    assert len(ticks) >= 2
    bend = np.log if log else np.asarray
    slope, offset = np.polyfit(bend(values), pixels, 1)
    shift = -4 if anchor == "end" else 0  # the text stands on a line below its tick
    return lambda wanted: slope * bend(np.asarray(wanted, float)) + offset + shift


def assert_lines(page: Any, figure: Any, lmlib: TrainingCurve) -> None:
    """The lines lie where lmlib's numbers are, by the labels of the axes; to a pixel."""
    settled(page)
    to_x, to_y = (
        places_of(figure, "middle", lmlib.log_x),
        places_of(figure, "end", lmlib.log_y),
    )
    shown = [run for run, table in enumerate(lmlib.runs) if table["name"] not in lmlib.hidden]
    for run in shown:
        series = lmlib.series(run)
        lines = figure.locator(f"[data-nl=chart] g.tc-run-{run}")
        for kind, name in (("line", "smooth"), ("raw", "raw")):
            drawn = lines.locator(f"path.tc-{kind}").get_attribute("d")
            points = np.array(re.findall(r"([-\d.]+) ([-\d.]+)", drawn), float)
            known = [
                (x, y) for x, y in zip(series["x"], series[name], strict=True) if y is not None
            ]
            x, y = np.array([place for place in known if place[0] > 0 or not lmlib.log_x]).T
            np.testing.assert_allclose(points[:, 0], to_x(x), atol=1, err_msg=name)
            np.testing.assert_allclose(points[:, 1], to_y(y), atol=1, err_msg=name)
        assert lines.locator("path.tc-mark").count() == len(series["points"])
    names = figure.locator(".tc-reference-name").all_text_contents()
    for name, value in lmlib.references:
        (said,) = [text for text in names if text.startswith(f"{name}：")]
        assert number(said.rsplit("：", 1)[1]) == pytest.approx(value, rel=6e-4)


# ---------------------------------------------------------------- numbers


def test_curve_of_a_shipped_model_is_its_log() -> None:
    """What the notebook keeps is what the package ships."""
    _, traits = saved_figures(NEURAL, "training_curve")[1]
    shipped = TrainingCurve.from_models({"诗 GPT": "poem_gpt"})
    assert (traits["runs"], traits["samples"]) == (shipped.runs, shipped.samples)


def test_curve_reads_at_every_place_what_lmlib_reads(curve: Any) -> None:
    """By keyboard, from the last step to the first, on every axis that the figure has."""
    page, figure, lmlib = curve
    assert_readings(page, figure, lmlib)
    chart = part(figure, "chart")
    axes = [axis for axis in AXES if all(axis in run for run in lmlib.runs)]
    assert part(figure, "axis").locator("button").count() == len(axes) >= 2
    for axis in axes:
        part(figure, f"axis-{axis}").click()
        lmlib.axis = axis
        chart.focus()
        page.keyboard.press("End")
        for key in ("ArrowLeft", "PageDown", "PageDown", "ArrowRight", "Home"):
            page.keyboard.press(key)
            settled(page)
            stops = stops_of(lmlib)
            place = int(chart.get_attribute("aria-valuenow"))
            lmlib.run, lmlib.step = stops[place]
            assert_readings(page, figure, lmlib)
        assert place == 0
        assert int(chart.get_attribute("aria-valuemax")) == len(stops) - 1


def test_curve_draws_what_lmlib_computes(curve: Any) -> None:
    page, figure, lmlib = curve
    assert_lines(page, figure, lmlib)
    part(figure, "smoothing").focus()
    for key, times in (("ArrowRight", 40), ("Home", 1)):
        for _ in range(times):
            page.keyboard.press(key)
        settled(page)
        lmlib.smoothing = float(part(figure, "smoothing-value").inner_text())
        assert_lines(page, figure, lmlib)
    assert lmlib.smoothing == 0
    part(figure, "measure-perplexity").click()
    lmlib.measure, lmlib.log_y = "perplexity", True
    assert_lines(page, figure, lmlib)
    assert_readings(page, figure, lmlib)
    part(figure, "log-x").check()
    lmlib.log_x = True
    assert_lines(page, figure, lmlib)
    part(figure, "log-y").uncheck()
    lmlib.log_y = False
    assert_lines(page, figure, lmlib)


# ---------------------------------------------------------------- controls


def test_curve_by_mouse_goes_where_it_points(curve: Any) -> None:
    """Pressed on a row's place and dragged to another's; a mere passing by changes nothing."""
    page, figure, lmlib = curve
    chart = part(figure, "chart")
    chart.scroll_into_view_if_needed()
    box = chart.locator("svg").bounding_box()
    to_x = places_of(figure, "middle", log=False)
    steps = lmlib.runs[0]["step"]
    first, second = steps[len(steps) // 4], steps[len(steps) // 2]
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + to_x(first), middle)
    page.mouse.down()
    lmlib.run, lmlib.step = 0, first
    assert_readings(page, figure, lmlib)
    page.mouse.move(box["x"] + to_x(second), middle, steps=4)
    page.mouse.up()
    lmlib.step = second
    assert_readings(page, figure, lmlib)
    page.mouse.move(box["x"] + to_x(first), middle)
    assert_readings(page, figure, lmlib)


def test_curve_walks_through_its_samples(curve: Any) -> None:
    page, figure, lmlib = curve
    part(figure, "chart").focus()
    page.keyboard.press("Home")
    settled(page)
    steps = sorted({page_["step"] for page_ in lmlib.samples})
    assert part(figure, "previous").is_disabled()
    seen = []
    while not part(figure, "next").is_disabled():
        part(figure, "next").click()
        settled(page)
        seen.append(int(amount(part(figure, "step-value").inner_text())))
        assert len(seen) <= len(steps)
    assert seen == [step for step in steps if step > 0]
    part(figure, "previous").click()
    settled(page)
    lmlib.step = seen[-2]
    lmlib.run = next(page_["run"] for page_ in lmlib.samples if page_["step"] == seen[-2])
    assert_readings(page, figure, lmlib)


def test_curve_plays_and_stops(curve: Any) -> None:
    """From the end it begins anew; a second press stops it, on the way to the end."""
    page, figure, lmlib = curve
    part(figure, "chart").focus()
    page.keyboard.press("End")
    part(figure, "play").focus()
    page.keyboard.press("Enter")
    slider = part(figure, "step").element_handle()
    page.wait_for_function("(s) => Number(s.value) > 2 && s.value !== s.max", arg=slider)
    assert "暂停" in part(figure, "play").inner_text()
    page.keyboard.press("Space")
    settled(page)
    assert "播放" in part(figure, "play").inner_text()
    lmlib.run, lmlib.step = stops_of(lmlib)[int(part(figure, "step").input_value())]
    assert_readings(page, figure, lmlib)


def test_curve_hides_and_shows_its_runs(curve: Any) -> None:
    page, figure, lmlib = curve
    names = [run["name"] for run in lmlib.runs]
    dashed = figure.locator(".tc-reference, .tc-reference-name")
    expect(dashed).to_have_count(2 * len(lmlib.references))
    for run, name in enumerate(names):
        part(figure, f"run-{run}").click()
        lmlib.hidden = [*lmlib.hidden, name]
        assert_readings(page, figure, lmlib)
        if lmlib.hidden != names:
            assert_lines(page, figure, lmlib)
    assert "没有选中" in part(figure, "chart").text_content()
    expect(dashed).to_have_count(0)  # their names would stand on the sentence
    for run in range(len(names)):
        part(figure, f"run-{run}").click()
        assert part(figure, f"run-{run}").get_attribute("aria-pressed") == "true"
    lmlib.hidden = []
    assert_readings(page, figure, lmlib)
    assert_lines(page, figure, lmlib)


# ---------------------------------------------------------------- on a phone, in the dark


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_curves_fit_and_are_legible(width: int, dark: bool, open_page: Callable[..., Any]) -> None:
    """At the start, and after every control was used; on the narrow page by touch."""
    touch = width == 360
    page, watch = open_page(PAGE, width=width, height=740, dark=dark, has_touch=touch)
    for model, traits in saved_figures(NEURAL, "training_curve"):
        figure, lmlib = start(page, model), twin(traits)
        settled(page)
        assert_fits_and_is_legible(page, figure, dark=dark)
        chart = part(figure, "chart")
        chart.scroll_into_view_if_needed()
        box = chart.locator("svg").bounding_box()
        step = lmlib.runs[0]["step"][len(lmlib.runs[0]["step"]) // 3]
        x = box["x"] + float(places_of(figure, "middle", log=False)(step))
        tap = page.touchscreen.tap if touch else page.mouse.click
        tap(x, box["y"] + box["height"] / 2)
        lmlib.run, lmlib.step = 0, step
        assert_readings(page, figure, lmlib)
        for name in ("measure-perplexity", "log-x", "axis-tokens", "next"):
            control = part(figure, name)
            control.tap() if touch else control.click()
        settled(page)
        assert_fits_and_is_legible(page, figure, dark=dark)
    watch.assert_clean()
