"""BPETokenizer: byte-level byte-pair encoding, as GPT-2 has it.

Text is cut into pieces (words with the space before them, numbers, punctuation, white space), each
piece into its bytes in UTF-8; then neighbours are merged, the pair learnt first goes first. Every
text has an encoding, for every byte has a token, and `decode` gives every text back.

Sennrich et al. 2016 (arXiv:1508.07909); Radford et al. 2019, "Language Models are Unsupervised
Multitask Learners", §2.2.
"""

from __future__ import annotations

import operator
import os
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import SupportsIndex

import regex

from lmlib.tokenizers._base import (
    BOS,
    EOS,
    PAD,
    check_count,
    check_specials,
    check_text,
    checked_texts,
    read_vocabulary,
    write_json,
)
from lmlib.tokenizers._bytes import ALPHABET, BYTES, from_bytes, to_bytes
from lmlib.tokenizers._merges import apply_merges, learn_merges
from lmlib.tokenizers._subword import SubwordTokenizer

GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


@dataclass(frozen=True)
class Merge:
    """One merge, learnt from the pair of tokens that was the most frequent then.

    The tokens stand as in `vocab`; `BPETokenizer.readable` makes text of them.

    Attributes:
        rank: how many merges were learnt before this one.
        left, right: the two tokens of the pair.
        token: what they give, `left + right`.
        count: how often the pair stood in the training text when it was merged; 0 if unknown.
    """

    rank: int
    left: str
    right: str
    token: str
    count: int


@dataclass(frozen=True)
class Step:
    """One state of a piece of text on the way from bytes to tokens.

    Attributes:
        piece: which piece of the text, from 0.
        token_ids: the ids of the tokens that the piece consists of now.
        merge: what was merged last; None for the bytes.
        index: where in `token_ids` the merged token stands; None for the bytes.
    """

    piece: int
    token_ids: tuple[int, ...]
    merge: Merge | None
    index: int | None


