"""`LengthBatches`: every example once an epoch, little padding, a function of the number alone."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lmlib.training import LengthBatches


def texts(lengths: list[int]) -> list[Tensor]:
    """Text i consists of i + 1, as often as its length says."""
    return [torch.full((n,), i + 1) for i, n in enumerate(lengths)]


def padded(examples: list[Tensor]) -> Tensor:
    return pad_sequence(examples, batch_first=True)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(1, 30), st.integers(0, 3))
def test_each_epoch_holds_every_example_once(lengths: list[int], tokens: int, seed: int) -> None:
    batches = LengthBatches(texts(lengths), tokens, seed=seed, collate=padded)
    for epoch in range(2):
        numbers = range(epoch * len(batches), (epoch + 1) * len(batches))
        found = [batches(number) for number in numbers]
        rows = [int(row[0]) - 1 for batch in found for row in batch]
        assert sorted(rows) == list(range(len(lengths)))
        for batch in found:
            assert batch.numel() <= tokens or len(batch) == 1
            assert (batch != 0).any(dim=0).all()  # no wider than its longest text
            assert (
                (batch != 0).sum(dim=1) == torch.tensor([lengths[int(r[0]) - 1] for r in batch])
            ).all()


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(9, 30))
def test_no_batch_could_take_the_next_text(lengths: list[int], tokens: int) -> None:
    batches = LengthBatches(texts(lengths), tokens, collate=padded)
    by_length = sorted((batch.shape for batch in batches), key=lambda shape: shape[1])
    in_order = sorted(lengths)
    at = 0
    for count, _ in sorted(by_length, key=lambda shape: (shape[1], -shape[0])):
        if at + count < len(in_order):
            # Ties in length may stand in another order; the bound holds all the same.
            assert (count + 1) * in_order[-1] > tokens or count * max(in_order) <= tokens
        at += count
    assert at == len(lengths)


def test_like_lengths_go_together() -> None:
    lengths = [3, 7] * 50
    batches = LengthBatches(texts(lengths), 21, collate=padded)
    shapes = Counter(tuple(batch.shape) for batch in batches)
    # 50 threes fill 7 batches of 7 and leave one, which goes with two sevens; 48 sevens are left.
    assert shapes == {(7, 3): 7, (3, 7): 17}
    assert sum(int((batch == 0).sum()) for batch in batches) == 4


def test_epochs_differ_in_company_and_order_and_are_known_again() -> None:
    batches = LengthBatches(texts([4] * 30 + [6] * 30), 24, seed=3)

    def epoch(number: int) -> list[list[int]]:
        first = number * len(batches)
        return [batches.indices(i) for i in range(first, first + len(batches))]

    zero, one = epoch(0), epoch(1)
    assert {frozenset(batch) for batch in zero} != {frozenset(batch) for batch in one}
    lengths = [[len(batches.dataset[batch[0]]) for batch in e] for e in (zero, one)]
    assert lengths[0] != lengths[1]
    assert lengths[0] != sorted(lengths[0])
    assert epoch(0) == zero  # after another epoch, as after a resume
    other = LengthBatches(texts([4] * 30 + [6] * 30), 24, seed=4)
    assert other.indices(0) != zero[0]


def test_processes_share_a_batch() -> None:
    dataset = texts([2, 3, 2, 3, 2, 3, 5])
    whole = LengthBatches(dataset, 12, collate=padded)
    shares = [
        LengthBatches(dataset, 12, collate=padded, rank=rank, world_size=2) for rank in (0, 1)
    ]
    for number in range(2 * len(whole)):
        expected = sorted(int(row[0]) for row in whole(number))
        parts = [share(number) for share in shares]
        assert sorted(int(row[0]) for part in parts if part is not None for row in part) == expected


def test_a_length_of_its_own() -> None:
    pairs = [("ab", "c"), ("a", "cdef"), ("abc", "c")]
    batches = LengthBatches(
        pairs, 4, length=lambda pair: max(map(len, pair)), collate=lambda batch: batch
    )
    assert sorted(len(batch) for batch in batches) == [1, 1, 1]
    assert len(LengthBatches(pairs, 6, length=lambda pair: len(pair[0]), collate=list)) == 2


def test_what_a_checkpoint_notes() -> None:
    batches = LengthBatches(texts([2, 3]), 6, seed=5)
    assert batches.fingerprint() == {"examples": 2, "batch_tokens": 6, "tokens": 5, "seed": 5}


@pytest.mark.parametrize(
    ("dataset", "tokens", "message"),
    [
        ([], 5, "dataset must have at least one example, got none"),
        ([[1]], 0, "batch_tokens must be at least 1, got 0"),
        ([[1]], 2.5, "batch_tokens must be an int"),
    ],
)
def test_errors(dataset: list[list[int]], tokens: int, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        LengthBatches(dataset, tokens)
