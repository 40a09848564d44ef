"""The key/value cache of generation; use it as ``lmlib.attention.KVCache``."""

from __future__ import annotations

import torch
from torch import Tensor

from lmlib._checks import check_ids, check_not_negative, check_tensor


class KVCache:
    """Keys and values of the positions already seen, so that they are computed once.

    One cache serves one attention layer. Generation appends to it token by token; beam
    search reorders it; speculative decoding crops it.

    Args:
        static: for cross-attention. The memory's keys and values are stored at the first
            call and reused at every later one.

    Attributes:
        key, value: (batch, num_kv_heads, length, d_head), or None while empty.
    """

    def __init__(self, *, static: bool = False) -> None:
        self.static = static
        self.key: Tensor | None = None
        self.value: Tensor | None = None

    @property
    def length(self) -> int:
        """Number of positions stored."""
        return 0 if self.key is None else self.key.shape[-2]

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add new positions at the end.

        Args:
            key, value: (batch, num_kv_heads, n_new, d_head).

        Returns:
            all keys and all values so far, (batch, num_kv_heads, length, d_head).

        Raises:
            ValueError: batch, heads, width, dtype or device differ from what is stored, or
                the cache is static and already filled.
        """
        check_tensor("key", key, "batch, num_kv_heads, n_new, d_head")
        check_tensor("value", value, "batch, num_kv_heads, n_new, d_head", n_new=key.shape[-2])
        if self.key is None or self.value is None:
            self.key, self.value = key, value
            return key, value
        if self.static:
            raise ValueError("a static cache is filled once, and this one already is")
        for name, new, old in (("key", key, self.key), ("value", value, self.value)):
            fits = new.shape[:2] == old.shape[:2] and new.shape[-1] == old.shape[-1]
            if not fits or new.dtype != old.dtype or new.device != old.device:
                raise ValueError(
                    f"{name} must continue the cached {tuple(old.shape)} {old.dtype} on "
                    f"{old.device}, got {tuple(new.shape)} {new.dtype} on {new.device}"
                )
        self.key = torch.cat([self.key, key], dim=-2)
        self.value = torch.cat([self.value, value], dim=-2)
        return self.key, self.value

    def crop(self, length: int) -> None:
        """Forget all but the first ``length`` positions.

        Raises:
            ValueError: more than are stored, or the cache is static.
        """
        check_not_negative("length", length)
        if self.static:
            raise ValueError("a static cache holds the whole memory and cannot be cropped")
        if length > self.length:
            raise ValueError(f"length must be at most the {self.length} stored, got {length}")
        if self.key is not None and self.value is not None:
            self.key = self.key[:, :, :length] if length else None
            self.value = self.value[:, :, :length] if length else None

    def reorder(self, indices: Tensor) -> None:
        """Let row i continue row ``indices[i]``; rows may repeat, vanish or grow in number.

        Args:
            indices: (new_batch,) integer, each in [0, batch).
        """
        batch = None if self.key is None else self.key.shape[0]
        check_ids("indices", indices, "new_batch", vocab_size=batch)
        if self.key is not None and self.value is not None:
            self.key = self.key.index_select(0, indices)
            self.value = self.value.index_select(0, indices)

    def __repr__(self) -> str:
        return f"KVCache(length={self.length}, static={self.static})"
