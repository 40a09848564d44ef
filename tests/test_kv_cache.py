"""The cache: token by token equals all at once, and misuse is refused."""

from __future__ import annotations

import contextlib
import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lmlib.attention import KVCache, MultiHeadAttention, causal_mask, padding_mask
from lmlib.positions import RelativePositionBias, RotaryEmbedding

LAYERS = {
    "plain": {},
    "grouped": {"num_kv_heads": 2},
    "rotary": {"rotary": RotaryEmbedding(4)},
    "rotary, neighbours, one key head": {
        "rotary": RotaryEmbedding(4, interleaved=True),
        "num_kv_heads": 1,
    },
    "relative": {
        "position_bias": RelativePositionBias(4, 8, 12, bidirectional=False),
        "num_kv_heads": 2,
    },
    "relative, both directions": {"position_bias": RelativePositionBias(4, 8, 12)},
}


def build(name: str) -> MultiHeadAttention:
    torch.manual_seed(5)
    layer = MultiHeadAttention(16, 4, **LAYERS[name]).double()  # type: ignore[arg-type]
    if layer.position_bias is not None:
        torch.nn.init.normal_(layer.position_bias.embedding.weight)
    return layer


def random(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("chunks", [[1] * 9, [4, 1, 3, 1], [9]])
@pytest.mark.parametrize("name", LAYERS)
def test_cache_equals_no_cache(name: str, chunks: list[int], need_weights: bool) -> None:
    layer, x, cache = build(name), random(2, 9, 16), KVCache()
    wanted, wanted_weights = layer(x, mask=causal_mask(9), need_weights=True)
    parts = []
    for chunk in x.split(chunks, dim=1):
        n_q, n_k = chunk.shape[1], cache.length + chunk.shape[1]
        mask = causal_mask(n_q, n_k)
        output, weights = layer(chunk, mask=mask, need_weights=need_weights, cache=cache)
        parts.append(output)
        if weights is not None:
            torch.testing.assert_close(weights, wanted_weights[:, :, n_k - n_q : n_k, :n_k])
    assert cache.length == 9
    torch.testing.assert_close(torch.cat(parts, dim=1), wanted)


def test_one_token_needs_no_mask() -> None:
    layer, x, cache = build("rotary"), random(2, 5, 16), KVCache()
    wanted, _ = layer(x, mask=causal_mask(5))
    parts = [layer(x[:, i : i + 1], cache=cache)[0] for i in range(5)]
    torch.testing.assert_close(torch.cat(parts, dim=1), wanted)


@pytest.mark.parametrize("name", LAYERS)
def test_gradient_through_the_cache(name: str) -> None:
    layer, x, cache = build(name), random(1, 4, 16), KVCache()
    whole = layer(x, mask=causal_mask(4))[0].sin().sum()
    steps = sum(layer(x[:, i : i + 1], cache=cache)[0].sin().sum() for i in range(4))
    parameters = list(layer.parameters())
    for a, b in zip(
        torch.autograd.grad(steps, parameters),
        torch.autograd.grad(whole, parameters),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_padding_on_the_left_with_a_cache() -> None:
    layer, cache = build("rotary"), KVCache()
    x = random(1, 4, 16)
    padded = torch.cat([random(1, 3, 16), x], dim=1)
    ids = torch.tensor([[0, 0, 0, 7, 7, 7, 7]])
    wanted, _ = layer(x, mask=causal_mask(4))
    parts = []
    for i in range(7):
        mask = padding_mask(ids[:, : i + 1], pad_id=0)
        parts.append(layer(padded[:, i : i + 1], mask=mask, cache=cache)[0])
    torch.testing.assert_close(torch.cat(parts[3:], dim=1), wanted)


@pytest.mark.parametrize("name", ["plain", "grouped"])
def test_static_cache_projects_the_memory_once(name: str) -> None:
    layer, x, memory = build(name), random(2, 3, 16), random(2, 5, 16)
    calls: list[None] = []
    layer.W_K.register_forward_hook(lambda *_: calls.append(None))
    mask = padding_mask(torch.tensor([[7, 7, 7, 0, 0], [7, 7, 7, 7, 7]]), pad_id=0)
    wanted, wanted_weights = layer(x, memory, mask=mask, need_weights=True)
    cache = KVCache(static=True)
    for i in range(3):
        output, weights = layer(x[:, i : i + 1], memory, mask=mask, need_weights=True, cache=cache)
        torch.testing.assert_close(output, wanted[:, i : i + 1])
        torch.testing.assert_close(weights, wanted_weights[:, :, i : i + 1])
    assert cache.length == 5
    assert len(calls) == 2


@pytest.mark.parametrize("length", [0, 2, 5])
def test_crop_goes_back(length: int) -> None:
    layer, x, cache = build("rotary"), random(2, 5, 16), KVCache()
    layer(x, mask=causal_mask(5), cache=cache)
    cache.crop(length)
    assert cache.length == length
    new = random(2, 1, 16)
    wanted, _ = layer(torch.cat([x[:, :length], new], dim=1), mask=causal_mask(length + 1))
    torch.testing.assert_close(layer(new, cache=cache)[0], wanted[:, -1:])


@pytest.mark.parametrize("static", [True, False])
def test_reorder_follows_the_beams(static: bool) -> None:
    layer, x, cache = build("plain"), random(2, 4, 16), KVCache(static=static)
    layer(x, mask=causal_mask(4), cache=cache)
    order = torch.tensor([1, 1, 0])
    cache.reorder(order)
    new = random(3, 1, 16)
    memory = x[order] if static else torch.cat([x[order], new], dim=1)
    wanted, _ = layer(new, memory)
    got, _ = layer(new, memory if static else None, cache=cache)
    torch.testing.assert_close(got, wanted)


def test_an_empty_cache() -> None:
    cache = KVCache()
    assert (cache.length, repr(cache)) == (0, "KVCache(length=0, static=False)")
    cache.crop(0)
    cache.reorder(torch.tensor([0, 0]))
    assert cache.key is None


def filled(**kwargs: bool) -> KVCache:
    cache = KVCache(**kwargs)
    cache.append(torch.zeros(2, 4, 3, 8), torch.zeros(2, 4, 3, 8))
    return cache


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((1, 4, 1, 8), torch.float32, r"key must continue the cached \(2, 4, 3, 8\)"),
        ((2, 2, 1, 8), torch.float32, "key must continue the cached"),
        ((2, 4, 1, 6), torch.float32, "key must continue the cached"),
        ((2, 4, 1, 8), torch.float64, "got .* torch.float64"),
        ((2, 4, 8), torch.float32, "key must have shape"),
    ],
)
def test_what_does_not_continue(shape: tuple[int, ...], dtype: torch.dtype, message: str) -> None:
    cache = filled()
    new = torch.zeros(shape, dtype=dtype)
    with pytest.raises(ValueError, match=message):
        cache.append(new, new)
    assert cache.length == 3


