"""Weights by name: what a model's file must hold, and a model filled with what one holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn


def own_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name; one that is shared comes under its first name."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            found[name] = tensor
    return found


@torch.no_grad()
def fill(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Put ``tensors`` in place of the model's own; each keeps its dtype and device.

    Args:
        model: its names and shapes must be those of ``tensors``; a name of a tied weight that
            `own_tensors` leaves out may come too and is not looked at.
        source: where the tensors come from, for the message.

    Raises:
        ValueError: a tensor is missing, has another shape, or belongs to nothing.
    """
    own = own_tensors(model)
    if missing := [name for name in own if name not in tensors]:
        raise ValueError(f"{source} lacks {listed(missing)}, which the model has")
    if unknown := sorted(set(tensors) - set(model.state_dict())):
        raise ValueError(f"{source} has {listed(unknown)}, which the model lacks")
    for name, tensor in own.items():
        if tensors[name].shape != tensor.shape:
            raise ValueError(
                f"{name} in {source} has shape {tuple(tensors[name].shape)}, "
                f"but the model's config makes it {tuple(tensor.shape)}"
            )
    for name, tensor in own.items():
        tensor.data = tensors[name]


def listed(names: Iterable[str], at_most: int = 3) -> str:
    """The first names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return ", ".join(names[:at_most]) + more


def built(make: Callable[[], nn.Module]) -> nn.Module:
    """``make()`` in evaluation mode, torch's random numbers left where they were."""
    with torch.random.fork_rng(devices=[]):
        return make().eval()
