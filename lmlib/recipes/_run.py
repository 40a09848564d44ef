"""What all training recipes share: options, a training run that goes on, and publishing.

A recipe is a module `lmlib/recipes/<name>.py`. Its configs stand at its top, it has a function
``check(model, tokenizer)``, the number by which a test knows the shipped model again, and it ends::

    def main(argv: Sequence[str] | None = None) -> None:
        options = arguments("poem_gpt", argv)
        seed_everything(SEED)
        model = GPT(MODEL).to(options.device)
        fitted = fit(options, model, batches, TRAINING, evaluate_on=validation, sample=write_poems)
        shipped = as_shipped(model)
        card = Card(..., metrics=[Metric("perplexity", measure(shipped), "…")], check=Check(...))
        publish(options, shipped, tokenizer, card, [fitted], check, examples=examples(tokenizer))

A function ``examples(tokenizer)``, or ``examples(model, tokenizer)``, gives a few inputs of the
model, tuples of tensors (batch, n) without padding; a test compares on them the model packed for
the page with the original.

Under ``torchrun`` each process runs all of this; only the first writes. Killed and started again
with the same arguments it goes on from its newest checkpoint, and ends with the same files but for
the times in them.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

import lmlib.assets
from lmlib.export import DTYPES as PACKED_AS
from lmlib.export import fidelity, load_packed, pack
from lmlib.pretrained import CONFIG_FILE, load_pretrained, save_pretrained
from lmlib.recipes._card import Card, Check, Metric, render, usage_of
from lmlib.recipes._curves import Diary, Row, Sampler, csv_text, curve, json_text, write_whole
from lmlib.training import TrainConfig, distributed, language_model_loss, train
from lmlib.training._distributed import wait_for_all

__all__ = [
    "Card",
    "Check",
    "Fit",
    "Metric",
    "Options",
    "arguments",
    "as_shipped",
    "experiments_folder",
    "fit",
    "models_folder",
    "publish",
    "write_curves",
]


def models_folder() -> Path:
    """Where the shipped models are, one folder each."""
    return lmlib.assets.path() / "models"


def experiments_folder() -> Path:
    """Where the results of recipes are that leave numbers and no model, one folder each."""
    return lmlib.assets.path() / "experiments"


# ------------------------------------------------------------------ options


@dataclass(frozen=True)
class Options:
    """What the command line of a recipe says.

    Attributes:
        name: of the recipe, and of the model.
        output: the folder of the finished model.
        work: the folder of checkpoints, one folder in it for each stage.
        threads: of torch, for each process.
        max_steps: of a smoke run; None for the real one.
    """

    name: str
    output: Path
    work: Path
    threads: int
    max_steps: int | None = None

    @property
    def device(self) -> torch.device:
        """Where this process should compute."""
        return distributed().device

    def shortened(self, config: TrainConfig) -> TrainConfig:
        """``config``; for a smoke run with its few steps, evaluated and saved at half of them."""
        steps = self.max_steps
        if steps is None:
            return config
        if config.max_steps is not None:
            steps = min(steps, config.max_steps)
        half = max(1, steps // 2)
        return dataclasses.replace(
            config,
            max_steps=steps,
            epochs=None,
            warmup_steps=min(config.warmup_steps, half),
            log_every=min(config.log_every, half),
            eval_every=half,
            save_every=half,
        )


def arguments(
    name: str,
    argv: Sequence[str] | None = None,
    *,
    summary: str = "",
    threads: int = 1,
    folder: Path | None = None,
) -> Options:
    """The options of the recipe ``name``, read from the command line; torch gets its threads.

    Args:
        name: of the recipe's module, and of the model it makes.
        argv: the arguments; those of the program if not given.
        summary: a sentence for ``--help``.
        threads: how many there are if the command line does not say.
        folder: in which its own is made; `models_folder` if not given.

    Raises:
        SystemExit: an argument is not allowed, with a message.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m lmlib.recipes.{name}",
        description=summary or f"Train the model {name} from scratch.",
        epilog="Stopped or killed, the same command goes on where it was.",
    )
    default = (models_folder() if folder is None else folder) / name
    parser.add_argument("--output", type=Path, help=f"what is finished ({default})")
    parser.add_argument("--work", type=Path, help="checkpoints (in the cache folder)")
    parser.add_argument("--threads", type=_positive, default=threads, help="of torch (%(default)s)")
    parser.add_argument(
        "--max-steps", type=_positive, metavar="N", help="a smoke run of N steps; needs --output"
    )
    given = parser.parse_args(argv)
    output = default if given.output is None else given.output
    smoke = given.max_steps is not None
    if smoke and output.resolve() == default.resolve():
        parser.error("--max-steps makes nothing to be shipped: give another --output")
    work = given.work
    if work is None:
        work = _work_folder() / (f"{name}-smoke-{given.max_steps}" if smoke else name)
    torch.set_num_threads(given.threads)
    return Options(name, output, work, given.threads, given.max_steps)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1, got {text!r}")
    return int(text)


