"""The coding exercises of chapter 2, 数据来源与分词."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lmlib.exercises._grading import Exercise, Mistake

_Words = Sequence[tuple[Sequence[int], int]]


def _runs(text: str, n: int) -> list[str]:
    return [text[i : i + n] for i in range(len(text) - n + 1)]


def _sets(a: str, b: str, n: int) -> tuple[set[str], set[str]]:
    return set(_runs(a, n)), set(_runs(b, n))


def _jaccard(a: str, b: str, n: int) -> float:
    first, second = _sets(a, b, n)
    return len(first & second) / len(first | second)


def _multiset_jaccard(a: str, b: str, n: int) -> float:
    first, second = Counter(_runs(a, n)), Counter(_runs(b, n))
    return (first & second).total() / (first | second).total()


def _over(size: Callable[[set[str], set[str]], float]) -> Callable[[str, str, int], float]:
    """What two texts share, divided by another size than that of the union."""

    def ratio(a: str, b: str, n: int) -> float:
        first, second = _sets(a, b, n)
        return len(first & second) / size(first, second)

    return ratio


_TEXT_JACCARD = Exercise(
    reference=_jaccard,
    cases=[
        ("天天天天向上看", "天天向上", 2),
        ("你好世界你好中国", "世界你好世界和平", 3),
        ("春眠不觉晓处处闻啼鸟", "春眠不觉晓蚊子咬", 2),
    ],
    mistakes=[
        Mistake(
            _multiset_jaccard,
            "重复的片段你算了几次。片段是集合，每种只算一次：用 {…} 或 set。",
        ),
        Mistake(
            lambda a, b, n: _jaccard(a[:-1], b[:-1], n),
            "漏了最后一个片段：起点可以走到 len(a) − n，所以是 range(len(a) - n + 1)。",
        ),
        Mistake(
            lambda a, b, n: _jaccard(a, b, 1),
            "你比的是单个的字，没有用到 n。片段是连着的 n 个字：a[i : i + n]。",
        ),
        Mistake(
            lambda a, b, n: 1 - _jaccard(a, b, n),
            "你算的是 1 − J，那是距离：越像越小。相似度是共有的除以总共的。",
        ),
        Mistake(
            _over(lambda first, second: (len(first) + len(second)) / 2),
            "这是 Dice 系数：除以两个大小的平均。杰卡德除以并集的大小，len(A | B)。",
        ),
        Mistake(
            _over(lambda first, second: min(len(first), len(second))),
            "你除以了较小的集合，那叫重叠系数。杰卡德除以并集：len(A | B)。",
        ),
    ],
)


def _caught(J: float, r: int, b: int) -> float:
    return 1 - (1 - J**r) ** b


_CAUGHT_PROBABILITY = Exercise(
    reference=_caught,
    cases=[(0.6, 3, 4), (0.9, 16, 8), (0.3, 2, 5)],
    mistakes=[
        Mistake(
            lambda J, r, b: (1 - J**r) ** b,
            "这是一段也没有全同的概率，也就是漏掉的概率。用 1 减它。",
        ),
        Mistake(
            lambda J, r, b: _caught(J, b, r),
            "r 与 b 用反了：一段里 r 个数都要相同（J 的 r 次方），一共有 b 段。",
        ),
        Mistake(
            lambda J, r, b: J**r,
            "这是某一段全同的概率。一共有 b 段，只要有一段全同就会被拿出来。",
        ),
        Mistake(
            lambda J, r, b: b * J**r,
            "概率不能直接相加：几段可能同时全同，加起来会超过 1。先算一段也没有的概率。",
        ),
        Mistake(
            lambda J, r, b: J ** (r * b),
            "这是每一段都全同的概率。只要有一段就够了：1 −（一段也没有的概率）。",
        ),
    ],
)


def _leaked(train: Sequence[str], test: Sequence[str]) -> float:
    return sum(text in set(train) for text in test) / len(test)


_LEAKED_SHARE = Exercise(
    reference=_leaked,
    cases=[
        (
            ["很好", "一般般", "很好", "太差", "还行", "不错"],
            ["很好", "很好", "一般", "没有", "太差"],
        ),
        (["甲乙", "丙"], ["甲", "丙", "丙", "丁"]),
    ],
    mistakes=[
        Mistake(
            lambda train, test: len(set(train) & set(test)) / len(set(test)),
            "你按种类算了。考题重复出现时，每一条各算一条：不要把 test 变成集合。",
        ),
        Mistake(
            lambda train, test: len(set(train) & set(test)) / len(test),
            "分子按种类，分母按条。重复的考题在分子里也要各算一条：逐条数 text in …。",
        ),
        Mistake(
            lambda train, test: sum(text in train for text in test) / len(train),
            "分母是 len(train)。问的是考题里有多大一部分，除以 len(test)。",
        ),
        Mistake(
            lambda train, test: _leaked(test, train),
            "方向反了：你算的是训练集里有多大一部分在考题里。要逐条看 test。",
        ),
        Mistake(
            lambda train, test: sum(text in "\n".join(train) for text in test) / len(test),
            "你找的是「包含」：「一般」在「一般般」里也找得到。要整条相同：到列表或集合里找。",
        ),
    ],
)


def _pairs(words: _Words, vocab_size: int, *, once: bool = False, weigh: bool = True) -> Tensor:
    counts = torch.zeros(vocab_size, vocab_size)
    for ids, times in words:
        found = list(itertools.pairwise(ids))
        for a, b in set(found) if once else found:
            counts[a, b] += times if weigh else 1
    return counts


def _joined(words: _Words) -> _Words:
    return [([index for ids, times in words for index in list(ids) * times], 1)]


_PAIR_COUNTS = Exercise(
    reference=_pairs,
    cases=[
        ([([0, 1, 2], 5), ([1, 2, 1, 2], 3), ([3], 7), ([2, 2, 2, 0], 2)], 4),
        ([([4, 3], 1), ([3, 4, 0, 3, 4], 6)], 5),
    ],
    mistakes=[
        Mistake(
            lambda words, V: _pairs(words, V, weigh=False),
            "没有用到次数：这个词出现了几次，它里面的每一对就要加几。",
        ),
        Mistake(
            lambda words, V: _pairs(words, V, once=True),
            "一个词里重复的对你只算了一次。[1, 2, 1, 2] 里有两个 (1, 2)。",
        ),
        Mistake(
            lambda words, V: _pairs(words, V).T,
            "行与列反了：第 (a, b) 格是 a 在前、b 在后。",
        ),
        Mistake(
            lambda words, V: _pairs(words, V) + _pairs(words, V).T,
            "次序要紧：(a, b) 与 (b, a) 是两对，不要加在一起。",
        ),
        Mistake(
            lambda words, V: _pairs(_joined(words), V),
            "你把所有的词接成了一条。一个词的末尾与下一个词的开头不算相邻，要分开数。",
        ),
    ],
)


def _merged(
    ids: Sequence[int],
    a: int,
    b: int,
    new: int,
    *,
    limit: int | None = None,
    swapped: bool = False,
) -> Tensor:
    out: list[int] = []
    i = done = 0
    while i < len(ids):
        pair = tuple(ids[i : i + 2])
        fits = pair == (a, b) or (swapped and pair == (b, a))
        if fits and done != limit:
            out.append(new)
            i, done = i + 2, done + 1
        else:
            out.append(ids[i])
            i += 1
    return torch.tensor(out)


def _overlapping(ids: Sequence[int], a: int, b: int, new: int) -> Tensor:
    """Every place where the pair stands becomes one, though two of them share a token."""
    places = {i for i, pair in enumerate(itertools.pairwise(ids)) if pair == (a, b)}
    return torch.tensor(
        [new if i in places else x for i, x in enumerate(ids) if i in places or i - 1 not in places]
    )


_MERGE_PAIR = Exercise(
    reference=_merged,
    cases=[
        ([7, 7, 7, 8, 7, 8, 8, 7], 7, 8, 9),
        ([7, 7, 7, 5, 7, 7, 7, 7, 7], 7, 7, 9),
        ([1, 2, 3, 1, 2], 1, 2, 4),
    ],
    mistakes=[
        Mistake(
            _overlapping,
            "合并过的词元又被用了一次：[7, 7, 7] 里两处 (7, 7) 共用中间的 7，只能合并第一处。"
            "合并以后一次走两格。",
        ),
        Mistake(
            lambda ids, a, b, new: _merged(ids[::-1], b, a, new).flip(0),
            "你从右往左合并了：[7, 7, 7] 成了 [7, new]。约定从左往右。",
        ),
        Mistake(
            lambda ids, a, b, new: _merged(ids, a, b, new, limit=1),
            "只合并了第一处。每一处都要换。",
        ),
        Mistake(
            lambda ids, a, b, new: _merged(ids, a, b, new, swapped=True),
            "b 在前、a 在后的你也合并了。次序要对：a 后面紧跟 b。",
        ),
        Mistake(
            lambda ids, a, b, new: torch.tensor(
                [new if tuple(ids[i : i + 2]) == (a, b) else x for i, x in enumerate(ids)]
            ),
            "a 换成了 new，后面的 b 却还留着。两个词元换成一个：跳过 b。",
        ),
    ],
)


def _tf_idf(
    counts: Tensor,
    df: Tensor | None = None,
    *,
    log: Callable[[Tensor], Tensor] = torch.log,
    tf: Tensor | None = None,
    total: int | None = None,
) -> Tensor:
    """tf · log(N / df); the keywords make the mistakes."""
    if df is None:
        df = (counts > 0).sum(0).clamp(min=1)
    return (counts if tf is None else tf) * log((total or len(counts)) / df)


_COUNTS = torch.tensor(
    [[3.0, 1.0, 0.0, 0.0, 2.0], [1.0, 0.0, 0.0, 0.0, 2.0], [2.0, 0.0, 0.0, 4.0, 0.0]]
)

_TF_IDF = Exercise(
    reference=_tf_idf,
    cases=[(_COUNTS,), (_COUNTS[:, [4, 2, 0, 3]],), (_COUNTS[:2],)],
    mistakes=[
        Mistake(
            lambda counts: _tf_idf(counts, (counts > 0).sum(0)),
            "哪一篇里都没有的词元，是 0 × log(N/0) = 0 × ∞ = NaN。df 先 clamp(min=1)。",
        ),
        Mistake(
            lambda counts: _tf_idf(counts, counts.sum(0).clamp(min=1)),
            "df 用了总次数。df 是在几篇里出现过，一篇里出现十次也只算一篇：(counts > 0).sum(0)。",
        ),
        Mistake(
            lambda counts: _tf_idf(counts, log=lambda x: x),
            "漏了对数：idf = log(N / df)。",
        ),
        Mistake(
            lambda counts: counts * (((1 + len(counts)) / (1 + (counts > 0).sum(0))).log() + 1),
            "这是 scikit-learn 的平滑公式，每篇都有的词元也不为 0。这里要 log(N / df)。",
        ),
        Mistake(
            lambda counts: _tf_idf(counts, tf=(counts > 0).to(counts.dtype)),
            "只看了有没有，没有用到次数：idf 还要乘 counts。",
        ),
        Mistake(
            lambda counts: _tf_idf(counts, tf=counts / counts.sum(1, keepdim=True)),
            "你把 tf 除以了篇的长度。这里的 tf 就是次数。",
        ),
        Mistake(
            lambda counts: _tf_idf(counts, total=counts.shape[1]),
            "N 是篇数，即行数 len(counts)。你用了列数。",
        ),
    ],
)


def _pmi(C: Tensor) -> Tensor:
    P = C / C.sum()
    return (P / (P.sum(1, keepdim=True) * P.sum(0, keepdim=True))).log()


_CO_OCCURRENCE = torch.tensor(
    [[0.0, 6.0, 1.0, 0.0], [6.0, 2.0, 1.0, 3.0], [1.0, 1.0, 8.0, 1.0], [0.0, 3.0, 1.0, 4.0]]
)

_PPMI = Exercise(
    reference=lambda C: _pmi(C).clamp(min=0),
    cases=[(_CO_OCCURRENCE,), (_CO_OCCURRENCE[1:, 1:],)],
    mistakes=[
        Mistake(
            _pmi,
            "这是 PMI，有负数（和 −∞）。PPMI 把小于 0 的当 0：clamp(min=0)。",
        ),
        Mistake(
            lambda C: _pmi(C).exp(),
            "漏了对数：你给的是 P(x,y) / (P(x) P(y))。取对数，再把小于 0 的当 0。",
        ),
        Mistake(
            lambda C: _pmi(C).clamp(min=0) / math.log(2),
            "用了以 2 为底的对数。题目要自然对数：log。",
        ),
        Mistake(
            lambda C: (C / (C.sum(1, keepdim=True) * C.sum(0, keepdim=True))).log().clamp(min=0),
            "没有先变成概率：C 除以总和才是 P(x,y)。直接用次数，比值太小，全成了 0。",
        ),
        Mistake(
            lambda C: (C / C.sum(1, keepdim=True)).log(),
            "这是 log P(y | x)。还要除以 P(y)，再把小于 0 的当 0。",
        ),
        Mistake(
            lambda C: (C / C.sum() * _pmi(C)).nan_to_num(0.0).clamp(min=0),
            "你多乘了一个 P(x,y)，那是互信息里的一项。PMI 只有对数那一部分。",
        ),
        Mistake(
            lambda C: _pmi(C).abs().nan_to_num(0.0, posinf=0.0),
            "小于 0 的要当 0，不是取绝对值：那样「比碰巧少」也成了「比碰巧多」。",
        ),
    ],
)

EXERCISES: dict[str, Exercise] = {
    "02.text_jaccard": _TEXT_JACCARD,
    "02.caught_probability": _CAUGHT_PROBABILITY,
    "02.leaked_share": _LEAKED_SHARE,
    "02.pair_counts": _PAIR_COUNTS,
    "02.merge_pair": _MERGE_PAIR,
    "02.tf_idf": _TF_IDF,
    "02.ppmi": _PPMI,
}
"""The exercises of chapter 2, by name."""
