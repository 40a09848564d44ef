"""Attention: masks, scaled dot-product attention, multi-head attention and its cache.

**The one mask convention.** A mask is a boolean tensor, True = "may look at", broadcastable
to (batch, num_heads, n_q, n_k), as in ``F.scaled_dot_product_attention``. Masks are combined
with ``&``::

    mask = causal_mask(n, device=ids.device) & padding_mask(ids, pad_id=0)

A query that may look at nothing gets weights 0 and output 0, never NaN, and gradients 0.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from lmlib._checks import (
    check_divisible,
    check_ids,
    check_mask,
    check_positive,
    check_probability,
    check_tensor,
)
from lmlib._dot_product import (
    attend,
    causal_mask,
    check_reach,
    padding_mask,
    scaled_dot_product_attention,
)
from lmlib._kv_cache import KVCache
from lmlib._tap import tap
from lmlib.positions import RelativePositionBias, RotaryEmbedding

__all__ = [
    "KVCache",
    "MultiHeadAttention",
    "causal_mask",
    "padding_mask",
    "scaled_dot_product_attention",
]


class MultiHeadAttention(nn.Module):
    """Several attentions side by side, each in a subspace of its own.

    Vaswani et al. 2017, §3.2.2.

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
        causal: bool = False,
        positions: Tensor | None = None,
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
            causal: no query looks at a key behind it: as if the mask were
                ``mask & causal_mask(n_q, n_k)``, but cheaper.
            positions: (batch, n_k) integer, where each key stands, for rotary and position_bias;
                the queries are the last n_q of them. If not given, keys stand at 0, 1, 2, … .
                Rows that do not begin together, or with gaps, have their own.
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
        batch, n_q, _ = query.shape
        if key is not query:
            check_tensor("key", key, "batch, n_k, d_model", batch=batch, d_model=self.d_model)
        if value is not key:
            check_tensor(
                "value", value, "batch, n_k, d_model",
                batch=batch, n_k=key.shape[1], d_model=self.d_model,
            )  # fmt: skip
        growing = cache is not None and not cache.static
        offset = cache.length if cache is not None and growing else 0
        n_k = offset + key.shape[1]
        if causal:
            check_reach(n_q, n_k)
        if mask is not None:
            check_mask("mask", mask, (batch, self.num_heads, n_q, n_k), query.device)
        if positions is not None:
            check_ids("positions", positions, "batch, n_k")
            if positions.shape != (batch, n_k):
                raise ValueError(
                    f"positions must have shape (batch, n_k)=({batch}, {n_k}), "
                    f"got {tuple(positions.shape)}"
                )

        Q = tap("Q", self._split(self.W_Q(query)))  # (batch, num_heads, n_q, d_head)
        K, V = self._keys_and_values(key, value, cache, offset, positions)
        bias = None
        if self.rotary is not None:
            at = None if positions is None else positions[:, -n_q:]
            Q = tap("Q_rotated", self.rotary(Q, offset, positions=at))
        if self.position_bias is not None:
            bias = self.position_bias(n_q, n_k, offset, positions=positions)
            bias = tap("position_bias", bias)
        heads, weights = attend(
            Q,
            K,
            V,
            mask,
            causal,
            bias,
            scale=1.0 / math.sqrt(self.d_head),
            dropout_p=self.dropout if self.training else 0.0,
            need_weights=need_weights,
        )
        # (batch, num_heads, n_q, d_head) → (batch, n_q, num_heads · d_head)
        concat = tap("concat", heads.transpose(1, 2).flatten(start_dim=2))
        return tap("output", self.W_O(concat)), weights

    def _keys_and_values(
        self,
        key: Tensor,
        value: Tensor,
        cache: KVCache | None,
        offset: int,
        positions: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """All keys and values to look at, (batch, num_kv_heads, n_k, d_head)."""
        if cache is not None and cache.static:
            if self.rotary is not None or self.position_bias is not None:
                raise ValueError(
                    "a static cache does not say where the queries stand: "
                    "it cannot be used with rotary or position_bias"
                )
            K, V = cache.key, cache.value
            if K is not None and V is not None:
                stored = (K.shape[0], cache.length)
                if stored != tuple(key.shape[:2]):
                    raise ValueError(
                        f"key must be the memory that the static cache holds, (batch, n_k)="
                        f"{stored}, got {tuple(key.shape[:2])}"
                    )
                return tap("K", K), tap("V", V)
        K = tap("K", self._split(self.W_K(key)))  # (batch, num_kv_heads, n_new, d_head)
        V = tap("V", self._split(self.W_V(value)))
        if self.rotary is not None:
            at = None if positions is None else positions[:, offset:]
            K = tap("K_rotated", self.rotary(K, offset, positions=at))
        return (K, V) if cache is None else cache.append(K, V)

    def _split(self, x: Tensor) -> Tensor:
        """(batch, n, heads · d_head) → (batch, heads, n, d_head)."""
        return x.reshape(*x.shape[:2], -1, self.d_head).transpose(1, 2)

    def extra_repr(self) -> str:
        return (
            f"d_model={self.d_model}, num_heads={self.num_heads}, "
            f"num_kv_heads={self.num_kv_heads}, d_head={self.d_head}, dropout={self.dropout}"
        )
