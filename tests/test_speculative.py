"""Speculative decoding: greedy it is greedy search, drawn it has the target's distribution."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_language_models import DECODERS, V, decoder, plain_function, small_gpt
from torch import Tensor

from lmlib.generation import (
    PortableGenerator,
    greedy_search,
    min_p_filter,
    repetition_penalty_filter,
    speculative_generate,
    temperature_filter,
    top_k_filter,
    top_p_filter,
)

torch.set_num_threads(1)


class Table:
    """A random model of three tokens: the logits depend on the last token."""

    def __init__(self, seed: int, vocab_size: int = 3) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.logits = torch.randn(vocab_size, vocab_size, generator=generator) * 1.5

    def __call__(self, token_ids: Tensor) -> Tensor:
        return self.logits[token_ids]


def probabilities(
    model: Table, length: int, apply: Callable[[Tensor, Tensor], Tensor]
) -> dict[tuple[int, ...], float]:
    """P of every text of that length behind token 0, under filters: (logits, text) → logits."""
    found = {}
    for text in itertools.product(range(3), repeat=length):
        p, prefix = 1.0, [0]
        for token_id in text:
            logits = apply(model.logits[prefix[-1]].double()[None], torch.tensor([prefix]))
            p *= logits.softmax(-1)[0, token_id].item()
            prefix.append(token_id)
        found[text] = p
    return found


RUNS = 500
FILTERED: dict[str, tuple[dict[str, Any], Callable[[Tensor, Tensor], Tensor]]] = {
    "plain": ({"temperature": 1.0}, lambda x, ids: x),
    "warm": ({"temperature": 1.7}, lambda x, ids: temperature_filter(x, 1.7)),
    "top-k": ({"top_k": 2}, lambda x, ids: top_k_filter(x, 2)),
    "top-p and min-p": (
        {"temperature": 1.5, "top_p": 0.95, "min_p": 0.05},
        lambda x, ids: min_p_filter(top_p_filter(temperature_filter(x, 1.5), 0.95), 0.05),
    ),
    "repetition": (
        {"temperature": 1.0, "repetition_penalty": 2.0},
        lambda x, ids: repetition_penalty_filter(x, ids, 2.0),
    ),
}


@pytest.mark.parametrize(
    ("name", "num_draft"),
    [
        ("plain", 1),
        ("plain", 3),
        ("warm", 2),
        ("top-k", 3),
        ("top-p and min-p", 2),
        ("repetition", 3),
    ],
)
def test_texts_have_the_targets_distribution(name: str, num_draft: int) -> None:
    """χ² over all 27 texts of three tokens. The seed is fixed: this passes always or never."""
    options, apply = FILTERED[name]
    target, draft = Table(seed=1), Table(seed=2)
    generator, runs = PortableGenerator(12345), RUNS
    counts: Counter[tuple[int, ...]] = Counter()
    accepted = 0
    for _ in range(runs):
        written = speculative_generate(
            target,
            draft,
            [0],
            max_new_tokens=3,
            num_draft=num_draft,
            generator=generator,
            **options,
        )
        counts[tuple(written.token_ids[0])] += 1
        accepted += written.accepted
    expected = probabilities(target, 3, apply)
    assert all(expected[text] > 0 for text in counts)
    # Texts that are rare go together, as the χ² test asks for at least 5 of each kind.
    rare = [text for text, p in expected.items() if p * runs < 5]
    kinds = [[text] for text in expected if text not in rare] + ([rare] if rare else [])
    statistic, kinds_possible = 0.0, 0
    for kind in kinds:
        wanted = sum(expected[text] for text in kind) * runs
        if wanted > 0:
            statistic += (sum(counts[text] for text in kind) - wanted) ** 2 / wanted
            kinds_possible += 1
    degrees = kinds_possible - 1
    # Wilson and Hilferty's cube: the χ² that is exceeded with probability 0.001.
    limit = degrees * (1 - 2 / (9 * degrees) + 3.09 * math.sqrt(2 / (9 * degrees))) ** 3
    assert statistic < limit
    assert 0 < accepted < runs * 3  # some were accepted and some refused: both were tried


def test_the_draft_alone_has_another_distribution() -> None:
    """The test above could fail: the draft's texts differ more than its limit allows."""
    p, q = (probabilities(Table(seed=seed), 3, lambda x, ids: x) for seed in (1, 2))
    assert sum((q[text] - p[text]) ** 2 / p[text] * RUNS for text in p) > 300


