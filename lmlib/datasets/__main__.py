"""Fetch and prepare every corpus, after which no network is needed: `python -m lmlib.datasets`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmlib import datasets

CORPORA: dict[str, Callable[[], Any]] = {
    "poems of the Tang": datasets.load_poems,
    "poems of Tang and Song": lambda: datasets.load_poems("all"),
    "reviews": datasets.load_reviews,
    "news": datasets.load_news,
    "dates": datasets.load_date_pairs,
    "grammar": datasets.load_grammar_pairs,
    "everyday sentences": datasets.load_sentence_pairs,
    "help": datasets.load_help_pairs,
}


def main() -> None:
    """Print the number of examples in each part of each corpus."""
    print(f"{'':24}{'training':>10}{'validation':>12}{'test':>8}")
    for name, load in CORPORA.items():
        splits = load()
        sizes = [len(part) for part in (splits.train, splits.validation, splits.test)]
        print(f"{name:24}{sizes[0]:>10,}{sizes[1]:>12,}{sizes[2]:>8,}", flush=True)
    print(f"in {datasets.cache_dir()}, and in the package")


if __name__ == "__main__":
    main()
