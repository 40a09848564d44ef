"""How the counts of an n-gram model travel to the page; `ngram_explorer_counts.js` reads them.

Only the longest n-grams need counts. Every k-gram seen, k < n, is the end of a longer one (BOS
stands in front of it if nothing else does), so that the counts of all the others, and the numbers
of their different predecessors, are sums that the page takes itself.

The k-grams are written k = 1 … n, in the order of `NGramModel.ngrams`: behind each context h how
many tokens follow it, then which. Where w stands behind h it stands behind h′, which is h without
its first token, too. So w is written as its place among the followers of h′, which are few:
mostly a bit or two more than the entropy. Then come the counts of the n-grams. All as bits::

    number ≥ 1        Elias gamma code: as many zeros as it has bits but one, then its bits
    0 ≤ place < s     truncated binary code: ⌊log₂ s⌋ or ⌈log₂ s⌉ bits
    sorted places     binary interpolative coding (Moffat & Stuiver 2000): the middle one, within
                      the room that the others leave it, then the halves
"""

from __future__ import annotations

import numpy as np

from lmlib.ngram import NGramModel

# Per entry its value and how many bits it takes.
Codes = list[tuple[int, int]]


def pack(model: NGramModel) -> bytes:
    """The counts of a fitted model as bytes, the same for the same counts."""
    config = model.config
    codes: Codes = []
    # Of the level before: the number of each of its k-grams' end, and its sorted keys.
    ends = keys = np.zeros(0, dtype=np.int64)
    for k in range(1, config.order + 1):
        tokens, counts = model.ngrams(k)
        context, end_context = _contexts(tokens, model, ends)
        token = tokens[:, -1]
        if k == 1:
            places, starts, ends = token, np.array([0, config.vocab_size]), token
        else:
            # The followers of context j of the level before lie in starts[j] … starts[j + 1].
            num_contexts = 1 if k == 2 else model.num_ngrams[k - 3] + 1
            starts = np.searchsorted(keys, np.arange(num_contexts + 1) * config.vocab_size)
            ends = np.searchsorted(keys, end_context * config.vocab_size + token)
            places = ends - starts[end_context]
        keys = context * config.vocab_size + token
        room = np.diff(starts)[end_context]
        first = np.flatnonzero(np.diff(context, prepend=-1)).tolist()
        followers, sizes = places.tolist(), room.tolist()
        for start, stop in zip(first, [*first[1:], len(followers)], strict=True):
            codes.append(gamma(stop - start))
            _write_sorted(codes, followers[start:stop], 0, sizes[start] - 1)
    codes += [gamma(count) for count in counts.tolist()]
    return to_bytes(codes)


def _contexts(
    tokens: np.ndarray, model: NGramModel, ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """For (M, k) k-grams the number of the first k − 1 tokens, and of these without their first.

    Contexts are numbered as the (k − 1)-grams are, all BOS behind them. Each of them is followed
    by something unless it ends in EOS: so counting them up is enough.
    """
    k = tokens.shape[1]
    if k == 1:
        return (np.zeros(len(tokens), dtype=np.int64),) * 2
    shorter, _ = model.ngrams(k - 1)
    followed = np.flatnonzero(shorter[:, -1] != model.config.eos_id)
    numbers = np.append(followed, len(shorter))
    changes = (tokens[1:, :-1] != tokens[:-1, :-1]).any(axis=1)
    context = numbers[np.concatenate([[0], np.cumsum(changes)])]
    if k == 2:
        return context, np.zeros_like(context)
    return context, np.append(ends, model.num_ngrams[k - 3])[context]


def gamma(number: int) -> tuple[int, int]:
    """The Elias gamma code of a number ≥ 1."""
    return number, 2 * number.bit_length() - 1


def truncated_binary(value: int, size: int) -> tuple[int, int]:
    """The code of 0 ≤ value < size: the first values take one bit less than the others."""
    bits = size.bit_length() - 1
    short = (2 << bits) - size
    return (value, bits) if value < short else (value + short, bits + 1)


def _write_sorted(codes: Codes, values: list[int], low: int, high: int) -> None:
    """The code of increasing values, all from ``low`` to ``high``."""
    if not values:
        return
    middle = len(values) // 2
    value = values[middle]
    codes.append(truncated_binary(value - low - middle, high - low - len(values) + 2))
    _write_sorted(codes, values[:middle], low, value - 1)
    _write_sorted(codes, values[middle + 1 :], value + 1, high)


def to_bytes(codes: Codes) -> bytes:
    """One code behind the other, each with its highest bit first; zeros fill the last byte."""
    values, widths = np.array(codes, dtype=np.int64).reshape(-1, 2).T
    code = np.repeat(np.arange(len(codes)), widths)
    place = np.cumsum(widths)[code] - 1 - np.arange(len(code))
    # A gamma code begins with zeros, which may be more than an integer has bits.
    bits = (values[code] >> np.minimum(place, 62)) & 1
    return np.packbits(bits.astype(np.uint8)).tobytes()
