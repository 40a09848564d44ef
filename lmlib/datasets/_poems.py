"""Poems: the regular ones of 全唐诗, shipped; the others, and 全宋诗, from their package."""

from __future__ import annotations

import contextlib
import gc
import lzma
from collections.abc import Collection, Iterable, Iterator

from lmlib import assets
from lmlib._checks import check_choice
from lmlib.datasets._fetch import prepared
from lmlib.datasets._poem_collections import PARTS, split_everything
from lmlib.datasets._poem_form import MEASURES, OTHER_FORM, REGULAR_FORMS, Poem, cut_lines
from lmlib.datasets._splits import Splits

_VERSION = 1  # of the prepared texts


def load_poems(part: str = "tang", forms: Iterable[str] = REGULAR_FORMS) -> Splits[Poem]:
    """The poems of the Tang, or of Tang and Song, in simplified characters.

    The regular Tang poems are shipped. All others come from the npm package `chinese-poetry` 2.0.1
    (85 MB, licence MIT; the poems themselves are in the public domain), which is fetched the first
    time, converted with `opencc`, cleaned, and kept: that takes a minute or two.

    Poems with missing characters, and repetitions, are left out. No poem of the validation or
    test part has a near-duplicate (Jaccard similarity of character bigrams ≥ 0.6) in another part,
    nor shares two lines in a row with a poem of another part. This holds across "tang" and "all",
    too: a poem has its part, whatever is loaded with it. With the regular forms, "tang" has 37 212
    training, 500 validation and 500 test poems, "all" 227 072, 1 200 and 1 200; 其他 adds to
    "tang" 16 175, 200 and 200, to "all" 73 990, 400 and 400.

    Args:
        part: "tang", or "all": Tang and Song.
        forms: which forms: of `REGULAR_FORMS`, and "其他".

    Raises:
        DatasetError: the package is neither in the cache nor to be had.

    >>> load_poems("tang", forms=["五绝"]).train[0].text
    '四时运灰琯，一夕变冬春。送寒余雪尽，迎岁早梅新。'
    """
    check_choice("part", part, ("tang", "all"))
    forms = [forms] if isinstance(forms, str) else list(forms)
    for form in forms:
        check_choice("forms", form, (*REGULAR_FORMS, OTHER_FORM))
    texts = [_tang_text()]
    if part == "all":
        texts.append(prepared("song_poems", _VERSION, _song_text))
    if OTHER_FORM in forms:
        texts.append(prepared("other_poems", _VERSION, _other_text))
    dynasties = ["唐"] if part == "tang" else ["唐", "宋"]
    with _no_collection():
        rows = [row for text in texts for row in _read_rows(text, forms, dynasties)]
    return Splits(*([poem for where, poem in rows if where == name] for name in PARTS))


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Without the garbage collector, which would look through all poems again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _tang_text() -> str:
    return lzma.decompress(assets.path("corpora", "tang_poems.tsv.xz").read_bytes()).decode("utf-8")


def write_rows(rows: Iterable[tuple[str, Poem]]) -> str:
    """The text of a file of poems: a header, then a line each, with tabs between the columns.

    Args:
        rows: of each poem the part, "train", "validation" or "test", and itself.
    """
    lines = ["part\tdynasty\tform\tauthor\ttitle\ttext"]
    for part, poem in rows:
        row = (part, poem.dynasty, poem.form, poem.author, poem.title, poem.text)
        lines.append("\t".join(row))
    return "\n".join(lines) + "\n"


def _read_rows(
    text: str, forms: Collection[str], dynasties: Collection[str]
) -> list[tuple[str, Poem]]:
    """The rows of a file of poems that are of these forms and dynasties."""
    measures = {name: measure for measure, name in MEASURES.items()}
    rows = []
    for row in text.split("\n")[1:-1]:
        part, dynasty, form, author, title, verse = row.split("\t")
        if form not in forms or dynasty not in dynasties:
            continue
        if form == OTHER_FORM:
            lines, marks = cut_lines(verse)
        else:
            count, length = measures[form]
            step = length + 1
            lines = tuple([verse[i : i + length] for i in range(0, count * step, step)])
            marks = ""
        rows.append((part, Poem(title, author, dynasty, form, lines, marks)))
    return rows


def _song_text() -> str:
    rows = split_everything()
    return write_rows(r for r in rows if r[1].dynasty == "宋" and r[1].form != OTHER_FORM)


def _other_text() -> str:
    return write_rows(r for r in split_everything() if r[1].form == OTHER_FORM)
