"""A small grammar that says the same in Chinese and in English, to the last article.

A sentence is a subject, a time, a place or none, perhaps a negation, a verb, one or two objects,
perhaps a question. An object is a determiner, perhaps an adjective, and a noun with its measure
word. Both languages follow from these choices by rules; the rules of English are those that a
learner of it falls over: articles, plurals, third person, do-support, -ing.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import NamedTuple

from lmlib._checks import check_not_negative, check_positive
from lmlib.datasets._pairs import Pair
from lmlib.datasets._splits import Splits


class _Subject(NamedTuple):
    zh: str
    en: str
    be: str  # is or are or am
    third: bool  # third person singular


class _Time(NamedTuple):
    zh: str
    en: str
    tense: str


class _Verb(NamedTuple):
    zh: str
    base: str
    third: str
    past: str
    ing: str
    kinds: str  # of the nouns that it goes with


class _Noun(NamedTuple):
    zh: str
    measure: str  # the Chinese measure word
    one: str
    many: str
    kind: str
    unit: tuple[str, str] | None = None  # English counts water by bottles


class _Object(NamedTuple):
    determiner: str
    adjective: str | None
    noun: _Noun


class _Clause(NamedTuple):
    subject: _Subject
    time: _Time
    place: str | None
    negative: bool
    verb: _Verb
    objects: tuple[_Object, ...]


_SUBJECTS = [
    _Subject("我", "I", "am", False),
    _Subject("你", "you", "are", False),
    _Subject("他", "he", "is", True),
    _Subject("她", "she", "is", True),
    _Subject("我们", "we", "are", False),
    _Subject("他们", "they", "are", False),
    _Subject("老师", "the teacher", "is", True),
    _Subject("妈妈", "mother", "is", True),
    _Subject("医生", "the doctor", "is", True),
    _Subject("学生们", "the students", "are", False),
    _Subject("孩子们", "the children", "are", False),
    _Subject("我的朋友", "my friend", "is", True),
]
_TIMES = [
    _Time("昨天", "yesterday", "past"),
    _Time("上个星期", "last week", "past"),
    _Time("每天都", "every day", "habit"),
    _Time("周末都", "on weekends", "habit"),
    _Time("现在", "now", "progressive"),
    _Time("明天", "tomorrow", "future"),
    _Time("下个星期", "next week", "future"),
]
_PLACES = {
    "学校": "at school",
    "家": "at home",
    "图书馆": "in the library",
    "公园": "in the park",
    "北京": "in Beijing",
    "车站": "at the station",
}
# Kinds of nouns: t texts, f food, d drinks, w clothes, h things of the house, a animals.
_VERBS = [
    _Verb("买", "buy", "buys", "bought", "buying", "tfdwha"),
    _Verb("卖", "sell", "sells", "sold", "selling", "tfdwha"),
    _Verb("找", "look for", "looks for", "looked for", "looking for", "tfdwha"),
    _Verb("画", "draw", "draws", "drew", "drawing", "tfwha"),
    _Verb("借", "borrow", "borrows", "borrowed", "borrowing", "twh"),
    _Verb("读", "read", "reads", "read", "reading", "t"),
    _Verb("写", "write", "writes", "wrote", "writing", "t"),
    _Verb("吃", "eat", "eats", "ate", "eating", "f"),
    _Verb("喝", "drink", "drinks", "drank", "drinking", "d"),
    _Verb("洗", "wash", "washes", "washed", "washing", "wha"),
    _Verb("穿", "wear", "wears", "wore", "wearing", "w"),
    _Verb("照顾", "take care of", "takes care of", "took care of", "taking care of", "a"),
]
_NOUNS = [
    _Noun("书", "本", "book", "books", "t"),
    _Noun("词典", "本", "dictionary", "dictionaries", "t"),
    _Noun("信", "封", "letter", "letters", "t"),
    _Noun("故事", "个", "story", "stories", "t"),
    _Noun("文章", "篇", "article", "articles", "t"),
    _Noun("苹果", "个", "apple", "apples", "f"),
    _Noun("鸡蛋", "个", "egg", "eggs", "f"),
    _Noun("西红柿", "个", "tomato", "tomatoes", "f"),
    _Noun("蛋糕", "块", "cake", "cakes", "f"),
    _Noun("咖啡", "杯", "coffee", "coffee", "d", ("cup", "cups")),
    _Noun("茶", "杯", "tea", "tea", "d", ("cup", "cups")),
    _Noun("水", "瓶", "water", "water", "d", ("bottle", "bottles")),
    _Noun("牛奶", "瓶", "milk", "milk", "d", ("bottle", "bottles")),
    _Noun("衬衫", "件", "shirt", "shirts", "w"),
    _Noun("大衣", "件", "coat", "coats", "w"),
    _Noun("裙子", "条", "dress", "dresses", "w"),
    _Noun("帽子", "顶", "hat", "hats", "w"),
    _Noun("桌子", "张", "table", "tables", "h"),
    _Noun("椅子", "把", "chair", "chairs", "h"),
    _Noun("雨伞", "把", "umbrella", "umbrellas", "h"),
    _Noun("刀", "把", "knife", "knives", "h"),
    _Noun("盒子", "个", "box", "boxes", "h"),
    _Noun("自行车", "辆", "bicycle", "bicycles", "h"),
    _Noun("狗", "只", "dog", "dogs", "a"),
    _Noun("猫", "只", "cat", "cats", "a"),
    _Noun("羊", "只", "sheep", "sheep", "a"),
    _Noun("鱼", "条", "fish", "fish", "a"),
    _Noun("马", "匹", "horse", "horses", "a"),
]
# With the kinds of nouns that they go with.
_ADJECTIVES = {
    "新": ("new", "twh"),
    "旧": ("old", "twh"),
    "大": ("big", "fwha"),
    "小": ("small", "fwha"),
    "白": ("white", "wha"),
    "黑": ("black", "wha"),
    "红": ("red", "fwh"),
    "长": ("long", "tw"),
    "热": ("hot", "d"),
    "冰": ("iced", "d"),
    "便宜的": ("cheap", "tfdwh"),
    "好吃的": ("delicious", "f"),
    "漂亮的": ("beautiful", "wha"),
    "有意思的": ("interesting", "t"),
    "可爱的": ("lovely", "wa"),
}
# Chinese with # for the measure word, English, and whether the noun is plural.
_DETERMINERS = {
    "bare": ("", "", True),
    "a": ("一#", "a", False),
    "this": ("这#", "this", False),
    "that": ("那#", "that", False),
    "two": ("两#", "two", True),
    "three": ("三#", "three", True),
    "five": ("五#", "five", True),
    "ten": ("十#", "ten", True),
    "these three": ("这三#", "these three", True),
    "those two": ("那两#", "those two", True),
}


_PLACE_NAMES, _DETERMINER_NAMES = tuple(_PLACES), tuple(_DETERMINERS)
_ADJECTIVES_OF = {  # of each noun, in Chinese
    noun.zh: [zh for zh, (_, kinds) in _ADJECTIVES.items() if noun.kind in kinds] for noun in _NOUNS
}
_NOUNS_OF = {verb.zh: [noun for noun in _NOUNS if noun.kind in verb.kinds] for verb in _VERBS}


def _unseen_pairs() -> frozenset[tuple[str, str]]:
    """One adjective in five of each noun, and as evenly of each adjective, by a hash."""
    unseen: set[tuple[str, str]] = set()
    taken = dict.fromkeys(_ADJECTIVES, 0)
    for noun in _NOUNS:
        some = _ADJECTIVES_OF[noun.zh]

        def key(adjective: str, noun: _Noun = noun) -> tuple[int, bytes]:
            text = f"{adjective} {noun.zh}".encode()
            return taken[adjective], hashlib.blake2b(text).digest()

        for adjective in sorted(some, key=key)[: max(1, len(some) // 5)]:
            # Two nouns at least must be seen with the adjective.
            if sum(adjective in _ADJECTIVES_OF[n.zh] for n in _NOUNS) - taken[adjective] > 2:
                taken[adjective] += 1
                unseen.add((adjective, noun.zh))
    return frozenset(unseen)


UNSEEN_ADJECTIVE_NOUN_PAIRS = _unseen_pairs()
"""(adjective, noun) in Chinese that `load_grammar_pairs` keeps for its split ``unseen_pairs``."""


@dataclass(frozen=True, repr=False)
class GrammarSplits(Splits[Pair]):
    """What `load_grammar_pairs` gives. No sentence is in two of the lists.

    Attributes:
        train: to train on.
        validation: in distribution: sentences made as those of ``train``.
        test: in distribution as well.
        unseen_pairs: each has an adjective with a noun it never stands with in the three above,
            where both occur with others.
        longer: two clauses and more than two objects, where the three above have either one
            clause with up to two objects or two clauses with one object each.
    """

    unseen_pairs: list[Pair]
    longer: list[Pair]


def load_grammar_pairs(
    n: int = 50_000, *, seed: int = 0, validation: int = 500, test: int = 500
) -> GrammarSplits:
    """Sentences of a grammar in Chinese and in English, each with exactly one right translation.

    她昨天没在图书馆借三本旧书。 · She did not borrow three old books in the library yesterday.

    Chinese sentences and English ones stand for each other one to one. The splits ``unseen_pairs``
    and ``longer`` ask for what was learnt to be put together anew (as in SCAN, Lake & Baroni 2018).
    Sentences of a grammar resemble each other: here "held out" means that no sentence is the same.
    Made by us, free of any licence.

    Args:
        n: sentences in ``train``.
        seed: another seed, other sentences; all of them held apart in the same way.
        validation: sentences in ``validation``.
        test: sentences in each of ``test``, ``unseen_pairs`` and ``longer``.

    Returns:
        the splits. A smaller n gives the beginning of a larger one.

    Raises:
        TypeError, ValueError: a value is not allowed; more than a million sentences are asked for.
    """
    for name, value in (("n", n), ("validation", validation), ("test", test)):
        check_positive(name, value)
        if value > 1_000_000:
            raise ValueError(f"{name} must be at most 1 000 000, got {value}")
    check_not_negative("seed", seed)
    draw = random.Random(f"grammar {seed}")
    seen: set[str] = set()

    def some(count: int, *, unseen: bool = False, longer: bool = False) -> list[Pair]:
        pairs: list[Pair] = []
        while len(pairs) < count:
            pair, combinations = _sentence(draw, longer=longer)
            is_unseen = bool(combinations & UNSEEN_ADJECTIVE_NOUN_PAIRS)
            if is_unseen == unseen and pair.zh not in seen:
                seen.add(pair.zh)
                pairs.append(pair)
        return pairs

    held_out = {"validation": some(validation), "test": some(test)}
    held_out["unseen_pairs"] = some(test, unseen=True)
    held_out["longer"] = some(test, longer=True)
    return GrammarSplits(train=some(n), **held_out)


# ------------------------------------------------------------------ drawing


def _sentence(draw: random.Random, *, longer: bool) -> tuple[Pair, set[tuple[str, str]]]:
    """A sentence, and the adjectives with nouns in it."""
    two_clauses = longer or draw.random() < 0.2
    question = not two_clauses and draw.random() < 0.25
    if longer:
        sizes = draw.choice(([2, 1], [1, 2], [2, 2]))
    else:
        sizes = [1, 1] if two_clauses else [2 if draw.random() < 0.2 else 1]
    clauses = [_clause(draw, size) for size in sizes]
    if two_clauses and clauses[0].subject == clauses[1].subject:
        others = [subject for subject in _SUBJECTS if subject != clauses[0].subject]
        clauses[1] = clauses[1]._replace(subject=draw.choice(others))
    combinations = {
        (thing.adjective, thing.noun.zh)
        for clause in clauses
        for thing in clause.objects
        if thing.adjective is not None
    }
    zh = "，但是".join(map(_clause_zh, clauses)) + ("吗？" if question else "。")
    if question:
        en = _question_en(clauses[0]) + "?"
    else:
        en = ", but ".join(map(_clause_en, clauses)) + "."
    return Pair(zh, en[0].upper() + en[1:]), combinations


def _clause(draw: random.Random, num_objects: int) -> _Clause:
    verb = draw.choice(_VERBS)
    objects = []
    for noun in draw.sample(_NOUNS_OF[verb.zh], num_objects):
        adjective = draw.choice(_ADJECTIVES_OF[noun.zh]) if draw.random() < 0.7 else None
        objects.append(_Object(draw.choice(_DETERMINER_NAMES), adjective, noun))
    place = draw.choice(_PLACE_NAMES) if draw.random() < 0.6 else None
    negative = draw.random() < 0.35
    subject, time = draw.choice(_SUBJECTS), draw.choice(_TIMES)
    return _Clause(subject, time, place, negative, verb, tuple(objects))


# ------------------------------------------------------------------ Chinese


def _clause_zh(clause: _Clause) -> str:
    tense, negative = clause.time.tense, clause.negative
    where = f"在{clause.place}" if clause.place else ""
    before = {
        "past": "没" if negative else "",
        "habit": "不" if negative else "",
        "progressive": "没" if negative else "正",
        "future": "不会" if negative else "会",
    }[tense]
    if tense == "progressive":  # 正在学校看书: one 在 for both
        where = where or "在"
    done = "了" if tense == "past" and not negative else ""
    objects = "和".join(map(_object_zh, clause.objects))
    return f"{clause.subject.zh}{clause.time.zh}{before}{where}{clause.verb.zh}{done}{objects}"


def _object_zh(thing: _Object) -> str:
    determiner = _DETERMINERS[thing.determiner][0].replace("#", thing.noun.measure)
    return f"{determiner}{thing.adjective or ''}{thing.noun.zh}"


# ------------------------------------------------------------------ English


def _verb_en(clause: _Clause) -> tuple[str, str]:
    """Auxiliary and the rest of the verb, as a question has them: did … buy."""
    tense, verb, third = clause.time.tense, clause.verb, clause.subject.third
    if tense == "progressive":
        return clause.subject.be, verb.ing
    if tense == "future":
        return "will", verb.base
    if tense == "past":
        return "did", verb.base
    return "does" if third else "do", verb.base


def _clause_en(clause: _Clause) -> str:
    auxiliary, verb = _verb_en(clause)
    if clause.negative:
        verb = f"{auxiliary} not {verb}"
    elif auxiliary in ("did", "do", "does"):  # needed in questions and before "not" only
        forms = {"did": clause.verb.past, "do": clause.verb.base, "does": clause.verb.third}
        verb = forms[auxiliary]
    else:
        verb = f"{auxiliary} {verb}"
    return f"{clause.subject.en} {verb} {_rest_en(clause)}"


def _question_en(clause: _Clause) -> str:
    auxiliary, verb = _verb_en(clause)
    negation = "not " if clause.negative else ""
    return f"{auxiliary} {clause.subject.en} {negation}{verb} {_rest_en(clause)}"


def _rest_en(clause: _Clause) -> str:
    objects = " and ".join(map(_object_en, clause.objects))
    place = f" {_PLACES[clause.place]}" if clause.place else ""
    return f"{objects}{place} {clause.time.en}"


def _object_en(thing: _Object) -> str:
    _, determiner, plural = _DETERMINERS[thing.determiner]
    noun = thing.noun.many if plural else thing.noun.one
    if thing.adjective:
        noun = f"{_ADJECTIVES[thing.adjective][0]} {noun}"
    if thing.noun.unit and determiner:
        noun = f"{thing.noun.unit[plural]} of {noun}"
    if determiner == "a" and noun[0] in "aeiou":
        determiner = "an"
    return f"{determiner} {noun}".strip()
