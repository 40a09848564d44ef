"""Answers to the exercises of chapters 4 to 6 that are written another way than the graders' own.

For tests/test_exercises.py: right ones, and wrong ones with a part of the sentence they must get.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from lmlib.training import learning_rate_at


def _attention_weights(Q, K, mask):
    rows = []
    for q, allowed in zip(Q, mask, strict=True):
        powers = [
            math.exp(q @ k / math.sqrt(len(q))) if a else 0.0
            for k, a in zip(K, allowed, strict=False)
        ]
        rows.append([p / (sum(powers) or 1.0) for p in powers])
    return torch.tensor(rows)


def _softmax_jacobian(S, T):
    return torch.autograd.functional.jacobian(lambda s: torch.softmax(s / T, -1), S)


def _decoder_mask(token_ids, pad_id):
    batch, n = token_ids.shape
    mask = torch.zeros(batch, 1, n, n, dtype=torch.bool)
    for b in range(batch):
        for i in range(n):
            for j in range(i + 1):
                mask[b, 0, i, j] = token_ids[b, j] != pad_id
    return mask


def _split_heads(x, num_heads):
    return torch.stack(x.chunk(num_heads, dim=-1), dim=1)


def _cross_attention(H, M, W_Q, W_K, W_V):
    return F.scaled_dot_product_attention((H @ W_Q)[None], (M @ W_K)[None], (M @ W_V)[None])[0]


def _attention_cost(n, d_model, num_heads):
    d_head = d_model // num_heads
    return 4 * n * d_model * d_model + num_heads * (n * n * d_head + n * n * d_head)


def _rotate_halves(x):
    n, d = x.shape
    frequencies = torch.tensor([10000 ** (-2 * i / d) for i in range(d // 2)])
    turned = torch.polar(torch.ones(n, d // 2), torch.outer(torch.arange(float(n)), frequencies))
    y = torch.complex(x[:, : d // 2], x[:, d // 2 :]) * turned
    return torch.cat([y.real, y.imag], dim=1)


def _pre_norm_layer(x, attention, feed_forward, norm_1, norm_2):
    for sublayer, norm in ((attention, norm_1), (feed_forward, norm_2)):
        x = torch.add(sublayer(norm(x)), x)
    return x


def _adam_step(theta, g, m, v, t, eta):
    parameter = theta.clone().requires_grad_()
    optimizer = torch.optim.Adam([parameter], lr=eta)
    optimizer.state[parameter] = {
        "step": torch.tensor(float(t - 1)),
        "exp_avg": m.clone(),
        "exp_avg_sq": v.clone(),
    }
    parameter.grad = g.clone()
    optimizer.step()
    state = optimizer.state[parameter]
    return torch.stack([parameter.detach(), state["exp_avg"], state["exp_avg_sq"]])


def _momentum(theta, gradients, eta, beta):
    parameter = theta.clone().requires_grad_()
    optimizer = torch.optim.SGD([parameter], lr=eta, momentum=beta)
    for g in gradients:
        parameter.grad = g.clone()
        optimizer.step()
    return parameter.detach()


def _ngram_precision(hypothesis, reference, n):
    left = [tuple(reference[i : i + n]) for i in range(len(reference) - n + 1)]
    hits = 0
    for i in range(len(hypothesis) - n + 1):
        if (gram := tuple(hypothesis[i : i + n])) in left:
            left.remove(gram)
            hits += 1
    return hits / (len(hypothesis) - n + 1)


RIGHT: list[tuple[str, Callable[..., Any]]] = [
    ("04.attention_weights", _attention_weights),
    ("04.softmax_jacobian", _softmax_jacobian),
    ("04.decoder_mask", _decoder_mask),
    ("04.split_heads", _split_heads),
    ("04.cross_attention", _cross_attention),
    ("04.attention_cost", _attention_cost),
    ("05.rotate_halves", _rotate_halves),
    ("05.pre_norm_layer", _pre_norm_layer),
    (
        "06.masked_loss",
        lambda logits, target, pad_id: F.cross_entropy(
            logits.flatten(0, 1), target.flatten(), ignore_index=pad_id
        ),
    ),
    ("06.momentum", _momentum),
    ("06.adam_step", _adam_step),
    (
        "06.warmup_cosine",
        lambda step, peak, warmup, total: learning_rate_at(
            step, learning_rate=peak, warmup_steps=warmup, max_steps=total
        ),
    ),
    (
        "06.smoothed_loss",
        lambda logits, target, epsilon: F.cross_entropy(logits, target, label_smoothing=epsilon),
    ),
    ("06.combined_gradient", lambda gradients, counts: counts.double() @ gradients / counts.sum()),
    ("06.ngram_precision", _ngram_precision),
]
"""(exercise, answer)."""

WRONG: list[tuple[str, Callable[..., Any], str]] = [
    (
        "04.attention_weights",
        lambda Q, K, mask: (
            (Q @ K.T / math.sqrt(Q.shape[-1])).masked_fill(mask == 0, -1e9).softmax(-1)
        ),
        "平均地看每一个键",
    ),
    (
        "04.attention_weights",
        lambda Q, K, mask: (Q @ K.T / Q.shape[-1] ** 0.5).softmax(-1) * mask,
        "掩码放在了 softmax 之后",
    ),
    (
        "04.softmax_jacobian",
        lambda S, T: torch.diag(a := (S / T).softmax(-1)) - a[:, None] * a,
        "漏了 1/T",
    ),
    (
        "04.decoder_mask",
        lambda ids, pad_id: (
            torch.ones(ids.shape[1], ids.shape[1]).tril().bool() & (ids != pad_id)[:, None, :, None]
        ),
        "挡错了方向",
    ),
    ("04.split_heads", lambda x, h: x.view(x.shape[0], h, x.shape[1], x.shape[2] // h), "没有换轴"),
    (
        "04.cross_attention",
        lambda H, M, W_Q, W_K, W_V: F.scaled_dot_product_attention(M @ W_Q, H @ W_K, H @ W_V),
        "两边反了",
    ),
    ("04.attention_cost", lambda n, d, h: 4 * n * d * d + 2 * h * n * n * d, "多乘了头数"),
    (
        "05.rotate_halves",
        lambda x: torch.view_as_real(
            torch.view_as_complex(x.view(len(x), -1, 2))
            * torch.polar(
                torch.ones(len(x), x.shape[1] // 2),
                torch.outer(
                    torch.arange(float(len(x))),
                    10000 ** (-torch.arange(0, x.shape[1], 2) / x.shape[1]),
                ),
            )
        ).flatten(1),
        "相邻两列",
    ),
    ("05.rotate_halves", lambda x: _rotate_halves(torch.cat([x[:1], x]))[1:], "位置从 0 数起"),
    ("05.rotate_halves", lambda x: x * 1.0, "没有转"),
    ("05.pre_norm_layer", lambda x, f, g, a, b: b(a(x + f(x)) + g(a(x + f(x)))), "后归一化"),
    ("05.pre_norm_layer", lambda x, f, g, a, b: x + g(b(f(a(x)))), "少了一个残差"),
    ("05.pre_norm_layer", lambda x, f, g, a, b: x + g(b(x + f(a(x)))), "第二个残差加错了"),
    (
        "06.masked_loss",
        lambda logits, target, pad_id: F.cross_entropy(logits.mT, target),
        "填充的位置也算进去了",
    ),
    (
        "06.masked_loss",
        lambda logits, target, pad_id: torch.stack(
            [
                F.cross_entropy(row, ids, ignore_index=pad_id)
                for row, ids in zip(logits, target, strict=True)
            ]
        ).mean(),
        "短句",
    ),
    (
        "06.momentum",
        lambda theta, gradients, eta, beta: _momentum(theta, gradients, eta * (1 - beta), beta),
        "g 前面没有系数",
    ),
    (
        "06.adam_step",
        lambda theta, g, m, v, t, eta: torch.stack(
            [
                theta - eta * torch.lerp(m, g, 0.1) / (torch.lerp(v, g * g, 0.001) ** 0.5 + 1e-8),
                torch.lerp(m, g, 0.1),
                torch.lerp(v, g * g, 0.001),
            ]
        ),
        "偏差修正",
    ),
    (
        "06.warmup_cosine",
        lambda step, peak, warmup, total: (
            peak
            * min(
                step / warmup,
                0.5 + 0.5 * math.cos(math.pi * max(step - warmup, 0) / (total - warmup)),
            )
        ),
        "第 0 步",
    ),
    (
        "06.smoothed_loss",
        lambda logits, target, epsilon: F.cross_entropy(
            logits,
            torch.full_like(logits, epsilon / (logits.shape[1] - 1)).scatter(
                1, target[:, None], 1 - epsilon
            ),
        ),
        "只分给了错的词元",
    ),
    ("06.combined_gradient", lambda gradients, counts: torch.mean(gradients, dim=0), "一样重"),
    (
        "06.ngram_precision",
        lambda hypothesis, reference, n: _ngram_precision(reference, hypothesis, n),
        "召回率",
    ),
]
"""(exercise, answer, part of what is said)."""
