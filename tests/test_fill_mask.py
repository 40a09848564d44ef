"""`FillMask` in Python: its candidates, its traits, its errors, its picture, its size."""

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
from lmlib.export import load_packed
from lmlib.pretrained import load_tokenizer
from lmlib.recipes.poem_bert import fill, follows, masked_log_probs
from lmlib.widgets import FillMask, fill_mask
from lmlib.widgets._fill_mask import BOX, read, units
from lmlib.widgets._models import packed_model
from lmlib.widgets.fill_mask import EXAMPLES, cleaned

torch.set_num_threads(1)
NAME = "poem_bert_small"
MODEL: Any = load_packed(packed_model(NAME)).eval()
TOKENIZER = load_tokenizer(path("models", NAME))
TEXT = "两岸猿声啼不[MASK]，轻舟已过万重[MASK]。"
TEXTS = [TEXT, "[MASK]", "龘[MASK]a😀", "床前明月[MASK]，疑是地上霜。"]
A, B = "白日依山尽，", "黄河入海流。"


def shown(text: str = TEXT, **options: Any) -> FillMask:
    return FillMask(text, model=NAME, **options)


def test_docstring_example() -> None:
    assert doctest.testmod(fill_mask).failed == 0


# ---------------------------------------------------------------- the numbers


@pytest.mark.parametrize("text", TEXTS)
def test_the_candidates_are_those_of_fill(text: str) -> None:
    figure = shown(text)
    expected = fill(MODEL, TOKENIZER, text, 8)
    assert len(expected) == text.count("[MASK]")
    for got, best in zip(figure.candidates(), expected, strict=True):
        assert [name for name, _ in got] == [name for name, _ in best]
        np.testing.assert_allclose([p for _, p in got], [p for _, p in best], atol=1e-5)
        assert len(got) == 8
    for kept, best in zip(figure.stored["candidates"], expected, strict=True):
        assert [name for name, _ in kept] == [name for name, _ in best]


def test_no_special_token_is_a_candidate() -> None:
    p = read(NAME, TEXT, "").probabilities
    assert (p[:, :7] == 0).all()
    assert (p[:, 7:] > 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1)


def test_with_a_second_sentence_the_probability_is_that_of_follows() -> None:
    for other in (B, "润物细无声。"):
        expected = follows(MODEL, TOKENIZER, A, other)
        assert shown(A, second=other).follows() == pytest.approx(expected, abs=1e-5)
    assert shown(A).follows() is None
    assert shown(A).candidates() == []
    # Two masks, one in each sentence, and a segment for each.
    figure = shown("白日依[MASK]尽，", second="黄河[MASK]海流。")
    tokens = ["[CLS]", *"白日依", "[MASK]", *"尽，", "[SEP]", *"黄河", "[MASK]", *"海流。", "[SEP]"]
    assert figure.tokens() == tokens
    ids = [4, *TOKENIZER.encode("白日依"), 6, *TOKENIZER.encode("尽，"), 5]
    ids += [*TOKENIZER.encode("黄河"), 6, *TOKENIZER.encode("海流。"), 5]
    with torch.no_grad():
        output = MODEL(torch.tensor([ids]), torch.tensor([[0] * 8 + [1] * 7]))
    for place, best in zip((4, 10), figure.candidates(), strict=True):
        logits = output.mlm_logits[0, place].clone()
        logits[:7] = -torch.inf
        p = logits.softmax(-1)
        assert best[0][1] == pytest.approx(float(p.max()), abs=1e-5)
        assert best[0][0] == TOKENIZER.token_of(int(p.argmax()))
    assert figure.follows() == pytest.approx(float(output.nsp_logits.softmax(-1)[0, 0]), abs=1e-5)


