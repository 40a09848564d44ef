"""The small 你好世界 model, which copies a sentence: `python -m lmlib.recipes.hello_world`.

The model of chapter 5 has 12.5 million parameters, is trained in the chapter itself in 60 steps,
and would fill 25 MB: it is not shipped. This is its small sibling: the same structure at d_model =
64 with a vocabulary of 1 000, for pages where a reader types a sentence of their own. It learns
from random sentences, so there is nothing to know by heart, and has to copy.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lmlib import seed_everything
from lmlib.assets import vocab_path
from lmlib.generation import greedy_search
from lmlib.recipes._run import Card, Check, Metric, arguments, as_shipped, fit, publish
from lmlib.tokenizers import EOS, SPECIALS, CharTokenizer, Tokenizer
from lmlib.training import TrainConfig, seq2seq_loss
from lmlib.transformer import Transformer, TransformerConfig

NAME = "hello_world"
"""The recipe, and the folder of the model."""

PHRASES = [
    "你好世界",
    "你好朋友",
    "你好老师",
    "你们辛苦",
    "世界你好",
    "世界和平",
    "春暖花开",
    "一路平安",
]
"""The eight sentences of chapter 5; the model never trains on them but by chance."""

MAX_CHARACTERS = 8
"""The longest sentence."""

BATCH_SIZE = 64
"""Random sentences in a batch."""

SEED = 5
"""Of the weights, and of the sentences."""

EOS_ID = SPECIALS.index(EOS)
"""The end of a sentence."""

MODEL = TransformerConfig(
    vocab_size=1000,
    d_model=64,
    num_heads=4,
    d_ff=256,
    num_encoder_layers=1,
    num_decoder_layers=1,
    dropout=0.0,
)
"""The structure of chapter 5, an eighth as wide."""

TRAINING = TrainConfig(
    max_steps=1500,
    learning_rate=3e-3,
    warmup_steps=100,
    log_every=20,
    eval_every=150,
    save_every=150,
    seed=SEED,
)
"""Fifteen hundred steps: less than a minute of one core."""


def make_tokenizer() -> CharTokenizer:
    """The characters of ``PHRASES`` and the most frequent others of the book's vocabulary."""
    frequent = CharTokenizer.load(vocab_path()).vocab
    chinese = [token for token in frequent if "\u4e00" <= token <= "\u9fff"]
    chosen = dict.fromkeys([*"".join(PHRASES), *chinese])
    return CharTokenizer.from_vocab([*SPECIALS, *chosen][: MODEL.vocab_size])


def random_sentences(
    count: int, generator: torch.Generator | None = None, longest: int = MAX_CHARACTERS
) -> tuple[Tensor, Tensor]:
    """Sentences of one to ``longest`` random characters, all lengths equally likely.

    Args:
        count: how many.
        generator: of the random numbers; torch's global ones if not given, which `train` seeds for
            each batch.
        longest: the highest number of characters.

    Returns:
        source (count, longest) and target (count, longest + 1), which ends with EOS; both padded.
    """
    length = torch.randint(1, longest + 1, (count, 1), generator=generator)
    ids = torch.randint(len(SPECIALS), MODEL.vocab_size, (count, longest + 1), generator=generator)
    place = torch.arange(longest + 1)
    target = ids.masked_fill(place > length, MODEL.pad_id).masked_fill(place == length, EOS_ID)
    return ids.masked_fill(place >= length, MODEL.pad_id)[:, :longest], target


def batch(number: int) -> tuple[Tensor, Tensor]:
    """Batch ``number``: source (batch, n) and target (batch, n + 1).

    It is drawn from the random numbers that `lmlib.training.train` seeds by the number.
    """
    return random_sentences(BATCH_SIZE)


def copied(model: Transformer, tokenizer: Tokenizer, texts: Sequence[str]) -> list[str]:
    """What ``model`` writes for each of ``texts``, by greedy search; ``tokenizer`` is its own."""
    sources = [tokenizer.encode(text) for text in texts]
    longest = max(map(len, sources)) + 2
    written = greedy_search(model, max_new_tokens=longest, source=sources, eos_id=EOS_ID)
    return [tokenizer.decode(ids) for ids in written.texts]


