r"""Formulas as the words by which a reader would search them: `\sqrt{d_k}` is √d_k."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_TOKEN = re.compile(r"\\[A-Za-z]+\*?|\\.|.", re.DOTALL)
_SYMBOLS = {
    "sqrt": "√", "top": "ᵀ", "times": "×", "cdot": "·", "odot": "⊙", "oplus": "⊕", "pm": "±",
    "le": "≤", "leq": "≤", "ge": "≥", "geq": "≥", "ne": "≠", "neq": "≠", "approx": "≈",
    "ll": "≪", "gg": "≫", "sim": "~", "propto": "∝", "in": "∈", "sum": "∑", "prod": "∏",
    "to": "→", "rightarrow": "→", "mapsto": "↦", "mid": "|", "vert": "|", "lVert": "‖",
    "rVert": "‖", "infty": "∞", "partial": "∂", "nabla": "∇", "dots": "…", "ldots": "…",
    "cdots": "…", "forall": "∀", "langle": "⟨", "rangle": "⟩", "varepsilon": "ε",
}  # fmt: skip
_INVISIBLE = re.compile(
    r"left|right|[bB]igg?[lrm]?|displaystyle|limits|nolimits|quad|qquad"
    r"|(text|math|operatorname|boldsymbol|bm)[a-z]*|(over|under)(line|brace)|hat|tilde|bar|vec"
)


def _symbol(name: str) -> str:
    if name in _SYMBOLS:
        return _SYMBOLS[name]
    if _INVISIBLE.fullmatch(name):
        return ""
    case = "CAPITAL" if name[0].isupper() else "SMALL"
    try:
        return unicodedata.lookup(f"GREEK {case} LETTER {name.upper()}")
    except KeyError:
        return name  # \log, \max, \exp, …


def _one(token: str, rest: Iterator[str]) -> str:
    """Return the words of one token and of the arguments that it takes from `rest`."""
    if token == "{":
        return _group(rest)
    if token[0] != "\\":
        return " " if token in "&~\n" else token
    name = token[1:].rstrip("*")
    if name in ("frac", "dfrac", "tfrac"):
        return f"{_argument(rest)}/{_argument(rest)}"
    if name in ("begin", "end"):
        _argument(rest)
        return " "
    if not name.isalpha():  # an escaped sign such as \{, or a space such as \,
        return name if name in "{}%_#$&|" else " "
    return _symbol(name)


def _argument(rest: Iterator[str]) -> str:
    for token in rest:
        if not token.isspace():
            return _one(token, rest)
    return ""


def _group(rest: Iterator[str]) -> str:
    words = []
    for token in rest:
        if token == "}":
            break
        words.append(_one(token, rest))
    return "".join(words)


def tex_words(tex: str) -> str:
    r"""Return a formula as plain text.

    >>> tex_words(r"\mathrm{softmax}\left(\frac{QK^\top}{\sqrt{d_k}}\right)V")
    'softmax(QKᵀ/√d_k)V'
    >>> tex_words(r"x \in \mathbb{R}^{n \times d_{\mathrm{model}}}")
    'x ∈ R^n × d_model'
    """
    words = _group(iter(_TOKEN.findall(tex))).replace("^ᵀ", "ᵀ")
    return " ".join(words.split())