@pytest.mark.parametrize("num_draft", [1, 4])
@pytest.mark.parametrize("draft", ["ngram", "learned", "function"])
@pytest.mark.parametrize("target", DECODERS)
def test_greedy_is_greedy_search(target: str, draft: str, num_draft: int) -> None:
    model = decoder(target)
    for options in ({}, {"repetition_penalty": 3.0, "suppress": [5]}):
        greedy = greedy_search(model, [3, 4, 5], max_new_tokens=12, eos_id=2, **options)
        for use_cache in (True, False):
            written = speculative_generate(
                model, decoder(draft), [3, 4, 5], max_new_tokens=12, num_draft=num_draft,
                eos_id=2, use_cache=use_cache, **options,
            )  # fmt: skip
            assert written.token_ids == greedy.token_ids
            assert written.log_probs[0] == pytest.approx(greedy.log_probs[0], abs=1e-6)
            assert written.finished == greedy.finished


@settings(max_examples=20, deadline=None)
@given(max_new=st.integers(1, 14), num_draft=st.integers(1, 6))
def test_a_perfect_draft_is_always_accepted(max_new: int, num_draft: int) -> None:
    model = small_gpt()
    for options in ({}, {"temperature": 1.3, "generator": PortableGenerator(max_new)}):
        written = speculative_generate(
            model, small_gpt(), [3, 4], max_new_tokens=max_new, num_draft=num_draft, eos_id=(),
            **options,
        )  # fmt: skip
        assert len(written.token_ids[0]) == max_new
        assert written.accepted == written.drafted
        calls = -(-max_new // (num_draft + 1))
        assert written.target_calls == calls
        assert written.drafted == max_new - calls
        rate = written.acceptance_rate
        assert rate == 1.0 if written.drafted else math.isnan(rate)


def test_a_useless_draft_costs_calls_and_not_tokens() -> None:
    def wrong(token_ids: Tensor) -> Tensor:
        return -1000 * plain_function(token_ids)  # what the target finds least probable

    greedy = greedy_search(plain_function, [3], max_new_tokens=6)
    written = speculative_generate(plain_function, wrong, [3], max_new_tokens=6, num_draft=2)
    assert written.token_ids == greedy.token_ids
    assert (written.accepted, written.acceptance_rate, written.target_calls) == (0, 0.0, 6)
    assert written.drafted == 2 + 2 + 2 + 2 + 1 + 0


def test_the_target_reads_only_what_is_new() -> None:
    model = small_gpt()
    read: list[int] = []
    model.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0].shape[1]))
    speculative_generate(model, small_gpt(), [3, 4, 5], max_new_tokens=8, num_draft=3, eos_id=())
    assert read == [3 + 3, 1 + 3]  # all accepted: the last token of its own, and three more
    read.clear()
    speculative_generate(
        model, lambda ids: -1000 * small_gpt()(ids), [3, 4, 5], max_new_tokens=4, num_draft=2,
        eos_id=(),
    )  # fmt: skip
    assert read == [3 + 2, 1 + 2, 1 + 1, 1]  # the refused ones were forgotten


def test_it_ends_where_the_text_ends() -> None:
    def successor(token_ids: Tensor) -> Tensor:
        return 9.0 * torch.nn.functional.one_hot((token_ids + 1) % 10, 10).double()

    written = speculative_generate(
        successor, successor, [1], max_new_tokens=20, num_draft=6, stop=[[3, 4]]
    )
    assert written.token_ids == [[2, 3, 4]]
    assert (written.finished, written.texts) == (["stop"], [[2]])


