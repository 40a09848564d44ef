"""GPT: equal to references, cached as uncached, padded as alone, blind to the future."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_gpts import VARIANTS, random_ids, small_gpt
from torch import Tensor, nn
from torch_reference import TOLERANCE, assert_same_gradients, backward, copy_weights, randomize

from lmlib.gpt import GPT, GPTCaches, GPTConfig

transformers = pytest.importorskip("transformers")

EXACT = TOLERANCE[torch.float64]
LEFT = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1, 1], [1] * 9, [0] * 8 + [1]]).bool()
RIGHT = LEFT.flip(1)
GAPS = torch.tensor([[1, 1, 0, 0, 1, 0, 1, 1, 1], [1, 1, 1, 0, 1, 1, 1, 1, 1], [1] * 9]).bool()
MASKS = {"none": None, "left": LEFT, "right": RIGHT, "gaps": GAPS}
CHUNKS = [[9], [1] * 9, [4, 1, 3, 1], [2, 7]]


@pytest.fixture(params=VARIANTS, ids=str)
def model(request: pytest.FixtureRequest) -> GPT:
    return small_gpt(**request.param)


def read(model: GPT, ids: Tensor, mask: Tensor | None, chunks: list[int]) -> Tensor:
    """Logits of all positions, the tokens read chunk by chunk."""
    caches, parts, start = model.new_caches(), [], 0
    for chunk in ids.split(chunks, dim=1):
        end = start + chunk.shape[1]
        parts.append(model(chunk, None if mask is None else mask[:, start:end], caches=caches))
        start = end
    assert caches.length == ids.shape[1]
    return torch.cat(parts, dim=1)


# ------------------------------------------------------------------ references


@pytest.mark.parametrize("norm_first", [True, False])
def test_the_stack_is_torchs(norm_first: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    mine = small_gpt(norm_first=norm_first, activation="gelu", tie_embeddings=False)
    layer = nn.TransformerEncoderLayer(
        16, 4, 20, 0.0, "gelu", batch_first=True, norm_first=norm_first, dtype=torch.float64
    )
    final = nn.LayerNorm(16, dtype=torch.float64) if norm_first else None
    theirs = nn.TransformerEncoder(layer, 2, norm=final, enable_nested_tensor=False)
    randomize(theirs, generator)
    pairs = list(zip(mine.layers, theirs.layers, strict=True))
    if norm_first:
        pairs.append((mine.norm, theirs.norm))
    for pair in pairs:
        copy_weights(*pair)

    ids = random_ids(2, 9)
    hidden = mine.hidden(ids)[0]
    hide = nn.Transformer.generate_square_subsequent_mask(9, dtype=torch.float64)
    x = mine.embedding.weight[ids] + mine.positions.weight[:9]
    wanted = theirs(x, mask=hide, is_causal=True)
    torch.testing.assert_close(hidden, wanted, **EXACT)
    backward(hidden)
    backward(wanted)
    for pair in pairs:
        assert_same_gradients(*pair, **EXACT)
    torch.testing.assert_close(mine(ids), wanted @ mine.head.weight.T, **EXACT)


def copy_llama(mine: GPT, theirs: nn.Module) -> None:
    """Give a GPT the weights of a Hugging Face Llama."""
    weights = dict(theirs.state_dict())
    names = {
        "self_attention.W_Q": "self_attn.q_proj",
        "self_attention.W_K": "self_attn.k_proj",
        "self_attention.W_V": "self_attn.v_proj",
        "self_attention.W_O": "self_attn.o_proj",
        "feed_forward.W_gate": "mlp.gate_proj",
        "feed_forward.W_up": "mlp.up_proj",
        "feed_forward.W_down": "mlp.down_proj",
        "norm_1": "input_layernorm",
        "norm_2": "post_attention_layernorm",
    }
    found = {
        "embedding.weight": weights.pop("model.embed_tokens.weight"),
        "norm.weight": weights.pop("model.norm.weight"),
        "head.weight": weights.pop("lm_head.weight"),
    }
    for i in range(len(mine.layers)):
        for own, foreign in names.items():
            found[f"layers.{i}.{own}.weight"] = weights.pop(f"model.layers.{i}.{foreign}.weight")
    assert not weights
    mine.load_state_dict(found)


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("mask", ["none", "left", "right"])
def test_todays_decoder_is_llama(kv_heads: int, mask: str) -> None:
    sizes = {"vocab_size": 30, "d_model": 16, "num_layers": 2, "num_heads": 4, "d_ff": 20}
    config = GPTConfig.llama(**sizes, num_kv_heads=kv_heads, max_seq_len=16, norm_eps=1e-6)
    mine = GPT(config).double().eval()
    torch.manual_seed(3)
    theirs = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=30, hidden_size=16, intermediate_size=20, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=kv_heads, max_position_embeddings=16,
            rms_norm_eps=1e-6, initializer_range=0.5, attn_implementation="sdpa",
        )
    ).double().eval()  # fmt: skip
    copy_llama(mine, theirs)
    ids, keep = random_ids(3, 9), MASKS[mask]
    keep = torch.ones_like(ids).bool() if keep is None else keep
    positions = (keep.long().cumsum(1) - 1).clamp(min=0)
    wanted = theirs(ids, attention_mask=keep, position_ids=positions).logits
    got = mine(ids, None if mask == "none" else keep)
    # Its angles are float32's.
    torch.testing.assert_close(got[keep], wanted[keep], rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------ caches and padding


@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
@pytest.mark.parametrize("mask", MASKS)
def test_cached_is_uncached(model: GPT, mask: str, chunks: list[int]) -> None:
    ids, keep = random_ids(3, 9), MASKS[mask]
    wanted = model(ids, keep)
    with torch.no_grad():
        got = read(model, ids, keep, chunks)
    every = slice(None) if keep is None else keep
    torch.testing.assert_close(got[every], wanted[every], **EXACT)
    assert got.isfinite().all()


@pytest.mark.parametrize("mask", ["left", "right", "gaps"])
def test_padding_changes_nothing(model: GPT, mask: str) -> None:
    ids, keep = random_ids(3, 9), MASKS[mask]
    logits = model(ids, keep)
    for row in range(3):
        alone = model(ids[row : row + 1, keep[row]])
        torch.testing.assert_close(logits[row, keep[row]], alone[0], **EXACT)


def test_prompts_padded_on_the_right_go_on_as_if_alone(model: GPT) -> None:
    ids, caches = random_ids(3, 12), model.new_caches()
    with torch.no_grad():
        model(ids[:, :9], RIGHT, caches=caches)
        steps = [model(token, caches=caches) for token in ids[:, 9:].split(1, dim=1)]
    for row in range(3):
        text = torch.cat([ids[row, :9][RIGHT[row]], ids[row, 9:]])[None]
        got = torch.cat(steps, dim=1)[row]
        torch.testing.assert_close(got, model(text)[0, -3:], **EXACT)


def test_a_mask_that_comes_late(model: GPT) -> None:
    ids, caches = random_ids(2, 6), model.new_caches()
    model(ids[:, :4], caches=caches)
    late = torch.tensor([[False, True], [True, True]])
    got = model(ids[:, 4:], late, caches=caches)
    alone = model(torch.cat([ids[:1, :4], ids[:1, 5:]], dim=1))
    torch.testing.assert_close(got[:1, -1:], alone[:, -1:], **EXACT)
    torch.testing.assert_close(got[1:], model(ids[1:])[:, 4:], **EXACT)
    assert torch.equal(caches.mask, torch.cat([torch.ones(2, 4).bool(), late], dim=1))


@pytest.mark.parametrize("length", [0, 3, 6])
def test_crop_goes_back(model: GPT, length: int) -> None:
    ids, keep, other = random_ids(3, 9), LEFT, random_ids(3, 9, seed=1)
    caches = model.new_caches()
    with torch.no_grad():
        model(other[:, :6], torch.cat([keep[:, :length], LEFT[:, length:6]], dim=1), caches=caches)
        caches.crop(0)
        model(torch.cat([ids[:, :length], other[:, length:6]], dim=1), keep[:, :6], caches=caches)
        caches.crop(length)
        assert caches.length == length
        got = model(ids[:, length:], keep[:, length:], caches=caches)
    wanted = model(ids, keep)[:, length:]
    torch.testing.assert_close(got[keep[:, length:]], wanted[keep[:, length:]], **EXACT)


def test_caches_cropped_to_nothing_take_another_batch() -> None:
    model = small_gpt()
    caches = model.new_caches()
    model(random_ids(3, 9), LEFT, caches=caches)
    assert (caches.length, caches.batch) == (9, 3)
    caches.crop(0)
    assert (caches.length, caches.batch, caches.mask) == (0, None, None)
    ids = random_ids(2, 4)
    torch.testing.assert_close(model(ids, caches=caches), model(ids), **EXACT)


def test_reorder_follows_the_beams(model: GPT) -> None:
    ids, caches = random_ids(3, 9), model.new_caches()
    order = torch.tensor([2, 0, 0, 1])
    with torch.no_grad():
        model(ids[:, :6], LEFT[:, :6], caches=caches)
        caches.reorder(order)
        got = [model(token, LEFT[order][:, 6 + i : 7 + i], caches=caches)
               for i, token in enumerate(ids[order][:, 6:].split(1, dim=1))]  # fmt: skip
    wanted, keep = model(ids, LEFT)[order][:, 6:], LEFT[order][:, 6:]
    torch.testing.assert_close(torch.cat(got, dim=1)[keep], wanted[keep], **EXACT)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_caches_can_be_copied(copied: Callable[[GPTCaches], GPTCaches]) -> None:
    model, ids = small_gpt(), random_ids(1, 6)
    with torch.no_grad():
        caches = model.new_caches()
        for token in ids[:, :4].split(1, dim=1):
            model(token, caches=caches)
        twin = copied(caches)
        other = model(ids[:, 5:], caches=twin)
        torch.testing.assert_close(model(ids[:, 4:], caches=caches), model(ids)[:, 4:], **EXACT)
        swapped = torch.cat([ids[:, :4], ids[:, 5:]], dim=1)
        torch.testing.assert_close(other, model(swapped)[:, 4:], **EXACT)


def test_gradient_through_the_caches(model: GPT) -> None:
    ids = random_ids(3, 9)
    parameters = list(model.parameters())
    whole = torch.autograd.grad(model(ids, LEFT)[LEFT].sin().sum(), parameters)
    steps = torch.autograd.grad(read(model, ids, LEFT, [4, 1, 3, 1])[LEFT].sin().sum(), parameters)
    for a, b in zip(steps, whole, strict=True):
        torch.testing.assert_close(a, b, **EXACT)


def test_inference_mode_and_training_take_turns(model: GPT) -> None:
    ids = random_ids(2, 9)
    with torch.inference_mode():
        caches = model.new_caches()
        model(ids[:, :4], caches=caches)
        model(ids[:, 4:5], caches=caches)
    with torch.no_grad():
        outside = model(ids[:, 5:6], caches=caches)
    with torch.inference_mode():
        again = model(ids[:, 6:7], caches=caches)
    logits = model(ids)
    torch.testing.assert_close(outside, logits[:, 5:6], **EXACT)
    torch.testing.assert_close(again, logits[:, 6:7], **EXACT)
    logits.sum().backward()


# ------------------------------------------------------------------ causality


def test_no_look_at_the_future(model: GPT) -> None:
    ids = random_ids(1, 8)
    before = model(ids)
    for i in range(1, 8):
        changed = ids.clone()
        changed[:, i:] = (ids[:, i:] + 1) % 30
        after = model(changed)
        torch.testing.assert_close(after[:, :i], before[:, :i], **EXACT)
        assert not torch.isclose(after[:, i:], before[:, i:]).all(dim=-1).any()


def test_every_token_of_the_past_matters(model: GPT) -> None:
    ids = random_ids(1, 6)
    last = model(ids, num_logits=1)
    for i in range(6):
        changed = ids.clone()
        changed[0, i] = (ids[0, i] + 1) % 30
        assert not torch.allclose(model(changed, num_logits=1), last)


def test_the_order_of_the_past_matters_only_with_positions() -> None:
    ids = torch.tensor([[3, 4, 5, 6]])
    swapped = torch.tensor([[4, 3, 5, 6]])
    for variant in VARIANTS:
        # One layer: with more, what a token of the past saw depends on the order as well.
        model = small_gpt(**variant, num_layers=1)
        same = torch.allclose(model(ids, num_logits=1), model(swapped, num_logits=1))
        assert same == (variant.get("positions") == "none")


@pytest.mark.parametrize("variant", [{}, VARIANTS[5]], ids=str)
def test_compiles_into_one_graph(variant: dict[str, Any]) -> None:
    model, ids = small_gpt(**variant), random_ids(2, 5)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(ids), model(ids))
