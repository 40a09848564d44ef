"""Generation: what is left to chance and what is not; modes, gradients, number formats."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_language_models import (
    DECODERS,
    ENCODER_DECODERS,
    PROMPTS,
    V,
    assert_equal,
    decoder,
    encoder_decoder,
    plain_function,
    small_gpt,
)
from torch import nn

from lmlib.generation import (
    PortableGenerator,
    beam_search,
    generate,
    greedy_search,
    sample,
    speculative_generate,
    stream,
)

torch.set_num_threads(1)
NEW = 9

# ------------------------------------------------------------------ chance


def test_the_draws_can_be_repeated_by_hand() -> None:
    """One number for each row at each step, in order, those of rows that have ended too."""
    written = sample(
        plain_function, [[3], [4]], max_new_tokens=8, stop=[12, 29], generator=PortableGenerator(9)
    )
    assert sorted(map(len, written.token_ids))[0] < 8  # one row ends before
    generator = PortableGenerator(9)
    texts, ended = [[3], [4]], [False, False]
    for _ in range(8):
        for row, text in enumerate(texts):
            u = generator.random()
            if ended[row]:
                continue
            logits = plain_function(torch.tensor([text]))[0, -1].tolist()
            weights = [math.exp(logit - max(logits)) for logit in logits]
            target, cumulative = u * sum(weights), 0.0
            for token_id, weight in enumerate(weights):  # noqa: B007
                cumulative += weight
                if cumulative > target:
                    break
            text.append(token_id)
            ended[row] = token_id in (12, 29)
    assert [text[1:] for text in texts] == written.token_ids


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: torch.Generator().manual_seed(seed),
        PortableGenerator,
        random.Random,
        lambda seed: random.Random(seed).random,
    ],
)
def test_a_seed_gives_one_text(make: Callable[[int], Any]) -> None:
    texts = [
        sample(plain_function, PROMPTS, max_new_tokens=8, generator=make(seed)).token_ids
        for seed in (0, 0, 1)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_without_a_generator_torchs_own_is_used() -> None:
    texts = []
    for seed in (4, 4, 5):
        torch.manual_seed(seed)
        texts.append(sample(plain_function, [3], max_new_tokens=8).token_ids)
    assert texts[0] == texts[1] != texts[2]


def test_greedy_search_leaves_chance_alone() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    generate(plain_function, [3], max_new_tokens=3)
    generate(plain_function, [3], max_new_tokens=3, num_beams=2)
    assert torch.equal(torch.get_rng_state(), state)


def test_generate_comes_to_the_right_function() -> None:
    options: dict[str, Any] = {
        "max_new_tokens": 6, "repetition_penalty": 1.5, "suppress": [4], "stop": [[9, 9]],
        "eos_id": 11, "use_cache": False,
    }  # fmt: skip
    assert_equal(
        generate(plain_function, [3], **options), greedy_search(plain_function, [3], **options)
    )
    for asked in ({"temperature": 0.7}, {"top_k": 3}, {"top_p": 0.5}, {"min_p": 0.2}):
        mine = generate(plain_function, [3], generator=PortableGenerator(2), **options, **asked)
        theirs = sample(plain_function, [3], generator=PortableGenerator(2), **options, **asked)
        assert_equal(mine, theirs)
        assert mine.token_ids != generate(plain_function, [3], **options).token_ids
    assert_equal(
        generate(plain_function, [3], num_beams=3, **options),
        beam_search(plain_function, [3], num_beams=3, **options),
    )


def test_a_cold_sample_is_greedy() -> None:
    greedy = greedy_search(plain_function, PROMPTS, max_new_tokens=NEW)
    for cold in ({"temperature": 1e-4}, {"top_k": 1}, {"top_p": 1e-9}, {"min_p": 1.0}):
        assert_equal(generate(plain_function, PROMPTS, max_new_tokens=NEW, **cold), greedy)


# ------------------------------------------------------------------ modes


def test_dropout_is_off_and_each_module_gets_its_mode_back() -> None:
    model = small_gpt(dropout=0.5).train()
    model.layers[0].eval()
    modes = [module.training for module in model.modules()]
    ways: list[Callable[[], Any]] = [
        lambda: greedy_search(model, [3], max_new_tokens=4),
        lambda: beam_search(model, [3], max_new_tokens=4),
        lambda: sample(model, [3], max_new_tokens=4, generator=PortableGenerator(0)),
    ]
    for way in ways:
        first = way()
        assert_equal(way(), first)
        assert [module.training for module in model.modules()] == modes
    for _ in stream(model, [3], max_new_tokens=3):
        assert [module.training for module in model.modules()] == modes
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
    with pytest.raises(ValueError, match="token_ids must hold ids"):
        greedy_search(model, [V], max_new_tokens=4)
    assert [module.training for module in model.modules()] == modes


def test_models_in_bfloat16() -> None:
    model = small_gpt().bfloat16()
    for way in ({}, {"temperature": 1.0, "top_p": 0.9}, {"num_beams": 3}):
        written = generate(model, PROMPTS, max_new_tokens=5, eos_id=(), **way)
        assert [len(row) for row in written.token_ids] == [5, 5, 5]
        text = torch.tensor([PROMPTS[0] + written.token_ids[0]])
        log_probs = model(text)[0, 4:-1].float().log_softmax(-1)
        expected = log_probs.gather(1, text[0, 5:, None])[:, 0].tolist()
        assert written.log_probs[0] == pytest.approx(expected, abs=0.1)


WAYS: tuple[dict[str, Any], ...] = ({}, {"temperature": 1.0, "top_p": 0.9}, {"num_beams": 2})


MODULES = [name for name in (*DECODERS, *ENCODER_DECODERS) if name not in ("ngram", "function")]


@pytest.mark.parametrize("name", MODULES)
def test_every_family_writes_in_bfloat16_and_can_be_trained_afterwards(name: str) -> None:
    reads_source = name in ENCODER_DECODERS
    model = encoder_decoder(name) if reads_source else decoder(name)
    prompts: dict[str, Any] = {"source" if reads_source else "prompt": [[3, 4], [5]]}
    inputs = (torch.tensor([[3, 4, 5, 6]]), torch.tensor([[1, 4, 5, 6]]))[: 1 + reads_source]
    for dtype in (torch.float32, torch.bfloat16):
        model.to(dtype).eval()
        for way in WAYS:
            written = generate(model, **prompts, max_new_tokens=4, eos_id=(), **way)
            assert [len(row) for row in written.token_ids] == [4, 4]
            assert all(math.isfinite(log_prob) for row in written.log_probs for log_prob in row)
        # What generation left behind (tables of positions, say) must not be inference tensors.
        model.train()
        model(*inputs).sum().backward()


def test_a_module_without_a_config() -> None:
    module = nn.Embedding(V, V)  # token ids (batch, n) → (batch, n, V): a model of bigrams
    for way in ({}, {"num_beams": 2}, {"top_k": 3}, {"on_overflow": "slide"}):
        written = generate(module, [[3, 4], [5]], max_new_tokens=4, **way)
        assert written.finished == ["length", "length"]
    greedy = greedy_search(module, [3], max_new_tokens=4)
    drafted = speculative_generate(module, module, [3], max_new_tokens=4)
    assert drafted.token_ids == greedy.token_ids
