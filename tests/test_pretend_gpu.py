"""The pretended GPU refuses what a GPU refuses, and computes what the CPU computes."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
from stored_chapters import ROOT
from torch.utils import backend_registration

needs_backends = pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch has no backends in Python yet",
)
BEFORE = """
import copy
import lmlib
import torch
from torch import nn
from tools.ways.pretend_gpu import install

torch.manual_seed(0)
cpu = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 3))
here, numbers = torch.tensor([[1, 2, 2]]), torch.rand(2, 3)
install()
device = lmlib.device()
net, ids, there = copy.deepcopy(cpu).to(device), here.to(device), numbers.to(device)
assert (device.type, there.device.type, net[1].weight.device.type) == ("gpu", "gpu", "gpu")
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: once installed, the GPU stays."""
    program = BEFORE + textwrap.dedent(code)
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)


REFUSED = {
    "there + numbers": "expected all tensors to be on the same device",
    "net(here)": "expected all tensors to be on the same device",
    "cpu(ids)": "expected all tensors to be on the same device",
    "torch.cat([there, numbers])": "expected all tensors to be on the same device",
    "there.numpy()": "can't convert gpu:0 device type tensor to numpy",
    "torch.rand(2, device=device, generator=torch.Generator())": (
        "expected a 'gpu' device type for generator"
    ),
}


@needs_backends
def test_what_a_gpu_refuses() -> None:
    done = run(
        f"""
        for line, message in {REFUSED}.items():
            try:
                eval(line)
            except (RuntimeError, TypeError) as error:
                assert message in str(error), (line, error)
            else:
                raise AssertionError(line)
        """
    )
    assert done.returncode == 0, done.stderr


@needs_backends
def test_what_a_gpu_takes_comes_out_as_on_the_cpu() -> None:
    done = run(
        """
        assert torch.equal((there @ there.mT).cpu(), numbers @ numbers.mT)
        assert torch.equal(there[torch.tensor([1])].cpu(), numbers[[1]])   # an index of the CPU
        assert (there * torch.tensor(2.0)).device == there.device          # a number of the CPU
        there[0, 0] = 5.0
        assert (there[0, 0].item(), f"{there[0, 0]:.1f}", numbers[0, 0] < 1) == (5.0, "5.0", True)
        assert there.tolist() == there.cpu().tolist()
        assert "device='gpu:0'" in repr(there)

        for model, inputs in ((cpu, here), (net, ids)):
            step = torch.optim.AdamW(model.parameters(), lr=0.1)
            for _ in range(5):
                step.zero_grad()
                with torch.autocast(inputs.device.type, torch.bfloat16, enabled=False):
                    model(inputs).square().mean().backward()
                step.step()
        assert net[1].weight.grad.device.type == "gpu"
        for mine, theirs in zip(net.parameters(), cpu.parameters(), strict=True):
            assert torch.equal(mine.cpu(), theirs)

        double = copy.deepcopy(net).double()
        assert torch.equal(double(ids).cpu(), copy.deepcopy(cpu).double()(here))
        for p in double.parameters():
            p.data = p.data * 0
        assert double(ids).abs().sum() == 0 and net(ids).abs().sum() > 0
        double.load_state_dict(net.state_dict())
        assert torch.equal(double(ids).float().cpu().round(decimals=4), cpu(here).round(decimals=4))
        with torch.inference_mode():
            assert not net(ids).requires_grad
        with torch.device("meta"):
            assert nn.Linear(10**6, 10**6).weight.is_meta             # no memory is asked for
        """
    )
    assert done.returncode == 0, done.stderr
