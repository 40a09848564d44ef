"""Which family a model belongs to, and where it comes from: an object, a directory, a hub."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lmlib._weights import listed

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# The modules of this package, each with CLASSES, to_lmlib and from_lmlib.
FAMILIES = ("bert", "gpt2", "llama", "bart")
# Where a checkpoint does not say which class it holds.
DEFAULT_CLASS = {
    "bert": "BertModel",
    "gpt2": "GPT2LMHeadModel",
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "bart": "BartForConditionalGeneration",
    "marian": "MarianMTModel",
}


def _family(name: str) -> Any:
    return importlib.import_module(f"lmlib._huggingface.{name}")


def _transformers() -> Any:
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise ImportError(
            "transformers must be installed for models of Hugging Face: "
            "pip install 'transformers>=4.45'"
        ) from error


def from_huggingface(
    source: PreTrainedModel | str | os.PathLike[str],
    *,
    dtype: torch.dtype | None = None,
    local_files_only: bool = False,
) -> nn.Module:
    """The model of lmlib that computes what a model of Hugging Face `transformers` does.

    ====================================================  =========================================
    of transformers                                       of lmlib
    ====================================================  =========================================
    ``BertModel``                                         `lmlib.bert.BertModel`
    ``BertForPreTraining``, ``BertForMaskedLM``           `lmlib.bert.BertForPreTraining`
    ``BertForSequenceClassification``                     `lmlib.bert.BertForSequenceClassification`
    ``GPT2LMHeadModel``, ``GPT2Model``                    `lmlib.gpt.GPT`
    ``LlamaForCausalLM``, ``Qwen2ForCausalLM``            `lmlib.gpt.GPT`
    ``BartForConditionalGeneration``, ``MarianMTModel``   `lmlib.transformer.Transformer`
    ====================================================  =========================================

    Logits agree to rounding, and so do gradients. Three things are not numbers of the forward
    pass and differ: lmlib has one dropout rate (theirs of the sublayers' outputs); it masks
    ``pad_id`` by itself in `Transformer` and BERT, they only what ``attention_mask`` says; and
    they keep the embedding of padding from learning, lmlib does not.

    Args:
        source: a model of transformers, a directory with one (as ``save_pretrained`` of
            transformers writes it), or its name on the hub.
        dtype: of the weights; as they are stored if not given.
        local_files_only: take a hub's model from the local cache, without asking the hub.

    Returns:
        the model, in evaluation mode, its weights copied.

    Raises:
        ImportError: transformers is not installed.
        FileNotFoundError: there is no such directory.
        OSError: the model can be had neither from the hub nor from the cache.
        TypeError: ``source`` is something else.
        ValueError: the model is of another class, its config holds something that lmlib does not
            have (the message names the field), or its weights are damaged or do not fit it.
    """
    transformers = _transformers()
    if isinstance(source, nn.Module):
        theirs: Any = source
    elif isinstance(source, (str, os.PathLike)):
        theirs = _load(transformers, os.fspath(source), dtype, local_files_only)
    else:
        raise TypeError(
            "source must be a model of transformers, a directory or a name on the hub, "
            f"got {type(source).__name__}"
        )
    name = type(theirs).__name__
    for family in map(_family, FAMILIES):
        if name in family.CLASSES and isinstance(theirs, transformers.PreTrainedModel):
            model: nn.Module = family.to_lmlib(theirs)
            return model if dtype is None else model.to(dtype)
    raise _unknown_class("source", name)


def _unknown_class(what: str, name: str) -> ValueError:
    known = [kind for family in map(_family, FAMILIES) for kind in family.CLASSES]
    return ValueError(f"{what} must be a transformers model of {', '.join(known)}, got {name}")


def _load(transformers: Any, source: str, dtype: torch.dtype | None, local: bool) -> nn.Module:
    """The transformers model of a directory or a hub."""
    from safetensors import SafetensorError

    is_directory = os.path.isdir(source)
    if is_directory:
        _check_directory(Path(source))
    elif os.path.exists(source) or Path(source).is_absolute() or source.startswith("."):
        raise FileNotFoundError(f"source must be a directory or a name on the hub, got {source!r}")
    options: dict[str, Any] = {"local_files_only": local or is_directory}
    try:
        with _quiet(transformers):
            config = transformers.AutoConfig.from_pretrained(source, **options)
            known = [*(config.architectures or []), DEFAULT_CLASS.get(config.model_type)]
            name = str(known[0] or config.model_type)
            if not any(name in family.CLASSES for family in map(_family, FAMILIES)):
                raise _unknown_class(repr(source), name)
            # transformers 5 renamed the option.
            version = int(transformers.__version__.split(".")[0])
            options["dtype" if version >= 5 else "torch_dtype"] = dtype or "auto"
            model, report = getattr(transformers, name).from_pretrained(
                source, output_loading_info=True, ignore_mismatched_sizes=True, **options
            )
    except OSError as error:
        where = "in that directory" if is_directory else "on the hub or in the local cache"
        first = str(error).strip().partition("\n")[0]
        raise OSError(f"{source!r}: no usable model {where} ({first})") from error
    except SafetensorError as error:
        raise ValueError(f"{source!r}: the weights are damaged or cut off ({error})") from error
    if mismatched := sorted(key[0] for key in report["mismatched_keys"]):
        raise ValueError(
            f"{source!r} has {listed(mismatched)} of another shape than its config says"
        )
    missing = sorted(report["missing_keys"])
    bare = getattr(model, "bert", model)
    if missing and name == "BertModel" and all(key.startswith("pooler.") for key in missing):
        bare.pooler = None  # the checkpoint has none: better none than one of random numbers
    elif missing:
        raise ValueError(f"{source!r} lacks {listed(missing)}, which a {name} needs")
    return model


@contextlib.contextmanager
def _quiet(transformers: Any) -> Any:
    """No progress bars, and no reports of what this module reports itself."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _check_directory(directory: Path) -> None:
    path = directory / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{str(directory)!r} has no config.json, so it holds no model")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is not JSON: {error}") from error
    if isinstance(content, dict) and content.get("format") == "lmlib":
        raise ValueError(f"{str(directory)!r} holds a model of lmlib: load_pretrained reads it")


