"""The experiments whose numbers are shipped: whole, and the card says what the curve says."""

from __future__ import annotations

import csv
import itertools
import json
import statistics
from typing import Any

import pytest

from lmlib.recipes import review_bert
from lmlib.recipes._review_card import METHODS, differences, readme, summary
from lmlib.recipes._run import experiments_folder

FOLDER = experiments_folder() / "review_bert"
REVIEWS = 14_825
"""Labels of the training part."""


def curve() -> list[dict[str, Any]]:
    """The rows of curve.csv, numbers as numbers."""
    with (FOLDER / "curve.csv").open(encoding="utf-8", newline="") as file:
        return [
            row
            | {name: int(row[name]) for name in ("labels", "seed")}
            | {name: float(row[name]) for name in ("validation_accuracy", "test_accuracy")}
            for row in csv.DictReader(file)
        ]


def card() -> dict[str, Any]:
    return json.loads((FOLDER / "card.json").read_text("utf-8"))


def accuracies(method: str, labels: int) -> list[float]:
    rows = [row for row in curve() if (row["method"], row["labels"]) == (method, labels)]
    return [100 * row["test_accuracy"] for row in sorted(rows, key=lambda row: row["seed"])]


def test_differences_are_between_runs_of_the_same_seed() -> None:
    right = {("tfidf", 0): 0.7, ("tfidf", 1): 0.8, ("pretrained", 0): 0.73, ("pretrained", 1): 0.81}
    rows = [
        {"labels": 200, "seed": seed, "method": method, "test_accuracy": value}
        for (method, seed), value in right.items()
    ]
    rows += [row | {"method": "scratch", "test_accuracy": 0.6} for row in rows[:2]]
    against_tfidf, against_scratch = differences(rows)
    assert against_tfidf["name"] == "pretrained − tfidf, 200 labels"
    assert against_tfidf["value"] == 2.0  # of 3 and 1
    assert against_tfidf["how"] == "points; 2 seeds, standard error 1.00"
    assert against_scratch["value"] == 17.0


def test_the_curve_has_every_run() -> None:
    sizes = [count or REVIEWS for count in review_bert.LABELS]
    found = [(row["labels"], row["seed"], row["method"]) for row in curve()]
    assert found == list(itertools.product(sizes, review_bert.SEEDS, METHODS))
    for row in curve():  # a coin does worse, and nothing learns noisy labels by heart
        assert 0.55 < row["test_accuracy"] < 0.95
        assert abs(row["test_accuracy"] - row["validation_accuracy"]) < 0.06
        assert bool(row["learning_rate"]) == (row["method"] in ("scratch", "pretrained"))


def test_the_card_is_the_curve_in_short() -> None:
    assert card()["metrics"] == summary(curve()) + differences(curve())
    assert (FOLDER / "README.md").read_text("utf-8") == readme(card())
    assert [stage["stage"] for stage in card()["training"]] == ["pretraining", "matching"]


def test_its_learning_curves_are_there() -> None:
    with (FOLDER / "log.csv").open(encoding="utf-8", newline="") as file:
        stages = {row["stage"]: int(row["step"]) for row in csv.DictReader(file)}
    wanted = {"pretraining": review_bert.PRETRAINING, "matching": review_bert.MATCHING}
    assert stages == {name: config.max_steps for name, config in wanted.items()}


def test_pretraining_is_worth_most_where_labels_are_few() -> None:
    """What the book says of the curve."""
    gains = {
        other: {
            count or REVIEWS: statistics.mean(
                ours - theirs
                for ours, theirs in zip(
                    accuracies("pretrained", count or REVIEWS),
                    accuracies(other, count or REVIEWS),
                    strict=True,
                )
            )
            for count in review_bert.LABELS
        }
        for other in ("tfidf", "scratch")
    }
    assert gains["tfidf"][200] > 2
    assert gains["scratch"][200] > 5
    for gain in gains.values():
        assert max(gain, key=lambda count: gain[count]) == 200
    # Two standard errors of the difference of two accuracies of about 85 % on 1 500 reviews.
    assert gains["tfidf"][REVIEWS] > -2 * 100 * (2 * 0.85 * 0.15 / 1500) ** 0.5
    for ours, real in itertools.product(accuracies("pretrained", 200), accuracies("e5", 200)):
        assert ours < real
    assert pytest.approx(74.6, abs=0.1) == statistics.mean(accuracies("pretrained", 200))
