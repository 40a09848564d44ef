"""Byte-pair merges that no training would give, for the tests of whoever applies them."""

from __future__ import annotations

import random


def random_merges(
    rng: random.Random, symbols: list[str], tries: int
) -> tuple[list[str], list[tuple[str, str]]]:
    """New tokens made of `symbols` and of each other, and their merges in any order.

    So a later merge may make what an earlier one wants.
    """
    tokens, merges = list(symbols), []
    for _ in range(tries):
        left, right = rng.choice(tokens), rng.choice(tokens)
        if left + right not in tokens:
            tokens.append(left + right)
            merges.append((left, right))
    rng.shuffle(merges)
    return tokens[len(symbols) :], merges
