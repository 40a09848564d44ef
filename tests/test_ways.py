"""What tools/ways relies on: how an environment is found and judged, how a chapter is run in it."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from packaging.requirements import Requirement
from stored_chapters import NOTEBOOKS, ROOT, cells, each_notebook, read

from lmlib.widgets import AttentionHeatmap
from tools.notebooks import SETUP, WIDGET_VIEW, repository
from tools.ways import __main__ as ways
from tools.ways import chapters, environments
from tools.ways.chapters import problems_of, run_chapter, texts, with_address

COLAB = sorted((ROOT / "constraints").glob("colab-*.txt"))
PICTURE = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(2000)).decode()


def test_a_python_is_found_or_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    version = "{}.{}".format(*sys.version_info[:2])
    variable = "PYTHON" + version.replace(".", "")
    monkeypatch.delenv(variable, raising=False)
    assert environments._is_python(environments.find_python(version), version)
    monkeypatch.setenv(variable, sys.executable)
    assert environments.find_python(version) == Path(sys.executable)
    monkeypatch.setenv("PYTHON31", sys.executable)
    with pytest.raises(SystemExit, match=r"PYTHON31=.* is no Python 3\.1$"):
        environments.find_python("3.1")
    with pytest.raises(SystemExit, match=r"no Python 3\.99 was found.*PYTHON399="):
        environments.find_python("3.99")


def test_what_changed_in_an_environment() -> None:
    before = {"torch": "2.11.0", "numpy": "2.0.2", "tqdm": "4.67.3"}
    assert environments.changes(before, {**before, "sacrebleu": "2.6.0"}) == []
    after = {"torch": "2.15.0", "tqdm": "4.67.3"}
    assert environments.changes(before, after) == ["numpy 2.0.2 → removed", "torch 2.11.0 → 2.15.0"]


@pytest.mark.parametrize("path", COLAB, ids=lambda path: path.stem)
def test_what_colab_has_is_accepted_as_it_is(path: Path) -> None:
    """Each package there is pinned, and within the bounds of pyproject.toml."""
    text = path.read_text(encoding="utf-8")
    pins = dict(re.findall(r"^([a-z0-9-]+)==([0-9][0-9a-z.]*)$", text, flags=re.M))
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len(pins) == len(lines) > 80
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lists = [
        project.split(f"\n{name} = [")[1].split("]")[0] for name in ("dependencies", "huggingface")
    ]
    needed = [Requirement(line) for line in re.findall(r'"(.+?)"', "".join(lists))]
    there = [need for need in needed if need.name in pins]
    assert {need.name for need in needed} - {need.name for need in there} == {"sacrebleu"}
    assert [str(need) for need in there if pins[need.name] not in need.specifier] == []


@each_notebook
def test_the_setup_cell_changes_in_its_address_alone(path: Path) -> None:
    stored = read(path)
    changed = with_address(stored, "file:///dist/nihao_lm.tar.gz")
    (old, new) = (next(c for c in nb.cells if c.cell_type == "code") for nb in (stored, changed))
    assert old.source == SETUP.format(address=repository())
    assert new.source.replace("file:///dist/nihao_lm.tar.gz", f"git+{repository()}") == old.source
    assert "file:///dist/nihao_lm.tar.gz" in new.source


def test_a_setup_cell_that_names_another_place_is_not_run() -> None:
    cell = new_code_cell('%pip install "git+https://elsewhere"', metadata={"tags": ["setup"]})
    with pytest.raises(ValueError, match=r"must name git\+\S+ once"):
        with_address(new_notebook(cells=[cell]), "file:///x")


def test_the_chapters_of_a_gpu_are_those_that_choose_a_device() -> None:
    """And what a pretended one cannot run is one cell each."""
    code = {path.name[:2]: [c.source for c in cells(path, "code")] for path in NOTEBOOKS}
    choosing = {name for name, own in code.items() if "device = lmlib.device()" in "\n".join(own)}
    assert choosing == set(ways.ON_DEVICE)
    for words in ways.NOT_PRETENDED:
        assert sum(words in source for own in code.values() for source in own) == 1


def test_another_sdist_of_the_same_name_has_another_address(tmp_path: Path) -> None:
    """Else pip would take the wheel that it built of the one before."""
    addresses = set()
    for content in (b"old", b"new"):
        (tmp_path / "x.tar.gz").write_bytes(content)
        addresses.add(environments.address_of(tmp_path / "x.tar.gz"))
    assert len(addresses) == 2
    assert all(a.startswith((tmp_path / "x.tar.gz").as_uri() + "#sha256=") for a in addresses)


def stream(text: str, name: str = "stdout") -> Any:
    return new_output("stream", name=name, text=text)


def shown(**data: str) -> Any:
    return new_output("display_data", data={key.replace("__", "/"): v for key, v in data.items()})


def run(*outputs: Any, source: str = "") -> Any:
    return new_code_cell(source, id="c1", outputs=list(outputs))


def test_texts_are_compared_whole_and_pictures_are_not() -> None:
    pieces = [stream("one\n"), stream("two\n"), shown(text__plain="a", image__png="x")]
    assert texts(pieces) == texts([stream("one\ntwo\n"), shown(text__plain="a", image__png="y")])
    assert problems_of(pieces, run(*pieces)) == []
    (found,) = problems_of(pieces, run(stream("one\n"), pieces[2]))
    assert found.startswith("c1: stdout differs")
    assert "-two" in found
    assert problems_of(pieces[:1], run())
    assert problems_of([], run(stream("Note: not from pip")))


def test_what_pip_says_is_left_out_but_for_its_errors() -> None:
    notes = "\x1b[33mWARNING: no such place\x1b[0m\x1b[33m\n\x1b[0mNote: you may need to restart\n"
    pip = "%pip install -q x"
    assert problems_of([], run(stream(notes), source=pip)) == []
    assert problems_of([stream("6 layers\n")], run(stream(notes + "6 layers\n"), source=pip)) == []
    (found,) = problems_of(
        [], run(stream(notes + "ERROR: torch 3 is not compatible\n"), source=pip)
    )
    assert "+ERROR: torch 3" in found


def test_the_bar_of_a_download_is_left_out_and_a_warning_is_not() -> None:
    bar = "x-0.12.tar.gz:  40%|████      | 15M/37M\rx-0.12.tar.gz: 100%|██████████| 37M/37M\n"
    assert problems_of([], run(stream(bar, "stderr"))) == []
    (found,) = problems_of([], run(stream(bar + "FutureWarning: x is deprecated\n", "stderr")))
    assert "+FutureWarning: x" in found
    assert "37M" not in found
    assert problems_of([], run(stream(bar)))


def test_an_error_is_a_problem_and_the_only_one_of_its_cell() -> None:
    error = new_output("error", ename="ImportError", evalue="no lmlib", traceback=[])
    found = problems_of([stream("4\n")], run(error, source="%pip install x"))
    assert found == ["c1: ImportError: no lmlib"]


def test_a_live_figure_has_its_picture_and_its_text() -> None:
    whole = {WIDGET_VIEW: {"model_id": "1"}, "image/png": PICTURE, "text/plain": "Figure(n=1)"}
    for missing, complaint in (("", ""), ("image/png", "picture"), ("text/plain", "text")):
        data = {key: value for key, value in whole.items() if key != missing}
        output = new_output("display_data", data=data)
        found = problems_of([output], run(output))
        assert found == ([f"c1: a live figure without its {complaint}"] if missing else [])


def test_in_colab_a_figure_asks_for_the_manager_of_foreign_widgets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Colab draws widgets that are not ipywidgets' own by a manager that has to be switched on."""
    calls = []
    output: Any = types.ModuleType("google.colab.output")
    output.enable_custom_widget_manager = lambda: calls.append("on")
    output._widgets = types.SimpleNamespace(_installed_url="manager.js")
    monkeypatch.setitem(sys.modules, "google.colab.output", output)
    figure = AttentionHeatmap(np.ones((1, 2, 4)), np.ones((1, 2, 4)), "你好")
    data, metadata = figure._repr_mimebundle_()
    assert calls
    assert metadata[WIDGET_VIEW] == {"colab": {"custom_widget_manager": {"url": "manager.js"}}}
    assert {WIDGET_VIEW, "image/png", "text/plain"} <= data.keys()


