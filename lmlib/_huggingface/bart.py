"""Encoder–decoders: `BartForConditionalGeneration`, `MarianMTModel` ↔ `Transformer`.

The two differ in three things: BART learns its positions (one table a stack, whose first two rows
are never used) and normalises the embeddings, Marian adds sinusoids. Marian's sinusoids stand in
halves, all sines in front of all cosines; lmlib has them as ``positions="sinusoidal_halves"``, and
not as a learned table, so that fine-tuning leaves them fixed here as well as there.
"""

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
    special_id,
    their_activation,
    to_ours,
    to_theirs,
)
from lmlib._weights import built, fill
from lmlib.positions import sinusoidal_table
from lmlib.transformer import Transformer, TransformerConfig

CLASSES = ("BartForConditionalGeneration", "MarianMTModel")
UNUSED_ROWS = 2  # in front of BART's table of positions
SINUSOIDS = ("model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight")
SHARED = "model.shared.weight"  # what the two stacks' embeddings are tied to


def rows(config: TransformerConfig) -> list[Row]:
    """Ours ↔ theirs."""
    encoder = [
        *_attention("self_attention", "self_attn"),
        *_both("norm_1", "self_attn_layer_norm"),
        *_both("feed_forward.W_1", "fc1"),
        *_both("feed_forward.W_2", "fc2"),
        *_both("norm_2", "final_layer_norm"),
    ]
    decoder = [
        *_attention("self_attention", "self_attn"),
        *_both("norm_1", "self_attn_layer_norm"),
        *_attention("cross_attention", "encoder_attn"),
        *_both("norm_2", "encoder_attn_layer_norm"),
        *_both("feed_forward.W_1", "fc1"),
        *_both("feed_forward.W_2", "fc2"),
        *_both("norm_3", "final_layer_norm"),
    ]
    target = "embedding" if config.tie_embeddings else "target_embedding"
    found = [
        *same("embedding.weight", SHARED),
        *same("embedding.weight", "model.encoder.embed_tokens.weight"),
        *same(f"{target}.weight", "model.decoder.embed_tokens.weight"),
        *over_layers(config.num_encoder_layers, _below("encoder.layers.{i}.", encoder)),
        *over_layers(config.num_decoder_layers, _below("decoder.layers.{i}.", decoder)),
        *same("head.weight", "lm_head.weight"),
    ]
    if config.head_bias:
        flat, row = (lambda x: (x.flatten(),)), (lambda x: x[None])
        found.append(Row(("head.bias",), "final_logits_bias", flat, row))
    if config.positions == "learned":
        found.append(_positions("positions", "encoder"))
        found.append(_positions("target_positions", "decoder"))
    if config.norm_embeddings:
        both = ("weight", "bias")
        found += same("embedding_norm", "model.encoder.layernorm_embedding", *both)
        found += same("target_embedding_norm", "model.decoder.layernorm_embedding", *both)
    return found


def _both(ours: str, theirs: str) -> list[Row]:
    return same(ours, theirs, "weight", "bias")


def _attention(ours: str, theirs: str) -> list[Row]:
    names = {"W_Q": "q_proj", "W_K": "k_proj", "W_V": "v_proj", "W_O": "out_proj"}
    return [row for a, b in names.items() for row in _both(f"{ours}.{a}", f"{theirs}.{b}")]


def _below(prefix: str, found: list[Row]) -> list[Row]:
    return [
        row._replace(ours=(f"{prefix}{row.ours[0]}",), theirs=f"model.{prefix}{row.theirs}")
        for row in found
    ]


def _positions(ours: str, stack: str) -> Row:
    def join(table: Tensor) -> Tensor:
        return torch.cat([table.new_zeros(UNUSED_ROWS, table.shape[1]), table])

    name = f"model.{stack}.embed_positions.weight"
    return Row((f"{ours}.weight",), name, lambda table: (table[UNUSED_ROWS:],), join)


