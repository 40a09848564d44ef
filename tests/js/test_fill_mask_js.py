"""`FillMask` in the browser's language: lmlib's candidates, cells, sentences, its states."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
import torch

from lmlib.assets import path
from lmlib.export import load_packed
from lmlib.pretrained import load_tokenizer
from lmlib.recipes.poem_bert import fill, follows
from lmlib.widgets import FillMask
from lmlib.widgets._models import packed_model
from lmlib.widgets.base import source

torch.set_num_threads(1)
NAME = "poem_bert_small"
SOURCE = source("fill_mask", ".js")
NETWORK = """
  const view = bytes(input.data);
  const { buffer, byteOffset, byteLength } = view;
  const network = figure.lmNetwork(new Uint8Array(buffer, byteOffset, byteLength).slice().buffer);
"""
POEMS = (
    "床前明月光，疑是地上霜。",
    "春眠不觉晓，处处闻啼鸟。",
    "白日依山尽，黄河入海流。欲穷千里目，更上一层楼。",
    "两岸猿声啼不住，轻舟已过万重山。",
    "国破山河在，城春草木深。感时花溅泪，恨别鸟惊心。",
    "空山新雨后，天气晚来秋。",
    "千山鸟飞绝，万径人踪灭。",
    "你好世界",
)


def asked() -> list[str]:
    """More than 30 texts with one, two or many masks, some with characters that nobody learnt."""
    texts = ["[MASK]", "龘[MASK]a", "😀 [MASK]", "[MASK]" * 12, "明月[MASK]" * 16]
    for i, poem in enumerate(POEMS):
        for step in range(4):
            units = list(poem)
            units[(3 * step + i) % len(units)] = "[MASK]"
            if step == 3:
                units[(5 * step + 2 * i) % len(units)] = "[MASK]"
            texts.append("".join(units))
    return texts


@pytest.fixture(scope="module")
def model() -> Any:
    return load_packed(packed_model(NAME)).eval()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer(path("models", NAME))


def packed() -> str:
    return base64.b64encode(packed_model(NAME)).decode("ascii")


# ---------------------------------------------------------------- the numbers

READ = """
  const line = (text) => figure.fmCells(text.replaceAll("[MASK]", "□"));
  return input.cases.map(([text, second, answers]) => {
    const first = figure.fmAnswered(line(text), answers);
    const b = figure.fmAnswered(line(second), first.left).cells;
    const { attention, ...rest } = figure.fmRead(network, first.cells, b, input.specials);
    return { ...rest, looks: input.looks.map(([layer, position]) =>
      [...figure.fmLooks({ attention, tokens: rest.tokens }, layer, position)]) };
  });
