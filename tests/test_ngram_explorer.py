"""`NGramExplorer` in Python: its numbers, its traits, its errors, its picture, its size."""

from __future__ import annotations

import doctest
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
import traitlets
from small_ngrams import BOS, SMOOTHINGS, Textbook, V, contexts, text

from lmlib import viz
from lmlib.datasets import load_poems
from lmlib.ngram import NGramModel
from lmlib.tokenizers import BPETokenizer, CharTokenizer
from lmlib.viz.labels import printable
from lmlib.widgets import ngram_explorer
from lmlib.widgets._ngram_explorer import pack
from lmlib.widgets.ngram_explorer import NGramExplorer

torch.set_num_threads(1)
TEXTS = ["你好世界", "你好世间", "你好吗", "世界", ""]
TOKENIZER = CharTokenizer.train([*TEXTS, "荒"])


def fitted(order: int = 3, **options: Any) -> NGramModel:
    model = NGramModel(order, len(TOKENIZER), **options)
    return model.fit(TOKENIZER.encode(text) for text in TEXTS)


def explorer(order: int = 3, *, smoothing: str = "mle", **arguments: Any) -> NGramExplorer:
    return NGramExplorer(fitted(order, smoothing=smoothing), TOKENIZER, **arguments)


def test_docstring_example() -> None:
    assert doctest.testmod(ngram_explorer).failed == 0


# ---------------------------------------------------------------- what it needs of lmlib.ngram


@pytest.mark.parametrize("options", SMOOTHINGS, ids=str)
def test_replace_is_as_if_fitted_anew(options: dict[str, Any]) -> None:
    model = NGramModel(4, V, smoothing="add_k", k=3.0).fit(text())
    for order in range(1, 5):
        changed = model.replace(order=order, **options)
        anew = NGramModel(order, V, **{"k": 3.0, **options}).fit(text())
        assert changed.config == anew.config
        assert changed.num_ngrams == anew.num_ngrams
        assert changed.discounts == anew.discounts
        for h in contexts(order):
            assert torch.equal(changed.distribution(h), anew.distribution(h))
        assert changed.perplexity(text()) == anew.perplexity(text())
    assert model.replace().config == model.config


def test_replace_leaves_both_models_alone() -> None:
    model = NGramModel(3, V).fit(text())
    before = model.distribution([3, 4])
    changed = model.replace(order=2, smoothing="kneser_ney")
    changed.fit([[7, 7, 7]])
    assert torch.equal(model.distribution([3, 4]), before)
    assert changed.count([7]) == 3
    changed = model.replace(order=2)
    model.fit([[7, 7, 7]])
    assert changed.count([7, 7]) == Textbook(2, text(), {"smoothing": "mle"}).c[7, 7]


def test_replace_says_what_the_counts_cannot_serve() -> None:
    model = NGramModel(2, V).fit(text())
    with pytest.raises(ValueError, match="order must be at most 2, which was counted, got 3"):
        model.replace(order=3)
    with pytest.raises(ValueError, match="order must be"):
        model.replace(order=0)
    with pytest.raises(
        ValueError, match=r"changes must leave \['bos_id', 'vocab_size'\] as the counts have them"
    ):
        model.replace(vocab_size=99, bos_id=5)
    with pytest.raises(ValueError, match="discount must be one number, or one for each of the 1"):
        model.replace(order=1, discount=(0.1, 0.2))
    with pytest.raises(TypeError, match="unexpected keyword argument 'smooth'"):
        model.replace(smooth="mle")
    with pytest.raises(ValueError, match="counted nothing yet"):
        NGramModel(2, V).replace(order=1)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_ngrams_are_all_that_were_counted(order: int) -> None:
    model, book = NGramModel(order, V).fit(text()), Textbook(order, text(), {"smoothing": "mle"})
    for k in range(1, order + 1):
        tokens, counts = model.ngrams(k)
        assert tokens.shape == (model.num_ngrams[k - 1], k)
        assert (tokens.dtype, counts.dtype) == (np.int64, np.int32)
        rows = [tuple(row) for row in tokens.tolist()]
        expected = {gram: c for gram, c in book.c.items() if len(gram) == k}
        assert dict(zip(rows, counts.tolist(), strict=True)) == expected
        assert rows == sorted(rows, key=lambda row: [V if t == BOS else t for t in row])
        counts[:] = 0  # a copy: the model keeps its own
        assert model.count(rows[0]) == expected[rows[0]]
    for k in (0, order + 1):
        with pytest.raises(ValueError, match=rf"k must lie in 1 … {order}, got {k}"):
            model.ngrams(k)


# ---------------------------------------------------------------- the numbers


