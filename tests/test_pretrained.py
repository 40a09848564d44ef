"""save_pretrained and load_pretrained: everything comes back, and damage is met at the door."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch_reference import randomize

import lmlib.pretrained
from lmlib.bert import BertConfig, BertForPreTraining, BertForSequenceClassification, BertModel
from lmlib.gpt import GPT, GPTConfig
from lmlib.pretrained import CLASSES, load_pretrained, load_tokenizer, save_pretrained
from lmlib.tokenizers import BPETokenizer, CharTokenizer, WordPieceTokenizer
from lmlib.transformer import Transformer, TransformerConfig

SIZES = {"vocab_size": 30, "d_model": 8, "num_heads": 2, "d_ff": 12, "max_seq_len": 9}
BERT = BertConfig(**SIZES, num_layers=2)
IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])

MODELS: dict[str, Callable[[], nn.Module]] = {
    "gpt2": lambda: GPT(GPTConfig.gpt2(**SIZES, num_layers=2)),
    "llama": lambda: GPT(GPTConfig.llama(**SIZES, num_layers=2, num_kv_heads=1, qkv_bias=True)),
    "transformer": lambda: Transformer(TransformerConfig(**SIZES, num_encoder_layers=1)),
    "bart": lambda: Transformer(
        TransformerConfig(
            **SIZES,
            positions="learned",
            tie_positions=False,
            norm_embeddings=True,
            head_bias=True,
            tie_embeddings=False,
        )
    ),
    "relative": lambda: Transformer(TransformerConfig(**SIZES, positions="relative")),
    "bert": lambda: BertModel(BERT),
    "bert without pooler": lambda: BertModel(BERT, pooler=False),
    "bert pre-training": lambda: BertForPreTraining(BERT),
    "bert classifier": lambda: BertForSequenceClassification(BERT, num_labels=5),
}


def make(name: str, seed: int = 0) -> Any:
    model = MODELS[name]()
    randomize(model, torch.Generator().manual_seed(seed))
    return model.eval()


def run(model: Any) -> tuple[Tensor, ...]:
    with torch.no_grad():
        output = model(IDS, IDS) if isinstance(model, Transformer) else model(IDS)
    return (output,) if isinstance(output, Tensor) else tuple(x for x in output if x is not None)


def rewrite(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change config.json."""
    path = directory / "config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def rehash(directory: Path) -> None:
    """Let config.json say that the weights are as they are now."""
    data = (directory / "model.safetensors").read_bytes()
    facts = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    rewrite(directory, lambda content: content.update(weights=facts))


# ------------------------------------------------------------------ there and back


@pytest.mark.parametrize("name", MODELS)
def test_a_model_comes_back(name: str, tmp_path: Path) -> None:
    model = make(name)
    save_pretrained(model.train(), tmp_path / "new" / "directory")
    found: Any = load_pretrained(tmp_path / "new" / "directory")
    assert type(found) is type(model)
    assert found.config == model.config
    assert not any(module.training for module in found.modules())
    state = found.state_dict()
    assert list(state) == list(model.state_dict())
    for key, tensor in model.state_dict().items():
        assert torch.equal(state[key], tensor), key
    for x, y in zip(run(found), run(model.eval()), strict=True):
        assert torch.equal(x, y)
    # What was one parameter is one again.
    assert [key for key, _ in found.named_parameters()] == [k for k, _ in model.named_parameters()]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtypes_are_kept(dtype: torch.dtype, tmp_path: Path) -> None:
    model = make("gpt2").to(dtype)
    model.layers[0].norm_1.float()  # … each its own
    save_pretrained(model, str(tmp_path))
    state = load_pretrained(str(tmp_path)).state_dict()
    for key, tensor in model.state_dict().items():
        assert state[key].dtype == tensor.dtype
        assert torch.equal(state[key], tensor)


