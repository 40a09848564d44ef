"""Metrics: perplexity and bits per character, BLEU and chrF, accuracy and F1, distinct-n, copying.

All return plain numbers, and refuse to average over nothing.

>>> logits = torch.zeros(1, 3, 8)  # eight tokens, all equally likely
>>> round(perplexity(logits, torch.tensor([[5, 6, 7]])), 4)
8.0
>>> f1([1, 1, 0, 0], [1, 0, 1, 0])
0.5
>>> distinct_n(["春眠不觉晓", "春眠"], n=2)  # 春眠 twice
0.8
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lmlib._checks import (
    INTEGER_DTYPES,
    check_choice,
    check_not_negative,
    check_positive,
    check_tensor,
)
from lmlib._classification import accuracy, check_some, confusion_matrix, f1

__all__ = [
    "BleuScore",
    "ChrfScore",
    "accuracy",
    "bits_per_character",
    "bleu",
    "chrf",
    "confusion_matrix",
    "copied_line_rate",
    "cross_entropy",
    "distinct_n",
    "f1",
    "perplexity",
    "perplexity_from_nll",
]

# Those of sacrebleu that need neither a download nor a package of their own.
TOKENIZERS = ("13a", "zh", "char", "intl", "none")


# ------------------------------------------------------------------ language models


def cross_entropy(
    logits: Tensor, targets: Tensor, ignore_id: int | None = None, *, average: str = "token"
) -> float:
    """Mean of −log P of the targets, in nats.

    Args:
        logits: (batch, n, vocab_size); with average="token" any (..., vocab_size).
        targets: (batch, n) token ids, or (...).
        ignore_id: targets of this id, such as padding, do not count.
        average: "token" gives each token the same weight, as perplexity does. "sequence" takes
            the mean of each row first, and then the mean of the rows that have a token: so a
            token of a short sequence weighs more.

    Raises:
        TypeError, ValueError: shapes or dtypes that do not fit; a target outside the vocabulary;
            no target left.
    """
    check_choice("average", average, ("token", "sequence"))
    nll, kept = _token_nll(logits, targets, ignore_id)
    if average == "token":
        return float(nll.sum() / kept.sum())
    if targets.dim() != 2:
        raise ValueError(
            "targets must have shape (batch, n) with average='sequence', "
            f"got {tuple(targets.shape)}"
        )
    lengths = kept.sum(dim=1)
    return float((nll.sum(dim=1)[lengths > 0] / lengths[lengths > 0]).mean())


def perplexity(logits: Tensor, targets: Tensor, ignore_id: int | None = None) -> float:
    """exp of the mean of −log P over all targets: `cross_entropy` of average="token".

    The perplexity of several batches is not the mean of theirs: add up their nats and tokens, and
    take `perplexity_from_nll`.

    Args:
        logits: (..., vocab_size).
        targets: (...) token ids.
        ignore_id: targets of this id, such as padding, do not count.

    Returns:
        at least 1; ``inf`` where a target has probability 0.
    """
    nll, kept = _token_nll(logits, targets, ignore_id)
    return perplexity_from_nll(float(nll.sum()), int(kept.sum()))


def perplexity_from_nll(total_nll: float, num_tokens: int) -> float:
    """exp(total_nll / num_tokens), where ``total_nll`` is the sum of −log P in nats."""
    check_positive("num_tokens", num_tokens)
    _check_nll(total_nll)
    try:
        return math.exp(total_nll / num_tokens)
    except OverflowError:
        return math.inf


def bits_per_character(total_nll: float, num_characters: int) -> float:
    """total_nll / (num_characters · ln 2): what models of different tokenizers are compared by.

    Args:
        total_nll: the sum of −log P over all tokens of a text, in nats.
        num_characters: of that text, however many tokens it was.
    """
    check_positive("num_characters", num_characters)
    _check_nll(total_nll)
    return total_nll / (num_characters * math.log(2))


def distinct_n(sequences: Iterable[Sequence[Any]], n: int) -> float:
    """Number of different n-grams over the number of n-grams, of all sequences together.

    (As it is commonly computed. Li et al. 2016, who brought it up, divide by the number of tokens.)

    Args:
        sequences: texts, or lists or tensors (m,) of tokens; no n-gram goes across two of them.
        n: length of the n-grams.

    Returns:
        in (0, 1]: 1 where nothing repeats. Longer texts repeat more, so compare equal amounts.

    Raises:
        ValueError: no sequence has n tokens.
    """
    check_positive("n", n)
    grams = [
        tuple(sequence[i : i + n])
        for sequence in map(_hashable, _several("sequences", sequences))
        for i in range(len(sequence) - n + 1)
    ]
    if not grams:
        raise ValueError(f"sequences must hold one of at least n={n} tokens, got none")
    return len(set(grams)) / len(grams)


def _hashable(sequence: Sequence[Any] | Tensor) -> Sequence[Any]:
    # Numbers in a tensor are tensors, each different from all others in a set.
    return sequence.tolist() if isinstance(sequence, Tensor) else sequence


def copied_line_rate(lines: Iterable[str], training_lines: Iterable[str]) -> float:
    """The share of the lines written that stand in the training text, word for word.

    Space around a line does not count, nor do empty lines.

    Args:
        lines: what the model wrote, each as often as it wrote it.
        training_lines: the lines it learned from, split alike.

    Raises:
        ValueError: no line that is not empty.
    """
    known = {line.strip() for line in _several("training_lines", training_lines)}
    written = [line.strip() for line in _several("lines", lines)]
    written = [line for line in written if line]
    if not written:
        raise ValueError("lines must hold at least one line that is not empty, got none")
    return sum(line in known for line in written) / len(written)


# ------------------------------------------------------------------ translation


class BleuScore(NamedTuple):
    """BLEU, what it was made of, and how, in sacrebleu's words.

    Attributes:
        score: 0 … 100.
        precisions: of n-grams of length 1 … 4, 0 … 100 each.
        brevity_penalty: below 1 where the hypotheses are shorter than the references.
        signature: to be given along with the score (Post 2018).
    """

    score: float
    precisions: tuple[float, ...]
    brevity_penalty: float
    signature: str


class ChrfScore(NamedTuple):
    """chrF, and how it was computed, in sacrebleu's words.

    Attributes:
        score: 0 … 100.
        signature: to be given along with the score (Post 2018).
    """

    score: float
    signature: str


def bleu(
    hypotheses: Sequence[str],
    references: Sequence[str | Sequence[str]],
    *,
    tokenize: str = "13a",
    lowercase: bool = False,
) -> BleuScore:
    """Corpus BLEU (Papineni et al. 2002) as sacrebleu computes it (Post 2018).

    Args:
        hypotheses: one text each.
        references: for each hypothesis one text, or several.
        tokenize: how texts are cut into words: "13a" for European languages, "zh" for Chinese
            (each Chinese character a word), "char" for single characters, "intl", "none".
        lowercase: do not tell small letters from capital ones.

    Raises:
        TypeError, ValueError: no hypotheses, not as many references, another tokenizer.
    """
    check_choice("tokenize", tokenize, TOKENIZERS)
    from sacrebleu.metrics import BLEU

    metric = BLEU(tokenize=tokenize, lowercase=lowercase)
    result = metric.corpus_score(*_translations(hypotheses, references))
    signature = str(metric.get_signature())
    return BleuScore(result.score, tuple(result.precisions), result.bp, signature)


def chrf(
    hypotheses: Sequence[str],
    references: Sequence[str | Sequence[str]],
    *,
    char_order: int = 6,
    word_order: int = 0,
    beta: int = 2,
) -> ChrfScore:
    """chrF (Popović 2015), an F-score of character n-grams, as sacrebleu computes it.

    It needs no tokenizer, which suits Chinese.

    Args:
        hypotheses: one text each.
        references: for each hypothesis one text, or several.
        char_order: the longest n-grams of characters.
        word_order: the longest n-grams of words; 2 makes it chrF++ (Popović 2017).
        beta: how many times as much recall counts as precision.

    Raises:
        TypeError, ValueError: no hypotheses, not as many references.
    """
    check_positive("char_order", char_order)
    check_not_negative("word_order", word_order)
    check_positive("beta", beta)
    from sacrebleu.metrics import CHRF

    metric = CHRF(char_order=char_order, word_order=word_order, beta=beta)
    result = metric.corpus_score(*_translations(hypotheses, references))
    return ChrfScore(result.score, str(metric.get_signature()))


# ------------------------------------------------------------------ inputs


def _token_nll(logits: Tensor, targets: Tensor, ignore_id: int | None) -> tuple[Tensor, Tensor]:
    """−log P of each target, 0 where it is ignored, and where it is not: (...) each."""
    check_tensor("logits", logits, "..., vocab_size")
    if not isinstance(targets, Tensor) or targets.dtype not in INTEGER_DTYPES:
        raise TypeError(
            "targets must be a tensor of integer token ids, "
            f"got {getattr(targets, 'dtype', type(targets).__name__)}"
        )
    if logits.shape[:-1] != targets.shape:
        raise ValueError(
            "targets must have the shape of logits without vocab_size, "
            f"{tuple(logits.shape[:-1])}, got {tuple(targets.shape)}"
        )
    kept = torch.ones_like(targets, dtype=torch.bool) if ignore_id is None else targets != ignore_id
    check_some(kept)
    wanted = targets.masked_fill(~kept, 0).long()
    if int(wanted.min()) < 0 or int(wanted.max()) >= logits.shape[-1]:
        wrong = int(wanted.min()) if int(wanted.min()) < 0 else int(wanted.max())
        raise ValueError(f"targets must hold ids from 0 to {logits.shape[-1] - 1}, got {wrong}")
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    flat = logits.reshape(-1, logits.shape[-1])
    nll = F.cross_entropy(flat, wanted.flatten(), reduction="none")
    # To be added up in double precision: a long text would lose digits in single.
    return nll.reshape(targets.shape).double().masked_fill(~kept, 0.0), kept


def _translations(
    hypotheses: Sequence[str], references: Sequence[str | Sequence[str]]
) -> tuple[list[str], list[list[str | None]]]:
    """As sacrebleu wants them: first references of all, second ones of all …, None for missing."""
    hypotheses = _several("hypotheses", hypotheses)
    rows = [
        [row] if isinstance(row, str) else list(row) for row in _several("references", references)
    ]
    if not hypotheses:
        raise ValueError("hypotheses must hold at least one text, got none")
    if len(rows) != len(hypotheses):
        raise ValueError(
            f"references must be as many as the hypotheses, {len(hypotheses)}, got {len(rows)}"
        )
    if not all(rows):
        raise ValueError("references must give at least one text for each hypothesis")
    if not all(isinstance(text, str) for row in [hypotheses, *rows] for text in row):
        raise TypeError("hypotheses and references must be texts (str)")
    most = max(map(len, rows))
    return hypotheses, [[row[i] if i < len(row) else None for row in rows] for i in range(most)]


def _several(name: str, values: Iterable[Any]) -> list[Any]:
    """A list of texts or sequences: one text alone, whose items are characters, is a mistake."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a list of several, got {type(values).__name__}")
    return list(values)


def _check_nll(total_nll: float) -> None:
    if not total_nll >= 0:
        raise ValueError(f"total_nll must not be negative, got {total_nll}")
