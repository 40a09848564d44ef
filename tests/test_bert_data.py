"""BERT's masking: which tokens are chosen and what becomes of them, batches, errors."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_bert_data import (
    CLS,
    MASK,
    PAD,
    SEP,
    UNK,
    VOCAB,
    any_ids,
    assert_share,
    collator,
    generator,
)

from lmlib.bert import IGNORED, MaskingCollator

torch.set_num_threads(1)
# ------------------------------------------------------------------ masking


@pytest.mark.parametrize(
    ("rate", "mask_share", "random_share"),
    [(0.15, 0.8, 0.1), (0.4, 0.5, 0.3), (1.0, 0.0, 0.9), (0.2, 0.3, 0.7)],
)
def test_shares(rate: float, mask_share: float, random_share: float) -> None:
    ids = any_ids(400, 500)
    collate = collator(rate=rate, mask_share=mask_share, random_share=random_share)
    masked, labels = collate.mask_tokens(ids)
    ordinary = ids > UNK
    chosen = labels != IGNORED
    total = int(chosen.sum())
    if rate < 1.0:
        assert_share(total, int(ordinary.sum()), rate)
    else:
        assert torch.equal(chosen, ordinary)
    to_mask = masked == MASK
    assert_share(int((to_mask & chosen).sum()), total, mask_share)
    # One random token in VOCAB − 5 is the token that stood there.
    changed = chosen & ~to_mask & (masked != ids)
    assert_share(int(changed.sum()), total, random_share * (1 - 1 / (VOCAB - 5)))


def test_the_default_is_devlins() -> None:
    collate = MaskingCollator(VOCAB, MASK)
    assert (collate.rate, collate.mask_share, collate.random_share) == (0.15, 0.8, 0.1)
    assert not collate.at_least_one


def test_random_tokens_are_uniform_over_the_ordinary_ones() -> None:
    ids = torch.full((200, 500), 9)
    masked, _ = collator(rate=1.0, mask_share=0.0, random_share=1.0).mask_tokens(ids)
    counts = masked.flatten().bincount(minlength=VOCAB)
    assert (counts[: UNK + 1] == 0).all()
    for count in counts[UNK + 1 :].tolist():
        assert_share(count, masked.numel(), 1 / (VOCAB - 5))


def test_each_position_is_chosen_alike_and_by_itself() -> None:
    _, labels = collator(rate=0.3).mask_tokens(torch.full((20_000, 6), 9))
    chosen = labels != IGNORED
    for column in chosen.unbind(dim=1):
        assert_share(int(column.sum()), len(column), 0.3)
    for one, other in itertools.combinations(chosen.unbind(dim=1), 2):
        assert_share(int((one & other).sum()), len(one), 0.09)


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(0, 4),
    n=st.integers(0, 9),
    rate=st.floats(0.01, 1.0),
    at_least_one=st.booleans(),
    seed=st.integers(0, 999),
)
def test_labels_are_the_tokens_that_stood_there(
    batch: int, n: int, rate: float, at_least_one: bool, seed: int
) -> None:
    ids = any_ids(batch, n, seed)
    before = ids.clone()
    may_choose = torch.rand(batch, n, generator=generator(seed)) < 0.7
    collate = collator(seed, rate=rate, at_least_one=at_least_one)
    masked, labels = collate.mask_tokens(ids, may_choose)
    assert torch.equal(ids, before)
    chosen = labels != IGNORED
    assert torch.equal(labels[chosen], ids[chosen])
    assert torch.equal(masked[~chosen], ids[~chosen])
    assert not (chosen & ~(may_choose & (ids > UNK))).any()
    assert (masked[chosen] >= MASK).all()
    assert (masked[chosen] != UNK).all()


def test_at_least_one() -> None:
    ids = torch.tensor([[CLS, 7, 8, 9, SEP, PAD]]).repeat(6000, 1)
    ids[0] = torch.tensor([CLS, UNK, SEP, PAD, PAD, PAD])
    _, labels = collator(rate=1e-9, at_least_one=True).mask_tokens(ids)
    chosen = labels != IGNORED
    assert chosen[0].sum() == 0
    assert (chosen[1:].sum(dim=1) == 1).all()
    for column in (1, 2, 3):
        assert_share(int(chosen[1:, column].sum()), 5999, 1 / 3)
    # Where a token was drawn anyway, nothing is added.
    _, without = collator(rate=0.3).mask_tokens(ids)
    _, labels = collator(rate=0.3, at_least_one=True).mask_tokens(ids)
    drawn = (without != IGNORED).any(dim=1)
    assert_share(int((~drawn[1:]).sum()), 5999, 0.7**3)
    assert torch.equal(labels[drawn], without[drawn])
    assert ((labels[~drawn][1:] != IGNORED).sum(dim=1) == 1).all()


def test_a_seed_repeats_and_each_call_draws_anew() -> None:
    ids = any_ids(8, 40)
    one, other = collator(3), collator(3)
    first = one.mask_tokens(ids)
    torch.testing.assert_close(first, other.mask_tokens(ids), rtol=0, atol=0)
    assert not torch.equal(first[1], one.mask_tokens(ids)[1])
    assert not torch.equal(first[1], collator(4).mask_tokens(ids)[1])
    batch = collator(3)([[CLS, *range(5, 20)]])
    again = collator(4)([[CLS, *range(5, 20)]], generator=generator(3))
    torch.testing.assert_close(again, batch, rtol=0, atol=0)
    by_default = collator(generator=None)
    torch.manual_seed(8)
    first = by_default.mask_tokens(ids)
    torch.manual_seed(8)
    torch.testing.assert_close(first, by_default.mask_tokens(ids), rtol=0, atol=0)


def test_sequences_are_padded_on_the_right() -> None:
    rows = [[CLS, 7, SEP], [CLS, 8, 9, 10, SEP], [CLS]]
    batch = collator(rate=1.0, mask_share=0.0, random_share=0.0)(rows)
    assert batch.token_ids.tolist() == [
        [CLS, 7, SEP, PAD, PAD],
        [CLS, 8, 9, 10, SEP],
        [CLS, PAD, PAD, PAD, PAD],
    ]
    assert batch.mask.tolist() == [[True] * len(row) + [False] * (5 - len(row)) for row in rows]
    assert batch.mlm_labels.tolist() == [
        [IGNORED, 7, IGNORED, IGNORED, IGNORED],
        [IGNORED, 8, 9, 10, IGNORED],
        [IGNORED] * 5,
    ]
    assert batch.segment_ids.tolist() == [[0] * 5] * 3
    assert batch.nsp_labels.tolist() == [IGNORED] * 3
    tensors = [torch.tensor(row) for row in rows]
    torch.testing.assert_close(
        collator(rate=1.0, mask_share=0.0, random_share=0.0)(tensors)[:4], batch[:4]
    )


def test_padding_has_the_id_that_is_asked_for() -> None:
    collate = MaskingCollator(VOCAB, MASK, (CLS, SEP), pad_id=24, rate=1.0)
    batch = collate([[CLS, 7, SEP], [CLS, SEP]])
    assert batch.token_ids[1, 2] == 24
    assert batch.mlm_labels[1, 2] == IGNORED
    assert 24 in collate.special_ids


def test_a_real_token_that_looks_like_padding_counts_as_real() -> None:
    assert collator()([[CLS, PAD, 7, SEP]]).mask.all()


# ------------------------------------------------------------------ errors at the door

ROWS = [[CLS, 5, SEP]]
IDS = torch.tensor(ROWS)


def masking(*args: Any, **options: Any) -> Callable[[], Any]:
    return lambda: MaskingCollator(*args, **options)


ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (masking(0, 0), ValueError, "vocab_size must be at least 1, got 0"),
    (masking(5, 5), ValueError, "mask_id must be below vocab_size=5 and not negative, got 5"),
    (masking(5, None), TypeError, "mask_id must be an int, got NoneType"),
    (masking(5, 1, pad_id=-1), ValueError, "pad_id must be below vocab_size=5 and not negative"),
    (masking(5, 1, (2, 9)), ValueError, "each of special_ids must be below vocab_size=5"),
    (masking(5, 1, ("[CLS]",)), TypeError, "each of special_ids must be an int, got str"),
    (masking(3, 1, (2,)), ValueError, "special_ids must leave a token to predict, got all 3"),
    (masking(5, 1, rate=0.0), ValueError, "rate must be above 0 and at most 1, got 0.0"),
    (masking(5, 1, rate=15), ValueError, "rate must be above 0 and at most 1, got 15"),
    (
        masking(5, 1, mask_share=0.95),
        ValueError,
        "mask_share and random_share must not be negative and add up to at most 1, got 0.95 and",
    ),
    (masking(5, 1, random_share=-0.1), ValueError, "mask_share and random_share must not be neg"),
    (lambda: collator()([]), ValueError, "sequences must be at least one, each with at least one"),
    (lambda: collator()([[CLS], []]), ValueError, "sequences must be at least one, each with at"),
    (lambda: collator()([[VOCAB]]), ValueError, "sequences must hold ids from 0 to 24, got 25"),
    (
        lambda: collator()([CLS, 5, SEP]),
        TypeError,
        "sequences must hold one list of ids for each sequence, got int",
    ),
    (lambda: collator()([[0.5]]), TypeError, "sequences must hold integer token ids"),
    (
        lambda: collator()(ROWS, [[0, 0]]),
        ValueError,
        "segment_ids must be as long as the sequences, one for one",
    ),
    (lambda: collator()(ROWS, None, [0, 1]), ValueError, "nsp_labels must be one for each of the"),
    (lambda: collator()(ROWS, None, [2]), ValueError, "nsp_labels must hold ids from 0 to 1"),
    (lambda: collator().mask_tokens(IDS[0]), ValueError, "token_ids must have shape"),
    (
        lambda: collator().mask_tokens(IDS, IDS),
        TypeError,
        "mask must be a boolean tensor, got torch.int64",
    ),
    (
        lambda: collator().mask_tokens(IDS, IDS[:, 1:] > 0),
        ValueError,
        "mask must have the shape of token_ids",
    ),
]


@pytest.mark.parametrize(("call", "kind", "message"), ERRORS, ids=[row[2] for row in ERRORS])
def test_errors(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()
