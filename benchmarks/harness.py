"""How the benchmarks measure: competitors side by side in one run, medians, ratios, peak memory.

``make bench`` runs every ``benchmarks/*.py`` that has a ``main``; one alone runs as
``python -m benchmarks.training [--quick]``.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

FOLDER = Path(__file__).parent
STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Row:
    """One competitor of a `compare`.

    Attributes:
        label: its name.
        median: seconds of one call.
        rate: units of work a second, or None.
        ratio: its time over the first competitor's, in the same round; median of all rounds.
        low, high: the quartiles of that ratio.
    """

    label: str
    median: float
    rate: float | None
    ratio: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """What `compare` found, the first competitor first."""

    name: str
    unit: str
    rows: list[Row]

    def __str__(self) -> str:
        header = ["", "ms", f"{self.unit}/s", "time ÷ first's", "quartiles"]
        cells = [
            [
                row.label,
                f"{row.median * 1e3:.1f}",
                "" if row.rate is None else f"{row.rate:,.0f}",
                f"{row.ratio:.2f}",
                f"{row.low:.2f} … {row.high:.2f}",
            ]
            for row in self.rows
        ]
        return f"### {self.name}\n\n{table(header, cells)}\n"


def compare(
    name: str,
    competitors: dict[str, Callable[[], object]],
    *,
    repeats: int = 9,
    warmup: int = 2,
    work: float | None = None,
    unit: str = "calls",
    clock: Callable[[], float] = time.perf_counter,
) -> Comparison:
    """Time all competitors in turns, so that a busy moment of the machine meets them alike.

    Args:
        name: heading of the table.
        competitors: label → what to call; the others are compared with the first.
        repeats: timed rounds, in each of which everyone is called once.
        warmup: rounds before that.
        work: how many ``unit`` (say tokens) one call does.

    Raises:
        ValueError: no competitor, or repeats below 1.
    """
    if not competitors or repeats < 1:
        raise ValueError(
            f"compare needs a competitor and a round, got {len(competitors)} and {repeats}"
        )
    seconds: dict[str, list[float]] = {label: [] for label in competitors}
    for round_number in range(-warmup, repeats):
        for label, call in competitors.items():
            start = clock()
            call()
            if round_number >= 0:
                seconds[label].append(clock() - start)
    first = next(iter(seconds.values()))
    rows = []
    for label, own in seconds.items():
        ratios = [mine / base for mine, base in zip(own, first, strict=True)]
        low, ratio, high = quartiles(ratios)
        median = statistics.median(own)
        rate = None if work is None else work / median
        rows.append(Row(label, median, rate, ratio, low, high))
    return Comparison(name, unit, rows)


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The quarter, the middle and the three quarters of the sorted values."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns also line up as plain text."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    align = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    padded = [
        [cell.ljust(widths[0]) if i == 0 else cell.rjust(widths[i]) for i, cell in enumerate(line)]
        for line in [lines[0], align, *lines[1:]]
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


# ------------------------------------------------------------------ memory


def peak_memory(target: str, *args: object, calls: int = 3) -> float:
    """MiB that a workload needs at its highest, above what its imports left, in a fresh process.

    Args:
        target: "module:function"; the function, called with ``args`` (numbers and strings), builds
            everything and returns what to call.
        calls: how often to call it.
    """
    code = (
        "import sys, json; from benchmarks.harness import measure_peak; "
        "print(measure_peak(*json.loads(sys.argv[1])))"
    )
    arguments = json.dumps([target, list(args), calls])
    found = subprocess.run(
        [sys.executable, "-c", code, arguments],
        check=True, capture_output=True, text=True, cwd=FOLDER.parent,
    )  # fmt: skip
    return float(found.stdout.split()[-1])


def measure_peak(target: str, args: list[object], calls: int) -> float:
    """The inside of `peak_memory`; it changes this process's records, so it wants its own."""
    module, function = target.split(":")
    build = getattr(import_module(module), function)
    before = _resident("VmRSS")
    call = build(*args)
    for _ in range(calls):
        call()
    return (_resident("VmHWM") - before) / 1024


def _resident(field: str) -> float:
    """KiB of this process: VmRSS now, VmHWM at most so far."""
    if STATUS.exists():
        for line in STATUS.read_text().splitlines():
            if line.startswith(field + ":"):
                return float(line.split()[1])
    import resource  # macOS: the highest only, in bytes

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory_table(targets: dict[str, tuple[str, tuple[object, ...]]]) -> str:
    """`peak_memory` of each label's target and arguments, as a table."""
    peaks = {label: peak_memory(target, *args) for label, (target, args) in targets.items()}
    first = next(iter(peaks.values()))
    rows = [[label, f"{mib:.0f}", f"{mib / first:.2f}"] for label, mib in peaks.items()]
    return table(["peak memory", "MiB", "÷ first's"], rows) + "\n"


# ------------------------------------------------------------------ running


def options(argv: Sequence[str] | None, description: str | None) -> argparse.Namespace:
    """The options that each benchmark has: ``--quick`` and ``--threads``."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run: small and short")
    threads = int(os.environ.get("OMP_NUM_THREADS", "2"))
    parser.add_argument("--threads", type=int, default=threads, help="of torch's operations")
    return parser.parse_args(argv)


def benchmarks() -> list[str]:
    """The modules of this folder that have a ``main``, this one aside."""
    found = []
    for path in sorted(FOLDER.glob("*.py")):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        has_main = any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in body)
        if has_main and path.stem != "harness":
            found.append(f"benchmarks.{path.stem}")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run all benchmarks, each in a process of its own."""
    found = options(argv, __doc__)
    os.environ["OMP_NUM_THREADS"] = str(found.threads)
    failed = []
    for module in benchmarks():
        print(f"\n## {module}\n", flush=True)
        command = [sys.executable, "-m", module, *(["--quick"] if found.quick else [])]
        if subprocess.run(command, cwd=FOLDER.parent, check=False).returncode:
            failed.append(module)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
