"""One step of training: batches to gradients to an update; see `lmlib.training.train`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lmlib.training._config import TrainConfig
from lmlib.training._data import BatchSource, has_parameter, to_device
from lmlib.training._distributed import data_parallel, sum_over_processes
from lmlib.training._loss import LossFunction, checked_loss
from lmlib.training._optimizer import parameter_groups
from lmlib.training._random import derived_seed, process, seed_all

# Below it a float16 gradient is not finite at any scale.
MIN_SCALE = 2.0**-14


class StepTotal(NamedTuple):
    """What the batches of one step came to, on all processes together.

    Attributes:
        loss_sum: the training loss, summed over the targets.
        targets: how many targets.
        stop: has any process been asked to stop?
    """

    loss_sum: float
    targets: int
    stop: bool

    @property
    def loss(self) -> float:
        """The mean loss of a target."""
        return self.loss_sum / self.targets


class _LossOf(nn.Module):
    """Model and loss as one module, so that one forward pass of it gives the loss.

    Under several processes it, and not the model, is what gradients are averaged for. So a loss
    function sees the model as it is and may use any of its methods.
    """

    def __init__(self, model: nn.Module, loss_fn: LossFunction) -> None:
        super().__init__()
        self.model = model
        self._loss_fn = loss_fn

    def forward(self, batch: Any, counts: bool) -> tuple[Tensor, Tensor]:
        loss = checked_loss(self._loss_fn(self.model, batch))
        if not loss.sum.requires_grad:
            raise ValueError("loss_fn must return a sum that depends on the model's parameters")
        targets = torch.as_tensor(loss.targets, device=loss.sum.device)
        return (loss.sum, targets) if counts else (loss.sum * 0, targets * 0)


class Stepper:
    """The parts of a step, which `lmlib.training.train` calls one after the other.

    Attributes:
        device: where the model is.
        optimizer: AdamW.
        scaler: of the loss under "float16", else switched off.
    """

    def __init__(
        self, model: nn.Module, source: BatchSource, config: TrainConfig, loss_fn: LossFunction
    ) -> None:
        groups = parameter_groups(model, config.weight_decay)
        self._parameters = [p for group in groups for p in group["params"]]
        self.device = self._parameters[0].device
        self._source, self._config = source, config
        fused = self.device.type in ("cpu", "cuda")
        self.optimizer = torch.optim.AdamW(
            groups, lr=config.learning_rate, betas=config.betas, eps=config.eps, fused=fused
        )
        enabled = config.autocast == "float16"
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=enabled)
        self._loss_of = data_parallel(_LossOf(model, with_label_smoothing(loss_fn, config)))
        exact = torch.float32 if self.device.type == "mps" else torch.float64
        self._step = 0
        # Of the step so far, on this process: loss, targets.
        self._totals = torch.zeros(2, dtype=exact, device=self.device)
        # Of the step, on all processes: by it the gradients are divided; set by its first batch.
        self._assumed_targets: Tensor | None = None

    def zero_grad(self) -> None:
        """Forget the gradients of the step before."""
        self.optimizer.zero_grad(set_to_none=True)
        self._totals.zero_()
        self._assumed_targets = None

    def batches(self, step: int) -> Iterator[tuple[Any, bool]]:
        """This process's share of each batch of a step, and whether it counts.

        Random numbers are a function of the batch: the same whether a run was resumed or not, and
        whatever a callback drew. Data are drawn alike on every process, dropout is not.
        """
        self._step = step
        seed, accumulate = self._config.seed, self._config.accumulate
        rank, world_size = process()
        for number in range(step * accumulate, (step + 1) * accumulate):
            seed_all(derived_seed("data", seed, number), self.device)
            batch, counts = self._source(number)
            batch = to_device(batch, self.device)
            seed_all(derived_seed("model", seed, number, rank), self.device)
            # Only with the last batch do the processes exchange what has gathered.
            last = number == (step + 1) * accumulate - 1
            with nullcontext() if last or world_size == 1 else self._loss_of.no_sync():
                yield batch, counts

    def loss(self, share: tuple[Any, bool]) -> tuple[Tensor, Tensor]:
        """The loss of a share of a batch, summed over its targets, and their number."""
        with autocast(self.device, self._config.autocast):
            return self._loss_of(*share)

    def backward(self, loss: tuple[Tensor, Tensor]) -> None:
        """Add the gradients of the loss of a batch to those of the step."""
        loss_sum, targets = loss
        if self._assumed_targets is None:
            # The mean is over the targets of all batches. How many the later ones have is not
            # known yet: assume as many as the first; `total` puts it right.
            first = sum_over_processes(targets.detach().clone())
            assumed = first.clamp(min=1).to(self._totals.dtype) * self._config.accumulate
            self._assumed_targets = assumed
        # Averaged over the processes by the backward pass, so sum = average · world_size.
        mean = loss_sum * (process()[1] / self._assumed_targets).to(loss_sum.dtype)
        self.scaler.scale(mean).backward()
        exact = self._totals.dtype
        self._totals += torch.stack([loss_sum.detach().to(exact), targets.to(exact)])

    def total(self, stop: bool) -> StepTotal:
        """What all processes have; from here on the gradients are of the mean over its targets.

        Args:
            stop: has this process been asked to stop?

        Raises:
            FloatingPointError: the loss is not finite.
            ValueError: no batch of the step has a target.
        """
        wish = torch.full_like(self._totals[:1], float(stop))
        sums = sum_over_processes(torch.cat([self._totals, wish])).tolist()
        total = StepTotal(sums[0], int(sums[1]), sums[2] > 0)
        if not total.targets:
            raise ValueError(f"step {self._step + 1} has no target: loss_fn counted none in it")
        if not math.isfinite(total.loss_sum):
            raise FloatingPointError(f"the loss is {total.loss_sum}")
        if self._config.accumulate > 1:
            assert self._assumed_targets is not None
            factor = self._assumed_targets / total.targets
            for parameter in self._parameters:
                if parameter.grad is not None:
                    parameter.grad *= factor.to(parameter.grad.dtype)
        return total

    def clip(self) -> float:
        """Shorten the gradient to ``clip_norm``; how long it was.

        Raises:
            FloatingPointError: it is not finite, and no scale is to blame.
        """
        self.scaler.unscale_(self.optimizer)
        longest = math.inf if self._config.clip_norm is None else self._config.clip_norm
        norm = float(nn.utils.clip_grad_norm_(self._parameters, longest))
        if not math.isfinite(norm) and not self.scaler.is_enabled():
            raise FloatingPointError(f"the gradient has norm {norm}, though the loss is finite")
        return norm

    def update(self, learning_rate: float) -> None:
        """Change the weights, unless the gradient overflowed because the loss was scaled.

        Raises:
            FloatingPointError: it would overflow at any scale.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.scaler.is_enabled() and self.scaler.get_scale() < MIN_SCALE:
            raise FloatingPointError("no scale makes the float16 gradient finite")


def with_label_smoothing(loss_fn: LossFunction, config: TrainConfig) -> Callable[..., Any]:
    """``loss_fn`` for training, with the label smoothing of the config.

    Raises:
        ValueError: it is asked for, and ``loss_fn`` has no such parameter.
    """
    if not config.label_smoothing:
        return loss_fn
    if not has_parameter(loss_fn, "label_smoothing"):
        raise ValueError(
            f"label_smoothing={config.label_smoothing} needs a loss_fn with a parameter "
            "label_smoothing"
        )
    return partial(loss_fn, label_smoothing=config.label_smoothing)


def autocast(device: torch.device, dtype: str | None) -> torch.autocast:
    """Inside, matrix products are computed in ``dtype``, "bfloat16" or "float16"; None: as is."""
    wanted = None if dtype is None else getattr(torch, dtype)
    return torch.autocast(device.type, dtype=wanted, enabled=dtype is not None)
