"""Pairs of Chinese and English: dates and grammar exact, the shipped corpora clean, no leakage."""

from __future__ import annotations

import datetime
import io
import json
import lzma
import re
import tarfile
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from datasketch import MinHash, MinHashLSH

import lmlib.assets
from lmlib.datasets import (
    DATE_FORMS,
    UNSEEN_ADJECTIVE_NOUN_PAIRS,
    DatasetError,
    GradedPair,
    HelpParagraph,
    Pair,
    Splits,
    clean_help_pairs,
    clean_sentence_pairs,
    fetch,
    is_translated,
    load_date_pairs,
    load_grammar_pairs,
    load_help_pairs,
    load_raw_help_pairs,
    load_raw_sentence_pairs,
    load_sentence_pairs,
    pair_groups,
)
from lmlib.datasets._pairs import read_table, write_table
from lmlib.recipes import help_pairs, hsk_sentences

# ------------------------------------------------------------------ dates

NUMBERS = {
    "一": 1, "二": 2, "三": 3, "四": 4, "五": 5, "六": 6, "七": 7, "八": 8, "九": 9, "十": 10,
    "十一": 11, "十二": 12, "十三": 13, "十四": 14, "十五": 15, "十六": 16, "十七": 17, "十八": 18,
    "十九": 19, "二十": 20, "二十一": 21, "二十二": 22, "二十三": 23, "二十四": 24, "二十五": 25,
    "二十六": 26, "二十七": 27, "二十八": 28, "二十九": 29, "三十": 30, "三十一": 31,
}  # fmt: skip
YEAR_DIGITS = str.maketrans("〇零一二三四五六七八九", "00123456789")
YEAR, COUNT = "([〇零一二三四五六七八九]{4})年", "([一二三四五六七八九十]+)"
ZH_FORMS = {
    "written": f"{YEAR}{COUNT}月{COUNT}日",
    "spoken": f"{YEAR}{COUNT}月{COUNT}号",
    "weekday": f"{YEAR}{COUNT}月{COUNT}日，星期(.)",
    "figures": r"(\d{4})年([1-9]\d?)月([1-9]\d?)日",
    "short": r"(\d{4})/([1-9]\d?)/([1-9]\d?) 周(.)",
}
# strptime reads what we write; strftime would pad the day, so the digits are compared as well.
EN_FORMS = {
    "written": "%B %d, %Y",
    "spoken": "the %d of %B %Y",
    "weekday": "%A, %B %d, %Y",
    "figures": "%d %B %Y",
    "short": "%a, %b %d, %Y",
}


def read_chinese_date(text: str) -> tuple[str, datetime.date]:
    """Form and date of a Chinese date."""
    ((form, match),) = ((f, m) for f, p in ZH_FORMS.items() if (m := re.fullmatch(p, text)))
    year, *rest = match.groups()
    assert ("零" if form != "spoken" else "〇") not in year
    numbers = [NUMBERS[n] if n in NUMBERS else int(n) for n in rest[:2]]
    day = datetime.date(int(year.translate(YEAR_DIGITS)), *numbers)
    if rest[2:]:
        assert "日一二三四五六".index(rest[2]) == day.isoweekday() % 7
    return form, day


def read_english_date(text: str, form: str) -> datetime.date:
    """The date of an English date of a form."""
    if form == "spoken":
        (number, end), day = re.search(r"(\d+)(st|nd|rd|th)", text).groups(), text  # type: ignore[union-attr]
        firsts = {"1": "st", "21": "st", "31": "st", "2": "nd", "22": "nd", "3": "rd", "23": "rd"}
        assert end == firsts.get(number, "th")
        text = day.replace(number + end, number)
    assert " 0" not in text
    moment = datetime.datetime.strptime(text, EN_FORMS[form])
    assert moment.strftime(EN_FORMS[form]).replace(" 0", " ").lstrip("0") == text
    return moment.date()


