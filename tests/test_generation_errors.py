"""Generation: errors at the door, each with its sentence; and the examples of the docstrings."""

from __future__ import annotations

import doctest
import math
from typing import Any

import pytest
import torch
from small_language_models import (
    V,
    encoder_decoder,
    plain_function,
    seeds,
    small_gpt,
    successor,
)
from torch import Tensor

from lmlib import generation
from lmlib.generation import _draw, _samplers, generate, sample, stream

torch.set_num_threads(1)


def nothing(token_ids: Tensor) -> Tensor:
    return torch.full((*token_ids.shape, 4), -math.inf)


def only_three(token_ids: Tensor) -> Tensor:
    return nothing(token_ids).index_fill(-1, torch.tensor([3]), 0.0)


def plain_function_32(token_ids: Tensor) -> Tensor:
    return plain_function(token_ids).float()


GPT = small_gpt()
SEQ2SEQ = encoder_decoder("transformer")
LEFT = "no token is left to choose from at step 0 of row 0"
ERRORS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"prompt": []}, ValueError, "prompt must hold at least one token in each row, .*row 0"),
    ({"prompt": [[3], []]}, ValueError, "prompt must hold at least one token .*row 1"),
    ({"prompt": [[3], 4]}, ValueError, "prompt must hold ids or rows of ids, not both"),
    ({"prompt": torch.zeros(2, 0)}, ValueError, "prompt must hold at least one token"),
    ({"prompt": torch.ones(2)}, TypeError, r"prompt must hold integer token ids, got 1\.0"),
    ({"prompt": "床前"}, TypeError, "prompt must be token ids, a list of such rows or an integer"),
    ({"prompt": [True]}, TypeError, "prompt must hold integer token ids, got True"),
    ({"prompt": [V]}, ValueError, "token_ids must hold ids from 0 to 29, got 30"),
    ({"model": successor, "prompt": None}, ValueError, "prompt must be given, .*no bos_id"),
    ({"max_new_tokens": 0}, ValueError, "max_new_tokens must be at least 1, got 0"),
    ({"max_new_tokens": 22}, ValueError, r"must fit into max_seq_len=24, got 3 \+ 22"),
    ({"max_new_tokens": 22, "num_beams": 2}, ValueError, r"max_seq_len=24, got 3 \+ 22"),
    ({"temperature": 0}, ValueError, "must be above 0, got 0; for temperature 0 use greedy_search"),
    ({"temperature": -1.0}, ValueError, "temperature must be above 0, got -1"),
    ({"top_p": 0.0}, ValueError, "top_p must be above 0 and at most 1, got 0"),
    ({"top_p": 1.5}, ValueError, "top_p must be above 0 and at most 1, got 1.5"),
    ({"min_p": 0.0}, ValueError, "min_p must be above 0 and at most 1, got 0"),
    ({"top_k": 0}, ValueError, "top_k must be at least 1, got 0"),
    ({"repetition_penalty": 0.0}, ValueError, "repetition_penalty must be above 0, got 0"),
    ({"num_beams": 0}, ValueError, "num_beams must be at least 1, got 0"),
    ({"num_beams": 2, "top_k": 3}, ValueError, "num_beams=2 does not sample: it takes no top_k"),
    ({"num_beams": 2, "generator": seeds(1)}, ValueError, "num_beams=2 .* takes no generator"),
    ({"num_beams": 2, "num_return": 3}, ValueError, "num_return must be at most num_beams=2"),
    ({"num_beams": 2, "num_return": 0}, ValueError, "num_return must be at least 1, got 0"),
    ({"num_beams": 2, "early_stopping": 1.5}, ValueError, "early_stopping must be one of"),
    ({"num_beams": 2, "length_penalty": 51}, ValueError, "length_penalty must be from -50 to 50"),
    ({"num_beams": 2, "length_penalty": math.nan}, ValueError, "from -50 to 50, got nan"),
    ({"generator": seeds(1)}, ValueError, "generator has nothing to draw in greedy search"),
    ({"top_k": 3, "generator": seeds(2)}, ValueError, "one for each of 1 rows, got 2"),
    ({"top_k": 3, "generator": 7}, TypeError, "generator must be a torch.Generator, .* got int"),
    ({"top_k": 3, "generator": [7]}, TypeError, "generator must be a torch.Generator, .* got int"),
    ({"top_k": 3, "generator": lambda: 2.0}, ValueError, "numbers from 0 to below 1, got 2"),
    ({"stop": [V]}, ValueError, "stop must hold ids from 0 to 29, got 30"),
    ({"stop": [[3, -1]], "num_beams": 2}, ValueError, "stop must hold ids .* got -1"),
    ({"stop": [[]]}, ValueError, "stop must not hold an empty sequence"),
    ({"stop": 3}, TypeError, "stop must be a list of ids or of lists of ids, got 3"),
    ({"stop": "。"}, TypeError, "stop must be a list of ids or of lists of ids, got '。'"),
    ({"stop": ["。"]}, TypeError, "stop must hold integer token ids, got '。'"),
    ({"eos_id": 2.5}, TypeError, r"eos_id must hold integer token ids, got 2\.5"),
    ({"eos_id": "。"}, TypeError, "eos_id must hold integer token ids, got '。'"),
    ({"eos_id": True}, TypeError, "eos_id must hold integer token ids, got True"),
    ({"suppress": ["。"]}, TypeError, "suppress must hold integer token ids, got '。'"),
    ({"suppress": "。", "num_beams": 2}, TypeError, "suppress must hold integer token ids"),
    ({"eos_id": V}, ValueError, "eos_id must hold ids from 0 to 29, got 30"),
    ({"suppress": [V]}, ValueError, "suppress must hold ids from 0 to 29, got 30"),
    ({"suppress": range(V)}, ValueError, "suppress must leave at least one of the 30 tokens"),
    ({"on_overflow": "cut"}, ValueError, r"on_overflow must be one of \['error', 'slide'\]"),
    (
        {"model": SEQ2SEQ, "source": [[3], [4]]},
        ValueError,
        "prompt must have one row for each source, 2, got 1",
    ),
    ({"source": [3]}, ValueError, "source is for an encoder–decoder, and GPT has no encoder"),
    ({"model": SEQ2SEQ}, ValueError, "source must be given, for Transformer is an encoder–decoder"),
    (
        {"model": SEQ2SEQ, "num_beams": 2},
        ValueError,
        "source must be given, for Transformer is an encoder–decoder",
    ),
    (
        {"model": SEQ2SEQ, "source": []},
        ValueError,
        "source must hold at least one token in each row",
    ),
    (
        {"model": lambda s, t: successor(t), "prompt": [[1], [1]], "source": [[3], [4, 5]]},
        ValueError,
        "source must have rows of equal length, for the model has no pad_id",
    ),
    (
        {"model": SEQ2SEQ, "source": [3], "max_new_tokens": 30, "on_overflow": "slide"},
        ValueError,
        "on_overflow='slide' would lose the decoder's BOS",
    ),
    (
        {"model": lambda ids: ids},
        ValueError,
        r"model must return logits \(batch, n, vocab_size\) .*\(1, 3\), got \(1, 3\)",
    ),
    ({"model": lambda ids: [1]}, ValueError, "model must return logits .*got list"),
    ({"model": nothing}, ValueError, LEFT),
    ({"model": nothing, "top_p": 0.5}, ValueError, LEFT),
    ({"model": nothing, "num_beams": 2}, ValueError, LEFT),
    ({"model": plain_function_32, "temperature": 1e-40}, ValueError, LEFT),  # 3 / 1e-40 is ∞
    ({"model": only_three, "suppress": [3]}, ValueError, LEFT),
    ({"model": only_three, "suppress": [3], "top_k": 2}, ValueError, LEFT),
    ({"model": only_three, "suppress": [3], "num_beams": 2}, ValueError, LEFT),
    (
        {"model": only_three, "num_beams": 2, "num_return": 2},
        ValueError,
        "num_return=2 texts are asked for, but only 1 are possible",
    ),
]


