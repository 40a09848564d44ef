"""The package itself: the best device, the seed, and an import that costs nothing."""

from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
import pytest
import torch

import lmlib


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """Pretend to be a machine with this many GPUs, with or without Apple's."""

    def pretend(cuda: int, mps: bool) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return pretend


@pytest.mark.parametrize(
    ("cuda", "mps", "best"),
    [(2, True, "cuda"), (1, False, "cuda"), (0, True, "mps"), (0, False, "cpu")],
)
def test_best_device(machine, cuda: int, mps: bool, best: str) -> None:
    machine(cuda, mps)
    assert lmlib.device() == torch.device(best)
    assert lmlib.device("cpu") == torch.device("cpu")


def test_preferred_device(machine) -> None:
    machine(2, True)
    assert lmlib.device("mps") == torch.device("mps")
    assert lmlib.device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(ValueError, match=r"prefer='cuda:2': not on this machine"):
        lmlib.device("cuda:2")
    for wrong in ("tpu", "cuda:x", ""):
        with pytest.raises(ValueError, match="prefer must be one of cuda, mps, cpu, got"):
            lmlib.device(wrong)
    machine(0, False)
    with pytest.raises(ValueError, match=r"which has \['cpu'\]"):
        lmlib.device("cuda")


def test_this_machine_can_compute_on_its_device() -> None:
    assert torch.ones(2, device=lmlib.device()).sum().item() == 2.0


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), torch.rand(1).item()


def test_seed_everything_repeats_every_generator() -> None:
    generator = lmlib.seed_everything(7)
    first, own = draws(), torch.rand(3, generator=generator)
    again = lmlib.seed_everything(7)
    assert draws() == first
    assert torch.equal(torch.rand(3, generator=again), own)
    lmlib.seed_everything(8)
    assert not set(draws()) & set(first)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "a"])
def test_a_seed_that_cannot_be(seed: object) -> None:
    with pytest.raises(ValueError, match="seed must be an integer from 0"):
        lmlib.seed_everything(seed)  # type: ignore[arg-type]


def test_import_is_light() -> None:
    code = "import sys, lmlib; print(lmlib.__version__, 'torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == [lmlib.__version__, "False"]
