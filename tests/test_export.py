"""lmlib.export: int8 and float16 for the page, there and back, and what is lost."""

from __future__ import annotations

import importlib
import inspect
import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_models import SHIPPED
from test_pretrained import MODELS, make, run
from torch import Tensor, nn

from lmlib import assets
from lmlib._weights import own_tensors
from lmlib.export import (
    DTYPES,
    dequantize_int8,
    fidelity,
    load_packed,
    pack,
    quantize_int8,
    unpack,
)
from lmlib.gpt import GPT, GPTConfig
from lmlib.pretrained import load_pretrained, load_tokenizer
from lmlib.tokenizers import BPETokenizer, CharTokenizer, WordPieceTokenizer

# ------------------------------------------------------------------ one matrix


def test_a_matrix_by_hand() -> None:
    weight = torch.tensor([[1.27, -0.635, 0.004, 0.006], [0.0, 0.0, 0.0, 0.0], [-254.0, 2, 1, 3]])
    integers, scales = quantize_int8(weight)
    assert integers.tolist() == [[127, -64, 0, 1], [0, 0, 0, 0], [-127, 1, 0, 2]]  # half to even
    assert scales.tolist() == pytest.approx([0.01, 1.0, 2.0])
    assert integers.dtype == torch.int8
    assert scales.dtype == torch.float32
    back = dequantize_int8(integers, scales)
    assert back[2].tolist() == [-254.0, 2.0, 0.0, 4.0]


@given(
    st.lists(
        st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=3, max_size=3),
        min_size=1,
        max_size=4,
    )
)
def test_no_value_is_off_by_more_than_half_a_scale(rows: list[list[float]]) -> None:
    weight = torch.tensor(rows)
    integers, scales = quantize_int8(weight)
    assert int(integers.min()) >= -127
    off = (dequantize_int8(integers, scales) - weight).abs()
    assert bool((off <= 0.5001 * scales[:, None] + 1e-36).all())
    largest = weight.abs().amax(dim=1)
    full = integers.abs().amax(dim=1)[largest > 1e-30]
    assert full.tolist() == [127] * len(full)  # the whole range is used
    negated, same = quantize_int8(-weight)
    assert torch.equal(negated, -integers)
    assert torch.equal(same, scales)


def test_matrices_at_the_edge() -> None:
    for weight in (torch.zeros(2, 0), torch.full((1, 2), 1e-45), torch.ones(3, 2).bfloat16()):
        integers, scales = quantize_int8(weight)
        assert integers.shape == weight.shape
        assert bool((scales > 0).all())
    for wrong in (torch.ones(3), torch.ones(2, 2, 2), torch.tensor([[math.nan]])):
        with pytest.raises(ValueError, match="weight must"):
            quantize_int8(wrong)
    with pytest.raises(TypeError, match="weight must be a floating-point"):
        quantize_int8(torch.ones(2, 2, dtype=torch.int32))
    with pytest.raises(TypeError, match="integers must be an int8 matrix"):
        dequantize_int8(torch.ones(2, 2), torch.ones(2))
    with pytest.raises(ValueError, match="rows=2"):
        dequantize_int8(torch.ones(2, 2, dtype=torch.int8), torch.ones(3))


# ------------------------------------------------------------------ a model


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MODELS)
def test_a_model_there_and_back(name: str, dtype: str) -> None:
    model = make(name)
    data = pack(model, dtype=dtype)
    manifest, tensors = unpack(data)
    own = own_tensors(model)
    assert list(tensors) == list(own)  # what is tied is stored once
    kinds = {entry["name"]: entry["dtype"] for entry in manifest["tensors"]}
    for key, tensor in own.items():
        if kinds[key] == "int8":
            wanted = dequantize_int8(*quantize_int8(tensor))
        else:
            wanted = tensor.detach().half().float()
        assert torch.equal(tensors[key], wanted), key
        assert tensors[key].dtype == torch.float32
    found: Any = load_packed(data)
    assert type(found) is type(model)
    assert found.config == model.config
    assert not found.training
    for key, tensor in own_tensors(found).items():
        assert torch.equal(tensor, tensors[key])
    for x, y in zip(run(found), run(model), strict=True):
        assert x.shape == y.shape
    if dtype == "float16":
        for x, y in zip(run(found), run(model), strict=True):
            torch.testing.assert_close(x, y, atol=0.02, rtol=0.02)


