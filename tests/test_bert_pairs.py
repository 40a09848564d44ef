"""BERT's sentence pairs: who is paired with whom, how pairs are joined and batched, errors."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_bert_data import (
    CLS,
    DOCUMENTS,
    MASK,
    PAD,
    SEP,
    VOCAB,
    assert_share,
    collator,
    generator,
    pair_collator,
)
from torch.utils.data import DataLoader

from lmlib.bert import (
    IGNORED,
    BertConfig,
    BertForPreTraining,
    NextSentenceCollator,
    PreTrainingBatch,
    SentencePair,
    bert_loss,
    join_pair,
    next_sentence_pairs,
    pretraining_loss,
)

torch.set_num_threads(1)


def test_pairs_come_in_order_and_labels_are_right() -> None:
    pairs = next_sentence_pairs(DOCUMENTS, generator(1))
    neighbours = [pair for document in DOCUMENTS for pair in itertools.pairwise(document)]
    assert [pair.first for pair in pairs] == [first for first, _ in neighbours]
    for (first, second, label), (_, follows) in zip(pairs, neighbours, strict=True):
        own = next(document for document in DOCUMENTS if first in document)
        assert label in (0, 1)
        assert (second == follows) if label == 0 else (second not in own)
    assert pairs == next_sentence_pairs(DOCUMENTS, generator(1))
    assert pairs != next_sentence_pairs(DOCUMENTS, generator(2))


def test_half_are_random_and_from_any_other_document() -> None:
    source = generator(5)
    pairs = [pair for _ in range(1500) for pair in next_sentence_pairs(DOCUMENTS, source)]
    random = [pair for pair in pairs if pair.label == 1]
    assert_share(len(random), len(pairs), 0.5)
    of_first = [pair for pair in random if pair.first in DOCUMENTS[0]]
    # One of the three other documents that are not empty, then one of its sentences.
    drawn = Counter(tuple(pair.second) for pair in of_first)
    for d in (1, 2, 4):
        for sentence in DOCUMENTS[d]:
            share = 1 / 3 / len(DOCUMENTS[d])
            assert_share(drawn[tuple(sentence)], len(of_first), share)


def test_the_global_generator_draws_by_default() -> None:
    torch.manual_seed(4)
    pairs = next_sentence_pairs(DOCUMENTS)
    torch.manual_seed(4)
    assert pairs == next_sentence_pairs(DOCUMENTS)


def cut_one_by_one(first: Sequence[int], second: Sequence[int], room: int) -> tuple[list, list]:
    a, b = list(first), list(second)
    while len(a) + len(b) > room:
        (a if len(a) > len(b) else b).pop()
    return a, b


@settings(max_examples=150, deadline=None)
@given(
    first=st.lists(st.integers(5, 24), min_size=1, max_size=12),
    second=st.lists(st.integers(5, 24), min_size=1, max_size=12),
    max_seq_len=st.integers(5, 30),
)
def test_the_longer_sentence_is_cut(first: list, second: list, max_seq_len: int) -> None:
    a, b = cut_one_by_one(first, second, max_seq_len - 3)
    token_ids, segment_ids = join_pair(
        first, second, cls_id=CLS, sep_id=SEP, max_seq_len=max_seq_len
    )
    assert token_ids == [CLS, *a, SEP, *b, SEP]
    assert segment_ids == [0] * (len(a) + 2) + [1] * (len(b) + 1)
    assert len(token_ids) <= max_seq_len


def test_a_batch_of_pairs() -> None:
    pairs = [SentencePair([5, 6, 7], [8, 9], 1), SentencePair([10] * 7, [11], 0)]
    collate = pair_collator(rate=1.0, mask_share=1.0, random_share=0.0)
    batch = collate(pairs)
    assert batch.token_ids.tolist() == [
        [CLS, MASK, MASK, MASK, SEP, MASK, MASK, SEP, PAD],
        [CLS, MASK, MASK, MASK, MASK, MASK, SEP, MASK, SEP],
    ]
    assert batch.segment_ids.tolist() == [[0, 0, 0, 0, 0, 1, 1, 1, 0], [0] * 7 + [1, 1]]
    assert batch.mask.tolist() == [[True] * 8 + [False], [True] * 9]
    assert batch.mlm_labels.tolist() == [
        [IGNORED, 5, 6, 7, IGNORED, 8, 9, IGNORED, IGNORED],
        [IGNORED, 10, 10, 10, 10, 10, IGNORED, 11, IGNORED],
    ]
    assert batch.nsp_labels.tolist() == [1, 0]
    assert [tensor.dtype for tensor in batch] == [
        torch.int64, torch.int64, torch.bool, torch.int64, torch.int64,
    ]  # fmt: skip


@pytest.mark.parametrize("num_workers", [0, 1])
def test_from_documents_to_the_loss(num_workers: int) -> None:
    pairs = next_sentence_pairs(DOCUMENTS, generator())
    loader = DataLoader(
        pairs,  # type: ignore[arg-type]
        batch_size=4,
        collate_fn=pair_collator(generator=None),
        num_workers=num_workers,
        generator=generator(),
    )
    config = BertConfig(
        vocab_size=VOCAB, d_model=8, num_layers=1, num_heads=2, d_ff=16, max_seq_len=9
    )
    model = BertForPreTraining(config)
    batches = list(loader)
    assert len(batches) == math.ceil(len(pairs) / 4)
    for batch in batches:
        assert isinstance(batch, PreTrainingBatch)
        at = batch.mlm_labels != IGNORED
        output = model(batch.token_ids, batch.segment_ids, batch.mask, predict_at=at)
        assert pretraining_loss(output, batch.mlm_labels, batch.nsp_labels).total.isfinite()


def test_the_generator_of_the_call_draws() -> None:
    pairs = [SentencePair(range(5, 15), range(8, 20), 0)]
    expected = pair_collator(30, generator=generator(7))(pairs)
    torch.testing.assert_close(pair_collator(30)(pairs, generator=generator(7)), expected)


def test_the_loss_for_the_training_loop_is_that_of_the_whole_output() -> None:
    config = BertConfig(vocab_size=VOCAB, d_model=8, num_layers=1, num_heads=2, d_ff=16)
    model = BertForPreTraining(config).eval()
    pairs = next_sentence_pairs(DOCUMENTS, generator())
    collate = pair_collator()
    for batch in (collate(pairs), collate.masking([[CLS, 5, 6, 7, 8, 9, 5, SEP]] * 3)):
        total, targets = bert_loss(model, batch)
        output = model(batch.token_ids, batch.segment_ids, batch.mask)
        expected = pretraining_loss(output, batch.mlm_labels, batch.nsp_labels)
        assert targets == (batch.mlm_labels != IGNORED).sum()
        torch.testing.assert_close(total / targets, expected.total)
    nothing = batch._replace(mlm_labels=torch.full_like(batch.mlm_labels, IGNORED))
    total, targets = bert_loss(model, nothing)
    assert (total.item(), targets.item()) == (0.0, 1)


def test_a_batch_moves_between_devices() -> None:
    batch = pair_collator()([SentencePair([5], [6], 0)])
    moved = batch.to("meta", non_blocking=True)
    assert isinstance(moved, PreTrainingBatch)
    assert all(tensor.device.type == "meta" for tensor in moved)
    assert [tensor.shape for tensor in moved] == [tensor.shape for tensor in batch]


# ------------------------------------------------------------------ errors at the door


def joined(first: list, second: list, max_seq_len: int = 9) -> Callable[[], Any]:
    return lambda: join_pair(first, second, cls_id=CLS, sep_id=SEP, max_seq_len=max_seq_len)


def paired(**options: Any) -> Callable[[], Any]:
    sizes = {"cls_id": CLS, "sep_id": SEP, "max_seq_len": 9}
    return lambda: NextSentenceCollator(collator(), **{**sizes, **options})


ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (
        lambda: next_sentence_pairs([[[5], [6]], []]),
        ValueError,
        "documents must be at least 2 with a sentence, to draw from another one, got 1",
    ),
    (
        lambda: next_sentence_pairs([[[5]], [[6]]]),
        ValueError,
        "documents must have one of at least 2 sentences, got none",
    ),
    (joined([5], [6], 4), ValueError, "max_seq_len must be at least 5 for a pair, got 4"),
    (joined([], [6]), ValueError, "first and second must have at least one token each"),
    (joined([5], []), ValueError, "first and second must have at least one token each"),
    (paired(max_seq_len=4), ValueError, "max_seq_len must be at least 5 for a pair, got 4"),
    (paired(cls_id=25), ValueError, "cls_id must be below vocab_size=25 and not negative, got 25"),
    (paired(sep_id=7), ValueError, "sep_id must be among the special_ids of masking"),
]


@pytest.mark.parametrize(("call", "kind", "message"), ERRORS, ids=[row[2] for row in ERRORS])
def test_errors(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()
