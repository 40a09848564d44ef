"""Positions: equal to independent implementations of the papers' formulas."""

from __future__ import annotations

import cmath
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lmlib._tap import tracing
from lmlib.positions import (
    LearnedPositionalEmbedding,
    RelativePositionBias,
    RotaryEmbedding,
    SinusoidalPositionalEncoding,
    sinusoidal_table,
)

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
DEVICES = ["cpu", "meta", *(["cuda"] if torch.cuda.is_available() else [])]

# --- sinusoidal ----------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 12),
    d_model=st.integers(1, 11),
    base=st.sampled_from([10000.0, 100.0]),
    offset=st.integers(0, 5000),
)
def test_table_is_the_formula(n: int, d_model: int, base: float, offset: int) -> None:
    wanted = [
        [
            (math.cos if column % 2 else math.sin)(
                position / base ** ((column - column % 2) / d_model)
            )
            for column in range(d_model)
        ]
        for position in range(offset, offset + n)
    ]
    table = sinusoidal_table(n, d_model, base, offset=offset, dtype=torch.float64)
    torch.testing.assert_close(table, torch.tensor(wanted, dtype=torch.float64))
    rounded = sinusoidal_table(n, d_model, base, offset=offset)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, table.float(), rtol=0, atol=1e-7)


def test_a_shift_is_the_same_rotation_everywhere() -> None:
    """PE(pos + k) is a linear function of PE(pos), as §3.5 of the paper says."""
    table, k = sinusoidal_table(64, 8, dtype=torch.float64), 7
    frequencies = 10000.0 ** (-torch.arange(0, 8, 2, dtype=torch.float64) / 8)
    cos, sin = (k * frequencies).cos(), (k * frequencies).sin()
    s, c = table[:-k, 0::2], table[:-k, 1::2]
    torch.testing.assert_close(table[k:, 0::2], s * cos + c * sin)
    torch.testing.assert_close(table[k:, 1::2], c * cos - s * sin)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_sinusoidal_adds_the_rows_from_offset(dtype: torch.dtype, device: str) -> None:
    layer = SinusoidalPositionalEncoding(6, max_seq_len=9).to(device, dtype)
    x = torch.randn(2, 4, 6).to(device, dtype)
    output = layer(x, offset=5)
    assert (output.shape, output.dtype, output.device.type) == (x.shape, dtype, device)
    assert not list(layer.parameters())
    assert not layer.state_dict()
    if device == "meta":
        return
    rows = sinusoidal_table(9, 6, dtype=torch.float64, device=device)[5:].to(dtype)
    assert torch.equal(output, x + rows)


def test_learned_adds_its_rows_and_learns_those() -> None:
    layer = LearnedPositionalEmbedding(9, 6)
    x = torch.randn(2, 4, 6)
    output = layer(x, offset=3)
    assert torch.equal(output, x + layer.weight[3:7])
    output.sum().backward()
    assert layer.weight.grad is not None
    assert (layer.weight.grad[3:7] == 2).all()  # once for each sequence of the batch
    assert not layer.weight.grad[:3].any()
    assert not layer.weight.grad[7:].any()
    assert 0.015 < LearnedPositionalEmbedding(500, 20).weight.std() < 0.025


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_learned_on_any_device_and_dtype(dtype: torch.dtype, device: str) -> None:
    layer = LearnedPositionalEmbedding(9, 6).to(device, dtype)
    x = torch.randn(2, 4, 6).to(device, dtype)
    assert (layer(x).dtype, layer(x).device.type) == (dtype, device)


@pytest.mark.parametrize(
    "layer", [SinusoidalPositionalEncoding(6, 9, 0.5), LearnedPositionalEmbedding(9, 6, 0.5)]
)
def test_added_positions_tap_drop_out_and_refuse(layer: nn.Module) -> None:
    x, seen = torch.randn(2, 4, 6), {}
    with tracing(layer, lambda name, tensor: seen.update({name: tensor})):
        output = layer(x)
    assert list(seen) == ["positional", "output"]
    assert seen["positional"].shape == (4, 6)
    assert seen["output"] is output
    dropped = output == 0
    assert dropped.any()
    assert not dropped.all()
    torch.testing.assert_close(output[~dropped], 2 * (x + seen["positional"])[~dropped])
    assert torch.equal(layer.eval()(x), x + seen["positional"])

    with pytest.raises(ValueError, match="max_seq_len=9, got offset=6 and 4 positions"):
        layer(x, offset=6)
    with pytest.raises(ValueError, match="offset must not be negative, got -1"):
        layer(x, offset=-1)
    with pytest.raises(ValueError, match=r"x must have shape .* d_model=6, got \(2, 4, 5\)"):
        layer(x[..., :5])
    with pytest.raises(TypeError, match="x must be a floating-point tensor"):
        layer(x.long())


