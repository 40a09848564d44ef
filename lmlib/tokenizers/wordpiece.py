"""WordPieceTokenizer: BERT's tokenizer, which cuts words into the longest pieces it knows.

The text is normalised and cut into words (at white space; punctuation marks and Chinese characters
are words by themselves); a word is cut into pieces from the left, always the longest that the
vocabulary holds. Pieces inside a word begin with `##`.

Schuster and Nakajima 2012, "Japanese and Korean Voice Search"; Devlin et al. 2019
(arXiv:1810.04805), §3. The training is Hugging Face's, by the count of pairs; that of the paper,
by likelihood, was never published as code.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple, SupportsIndex

from lmlib.tokenizers._base import (
    check_count,
    check_specials,
    check_text,
    checked_texts,
    read_text,
    read_vocabulary,
    write_json,
)
from lmlib.tokenizers._bert_text import UNSPACED, normalize, split_words
from lmlib.tokenizers._merges import learn_merges
from lmlib.tokenizers._subword import SubwordTokenizer

BERT_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""The specials of BERT, in the order of their ids."""

_INSIDE = "##"  # begins a piece that does not begin a word


class EncodedPair(NamedTuple):
    """One or two texts as BERT reads them, both lists of the same length.

    Attributes:
        token_ids: those of ``[CLS] text [SEP]``, or of ``[CLS] text [SEP] pair [SEP]``.
        segment_ids: 0 up to the first ``[SEP]``, which is included, and 1 after it.
    """

    token_ids: list[int]
    segment_ids: list[int]


