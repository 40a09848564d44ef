"""Linear and logarithmic axes, their ticks labelled with plain numbers.

matplotlib labels a logarithmic axis with formulas, 2×10². They are set in ``\\mathdefault``, the
first font of the family, and a formula knows no second font for it: × is missing from ours.
"""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import Formatter, LogLocator, MaxNLocator, NullFormatter

from lmlib.viz.labels import plain

# How close ticks may stand, in parts of the axis: horizontally their labels stand side by side.
_CLOSEST_X, _CLOSEST_Y = 0.17, 0.1
# Ticks at 1, 2, 3, …, then at 1, 2, 5, 10, …, then fewer: the first that are not too close.
_DIGITS = (tuple(range(1, 10)), (1, 2, 5), (1, 3), (1,))
_PLAIN = (1e-4, 1e6)  # an axis with a tick outside has powers of ten: 10⁻⁵, 10⁷


def set_scales(axes: Axes, *, log_x: bool = False, log_y: bool = False) -> None:
    """Make the axes of a chart linear or logarithmic, with labels like 200, 500, 1 000.

    Args:
        axes: what to change.
        log_x: logarithmic horizontal axis.
        log_y: logarithmic vertical axis.
    """
    axes.set_xscale("log" if log_x else "linear")
    axes.set_yscale("log" if log_y else "linear")
    for axis, log, closest in ((axes.xaxis, log_x, _CLOSEST_X), (axes.yaxis, log_y, _CLOSEST_Y)):
        if log:
            axis.set_major_locator(_LogTicks(closest))
            axis.set_major_formatter(_LogLabels())
            axis.set_minor_formatter(NullFormatter())


class _LogTicks(LogLocator):
    """Round ticks, no two closer than a part `closest` of the axis."""

    def __init__(self, closest: float) -> None:
        super().__init__()
        self._closest = closest

    def tick_values(self, vmin: float, vmax: float) -> list[float]:
        low, high = sorted((vmin, vmax))
        if not 0 < low < high < math.inf:
            return []
        first, last = math.log10(low), math.log10(high)
        gap = self._closest * (last - first)  # in decades
        powers = range(math.floor(first), math.floor(last) + 1)
        inside: list[float] = []
        for digits in _DIGITS:
            ticks = [float(f"{digit}e{power}") for power in powers for digit in digits]
            inside = [tick for tick in ticks if low <= tick <= high]
            if len(inside) >= 3 and np.diff(np.log10(inside)).min() >= gap:
                return inside
        if len(inside) >= 2:  # powers of ten
            return inside[:: math.ceil(gap)]
        # A way too short for them: as on a linear axis.
        linear = MaxNLocator(int(0.8 / self._closest), steps=[1, 2, 2.5, 5, 10])
        return [tick for tick in linear.tick_values(low, high) if low <= tick <= high]


class _LogLabels(Formatter):
    """Plain numbers; powers of ten where one of them would be too long."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return self.format_ticks([x])[0]

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        short = all(_PLAIN[0] <= value <= _PLAIN[1] for value in values)
        return [plain(value) if short else _power(value) for value in values]


def _power(value: float) -> str:
    mantissa, power = f"{value:.9e}".split("e")
    formula = rf"\mathdefault{{10^{{{int(power)}}}}}"
    if float(mantissa) == 1:
        return f"${formula}$"
    # The sign of multiplication stands outside of it, in the font of formulas.
    return rf"$\mathdefault{{{plain(float(mantissa))}}}\times{formula}$"
