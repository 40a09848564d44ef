"""All shipped models: retrained from scratch, and a table of their metrics (`make models`).

`python -m lmlib.recipes.models` runs every recipe that makes a model, one after the other, each in
a process of its own; with names, those. ``--table`` only prints what the model cards say. A recipe
that was stopped goes on where it was; one that is done is not trained again unless its
checkpoints, in the cache folder, are removed.
"""

from __future__ import annotations

import argparse
import ast
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lmlib.recipes._card import number
from lmlib.recipes._run import models_folder

HEADER = ("model", "parameters", "MB", "core hours", "metric", "value")
"""The columns of the table."""


def recipes() -> list[str]:
    """The names of the recipes that make models: modules with a ``check`` and a ``main``."""
    found = []
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        if {"check", "main"} <= functions:
            found.append(path.stem)
    return found


def read_cards(folder: Path | None = None) -> list[dict[str, Any]]:
    """The model cards in ``folder``, by name of the model; those that are shipped if not given."""
    folder = models_folder() if folder is None else folder
    return [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*/card.json"))]


def table(cards: Sequence[Mapping[str, Any]]) -> str:
    """One line for each metric of each of the ``cards``, in columns."""
    rows = [HEADER]
    for card in cards:
        first = [
            card["name"],
            number(card["model"]["parameters"]),
            f"{card['model']['bytes'] / 1e6:.2f}",
            number(sum(stage["core_hours"] for stage in card["training"])),
        ]
        for metric in card["metrics"]:
            rows.append((*first, metric["name"], number(metric["value"])))
            first = [""] * len(first)
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER))]
    right = {1, 2, 3, 5}
    lines = [
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the recipes, and print the table."""
    known = recipes()
    parser = argparse.ArgumentParser(
        prog="python -m lmlib.recipes.models",
        description="Retrain the shipped models and print their metrics.",
    )
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(known)}; all")
    parser.add_argument("--table", action="store_true", help="train nothing")
    parser.add_argument("--threads", help="of torch, for every recipe; each has its own default")
    given = parser.parse_args(argv)
    if unknown := [name for name in given.names if name not in known]:
        parser.error(f"no recipe {', '.join(unknown)}; there are {', '.join(known)}")
    names = given.names or known
    if not given.table:
        options = [] if given.threads is None else ["--threads", given.threads]
        for name in names:
            print(f"== {name}", flush=True)
            done = subprocess.run([sys.executable, "-m", f"lmlib.recipes.{name}", *options])
            if done.returncode:
                raise SystemExit(f"lmlib.recipes.{name} ended with {done.returncode}")
    cards = [card for card in read_cards() if not given.names or card["name"] in names]
    print(table(cards))


if __name__ == "__main__":
    main()
