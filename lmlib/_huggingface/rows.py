"""Weight maps: which tensor of lmlib stands for which tensor of transformers.

A map is a list of rows. A row names one tensor of theirs and the tensor of ours that it is, or
those that it holds; ``{i}`` in the names runs over the layers::

    same("layers.{i}.norm_1", "h.{i}.ln_1", "weight", "bias")
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lmlib._weights import listed


class Row(NamedTuple):
    """One tensor of theirs.

    Attributes:
        ours: the names of ours that it holds; a tied weight of ours may stand in several rows.
        theirs: its name.
        split: their tensor → ours, in the order of the names.
        join: ours → their tensor.
    """

    ours: tuple[str, ...]
    theirs: str
    split: Callable[[Tensor], tuple[Tensor, ...]]
    join: Callable[..., Tensor]


def same(ours: str, theirs: str, *parts: str) -> list[Row]:
    """``ours.part`` is ``theirs.part`` as it is, for each part (or the names themselves)."""
    return [
        Row((f"{ours}{end}",), f"{theirs}{end}", lambda x: (x,), lambda x: x)
        for end in _ends(parts)
    ]


def transposed(ours: str, theirs: str) -> list[Row]:
    """A linear map whose weight they keep as (in, out), as GPT-2's `Conv1D` does; and its bias."""
    return [
        Row((f"{ours}.weight",), f"{theirs}.weight", lambda x: (x.T,), lambda x: x.T),
        *same(ours, theirs, "bias"),
    ]


def fused(ours: tuple[str, ...], theirs: str) -> list[Row]:
    """Several linear maps that they keep as one, (in, out · number of maps); and the biases."""
    count = len(ours)
    return [
        Row(
            tuple(f"{name}.weight" for name in ours),
            f"{theirs}.weight",
            lambda x: x.T.chunk(count),
            lambda *xs: torch.cat(xs).T,
        ),
        Row(
            tuple(f"{name}.bias" for name in ours),
            f"{theirs}.bias",
            lambda x: x.chunk(count),
            lambda *xs: torch.cat(xs),
        ),
    ]


def over_layers(count: int, rows: Iterable[Row]) -> list[Row]:
    """The rows once for each layer, ``{i}`` replaced by its number."""
    rows = list(rows)
    return [
        row._replace(
            ours=tuple(name.replace("{i}", str(i)) for name in row.ours),
            theirs=row.theirs.replace("{i}", str(i)),
        )
        for i in range(count)
        for row in rows
    ]


def to_ours(
    rows: Iterable[Row], theirs: Mapping[str, Tensor], ignored: Iterable[str] = ()
) -> dict[str, Tensor]:
    """Their tensors under our names, in memory of their own.

    Raises:
        ValueError: they have a tensor that is in no row, nor ``ignored``.
    """
    rows = list(rows)
    known = {row.theirs for row in rows} | set(ignored)
    if unknown := sorted(set(theirs) - known):
        raise ValueError(
            f"the transformers model has {listed(unknown)}, which lmlib has no room for"
        )
    found: dict[str, Tensor] = {}
    for row in rows:
        if row.theirs in theirs:
            found.update(zip(row.ours, row.split(theirs[row.theirs].detach()), strict=True))
    return {name: tensor.clone().contiguous() for name, tensor in found.items()}


def to_theirs(rows: Iterable[Row], ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors under their names, in memory of their own."""
    return {
        row.theirs: row.join(*(ours[name].detach() for name in row.ours)).clone().contiguous()
        for row in rows
    }


# ------------------------------------------------------------------ configs

# Our activations by their names; several of theirs are one function. The first goes back.
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


def our_activation(config: object, field: str) -> str:
    """Our name of the activation that ``config.field`` names."""
    require(config, field, *ACTIVATIONS)
    return ACTIVATIONS[getattr(config, field)]


def their_activation(activation: str) -> str:
    """Their name of ours."""
    return next(name for name, ours in ACTIVATIONS.items() if ours == activation)


def require(config: object, field: str, *allowed: object, default: object = None) -> None:
    """``config.field`` has one of the values that the other side can represent.

    Args:
        default: what a config without that field means; the first that is allowed if None.

    Raises:
        ValueError: it has not.
    """
    value = getattr(config, field, allowed[0] if default is None else default)
    if value not in allowed:
        raise cannot(config, field, value, allowed)


def cannot(config: object, field: str, value: object, allowed: Iterable[object]) -> ValueError:
    """The error that says which field of whose config stands in the way."""
    name = type(config).__name__
    other = "lmlib" if type(config).__module__.startswith("transformers") else "transformers"
    options = " or ".join(repr(choice) for choice in allowed)
    return ValueError(
        f"{name}.{field}={value!r} cannot be represented in {other}, which takes {options} there"
    )


def special_id(config: object, field: str, vocab_size: int) -> int | None:
    """A special token's id: the first of a list; None if it lies outside the vocabulary."""
    value: Any = getattr(config, field, None)
    if isinstance(value, (list, tuple)):
        value = value[0] if value else None
    return value if value is not None and 0 <= value < vocab_size else None


def _ends(parts: tuple[str, ...]) -> list[str]:
    return [f".{part}" for part in parts] or [""]
