"""The shipped models in the browser's language = lmlib: logits, translations, every tensor."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from lmlib.assets import path
from lmlib.bert import BertConfig, BertModel
from lmlib.export import load_packed, pack, unpack
from lmlib.generation import greedy_search
from lmlib.pretrained import load_pretrained, load_tokenizer
from lmlib.recipes.hello_world import PHRASES, unseen
from lmlib.tokenizers import CharTokenizer
from lmlib.trace import trace
from lmlib.transformer import Transformer, TransformerConfig
from lmlib.widgets.base import STATIC

ENGINE = "\n".join(
    file.read_text(encoding="utf-8")
    for start in ("common", "model")
    for file in sorted(STATIC.glob(f"{start}*.js"))
)
EXPORTS = ["lmNetwork"]
NETWORK = """
  const buffer = (base64) => {
    const view = bytes(base64);
    return new Uint8Array(view.buffer, view.byteOffset, view.byteLength).slice().buffer;
  };
  const said = (act) => {
    try { return [act()]; } catch (error) { return error.message; }
  };
"""
SHIPPED = ("hello_world", "zh_en")

Values = dict[str, Any]


def run_engine(run_node: Any, script: str, data: Any) -> Any:
    """What `script`, the body of a function of `figure`, `input` and `buffer`, returns."""
    body = f"(figure, input, bytes) => {{ {NETWORK} {script} }}"
    return run_node(ENGINE, body, data, also=EXPORTS)


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


class Shipped:
    """A model of the package, as it is and as a page has it."""

    def __init__(self, name: str) -> None:
        torch.set_num_threads(1)
        folder = path("models", name)
        self.model: Any = load_pretrained(folder)
        self.tokenizer: Any = load_tokenizer(folder)
        self.packed = {kind: pack(self.model, self.tokenizer, kind) for kind in ("int8", "float16")}
        self.as_page: Any = {kind: load_packed(data) for kind, data in self.packed.items()}
        self.texts = _texts(name, self.tokenizer)


def _texts(name: str, tokenizer: Any) -> list[str]:
    """Held-out inputs."""
    if name == "hello_world":
        return [*PHRASES, *unseen(tokenizer, 20, 4), *unseen(tokenizer, 20, 6)]
    from lmlib.recipes._zh_en_data import held_out_pairs

    chosen = random.Random(0)
    pairs = held_out_pairs().values()
    return [pair.zh for corpus in pairs for pair in chosen.sample(list(corpus), 12)]


@pytest.fixture(scope="module", params=SHIPPED)
def shipped(request: pytest.FixtureRequest) -> Shipped:
    return Shipped(request.param)


# ------------------------------------------------------------------ the shipped models

TRANSLATE = """
  const network = figure.lmNetwork(buffer(input.data));
  return input.texts.map((text) => {
    const run = network.start(network.tokenizer.encode(text), { limit: input.limit });
    const steps = [];
    while (!run.done) steps.push(run.step());
    return {
      ids: run.ids, text: run.text, steps: steps.map(({ cross, ...step }) => step),
      cross: steps.map(({ cross }) => cross.map((heads) => heads.map((row) => [...row]))),
    };
  });
