"""The arithmetic of `ForwardPass`: which tensors of a trace must travel, and which follow.

A published page has no kernel, so its JavaScript recomputes every tensor that is a formula of
others; only embeddings, the outputs of matrix products, the logits and the vectors of the norms
travel, as float16. Each step gets an *op*, a small JSON object such as
``{"kind": "scores", "of": [Q, K], "by": 0.125}``. `Numbers` computes ops in numpy exactly as
`static/forward_pass_ops.js` does, and `plan` accepts an op only if it reproduces the traced tensor
in every trace: a network with other parts (rotary positions, SwiGLU …) ships more, and what the
page shows is never wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lmlib.trace import Trace, TraceStep
from lmlib.widgets.base import as_float_array, pack_float16, unpack_float16

Op = dict[str, Any]
Arrays = dict[str, np.ndarray]

#: Largest error of a recomputed tensor, as a share of its largest entry. float16 inputs are off by
#: 2⁻¹¹ each, and a score adds up d_head products of them.
TOLERANCE = 0.01


# ---------------------------------------------------------------- formulas


def softmax(x: np.ndarray) -> np.ndarray:
    """Over the last axis; a row of −∞ alone gives zeros."""
    top = x.max(axis=-1, keepdims=True)
    powers = np.exp(x - np.where(np.isfinite(top), top, 0.0))
    total = powers.sum(axis=-1, keepdims=True)
    return np.divide(powers, total, out=np.zeros_like(powers), where=total > 0)


def _sinusoid(op: Op, shape: tuple[int, ...], vectors: Arrays) -> np.ndarray:
    """The positions of "Attention Is All You Need", §3.5."""
    column = np.arange(shape[-1])
    angle = np.arange(shape[-2])[:, None] / op["base"] ** ((column - column % 2) / shape[-1])
    return np.where(column % 2, np.cos(angle), np.sin(angle))


def _norm(op: Op, shape: tuple[int, ...], vectors: Arrays, x: np.ndarray) -> np.ndarray:
    """LayerNorm if centred, otherwise RMSNorm."""
    centred = x - x.mean(axis=-1, keepdims=True) if op["centred"] else x
    y = centred / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + op["eps"])
    y = y * vectors[op["weight"]]
    return y + vectors[op["bias"]] if op["bias"] else y


def _gather(op: Op, x: np.ndarray) -> np.ndarray:
    """Entry ``op["ids"][i]`` of row i."""
    return np.take_along_axis(x.reshape(-1, x.shape[-1]), np.array(op["ids"])[:, None], axis=-1)


def _log_sum_exp(x: np.ndarray) -> np.ndarray:
    top = x.max(axis=-1, keepdims=True)
    return top + np.log(np.exp(x - top).sum(axis=-1, keepdims=True))


def _share(few: np.ndarray, heads: int) -> np.ndarray:
    """(batch, H_kv, n, d) → (batch, heads, n, d): neighbouring query heads share one."""
    return np.repeat(few, heads // few.shape[1], axis=1)


#: One formula a kind: (op, shape, vectors, *inputs) → values. The twin of FP_OPS in JavaScript.
FORMULAS: dict[str, Callable[..., Any]] = {
    "copy": lambda op, shape, vectors, x: x,
    "scale": lambda op, shape, vectors, x: x * op["by"],
    "add": lambda op, shape, vectors, x, y: x + y,
    "relu": lambda op, shape, vectors, x: np.maximum(x, 0.0),
    "sinusoid": _sinusoid,
    "scores": lambda op, shape, vectors, q, k: (
        q @ _share(k, q.shape[1]).swapaxes(-1, -2) * op["by"]
    ),
    "mask": lambda op, shape, vectors, x: np.where(np.array(op["allowed"], bool), x, -np.inf),
    "softmax": lambda op, shape, vectors, x: softmax(x),
    "mix": lambda op, shape, vectors, w, v: w @ _share(v, w.shape[1]),
    "concat": lambda op, shape, vectors, x: x.swapaxes(1, 2),
    "norm": _norm,
    "gather": lambda op, shape, vectors, x: _gather(op, x),
    "log_gather": lambda op, shape, vectors, x: _gather(op, x - _log_sum_exp(x)),
    "sum": lambda op, shape, vectors, x: x.sum(),
    "product": lambda op, shape, vectors, x: x.prod(),
}


@dataclass
class Numbers:
    """Every tensor of one variant, from its shipped arrays (decoded from float16)."""

    ops: Mapping[str, Op]
    shapes: Mapping[str, tuple[int, ...]]
    shipped: Arrays
    _kept: Arrays = field(default_factory=dict)

    def tensor(self, name: str) -> np.ndarray:
        """float64 values of the step, computed once."""
        if name not in self._kept:
            self._kept[name] = self.compute(name, self.ops[name])
        return self._kept[name]

    def compute(self, name: str, op: Op) -> np.ndarray:
        """What `op` would make of the step."""
        shape = self.shapes[name]
        if op["kind"] == "shipped":
            return self.shipped[name]
        if op["kind"] == "literal":
            return np.array(op["values"], dtype=np.float64).reshape(shape)
        inputs = [self.tensor(other) for other in op["of"]]
        values = FORMULAS[op["kind"]](op, shape, self.shipped, *inputs)
        return np.asarray(values, dtype=np.float64).reshape(shape)


# ---------------------------------------------------------------- from a trace to ops


def _propose(step: TraceStep, trace: Trace) -> Op | None:
    """The formula that a step of this kind should follow, or None if only the model knows."""
    config = trace.config
    of = list(step.inputs)
    simple = {"relu": "relu", "weights": "softmax", "probabilities": "softmax", "heads": "mix"} | {
        "concat": "concat",
        "memory": "copy",
        "source_alone": "copy",
        "target_alone": "copy",
        "residual": "add",
        "source_sum": "add",
        "target_sum": "add",
        "biased_scores": "add",
        "sequence_log_probability": "sum",
        "sequence_probability": "product",
    }
    match step.kind:
        case kind if kind in simple:
            return {"kind": simple[kind], "of": of}
        case "scaled":
            return {"kind": "scale", "of": of, "by": math.sqrt(config.d_model)}
        case "sinusoidal":
            return {"kind": "sinusoid", "of": [], "base": 10000.0}
        case "scores":
            return {"kind": "scores", "of": of, "by": 1 / math.sqrt(config.d_head)}
        case "masked_scores":
            seen = np.isfinite(_values(step))[0, 0].astype(int)  # the same for every head
            return {"kind": "mask", "of": of, "allowed": seen.tolist()}
        case "layernorm" | "rmsnorm":
            path = step.name.removesuffix(".output")
            bias = f"{path}.bias"
            return {
                "kind": "norm",
                "of": of,
                "weight": f"{path}.weight",
                "bias": bias if bias in trace.parameters else None,
                "eps": config.norm_eps,
                "centred": step.kind == "layernorm",
            }
        case "token_probabilities" | "token_log_probabilities":
            name, ids = of
            kind = "gather" if step.kind == "token_probabilities" else "log_gather"
            return {"kind": kind, "of": [name], "ids": _values(trace[ids]).ravel().tolist()}
    return None


def _values(step: TraceStep) -> np.ndarray:
    tensor = step.tensor
    return (tensor.double() if tensor.is_floating_point() else tensor).numpy()


def _agrees(made: np.ndarray, true: np.ndarray) -> bool:
    blocked = np.isneginf(true)
    if not np.array_equal(np.isneginf(made), blocked):
        return False
    size = np.abs(true[~blocked]).max(initial=0.0)
    return bool(np.abs(made[~blocked] - true[~blocked]).max(initial=0.0) <= TOLERANCE * size)


# ---------------------------------------------------------------- shipping


@dataclass
class Plan:
    """What travels.

    `tensors` maps a name to ``{"at", "shape", "marks"}``: where its float16 numbers start within
    the `stride` of a variant, and, for the logits alone, from which mark each row is measured, as
    float32 for each variant. The mark is the logit of the token to predict: float16 is finest
    near 0, so no other token changes places with it, and its probability keeps its digits.
    """

    ops: dict[str, Op]
    shapes: dict[str, tuple[int, ...]]
    tensors: dict[str, dict[str, Any]]
    stride: int
    data: bytes


def plan(traces: list[Trace]) -> Plan:
    """Decide for each step of the traces, which have the same steps, whether it must travel."""
    first = traces[0]
    shapes = {name: step.shape for name, step in first.items()}
    ops: dict[str, Op] = {}
    numbers = [Numbers(ops, shapes, _parameters(trace)) for trace in traces]
    marks: dict[str, list[list[float]]] = {}
    for name, step in first.items():
        if not step.tensor.is_floating_point():
            ops[name] = {"kind": "literal", "values": step.tensor.ravel().tolist()}
            continue
        op = _propose(step, first)
        if op is not None and all(
            _agrees(own.compute(name, op), _values(trace[name]))
            for own, trace in zip(numbers, traces, strict=True)
        ):
            ops[name] = op
            continue
        ops[name] = {"kind": "shipped"}
        for own, trace in zip(numbers, traces, strict=True):
            values = _values(trace[name])
            if step.kind == "logits":
                mark = _marks(values, trace)
                marks.setdefault(name, []).append(mark.ravel().tolist())
                own.shipped[name] = mark + _rounded(name, values - mark)
            else:
                own.shipped[name] = _rounded(name, values)
    return _pack(ops, shapes, marks, [own.shipped for own in numbers])


def _marks(logits: np.ndarray, trace: Trace) -> np.ndarray:
    """(1, n, 1): the logit of each token to predict; the largest one where none is known."""
    if "target_ids" not in trace:
        return logits.max(axis=-1, keepdims=True)
    return np.take_along_axis(logits, _values(trace["target_ids"])[..., None], axis=-1)


def _parameters(trace: Trace) -> Arrays:
    """The vectors of the norms, as float16 tells them."""
    norms = {
        step.name.removesuffix("output")
        for step in trace.values()
        if step.kind in ("layernorm", "rmsnorm")
    }
    return {
        name: _rounded(name, vector.double().numpy())
        for name, vector in trace.parameters.items()
        if name.rpartition(".")[0] + "." in norms
    }


def _rounded(name: str, values: np.ndarray) -> np.ndarray:
    """To float16 and back; −∞ stays."""
    blocked = np.isneginf(values)
    as_float_array(
        name, np.where(blocked, 0.0, values), ndim=values.ndim
    )  # refuses what is too large
    return unpack_float16(pack_float16(values), values.shape)


def _pack(
    ops: dict[str, Op],
    shapes: dict[str, tuple[int, ...]],
    marks: dict[str, list[list[float]]],
    shipped: list[Arrays],
) -> Plan:
    tensors: dict[str, dict[str, Any]] = {}
    at = 0
    for name, values in shipped[0].items():
        tensors[name] = {"at": at, "shape": list(values.shape)}
        if name in marks:
            tensors[name]["marks"] = marks[name]
        at += values.size
    data = b"".join(
        pack_float16(
            arrays[name] - np.array(marks[name][variant]).reshape(*arrays[name].shape[:-1], 1)
            if name in marks
            else arrays[name]
        )
        for variant, arrays in enumerate(shipped)
        for name in tensors
    )
    return Plan(ops, shapes, tensors, at, data)


def unpack(
    tensors: Mapping[str, Mapping[str, Any]], stride: int, data: bytes, variant: int
) -> Arrays:
    """The shipped arrays of one variant: the inverse of packing, as the JavaScript does it."""
    arrays: Arrays = {}
    for name, entry in tensors.items():
        start = 2 * (variant * stride + entry["at"])
        size = 2 * math.prod(entry["shape"])
        values = unpack_float16(data[start : start + size], entry["shape"])
        if "marks" in entry:
            values = values + np.array(entry["marks"][variant]).reshape(*entry["shape"][:-1], 1)
        arrays[name] = values
    return arrays
