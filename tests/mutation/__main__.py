"""Seed mistakes one at a time into a copy of the book, and see that `make test` meets each.

    make mutation                               all of them; about an hour
    make mutation MUTATION_ARGS='--only mask'   those with a word in their names
    make mutation MUTATION_ARGS=--list          what there is
    make mutation MUTATION_ARGS=--full          the whole stage instead of a selection: hours
    make mutation MUTATION_ARGS=--write         put what comes out into README.md's table

The selections are run without any mistake first: they must be green. A mistake that survives, or
that breaks more than a test, makes the command fail.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mutation.changes import STAGES, Mutation
from mutation.code import CODE
from mutation.copies import check_import, copy_tree, mutated
from mutation.models import MODELS
from mutation.pages import PAGES
from mutation.stages import Outcome, run

MUTATIONS = [*MODELS, *CODE, *PAGES]
README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- written by tests/mutation/__main__.py -->\n", "<!-- end -->\n"


def check_green(mutations: Sequence[Mutation], copy: Path, full: bool) -> bool:
    """Without a mistake every selection is green; else say what is not."""
    for stage in STAGES:
        own = [mutation for mutation in mutations if mutation.stage == stage]
        if not own:
            continue
        selection = sorted({test for mutation in own for test in mutation.tests})
        outcome = run(stage, selection, copy, full=full)
        print(f"{stage:6} {outcome.seconds:5.0f} s  without a mistake", flush=True)
        if not outcome.green:
            print(f"{outcome.output}\n{stage} is red without any mistake: mend that first")
            return False
    return True


def verdict(outcome: Outcome) -> str:
    """What became of a mistake, in a few words."""
    if outcome.green:
        return "SURVIVED"
    return outcome.caught_by or f"BROKEN\n{outcome.output[-2000:]}"


def row(mutation: Mutation, outcome: Outcome) -> str:
    """A row of README.md's table."""
    caught, seconds = verdict(outcome), f"{outcome.seconds:.0f}"
    cells = (mutation.name, f"`{mutation.change.path}`", mutation.stage, f"`{caught}`", seconds)
    return f"| {' | '.join(cells)} |\n"


def table(known: str, outcomes: Sequence[tuple[Mutation, Outcome]]) -> str:
    """README.md's table: of each mistake the new row, or else the one that is ``known``."""
    rows = {line.split(" | ")[0]: f"{line}\n" for line in known.splitlines()}
    rows |= {f"| {mutation.name}": row(mutation, outcome) for mutation, outcome in outcomes}
    head = "| mistake | in | stage | caught by | seconds |\n|---|---|---|---|---:|\n"
    return head + "".join(rows.get(f"| {mutation.name}", "") for mutation in MUTATIONS)


def write(outcomes: Sequence[tuple[Mutation, Outcome]], readme: Path = README) -> None:
    """Put what came out where README.md's old rows stand."""
    text = readme.read_text(encoding="utf-8")
    start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    new = table(text[start:end], outcomes)
    readme.write_text(text[:start] + new + text[end:], encoding="utf-8")


def seed(mutations: Sequence[Mutation], copy: Path, full: bool) -> list[tuple[Mutation, Outcome]]:
    """Make each mistake in turn, and tell at once what became of it."""
    outcomes = []
    for mutation in mutations:
        with mutated(mutation, copy):
            outcome = run(mutation.stage, mutation.tests, copy, full=full)
        outcomes.append((mutation, outcome))
        told = f"{mutation.name}  →  {verdict(outcome)}"
        print(f"{mutation.stage:6} {outcome.seconds:5.0f} s  {told}", flush=True)
    return outcomes


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: see the top of this file."""
    parser = argparse.ArgumentParser(description="Seed mistakes, see that the tests catch them.")
    parser.add_argument("--only", default="", help="words, separated by commas, of the names")
    parser.add_argument("--stage", choices=STAGES, help="the mistakes of one stage alone")
    parser.add_argument("--list", action="store_true", help="name the mistakes; run nothing")
    parser.add_argument("--full", action="store_true", help="run the whole stage each time")
    parser.add_argument("--write", action="store_true", help="into the table of README.md")
    parser.add_argument("--copy", type=Path, help="the folder of a copy to keep and use again")
    options = parser.parse_args(arguments)
    words = options.only.split(",")
    chosen = [
        mutation
        for mutation in MUTATIONS
        if any(word in mutation.name for word in words) and options.stage in (None, mutation.stage)
    ]
    if not chosen:
        parser.error(f"no mistake has one of these words in its name: {options.only}")
    if options.list:
        print("".join(f"{m.stage:6} {m.name}\n" for m in chosen), end="")
        return 0

    copy = Path(options.copy or tempfile.mkdtemp(prefix="nihao-mutation-")).resolve()
    try:
        copy_tree(copy)
        check_import(copy)
        if not check_green(chosen, copy, options.full):
            return 2
        outcomes = seed(chosen, copy, options.full)
    finally:
        if options.copy is None:
            shutil.rmtree(copy, ignore_errors=True)
    missed = [m.name for m, o in outcomes if o.green or o.caught_by is None]
    print(f"{len(outcomes) - len(missed)} of {len(outcomes)} mistakes were caught")
    if missed:
        print("not caught: " + "; ".join(missed))
    elif options.write:
        write(outcomes)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
