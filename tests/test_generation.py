"""Generation: batches as single rows, caches as none, windows, ends, streams."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_language_models import (
    DECODERS,
    ENCODER_DECODERS,
    PROMPTS,
    V,
    assert_equal,
    decoder,
    encoder_decoder,
    plain_function,
    seeds,
    small_gpt,
    successor,
)
from torch import Tensor, nn

from lmlib.generation import (
    Generation,
    PortableGenerator,
    beam_search,
    generate,
    greedy_search,
    min_p_filter,
    repetition_penalty_filter,
    stream,
    temperature_filter,
    top_k_filter,
    top_p_filter,
)

torch.set_num_threads(1)
NEW = 9
SOURCES = [[3, 4, 5, 6], [7, 8], [9, 10, 11]]


def joined(parts: list[Generation]) -> Generation:
    """One batch of several generations."""
    scores = [score for part in parts for score in part.scores or ()]
    return Generation(
        [row for part in parts for row in part.token_ids],
        [row for part in parts for row in part.log_probs],
        [reason for part in parts for reason in part.finished],
        [length for part in parts for length in part.stop_lengths],
        scores or None,
    )


# ------------------------------------------------------------------ batches and caches

WAYS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "greedy with penalty": {"repetition_penalty": 2.0},
    "sample": {"temperature": 1.5, "top_p": 0.9},
    "beams": {"num_beams": 3, "num_return": 2},
    "beams with penalty": {"num_beams": 3, "repetition_penalty": 2.0, "length_penalty": 0.0},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", DECODERS)
def test_a_batch_is_its_rows_alone(name: str, way: str) -> None:
    model, options = decoder(name), {"max_new_tokens": NEW, "stop": [20], **WAYS[way]}
    sampling = "temperature" in options

    def alone(row: int, use_cache: bool) -> Generation:
        if sampling:
            options["generator"] = PortableGenerator(row)
        return generate(model, PROMPTS[row], use_cache=use_cache, **options)

    rows = joined([alone(row, use_cache=False) for row in range(len(PROMPTS))])
    for use_cache in (True, False):
        if sampling:
            options["generator"] = seeds(len(PROMPTS))
        assert_equal(generate(model, PROMPTS, use_cache=use_cache, **options), rows)
    assert_equal(joined([alone(row, use_cache=True) for row in range(len(PROMPTS))]), rows)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_an_encoder_decoder_writes_as_if_alone(name: str, way: str) -> None:
    model, options = encoder_decoder(name), {"max_new_tokens": NEW, **WAYS[way]}
    # A plain function has no pad_id to fill sources up with.
    sources = [row[:2] for row in SOURCES] if name == "function" else SOURCES
    for prompts in ([[1], [1], [1]], [[1, 5, 6], [1], [1, 7]]):
        alone = []
        for row, (source, prompt) in enumerate(zip(sources, prompts, strict=True)):
            if "temperature" in options:
                options["generator"] = PortableGenerator(row)
            alone.append(generate(model, prompt, source=source, use_cache=False, **options))
        for use_cache in (True, False):
            if "temperature" in options:
                options["generator"] = seeds(3)
            batch = generate(model, prompts, source=sources, use_cache=use_cache, **options)
            assert_equal(batch, joined(alone))


def test_an_encoder_decoder_begins_with_bos_and_reads_its_source() -> None:
    model = encoder_decoder("transformer")
    source = torch.tensor([[3, 4, 5], [6, 7, 8]])
    written = generate(model, source=source, max_new_tokens=4, eos_id=())
    assert_equal(written, generate(model, [[1], [1]], source=source, max_new_tokens=4, eos_id=()))
    target_in = torch.tensor([[1, *row[:-1]] for row in written.token_ids])
    logits = model(source, target_in)
    assert logits.argmax(-1).tolist() == written.token_ids


@pytest.mark.parametrize("name", DECODERS)
def test_log_probs_are_the_models_before_any_filter(name: str) -> None:
    model = decoder(name)
    options = {"temperature": 2.0, "top_k": 5, "repetition_penalty": 1.5, "suppress": [4]}
    written = generate(
        model, PROMPTS[0], max_new_tokens=NEW, eos_id=(), generator=PortableGenerator(1), **options
    )
    text = torch.tensor([PROMPTS[0] + written.token_ids[0]])
    log_probs = model(text)[0, len(PROMPTS[0]) - 1 : -1].log_softmax(-1)
    expected = log_probs.gather(1, text[0, len(PROMPTS[0]) :, None])[:, 0].tolist()
    assert written.log_probs[0] == pytest.approx(expected, abs=1e-6)


def test_every_form_of_a_prompt() -> None:
    rows = [[3, 4], [5, 6]]
    batch = greedy_search(plain_function, rows, max_new_tokens=3)
    assert_equal(greedy_search(plain_function, torch.tensor(rows), max_new_tokens=3), batch)
    tensors: Any = [torch.tensor(row) for row in rows]
    assert_equal(greedy_search(plain_function, tensors, max_new_tokens=3), batch)
    one = greedy_search(plain_function, rows[0], max_new_tokens=3)
    assert one.token_ids == batch.token_ids[:1]
    assert_equal(greedy_search(plain_function, torch.tensor(rows[0]), max_new_tokens=3), one)
    model = small_gpt()
    bos = greedy_search(model, [1], max_new_tokens=3)
    assert_equal(greedy_search(model, max_new_tokens=3), bos)


class Counting(nn.Module):
    """Notes what it is asked."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.config = model.config
        self.new_caches = model.new_caches
        self.calls: list[tuple[int, ...]] = []

    def forward(self, token_ids: Tensor, *args: Any, **options: Any) -> Tensor:
        self.calls.append(tuple(token_ids.shape))
        assert not torch.is_grad_enabled()
        assert not self.model.training
        return self.model(token_ids, *args, **options)


