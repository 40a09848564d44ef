"""Generation: batches as single rows, caches as none, streams, ends, seeds, modes, errors."""

from __future__ import annotations

import doctest
import math
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_language_models import (
    DECODERS,
    ENCODER_DECODERS,
    V,
    decoder,
    encoder_decoder,
    plain_function,
    small_gpt,
)
from torch import Tensor, nn

from lmlib import generation
from lmlib.generation import (
    Generation,
    PortableGenerator,
    _draw,
    _samplers,
    beam_search,
    generate,
    greedy_search,
    min_p_filter,
    repetition_penalty_filter,
    sample,
    stream,
    temperature_filter,
    top_k_filter,
    top_p_filter,
)

torch.set_num_threads(1)
NEW = 9
PROMPTS = [[3, 4, 5, 6, 7], [8], [9, 10, 11]]
SOURCES = [[3, 4, 5, 6], [7, 8], [9, 10, 11]]


def seeds(count: int) -> list[PortableGenerator]:
    return [PortableGenerator(seed) for seed in range(count)]


def assert_equal(one: Generation, other: Generation) -> None:
    assert one.token_ids == other.token_ids
    assert one.finished == other.finished
    assert one.stop_lengths == other.stop_lengths
    for row, again in zip(one.log_probs, other.log_probs, strict=True):
        assert row == pytest.approx(again, abs=1e-6)
    assert (one.scores is None) == (other.scores is None)
    assert one.scores is None or one.scores == pytest.approx(other.scores, abs=1e-6)


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


def successor(token_ids: Tensor) -> Tensor:
    """After i comes i + 1, of ten tokens."""
    return 9.0 * nn.functional.one_hot((token_ids + 1) % 10, 10).double()


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


def test_only_new_tokens_make_a_stop() -> None:
    written = greedy_search(successor, [6, 7], max_new_tokens=12, stop=[[7, 8]])
    assert written.token_ids == [[8, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8]]


def test_eos_comes_from_the_config_unless_told() -> None:
    def model(token_ids: Tensor) -> Tensor:
        return successor(token_ids)

    model.config = type("Config", (), {"eos_id": 3, "bos_id": 1})  # type: ignore[attr-defined]
    assert greedy_search(model, max_new_tokens=5).token_ids == [[2, 3]]
    assert greedy_search(model, max_new_tokens=4, eos_id=()).token_ids == [[2, 3, 4, 5]]
    assert greedy_search(model, max_new_tokens=5, eos_id=[7, 4]).token_ids == [[2, 3, 4]]


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
    options: dict[str, Any] = {"max_new_tokens": 6}
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


# ------------------------------------------------------------------ errors


def nothing(token_ids: Tensor) -> Tensor:
    return torch.full((*token_ids.shape, 4), -math.inf)


def only_three(token_ids: Tensor) -> Tensor:
    return nothing(token_ids).index_fill(-1, torch.tensor([3]), 0.0)


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
    ({"num_beams": 2, "length_penalty": math.inf}, ValueError, "length_penalty must be a finite"),
    ({"generator": seeds(1)}, ValueError, "generator has nothing to draw in greedy search"),
    ({"top_k": 3, "generator": seeds(2)}, ValueError, "one for each of 1 rows, got 2"),
    ({"top_k": 3, "generator": lambda: 2.0}, ValueError, "numbers from 0 to below 1, got 2"),
    ({"stop": [V]}, ValueError, "stop must hold ids from 0 to 29, got 30"),
    ({"stop": [[3, -1]], "num_beams": 2}, ValueError, "stop must hold ids .* got -1"),
    ({"stop": [[]]}, ValueError, "stop must not hold an empty sequence"),
    ({"stop": 3}, TypeError, "stop must be a list of ids or of lists of ids, got 3"),
    ({"eos_id": V}, ValueError, "eos_id must hold ids from 0 to 29, got 30"),
    ({"suppress": [V]}, ValueError, "suppress must hold ids from 0 to 29, got 30"),
    ({"suppress": range(V)}, ValueError, "suppress must leave at least one of the 30 tokens"),
    ({"on_overflow": "cut"}, ValueError, r"on_overflow must be one of \['error', 'slide'\]"),
    ({"source": [[3], [4]]}, ValueError, "prompt must have one row for each source, 2, got 1"),
    ({"source": []}, ValueError, "source must hold at least one token in each row"),
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
