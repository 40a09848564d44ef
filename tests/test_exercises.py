"""The graders: references pass, every seeded mistake gets the sentence that fits it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import exercise_answers
import exercise_answers_later
import pytest
import torch
import torch.nn.functional as F
from stored_chapters import each_chapter, read
from torch import nn

from lmlib.datasets import jaccard, shingles
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


def _pair_counts(words, vocab_size):
    total = torch.zeros(vocab_size, vocab_size)
    for ids, times in words:
        rows = F.one_hot(torch.tensor(ids), vocab_size).float()
        total += times * rows[:-1].T @ rows[1:]
    return total


def _merge_pair(ids, a, b, new):
    text = "".join(map(chr, ids)).replace(chr(a) + chr(b), chr(new))
    return torch.tensor([ord(x) for x in text])


def _ppmi(C):
    expected = torch.outer(C.sum(1), C.sum(0)) / C.sum()
    return torch.relu(torch.log(C) - torch.log(expected))


def _weight_gradient(x, W_1, b_1, W_2, b_2, t):
    def loss(W):
        return F.cross_entropy(torch.tanh(x @ W + b_1) @ W_2 + b_2, torch.tensor(t))

    return torch.func.grad(loss)(W_1)


def _windows(ids, order, bos_id):
    padded = F.pad(ids, (order - 1, 0), value=bos_id)
    return torch.stack([padded[:, i : i + order - 1] for i in range(ids.shape[1])], dim=1)


def _clip_gradients(g_1, g_2, max_norm):
    return torch.renorm(torch.cat([g_1.flatten(), g_2.flatten()])[None], 2, 0, max_norm)[0]


def _lstm_cell(x, h, c, W, b):
    cell = nn.LSTMCell(x.shape[1], h.shape[1], dtype=x.dtype)
    with torch.no_grad():
        cell.weight_ih.copy_(W[: x.shape[1]].T)
        cell.weight_hh.copy_(W[x.shape[1] :].T)
        cell.bias_ih.copy_(b)
        cell.bias_hh.zero_()
        return torch.hstack(cell(x, (h, c)))


RIGHT: list[tuple[str, Callable[..., Any]]] = [
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
    ("02.text_jaccard", lambda a, b, n: jaccard(shingles(a, n), shingles(b, n))),
    ("02.caught_probability", lambda J, r, b: sum(
        math.comb(b, k) * J ** (r * k) * (1 - J**r) ** (b - k) for k in range(1, b + 1))),
    ("02.leaked_share", lambda train, test: sum(
        test.count(text) for text in {*train} & {*test}) / len(test)),
    ("02.pair_counts", _pair_counts),
    ("02.merge_pair", _merge_pair),
    ("02.tf_idf", lambda counts: torch.special.xlogy(
        counts, len(counts) / counts.bool().sum(0).clamp(min=1))),
    ("02.ppmi", _ppmi),
    ("03.logits_gradient", lambda logits, targets: torch.func.grad(
        lambda L: F.cross_entropy(L, targets))(logits)),
    ("03.W_1_gradient", _weight_gradient),
    ("03.windows", _windows),
    ("03.mixture_perplexity", lambda log_p, log_q, weight: math.exp(-torch.logaddexp(
        log_p + math.log(weight), log_q + math.log1p(-weight)).mean())),
    ("03.clip_gradients", _clip_gradients),
    ("03.lstm_cell", _lstm_cell),
    ("05.layer_norm", _layer_norm),
    ("05.shift_right", _shift_right),
    ("05.parameter_count", _parameter_count),
    *exercise_answers.RIGHT,
    *exercise_answers_later.RIGHT,
]  # fmt: skip
"""(exercise, answer)."""


@pytest.mark.parametrize(("name", "answer"), RIGHT)
def test_an_independent_solution_passes(name: str, answer: Callable[..., Any]) -> None:
    assert grade(name, answer) is None


WRONG: list[tuple[str, Callable[..., Any], str]] = [
    ("01.second_given_first", lambda joint: joint.sum(2) / joint.sum((0, 2)), "P(x_0 | x_1)"),
    ("01.bigram_mle", lambda sequences, vocab_size, bos_id, eos_id: F.normalize(_pair_counts(
        [([bos_id, *ids], 1) for ids in sequences], vocab_size), p=1, dim=1), "漏了 <eos>"),
    ("01.continuation_probability", lambda counts: F.normalize(
        counts.sign().sum(1), p=1, dim=0), "后面出现过多少种"),
    ("01.corpus_perplexity", lambda log_probs: math.exp(
        sum(map(float, map(torch.mean, log_probs))) / -len(log_probs)), "短句子"),
    ("01.cross_entropy_bits", lambda p, q: F.kl_div(
        q.clamp(min=1e-300).log(), p, reduction="sum") / math.log(2), "KL"),
    ("01.add_k_table", lambda counts, k: F.normalize(counts + 1, p=1, dim=1), "没有用到 k"),
    ("02.text_jaccard", lambda a, b, n: len(shingles(a, n) & shingles(b, n)) * 2 / (
        len(shingles(a, n)) + len(shingles(b, n))), "Dice"),
    ("02.caught_probability", lambda J, r, b: math.exp(b * math.log1p(-(J**r))), "漏掉"),
    ("02.leaked_share", lambda train, test: len([text for text in test if any(
        text in other for other in train)]) / len(test), "一般般"),
    ("02.pair_counts", lambda words, V: _pair_counts([(ids, 1) for ids, _ in words], V),
        "没有用到次数"),
    ("02.merge_pair", lambda ids, a, b, new: _merge_pair(ids[::-1], b, a, new).flip(0),
        "从右往左"),
    ("02.tf_idf", lambda counts: counts * torch.log(len(counts) / (counts != 0).sum(0)), "NaN"),
    ("02.ppmi", lambda C: torch.relu(torch.log2(C * C.sum() / torch.outer(
        C.sum(1), C.sum(0)))), "以 2 为底"),
    ("03.logits_gradient", lambda logits, targets: torch.func.grad(
        lambda L: F.cross_entropy(L, targets, reduction="sum"))(logits), "除以 n"),
    ("03.W_1_gradient", lambda x, W_1, b_1, W_2, b_2, t: torch.func.grad(
        lambda W: F.cross_entropy((x @ W - x @ W_1 + torch.tanh(x @ W_1 + b_1)) @ W_2 + b_2,
        torch.tensor(t)))(W_1), "漏了激活函数"),
    ("03.windows", lambda ids, order, bos_id: F.pad(
        ids, (order - 2, 0), value=bos_id).unfold(1, order - 1, 1), "答案泄露"),
    ("03.mixture_perplexity", lambda log_p, log_q, weight: math.exp(
        -torch.lerp(log_q, log_p, weight).mean()), "log P"),
    ("03.clip_gradients", lambda g_1, g_2, max_norm: torch.cat([torch.renorm(
        g.reshape(1, -1), 2, 0, max_norm)[0] for g in (g_1, g_2)]), "各自裁剪"),
    ("03.lstm_cell", lambda x, h, c, W, b: _lstm_cell(x, h, c, *(torch.cat(
        [v[..., 4:8], v[..., :4], v[..., 8:]], -1) for v in (W, b))), "i 和 f"),
    ("05.layer_norm", lambda x, w, b, eps: w * (x - x.mean(-1, keepdim=True)) / torch.sqrt(
        x.std(-1, keepdim=True) ** 2 + eps) + b, "d−1"),
    ("05.layer_norm", lambda x, w, b, eps: w * (x - x.mean(-1, keepdim=True)) / (
        x.std(-1, keepdim=True) + eps) + b, "两处"),
    ("05.layer_norm", lambda x, w, b, eps: _layer_norm(x.mT, torch.ones(x.shape[-2]),
        torch.zeros(x.shape[-2]), eps).mT * w + b, "轴错了"),
    ("05.shift_right", lambda target, bos_id: target.clone(), "没有右移"),
    ("05.shift_right", lambda target, bos_id: torch.roll(target, 1, dims=1), "roll"),
    ("05.parameter_count", lambda v, d, f, m, n: 3 * v * d + _parameter_count(v, d, f, m, n)
        - v * d, "三次"),
    *exercise_answers.WRONG,
    *exercise_answers_later.WRONG,
]  # fmt: skip
"""(exercise, answer, part of what is said)."""


@pytest.mark.parametrize(("name", "answer", "part"), WRONG)
def test_a_wrong_answer_is_understood(name: str, answer: Callable[..., Any], part: str) -> None:
    assert part in (grade(name, answer) or "")


@pytest.mark.parametrize("answers", [RIGHT, WRONG], ids=["right", "wrong"])
def test_every_exercise_has_answers_of_its_own_here(answers: list[tuple[Any, ...]]) -> None:
    assert {name for name, *_ in answers} == set(EXERCISES)


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

    # A solution may use what the chapter imports, of torch and of the package, and nothing else.
    solved: dict[str, Any] = {}
    for line in re.findall(r"^(?:import|from) (?:math|torch|lmlib)\b[^()\n]*$", text, flags=re.M):
        exec(line, solved)
    for block in re.findall(r"^```python\n(def .*?)^```", text, flags=re.M | re.S):
        exec(block, solved)
    for name, function in asked:
        assert grade(name, solved[function]) is None
