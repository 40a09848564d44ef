"""The coding exercises of chapter 9, 推理：从概率到文字."""

from __future__ import annotations

import torch
from torch import Tensor

from lmlib.exercises._grading import Exercise, Mistake

_GENERATOR = torch.Generator().manual_seed(9)


def _random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=_GENERATOR, dtype=torch.float64)


def _distribution(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# ------------------------------------------------------------------ nucleus


def _nucleus(probs: Tensor, p: float, *, short: bool = False, normalise: bool = True) -> Tensor:
    """Top-p on probabilities; the keywords make the mistakes."""
    values, order = probs.sort(descending=True)
    sums = values.cumsum(0)
    keep = sums <= p if short else sums - values < p
    kept = torch.zeros_like(probs)
    kept[order[keep]] = values[keep]
    return kept / kept.sum() if normalise else kept


_NUCLEUS_PROBS = Exercise(
    reference=_nucleus,
    # The most probable stands anywhere; in the last case it alone has more than p.
    cases=[
        (_distribution(0.1, 0.4, 0.05, 0.25, 0.2), 0.7),
        ((2 * _random(12)).softmax(0), 0.9),
        (_distribution(0.05, 0.15, 0.8), 0.5),
    ],
    mistakes=[
        Mistake(
            lambda probs, p: _nucleus(probs, p, normalise=False),
            "留下的没有重新归一：加起来要是 1。",
        ),
        Mistake(
            lambda probs, p: _nucleus(probs, p, short=True),
            "少留了一个：跨过 p 的那一个也要留下。第一名自己就超过 p 时，你一个也没留，成了 0/0。",
        ),
        Mistake(
            lambda probs, p: _nucleus(probs, p).sort(descending=True).values,
            "概率对了，位置错了：你交的是排过序的，要放回各自原来的编号上。",
        ),
        Mistake(
            lambda probs, p: (kept := probs * (probs.cumsum(0) - probs < p)) / kept.sum(),
            "没有排序：核是从概率最大的加起，不是从编号最小的加起。",
        ),
        Mistake(
            lambda probs, p: (kept := probs * (probs >= p * probs.max())) / kept.sum(),
            "这是 min-p：与第一名的概率比。核采样看的是累计的概率。",
        ),
    ],
)


# ------------------------------------------------------------------ repetition penalty


def _penalised(
    logits: Tensor,
    token_ids: Tensor,
    r: float,
    *,
    signs: bool = True,
    each_time: bool = False,
    others: bool = False,
) -> Tensor:
    """The repetition penalty; the keywords make the mistakes."""
    times = torch.bincount(token_ids, minlength=len(logits))
    power = times if each_time else times.clamp(max=1)
    power = 1 - power if others else power
    factor = torch.as_tensor(r, dtype=logits.dtype) ** power
    return torch.where((logits > 0) | (not signs), logits / factor, logits * factor)


_PENALISED = Exercise(
    reference=_penalised,
    # Both signs among those that occur, one of them three times.
    cases=[
        (_distribution(1.5, -2.0, 0.5, 3.0, -1.0), torch.tensor([0, 1, 1, 1]), 1.5),
        (2 * _random(8), torch.tensor([7, 2, 3, 2, 5]), 2.0),
    ],
    mistakes=[
        Mistake(
            lambda logits, token_ids, r: _penalised(logits, token_ids, r, signs=False),
            "一律除了：负的对数几率除以 r 反而变大，等于鼓励重复。不是正的要乘 r。",
        ),
        Mistake(
            lambda logits, token_ids, r: _penalised(logits, token_ids, r, each_time=True),
            "出现几次罚了几次。这里不管几次，只罚一次。",
        ),
        Mistake(
            lambda logits, token_ids, r: _penalised(logits, token_ids, r, others=True),
            "罚反了：要罚的是出现过的，你罚了没出现过的。",
        ),
        Mistake(
            lambda logits, token_ids, r: _penalised(logits, token_ids, 1 / r),
            "乘除反了：正的要除以 r，不是正的要乘 r，都变小才是惩罚。",
        ),
        Mistake(
            lambda logits, token_ids, r: logits.clone().index_fill_(0, token_ids, float("-inf")),
            "出现过的全禁了：惩罚只让它变小，不是不许再写，不然标点也只能用一次。",
        ),
        Mistake(
            lambda logits, token_ids, r: (
                logits - r * (torch.bincount(token_ids, minlength=len(logits)) > 0)
            ),
            "你减去了 r。这里的惩罚是乘除，不是加减。",
        ),
    ],
)


# ------------------------------------------------------------------ one step of beam search


def _beam_step(totals: Tensor, log_P: Tensor, *, columns: int = 0) -> Tensor:
    k, vocab_size = log_P.shape
    best = (totals[:, None] + log_P).flatten().topk(k)
    width = columns or vocab_size
    parents, tokens = best.indices // width, best.indices % width
    return torch.stack([parents.to(best.values), tokens.to(best.values), best.values], dim=1)


def _greedy_each(totals: Tensor, log_P: Tensor) -> Tensor:
    """Each beam goes on by its own best token."""
    best = log_P.max(dim=1)
    rows = torch.stack(
        [torch.arange(len(totals)).to(totals), best.indices.to(totals), totals + best.values], dim=1
    )
    return rows[rows[:, 2].argsort(descending=True)]


def _without_totals(totals: Tensor, log_P: Tensor) -> Tensor:
    return _beam_step(torch.zeros_like(totals), log_P)


# The second beam lies far behind, the third has two good ways to go on.
_BEAM_STEP = Exercise(
    reference=_beam_step,
    cases=[
        (
            _distribution(-1.0, -6.0, -1.2),
            torch.stack(
                [
                    _distribution(0.3, 0.3, 0.2, 0.1, 0.1).log() - _distribution(0, 0.1, 0, 0, 0),
                    _distribution(0.05, 0.05, 0.05, 0.05, 0.8).log(),
                    _distribution(0.06, 0.48, 0.4, 0.04, 0.02).log(),
                ]
            ),
        ),
        (_distribution(-0.5, -0.7), (2 * _random(2, 6)).log_softmax(1)),
    ],
    mistakes=[
        Mistake(
            _greedy_each,
            "你让每一句各取一个最好的续法。要把所有的续法放在一起比："
            "一句可以占两个名额，也可以一个都没有。",
        ),
        Mistake(
            _without_totals,
            "没有加上各句已有的总 log P：比的应当是整句，不是这一步。",
        ),
        Mistake(
            lambda totals, log_P: _beam_step(totals, log_P, columns=len(totals)),
            "摊平以后，编号除以的应当是词表的大小 |V|，不是束宽 k。",
        ),
        Mistake(
            lambda totals, log_P: _beam_step(totals, log_P)[:, [1, 0, 2]],
            "前两列换了位置：先是来自第几句，再是词元编号。",
        ),
        Mistake(
            lambda totals, log_P: _beam_step(totals, log_P).flip(0),
            "次序反了：总 log P 大的在前。",
        ),
        Mistake(
            lambda totals, log_P: _beam_step(totals, log_P.exp()),
            "log P 要直接相加，不要先取指数。",
        ),
    ],
)


# ------------------------------------------------------------------ bytes of a cache


def _cache_size(*sizes: int) -> int:
    layers, _heads, kv_heads, d_k, n, batch, width = sizes
    return 2 * layers * kv_heads * d_k * n * batch * width


_CACHE_SIZE = Exercise(
    reference=_cache_size,
    cases=[(80, 64, 8, 128, 4096, 3, 2), (4, 6, 2, 32, 26, 5, 4)],
    mistakes=[
        Mistake(
            lambda *sizes: _cache_size(*sizes[:2], sizes[1], *sizes[3:]),
            "用错了头数：缓存里只有键和值，查询有几个头不相干。",
        ),
        Mistake(lambda *sizes: _cache_size(*sizes) // 2, "少了一半：键一份，值一份，要乘 2。"),
        Mistake(lambda *sizes: _cache_size(1, *sizes[1:]), "少了层数：每一层都有自己的键和值。"),
        Mistake(lambda *sizes: _cache_size(*sizes[:5], 1, sizes[6]), "少了句数：每一句各存各的。"),
        Mistake(
            lambda *sizes: _cache_size(*sizes[:6], 1),
            "这是有几个数，不是有几个字节：再乘每个数的字节。",
        ),
        Mistake(
            lambda *sizes: _cache_size(*sizes) * int(sizes[4]),
            "乘了两次 n：存的是键和值，随 n 长；n × n 的是注意力权重，不存。",
        ),
    ],
)


# ------------------------------------------------------------------ left padding


def _left_padded(
    rows: list[list[int]],
    pad_id: int,
    *,
    right: bool = False,
    by_id: bool = False,
    columns: bool = False,
    clamp: bool = True,
) -> Tensor:
    """Ids, mask and positions, (3, b, n); the keywords make the mistakes."""
    n = max(map(len, rows))
    fill = [[pad_id] * (n - len(row)) for row in rows]
    ids = torch.tensor([row + f if right else f + row for row, f in zip(rows, fill, strict=True)])
    none = [[0] * len(f) for f in fill]
    ones = [[1] * len(row) for row in rows]
    mask = torch.tensor([o + z if right else z + o for o, z in zip(ones, none, strict=True)])
    if by_id:
        mask = (ids != pad_id).long()
    positions = mask.cumsum(1) - 1
    if columns:
        positions = torch.arange(n).expand(len(rows), n)
    positions = positions * mask if right else positions
    return torch.stack([ids, mask, positions.clamp(min=0) if clamp else positions])


_LEFT_PADDED = Exercise(
    reference=_left_padded,
    # The id of padding stands in a text too.
    cases=[([[5, 6, 7, 8], [9], [3, 0, 4]], 0), ([[1, 2], [2, 2, 2]], 2)],
    mistakes=[
        Mistake(
            lambda rows, pad_id: _left_padded(rows, pad_id, right=True),
            "填到右边去了：写的时候要填在左边，让每一行的末位落在同一列。",
        ),
        Mistake(
            lambda rows, pad_id: _left_padded(rows, pad_id, by_id=True),
            "掩码是凭编号猜的：真的词元里也可能有这个编号。要按长度来定。",
        ),
        Mistake(
            lambda rows, pad_id: _left_padded(rows, pad_id, columns=True),
            "位置从填充数起了：真的词元从 0 数起，填充处写 0。",
        ),
        Mistake(
            lambda rows, pad_id: _left_padded(rows, pad_id, clamp=False),
            "填充处的位置成了 −1：那里写 0，免得查位置表时出错。",
        ),
        Mistake(
            lambda rows, pad_id: (
                _left_padded(rows, pad_id) * torch.tensor([1, -1, 1])[:, None, None]
                + torch.tensor([0, 1, 0])[:, None, None]
            ),
            "掩码反了：真的词元是 1，填充是 0。",
        ),
    ],
)


# ------------------------------------------------------------------ groups of few bits


def _group_rounded(W: Tensor, bits: int, group: int, *, top: int | None = None) -> Tensor:
    parts = W.unflatten(1, (-1, group))
    largest = 2 ** (bits - 1) - 1 if top is None else top
    scale = parts.abs().amax(-1, keepdim=True) / largest
    return ((parts / scale).round() * scale).flatten(1)


def _whole_numbers(W: Tensor, bits: int, group: int) -> Tensor:
    parts = W.unflatten(1, (-1, group))
    scale = parts.abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 1)
    return (parts / scale).round().flatten(1)


def _down(W: Tensor, bits: int, group: int) -> Tensor:
    parts = W.unflatten(1, (-1, group))
    scale = parts.abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 1)
    return ((parts / scale).trunc() * scale).flatten(1)


