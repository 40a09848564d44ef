"""Layers: normalisation, feed-forward networks, and the two layers a Transformer is stacked from.

Both layers know two orders of normalisation. *Post-norm* (``norm_first=False``; Vaswani et al.
2017, §3.1) normalises each sum: ``x = norm(x + sublayer(x))``. *Pre-norm* (``norm_first=True``;
Xiong et al. 2020) normalises what goes into the sublayer: ``x = x + sublayer(norm(x))``, so that
the sums form one unbroken path from the first layer to the last.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from lmlib._dropout import drop
from lmlib._feed_forward import (
    ACTIVATIONS,
    FEED_FORWARDS,
    FeedForward,
    SwiGLU,
    make_feed_forward,
)
from lmlib._norms import NORMS, LayerNorm, RMSNorm, make_norm
from lmlib._tap import tap
from lmlib.attention import KVCache, MultiHeadAttention
from lmlib.positions import RelativePositionBias, RotaryEmbedding

__all__ = [
    "ACTIVATIONS",
    "FEED_FORWARDS",
    "NORMS",
    "DecoderLayer",
    "DecoderLayerCaches",
    "DecoderLayerWeights",
    "EncoderLayer",
    "FeedForward",
    "LayerNorm",
    "RMSNorm",
    "SwiGLU",
    "make_feed_forward",
    "make_norm",
]


class EncoderLayer(nn.Module):
    """Self-attention, then a feed-forward network; each with a residual sum and a norm.

    Equal to ``nn.TransformerEncoderLayer(batch_first=True)`` with the same weights.

    Args:
        d_model: width of a token's vector.
        num_heads: number of attention heads.
        d_ff: width inside the feed-forward network.
        dropout: rate for attention weights, hidden features and the output of each sublayer.
        norm_first: pre-norm instead of post-norm (see the top of this module).
        activation: of the feed-forward network, see `FeedForward`; "swiglu" has its own.
        norm: "layernorm" or "rmsnorm".
        norm_eps: their ε.
        feed_forward: "ffn" or "swiglu".
        num_kv_heads, d_head: see `MultiHeadAttention`.
        rotary, position_bias: see `MultiHeadAttention`.
        bias: have the projections and the LayerNorms one?
        qkv_bias: have the projections to queries, keys and values one? As ``bias`` if not given.

    Raises:
        TypeError, ValueError: an argument is not among those allowed.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_ff: int,
        *,
        dropout: float = 0.0,
        norm_first: bool = False,
        activation: str = "relu",
        norm: str = "layernorm",
        norm_eps: float = 1e-5,
        feed_forward: str = "ffn",
        num_kv_heads: int | None = None,
        rotary: RotaryEmbedding | None = None,
        position_bias: RelativePositionBias | None = None,
        bias: bool = True,
        qkv_bias: bool | None = None,
        d_head: int | None = None,
    ) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.self_attention = MultiHeadAttention(
            d_model,
            num_heads,
            num_kv_heads=num_kv_heads,
            d_head=d_head,
            bias=bias,
            qkv_bias=qkv_bias,
            dropout=dropout,
            rotary=rotary,
            position_bias=position_bias,
        )
        self.norm_1 = make_norm(norm, d_model, norm_eps, bias)
        self.feed_forward = make_feed_forward(
            feed_forward, d_model, d_ff, activation=activation, dropout=dropout, bias=bias
        )
        self.norm_2 = make_norm(norm, d_model, norm_eps, bias)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        *,
        causal: bool = False,
        positions: Tensor | None = None,
        cache: KVCache | None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """
        Args:
            x: (batch, n, d_model).
            mask: boolean, True = may look at, broadcastable to (batch, num_heads, n, n_k).
            causal: no token looks at a later one: this layer is a decoder-only model's.
            positions: (batch, n_k) integer, where each token stands; see `MultiHeadAttention`.
            cache: keys and values of the tokens before x; n_k counts them too.
            need_weights: return the attention weights as well.

        Returns:
            output (batch, n, d_model) and weights (batch, num_heads, n, n_k), or None.
        """
        attended, weights = self.self_attention(
            self.norm_1(x) if self.norm_first else x,
            mask=mask,
            causal=causal,
            positions=positions,
            need_weights=need_weights,
            cache=cache,
        )
        x = tap("residual_1", x + drop(self.dropout, attended))
        x = x if self.norm_first else self.norm_1(x)

        hidden = self.feed_forward(self.norm_2(x) if self.norm_first else x)
        x = tap("residual_2", x + drop(self.dropout, hidden))
        return x if self.norm_first else self.norm_2(x), weights