class BPETokenizer(SubwordTokenizer):
    """Byte-level BPE: 256 tokens for the bytes, one more for each merge, and the specials.

    In `vocab` a token stands in GPT-2's alphabet, which has a visible character for each byte:
    ``"Ġthe"`` is ``" the"``. `token_bytes` gives the bytes, `readable` the text as far as it is
    one.

    >>> tokenizer = BPETokenizer.train(["low lower lowest"] * 9, vocab_size=263)
    >>> [(merge.left, merge.right, merge.count) for merge in tokenizer.merges]
    [('l', 'o', 27), ('lo', 'w', 27), ('Ġ', 'low', 18), ('Ġlow', 'e', 18)]
    >>> [tokenizer.token_of(index) for index in tokenizer.encode("low lows")]
    ['low', 'Ġlow', 's']
    >>> tokenizer.decode(tokenizer.encode("任何文字，🙂"))
    '任何文字，🙂'

    Args:
        vocab: the tokens in the order of their ids, each once; the 256 of the bytes among them.
        merges: the pairs of tokens that are merged, in the order of their ranks; rows of `Merge`
            or pairs of tokens.
        specials: which tokens of `vocab` stand for no text.
        pattern: a regular expression (of the `regex` module) that finds the pieces of a text.

    Raises:
        TypeError: `vocab` or `specials` is one string, or holds something that is not a string.
        ValueError: `vocab` lacks a byte, a special or a token of a merge, holds a token twice or
            one that is not written in GPT-2's alphabet; a pair is merged twice; `pattern` is not
            a regular expression.
    """

    _BOS = (BOS, "<s>", "<|endoftext|>")
    _EOS = (EOS, "</s>", "<|endoftext|>")
    _PAD = (PAD, "<|endoftext|>")

    def __init__(
        self,
        vocab: Iterable[str],
        merges: Iterable[Merge | Sequence[str]],
        *,
        specials: Sequence[str] = (),
        pattern: str = GPT2_PATTERN,
    ) -> None:
        super().__init__(vocab, specials)
        for char in ALPHABET:
            if char not in self._ids or char in self._special_ids:
                raise ValueError(f"vocab must hold a token for each byte, but {char!r} is missing")
        self._bytes: list[bytes] = []
        for index, token in enumerate(self._vocab):
            text = "" if token in self._special_ids else token
            if any(char not in BYTES for char in text):
                raise ValueError(
                    f"vocab[{index}] must be a special or in the alphabet of bytes, got {token!r}"
                )
            self._bytes.append(bytes(BYTES[char] for char in text))
        self._byte_ids = [self._ids[char] for char in ALPHABET]
        self._merges: list[Merge] = []
        # (left, right) → (rank, id of the new token)
        self._ranks: dict[tuple[int, int], tuple[int, int]] = {}
        for rank, row in enumerate(merges):
            self._add_merge(rank, row)
        self.pattern = pattern
        try:
            self._find_pieces = regex.compile(pattern).finditer
        except (regex.error, TypeError) as error:
            raise ValueError(f"pattern must be a regular expression, got {pattern!r}") from error

    def _add_merge(self, rank: int, row: Merge | Sequence[str]) -> None:
        if isinstance(row, Merge):
            left, right, count = row.left, row.right, row.count
        elif not isinstance(row, str) and len(row) == 2:
            (left, right), count = row, 0
        else:
            raise ValueError(f"merges must hold pairs of tokens, but merges[{rank}] is {row!r}")
        for token in (left, right, left + right):
            if token not in self._ids or token in self._special_ids:
                raise ValueError(
                    f"merges must be of tokens of the vocabulary, but {token!r} "
                    f"of merges[{rank}] is none"
                )
        pair = (self._ids[left], self._ids[right])
        if pair in self._ranks:
            raise ValueError(f"merges holds {(left, right)} twice, first as {self._ranks[pair][0]}")
        self._ranks[pair] = (rank, self._ids[left + right])
        self._merges.append(Merge(rank, left, right, left + right, count))

    # ------------------------------------------------------------------ making, saving, loading

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        *,
        specials: Sequence[str] = (PAD, BOS, EOS),
        min_count: int = 2,
        pattern: str = GPT2_PATTERN,
    ) -> BPETokenizer:
        """Learn the merges from `texts`.

        The ids are: the specials, the 256 bytes in the order of GPT-2, the merges as they were
        learnt. Of pairs equally frequent the one with the smaller ids is merged first.

        Args:
            texts: any number of strings; read once, so a generator or an open file will do.
            vocab_size: how many tokens there shall be; fewer come out if the texts are too short.
            specials: tokens put in front; each has two characters or more.
            min_count: merge no pair that occurs less often.
            pattern: finds the pieces of a text, across whose borders nothing is merged.

        Raises:
            TypeError: `texts` is one string, or holds something that is not a string.
            ValueError: `vocab_size` has no room for the bytes and the specials, `min_count` < 1,
                or a special is a single character.
        """
        check_count("min_count", min_count)
        check_count("vocab_size", vocab_size)
        check_specials(specials)
        if vocab_size < 256 + len(specials):
            raise ValueError(
                f"vocab_size must be at least {256 + len(specials)} (256 bytes and "
                f"{len(specials)} specials), got {vocab_size}"
            )
        vocab = [*specials, *sorted(ALPHABET)]
        untrained = cls(vocab, [], specials=specials, pattern=pattern)
        counts: Counter[str] = Counter()
        for text in checked_texts(texts):
            counts.update(untrained.pieces(text))
        words = ((untrained._byte_tokens(piece), count) for piece, count in counts.items())
        rows = learn_merges(words, vocab, operator.add, vocab_size, min_count, set(specials))
        merges = (
            Merge(rank, vocab[left], vocab[right], vocab[new], count)
            for rank, (left, right, new, count) in enumerate(rows)
        )
        return cls(vocab, merges, specials=specials, pattern=pattern)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the tokenizer as one JSON file: its pattern, specials, vocabulary and merges."""
        write_json(
            Path(path),
            {
                "type": "bpe",
                "pattern": self.pattern,
                "specials": self.specials,
                "vocab": self._vocab,
                "merges": [(row.left, row.right, row.count) for row in self._merges],
            },
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> BPETokenizer:
        """Read what `save` wrote.

        Raises:
            ValueError: the file is not a BPE vocabulary, or is damaged.
        """
        path = Path(path)
        content = read_vocabulary(
            path, "bpe", "BPE vocabulary", pattern=str, specials=list, vocab=list, merges=list
        )
        try:
            merges = [
                Merge(rank, left, right, left + right, int(count))
                for rank, (left, right, count) in enumerate(content["merges"])
            ]
            return cls(
                content["vocab"],
                merges,
                specials=content["specials"],
                pattern=content["pattern"],
            )
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} is not a BPE vocabulary: {error}") from error

    @classmethod
    def from_huggingface(cls, path: str | os.PathLike[str]) -> BPETokenizer:
        """Read a Hugging Face `tokenizer.json` of a byte-level BPE, such as GPT-2's.

        Args:
            path: the file, or the folder that holds it.

        Raises:
            ValueError: the file is none, or asks for what this class does not do.
        """
        from lmlib.tokenizers._hf_json import read_bpe

        return cls(**read_bpe(Path(path), GPT2_PATTERN))

    # ------------------------------------------------------------------ text and ids

    def decode(self, ids: Iterable[SupportsIndex], skip_specials: bool = True) -> str:
        """The text of `ids`.

        Bytes that are no UTF-8, such as the first two of a Chinese character, become U+FFFD.

        Args:
            ids: token ids: a list, or a tensor or array (n,).
            skip_specials: leave the specials out.

        Raises:
            TypeError: an id is not an integer.
            ValueError: an id lies outside the vocabulary.
        """
        texts: list[str] = []
        data = bytearray()
        for index in ids:
            number = self._check_id(index)
            if self._vocab[number] not in self._special_ids:
                data += self._bytes[number]
            elif not skip_specials:
                texts += [from_bytes(bytes(data)), self._vocab[number]]
                data.clear()
        return "".join([*texts, from_bytes(bytes(data))])

    def pieces(self, text: str) -> list[str]:
        """The pieces of `text`, which joined give it back: nothing is merged across their borders.

        What `pattern` does not match is a piece by itself.
        """
        check_text(text)
        pieces: list[str] = []
        end = 0
        for match in self._find_pieces(text):
            start, stop = match.span()
            if end < start:
                pieces.append(text[end:start])
            if start < stop:
                pieces.append(text[start:stop])
            end = stop
        if end < len(text):
            pieces.append(text[end:])
        return pieces

    def steps(self, text: str) -> Iterator[Step]:
        """How the pieces of `text` become tokens: for each its bytes, then a step for each merge.

        Of all pairs in a piece the one of the lowest rank is merged, the leftmost if it stands
        there several times, until no pair is left that was learnt. The last steps of the pieces
        give `encode(text)`.

        Raises:
            TypeError: `text` is not a string.
        """
        for number, piece in enumerate(self.pieces(text)):
            ids = self._byte_tokens(piece)
            yield Step(number, tuple(ids), None, None)
            while True:
                pairs = enumerate(pairwise(ids))
                ranked = [(*self._ranks[pair], i) for i, pair in pairs if pair in self._ranks]
                if not ranked:
                    break
                rank, new, index = min(ranked)
                ids[index : index + 2] = [new]
                yield Step(number, tuple(ids), self._merges[rank], index)

    def _cut(self, text: str) -> list[str]:
        return self.pieces(text)

    def _encode_piece(self, piece: str) -> list[int]:
        return apply_merges(self._byte_tokens(piece), self._ranks)

    def _byte_tokens(self, piece: str) -> list[int]:
        byte_ids = self._byte_ids
        return [byte_ids[byte] for byte in to_bytes(piece)]

    # ------------------------------------------------------------------ the vocabulary

    @property
    def merges(self) -> tuple[Merge, ...]:
        """The merges, in the order of their ranks."""
        return tuple(self._merges)

    def token_bytes(self, index: SupportsIndex) -> bytes:
        """The bytes that a token stands for; none for a special.

        Raises:
            TypeError: `index` is not an integer.
            ValueError: `index` lies outside the vocabulary.
        """
        return self._bytes[self._check_id(index)]

    def readable(self, token: str) -> str:
        """A token of `vocab` as text, or as bytes in angle brackets where they are no whole text.

        >>> BPETokenizer.train(["你好"], 259).readable("Ġ")
        ' '
        """
        if token in self._special_ids:
            return token
        data = self.token_bytes(self.id_of(token))
        text = from_bytes(data)
        return text if to_bytes(text) == data else f"<{data.hex(' ').upper()}>"

    def _state(self) -> Hashable:
        pairs = tuple((row.left, row.right) for row in self._merges)
        return (self._vocab, pairs, self.specials, self.pattern)
