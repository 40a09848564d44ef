"""Chapters run from top to bottom in the kernel of another environment, and what came out of them.

The notebook client is that of .venv; only the kernel, and so every package that a cell imports,
is the environment's. The working folder is empty and outside of the repository, as in Colab.
"""

from __future__ import annotations

import base64
import copy
import difflib
import json
import os
import re
import subprocess
import tempfile
import time
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbval.plugin import coalesce_streams, transform_streams_for_comparison

from tools.notebooks import CELL_SECONDS, ENVIRONMENT, WIDGET_VIEW, repository
from tools.tree import ROOT
from tools.ways.environments import Environment

PNG = "image/png"
# What nbval, as `make nbval` calls it, leaves out of its comparison.
_NOT_COMPARED = {
    "metadata", "traceback", "prompt_number", "output_type", "name", "execution_count",
    WIDGET_VIEW, PNG, "image/jpeg",
}  # fmt: skip
# What pip says beside the point, where a cell installs a package. An ERROR of pip's stays.
_FROM_PIP = re.compile(r"^(?:\x1b\[\d*m)*(?:WARNING: |\[notice\] |Note: ).*\n?", re.MULTILINE)
# The bar of a corpus that is fetched; here and there one lies in the cache, and there is none.
_BAR = re.compile(r"^[^\n]*\d%\|[^\n]*\n?", re.MULTILINE)
# What a kernel without a network, and every Python that it starts, runs first where no network
# namespace can be had.
_NO_SOCKETS = '''\
"""No connection leaves this machine."""
import socket

_connect = socket.socket.connect


def connect(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1"):
        raise OSError(f"there is no network here, and something asked for {address}")
    return _connect(self, address)


socket.socket.connect = connect
'''


class Result(NamedTuple):
    """One chapter in one environment."""

    chapter: str
    seconds: float
    first_cell: float
    figures: int
    problems: list[str]


def with_address(notebook: Any, address: str) -> Any:
    """The notebook, its set-up cell as it is but for the address that lmlib is installed from.

    Raises:
        ValueError: the cell does not name the repository exactly once.
    """
    notebook = copy.deepcopy(notebook)
    (cell,) = (c for c in notebook.cells if "setup" in c.metadata.get("tags", []))
    published = f"git+{repository()}"
    if cell.source.count(published) != 1:
        raise ValueError(f"the set-up cell must name {published} once, it is {cell.source!r}")
    cell.source = cell.source.replace(published, address)
    return notebook


def _can_unshare() -> bool:
    try:
        return subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode == 0
    except OSError:
        return False


