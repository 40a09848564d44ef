"""Seeds that are a function of where in a run they are used, and which process this is."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def process() -> tuple[int, int]:
    """This process and how many there are: (rank, world_size); (0, 1) when it is alone."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def derived_seed(*parts: int | str) -> int:
    """A seed, 0 ≤ seed < 2³², for each combination of ``parts``, unlike that of any other."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def seed_all(seed: int, device: torch.device) -> None:
    """Seed Python's, NumPy's and torch's random numbers, the latter on the CPU and ``device``."""
    random.seed(seed)
    np.random.seed(seed)
    # torch.manual_seed asks after every kind of device: 0.1 ms, too long for each batch.
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


@contextmanager
def random_state_kept(device: torch.device) -> Iterator[None]:
    """Afterwards the random numbers go on as if the block had not been."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    mps = torch.mps.get_rng_state() if device.type == "mps" else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state(cuda, device)
        if mps is not None:
            torch.mps.set_rng_state(mps)
