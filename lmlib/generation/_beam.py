"""Beam search, public as `lmlib.generation.beam_search`."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
    evaluating,
    id_list,
    nothing_left,
    prompt_rows,
    wide,
)
from lmlib.generation._readers import make_reader
from lmlib.generation._samplers import make_filters, seen_tokens

__all__ = ["beam_search"]


class _Beam(NamedTuple):
    """A text that is being written, or a place without one (``total`` is −∞)."""

    total: float  # sum of log_probs, with penalties if there are any
    token_ids: list[int]
    log_probs: list[float]
    parent: int  # the beam that it continues


class _Finished(NamedTuple):
    """A text that has ended."""

    score: float
    beam: _Beam
    reason: str
    stop_length: int


class _Candidate(NamedTuple):
    """A beam and a token that may follow it."""

    total: float
    parent: int
    token_id: int
    log_prob: float


def beam_search(
    model: Model,
    prompt: PromptLike | None = None,
    *,
    max_new_tokens: int,
    source: PromptLike | None = None,
    num_beams: int = 4,
    num_return: int = 1,
    length_penalty: float = 1.0,
    early_stopping: bool | str = False,
    repetition_penalty: float | None = None,
    suppress: Sequence[int] = (),
    eos_id: int | Sequence[int] | None = None,
    stop: Sequence[int | Sequence[int]] = (),
    use_cache: bool = True,
) -> Generation:
    """Pursue the ``num_beams`` most probable texts at once, and return the best that end.

    Each step continues every beam by every token. Of these candidates the best that do not end
    are the new beams; one that ends, if it is among the best ``num_beams``, is kept with

        score = Σ ln P(token) / length^length_penalty   (cf. Wu et al. 2016, eq. 14)

    where the length counts new tokens, EOS included. A row is done when ``num_beams`` texts are
    kept and no beam can beat the worst of them any more (``early_stopping``), or at max_new_tokens,
    where every beam ends. The tokens are those of transformers' ``generate``.

    Args:
        num_beams: how many beams a row has. One is not `greedy_search`: it looks past an EOS.
        num_return: how many texts a row returns, the best first; at most num_beams.
        length_penalty: above 0 favours long texts, below 0 short ones; from -50 to 50.
        early_stopping: when can no beam get among those kept? True: as soon as num_beams are
            kept. False: when its score, had it ended now, would be too low. "never": when its
            score would be so at any length, for log-probabilities only fall.
        repetition_penalty: acts here on log-probabilities, as transformers has it.

    The other arguments: see `generate`.

    Returns:
        a `Generation` of batch · num_return rows with ``scores``.

    Raises:
        TypeError, ValueError: see `generate`; or fewer than num_return texts exist.
    """
    check_positive("num_beams", num_beams)
    check_positive("num_return", num_return)
    if num_return > num_beams:
        raise ValueError(f"num_return must be at most num_beams={num_beams}, got {num_return}")
    check_choice("early_stopping", early_stopping, (True, False, "never"))
    if not -50 <= length_penalty <= 50:  # beyond, length ** length_penalty may overflow
        raise ValueError(f"length_penalty must be from -50 to 50, got {length_penalty}")
    suppress = id_list("suppress", suppress)
    filters = make_filters(repetition_penalty=repetition_penalty, suppress=suppress)
    endings = Endings(model, eos_id, stop)
    rows = prompt_rows(model, prompt, source)
    check_room(rows, max_new_tokens, model)
    batch = len(rows)
    searches = [
        _RowSearch(row, num_beams, length_penalty, early_stopping, max_new_tokens, endings)
        for row in range(batch)
    ]
    # So many candidates that num_beams remain, even if every beam could end in every way.
    keep = num_beams * max(2, 1 + len(endings))

    with evaluating(model):
        reader = make_reader(model, rows, source=source, use_cache=use_cache)
        logits = reader.begin(rows)  # (batch, vocab_size)
        device = logits.device
        check_vocabulary(logits.shape[-1], endings, suppress)
        seen = seen_tokens(rows, logits) if repetition_penalty is not None else None
        parents = torch.arange(batch, device=device).repeat_interleave(num_beams)
        logits = logits[parents]  # (batch · num_beams, vocab_size)
        reader.reorder(parents)
        seen = None if seen is None else seen[parents]
        while True:
            log_probs = wide(logits).log_softmax(dim=-1)
            scored = log_probs
            for apply in filters.values():
                scored = apply(scored, seen)
            totals = [[beam.total for beam in search.beams] for search in searches]
            so_far = torch.tensor(totals, dtype=scored.dtype, device=device).view(-1, 1)
            ranked = _ranked(so_far + scored, log_probs, num_beams, keep)
            for search, candidates in zip(searches, ranked, strict=True):
                search.extend(candidates)
            if all(search.done for search in searches):  # at max_new_tokens at the latest
                break
            beams = [beam for search in searches for beam in search.beams]
            first = torch.arange(batch, device=device).repeat_interleave(num_beams) * num_beams
            parents = first + torch.tensor([beam.parent for beam in beams], device=device)
            reader.reorder(parents)
            token_ids = torch.tensor([beam.token_ids[-1:] or [0] for beam in beams], device=device)
            seen = None if seen is None else seen[parents].scatter(1, token_ids, True)
            logits = reader.read(token_ids)[:, -1]

    best_texts = [text for search in searches for text in search.best(num_return)]
    return Generation(
        token_ids=[text.beam.token_ids for text in best_texts],
        log_probs=[text.beam.log_probs for text in best_texts],
        finished=[text.reason for text in best_texts],
        stop_lengths=[text.stop_length for text in best_texts],
        scores=[text.score for text in best_texts],
    )


def _ranked(totals: Tensor, log_probs: Tensor, num_beams: int, keep: int) -> list[list[_Candidate]]:
    """The ``keep`` best ways to go on for each row of the batch, best first.

    Args:
        totals, log_probs: of each beam and token, (batch · num_beams, vocab_size).
    """
    vocab_size = totals.shape[-1]
    totals = totals.view(-1, num_beams * vocab_size)  # the beams of a row side by side
    best, places = totals.topk(min(keep, totals.shape[-1]), dim=-1)  # (batch, keep)
    chosen = log_probs.view_as(totals).gather(1, places)
    return [
        [
            _Candidate(total, place // vocab_size, place % vocab_size, log_prob)
            for total, place, log_prob in zip(*row, strict=True)
        ]
        for row in zip(best.tolist(), places.tolist(), chosen.tolist(), strict=True)
    ]


class _RowSearch:
    """The search for one row: its running beams, and the best texts that have ended."""

    def __init__(
        self,
        row: int,
        num_beams: int,
        length_penalty: float,
        early_stopping: bool | str,
        max_new_tokens: int,
        endings: Endings,
    ) -> None:
        self.row = row
        self.num_beams = num_beams
        self.length_penalty = length_penalty
        self.early_stopping = early_stopping
        self.max_new_tokens = max_new_tokens
        self.endings = endings
        # All beams begin with the same prompt: one of them is enough at first.
        self.beams = self._filled([_Beam(0.0, [], [], 0)])
        self.finished: list[_Finished] = []  # the best num_beams, best first
        self.length = 0
        self.done = False

    def extend(self, candidates: list[_Candidate]) -> None:
        """One token more: sort the candidates, which come best first, into ended and running."""
        if self.done:
            return
        self.length += 1
        running: list[_Beam] = []
        for rank, candidate in enumerate(candidates):
            empty = rank == 0 and not self.finished and candidate.total == -math.inf
            if empty or math.isnan(candidate.total):
                raise ValueError(nothing_left(self.row, self.length - 1))
            if candidate.total == -math.inf:
                break
            parent = self.beams[candidate.parent]
            beam = _Beam(
                candidate.total,
                [*parent.token_ids, candidate.token_id],
                [*parent.log_probs, candidate.log_prob],
                candidate.parent,
            )
            end = self.endings.reached(beam.token_ids)
            if end is None and self.length == self.max_new_tokens:
                end = ("length", 0)
            if end is None and len(running) < self.num_beams:
                running.append(beam)
            elif end is not None and rank < self.num_beams:
                self.finished.append(_Finished(self._score(beam.total, self.length), beam, *end))
        self.finished.sort(key=lambda text: text.score, reverse=True)
        del self.finished[self.num_beams :]
        self.beams = self._filled(running)
        self.done = not self._may_improve()

    def best(self, num_return: int) -> list[_Finished]:
        """The best texts."""
        if len(self.finished) < num_return:
            raise ValueError(
                f"num_return={num_return} texts are asked for, "
                f"but only {len(self.finished)} are possible"
            )
        return self.finished[:num_return]

    def _filled(self, beams: list[_Beam]) -> list[_Beam]:
        return beams + [_Beam(-math.inf, [], [], 0)] * (self.num_beams - len(beams))

    def _score(self, total: float, length: int) -> float:
        return total / length**self.length_penalty

    def _may_improve(self) -> bool:
        """Can a running beam still get among the texts that are kept?"""
        best = self.beams[0].total
        if best == -math.inf:
            return False
        if len(self.finished) < self.num_beams:
            return True
        if self.early_stopping and self.early_stopping != "never":
            return False
        # A negative total is divided by length^penalty: with a penalty above 0 the longest text
        # would score best.
        at_best = self.early_stopping == "never" and self.length_penalty > 0
        length = self.max_new_tokens if at_best else self.length
        return self._score(best, length) > self.finished[-1].score
