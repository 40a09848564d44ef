"""Pairs of a Chinese and an English text, and how corpora of them are kept and split."""

from __future__ import annotations

import lzma
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from lmlib.datasets._near_duplicates import linked, near_duplicates


class Pair(NamedTuple):
    """A Chinese text and its English translation.

    Attributes:
        zh: the Chinese text.
        en: the English text.
    """

    zh: str
    en: str


def pair_groups(pairs: Sequence[Pair], threshold: float = 0.6) -> list[int]:
    """Which pairs belong together: near-duplicates in either language, directly or through others.

    Chinese is compared by runs of two characters, English, whose letters say less, by runs of four.

    Args:
        pairs: any number.
        threshold: Jaccard similarity from which two texts are near-duplicates.

    Returns:
        for each pair the index of the first pair of its group.
    """
    links = near_duplicates([pair.zh for pair in pairs], threshold, n=2)
    links += near_duplicates([pair.en for pair in pairs], threshold, n=4)
    return linked(len(pairs), links)


def write_table(path: Path, rows: Iterable[Sequence[str]]) -> None:
    """Rows of text as an xz-compressed table with tabs; the same rows give the same bytes.

    Args:
        path: the file, overwritten.
        rows: none of the texts holds a tab or ends a line.

    Raises:
        ValueError: a text holds a tab or a line break.
    """
    lines = []
    for row in rows:
        if any(set(text) & set("\t\n\r") for text in row):
            raise ValueError(f"a row must hold no tab and no line break, got {list(row)}")
        lines.append("\t".join(row) + "\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lzma.compress("".join(lines).encode(), preset=9 | lzma.PRESET_EXTREME))


def read_table(path: Path) -> list[list[str]]:
    """The rows that `write_table` wrote."""
    text = lzma.decompress(path.read_bytes()).decode()
    return [line.split("\t") for line in text.split("\n")[:-1]]
