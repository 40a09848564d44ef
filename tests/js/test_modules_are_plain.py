"""Every live figure is one plain module: it names no network, no other file, no code from text."""

from __future__ import annotations

from typing import Any

import pytest

from lmlib import widgets
from lmlib.widgets.base import LiveFigure, source

FIGURES = [value for value in vars(widgets).values() if isinstance(value, type)]
FORBIDDEN = (
    "import ",
    "import(",
    "fetch(",
    "XMLHttpRequest",
    "WebSocket",
    "eval(",
    "new Function",
    "://",
)
SVG = "http://www.w3.org/2000/svg"  # the name of a namespace, which nobody loads

PYTHON = '"from lmlib.recipes.poem_gpt import compose'  # text, for the reader to copy


@pytest.mark.parametrize("figure", FIGURES)
def test_the_module_is_plain(figure: type[LiveFigure], run_node: Any) -> None:
    text = source(figure.figure_name, ".js")
    assert [word for word in FORBIDDEN if word in text.replace(SVG, "").replace(PYTHON, "")] == []
    exports = run_node(text, "(figure) => [typeof figure.default.render]", None)
    assert exports == ["function"]


def test_all_figures_are_looked_at() -> None:
    assert {figure.__name__ for figure in FIGURES} == set(widgets.__all__)
