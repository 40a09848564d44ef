"""`Translator` in Python: its translation, its traits, its errors, its picture, its size."""

from __future__ import annotations

import doctest
import json
from typing import Any

import numpy as np
import pytest
import torch
import traitlets

from lmlib import viz
from lmlib.assets import path
from lmlib.generation import greedy_search
from lmlib.pretrained import load_pretrained, load_tokenizer
from lmlib.tokenizers import BPETokenizer, CharTokenizer
from lmlib.widgets import translator
from lmlib.widgets._translator import source_names
from lmlib.widgets.translator import EXAMPLES, Translator

torch.set_num_threads(1)
MODEL: Any = load_pretrained(path("models", "zh_en")).eval()
TOKENIZER = load_tokenizer(path("models", "zh_en"))
TEXTS = ["二〇二六年十一月二十一日", "我的朋友每天都喝两杯热咖啡。", "龘a好😀"]


def test_docstring_example() -> None:
    assert doctest.testmod(translator).failed == 0


# ---------------------------------------------------------------- the numbers


@pytest.mark.parametrize("text", TEXTS)
def test_it_writes_what_greedy_search_writes(text: str) -> None:
    figure = Translator(text)
    ids = TOKENIZER.encode(text)
    written = greedy_search(MODEL, max_new_tokens=60, source=[ids])
    assert figure.translation() == TOKENIZER.decode(written.texts[0])
    pieces = figure.pieces()
    assert len(pieces) == len(written.token_ids[0])
    logs = np.log([p for _, p in pieces])
    np.testing.assert_allclose(logs, written.log_probs[0], atol=1e-3)
    assert figure.stored["ended"]
    assert pieces[-1][0] == "■"
    assert "".join(piece for piece, _ in pieces[:-1]) == figure.translation()
    for i, piece in enumerate(pieces):
        best = figure.alternatives(i)
        assert best[0] == piece
        assert [p for _, p in best] == sorted((p for _, p in best), reverse=True)
        assert len(best) == 5


@pytest.mark.parametrize("text", TEXTS[1:])
def test_the_alignment_is_the_cross_attention_step_by_step(text: str) -> None:
    """Against a decoder that reads one token after the other, with caches."""
    figure = Translator(text)
    ids = TOKENIZER.encode(text)
    written = greedy_search(MODEL, max_new_tokens=60, source=[ids]).token_ids[0]
    source = torch.tensor([ids])
    for step in range(len(written)):
        target_in = torch.tensor([[MODEL.config.bos_id, *written[:step]]])
        _, weights = MODEL(source, target_in, need_weights=True)
        for layer in range(MODEL.config.num_decoder_layers):
            expected = weights[f"decoder.layers.{layer}.cross_attention"][0, :, -1].detach()
            figure.layer = layer
            figure.head = None
            np.testing.assert_allclose(figure.alignment()[step], expected.mean(0), atol=2e-3)
            for head in (0, MODEL.config.num_heads - 1):
                figure.head = head
                np.testing.assert_allclose(figure.alignment()[step], expected[head], atol=2e-3)
    np.testing.assert_allclose(figure.alignment().sum(axis=1), 1, atol=3e-3)


def test_a_date_is_aligned_with_its_digits() -> None:
    """Some layer finds, without being told, where the year's last digit stands."""
    figure = Translator("二〇二六年十一月二十一日")
    assert figure.translation() == "November 21, 2026"
    row = [piece for piece, _ in figure.pieces()].index("6")
    found = set()
    for layer in range(figure.shape["layers"]):
        figure.layer = layer
        found.add(figure.stored["source"][int(figure.alignment()[row].argmax())])
    assert "六" in found


