"""One step of training: batches to gradients to an update; see `lmlib.training.train`."""

from __future__ import annotations

import math
from collections.abc import Callable
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


class StepResult(NamedTuple):
    """What one step was, over all processes.

    Attributes:
        loss_sum: the training loss, summed over the targets.
        targets: how many targets.
        grad_norm: length of the gradient of their mean, before clipping.
        stop: has any process been asked to stop?
    """

    loss_sum: float
    targets: int
    grad_norm: float
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
    """Takes the steps of a run: forward, backward, clipping, update.

    Attributes:
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

    def __call__(self, step: int, learning_rate: float, stop: bool = False) -> StepResult:
        """Take one step, the ``step``-th from 0.

        Raises:
            FloatingPointError: the loss or its gradient is not finite; the weights are as before.
            ValueError: no batch of the step has a target.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.zero_grad(set_to_none=True)
        loss_sum, targets, stop = self._backward(step, stop)
        if not targets:
            raise ValueError(f"step {step + 1} has no target: loss_fn counted none in its batches")
        where = f"at step {step + 1}, with learning rate {learning_rate:.3g}"
        if not math.isfinite(loss_sum):
            raise FloatingPointError(f"the loss is {loss_sum} {where}")
        if self._config.accumulate > 1:
            self._rescale(self._assumed_targets / targets)
        self.scaler.unscale_(self.optimizer)
        longest = math.inf if self._config.clip_norm is None else self._config.clip_norm
        norm = float(nn.utils.clip_grad_norm_(self._parameters, longest))
        if not math.isfinite(norm) and not self.scaler.is_enabled():
            raise FloatingPointError(f"the gradient has norm {norm} {where}, the loss is finite")
        self.scaler.step(self.optimizer)  # which does nothing if a scaled gradient overflowed
        self.scaler.update()
        if self.scaler.is_enabled() and self.scaler.get_scale() < MIN_SCALE:
            raise FloatingPointError(f"no scale makes the float16 gradient finite {where}")
        return StepResult(loss_sum, targets, norm, stop)

    def _backward(self, step: int, stop: bool) -> tuple[float, int, bool]:
        """The gradients of all batches of the step; its loss, targets, and the wish to stop."""
        config = self._config
        rank, world_size = process()
        exact = torch.float32 if self.device.type == "mps" else torch.float64
        totals = torch.zeros(3, dtype=exact, device=self.device)
        totals[2] = float(stop)
        for part in range(config.accumulate):
            number = step * config.accumulate + part
            # Random numbers are a function of the batch: the same whether a run was resumed or
            # not, and whatever a callback drew. Data are drawn alike everywhere, dropout is not.
            seed_all(derived_seed("data", config.seed, number), self.device)
            batch, counts = self._source(number)
            batch = to_device(batch, self.device)
            seed_all(derived_seed("model", config.seed, number, rank), self.device)
            last = part == config.accumulate - 1
            with nullcontext() if last or world_size == 1 else self._loss_of.no_sync():
                with autocast(self.device, config.autocast):
                    loss, targets = self._loss_of(batch, counts)
                if part == 0:
                    # The mean is over the targets of all batches. How many the later ones have is
                    # not known yet: assume as many as the first, and put it right in the end.
                    first = sum_over_processes(targets.detach().clone())
                    self._assumed_targets = first.clamp(min=1).to(exact) * config.accumulate
                # Averaged over the processes by the backward pass, so sum = average · world_size.
                mean = loss * (world_size / self._assumed_targets).to(loss.dtype)
                self.scaler.scale(mean).backward()
            totals[:2] += torch.stack([loss.detach().to(exact), targets.to(exact)])
        loss_sum, target_sum, wishes = sum_over_processes(totals).tolist()
        return loss_sum, int(target_sum), wishes > 0

    def _rescale(self, factor: Tensor) -> None:
        for parameter in self._parameters:
            if parameter.grad is not None:
                parameter.grad *= factor.to(parameter.grad.dtype)


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
