"""Checkpoints: one file each, whole or not there, with nothing in it that could run.

A checkpoint is a safetensors file: tensors, and a JSON text among its metadata. It is written under
another name, brought to the disk and only then renamed, so that a process or a machine
that dies at any moment leaves the older ones as they were.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

FORMAT = 1
NAME = re.compile(r"checkpoint-(\d{8,})\.safetensors")


def write_atomically(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path`` so that whoever reads finds the old file or the new, never half.

    Raises:
        OSError: it cannot be written. What was there is there still, and nothing else is.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):  # half a file, on a disk that may be full
            temporary.unlink()
        raise OSError(
            error.errno,
            f"{path} ({len(data):,} bytes) could not be written: {error.strerror}; "
            "older checkpoints are as they were",
        ) from error
    if os.name != "nt":  # Windows cannot open a directory
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def checkpoint_path(directory: Path, step: int) -> Path:
    """Where the checkpoint of a step stands."""
    return directory / f"checkpoint-{step:08d}.safetensors"


def save_checkpoint(
    directory: str | os.PathLike[str],
    step: int,
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Any],
    keep: int | None = None,
) -> Path:
    """Write a checkpoint, then delete all but the newest ``keep``.

    Args:
        directory: made if it is not there.
        step: how many steps have been taken.
        tensors: by name.
        state: whatever JSON can hold.
        keep: how many to keep; None for all.

    Returns:
        The file, "checkpoint-<step>.safetensors".
    """
    from safetensors.torch import save

    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    path = checkpoint_path(directory, step)
    text = json.dumps({"format": FORMAT, "step": step, **state}, ensure_ascii=False)
    # Cloned, for safetensors takes no tensors that share memory and none with gaps.
    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_atomically(path, save(whole, metadata={"state": text}))
    if keep is not None:
        for _, old in checkpoints(directory)[:-keep]:
            old.unlink()
    return path


def load_checkpoint(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors (on the CPU) and the state of a checkpoint.

    Raises:
        ValueError: the file is no whole checkpoint, or of a later version.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # Cloned: memory of torch's own is aligned as that of a run that was not interrupted.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        state = json.loads(metadata["state"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is not a whole checkpoint of lmlib: {error}") from error
    if state.get("format") != FORMAT:
        raise ValueError(
            f"{path} has format {state.get('format')}, this version of lmlib reads {FORMAT}"
        )
    return tensors, state


def checkpoints(directory: str | os.PathLike[str]) -> list[tuple[int, Path]]:
    """The whole checkpoints of a directory as (step, file), oldest first."""
    found = []
    if Path(directory).is_dir():
        for path in Path(directory).iterdir():
            match = NAME.fullmatch(path.name)
            if match and _is_whole(path):
                found.append((int(match[1]), path))
    return sorted(found)


def remove_leftovers(directory: Path) -> None:
    """Delete what a process left that was killed while it wrote."""
    for path in directory.glob(".checkpoint-*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def _is_whole(path: Path) -> bool:
    """Is the file as long as its header says? A disk that lost its power may have cut it."""
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length < 10**8:
                return False
            header = json.loads(file.read(length))
        ends = [e["data_offsets"][1] for name, e in header.items() if name != "__metadata__"]
        return path.stat().st_size == 8 + length + max(ends, default=0)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


# ------------------------------------------------------------------ a model and its optimizer


def pack(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Everything of both that is a tensor: "model.<name>" and "optimizer.<key>.<name>"."""
    tensors = {f"model.{name}": tensor for name, tensor in _own_tensors(model).items()}
    for name, parameter in _trained(optimizer).items():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{key}.{name}"] = torch.as_tensor(value)
    return tensors


def unpack(
    tensors: Mapping[str, Tensor], model: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Give model and optimizer the values they had when `pack` was called.

    Raises:
        ValueError: the model has other tensors, or of another shape or dtype.
    """
    own = _own_tensors(model)
    saved = {k.removeprefix("model."): t for k, t in tensors.items() if k.startswith("model.")}
    for name in sorted({*own, *saved}):
        if name not in own or name not in saved:
            where = "the checkpoint" if name in saved else "the model"
            raise ValueError(f"model must be the one of the checkpoint: only {where} has {name}")
        for kind in ("shape", "dtype"):
            here, there = getattr(own[name], kind), getattr(saved[name], kind)
            if here != there:
                here, there = (tuple(v) if kind == "shape" else v for v in (here, there))
                raise ValueError(
                    f"model must be the one of the checkpoint: there {name} has {kind} {there}, "
                    f"here {here}"
                )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(saved[name])
    states: dict[int, dict[str, Tensor]] = {}
    for index, name in enumerate(_trained(optimizer)):
        for key in ("step", "exp_avg", "exp_avg_sq"):
            value = tensors.get(f"optimizer.{key}.{name}")
            if value is not None:
                states.setdefault(index, {})[key] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": states, "param_groups": groups})


def _own_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The parameters and saved buffers of a model, one that two modules share once."""
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, value in model.state_dict(keep_vars=True).items():
        if not isinstance(value, Tensor):
            raise TypeError(f"model has {name} in its state, which is no tensor but {type(value)}")
        if id(value) not in seen:
            seen.add(id(value))
            tensors[name] = value
    return tensors


def _trained(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's parameters by name, in its own order (see `parameter_groups`)."""
    groups = optimizer.param_groups
    return {n: p for group in groups for n, p in zip(group["names"], group["params"], strict=True)}
