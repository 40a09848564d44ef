"""Batches: a function of their number, shared out, every example once an epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lmlib.training import (
    Batches,
    epoch_order,
    split_batch,
    stack,
)

# ------------------------------------------------------------------ batches


@settings(max_examples=50, deadline=None)
@given(
    n=st.integers(1, 30),
    batch_size=st.integers(1, 8),
    seed=st.integers(0, 5),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    world_size=st.integers(1, 3),
)
def test_an_epoch_is_every_example_once(
    n: int, batch_size: int, seed: int, shuffle: bool, drop_last: bool, world_size: int
) -> None:
    if drop_last and n < batch_size:
        return
    options: dict[str, Any] = {"shuffle": shuffle, "seed": seed, "drop_last": drop_last}
    whole = Batches(range(n), batch_size, **options)
    shares = [
        Batches(range(n), batch_size, rank=rank, world_size=world_size, **options)
        for rank in range(world_size)
    ]
    assert len(whole) == (n // batch_size if drop_last else -(-n // batch_size))
    for epoch in (0, 3):
        seen: list[int] = []
        for position in range(len(whole)):
            number = epoch * len(whole) + position
            batch = whole(number).tolist()
            parts = [share(number) for share in shares]
            together = [i for part in parts if part is not None for i in part.tolist()]
            assert sorted(together) == sorted(batch)
            assert max(len(p) if p is not None else 0 for p in parts) <= -(
                -len(batch) // world_size
            )
            seen += batch
        assert len(set(seen)) == len(seen) == min(n, len(whole) * batch_size)
        if not shuffle:
            assert seen == sorted(seen)


def test_orders_differ_by_seed_and_epoch_and_by_nothing_else() -> None:
    orders = {(s, e): tuple(epoch_order(50, s, e).tolist()) for s in range(4) for e in range(4)}
    assert len(set(orders.values())) == 16
    assert all(sorted(order) == list(range(50)) for order in orders.values())
    torch.manual_seed(5)
    assert tuple(epoch_order(50, 2, 3).tolist()) == orders[2, 3]
    # Written down, for a run that is resumed by another version must go on in the same order.
    assert epoch_order(8, 0, 0).tolist() == [0, 3, 2, 5, 4, 7, 6, 1]


def test_batches_may_be_asked_for_in_any_order() -> None:
    batches = Batches(range(23), 4, seed=1)
    forwards = [batches(i).tolist() for i in range(30)]
    assert [batches(i).tolist() for i in reversed(range(30))] == forwards[::-1]
    assert [b.tolist() for b in batches] == forwards[:6]


def noisy(examples: list[int], generator: torch.Generator) -> Tensor:
    return torch.tensor(examples) + torch.rand(len(examples), generator=generator)


def test_chance_in_collate_is_shared_by_processes() -> None:
    whole = Batches(range(10), 5, collate=noisy)
    shares = [Batches(range(10), 5, collate=noisy, rank=r, world_size=2) for r in range(2)]
    torch.manual_seed(1)
    first = whole(3)
    torch.manual_seed(2)
    assert torch.equal(whole(3), first)
    assert not torch.equal(whole(5) % 1, first % 1)
    assert torch.equal(shares[0](3), first[0::2])
    assert torch.equal(shares[1](3), first[1::2])


class Pair(NamedTuple):
    x: Tensor
    y: Tensor


@dataclass
class Record:
    x: Tensor
    name: str


def test_stack_and_split_keep_the_structure() -> None:
    examples = [Pair(torch.tensor([i, i]), torch.tensor(i)) for i in range(5)]
    batch = stack(examples)
    assert isinstance(batch, Pair)
    assert batch.x.tolist() == [[i, i] for i in range(5)]
    assert stack([{"a": 1, "b": (2.0, True)}] * 2)["b"][0].tolist() == [2.0, 2.0]
    half = split_batch(batch, 1, 2)
    assert isinstance(half, Pair)
    assert half.y.tolist() == [1, 3]
    record = split_batch(Record(torch.arange(5), "five"), 0, 3)
    assert (record.x.tolist(), record.name) == ([0, 3], "five")
    assert split_batch({"x": [torch.arange(2)]}, 2, 3) is None
