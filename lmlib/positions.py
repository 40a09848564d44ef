"""Positions: attention sees a set, so where a token stands must be told to it.

Two kinds add a vector to each token (sinusoidal, learned), one rotates queries and keys
(rotary), one adds to the scores (relative bias). Positions count from 0; ``offset`` is the
position of the first row given, so that a token that follows a cache gets its own.

Sinusoids and rotations are computed in float64 and are no buffers: they are the same for every
device and dtype, and no ``.to(torch.bfloat16)`` can round them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmlib._checks import (
    check_ids,
    check_not_negative,
    check_positive,
    check_probability,
    check_tensor,
)
from lmlib._relative_bias import RelativePositionBias
from lmlib._tap import tap

__all__ = [
    "LearnedPositionalEmbedding",
    "RelativePositionBias",
    "RotaryEmbedding",
    "SinusoidalPositionalEncoding",
    "sinusoidal_table",
]


def sinusoidal_table(
    max_seq_len: int,
    d_model: int,
    base: float = 10000.0,
    *,
    interleaved: bool = True,
    offset: int = 0,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """The sinusoids of Vaswani et al. 2017, §3.5.

    PE(pos, 2i) = sin(pos / base^(2i/d_model)), PE(pos, 2i+1) = cos(pos / base^(2i/d_model)).

    Args:
        max_seq_len: number of rows.
        d_model: number of columns; an odd one ends with a sine.
        base: the longest wave measures about 2π·base positions.
        interleaved: each sine beside its cosine, as in the paper; if False, all sines stand in
            front of all cosines, as in Marian. One is a fixed permutation of the other.
        offset: position of the first row.
        dtype, device: of the result; torch's defaults if not given.

    Returns:
        (max_seq_len, d_model).

    Raises:
        ValueError: a size below 1, a negative offset, or a base that is not above 0.

    >>> sinusoidal_table(2, 4)
    tensor([[0.0000, 1.0000, 0.0000, 1.0000],
            [0.8415, 0.5403, 0.0100, 0.9999]])
    """
    check_positive("max_seq_len", max_seq_len)
    check_positive("d_model", d_model)
    check_not_negative("offset", offset)
    _check_base(base)
    positions = torch.arange(offset, offset + max_seq_len, device=device)
    dtype = torch.get_default_dtype() if dtype is None else dtype
    return _sinusoids(positions, d_model, base, interleaved, dtype)


def _sinusoids(
    positions: Tensor, d_model: int, base: float, interleaved: bool, dtype: torch.dtype
) -> Tensor:
    """(...) integer positions → (..., d_model)."""
    angles = _angles(positions, d_model, base)
    axis = -1 if interleaved else -2
    pairs = torch.stack([angles.sin(), angles.cos()], dim=axis)  # (..., ⌈d/2⌉, 2 or swapped)
    return pairs.flatten(start_dim=-2)[..., :d_model].to(dtype)


def _angles(positions: Tensor, d: int, base: float) -> Tensor:
    """pos · base^(−2i/d) for i = 0 … ⌈d/2⌉−1: (...) integer → (..., ⌈d/2⌉)."""
    # In float32 the angle of position 5000 is off by 3e-4; Apple's mps has no float64.
    wide = torch.float32 if positions.device.type == "mps" else torch.float64
    exponents = torch.arange(0, d, 2, device=positions.device, dtype=wide) / d
    return positions.to(wide).unsqueeze(-1) * base**-exponents


def _check_base(base: float) -> None:
    if not base > 0:
        raise ValueError(f"base must be above 0, got {base}")


def _check_reach(offset: int, n: int, max_seq_len: int) -> None:
    check_not_negative("offset", offset)
    if offset + n > max_seq_len:
        raise ValueError(
            f"the sequence must end within max_seq_len={max_seq_len}, "
            f"got offset={offset} and {n} positions"
        )


class _AddedPositions(nn.Module):
    """Adds row ``offset + i`` of a table to token i."""

    def __init__(self, max_seq_len: int, d_model: int, dropout: float) -> None:
        super().__init__()
        check_positive("max_seq_len", max_seq_len)
        check_positive("d_model", d_model)
        check_probability("dropout", dropout)
        self.max_seq_len = max_seq_len
        self.d_model = d_model
        self.dropout = nn.Dropout(dropout)

    def rows(self, x: Tensor, offset: int) -> Tensor:
        """The rows to add to ``x``: (n, d_model), of its dtype and on its device."""
        raise NotImplementedError

    def rows_at(self, x: Tensor, positions: Tensor) -> Tensor:
        """The rows at ``positions``: (batch, n, d_model), of x's dtype and on its device."""
        raise NotImplementedError

    def forward(self, x: Tensor, offset: int = 0, *, positions: Tensor | None = None) -> Tensor:
        """
        Args:
            x: (batch, n, d_model).
            offset: position of its first token.
            positions: (batch, n) integer, the position of every token instead, for rows that
                do not begin together, as with padding on the left.

        Returns:
            dropout(x + positions), (batch, n, d_model).

        Raises:
            ValueError: the shape is another, or offset + n > max_seq_len.
        """
        check_tensor("x", x, "batch, n, d_model", d_model=self.d_model)
        if positions is None:
            _check_reach(offset, x.shape[1], self.max_seq_len)
            rows = self.rows(x, offset)
        else:
            check_ids("positions", positions, "batch, n", vocab_size=self.max_seq_len)
            rows = self.rows_at(x, positions)
        positional = tap("positional", rows)
        return tap("output", self.dropout(x + positional))

    def extra_repr(self) -> str:
        return f"max_seq_len={self.max_seq_len}, d_model={self.d_model}"


