"""The package itself: the best device, the seed, a light import; and every model on any device."""

from __future__ import annotations

import copy
import random
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import lmlib
from lmlib.bert import BertConfig, BertForPreTraining, BertForSequenceClassification, BertModel
from lmlib.gpt import GPT, GPTConfig
from lmlib.recurrent import (
    NPLM,
    LSTMConfig,
    LSTMLanguageModel,
    LSTMSeq2Seq,
    NPLMConfig,
    Seq2SeqConfig,
)
from lmlib.transformer import Transformer, TransformerConfig


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


# ------------------------------------------------------------------ every model, on any device

GPU = [("cuda", torch.float32), ("cuda", torch.bfloat16)] if torch.cuda.is_available() else []
IDS = torch.tensor([[5, 6, 7, 8], [9, 8, 7, 0]])  # 0 is padding
GPT_SIZES = {"vocab_size": 12, "max_seq_len": 6, "d_model": 8, "num_layers": 2, "num_heads": 4}
BERT = BertConfig(12, d_model=8, num_layers=2, num_heads=2, d_ff=12, max_seq_len=6)
ZOO: dict[str, Callable[[], nn.Module]] = {
    "Transformer": lambda: Transformer(
        TransformerConfig(12, d_model=8, num_heads=2, d_ff=12, max_seq_len=6)
    ),
    "GPT-2": lambda: GPT(GPTConfig.gpt2(**GPT_SIZES)),
    "Llama": lambda: GPT(GPTConfig.llama(**GPT_SIZES, num_kv_heads=2)),
    "BertModel": lambda: BertModel(BERT),
    "BertForPreTraining": lambda: BertForPreTraining(BERT),
    "BertForSequenceClassification": lambda: BertForSequenceClassification(BERT, 3),
    "NPLM": lambda: NPLM(NPLMConfig(12, order=3, d_model=4, d_hidden=6, direct=True)),
    "LSTMLanguageModel": lambda: LSTMLanguageModel(LSTMConfig(12, d_model=4, d_hidden=6)),
    "LSTMSeq2Seq": lambda: LSTMSeq2Seq(Seq2SeqConfig(12, d_model=4, d_hidden=6)),
}


def outputs(model: nn.Module, ids: Tensor) -> list[Tensor]:
    """All tensors that the model returns."""
    reads_two = isinstance(model, Transformer | LSTMSeq2Seq)
    found = model(ids, ids) if reads_two else model(ids)
    return [found] if isinstance(found, Tensor) else [x for x in found if isinstance(x, Tensor)]


@pytest.mark.parametrize(
    ("device", "dtype"),
    [("meta", torch.float32), ("meta", torch.bfloat16), ("cpu", torch.bfloat16), *GPU],
)
@pytest.mark.parametrize("name", ZOO)
def test_every_model_on_any_device_and_in_any_dtype(
    name: str, device: str, dtype: torch.dtype
) -> None:
    """Forward, loss and gradient; the numbers are near those of float32 on the CPU."""
    torch.manual_seed(0)
    reference = ZOO[name]().eval()
    expected = outputs(reference, IDS)
    model = copy.deepcopy(reference).to(device, dtype)
    found = outputs(model, IDS.to(device))
    sum(x.float().square().mean() for x in found).backward()
    for x, exact in zip(found, expected, strict=True):
        assert (x.shape, x.dtype, x.device.type) == (exact.shape, dtype, device)
        if device != "meta":
            atol = 0.05 * exact.abs().max().item()
            torch.testing.assert_close(x.float().cpu(), exact, rtol=0.0, atol=atol)
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert (parameter.grad.dtype, parameter.grad.device.type) == (dtype, device)


@pytest.mark.parametrize("name", ZOO)
def test_every_model_can_be_made_without_memory(name: str) -> None:
    with torch.device("meta"):
        model = ZOO[name]()
        tensors = [*model.parameters(), *model.buffers(), *outputs(model, IDS.to("meta"))]
    assert all(tensor.is_meta for tensor in tensors)
