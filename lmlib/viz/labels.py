"""Words and numbers as a figure can show them."""

import unicodedata
from decimal import Decimal
from functools import lru_cache

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

from lmlib import assets
from lmlib.viz.style import FONT_FAMILIES

_CLOSING, _OPENING, _PAUSES = "，。、；：？！）》」』】…", "（《「『【", "，。；：？！"
_NARROW_EM = 0.56  # the mean width of a Latin letter or digit


def printable(token: str) -> str:
    """Return a token as a figure can show it: blanks made visible, no missing glyph.

    >>> printable("你"), printable(" "), printable("\\n"), printable("𪚥")
    ('你', '␣', '↵', 'U+2A6A5')
    """
    return "".join(_visible(character) for character in token) or "∅"


def _visible(character: str) -> str:
    if character in " \t\n":
        return {" ": "␣", "\t": "⇥", "\n": "↵"}[character]
    if character == "$":
        return r"\$"  # a pair of bare dollar signs would start a formula
    if ord(character) not in _drawable() or unicodedata.category(character)[0] in "CZ":
        return f"U+{ord(character):04X}"
    return character


@lru_cache(maxsize=1)
def _drawable() -> frozenset[int]:
    """Return the code points that one of the two fonts has a glyph for."""
    fallback = font_manager.findfont(FONT_FAMILIES[1], fallback_to_default=False)
    fonts = [str(assets.font_path()), fallback]
    return frozenset(code for font in fonts for code in FT2Font(font).get_charmap())


def count(number: int) -> str:
    """Return a whole number with its thousands set apart: 10 000."""
    return f"{number:,}".replace(",", " ")


def plain(value: float, digits: int = 10) -> str:
    """Return a finite number to so many significant digits, never with an exponent.

    >>> plain(3.992, 2), plain(123.4, 2), plain(0.00002), plain(1e6)
    ('4', '120', '0.00002', '1 000 000')
    """
    text = f"{Decimal(f'{value:.{digits}g}'):,f}"
    return text.replace(",", " ").replace("-", "−")


def probability(value: float) -> str:
    """Return a probability with up to three digits: 0.971, 0.000124 or 3.1e−09."""
    value = max(float(value), 0.0)
    text = f"{value:.3g}" if value >= 1e-4 or value == 0 else f"{value:.1e}"
    return text.replace("-", "−")


def text_width(text: str, size: float) -> float:
    """Return about how many inches a line of text takes at `size` points."""
    return sum(1.0 if _is_wide(c) else _NARROW_EM for c in text) * size / 72


def wrapped(text: str, width: float, size: float) -> str:
    """Break a text into lines that fit `width` inches at `size` points.

    matplotlib breaks lines at blanks only, and Chinese has none. A line ends after a comma or
    full stop where one stands in its second half; none starts with a closing mark, and no word
    of Latin letters or digits is split.
    """
    lines: list[str] = []
    line: list[str] = []
    for chunk in _chunks(text):
        if line and text_width("".join(line) + chunk.rstrip(), size) > width:
            pauses = [i for i, part in enumerate(line, 1) if part[-1] in _PAUSES]
            stop = pauses[-1] if pauses and pauses[-1] > len(line) / 2 else len(line)
            lines.append("".join(line[:stop]).strip())
            line = line[stop:]
        line.append(chunk)
    return "\n".join([*lines, "".join(line).strip()])


def _chunks(text: str) -> list[str]:
    """Split a text where a line may end: between ideographs and behind blanks."""
    chunks: list[str] = []
    for character in text:
        last = chunks[-1][-1] if chunks else " "
        in_word = not _is_wide(character) and not _is_wide(last) and last != " "
        if chunks and (character in _CLOSING or last in _OPENING or in_word):
            chunks[-1] += character
        else:
            chunks.append(character)
    return chunks


def _is_wide(character: str) -> bool:
    """Tell whether a character takes a full em, as ideographs do."""
    return unicodedata.east_asian_width(character) in "WF"