@pytest.mark.parametrize("options", SMOOTHINGS, ids=str)
@pytest.mark.parametrize("prefix", ["", "你", "你好世", "好荒", "猫好猫世"])
def test_numbers_are_those_of_the_model(options: dict[str, Any], prefix: str) -> None:
    figure = NGramExplorer(fitted(**options), TOKENIZER, prefix)
    ids = TOKENIZER.encode(prefix)
    for order in (1, 2, 3):
        figure.order = order
        model = fitted(order, **options)
        assert figure.current_model().config == model.config
        expected = model.distribution([BOS] * (order - 1) + ids).numpy()
        np.testing.assert_array_equal(figure.next_probabilities(), expected)
        assert figure.discounts[order - 1] == model.replace(smoothing="kneser_ney").discounts
        log_p = model.token_log_probs(ids).numpy()
        figure.with_end = True
        np.testing.assert_array_equal(figure.log_probs(), log_p)
        assert figure.perplexity() == pytest.approx(model.perplexity([ids]), rel=1e-12)
        figure.with_end = False
        np.testing.assert_array_equal(figure.log_probs(), log_p[:-1])


def test_a_wrong_character_makes_the_product_zero_without_smoothing() -> None:
    figure = explorer(2, text="好吗世")
    assert np.exp(figure.log_probs()).tolist() == [0.0, pytest.approx(1 / 3), 0.0]
    assert figure.perplexity() == math.inf
    figure.smoothing = "kneser_ney"
    assert 1 < figure.perplexity() < 100


def test_the_start_is_what_the_model_has() -> None:
    figure = NGramExplorer(fitted(2, smoothing="add_k", k=0.25), TOKENIZER)
    assert (figure.text, figure.order, figure.smoothing, figure.k) == ("你好世", 2, "add_k", 0.25)
    figure = NGramExplorer(fitted(2), TOKENIZER, "", order=1, smoothing="add_k", k=2.0, seed=7)
    assert (figure.text, figure.order, figure.smoothing, figure.k) == ("", 1, "add_k", 2.0)
    assert (figure.base, figure.with_end, figure.seed) == ("nats", False, 7)
    assert math.isnan(figure.perplexity())


def test_the_bars_put_characters_before_specials_where_they_tie() -> None:
    figure = explorer(3, text="荒荒")
    top = figure._top()
    assert {p for _, p in top} == {1 / len(TOKENIZER)}
    assert [name for name, _ in top] == [*TOKENIZER.vocab[4:], "<pad>", "▸", "■"][:10]
    assert [name for name, _ in explorer(text="世界")._top()] == ["■"]


# ---------------------------------------------------------------- what travels


def test_the_state_is_small_bytes_and_json() -> None:
    figure, model = explorer(), fitted()
    assert figure.counts == pack(model) == pack(model.replace(smoothing="kneser_ney"))
    assert figure.counts != pack(fitted(2))
    state = figure.get_state()
    assert isinstance(state["counts"], bytes)
    json.dumps({name: value for name, value in state.items() if name != "counts"})
    assert figure.shape["num_ngrams"] == model.num_ngrams


def test_a_trigram_model_of_the_tang_quatrains_fits_the_page() -> None:
    """97 368 characters in 84 402 trigrams: 170 KB in the page, a sixth of the limit."""
    texts = [poem.text for poem in load_poems("tang", forms=["五绝"]).train]
    tokenizer = CharTokenizer.train(texts)
    model = NGramModel(3, len(tokenizer)).fit(tokenizer.encode(text) for text in texts)
    figure = NGramExplorer(model, tokenizer)
    size = figure._describe()["bytes"]
    assert isinstance(size, int)
    assert 150_000 < size < 180_000
    with pytest.raises(ValueError, match=rf"model must fit 100000 bytes .* take {size}: fit it"):
        NGramExplorer(model, tokenizer, max_bytes=100_000)


def test_max_bytes_is_the_most_allowed() -> None:
    size = explorer()._describe()["bytes"]
    assert isinstance(size, int)
    explorer(max_bytes=size)
    with pytest.raises(ValueError, match=r"lower order or to fewer texts, or allow more with max_"):
        explorer(max_bytes=size - 1)


