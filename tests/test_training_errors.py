"""Bad arguments of training are met at the door, with one sentence."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lmlib.training import (
    AdamW,
    Batches,
    Loss,
    TrainConfig,
    classification_loss,
    cross_entropy,
    epoch_order,
    evaluate,
    language_model_loss,
    learning_rate_at,
    parameter_groups,
    seq2seq_loss,
    split_batch,
    stack,
    summed_cross_entropy,
)

# ------------------------------------------------------------------ errors


def wrong_loss(model: nn.Module, batch: Any) -> Tensor:
    return model(batch).mean()


LINEAR = nn.Linear(2, 2)
X = torch.zeros(3, 2)
IDS = torch.ones(2, 4, dtype=torch.long)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: TrainConfig(), ValueError, "give either max_steps or epochs"),
        (lambda: TrainConfig(max_steps=1, epochs=1), ValueError, "give either max_steps or epochs"),
        (lambda: TrainConfig(max_steps=0), ValueError, "max_steps must be at least 1, got 0"),
        (lambda: TrainConfig(max_steps=2.0), TypeError, "max_steps must be an int, got float"),
        (lambda: TrainConfig(epochs=0), ValueError, "epochs must be at least 1, got 0"),
        (
            lambda: TrainConfig(max_steps=5, warmup_steps=6),
            ValueError,
            "warmup_steps must be at most the number of steps, 5, got 6",
        ),
        (
            lambda: TrainConfig(epochs=1, warmup_steps=6).total_steps(5),
            ValueError,
            "warmup_steps must be at most the number of steps, 5, got 6",
        ),
        (
            lambda: TrainConfig(epochs=1).total_steps(),
            ValueError,
            "batches has no length, so give max_steps",
        ),
        (
            lambda: TrainConfig(max_steps=5, warmup_steps=-1),
            ValueError,
            "warmup_steps must not be negative, got -1",
        ),
        (
            lambda: TrainConfig(max_steps=5, schedule="cos"),
            ValueError,
            "schedule must be one of .*'cos'",
        ),
        (
            lambda: TrainConfig(max_steps=5, autocast="half"),
            ValueError,
            "autocast must be one of .*'half'",
        ),
        (
            lambda: TrainConfig(max_steps=5, learning_rate=-1.0),
            ValueError,
            "learning_rate must be finite and not negative, got -1.0",
        ),
        (
            lambda: TrainConfig(max_steps=5, learning_rate=math.nan),
            ValueError,
            "learning_rate must be finite",
        ),
        (
            lambda: TrainConfig(max_steps=5, learning_rate="1e-3"),  # type: ignore[arg-type]
            TypeError,
            "learning_rate must be a number, got str",
        ),
        (
            lambda: TrainConfig(max_steps=5, min_learning_rate=1.0),
            ValueError,
            "min_learning_rate must be at most learning_rate=0.0003, got 1.0",
        ),
        (
            lambda: TrainConfig(max_steps=5, weight_decay=-0.1),
            ValueError,
            "weight_decay must be finite and not negative, got -0.1",
        ),
        (
            lambda: TrainConfig(max_steps=5, clip_norm=0.0),
            ValueError,
            "clip_norm must be finite and above 0, got 0.0",
        ),
        (
            lambda: TrainConfig(max_steps=5, betas=(0.9, 1.0)),
            ValueError,
            "betas must be at least 0 and below 1, got 1.0",
        ),
        (
            lambda: TrainConfig(max_steps=5, betas=(0.9,)),  # type: ignore[arg-type]
            ValueError,
            "betas must be two numbers",
        ),
        (
            lambda: TrainConfig(max_steps=5, label_smoothing=1.0),
            ValueError,
            "label_smoothing must be at least 0 and below 1, got 1.0",
        ),
        (lambda: TrainConfig(max_steps=5, accumulate=0), ValueError, "accumulate must be at least"),
        (lambda: TrainConfig(max_steps=5, log_every=0), ValueError, "log_every must be at least 1"),
        (lambda: TrainConfig(max_steps=5, eval_every=0), ValueError, "eval_every must be at least"),
        (lambda: TrainConfig(max_steps=5, save_every=0), ValueError, "save_every must be at least"),
        (lambda: TrainConfig(max_steps=5, keep=0), ValueError, "keep must be at least 1, got 0"),
        (lambda: TrainConfig(max_steps=5, seed=-1), ValueError, "seed must not be negative"),
        (
            lambda: learning_rate_at(-1, max_steps=2, learning_rate=1.0),
            ValueError,
            "step must not be negative",
        ),
        (
            lambda: learning_rate_at(1, max_steps=2, learning_rate=1.0, schedule="x"),
            ValueError,
            "schedule must be one of",
        ),
        (lambda: Batches([], 2), ValueError, "dataset must have at least one example, got none"),
        (lambda: Batches(iter([1]), 2), TypeError, "dataset must have a length and integer"),
        (lambda: Batches([1], 0), ValueError, "batch_size must be at least 1, got 0"),
        (lambda: Batches([1], 1.5), TypeError, "batch_size must be an int"),  # type: ignore[arg-type]
        (lambda: Batches([1], 1, seed=-1), ValueError, "seed must not be negative"),
        (
            lambda: Batches([1], 2, drop_last=True),
            ValueError,
            "batch_size must be at most the 1 examples of dataset with drop_last=True, got 2",
        ),
        (lambda: Batches([1], 1, rank=0), ValueError, "give both rank and world_size, or neither"),
        (
            lambda: Batches([1], 1, rank=2, world_size=2),
            ValueError,
            "rank must be below world_size=2, got 2",
        ),
        (lambda: Batches([1], 1)(-1), ValueError, "number must not be negative"),
        (
            lambda: stack([torch.zeros(2), torch.zeros(3)]),
            ValueError,
            r"must have one shape, got \(2,\) and \(3,\): give a collate function",
        ),
        (lambda: stack(["a"]), TypeError, "examples must be tensors, numbers.* got str"),
        (
            lambda: split_batch((torch.zeros(2), torch.zeros(3)), 0, 2),
            ValueError,
            "must all have one number of rows",
        ),
        (lambda: split_batch("a", 0, 2), ValueError, "must all have one number of rows"),
        (lambda: split_batch(torch.tensor(1), 0, 2), ValueError, "must all have one number of"),
        (lambda: epoch_order(0, 0, 0), ValueError, "n must be at least 1, got 0"),
        (lambda: epoch_order(1, 0, -1), ValueError, "epoch must not be negative"),
        (
            lambda: cross_entropy(X, torch.zeros(2, dtype=torch.long)),
            ValueError,
            r"targets must have the shape of logits without vocab_size, \(3,\), got \(2,\)",
        ),
        (
            lambda: cross_entropy(X, torch.tensor([0, 1, 2])),
            ValueError,
            "targets must hold ids from 0 to 1, got 2",
        ),
        (
            lambda: cross_entropy(X, torch.zeros(3, dtype=torch.long), label_smoothing=-0.1),
            ValueError,
            "label_smoothing must be at least 0",
        ),
        (
            lambda: cross_entropy(X, torch.zeros(3, dtype=torch.long), reduction="max"),
            ValueError,
            "reduction must be one of",
        ),
        (lambda: cross_entropy(IDS, IDS), TypeError, "logits must be a floating-point tensor"),
        (lambda: language_model_loss(LINEAR, "ids"), TypeError, "batch must be token_ids.*got str"),
        (lambda: language_model_loss(LINEAR, X), TypeError, "token_ids must hold integer"),
        (
            lambda: language_model_loss(LINEAR, IDS[:, :1]),
            ValueError,
            "token_ids must have at least 2 tokens a row, got 1",
        ),
        (
            lambda: language_model_loss(LINEAR, (IDS, IDS[:, 1:] > 0)),
            ValueError,
            r"mask must have the shape of token_ids, \(2, 4\), got \(2, 3\)",
        ),
        (
            lambda: summed_cross_entropy(X, torch.tensor([0, 1, 2])),
            ValueError,
            "targets must hold ids from 0 to 1, or -100 for no target: Target 2 is out of bounds",
        ),
        (
            lambda: summed_cross_entropy(X, torch.tensor([0, 1, -1])),
            ValueError,
            "targets must hold ids from 0 to 1, or -100 for no target: Target -1 is out of bounds",
        ),
        (
            lambda: summed_cross_entropy(X, torch.zeros(3)),
            TypeError,
            "targets must hold integer token ids, got torch.float32",
        ),
        (
            lambda: cross_entropy(X, torch.zeros(3)),
            TypeError,
            "targets must hold integer token ids, got torch.float32",
        ),
        (lambda: seq2seq_loss(LINEAR, IDS), TypeError, r"batch must be \(source, target\)"),
        (lambda: classification_loss(LINEAR, X), TypeError, r"batch must be \(\*inputs, labels\)"),
        (lambda: AdamW([]), ValueError, "parameters must hold at least one tensor"),
        (lambda: AdamW([X], betas=(1.0, 0.9)), ValueError, "betas must be at least 0"),
        (
            lambda: parameter_groups(nn.ReLU(), 0.0),
            ValueError,
            "model has no parameter with requires_grad",
        ),
        (lambda: evaluate(LINEAR, []), ValueError, "batches must hold at least one batch"),
        (
            lambda: evaluate(LINEAR, [X], lambda m, b: Loss(m(b).sum(), 0)),
            ValueError,
            "batches must hold at least one target, loss_fn counted none",
        ),
        (lambda: evaluate(LINEAR, [X], wrong_loss), TypeError, r"loss_fn must return \(sum, targ"),
        (
            lambda: evaluate(LINEAR, [X], lambda m, b: (m(b), 3)),
            TypeError,
            r"scalar tensor.*got \(a tensor of shape \(3, 2\), int\)",
        ),
        (
            lambda: evaluate(LINEAR, [X], lambda m, b: (m(b).sum(), 3.0)),
            TypeError,
            "a number of targets that is one integer, got float",
        ),
        (
            lambda: evaluate(LINEAR, [X], autocast_to="int8"),
            ValueError,
            "autocast_to must be one of",
        ),
    ],
)
def test_bad_arguments(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
