"""The stacks of a Transformer, and the config that shapes them: see `lmlib.transformer`."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from lmlib._checks import (
    check_choice,
    check_divisible,
    check_positive,
    check_probability,
    check_special_id,
    check_tensor,
)
from lmlib.attention import KVCache, causal_mask
from lmlib.layers import (
    ACTIVATIONS,
    FEED_FORWARDS,
    NORMS,
    DecoderLayer,
    DecoderLayerCaches,
    DecoderLayerWeights,
    EncoderLayer,
    make_norm,
)
from lmlib.positions import RelativePositionBias, RotaryEmbedding

POSITIONS = ("sinusoidal", "sinusoidal_halves", "learned", "rotary", "relative", "none")


@dataclass(frozen=True)
class TransformerConfig:
    """Everything that fixes the shape of a `Transformer`. The defaults are the paper's base model.

    Attributes:
        vocab_size: number of tokens, the same for source and target.
        d_model: width of a token's vector.
        num_heads: number of attention heads, each d_model / num_heads wide.
        d_ff: width inside the feed-forward networks.
        num_encoder_layers, num_decoder_layers: how many layers are stacked.
        max_seq_len: the longest source or target to accept.
        dropout: rate at which sublayer outputs, attention weights, hidden features and the sums
            of embeddings and positions are dropped in training.
        norm_first: pre-norm instead of the paper's post-norm.
        final_norm: one more norm at the end of each stack; by default (None) with pre-norm only,
            which needs it. ``nn.Transformer`` always has it, the paper has none.
        activation: "relu", "gelu", "gelu_tanh" or "silu", see `FeedForward`.
        norm: "layernorm" or "rmsnorm".
        norm_eps: their ε.
        feed_forward: "ffn" or "swiglu".
        positions: "sinusoidal" and "learned" add a vector to each token, "rotary" turns queries
            and keys, "relative" adds a bias to the scores, "none" tells nothing.
            "sinusoidal_halves" are the sinusoids with all sines in front of all cosines (Marian).
        tie_positions: source and target share one table of learned positions (BART has two).
        num_kv_heads: key/value heads, fewer than num_heads for grouped-query attention.
        tie_embeddings: source, target and head share one matrix (§3.4).
        scale_embeddings: multiply embeddings by √d_model (§3.4).
        norm_embeddings: normalise the sum of embedding and position (Lewis et al. 2020, BART).
        bias: have the projections and the LayerNorms one?
        head_bias: has the head one?
        pad_id, bos_id, eos_id: the special tokens. Nobody looks at padding; only where pad_id is
            bos_id too (Marian), the first token of a target is no padding.

    Raises:
        TypeError, ValueError: a value is not allowed, or two do not fit each other.
    """

    vocab_size: int
    d_model: int = 512
    num_heads: int = 8
    d_ff: int = 2048
    num_encoder_layers: int = 6
    num_decoder_layers: int = 6
    max_seq_len: int = 512
    dropout: float = 0.1
    norm_first: bool = False
    final_norm: bool | None = None
    activation: str = "relu"
    norm: str = "layernorm"
    norm_eps: float = 1e-5
    feed_forward: str = "ffn"
    positions: str = "sinusoidal"
    tie_positions: bool = True
    num_kv_heads: int | None = None
    tie_embeddings: bool = True
    scale_embeddings: bool = True
    norm_embeddings: bool = False
    bias: bool = True
    head_bias: bool = False
    pad_id: int = 0
    bos_id: int = 1
    eos_id: int = 2

    def __post_init__(self) -> None:
        for name in (
            "vocab_size", "d_model", "num_heads", "d_ff",
            "num_encoder_layers", "num_decoder_layers", "max_seq_len",
        ):  # fmt: skip
            check_positive(name, getattr(self, name))
        check_probability("dropout", self.dropout)
        check_choice("activation", self.activation, ACTIVATIONS)
        check_choice("norm", self.norm, NORMS)
        check_choice("feed_forward", self.feed_forward, FEED_FORWARDS)
        check_choice("positions", self.positions, POSITIONS)
        check_divisible("d_model", self.d_model, "num_heads", self.num_heads)
        if self.num_kv_heads is not None:
            check_positive("num_kv_heads", self.num_kv_heads)
            check_divisible("num_heads", self.num_heads, "num_kv_heads", self.num_kv_heads)
        if self.positions == "rotary" and self.d_head % 2:
            raise ValueError(
                f"d_model / num_heads must be even for positions='rotary', got {self.d_head}"
            )
        if not self.tie_positions and self.positions != "learned":
            raise ValueError(
                "tie_positions=False is for positions='learned', which alone have a table, "
                f"got positions={self.positions!r}"
            )
        if not self.norm_eps >= 0:
            raise ValueError(f"norm_eps must not be negative, got {self.norm_eps}")
        for name in ("pad_id", "bos_id", "eos_id"):
            check_special_id(name, getattr(self, name), self.vocab_size)
        if self.pad_id == self.eos_id:
            raise ValueError(
                f"pad_id must differ from eos_id, for padding is never predicted, "
                f"got pad_id={self.pad_id}, eos_id={self.eos_id}"
            )

    @property
    def d_head(self) -> int:
        """Width of a head."""
        return self.d_model // self.num_heads

    @property
    def has_final_norm(self) -> bool:
        """Do the stacks end with a norm? (`final_norm`, decided)"""
        return self.norm_first if self.final_norm is None else self.final_norm


class Encoder(nn.Module):
    """A stack of `EncoderLayer`: vectors in, memory out. It holds no embeddings."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        options = _layer_options(config, bidirectional=True)
        self.layers = nn.ModuleList(
            EncoderLayer(**options) for _ in range(config.num_encoder_layers)
        )
        self.norm = _final_norm(config)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, *, need_weights: bool = False
    ) -> tuple[Tensor, list[Tensor] | None]:
        """
        Args:
            x: (batch, n, d_model).
            mask: boolean, True = may look at, broadcastable to (batch, num_heads, n, n).
            need_weights: return the attention weights as well.

        Returns:
            memory (batch, n, d_model), and for each layer the weights (batch, num_heads, n, n),
            or None.
        """
        all_weights: list[Tensor] = []
        for layer in self.layers:
            x, weights = layer(x, mask, need_weights=need_weights)
            all_weights.append(weights)
        if self.norm is not None:
            x = self.norm(x)
        return x, all_weights if need_weights else None


