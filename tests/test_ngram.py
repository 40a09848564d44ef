"""N-gram models: equal to the formulas worked out plainly, and to nltk.lm."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.lm import MLE, KneserNeyInterpolated, Lidstone, Vocabulary
from nltk.lm.preprocessing import padded_everygram_pipeline
from small_ngrams import BOS, EOS, SMOOTHINGS, Textbook, V, contexts, text

from lmlib.ngram import NGramModel

torch.set_num_threads(1)


# ------------------------------------------------------------------ against the formulas


@pytest.mark.parametrize("options", SMOOTHINGS, ids=str)
@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_every_probability_is_the_formulas(order: int, options: dict[str, Any]) -> None:
    train, test = text(), text(8, seed=5, words=6)
    model = NGramModel(order, V, **options).fit(train)
    book = Textbook(order, train, options)
    if options["smoothing"] == "kneser_ney":
        assert model.discounts == pytest.approx(book.D)
    for h in contexts(order):
        expected = [book.prob(w, h) for w in range(V)]
        assert sum(expected) == pytest.approx(1, abs=1e-12)
        got = model.distribution(h)
        assert got.dtype == torch.float64
        assert got.tolist() == pytest.approx(expected, abs=1e-12)
        assert [model.prob(w, h) for w in range(V)] == pytest.approx(expected, abs=1e-12)
    total = []
    for sequence in test:
        padded = [BOS] * (order - 1) + [*sequence, EOS]
        p = [
            book.prob(padded[i], tuple(padded[i - order + 1 : i] if order > 1 else ()))
            for i in range(order - 1, len(padded))
        ]
        logs = [math.log(x) if x else -math.inf for x in p]
        assert model.token_log_probs(sequence).tolist() == pytest.approx(logs)
        assert model.log_prob(sequence) == pytest.approx(sum(logs))
        total += logs
    assert model.perplexity(test) == pytest.approx(math.exp(-sum(total) / len(total)))


@settings(max_examples=60, deadline=None)
@given(
    sequences=st.lists(st.lists(st.integers(3, 7), max_size=6), min_size=1, max_size=6),
    context=st.lists(st.integers(0, V - 1), max_size=5),
    order=st.integers(1, 5),
    options=st.sampled_from(SMOOTHINGS),
)
def test_probabilities_sum_to_one(
    sequences: list[list[int]], context: list[int], order: int, options: dict[str, Any]
) -> None:
    model = NGramModel(order, V, **options).fit(sequences)
    p = model.distribution(context)
    assert p.shape == (V,)
    assert bool((p >= 0).all())
    assert float(p.sum()) == pytest.approx(1, abs=1e-12)
    book = Textbook(order, sequences, options)
    assert p.tolist() == pytest.approx([book.prob(w, tuple(context)) for w in range(V)])


def test_kneser_ney_by_hand() -> None:
    # "a b", "a c", "b": bigrams Ba Bb ab ac bE cE with counts 2 1 1 1 2 1; D = 1/2.
    a, b, c = 3, 4, 5
    model = NGramModel(2, 6, smoothing="kneser_ney", discount=0.5).fit([[a, b], [a, c], [b]])
    # Unigrams: N1+(• w) is 1 for a (B), 2 for b (B, a), 1 for c (a), 2 for E (b, c); 6 in all,
    # 4 different: P(b) = 1.5/6 + 0.5 · 4/6 · 1/6.
    assert model.prob(b) == pytest.approx(1.5 / 6 + 1 / 18)
    # Behind a: b and c once each, so γ = 0.5 · 2/2.
    assert model.prob(b, [a]) == pytest.approx(0.5 / 2 + 0.5 * (1.5 / 6 + 1 / 18))
    assert model.prob(EOS, [a]) == pytest.approx(0.5 * (1.5 / 6 + 1 / 18))


@pytest.mark.parametrize("order", [2, 3])
def test_behind_what_was_never_seen(order: int) -> None:
    unseen, even = [7] * (order - 1), torch.full((V,), 1 / V).double()
    for options in ({"smoothing": "mle"}, {"smoothing": "add_k", "k": 0.01}):
        model = NGramModel(order, V, **options).fit([[3, 4], [3]])
        torch.testing.assert_close(model.distribution(unseen), even)
        assert model.prob(3, unseen) == pytest.approx(1 / V)
        torch.testing.assert_close(model.distribution([EOS] * order), even)
    model = NGramModel(order, V, smoothing="kneser_ney").fit([[3, 4], [3]])
    torch.testing.assert_close(model.distribution(unseen), model.distribution())
    assert model.prob(7, [3]) > 0


def test_the_estimated_discount_by_hand() -> None:
    # Bigrams B3 3E B4 4E B5 5E: counts 3 3 1 1 2 2, so n_1 = 2 and n_2 = 2: D = 2/6. Unigrams:
    # N1+ of 3, 4, 5 is 1 and of E is 3, so n_2 = 0: D = 0.5.
    model = NGramModel(2, V, smoothing="kneser_ney").fit([[3]] * 3 + [[4]] + [[5]] * 2)
    assert model.discounts == pytest.approx([0.5, 1 / 3])


# ------------------------------------------------------------------ against nltk


def nltk_ngrams(order: int, sequences: Sequence[Sequence[int]]) -> list[list[tuple[str, ...]]]:
    """Our n-grams for nltk: at every predicted token the k-grams, k ≤ order, that end there."""
    found = []
    for sequence in sequences:
        padded = [BOS] * (order - 1) + [*sequence, EOS]
        ends = range(order - 1, len(padded))
        grams = [
            tuple(map(str, padded[end - k + 1 : end + 1]))
            for end, k in itertools.product(ends, range(1, order + 1))
        ]
        found.append(grams)
    return found


def vocabulary() -> Vocabulary:
    # With its own label for unknown tokens it has V entries.
    vocabulary = Vocabulary(list(map(str, range(V - 1))), unk_cutoff=1)
    assert len(vocabulary) == V
    return vocabulary


PAIRS = [
    pytest.param({"smoothing": "mle"}, lambda n: MLE(n, vocabulary()), id="mle"),
    pytest.param(
        {"smoothing": "add_k"}, lambda n: Lidstone(1, n, vocabulary=vocabulary()), id="laplace"
    ),
    pytest.param(
        {"smoothing": "add_k", "k": 0.3},
        lambda n: Lidstone(0.3, n, vocabulary=vocabulary()),
        id="lidstone",
    ),
    pytest.param(
        {"smoothing": "kneser_ney", "discount": 0.7},
        lambda n: KneserNeyInterpolated(n, 0.7, vocabulary=vocabulary()),
        id="kneser_ney",
    ),
]


def as_nltk(order: int, options: dict[str, Any]) -> dict[str, Any]:
    """nltk leaves the unigrams of Kneser-Ney undiscounted: D = 0 there."""
    if "discount" not in options:
        return options
    return {**options, "discount": [0.0] + [options["discount"]] * (order - 1)}


@pytest.mark.parametrize(("options", "make"), PAIRS)
@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_nltk_on_the_same_ngrams(order: int, options: dict[str, Any], make: Any) -> None:
    train, test = text(), text(6, seed=3)
    theirs = make(order)
    theirs.fit(nltk_ngrams(order, train))
    if order == 1 and "discount" in options:
        with pytest.raises(ZeroDivisionError):  # it has no Kneser-Ney of order 1
            theirs.score("3")
        return
    ours = NGramModel(order, V, **as_nltk(order, options)).fit(train)
    seen = 0
    for h in contexts(order)[:80]:
        if len(h) >= order or max(h, default=0) == V - 1:
            continue
        words = tuple(map(str, h))
        expected = [theirs.score(str(w), words) for w in range(V - 1)]
        if options["smoothing"] == "mle" and not any(expected):
            continue  # 0 / 0, which nltk takes for 0 and we for 1 / V
        seen += 1
        assert ours.distribution(h)[: V - 1].tolist() == pytest.approx(expected, abs=1e-12)
    assert seen > 8
    grams = [gram for grams in nltk_ngrams(order, test) for gram in grams if len(gram) == order]
    assert len(grams) == sum(len(sequence) + 1 for sequence in test)
    assert ours.perplexity(test) == pytest.approx(theirs.perplexity(grams))
    if order <= 2:
        assert ours.perplexity(test) < math.inf  # so that not all of this compares inf with inf


@pytest.mark.parametrize(("options", "make"), PAIRS)
@pytest.mark.parametrize("order", [2, 3, 4, 5])
def test_nltk_with_its_own_padding(order: int, options: dict[str, Any], make: Any) -> None:
    """Its pipeline also counts BOS, and n − 1 EOS. The highest order does not see that, so "mle"
    and "add_k" agree; the lower orders do, so Kneser-Ney agrees for order 2 only, and beyond it
    nltk's does not sum to one."""
    train, test = text(60), text(6, seed=3)
    as_words = [list(map(str, sequence)) for sequence in train]
    pipeline, _ = padded_everygram_pipeline(order, as_words)
    # It pads with "<s>" and "</s>": our 1 and 2.
    names = {"<s>": str(BOS), "</s>": str(EOS)}
    theirs = make(order)
    theirs.fit([[tuple(names.get(w, w) for w in gram) for gram in grams] for grams in pipeline])
    ours = NGramModel(order, V, **as_nltk(order, options)).fit(train)
    grams = [gram for grams in nltk_ngrams(order, test) for gram in grams if len(gram) == order]
    if "discount" in options and order > 2:
        mass = sum(theirs.score(str(w), (str(BOS),) * (order - 1)) for w in range(V - 1))
        assert mass > 1.005
        assert ours.distribution([BOS] * (order - 1)).sum() == pytest.approx(1)
    else:
        assert ours.perplexity(test) == pytest.approx(theirs.perplexity(grams))


def test_an_unseen_ngram_makes_maximum_likelihood_infinitely_perplexed() -> None:
    model = NGramModel(2, V).fit([[3, 4], [4, 3]])
    assert model.perplexity([[3, 4], [3, 3]]) == math.inf
    assert model.log_prob([3, 3]) == -math.inf
    # B3 34 4E: 1/2 each.
    assert model.perplexity([[3, 4]]) == pytest.approx(2)
