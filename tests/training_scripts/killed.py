"""Train in child processes that are killed again and again; print how often each run was, as JSON.

``killed.py DIRECTORY`` leaves three runs there: "whole", which is left alone; "points", whose child
kills itself before, in or after a call that touches the disk, the first such call in its
first life, the second in the next, and so on; and "random", killed by the parent at any moment.

Children are forked, for starting Python and torch takes longer than the whole run.
"""

from __future__ import annotations

import builtins
import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch
import torch._dynamo
from small_runs import masked_ids, small_gpt

from lmlib.training import Batches, TrainConfig, _checkpoint, _log, train


def run(directory: Path) -> None:
    """Everything on that an exact resume could stumble over."""
    model = small_gpt(torch.float32, dropout=0.2, num_layers=1)
    config = TrainConfig(
        max_steps=11,
        learning_rate=0.01,
        warmup_steps=5,
        accumulate=2,
        label_smoothing=0.1,
        log_every=2,
        eval_every=5,
        save_every=3,
    )
    train(
        model,
        Batches(masked_ids(21, 8), 4, seed=1),
        config,
        evaluate_on=Batches(masked_ids(7, 8, seed=2), 3, shuffle=False),
        directory=directory,
    )


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(10)


class Killer:
    """Counts the calls that touch the disk, and dies before, in or after one of them."""

    def __init__(self, at: int) -> None:
        self._left = at
        for module, name in ((os, "fsync"), (os, "replace"), (Path, "unlink")):
            setattr(module, name, self._deadly(getattr(module, name)))
        for module in (_checkpoint, _log):
            module.open = self._open

    def _point(self) -> None:
        self._left -= 1
        if self._left < 0:
            die()

    def _deadly(self, function: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            self._point()
            result = function(*args, **options)
            self._point()
            return result

        return call

    def _open(self, *args: Any, **options: Any) -> Any:
        file = builtins.open(*args, **options)  # noqa: SIM115
        write = file.write

        def half_at_a_time(data: Any) -> None:
            write(data[: len(data) // 2])
            file.flush()
            self._point()
            write(data[len(data) // 2 :])

        class Slow:
            def __enter__(self) -> Any:
                return self

            def __exit__(self, *exception: object) -> None:
                file.close()

            def __getattr__(self, name: str) -> Any:
                return half_at_a_time if name == "write" else getattr(file, name)

        return Slow()


def child(directory: Path, at: int | None = None) -> int:
    """Start a child; its process id."""
    process = os.fork()
    if process:
        return process
    try:
        if at is not None:
            Killer(at)
        run(directory)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def ended(process: int) -> bool:
    """Wait for a child: True when it came to its end, False when it was killed."""
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return False
    if status:
        raise SystemExit("a child failed")
    return True


def main() -> None:
    directory = Path(sys.argv[1])
    kills = {"whole": 0, "points": 0, "random": 0}
    started = time.perf_counter()
    assert ended(child(directory / "whole"))
    took = time.perf_counter() - started
    # Each life goes one point further than the last did, and starts where that left off.
    while not ended(child(directory / "points", at=kills["points"])):
        kills["points"] += 1
    chance = random.Random(7)
    for _ in range(5):
        process = child(directory / "random")
        time.sleep(chance.uniform(0, took / 2))
        os.kill(process, signal.SIGKILL)
        kills["random"] += not ended(process)
    assert ended(child(directory / "random"))
    print(json.dumps(kills))


if __name__ == "__main__":
    main()
