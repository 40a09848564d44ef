"""What every live figure shares: its files, its float16 tensors, its picture and its alt text.

A live figure is one object with two homes.  In a kernel (JupyterLab, Colab) it is a full
ipywidget: `observe`, `jslink` and layout boxes work, and Python and the browser share its state.
In the published page there is no kernel, so all of its arithmetic lives in
`static/<figure_name>.js`; the Python class repeats the same formula for the picture that is
shown where nothing can run, and for the tests that hold the two equal.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import anywidget
import numpy as np
import traitlets

from lmlib import viz

STATIC = Path(__file__).parent / "static"

#: Stands for `_esm` in saved notebooks, so that an edit of the JavaScript does not change them.
STUB_ESM = (
    "export default { render({ el }) { "
    'el.textContent = "运行这一格（Shift+Enter），图就可以操作。"; } };\n'
)

_FLOAT16_MAX = float(np.finfo(np.float16).max)


#: A line of a figure's main file that puts the files of that name in front of its own.
_NEEDS = re.compile(r"^// needs: ([a-z_]+)$", re.MULTILINE)


@functools.cache
def source(figure_name: str, suffix: str) -> str:
    """All files of a figure as one self-contained text; `suffix` is `".js"` or `".css"`.

    That is every `common*` file, then every `<figure_name>*` file, each in order of name, so a
    long figure may be cut into `<figure_name>.js`, `<figure_name>_parts.js` …  They use each
    other's functions without an import, because a page opened from disk cannot import modules.
    A figure whose `<figure_name>.js` has the line ``// needs: model`` also gets every `model*`
    file, which runs the shipped models, in front of its own.
    """
    needed = _NEEDS.findall((STATIC / f"{figure_name}.js").read_text(encoding="utf-8"))
    files = [
        file
        for start in ("common", *needed, figure_name)
        for file in sorted(STATIC.glob(f"{start}*{suffix}"))
    ]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def as_float_array(name: str, value: Any, ndim: int | tuple[int, ...]) -> np.ndarray:
    """Array, nested list or tensor (any device and dtype) → finite float32 array.

    `name` is the argument's name in the errors; `ndim` the allowed number(s) of dimensions.

    Raises:
        TypeError: `value` is not numeric.
        ValueError: wrong number of dimensions, an empty axis, or a value that is NaN, infinite
            or too large for float16.
    """
    if hasattr(value, "detach"):  # a torch tensor, without importing torch here
        value = value.detach().cpu().float().numpy()
    try:
        array = np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name} must be a numeric array or tensor, got {type(value).__name__}"
        ) from error
    allowed = (ndim,) if isinstance(ndim, int) else ndim
    if array.ndim not in allowed:
        wanted = " or ".join(str(n) for n in allowed)
        raise ValueError(f"{name} must have {wanted} dimensions, got shape {array.shape}")
    if array.size == 0:
        raise ValueError(f"{name} must not be empty, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, but it contains NaN or infinity")
    if np.abs(array).max() > _FLOAT16_MAX:
        raise ValueError(
            f"{name} must fit float16 (at most ±{_FLOAT16_MAX:.0f}), "
            f"got a value of size {np.abs(array).max():.6g}"
        )
    return array


def as_tokens(name: str, value: Sequence[str], length: int) -> list[str]:
    """A text (one token a character) or a sequence of texts → list of exactly `length` tokens."""
    tokens = list(value)
    for token in tokens:
        if not isinstance(token, str):
            raise TypeError(f"{name} must be texts, got {type(token).__name__}")
    if len(tokens) != length:
        raise ValueError(f"{name} must have {length} tokens, one a position, got {len(tokens)}")
    return tokens


def pack_float16(array: np.ndarray) -> bytes:
    """Little-endian float16 bytes in C order, the form in which tensors travel to the browser."""
    return np.ascontiguousarray(array, dtype="<f2").tobytes()


def unpack_float16(data: bytes, shape: Sequence[int]) -> np.ndarray:
    """The inverse of `pack_float16`: a float64 array of `shape`."""
    return np.frombuffer(data, dtype="<f2").reshape(shape).astype(np.float64)


def check_length(text: str, most: int) -> str:
    """The value of the trait `text`, if the figure takes so long a one.

    Raises:
        traitlets.TraitError: it has more than ``most`` characters.
    """
    if len(text) > most:
        raise traitlets.TraitError(f"text must have at most {most} characters, got {len(text)}")
    return text


class LiveFigure(anywidget.AnyWidget):
    """Base of the live figures.

    A subclass sets `figure_name`, adds traits tagged `sync=True` that are JSON or `Bytes`, writes
    `static/<figure_name>.js` and `.css`, and implements `_draw` and `_describe`.

    Args:
        title: Chinese heading of the figure.
        alt: Chinese sentence that says what the figure shows; it stands for the figure wherever
            it cannot be seen.
    """

    figure_name: ClassVar[str] = ""
    #: The shared traits that may be given to `__init__` by name, for `_check_knobs`.
    _knobs: ClassVar[tuple[str, ...]] = ()

    _figure = traitlets.Unicode().tag(sync=True)
    title = traitlets.Unicode().tag(sync=True)
    alt = traitlets.Unicode().tag(sync=True)

    # ipywidgets 7 (Colab) defines this method, and IPython would prefer it to the mimebundle.
    _ipython_display_ = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # Only where the name is set: anywidget derives a class for each object, with `_esm` as
        # a trait, which must not be written over.
        if "figure_name" in cls.__dict__:
            cls._esm = source(cls.figure_name, ".js")
            cls._css = source(cls.figure_name, ".css")
        super().__init_subclass__(**kwargs)

    def __init__(self, *, title: str, alt: str, **traits: Any) -> None:
        for name, text in (("title", title), ("alt", alt)):
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"{name} must be a non-empty text, got {text!r}")
        super().__init__(_figure=self.figure_name, title=title, alt=alt, **traits)

    @classmethod
    def _check_knobs(cls, traits: Mapping[str, Any]) -> None:
        unknown = sorted(set(traits) - {"layout", *cls._knobs})
        if unknown:
            raise TypeError(f"unexpected argument {unknown[0]!r}; the traits are {cls._knobs}")

    def _draw(self) -> viz.BookFigure:
        """The figure as it stands now, drawn by `viz` from the Python twin of the formula."""
        raise NotImplementedError

    def _describe(self) -> dict[str, object]:
        """What `repr` shows: a few short facts such as tokens and shapes."""
        raise NotImplementedError

    def png(self) -> bytes:
        """The still picture, the same bytes for the same state."""
        return viz.to_png(self._draw())

    def __repr__(self) -> str:
        facts = ", ".join(f"{name}={value!r}" for name, value in self._describe().items())
        return f"{type(self).__name__}({facts})"

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The widget for a running front end; its picture and alt text for everything else."""
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        figure = self._draw()
        figure.alt = self.alt
        still, still_metadata = figure._repr_mimebundle_()
        return {**data, **still}, {**metadata, **still_metadata}
