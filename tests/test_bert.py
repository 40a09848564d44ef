"""BERT: equal to transformers' in every number and gradient, dropout and weights included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small_bert import PADDINGS, batch, small, small_config
from torch import Tensor, nn
from torch_reference import backward, randomize

from lmlib.bert import (
    IGNORED,
    BertConfig,
    BertForPreTraining,
    BertForSequenceClassification,
    BertModel,
    pretraining_loss,
)
from lmlib.layers import LayerNorm

transformers = pytest.importorskip("transformers")
torch.set_num_threads(1)
TOLERANCE = {
    torch.float32: {"rtol": 1e-5, "atol": 1e-5},
    torch.float64: {"rtol": 0.0, "atol": 1e-10},
}
VARIANTS: list[dict[str, Any]] = [
    {},
    {"d_model": 15, "num_heads": 5, "d_ff": 7, "num_layers": 3, "norm_eps": 1e-5},
    {"num_segments": 1, "activation": "gelu_tanh"},
    {"num_segments": 3, "activation": "relu", "num_heads": 1, "num_layers": 1},
    {"activation": "silu", "num_heads": 12, "vocab_size": 24},
]
THEIR_ACTIVATION = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu", "silu": "silu"}


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
