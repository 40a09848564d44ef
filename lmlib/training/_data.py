"""Batches that are a function of their number, so that a run can go on anywhere; see `Batches`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from lmlib._checks import check_not_negative, check_positive
from lmlib.training._random import derived_seed, process

Collate = Callable[..., Any]


def epoch_order(n: int, seed: int, epoch: int) -> Tensor:
    """The order in which one epoch goes through a data set: (n,) integers, a permutation.

    A function of its arguments alone: nothing needs to be remembered to know it again.

    Args:
        n: size of the data set.
        seed: another seed, other orders.
        epoch: from 0; each has an order of its own.

    Raises:
        TypeError, ValueError: a value is not allowed.
    """
    check_positive("n", n)
    check_not_negative("epoch", epoch)
    generator = torch.Generator().manual_seed(derived_seed("order", seed, epoch))
    return torch.randperm(n, generator=generator)


class Batches:
    """A data set cut into batches, epoch after epoch; batch number i is ``batches(i)``.

    Batch i depends on i and nothing else, so a resumed run goes on at once where it was, without
    going through what it has already read. Under several processes each call gives this
    process's share of the same batch.

    >>> batches = Batches([torch.tensor([i]) for i in range(5)], 2, shuffle=False)
    >>> [batches(i).flatten().tolist() for i in range(4)]
    [[0, 1], [2, 3], [4], [0, 1]]

    ``len(batches)`` counts the batches of an epoch; iteration goes through the first epoch.

    Args:
        dataset: anything with a length and integer indices.
        batch_size: examples in a batch, of all processes together.
        shuffle: go through each epoch in the order `epoch_order` gives.
        seed: of that order.
        drop_last: leave out the last examples of an epoch where they fill no batch.
        collate: from a list of examples to a batch; `stack` if not given. If it has a parameter
            ``generator`` it gets a seeded one, for masks and other chance: then every
            process makes the whole batch and takes its share of it (see `split_batch`), so that
            the draws are those of one process.
        rank: this process among ``world_size``; both as torchrun says if not given.
        world_size: number of processes.

    Raises:
        TypeError, ValueError: an empty data set, or a value that is not allowed.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        collate: Collate | None = None,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise TypeError(
                "dataset must have a length and integer indices, like a list or a tensor, "
                f"got {type(dataset).__name__}"
            )
        if len(dataset) == 0:
            raise ValueError("dataset must have at least one example, got none")
        check_positive("batch_size", batch_size)
        check_not_negative("seed", seed)
        if drop_last and len(dataset) < batch_size:
            raise ValueError(
                f"batch_size must be at most the {len(dataset)} examples of dataset with "
                f"drop_last=True, got {batch_size}"
            )
        if (rank is None) != (world_size is None):
            raise ValueError("give both rank and world_size, or neither")
        if rank is not None and world_size is not None:
            check_positive("world_size", world_size)
            check_not_negative("rank", rank)
            if rank >= world_size:
                raise ValueError(f"rank must be below world_size={world_size}, got {rank}")
        self.dataset, self.batch_size, self.drop_last = dataset, batch_size, drop_last
        self.shuffle, self.seed = shuffle, seed
        self.collate: Collate = stack if collate is None else collate
        self._needs_generator = has_parameter(self.collate, "generator")
        self._process = None if rank is None or world_size is None else (rank, world_size)
        self._order: tuple[int, Tensor] | None = None

    def __len__(self) -> int:
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full if self.drop_last or not rest else full + 1

    def __iter__(self) -> Iterator[Any]:
        return (self(number) for number in range(len(self)))

    def __call__(self, number: int) -> Any:
        """Batch ``number``, from 0 and without end; None if this process has no part in it.

        Raises:
            TypeError, ValueError: the number is negative or no integer.
        """
        return self.share(number, *(self._process or process()))

    def share(self, number: int, rank: int, world_size: int) -> Any:
        """What process ``rank`` of ``world_size`` gets of batch ``number``; None for nothing."""
        check_not_negative("number", number)
        indices = self.indices(number)
        if not self._needs_generator:
            mine = indices[rank::world_size]
            return self.collate([self.dataset[i] for i in mine]) if mine else None
        generator = torch.Generator().manual_seed(derived_seed("collate", self.seed, number))
        batch = self.collate([self.dataset[i] for i in indices], generator=generator)
        return split_batch(batch, rank, world_size)

    def indices(self, number: int) -> list[int]:
        """Which examples make batch ``number``, on all processes together."""
        epoch, position = divmod(number, len(self))
        first = position * self.batch_size
        last = min(first + self.batch_size, len(self.dataset))
        if not self.shuffle:
            return list(range(first, last))
        if self._order is None or self._order[0] != epoch:
            self._order = (epoch, epoch_order(len(self.dataset), self.seed, epoch))
        return self._order[1][first:last].tolist()

    def fingerprint(self) -> dict[str, Any]:
        """What a checkpoint notes of the data, to know them again."""
        return {
            "examples": len(self.dataset),
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "seed": self.seed,
            "drop_last": self.drop_last,
        }