def test_the_rank_of_what_stood_there() -> None:
    figure = shown(answers=["住", "龘"])
    ids = [4, *TOKENIZER.encode(TEXT.split("[MASK]")[0]), 6]
    place = len(ids) - 1
    ids += [*TOKENIZER.encode(TEXT.split("[MASK]")[1]), 6, *TOKENIZER.encode("。"), 5]
    row = masked_log_probs(MODEL, [ids], [[place]])[0].detach()
    at = TOKENIZER.encode("住")[0]
    rank, p = figure.ranks()[0]  # type: ignore[misc]
    assert rank == int((row > row[at]).sum()) + 1
    assert p == pytest.approx(float(row[at].exp()), abs=1e-5)
    assert figure.ranks()[1] is None  # no token of its own
    assert figure.stored["ranks"] == [[rank, round(p, 5)], None]
    figure.answers = []
    assert figure.ranks() == [None, None] == figure.stored["ranks"]
    best = [row[0][0] for row in figure.candidates()]
    figure.answers = ["", best[1], "多"]
    assert figure.ranks()[0] is None
    assert figure.ranks()[1] == (1, pytest.approx(figure.candidates()[1][0][1]))


def test_the_attention_is_the_models() -> None:
    figure = shown()
    ids = [4, *(6 if u == "[MASK]" else TOKENIZER.encode(u)[0] for u in units(TEXT)), 5]
    with torch.no_grad():
        _, weights = MODEL(torch.tensor([ids]), need_weights=True)
    for layer in range(MODEL.config.num_layers):
        expected = weights[f"bert.layers.{layer}.self_attention"][0]
        figure.layer, figure.head = layer, None
        np.testing.assert_allclose(figure.attention(), expected.mean(0), atol=1e-3)
        for head in range(MODEL.config.num_heads):
            figure.head = head
            np.testing.assert_allclose(figure.attention(), expected[head], atol=1e-3)
            np.testing.assert_allclose(figure.attention().sum(axis=1), 1, atol=5e-3)


def test_which_position_looks() -> None:
    figure = shown()
    assert figure.looking() == 7
    assert figure.tokens()[7] == "[MASK]"
    figure.position = 3
    assert figure.looking() == 3
    figure.position = 60
    assert figure.looking() == len(figure.tokens()) - 1
    assert shown(A, second=B).looking() == 0


def test_unknown_characters_are_named() -> None:
    assert shown("龘a好[MASK] 龘").stored["unknown"] == ["龘", "a", " ", "龘"]
    assert shown("好", second="𠮷").stored["unknown"] == ["𠮷"]


# ---------------------------------------------------------------- what travels


def test_the_state_is_small_bytes_and_json_and_holds_no_model() -> None:
    figure = shown(answers=["住", "山"])
    state = {k: v for k, v in figure.get_state().items() if k not in ("_esm", "_css", "layout")}
    assert isinstance(state["weights"], bytes)
    shape = figure.shape
    n = len(figure.tokens())
    assert len(state["weights"]) == 2 * shape["layers"] * shape["heads"] * n * n
    text = json.dumps({k: v for k, v in state.items() if k != "weights"}, allow_nan=False)
    assert len(text) + len(state["weights"]) < 24_000


def test_the_start_is_as_it_is_given() -> None:
    figure = FillMask()
    assert figure.model == NAME
    assert figure.text == "床前明月[MASK]，疑是地上霜。"
    assert (figure.second, figure.answers, figure.position, figure.head) == ("", [], None, None)
    assert figure.layer == figure.shape["layers"] - 1
    assert figure.examples[0] == [EXAMPLES[0], ""]
    assert figure.examples[-1] == list(EXAMPLES[-1])
    assert figure.shape["specials"] == 7
    given: dict[str, Any] = {
        "second": "好□",
        "answers": ["天", ""],
        "position": 3,
        "layer": 0,
        "head": 1,
    }
    figure = shown(" 今□天\n", **given, examples=["好□", ("甲", "乙 ")])
    assert (figure.text, figure.second) == ("今[MASK]天", "好[MASK]")
    assert (figure.answers, figure.position) == (["天", ""], 3)
    assert (figure.layer, figure.head) == (0, 1)
    assert figure.examples == [["好[MASK]", ""], ["甲", "乙"]]
    assert shown("好", examples=()).examples == []


