"""The chapters as they are stored: canonical form, clean outputs, short cells, alt texts.

That their outputs are right is nbval's work (``make nbval``).
"""

from __future__ import annotations

import pathlib
from typing import Any

import nbformat
from stored_chapters import NOTEBOOKS, cells, each_chapter, each_notebook, read

from tools import notebooks


def outputs(path: pathlib.Path) -> list[Any]:
    return [output for cell in cells(path, "code") for output in cell.outputs]


def test_there_are_chapters() -> None:
    assert NOTEBOOKS


@each_notebook
def test_is_stored_in_canonical_form(path: pathlib.Path) -> None:
    assert notebooks.main(["--tidy-check", str(path)]) == 0


@each_notebook
def test_was_run_top_to_bottom_without_complaint(path: pathlib.Path) -> None:
    counts = [cell.execution_count for cell in cells(path, "code")]
    assert counts == list(range(1, len(counts) + 1))
    assert [o for o in outputs(path) if o.output_type == "error" or o.get("name") == "stderr"] == []


@each_notebook
def test_cells_are_short(path: pathlib.Path) -> None:
    long = {c.id: n for c in cells(path, "code") if (n := len(c.source.splitlines())) > 30}
    assert long == {}


@each_notebook
def test_every_picture_has_a_chinese_alt_text(path: pathlib.Path) -> None:
    pictures = [o for o in outputs(path) if "image/png" in o.get("data", {})]
    assert pictures
    for picture in pictures:
        alt = picture.metadata.get("image/png", {}).get("alt", "")
        assert len(alt) >= 8
        assert any("\u4e00" <= character <= "\u9fff" for character in alt)


@each_notebook
def test_no_output_is_switched_off(path: pathlib.Path) -> None:
    for cell in cells(path, "code"):
        assert "nbval-ignore-output" not in cell.metadata.get("tags", [])
        assert "NBVAL_IGNORE" not in cell.source


@each_chapter
def test_live_figures_carry_no_source_of_their_own(path: pathlib.Path) -> None:
    """Their JavaScript comes from lmlib, so that an edit of it dirties no chapter."""
    state = read(path).metadata["widgets"][notebooks.WIDGET_STATE]["state"]
    figures = [model["state"] for model in state.values() if "_figure" in model["state"]]
    assert figures
    for figure in figures:
        assert figure["_esm"] == notebooks.STUB_ESM
        assert figure["_css"] == ""


def test_tidy_makes_two_runs_equal() -> None:
    """Random widget ids, split streams, time stamps and versions leave no trace."""

    def run(first: str, second: str, pieces: list[str], version: str) -> Any:
        notebook = nbformat.v4.new_notebook()
        cell = nbformat.v4.new_code_cell("figure", execution_count=1)
        cell.metadata = {"execution": {"iopub.execute_input": version}}
        cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=t) for t in pieces]
        cell.outputs.append(
            nbformat.v4.new_output(
                "display_data",
                data={notebooks.WIDGET_VIEW: {"model_id": first}, "text/plain": "figure"},
            )
        )
        notebook.cells = [cell]
        notebook.metadata = {
            "language_info": {"name": "python", "version": version},
            "widgets": {
                notebooks.WIDGET_STATE: {
                    "state": {
                        first: {
                            "state": {"layout": f"IPY_MODEL_{second}", "_esm": version, "_css": "x"}
                        },
                        second: {"state": {"width": None}},
                        "f" * 32: {"state": {"nobody": "shows this one"}},
                    }
                }
            },
        }
        return notebooks.dumps(notebooks.tidy(nbformat.from_dict(notebook), "chapter"))

    one = run("1" * 32, "2" * 32, ["a", "b"], "3.11.7")
    other = run("9" * 32, "8" * 32, ["ab"], "3.12.1")
    assert one == other
    assert "nobody" not in one
    assert run("1" * 32, "2" * 32, ["a", "c"], "3.11.7") != one
