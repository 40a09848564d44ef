"""trace: complete, in order, linked, and leaving the model alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from small_traces import VARIANTS, batch, every_case, make
from torch import Tensor
from torch_reference import randomize

from lmlib import _trace_text
from lmlib._tap import tracing
from lmlib.trace import Trace, trace
from lmlib.transformer import Transformer, TransformerConfig

# ------------------------------------------------------------------ names, order, links


@every_case
def test_every_tensor_is_there_once_in_order(options: dict[str, Any], padded: bool) -> None:
    model, (source, target) = make(**options), batch(padded)
    tapped: dict[str, Tensor] = {}
    with torch.no_grad(), tracing(model.eval(), tapped.__setitem__):
        model(source, model.shift_right(target))
    steps = trace(model, source, target=target)

    # Tensors of the model that have no step: one module's two calls, and masks that hide nothing.
    left_out = set(tapped) - set(steps)
    inner = {
        f"{prefix}{name}"
        for prefix in ("", "target_")
        for name in ("positions.positional", "positions.output", "embedding_norm.output")
    }
    assert {name for name in left_out if not name.endswith(".masked_scores")} <= inner
    for name in left_out - inner:
        assert torch.equal(tapped[name], tapped[name.replace("masked_scores", "scores")])
    # … and the steps that are none of the model's.
    added = [name for name in steps if name not in tapped]
    assert [name for name in added if not name.endswith(".positional")] == [
        "target_ids",
        "probabilities",
        "token_probabilities",
        "token_log_probabilities",
        "sequence_log_probability",
        "sequence_probability",
    ]
    for name in set(steps) & set(tapped):
        torch.testing.assert_close(steps[name].tensor, tapped[name], rtol=0, atol=0)

    # In the order of computation (taps within one attention come in one of their own).
    modules = [name.rpartition(".")[0] for name in steps if name in tapped and "." in name]
    expected = [name.rpartition(".")[0] for name in tapped if name in steps and "." in name]
    assert modules == expected


@every_case
def test_links_lead_somewhere_and_back(options: dict[str, Any], padded: bool) -> None:
    source, target = batch(padded)
    steps = trace(make(**options), source, target=target)
    order = {name: index for index, name in enumerate(steps)}
    for name, step in steps.items():
        assert step.name == name
        assert len(set(step.inputs)) == len(step.inputs)
        for other in step.inputs:
            assert order[other] < order[name], f"{name} comes before its input {other}"
            assert name in steps[other].feeds
        for other in step.feeds:
            assert name in steps[other].inputs
    beginnings = {name for name, step in steps.items() if not step.inputs}
    ends = {name for name, step in steps.items() if not step.feeds}
    assert {name for name in beginnings if not name.endswith(("positional", "position_bias"))} == {
        "source_ids",
        "target_ids",
    }
    assert ends == {"sequence_log_probability", "sequence_probability"}


@every_case
def test_every_step_has_its_words(options: dict[str, Any], padded: bool) -> None:
    source, target = batch(padded)
    steps = trace(make(**options), source, target=target)
    for step in steps.values():
        assert step.title
        assert step.place
        assert step.symbol
        assert not set("{}«»") & set(step.formula + step.symbol), step.formula
        left, equals, right = step.formula.partition(" = ")
        assert equals, step.formula
        # The formula defines this step's letter …
        assert left.split("[")[0] in (step.symbol, f"{step.symbol}ᵢ", "ln pᵢ"), step.formula
        # … from the letters of its inputs.
        if not step.name.startswith(("token_", "sequence_", "target_in")) and step.kind != "concat":
            for name in step.inputs:
                assert steps[name].symbol in right, step.formula


def test_no_text_is_left_unused() -> None:
    kinds = {"target_in"}  # the one kind of a trace without a target
    for options in VARIANTS:
        for padded in (False, True):
            source, target = batch(padded)
            kinds |= {s.kind for s in trace(make(**options), source, target=target).values()}
    assert kinds == set(_trace_text.TEXTS)


def test_the_worked_example() -> None:
    config = TransformerConfig(
        10_000, d_model=512, num_heads=8, d_ff=2048, num_encoder_layers=1, num_decoder_layers=1
    )
    torch.manual_seed(0)
    model = Transformer(config)
    ids = torch.tensor([[191, 241, 348, 471]])
    steps = trace(model, ids, target=ids)
    attention = {
        "Q": (1, 8, 4, 64),
        "K": (1, 8, 4, 64),
        "V": (1, 8, 4, 64),
        "scores": (1, 8, 4, 4),
        "weights": (1, 8, 4, 4),
        "heads": (1, 8, 4, 64),
        "concat": (1, 4, 512),
        "output": (1, 4, 512),
    }
    d_model = (1, 4, 512)
    feed_forward = {"pre_activation": (1, 4, 2048), "hidden": (1, 4, 2048), "output": d_model}
    shapes: dict[str, tuple[int, ...]] = {"source_ids": (1, 4)}

    def add(path: str, parts: dict[str, tuple[int, ...]]) -> None:
        shapes.update({f"{path}.{name}": shape for name, shape in parts.items()})

    embed = {"embedding": d_model, "scaled": d_model, "positional": d_model, "x": d_model}
    masked = dict(list(attention.items())[:4]) | {"masked_scores": (1, 8, 4, 4)} | attention
    add("source", embed)
    add("encoder.layers.0.self_attention", attention)
    add("encoder.layers.0", {"residual_1": d_model, "norm_1.output": d_model})
    add("encoder.layers.0.feed_forward", feed_forward)
    add("encoder.layers.0", {"residual_2": d_model, "norm_2.output": d_model})
    shapes |= {"memory": d_model, "target_ids": (1, 4), "target_in": (1, 4)}
    add("target", embed)
    add("decoder.layers.0.self_attention", masked)
    add("decoder.layers.0", {"residual_1": d_model, "norm_1.output": d_model})
    add("decoder.layers.0.cross_attention", attention)
    add("decoder.layers.0", {"residual_2": d_model, "norm_2.output": d_model})
    add("decoder.layers.0.feed_forward", feed_forward)
    add("decoder.layers.0", {"residual_3": d_model, "norm_3.output": d_model})
    shapes |= {
        "logits": (1, 4, 10_000),
        "probabilities": (1, 4, 10_000),
        "token_probabilities": (1, 4),
        "token_log_probabilities": (1, 4),
        "sequence_log_probability": (1,),
        "sequence_probability": (1,),
    }
    assert [(name, step.shape) for name, step in steps.items()] == list(shapes.items())

    formulas = {
        "source.embedding": "E = W_e[s]",
        "source.x": "X = E′ + PE",
        "encoder.layers.0.self_attention.Q": "Q = X W_Q + b_Q，拆成 8 个头",
        "encoder.layers.0.self_attention.scores": "S = Q Kᵀ / √d_k，d_k = 64",
        "encoder.layers.0.residual_1": "R₁ = X + Z",
        "encoder.layers.0.norm_1.output": "N₁ = γ ⊙ (R₁ − μ) / √(σ² + ε) + β",
        "encoder.layers.0.feed_forward.hidden": "H = max(0, U)",
        "memory": "M = N₂",
        "decoder.layers.0.self_attention.masked_scores": "S′[i, j] = S[i, j]（j ≤ i），其余是 −∞",
        "decoder.layers.0.cross_attention.K": "K = M W_K + b_K，拆成 8 个头",
        "logits": "L = N₃ W_eᵀ",
    }
    for name, formula in formulas.items():
        assert steps[name].formula == formula
    scores = steps["encoder.layers.0.self_attention.scores"]
    assert (scores.title, scores.place) == ("分数", "编码器第 1 层 · 自注意力")
    assert scores.feeds == ("encoder.layers.0.self_attention.weights",)
    assert steps["memory"].feeds == tuple(f"decoder.layers.0.cross_attention.{x}" for x in "KV")


def test_the_formulas_of_todays_parts() -> None:
    source, target = batch(True)
    steps = trace(make(**VARIANTS[-1]), source, target=target)
    attention, ffn = "decoder.layers.0.self_attention", "decoder.layers.0.feed_forward"
    shared = "每 4 个查询头共用一个键值头"
    formulas = {
        "target.x": "Y = E′",
        "decoder.layers.0.norm_1.output": "N₁ = γ ⊙ Y / √(mean(Y²) + ε)",
        f"{attention}.Q": "Q = N₁ W_Q，拆成 4 个头",
        f"{attention}.K": "K = N₁ W_K，拆成 1 个头",
        f"{attention}.K_rotated": "K̃[pos] = K[pos] 每两列转过 pos · θᵢ",
        f"{attention}.scores": f"S = Q̃ K̃ᵀ / √d_k，d_k = 4，{shared}",
        f"{attention}.masked_scores": "S′[i, j] = S[i, j]（j ≤ i，而且不是填充），其余是 −∞",
        f"{attention}.heads": f"head = A V，{shared}",
        f"{attention}.output": "Z = C W_O",
        "decoder.layers.0.residual_1": "R₁ = Y + Z",
        f"{ffn}.gate": "G = N₃ W_gate",
        f"{ffn}.hidden": "H = SiLU(G) ⊙ U，SiLU(g) = g · σ(g)",
        "decoder.layers.0.residual_3": "R₃ = R₂ + F",
        "decoder.norm.output": "N = γ ⊙ R₃ / √(mean(R₃²) + ε)",
        "logits": "L = N W_eᵀ",
    }
    for name, formula in formulas.items():
        assert steps[name].formula == formula


# ------------------------------------------------------------------ side effects


def test_the_model_is_left_as_it_was() -> None:
    model, (source, target) = make().train(), batch(False)
    model.encoder.eval()
    modes = [module.training for module in model.modules()]
    first = trace(model, source, target=target)
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    second = trace(model, source, target=target)
    for name in first:
        assert torch.equal(first[name].tensor, second[name].tensor), "dropout was on"


def test_the_modes_come_back_after_an_error() -> None:
    model = make().train()
    with pytest.raises(ValueError, match="source must hold ids"):
        trace(model, torch.tensor([[99]]), torch.tensor([[1]]))
    assert all(module.training for module in model.modules())


def test_a_trace_does_not_change_with_the_model() -> None:
    model, (source, target) = make(positions="learned"), batch(False)
    steps = trace(model, source, target=target)
    before = {name: step.tensor.clone() for name, step in steps.items()}
    vectors = {name: vector.clone() for name, vector in steps.parameters.items()}
    randomize(model, torch.Generator().manual_seed(9))
    source.fill_(7)
    target.fill_(7)
    for name, tensor in before.items():
        assert torch.equal(steps[name].tensor, tensor), name
        assert not steps[name].tensor.requires_grad
    assert all(torch.equal(steps.parameters[name], vectors[name]) for name in vectors)


# ------------------------------------------------------------------ arguments


def test_target_in_is_the_shifted_target_unless_given() -> None:
    model, (source, target) = make(), batch(False)
    shifted = trace(model, source, target=target)
    assert torch.equal(shifted["target_in"].tensor, model.shift_right(target))
    assert shifted["target_in"].inputs == ("target_ids",)
    alone = trace(model, source, target)
    assert torch.equal(alone["target_in"].tensor, target)
    assert list(alone)[-2:] == ["logits", "probabilities"]
    assert "target_ids" not in alone
    assert alone["target_in"].kind == "target_in"
    leaking = trace(model, source, target, target=target)
    assert torch.equal(leaking["logits"].tensor, alone["logits"].tensor)
    assert leaking["target_in"].inputs == ()
    assert "target_in" not in leaking["target_ids"].feeds


def test_bad_arguments() -> None:
    model, (source, target) = make(), batch(False)
    with pytest.raises(TypeError, match="model must be a Transformer, got Linear"):
        trace(torch.nn.Linear(2, 2), source, target)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="target_in or target must be given"):
        trace(model, source)
    with pytest.raises(ValueError, match=r"the shape of target_in, \(2, 3\), got \(2, 4\)"):
        trace(model, source, target[:, :3], target=target)
    with pytest.raises(ValueError, match="target must hold ids from 0 to 29, got 30"):
        trace(model, source, target=torch.full((2, 4), 30))


# ------------------------------------------------------------------ looking at it


@pytest.fixture(scope="module")
def small() -> Trace:
    source, target = batch(False)
    return trace(make(), source, target=target)


def test_table(small: Trace) -> None:
    lines = small.table().split("\n")
    assert len(lines) == len(small) + 1
    assert lines[0].split() == ["名称", "形状", "公式"]
    assert lines[1].split() == ["source_ids", "(2,", "5)", "s", "=", "每个字在词表里的编号"]
    # Columns stand under each other: a Chinese character is two columns wide.
    starts = {line.index("(") for line in lines[1:]}
    assert starts == {lines[0].index("形状") + 2}
    encoder = small.table("encoder.").split("\n")[1:]
    assert [line.split()[0] for line in encoder] == [n for n in small if n.startswith("encoder.")]
    with pytest.raises(ValueError, match="prefix must begin the name of a step, got 'bert'"):
        small.table("bert")


def test_corner(small: Trace) -> None:
    weights = small["decoder.layers.0.self_attention.weights"].tensor
    corner = small.corner("decoder.layers.0.self_attention.weights", 3, 2, batch=1, head=2)
    assert isinstance(corner, np.ndarray)
    np.testing.assert_array_equal(corner, weights[1, 2, :3, :2].numpy().round(4))
    assert small.corner("source.x").shape == (4, 6)
    assert small.corner("source_ids", cols=3).tolist() == small["source_ids"].tensor[0, :3].tolist()
    assert small.corner("source.positional", 2, 2, batch=1).tolist() == [[0, 1], [0.8415, 0.5403]]
    assert small.corner("sequence_probability").shape == ()
    digits = small.corner("token_probabilities", decimals=1)
    np.testing.assert_array_equal(digits, digits.round(1))
    assert "-0.0" not in str(np.array(small.corner("decoder.layers.0.feed_forward.hidden")))
    masked = small.corner("decoder.layers.0.self_attention.masked_scores")
    assert np.isneginf(masked[0, 1])


def test_lookup(small: Trace) -> None:
    with pytest.raises(KeyError, match=r"did you mean .*norm_1\.output"):
        small["encoder.layers.0.norm_1"]
    with pytest.raises(KeyError, match="the trace has no step 'xyz'"):
        small["xyz"]
    assert "memory" in small
    assert repr(small) == f"Trace({len(small)} steps, source_ids … sequence_probability)"
    assert repr(small["memory"]) == "TraceStep(memory, shape=(2, 5, 16), M = N₂)"
    assert set(small.parameters) == {name for name, p in make().named_parameters() if p.dim() == 1}