def test_dates_say_the_same_and_are_split_by_date() -> None:
    splits = load_date_pairs(first_year=1999, last_year=2010, validation=100, test=150)
    sides = []
    for side in (splits.train, splits.validation, splits.test):
        days: Counter[datetime.date] = Counter()
        for pair in side:
            form, day = read_chinese_date(pair.zh)
            assert read_english_date(pair.en, form) == day
            days[day] += 1
        assert set(days.values()) == {len(DATE_FORMS)}
        sides.append(set(days))
    assert [len(side) for side in sides] == [4383 - 250, 100, 150]
    assert len(set.union(*sides)) == 4383
    every = splits.train + splits.validation + splits.test
    assert len({pair.zh for pair in every}) == len({pair.en for pair in every}) == len(every)


def test_dates_as_a_person_writes_them() -> None:
    splits = load_date_pairs(first_year=2026, last_year=2026, validation=1, test=1)
    en = {pair.zh: pair.en for pair in splits.train + splits.validation + splits.test}
    assert en["二〇二六年十一月二十一日"] == "November 21, 2026"
    assert en["二零二六年十月三号"] == "the 3rd of October 2026"
    assert en["二零二六年五月十三号"] == "the 13th of May 2026"
    assert en["二〇二六年十一月二十一日，星期六"] == "Saturday, November 21, 2026"
    assert en["2026年3月20日"] == "20 March 2026"
    assert en["2026/6/7 周日"] == "Sun, Jun 7, 2026"
    assert "二〇二六年二月二十九日" not in en


def test_the_split_of_dates_depends_on_nothing_else() -> None:
    some = load_date_pairs(["figures"], first_year=2000, last_year=2001, validation=10, test=10)
    others = load_date_pairs(["short"], first_year=2000, last_year=2001, validation=10, test=10)
    days = [[read_chinese_date(pair.zh)[1] for pair in splits.test] for splits in (some, others)]
    assert days[0] == days[1]
    assert len(days[0]) == 10


@pytest.mark.parametrize(
    "wrong",
    [
        {"forms": "written"},
        {"forms": []},
        {"forms": ["written", "roman"]},
        {"first_year": 2000, "last_year": 1999},
        {"last_year": 10_000},
        {"first_year": 2000, "last_year": 2000, "validation": 200, "test": 200},
        {"validation": 0},
    ],
)
def test_dates_refuse(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="|".join(wrong)):
        load_date_pairs(**wrong)  # type: ignore[arg-type]


# ------------------------------------------------------------------ grammar: a second translator


def table(text: str) -> dict[str, list[str]]:
    """zh: words of one row each."""
    rows = (row.split(":") for row in text.replace("\n", ";").split(";") if row.strip())
    return {zh.strip(): [word.strip() for word in rest.split("/")] for zh, rest in rows}


