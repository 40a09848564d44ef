"""Everyday Chinese sentences with translations, from the vocabulary lists of the HSK."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import lmlib.assets
from lmlib.datasets._pairs import Pair, read_table
from lmlib.datasets._splits import Splits, split_by_group


class GradedPair(NamedTuple):
    """A pair as the corpus has it, before cleaning.

    Attributes:
        zh: the Chinese sentence.
        en: its English translation.
        level: of the HSK 3.0 (the Chinese proficiency test): 1 for beginners, to 6.
    """

    zh: str
    en: str
    level: int


def load_raw_sentence_pairs() -> list[GradedPair]:
    """All 4 354 pairs as they come, see `load_sentence_pairs`: duplicates and slips included."""
    return [GradedPair(zh, en, int(level)) for level, _, zh, en in _rows()]


def load_sentence_pairs(*, validation: int = 300, test: int = 400) -> Splits[Pair]:
    """Everyday sentences, 8 characters or so: 气温低，出门多穿衣服。· It's cold out; dress warmly.

    From the PyPI package hsk-sentences-audio 1.0.0, <https://github.com/no7z/hsk-sentences-audio>,
    by its contributors; licence CC BY-SA 4.0. Shipped with lmlib; `lmlib.recipes.hsk_sentences`
    makes the file again. Cleaned by `clean_sentence_pairs`. Near-duplicates in either language
    (see `pair_groups`) are in one part of the split.

    Args:
        validation: number of pairs in the validation split.
        test: number of pairs in the test split.

    Raises:
        ValueError: the parts cannot be filled.
    """
    pairs = clean_sentence_pairs(load_raw_sentence_pairs())
    groups = [group for _, group, _, _ in _rows() if group]  # of those that cleaning keeps
    return split_by_group(
        pairs, groups, validation=validation, test=test, text=lambda pair: pair.zh
    )


def clean_sentence_pairs(pairs: Iterable[GradedPair]) -> list[Pair]:
    """What is fit for use of the pairs that `load_raw_sentence_pairs` gives.

    Each Chinese sentence is kept once. 82 have no translation but "placeholder-p17" or "PH" and go;
    so do two English sentences with a Chinese character (The exam is近). Dashes become ASCII.

    Args:
        pairs: any number.
    """
    first: dict[str, Pair] = {}
    for zh, en, _ in pairs:
        en = en.replace("—", " - ").replace("é", "e")
        if en.isascii() and not en.startswith(("placeholder", "PH")):
            first.setdefault(zh, Pair(zh, en))
    return list(first.values())


@lru_cache(maxsize=1)
def _rows() -> list[list[str]]:
    """Level, group (none for what cleaning leaves out), Chinese, English."""
    return read_table(lmlib.assets.path("corpora", "hsk_sentences.tsv.xz"))
