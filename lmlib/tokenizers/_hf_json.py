"""Reading the byte-level BPE of a Hugging Face `tokenizer.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lmlib.tokenizers._base import read_json


def read_bpe(path: Path, default_pattern: str) -> dict[str, Any]:
    """The arguments of `BPETokenizer` for the tokenizer in this file or folder.

    Raises:
        ValueError: the file is no byte-level BPE, or asks for what `BPETokenizer` does not do.
    """
    path = path / "tokenizer.json" if path.is_dir() else path
    content = read_json(path)
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, dict) or "merges" not in model:
        raise ValueError(f'{path} is not a BPE tokenizer: "model" has no "merges"')
    # With "ignore_merges" a piece that is a token is taken whole, whether merges lead there or not.
    unsupported = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges")
    for option in unsupported:
        if model.get(option):
            raise ValueError(f"{path} asks for {option}={model[option]!r}, which is not supported")
    if content.get("normalizer") is not None:
        raise ValueError(f"{path} asks for a normalizer, which is not supported")
    ids = dict(model["vocab"])
    specials = []
    for row in content.get("added_tokens", []):
        ids[row["content"]] = row["id"]
        specials.append(row["content"])
    vocab = sorted(ids, key=ids.__getitem__)
    if [ids[token] for token in vocab] != list(range(len(vocab))):
        raise ValueError(f"{path} must number its {len(vocab)} tokens from 0 on without gaps")
    merges = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
    return {
        "vocab": vocab,
        "merges": merges,
        "specials": specials,
        "pattern": _pattern(path, content.get("pre_tokenizer"), default_pattern),
    }


def _pattern(path: Path, stage: Any, default_pattern: str) -> str:
    """The pattern of a `ByteLevel` stage, or of a `Split` before it."""
    stages = stage.get("pretokenizers", [stage]) if isinstance(stage, dict) else []
    kinds = [stage.get("type") for stage in stages]
    if kinds in (["ByteLevel"], ["Split", "ByteLevel"]) and not stages[-1].get("add_prefix_space"):
        if kinds == ["ByteLevel"] and stages[0].get("use_regex", True):
            return default_pattern
        split = stages[0]
        by_regex = kinds[0] == "Split" and "Regex" in split["pattern"] and not split.get("invert")
        if by_regex and split["behavior"] == "Isolated" and not stages[1].get("use_regex", True):
            return str(split["pattern"]["Regex"])
    raise ValueError(
        f"{path} must cut the text by ByteLevel, or by Split and ByteLevel: got {kinds}"
    )
