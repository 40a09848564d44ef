"""N-gram models: the counts, logits as of every model of lmlib, samples, files, errors."""

from __future__ import annotations

import itertools
import math
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_ngrams import BOS, EOS, SMOOTHINGS, Textbook, V, text

from lmlib.ngram import NGramModel

torch.set_num_threads(1)


# ------------------------------------------------------------------ counts


@pytest.mark.parametrize("order", [1, 2, 4])
def test_counts(order: int) -> None:
    train = text()
    model, book = NGramModel(order, V).fit(train), Textbook(order, train, {"smoothing": "mle"})
    for k in range(1, order + 1):
        grams = {g: n for g, n in book.c.items() if len(g) == k}
        assert model.num_ngrams[k - 1] == len(grams)
        draws = [tuple(random.Random(i).choices(range(V), k=k)) for i in range(50)]
        for gram in [*grams, *draws]:
            assert model.count(gram) == book.c[gram]
            if k < order:
                assert model.continuation_count(gram) == book.kn[gram]
        by_context: dict[tuple[int, ...], dict[int, int]] = defaultdict(dict)
        for gram, n in grams.items():
            by_context[gram[:-1]][gram[-1]] = n
        for context, followers in by_context.items():
            got = model.followers(context)
            assert got == followers
            assert list(got.values()) == sorted(got.values(), reverse=True)
    assert model.count([BOS]) == 0
    assert model.count([EOS]) == len(train)
    assert sum(model.followers([]).values()) == sum(map(len, train)) + len(train)
    if order > 1:
        assert model.followers([V - 1]) == {}
        assert model.followers([EOS]) == {}
        assert model.count([BOS, 3]) == sum(sequence[:1] == [3] for sequence in train)
    assert model.num_bytes > 0


def test_a_large_vocabulary_needs_no_large_numbers() -> None:
    # vocab_size ** order is beyond 64 bits here.
    vocab_size = 2**31
    big = [vocab_size - 1, vocab_size - 2, 5]
    model = NGramModel(5, vocab_size, smoothing="kneser_ney").fit([big, big[::-1], [5, 7]])
    assert model.count(big) == 1
    assert model.count([*big, EOS]) == 1
    assert model.count([BOS, BOS, 5, 7]) == 1
    assert model.prob(big[1], [BOS] * 3 + big[:1]) > 0.1


def test_a_text_too_long_for_the_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmlib.ngram._counts.COUNT", np.int8)
    model = NGramModel(2, V)
    assert model.fit([[3] * 124]).count([3]) == 124
    with pytest.raises(
        ValueError, match=r"sequences must hold below 2\*\*31 tokens in all, got 127"
    ):
        model.fit([[3] * 125])


def test_fit_counts_anew_and_takes_arrays_tensors_and_iterators() -> None:
    train = text()
    once = NGramModel(3, V, smoothing="kneser_ney").fit(train)
    again = NGramModel(3, V, smoothing="kneser_ney").fit(text(seed=9)).fit(train)
    tensors = NGramModel(3, V, smoothing="kneser_ney").fit(torch.tensor(s).long() for s in train)
    arrays = NGramModel(3, V, smoothing="kneser_ney").fit(
        tuple(np.array(s, dtype=np.uint16) for s in train)
    )
    for other in (again, tensors, arrays):
        assert torch.equal(other.distribution([3, 4]), once.distribution([3, 4]))
        assert other.perplexity(train) == once.perplexity(train)


# ------------------------------------------------------------------ as a model