# ---------------------------------------------------------------- traits and errors


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": "model"}, TypeError, r"model must be a lmlib.ngram.NGramModel, got str"),
        ({"model": NGramModel(2, len(TOKENIZER))}, ValueError, r"the model has counted nothing"),
        (
            {"model": NGramModel(2, 9).fit([[3]])},
            ValueError,
            r"tokenizer must have the model's 9 t",
        ),
        ({"tokenizer": ["你"]}, TypeError, r"tokenizer must be a CharTokenizer, .* got list"),
        (
            {"tokenizer": BPETokenizer.train(["你好"], 300)},
            TypeError,
            r"CharTokenizer, .* got BPET",
        ),
        ({"text": "好" * 101}, traitlets.TraitError, r"text must have at most 100 .* got 101"),
        ({"text": None}, traitlets.TraitError, r"text"),
        ({"order": 4}, traitlets.TraitError, r"order must be from 1 to 3, got 4"),
        ({"order": 0}, traitlets.TraitError, r"order must be from 1 to 3, got 0"),
        ({"k": 0.0}, traitlets.TraitError, r"k must be from 0.0001 to 10.0, got 0.0"),
        ({"seed": -1}, traitlets.TraitError, r"seed must be from 0 to 4294967295, got -1"),
        ({"base": "dits"}, traitlets.TraitError, r"base must be one of \['nats', 'bits'\], got 'd"),
        ({"smoothing": "good_turing"}, traitlets.TraitError, r"smoothing must be one of \['mle', "),
        ({"alt": " "}, ValueError, r"alt must be a non-empty text"),
        ({"title": ""}, ValueError, r"title must be a non-empty text"),
        ({"mode": 1}, TypeError, r"unexpected argument 'mode'; the traits are"),
    ],
)
def test_bad_arguments_are_named(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        NGramExplorer(**{"model": fitted(), "tokenizer": TOKENIZER, **arguments})


def test_specials_must_be_where_the_model_has_them() -> None:
    bare = CharTokenizer(["<pad>", "<bos>", "<eos>", "你", "好"])
    model = NGramModel(2, 5).fit([[3, 4]])
    with pytest.raises(ValueError, match="tokenizer must have <unk>, for characters outside"):
        NGramExplorer(model, bare)
    moved = CharTokenizer(["<unk>", "<bos>", "你", "<eos>", "好"])
    with pytest.raises(ValueError, match="a special token at the model's eos_id, got '你'"):
        NGramExplorer(model, moved)
    good = NGramExplorer(NGramModel(2, 5, eos_id=3).fit([[2, 4]]), moved, "你")
    assert good._top() == [("好", 1.0)]


def test_a_wrong_assignment_leaves_the_figure_as_it_was() -> None:
    figure = explorer()
    with pytest.raises(traitlets.TraitError):
        figure.order = 9
    assert figure.order == 3


def test_the_browser_can_change_it_and_python_sees_that() -> None:
    figure = explorer()
    seen: dict[str, object] = {}
    changes = {"text": "世", "order": 2, "smoothing": "add_k", "k": 0.5}
    more = {"base": "bits", "with_end": True, "seed": 2**32 - 1}
    figure.observe(lambda change: seen.update({change["name"]: change["new"]}), [*changes, *more])
    figure.set_state(changes)
    figure.set_state(more)
    assert seen == {**changes, **more}
    model = fitted(2, smoothing="add_k", k=0.5)
    np.testing.assert_array_equal(
        figure.log_probs(), model.token_log_probs(TOKENIZER.encode("世")).numpy()
    )


# ---------------------------------------------------------------- picture and text


def test_repr_is_stable() -> None:
    figure = explorer(smoothing="kneser_ney")
    assert repr(figure) == repr(explorer(smoothing="kneser_ney"))
    assert repr(figure).startswith("NGramExplorer(text='你好世', smoothing='kneser_ney', order=3, ")


@pytest.mark.parametrize("smoothing", ["mle", "kneser_ney"])
@pytest.mark.parametrize("prefix", ["", "你好世", "荒", "猫 $\n", "好" * 100], ids=range(5))
@pytest.mark.parametrize("with_end", [False, True])
def test_there_is_a_picture_of_every_state(smoothing: str, prefix: str, with_end: bool) -> None:
    figure = explorer(smoothing=smoothing, text=prefix, with_end=with_end)
    drawn = figure._draw()
    assert viz.to_png(drawn) == figure.png()
    upper, lower = drawn.axes
    top = figure._top()
    assert [bar.get_width() for bar in upper.patches] == [p for _, p in top]
    # Each column hangs from where the one before it ended; none hangs from a product of 0.
    sums = np.cumsum(figure.log_probs()) / math.log(10)
    ends = [bar.get_y() + bar.get_height() for bar in lower.patches]
    starts = [bar.get_y() for bar in lower.patches]
    finite = sums[np.isfinite(sums)]
    np.testing.assert_allclose(ends[: len(finite)], finite, atol=1e-9)
    np.testing.assert_allclose(starts, [0, *sums][: len(starts)], atol=1e-9)
    assert len(starts) == min(len(finite) + 1, len(sums))
    # Many characters are not all written out.
    names = [tick.get_text() for tick in lower.get_xticklabels()]
    assert len(names) <= 25
    assert names == [*map(printable, prefix), *"■" * with_end][:: len(prefix) // 25 + 1]
    assert [t.get_text() for t in lower.texts] == [" P = 0"] * (len(finite) < len(sums))


def test_alt_text_says_what_the_figure_says() -> None:
    data, metadata = explorer(alt="一张图。")._repr_mimebundle_()
    assert data["text/plain"] == "图：一张图。"
    assert metadata["image/png"]["alt"] == "一张图。"
    assert "「你好世」的概率是 10 的 −0.4 次方，后面最可能是「界」，概率 0.5。" in explorer().alt
    assert "「荒荒」的概率是 0，后面每个词元一样可能。" in explorer(text="荒荒").alt
    assert "前缀为空，后面最可能是「你」，概率 0.6。" in explorer(text="").alt
    assert "3 元语言模型（Kneser–Ney，词表 11 个词元）" in explorer(smoothing="kneser_ney").alt


def test_every_control_changes_the_picture() -> None:
    figure = explorer(text="你好世")
    pictures = {figure.png()}
    for name, value in [("text", "好"), ("order", 2), ("smoothing", "add_k"), ("k", 0.1)]:
        setattr(figure, name, value)
        pictures.add(figure.png())
    figure.with_end = True
    pictures.add(figure.png())
    assert len(pictures) == 6
