"""The poem GPT, which writes 绝句 and 五律 by characters: `python -m lmlib.recipes.poem_gpt`.

A poem is read as ``<bos> <七绝> 朝 辞 白 … 还 。 <eos>``. The form's token comes first, so that a
reader can ask for one, and without one the model chooses. It is today's decoder in small: rotary
positions, RMSNorm, SwiGLU, tied embeddings, no biases.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from lmlib import seed_everything
from lmlib.datasets import Poem, Splits, is_well_formed, load_poems
from lmlib.gpt import GPT, GPTConfig
from lmlib.metrics import copied_line_rate, distinct_n, perplexity_from_nll
from lmlib.ngram import NGramModel
from lmlib.recipes._poem_writing import FORMS, compose, form_token, page_model, prompt, write
from lmlib.recipes._run import (
    Card,
    Check,
    Metric,
    Options,
    arguments,
    as_shipped,
    fit,
    publish,
)
from lmlib.tokenizers import SPECIALS, CharTokenizer, Tokenizer
from lmlib.training import LengthBatches, TrainConfig

__all__ = [
    "FORMS",
    "batches",
    "check",
    "collate",
    "compose",
    "encode",
    "examples",
    "form_token",
    "lines",
    "main",
    "make",
    "make_tokenizer",
    "model_config",
    "ngram_perplexity",
    "page_model",
    "perplexity",
    "prompt",
    "sampled_quality",
    "write",
]

NAME = "poem_gpt"
"""The recipe, and the folder of the model."""

MIN_COUNT = 30
"""A character that the training text holds less often is <unk>: 0.3 % of the text."""

BATCH_TOKENS = 3200
"""Tokens in a batch: some 70 poems of one form."""

SEED = 2026
"""Of the weights, and of the order of the poems."""

IGNORE = -100
"""The target at which nothing is predicted."""

TRAINING = TrainConfig(
    epochs=3,
    learning_rate=2e-3,
    warmup_steps=300,
    min_learning_rate=5e-5,
    weight_decay=0.1,
    betas=(0.9, 0.95),
    autocast="bfloat16",
    log_every=50,
    eval_every=500,
    save_every=250,
    seed=SEED,
)
"""Three times through 159 000 poems."""


def model_config(vocab_size: int) -> GPTConfig:
    """The model: 2.6 million parameters, a third of them the characters' vectors."""
    return GPTConfig.llama(
        vocab_size=vocab_size,
        d_model=192,
        num_layers=4,
        num_heads=6,
        max_seq_len=64,
        tie_embeddings=True,
        **special_ids(),
    )


def special_ids() -> dict[str, int]:
    """The ids of the special tokens, as `GPTConfig` takes them."""
    return {f"{role}_id": SPECIALS.index(f"<{role}>") for role in ("pad", "bos", "eos")}


# ------------------------------------------------------------------ text


def make_tokenizer(poems: Iterable[Poem], min_count: int | None = None) -> CharTokenizer:
    """The characters that occur often enough in ``poems``, and the forms' tokens.

    Args:
        poems: to count in.
        min_count: how often; `MIN_COUNT` if not given.
    """
    return CharTokenizer.train(
        (poem.text for poem in poems),
        min_count=MIN_COUNT if min_count is None else min_count,
        specials=[*SPECIALS, *map(form_token, FORMS)],
    )


def encode(tokenizer: Tokenizer, poem: Poem) -> list[int]:
    """``<bos> <form> text <eos>``.

    Args:
        tokenizer: from `make_tokenizer`.
        poem: of one of `FORMS`.
    """
    return [*prompt(tokenizer, poem.form, poem.text), tokenizer.eos_id]


