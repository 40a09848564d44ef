"""BERT's view of a text: normalised, then cut at white space, punctuation and Chinese characters.

As `BasicTokenizer` of google-research/bert and `BertNormalizer` of Hugging Face.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

# CJK ideographs, as ranges of code points. (BERT's text names 2B820–2B91F too, Hugging Face's
# tokenizers do not; those are what today's models are fed by, and what we are equal to.)
_IDEOGRAPHS = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B81F),
    (0x2B920, 0x2CEAF),
    (0x2F800, 0x2FA1F),
)
_ANY_IDEOGRAPH = "".join(f"{chr(low)}-{chr(high)}" for low, high in _IDEOGRAPHS)
# What stands without spaces around it: ideographs, and the punctuation that goes with them.
UNSPACED = re.compile(f"[{_ANY_IDEOGRAPH}\u3000-\u303f\uff00-\uffef]")


class _Table(dict[int, str]):
    """For `str.translate`: what becomes of a character, worked out when it is first met."""

    def __init__(self, becomes: Callable[[str], str]) -> None:
        super().__init__()
        self._becomes = becomes

    def __missing__(self, code: int) -> str:
        self[code] = result = self._becomes(chr(code))
        return result


def _cleaned(char: str) -> str:
    """White space becomes a space; what is no text (controls, U+FFFD, private use) goes."""
    if char in "\t\n\r":
        return " "
    category = unicodedata.category(char)
    if char == "\ufffd" or category in ("Cc", "Cf", "Co", "Cs"):
        return ""
    if any(low <= ord(char) <= high for low, high in _IDEOGRAPHS):
        return f" {char} "  # a word by itself
    return " " if category.startswith("Z") else char


def _without_marks(char: str) -> str:
    return "" if unicodedata.category(char) == "Mn" else char


def _spaced(char: str) -> str:
    """Punctuation between spaces: that of Unicode, and the signs of ASCII such as $ + < = >."""
    ascii_sign = "!" <= char <= "~" and not char.isalnum()
    return f" {char} " if ascii_sign or unicodedata.category(char).startswith("P") else char


_CLEANED, _WITHOUT_MARKS, _SPACED = _Table(_cleaned), _Table(_without_marks), _Table(_spaced)
_LOWER = _Table(str.lower)  # each letter by itself: Σ becomes σ at the end of a word too


def normalize(text: str, lowercase: bool, strip_accents: bool) -> str:
    """`text` as BERT's vocabulary has it.

    Args:
        text: any string.
        lowercase: make letters small.
        strip_accents: decompose (NFD) and drop the combining marks: é becomes e.
    """
    text = text.translate(_CLEANED)
    if strip_accents:
        text = unicodedata.normalize("NFD", text).translate(_WITHOUT_MARKS)
    return text.translate(_LOWER) if lowercase else text


def split_words(normalized: str) -> list[str]:
    """The words of a normalised text: cut at white space, each punctuation mark by itself."""
    return normalized.translate(_SPACED).split()
