"""Models of transformers in lmlib: the same logits, losses and gradients, and the way back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from huggingface_models import CASES, PAD, batch, case, ours, randomize, rows, theirs
from torch import nn

from lmlib._huggingface.rows import to_ours
from lmlib.pretrained import from_huggingface, to_huggingface

every_case = pytest.mark.parametrize("name", CASES)
NEAR = {"rtol": 1e-5, "atol": 1e-5}
UNUSED_POSITIONS = 2  # rows in front of BART's table, which nobody reads


@every_case
@pytest.mark.parametrize("padding", ["no", "left", "right"])
@torch.no_grad()
def test_logits_and_loss(name: str, padding: str) -> None:
    model = case(name)
    given = batch(model, padding)
    expected = theirs(model, given)
    found = ours(from_huggingface(model), given, CASES[name][0])
    assert len(found.outputs) == len(expected.outputs)
    for x, y in zip(found.outputs, expected.outputs, strict=True):
        assert y.std() > 0.15, "a signal so weak shows nothing"
        torch.testing.assert_close(x, y, **NEAR)
    torch.testing.assert_close(found.loss, expected.loss, **NEAR)


@every_case
@pytest.mark.parametrize("padding", ["left", "right"])
def test_gradients(name: str, padding: str) -> None:
    kind = CASES[name][0]
    model = case(name)
    mine = from_huggingface(model)
    given = batch(model, padding)
    theirs(model, given).loss.backward()
    ours(mine, given, kind).loss.backward()

    # Where a matrix is tied, both names have the one gradient.
    gradients = {
        key: parameter.grad
        for key, parameter in model.named_parameters(remove_duplicate=False)
        if parameter.grad is not None
    }
    unread = {"model.shared.weight"} if "untied" in name and kind.startswith("Bart") else set()
    assert {k for k, p in model.named_parameters() if p.requires_grad} - unread <= set(gradients)
    expected = to_ours(rows(mine, kind), gradients)
    found = dict(mine.named_parameters(remove_duplicate=False))
    untouched = {"head.bias"}  # theirs is a buffer
    if kind == "BertForMaskedLM":
        untouched |= {f"{x}.{y}" for x in ("bert.pooler", "nsp_head") for y in ("weight", "bias")}
    if kind == "GPT2Model":
        untouched |= {"head.weight"}  # theirs has none
    assert set(found) - untouched <= set(expected)
    for key, gradient in expected.items():
        mine_gradient = found[key].grad
        assert mine_gradient is not None, key
        is_table = key.endswith(("embedding.weight", "head.weight"))
        if is_table and model.config.pad_token_id is not None:
            # As an input theirs never learn the vector of padding, with which Marian's decoder
            # begins, and BERT's pooled position where padding is on the left.
            kept = torch.arange(gradient.shape[0]) != PAD
            gradient, mine_gradient = gradient[kept], mine_gradient[kept]
        torch.testing.assert_close(
            mine_gradient, gradient, msg=lambda t, k=key: f"{k}: {t}", **NEAR
        )


@every_case
@torch.no_grad()
def test_there_and_back(name: str) -> None:
    model = case(name)
    mine = from_huggingface(model)
    back = to_huggingface(mine)
    kind = {"GPT2Model": "GPT2LMHeadModel", "BertForMaskedLM": "BertForPreTraining"}
    assert type(back).__name__ == kind.get(CASES[name][0], CASES[name][0])
    state, expected = back.state_dict(), model.state_dict()
    if type(model).__name__ == "GPT2Model":
        expected = {f"transformer.{key}": value for key, value in expected.items()}
        expected["lm_head.weight"] = model.wte.weight
    new = {key for key in state if key not in expected}
    assert new == (
        {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}
        | {"cls.seq_relationship.weight", "cls.seq_relationship.bias"}
        if name == "bert masked"
        else set()
    )
    for key, tensor in expected.items():
        if name == "bart untied" and key == "model.shared.weight":
            continue  # read by nobody
        if key.endswith("embed_positions.weight") and name.startswith("bart"):
            tensor, state[key] = tensor[UNUSED_POSITIONS:], state[key][UNUSED_POSITIONS:]
        assert torch.equal(state[key], tensor), key
    if name != "gpt2 bare":
        given = batch(model, "left")
        for x, y in zip(theirs(back, given).outputs, theirs(model, given).outputs, strict=False):
            torch.testing.assert_close(x, y, **NEAR)
    again = from_huggingface(back)
    assert again.config == mine.config
    for key, tensor in mine.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor), key


@every_case
@torch.no_grad()
def test_attention_weights(name: str) -> None:
    model, kind = case(name), CASES[name][0]
    given, mine = batch(model, "right"), from_huggingface(model)
    model.set_attn_implementation("eager")
    options: dict[str, Any] = {"attention_mask": given.real.long(), "output_attentions": True}
    if kind in ("BartForConditionalGeneration", "MarianMTModel"):
        target_in = mine.shift_right(given.second)
        out = model(given.ids, decoder_input_ids=target_in, **options)
        _, found = mine(given.ids, target_in, need_weights=True)
        groups = {
            "encoder.layers.{}.self_attention": out.encoder_attentions,
            "decoder.layers.{}.self_attention": out.decoder_attentions,
            "decoder.layers.{}.cross_attention": out.cross_attentions,
        }
    else:
        out = model(given.ids, **options)
        result = mine(given.ids, mask=given.real, need_weights=True)
        found = result[-1]
        prefix = "bert." if kind.startswith("BertFor") else ""
        groups = {f"{prefix}layers.{{}}.self_attention": out.attentions}
    expected = {key.format(i): w for key, group in groups.items() for i, w in enumerate(group)}
    assert set(found) == set(expected)
    for key, weights in expected.items():
        # A query that is padding looks at whatever it likes.
        real = given.real if weights.shape[2] == given.real.shape[1] else None
        for row in range(len(weights)):
            kept = slice(None) if real is None else real[row]
            x, y = found[key][row][:, kept], weights[row][:, kept]
            torch.testing.assert_close(x, y, **NEAR)


# ------------------------------------------------------------------ what else must hold


def test_the_weights_are_copies() -> None:
    model = case("gpt2")
    mine = from_huggingface(model)
    before = {key: tensor.clone() for key, tensor in mine.state_dict().items()}
    back = to_huggingface(mine)
    randomize(model, seed=9)
    randomize(back, seed=8)
    assert all(torch.equal(mine.state_dict()[key], tensor) for key, tensor in before.items())


def test_ties_stay_ties() -> None:
    assert (mine := from_huggingface(case("gpt2"))).head.weight is mine.embedding.weight
    mine = from_huggingface(case("gpt2 untied"))
    assert mine.head.weight is not mine.embedding.weight
    mine = from_huggingface(case("marian"))
    assert mine.head.weight is mine.embedding.weight
    mine = from_huggingface(case("bert pre-training"))
    assert mine.mlm_head.weight is mine.bert.embedding.weight
    back = to_huggingface(from_huggingface(case("qwen2")))
    assert back.lm_head.weight is back.model.embed_tokens.weight


def test_random_numbers_are_left_alone() -> None:
    model = case("bart")
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    mine = from_huggingface(model)
    to_huggingface(mine)
    assert torch.equal(torch.rand(2), expected)


def test_models_come_in_evaluation_mode() -> None:
    mine = from_huggingface(case("bart").train())
    assert not any(module.training for module in mine.modules())
    assert not any(module.training for module in to_huggingface(mine.train()).modules())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtypes(dtype: torch.dtype) -> None:
    model = case("llama grouped").to(dtype)
    mine = from_huggingface(model)
    assert {p.dtype for p in mine.parameters()} == {dtype}
    assert {p.dtype for p in to_huggingface(mine).parameters()} == {dtype}
    assert {p.dtype for p in from_huggingface(model, dtype=torch.float32).parameters()} == {
        torch.float32
    }
    marian = from_huggingface(case("marian").to(dtype))  # whose sinusoids are rounded
    assert marian.head.weight.dtype == dtype


def test_a_head_without_bias_has_none() -> None:
    model = case("bart")
    assert from_huggingface(model).head.bias is not None
    model.final_logits_bias.zero_()
    mine = from_huggingface(model)
    assert mine.head.bias is None
    assert torch.equal(to_huggingface(mine).final_logits_bias, model.final_logits_bias)


def test_special_tokens() -> None:
    config = from_huggingface(case("marian")).config
    assert (config.pad_id, config.bos_id, config.eos_id) == (PAD, PAD, 3)
    config = from_huggingface(case("bart")).config
    assert (config.pad_id, config.bos_id, config.eos_id) == (PAD, 3, 3)
    model = case("llama")
    model.config.eos_token_id = [7, 8]
    model.config.bos_token_id = 100_000
    config = from_huggingface(model).config
    assert (config.pad_id, config.bos_id, config.eos_id) == (None, None, 7)


def test_other_models_are_refused() -> None:
    class Strange(nn.Module):
        pass

    Strange.__name__ = "BertModel"
    with pytest.raises(ValueError, match=r"source must be a transformers model of BertModel, .*"):
        from_huggingface(Strange())
    with pytest.raises(TypeError, match=r"source must be a model of transformers.*, got int"):
        from_huggingface(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"model must be a GPT, a Transformer or a BERT.*Linear"):
        to_huggingface(nn.Linear(2, 2))
