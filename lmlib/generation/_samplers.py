"""Filters on logits: what may not be drawn becomes −∞.

Pure functions from logits to logits, public through `lmlib.generation`. They are applied in one
order::

    suppress → repetition penalty → temperature → top-k → top-p → min-p
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from lmlib._checks import check_ids, check_positive, check_tensor
from lmlib.generation._base import wide

__all__ = [
    "make_filters",
    "min_p_filter",
    "repetition_penalty_filter",
    "seen_tokens",
    "temperature_filter",
    "top_k_filter",
    "top_p_filter",
]

# Logits (batch, vocab_size) and which tokens each row holds already, (batch, vocab_size) boolean
# (None where no filter asks), to logits (batch, vocab_size).
Filter = Callable[[Tensor, "Tensor | None"], Tensor]


def temperature_filter(logits: Tensor, temperature: float) -> Tensor:
    """Divide by the temperature: below 1 sharpens the distribution, above 1 flattens it.

    Args:
        logits: (..., vocab_size).
        temperature: above 0. Towards 0 the most probable token is left alone: that is
            `greedy_search`.

    Returns:
        logits / temperature, (..., vocab_size).

    Raises:
        ValueError: temperature ≤ 0.

    >>> temperature_filter(torch.tensor([1.0, 2.0]), 0.5)
    tensor([2., 4.])
    """
    check_tensor("logits", logits, "..., vocab_size")
    check_temperature(temperature)
    return logits / temperature


def top_k_filter(logits: Tensor, top_k: int) -> Tensor:
    """Keep the k most probable tokens (Fan et al. 2018, §5.4), and all that equal the last of them.

    Args:
        logits: (..., vocab_size).
        top_k: at least 1; vocab_size or more keeps everything.

    Returns:
        logits with −∞ for what is out, (..., vocab_size).

    Raises:
        TypeError, ValueError: top_k is no int, or below 1.

    >>> top_k_filter(torch.tensor([1.0, 3.0, 2.0]), 2)
    tensor([-inf, 3., 2.])
    """
    check_tensor("logits", logits, "..., vocab_size")
    check_positive("top_k", top_k)
    if top_k >= logits.shape[-1]:
        return logits
    least = logits.topk(top_k, dim=-1).values[..., -1:]  # (..., 1)
    return logits.masked_fill(logits < least, -math.inf)


def top_p_filter(logits: Tensor, top_p: float) -> Tensor:
    """Keep the smallest set of tokens with mass ≥ p, the nucleus (Holtzman et al. 2020, eq. 2).

    Args:
        logits: (..., vocab_size).
        top_p: in (0, 1]. At least one token is kept, and 1 keeps everything.

    Returns:
        logits with −∞ for what is out, (..., vocab_size).

    Raises:
        ValueError: top_p outside (0, 1].

    >>> top_p_filter(torch.tensor([0.1, 0.6, 0.3]).log(), 0.7).exp()
    tensor([0.0000, 0.6000, 0.3000])
    """
    check_tensor("logits", logits, "..., vocab_size")
    check_share("top_p", top_p)
    if top_p == 1.0:
        return logits
    # stable: of equal logits the smaller id comes first, on every machine.
    falling, order = logits.sort(dim=-1, descending=True, stable=True)
    probs = wide(falling).softmax(dim=-1)  # a sum in bfloat16 would miss p by 1/256
    before = probs.cumsum(dim=-1) - probs  # the mass of all that are more probable: 0 at first
    out = before >= top_p
    return logits.masked_fill(torch.empty_like(out).scatter_(-1, order, out), -math.inf)


def min_p_filter(logits: Tensor, min_p: float) -> Tensor:
    """Keep what is at least min_p times as probable as the most probable (Nguyen et al. 2024).

    Args:
        logits: (..., vocab_size).
        min_p: in (0, 1]; 1 keeps the most probable alone.

    Returns:
        logits with −∞ for what is out, (..., vocab_size).

    Raises:
        ValueError: min_p outside (0, 1].

    >>> min_p_filter(torch.tensor([0.1, 0.6, 0.3]).log(), 0.4).exp()
    tensor([0.0000, 0.6000, 0.3000])
    """
    check_tensor("logits", logits, "..., vocab_size")
    check_share("min_p", min_p)
    # p_i ≥ min_p · p_max, with logarithms: no softmax is needed.
    least = logits.amax(dim=-1, keepdim=True) + math.log(min_p)
    return logits.masked_fill(logits < least, -math.inf)


def repetition_penalty_filter(
    logits: Tensor, token_ids: Tensor, penalty: float, mask: Tensor | None = None
) -> Tensor:
    """Make the tokens that occur already less probable (Keskar et al. 2019, §4.1).

    Their logit is divided by the penalty where it is positive and multiplied where it is not (the
    paper divides everywhere, by which a negative logit would rise), once, however often they
    occur.

    Args:
        logits: (..., vocab_size).
        token_ids: (..., n) the text so far.
        penalty: above 0; 1 changes nothing, below 1 makes repetition more probable.
        mask: (..., n) boolean, False where a token is padding and does not count.

    Returns:
        logits, (..., vocab_size).

    Raises:
        TypeError, ValueError: penalty ≤ 0, ids outside the vocabulary, or shapes that do not fit.

    >>> ids = torch.tensor([0, 2])
    >>> repetition_penalty_filter(torch.tensor([1.0, 1.0, -1.0]), ids, 2.0)
    tensor([ 0.5000,  1.0000, -2.0000])
    """
    check_tensor("logits", logits, "..., vocab_size")
    check_penalty(penalty)
    dims = ", ".join(["batch"] * (logits.dim() - 1) + ["n"])
    check_ids("token_ids", token_ids, dims, vocab_size=logits.shape[-1])
    if token_ids.shape[:-1] != logits.shape[:-1]:
        raise ValueError(
            f"token_ids must have the leading dimensions of logits, {tuple(logits.shape[:-1])}, "
            f"got {tuple(token_ids.shape[:-1])}"
        )
    if mask is not None and (mask.dtype != torch.bool or mask.shape != token_ids.shape):
        raise ValueError(
            f"mask must be boolean of the shape of token_ids, {tuple(token_ids.shape)}, "
            f"got {mask.dtype} {tuple(mask.shape)}"
        )
    count = torch.zeros(logits.shape, dtype=torch.int32, device=logits.device)
    weight = torch.ones_like(token_ids) if mask is None else mask
    count.scatter_add_(-1, token_ids.long(), weight.to(torch.int32))
    return _penalise(logits, count > 0, penalty)


def _penalise(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """`repetition_penalty_filter`, given which tokens occur: seen (..., vocab_size) boolean."""
    penalised = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen, penalised, logits)


def seen_tokens(rows: Sequence[Sequence[int]], logits: Tensor) -> Tensor:
    """Which tokens each row holds: boolean of the shape of logits, (batch, vocab_size)."""
    seen = torch.zeros(logits.shape, dtype=torch.bool, device=logits.device)
    for row, token_ids in zip(seen, rows, strict=True):
        row[torch.tensor(sorted(set(token_ids)), device=logits.device)] = True
    return seen


def make_filters(
    *,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float | None = None,
    suppress: Sequence[int] = (),
) -> dict[str, Filter]:
    """The filters asked for, by name, in the order in which they act; each argument is checked.

    Args:
        suppress: ids that are never drawn. For the others see the filter of that name; None
            leaves it out.
    """
    filters: dict[str, Filter] = {}
    if suppress:
        filters["suppress"] = partial(_suppress, list(suppress))
    if repetition_penalty is not None:
        check_penalty(repetition_penalty)
        penalty = repetition_penalty
        filters["repetition_penalty"] = lambda logits, seen: (
            logits if seen is None else _penalise(logits, seen, penalty)
        )
    if temperature is not None:
        check_temperature(temperature)
        filters["temperature"] = lambda logits, seen: temperature_filter(logits, temperature)
    if top_k is not None:
        check_positive("top_k", top_k)
        filters["top_k"] = lambda logits, seen: top_k_filter(logits, top_k)
    if top_p is not None:
        check_share("top_p", top_p)
        filters["top_p"] = lambda logits, seen: top_p_filter(logits, top_p)
    if min_p is not None:
        check_share("min_p", min_p)
        filters["min_p"] = lambda logits, seen: min_p_filter(logits, min_p)
    return filters


def _suppress(ids: list[int], logits: Tensor, seen: Tensor | None) -> Tensor:
    return logits.index_fill(-1, torch.tensor(ids, device=logits.device), -math.inf)


def check_temperature(temperature: float) -> None:
    """The temperature is above 0."""
    if not 0 < temperature < math.inf:
        instead = "; for temperature 0 use greedy_search" if temperature == 0 else ""
        raise ValueError(f"temperature must be above 0, got {temperature}{instead}")


def check_share(name: str, share: float) -> None:
    """A probability of which something is kept lies in (0, 1]."""
    if not 0 < share <= 1:
        raise ValueError(f"{name} must be above 0 and at most 1, got {share}")


def check_penalty(penalty: float) -> None:
    """The repetition penalty is above 0."""
    if not 0 < penalty < math.inf:
        raise ValueError(f"repetition_penalty must be above 0, got {penalty}")
