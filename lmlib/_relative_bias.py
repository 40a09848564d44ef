"""A bias on the scores by distance; use it as `lmlib.positions.RelativePositionBias`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lmlib._checks import check_ids, check_not_negative, check_positive


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
        """Draw the numbers anew from N(0, 0.02²)."""
        nn.init.normal_(self.embedding.weight, std=0.02)

    def buckets(self, relative: Tensor) -> Tensor:
        """The bucket of each relative position (key's minus query's), same shape."""
        edges = torch.tensor(self._edges, device=relative.device)
        distance = relative.abs() if self.bidirectional else (-relative).clamp(min=0)
        bucket = torch.bucketize(distance, edges, right=True)
        if self.bidirectional:
            bucket = bucket + (relative > 0) * (self.num_buckets // 2)
        return bucket

    def forward(
        self, n_q: int, n_k: int, offset: int = 0, *, positions: Tensor | None = None
    ) -> Tensor:
        """
        Args:
            n_q: number of queries.
            n_k: number of keys, the first at position 0.
            offset: position of the first query.
            positions: (batch, n_k) integer, where each key stands instead; the queries are the
                last n_q of them.

        Returns:
            the bias, (1, num_heads, n_q, n_k), or with positions (batch, num_heads, n_q, n_k).
        """
        check_positive("n_q", n_q)
        check_positive("n_k", n_k)
        check_not_negative("offset", offset)
        device = self.embedding.weight.device
        if positions is not None:
            check_ids("positions", positions, "batch, n_k")
            keys = positions.to(device)
            relative = keys[:, None, :] - keys[:, -n_q:, None]  # (batch, n_q, n_k)
            return self.embedding(self.buckets(relative)).permute(0, 3, 1, 2)
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
