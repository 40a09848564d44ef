"""Traces for tests: of every kind of model, with padding and without."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_models import PAD, small_transformer
from torch import Tensor

from lmlib.transformer import Transformer

VARIANTS: list[dict[str, Any]] = [
    {},
    {"num_encoder_layers": 2, "num_decoder_layers": 3},
    {"norm_first": True},
    {"norm_first": True, "final_norm": False, "bias": False},
    {"final_norm": True, "activation": "gelu"},
    {"positions": "learned", "scale_embeddings": False},
    {"positions": "rotary", "num_kv_heads": 2},
    {"positions": "relative", "num_encoder_layers": 2, "num_decoder_layers": 2},
    {"positions": "none", "scale_embeddings": False, "tie_embeddings": False},
    {"positions": "learned", "tie_positions": False, "norm_embeddings": True, "head_bias": True},
    {"positions": "sinusoidal_halves", "norm_embeddings": True, "norm": "rmsnorm", "bos_id": 0},
    {"positions": "none", "norm_embeddings": True, "bias": False, "activation": "gelu_tanh"},
    {"activation": "silu", "tie_embeddings": False, "head_bias": True},
    {
        "norm": "rmsnorm",
        "feed_forward": "swiglu",
        "norm_first": True,
        "positions": "rotary",
        "num_kv_heads": 1,
        "bias": False,
    },
]


def make(**options: Any) -> Transformer:
    layers = {"num_encoder_layers": 1, "num_decoder_layers": 1}
    return small_transformer(**{**layers, "max_seq_len": 512, "dropout": 0.2, **options}).train()


def batch(padded: bool) -> tuple[Tensor, Tensor]:
    """Source and target of two sequences."""
    generator = torch.Generator().manual_seed(3)
    source = torch.randint(3, 30, (2, 5), generator=generator)
    target = torch.randint(3, 30, (2, 4), generator=generator)
    if padded:
        source[1, 3:] = target[1, 2:] = PAD
    return source, target


every_case = pytest.mark.parametrize(
    ("options", "padded"), [(options, padded) for options in VARIANTS for padded in (False, True)]
)
