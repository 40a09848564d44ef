"""BERT: equal to transformers' in every number and gradient; masks, weights, losses, errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch_reference import backward, randomize

from lmlib._tap import tracing
from lmlib.bert import (
    IGNORED,
    BertConfig,
    BertForPreTraining,
    BertForSequenceClassification,
    BertModel,
    BertPreTrainingOutput,
    pretraining_loss,
)
from lmlib.layers import LayerNorm

transformers = pytest.importorskip("transformers")
torch.set_num_threads(1)
PAD = 0
TOLERANCE = {
    torch.float32: {"rtol": 1e-5, "atol": 1e-5},
    torch.float64: {"rtol": 0.0, "atol": 1e-10},
}
SMALL: dict[str, Any] = {
    "vocab_size": 37,
    "d_model": 12,
    "num_layers": 2,
    "num_heads": 3,
    "d_ff": 20,
    "max_seq_len": 11,
    "dropout": 0.0,
}
VARIANTS: list[dict[str, Any]] = [
    {},
    {"d_model": 15, "num_heads": 5, "d_ff": 7, "num_layers": 3, "norm_eps": 1e-5},
    {"num_segments": 1, "activation": "gelu_tanh"},
    {"num_segments": 3, "activation": "relu", "num_heads": 1, "num_layers": 1},
    {"activation": "silu", "num_heads": 12, "vocab_size": 24},
]
THEIR_ACTIVATION = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu", "silu": "silu"}
PADDINGS = ["none", "right", "left", "holes"]


def small_config(**options: Any) -> BertConfig:
    return BertConfig(**{**SMALL, **options})


def small(make: Callable[..., nn.Module], *args: Any, **options: Any) -> nn.Module:
    """A model with random weights, in float64."""
    model = make(small_config(**options), *args).double()
    randomize(model, torch.Generator().manual_seed(0))
    return model.eval()


def their_config(config: BertConfig, **options: Any) -> Any:
    return transformers.BertConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.d_model,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        intermediate_size=config.d_ff,
        max_position_embeddings=config.max_seq_len,
        type_vocab_size=config.num_segments,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.dropout,
        layer_norm_eps=config.norm_eps,
        hidden_act=THEIR_ACTIVATION[config.activation],
        pad_token_id=config.pad_id,
        attn_implementation="eager",
        **options,
    )


def pairs(mine: nn.Module, theirs: nn.Module) -> list[tuple[nn.Parameter, nn.Parameter]]:
    """Which parameter of lmlib stands for which of transformers."""
    if isinstance(mine, nn.Linear | LayerNorm):
        return [(mine.weight, theirs.weight), (mine.bias, theirs.bias)]
    found = []
    if isinstance(mine, BertForPreTraining):
        head = theirs.cls.predictions
        parts = [
            (mine.bert, theirs.bert),
            (mine.mlm_dense, head.transform.dense),
            (mine.mlm_norm, head.transform.LayerNorm),
            (mine.nsp_head, theirs.cls.seq_relationship),
        ]
        found = [(mine.mlm_head.bias, head.bias)]
    elif isinstance(mine, BertForSequenceClassification):
        parts = [(mine.bert, theirs.bert), (mine.classifier, theirs.classifier)]
    else:
        table = theirs.embeddings
        found = [
            (mine.embedding.weight, table.word_embeddings.weight),
            (mine.segment_embedding.weight, table.token_type_embeddings.weight),
            (mine.positions.weight, table.position_embeddings.weight),
        ]
        parts = [(mine.embedding_norm, table.LayerNorm)]
        if mine.pooler is not None:
            parts.append((mine.pooler, theirs.pooler.dense))
        for layer, other in zip(mine.layers, theirs.encoder.layer, strict=True):
            parts += [
                (layer.self_attention.W_Q, other.attention.self.query),
                (layer.self_attention.W_K, other.attention.self.key),
                (layer.self_attention.W_V, other.attention.self.value),
                (layer.self_attention.W_O, other.attention.output.dense),
                (layer.norm_1, other.attention.output.LayerNorm),
                (layer.feed_forward.W_1, other.intermediate.dense),
                (layer.feed_forward.W_2, other.output.dense),
                (layer.norm_2, other.output.LayerNorm),
            ]
    return found + [pair for part in parts for pair in pairs(*part)]


def side_by_side(mine: nn.Module, theirs: nn.Module, dtype: torch.dtype) -> None:
    """Both models get the same random weights; each parameter must have its partner."""
    mine.to(dtype).eval()
    theirs.to(dtype).eval()
    randomize(theirs, torch.Generator().manual_seed(3))
    found = pairs(mine, theirs)
    assert {id(a) for a, _ in found} == {id(a) for a in mine.parameters()}
    assert {id(b) for _, b in found} == {id(b) for b in theirs.parameters()}
    with torch.no_grad():
        for a, b in found:
            a.copy_(b)


def assert_same_gradients(
    mine: nn.Module, theirs: nn.Module, rows: slice, **tolerance: float
) -> None:
    """All gradients are equal; of the token embeddings those of ``rows``."""
    for a, b in pairs(mine, theirs):
        assert a.grad is not None
        assert b.grad is not None
        table = a.dim() == 2 and a.shape[0] == mine.config.vocab_size
        part = rows if table else slice(None)
        torch.testing.assert_close(a.grad[part], b.grad[part], **tolerance)


def batch(config: BertConfig, padding: str, seed: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, segment ids and mask, (4, max_seq_len) each."""
    generator = torch.Generator().manual_seed(seed)
    shape = (4, config.max_seq_len)
    ids = torch.randint(1, config.vocab_size, shape, generator=generator)
    segments = torch.randint(0, config.num_segments, shape, generator=generator)
    at = torch.arange(shape[1])
    lengths = torch.tensor([[1], [4], [7], [shape[1]]])
    mask = {
        "none": torch.ones(shape, dtype=torch.bool),
        "right": at < lengths,
        "left": at >= shape[1] - lengths,
        "holes": torch.rand(shape, generator=generator) < 0.7,
    }[padding]
    mask[0, shape[1] - 1 if padding == "left" else 0] = True
    return ids.masked_fill(~mask, PAD), segments, mask