@pytest.mark.parametrize("options", SMOOTHINGS, ids=str)
@pytest.mark.parametrize("order", [1, 2, 4])
def test_logits_are_log_probabilities(order: int, options: dict[str, Any]) -> None:
    model = NGramModel(order, V, **options).fit(text())
    ids = torch.tensor([[3, 4, 3, 3, 5], [7, 3, EOS, 3, 4]])
    logits = model(ids)
    assert logits.shape == (2, 5, V)
    assert logits.dtype == torch.float32
    for row, i in itertools.product(range(2), range(5)):
        h = [BOS] * (order - 1) + ids[row, : i + 1].tolist()
        torch.testing.assert_close(logits[row, i].exp().double(), model.distribution(h))
    torch.testing.assert_close(model(ids, num_logits=2), logits[:, -2:])
    torch.testing.assert_close(model(ids, num_logits=9), logits)
    torch.testing.assert_close(model(torch.cat([ids * 0 + BOS, ids], dim=1))[:, 5:], logits)
    # Its own loss is its own perplexity.
    nll = -model.token_log_probs([3, 4, 3, 3, 5])[1:]
    picked = logits[0].log_softmax(-1)[range(5), [4, 3, 3, 5, EOS]]
    torch.testing.assert_close(-picked.double(), nll, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_caches_give_the_same(order: int) -> None:
    model = NGramModel(order, V, smoothing="kneser_ney").fit(text())
    ids = torch.tensor([[3, 4, 3, 3, 5], [7, 3, 6, 3, 4]])
    caches, whole = model.new_caches(), model(ids)
    assert caches.length == 0
    torch.testing.assert_close(model(ids[:, :2], caches=caches), whole[:, :2])
    torch.testing.assert_close(model(ids[:, 2:3], caches=caches), whole[:, 2:3])
    assert caches.length == 3
    caches.crop(2)
    caches.reorder(torch.tensor([1, 0, 1]))
    rest = ids[:, 2:].index_select(0, torch.tensor([1, 0, 1]))
    torch.testing.assert_close(model(rest, caches=caches)[:2], whole[:, 2:].flip(0))
    with pytest.raises(ValueError, match="length must be at most the 5 stored, got 6"):
        caches.crop(6)


def test_padding_on_the_left_changes_nothing() -> None:
    model = NGramModel(3, V, smoothing="kneser_ney").fit(text())
    ids, mask = torch.tensor([[0, 0, 3, 4]]), torch.tensor([[False, False, True, True]])
    torch.testing.assert_close(model(ids, mask)[:, 2:], model(ids[:, 2:]))


def test_samples_follow_the_distribution() -> None:
    train = [[3, 4], [3, 5], [3, 4], [6]]
    model = NGramModel(3, V).fit(train)
    generator = torch.Generator().manual_seed(0)
    drawn = [tuple(model.sample(generator=generator)) for _ in range(400)]
    assert set(drawn) == {(3, 4), (3, 5), (6,)}
    assert drawn.count((3, 4)) / 400 == pytest.approx(0.5, abs=0.08)
    assert model.sample([6, 3], max_new_tokens=0) == [6, 3]
    assert model.sample([3, 5], generator=generator) == [3, 5]
    assert len(NGramModel(1, V).fit([[3] * 200]).sample(max_new_tokens=3)) <= 3
    again = [model.sample(generator=torch.Generator().manual_seed(5)) for _ in range(9)]
    assert again == again[:1] * 9


def test_a_sample_is_an_inversion_of_one_uniform_number_a_token() -> None:
    """torch.rand draws the same in every version of torch, torch.multinomial does not."""
    model = NGramModel(1, V, smoothing="kneser_ney").fit(text())
    steps = np.cumsum(model.distribution([]).numpy())
    for seed in range(20):
        numbers = torch.rand(30, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        wanted = np.searchsorted(steps, numbers.numpy() * steps[-1], side="right").tolist()
        wanted = wanted[: wanted.index(EOS)] if EOS in wanted else wanted
        generator = torch.Generator().manual_seed(seed)
        assert model.sample(max_new_tokens=30, generator=generator) == wanted


# ------------------------------------------------------------------ files


@pytest.mark.parametrize("options", SMOOTHINGS[1:5], ids=str)
@pytest.mark.parametrize("order", [1, 3])
def test_save_and_load(tmp_path: Path, order: int, options: dict[str, Any]) -> None:
    model = NGramModel(order, V, **options).fit(text())
    path = tmp_path / "model.ngrams"
    model.save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.ngrams"]
    loaded = NGramModel.load(path)
    assert loaded.config == model.config
    assert loaded.num_ngrams == model.num_ngrams
    assert loaded.perplexity(text(seed=4)) == model.perplexity(text(seed=4))
    assert loaded.count([3]) == model.count([3])
    changed = NGramModel.load(path, smoothing="kneser_ney", discount=[0.25] * order)
    fresh = NGramModel(order, V, smoothing="kneser_ney", discount=0.25).fit(text())
    assert changed.perplexity(text(seed=4)) == fresh.perplexity(text(seed=4))
    with pytest.raises(ValueError, match=r"changes must leave \['order'\] as the counts have them"):
        NGramModel.load(path, order=2)


def test_a_given_discount_for_each_order_survives(tmp_path: Path) -> None:
    model = NGramModel(2, V, smoothing="kneser_ney", discount=[0.1, 0.9]).fit(text())
    model.save(tmp_path / "m.npz")
    loaded = NGramModel.load(tmp_path / "m.npz")
    assert loaded.discounts == [0.1, 0.9]
    assert loaded.config == model.config


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    NGramModel(2, V).fit(text()).save(path)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    for damaged in (whole[: len(whole) // 2], whole[:-10], b"", b"no zip", bytes(flipped)):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"model.npz is no file of NGramModel.save, or dam"):
            NGramModel.load(path)
    np.savez(path, weights=np.zeros(3))
    with pytest.raises(ValueError, match=r"is no file of NGramModel.save, or damaged"):
        NGramModel.load(path)
    path.write_bytes(whole)
    with np.load(path) as file:
        np.savez(path, **{name: file[name] for name in file.files if name != "counts_2"})
    with pytest.raises(ValueError, match=r"is no file of NGramModel.save, or damaged: .*counts_2"):
        NGramModel.load(path)
    with pytest.raises(FileNotFoundError):
        NGramModel.load(tmp_path / "none.npz")


# ------------------------------------------------------------------ errors at the door


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": 0}, "order must be at least 1, got 0"),
        ({"vocab_size": 0}, "vocab_size must be at least 1, got 0"),
        ({"smoothing": "katz"}, r"smoothing must be one of \['mle', 'add_k', 'kneser_ney'\], got"),
        ({"k": 0.0}, "k must be a number above 0, got 0.0"),
        ({"k": math.nan}, "k must be a number above 0, got nan"),
        ({"discount": 1.5}, "discount must lie in 0 … 1, got 1.5"),
        ({"discount": [0.5, -1.0]}, "discount must lie in 0 … 1, got -1.0"),
        (
            {"discount": [0.5]},
            "discount must be one number, or one for each of the 2 ord",
        ),
        ({"bos_id": 9}, "bos_id must lie in 0 … vocab_size − 1 = 8, got 9"),
        ({"eos_id": 1}, "bos_id must differ from eos_id, which is predicted, got 1 for both"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NGramModel(**{"order": 2, "vocab_size": V, **options})


@pytest.mark.parametrize(
    ("sequences", "error", "message"),
    [
        ([], ValueError, "sequences must hold at least one sequence, got none"),
        (5, TypeError, "sequences must be several sequences of token ids, got int"),
        ("text", TypeError, "sequences must be several sequences of token ids, got str"),
        (["text"], TypeError, "sequences must hold integer token ids, got <U4"),
        ([3, 4], ValueError, r"sequences must be of one dimension each, got shape \(\)"),
        ([[0.5]], TypeError, "sequences must hold integer token ids, got float64"),
        ([[True]], TypeError, "sequences must hold integer token ids, got bool"),
        ([[[3]]], ValueError, r"sequences must be of one dimension each, got shape \(1, 1\)"),
        ([[3], [9]], ValueError, "sequences must hold ids from 0 to 8, got 9"),
        ([[3], [-1]], ValueError, "sequences must hold ids from 0 to 8, got -1"),
        ([[1, 3]], ValueError, "sequences must not hold bos_id=1, which the model itself puts"),
        ([[3, 2]], ValueError, "sequences must not hold eos_id=2, which the model itself puts"),
    ],
)
def test_wrong_sequences(sequences: Any, error: type[Exception], message: str) -> None:
    model = NGramModel(2, V).fit([[3]])
    with pytest.raises(error, match=message):
        model.fit(sequences)
    with pytest.raises(error, match=message):
        model.perplexity(sequences)
    assert model.count([3]) == 1  # what was counted before is still there


def test_other_wrong_inputs() -> None:
    empty = NGramModel(2, V)
    for ask in (
        lambda: empty.prob(3), lambda: empty.perplexity([[3]]), lambda: empty.count([3]),
        lambda: empty(torch.tensor([[3]])), lambda: empty.num_ngrams, lambda: empty.save("x"),
        lambda: empty.distribution(), lambda: empty.followers([]), lambda: empty.discounts,
    ):  # fmt: skip
        with pytest.raises(ValueError, match="the model has counted nothing yet: call fit or load"):
            ask()
    model = NGramModel(2, V).fit([[3]])
    ids = torch.tensor([[3, 4]])
    for ask, error, message in (
        (lambda: model.prob(9), ValueError, "token must hold ids from 0 to 8, got 9"),
        (lambda: model.prob(3, [9]), ValueError, "context must hold ids from 0 to 8, got 9"),
        (lambda: model.count([]), ValueError, "ngram must have 1 to 2 tokens, got 0"),
        (lambda: model.count([3, 3, 3]), ValueError, "ngram must have 1 to 2 tokens, got 3"),
        (lambda: model.continuation_count([3, 3]), ValueError, "ngram must have 1 to 1 tokens"),
        (lambda: model.followers([3, 3]), ValueError, "context must have 0 to 1 tokens, got 2"),
        (lambda: model([[3]]), TypeError, "token_ids must be a torch.Tensor of token ids"),
        (lambda: model(ids[0]), ValueError, r"token_ids must have shape \(batch, n\), got \(2,\)"),
        (lambda: model(ids[:, :0]), ValueError, "token_ids must have at least 1 token, got shape"),
        (lambda: model(ids + 9), ValueError, "token_ids must hold ids from 0 to 8, got 13"),
        (
            lambda: model(ids, ids),
            TypeError,
            r"mask must be boolean \(True = no padding\), got torch.int64",
        ),
        (lambda: model(ids, ids[:, :1] > 0), ValueError, r"mask must have the shape of token_ids"),
        (lambda: model(ids, num_logits=0), ValueError, "num_logits must be at least 1, got 0"),
        (
            lambda: model.sample(max_new_tokens=-1),
            ValueError,
            "max_new_tokens must not be neg",
        ),
    ):
        with pytest.raises(error, match=message):
            ask()
