"""The shipped poems of the Tang: `python -m lmlib.recipes.tang_poems`.

They are cut from npm's `chinese-poetry` 2.0.1 (see `lmlib.datasets.POEM_PACKAGE`), converted with
opencc 1.4.2, cleaned, and split by `lmlib.datasets`: a line each, the first of which names the
columns. Nothing is random: the same package and converter always give the same file.
"""

from __future__ import annotations

import argparse
import lzma
from pathlib import Path

import lmlib.assets
from lmlib.datasets import REGULAR_FORMS
from lmlib.datasets._poem_collections import split_everything
from lmlib.datasets._poems import write_rows

# Slow, and as small as can be; the file bears no date.
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 4, "lp": 0, "pb": 0}]


def build() -> bytes:
    """The compressed file.

    Raises:
        lmlib.datasets.DatasetError: the package cannot be had, or opencc is not installed.
    """
    rows = split_everything()
    wanted = [r for r in rows if r[1].dynasty == "唐" and r[1].form in REGULAR_FORMS]
    text = write_rows(wanted)
    return lzma.compress(text.encode("utf-8"), check=lzma.CHECK_CRC64, filters=_FILTERS)


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(
        prog="python -m lmlib.recipes.tang_poems",
        description="Make the shipped poems of the Tang from npm's chinese-poetry.",
    )
    default = lmlib.assets.path() / "corpora" / "tang_poems.tsv.xz"
    parser.add_argument("--output", type=Path, default=default, help="default: %(default)s")
    output = parser.parse_args().output
    content = build()
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(content)
    print(f"{output}: {len(content):,} bytes")


if __name__ == "__main__":
    main()
