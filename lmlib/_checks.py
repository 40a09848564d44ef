"""Argument checks: bad input is met at the door, with one sentence that names it.

Every check returns nothing and raises ``ValueError`` (a bad value) or ``TypeError`` (a bad
type). Only shapes, dtypes and devices are looked at, never values on an accelerator: a check
costs no synchronisation and works under the ``meta`` device.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import torch
from torch import Tensor

INTEGER_DTYPES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def _check_int(name: str, value: int) -> None:
    # A size is a SymInt while torch.export looks at a model with dynamic shapes.
    if isinstance(value, bool) or not isinstance(value, (int, torch.SymInt)):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}")


def check_positive(name: str, value: int) -> None:
    """``value`` is an int ≥ 1."""
    _check_int(name, value)
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")


def check_not_negative(name: str, value: int) -> None:
    """``value`` is an int ≥ 0."""
    _check_int(name, value)
    if value < 0:
        raise ValueError(f"{name} must not be negative, got {value}")


def check_probability(name: str, value: float) -> None:
    """``value`` is a rate of dropping, 0 ≤ value < 1."""
    if not 0.0 <= value < 1.0:
        raise ValueError(f"{name} must be at least 0 and below 1, got {value}")


def check_choice(name: str, value: object, allowed: Iterable[object]) -> None:
    """``value`` is one of ``allowed``."""
    allowed = list(allowed)
    if value not in allowed:
        raise ValueError(f"{name} must be one of {allowed}, got {value!r}")


def check_divisible(name: str, value: int, by_name: str, by: int) -> None:
    """``value`` is a multiple of ``by``."""
    if value % by:
        raise ValueError(
            f"{name} must be divisible by {by_name}, got {name}={value}, {by_name}={by}"
        )


def check_tensor(name: str, tensor: Tensor, dims: str, **sizes: int) -> None:
    """``tensor`` is floating-point and has the named dimensions.

    Args:
        dims: names of the dimensions, e.g. ``"batch, n, d_model"``; ``...`` in front stands
            for any number of leading ones.
        sizes: what some of them must measure, e.g. ``d_model=512``.
    """
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(tensor).__name__}")
    # Parsed once; torch.compile looks through a cache, and says so in a warning.
    parse = _parse_dims if torch.compiler.is_compiling() else _parse_dims_once
    names, leading = parse(dims)
    shape = tensor.shape
    if len(shape) < len(names) or (not leading and len(shape) != len(names)):
        raise ValueError(f"{name} must have shape ({dims}), got {tuple(shape)}")
    for dim, size in sizes.items():
        if shape[names[dim]] != size:
            raise ValueError(
                f"{name} must have shape ({dims}) with {dim}={size}, got {tuple(shape)}"
            )
    if not tensor.is_floating_point():
        raise TypeError(f"{name} must be a floating-point tensor, got {tensor.dtype}")


def _parse_dims(dims: str) -> tuple[dict[str, int], bool]:
    """The place of each name, counted from the end; and does "..." stand in front?"""
    names = [part.strip() for part in dims.split(",")]
    leading = names[0] == "..."
    return {name: i for i, name in enumerate(names[leading:], leading - len(names))}, leading


_parse_dims_once = cache(_parse_dims)


def check_ids(
    name: str, ids: Tensor, dims: str = "batch, n", vocab_size: int | None = None
) -> None:
    """``ids`` is an integer tensor of the named dimensions, each id in [0, vocab_size).

    The range is looked at only where it costs nothing: on the CPU, outside ``torch.compile``.
    """
    if not isinstance(ids, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor of token ids, got {type(ids).__name__}")
    if ids.dtype not in INTEGER_DTYPES:
        raise TypeError(f"{name} must hold integer token ids, got {ids.dtype}")
    if ids.dim() != len(dims.split(",")):
        raise ValueError(f"{name} must have shape ({dims}), got {tuple(ids.shape)}")
    if vocab_size is None or ids.device.type != "cpu" or torch.compiler.is_compiling():
        return
    if ids.numel():
        low, high = (int(bound) for bound in ids.aminmax())
        if low < 0 or high >= vocab_size:
            wrong = low if low < 0 else high
            raise ValueError(f"{name} must hold ids from 0 to {vocab_size - 1}, got {wrong}")


def check_mask(name: str, mask: Tensor, shape: tuple[int, ...], device: torch.device) -> None:
    """``mask`` is boolean, lies on ``device`` and broadcasts to ``shape``."""
    if not isinstance(mask, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(mask).__name__}")
    if mask.dtype != torch.bool:
        raise TypeError(f"{name} must be boolean (True = may look at), got {mask.dtype}")
    check_broadcast(name, mask, shape, device)


def check_broadcast(
    name: str, tensor: Tensor, shape: tuple[int, ...], device: torch.device
) -> None:
    """``tensor`` lies on ``device`` and broadcasts to ``shape``."""
    sizes = tuple(tensor.shape)
    # Of one length: torch.compile of torch 2.6 takes no other zip.
    fits = len(sizes) <= len(shape) and all(
        size in (1, wanted)
        for size, wanted in zip(sizes, shape[len(shape) - len(sizes) :], strict=True)
    )
    if not fits:
        raise ValueError(f"{name} must be broadcastable to {shape}, got {sizes}")
    if tensor.device != device:
        raise ValueError(f"{name} must be on {device} like the rest, got {tensor.device}")


def check_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, bias: Tensor | None
) -> None:
    """The arguments of scaled dot-product attention fit each other."""
    check_tensor("query", query, "..., n_q, d_k")
    check_tensor("key", key, "..., n_k, d_k", d_k=query.shape[-1])
    check_tensor("value", value, "..., n_k, d_v", n_k=key.shape[-2])
    for name, tensor in (("key", key), ("value", value)):
        if tensor.dtype != query.dtype or tensor.device != query.device:
            raise ValueError(
                f"{name} must be {query.dtype} on {query.device} like the query, "
                f"got {tensor.dtype} on {tensor.device}"
            )
    leading = query.shape[:-2]
    if key.shape[:-2] != value.shape[:-2]:
        raise ValueError(
            "key and value must have the same leading dimensions, "
            f"got {tuple(key.shape)} and {tuple(value.shape)}"
        )
    if len(leading) < 2 and key.shape[:-2] != leading:
        raise ValueError(
            "query and key must have the same leading dimensions, "
            f"got {tuple(query.shape)} and {tuple(key.shape)}"
        )
    if len(leading) >= 2:
        if key.shape[:-3] != leading[:-1]:
            raise ValueError(
                "query and key must have the same batch dimensions, "
                f"got {tuple(query.shape)} and {tuple(key.shape)}"
            )
        check_divisible("num_heads", leading[-1], "num_kv_heads", key.shape[-3])
    shape = (*leading, query.shape[-2], key.shape[-2])
    if mask is not None:
        check_mask("mask", mask, shape, query.device)
    if bias is not None:
        check_tensor("bias", bias, "...")
        check_broadcast("bias", bias, shape, query.device)


def check_token_mask(name: str, mask: Tensor, token_ids: Tensor) -> None:
    """``mask`` is boolean, has the shape of ``token_ids`` and lies beside them."""
    if not isinstance(mask, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(mask).__name__}")
    if mask.dtype != torch.bool:
        raise TypeError(f"{name} must be boolean (True = no padding), got {mask.dtype}")
    check_like_ids(name, mask, token_ids)


def check_like_ids(name: str, tensor: Tensor, token_ids: Tensor) -> None:
    """``tensor`` has the shape and the device of ``token_ids``."""
    if tensor.shape != token_ids.shape:
        raise ValueError(
            f"{name} must have the shape of token_ids, {tuple(token_ids.shape)}, "
            f"got {tuple(tensor.shape)}"
        )
    if tensor.device != token_ids.device:
        raise ValueError(
            f"{name} must be on {token_ids.device} like token_ids, got {tensor.device}"
        )


def check_special_id(name: str, token_id: int, vocab_size: int) -> None:
    """``token_id`` is an int, and a token of the vocabulary."""
    _check_int(name, token_id)
    if not 0 <= token_id < vocab_size:
        raise ValueError(
            f"{name} must be below vocab_size={vocab_size} and not negative, got {token_id}"
        )
