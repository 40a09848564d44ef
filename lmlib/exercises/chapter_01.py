"""The coding exercises of chapter 1, 链式法则与语言模型."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lmlib.exercises._grading import Exercise, Mistake

_GENERATOR = torch.Generator().manual_seed(1)


def _distribution(*shape: int) -> Tensor:
    p = torch.rand(*shape, generator=_GENERATOR, dtype=torch.float64) + 0.05
    return p / p.sum()


def _second_given_first(joint: Tensor) -> Tensor:
    pair = joint.sum(2)
    return pair / pair.sum(1, keepdim=True)


_SECOND_GIVEN_FIRST = Exercise(
    reference=_second_given_first,
    cases=[(_distribution(3, 3, 3),), (_distribution(4, 4, 4),)],
    mistakes=[
        Mistake(
            lambda joint: joint.sum(2),
            "这是 P(x_0, x_1)，两位一起的概率。还要除以 P(x_0)，让每一行加起来等于 1。",
        ),
        Mistake(
            lambda joint: joint.sum(2) / joint.sum(2).sum(0, keepdim=True),
            "除的轴反了：你的每一列加起来是 1，那是 P(x_0 | x_1)。"
            "除以每一行的和：sum(1, keepdim=True)。",
        ),
        Mistake(
            lambda joint: (joint.sum(2) / joint.sum(2).sum(0, keepdim=True)).T,
            "你算的是 P(x_0 | x_1) 再转置。条件是 x_0：除以每一行的和，不必转置。",
        ),
        Mistake(
            lambda joint: _second_given_first(joint).T,
            "数对了，摆反了：行应当是 x_0，列是 x_1。",
        ),
        Mistake(
            lambda joint: joint.sum(0) / joint.sum(0).sum(1, keepdim=True),
            "你把第 0 位加掉了，算出的是 P(x_2 | x_1)。要加掉的是第 2 位：sum(2)。",
        ),
        Mistake(
            lambda joint: joint.sum(1) / joint.sum(1).sum(1, keepdim=True),
            "你把第 1 位加掉了，算出的是 P(x_2 | x_0)。要加掉的是第 2 位：sum(2)。",
        ),
        Mistake(
            lambda joint: joint / joint.sum(2, keepdim=True),
            "这是 P(x_2 | x_0, x_1)。先把第 2 位加掉，再求条件概率。",
        ),
        Mistake(
            lambda joint: joint.sum((0, 2)).expand(joint.shape[0], -1),
            "你的每一行都相同：那是 P(x_1)，没有用到 x_0。",
        ),
    ],
)


def _counts(
    sequences: Sequence[Sequence[int]],
    vocab_size: int,
    begin: Sequence[int],
    end: Sequence[int],
) -> Tensor:
    counts = torch.zeros(vocab_size, vocab_size, dtype=torch.float64)
    for sequence in sequences:
        path = [*begin, *sequence, *end]
        for h, w in itertools.pairwise(path):
            counts[h, w] += 1
    return counts


def _rows(counts: Tensor) -> Tensor:
    return counts / counts.sum(1, keepdim=True).clamp(min=1)


def _joined(sequences: Sequence[Sequence[int]], bos_id: int, eos_id: int) -> list[list[int]]:
    return [[index for sequence in sequences for index in (bos_id, *sequence, eos_id)]]


_TEXT = [[3, 4, 3, 5], [4, 4, 5], [3, 4], [5]]

_BIGRAM_MLE = Exercise(
    reference=lambda sequences, V, bos, eos: _rows(_counts(sequences, V, [bos], [eos])),
    cases=[(_TEXT, 7, 1, 2), ([[2, 3, 2], [3, 3]], 4, 0, 1)],
    mistakes=[
        Mistake(
            lambda sequences, V, bos, eos: _counts(sequences, V, [bos], [eos]),
            "这是次数，还不是概率：每一行除以自己的和。",
        ),
        Mistake(
            lambda sequences, V, bos, eos: _rows(_counts(sequences, V, [bos], [])),
            "漏了 <eos>：每句话的末尾也要预测，它是最后一个字的一种后继。",
        ),
        Mistake(
            lambda sequences, V, bos, eos: _rows(_counts(sequences, V, [], [eos])),
            "漏了 <bos>：第一个字也要有上文，它前面是 <bos>。",
        ),
        Mistake(
            lambda sequences, V, bos, eos: _rows(_counts(sequences, V, [], [])),
            "<bos> 和 <eos> 都漏了：每句话前面添一个 <bos>，后面添一个 <eos>，再数相邻的两个。",
        ),
        Mistake(
            lambda sequences, V, bos, eos: _rows(_counts(sequences, V, [bos], [eos]).T).T,
            "除的轴反了：你的每一列加起来是 1。给定上文 h，一行加起来才是 1。",
        ),
        Mistake(
            lambda sequences, V, bos, eos: _rows(_counts(sequences, V, [bos], [eos]).T),
            "你数反了方向：行应当是前一个字 h，列是后一个字 w。",
        ),
        Mistake(
            lambda sequences, V, bos, eos: (c := _counts(sequences, V, [bos], [eos])) / c.sum(),
            "你除以了全部的和，得到 P(h, w)。条件概率是每一行除以自己的和。",
        ),
        Mistake(
            lambda sequences, V, bos, eos: _rows(_counts(_joined(sequences, bos, eos), V, [], [])),
            "你把所有的话接成了一条，<eos> 后面跟着下一句的 <bos>。句与句之间不相邻，要分开数。",
        ),
        Mistake(
            lambda sequences, V, bos, eos: (
                (c := _counts(sequences, V, [bos], [eos])) / c.sum(1, keepdim=True)
            ),
            "没见过的 h，整行是 0 / 0 = NaN。题目要它填 0：分母可以先 clamp(min=1)。",
        ),
    ],
)


_TABLE = torch.tensor(
    [[3.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [5.0, 0.0, 2.0, 1.0], [0.0, 7.0, 0.0, 0.0]],
    dtype=torch.float64,
)

_ADD_K_TABLE = Exercise(
    reference=lambda counts, k: (counts + k) / (counts.sum(1, keepdim=True) + k * counts.shape[1]),
    cases=[(_TABLE, 1.0), (_TABLE[:, [2, 0, 3, 1]], 0.05)],
    mistakes=[
        Mistake(
            lambda counts, k: (counts + k) / (counts.sum(1, keepdim=True) + k),
            "分母只加了一个 k。每个 w 的分子都加了 k，一共 |V| 个，分母要加 k·|V|，"
            "一行加起来才是 1。",
        ),
        Mistake(
            lambda counts, k: (counts + k) / counts.sum(1, keepdim=True),
            "分母没有跟着加：一行加起来超过了 1。分母是 c(h •) + k·|V|。",
        ),
        Mistake(
            lambda counts, k: counts / (counts.sum(1, keepdim=True) + k * counts.shape[1]),
            "只加了分母，没加分子：没见过的仍是 0，一行加起来不到 1。",
        ),
        Mistake(
            lambda counts, k: (counts + 1) / (counts.sum(1, keepdim=True) + counts.shape[1]),
            "你总是加 1，没有用到 k。",
        ),
        Mistake(
            lambda counts, k: (counts + k) / (counts.sum(0, keepdim=True) + k * counts.shape[0]),
            "轴反了：你除以每一列的和。c(h •) 是一行的和，sum(1, keepdim=True)。",
        ),
        Mistake(
            lambda counts, k: (counts + k) / (counts.sum() + k * counts.numel()),
            "你除以了整张表的和，得到的是 P(h, w)。每一行各自归一。",
        ),
        Mistake(
            lambda counts, k: (counts + k) / (counts + k).sum(1),
            "差一个 keepdim=True：除的时候，行和被当成了一行，而不是一列。",
        ),
    ],
)


_LOG_PROBS = [
    torch.tensor([-1.0, -2.0, -0.5], dtype=torch.float64),
    torch.tensor([-4.0, -0.25, -3.0, -1.5, -0.75, -2.0], dtype=torch.float64),
    torch.tensor([-5.0], dtype=torch.float64),
]


def _perplexity(log_probs: Sequence[Tensor]) -> float:
    return math.exp(-torch.cat(list(log_probs)).mean().item())


_CORPUS_PERPLEXITY = Exercise(
    reference=_perplexity,
    cases=[(_LOG_PROBS,), (_LOG_PROBS[:2],)],
    mistakes=[
        Mistake(
            lambda log_probs: -torch.cat(list(log_probs)).mean().item(),
            "这是交叉熵，平均的惊讶。困惑度是它的指数：exp。",
        ),
        Mistake(
            lambda log_probs: 1 / _perplexity(log_probs),
            "忘了负号：困惑度是 exp(−平均 log P)，不会小于 1。",
        ),
        Mistake(
            lambda log_probs: sum(map(_perplexity, [[x] for x in log_probs])) / len(log_probs),
            "你给每句话各算一个困惑度再平均。要先把全部词元放在一起平均，再取指数：torch.cat。",
        ),
        Mistake(
            lambda log_probs: math.exp(-sum(x.mean().item() for x in log_probs) / len(log_probs)),
            "你先在每句话里平均，再在句子之间平均，短句子就占了便宜。把全部词元放在一起平均。",
        ),
        Mistake(
            lambda log_probs: math.exp(-torch.cat(list(log_probs)).sum().item() / len(log_probs)),
            "你除以了句子的个数。N 是词元的个数。",
        ),
        Mistake(
            lambda log_probs: math.exp(-torch.cat(list(log_probs)).sum().item()),
            "你忘了除以 N：困惑度是平均每个词元的，不随文本变长而变大。",
        ),
        Mistake(
            lambda log_probs: 2 ** -torch.cat(list(log_probs)).mean().item(),
            "底数不配：log P 是自然对数，要用 e 作底：exp，不是 2 的幂。",
        ),
        Mistake(
            lambda log_probs: 1 / torch.cat(list(log_probs)).exp().mean().item(),
            "你平均的是概率。要平均的是 log P，也就是概率的几何平均。",
        ),
        Mistake(
            lambda log_probs: math.exp(-torch.cat([x[:-1] for x in log_probs]).mean().item()),
            "你把每句话的最后一个词元丢掉了。<eos> 也是预测出来的，题目说它要算。",
        ),
    ],
)


def _entropy_bits(p: Tensor, q: Tensor) -> float:
    some = p > 0
    return -(p[some] * q[some].log2()).sum().item()


_P = torch.tensor([0.5, 0.25, 0.25, 0.0], dtype=torch.float64)
_Q = torch.tensor([0.25, 0.125, 0.5, 0.125], dtype=torch.float64)
_Q_ZERO = torch.tensor([0.3, 0.3, 0.4, 0.0], dtype=torch.float64)

_CROSS_ENTROPY_BITS = Exercise(
    reference=_entropy_bits,
    cases=[(_P, _Q), (_P, _Q_ZERO)],
    mistakes=[
        Mistake(
            lambda p, q: _entropy_bits(p, q) * math.log(2),
            "单位是奈特：你用了自然对数。要比特，用 log2。",
        ),
        Mistake(
            lambda p, q: -_entropy_bits(p, q),
            "差一个负号：log q 不大于 0，交叉熵不小于 0。",
        ),
        Mistake(
            lambda p, q: _entropy_bits(p, p),
            "这是 p 的熵 H(p)，没有用到 q。对数里面是 q。",
        ),
        Mistake(
            lambda p, q: _entropy_bits(p, q) - _entropy_bits(p, p),
            "这是 KL 散度。交叉熵还要加上 H(p)：对数里面只有 q，没有 p / q。",
        ),
        Mistake(
            lambda p, q: _entropy_bits(q, p.clamp(min=1e-300)),
            "p 与 q 放反了：外面乘的是真实分布 p，对数里面是模型 q。",
        ),
        Mistake(
            lambda p, q: -(p * q.log2()).sum().item(),
            "p 和 q 都是 0 的地方成了 0 × (−∞) = NaN。先挑出 p > 0 的地方。",
        ),
        Mistake(
            lambda p, q: -(p[p > 0] * q[p > 0].log2()).mean().item(),
            "求和，不是平均：p 本身就是权重。",
        ),
    ],
)


_CONTINUATION_PROBABILITY = Exercise(
    reference=lambda counts: (counts > 0).sum(0).to(counts.dtype) / (counts > 0).sum(),
    cases=[(_TABLE,), (_TABLE[:, [1, 3, 0, 2]],)],
    mistakes=[
        Mistake(
            lambda counts: counts.sum(0) / counts.sum(),
            "你加的是次数，那是普通的一元概率。这里每种上文只算一次：先看 counts > 0。",
        ),
        Mistake(
            lambda counts: (counts > 0).sum(1).to(counts.dtype) / (counts > 0).sum(),
            "轴反了：你数的是后面出现过多少种字，N1+(w •)。"
            "要数前面有多少种：沿第 0 个轴加，sum(0)。",
        ),
        Mistake(
            lambda counts: counts.sum(1) / counts.sum(),
            "两处要改：数的是种类不是次数（counts > 0），而且要沿第 0 个轴加。",
        ),
        Mistake(
            lambda counts: (counts > 0).sum(0).to(counts.dtype),
            "种类数对了，还没有归一：除以全部的种类数。",
        ),
        Mistake(
            lambda counts: (counts > 0).sum(0).to(counts.dtype) / counts.sum(),
            "分子是种类，分母却是次数。分母也要是种类：所有 w 的 N1+(• w) 之和。",
        ),
        Mistake(
            lambda counts: (counts > 0).sum(0).to(counts.dtype) / len(counts),
            "你除以了 |V|：那是「前面出现过的字占全部字的几分之几」，加起来不是 1。",
        ),
    ],
)


EXERCISES = {
    "01.second_given_first": _SECOND_GIVEN_FIRST,
    "01.bigram_mle": _BIGRAM_MLE,
    "01.add_k_table": _ADD_K_TABLE,
    "01.corpus_perplexity": _CORPUS_PERPLEXITY,
    "01.cross_entropy_bits": _CROSS_ENTROPY_BITS,
    "01.continuation_probability": _CONTINUATION_PROBABILITY,
}
"""By name, as the chapter calls them."""
