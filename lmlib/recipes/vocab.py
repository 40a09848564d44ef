"""The 10 000-token vocabulary of the worked example: `python -m lmlib.recipes.vocab`.

The order of the tokens, and so their ids, is: the four specials; printable ASCII; Chinese
punctuation; then Chinese characters, the most frequent first, until there are 10 000 tokens. The
frequency of a character is the sum of the frequencies of the words that contain it (once for each
time it occurs in the word) in the dictionary of jieba 0.42.1 (MIT licence), counted by its author
on a large mixed corpus. Equal frequencies stand in the order of the code points. Nothing is random:
the same dictionary always gives the same file.
"""

from __future__ import annotations

import argparse
import importlib.util
import string
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import lmlib.assets
from lmlib.tokenizers import SPECIALS, CharTokenizer

VOCAB_SIZE = 10_000
# Space first, then in the order of the code points.
ASCII = sorted(string.ascii_letters + string.digits + string.punctuation + " ")
# What Chinese text is punctuated with (GB/T 15834), the full-width space, and ￥.
PUNCTUATION = "，。、；：？！…—～·“”‘’（）《》〈〉「」『』【】〔〕［］｛｝￥\u3000"


def dictionary_path() -> Path:
    """Where the installed jieba keeps its dictionary (one `word frequency part-of-speech` a line).

    Raises:
        ModuleNotFoundError: jieba is not installed.
    """
    # jieba is found, not imported: importing it prints warnings on new versions of Python.
    spec = importlib.util.find_spec("jieba")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("jieba is not installed: pip install jieba==0.42.1")
    return Path(spec.origin).with_name("dict.txt")


def character_frequencies(lines: Iterable[str]) -> Counter[str]:
    """Σ of the word frequencies over the words of a dictionary, for each Chinese character."""
    counts: Counter[str] = Counter()
    for line in lines:
        word, frequency, *_ = line.split(" ")
        for char in word:
            if "\u4e00" <= char <= "\u9fff":
                counts[char] += int(frequency)
    return counts


def build_vocab(dictionary: Path, vocab_size: int = VOCAB_SIZE) -> list[str]:
    """The tokens in the order of their ids (see the top of this file).

    Args:
        dictionary: jieba's, see `dictionary_path`.
        vocab_size: number of tokens.

    Raises:
        ValueError: the dictionary does not give as many tokens.
    """
    with dictionary.open(encoding="utf-8") as lines:
        counts = character_frequencies(lines)
    ranked = sorted(counts, key=lambda char: (-counts[char], char))
    vocab = [*SPECIALS, *ASCII, *PUNCTUATION, *ranked]
    if len(vocab) < vocab_size:
        raise ValueError(f"{dictionary} gives {len(vocab)} tokens, but {vocab_size} are needed")
    return vocab[:vocab_size]


def main() -> None:
    """Write the vocabulary."""
    parser = argparse.ArgumentParser(
        prog="python -m lmlib.recipes.vocab",
        description="Remake the vocabulary of 10 000 tokens from jieba's dictionary.",
    )
    parser.add_argument("--output", type=Path, default=lmlib.assets.vocab_path())
    arguments = parser.parse_args()
    tokenizer = CharTokenizer.from_vocab(build_vocab(dictionary_path()))
    tokenizer.save(arguments.output)
    print(f"{arguments.output}: {len(tokenizer)} tokens")


if __name__ == "__main__":
    main()
