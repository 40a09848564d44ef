"""GPT-2: `GPT2LMHeadModel`, `GPT2Model` ↔ `GPT`."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from lmlib._huggingface.rows import (
    Row,
    fused,
    our_activation,
    over_layers,
    require,
    same,
    special_id,
    their_activation,
    to_ours,
    to_theirs,
    transposed,
)
from lmlib._weights import built, fill
from lmlib.gpt import GPT, GPTConfig

CLASSES = ("GPT2LMHeadModel", "GPT2Model")


def rows(config: GPTConfig, prefix: str = "transformer.") -> list[Row]:
    """Ours ↔ theirs; a bare `GPT2Model` has no prefix and no head."""
    attention = "layers.{i}.self_attention"
    layer = [
        *same("layers.{i}.norm_1", "h.{i}.ln_1", "weight", "bias"),
        *fused((f"{attention}.W_Q", f"{attention}.W_K", f"{attention}.W_V"), "h.{i}.attn.c_attn"),
        *transposed(f"{attention}.W_O", "h.{i}.attn.c_proj"),
        *same("layers.{i}.norm_2", "h.{i}.ln_2", "weight", "bias"),
        *transposed("layers.{i}.feed_forward.W_1", "h.{i}.mlp.c_fc"),
        *transposed("layers.{i}.feed_forward.W_2", "h.{i}.mlp.c_proj"),
    ]
    body = [
        *same("embedding.weight", "wte.weight"),
        *same("positions.weight", "wpe.weight"),
        *over_layers(config.num_layers, layer),
        *same("norm", "ln_f", "weight", "bias"),
    ]
    head = same("head.weight", "lm_head.weight") if prefix else []
    return [*(row._replace(theirs=f"{prefix}{row.theirs}") for row in body), *head]


def our_config(theirs: Any) -> GPTConfig:
    """The config of the same model.

    Raises:
        ValueError: they have something that `GPT` has not.
    """
    require(theirs, "scale_attn_weights", True)
    require(theirs, "scale_attn_by_inverse_layer_idx", False)
    require(theirs, "add_cross_attention", False)
    vocab_size = theirs.vocab_size
    return GPTConfig.gpt2(
        vocab_size=vocab_size,
        max_seq_len=theirs.n_positions,
        d_model=theirs.n_embd,
        num_layers=theirs.n_layer,
        num_heads=theirs.n_head,
        d_ff=theirs.n_inner,
        dropout=theirs.resid_pdrop,
        norm_eps=theirs.layer_norm_epsilon,
        activation=our_activation(theirs, "activation_function"),
        tie_embeddings=theirs.tie_word_embeddings,
        bos_id=special_id(theirs, "bos_token_id", vocab_size),
        eos_id=special_id(theirs, "eos_token_id", vocab_size),
        pad_id=special_id(theirs, "pad_token_id", vocab_size),
    )


def to_lmlib(theirs: nn.Module) -> nn.Module:
    """`GPT` with their weights."""
    config: Any = theirs.config
    has_head = hasattr(theirs, "lm_head")
    if not has_head:
        require(config, "tie_word_embeddings", True)  # the only head it can have
    ours = our_config(config)
    tensors = to_ours(rows(ours, "transformer." if has_head else ""), theirs.state_dict())
    model = built(lambda: GPT(ours))
    fill(model, tensors, "the transformers model")
    return model


def from_lmlib(model: GPT) -> tuple[nn.Module, dict[str, Tensor]]:
    """An untrained `GPT2LMHeadModel` of the same shape, and the weights that it is to get."""
    import transformers

    config = model.config
    for field, value in (
        ("positions", "learned"),
        ("norm", "layernorm"),
        ("feed_forward", "ffn"),
        ("norm_first", True),
        ("bias", True),
    ):
        require(config, field, value)
    require(config, "qkv_bias", None, True)
    require(config, "num_kv_heads", None, config.num_heads)
    require(config, "d_head", None, config.d_model // config.num_heads)
    theirs = transformers.GPT2Config(
        vocab_size=config.vocab_size,
        n_positions=config.max_seq_len,
        n_embd=config.d_model,
        n_layer=config.num_layers,
        n_head=config.num_heads,
        n_inner=config.d_ff,
        resid_pdrop=config.dropout,
        embd_pdrop=config.dropout,
        attn_pdrop=config.dropout,
        layer_norm_epsilon=config.norm_eps,
        activation_function=their_activation(config.activation),
        tie_word_embeddings=config.tie_embeddings,
        bos_token_id=config.bos_id,
        eos_token_id=config.eos_id,
        pad_token_id=config.pad_id,
    )
    tensors = to_theirs(rows(config), model.state_dict())
    return built(lambda: transformers.GPT2LMHeadModel(theirs)), tensors
