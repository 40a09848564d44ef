"""Training: one loop for every model, which may be stopped at any moment and resumed exactly.

`train` asks for three things: a model, batches, and a loss function, which says what the model is
to do with a batch::

    batches = Batches(train_ids, batch_size=64, seed=1)     # train_ids: (examples, n + 1)
    config = TrainConfig(max_steps=2000, learning_rate=1e-3, warmup_steps=100)
    result = train(model, batches, config, loss_fn=language_model_loss, directory="runs/poems")

**Exact resume.** Everything that happens in a step is a function of its number: which
examples it reads (`Batches`), its learning rate (`learning_rate_at`), its random numbers (seeded
for each batch, and each process, from ``config.seed``). So weights, AdamW's moments and the number
of the step are all there is to remember. A run that was killed ends with the same bits as
one that was not.

**Exact means.** The loss of a step is the mean over all its targets, over however many batches
(``accumulate``) and processes they are spread: a loss function returns a sum and
the number of its targets, not a mean.

**Several processes.** ``torchrun --nproc_per_node=4 script.py`` runs the same script: each process
takes its share of every batch, and only the first writes files.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lmlib._checks import check_choice
from lmlib.training._config import AUTOCAST, TrainConfig
from lmlib.training._data import Batches, BatchSource, epoch_order, split_batch, stack, to_device
from lmlib.training._distributed import World, distributed, sums_of_all, wait_for_all
from lmlib.training._lengths import LengthBatches
from lmlib.training._log import Row, StopSignal, plain_numbers, progress_bar
from lmlib.training._loss import (
    Loss,
    LossFunction,
    checked_loss,
    classification_loss,
    cross_entropy,
    language_model_loss,
    seq2seq_loss,
    summed_cross_entropy,
)
from lmlib.training._optimizer import AdamW, parameter_groups
from lmlib.training._random import process, random_state_kept
from lmlib.training._run import Run
from lmlib.training._schedules import SCHEDULES, learning_rate_at
from lmlib.training._step import Stepper, autocast

__all__ = [
    "SCHEDULES",
    "AdamW",
    "Batches",
    "LengthBatches",
    "Loss",
    "TrainConfig",
    "TrainResult",
    "World",
    "classification_loss",
    "cross_entropy",
    "distributed",
    "epoch_order",
    "evaluate",
    "language_model_loss",
    "learning_rate_at",
    "parameter_groups",
    "seq2seq_loss",
    "split_batch",
    "stack",
    "summed_cross_entropy",
    "train",
]

Callback = Callable[[Row], object]


@dataclass(frozen=True)
class TrainResult:
    """What a run has come to.

    Attributes:
        steps: how many steps have been taken, those before a resume included.
        history: a row every ``log_every`` steps: step, epoch (how often the data have been read;
            None where they have no length), targets (so far), learning_rate (of this step), loss
            (mean per target since the last row), grad_norm (of this step, before clipping; not
            finite where float16 overflowed and the step was skipped), seconds (spent on steps),
            targets_per_second.
        evaluations: a row for each evaluation: step and what `evaluate` returned.
        interrupted: was it asked to stop before its end, and did?
        checkpoint: the newest checkpoint; None without a directory.
    """

    steps: int
    history: list[Row]
    evaluations: list[Row]
    interrupted: bool
    checkpoint: Path | None


def train(
    model: nn.Module,
    batches: Any,
    config: TrainConfig,
    *,
    loss_fn: LossFunction = language_model_loss,
    evaluate_on: Any = None,
    directory: str | os.PathLike[str] | None = None,
    resume: bool | str = "auto",
    on_step: Callback | None = None,
    on_eval: Callback | None = None,
    progress: bool | None = None,
) -> TrainResult:
    """Train ``model``, in place, with AdamW.

    With a ``directory``, "log.csv" and "evaluations.csv" grow there row by row, and checkpoints are
    written. Killed at any moment and started again with the same arguments, the run goes on
    from the newest checkpoint and ends, on the same machine, with the same weights, bit for
    bit, and the same rows but for their times. Called when it has ended, it only loads them.

    A request to stop (Ctrl-C, a notebook's stop button, or the SIGTERM by which a cluster takes its
    machine back) takes effect when the step is done: a checkpoint is written and the result so far
    returned, with ``interrupted`` set. A second Ctrl-C raises KeyboardInterrupt at once.

    Afterwards the model is in the mode it was found in, training or not, and the global random
    numbers go on as if nothing had been trained.

    Args:
        model: any module, on the device where it is to be trained.
        batches: `Batches`; or a function from a batch's number, 0, 1, …, to the batch; or a
            sequence of ready batches, taken in turn. A function must depend on nothing else
            but the global random numbers, which are seeded before it is called. Tensors are moved
            to the model's device.
        config: steps, learning rate, and so on.
        loss_fn: from ``(model, batch)`` to a `Loss`; with ``config.label_smoothing`` it is
            given that too, by name.
        evaluate_on: batches for `evaluate`, with a length; or a function from the model, in
            evaluation mode, to a dict of numbers (called on every process, without gradients).
        directory: where the run lives; all processes must see it.
        resume: "auto": go on if ``directory`` holds a checkpoint; True: it must; False: it must
            not.
        on_step: called after every step, on the first process, with step, learning_rate,
            loss, grad_norm.
        on_eval: called after every evaluation, on the first process, with its row.
        progress: a bar on standard error: True, False, or None for where that is a terminal.

    Returns:
        The history of the run, from its very beginning.

    Raises:
        FloatingPointError: loss or gradient is not finite. The weights are those before the step.
        OSError: a file cannot be written, for the disk is full, say. Older checkpoints are whole.
        TypeError, ValueError: an argument is not allowed; or the directory holds a run with
            another config, data or model.
    """
    distributed()
    _check_evaluate_on(evaluate_on)
    source = BatchSource(batches)
    max_steps = config.total_steps(source.length)
    stepper = Stepper(model, source, config, loss_fn)
    run = Run(model, stepper, source, config, directory, resume)
    is_main = process()[0] == 0
    interrupted = False
    with (
        StopSignal() as stop,
        modes_kept(model),
        random_state_kept(stepper.device),
        progress_bar(max_steps, run.step, progress, is_main) as bar,
    ):
        while run.step < max_steps and not interrupted:
            started = time.perf_counter()
            model.train()
            learning_rate = config.learning_rate_at(run.step, max_steps)
            with _explained(run, learning_rate):
                stepper.zero_grad()
                for batch in stepper.batches(run.step):  # as many as config.accumulate says
                    loss = stepper.loss(batch)
                    stepper.backward(loss)
                total = stepper.total(stop.wanted)
                grad_norm = stepper.clip()
                stepper.update(learning_rate)
            run.count(total, time.perf_counter() - started)

            interrupted = total.stop and run.step < max_steps
            ended = run.step == max_steps
            if ended or _due(run.step, config.log_every):
                row = run.log(learning_rate, grad_norm)
                bar.set_postfix(loss=f"{row['loss']:.4f}", refresh=False)
            bar.update()
            if on_step is not None and is_main:
                row = {"step": run.step, "learning_rate": learning_rate}
                on_step({**row, "loss": total.loss, "grad_norm": grad_norm})
            if evaluate_on is not None and (ended or _due(run.step, config.eval_every)):
                row = {"step": run.step, **_evaluate(model, evaluate_on, loss_fn, config)}
                run.evaluations.add(row)
                if on_eval is not None and is_main:
                    on_eval(dict(row))
            if ended or interrupted or _due(run.step, config.save_every):
                run.save()
        wait_for_all(stepper.device)
    return TrainResult(
        run.step, run.history.rows, run.evaluations.rows, interrupted, run.checkpoint
    )


def evaluate(
    model: nn.Module,
    batches: Iterable[Any],
    loss_fn: LossFunction = language_model_loss,
    *,
    autocast_to: str | None = None,
) -> dict[str, float]:
    """The mean loss of a target, without dropout and without gradients.

    Under several processes each takes a part of the work, and all return the result of the whole.

    Args:
        model: any module; its mode afterwards is that before.
        batches: `Batches` (its first epoch) or anything that yields batches, the same on every
            process.
        loss_fn: from ``(model, batch)`` to a `Loss`.
        autocast_to: compute in "bfloat16" or "float16".

    Returns:
        "loss", the mean over all targets; "perplexity", its exponential; "targets", their number;
        and each of the loss function's metrics, as a mean over the targets.

    Raises:
        TypeError, ValueError: there is no batch or no target, or an argument is not allowed.
    """
    check_choice("autocast_to", autocast_to, AUTOCAST)
    rank, world_size = process()
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    sums: dict[str, float] = {}
    with modes_kept(model), torch.no_grad(), autocast(device, autocast_to):
        model.eval()
        for number, batch in enumerate(batches):
            # Batches has shared out already; None means that this process has no part.
            if batch is None or (not isinstance(batches, Batches) and number % world_size != rank):
                continue
            loss = checked_loss(loss_fn(model, to_device(batch, device)))
            for name, value in {"loss": loss.sum, "targets": loss.targets, **loss.metrics}.items():
                sums[name] = sums.get(name, 0.0) + float(value)
    sums = sums_of_all(sums)
    if not sums:
        raise ValueError("batches must hold at least one batch, got none")
    targets = sums.pop("targets")
    if not targets:
        raise ValueError("batches must hold at least one target, loss_fn counted none")
    loss_of_a_target = sums.pop("loss") / targets
    # exp overflows at 709.8, where nobody asks how perplexed exactly.
    perplexity = math.exp(loss_of_a_target) if loss_of_a_target < 700 else math.inf
    metrics = {name: total / targets for name, total in sums.items()}
    return {
        "loss": loss_of_a_target,
        "perplexity": perplexity,
        "targets": int(targets),
        **metrics,
    }


@contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """Afterwards every submodule is in the mode, training or not, in which it was."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


