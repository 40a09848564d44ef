"""What every way of generating shares: the prompt, where a text ends, and what comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lmlib._checks import check_positive

__all__ = ["Endings", "Generation", "Model", "PromptLike", "evaluating", "prompt_rows"]

PromptLike = Tensor | Sequence[int] | Sequence[Sequence[int]]
Model = Callable[..., Any]


@dataclass(frozen=True)
class Generation:
    """What was written: each attribute has an entry for each row.

    Attributes:
        token_ids: the new tokens, without the prompt, with the one that ended the row (if any).
        log_probs: ln P of each of them under the model, before any filter.
        finished: why the row ended: "eos", "stop" or "length" (max_new_tokens were written).
        stop_lengths: how many of its last tokens are the end and not the text: 1 for "eos", 0
            for "length".
        scores: by which beams are compared (see `beam_search`); None without beams.
    """

    token_ids: list[list[int]]
    log_probs: list[list[float]]
    finished: list[str]
    stop_lengths: list[int]
    scores: list[float] | None = None

    @property
    def texts(self) -> list[list[int]]:
        """The new tokens of each row without those that ended it: what one decodes."""
        return [
            row[: len(row) - end]
            for row, end in zip(self.token_ids, self.stop_lengths, strict=True)
        ]


class Endings:
    """Where a text ends: behind an EOS token, or behind one of the stop sequences.

    Args:
        model: its config's ``eos_id`` is taken where none is given.
        eos_id: one id or several; ``()`` for none at all.
        stop: ids, or sequences of ids, that end a text too. Only new tokens count.
    """

    def __init__(
        self,
        model: Model,
        eos_id: int | Sequence[int] | None,
        stop: Sequence[int | Sequence[int]],
    ) -> None:
        eos_id = config_of(model, "eos_id") if eos_id is None else eos_id
        self.eos_ids = [] if eos_id is None else id_list("eos_id", eos_id)
        if isinstance(stop, str) or not isinstance(stop, Iterable):
            raise TypeError(f"stop must be a list of ids or of lists of ids, got {stop!r}")
        self.stops = [id_list("stop", end) for end in stop]
        if [] in self.stops:
            raise ValueError("stop must not hold an empty sequence, which would end every text")

    def __len__(self) -> int:
        return len(self.eos_ids) + len(self.stops)

    def check(self, vocab_size: int) -> None:
        """All ids are in the vocabulary."""
        check_in_vocabulary("eos_id", self.eos_ids, vocab_size)
        for end in self.stops:
            check_in_vocabulary("stop", end, vocab_size)

    def reached(self, token_ids: Sequence[int]) -> tuple[str, int] | None:
        """Do these new tokens end a text? Then why, and how many of them are the end."""
        if token_ids[-1] in self.eos_ids:
            return "eos", 1
        for end in self.stops:
            if list(token_ids[-len(end) :]) == end:
                return "stop", len(end)
        return None


def prompt_rows(
    model: Model, prompt: PromptLike | None, source: PromptLike | None = None
) -> list[list[int]]:
    """The prompt as one list of ids a row.

    Args:
        prompt: ids of one row (a list or an (n,) tensor) or of several (a list of lists, a
            (batch, n) tensor); BOS alone if None, once for each row of the source.
        source: in the same forms, what an encoder–decoder's encoder reads.

    Raises:
        TypeError, ValueError: not integers, a row without tokens, numbers of rows that differ, a
            model that does not go with a source or without one.
    """
    batch = 1
    if source is not None:
        if hasattr(model, "new_caches") and not has_encoder(model):
            raise ValueError(
                f"source is for an encoder–decoder, and {type(model).__name__} has no encoder"
            )
        batch = len(id_rows("source", source))
    elif has_encoder(model):
        raise ValueError(f"source must be given, for {type(model).__name__} is an encoder–decoder")
    if prompt is None:
        bos_id = config_of(model, "bos_id")
        if bos_id is None:
            raise ValueError("prompt must be given, for the model's config has no bos_id")
        return [[bos_id]] * batch
    rows = id_rows("prompt", prompt)
    if source is not None and len(rows) != batch:
        raise ValueError(f"prompt must have one row for each source, {batch}, got {len(rows)}")
    return rows


def id_list(name: str, ids: int | Iterable[int] | Tensor) -> list[int]:
    """One id or several, as a list."""
    given: Any = ids.tolist() if isinstance(ids, Tensor) else ids
    given = [given] if isinstance(given, int) else given
    if isinstance(given, str) or not isinstance(given, Iterable):
        given = [given]  # for the message
    given = list(given)
    _check_integers(name, given)
    return given


def id_rows(name: str, ids: PromptLike) -> list[list[int]]:
    """Ids of one row or several, in any of the forms allowed, as one list a row."""
    given: Any = ids.tolist() if hasattr(ids, "tolist") else ids
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise TypeError(
            f"{name} must be token ids, a list of such rows or an integer tensor, "
            f"got {type(ids).__name__}"
        )
    given = [row.tolist() if hasattr(row, "tolist") else row for row in given]
    several = bool(given) and isinstance(given[0], Sequence) and not isinstance(given[0], str)
    rows = given if several else [given]
    for number, row in enumerate(rows):
        if not isinstance(row, Sequence) or not row:
            raise ValueError(
                f"{name} must hold at least one token in each row, got an empty one (row {number})"
                if isinstance(row, Sequence)
                else f"{name} must hold ids or rows of ids, not both"
            )
        _check_integers(name, row)
    return [list(row) for row in rows]


def _check_integers(name: str, ids: Sequence[Any]) -> None:
    for token_id in ids:
        if isinstance(token_id, bool) or not isinstance(token_id, int):
            raise TypeError(f"{name} must hold integer token ids, got {token_id!r}")


def config_of(model: Model, name: str) -> Any:
    """What the model's config says, or None where it says nothing or there is none."""
    return getattr(getattr(model, "config", None), name, None)


