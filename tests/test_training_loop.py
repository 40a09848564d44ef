"""The loop: equal to one written out by hand, exact over batches, and left as it was found."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from training_scripts.small_runs import masked_ids, random_ids, small_gpt, weights

from lmlib.training import (
    AdamW,
    Batches,
    Loss,
    TrainConfig,
    classification_loss,
    cross_entropy,
    language_model_loss,
    learning_rate_at,
    parameter_groups,
    train,
)


def squared_error(model: nn.Module, batch: Any) -> Loss:
    x, y = batch
    return Loss(((model(x) - y) ** 2).sum(), y.numel())


# ------------------------------------------------------------------ what it computes


@pytest.mark.parametrize("clip_norm", [None, 0.3])
def test_the_loop_is_the_one_written_by_hand(clip_norm: float | None) -> None:
    """Schedule, smoothing, clipping and AdamW, with this module's own plain pieces."""
    mine, theirs = small_gpt(), small_gpt()
    batches = Batches(random_ids(10, 7), 4, seed=3)
    config = TrainConfig(
        max_steps=8,
        learning_rate=0.02,
        min_learning_rate=0.001,
        schedule="linear",
        warmup_steps=3,
        weight_decay=0.1,
        betas=(0.8, 0.95),
        eps=1e-6,
        clip_norm=clip_norm,
        label_smoothing=0.1,
        log_every=1,
    )
    result = train(mine, batches, config)

    groups = parameter_groups(theirs, 0.1)
    optimizer = AdamW(groups, betas=(0.8, 0.95), eps=1e-6)
    parameters = [p for group in groups for p in group["params"]]
    for step in range(8):
        optimizer.learning_rate = learning_rate_at(
            step,
            max_steps=8,
            learning_rate=0.02,
            min_learning_rate=0.001,
            schedule="linear",
            warmup_steps=3,
        )
        ids = batches(step)
        loss = cross_entropy(theirs(ids[:, :-1]), ids[:, 1:], label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        norm = math.sqrt(sum(p.grad.square().sum().item() for p in parameters))
        if clip_norm is not None and norm > clip_norm:
            for p in parameters:
                p.grad *= clip_norm / norm
        optimizer.step()
        row = result.history[step]
        assert row["step"] == step + 1
        assert row["epoch"] == pytest.approx((step + 1) / 3)
        assert row["learning_rate"] == optimizer.learning_rate
        assert row["loss"] == pytest.approx(loss.item(), rel=1e-6)
        assert row["grad_norm"] == pytest.approx(norm, rel=1e-4)
    assert clip_norm is None or any(row["grad_norm"] > clip_norm for row in result.history)
    # Not closer than 1e-6, for torch's clipping divides by norm + 1e-6.
    torch.testing.assert_close(weights(mine), weights(theirs), rtol=1e-4, atol=1e-6)


def test_accumulation_is_one_large_batch() -> None:
    """Examples of unequal numbers of tokens: a mean of means would differ."""
    data = masked_ids(24, 9)
    whole, parts = small_gpt(), small_gpt()
    config: dict[str, Any] = {"max_steps": 6, "learning_rate": 0.01, "log_every": 2}
    one = train(whole, Batches(data, 12, seed=1), TrainConfig(**config))
    many = train(parts, Batches(data, 3, seed=1), TrainConfig(accumulate=4, **config))
    torch.testing.assert_close(weights(whole), weights(parts), rtol=1e-9, atol=1e-10)
    for a, b in zip(one.history, many.history, strict=True):
        assert a["targets"] == b["targets"]
        assert a["loss"] == pytest.approx(b["loss"])
        assert a["grad_norm"] == pytest.approx(b["grad_norm"])
        assert a["epoch"] == b["epoch"]


def test_a_batch_without_targets_does_not_count() -> None:
    ids = random_ids(4, 6)
    nothing = torch.full((4, 6), -100)
    inputs, targets = ids[:, :-1], ids[:, 1:]
    nothing = nothing[:, 1:]
    models = [small_gpt(), small_gpt(), small_gpt()]
    config = TrainConfig(max_steps=3, accumulate=2, learning_rate=0.01)
    train(models[0], [(inputs, targets)], TrainConfig(max_steps=3, learning_rate=0.01))
    train(models[1], [(inputs, targets), (inputs, nothing)], config)
    train(models[2], [(inputs, nothing), (inputs, targets)], config)
    torch.testing.assert_close(weights(models[0]), weights(models[1]), rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(weights(models[0]), weights(models[2]), rtol=1e-9, atol=1e-10)


def test_rows_are_means_since_the_last() -> None:
    data = masked_ids(12, 9)
    config: dict[str, Any] = {"max_steps": 7, "learning_rate": 0.01}
    steps: list[dict[str, Any]] = []
    every = train(small_gpt(), Batches(data, 4), TrainConfig(log_every=1, **config))
    some = train(
        small_gpt(), Batches(data, 4), TrainConfig(log_every=3, **config), on_step=steps.append
    )
    assert [row["step"] for row in some.history] == [3, 6, 7]
    targets = [0, *(row["targets"] for row in every.history)]
    sums = [row["loss"] * (targets[i + 1] - targets[i]) for i, row in enumerate(every.history)]
    assert some.history[1]["loss"] == pytest.approx(sum(sums[3:6]) / (targets[6] - targets[3]))
    assert some.history[2]["loss"] == pytest.approx(every.history[6]["loss"])
    assert [row["loss"] for row in steps] == [row["loss"] for row in every.history]
    assert [row["learning_rate"] for row in steps] == [r["learning_rate"] for r in every.history]


def test_any_module_learns() -> None:
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]]) + 3
    model = nn.Linear(3, 1)
    data = list(zip(x, y, strict=True))
    config = TrainConfig(epochs=40, learning_rate=0.2, weight_decay=0.0, clip_norm=None)
    result = train(model, Batches(data, 16), config, loss_fn=squared_error, evaluate_on=[(x, y)])
    assert result.steps == 160
    assert result.evaluations[-1]["loss"] < 1e-4
    torch.testing.assert_close(model.bias.data, torch.tensor([3.0]), rtol=0, atol=0.02)


