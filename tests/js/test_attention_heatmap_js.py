"""The arithmetic of the attention heatmap in the browser's language = torch = the Python twin."""

from __future__ import annotations

import base64
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch

from lmlib.attention import causal_mask, scaled_dot_product_attention
from lmlib.widgets import AttentionHeatmap
from lmlib.widgets.base import source

SOURCE = source("attention_heatmap", ".js")
SHAPES = [(1, 1, 1), (2, 2, 1), (4, 4, 64), (3, 7, 5), (9, 9, 16), (6, 20, 32)]  # n_q, n_k, d

WEIGHTS = """(figure, cases, bytes) => cases.map((c) => {
  const q = figure.nlFloat16(bytes(c.query));
  const k = figure.nlFloat16(bytes(c.key));
  const blocked = figure.blockedCells(c.kind, figure.nlUint8(bytes(c.allowed)), c.nQ, c.nK);
  const products = figure.dotProducts(q, k, c.nQ, c.nK, c.d);
  const weights = figure.attentionWeights({ ...c, products, blocked });
  return { weights: [...weights], blocked: [...blocked], entropies: Array.from(
    { length: c.nQ }, (_, i) => figure.nlEntropy(weights.subarray(i * c.nK, (i + 1) * c.nK))) };
})"""


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def make_figure(n_q: int, n_k: int, d: int, size: float, seed: int) -> AttentionHeatmap:
    """Random Q and K; the first query may look at nothing, the others at about two thirds."""
    generator = np.random.default_rng(seed)
    allowed = generator.random((n_q, n_k)) < 0.67
    allowed[0] = False
    return AttentionHeatmap(
        size * generator.standard_normal((1, n_q, d)),
        size * generator.standard_normal((1, n_k, d)),
        [f"q{i}" for i in range(n_q)],
        [f"k{i}" for i in range(n_k)],
        mask=allowed,
    )


def torch_weights(figure: AttentionHeatmap) -> torch.Tensor:
    """The same weights by lmlib.attention, from the same float16 numbers, in float64."""
    s = figure.shape
    q = torch.tensor(np.frombuffer(figure.query_data, "<f2").astype(np.float64))
    k = torch.tensor(np.frombuffer(figure.key_data, "<f2").astype(np.float64))
    q = q.view(1, 1, s["n_query"], s["d_head"])
    k = k.view(1, 1, s["n_key"], s["d_head"])
    mask = torch.ones(s["n_query"], s["n_key"], dtype=torch.bool)
    if figure.mask_kind in ("causal", "both"):
        mask &= causal_mask(s["n_query"], s["n_key"])
    if figure.mask_kind in ("padding", "both"):
        allowed = np.frombuffer(figure.mask_data, np.uint8).copy()
        mask &= torch.tensor(allowed).view(mask.shape).bool()
    scale = 1 / ((math.sqrt(s["d_head"]) if figure.scaled else 1.0) * figure.temperature)
    _, weights = scaled_dot_product_attention(q, k, k, mask, scale=scale, need_weights=True)
    assert weights is not None
    return weights[0, 0]


def case_of(figure: AttentionHeatmap) -> dict[str, Any]:
    s = figure.shape
    return {
        "query": encoded(figure.query_data),
        "key": encoded(figure.key_data),
        "allowed": encoded(figure.mask_data),
        "kind": figure.mask_kind,
        "temperature": figure.temperature,
        "scaled": figure.scaled,
        "nQ": s["n_query"],
        "nK": s["n_key"],
        "d": s["d_head"],
    }


def test_weights_equal_torch_and_numpy(run_node: Any) -> None:
    """Over shapes × masks × temperatures × scaling × sizes of the numbers: 384 cases."""
    cases, expected, twins, bits = [], [], [], []
    settings = itertools.product(
        SHAPES,
        ("none", "causal", "padding", "both"),
        (0.1, 0.5, 1.0, 10.0),
        (True, False),
        (1.0, 30.0),
    )
    for seed, (shape, kind, temperature, scaled, size) in enumerate(settings):
        figure = make_figure(*shape, size, seed)
        figure.mask_kind, figure.temperature, figure.scaled = kind, temperature, scaled
        cases.append(case_of(figure))
        expected.append(torch_weights(figure).numpy())
        twins.append(figure.weights())
        bits.append([figure.entropy(i) for i in range(shape[0])])
        figure.close()
    results = run_node(SOURCE, WEIGHTS, cases, also=["nlFloat16", "nlUint8", "nlEntropy"])
    for case, result, by_torch, twin, entropies in zip(
        cases, results, expected, twins, bits, strict=True
    ):
        weights = np.array(result["weights"]).reshape(by_torch.shape)
        np.testing.assert_allclose(weights, by_torch, atol=1e-12, err_msg=str(case["kind"]))
        np.testing.assert_allclose(twin, by_torch, atol=1e-12)
        np.testing.assert_allclose(result["entropies"], entropies, atol=1e-10)
        open_rows = ~np.array(result["blocked"], bool).reshape(by_torch.shape).all(axis=1)
        np.testing.assert_allclose(weights.sum(axis=1), open_rows.astype(float), atol=1e-12)
        if case["kind"] in ("padding", "both"):
            assert not weights[0].any(), "the first row is fully masked"