def test_the_box_is_no_character_of_the_model() -> None:
    assert BOX not in TOKENIZER.vocab
    assert cleaned(f" {BOX}界[MASK]　") == "[MASK]界[MASK]"
    assert units("你[MASK][MASK]界") == ["你", "[MASK]", "[MASK]", "界"]
    assert units("") == []


def test_what_is_stored_follows_the_text() -> None:
    figure = shown("今天")
    before = figure.alt
    figure.text = TEXT
    again = shown(TEXT)
    assert figure.stored == again.stored
    assert figure.weights == again.weights
    assert figure.alt == again.alt != before
    figure.second = "好"
    assert figure.stored["second"] == "好"
    assert figure.stored["follows"] == pytest.approx(figure.follows(), abs=1e-5)
    kept = shown("好", alt="一张图。")
    kept.text = "今天"
    assert kept.alt == "一张图。"


def test_the_browser_can_change_it_and_python_sees_that() -> None:
    figure = shown()
    changes: dict[str, Any] = {
        "text": "白[MASK]依山尽，",
        "second": "黄河入海流。",
        "answers": ["日"],
    }
    changes |= {"layer": 0, "head": 2, "position": 2}
    seen: dict[str, object] = {}
    figure.observe(lambda change: seen.update({change["name"]: change["new"]}), list(changes))
    figure.set_state(changes)
    assert seen == changes
    fresh = shown(changes["text"], second=changes["second"], answers=["日"])
    assert figure.candidates() == fresh.candidates()
    assert figure.stored == fresh.stored
    # From a long pair to another: it is the two together that must fit.
    figure.set_state({"text": "好" * 50, "second": "好" * 13})
    figure.set_state({"text": "好" * 13, "second": "好" * 50})
    assert figure.follows() is not None


