"""The poem BERT for the page, half as large: `python -m lmlib.recipes.poem_bert_small`.

It reads the same poems with the same vocabulary as `lmlib.recipes.poem_bert`, and is trained
likewise, with fewer steps. Packed as int8 it has 1.5 MB, what a page may load.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lmlib.recipes import poem_bert
from lmlib.recipes._run import arguments
from lmlib.recipes.poem_bert import check, examples

__all__ = ["check", "examples", "main"]

NAME = "poem_bert_small"
"""The recipe, and the folder of the model."""

MODEL = replace(poem_bert.MODEL, d_model=128, num_heads=4, d_ff=384)
"""Its shape, 1.4 million parameters, half of them the characters' vectors."""

TRAINING = replace(poem_bert.TRAINING, max_steps=10_000)
"""Two thirds of the steps of the larger one."""


def main(argv: Sequence[str] | None = None) -> None:
    """Train the model and write it."""
    options = arguments(NAME, argv, summary="Train the poem BERT for the page.")
    poem_bert.make(
        options,
        MODEL,
        TRAINING,
        title="poem_bert_small: the same, half as large, for the page",
        notes=["The n-grams that read the same poems are measured on the card of poem_bert."],
    )


if __name__ == "__main__":
    main()
