"""The same runs by one process and by several: ``[torchrun …] several.py DIRECTORY``.

Each case leaves "<case>.safetensors" and "<case>.json" in the directory.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from small_runs import masked_ids, random_ids, small_gpt, weights
from torch import Tensor, nn

from lmlib.training import (
    Batches,
    Loss,
    TrainConfig,
    TrainResult,
    distributed,
    evaluate,
    language_model_loss,
    train,
)

DIRECTORY = Path(sys.argv[1])
# 21 examples in batches of 4: the last batch of an epoch has one, and the second process none.
DATA = masked_ids(21, 9)
CONFIG: dict[str, Any] = {
    "max_steps": 9,
    "learning_rate": 0.01,
    "warmup_steps": 3,
    "label_smoothing": 0.1,
    "clip_norm": 0.5,
    "log_every": 2,
}


def leave(case: str, model: nn.Module, result: TrainResult, **others: Any) -> None:
    world = distributed()
    row = {
        "steps": result.steps,
        "interrupted": result.interrupted,
        "history": result.history,
        "evaluations": result.evaluations,
        **others,
    }
    # Every process writes the JSON, for all must have the same; the first writes the weights.
    (DIRECTORY / f"{case}-{world.rank}.json").write_text(json.dumps(row))
    if world.is_main:
        save_file({n: t.contiguous() for n, t in weights(model).items()}, DIRECTORY / f"{case}.st")


def mask_some(examples: list[Tensor], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Hide some tokens, which are then the targets."""
    ids = torch.stack(examples)
    hidden = torch.rand(ids.shape, generator=generator) < 0.3
    return ids.masked_fill(hidden, 0), ids.masked_fill(~hidden, -100)


def main() -> None:
    world = distributed()

    for dtype in (torch.float32, torch.float64):
        # Another start in each process: the first process's counts.
        model = small_gpt(dtype, seed=world.rank, tie_embeddings=False)
        model.pooler = nn.Linear(8, 8, dtype=dtype)
        nn.init.ones_(model.pooler.weight)
        nn.init.zeros_(model.pooler.bias)
        held_out = Batches(DATA[:5], 4, shuffle=False)
        config = TrainConfig(eval_every=4, accumulate=3, **CONFIG)
        result = train(model, Batches(DATA, 4), config, evaluate_on=held_out)
        one = evaluate(model, [DATA[0][0][None]])  # fewer batches than processes
        plain = evaluate(model, [ids[None] for ids, _ in DATA])
        leave(str(dtype).removeprefix("torch."), model, result, one=one, plain=plain)

    model = small_gpt()
    batches = Batches(list(random_ids(10, 8)), 4, collate=mask_some)
    leave("chance", model, train(model, batches, TrainConfig(**CONFIG)))

    model = small_gpt()
    function = lambda number: random_ids(3, 7, seed=number)  # noqa: E731
    drawn: list[float] = []

    def watched_loss(model: nn.Module, batch: Tensor, label_smoothing: float = 0.0) -> Loss:
        drawn.append(torch.rand(()).item())
        return language_model_loss(model, batch, label_smoothing=label_smoothing)

    result = train(model, function, TrainConfig(**CONFIG), loss_fn=watched_loss)
    leave("function", model, result)
    (DIRECTORY / f"drawn-{world.rank}.json").write_text(json.dumps(drawn))

    def stop(row: dict[str, Any]) -> None:
        # Only called in the first process; the others must stop with it.
        if row["step"] == 4:
            signal.raise_signal(signal.SIGINT)

    # A job in the background of a shell's script starts with SIGINT ignored, as tests may well do.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config = TrainConfig(save_every=2, accumulate=2, **CONFIG)
    model = small_gpt()
    batches = Batches(DATA, 4)
    directory = DIRECTORY / "resumed"
    first = train(model, batches, config, directory=directory, on_step=stop)
    leave("stopped", model, first)
    model = small_gpt(seed=world.rank + 3)
    leave("resumed", model, train(model, batches, config, directory=directory))


if __name__ == "__main__":
    main()
