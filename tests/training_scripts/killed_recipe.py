"""A small recipe: ``[torchrun …] killed_recipe.py DIRECTORY [--kill STEP | --term STEP]``.

It leaves the finished model in DIRECTORY/model, and its checkpoints in DIRECTORY/work. While it
samples at STEP it kills itself, or asks itself to stop.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from small_runs import random_ids

from lmlib import seed_everything
from lmlib.gpt import GPT, GPTConfig
from lmlib.recipes._run import (
    Card,
    Check,
    Metric,
    Options,
    as_shipped,
    fit,
    publish,
)
from lmlib.tokenizers import CharTokenizer
from lmlib.training import Batches, TrainConfig, evaluate

TOKENIZER = CharTokenizer.train(["天地玄黄宇宙洪荒日月盈昃"])
MODEL = GPTConfig.llama(
    vocab_size=len(TOKENIZER), d_model=16, num_heads=2, num_layers=1, d_ff=24, max_seq_len=12
)
TRAINING = TrainConfig(
    max_steps=9, learning_rate=0.01, log_every=2, eval_every=3, save_every=2, seed=3
)


def check(model: Any, tokenizer: Any) -> float:
    return evaluate(model, [random_ids(4, 8, seed=7, vocab_size=len(tokenizer))])["loss"]


def run(directory: Path, at: int | None, number: int, sampling: bool = True) -> None:
    """Train, publish; send the signal ``number`` while sampling at step ``at``."""
    options = Options("killed_recipe", directory / "model", directory / "work", threads=1)
    seed_everything(3)
    model = GPT(MODEL)
    calls: list[int] = []

    def sample(network: Any) -> list[str]:
        assert not network.training
        assert not torch.is_grad_enabled()
        calls.append(len(calls) * 3)  # resumed, it begins elsewhere: then nobody is killed
        if at is not None and calls[-1] == at:
            os.kill(os.getpid(), number)
        logits = network(torch.tensor([[TOKENIZER.bos_id]]))[0, -1]
        ids = torch.multinomial(logits.softmax(-1), 6, replacement=True)  # of global chance
        return [TOKENIZER.decode(ids.tolist())]

    fitted = fit(
        options,
        model,
        Batches(random_ids(20, 8, seed=1, vocab_size=len(TOKENIZER)), 4, seed=3),
        TRAINING,
        evaluate_on=Batches(random_ids(6, 8, seed=2, vocab_size=len(TOKENIZER)), 3, shuffle=False),
        sample=sample if sampling else None,
    )
    shipped = as_shipped(model)
    card = Card(
        title="A title",
        summary="A summary.",
        data="Random.",
        licence="MIT",
        metrics=[Metric("validation loss", fitted.rows[-1]["validation_loss"], "six texts")],
        limits=["It knows nothing."],
        check=Check("loss", 1e-4, "of four random texts"),
        notes=["Nothing."],
    )
    inputs = [(random_ids(2, 8, seed=5, vocab_size=len(TOKENIZER)),)]
    publish(
        options,
        shipped,
        TOKENIZER,
        card,
        [fitted],
        check,
        files={"more.csv": "a,b\n"},
        examples=inputs,
    )


def main() -> None:
    directory, *rest = sys.argv[1:]
    at = int(rest[1]) if rest else None
    number = signal.SIGTERM if rest[:1] == ["--term"] else signal.SIGKILL
    run(Path(directory), at, number)


if __name__ == "__main__":
    main()
