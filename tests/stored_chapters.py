"""The notebooks as they are stored, for the tests that read them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "chapters").glob("*.ipynb"))
# The others, without a number, are pages of the appendix.
CHAPTERS = [path for path in NOTEBOOKS if path.stem[:2].isdecimal()]
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
each_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)


@cache
def read(path: Path) -> Any:
    """The notebook; it is shared, so leave it as it is."""
    return nbformat.read(path, as_version=4)


def cells(path: Path, kind: str) -> list[Any]:
    """Its cells of a kind: "code" or "markdown"."""
    return [cell for cell in read(path).cells if cell.cell_type == kind]
