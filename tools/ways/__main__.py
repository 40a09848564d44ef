"""Try one way of coming to lmlib: `python -m tools.ways`, then the one and its options."""

from __future__ import annotations

import argparse
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import lmlib
from tools.tree import ROOT
from tools.ways.chapters import Result, run_chapter
from tools.ways.environments import (
    WAYS,
    Environment,
    address_of,
    build,
    changes,
    new_environment,
    run,
)

EXTRAS = ("lab", "huggingface", "recipes", "book", "test")
LIMIT_MB = 30
# Chapters that need nothing but what lmlib ships; others fetch a corpus or another package.
OFFLINE = ("01", "05")
# Chapters that compute on lmlib.device().
ON_DEVICE = ("05", "06", "07", "08", "09")
# In cells that a pretended GPU cannot run: torch's tracer, which exports to ONNX, does not follow a
# backend in Python; and autocast casts nothing there, while this cell shows what its casts do.
NOT_PRETENDED = ("import onnxruntime", "def trained_with(wrapped)")


def run_all(environment: Environment, chapters: list[Path], **how: Any) -> list[Result]:
    """Run the chapters one after the other and say of each how it went."""
    results = []
    for path in chapters:
        result = run_chapter(environment, path, **how)
        verdict = f"{len(result.problems)} problems" if result.problems else "as stored"
        times = f"{result.seconds:6.0f} s (first cell {result.first_cell:.1f} s)"
        line = f"  {result.chapter:20} {times}, {result.figures} live figures: {verdict}"
        print(line, flush=True)
        for problem in result.problems:
            print(f"    {problem}", flush=True)
        results.append(result)
    return results


def failures(results: list[Result]) -> list[str]:
    """One line for each chapter that did not come out as it is stored."""
    return [f"{r.chapter}: {len(r.problems)} problems" for r in results if r.problems]


def colab(image: str, chapters: list[Path]) -> list[str]:
    """What is there stays as it is, and each chapter's own first cell brings the rest."""
    print(f"Colab with Python {image} (constraints/colab-{image}.txt)", flush=True)
    sdist, _ = build(WAYS / "dist")
    environment = new_environment(f"colab-{image}", image)
    environment.install("-r", ROOT / "constraints" / f"colab-{image}.txt")
    before = environment.packages()
    results = run_all(environment, chapters, address=address_of(sdist), fresh=True)
    after = environment.packages()
    new = [f"{name} {after[name]}" for name in sorted(after.keys() - before.keys())]
    changed = changes(before, after)
    print(f"  {len(before)} packages were there; changed: {', '.join(changed) or 'none'}")
    print(f"  new: {', '.join(new)}")
    return failures(results) + changed


def versions(way: str, version: str, chapters: list[Path], unit: bool) -> list[str]:
    """Every dependency as old, or as new, as pyproject.toml allows."""
    resolution = {"oldest": "lowest-direct", "newest": "highest"}[way]
    print(f"{way}: Python {version}, uv's resolution {resolution}", flush=True)
    environment = new_environment(way, version)
    extras = [word for extra in EXTRAS for word in ("--extra", extra)]
    everything = ["-r", str(ROOT / "pyproject.toml"), *extras]
    environment.install("--upgrade", "--resolution", resolution, *everything)
    environment.install("--no-deps", build(WAYS / "dist")[1])
    packages = environment.packages()
    print(
        "  "
        + ", ".join(f"{n} {packages[n]}" for n in ("torch", "numpy", "matplotlib", "ipywidgets"))
    )
    wrong = failures(run_all(environment, chapters))
    if unit:
        tests = ("-q", "-n", "2", "--dist", "loadfile", "tests", "--ignore", "tests/site")
        print(run(environment.python, "-m", "pytest", *tests, "-p", "no:cacheprovider"))
    return wrong


def wheel(version: str, chapters: list[Path]) -> list[str]:
    """The built package, alone in an environment, with no network and no repository around it."""
    sdist, built = build(WAYS / "dist")
    wrong = []
    for file in (sdist, built):
        size = file.stat().st_size / 1e6
        count = _count(file)
        print(f"{file.name}: {size:.1f} MB, {count} files", flush=True)
        if size >= LIMIT_MB:
            wrong.append(f"{file.name} has {size:.1f} MB, {LIMIT_MB} MB is the limit")
    environment = new_environment("wheel", version)
    # A notebook needs a kernel; all else comes from the package's own dependencies.
    environment.install(built, "ipykernel")
    return wrong + failures(run_all(environment, chapters, network=False, fresh=True))


def gpu(chapters: list[Path]) -> list[str]:
    """On the GPU that this machine has; else on one that is pretended."""
    environment = Environment(Path(sys.prefix))
    if lmlib.device().type != "cpu":
        print(f"on {lmlib.device()}", flush=True)
        return failures(run_all(environment, chapters))
    print("no GPU is here; on one that is pretended (tools/ways/pretend_gpu.py)", flush=True)
    first = "from tools.ways.pretend_gpu import install; install()"
    return failures(run_all(environment, chapters, first=first, without=NOT_PRETENDED))


def _count(file: Path) -> int:
    if file.suffix == ".whl":
        with zipfile.ZipFile(file) as archive:
            return len(archive.namelist())
    with tarfile.open(file) as archive:
        return sum(member.isfile() for member in archive)


def main() -> int:
    """Command line: see the top of this file."""
    parser = argparse.ArgumentParser(description="Try one way of coming to lmlib.")
    parser.add_argument("way", choices=["colab", "oldest", "newest", "wheel", "gpu"])
    parser.add_argument("--python", help="version of Python; of colab: which of its lists")
    parser.add_argument(
        "--chapters", nargs="*", help="beginnings of names, such as 01; all without"
    )
    parser.add_argument("--no-unit", action="store_true", help="run the chapters alone")
    options = parser.parse_args()
    few = {"wheel": OFFLINE, "gpu": ON_DEVICE}
    chosen = tuple(options.chapters or few.get(options.way, ("",)))
    stored = sorted((ROOT / "chapters").glob("*.ipynb"))
    chapters = [path for path in stored if path.name.startswith(chosen)]
    if options.way == "colab":
        wrong = colab(options.python or "3.12", chapters)
    elif options.way == "wheel":
        wrong = wheel(options.python or "3.12", chapters)
    elif options.way == "gpu":
        wrong = gpu(chapters)
    else:
        version = options.python or {"oldest": "3.10", "newest": "3.13"}[options.way]
        wrong = versions(options.way, version, chapters, not options.no_unit)
    for line in wrong:
        print(f"FAILED {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
