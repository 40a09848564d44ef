"""Filters equal transformers' warpers; the draw follows its rule; the generator is portable."""

from __future__ import annotations

import math
import random
import shutil
import subprocess
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lmlib.generation import (
    PortableGenerator,
    draw,
    min_p_filter,
    repetition_penalty_filter,
    temperature_filter,
    top_k_filter,
    top_p_filter,
)
from lmlib.generation._draw import uniforms

torch.set_num_threads(1)


def random_logits(seed: int, batch: int, vocab_size: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, vocab_size, generator=generator, dtype=torch.float64) * 3


sizes = {
    "seed": st.integers(0, 2**16),
    "batch": st.integers(1, 3),
    "vocab_size": st.integers(1, 12),
}


# ------------------------------------------------------------------ filters against transformers


@settings(max_examples=60, deadline=None)
@given(**sizes, temperature=st.floats(0.05, 20), top_k=st.integers(1, 15), p=st.floats(0.01, 1.0))
def test_filters_are_transformers_warpers(
    seed: int, batch: int, vocab_size: int, temperature: float, top_k: int, p: float
) -> None:
    from transformers.generation import logits_process as theirs

    logits = random_logits(seed, batch, vocab_size)
    ids = torch.zeros(batch, 1, dtype=torch.long)
    pairs = [
        (temperature_filter(logits, temperature), theirs.TemperatureLogitsWarper(temperature)),
        (top_k_filter(logits, top_k), theirs.TopKLogitsWarper(top_k)),
        (min_p_filter(logits, p), theirs.MinPLogitsWarper(p)),
    ]
    if p < 1:  # at 1 its rounding may drop a token, and its generate leaves it out
        pairs.append((top_p_filter(logits, p), theirs.TopPLogitsWarper(p)))
    for mine, warper in pairs:
        torch.testing.assert_close(mine, warper(ids, logits.clone()))


@settings(max_examples=60, deadline=None)
@given(**sizes, penalty=st.floats(0.2, 5), n=st.integers(1, 6))
def test_repetition_penalty_is_transformers(
    seed: int, batch: int, vocab_size: int, penalty: float, n: int
) -> None:
    from transformers.generation.logits_process import RepetitionPenaltyLogitsProcessor

    logits = random_logits(seed, batch, vocab_size)
    ids = torch.randint(0, vocab_size, (batch, n), generator=torch.Generator().manual_seed(seed))
    mine = repetition_penalty_filter(logits, ids, penalty)
    theirs = RepetitionPenaltyLogitsProcessor(penalty)(ids, logits.clone())
    torch.testing.assert_close(mine, theirs)


# ------------------------------------------------------------------ filters by their definitions


@settings(max_examples=100, deadline=None)
@given(**sizes, p=st.floats(0.001, 1.0))
def test_the_nucleus_is_the_smallest_set_of_that_mass(
    seed: int, batch: int, vocab_size: int, p: float
) -> None:
    logits = random_logits(seed, batch, vocab_size)
    kept = top_p_filter(logits, p).isfinite()
    for probs, mask in zip(logits.softmax(-1), kept, strict=True):
        inside = sorted(probs[mask].tolist())
        assert inside
        assert sum(inside) >= p - 1e-12
        assert len(inside) == 1 or sum(inside[1:]) < p + 1e-12  # one less is not enough
        assert min(inside) >= max(probs[~mask].tolist(), default=0.0)


def test_filters_leave_what_they_keep_and_their_input() -> None:
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).log()
    before = logits.clone()
    out = -math.inf
    assert top_k_filter(logits, 2).tolist() == [out, out, logits[2], logits[3]]
    assert top_p_filter(logits, 0.5).tolist() == [out, out, logits[2], logits[3]]
    assert top_p_filter(logits, 0.39).tolist() == [out, out, out, logits[3]]
    assert min_p_filter(logits, 0.6).tolist() == [out, out, logits[2], logits[3]]
    assert min_p_filter(logits, 1.0).tolist() == [out, out, out, logits[3]]
    for same in (top_k_filter(logits, 4), top_p_filter(logits, 1.0), top_k_filter(logits, 99)):
        assert same.tolist() == before.tolist()
    assert torch.equal(logits, before)


