"""Around the loop: evaluation, callbacks, files, the bar; interrupts, divergence, errors."""

from __future__ import annotations

import csv
import math
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from training_scripts.small_runs import random_ids, small_gpt, weights

from lmlib.training import (
    Batches,
    Loss,
    TrainConfig,
    evaluate,
    language_model_loss,
    train,
)

# ------------------------------------------------------------------ evaluation and callbacks


def test_evaluations_and_their_rows() -> None:
    model = small_gpt(dropout=0.2)
    held_out = Batches(random_ids(5, 6, seed=9), 2, shuffle=False)
    rows: list[dict[str, Any]] = []
    modes: list[bool] = []

    def watched_loss(model: nn.Module, batch: Any, label_smoothing: float = 0.0) -> Loss:
        modes.append(model.training)
        # Label smoothing is for training.
        assert (label_smoothing > 0) == model.training
        return language_model_loss(model, batch, label_smoothing=label_smoothing)

    config = TrainConfig(max_steps=5, eval_every=2, label_smoothing=0.1)
    result = train(
        model,
        [random_ids(3, 6)],
        config,
        loss_fn=watched_loss,
        evaluate_on=held_out,
        on_eval=rows.append,
    )
    assert [row["step"] for row in result.evaluations] == [2, 4, 5]
    assert rows == result.evaluations
    assert modes == [True] * 2 + [False] * 3 + [True] * 2 + [False] * 3 + [True] + [False] * 3
    last = dict(result.evaluations[-1])
    assert last.pop("step") == 5
    assert last == evaluate(model, held_out)

    only_last = train(
        small_gpt(), [random_ids(3, 6)], TrainConfig(max_steps=5), evaluate_on=held_out
    )
    assert [row["step"] for row in only_last.evaluations] == [5]

    def numbers_of_my_own(model: Any) -> dict[str, Any]:
        assert not model.training
        assert not model(random_ids(1, 3)).requires_grad
        return {"norm": model.embedding.weight.norm(), "n": np.int64(3)}

    own = train(
        small_gpt(),
        [random_ids(3, 6)],
        TrainConfig(max_steps=2),
        evaluate_on=numbers_of_my_own,
    )
    assert own.evaluations[0]["n"] == 3
    assert type(own.evaluations[0]["norm"]) is float


def test_the_files_hold_the_rows(tmp_path: Path) -> None:
    config = TrainConfig(max_steps=5, log_every=2, eval_every=2)
    ids = random_ids(6, 6)
    result = train(
        small_gpt(),
        Batches(ids, 2),
        config,
        evaluate_on=Batches(ids, 3),
        directory=tmp_path / "a/b",
    )
    for name, rows in (("log", result.history), ("evaluations", result.evaluations)):
        with open(tmp_path / f"a/b/{name}.csv", encoding="utf-8", newline="") as file:
            read = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
        assert read == rows


def test_what_callbacks_draw_does_not_matter() -> None:
    models = [small_gpt(dropout=0.3), small_gpt(dropout=0.3), small_gpt(dropout=0.3)]

    def disturb(row: dict[str, Any]) -> None:
        torch.rand(3)
        random.random()
        np.random.rand()
        models[1].eval()

    def batches(number: int) -> Tensor:
        return random_ids(4, 6, seed=int(torch.randint(100, ()) + random.randint(0, 99)))

    config = TrainConfig(max_steps=4, learning_rate=0.01)
    torch.manual_seed(1)
    train(models[0], batches, config)
    torch.manual_seed(2)
    train(models[1], batches, config, on_step=disturb)
    assert all(torch.equal(a, weights(models[1])[n]) for n, a in weights(models[0]).items())
    train(models[2], batches, TrainConfig(max_steps=4, learning_rate=0.01, seed=1))
    assert not torch.equal(models[2].head.weight, models[0].head.weight)


def test_training_leaves_modes_and_random_numbers_as_they_were() -> None:
    model = small_gpt(dropout=0.3).eval()
    model.layers[0].train()
    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)
    expected = (torch.rand(1).item(), random.random(), np.random.rand())
    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)
    train(model, [random_ids(3, 6)], TrainConfig(max_steps=2))
    assert (torch.rand(1).item(), random.random(), np.random.rand()) == expected
    assert not model.training
    assert model.layers[0].training
    assert model.layers[0].dropout.training
    assert not model.layers[1].dropout.training