def has_encoder(model: Model) -> bool:
    """Is it an encoder–decoder whose memory can be computed once, as a `Transformer` is?"""
    return all(hasattr(model, name) for name in ("encode", "decode", "source_mask"))


def device_of(model: Model) -> torch.device:
    """Where the model lies; a function without parameters works on the CPU."""
    parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return torch.device("cpu") if parameter is None else parameter.device


def check_room(rows: list[list[int]], max_new_tokens: int, model: Model) -> None:
    """Prompt and new tokens fit into the model's max_seq_len, if it has one."""
    check_positive("max_new_tokens", max_new_tokens)
    longest, limit = max(map(len, rows)), config_of(model, "max_seq_len")
    if limit is not None and longest + max_new_tokens > limit:
        raise ValueError(
            f"prompt and max_new_tokens must fit into max_seq_len={limit}, "
            f"got {longest} + {max_new_tokens}"
        )


def check_in_vocabulary(name: str, ids: Sequence[int], vocab_size: int) -> None:
    """Each id is in [0, vocab_size)."""
    for token_id in ids:
        if not 0 <= token_id < vocab_size:
            raise ValueError(f"{name} must hold ids from 0 to {vocab_size - 1}, got {token_id}")


def check_vocabulary(vocab_size: int, endings: Endings, suppress: Sequence[int]) -> None:
    """What names tokens names those of the vocabulary, and something is left to write."""
    endings.check(vocab_size)
    check_in_vocabulary("suppress", suppress, vocab_size)
    if len(set(suppress)) == vocab_size:
        raise ValueError(f"suppress must leave at least one of the {vocab_size} tokens, got all")


def wide(logits: Tensor) -> Tensor:
    """In float32 at least, in which the probabilities of bfloat16 logits are computed too."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def nothing_left(row: int, step: int) -> str:
    """What to say when every token has probability 0."""
    return (
        f"no token is left to choose from at step {step} of row {row}: "
        "the filters, or the model, give all of them probability 0 (or NaN)"
    )


@contextmanager
def evaluating(*models: Model) -> Iterator[None]:
    """While the block runs, no gradients and no dropout; afterwards all is as it was."""
    modules = [m for model in models if isinstance(model, nn.Module) for m in model.modules()]
    training = [module for module in modules if module.training]
    for module in training:
        module.training = False
    try:
        with torch.inference_mode():
            yield
    finally:
        for module in training:
            module.training = True