def stack(examples: Sequence[Any]) -> Any:
    """Examples of one shape as one batch: tensors are stacked, tuples and dicts part by part.

    Numbers become a tensor. It is how a batch is made where no ``collate`` is given.

    Raises:
        TypeError, ValueError: examples of another kind, or of different shapes.
    """
    first = examples[0]
    if isinstance(first, Tensor):
        shapes = sorted({tuple(example.shape) for example in examples})
        if len(shapes) > 1:
            raise ValueError(
                f"examples of a batch must have one shape, got {shapes[0]} and {shapes[1]}: "
                "give a collate function that pads them"
            )
        return torch.stack(list(examples))
    if isinstance(first, (bool, int, float)):
        return torch.tensor(examples)
    if isinstance(first, Mapping):
        return {key: stack([example[key] for example in examples]) for key in first}
    if isinstance(first, (tuple, list)):
        parts = [stack(part) for part in zip(*examples, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else tuple(parts)
    raise TypeError(
        "examples must be tensors, numbers, tuples or dicts of them, or a collate function be "
        f"given; got {type(first).__name__}"
    )


def split_batch(batch: Any, rank: int, world_size: int) -> Any:
    """One process's share of a batch: of every tensor the rows rank, rank + world_size, …

    Args:
        batch: a tensor, or tuples, lists, dicts and dataclasses of tensors, all with as many rows.
        rank: which process.
        world_size: of how many.

    Returns:
        The same structure, or None where there are fewer rows than processes and none is left.

    Raises:
        ValueError: the tensors have different numbers of rows, or there is none to split.
    """
    if world_size == 1:
        return batch
    shapes: list[tuple[int, ...]] = []

    def note(tensor: Tensor) -> Tensor:
        shapes.append(tuple(tensor.shape))
        return tensor

    _map_tensors(batch, note)
    if () in shapes or len({shape[0] for shape in shapes}) != 1:
        raise ValueError(
            "under several processes the tensors of a batch must all have one number of rows, "
            f"to be shared out, got shapes {shapes}: use Batches, which shares out examples"
        )
    if rank >= shapes[0][0]:
        return None
    return _map_tensors(batch, lambda tensor: tensor[rank::world_size])


def to_device(batch: Any, device: torch.device) -> Any:
    """The batch with every tensor on ``device``; tuples, lists, dicts and dataclasses stay so."""
    return _map_tensors(batch, lambda tensor: tensor.to(device, non_blocking=True))


def _map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _map_tensors(part, change) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        parts = [_map_tensors(part, change) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if is_dataclass(value) and not isinstance(value, type):
        parts_by_name = {f.name: getattr(value, f.name) for f in fields(value) if f.init}
        return type(value)(**{k: _map_tensors(v, change) for k, v in parts_by_name.items()})
    return value


def has_parameter(function: Callable[..., Any], name: str) -> bool:
    try:
        return name in inspect.signature(function).parameters
    except (TypeError, ValueError):  # some builtins have no signature
        return False


class BatchSource:
    """What `train` was given as batches, brought into one form.

    Args:
        batches: `Batches`; or a function of the batch's number; or a sequence of ready batches,
            which are taken in turn. What the last two give is the batch of all processes
            together, and is shared out by `split_batch`.

    Raises:
        TypeError, ValueError: something else, or an empty sequence.
    """

    def __init__(self, batches: Any) -> None:
        self._batches = batches
        self.length: int | None = None
        is_sequence = hasattr(batches, "__len__") and hasattr(batches, "__getitem__")
        if isinstance(batches, Batches) or is_sequence:
            self.length = len(batches)
            if not self.length:
                raise ValueError("batches must hold at least one batch, got none")
        elif not callable(batches):
            raise TypeError(
                "batches must be Batches, a function from a number to a batch, or a sequence of "
                f"batches, got {type(batches).__name__}"
            )

    def __call__(self, number: int) -> tuple[Any, bool]:
        """This process's share of batch ``number``, and whether it counts.

        Where there are fewer examples than processes, those left over get the share of the first,
        which does not count: they must go through the motions for gradients to be averaged.
        """
        rank, world_size = process()
        if isinstance(self._batches, Batches):
            batch = self._batches(number)
            if batch is None:
                return self._batches.share(number, 0, world_size), False
            return batch, True
        if self.length is None:
            whole = self._batches(number)
        else:
            whole = self._batches[number % self.length]
        share = split_batch(whole, rank, world_size)
        return (split_batch(whole, 0, world_size), False) if share is None else (share, True)

    def fingerprint(self) -> dict[str, Any]:
        """What a checkpoint notes of the data, to know them again."""
        if isinstance(self._batches, Batches):
            return self._batches.fingerprint()
        return {"batches": self.length}
