"""The key/value cache of generation; use it as ``lmlib.attention.KVCache``."""

from __future__ import annotations

import torch
from torch import Tensor

from lmlib._checks import check_ids, check_not_negative, check_tensor

MIN_SPARE = 32


class KVCache:
    """Keys and values of the positions already seen, so that they are computed once.

    One cache serves one attention layer. Generation appends to it token by token; beam
    search reorders it; speculative decoding crops it.

    Without gradients (``torch.no_grad``, ``torch.inference_mode``) the tensors are kept in
    buffers with room to spare, so that a new position is written and the old ones stay where
    they are. With gradients each step makes new tensors, for autograd needs the old ones.

    Args:
        static: for cross-attention. The memory's keys and values are stored at the first
            call and reused at every later one.
    """

    def __init__(self, *, static: bool = False) -> None:
        self.static = static
        self._length = 0
        # (batch, num_kv_heads, capacity, d_head), of which the first `length` are filled.
        self._keys: Tensor | None = None
        self._values: Tensor | None = None

    @property
    def length(self) -> int:
        """Number of positions stored."""
        return self._length

    @property
    def key(self) -> Tensor | None:
        """All keys, (batch, num_kv_heads, length, d_head), or None while empty."""
        return None if self._keys is None else self._keys[:, :, : self._length]

    @property
    def value(self) -> Tensor | None:
        """All values, (batch, num_kv_heads, length, d_head), or None while empty."""
        return None if self._values is None else self._values[:, :, : self._length]

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add new positions at the end.

        Args:
            key, value: (batch, num_kv_heads, n_new, d_head).

        Returns:
            all keys and all values so far, (batch, num_kv_heads, length, d_head). What was
            returned is never written to again.

        Raises:
            ValueError: batch, heads, width, dtype or device differ from what is stored, or
                the cache is static and already filled.
        """
        if self._keys is None or self._values is None:
            _check_pair(key, value)
            self._keys, self._values, self._length = key, value, key.shape[-2]
            return key, value
        if self.static:
            raise ValueError("a static cache is filled once, and this one already is")
        if not (_continues(key, self._keys) and _continues(value, self._values)) or (
            key.shape[2] != value.shape[2]
        ):
            _check_pair(key, value)
            for name, new, old in (("key", key, self._keys), ("value", value, self._values)):
                if not _continues(new, old):
                    raise ValueError(
                        f"{name} must continue the cached {_shape(old, self._length)} {old.dtype} "
                        f"on {old.device}, got {tuple(new.shape)} {new.dtype} on {new.device}"
                    )
        return self.append_fitting(key, value)

    def append_fitting(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """`append` to a growing cache that is not empty, of what is known to fit: no check."""
        assert self._keys is not None
        assert self._values is not None
        old_length, self._length = self._length, self._length + key.shape[-2]
        self._keys = _extended(self._keys, old_length, key)
        self._values = _extended(self._values, old_length, value)
        return self._keys.narrow(2, 0, self._length), self._values.narrow(2, 0, self._length)

    def crop(self, length: int) -> None:
        """Forget all but the first ``length`` positions.

        Raises:
            ValueError: more than are stored, or the cache is static.
        """
        check_not_negative("length", length)
        if self.static:
            raise ValueError("a static cache holds the whole memory and cannot be cropped")
        if length > self._length:
            raise ValueError(f"length must be at most the {self._length} stored, got {length}")
        if self._keys is not None and self._values is not None and length < self._length:
            # No room to spare: others may look at what stood behind, so it is not written over.
            self._keys = self._keys[:, :, :length] if length else None
            self._values = self._values[:, :, :length] if length else None
            self._length = length

    def reorder(self, indices: Tensor) -> None:
        """Let row i continue row ``indices[i]``; rows may repeat, vanish or grow in number.

        Args:
            indices: (new_batch,) integer, each in [0, batch).
        """
        batch = None if self._keys is None else self._keys.shape[0]
        check_ids("indices", indices, "new_batch", vocab_size=batch)
        if self._keys is not None and self._values is not None:
            self._keys = self._keys.index_select(0, indices)
            self._values = self._values.index_select(0, indices)

    def __copy__(self) -> KVCache:
        """A cache that goes on by itself from here: neither writes where the other does."""
        twin = KVCache(static=self.static)
        twin._keys, twin._values, twin._length = self.key, self.value, self._length
        return twin

    def __repr__(self) -> str:
        return f"KVCache(length={self.length}, static={self.static})"


def _check_pair(key: Tensor, value: Tensor) -> None:
    check_tensor("key", key, "batch, num_kv_heads, n_new, d_head")
    check_tensor("value", value, "batch, num_kv_heads, n_new, d_head", n_new=key.shape[-2])


def _continues(new: Tensor, old: Tensor) -> bool:
    """Does ``new`` differ from ``old`` in nothing but its number of positions?"""
    return (
        isinstance(new, Tensor)
        and new.dim() == 4
        and new.shape[:2] == old.shape[:2]
        and new.shape[3] == old.shape[3]
        and new.dtype == old.dtype
        and new.device == old.device
    )


def _shape(buffer: Tensor, length: int) -> tuple[int, ...]:
    return (*buffer.shape[:2], length, buffer.shape[-1])


def _extended(buffer: Tensor, length: int, new: Tensor) -> Tensor:
    """A buffer of which the first ``length`` positions are as before and ``new`` follows."""
    # What autograd keeps may not be written to, nor may what torch.inference_mode made, outside
    # of it; and a compiled graph would be one for each capacity.
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return torch.cat([buffer.narrow(2, 0, length), new], dim=2)
    end = length + new.shape[-2]
    foreign = buffer.is_inference() and not torch.is_inference_mode_enabled()
    if end > buffer.shape[-2] or foreign:
        filled = buffer.narrow(2, 0, length)
        capacity = end + max(end // 2, MIN_SPARE)
        buffer = filled.new_empty(*filled.shape[:2], capacity, filled.shape[-1])
        buffer.narrow(2, 0, length).copy_(filled)
    buffer.narrow(2, length, new.shape[2]).copy_(new)
    return buffer
