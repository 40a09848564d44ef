"""The coding exercises of chapter 6, 训练."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lmlib.exercises._grading import Exercise, Mistake

_GENERATOR = torch.Generator().manual_seed(6)


def _random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=_GENERATOR, dtype=torch.float64)


def _nll(logits: Tensor, target: Tensor) -> Tensor:
    return -logits.log_softmax(-1).gather(-1, target[..., None])[..., 0]


def _masked_loss(logits: Tensor, target: Tensor, pad_id: int) -> Tensor:
    real = target != pad_id
    return (_nll(logits, target) * real).sum() / real.sum()


def _mean_of_rows(logits: Tensor, target: Tensor, pad_id: int) -> Tensor:
    real = target != pad_id
    return ((_nll(logits, target) * real).sum(1) / real.sum(1)).mean()


_MASKED_LOSS = Exercise(
    reference=_masked_loss,
    cases=[
        (_random(2, 4, 6), torch.tensor([[3, 2, 0, 0], [5, 4, 1, 2]]), 0),
        (_random(3, 3, 5), torch.tensor([[1, 4, 4], [2, 3, 4], [0, 4, 4]]), 4),
    ],
    mistakes=[
        Mistake(
            lambda logits, target, pad_id: _nll(logits, target).mean(),
            "填充的位置也算进去了。只算 target != pad_id 的位置。",
        ),
        Mistake(
            lambda logits, target, pad_id: (_nll(logits, target) * (target != pad_id)).mean(),
            "分子去掉了填充，分母没有：要除以真的词元数，不是全部的位置数。",
        ),
        Mistake(
            _mean_of_rows,
            "你先在每句里平均，再对句子平均：短句里的词元就重了。所有词元放在一起平均。",
        ),
        Mistake(
            lambda logits, target, pad_id: (_nll(logits, target) * (target != pad_id)).sum(),
            "这是总和。题目要平均：再除以真的词元数。",
        ),
        Mistake(
            lambda logits, target, pad_id: -_masked_loss(logits, target, pad_id),
            "少了负号：损失是 −log P，不会小于 0。",
        ),
    ],
)


def _momentum(theta: Tensor, gradients: Tensor, eta: float, beta: float) -> Tensor:
    u = torch.zeros_like(theta)
    for g in gradients:
        u = beta * u + g
        theta = theta - eta * u
    return theta


def _averaged(theta: Tensor, gradients: Tensor, eta: float, beta: float) -> Tensor:
    return _momentum(theta, (1 - beta) * gradients, eta, beta)


def _nesterov(theta: Tensor, gradients: Tensor, eta: float, beta: float) -> Tensor:
    u = torch.zeros_like(theta)
    for g in gradients:
        u = beta * u + g
        theta = theta - eta * (g + beta * u)
    return theta


_MOMENTUM = Exercise(
    reference=_momentum,
    cases=[(_random(3), _random(4, 3), 0.1, 0.9), (_random(2), _random(5, 2), 0.5, 0.5)],
    mistakes=[
        Mistake(
            lambda theta, gradients, eta, beta: theta - eta * gradients.sum(0),
            "这是没有动量的 SGD。u 要带到下一步：u ← βu + g。",
        ),
        Mistake(
            _averaged,
            "你写的是 u ← βu + (1 − β)g，那是 Adam 里 m 的写法。这里 g 前面没有系数。",
        ),
        Mistake(
            _nesterov,
            "这是 Nesterov 的动量：多往前看了一步。题目走的是 −ηu。",
        ),
        Mistake(
            lambda theta, gradients, eta, beta: 2 * theta - _momentum(theta, gradients, eta, beta),
            "方向反了：梯度指向上升，要减 ηu。",
        ),
    ],
)


def _adam(
    theta: Tensor,
    g: Tensor,
    m: Tensor,
    v: Tensor,
    t: int,
    eta: float,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    correct: bool = True,
    inside: bool = False,
    root: bool = True,
) -> Tensor:
    """One step, (3, d); the keywords make the mistakes."""
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g**2
    m_hat = m / (1 - betas[0] ** t) if correct else m
    v_hat = v / (1 - betas[1] ** t) if correct else v
    size = (v_hat + 1e-8).sqrt() if inside else v_hat.sqrt() + 1e-8
    if not root:
        size = v_hat + 1e-8
    return torch.stack([theta - eta * m_hat / size, m, v])


# The last component is as small as ε: there it shows where ε stands.
_SMALL = torch.tensor([1.0, -2.0, 1e-8], dtype=torch.float64)
_M = torch.tensor([0.3, -0.1, 2e-9], dtype=torch.float64)
_V = torch.tensor([0.02, 0.5, 3e-17], dtype=torch.float64)
_THETA = torch.tensor([0.5, 1.5, -1.0], dtype=torch.float64)

_ADAM_STEP = Exercise(
    reference=_adam,
    cases=[
        (_THETA, _SMALL, torch.zeros(3).double(), torch.zeros(3).double(), 1, 0.1),
        (_THETA, _SMALL, _M, _V, 7, 0.05),
    ],
    mistakes=[
        Mistake(
            lambda *step: _adam(*step, correct=False),
            "漏了偏差修正：m̂ = m / (1 − β₁ᵗ)，v̂ = v / (1 − β₂ᵗ)。头几步的 m 和 v 偏小。",
        ),
        Mistake(
            lambda *step: _adam(*step, inside=True),
            "ε 放在根号里面了。公式是 √v̂ + ε：梯度很小的时候，两种写法差得很远。",
        ),
        Mistake(
            lambda *step: _adam(*step, root=False),
            "v̂ 是平方的平均，要先开方：除以 √v̂ + ε。",
        ),
        Mistake(
            lambda *step: _adam(*step, betas=(0.999, 0.9)),
            "β₁ 和 β₂ 换了位置：m 用 0.9，v 用 0.999。",
        ),
    ],
)


def _warmup_cosine(
    step: int,
    peak: float,
    warmup: int,
    total: int,
    *,
    first: int = 1,
    half: float = 0.5,
    whole: bool = False,
    warm: bool = True,
) -> float:
    if warm and step < warmup:
        return peak * (step + first) / warmup
    done = step / total if whole or not warm else (step - warmup) / (total - warmup)
    return peak * half * (1 + math.cos(math.pi * done))


def _at_all(rate: Callable[..., float], **options: object) -> Callable[..., float]:
    return lambda step, peak, warmup, total: rate(step, peak, warmup, total, **options)


_WARMUP_COSINE = Exercise(
    reference=_warmup_cosine,
    cases=[(step, 0.02, 10, 110) for step in (0, 4, 9, 10, 60, 85, 109)],
    mistakes=[
        Mistake(
            _at_all(_warmup_cosine, first=0),
            "第 0 步的学习率成了 0，那一步白走了。预热是 peak · (step + 1) / warmup。",
        ),
        Mistake(
            _at_all(_warmup_cosine, warm=False),
            "没有预热：step < warmup 时，从 peak / warmup 直线升到 peak。",
        ),
        Mistake(
            _at_all(_warmup_cosine, whole=True),
            "余弦从预热结束的地方开始：进度是 (step − warmup) / (total − warmup)。",
        ),
        Mistake(
            _at_all(_warmup_cosine, half=1.0),
            "1 + cos 从 2 降到 0，所以前面要乘 ½。",
        ),
        Mistake(
            lambda step, peak, warmup, total: (
                peak * (step + 1) / warmup
                if step < warmup
                else peak * (1 - (step - warmup) / (total - warmup))
            ),
            "预热对了，后面降成了直线。题目要半个余弦：½(1 + cos(π · 进度))。",
        ),
    ],
)


def _smoothed(logits: Tensor, target: Tensor, epsilon: float) -> Tensor:
    log_P = logits.log_softmax(-1)
    return ((1 - epsilon) * _nll(logits, target) - epsilon * log_P.mean(-1)).mean()


def _others_only(logits: Tensor, target: Tensor, epsilon: float) -> Tensor:
    log_P, size = logits.log_softmax(-1), logits.shape[-1]
    chosen = -_nll(logits, target)
    others = (log_P.sum(-1) - chosen) / (size - 1)
    return -((1 - epsilon) * chosen + epsilon * others).mean()


_SMOOTHED_LOSS = Exercise(
    reference=_smoothed,
    cases=[
        (_random(4, 5), torch.tensor([1, 4, 0, 1]), 0.1),
        (_random(3, 7), torch.tensor([6, 2, 2]), 0.3),
    ],
    mistakes=[
        Mistake(
            lambda logits, target, epsilon: _nll(logits, target).mean(),
            "没有平滑：正确词元占 1 − ε，还有 ε 平均分给整张词表。",
        ),
        Mistake(
            _others_only,
            "你把 ε 只分给了错的词元。这里的约定（论文和 PyTorch）是分给全部 |V| 个，"
            "正确的那个也有一份。",
        ),
        Mistake(
            lambda logits, target, epsilon: (
                (1 - epsilon) * _nll(logits, target) - epsilon * logits.log_softmax(-1).sum(-1)
            ).mean(),
            "ε 要分成 |V| 份，每个词元 ε/|V|：对 log P 求平均，不是求和。",
        ),
        Mistake(
            lambda logits, target, epsilon: (
                -(
                    ((1 - epsilon) * (-_nll(logits, target)).exp() + epsilon / logits.shape[-1])
                    .log()
                    .mean()
                )
            ),
            "你把概率混了再取对数。平滑的是目标：Σ 目标 · (−log P)，对数在里面。",
        ),
        Mistake(
            lambda logits, target, epsilon: _smoothed(logits, target, epsilon) * len(target),
            "这是总和。题目要平均：再除以 n。",
        ),
    ],
)


def _combined(gradients: Tensor, counts: Tensor) -> Tensor:
    weights = counts.to(gradients.dtype)
    return (weights[:, None] * gradients).sum(0) / weights.sum()


_COMBINED_GRADIENT = Exercise(
    reference=_combined,
    cases=[
        (_random(3, 4), torch.tensor([10, 200, 3])),
        (_random(2, 5), torch.tensor([7, 1])),
    ],
    mistakes=[
        Mistake(
            lambda gradients, counts: gradients.mean(0),
            "每小批一样重了。平均的平均不是总的平均：词元多的小批要重一些。",
        ),
        Mistake(
            lambda gradients, counts: gradients.sum(0),
            "只是加起来。每份先乘自己的词元数，再除以全部的词元数。",
        ),
        Mistake(
            lambda gradients, counts: _combined(gradients, counts) * counts.sum(),
            "这是总和的梯度。题目要平均损失的梯度：再除以全部的词元数。",
        ),
        Mistake(
            lambda gradients, counts: gradients.sum(0) / counts.sum(),
            "传进来的是每小批**平均**损失的梯度，先乘回词元数，才是总和的梯度。",
        ),
        Mistake(
            lambda gradients, counts: _combined(gradients, 1 / counts.double()),
            "反了：词元多的小批应当更重，你给了它更小的权重。",
        ),
    ],
)


def _grams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def _precision(hypothesis: Sequence[str], reference: Sequence[str], n: int) -> float:
    mine = _grams(hypothesis, n)
    return (mine & _grams(reference, n)).total() / mine.total()


def _unclipped(hypothesis: Sequence[str], reference: Sequence[str], n: int) -> float:
    mine, theirs = _grams(hypothesis, n), _grams(reference, n)
    return sum(count for gram, count in mine.items() if gram in theirs) / mine.total()


def _of_kinds(hypothesis: Sequence[str], reference: Sequence[str], n: int) -> float:
    mine, theirs = set(_grams(hypothesis, n)), set(_grams(reference, n))
    return len(mine & theirs) / len(mine)


_REPEATED = list("天天天地人在天水天地")
_REFERENCE = list("天地人在天大水今和天犬人")

_NGRAM_PRECISION = Exercise(
    reference=_precision,
    cases=[
        (_REPEATED, _REFERENCE, 1),
        (_REPEATED, _REFERENCE, 2),
        (list("ababab"), list("abacabd"), 3),
    ],
    mistakes=[
        Mistake(
            _unclipped,
            "没有封顶：同一个片段，最多算它在参考里出现的次数，不然 the the the 也得满分。",
        ),
        Mistake(
            _of_kinds,
            "你把重复的片段只算了一次（用了 set）。要数次数，用 Counter。",
        ),
        Mistake(
            lambda hypothesis, reference, n: _precision(reference, hypothesis, n),
            "分母成了参考的片段数，那是召回率。精确率除以译文自己的片段数。",
        ),
        Mistake(
            lambda hypothesis, reference, n: _precision(hypothesis, reference, 1),
            "没有用到 n：要取连着的 n 个词。",
        ),
        Mistake(
            lambda hypothesis, reference, n: (
                (_grams(hypothesis, n) & _grams(reference, n)).total() / len(hypothesis)
            ),
            "分母是译文的词数。长 m 的译文只有 m − n + 1 个 n 元片段。",
        ),
    ],
)


EXERCISES: dict[str, Exercise] = {
    "06.masked_loss": _MASKED_LOSS,
    "06.momentum": _MOMENTUM,
    "06.adam_step": _ADAM_STEP,
    "06.warmup_cosine": _WARMUP_COSINE,
    "06.smoothed_loss": _SMOOTHED_LOSS,
    "06.combined_gradient": _COMBINED_GRADIENT,
    "06.ngram_precision": _NGRAM_PRECISION,
}
"""The exercises of chapter 6, by name."""