@pytest.mark.parametrize(("arguments", "error", "message"), ERRORS)
def test_errors(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {"model": GPT, "prompt": [3, 4, 5], "max_new_tokens": 4, **arguments}
    with pytest.raises(error, match=message):
        generate(arguments.pop("model"), arguments.pop("prompt"), **arguments)


def test_a_stream_checks_at_the_call_and_each_choice() -> None:
    with pytest.raises(ValueError, match="top_k must be at least 1"):
        stream(plain_function, [3], max_new_tokens=3, top_k=0)
    with pytest.raises(ValueError, match="generator has nothing to draw in greedy search"):
        stream(plain_function, [3], max_new_tokens=3, generator=seeds(1)[0])
    with pytest.raises(TypeError, match=r"stream\(\) got an unexpected keyword"):
        stream(plain_function, [3], max_new_tokens=3, num_beams=2)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match=LEFT):
        next(stream(nothing, [3], max_new_tokens=3))


def test_sampling_needs_a_temperature() -> None:
    with pytest.raises(ValueError, match="use greedy_search"):
        sample(plain_function, [3], max_new_tokens=3, temperature=0.0)


@pytest.mark.parametrize("module", [generation, _samplers, _draw], ids=lambda m: m.__name__)
def test_examples(module: Any) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 1
    assert result.failed == 0