# --- rotary --------------------------------------------------------------------------------


def rotate_as_complex(x: Tensor, offset: int, base: float, interleaved: bool) -> Tensor:
    """RoFormer eq. 12 to 14 in complex numbers, one number after the other."""
    n, d = x.shape
    out = torch.empty_like(x)
    for row in range(n):
        for i in range(d // 2):
            first, second = (2 * i, 2 * i + 1) if interleaved else (i, i + d // 2)
            number = complex(x[row, first], x[row, second])
            turned = number * cmath.exp(1j * (offset + row) * base ** (-2 * i / d))
            out[row, first], out[row, second] = turned.real, turned.imag
    return out


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 5),
    pairs=st.integers(1, 4),
    offset=st.integers(0, 2000),
    base=st.sampled_from([10000.0, 500.0]),
    interleaved=st.booleans(),
    seed=st.integers(0, 99),
)
def test_rotary_is_a_complex_product(
    n: int, pairs: int, offset: int, base: float, interleaved: bool, seed: int
) -> None:
    x = torch.randn(
        n, 2 * pairs, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    rotary = RotaryEmbedding(2 * pairs, base=base, interleaved=interleaved)
    got = rotary(x.expand(2, 3, -1, -1), offset)
    wanted = rotate_as_complex(x, offset, base, interleaved)
    torch.testing.assert_close(got, wanted.expand(2, 3, -1, -1))
    torch.testing.assert_close(got.norm(dim=-1), x.norm(dim=-1).expand(2, 3, -1))
    torch.testing.assert_close(rotary(x.float(), offset), wanted.float(), rtol=1e-5, atol=1e-6)


def test_halves_are_the_usual_rotate_half() -> None:
    x = torch.randn(2, 4, 7, 8, dtype=torch.float64)
    frequencies = 10000.0 ** (-torch.arange(0, 8, 2, dtype=torch.float64) / 8)
    angles = torch.outer(torch.arange(7, dtype=torch.float64), frequencies).repeat(1, 2)
    rotate_half = torch.cat([-x[..., 4:], x[..., :4]], dim=-1)
    torch.testing.assert_close(RotaryEmbedding(8)(x), x * angles.cos() + rotate_half * angles.sin())


def test_the_two_pairings_differ_by_a_permutation() -> None:
    x = torch.randn(3, 5, 8)
    order = torch.tensor([0, 2, 4, 6, 1, 3, 5, 7])  # neighbours → halves
    neighbours = RotaryEmbedding(8, interleaved=True)(x)
    torch.testing.assert_close(RotaryEmbedding(8)(x[..., order]), neighbours[..., order])
    assert not torch.allclose(RotaryEmbedding(8)(x), neighbours)


@pytest.mark.parametrize("interleaved", [True, False])
def test_scores_depend_on_the_distance_alone(interleaved: bool) -> None:
    rotary = RotaryEmbedding(16, interleaved=interleaved)
    query, key = torch.randn(2, 1, 16, dtype=torch.float64)

    def score(m: int, n: int) -> Tensor:
        return (rotary(query, m) @ rotary(key, n).mT).squeeze()

    torch.testing.assert_close(score(12, 5), score(3007, 3000))
    torch.testing.assert_close(score(40, 40), (query @ key.mT).squeeze())
    assert not torch.isclose(score(12, 5), score(5, 12))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_rotary_on_any_device_and_dtype(dtype: torch.dtype, device: str) -> None:
    rotary, x = RotaryEmbedding(8).to(device, dtype), torch.randn(2, 3, 5, 8).to(device, dtype)
    output = rotary(x, 4000)
    assert (output.shape, output.dtype, output.device.type) == (x.shape, dtype, device)
    if device != "meta":  # angles are not rounded to the dtype of x
        torch.testing.assert_close(output, rotary(x.double(), 4000).to(dtype))


# --- relative ------------------------------------------------------------------------------


def brute_force_bucket(relative: int, num_buckets: int, far: int, bidirectional: bool) -> int:
    """T5's rule for one pair: ``relative`` is the key's position minus the query's."""
    first = 0
    if bidirectional:
        num_buckets //= 2
        first = num_buckets if relative > 0 else 0
        distance = abs(relative)
    else:
        distance = max(-relative, 0)
    exact = num_buckets // 2
    if distance < exact:
        return first + distance
    share = math.log(distance / exact) / math.log(far / exact)
    # The logarithm of a whole power may come out a hair too low.
    steps = math.floor(share * (num_buckets - exact) + 1e-9)
    return first + min(exact + steps, num_buckets - 1)


@settings(max_examples=40, deadline=None)
@given(
    half=st.integers(2, 20),
    extra=st.integers(1, 200),
    bidirectional=st.booleans(),
    n_q=st.integers(1, 6),
    n_k=st.integers(1, 6),
    offset=st.integers(0, 300),
)
def test_bias_is_t5s_rule(
    half: int, extra: int, bidirectional: bool, n_q: int, n_k: int, offset: int
) -> None:
    num_buckets = 2 * half if bidirectional else half
    far = half // 2 + extra
    layer = RelativePositionBias(3, num_buckets, far, bidirectional)
    bias = layer(n_q, n_k, offset)
    assert bias.shape == (1, 3, n_q, n_k)
    for i in range(n_q):
        for j in range(n_k):
            bucket = brute_force_bucket(j - i - offset, num_buckets, far, bidirectional)
            assert torch.equal(bias[0, :, i, j], layer.embedding.weight[bucket])


@pytest.mark.parametrize("bidirectional", [True, False])
def test_buckets_of_t5(bidirectional: bool) -> None:
    layer = RelativePositionBias(1, bidirectional=bidirectional)
    relative = torch.arange(-300, 301)
    buckets = layer.buckets(relative)
    wanted = [brute_force_bucket(int(r), 32, 128, bidirectional) for r in relative]
    assert buckets.tolist() == wanted
    # Bucket 16 is that of keys at distance 0 to the right: T5's rule leaves it without a use.
    assert set(buckets.tolist()) == set(range(32)) - ({16} if bidirectional else set())


def test_bias_of_a_chunk_is_a_slice_of_the_whole() -> None:
    layer = RelativePositionBias(2, 8, 10)
    assert torch.equal(layer(3, 9, offset=6), layer(9, 9)[:, :, 6:])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_relative_on_any_device_and_dtype(dtype: torch.dtype, device: str) -> None:
    bias = RelativePositionBias(2).to(device, dtype)(3, 4)
    assert (bias.shape, bias.dtype, bias.device.type) == ((1, 2, 3, 4), dtype, device)


def test_every_bucket_gets_a_gradient() -> None:
    layer = RelativePositionBias(2, bidirectional=False)
    layer(200, 200).sum().backward()
    assert layer.embedding.weight.grad is not None
    assert layer.embedding.weight.grad.all()


# --- errors --------------------------------------------------------------------------------


def test_errors() -> None:
    with pytest.raises(ValueError, match="d_model must be at least 1, got 0"):
        SinusoidalPositionalEncoding(0)
    with pytest.raises(TypeError, match="max_seq_len must be an int, got float"):
        sinusoidal_table(4.0, 8)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="base must be above 0, got -1"):
        sinusoidal_table(4, 8, -1.0)
    with pytest.raises(ValueError, match=r"dropout must be at least 0 and below 1, got 1\.5"):
        LearnedPositionalEmbedding(4, 8, dropout=1.5)
    with pytest.raises(ValueError, match="d_head must be even"):
        RotaryEmbedding(7)
    with pytest.raises(ValueError, match=r"x must have shape .* d_head=8, got \(2, 3, 6\)"):
        RotaryEmbedding(8)(torch.zeros(2, 3, 6))
    with pytest.raises(ValueError, match="max_seq_len=2, got offset=0 and 3 positions"):
        RotaryEmbedding(8, max_seq_len=2)(torch.zeros(2, 3, 8))
    with pytest.raises(ValueError, match="num_buckets must be an even number from 4, got 7"):
        RelativePositionBias(2, num_buckets=7)
    with pytest.raises(ValueError, match="num_buckets must be at least 2, got 1"):
        RelativePositionBias(2, num_buckets=1, bidirectional=False)
    with pytest.raises(ValueError, match="max_distance must be above 8"):
        RelativePositionBias(2, max_distance=8)
    with pytest.raises(ValueError, match="n_k must be at least 1, got 0"):
        RelativePositionBias(2)(3, 0)


