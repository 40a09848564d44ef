"""trace: every formula holds for the numbers beside it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_models import PAD
from small_traces import batch, every_case, make
from torch import Tensor

from lmlib._tap import tracing
from lmlib.trace import Trace, TraceStep, trace
from lmlib.transformer import Transformer


def expected(step: TraceStep, steps: Trace, model: Transformer) -> Tensor:
    """The step computed anew from its inputs, the parameters and the formula."""
    config = model.config
    inputs = [steps[name].tensor for name in step.inputs]
    path = step.name.rpartition(".")[0]
    matrix = {"Q": "W_Q", "K": "W_K", "V": "W_V", "attention_output": "W_O",
              "pre_activation": "W_1", "ffn_output": "W_2",
              "gate": "W_gate", "up": "W_up", "swiglu_output": "W_down"}  # fmt: skip

    def linear(x: Tensor) -> Tensor:
        layer = model.get_submodule(f"{path}.{matrix[step.kind]}")
        y = torch.einsum("bni,oi->bno", x, layer.weight)
        return y if layer.bias is None else y + layer.bias

    def split(x: Tensor) -> Tensor:
        return torch.stack(x.split(config.d_head, dim=-1), dim=1)

    def all_heads(x: Tensor) -> Tensor:
        return torch.stack([x[:, h * x.shape[1] // config.num_heads]
                            for h in range(config.num_heads)], dim=1)  # fmt: skip

    def rotated(x: Tensor) -> Tensor:
        n, half = x.shape[-2], config.d_head // 2
        theta = 10000 ** (-torch.arange(half, dtype=torch.float64) / half)
        turn = torch.polar(torch.ones(n, half).double(), torch.arange(n)[:, None] * theta)
        z = torch.complex(x[..., :half], x[..., half:]) * turn
        return torch.cat([z.real, z.imag], dim=-1)

    def masked(x: Tensor) -> Tensor:
        side = "target_in" if step.name.startswith("decoder") and "self" in path else "source_ids"
        keep = (steps[side].tensor != PAD)[:, None, None, :]
        if side == "target_in" and config.bos_id == PAD:
            keep[..., 0] = True
        if side == "target_in":
            keep = keep & torch.ones(x.shape[-2:], dtype=torch.bool).tril()
        return torch.where(keep, x, -math.inf)

    def softmax(x: Tensor) -> Tensor:
        powers = (x - x.amax(dim=-1, keepdim=True)).exp()
        return powers / powers.sum(dim=-1, keepdim=True)

    def norm(x: Tensor) -> Tensor:
        stem = {"source": "embedding_norm", "target": "target_embedding_norm"}.get(path, path)
        weight = steps.parameters[f"{stem}.weight"]
        if config.norm == "rmsnorm":
            return x / (x.pow(2).mean(-1, keepdim=True) + config.norm_eps).sqrt() * weight
        y = (
            (x - x.mean(-1, keepdim=True))
            / (x.var(-1, correction=0, keepdim=True) + config.norm_eps).sqrt()
            * weight
        )
        return y + steps.parameters[f"{stem}.bias"] if config.bias else y

    def sinusoids() -> Tensor:
        n, d = step.shape[1:]
        rows = [[(math.cos if c % 2 else math.sin)(p / 10000 ** ((c - c % 2) / d))
                 for c in range(d)] for p in range(n)]  # fmt: skip
        return torch.tensor([rows], dtype=torch.float64)

    def halves() -> Tensor:
        table = sinusoids()
        return torch.cat([table[..., 0::2], table[..., 1::2]], dim=-1)

    def learned() -> Tensor:
        tied = config.tie_positions or step.name.startswith("source")
        return (model.positions if tied else model.target_positions).weight[: step.shape[1]][None]

    def logits(x: Tensor) -> Tensor:
        y = torch.einsum("bni,vi->bnv", x, model.head.weight)
        return y if model.head.bias is None else y + model.head.bias

    def table() -> Tensor:
        tied = config.tie_embeddings or step.name.startswith("source")
        return (model.embedding if tied else model.target_embedding).weight

    def picked(x: Tensor, of_padding: float) -> Tensor:
        rows = [
            [x[b, i, token].item() if token != PAD else of_padding for i, token in enumerate(row)]
            for b, row in enumerate(steps["target_ids"].tensor.tolist())
        ]
        return torch.tensor(rows, dtype=x.dtype)

    rules: dict[str, Callable[..., Tensor]] = {
        "shift_right": lambda x: torch.cat(
            [torch.full_like(x[:, :1], config.bos_id), x[:, :-1]], dim=1
        ),
        "embedding": lambda ids: table()[ids],
        "scaled": lambda x: x * config.d_model**0.5,
        "sinusoidal": sinusoids,
        "sinusoidal_halves": halves,
        "learned": learned,
        "Q": lambda x: split(linear(x)),
        "K": lambda x: split(linear(x)),
        "V": lambda x: split(linear(x)),
        "Q_rotated": rotated,
        "K_rotated": rotated,
        "position_bias": lambda: model.get_submodule(f"{path}.position_bias")(*step.shape[2:]),
        "scores": lambda q, k: (
            torch.einsum("bhid,bhjd->bhij", q, all_heads(k)) / config.d_head**0.5
        ),
        "biased_scores": torch.add,
        "masked_scores": masked,
        "masked_biased_scores": lambda x, bias: masked(x + bias),
        "weights": softmax,
        "heads": lambda a, v: torch.einsum("bhij,bhjd->bhid", a, all_heads(v)),
        "concat": lambda x: torch.cat(list(x.unbind(dim=1)), dim=-1),
        "relu": lambda x: x.clamp(min=0),
        "gelu": lambda x: x * (1 + torch.erf(x / 2**0.5)) / 2,
        "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
        "silu": lambda x: x / (1 + (-x).exp()),
        "swiglu": lambda g, u: g / (1 + (-g).exp()) * u,
        "memory": lambda x: x,
        "logits": logits,
        "probabilities": softmax,
        "token_probabilities": lambda p, _: picked(p, 1.0),
        "token_log_probabilities": lambda x, _: picked(softmax(x).log(), 0.0),
        "sequence_log_probability": lambda x: x.sum(dim=-1),
        "sequence_probability": lambda x: x.prod(dim=-1),
    }
    rules |= dict.fromkeys(("source_sum", "target_sum", "embedding_sum", "residual"), torch.add)
    rules |= dict.fromkeys(("source_alone", "target_alone", "embedding_alone"), lambda x: x)
    rules |= {
        f"{stream}{kind}": norm
        for stream in ("", "source_", "target_")
        for kind in ("layernorm", "rmsnorm")
    }
    rules |= dict.fromkeys(matrix.keys() - set("QKV"), linear)
    return rules[step.kind](*inputs)


@every_case
@torch.no_grad()
def test_every_formula_holds(options: dict[str, Any], padded: bool) -> None:
    model, (source, target) = make(**options), batch(padded)
    steps = trace(model, source, target=target)
    given = {"source_ids": source, "target_ids": target}
    for name, step in steps.items():
        right = given[name] if name in given else expected(step, steps, model)
        torch.testing.assert_close(
            step.tensor, right, msg=lambda text, name=name: f"{name}: {text}"
        )


@every_case
def test_the_logits_are_the_models(options: dict[str, Any], padded: bool) -> None:
    model, (source, target) = make(**options).eval(), batch(padded)
    target_in = model.shift_right(target)
    logits = trace(model, source, target_in)["logits"].tensor
    with tracing(None, lambda name, tensor: None):
        assert torch.equal(logits, model(source, target_in)), "a trace is a run like any other"
    torch.testing.assert_close(logits, model(source, target_in))


@pytest.mark.parametrize("padded", [False, True])
def test_the_probability_is_the_likelihood(padded: bool) -> None:
    model, (source, target) = make().eval(), batch(padded)
    steps = trace(model, source, target=target)
    loss = torch.nn.functional.cross_entropy(
        model(source, model.shift_right(target)).transpose(1, 2),
        target,
        reduction="none",
        ignore_index=PAD,
    ).sum(dim=1)
    torch.testing.assert_close(steps["sequence_log_probability"].tensor, -loss)
    torch.testing.assert_close(steps["sequence_probability"].tensor, (-loss).exp())


def test_a_long_sequence_has_a_logarithm_where_its_probability_is_zero() -> None:
    model = make().float()
    ids = torch.full((1, 500), 5)
    steps = trace(model, ids, target=ids)
    assert steps["sequence_probability"].tensor.dtype == torch.float64
    assert steps["sequence_log_probability"].tensor.item() < -500
    assert steps["sequence_log_probability"].tensor.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_other_dtypes(dtype: torch.dtype) -> None:
    source, target = batch(True)
    steps = trace(make().to(dtype), source, target=target)
    assert steps["memory"].tensor.dtype == dtype
    assert steps["probabilities"].tensor.dtype == torch.float32
    sums = steps["probabilities"].tensor.sum(-1)
    torch.testing.assert_close(sums, torch.ones(2, 4))
