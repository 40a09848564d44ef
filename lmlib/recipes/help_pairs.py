"""The help of LibreOffice in two languages: `python -m lmlib.recipes.help_pairs`.

Both Debian packages hold the same HTML pages, in which a paragraph has the same id in every
language; that aligns them. Markup goes; of words that the browser shows by operating system, those
for all of them stay. Each pair of texts is written once, with the number of paragraphs that have it
and, where cleaning keeps it, the group of near-duplicates it belongs to.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import lmlib.assets
from lmlib.datasets import (
    HelpParagraph,
    Package,
    clean_help_pairs,
    fetch,
    pair_groups,
    read_archive,
)
from lmlib.datasets._pairs import write_table

VERSION = "4:7.4.7-1+deb12u14"
CHINESE = Package(
    client="apt",
    name="libreoffice-help-zh-cn",
    version=VERSION,
    file="libreoffice-help-zh-cn_4%3a7.4.7-1+deb12u14_all.deb",
    sha256="db867cdece4c2f9c7eebe65e519c6cf386fdcf49d6e061db3dffec893b3e1dee",
    size=3_435_780,
)
ENGLISH = Package(
    client="apt",
    name="libreoffice-help-en-us",
    version=VERSION,
    file="libreoffice-help-en-us_4%3a7.4.7-1+deb12u14_all.deb",
    sha256="8faa840285734d6cfe1ed25537b48f07e74bd6412e3917bf8e5f8a653f7b3712",
    size=1_753_504,
)
_PAGE = re.compile(r".*/libreoffice/help/[a-zA-Z-]+/(text/.*\.html)")
_BLOCKS = ("p", "h1", "h2", "h3", "h4", "h5", "h6")


class _Page(HTMLParser):
    """Collects the text of each paragraph that has an id: ``paragraphs[id]``."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.paragraphs: dict[str, str] = {}
        self._id = ""
        self._block = ""
        self._parts: list[str] = []
        self._hidden: list[bool] = []  # of each open <span>, is it one that is not shown?

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        name = attributes.get("id", "")
        if self._id:
            if tag == "span":
                self._hidden.append("hidden" in attributes and not name.startswith("default"))
        elif tag in _BLOCKS and name.startswith(("par_id", "hd_id")):
            self._id, self._block, self._parts, self._hidden = name, tag, [], []

    def handle_endtag(self, tag: str) -> None:
        if self._id and tag == "span" and self._hidden:
            self._hidden.pop()
        if self._id and tag == self._block:
            text = " ".join("".join(self._parts).split())
            if text:
                self.paragraphs.setdefault(self._id, text)
            self._id = ""

    def handle_data(self, data: str) -> None:
        if self._id and not any(self._hidden):
            self._parts.append(data)


def paragraphs(archive: Path) -> dict[tuple[str, str], str]:
    """The paragraphs of a package, by page and id, in the order of the pages."""
    found = {}
    pages = read_archive(archive, lambda name: _PAGE.fullmatch(name) is not None)
    for name in sorted(pages):
        match = _PAGE.fullmatch(name)
        assert match is not None
        page = _Page()
        page.feed(pages[name].decode())
        page.close()
        found.update({(match[1], key): text for key, text in page.paragraphs.items()})
    return found


def rows(chinese: Path, english: Path) -> list[tuple[str, str, str, str]]:
    """Count, group, Chinese (none where it is the English) and English of each pair of texts."""
    zh, en = paragraphs(chinese), paragraphs(english)
    counts = Counter((zh[key], en[key]) for key in en if key in zh)
    raw = [HelpParagraph(*texts, count) for texts, count in counts.items()]
    clean = clean_help_pairs(raw)
    group_of = {pair.zh: str(group) for pair, group in zip(clean, pair_groups(clean), strict=True)}
    result = []
    for paragraph in raw:
        # One by one, to find where a text that cleaning keeps stands first.
        kept = clean_help_pairs([paragraph])
        group = group_of.pop(kept[0].zh, "") if kept else ""
        same = paragraph.zh == paragraph.en
        result.append((str(paragraph.times), group, "" if same else paragraph.zh, paragraph.en))
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(
        prog="python -m lmlib.recipes.help_pairs",
        description="Remake the shipped help texts from two Debian packages.",
    )
    default = lmlib.assets.path() / "corpora" / "help_pairs.tsv.xz"
    parser.add_argument("--output", type=Path, default=default)
    output = parser.parse_args(argv).output
    write_table(output, rows(fetch(CHINESE), fetch(ENGLISH)))
    print(f"{output}: {output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
