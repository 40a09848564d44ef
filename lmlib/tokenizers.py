"""Tokenizers: text to token ids and back.

`CharTokenizer` takes every character (every Unicode code point) as one token, which suits Chinese:
a character is short, carries meaning, and the few thousand common ones cover nearly all text.

Text is taken as it is: no normalisation, no lower case, no stripping. So `decode(encode(text))`
gives `text` back whenever the vocabulary holds all its characters.
"""

from __future__ import annotations

import json
import operator
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import SupportsIndex

PAD, BOS, EOS, UNK = "<pad>", "<bos>", "<eos>", "<unk>"
SPECIALS = (PAD, BOS, EOS, UNK)

# In the one-token-a-line format these would be invisible or break the line: they stand as \uXXXX.
_ESCAPE = re.compile(r"\\u([0-9a-f]{4})")


class CharTokenizer:
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

    def __init__(self, vocab: Iterable[str]) -> None:
        if isinstance(vocab, str):
            raise TypeError("vocab must be a list of tokens, not one string")
        self._vocab = tuple(vocab)
        if not self._vocab:
            raise ValueError("vocab must have at least one token")
        self._ids: dict[str, int] = {}
        for index, token in enumerate(self._vocab):
            if not isinstance(token, str):
                raise TypeError(f"vocab must hold strings, but vocab[{index}] is {token!r}")
            if not token:
                raise ValueError(f"vocab must not hold an empty token, but vocab[{index}] is one")
            if token in self._ids:
                first = self._ids[token]
                raise ValueError(f"vocab holds {token!r} twice, as ids {first} and {index}")
            self._ids[token] = index

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
        if isinstance(texts, str):
            raise TypeError("texts must be an iterable of strings, not one string: pass [text]")
        if min_count < 1:
            raise ValueError(f"min_count must be 1 or more, got {min_count}")
        if vocab_size is not None and vocab_size < max(len(specials), 1):
            raise ValueError(
                f"vocab_size must leave room for the {len(specials)} special tokens, "
                f"got {vocab_size}"
            )
        for special in specials:
            if len(special) < 2:
                raise ValueError(
                    f"specials must have two characters or more (a single one would stand for "
                    f"itself), got {special!r}"
                )
        counts: Counter[str] = Counter()
        for text in texts:
            if not isinstance(text, str):
                raise TypeError(f"texts must hold strings, got {type(text).__name__}")
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
            text = json.dumps({"type": "char", "vocab": self._vocab}, ensure_ascii=False) + "\n"
        else:
            text = "".join(_escape(token) + "\n" for token in self._vocab)
        # newline: the same bytes on every system. errors: a lone surrogate, which UTF-8 cannot
        # write, becomes \uXXXX, which both formats read back.
        with path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            file.write(text)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CharTokenizer:
        """Read what `save` wrote.

        Raises:
            ValueError: the file is not a vocabulary in the format that its name promises.
        """
        path = Path(path)
        text = path.read_text(encoding="utf-8")
        if path.suffix != ".json":
            return cls(map(_unescape, text.removesuffix("\n").split("\n")))
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} is not a JSON file: {error}") from error
        if not isinstance(content, dict) or content.get("type") != "char":
            raise ValueError(f'{path} is not a character vocabulary: "type" must be "char"')
        if not isinstance(content.get("vocab"), list):
            raise ValueError(f'{path} is not a character vocabulary: "vocab" must be a list')
        return cls(content["vocab"])

    # ------------------------------------------------------------------ text and ids

    def encode(self, text: str, add_bos: bool = False, add_eos: bool = False) -> list[int]:
        """The ids of the characters of `text`; a character outside the vocabulary gets `unk_id`.

        Raises:
            TypeError: `text` is not a string.
            ValueError: `text` holds an unknown character and the vocabulary has no `<unk>`, or
                `<bos>` or `<eos>` is asked for and not in the vocabulary.
        """
        if not isinstance(text, str):
            raise TypeError(f"text must be a string, got {type(text).__name__}")
        ids = [self._ids[char] if char in self._ids else self._unknown(char) for char in text]
        if add_bos:
            ids.insert(0, self.bos_id)
        if add_eos:
            ids.append(self.eos_id)
        return ids

    def decode(self, ids: Iterable[SupportsIndex], skip_specials: bool = True) -> str:
        """The text of `ids` (a list, or a tensor or array of one dimension).

        `<unk>` is kept even with `skip_specials`, so that a hole in the text can be seen.

        Raises:
            TypeError: an id is not an integer.
            ValueError: an id lies outside the vocabulary.
        """
        tokens = [self.token_of(index) for index in ids]
        if skip_specials:
            tokens = [token for token in tokens if len(token) == 1 or token == UNK]
        return "".join(tokens)

    def id_of(self, token: str) -> int:
        """The id of one token.

        Raises:
            ValueError: `token` is not in the vocabulary.
        """
        try:
            return self._ids[token]
        except KeyError:
            raise ValueError(
                f"token {token!r} is not among the {len(self)} of the vocabulary"
            ) from None

    def token_of(self, index: SupportsIndex) -> str:
        """The token of one id.

        Raises:
            TypeError: `index` is not an integer.
            ValueError: `index` lies outside the vocabulary.
        """
        try:
            number = operator.index(index)
        except TypeError:
            raise TypeError(f"a token id must be an integer, got {index!r}") from None
        if not 0 <= number < len(self):
            raise ValueError(f"a token id must lie in 0 … {len(self) - 1}, got {number}")
        return self._vocab[number]

    # ------------------------------------------------------------------ the vocabulary

    @property
    def vocab(self) -> tuple[str, ...]:
        """All tokens, in the order of their ids."""
        return self._vocab

    @property
    def vocab_size(self) -> int:
        """How many tokens there are."""
        return len(self._vocab)

    @property
    def specials(self) -> tuple[str, ...]:
        """The tokens that stand for no character, in the order of their ids."""
        return tuple(token for token in self._vocab if len(token) > 1)

    @property
    def pad_id(self) -> int:
        """The id of `<pad>`, which fills a batch up to one length."""
        return self.id_of(PAD)

    @property
    def bos_id(self) -> int:
        """The id of `<bos>`, which begins a sequence."""
        return self.id_of(BOS)

    @property
    def eos_id(self) -> int:
        """The id of `<eos>`, which ends a sequence."""
        return self.id_of(EOS)

    @property
    def unk_id(self) -> int:
        """The id of `<unk>`, which stands for every character outside the vocabulary."""
        return self.id_of(UNK)

    def __len__(self) -> int:
        return len(self._vocab)

    def __contains__(self, token: object) -> bool:
        return token in self._ids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CharTokenizer) and self._vocab == other._vocab

    def __hash__(self) -> int:
        return hash(self._vocab)

    def __repr__(self) -> str:
        return f"CharTokenizer(vocab_size={len(self)})"

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
