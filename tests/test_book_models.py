"""The weights of the book's models beside the pages: only those that a figure names, once."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pytest
import torch
from small_book import build, run_in_node, view, widget, write_book, write_notebook
from sphinx.errors import ExtensionError

from lmlib.assets import path
from lmlib.export import pack
from lmlib.pretrained import save_pretrained
from lmlib.tokenizers import CharTokenizer
from lmlib.transformer import Transformer, TransformerConfig
from lmlib.widgets._models import packed_model

from nihao_book import models  # isort: skip


def save_tiny(folder: Path, seed: int = 0) -> bytes:
    """A small model of a book; returns it packed."""
    torch.manual_seed(seed)
    sizes = {"num_encoder_layers": 1, "num_decoder_layers": 1, "max_seq_len": 8}
    model = Transformer(TransformerConfig(9, d_model=8, num_heads=2, d_ff=8, **sizes))  # type: ignore[arg-type]
    tokenizer = CharTokenizer.train(["天地玄黄宇"])
    save_pretrained(model, folder, tokenizer)
    return pack(model.eval(), tokenizer)


def write(folder: Path, cells: list[object], widgets: dict[str, object]) -> None:
    write_book(folder, cells, widgets)
    conf = folder / "conf.py"
    conf.write_text(conf.read_text("utf-8") + 'nihao_models = "models"\n', encoding="utf-8")


def written(site: Path, tmp_path: Path) -> dict[str, bytes]:
    """What a page puts together from the scripts: name of the model → bytes."""
    folder = site / "_static/models"
    scripts = [file.read_text("utf-8") for file in sorted(folder.iterdir())]
    calls = run_in_node(
        tmp_path,
        "const calls = { index: {}, parts: {} };\n"
        "const nlFigures = { addModels: (index) => (calls.index = index),"
        " addModelPart: (file, text) => (calls.parts[file] = text) };\n"
        + "".join(scripts)
        + "process.stdout.write(JSON.stringify(calls));",
    )
    found = {}
    for name, entry in calls["index"].items():
        data = b"".join(base64.b64decode(calls["parts"].pop(part)) for part in entry["parts"])
        assert len(data) == entry["bytes"]
        found[name] = data
    assert not calls["parts"]
    return found


def test_a_figure_that_names_a_model_gets_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "PART_BYTES", 1000)
    site = tmp_path / "_build/html"
    widgets = {
        "a": widget("demo", model="tiny"),
        "b": widget("demo", model="tiny"),
        "c": widget("demo", model=""),
    }
    write(tmp_path, ["# 题", *[[view(key, i)] for i, key in enumerate(widgets)]], widgets)
    data = save_tiny(tmp_path / "models/tiny")
    save_tiny(tmp_path / "models/unused", seed=1)
    assert build(tmp_path) == ""
    assert written(site, tmp_path) == {"tiny": data}
    names = sorted(file.name for file in (site / "_static/models").iterdir())
    assert len(names) == 1 + -(-len(data) // 1000) >= 4
    assert names[0] == "index.js"
    assert all(re.fullmatch(r"tiny\.[0-9a-f]{10}\.\d\.js", name) for name in names[1:])
    for file in (site / "_static/figures").glob("chapter-*.js"):
        assert len(file.read_text("utf-8")) < 400  # the state has no weights

    def versions() -> list[str]:
        page = (site / "chapter.html").read_text("utf-8")
        places = re.findall(r'<div class="nl-live" ([^>]*)>', page)
        found = [re.findall(r'data-models="(\w+)"', place) for place in places]
        assert [len(version) for version in found] == [1, 1, 0]
        return [version for versions in found for version in versions]

    first = versions()
    assert first[0] == first[1]
    build(tmp_path, fresh=False)
    assert versions() == first

    other = save_tiny(tmp_path / "models/tiny", seed=2)
    build(tmp_path, fresh=False)
    assert versions() != first
    assert written(site, tmp_path) == {"tiny": other}

    write_notebook(tmp_path / "chapter.ipynb", ["# 题", [view("c", 1)]], {"c": widgets["c"]})
    build(tmp_path, fresh=False)
    assert list((site / "_static/models").iterdir()) == []


def test_a_model_that_is_not_there_is_a_warning(tmp_path: Path) -> None:
    widgets = {"a": widget("demo", model="lost"), "b": widget("demo", model="../models/tiny")}
    save_tiny(tmp_path / "models/tiny")
    write(tmp_path, ["# 题", [view("a", 1)], [view("b", 2)]], widgets)
    warnings = build(tmp_path).splitlines()
    assert len(warnings) == 2
    for line, name in zip(warnings, ("lost", "../models/tiny"), strict=True):
        assert f"has no model {name}" in line
        assert "chapter.ipynb" in line


def test_a_model_that_is_too_large_is_an_error(tmp_path: Path) -> None:
    fits = models.scripts(tmp_path, ["big"], pack=lambda folder: bytes(1_500_000))
    assert json.loads(fits["index.js"].removeprefix("nlFigures.addModels(")[:-3])["big"][
        "bytes"
    ] == (1_500_000)
    assert len(fits) == 11
    assert max(map(len, fits.values())) < 201_000
    with pytest.raises(ExtensionError, match="model big must be packed in at most 1500000 bytes"):
        models.scripts(tmp_path, ["big"], pack=lambda folder: bytes(1_500_001))


@pytest.mark.parametrize("name", ["hello_world", "poem_bert_small", "poem_gpt_small", "zh_en"])
def test_the_models_of_the_pages_are_small_enough(name: str) -> None:
    data = models.packed(path("models", name))
    assert data == packed_model(name)  # what a kernel sends
    assert len(data) <= models.LARGEST == 1_500_000
