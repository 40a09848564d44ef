"""Splits: training, validation and test part of a corpus, without a random generator."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from lmlib._checks import check_not_negative

T = TypeVar("T")


@dataclass(frozen=True)
class Splits(Generic[T]):
    """The three parts of a corpus.

    Attributes:
        train: what models learn from.
        validation: what decides between models, and when to stop.
        test: what the final numbers are taken from, once.
    """

    train: list[T]
    validation: list[T]
    test: list[T]

    def __repr__(self) -> str:
        sizes = f"{len(self.train)} train, {len(self.validation)} validation, {len(self.test)} test"
        return f"Splits({sizes})"


def split_by_group(
    items: Sequence[T],
    groups: Sequence[Hashable],
    *,
    validation: int,
    test: int,
    text: Callable[[T], str] = str,
) -> Splits[T]:
    """Split a corpus so that no group of near-duplicates lies in two parts.

    Groups are taken in the order of a hash of their smallest text, which is as good as chance but
    depends on neither the order of the corpus nor a random generator. A group goes to the
    validation part if there is room for all of it, else to the test part, else to training: so
    both have exactly the wanted size as soon as enough groups are small. Each part keeps the order
    of the corpus.

    Args:
        items: the corpus.
        groups: for each item the group it belongs to, as from `duplicate_groups`.
        validation: number of items in the validation part.
        test: number of items in the test part.
        text: the text of an item.

    Raises:
        ValueError: not as many groups as items, or the parts cannot be filled.
    """
    check_not_negative("validation", validation)
    check_not_negative("test", test)
    if len(groups) != len(items):
        raise ValueError(f"groups must be as many as the items, {len(items)}, got {len(groups)}")
    members: dict[Hashable, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    texts = [text(item) for item in items]
    # The order of groups that share their smallest text must not depend on their numbers either.
    order = sorted(members.values(), key=lambda indices: _rank(sorted(texts[i] for i in indices)))
    part = [0] * len(items)
    room = {1: validation, 2: test}
    for indices in order:
        for number in room:
            if len(indices) <= room[number]:
                room[number] -= len(indices)
                for i in indices:
                    part[i] = number
                break
    if any(room.values()):
        raise ValueError(
            f"validation={validation} and test={test} do not fit {len(items)} items in "
            f"{len(members)} groups"
        )
    return Splits(
        *([item for item, p in zip(items, part, strict=True) if p == k] for k in range(3))
    )


def _rank(texts: list[str]) -> tuple[bytes, list[str]]:
    return hashlib.blake2b(texts[0].encode("utf-8"), digest_size=16).digest(), texts