@pytest.mark.parametrize(("progress", "shown"), [(True, True), (False, False), (None, False)])
def test_the_bar_shows_where_it_should(
    progress: bool | None, shown: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    train(small_gpt(), [random_ids(3, 6)], TrainConfig(max_steps=3), progress=progress)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert ("3/3" in captured.err and "loss=" in captured.err) == shown
    assert shown or captured.err == ""


# ------------------------------------------------------------------ stopping


def stop_at(step: int, number: signal.Signals = signal.SIGINT) -> Any:
    def on_step(row: dict[str, Any]) -> None:
        if row["step"] == step:
            signal.raise_signal(number)

    return on_step


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_request_to_stop_waits_for_the_step_and_loses_nothing(
    number: signal.Signals, tmp_path: Path
) -> None:
    config = TrainConfig(max_steps=8, log_every=3, learning_rate=0.01)
    whole, halves = small_gpt(dropout=0.1), small_gpt(dropout=0.1)
    batches = Batches(random_ids(10, 6), 4)
    expected = train(whole, batches, config)
    before = signal.getsignal(number)
    first = train(halves, batches, config, directory=tmp_path, on_step=stop_at(4, number))
    assert signal.getsignal(number) is before
    # Asked for after the fourth step, noticed with the fifth.
    assert (first.interrupted, first.steps) == (True, 5)
    assert [row["step"] for row in first.history] == [3]
    assert first.checkpoint == tmp_path / "checkpoint-00000005.safetensors"
    fresh = small_gpt(dropout=0.1, seed=5)
    second = train(fresh, batches, config, directory=tmp_path)
    assert (second.interrupted, second.steps) == (False, 8)
    assert all(torch.equal(a, weights(fresh)[n]) for n, a in weights(whole).items())
    assert [r["loss"] for r in second.history] == [r["loss"] for r in expected.history]

    without = train(small_gpt(), batches, config, on_step=stop_at(2, number))
    assert (without.interrupted, without.steps, without.checkpoint) == (True, 3, None)


def test_a_second_interrupt_does_not_wait() -> None:
    def on_step(row: dict[str, Any]) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(small_gpt(), [random_ids(3, 6)], TrainConfig(max_steps=3), on_step=on_step)


def test_sigterm_may_come_twice() -> None:
    """From the cluster, and from torchrun, which passes it on."""

    def on_step(row: dict[str, Any]) -> None:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)

    result = train(small_gpt(), [random_ids(3, 6)], TrainConfig(max_steps=3), on_step=on_step)
    assert (result.interrupted, result.steps) == (True, 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")
def test_a_child_of_a_run_dies_of_a_signal_as_ever() -> None:
    """Else multiprocessing could not end its workers."""
    status: list[int] = []

    def on_step(row: dict[str, Any]) -> None:
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.write(writing, b"!")
            time.sleep(10)
            os._exit(0)
        os.read(reading, 1)  # Python drops what comes while it forks
        os.kill(child, signal.SIGTERM)
        status.append(os.waitpid(child, 0)[1])

    result = train(small_gpt(), [random_ids(3, 6)], TrainConfig(max_steps=1), on_step=on_step)
    assert os.WTERMSIG(status[0]) == signal.SIGTERM
    assert not result.interrupted


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        result = train(
            small_gpt(),
            [random_ids(3, 6)],
            TrainConfig(max_steps=3),
            on_step=stop_at(1, signal.SIGTERM),
        )
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not result.interrupted


def bad_after(steps: int, value: float) -> Any:
    calls = []

    def loss_fn(model: nn.Module, batch: Tensor) -> Loss:
        calls.append(1)
        loss = language_model_loss(model, batch)
        return loss._replace(sum=loss.sum * (value if len(calls) > steps else 1.0))

    return loss_fn


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_run(value: float, tmp_path: Path) -> None:
    model = small_gpt()
    config = TrainConfig(max_steps=9, save_every=2, schedule="constant", learning_rate=0.01)
    kept: list[dict[str, Tensor]] = []
    with pytest.raises(
        FloatingPointError,
        match=rf"the loss is {value}, at step 4 with learning rate 0.01; a lower learning_rate, .*"
        r"the last good checkpoint is .*checkpoint-00000002",
    ):
        train(
            model,
            [random_ids(3, 6)],
            config,
            loss_fn=bad_after(3, value),
            directory=tmp_path,
            on_step=lambda row: kept.append(weights(model)),
        )
    assert all(torch.equal(a, weights(model)[n]) for n, a in kept[-1].items())


def test_a_gradient_that_is_not_finite_stops_the_run() -> None:
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.zero_()

    def root(model: nn.Module, batch: Tensor) -> Loss:
        return Loss(model(batch).abs().sqrt().sum(), 1)

    with pytest.raises(
        FloatingPointError, match=r"the gradient has norm (nan|inf), though the loss .* 1 "
    ):
        train(model, [torch.ones(1, 1)], TrainConfig(max_steps=2), loss_fn=root)
    assert model.weight.item() == 0


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batches": []}, ValueError, "batches must hold at least one batch, got none"),
        ({"batches": 3}, TypeError, "batches must be Batches, a function .* got int"),
        ({"batches": iter([IDS := random_ids(2, 5)])}, TypeError, "batches must be Batches, a"),
        (
            {"batches": lambda number: IDS, "config": TrainConfig(epochs=1)},
            ValueError,
            "batches has no length, so give max_steps and not epochs",
        ),
        ({"evaluate_on": []}, ValueError, "evaluate_on must hold at least one batch, got none"),
        ({"evaluate_on": iter([IDS])}, TypeError, "evaluate_on must be batches with a length"),
        ({"evaluate_on": lambda model: {"x": "y"}}, TypeError, "x must be a number, got str"),
        ({"resume": True}, ValueError, "resume=True needs the directory of the run"),
        ({"resume": "yes"}, ValueError, "resume must be one of"),
        ({"directory": __file__}, ValueError, "directory must be a directory, got the file"),
        (
            {
                "loss_fn": lambda model, batch: language_model_loss(model, batch),
                "config": TrainConfig(max_steps=1, label_smoothing=0.1),
            },
            ValueError,
            "label_smoothing=0.1 needs a loss_fn with a parameter label_smoothing",
        ),
        (
            {"loss_fn": lambda model, batch: model(batch).mean()},
            TypeError,
            r"loss_fn must return \(sum, targets\).*got a tensor of shape \(\)",
        ),
        (
            {"loss_fn": lambda model, batch: (model(batch).sum().detach(), 1)},
            ValueError,
            "loss_fn must return a sum that depends on the model's parameters",
        ),
        (
            {"loss_fn": lambda model, batch: (model(batch).sum(), 0)},
            ValueError,
            "step 1 has no target: loss_fn counted none in it",
        ),
        ({"model": nn.ReLU()}, ValueError, "model has no parameter with requires_grad"),
    ],
)
def test_bad_arguments(options: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {"model": small_gpt(), "batches": [IDS], "config": TrainConfig(max_steps=1)}
    with pytest.raises(error, match=message):
        train(**{**arguments, **options})
