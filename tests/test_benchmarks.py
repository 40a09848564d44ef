"""The benchmarks: their measuring is right, and each runs. No time is asserted."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import generation, harness, imports, training  # noqa: E402


class Clock:
    """A clock that only the competitors move."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def __call__(self) -> float:
        return self.now

    def competitor(self, label: str, *seconds: float) -> Callable[[], None]:
        durations = iter(seconds)

        def call() -> None:
            self.calls.append(label)
            self.now += next(durations)

        return call


def test_competitors_take_turns_and_the_ratio_is_taken_in_each_round() -> None:
    clock = Clock()
    competitors = {
        "ours": clock.competitor("ours", 99.0, 1.0, 2.0, 10.0),
        "theirs": clock.competitor("theirs", 99.0, 3.0, 8.0, 20.0),
    }
    found = harness.compare(
        "race", competitors, repeats=3, warmup=1, work=60, unit="tokens", clock=clock
    )
    assert clock.calls == ["ours", "theirs"] * 4
    ours, theirs = found.rows
    assert ours == harness.Row("ours", 2.0, 30.0, 1.0, 1.0, 1.0)
    assert theirs == harness.Row("theirs", 8.0, 7.5, 3.0, 2.5, 3.5)
    assert str(found).splitlines() == [
        "### race",
        "",
        "|        |     ms | tokens/s | time ÷ first's |   quartiles |",
        "| ------ | -----: | -------: | -------------: | ----------: |",
        "| ours   | 2000.0 |       30 |           1.00 | 1.00 … 1.00 |",
        "| theirs | 8000.0 |        8 |           3.00 | 2.50 … 3.50 |",
    ]


def test_one_round_and_no_work() -> None:
    clock = Clock()
    found = harness.compare("", {"a": clock.competitor("a", 2.0)}, repeats=1, warmup=0, clock=clock)
    assert found.rows == [harness.Row("a", 2.0, None, 1.0, 1.0, 1.0)]


@pytest.mark.parametrize(("competitors", "repeats"), [({}, 3), ({"a": list}, 0)])
def test_nothing_to_compare(competitors: dict[str, Callable[[], object]], repeats: int) -> None:
    with pytest.raises(ValueError, match="compare needs a competitor and a round, got"):
        harness.compare("", competitors, repeats=repeats)


@pytest.mark.skipif(not harness.STATUS.exists(), reason="reads /proc")
def test_peak_memory_is_that_of_the_workload() -> None:
    ballast = bytearray(b"x") * (150 * 2**20)  # of this process: not to be counted
    peak = harness.peak_memory("tests.small_workloads:allocate", 64, calls=2)
    assert 60 < peak < 90
    assert len(ballast) == 150 * 2**20


def test_every_benchmark_is_found() -> None:
    found = harness.benchmarks()
    assert {f"benchmarks.{name}" for name in ("training", "generation", "imports")} <= set(found)
    assert "benchmarks.harness" not in found


@pytest.mark.parametrize("kind", ["lmlib", "train", "transformers", "torch"])
def test_the_competitors_train(kind: str) -> None:
    training.step(kind, vocab_size=50, batch=2, length=8)()


def test_the_competitors_have_the_same_sizes() -> None:
    counts = [
        sum(parameter.numel() for parameter in make(50, 8).parameters())
        for make in (training.gpt, training.gpt2, training.TorchDecoder)
    ]
    assert len(set(counts)) == 1


def test_a_quick_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    for module in (training, generation):
        module.main(["--quick", "--threads", "1"])
    out = capsys.readouterr().out
    assert out.count("###") == 3
    assert "tokens/s" in out
    monkeypatch.setattr(imports, "seconds", lambda statement: (1.0, 0.25))
    imports.main(["--quick"])
    assert "| lmlib " in capsys.readouterr().out
    torch.set_num_threads(threads)
