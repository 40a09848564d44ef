"""Learning-rate schedules: functions of the step; see `lmlib.training.learning_rate_at`."""

from __future__ import annotations

import math
from collections.abc import Callable

from lmlib._checks import check_choice, check_not_negative, check_positive


def _constant(step: int, warmup_steps: int, max_steps: int) -> float:
    return 1.0


def _linear(step: int, warmup_steps: int, max_steps: int) -> float:
    return 1.0 - _progress(step, warmup_steps, max_steps)


def _cosine(step: int, warmup_steps: int, max_steps: int) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * _progress(step, warmup_steps, max_steps)))


def _inverse_sqrt(step: int, warmup_steps: int, max_steps: int) -> float:
    return math.sqrt(max(warmup_steps, 1) / (step + 1))


def _progress(step: int, warmup_steps: int, max_steps: int) -> float:
    """How much of the way from the end of warm-up to the end of training is done, 0 to 1."""
    return min(1.0, (step - warmup_steps) / max(1, max_steps - warmup_steps))


SCHEDULES: dict[str, Callable[[int, int, int], float]] = {
    "constant": _constant,
    "linear": _linear,
    "cosine": _cosine,
    "inverse_sqrt": _inverse_sqrt,
}
"""The schedules of `learning_rate_at` by name.

Each maps (step, warmup_steps, max_steps) to a factor of the learning rate, for steps after warm-up.
"""


def learning_rate_at(
    step: int,
    *,
    max_steps: int,
    learning_rate: float,
    schedule: str = "cosine",
    warmup_steps: int = 0,
    min_learning_rate: float = 0.0,
) -> float:
    """The learning rate of one step.

    Over the first ``warmup_steps`` steps it climbs in a straight line to ``learning_rate``; from
    there it falls towards ``min_learning_rate``, which it would reach at ``step = max_steps``, one
    after the last:

    - "constant": it does not fall;
    - "linear": in a straight line;
    - "cosine": along half a period of the cosine (Loshchilov & Hutter 2017, eq. 5);
    - "inverse_sqrt": as 1/√(step + 1), but never below the minimum (Vaswani et al. 2017, §5.3,
      eq. 3, which counts steps from 1).

    >>> [learning_rate_at(s, max_steps=6, learning_rate=1.0, warmup_steps=2) for s in (0, 1, 2, 4)]
    [0.5, 1.0, 1.0, 0.5]

    Args:
        step: how many steps have been taken before this one, from 0.
        max_steps: how many there are.
        learning_rate: the highest.
        schedule: how it falls.
        warmup_steps: how many steps the climb takes; 0 for none.
        min_learning_rate: the lowest after warm-up.

    Raises:
        TypeError, ValueError: a value is not allowed.
    """
    check_not_negative("step", step)
    check_positive("max_steps", max_steps)
    check_choice("schedule", schedule, SCHEDULES)
    check_not_negative("warmup_steps", warmup_steps)
    if step < warmup_steps:
        return learning_rate * (step + 1) / warmup_steps
    factor = SCHEDULES[schedule](step, warmup_steps, max_steps)
    if schedule == "inverse_sqrt":
        return max(min_learning_rate, learning_rate * factor)
    return min_learning_rate + (learning_rate - min_learning_rate) * factor
