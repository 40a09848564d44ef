"""Tokenizers: training and encoding of growing texts, beside Hugging Face's `tokenizers`.

    python benchmarks/tokenizers_bench.py [--quick]

Both sides get the same text and the same settings, one after the other, at each size; the median of
several runs is shown. The text is made up of the words of jieba's dictionary, as often as they are
used, so that it is as varied as real Chinese, and the same on every machine. The growth exponent is
the slope of log(time) over log(size): 1 is linear, 2 quadratic.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

# One thread each: the comparison is of the work, not of the cores.
os.environ.setdefault("RAYON_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from lmlib.tokenizers import BERT_SPECIALS, BPETokenizer, CharTokenizer, WordPieceTokenizer

BPE_SPECIALS = ("<pad>", "<bos>", "<eos>")


def chinese(num_bytes: int) -> str:
    """Clauses of frequent and rare words, of so many bytes in UTF-8 (or up to two fewer)."""
    import jieba

    words, counts = [], []
    lines = (Path(jieba.__file__).parent / "dict.txt").read_text(encoding="utf-8").splitlines()
    for line in lines:
        word, count, *_ = line.split(" ")
        words.append(word)
        counts.append(int(count))
    rng = random.Random(0)
    parts: list[str] = []
    for word in rng.choices(words, counts, k=num_bytes // 4):
        parts += (word, rng.choice("，，，。！？\n") if rng.random() < 0.13 else "")
    return "".join(parts).encode()[:num_bytes].decode(errors="ignore")


def their_bpe(texts: list[str], vocab_size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=list(BPE_SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def their_wordpiece(texts: list[str], vocab_size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=list(BERT_SPECIALS),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def seconds(function: Callable[[], object], repeats: int) -> float:
    """The median processor time of a call, which a busy machine disturbs less than the clock."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return statistics.median(times)


def columns(num_bytes: int, time_taken: float) -> str:
    """A time and the speed that it means."""
    return f"{time_taken:>9.3f} {num_bytes / time_taken / 1e6:>7.2f}"


def exponent(sizes: list[int], times: list[float]) -> float:
    """The least-squares slope of log(time) over log(size)."""
    xs, ys = [math.log(size) for size in sizes], [math.log(max(t, 1e-9)) for t in times]
    mean_x, mean_y = statistics.mean(xs), statistics.mean(ys)
    covariance = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
    return covariance / sum((x - mean_x) ** 2 for x in xs)


Task = tuple[str, Callable[[str], object], Callable[[str], object] | None, Callable[[str], str]]


def tasks(text: str, vocab_size: int) -> Iterator[Task]:
    """Name, ours, theirs (None: they have none), and what becomes of the text first."""

    def same(text: str) -> str:
        return text

    def one_piece(text: str) -> str:
        return "".join(char for char in text if char.isalpha())

    lines = text.splitlines(keepends=True)
    yield (
        f"BPE: train, {vocab_size} tokens",
        lambda text: BPETokenizer.train(text.splitlines(keepends=True), vocab_size),
        lambda text: their_bpe(text.splitlines(keepends=True), vocab_size),
        same,
    )
    bpe = BPETokenizer.train(lines, vocab_size)
    theirs = their_bpe(lines, vocab_size)
    assert theirs.encode(text).ids == bpe.encode(text), "the two encode differently"

    def encode_afresh(text: str) -> None:
        bpe._cache.clear()  # as theirs, which is asked for no text twice, must work it all out
        bpe.encode(text)

    def their_encode_afresh(text: str) -> None:
        theirs.model._clear_cache()
        theirs.encode(text)

    yield "BPE: encode", encode_afresh, their_encode_afresh, same
    yield "BPE: encode, no space or mark", encode_afresh, their_encode_afresh, one_piece
    yield (
        "WordPiece: train",
        lambda text: WordPieceTokenizer.train(text.splitlines(keepends=True), 1 << 20),
        lambda text: their_wordpiece(text.splitlines(keepends=True), 1 << 20),
        same,
    )
    wordpiece = WordPieceTokenizer.train(lines, 1 << 20)
    their_pieces = Tokenizer(models.WordPiece(wordpiece._ids, unk_token="[UNK]"))
    their_pieces.normalizer = normalizers.BertNormalizer()
    their_pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    assert their_pieces.encode(text).ids == wordpiece.encode(text), "the two encode differently"
    yield "WordPiece: encode", wordpiece.encode, their_pieces.encode, same
    yield "Char: encode", CharTokenizer.train(lines).encode, None, same


def main() -> None:
    """Print a table for each task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small texts, each once")
    parser.add_argument("--repeats", type=int, default=3, help="runs at each size")
    arguments = parser.parse_args()
    largest = 250_000 if arguments.quick else 1_000_000
    repeats = 1 if arguments.quick else arguments.repeats
    sizes = [largest // 16, largest // 8, largest // 4, largest // 2, largest]
    text = chinese(largest)
    for name, ours, theirs, prepare in tasks(text, 1000 if arguments.quick else 4000):
        print(f"\n{name}\n{'bytes':>10} {'ours s':>9} {'MB/s':>7}", end="")
        print(f" {'HF s':>9} {'MB/s':>7} {'HF/ours':>8}" if theirs else "")
        measured: list[int] = []
        our_times: list[float] = []
        their_times: list[float] = []
        for size in sizes:
            part = prepare(text.encode()[:size].decode(errors="ignore"))
            measured.append(len(part.encode()))
            our_times.append(seconds(partial(ours, part), repeats))
            row = f"{measured[-1]:>10} {columns(measured[-1], our_times[-1])}"
            if theirs:
                their_times.append(seconds(partial(theirs, part), repeats))
                row += f" {columns(measured[-1], their_times[-1])}"
                row += f" {their_times[-1] / our_times[-1]:>8.2f}"
            print(row, flush=True)
        growth = f"time ∝ bytes^{exponent(measured, our_times):.2f}"
        if their_times:
            growth += f" (Hugging Face: {exponent(measured, their_times):.2f})"
        print(growth)


if __name__ == "__main__":
    main()
