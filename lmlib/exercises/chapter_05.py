"""The coding exercises of chapter 5, 编码器与解码器."""

from __future__ import annotations

import torch
from torch import Tensor

from lmlib.attention import causal_mask
from lmlib.exercises._grading import Exercise, Mistake
from lmlib.layers import LayerNorm

_GENERATOR = torch.Generator().manual_seed(5)


def _random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=_GENERATOR)


def _layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    module = LayerNorm(x.shape[-1], eps=eps)
    module.load_state_dict({"weight": weight, "bias": bias})
    return module(x).detach()


def _normalised(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    dim: int | tuple[int, ...] = -1,
    unbiased: bool = False,
    inside: float = 0.0,
    outside: float = 0.0,
) -> Tensor:
    """Layer normalisation with ε inside or outside the root; the keywords make the mistakes."""
    variance, mean = torch.var_mean(x, dim=dim, keepdim=True, unbiased=unbiased)
    return (x - mean) / (torch.sqrt(variance + inside) + outside) * weight + bias


_LAYER_NORM = Exercise(
    reference=_layer_norm,
    # In the second case σ is small, so that it counts where ε stands.
    cases=[
        (3 * _random(2, 4, 8) + 1, _random(8), _random(8), 1e-5),
        (0.003 * _random(3, 6), _random(6), _random(6), 1e-5),
    ],
    mistakes=[
        Mistake(
            lambda x, w, b, eps: _normalised(x, w, b, inside=eps, unbiased=True),
            "方差除以了 d−1（无偏估计）。层归一化用总体方差，除以 d：var(..., unbiased=False)。",
        ),
        Mistake(
            lambda x, w, b, eps: _normalised(x, w, b, outside=eps),
            "ε 加在了根号外面。公式是 √(σ² + ε)，不是 σ + ε。",
        ),
        Mistake(
            lambda x, w, b, eps: _normalised(x, w, b, outside=eps, unbiased=True),
            "两处要改：方差除以了 d−1，ε 又加在了根号外面。公式是 √(σ² + ε)，σ² 除以 d。",
        ),
        Mistake(
            lambda x, w, b, eps: _normalised(x, w, b),
            "漏了 ε：方差很小的那一行会被放大得太多。",
        ),
        Mistake(
            lambda x, w, b, eps: _normalised(
                x, torch.ones_like(w), torch.zeros_like(b), inside=eps
            ),
            "归一化对了，还差最后一步：乘 weight，再加 bias。",
        ),
        Mistake(
            lambda x, w, b, eps: _normalised(x, w, b, inside=eps, dim=-2),
            "轴错了：你在位置之间求平均。层归一化在每个位置自己的 d 个数上求，dim=-1。",
        ),
        Mistake(
            lambda x, w, b, eps: _normalised(x, w, b, inside=eps, dim=tuple(range(x.dim()))),
            "你对整个张量求了一个平均。每个位置各求各的：dim=-1, keepdim=True。",
        ),
        Mistake(
            lambda x, w, b, eps: x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * w,
            "这是 RMSNorm：没有减均值，也没有加 bias。",
        ),
    ],
)


def _head(
    x: Tensor,
    W_Q: Tensor,
    W_K: Tensor,
    W_V: Tensor,
    *,
    scale: float | None = None,
    mask: Tensor | None = None,
    dim: int = -1,
) -> Tensor:
    """One causal attention head over row vectors x (n, d_model); the keywords make the mistakes."""
    query, key = x @ W_Q, x @ W_K
    if scale is None:
        scale = query.shape[-1] ** -0.5
    if mask is None:
        mask = causal_mask(len(x))
    scores = (query @ key.T * scale).masked_fill(~mask, float("-inf"))
    return scores.softmax(dim) @ (x @ W_V)


def _without_mask(x: Tensor, W_Q: Tensor, W_K: Tensor) -> Tensor:
    return (x @ W_Q @ (x @ W_K).T * W_Q.shape[-1] ** -0.5).softmax(-1)