def unseen(tokenizer: Tokenizer, count: int, seed: int, longest: int = MAX_CHARACTERS) -> list[str]:
    """Sentences as in training, from random numbers that training does not use.

    Args:
        tokenizer: that of `make_tokenizer`.
        count: how many.
        seed: of the sentences.
        longest: the highest number of characters.
    """
    source, _ = random_sentences(count, torch.Generator().manual_seed(seed), longest)
    return [tokenizer.decode(row.tolist()) for row in source]


def exact_rate(model: Transformer, tokenizer: Tokenizer, texts: Sequence[str]) -> float:
    """The share of ``texts`` that ``model``, with its ``tokenizer``, copies without a mistake."""
    pairs = zip(copied(model, tokenizer, texts), texts, strict=True)
    return sum(written == text for written, text in pairs) / len(texts)


def check(model: Transformer, tokenizer: Tokenizer) -> float:
    """The share of the eight phrases and 192 random sentences that are copied without a mistake.

    Args:
        model: as it is shipped.
        tokenizer: its own.
    """
    return exact_rate(model, tokenizer, [*PHRASES, *unseen(tokenizer, 192, seed=1)])


def examples(tokenizer: Tokenizer) -> list[tuple[Tensor, Tensor]]:
    """Sentences to copy: pairs of source (1, n) and decoder input (1, n + 1)."""
    rows = [torch.tensor([tokenizer.encode(t)]) for t in (*PHRASES, *unseen(tokenizer, 100, 6))]
    return [(row, torch.cat([torch.full_like(row[:, :1], MODEL.bos_id), row], 1)) for row in rows]


def main(argv: Sequence[str] | None = None) -> None:
    """Train the model and write it."""
    options = arguments(NAME, argv, summary="Train the small 你好世界 model, which copies.")
    seed_everything(SEED)
    tokenizer = make_tokenizer()
    model = Transformer(MODEL).to(options.device)
    validation = [random_sentences(250, torch.Generator().manual_seed(2)) for _ in range(2)]
    fitted = fit(
        options,
        model,
        batch,
        TRAINING,
        loss_fn=seq2seq_loss,
        evaluate_on=validation,
        sample=lambda network: copied(network, tokenizer, [*PHRASES, "世界好你", "花开春暖"]),
    )
    shipped = as_shipped(model)
    longer = unseen(tokenizer, 500, seed=4, longest=12)
    longer = [text for text in longer if len(text) > MAX_CHARACTERS]
    rate_of_longer = exact_rate(shipped, tokenizer, longer)
    card = Card(
        title="hello_world: the small 你好世界 model",
        summary=(
            "An encoder–decoder of one layer each, which copies a sentence of up to "
            f"{MAX_CHARACTERS} Chinese characters. It has the structure of the model of chapter 5 "
            "at d_model = 64 instead of 512, with 1 000 tokens instead of 10 000."
        ),
        data=(
            f"Random sentences of 1 to {MAX_CHARACTERS} characters, drawn while it trains; no "
            "corpus. The characters are those of the eight phrases of chapter 5 and the most "
            "frequent of `vocab/hanzi_10000.txt`. Test sentences come from other random numbers: "
            "of 996⁸ sentences of eight characters, training has seen almost none."
        ),
        licence="MIT, like the code; for the order of the characters see the vocabulary's licence.",
        metrics=[
            Metric(
                "copied exactly, unseen",
                exact_rate(shipped, tokenizer, unseen(tokenizer, 1000, seed=3)),
                f"share of 1 000 random sentences of 1 to {MAX_CHARACTERS} characters",
            ),
            Metric(
                "copied exactly, phrases",
                exact_rate(shipped, tokenizer, PHRASES),
                "share of the eight phrases of chapter 5",
            ),
            Metric(
                "copied exactly, longer",
                rate_of_longer,
                f"share of {len(longer)} sentences of 9 to 12 characters",
            ),
        ],
        limits=[
            f"It knows {MODEL.vocab_size - len(SPECIALS)} characters; others are `<unk>` to it.",
            f"No sentence in training was longer than {MAX_CHARACTERS} characters; of longer ones "
            f"it copies {rate_of_longer:.0%}.",
            "It copies; it knows nothing of which sentences are likely.",
        ],
        check=Check(
            "copied exactly",
            0.02,
            "the share of the eight phrases and 192 random sentences copied without a mistake",
        ),
    )
    publish(options, shipped, tokenizer, card, [fitted], check, examples=examples(tokenizer))


if __name__ == "__main__":
    main()