"""


@pytest.mark.parametrize("kind", ["int8", "float16"])
def test_translations_are_those_of_greedy_search(
    run_node: Any, shipped: Shipped, kind: str
) -> None:
    data = {"data": encoded(shipped.packed[kind]), "texts": shipped.texts, "limit": 50}
    written = run_engine(run_node, TRANSLATE, data)
    assert len(written) == len(shipped.texts) >= 40
    model = shipped.as_page["int8"] if kind == "int8" else shipped.model
    for text, got in zip(shipped.texts, written, strict=True):
        source = shipped.tokenizer.encode(text)
        expected = greedy_search(model, max_new_tokens=50, source=[source])
        assert got["ids"] == expected.token_ids[0], text
        assert got["text"] == shipped.tokenizer.decode(expected.texts[0])
        log_probs = np.log([step["probability"] for step in got["steps"]])
        np.testing.assert_allclose(log_probs, expected.log_probs[0], atol=1e-3)


def test_each_step_tells_alternatives_and_where_it_looked(run_node: Any, shipped: Shipped) -> None:
    texts = shipped.texts[::8]
    data = {"data": encoded(shipped.packed["int8"]), "texts": texts, "limit": 50}
    model, tokenizer = shipped.as_page["int8"], shipped.tokenizer
    for text, got in zip(texts, run_engine(run_node, TRANSLATE, data), strict=True):
        source = torch.tensor([tokenizer.encode(text)])
        target = torch.tensor([got["ids"]])
        with torch.no_grad():
            logits, weights = model(source, model.shift_right(target), need_weights=True)
        best = logits[0].softmax(-1).topk(5)
        for i, step in enumerate(got["steps"]):
            assert [choice["id"] for choice in step["top"]] == best.indices[i].tolist()
            assert step["top"][0].items() <= step.items()
            np.testing.assert_allclose(
                [choice["probability"] for choice in step["top"]], best.values[i], atol=1e-4
            )
        cross = np.array(got["cross"])  # (n, layers, heads, n_source)
        for layer in range(cross.shape[1]):
            expected = weights[f"decoder.layers.{layer}.cross_attention"][0].transpose(0, 1)
            np.testing.assert_allclose(cross[:, layer], expected, atol=1e-4)


TRACE = """
  const network = figure.lmNetwork(buffer(input.data));
  return input.pairs.map(([source, target]) => {
    const tensors = network.trace(source, target);
    return Object.entries(tensors)
      .filter(([name]) => !input.names || input.names.includes(name))
      .map(([name, { shape, values }]) => [name, shape, [...values]]);
  });