def our_config(theirs: Any, *, tied: bool, head_bias: bool) -> TransformerConfig:
    """The config of the same model.

    Args:
        theirs: their config.
        tied: are source embedding, target embedding and head one matrix?
        head_bias: has the head a bias?

    Raises:
        ValueError: they have something that `Transformer` has not.
    """
    is_bart, vocab_size = theirs.model_type == "bart", theirs.vocab_size
    require(theirs, "decoder_ffn_dim", theirs.encoder_ffn_dim)
    require(theirs, "decoder_attention_heads", theirs.encoder_attention_heads)
    require(theirs, "decoder_vocab_size", vocab_size, None)
    return TransformerConfig(
        vocab_size=vocab_size,
        d_model=theirs.d_model,
        num_heads=theirs.encoder_attention_heads,
        d_ff=theirs.encoder_ffn_dim,
        num_encoder_layers=theirs.encoder_layers,
        num_decoder_layers=theirs.decoder_layers,
        max_seq_len=theirs.max_position_embeddings,
        dropout=theirs.dropout,
        activation=our_activation(theirs, "activation_function"),
        positions="learned" if is_bart else "sinusoidal_halves",
        tie_positions=not is_bart,
        tie_embeddings=tied,
        scale_embeddings=theirs.scale_embedding,
        norm_embeddings=is_bart,
        head_bias=head_bias,
        pad_id=_needed_id(theirs, "pad_token_id"),
        # What the decoder reads first; not what they call BOS.
        bos_id=_needed_id(theirs, "decoder_start_token_id"),
        eos_id=_needed_id(theirs, "eos_token_id"),
    )


def _needed_id(theirs: Any, field: str) -> int:
    token_id = special_id(theirs, field, theirs.vocab_size)
    if token_id is None:
        raise cannot(theirs, field, getattr(theirs, field, None), ["an id of the vocabulary"])
    return token_id


def to_lmlib(theirs: nn.Module) -> nn.Module:
    """`Transformer` with their weights.

    Embeddings of which only two are tied become three matrices with the same numbers.
    """
    state = theirs.state_dict()
    tables = ("model.encoder.embed_tokens", "model.decoder.embed_tokens", "lm_head")
    tied = len({state[f"{name}.weight"].data_ptr() for name in tables}) == 1
    has_bias = bool(state["final_logits_bias"].any())
    ours = our_config(theirs.config, tied=tied, head_bias=has_bias)
    ignored = [SHARED] if has_bias else [SHARED, "final_logits_bias"]
    if ours.positions == "sinusoidal_halves":
        _check_sinusoids(ours, state)
        ignored += SINUSOIDS
    found = [row for row in rows(ours) if row.theirs != SHARED]
    model = built(lambda: Transformer(ours))
    fill(model, to_ours(found, state, ignored), "the transformers model")
    return model


def _check_sinusoids(config: TransformerConfig, state: dict[str, Tensor]) -> None:
    for name in SINUSOIDS:
        table = state[name]
        expected = sinusoidal_table(
            table.shape[0], config.d_model, interleaved=False, device=table.device
        )
        if not torch.allclose(table.float(), expected, atol=1e-2 if table.itemsize < 4 else 1e-5):
            raise ValueError(f"{name} must hold Marian's sinusoids, but it holds other numbers")


def from_lmlib(model: Transformer) -> tuple[nn.Module, dict[str, Tensor]]:
    """An untrained model of theirs of the same shape, and the weights that it is to get."""
    import transformers

    config = model.config
    is_bart = config.positions == "learned"
    for field, value in (
        ("positions", "learned" if is_bart else "sinusoidal_halves"),
        ("tie_positions", not is_bart),
        ("norm_embeddings", is_bart),
        ("norm", "layernorm"),
        ("norm_eps", 1e-5),
        ("feed_forward", "ffn"),
        ("norm_first", False),
        ("has_final_norm", False),
        ("bias", True),
    ):
        require(config, field, value)
    require(config, "num_kv_heads", None, config.num_heads)
    parts: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "d_model": config.d_model,
        "encoder_attention_heads": config.num_heads,
        "decoder_attention_heads": config.num_heads,
        "encoder_ffn_dim": config.d_ff,
        "decoder_ffn_dim": config.d_ff,
        "encoder_layers": config.num_encoder_layers,
        "decoder_layers": config.num_decoder_layers,
        "max_position_embeddings": config.max_seq_len,
        "dropout": config.dropout,
        "attention_dropout": config.dropout,
        "activation_dropout": config.dropout,
        "activation_function": their_activation(config.activation),
        "scale_embedding": config.scale_embeddings,
        "tie_word_embeddings": config.tie_embeddings,
        "pad_token_id": config.pad_id,
        "bos_token_id": config.bos_id,
        "decoder_start_token_id": config.bos_id,
        "eos_token_id": config.eos_id,
        "forced_eos_token_id": None,
    }
    tensors = to_theirs(rows(config), model.state_dict())
    if is_bart:
        bart = transformers.BartConfig(**parts)
        return built(lambda: transformers.BartForConditionalGeneration(bart)), tensors
    if not config.tie_embeddings:
        parts["share_encoder_decoder_embeddings"] = False
        del tensors[SHARED]
    marian = transformers.MarianConfig(**parts)
    return built(lambda: transformers.MarianMTModel(marian)), tensors