class SinusoidalPositionalEncoding(_AddedPositions):
    """Adds :func:`sinusoidal_table`; nothing is learned.

    Args:
        d_model: width of a token's vector.
        max_seq_len: the longest sequence to accept.
        dropout: rate at which the sum is dropped in training (Vaswani et al. 2017, §5.4).
        base, interleaved: see :func:`sinusoidal_table`.
    """

    def __init__(
        self,
        d_model: int,
        max_seq_len: int = 4096,
        dropout: float = 0.0,
        base: float = 10000.0,
        *,
        interleaved: bool = True,
    ) -> None:
        super().__init__(max_seq_len, d_model, dropout)
        self.base = base
        self.interleaved = interleaved

    def rows(self, x: Tensor, offset: int) -> Tensor:
        return sinusoidal_table(
            x.shape[1],
            self.d_model,
            self.base,
            interleaved=self.interleaved,
            offset=offset,
            dtype=x.dtype,
            device=x.device,
        )

    def rows_at(self, x: Tensor, positions: Tensor) -> Tensor:
        positions = positions.to(x.device)
        return _sinusoids(positions, self.d_model, self.base, self.interleaved, x.dtype)


class LearnedPositionalEmbedding(_AddedPositions):
    """Adds a learned vector for each position, as BERT and GPT do.

    Args:
        max_seq_len: number of vectors, and so the longest sequence.
        d_model: width of a token's vector.
        dropout: rate at which the sum is dropped in training.

    Attributes:
        weight: (max_seq_len, d_model), drawn from N(0, 0.02²).
    """

    def __init__(self, max_seq_len: int, d_model: int, dropout: float = 0.0) -> None:
        super().__init__(max_seq_len, d_model, dropout)
        self.weight = nn.Parameter(torch.empty(max_seq_len, d_model))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the vectors anew from N(0, 0.02²)."""
        nn.init.normal_(self.weight, std=0.02)

    def rows(self, x: Tensor, offset: int) -> Tensor:
        return self.weight[offset : offset + x.shape[1]]

    def rows_at(self, x: Tensor, positions: Tensor) -> Tensor:
        return F.embedding(positions.long(), self.weight)


class RotaryEmbedding(nn.Module):
    """Rotates pairs of coordinates by an angle that grows with the position.

    Su et al. 2021 (RoFormer), eq. 34: pair i of position m turns by m·base^(−2i/d_head). The
    dot product of a rotated query and key then depends on the distance of the two alone.

    Args:
        d_head: width of a head, even.
        max_seq_len: the longest sequence to accept.
        base: as for the sinusoids, whose frequencies these are.
        interleaved: which coordinates are a pair. False: (i, i + d_head/2), the halves, as in
            Llama and GPT-NeoX. True: (2i, 2i+1), neighbours, as in the paper and GPT-J.
            The two are equal up to one fixed permutation of the coordinates.

    Raises:
        ValueError: d_head is odd.
    """

    def __init__(
        self,
        d_head: int,
        max_seq_len: int = 4096,
        base: float = 10000.0,
        *,
        interleaved: bool = False,
    ) -> None:
        super().__init__()
        check_positive("d_head", d_head)
        check_positive("max_seq_len", max_seq_len)
        if d_head % 2:
            raise ValueError(f"d_head must be even, for coordinates turn in pairs, got {d_head}")
        _check_base(base)
        self.d_head = d_head
        self.max_seq_len = max_seq_len
        self.base = base
        self.interleaved = interleaved
        self._table: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor, offset: int = 0, *, positions: Tensor | None = None) -> Tensor:
        """
        Args:
            x: (..., n, d_head), queries or keys.
            offset: position of its first row.
            positions: (batch, n) integer, the position of every row instead; x is then
                (batch, num_heads, n, d_head).

        Returns:
            x rotated, same shape and dtype.

        Raises:
            ValueError: the shape is another, or offset + n > max_seq_len.
        """
        check_tensor("x", x, "..., n, d_head", d_head=self.d_head)
        if positions is None:
            return self.rotate(x, *self.cos_sin(x, offset, x.shape[-2]))
        check_tensor("x", x, "batch, num_heads, n, d_head")
        check_ids("positions", positions, "batch, n", vocab_size=self.max_seq_len)
        wide = torch.promote_types(x.dtype, torch.float32)
        angles = _angles(positions.to(x.device), self.d_head, self.base).unsqueeze(1)
        # (batch, 1, n, d_head/2)
        return self.rotate(x, angles.cos().to(wide), angles.sin().to(wide))

    def cos_sin(self, like: Tensor, offset: int, n: int) -> tuple[Tensor, Tensor]:
        """What turns the positions from ``offset`` on.

        Args:
            like: (...) any tensor of the dtype and device of what will be rotated.
            offset: the first position.
            n: how many.

        Returns:
            cosines and sines, (n, d_head/2) each, of at least float32.

        Raises:
            ValueError: offset + n > max_seq_len.
        """
        _check_reach(offset, n, self.max_seq_len)
        wide = torch.promote_types(like.dtype, torch.float32)
        cos, sin = self._cos_sin(offset + n, wide, like.device)
        return cos[offset : offset + n], sin[offset : offset + n]

    def rotate(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Turn each pair (a, b) of x into (a cos − b sin, a sin + b cos).

        Args:
            x: (..., n, d_head).
            cos, sin: broadcastable to (..., n, d_head/2), see `cos_sin`.

        Returns:
            x rotated, same shape and dtype.
        """
        pairs = (-1, 2) if self.interleaved else (2, -1)
        axis = -1 if self.interleaved else -2
        a, b = x.to(cos.dtype).unflatten(-1, pairs).unbind(axis)  # (..., n, d_head/2) each
        rotated = torch.stack([a * cos - b * sin, a * sin + b * cos], dim=axis)
        return rotated.flatten(start_dim=-2).to(x.dtype)

    def _cos_sin(self, end: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
        """Cosines and sines of the positions from 0 to at least ``end``: (≥ end, d_head/2) each.

        They are kept for the next call, and for the other layers that share this module.
        """
        kept = self._table
        compiling = torch.compiler.is_compiling()
        fits = kept is not None and len(kept[0]) >= end
        if (
            kept is None
            or compiling
            or not fits
            or (kept[0].dtype, kept[0].device) != (dtype, device)
        ):
            rows = end if compiling else min(2 * end, self.max_seq_len)
            # Outside of torch.inference_mode, for training may use them later.
            with torch.inference_mode(False):
                angles = _angles(torch.arange(rows, device=device), self.d_head, self.base)
                kept = angles.cos().to(dtype), angles.sin().to(dtype)
            if type(kept[0]) is Tensor and not compiling:  # and not what a fake mode made
                self._table = kept
        return kept

    def extra_repr(self) -> str:
        return (
            f"d_head={self.d_head}, max_seq_len={self.max_seq_len}, base={self.base}, "
            f"interleaved={self.interleaved}"
        )