def test_with_caches_each_token_is_read_once() -> None:
    model = Counting(small_gpt())
    greedy_search(model, [[3, 4], [5, 6]], max_new_tokens=4, eos_id=())
    assert model.calls == [(2, 2), (2, 1), (2, 1), (2, 1)]
    model.calls.clear()
    beam_search(model, [3, 4, 5], max_new_tokens=3, num_beams=2, eos_id=())
    assert model.calls == [(1, 3), (2, 1), (2, 1)]
    model.calls.clear()
    greedy_search(model, [3, 4], max_new_tokens=3, eos_id=(), use_cache=False)
    assert model.calls == [(1, 2), (1, 3), (1, 4)]


def test_the_window_slides() -> None:
    model = small_gpt(max_seq_len=6)
    prompts = [[3, 4, 5, 6, 7], [8, 9]]
    written = greedy_search(model, prompts, max_new_tokens=8, eos_id=(), on_overflow="slide")
    for prompt, new in zip(prompts, written.token_ids, strict=True):
        text = list(prompt)
        for token_id in new:
            assert model(torch.tensor([text[-6:]]))[0, -1].argmax().item() == token_id
            text.append(token_id)
    # Where everything fits nothing slides, and the caches are used.
    counting = Counting(model)
    greedy_search(counting, [3], max_new_tokens=5, eos_id=(), on_overflow="slide")
    assert counting.calls == [(1, 1)] * 5


# ------------------------------------------------------------------ ends


@pytest.mark.parametrize("num_beams", [1, 2])
def test_a_text_ends_at_eos_or_stop_or_length(num_beams: int) -> None:
    written = generate(
        successor, [[1], [4], [7], [0, 1]], max_new_tokens=5, eos_id=4, stop=[[7, 8], [9]],
        num_beams=num_beams,
    )  # fmt: skip
    assert written.token_ids == [[2, 3, 4], [5, 6, 7, 8], [8, 9], [2, 3, 4]]
    assert written.finished == ["eos", "stop", "stop", "eos"]
    assert written.stop_lengths == [1, 2, 1, 1]
    assert written.texts == [[2, 3], [5, 6], [8], [2, 3]]
    longer = generate(successor, [5], max_new_tokens=3, eos_id=4, num_beams=num_beams)
    assert (longer.token_ids, longer.finished) == ([[6, 7, 8]], ["length"])
    assert longer.texts == longer.token_ids


@pytest.mark.parametrize("num_beams", [1, 2])
def test_only_new_tokens_make_a_stop(num_beams: int) -> None:
    options: dict[str, Any] = {"num_beams": num_beams, "length_penalty": 0.0}
    options = options if num_beams > 1 else {}
    written = generate(successor, [6, 7], max_new_tokens=12, stop=[[7, 8]], **options)
    assert written.token_ids == [[8, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8]]