@pytest.mark.parametrize(
    ("text", "names", "unknown"),
    [
        ("二月，好。", ["二", "月", "，", "好", "。"], []),
        ("龘a 好", ["龘①", "龘②", "a", " ", "好"], ["龘"]),
        ("😀😀", [f"😀{n}" for n in "①②③④①②③④"], ["😀", "😀"]),
        ("the day", ["the", " day"], []),
    ],
)
def test_what_stands_at_each_source_token(text: str, names: list[str], unknown: list[str]) -> None:
    figure = Translator(text)
    assert len(figure.stored["source"]) == len(TOKENIZER.encode(text))
    if "龘" in text:  # how many tokens its bytes are is the tokenizer's affair
        assert figure.stored["source"][-3:] == names[-3:]
        assert figure.stored["source"][0] == "龘①"
    elif "day" in text:
        assert "".join(figure.stored["source"]) == text
    else:
        assert figure.stored["source"] == names
    assert figure.stored["unknown"] == unknown


def test_source_names_of_other_tokenizers() -> None:
    words = CharTokenizer.train(["你好"])
    assert source_names(words, words.encode("你好")) == ["你", "好"]
    plain = BPETokenizer.train([""], 256, specials=())
    assert source_names(plain, plain.encode("a你")) == ["a", "你①", "你②", "你③"]
    merged = BPETokenizer.train(["你你你你好"] * 9, 259, specials=())
    whole = source_names(merged, merged.encode("你好\ufffd"))
    assert "".join(whole).startswith("你")
    assert source_names(plain, plain.encode("\ufffd")) == ["\ufffd①", "\ufffd②", "\ufffd③"]


# ---------------------------------------------------------------- what travels


def test_the_state_is_small_bytes_and_json_and_holds_no_model() -> None:
    figure = Translator(EXAMPLES[2])
    state = {k: v for k, v in figure.get_state().items() if k not in ("_esm", "_css", "layout")}
    assert isinstance(state["cross"], bytes)
    shape = figure.shape
    n = len(figure.pieces()) * shape["layers"] * shape["heads"] * len(figure.stored["source"])
    assert len(state["cross"]) == 2 * n
    text = json.dumps({k: v for k, v in state.items() if k != "cross"}, allow_nan=False)
    assert len(text) + len(state["cross"]) < 20_000


def test_the_start_is_as_it_is_given() -> None:
    figure = Translator()
    assert figure.text == EXAMPLES[0]
    assert figure.examples == list(EXAMPLES)
    assert (figure.layer, figure.head, figure.piece) == (figure.shape["layers"] - 1, None, None)
    figure = Translator(" 今天 \n", layer=0, head=1, piece=2, examples=["你好。"])
    assert (figure.text, figure.layer, figure.head, figure.piece) == ("今天", 0, 1, 2)
    assert figure.examples == ["你好。"]
    assert Translator("好", examples=()).examples == []


def test_what_is_stored_follows_the_text() -> None:
    figure = Translator("今天天气很好。")
    before = figure.alt
    figure.text = "二〇二六年十一月二十一日"
    again = Translator("二〇二六年十一月二十一日")
    assert figure.stored == again.stored
    assert figure.cross == again.cross
    assert figure.alt == again.alt != before
    kept = Translator("好", alt="一张图。")
    kept.text = "今天天气很好。"
    assert kept.alt == "一张图。"


def test_the_browser_can_change_it_and_python_sees_that() -> None:
    figure = Translator()
    changes = {"text": "今天天气很好。", "layer": 0, "head": 2, "piece": 3}
    seen: dict[str, object] = {}
    figure.observe(lambda change: seen.update({change["name"]: change["new"]}), list(changes))
    figure.set_state(changes)
    assert seen == changes
    assert figure.translation() == Translator("今天天气很好。").translation()
    figure.set_state({"head": None, "piece": None})
    assert (figure.head, figure.piece) == (None, None)


