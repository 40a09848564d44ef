"""Workloads for the tests of the benchmarks; light to import, for a fresh process does."""

from __future__ import annotations

from collections.abc import Callable


def allocate(mebibytes: int) -> Callable[[], object]:
    """What to call holds so much memory for a moment."""
    return lambda: bytearray(b"x") * (mebibytes * 2**20)
