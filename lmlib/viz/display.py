"""Figures as pictures: the same bytes on every run, always with a text that says what they show."""

import base64
import io
import sys
from typing import Any

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

from lmlib.viz.labels import wrapped
from lmlib.viz.style import PAGE_WIDTH, TITLE_SIZE

# Pixels an inch of figure takes on a wide page; the picture has more, for sharp screens.
_PAGE_PIXELS_PER_INCH = 125
_PNG_DPI = 200
_COLORS = 256


class BookFigure(Figure):
    """A figure that a notebook shows by itself, outside pyplot, so that it appears once.

    Attributes:
        alt: what the figure shows, in Chinese; ``show`` sets it.
    """

    alt: str = ""

    def _repr_mimebundle_(self, **_: object) -> tuple[dict[str, str], dict[str, Any]]:
        return _mimebundle(self, self.alt or self.get_suptitle().replace("\n", ""))


def new_figure(height: float, title: str, *, square: bool = False) -> BookFigure:
    """Return an empty figure of page width, with its finding as the title.

    Args:
        height: inches below the title.
        title: one sentence; it is broken into lines where it is too long for one.
        square: whether it is to hold panels of square cells, which are pushed together.
    """
    text = wrapped(title, PAGE_WIDTH - 0.2, TITLE_SIZE)
    head = (text.count("\n") + 1) * TITLE_SIZE * 1.45 / 72 + 0.14
    total = height + head
    engine = ConstrainedLayoutEngine(rect=(0, 0, 1, height / total), compress=square)
    figure = BookFigure(figsize=(PAGE_WIDTH, total), layout=engine)
    figure.suptitle(
        text,
        x=0.1 / PAGE_WIDTH,
        y=1 - 0.1 / total,
        ha="left",
        va="top",
        size=TITLE_SIZE,
        linespacing=1.3,
    )
    return figure


def to_png(figure: Figure) -> bytes:
    """Render a figure: same figure, same bytes (neither date nor software name inside).

    A figure is arranged once, for its first picture: arranging it again moves it by a hair.

    The picture keeps the 256 colours that cover the figure best: a third of the bytes, and no
    colour is off by more than the eye can tell.
    """
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=_PNG_DPI, metadata={"Software": None})
    figure.set_layout_engine("none")
    drawn.seek(0)
    with Image.open(drawn) as picture:
        reduced = picture.convert("RGB").quantize(
            _COLORS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
        )
    saved = io.BytesIO()
    reduced.save(saved, format="png", optimize=True)
    return saved.getvalue()


def show(figure: Figure, *, alt: str) -> None:
    """Display a figure with its alternative text.

    In a notebook the output holds the picture, the text as its plain form (which a test can
    compare) and as the ``alt`` of the picture. Elsewhere the text is printed.

    Args:
        figure: from this package or from pyplot; a pyplot figure is closed.
        alt: what a reader who cannot see the figure must know, in Chinese.

    Raises:
        TypeError: ``figure`` is no matplotlib figure, or ``alt`` no string.
        ValueError: ``alt`` is empty.
    """
    if not isinstance(figure, Figure):
        raise TypeError(f"figure must be a matplotlib Figure, got {type(figure).__name__}")
    if not isinstance(alt, str):
        raise TypeError(f"alt must be a string, got {type(alt).__name__}")
    if not alt.strip():
        raise ValueError("alt must say what the figure shows, got an empty string")
    if isinstance(figure, BookFigure):
        figure.alt = alt
    if _in_notebook():
        from IPython.display import display

        data, metadata = _mimebundle(figure, alt)
        display(data, metadata=metadata, raw=True)
    else:
        print(f"图：{alt}")
    if "matplotlib.pyplot" in sys.modules:
        # A pyplot figure left open would be shown a second time at the end of the cell.
        sys.modules["matplotlib.pyplot"].close(figure)


def _mimebundle(figure: Figure, alt: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Return a notebook output (data, metadata) of the figure."""
    data = {
        "image/png": base64.b64encode(to_png(figure)).decode("ascii"),
        "text/plain": f"图：{alt}",
    }
    width = round(figure.get_size_inches()[0] * _PAGE_PIXELS_PER_INCH)
    return data, {"image/png": {"alt": alt, "width": width}}


def _in_notebook() -> bool:
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return get_ipython() is not None