def test_a_tied_weight_is_stored_once(tmp_path: Path) -> None:
    model = make("gpt2")
    save_pretrained(model, tmp_path)
    names = set(load_file(tmp_path / "model.safetensors"))
    assert "embedding.weight" in names
    assert "head.weight" not in names
    content = json.loads((tmp_path / "config.json").read_text())
    assert content["num_tensors"] == len(names) == len(list(model.parameters()))


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_pretrained(make("bart"), tmp_path / name, CharTokenizer(["<pad>", "好"]))
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == ["config.json", "model.safetensors", "tokenizer.json"]
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_what_config_json_says(tmp_path: Path) -> None:
    save_pretrained(make("bert classifier"), tmp_path)
    content = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    data = (tmp_path / "model.safetensors").read_bytes()
    assert content["class"] == "BertForSequenceClassification"
    assert content["options"] == {"num_labels": 5}
    assert content["config"]["d_model"] == 8
    assert content["weights"] == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert content["lmlib_version"] == lmlib.__version__
    assert content["format"] == "lmlib"
    assert content["format_version"] == 1


def test_a_device_is_given(tmp_path: Path) -> None:
    save_pretrained(make("gpt2"), tmp_path)
    assert load_pretrained(tmp_path, device="meta").embedding.weight.is_meta
    assert load_pretrained(tmp_path, torch.device("cpu")).embedding.weight.device.type == "cpu"


def test_random_numbers_are_left_alone(tmp_path: Path) -> None:
    save_pretrained(make("gpt2"), tmp_path)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    load_pretrained(tmp_path)
    assert torch.equal(torch.rand(2), expected)


def test_the_model_can_be_trained_on(tmp_path: Path) -> None:
    save_pretrained(make("gpt2"), tmp_path)
    model: Any = load_pretrained(tmp_path)
    model(IDS).square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    # Its memory is its own: the file does not change with it.
    with torch.no_grad():
        model.embedding.weight += 1
    assert not torch.equal(load_pretrained(tmp_path).embedding.weight, model.embedding.weight)


def test_every_class_is_where_it_is_said_to_be() -> None:
    for name, module in CLASSES.items():
        if importlib.util.find_spec(f"lmlib.{module}") is not None:
            found = getattr(importlib.import_module(f"lmlib.{module}"), name)
            assert issubclass(found, nn.Module)


@pytest.mark.parametrize("name", ["NPLM", "LSTMLanguageModel", "LSTMSeq2Seq"])
def test_recurrent_models(name: str, tmp_path: Path) -> None:
    recurrent = pytest.importorskip("lmlib.recurrent")
    kind = getattr(recurrent, name)
    config = get_type_hints(kind.__init__)["config"]
    model = kind(config(vocab_size=30)).eval()
    save_pretrained(model, tmp_path)
    found = load_pretrained(tmp_path)
    assert found.config == model.config
    state = found.state_dict()
    assert all(torch.equal(state[key], tensor) for key, tensor in model.state_dict().items())


# ------------------------------------------------------------------ tokenizers

TEXTS = ["你好世界", "你好", "hello world hello"]


@pytest.mark.parametrize(
    "tokenizer",
    [
        CharTokenizer.train(TEXTS),
        BPETokenizer.train(TEXTS, 270),
        WordPieceTokenizer.train(TEXTS, 40),
    ],
    ids=lambda tokenizer: type(tokenizer).__name__,
)
def test_a_tokenizer_comes_back(tokenizer: Any, tmp_path: Path) -> None:
    model = GPT(GPTConfig(300, 9, 8, 1, 2))
    save_pretrained(model, tmp_path, tokenizer)
    found = load_tokenizer(tmp_path)
    assert type(found) is type(tokenizer)
    assert found.vocab == tokenizer.vocab
    assert found.encode("hello 你好") == tokenizer.encode("hello 你好")
    assert load_pretrained(tmp_path).config == model.config

    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer\.json has 2 bytes, but .*config\.json says"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json is missing, which .*speaks of"):
        load_tokenizer(tmp_path)