def _strict_mask(x: Tensor) -> Tensor:
    return causal_mask(len(x)).tril(-1)


_CAUSAL_HEAD = Exercise(
    reference=_head,
    cases=[
        (_random(5, 12), _random(12, 4), _random(12, 4), _random(12, 3)),
        (_random(3, 6), _random(6, 2), _random(6, 2), _random(6, 2)),
    ],
    mistakes=[
        Mistake(
            lambda x, W_Q, W_K, W_V: _head(x, W_Q, W_K, W_V, scale=x.shape[-1] ** -0.5),
            "缩放用错了维数：除以 √d_k（W_Q 的列数），不是 √d_model（x 的列数）。",
        ),
        Mistake(
            lambda x, W_Q, W_K, W_V: _head(x, W_Q, W_K, W_V, scale=1.0),
            "分数没有缩放：softmax 之前除以 √d_k。",
        ),
        Mistake(
            lambda x, W_Q, W_K, W_V: _head(x, W_Q, W_K, W_V, scale=1 / W_Q.shape[-1]),
            "分数除以了 d_k。要除以它的平方根 √d_k。",
        ),
        Mistake(
            lambda x, W_Q, W_K, W_V: _head(x, W_Q, W_K, W_V, dim=0),
            "softmax 的轴错了：每个查询占一行，一行加起来是 1，所以 dim=-1。",
        ),
        Mistake(
            lambda x, W_Q, W_K, W_V: _without_mask(x, W_Q, W_K) @ (x @ W_V),
            "没有掩码：第 i 行看见了 j > i 的字。",
        ),
        Mistake(
            lambda x, W_Q, W_K, W_V: (_without_mask(x, W_Q, W_K) * causal_mask(len(x))) @ (x @ W_V),
            "掩码放在了 softmax 之后，权重一行加起来不到 1。先把 j > i 的分数填成 −inf。",
        ),
        Mistake(
            lambda x, W_Q, W_K, W_V: _head(x, W_Q, W_K, W_V, mask=_strict_mask(x)),
            "你的掩码是 j < i：第一行什么也看不见，于是成了 NaN。位置看得见自己，j ≤ i。",
        ),
        Mistake(
            lambda x, W_Q, W_K, W_V: _head(x, W_Q, W_K, W_V, mask=_strict_mask(x)).nan_to_num(),
            "你的掩码是 j < i：位置看不见自己，第一行全是 0。应当 j ≤ i。",
        ),
        Mistake(
            lambda x, W_Q, W_K, W_V: _head(x, W_Q, W_K, W_V, mask=causal_mask(len(x)).T),
            "掩码反了：你让每个位置只看见未来。下三角（j ≤ i）才是看得见的部分。",
        ),
        Mistake(
            lambda x, W_Q, W_K, W_V: _head(x, W_K, W_Q, W_V),
            "查询和键换了位置：行是查询，列是键，分数是 Q Kᵀ。",
        ),
    ],
)


def _shifted(target: Tensor, first: int) -> Tensor:
    front = torch.full_like(target[:, :1], first)
    return torch.cat([front, target[:, :-1]], dim=1)


def _first_overwritten(target: Tensor, bos_id: int) -> Tensor:
    return torch.cat([torch.full_like(target[:, :1], bos_id), target[:, 1:]], dim=1)


