"""The coding exercises of chapter 4, 注意力."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lmlib.exercises._grading import Exercise, Mistake

_GENERATOR = torch.Generator().manual_seed(4)


def _random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=_GENERATOR, dtype=torch.float64)


def _scores(Q: Tensor, K: Tensor, scale: float | None = None) -> Tensor:
    return Q @ K.T * (Q.shape[-1] ** -0.5 if scale is None else scale)


def _weights(
    Q: Tensor,
    K: Tensor,
    mask: Tensor,
    *,
    scale: float | None = None,
    dim: int = -1,
    fill: float = -math.inf,
    empty: float | None = 0.0,
) -> Tensor:
    """Attention weights; a row without a key is ``empty``. The keywords make the mistakes."""
    A = _scores(Q, K, scale).masked_fill(~mask, fill).softmax(dim)
    return A if empty is None else A.masked_fill(~mask.any(-1, keepdim=True), empty)


_MASK = torch.tensor(
    [
        [True, False, True, True],
        [False, False, False, False],
        [True, True, False, False],
    ]
)

_ATTENTION_WEIGHTS = Exercise(
    reference=_weights,
    # Keys of unequal length, so that the axes and the scale count; the second row is empty.
    cases=[
        (2 * _random(3, 6), _random(4, 6), _MASK),
        (_random(5, 2), 2 * _random(5, 2), torch.ones(5, 5, dtype=torch.bool).tril()),
    ],
    mistakes=[
        Mistake(
            lambda Q, K, mask: _weights(Q, K, mask, empty=None),
            "整行不许看的那一行成了 NaN：softmax 在那里是 0/0。那一行要换成 0。",
        ),
        Mistake(
            lambda Q, K, mask: _weights(Q, K, mask, fill=-1e9, empty=None),
            "你用了一个很大的负数代替 −∞：整行不许看时，它平均地看每一个键，而不是谁也不看。",
        ),
        Mistake(
            lambda Q, K, mask: _weights(Q, K, mask, scale=1.0),
            "分数没有缩放：softmax 之前除以 √d_k。",
        ),
        Mistake(
            lambda Q, K, mask: _weights(Q, K, mask, scale=1 / Q.shape[-1]),
            "分数除以了 d_k。要除以它的平方根 √d_k。",
        ),
        Mistake(
            lambda Q, K, mask: _weights(Q, K, mask, scale=K.shape[0] ** -0.5),
            "缩放用错了数：d_k 是一个键的长度（最后一个轴），不是键的个数。",
        ),
        Mistake(
            lambda Q, K, mask: _scores(Q, K).softmax(-1) * mask,
            "掩码放在了 softmax 之后：一行加起来不到 1，不许看的分数还在分母里。",
        ),
        Mistake(
            lambda Q, K, mask: _weights(Q, K, ~mask),
            "掩码反了：True 是可以看，要挡住的是 False（~mask）。",
        ),
        Mistake(
            lambda Q, K, mask: _scores(Q, K).softmax(-1),
            "没有用掩码。",
        ),
        Mistake(
            lambda Q, K, mask: _weights(Q, K, mask, dim=0).nan_to_num(),
            "softmax 的轴错了：一行是一个查询，一行加起来是 1，所以 dim=-1。",
        ),
        Mistake(
            lambda Q, K, mask: _weights(Q, K, mask, fill=0.0),
            "不许看的分数换成了 0，可是 e⁰ = 1，它仍分走一份。要换成 −∞。",
        ),
    ],
)


def _jacobian(
    S: Tensor, T: float, *, outside: float = 1.0, inside: float = 1.0, outer: bool = True
) -> Tensor:
    """∂ softmax(S / T) / ∂S; the keywords make the mistakes."""
    A = (S / T**inside).softmax(-1)
    J = torch.diag(A)
    return (J - torch.outer(A, A) if outer else J - torch.diag(A * A)) / T**outside


_SOFTMAX_JACOBIAN = Exercise(
    reference=_jacobian,
    cases=[(_random(4), 2.0), (3 * _random(3), 0.5)],
    mistakes=[
        Mistake(
            lambda S, T: _jacobian(S, T, outside=0.0),
            "漏了 1/T：里面是 S/T，它对 S 的导数是 1/T，要乘上。",
        ),
        Mistake(
            lambda S, T: _jacobian(S, T, inside=0.0, outside=0.0),
            "没有用到温度：先除以 T 再做 softmax，最后还要乘 1/T。",
        ),
        Mistake(
            lambda S, T: _jacobian(S, T, inside=0.0),
            "只在外面除了 T。softmax 里面的分数也要先除以 T。",
        ),
        Mistake(
            lambda S, T: _jacobian(S, T, outer=False),
            "只有对角线：A_j(1 − A_j)。别的分数变了，A_j 也变，那里是 −A_j A_k。",
        ),
        Mistake(
            lambda S, T: -_jacobian(S, T),
            "差一个负号：对角线上是 A_j(1 − A_j)，大于 0。",
        ),
        Mistake(
            lambda S, T: _jacobian(S, T).diagonal(),
            "要一个 (n, n) 的矩阵，第 j 行第 k 列是 ∂A_j/∂S_k；你只给了对角线。",
        ),
        Mistake(
            lambda S, T: torch.diag((S / T).softmax(-1)) / T,
            "漏了 −A_j A_k：分母里有每一个分数，它们都会使 A_j 变。",
        ),
    ],
)


def _decoder_mask(token_ids: Tensor, pad_id: int, *, strict: int = 0) -> Tensor:
    n = token_ids.shape[1]
    return torch.ones(n, n, dtype=torch.bool).tril(-strict) & (token_ids != pad_id)[:, None, None]


def _causal_like(token_ids: Tensor) -> Tensor:
    batch, n = token_ids.shape
    return torch.ones(n, n, dtype=torch.bool).tril().expand(batch, 1, n, n)


_DECODER_MASK = Exercise(
    reference=_decoder_mask,
    # Padding on either side: the second batch begins with it.
    cases=[
        (torch.tensor([[7, 8, 9, 0], [5, 0, 0, 0], [5, 6, 7, 8]]), 0),
        (torch.tensor([[1, 1, 4, 0], [1, 3, 0, 2]]), 1),
    ],
    mistakes=[
        Mistake(
            lambda ids, pad_id: _causal_like(ids),
            "只有因果掩码，填充还看得见：再与 token_ids != pad_id 用 & 合起来。",
        ),
        Mistake(
            lambda ids, pad_id: (ids != pad_id)[:, None, None].expand(-1, 1, ids.shape[1], -1),
            "只有填充掩码，未来还看得见：再与下三角用 & 合起来。",
        ),
        Mistake(
            lambda ids, pad_id: _causal_like(ids) | (ids != pad_id)[:, None, None],
            "两张表用了「或」。两边都许看才许看，要用 &。",
        ),
        Mistake(
            lambda ids, pad_id: ~_decoder_mask(ids, pad_id),
            "反了：True 表示可以看。nn.MultiheadAttention 的掩码才是反过来的。",
        ),
        Mistake(
            lambda ids, pad_id: _decoder_mask(ids, pad_id, strict=1),
            "每个位置看不见自己了。因果掩码是 j ≤ i，对角线也是 True：tril()，不是 tril(-1)。",
        ),
        Mistake(
            lambda ids, pad_id: _causal_like(ids) & (ids != pad_id)[:, None, :, None],
            "挡错了方向：要挡的是填充那几列（谁也不看它），不是填充那几行。",
        ),
        Mistake(
            lambda ids, pad_id: _causal_like(ids).mT & (ids != pad_id)[:, None, None],
            "三角反了：你让每个位置只看见未来。第 i 行许看的是 j ≤ i，下三角 tril()。",
        ),
        Mistake(
            lambda ids, pad_id: _decoder_mask(ids, 0),
            "填充的编号写死成了 0。要用传进来的 pad_id。",
        ),
        Mistake(
            lambda ids, pad_id: _decoder_mask(ids, pad_id)[:, 0],
            "少了头的那个轴：形状是 (batch, 1, n, n)，中间的 1 给各个头共用。",
        ),
    ],
)


def _split_heads(x: Tensor, num_heads: int) -> Tensor:
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


_SPLIT_HEADS = Exercise(
    reference=_split_heads,
    cases=[(_random(2, 5, 12), 3), (_random(1, 4, 8), 4), (_random(3, 4, 8), 2)],
    mistakes=[
        Mistake(
            lambda x, h: x.reshape(x.shape[0], h, x.shape[1], -1),
            "只改了形状，没有换轴：不同位置的数混进了同一个头。"
            "先 view 成 (batch, n, h, d/h)，再 transpose(1, 2)。",
        ),
        Mistake(
            lambda x, h: x.unflatten(-1, (h, -1)),
            "头的轴还在后面：再 transpose(1, 2)，换到位置的前面。",
        ),
        Mistake(
            lambda x, h: x.unflatten(-1, (-1, h)).permute(0, 3, 1, 2),
            "你把相邻的数分给了不同的头。第 r 个头要连着的一段：view 成 (…, h, d/h)，头在前。",
        ),
        Mistake(
            lambda x, h: x.unflatten(-1, (h, -1)).permute(0, 2, 3, 1),
            "最后两个轴反了：要 (batch, h, n, d/h)，一行是一个位置。",
        ),
        Mistake(
            lambda x, h: x.unflatten(-1, (h, -1)).transpose(0, 2).transpose(1, 2),
            "换错了轴：批的轴要留在最前面，只把位置和头对换，transpose(1, 2)。",
        ),
    ],
)


def _cross_attention(
    H: Tensor,
    M: Tensor,
    W_Q: Tensor,
    W_K: Tensor,
    W_V: Tensor,
    *,
    scale: float | None = None,
    dim: int = -1,
) -> Tensor:
    return _scores(H @ W_Q, M @ W_K, scale).softmax(dim) @ (M @ W_V)


_CROSS_ATTENTION = Exercise(
    reference=_cross_attention,
    # As many queries as keys in the first, so that a swap keeps the shapes.
    cases=[
        (_random(4, 6), _random(4, 6), _random(6, 3), _random(6, 3), _random(6, 3)),
        (_random(2, 5), _random(6, 5), _random(5, 4), _random(5, 4), _random(5, 4)),
    ],
    mistakes=[
        Mistake(
            lambda H, M, *W: _cross_attention(M, H, *W),
            "两边反了：查询来自解码器的 H，键和值来自记忆 M。输出一行是一个查询，共 n_q 行。",
        ),
        Mistake(
            lambda H, M, *W: _cross_attention(H, H, *W),
            "这是自注意力：键和值要来自记忆 M。",
        ),
        Mistake(
            lambda H, M, *W: _cross_attention(M, M, *W),
            "查询也用了记忆。查询来自解码器的 H。",
        ),
        Mistake(
            lambda *arguments: _cross_attention(*arguments, scale=1.0),
            "分数没有缩放：softmax 之前除以 √d_k。",
        ),
        Mistake(
            lambda H, M, W_Q, W_K, W_V: _cross_attention(
                H, M, W_Q, W_K, W_V, scale=H.shape[-1] ** -0.5
            ),
            "缩放用错了维数：除以 √d_k（W_Q 的列数），不是 √d（H 的列数）。",
        ),
        Mistake(
            lambda *arguments: _cross_attention(*arguments, dim=0),
            "softmax 的轴错了：每个查询一行，一行加起来是 1，dim=-1。",
        ),
        Mistake(
            lambda H, M, W_Q, W_K, W_V: _cross_attention(H, M, W_K, W_Q, W_V),
            "W_Q 和 W_K 换了位置：查询乘 W_Q，键乘 W_K。",
        ),
        Mistake(
            lambda H, M, W_Q, W_K, W_V: _scores(H @ W_Q, M @ W_K).softmax(-1) @ (M @ W_K),
            "加权的是键。按权重加起来的应当是值，M @ W_V。",
        ),
    ],
)


def _attention_cost(
    n: int,
    d_model: int,
    num_heads: int,
    *,
    projections: int = 4,
    squares: float = 2,
    each: int = 1,
) -> int:
    """Multiply-adds of a self-attention layer; the keywords make the mistakes."""
    return each * int(projections * n * d_model**2 + squares * n**2 * d_model)


_ATTENTION_COST = Exercise(
    reference=_attention_cost,
    cases=[(100, 64, 4), (7, 48, 8), (2048, 256, 16)],
    mistakes=[
        Mistake(
            lambda n, d, h: _attention_cost(n, d, h, projections=3),
            "漏了一个投影：W_Q、W_K、W_V 之外，最后还有 W_O。",
        ),
        Mistake(
            lambda n, d, h: _attention_cost(n, d, h, projections=0),
            "漏了四个投影：每个是 (n, d) 乘 (d, d)，n · d · d 次。",
        ),
        Mistake(
            lambda n, d, h: _attention_cost(n, d, h, squares=1),
            "平方的部分有两处：打分 Q Kᵀ，和加权求和 A V。",
        ),
        Mistake(
            lambda n, d, h: _attention_cost(n, d, h, squares=0),
            "只有投影。打分和加权求和各要 n · n · d 次。",
        ),
        Mistake(
            lambda n, d, h: _attention_cost(n, d, h, squares=2 * h),
            "多乘了头数：每个头只有 d / h 维，h 个头合起来还是 n · n · d。",
        ),
        Mistake(
            lambda n, d, h: _attention_cost(n, d, h, squares=2 / h),
            "只数了一个头。h 个头合起来是 n · n · d。",
        ),
        Mistake(
            lambda n, d, h: _attention_cost(n, d, h, each=h),
            "整个多乘了头数。投影一次做完，打分每个头只有 d / h 维，头数约掉了。",
        ),
        Mistake(
            lambda n, d, h: _attention_cost(n, d, h, each=2),
            "你把一次乘加数成了两次运算。题目数的是乘加。",
        ),
    ],
)


EXERCISES: dict[str, Exercise] = {
    "04.attention_weights": _ATTENTION_WEIGHTS,
    "04.softmax_jacobian": _SOFTMAX_JACOBIAN,
    "04.decoder_mask": _DECODER_MASK,
    "04.split_heads": _SPLIT_HEADS,
    "04.cross_attention": _CROSS_ATTENTION,
    "04.attention_cost": _ATTENTION_COST,
}
"""The exercises of chapter 4, by name."""
