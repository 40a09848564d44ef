"""Bars and curves: distributions over tokens, losses over steps.

Every title is an argument: it should say what the reader is to find in the figure.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from lmlib.viz.display import BookFigure, new_figure
from lmlib.viz.inputs import as_array, as_labels
from lmlib.viz.labels import count, probability
from lmlib.viz.scales import set_scales
from lmlib.viz.style import ACCENT, FONT_SIZE, LINE_STYLES, MUTED, PALETTE, SMALL


def plot_distribution(
    probabilities: Any,
    tokens: Sequence[str],
    *,
    title: str,
    top: int = 10,
    target: str | None = None,
    uniform: bool = False,
) -> BookFigure:
    """Draw the most probable tokens of a distribution as bars.

    Args:
        probabilities: (vocab_size,), non-negative, summing to 1.
        tokens: the vocab_size tokens.
        title: the finding.
        top: how many bars.
        target: a token to pick out; it is added with its rank when it is not among the top.
        uniform: whether to mark where 1 / vocab_size lies.

    Raises:
        ValueError: not a distribution, or tokens that do not fit it.
    """
    values = as_array("probabilities", probabilities)
    if values.ndim != 1:
        raise ValueError(f"probabilities must have one dimension, got shape {values.shape}")
    if values.min() < 0:
        raise ValueError(f"probabilities must not be negative, got {values.min():.4g}")
    if not np.isclose(values.sum(), 1.0, atol=1e-3):
        raise ValueError(f"probabilities must sum to 1, got {values.sum():.4g}")
    if top < 1:
        raise ValueError(f"top must be at least 1, got {top}")
    labels = as_labels("tokens", tokens, len(values))
    order = np.argsort(-values, kind="stable")
    shown = list(order[:top])
    wanted = None
    if target is not None:
        if target not in tokens:
            raise ValueError(f"target must be one of the tokens, got {target!r}")
        wanted = list(tokens).index(target)
        if wanted not in shown:
            shown.append(wanted)

    figure = new_figure(0.25 * len(shown) + 0.75, title)
    axes = figure.subplots()
    heights = values[shown]
    colors = [ACCENT if index == wanted else PALETTE[0] for index in shown]
    bars = axes.barh(range(len(shown)), heights, color=colors, height=0.68)
    axes.bar_label(bars, [probability(p) for p in heights], padding=4, size=SMALL, color=MUTED)
    names = [labels[index] for index in shown]
    if wanted is not None and len(shown) > top:
        rank = int(np.flatnonzero(order == wanted)[0]) + 1
        names[-1] = f"第 {count(rank)} 名　{names[-1]}"
    axes.set_yticks(range(len(shown)), names, size=FONT_SIZE)
    axes.invert_yaxis()
    axes.set_xlim(0, float(heights.max()) * 1.22)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=4)
    if uniform:
        axes.axvline(1 / len(values), color=MUTED, linewidth=1.0, linestyle=(0, (3, 2)))
    rest = len(values) - len(shown)
    parts = ["概率"]
    if uniform:
        parts.append(f"虚线：均匀分布 1/{count(len(values))}")
    if rest:
        parts.append(f"其余 {count(rest)} 个词元合计 {probability(1 - heights.sum())}")
    axes.set_xlabel("　".join(parts), size=SMALL)
    return figure


def plot_curves(
    curves: Mapping[str, Any],
    *,
    title: str,
    x_label: str,
    y_label: str,
    x: Any = None,
    baselines: Mapping[str, float] | None = None,
    log_x: bool = False,
    log_y: bool = False,
) -> BookFigure:
    """Draw curves over one axis, such as losses over steps, each named at its end.

    Args:
        curves: name → (n,), or (num_seeds, n): the mean, in a band from least to greatest.
        title: the finding.
        x_label: name and unit of the horizontal axis.
        y_label: name and unit of the vertical axis.
        x: (n,) common to all curves; 1, 2, … when left out.
        baselines: name → height of a horizontal line to compare with.
        log_x: logarithmic horizontal axis.
        log_y: logarithmic vertical axis.

    Raises:
        ValueError: no curve, more than six, or a length that does not fit ``x``.
    """
    if not 1 <= len(curves) <= len(PALETTE):
        raise ValueError(f"curves must hold 1 to {len(PALETTE)} curves, got {len(curves)}")
    figure = new_figure(2.9, title)
    axes = figure.subplots()
    ends: list[tuple[float, str, str]] = []
    for number, (name, curve) in enumerate(curves.items()):
        runs = np.atleast_2d(as_array(f"curves[{name!r}]", curve))
        steps = np.arange(1, runs.shape[1] + 1) if x is None else as_array("x", x)
        if steps.shape != runs.shape[1:]:
            raise ValueError(
                f"x must have shape {runs.shape[1:]} like curve {name!r}, got {steps.shape}"
            )
        mean, color = runs.mean(axis=0), PALETTE[number]
        axes.plot(steps, mean, color=color, linestyle=LINE_STYLES[number])
        if len(runs) > 1:
            low, high = runs.min(axis=0), runs.max(axis=0)
            axes.fill_between(steps, low, high, color=color, alpha=0.18, linewidth=0)
        ends.append((float(mean[-1]), name, color))
    for name, height in (baselines or {}).items():
        axes.axhline(height, color=MUTED, linewidth=1.0, linestyle=(0, (3, 2)))
        ends.append((float(height), name, MUTED))
    set_scales(axes, log_x=log_x, log_y=log_y)
    axes.margins(x=0.01)
    axes.grid(axis="y")
    axes.set_xlabel(x_label, size=SMALL)
    axes.set_title(y_label, size=SMALL, color=MUTED)
    _name_ends(axes, ends)
    return figure


def _name_ends(axes: Axes, ends: list[tuple[float, str, str]]) -> None:
    """Write each curve's name at its right end, pushed apart where two would overlap."""
    to_axes = axes.transData + axes.transAxes.inverted()
    right = axes.get_xlim()[1]
    wanted = [(to_axes.transform((right, height))[1], name, color) for height, name, color in ends]
    step, lowest = 0.085, -np.inf
    for height, name, color in sorted(wanted):
        lowest = max(height, lowest + step)
        axes.annotate(
            name,
            (1, lowest),
            xycoords="axes fraction",
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color=color,
            size=SMALL,
        )
