"""Attention: equal to torch's, forward and gradient; masks and errors."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lmlib.attention import (
    MultiHeadAttention,
    causal_mask,
    padding_mask,
    scaled_dot_product_attention,
)
from lmlib.positions import RelativePositionBias, RotaryEmbedding

TOLERANCE = {
    torch.float64: {"rtol": 1e-10, "atol": 1e-11},
    torch.float32: {"rtol": 2e-4, "atol": 2e-5},
}
HALF = [torch.float16, torch.bfloat16]
PAD = 0


class Case(NamedTuple):
    """One attention problem: tensors, and the mask that goes with them."""

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    bias: Tensor | None


def lengths_to_ids(lengths: list[int], n: int) -> Tensor:
    """Token ids 1 with the padding id behind each length."""
    return torch.where(torch.arange(n) < torch.tensor(lengths)[:, None], 1, PAD)


@st.composite
def masks(draw: st.DrawFn, batch: int, n_q: int, n_k: int) -> Tensor | None:
    """No mask, causal, padding, both, or any (each query keeps at least one key)."""
    kinds = ["none", "padding", "any", *(["causal", "both"] if n_k >= n_q else [])]
    kind = draw(st.sampled_from(kinds))
    if kind == "none":
        return None
    if kind == "any":
        seed = draw(st.integers(0, 2**16))
        random = torch.rand(batch, 1, n_q, n_k, generator=torch.Generator().manual_seed(seed))
        return random >= random.amax(-1, keepdim=True).clamp(max=0.5)
    lengths = draw(st.lists(st.integers(1, n_k), min_size=batch, max_size=batch))
    padding = padding_mask(lengths_to_ids(lengths, n_k), PAD)
    if kind == "padding":
        return padding
    return causal_mask(n_q, n_k) if kind == "causal" else causal_mask(n_q, n_k) & padding


@st.composite
def cases(draw: st.DrawFn) -> Case:
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    batch, n_q, n_k = (draw(st.integers(1, high)) for high in (3, 6, 7))
    kv_heads, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    d_k, d_v = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    rng = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=dtype, generator=rng).requires_grad_()

    mask = draw(masks(batch, n_q, n_k))
    return Case(
        random(batch, kv_heads * groups, n_q, d_k),
        random(batch, kv_heads, n_k, d_k),
        random(batch, kv_heads, n_k, d_v),
        mask,
        random(1, kv_heads * groups, n_q, n_k) if draw(st.booleans()) else None,
    )


def gradients(output: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    """Gradients of a sum that weighs every number of the output differently."""
    weights = torch.linspace(-1.0, 2.0, output.numel(), dtype=output.dtype).view_as(output)
    return list(torch.autograd.grad((output * weights).sum(), leaves))


@settings(max_examples=50, deadline=None)
@given(case=cases(), need_weights=st.booleans(), scale=st.sampled_from([None, 1.0, 0.3]))
def test_equals_torch_forward_and_gradient(
    case: Case, need_weights: bool, scale: float | None
) -> None:
    query, key, value, mask, bias = case
    additive = mask
    if bias is not None:
        additive = bias if mask is None else bias.masked_fill(~mask, -math.inf)
    with sdpa_kernel(SDPBackend.MATH):
        wanted = F.scaled_dot_product_attention(
            query, key, value, attn_mask=additive, scale=scale, enable_gqa=True
        )
    got, weights = scaled_dot_product_attention(
        query, key, value, mask, bias=bias, scale=scale, need_weights=need_weights
    )
    leaves = [query, key, value, *([] if bias is None else [bias])]
    tolerance = TOLERANCE[query.dtype]
    torch.testing.assert_close(got, wanted, **tolerance)
    for mine, theirs in zip(gradients(got, leaves), gradients(wanted, leaves), strict=True):
        torch.testing.assert_close(mine, theirs, **tolerance)
    assert (weights is not None) == need_weights
    if weights is not None:
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]), **tolerance)
        if mask is not None:
            assert not weights.masked_select(~mask).any()


def copy_of_torch(theirs: nn.MultiheadAttention) -> MultiHeadAttention:
    """Our module with the weights of torch's, whose three input projections are one matrix."""
    has_bias = theirs.in_proj_bias is not None
    mine = MultiHeadAttention(theirs.embed_dim, theirs.num_heads, bias=has_bias)
    mine.to(theirs.in_proj_weight.dtype)
    with torch.no_grad():
        for linear, weight in zip(
            (mine.W_Q, mine.W_K, mine.W_V), theirs.in_proj_weight.chunk(3), strict=True
        ):
            linear.weight.copy_(weight)
        mine.W_O.weight.copy_(theirs.out_proj.weight)
        if has_bias:
            for linear, bias in zip(
                (mine.W_Q, mine.W_K, mine.W_V), theirs.in_proj_bias.chunk(3), strict=True
            ):
                linear.bias.copy_(bias)
            mine.W_O.bias.copy_(theirs.out_proj.bias)
    return mine


