"""`ForwardPass`: what it ships is enough to recompute every tensor of the trace."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
import traitlets

from lmlib.assets import path
from lmlib.pretrained import load_pretrained, load_tokenizer
from lmlib.trace import Trace, trace
from lmlib.transformer import Transformer, TransformerConfig
from lmlib.widgets import ForwardPass
from lmlib.widgets._forward_pass import TOLERANCE, plan

VOCAB = ["<pad>", "<bos>", "<eos>", "<unk>", *"你好世界一二三四五六七八"]
SOURCE = torch.tensor([[4, 5, 6, 7]])
TARGET = torch.tensor([[4, 5, 6, 7, 2]])

#: Networks whose parts the page knows by formula, or does not know and has shipped instead.
NETWORKS: dict[str, dict[str, Any]] = {
    "paper": {},
    "pre-norm": {"norm_first": True},
    "two layers": {"num_encoder_layers": 2, "num_decoder_layers": 2, "final_norm": True},
    "rotary, GQA": {"positions": "rotary", "num_kv_heads": 1},
    "relative": {"positions": "relative"},
    "learned, gelu": {"positions": "learned", "activation": "gelu"},
    "rmsnorm, swiglu, no bias": {"norm": "rmsnorm", "feed_forward": "swiglu", "bias": False},
    "no positions, untied": {
        "positions": "none",
        "tie_embeddings": False,
        "scale_embeddings": False,
    },
}


def network(seed: int = 0, **options: Any) -> Transformer:
    torch.manual_seed(seed)
    defaults = {"num_encoder_layers": 1, "num_decoder_layers": 1, "max_seq_len": 16}
    config = TransformerConfig(
        len(VOCAB), d_model=16, num_heads=2, d_ff=24, **{**defaults, **options}
    )
    model = Transformer(config)
    with torch.no_grad():
        for parameter in model.parameters():  # gains and biases unlike 1 and 0, too
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def walk(seed: int = 0, source: torch.Tensor = SOURCE, **options: Any) -> Trace:
    return trace(network(seed, **options), source, target=TARGET)


def kinds(figure: ForwardPass) -> dict[str, str]:
    return {step["name"]: step["op"]["kind"] for step in figure.steps}


def assert_near(made: np.ndarray, true: torch.Tensor, name: str) -> None:
    expected = true.double().numpy()
    blocked = np.isneginf(expected)
    assert made.shape == expected.shape, name
    np.testing.assert_array_equal(np.isneginf(made), blocked, err_msg=name)
    size = np.abs(expected[~blocked]).max()
    np.testing.assert_allclose(
        made[~blocked], expected[~blocked], atol=TOLERANCE * size, err_msg=name
    )


@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS.keys())
def test_every_tensor_of_any_network_is_recomputed(options: dict[str, Any]) -> None:
    traces = {"训练前": walk(0, **options), "训练后": walk(1, **options)}
    figure = ForwardPass(traces, VOCAB)
    for variant, steps in enumerate(traces.values()):
        for name, step in steps.items():
            assert_near(figure.tensor(name, variant), step.tensor, name)
    boxes = {box["id"] for box in figure.boxes}
    assert {step["box"] for step in figure.steps} == boxes
    assert all(len(step["axes"]) == len(step["shape"]) for step in figure.steps)
    assert all(
        len(step["rows"]) == step["shape"][-2]
        for step in figure.steps
        if step["view"] in ("matrix", "vocabulary", "square")
    )


def test_only_what_the_model_alone_knows_is_shipped() -> None:
    shipped = {
        name for name, kind in kinds(ForwardPass(walk(), VOCAB)).items() if kind == "shipped"
    }
    leaves = {name.rpartition(".")[2] for name in shipped}
    assert leaves == {"embedding", "Q", "K", "V", "output", "pre_activation", "logits"}
    assert not any("norm" in name for name in shipped)


def test_a_formula_that_does_not_hold_is_not_used() -> None:
    steps = walk()
    steps["encoder.layers.0.self_attention.weights"].tensor.mul_(0.9)
    shipped = plan([steps])
    assert shipped.ops["encoder.layers.0.self_attention.weights"] == {"kind": "shipped"}
    assert shipped.ops["decoder.layers.0.self_attention.weights"]["kind"] == "softmax"


def test_one_trace_that_disagrees_is_enough() -> None:
    good, bad = walk(0), walk(1)
    bad["memory"].tensor.add_(1.0)
    assert plan([good, bad]).ops["memory"] == {"kind": "shipped"}
    assert plan([good, good]).ops["memory"]["kind"] == "copy"


def test_probabilities_keep_their_digits() -> None:
    """float16 logits of size 60 would be off by 3 % in the probability."""
    model = network()
    with torch.no_grad():
        model.head.weight.mul_(12.0)
    steps = trace(model, SOURCE, target=TARGET)
    assert steps["logits"].tensor.abs().max() > 30
    figure = ForwardPass(steps, VOCAB)
    for name in ("token_probabilities", "token_log_probabilities"):
        true = steps[name].tensor.double().numpy()
        np.testing.assert_allclose(figure.tensor(name), true, rtol=0.01, err_msg=name)
    rank = (figure.tensor("logits") > figure.tensor("logits")[0, 0, 4]).sum(axis=-1)[0, 0]
    logits = steps["logits"].tensor[0, 0]
    assert rank == (logits > logits[4]).sum()


def test_padding_and_masks() -> None:
    source = torch.tensor([[4, 5, 6, 0]])
    figure = ForwardPass(walk(source=source), VOCAB)
    encoder = "encoder.layers.0.self_attention.masked_scores"
    decoder = "decoder.layers.0.self_attention.masked_scores"
    steps = {step["name"]: step for step in figure.steps}
    assert steps[encoder]["op"]["allowed"] == [[1, 1, 1, 0]] * 4
    assert steps[decoder]["op"]["allowed"] == np.tri(5, dtype=int).tolist()
    assert steps[decoder]["columns"] == ["<bos>", "你", "好", "世", "界"]
    assert figure.tensor("encoder.layers.0.self_attention.weights")[..., 3].max() == 0


def test_what_each_step_says() -> None:
    figure = ForwardPass(walk(), VOCAB)
    steps = {step["name"]: step for step in figure.steps}
    assert steps["source_ids"]["rows"] == ["你", "好", "世", "界"]
    assert steps["target_ids"]["rows"] == ["你", "好", "世", "界", "<eos>"]
    cross = "decoder.layers.0.cross_attention"
    assert steps[f"{cross}.K"]["rows"] == ["你", "好", "世", "界"]
    assert steps[f"{cross}.Q"]["rows"] == ["<bos>", "你", "好", "世", "界"]
    assert steps[f"{cross}.weights"]["columns"] == ["你", "好", "世", "界"]
    assert steps[f"{cross}.weights"]["axes"] == ["批", "头", "查询位置", "键位置"]
    assert steps["logits"]["targets"] == [4, 5, 6, 7, 2]
    assert steps["sequence_probability"]["chain"]["given"] == ["<bos>", "你", "好", "世", "界"]
    labels = [box["label"] for box in figure.boxes]
    assert labels[0] == "你 好 世 界"
    assert labels[-1] == "链式法则：P(Y|X)"


def test_without_target_the_walk_ends_with_probabilities() -> None:
    figure = ForwardPass(trace(network(), SOURCE, torch.tensor([[1, 4, 5]])), VOCAB)
    assert figure.steps[-1]["name"] == "probabilities"
    assert figure.steps[-1]["targets"] is None
    assert figure.png().startswith(b"\x89PNG")


def test_shared_traits_are_checked_and_observed() -> None:
    figure = ForwardPass({"前": walk(0), "后": walk(1)}, VOCAB, index=3)
    seen: list[int] = []
    figure.observe(lambda change: seen.append(change["new"]), "index")
    figure.index = figure.step_index("memory")
    assert seen == [figure.index]
    for name, value in (("index", len(figure.steps)), ("head", 2), ("variant", -1)):
        with pytest.raises(traitlets.TraitError, match=f"{name} must be from 0 to"):
            setattr(figure, name, value)
    with pytest.raises(traitlets.TraitError, match="variant must be from 0 to 0"):
        ForwardPass(walk(), VOCAB, variant=1)


def test_errors_name_the_argument() -> None:
    good = walk()
    with pytest.raises(ValueError, match="at least one trace"):
        ForwardPass({}, VOCAB)
    with pytest.raises(TypeError, match=r"must be lmlib\.trace\.Trace, got str"):
        ForwardPass({"a": "b"}, VOCAB)  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="vocab must have the model's 16 tokens, got 3"):
        ForwardPass(good, VOCAB[:3])
    with pytest.raises(TypeError, match="vocab must be the tokens"):
        ForwardPass(good, range(len(VOCAB)))
    with pytest.raises(ValueError, match="same steps and shapes"):
        ForwardPass({"a": good, "b": walk(norm_first=True)}, VOCAB)
    with pytest.raises(ValueError, match="of the same sentence, but source_ids"):
        ForwardPass({"a": good, "b": walk(source=SOURCE + 1)}, VOCAB)
    batch = trace(network(), SOURCE.repeat(2, 1), target=TARGET.repeat(2, 1))
    with pytest.raises(ValueError, match=r"one sentence \(batch 1\), got batch 2"):
        ForwardPass(batch, VOCAB)
    with pytest.raises(ValueError, match="name must be a step"):
        ForwardPass(good, VOCAB).step_index("nowhere")


def test_notebook_output() -> None:
    figure = ForwardPass({"训练前": walk(0), "训练后": walk(1)}, VOCAB)
    assert repr(figure).startswith(
        "ForwardPass(variants='训练前 / 训练后', steps=59, tokens='你 好 世 界'"
    )
    data, metadata = figure._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert metadata["image/png"]["alt"] == figure.alt
    assert "「你 好 世 界」" in figure.alt
    assert figure.png() == figure.png()


# ------------------------------------------------------------------ the reader's own sentence


def shipped(source: str = "你好", target: list[int] | None = None, **edited: Any) -> Trace:
    """A trace of the model hello_world, or of one with another config, which copies."""
    folder = path("models", "hello_world")
    model: Any = load_pretrained(folder)
    ids = load_tokenizer(folder).encode(source)
    if edited:
        model = Transformer(dataclasses.replace(model.config, **edited))
    target = [*ids, model.config.eos_id] if target is None else target
    return trace(model, torch.tensor([ids]), target=torch.tensor([target]))


def test_a_shipped_model_lets_the_reader_type() -> None:
    tokenizer = load_tokenizer(path("models", "hello_world"))
    figure = ForwardPass(shipped(), tokenizer, model="hello_world")
    assert figure.model == "hello_world"
    assert "可以换一句话" in figure.alt
    state = figure.get_state()
    assert len(state["data"]) < 40_000  # what the trace ships, and no weights
    without = ForwardPass(shipped(), tokenizer)
    assert without.model == ""
    assert "换一句话" not in without.alt
    assert without.get_state()["data"] == state["data"]


def test_another_model_than_the_traced_one_is_refused() -> None:
    tokenizer = load_tokenizer(path("models", "hello_world"))
    vocab = list(tokenizer.vocab)
    with pytest.raises(ValueError, match=r"model must be one of hello_world.*, got 'lost'"):
        ForwardPass(shipped(), vocab, model="lost")
    for name, steps in (("poem_gpt", shipped()), ("hello_world", shipped(d_ff=8))):
        with pytest.raises(ValueError, match="model must be the network that is traced, but"):
            ForwardPass(steps, vocab, model=name)
    with pytest.raises(ValueError, match="vocab must be that of the model 'hello_world'"):
        ForwardPass(shipped(), [*vocab[:-2], vocab[-1], vocab[-2]], model="hello_world")


def test_a_trace_that_cannot_be_typed_over_is_refused() -> None:
    tokenizer = load_tokenizer(path("models", "hello_world"))
    folder = path("models", "hello_world")
    model: Any = load_pretrained(folder)
    source = torch.tensor([[4, 5]])
    cases = [
        trace(model, source, torch.tensor([[1, 4]])),  # no target
        trace(model, source, torch.tensor([[1, 5]]), target=torch.tensor([[4, 2]])),
        trace(model, torch.tensor([[4, 0]]), target=torch.tensor([[4, 2]])),
        trace(model, source, target=torch.tensor([[4, 2, 0]])),
    ]
    for steps in cases:
        with pytest.raises(ValueError, match="traces must have a target, shifted right, and no"):
            ForwardPass(steps, tokenizer, model="hello_world")
    with pytest.raises(ValueError, match=r"target of at least 2 tokens, got \[2\]"):
        ForwardPass(shipped(target=[2]), tokenizer, model="hello_world")


def test_the_chain_is_drawn_with_plain_numbers() -> None:
    """matplotlib's own labels of a logarithmic axis are formulas, without a × of the book's."""
    figure = ForwardPass({"前": walk(0), "后": walk(1)}, VOCAB)._draw()
    figure.canvas.draw()
    labels = [label.get_text() for label in figure.axes[-1].get_yticklabels()]
    assert labels
    assert not any("times" in label for label in labels)
