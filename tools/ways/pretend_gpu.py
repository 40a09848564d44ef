"""A GPU for a machine that has none: tensors "on" it keep to its rules and compute on the CPU.

What a GPU would refuse is refused here: an operation on tensors of both places, NumPy's view of a
tensor that lies there, a draw there by a generator of the CPU. What it would compute comes out, to
the last bit, as the CPU computes it; so a chapter that runs through with the outputs that it has
stored moves all it must, and nothing it must not.

It is a Python backend of torch (2.9 and newer), by the experimental function that torch's own test
of such backends uses.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

NAME = "gpu"
# What is registered lasts as long as this object.
_LIBRARY = torch.library.Library("_", "IMPL")
# A GPU, too, takes indices and masks that lie on the CPU.
_INDEX = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_unsafe_index"}
_MOVE = {"aten::_to_copy", "aten::copy_"}


class There(Tensor):
    """A tensor on the GPU; ``held`` has its numbers, on the CPU."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: Tensor) -> There:
        return Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device(NAME, 0),
            requires_grad=held.requires_grad,
        )

    def __init__(self, held: Tensor) -> None:
        self.held = held

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(parts: dict[str, Tensor], *_: Any) -> There:
        return There(parts["held"])

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return compute(function, args, kwargs or {})

    @property
    def data(self) -> Tensor:
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        Tensor.data.__set__(self, value)  # type: ignore[attr-defined]
        self.held = _held(value)

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"{repr(self.held)[:-1]}, device='{self.device}')"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.dim() == 0 else repr(self)

    def numpy(self, *, force: bool = False) -> Any:
        if force:
            return self.detach().cpu().numpy()
        raise TypeError(f"can't convert {self.device} device type tensor to numpy.")

    def __array__(self, *_: Any) -> Any:
        return self.numpy()

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()


def compute(function: Any, args: Any, kwargs: Any) -> Any:
    """One operation of torch, on the tensors that are held.

    Raises:
        RuntimeError: its tensors, or its tensors and its generator, lie in both places.
    """
    name = function._schema.name
    tensors = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    there = [x for x in tensors if isinstance(x, There)]
    # A number in a tensor of no dimension may lie on the CPU.
    bound = tensors[:1] if name in _INDEX else [x for x in tensors if x.dim()]
    if name not in _MOVE and there and not all(isinstance(x, There) for x in bound):
        raise RuntimeError(
            f"{function}: expected all tensors to be on the same device, but found at least two "
            f"devices, {NAME}:0 and cpu!"
        )
    device = kwargs.get("device")
    if name == "aten::copy_":
        on_gpu = isinstance(tensors[0], There)
    else:
        on_gpu = bool(there) if device is None else torch.device(device).type == NAME
    if on_gpu and kwargs.get("generator") is not None:
        raise RuntimeError(f"expected a {NAME!r} device type for generator but found 'cpu'")

    held_args, held_kwargs = pytree.tree_map(_held, (args, kwargs))
    out = function(*held_args, **held_kwargs)
    if not on_gpu:
        return out
    # What an operation changed in place is the tensor it was given.
    known = {id(x.held): x for x in there}
    return pytree.tree_map_only(Tensor, lambda x: known[id(x)] if id(x) in known else There(x), out)


def _held(x: Any) -> Any:
    if isinstance(x, There):
        return x.held
    return torch.device("cpu") if isinstance(x, torch.device) and x.type == NAME else x


class _Moves(TorchDispatchMode):
    """Operations that make a tensor on the GPU from none that lies there."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return compute(function, args, kwargs or {})


class _Backend:
    """What torch asks of a device's module; of its own it knows nothing."""

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def manual_seed_all(self, seed: int) -> None:
        pass

    def _is_in_bad_fork(self) -> bool:
        return False

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


def _inference_mode(mode: bool = True) -> Any:
    # torch lets no wrapper be an inference tensor.
    return torch.no_grad() if mode else contextlib.nullcontext()


def install() -> None:
    """From here on this process has the GPU, and `lmlib.device` chooses it."""
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    torch.inference_mode = _inference_mode  # type: ignore[assignment, misc]
    import lmlib

    _setup_privateuseone_for_python_backend(NAME, backend_module=_Backend())
    # Under torch.autocast it computes in the dtype that is there.
    _LIBRARY.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    # torch.tensor(…, device=…) makes its tensor on the CPU and moves it, where a mode sees it.
    torch._C._set_only_lift_cpu_tensors(True)
    _Moves().__enter__()
    lmlib.device = lambda prefer=None: torch.device(prefer or NAME)