def test_a_model_without_tokenizer(tmp_path: Path) -> None:
    save_pretrained(make("gpt2"), tmp_path)
    with pytest.raises(ValueError, match="this model was saved without a tokenizer"):
        load_tokenizer(tmp_path)
    rewrite(tmp_path, lambda content: content.update(tokenizer={"class": "Other"}))
    with pytest.raises(ValueError, match="the tokenizer must be one of CharTokenizer, "):
        load_tokenizer(tmp_path)


# ------------------------------------------------------------------ errors when saving


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"model must be one of Transformer, GPT, .*, got Linear"):
        save_pretrained(nn.Linear(2, 2), tmp_path)

    class Impostor(nn.Module):
        pass

    Impostor.__name__ = "GPT"
    with pytest.raises(TypeError, match=r"model must be one of .* of lmlib, got GPT"):
        save_pretrained(Impostor(), tmp_path)
    with torch.device("meta"):
        model = GPT(GPTConfig(10, 8, 8, 1, 2))
    with pytest.raises(ValueError, match="on the meta device"):
        save_pretrained(model, tmp_path)
    model = GPT(GPTConfig(3, 8, 8, 1, 2))
    with pytest.raises(TypeError, match=r"tokenizer must be one of CharTokenizer, .*, got str"):
        save_pretrained(model, tmp_path, "abc")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at most the 3 tokens of the model, got 4"):
        save_pretrained(model, tmp_path, CharTokenizer(list("abcd")))
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match=r"directory must be one, but .*file' is a file"):
        save_pretrained(model, tmp_path / "file")