def test_filters_take_any_leading_dimensions_and_keep_the_dtype() -> None:
    filters: list[Callable[[Tensor], Tensor]] = [
        lambda x: temperature_filter(x, 0.7),
        lambda x: top_k_filter(x, 2),
        lambda x: top_p_filter(x, 0.6),
        lambda x: min_p_filter(x, 0.3),
    ]
    logits = random_logits(0, 6, 5)
    for apply in filters:
        rows = torch.stack([apply(row) for row in logits])
        torch.testing.assert_close(apply(logits.view(2, 3, 5)), rows.view(2, 3, 5))
        assert apply(logits.bfloat16()).dtype == torch.bfloat16
        assert apply(logits.to("meta")).shape == logits.shape


def test_top_p_1_keeps_every_token_of_a_long_tail() -> None:
    logits = -torch.arange(40.0) * 2  # the last cannot be seen beside 1 in float32
    assert torch.equal(top_p_filter(logits, 1.0), logits)


def test_the_nucleus_of_bfloat16_logits_is_that_of_the_same_numbers() -> None:
    logits = (-torch.arange(40.0) / 4).bfloat16()
    for p in (0.5, 0.9, 0.99, 0.999, 0.9999):
        kept = top_p_filter(logits.double(), p).isfinite()
        assert torch.equal(top_p_filter(logits, p).isfinite(), kept)


def test_of_equal_tokens_the_nucleus_takes_the_first() -> None:
    assert top_p_filter(torch.zeros(64), 0.5).isfinite().tolist() == [True] * 32 + [False] * 32


def test_repetition_penalty_ignores_padding() -> None:
    logits = torch.tensor([[2.0, 2.0, -2.0, 2.0]])
    ids, mask = torch.tensor([[0, 2, 3, 3]]), torch.tensor([[False, True, True, True]])
    assert repetition_penalty_filter(logits, ids, 4.0, mask).tolist() == [[2.0, 2.0, -8.0, 0.5]]


# ------------------------------------------------------------------ the draw


@settings(max_examples=100, deadline=None)
@given(**sizes, u=st.floats(0, 1, exclude_max=True))
def test_the_draw_follows_its_rule(seed: int, batch: int, vocab_size: int, u: float) -> None:
    logits = random_logits(seed, batch, vocab_size)
    out = torch.rand(logits.shape, generator=torch.Generator().manual_seed(seed)) < 0.3
    out[:, seed % vocab_size] = False
    logits = logits.masked_fill(out, -math.inf)
    drawn = draw(logits, torch.full((batch,), u, dtype=torch.float64)).tolist()
    for row, token_id in zip(logits.tolist(), drawn, strict=True):
        weights = [math.exp(logit - max(row)) for logit in row]
        total = sum(weights)
        before, upto = sum(weights[:token_id]), sum(weights[: token_id + 1])
        assert weights[token_id] > 0
        assert before <= u * total * (1 + 1e-12)
        assert upto >= u * total * (1 - 1e-12)


def test_the_draw_at_its_ends() -> None:
    logits = torch.tensor([[-math.inf, 0.0, -math.inf, 0.0, -math.inf]])
    for u, token_id in ((0.0, 1), (0.4999, 1), (0.5, 3), (1 - 2**-53, 3)):
        assert draw(logits, torch.tensor([u], dtype=torch.float64)).tolist() == [token_id]


def test_draws_have_the_probabilities() -> None:
    # The uniforms of a grid: each token comes as often as its probability says, to one draw.
    probs = torch.tensor([0.25, 0.5, 0.125, 0.0, 0.125], dtype=torch.float64)
    u = (torch.arange(800, dtype=torch.float64) + 0.5) / 800
    counts = draw(probs.log().expand(800, -1), u).bincount(minlength=5)
    assert counts.tolist() == [200, 400, 100, 0, 100]