def _kernel(
    environment: Environment, scratch: Path, network: bool, first: str
) -> AsyncKernelManager:
    """A manager of kernels of this environment; without a network where none is wanted."""
    command = [str(environment.python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    variables = {"PYTHONPATH": ""}
    if first:
        startup = scratch / "ipython/profile_default/startup"
        startup.mkdir(parents=True)
        (startup / "first.py").write_text(first, encoding="utf-8")
        variables = {"PYTHONPATH": str(ROOT), "IPYTHONDIR": str(scratch / "ipython")}
    if not network:
        if _can_unshare():
            command = ["unshare", "-rn", *command]
        else:
            (scratch / "sitecustomize.py").write_text(_NO_SOCKETS, encoding="utf-8")
            variables = {"PYTHONPATH": str(scratch)}
    spec = scratch / "kernels" / "python3"
    spec.mkdir(parents=True)
    described = {"argv": command, "display_name": "Python 3", "language": "python"}
    (spec / "kernel.json").write_text(json.dumps({**described, "env": variables}))
    # Files, not ports: they reach into a network namespace.
    transport = {} if os.name == "nt" else {"transport": "ipc"}
    manager = AsyncKernelManager(kernel_name="python3", **transport)
    manager.kernel_spec_manager.kernel_dirs = [str(scratch / "kernels")]
    if transport:
        manager.ip = str(scratch / "k")
    return manager


def run_chapter(
    environment: Environment,
    path: Path,
    *,
    address: str = "",
    network: bool = True,
    fresh: bool = False,
    first: str = "",
    without: tuple[str, ...] = (),
) -> Result:
    """Run a chapter and compare its text outputs with the stored ones, as `make nbval` does.

    Args:
        environment: whose kernel runs it.
        path: the stored notebook.
        address: where the set-up cell installs lmlib from; it runs as it is where this is empty.
        network: whether the kernel may open connections.
        fresh: as on a new machine, with no corpus fetched before the environment was made.
        first: Python code that the kernel runs before the first cell.
        without: cells with one of these in their source are left out.
    """
    stored = nbformat.read(path, as_version=4)
    notebook = with_address(stored, address) if address else copy.deepcopy(stored)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            if any(words in cell.source for words in without):
                cell.source = ""
    with tempfile.TemporaryDirectory(prefix="ways") as name:
        scratch, folder = Path(name), Path(name, "content")
        folder.mkdir()
        client = NotebookClient(
            notebook,
            km=_kernel(environment, scratch, network, first),
            timeout=4 * CELL_SECONDS,
            allow_errors=True,
            resources={"metadata": {"path": str(folder)}},
        )
        start = time.monotonic()
        variables = {**os.environ, **ENVIRONMENT}
        if fresh:
            variables["NIHAO_LM_CACHE"] = str(environment.folder.parent / "cache")
        client.execute(cleanup_kc=True, env=variables)
        seconds = time.monotonic() - start
    pairs = zip(stored.cells, notebook.cells, strict=True)
    code = [pair for pair in pairs if pair[0].cell_type == "code"]
    figures, problems = 0, []
    for before, after in code:
        if not after.source:
            continue
        problems += problems_of(before.outputs, after)
        figures += sum(WIDGET_VIEW in output.get("data", {}) for output in after.outputs)
    return Result(path.stem, seconds, _seconds_of(code[0][1]), figures, problems)


def _seconds_of(cell: Any) -> float:
    """How long a cell ran, from the time stamps that the client left."""
    stamps = cell.metadata["execution"]
    first, last = stamps["iopub.execute_input"], stamps["shell.execute_reply"]
    begin, end = (datetime.fromisoformat(stamp.replace("Z", "+00:00")) for stamp in (first, last))
    return (end - begin).total_seconds()


def problems_of(stored: list[Any], cell: Any) -> list[str]:
    """What is wrong with a cell that was run: its error, another text, a figure with no picture."""
    name, problems = cell.id, []
    errors = [o for o in cell.outputs if o.output_type == "error"]
    if errors:
        return [f"{name}: {error.ename}: {error.evalue}"[:400] for error in errors]
    for output in cell.outputs:
        data = output.get("data", {})
        if WIDGET_VIEW in data:
            picture = base64.b64decode(data.get(PNG, ""))
            if not picture.startswith(b"\x89PNG") or len(picture) < 1000:
                problems.append(f"{name}: a live figure without its picture")
            if not data.get("text/plain", "").strip():
                problems.append(f"{name}: a live figure without its text")
    old, new = texts(stored), texts(cell.outputs)
    beside_the_point = {"stderr": _BAR}
    if "%pip" in cell.source:
        beside_the_point["stdout"] = _FROM_PIP
    for key, pattern in beside_the_point.items():
        rest = [pattern.sub("", text) for text in new.pop(key, [])]
        new |= {key: rest} if any(rest) else {}
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            lines = difflib.unified_diff(
                "\n".join(old.get(key, [])).splitlines(),
                "\n".join(new.get(key, [])).splitlines(),
                "stored", "here", lineterm="", n=0,
            )  # fmt: skip
            problems.append("\n    ".join([f"{name}: {key} differs", *list(lines)[2:12]]))
    return problems


def texts(outputs: list[Any]) -> dict[str, list[str]]:
    """Kind of output → all its texts, in order: what nbval compares."""
    found = defaultdict(list)
    # nbval joins the pieces of a stream in place.
    joined = coalesce_streams(copy.deepcopy(outputs))
    for output in transform_streams_for_comparison(joined):
        flat = {**output, **output.get("data", {})}
        for key, value in flat.items():
            if key != "data" and key not in _NOT_COMPARED:
                found[key].append(str(value))
    return dict(found)
