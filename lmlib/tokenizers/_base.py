"""What every tokenizer has: a vocabulary that can be asked, and files that are checked."""

from __future__ import annotations

import json
import operator
import os
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, SupportsIndex

PAD = "<pad>"
"""The special that fills a batch up to one length."""

BOS = "<bos>"
"""The special that begins a sequence."""

EOS = "<eos>"
"""The special that ends a sequence."""

UNK = "<unk>"
"""The special that stands for what the vocabulary does not cover."""

SPECIALS = (PAD, BOS, EOS, UNK)
"""The specials of a `CharTokenizer` unless others are given, in the order of their ids."""


class Tokenizer(ABC):
    """Text to token ids and back; the interface of all tokenizers of `lmlib.tokenizers`.

    *Special* tokens stand for no text. They are never read out of text unless that is asked for.

    Args:
        vocab: the tokens in the order of their ids, each once.

    Raises:
        TypeError: `vocab` is one string, or holds something that is not a string.
        ValueError: `vocab` is empty, or holds an empty token or a token twice.
    """

    # The names that a special may go by, the first that the vocabulary holds is taken.
    _PAD: ClassVar[tuple[str, ...]] = (PAD,)
    _BOS: ClassVar[tuple[str, ...]] = (BOS,)
    _EOS: ClassVar[tuple[str, ...]] = (EOS,)
    _UNK: ClassVar[tuple[str, ...]] = (UNK,)

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

    # ------------------------------------------------------------------ text and ids

    @abstractmethod
    def encode(self, text: str, add_bos: bool = False, add_eos: bool = False) -> list[int]:
        """The ids of the tokens of `text`.

        Args:
            text: any string.
            add_bos: put the special that begins a sequence in front.
            add_eos: put the special that ends a sequence at the end.
        """

    @abstractmethod
    def decode(self, ids: Iterable[SupportsIndex], skip_specials: bool = True) -> str:
        """The text of `ids`.

        Args:
            ids: token ids: a list, or a tensor or array (n,).
            skip_specials: leave the specials out.
        """

    @abstractmethod
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the tokenizer to one file."""

    @property
    @abstractmethod
    def specials(self) -> tuple[str, ...]:
        """The tokens that stand for no text, in the order of their ids."""

    def id_of(self, token: str) -> int:
        """The id of one token.

        Raises:
            ValueError: `token` is not in the vocabulary.
        """
        try:
            return self._ids[token]
        except (KeyError, TypeError):
            raise ValueError(
                f"token {token!r} is not among the {len(self)} of the vocabulary"
            ) from None

    def token_of(self, index: SupportsIndex) -> str:
        """The token of one id.

        Raises:
            TypeError: `index` is not an integer.
            ValueError: `index` lies outside the vocabulary.
        """
        return self._vocab[self._check_id(index)]

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
    def pad_id(self) -> int:
        """The id of the special that fills a batch up to one length."""
        return self._role(self._PAD)

    @property
    def bos_id(self) -> int:
        """The id of the special that begins a sequence."""
        return self._role(self._BOS)

    @property
    def eos_id(self) -> int:
        """The id of the special that ends a sequence."""
        return self._role(self._EOS)

    @property
    def unk_id(self) -> int:
        """The id of the special that stands for what the vocabulary does not cover."""
        return self._role(self._UNK)

    def __len__(self) -> int:
        return len(self._vocab)

    def __contains__(self, token: object) -> bool:
        return token in self._ids

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._state() == other._state()

    def __hash__(self) -> int:
        return hash(self._vocab)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(vocab_size={len(self)})"

    # ------------------------------------------------------------------ for the tokenizers

    def _state(self) -> Hashable:
        """What two equal tokenizers have in common: all that encoding depends on."""
        return self._vocab

    def _role(self, names: Sequence[str]) -> int:
        present = (name for name in names if name in self._ids)
        return self.id_of(next(present, names[0]))

    def _framed(self, ids: list[int], add_bos: bool, add_eos: bool) -> list[int]:
        """`ids` between the special that begins a sequence and the one that ends it."""
        if add_bos:
            ids.insert(0, self.bos_id)
        if add_eos:
            ids.append(self.eos_id)
        return ids

    def _check_id(self, index: SupportsIndex) -> int:
        try:
            number = operator.index(index)
        except TypeError:
            raise TypeError(f"a token id must be an integer, got {index!r}") from None
        if not 0 <= number < len(self):
            raise ValueError(f"a token id must lie in 0 … {len(self) - 1}, got {number}")
        return number


def check_text(text: object, name: str = "text") -> None:
    """`text` is a string."""
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a string, got {type(text).__name__}")


def checked_texts(texts: Iterable[str]) -> Iterator[str]:
    """The strings of `texts`, each looked at as it comes."""
    if isinstance(texts, str):
        raise TypeError("texts must be an iterable of strings, not one string: pass [text]")
    if not isinstance(texts, Iterable):
        raise TypeError(f"texts must be an iterable of strings, got {type(texts).__name__}")
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"texts must hold strings, got {type(text).__name__}")
        yield text


def check_specials(specials: Sequence[str]) -> None:
    """`specials` are different strings of two characters or more, which no character can be."""
    if isinstance(specials, str):
        raise TypeError("specials must be a list of tokens, not one string")
    for special in specials:
        if not isinstance(special, str):
            raise TypeError(f"specials must hold strings, got {special!r}")
        if len(special) < 2:
            raise ValueError(
                f"specials must have two characters or more (a single one would stand for "
                f"itself), got {special!r}"
            )
    if len(set(specials)) < len(specials):
        raise ValueError(f"specials must all differ, got {list(specials)}")


def check_count(name: str, value: object) -> None:
    """`value` is an int ≥ 1."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be 1 or more, got {value}")


def read_text(path: Path) -> str:
    """The text of a file in UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file in UTF-8: {error}") from error


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not a JSON file: {error}") from error


def read_vocabulary(path: Path, kind: str, what: str, **fields: type) -> dict[str, Any]:
    """A JSON object that says it is of `kind`, with these fields of these types."""
    content = read_json(path)
    if not isinstance(content, dict) or content.get("type") != kind:
        raise ValueError(f'{path} is not a {what}: "type" must be "{kind}"')
    for field, expected in fields.items():
        if not isinstance(content.get(field), expected):
            raise ValueError(f'{path} is not a {what}: "{field}" must be a {expected.__name__}')
    return content


def write_text(path: Path, text: str) -> None:
    """Write `text` in UTF-8, the same bytes on every system.

    A lone surrogate, which UTF-8 cannot write, becomes `\\uXXXX`, which JSON reads back.
    """
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        file.write(text)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write one JSON object, a line of its own for each field."""
    fields = (
        f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}"
        for key, value in content.items()
    )
    write_text(path, "{" + ",\n ".join(fields) + "}\n")
