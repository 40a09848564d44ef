"""Near-duplicates: Jaccard similarity of character n-grams, found by MinHash and banding.

Broder (1997) compares two texts by the sets A and B of their shingles, here the n characters in a
row that occur in them: J(A, B) = ``|A ∩ B| / |A ∪ B|``. A hash function that puts all shingles into
a random order meets the smallest one of A ∪ B in both sets with just that probability: P(min h(A) =
min h(B)) = J(A, B). So the share of equal numbers in two MinHash signatures estimates J, with a
standard error of √(J (1 − J) / num_hashes).

To compare all pairs would take too long. Banding (Leskovec, Rajaraman & Ullman 2014, §3.4) cuts
a signature of b · r numbers into b bands of r, and compares only texts that agree in all of some
band: P = 1 − (1 − J^r)^b.

>>> a, b = shingles("春眠不觉晓，处处闻啼鸟。"), shingles("春眠不觉晓，夜来风雨声。")
>>> sorted(a & b)
['不觉', '春眠', '眠不', '觉晓']
>>> round(jaccard(a, b), 3)  # 4 of 9 + 9 − 4
0.286
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence, Set
from typing import Any

import numpy as np
import numpy.typing as npt

from lmlib._checks import check_not_negative, check_positive

Array = npt.NDArray[Any]

_SEED = 20_260_101
_NO_LETTER = re.compile(r"[\W_]+")
# A pair at the threshold is missed with at most this probability.
_MISSED = 1e-4
_BLOCK = 2048  # texts whose signatures are made at a time


def shingles(text: str, n: int = 2) -> frozenset[str]:
    """All runs of n letters, digits or hanzi; whatever else is in the text does not count.

    Args:
        text: a text; one shorter than n is a shingle as a whole.
        n: length of the runs.
    """
    check_positive("n", n)
    text = _NO_LETTER.sub("", text)
    if len(text) < n:
        return frozenset([text] if text else [])
    return frozenset(text[i : i + n] for i in range(len(text) - n + 1))


def jaccard(a: Set[Any], b: Set[Any]) -> float:
    """``|A ∩ B| / |A ∪ B|`` of two sets ``a`` and ``b``; 1 where both are empty."""
    common = len(a & b)
    together = len(a) + len(b) - common
    return common / together if together else 1.0


def minhash(texts: Sequence[str], num_hashes: int = 128, n: int = 2) -> Array:
    """The MinHash signatures of texts.

    Args:
        texts: any texts.
        num_hashes: how many random orders of the shingles.
        n: length of the shingles.

    Returns:
        (texts, num_hashes) uint32: the smallest value of each hash function over the shingles of
        each text; the largest number there is for a text without any.
    """
    check_positive("num_hashes", num_hashes)
    codes, starts = _shingle_codes(texts, n)
    return _signatures(codes, starts, num_hashes)


def near_duplicates(
    texts: Sequence[str], threshold: float = 0.6, n: int = 2
) -> list[tuple[int, int]]:
    """All pairs i < j of texts whose Jaccard similarity is at least the threshold, in order.

    Banding proposes pairs, and the exact similarity decides. So no pair is wrong; one at the
    threshold is missed with a probability below 0.01 %, one above it still less often. (Where a
    threshold below 0.5 would need more than 128 hashes for that, it may be more.)

    Args:
        texts: any texts.
        threshold: 0 < threshold ≤ 1.
        n: length of the shingles.
    """
    if not 0.0 < threshold <= 1.0:
        raise ValueError(f"threshold must be above 0 and at most 1, got {threshold}")
    num_hashes = 128
    rows = 1
    while (1 - threshold ** (rows + 1)) ** (num_hashes // (rows + 1)) <= _MISSED:
        rows += 1
        if rows == num_hashes // 2:
            break
    codes, starts = _shingle_codes(texts, n)
    signatures = _signatures(codes, starts, num_hashes)
    first, second = _candidates(signatures, rows)
    sets: dict[int, frozenset[int]] = {}
    pairs = []
    for i, j in zip(first.tolist(), second.tolist(), strict=True):
        for k in (i, j):
            if k not in sets:
                sets[k] = frozenset(codes[starts[k] : starts[k + 1]].tolist())
        if jaccard(sets[i], sets[j]) >= threshold:
            pairs.append((i, j))
    return pairs


def duplicate_groups(texts: Sequence[str], threshold: float = 0.6, n: int = 2) -> list[int]:
    """Number the groups of texts that near-duplicates link, directly or through others.

    Args:
        texts: any texts.
        threshold: of the Jaccard similarity, 0 < threshold ≤ 1.
        n: length of the shingles.

    Returns:
        for each text the index of the first text of its group.
    """
    return linked(len(texts), near_duplicates(texts, threshold, n))


def linked(count: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """For each of ``count`` things the first one that ``pairs`` link it to, through any others."""
    check_not_negative("count", count)
    parent = list(range(count))  # union–find

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]  # the way up gets shorter with each use
            i = parent[i]
        return i

    for i, j in pairs:
        a, b = root(i), root(j)
        parent[max(a, b)] = min(a, b)
    return [root(i) for i in range(count)]


# ------------------------------------------------------------------ with whole arrays


def _mix(x: Array) -> Array:
    """Scatter 64-bit numbers (the finaliser of splitmix64, Steele, Lea & Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _shingle_codes(texts: Sequence[str], n: int) -> tuple[Array, Array]:
    """One 64-bit number a shingle: (total,), and where each text begins in it: (texts + 1,)."""
    check_positive("n", n)
    if isinstance(texts, str):
        raise TypeError("texts must be a list of several, got str")
    kept = [_NO_LETTER.sub("", text) for text in texts]
    # In front of a text of less than n characters stand zeros, which no text holds.
    kept = ["\0" * (n - len(text)) + text if 0 < len(text) < n else text for text in kept]
    lengths = np.array([len(text) for text in kept], dtype=np.int64)
    chars = np.frombuffer("".join(kept).encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    counts = np.maximum(lengths - n + 1, 0)
    starts = np.concatenate([[0], np.cumsum(counts)])
    # Where each shingle begins in `chars`: its number, plus the n − 1 lost at each earlier text.
    offsets = np.cumsum(lengths) - lengths - starts[:-1]
    begins = np.arange(starts[-1]) + np.repeat(offsets, counts)
    codes = np.zeros(len(begins), dtype=np.uint64)
    for i in range(n):
        codes = _mix(codes + chars[begins + i] + np.uint64(0x9E3779B97F4A7C15))
    return codes, starts


def _signatures(codes: Array, starts: Array, num_hashes: int) -> Array:
    """(texts, num_hashes): the smallest of (a · code + b) div 2³² over the codes of each text."""
    # Multiply-shift hashing (Dietzfelbinger et al. 1997): a is odd, arithmetic is modulo 2⁶⁴.
    random = np.random.default_rng(_SEED)
    a, b = random.integers(0, 1 << 64, size=(2, num_hashes), dtype=np.uint64)
    a |= np.uint64(1)
    num_texts = len(starts) - 1
    result = np.full((num_texts, num_hashes), 0xFFFFFFFF, dtype=np.uint32)
    for low in range(0, num_texts, _BLOCK):
        high = min(low + _BLOCK, num_texts)
        block = codes[starts[low] : starts[high]]
        full = np.flatnonzero(starts[low + 1 : high + 1] > starts[low:high])
        if not len(full):
            continue
        edges = starts[low:high][full] - starts[low]
        for k in range(num_hashes):
            values = ((block * a[k] + b[k]) >> np.uint64(32)).astype(np.uint32)
            result[low + full, k] = np.minimum.reduceat(values, edges)
    return result


def _candidates(signatures: Array, rows: int) -> tuple[Array, Array]:
    """Pairs (i, j), i < j, each once and in order, that agree in a band of ``rows`` numbers."""
    num_texts = len(signatures)
    found = [np.zeros(0, dtype=np.int64)]
    for low in range(0, signatures.shape[1] - rows + 1, rows):
        key = np.zeros(num_texts, dtype=np.uint64)
        for k in range(low, low + rows):
            key = _mix(key + signatures[:, k].astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15))
        order = np.argsort(key, kind="stable")
        ordered = key[order]
        # Neighbours at a growing distance, as long as any two of them are equal.
        for distance in range(1, num_texts):
            same = np.flatnonzero(ordered[distance:] == ordered[:-distance])
            if not len(same):
                break
            found.append(order[same] * num_texts + order[same + distance])
    pairs = np.unique(np.concatenate(found))
    return pairs // max(num_texts, 1), pairs % max(num_texts, 1)
