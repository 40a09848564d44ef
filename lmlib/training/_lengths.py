"""Batches of examples of about the same length; use them as `lmlib.training.LengthBatches`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lmlib._checks import check_positive
from lmlib.training._data import Batches, Collate, epoch_order
from lmlib.training._random import derived_seed

__all__ = ["LengthBatches"]


class LengthBatches(Batches):
    """`Batches` for texts of many lengths: neighbours in length go together, so little is padded.

    In each epoch the examples are put in a new order, then sorted by length (what is equally long
    stays in that order) and cut into batches of at most ``batch_tokens`` tokens, padding counted.
    The batches are then taken in a random order of their own.

    Args:
        dataset: anything with a length and integer indices.
        batch_tokens: examples in a batch times the length of the longest is at most this, and
            every batch holds one example at least.
        length: of an example; ``len`` if not given.
        seed: of both orders.
        collate: from a list of examples, which differ in length, to a batch; see `Batches`.
        rank, world_size: see `Batches`.

    Raises:
        TypeError, ValueError: an empty data set, or a value that is not allowed.

    >>> texts = [torch.ones(n) for n in (2, 5, 2, 5, 2)]
    >>> batches = LengthBatches(texts, batch_tokens=10)
    >>> sorted(tuple(batch.shape) for batch in batches)
    [(2, 5), (3, 2)]
    """

    def __init__(
        self,
        dataset: Any,
        batch_tokens: int,
        *,
        length: Callable[[Any], int] = len,
        seed: int = 0,
        collate: Collate | None = None,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        check_positive("batch_tokens", batch_tokens)
        # batch_size = 1: the base class has no say in how many examples a batch holds.
        super().__init__(dataset, 1, seed=seed, collate=collate, rank=rank, world_size=world_size)
        self.batch_tokens = batch_tokens
        self.lengths = torch.tensor([length(dataset[i]) for i in range(len(dataset))])
        # Where one batch ends and the next begins, in the order of length: the same each epoch.
        self._cuts = [0]
        for i, longest in enumerate(self.lengths.sort().values.tolist()):
            if i > self._cuts[-1] and (i + 1 - self._cuts[-1]) * longest > batch_tokens:
                self._cuts.append(i)
        self._cuts.append(len(dataset))
        self._sorted: tuple[int, Tensor, Tensor] | None = None

    def __len__(self) -> int:
        return len(self._cuts) - 1

    def indices(self, number: int) -> list[int]:
        """Which examples make batch ``number``, on all processes together."""
        epoch, position = divmod(number, len(self))
        if self._sorted is None or self._sorted[0] != epoch:
            order = epoch_order(len(self.dataset), self.seed, epoch)
            by_length = order[self.lengths[order].argsort(stable=True)]
            seed = derived_seed("batches", self.seed, epoch)
            self._sorted = (epoch, by_length, epoch_order(len(self), seed, epoch))
        _, by_length, turns = self._sorted
        which = int(turns[position])
        return by_length[self._cuts[which] : self._cuts[which + 1]].tolist()

    def fingerprint(self) -> dict[str, Any]:
        """What a checkpoint notes of the data, to know them again."""
        return {
            "examples": len(self.dataset),
            "batch_tokens": self.batch_tokens,
            "tokens": int(self.lengths.sum()),
            "seed": self.seed,
        }
