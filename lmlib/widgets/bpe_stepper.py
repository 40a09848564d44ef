"""`BPEStepper`: the reader's own text, merged pair by pair, as byte-pair encoding does it."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any

import regex
import traitlets

from lmlib import viz
from lmlib._checks import check_positive
from lmlib.tokenizers import BPETokenizer
from lmlib.tokenizers._bytes import to_bytes
from lmlib.tokenizers.bpe import GPT2_PATTERN
from lmlib.viz.display import new_figure
from lmlib.viz.labels import text_width
from lmlib.viz.style import ACCENT, FAINT, INK, MUTED, PAGE_WIDTH, PALETTE, RULE, SMALL
from lmlib.widgets.base import LiveFigure, check_length

MODES = ("train", "use")
MAX_CHARACTERS = 300  # so that a phone keeps up with typing
MIN_COUNT = 2  # as BPETokenizer.train has it
TOP_PAIRS = 8
WIDTH, LINES = PAGE_WIDTH - 0.3, 8  # of the still picture's words, in inches and in lines
DEFAULT_TEXT = "你好 你好 世界\n你好，世界\nlow low lower lowest newer newest"

_HEX = regex.compile(r"<[0-9A-F]{2}( [0-9A-F]{2})*>")  # bytes, as BPETokenizer.readable gives them
# What \w matches in the regex module.
_WORD = r"[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\u200c\u200d]"
_SCRIPTS = "Han|Hiragana|Katakana|Hangul|Latin|Greek|Cyrillic|Arabic"
# The parts of a regular expression that mean the same in Python and in a browser, or have a
# translation. A quantifier must not be possessive, a class not empty, and \b not in a class.
_PART = regex.compile(
    rf"\\[pP]{{(?:[CLMNPSZ][a-z]?|(?P<script>{_SCRIPTS}))}}|\\[sSrnt]|(?<!\[[^\]]*)\\b"
    r"|\\[^\w\s]|\(\?(?:i?:|<?[=!])|\((?!\?)|\)|\[\^?(?!\])|\]|\|"
    r"|(?:[*+?]|\{\d+(?:,\d*)?\})\??(?!\+)|[^\\()\[\]{}*+?|.^$]"
)
_TRANSLATED = {
    r"\s": r"\p{White_Space}",
    r"\S": r"\P{White_Space}",
    r"\b": rf"(?:(?<={_WORD})(?!{_WORD})|(?<!{_WORD})(?={_WORD}))",
}


def browser_pattern(pattern: str) -> str:
    r"""A pattern of the `regex` module as JavaScript with the flag `u` reads it.

    There ``\s`` also matches U+FEFF but not U+0085, ``\b`` knows ASCII only, and scripts are
    named in full.

    >>> print(browser_pattern(r" ?\p{L}+|\p{Han}|\s"))
     ?\p{L}+|\p{Script=Han}|\p{White_Space}

    Args:
        pattern: finds the pieces of a text.

    Raises:
        ValueError: a part has no translation, or the pattern matches the empty text.
    """
    parts: list[str] = []
    end = 0
    while end < len(pattern) and (match := _PART.match(pattern, end)):
        part = match[0].replace("{", "{Script=") if match["script"] else match[0]
        parts.append(_TRANSLATED.get(part, part))
        end = match.end()
    if end < len(pattern) or regex.fullmatch(pattern, ""):
        where = f"from {pattern[end:]!r} on" if end < len(pattern) else "it matches the empty text"
        raise ValueError(
            f"tokenizer.pattern must mean the same in a browser, but {where} it may not: "
            f"got {pattern!r}"
        )
    return "".join(parts)


@lru_cache(maxsize=16)
def _trained(text: str, num_merges: int) -> BPETokenizer:
    return BPETokenizer.train([text], 256 + num_merges, specials=(), min_count=MIN_COUNT)


class BPEStepper(LiveFigure):
    """Byte-pair encoding of the reader's text, one merge after the other.

    In mode "train" the merges are learnt from the text, as `BPETokenizer.train` learns them: the
    words with their counts, the most frequent pairs, the merges so far, the size of the
    vocabulary. In mode "use" the merges of a given tokenizer are applied to the text, in the
    order of `BPETokenizer.steps`, down to the ids of `BPETokenizer.encode`.

    Traits shared with the browser, both ways: `text`, `mode` and `step` (how many merges are
    done; from 0). The text has at most 300 characters.

    Sennrich et al. 2016 (arXiv:1508.07909), algorithm 1; Radford et al. 2019 (GPT-2), §2.2.

    Args:
        text: what is merged at first.
        tokenizer: offers the mode "use"; None for training only.
        num_merges: at most so many merges are learnt, and at most so many of the tokenizer's
            (those learnt first) go into the page, where each takes about 15 bytes.
        title, alt: Chinese heading, and the sentence that stands for the figure; computed if
            not given.
        mode, step: start values of the shared traits.
        options: further traits of the ipywidget, e.g. ``layout``.

    Raises:
        TypeError: `tokenizer` is not a `BPETokenizer`, or `num_merges` not an int.
        ValueError: `num_merges` < 1, or the tokenizer's pattern is another one in a browser.
        traitlets.TraitError: `text` is no string or too long, `mode` is none that the figure has,
            `step` is out of range.

    >>> figure = BPEStepper("low low lower lowest", step=1)
    >>> figure
    BPEStepper(characters=20, bytes=20, merges=4)
    >>> figure.words()[:2]
    [(('lo', 'w'), 1), (('Ġ', 'lo', 'w'), 1)]
    >>> figure.pair_counts()[0]
    ('lo', 'w', 4)
    """

    figure_name = "bpe_stepper"

    text = traitlets.Unicode().tag(sync=True)
    mode = traitlets.Unicode("train").tag(sync=True)
    step = traitlets.Int(0).tag(sync=True)

    pattern = traitlets.Unicode().tag(sync=True)
    num_merges = traitlets.Int().tag(sync=True)
    min_count = traitlets.Int(MIN_COUNT).tag(sync=True)
    max_characters = traitlets.Int(MAX_CHARACTERS).tag(sync=True)
    shipped = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        text: str = DEFAULT_TEXT,
        tokenizer: BPETokenizer | None = None,
        *,
        num_merges: int = 1000,
        title: str = "字节对编码：每一步合并最常见的一对",
        alt: str | None = None,
        mode: str = "train",
        step: int = 0,
        **options: Any,
    ) -> None:
        if not isinstance(tokenizer, BPETokenizer | None):
            raise TypeError(f"tokenizer must be a BPETokenizer, got {type(tokenizer).__name__}")
        check_positive("num_merges", num_merges)
        #: The tokenizer of the mode "use", with no more merges than the page has.
        self.given = None if tokenizer is None else _first_merges(tokenizer, num_merges)
        super().__init__(
            title=title,
            alt=alt or "字节对编码",
            pattern=browser_pattern(GPT2_PATTERN),
            num_merges=num_merges,
            shipped={} if tokenizer is None else _shipped(tokenizer, num_merges),
            text=text,
            **options,
        )
        self.alt = alt or self._default_alt()
        self.mode = mode
        self.step = step

    @traitlets.validate("text")
    def _check_text(self, proposal: Any) -> str:
        return check_length(proposal["value"], MAX_CHARACTERS)

    @traitlets.validate("mode")
    def _check_mode(self, proposal: Any) -> str:
        allowed = MODES if self.given else MODES[:1]
        if proposal["value"] not in allowed:
            raise traitlets.TraitError(
                f'mode must be one of {allowed} ("use" needs a tokenizer), '
                f"got {proposal['value']!r}"
            )
        return proposal["value"]

    @traitlets.validate("step")
    def _check_step(self, proposal: Any) -> int:
        if not 0 <= proposal["value"] <= self.num_steps:
            raise traitlets.TraitError(
                f"step must be from 0 to {self.num_steps} (this text takes {self.num_steps} "
                f"merges), got {proposal['value']}"
            )
        return proposal["value"]

    @traitlets.observe("text", "mode")
    def _keep_step_in_range(self, _: Any) -> None:
        self.step = min(self.step, self.num_steps)

    # ------------------------------------------------------------------ the numbers

    @property
    def trained(self) -> BPETokenizer:
        """What `BPETokenizer.train` learns from the text, without specials."""
        return _trained(self.text, self.num_merges)

    @property
    def num_steps(self) -> int:
        """How many merges there are in this mode: learnt from the text, or applied to it."""
        if self.given and self.mode == "use":
            return sum(row.merge is not None for row in self.given.steps(self.text))
        return len(self.trained.merges)

    def words(self, step: int | None = None) -> list[tuple[tuple[str, ...], int]]:
        """The words of the text as the symbols they consist of, in training.

        Args:
            step: after so many merges; the chosen one if not given.

        Returns:
            for each different word, in the order of the text, its symbols as they stand in
            `BPETokenizer.vocab`, and how often the word occurs.
        """
        done = self.step if step is None else step
        tokenizer = _first_merges(self.trained, done)
        counts = Counter(tokenizer.pieces(self.text))
        return [
            (tuple(map(tokenizer.token_of, tokenizer.encode(word))), count)
            for word, count in counts.items()
        ]

    def pair_counts(self, step: int | None = None) -> list[tuple[str, str, int]]:
        """How often each pair of neighbours occurs, in training.

        Args:
            step: after so many merges; the chosen one if not given.

        Returns:
            left symbol, right symbol and count of each pair, the one that is merged next first:
            by count, and of equal counts the smaller ids.
        """
        counts: Counter[tuple[str, str]] = Counter()
        for symbols, count in self.words(step):
            for pair in pairwise(symbols):
                counts[pair] += count
        ids = self.trained.id_of
        ranked = sorted(counts.items(), key=lambda row: (-row[1], *map(ids, row[0])))
        return [(left, right, count) for (left, right), count in ranked]

    def tokens(self, step: int | None = None) -> list[tuple[int, ...]]:
        """The ids of the pieces of the text on the way to `BPETokenizer.encode`, in mode "use".

        Args:
            step: after so many merges; the chosen one if not given.

        Returns:
            the token ids of each piece of the text.

        Raises:
            ValueError: the figure has no tokenizer.
        """
        if self.given is None:
            raise ValueError("tokens must be asked of a figure with a tokenizer, it has none")
        wanted = self.step if step is None else step
        pieces: dict[int, tuple[int, ...]] = {}
        done = 0
        for row in self.given.steps(self.text):
            done += row.merge is not None
            if row.merge is None or done <= wanted:
                pieces[row.piece] = row.token_ids
        return list(pieces.values())

    # ------------------------------------------------------------------ words and picture

    def _describe(self) -> dict[str, object]:
        facts: dict[str, object] = {
            "characters": len(self.text),
            "bytes": len(to_bytes(self.text)),
            "merges": len(self.trained.merges),
        }
        return facts | ({"tokenizer_merges": len(self.given.merges)} if self.given else {})

    def _default_alt(self) -> str:
        learnt, read = self.trained.merges, partial(_readable, self.trained)
        first = "、".join(f"「{read(row.left)}」和「{read(row.right)}」" for row in learnt[:3])
        before, after = len(to_bytes(self.text)), len(self.trained.encode(self.text))
        alt = (
            f"可操作的字节对编码图：{len(self.text)} 个字符的文字先拆成 {before} 个字节，再一步一步"
            f"合并最常见的一对，{first and f'最先合并的是{first}，'}"
            f"一共合并 {len(learnt)} 次，最后剩 {after} 个符号。"
        )
        if self.given:
            count = len(self.given.merges)
            alt += f"也可以看一个训练好的分词器（{count} 次合并）怎样切分这段文字。"
        return alt

    def _draw(self) -> viz.BookFigure:
        """The symbols as they stand now; in training also the most frequent pairs."""
        if self.given and self.mode == "use":
            tokenizer, pairs = self.given, []
            rows = [(tuple(map(tokenizer.token_of, ids)), "") for ids in self.tokens()]
        else:
            tokenizer, pairs = self.trained, self.pair_counts()[:TOP_PAIRS]
            rows = [(symbols, f"×{count}") for symbols, count in self.words()]
        chips = _placed(tokenizer, rows)
        lines = 1 + max((line for _, _, line, _ in chips), default=0)
        heights = [0.27 * lines + 0.3, 0.2 * len(pairs) + 0.3]
        figure = new_figure(sum(heights), self.title)
        above, below = figure.subplots(2, height_ratios=heights)
        above.set(xlim=(0, WIDTH), ylim=(lines, 0))
        above.set_title(f"第 {self.step} 步，共 {self.num_steps} 步", size=SMALL, color=MUTED)
        for label, is_symbol, line, x in chips:
            box = {"boxstyle": "round,pad=0.2", "facecolor": FAINT, "edgecolor": RULE}
            text = above.text(x, line + 0.5, label, ha="center", va="center", size=SMALL)
            text.set(color=INK if is_symbol else MUTED, bbox=box if is_symbol else None)
        if pairs:
            below.set_title("相邻的一对出现的次数", size=SMALL, color=MUTED)
            next_color = ACCENT if pairs[0][2] >= MIN_COUNT else PALETTE[0]
            colors = [next_color, *[PALETTE[0]] * (len(pairs) - 1)]
            bars = below.barh(range(len(pairs)), [pair[2] for pair in pairs], color=colors)
            read = partial(_readable, tokenizer)
            names = [f"{count}　{read(left)} + {read(right)}" for left, right, count in pairs]
            below.bar_label(bars, names, padding=4, size=SMALL)
            below.set_xlim(0, 2.4 * pairs[0][2])  # room for the names
            below.invert_yaxis()
        for axes in (above, below):
            axes.set_axis_off()
        return figure


def _readable(tokenizer: BPETokenizer, token: str) -> str:
    text = tokenizer.readable(token)
    shown = text if _HEX.fullmatch(text) else viz.printable(text)
    while text_width(shown, SMALL) > 1.2:  # inches
        shown = f"{shown[:-2]}…"
    return shown


def _placed(
    tokenizer: BPETokenizer, rows: list[tuple[tuple[str, ...], str]]
) -> list[tuple[str, bool, int, float]]:
    """Words set in lines: text, whether it is a symbol, line, and centre in inches."""
    placed: list[tuple[str, bool, int, float]] = []
    line, x = 0, 0.0
    for symbols, note in rows:
        labels = [(_readable(tokenizer, symbol), True) for symbol in symbols]
        for label, is_symbol in [*labels, (note, False)]:
            width = text_width(label, SMALL) + 0.12
            if is_symbol and x + width > WIDTH:
                line, x = line + 1, 0.0
            if line == LINES:
                return [*placed, ("……", False, line, 0.2)]
            placed.append((label, is_symbol, line, x + width / 2))
            x += width
        x += 0.12
    return placed


def _first_merges(tokenizer: BPETokenizer, count: int) -> BPETokenizer:
    """The same vocabulary and ids, but only the merges learnt first."""
    return BPETokenizer(
        tokenizer.vocab,
        tokenizer.merges[:count],
        specials=tokenizer.specials,
        pattern=tokenizer.pattern,
    )


def _shipped(tokenizer: BPETokenizer, count: int) -> dict[str, Any]:
    """What the page needs to encode as `tokenizer` with its first merges does."""
    merges = tokenizer.merges[:count]
    byte_ids = {tokenizer.token_bytes(i): i for i in range(len(tokenizer))}
    return {
        "pattern": browser_pattern(tokenizer.pattern),
        "byte_ids": [byte_ids[bytes([byte])] for byte in range(256)],
        # A token stands in GPT-2's alphabet, which has neither blanks nor line ends.
        "merges": "\n".join(f"{row.left} {row.right}" for row in merges),
        "ids": [tokenizer.id_of(row.token) for row in merges],
        "total": len(tokenizer.merges),
    }