def to_huggingface(model: nn.Module) -> PreTrainedModel:
    """The model of transformers that computes what a model of lmlib does.

    The way back of `from_huggingface`: `GPT` becomes a ``GPT2LMHeadModel``, ``LlamaForCausalLM`` or
    ``Qwen2ForCausalLM``, `Transformer` a ``BartForConditionalGeneration`` or ``MarianMTModel``,
    BERT its like.

    Args:
        model: a `GPT`, a `Transformer`, or one of `lmlib.bert`.

    Returns:
        the model, in evaluation mode, its weights copied.

    Raises:
        ImportError: transformers is not installed.
        TypeError: ``model`` is something else.
        ValueError: its config holds something that no such model has; the message names the field.
    """
    from lmlib.bert import BertForPreTraining, BertForSequenceClassification, BertModel
    from lmlib.gpt import GPT
    from lmlib.transformer import Transformer

    _transformers()
    if isinstance(model, (BertModel, BertForPreTraining, BertForSequenceClassification)):
        family = "bert"
    elif isinstance(model, Transformer):
        family = "bart"
    elif isinstance(model, GPT):
        family = "gpt2" if model.config.positions == "learned" else "llama"
    else:
        raise TypeError(
            f"model must be a GPT, a Transformer or a BERT of lmlib, got {type(model).__name__}"
        )
    theirs, tensors = _family(family).from_lmlib(model)
    _load_into(theirs, tensors)
    return theirs


def _load_into(theirs: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Give the transformers model these weights; see that it has taken every one."""
    first = next(iter(tensors.values()))
    theirs.to(device=first.device, dtype=first.dtype)
    result = theirs.load_state_dict(tensors, strict=False)
    state = theirs.state_dict()
    computed = ("embed_positions.weight", "final_logits_bias")  # sinusoids, and zeros
    wrong = [name for name in result.missing_keys if not name.endswith(computed)]
    wrong += result.unexpected_keys
    wrong += [name for name in tensors if name in state and not state[name].equal(tensors[name])]
    if wrong:
        raise ValueError(
            f"this version of transformers ties or names {listed(wrong)} otherwise than lmlib"
        )
