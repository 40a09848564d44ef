"""Checkpoints: whole or not there, of the same run or refused, and never pickled."""

from __future__ import annotations

import errno
import io
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training_scripts.small_runs import random_ids, small_gpt, weights

from lmlib.training import Batches, TrainConfig, _checkpoint, parameter_groups, train
from lmlib.training._checkpoint import (
    checkpoints,
    load_checkpoint,
    pack,
    save_checkpoint,
    unpack,
)

CONFIG = TrainConfig(max_steps=6, log_every=4, save_every=2, learning_rate=0.01)
IDS = random_ids(10, 6)


def run(directory: Path, config: TrainConfig = CONFIG, **options: Any) -> nn.Module:
    model = options.pop("model", None) or small_gpt()
    train(
        model,
        options.pop("batches", None) or Batches(IDS, 4),
        config,
        directory=directory,
        **options,
    )
    return model


def steps(directory: Path) -> list[int]:
    return [step for step, _ in checkpoints(directory)]


def stop_after(step: int) -> Any:
    def on_step(row: dict[str, Any]) -> None:
        if row["step"] == step:
            raise RuntimeError("stopped")

    return on_step


def half_a_run(directory: Path, **options: Any) -> None:
    with pytest.raises(RuntimeError, match="stopped"):
        run(directory, on_step=stop_after(5), **options)


# ------------------------------------------------------------------ the file


@pytest.mark.parametrize(("keep", "left"), [(1, [6]), (2, [4, 6]), (None, [2, 4, 6])])
def test_the_newest_are_kept(keep: int | None, left: list[int], tmp_path: Path) -> None:
    run(tmp_path, replace(CONFIG, keep=keep))
    assert steps(tmp_path) == left
    assert checkpoints(tmp_path)[-1][1] == tmp_path / "checkpoint-00000006.safetensors"
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"log.csv", *(f"checkpoint-{step:08d}.safetensors" for step in left)}


def test_a_file_holds_tensors_and_json(tmp_path: Path) -> None:
    tensors = {
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 2),
        "half": torch.randn(3, dtype=torch.float32).bfloat16(),
        "transposed": torch.arange(6).reshape(2, 3).T,
        "view": (base := torch.arange(4.0))[1:],
        "base": base,
    }
    state = {"config": {"名": [1, None, 0.1]}, "nan": 2.0**-1074}
    path = save_checkpoint(tmp_path / "new", 12, tensors, state)
    loaded, read = load_checkpoint(path)
    assert {k: v for k, v in read.items() if k in state} == state
    assert read["step"] == 12
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(loaded[name], tensor)
        assert loaded[name].dtype == tensor.dtype


def test_nothing_is_pickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: Any, **options: Any) -> None:
        raise AssertionError("pickle was used")

    for name in ("dump", "dumps", "load", "loads", "Pickler", "Unpickler"):
        monkeypatch.setattr(f"pickle.{name}", never)
    monkeypatch.setattr(torch, "load", never)
    monkeypatch.setattr(torch, "save", never)
    half_a_run(tmp_path)
    run(tmp_path)
    header = (tmp_path / "checkpoint-00000006.safetensors").read_bytes()
    length = int.from_bytes(header[:8], "little")
    assert json.loads(header[8 : 8 + length])["__metadata__"].keys() == {"state"}


@pytest.mark.parametrize("left", [0, 5, 8, 200, -1])
def test_a_cut_file_is_passed_over(left: int, tmp_path: Path) -> None:
    expected = weights(run(tmp_path / "whole"))
    half_a_run(tmp_path / "cut")
    assert steps(tmp_path / "cut") == [2, 4]
    newest = tmp_path / "cut" / "checkpoint-00000004.safetensors"
    newest.write_bytes(newest.read_bytes()[:left])
    assert steps(tmp_path / "cut") == [2]
    with pytest.raises(ValueError, match=r"checkpoint-00000004.safetensors is not a whole checkp"):
        load_checkpoint(newest)
    resumed = weights(run(tmp_path / "cut", model=small_gpt(seed=3)))
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in expected.items())
    assert steps(tmp_path / "cut") == [4, 6]


