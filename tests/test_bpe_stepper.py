"""`BPEStepper` in Python: its numbers, its traits, its errors, its picture."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

import ipywidgets
import pytest
import traitlets
from hypothesis import given, settings
from hypothesis import strategies as st

from lmlib.tokenizers import BPETokenizer
from lmlib.tokenizers.bpe import GPT2_PATTERN
from lmlib.widgets.base import STATIC, source
from lmlib.widgets.bpe_stepper import DEFAULT_TEXT, MAX_CHARACTERS, BPEStepper, browser_pattern

LOW = "low low lower lowest"


@lru_cache(maxsize=1)
def trained() -> BPETokenizer:
    return BPETokenizer.train(["low lower lowest 你好 世界 "] * 9, 290)


def stepper(**arguments: Any) -> BPEStepper:
    return BPEStepper(DEFAULT_TEXT, trained(), **arguments)


# ------------------------------------------------------------------ training


def test_the_numbers_of_a_small_text_by_hand() -> None:
    """low ×1, ␣low ×1, ␣lower, ␣lowest: lo and ow four times each; l has the smaller id."""
    figure = BPEStepper(LOW)
    assert figure.pair_counts()[:3] == [("l", "o", 4), ("o", "w", 4), ("Ġ", "l", 3)]
    assert figure.words()[0] == (("l", "o", "w"), 1)
    figure.step = 2
    assert figure.words() == [
        (("low",), 1),
        (("Ġ", "low"), 1),
        (("Ġ", "low", "e", "r"), 1),
        (("Ġ", "low", "e", "s", "t"), 1),
    ]
    assert figure.pair_counts()[0] == ("Ġ", "low", 3)
    assert figure.num_steps == 4
    assert figure.words(4)[3] == (("Ġlowe", "s", "t"), 1)


@given(text=st.text(st.sampled_from("ab 你好\n🙂"), max_size=40))
@settings(max_examples=40, deadline=None)
def test_the_pair_in_front_is_what_lmlib_merges_next(text: str) -> None:
    figure = BPEStepper(text)
    merges = BPETokenizer.train([text], 1259).merges
    assert figure.num_steps == len(merges)
    for step, merge in enumerate(merges):
        assert figure.pair_counts(step)[0] == (merge.left, merge.right, merge.count)
    rest = figure.pair_counts(len(merges))
    assert not rest or rest[0][2] == 1
    symbols = {word: symbols for word, (symbols, _) in zip(
        dict.fromkeys(figure.trained.pieces(text)), figure.words(len(merges)), strict=True
    )}  # fmt: skip
    tokens = [token for piece in figure.trained.pieces(text) for token in symbols[piece]]
    assert tokens == [figure.trained.token_of(i) for i in figure.trained.encode(text)]


def test_no_more_merges_than_asked_for() -> None:
    figure = BPEStepper(LOW, trained(), num_merges=3)
    assert [figure.num_steps, len(figure.trained.merges)] == [3, 3]
    assert figure.given is not None
    assert figure.given.merges == trained().merges[:3]
    assert figure.shipped["total"] == len(trained().merges)
    assert len(figure.shipped["ids"]) == 3


def test_the_default_text_shows_what_the_chapter_speaks_of() -> None:
    """Chinese and English, a tie at the first step, and a character made of its bytes."""
    figure = BPEStepper()
    readable = [figure.trained.readable(row.token) for row in figure.trained.merges]
    assert {"你好", "世界", " low", "你"} <= {*readable, " low"}
    assert figure.pair_counts(0)[0][2] == figure.pair_counts(0)[1][2]
    assert 10 <= figure.num_steps <= 30


# ------------------------------------------------------------------ use


def test_tokens_lead_from_bytes_to_the_encoding() -> None:
    figure = stepper(mode="use")
    tokenizer = figure.given
    assert tokenizer is not None
    assert tokenizer == trained()
    walk = [figure.tokens(step) for step in range(figure.num_steps + 1)]
    assert [tokenizer.decode(ids) for ids in walk[0]] == tokenizer.pieces(DEFAULT_TEXT)
    lengths = [sum(map(len, pieces)) for pieces in walk]
    assert lengths == list(range(lengths[0], lengths[-1] - 1, -1))
    assert [i for ids in walk[-1] for i in ids] == trained().encode(DEFAULT_TEXT)
    figure.step = 5
    assert figure.tokens() == walk[5]


def test_ids_are_those_of_the_whole_tokenizer_although_it_is_cut() -> None:
    figure = stepper(num_merges=1, mode="use")
    ids = [i for ids in figure.tokens(figure.num_steps) for i in ids]
    assert {trained().token_of(i) for i in ids} >= {"lo", "w"}
    assert trained().decode(ids) == DEFAULT_TEXT
    assert ids != trained().encode(DEFAULT_TEXT)


def test_what_is_shipped_is_small_json() -> None:
    shipped = stepper().shipped
    assert shipped["merges"].split("\n")[0] == "l o"
    assert shipped["ids"] == list(range(259, 277))
    assert [trained().token_bytes(i) for i in shipped["byte_ids"]] == [
        bytes([byte]) for byte in range(256)
    ]
    json.dumps(stepper().get_state(), default=repr)
    assert BPEStepper().shipped == {}


def test_tokens_need_a_tokenizer() -> None:
    with pytest.raises(ValueError, match="tokens must be asked of a figure with a tokenizer"):
        BPEStepper().tokens()


# ------------------------------------------------------------------ patterns


def test_patterns_are_translated_for_the_browser() -> None:
    assert browser_pattern(GPT2_PATTERN).count(r"\p{White_Space}") == 3
    assert browser_pattern(GPT2_PATTERN).count(r"\P{White_Space}") == 1
    assert browser_pattern(r"\p{Han}|\P{Lu}") == r"\p{Script=Han}|\P{Lu}"
    assert browser_pattern(r"(?i:'S)|[^\r\n'-]{1,3}?\.") == r"(?i:'S)|[^\r\n'-]{1,3}?\."
    assert r"\b" not in browser_pattern(r"a\b")


@pytest.mark.parametrize(
    ("pattern", "where"),
    [
        (r"a|\w+", r"from '\\\\w\+' on"),
        (r"a|\d", r"from '\\\\d' on"),
        (r".+", r"from '\.\+' on"),
        (r"^a|a$", r"from '\^a\|a\$' on"),
        (r"a|b++", r"from '\+\+' on"),
        (r"a{2}+", r"from '\{2\}\+' on"),
        (r"(?P<x>a)", r"from '\(\?P<x>a\)' on"),
        (r"(?>a)", r"from '\(\?>a\)' on"),
        (r"\p{IsHan}", "IsHan"),
        (r"[a\b]", r"from '\\\\b\]' on"),
        (r"a*", "it matches the empty text"),
        (r"a}", r"from '\}' on"),
    ],
)
def test_a_pattern_that_a_browser_reads_otherwise_is_refused(pattern: str, where: str) -> None:
    tokenizer = BPETokenizer.train(["aa"], 259, pattern=pattern)
    with pytest.raises(ValueError, match=f"tokenizer.pattern must mean the same.*{where}"):
        BPEStepper("a", tokenizer)


# ------------------------------------------------------------------ traits and errors


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"tokenizer": "gpt2"}, TypeError, "tokenizer must be a BPETokenizer, got str"),
        ({"num_merges": 0}, ValueError, "num_merges must be at least 1, got 0"),
        ({"num_merges": 2.0}, TypeError, "num_merges must be an int, got float"),
        ({"text": 3}, traitlets.TraitError, "'text' trait"),
        (
            {"text": "好" * (MAX_CHARACTERS + 1)},
            traitlets.TraitError,
            f"text must have at most {MAX_CHARACTERS} characters, got {MAX_CHARACTERS + 1}",
        ),
        ({"mode": "use"}, traitlets.TraitError, r'mode must be one of .* \("use" needs a tokeniz'),
        ({"mode": "both"}, traitlets.TraitError, "mode must be one of"),
        ({"step": 19}, traitlets.TraitError, r"step must be from 0 to 18 .* got 19"),
        ({"step": -1}, traitlets.TraitError, "step must be from 0 to 18"),
        ({"title": " "}, ValueError, "title must be a non-empty text"),
    ],
)
def test_bad_arguments_are_named(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        BPEStepper(**arguments)


def test_the_longest_text_is_taken() -> None:
    assert BPEStepper("好" * MAX_CHARACTERS).num_steps > 5


def test_a_shorter_text_takes_the_step_back() -> None:
    figure = BPEStepper(step=18)
    figure.text = LOW
    assert (figure.step, figure.num_steps) == (4, 4)
    figure.text = ""
    assert (figure.step, figure.num_steps) == (0, 0)
    assert figure.words() == figure.pair_counts() == []


def test_a_wrong_assignment_leaves_the_figure_as_it_was() -> None:
    figure = BPEStepper(step=3)
    for name, value in (("step", 99), ("mode", "use"), ("text", "x" * 999)):
        with pytest.raises(traitlets.TraitError, match=f"{name} must"):
            setattr(figure, name, value)
    assert (figure.step, figure.mode, figure.text) == (3, "train", DEFAULT_TEXT)


def test_the_browser_can_change_it_and_python_sees_that() -> None:
    """`set_state` is what a message of the browser calls."""
    figure = stepper()
    seen: dict[str, object] = {}
    figure.observe(lambda change: seen.update({change["name"]: change["new"]}))
    figure.set_state({"step": 7})
    assert figure.words() == figure.words(7)
    figure.set_state({"text": LOW, "step": 2})
    assert (seen["text"], seen["step"]) == (LOW, 2)
    figure.set_state({"mode": "use", "step": 0})
    assert (figure.mode, figure.step) == ("use", 0)
    figure.set_state({"step": figure.num_steps})
    assert [i for ids in figure.tokens() for i in ids] == trained().encode(LOW)


def test_it_links_with_a_slider() -> None:
    figure, slider = BPEStepper(), ipywidgets.IntSlider(max=18)
    ipywidgets.link((slider, "value"), (figure, "step"))
    slider.value = 6
    assert figure.step == 6


# ------------------------------------------------------------------ words and picture


def test_repr_is_stable_and_short() -> None:
    figure = stepper()
    text = "BPEStepper(characters=48, bytes=70, merges=18, tokenizer_merges=18)"
    assert repr(figure) == text
    figure.step = 5
    assert repr(figure) == text
    assert repr(BPEStepper("é")) == "BPEStepper(characters=1, bytes=2, merges=0)"


def test_alt_text_says_what_happens_to_the_text() -> None:
    alt = BPEStepper(LOW).alt
    assert "20 个字符的文字先拆成 20 个字节" in alt
    assert "最先合并的是「l」和「o」、「lo」和「w」、「␣」和「low」" in alt
    assert "一共合并 4 次，最后剩 7 个符号。" in alt
    assert stepper().alt.endswith("也可以看一个训练好的分词器（18 次合并）怎样切分这段文字。")
    assert "一共合并 0 次，最后剩 0 个符号。" in BPEStepper("").alt
    assert BPEStepper(alt="说明。").alt == "说明。"


def texts_of(figure: BPEStepper) -> list[str]:
    """All texts of the still picture."""
    return [text.get_text() for axes in figure._draw().axes for text in axes.texts]


def test_the_picture_shows_words_counts_and_pairs() -> None:
    texts = texts_of(BPEStepper(step=6))
    assert texts[:3] == ["你", "好", "×2"]
    assert {"<E4>", "␣", "↵"} <= set(texts)
    assert texts[-8] == "3　␣ + lo"
    texts = texts_of(stepper(mode="use", step=3))
    assert not [text for text in texts if "+" in text]
    assert "×2" not in texts


def test_the_picture_follows_the_state_and_is_the_same_bytes_again() -> None:
    figure = stepper()
    first = figure.png()
    assert first == stepper().png()
    figure.step = 4
    assert figure.png() != first
    figure.mode = "use"
    assert figure.png() not in (first, b"")


@pytest.mark.filterwarnings("error:constrained_layout not applied")
@pytest.mark.parametrize(
    "text", ["", " ", "好" * MAX_CHARACTERS, "$x$ <&> 👩\u200d👧\t𪚥" * 9, "\ud800"]
)
def test_any_text_can_be_drawn(text: str) -> None:
    figure = BPEStepper(text)
    assert figure.png().startswith(b"\x89PNG")
    figure.step = figure.num_steps
    assert figure.png().startswith(b"\x89PNG")
    assert all(len(label) < 60 for label in texts_of(figure))


def test_every_file_of_the_figure_is_in_its_source() -> None:
    for suffix in (".js", ".css"):
        text = source("bpe_stepper", suffix)
        for file in STATIC.glob(f"bpe_stepper*{suffix}"):
            assert file.read_text(encoding="utf-8") in text
    assert source("bpe_stepper", ".js").count("export default") == 1


def test_its_script_declares_only_prefixed_names() -> None:
    """All files of a figure are one module, and a page may hold many figures."""
    for file in STATIC.glob("bpe_stepper*.js"):
        for line in file.read_text(encoding="utf-8").splitlines():
            if line[:1] not in ("", " ", "}", "]", ")", "/"):
                assert re.match(r"(export )?(function bpe[A-Z]|const BPE_)|export default", line), (
                    line
                )
