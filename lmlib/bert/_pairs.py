"""The other task of BERT: does sentence B follow A? (See `lmlib.bert`.)"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch

from lmlib._checks import check_special_id
from lmlib.bert._data import MaskingCollator, PreTrainingBatch

FOLLOWS, RANDOM = 0, 1


class SentencePair(NamedTuple):
    """Two sentences as token ids without special tokens, and how B was found.

    Attributes:
        first: sentence A.
        second: sentence B.
        label: 0 = B follows A in the text, 1 = B was drawn at random.
    """

    first: Sequence[int]
    second: Sequence[int]
    label: int


def next_sentence_pairs(
    documents: Sequence[Sequence[Sequence[int]]], generator: torch.Generator | None = None
) -> list[SentencePair]:
    """The pairs of next-sentence prediction (Devlin et al. 2019, §3.1, Task 2).

    Each sentence but the last of its document comes once as A, in order. B is the sentence behind
    it, or with probability one half a random sentence of another document. Each call draws anew.

    Args:
        documents: of sentences, of token ids without special tokens.
        generator: draws, so that a seed repeats the pairs; torch's global one if not given.

    Returns:
        One pair for each two neighbouring sentences.

    Raises:
        ValueError: fewer than two documents with a sentence, or none with two.
    """
    documents = [document for document in documents if len(document)]
    if len(documents) < 2:
        raise ValueError(
            f"documents must be at least 2 with a sentence, to draw from another one, "
            f"got {len(documents)}"
        )
    if max(len(document) for document in documents) < 2:
        raise ValueError("documents must have one of at least 2 sentences, got none")
    neighbours = [
        (own, first, follows)
        for own, document in enumerate(documents)
        for first, follows in itertools.pairwise(document)
    ]
    # All draws at once; their range is so wide that remainders are as good as uniform.
    draws = torch.randint(2**62, (len(neighbours), 3), generator=generator).tolist()
    pairs = []
    for (own, first, follows), (coin, where, at) in zip(neighbours, draws, strict=True):
        if coin % 2:
            other = where % (len(documents) - 1)
            document = documents[other if other < own else other + 1]
            pairs.append(SentencePair(first, document[at % len(document)], RANDOM))
        else:
            pairs.append(SentencePair(first, follows, FOLLOWS))
    return pairs


def join_pair(
    first: Sequence[int], second: Sequence[int], *, cls_id: int, sep_id: int, max_seq_len: int
) -> tuple[list[int], list[int]]:
    """[CLS] A [SEP] B [SEP], cut to max_seq_len (Devlin et al. 2019, §3 and Figure 2).

    Too long a pair loses tokens at the end of the longer sentence, one by one, of B if both are
    equally long.

    Args:
        first, second: token ids without special tokens, at least one each.
        cls_id, sep_id: the ids of [CLS] and [SEP].
        max_seq_len: the longest to return, at least 5: three special tokens and two others.

    Returns:
        token ids, and segment ids: 0 up to the first [SEP], 1 behind it.

    Raises:
        ValueError: a sentence is empty, or max_seq_len is too small.

    >>> join_pair([5, 6, 7], [8], cls_id=1, sep_id=2, max_seq_len=6)
    ([1, 5, 6, 2, 8, 2], [0, 0, 0, 0, 1, 1])
    """
    if max_seq_len < 5:
        raise ValueError(f"max_seq_len must be at least 5 for a pair, got {max_seq_len}")
    if not len(first) or not len(second):
        raise ValueError("first and second must have at least one token each")
    room = max_seq_len - 3
    # The shorter keeps up to half of the room, the longer gets what that leaves.
    n_second = max(room // 2, room - len(first))
    n_first = room - min(n_second, len(second))
    a, b = list(first[:n_first]), list(second[:n_second])
    token_ids = [cls_id, *a, sep_id, *b, sep_id]
    return token_ids, [0] * (len(a) + 2) + [1] * (len(b) + 1)


class NextSentenceCollator:
    """`SentencePair` → a padded, masked batch with segments and next-sentence labels.

    Args:
        masking: chooses and masks the tokens, and draws.
        cls_id, sep_id: the ids of [CLS] and [SEP]; must be among the specials of ``masking``.
        max_seq_len: longer pairs are cut, see `join_pair`.

    Raises:
        ValueError: an id could be masked, or max_seq_len is below 5.

    Example::

        masking = MaskingCollator(tokenizer.vocab_size, mask_id, (cls_id, sep_id))
        collate = NextSentenceCollator(masking, cls_id=cls_id, sep_id=sep_id, max_seq_len=128)
        for epoch in range(epochs):  # new pairs and new masks each time
            for batch in DataLoader(next_sentence_pairs(documents), 32, collate_fn=collate):
                ...
    """

    def __init__(
        self, masking: MaskingCollator, *, cls_id: int, sep_id: int, max_seq_len: int = 512
    ) -> None:
        for name, index in (("cls_id", cls_id), ("sep_id", sep_id)):
            check_special_id(name, index, masking.vocab_size)
            if index not in masking.special_ids:
                raise ValueError(
                    f"{name} must be among the special_ids of masking, "
                    f"{list(masking.special_ids)}, got {index}"
                )
        if max_seq_len < 5:
            raise ValueError(f"max_seq_len must be at least 5 for a pair, got {max_seq_len}")
        self.masking = masking
        self.cls_id = cls_id
        self.sep_id = sep_id
        self.max_seq_len = max_seq_len

    def __call__(
        self, pairs: Sequence[SentencePair], *, generator: torch.Generator | None = None
    ) -> PreTrainingBatch:
        """The batch of these pairs; the labels are theirs.

        Args:
            pairs: e.g. from `next_sentence_pairs`.
            generator: draws in place of that of ``masking``.

        Raises:
            TypeError, ValueError: no pairs, or one with an empty sentence or unknown ids.
        """
        joined = [
            join_pair(
                first, second,
                cls_id=self.cls_id, sep_id=self.sep_id, max_seq_len=self.max_seq_len,
            )
            for first, second, _ in pairs
        ]  # fmt: skip
        return self.masking(
            [token_ids for token_ids, _ in joined],
            [segment_ids for _, segment_ids in joined],
            [label for _, _, label in pairs],
            generator=generator,
        )