def test_which_tensors_are_int8() -> None:
    for name in MODELS:
        model = make(name)
        tensors = unpack(pack(model)).manifest["tensors"]
        kinds = {entry["name"]: entry["dtype"] for entry in tensors}
        own = own_tensors(model)
        for key, kind in kinds.items():
            matrix = own[key].dim() == 2 and "position" not in key
            assert kind == ("int8" if matrix else "float16"), key
    kinds = {
        entry["name"]: entry["dtype"] for entry in unpack(pack(make("gpt2"))).manifest["tensors"]
    }
    assert kinds["embedding.weight"] == "int8"
    assert kinds["positions.weight"] == "float16"
    assert kinds["norm.weight"] == "float16"
    relative = GPT(GPTConfig(vocab_size=9, d_model=8, num_heads=2, d_ff=8, positions="relative"))
    kinds = {entry["name"]: entry["dtype"] for entry in unpack(pack(relative)).manifest["tensors"]}
    (bias,) = [key for key in kinds if "bias" in key and own_dim(relative, key) == 2]
    assert kinds[bias] == "float16"


def own_dim(model: nn.Module, key: str) -> int:
    return own_tensors(model)[key].dim()


def test_the_layout() -> None:
    model = make("llama")
    data = pack(model, CharTokenizer.train(["天地玄黄"]))
    assert data == pack(model, CharTokenizer.train(["天地玄黄"]))
    length = int.from_bytes(data[:8], "little")
    assert length % 4 == 0
    manifest = json.loads(data[8 : 8 + length])
    assert manifest["format"] == "lmlib-packed"
    assert manifest["class"] == "GPT"
    assert manifest["config"]["num_kv_heads"] == 1
    assert manifest["tokenizer"]["vocab"][-4:] == ["地", "天", "玄", "黄"]
    ranges = []
    for entry in manifest["tensors"]:
        count = math.prod(entry["shape"])
        ranges.append((entry["offset"], count * {"int8": 1, "float16": 2}[entry["dtype"]]))
        if entry["dtype"] == "int8":
            ranges.append((entry["scales"], entry["shape"][0] * 4))
    end = 0
    for offset, size in ranges:  # in order, aligned, with no gap but for that
        assert offset == end + -end % 4
        end = offset + size
    assert 8 + length + end == len(data)


def test_int8_is_a_quarter() -> None:
    torch.manual_seed(0)
    model = GPT(GPTConfig.llama(vocab_size=500, d_model=96, num_heads=4, num_layers=2, d_ff=256))
    floats = sum(p.numel() for p in model.parameters()) * 4
    assert len(pack(model)) < 0.3 * floats
    assert 0.5 * floats < len(pack(model, dtype="float16")) < 0.53 * floats


@pytest.mark.parametrize(
    "tokenizer",
    [
        CharTokenizer.train(["天地"]),
        BPETokenizer.train(["ab ab"], vocab_size=259),
        WordPieceTokenizer.train(["ab ab"], vocab_size=12),
    ],
    ids=lambda tokenizer: type(tokenizer).__name__,
)
def test_the_tokenizer_stands_in_the_manifest(tokenizer: Any, tmp_path: Any) -> None:
    model = GPT(GPTConfig.gpt2(vocab_size=300, d_model=8, num_heads=2, num_layers=1))
    content = unpack(pack(model, tokenizer)).manifest["tokenizer"]
    (tmp_path / "t.json").write_text(json.dumps(content), encoding="utf-8")
    assert type(tokenizer).load(tmp_path / "t.json").encode("ab 天") == tokenizer.encode("ab 天")
    assert unpack(pack(model)).manifest["tokenizer"] is None


def test_bfloat16_models_are_packed_too() -> None:
    model = make("gpt2")
    assert pack(model.bfloat16()) == pack(model.float())


# ------------------------------------------------------------------ errors


