"""`NGramExplorer`: type a prefix, see what may follow and how its probability is multiplied."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import traitlets
from matplotlib.axes import Axes

from lmlib import viz
from lmlib.ngram import NGramModel
from lmlib.tokenizers import CharTokenizer
from lmlib.viz.display import new_figure
from lmlib.viz.labels import count, printable, probability
from lmlib.viz.style import ACCENT
from lmlib.widgets._ngram_explorer import pack
from lmlib.widgets.base import LiveFigure, check_length

SMOOTHINGS = {"mle": "最大似然", "add_k": "加 k", "kneser_ney": "Kneser–Ney"}
BASES = {"nats": "奈特", "bits": "比特"}
K_RANGE = (0.0001, 10.0)
MAX_LENGTH = 100  # characters of the prefix
TOP = 10
START, END = "▸", "■"  # stand for BOS and EOS


class NGramExplorer(LiveFigure):
    """An n-gram model in the page: the next character, and the product of a prefix.

    The figure ships the counts of the model, as bits, and computes every probability itself, in
    all three smoothings of `lmlib.ngram` and in every order up to the model's: as a model of that
    order does that was fitted to the same text. With "kneser_ney" the discounts are the ones of
    such a model, so the model's own where its order is chosen.

    Traits shared with the browser, both ways: `text` (the prefix, 100 characters at most), `order`,
    `smoothing`, `k` (of "add_k", 0.0001 to 10), `base` ("nats" or "bits"), `with_end` (does EOS
    belong to the product?) and `seed` (of the next random draw, 0 to 2³² − 1).

    Args:
        model: a fitted model over characters.
        tokenizer: the one whose ids it was fitted to, with ``<unk>`` for other characters.
        text: the prefix to begin with.
        title, alt: Chinese heading, and the sentence that stands for the figure; computed if
            not given.
        max_bytes: the most that counts and vocabulary may take in the saved page.
        traits: start values of the shared traits, by default those of the model.

    Raises:
        TypeError: not an n-gram model, or not a `CharTokenizer`.
        ValueError: the model counted nothing, tokenizer and model do not fit each other, or the
            counts are larger than ``max_bytes``.
        traitlets.TraitError: a trait outside its range.

    >>> tokenizer = CharTokenizer.train(["你好世界", "你好"])
    >>> ids = [tokenizer.encode(text) for text in ("你好世界", "你好")]
    >>> figure = NGramExplorer(NGramModel(2, len(tokenizer)).fit(ids), tokenizer, "你好")
    >>> figure
    NGramExplorer(text='你好', smoothing='mle', order=2, vocab_size=8, ngrams='5 6', bytes=24)
    >>> tokenizer.decode([figure.next_probabilities().argmax()], skip_specials=False)
    '<eos>'
    >>> figure.perplexity()
    1.0
    """

    figure_name = "ngram_explorer"

    counts = traitlets.Bytes().tag(sync=True)
    vocabulary = traitlets.Unicode().tag(sync=True)
    specials = traitlets.List().tag(sync=True)
    shape = traitlets.Dict().tag(sync=True)
    discounts = traitlets.List().tag(sync=True)

    text = traitlets.Unicode().tag(sync=True)
    order = traitlets.Int(1).tag(sync=True)
    smoothing = traitlets.Unicode("mle").tag(sync=True)
    k = traitlets.Float(1.0).tag(sync=True)
    base = traitlets.Unicode("nats").tag(sync=True)
    with_end = traitlets.Bool(False).tag(sync=True)
    seed = traitlets.Int(0).tag(sync=True)

    _knobs = ("order", "smoothing", "k", "base", "with_end", "seed")

    def __init__(
        self,
        model: NGramModel,
        tokenizer: CharTokenizer,
        text: str = "你好世",
        *,
        title: str = "打一个前缀：下一个字是什么，这个前缀的概率怎样乘出来",
        alt: str | None = None,
        max_bytes: int = 1_000_000,
        **traits: Any,
    ) -> None:
        self._check_knobs(traits)
        _check_pair(model, tokenizer)
        config = model.config
        # All of the model's arguments but the order; `_model_of` cuts the discounts to it.
        self._counted, self._tokenizer = model, tokenizer
        specials = {id_: t for id_, t in enumerate(tokenizer.vocab) if len(t) > 1}
        counts = pack(model)
        characters = "".join(" " if i in specials else t for i, t in enumerate(tokenizer.vocab))
        _check_size(_saved_bytes(counts, characters), max_bytes)
        super().__init__(
            title=title,
            alt=alt or "图",
            counts=counts,
            vocabulary=characters,
            specials=[[id_, token] for id_, token in specials.items()],
            shape={
                "order": config.order,
                "vocab_size": config.vocab_size,
                "num_ngrams": model.num_ngrams,
                "bos_id": config.bos_id,
                "eos_id": config.eos_id,
                "unk_id": tokenizer.unk_id,
                "longest": MAX_LENGTH,
            },
            discounts=[
                self._model_of(n, "kneser_ney", 1.0).discounts for n in range(1, config.order + 1)
            ],
            text=text,
        )
        start = {"order": config.order, "smoothing": config.smoothing, "k": config.k}
        for name, value in {**start, **traits}.items():
            setattr(self, name, value)
        if alt is None:
            self.alt = self._default_alt()

    # ------------------------------------------------------------------ the shared traits

    @traitlets.validate("text")
    def _check_text(self, proposal: Any) -> str:
        return check_length(proposal["value"], MAX_LENGTH)

    @traitlets.validate("smoothing", "base")
    def _check_choice(self, proposal: Any) -> str:
        name, value = proposal["trait"].name, proposal["value"]
        choices = list({"smoothing": SMOOTHINGS, "base": BASES}[name])
        if value not in choices:
            raise traitlets.TraitError(f"{name} must be one of {choices}, got {value!r}")
        return value

    @traitlets.validate("order", "k", "seed")
    def _check_range(self, proposal: Any) -> float:
        name, value = proposal["trait"].name, proposal["value"]
        # While the figure is being made the shape may not be there yet.
        ranges = {"order": (1, self.shape.get("order", 1)), "k": K_RANGE, "seed": (0, 2**32 - 1)}
        low, high = ranges[name]
        if not low <= value <= high:
            raise traitlets.TraitError(f"{name} must be from {low} to {high}, got {value}")
        return value

    # ------------------------------------------------------------------ the numbers in Python

    def _model_of(self, order: int, smoothing: str, k: float) -> NGramModel:
        discount = self._counted.config.discount
        if isinstance(discount, tuple):
            discount = discount[:order]
        return self._counted.replace(order=order, smoothing=smoothing, k=k, discount=discount)

    def current_model(self) -> NGramModel:
        """The model as the controls are set: its order, its smoothing, its k."""
        return self._model_of(self.order, self.smoothing, self.k)

    def next_probabilities(self) -> np.ndarray:
        """P(w | prefix) for every token w: (vocab_size,) float64."""
        start = [self.shape["bos_id"]] * (self.order - 1)
        context = start + self._tokenizer.encode(self.text)
        return self.current_model().distribution(context).numpy()

    def log_probs(self) -> np.ndarray:
        """log P of each of the prefix's n tokens: (n,) float64 in nats, (n + 1,) with the EOS."""
        log_p = self.current_model().token_log_probs(self._tokenizer.encode(self.text)).numpy()
        return log_p if self.with_end else log_p[:-1]

    def perplexity(self) -> float:
        """exp of the mean of −log P over the prefix; NaN where it is empty."""
        log_p = self.log_probs()
        return math.exp(-log_p.mean()) if len(log_p) else math.nan

    # ------------------------------------------------------------------ its picture and its text

    def _top(self) -> list[tuple[str, float]]:
        """The bars: texts and probabilities, in the order in which the page has them."""
        p = self.next_probabilities()
        special = np.isin(np.arange(len(p)), [id_ for id_, _ in self.specials])
        best = np.lexsort((np.arange(len(p)), special, -p))[:TOP]
        return [(self._name(int(i)), float(p[i])) for i in best if p[i] > 0]

    def _name(self, token: int) -> str:
        signs = {self.shape["bos_id"]: START, self.shape["eos_id"]: END}
        return signs.get(token) or self._tokenizer.token_of(token)

    def _describe(self) -> dict[str, object]:
        return {
            "text": self.text,
            "smoothing": self.smoothing,
            "order": self.order,
            "vocab_size": self.shape["vocab_size"],
            "ngrams": " ".join(map(str, self.shape["num_ngrams"])),
            "bytes": _saved_bytes(self.counts, self.vocabulary),
        }

    def _draw(self) -> viz.BookFigure:
        """The bars of the next character, and the product falling character by character."""
        top, log_p = self._top(), self.log_probs()
        rows = max(len(top), 3)
        figure = new_figure(0.25 * rows + 2.5, self.title)
        upper, lower = figure.subplots(2, 1, height_ratios=[0.25 * rows + 0.45, 1.9])
        self._draw_next(upper, top)
        self._draw_product(lower, log_p)
        return figure

    def _draw_next(self, axes: Axes, top: list[tuple[str, float]]) -> None:
        bars = axes.barh(range(len(top)), [p for _, p in top], color=viz.PALETTE[0], height=0.68)
        axes.bar_label(bars, [probability(p) for _, p in top], padding=4)
        axes.set_yticks(range(len(top)), [printable(name) for name, _ in top])
        axes.invert_yaxis()
        axes.set_xlim(0, top[0][1] * 1.22)
        axes.tick_params(axis="y", length=0)
        axes.locator_params(axis="x", nbins=4)
        text = "".join(map(printable, self.text))
        axes.set_title(f"「{text[-12:]}」后面的字：概率", fontsize=9)

    def _draw_product(self, axes: Axes, log_p: np.ndarray) -> None:
        names = [printable(c) for c in self.text] + [END] * self.with_end
        log10 = np.cumsum(log_p) / math.log(10)
        finite = log10[np.isfinite(log10)]
        lowest = min(-1.0, finite.min(initial=0.0)) * 1.1
        before = np.concatenate([[0.0], log10[:-1]]) if len(log10) else log10
        drawn = np.isfinite(before)
        heights = np.maximum(log10[drawn], lowest) - before[drawn]
        axes.bar(
            np.flatnonzero(drawn),
            heights,
            bottom=before[drawn],
            color=[viz.PALETTE[0] if ok else "none" for ok in np.isfinite(log10[drawn])],
            edgecolor=[viz.PALETTE[0] if ok else ACCENT for ok in np.isfinite(log10[drawn])],
        )
        if len(finite) < len(log10):
            axes.text(len(finite), lowest, " P = 0", color=ACCENT, ha="center", va="bottom")
        axes.set_ylim(lowest, 0)
        axes.set_xlim(-0.7, max(len(names), 6) - 0.3)
        step = len(names) // 25 + 1
        axes.set_xticks(range(0, len(names), step), names[::step])
        axes.set_ylabel("log₁₀ 累积乘积")
        perplexity = self.perplexity()
        shown = {math.inf: "∞"}.get(perplexity, f"{perplexity:.4g}") if names else "—"
        axes.set_title(f"一个字一个字乘起来：困惑度 {shown}", fontsize=9)

    def _default_alt(self) -> str:
        p, (name, highest) = self.next_probabilities(), self._top()[0]
        total = float(self.log_probs().sum())
        product = "0" if total == -math.inf else f"10 的 {total / math.log(10):.1f} 次方"
        best = f"后面最可能是「{name}」，概率 {probability(highest)}"
        if p.min() == highest:
            best = "后面每个词元一样可能"
        words = (
            f"前缀「{self.text}」的概率是 {product.replace('-', '−')}" if self.text else "前缀为空"
        )
        return (
            f"可操作的 {self.order} 元语言模型（{SMOOTHINGS[self.smoothing]}，词表 "
            f"{count(self.shape['vocab_size'])} 个词元）：输入前缀，看下一个字的分布和前缀的概率"
            f"怎样一个字一个字乘起来。现在{words}，{best}。"
        )


