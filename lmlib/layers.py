"""Layers: normalisation, feed-forward networks, and the two layers a Transformer is stacked from.

Both layers know two orders of normalisation. *Post-norm* (``norm_first=False``; Vaswani et al.
2017, §3.1) normalises each sum: ``x = norm(x + sublayer(x))``. *Pre-norm* (``norm_first=True``;
Xiong et al. 2020) normalises what goes into the sublayer: ``x = x + sublayer(norm(x))``, so that
the sums form one unbroken path from the first layer to the last.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmlib._checks import check_choice, check_positive, check_probability, check_tensor
from lmlib._tap import tap
from lmlib.attention import KVCache, MultiHeadAttention
from lmlib.positions import RelativePositionBias, RotaryEmbedding

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "silu": F.silu,
}
NORMS = ("layernorm", "rmsnorm")
FEED_FORWARDS = ("ffn", "swiglu")


class LayerNorm(nn.Module):
    """y = (x − μ) / √(σ² + ε) · weight + bias (Ba et al. 2016, eq. 4), each token by itself.

    μ and σ² are taken over the d_model features of one token. σ² is the *biased* variance (divided
    by d_model, not d_model − 1), and ε stands *inside* the root. float16 and bfloat16 are
    normalised in float32.

    Args:
        d_model: number of features.
        eps: keeps the root away from zero.
        bias: has it a bias?

    Attributes:
        weight: (d_model,), ones at first.
        bias: (d_model,), zeros at first, or None.

    >>> LayerNorm(4)(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))[0].tolist()  # doctest: +ELLIPSIS
    [-1.3416..., -0.4472..., 0.4472..., 1.3416...]
    """

    def __init__(self, d_model: int, eps: float = 1e-5, bias: bool = True) -> None:
        super().__init__()
        check_positive("d_model", d_model)
        self.d_model = d_model
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., d_model) → the same shape and dtype."""
        check_tensor("x", x, "..., d_model", d_model=self.d_model)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        centred = wide - wide.mean(dim=-1, keepdim=True)
        variance = centred.square().mean(dim=-1, keepdim=True)
        y = centred * torch.rsqrt(variance + self.eps) * self.weight
        if self.bias is not None:
            y = y + self.bias
        return tap("output", y.to(x.dtype))

    def extra_repr(self) -> str:
        return f"d_model={self.d_model}, eps={self.eps}, bias={self.bias is not None}"


class RMSNorm(nn.Module):
    """y = x / √(mean(x²) + ε) · weight (Zhang & Sennrich 2019, eq. 4): no mean, no bias.

    Args:
        d_model: number of features.
        eps: keeps the root away from zero.

    Attributes:
        weight: (d_model,), ones at first.

    >>> RMSNorm(2, eps=0.0)(torch.tensor([[1.0, 7.0]]))
    tensor([[0.2000, 1.4000]], grad_fn=<MulBackward0>)
    """

    def __init__(self, d_model: int, eps: float = 1e-6) -> None:
        super().__init__()
        check_positive("d_model", d_model)
        self.d_model = d_model
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))

    def forward(self, x: Tensor) -> Tensor:
        """(..., d_model) → the same shape and dtype."""
        check_tensor("x", x, "..., d_model", d_model=self.d_model)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        y = wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + self.eps) * self.weight
        return tap("output", y.to(x.dtype))

    def extra_repr(self) -> str:
        return f"d_model={self.d_model}, eps={self.eps}"


