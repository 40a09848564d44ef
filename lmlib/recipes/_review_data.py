"""Characters as tokens, sequences, and batches of about one length: for `review_bert`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from lmlib.datasets import Review, split_sentences
from lmlib.tokenizers import CharTokenizer
from lmlib.training import epoch_order

SPECIALS = ("<pad>", "<cls>", "<sep>", "<mask>", "<unk>")
PAD, CLS, SEP, MASK, UNK = range(len(SPECIALS))

Sequence_ = list[int]


def train_tokenizer(texts: Iterable[str], min_count: int) -> CharTokenizer:
    """The characters of the training texts, small letters only.

    Args:
        texts: of the training parts.
        min_count: rarer characters are <unk>.
    """
    return CharTokenizer.train(map(str.lower, texts), min_count=min_count, specials=SPECIALS)


def review_ids(tokenizer: CharTokenizer, text: str, max_seq_len: int) -> Sequence_:
    """<cls> text <sep>; of a long text its beginning and its end, where the verdict often stands.

    As Sun et al. 2019, "How to Fine-Tune BERT for Text Classification?", §5.3.1, found best; here
    both ends alike.

    Args:
        tokenizer: from `train_tokenizer`.
        text: a review.
        max_seq_len: of the whole.
    """
    ids = tokenizer.encode(text.lower())
    room = max_seq_len - 2
    if len(ids) > room:
        ids = ids[: room - room // 2] + ids[-(room // 2) :]
    return [CLS, *ids, SEP]


def pretraining_sequences(
    tokenizer: CharTokenizer, reviews: Iterable[str], news: Iterable[str], max_seq_len: int
) -> list[Sequence_]:
    """<cls> … <sep>, each as many whole sentences of a review or an article as there is room for.

    Args:
        tokenizer: from `train_tokenizer`.
        reviews: texts.
        news: documents of consecutive sentences.
        max_seq_len: of a sequence; a sentence that is longer alone is cut into pieces.
    """
    room = max_seq_len - 2
    sequences = []
    for text in (*reviews, *news):
        current: Sequence_ = []
        for sentence in split_sentences(text):
            ids = tokenizer.encode(sentence.lower())
            for first in range(0, len(ids), room):
                piece = ids[first : first + room]
                if len(current) + len(piece) > room:
                    sequences.append([CLS, *current, SEP])
                    current = []
                current += piece
        if current:
            sequences.append([CLS, *current, SEP])
    return sequences


def padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """(batch, n): each row filled up with <pad>.

    Args:
        rows: of token ids.
    """
    tensors = [torch.tensor(row) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=PAD)


class LengthBatches:
    """Batches of examples of about one length, so that little is padding: number → batch.

    Each epoch has an order of its own; in it, ``window`` batches at a time are sorted by length,
    cut into batches, and these shuffled. It depends on the number and the seed alone, as
    `lmlib.training.train` wants it.

    Args:
        examples: any.
        lengths: of each.
        batch_size: examples in a batch; the last one of a window may have fewer.
        collate: makes a batch of some examples.
        seed: of the orders.
        window: how many batches are sorted together.

    Attributes:
        epoch_length: batches in an epoch.
    """

    def __init__(
        self,
        examples: Sequence[Any],
        lengths: Sequence[int],
        batch_size: int,
        collate: Callable[[list[Any]], Any],
        seed: int = 0,
        window: int = 50,
    ) -> None:
        self.examples, self.lengths = examples, lengths
        self.batch_size, self.collate, self.seed = batch_size, collate, seed
        self.window = window * batch_size
        self.epoch_length = -(-len(examples) // batch_size)
        self._epoch: tuple[int, list[list[int]]] | None = None

    def __call__(self, number: int) -> Any:
        epoch, position = divmod(number, self.epoch_length)
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = (epoch, self._batches_of(epoch))
        return self.collate([self.examples[i] for i in self._epoch[1][position]])

    def _batches_of(self, epoch: int) -> list[list[int]]:
        order = epoch_order(len(self.examples), self.seed, epoch).tolist()
        batches = []
        for first in range(0, len(order), self.window):
            part = sorted(order[first : first + self.window], key=lambda i: self.lengths[i])
            cut = [part[i : i + self.batch_size] for i in range(0, len(part), self.batch_size)]
            shuffled = epoch_order(len(cut), self.seed + 1, epoch * len(order) + first).tolist()
            batches += [cut[i] for i in shuffled]
        return batches


def labelled(
    tokenizer: CharTokenizer, reviews: Sequence[Review], max_seq_len: int
) -> list[tuple[Sequence_, int]]:
    """Token ids and label of each review.

    Args:
        tokenizer: from `train_tokenizer`.
        reviews: any.
        max_seq_len: see `review_ids`.
    """
    return [(review_ids(tokenizer, text, max_seq_len), label) for text, label in reviews]


def collate_labelled(examples: Sequence[tuple[Sequence_, int]]) -> tuple[Tensor, Tensor]:
    """token ids (batch, n) and labels (batch,).

    Args:
        examples: from `labelled`.
    """
    return padded([ids for ids, _ in examples]), torch.tensor([label for _, label in examples])


def evaluation_batches(
    examples: Sequence[tuple[Sequence_, int]], batch_size: int = 64
) -> list[tuple[Tensor, Tensor]]:
    """All of them, by length.

    Args:
        examples: from `labelled`.
        batch_size: examples in a batch.
    """
    ordered = sorted(examples, key=lambda example: len(example[0]))
    return [
        collate_labelled(ordered[i : i + batch_size]) for i in range(0, len(ordered), batch_size)
    ]