def test_a_seed_gives_one_text_and_greedy_leaves_chance_alone() -> None:
    target, draft = small_gpt(seed=1), small_gpt(seed=2)
    texts = [
        speculative_generate(
            target, draft, [3], max_new_tokens=12, temperature=2.0, eos_id=(),
            generator=torch.Generator().manual_seed(seed),
        ).token_ids
        for seed in (0, 0, 1)
    ]  # fmt: skip
    assert texts[0] == texts[1] != texts[2]
    state = torch.get_rng_state()
    speculative_generate(target, draft, [3], max_new_tokens=5)
    assert torch.equal(torch.get_rng_state(), state)


def test_both_models_get_their_modes_back() -> None:
    target, draft = small_gpt(dropout=0.5).train(), small_gpt(dropout=0.5).train()
    written = speculative_generate(target, draft, [3], max_new_tokens=6, eos_id=())
    assert written.acceptance_rate == 1.0  # no dropout
    assert target.training
    assert draft.training


def nothing(token_ids: Tensor) -> Tensor:
    return torch.full((*token_ids.shape, V), -math.inf)


def after_five_nothing(token_ids: Tensor) -> Tensor:
    """Behind token 5 no token is possible; elsewhere 5 is nearly certain."""
    logits = torch.zeros(*token_ids.shape, V)
    logits[..., 5] = 20.0
    return logits.masked_fill((token_ids == 5)[..., None], -math.inf)


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0}])
def test_what_is_impossible_matters_only_where_it_is_reached(options: dict[str, Any]) -> None:
    fives = lambda ids: after_five_nothing(torch.zeros_like(ids))  # noqa: E731
    # The draft has nothing to say behind a 5: then the target goes on by itself.
    written = speculative_generate(fives, after_five_nothing, [3], max_new_tokens=4, **options)
    assert written.token_ids == [[5, 5, 5, 5]]
    assert (written.drafted, written.accepted) == (1, 1)
    # The target knows nothing behind what the draft proposes, but the text ends before.
    written = speculative_generate(
        after_five_nothing, fives, [3], max_new_tokens=4, stop=[5], **options
    )
    assert written.token_ids == [[5]]
    with pytest.raises(ValueError, match="no token is left to choose from at step 1 of row 0"):
        speculative_generate(after_five_nothing, fives, [3], max_new_tokens=4, **options)


ERRORS: list[tuple[dict[str, Any], str]] = [
    ({"prompt": [[3], [4]]}, "prompt must be one row for speculative decoding, got 2"),
    ({"prompt": []}, "prompt must hold at least one token"),
    (
        {"draft": lambda ids: torch.zeros(*ids.shape, 3)},
        "target and draft must have one vocabulary, got 30 and 3 tokens",
    ),
    ({"draft": small_gpt(vocab_size=4)}, "target and draft must have one .* 30 and 4 tokens"),
    ({"num_draft": 0}, "num_draft must be at least 1, got 0"),
    ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, got 0"),
    ({"max_new_tokens": 24}, r"max_seq_len=24, got 1 \+ 24"),
    ({"draft": small_gpt(max_seq_len=4)}, r"max_seq_len=4, got 1 \+ 5"),
    ({"temperature": 0.0}, "for temperature 0 use greedy_search"),
    ({"top_p": 2.0}, "top_p must be above 0 and at most 1, got 2"),
    ({"generator": PortableGenerator(0)}, "generator has nothing to draw in greedy search"),
    (
        {"temperature": 1.0, "generator": [PortableGenerator(0)] * 2},
        "generator must be one or one for each of 1 rows, got 2",
    ),
    ({"stop": [V]}, "stop must hold ids from 0 to 29, got 30"),
    ({"suppress": range(V)}, "suppress must leave at least one of the 30 tokens"),
    ({"suppress": [V]}, "suppress must hold ids from 0 to 29, got 30"),
    ({"target": nothing}, "no token is left to choose from at step 0 of row 0"),
]


@pytest.mark.parametrize(("arguments", "message"), ERRORS)
def test_errors(arguments: dict[str, Any], message: str) -> None:
    given = {"target": small_gpt(), "draft": small_gpt(), "prompt": [3], "max_new_tokens": 5}
    given = {**given, **arguments}
    with pytest.raises(ValueError, match=message):
        speculative_generate(given.pop("target"), given.pop("draft"), given.pop("prompt"), **given)
