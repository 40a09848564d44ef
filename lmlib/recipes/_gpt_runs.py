"""One short training of a small poem GPT on the Tang poems: for `gpt_scaling` and `gpt_parts`.

All runs of one seed read the same poems in the same order, none twice, and are asked for the same
test part. What differs is the shape of the model.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from lmlib.datasets import Poem, load_poems
from lmlib.gpt import GPT, GPTConfig
from lmlib.recipes._curves import json_text, write_whole
from lmlib.recipes._run import Options
from lmlib.recipes.poem_gpt import FORMS, collate, encode, form_token, perplexity
from lmlib.tokenizers import SPECIALS, CharTokenizer
from lmlib.training import LengthBatches, TrainConfig, train

MIN_COUNT = 100
"""A character that the training poems hold less often is <unk>: 5 % of the text, but the head
takes less time than the layers."""

CONTEXT = 64
"""The longest poem, 五律, has 51 tokens with <bos>, its form and <eos>."""

BATCH_TOKENS = 1600
"""Tokens in a batch."""

READ = 0.55
"""The share of the training poems that a run reads; nothing is read twice."""

EVALUATIONS = 6
"""How often a run is measured on the validation part."""


@dataclass(frozen=True)
class Corpus:
    """The Tang poems of the forms that `poem_gpt` writes, and their characters.

    Attributes:
        train, validation, test: the poems.
        tokenizer: the characters of the training part, and the forms.
    """

    train: Sequence[Poem]
    validation: Sequence[Poem]
    test: Sequence[Poem]

    @cached_property
    def tokenizer(self) -> CharTokenizer:
        """The characters that occur at least `MIN_COUNT` times, and the tokens of the forms."""
        specials = [*SPECIALS, *map(form_token, FORMS)]
        texts = (poem.text for poem in self.train)
        return CharTokenizer.train(texts, min_count=MIN_COUNT, specials=specials)

    def batches(self, seed: int) -> LengthBatches:
        """The training part in the order of ``seed``, poems of one length together.

        Args:
            seed: of the order.
        """
        texts = [torch.tensor(encode(self.tokenizer, poem)) for poem in self.train]
        return LengthBatches(texts, BATCH_TOKENS, seed=seed, collate=collate)


def load_corpus() -> Corpus:
    """The shipped poems."""
    poems = load_poems("tang", FORMS)
    return Corpus(poems.train, poems.validation, poems.test)


def special_ids() -> dict[str, int]:
    """The ids of the special tokens, as `GPTConfig` takes them."""
    return {f"{role}_id": SPECIALS.index(f"<{role}>") for role in ("pad", "bos", "eos")}


def parameters(config: GPTConfig) -> tuple[int, int]:
    """Number of parameters, and of those that are no embedding of a token or a position.

    Args:
        config: of the model, which is not made.
    """
    with torch.device("meta"):
        model = GPT(config)
    total = sum(p.numel() for p in model.parameters())
    looked_up = sum(
        p.numel()
        for name, p in model.named_parameters()
        if name.split(".")[0] in ("embedding", "positions", "head")
    )
    return total, total - looked_up


def training(steps: int, learning_rate: float, seed: int) -> TrainConfig:
    """How every model is trained; only the learning rate is its own.

    Args:
        steps: of the run; a tenth of them warm up, and the cosine ends with the last.
        learning_rate: the highest.
        seed: of the run.
    """
    return TrainConfig(
        max_steps=steps,
        learning_rate=learning_rate,
        warmup_steps=max(1, steps // 10),
        min_learning_rate=learning_rate / 20,
        weight_decay=0.1,
        betas=(0.9, 0.95),
        log_every=steps,
        eval_every=max(1, steps // EVALUATIONS),
        seed=seed,
    )


def run(
    options: Options,
    corpus: Corpus,
    config: GPTConfig,
    *,
    learning_rate: float,
    seed: int,
    share: float = 1.0,
) -> dict[str, Any]:
    """Train one model, measure it.

    Args:
        options: from the command line.
        corpus: from `load_corpus`.
        config: of the model; its vocabulary is that of the corpus.
        learning_rate: the highest of the schedule.
        seed: of the weights and of the order of the poems.
        share: of what is read, the first part.

    Returns:
        parameters, non_embedding, steps, tokens (targets), learning_rate, test_loss (nats a
        character, the form being given), curve (pairs of tokens and loss on the validation part),
        and seconds (of the processor).

    Raises:
        SystemExit: the run was asked to stop; it will begin anew.
    """
    batches = corpus.batches(seed)
    steps = max(1, round(len(batches) * READ * share))
    steps = steps if options.max_steps is None else min(steps, options.max_steps)
    torch.manual_seed(seed)
    model = GPT(config).to(options.device)

    def look(network: Any) -> dict[str, float]:
        return {"loss": math.log(perplexity(network, corpus.tokenizer, corpus.validation))}

    start = time.process_time()
    result = train(
        model, batches, training(steps, learning_rate, seed), evaluate_on=look, progress=False
    )
    if result.interrupted:
        raise SystemExit("stopped; the same command makes this run anew, and keeps the others")
    last = result.history[-1]
    total, inner = parameters(config)
    return {
        "parameters": total,
        "non_embedding": inner,
        "steps": steps,
        "tokens": last["targets"],
        "learning_rate": learning_rate,
        "test_loss": round(math.log(perplexity(model.eval(), corpus.tokenizer, corpus.test)), 5),
        "curve": [
            [round(last["targets"] * row["step"] / steps), round(row["loss"], 4)]
            for row in result.evaluations
        ],
        "seconds": round(time.process_time() - start, 1),
    }


class Runs:
    """Every run, a file each: what is there is not run again.

    Args:
        folder: of the files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The result of the run called ``name``, which ``make()`` gives if it is new.

        Args:
            name: of its file.
            make: without arguments, to what JSON can hold.
        """
        path = self._folder / f"{name}.json"
        if not path.exists():
            result = make()
            write_whole(path, json_text(result))
            print(f"{name}: {result['test_loss']:.3f} ({result['seconds']:.0f} s)", flush=True)
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return found
