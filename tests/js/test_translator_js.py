"""The translator's own functions in the browser's language: alignment, texts, and its states."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest

from lmlib.assets import path
from lmlib.pretrained import load_tokenizer
from lmlib.widgets._translator import source_names
from lmlib.widgets.base import source
from lmlib.widgets.translator import Translator

SOURCE = source("translator", ".js")
TEXTS = ["二〇二六年十一月二十一日", "我的朋友每天都喝两杯热咖啡。"]


def state(figure: Translator) -> dict[str, Any]:
    cross = base64.b64encode(figure.cross).decode("ascii")
    return {"stored": figure.stored, "cross": cross, "shape": figure.shape}


# ---------------------------------------------------------------- the numbers


@pytest.mark.parametrize("text", TEXTS)
def test_the_stored_translation_is_read_back(run_node: Any, text: str) -> None:
    """Pieces, probabilities, alternatives, and the alignment of every layer and head."""
    figure = Translator(text)
    script = """(figure, input, bytes) => {
      const result = figure.trStored(input.stored, bytes(input.cross), input.shape);
      const heads = [null, ...Array.from({ length: input.shape.heads }, (_, i) => i)];
      const layers = Array.from({ length: input.shape.layers }, (_, i) => i);
      const alignment = (layer, head) =>
        [...figure.trAlignment(result.steps, layer, head, result.source.length)];
      return {
        result: { ...result, steps: result.steps.map(({ cross, ...rest }) => rest) },
        alignments: layers.map((layer) => heads.map((head) => alignment(layer, head))),
        least: figure.trLeastSure(result.steps),
      };
    }"""
    got = run_node(SOURCE, script, state(figure))
    result = got["result"]
    for name in ("text", "source", "unknown", "translation", "ended"):
        assert result[name] == figure.stored[name], name
    steps = [(step["piece"], step["probability"]) for step in result["steps"]]
    assert steps == figure.pieces()
    for i, step in enumerate(result["steps"]):
        best = [(other["piece"], other["probability"]) for other in step["top"]]
        assert best == figure.alternatives(i)
    probabilities = [p for _, p in figure.pieces()]
    assert got["least"] == int(np.argmin(probabilities))
    for layer, of_layer in enumerate(got["alignments"]):
        for head, alignment in zip((None, 0, 1, 2, 3), of_layer, strict=True):
            figure.layer, figure.head = layer, head
            expected = figure.alignment()
            np.testing.assert_allclose(alignment, expected.ravel(), rtol=1e-12)


def test_alignment_by_hand(run_node: Any) -> None:
    """Two layers, two heads, two steps, three characters."""
    first = [[[0.5, 0.5, 0.0], [0.0, 0.25, 0.75]], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]
    second = [[[0.0, 0.0, 1.0], [0.5, 0.0, 0.5]], [[0.2, 0.8, 0.0], [0.4, 0.0, 0.6]]]
    script = """(figure, steps) => [
      figure.trAlignment(steps, 0, 1, 3), figure.trAlignment(steps, 1, 0, 3),
      figure.trAlignment(steps, 0, null, 3), figure.trAlignment([], 0, null, 3),
    ].map((matrix) => [...matrix])"""
    assert run_node(SOURCE, script, [{"cross": first}, {"cross": second}]) == [
        [0.0, 0.25, 0.75, 0.5, 0.0, 0.5],
        [1.0, 0.0, 0.0, 0.2, 0.8, 0.0],
        [0.25, 0.375, 0.375, 0.25, 0.0, 0.75],
        [],
    ]


def test_which_step_is_looked_at_where_nobody_chose(run_node: Any) -> None:
    script = """(figure, cases) => cases.map((ps) => {
      const steps = ps.map((probability) => ({ probability }));
      return [figure.trLeastSure(steps), figure.trAutomatic(steps)];
    })"""
    cases = [[], [0.99, 0.95, 0.97], [0.99, 0.4, 0.7], [0.4, 0.4], [0.9, 0.95]]
    expected = [[-1, -1], [1, 0], [1, 1], [0, 0], [0, 0]]
    assert run_node(SOURCE, script, cases) == expected


def test_source_names_are_those_of_lmlib(run_node: Any) -> None:
    """With the page's own tokenizer's decode replaced by a table of lmlib's."""
    tokenizer = load_tokenizer(path("models", "zh_en"))
    texts = ["二月，好。", "龘a 好", "😀龘\n", "hello World", "é猫\ufffd", "\ufffd"]
    cases: list[tuple[list[int], list[str]]] = []
    for text in texts:
        ids = tokenizer.encode(text)
        prefixes = [tokenizer.decode(ids[:i]) for i in range(len(ids) + 1)]
        cases.append((ids, prefixes))
    script = """(figure, cases) => cases.map(([ids, prefixes]) =>
      figure.trSource(ids, (part) => prefixes[part.length]))"""
    expected = [source_names(tokenizer, ids) for ids, _ in cases]
    assert run_node(SOURCE, script, cases) == expected
    assert expected[2][0] == "😀①"