def test_other_files_are_not_mistaken_for_checkpoints(tmp_path: Path) -> None:
    (tmp_path / ".checkpoint-00000009.safetensors.tmp").write_bytes(b"half")
    (tmp_path / "checkpoint-x.safetensors").write_bytes(b"")
    (tmp_path / "checkpoint-00000007.safetensors").mkdir()
    assert checkpoints(tmp_path) == []
    assert checkpoints(tmp_path / "nowhere") == []
    run(tmp_path)
    # What a killed run left half written is cleared away.
    assert not list(tmp_path.glob(".*"))


def test_files_of_others(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "model.safetensors"
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="not a whole checkpoint of lmlib"):
        load_checkpoint(path)
    save_file({"x": torch.zeros(1)}, path, metadata={"state": json.dumps({"format": 99})})
    with pytest.raises(ValueError, match="has format 99, this version of lmlib reads 1"):
        load_checkpoint(path)


def test_the_order_of_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows, then the file, reach the disk before the name does; older ones go last of all."""
    events: list[str] = []

    def noted(name: str, function: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            events.append(name)
            return function(*args, **options)

        return call

    config = replace(CONFIG, max_steps=2, save_every=1, log_every=1, keep=1)
    run(tmp_path / "a", config)  # whatever is imported at the first use
    monkeypatch.setattr(_checkpoint.os, "fsync", noted("fsync", os.fsync))
    monkeypatch.setattr(_checkpoint.os, "replace", noted("replace", os.replace))
    monkeypatch.setattr(Path, "unlink", noted("unlink", Path.unlink))
    run(tmp_path / "b", config)
    # log, file, name, directory; and again, and the older one deleted
    one = ["fsync", "fsync", "replace", "fsync"]
    assert events == [*one, *one, "unlink"]


@pytest.mark.parametrize("fails", ["write", "fsync", "replace"])
def test_a_full_disk_costs_only_the_newest_checkpoint(
    fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = weights(run(tmp_path / "whole"))
    directory = tmp_path / "full"

    def full(*args: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            super().write(data[:100])
            full()
            return 0

    def fill(row: dict[str, Any]) -> None:
        if row["step"] == 4:
            if fails == "write":
                monkeypatch.setattr(_checkpoint, "open", Full, raising=False)
            else:
                monkeypatch.setattr(_checkpoint.os, fails, full)

    # Without rows of its own in the way: they are brought to the disk before.
    with pytest.raises(
        OSError,
        match=r"checkpoint-00000004.safetensors \([\d,]+ bytes\) could not be written: No space "
        "left on device; older checkpoints are as they were",
    ) as error:
        run(directory, replace(CONFIG, log_every=6), on_step=fill)
    assert error.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert [path.name for path in directory.iterdir()] == ["checkpoint-00000002.safetensors"]
    resumed = weights(run(directory, replace(CONFIG, log_every=6), model=small_gpt(seed=3)))
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in expected.items())


# ------------------------------------------------------------------ a model and its optimizer


def test_pack_and_unpack_are_inverse() -> None:
    def make(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        model = nn.Sequential(small_gpt(seed=seed), nn.BatchNorm1d(20).double())
        model[0].positions.weight.requires_grad_(False)
        return model, torch.optim.AdamW(parameter_groups(model, 0.1), fused=True)

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, ids: Tensor) -> None:
        optimizer.zero_grad()
        model[1](model[0](ids).transpose(1, 2)).square().sum().backward()
        optimizer.step()

    model, optimizer = make(0)
    step(model, optimizer, IDS)
    tensors = {name: tensor.clone() for name, tensor in pack(model, optimizer).items()}
    assert "model.0.head.weight" not in tensors  # it is the embedding
    assert "model.1.running_mean" in tensors
    other, other_optimizer = make(1)
    unpack(tensors, other, other_optimizer)
    for a, b in ((model, optimizer), (other, other_optimizer)):
        step(a, b, IDS + 0)
    expected = pack(model, optimizer)
    assert all(torch.equal(t, expected[n]) for n, t in pack(other, other_optimizer).items())


# ------------------------------------------------------------------ resuming


def test_resumed_is_uninterrupted(tmp_path: Path) -> None:
    expected = weights(run(tmp_path / "whole"))
    half_a_run(tmp_path / "half")
    assert (tmp_path / "half/log.csv").read_text().count("\n") == 2
    calls: list[Any] = []
    resumed = run(tmp_path / "half", model=small_gpt(seed=4), on_step=calls.append)
    assert [row["step"] for row in calls] == [5, 6]
    assert all(torch.equal(tensor, weights(resumed)[name]) for name, tensor in expected.items())


def test_the_scale_of_float16_is_remembered(tmp_path: Path) -> None:
    config = replace(CONFIG, autocast="float16")
    expected = weights(run(tmp_path / "whole", config, model=nn_of(0)))
    with pytest.raises(RuntimeError, match="stopped"):
        run(tmp_path / "half", config, model=nn_of(0), on_step=stop_after(5))
    resumed = weights(run(tmp_path / "half", config, model=nn_of(1)))
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in expected.items())
    states = [
        load_checkpoint(tmp_path / d / "checkpoint-00000006.safetensors")[1]
        for d in ("whole", "half")
    ]
    assert states[0]["scaler"] == states[1]["scaler"]
    assert states[0]["scaler"]["_growth_tracker"] == 6


def nn_of(seed: int) -> nn.Module:
    return small_gpt(torch.float32, seed=seed)


def test_a_run_that_has_ended_is_only_loaded(tmp_path: Path) -> None:
    expected = weights(run(tmp_path))
    other, calls = small_gpt(seed=4), []
    result = train(other, Batches(IDS, 4), CONFIG, directory=tmp_path, on_step=calls.append)
    assert (calls, result.steps, result.interrupted) == ([], 6, False)
    assert [row["step"] for row in result.history] == [4, 6]
    assert all(torch.equal(tensor, weights(other)[name]) for name, tensor in expected.items())


def test_rows_of_a_run_killed_before_its_first_checkpoint_are_dropped(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("step,loss\n4,1.0\n5,")
    run(tmp_path)
    text = (tmp_path / "log.csv").read_text()
    assert text.startswith("step,epoch,")
    assert text.count("\n") == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"config": replace(CONFIG, learning_rate=0.02, accumulate=2)},
            "another config: accumulate was 1, is 2; learning_rate was 0.01, is 0.02; choose",
        ),
        ({"config": replace(CONFIG, max_steps=7)}, "another config: max_steps was 6, is 7"),
        ({"batches": Batches(IDS, 5)}, "another data: batch_size was 4, is 5"),
        ({"batches": Batches(IDS[:9], 4)}, "another data: examples was 10, is 9"),
        ({"batches": Batches(IDS, 4, seed=1)}, "another data: seed was 0, is 1"),
        ({"batches": [IDS]}, "another data: .*batches was None, is 1"),
        (
            {"model": small_gpt(d_model=10)},
            r"there embedding.weight has shape \(20, 8\), here \(20, 10\)",
        ),
        (
            {"model": small_gpt(torch.float32)},
            "there embedding.weight has dtype torch.float64, here torch.float32",
        ),
        ({"model": small_gpt(num_layers=3)}, "only the model has layers.2.feed_forward"),
        ({"model": small_gpt(num_layers=1)}, "only the checkpoint has layers.1.feed_forward"),
        ({"resume": False}, "resume=False, but .* holds a run of 4 steps: resume it, or choose"),
    ],
)
def test_a_run_of_something_else_is_refused(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    half_a_run(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=message):
        run(tmp_path, **options)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_may_change_when_resuming(tmp_path: Path) -> None:
    expected = weights(run(tmp_path / "whole"))
    half_a_run(tmp_path / "half")
    resumed = run(tmp_path / "half", replace(CONFIG, save_every=1, keep=None))
    assert steps(tmp_path / "half") == [2, 4, 5, 6]
    assert all(torch.equal(tensor, weights(resumed)[name]) for name, tensor in expected.items())


def test_a_log_that_was_cut_is_noticed(tmp_path: Path) -> None:
    half_a_run(tmp_path)
    (tmp_path / "log.csv").write_text("step\n")
    with pytest.raises(ValueError, match=r"log.csv must have the \d+ bytes it had at the last ch"):
        run(tmp_path)


def test_resume_may_be_demanded(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="resume=True, but there is no checkpoint in"):
        run(tmp_path, resume=True)
    half_a_run(tmp_path, resume=False)
    run(tmp_path, resume=True)
    assert steps(tmp_path) == [4, 6]
