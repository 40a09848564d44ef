"""Characters as tokens, and the sequences that `review_bert` reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from lmlib.bert import BertModel, MaskingCollator
from lmlib.datasets import Review, split_sentences
from lmlib.tokenizers import CharTokenizer

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


def masking(tokenizer: CharTokenizer, rate: float) -> MaskingCollator:
    """Masks characters, and no special token.

    Args:
        tokenizer: from `train_tokenizer`.
        rate: share of the characters to predict.
    """
    specials = (PAD, CLS, SEP, UNK)
    return MaskingCollator(tokenizer.vocab_size, MASK, specials, rate=rate, pad_id=PAD)


def mean_hidden(bert: BertModel, token_ids: Tensor, pad_id: int = PAD) -> Tensor:
    """The mean of the last hidden states over what is no padding: (batch, d_model).

    Args:
        bert: the model.
        token_ids: (batch, n), padding behind.
        pad_id: what they are filled up with; the model's.
    """
    mask = (token_ids != pad_id).unsqueeze(-1)  # (batch, n, 1)
    hidden = bert(token_ids).hidden.masked_fill(~mask, 0.0)  # (batch, n, d_model)
    return hidden.sum(dim=1) / mask.sum(dim=1)


def padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """(batch, n): each row filled up with <pad>.

    Args:
        rows: of token ids.
    """
    tensors = [torch.tensor(row) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=PAD)


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