def _without_abs(W: Tensor, bits: int, group: int) -> Tensor:
    parts = W.unflatten(1, (-1, group))
    scale = parts.amax(-1, keepdim=True) / (2 ** (bits - 1) - 1)
    return ((parts / scale).round() * scale).flatten(1)


_GROUP_ROUNDED = Exercise(
    reference=_group_rounded,
    cases=[(_random(3, 8), 4, 4), (_random(2, 12), 3, 6)],
    mistakes=[
        Mistake(
            lambda W, bits, group: _group_rounded(W, bits, W.shape[1]),
            "整行用了一个比例：每 group 个数各有一个。",
        ),
        Mistake(
            lambda W, bits, group: _group_rounded(W, bits, group, top=2**bits - 1),
            "整数的范围大了一倍：bits 位里有一位是正负号，最大是 2 的 bits − 1 次方减 1。",
        ),
        Mistake(
            lambda W, bits, group: _group_rounded(W, bits, group, top=2 ** (bits - 1)),
            "最大的整数多了 1：对称的 bits 位整数最大是 2 的 bits − 1 次方减 1。",
        ),
        Mistake(_whole_numbers, "交的是整数：还要乘回比例。"),
        Mistake(_down, "你截掉了小数，没有四舍五入：最多会错一整格，用 round。"),
        Mistake(_without_abs, "比例要由绝对值最大的定：一组里最负的那个可能更大。"),
    ],
)


