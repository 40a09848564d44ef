"""Every shipped model: card, README, size; it loads, and reaches the number of its card."""

from __future__ import annotations

import csv
import importlib
import json
from dataclasses import asdict
from typing import Any

import pytest
import torch

from lmlib import assets
from lmlib.pretrained import load_pretrained, load_tokenizer
from lmlib.recipes import models
from lmlib.recipes._card import render
from lmlib.training import TrainConfig

FOLDER = assets.path() / "models"
SHIPPED = sorted(path.name for path in FOLDER.glob("[!._]*") if path.is_dir())
FILES = {"model.safetensors", "config.json", "log.csv", "samples.json", "card.json", "README.md"}
EXPERIMENTS = sorted(path.parent.name for path in FOLDER.parent.glob("experiments/*/card.json"))
MOST_BYTES = 6_000_000


def card(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / name / "card.json").read_text(encoding="utf-8"))


def recipe(name: str) -> Any:
    return importlib.import_module(card(name)["command"].removeprefix("python -m "))


def test_models_are_shipped() -> None:
    assert "hello_world" in SHIPPED
    assert "review_bert" in EXPERIMENTS
    assert [card["name"] for card in models.read_cards()] == [*SHIPPED, *EXPERIMENTS]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_folder_is_complete(name: str) -> None:
    files = {path.name: path.stat().st_size for path in (FOLDER / name).iterdir()}
    assert files.keys() >= FILES
    assert not [file for file in files if file.startswith(".")]
    assert sum(files.values()) < MOST_BYTES
    found = card(name)
    assert found["name"] == name
    assert found["command"] == f"python -m lmlib.recipes.{name}"
    assert name in models.recipes()


@pytest.mark.parametrize("name", SHIPPED)
def test_the_card_says_everything_and_the_readme_says_the_same(name: str) -> None:
    found = card(name)
    for key in ("title", "summary", "usage", "data", "licence", "metrics", "limits", "training"):
        assert found[key], key
    assert (FOLDER / name / "README.md").read_text(encoding="utf-8") == render(found)
    for metric in found["metrics"]:
        assert metric["name"]
        assert metric["how"]
    check = found["check"]
    assert check["how"]
    assert 0 <= check["tolerance"] <= 0.1 * max(abs(check["value"]), 0.1)
    for stage in found["training"]:
        assert stage["core_hours"] > 0
        assert stage["tokens"] > stage["steps"] > 0
        assert stage["config"]["max_steps"] or stage["config"]["epochs"]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_card_belongs_to_the_weights(name: str) -> None:
    facts = json.loads((FOLDER / name / "config.json").read_text(encoding="utf-8"))
    model = card(name)["model"]
    assert {key: model[key] for key in ("bytes", "sha256")} == facts["weights"]
    assert model["config"] == facts["config"]
    assert model["class"] == facts["class"]
    assert model["stored_as"] == facts["stored_as"]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_curve_and_the_samples_were_kept(name: str) -> None:
    with open(FOLDER / name / "log.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for stage in card(name)["training"]:
        own = [row for row in rows if row["stage"] == stage["stage"]]
        steps = [int(row["step"]) for row in own]
        assert steps == sorted(set(steps))
        assert steps[-1] == stage["steps"]
        assert int(own[-1]["tokens"]) == stage["tokens"]
        assert len([row for row in own if row["loss"]]) >= 5
    pages = json.loads((FOLDER / name / "samples.json").read_text(encoding="utf-8"))
    assert len({page["step"] for page in pages}) >= 3
    assert all(page["texts"] for page in pages)


@pytest.mark.parametrize("name", SHIPPED)
def test_it_loads_and_reaches_the_number_of_its_card(name: str) -> None:
    model = load_pretrained(FOLDER / name)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    found = card(name)
    assert sum(p.numel() for p in model.parameters()) == found["model"]["parameters"]
    check = found["check"]
    value = recipe(name).check(model, load_tokenizer(FOLDER / name))
    assert value == pytest.approx(check["value"], abs=check["tolerance"], rel=0)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_check_can_fail(name: str) -> None:
    """Noise on the weights moves the number out of its tolerance."""
    model = load_pretrained(FOLDER / name)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += parameter.std(correction=0) * torch.randn_like(parameter)
    check = card(name)["check"]
    value = recipe(name).check(model, load_tokenizer(FOLDER / name))
    assert abs(value - check["value"]) > check["tolerance"]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_recipe_is_shipped_as_it_was_run(name: str) -> None:
    """The configs at the top of the recipe are those of the card."""
    module, found = recipe(name), card(name)
    constants = [value for key, value in vars(module).items() if key.isupper()]
    trained = [c.to_dict() for c in constants if isinstance(c, TrainConfig)]
    for stage in found["training"]:
        assert stage["config"] in trained
    kind = type(load_pretrained(FOLDER / name).config)
    # The size of a vocabulary that is trained is not known before.
    shapes = [{**asdict(c), "vocab_size": 0} for c in constants if isinstance(c, kind)]
    assert not shapes or {**found["model"]["config"], "vocab_size": 0} in shapes