class DecoderLayerCaches(NamedTuple):
    """The caches of one `DecoderLayer`.

    Attributes:
        self_attention: keys and values of the target; it grows with each token.
        cross_attention: keys and values of the memory; it is static.
    """

    self_attention: KVCache
    cross_attention: KVCache


class DecoderLayerWeights(NamedTuple):
    """The attention weights of one `DecoderLayer`.

    Attributes:
        self_attention: (batch, num_heads, n_q, n_k), from the target to itself.
        cross_attention: (batch, num_heads, n_q, n_memory), from the target to the memory.
    """

    self_attention: Tensor
    cross_attention: Tensor


class DecoderLayer(nn.Module):
    """Masked self-attention, cross-attention to the memory, a feed-forward network.

    Equal to ``nn.TransformerDecoderLayer(batch_first=True)`` with the same weights. Positions
    (``rotary``, ``position_bias``) act in the self-attention alone: the distance between a token
    of the target and one of the source means nothing by itself.

    Args:
        d_model, num_heads, d_ff: see `EncoderLayer`, as for all the others.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_ff: int,
        *,
        dropout: float = 0.0,
        norm_first: bool = False,
        activation: str = "relu",
        norm: str = "layernorm",
        norm_eps: float = 1e-5,
        feed_forward: str = "ffn",
        num_kv_heads: int | None = None,
        rotary: RotaryEmbedding | None = None,
        position_bias: RelativePositionBias | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.self_attention = MultiHeadAttention(
            d_model,
            num_heads,
            num_kv_heads=num_kv_heads,
            bias=bias,
            dropout=dropout,
            rotary=rotary,
            position_bias=position_bias,
        )
        self.norm_1 = make_norm(norm, d_model, norm_eps, bias)
        self.cross_attention = MultiHeadAttention(
            d_model, num_heads, num_kv_heads=num_kv_heads, bias=bias, dropout=dropout
        )
        self.norm_2 = make_norm(norm, d_model, norm_eps, bias)
        self.feed_forward = make_feed_forward(
            feed_forward, d_model, d_ff, activation=activation, dropout=dropout, bias=bias
        )
        self.norm_3 = make_norm(norm, d_model, norm_eps, bias)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        self_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        *,
        caches: DecoderLayerCaches | None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, DecoderLayerWeights | None]:
        """
        Args:
            x: (batch, n, d_model).
            memory: (batch, n_memory, d_model), the encoder's output.
            self_mask: boolean, True = may look at, broadcastable to (batch, num_heads, n, n_k).
                The layer adds no causal mask of its own (`Decoder` does).
            memory_mask: the same for (batch, num_heads, n, n_memory).
            caches: keys and values of the tokens before x (n_k counts them), and of the memory.
            need_weights: return the attention weights as well.

        Returns:
            output (batch, n, d_model) and the weights of both attentions, or None.
        """
        self_cache, cross_cache = (None, None) if caches is None else caches

        attended, self_weights = self.self_attention(
            self.norm_1(x) if self.norm_first else x,
            mask=self_mask,
            need_weights=need_weights,
            cache=self_cache,
        )
        x = tap("residual_1", x + drop(self.dropout, attended))
        x = x if self.norm_first else self.norm_1(x)

        attended, cross_weights = self.cross_attention(
            self.norm_2(x) if self.norm_first else x,
            memory,
            mask=memory_mask,
            need_weights=need_weights,
            cache=cross_cache,
        )
        x = tap("residual_2", x + drop(self.dropout, attended))
        x = x if self.norm_first else self.norm_2(x)

        hidden = self.feed_forward(self.norm_3(x) if self.norm_first else x)
        x = tap("residual_3", x + drop(self.dropout, hidden))
        x = x if self.norm_first else self.norm_3(x)
        if self_weights is None or cross_weights is None:
            return x, None
        return x, DecoderLayerWeights(self_weights, cross_weights)
