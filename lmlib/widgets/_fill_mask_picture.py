"""The still picture of `FillMask`: the candidates of some masks, and a row of the attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from lmlib import viz
from lmlib.viz.display import new_figure
from lmlib.viz.labels import printable, probability
from lmlib.viz.style import ACCENT
from lmlib.widgets._fill_mask import BOX, MASK_TOKEN, units

NUMBERED = 20  # tokens at most whose weights are written down


class Blank(NamedTuple):
    """A mask: its candidates, what stood there ("" if nobody knows), and the rank of that."""

    candidates: list[tuple[str, float]]
    answer: str
    rank: int | None


def picture(
    title: str,
    blanks: Sequence[Blank],
    tokens: Sequence[str],
    at: int,
    weights: np.ndarray,
    which: str,
) -> viz.BookFigure:
    """Bars for each blank, and below them where one position looks.

    Args:
        title: of the figure.
        blanks: any number, side by side.
        tokens: n names.
        at: the position that looks, from 0.
        weights: (n,) of its attention.
        which: the layer and head.
    """
    height = 2.3 if blanks else 0.0  # inches of the bars
    figure = new_figure(height + 1.15, title)
    rows = figure.add_gridspec(1 + bool(blanks), 1, height_ratios=[*[height] * bool(blanks), 0.8])
    if blanks:
        columns = rows[0].subgridspec(1, len(blanks))
        for i, blank in enumerate(blanks):
            _draw_blank(figure.add_subplot(columns[i]), i, blank)
    strip = figure.add_subplot(rows[-1])
    _draw_weights(strip, tokens, at, weights)
    strip.set_title(f"第 {at + 1} 位 {_short(tokens[at])} 看各处的权重（{which}）", fontsize=9)
    return figure


def _draw_blank(axes: Axes, number: int, blank: Blank) -> None:
    names = [name for name, _ in blank.candidates]
    heights = [p for _, p in blank.candidates]
    colors = [ACCENT if name == blank.answer else viz.PALETTE[0] for name in names]
    bars = axes.barh(range(len(names)), heights, color=colors, height=0.68)
    axes.bar_label(bars, [probability(p) for p in heights], padding=4)
    axes.set_yticks(range(len(names)), [printable(name) for name in names])
    axes.invert_yaxis()
    axes.set_xlim(0, heights[0] * 1.35)
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=3)
    said = "：概率最高的字"
    if blank.rank:
        said = f"：原字「{printable(blank.answer)}」第 {blank.rank} 名"
    axes.set_title(f"第 {number + 1} 个 [MASK]{said}", fontsize=9)


def _draw_weights(axes: Axes, tokens: Sequence[str], at: int, weights: np.ndarray) -> None:
    highest = max(0.5, weights.max())
    axes.imshow(weights[None], cmap=viz.SEQUENTIAL, vmin=0, vmax=highest, aspect="auto")
    few = len(tokens) <= NUMBERED
    axes.set_xticks(range(len(tokens)), [_short(t) for t in tokens], fontsize=9 if few else 6)
    axes.set_yticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.get_xticklabels()[at].set_color(ACCENT)
    for i, weight in enumerate(weights if few else ()):
        color = "white" if weight > 0.6 * highest else "black"
        axes.text(i, 0, f"{weight:.2f}", ha="center", va="center", size=7, color=color)


def _short(token: str) -> str:
    return {"[CLS]": "CLS", "[SEP]": "SEP", MASK_TOKEN: BOX}.get(token) or printable(token)


def drawable(text: str) -> str:
    """A text as the fonts of the pictures can show it."""
    return "".join(unit if unit == MASK_TOKEN else printable(unit) for unit in units(text))
