"""Logarithmic axes: where their ticks are, what stands at them, and that it can be drawn."""

from __future__ import annotations

import itertools
import math
import warnings
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lmlib import viz
from lmlib.viz.display import new_figure
from lmlib.viz.scales import set_scales
from lmlib.widgets.training_curve import TrainingCurve


def curves(x: Any, y: Any, **options: Any) -> viz.BookFigure:
    return viz.plot_curves({"甲": y}, x=x, title="题", x_label="横", y_label="纵", **options)


def bare(low: float, high: float) -> Axes:
    """Axes of a page's width, of just this range, with nothing drawn in them."""
    axes = new_figure(2.9, "题").subplots()
    set_scales(axes, log_x=True, log_y=True)
    axes.set(xlim=(low, high), ylim=(low, high))
    return axes


def labels(axes: Axes) -> tuple[list[str], list[str]]:
    """What stands at the ticks of both axes, those of second rank too."""
    axes.get_figure().draw_without_rendering()
    found = [axis.get_ticklabels(which="both") for axis in (axes.xaxis, axes.yaxis)]
    x, y = ([label.get_text() for label in axis if label.get_text()] for axis in found)
    return x, y


def assert_no_glyph_is_missing(figure: Figure, caplog: pytest.LogCaptureFixture) -> None:
    """In a formula a missing glyph is logged, elsewhere it is warned of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DeprecationWarning)  # of one library, for another's age
        viz.to_png(figure)
    assert [record.getMessage() for record in caplog.records] == []


# ---------------------------------------------------------------- the figures that have them


def test_curves_have_plain_numbers_on_both_axes(caplog: pytest.LogCaptureFixture) -> None:
    x, y = np.linspace(50, 6045, 30), np.linspace(120, 700, 30)
    figure = curves(x, y, log_x=True, log_y=True)
    assert_no_glyph_is_missing(figure, caplog)
    assert labels(figure.axes[0]) == (
        ["100", "300", "1 000", "3 000"],
        ["200", "300", "400", "500", "600", "700"],
    )


def test_the_still_picture_of_a_training_curve_has_them(caplog: pytest.LogCaptureFixture) -> None:
    steps = range(150, 900, 50)
    rows = [{"step": s, "loss": math.log(200 + 60000 / s)} for s in steps]
    live = TrainingCurve({"甲": rows}, measure="perplexity", log_x=True, log_y=True)
    figure = live._draw()
    assert_no_glyph_is_missing(figure, caplog)
    assert labels(figure.axes[0]) == (
        ["200", "400", "600", "800"],
        ["300", "400", "500", "600"],
    )
    live.log_x = False
    assert live._draw().axes[0].get_xscale() == "linear"


@pytest.mark.parametrize("chosen", ["log_x", "log_y"])
def test_the_other_axis_stays_linear(chosen: str) -> None:
    axes = curves([2, 60], [2, 60], **{chosen: True}).axes[0]
    scales = {"log_x": axes.get_xscale(), "log_y": axes.get_yscale()}
    assert scales == {"log_x": "linear", "log_y": "linear", chosen: "log"}


def test_a_readers_own_ticks_are_kept() -> None:
    """As a chapter sets them, for the sizes of a vocabulary."""
    sizes = [259, 1000, 8000]
    axes = curves(sizes, [3, 1, 0.6], log_x=True).axes[0]
    axes.set_xticks(sizes, sizes)
    axes.minorticks_off()
    assert labels(axes)[0] == ["259", "1000", "8000"]


# ---------------------------------------------------------------- every range


@pytest.mark.parametrize(
    ("low", "high", "x", "y"),
    [
        (1, 30, "1|2|5|10|20", "1|2|5|10|20"),
        (5, 2, "2|3|4|5", "2|3|4|5"),  # an axis that runs backwards
        (2.1, 3.4, "2.5|3", "2.2|2.4|2.6|2.8|3|3.2"),
        (2.1, 19, "5|10|15", None),
        (1000.1, 1001, "1 000.25|1 000.5|1 000.75|1 001", None),
        (120, 700, "200|400|600", "200|300|400|500|600|700"),
        (1.1, 900, "10|100", "2|5|10|20|50|100|200|500"),
        (2e5, 1e6, "200 000|500 000|1 000 000", None),
        (7e5, 2.5e6, "10^6|1.5×10^6|2×10^6|2.5×10^6", None),
        (1e-4, 1e6, "0.0001|0.01|1|100|10 000|1 000 000", None),
        (1e-5, 1, "10^-5|10^-4|10^-3|10^-2|10^-1|10^0", None),
        (10, 1e7, "10^1|10^3|10^5|10^7", "10^1|10^2|10^3|10^4|10^5|10^6|10^7"),
        (2e-7, 6.5e-7, "2×10^-7|4×10^-7|6×10^-7", None),
        (2.7e-11, 2.87e-11, "2.7×10^-11|2.75×10^-11|2.8×10^-11|2.85×10^-11", None),
    ],
)
def test_labels_of_a_range(
    low: float, high: float, x: str, y: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """What is said (where `y` is None, of the horizontal axis), and that none covers another."""
    axes = bare(low, high)
    assert_no_glyph_is_missing(axes.get_figure(), caplog)
    shown = []
    for texts in labels(axes):
        text = "|".join(texts)
        text = text.replace(r"\mathdefault", "").replace(r"\times", "×")
        shown.append("".join(c for c in text if c not in "${}"))
    assert shown[0] == x
    assert y in (shown[1], None)
    for axis, side in ((axes.xaxis, "x"), (axes.yaxis, "y")):
        boxes = [label.get_window_extent() for label in axis.get_ticklabels()]
        ends = sorted((getattr(box, f"{side}0"), getattr(box, f"{side}1")) for box in boxes)
        assert all(before[1] < after[0] for before, after in itertools.pairwise(ends))


@pytest.mark.parametrize("low", [0.0, -3.0, math.nan])
def test_a_range_without_a_logarithm_has_no_ticks(low: float) -> None:
    assert bare(1, 2).xaxis.get_major_locator().tick_values(low, 5.0) == []