def test_float16_decoding_is_exact_for_every_bit_pattern(run_node: Any) -> None:
    patterns = np.arange(65536, dtype="<u2")
    decoded = run_node(
        SOURCE,
        "(figure, data, bytes) => [...figure.nlFloat16(bytes(data))].map(String)",
        encoded(patterns.tobytes()),
        also=["nlFloat16"],
    )
    values = np.array([float(text.replace("Infinity", "inf")) for text in decoded])
    np.testing.assert_array_equal(values, patterns.view("<f2").astype(np.float64))


def test_float16_of_a_view_into_a_larger_buffer(run_node: Any) -> None:
    """Jupyter hands over views with an offset, also an odd one."""
    decoded = run_node(
        SOURCE,
        """(figure, data, bytes) => {
          const view = bytes(data);
          const larger = new Uint8Array(view.byteLength + 7);
          larger.set(new Uint8Array(view.buffer, view.byteOffset, view.byteLength), 3);
          return [...figure.nlFloat16(new DataView(larger.buffer, 3, view.byteLength))];
        }""",
        encoded(np.array([1.5, -2.0, 0.25], "<f2").tobytes()),
        also=["nlFloat16"],
    )
    assert decoded == [1.5, -2.0, 0.25]


def test_numbers_are_written_for_reading(run_node: Any) -> None:
    script = """(figure) => [
      figure.nlNumber(0), figure.nlNumber(-1.23456), figure.nlNumber(0.000012),
      figure.nlNumber(-1e-9), figure.nlNumber(2.5, 1), figure.nlNumber(1.234e7),
      figure.nlPercent(0.27345), figure.nlPercent(0), figure.nlPercent(0.0001),
      figure.nlPercent(1)]"""
    assert run_node(SOURCE, script, None, also=["nlNumber", "nlPercent"]) == [
        *("0.0000", "−1.2346", "1.20e−5", "−1.00e−9", "2.5", "1.23e+7"),
        *("27.3%", "0.0%", "<0.1%", "100.0%"),
    ]


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ({"scaled": True, "temperature": 1, "maskKind": "none"}, "softmax( Q Kᵀ ÷ √64 )"),
        ({"scaled": False, "temperature": 1, "maskKind": "none"}, "softmax( Q Kᵀ )"),
        (
            {"scaled": True, "temperature": 0.5, "maskKind": "causal"},
            "softmax( Q Kᵀ ÷ √64 ÷ 0.5 ＋ 因果掩码 )",
        ),
    ],
)
def test_formula_says_what_is_computed(run_node: Any, state: dict[str, Any], text: str) -> None:
    script = "(figure, state) => figure.formulaText(state)"
    assert run_node(SOURCE, script, {"d": 64, **state}) == f"权重 = {text}"


def test_bars_of_a_long_row_are_the_heaviest_and_the_rest(run_node: Any) -> None:
    row = np.random.default_rng(3).dirichlet(np.ones(20))
    short, long = run_node(
        SOURCE,
        "(figure, row) => [figure.rowBars(row.slice(0, 12)), figure.rowBars(row)]",
        list(row),
    )
    assert [bar["column"] for bar in short] == list(range(12))
    assert [bar["column"] for bar in long[:-1]] == list(np.argsort(-row)[:11])
    assert long[-1]["rest"] == 9
    assert sum(bar["share"] for bar in long) == pytest.approx(1.0)


def luminance(color: list[float]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_numbers_in_cells_are_legible_on_every_color(run_node: Any) -> None:
    """WCAG AA: at least 4.5 : 1 on all 256 steps of each scale, light and dark."""
    script = """(figure) => ["sequential", "diverging"].flatMap((scale) =>
      [false, true].flatMap((dark) => figure.nlColorTable(scale, dark).map(
        (color) => [color, figure.nlInkOn(color)])))"""
    steps = run_node(SOURCE, script, None, also=["nlColorTable", "nlInkOn"])
    assert len(steps) == 4 * 256
    for color, ink in steps:
        paper = luminance([c / 255 for c in color])
        text = {"#000000": 0.0, "#ffffff": 1.0}[ink]
        contrast = (max(paper, text) + 0.05) / (min(paper, text) + 0.05)
        assert contrast >= 4.5, (color, ink)


def test_the_sequential_scale_gets_steadily_stronger(run_node: Any) -> None:
    script = """(figure) => [false, true].map(
      (dark) => figure.nlColorTable("sequential", dark))"""
    light, dark = run_node(SOURCE, script, None, also=["nlColorTable"])
    for table, sign in ((light, -1), (dark, 1)):
        steps = np.diff([luminance([c / 255 for c in color]) for color in table])
        assert (sign * steps > -0.004).all()
        assert (
            abs(luminance([c / 255 for c in table[0]]) - luminance([c / 255 for c in table[-1]]))
            > 0.7
        )
