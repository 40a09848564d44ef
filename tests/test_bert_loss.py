"""The loss of BERT's pre-training: by hand, at the masked tokens alone, without labels; errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_bert import batch, small, small_config

from lmlib.bert import IGNORED, BertForPreTraining, BertPreTrainingOutput, pretraining_loss

torch.set_num_threads(1)


def test_logits_at_the_masked_tokens_alone_train_the_same() -> None:
    models = [small(BertForPreTraining), small(BertForPreTraining)]
    ids, segments, mask = batch(models[0].config, "right")
    labels = ids.masked_fill(~mask | (ids % 3 == 0), IGNORED)
    nsp_labels = torch.tensor([1, 0, 0, 1])
    at = labels != IGNORED
    full, some = models[0](ids, segments), models[1](ids, segments, predict_at=at)
    torch.testing.assert_close(some.mlm_logits, full.mlm_logits[at])
    losses = [pretraining_loss(output, labels, nsp_labels) for output in (full, some)]
    torch.testing.assert_close(*losses)
    for loss in losses:
        loss.total.backward()
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_the_loss_by_hand() -> None:
    # Two labelled tokens: probabilities 1/2 and 1/8. The pairs: 3/4 and 1/4.
    p = torch.tensor([[[0.25, 0.5, 0.25], [0.1, 0.1, 0.8]], [[0.2, 0.4, 0.4], [0.125, 0.5, 0.375]]])
    q = torch.tensor([[0.75, 0.25], [0.75, 0.25]])
    output = BertPreTrainingOutput(p.log() + 3.0, q.log())
    labels = torch.tensor([[1, IGNORED], [IGNORED, 0]])
    loss = pretraining_loss(output, labels, torch.tensor([0, 1]))
    assert loss.mlm.item() == pytest.approx((math.log(2) + math.log(8)) / 2)
    assert loss.nsp.item() == pytest.approx((math.log(4 / 3) + math.log(4)) / 2)
    assert loss.total.item() == pytest.approx(loss.mlm.item() + loss.nsp.item())
    mlm_only = pretraining_loss(output, labels)
    assert mlm_only.total.item() == mlm_only.mlm.item() == pytest.approx(loss.mlm.item())
    assert mlm_only.nsp.item() == 0.0
    one_pair = pretraining_loss(output, labels, torch.tensor([IGNORED, 1]))
    assert one_pair.nsp.item() == pytest.approx(math.log(4))
    no_pair = pretraining_loss(output, labels, torch.tensor([IGNORED, IGNORED]))
    assert no_pair.nsp.item() == 0.0
    half = BertPreTrainingOutput(*(logits.bfloat16() for logits in output))
    assert pretraining_loss(half, labels).mlm.dtype == torch.float32


@pytest.mark.parametrize("predict_at", [False, True])
def test_a_batch_without_labels_has_loss_zero(predict_at: bool) -> None:
    model = small(BertForPreTraining)
    ids, segments, _ = batch(model.config, "right")
    labels = torch.full_like(ids, IGNORED)
    at = labels != IGNORED if predict_at else None
    loss = pretraining_loss(model(ids, segments, predict_at=at), labels)
    loss.total.backward()
    assert loss.total.item() == 0.0
    assert (model.mlm_dense.weight.grad == 0.0).all()


def test_it_learns_what_it_is_shown() -> None:
    torch.manual_seed(0)
    model = BertForPreTraining(small_config(d_model=24))
    ids, segments, mask = batch(model.config, "right")
    labels = ids.masked_fill(~mask | (ids % 2 == 0), IGNORED)
    masked = ids.masked_fill(labels != IGNORED, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        loss = pretraining_loss(model(masked, segments), labels, torch.tensor([0, 1, 1, 0]))
        loss.total.backward()
        optimizer.step()
    assert loss.mlm.item() < 0.1
    assert loss.nsp.item() < 0.1


# ------------------------------------------------------------------ errors at the door

IDS = torch.ones(2, 3, dtype=torch.long)
OUTPUT = BertPreTrainingOutput(torch.zeros(2, 3, 37), torch.zeros(2, 2))
ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (
        lambda: pretraining_loss(OUTPUT, IDS[:, :2]),
        ValueError,
        "mlm_labels must name one token for each of the 6 rows of mlm_logits, got 4",
    ),
    (
        lambda: pretraining_loss(OUTPUT, IDS + 36),
        ValueError,
        "mlm_labels must hold ids from 0 to 36, got 37",
    ),
    (lambda: pretraining_loss(OUTPUT, IDS > 0), TypeError, "mlm_labels must hold integer"),
    (
        lambda: pretraining_loss(OUTPUT, IDS, IDS[:, 0] + 1),
        ValueError,
        "nsp_labels must hold ids from 0 to 1, got 2",
    ),
    (
        lambda: pretraining_loss(OUTPUT, IDS, IDS[0]),
        ValueError,
        r"nsp_logits must have shape \(batch, 2\) with batch=3, got \(2, 2\)",
    ),
]


@pytest.mark.parametrize(("call", "kind", "message"), ERRORS, ids=[row[2] for row in ERRORS])
def test_errors(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()