# transformers' token embedding has a padding_idx: the row of PAD gets no gradient from the input.
# Nothing of it reaches a loss, save where token 0, which the pooler reads, is itself padding.
def trained_rows(padding: str) -> slice:
    return slice(None) if padding in ("none", "right") else slice(1, None)


# ------------------------------------------------------------------ equal to transformers


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_the_encoder_is_transformers(
    options: dict[str, Any], padding: str, dtype: torch.dtype
) -> None:
    config = small_config(**options)
    mine, theirs = BertModel(config), transformers.BertModel(their_config(config))
    side_by_side(mine, theirs, dtype)
    ids, segments, mask = batch(config, padding)
    output = mine(ids, segments, mask)
    expected = theirs(ids, mask.long(), segments)
    torch.testing.assert_close(output.hidden, expected.last_hidden_state, **TOLERANCE[dtype])
    torch.testing.assert_close(output.pooled, expected.pooler_output, **TOLERANCE[dtype])
    assert output.weights is None
    backward_of_real_tokens(output.hidden, output.pooled, mask)
    backward_of_real_tokens(expected.last_hidden_state, expected.pooler_output, mask)
    assert_same_gradients(mine, theirs, trained_rows(padding), **TOLERANCE[dtype])


def backward_of_real_tokens(hidden: Tensor, pooled: Tensor, mask: Tensor) -> None:
    backward(torch.cat([(hidden * mask[..., None]).flatten(), pooled.flatten()]))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_pretraining_is_transformers(
    options: dict[str, Any], padding: str, dtype: torch.dtype
) -> None:
    config = small_config(**options)
    mine = BertForPreTraining(config)
    theirs = transformers.BertForPreTraining(their_config(config))
    side_by_side(mine, theirs, dtype)
    ids, segments, mask = batch(config, padding)
    mlm_labels = ids.masked_fill(~mask | (ids % 3 == 0), IGNORED)
    nsp_labels = torch.tensor([0, 1, 1, 0])
    output = mine(ids, segments, mask)
    loss = pretraining_loss(output, mlm_labels, nsp_labels)
    expected = theirs(ids, mask.long(), segments, labels=mlm_labels, next_sentence_label=nsp_labels)
    torch.testing.assert_close(output.mlm_logits, expected.prediction_logits, **TOLERANCE[dtype])
    torch.testing.assert_close(
        output.nsp_logits, expected.seq_relationship_logits, **TOLERANCE[dtype]
    )
    torch.testing.assert_close(loss.total, expected.loss, **TOLERANCE[dtype])
    loss.total.backward()
    expected.loss.backward()
    assert_same_gradients(mine, theirs, trained_rows(padding), **TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("num_labels", [1, 2, 5])
@pytest.mark.parametrize("padding", PADDINGS)
def test_classification_is_transformers(padding: str, num_labels: int, dtype: torch.dtype) -> None:
    config = small_config()
    mine = BertForSequenceClassification(config, num_labels)
    theirs = transformers.BertForSequenceClassification(their_config(config, num_labels=num_labels))
    side_by_side(mine, theirs, dtype)
    ids, segments, mask = batch(config, padding)
    logits = mine(ids, segments, mask)
    if num_labels == 1:
        labels = torch.randn(4, dtype=dtype)
        loss = F.mse_loss(logits.squeeze(1), labels)
    else:
        labels = torch.arange(4) % num_labels
        loss = F.cross_entropy(logits, labels)
    expected = theirs(ids, mask.long(), segments, labels=labels)
    torch.testing.assert_close(logits, expected.logits, **TOLERANCE[dtype])
    torch.testing.assert_close(loss, expected.loss, **TOLERANCE[dtype])
    loss.backward()
    expected.loss.backward()
    assert_same_gradients(mine, theirs, trained_rows(padding), **TOLERANCE[dtype])


def test_dropout_stands_where_transformers_has_it() -> None:
    """The same seed drops the same numbers: places, order and scale agree."""
    config = small_config(dropout=0.3)
    mine = BertForSequenceClassification(config, 3)
    theirs = transformers.BertForSequenceClassification(their_config(config, num_labels=3))
    side_by_side(mine, theirs, torch.float64)
    ids, segments, mask = batch(config, "right")
    mine.train()
    theirs.train()
    torch.manual_seed(11)
    logits, _ = mine(ids, segments, mask, need_weights=True)  # drops the weights themselves
    torch.manual_seed(11)
    expected = theirs(ids, mask.long(), segments).logits
    torch.testing.assert_close(logits, expected)
    assert not torch.allclose(logits, mine(ids, segments, mask))


# ------------------------------------------------------------------ attention weights


def test_weights_are_transformers_and_asking_changes_nothing() -> None:
    config = small_config()
    mine, theirs = BertModel(config), transformers.BertModel(their_config(config))
    side_by_side(mine, theirs, torch.float64)
    ids, segments, mask = batch(config, "right")
    output = mine(ids, segments, mask, need_weights=True)
    expected = theirs(ids, mask.long(), segments, output_attentions=True).attentions
    assert list(output.weights) == ["layers.0.self_attention", "layers.1.self_attention"]
    for weights, other in zip(output.weights.values(), expected, strict=True):
        torch.testing.assert_close(weights, other)
    torch.testing.assert_close(output.hidden, mine(ids, segments, mask).hidden)
    assert set(output.weights) <= set(dict(mine.named_modules()))


@pytest.mark.parametrize(
    ("make", "args"), [(BertForPreTraining, ()), (BertForSequenceClassification, (2,))]
)
def test_heads_name_the_weights_by_module(make: Callable[..., nn.Module], args: tuple) -> None:
    model = small(make, *args)
    ids, segments, mask = batch(model.config, "right")
    result, weights = model(ids, segments, mask, need_weights=True)
    assert set(weights) <= set(dict(model.named_modules()))
    inner = model.bert(ids, segments, mask, need_weights=True).weights
    assert [f"bert.{name}" for name in inner] == list(weights)
    torch.testing.assert_close(list(weights.values()), list(inner.values()))
    torch.testing.assert_close(tuple(model(ids, segments, mask)), tuple(result))


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


# ------------------------------------------------------------------ the loss


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