# ---------------------------------------------------------------- arguments


def _check_pair(model: Any, tokenizer: Any) -> None:
    if not isinstance(model, NGramModel):
        raise TypeError(f"model must be a lmlib.ngram.NGramModel, got {type(model).__name__}")
    if not isinstance(tokenizer, CharTokenizer):
        raise TypeError(
            f"tokenizer must be a CharTokenizer, as the reader types characters, "
            f"got {type(tokenizer).__name__}"
        )
    config = model.config
    if config.vocab_size != len(tokenizer):
        raise ValueError(
            f"tokenizer must have the model's {config.vocab_size} tokens, got {len(tokenizer)}"
        )
    if "<unk>" not in tokenizer.specials:
        raise ValueError("tokenizer must have <unk>, for characters outside its vocabulary")
    for name in ("bos_id", "eos_id"):
        token = tokenizer.token_of(getattr(config, name))
        if token not in tokenizer.specials:
            raise ValueError(
                f"tokenizer must have a special token at the model's {name}, got {token!r}"
            )


def _saved_bytes(counts: bytes, vocabulary: str) -> int:
    """What they take in a saved notebook or page: base64 writes three bytes as four."""
    return (len(counts) + 2) // 3 * 4 + len(vocabulary.encode())


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise ValueError(
            f"model must fit {max_bytes} bytes in the page, but its counts and vocabulary take "
            f"{size}: fit it with a lower order or to fewer texts, or allow more with max_bytes"
        )
