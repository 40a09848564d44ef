"""The poem GPT for the page, half as large: `python -m lmlib.recipes.poem_gpt_small`.

It reads the same poems with the same vocabulary as `lmlib.recipes.poem_gpt`, so that it can also
draft for the larger one in speculative decoding. Packed as int8 it has 1.5 MB, what a page may
load.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lmlib.assets import path
from lmlib.gpt import GPTConfig
from lmlib.pretrained import load_tokenizer
from lmlib.recipes import poem_gpt
from lmlib.recipes._run import arguments
from lmlib.recipes.poem_gpt import check, examples

__all__ = ["check", "examples", "main", "model_config"]

NAME = "poem_gpt_small"
"""The recipe, and the folder of the model."""

TRAINING = poem_gpt.TRAINING
"""As the larger one: three times through the poems."""


def model_config(vocab_size: int) -> GPTConfig:
    """The model: 1.4 million parameters, two fifths of them the characters' vectors."""
    return replace(poem_gpt.model_config(vocab_size), d_model=128, num_heads=4)


def main(argv: Sequence[str] | None = None) -> None:
    """Train the model and write it."""
    options = arguments(NAME, argv, summary="Train the poem GPT for the page.")
    poem_gpt.make(
        options,
        model_config,
        TRAINING,
        title="poem_gpt_small: the same, half as large, for the page",
        notes=["The n-grams that read the same poems are measured on the card of poem_gpt."],
        # Not one of its own: equally frequent characters might be numbered in another order.
        tokenizer=load_tokenizer(path("models", poem_gpt.NAME)),
    )


if __name__ == "__main__":
    main()
