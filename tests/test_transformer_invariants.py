"""What must hold of any Transformer: causality, padding, caches, permutations, gradients."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import PAD, VARIANTS
from small_models import random_ids as ids
from small_models import small_transformer as make
from torch_reference import backward

from lmlib._stacks import POSITIONS
from lmlib.transformer import Transformer, TransformerConfig


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_no_position_sees_a_later_one(options: dict[str, Any]) -> None:
    model, source, target_in = make(**options), ids(2, 4), ids(2, 6, seed=1)
    logits = model(source, target_in)
    for position in range(6):
        changed = target_in.clone()
        changed[:, position] = 3 + (changed[:, position] - 2) % 27
        difference = (model(source, changed) - logits).abs().amax(dim=(0, 2))
        assert (difference[:position] == 0).all()
        assert difference[position] > 1e-6


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_padding_changes_nothing(options: dict[str, Any]) -> None:
    model = make(**options)
    source, target_in = ids(1, 4), ids(1, 5, seed=1)
    alone = model(source, target_in)
    padding = torch.full((1, 3), PAD)
    longer, longer_target = ids(1, 7, seed=2), ids(1, 8, seed=3)
    batch = model(
        torch.cat([torch.cat([source, padding], 1), longer]),
        torch.cat([torch.cat([target_in, padding], 1), longer_target]),
    )
    torch.testing.assert_close(batch[:1, :5], alone)
    torch.testing.assert_close(batch[1:], model(longer, longer_target))
    assert batch.isfinite().all()


@pytest.mark.parametrize("positions", ["rotary", "relative", "none"])
def test_padding_on_the_left_changes_nothing_where_distances_count(positions: str) -> None:
    model = make(positions=positions)
    source, target_in, padding = ids(2, 4), ids(2, 5, seed=1), torch.full((2, 3), PAD)
    left = model(torch.cat([padding, source], 1), torch.cat([padding, target_in], 1))
    torch.testing.assert_close(left[:, 3:], model(source, target_in))
    assert left.isfinite().all()


def test_a_source_of_padding_alone_gives_numbers() -> None:
    model = make()
    source = torch.full((1, 3), PAD)
    assert model(source, ids(1, 4)).isfinite().all()


@settings(max_examples=30, deadline=None)
@given(
    options=st.sampled_from(VARIANTS),
    cuts=st.lists(st.booleans(), min_size=7, max_size=7),
    padded=st.sampled_from(["no", "source", "left", "right"]),
    seed=st.integers(0, 100),
)
def test_cached_decoding_is_decoding(
    options: dict[str, Any], cuts: list[bool], padded: str, seed: int
) -> None:
    model, source, target_in = make(seed, **options), ids(2, 5, seed), ids(2, 8, seed + 1)
    if padded == "source":
        source[0, 3:] = PAD
    elif padded == "left":
        target_in[1, :2] = PAD
    elif padded == "right":
        target_in[1, 6:] = PAD
    source_mask = model.source_mask(source)
    memory = model.encode(source)
    whole = model.decode(target_in, memory, source_mask)
    torch.testing.assert_close(model.head(whole), model(source, target_in))

    caches = model.new_caches()
    bounds = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), 8]
    parts = []
    for start, end in itertools.pairwise(bounds):
        parts.append(model.decode(target_in[:, start:end], memory, source_mask, caches=caches))
        assert caches.length == end
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)


@pytest.mark.parametrize("positions", POSITIONS)
def test_token_by_token(positions: str) -> None:
    model, source, target_in = make(positions=positions), ids(3, 5), ids(3, 12, seed=1)
    memory, mask, caches = model.encode(source), model.source_mask(source), model.new_caches()
    logits = [
        model.head(model.decode(token, memory, mask, caches=caches))
        for token in target_in.split(1, dim=1)
    ]
    torch.testing.assert_close(torch.cat(logits, dim=1), model(source, target_in))
    with pytest.raises(ValueError, match="1 to max_seq_len=12 tokens, got 13"):
        model.decode(target_in[:, :1], memory, mask, caches=caches)


def test_caches_are_cropped_and_reordered() -> None:
    model, source, target_in = make(), ids(3, 5), ids(3, 6, seed=1)
    source[2, 4], target_in[1, 0] = PAD, PAD
    memory, mask, caches = model.encode(source), model.source_mask(source), model.new_caches()
    model.decode(target_in, memory, mask, caches=caches)
    caches.crop(4)
    order = torch.tensor([2, 1, 1])
    caches.reorder(order)
    assert caches.length == 4
    again = model.decode(target_in[order, 4:], memory[order], mask[order], caches=caches)
    whole = model.decode(target_in, memory, mask)
    torch.testing.assert_close(again, whole[order, 4:])


def test_a_refused_token_leaves_the_caches_as_they_were() -> None:
    model, source = make(), ids(1, 3)
    memory, mask, caches = model.encode(source), model.source_mask(source), model.new_caches()
    with pytest.raises(ValueError, match="target_in must hold ids from 0 to 29, got 30"):
        model.decode(torch.tensor([[30]]), memory, mask, caches=caches)
    assert (caches.length, caches.may_look) == (0, None)


@pytest.mark.parametrize("norm_first", [False, True])
def test_without_positions_the_encoder_is_permutation_equivariant(norm_first: bool) -> None:
    model, source = make(positions="none", norm_first=norm_first), ids(2, 6)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(model.encode(source[:, order]), model.encode(source)[:, order])
    for positions in set(POSITIONS) - {"none"}:
        model = make(positions=positions, norm_first=norm_first)
        difference = model.encode(source[:, order]) - model.encode(source)[:, order]
        assert difference.abs().max() > 1e-3, positions


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_every_parameter_gets_a_gradient(options: dict[str, Any]) -> None:
    model = make(dropout=0.1, **options).train()
    backward(model(ids(3, 7), ids(3, 9, seed=1)))
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        # Adding the same to every key shifts each row of scores, which softmax does not see.
        assert name.endswith("W_K.bias") or parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize(("device", "dtype"), [("meta", torch.float32), ("cpu", torch.bfloat16)])
def test_any_device_and_dtype(options: dict[str, Any], device: str, dtype: torch.dtype) -> None:
    with torch.device(device):
        model = Transformer(TransformerConfig(30, 16, 4, 20, 1, 1, **_without_layers(options)))
        model = model.to(dtype)
        source, target = torch.ones(2, 4, dtype=torch.long), torch.ones(2, 3, dtype=torch.long)
    logits, weights = model(source, model.shift_right(target), need_weights=True)
    assert (logits.shape, logits.dtype, logits.device.type) == ((2, 3, 30), dtype, device)
    assert weights["decoder.layers.0.cross_attention"].shape == (2, 4, 3, 4)
    memory, caches = model.encode(source), model.new_caches()
    model.decode(target[:, :1], memory, model.source_mask(source), caches=caches)
    hidden = model.decode(target[:, 1:], memory, model.source_mask(source), caches=caches)
    assert (hidden.shape, hidden.dtype, hidden.device.type) == ((2, 2, 16), dtype, device)
    if device != "meta":
        assert logits.isfinite().all()


def _without_layers(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if "layers" not in name}


def test_bfloat16_is_near_float32() -> None:
    model, source, target_in = make(dtype=torch.float32), ids(2, 5), ids(2, 5, seed=1)
    exact = model(source, target_in).detach()
    rounded = model.to(torch.bfloat16)(source, target_in).detach().float()
    assert torch.nn.functional.cosine_similarity(exact, rounded, dim=-1).min() > 0.99
