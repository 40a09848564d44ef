"""Pretrained models: saved to and loaded from a directory, to and from Hugging Face.

A directory holds the weights as safetensors, which cannot run code, and beside them a
``config.json`` that says what they are: the class, its config, and the weights' size and SHA-256.
The same model always gives the same bytes. ::

    save_pretrained(model, "poems", tokenizer)
    model, tokenizer = load_pretrained("poems"), load_tokenizer("poems")
    model = from_huggingface("Qwen/Qwen2-0.5B")
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import torch
from torch import Tensor, nn

from lmlib import __version__
from lmlib._checks import check_choice
from lmlib._huggingface.convert import from_huggingface, to_huggingface
from lmlib._weights import built, fill, listed, own_tensors
from lmlib.tokenizers import BPETokenizer, CharTokenizer, Tokenizer, WordPieceTokenizer

__all__ = [
    "CONFIG_FILE",
    "TOKENIZER_FILE",
    "WEIGHTS_FILE",
    "from_huggingface",
    "load_pretrained",
    "load_tokenizer",
    "save_pretrained",
    "to_huggingface",
]

CONFIG_FILE = "config.json"
"""The file of a directory that says what the model is."""

WEIGHTS_FILE = "model.safetensors"
"""The file of a directory with the weights."""

TOKENIZER_FILE = "tokenizer.json"
"""The file of a directory with the tokenizer, if one was saved."""

FORMAT, FORMAT_VERSION = "lmlib", 1

# The models that can be saved, and the module of lmlib in which each is defined.
CLASSES = {
    "Transformer": "transformer",
    "GPT": "gpt",
    "BertModel": "bert",
    "BertForPreTraining": "bert",
    "BertForSequenceClassification": "bert",
    "NPLM": "recurrent",
    "LSTMLanguageModel": "recurrent",
    "LSTMSeq2Seq": "recurrent",
}
# What a model is made from beside its config, and where the model keeps it.
OPTIONS: dict[str, dict[str, Callable[[Any], object]]] = {
    "BertModel": {"pooler": lambda model: model.pooler is not None},
    "BertForSequenceClassification": {"num_labels": lambda model: model.num_labels},
}
TOKENIZERS: dict[str, type[BPETokenizer | CharTokenizer | WordPieceTokenizer]] = {
    kind.__name__: kind for kind in (CharTokenizer, BPETokenizer, WordPieceTokenizer)
}
# What floating-point weights may be stored and loaded as.
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
# How the files begin that `torch.save` and `pickle` write.
PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


# ------------------------------------------------------------------ saving


def save_pretrained(
    model: nn.Module,
    directory: str | os.PathLike[str],
    tokenizer: Tokenizer | None = None,
    *,
    dtype: str | None = None,
) -> None:
    """Write a model, and the tokenizer that belongs to it, into a directory.

    Each file is written beside its place and then moved there, ``config.json`` last: a reader sees
    a whole file or none, and one that mixes two savings by the hash. A weight that is tied is
    stored once.

    With ``dtype="float16"`` the file is half as long, and each weight is rounded to 11 significant
    bits ("bfloat16": 8); `load_pretrained` gives float32 again.

    Args:
        model: a model of lmlib: one of ``CLASSES``.
        directory: made if it is not there; files of the same names are replaced.
        tokenizer: a `CharTokenizer`, `BPETokenizer` or `WordPieceTokenizer`.
        dtype: store weights as "float32", "float16" or "bfloat16"; None keeps the dtype of each,
            which is float32 where nobody has changed it.

    Raises:
        TypeError: the model or the tokenizer is of another class.
        ValueError: the tokenizer has more tokens than the model, the model is on ``meta``, or a
            weight is too large for ``dtype``.
        NotADirectoryError: there is a file of that name.
    """
    made_from = describe(model)
    check_choice("dtype", dtype, (None, *DTYPES))
    if tokenizer is not None:
        check_tokenizer(tokenizer, model)
    tensors = own_tensors(model)
    if any(tensor.is_meta for tensor in tensors.values()):
        raise ValueError("model must hold weights to be saved, but it is on the meta device")
    if dtype is not None:
        tensors = {name: _narrowed(name, tensor, dtype) for name, tensor in tensors.items()}
    directory = Path(directory)
    if directory.exists() and not directory.is_dir():
        raise NotADirectoryError(f"directory must be one, but {str(directory)!r} is a file")
    directory.mkdir(parents=True, exist_ok=True)

    def write_weights(path: Path) -> None:
        from safetensors.torch import save_file

        flat = {key: tensor.detach().contiguous().cpu() for key, tensor in tensors.items()}
        save_file(flat, path, metadata={"format": "pt"})

    description: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "lmlib_version": __version__,
        **made_from,
        "num_tensors": len(tensors),
        "stored_as": dtype,
        "weights": _replace(directory / WEIGHTS_FILE, write_weights),
        "tokenizer": None,
    }
    if tokenizer is not None:
        description["tokenizer"] = {
            "class": type(tokenizer).__name__,
            **_replace(directory / TOKENIZER_FILE, tokenizer.save),
        }
    text = json.dumps(description, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    _replace(directory / CONFIG_FILE, lambda path: path.write_text(text, encoding="utf-8"))


def _narrowed(name: str, tensor: Tensor, dtype: str) -> Tensor:
    """The weight as ``dtype``; what is not floating-point stays as it is."""
    if not tensor.is_floating_point():
        return tensor
    narrow = tensor.detach().to(DTYPES[dtype])
    if bool((narrow.isinf() & tensor.isfinite()).any()):
        raise ValueError(
            f"dtype={dtype!r} holds numbers up to {torch.finfo(DTYPES[dtype]).max:g}, "
            f"but {name} has {float(tensor.detach().abs().max()):g}"
        )
    return narrow


def describe(model: nn.Module) -> dict[str, Any]:
    """What a model of lmlib is made from, as JSON can hold it: class, config, options.

    Raises:
        TypeError: the model is of another class.
    """
    name = type(model).__name__
    if name not in CLASSES or type(model) is not _class(name):
        raise TypeError(f"model must be one of {', '.join(CLASSES)} of lmlib, got {name}")
    config: Any = model.config
    options = {option: get(model) for option, get in OPTIONS.get(name, {}).items()}
    return {"class": name, "config": dataclasses.asdict(config), "options": options}


def made(description: dict[str, Any], where: str) -> nn.Module:
    """A model as `describe` describes it, with weights that wait to be replaced.

    Raises:
        ValueError: no such model can be made; the message begins with ``where``.
    """
    kind = _class(description["class"])
    config = _config(get_type_hints(kind.__init__)["config"], description["config"], where)
    options = description["options"]
    if list(options) != list(OPTIONS.get(kind.__name__, {})):
        raise ValueError(f"{where}: a {kind.__name__} has no such options, {options}")
    return built(lambda: kind(config, **options))


def _class(name: str) -> Any:
    return getattr(importlib.import_module(f"lmlib.{CLASSES[name]}"), name)


def check_tokenizer(tokenizer: Tokenizer, model: nn.Module) -> None:
    kind = type(tokenizer).__name__
    if TOKENIZERS.get(kind) is not type(tokenizer):
        raise TypeError(f"tokenizer must be one of {', '.join(TOKENIZERS)} of lmlib, got {kind}")
    vocab_size = getattr(model.config, "vocab_size", None)
    if vocab_size is not None and len(tokenizer) > vocab_size:
        raise ValueError(
            f"tokenizer must have at most the {vocab_size} tokens of the model, "
            f"got {len(tokenizer)}"
        )


def _replace(path: Path, write: Callable[[Path], object]) -> dict[str, Any]:
    """Let ``write`` make the file in one step; returns its size and hash.

    The disk has the bytes before the name points to them, so that a crash leaves no empty file.
    """
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        facts = _facts(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return facts


def _facts(path: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


# ------------------------------------------------------------------ loading


def load_pretrained(
    directory: str | os.PathLike[str],
    device: torch.device | str | None = None,
    *,
    dtype: str | None = None,
) -> nn.Module:
    """The model that `save_pretrained` wrote, in evaluation mode.

    Args:
        directory: where it is.
        device: where to put it; the CPU if not given.
        dtype: of its weights: "float32", "float16" or "bfloat16"; None for the dtypes they had when
            it was saved, or float32 if it was saved with a ``dtype``.

    Returns:
        a model of the class that was saved; saved and loaded without ``dtype``, its logits are the
        same to the bit.

    Raises:
        FileNotFoundError, NotADirectoryError: there is no such directory, or it lacks a file.
        ValueError: a file is damaged, of another format, or does not fit the others; the message
            says which, and how.
    """
    check_choice("dtype", dtype, (None, *DTYPES))
    description, where = _describe(Path(directory))
    model = made(description, where)
    path = Path(directory) / WEIGHTS_FILE
    _check_file(path, description["weights"], where)
    tensors = _read_tensors(path)
    if len(tensors) != description["num_tensors"]:
        raise ValueError(
            f"{path} must hold {description['num_tensors']} tensors, as {where} says, "
            f"got {len(tensors)}"
        )
    if dtype is None and description["stored_as"] is not None:
        dtype = "float32"
    if dtype is not None:
        wide = DTYPES[dtype]
        tensors = {k: t.to(wide) if t.is_floating_point() else t for k, t in tensors.items()}
    fill(model, tensors, str(path))
    return model if device is None else model.to(device)


def load_tokenizer(
    directory: str | os.PathLike[str],
) -> BPETokenizer | CharTokenizer | WordPieceTokenizer:
    """The tokenizer that `save_pretrained` wrote beside a model.

    Raises:
        FileNotFoundError, NotADirectoryError, ValueError: see `load_pretrained`; the model was
            saved without one.
    """
    description, where = _describe(Path(directory))
    facts = description["tokenizer"]
    if facts is None:
        raise ValueError(f"{where}: this model was saved without a tokenizer")
    if not isinstance(facts, dict) or facts.get("class") not in TOKENIZERS:
        raise ValueError(f"{where}: the tokenizer must be one of {', '.join(TOKENIZERS)}")
    path = Path(directory) / TOKENIZER_FILE
    _check_file(path, facts, where)
    return TOKENIZERS[facts["class"]].load(path)


def _describe(directory: Path) -> tuple[dict[str, Any], str]:
    """The checked content of ``config.json``, and its path for messages."""
    path = directory / CONFIG_FILE
    if not directory.exists():
        raise FileNotFoundError(f"directory must exist, got {str(directory)!r}")
    if not directory.is_dir():
        raise NotADirectoryError(
            f"directory must be one that save_pretrained wrote, but {str(directory)!r} is "
            f"{_kind_of_file(directory)}"
        )
    if not path.is_file():
        others = [x.name for x in sorted(directory.iterdir()) if x.is_file() and _is_pickle(x)]
        hint = f"; {listed(others)} is a pickle, which lmlib does not load" if others else ""
        raise FileNotFoundError(f"{str(directory)!r} has no {CONFIG_FILE}{hint}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(
            f"{path} is not of lmlib's format (a model of transformers is read by from_huggingface)"
        )
    if content.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{path}: format_version must be {FORMAT_VERSION} for lmlib {__version__}, got "
            f"{content.get('format_version')!r}, written by lmlib {content.get('lmlib_version')}"
        )
    kinds = {"class": str, "config": dict, "options": dict, "weights": dict, "num_tensors": int}
    for key, kind in kinds.items():
        if not isinstance(content.get(key), kind):
            raise ValueError(f"{path}: {key!r} must be there, of type {kind.__name__}")
    if content["class"] not in CLASSES:
        raise ValueError(
            f"{path}: class must be one of {', '.join(CLASSES)}, got {content['class']!r}"
        )
    content.setdefault("tokenizer", None)
    if content.setdefault("stored_as", None) not in (None, *DTYPES):
        raise ValueError(
            f"{path}: stored_as must be one of {', '.join(DTYPES)}, got {content['stored_as']!r}"
        )
    return content, str(path)


def _config(kind: type[Any], values: dict[str, Any], where: str) -> Any:
    names = [field.name for field in dataclasses.fields(kind)]
    if unknown := [name for name in values if name not in names]:
        raise ValueError(f"{where}: a {kind.__name__} has no field {listed(unknown)}")
    if missing := [name for name in names if name not in values]:
        raise ValueError(f"{where}: a {kind.__name__} must have the field {listed(missing)}")
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from error


def _check_file(path: Path, facts: dict[str, Any], where: str) -> None:
    """The file is there, and the one that was written together with ``config.json``."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing, which {where} speaks of")
    if _is_pickle(path):
        raise ValueError(f"{path} is a pickle, which could run any code: lmlib does not load it")
    found = _facts(path)
    if found["bytes"] != facts.get("bytes"):
        raise ValueError(
            f"{path} has {found['bytes']} bytes, but {where} says {facts.get('bytes')}: "
            "it is cut off, or belongs to another model"
        )
    if found["sha256"] != facts.get("sha256"):
        raise ValueError(
            f"{path} has another SHA-256 than {where} says: "
            "it is damaged, or belongs to another model"
        )


def _read_tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file: {error}") from error


def _is_pickle(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(4).startswith(PICKLES)


def _kind_of_file(path: Path) -> str:
    return "a pickle, which lmlib does not load" if _is_pickle(path) else "a file"