def test_misuse() -> None:
    new = torch.zeros(2, 4, 1, 8)
    with pytest.raises(ValueError, match="n_new=1"):
        filled().append(new, torch.zeros(2, 4, 2, 8))
    with pytest.raises(ValueError, match="static cache is filled once"):
        filled(static=True).append(new, new)
    with pytest.raises(ValueError, match="cannot be cropped"):
        filled(static=True).crop(1)
    with pytest.raises(ValueError, match="length must be at most the 3 stored, got 4"):
        filled().crop(4)
    with pytest.raises(ValueError, match="length must not be negative, got -1"):
        filled().crop(-1)
    with pytest.raises(ValueError, match="indices must hold ids from 0 to 1, got 2"):
        filled().reorder(torch.tensor([0, 2]))
    with pytest.raises(TypeError, match="indices must hold integer"):
        filled().reorder(torch.tensor([0.0]))


def test_misuse_in_a_layer() -> None:
    x, memory = random(2, 1, 16), random(2, 5, 16)
    for name in ("rotary", "relative"):
        with pytest.raises(ValueError, match="static cache does not say where the queries stand"):
            build(name)(x, memory, cache=KVCache(static=True))
    layer, cache = build("plain"), KVCache(static=True)
    layer(x, memory, cache=cache)
    with pytest.raises(ValueError, match=r"key must be the memory .*=\(2, 5\), got \(2, 4\)"):
        layer(x, memory[:, :4], cache=cache)
    short = MultiHeadAttention(16, 4, rotary=RotaryEmbedding(4, max_seq_len=3)).double()
    growing = KVCache()
    for _ in range(3):
        short(x, cache=growing)
    with pytest.raises(ValueError, match="max_seq_len=3, got offset=3 and 1 positions"):
        short(x, cache=growing)
    assert growing.length == 3
    with pytest.raises(ValueError, match=r"mask must be broadcastable to \(2, 4, 1, 4\)"):
        layer(x, mask=causal_mask(3), cache=growing)


