"""`TrainingCurve`: scrub through the steps of training runs, and read what was written then."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import traitlets

from lmlib import assets, viz
from lmlib.viz.display import new_figure
from lmlib.viz.labels import plain, printable, wrapped
from lmlib.viz.scales import set_scales
from lmlib.viz.style import INK, LINE_STYLES, MUTED, PAGE_WIDTH, SMALL
from lmlib.widgets.base import LiveFigure

MAX_POINTS = 600
DIGITS = 2  # in texts: what was trained on another CPU agrees in so many
MARKERS = "os^DvP"
AXES = {"step": "训练步数（步）", "tokens": "读过的词元（个）", "seconds": "训练用时（秒）"}
MEASURES = {"loss": "损失（奈特）", "perplexity": "困惑度"}
LOGGED = ("step", "epoch", "tokens", "learning_rate", "loss", "grad_norm", "seconds")
COUNTS = ("validation_step", "validation_targets", "validation_tokens")  # tell nothing


class TrainingCurve(LiveFigure):
    """Learning curves with a cursor, and beneath them what the model wrote at each saved step.

    The training loss is drawn raw, in pale, and smoothed by an exponential moving average whose
    bias is corrected: s = β s + (1 − β) loss, divided by 1 − βᵗ (Kingma and Ba 2015, section 3).
    Perplexity is exp(loss), of the smoothed curve exp of the smoothed loss. The cursor stands at
    a ``step`` of one ``run``; every run shows its logged row that lies nearest on the axis.

    A run of more than 600 rows is thinned to about as many: every k-th stays, the last, those
    with an evaluation, those nearest to a sample. Numbers travel with 5 significant digits.

    Args:
        runs: name → rows in the order of their steps, dicts of "step", "loss" (nats) and any of
            "epoch", "tokens" or "targets", "learning_rate", "grad_norm", "seconds" and
            ``validation_…``, None or "" where something was not measured; or the result of
            `lmlib.training.train`, or its (history, evaluations); or the path of a CSV file of
            such rows, as a shipped model's "log.csv" is. At most 6.
        samples: step → the texts written then; or the pages of a "samples.json", dicts with
            "step" and "texts"; of several runs, name → that.
        references: name → perplexity to compare with, drawn as a horizontal line.
        title, alt: Chinese heading, and the sentence that stands for the figure; computed if
            not given.
        traits: start values of what browser and Python share: ``measure`` ("loss", "perplexity"
            or a column ``validation_…``), ``axis`` ("step", "tokens", "seconds"), ``log_x``,
            ``log_y``, ``smoothing`` (β, 0 to 0.99), ``run`` (from 0) and ``step`` of the cursor
            (the last, if not given), ``hidden`` (names of runs); and of ``labels``, column
            ``validation_…`` → Chinese name, and ``prompts``, run → what each of its texts answers.

    Raises:
        TypeError, ValueError: no runs or too many, one without a loss, steps that do not grow,
            samples of no run, a number that is NaN or infinite (a "grad_norm" is left out then).
        traitlets.TraitError: a trait outside its range.

    >>> rows = [{"step": 10, "loss": 4.0}, {"step": 20, "loss": 2.0, "validation_loss": 2.5}]
    >>> figure = TrainingCurve({"小模型": rows}, {0: ["琅枚"], 20: ["明月"]})
    >>> figure
    TrainingCurve(runs='小模型', steps='10–20', loss='4 → 2', samples=2)
    """

    figure_name = "training_curve"

    runs = traitlets.List().tag(sync=True)
    samples = traitlets.List().tag(sync=True)
    references = traitlets.List().tag(sync=True)
    labels = traitlets.Dict().tag(sync=True)
    prompts = traitlets.Dict().tag(sync=True)
    measure = traitlets.Unicode("loss").tag(sync=True)
    axis = traitlets.Unicode("step").tag(sync=True)
    log_x = traitlets.Bool(False).tag(sync=True)
    log_y = traitlets.Bool(False).tag(sync=True)
    smoothing = traitlets.Float(0.5, min=0.0, max=0.99).tag(sync=True)
    run = traitlets.Int(0).tag(sync=True)
    step = traitlets.Int(0, min=0).tag(sync=True)
    hidden = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def __init__(
        self,
        runs: Mapping[str, Any],
        samples: Any = None,
        references: Mapping[str, float] | None = None,
        *,
        title: str = "训练曲线：拖动光标，看每一步的数和模型当时写的话",
        alt: str | None = None,
        **traits: Any,
    ) -> None:
        tables = _as_tables(runs)
        pages = _as_pages(samples, list(tables))
        kept = [
            {"name": name, **_columns(table, [p["step"] for p in pages if p["run"] == place])}
            for place, (name, table) in enumerate(tables.items())
        ]
        given = dict(references or {}).items()
        lines = [[name, _number("references: ", "perplexity", value)] for name, value in given]
        alt = alt or _default_alt(kept, pages, lines)
        super().__init__(title=title, alt=alt, runs=kept, samples=pages, references=lines)
        self.run = traits.pop("run", 0)
        for name, value in {"step": kept[self.run]["step"][-1], **traits}.items():
            if not self.has_trait(name):
                raise TypeError(f"unexpected argument {name!r}; the traits are in the docstring")
            setattr(self, name, value)

    @classmethod
    def from_models(cls, models: Any, **options: Any) -> TrainingCurve:
        """The curves and samples of models that the package ships.

        Args:
            models: their names; or name in the figure → model. Each stage of a model's training
                is a run; "model/stage" takes one stage alone.
            options: as for the class, but for ``runs`` and ``samples``.

        Raises:
            FileNotFoundError, ValueError: there is no such model, no such stage.
        """
        runs, samples = {}, {}
        named = models if isinstance(models, Mapping) else dict(zip(models, models, strict=True))
        for name, wanted in named.items():
            model, _, chosen = wanted.partition("/")  # chosen: a stage, or ""
            rows = _read_csv(assets.path("models", model, "log.csv"))
            pages = json.loads(assets.path("models", model, "samples.json").read_text("utf-8"))
            stages = list(dict.fromkeys(row["stage"] for row in rows))
            if chosen and chosen not in stages:
                raise ValueError(f"models: the stages of {model} are {stages}, got {chosen!r}")
            for stage in [chosen] if chosen else stages:
                full = name if chosen or len(stages) == 1 else f"{name} · {stage}"
                runs[full] = [row for row in rows if row["stage"] == stage]
                samples[full] = [page for page in pages if page["stage"] == stage]
        return cls(runs, samples, **options)

    @traitlets.validate("measure", "axis", "run", "hidden")
    def _check(self, proposal: Any) -> Any:
        name, value = proposal["trait"].name, proposal["value"]
        columns = dict.fromkeys(c for run in self.runs for c in run if c[:11] == "validation_")
        choices: dict[str, list[Any]] = {
            "measure": [*MEASURES, *(c for c in columns if c != "validation_loss")],
            "axis": [axis for axis in AXES if all(axis in run for run in self.runs)],
            "run": list(range(len(self.runs))),
            "hidden": [run["name"] for run in self.runs],
        }
        for chosen in value if name == "hidden" else [value]:
            if chosen not in choices[name]:
                raise traitlets.TraitError(f"{name} must be of {choices[name]}, got {chosen!r}")
        return value

    def series(self, run: int) -> dict[str, list[Any]]:
        """What is drawn of a run (its place, from 0), on the chosen axis, in the chosen measure.

        Returns:
            "x", "raw" and "smooth", an entry each row, None where there is no loss; "points", the
            (x, y) of the evaluations. Only loss and perplexity have a training curve.
        """
        table = self.runs[run]
        x = [_place(table, self.axis, step) for step in table["step"]]
        losses = table["loss"] if self.measure in MEASURES else [None] * len(x)
        points = zip(x, self._evaluated(table), strict=True)
        return {
            "x": x,
            "raw": self._measured(losses),
            "smooth": self._measured(_smooth(losses, self.smoothing)),
            "points": [list(point) for point in points if None not in point],
        }

    def readings(self) -> list[dict[str, Any]]:
        """What each run shows at the cursor: its nearest row with a loss, evaluation and sample.

        Returns:
            dicts of the columns of the log, "perplexity", "smooth" (the loss), "validation" (in
            the measure) with its "validation_step", and "sample", a place in ``samples``; None
            where there is none. Of two that are as near the earlier counts.
        """
        cursor = _place(self.runs[self.run], self.axis, self.step)
        found = []
        for number, table in enumerate(self.runs):
            x = [_place(table, self.axis, step) for step in table["step"]]
            evaluated = self._evaluated(table)
            row, at = _nearest(x, table["loss"], cursor), _nearest(x, evaluated, cursor)
            mine = [i for i, page in enumerate(self.samples) if page["run"] == number]
            places = [_place(table, self.axis, self.samples[i]["step"]) for i in mine]
            reading = {name: table[name][row] if name in table else None for name in LOGGED}
            reading["perplexity"] = _exp(reading["loss"])
            reading["smooth"] = _smooth(table["loss"], self.smoothing)[row]
            reading["validation"] = None if at is None else evaluated[at]
            reading["validation_step"] = None if at is None else table["step"][at]
            reading["sample"] = mine[_nearest(places, places, cursor)] if mine else None
            found.append(reading)
        return found

    def _evaluated(self, table: dict[str, Any]) -> list[Any]:
        """The evaluations of a run, in the measure that is chosen."""
        column = "validation_loss" if self.measure in MEASURES else self.measure
        return self._measured(table.get(column, [None] * len(table["step"])))

    def _measured(self, values: Sequence[Any]) -> list[Any]:
        return [_exp(value) for value in values] if self.measure == "perplexity" else list(values)

    def _describe(self) -> dict[str, object]:
        ends = [_ends(run, "loss") for run in self.runs]
        return {
            "runs": " / ".join(run["name"] for run in self.runs),
            "steps": " / ".join(f"{run['step'][0]}–{run['step'][-1]}" for run in self.runs),
            "loss": " / ".join(" → ".join(plain(loss, DIGITS) for _, loss in e) for e in ends),
            "samples": len(self.samples),
        }

    def _draw(self) -> viz.BookFigure:
        """The chart, and under its axis what the models wrote at the cursor."""
        shown = [i for i, run in enumerate(self.runs) if run["name"] not in self.hidden]
        trained, caption = self.measure in MEASURES, [AXES[self.axis]]
        found = [reading["sample"] for reading in self.readings()]
        for page in [self.samples[found[i]] for i in shown if found[i] is not None]:
            texts = "　".join(map(printable, page["texts"])).replace("␣", " ")
            line = f"{self.runs[page['run']]['name']} 在第 {page['step']} 步写：{texts}"
            caption += wrapped(line, PAGE_WIDTH - 0.6, SMALL).split("\n")
        figure = new_figure(2.6 + 0.17 * len(caption), self.title)
        axes = figure.subplots()
        for i in shown:
            name, color = self.runs[i]["name"], viz.PALETTE[i]
            series = {key: np.array(values, float) for key, values in self.series(i).items()}
            axes.plot(series["x"], series["raw"], color=color, alpha=0.3, linewidth=0.8)
            smooth = axes.plot(series["x"], series["smooth"], color=color, label=name)[0]
            smooth.set_linestyle(LINE_STYLES[i])
            if series["points"].size:
                points = axes.plot(*series["points"].T, MARKERS[i], label=f"{name}，验证")[0]
                points.set(color=color, markersize=4, linestyle="" if trained else LINE_STYLES[i])
        for name, value in self.references if trained else []:
            height = value if self.measure == "perplexity" else math.log(value)
            axes.axhline(height, color=MUTED, linewidth=1.0, linestyle=(0, (3, 2)))
            end = axes.text(0.94, height, name, transform=axes.get_yaxis_transform())
            end.set(ha="right", va="bottom", size=SMALL, color=MUTED)
        axes.axvline(_place(self.runs[self.run], self.axis, self.step), color=INK, linewidth=0.8)
        set_scales(axes, log_x=self.log_x, log_y=self.log_y)
        axes.set_xlabel("\n".join(caption), size=SMALL, linespacing=1.35, loc="left")
        name = {**MEASURES, **self.labels}.get(self.measure, f"验证 {self.measure[11:]}")
        axes.set_title(name, size=SMALL, color=MUTED)
        axes.legend()
        return figure


def _exp(value: Any) -> Any:  # the functions down to _ends have their twins in the browser
    """None stays None, and what is too large becomes ∞."""
    return value if value is None else math.exp(value) if value < 709.78 else math.inf


def _smooth(values: Sequence[Any], beta: float) -> list[Any]:
    """Exponential moving average, its bias corrected; a missing value has none and changes none."""
    total = weight = 0.0  # of all before; weight is 1 − βᵗ
    result = []
    for value in values:
        if value is not None:
            total = beta * total + (1 - beta) * value
            weight = beta * weight + (1 - beta)
        result.append(None if value is None else total / weight)
    return result


def _place(table: dict[str, Any], axis: str, step: int) -> float:
    """Where a step lies on the axis: at 0 in the beginning, between rows linear, then as before."""
    step = min(step, table["step"][-1])
    if axis == "step":
        return float(step)
    before_step, before = 0, 0.0
    for at, value in zip(table["step"], table[axis], strict=True):
        if value is not None:
            if at >= step:
                share = (step - before_step) / (at - before_step) if at > before_step else 1.0
                return before + share * (value - before)
            before_step, before = at, value
    return before * step / max(before_step, 1)  # behind the last one known, at the mean pace


def _nearest(places: Sequence[Any], values: Sequence[Any], cursor: float) -> Any:
    """The first of the places nearest to the cursor that have a value; None if none has."""
    both = zip(places, values, range(len(places)), strict=True)
    found = [(abs(at - cursor), i) for at, value, i in both if value is not None]
    return min(found)[1] if found else None


def _ends(table: dict[str, Any], column: str) -> list[tuple[int, float]]:
    """(step, value) of the first and of the last row that has one; [] if none has."""
    both = zip(table["step"], table.get(column, []), strict=False)
    found = [(step, value) for step, value in both if value is not None]
    return found[:1] + found[-1:]


# ---------------------------------------------------------------- arguments


def _read_csv(path: Path) -> list[dict[str, Any]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _number(where: str, column: str, value: Any) -> Any:
    """A number or None; `where` stands before the column in the errors."""
    try:
        number = None if value is None or value == "" else float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{where}{column} must be a number or None, got {value!r}") from None
    if number is None or (column == "grad_norm" and not math.isfinite(number)):
        return None
    if not math.isfinite(number) or ("perplexity" in column and number <= 0):
        raise ValueError(f"{where}{column} must be finite, a perplexity above 0, got {number}")
    return number


def _as_rows(where: str, rows: Any, prefix: str = "") -> dict[int, dict[str, Any]]:
    """Step → column → number, the columns named as in a model's log.csv."""
    found: dict[int, dict[str, Any]] = {}
    for place, row in enumerate(rows, 1):
        here = f"{where} row {place}: "
        if not isinstance(row, Mapping):
            raise TypeError(f"{here}must be a dict, got {type(row).__name__}")
        step = _number(here, "step", row.get("step"))
        if step is None or step != int(step) or step <= next(reversed(found), -1):
            raise ValueError(f"{here}step must be whole, ≥ 0 and grow, got {row.get('step')!r}")
        cells = found[int(step)] = {}
        for name, value in row.items():
            column = {"targets": "tokens"}.get(prefix + name, prefix + name)
            if column in LOGGED[1:] or (column[:11] == "validation_" and column not in COUNTS):
                number = _number(here, column, value)
                cells.update({} if number is None else {column: number})
    return found