def test_a_failed_save_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = make("gpt2", seed=1)
    save_pretrained(old, tmp_path)

    def fail(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        save_pretrained(make("gpt2", seed=2), tmp_path)
    assert sorted(x.name for x in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    assert torch.equal(load_pretrained(tmp_path).embedding.weight, old.embedding.weight)


def test_a_save_that_stops_half_way_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_pretrained(make("gpt2", seed=1), tmp_path)
    replace, moved = os.replace, []

    def stop_after_one(source: Any, target: Any) -> None:
        if moved:
            raise KeyboardInterrupt
        moved.append(target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", stop_after_one)
    with pytest.raises(KeyboardInterrupt):
        save_pretrained(make("gpt2", seed=2), tmp_path)
    assert [path.name for path in moved] == ["model.safetensors"], "config.json comes last"
    with pytest.raises(ValueError, match=r"has another SHA-256 than .* says"):
        load_pretrained(tmp_path)


# ------------------------------------------------------------------ errors when loading


def truncate(directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-7])


def flip(directory: Path) -> None:
    path = directory / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def garble(directory: Path) -> None:
    (directory / "model.safetensors").write_bytes(b"x" * 100)
    rehash(directory)


def change_tensors(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        tensors = load_file(directory / "model.safetensors")
        change(tensors)
        save_file(tensors, directory / "model.safetensors")
        rehash(directory)
        rewrite(directory, lambda content: content.update(num_tensors=len(tensors)))

    return damage


def change_config(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    return lambda directory: rewrite(directory, change)


def with_torch_save(directory: Path) -> None:
    torch.save(make("gpt2").state_dict(), directory / "model.safetensors")
    rehash(directory)


DAMAGES: list[tuple[Callable[[Path], object], type[Exception], str]] = [
    (lambda d: (d / "config.json").unlink(), FileNotFoundError, "has no config.json$"),
    (
        lambda d: (d / "model.safetensors").unlink(),
        FileNotFoundError,
        r"model\.safetensors is missing, which .*config\.json speaks of",
    ),
    (truncate, ValueError, r"model\.safetensors has \d+ bytes, but .* says \d+: it is cut off"),
    (flip, ValueError, "has another SHA-256 than .* says: it is damaged"),
    (garble, ValueError, "is not a safetensors file: "),
    (with_torch_save, ValueError, r"model\.safetensors is a pickle, which could run any code"),
    (lambda d: (d / "config.json").write_text("{,"), ValueError, r"config\.json is not JSON: "),
    (lambda d: (d / "config.json").write_text("[]"), ValueError, "is not of lmlib's format"),
    (
        lambda d: (d / "config.json").write_text('{"model_type": "gpt2"}'),
        ValueError,
        "a model of transformers is read by from_huggingface",
    ),
    (
        change_config(lambda c: c.update(format_version=2, lmlib_version="9.0")),
        ValueError,
        "format_version must be 1 for lmlib .*, got 2, written by lmlib 9.0",
    ),
    (
        change_config(lambda c: c.update({"class": "GPT5"})),
        ValueError,
        "class must be one of Transformer, GPT, .*, got 'GPT5'",
    ),
    (change_config(lambda c: c.pop("class")), ValueError, "'class' must be there, of type str"),
    (change_config(lambda c: c.update(config=3)), ValueError, "'config' must be there, of type d"),
    (
        change_config(lambda c: c["config"].update(rope=1)),
        ValueError,
        "a GPTConfig has no field rope",
    ),
    (
        change_config(lambda c: c["config"].pop("norm_first")),
        ValueError,
        "a GPTConfig must have the field norm_first",
    ),
    (
        change_config(lambda c: c["config"].update(num_heads=3)),
        ValueError,
        r"config\.json: d_model must be divisible by num_heads",
    ),
    (
        change_config(lambda c: c["config"].update(d_model="8")),
        ValueError,
        r"config\.json: d_model must be an int, got str",
    ),
    (
        change_config(lambda c: c["config"].update(d_ff=13)),
        ValueError,
        r"layers\.0\.feed_forward\.W_1\.weight in .* has shape \(12, 8\), .* makes it \(13, 8\)",
    ),
    (
        change_config(lambda c: c["config"].update(tie_embeddings=False)),
        ValueError,
        r"model\.safetensors lacks head\.weight, which the model has",
    ),
    (
        change_config(lambda c: c.update(options={"pooler": True})),
        ValueError,
        "a GPT has no such options",
    ),
    (change_config(lambda c: c.update(num_tensors=5)), ValueError, r"must hold 5 tensors, as .*"),
    (
        change_tensors(lambda t: t.update(other=torch.ones(2))),
        ValueError,
        "has other, which the model lacks",
    ),
    (
        change_tensors(lambda t: t.pop("norm.bias")),
        ValueError,
        r"lacks norm\.bias, which the model has",
    ),
]


@pytest.mark.parametrize(("damage", "error", "message"), DAMAGES, ids=[d[2] for d in DAMAGES])
def test_damage(
    damage: Callable[[Path], object], error: type[Exception], message: str, tmp_path: Path
) -> None:
    save_pretrained(make("gpt2"), tmp_path)
    damage(tmp_path)
    with pytest.raises(error, match=message) as caught:
        load_pretrained(tmp_path)
    assert "\n" not in str(caught.value)


def test_what_is_no_directory(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"directory must exist, got .*nowhere'"):
        load_pretrained(tmp_path / "nowhere")
    torch.save({"a": torch.ones(1)}, tmp_path / "model.pt")
    with pytest.raises(NotADirectoryError, match=r"model.pt' is a pickle, which lmlib does not"):
        load_pretrained(tmp_path / "model.pt")
    with pytest.raises(FileNotFoundError, match=r"no config.json; model.pt is a pickle, which"):
        load_pretrained(tmp_path)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / "weights.pkl").write_bytes(pickle.dumps([1.0], protocol))
        with pytest.raises(NotADirectoryError, match=r"weights.pkl' is a pickle"):
            load_pretrained(tmp_path / "weights.pkl")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(NotADirectoryError, match=r"save_pretrained wrote, but .*text' is a file"):
        load_pretrained(tmp_path / "text")


# ------------------------------------------------------------------ imports


def test_importing_it_is_cheap() -> None:
    code = (
        "import sys, lmlib.pretrained; "
        "print([x for x in ('transformers', 'safetensors', 'lmlib.recurrent', 'lmlib.bert') "
        "if x in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