class WordPieceTokenizer(SubwordTokenizer):
    """BERT's tokenizer: `[CLS]` begins a sequence (`bos_id`), `[SEP]` ends one (`eos_id`).

    What comes back from `decode(encode(text))` is `" ".join(words(text))`, but for the spaces
    beside Chinese characters, if no word is `[UNK]`. So white space is lost, and what `normalize`
    drops: control characters, capitals and accents if it is so set; every other character comes
    back in its place.

    >>> tokenizer = WordPieceTokenizer.train(["low lowest finest widest 低"] * 9, vocab_size=28)
    >>> [tokenizer.token_of(index) for index in tokenizer.encode("Lowest 低!")]
    ['low', '##est', '低', '[UNK]']
    >>> tokenizer.encode_pair("low", "lowest").segment_ids
    [0, 0, 0, 1, 1, 1]

    Args:
        vocab: the tokens in the order of their ids, each once.
        specials: which tokens of `vocab` stand for no text.
        lowercase: make letters small before they are looked up.
        strip_accents: drop accents; None: if `lowercase`, as BERT does.
        max_word_length: longer words (in characters) are `[UNK]`.

    Raises:
        TypeError: `vocab` or `specials` is one string, or holds something that is not a string.
        ValueError: `vocab` is empty, holds an empty token or a token twice, or lacks a special;
            `max_word_length` < 1.
    """

    _PAD: ClassVar[tuple[str, ...]] = ("[PAD]",)
    _BOS: ClassVar[tuple[str, ...]] = ("[CLS]",)
    _EOS: ClassVar[tuple[str, ...]] = ("[SEP]",)
    _UNK: ClassVar[tuple[str, ...]] = ("[UNK]",)

    def __init__(
        self,
        vocab: Iterable[str],
        *,
        specials: Sequence[str] = BERT_SPECIALS,
        lowercase: bool = True,
        strip_accents: bool | None = None,
        max_word_length: int = 100,
    ) -> None:
        super().__init__(vocab, specials)
        check_count("max_word_length", max_word_length)
        self.lowercase = lowercase
        self.strip_accents = lowercase if strip_accents is None else strip_accents
        self.max_word_length = max_word_length
        ordinary = {token: i for token, i in self._ids.items() if token not in self._special_ids}
        # Pieces that begin a word, and pieces inside one without their ##.
        self._first = {t: i for t, i in ordinary.items() if not t.startswith(_INSIDE)}
        self._inside = {t[2:]: i for t, i in ordinary.items() if t.startswith(_INSIDE)}
        self._longest = max(map(len, [*self._first, *self._inside]), default=0)

    # ------------------------------------------------------------------ making, saving, loading

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        *,
        specials: Sequence[str] = BERT_SPECIALS,
        min_count: int = 2,
        alphabet_size: int | None = None,
        lowercase: bool = True,
        strip_accents: bool | None = None,
        max_word_length: int = 100,
    ) -> WordPieceTokenizer:
        """Learn the pieces from `texts`: the most frequent pair of neighbours becomes one.

        The ids are: the specials, the characters, those inside a word with `##`, both in the
        order of code points, then the pieces as they were learnt. Of pairs equally frequent the
        one with the smaller ids goes first.

        Args:
            texts: any number of strings; read once, so a generator or an open file will do.
            vocab_size: how many tokens there shall be; fewer come out if the texts are too short.
            specials: tokens put in front; each has two characters or more.
            min_count: make no piece of a pair that occurs less often.
            alphabet_size: keep so many characters, the most frequent; None for all.
            lowercase, strip_accents, max_word_length: as of the class.

        Raises:
            TypeError: `texts` is one string, or holds something that is not a string.
            ValueError: `vocab_size` has no room for the characters and the specials, `min_count`
                or `alphabet_size` < 1, or a special is a single character.
        """
        for name, value in (("min_count", min_count), ("vocab_size", vocab_size)):
            check_count(name, value)
        if alphabet_size is not None:
            check_count("alphabet_size", alphabet_size)
        check_specials(specials)
        accents = lowercase if strip_accents is None else strip_accents
        words: Counter[str] = Counter()
        for text in checked_texts(texts):
            words.update(split_words(normalize(text, lowercase, accents)))
        tokens = [*specials, *_alphabet(words, alphabet_size)]
        if vocab_size < len(tokens):
            raise ValueError(
                f"vocab_size must be at least {len(tokens)} ({len(specials)} specials and "
                f"{len(tokens) - len(specials)} characters of the texts, those inside words "
                f"with {_INSIDE}), got {vocab_size}"
            )
        ids = {token: index for index, token in enumerate(tokens)}
        learn_merges(
            ((_characters(word, ids), count) for word, count in words.items()),
            tokens,
            lambda left, right: left + right.removeprefix(_INSIDE),
            vocab_size,
            min_count,
            set(specials),
        )
        return cls(
            tokens,
            specials=specials,
            lowercase=lowercase,
            strip_accents=strip_accents,
            max_word_length=max_word_length,
        )

    @classmethod
    def from_vocab_file(
        cls,
        path: str | os.PathLike[str],
        *,
        lowercase: bool = True,
        strip_accents: bool | None = None,
    ) -> WordPieceTokenizer:
        """Read a `vocab.txt` as BERT models bring one: a token a line, in the order of the ids.

        The file does not say whether the model wants lower case: its card or its
        `tokenizer_config.json` does.

        Args:
            path: the file. Those of `BERT_SPECIALS` that it holds become the specials.
            lowercase, strip_accents: as of the class.

        Raises:
            ValueError: the file is no such vocabulary.
        """
        path = Path(path)
        vocab = read_text(path).removesuffix("\n").split("\n")
        specials = [token for token in BERT_SPECIALS if token in vocab]
        try:
            return cls(vocab, specials=specials, lowercase=lowercase, strip_accents=strip_accents)
        except ValueError as error:
            raise ValueError(f"{path} is not a WordPiece vocabulary: {error}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the tokenizer as one JSON file: its settings, specials and vocabulary."""
        content = {"type": "wordpiece", "specials": self.specials, "vocab": self._vocab}
        write_json(Path(path), content | self._settings())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> WordPieceTokenizer:
        """Read what `save` wrote.

        Raises:
            ValueError: the file is not a WordPiece vocabulary, or is damaged.
        """
        path = Path(path)
        fields = {"vocab": list, "specials": list, "lowercase": bool, "strip_accents": bool}
        what = "WordPiece vocabulary"
        content = read_vocabulary(path, "wordpiece", what, **fields, max_word_length=int)
        try:
            return cls(**{name: content[name] for name in (*fields, "max_word_length")})
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} is not a {what}: {error}") from error

    # ------------------------------------------------------------------ text and ids

    def encode_pair(
        self, text: str, pair: str | None = None, *, max_len: int | None = None
    ) -> EncodedPair:
        """One or two texts with `[CLS]` and `[SEP]`, and which of them each token belongs to.

        Args:
            text: the first segment.
            pair: the second, if there is one.
            max_len: at most so many ids; the longer of the two texts is cut first, at its end.

        Raises:
            TypeError: a text is not a string.
            ValueError: `max_len` has no room for `[CLS]` and `[SEP]`.
        """
        first = self.encode(text)
        if pair is not None:
            check_text(pair, "pair")
        second = [] if pair is None else self.encode(pair)
        num_specials = 2 if pair is None else 3
        if max_len is not None:
            check_count("max_len", max_len)
            if max_len < num_specials:
                raise ValueError(f"max_len must be at least {num_specials}, got {max_len}")
            room = max_len - num_specials
            if len(first) + len(second) > room:
                short = min(len(first), len(second), room // 2)
                cut = (room - short, short) if len(first) > len(second) else (short, room - short)
                first, second = first[: cut[0]], second[: cut[1]]
        ids = [self.bos_id, *first, self.eos_id]
        segments = [0] * len(ids)
        if pair is not None:
            ids += [*second, self.eos_id]
            segments += [1] * (len(ids) - len(segments))
        return EncodedPair(ids, segments)

    def decode(
        self,
        ids: Iterable[SupportsIndex],
        skip_specials: bool = True,
        cjk_spaces: bool = False,
    ) -> str:
        """The words of `ids` (a list, or a tensor or array of one dimension), a space between two.

        `[UNK]` is kept even with `skip_specials`, so that a hole in the text can be seen.

        Args:
            ids: token ids.
            skip_specials: leave the specials out.
            cjk_spaces: put a space beside a Chinese character, or Chinese punctuation, too.

        Raises:
            TypeError: an id is not an integer.
            ValueError: an id lies outside the vocabulary.
        """
        text = ""
        for index in ids:
            token = self.token_of(index)
            if token in self._special_ids and skip_specials and token not in self._UNK:
                continue
            if not text:
                text = token
            elif token.startswith(_INSIDE):
                text += token.removeprefix(_INSIDE)
            elif not cjk_spaces and (UNSPACED.match(text[-1]) or UNSPACED.match(token)):
                text += token
            else:
                text += " " + token
        return text

    def normalize(self, text: str) -> str:
        """`text` as its words are looked up: cleaned, spaces around Chinese characters, and so on.

        Control and private-use characters, lone surrogates and U+FFFD are dropped.
        """
        check_text(text)
        return normalize(text, self.lowercase, self.strip_accents)

    def words(self, text: str) -> list[str]:
        """The normalised words of `text`; a punctuation mark or a Chinese character is one."""
        return split_words(self.normalize(text))

    def _cut(self, text: str) -> list[str]:
        return self.words(text)

    def _encode_piece(self, word: str) -> list[int]:
        ids: list[int] = []
        start, known = 0, self._first
        while start < len(word) <= self.max_word_length:
            for end in range(min(len(word), start + self._longest), start, -1):
                if (index := known.get(word[start:end])) is not None:
                    break
            else:
                return [self._unknown(word)]
            ids.append(index)
            start, known = end, self._inside
        return ids or [self._unknown(word)]  # too long

    def _unknown(self, word: str) -> int:
        name = self._UNK[0]
        if name not in self._ids:
            raise ValueError(f"text holds {word!r}, and the vocabulary has neither it nor {name}")
        return self._ids[name]

    # ------------------------------------------------------------------ the vocabulary

    @property
    def cls_id(self) -> int:
        """The id of `[CLS]`, which begins a sequence and stands for all of it."""
        return self.bos_id

    @property
    def sep_id(self) -> int:
        """The id of `[SEP]`, which ends a text."""
        return self.eos_id

    @property
    def mask_id(self) -> int:
        """The id of `[MASK]`, which hides a token that shall be guessed."""
        return self.id_of("[MASK]")

    def _settings(self) -> dict[str, bool | int]:
        return {
            "lowercase": self.lowercase,
            "strip_accents": self.strip_accents,
            "max_word_length": self.max_word_length,
        }

    def _state(self) -> Hashable:
        return (self._vocab, self.specials, *self._settings().values())


def _alphabet(words: Counter[str], size: int | None) -> list[str]:
    """The characters of the words, and with ## those that stand inside one."""
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for char in word:
            counts[char] += count
    kept = set(sorted(counts, key=lambda char: (-counts[char], char))[:size])
    inside = {char for word in words for char in word[1:]} & kept
    return [*sorted(kept), *(_INSIDE + char for char in sorted(inside))]


def _characters(word: str, ids: dict[str, int]) -> list[int]:
    """The ids of the characters of a word; one outside the alphabet is left out."""
    tokens = [word[0], *(_INSIDE + char for char in word[1:])]
    return [ids[token] for token in tokens if token in ids]
