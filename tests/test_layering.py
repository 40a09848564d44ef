"""lmlib is layered: a module imports lmlib modules of the rows above it only."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import lmlib

PACKAGE = Path(lmlib.__file__).parent

# One row a module, in order; a row may be written later. A private module that was split off a
# row has its own before that. Below the first row lies the base: the package itself, its other
# private modules, and assets.
ROWS = [
    *("tokenizers", "positions", "attention", "layers"),
    *("ngram", "recurrent", "_stacks", "transformer", "bert", "_decode_step", "gpt"),
    *(
        "datasets",
        "training",
        "generation",
        "metrics",
        "_huggingface",
        "pretrained",
        "export",
        "_trace_plan",
        "trace",
    ),
    *("viz", "widgets", "recipes", "exercises"),
]


def row(module: str) -> int:
    """The row of an lmlib module, given by its first name below lmlib; the base is −1."""
    if module in ROWS:
        return ROWS.index(module)
    base = module == "assets" or module.startswith("_")
    assert base, f"lmlib.{module} has no row: add it to ROWS where it belongs"
    return -1


def imported(source: str, package: tuple[str, ...]) -> set[str]:
    """The first names below lmlib that ``source``, a module of ``package``, imports anywhere."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else ()
            parts = [*parents, *(node.module or "").split(".")]
            stem = ".".join(part for part in parts if part)
            # `from lmlib import x` may mean the module x.
            names = [f"{stem}.{alias.name}" for alias in node.names] if stem == "lmlib" else [stem]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("lmlib.")}
    return found


def modules() -> list[Path]:
    return sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def first_name(path: Path) -> str:
    return path.with_suffix("").parts[0]


def wrong_imports(path: Path, source: str) -> list[str]:
    own = first_name(path)
    names = imported(source, ("lmlib", *path.parts[:-1]))
    names -= {own, *lmlib.__all__}  # `from lmlib import device` takes from the package itself
    return sorted(name for name in names if row(name) >= max(row(own), 0))


@pytest.mark.parametrize("path", modules(), ids=str)
def test_imports_come_from_the_rows_above(path: Path) -> None:
    wrong = wrong_imports(path, (PACKAGE / path).read_text(encoding="utf-8"))
    assert not wrong, f"lmlib/{path} may not import {wrong}"


@pytest.mark.parametrize(
    ("path", "source", "wrong"),
    [
        ("attention.py", "from lmlib.positions import RotaryEmbedding", []),
        ("attention.py", "from lmlib import positions, device", []),
        ("attention.py", "from lmlib._tap import tap\nimport torch.nn", []),
        ("attention.py", "def f():\n    from lmlib.layers import LayerNorm", ["layers"]),
        ("positions.py", "from .attention import causal_mask", ["attention"]),
        ("positions.py", "from . import viz", ["viz"]),
        ("layers.py", "import lmlib.transformer as t", ["transformer"]),
        ("_checks.py", "from lmlib.attention import causal_mask", ["attention"]),
        ("__init__.py", "from . import trace", ["trace"]),
        ("assets/__init__.py", "from ..tokenizers import CharTokenizer", ["tokenizers"]),
        ("widgets/heatmap.py", "from .base import LiveFigure\nfrom ..viz import show", []),
        ("widgets/heatmap.py", "from ..recipes.vocab import main", ["recipes"]),
    ],
)
def test_the_check_itself(path: str, source: str, wrong: list[str]) -> None:
    assert wrong_imports(Path(path), source) == wrong


def test_a_module_without_a_row_is_named() -> None:
    with pytest.raises(AssertionError, match=r"lmlib\.utils has no row"):
        wrong_imports(Path("utils.py"), "from lmlib.layers import LayerNorm")