_SHIFT_RIGHT = Exercise(
    reference=_shifted,
    cases=[
        (torch.tensor([[11, 12, 13, 14, 2]]), 1),
        (torch.tensor([[21, 22, 23], [24, 25, 2]]), 7),
    ],
    mistakes=[
        Mistake(
            lambda target, bos_id: target,
            "没有右移：解码器在第 i 步已经读到它要预测的字，学会的只是照抄。",
        ),
        Mistake(
            lambda target, bos_id: torch.cat(
                [target[:, 1:], torch.full_like(target[:, :1], bos_id)], dim=1
            ),
            "移反了方向：你让解码器读到了下一个字。<bos> 在最前面，丢掉的是最后一个。",
        ),
        Mistake(
            lambda target, bos_id: torch.cat(
                [torch.full_like(target[:, :1], bos_id), target], dim=1
            ),
            "长了一个：前面放进 <bos> 以后，最后一个要丢掉，长度不变。",
        ),
        Mistake(
            lambda target, bos_id: target.roll(1, dims=1),
            "roll 把最后一个字转到了最前面。第 0 列要换成 bos_id。",
        ),
        Mistake(
            lambda target, bos_id: target.roll(1, dims=0),
            "轴错了：你移动的是批次（dim=0），该移动的是位置（dim=1）。",
        ),
        Mistake(
            lambda target, bos_id: _shifted(target, 0),
            "最前面是 0（<pad>），应当是传进来的 bos_id。",
        ),
        Mistake(
            _first_overwritten,
            "你把第一个字盖掉了，其余的没有动。整行先往右移一格，空出来的第 0 列才放 bos_id。",
        ),
    ],
)


def _parameter_count(
    vocab_size: int,
    d_model: int,
    d_ff: int,
    num_encoder_layers: int,
    num_decoder_layers: int,
    *,
    tables: int = 1,
    bias: int = 1,
    projections: int = 4,
    norms: tuple[int, int] = (2, 3),
    decoder_attentions: int = 2,
) -> int:
    """Parameters of a post-norm Transformer, embeddings tied; the keywords make the mistakes."""
    attention = projections * (d_model * d_model + bias * d_model)
    feed_forward = 2 * d_model * d_ff + bias * (d_ff + d_model)
    norm = 2 * d_model
    encoder_layer = attention + feed_forward + norms[0] * norm
    decoder_layer = decoder_attentions * attention + feed_forward + norms[1] * norm
    return (
        tables * vocab_size * d_model
        + num_encoder_layers * encoder_layer
        + num_decoder_layers * decoder_layer
    )


_PARAMETER_COUNT = Exercise(
    reference=_parameter_count,
    cases=[(10_000, 512, 2048, 1, 1), (100, 8, 16, 3, 2)],
    mistakes=[
        Mistake(
            lambda *sizes: _parameter_count(*sizes, tables=2),
            "嵌入表数了两次。源、目标和输出层共用同一个矩阵，只数一次。",
        ),
        Mistake(
            lambda *sizes: _parameter_count(*sizes, tables=3),
            "嵌入表数了三次。源、目标和输出层共用同一个矩阵，只数一次。",
        ),
        Mistake(
            lambda *sizes: _parameter_count(*sizes, tables=0),
            "漏了嵌入表：vocab_size × d_model。",
        ),
        Mistake(
            lambda *sizes: _parameter_count(*sizes, bias=0),
            "漏了偏置：W_Q、W_K、W_V、W_O、W_1、W_2 各带一个偏置向量。",
        ),
        Mistake(
            lambda *sizes: _parameter_count(*sizes, projections=3),
            "漏了 W_O：一个注意力子层有四个矩阵。",
        ),
        Mistake(
            lambda *sizes: _parameter_count(*sizes, norms=(0, 0)),
            "漏了层归一化：每个有 weight 和 bias，共 2 × d_model。",
        ),
        Mistake(
            lambda *sizes: _parameter_count(*sizes, norms=(2, 2)),
            "解码器层有三个子层，所以有三个层归一化。",
        ),
        Mistake(
            lambda *sizes: _parameter_count(*sizes, norms=(2, 2), decoder_attentions=1),
            "解码器层按编码器层数了：它多一个交叉注意力子层，也多一个层归一化。",
        ),
        Mistake(
            lambda *sizes: _parameter_count(*sizes, decoder_attentions=1),
            "解码器层有两个注意力子层：掩码自注意力和交叉注意力。",
        ),
    ],
)

EXERCISES: dict[str, Exercise] = {
    "05.layer_norm": _LAYER_NORM,
    "05.causal_head": _CAUSAL_HEAD,
    "05.shift_right": _SHIFT_RIGHT,
    "05.parameter_count": _PARAMETER_COUNT,
}
"""The exercises of chapter 5, by name."""
