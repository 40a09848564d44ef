"""What the tests of BERT share: a small config, models with random weights, a padded batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch_reference import randomize

from lmlib.bert import BertConfig

PAD = 0
PADDINGS = ["none", "right", "left", "holes"]
SMALL: dict[str, Any] = {
    "vocab_size": 37,
    "d_model": 12,
    "num_layers": 2,
    "num_heads": 3,
    "d_ff": 20,
    "max_seq_len": 11,
    "dropout": 0.0,
}


def small_config(**options: Any) -> BertConfig:
    return BertConfig(**{**SMALL, **options})


def small(make: Callable[..., nn.Module], *args: Any, **options: Any) -> nn.Module:
    """A model with random weights, in float64."""
    model = make(small_config(**options), *args).double()
    randomize(model, torch.Generator().manual_seed(0))
    return model.eval()


def batch(config: BertConfig, padding: str, seed: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, segment ids and mask, (4, max_seq_len) each."""
    generator = torch.Generator().manual_seed(seed)
    shape = (4, config.max_seq_len)
    ids = torch.randint(1, config.vocab_size, shape, generator=generator)
    segments = torch.randint(0, config.num_segments, shape, generator=generator)
    at = torch.arange(shape[1])
    lengths = torch.tensor([[1], [4], [7], [shape[1]]])
    mask = {
        "none": torch.ones(shape, dtype=torch.bool),
        "right": at < lengths,
        "left": at >= shape[1] - lengths,
        "holes": torch.rand(shape, generator=generator) < 0.7,
    }[padding]
    mask[0, shape[1] - 1 if padding == "left" else 0] = True
    return ids.masked_fill(~mask, PAD), segments, mask
