"""All that is trained: retrained from scratch, and a table of its metrics (`make models`).

`python -m lmlib.recipes.models` runs every recipe that trains, one after the other, each in
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
from lmlib.recipes._run import experiments_folder, models_folder

HEADER = ("model", "parameters", "MB", "core hours", "metric", "value")
"""The columns of the table."""


def recipes() -> list[str]:
    """The names of the recipes that train: modules that read the options of `arguments`."""
    found = []
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        calls = (n for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.Call))
        if any(isinstance(call.func, ast.Name) and call.func.id == "arguments" for call in calls):
            found.append(path.stem)
    return found


def read_cards(folder: Path | None = None) -> list[dict[str, Any]]:
    """The cards in ``folder``, by name; if not given, those of what is shipped, models first."""
    folders = [models_folder(), experiments_folder()] if folder is None else [folder]
    paths = [path for each in folders for path in sorted(each.glob("*/card.json"))]
    return [json.loads(path.read_text("utf-8")) for path in paths]


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
