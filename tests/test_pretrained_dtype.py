"""save_pretrained and load_pretrained with a dtype: stored narrow, handed back as float32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_pretrained import MODELS, make, rewrite

from lmlib._weights import own_tensors
from lmlib.pretrained import load_pretrained, save_pretrained

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MODELS)
def test_stored_narrow_it_comes_back_wide(name: str, dtype: str, tmp_path: Path) -> None:
    model = make(name)
    before = {key: tensor.clone() for key, tensor in own_tensors(model).items()}
    save_pretrained(model, tmp_path, dtype=dtype)
    stored = load_file(tmp_path / "model.safetensors")
    found = own_tensors(load_pretrained(tmp_path))
    assert stored.keys() == found.keys() == before.keys()
    for key, tensor in before.items():
        assert torch.equal(own_tensors(model)[key], tensor)  # the model itself stays as it is
        assert stored[key].dtype == DTYPES[dtype]
        assert found[key].dtype == torch.float32
        assert torch.equal(found[key], tensor.to(DTYPES[dtype]).float())


def test_the_file_is_half_as_long_and_always_the_same(tmp_path: Path) -> None:
    model = make("gpt2")
    for name, dtype in (("wide", None), ("half", "float16"), ("again", "float16")):
        save_pretrained(model, tmp_path / name, dtype=dtype)
    size = sum(tensor.numel() for tensor in own_tensors(model).values())
    sizes = [(tmp_path / n / "model.safetensors").stat().st_size for n in ("wide", "half")]
    assert sizes[0] - sizes[1] == pytest.approx(2 * size, abs=64)  # the header differs too
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "half" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


@pytest.mark.parametrize("stored", [None, "float16"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_loaded_as_asked(stored: str | None, dtype: str, tmp_path: Path) -> None:
    model = make("llama")
    save_pretrained(model, tmp_path, dtype=stored)
    for key, tensor in own_tensors(load_pretrained(tmp_path, "cpu", dtype=dtype)).items():
        assert tensor.dtype == DTYPES[dtype]
        wanted = own_tensors(model)[key].detach()
        wanted = wanted if stored is None else wanted.to(DTYPES[stored])
        assert torch.equal(tensor, wanted.to(DTYPES[dtype]))


def test_tied_weights_are_tied_again(tmp_path: Path) -> None:
    save_pretrained(make("gpt2"), tmp_path, dtype="float16")
    found = load_pretrained(tmp_path)
    assert found.head.weight is found.embedding.weight  # type: ignore[union-attr]


def test_what_float16_cannot_hold_is_met_at_the_door(tmp_path: Path) -> None:
    model = make("gpt2")
    with torch.no_grad():
        model.norm.weight[1] = -70000.0
    with pytest.raises(ValueError, match=r"up to 65504, but norm\.weight has 70000"):
        save_pretrained(model, tmp_path / "new", dtype="float16")
    assert not (tmp_path / "new").exists()
    save_pretrained(model, tmp_path / "new", dtype="bfloat16")
    with torch.no_grad():
        model.norm.weight[1] = torch.inf  # what is infinite already stays so
    save_pretrained(model, tmp_path / "new", dtype="float16")
    assert load_pretrained(tmp_path / "new").norm.weight[1] == torch.inf


def test_other_dtypes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="dtype must be one of"):
        save_pretrained(make("gpt2"), tmp_path, dtype="int8")
    save_pretrained(make("gpt2"), tmp_path)
    with pytest.raises(ValueError, match="dtype must be one of"):
        load_pretrained(tmp_path, dtype="float64")
    rewrite(tmp_path, lambda content: content.update(stored_as="float8"))
    with pytest.raises(ValueError, match=r"stored_as must be one of .*, got 'float8'"):
        load_pretrained(tmp_path)
    rewrite(tmp_path, lambda content: content.pop("stored_as"))  # written before there was one
    load_pretrained(tmp_path)
