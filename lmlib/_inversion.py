"""The draw of a token by one uniform number: the inverse of the cumulative distribution."""

from __future__ import annotations

import torch
from torch import Tensor


def by_inversion(weights: Tensor, u: Tensor) -> Tensor:
    """The first id whose cumulative weight exceeds u times the sum of all.

    Every version of torch draws the same for the same u; ``torch.multinomial`` does not.

    Args:
        weights: (..., vocab_size), not negative; 0 is never drawn.
        u: (...) in [0, 1).

    Returns:
        ids, (...).
    """
    cumulative = weights.cumsum(dim=-1)
    target = u.to(weights)[..., None] * cumulative[..., -1:]
    ids = torch.searchsorted(cumulative, target, right=True).squeeze(-1)
    # Where the product was rounded up, or all is NaN: stay inside the vocabulary.
    return ids.clamp(max=weights.shape[-1] - 1)