@contextmanager
def _explained(run: Run, learning_rate: float) -> Iterator[None]:
    """Numbers that are not finite are reported with where it was and what may help."""
    try:
        yield
    except FloatingPointError as error:
        message = (
            f"{error}, at step {run.step + 1} with learning rate {learning_rate:.3g}; a lower "
            "learning_rate, a longer warm-up or a smaller clip_norm may help"
        )
        if run.checkpoint is not None:
            message += f"; the last good checkpoint is {run.checkpoint}"
        raise FloatingPointError(message) from None


def _check_evaluate_on(evaluate_on: Any) -> None:
    if evaluate_on is None or callable(evaluate_on):
        return
    if not hasattr(evaluate_on, "__len__"):
        raise TypeError(
            "evaluate_on must be batches with a length, to be gone through again, or a function "
            f"of the model, got {type(evaluate_on).__name__}"
        )
    if not len(evaluate_on):
        raise ValueError("evaluate_on must hold at least one batch, got none")


def _evaluate(
    model: nn.Module, evaluate_on: Any, loss_fn: LossFunction, config: TrainConfig
) -> Mapping[str, float]:
    if callable(evaluate_on) and not isinstance(evaluate_on, Batches):
        with modes_kept(model), torch.no_grad():
            model.eval()
            return plain_numbers(evaluate_on(model))
    return evaluate(model, evaluate_on, loss_fn, autocast_to=config.autocast)