# ---------------------------------------------------------------- texts


def test_texts_that_are_not_translated(run_node: Any) -> None:
    script = "(figure, texts) => texts.map((text) => figure.trProblem(text, 60))"
    assert run_node(SOURCE, script, ["", "好" * 61, "好" * 60, "😀" * 60]) == [
        "先写一句中文，或者一个日期。",
        "这句话太长：最多 60 个字，现在有 61 个。",
        "",
        "",
    ]


def test_warnings(run_node: Any) -> None:
    script = "(figure, results) => results.map(figure.trWarnings)"
    results = [
        {"text": "你好", "unknown": []},
        {"text": "1999-2-3", "unknown": []},
        {"text": "龘和龘😀", "unknown": ["龘", "龘", "😀"]},
        {"text": "hello", "unknown": []},
        {"text": "é", "unknown": ["é"]},
    ]
    got = run_node(SOURCE, script, results)
    unknown = "模型没有学过「龘」「😀」：只好拆成字节来读，译文多半不可信。"
    foreign = "这里没有汉字也没有数字：模型只学过把中文译成英文。"
    assert got == [
        [],
        [],
        [unknown],
        [foreign],
        [unknown.replace("「龘」「😀」", "「é」"), foreign],
    ]


def test_status_texts(run_node: Any) -> None:
    steps = [
        {"piece": " red", "probability": 0.5},
        {"piece": " blue", "probability": 0.25},
        {"piece": "■", "probability": 1.0},
    ]
    result = {"steps": steps, "ended": True, "translation": "red blue"}
    cut = {"steps": steps[:2], "ended": False, "translation": "red blue"}
    cases = [
        {"phase": phase, "message": "", "result": result}
        for phase in ("stored", "waiting", "running", "stopped", "done")
    ]
    cases.append({"phase": "cut", "message": "", "result": cut})
    cases.append({"phase": "done", "message": "太长。", "result": result})
    script = """(figure, cases) =>
      cases.map((state) => [figure.trStatusText(state, 60), figure.trSaid(state)])"""
    facts = "2 个片段和结尾 ■，整句概率 0.125；最拿不准的是「␣blue」（25.0%）。"
    assert run_node(SOURCE, script, cases) == [
        [f"先看书里存好的一句：{facts}换一句，会先载入模型，只要一次。", ""],
        ["模型载入好，就开始翻译。", ""],
        ["正在翻译……", ""],
        ["句子改了，停在这里。按「翻译」重新开始。", ""],
        [f"写完了：{facts}", "译文：red blue"],
        [
            "写满了 60 个片段也没有写出结尾 ■，停在这里："
            "2 个片段，整句概率 0.125；最拿不准的是「␣blue」（25.0%）。",
            "译文：red blue",
        ],
        ["太长。", ""],
    ]


