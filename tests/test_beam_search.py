"""Beam search: wide enough it finds the best of all texts; narrow, what a plain one would."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lmlib.generation import beam_search

torch.set_num_threads(1)


class Table:
    """A random model of a tiny vocabulary: logits by the last two tokens and their place.

    By the place too, for else texts of the same pairs of tokens tie.
    """

    def __init__(self, vocab_size: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        shape = (9, vocab_size, vocab_size, vocab_size)
        self.logits = torch.randn(shape, generator=generator, dtype=torch.float64) * 1.5

    def __call__(self, token_ids: Tensor) -> Tensor:
        before = torch.cat([token_ids[:, :1], token_ids[:, :-1]], dim=1)
        return self.logits[torch.arange(token_ids.shape[1]), before, token_ids]

    def log_prob(self, text: list[int], repetition: float = 1.0) -> float:
        """ln P(new tokens | first), each times the penalty where the token stood before."""
        log_probs = self(torch.tensor([text]))[0].log_softmax(-1)
        return sum(
            log_probs[i, text[i + 1]].item() * (repetition if text[i + 1] in text[: i + 1] else 1)
            for i in range(len(text) - 1)
        )


def all_texts(vocab_size: int, max_new: int, eos: int) -> list[list[int]]:
    """Every text that ends: with EOS, or by its length."""
    texts = []
    for length in range(1, max_new + 1):
        for text in itertools.product(range(vocab_size), repeat=length):
            if eos not in text[:-1] and (text[-1] == eos or length == max_new):
                texts.append(list(text))
    return texts


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    vocab_size=st.integers(2, 4),
    max_new=st.integers(1, 4),
    length_penalty=st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0]),
    num_return=st.integers(1, 3),
)
def test_wide_beams_find_the_best_of_all_texts(
    seed: int, vocab_size: int, max_new: int, length_penalty: float, num_return: int
) -> None:
    model, eos = Table(vocab_size, seed), 1
    texts = all_texts(vocab_size, max_new, eos)
    num_return = min(num_return, len(texts))
    scores = [
        model.log_prob([0, *text]) / len(text) ** length_penalty for text in texts
    ]  # a text that beam search may not cut
    order = sorted(range(len(texts)), key=lambda i: -scores[i])[:num_return]
    found = beam_search(
        model, [0], max_new_tokens=max_new, num_beams=vocab_size**max_new, eos_id=eos,
        length_penalty=length_penalty, num_return=num_return, early_stopping="never",
    )  # fmt: skip
    assert found.token_ids == [texts[i] for i in order]
    assert found.scores == pytest.approx([scores[i] for i in order])
    for text, log_probs in zip(found.token_ids, found.log_probs, strict=True):
        assert sum(log_probs) == pytest.approx(model.log_prob([0, *text]))


def plain_beam_search(
    model: Table,
    first: int,
    eos: list[int],
    max_new: int,
    num_beams: int,
    penalty: float,
    early: bool | str,
    repetition: float,
) -> list[tuple[float, list[int]]]:
    """The rules of the docstring, written once more, with nothing but sorted lists."""
    beams: list[tuple[float, list[int]]] = [(0.0, [])]
    kept: list[tuple[float, list[int]]] = []
    for length in range(1, max_new + 1):
        candidates = [
            (model.log_prob([first, *text, token], repetition), [*text, token])
            for _, text in beams
            for token in range(model.logits.shape[-1])
        ]
        candidates.sort(key=lambda candidate: -candidate[0])
        ends = [text[-1] in eos or length == max_new for _, text in candidates]
        kept += [
            (total / length**penalty, text)
            for (total, text), end in list(zip(candidates, ends, strict=True))[:num_beams]
            if end
        ]
        kept = sorted(kept, key=lambda text: -text[0])[:num_beams]
        beams = [beam for beam, end in zip(candidates, ends, strict=True) if not end][:num_beams]
        if not beams:
            break
        if len(kept) == num_beams:
            far = max_new if early == "never" and penalty > 0 else length
            if early is True or beams[0][0] / far**penalty <= kept[-1][0]:
                break
    return kept


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    vocab_size=st.integers(4, 6),
    eos=st.sampled_from([[1], [1, 3], [0, 1, 3]]),
    max_new=st.integers(1, 7),
    num_beams=st.integers(1, 3),
    penalty=st.sampled_from([-1.0, 0.0, 0.7, 1.0, 2.0]),
    early=st.sampled_from([True, False, "never"]),
    repetition=st.sampled_from([1.0, 2.5]),
)
def test_narrow_beams_find_what_the_rules_say(
    seed: int,
    vocab_size: int,
    eos: list[int],
    max_new: int,
    num_beams: int,
    penalty: float,
    early: bool | str,
    repetition: float,
) -> None:
    model = Table(vocab_size, seed)
    for first in (0, 2):
        kept = plain_beam_search(model, first, eos, max_new, num_beams, penalty, early, repetition)
        found = beam_search(
            model, [first], max_new_tokens=max_new, num_beams=num_beams, num_return=len(kept),
            eos_id=eos, length_penalty=penalty, early_stopping=early,
            repetition_penalty=repetition,
        )  # fmt: skip
        assert found.token_ids == [text for _, text in kept]
        assert found.scores == pytest.approx([score for score, _ in kept])


def test_greedy_misses_what_beams_find() -> None:
    """A garden path: the best first token has no good second one."""
    logits = torch.full((4, 4, 4), -9.0)
    logits[0, 0] = torch.tensor([0.0, 0.0, 0.55, 0.45]).log()
    logits[0, 2] = torch.tensor([0.25, 0.25, 0.25, 0.25]).log()
    logits[0, 3] = torch.tensor([0.96, 0.04, 0.0, 0.0]).log()
    model = Table(4, 0)
    model.logits = logits.expand(9, -1, -1, -1)
    options: dict[str, Any] = {"max_new_tokens": 2, "length_penalty": 0.0}
    found = beam_search(model, [0], num_beams=2, **options)
    assert found.token_ids == [[3, 0]]
    assert found.scores == pytest.approx([math.log(0.45 * 0.96)])
    assert found.log_probs[0] == pytest.approx([math.log(0.45), math.log(0.96)])


def test_a_repetition_penalty_follows_its_beam() -> None:
    """Beams change places at the second token: what each has seen goes with it."""
    by_last = torch.full((5, 5), 0.2)
    by_last[0] = torch.tensor([0.01, 0.50, 0.45, 0.02, 0.02])
    by_last[1] = torch.tensor([0.01, 0.01, 0.08, 0.40, 0.50])
    by_last[2] = torch.tensor([0.02, 0.02, 0.02, 0.90, 0.04])  # 2, 3 passes 1, 4
    by_last[3] = torch.tensor([0.10, 0.30, 0.50, 0.05, 0.05])  # 2 again costs 0.5³
    model = Table(5, seed=0)
    model.logits = by_last.log().double().expand(9, 5, 5, 5)
    found = beam_search(
        model, [0], max_new_tokens=3, num_beams=2, length_penalty=0.0, repetition_penalty=3.0
    )
    assert found.token_ids == [[2, 3, 1]]
    assert found.scores == pytest.approx([math.log(0.45 * 0.90 * 0.30)])


class Places:
    """A model that gives the same distribution whatever it read, another one at each place."""

    def __init__(self, *probs: list[float]) -> None:
        self.logits = torch.tensor(probs, dtype=torch.float64).log()

    def __call__(self, token_ids: Tensor) -> Tensor:
        n = token_ids.shape[1]
        return self.logits[:n].expand(len(token_ids), -1, -1)


@pytest.mark.parametrize("ends", [{"eos_id": [1, 2, 3]}, {"eos_id": 1, "stop": [2, [3]]}], ids=str)
def test_with_many_ends_num_beams_still_go_on(ends: dict[str, Any]) -> None:
    """The three best candidates end, and the fourth and fifth are the two beams."""
    model = Table(5, seed=0)
    logits = torch.full((5, 5), 0.2)
    logits[0] = torch.tensor([0.15, 0.30, 0.25, 0.20, 0.10])
    logits[4] = torch.tensor([0.0025, 0.99, 0.0025, 0.0025, 0.0025])
    model.logits = logits.log().double().expand(9, 5, 5, 5)
    found = beam_search(
        model, [0], max_new_tokens=2, num_beams=2, length_penalty=2.0, early_stopping="never",
        **ends,
    )  # fmt: skip
    assert found.token_ids == [[4, 1]]
    assert found.scores == pytest.approx([math.log(0.10 * 0.99) / 2**2])


@pytest.mark.parametrize(
    ("early", "second"), [(True, [0, 1]), (1, [0, 1]), (False, [0, 0, 1]), ("never", [0, 0, 1])]
)
def test_when_the_search_stops(early: bool | str, second: list[int]) -> None:
    """With a penalty below 0 a text scores best where it ends at once, also for "never"."""
    model = Places([0.4, 0.6], [0.9, 0.1], *([[0.01, 0.99]] * 8))
    found = beam_search(
        model, [0], max_new_tokens=10, num_beams=2, num_return=2, eos_id=1, length_penalty=-1.0,
        early_stopping=early,
    )  # fmt: skip
    assert found.token_ids == [[1], second]


def test_never_waits_for_a_long_text_that_scores_better() -> None:
    """Its total per token falls for a while, and only at full length it is the best."""
    model = Places([0.4, 0.6], [0.9, 0.1], *([[0.999, 0.001]] * 4))
    options: dict[str, Any] = {"max_new_tokens": 6, "num_beams": 1, "eos_id": 1}
    for early, best in ((True, [1]), (False, [1]), ("never", [0] * 6)):
        found = beam_search(model, [0], early_stopping=early, **options)
        assert found.token_ids == [best]


def test_stop_sequences_end_a_beam() -> None:
    model = Table(4, seed=5)
    found = beam_search(
        model, [0], max_new_tokens=8, num_beams=4, num_return=4, stop=[[2, 3], [1]],
        early_stopping=True,
    )  # fmt: skip
    for text, why, length in zip(found.token_ids, found.finished, found.stop_lengths, strict=True):
        assert why == "stop"
        assert (text[-length:], length) in (([2, 3], 2), ([1], 1))
        assert 1 not in text[:-1]
        assert "2, 3" not in str(text[:-1])
