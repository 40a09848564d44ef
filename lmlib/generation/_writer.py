"""The loop that writes a text token by token: greedy search and sampling, whole or as a stream.

Public through `lmlib.generation`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lmlib._checks import check_choice, check_positive
from lmlib.generation._base import (
    Endings,
    Generation,
    Model,
    PromptLike,
    check_room,
    check_vocabulary,
    config_of,
    evaluating,
    id_list,
    nothing_left,
    prompt_rows,
    wide,
)
from lmlib.generation._draw import Generators, check_generators, draw, uniforms
from lmlib.generation._readers import make_reader
from lmlib.generation._samplers import make_filters, seen_tokens

__all__ = ["Step", "Writer"]


@dataclass(frozen=True)
class Step:
    """One token more for each row, as `stream` yields it.

    Attributes:
        token_ids: the new token of each row, None where the row had ended before.
        log_probs: ln P of it under the model, before any filter; None likewise.
        finished: why the row has ended, "eos", "stop" or "length", or None: it goes on.
        distributions: probabilities (batch, vocab_size) by name: "model", and then what they
            were after each filter, in order. Empty unless asked for.
    """

    token_ids: list[int | None]
    log_probs: list[float | None]
    finished: list[str | None]
    distributions: dict[str, Tensor]


class _Written(NamedTuple):
    """One step, still on the model's device."""

    token_ids: Tensor  # (batch,)
    log_probs: Tensor  # (batch,)
    stages: dict[str, Tensor]  # logits (batch, vocab_size), "model" and after each filter


