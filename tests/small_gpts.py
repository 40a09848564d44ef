"""Small GPTs for tests: one of every choice that a config offers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch_reference import randomize

from lmlib.gpt import GPT, GPTConfig

torch.set_num_threads(1)

# GPT-2, GPT-1, each kind of position, then today's decoder: Llama, Qwen2, multi-query, wide heads.
VARIANTS: list[dict[str, Any]] = [
    {},
    {"norm_first": False, "activation": "gelu"},
    {"positions": "sinusoidal", "bias": False},
    {"positions": "relative", "tie_embeddings": False},
    {"positions": "none", "qkv_bias": False},
    {
        "positions": "rotary",
        "norm": "rmsnorm",
        "feed_forward": "swiglu",
        "bias": False,
        "qkv_bias": True,
        "num_kv_heads": 2,
        "tie_embeddings": False,
    },
    {"positions": "rotary", "num_kv_heads": 1, "d_head": 6, "rotary_base": 500.0},
]


def small_gpt(seed: int = 0, dtype: torch.dtype = torch.float64, **options: Any) -> GPT:
    """A small model with random weights, large enough to make its tokens differ."""
    sizes = {"vocab_size": 30, "d_model": 16, "num_heads": 4, "d_ff": 20, "max_seq_len": 16}
    model = GPT(GPTConfig(**{**sizes, "num_layers": 2, **options})).double()
    randomize(model, torch.Generator().manual_seed(seed))
    return model.to(dtype).eval()


def random_ids(batch: int, n: int, seed: int = 0) -> Tensor:
    """Token ids, any of the thirty."""
    return torch.randint(0, 30, (batch, n), generator=torch.Generator().manual_seed(seed))
