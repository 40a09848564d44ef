"""`AttentionHeatmap`: who looks at whom, by layer and head, with the knobs of the formula."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import traitlets

from lmlib import viz
from lmlib.widgets.base import (
    LiveFigure,
    as_float_array,
    as_tokens,
    pack_float16,
    unpack_float16,
)

MASK_KINDS = ("none", "causal", "padding", "both")
TEMPERATURE_RANGE = (0.1, 10.0)


def _as_layers(name: str, value: Any) -> np.ndarray:
    """(heads, n, d_head) or (layers, heads, n, d_head) → the latter."""
    array = as_float_array(name, value, ndim=(3, 4))
    return array[None] if array.ndim == 3 else array


def _as_mask(value: Any, n_query: int, n_key: int) -> np.ndarray:
    """Boolean mask, True = may look at, with leading axes of size 1 → (n_query, n_key)."""
    array = value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)
    if array.dtype != np.bool_:
        raise TypeError(f"mask must be boolean (True = may look at), got {array.dtype}")
    while array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    try:
        return np.broadcast_to(array, (n_query, n_key))
    except ValueError:
        raise ValueError(
            f"mask must be broadcastable to (n_query, n_key) = ({n_query}, {n_key}), "
            f"got shape {array.shape}"
        ) from None


class AttentionHeatmap(LiveFigure):
    """Attention weights as a heatmap of queries × keys, recomputed live from Q and K.

    weights = softmax(Q Kᵀ / √d_k / T + mask), the equation 1 of "Attention Is All You Need"
    without V and with a temperature T. The figure ships Q and K as float16 and computes the
    rest itself, so that every control works in a page without a kernel.

    Traits shared with the browser, both ways: `layer`, `head`, `query_index` (all from 0; the
    figure's labels count from 1), `mask_kind` (one of `mask_kinds`), `temperature` (0.1 to 10)
    and `scaled` (divide by √d_k?).

    Args:
        query: (layers, heads, n_query, d_head), or without layers; array, list or tensor.
        key: (layers, heads_kv, n_key, d_head), or without layers; heads must be a multiple of
            heads_kv, and neighbouring query heads share a key head.
        tokens: the n_query tokens; a text stands for its characters.
        key_tokens: the n_key tokens, if they are not the same (cross-attention).
        mask: boolean, True = may look at, broadcastable to (n_query, n_key); offered as
            "padding". "causal" is offered whenever n_key ≥ n_query.
        title, alt: Chinese heading, and the sentence that stands for the figure; computed if
            not given.
        traits: start values of the shared traits.

    Raises:
        TypeError, ValueError: shapes, tokens or mask do not fit, or a value is not finite.

    >>> figure = AttentionHeatmap([[[1.0, 0.0], [0.0, 1.0]]], [[[2.0, 0.0], [0.0, 2.0]]], "你好")
    >>> figure
    AttentionHeatmap(tokens='你 好', layers=1, heads=1, n_query=2, n_key=2, d_head=2)
    >>> figure.weights().round(2)
    array([[0.8, 0.2],
           [0.2, 0.8]])
    """

    figure_name = "attention_heatmap"

    query_data = traitlets.Bytes().tag(sync=True)
    key_data = traitlets.Bytes().tag(sync=True)
    mask_data = traitlets.Bytes().tag(sync=True)
    shape = traitlets.Dict().tag(sync=True)
    tokens = traitlets.List(traitlets.Unicode()).tag(sync=True)
    key_tokens = traitlets.List(traitlets.Unicode()).tag(sync=True)
    mask_kinds = traitlets.List(traitlets.Unicode()).tag(sync=True)

    layer = traitlets.Int(0).tag(sync=True)
    head = traitlets.Int(0).tag(sync=True)
    query_index = traitlets.Int(0).tag(sync=True)
    mask_kind = traitlets.Unicode("none").tag(sync=True)
    temperature = traitlets.Float(1.0).tag(sync=True)
    scaled = traitlets.Bool(True).tag(sync=True)

    def __init__(
        self,
        query: Any,
        key: Any,
        tokens: Sequence[str],
        key_tokens: Sequence[str] | None = None,
        mask: Any = None,
        *,
        title: str = "注意力权重：每一行是一个查询，看它把注意力分给哪些键",
        alt: str | None = None,
        **traits: Any,
    ) -> None:
        q, k = _as_layers("query", query), _as_layers("key", key)
        layers, heads, n_query, d_head = q.shape
        if (k.shape[0], k.shape[3]) != (layers, d_head) or heads % k.shape[1]:
            raise ValueError(
                "key must have the layers and d_head of query, and a number of heads that divides "
                f"its own, got query {q.shape} and key {k.shape} (layers, heads, n, d_head)"
            )
        k = np.repeat(k, heads // k.shape[1], axis=1)
        n_key = k.shape[2]
        query_tokens = as_tokens("tokens", tokens, n_query)
        if key_tokens is None and n_key != n_query:
            raise ValueError(
                f"key_tokens must be given when key has {n_key} positions and query {n_query}"
            )
        other_tokens = query_tokens if key_tokens is None else key_tokens
        allowed = np.ones((n_query, n_key), bool) if mask is None else mask
        kinds = [
            kind
            for kind in MASK_KINDS
            if (kind in ("none", "padding") or n_key >= n_query)
            and (kind in ("none", "causal") or mask is not None)
        ]
        super().__init__(
            title=title,
            alt=alt or _default_alt(query_tokens, layers, heads),
            query_data=pack_float16(q),
            key_data=pack_float16(k),
            mask_data=_as_mask(allowed, n_query, n_key).astype(np.uint8).tobytes(),
            shape={
                "layers": layers,
                "heads": heads,
                "n_query": n_query,
                "n_key": n_key,
                "d_head": d_head,
            },
            tokens=query_tokens,
            key_tokens=as_tokens("key_tokens", other_tokens, n_key),
            mask_kinds=kinds,
        )
        self._check_knobs(traits)
        for name, value in traits.items():
            setattr(self, name, value)

    _knobs = ("layer", "head", "query_index", "mask_kind", "temperature", "scaled")

    @traitlets.validate("layer", "head", "query_index")
    def _check_index(self, proposal: Any) -> int:
        name, value = proposal["trait"].name, proposal["value"]
        size = {"layer": "layers", "head": "heads", "query_index": "n_query"}[name]
        count = self.shape.get(size, 1)
        if not 0 <= value < count:
            raise traitlets.TraitError(
                f"{name} must be from 0 to {count - 1} (the figure has {count}), got {value}"
            )
        return value

    @traitlets.validate("mask_kind")
    def _check_mask_kind(self, proposal: Any) -> str:
        if proposal["value"] not in (self.mask_kinds or MASK_KINDS):
            raise traitlets.TraitError(
                f"mask_kind must be one of {self.mask_kinds}, got {proposal['value']!r}"
            )
        return proposal["value"]

    @traitlets.validate("temperature")
    def _check_temperature(self, proposal: Any) -> float:
        low, high = TEMPERATURE_RANGE
        if not low <= proposal["value"] <= high:
            raise traitlets.TraitError(
                f"temperature must be from {low} to {high}, got {proposal['value']}"
            )
        return proposal["value"]

    def allowed(self) -> np.ndarray:
        """(n_query, n_key) boolean of the chosen mask, True = may look at."""
        n_query, n_key = self.shape["n_query"], self.shape["n_key"]
        result = np.ones((n_query, n_key), bool)
        if self.mask_kind in ("causal", "both"):
            result &= np.tri(n_query, n_key, n_key - n_query, dtype=bool)
        if self.mask_kind in ("padding", "both"):
            result &= np.frombuffer(self.mask_data, np.uint8).reshape(n_query, n_key) == 1
        return result

    def weights(self, layer: int | None = None, head: int | None = None) -> np.ndarray:
        """(n_query, n_key) float64, what the figure shows; a fully masked row is all zeros.

        `layer` and `head` are the chosen ones if not given.
        """
        sizes = [self.shape[name] for name in ("layers", "heads", "n_query", "d_head")]
        q = unpack_float16(self.query_data, sizes)
        k = unpack_float16(self.key_data, [*sizes[:2], self.shape["n_key"], sizes[3]])
        at = (self.layer if layer is None else layer, self.head if head is None else head)
        divisor = (np.sqrt(self.shape["d_head"]) if self.scaled else 1.0) * self.temperature
        scores = np.where(self.allowed(), q[at] @ k[at].T / divisor, -np.inf)
        largest = scores.max(axis=-1, keepdims=True)
        powers = np.exp(scores - np.where(np.isfinite(largest), largest, 0.0))
        total = powers.sum(axis=-1, keepdims=True)
        return np.divide(powers, total, out=np.zeros_like(powers), where=total > 0)

    def entropy(self, query_index: int | None = None) -> float:
        """Entropy in bits of one row of `weights()`, the chosen one if not given."""
        row = self.weights()[self.query_index if query_index is None else query_index]
        positive = row[row > 0]
        return float(max(0.0, -(positive * np.log2(positive)).sum()))

    def _describe(self) -> dict[str, object]:
        facts: dict[str, object] = {"tokens": " ".join(self.tokens)}
        if self.key_tokens != self.tokens:
            facts["key_tokens"] = " ".join(self.key_tokens)
        return facts | self.shape

    def _draw(self) -> viz.BookFigure:
        return viz.plot_attention(
            self.weights(), self.tokens, self.key_tokens, title=self.title, mask=self.allowed()
        )


def _default_alt(tokens: Sequence[str], layers: int, heads: int) -> str:
    return (
        f"可操作的注意力热图：{layers} 层、每层 {heads} 个头，"
        f"行是查询，列是键，{len(tokens)} 个查询依次是「{' '.join(tokens)}」，颜色越深权重越大。"
    )
