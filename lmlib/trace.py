"""Every intermediate tensor of a forward pass: named, in order, with its formula.

>>> from lmlib.transformer import Transformer, TransformerConfig
>>> model = Transformer(TransformerConfig(100, d_model=16, num_heads=2, d_ff=32))
>>> ids = torch.tensor([[5, 6, 7, 8]])
>>> steps = trace(model, ids, target=ids)
>>> steps["encoder.layers.0.self_attention.scores"].formula
'S = Q Kᵀ / √d_k，d_k = 8'
>>> tuple(steps["encoder.layers.0.self_attention.scores"].tensor.shape)
(1, 2, 4, 4)
"""

from __future__ import annotations

import dataclasses
import difflib
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from lmlib._checks import check_ids
from lmlib._tap import tracing
from lmlib._trace_plan import Node, plan
from lmlib._trace_text import render
from lmlib.transformer import Transformer, TransformerConfig

_INPUT_MODULES = ("positions", "target_positions", "embedding_norm", "target_embedding_norm")


@dataclasses.dataclass(frozen=True, eq=False)
class TraceStep:
    """One tensor of a forward pass.

    Attributes:
        name: e.g. "encoder.layers.0.self_attention.scores".
        tensor: (batch, …), a copy on the CPU, without gradient.
        title: what it is, in Chinese.
        place: where in the network it is, in Chinese.
        symbol: its letter in the formulas, e.g. "Q".
        formula: how it comes from its inputs, in plain Unicode.
        kind: which computation made it, a key of ``lmlib._trace_text.TEXTS``.
        inputs: the names of the steps that it is computed from, in the order of the formula.
        feeds: the names of the steps that it goes into.
    """

    name: str
    tensor: Tensor
    title: str
    place: str
    symbol: str
    formula: str
    kind: str
    inputs: tuple[str, ...]
    feeds: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor; its first dimension is the batch (1 if all sequences share it)."""
        return tuple(self.tensor.shape)

    def __repr__(self) -> str:
        return f"TraceStep({self.name}, shape={self.shape}, {self.formula})"


class Trace(Mapping[str, TraceStep]):
    """The steps of one forward pass by name, in the order in which they were computed.

    Args:
        steps: what it holds, by name and in this order.

    Attributes:
        config: of the model.
        parameters: copies of the model's vectors (the weights and biases of norms, the biases of
            projections) by name. The matrices are left out: they are large, and each one's
            input and output are steps of the trace.
    """

    def __init__(
        self,
        config: TransformerConfig,
        steps: Mapping[str, TraceStep],
        parameters: Mapping[str, Tensor],
    ) -> None:
        self.config = config
        self.parameters = dict(parameters)
        self._steps = dict(steps)

    def __getitem__(self, name: str) -> TraceStep:
        try:
            return self._steps[name]
        except KeyError:
            near = difflib.get_close_matches(str(name), self._steps, n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise KeyError(f"the trace has no step {name!r}{hint}") from None

    def __contains__(self, name: object) -> bool:
        return name in self._steps

    def __iter__(self) -> Iterator[str]:
        return iter(self._steps)

    def __len__(self) -> int:
        return len(self._steps)

    def __repr__(self) -> str:
        return f"Trace({len(self)} steps, {next(iter(self))} … {next(reversed(self._steps))})"

    def table(self, prefix: str = "") -> str:
        """One line a step: name, shape and formula.

        Args:
            prefix: only the steps whose names begin so, e.g. "encoder.".

        Raises:
            ValueError: no name begins so.
        """
        rows = [
            (name, str(step.shape), step.formula)
            for name, step in self.items()
            if name.startswith(prefix)
        ]
        if not rows:
            raise ValueError(f"prefix must begin the name of a step, got {prefix!r}")
        rows.insert(0, ("名称", "形状", "公式"))
        widths = [max(_width(row[column]) for row in rows) for column in (0, 1)]
        return "\n".join(
            f"{_pad(name, widths[0])}  {_pad(shape, widths[1])}  {formula}"
            for name, shape, formula in rows
        )

    def corner(
        self,
        name: str,
        rows: int = 4,
        cols: int = 6,
        *,
        batch: int = 0,
        head: int = 0,
        decimals: int = 4,
    ) -> np.ndarray:
        """The first numbers of a tensor, rounded, for looking at.

        Args:
            name: of the step.
            rows, cols: at most so many.
            batch: which sequence.
            head: which head, where there are heads.
            decimals: digits after the point.

        Returns:
            (≤ rows, ≤ cols) of one matrix, (≤ cols,) of one vector, or a single number.
        """
        tensor = self[name].tensor
        # A batch of one stands for all: positions are the same for every sequence.
        tensor = tensor[batch if tensor.shape[0] > 1 else 0]
        if tensor.dim() == 3:
            tensor = tensor[head]
        if tensor.dim() == 2:
            tensor = tensor[:rows]
        if tensor.dim():
            tensor = tensor[..., :cols]
        if not tensor.is_floating_point():
            return tensor.numpy()
        # + 0.0 turns −0.0 into 0.0.
        return np.round(tensor.double().numpy(), decimals) + 0.0


def trace(
    model: Transformer,
    source: Tensor,
    target_in: Tensor | None = None,
    *,
    target: Tensor | None = None,
) -> Trace:
    """Run the model once and keep every intermediate tensor.

    The model runs as for inference, without dropout and gradients, and is left as it was. The
    logits are those of ``model(source, target_in)`` to rounding: torch's fused kernels, which have
    no steps to show and are not used here, may differ in the last digits.

    Args:
        model: a `Transformer`.
        source: (batch, n_source) token ids.
        target_in: (batch, n) token ids that the decoder reads; ``model.shift_right(target)`` if not
            given.
        target: (batch, n) token ids to predict. With it the trace ends with their probabilities:
            "token_probabilities" and "token_log_probabilities" (batch, n), and, in float64,
            "sequence_log_probability" and "sequence_probability" (batch,). Padding counts as
            certain: probability 1, logarithm 0.

    Returns:
        the steps: "source_ids", "source.embedding", …, "logits", "probabilities", ….

    Raises:
        TypeError: the model is no `Transformer`, or the ids are no integers.
        ValueError: neither target is given, their shapes differ, or the ids do not suit the model.
    """
    if not isinstance(model, Transformer):
        raise TypeError(f"model must be a Transformer, got {type(model).__name__}")
    if target is not None:
        check_ids("target", target, "batch, n", model.config.vocab_size)
        if target_in is None:
            target_in = model.shift_right(target)
        if target.shape != target_in.shape:
            raise ValueError(
                f"target must have the shape of target_in, {tuple(target_in.shape)}, "
                f"got {tuple(target.shape)}"
            )
    elif target_in is None:
        raise ValueError("target_in or target must be given: the decoder needs something to read")

    tensors = _run(model, source, target_in)
    if target is not None:
        # In front of what it is shifted to.
        tensors["target_ids"] = target.detach().to("cpu", copy=True)
    tensors.update(_probabilities(tensors, model.config.pad_id))
    nodes = plan(model.config, tensors)
    vectors = {
        name: parameter.detach().to("cpu", copy=True)
        for name, parameter in model.named_parameters()
        if parameter.dim() == 1
    }
    return Trace(model.config, _steps(nodes, tensors), vectors)


def _run(model: Transformer, source: Tensor, target_in: Tensor) -> dict[str, Tensor]:
    """Every tapped tensor of one forward pass, by its name in the trace."""
    tensors: dict[str, Tensor] = {}

    def keep(name: str, tensor: Tensor) -> None:
        module, _, part = name.rpartition(".")
        if part == "output" and module in _INPUT_MODULES:
            return  # without dropout the same as the step that follows: the sum, or x itself
        if part == "positional":
            # One module may serve both streams, the source first.
            name = "target.positional" if "target_in" in tensors else "source.positional"
            tensor = tensor.unsqueeze(0)  # (n, d_model), the same for the whole batch
        tensors[name] = tensor.detach().to("cpu", copy=True)

    with _evaluating(model), torch.no_grad(), tracing(model, keep):
        model(source, target_in)
    return tensors


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards every module gets its own mode back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _probabilities(tensors: Mapping[str, Tensor], pad_id: int) -> dict[str, Tensor]:
    """The steps that follow the logits."""
    logits = tensors["logits"]
    # A float16 or bfloat16 has too few digits for 10 000 probabilities that sum to one.
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    steps = {"probabilities": logits.softmax(dim=-1)}
    if "target_ids" in tensors:
        target = tensors["target_ids"].long()
        is_padding = target == pad_id
        logs = logits.log_softmax(dim=-1).gather(-1, target.unsqueeze(-1)).squeeze(-1)
        picked = steps["probabilities"].gather(-1, target.unsqueeze(-1)).squeeze(-1)
        steps["token_probabilities"] = picked.masked_fill(is_padding, 1.0)
        steps["token_log_probabilities"] = logs.masked_fill(is_padding, 0.0)
        total = steps["token_log_probabilities"].double().sum(dim=-1)
        steps["sequence_log_probability"] = total
        steps["sequence_probability"] = total.exp()
    return steps


def _steps(nodes: list[Node], tensors: Mapping[str, Tensor]) -> dict[str, TraceStep]:
    """The nodes with their tensors, texts and links in both directions."""
    feeds: dict[str, list[str]] = {node.name: [] for node in nodes}
    for node in nodes:
        for name in node.inputs:
            feeds[name].append(node.name)
    steps: dict[str, TraceStep] = {}
    for node in nodes:
        symbols = tuple(steps[name].symbol for name in node.inputs)
        text = render(node.kind, symbols, node.fields)
        steps[node.name] = TraceStep(
            name=node.name,
            tensor=tensors[node.name],
            title=text.title,
            place=node.place,
            symbol=text.symbol,
            formula=text.formula,
            kind=node.kind,
            inputs=node.inputs,
            feeds=tuple(feeds[node.name]),
        )
    return steps


def _width(text: str) -> int:
    """Columns that the text takes in a terminal or notebook: two for a Chinese character."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _pad(text: str, width: int) -> str:
    return text + " " * (width - _width(text))
