"""What the poem BERT reads: lines, couplets and whole poems, with next-sentence pairs."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

import numpy as np
import torch

from lmlib.bert import IGNORED, MaskingCollator, PreTrainingBatch, join_pair
from lmlib.datasets import Poem
from lmlib.tokenizers import SPECIALS, Tokenizer

ALL_SPECIALS = (*SPECIALS, "[CLS]", "[SEP]", "[MASK]")
PAD, BOS, EOS, UNK, CLS, SEP, MASK = range(7)


class Passages:
    """Everything that is read of some poems; an example is a number, from 0.

    Of each poem the pairs of lines that make a couplet, the pairs of neighbouring couplets, each
    couplet alone, and the whole. Examples of the same kind have numbers in a row.

    Args:
        tokenizer: from `make_tokenizer`.
        poems: of the regular forms.

    Attributes:
        lengths: (n,) tokens of each example, with [CLS] and [SEP].
        pairs: the numbers of the examples that have a sentence B, in order.
    """

    def __init__(self, tokenizer: Tokenizer, poems: Iterable[Poem]) -> None:
        text, table = array("H"), array("i")
        for number, poem in enumerate(poems):
            start = len(text)
            text.extend(tokenizer.encode(poem.text))
            line = len(poem.lines[0]) + 1  # with its punctuation mark
            table.extend((number, start, len(text) - start, 0))
            for at in range(start, len(text), 2 * line):
                table.extend((number, at, line, line))
                table.extend((number, at, 2 * line, 0))
                if at + 2 * line < len(text):
                    table.extend((number, at, 2 * line, 2 * line))
        self._text = np.frombuffer(text, dtype=np.uint16)
        rows = np.frombuffer(table, dtype=np.int32).reshape(-1, 4)
        rows = rows[np.lexsort((rows[:, 3], rows[:, 2]))]
        self._poem, self._start, self._first, self._second = rows.T
        kinds = self._first * 1000 + self._second
        self._low, self._high = (np.searchsorted(kinds, kinds, side) for side in ("left", "right"))
        self.lengths = self._first + self._second + 2 + (self._second > 0)
        self.pairs = np.flatnonzero(self._second).tolist()

    def __len__(self) -> int:
        return len(self._poem)

    def first(self, number: int) -> list[int]:
        """The ids of sentence A of an example."""
        start = self._start[number]
        return self._text[start : start + self._first[number]].tolist()

    def second(self, number: int) -> list[int]:
        """The ids of sentence B, which is empty where there is none."""
        start = self._start[number] + self._first[number]
        return self._text[start : start + self._second[number]].tolist()

    def stranger(self, number: int, draw: int) -> list[int]:
        """A sentence B of another poem, from the same place in a pair of the same kind.

        Args:
            number: of an example that has a B.
            draw: a random number, from 0; the larger its range, the more alike the chances.

        Raises:
            ValueError: no other poem has one.
        """
        low, high = int(self._low[number]), int(self._high[number])
        for step in range(high - low):
            other = low + (draw + step) % (high - low)
            if self._poem[other] != self._poem[number]:
                return self.second(other)
        raise ValueError("there must be at least two poems of each form, to draw from another")


class PassageCollator:
    """Numbers of examples → a batch: in half of the pairs B is replaced, then tokens are masked.

    Args:
        passages: the examples.
        vocab_size: of the tokenizer.
        rate: share of the characters to predict.
    """

    def __init__(self, passages: Passages, vocab_size: int, rate: float) -> None:
        self.passages = passages
        specials = range(len(ALL_SPECIALS))
        self.masking = MaskingCollator(vocab_size, MASK, specials, pad_id=PAD, rate=rate)

    def __call__(self, numbers: Sequence[int], *, generator: torch.Generator) -> PreTrainingBatch:
        """
        Args:
            numbers: of the examples.
            generator: draws everything.

        Returns:
            The batch; the next-sentence label of an example without B is `IGNORED`.
        """
        draws = torch.randint(2**62, (len(numbers), 2), generator=generator).tolist()
        sequences, segments, labels = [], [], []
        for number, (coin, draw) in zip(numbers, draws, strict=True):
            first, second = self.passages.first(number), self.passages.second(number)
            label = coin % 2 if second else IGNORED
            if label == 1:
                second = self.passages.stranger(number, draw)
            token_ids, segment_ids = framed(first, second)
            sequences.append(token_ids)
            segments.append(segment_ids)
            labels.append(label)
        batch = self.masking(sequences, segments, generator=generator)
        return batch._replace(nsp_labels=torch.tensor(labels))


def framed(first: Sequence[int], second: Sequence[int] = ()) -> tuple[list[int], list[int]]:
    """Token ids [CLS] A [SEP] B [SEP], or [CLS] A [SEP], and their segment ids.

    Args:
        first: ids of A.
        second: ids of B, if there is one.
    """
    if second:
        longest = len(first) + len(second) + 3
        return join_pair(first, second, cls_id=CLS, sep_id=SEP, max_seq_len=longest)
    return [CLS, *first, SEP], [0] * (len(first) + 2)