# ------------------------------------------------------------------ the kept table


def fresh(rotary: RotaryEmbedding) -> RotaryEmbedding:
    """The same without a table."""
    return RotaryEmbedding(
        rotary.d_head, rotary.max_seq_len, rotary.base, interleaved=rotary.interleaved
    )


@pytest.mark.parametrize("interleaved", [True, False])
def test_a_kept_table_changes_nothing(interleaved: bool) -> None:
    kept = RotaryEmbedding(6, max_seq_len=50, interleaved=interleaved)
    calls = [(0, 3, torch.float32), (3, 1, torch.float32), (0, 40, torch.float64)]
    calls += [(20, 30, torch.bfloat16), (0, 2, torch.float64), (0, 50, torch.float32)]
    for offset, n, dtype in calls:
        x = torch.randn(2, 3, n, 6, dtype=dtype)
        assert torch.equal(kept(x, offset), fresh(kept)(x, offset))
        assert kept(x.to("meta"), offset).is_meta
        at = torch.arange(offset, offset + n).expand(2, n)
        torch.testing.assert_close(kept(x, positions=at), kept(x, offset))
    assert not kept.state_dict()


def test_a_table_made_without_gradients_serves_training() -> None:
    rotary, x = RotaryEmbedding(4), torch.randn(1, 2, 3, 4, requires_grad=True)
    with torch.inference_mode():
        rotary(x.detach())
    rotary(x).sum().backward()
    assert x.grad is not None