class FeedForward(nn.Module):
    """activation(x W_1 + b_1) W_2 + b_2 (Vaswani et al. 2017, eq. 2), each token by itself.

    Args:
        d_model: width of input and output.
        d_ff: width in between.
        activation: "relu"; "gelu" (Hendrycks & Gimpel 2016; exact, by erf), or "gelu_tanh", its
            approximation that GPT-2 uses; "silu" (x · sigmoid(x), also called swish).
        dropout: probability with which a hidden feature is dropped in training.
        bias: have the two projections one?
    """

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        *,
        activation: str = "relu",
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        check_positive("d_model", d_model)
        check_positive("d_ff", d_ff)
        check_choice("activation", activation, ACTIVATIONS)
        check_probability("dropout", dropout)
        self.activation = activation
        self.W_1 = nn.Linear(d_model, d_ff, bias=bias)
        self.W_2 = nn.Linear(d_ff, d_model, bias=bias)
        self.dropout = nn.Dropout(dropout)
        _xavier(self.W_1, self.W_2)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d_model) → (..., d_model)."""
        check_tensor("x", x, "..., d_model", d_model=self.W_1.in_features)
        pre_activation = tap("pre_activation", self.W_1(x))  # (..., d_ff)
        hidden = tap("hidden", ACTIVATIONS[self.activation](pre_activation))
        return tap("output", self.W_2(self.dropout(hidden)))

    def extra_repr(self) -> str:
        return f"activation={self.activation!r}"


class SwiGLU(nn.Module):
    """(SiLU(x W_gate) ⊙ x W_up) W_down (Shazeer 2020, eq. 6; there W, V and W_2).

    It has three matrices where `FeedForward` has two: d_ff = 8/3 · d_model, instead of
    4 · d_model, gives it as many parameters.

    Args:
        d_model: width of input and output.
        d_ff: width in between.
        dropout: probability with which a hidden feature is dropped in training.
        bias: have the three projections one?
    """

    def __init__(
        self, d_model: int, d_ff: int, *, dropout: float = 0.0, bias: bool = False
    ) -> None:
        super().__init__()
        check_positive("d_model", d_model)
        check_positive("d_ff", d_ff)
        check_probability("dropout", dropout)
        self.W_gate = nn.Linear(d_model, d_ff, bias=bias)
        self.W_up = nn.Linear(d_model, d_ff, bias=bias)
        self.W_down = nn.Linear(d_ff, d_model, bias=bias)
        self.dropout = nn.Dropout(dropout)
        _xavier(self.W_gate, self.W_up, self.W_down)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d_model) → (..., d_model)."""
        check_tensor("x", x, "..., d_model", d_model=self.W_gate.in_features)
        gate = tap("gate", self.W_gate(x))  # (..., d_ff)
        up = tap("up", self.W_up(x))  # (..., d_ff)
        hidden = tap("hidden", F.silu(gate) * up)
        return tap("output", self.W_down(self.dropout(hidden)))


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
        cache: KVCache | None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """
        Args:
            x: (batch, n, d_model).
            mask: boolean, True = may look at, broadcastable to (batch, num_heads, n, n_k).
            cache: keys and values of the tokens before x; n_k counts them too. With a causal mask
                this layer is a decoder-only model's.
            need_weights: return the attention weights as well.

        Returns:
            output (batch, n, d_model) and weights (batch, num_heads, n, n_k), or None.
        """
        attended, weights = self.self_attention(
            self.norm_1(x) if self.norm_first else x,
            mask=mask,
            need_weights=need_weights,
            cache=cache,
        )
        x = tap("residual_1", x + self.dropout(attended))
        x = x if self.norm_first else self.norm_1(x)

        hidden = self.feed_forward(self.norm_2(x) if self.norm_first else x)
        x = tap("residual_2", x + self.dropout(hidden))
        return x if self.norm_first else self.norm_2(x), weights


class DecoderLayerCaches(NamedTuple):
    """The caches of one `DecoderLayer`; ``cross_attention`` is static."""

    self_attention: KVCache
    cross_attention: KVCache


class DecoderLayerWeights(NamedTuple):
    """The attention weights of one `DecoderLayer`."""

    self_attention: Tensor  # (batch, num_heads, n_q, n_k)
    cross_attention: Tensor  # (batch, num_heads, n_q, n_memory)


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
        x = tap("residual_1", x + self.dropout(attended))
        x = x if self.norm_first else self.norm_1(x)

        attended, cross_weights = self.cross_attention(
            self.norm_2(x) if self.norm_first else x,
            memory,
            mask=memory_mask,
            need_weights=need_weights,
            cache=cross_cache,
        )
        x = tap("residual_2", x + self.dropout(attended))
        x = x if self.norm_first else self.norm_2(x)

        hidden = self.feed_forward(self.norm_3(x) if self.norm_first else x)
        x = tap("residual_3", x + self.dropout(hidden))
        x = x if self.norm_first else self.norm_3(x)
        if self_weights is None or cross_weights is None:
            return x, None
        return x, DecoderLayerWeights(self_weights, cross_weights)


def make_norm(norm: str, d_model: int, eps: float, bias: bool) -> LayerNorm | RMSNorm:
    """The normalisation of that name, one of `NORMS`."""
    check_choice("norm", norm, NORMS)
    return LayerNorm(d_model, eps, bias) if norm == "layernorm" else RMSNorm(d_model, eps)


def make_feed_forward(
    feed_forward: str, d_model: int, d_ff: int, *, activation: str, dropout: float, bias: bool
) -> FeedForward | SwiGLU:
    """The feed-forward network of that name, one of `FEED_FORWARDS`."""
    check_choice("feed_forward", feed_forward, FEED_FORWARDS)
    if feed_forward == "ffn":
        return FeedForward(d_model, d_ff, activation=activation, dropout=dropout, bias=bias)
    return SwiGLU(d_model, d_ff, dropout=dropout, bias=bias)


def _xavier(*linears: nn.Linear) -> None:
    """Xavier-uniform weights (Glorot & Bengio 2010), zero biases."""
    for linear in linears:
        nn.init.xavier_uniform_(linear.weight)
        if linear.bias is not None:
            nn.init.zeros_(linear.bias)
