"""What the tests of n-gram models share: a text, and the formulas worked out plainly."""

from __future__ import annotations

import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

BOS, EOS, V = 1, 2, 9
SMOOTHINGS: list[dict[str, Any]] = [
    {"smoothing": "mle"},
    {"smoothing": "add_k", "k": 1.0},
    {"smoothing": "add_k", "k": 0.05},
    {"smoothing": "kneser_ney"},
    {"smoothing": "kneser_ney", "discount": 0.3},
    {"smoothing": "kneser_ney", "discount": 1.0},
    {"smoothing": "kneser_ney", "discount": 0.0},
]


def text(sentences: int = 40, seed: int = 0, words: int = 4) -> list[list[int]]:
    """Sentences of 0 to 9 words, 3 … words + 2, the first ones the more frequent."""
    draw = random.Random(seed)
    weights = [1 / (i + 1) for i in range(words)]
    lengths = [draw.randrange(10) for _ in range(sentences)]
    return [draw.choices(range(3, 3 + words), weights, k=length) for length in lengths]


def contexts(order: int) -> list[tuple[int, ...]]:
    """Contexts of every length, seen and unseen, with BOS, EOS and never seen tokens in them."""
    draw = random.Random(1)
    found: list[tuple[int, ...]] = [(BOS,) * size for size in range(order)]
    for size in range(order + 1):
        found += [tuple(draw.choices(range(V), k=size)) for _ in range(8)]
        found += [tuple(draw.choices((3, 4), k=size)) for _ in range(4)]
    return found


class Textbook:
    """The formulas of the module's head, one dictionary look-up at a time."""

    def __init__(self, order: int, sequences: Sequence[Sequence[int]], options: dict[str, Any]):
        self.order, self.options = order, options
        self.c: Counter[tuple[int, ...]] = Counter()
        for sequence in sequences:
            padded = [BOS] * (order - 1) + [*sequence, EOS]
            for end, k in itertools.product(range(order - 1, len(padded)), range(1, order + 1)):
                self.c[tuple(padded[end - k + 1 : end + 1])] += 1
        before: dict[tuple[int, ...], set[int]] = defaultdict(set)
        for gram in self.c:
            before[gram[1:]].add(gram[0])
        # c for the highest order, N1+(• g) for the lower ones.
        self.kn = Counter({g: n if len(g) == order else len(before[g]) for g, n in self.c.items()})
        self.D = []
        for k in range(1, order + 1):
            values = [n for g, n in self.kn.items() if len(g) == k]
            n_1, n_2 = values.count(1), values.count(2)
            estimate = n_1 / (n_1 + 2 * n_2) if n_1 and n_2 else 0.5
            given_discount = options.get("discount")
            self.D.append(estimate if given_discount is None else given_discount)

    def prob(self, w: int, h: tuple[int, ...]) -> float:
        h = h[max(len(h) - self.order + 1, 0) :]
        if self.options["smoothing"] == "kneser_ney":
            return self.kneser_ney(w, h)
        k = self.options.get("k", 0.0)
        total = sum(self.c[(*h, v)] for v in range(V))
        return (self.c[(*h, w)] + k) / (total + k * V) if total + k else 1 / V

    def kneser_ney(self, w: int, h: tuple[int, ...]) -> float:
        shorter = self.kneser_ney(w, h[1:]) if h else 1 / V
        total = sum(self.kn[(*h, v)] for v in range(V))
        types = sum(self.kn[(*h, v)] > 0 for v in range(V))
        if total == 0:
            return shorter
        D = self.D[len(h)]
        return max(self.kn[(*h, w)] - D, 0) / total + D * types / total * shorter
