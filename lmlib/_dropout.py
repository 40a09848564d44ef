"""Dropout that costs nothing where it drops nothing."""

from __future__ import annotations

from torch import Tensor, nn


def drop(dropout: nn.Dropout, x: Tensor) -> Tensor:
    """``dropout(x)``; outside training, or at rate 0, x itself without even the call."""
    return dropout(x) if dropout.training and dropout.p > 0.0 else x