def test_pieces_looks_and_numbers_for_reading(run_node: Any) -> None:
    script = """(figure) => [
      figure.trVisible(" a b\\n\\t"),
      figure.trLooks([0.05, 0.5, 0.3, 0.15]), figure.trLooks([0.2, 0.2, 0.2, 0.2, 0.2]),
      figure.trLooks([0.09, 0.08]),
      figure.trLooksText([0.02, 0.9, 0.08], ["二", " ", "六"]),
      figure.trPieceLabel({ piece: " red", probability: 0.5 }, 1, "「红」90.0%"),
      figure.trPieceLabel({ piece: "■", probability: 1 }, 2, "「红」90.0%"),
      figure.trPieceLabel({ piece: " ", probability: 1 }, 2, "「红」90.0%"),
      figure.trRestText([{ probability: 0.5 }, { probability: 0.25 }], 4000),
      figure.trRestText([{ probability: 1.0000001 }], 4000),
      [0.7129, 1, 0.001, 0.00026, 0].map(figure.trProbability),
    ]"""
    place = lambda at, share: {"place": at, "share": share}  # noqa: E731
    assert run_node(SOURCE, script, None) == [
        "␣a␣b↵⇥",
        [place(1, 0.5), place(2, 0.3), place(3, 0.15)],
        [place(0, 0.2), place(1, 0.2), place(2, 0.2)],
        [place(0, 0.09)],
        "「␣」90.0%",
        "第 2 步，片段「red」，概率 50.0%，看「红」90.0%",
        "第 3 步，结尾，概率 100.0%，看「红」90.0%",
        "第 3 步，片段「␣」，概率 100.0%，看「红」90.0%",
        "词表里其余 3998 个词元合计 25.0%。",
        "词表里其余 3999 个词元合计 0.0%。",
        ["0.713", "1.00", "0.00100", "2.60×10⁻⁴", "0"],
    ]


# ---------------------------------------------------------------- states

# A network that writes the characters of its source in capitals, one at a time, and a session
# around it in which a test decides when the next piece comes. `log` holds what was seen.
SETTING = """
  const limits = { longest: 8, most: 6, eos: 0 };
  const token = (id) => ({ id, piece: id ? String.fromCharCode(id).toUpperCase() : "<eos>" });
  const tokenizer = {
    encode: (text) => [...text].map((c) => c.charCodeAt(0)),
    decode: (ids) => ids.filter((id) => id).map((id) => token(id).piece.toLowerCase()).join(""),
    unknown: (text) => [...text].flatMap((c, i) => (c === "x" ? [i] : [])),
  };
  const started = [];
  const start = (ids, { limit }) => {
    if (ids.includes("!".charCodeAt(0))) throw new Error("不要叹号。");
    started.push(tokenizer.decode(ids));
    const run = {
      ids: [],
      get done() { return run.ids.includes(0) || run.ids.length === limit; },
      step() {
        const id = ids[run.ids.length] ?? 0;
        run.ids.push(id);
        const top = [{ ...token(id), probability: 0.9 }, { ...token(0), probability: 0.1 }];
        return { ...top[0], top, cross: [[ids.map(() => 1 / ids.length)]] };
      },
    };
    return run;
  };
  const network = { tokenizer, start };
  const log = [];
  const texts = [];
  let touched = 0;
  let next = [];
  const session = figure.trSession({
    stored: { text: "stored", steps: [], translation: "" },
    limits,
    touch: () => (touched += 1),
    pause: () => new Promise((resolve) => next.push(resolve)),
    onStart: (text) => texts.push([text, session.state().result.text]),
    onChange: ({ phase, message, result }) =>
      log.push([phase, message, result.steps.map(({ piece }) => piece).join("")]),
  });
  const flush = () => new Promise((resolve) => setTimeout(resolve));
  const piece = async () => { next.splice(0).forEach((resolve) => resolve()); await flush(); };
  const all = async () => { while (next.length) await piece(); };
  const last = () => log[log.length - 1];
"""


def session(run_node: Any, script: str) -> Any:
    """What the asynchronous `script` returns, run after SETTING."""
    whole = f"await (async () => {{ {SETTING} {script} }})().then((value) => () => value)"
    return run_node(SOURCE, whole, None)


