"""Run every chapter the one canonical way and store it, so that two runs give the same bytes.

    python tools/notebooks.py [chapters/05_….ipynb …]   run, tidy and store
    python tools/notebooks.py --check …                 run and compare with what is stored
    python tools/notebooks.py --tidy-check …            compare the form alone; runs nothing

Canonical means: one thread, fixed hash seed, cells numbered from one, no time stamps, no
version of the interpreter, widget models with stable ids and without their JavaScript (the
site and a running kernel take that from lmlib, so an edit of a figure dirties no notebook).
The set-up cell of each chapter is written here too: the address of the repository stands in
_config.yml alone.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import hashlib
import json
import os
import pathlib
import re
import sys
from typing import Any

import nbformat
import yaml
from nbclient import NotebookClient

from lmlib.widgets.base import STUB_ESM

ROOT = pathlib.Path(__file__).resolve().parents[1]
CHAPTERS = ROOT / "chapters"
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
MODEL_REF = re.compile(r"^IPY_MODEL_([0-9a-f]{32})$")
CELL_SECONDS = 300
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    # A kernel that imports lazily may be slow to start on a busy machine; it must not warn.
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
}
SETUP = """\
# 在 Colab 里，这一格装好本书的包；在你自己的机器上它什么也不装
import importlib.util

if importlib.util.find_spec("lmlib") is None:
    %pip install -q "nihao-lm @ git+{address}"\
"""


def repository() -> str:
    """Address of the repository, from its one place in _config.yml."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    return str(config["repository"]["url"])


def tidy(notebook: Any, name: str) -> Any:
    """Return ``notebook`` in canonical form: same content, nothing that varies between runs."""
    notebook = copy.deepcopy(notebook)
    _write_setup_cell(notebook)
    for number, cell in enumerate(notebook.cells, start=1):
        cell.id = f"c{number:03d}"
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            cell.outputs = _merge_streams(cell.outputs)
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = cell.execution_count
    widgets = notebook.metadata.get("widgets")
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {
                "display_name": "Python 3",
                "language": "python",
                "name": "python3",
            },
            "language_info": {"name": "python"},
        }
    )
    if widgets:
        state = _stable_widgets(notebook, widgets[WIDGET_STATE]["state"], name)
        if state:
            notebook.metadata["widgets"] = {
                WIDGET_STATE: {"state": state, "version_major": 2, "version_minor": 0}
            }
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def _write_setup_cell(notebook: Any) -> None:
    """Put the cell that installs lmlib in a hosted notebook before all other code."""
    cells = notebook.cells
    setup = next((c for c in cells if "setup" in c.metadata.get("tags", [])), None)
    if setup is None:
        setup = nbformat.v4.new_code_cell(metadata={"tags": ["setup"]})
        first_code = next(i for i, cell in enumerate(cells) if cell.cell_type == "code")
        cells.insert(first_code, setup)
    setup.source = SETUP.format(address=repository())


def _merge_streams(outputs: list[Any]) -> list[Any]:
    """Join neighbouring pieces of one stream: where it is cut depends on timing."""
    merged: list[Any] = []
    for output in outputs:
        last = merged[-1] if merged else None
        if (
            last is not None
            and output.output_type == last.output_type == "stream"
            and output.name == last.name
        ):
            last.text += output.text
        else:
            merged.append(output)
    return merged


def _stable_widgets(notebook: Any, state: dict[str, Any], name: str) -> dict[str, Any]:
    """Rename the widget models by order of appearance; drop those that no output shows."""
    order: list[str] = []

    def visit(model: str) -> None:
        if model in order or model not in state:
            return
        order.append(model)
        for value in state[model]["state"].values():
            for reference in _references(value):
                visit(reference)

    views = [
        output.data[WIDGET_VIEW]
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if WIDGET_VIEW in output.get("data", {})
    ]
    for view in views:
        visit(view["model_id"])
    new = {old: hashlib.md5(f"{name}:{n}".encode()).hexdigest() for n, old in enumerate(order)}
    for view in views:
        view["model_id"] = new[view["model_id"]]

    stable = {}
    for old in order:
        model = json.loads(
            re.sub(
                "|".join(map(re.escape, new)),
                lambda match: new[match.group()],
                json.dumps(state[old]),
            )
        )
        if "_esm" in model["state"]:
            model["state"]["_esm"] = STUB_ESM
            model["state"]["_css"] = ""
        stable[new[old]] = model
    return stable


def _references(value: Any) -> list[str]:
    """Ids of the widget models that a trait's value names, however deep."""
    if isinstance(value, str):
        match = MODEL_REF.match(value)
        return [match.group(1)] if match else []
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [reference for item in value for reference in _references(item)]
    return []


def execute(notebook: Any) -> Any:
    """Run all cells in a fresh kernel with the folder of the chapters as its working folder."""
    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(CHAPTERS)}},
        store_widget_state=True,
    )
    client.execute(env={**os.environ, **ENVIRONMENT})
    return notebook


def dumps(notebook: Any) -> str:
    """Text of the notebook file: Chinese readable, one key order, a final newline."""
    nbformat.validate(notebook)
    return nbformat.writes(notebook, version=nbformat.NO_CONVERT).rstrip("\n") + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Command line: see the top of this file."""
    parser = argparse.ArgumentParser(description="Run every chapter the one canonical way.")
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="run and compare; write nothing")
    mode.add_argument("--tidy-check", action="store_true", help="compare the form; run nothing")
    options = parser.parse_args(arguments)

    if sys.platform == "win32":
        asyncio.set_event_loop_policy(asyncio.WindowsSelectorEventLoopPolicy())  # type: ignore[attr-defined,unused-ignore]
    differing = []
    for path in options.files or sorted(CHAPTERS.glob("*.ipynb")):
        stored = path.read_text(encoding="utf-8")
        notebook = nbformat.reads(stored, as_version=4)
        if not options.tidy_check:
            # The set-up cell is written first, so that what runs is what is stored.
            notebook = execute(tidy(notebook, path.stem))
        text = dumps(tidy(notebook, path.stem))
        if text == stored:
            print(f"{path.name}: unchanged")
        elif options.check or options.tidy_check:
            differing.append(path.name)
            print(f"{path.name}: differs from its canonical form (make notebooks writes it)")
        else:
            path.write_text(text, encoding="utf-8")
            print(f"{path.name}: stored, {len(text.encode()) // 1024} KiB")
    return 1 if differing else 0


if __name__ == "__main__":
    raise SystemExit(main())