def _as_tables(runs: Any) -> dict[str, dict[int, dict[str, Any]]]:
    """Name of the run → step → column → number."""
    if not isinstance(runs, Mapping) or not 1 <= len(runs) <= len(viz.PALETTE):
        raise ValueError(f"runs must be a dict of 1 to {len(viz.PALETTE)} runs, got {runs!r:.60}")
    tables = {}
    for name, rows in runs.items():
        evaluations: Any = ()
        if isinstance(rows, (str, Path)):
            rows = _read_csv(Path(rows))
        elif hasattr(rows, "history"):
            rows, evaluations = rows.history, rows.evaluations
        elif isinstance(rows, tuple):
            rows, evaluations = rows
        table = _as_rows(f"runs[{name!r}]", rows)
        for step, cells in _as_rows(f"evaluations of {name!r}", evaluations, "validation_").items():
            table.setdefault(step, {}).update(cells)
        if not any("loss" in cells for cells in table.values()):
            raise ValueError(f"runs[{name!r}] must hold a loss, got {len(table)} rows without")
        tables[name] = dict(sorted(table.items()))
    return tables


def _columns(table: dict[int, dict[str, Any]], wanted: Sequence[int]) -> dict[str, list[Any]]:
    """Column → numbers, thinned (but for evaluations and the steps wanted) and rounded."""
    steps = list(table)
    kept = {*steps[:: -(-len(steps) // MAX_POINTS)], steps[-1]}
    kept |= {steps[_nearest(steps, steps, step)] for step in wanted}
    kept |= {step for step, cells in table.items() if any(name[:4] == "vali" for name in cells)}
    columns: dict[str, list[Any]] = {"step": sorted(kept)}
    for name in dict.fromkeys(name for cells in table.values() for name in cells):
        values = [table[step].get(name) for step in columns["step"]]
        if name == "validation_perplexity":
            name, values = "validation_loss", [v if v is None else math.log(v) for v in values]
        if name not in columns and values.count(None) < len(values):
            columns[name] = [v if v is None else float(f"{v:.5g}") for v in values]
    return columns


def _as_pages(samples: Any, names: list[str]) -> list[dict[str, Any]]:
    """All samples: dicts of "run" (its place), "step" and "texts", in this order."""
    alone = len(names) == 1 and not (isinstance(samples, Mapping) and names[0] in samples)
    pages = []
    for name, given in ({names[0]: samples or {}} if alone else dict(samples or {})).items():
        if name not in names:
            raise ValueError(f"samples must be a dict by runs, of {names}, got {name!r}")
        if not isinstance(given, Mapping):
            given = {page["step"]: page["texts"] for page in given}
        for step, texts in given.items():
            if not str(step).isdecimal() or isinstance(texts, str):
                raise ValueError(f"samples must be whole steps → lists, got {step!r}: {texts!r}")
            pages.append({"run": names.index(name), "step": int(step), "texts": list(texts)})
    return sorted(pages, key=lambda page: (page["run"], page["step"]))


def _default_alt(runs: list[Any], pages: list[Any], references: list[Any]) -> str:
    """What the figure shows, with the first and the last value of every run."""
    parts = []
    for run in runs:
        for column, word in (("loss", "训练损失"), ("validation_loss", "验证损失")):
            if ends := _ends(run, column):
                first, last = (f"第 {step} 步的 {plain(value, DIGITS)}" for step, value in ends)
                parts.append(f"「{run['name']}」的{word}从{first} 到{last}")
    parts += [f"横线「{name}」的困惑度是 {plain(value, DIGITS)}" for name, value in references]
    texts = f"，以及 {len(pages)} 处存下的样本里模型写了什么" if pages else ""
    return f"可操作的训练曲线：{'；'.join(parts)}。拖动光标，看每一步的数{texts}。"
