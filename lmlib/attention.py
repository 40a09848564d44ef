"""Attention: masks, scaled dot-product attention, multi-head attention and its cache.

**The one mask convention.** A mask is a boolean tensor, True = "may look at", broadcastable
to (batch, num_heads, n_q, n_k), as in ``F.scaled_dot_product_attention``. Masks are combined
with ``&``::

    mask = causal_mask(n, device=ids.device) & padding_mask(ids, pad_id=0)

A query that may look at nothing gets weights 0 and output 0, never NaN, and gradients 0.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmlib._checks import (
    check_attention,
    check_divisible,
    check_ids,
    check_positive,
    check_probability,
    check_tensor,
)
from lmlib._kv_cache import KVCache
from lmlib._tap import tap, tapping
from lmlib.positions import RelativePositionBias, RotaryEmbedding

__all__ = [
    "KVCache",
    "MultiHeadAttention",
    "causal_mask",
    "padding_mask",
    "scaled_dot_product_attention",
]


def causal_mask(
    n_q: int, n_k: int | None = None, *, device: torch.device | str | None = None
) -> Tensor:
    """Each position may look at itself and the past: j ≤ i.

    Args:
        n_q: number of queries.
        n_k: number of keys, n_q if not given. With more keys than queries the queries are
            the *last* n_q positions, as when a cache holds the earlier keys.

    Returns:
        (n_q, n_k) boolean.

    Raises:
        ValueError: n_k < n_q, or n_q < 1.

    >>> causal_mask(2, 3)
    tensor([[ True,  True, False],
            [ True,  True,  True]])
    """
    check_positive("n_q", n_q)
    n_k = n_q if n_k is None else n_k
    if n_k < n_q:
        raise ValueError(f"n_k must be at least n_q, got n_q={n_q}, n_k={n_k}")
    return torch.ones(n_q, n_k, dtype=torch.bool, device=device).tril(diagonal=n_k - n_q)


def padding_mask(token_ids: Tensor, pad_id: int) -> Tensor:
    """Nobody may look at padding.

    Args:
        token_ids: (batch, n_k) integer.
        pad_id: the id that fills short sequences up.

    Returns:
        (batch, 1, 1, n_k) boolean, the same for every head and query.

    >>> padding_mask(torch.tensor([[7, 8, 0]]), pad_id=0)
    tensor([[[[ True,  True, False]]]])
    """
    check_ids("token_ids", token_ids, "batch, n_k")
    return (token_ids != pad_id)[:, None, None, :]


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    *,
    bias: Tensor | None = None,
    scale: float | None = None,
    dropout_p: float = 0.0,
    need_weights: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """softmax(Q Kᵀ · scale + bias) V (Vaswani et al. 2017, eq. 1).

    Args:
        query: (batch, num_heads, n_q, d_k). The leading dimensions may also be missing, or
            be others; grouped heads need all four dimensions.
        key: (batch, num_kv_heads, n_k, d_k); num_heads is a multiple of num_kv_heads, and
            neighbouring query heads share a key/value head.
        value: (batch, num_kv_heads, n_k, d_v).
        mask: boolean, True = may look at, broadcastable to (batch, num_heads, n_q, n_k).
        bias: added to the scaled scores, broadcastable likewise.
        scale: 1/√d_k if not given.
        dropout_p: probability with which a weight is dropped; it acts whenever it is not 0.
        need_weights: return the weights too. If not, and nobody is tracing, torch's fused
            kernel does the same arithmetic without ever holding the n_q × n_k scores.

    Returns:
        output (batch, num_heads, n_q, d_v) and weights (batch, num_heads, n_q, n_k), or
        None. The weights are those before dropout: each row sums to one, or, where the mask
        forbids every key, to zero.

    Raises:
        TypeError, ValueError: dtypes or shapes do not fit.

    Scores and softmax of float16 and bfloat16 are computed in float32, as the fused kernels do.

    >>> q = torch.tensor([[1.0, 0.0]])
    >>> output, weights = scaled_dot_product_attention(q, q, q, need_weights=True)
    >>> weights
    tensor([[1.]])
    """
    check_attention(query, key, value, mask, bias)
    check_probability("dropout_p", dropout_p)
    scale = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    if need_weights or tapping():
        output, weights = _plain_attention(query, key, value, mask, bias, scale, dropout_p)
        return output, weights if need_weights else None
    return _fused_attention(query, key, value, mask, bias, scale, dropout_p), None


def _plain_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    scale: float,
    dropout_p: float,
) -> tuple[Tensor, Tensor]:
    if query.dim() > 3:
        groups = query.shape[-3] // key.shape[-3]
        key = key.repeat_interleave(groups, dim=-3)  # (batch, num_heads, n_k, d_k)
        value = value.repeat_interleave(groups, dim=-3)
    wide = torch.promote_types(query.dtype, torch.float32)
    with _no_autocast(query.device.type):  # a float16 dot product overflows at 65 504
        scores = query.to(wide) @ key.to(wide).transpose(-2, -1) * scale  # (…, n_q, n_k)
        scores = tap("scores", scores)
        masked_scores = scores if bias is None else scores + bias
        if mask is not None:
            masked_scores = masked_scores.masked_fill(~mask, -math.inf)
        masked_scores = tap("masked_scores", masked_scores)
        # softmax of a row of −∞ is 0/0. Such a row is set aside before and zeroed after, so
        # that no NaN arises on the way, in the gradient either.
        empty = (masked_scores == -math.inf).all(dim=-1, keepdim=True)  # (…, n_q, 1)
        weights = masked_scores.masked_fill(empty, 0.0).softmax(dim=-1)
        weights = tap("weights", weights.masked_fill(empty, 0.0).to(query.dtype))
        heads = F.dropout(weights, dropout_p).to(value.dtype) @ value  # (…, n_q, d_v)
    return tap("heads", heads), weights


def _no_autocast(device_type: str) -> AbstractContextManager[object]:
    if torch.amp.is_autocast_available(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()


def _fused_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    scale: float,
    dropout_p: float,
) -> Tensor:
    allowed = mask
    empty = None
    if bias is not None:
        allowed = bias.to(query.dtype)
        if mask is not None:
            allowed = allowed.masked_fill(~mask, -math.inf)
        empty = (allowed == -math.inf).all(dim=-1, keepdim=True)
        allowed = allowed.masked_fill(empty, 0.0)
    elif mask is not None:
        # What a kernel makes of a query that may look at nothing differs between kernels:
        # let it look at everything, and zero what comes out.
        empty = ~mask.any(dim=-1, keepdim=True)
        allowed = mask | empty
    output = F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=allowed,
        dropout_p=dropout_p,
        scale=scale,
        enable_gqa=query.dim() > 3 and query.shape[-3] != key.shape[-3],
    )
    return output if empty is None else output.masked_fill(empty, 0.0)


class MultiHeadAttention(nn.Module):
    """Several attentions side by side, each in a subspace of its own (ibid., §3.2.2).

    ``W_Q, W_K, W_V`` project to all heads at once, ``W_O`` joins them. Fewer key/value heads
    than query heads make it grouped-query attention (Ainslie et al. 2023), one makes it
    multi-query attention (Shazeer 2019).

    Args:
        d_model: width of inputs and output.
        num_heads: number of query heads.
        num_kv_heads: number of key/value heads, num_heads if not given.
        d_head: width of a head, d_model / num_heads if not given.
        bias: do the four projections have one?
        qkv_bias: do the first three have one? As ``bias`` if not given (Qwen2 has only those).
        dropout: probability with which an attention weight is dropped in training.
        rotary: rotates queries and keys by their positions.
        position_bias: adds a learned bias by distance to the scores.

    Raises:
        ValueError: the numbers do not divide, or rotary or position_bias do not fit them.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        d_head: int | None = None,
        bias: bool = True,
        qkv_bias: bool | None = None,
        dropout: float = 0.0,
        rotary: RotaryEmbedding | None = None,
        position_bias: RelativePositionBias | None = None,
    ) -> None:
        super().__init__()
        check_positive("d_model", d_model)
        check_positive("num_heads", num_heads)
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        check_positive("num_kv_heads", num_kv_heads)
        check_divisible("num_heads", num_heads, "num_kv_heads", num_kv_heads)
        if d_head is None:
            check_divisible("d_model", d_model, "num_heads", num_heads)
            d_head = d_model // num_heads
        check_positive("d_head", d_head)
        check_probability("dropout", dropout)
        if rotary is not None and rotary.d_head != d_head:
            raise ValueError(f"rotary is for d_head={rotary.d_head}, this layer has {d_head}")
        if position_bias is not None and position_bias.num_heads != num_heads:
            raise ValueError(
                f"position_bias is for num_heads={position_bias.num_heads}, "
                f"this layer has {num_heads}"
            )
        self.d_model = d_model
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads
        self.d_head = d_head
        self.dropout = dropout
        qkv_bias = bias if qkv_bias is None else qkv_bias
        self.W_Q = nn.Linear(d_model, num_heads * d_head, bias=qkv_bias)
        self.W_K = nn.Linear(d_model, num_kv_heads * d_head, bias=qkv_bias)
        self.W_V = nn.Linear(d_model, num_kv_heads * d_head, bias=qkv_bias)
        self.W_O = nn.Linear(num_heads * d_head, d_model, bias=bias)
        self.rotary = rotary
        self.position_bias = position_bias
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier-uniform weights (Glorot & Bengio 2010), zero biases."""
        for linear in (self.W_Q, self.W_K, self.W_V, self.W_O):
            nn.init.xavier_uniform_(linear.weight)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        mask: Tensor | None = None,
        *,
        need_weights: bool = False,
        cache: KVCache | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Self-attention if only a query is given, cross-attention with a key beside it.

        Args:
            query: (batch, n_q, d_model).
            key: (batch, n_new, d_model), the query if not given.
            value: (batch, n_new, d_model), the key if not given.
            mask: boolean, True = may look at, broadcastable to (batch, num_heads, n_q, n_k).
                With a cache n_k counts the cached keys too, which come first; without a mask
                every query looks at all of them.
            need_weights: return the attention weights as well.
            cache: new keys and values are appended to it, and the queries stand at the
                positions that follow it. A static one is filled from ``key`` and ``value`` once.

        Returns:
            output (batch, n_q, d_model) and weights (batch, num_heads, n_q, n_k), or None.

        Raises:
            TypeError, ValueError: dtypes or shapes do not fit, or a position goes past
                rotary's max_seq_len.
        """
        key = query if key is None else key
        value = key if value is None else value
        check_tensor("query", query, "batch, n_q, d_model", d_model=self.d_model)
        batch = query.shape[0]
        check_tensor("key", key, "batch, n_k, d_model", batch=batch, d_model=self.d_model)
        check_tensor(
            "value", value, "batch, n_k, d_model",
            batch=batch, n_k=key.shape[1], d_model=self.d_model,
        )  # fmt: skip
        offset = cache.length if cache is not None and not cache.static else 0

        Q = tap("Q", self._split(self.W_Q(query)))  # (batch, num_heads, n_q, d_head)
        K, V = self._keys_and_values(key, value, cache, offset)
        if self.rotary is not None:
            Q = tap("Q_rotated", self.rotary(Q, offset))
        bias = None
        if self.position_bias is not None:
            bias = tap("position_bias", self.position_bias(Q.shape[-2], K.shape[-2], offset))
        heads, weights = scaled_dot_product_attention(
            Q,
            K,
            V,
            mask,
            bias=bias,
            dropout_p=self.dropout if self.training else 0.0,
            need_weights=need_weights,
        )
        # (batch, num_heads, n_q, d_head) → (batch, n_q, num_heads · d_head)
        concat = tap("concat", heads.transpose(1, 2).flatten(start_dim=2))
        return tap("output", self.W_O(concat)), weights

    def _keys_and_values(
        self, key: Tensor, value: Tensor, cache: KVCache | None, offset: int
    ) -> tuple[Tensor, Tensor]:
        """All keys and values to look at, (batch, num_kv_heads, n_k, d_head)."""
        if cache is not None and cache.static:
            if self.rotary is not None or self.position_bias is not None:
                raise ValueError(
                    "a static cache does not say where the queries stand: "
                    "it cannot be used with rotary or position_bias"
                )
            if cache.key is not None and cache.value is not None:
                stored = (cache.key.shape[0], cache.length)
                if stored != tuple(key.shape[:2]):
                    raise ValueError(
                        f"key must be the memory that the static cache holds, (batch, n_k)="
                        f"{stored}, got {tuple(key.shape[:2])}"
                    )
                return tap("K", cache.key), tap("V", cache.value)
        K = tap("K", self._split(self.W_K(key)))  # (batch, num_kv_heads, n_new, d_head)
        V = tap("V", self._split(self.W_V(value)))
        if self.rotary is not None:
            K = tap("K_rotated", self.rotary(K, offset))
        return (K, V) if cache is None else cache.append(K, V)

    def _split(self, x: Tensor) -> Tensor:
        """(batch, n, heads · d_head) → (batch, heads, n, d_head)."""
        return x.unflatten(-1, (-1, self.d_head)).transpose(1, 2)

    def extra_repr(self) -> str:
        return (
            f"d_model={self.d_model}, num_heads={self.num_heads}, "
            f"num_kv_heads={self.num_kv_heads}, d_head={self.d_head}, dropout={self.dropout}"
        )