class Writer:
    """One text or several, being written token by token. For the arguments see `generate`."""

    def __init__(
        self,
        model: Model,
        prompt: PromptLike | None,
        source: PromptLike | None,
        max_new_tokens: int,
        *,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        generator: Generators = None,
        repetition_penalty: float | None = None,
        suppress: Sequence[int] = (),
        eos_id: int | Sequence[int] | None = None,
        stop: Sequence[int | Sequence[int]] = (),
        use_cache: bool = True,
        on_overflow: str = "error",
    ) -> None:
        self.model = model
        self.source = source
        self.suppress = id_list("suppress", suppress)
        self.generator = generator
        self.max_new_tokens = max_new_tokens
        self.use_cache = use_cache
        self.sampling = any(value is not None for value in (temperature, top_k, top_p, min_p))
        self.filters = make_filters(
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            suppress=self.suppress,
        )
        self.endings = Endings(model, eos_id, stop)
        self.rows = prompt_rows(model, prompt, source)
        check_generators(generator, len(self.rows), sampling=self.sampling)
        check_choice("on_overflow", on_overflow, ("error", "slide"))
        self.window = None
        if on_overflow == "error":
            check_room(self.rows, max_new_tokens, model)
            return
        check_positive("max_new_tokens", max_new_tokens)
        limit = config_of(model, "max_seq_len")
        if limit is not None and max(map(len, self.rows)) + max_new_tokens > limit:
            if source is not None:
                raise ValueError("on_overflow='slide' would lose the decoder's BOS, with a source")
            self.window = limit

    def run(self) -> Generation:
        """Write everything."""
        progress = _Progress(len(self.rows), self.endings)
        columns: list[_Written] = []
        with evaluating(self.model):
            for written in self._steps(keep_stages=False):
                columns.append(written)
                # Only where a text may end early do the tokens have to leave the device now.
                if len(self.endings):
                    progress.add(written.token_ids.tolist())
                    if progress.done:
                        break
        token_ids = torch.stack([column.token_ids for column in columns], dim=1).tolist()
        log_probs = torch.stack([column.log_probs for column in columns], dim=1).tolist()
        lengths = progress.lengths(len(columns))
        for row, length in enumerate(lengths):
            for step in range(length):
                _check_chosen(log_probs[row][step], row, step)
        ends = [end or ("length", 0) for end in progress.ends]
        return Generation(
            token_ids=[row[:length] for row, length in zip(token_ids, lengths, strict=True)],
            log_probs=[row[:length] for row, length in zip(log_probs, lengths, strict=True)],
            finished=[reason for reason, _ in ends],
            stop_lengths=[length for _, length in ends],
        )

    def stream(self, need_distributions: bool) -> Iterator[Step]:
        """Write step by step. Between two steps the model is as the caller left it."""
        progress = _Progress(len(self.rows), self.endings)
        steps = self._steps(keep_stages=need_distributions)
        for number in range(self.max_new_tokens):
            with evaluating(self.model):
                written = next(steps)
                probs = {name: logits.softmax(-1) for name, logits in written.stages.items()}
            token_ids = progress.add(written.token_ids.tolist())
            log_probs = [
                None if token_id is None else log_prob
                for token_id, log_prob in zip(token_ids, written.log_probs.tolist(), strict=True)
            ]
            for row, log_prob in enumerate(log_probs):
                if log_prob is not None:
                    _check_chosen(log_prob, row, number)
            last = "length" if number + 1 == self.max_new_tokens else None
            yield Step(
                token_ids, log_probs, [end[0] if end else last for end in progress.ends], probs
            )
            if progress.done:
                return

    def _steps(self, keep_stages: bool) -> Iterator[_Written]:
        """The loop: read, filter, choose. It waits for no result, so a GPU is kept busy."""
        reader = make_reader(
            self.model, self.rows, source=self.source, use_cache=self.use_cache, window=self.window
        )
        logits = reader.begin(self.rows)  # (batch, vocab_size)
        check_vocabulary(logits.shape[-1], self.endings, self.suppress)
        seen = seen_tokens(self.rows, logits) if "repetition_penalty" in self.filters else None
        for left in reversed(range(self.max_new_tokens)):
            logits = filtered = wide(logits)
            stages = {"model": logits} if keep_stages else {}
            for name, apply in self.filters.items():
                filtered = apply(filtered, seen)
                if keep_stages:
                    stages[name] = filtered
            token_ids = self._choose(filtered)
            chosen = token_ids[:, None]
            log_probs = logits.log_softmax(dim=-1).gather(1, chosen)
            if self.filters:
                # Nothing was left, if what was chosen is out: all was suppressed, or the
                # temperature so low that what it divides leaves the range of numbers.
                log_probs = log_probs.where(filtered.gather(1, chosen).isfinite(), math.nan)
            if seen is not None:
                seen = seen.scatter(1, chosen, True)
            yield _Written(token_ids, log_probs[:, 0], stages)
            if left:
                logits = reader.read(chosen)[:, -1]

    def _choose(self, logits: Tensor) -> Tensor:
        """(batch, vocab_size) → (batch,)."""
        if not self.sampling:
            return logits.argmax(dim=-1)
        return draw(logits, uniforms(self.generator, len(logits)).to(logits.device))


class _Progress:
    """Which rows have ended, and how. ``ends`` has (reason, length of the end) or None."""

    def __init__(self, batch: int, endings: Endings) -> None:
        self.endings = endings
        self.rows: list[list[int]] = [[] for _ in range(batch)]
        self.ends: list[tuple[str, int] | None] = [None] * batch

    @property
    def done(self) -> bool:
        """Have all rows ended?"""
        return all(self.ends)

    def add(self, token_ids: list[int]) -> list[int | None]:
        """One token more for each row; the same, with None for rows that had ended before."""
        added: list[int | None] = []
        for i, token_id in enumerate(token_ids):
            added.append(None if self.ends[i] else token_id)
            if not self.ends[i]:
                self.rows[i].append(token_id)
                self.ends[i] = self.endings.reached(self.rows[i])
        return added

    def lengths(self, steps: int) -> list[int]:
        """How many of so many tokens belong to each row."""
        return [len(row) if end else steps for row, end in zip(self.rows, self.ends, strict=True)]


def _check_chosen(log_prob: float, row: int, step: int) -> None:
    if not math.isfinite(log_prob):
        raise ValueError(nothing_left(row, step))