def test_a_fake_table_is_not_kept() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    rotary = RotaryEmbedding(4)
    with FakeTensorMode() as mode:
        rotary(mode.from_tensor(torch.randn(1, 2, 3, 4)))
    x = torch.randn(1, 2, 3, 4)
    assert torch.equal(rotary(x), fresh(rotary)(x))


def test_rotary_positions_of_each_row() -> None:
    rotary, x = RotaryEmbedding(4, max_seq_len=9), torch.randn(2, 3, 2, 4)
    got = rotary(x, positions=torch.tensor([[5, 8], [0, 3]]))
    for row, places in enumerate([[5, 8], [0, 3]]):
        for i, place in enumerate(places):
            wanted = rotary(x[row : row + 1, :, i : i + 1], place)
            torch.testing.assert_close(got[row : row + 1, :, i : i + 1], wanted)
    with pytest.raises(ValueError, match="positions must hold ids from 0 to 8, got 9"):
        rotary(x, positions=torch.tensor([[5, 9], [0, 3]]))
    with pytest.raises(ValueError, match="x must have shape"):
        rotary(x[0], positions=torch.tensor([[5, 8]]))
    with pytest.raises(ValueError, match="base must be above 0, got 0"):
        RotaryEmbedding(4, base=0.0)


@pytest.mark.parametrize("interleaved", [True, False])
def test_sinusoids_of_each_row(interleaved: bool) -> None:
    layer = SinusoidalPositionalEncoding(5, max_seq_len=9, interleaved=interleaved)
    table = sinusoidal_table(9, 5, interleaved=interleaved)
    at = torch.tensor([[5, 8, 0], [0, 3, 1]])
    x = torch.randn(2, 3, 5)
    torch.testing.assert_close(layer(x, positions=at), x + table[at])


def test_relative_bias_at_positions() -> None:
    bias = RelativePositionBias(3, 8, 16)
    torch.testing.assert_close(
        bias(2, 5, 3, positions=torch.arange(5).expand(2, 5)), bias(2, 5, 3).expand(2, 3, 2, 5)
    )
    at = torch.tensor([[0, 2, 7]])
    wide = bias(8, 8)
    torch.testing.assert_close(bias(3, 3, positions=at), wide[:, :, at[0]][..., at[0]])
