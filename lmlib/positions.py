"""Positions: attention sees a set, so where a token stands must be told to it.

Two kinds add a vector to each token (sinusoidal, learned), one rotates queries and keys
(rotary), one adds to the scores (relative bias). Positions count from 0; ``offset`` is the
position of the first row given, so that a token that follows a cache gets its own.

Sinusoids and rotations are computed when needed and not stored: they are the same for every
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
from lmlib._tap import tap


def sinusoidal_table(
    max_seq_len: int,
    d_model: int,
    base: float = 10000.0,
    *,
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
    angles = _angles(offset, max_seq_len, d_model, base, torch.empty(0, device=device).device)
    pairs = torch.stack([angles.sin(), angles.cos()], dim=-1)  # (n, ⌈d/2⌉, 2)
    table = pairs.flatten(start_dim=1)[:, :d_model]
    return table.to(torch.get_default_dtype() if dtype is None else dtype)


def _angles(offset: int, n: int, d: int, base: float, device: torch.device) -> Tensor:
    """pos · base^(−2i/d) for pos = offset … offset+n−1 and i = 0 … ⌈d/2⌉−1: (n, ⌈d/2⌉)."""
    check_not_negative("offset", offset)
    if not base > 0:
        raise ValueError(f"base must be above 0, got {base}")
    # In float32 the angle of position 5000 is off by 3e-4; Apple's mps has no float64.
    wide = torch.float32 if device.type == "mps" else torch.float64
    positions = torch.arange(offset, offset + n, device=device, dtype=wide)
    exponents = torch.arange(0, d, 2, device=device, dtype=wide) / d
    return torch.outer(positions, base**-exponents)


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
        dropout: rate at which the sum is dropped in training (ibid., §5.4).
        base: see :func:`sinusoidal_table`.
    """

    def __init__(
        self, d_model: int, max_seq_len: int = 4096, dropout: float = 0.0, base: float = 10000.0
    ) -> None:
        super().__init__(max_seq_len, d_model, dropout)
        self.base = base

    def rows(self, x: Tensor, offset: int) -> Tensor:
        return sinusoidal_table(
            x.shape[1], self.d_model, self.base, offset=offset, dtype=x.dtype, device=x.device
        )

    def rows_at(self, x: Tensor, positions: Tensor) -> Tensor:
        table = sinusoidal_table(
            self.max_seq_len, self.d_model, self.base, dtype=x.dtype, device=x.device
        )
        return F.embedding(positions.long(), table)


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
        self.d_head = d_head
        self.max_seq_len = max_seq_len
        self.base = base
        self.interleaved = interleaved

    def forward(self, x: Tensor, offset: int = 0) -> Tensor:
        """
        Args:
            x: (..., n, d_head), queries or keys.
            offset: position of its first row.

        Returns:
            x rotated, same shape and dtype.

        Raises:
            ValueError: the shape is another, or offset + n > max_seq_len.
        """
        check_tensor("x", x, "..., n, d_head", d_head=self.d_head)
        n = x.shape[-2]
        _check_reach(offset, n, self.max_seq_len)
        angles = _angles(offset, n, self.d_head, self.base, x.device)  # (n, d_head/2)
        wide = torch.promote_types(x.dtype, torch.float32)
        cos, sin = angles.cos().to(wide), angles.sin().to(wide)
        pairs = (-1, 2) if self.interleaved else (2, -1)
        axis = -1 if self.interleaved else -2
        a, b = x.to(wide).unflatten(-1, pairs).unbind(axis)  # (..., n, d_head/2) each
        rotated = torch.stack([a * cos - b * sin, a * sin + b * cos], dim=axis)
        return rotated.flatten(start_dim=-2).to(x.dtype)

    def extra_repr(self) -> str:
        return (
            f"d_head={self.d_head}, max_seq_len={self.max_seq_len}, base={self.base}, "
            f"interleaved={self.interleaved}"
        )


