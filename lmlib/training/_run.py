"""Where a training run stands, and how it comes back there; see `lmlib.training.train`."""

from __future__ import annotations

import os
from pathlib import Path

from torch import nn

from lmlib._checks import check_choice
from lmlib.training._checkpoint import (
    checkpoint_path,
    checkpoints,
    load_checkpoint,
    pack,
    remove_leftovers,
    save_checkpoint,
    unpack,
)
from lmlib.training._config import TrainConfig, differences
from lmlib.training._data import BatchSource
from lmlib.training._distributed import from_main
from lmlib.training._log import LogFile, Row
from lmlib.training._random import process
from lmlib.training._step import Stepper, StepTotal


class Run:
    """The state of a run besides weights and optimizer, and the files that hold all of it.

    Attributes:
        step: how many steps have been taken.
        seconds: how long they took.
        targets: how many targets they had.
        history: the rows of "log.csv".
        evaluations: the rows of "evaluations.csv".
    """

    def __init__(
        self,
        model: nn.Module,
        stepper: Stepper,
        source: BatchSource,
        config: TrainConfig,
        directory: str | os.PathLike[str] | None,
        resume: bool | str,
    ) -> None:
        self._model, self._stepper, self._source, self._config = model, stepper, source, config
        self._is_main = process()[0] == 0
        self._directory = None if directory is None else Path(directory)
        self.step, self.seconds, self.targets = 0, 0.0, 0
        # Since the last row of history: loss, targets, seconds.
        self._recent = [0.0, 0, 0.0]
        self._saved_step = -1
        lengths = self._restore(resume)
        paths = {
            name: None if self._directory is None else self._directory / f"{name}.csv"
            for name in ("log", "evaluations")
        }
        self.history = LogFile(paths["log"], lengths.get("log", 0), self._is_main)
        self.evaluations = LogFile(
            paths["evaluations"], lengths.get("evaluations", 0), self._is_main
        )

    def count(self, total: StepTotal, seconds: float) -> None:
        """One more step has been taken."""
        self.step += 1
        self.seconds += seconds
        self.targets += total.targets
        loss, targets, recent = self._recent
        self._recent = [loss + total.loss_sum, targets + total.targets, recent + seconds]

    def log(self, learning_rate: float, grad_norm: float) -> Row:
        """Add a row to the history."""
        loss, targets, seconds = self._recent
        self._recent = [0.0, 0, 0.0]
        epoch_length = self._source.length
        batches = self.step * self._config.accumulate
        row = {
            "step": self.step,
            "epoch": None if epoch_length is None else batches / epoch_length,
            "targets": self.targets,
            "learning_rate": learning_rate,
            "loss": loss / targets,
            "grad_norm": grad_norm,
            "seconds": round(self.seconds, 3),
            "targets_per_second": round(targets / max(seconds, 1e-9), 1),
        }
        self.history.add(row)
        return row

    @property
    def checkpoint(self) -> Path | None:
        """The newest checkpoint of the run, if there is one."""
        if self._directory is None or self._saved_step < 0:
            return None
        return checkpoint_path(self._directory, self._saved_step)

    def save(self) -> None:
        """Write a checkpoint, if there is a directory."""
        if self._directory is None:
            return
        if self._is_main:
            state = {
                "config": self._config.to_dict(),
                "data": self._source.fingerprint(),
                "seconds": self.seconds,
                "targets": self.targets,
                "recent": self._recent,
                "scaler": self._stepper.scaler.state_dict(),
                # On the disk before the checkpoint is, which counts on them.
                "log": self.history.sync(),
                "evaluations": self.evaluations.sync(),
            }
            tensors = pack(self._model, self._stepper.optimizer)
            save_checkpoint(self._directory, self.step, tensors, state, self._config.keep)
        self._saved_step = self.step

    def _restore(self, resume: bool | str) -> dict[str, int]:
        """Go where the newest checkpoint was; how long the files of rows were there."""
        check_choice("resume", resume, ("auto", True, False))
        if self._directory is None:
            if resume is True:
                raise ValueError("resume=True needs the directory of the run, got directory=None")
            return {}
        if self._directory.exists() and not self._directory.is_dir():
            raise ValueError(f"directory must be a directory, got the file {self._directory}")
        found = checkpoints(self._directory)
        # The main process may see a file that another process does not see yet, or no more.
        step = from_main(found[-1][0] if found else -1, self._stepper.device)
        if step < 0 and resume is True:
            raise ValueError(f"resume=True, but there is no checkpoint in {self._directory}")
        if step >= 0 and resume is False:
            raise ValueError(
                f"resume=False, but {self._directory} holds a run of {step} steps: resume it, or "
                "choose another directory"
            )
        if self._is_main and self._directory.exists():
            remove_leftovers(self._directory)
        return {} if step < 0 else self._load(checkpoint_path(self._directory, step))

    def _load(self, path: Path) -> dict[str, int]:
        tensors, state = load_checkpoint(path)
        now = {"config": self._config.to_dict(), "data": self._source.fingerprint()}
        for name, values in now.items():
            different = differences(state[name], values)
            if different:
                raise ValueError(
                    f"{path} is of a run with another {name}: {'; '.join(different)}; "
                    "choose another directory to start anew"
                )
        unpack(tensors, self._model, self._stepper.optimizer)
        self._stepper.scaler.load_state_dict(state["scaler"])
        self.step = self._saved_step = state["step"]
        self.seconds, self.targets = state["seconds"], state["targets"]
        self._recent = state["recent"]
        return {name: state[name] for name in ("log", "evaluations")}
