"""The coding exercises of chapter 3, 神经网络与神经语言模型."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lmlib.exercises._grading import Exercise, Mistake

_GENERATOR = torch.Generator().manual_seed(3)


def _random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=_GENERATOR, dtype=torch.float64)


def _one_hot(targets: Tensor, size: int) -> Tensor:
    return torch.eye(size, dtype=torch.float64)[targets]


def _logits_gradient(logits: Tensor, targets: Tensor) -> Tensor:
    return (logits.softmax(-1) - _one_hot(targets, logits.shape[-1])) / len(targets)


_LOGITS_GRADIENT = Exercise(
    reference=_logits_gradient,
    cases=[
        (_random(4, 5), torch.tensor([1, 4, 0, 1])),
        (_random(3, 7), torch.tensor([6, 2, 2])),
    ],
    mistakes=[
        Mistake(
            lambda logits, targets: _logits_gradient(logits, targets) * len(targets),
            "这是总和的梯度。题目要平均的损失：还要除以 n。",
        ),
        Mistake(
            lambda logits, targets: -_logits_gradient(logits, targets),
            "差一个负号：是 p − onehot，不是 onehot − p。梯度指向损失上升的方向。",
        ),
        Mistake(
            lambda logits, targets: logits.softmax(-1) / len(targets),
            "只有 p，没有减去独热的目标：正确的那一项要减 1。",
        ),
        Mistake(
            lambda logits, targets: (
                logits.softmax(-1) - _one_hot(targets, logits.shape[-1]).mean(0)
            ),
            "你把所有目标混成了一个。第 i 行只减自己的 targets[i] 那一格。",
        ),
        Mistake(
            lambda logits, targets: (
                (logits.softmax(0) - _one_hot(targets, logits.shape[-1])) / len(targets)
            ),
            "softmax 的轴错了：一行是一个位置的分布，dim=-1。",
        ),
        Mistake(
            lambda logits, targets: (logits - _one_hot(targets, logits.shape[-1])) / len(targets),
            "减之前要先做 softmax：p − onehot，不是 logits − onehot。",
        ),
    ],
)


def _first_gradient(
    x: Tensor,
    W_1: Tensor,
    b_1: Tensor,
    W_2: Tensor,
    b_2: Tensor,
    t: int,
    *,
    slope: str = "tanh",
    target: float = 1.0,
) -> Tensor:
    """Of the two-layer net of section 5; the keywords make the mistakes."""
    a = x @ W_1 + b_1
    h = torch.tanh(a)
    delta = (h @ W_2 + b_2).softmax(-1)
    delta[t] -= target
    slopes = {
        "tanh": 1 - h**2,
        "none": torch.ones_like(h),
        "sigmoid": h * (1 - h),
        "a": 1 - a**2,
    }
    return torch.outer(x, delta @ W_2.T * slopes[slope])


_W_1_GRADIENT = Exercise(
    reference=_first_gradient,
    cases=[
        (_random(2), _random(2, 3), _random(3), _random(3, 4), _random(4), 2),
        (_random(5), _random(5, 2), _random(2), _random(2, 3), _random(3), 0),
    ],
    mistakes=[
        Mistake(
            lambda *net: _first_gradient(*net, slope="none"),
            "漏了激活函数：从 h 传到 a，要逐个乘 tanh 的导数 1 − h²。",
        ),
        Mistake(
            lambda *net: _first_gradient(*net, slope="sigmoid"),
            "h(1 − h) 是 σ 的导数。这里的激活函数是 tanh，导数是 1 − h²。",
        ),
        Mistake(
            lambda *net: _first_gradient(*net, slope="a"),
            "tanh 的导数是 1 − tanh²(a)，也就是 1 − h²，不是 1 − a²。",
        ),
        Mistake(
            lambda *net: _first_gradient(*net, target=0.0),
            "起点错了：δ_L = p − onehot(t)，你忘了在第 t 项减 1。",
        ),
        Mistake(
            lambda *net: -_first_gradient(*net),
            "差一个负号：δ_L = p − onehot(t)。题目要的是梯度，不是往下走的方向。",
        ),
        Mistake(
            lambda *net: _first_gradient(*net).T,
            "转置了：W_1 的第 (i, j) 格连着 x_i 和 a_j，所以是 outer(x, δ_a)。",
        ),
        Mistake(
            lambda *net: _first_gradient(*net) / net[0][:, None],
            "漏了最后一步：W_1 的梯度是 outer(x, δ_a)。你的每一行都只是 δ_a，那是 b_1 的梯度。",
        ),
    ],
)


def _windows(
    ids: Tensor, order: int, bos_id: int, *, size: int | None = None, drop: int = 1
) -> Tensor:
    """Windows of ``order − 1`` tokens; the keywords make the mistakes."""
    size = order - 1 if size is None else size
    front = ids.new_full((len(ids), size), bos_id)
    joined = torch.cat([front, ids], dim=1)
    return joined[:, 1 - drop : joined.shape[1] - drop].unfold(1, size, 1)


def _padded_behind(ids: Tensor, order: int, bos_id: int) -> Tensor:
    behind = ids.new_full((len(ids), order - 1), bos_id)
    return torch.cat([ids, behind], dim=1)[:, :-1].unfold(1, order - 1, 1)


_WINDOWS = Exercise(
    reference=_windows,
    cases=[
        (torch.tensor([[11, 12, 13, 14, 15], [21, 22, 23, 24, 25]]), 4, 1),
        (torch.tensor([[31, 32, 33, 34]]), 3, 7),
    ],
    mistakes=[
        Mistake(
            lambda ids, order, bos_id: _windows(ids, order, bos_id, drop=0),
            "窗口里有要预测的字：第 i 个窗口以第 i 个词元结尾，答案泄露了。往前挪一个。",
        ),
        Mistake(
            lambda ids, order, bos_id: _windows(ids, order, bos_id).flip(-1),
            "次序反了：题目要旧的在左、新的在右。",
        ),
        Mistake(
            lambda ids, order, bos_id: _windows(ids, order, bos_id, size=order),
            "窗口长了一个：n 元模型看 n − 1 个字。",
        ),
        Mistake(
            lambda ids, order, bos_id: _windows(ids, order, 0),
            "补的是 0（<pad>），应当是传进来的 bos_id。",
        ),
        Mistake(
            _padded_behind,
            "补错了边：句首前面没有字，<bos> 要补在左边。",
        ),
        Mistake(
            lambda ids, order, bos_id: _windows(ids, order, bos_id)[:, order - 1 :],
            "开头的几个窗口丢了。它们前面的字不够，用 bos_id 补齐：每个词元都有一个窗口。",
        ),
        Mistake(
            lambda ids, order, bos_id: _windows(ids.flatten()[None], order, bos_id).view(
                *ids.shape, order - 1
            ),
            "你把几句话接成了一条：后一句的窗口里有前一句的字。每一行各补各的。",
        ),
    ],
)


def _mixture(log_p: Tensor, log_q: Tensor, weight: float) -> float:
    p = weight * log_p.exp() + (1 - weight) * log_q.exp()
    return math.exp(-p.log().mean().item())


def _ppl(log_p: Tensor) -> float:
    return math.exp(-log_p.mean().item())


_LOG_P = torch.tensor([-0.5, -6.0, -2.0, -4.0, -0.1], dtype=torch.float64)
_LOG_Q = torch.tensor([-3.0, -1.5, -2.5, -0.7, -5.0], dtype=torch.float64)

_MIXTURE_PERPLEXITY = Exercise(
    reference=_mixture,
    cases=[(_LOG_P, _LOG_Q, 0.3), (_LOG_P[1:], _LOG_Q[1:], 0.8)],
    mistakes=[
        Mistake(
            lambda p, q, weight: _ppl(weight * p + (1 - weight) * q),
            "你混的是 log P。混合的是概率：先 exp，按 λ 加起来，再取 log。",
        ),
        Mistake(
            lambda p, q, weight: weight * _ppl(p) + (1 - weight) * _ppl(q),
            "你混的是两个困惑度，那样永远不会比好的那个更好。要在每个词元上混概率。",
        ),
        Mistake(
            lambda p, q, weight: _mixture(q, p, weight),
            "λ 给反了：λ 乘第一个模型的概率，1 − λ 乘第二个的。",
        ),
        Mistake(
            lambda p, q, weight: math.log(_mixture(p, q, weight)),
            "这是交叉熵。困惑度是它的指数：exp。",
        ),
        Mistake(
            lambda p, q, weight: _ppl((p.exp() + q.exp()).log()),
            "两个概率相加，和就是 2 了。要按 λ 和 1 − λ 加权。",
        ),
    ],
)


def _shortened(g: Tensor, max_norm: float) -> Tensor:
    return g.flatten() * min(1.0, max_norm / g.norm().item())


def _joined(g_1: Tensor, g_2: Tensor) -> Tensor:
    return torch.cat([g_1.flatten(), g_2.flatten()])


_CLIP_GRADIENTS = Exercise(
    reference=lambda g_1, g_2, max_norm: _shortened(_joined(g_1, g_2), max_norm),
    # The second is short already: it is to be left alone.
    cases=[(3 * _random(2, 3), _random(4), 2.0), (0.1 * _random(2), 0.1 * _random(2, 2), 5.0)],
    mistakes=[
        Mistake(
            lambda g_1, g_2, c: _joined(_shortened(g_1, c), _shortened(g_2, c)),
            "你把两个梯度各自裁剪，方向就变了。先合成一个长向量，算总长度，一起缩。",
        ),
        Mistake(
            lambda g_1, g_2, c: _joined(g_1, g_2) * c / _joined(g_1, g_2).norm(),
            "短的梯度被你放大了。本来就不到 max_norm 的，原样不动：min(1, c / ‖g‖)。",
        ),
        Mistake(
            lambda g_1, g_2, c: _joined(g_1, g_2).clamp(-c, c),
            "你把每个数各自截断，方向就变了。裁剪是整个向量乘同一个数。",
        ),
        Mistake(
            lambda g_1, g_2, c: _joined(g_1, g_2) / _joined(g_1, g_2).norm().clamp(min=1.0),
            "你总是缩到 1。要缩到传进来的 max_norm。",
        ),
        Mistake(
            lambda g_1, g_2, c: (
                _joined(g_1, g_2) * min(1.0, c / _joined(g_1, g_2).pow(2).sum().item())
            ),
            "长度忘了开平方：‖g‖ 是平方和的平方根。",
        ),
        Mistake(
            lambda g_1, g_2, c: _joined(g_1, g_2),
            "没有裁剪：总长度超过 max_norm 时，整个向量要乘 max_norm / ‖g‖。",
        ),
    ],
)


def _lstm_cell(
    x: Tensor,
    h: Tensor,
    c: Tensor,
    W: Tensor,
    b: Tensor,
    *,
    blocks: str = "ifgo",
    squashed: bool = True,
    shown: bool = True,
    show: str = "tanh",
) -> Tensor:
    """One step, (batch, 2 d); the keywords make the mistakes."""
    gates = dict(zip(blocks, (torch.cat([x, h], -1) @ W + b).chunk(4, -1), strict=True))
    g = gates["g"].tanh() if squashed else gates["g"].sigmoid()
    c = gates["f"].sigmoid() * c + gates["i"].sigmoid() * g
    visible = c.tanh() if show == "tanh" else c
    h = gates["o"].sigmoid() * visible if shown else visible
    return torch.cat([h, c], dim=-1)


def _old_memory_shown(x: Tensor, h: Tensor, c: Tensor, W: Tensor, b: Tensor) -> Tensor:
    o = (torch.cat([x, h], -1) @ W + b).chunk(4, -1)[3].sigmoid()
    return torch.cat([o * c.tanh(), _lstm_cell(x, h, c, W, b).chunk(2, -1)[1]], -1)


_LSTM_CELL = Exercise(
    reference=_lstm_cell,
    cases=[
        (_random(2, 3), _random(2, 4), _random(2, 4), _random(7, 16), _random(16)),
        (_random(1, 4), _random(1, 4), _random(1, 4), _random(8, 16), _random(16)),
    ],
    mistakes=[
        Mistake(
            lambda *step: _lstm_cell(*step, squashed=False),
            "g 用了 σ。门（i、f、o）用 σ，写进去的内容 g 用 tanh，可正可负。",
        ),
        Mistake(
            lambda *step: _lstm_cell(*step, blocks="figo"),
            "i 和 f 换了位置：四块依次是 i、f、g、o。",
        ),
        Mistake(
            lambda *step: _lstm_cell(*step, blocks="ifog"),
            "g 和 o 换了位置：四块依次是 i、f、g、o。",
        ),
        Mistake(
            lambda *step: _lstm_cell(*step, show="plain"),
            "露出来之前少了一个 tanh：h = o ⊙ tanh(c)。",
        ),
        Mistake(
            lambda *step: _lstm_cell(*step, shown=False),
            "漏了输出门：h = o ⊙ tanh(c)。",
        ),
        Mistake(
            _old_memory_shown,
            "h 用的是旧的 c。先更新 c，再用新的 c 算 h。",
        ),
        Mistake(
            lambda x, h, c, W, b: _lstm_cell(x, h, torch.zeros_like(c), W, b),
            "旧的记忆丢了：c ← f ⊙ c + i ⊙ g，前一项不能少。",
        ),
        Mistake(
            lambda x, h, c, W, b: _lstm_cell(x, torch.zeros_like(h), c, W, b),
            "没有用到上一步的 h：门的输入是 [x, h] 接在一起。",
        ),
        Mistake(
            lambda *step: torch.cat(_lstm_cell(*step).chunk(2, -1)[::-1], -1),
            "算对了，接反了：先 h，后 c。",
        ),
    ],
)


EXERCISES: dict[str, Exercise] = {
    "03.logits_gradient": _LOGITS_GRADIENT,
    "03.W_1_gradient": _W_1_GRADIENT,
    "03.windows": _WINDOWS,
    "03.mixture_perplexity": _MIXTURE_PERPLEXITY,
    "03.clip_gradients": _CLIP_GRADIENTS,
    "03.lstm_cell": _LSTM_CELL,
}
"""The exercises of chapter 3, by name."""