class RelativePositionBias(nn.Module):
    """A learned number for each head and distance, added to the scores.

    Raffel et al. 2020 (T5), §2.1: distances fall into buckets, one for each short distance,
    then wider and wider ones (logarithmically) up to max_distance, beyond which all are one.

    Args:
        num_heads: number of query heads.
        num_buckets: number of buckets, over both directions if bidirectional.
        max_distance: distances from here on share the last bucket.
        bidirectional: half of the buckets are for keys to the right of the query. If False,
            those all fall into bucket 0: a causal mask hides them.

    Attributes:
        embedding: (num_buckets, num_heads), drawn from N(0, 0.02²).

    Raises:
        ValueError: too few buckets, or max_distance within the buckets of single distances.
    """

    def __init__(
        self,
        num_heads: int,
        num_buckets: int = 32,
        max_distance: int = 128,
        bidirectional: bool = True,
    ) -> None:
        super().__init__()
        check_positive("num_heads", num_heads)
        per_direction, rest = divmod(num_buckets, 2 if bidirectional else 1)
        if rest or per_direction < 2:
            least = "an even number from 4" if bidirectional else "at least 2"
            raise ValueError(f"num_buckets must be {least}, got {num_buckets}")
        if max_distance <= per_direction // 2:
            raise ValueError(
                f"max_distance must be above {per_direction // 2}, the distances that have "
                f"a bucket of their own, got {max_distance}"
            )
        self.num_heads = num_heads
        self.num_buckets = num_buckets
        self.max_distance = max_distance
        self.bidirectional = bidirectional
        self._edges = _bucket_edges(per_direction, max_distance)
        self.embedding = nn.Embedding(num_buckets, num_heads)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.embedding.weight, std=0.02)

    def buckets(self, relative: Tensor) -> Tensor:
        """The bucket of each relative position (key's minus query's), same shape."""
        edges = torch.tensor(self._edges, device=relative.device)
        distance = relative.abs() if self.bidirectional else (-relative).clamp(min=0)
        bucket = torch.bucketize(distance, edges, right=True)
        if self.bidirectional:
            bucket = bucket + (relative > 0) * (self.num_buckets // 2)
        return bucket

    def forward(self, n_q: int, n_k: int, offset: int = 0) -> Tensor:
        """
        Args:
            n_q: number of queries, the first at position ``offset``.
            n_k: number of keys, the first at position 0.

        Returns:
            the bias, (1, num_heads, n_q, n_k).
        """
        check_positive("n_q", n_q)
        check_positive("n_k", n_k)
        check_not_negative("offset", offset)
        device = self.embedding.weight.device
        queries = torch.arange(offset, offset + n_q, device=device)
        relative = torch.arange(n_k, device=device) - queries[:, None]  # (n_q, n_k)
        bias = self.embedding(self.buckets(relative))  # (n_q, n_k, num_heads)
        return bias.permute(2, 0, 1).unsqueeze(0)

    def extra_repr(self) -> str:
        return (
            f"num_heads={self.num_heads}, num_buckets={self.num_buckets}, "
            f"max_distance={self.max_distance}, bidirectional={self.bidirectional}"
        )


def _bucket_edges(buckets: int, max_distance: int) -> list[int]:
    """The smallest distance of each bucket but the first.

    With m = ⌊buckets/2⌋ single distances, T5 puts a distance r ≥ m into bucket
    m + ⌊L · log(r/m) / log(max_distance/m)⌋, L = buckets − m. Bucket m + j so begins at the
    first r with (r/m)^L ≥ (max_distance/m)^j: whole numbers, where no logarithm rounds.
    """
    exact = buckets // 2
    steps = buckets - exact
    edges = list(range(1, exact + 1))
    r = exact
    for j in range(1, steps):
        while r**steps * exact**j < max_distance**j * exact**steps:
            r += 1
        edges.append(r)
    return edges