# ---------------------------------------------------------------- traits and errors


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"text": " "}, traitlets.TraitError, r"text must not be empty"),
        ({"text": "好" * 65}, traitlets.TraitError, r"text must have at most 64 .*, got 65"),
        ({"text": "[MASK]" * 65}, traitlets.TraitError, r"text must have at most 64 .*, got 65"),
        (
            {"text": "好" * 60, "second": "好" * 4},
            traitlets.TraitError,
            r"text must have at most 63 characters with the other text, got 64",
        ),
        ({"second": "好" * 65}, traitlets.TraitError, r"second must have at most 63 .*, got 65"),
        ({"text": None}, traitlets.TraitError, r"text"),
        ({"answers": ["白日"]}, traitlets.TraitError, r"answers must be single .* got '白日'"),
        ({"answers": [1]}, traitlets.TraitError, r"answers"),
        ({"layer": 9}, traitlets.TraitError, r"layer must be from -\d to \d, got 9"),
        ({"layer": -9}, traitlets.TraitError, r"layer must be from -\d to \d, got -9"),
        ({"head": 4}, traitlets.TraitError, r"head must be None or from 0 to 3, got 4"),
        ({"head": -1}, traitlets.TraitError, r"head must be None or from 0 to 3, got -1"),
        ({"position": 66}, traitlets.TraitError, r"position must be None or from 0 to 65, got 66"),
        ({"model": "bert"}, ValueError, r"model must be one of .*poem_bert.*, got 'bert'"),
        ({"model": "zh_en"}, TypeError, r"model must be a BertForPreTraining, .* a Transformer"),
        ({"examples": "你好"}, TypeError, r"examples must be a sequence of texts .* got '你好'"),
        ({"examples": [1]}, TypeError, r"examples must be a sequence .* got \[1\]"),
        ({"examples": [("甲",)]}, TypeError, r"examples must be a sequence .* got \[\('甲',\)\]"),
        ({"examples": ["好"] * 9}, ValueError, r"examples must be at most 8, got 9"),
        ({"examples": [""]}, traitlets.TraitError, r"examples must not be empty"),
        ({"examples": [("好" * 60, "好" * 9)]}, traitlets.TraitError, r"examples must have at"),
        ({"alt": " "}, ValueError, r"alt must be a non-empty text"),
        ({"title": ""}, ValueError, r"title must be a non-empty text"),
        ({"mode": 1}, TypeError, r"unexpected argument 'mode'"),
    ],
)
def test_bad_arguments_are_named(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        FillMask(**{"text": "好", "model": NAME, **arguments})


def test_the_longest_text_is_read() -> None:
    assert len(shown("好" * 64).tokens()) == 66
    assert len(shown("好" * 60, second="好[MASK]好").tokens()) == 66


def test_a_wrong_assignment_leaves_the_figure_as_it_was() -> None:
    figure = shown("好")
    before = (figure.text, figure.second, figure.stored, figure.alt)
    for name, value in (("text", ""), ("second", "好" * 64), ("answers", ["白日"])):
        with pytest.raises(traitlets.TraitError):
            setattr(figure, name, value)
    assert (figure.text, figure.second, figure.stored, figure.alt) == before


# ---------------------------------------------------------------- picture and text


def test_repr_is_stable() -> None:
    text = repr(shown())
    best = ["".join(name for name, _ in row[:3]) for row in shown().candidates()]
    assert text == f"FillMask(text={TEXT!r}, candidates={best!r}, model={NAME!r})"
    assert "second='好'" in repr(shown("好", second="好"))


def test_the_picture_has_the_candidates_and_the_row_of_the_attention() -> None:
    figure = shown(answers=["", "山"], head=1)
    drawn = figure._draw()
    *bars, strip = drawn.axes
    assert len(bars) == 2
    for axes, best in zip(bars, figure.candidates(), strict=True):
        assert [label.get_text() for label in axes.get_yticklabels()] == [n for n, _ in best]
        bars_drawn: Any = axes.patches
        widths = [patch.get_width() for patch in bars_drawn]
        np.testing.assert_allclose(widths, [p for _, p in best])
    assert bars[0].get_title(loc="left") == "第 1 个 [MASK]：概率最高的字"
    assert f"原字「山」第 {figure.ranks()[1][0]} 名" in bars[1].get_title(loc="left")  # type: ignore[index]
    (image,) = strip.images
    np.testing.assert_array_equal(np.asarray(image.get_array())[0], figure.attention()[7])
    assert [label.get_text() for label in strip.get_xticklabels()][:2] == ["CLS", "两"]
    assert "头 2" in strip.get_title(loc="left")
    assert viz.to_png(drawn) == figure.png()


def test_there_is_a_picture_of_every_state() -> None:
    assert len(shown("[MASK]" * 5)._draw().axes) == 4  # three masks are drawn
    assert len(shown("好" * 64)._draw().axes) == 1
    drawn = shown("a$ 猫龘😀", second=B)._draw()
    title = drawn.get_suptitle().replace("\n", "")
    assert title.startswith("「a\\$␣猫U+9F98")
    assert "是下一句的概率 0." in title
    assert len(drawn.axes) == 1


def test_the_picture_follows_position_layer_and_head() -> None:
    figure = shown()
    seen = set()
    for layer in range(figure.shape["layers"]):
        for head in (None, *range(figure.shape["heads"])):
            for position in (0, 3):
                figure.layer, figure.head, figure.position = layer, head, position
                (image,) = figure._draw().axes[-1].images
                seen.add(np.asarray(image.get_array()).tobytes())
    assert len(seen) == 2 * figure.shape["layers"] * (figure.shape["heads"] + 1)


def test_alt_text_says_what_the_figure_says() -> None:
    data, metadata = shown("好", alt="一张图。")._repr_mimebundle_()
    assert data["text/plain"] == "图：一张图。"
    assert metadata["image/png"]["alt"] == "一张图。"
    figure = shown(answers=["住"], layer=1)
    name, p = figure.candidates()[0][0]
    assert f"现在的句子是「{TEXT}」" in figure.alt
    assert f"第 1 个 [MASK] 最可能是「{name}」（{p:.1%}），原字「住」第 " in figure.alt
    most = figure.tokens()[int(figure.attention()[7].argmax())]
    assert f"第 2 层，各头平均，[MASK] 看得最多的是「{most}」。" in figure.alt
    pair = shown(A, second=B)
    assert f"「{B}」是下一句的概率 {pair.follows():.1%}" in pair.alt
