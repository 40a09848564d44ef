"""kill -9 at any moment: the run resumes, and ends with the same bits as one left alone."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lmlib.training._checkpoint import load_checkpoint

SCRIPT = Path(__file__).parent / "training_scripts" / "killed.py"
TIMES = ("seconds", "targets_per_second")

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")


def outcome(directory: Path) -> tuple[dict[str, torch.Tensor], list[Any], bytes]:
    """All tensors of the last checkpoint, the log but for times, the evaluations."""
    names = sorted(path.name for path in directory.iterdir())
    assert names == [
        "checkpoint-00000009.safetensors",
        "checkpoint-00000011.safetensors",
        "evaluations.csv",
        "log.csv",
    ]
    tensors, state = load_checkpoint(directory / "checkpoint-00000011.safetensors")
    assert state["step"] == 11
    with open(directory / "log.csv", encoding="utf-8", newline="") as file:
        rows = [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]
    return tensors, rows, (directory / "evaluations.csv").read_bytes()


def test_killed_runs_end_like_one_left_alone(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=500,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    kills = json.loads(done.stdout)
    # Any number of lives may come before the first checkpoint; but kills there must have been.
    assert kills["points"] >= 10
    assert kills["random"] >= 1
    expected, rows, evaluations = outcome(tmp_path / "whole")
    assert [row["step"] for row in rows] == ["2", "4", "6", "8", "10", "11"]
    assert evaluations.count(b"\n") == 4
    for name in ("points", "random"):
        tensors, killed_rows, killed_evaluations = outcome(tmp_path / name)
        assert tensors.keys() == expected.keys()
        for key, tensor in expected.items():
            assert tensor.numpy().tobytes() == tensors[key].numpy().tobytes(), (name, key)
        assert killed_rows == rows
        assert killed_evaluations == evaluations