def collate(texts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Inputs and targets, shifted by one.

    Padding stands on the right, where no token sees it: so no mask is needed.

    Args:
        texts: token ids (length,) each, the longest n + 1.

    Returns:
        inputs and targets, (batch, n) each; the target of padding is `IGNORE`.
    """
    width = max(map(len, texts))
    inputs = torch.zeros(len(texts), width - 1, dtype=torch.long)
    targets = torch.full_like(inputs, IGNORE)
    for row, text in enumerate(texts):
        inputs[row, : len(text) - 1] = text[:-1]
        targets[row, : len(text) - 1] = text[1:]
    return inputs, targets


def batches(
    tokenizer: Tokenizer, poems: Iterable[Poem], tokens: int, seed: int = SEED
) -> LengthBatches:
    """Poems of one length together.

    Args:
        tokenizer: from `make_tokenizer`.
        poems: of any of `FORMS`.
        tokens: in a batch, at most.
        seed: of their order.
    """
    texts = [torch.tensor(encode(tokenizer, poem)) for poem in poems]
    return LengthBatches(texts, tokens, seed=seed, collate=collate)


# ------------------------------------------------------------------ measuring


@torch.inference_mode()
def perplexity(model: GPT, tokenizer: Tokenizer, poems: Sequence[Poem]) -> float:
    """Of the characters, punctuation and the end of poems, their form being given.

    Args:
        model, tokenizer: as this recipe makes them.
        poems: of any of `FORMS`.
    """
    total, count, device = 0.0, 0, next(model.parameters()).device
    for inputs, targets in batches(tokenizer, poems, 8 * BATCH_TOKENS):
        targets = targets[:, 1:].to(device)  # not of the form
        log_probs = model(inputs.to(device))[:, 1:].float().log_softmax(dim=-1)
        chosen = log_probs.gather(2, targets.clamp(min=0)[..., None])[..., 0]
        total -= float(chosen[targets != IGNORE].sum())
        count += int((targets != IGNORE).sum())
    return perplexity_from_nll(total, count)


def ngram_perplexity(tokenizer: Tokenizer, poems: Splits[Poem], order: int) -> float:
    """What interpolated Kneser–Ney reaches on the same tokens, the form being given likewise.

    Args:
        tokenizer: from `make_tokenizer`.
        poems: it is fitted to the training part and asked for the validation part.
        order: n of the n-grams.
    """
    [known, asked] = [
        [encode(tokenizer, poem)[1:-1] for poem in part] for part in (poems.train, poems.validation)
    ]
    ngrams = NGramModel(order, len(tokenizer.vocab), smoothing="kneser_ney").fit(known)
    log_probs = [ngrams.token_log_probs(text)[1:] for text in asked]
    total = -math.fsum(float(row.sum()) for row in log_probs)
    return perplexity_from_nll(total, sum(map(len, log_probs)))


def lines(text: str) -> list[str]:
    """The lines of a poem, without punctuation."""
    return [line for line in text.replace("，", "。").split("。") if line]


def check(model: GPT, tokenizer: Tokenizer) -> float:
    """Perplexity of the first 60 七绝 in the shipped validation part, those of the Tang.

    Args:
        model, tokenizer: as this recipe makes them.
    """
    poems = load_poems("tang", ["七绝"]).validation[:60]
    return perplexity(model, tokenizer, poems)


def examples(tokenizer: Tokenizer) -> list[tuple[Tensor]]:
    """Thirty poems of the shipped validation part, as the model reads them."""
    poems = load_poems("tang", FORMS).validation[:30]
    return [(torch.tensor([encode(tokenizer, poem)[:-1]]),) for poem in poems]


def sampled_quality(model: GPT, tokenizer: Tokenizer, train: Sequence[Poem]) -> list[Metric]:
    """What 200 五绝 and 200 七绝 drawn at temperature 1 are like.

    Args:
        model, tokenizer: as this recipe makes them.
        train: the poems it has read, to find copied lines.
    """
    metrics, written = [], []
    for form in ("五绝", "七绝"):
        texts = write(model, tokenizer, form, 200, seed=1)
        share = sum(is_well_formed(text, form) for text in texts) / len(texts)
        metrics.append(Metric(f"well-formed {form}", share, "share of 200 drawn at temperature 1"))
        written += [line for text in texts for line in lines(text)]
    known = {line for poem in train for line in lines(poem.text)}
    copied = copied_line_rate(written, known)
    how = f"share of the {len(written):,} lines of these poems that stand in the training text"
    variety = distinct_n(written, 2)
    return [
        *metrics,
        Metric("copied lines", copied, how),
        Metric("distinct-2", variety, "different character pairs over all, in the same lines"),
    ]


def make(
    options: Options,
    shape: Callable[[int], GPTConfig],
    training: TrainConfig,
    *,
    title: str,
    ngrams: Sequence[int] = (),
    notes: Sequence[str] = (),
    tokenizer: Tokenizer | None = None,
) -> None:
    """Train a poem GPT, measure it and write it.

    Args:
        options: from `arguments`.
        shape: its config, given the size of the vocabulary.
        training: how it is trained.
        title: of its card.
        ngrams: the orders of the n-grams that it is compared with.
        notes: of its card.
        tokenizer: another model's, whose tokens it shares; its own is made if none is given.
    """
    seed_everything(SEED)
    poems = load_poems("all", FORMS)
    if tokenizer is None:
        tokenizer = make_tokenizer(poems.train)
    model = GPT(shape(len(tokenizer.vocab))).to(options.device)
    validation = batches(tokenizer, poems.validation, BATCH_TOKENS)

    def drafts(network: GPT) -> list[str]:
        texts = [write(network, tokenizer, form)[0] for form in FORMS]
        return [*texts, *write(network, tokenizer, "五绝", beginning="床前明月光，")]

    fitted = fit(
        options,
        model,
        batches(tokenizer, poems.train, BATCH_TOKENS),
        training,
        evaluate_on=validation,
        sample=drafts,
    )
    shipped = as_shipped(model)
    reached = perplexity(shipped, tokenizer, poems.validation)
    counted = {order: ngram_perplexity(tokenizer, poems, order) for order in ngrams}
    compared = [
        Metric(f"perplexity of {order}-grams", value, "interpolated Kneser–Ney, validation")
        for order, value in counted.items()
    ]
    if counted:
        best = min(counted, key=lambda order: counted[order])
        below = 1 - reached / counted[best]
        compared += [Metric("below the best n-gram", below, f"share; order {best} is best")]
    card = Card(
        title=title,
        summary=(
            "A decoder that writes classical Chinese poems character by character, in one of "
            "three forms, from nothing or from a beginning."
        ),
        data=(
            "The regular poems (五绝, 七绝, 五律) of Tang and Song in the npm package "
            "chinese-poetry 2.0.1 (MIT; the poems are in the public domain), simplified, cleaned "
            f"and split by `lmlib.datasets.load_poems('all')`: {len(poems.train):,} for training, "
            f"{len(poems.validation):,} for validation, {len(poems.test):,} for a test; no "
            "near-duplicate crosses the split."
        ),
        licence="MIT, like the code.",
        metrics=[
            Metric("perplexity", reached, "per character, validation, the form being given"),
            Metric(
                "test perplexity",
                perplexity(shipped, tokenizer, poems.test),
                "the same on the test part, which no choice was made by",
            ),
            *compared,
            *sampled_quality(shipped, tokenizer, poems.train),
        ],
        limits=[
            "It knows the look of a poem, not its sense: a couplet may be fine and the poem not.",
            "Rhyme and tone were not taught and are kept only as far as it picked them up.",
            f"Characters seen fewer than {MIN_COUNT} times are `<unk>` to it.",
            "It has no 七律, which would not fit into its context of 64 tokens.",
        ],
        notes=notes,
        check=Check("perplexity", 0.5, "of 60 七绝 of the Tang in the validation part"),
    )
    publish(options, shipped, tokenizer, card, [fitted], check, examples=examples(tokenizer))


def main(argv: Sequence[str] | None = None) -> None:
    """Train the model and write it."""
    options = arguments(NAME, argv, summary="Train the poem GPT.")
    title = "poem_gpt: it writes 绝句 and 五律"
    make(options, model_config, TRAINING, title=title, ngrams=(2, 3, 4, 5))


if __name__ == "__main__":
    main()
