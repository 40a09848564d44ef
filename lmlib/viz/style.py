"""How the book's figures look: fonts, colours, sizes."""

import matplotlib
from cycler import cycler
from matplotlib import font_manager
from matplotlib.colors import LinearSegmentedColormap, to_rgb

from lmlib import assets

FONT_FAMILIES = ["Nihao Sans SC", "DejaVu Sans"]  # the second draws formulas: √ ⊤ ᵢ →

# A figure is drawn 4.8 inches wide. On a 700 px page one inch becomes 146 px, and text of 9 pt
# 18 px; on a 360 px phone, where 330 px are left for the figure, 9 pt are still 8.6 px.
PAGE_WIDTH = 4.8
FONT_SIZE = 10.0
SMALL = 9.0
TITLE_SIZE = 11.5

# One card for light and dark pages: a soft white, near-black text on it.
CARD = "#fcfcfa"
INK = "#22262b"
MUTED = "#5b636d"
RULE = "#d9dce0"
FAINT = "#eef0f2"

PALETTE = ("#1c6dc0", "#c24a08", "#00805f", "#74307f", "#8a6d00", "#4d5560")
"""The colours of curves and bars, in the order of use.

The first four are told apart by people with protanopia, deuteranopia and tritanopia, and each
reads as text on the card; the tests measure both.
"""

ACCENT = PALETTE[1]
# Beside its colour each curve has a pattern of its own.
LINE_STYLES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)), "-", (0, (5, 1.5)))

# In both maps 65 steps are as smooth to the eye as 256, and the pictures stay small.
SEQUENTIAL = LinearSegmentedColormap.from_list(
    "nihao_sequential", ["#f7f9fb", "#d3e3f1", "#9cc4e3", "#559bce", "#1f6fb4", "#0b3f70"], N=65
)
"""Colours for what begins at 0, as attention weights: white to dark blue."""

DIVERGING = LinearSegmentedColormap.from_list(
    "nihao_diverging",
    ["#0b4f8a", "#4d97cb", "#b5d3e9", "#f8f8f6", "#f6c8a4", "#dd7a3a", "#93390a"],
    N=65,
)
"""Colours for what has a sign: blue below 0, white at 0, orange above."""


def use_style() -> None:
    """Make matplotlib draw in the book's style; importing ``lmlib.viz`` does it once.

    The font is set through ``font.family``: with ``font.sans-serif`` the fallback to DejaVu
    Sans is not tried character by character, and √ turns into a box.
    """
    font = str(assets.font_path())
    if font not in {entry.fname for entry in font_manager.fontManager.ttflist}:
        font_manager.fontManager.addfont(font)
    matplotlib.rcParams.update(
        {
            "font.family": FONT_FAMILIES,
            "font.size": FONT_SIZE,
            "mathtext.fontset": "dejavusans",
            "axes.unicode_minus": True,
            "figure.figsize": (PAGE_WIDTH, 3.2),
            "figure.dpi": 100,
            "figure.facecolor": CARD,
            "figure.constrained_layout.use": True,
            "savefig.dpi": 200,
            "savefig.facecolor": CARD,
            "text.color": INK,
            "axes.facecolor": CARD,
            "axes.edgecolor": MUTED,
            "axes.linewidth": 0.8,
            "axes.labelcolor": MUTED,
            "axes.labelsize": FONT_SIZE,
            "axes.titlesize": TITLE_SIZE,
            "axes.titlelocation": "left",
            "axes.titlecolor": INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": cycler(color=PALETTE),
            "axes.axisbelow": True,
            "grid.color": RULE,
            "grid.linewidth": 0.6,
            "lines.linewidth": 1.6,
            "xtick.color": MUTED,
            "ytick.color": MUTED,
            "xtick.labelcolor": INK,
            "ytick.labelcolor": INK,
            "xtick.labelsize": SMALL,
            "ytick.labelsize": SMALL,
            "xtick.major.size": 3,
            "ytick.major.size": 3,
            "legend.frameon": False,
            "legend.fontsize": SMALL,
            "hatch.linewidth": 0.5,
            "image.cmap": "viridis",
        }
    )


def relative_luminance(color: object) -> float:
    """Return the WCAG 2 relative luminance of a colour, 0 (black) to 1 (white)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def text_on(color: object) -> str:
    """Return black or white, whichever reads better on a background (at least 4.5 : 1)."""
    return "black" if relative_luminance(color) > 0.18 else "white"
