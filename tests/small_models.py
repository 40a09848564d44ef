"""Small Transformers for tests: one of every choice that a config offers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch_reference import randomize

from lmlib._stacks import POSITIONS
from lmlib.transformer import Transformer, TransformerConfig

torch.set_num_threads(1)
PAD = 0

# One of every choice that a config offers, and today's decoder together.
VARIANTS: list[dict[str, Any]] = [
    *({"positions": positions} for positions in POSITIONS),
    {"norm_first": True, "positions": "learned"},
    {"norm_first": True, "final_norm": False},
    {"final_norm": True},
    {"tie_embeddings": False, "scale_embeddings": False},
    {"activation": "gelu", "bias": False},
    {
        "norm_first": True,
        "norm": "rmsnorm",
        "feed_forward": "swiglu",
        "positions": "rotary",
        "num_kv_heads": 2,
        "bias": False,
    },
    {"num_kv_heads": 1, "positions": "relative", "num_encoder_layers": 1},
    {  # BART
        "positions": "learned",
        "tie_positions": False,
        "norm_embeddings": True,
        "scale_embeddings": False,
        "activation": "gelu",
        "head_bias": True,
    },
    {"positions": "sinusoidal_halves", "bos_id": 0, "activation": "silu"},  # Marian
    {"positions": "rotary", "norm_embeddings": True, "norm": "rmsnorm", "norm_first": True},
]


def small_transformer(
    seed: int = 0, dtype: torch.dtype = torch.float64, **options: Any
) -> Transformer:
    """A small model with random weights, large enough to make its tokens differ."""
    sizes = {"vocab_size": 30, "d_model": 16, "num_heads": 4, "d_ff": 20, "max_seq_len": 12}
    layers = {"num_encoder_layers": 2, "num_decoder_layers": 2, "dropout": 0.0}
    model = Transformer(TransformerConfig(**{**sizes, **layers, **options})).to(dtype)
    randomize(model, torch.Generator().manual_seed(seed))
    return model.eval()


def random_ids(batch: int, n: int, seed: int = 0) -> Tensor:
    """Token ids without padding."""
    return torch.randint(3, 30, (batch, n), generator=torch.Generator().manual_seed(seed))