def test_eos_comes_from_the_config_unless_told() -> None:
    def model(token_ids: Tensor) -> Tensor:
        return successor(token_ids)

    model.config = type("Config", (), {"eos_id": 3, "bos_id": 1})  # type: ignore[attr-defined]
    assert greedy_search(model, max_new_tokens=5).token_ids == [[2, 3]]
    assert greedy_search(model, max_new_tokens=4, eos_id=()).token_ids == [[2, 3, 4, 5]]
    assert greedy_search(model, max_new_tokens=5, eos_id=[7, 4]).token_ids == [[2, 3, 4]]


def test_ids_come_in_any_form() -> None:
    """One id, a list, a tensor: for eos_id, suppress, and each of the stops."""
    written = greedy_search(successor, [1], max_new_tokens=5, eos_id=4)
    for eos_id in ([4], (4, 8), torch.tensor(4), torch.tensor([8, 4]), range(4, 6)):
        assert_equal(greedy_search(successor, [1], max_new_tokens=5, eos_id=eos_id), written)
    for stop in ([4], [[3, 4]], torch.tensor([8, 4]), [torch.tensor([3, 4]), 8]):
        ended = greedy_search(successor, [1], max_new_tokens=5, stop=stop)
        assert (ended.token_ids, ended.finished) == ([[2, 3, 4]], ["stop"])
    for suppress in (2, [2], torch.tensor([2]), range(2, 3), {2}):
        written = greedy_search(successor, [1], max_new_tokens=1, suppress=suppress)
        assert written.token_ids == [[0]]  # the others are equal: the first of them
        beams = beam_search(successor, [1], max_new_tokens=1, suppress=suppress)
        assert beams.token_ids != [[2]]


def test_the_loop_ends_with_the_last_row() -> None:
    calls = []

    def model(token_ids: Tensor) -> Tensor:
        calls.append(token_ids.shape[1])
        return successor(token_ids)

    greedy_search(model, [[1], [2]], max_new_tokens=50, eos_id=4)
    assert calls == [1, 2, 3]


# ------------------------------------------------------------------ streams


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 99),
    options=st.sampled_from(
        [{}, {"temperature": 1.2, "top_k": 6}, {"min_p": 0.1, "repetition_penalty": 1.3}]
    ),
)
def test_a_stream_is_what_is_generated(seed: int, options: dict[str, Any]) -> None:
    options = {"max_new_tokens": 6, "stop": [11, 17, 26], **options}
    sampling = "temperature" in options or "min_p" in options
    generators = [{"generator": PortableGenerator(seed)} if sampling else {} for _ in range(2)]
    prompts = [[seed % V], [3, 4]]
    whole = generate(plain_function, prompts, **options, **generators[0])
    steps = list(stream(plain_function, prompts, **options, **generators[1]))
    for row in range(2):
        ids = [step.token_ids[row] for step in steps]
        length = len(whole.token_ids[row])
        assert ids == whole.token_ids[row] + [None] * (len(steps) - length)
        log_probs = [step.log_probs[row] for step in steps]
        assert log_probs == whole.log_probs[row] + [None] * (len(steps) - length)
        reasons = [step.finished[row] for step in steps]
        why = whole.finished[row]
        assert reasons == [None] * (length - 1) + [why] * (len(steps) - length + 1)
    assert all(step.distributions == {} for step in steps)


def test_a_stream_shows_the_distribution_behind_each_filter() -> None:
    options: dict[str, Any] = {
        "suppress": [5], "repetition_penalty": 1.5, "temperature": 1.0, "top_k": 12,
        "top_p": 0.95, "min_p": 0.01,
    }  # fmt: skip
    text = [3, 4]
    for step in stream(
        plain_function, text, max_new_tokens=6, need_distributions=True,
        generator=PortableGenerator(0), **options,
    ):  # fmt: skip
        logits = plain_function(torch.tensor([text]))[:, -1]
        expected = {"model": logits}
        expected["suppress"] = logits = logits.index_fill(1, torch.tensor([5]), -math.inf)
        logits = repetition_penalty_filter(logits, torch.tensor([text]), 1.5)
        expected["repetition_penalty"] = logits
        expected["temperature"] = logits = temperature_filter(logits, 1.0)
        expected["top_k"] = logits = top_k_filter(logits, 12)
        expected["top_p"] = logits = top_p_filter(logits, 0.95)
        expected["min_p"] = min_p_filter(logits, 0.01)
        assert list(step.distributions) == list(expected)
        for name, probs in step.distributions.items():
            torch.testing.assert_close(probs, expected[name].softmax(-1))
        (token_id,) = step.token_ids
        assert step.distributions["min_p"][0, token_id] > 0
        text.append(token_id)
