"""What training recipes share: options, exact resume, samples, cards, one writer."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from test_ddp import free_port

from lmlib.export import unpack
from lmlib.gpt import GPT
from lmlib.pretrained import load_pretrained, load_tokenizer
from lmlib.recipes import models
from lmlib.recipes._card import number, render
from lmlib.recipes._curves import csv_text, curve, write_whole
from lmlib.recipes._run import Options, arguments, as_shipped, models_folder
from lmlib.training import TrainConfig

SCRIPTS = Path(__file__).parent / "training_scripts"
sys.path.insert(0, str(SCRIPTS))

import killed_recipe  # noqa: E402

FILES = {
    *("model.safetensors", "config.json", "tokenizer.json"),
    *("log.csv", "samples.json", "card.json", "README.md", "more.csv"),
}


def contents(folder: Path, name: str) -> bytes:
    return (folder / "model" / name).read_bytes()


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "model/log.csv", encoding="utf-8", newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def card(folder: Path) -> dict[str, Any]:
    return json.loads(contents(folder, "card.json"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was left alone."""
    folder = tmp_path_factory.mktemp("recipe")
    killed_recipe.run(folder, None, 0)
    return folder


# ------------------------------------------------------------------ options


def test_the_options_of_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIHAO_LM_CACHE", str(tmp_path))
    threads = torch.get_num_threads()
    try:
        real = arguments("poem_gpt", [], threads=1)
        assert torch.get_num_threads() == 1
        smoke = arguments("poem_gpt", ["--max-steps", "4", "--output", "x"], threads=1)
        given = arguments("poem_gpt", ["--work", "w", "--output", "o", "--threads", "2"])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert real == Options("poem_gpt", models_folder() / "poem_gpt", real.work, 1)
    assert real.work == tmp_path / "models/poem_gpt"
    assert smoke.output == Path("x")
    assert smoke.work not in (real.work, *real.work.parents)
    assert smoke.max_steps == 4
    assert (given.output, given.work, given.threads) == (Path("o"), Path("w"), 2)
    assert real.device.type in ("cpu", "cuda")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--max-steps", "3"], "give another --output"),
        (["--max-steps", "3", "--output", str(models_folder() / "gpt")], "give another --output"),
        (["--max-steps", "3", "--output", str(models_folder() / "x/../gpt")], "another --output"),
        (["--max-steps", "0"], "at least 1, got '0'"),
        (["--threads", "two"], "at least 1, got 'two'"),
    ],
)
def test_options_that_are_not_allowed(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        arguments("gpt", [*argv, "--work", "w"])
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


def test_a_smoke_run_is_short() -> None:
    smoke = Options("x", Path("o"), Path("w"), 1, max_steps=10)
    config = TrainConfig(max_steps=900, warmup_steps=100, log_every=50, eval_every=100)
    short = smoke.shortened(config)
    assert (short.max_steps, short.warmup_steps, short.log_every) == (10, 5, 5)
    assert (short.eval_every, short.save_every) == (5, 5)
    assert smoke.shortened(TrainConfig(epochs=7)).max_steps == 10
    assert smoke.shortened(TrainConfig(max_steps=4)).max_steps == 4
    assert Options("x", Path("o"), Path("w"), 1).shortened(config) is config


# ------------------------------------------------------------------ a run


def test_everything_is_published(whole: Path) -> None:
    assert {path.name for path in (whole / "model").iterdir()} == FILES
    tokenizer = load_tokenizer(whole / "model")
    assert tokenizer == killed_recipe.TOKENIZER or tokenizer.vocab == killed_recipe.TOKENIZER.vocab
    found = card(whole)
    assert contents(whole, "README.md").decode() == render(found)
    model: Any = load_pretrained(whole / "model")
    # What was checked is what is in the file.
    assert found["check"]["value"] == killed_recipe.check(model, tokenizer)
    assert found["check"]["metric"] == "loss"
    assert found["command"] == "python -m lmlib.recipes.killed_recipe"
    assert found["model"]["parameters"] == sum(p.numel() for p in model.parameters())
    assert found["model"]["bytes"] == len(contents(whole, "model.safetensors"))
    assert found["model"]["bytes"] < 2.5 * found["model"]["parameters"] + 3000
    assert found["model"]["config"]["d_model"] == 16
    (stage,) = found["training"]
    assert (stage["steps"], stage["tokens"]) == (9, 9 * 4 * 7)  # 20 examples make whole batches
    assert stage["core_hours"] == pytest.approx(stage["seconds"] / 3600, abs=1e-4)
    assert stage["config"] == killed_recipe.TRAINING.to_dict()
    assert found["export"]["float16"]["top1"] == 1.0
    assert 0 < found["export"]["int8"]["divergence"] < 0.01
    assert contents(whole, "more.csv") == b"a,b\n"


def test_the_curve_has_training_and_validation(whole: Path) -> None:
    found = rows(whole)
    assert [row["step"] for row in found] == ["2", "3", "4", "6", "8", "9"]
    assert {row["stage"] for row in found} == {"training"}
    validated = [row["step"] for row in found if row["validation_perplexity"]]
    assert validated == ["3", "6", "9"]
    assert [row["step"] for row in found if row["loss"]] == ["2", "4", "6", "8", "9"]
    assert found[0]["tokens"] == "56"
    assert float(found[-1]["loss"]) < float(found[0]["loss"])
    for name in ("epoch", "learning_rate", "grad_norm", "validation_targets"):
        assert found[-1][name]


def test_samples_of_several_steps(whole: Path) -> None:
    pages = json.loads(contents(whole, "samples.json"))
    assert [page["step"] for page in pages] == [0, 3, 6, 9]
    assert {page["stage"] for page in pages} == {"training"}
    texts = [page["texts"][0] for page in pages]
    assert len(set(texts)) > 1


def test_sampling_changes_nothing(whole: Path, tmp_path: Path) -> None:
    killed_recipe.run(tmp_path, None, 0, sampling=False)
    assert contents(tmp_path, "model.safetensors") == contents(whole, "model.safetensors")
    assert rows(tmp_path) == rows(whole)
    assert json.loads(contents(tmp_path, "samples.json")) == []


def test_published_again_it_is_the_same(whole: Path, tmp_path: Path) -> None:
    before = {name: contents(whole, name) for name in FILES}
    killed_recipe.run(whole, None, 0)  # finds everything done
    assert {name: contents(whole, name) for name in FILES} == before


def start(folder: Path, *arguments_: str, processes: int = 1) -> subprocess.CompletedProcess[str]:
    launcher = []
    if processes > 1:
        launcher = ["-m", "torch.distributed.run", f"--nproc_per_node={processes}"]
        launcher += ["--master_addr=127.0.0.1", f"--master_port={free_port()}"]
    return subprocess.run(
        [sys.executable, *launcher, str(SCRIPTS / "killed_recipe.py"), str(folder), *arguments_],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_killed_it_ends_with_the_same_bytes(whole: Path, tmp_path: Path) -> None:
    died = start(tmp_path, "--kill", "6")
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert (tmp_path / "work/training/log.csv").exists()
    assert not (tmp_path / "model").exists()
    killed_recipe.run(tmp_path, None, 0)
    for name in FILES - {"log.csv", "card.json", "README.md"}:
        assert contents(tmp_path, name) == contents(whole, name), name
    assert rows(tmp_path) == rows(whole)
    ours, theirs = card(tmp_path), card(whole)
    for found in (ours, theirs):
        for key in ("seconds", "core_hours"):
            del found["training"][0][key]
    assert ours == theirs


@pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM kills at once")
def test_asked_to_stop_it_publishes_nothing(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="stopped after step 7; the same command"):
        killed_recipe.run(tmp_path, 6, signal.SIGTERM)
    assert not (tmp_path / "model").exists()
    killed_recipe.run(tmp_path, None, 0)
    assert contents(tmp_path, "model.safetensors") == contents(whole, "model.safetensors")
    assert contents(tmp_path, "samples.json") == contents(whole, "samples.json")


@pytest.mark.skipif(not torch.distributed.is_available(), reason="no torch.distributed")
def test_two_processes_train_the_same_and_one_writes(whole: Path, tmp_path: Path) -> None:
    done = start(tmp_path, processes=2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("validation loss") == 1
    assert {path.name for path in (tmp_path / "model").iterdir()} == FILES
    for ours, theirs in zip(rows(tmp_path), rows(whole), strict=True):
        for name in ("loss", "validation_loss"):
            if theirs[name]:
                assert float(ours[name]) == pytest.approx(float(theirs[name]), abs=2e-4)
    assert card(tmp_path)["training"][0]["processes"] == 2


# ------------------------------------------------------------------ parts


def test_as_shipped_rounds_a_copy() -> None:
    torch.manual_seed(0)
    model = GPT(killed_recipe.MODEL).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    shipped = as_shipped(model)
    assert model.training
    assert not shipped.training
    for name, tensor in shipped.state_dict().items():
        assert torch.equal(model.state_dict()[name], before[name])
        assert torch.equal(tensor, before[name].half().float())
    assert any(not torch.equal(a, before[name]) for name, a in shipped.state_dict().items())
    assert shipped.head.weight is shipped.embedding.weight or not model.config.tie_embeddings


def test_rows_of_both_logs_are_joined_by_step() -> None:
    row = {"epoch": None, "targets": 5, "learning_rate": 0.1, "loss": 2.0, "grad_norm": 1.0}
    history = [{"step": n, **row, "seconds": 0.5, "targets_per_second": 10.0} for n in (10, 20)]
    joined = curve(history, [{"step": 15, "accuracy": 0.25}, {"step": 20, "accuracy": 1 / 3}])
    assert [line["step"] for line in joined] == [10, 15, 20]
    assert [line["validation_accuracy"] for line in joined] == [None, 0.25, 1 / 3]
    assert joined[1]["loss"] is None
    assert joined[2]["loss"] == 2.0
    text = csv_text([("first", joined), ("second", [{"step": 1, "other": 1234567.0}])])
    assert text.splitlines()[0].startswith("stage,step,epoch,tokens,")
    assert text.splitlines()[3].endswith(",0.333333,")
    assert text.splitlines()[4] == "second,1,,,,,,,,1.23457e+06"


def test_a_file_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_whole(tmp_path / "new/a.txt", "字\n")
    assert (tmp_path / "new/a.txt").read_bytes() == "字\n".encode()

    def fail(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        write_whole(tmp_path / "new/a.txt", "another")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.txt"]
    assert (tmp_path / "new/a.txt").read_text("utf-8") == "字\n"


def test_numbers_of_a_card() -> None:
    assert number(1234567) == "1,234,567"
    assert number(0.123456) == "0.1235"
    assert number(121.64) == "121.6"


# ------------------------------------------------------------------ all models


def test_the_recipes_of_models_are_found() -> None:
    found = models.recipes()
    assert "hello_world" in found
    assert not {"vocab", "font_subset", "models", "_run"} & set(found)


def test_the_table_of_metrics(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = models.table(models.read_cards(whole))
    header, line = text.splitlines()
    assert header.split()[:3] == ["model", "parameters", "MB"]
    assert line.split()[:2] == ["killed_recipe", number(card(whole)["model"]["parameters"])]
    assert line.endswith(number(card(whole)["metrics"][0]["value"]))
    assert "validation loss" in line
    models.main(["--table", "hello_world"])
    assert "hello_world" in capsys.readouterr().out


def test_an_unknown_recipe_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        models.main(["goodbye_world"])
    assert "no recipe goodbye_world; there are" in capsys.readouterr().err


def test_models_runs_the_recipes_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []
    code = [0]

    def run(command: list[str]) -> Any:
        called.append(command[1:])
        return subprocess.CompletedProcess(command, code[0])

    monkeypatch.setattr(subprocess, "run", run)
    models.main(["hello_world", "--threads", "2"])
    assert called == [["-m", "lmlib.recipes.hello_world", "--threads", "2"]]
    models.main([])
    assert [command[1] for command in called[1:]] == [
        f"lmlib.recipes.{name}" for name in models.recipes()
    ]
    code[0] = 3
    with pytest.raises(SystemExit, match="hello_world ended with 3"):
        models.main(["hello_world"])


def test_the_packed_tokenizer_is_the_saved_one(whole: Path) -> None:
    from lmlib.export import pack

    data = pack(load_pretrained(whole / "model"), load_tokenizer(whole / "model"))
    saved = json.loads(contents(whole, "tokenizer.json"))
    assert unpack(data).manifest["tokenizer"] == saved
    assert card(whole)["export"]["int8"]["bytes"] == len(data)
