"""CharTokenizer: every character is a token.

A token is a Unicode code point, which suits Chinese: a character is short, carries meaning, and the
few thousand common ones cover nearly all text.

Text is taken as it is: no normalisation, no lower case, no stripping. So `decode(encode(text))`
gives `text` back whenever the vocabulary holds all its characters.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import SupportsIndex

from lmlib.tokenizers._base import (
    SPECIALS,
    UNK,
    Tokenizer,
    check_count,
    check_specials,
    check_text,
    checked_texts,
    read_text,
    read_vocabulary,
    write_json,
    write_text,
)

# In the one-token-a-line format these would be invisible or break the line: they stand as \uXXXX.
_ESCAPE = re.compile(r"\\u([0-9a-f]{4})")


class CharTokenizer(Tokenizer):
    """One token a character, with a fixed vocabulary.

    Tokens of two characters or more are *special* (`<pad>`, `<bos>`, `<eos>`, `<unk>`, or others
    that the vocabulary brings). They are never read out of text: `encode("<bos>")` gives five ids,
    those of `<`, `b`, `o`, `s` and `>`.

    >>> tokenizer = CharTokenizer.train(["你好世界", "你好"])
    >>> tokenizer.vocab
    ('<pad>', '<bos>', '<eos>', '<unk>', '你', '好', '世', '界')
    >>> tokenizer.encode("你好", add_bos=True, add_eos=True)
    [1, 4, 5, 2]
    >>> tokenizer.decode([1, 4, 5, 2])
    '你好'

    Args:
        vocab: the tokens in the order of their ids, each once.

    Raises:
        TypeError: `vocab` is one string, or holds something that is not a string.
        ValueError: `vocab` is empty, or holds an empty token or a token twice.
    """

    # ------------------------------------------------------------------ making, saving, loading

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int | None = None,
        min_count: int = 1,
        specials: Sequence[str] = SPECIALS,
    ) -> CharTokenizer:
        """Collect the characters of `texts`, the most frequent first.

        Characters with the same count stand in the order of their code points, so the same texts
        always give the same ids.

        Args:
            texts: any number of strings; read once, so a generator or an open file will do.
            vocab_size: at most so many tokens, specials included; None for no limit.
            min_count: leave out characters that occur less often.
            specials: tokens put in front; each has two characters or more.

        Raises:
            TypeError: `texts` is one string, or holds something that is not a string.
            ValueError: `min_count` < 1, `vocab_size` has no room for the specials, or a special
                token is a single character.
        """
        check_count("min_count", min_count)
        if vocab_size is not None and vocab_size < max(len(specials), 1):
            raise ValueError(
                f"vocab_size must leave room for the {len(specials)} special tokens, "
                f"got {vocab_size}"
            )
        check_specials(specials)
        counts: Counter[str] = Counter()
        for text in checked_texts(texts):
            counts.update(text)
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        vocab = [*specials, *(char for char, count in ranked if count >= min_count)]
        return cls(vocab[:vocab_size])

    @classmethod
    def from_vocab(cls, vocab: Iterable[str]) -> CharTokenizer:
        """A tokenizer with this vocabulary: the token at index i gets the id i."""
        return cls(vocab)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the vocabulary, in UTF-8.

        A path that ends in `.json` gets `{"type": "char", "vocab": [...]}`; any other gets one
        token a line, in which white space, control characters and the backslash stand as `\\uXXXX`.
        """
        path = Path(path)
        if path.suffix == ".json":
            write_json(path, {"type": "char", "vocab": self._vocab})
        else:
            write_text(path, "".join(_escape(token) + "\n" for token in self._vocab))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CharTokenizer:
        """Read what `save` wrote.

        Raises:
            ValueError: the file is not a vocabulary in the format that its name promises.
        """
        path = Path(path)
        if path.suffix != ".json":
            return cls(map(_unescape, read_text(path).removesuffix("\n").split("\n")))
        return cls(read_vocabulary(path, "char", "character vocabulary", vocab=list)["vocab"])

    # ------------------------------------------------------------------ text and ids

    def encode(self, text: str, add_bos: bool = False, add_eos: bool = False) -> list[int]:
        """The ids of the characters of `text`; a character outside the vocabulary gets `unk_id`.

        Args:
            text: any string.
            add_bos: put `<bos>` in front.
            add_eos: put `<eos>` at the end.

        Raises:
            TypeError: `text` is not a string.
            ValueError: `text` holds an unknown character and the vocabulary has no `<unk>`, or
                `<bos>` or `<eos>` is asked for and not in the vocabulary.
        """
        check_text(text)
        ids = [self._ids[char] if char in self._ids else self._unknown(char) for char in text]
        return self._framed(ids, add_bos, add_eos)

    def decode(self, ids: Iterable[SupportsIndex], skip_specials: bool = True) -> str:
        """The text of `ids`.

        `<unk>` is kept even with `skip_specials`, so that a hole in the text can be seen.

        Args:
            ids: token ids: a list, or a tensor or array (n,).
            skip_specials: leave the specials out.

        Raises:
            TypeError: an id is not an integer.
            ValueError: an id lies outside the vocabulary.
        """
        tokens = [self.token_of(index) for index in ids]
        if skip_specials:
            tokens = [token for token in tokens if len(token) == 1 or token == UNK]
        return "".join(tokens)

    @property
    def specials(self) -> tuple[str, ...]:
        """The tokens that stand for no character, in the order of their ids."""
        return tuple(token for token in self._vocab if len(token) > 1)

    def _unknown(self, char: str) -> int:
        if UNK not in self._ids:
            raise ValueError(f"text holds {char!r}, and the vocabulary has neither it nor {UNK}")
        return self._ids[UNK]


def _escape(token: str) -> str:
    """`token` with everything that a line of text cannot show as `\\uXXXX`."""
    return "".join(
        f"\\u{ord(char):04x}"
        if char == "\\" or char.isspace() or unicodedata.category(char) == "Cc"
        else char
        for char in token
    )


def _unescape(line: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), line)
