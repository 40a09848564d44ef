"""Metrics: equal to hand-computed values, to scikit-learn and to sacrebleu; errors."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest
import sacrebleu
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from lmlib.metrics import (
    accuracy,
    bits_per_character,
    bleu,
    chrf,
    confusion_matrix,
    copied_line_rate,
    cross_entropy,
    distinct_n,
    f1,
    perplexity,
    perplexity_from_nll,
)
from lmlib.ngram import NGramModel

torch.set_num_threads(1)

# ------------------------------------------------------------------ language models


def logits_of(*probabilities: float) -> torch.Tensor:
    return torch.tensor(probabilities).log()


def test_perplexity_by_hand() -> None:
    logits = torch.stack([logits_of(0.5, 0.25, 0.25), logits_of(0.125, 0.5, 0.375)])
    # Probabilities 1/4 and 1/8: (1/32)^(−1/2). Logits need not be normalised.
    assert perplexity(logits + 7, torch.tensor([1, 0])) == pytest.approx(32**0.5)
    assert cross_entropy(logits, torch.tensor([1, 0])) == pytest.approx(math.log(32) / 2)
    assert perplexity(logits, torch.tensor([1, 0]), ignore_id=0) == pytest.approx(4)
    assert perplexity(logits, torch.tensor([-100, 0]), ignore_id=-100) == pytest.approx(8)
    assert perplexity(logits[0], torch.tensor(1)) == pytest.approx(4)


def test_perplexity_where_a_target_is_impossible_is_infinite() -> None:
    assert perplexity(logits_of(0.0, 1.0)[None], torch.tensor([0])) == math.inf
    assert perplexity_from_nll(1e6, 1) == math.inf
    assert perplexity_from_nll(math.inf, 3) == math.inf
    assert perplexity_from_nll(709.5, 1) == math.exp(709.5)  # the largest floats are numbers yet
    assert perplexity_from_nll(0.0, 3) == 1.0
    assert perplexity_from_nll(3 * math.log(5), 3) == pytest.approx(5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_cross_entropy_is_torchs(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 7, generator=generator).to(dtype)
    targets = torch.randint(0, 7, (3, 5), generator=generator)
    expected = F.cross_entropy(logits.flatten(0, 1).double(), targets.flatten(), ignore_index=2)
    assert cross_entropy(logits, targets, 2) == pytest.approx(float(expected), rel=1e-6)
    assert perplexity(logits, targets, 2) == pytest.approx(float(expected.exp()), rel=1e-6)


def test_averages_weigh_tokens_or_sequences_alike() -> None:
    # −log P is 0, 0, 0 in the first row and log 2 for the only token of the second.
    logits = torch.full((3, 3, 2), 0.0)
    logits[0, :, 0] = 1e4
    targets = torch.tensor([[0, 0, 0], [0, 9, 9], [9, 9, 9]])
    assert cross_entropy(logits, targets, 9) == pytest.approx(math.log(2) / 4)
    assert cross_entropy(logits, targets, 9, average="sequence") == pytest.approx(math.log(2) / 2)


def test_the_perplexity_of_an_ngram_models_logits_is_its_own() -> None:
    model = NGramModel(3, 9, smoothing="kneser_ney").fit([[3, 4, 5], [3, 4], [4, 4, 6]])
    sequence = [3, 4, 6]
    logits = model(torch.tensor([[1, *sequence]]))
    assert perplexity(logits, torch.tensor([[*sequence, 2]])) == pytest.approx(
        model.perplexity([sequence]), rel=1e-5
    )
    nll = -model.log_prob(sequence)
    assert perplexity_from_nll(nll, 4) == pytest.approx(model.perplexity([sequence]))


def test_bits_per_character() -> None:
    assert bits_per_character(8 * math.log(2), 4) == pytest.approx(2)
    # A model of characters: log2 of its perplexity.
    assert bits_per_character(5 * math.log(10), 5) == pytest.approx(math.log2(10))


def test_distinct_n() -> None:
    assert distinct_n(["aab", "ab"], 1) == pytest.approx(2 / 5)
    assert distinct_n(["aab", "ab"], 2) == pytest.approx(2 / 3)  # aa ab ab: none across texts
    assert distinct_n([[1, 2, 3], [3, 2, 1]], 2) == 1.0
    assert distinct_n([["春", "眠"], [1, 2], []], 2) == 1.0
    # What a model generates is a tensor, whose items a set would take for different ones.
    assert distinct_n(torch.tensor([[1, 1, 2], [1, 2, 2]]), 1) == pytest.approx(2 / 6)
    assert distinct_n([torch.tensor([1, 1]), torch.tensor([1, 1])], 2) == pytest.approx(1 / 2)


def test_copied_line_rate() -> None:
    training = ["床前明月光\n", "疑是地上霜", "举头望明月"]
    assert copied_line_rate(["床前明月光", " 疑是地上霜 ", "低头思故乡", ""], training) == 2 / 3
    assert copied_line_rate(iter(["明月光"]), iter(training)) == 0.0
    assert copied_line_rate(["疑是地上霜", "疑是地上霜", "新"], training) == 2 / 3
    assert copied_line_rate(["新"], []) == 0.0


# ------------------------------------------------------------------ translation


HYPOTHESES = ["The cat sat on a mat , today.", "it rains", "我爱北京天安门。"]
REFERENCES = ["The cat sat on the mat, today.", "It rained", "我爱天安门。"]


@pytest.mark.parametrize("tokenize", ["13a", "zh", "char", "intl", "none"])
@pytest.mark.parametrize("lowercase", [False, True])
def test_bleu_is_sacrebleus(tokenize: str, lowercase: bool) -> None:
    expected = sacrebleu.corpus_bleu(
        HYPOTHESES, [REFERENCES], tokenize=tokenize, lowercase=lowercase
    )
    got = bleu(HYPOTHESES, REFERENCES, tokenize=tokenize, lowercase=lowercase)
    assert got.score == pytest.approx(expected.score)
    assert list(got.precisions) == pytest.approx(expected.precisions)
    assert got.brevity_penalty == pytest.approx(expected.bp)
    assert f"tok:{tokenize}|" in got.signature
    assert ("case:lc" if lowercase else "case:mixed") in got.signature
    assert f"version:{sacrebleu.__version__}" in got.signature


def test_bleu_by_hand() -> None:
    # 5 words of 6: precisions 5/5, 4/4, 3/3, 2/2, so only the brevity penalty exp(1 − 6/5) is left.
    score = bleu(["a b c d e"], ["a b c d e f"])
    assert score.score == pytest.approx(100 * math.exp(1 - 6 / 5))
    assert score.precisions == (100.0,) * 4
    assert score.brevity_penalty == pytest.approx(math.exp(-0.2))
    assert bleu(["我爱北京"], ["我爱北京"], tokenize="zh").score == pytest.approx(100)
    # Without it a Chinese sentence is one word, and there is no 2-gram.
    assert bleu(["我爱北京"], ["我爱北京"]).score < 100


def test_several_references_for_one_hypothesis() -> None:
    many = [["The cat sat on the mat, today.", "The cat is here."], ["It rained"], REFERENCES[2]]
    streams = [REFERENCES, ["The cat is here.", None, None]]
    expected = sacrebleu.corpus_bleu(HYPOTHESES, streams)
    assert bleu(HYPOTHESES, many).score == pytest.approx(expected.score)
    assert "nrefs:var" in bleu(HYPOTHESES, many).signature
    assert chrf(HYPOTHESES, many).score == pytest.approx(
        sacrebleu.corpus_chrf(HYPOTHESES, streams).score
    )
    twice = [["a b c d", "x y z w"]]
    assert bleu(["x y z w"], twice).score == pytest.approx(100)


@pytest.mark.parametrize("options", [{}, {"char_order": 3}, {"word_order": 2}, {"beta": 1}])
def test_chrf_is_sacrebleus(options: dict[str, int]) -> None:
    expected = sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES], **options)
    got = chrf(HYPOTHESES, REFERENCES, **options)
    assert got.score == pytest.approx(expected.score)
    assert f"nc:{options.get('char_order', 6)}|nw:{options.get('word_order', 0)}" in got.signature


# ------------------------------------------------------------------ classification


@pytest.mark.filterwarnings("ignore:A single label was found")
@settings(max_examples=60, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=20),
    num_classes=st.sampled_from([None, 5, 7]),
    as_tensor=st.booleans(),
)
def test_classification_is_scikit_learns(
    pairs: list[tuple[int, int]], num_classes: int | None, as_tensor: bool
) -> None:
    predictions, targets = (list(ids) for ids in zip(*pairs, strict=True))
    given_ids: list[Any] = [
        torch.tensor(ids) if as_tensor else ids for ids in (predictions, targets)
    ]
    assert accuracy(*given_ids) == pytest.approx(
        sklearn_metrics.accuracy_score(targets, predictions)
    )
    labels = list(range(num_classes or max(predictions + targets) + 1))
    matrix = confusion_matrix(*given_ids, num_classes)
    expected = sklearn_metrics.confusion_matrix(targets, predictions, labels=labels)
    assert matrix.tolist() == expected.tolist()
    for average in ("macro", "micro"):
        score = sklearn_metrics.f1_score(
            targets,
            predictions,
            average=average,
            labels=None if num_classes is None else labels,
            zero_division=0,
        )
        assert f1(*given_ids, average=average, num_classes=num_classes) == pytest.approx(score)


@settings(max_examples=40, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=12),
    positive=st.integers(0, 1),
)
def test_binary_f1_is_scikit_learns(pairs: list[tuple[int, int]], positive: int) -> None:
    predictions, targets = (list(ids) for ids in zip(*pairs, strict=True))
    expected = sklearn_metrics.f1_score(
        targets, predictions, labels=[positive], average="macro", zero_division=0
    )
    assert f1(predictions, targets, positive=positive) == pytest.approx(expected)
    assert f1([bool(p) for p in predictions], [bool(t) for t in targets]) == pytest.approx(
        f1(predictions, targets)
    )


def test_ignored_targets_do_not_count() -> None:
    predictions, targets = torch.tensor([[1, 0], [5, 1]]), torch.tensor([[1, 1], [-100, 0]])
    assert accuracy(predictions, targets, ignore_id=-100) == pytest.approx(1 / 3)
    assert confusion_matrix(predictions, targets, ignore_id=-100).tolist() == [[0, 1], [1, 1]]
    assert f1(predictions, targets, ignore_id=-100) == pytest.approx(0.5)


# ------------------------------------------------------------------ errors at the door


LOGITS, TARGETS = torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.long)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: perplexity(LOGITS, TARGETS[:1]),
            ValueError,
            r"targets must have the shape of log",
        ),
        (lambda: perplexity(LOGITS, TARGETS + 4), ValueError, "targets must hold ids from 0 to 3"),
        (lambda: perplexity(LOGITS, TARGETS - 1), ValueError, "targets must hold .* got -1"),
        (lambda: perplexity(LOGITS, TARGETS, 0), ValueError, "targets must hold at least one that"),
        (lambda: perplexity(LOGITS[:0], TARGETS[:0]), ValueError, "targets must hold at least one"),
        (lambda: perplexity(LOGITS, TARGETS.float()), TypeError, "targets must be a tensor of int"),
        (lambda: perplexity(LOGITS, [[0] * 3] * 2), TypeError, "targets must be .* got list"),
        (lambda: perplexity(LOGITS.long(), TARGETS), TypeError, "logits must be a floating-point"),
        (
            lambda: cross_entropy(LOGITS, TARGETS, average="mean"),
            ValueError,
            r"average must be one of \['token', 'sequence'\], got 'mean'",
        ),
        (
            lambda: cross_entropy(LOGITS[0], TARGETS[0], average="sequence"),
            ValueError,
            r"targets must have shape \(batch, n\) with average='sequence', got \(3,\)",
        ),
        (lambda: perplexity_from_nll(1.0, 0), ValueError, "num_tokens must be at least 1, got 0"),
        (lambda: perplexity_from_nll(-1.0, 2), ValueError, "total_nll must not be negative"),
        (lambda: perplexity_from_nll(math.nan, 2), ValueError, "total_nll must not be neg.* nan"),
        (
            lambda: bits_per_character(1.0, 0),
            ValueError,
            "num_characters must be at least 1, got 0",
        ),
        (lambda: bits_per_character(-1.0, 2), ValueError, "total_nll must not be negative"),
        (lambda: distinct_n(["ab"], 0), ValueError, "n must be at least 1, got 0"),
        (lambda: distinct_n(["ab"], 3), ValueError, "sequences must hold one of at least n=3 tok"),
        (lambda: distinct_n("ab", 1), TypeError, "sequences must be a list of several, got str"),
        (
            lambda: copied_line_rate(["", " "], ["a"]),
            ValueError,
            "lines must hold at least one lin",
        ),
        (lambda: copied_line_rate("a", ["a"]), TypeError, "lines must be a list of several, got s"),
        (
            lambda: copied_line_rate(["a"], "a"),
            TypeError,
            "training_lines must be a list of several",
        ),
        (lambda: bleu([], []), ValueError, "hypotheses must hold at least one text, got none"),
        (lambda: bleu(["a"], ["a", "b"]), ValueError, "references must be as many .* 1, got 2"),
        (lambda: bleu("a", ["a"]), TypeError, "hypotheses must be a list of several, got str"),
        (lambda: bleu(["a"], "a"), TypeError, "references must be a list of several, got str"),
        (lambda: bleu(["a"], [[]]), ValueError, "references must give at least one text for each"),
        (lambda: bleu([1], ["a"]), TypeError, r"hypotheses and references must be texts \(str\)"),
        (lambda: bleu(["a"], ["a"], tokenize="ja"), ValueError, "tokenize must be one of"),
        (lambda: chrf([], []), ValueError, "hypotheses must hold at least one text, got none"),
        (lambda: chrf(["a"], ["a"], char_order=0), ValueError, "char_order must be at least 1"),
        (lambda: chrf(["a"], ["a"], word_order=-1), ValueError, "word_order must not be negative"),
        (lambda: chrf(["a"], ["a"], beta=0), ValueError, "beta must be at least 1, got 0"),
        (lambda: f1([1], [1], positive=-1), ValueError, "positive must not be negative, got -1"),
        (
            lambda: accuracy([], []),
            ValueError,
            "targets must hold at least one that is not ignored",
        ),
        (lambda: accuracy([1], [1, 0]), ValueError, r"predictions must have the shape of targets"),
        (
            lambda: accuracy([0.5], [1]),
            TypeError,
            "predictions must hold integer ids, got .*float32",
        ),
        (lambda: f1([1], [1], average="mean"), ValueError, "average must be one of"),
        (
            lambda: f1([0, 1, 2], [0, 1, 2]),
            ValueError,
            "average must be 'macro' or 'micro' for more",
        ),
        (lambda: f1([0], [0], num_classes=3), ValueError, "average must be 'macro' or 'micro' for"),
        (
            lambda: confusion_matrix([3], [0], 3),
            ValueError,
            "predictions and targets must hold ids from 0 to 2, got 3",
        ),
        (lambda: confusion_matrix([0], [-1]), ValueError, "must hold ids from 0 to 0, got -1"),
    ],
)
def test_wrong_inputs(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_import_does_not_load_sacrebleu() -> None:
    code = "import sys, lmlib.metrics; print('sacrebleu' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