class DecoderCaches:
    """What a decoder remembers of the tokens it has read: see `Transformer.decode`.

    Attributes:
        layers: the caches of each layer.
        may_look: (batch, 1, 1, length) boolean, False where a token was padding; None at first.
    """

    def __init__(self, num_layers: int) -> None:
        self.layers = [
            DecoderLayerCaches(KVCache(), KVCache(static=True)) for _ in range(num_layers)
        ]
        self.may_look: Tensor | None = None

    @property
    def length(self) -> int:
        """Number of tokens read."""
        return self.layers[0].self_attention.length

    @property
    def batch(self) -> int | None:
        """Number of rows, None while empty."""
        memory = self.layers[0].cross_attention.key
        return None if memory is None else memory.shape[0]

    def __copy__(self) -> DecoderCaches:
        """Caches that go on by themselves from here."""
        twin = DecoderCaches(0)
        twin.layers = [DecoderLayerCaches(*map(copy.copy, layer)) for layer in self.layers]
        twin.may_look = self.may_look
        return twin

    def crop(self, length: int) -> None:
        """Forget all but the first ``length`` tokens; the memory stays."""
        for layer in self.layers:
            layer.self_attention.crop(length)
        if self.may_look is not None:
            self.may_look = self.may_look[..., :length]

    def reorder(self, indices: Tensor) -> None:
        """Let row i continue row ``indices[i]`` ((new_batch,) integer), as beam search does."""
        for layer in self.layers:
            layer.self_attention.reorder(indices)
            layer.cross_attention.reorder(indices)
        if self.may_look is not None:
            self.may_look = self.may_look.index_select(0, indices)


class Decoder(nn.Module):
    """A stack of `DecoderLayer`, causal: no position sees a later one. It holds no embeddings."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        options = _layer_options(config, bidirectional=False)
        self.layers = nn.ModuleList(
            DecoderLayer(**options) for _ in range(config.num_decoder_layers)
        )
        self.norm = _final_norm(config)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        self_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        *,
        caches: DecoderCaches | None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, list[DecoderLayerWeights] | None]:
        """
        Args:
            x: (batch, n, d_model), the tokens that follow those in ``caches``.
            memory: (batch, n_memory, d_model).
            self_mask: boolean, True = may look at, broadcastable to (batch, num_heads, n, n_k),
                where n_k counts the tokens in ``caches`` too. The causal mask comes on top of it.
            memory_mask: the same for (batch, num_heads, n, n_memory).
            caches: extended by x.
            need_weights: return the attention weights as well.

        Returns:
            hidden (batch, n, d_model), and the weights of each layer, or None.
        """
        check_tensor("x", x, "batch, n, d_model")
        past = 0 if caches is None else caches.length
        mask = causal_mask(x.shape[1], past + x.shape[1], device=x.device)
        if self_mask is not None:
            mask = mask & self_mask
        all_weights: list[DecoderLayerWeights] = []
        for index, layer in enumerate(self.layers):
            x, weights = layer(
                x,
                memory,
                mask,
                memory_mask,
                caches=None if caches is None else caches.layers[index],
                need_weights=need_weights,
            )
            all_weights.append(weights)
        if self.norm is not None:
            x = self.norm(x)
        return x, all_weights if need_weights else None


def _layer_options(config: TransformerConfig, *, bidirectional: bool) -> dict[str, Any]:
    """The arguments of every layer of one stack; its self-attentions share one position module."""
    rotary = position_bias = None
    if config.positions == "rotary":
        rotary = RotaryEmbedding(config.d_head, max_seq_len=config.max_seq_len)
    if config.positions == "relative":
        position_bias = RelativePositionBias(config.num_heads, bidirectional=bidirectional)
    return {
        "d_model": config.d_model,
        "num_heads": config.num_heads,
        "d_ff": config.d_ff,
        "dropout": config.dropout,
        "norm_first": config.norm_first,
        "activation": config.activation,
        "norm": config.norm,
        "norm_eps": config.norm_eps,
        "feed_forward": config.feed_forward,
        "num_kv_heads": config.num_kv_heads,
        "rotary": rotary,
        "position_bias": position_bias,
        "bias": config.bias,
    }


def _final_norm(config: TransformerConfig) -> nn.Module | None:
    if not config.has_final_norm:
        return None
    return make_norm(config.norm, config.d_model, config.norm_eps, config.bias)