def test_models_that_cannot_be_packed() -> None:
    with pytest.raises(TypeError, match="model must be one of"):
        pack(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="dtype must be one of"):
        pack(make("gpt2"), dtype="int4")
    with pytest.raises(ValueError, match="meta device"):
        pack(make("gpt2").to("meta"))
    with pytest.raises(ValueError, match="tokenizer must have at most the 30 tokens"):
        pack(make("gpt2"), BPETokenizer.train(["ab"], vocab_size=259))
    for value, key in ((1e5, "norm.weight"), (math.nan, "norm.weight"), (math.inf, "norm.bias")):
        model = make("gpt2")
        with torch.no_grad():
            model.get_parameter(key)[0] = value
        with pytest.raises(ValueError, match=rf"{key} must be finite and at most 65504"):
            pack(model)


def test_data_that_cannot_be_unpacked() -> None:
    data = pack(make("gpt2"))
    length = int.from_bytes(data[:8], "little")

    def with_manifest(**changes: Any) -> bytes:
        manifest = {**json.loads(data[8 : 8 + length]), **changes}
        text = json.dumps(manifest).encode()
        return len(text).to_bytes(8, "little") + text + data[8 + length :]

    for wrong, message in [
        (b"", "too few"),
        (data[:100], "too few"),
        (data[:-1], "cut off"),
        (data[:8] + b"?" + data[9:], "no manifest"),
        (with_manifest(format="other"), "another format"),
        (with_manifest(version=2), "version 1, got 2"),
        (with_manifest(**{"class": "Linear"}), "one of .* got 'Linear'"),
    ]:
        with pytest.raises(ValueError, match=message):
            unpack(wrong)
    with pytest.raises(ValueError, match="no field d_mode"):
        load_packed(with_manifest(config={"d_mode": 3}))
    entries = json.loads(data[8 : 8 + length])["tensors"]
    without = with_manifest(tensors=[e for e in entries if e["name"] != "norm.weight"])
    with pytest.raises(ValueError, match="lacks norm"):
        load_packed(without)


# ------------------------------------------------------------------ what is lost


class Fixed(nn.Module):
    """A model that always says the same."""

    def __init__(self, *rows: list[float]) -> None:
        super().__init__()
        self.probabilities = torch.tensor([rows])

    def forward(self, ids: Tensor) -> tuple[Tensor, None]:
        return self.probabilities.log().expand(len(ids), -1, -1), None


def test_fidelity_by_hand() -> None:
    one = Fixed([0.5, 0.25, 0.25], [0.8, 0.1, 0.1])
    other = Fixed([0.25, 0.5, 0.25], [0.8, 0.1, 0.1])
    found = fidelity(one, other, [(torch.zeros(3, 2, dtype=torch.long),)] * 2)
    kl = 0.5 * math.log(2) - 0.25 * math.log(2)
    assert found.top1 == 0.5
    assert found.divergence == pytest.approx(kl / 2)
    assert found.positions == 12
    same = fidelity(one, one, [(torch.zeros(1, 2, dtype=torch.long),)])
    assert same == (1.0, 0.0, 2)
    with pytest.raises(ValueError, match="at least one position"):
        fidelity(one, one, [])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_says_the_same_when_packed(name: str, dtype: str) -> None:
    """Its recipe gives the inputs: ``examples(tokenizer)`` or ``examples(model, tokenizer)``."""
    directory = assets.path("models", name)
    card = json.loads((directory / "card.json").read_text(encoding="utf-8"))
    recipe = importlib.import_module(card["command"].removeprefix("python -m "))
    model, tokenizer = load_pretrained(directory), load_tokenizer(directory)
    given = {"model": model, "tokenizer": tokenizer}
    inputs = recipe.examples(*(given[key] for key in inspect.signature(recipe.examples).parameters))
    data = pack(model, tokenizer, dtype)
    assert len(data) == card["export"][dtype]["bytes"]
    found = fidelity(model, load_packed(data), inputs)
    assert found.positions >= 300
    assert found.top1 >= (0.97 if dtype == "int8" else 0.995)
    assert found.divergence < (0.05 if dtype == "int8" else 1e-3)
    assert found.top1 == pytest.approx(card["export"][dtype]["top1"], abs=0.005)