"""


@pytest.mark.parametrize("kind", ["int8", "float16"])
def test_logits_are_those_of_torch(run_node: Any, shipped: Shipped, kind: str) -> None:
    model = shipped.as_page["int8"] if kind == "int8" else shipped.model
    chosen = random.Random(1)
    pairs = []
    for text in shipped.texts[::6]:
        target = chosen.choices(range(model.config.vocab_size), k=8)
        pairs.append([shipped.tokenizer.encode(text), target])
    data = {"data": encoded(shipped.packed[kind]), "pairs": pairs, "names": ["logits"]}
    for (source, target), got in zip(pairs, run_engine(run_node, TRACE, data), strict=True):
        with torch.no_grad():
            target_in = model.shift_right(torch.tensor([target]))
            logits = model(torch.tensor([source]), target_in)
        ((_, shape, values),) = got
        assert shape == list(logits.shape)
        np.testing.assert_allclose(values, logits.flatten(), atol=1e-3)


# ------------------------------------------------------------------ every tensor, any options

SIZES = {"d_model": 12, "num_heads": 2, "d_ff": 10, "max_seq_len": 9}
LAYERS = {"num_encoder_layers": 2, "num_decoder_layers": 2}
OPTIONS: Mapping[str, dict[str, Any]] = {
    "the paper's": {},
    "pre-norm": {"norm_first": True},
    "final norm": {"final_norm": True, "activation": "gelu"},
    "pre-norm without a final one": {"norm_first": True, "final_norm": False},
    "untied": {"tie_embeddings": False, "head_bias": True, "activation": "gelu_tanh"},
    "BART": {"positions": "learned", "tie_positions": False, "norm_embeddings": True},
    "Marian": {"positions": "sinusoidal_halves", "activation": "silu", "pad_id": 1},
    "learned": {"positions": "learned", "scale_embeddings": False, "norm_eps": 1e-2},
    "RMSNorm, grouped": {"norm": "rmsnorm", "num_kv_heads": 1, "bias": False, "positions": "none"},
    "odd width": {"d_model": 7, "num_heads": 1, "d_ff": 5, "vocab_size": 18},
}


def small_model(seed: int = 0, **options: Any) -> Transformer:
    torch.manual_seed(seed)
    model = Transformer(TransformerConfig(**{"vocab_size": 19, **SIZES, **LAYERS, **options}))
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms that do something, too
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def letters(vocab_size: int = 19) -> CharTokenizer:
    return CharTokenizer.train(["天地玄黄宇宙洪荒日月盈昃辰宿列"], vocab_size)


def packed_small(kind: str, seed: int = 0, **options: Any) -> bytes:
    model = small_model(seed, **options)
    return pack(model, letters(model.config.vocab_size), kind)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_every_tensor_of_a_trace(run_node: Any, options: dict[str, Any]) -> None:
    pairs = [
        ([5, 6, 7, 8, 9, 10, 11, 12, 13], [14, 15, 16, 17, 5, 6, 7, 8, 2]),
        ([5], [6]),
        ([5, 0, 7, 1], [9, 0, 1, 3, 0, 2]),  # with padding, whichever it is
        ([0, 1], [4, 2]),
    ]
    packed = {kind: packed_small(kind, **options) for kind in ("int8", "float16")}
    data = [{"data": encoded(some), "pairs": pairs} for some in packed.values()]
    traced = run_engine(run_node, f"return input.map((input) => {{ {TRACE} }});", data)
    for some, walks in zip(packed.values(), traced, strict=True):
        model: Any = load_packed(some)
        for (source, target), got in zip(pairs, walks, strict=True):
            steps = trace(model, torch.tensor([source]), target=torch.tensor([target]))
            assert [name for name, _, _ in got] == list(steps)
            for name, shape, values in got:
                assert shape == list(steps[name].shape), name
                numbers = np.array([-np.inf if x is None else x for x in values], dtype=np.float64)
                true = steps[name].tensor.double().numpy().ravel()
                np.testing.assert_allclose(numbers, true, rtol=2e-4, atol=2e-5, err_msg=name)


WALK = """
  const network = figure.lmNetwork(buffer(input.data));
  const run = network.start(input.source, { limit: input.limit ?? undefined });
  const steps = [];
  while (!run.done) steps.push(run.step());
  const { values } = network.trace(input.source, run.ids).probabilities;
  const late = said(() => run.step());
  return { ids: run.ids, steps, values: [...values], late };
"""


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_a_cache_changes_nothing(run_node: Any, options: dict[str, Any]) -> None:
    packed = packed_small("int8", 3, **options)
    config = unpack(packed).manifest["config"]
    data = [{"data": encoded(packed), "source": [5, 6, 7], "limit": limit} for limit in (None, 4)]
    walks = run_engine(run_node, f"return input.map((input) => {{ {WALK} }});", data)
    for most, got in zip((config["max_seq_len"], 4), walks, strict=True):
        values = np.array(got["values"]).reshape(len(got["ids"]), -1)
        for row, step in zip(values, got["steps"], strict=True):
            assert step["probability"] == pytest.approx(row[step["id"]], abs=1e-6)
            assert step["probability"] == pytest.approx(row.max(), abs=1e-6)
            looks = [list(weights.values()) for heads in step["cross"] for weights in heads]
            assert len(looks) == 2 * config["num_heads"]
            assert all(len(weights) == 3 for weights in looks)
            np.testing.assert_allclose(np.sum(looks, axis=1), 1.0, atol=1e-5)
        assert len(got["ids"]) == most or got["ids"][-1] == config["eos_id"]
        assert len(got["ids"]) <= most
        assert got["late"] == "这一句已经写完了。"


# ------------------------------------------------------------------ what cannot be done

MAKE = """
  return input.map((data) => said(() => figure.lmNetwork(buffer(data)).kind));
