"""From counts to probabilities: the smoothings of `lmlib.ngram`, where their formulas stand."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lmlib._checks import check_choice, check_positive
from lmlib.ngram._counts import COUNT, Array, NGramCounts

SMOOTHINGS = ("mle", "add_k", "kneser_ney")
# Where no n-gram was seen once, or none twice, D cannot be estimated.
DISCOUNT_FALLBACK = 0.5


@dataclass(frozen=True)
class NGramConfig:
    """Everything that fixes an `NGramModel` but its counts; the fields are its arguments.

    Raises:
        TypeError, ValueError: a value is not allowed, or two do not fit each other.
    """

    order: int
    vocab_size: int
    smoothing: str = "mle"
    k: float = 1.0
    discount: float | tuple[float, ...] | None = None
    bos_id: int = 1
    eos_id: int = 2
    pad_id: int = 0

    def __post_init__(self) -> None:
        check_positive("order", self.order)
        check_positive("vocab_size", self.vocab_size)
        check_choice("smoothing", self.smoothing, SMOOTHINGS)
        if not 0 < self.k < math.inf:
            raise ValueError(f"k must be a number above 0, got {self.k}")
        discounts = self.discount if isinstance(self.discount, tuple) else (self.discount,)
        if isinstance(self.discount, tuple) and len(discounts) != self.order:
            raise ValueError(
                f"discount must be one number, or one for each of the {self.order} orders, "
                f"got {len(discounts)}"
            )
        for discount in discounts:
            if discount is not None and not 0 <= discount <= 1:
                raise ValueError(f"discount must lie in 0 … 1, got {discount}")
        for name in ("bos_id", "eos_id", "pad_id"):
            token_id = getattr(self, name)
            if not 0 <= token_id < self.vocab_size:
                raise ValueError(
                    f"{name} must lie in 0 … vocab_size − 1 = {self.vocab_size - 1}, got {token_id}"
                )
        if self.bos_id == self.eos_id:
            raise ValueError(
                f"bos_id must differ from eos_id, which is predicted, got {self.bos_id} for both"
            )


class Smoothing:
    """The probabilities that a smoothing makes of counts.

    Every array of numbers comes with −1 for what was not seen, see `NGramCounts`.

    Attributes:
        used: for each k = 1 … order the counts c of the formula, one for each k-gram.
        totals: for each k the sums c(h •), one for each context.
        discounts: for each k the discount D of "kneser_ney"; else empty.
    """

    def __init__(self, config: NGramConfig, counts: NGramCounts) -> None:
        self.config, self.counts = config, counts
        kneser_ney = config.smoothing == "kneser_ney"
        lower = counts.continuations if kneser_ney else counts.counts[:-1]
        self.used = [*lower, counts.counts[-1]]
        self.totals: list[Array] = []
        for used, starts in zip(self.used, counts.starts, strict=True):
            sums = np.concatenate([[0], np.cumsum(used, dtype=np.int64)])[starts]
            self.totals.append(np.diff(sums).astype(COUNT))
        self.discounts: list[float] = []
        if kneser_ney:
            given = config.discount
            if given is None:
                self.discounts = [estimate_discount(used) for used in self.used]
            else:
                self.discounts = list(given) if isinstance(given, tuple) else [given] * config.order

    def probabilities(self, contexts: list[Array], grams: list[Array]) -> Array:
        """P(w | h) of m pairs.

        Args:
            contexts: for each k the numbers (m,) of the last k − 1 tokens of h.
            grams: for each k the numbers (m,) of these and w.

        Returns:
            (m,) float64.
        """
        if self.config.smoothing != "kneser_ney":
            k = len(contexts)
            total, _ = self._sums(k, contexts[-1])
            return self._add_k(self._count(k, grams[-1]), total)
        p = np.full(len(grams[0]), 1 / self.config.vocab_size)
        for k, (context, gram) in enumerate(zip(contexts, grams, strict=True), start=1):
            total, types = self._sums(k, context)
            p *= self._gamma(k, total, types)
            p += self._discounted(k, self._count(k, gram), total)
        return p

    def distributions(self, contexts: Array) -> Array:
        """P(w | h) for every w.

        Args:
            contexts: (m, L) tokens h.

        Returns:
            (m, vocab_size) float64; each row sums to one.
        """
        m, length = contexts.shape
        V = self.config.vocab_size
        numbers = self.counts.context_numbers(contexts)
        if self.config.smoothing != "kneser_ney":
            table = np.zeros((m, V))
            row, token, c = self._followers(length + 1, numbers[-1])
            table[row, token] = c
            total, _ = self._sums(length + 1, numbers[-1])
            return self._add_k(table, total[:, None])
        p = np.full((1, V), 1 / V)
        for k, number in enumerate(numbers, start=1):
            # The unigrams are the same behind every context: one row serves for all of them.
            if k == 1:
                number = number[:1]
            elif k == 2:
                p = np.repeat(p, m, axis=0)
            total, types = self._sums(k, number)
            p *= self._gamma(k, total, types)[:, None]
            row, token, c = self._followers(k, number)
            p[row, token] += self._discounted(k, c, total[row])
        return np.repeat(p, m, axis=0) if length == 0 else p

    def _add_k(self, c: Array, total: Array) -> Array:
        """(c(h w) + k) / (c(h •) + k V), where "mle" has k = 0 and, for 0 / 0, 1 / V."""
        V = self.config.vocab_size
        k = self.config.k if self.config.smoothing == "add_k" else 0.0
        denominator = total + k * V
        nothing = denominator == 0
        return np.where(nothing, 1 / V, (c + k) / np.where(nothing, 1, denominator))

    def _discounted(self, k: int, c: Array, total: Array) -> Array:
        """max(c(h w) − D, 0) / c(h •); 0 where nothing was seen behind h."""
        return np.maximum(c - self.discounts[k - 1], 0) / np.maximum(total, 1)

    def _gamma(self, k: int, total: Array, types: Array) -> Array:
        """γ(h) = D N1+(h •) / c(h •); 1 where nothing was seen behind h."""
        gamma = self.discounts[k - 1] * types / np.maximum(total, 1)
        return np.where(total > 0, gamma, 1.0)

    def _count(self, k: int, gram: Array) -> Array:
        """c(h w) by the numbers of h w."""
        return np.where(gram >= 0, self.used[k - 1][gram], 0)

    def _sums(self, k: int, context: Array) -> tuple[Array, Array]:
        """c(h •) and N1+(h •) by the numbers of h."""
        starts, seen = self.counts.starts[k - 1], context >= 0
        total = np.where(seen, self.totals[k - 1][context], 0)
        return total, np.where(seen, starts[context + 1] - starts[context], 0)

    def _followers(self, k: int, context: Array) -> tuple[Array, Array, Array]:
        """Every w seen behind one of these contexts: its context's row, w and c(h w), (s,) each."""
        seen = np.flatnonzero(context >= 0)
        found, row = self.counts.children(k, context[seen])
        token = self.counts.keys[k - 1][found] % self.config.vocab_size
        return seen[row], token, self.used[k - 1][found]


def estimate_discount(counts: Array) -> float:
    """D = n_1 / (n_1 + 2 n_2), with n_1 and n_2 the numbers of ones and twos among ``counts``.

    The estimate of Ney et al. 1994, in Chen & Goodman 1999, §2.6; 0.5 if n_1 or n_2 is 0, as in
    small vocabularies, where it would discount nothing or everything.
    """
    n_1, n_2 = int((counts == 1).sum()), int((counts == 2).sum())
    return n_1 / (n_1 + 2 * n_2) if n_1 and n_2 else DISCOUNT_FALLBACK