SUBJECTS = table(
    "我:I/am;你:you/are;他:he/is;她:she/is;我们:we/are;他们:they/are;老师:the teacher/is"
    ";妈妈:mother/is;医生:the doctor/is;学生们:the students/are;孩子们:the children/are"
    ";我的朋友:my friend/is"
)
TIMES = table(
    "昨天:yesterday/1;上个星期:last week/1;每天都:every day/2;周末都:on weekends/2;现在:now/3"
    ";明天:tomorrow/4;下个星期:next week/4"
)
PLACES = table(
    "学校:at school;家:at home;图书馆:in the library;公园:in the park;北京:in Beijing"
    ";车站:at the station"
)
VERBS = table(
    "买:buy/buys/bought/buying;卖:sell/sells/sold/selling;画:draw/draws/drew/drawing"
    ";找:look for/looks for/looked for/looking for;借:borrow/borrows/borrowed/borrowing"
    ";读:read/reads/read/reading;写:write/writes/wrote/writing;吃:eat/eats/ate/eating"
    ";喝:drink/drinks/drank/drinking;洗:wash/washes/washed/washing;穿:wear/wears/wore/wearing"
    ";照顾:take care of/takes care of/took care of/taking care of"
)
NOUNS = table(
    "本书:book/books;本词典:dictionary/dictionaries;封信:letter/letters;个故事:story/stories"
    ";篇文章:article/articles;个苹果:apple/apples;个鸡蛋:egg/eggs;个西红柿:tomato/tomatoes"
    ";块蛋糕:cake/cakes;杯咖啡:coffee/coffee;杯茶:tea/tea;瓶水:water/water;瓶牛奶:milk/milk"
    ";件衬衫:shirt/shirts;件大衣:coat/coats;条裙子:dress/dresses;顶帽子:hat/hats;张桌子:table/tables"
    ";把椅子:chair/chairs;把雨伞:umbrella/umbrellas;把刀:knife/knives;个盒子:box/boxes"
    ";辆自行车:bicycle/bicycles;只狗:dog/dogs;只猫:cat/cats;只羊:sheep/sheep;条鱼:fish/fish;匹马:horse/horses"
)
ADJECTIVES = table(
    "新:new;旧:old;大:big;小:small;白:white;黑:black;红:red;长:long;热:hot;冰:iced;便宜的:cheap"
    ";好吃的:delicious;漂亮的:beautiful;有意思的:interesting;可爱的:lovely"
)
DETERMINERS = table(
    "一:a;这:this;那:that;两:two;三:three;五:five;十:ten;这三:these three;那两:those two"
)


def any_of(words: dict[str, list[str]]) -> str:
    return "|".join(sorted(words, key=len, reverse=True))


CLAUSE = re.compile(
    f"({any_of(SUBJECTS)})({any_of(TIMES)})(不会|会|没|不|正)?(?:(在)({any_of(PLACES)})?)?"
    f"({any_of(VERBS)})(了)?(.+)"
)
OBJECT = re.compile(
    f"({any_of(DETERMINERS)})?(.)??({any_of(ADJECTIVES)})?({'|'.join(n[1:] for n in NOUNS)})"
)


def english_object(zh: str) -> str:
    match = OBJECT.fullmatch(zh)
    assert match, zh
    number, measure, adjective, noun = match.groups()
    (key,) = (n for n in NOUNS if n[1:] == noun)
    assert measure == (key[0] if number else None)
    words = [ADJECTIVES[adjective][0]] if adjective else []
    plural = number not in ("一", "这", "那")
    words.append(NOUNS[key][plural])
    if number and key[0] in "杯瓶":
        words[:0] = [("cup" if key[0] == "杯" else "bottle") + "s" * plural, "of"]
    if number:
        words.insert(0, DETERMINERS[number][0])
    return re.sub(r"\ba(?= [aeiou])", "an", " ".join(words))


def english(zh: str) -> str:
    """The translation of a sentence by the grammar of this file."""
    clauses = []
    for clause in re.sub("吗？$|。$", "", zh).split("，但是"):
        match = CLAUSE.fullmatch(clause)
        assert match, clause
        subject, time, mark, at, place, verb, done, objects = match.groups()
        (who, be), (when, tense) = SUBJECTS[subject], TIMES[time]
        base, third, past, ing = VERBS[verb]
        he = be == "is"
        negative = mark in ("没", "不", "不会")
        assert {"1": (None, "没"), "2": (None, "不"), "3": ("正", "没"), "4": ("会", "不会")}[
            tense
        ].index(mark) == negative
        assert bool(done) == (tense == "1" and not negative)
        assert at if tense == "3" else bool(at) == bool(place)
        helper = {"1": "did", "2": "does" if he else "do", "3": be, "4": "will"}[tense]
        form = ing if tense == "3" else base
        if zh.endswith("吗？"):
            said = f"{helper} {who} {'not ' * negative}{form}"
        elif negative:
            said = f"{who} {helper} not {form}"
        elif tense in "12":
            said = f"{who} {past if tense == '1' else third if he else base}"
        else:
            said = f"{who} {helper} {form}"
        things = " and ".join(map(english_object, objects.split("和")))
        clauses.append(" ".join(filter(None, [said, things, place and PLACES[place][0], when])))
    text = ", but ".join(clauses) + ("?" if zh.endswith("吗？") else ".")
    return text[0].upper() + text[1:]


