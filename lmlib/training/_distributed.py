"""Several processes, one run: what `torchrun` started finds together here."""

from __future__ import annotations

import atexit
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lmlib.training._random import process


@dataclass(frozen=True)
class World:
    """The processes of a run.

    Attributes:
        rank: this one, from 0.
        world_size: how many there are.
        device: where this one should compute: a GPU of its own if there is one, else the CPU.
    """

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Is this the one that prints and writes?"""
        return self.rank == 0


def distributed(timeout_minutes: float = 60.0) -> World:
    """Join the other processes that ``torchrun`` has started; alone, a world of one.

    `train` calls it, so a script needs it only to put its model on ``device`` or to let
    one process print::

        world = distributed()
        model = GPT(config).to(world.device)
        result = train(model, batches, config)
        if world.is_main:
            save_pretrained(model, "poem_gpt")

    Processes talk by NCCL about tensors on a GPU and by Gloo about those on the CPU. They part when
    Python ends; calling it again changes nothing.

    Args:
        timeout_minutes: how long to wait for a process that does not answer.

    Raises:
        ValueError: the environment that torchrun sets is incomplete.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        missing = [
            name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ
        ]
        if missing:
            raise ValueError(
                f"WORLD_SIZE={os.environ['WORLD_SIZE']} is set but {', '.join(missing)} is not: "
                "start the script with torchrun"
            )
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(_local_device())
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=timedelta(minutes=timeout_minutes)
        )
        atexit.register(_part)
    rank, world_size = process()
    device = torch.device("cuda", _local_device()) if torch.cuda.is_available() else "cpu"
    return World(rank, world_size, torch.device(device))


def _local_device() -> int:
    return int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count()


def _part() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def sum_over_processes(tensor: Tensor) -> Tensor:
    """The sum of ``tensor`` over all processes, in place."""
    if process()[1] > 1:
        dist.all_reduce(tensor)
    return tensor


def sums_of_all(values: dict[str, float]) -> dict[str, float]:
    """For each name the sum over all processes; one that has no such value adds nothing."""
    world_size = process()[1]
    if world_size == 1:
        return values
    everyones: list[dict[str, float]] = [{} for _ in range(world_size)]
    dist.all_gather_object(everyones, values)
    sums: dict[str, float] = {}
    for theirs in everyones:
        for name, value in theirs.items():
            sums[name] = sums.get(name, 0.0) + value
    return sums


def from_main(value: int, device: torch.device) -> int:
    """The integer that the main process has here."""
    if process()[1] == 1:
        return value
    tensor = torch.tensor([value], device=device)
    dist.broadcast(tensor, src=0)
    return int(tensor.item())


def wait_for_all(device: torch.device) -> None:
    """Go on when every process has come here."""
    from_main(0, device)


def data_parallel(module: nn.Module) -> Any:
    """``module`` with gradients averaged over the processes; alone, the module itself.

    Weights and buffers start as those of the main process. A parameter that a pass leaves out,
    such as an unused pooler, has no gradient, as with one process.
    """
    if process()[1] == 1:
        return module
    from torch.nn.parallel import DistributedDataParallel

    # Looking for parameters that are not used costs little, but PyTorch prints a warning where it
    # finds none: so here is one.
    device = next(module.parameters()).device
    module.register_parameter("never_used", nn.Parameter(torch.zeros(1, device=device)))
    return DistributedDataParallel(module, find_unused_parameters=True)