def _work_folder() -> Path:
    from lmlib.datasets import cache_dir

    return cache_dir() / "models"


# ------------------------------------------------------------------ training


class Fit(NamedTuple):
    """One finished stage of training.

    Attributes:
        stage: its name.
        rows: of the learning curve; see `fit`.
        samples: what the model wrote on the way: dicts of "stage", "step" and "texts".
        facts: what it cost: steps, tokens, seconds, core_hours, …, and the config.
    """

    stage: str
    rows: list[Row]
    samples: list[Row]
    facts: Row


def fit(
    options: Options,
    model: nn.Module,
    batches: Any,
    config: TrainConfig,
    *,
    loss_fn: Callable[..., Any] = language_model_loss,
    evaluate_on: Any = None,
    sample: Sampler | None = None,
    stage: str = "training",
) -> Fit:
    """Train ``model``, in place, by `lmlib.training.train`, or go on, or find it done.

    The rows of the curve have step, epoch, tokens (targets so far), learning_rate, loss (of
    training), grad_norm, seconds, and "validation_…" for everything that an evaluation gives;
    what was not measured at a step is None.

    Args:
        options: from `arguments`.
        model: as the recipe makes it from its seed; the same each time.
        batches, loss_fn, evaluate_on: see `lmlib.training.train`.
        config: as for the whole run; a smoke run shortens it.
        sample: from the model, in evaluation mode and without gradients, to a few texts. Called
            before the first step and after each evaluation, on the first process, with random
            numbers seeded by the step: the run is the same without it. It must not use
            `lmlib.training.evaluate`, which waits for the other processes.
        stage: its name, where a recipe has several.

    Raises:
        SystemExit: the run was asked to stop; a checkpoint is written.
        TypeError, ValueError, FloatingPointError, OSError: see `lmlib.training.train`.
    """
    world = distributed()
    config = options.shortened(config)
    directory = options.work / stage
    diary = Diary(directory / "samples.json", model, sample, config.seed, world.is_main)
    diary.add(0)
    result = train(
        model,
        batches,
        config,
        loss_fn=loss_fn,
        evaluate_on=evaluate_on,
        directory=directory,
        on_eval=lambda row: diary.add(row["step"]),
    )
    if result.interrupted:
        message = f"stopped after step {result.steps}; the same command goes on from there"
        raise SystemExit(message if world.is_main else 1)
    last = result.history[-1]
    facts = {
        "stage": stage,
        "steps": result.steps,
        "tokens": last["targets"],
        "seconds": last["seconds"],
        "core_hours": round(last["seconds"] * options.threads * world.world_size / 3600, 4),
        "processes": world.world_size,
        "threads": options.threads,
        "device": world.device.type.upper(),
        "torch": torch.__version__.split("+")[0],
        "config": config.to_dict(),
    }
    samples = [
        {"stage": stage, "step": step, "texts": texts} for step, texts in sorted(diary.pages())
    ]
    return Fit(stage, curve(result.history, result.evaluations), samples, facts)


# ------------------------------------------------------------------ publishing


