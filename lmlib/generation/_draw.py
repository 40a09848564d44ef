"""The draw of a token by one uniform number, and a random number generator for every language.

Public through `lmlib.generation`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from lmlib._inversion import by_inversion

__all__ = [
    "Generator",
    "Generators",
    "PortableGenerator",
    "check_generators",
    "draw",
    "uniforms",
]


class HasRandom(Protocol):
    """Anything with ``random()`` in [0, 1): `PortableGenerator`, ``random.Random``, NumPy's."""

    def random(self) -> float: ...


Generator = torch.Generator | HasRandom | Callable[[], float]
Generators = Generator | Sequence[Generator] | None


def draw(logits: Tensor, u: Tensor) -> Tensor:
    """Draw one token a row by inversion: the first id whose cumulative probability exceeds u.

    One uniform number decides one token, by a rule that any language can repeat in doubles: with
    wᵢ = exp(logitᵢ − max) and cᵢ = w₀ + … + wᵢ, added in the order of ids, the token is the
    first i with cᵢ > u · c_last.

    Args:
        logits: (batch, vocab_size); −∞ is never drawn.
        u: (batch,) in [0, 1).

    Returns:
        token ids, (batch,).

    >>> draw(torch.tensor([[0.5, 0.25, 0.25]]).log(), torch.tensor([0.6]))
    tensor([1])
    """
    # Apple's mps has no float64.
    wide = logits.float() if logits.device.type == "mps" else logits.double()
    # Where nothing is left all is NaN, and the caller will say so.
    return by_inversion((wide - wide.amax(dim=-1, keepdim=True)).exp(), u)


def uniforms(generator: Generators, batch: int) -> Tensor:
    """One number in [0, 1) for each row, in the order of rows: (batch,) float64 on the CPU.

    Args:
        generator: the source; torch's default generator if None. A sequence has one for each
            row.

    Raises:
        TypeError, ValueError: a source that gives no number, or one outside [0, 1).
    """
    if generator is None or isinstance(generator, torch.Generator):
        device = "cpu" if generator is None else generator.device
        on_mps = torch.device(device).type == "mps"
        dtype = torch.float32 if on_mps else torch.float64
        u = torch.rand(batch, generator=generator, device=device, dtype=dtype)
        return u.cpu().double()
    if isinstance(generator, Sequence):
        return torch.cat([uniforms(each, 1) for each in generator])
    random = _numbers_of(generator)
    numbers = [float(random()) for _ in range(batch)]
    for number in numbers:
        if not 0 <= number < 1:
            raise ValueError(f"generator must give numbers from 0 to below 1, got {number}")
    return torch.tensor(numbers, dtype=torch.float64)


def _numbers_of(generator: HasRandom | Callable[[], float]) -> Callable[[], float]:
    """The function that gives the next number."""
    random = generator.random if hasattr(generator, "random") else generator
    if not callable(random):
        raise TypeError(
            "generator must be a torch.Generator, something with random() in [0, 1), or one of "
            f"these for each row, got {type(generator).__name__}"
        )
    return random


def check_generators(generator: Generators, batch: int, *, sampling: bool) -> None:
    """The generator, if there is one, has something to do, and is one or one for each row."""
    if generator is not None and not sampling:
        raise ValueError("generator has nothing to draw in greedy search: give a temperature too")
    if isinstance(generator, Sequence) and len(generator) != batch:
        raise ValueError(
            f"generator must be one or one for each of {batch} rows, got {len(generator)}"
        )
    for each in generator if isinstance(generator, Sequence) else [generator]:
        if each is not None and not isinstance(each, torch.Generator):
            _numbers_of(each)


class PortableGenerator:
    """Random numbers that are the same in every language: mulberry32, 32-bit whole numbers only.

    The state is a counter that grows by 0x6D2B79F5; a number is the counter, mixed (Tommy
    Ettinger's mulberry32, public domain). In JavaScript::

        a = (a + 0x6D2B79F5) | 0;
        let t = Math.imul(a ^ (a >>> 15), a | 1);
        t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
        return ((t ^ (t >>> 14)) >>> 0) / 4294967296;

    So a page can write the very poem that a notebook wrote. For statistics take a
    ``torch.Generator``: the period here is 2³².

    Args:
        seed: an integer, 0 ≤ seed < 2³².

    >>> PortableGenerator(0).random()
    0.26642920868471265
    """

    def __init__(self, seed: int = 0) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise ValueError(f"seed must be an integer from 0 to 2**32 - 1, got {seed!r}")
        self._state = seed

    def random(self) -> float:
        """The next number, in [0, 1), a multiple of 2⁻³²."""
        word = 0xFFFFFFFF  # & word: as if all were 32 bits wide
        self._state = a = (self._state + 0x6D2B79F5) & word
        t = ((a ^ a >> 15) * (a | 1)) & word
        t ^= (t + (t ^ t >> 7) * (t | 61)) & word
        return (t ^ t >> 14) / 2**32
