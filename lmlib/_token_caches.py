"""Models with a window: the last tokens that each prediction reads, and what they remember."""

from __future__ import annotations

import torch
from torch import Tensor

from lmlib._checks import check_ids, check_not_negative, check_positive, check_token_mask


class TokenCaches:
    """The tokens that a model with a window has read: all it need remember to go on.

    Attributes:
        token_ids: (batch, length), or None while empty.
    """

    def __init__(self) -> None:
        self.token_ids: Tensor | None = None

    @property
    def length(self) -> int:
        """Number of tokens read."""
        return 0 if self.token_ids is None else self.token_ids.shape[1]

    def append(self, token_ids: Tensor) -> Tensor:
        """Add tokens (batch, n) at the end; all so far, (batch, length), come back."""
        if self.token_ids is not None:
            if token_ids.shape[0] != self.token_ids.shape[0]:
                raise ValueError(
                    f"token_ids must have as many rows as the caches, {self.token_ids.shape[0]}, "
                    f"got {token_ids.shape[0]}"
                )
            token_ids = torch.cat([self.token_ids, token_ids], dim=1)
        self.token_ids = token_ids
        return token_ids

    def crop(self, length: int) -> None:
        """Forget all but the first ``length`` tokens."""
        check_not_negative("length", length)
        if length > self.length:
            raise ValueError(f"length must be at most the {self.length} stored, got {length}")
        if self.token_ids is not None:
            self.token_ids = self.token_ids[:, :length]

    def reorder(self, indices: Tensor) -> None:
        """Let row i continue row ``indices[i]`` ((new_batch,) integer), as beam search does."""
        if self.token_ids is not None:
            check_ids("indices", indices, "new_batch", vocab_size=self.token_ids.shape[0])
            self.token_ids = self.token_ids.index_select(0, indices)


def check_not_empty(name: str, ids: Tensor) -> None:
    """``ids`` (batch, n) have n ≥ 1."""
    if ids.shape[1] == 0:
        raise ValueError(f"{name} must have at least 1 token, got shape {tuple(ids.shape)}")


def read_windows(
    token_ids: Tensor,
    mask: Tensor | None,
    caches: TokenCaches | None,
    *,
    size: int,
    num_logits: int | None,
    vocab_size: int,
    bos_id: int,
) -> Tensor:
    """The last ``size`` tokens at each position, BOS in front of the first and for padding.

    Args:
        token_ids: (batch, n).
        mask: (batch, n) boolean, False for padding, which belongs on the left.
        caches: the tokens in front of these; ``token_ids`` are appended to them.
        size: tokens in a window, the token of the position itself included.
        num_logits: only for the last so many positions.

    Returns:
        (batch, n or num_logits, size) token ids, in the order of the text.
    """
    check_ids("token_ids", token_ids, "batch, n", vocab_size)
    check_not_empty("token_ids", token_ids)
    if num_logits is not None:
        check_positive("num_logits", num_logits)
    if mask is not None:
        check_token_mask("mask", mask, token_ids)
        token_ids = token_ids.masked_fill(~mask, bos_id)
    n = token_ids.shape[1] if num_logits is None else min(num_logits, token_ids.shape[1])
    if caches is not None:
        token_ids = caches.append(token_ids)
    bos = token_ids.new_full((token_ids.shape[0], size), bos_id)
    padded = torch.cat([bos, token_ids], dim=1)
    ends = torch.arange(padded.shape[1] - n, padded.shape[1], device=token_ids.device)
    within = torch.arange(1 - size, 1, device=token_ids.device)
    return padded[:, ends[:, None] + within]  # (batch, n, size)
