"""BERT as a model: masks, segments, the pooled vector, its parameters, taps, errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from small_bert import PAD, PADDINGS, batch, small, small_config
from torch import Tensor
from torch_reference import backward

from lmlib._tap import tracing
from lmlib.bert import (
    BertConfig,
    BertForPreTraining,
    BertForSequenceClassification,
    BertModel,
)

torch.set_num_threads(1)

# ------------------------------------------------------------------ inputs


@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("padding", PADDINGS)
def test_the_pooled_vector_alone(padding: str, num_layers: int) -> None:
    models = [small(BertModel, num_layers=num_layers) for _ in range(2)]
    inputs = batch(models[0].config, padding)
    alone, whole = models[0].pooled(*inputs), models[1](*inputs).pooled
    torch.testing.assert_close(alone, whole)
    backward(alone)
    backward(whole)
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_the_pooled_vector_alone_drops_as_often() -> None:
    """Averaged over many draws the dropout of both ways leaves the same mean and spread."""
    model = small(BertModel, dropout=0.2, num_layers=1).train()
    ids = torch.arange(1, 9).repeat(4000, 1)
    torch.manual_seed(0)
    with torch.no_grad():
        alone, whole = model.pooled(ids), model(ids).pooled
    torch.testing.assert_close(alone.mean(dim=0), whole.mean(dim=0), rtol=0, atol=0.06)
    torch.testing.assert_close(alone.std(dim=0), whole.std(dim=0), rtol=0, atol=0.04)


def test_a_tracer_finds_the_last_layer_whole() -> None:
    model = small(BertForSequenceClassification, 2)
    ids, segments, mask = batch(model.config, "right")
    seen: dict[str, Tensor] = {}
    with tracing(model, seen.__setitem__):
        traced = model(ids, segments, mask)
    torch.testing.assert_close(traced, model(ids, segments, mask))
    assert seen["bert.layers.1.norm_2.output"].shape == (*ids.shape, 12)
    assert seen["bert.hidden"].shape == (*ids.shape, 12)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 10), data=st.data())
def test_what_padding_says_changes_nothing(n: int, data: st.DataObject) -> None:
    model = small(BertModel)
    seed = data.draw(st.integers(0, 999))
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 37, (2, n), generator=generator)
    n_pad = data.draw(st.integers(1, 11 - n))
    padded = F.pad(ids, (0, n_pad), value=PAD)
    torch.testing.assert_close(model(padded).hidden[:, :n], model(ids).hidden)
    rubbish = padded.clone()
    rubbish[:, n:] = torch.randint(1, 37, (2, n_pad), generator=generator)
    mask = padded != PAD
    torch.testing.assert_close(model(rubbish, mask=mask).hidden[:, :n], model(ids).hidden)
    assert not torch.allclose(model(rubbish).hidden[:, :n], model(ids).hidden)


def test_defaults_of_segments_and_mask() -> None:
    model = small(BertModel)
    ids, _, mask = batch(model.config, "right")
    expected = model(ids, torch.zeros_like(ids), mask).hidden
    torch.testing.assert_close(model(ids).hidden, expected)
    assert not torch.allclose(model(ids, torch.ones_like(ids)).hidden, expected)
    no_pad = small(BertModel, pad_id=None)
    everything = torch.ones_like(mask)
    torch.testing.assert_close(no_pad(ids).hidden, model(ids, mask=everything).hidden)
    for dtype in (torch.uint8, torch.int32):
        torch.testing.assert_close(model(ids.to(dtype)).hidden, expected)


def test_a_model_without_segments_adds_none() -> None:
    model, without = small(BertModel), small(BertModel, num_segments=0)
    assert without.segment_embedding is None
    with torch.no_grad():
        model.segment_embedding.weight.zero_()
    missing = model.load_state_dict(without.state_dict(), strict=False).missing_keys
    assert missing == ["segment_embedding.weight"]
    ids, _, _ = batch(model.config, "right")
    torch.testing.assert_close(without(ids).hidden, model(ids).hidden)


def test_a_row_of_padding_alone_gives_numbers() -> None:
    model = small(BertModel)
    ids = torch.zeros(1, 4, dtype=torch.long)
    hidden = model(ids).hidden
    backward(hidden)
    assert hidden.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in model.layers.parameters())


def test_without_a_pooler() -> None:
    model, without = small(BertModel), small(BertModel, False)
    assert without.pooler is None
    without.load_state_dict(model.state_dict(), strict=False)
    ids, _, _ = batch(model.config, "right")
    assert without(ids).pooled is None
    with pytest.raises(ValueError, match="pooled needs a model that was made with pooler=True"):
        without.pooled(ids)
    torch.testing.assert_close(without(ids).hidden, model(ids).hidden)


# ------------------------------------------------------------------ parameters


def test_the_default_is_bert_base_chinese() -> None:
    with torch.device("meta"):
        model = BertModel(BertConfig())
        assert sum(p.numel() for p in model.parameters()) == 102_267_648
        ids = torch.zeros(2, 512, dtype=torch.long)
        output = model(ids, ids, ids == 0, need_weights=True)
        assert output.hidden.shape == (2, 512, 768)
        assert output.weights["layers.11.self_attention"].shape == (2, 12, 512, 512)
        pretraining = BertForPreTraining(BertConfig(num_layers=1))
        assert pretraining(ids).mlm_logits.shape == (2, 512, 21128)


def test_initial_weights() -> None:
    torch.manual_seed(0)
    sizes = {"vocab_size": 300, "d_model": 64, "d_ff": 128, "max_seq_len": 64, "num_heads": 4}
    for model in (
        BertForPreTraining(BertConfig(**sizes, num_layers=2)),
        BertForSequenceClassification(BertConfig(**sizes, num_layers=2), 50),
    ):
        for name, parameter in model.named_parameters():
            if "norm" in name:
                assert (parameter == (1.0 if name.endswith("weight") else 0.0)).all(), name
            elif name.endswith("bias"):
                assert (parameter == 0.0).all(), name
            else:
                error = 0.02 * 5 / math.sqrt(2 * parameter.numel())
                assert abs(parameter.std().item() - 0.02) < error, name
                assert abs(parameter.mean().item()) < 5 * 0.02 / math.sqrt(parameter.numel())


def test_the_mlm_head_is_the_embedding() -> None:
    model = small(BertForPreTraining)
    assert model.mlm_head.weight is model.bert.embedding.weight
    copy = small(BertForPreTraining)
    copy.load_state_dict(model.state_dict())
    assert copy.mlm_head.weight is copy.bert.embedding.weight


def test_fine_tuning_takes_the_encoder_over() -> None:
    pretrained, model = small(BertForPreTraining), small(BertForSequenceClassification, 2)
    model.bert.load_state_dict(pretrained.bert.state_dict())
    ids, segments, _ = batch(model.config, "right")
    expected = model.classifier(pretrained.bert(ids, segments).pooled)
    torch.testing.assert_close(model(ids, segments), expected)


def test_bfloat16_is_near_float32() -> None:
    model = BertForSequenceClassification(small_config(), 3).eval()
    ids, segments, mask = batch(model.config, "right")
    expected = model(ids, segments, mask)
    logits = model.to(torch.bfloat16)(ids, segments, mask)
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), expected, rtol=0.05, atol=0.01)


def test_taps_can_be_seen_and_changed() -> None:
    model = small(BertForPreTraining)
    ids, segments, _ = batch(model.config, "right")
    expected = model(ids, segments)
    seen: dict[str, Tensor] = {}

    def zero_the_pooled(name: str, tensor: Tensor) -> Tensor | None:
        seen[name] = tensor
        return torch.zeros_like(tensor) if name == "bert.pooled" else None

    with tracing(model, zero_the_pooled):
        output = model(ids, segments)
    assert list(seen)[:3] == ["bert.token_ids", "bert.embedding_out", "bert.segment_ids"]
    assert {"bert.x", "bert.hidden", "mlm_transformed", "bert.layers.1.norm_2.output"} <= set(seen)
    torch.testing.assert_close(seen["mlm_logits"], expected.mlm_logits)
    torch.testing.assert_close(output.nsp_logits, model.nsp_head.bias.expand(4, 2))


# ------------------------------------------------------------------ errors at the door

IDS = torch.ones(2, 3, dtype=torch.long)


def forward(*args: Any, **options: Any) -> Callable[[], Any]:
    return lambda: BertModel(small_config(**options))(*args)


ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: small_config(vocab_size=0), ValueError, "vocab_size must be at least 1, got 0"),
    (lambda: small_config(num_layers=1.5), TypeError, "num_layers must be an int, got float"),
    (lambda: small_config(num_segments=-1), ValueError, "num_segments must not be negative"),
    (lambda: small_config(num_heads=5), ValueError, "d_model must be divisible by num_heads"),
    (lambda: small_config(dropout=1.0), ValueError, "dropout must be at least 0 and below 1"),
    (lambda: small_config(activation="tanh"), ValueError, "activation must be one of"),
    (lambda: small_config(norm_eps=0.0), ValueError, "norm_eps must be above 0, got 0.0"),
    (
        lambda: small_config(mask_id=37),
        ValueError,
        "mask_id must be below vocab_size=37 and not negative, got 37",
    ),
    (lambda: small_config(pad_id=-1), ValueError, "pad_id must be below vocab_size=37 and not"),
    (lambda: small_config(cls_id="[CLS]"), TypeError, "cls_id must be an int, got str"),
    (forward([[1]]), TypeError, "token_ids must be a torch.Tensor of token ids, got list"),
    (forward(IDS[0]), ValueError, r"token_ids must have shape \(batch, n\), got \(3,\)"),
    (forward(IDS.float()), TypeError, "token_ids must hold integer token ids, got torch.float32"),
    (forward(IDS + 36), ValueError, "token_ids must hold ids from 0 to 36, got 37"),
    (
        forward(IDS.repeat(1, 4)),
        ValueError,
        "token_ids must have 1 to max_seq_len=11 tokens, got 12",
    ),
    (forward(IDS[:, :0]), ValueError, "token_ids must have 1 to max_seq_len=11 tokens, got 0"),
    (
        forward(IDS.to("meta")),
        ValueError,
        "token_ids must be on cpu like the model, got meta",
    ),
    (forward(IDS, IDS + 1), ValueError, "segment_ids must hold ids from 0 to 1, got 2"),
    (forward(IDS, IDS.bool()), TypeError, "segment_ids must hold integer token ids"),
    (
        forward(IDS, IDS[:1]),
        ValueError,
        r"segment_ids must have the shape of token_ids, \(2, 3\), got \(1, 3\)",
    ),
    (
        forward(IDS, IDS, num_segments=0),
        ValueError,
        "segment_ids must not be given to a model with num_segments=0",
    ),
    (forward(IDS, None, IDS), TypeError, "mask must be a boolean tensor, got torch.int64"),
    (forward(IDS, None, [True]), TypeError, "mask must be a boolean tensor, got list"),
    (
        forward(IDS, None, IDS[:, None] > 0),
        ValueError,
        r"mask must have the shape of token_ids, \(2, 3\), got \(2, 1, 3\)",
    ),
    (
        forward(IDS, None, (IDS > 0).to("meta")),
        ValueError,
        "mask must be on cpu like token_ids, got meta",
    ),
    (
        lambda: BertForPreTraining(small_config())(IDS, predict_at=IDS),
        TypeError,
        "predict_at must be a boolean tensor, got torch.int64",
    ),
    (
        lambda: BertForSequenceClassification(small_config(), 0),
        ValueError,
        "num_labels must be at least 1, got 0",
    ),
]


@pytest.mark.parametrize(("call", "kind", "message"), ERRORS, ids=[row[2] for row in ERRORS])
def test_errors(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()
