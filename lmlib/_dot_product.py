"""Masks and scaled dot-product attention; use them from `lmlib.attention`."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

from lmlib._checks import check_attention, check_ids, check_positive, check_probability
from lmlib._tap import tap, tapping


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
    check_reach(n_q, n_k)
    return torch.ones(n_q, n_k, dtype=torch.bool, device=device).tril(diagonal=n_k - n_q)


def check_reach(n_q: int, n_k: int) -> None:
    """The queries can be the last n_q of n_k positions."""
    if n_k < n_q:
        raise ValueError(f"n_k must be at least n_q, got n_q={n_q}, n_k={n_k}")


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
    causal: bool = False,
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
        causal: as if the mask were ``mask & causal_mask(n_q, n_k)``; without a mask and a bias
            the fused kernel then needs no n_q × n_k tensor at all.
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
    if causal:
        check_reach(query.shape[-2], key.shape[-2])
    scale = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    return attend(query, key, value, mask, causal, bias, scale, dropout_p, need_weights)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    causal: bool,
    bias: Tensor | None,
    scale: float,
    dropout_p: float,
    need_weights: bool,
) -> tuple[Tensor, Tensor | None]:
    """`scaled_dot_product_attention` of arguments that are known to fit."""
    if need_weights or tapping():
        mask = _with_causal(mask, query, key) if causal else mask
        output, weights = _plain_attention(query, key, value, mask, bias, scale, dropout_p)
        return output, weights if need_weights else None
    return _fused_attention(query, key, value, mask, causal, bias, scale, dropout_p), None


def _with_causal(mask: Tensor | None, query: Tensor, key: Tensor) -> Tensor:
    causal = causal_mask(query.shape[-2], key.shape[-2], device=query.device)
    return causal if mask is None else causal & mask


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


def _widened(mask: Tensor) -> Tensor:
    return mask.float() if mask.is_floating_point() else mask


def _no_autocast(device_type: str) -> AbstractContextManager[object]:
    if torch.amp.is_autocast_available(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()


def _fused_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    causal: bool,
    bias: Tensor | None,
    scale: float,
    dropout_p: float,
) -> Tensor:
    n_q, n_k = query.shape[-2], key.shape[-2]
    causal = causal and n_q != 1  # the last position looks at all
    is_causal = causal and mask is None and bias is None and n_q == n_k
    may_be_empty = mask is not None  # under a causal mask each query sees at least itself
    if causal and not is_causal:
        mask = _with_causal(mask, query, key)
    allowed = mask
    empty = None
    if bias is not None:
        allowed = bias.to(query.dtype)
        if mask is not None:
            allowed = allowed.masked_fill(~mask, -math.inf)
        # A bias may hold −∞ of its own.
        empty = (allowed == -math.inf).all(dim=-1, keepdim=True)
        allowed = allowed.masked_fill(empty, 0.0)
    elif mask is not None and may_be_empty:
        # What a kernel makes of a query that may look at nothing differs between kernels:
        # let it look at everything, and zero what comes out.
        empty = ~mask.any(dim=-1, keepdim=True)
        allowed = mask | empty
    if allowed is not None and allowed.dim() < 2:
        allowed = torch.atleast_2d(allowed)  # the kernels read two dimensions
    narrow = value.dtype
    context: AbstractContextManager[object] = nullcontext()
    half = narrow in (torch.bfloat16, torch.float16)
    if half and query.device.type == "cpu" and torch.is_grad_enabled():
        # On a CPU the kernel's backward pass takes five times as long in bfloat16 as in float32,
        # which is more than bfloat16 gains in all the projections around it.
        query, key, value = query.float(), key.float(), value.float()
        allowed = None if allowed is None else _widened(allowed)
        context = _no_autocast("cpu")
    with context:
        output = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=allowed,
            dropout_p=dropout_p,
            is_causal=is_causal,
            scale=scale,
            enable_gqa=query.dim() > 3 and query.shape[-3] != key.shape[-3],
        ).to(narrow)
    return output if empty is None else output.masked_fill(empty, 0.0)
