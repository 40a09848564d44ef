"""What tokenizers of subwords share: named specials, and a memory of the pieces they met."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterable, Sequence

from lmlib.tokenizers._base import Tokenizer, check_specials, check_text

_CACHED_PIECES = 1 << 16  # pieces whose ids are remembered …
_CACHED_LENGTH = 64  # … of so many characters at most


class SubwordTokenizer(Tokenizer):
    """A tokenizer that cuts a text into pieces, and each piece into tokens.

    Args:
        vocab: the tokens in the order of their ids, each once.
        specials: which of them stand for no text.

    Raises:
        TypeError: `vocab` or `specials` is one string, or holds something that is not a string.
        ValueError: `vocab` is empty, holds an empty token or a token twice, or lacks a special.
    """

    def __init__(self, vocab: Iterable[str], specials: Sequence[str]) -> None:
        super().__init__(vocab)
        check_specials(specials)
        self._special_ids = {token: self.id_of(token) for token in specials}
        longest_first = sorted(specials, key=len, reverse=True)
        self._specials_in_text = re.compile("|".join(map(re.escape, longest_first)))
        self._cache: dict[str, list[int]] = {}

    def encode(
        self,
        text: str,
        add_bos: bool = False,
        add_eos: bool = False,
        allow_specials: bool = False,
    ) -> list[int]:
        """The ids of the tokens of `text`; the time grows with its length, whatever stands in it.

        Args:
            text: any string.
            add_bos: put the special that begins a sequence in front.
            add_eos: put the special that ends a sequence at the end.
            allow_specials: read the specials that stand in `text` as such. Never do this with
                text of others: it could end a sequence, or speak in another's name.

        Raises:
            TypeError: `text` is not a string.
            ValueError: a special is needed that the vocabulary does not have.
        """
        check_text(text)
        ids: list[int] = []
        start = 0
        if allow_specials and self._special_ids:
            for match in self._specials_in_text.finditer(text):
                self._append_ids(text[start : match.start()], ids)
                ids.append(self._special_ids[match[0]])
                start = match.end()
        self._append_ids(text[start:], ids)
        return self._framed(ids, add_bos, add_eos)

    @property
    def specials(self) -> tuple[str, ...]:
        """The tokens that stand for no text, in the order of their ids."""
        return tuple(sorted(self._special_ids, key=self._special_ids.__getitem__))

    def _append_ids(self, text: str, ids: list[int]) -> None:
        """Append the ids of `text`, in which nothing is special, to `ids`."""
        cache = self._cache
        for piece in self._cut(text):
            tokens = cache.get(piece)
            if tokens is None:
                tokens = self._encode_piece(piece)
                if len(piece) <= _CACHED_LENGTH:
                    if len(cache) >= _CACHED_PIECES:
                        cache.clear()
                    cache[piece] = tokens
            ids += tokens

    @abstractmethod
    def _cut(self, text: str) -> list[str]:
        """The pieces of `text`."""

    @abstractmethod
    def _encode_piece(self, piece: str) -> list[int]:
        """The ids of one piece."""
