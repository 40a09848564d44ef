"""The coding exercises of chapter 5, 编码器与解码器."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lmlib.exercises._grading import Exercise, Mistake
from lmlib.layers import LayerNorm
from lmlib.positions import RotaryEmbedding

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


def _turned(
    x: Tensor,
    *,
    interleaved: bool = False,
    sign: int = 1,
    first: int = 0,
    exponent: float = 2.0,
    together: bool = False,
) -> Tensor:
    """Rows of x (n, d) turned by their positions; the keywords make the mistakes."""
    n, d = x.shape
    frequencies = 10000.0 ** (-exponent * torch.arange(d // 2) / d)
    if together:
        frequencies = torch.ones(d // 2)
    angles = sign * (torch.arange(n)[:, None] + first) * frequencies
    pairs = (-1, 2) if interleaved else (2, -1)
    axis = -1 if interleaved else -2
    a, b = x.unflatten(-1, pairs).unbind(axis)
    turned = [a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()]
    return torch.stack(turned, dim=axis).flatten(-2)


def _rotate_halves(x: Tensor) -> Tensor:
    return RotaryEmbedding(x.shape[-1])(x)


_ROTATE_HALVES = Exercise(
    reference=_rotate_halves,
    cases=[(_random(5, 8),), (_random(3, 4),)],
    mistakes=[
        Mistake(
            lambda x: _turned(x, interleaved=True),
            "你配的是相邻两列 (2l, 2l+1)。这里要前一半与后一半：第 l 列与第 l + d/2 列。",
        ),
        Mistake(
            lambda x: _turned(x, sign=-1),
            "转反了：新的前一半是 a cos − b sin，不是 a cos + b sin。",
        ),
        Mistake(lambda x: _turned(x, first=1), "位置从 0 数起：第 0 行不转。"),
        Mistake(
            lambda x: _turned(x, exponent=1.0),
            "指数少了 2：ω_l = 10000^(−2l/d)，l 从 0 到 d/2 − 1。",
        ),
        Mistake(
            lambda x: _turned(x, together=True),
            "每一对都转了 m 弧度。第 l 对转 m·ω_l，一对比一对慢。",
        ),
        Mistake(lambda x: x, "没有转：第 m 行的第 l 对要转 m·ω_l 弧度。"),
    ],
)

_Map = Callable[[Tensor], Tensor]


def _pre_norm(x: Tensor, attention: _Map, feed_forward: _Map, norm_1: _Map, norm_2: _Map) -> Tensor:
    x = x + attention(norm_1(x))
    return x + feed_forward(norm_2(x))


def _one_residual(x: Tensor, f: _Map, g: _Map, norm_1: _Map, norm_2: _Map) -> Tensor:
    return x + g(norm_2(f(norm_1(x))))


def _first_kept(x: Tensor, f: _Map, g: _Map, norm_1: _Map, norm_2: _Map) -> Tensor:
    return x + g(norm_2(x + f(norm_1(x))))


def _residual_normed(x: Tensor, f: _Map, g: _Map, norm_1: _Map, norm_2: _Map) -> Tensor:
    x = norm_1(x)
    x = norm_2(x + f(x))
    return x + g(x)


_MIX, _WIDEN = _random(4, 4), _random(6, 6)


def _attention(x: Tensor) -> Tensor:
    """Something that mixes the rows, as attention does."""
    return _MIX @ x


def _feed_forward(x: Tensor) -> Tensor:
    return torch.relu(x @ _WIDEN)


def _norm_1(x: Tensor) -> Tensor:
    return torch.nn.functional.layer_norm(x, x.shape[-1:])


def _norm_2(x: Tensor) -> Tensor:
    return 2 * _norm_1(x) + 1


_PRE_NORM_LAYER = Exercise(
    reference=_pre_norm,
    cases=[(3 * _random(4, 6) + 1, _attention, _feed_forward, _norm_1, _norm_2)],
    mistakes=[
        Mistake(
            lambda x, f, g, norm_1, norm_2: (lambda y: norm_2(y + g(y)))(norm_1(x + f(x))),
            "这是后归一化：先加后归一化。前归一化先归一化再进子层，x + f(LN(x))。",
        ),
        Mistake(
            lambda x, f, g, norm_1, norm_2: g(norm_2(f(norm_1(x)))),
            "没有残差：每个子层的输出要加回它的输入 x。",
        ),
        Mistake(_one_residual, "少了一个残差：注意力的输出也要先加回 x，再进前馈那一半。"),
        Mistake(_first_kept, "第二个残差加错了：加的是第一个子层之后的 x，不是最初的 x。"),
        Mistake(
            _residual_normed,
            "残差里加的是归一化以后的 x。归一化只在进子层的路上，直路上的 x 原样不动。",
        ),
        Mistake(
            lambda x, f, g, norm_1, norm_2: _pre_norm(x, f, g, norm_1, norm_1),
            "两个子层各有自己的归一化：前馈前面用 norm_2。",
        ),
        Mistake(
            lambda x, f, g, norm_1, norm_2: _pre_norm(x, g, f, norm_1, norm_2),
            "次序反了：先注意力，后前馈。",
        ),
        Mistake(
            lambda x, f, g, norm_1, norm_2: (lambda y: y + g(y))(x + f(x)),
            "没有归一化：进子层之前先过 norm_1、norm_2。",
        ),
        Mistake(
            lambda x, f, g, norm_1, norm_2: x + f(norm_1(x)),
            "只做了注意力那一半，还有前馈。",
        ),
    ],
)

EXERCISES: dict[str, Exercise] = {
    "05.layer_norm": _LAYER_NORM,
    "05.shift_right": _SHIFT_RIGHT,
    "05.parameter_count": _PARAMETER_COUNT,
    "05.rotate_halves": _ROTATE_HALVES,
    "05.pre_norm_layer": _PRE_NORM_LAYER,
}
"""The exercises of chapter 5, by name."""
