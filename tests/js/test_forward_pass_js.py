"""The arithmetic of the forward pass in the browser's language = the trace of the real network."""

from __future__ import annotations

import base64
import itertools
from typing import Any

import numpy as np
import pytest
import torch

from lmlib.assets import path
from lmlib.export import load_packed, pack
from lmlib.generation import greedy_search
from lmlib.pretrained import load_tokenizer
from lmlib.tokenizers import CharTokenizer
from lmlib.trace import Trace, trace
from lmlib.transformer import Transformer, TransformerConfig
from lmlib.widgets import ForwardPass
from lmlib.widgets._forward_pass import TOLERANCE
from lmlib.widgets._models import packed_model
from lmlib.widgets.base import source

SOURCE = source("forward_pass", ".js")
VOCAB_SIZE = 10_000
IDS = torch.tensor([[170, 412, 950, 3021]])
TARGET = torch.tensor([[170, 412, 950, 3021, 2]])

# JSON has no infinity: it comes back as null.
WALK = """(figure, input, bytes) => {
  const data = figure.nlFloat16(bytes(input.data));
  const pass = figure.fpPass({ ...input, data });
  return {
    complaint: figure.fpComplaint({ ...input, data }),
    tensors: input.variants.map((_, v) => Object.fromEntries(input.steps.map(({ name }) => {
      const { shape, values } = pass.tensor(name, v);
      return [name, { shape, values: [...values] }];
    }))),
  };
}"""

Walk = dict[str, Any]


def state(figure: ForwardPass) -> Walk:
    fields = ("steps", "boxes", "tensors", "stride", "variants")
    data = base64.b64encode(figure.data).decode("ascii")
    return {field: getattr(figure, field) for field in fields} | {"data": data}


def traces_of(config: TransformerConfig, steps_of_training: int = 4) -> dict[str, Trace]:
    torch.manual_seed(0)
    model = Transformer(config)
    before = trace(model, IDS, target=TARGET)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-4)
    for _ in range(steps_of_training):
        logits = model(IDS, model.shift_right(TARGET))
        loss = torch.nn.functional.cross_entropy(logits[0], TARGET[0])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return {"训练前": before, "训练后": trace(model, IDS, target=TARGET)}


@pytest.fixture(scope="module")
def traces() -> dict[str, Trace]:
    """The network of the book's worked example, at full size."""
    torch.set_num_threads(1)
    return traces_of(
        TransformerConfig(VOCAB_SIZE, num_encoder_layers=1, num_decoder_layers=1, dropout=0.0)
    )


@pytest.fixture(scope="module")
def figure(traces: dict[str, Trace]) -> ForwardPass:
    return ForwardPass(traces, [f"t{i}" for i in range(VOCAB_SIZE)])


def assert_walks_as(walk: Walk, traces: dict[str, Trace]) -> None:
    assert walk["complaint"] == ""
    for tensors, steps in zip(walk["tensors"], traces.values(), strict=True):
        assert list(tensors) == list(steps)
        for name, step in steps.items():
            assert tensors[name]["shape"] == list(step.shape), name
            values = np.array(tensors[name]["values"], dtype=np.float64)
            true = step.tensor.double().numpy().ravel()
            blocked = np.isneginf(true)
            np.testing.assert_array_equal(np.isnan(values), blocked, err_msg=name)
            size = np.abs(true[~blocked]).max()
            np.testing.assert_allclose(
                values[~blocked], true[~blocked], atol=TOLERANCE / 5 * size, err_msg=name
            )


