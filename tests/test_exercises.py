"""The graders: references pass, every seeded mistake gets the sentence that fits it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from stored_chapters import each_chapter, read
from torch import nn

from lmlib.exercises import EXERCISES, check, grade
from lmlib.metrics import perplexity_from_nll
from lmlib.ngram import NGramModel
from lmlib.transformer import Transformer, TransformerConfig

MISTAKES = [
    pytest.param(name, mistake, id=f"{name}-{number}")
    for name, exercise in EXERCISES.items()
    for number, mistake in enumerate(exercise.mistakes)
]


@pytest.mark.parametrize("name", EXERCISES)
def test_the_reference_passes(name: str) -> None:
    assert grade(name, EXERCISES[name].reference) is None


@pytest.mark.parametrize(("name", "mistake"), MISTAKES)
def test_a_known_mistake_gets_its_own_sentence(name: str, mistake: Any) -> None:
    assert grade(name, mistake.solution) == mistake.advice


@pytest.mark.parametrize("name", EXERCISES)
def test_no_two_mistakes_share_a_sentence(name: str) -> None:
    sentences = [mistake.advice for mistake in EXERCISES[name].mistakes]
    assert len(set(sentences)) == len(sentences)
    assert all(sentence.endswith("。") for sentence in sentences)


# Solutions as a reader would write them, independent of the ones the graders hold.


def _layer_norm(x, weight, bias, eps):
    return nn.functional.layer_norm(x, (x.shape[-1],), weight, bias, eps)


def _causal_head(x, W_Q, W_K, W_V):
    return nn.functional.scaled_dot_product_attention(
        (x @ W_Q)[None], (x @ W_K)[None], (x @ W_V)[None], is_causal=True
    )[0]


def _shift_right(target, bos_id):
    shifted = target.roll(1, dims=1)
    shifted[:, 0] = bos_id
    return shifted


def _parameter_count(vocab_size, d_model, d_ff, num_encoder_layers, num_decoder_layers):
    config = TransformerConfig(
        vocab_size=vocab_size,
        d_model=d_model,
        num_heads=2,
        d_ff=d_ff,
        num_encoder_layers=num_encoder_layers,
        num_decoder_layers=num_decoder_layers,
    )
    with torch.device("meta"):
        return sum(p.numel() for p in Transformer(config).parameters())


def _bigram_mle(sequences, vocab_size, bos_id, eos_id):
    if not sequences:
        return torch.zeros(vocab_size, vocab_size)
    model = NGramModel(2, vocab_size, bos_id=bos_id, eos_id=eos_id).fit(sequences)
    rows = [model.distribution([h]) for h in range(vocab_size)]
    return torch.stack([row * bool(model.followers([h])) for h, row in enumerate(rows)])


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("01.second_given_first", lambda joint: torch.einsum("abc,a->ab", joint,
            1 / torch.einsum("abc->a", joint))),
        ("01.bigram_mle", _bigram_mle),
        ("01.add_k_table", lambda counts, k: F.normalize(counts + k, p=1, dim=-1)),
        ("01.corpus_perplexity", lambda log_probs: perplexity_from_nll(
            -sum(float(x.sum()) for x in log_probs), sum(map(len, log_probs)))),
        ("01.cross_entropy_bits", lambda p, q: F.cross_entropy(
            q.clamp(min=1e-300).log(), p) / math.log(2)),
        ("01.continuation_probability", lambda counts: F.normalize(
            counts.clamp(max=1).sum(0), p=1, dim=0)),
        ("05.layer_norm", _layer_norm),
        ("05.causal_head", _causal_head),
        ("05.shift_right", _shift_right),
        ("05.parameter_count", _parameter_count),
    ],
)  # fmt: skip
def test_an_independent_solution_passes(name: str, answer: Callable[..., Any]) -> None:
    assert grade(name, answer) is None


def _mask_after_softmax(x, W_Q, W_K, W_V):
    Q, K = x @ W_Q, x @ W_K
    weights = torch.softmax(Q @ K.T / math.sqrt(Q.shape[1]), dim=-1)
    return torch.tril(weights) @ (x @ W_V)


def _by_d_model(x, W_Q, W_K, W_V):
    scores = (x @ W_Q) @ (x @ W_K).T / math.sqrt(x.shape[1])
    hidden = torch.ones_like(scores).triu(1).bool()
    return scores.masked_fill(hidden, -1e9).softmax(-1) @ (x @ W_V)


def _columns(x, W_Q, W_K, W_V):
    scores = (x @ W_Q) @ (x @ W_K).T / math.sqrt(W_Q.shape[1])
    hidden = torch.ones_like(scores).triu(1).bool()
    return scores.masked_fill(hidden, -math.inf).softmax(dim=0) @ (x @ W_V)


@pytest.mark.parametrize(
    ("name", "answer", "part"),
    [
        ("01.corpus_perplexity", lambda log_probs: math.exp(
            sum(map(float, map(torch.mean, log_probs))) / -len(log_probs)), "短句子"),
        ("01.cross_entropy_bits", lambda p, q: F.kl_div(
            q.clamp(min=1e-300).log(), p, reduction="sum") / math.log(2), "KL"),
        ("01.add_k_table", lambda counts, k: F.normalize(counts + 1, p=1, dim=1), "没有用到 k"),
        ("05.layer_norm", lambda x, w, b, eps: w * (x - x.mean(-1, keepdim=True)) / torch.sqrt(
            x.std(-1, keepdim=True) ** 2 + eps) + b, "d−1"),
        ("05.layer_norm", lambda x, w, b, eps: w * (x - x.mean(-1, keepdim=True)) / (
            x.std(-1, keepdim=True) + eps) + b, "两处"),
        ("05.layer_norm", lambda x, w, b, eps: _layer_norm(x.mT, torch.ones(x.shape[-2]),
            torch.zeros(x.shape[-2]), eps).mT * w + b, "轴错了"),
        ("05.causal_head", _by_d_model, "√d_model"),
        ("05.causal_head", _mask_after_softmax, "softmax 之后"),
        ("05.causal_head", _columns, "轴错了"),
        ("05.shift_right", lambda target, bos_id: target.clone(), "没有右移"),
        ("05.shift_right", lambda target, bos_id: torch.roll(target, 1, dims=1), "roll"),
        ("05.parameter_count", lambda v, d, f, m, n: 3 * v * d + _parameter_count(v, d, f, m, n)
            - v * d, "三次"),
    ],
)  # fmt: skip
def test_a_wrong_answer_is_understood(name: str, answer: Callable[..., Any], part: str) -> None:
    assert part in (grade(name, answer) or "")


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        (lambda target, bos_id: None, "还没有答案"),
        (lambda target: target, "报错 TypeError"),
        ("target", "要交一个函数"),
        (lambda target, bos_id: [1, 2], "返回的是 list"),
        (lambda target, bos_id: target[:, :1], "形状应当是 (1, 5)"),
        (lambda target, bos_id: target + 1, "最多相差"),
        (lambda target, bos_id: target.float() * math.nan, "NaN"),
        (lambda target, bos_id: target.fill_(bos_id), "改动了传进来的张量"),
    ],
)
def test_any_answer_gets_a_sentence(answer: Any, part: str) -> None:
    assert part in (grade("05.shift_right", answer) or "")


def test_an_answer_that_is_no_number() -> None:
    assert "返回的是 str" in (grade("05.parameter_count", lambda *sizes: "many") or "")
    assert "应当是 12,476,416，你的是 7" in (grade("05.parameter_count", lambda *sizes: 7) or "")
    assert grade("05.parameter_count", lambda *s: torch.tensor(_parameter_count(*s))) is None


def test_a_fractional_number_need_only_be_near() -> None:
    right = EXERCISES["01.corpus_perplexity"].reference
    assert grade("01.corpus_perplexity", lambda x: torch.tensor(right(x) * (1 + 1e-6))) is None
    assert "应当是 7.389" in (grade("01.corpus_perplexity", lambda x: right(x) * 1.001) or "")
    assert "返回的是 Tensor" in (grade("01.corpus_perplexity", lambda x: x[0]) or "")


def test_check_prints_and_returns_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    check("05.shift_right", _shift_right)
    check("05.shift_right", lambda target, bos_id: None)
    right, wrong = capsys.readouterr().out.splitlines()
    assert right == "✓ 05.shift_right：正确。"
    assert wrong.startswith("✗ 05.shift_right：还没有答案")


def test_an_unknown_exercise_is_refused() -> None:
    with pytest.raises(ValueError, match=r"name must be one of the exercises \(01\..*got '5'"):
        check("5", _shift_right)


def test_a_grade_is_the_same_every_time() -> None:
    answer = lambda target, bos_id: target + 1  # noqa: E731
    assert grade("05.shift_right", answer) == grade("05.shift_right", answer)


@each_chapter
def test_the_printed_solutions_pass_their_graders(path: Path) -> None:
    text = "\n".join(cell.source for cell in read(path).cells)
    asked = set(re.findall(r'^check\("([^"]+)", (\w+)\)', text, flags=re.M))
    assert {name for name, _ in asked} == {n for n in EXERCISES if n[:2] == path.stem[:2]}

    solved: dict[str, Any] = {"torch": torch, "math": math}
    for block in re.findall(r"^```python\n(def .*?)^```", text, flags=re.M | re.S):
        exec(block, solved)
    for name, function in asked:
        assert grade(name, solved[function]) is None