def test_a_translation_comes_piece_by_piece(run_node: Any) -> None:
    got = session(
        run_node,
        """session.arrived(network);
        session.ask(() => " abx ");
        await all();
        return [log, texts, touched, session.state()];""",
    )
    log, texts, touched, state = got
    pieces = ["", "A", "AB", "ABX", "ABX■"]
    assert log == [*(["running", "", each] for each in pieces), ["done", "", "ABX■"]]
    assert texts == [["abx", "abx"]]
    assert touched == 0
    result = state["result"]
    assert (result["text"], result["translation"], result["ended"]) == ("abx", "abx", True)
    assert (result["source"], result["unknown"]) == (["a", "b", "x"], ["x"])
    assert [step["probability"] for step in result["steps"]] == [0.9] * 4
    assert [other["piece"] for other in result["steps"][0]["top"]] == ["A", "■"]


def test_without_a_model_it_waits_and_takes_the_newest_text(run_node: Any) -> None:
    got = session(
        run_node,
        """let text = "ab";
        session.ask(() => text);
        await flush();
        session.edited();
        text = "cd";
        const before = [last(), touched, started.length];
        session.arrived(network);
        await all();
        return [before, last(), started];""",
    )
    assert got == [[["waiting", "", ""], 1, 0], ["done", "", "CD■"], ["cd"]]


def test_a_model_that_nobody_waits_for_writes_nothing(run_node: Any) -> None:
    script = "session.arrived(network); await all(); return [log, started];"
    assert session(run_node, script) == [[], []]
    stopped = "session.ask(() => 'a'); session.stop(); session.arrived(network); await all();"
    assert session(run_node, f"{stopped} return [last(), started];") == [["waiting", "", ""], []]
    erased = "session.ask(() => 'a'); session.ask(() => ''); session.arrived(network); await all();"
    got = session(run_node, f"{erased} return [last(), started];")
    assert got == [["stored", "先写一句中文，或者一个日期。", ""], []]


def test_the_newest_request_wins(run_node: Any) -> None:
    got = session(
        run_node,
        """session.arrived(network);
        session.ask(() => "abcd");
        await piece();
        session.ask(() => "ef");
        await all();
        return [log, started, next.length];""",
    )
    log, started, left = got
    assert started == ["abcd", "ef"]
    seen = [pieces for _, _, pieces in log]
    assert seen == ["", "A", "AB", "", "E", "EF", "EF■", "EF■"]
    assert log[-1][0] == "done"
    assert left == 0


def test_typing_stops_what_is_being_written(run_node: Any) -> None:
    got = session(
        run_node,
        """session.arrived(network);
        session.ask(() => "abcd");
        await piece();
        session.edited();
        session.edited();
        await all();
        return [last(), log.length];""",
    )
    assert got == [["stopped", "", "AB"], 4]


def test_a_long_translation_is_cut(run_node: Any) -> None:
    script = "session.arrived(network); session.ask(() => 'abcdefgh'); await all(); return last();"
    assert session(run_node, script) == ["cut", "", "ABCDEF"]


def test_what_is_refused_leaves_the_last_translation(run_node: Any) -> None:
    got = session(
        run_node,
        """session.ask(() => "  ");
        const untouched = [last(), touched];
        session.arrived(network);
        session.ask(() => "ab");
        await all();
        const seen = [];
        for (const text of ["", "abcdefghi", "a!"]) {
          session.ask(() => text);
          await all();
          seen.push(last());
        }
        session.edited();
        seen.push(last());
        session.ask(() => "abcd");
        await piece();
        session.ask(() => "");
        await all();
        seen.push(last());
        return [untouched, seen];""",
    )
    untouched, seen = got
    empty = "先写一句中文，或者一个日期。"
    assert untouched == [["stored", empty, ""], 0]
    assert seen == [
        ["done", empty, "AB■"],
        ["done", "这句话太长：最多 8 个字，现在有 9 个。", "AB■"],
        ["done", "不要叹号。", "AB■"],
        ["done", "", "AB■"],
        ["stopped", empty, "AB"],
    ]
    assert json.dumps(seen)
