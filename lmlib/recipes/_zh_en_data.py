"""What `lmlib.recipes.zh_en` reads: a mixture of three corpora, and one common vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from lmlib.datasets import (
    GrammarSplits,
    Pair,
    Splits,
    load_date_pairs,
    load_grammar_pairs,
    load_sentence_pairs,
)
from lmlib.tokenizers import PAD, SPECIALS, BPETokenizer, Tokenizer
from lmlib.training._random import derived_seed

SEED = 6
"""Of the weights, and of the batches."""

VOCAB_SIZE = 4000
"""Tokens of both languages together: every hanzi of the training text, and pieces of English."""

PATTERN = r"\p{Han}| ?\p{N}|'(?:s|t|re|ve|m|ll|d)\b| ?(?:(?!\p{Han})\p{L})+| ?[^\s\p{L}\p{N}]|\s"
"""What byte-pair encoding may not merge across: a hanzi, a digit and a mark stand alone."""

MIXTURE = {"dates": 0.2, "grammar": 0.4, "sentences": 0.4}
"""What share of the pairs that are read comes from which corpus."""

BATCH_SIZE = 64
"""Pairs in a batch."""

POOL = 16
"""So many batches are drawn together and sorted by length, so that little of a batch is padding."""

PAD_ID = SPECIALS.index(PAD)
"""What fills up the shorter texts of a batch."""


@lru_cache(maxsize=1)
def corpora() -> tuple[Splits[Pair], GrammarSplits, Splits[Pair]]:
    """Dates, sentences of the grammar, everyday sentences, each with its splits."""
    return load_date_pairs(), load_grammar_pairs(60_000), load_sentence_pairs()


def training_pairs() -> dict[str, list[Pair]]:
    """The three corpora of the mixture, by name."""
    return {name: splits.train for name, splits in zip(MIXTURE, corpora(), strict=True)}


def validation_pairs() -> dict[str, list[Pair]]:
    """What tells how training goes: some pairs of each corpus, by name."""
    return {name: splits.validation[:300] for name, splits in zip(MIXTURE, corpora(), strict=True)}


def held_out_pairs() -> dict[str, list[Pair]]:
    """What is translated for the card, by name. No pair of these is in `training_pairs`."""
    dates, grammar, sentences = corpora()
    return {
        "dates": dates.test[:1000],
        "grammar": grammar.test,
        "unseen adjective–noun pairs": grammar.unseen_pairs,
        "longer sentences": grammar.longer,
        "everyday sentences": sentences.test,
    }


def make_tokenizer(pairs: Mapping[str, Sequence[Pair]]) -> BPETokenizer:
    """Byte-pair encoding in which every hanzi of the training text is one token.

    A hanzi is three bytes. That they are merged first is made sure by writing each hanzi often.

    Args:
        pairs: from `training_pairs`; of dates and grammar, which repeat themselves, some thousands.
    """
    texts = [text for corpus in pairs.values() for pair in corpus[:4000] for text in pair]
    hanzi = sorted({char for text in texts for char in text if not char.isascii()})
    often = [char * 1000 for char in hanzi]
    return BPETokenizer.train([*texts, *often], VOCAB_SIZE, pattern=PATTERN)


def encode_pair(tokenizer: Tokenizer, pair: Pair) -> tuple[list[int], list[int]]:
    """Source and target ids of a pair; the target ends with EOS.

    Args:
        tokenizer: from `make_tokenizer`.
        pair: Chinese and English.
    """
    return tokenizer.encode(pair.zh), tokenizer.encode(pair.en, add_eos=True)


def padded(rows: Sequence[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor]:
    """Source (batch, n_source) and target (batch, n) of rows of ids, padded."""
    sides = []
    for side in zip(*rows, strict=True):
        tensors = [torch.tensor(ids) for ids in side]
        sides.append(torch.nn.utils.rnn.pad_sequence(tensors, True, padding_value=PAD_ID))
    return sides[0], sides[1]


class Mixture:
    """Batches of several corpora, each about of one length; batch i is a function of i.

    The pairs of ``POOL`` batches are drawn together, each from a corpus that is drawn first; they
    are sorted by length, cut into batches, and those come in random order.

    Args:
        pairs: the corpora by name.
        tokenizer: makes ids of them.
        shares: how probable each corpus is; they add up to 1.
        batch_size: pairs in a batch.
        seed: of the draws.
    """

    def __init__(
        self,
        pairs: Mapping[str, Sequence[Pair]],
        tokenizer: Tokenizer,
        shares: Mapping[str, float] = MIXTURE,
        batch_size: int = BATCH_SIZE,
        seed: int = SEED,
    ) -> None:
        self.pairs, self.tokenizer, self.batch_size, self.seed = pairs, tokenizer, batch_size, seed
        self.shares = torch.tensor([shares[name] for name in pairs])
        self._pool: tuple[int, list[list[Pair]]] = (-1, [])

    def __call__(self, number: int) -> tuple[Tensor, Tensor]:
        """Batch ``number``, from 0 and without end: source (batch, n_source), target (batch, n)."""
        pool, position = divmod(number, POOL)
        if pool != self._pool[0]:
            self._pool = (pool, self._draw(pool))
        return padded([encode_pair(self.tokenizer, pair) for pair in self._pool[1][position]])

    def _draw(self, pool: int) -> list[list[Pair]]:
        """The batches of a pool, in the order in which they come."""
        generator = torch.Generator().manual_seed(derived_seed("mixture", self.seed, pool))
        count, corpora = POOL * self.batch_size, list(self.pairs.values())
        which = self.shares.multinomial(count, replacement=True, generator=generator).tolist()
        where = torch.rand(count, generator=generator, dtype=torch.float64).tolist()
        drawn = [corpora[k][int(x * len(corpora[k]))] for k, x in zip(which, where, strict=True)]
        drawn.sort(key=lambda pair: (len(pair.zh), len(pair.en)))
        order = torch.randperm(POOL, generator=generator).tolist()
        return [drawn[i * self.batch_size : (i + 1) * self.batch_size] for i in order]