def test_every_tensor_equals_the_trace(
    run_node: Any, figure: ForwardPass, traces: dict[str, Trace]
) -> None:
    walk = run_node(SOURCE, WALK, state(figure), also=["nlFloat16"])
    assert_walks_as(walk, traces)
    for tensors, steps in zip(walk["tensors"], traces.values(), strict=True):
        for name in ("token_probabilities", "sequence_probability"):
            true = steps[name].tensor.double().numpy()
            np.testing.assert_allclose(tensors[name]["values"], true.ravel(), rtol=1e-3)
    for variant, tensors in enumerate(walk["tensors"]):  # and the Python twin, to the last digits
        for name, tensor in tensors.items():
            twin = figure.tensor(name, variant).ravel()
            values = np.array([-np.inf if x is None else x for x in tensor["values"]])
            np.testing.assert_allclose(values, twin, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize(
    "options",
    [
        {"norm_first": True, "num_kv_heads": 1},
        {"norm": "rmsnorm", "positions": "relative", "feed_forward": "swiglu", "bias": False},
    ],
    ids=["pre-norm, GQA", "rmsnorm, relative, swiglu"],
)
def test_other_networks(run_node: Any, options: dict[str, Any]) -> None:
    config = TransformerConfig(
        4000,
        d_model=16,
        num_heads=2,
        d_ff=32,
        num_encoder_layers=2,
        num_decoder_layers=1,
        **options,
    )
    traces = traces_of(config, steps_of_training=1)
    other = ForwardPass(traces, [f"t{i}" for i in range(4000)])
    assert_walks_as(run_node(SOURCE, WALK, state(other), also=["nlFloat16"]), traces)


def test_what_is_shipped_is_small(figure: ForwardPass, traces: dict[str, Trace]) -> None:
    whole = sum(step.tensor.numel() * 4 for steps in traces.values() for step in steps.values())
    assert len(figure.data) < 0.25 * whole
    assert len(figure.data) < 450_000


COMPLAINTS = """(figure, input) => input.map((c) =>
  figure.fpComplaint({ ...c, data: new Float64Array(c.length) }))"""


def test_missing_or_old_data_is_said_in_a_sentence(run_node: Any, figure: ForwardPass) -> None:
    whole = state(figure) | {"length": 2 * figure.stride}
    strange = [dict(step, op={"kind": "cube", "of": []}) for step in figure.steps]
    cases = [
        whole,
        whole | {"length": 0},
        whole | {"length": 100},
        whole | {"steps": []},
        whole | {"tensors": {}},
        whole | {"steps": figure.steps[5:]},
        whole | {"steps": strange},
    ]
    said = run_node(SOURCE, COMPLAINTS, cases)
    assert said[0] == ""
    assert all(sentence.endswith("。") for sentence in said[1:])
    assert "不完整" in said[1]
    assert "没有带来数据" in said[3]
    assert "版本不合" in said[4]
    assert "版本不合" in said[5]
    assert "版本不合" in said[6]


DIAGRAM = """(figure, { boxes, steps }) => figure.fpLayout(boxes, steps, 40)"""


def test_the_diagram_follows_from_the_steps(run_node: Any, figure: ForwardPass) -> None:
    plan = run_node(SOURCE, DIAGRAM, {"boxes": figure.boxes, "steps": figure.steps})
    edges = {(edge["from"], edge["to"]): edge["kind"] for edge in plan["edges"]}
    encoder, decoder = "encoder.layers.0", "decoder.layers.0"
    assert edges[("source.tokens", "source.embedding")] == "flow"
    assert edges[("memory", f"{decoder}.cross_attention")] == "cross"
    assert {pair for pair, kind in edges.items() if kind == "residual"} == {
        ("source.positional", f"{encoder}.norm_1"),
        (f"{encoder}.norm_1", f"{encoder}.norm_2"),
        ("target.positional", f"{decoder}.norm_1"),
        (f"{decoder}.norm_1", f"{decoder}.norm_2"),
        (f"{decoder}.norm_2", f"{decoder}.norm_3"),
    }
    assert [frame["label"] for frame in plan["frames"]] == ["编码器层", "解码器层"]
    for column in (0, 1):
        heights = [box["y"] for box in plan["boxes"] if box["column"] == column]
        assert all(a - b >= 40 for a, b in itertools.pairwise(heights))  # no overlap
    for box in plan["boxes"]:
        assert 0 <= box["x"] <= box["x"] + box["width"] <= plan["width"]
        assert 0 <= box["y"] <= box["y"] + box["height"] <= plan["height"]


HELPERS = """(figure, input) => ({
  top: figure.fpTop([1, 5, 2, 9, 4, 2, 7, 2], 2, 6, 3),
  rank: figure.fpRank([1, 5, 2, 9, 4, 2, 7, 2], 2, 6, 2),
  bins: figure.fpBins([1, -3, 2, 0, 5, -6, 0, 0, 1, 1], 2, 5, 3),
  numbers: input.map((x) => figure.fpNumber(x)),
  cells: input.map((x) => figure.fpCell(x)),
  formulas: ["Q = X W_Q / √d_k", "masked_scores = S′[i, j]", "10000^(2i / d_model)"].map(
    (text) => figure.fpFormula(text)),
  statistics: figure.fpStatistics([1, 2, 3, -Infinity]),
})"""


def test_helpers(run_node: Any) -> None:
    got = run_node(SOURCE, HELPERS, [0, 0.25, -1.5, 0.0001234, -7.88e-21])
    assert got["top"] == [{"id": 1, "value": 9}, {"id": 4, "value": 7}, {"id": 2, "value": 4}]
    assert got["rank"] == 3
    assert got["bins"]["per"] == 2
    assert list(got["bins"]["values"].values()) == [-3, 2, 5, -6, 1, 1]
    assert list(got["bins"]["at"].values()) == [1, 2, 4, 0, 3, 4]
    assert got["numbers"] == ["0.0000", "0.2500", "−1.5000", "1.23×10⁻⁴", "−7.88×10⁻²¹"]
    assert got["cells"] == ["0.000", "0.250", "−1.500", "1×10⁻⁴", "−8×10⁻²¹"]
    first, second, third = (
        [(piece["kind"], piece["text"]) for piece in pieces] for pieces in got["formulas"]
    )
    assert ("variable", "Q") in first
    assert first[-2:] == [("variable", "d"), ("sub", "k")]
    assert ("sub", "Q") in first
    assert second[0] == ("text", "masked_scores")
    assert ("variable", "i") in second
    assert third[-2:] == [("sub", "model"), ("text", ")")]
    assert got["statistics"] == pytest.approx(
        {"low": 1, "high": 3, "mean": 2, "std": (2 / 3) ** 0.5, "count": 3}
    )


# ------------------------------------------------------------------ the reader's own sentence

TYPED = """(figure, input, bytes) => {
  const view = bytes(input.model);
  const buffer = new Uint8Array(view.buffer, view.byteOffset, view.byteLength).slice().buffer;
  const network = figure.lmNetwork(buffer);
  const { traced, vocabulary } = input;
  return input.texts.map((text) => {
    const { pass, boxes } = figure.fpTypedWalk(traced, vocabulary, network, text, "小模型");
    const tensors = pass.steps.map(({ name }) => {
      const { shape, values } = pass.tensor(name, 0);
      return [name, { shape, values: [...values] }];
    });
    const { steps, variants } = pass;
    return { steps, variants, boxes, tensors: Object.fromEntries(tensors) };
  });
}"""


def typed(run_node: Any, figure: ForwardPass, packed: bytes, texts: list[str]) -> list[Walk]:
    data = {
        "model": base64.b64encode(packed).decode("ascii"),
        "traced": {"steps": figure.steps, "boxes": figure.boxes},
        "vocabulary": figure.vocabulary.split("\n"),
        "texts": texts,
    }
    return run_node(SOURCE, TYPED, data, also=["lmNetwork"])


def assert_typed(got: Walk, expected: Trace, figure: ForwardPass) -> None:
    """The walk of a sentence is the one that Python makes of its trace."""
    assert got["variants"] == ["小模型"]
    assert got["boxes"] == figure.boxes
    kinds = {"shipped": "network"}
    for mine, theirs in zip(got["steps"], figure.steps, strict=True):
        op = theirs["op"]
        wanted = kinds.get(op["kind"], op["kind"])
        assert mine["op"]["kind"] == wanted
        for key in ("values", "allowed"):
            assert mine["op"].get(key) == op.get(key)
        assert mine | {"op": None} == theirs | {"op": None}
    for name, step in expected.items():
        found = got["tensors"][name]
        assert found["shape"] == list(step.shape)
        values = np.array([-np.inf if x is None else x for x in found["values"]])
        true = step.tensor.double().numpy().ravel()
        np.testing.assert_allclose(values, true, rtol=1e-3, atol=1e-4, err_msg=name)


TEXTS = [
    *("你", "你好", "你好世界", "世界和平", "我爱你们老师", "春暖花开春暖花开"),
    *("不在词表𠮷", "一二三四五六七八九十千万"),
]


def test_a_typed_sentence_walks_as_its_trace_does(run_node: Any) -> None:
    folder = path("models", "hello_world")
    tokenizer = load_tokenizer(folder)
    packed = packed_model("hello_world")
    model: Any = load_packed(packed)
    eos = model.config.eos_id

    def traced(text: str) -> Trace:
        source = tokenizer.encode(text)
        return trace(model, torch.tensor([source]), target=torch.tensor([[*source, eos]]))

    shown = ForwardPass(traced("春暖花开"), tokenizer, model="hello_world")
    for text, got in zip(TEXTS, typed(run_node, shown, packed, TEXTS), strict=True):
        expected = traced(text)
        assert_typed(got, expected, ForwardPass(expected, tokenizer))


@pytest.mark.parametrize("ending", [True, False])
def test_where_nothing_is_copied_the_network_writes(run_node: Any, ending: bool) -> None:
    torch.manual_seed(1)
    sizes = {"d_model": 12, "num_heads": 2, "d_ff": 10, "max_seq_len": 40}
    network = Transformer(TransformerConfig(12, dropout=0.0, **sizes)).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        # Nothing is written at all, or never an end.
        network.embedding.weight[2] = 0.0
        network.decoder.layers[-1].norm_3.bias.fill_(1.0)
        network.embedding.weight[2] = 5.0 if ending else -5.0
    tokenizer = CharTokenizer.train(["天地玄黄宇宙洪荒"])
    packed = pack(network, tokenizer)
    model: Any = load_packed(packed)
    source, target = torch.tensor([[4, 5, 6]]), torch.tensor([[7, 8, 2]])
    shown = ForwardPass(trace(model, source, target=target), tokenizer)
    for text, got in zip(
        ["天", "天地玄黄"], typed(run_node, shown, packed, ["天", "天地玄黄"]), strict=True
    ):
        ids = tokenizer.encode(text)
        written = greedy_search(model, max_new_tokens=2 * len(ids) + 8, source=[ids]).token_ids[0]
        assert len(written) == (1 if ending else 2 * len(ids) + 8)
        expected = trace(model, torch.tensor([ids]), target=torch.tensor([written]))
        for name, step in expected.items():
            assert got["tensors"][name]["shape"] == list(step.shape)
        masked = "decoder.layers.0.self_attention.masked_scores"
        assert masked in got["tensors"]
        assert (masked in expected) == (not ending)
