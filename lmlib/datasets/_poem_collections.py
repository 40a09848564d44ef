"""How the poems come from their package: read, cleaned, grouped and split."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from lmlib._checks import check_choice
from lmlib.datasets._fetch import DatasetError, Package, fetch, read_archive
from lmlib.datasets._near_duplicates import linked, near_duplicates
from lmlib.datasets._poem_form import (
    HANZI,
    MARKS,
    OTHER_FORM,
    REGULAR_FORMS,
    Poem,
    cut_lines,
    poem_form,
)
from lmlib.datasets._splits import split_by_group

POEM_PACKAGE = Package(
    client="npm",
    name="chinese-poetry",
    version="2.0.1",
    file="chinese-poetry-2.0.1.tgz",
    sha256="25b549e46919c3a0569db6b68ddc96956b04a484ea4518ad2bbd4f137e307e86",
    size=85_464_664,
)
"""Where the poems come from: github.com/chinese-poetry/chinese-poetry (MIT; the poems are free)."""

PARTS = ("train", "validation", "test")
# Two lines in a row of fewer characters in all are no couplet that is worth a comparison.
_SHORTEST_COUPLET = 10


# ------------------------------------------------------------------ cleaning

_VERSE = re.compile(f"(?:{HANZI}+[{MARKS}])+")
_QUOTES = str.maketrans("", "", "「」『』“”‘’《》〈〉 \t\n\r\u3000")
_NOTE = re.compile("（[^（）]*）|\\([^()]*\\)")
_BRACKETS = str.maketrans("", "", "[]〖〗")
_TITLE_NOTE = re.compile("〖[^〖〗]*〗|\\[[^][]*\\]|〔[^〔〕]*〕")

# 乾 is 干 where it means dry, and stays 乾 where it means heaven, or in a name. OpenCC knows
# 乾坤 and 乾隆, but makes 干干 of 乾乾. It stays in a line with 坤, and beside these:
_BEFORE, _BEHIND = (
    "坤乾竺乘承體法純御握西秉膺配",
    "坤乾元道隆符德綱象封健剛端竺明寧清陵祐體樞位靈始闥陀淳龍文統興化卦爻巽圜陽馭覆蓋施運曜極儀維策旋"
    "城峰峯宮闢天行亨貞父男兌機精鑿惕夕六三",
)
_HEAVEN = re.compile(
    f"乾{HANZI}{{0,5}}坤|坤{HANZI}{{0,5}}乾|"
    f"(?<=[{_BEFORE}])乾|(?<![未水拭旱久淚已])乾(?=[{_BEHIND}])"
)
_PROTECTED = "\ue000"


def simplified(texts: Sequence[str]) -> list[str]:
    """Texts in simplified characters (OpenCC's t2s), with 乾 left where it does not mean dry.

    >>> simplified(["終日乾乾", "乾坤", "淚未乾"])  # doctest: +SKIP
    ['终日乾乾', '乾坤', '泪未干']

    Args:
        texts: without line breaks.

    Raises:
        DatasetError: opencc is not installed.
    """
    try:
        from opencc import OpenCC
    except ModuleNotFoundError as error:
        raise DatasetError("opencc is not installed: pip install opencc==1.4.2") from error
    # All at once: a call costs more than a poem.
    protected = _HEAVEN.sub(lambda m: m[0].replace("乾", _PROTECTED), "\n".join(texts))
    result: str = OpenCC("t2s").convert(protected).replace(_PROTECTED, "乾")
    return result.split("\n")


def clean_verse(text: str) -> str | None:
    """A poem's text without the editors' additions, or None where characters are missing.

    Notes in parentheses go, with what is in them, and so do quotation marks. None comes out where
    anything else is left than lines of hanzi with marks: □ and ○ stand for lost characters, {冫弓}
    for one that has no code, brackets for a conjecture.

    Args:
        text: as it comes.

    >>> clean_verse("師因東還（一作「來」）遂初志，半山忽與沙門顛。")
    '師因東還遂初志，半山忽與沙門顛。'
    >>> clean_verse("貧富□□□，□餓畏兒飢。")
    """
    text = _without_notes(text).translate(_QUOTES)
    # What stood between two marks is gone: the first one stays.
    text = re.sub(f"([{MARKS}])[{MARKS}]+", r"\1", text).lstrip(MARKS)
    text = text if text.endswith(tuple(MARKS)) else text + "。"
    return text if _VERSE.fullmatch(text) else None


def _without_notes(text: str) -> str:
    while (shorter := _NOTE.sub("", text)) != text:  # the innermost first
        text = shorter
    return text


def _make_poem(title: str, author: str, dynasty: str, verse: str) -> Poem:
    lines, marks = cut_lines(verse)
    form = poem_form(lines)
    return Poem(title, author, dynasty, form, lines, marks if form == OTHER_FORM else "")


def read_collection(dynasty: str) -> list[Poem]:
    """The poems of a collection in the package, simplified, cleaned, none twice.

    Args:
        dynasty: "唐" or "宋".

    Raises:
        DatasetError: the package cannot be had, or opencc is not installed.
    """
    check_choice("dynasty", dynasty, ("唐", "宋"))
    stem = {"唐": "tang", "宋": "song"}[dynasty]
    name = re.compile(rf"package/dist/quantangshi/poet\.{stem}\.(\d+)\.json")
    files = read_archive(fetch(POEM_PACKAGE), lambda file: name.fullmatch(file) is not None)
    rows = []
    for file in sorted(files, key=lambda file: int(name.fullmatch(file)[1])):  # type: ignore[index]
        for record in json.loads(files[file]):
            verse = clean_verse("".join(record["paragraphs"]))
            if verse is not None:
                rows.append((_clean_title(record["title"]), _clean_author(record["author"]), verse))
    titles, authors, verses = (simplified(column) for column in zip(*rows, strict=True))
    poems = map(_make_poem, titles, authors, [dynasty] * len(rows), verses)
    return _distinct(poem for poem in poems if len(poem.lines) > 1)


def _clean_title(title: str) -> str:
    return " ".join(_TITLE_NOTE.sub("", _without_notes(title)).split()) or "失題"


def _clean_author(author: str) -> str:
    # A number in brackets points to a note; anything else there belongs to the name.
    author = re.sub("\\[[一二三四五六七八九十]+\\]", "", _without_notes(author))
    return " ".join(author.translate(_BRACKETS).split())


def _distinct(poems: Iterable[Poem], known: Iterable[Poem] = ()) -> list[Poem]:
    """Poems without those whose lines stand earlier, or in ``known``."""
    seen = {"".join(poem.lines) for poem in known}
    kept = []
    for poem in poems:
        characters = "".join(poem.lines)
        if characters not in seen:
            seen.add(characters)
            kept.append(poem)
    return kept


# ------------------------------------------------------------------ parts


def group_poems(poems: Sequence[Poem]) -> list[int]:
    """Group poems that must not be parted: near-duplicates, and those that share a couplet.

    The latter finds what the similarity of whole poems cannot: a quatrain that is half of a longer
    poem.

    Args:
        poems: of any forms.

    Returns:
        for each poem the index of the first one of its group.
    """
    pairs = near_duplicates(["".join(poem.lines) for poem in poems], threshold=0.6, n=2)
    return linked(len(poems), [*pairs, *_shared_couplets(poems)])


def _shared_couplets(poems: Sequence[Poem]) -> Iterator[tuple[int, int]]:
    first: dict[str, int] = {}
    for i, poem in enumerate(poems):
        for a, b in zip(poem.lines, poem.lines[1:], strict=False):
            if len(a) + len(b) >= _SHORTEST_COUPLET:
                j = first.setdefault(a + b, i)
                if j != i:
                    yield j, i


class _Stage(NamedTuple):
    """Which poems are split at a time: `held_out` is the size of validation and of test part."""

    dynasty: str
    forms: tuple[str, ...]
    held_out: int
    counts_tang: bool = False


# In this order, since a poem follows what it is linked to. The held-out Song poems fill up those of
# the Tang to 1 200.
_STAGES = (
    _Stage("唐", REGULAR_FORMS, 500),
    _Stage("宋", REGULAR_FORMS, 1200, counts_tang=True),
    _Stage("唐", (OTHER_FORM,), 200),
    _Stage("宋", (OTHER_FORM,), 200),
)


def split_everything() -> list[tuple[str, Poem]]:
    """Every poem of both collections, none twice, with its part.

    Everything is grouped at once, since two poems can be linked by way of a third one of another
    form or dynasty.

    Raises:
        DatasetError: as `read_collection`.
    """
    tang = read_collection("唐")
    poems = [*tang, *_distinct(read_collection("宋"), known=tang)]
    groups = group_poems(poems)
    decided: dict[int, str] = {}
    for stage in _STAGES:
        _decide(poems, groups, decided, stage)
    return [(decided[group], poem) for group, poem in zip(groups, poems, strict=True)]


def _decide(
    poems: Sequence[Poem], groups: Sequence[int], decided: dict[int, str], stage: _Stage
) -> None:
    """Split the groups of a stage that are not yet in ``decided``; note there what came out."""
    room = dict.fromkeys(PARTS, stage.held_out)
    rows = []
    for poem, group in zip(poems, groups, strict=True):
        if poem.form in stage.forms and (stage.counts_tang or poem.dynasty == stage.dynasty):
            if group in decided:
                room[decided[group]] -= 1
            else:
                rows.append((poem, group))
    splits = split_by_group(
        rows,
        [group for _, group in rows],
        validation=room["validation"],
        test=room["test"],
        text=lambda row: row[0].text,
    )
    for part in PARTS:
        decided.update((group, part) for _, group in getattr(splits, part))
