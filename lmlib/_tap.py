"""Taps: named points of a forward pass where a tracer may look, and may reach in.

Every module of lmlib passes its intermediate tensors through :func:`tap`. Without a tracer
that is one test of an empty list. Inside :func:`tracing` the tracer is handed each tensor
under its full dotted name and may return another one in its place, so one mechanism serves
both for looking (``lmlib.trace``) and for changing (activation patching)::

    seen = {}
    with tracing(model, lambda name, tensor: seen.update({name: tensor})):
        model(source, target)
    seen["encoder.layers.0.self_attention.scores"]

Tracers nest: the outermost gets each tensor first, the next one what that returned. They are
state of the process, not of a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

OnTap = Callable[[str, Tensor], "Tensor | None"]


class Tracer:
    """Knows which submodule of one model is running, and passes taps on under its name."""

    def __init__(self, model: nn.Module | None, on_tap: OnTap) -> None:
        self._on_tap = on_tap
        self._path: list[str] = []
        self._handles: list[RemovableHandle] = []
        for name, module in model.named_modules() if model is not None else ():
            self._handles += [
                module.register_forward_pre_hook(self._enter(name)),
                # always_call: an error inside a module must not leave its name on the path.
                module.register_forward_hook(self._leave, always_call=True),
            ]

    def _enter(self, name: str) -> Callable[[nn.Module, Any], None]:
        return lambda module, inputs: self._path.append(name)

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._path.pop()

    def visit(self, name: str, tensor: Tensor) -> Tensor:
        """Report one tensor; return it or what the tracer wants in its place."""
        path = self._path[-1] if self._path else ""
        full_name = f"{path}.{name}" if path else name
        replacement = self._on_tap(full_name, tensor)
        if replacement is None:
            return tensor
        if replacement.shape != tensor.shape:
            raise ValueError(
                f"the replacement for {full_name} must have its shape {tuple(tensor.shape)}, "
                f"got {tuple(replacement.shape)}"
            )
        return replacement

    def close(self) -> None:
        """Take the hooks off the model again."""
        for handle in self._handles:
            handle.remove()


_tracers: list[Tracer] = []


def tapping() -> bool:
    """Is a tracer active? Then attention and norms take the plain path, tensor by tensor."""
    return bool(_tracers)


def tap(name: str, tensor: Tensor) -> Tensor:
    """Offer ``tensor`` to the active tracers under ``name``; return it, or its replacement."""
    for tracer in _tracers:
        tensor = tracer.visit(name, tensor)
    return tensor


@contextmanager
def tracing(model: nn.Module | None, on_tap: OnTap) -> Iterator[Tracer]:
    """While the block runs, hand every tapped tensor to ``on_tap(name, tensor)``.

    Args:
        model: its submodules give the dotted names (as in ``named_modules``; a module that
            is shared goes by its first name). Taps outside all of them, or with ``None``
            in place of a model, come under their bare name.
        on_tap: returns ``None`` to leave the tensor as it is, or a tensor of the same shape
            with which the forward pass then goes on.

    Raises:
        ValueError: a replacement has another shape.
    """
    tracer = Tracer(model, on_tap)
    _tracers.append(tracer)
    try:
        yield tracer
    finally:
        _tracers.remove(tracer)
        tracer.close()