@pytest.fixture(scope="module")
def grammar():
    return load_grammar_pairs(8000, validation=300, test=400)


PARTS = ("train", "validation", "test", "unseen_pairs", "longer")


def test_the_second_translator_agrees(grammar) -> None:
    for part in PARTS:
        for pair in getattr(grammar, part):
            assert english(pair.zh) == pair.en


def test_grammar_as_a_person_writes_it() -> None:
    """The grammar of this file, held against sentences that were written by hand."""
    for zh, en in (
        ("她昨天没在图书馆借三本旧书。",
         "She did not borrow three old books in the library yesterday."),
        ("我每天都喝一杯冰茶。", "I drink a cup of iced tea every day."),
        ("他每天都不在家吃鸡蛋。", "He does not eat eggs at home every day."),
        ("你现在正在画一把雨伞吗？", "Are you drawing an umbrella now?"),
        ("我现在没在公园照顾那只羊。", "I am not taking care of that sheep in the park now."),
        ("妈妈周末都洗这三把刀和大衣。", "Mother washes these three knives and coats on weekends."),
        ("孩子们上个星期在学校写了一个有意思的故事。",
         "The children wrote an interesting story at school last week."),
        ("我的朋友明天不会买那两个大盒子吗？",
         "Will my friend not buy those two big boxes tomorrow?"),
        ("医生昨天在车站找了十瓶水，但是他们下个星期会在北京卖一匹马。",
         "The doctor looked for ten bottles of water at the station yesterday, "
         "but they will sell a horse in Beijing next week."),
    ):  # fmt: skip
        assert english(zh) == en


def objects_of(pair: Pair) -> list[list[str]]:
    """The objects of each clause, in Chinese."""
    clauses = re.sub("吗？$|。$", "", pair.zh).split("，但是")
    return [CLAUSE.fullmatch(clause)[8].split("和") for clause in clauses]  # type: ignore[index]


def combinations_of(pair: Pair) -> set[tuple[str, str]]:
    found = (OBJECT.fullmatch(thing) for clause in objects_of(pair) for thing in clause)
    return {(match[3], match[4]) for match in found if match and match[3]}


def test_the_splits_of_the_grammar_are_what_they_say(grammar) -> None:
    parts = {part: getattr(grammar, part) for part in PARTS}
    assert [len(part) for part in parts.values()] == [8000, 300, 400, 400, 400]
    every = [pair for part in parts.values() for pair in part]
    assert len({pair.zh for pair in every}) == len({pair.en for pair in every}) == len(every)
    seen: set[tuple[str, str]] = set()
    for part in ("train", "validation", "test", "longer"):
        found = set().union(*map(combinations_of, parts[part]))
        assert not found & UNSEEN_ADJECTIVE_NOUN_PAIRS
        seen |= found if part == "train" else set()
    assert all(combinations_of(p) & UNSEEN_ADJECTIVE_NOUN_PAIRS for p in parts["unseen_pairs"])
    for adjective, noun in UNSEEN_ADJECTIVE_NOUN_PAIRS:  # each known, and with two others at least
        assert sum(a == adjective for a, _ in seen) >= 2
        assert any(n == noun for _, n in seen)
    assert 0.1 < len(UNSEEN_ADJECTIVE_NOUN_PAIRS) / len(seen) < 0.25
    for part, pairs in parts.items():
        shapes = {tuple(map(len, objects_of(pair))) for pair in pairs}
        long = {(1, 2), (2, 1), (2, 2)}
        assert shapes == (long if part == "longer" else {(1,), (2,), (1, 1)})
    everything = {match for pair in parts["train"] for match in CLAUSE.split(pair.zh)}
    for words in (SUBJECTS, TIMES, PLACES, VERBS):
        assert set(words) <= everything