# ------------------------------------------------------------------ what remains of the target


def _remaining(p: Tensor, q: Tensor) -> Tensor:
    rest = (p - q).clamp(min=0)
    return rest / rest.sum() if rest.sum() > 0 else p


_EQUAL = _distribution(0.25, 0.75)
_REMAINING = Exercise(
    reference=_remaining,
    cases=[
        (_distribution(0.5, 0.3, 0.2, 0.0), _distribution(0.2, 0.2, 0.3, 0.3)),
        (_random(6).softmax(0), _random(6).softmax(0)),
        (_EQUAL, _EQUAL.clone()),
    ],
    mistakes=[
        Mistake(lambda p, q: p, "从 p 里重抽，p 大于 q 的字就写少了：要减去已经接受过的那一份。"),
        Mistake(
            lambda p, q: (p - q).clamp(min=0),
            "没有归一：余下的加起来是 1 − α，要除以它。p = q 时返回 p。",
        ),
        Mistake(
            lambda p, q: _remaining(q, p),
            "减反了：余下的是 p 比 q 多的那一份，p − q。",
        ),
        Mistake(
            lambda p, q: rest / rest.sum() if (rest := (p - q).abs()).sum() > 0 else p,
            "用了绝对值：q 比 p 多的字已经写得够多了，那里应当是 0。",
        ),
        Mistake(
            lambda p, q: (rest := (p - q).clamp(min=0)) / rest.sum(),
            "p = q 时余下的全是 0，成了 0/0：这时返回 p。",
        ),
        Mistake(
            lambda p, q: (p - q).clamp(min=0).softmax(0),
            "归一用的是除以总和，不是 softmax：softmax 会给 0 也分一份。",
        ),
    ],
)


EXERCISES = {
    "09.nucleus_probs": _NUCLEUS_PROBS,
    "09.penalised": _PENALISED,
    "09.beam_step": _BEAM_STEP,
    "09.cache_size": _CACHE_SIZE,
    "09.left_padded": _LEFT_PADDED,
    "09.group_rounded": _GROUP_ROUNDED,
    "09.remaining": _REMAINING,
}
"""By name."""
