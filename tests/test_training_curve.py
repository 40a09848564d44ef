"""`TrainingCurve` in Python: what it takes and keeps, its numbers, errors and picture."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import traitlets
from torch import nn

from lmlib import assets
from lmlib.training import Loss, TrainConfig, TrainResult, train
from lmlib.widgets.base import STATIC
from lmlib.widgets.training_curve import TrainingCurve

Row = dict[str, Any]


def log_of(model: str, stage: str) -> list[Row]:
    """The rows of a shipped log.csv as numbers, read without lmlib."""
    with open(assets.path("models", model, "log.csv"), encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.pop("stage") == stage]
    return [{name: float(text) if text else None for name, text in row.items()} for row in rows]


def ramp(count: int = 20, every: int = 10, **columns: Any) -> list[Row]:
    """Rows of a loss that falls; each other column a function of the step."""
    steps = range(every, every * count + 1, every)
    rows = [{"step": s, "loss": 2.0 + 3.0 * math.exp(-s / 80), "tokens": 100 * s} for s in steps]
    return [{**row, **{name: f(row["step"]) for name, f in columns.items()}} for row in rows]


def five_digits(value: float) -> float:
    return float(f"{value:.5g}")


# ---------------------------------------------------------------- what it takes


def test_a_shipped_model_comes_as_it_was_logged() -> None:
    figure = TrainingCurve.from_models(["poem_gpt"])
    (run,) = figure.runs
    rows = log_of("poem_gpt", "training")
    assert run["name"] == "poem_gpt"
    assert run["step"] == [int(row["step"]) for row in rows]
    for column in ("epoch", "tokens", "learning_rate", "loss", "grad_norm", "seconds"):
        assert run[column] == [five_digits(row[column]) for row in rows]
    validation = [row["validation_loss"] for row in rows]
    assert run["validation_loss"] == [v if v is None else five_digits(v) for v in validation]
    # exp of the loss is not sent once more, and neither is how many targets there were.
    assert not {"validation_perplexity", "validation_targets"} & set(run)
    written = json.loads(assets.path("models", "poem_gpt", "samples.json").read_text("utf-8"))
    assert figure.samples == [
        {"run": 0, "step": page["step"], "texts": page["texts"]} for page in written
    ]


def test_the_state_of_a_shipped_model_is_small() -> None:
    state = TrainingCurve.from_models(["poem_gpt"], references={"5 元": 179.5}).get_state()
    own = {name: value for name, value in state.items() if name not in ("_esm", "_css", "layout")}
    assert len(json.dumps(own, ensure_ascii=False).encode()) < 30_000


def test_every_stage_is_a_run_and_one_can_be_chosen() -> None:
    both = TrainingCurve.from_models(["zh_en"])
    assert [run["name"] for run in both.runs] == ["zh_en · transformer", "zh_en · lstm"]
    assert {page["run"] for page in both.samples} == {0, 1}
    named = TrainingCurve.from_models({"LSTM": "zh_en/lstm", "诗": "poem_gpt"})
    assert [run["name"] for run in named.runs] == ["LSTM", "诗"]
    assert named.runs[0] == {**both.runs[1], "name": "LSTM"}
    lstm = [page["texts"] for page in both.samples if page["run"] == 1]
    assert [page["texts"] for page in named.samples if page["run"] == 0] == lstm


def test_history_and_evaluations_of_a_training_run() -> None:
    torch.manual_seed(0)
    model = nn.Linear(1, 1)
    batches = [torch.randn(8, 1) for _ in range(3)]

    def loss_fn(model: nn.Module, batch: torch.Tensor) -> Loss:
        return Loss((model(batch) - 2 * batch).square().sum(), len(batch))

    config = TrainConfig(max_steps=12, learning_rate=0.1, log_every=3, eval_every=4)
    result = train(
        model,
        batches,
        config,
        loss_fn=loss_fn,
        evaluate_on=lambda _: {"loss": 0.5, "accuracy": 0.0, "targets": 8},
        progress=False,
    )
    for given in (result, (result.history, result.evaluations)):
        (run,) = TrainingCurve({"直线": given}).runs
        assert run["step"] == [3, 4, 6, 8, 9, 12]
        assert run["loss"][:3] == [five_digits(result.history[0]["loss"]), None, run["loss"][2]]
        assert run["tokens"] == [24.0, None, 48.0, None, 72.0, 96.0]
        assert run["validation_accuracy"] == [None, 0.0, None, 0.0, None, 0.0]
        assert "validation_targets" not in run


def test_rows_and_csv_file_are_the_same(tmp_path: Path) -> None:
    rows = ramp(5, validation_loss=lambda step: 3.0 if step == 30 else None)
    path = tmp_path / "log.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    expected = TrainingCurve({"甲": rows}).runs
    assert TrainingCurve({"甲": path}).runs == expected
    assert TrainingCurve({"甲": str(path)}).runs == expected
    targets = [{("targets" if k == "tokens" else k): v for k, v in row.items()} for row in rows]
    assert TrainingCurve({"甲": targets}).runs == expected


def test_a_perplexity_alone_is_a_loss_too() -> None:
    rows = ramp(3, validation_perplexity=lambda step: math.e**2 if step == 20 else None)
    assert TrainingCurve({"甲": rows}).runs[0]["validation_loss"] == [None, 2.0, None]


def test_samples_in_every_form_are_the_same() -> None:
    texts = {0: ["粝", ""], 50: ["明月"]}
    expected = [
        {"run": 0, "step": 0, "texts": ["粝", ""]},
        {"run": 0, "step": 50, "texts": ["明月"]},
    ]
    pages = [{"step": step, "texts": value} for step, value in reversed(texts.items())]
    for given in (texts, {"50": ["明月"], "0": ["粝", ""]}, pages, {"甲": texts}, {"甲": pages}):
        assert TrainingCurve({"甲": ramp()}, given).samples == expected
    assert TrainingCurve({"甲": ramp()}, None).samples == []


# ---------------------------------------------------------------- what it keeps


def test_a_long_run_is_thinned_but_for_what_counts() -> None:
    rows = ramp(5000, 1, validation_loss=lambda step: 3.0 if step % 977 == 0 else None)
    samples = {0: ["a"], 1236: ["b"]}  # without it, 1234 and 1243 stay
    figure = TrainingCurve({"甲": rows}, samples)
    steps = figure.runs[0]["step"]
    assert 500 < len(steps) <= 620
    assert {1, 5000, 1236, *range(977, 5000, 977)} <= set(steps)
    assert steps == sorted(steps)
    by_step = {row["step"]: row["loss"] for row in rows}
    assert figure.runs[0]["loss"] == [five_digits(by_step[step]) for step in steps]
    assert [page["step"] for page in figure.samples] == [0, 1236]
    short = TrainingCurve({"甲": rows[:600]}).runs[0]
    assert short["step"] == list(range(1, 601))


def test_numbers_travel_with_five_digits_and_steps_whole() -> None:
    rows = [
        {"step": 1234567, "loss": 1.23456789, "tokens": 987654321, "learning_rate": 3.333333e-5}
    ]
    run = TrainingCurve({"甲": rows}).runs[0]
    assert run == {
        "name": "甲",
        "step": [1234567],
        "loss": [1.2346],
        "tokens": [987650000.0],
        "learning_rate": [3.3333e-05],
    }


def test_a_gradient_norm_that_overflowed_was_not_measured() -> None:
    rows = ramp(3, grad_norm=lambda step: {10: math.inf, 20: math.nan, 30: 0.5}[step])
    assert TrainingCurve({"甲": rows}).runs[0]["grad_norm"] == [None, None, 0.5]


# ---------------------------------------------------------------- its numbers


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9, 0.99])
def test_the_smoothed_loss_is_the_weighted_mean_of_what_came_before(beta: float) -> None:
    """Σ βᵗ⁻ⁱ lossᵢ / Σ βᵗ⁻ⁱ over the logged losses, which is s / (1 − βᵗ)."""
    losses = list(np.random.default_rng(0).uniform(1, 5, 30).round(3))
    gaps = {3, 4, 11}
    rows = [{"step": i + 1, "loss": None if i in gaps else loss} for i, loss in enumerate(losses)]
    smooth = TrainingCurve({"甲": rows}, smoothing=beta).series(0)["smooth"]
    known: list[float] = []
    for i, loss in enumerate(losses):
        if i in gaps:
            assert smooth[i] is None
            continue
        known.append(loss)
        weights = beta ** np.arange(len(known) - 1, -1, -1, dtype=float)
        assert smooth[i] == pytest.approx(np.dot(weights, known) / weights.sum(), rel=1e-9)


def test_perplexity_is_exp_of_the_loss() -> None:
    rows = ramp(8, validation_loss=lambda step: 2.5 if step in (40, 80) else None)
    figure = TrainingCurve({"甲": rows})
    loss = figure.series(0)
    figure.measure = "perplexity"
    perplexity = figure.series(0)
    for key in ("raw", "smooth"):
        np.testing.assert_allclose(perplexity[key], np.exp(loss[key]))
    assert loss["points"] == [[40.0, 2.5], [80.0, 2.5]]
    assert perplexity["points"] == [[40.0, math.exp(2.5)], [80.0, math.exp(2.5)]]
    huge = TrainingCurve({"甲": [{"step": 1, "loss": 800.0}]}, measure="perplexity")
    assert huge.series(0)["raw"] == [math.inf]
    huge.png()  # the picture survives it


def test_a_validation_column_of_its_own_has_points_alone() -> None:
    rows = ramp(4, validation_accuracy=lambda step: step / 100 if step >= 30 else None)
    figure = TrainingCurve({"甲": rows}, measure="validation_accuracy", step=10)
    series = figure.series(0)
    assert series["raw"] == series["smooth"] == [None] * 4
    assert series["points"] == [[30.0, 0.3], [40.0, 0.4]]
    assert figure.readings()[0]["validation"] == 0.3
    assert figure.readings()[0]["validation_step"] == 30


def test_rows_without_tokens_lie_between_their_neighbours() -> None:
    tokens = {10: None, 20: 400, 30: None, 40: 1000, 50: None}
    figure = TrainingCurve({"甲": ramp(5, tokens=lambda s: tokens[s])}, axis="tokens")
    assert figure.series(0)["x"] == [200.0, 400.0, 700.0, 1000.0, 1250.0]


def test_readings_are_those_of_the_nearest_row() -> None:
    figure = TrainingCurve.from_models(["poem_gpt"], step=6020, smoothing=0.0)
    row = {int(row["step"]): row for row in log_of("poem_gpt", "training")}[6000]
    (reading,) = figure.readings()
    for column in ("step", "epoch", "tokens", "learning_rate", "loss", "grad_norm", "seconds"):
        assert reading[column] == five_digits(row[column])
    assert reading["perplexity"] == pytest.approx(math.exp(row["loss"]), rel=1e-4)
    assert reading["smooth"] == pytest.approx(reading["loss"])
    assert reading["validation"] == five_digits(row["validation_loss"])
    assert reading["validation_step"] == 6000
    assert figure.samples[reading["sample"]]["step"] == 6000


def test_of_two_that_are_as_near_the_earlier_counts() -> None:
    figure = TrainingCurve({"甲": ramp(3)}, {10: ["a"], 20: ["b"]}, step=15)
    assert figure.readings()[0]["step"] == 10
    assert figure.readings()[0]["sample"] == 0
    figure.step = 16
    assert figure.readings()[0]["step"] == 20
    assert figure.readings()[0]["sample"] == 1


def test_a_row_of_an_evaluation_alone_is_passed_over() -> None:
    """As hello_world has them: logged every 20 steps, evaluated every 150."""
    figure = TrainingCurve.from_models(["hello_world"], step=150)
    (reading,) = figure.readings()
    assert reading["step"] == 140
    assert reading["loss"] is not None
    assert reading["validation_step"] == 150
    assert figure.samples[reading["sample"]]["step"] == 150


def test_runs_are_compared_at_one_place_of_the_axis() -> None:
    fast = ramp(30, seconds=lambda step: step * 0.1)
    slow = ramp(10, seconds=lambda step: step * 1.0)
    figure = TrainingCurve({"快": fast, "慢": slow}, {"慢": {0: ["a"], 100: ["b"]}}, step=300)
    assert [reading["step"] for reading in figure.readings()] == [300, 100]  # slow ended there
    figure.axis = "seconds"
    assert [reading["step"] for reading in figure.readings()] == [300, 30]
    figure.run, figure.step = 1, 20
    assert [reading["step"] for reading in figure.readings()] == [200, 20]
    assert [reading["sample"] for reading in figure.readings()] == [None, 0]


def test_a_cursor_beyond_its_run_stands_at_the_end() -> None:
    figure = TrainingCurve({"长": ramp(30), "短": ramp(5)}, run=1, step=9999)
    assert [reading["step"] for reading in figure.readings()] == [50, 50]


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"runs": {}}, ValueError, r"runs must be a dict of 1 to 6 runs, got {}"),
        ({"runs": ramp()}, ValueError, r"runs must be a dict of 1 to 6 runs, got \[{'step'"),
        ({"runs": {str(i): ramp() for i in range(7)}}, ValueError, r"1 to 6 runs"),
        ({"runs": {"甲": []}}, ValueError, r"runs\['甲'\] must hold a loss, got 0 rows"),
        ({"runs": {"甲": [{"step": 1}]}}, ValueError, r"must hold a loss, got 1 rows without"),
        ({"runs": {"甲": [[1, 2.0]]}}, TypeError, r"runs\['甲'\] row 1: must be a dict, got list"),
        ({"runs": {"甲": [{"loss": 2.0}]}}, ValueError, r"row 1: step must be whole.*got None"),
        ({"runs": {"甲": ramp(2)[::-1]}}, ValueError, r"row 2: step must .* grow, got 10"),
        ({"runs": {"甲": [*ramp(1), *ramp(1)]}}, ValueError, r"row 2: step must .* grow, got 10"),
        ({"runs": {"甲": [{"step": 1.5, "loss": 1}]}}, ValueError, r"step must be whole.*got 1.5"),
        ({"runs": {"甲": [{"step": -1, "loss": 1}]}}, ValueError, r"step must be whole.*got -1"),
        (
            {"runs": {"甲": ramp(2, loss=lambda s: math.nan)}},
            ValueError,
            r"row 1: loss must be fini",
        ),
        (
            {"runs": {"甲": ramp(2, loss=lambda s: math.inf)}},
            ValueError,
            r"loss must be .* got inf",
        ),
        ({"runs": {"甲": ramp(2, validation_f1=lambda s: math.nan)}}, ValueError, r"validation_f1"),
        ({"runs": {"甲": ramp(2, tokens=lambda s: "x")}}, TypeError, r"tokens must be a number"),
        (
            {"runs": {"甲": ramp(2, validation_perplexity=lambda s: 0)}},
            ValueError,
            r"perplexity above 0, got 0",
        ),
        (
            {"runs": {"甲": (ramp(2), [{"step": 10, "loss": math.nan}])}},
            ValueError,
            r"evaluations of '甲' row 1: validation_loss must be finite",
        ),
        (
            {"samples": {"乙": {0: ["a"]}}},
            ValueError,
            r"samples must be whole steps → lists, got '乙'",
        ),
        ({"samples": {-5: ["a"]}}, ValueError, r"samples must be whole steps → lists, got -5"),
        (
            {"samples": {5: "床前"}},
            ValueError,
            r"samples must be whole steps → lists, got 5: '床前'",
        ),
        ({"references": {"线": math.nan}}, ValueError, r"references: perplexity must be finite"),
        ({"references": {"线": 0.0}}, ValueError, r"perplexity above 0, got 0"),
        ({"references": {"线": "高"}}, TypeError, r"references: perplexity must be a number"),
        ({"alt": " "}, ValueError, r"alt must be a non-empty text"),
        ({"speed": 3}, TypeError, r"unexpected argument 'speed'"),
        ({"smoothing": 1.0}, traitlets.TraitError, r"smoothing"),
        ({"step": -1}, traitlets.TraitError, r"step"),
        ({"run": 1}, traitlets.TraitError, r"run must be of \[0\], got 1"),
        (
            {"axis": "seconds"},
            traitlets.TraitError,
            r"axis must be of \['step', 'tokens'\], got 'se",
        ),
        (
            {"measure": "validation_f1"},
            traitlets.TraitError,
            r"measure must be of \['loss', 'perpl",
        ),
        ({"hidden": ["乙"]}, traitlets.TraitError, r"hidden must be of \['甲'\], got '乙'"),
    ],
)
def test_bad_arguments_are_named(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        TrainingCurve(**{"runs": {"甲": ramp()}, **arguments})


def test_samples_of_several_runs_are_given_by_run() -> None:
    runs = {"甲": ramp(), "乙": ramp()}
    with pytest.raises(
        ValueError, match=r"samples must be a dict by runs, of \['甲', '乙'\], got 0"
    ):
        TrainingCurve(runs, {0: ["a"]})
    assert TrainingCurve(runs, {"乙": {0: ["a"]}}).samples == [
        {"run": 1, "step": 0, "texts": ["a"]}
    ]


def test_models_and_stages_that_are_not_shipped() -> None:
    with pytest.raises(FileNotFoundError, match="no asset 'models/poem_gtp"):
        TrainingCurve.from_models(["poem_gtp"])
    with pytest.raises(ValueError, match=r"stages of zh_en are \['transformer', 'lstm'\], got 'g"):
        TrainingCurve.from_models({"x": "zh_en/gru"})


def test_a_wrong_assignment_leaves_the_figure_as_it_was() -> None:
    figure = TrainingCurve({"甲": ramp()}, axis="tokens")
    with pytest.raises(traitlets.TraitError, match="axis must be of"):
        figure.axis = "epoch"
    assert figure.axis == "tokens"


# ---------------------------------------------------------------- as a figure


def test_repr_and_alt_say_the_first_and_the_last_value() -> None:
    figure = TrainingCurve.from_models(["poem_gpt"], references={"5 元": 179.53})
    assert repr(figure) == (
        "TrainingCurve(runs='poem_gpt', steps='50–6045', loss='7.7 → 4', samples=14)"
    )
    for part in (
        "「poem_gpt」的训练损失从第 50 步的 7.7 到第 6045 步的 4；",
        "「poem_gpt」的验证损失从第 500 步的 5.1 到第 6045 步的 4；",
        "横线「5 元」的困惑度是 180。",
        "14 处存下的样本",
    ):
        assert part in figure.alt
    figure.step = 500
    assert repr(figure).endswith("samples=14)")
    assert TrainingCurve({"甲": ramp()}, alt="一条下降的曲线。").alt == "一条下降的曲线。"


def test_texts_have_two_digits_so_that_another_cpu_says_the_same() -> None:
    """nbval compares repr and alt text; trained numbers agree in about two digits."""

    def texts(factor: float) -> tuple[str, str]:
        rows = [
            {"step": 1, "loss": 123.4 * factor, "validation_loss": 9876.0 * factor},
            {"step": 2, "loss": 0.001234 * factor, "validation_loss": 5.432 * factor},
        ]
        figure = TrainingCurve({"甲": rows}, references={"线": 181.6 * factor})
        return repr(figure), figure.alt

    assert texts(1.0) == texts(1.001) == texts(0.999)
    said, alt = texts(1.0)
    assert "loss='120 → 0.0012'" in said
    numbers = re.findall(r"(?:步的|困惑度是) ([\d. ]*\d)", alt)
    assert numbers == ["120", "0.0012", "9 900", "5.4", "180"]


def test_picture_is_the_same_again_and_follows_the_state() -> None:
    figure = TrainingCurve.from_models(["zh_en"], references={"线": 40.0})
    first = figure.png()
    assert figure.png() == first
    figure.step = 3550  # the sample nearest to it is still the last: the cursor alone moves
    seen = {first, figure.png()}
    for trait, value in {
        "step": 400,
        "measure": "perplexity",
        "log_y": True,
        "axis": "seconds",
        "log_x": True,
        "smoothing": 0.9,
        "hidden": ["zh_en · lstm"],
    }.items():
        setattr(figure, trait, value)
        seen.add(figure.png())
    assert len(seen) == 9
    figure.measure = "validation_loss_dates"
    figure.png()


def test_a_single_row_can_be_drawn_and_read() -> None:
    figure = TrainingCurve({"甲": [{"step": 7, "loss": 3.0}]}, log_x=True)
    assert (figure.run, figure.step) == (0, 7)
    assert figure.series(0)["smooth"] == [pytest.approx(3.0)]
    assert figure.readings()[0]["step"] == 7
    figure.png()


def test_the_state_is_json_and_the_browser_can_change_it() -> None:
    """`set_state` is what a message of the browser calls."""
    figure = TrainingCurve.from_models(["zh_en"], prompts={"zh_en · lstm": ["甲"] * 6})
    state = {k: v for k, v in figure.get_state().items() if k not in ("_esm", "_css", "layout")}
    assert json.loads(json.dumps(state, allow_nan=False))["_figure"] == "training_curve"
    seen: dict[str, object] = {}
    names = ["measure", "axis", "log_x", "log_y", "smoothing", "run", "step", "hidden"]
    figure.observe(lambda change: seen.update({change["name"]: change["new"]}), names)
    changes = {"measure": "perplexity", "axis": "tokens", "log_x": True, "log_y": True}
    changes |= {"smoothing": 0.9, "run": 1, "step": 800, "hidden": ["zh_en · transformer"]}
    figure.set_state(changes)
    assert seen == changes
    assert figure.readings()[1]["step"] == 800


def test_the_result_of_a_run_that_was_cut_short() -> None:
    rows = [{"step": 50, "epoch": None, "targets": 9, "loss": 4.0, "targets_per_second": 3.0}]
    result = TrainResult(60, rows, [], interrupted=True, checkpoint=None)
    assert TrainingCurve({"甲": result}).runs == [
        {"name": "甲", "step": [50], "tokens": [9.0], "loss": [4.0]}
    ]


@pytest.mark.parametrize(("theme", "paper"), [("light", "#ffffff"), ("dark", "#14181e")])
def test_the_lines_stand_out_from_the_paper(theme: str, paper: str) -> None:
    """WCAG AA for text, which is more than lines need."""
    css = (STATIC / "training_curve.css").read_text("utf-8")
    light, dark = re.split(r'\.nl-training-curve\[data-nl-theme="dark"\]', css, maxsplit=1)
    colors = re.findall(r"--tc-\d: (#[0-9a-f]{6});", light if theme == "light" else dark)
    assert len(set(colors)) == 6

    def luminance(color: str) -> float:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    for color in colors:
        low, high = sorted((luminance(color), luminance(paper)))
        assert (high + 0.05) / (low + 0.05) >= 4.5, color