def test_a_function_and_a_sequence_give_batches_too() -> None:
    models = [small_gpt(), small_gpt(), small_gpt()]
    ready = [random_ids(3, 6, seed=i) for i in range(4)]
    config = TrainConfig(max_steps=6, learning_rate=0.01)
    train(models[0], ready, config)
    train(models[1], lambda number: ready[number % 4], config)
    train(models[2], Batches([row for batch in ready for row in batch], 3, shuffle=False), config)
    for other in models[1:]:
        assert all(torch.equal(a, weights(other)[n]) for n, a in weights(models[0]).items())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_autocast_keeps_weights_and_learns(dtype: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    seen: list[torch.dtype] = []
    model[0].register_forward_hook(lambda *args: seen.append(args[2].dtype))
    x = torch.randn(40, 4)
    batch = (x, (x[:, 0] > 0).long())
    config = TrainConfig(max_steps=60, learning_rate=0.02, autocast=dtype)
    result = train(model, [batch], config, loss_fn=classification_loss, evaluate_on=[batch])
    assert set(seen) == {getattr(torch, dtype)}
    assert model[0].weight.dtype == torch.float32
    assert result.evaluations[-1]["accuracy"] > 0.9


def test_every_batch_has_random_numbers_of_its_own() -> None:
    """Else the same units would be dropped in every step."""

    def draws(seed: int) -> list[float]:
        drawn: list[float] = []

        def loss_fn(model: nn.Module, batch: Any) -> Loss:
            drawn.extend([torch.rand(()).item(), random.random(), np.random.rand()])
            return language_model_loss(model, batch)

        config = TrainConfig(max_steps=3, accumulate=2, seed=seed)
        train(small_gpt(), [random_ids(2, 5)], config, loss_fn=loss_fn)
        return drawn

    assert draws(1) == draws(1)
    assert len({*draws(1), *draws(2)}) == 36


def test_a_step_whose_float16_gradient_overflows_is_skipped() -> None:
    model = nn.Linear(2, 1)
    before = weights(model)

    def steep(model: nn.Module, batch: Tensor) -> Loss:
        return Loss((model(batch).float() * 10).sum(), len(batch))

    rows: list[dict[str, Any]] = []
    state: list[bool] = []

    def on_step(row: dict[str, Any]) -> None:
        rows.append(row)
        state.append(torch.equal(model.weight, before["weight"]))

    config = TrainConfig(max_steps=14, autocast="float16", learning_rate=0.1, schedule="constant")
    train(model, [torch.full((4, 2), 100.0)], config, loss_fn=steep, on_step=on_step)
    skipped = [not math.isfinite(row["grad_norm"]) for row in rows]
    assert skipped[0]
    assert not skipped[-1]
    assert state[: skipped.index(False)] == [True] * skipped.index(False)
    assert not state[-1]


def test_float16_is_clipped_at_its_true_length() -> None:
    """The loss is scaled by 65536: a gradient that still is would be shortened to nothing."""
    rows = {}
    for dtype in (None, "float16"):
        model = nn.Linear(2, 1, bias=False)
        nn.init.ones_(model.weight)
        config = TrainConfig(
            max_steps=1, learning_rate=0.1, autocast=dtype, clip_norm=0.1, eps=0.1, weight_decay=0.0
        )
        batch = (torch.full((4, 2), 0.125), torch.ones(4, 1))  # nothing overflows
        result = train(model, [batch], config, loss_fn=squared_error)
        rows[dtype] = (result.history[0]["grad_norm"], model.weight.detach())
    assert rows["float16"][0] == pytest.approx(rows[None][0], rel=1e-3)
    torch.testing.assert_close(rows["float16"][1], rows[None][1], rtol=0, atol=1e-4)


def test_a_gradient_that_float16_cannot_hold_stops_the_run() -> None:
    def vertical(model: nn.Module, batch: Tensor) -> Loss:
        return Loss((model(batch).float() * 1e12).sum(), len(batch))

    config = TrainConfig(max_steps=50, autocast="float16")
    with pytest.raises(FloatingPointError, match="no scale makes the float16 gradient finite, at"):
        train(nn.Linear(2, 1), [torch.ones(4, 2)], config, loss_fn=vertical)


def test_a_parameter_without_a_gradient_stays() -> None:
    model = small_gpt(tie_embeddings=False)
    model.pooler = nn.Linear(8, 8)
    model.embedding.weight.requires_grad_(False)
    before = weights(model)
    config = TrainConfig(max_steps=2, weight_decay=0.5, accumulate=2)
    train(model, [random_ids(3, 6)], config)
    after = weights(model)
    for name in before:
        same = name.startswith("pooler") or name == "embedding.weight"
        assert torch.equal(before[name], after[name]) == same, name


# ------------------------------------------------------------------ the plainest case


def test_the_book_loss_is_the_loss_of_the_loop() -> None:
    model, ids = small_gpt(), random_ids(4, 7)
    result = train(model, [ids], TrainConfig(max_steps=1, learning_rate=0.0))
    logits = model(ids[:, :-1])
    expected = F.cross_entropy(logits.transpose(1, 2), ids[:, 1:])
    assert result.history[0]["loss"] == pytest.approx(expected.item())
