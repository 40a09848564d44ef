"""What lmlib writes is what transformers' `generate` writes: greedy and beam, 50 tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from huggingface_models import BART, GPT2, GROUPED, LLAMA, MARIAN, PAD, VOCAB, make, randomize

from lmlib.generation import generate
from lmlib.pretrained import from_huggingface

NUM_TOKENS = 50
LONG = {"max_position_embeddings": 64}
MODELS = {
    "gpt2": ("GPT2LMHeadModel", {**GPT2, "n_positions": 64}, 5),
    "gpt2 untied": (
        "GPT2LMHeadModel",
        {**GPT2, "n_positions": 64, "tie_word_embeddings": False},
        5,
    ),
    "llama grouped": ("LlamaForCausalLM", {**GROUPED, **LONG}, 8),
    "llama": ("LlamaForCausalLM", {**LLAMA, **LONG}, 6),
    "qwen2": ("Qwen2ForCausalLM", {**GROUPED, **LONG, "tie_word_embeddings": True}, 6),
    "bart": ("BartForConditionalGeneration", {**BART, **LONG}, 1),
    "marian": ("MarianMTModel", {**MARIAN, **LONG, "scale_embedding": True}, 20),
}
EOS = 3
# How to search; does EOS end a text; on which side is the source padded.
SEARCHES: list[tuple[dict[str, Any], int | None, str]] = [
    ({"num_beams": 1}, None, "left"),
    ({"num_beams": 1, "repetition_penalty": 1.3}, EOS, "right"),
    ({"num_beams": 4, "repetition_penalty": 1.2}, None, "right"),
    ({"num_beams": 3, "length_penalty": 0.3, "early_stopping": True}, EOS, "left"),
]


def rows() -> list[list[int]]:
    """Prompts of unequal length."""
    generator = torch.Generator().manual_seed(11)
    return [torch.randint(5, VOCAB, (n,), generator=generator).tolist() for n in (7, 3, 5)]


def padded(prompts: list[list[int]], side: str) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(map(len, prompts))
    filling = [[PAD] * (longest - len(row)) for row in prompts]
    pairs = zip(prompts, filling, strict=True)
    ids = torch.tensor([b + a if side == "left" else a + b for a, b in pairs])
    return ids, (ids != PAD).long()


def theirs(model: Any, side: str, eos: int | None, **options: Any) -> list[list[int]]:
    """The new tokens of each row, up to its EOS."""
    prompts = rows()
    if model.config.is_encoder_decoder:
        options["suppress_tokens"] = [PAD]  # nobody wants it written, and ours would not look at it
    elif "repetition_penalty" in options:
        # Row by row: up to version 5.20 transformers counts padding as a token that occurred.
        return [row for prompt in prompts for row in written(model, [prompt], side, eos, options)]
    return written(model, prompts, side, eos, options)


def written(
    model: Any, prompts: list[list[int]], side: str, eos: int | None, options: dict[str, Any]
) -> list[list[int]]:
    ids, mask = padded(prompts, side if model.config.is_encoder_decoder else "left")
    model.generation_config.eos_token_id = eos
    model.generation_config.forced_eos_token_id = None
    model.generation_config.pad_token_id = PAD
    out = model.generate(
        ids, attention_mask=mask, do_sample=False, max_new_tokens=NUM_TOKENS, **options
    )
    new = out[:, 1:] if model.config.is_encoder_decoder else out[:, ids.shape[1] :]
    return [row[: row.index(eos) + 1] if eos in row else row for row in new.tolist()]


def ours(model: Any, side: str, eos: int | None, **options: Any) -> list[list[int]]:
    options.update(max_new_tokens=NUM_TOKENS, eos_id=() if eos is None else eos)
    if hasattr(model, "encode"):
        options.update(source=padded(rows(), side)[0], suppress=[PAD])
        return generate(model, **options).token_ids
    return generate(model, rows(), **options).token_ids


@torch.no_grad()
def lively(kind: str, config: dict[str, Any], seed: int) -> Any:
    """A random model that does not write one token again and again: what layers and positions say
    outweighs the biases and the embedding of the last token."""
    model = make(kind, config)
    randomize(model, seed)
    if hasattr(model, "final_logits_bias"):
        model.final_logits_bias *= 0.2
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue  # Marian's sinusoids
        if name.endswith("bias"):
            parameter -= 0.5
        elif "encoder_attn.out_proj" in name:
            parameter *= 0.3
        elif parameter.dim() == 2 and not any(x in name for x in ("wte", "embed_tokens", "shared")):
            parameter *= 4.0 if "decoder" in name and "fc" in name else 2.0
    return model


@pytest.mark.parametrize(("options", "eos", "side"), SEARCHES, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_the_same_tokens(name: str, options: dict[str, Any], eos: int | None, side: str) -> None:
    kind, config, seed = MODELS[name]
    model = lively(kind, config, seed)
    expected = theirs(model, side, eos, **options)
    if eos is None:
        written = {token for row in expected for token in row}
        assert len(written) > 4, f"a text so dull shows nothing: {expected}"
        assert [len(row) for row in expected] == [NUM_TOKENS] * 3
    assert ours(from_huggingface(model), side, eos, **options) == expected