# ------------------------------------------------------------------ buffers with room to spare

MODES = {
    "grad": contextlib.nullcontext,
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
}
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["append", "append", "append", "crop", "reorder", "copy", "deepcopy"]),
        st.integers(0, 40),
        st.sampled_from(sorted(MODES)),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, seed=st.integers(0, 2**16))
def test_any_history_equals_concatenation(steps: list[tuple[str, int, str]], seed: int) -> None:
    """Against a plain list of tensors; and nothing that was ever returned may change."""
    generator = torch.Generator().manual_seed(seed)
    cache, plain = KVCache(), torch.empty(2, 3, 0, 4)
    returned: list[tuple[Tensor, Tensor]] = []
    others: list[tuple[KVCache, Tensor]] = []

    def look(tensor: Tensor | None) -> None:
        if tensor is not None:
            returned.append((tensor, tensor.clone()))

    for action, number, mode in steps:
        with MODES[mode]():
            if action == "append":
                new = torch.randn(len(plain), 3, 1 + number % 5, 4, generator=generator)
                plain = torch.cat([plain, new], dim=2)
                key, value = cache.append(new, -new)
                look(key)
                assert torch.equal(key, plain)
                assert torch.equal(value, -plain)
            elif action == "crop":
                length = number % (cache.length + 1)
                cache.crop(length)
                plain = plain[:, :, :length]
            elif action == "reorder":
                order = torch.randint(len(plain), (1 + number % 3,), generator=generator)
                cache.reorder(order)
                if cache.length:
                    plain = plain[order]
            else:
                twin = getattr(copy, action)(cache)
                others.append((cache, plain))
                cache = twin
            if not cache.length:
                plain = plain[:, :, :0]
            assert cache.length == plain.shape[2]
            look(cache.key)
            if cache.key is not None:
                assert torch.equal(cache.key, plain)
                assert torch.equal(cache.value, -plain)
    for other, content in others:
        # A copy went on by itself; what it came from still can.
        if other.length:
            new = torch.zeros(len(content), 3, 1, 4)
            with torch.inference_mode():
                other.append(new, new)
            assert torch.equal(other.key, torch.cat([content, new], dim=2))
    for tensor, before in returned:
        assert torch.equal(tensor, before)


def test_without_gradients_old_positions_stay_where_they_are() -> None:
    with torch.no_grad():
        cache = filled()
        cache.append(torch.ones(2, 4, 1, 8), torch.ones(2, 4, 1, 8))
        places = set()
        for _ in range(20):
            key, value = cache.append(torch.ones(2, 4, 1, 8), torch.ones(2, 4, 1, 8))
            places.add((key.data_ptr(), value.data_ptr()))
        assert len(places) == 1
        assert key.data_ptr() != value.data_ptr()


def test_the_room_to_spare_stays_below_half() -> None:
    with torch.no_grad():
        cache = filled()
        places = set()
        for length in range(4, 400):
            key, _ = cache.append(torch.ones(2, 4, 1, 8), torch.ones(2, 4, 1, 8))
            places.add(key.data_ptr())
            held = key.untyped_storage().nbytes() / (2 * 4 * 8 * 4)
            assert held <= max(1.5 * length, length + 32) + 1
        assert len(places) < 12


def test_frozen_keys_and_a_query_that_learns() -> None:
    # The keys need no gradient, but autograd keeps them for the query's.
    cache, loss = filled(), torch.zeros(())
    query = torch.randn(2, 4, 1, 8, requires_grad=True)
    for _ in range(3):
        key, value = cache.append(torch.randn(2, 4, 1, 8), torch.randn(2, 4, 1, 8))
        loss = loss + ((query @ key.mT).softmax(-1) @ value).sum()
    loss.backward()
    assert query.grad.abs().max() > 0


def test_what_is_appended_first_is_not_written_to() -> None:
    with torch.no_grad():
        cache, new = KVCache(), torch.zeros(1, 1, 2, 4)
        whole = torch.zeros(1, 1, 8, 4)
        cache.append(whole[:, :, :2], whole[:, :, :2])
        cache.append(new + 1, new + 1)
    assert not whole.any()


def test_key_and_value_cannot_be_set() -> None:
    with pytest.raises(AttributeError):
        KVCache().key = torch.zeros(1, 1, 1, 1)  # type: ignore[misc]
