"""Couplets with one character masked, and how well it is guessed; by counting, for a start."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lmlib.datasets import Poem
from lmlib.metrics import perplexity_from_nll
from lmlib.ngram import NGramModel
from lmlib.recipes._poem_pairs import ALL_SPECIALS, BOS, UNK
from lmlib.tokenizers import Tokenizer

NGRAM_ORDER = 3
SEED = 2026  # of the places that are masked


class Cloze(NamedTuple):
    """A couplet of which one character is asked, all others being given.

    Attributes:
        couplet: its ids, whole, without [CLS] and [SEP].
        place: of the character.
    """

    couplet: list[int]
    place: int


class Quality(NamedTuple):
    """How well characters were guessed.

    Attributes:
        perplexity: e to the mean of −log P of the right one.
        top1: share of places where the right one is the most likely.
        top5: share of places where it is among the five most likely.
    """

    perplexity: float
    top1: float
    top5: float


def clozes(tokenizer: Tokenizer, poems: Iterable[Poem]) -> list[Cloze]:
    """One for each couplet of ``poems``, the place drawn from a fixed seed; never <unk>."""
    generator = torch.Generator().manual_seed(SEED)
    found = []
    for poem in poems:
        for first, second in zip(poem.lines[::2], poem.lines[1::2], strict=True):
            ids = tokenizer.encode(f"{first}，{second}。")
            places = [i for i in range(len(ids) - 1) if i != len(first) and ids[i] != UNK]
            draw = int(torch.randint(2**62, (), generator=generator))
            if places:
                found.append(Cloze(ids, places[draw % len(places)]))
    return sorted(found, key=lambda cloze: len(cloze.couplet))


def quality(log_probs: Tensor, asked: Sequence[Cloze]) -> Quality:
    """What log-probabilities (len(asked), vocab_size) are worth."""
    answers = torch.tensor([couplet[place] for couplet, place in asked])[:, None]
    best = log_probs.topk(5).indices == answers  # (n, 5)
    nll = -float(log_probs.gather(1, answers).double().sum())
    top1, top5 = best[:, 0].double().mean(), best.any(dim=1).double().mean()
    return Quality(perplexity_from_nll(nll, len(asked)), float(top1), float(top5))


def chunks(lengths: Iterable[int], size: int = 128) -> Iterator[list[int]]:
    """The numbers 0, 1, … of ``lengths`` in lists: at most ``size`` neighbours, equally long."""
    for _, group in groupby(enumerate(lengths), key=lambda item: item[1]):
        numbers = [number for number, _ in group]
        yield from (numbers[i : i + size] for i in range(0, len(numbers), size))


def characters_only(logits: Tensor) -> Tensor:
    """Normalised log-probabilities (n, vocab_size) of everything but the special tokens."""
    logits = logits.clone()
    logits[:, : len(ALL_SPECIALS)] = -torch.inf
    return logits.log_softmax(dim=-1)


def baselines(
    tokenizer: Tokenizer, known: Iterable[Poem], asked: Sequence[Cloze]
) -> dict[str, Quality]:
    """How well counting guesses: by frequency, and by interpolated Kneser–Ney of `NGRAM_ORDER`.

    An n-gram model P(w | left) sees what stands in front. A second one, of the texts read
    backwards, gives P(w | right). Were both sides independent given w, then
    P(w | left, right) ∝ P(w | left) P(w | right) / P(w).

    Args:
        tokenizer: from `make_tokenizer`.
        known: the poems to count.
        asked: from `clozes`.
    """
    texts = []
    for poem in known:
        ids, step = tokenizer.encode(poem.text), 2 * len(poem.lines[0]) + 2
        texts += [np.array(ids[i : i + step]) for i in range(0, len(ids), step)]
    size, padding = len(tokenizer.vocab), [BOS] * (NGRAM_ORDER - 1)
    counts = torch.from_numpy(np.bincount(np.concatenate(texts), minlength=size)) + 1
    unigram = (counts / counts.sum()).log()

    def by_side(step: int) -> Tensor:
        ngrams = NGramModel(NGRAM_ORDER, size, smoothing="kneser_ney", bos_id=BOS)
        ngrams.fit(text[::step] for text in texts)
        rows = []
        for couplet, place in asked:
            given = couplet[:place] if step == 1 else couplet[:place:-1]
            rows.append(ngrams.distribution([*padding, *given]).log().float())
        return torch.stack(rows)

    left, right = by_side(1), by_side(-1)
    guesses = {
        "frequency": unigram.expand_as(left),
        f"{NGRAM_ORDER}-grams, left side": left,
        f"{NGRAM_ORDER}-grams, both sides": left + right - unigram,
    }
    return {name: quality(characters_only(rows), asked) for name, rows in guesses.items()}
