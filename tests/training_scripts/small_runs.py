"""Small models and data for the tests of training, and for the scripts that those start."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lmlib.gpt import GPT, GPTConfig

torch.set_num_threads(1)
VOCAB_SIZE = 20


def small_gpt(dtype: torch.dtype = torch.float64, seed: int = 0, **options: Any) -> GPT:
    """A GPT of two layers, with weights large enough to make its tokens differ."""
    sizes = {"d_model": 8, "num_layers": 2, "num_heads": 2, "max_seq_len": 12}
    config = GPTConfig.gpt2(**{"vocab_size": VOCAB_SIZE, **sizes, **options})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return GPT(config).to(dtype)


def random_ids(*shape: int, seed: int = 0, vocab_size: int = VOCAB_SIZE) -> Tensor:
    """Token ids from 1 on."""
    return torch.randint(1, vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def masked_ids(n: int, length: int, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """``n`` examples (token_ids, mask), each (length,), of very unequal numbers of tokens."""
    ids = random_ids(n, length, seed=seed)
    lengths = torch.randint(2, length + 1, (n, 1), generator=torch.Generator().manual_seed(seed))
    return list(zip(ids, torch.arange(length) < lengths, strict=True))


def weights(model: torch.nn.Module) -> dict[str, Tensor]:
    """A copy of everything in the model's state."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
