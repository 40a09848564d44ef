"""Everything that fixes a training run; use it as `lmlib.training.TrainConfig`."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from lmlib._checks import check_choice, check_not_negative, check_positive
from lmlib._checks import check_probability as check_rate
from lmlib.training._schedules import SCHEDULES, learning_rate_at

AUTOCAST = (None, "bfloat16", "float16")
# What may differ between the two halves of a resumed run: it changes no weight and no row.
FREE_TO_CHANGE = ("save_every", "keep")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that fixes a training run, but for the model and the data.

    Attributes:
        max_steps: number of steps, each one update of the weights. Give this or ``epochs``.
        epochs: how often to go through the data; the last step may reach into the next epoch.
        learning_rate: the highest of the schedule.
        schedule: "cosine", "linear", "constant" or "inverse_sqrt": see `learning_rate_at`.
        warmup_steps: how many steps the learning rate climbs.
        min_learning_rate: where the schedule ends.
        weight_decay: λ of AdamW, on matrices only: see `parameter_groups`.
        betas: β₁ and β₂ of AdamW.
        eps: ε of AdamW.
        clip_norm: the norm to which a longer gradient is shortened (Pascanu et al. 2013,
            Algorithm 1); None for never.
        accumulate: how many batches make one step.
        label_smoothing: ε handed to the loss function in training, never in evaluation.
        autocast: compute in "bfloat16", or in "float16" with a scaled loss (Micikevicius et al.
            2018, §3); weights stay as they are. None for neither.
        log_every: a row of history every so many steps, and after the last.
        eval_every: evaluate every so many steps, and after the last; None: only after the last.
        save_every: a checkpoint every so many steps, and after the last; None: only after the last.
        keep: how many checkpoints to keep; None for all.
        seed: of all random numbers drawn while training.

    Raises:
        TypeError, ValueError: a value is not allowed, or two do not fit each other.
    """

    max_steps: int | None = None
    epochs: int | None = None
    learning_rate: float = 3e-4
    schedule: str = "cosine"
    warmup_steps: int = 0
    min_learning_rate: float = 0.0
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    clip_norm: float | None = 1.0
    accumulate: int = 1
    label_smoothing: float = 0.0
    autocast: str | None = None
    log_every: int = 10
    eval_every: int | None = None
    save_every: int | None = None
    keep: int | None = 2
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.max_steps is None) == (self.epochs is None):
            raise ValueError(
                "give either max_steps or epochs, "
                f"got max_steps={self.max_steps}, epochs={self.epochs}"
            )
        for name in ("max_steps", "epochs", "eval_every", "save_every", "keep"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))
        for name in ("accumulate", "log_every"):
            check_positive(name, getattr(self, name))
        for name in ("warmup_steps", "seed"):
            check_not_negative(name, getattr(self, name))
        for name in ("learning_rate", "min_learning_rate", "weight_decay", "eps"):
            _check_size(name, getattr(self, name))
        if self.min_learning_rate > self.learning_rate:
            raise ValueError(
                f"min_learning_rate must be at most learning_rate={self.learning_rate}, "
                f"got {self.min_learning_rate}"
            )
        if self.clip_norm is not None:
            _check_size("clip_norm", self.clip_norm, above_zero=True)
        # Read back from JSON, or written by hand, it may be a list.
        object.__setattr__(self, "betas", tuple(self.betas))
        if len(self.betas) != 2:
            raise ValueError(f"betas must be two numbers, got {self.betas}")
        for beta in self.betas:
            check_rate("betas", beta)
        check_rate("label_smoothing", self.label_smoothing)
        check_choice("schedule", self.schedule, SCHEDULES)
        check_choice("autocast", self.autocast, AUTOCAST)
        if self.max_steps is not None:
            self._check_warmup(self.max_steps)

    def total_steps(self, epoch_length: int | None = None) -> int:
        """Number of steps of the run.

        Args:
            epoch_length: batches in one epoch, where there are epochs.

        Raises:
            ValueError: ``epochs`` are asked for and there are none, or warm-up takes longer.
        """
        if self.max_steps is not None:
            return self.max_steps
        if epoch_length is None:
            raise ValueError("batches has no length, so give max_steps and not epochs")
        assert self.epochs is not None
        total = -(-self.epochs * epoch_length // self.accumulate)
        self._check_warmup(total)
        return total

    def learning_rate_at(self, step: int, max_steps: int | None = None) -> float:
        """The learning rate of one step, from 0: see `lmlib.training.learning_rate_at`."""
        return learning_rate_at(
            step,
            max_steps=self.total_steps() if max_steps is None else max_steps,
            learning_rate=self.learning_rate,
            schedule=self.schedule,
            warmup_steps=self.warmup_steps,
            min_learning_rate=self.min_learning_rate,
        )

    def to_dict(self) -> dict[str, Any]:
        """Its values, as JSON can hold them."""
        return {**asdict(self), "betas": list(self.betas)}

    def _check_warmup(self, total: int) -> None:
        if self.warmup_steps > total:
            raise ValueError(
                f"warmup_steps must be at most the number of steps, {total}, "
                f"got {self.warmup_steps}"
            )


def _check_size(name: str, value: float, above_zero: bool = False) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    if not math.isfinite(value) or value < 0 or (above_zero and value == 0):
        raise ValueError(
            f"{name} must be finite and {'above 0' if above_zero else 'not negative'}, got {value}"
        )


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two configs, as "name was a, is b"."""
    return [
        f"{name} was {before.get(name)!r}, is {now.get(name)!r}"
        for name in sorted({*before, *now} - set(FREE_TO_CHANGE))
        if before.get(name) != now.get(name)
    ]
