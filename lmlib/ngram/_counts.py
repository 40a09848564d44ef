"""The counts behind an n-gram model, as sorted arrays; use them through `lmlib.ngram.NGramModel`.

The k-grams seen are numbered 0 … M_k − 1 in the order of their keys::

    key(h w) = number(h) · vocab_size + w        h: the first k − 1 tokens, w: the last one

so that what follows one context h lies side by side, and finding a k-gram is one binary search.
The numbering is built order by order: M_k is at most the length of the text, where vocab_size ** k
fits no integer. The context that is all BOS is never predicted, so has no key: its number is M_k.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

Array = npt.NDArray[Any]

# A text of 2³¹ tokens fits no machine that reads it this way: 32 bits hold every count.
COUNT = np.int32


class NGramCounts:
    """How often each k-gram, k = 1 … order, ended at a token that was predicted.

    Args:
        order: the longest n-grams to count.
        vocab_size: tokens are integers in [0, vocab_size).
        bos_id: ``order − 1`` of these stand in front of each sequence, and are not predicted.
        eos_id: one of these ends each sequence, and is predicted.

    Attributes:
        keys: for each k the sorted keys, (M_k,) int64.
        counts: for each k how often, (M_k,) int32.
        continuations: for each k < order, N1+(• g): how many different tokens stood in front of
            the k-gram g, BOS among them; (M_k,) int32.
        starts: for each k where the k-grams of each context begin: those of context number j are
            ``starts[k − 1][j]`` to ``starts[k − 1][j + 1]``.
    """

    def __init__(self, order: int, vocab_size: int, bos_id: int, eos_id: int) -> None:
        self.order, self.vocab_size = order, vocab_size
        self.bos_id, self.eos_id = bos_id, eos_id
        self.keys: list[Array] = []
        self.counts: list[Array] = []
        self.continuations: list[Array] = []
        self.starts: list[Array] = []

    def fit(self, sequences: Iterable[Any]) -> None:
        """Count the n-grams of some sequences, in place of those counted before."""
        stream, targets = self.stream(sequences)
        self.keys, self.counts, self.continuations = [], [], []
        # Which (k − 1)-gram ends at each position of the stream; the empty one has number 0.
        before = np.zeros(len(stream), dtype=np.int64)
        for k in range(1, self.order + 1):
            key = before[targets - 1] * self.vocab_size + stream[targets]
            keys, numbers, counts = np.unique(key, return_inverse=True, return_counts=True)
            self.keys.append(keys)
            self.counts.append(counts.astype(COUNT))
            if k > 1:
                # Each k-gram is one way to extend its last k − 1 tokens to the left.
                suffix = np.empty(len(keys), dtype=np.int64)
                suffix[numbers] = before[targets]
                shorter = np.bincount(suffix, minlength=len(self.keys[k - 2]))
                self.continuations.append(shorter.astype(COUNT))
            before = np.full(len(stream), len(keys), dtype=np.int64)
            before[targets] = numbers
        self.set_starts()

    def set_starts(self) -> None:
        """Work out ``starts`` from the keys."""
        self.starts = []
        for k, keys in enumerate(self.keys, start=1):
            contexts = np.arange(self.num_contexts(k) + 1, dtype=np.int64)
            self.starts.append(np.searchsorted(keys, contexts * self.vocab_size).astype(COUNT))

    def num_contexts(self, k: int) -> int:
        """How many contexts k-grams have: one without tokens, or the (k − 1)-grams and all BOS."""
        return 1 if k == 1 else len(self.keys[k - 2]) + 1

    def shortened(self, order: int) -> NGramCounts:
        """The counts of a lower order, on the same arrays: those of k ≤ order are the same."""
        shorter = NGramCounts(order, self.vocab_size, self.bos_id, self.eos_id)
        shorter.keys, shorter.counts = self.keys[:order], self.counts[:order]
        shorter.continuations, shorter.starts = self.continuations[: order - 1], self.starts[:order]
        return shorter

    def tokens(self, k: int) -> Array:
        """(M_k, k): the tokens of every k-gram, in the order of their numbers."""
        if k == 0:
            return np.empty((1, 0), dtype=np.int64)
        # The context that is all BOS, without tokens for k = 1, stands behind those with a key.
        contexts = self.tokens(k - 1)
        if k > 1:
            contexts = np.concatenate([contexts, np.full((1, k - 1), self.bos_id)])
        context, token = np.divmod(self.keys[k - 1], self.vocab_size)
        return np.column_stack([contexts[context], token])

    def stream(self, sequences: Iterable[Any]) -> tuple[Array, Array]:
        """Lay the sequences out one after another, padded.

        Args:
            sequences: each a list, array or tensor of token ids, without BOS and EOS.

        Returns:
            tokens (N,) int64, ``order − 1`` BOS in front of each sequence and EOS behind it; and
            the positions (T,) in it of the tokens that are predicted, i.e. all but BOS.

        Raises:
            TypeError, ValueError: none at all, not one-dimensional, not integers, outside the
                vocabulary, or BOS or EOS among them.
        """
        if isinstance(sequences, str | bytes) or not isinstance(sequences, Iterable):
            raise TypeError(
                f"sequences must be several sequences of token ids, got {type(sequences).__name__}"
            )
        arrays = [token_array("sequences", sequence, self.vocab_size) for sequence in sequences]
        if not arrays:
            raise ValueError("sequences must hold at least one sequence, got none")
        tokens = np.concatenate(arrays)
        for name, special in (("bos_id", self.bos_id), ("eos_id", self.eos_id)):
            if (tokens == special).any():
                raise ValueError(
                    f"sequences must not hold {name}={special}, which the model itself puts there"
                )
        lengths = np.array([len(array) for array in arrays])
        size = len(tokens) + self.order * len(arrays)
        if size >= np.iinfo(COUNT).max:
            raise ValueError(f"sequences must hold below 2**31 tokens in all, got {size}")
        ends = np.cumsum(lengths + 1) - 1
        predicted = np.full(len(tokens) + len(arrays), self.eos_id, dtype=np.int64)
        predicted[np.delete(np.arange(len(predicted)), ends)] = tokens
        # In the stream a token is pushed back by the BOS of its own sequence and those before it.
        index = np.repeat(np.arange(1, len(arrays) + 1), lengths + 1)
        targets = np.arange(len(predicted)) + index * (self.order - 1)
        stream = np.full(size, self.bos_id, dtype=np.int64)
        stream[targets] = predicted
        return stream, targets

    def find(self, k: int, context: Array, token: Array) -> Array:
        """The numbers of the k-grams that these contexts and tokens make.

        Args:
            context: (m,) numbers of (k − 1)-grams, −1 for one that was not seen.
            token: (m,) token ids.

        Returns:
            (m,) numbers, −1 for a k-gram that was not seen.
        """
        keys, wanted = self.keys[k - 1], context * self.vocab_size + token
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(keys[at] == wanted, at, -1)

    def extend(self, k: int, context: Array, token: Array) -> Array:
        """As `find`, for k-grams that are contexts in their turn: all BOS has a number as well."""
        start = 0 if k == 1 else len(self.keys[k - 2])
        all_bos = (context == start) & (token == self.bos_id)
        return np.where(all_bos, len(self.keys[k - 1]), self.find(k, context, token))

    def context_numbers(self, contexts: Array) -> list[Array]:
        """The numbers of the last 0, 1, … L tokens of each context.

        Args:
            contexts: (m, L) token ids, L < order.

        Returns:
            L + 1 arrays (m,), −1 where that many tokens were never seen as a context.
        """
        m, length = contexts.shape
        numbers = []
        for size in range(length + 1):
            number = np.zeros(m, dtype=np.int64)
            for k in range(1, size + 1):
                number = self.extend(k, number, contexts[:, length - size + k - 1])
            numbers.append(number)
        return numbers

    def stream_numbers(self, sequences: Iterable[Any]) -> tuple[list[Array], list[Array]]:
        """For every predicted token of some sequences its contexts and its k-grams.

        Returns:
            for each k = 1 … order the numbers (T,) of the k − 1 tokens in front, and those of the
            k-grams that end at the token; −1 for what was not seen.
        """
        stream, targets = self.stream(sequences)
        token = stream[targets]
        before = np.zeros(len(stream), dtype=np.int64)
        contexts, grams = [], []
        for k in range(1, self.order + 1):
            contexts.append(before[targets - 1])
            grams.append(self.find(k, contexts[-1], token))
            before = np.full(len(stream), len(self.keys[k - 1]), dtype=np.int64)
            before[targets] = grams[-1]
        return contexts, grams

    def children(self, k: int, context: Array) -> tuple[Array, Array]:
        """The k-grams that begin with these contexts.

        Args:
            context: (m,) numbers of (k − 1)-grams that were seen.

        Returns:
            the numbers (c,) of the k-grams, and for each the row (c,) of its context.
        """
        starts = self.starts[k - 1].astype(np.int64)
        first, size = starts[context], starts[context + 1] - starts[context]
        row = np.repeat(np.arange(len(context)), size)
        within = np.arange(len(row)) - np.repeat(np.cumsum(size) - size, size)
        return first[row] + within, row


def token_array(name: str, tokens: Any, vocab_size: int) -> Array:
    """One sequence of token ids as (n,) int64, each in [0, vocab_size)."""
    if isinstance(tokens, Tensor):
        tokens = tokens.detach().cpu().numpy()
    array = np.asarray(tokens)
    if array.size == 0:
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must hold integer token ids, got {array.dtype}")
    if array.ndim != 1:
        raise ValueError(f"{name} must be of one dimension each, got shape {array.shape}")
    if array.size and not (array.min() >= 0 and array.max() < vocab_size):
        wrong = array.min() if array.min() < 0 else array.max()
        raise ValueError(f"{name} must hold ids from 0 to {vocab_size - 1}, got {wrong}")
    return array.astype(np.int64, copy=False)