"""


def read(
    run_node: Any, cases: list[Any], looks: list[tuple[int, int]] | None = None
) -> list[dict[str, Any]]:
    data = {"data": packed(), "cases": cases, "specials": 7, "looks": looks or []}
    script = f"(figure, input, bytes) => {{ {NETWORK} {READ} }}"
    got: list[dict[str, Any]] = run_node(SOURCE, script, data, also=["lmNetwork"])
    return got


def test_candidates_are_those_of_fill(run_node: Any, model: Any, tokenizer: Any) -> None:
    texts = asked()
    assert len(texts) >= 30
    got = read(run_node, [[text, "", []] for text in texts])
    for text, found in zip(texts, got, strict=True):
        expected = fill(model, tokenizer, text, 8)
        assert len(found["places"]) == len(found["candidates"]) == len(expected)
        for row, best in zip(found["candidates"], expected, strict=True):
            assert [one["piece"] for one in row] == [name for name, _ in best], text
            np.testing.assert_allclose(
                [one["probability"] for one in row], [p for _, p in best], atol=1e-3
            )
        assert found["follows"] is None


def test_the_next_sentence_is_that_of_follows(run_node: Any, model: Any, tokenizer: Any) -> None:
    halves = [poem.partition("，") for poem in POEMS if "，" in poem]
    pairs = [(a + comma, other[2]) for a, comma, _ in halves for other in halves]
    assert len(pairs) >= 30
    got = read(run_node, [[first, second, []] for first, second in pairs])
    for (first, second), found in zip(pairs, got, strict=True):
        expected = follows(model, tokenizer, first, second)
        assert found["follows"] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("text", "second", "answers"),
    [
        ("床前明月[MASK]，疑是地上霜。", "", ["光"]),
        ("白[MASK]依山尽，", "黄河入海[MASK]。", ["", "流"]),
        ("龘[MASK]山", "", ["龘"]),
        ("空山新雨后，", "天气晚来秋。", []),
    ],
)
def test_everything_that_the_figure_of_python_says(
    run_node: Any, text: str, second: str, answers: list[str]
) -> None:
    python = FillMask(text, second=second, answers=answers, model=NAME)
    n, shape = len(python.tokens()), python.shape
    looks = [(layer, place) for layer in range(shape["layers"]) for place in (0, 2, n - 1)]
    (got,) = read(run_node, [[text, second, answers]], looks)
    assert got["tokens"] == python.tokens()
    assert got["unknown"] == python.stored["unknown"]
    for rank, expected in zip(got["ranks"], python.ranks(), strict=True):
        assert (rank is None) == (expected is None)
        if expected:
            assert rank["rank"] == expected[0]
            assert rank["probability"] == pytest.approx(expected[1], abs=1e-4)
    for row, best in zip(got["candidates"], python.candidates(), strict=True):
        assert [one["piece"] for one in row] == [name for name, _ in best]
    assert got["follows"] == (
        None if python.follows() is None else pytest.approx(python.follows(), abs=1e-4)
    )
    for (layer, place), rows in zip(looks, got["looks"], strict=True):
        matrix = np.array(rows).reshape(shape["heads"] + 1, n)
        for head in (None, *range(shape["heads"])):
            python.layer, python.head = layer, head
            row = 0 if head is None else head + 1
            np.testing.assert_allclose(matrix[row], python.attention()[place], atol=1e-3)


def test_what_the_page_carries_is_read_back(run_node: Any) -> None:
    python = FillMask("白[MASK]依山尽，", second="黄河入[MASK]流。", answers=["日"], model=NAME)
    weights = base64.b64encode(python.weights).decode("ascii")
    script = """(figure, input, bytes) => {
      const result = figure.fmStored(input.stored, bytes(input.weights), "key", input.shape);
      const layers = Array.from({ length: input.shape.layers }, (_, layer) => layer);
      const { attention, ...rest } = result;
      return { ...rest, looks: layers.map((layer) => [...figure.fmLooks(result, layer, 2)]) };
    }"""
    data = {"stored": python.stored, "weights": weights, "shape": python.shape}
    got = run_node(SOURCE, script, data)
    assert (got["key"], got["tokens"], got["places"]) == ("key", python.tokens(), [2, 11])
    pairs = [[[one["piece"], one["probability"]] for one in row] for row in got["candidates"]]
    assert pairs == python.stored["candidates"]
    assert got["ranks"][1] is None
    assert list(got["ranks"][0].values()) == python.stored["ranks"][0]
    assert got["follows"] == python.stored["follows"]
    for layer, rows in enumerate(got["looks"]):
        matrix = np.array(rows).reshape(python.shape["heads"] + 1, -1)
        for head in (None, *range(python.shape["heads"])):
            python.layer, python.head = layer, head
            row = 0 if head is None else head + 1
            np.testing.assert_allclose(matrix[row], python.attention()[2], rtol=1e-12)


def test_looks_by_hand(run_node: Any) -> None:
    """Two layers of two heads over two tokens."""
    attention = [
        [[0.5, 0.5, 0.25, 0.75], [1.0, 0.0, 0.75, 0.25]],
        [[0.0, 1.0, 1.0, 0.0], [0.5, 0.5, 0.5, 0.5]],
    ]
    result = {"attention": attention, "tokens": ["a", "b"]}
    script = """(figure, result) =>
      [[0, 0], [0, 1], [1, 1]].map(([l, at]) => [...figure.fmLooks(result, l, at)])"""
    assert run_node(SOURCE, script, result) == [
        [0.75, 0.25, 0.5, 0.5, 1.0, 0.0],
        [0.5, 0.5, 0.25, 0.75, 0.75, 0.25],
        [0.75, 0.25, 1.0, 0.0, 0.5, 0.5],
    ]


# ---------------------------------------------------------------- cells


def test_lines_become_cells_and_texts(run_node: Any) -> None:
    script = """(figure, lines) => lines.map((line) => {
      const cells = figure.fmCells(line);
      return [figure.fmWritten(cells), figure.fmText(cells), cells.length, figure.fmAnswers(cells)];
    })"""
    lines = ["你□界 ", "", "[MASK]a【mask】b［ Mask ］〔MASK〕", "[MAS", "😀𠮷"]
    assert run_node(SOURCE, script, lines) == [
        ["你□界", "你[MASK]界", 3, [""]],
        ["", "", 0, []],
        ["□a□b□□", "[MASK]a[MASK]b[MASK][MASK]", 6, ["", "", "", ""]],
        ["[MAS", "[MAS", 4, []],
        ["😀𠮷", "😀𠮷", 2, []],
    ]


def test_answers_go_to_masks_in_reading_order(run_node: Any) -> None:
    script = """(figure) => {
      const first = figure.fmAnswered(figure.fmCells("□a□"), ["天", "", "玄"]);
      const second = figure.fmAnswered(figure.fmCells("□□"), first.left);
      const both = (cells) => [figure.fmAnswers(cells), figure.fmText(cells)];
      return [both(first.cells), first.left, both(second.cells), second.left];
    }"""
    assert run_node(SOURCE, script, None) == [
        [["天", ""], "[MASK]a[MASK]"],
        ["玄"],
        [["玄", ""], "[MASK][MASK]"],
        [],
    ]


@pytest.mark.parametrize(
    ("edited", "truths"),
    [
        ("白□依□尽", ["日", "山"]),  # nothing
        ("今白□依□尽", ["日", "山"]),  # in front
        ("白□今依□尽", ["日", "山"]),  # between
        ("白□依□", ["日", "山"]),  # the end is gone
        ("白□□", ["日", ""]),  # two edits at once: what stands between is new
        ("白□□依□尽", ["日", "", "山"]),  # another mask beside one
        ("白依□尽", ["山"]),
        ("□", [""]),
        ("白□", ["日"]),
        ("全是别的", []),
        ("", []),
    ],
)
def test_an_edit_leaves_the_truths_around_it(run_node: Any, edited: str, truths: list[str]) -> None:
    script = """(figure, edited) => {
      const { cells } = figure.fmAnswered(figure.fmCells("白□依□尽"), ["日", "山"]);
      const after = figure.fmEdited(cells, edited);
      return [figure.fmAnswers(after), figure.fmWritten(after)];
    }"""
    assert run_node(SOURCE, script, edited) == [truths, edited]


def test_masking_filling_and_taking_back(run_node: Any) -> None:
    script = """(figure) => {
      const log = [];
      const show = (cells) => log.push(cells.map(({ unit, truth, filled }) =>
        `${unit}/${truth}/${filled ? "filled" : ""}`).join(" "));
      let cells = figure.fmCells("月□");
      const step = (next) => show((cells = next));
      step(figure.fmToggled(cells, 0));
      step(figure.fmFilled(cells, 0, "日"));
      step(figure.fmToggled(cells, 0));
      step(figure.fmToggled(cells, 0));
      step(figure.fmToggled(cells, 1));
      step(figure.fmFilled(cells, 1, "光"));
      step(figure.fmToggled(cells, 1));
      return log;
    }"""
    mask = "[MASK]"
    assert run_node(SOURCE, script, None) == [
        f"{mask}/月/ {mask}//",
        f"日/月/filled {mask}//",
        f"{mask}/月/ {mask}//",  # what the reader masked, not what the model put there
        f"月// {mask}//",
        f"月// {mask}//",  # nobody knows what stood there
        "月// 光//filled",
        f"月// {mask}//",
    ]


def test_tokens_and_keys(run_node: Any) -> None:
    script = """(figure) => {
      const [a, b] = ["天□", "黄"].map(figure.fmCells);
      const row = ({ name, kind, line, index }) => [name, kind, line, index];
      const key = (x, y) => figure.fmKey(x, y);
      const known = figure.fmAnswered(a, ["地"]).cells;
      const keys = [key(a, []), key(a, b), key(b, a), key(known, []), key([...a, ...b], [])];
      return [figure.fmTokens(a, b).map(row), figure.fmTokens(a, []).length, new Set(keys).size];
    }"""
    tokens = [
        ["[CLS]", "special", 0, -1],
        ["天", "text", 0, 0],
        ["[MASK]", "mask", 0, 1],
        ["[SEP]", "special", 0, -1],
        ["黄", "text", 1, 0],
        ["[SEP]", "special", 1, -1],
    ]
    assert run_node(SOURCE, script, None) == [tokens, 4, 5]


# ---------------------------------------------------------------- sentences


def test_what_is_not_read(run_node: Any) -> None:
    script = """(figure, cases) => cases.map(([a, b]) =>
      figure.fmProblem(figure.fmCells(a), figure.fmCells(b), 66))"""
    cases = [["", ""], ["", "好"], ["好" * 64, ""], ["😀" * 65, ""], ["好" * 60, "好" * 3]]
    cases.append(["好" * 60, "□" * 4])
    empty = "先写一句话，比如一句诗。"
    assert run_node(SOURCE, script, cases) == [
        empty,
        empty,
        "",
        "这句话太长：模型一次最多读 64 个字，现在有 65 个。请删掉一些。",
        "",
        "两句合起来太长：模型一次最多读 63 个字，现在有 64 个。请删掉一些。",
    ]


def test_status_texts(run_node: Any) -> None:
    one: dict[str, Any] = {
        "tokens": ["[CLS]", "天", "[MASK]", "[SEP]"],
        "places": [2],
        "follows": None,
    }
    one["candidates"] = [[{"piece": "地", "probability": 0.5}, {"piece": "玄", "probability": 0.1}]]
    two: dict[str, Any] = {
        "tokens": ["[CLS]", "天", "[SEP]", "地", "[SEP]"],
        "places": [],
        "candidates": [],
    }
    two["follows"] = 0.25
    cases = [
        {"phase": "stored", "message": "", "result": one},
        {"phase": "waiting", "message": "", "result": one},
        {"phase": "reading", "message": "", "result": one},
        {"phase": "done", "message": "", "result": one},
        {"phase": "done", "message": "", "result": two},
        {"phase": "done", "message": "太长。", "result": two},
    ]
    script = "(figure, cases) => cases.map((c) => [figure.fmStatus(c), figure.fmSaid(c)])"
    read = "4 个词元：2 个字（1 个换成了 [MASK]）和 2 个记号。"
    assert run_node(SOURCE, script, cases) == [
        [f"先看书里存好的一句，{read}改动一处，会先载入模型，只要一次。", ""],
        ["模型载入好，就开始算。", ""],
        [f"模型读到 {read}", ""],
        [f"模型读到 {read}", "第 1 个空：地 50.0%，玄 10.0%。"],
        [
            "模型读到 5 个词元：2 个字和 3 个记号。还没有挖字：选一个字，再按「挖掉这个字」。",
            "下一句的概率 25.0%。",
        ],
        ["太长。", ""],
    ]


def test_other_sentences(run_node: Any) -> None:
    script = """(figure) => [
      figure.fmWarning({ unknown: [] }), figure.fmWarning({ unknown: ["龘", " ", "龘"] }),
      figure.fmTruth("", null), figure.fmTruth("龘", null),
      figure.fmTruth("光", { rank: 3, probability: 0.125 }),
      figure.fmFollows(0.5), figure.fmFollows(0.49),
      ["[CLS]", "[SEP]", "[MASK]", " ", "天"].map(figure.fmShort),
      figure.fmName({ name: "[CLS]", kind: "special" }),
      figure.fmName({ name: "天", kind: "text" }),
      figure.fmName({ name: "[MASK]", kind: "mask" }),
      figure.fmName({ name: "[MASK]", kind: "mask" }, "地"),
      figure.fmWeightText("「天」", "[SEP]", 0.12345, "第 1 层，头 2"),
    ]"""
    assert run_node(SOURCE, script, None) == [
        "",
        "模型的词表里没有「龘」「␣」：它读到的是 <unk>，只知道这里有一个生字，不知道是哪一个。",
        "",
        "原来的字「龘」不在词表里，模型补不出它。",
        "原来的字「光」排第 3，概率 12.5%。",
        "模型判断：是下一句。",
        "模型判断：不是下一句，是别处来的。",
        ["CLS", "SEP", "□", "␣", "天"],
        "[CLS]",
        "「天」",
        "[MASK]",
        "挖掉的「地」",
        "第 1 层，头 2：「天」看[SEP]的权重是 0.123。",
    ]


# ---------------------------------------------------------------- states

# A network that answers at once, and a session in which a test decides when a reading may start.
SETTING = """
  const reads = [];
  const known = { cls_id: 0, sep_id: 1, mask_id: 2 };
  const network = {
    config: known,
    tokenizer: {
      encode: (text) => [text.charCodeAt(0)],
      piece: (id) => String.fromCharCode(id),
      unknown: (text) => (text === "x" ? [0] : []),
    },
    read(ids, segments) {
      reads.push([ids, segments]);
      if (ids.includes("!".charCodeAt(0))) throw new Error("不要叹号。");
      const logits = () =>  // a special token is the most likely, then "a", then all the others
        Float32Array.from({ length: 128 }, (_, id) => ({ 2: 99, 97: 9 })[id] ?? 0);
      return { ids, attention: [], logits, nsp: [0.75, 0.25] };
    },
  };
  const cells = (text) => figure.fmCells(text);
  const log = [];
  let touched = 0;
  let next = [];
  const session = figure.fmSession({
    lines: [cells("a□"), []],
    stored: { key: figure.fmKey(cells("a□"), []), tokens: ["stored"] },
    shape: { longest: 8, specials: 3 },
    touch: () => (touched += 1),
    pause: () => new Promise((resolve) => next.push(resolve)),
    onChange: () => {
      const { phase, message, result, current } = session.state();
      log.push([phase, message, result.tokens.join(""), current]);
    },
  });
  const flush = () => new Promise((resolve) => setTimeout(resolve));
  const all = async () => {
    while (next.length) { next.splice(0).forEach((resolve) => resolve()); await flush(); }
  };
  const last = () => log[log.length - 1];
