"""BERT: `BertModel` and its heads ↔ `lmlib.bert`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lmlib._huggingface.rows import (
    Row,
    cannot,
    our_activation,
    over_layers,
    require,
    same,
    their_activation,
    to_ours,
    to_theirs,
)
from lmlib._weights import built, fill
from lmlib.bert import BertConfig, BertForPreTraining, BertForSequenceClassification, BertModel

CLASSES = ("BertModel", "BertForPreTraining", "BertForMaskedLM", "BertForSequenceClassification")
# A checkpoint may hold position ids, which are but 0, 1, 2 …
IGNORED = ("embeddings.position_ids", "bert.embeddings.position_ids")


def body_rows(config: BertConfig, pooler: bool = True) -> list[Row]:
    """Ours ↔ theirs, of the bare model."""
    attention, their_attention = "layers.{i}.self_attention", "encoder.layer.{i}.attention"
    both = ("weight", "bias")
    layer = [
        *same(f"{attention}.W_Q", f"{their_attention}.self.query", *both),
        *same(f"{attention}.W_K", f"{their_attention}.self.key", *both),
        *same(f"{attention}.W_V", f"{their_attention}.self.value", *both),
        *same(f"{attention}.W_O", f"{their_attention}.output.dense", *both),
        *same("layers.{i}.norm_1", f"{their_attention}.output.LayerNorm", *both),
        *same("layers.{i}.feed_forward.W_1", "encoder.layer.{i}.intermediate.dense", *both),
        *same("layers.{i}.feed_forward.W_2", "encoder.layer.{i}.output.dense", *both),
        *same("layers.{i}.norm_2", "encoder.layer.{i}.output.LayerNorm", *both),
    ]
    return [
        *same("embedding.weight", "embeddings.word_embeddings.weight"),
        *same("segment_embedding.weight", "embeddings.token_type_embeddings.weight"),
        *same("positions.weight", "embeddings.position_embeddings.weight"),
        *same("embedding_norm", "embeddings.LayerNorm", *both),
        *over_layers(config.num_layers, layer),
        *(same("pooler", "pooler.dense", *both) if pooler else []),
    ]


def rows(config: BertConfig, kind: str, pooler: bool = True) -> list[Row]:
    """Ours ↔ theirs, of the class of theirs that ``kind`` names."""
    both = ("weight", "bias")
    if kind == "BertModel":
        return body_rows(config, pooler)
    body = [
        Row((f"bert.{row.ours[0]}",), f"bert.{row.theirs}", row.split, row.join)
        for row in body_rows(config, pooler)
    ]
    if kind == "BertForSequenceClassification":
        return [*body, *same("classifier", "classifier", *both)]
    next_sentence = same("nsp_head", "cls.seq_relationship", *both)
    return [
        *body,
        *same("mlm_dense", "cls.predictions.transform.dense", *both),
        *same("mlm_norm", "cls.predictions.transform.LayerNorm", *both),
        *same("mlm_head", "cls.predictions.decoder", *both),
        *same("mlm_head.bias", "cls.predictions.bias"),
        *(next_sentence if kind == "BertForPreTraining" else []),
    ]


def our_config(theirs: Any) -> BertConfig:
    """The config of the same model.

    Raises:
        ValueError: they have something that `lmlib.bert` has not.
    """
    require(theirs, "position_embedding_type", "absolute")
    require(theirs, "is_decoder", False)
    require(theirs, "add_cross_attention", False)
    return BertConfig(
        vocab_size=theirs.vocab_size,
        d_model=theirs.hidden_size,
        num_layers=theirs.num_hidden_layers,
        num_heads=theirs.num_attention_heads,
        d_ff=theirs.intermediate_size,
        max_seq_len=theirs.max_position_embeddings,
        num_segments=theirs.type_vocab_size,
        dropout=theirs.hidden_dropout_prob,
        norm_eps=theirs.layer_norm_eps,
        activation=our_activation(theirs, "hidden_act"),
        pad_id=theirs.pad_token_id,
    )


def to_lmlib(theirs: nn.Module) -> nn.Module:
    """The model of lmlib with their weights."""
    config: Any = theirs.config
    ours, kind, state = our_config(config), type(theirs).__name__, theirs.state_dict()
    bare: Any = theirs if kind == "BertModel" else theirs.get_submodule("bert")
    pooler = bare.pooler is not None
    model: nn.Module
    if kind == "BertModel":
        model = built(lambda: BertModel(ours, pooler=pooler))
    elif kind == "BertForSequenceClassification":
        model = built(lambda: BertForSequenceClassification(ours, config.num_labels))
    else:
        require(config, "tie_word_embeddings", True)
        model = built(lambda: BertForPreTraining(ours))
    tensors = to_ours(rows(ours, kind, pooler), state, IGNORED)
    if kind == "BertForMaskedLM":
        # It was made without what the next-sentence task needs: zeros, and so logits of zero.
        for name in ("bert.pooler", "nsp_head"):
            layer: Any = model.get_submodule(name)
            tensors[f"{name}.weight"] = torch.zeros_like(layer.weight)
            tensors[f"{name}.bias"] = torch.zeros_like(layer.bias)
    fill(model, tensors, "the transformers model")
    return model


def from_lmlib(model: Any) -> tuple[nn.Module, dict[str, Tensor]]:
    """An untrained model of theirs of the same shape, and the weights that it is to get."""
    import transformers

    config: BertConfig = model.config
    if not config.num_segments:
        raise cannot(config, "num_segments", 0, ["at least 1"])
    theirs = transformers.BertConfig(
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
        hidden_act=their_activation(config.activation),
        pad_token_id=config.pad_id,
        **({"num_labels": model.num_labels} if hasattr(model, "num_labels") else {}),
    )
    kind, options = type(model).__name__, {}
    bare = model if kind == "BertModel" else model.bert
    pooler = bare.pooler is not None
    if kind == "BertModel":
        options["add_pooling_layer"] = pooler
    tensors = to_theirs(rows(config, kind, pooler), model.state_dict())
    return built(lambda: getattr(transformers, kind)(theirs, **options)), tensors
