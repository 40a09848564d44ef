"""What the tests of BERT's data share: a vocabulary, collators, documents, a binomial test."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lmlib.bert import MaskingCollator, NextSentenceCollator

PAD, CLS, SEP, MASK, UNK = 0, 1, 2, 3, 4
VOCAB = 25
DOCUMENTS = [
    [[10 + d, 10 + d, 5 + s, 5 + d] for s in range(length)]  # every sentence differs
    for d, length in enumerate([4, 1, 3, 0, 6])
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def collator(seed: int = 0, **options: Any) -> MaskingCollator:
    return MaskingCollator(
        VOCAB, MASK, (CLS, SEP, UNK), **{"generator": generator(seed), **options}
    )


def any_ids(batch: int, n: int, seed: int = 0) -> Tensor:
    """Ordinary and special tokens, mixed."""
    return torch.randint(0, VOCAB, (batch, n), generator=generator(seed))


def assert_share(count: int, total: int, share: float) -> None:
    """``count`` of ``total`` fits a binomial with that share: within 4 standard deviations."""
    deviation = math.sqrt(total * share * (1 - share))
    assert abs(count - total * share) <= 4 * deviation, (count / total, share)


def pair_collator(max_seq_len: int = 9, **options: Any) -> NextSentenceCollator:
    return NextSentenceCollator(
        collator(**options), cls_id=CLS, sep_id=SEP, max_seq_len=max_seq_len
    )
