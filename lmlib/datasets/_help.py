"""The help of LibreOffice in Chinese and English, paragraph by paragraph, as it is and cleaned."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import lmlib.assets
from lmlib.datasets._pairs import Pair, read_table
from lmlib.datasets._splits import Splits, split_by_group

_HANZI = re.compile(r"[\u3400-\u9fff]")
_LATIN = re.compile(r"[A-Za-z]")
# What belongs to formulas and programs.
_CODE = re.compile(r"[={}\\_|~^<>]|\w\(|https?:|\w\.\w|[A-Z]{2,}\d|\$")
_ASCII_MARKS = str.maketrans(",;:!?()", "，；：！？（）")


class HelpParagraph(NamedTuple):
    """A paragraph of the Chinese help beside the one of the same id in the English help.

    Attributes:
        zh: what the Chinese help has; English, where nobody has translated it.
        en: what the English help has.
        times: how many paragraphs have just these two texts.
    """

    zh: str
    en: str
    times: int


def load_raw_help_pairs() -> list[HelpParagraph]:
    """All paragraphs of LibreOffice's help 7.4.7, each pair of texts once: see `load_help_pairs`.

    Of 61 066 paragraphs 23 892 hold not one Chinese character: most of them nobody has translated
    yet. So a corpus "in Chinese" need not be Chinese; `is_translated` tells.
    """
    return [HelpParagraph(zh or en, en, int(count)) for count, _, zh, en in _rows()]


def load_help_pairs(*, validation: int = 300, test: int = 400) -> Splits[Pair]:
    """Sentences from the help of an office program: 将当前文档另存为模板。· Saves the current …

    From the Debian packages libreoffice-help-zh-cn and libreoffice-help-en-us, 4:7.4.7-1+deb12u14;
    © 2000–2023 LibreOffice contributors and/or their affiliates, © 2000, 2010 Oracle and/or its
    affiliates; licence MPL-2.0. Shipped with lmlib; `lmlib.recipes.help_pairs` makes the file
    again, and aligns the paragraphs by their ids. Cleaned by `clean_help_pairs`. Near-duplicates in
    either language (see `pair_groups`) are in one part of the split.

    Args:
        validation: number of pairs in the validation split.
        test: number of pairs in the test split.

    Raises:
        ValueError: the parts cannot be filled.
    """
    # Only what cleaning keeps has a group. Cleaned again, it gets its Chinese punctuation.
    kept = [(group, HelpParagraph(zh, en, 1)) for _, group, zh, en in _rows() if group]
    groups, pairs = [group for group, _ in kept], clean_help_pairs(row for _, row in kept)
    return split_by_group(
        pairs, groups, validation=validation, test=test, text=lambda pair: pair.zh
    )


def is_translated(zh: str) -> bool:
    """A language filter: is most of the text ``zh`` Chinese? A hanzi says as much as two letters.

    >>> is_translated("打开「Writer」文档。"), is_translated("Opens the document.")
    (True, False)
    >>> is_translated('=LEFTB("中国";2) returns "中".')
    False
    """
    return 2 * len(_HANZI.findall(zh)) > len(_LATIN.findall(zh))


def clean_help_pairs(paragraphs: Iterable[HelpParagraph]) -> list[Pair]:
    """The pairs of a sentence or a few that are fit for translation, each Chinese text once.

    What is left out: paragraphs that are not translated; that end in no full stop; with formulas or
    code; too long (over 80 hanzi and marks, or 50 words); whose lengths do not fit each other, for
    then one of them says more. ASCII punctuation between hanzi becomes Chinese.

    Args:
        paragraphs: any number, as from `load_raw_help_pairs`.
    """
    first: dict[str, Pair] = {}
    for zh, en, _ in paragraphs:
        zh = _chinese_marks(zh)
        if _is_sentence(zh, en):
            first.setdefault(zh, Pair(zh, en))
    return list(first.values())


def _is_sentence(zh: str, en: str) -> bool:
    words = en.split()
    return (
        is_translated(zh)
        and zh[-1] in "。！？"
        and en[-1] in ".!?"
        and not _HANZI.search(en)
        and not _CODE.search(zh)
        and not _CODE.search(en)
        and 5 <= len(zh) <= 80
        and 3 <= len(words) <= 50
        and 0.8 <= len(zh) / len(words) <= 4.0
    )


def _chinese_marks(text: str) -> str:
    """选择「插入」, 然后 → 选择「插入」，然后."""
    return re.sub(
        r"(?<=[\u3000-\u9fff])\s*([,;:!?()])\s*(?=[\u3000-\u9fff])",
        lambda match: match[1].translate(_ASCII_MARKS),
        text,
    )


@lru_cache(maxsize=1)
def _rows() -> list[list[str]]:
    """Count, group (none for what cleaning leaves out), Chinese (none: as English), English."""
    return read_table(lmlib.assets.path("corpora", "help_pairs.tsv.xz"))