"""


def edited(data: bytes, edit: Any) -> bytes:
    """A packed model with another manifest."""
    length = int.from_bytes(data[:8], "little")
    manifest = json.loads(data[8 : 8 + length])
    edit(manifest)
    text = json.dumps(manifest).encode()
    text += b" " * (-len(text) % 4)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def test_a_model_that_cannot_be_computed_is_refused(run_node: Any) -> None:
    data = pack(small_model(), letters())
    torch.manual_seed(0)
    bert = BertModel(BertConfig(19, d_model=6, num_heads=1, num_layers=1, d_ff=5, max_seq_len=5))
    cases = {
        "rotary": pack(small_model(positions="rotary"), letters()),
        "relative": pack(small_model(positions="relative"), letters()),
        "swiglu": pack(small_model(feed_forward="swiglu"), letters()),
        "sliding_window": edited(data, lambda m: m["config"].update(sliding_window=4)),
        "BertModel": pack(bert, letters()),
        "toString": edited(data, lambda m: m.update({"class": "toString"})),
        "分词器": pack(small_model()),
        "分词器 ": edited(data, lambda m: m["tokenizer"].update(type="wordpiece")),
        "正则表达式": edited(
            data,
            lambda m: m.update(
                tokenizer={
                    "type": "bpe", "pattern": r"\X", "vocab": [], "merges": [], "specials": []
                }
            ),
        ),
        "decoder.layers.1.norm_3.weight": edited(
            data,
            lambda m: m.update(
                tensors=[t for t in m["tensors"] if t["name"] != "decoder.layers.1.norm_3.weight"]
            ),
        ),
        "格式": edited(data, lambda m: m.update(version=2)),
        "格式 ": edited(data, lambda m: m.update(format="safetensors")),
        "格式  ": data[:8] + b"x" * len(data[8:]),
        "不完整": data[:-1],
        "不完整 ": data[:100],
        "不完整  ": data[:5],
        "不完整   ": b"",
    }  # fmt: skip
    said = run_engine(run_node, MAKE, [encoded(data), *map(encoded, cases.values())])
    assert said[0] == ["Transformer"]
    for word, sentence in zip(cases, said[1:], strict=True):
        assert isinstance(sentence, str), word
        assert word.strip() in sentence
        assert sentence.endswith("。")


BAD_INPUT = """
  const network = figure.lmNetwork(buffer(input.data));
  return {
    start: input.ids.map((ids) => said(() => network.start(ids))),
    trace: input.ids.map((ids) => said(() => network.trace([5], ids))),
    limit: input.limits.map((limit) => said(() => network.start([5], { limit }))),
    decode: input.ids.slice(2).map((ids) => said(() => network.tokenizer.decode(ids))),
    none: said(() => network.start()),
    fits: said(() => network.start(Array(9).fill(5)).done),
    typed: said(() => network.start(Int32Array.of(5, 6)).done),
  };
"""


def test_bad_input_is_answered_before_anything_is_computed(run_node: Any) -> None:
    data = {
        "data": encoded(pack(small_model(), letters())),
        "ids": [[], [5] * 10, [5, 19], [-1], [1.5], ["5"], [None]],
        "limits": [0, -1, 1.5, "4", None],
    }
    got = run_engine(run_node, BAD_INPUT, data)
    for answers, name in ((got["start"], "源句"), (got["trace"], "目标")):
        assert answers[0] == f"{name}是空的：至少要有一个词元。"
        assert answers[1] == f"{name}有 10 个词元，这个模型最多读 9 个：请缩短一些。"
        assert answers[2] == "词元编号必须是 0 到 18 的整数，收到 19。"
        assert all("词元编号必须是" in answer for answer in answers[3:])
    assert all("不小于 1 的整数" in answer for answer in got["limit"])
    assert all("词元编号必须是" in answer for answer in got["decode"])
    assert got["none"] == got["start"][0]
    assert got["fits"] == got["typed"] == [False]