def test_uniforms_come_from_every_kind_of_generator() -> None:
    seeded = torch.rand(3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    assert torch.equal(uniforms(torch.Generator().manual_seed(5), 3), seeded)
    python, again = random.Random(5), random.Random(5)
    expected = [again.random() for _ in range(3)]
    assert uniforms(python, 3).tolist() == expected
    assert uniforms(iter(expected).__next__, 3).tolist() == expected
    each = uniforms([PortableGenerator(1), PortableGenerator(2)], 2).tolist()
    assert each == [PortableGenerator(1).random(), PortableGenerator(2).random()]
    torch.manual_seed(6)
    first = uniforms(None, 2)
    torch.manual_seed(6)
    assert torch.equal(uniforms(None, 2), first)


def test_a_row_of_numbers_is_taken_in_the_order_of_rows() -> None:
    one = uniforms(PortableGenerator(3), 4).tolist()
    generator = PortableGenerator(3)
    assert [generator.random() for _ in range(4)] == one


# ------------------------------------------------------------------ the portable generator

# What the JavaScript of the docstring gives, run by node.
FIRST = {
    0: [1144304738, 1416247, 958946056],
    1: [2693262067, 11749833, 2265367787],
    42: [2581720956, 1925393290, 3661312704],
    2**32 - 1: [3850105811, 813802916, 3073704848],
}


@pytest.mark.parametrize("seed", FIRST)
def test_portable_numbers(seed: int) -> None:
    generator = PortableGenerator(seed)
    assert [generator.random() * 2**32 for _ in range(3)] == FIRST[seed]


def javascript() -> str:
    """The lines of code in the docstring."""
    lines = (PortableGenerator.__doc__ or "").splitlines()
    start = next(i for i, line in enumerate(lines) if "a = (a +" in line)
    return "\n".join(lines[start : start + 4])


@pytest.mark.skipif(shutil.which("node") is None, reason="no node on this machine")
def test_the_docstrings_javascript_is_the_same_generator() -> None:
    code = (
        f"for (const seed of {list(FIRST)}) {{ let a = seed | 0; const next = () => {{"
        f"{javascript()} }};\nfor (let i = 0; i < 50; i++) console.log(next()); }}"
    )
    result = subprocess.run(["node", "-e", code], capture_output=True, text=True, check=True)
    numbers = [float(line) for line in result.stdout.split()]
    generators = [PortableGenerator(seed) for seed in FIRST]
    assert numbers == [generator.random() for generator in generators for _ in range(50)]


def test_portable_numbers_are_uniform() -> None:
    generator = PortableGenerator(7)
    numbers = torch.tensor([generator.random() for _ in range(20_000)])
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts = (numbers * 100).long().bincount(minlength=100)
    assert (counts - 200).square().sum() / 200 < 150  # χ² of 99 degrees: beyond is p < 0.001
    assert abs(torch.corrcoef(torch.stack([numbers[:-1], numbers[1:]]))[0, 1]) < 0.02


# ------------------------------------------------------------------ errors

LOGITS = torch.zeros(2, 4)
IDS = torch.zeros(2, 3, dtype=torch.long)
P = "must be above 0 and at most 1, got"
ERRORS: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: temperature_filter(LOGITS, -1.0), ValueError, "temperature must be above 0, got -1"),
    (lambda: temperature_filter(LOGITS, 0), ValueError, "got 0; for temperature 0 use greedy"),
    (lambda: temperature_filter(LOGITS, math.nan), ValueError, "temperature must be above 0"),
    (lambda: temperature_filter(IDS, 1.0), TypeError, "logits must be a floating-point tensor"),
    (lambda: top_k_filter(LOGITS, 0), ValueError, "top_k must be at least 1, got 0"),
    (lambda: top_k_filter(LOGITS, 2.5), TypeError, "top_k must be an int, got float"),  # type: ignore[arg-type]
    (lambda: top_p_filter(LOGITS, 0.0), ValueError, f"top_p {P} 0"),
    (lambda: top_p_filter(LOGITS, 1.1), ValueError, f"top_p {P} 1.1"),
    (lambda: top_p_filter(LOGITS, math.nan), ValueError, f"top_p {P} nan"),
    (lambda: min_p_filter(LOGITS, 0.0), ValueError, f"min_p {P} 0"),
    (lambda: min_p_filter(LOGITS, 2), ValueError, f"min_p {P} 2"),
    (
        lambda: repetition_penalty_filter(LOGITS, IDS, 0.0),
        ValueError,
        "repetition_penalty must be above 0, got 0",
    ),
    (
        lambda: repetition_penalty_filter(LOGITS, IDS + 4, 2.0),
        ValueError,
        "token_ids must hold ids from 0 to 3, got 4",
    ),
    (
        lambda: repetition_penalty_filter(LOGITS, IDS[:1], 2.0),
        ValueError,
        r"token_ids must have the leading dimensions of logits, \(2,\), got \(1,\)",
    ),
    (
        lambda: repetition_penalty_filter(LOGITS, IDS, 2.0, IDS),
        ValueError,
        "mask must be boolean of the shape of token_ids",
    ),
    (lambda: uniforms(lambda: 1.0, 1), ValueError, "generator must give numbers from 0 to below 1"),
    (lambda: uniforms(7, 1), TypeError, "generator must be a torch.Generator, something with"),  # type: ignore[arg-type]
    (lambda: PortableGenerator(-1), ValueError, r"seed must be an integer from 0 to 2\*\*32 - 1"),
    (lambda: PortableGenerator(1.5), ValueError, "got 1.5"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("call", "error", "message"), ERRORS)
def test_errors(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
