"""Matrices as coloured cells: attention weights, tensors, position encodings.

Every title is an argument: it should say what the reader is to find in the figure.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from lmlib.viz.display import BookFigure, new_figure
from lmlib.viz.inputs import as_array, as_labels
from lmlib.viz.labels import count, text_width
from lmlib.viz.style import (
    DIVERGING,
    FAINT,
    FONT_SIZE,
    LINE_STYLES,
    MUTED,
    PAGE_WIDTH,
    PALETTE,
    RULE,
    SEQUENTIAL,
    SMALL,
    text_on,
)


def plot_attention(
    weights: Any,
    query_tokens: Sequence[str],
    key_tokens: Sequence[str] | None = None,
    *,
    title: str = "注意力权重：每一行的和是 1",
    mask: Any = None,
    head_titles: Sequence[str] | None = None,
    query_label: str = "查询",
    key_label: str = "键",
) -> BookFigure:
    """Draw attention weights as heatmaps, one a head, on one colour scale.

    Args:
        weights: (n_q, n_k), or (num_heads, n_q, n_k), or (1, num_heads, n_q, n_k).
        query_tokens: n_q tokens (a string counts as its characters).
        key_tokens: n_k tokens; the queries' when left out.
        title: the finding.
        mask: boolean, broadcastable to (num_heads, n_q, n_k), True = may look at; the rest is
            hatched.
        head_titles: one a head; 「第 1 头」 and so on when left out.
        query_label: what the rows are.
        key_label: what the columns are.

    Raises:
        ValueError: shapes and tokens do not fit together.
    """
    values = as_array("weights", weights)
    if values.ndim == 4 and values.shape[0] == 1:
        values = values[0]
    if values.ndim == 2:
        values = values[None]
    if values.ndim != 3:
        raise ValueError(
            f"weights must have shape (n_q, n_k) or (num_heads, n_q, n_k), got {values.shape}"
        )
    heads, n_q, n_k = values.shape
    rows = as_labels("query_tokens", query_tokens, n_q)
    columns = as_labels("key_tokens", query_tokens if key_tokens is None else key_tokens, n_k)
    if head_titles is None:
        head_titles = [f"第 {head + 1} 头" for head in range(heads)] if heads > 1 else [""]
    elif len(head_titles) != heads:
        raise ValueError(f"head_titles must name {heads} heads, got {len(head_titles)}")
    allowed = np.ones(values.shape, dtype=bool)
    if mask is not None:
        try:
            allowed = np.broadcast_to(as_array("mask", mask).astype(bool), values.shape)
        except ValueError as error:
            raise ValueError(
                f"mask must broadcast to {values.shape}, got {np.shape(mask)}"
            ) from error

    across = min(heads, 4 if max(n_q, n_k) <= 6 else 2)
    down = -(-heads // across)
    # What is left for cells beside the row names and the colour bar, but no cell above 0.62 in.
    room = PAGE_WIDTH - 0.85 - max(text_width(row, FONT_SIZE) for row in rows)
    cell = min((room / across - 0.08) / n_k, 0.62)
    turned = max(text_width(column, FONT_SIZE) for column in columns) > max(cell, 0.2)
    names = 0.3 + (0.6 * max(text_width(column, FONT_SIZE) for column in columns) if turned else 0)
    height = down * (cell * n_q + (0.28 if heads > 1 else 0.05)) + names + 0.25
    figure = new_figure(height, title, square=True)
    panels = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    top = max(float(values.max()), 1e-9)
    scale = 1.0 if top > 0.5 else top
    for head, axes in enumerate(panels.flat):
        if head >= heads:
            axes.set_visible(False)
            continue
        image = axes.imshow(values[head], cmap=SEQUENTIAL, vmin=0.0, vmax=scale)
        _hatch(axes, ~allowed[head])
        _token_ticks(axes, rows, columns, cell, turned)
        axes.set_title(head_titles[head], loc="center", size=FONT_SIZE)
        if heads == 1 and cell >= 0.36:
            _numbers(axes, values[head], image, decimals=2, skip=~allowed[head])
    hatched = "　斜线：掩码挡住" if mask is not None and not allowed.all() else ""
    figure.supxlabel(f"行：{query_label}　列：{key_label}{hatched}", size=SMALL, color=MUTED)
    bar = figure.colorbar(image, ax=panels, shrink=0.8, aspect=25, pad=0.02)
    bar.set_label("权重", size=SMALL)
    bar.outline.set_visible(False)
    return figure


def plot_tensor(
    tensor: Any,
    row_labels: Sequence[str] | None = None,
    *,
    title: str,
    rows: int = 4,
    cols: int = 6,
    decimals: int = 2,
    row_axis: str = "位置",
    col_axis: str = "维度",
) -> BookFigure:
    """Draw the corner of a matrix as coloured numbers, and say how large the whole is.

    Args:
        tensor: (n, d), or (d,) for a single row.
        row_labels: n names, such as the tokens; their indices when left out.
        title: the finding, or the tensor's name.
        rows: rows shown at most.
        cols: columns shown at most.
        decimals: digits behind the point.
        row_axis: what a row is.
        col_axis: what a column is.

    Raises:
        ValueError: the tensor has more than two dimensions (choose a head or a batch first).
    """
    values = np.atleast_2d(as_array("tensor", tensor))
    if values.ndim != 2:
        raise ValueError(f"tensor must have one or two dimensions, got shape {values.shape}")
    if rows < 1 or cols < 1:
        raise ValueError(f"rows and cols must be at least 1, got {rows} and {cols}")
    n, d = values.shape
    names = [str(i) for i in range(n)] if row_labels is None else None
    labels = names or as_labels("row_labels", row_labels or [], n)
    corner = values[:rows, :cols]
    more_rows, more_cols = n > rows, d > cols

    figure = new_figure(0.36 * (len(corner) + more_rows) + 0.85, title)
    axes = figure.subplots()
    bound = float(np.abs(corner[np.isfinite(corner)]).max(initial=1e-9))
    image = axes.imshow(corner, cmap=DIVERGING, vmin=-bound, vmax=bound, aspect="auto")
    _numbers(axes, corner, image, decimals)
    axes.set_xlim(-0.5, corner.shape[1] - 0.5 + 0.6 * more_cols)
    axes.set_ylim(len(corner) - 0.5 + 0.8 * more_rows, -0.5)
    axes.set_xticks(range(corner.shape[1]))
    axes.set_yticks(range(len(corner)), labels[: len(corner)])
    if more_cols:
        for row in range(len(corner)):
            axes.text(corner.shape[1] - 0.2, row, "⋯", ha="center", va="center", color=MUTED)
    if more_rows:
        for column in range(corner.shape[1]):
            axes.text(column, len(corner) - 0.1, "⋮", ha="center", va="center", color=MUTED)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.supxlabel(
        f"行：{row_axis}　列：{col_axis}　整个张量的形状：({count(n)}, {count(d)})",
        size=SMALL,
        color=MUTED,
    )
    return figure


def plot_positional_encoding(
    table: Any,
    *,
    title: str = "位置编码：维度越靠后，变化越慢",
    dims: Sequence[int] | None = None,
) -> BookFigure:
    """Draw a table of position encodings: as heatmaps, and some dimensions as curves.

    Even and odd columns, the sines and the cosines of the paper (§3.5), stand apart: side by
    side in one heatmap they would only make stripes.

    Args:
        table: (max_seq_len, d_model).
        title: the finding.
        dims: the dimensions drawn as curves; four, spread from fast to slow, when left out.

    Raises:
        ValueError: no matrix of two columns or more, or a dimension outside of it.
    """
    values = as_array("table", table)
    if values.ndim != 2 or values.shape[1] < 2:
        raise ValueError(f"table must have shape (max_seq_len, d_model ≥ 2), got {values.shape}")
    length, width = values.shape
    if dims is None:
        dims = sorted({int(width * part) // 2 * 2 for part in (0, 1 / 8, 1 / 4, 1 / 2)})
    for dim in dims:
        if not 0 <= dim < width:
            raise ValueError(f"dims must lie in 0…{width - 1}, got {dim}")

    figure = new_figure(4.4, title)
    grid = figure.add_gridspec(2, 2, height_ratios=[3, 2])
    heats = [figure.add_subplot(grid[0, column]) for column in range(2)]
    curves = figure.add_subplot(grid[1, :])
    bound = float(np.abs(values).max(initial=1e-9))
    for first, (axes, name) in enumerate(zip(heats, ["偶数维", "奇数维"], strict=True)):
        image = axes.imshow(
            values[:, first::2],
            cmap=DIVERGING,
            vmin=-bound,
            vmax=bound,
            aspect="auto",
            extent=(0, width, length, 0),
            interpolation="nearest",
        )
        axes.set_title(name, size=FONT_SIZE)
        axes.set_xlabel("维度", size=SMALL)
        axes.locator_params(nbins=4)
        axes.spines[:].set_visible(False)
    heats[0].set_ylabel("位置", size=SMALL)
    heats[1].tick_params(labelleft=False)
    bar = figure.colorbar(image, ax=heats, pad=0.02, aspect=18)
    bar.set_label("值", size=SMALL)
    bar.outline.set_visible(False)
    for number, dim in enumerate(dims):
        style = LINE_STYLES[number % len(LINE_STYLES)]
        color = PALETTE[number % len(PALETTE)]
        curves.plot(values[:, dim], color=color, linestyle=style, label=f"维度 {dim}")
    curves.set_xlabel("位置", size=SMALL)
    curves.set_ylabel("值", size=SMALL)
    curves.set_xlim(0, max(length - 1, 1))
    curves.grid(axis="y")
    curves.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=4,
        handlelength=1.8,
        columnspacing=1.0,
        borderaxespad=0.2,
    )
    return figure


def _token_ticks(
    axes: Axes, rows: list[str], columns: list[str], cell: float, turned: bool
) -> None:
    """Label rows and columns with tokens; leave some out where they would touch."""
    every = max(1, int(np.ceil(SMALL * 1.2 / 72 / cell)))
    size = FONT_SIZE if every == 1 and cell > 0.2 else SMALL
    axes.set_xticks(range(0, len(columns), every), columns[::every], size=size)
    axes.set_yticks(range(0, len(rows), every), rows[::every], size=size)
    if turned:
        for label in axes.get_xticklabels():
            label.set(rotation=45, ha="right", rotation_mode="anchor")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _hatch(axes: Axes, blocked: np.ndarray) -> None:
    """Hatch the cells that a mask blocks, one patch for each run of them in a row."""
    for row, cells in enumerate(blocked):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], cells.astype(int), [0]])))
        for start, stop in edges.reshape(-1, 2):
            axes.add_patch(
                Rectangle(
                    (start - 0.5, row - 0.5),
                    stop - start,
                    1,
                    facecolor=FAINT,
                    edgecolor=RULE,
                    hatch="//////",
                    linewidth=0,
                )
            )


def _numbers(
    axes: Axes, values: np.ndarray, image: Any, decimals: int, skip: np.ndarray | None = None
) -> None:
    """Write each value into its cell."""
    for (row, column), value in np.ndenumerate(values):
        if skip is not None and skip[row, column]:
            continue
        text = f"{value:.{decimals}f}".replace("-", "−")
        color = text_on(image.cmap(image.norm(value)))
        axes.text(column, row, text, ha="center", va="center", size=SMALL, color=color)