@settings(max_examples=40, deadline=None)
@given(
    data=st.data(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    num_heads=st.integers(1, 4),
    d_head=st.integers(1, 6),
    bias=st.booleans(),
    cross=st.booleans(),
    need_weights=st.booleans(),
)
def test_equals_torch_multi_head(
    data: st.DataObject,
    dtype: torch.dtype,
    num_heads: int,
    d_head: int,
    bias: bool,
    cross: bool,
    need_weights: bool,
) -> None:
    torch.manual_seed(data.draw(st.integers(0, 2**16)))
    batch, n_q, n_k = (data.draw(st.integers(1, high)) for high in (3, 5, 6))
    n_k = n_k if cross else n_q
    mask = data.draw(masks(batch, n_q, n_k))
    d_model = num_heads * d_head
    theirs = nn.MultiheadAttention(d_model, num_heads, bias=bias, batch_first=True, dtype=dtype)
    if bias:  # torch starts them at zero, where a mistake would not show
        nn.init.normal_(theirs.in_proj_bias)
        nn.init.normal_(theirs.out_proj.bias)
    mine = copy_of_torch(theirs)
    x = torch.randn(batch, n_q, d_model, dtype=dtype, requires_grad=True)
    key = value = x
    if cross:
        key, value = torch.randn(2, batch, n_k, d_model, dtype=dtype).requires_grad_()
    blocked = None  # torch's own convention: True = may not look, heads folded into the batch
    if mask is not None:
        full = mask.expand(batch, num_heads, n_q, n_k)
        blocked = ~full.reshape(batch * num_heads, n_q, n_k)
    wanted, wanted_weights = theirs(x, key, value, attn_mask=blocked, average_attn_weights=False)
    inputs = [x, key, value] if cross else [x]
    got, weights = mine(*inputs, mask=mask, need_weights=need_weights)
    torch.testing.assert_close(got, wanted, **TOLERANCE[dtype])
    if need_weights:
        torch.testing.assert_close(weights, wanted_weights, **TOLERANCE[dtype])

    ours = gradients(got, [*inputs, mine.W_Q.weight, mine.W_K.weight, mine.W_V.weight])
    reference = gradients(wanted, [*inputs, theirs.in_proj_weight])
    for mine_grad, their_grad in zip(ours[: len(inputs)], reference[: len(inputs)], strict=True):
        torch.testing.assert_close(mine_grad, their_grad, **TOLERANCE[dtype])
    torch.testing.assert_close(torch.cat(ours[len(inputs) :]), reference[-1], **TOLERANCE[dtype])


# --- masks ---------------------------------------------------------------------------------


def test_causal_mask_is_the_past_and_oneself() -> None:
    for n_q, n_k in [(1, 1), (4, 4), (2, 5), (1, 6)]:
        mask = causal_mask(n_q, n_k)
        wanted = [[j <= i + n_k - n_q for j in range(n_k)] for i in range(n_q)]
        assert mask.tolist() == wanted
    assert torch.equal(causal_mask(3), causal_mask(3, 3))


def test_padding_mask_hides_padding_alone() -> None:
    mask = padding_mask(torch.tensor([[5, 6, 9], [7, 9, 9]]), pad_id=9)
    assert mask.shape == (2, 1, 1, 3)
    assert mask[:, 0, 0].tolist() == [[True, True, False], [True, False, False]]


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *HALF])
def test_fully_masked_rows_are_zero_and_have_zero_gradient(
    dtype: torch.dtype, need_weights: bool
) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 4, 3, 8, dtype=dtype, requires_grad=True) for _ in "QKV")
    bias = torch.randn(1, 4, 3, 3, dtype=dtype, requires_grad=True)
    mask = torch.ones(2, 1, 3, 3, dtype=torch.bool)
    mask[0] = False  # a whole sequence
    mask[1, :, 1] = False  # one query
    for added in (None, bias, bias.masked_fill(~mask, -math.inf)):
        with torch.autograd.detect_anomaly(check_nan=True):
            output, weights = scaled_dot_product_attention(
                query, key, value, mask, bias=added, need_weights=need_weights
            )
            grads = torch.autograd.grad(output.float().sum(), [query, key, value])
        assert not output[0].any()
        assert not output[1, :, 1].any()
        assert output[1, :, [0, 2]].all()
        assert all(grad.isfinite().all() for grad in grads)
        assert not any(grad[0].any() for grad in grads)
        assert not grads[0][1, :, 1].any()
        assert grads[0][1, :, 0].any()
        if weights is not None:
            assert not weights[0].any()
            assert not weights[1, :, 1].any()


def test_no_kernel_is_asked_about_a_fully_masked_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some kernels answer NaN: with the textbook's formula in their place all stays finite."""

    def textbook(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor, **_: object):
        if attn_mask.dtype == torch.bool:
            attn_mask = torch.zeros(attn_mask.shape).masked_fill(~attn_mask, -math.inf)
        return torch.softmax(query @ key.mT / math.sqrt(query.shape[-1]) + attn_mask, -1) @ value

    query = torch.randn(1, 2, 3, 4, requires_grad=True)
    mask = causal_mask(3)
    mask[0] = False
    monkeypatch.setattr(F, "scaled_dot_product_attention", textbook)
    for bias in (None, torch.randn(3, 3)):
        output, _ = scaled_dot_product_attention(query, query, query, mask, bias=bias)
        assert not output[:, :, 0].any()
        assert torch.autograd.grad(output.sum(), query)[0].isfinite().all()