# ---------------------------------------------------------------- traits and errors


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"text": " "}, traitlets.TraitError, r"text must not be empty"),
        ({"text": "好" * 61}, traitlets.TraitError, r"text must have at most 60 .* got 61"),
        ({"text": "😀" * 60}, traitlets.TraitError, r"text must have at most 128 tokens, got 240"),
        ({"text": None}, traitlets.TraitError, r"text"),
        ({"layer": 9}, traitlets.TraitError, r"layer must be from -\d to \d, got 9"),
        ({"layer": -9}, traitlets.TraitError, r"layer must be from -\d to \d, got -9"),
        ({"head": 4}, traitlets.TraitError, r"head must be None or from 0 to 3, got 4"),
        ({"head": -1}, traitlets.TraitError, r"head must be None or from 0 to 3, got -1"),
        ({"piece": 60}, traitlets.TraitError, r"piece must be None or from 0 to 59, got 60"),
        ({"model": "zh_fr"}, ValueError, r"model must be one of .*, zh_en, got 'zh_fr'"),
        ({"model": "poem_gpt"}, TypeError, r"model must be a Transformer, but 'poem_gpt' is a GPT"),
        ({"examples": "你好"}, TypeError, r"examples must be a sequence of texts, got '你好'"),
        ({"examples": [1]}, TypeError, r"examples must be a sequence of texts, got \[1\]"),
        ({"examples": ["好"] * 9}, ValueError, r"examples must be at most 8, got 9"),
        ({"examples": [""]}, traitlets.TraitError, r"examples must not be empty"),
        ({"alt": " "}, ValueError, r"alt must be a non-empty text"),
        ({"title": ""}, ValueError, r"title must be a non-empty text"),
        ({"mode": 1}, TypeError, r"unexpected argument 'mode'"),
    ],
)
def test_bad_arguments_are_named(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Translator(**{"text": "好", **arguments})


def test_a_wrong_assignment_leaves_the_figure_as_it_was() -> None:
    figure = Translator("好")
    before = (figure.text, figure.stored, figure.alt)
    with pytest.raises(traitlets.TraitError):
        figure.text = ""
    assert (figure.text, figure.stored, figure.alt) == before


# ---------------------------------------------------------------- picture and text


def test_repr_is_stable() -> None:
    figure = Translator("二〇二六年十一月二十一日")
    assert repr(figure).startswith(
        "Translator(text='二〇二六年十一月二十一日', translation='November 21, 2026', model='zh_en'"
    )
    assert repr(figure) == repr(Translator("二〇二六年十一月二十一日"))


def test_there_is_a_picture_of_every_state() -> None:
    figure = Translator("a$ b\n$\t猫龘😀", head=1)
    drawn = figure._draw()
    (image,) = drawn.axes[0].images
    np.testing.assert_array_equal(image.get_array(), figure.alignment())
    rows = [label.get_text() for label in drawn.axes[0].get_yticklabels()]
    assert rows == [viz.printable(piece) for piece, _ in figure.pieces()]
    assert drawn.get_suptitle().replace("\n", "").startswith("「a\\$ b \\$ 猫U+9F98")
    assert viz.to_png(drawn) == figure.png()


def test_the_picture_follows_layer_and_head() -> None:
    figure = Translator(TEXTS[0])
    seen = set()
    for layer in range(figure.shape["layers"]):
        for head in (None, *range(figure.shape["heads"])):
            figure.layer, figure.head = layer, head
            (image,) = figure._draw().axes[0].images
            seen.add(np.asarray(image.get_array()).tobytes())
    assert len(seen) == figure.shape["layers"] * (figure.shape["heads"] + 1)


def test_alt_text_says_what_the_figure_says() -> None:
    data, metadata = Translator("好", alt="一张图。")._repr_mimebundle_()
    assert data["text/plain"] == "图：一张图。"
    assert metadata["image/png"]["alt"] == "一张图。"
    figure = Translator("二〇二六年十一月二十一日", layer=1)
    assert "「二〇二六年十一月二十一日」译成「November 21, 2026」；" in figure.alt
    assert "；第 2 层各个头平均，「November」" in figure.alt
    first = figure.stored["source"][int(figure.alignment()[0].argmax())]
    assert f"「November」看得最多的是「{first}」" in figure.alt
    assert "，头 3，" in Translator("好", layer=0, head=2).alt
