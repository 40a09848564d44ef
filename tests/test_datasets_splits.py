"""Splits keep groups whole, have the wanted sizes, and depend on texts alone."""

from __future__ import annotations

import hashlib
import random
import runpy
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmlib import datasets
from lmlib.datasets import Splits, split_by_group


@settings(deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=120), st.data())
def test_groups_stay_whole_and_nothing_is_lost(groups: list[int], data: st.DataObject) -> None:
    items = [f"text {i}" for i in range(len(groups))]
    validation = data.draw(st.integers(0, len(items)))
    test = data.draw(st.integers(0, len(items) - validation))
    try:
        splits = split_by_group(items, groups, validation=validation, test=test)
    except ValueError as error:
        # Groups of one fill any room, so at least one group was larger.
        assert "do not fit" in str(error)  # noqa: PT017
        assert len(set(groups)) < len(groups)
        return
    parts = [splits.train, splits.validation, splits.test]
    assert [len(part) for part in parts[1:]] == [validation, test]
    assert sorted(item for part in parts for item in part) == sorted(items)
    for part in parts:
        assert part == sorted(part, key=items.index)
    where = [{groups[items.index(item)] for item in part} for part in parts]
    assert sum(map(len, where)) == len(set(groups))


def test_neither_order_nor_numbers_matter() -> None:
    items = [f"{i:03}" for i in range(200)]
    groups = [i // 3 for i in range(200)]
    splits = split_by_group(items, groups, validation=20, test=30)
    order = random.Random(0).sample(range(200), 200)
    shuffled = split_by_group(
        [items[i] for i in order], [f"g{-groups[i]}" for i in order], validation=20, test=30
    )
    for name in ("train", "validation", "test"):
        assert sorted(getattr(shuffled, name)) == getattr(splits, name)
    # The groups whose smallest text has the smallest hashes; room for 20 is filled by 6 · 3, and by
    # the last group, of 2.
    firsts = sorted(
        (hashlib.blake2b(text.encode(), digest_size=16).digest(), text) for text in items[:198:3]
    )
    expected = {text for _, text in firsts[:6]} | {"198"}
    assert set(splits.validation) & {*items[:200:3]} == expected


def test_more_text_moves_little() -> None:
    items = [f"text {i}" for i in range(1000)]
    held_out = split_by_group(items, range(1000), validation=100, test=0).validation
    more = split_by_group([*items, "new"], range(1001), validation=100, test=0).validation
    assert len(set(held_out) & set(more)) >= 99


def test_the_text_of_an_item_can_be_anywhere_in_it() -> None:
    texts = [f"text {i}" for i in range(50)]
    plain = split_by_group(texts, range(50), validation=5, test=5)
    rich = split_by_group(
        [(i, t) for i, t in enumerate(texts)], range(50), validation=5, test=5, text=lambda x: x[1]
    )
    assert [t for _, t in rich.test] == plain.test
    assert repr(plain) == "Splits(40 train, 5 validation, 5 test)"
    assert isinstance(plain, Splits)


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"as many as the items, 2, got 1"):
        split_by_group(["a", "b"], [0], validation=1, test=0)
    with pytest.raises(ValueError, match="do not fit 2 items in 1 groups"):
        split_by_group(["a", "b"], [0, 0], validation=1, test=0)
    with pytest.raises(ValueError, match="test must not be negative, got -1"):
        split_by_group(["a", "b"], [0, 1], validation=1, test=-1)


def test_the_command_prepares_every_corpus(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loaders = {name for name in datasets.__all__ if name.startswith("load_") and "raw" not in name}
    called: list[str] = []

    def stand_in(name: str) -> Callable[..., Splits[int]]:
        def load(*args: object) -> Splits[int]:
            called.append(name)
            return Splits([1] * 1234, [2], [])

        return load

    for name in loaders:
        monkeypatch.setattr(datasets, name, stand_in(name))
    runpy.run_module("lmlib.datasets", run_name="__main__")
    assert set(called) == loaders
    assert capsys.readouterr().out.count("1,234           1       0") == len(called)
