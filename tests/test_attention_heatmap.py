"""`AttentionHeatmap` in Python: its formula, its traits, its errors, its picture."""

from __future__ import annotations

import doctest
import math
from typing import Any

import ipywidgets
import numpy as np
import pytest
import torch
import traitlets
from hypothesis import given, settings
from hypothesis import strategies as st

from lmlib.attention import MultiHeadAttention, causal_mask, padding_mask
from lmlib.widgets import AttentionHeatmap, attention_heatmap

TOKENS = "你好世界"


def tensors(*shape: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.standard_normal(shape), generator.standard_normal(shape)


def heatmap(**arguments: Any) -> AttentionHeatmap:
    return AttentionHeatmap(*tensors(2, 8, 4, 16), TOKENS, **arguments)


def test_docstring_example() -> None:
    assert doctest.testmod(attention_heatmap).failed == 0


@pytest.mark.parametrize("num_kv_heads", [8, 2, 1])
def test_weights_are_those_of_the_layer_they_come_from(num_kv_heads: int) -> None:
    """Q and K of a real attention module, shared key heads too; only float16 lies between."""
    torch.manual_seed(0)
    attention = MultiHeadAttention(32, 8, num_kv_heads=num_kv_heads)
    x = torch.randn(1, 4, 32)
    mask = causal_mask(4)
    with torch.no_grad():
        _, expected = attention(x, mask=mask, need_weights=True)
        query = attention.W_Q(x).view(1, 4, 8, 4).transpose(1, 2)
        key = attention.W_K(x).view(1, 4, num_kv_heads, 4).transpose(1, 2)
    figure = AttentionHeatmap(query, key, TOKENS, mask_kind="causal")
    for head in range(8):
        np.testing.assert_allclose(figure.weights(head=head), expected[0, head], atol=2e-3)


@given(
    seed=st.integers(0, 10**6),
    temperature=st.floats(0.1, 10),
    scaled=st.booleans(),
    kind=st.sampled_from(["none", "causal", "padding", "both"]),
)
@settings(max_examples=25, deadline=None)
def test_rows_sum_to_one_or_are_zero(
    seed: int, temperature: float, scaled: bool, kind: str
) -> None:
    generator = np.random.default_rng(seed)
    mask = generator.random((3, 5)) < 0.4
    figure = AttentionHeatmap(
        100 * generator.standard_normal((2, 3, 4)),
        100 * generator.standard_normal((2, 5, 4)),
        "abc",
        "vwxyz",
        mask,
        temperature=temperature,
        scaled=scaled,
        mask_kind=kind,
    )
    weights, allowed = figure.weights(), figure.allowed()
    np.testing.assert_allclose(weights.sum(axis=1), allowed.any(axis=1), atol=1e-12)
    assert (weights[~allowed] == 0).all()


def test_without_the_square_root_the_rows_are_sharper() -> None:
    figure = heatmap()
    with_root = np.mean([figure.entropy(i) for i in range(4)])
    figure.scaled = False
    assert np.mean([figure.entropy(i) for i in range(4)]) < with_root - 0.3


def test_temperature_goes_from_one_choice_to_even_shares() -> None:
    q, k = tensors(1, 1, 4, 16)
    figure = AttentionHeatmap(20 * q, 20 * k, TOKENS, temperature=0.1)
    assert figure.entropy() < 0.01
    figure = AttentionHeatmap(0.1 * q, 0.1 * k, TOKENS, temperature=10.0)
    assert figure.entropy() == pytest.approx(2.0, abs=1e-4)


def test_weights_of_a_named_layer_and_head() -> None:
    figure = heatmap(layer=1, head=5)
    np.testing.assert_array_equal(figure.weights(), figure.weights(layer=1, head=5))
    assert not np.allclose(figure.weights(), figure.weights(layer=0))


def test_causal_mask_with_more_keys_than_queries_is_the_end_of_the_sequence() -> None:
    q, k = np.ones((1, 2, 3)), np.ones((1, 5, 3))
    figure = AttentionHeatmap(q, k, "de", "abcde", mask_kind="causal")
    np.testing.assert_array_equal(figure.allowed(), causal_mask(2, 5).numpy())


def test_mask_of_lmlib_is_taken_as_it_is() -> None:
    mask = padding_mask(torch.tensor([[5, 6, 7, 0]]), pad_id=0)
    figure = heatmap(mask=mask, mask_kind="both")
    expected = (causal_mask(4) & mask)[0, 0].numpy()
    np.testing.assert_array_equal(figure.allowed(), expected)


def test_offered_masks() -> None:
    assert heatmap().mask_kinds == ["none", "causal"]
    assert heatmap(mask=np.ones(4, bool)).mask_kinds == ["none", "causal", "padding", "both"]
    cross = AttentionHeatmap(np.ones((1, 4, 2)), np.ones((1, 3, 2)), TOKENS, "abc")
    assert cross.mask_kinds == ["none"]


def test_a_fully_masked_row_has_no_entropy() -> None:
    mask = np.ones((4, 4), bool)
    mask[2] = False
    figure = heatmap(mask=mask, mask_kind="padding", query_index=2)
    assert not figure.weights()[2].any()
    assert figure.entropy() == 0.0
    figure.png()  # the picture survives it too


def test_tensors_travel_as_float16() -> None:
    q, k = tensors(2, 8, 4, 16)
    figure = AttentionHeatmap(q, k, TOKENS)
    assert len(figure.query_data) == len(figure.key_data) == 2 * q.size
    assert figure.query_data == q.astype("<f2").tobytes()


def test_three_dimensions_are_one_layer() -> None:
    q, k = tensors(8, 4, 16)
    assert AttentionHeatmap(q, k, TOKENS).shape["layers"] == 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"query": np.ones((4, 16))}, ValueError, r"query must have 3 or 4 dimensions"),
        ({"key": np.ones((2, 8, 4, 15))}, ValueError, r"key must have the layers and d_head of"),
        ({"key": np.ones((1, 8, 4, 16))}, ValueError, r"key must have the layers and d_head of"),
        ({"key": np.ones((2, 3, 4, 16))}, ValueError, r"a number of heads that divides"),
        ({"key": np.ones((2, 8, 5, 16))}, ValueError, r"key_tokens must be given when key has 5"),
        ({"query": np.full((2, 8, 4, 16), np.nan)}, ValueError, r"query must be finite"),
        ({"tokens": "你好"}, ValueError, r"tokens must have 4 tokens, one a position, got 2"),
        ({"key_tokens": "你好"}, ValueError, r"key_tokens must have 4 tokens"),
        ({"mask": np.ones((3, 4), bool)}, ValueError, r"mask must be broadcastable to .* \(4, 4\)"),
        ({"mask": np.ones((4, 4))}, TypeError, r"mask must be boolean .* got float64"),
        ({"alt": " "}, ValueError, r"alt must be a non-empty text"),
        ({"heads": 3}, TypeError, r"unexpected argument 'heads'"),
        ({"head": 8}, traitlets.TraitError, r"head must be from 0 to 7 .* got 8"),
        ({"layer": -1}, traitlets.TraitError, r"layer must be from 0 to 1 .* got -1"),
        ({"temperature": 0.0}, traitlets.TraitError, r"temperature must be from 0.1 to 10.0"),
        ({"mask_kind": "padding"}, traitlets.TraitError, r"mask_kind must be one of \['none', 'c"),
    ],
)
def test_bad_arguments_are_named(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    q, k = tensors(2, 8, 4, 16)
    given = {"query": q, "key": k, "tokens": TOKENS, **arguments}
    with pytest.raises(error, match=message):
        AttentionHeatmap(**given)


def test_a_wrong_assignment_leaves_the_figure_as_it_was() -> None:
    figure = heatmap(head=3)
    with pytest.raises(traitlets.TraitError, match="head must be from 0 to 7"):
        figure.head = 99
    assert figure.head == 3


def test_repr_is_stable() -> None:
    text = (
        "AttentionHeatmap(tokens='你 好 世 界', layers=2, heads=8, n_query=4, n_key=4, d_head=16)"
    )
    figure = heatmap()
    assert repr(figure) == text
    figure.head = 4
    assert repr(figure) == text
    cross = AttentionHeatmap(np.ones((1, 1, 2)), np.ones((1, 2, 2)), "你", "ab")
    assert repr(cross).startswith("AttentionHeatmap(tokens='你', key_tokens='a b', layers=1,")


def test_alt_text_and_picture() -> None:
    data, metadata = heatmap(alt="四行四列。")._repr_mimebundle_()
    assert data["text/plain"] == "图：四行四列。"
    assert metadata["image/png"]["alt"] == "四行四列。"
    assert "你 好 世 界" in heatmap().alt


def test_the_browser_can_change_it_and_python_sees_that() -> None:
    """`set_state` is what a message of the browser calls."""
    figure = heatmap()
    seen: dict[str, object] = {}
    names = ["layer", "head", "query_index", "mask_kind", "temperature", "scaled"]
    figure.observe(lambda change: seen.update({change["name"]: change["new"]}), names)
    figure.set_state({"head": 5, "temperature": 0.5, "mask_kind": "causal", "query_index": 2})
    figure.set_state({"scaled": False, "layer": 1})
    assert seen == {
        "head": 5,
        "temperature": 0.5,
        "mask_kind": "causal",
        "query_index": 2,
        "scaled": False,
        "layer": 1,
    }
    np.testing.assert_allclose(figure.weights()[0], [1, 0, 0, 0])


def test_it_links_with_sliders_and_sits_in_boxes() -> None:
    figure = heatmap()
    slider = ipywidgets.IntSlider(min=0, max=7)
    link = ipywidgets.jslink((slider, "value"), (figure, "head"))
    assert link.source == (slider, "value")
    ipywidgets.link((slider, "value"), (figure, "head"))
    slider.value = 6
    assert figure.head == 6
    box = ipywidgets.VBox([slider, figure])
    assert box.children[1] is figure
    output = ipywidgets.interactive_output(lambda head: None, {"head": slider})
    assert isinstance(output, ipywidgets.Output)


def test_uniform_scores_give_even_weights() -> None:
    figure = AttentionHeatmap(np.zeros((1, 4, 2)), np.zeros((1, 4, 2)), TOKENS)
    np.testing.assert_allclose(figure.weights(), 0.25)
    assert figure.entropy() == pytest.approx(math.log2(4))