def test_a_smaller_grammar_is_the_beginning_of_a_larger_one(grammar) -> None:
    small = load_grammar_pairs(100, validation=300, test=400)
    assert small.train == grammar.train[:100]
    assert small.longer == grammar.longer
    other = load_grammar_pairs(100, seed=1, validation=300, test=400)
    assert other.test != grammar.test
    assert other.train != small.train


@pytest.mark.parametrize("wrong", [{"n": 0}, {"test": 0}, {"n": 1_000_001}, {"seed": -1}])
def test_grammar_refuses(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        load_grammar_pairs(**wrong)


# ------------------------------------------------------------------ the shipped corpora


def runs(text: str, n: int) -> set[str]:
    """All runs of n letters, digits or hanzi."""
    kept = "".join(char for char in text if char.isalnum())
    return {kept[i : i + n] for i in range(max(1, len(kept) - n + 1))}


def leaks(splits: Splits[Pair], language: str, n: int) -> list[tuple[str, str]]:
    """Near-duplicates of one part of the split in another, found by datasketch."""
    index = MinHashLSH(threshold=0.4, num_perm=64)
    sides = (splits.train, splits.validation, splits.test)
    texts = [(k, getattr(pair, language)) for k, side in enumerate(sides) for pair in side]
    sets = [runs(text, n) for _, text in texts]
    hashes = MinHash.bulk([[run.encode() for run in found] for found in sets], num_perm=64)
    for i, (side, _) in enumerate(texts):
        if side:
            index.insert(i, hashes[i])
    found = []
    for i, (side, text) in enumerate(texts):
        for j in index.query(hashes[i]):
            common = len(sets[i] & sets[j])
            if texts[j][0] != side and common >= 0.6 * (len(sets[i]) + len(sets[j]) - common):
                found.append((text, texts[j][1]))
    return found


def test_the_leak_detector_detects() -> None:
    pair, close = Pair("老师布置了作业。", "Do it."), Pair("老师布置了作业！", "I did it.")
    assert leaks(Splits([pair], [], [close]), "zh", 2)
    assert not leaks(Splits([pair], [], [close]), "en", 4)


@pytest.mark.parametrize("load", [load_sentence_pairs, load_help_pairs])
def test_no_near_duplicate_crosses_the_split(load) -> None:
    splits = load()
    assert leaks(splits, "zh", 2) == []
    assert leaks(splits, "en", 4) == []


def test_graded_sentences() -> None:
    splits, raw = load_sentence_pairs(), load_raw_sentence_pairs()
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [3565, 300, 400]
    assert len(raw) == 4354
    assert Counter(pair.level for pair in raw)[1] == 281
    assert raw[0] == GradedPair("老师，您好！", "Hello, teacher!", 1)
    every = splits.train + splits.validation + splits.test
    assert len({pair.zh for pair in every}) == len(every)
    assert all(pair.en.isascii() and len(pair.en) > 3 for pair in every)
    assert not any("placeholder" in pair.en for pair in every)
    assert sorted(every) == sorted(clean_sentence_pairs(raw))


def test_the_groups_of_the_sentences_are_those_of_pair_groups() -> None:
    rows = read_table(lmlib.assets.path("corpora", "hsk_sentences.tsv.xz"))
    groups = [int(group) for _, group, _, _ in rows if group]
    assert groups == pair_groups(clean_sentence_pairs(load_raw_sentence_pairs()))


def test_cleaning_of_sentences() -> None:
    raw = [
        GradedPair("好。", "Good—really.", 1),
        GradedPair("好。", "Fine.", 2),
        GradedPair("考试接近了。", "The exam is近.", 2),
        GradedPair("房间里没有人。", "placeholder-p3", 2),
        GradedPair("东西。", "PH", 6),
    ]
    assert clean_sentence_pairs(raw) == [Pair("好。", "Good - really.")]


def test_help() -> None:
    splits, raw = load_help_pairs(), load_raw_help_pairs()
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [11418, 300, 400]
    assert len(raw) == len(set(raw)) == 38_994
    assert sum(row.times for row in raw) == 61_066
    no_hanzi = sum(row.times for row in raw if not re.search("[\u4e00-\u9fff]", row.zh))
    assert no_hanzi == 23_892
    assert lmlib.assets.path("corpora", "help_pairs.tsv.xz").stat().st_size < 1_500_000
    every = splits.train + splits.validation + splits.test
    assert len({pair.zh for pair in every}) == len(every)
    for zh, en in every:
        assert (zh[-1] in "。！？", en[-1] in ".!?") == (True, True)
        assert len(zh) <= 80 >= 30 + len(en.split())
        assert re.search("[\u4e00-\u9fff]", zh)
        assert not re.search("[\u4e00-\u9fff]|<|&\\w+;", en)
        assert not re.search("[\u4e00-\u9fff][,;:!?()][\u4e00-\u9fff]|<|&\\w+;", zh)


def test_help_is_what_cleaning_gives() -> None:
    splits = load_help_pairs()
    every = splits.train + splits.validation + splits.test
    assert sorted(every) == sorted(clean_help_pairs(load_raw_help_pairs()))


def test_the_language_filter() -> None:
    assert is_translated("打开「Writer」文档。")
    assert is_translated("图标")
    assert not is_translated("Opens the document.")
    assert not is_translated('=LEFTB("中国";2) returns "中".')
    assert not is_translated("0.001953125")


@pytest.mark.parametrize(
    ("zh", "en"),
    [
        ("Saves the document now.", "Saves the document now."),  # not translated
        ("保存该文档", "Saves the document."),  # no full stop
        ("保存该文档。", "Saves the document"),
        ("「=T.INV(0.1,6)」返回一个数。", "=T.INV(0.1;6) returns a number."),  # code
        ("保存。", "Saves the document."),  # too short
        ("保存。" * 30, "Saves it. " * 14 + "Saves it."),  # too long
        ("保存该文档。", "Saves the document, but only if you have never done so before."),
    ],
)
def test_cleaning_of_help_leaves_out(zh: str, en: str) -> None:
    good = HelpParagraph("保存该文档。", "Saves the document.", 3)
    assert clean_help_pairs([HelpParagraph(zh, en, 1), good]) == [Pair(*good[:2])]


def test_cleaning_of_help_gives_chinese_punctuation() -> None:
    raw = [
        HelpParagraph("选择「插入」, 然后(再)点击确定。", "Choose Insert, and then click OK.", 1)
    ]
    assert clean_help_pairs(raw)[0].zh == "选择「插入」，然后（再）点击确定。"


# ------------------------------------------------------------------ pairs and tables


def test_groups_link_by_either_language_and_on() -> None:
    pairs = [
        Pair("老师布置了作业。", "The teacher assigned homework."),
        Pair("他急忙跑了出去。", "He hurried out."),
        Pair("教员指定习题", "The teacher assigned homework!"),  # as 0, by English
        Pair("教员指定习题。", "Exercises are set."),  # as 2, by Chinese
        Pair("天冷", "It is cold."),
    ]
    assert pair_groups(pairs) == [0, 1, 0, 0, 4]


def test_tables(tmp_path: Path) -> None:
    rows = [["1", "", "你好 "], ["", "\u2028", "x"]]
    write_table(tmp_path / "a" / "t.xz", rows)
    assert read_table(tmp_path / "a" / "t.xz") == rows
    for text in ("a\tb", "a\nb", "a\rb"):
        with pytest.raises(ValueError, match="no tab and no line break"):
            write_table(tmp_path / "t.xz", [[text]])


# ------------------------------------------------------------------ the recipes


def small_deb(path: Path, language: str, pages: dict[str, str]) -> Path:
    """A Debian package with pages of help."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, html in pages.items():
            info = tarfile.TarInfo(f"./usr/share/libreoffice/help/{language}/text/{name}")
            info.size = len(html.encode())
            archive.addfile(info, io.BytesIO(html.encode()))
    content = b"!<arch>\n"
    packed = lzma.compress(data.getvalue())
    for name, member in (("debian-binary", b"2.0\n"), ("data.tar.xz", packed)):
        content += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(member):<10}`\n".encode()
        content += member + b"\n" * (len(member) % 2)
    path.write_bytes(content)
    return path


def test_the_help_recipe_aligns_by_id_and_strips_markup(tmp_path: Path) -> None:
    switch = (
        '<span class="switchinline"><span hidden="true" id="MAC1" class="MAC">{}</span>'
        '<span hidden="true" id="default1">{}</span></span>'
    )
    english = (
        '<h1 id="hd_id1">General</h1><p>no id</p><p id="par_id2" class="x">Choose <span '
        f'class="emph">File &amp; {switch.format("Preferences", "Options")}</span>\n  now.</p>'
        '<p id="par_id3">Only English here.</p><p id="par_id4">Alone.</p><p id="par_id5"> </p>'
    )
    chinese = (
        '<p id="par_id2">请选择<span class="emph">文件和'
        f"{switch.format('偏好', '选项')}</span>。</p>"
        '<p id="par_id3">Only English here.</p><h1 id="hd_id1">通用</h1><p id="par_id5">空</p>'
    )
    zh = small_deb(tmp_path / "zh.deb", "zh-CN", {"a.html": chinese, "b/c.html": chinese})
    en = small_deb(tmp_path / "en.deb", "en-US", {"b/c.html": english, "a.html": english})
    assert help_pairs.rows(zh, en) == [
        ("2", "", "通用", "General"),
        ("2", "0", "请选择文件和选项。", "Choose File & Options now."),
        ("2", "", "", "Only English here."),
    ]


def test_the_sentence_recipe(tmp_path: Path) -> None:
    def row(zh: str, en: str) -> dict[str, object]:
        return {"chinese": zh, "translation": {"en": en}, "hsk_level": 2, "audio": {}}

    content = [row(" 好吃。", "Tasty."), row("没有人。", "placeholder-p1"), row("好吃。", "Yummy.")]
    with zipfile.ZipFile(tmp_path / "x.whl", "w") as archive:
        archive.writestr(hsk_sentences.SENTENCES, json.dumps(content))
        archive.writestr("other.json", "[]")
    assert hsk_sentences.rows(tmp_path / "x.whl") == [
        ("2", "0", "好吃。", "Tasty."),
        ("2", "", "没有人。", "placeholder-p1"),
        ("2", "", "好吃。", "Yummy."),
    ]


def from_cache(packages: Sequence[object]) -> list[Path]:
    try:
        return [fetch(package, offline=True) for package in packages]  # type: ignore[arg-type]
    except DatasetError as error:
        pytest.skip(str(error))


def test_the_shipped_sentences_are_those_of_the_recipe() -> None:
    rows = hsk_sentences.rows(*from_cache([hsk_sentences.PACKAGE]))
    shipped = read_table(lmlib.assets.path("corpora", "hsk_sentences.tsv.xz"))
    assert shipped == [list(row) for row in rows]


def test_the_shipped_help_is_that_of_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of some pages: reading all of them takes half a minute."""
    monkeypatch.setattr(help_pairs, "_PAGE", re.compile(r".*/(text/(?:smath|schart)/.*\.html)"))
    packages = from_cache([help_pairs.CHINESE, help_pairs.ENGLISH])
    rows = help_pairs.rows(*packages)
    shipped = {(row.zh, row.en): row.times for row in load_raw_help_pairs()}
    assert len(rows) > 1000
    assert all(int(count) <= shipped[zh or en, en] for count, _, zh, en in rows)