def test_a_bias_of_minus_infinity_is_a_mask() -> None:
    query = torch.randn(1, 2, 3, 4)
    bias = torch.zeros(3, 3).masked_fill(~causal_mask(3), -math.inf)
    bias[1] = -math.inf
    for need_weights in (True, False):
        output, _ = scaled_dot_product_attention(
            query, query, query, bias=bias, need_weights=need_weights
        )
        wanted, _ = scaled_dot_product_attention(query, query, query, bias > -1)
        torch.testing.assert_close(output, wanted)
        assert not output[:, :, 1].any()


# --- errors --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"d_model": 10, "num_heads": 4}, "d_model must be divisible by num_heads"),
        ({"d_model": 0, "num_heads": 4}, "d_model must be at least 1"),
        ({"d_model": 8, "num_heads": 4, "num_kv_heads": 3}, "divisible by num_kv_heads"),
        ({"d_model": 8, "num_heads": 4, "dropout": 1.0}, "dropout must be at least 0"),
        ({"d_model": 8, "num_heads": 4, "rotary": RotaryEmbedding(4)}, "rotary is for d_head=4"),
        (
            {"d_model": 8, "num_heads": 4, "position_bias": RelativePositionBias(2)},
            "position_bias is for num_heads=2",
        ),
    ],
)
def test_a_layer_that_cannot_be(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiHeadAttention(**arguments)  # type: ignore[arg-type]


X = torch.zeros(2, 3, 8)


@pytest.mark.parametrize(
    ("error", "inputs", "message"),
    [
        (ValueError, {"query": X[0]}, r"query must have shape \(batch, n_q, d_model\), got"),
        (ValueError, {"query": X[..., :4]}, "with d_model=8, got"),
        (ValueError, {"query": X, "key": X[:1]}, "key must have shape .* batch=2"),
        (ValueError, {"query": X, "key": X, "value": X[:, :2]}, "value must have shape .* n_k=3"),
        (TypeError, {"query": X.long()}, "query must be a floating-point tensor, got torch.int64"),
        (TypeError, {"query": [1.0]}, "query must be a torch.Tensor, got list"),
        (TypeError, {"query": X, "mask": torch.ones(3, 3)}, "mask must be boolean"),
        (TypeError, {"query": X, "mask": True}, "mask must be a torch.Tensor, got bool"),
        (
            ValueError,
            {"query": X, "mask": torch.ones(2, 3, dtype=torch.bool)},
            r"mask must be broadcastable to \(2, 2, 3, 3\), got \(2, 3\)",
        ),
        (
            ValueError,
            {"query": X, "mask": causal_mask(3, device="meta")},
            "mask must be on cpu like the rest, got meta",
        ),
    ],
)
def test_wrong_input(error: type[Exception], inputs: dict[str, object], message: str) -> None:
    with pytest.raises(error, match=message):
        MultiHeadAttention(8, 2)(**inputs)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2, 4, 3, 8), (2, 4, 5, 6), (2, 4, 5, 8)), "key must have shape .* d_k=8"),
        (((2, 4, 3, 8), (2, 4, 5, 8), (2, 4, 4, 8)), "value must have shape .* n_k=5"),
        (((2, 4, 3, 8), (2, 3, 5, 8), (2, 3, 5, 8)), "num_heads must be divisible"),
        (((2, 4, 3, 8), (1, 4, 5, 8), (1, 4, 5, 8)), "same batch dimensions"),
        (((2, 4, 3, 8), (2, 4, 5, 8), (2, 2, 5, 8)), "key and value must have the same leading"),
        (((4, 3, 8), (2, 5, 8), (2, 5, 8)), "query and key must have the same leading"),
        (((8,), (5, 8), (5, 8)), "query must have shape"),
    ],
)
def test_wrong_shapes(shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scaled_dot_product_attention(*(torch.zeros(shape) for shape in shapes))


def test_wrong_rest() -> None:
    q = torch.zeros(1, 1, 2, 4)
    with pytest.raises(ValueError, match=r"key must be torch.float32 .* got torch.float64"):
        scaled_dot_product_attention(q, q.double(), q)
    with pytest.raises(ValueError, match="dropout_p must be at least 0 and below 1, got 2"):
        scaled_dot_product_attention(q, q, q, dropout_p=2)
    with pytest.raises(ValueError, match="bias must be broadcastable"):
        scaled_dot_product_attention(q, q, q, bias=torch.zeros(3, 3))
    with pytest.raises(ValueError, match="n_k must be at least n_q, got n_q=3, n_k=2"):
        causal_mask(3, 2)
    with pytest.raises(TypeError, match="token_ids must hold integer token ids"):
        padding_mask(torch.zeros(1, 2), pad_id=0)
    with pytest.raises(ValueError, match=r"token_ids must have shape \(batch, n_k\), got \(3,\)"):
        padding_mask(torch.zeros(3, dtype=torch.long), pad_id=0)