"""


def session(run_node: Any, script: str) -> Any:
    """What the asynchronous `script` returns, run after SETTING."""
    whole = f"await (async () => {{ {SETTING} {script} }})().then((value) => () => value)"
    return run_node(SOURCE, whole, None)


def test_an_edit_is_read_when_the_model_is_there(run_node: Any) -> None:
    got = session(
        run_node,
        """session.set(cells("ab□"), []);
        session.set(cells("b□"), cells("c"));
        const before = [last(), touched, reads.length];
        session.arrived(network);
        const waiting = [last(), reads.length];
        await all();
        const { result } = session.state();
        return [before, waiting, last(), reads, result.candidates[0][0].piece, result.follows];""",
    )
    before, waiting, last, reads, piece, follows = got
    assert before == [["waiting", "", "stored", False], 2, 0]
    assert waiting == [["reading", "", "stored", False], 0]
    assert last == ["done", "", "[CLS]b[MASK][SEP]c[SEP]", True]
    assert reads == [[[0, 98, 2, 1, 99, 1], [0, 0, 0, 0, 1, 1]]]
    assert (piece, follows) == ("a", 0.75)


def test_what_the_page_stored_is_read_anew_with_the_model(run_node: Any) -> None:
    got = session(run_node, "session.arrived(network); await all(); return [log, reads.length];")
    assert got == [
        [["reading", "", "stored", True], ["done", "", "[CLS]a[MASK][SEP]", True]],
        1,
    ]


def test_the_newest_edit_wins(run_node: Any) -> None:
    got = session(
        run_node,
        """session.arrived(network);
        await all();
        session.set(cells("bb"), []);
        session.set(cells("cc"), []);
        const during = last();
        await all();
        return [during, last(), reads.length, log.length];""",
    )
    during, last, reads, count = got
    assert during == ["reading", "", "[CLS]a[MASK][SEP]", False]
    assert last == ["done", "", "[CLS]cc[SEP]", True]
    assert (reads, count) == (2, 5)


def test_an_edit_that_is_taken_back_costs_nothing(run_node: Any) -> None:
    got = session(
        run_node,
        """session.set(cells("b"), []);
        session.set(cells("a□"), []);
        const first = [last(), touched];
        session.arrived(network);
        await all();
        session.set(cells("b"), []);
        session.set(cells("a□"), []);
        await all();
        return [first, last(), reads.length];""",
    )
    assert got == [
        [["stored", "", "stored", True], 1],
        ["done", "", "[CLS]a[MASK][SEP]", True],
        1,
    ]


def test_what_is_refused_leaves_the_last_numbers(run_node: Any) -> None:
    got = session(
        run_node,
        """session.set([], []);
        const first = [last(), touched];
        session.arrived(network);
        await all();
        const none = reads.length;
        const seen = [];
        for (const [a, b] of [["a", ""], ["a234567", ""], ["a", "b23456"], ["!", ""], ["ab", ""]]) {
          session.set(cells(a), cells(b));
          await all();
          seen.push(last());
        }
        session.set(cells("q"), []);
        session.set([], []);
        await all();
        seen.push(last());
        return [first, none, seen, reads.length];""",
    )
    first, none, seen, reads = got
    empty = "先写一句话，比如一句诗。"
    assert first == [["stored", empty, "stored", False], 0]
    assert none == 0
    one, two = "[CLS]a[SEP]", "[CLS]ab[SEP]"
    assert seen == [
        ["done", "", one, True],
        ["done", "这句话太长：模型一次最多读 6 个字，现在有 7 个。请删掉一些。", one, False],
        ["done", "两句合起来太长：模型一次最多读 5 个字，现在有 7 个。请删掉一些。", one, False],
        ["done", "不要叹号。", one, False],
        ["done", "", two, True],
        ["done", empty, two, False],
    ]
    assert reads == 3


def test_a_view_that_is_gone_reads_nothing(run_node: Any) -> None:
    got = session(
        run_node, "session.arrived(network); session.stop(); await all(); return reads.length;"
    )
    assert got == 0


def test_ranks_count_who_stands_before(run_node: Any) -> None:
    """All characters but "a" are equally likely, the smaller id first; specials do not count."""
    got = session(
        run_node,
        """const a = (truth) => figure.fmAnswered(cells("□"), [truth]).cells;
        return ["a", "\\u0003", "\\u0004", "b", "x", ""].map((truth) =>
          figure.fmRead(network, a(truth), [], 3).ranks[0]?.rank ?? null);""",
    )
    assert got == [1, 2, 3, 96, None, None]
