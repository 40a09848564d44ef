"""Imports: what ``import lmlib`` and each public module add to ``import torch``."""

from __future__ import annotations

import pkgutil
import statistics
import subprocess
import sys
from collections.abc import Sequence

import lmlib
from benchmarks.harness import options, table

# Statements timed inside a fresh interpreter: its own start is not counted.
CODE = """
import time
start = time.perf_counter()
import torch
torch_done = time.perf_counter()
{statement}
done = time.perf_counter()
print(torch_done - start, done - torch_done)
"""


def public_modules() -> list[str]:
    """The public modules and packages right below lmlib."""
    names = [info.name for info in pkgutil.iter_modules(lmlib.__path__)]
    return [f"lmlib.{name}" for name in sorted(names) if not name.startswith("_")]


def seconds(statement: str) -> tuple[float, float]:
    """``import torch``, and the statement after it, in a fresh process."""
    found = subprocess.run(
        [sys.executable, "-c", CODE.format(statement=statement)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    torch_seconds, added = found.stdout.split()[-2:]
    return float(torch_seconds), float(added)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    found = options(argv, __doc__)
    modules = public_modules()
    drawing = [name for name in modules if name.endswith((".viz", ".widgets", ".exercises"))]
    computing = [name for name in modules if name not in drawing]
    statements = {
        "lmlib": "import lmlib",
        "all but viz, widgets, exercises": f"import {', '.join(computing)}",
        "all": f"import {', '.join(modules)}",
    }
    if not found.quick:
        statements |= {name: f"import {name}" for name in modules}
    rounds = 1 if found.quick else 5
    measured: dict[str, list[tuple[float, float]]] = {label: [] for label in statements}
    for _ in range(rounds):
        for label, statement in statements.items():
            measured[label].append(seconds(statement))
    torch_all = statistics.median(pair[0] for pairs in measured.values() for pair in pairs)
    rows = [["torch itself", f"{torch_all:.2f}"]]
    for label, pairs in measured.items():
        rows.append([label, f"+{statistics.median(pair[1] for pair in pairs):.3f}"])
    print(table(["import", "s"], rows) + "\n")


if __name__ == "__main__":
    main()
