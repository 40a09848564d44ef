"""The numbers of the training curve in the browser's language = those of its Python twin."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from lmlib.widgets.base import source
from lmlib.widgets.training_curve import TrainingCurve

SOURCE = source("training_curve", ".js")
KEYS = ("x", "raw", "smooth", "points")
NUMBERS = """(figure, states) => states.map((state) => {
  const series = figure.tcSeries(state);
  const x = figure.tcPlace(state.runs[state.run], state.axis, state.step);
  const keys = ["x", "raw", "smooth", "points"];
  return {
    complaint: figure.tcComplaint(state.runs),
    series: series.map((one) => Object.fromEntries(keys.map((key) => [key, one[key]]))),
    readings: figure.tcReadings(series, x),
  };
})"""


def random_run(generator: np.random.Generator, count: int, missing: float) -> list[dict[str, Any]]:
    """Rows at irregular steps; of every column some cells are missing, but never all."""
    steps = np.cumsum(generator.integers(1, 40, count))
    columns = {
        "loss": 2 + 6 * np.exp(-steps / 200) + 0.2 * generator.standard_normal(count),
        "tokens": np.cumsum(generator.integers(500, 4000, count)),
        "seconds": np.cumsum(generator.uniform(0.1, 3.0, count)),
        "learning_rate": generator.uniform(0, 1e-3, count),
        "grad_norm": generator.uniform(0.1, 2, count),
        "validation_loss": generator.uniform(2, 6, count),
        "validation_accuracy": generator.uniform(0, 1, count),
    }
    rows: list[dict[str, Any]] = [{"step": int(step)} for step in steps]
    for name, values in columns.items():
        kept = generator.random(count) >= missing
        kept[generator.integers(count)] = True
        for row, value, keep in zip(rows, values, kept, strict=True):
            row[name] = float(value) if keep else None
    return rows


def random_figure(seed: int, counts: tuple[int, ...], missing: float) -> TrainingCurve:
    generator = np.random.default_rng(seed)
    runs = {f"第 {i} 次": random_run(generator, n, missing) for i, n in enumerate(counts, 1)}
    samples = {
        name: {int(step): [f"{name} {step}"] for step in generator.integers(0, 900, 4)}
        for name in runs
    }
    return TrainingCurve(runs, samples, {"线": 50.0})


def state_of(figure: TrainingCurve) -> dict[str, Any]:
    names = ("runs", "samples", "measure", "axis", "smoothing", "run", "step")
    return {name: getattr(figure, name) for name in names}


def assert_same(made: Any, expected: Any, where: str) -> None:
    """Equal to 1e-9, None where None is."""
    if isinstance(expected, (list, tuple)):
        assert len(made) == len(expected), where
        for i, (one, other) in enumerate(zip(made, expected, strict=True)):
            assert_same(one, other, f"{where}[{i}]")
    elif isinstance(expected, float):
        assert made is not None, where
        assert math.isclose(made, expected, rel_tol=1e-9, abs_tol=1e-9), (where, made, expected)
    else:
        assert made == expected, where


def test_series_and_readings_equal_python(run_node: Any) -> None:
    """Lengths × missing values × axes × measures × smoothing, the cursor at random places."""
    shapes = [(1,), (40,), (1, 1), (30, 12, 55), (60, 1, 2)]
    settings = itertools.product(
        shapes,
        (0.0, 0.4, 0.9),
        ("step", "tokens", "seconds"),
        ("loss", "perplexity", "validation_accuracy"),
        (0.0, 0.6, 0.99),
    )
    generator = np.random.default_rng(0)
    states, expected = [], []
    figures = {
        (shape, missing): random_figure(seed, shape, missing)
        for seed, (shape, missing) in enumerate(itertools.product(shapes, (0.0, 0.4, 0.9)))
    }
    for shape, missing, axis, measure, smoothing in settings:
        figure = figures[shape, missing]
        figure.axis, figure.measure, figure.smoothing = axis, measure, smoothing
        figure.run = int(generator.integers(len(shape)))
        figure.step = int(generator.integers(0, 1200))
        states.append(state_of(figure))
        expected.append(
            {"series": [figure.series(i) for i in range(len(shape))], "readings": figure.readings()}
        )
    results = run_node(SOURCE, NUMBERS, states)
    assert len(results) == len(expected) == 405
    for number, (result, wanted) in enumerate(zip(results, expected, strict=True)):
        assert result["complaint"] == ""
        for one, other in zip(result["series"], wanted["series"], strict=True):
            for key in KEYS:
                assert_same(one[key], other[key], f"case {number}, {key}")
        for one, other in zip(result["readings"], wanted["readings"], strict=True):
            for key, value in other.items():
                assert_same(one[key], value, f"case {number}, reading {key}")


@pytest.mark.parametrize("model", ["poem_gpt", "zh_en", "hello_world"])
def test_shipped_models_equal_python_at_every_stop(run_node: Any, model: str) -> None:
    figure = TrainingCurve.from_models([model], measure="perplexity", axis="tokens")
    stops = run_node(
        SOURCE,
        "(figure, state) => figure.tcStops(figure.tcSeries(state), () => true)",
        state_of(figure),
    )
    places = [stop["x"] for stop in stops]
    assert places == sorted(set(places))
    states, expected = [], []
    for stop in stops[:: max(1, len(stops) // 40)]:
        figure.run, figure.step = stop["run"], stop["step"]
        states.append(state_of(figure))
        expected.append(figure.readings())
    for result, wanted in zip(run_node(SOURCE, NUMBERS, states), expected, strict=True):
        for one, other in zip(result["readings"], wanted, strict=True):
            for key, value in other.items():
                assert_same(one[key], value, key)


def test_the_cursor_can_stand_at_every_row_and_sample_that_is_shown(run_node: Any) -> None:
    figure = random_figure(5, (12, 20), 0.0)
    script = """(figure, state) => [() => true, (run) => run === 1, () => false].map(
      (shown) => figure.tcStops(figure.tcSeries(state), shown))"""
    both, second, none = run_node(SOURCE, script, state_of(figure))
    steps = [set(run["step"]) for run in figure.runs]
    pages = [{page["step"] for page in figure.samples if page["run"] == i} for i in (0, 1)]
    last = [run["step"][-1] for run in figure.runs]
    reached = [{min(step, last[i]) for step in pages[i]} for i in (0, 1)]
    assert {stop["x"] for stop in both} == steps[0] | steps[1] | reached[0] | reached[1]
    assert {stop["x"] for stop in both if stop["sample"]} == reached[0] | reached[1]
    assert {stop["x"] for stop in second} == steps[1] | reached[1]
    assert {stop["run"] for stop in second} == {1}
    assert none == []


def test_what_cannot_be_drawn_is_refused(run_node: Any) -> None:
    """The page says so, instead of a chart with holes or an endless loop."""
    good = {"name": "甲", "step": [1, 2], "loss": [3.0, None]}
    script = """(figure, good) => [
      [good],
      [{ ...good, prompts: undefined, loss: [3, NaN] }],
      [{ ...good, loss: [Infinity, 2] }],
      [{ ...good, seconds: [1, "x"] }],
      [{ ...good, loss: [null, null] }],
      [{ ...good, loss: [1] }],
      [{ name: "甲", step: [], loss: [] }],
      [{ name: "甲", step: [1] }],
      [],
      null,
    ].map((runs) => figure.tcComplaint((runs ?? []).map(({ prompts, ...run }) => run)))"""
    assert run_node(SOURCE, script, good) == [
        "",
        "「甲」第 2 步的 loss 不是有限的数。",
        "「甲」第 1 步的 loss 不是有限的数。",
        "「甲」第 2 步的 seconds 不是有限的数。",
        "「甲」没有一步记下损失。",
        "「甲」的 loss 与步数不一样长。",
        *("「甲」缺少步数或损失。",) * 2,
        *("这张图没有收到任何训练记录。",) * 2,
    ]


def test_what_is_too_large_is_infinite_in_both(run_node: Any) -> None:
    losses = [709.0, 709.77, 709.78, 709.79, 1000.0]
    script = "(figure, losses) => losses.map((loss) => String(figure.tcExp(loss)))"
    made = [float(text.replace("Infinity", "inf")) for text in run_node(SOURCE, script, losses)]
    rows = [{"step": i + 1, "loss": loss} for i, loss in enumerate(losses)]
    figure = TrainingCurve({"甲": rows}, measure="perplexity")
    assert made == pytest.approx(figure.series(0)["raw"], rel=1e-9)
    assert math.isinf(made[2])


def test_ticks_are_round_few_and_inside(run_node: Any) -> None:
    generator = np.random.default_rng(1)
    ranges = []
    for _ in range(300):
        low = float(10 ** generator.uniform(-6, 6))
        high = low * float(10 ** generator.uniform(0.001, 8))
        ranges.append([low, high, bool(generator.integers(2)), int(generator.integers(3, 15))])
    ticks = run_node(SOURCE, "(figure, ranges) => ranges.map((r) => figure.tcTicks(...r))", ranges)
    for (low, high, log, most), found in zip(ranges, ticks, strict=True):
        assert all(low <= tick <= high for tick in found), (low, high, found)
        assert found == sorted(set(found))
        assert len(found) <= most + 2
        if not log and most >= 4:
            assert len(found) >= 1
        for tick in found:
            digits = f"{tick:.11e}".split("e")[0].rstrip("0").replace(".", "")
            assert len(digits) <= 2 + math.ceil(math.log10(high / (high - low) + 1)), tick
    eight_decades = run_node(SOURCE, "(figure) => figure.tcTicks(1e-4, 1e4, true, 5)", None)
    assert len(eight_decades) >= 4
    assert all(math.log10(tick) == pytest.approx(round(math.log10(tick))) for tick in eight_decades)
    two = run_node(SOURCE, "(figure) => figure.tcTicks(47, 2500, true, 4)", None)
    assert two == [100, 300, 1000]
    narrow = run_node(SOURCE, "(figure) => figure.tcTicks(47, 63, true, 5)", None)
    assert narrow == [50, 55, 60]


def test_an_axis_holds_all_that_it_shows_and_is_never_empty(run_node: Any) -> None:
    cases = [
        [[3.0, 5.0], False],
        [[3.2, 3.2 + 1e-15], False],
        [[0.0], False],
        [[-2.0, None, 7.0], False],
        [[3.0, 5.0, None, -1.0, 0.0], True],
        [[4.0], True],
        [[], False],
        [[None], True],
    ]
    script = "(figure, cases) => cases.map(([values, log]) => figure.tcRange(values, log, 0.05))"
    for (values, log), (low, high) in zip(cases, run_node(SOURCE, script, cases), strict=True):
        known = [v for v in values if v is not None and (v > 0 or not log)]
        assert low < high
        assert high - low > 1e-6
        assert all(low <= v <= high for v in known)
        assert not log or low > 0


def test_scales_map_the_ends_to_the_ends(run_node: Any) -> None:
    script = """(figure) => [false, true].map((log) => {
      const scale = figure.tcScale(2, 200, log, 40, 640);
      return [scale(2), scale(200), scale(20), scale.knows(0), scale.knows(null)];
    })"""
    linear, log = run_node(SOURCE, script, None)
    assert linear == [40, 640, pytest.approx(40 + 600 * 18 / 198), True, False]
    assert log == [pytest.approx(40), pytest.approx(640), pytest.approx(340), False, False]


def test_a_line_passes_over_what_is_missing(run_node: Any) -> None:
    script = """(figure) => figure.tcPath([0, 1, 2, 3, null], [5, null, 6, 7, 8],
      figure.tcScale(0, 10, false, 0, 100), figure.tcScale(0, 10, false, 100, 0))"""
    assert run_node(SOURCE, script, None) == "M0.0 50.0L20.0 40.0L30.0 30.0"


def test_everything_lies_inside_the_chart(run_node: Any) -> None:
    """At every width and on every axis, samples before the first row included."""
    figure = random_figure(3, (30, 4), 0.3)
    script = """(figure, [state, width, axis, measure, logX, logY]) => {
      const series = figure.tcSeries({ ...state, axis, measure });
      const s = figure.tcScales(
        { series, heights: [4], logX, logY, width, height: 260, axis });
      const xs = series.flatMap((one) => [...one.x, ...one.pages.map((page) => page.x)]);
      const ys = series.flatMap((one) => [...one.raw, ...one.smooth, ...one.evaluated]);
      return {
        ...s, xs: xs.filter(s.toX.knows).map(s.toX), ys: ys.filter(s.toY.knows).map(s.toY),
        xTicks: s.xTicks.map(s.toX), yTicks: s.yTicks.map(s.toY),
      };
    }"""
    for width, axis, measure, log_x, log_y in itertools.product(
        (240, 310, 940), ("step", "tokens"), ("loss", "perplexity"), (True, False), (True, False)
    ):
        found = run_node(SOURCE, script, [state_of(figure), width, axis, measure, log_x, log_y])
        assert 15 <= found["left"] < found["right"] < width
        for x in [*found["xs"], *found["xTicks"]]:
            assert found["left"] - 1e-6 <= x <= found["right"] + 1e-6
        for y in [*found["ys"], *found["yTicks"]]:
            assert 40 - 1e-6 <= y <= found["bottom"] + 1e-6
        assert len(found["xTicks"]) >= 2
        assert len(found["yTicks"]) >= 2


def test_numbers_are_written_for_reading(run_node: Any) -> None:
    script = """(figure) => [
      figure.tcNumber(4.03849), figure.tcNumber(54.1414), figure.tcNumber(2126.2),
      figure.tcNumber(0.00133333, 3), figure.tcNumber(5.13432e-5, 3),
      figure.tcNumber(4.5315e-10, 3),
      figure.tcNumber(0), figure.tcNumber(-0.5), figure.tcNumber(null), figure.tcNumber(Infinity),
      figure.tcNumber(1e9),
      figure.tcCount(7083), figure.tcCount(15474), figure.tcCount(18702000), figure.tcCount(2.5e8),
      figure.tcCount(null), figure.tcCount(0),
      figure.tcDuration(38.145), figure.tcDuration(4045.5), figure.tcDuration(7199.7),
      figure.tcDuration(65), figure.tcDuration(null),
      figure.tcPlaceText("step", 500), figure.tcPlaceText("tokens", 154740),
      figure.tcPlaceText("seconds", 65),
      figure.tcMeasureText("loss", {}), figure.tcMeasureText("validation_f1", {}),
      figure.tcMeasureText("validation_f1", { validation_f1: "验证 F1" }),
    ]"""
    assert run_node(SOURCE, script, None) == [
        *("4.038", "54.14", "2126", "0.00133", "5.13×10⁻⁵", "4.53×10⁻¹⁰"),
        *("0", "−0.5", "—", "∞", "1×10⁹"),
        *("7083", "1.547 万", "1870 万", "2.5 亿", "—", "0"),
        *("38.1 秒", "1 小时 7 分", "2 小时 0 分", "1 分 5 秒", "—"),
        *("第 500 步", "15.47 万词元", "1 分 5 秒"),
        *("损失（奈特）", "验证 f1", "验证 F1"),
    ]


def test_only_what_was_logged_is_read_out(run_node: Any) -> None:
    runs = [{"name": "甲", "step": [1], "loss": [2], "grad_norm": [None], "validation_f1": [0.5]}]
    script = """(figure, runs) => ["loss", "validation_f1"].map(
      (measure) => figure.tcFields(runs, measure, {}).map(({ name }) => name))"""
    assert run_node(SOURCE, script, runs) == [
        ["步", "损失", "困惑度"],
        ["步", "损失", "困惑度", "验证 f1"],
    ]