def as_shipped(model: nn.Module, dtype: str = "float16") -> Any:
    """A copy of ``model`` with the weights that its file will hold, in evaluation mode on the CPU.

    Args:
        model: is left as it is.
        dtype: in which weights are stored.
    """
    shipped = copy.deepcopy(model).cpu().eval()
    narrow = getattr(torch, dtype)
    for tensor in shipped.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor.to(narrow))
    return shipped


def write_curves(output: Path, fits: Sequence[Fit]) -> None:
    """Write log.csv and samples.json: the learning curves and what was written on the way.

    Args:
        output: the folder.
        fits: the stages of a training, in order.
    """
    write_whole(output / "log.csv", csv_text([(fitted.stage, fitted.rows) for fitted in fits]))
    write_whole(
        output / "samples.json", json_text([page for fitted in fits for page in fitted.samples])
    )


def publish(
    options: Options,
    model: nn.Module,
    tokenizer: Any,
    card: Card,
    fits: Sequence[Fit],
    check: Callable[[Any, Any], float],
    *,
    dtype: str = "float16",
    files: Mapping[str, str] | None = None,
    examples: Sequence[tuple[Any, ...]] = (),
) -> None:
    """Write the finished model, its tokenizer, log.csv, samples.json, card.json and README.md.

    Every process calls this, and ``check`` runs on each, so that it may use
    `lmlib.training.evaluate`, which shares the work; only the first writes.

    Args:
        options: from `arguments`; ``options.output`` is made if it is not there.
        model: a model of lmlib in float32, see `lmlib.pretrained.save_pretrained`.
        tokenizer: the one that belongs to it.
        card: what the author says of it.
        fits: the stages of its training, in order.
        check: computes the number of ``card.check``: here of the model read back from its file, and
            packed for the page (`lmlib.export`), which tells what is lost.
        dtype: in which weights are stored.
        files: further small files by name, e.g. the measurements of another curve.
        examples: arguments of the model, tuples of tensors without padding, for which the card is
            to tell how near the packed models come (`lmlib.export.fidelity`).
    """
    world, output = distributed(), options.output
    if world.is_main:
        save_pretrained(model, output, tokenizer, dtype=dtype)
    wait_for_all(world.device)
    value = float(check(load_pretrained(output), tokenizer))
    exported = {}
    for kind in PACKED_AS:
        data = pack(model, tokenizer, dtype=kind)
        packed = load_packed(data)
        exported[kind] = {"bytes": len(data), "value": float(check(packed, tokenizer))}
        if examples:
            near = fidelity(model, packed, examples)
            exported[kind] |= {"top1": near.top1, "divergence": near.divergence}
    described = json.loads((output / CONFIG_FILE).read_text(encoding="utf-8"))
    content: dict[str, Any] = {
        "name": options.name,
        "title": card.title,
        "summary": card.summary,
        "command": f"python -m lmlib.recipes.{options.name}",
        "usage": card.usage or usage_of(options.name),
        "data": card.data,
        "model": {
            "class": described["class"],
            "parameters": sum(p.numel() for p in model.parameters()),
            "stored_as": dtype,
            "bytes": described["weights"]["bytes"],
            "sha256": described["weights"]["sha256"],
            "config": described["config"],
        },
        "training": [fitted.facts for fitted in fits],
        "metrics": [metric._asdict() for metric in card.metrics],
        "check": {**card.check._asdict(), "value": value},
        "export": exported,
        "limits": list(card.limits),
        "notes": list(card.notes),
        "licence": card.licence,
    }
    if not world.is_main:
        return
    write_curves(output, fits)
    for name, text in (files or {}).items():
        write_whole(output / name, text)
    write_whole(output / "README.md", render(content))
    write_whole(output / "card.json", json_text(content))
    shown = ", ".join(f"{m.name} {m.value:.4g}" for m in card.metrics)
    size = content["model"]["bytes"] / 1e6
    print(f"{output}: {shown}; {size:.2f} MB; {card.check.metric} {value:.4g}")
