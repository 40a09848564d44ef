"""What a figure is given: checked at the door and brought into one form."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lmlib.viz.labels import printable


def as_array(name: str, values: Any) -> np.ndarray:
    """Return a float array on the CPU, whatever came: tensor (any device, dtype), array, list."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() else values
    array = np.asarray(values)
    if array.dtype.kind not in "bfiu":
        raise TypeError(f"{name} must hold numbers, got {array.dtype}")
    if array.size == 0:
        raise ValueError(f"{name} must not be empty, got shape {array.shape}")
    return array.astype(np.float64)


def as_labels(name: str, tokens: Sequence[str], expected: int) -> list[str]:
    """Return the tokens as a figure can show them; there must be `expected` of them."""
    if len(tokens) != expected:
        raise ValueError(f"{name} must hold {expected} tokens, got {len(tokens)}")
    return [printable(token) for token in tokens]
