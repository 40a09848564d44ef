"""Static figures: arrays in, a matplotlib ``Figure`` out.

    from lmlib import viz

    figure = viz.plot_attention(weights, "你好世界", title="「世」主要看「好」")
    viz.show(figure, alt="四乘四的热图：第三行最深的一格在第二列。")

Importing this package sets the book's style (fonts, colours, sizes) for every figure that
matplotlib draws from then on, also for those a reader draws with ``pyplot``.
"""

from lmlib.viz.charts import plot_curves, plot_distribution
from lmlib.viz.display import BookFigure, new_figure, show, to_png
from lmlib.viz.heatmaps import plot_attention, plot_positional_encoding, plot_tensor
from lmlib.viz.labels import printable
from lmlib.viz.network import plot_network
from lmlib.viz.style import DIVERGING, PALETTE, SEQUENTIAL, use_style

__all__ = [
    "DIVERGING",
    "PALETTE",
    "SEQUENTIAL",
    "BookFigure",
    "new_figure",
    "plot_attention",
    "plot_curves",
    "plot_distribution",
    "plot_network",
    "plot_positional_encoding",
    "plot_tensor",
    "printable",
    "show",
    "to_png",
    "use_style",
]

use_style()
