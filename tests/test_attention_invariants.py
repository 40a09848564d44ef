"""Invariants of attention, for each kind of layer: what no comparison with torch can show."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmlib._tap import tracing
from lmlib.attention import (
    MultiHeadAttention,
    causal_mask,
    padding_mask,
    scaled_dot_product_attention,
)
from lmlib.positions import RelativePositionBias, RotaryEmbedding

VARIANTS: list[dict[str, object]] = [
    {},
    {"bias": False, "d_head": 6},
    {"num_kv_heads": 2},
    {"num_kv_heads": 1, "rotary": "rotary"},
    {"position_bias": "position_bias"},
]
PADDING = padding_mask(torch.tensor([[5, 6, 0, 0, 0], [5, 6, 7, 8, 9]]), pad_id=0)
HALF = [torch.float16, torch.bfloat16]
DEVICES = ["cpu", "meta", *(["cuda"] if torch.cuda.is_available() else [])]


def build(variant: dict[str, object], d_model: int = 16, num_heads: int = 4) -> MultiHeadAttention:
    """A layer of one of VARIANTS, its biases away from zero."""
    torch.manual_seed(3)
    made = dict(variant)
    if "rotary" in made:
        made["rotary"] = RotaryEmbedding(d_model // num_heads)
    if "position_bias" in made:
        made["position_bias"] = RelativePositionBias(num_heads, num_buckets=8, max_distance=16)
    layer = MultiHeadAttention(d_model, num_heads, **made)  # type: ignore[arg-type]
    for name, parameter in layer.named_parameters():
        if name.endswith("bias") or "position_bias" in name:
            nn.init.normal_(parameter)
    return layer


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_look_at_the_future(variant: dict[str, object]) -> None:
    layer = build(variant).double()
    x = torch.randn(1, 5, 16, dtype=torch.float64)
    mask = causal_mask(5)
    jacobian = torch.autograd.functional.jacobian(lambda x: layer(x, mask=mask)[0], x)
    influence = jacobian.abs().amax(dim=(0, 2, 3, 5))  # (n_out, n_in)
    assert torch.equal(influence > 0, mask)

    changed = x.clone()
    changed[:, 3:] += 10.0
    before, after = layer(x, mask=mask)[0], layer(changed, mask=mask)[0]
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.isclose(before[:, 3:], after[:, 3:]).any()


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_changes_nothing(variant: dict[str, object]) -> None:
    layer = build(variant)
    x = torch.randn(1, 3, 16)
    padded = torch.cat([x, torch.randn(1, 4, 16) * 100], dim=1)
    mask = padding_mask(torch.tensor([[5, 6, 7, 0, 0, 0, 0]]), pad_id=0)
    alone, with_padding = layer(x)[0], layer(padded, mask=mask)[0][:, :3]
    torch.testing.assert_close(with_padding, alone)
    assert not torch.allclose(layer(padded)[0][:, :3], alone)


def test_permutation_equivariance_without_positions_and_only_then() -> None:
    x, order = torch.randn(2, 6, 16), torch.tensor([4, 0, 5, 2, 1, 3])
    for variant in VARIANTS:
        layer = build(variant)
        equal = torch.allclose(layer(x[:, order])[0], layer(x)[0][:, order], atol=1e-5)
        assert equal == ("rotary" not in variant and "position_bias" not in variant)


@pytest.mark.parametrize("variant", VARIANTS)
def test_fused_path_is_the_plain_path(variant: dict[str, object]) -> None:
    layer, x = build(variant), torch.randn(2, 5, 16)
    for mask in (None, causal_mask(5), PADDING):
        fused, none = layer(x, mask=mask)
        plain, weights = layer(x, mask=mask, need_weights=True)
        assert none is None
        assert weights.shape == (2, 4, 5, 5)
        torch.testing.assert_close(fused, plain)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_gets_a_gradient(variant: dict[str, object]) -> None:
    layer = build(variant)
    output, _ = layer(torch.randn(2, 20, 16))
    output.square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        if name != "W_K.bias":  # the same for every key: softmax does not see it
            assert parameter.grad.abs().max() > 1e-6, name


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("dtype", HALF)
def test_huge_scores_stay_finite_in_half_precision(dtype: torch.dtype, need_weights: bool) -> None:
    torch.manual_seed(1)
    query, key, value = (torch.randn(1, 2, 5, 64) * size for size in (300.0, 300.0, 1.0))
    query, key, value = (tensor.to(dtype).requires_grad_() for tensor in (query, key, value))
    assert (query.float() @ key.float().mT).abs().max() > torch.finfo(torch.float16).max
    output, _ = scaled_dot_product_attention(
        query, key, value, causal_mask(5), need_weights=need_weights
    )
    exact, _ = scaled_dot_product_attention(
        query.double(), key.double(), value.double(), causal_mask(5)
    )
    torch.testing.assert_close(output.double(), exact, rtol=0.02, atol=0.02)
    assert all(g.isfinite().all() for g in torch.autograd.grad(output.sum(), [query, key, value]))


@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_trains_with_the_gradients_of_float32(
    dtype: torch.dtype, with_bias: bool, autocast: bool
) -> None:
    torch.manual_seed(0)
    narrow = [torch.randn(2, 4, 6, 8, dtype=dtype, requires_grad=True) for _ in "QKV"]
    wide = [tensor.detach().float().requires_grad_() for tensor in narrow]
    bias = torch.randn(1, 4, 6, 6) if with_bias else None
    seen: list[torch.dtype] = []
    fused = F.scaled_dot_product_attention

    def spy(query: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        seen.append(query.dtype)
        return fused(query, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "scaled_dot_product_attention", spy)
        with torch.autocast("cpu", dtype, enabled=autocast):
            output, _ = scaled_dot_product_attention(*narrow, causal=True, bias=bias)
            with torch.no_grad():
                scaled_dot_product_attention(*narrow, causal=True)
    # In training by way of float32, which is faster on a CPU; without gradients as it is.
    assert seen == [torch.float32, dtype]
    assert output.dtype == dtype
    expected, _ = scaled_dot_product_attention(*wide, causal=True, bias=bias)
    tolerance = 2 * torch.finfo(dtype).eps
    torch.testing.assert_close(output.float(), expected, rtol=tolerance, atol=tolerance)
    output.float().square().sum().backward()
    expected.square().sum().backward()
    for mine, other in zip(narrow, wide, strict=True):
        assert mine.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(mine.grad.float(), other.grad, rtol=0.05, atol=8 * tolerance)


def test_autocast_does_not_bring_the_overflow_back() -> None:
    torch.manual_seed(1)
    layer = MultiHeadAttention(64, 1)
    x = torch.randn(1, 4, 64) * 300
    with torch.autocast("cpu", dtype=torch.float16):
        plain, weights = layer(x, need_weights=True)
        fused, _ = layer(x)
    assert plain.dtype == fused.dtype == torch.float16
    assert plain.isfinite().all()
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights.sum(-1)))
    torch.testing.assert_close(plain, fused, rtol=0.01, atol=1.0)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALF])
def test_any_device_and_dtype(dtype: torch.dtype, device: str) -> None:
    for variant, need_weights in itertools.product(VARIANTS, (True, False)):
        layer = build(variant).to(device, dtype)
        x = torch.randn(2, 5, 16, dtype=dtype, device=device)
        mask = causal_mask(5, device=device)
        output, weights = layer(x, mask=mask, need_weights=need_weights)
        memory, _ = layer(x[:, :2], x, need_weights=need_weights)
        assert (output.shape, output.dtype, output.device) == (x.shape, dtype, x.device)
        assert memory.shape == (2, 2, 16)
        if weights is not None:
            assert (weights.shape, weights.dtype) == ((2, 4, 5, 5), dtype)
        if device != "meta":
            exact = build(variant).to(device, torch.float64)(x.double(), mask=mask)[0]
            torch.testing.assert_close(output.double(), exact, rtol=0.05, atol=0.1)


def test_compiles_into_one_graph() -> None:
    layer, x = build(VARIANTS[3]), torch.randn(2, 5, 16)
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    torch.testing.assert_close(
        compiled(x, mask=causal_mask(5))[0], layer(x, mask=causal_mask(5))[0]
    )


@pytest.mark.parametrize("variant", VARIANTS[3:])
def test_exports_with_dynamic_shapes(variant: dict[str, object]) -> None:
    class Causal(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = build(variant)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x, mask=causal_mask(x.shape[1]))[0]

    shapes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("n", max=64)}
    model = Causal()
    exported = torch.export.export(model, (torch.randn(2, 5, 16),), dynamic_shapes=(shapes,))
    x = torch.randn(3, 7, 16)
    torch.testing.assert_close(exported.module()(x), model(x))


@pytest.mark.parametrize("tapped", [True, False])
def test_dropout_drops_weights_and_scales_the_rest(tapped: bool) -> None:
    torch.manual_seed(0)
    query, value = torch.randn(1, 2, 50, 4), torch.eye(50).expand(1, 2, 50, 50)
    key = torch.randn(1, 2, 50, 4)
    _, weights = scaled_dot_product_attention(query, key, value, need_weights=True)
    with tracing(None, lambda name, tensor: None) if tapped else torch.enable_grad():
        dropped, _ = scaled_dot_product_attention(query, key, value, dropout_p=0.25)
    kept = dropped != 0
    assert 0.7 < kept.float().mean() < 0.8
    torch.testing.assert_close(dropped[kept], weights[kept] / 0.75)


def test_dropout_acts_in_training_only_and_spares_the_weights_returned() -> None:
    layer, x = MultiHeadAttention(16, 4, dropout=0.5), torch.randn(2, 9, 16)
    training, weights = layer(x, need_weights=True)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 9))
    layer.eval()
    assert not torch.allclose(training, layer(x)[0])
    assert torch.equal(layer(x)[0], layer(x)[0])


def test_heads_may_be_missing() -> None:
    query, key, value = torch.randn(3, 4), torch.randn(5, 4), torch.randn(5, 2)
    wanted = torch.softmax(query @ key.T / 2, dim=-1)
    output, weights = scaled_dot_product_attention(query, key, value, need_weights=True)
    torch.testing.assert_close(weights, wanted)
    torch.testing.assert_close(output, wanted @ value)
    torch.testing.assert_close(scaled_dot_product_attention(query, key, value)[0], output)


def test_taps_in_order() -> None:
    layer, x, seen = build(VARIANTS[3]), torch.randn(2, 5, 16), {}
    with tracing(layer, lambda name, tensor: seen.update({name: tensor})):
        output, weights = layer(x, mask=causal_mask(5))
    names = "Q K K_rotated V Q_rotated scores masked_scores weights heads concat output"
    assert sorted(seen) == sorted(names.split())
    assert list(seen)[-6:] == names.split()[-6:]
    assert weights is None
    scores = seen["Q_rotated"] @ seen["K_rotated"].mT / 2  # d_head = 4, one key/value head
    torch.testing.assert_close(seen["scores"], scores)
    assert seen["scores"].isfinite().all()
    torch.testing.assert_close(
        seen["masked_scores"], scores.masked_fill(~causal_mask(5), -math.inf)
    )
    torch.testing.assert_close(seen["heads"], seen["weights"] @ seen["V"])
    assert torch.equal(seen["output"], output)


def test_the_position_bias_is_tapped_and_added() -> None:
    layer, seen = build(VARIANTS[4]), {}
    with tracing(layer, lambda name, tensor: seen.update({name: tensor})):
        layer(torch.randn(2, 5, 16))
    assert seen["position_bias"].shape == (1, 4, 5, 5)
    torch.testing.assert_close(seen["masked_scores"], seen["scores"] + seen["position_bias"])


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("n_q", [1, 3, 5])
def test_causal_is_the_causal_mask(variant: dict[str, object], n_q: int) -> None:
    layer, x = build(variant).double(), torch.randn(2, 5, 16, dtype=torch.float64)
    query, everything = x[:, -n_q:], causal_mask(n_q, 5)
    for mask in (None, PADDING, PADDING & causal_mask(5)[-n_q:]):
        both = everything if mask is None else everything & mask
        for need_weights in (False, True):
            got, weights = layer(query, x, mask=mask, causal=True, need_weights=need_weights)
            wanted, wanted_weights = layer(query, x, mask=both, need_weights=need_weights)
            torch.testing.assert_close(got, wanted)
            if weights is not None:
                torch.testing.assert_close(weights, wanted_weights)
        with tracing(None, lambda name, tensor: None):
            torch.testing.assert_close(layer(query, x, mask=mask, causal=True)[0], wanted)


def test_causal_attention_of_bare_tensors() -> None:
    query, key, value = torch.randn(3, 4), torch.randn(5, 4), torch.randn(5, 2)
    wanted = scaled_dot_product_attention(query, key, value, causal_mask(3, 5))[0]
    got = scaled_dot_product_attention(query, key, value, causal=True)[0]
    torch.testing.assert_close(got, wanted)
    # A row that padding leaves empty stays 0 under a causal mask too.
    mask = torch.tensor([[False, True, True, True, True]])
    square = torch.randn(5, 4)
    first = scaled_dot_product_attention(square, square, square, mask, causal=True)[0][0]
    assert not first.any()
    with pytest.raises(ValueError, match="n_k must be at least n_q, got n_q=5, n_k=3"):
        scaled_dot_product_attention(key, query, query, causal=True)
    with pytest.raises(ValueError, match="n_k must be at least n_q, got n_q=5, n_k=2"):
        build(VARIANTS[0])(torch.randn(1, 5, 16), torch.randn(1, 2, 16), causal=True)


@pytest.mark.parametrize("variant", VARIANTS)
def test_positions_of_ones_own(variant: dict[str, object]) -> None:
    layer, x = build(variant).double(), torch.randn(2, 5, 16, dtype=torch.float64)
    torch.testing.assert_close(layer(x, positions=torch.arange(5).expand(2, 5))[0], layer(x)[0])
    # The second row stands behind a gap: as if tokens between were hidden.
    gap = torch.tensor([[0, 1, 2, 3, 4], [0, 1, 4, 5, 6]])
    got = layer(x, positions=gap)[0]
    stretched = torch.cat([x[1:, :2], torch.randn(1, 2, 16).double(), x[1:, 2:]], dim=1)
    mask = torch.tensor([True, True, False, False, True, True, True])
    wanted = layer(stretched, mask=mask)[0][:, mask]
    torch.testing.assert_close(got, torch.cat([layer(x[:1])[0], wanted]))


def test_positions_that_do_not_fit() -> None:
    layer, x = build(VARIANTS[3]), torch.randn(2, 5, 16)
    with pytest.raises(ValueError, match=r"positions must have shape \(batch, n_k\)=\(2, 5\)"):
        layer(x, positions=torch.arange(5)[None])
    with pytest.raises(TypeError, match="positions must hold integer"):
        layer(x, positions=torch.rand(2, 5))
    with pytest.raises(ValueError, match="positions must hold ids from 0 to 4095, got -1"):
        layer(x, positions=torch.arange(-1, 4).expand(2, 5))


@pytest.mark.parametrize("mask", [torch.tensor([True, False, True]), torch.tensor(True)])
def test_masks_of_few_dimensions(mask: torch.Tensor) -> None:
    layer, x = build(VARIANTS[0]), torch.randn(2, 3, 16)
    for causal in (False, True):
        wanted = layer(x, mask=mask.expand(3, 3), causal=causal, need_weights=True)[0]
        torch.testing.assert_close(layer(x, mask=mask, causal=causal)[0], wanted)
        torch.testing.assert_close(layer(x, mask=mask, causal=causal, need_weights=True)[0], wanted)