@each_notebook
def test_a_chapter_takes_its_device_from_one_place(path: Path) -> None:
    """So a GPU is used, or not, without a change of the code."""
    code = "\n".join(cell.source for cell in cells(path, "code"))
    places = re.findall(r"^ *device = (.*?) *(?:#.*)?$", code, flags=re.M)
    assert places in ([], ["lmlib.device()"])
    # No model and no tensor is sent anywhere by name.
    assert re.findall(r"\.cuda\(|\.to\([\"']|device=[\"']", code) == []
    if places:
        assert "device)" in code.replace("lmlib.device()", "")


@pytest.mark.parametrize("namespace", [True, False])
def test_a_chapter_runs_in_a_kernel_of_the_environment_without_a_network(
    namespace: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a network namespace where the system lends one, and with sockets that refuse."""
    if namespace and not chapters._can_unshare():
        pytest.skip("this system lends no network namespace")
    monkeypatch.setattr(chapters, "_can_unshare", lambda: namespace)
    monkeypatch.setattr(environments.Environment, "python", Path(sys.executable))
    ask = "import socket\nsocket.create_connection(('192.0.2.1', 80), timeout=5)"
    sources = ["import os, sys\nprint(sys.prefix, os.listdir())", ask]
    stored = new_notebook(cells=[new_code_cell(source) for source in sources])
    stored.cells[0].outputs = [stream(f"{sys.prefix} []\n")]
    path = tmp_path / "small.ipynb"
    nbformat.write(stored, path)
    environment = environments.Environment(Path(sys.prefix))
    result = run_chapter(environment, path, network=False)
    assert result.chapter == "small"
    assert result.seconds > result.first_cell > 0
    (problem,) = result.problems
    assert problem.startswith(f"{stored.cells[1].id}: OSError:")


@pytest.mark.skipif(os.name == "nt", reason="the programs are stood for by shell scripts")
def test_a_new_build_of_the_book_keeps_the_environments(tmp_path: Path) -> None:
    """A changed _toc.yml makes `make book` begin anew: with what it builds, and nothing else."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    old = ["requirements.txt", "pyproject.toml", "_build/html/index.html", "_build/html/gone.html"]
    kept = "_build/ways/oldest/env/pyvenv.cfg"
    programs = [".venv/bin/python", ".venv/bin/jupyter-book"]
    for name in [*old, kept, *programs, ".venv/.installed", "_toc.yml", "_config.yml"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n" if name in programs else "", encoding="utf-8")
        path.chmod(0o755)
    for name in old:
        os.utime(tmp_path / name, (0, 0))
    subprocess.run(["make", "book"], cwd=tmp_path, check=True, capture_output=True)
    assert not (tmp_path / "_build/html").exists()
    assert (tmp_path / kept).exists()
