"""Speculative decoding, public as `lmlib.generation.speculative_generate`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lmlib._checks import check_positive
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
)
from lmlib.generation._draw import Generator, check_generators, draw, uniforms
from lmlib.generation._readers import make_reader
from lmlib.generation._samplers import Filter, make_filters, seen_tokens

__all__ = ["SpeculativeGeneration", "speculative_generate"]


@dataclass(frozen=True)
class SpeculativeGeneration(Generation):
    """A `Generation` of one row, and what it took.

    Attributes:
        drafted: how many tokens the draft model proposed.
        accepted: how many of them the target model accepted.
        target_calls: how often the target model ran; without a draft it is once a token.
    """

    drafted: int = 0
    accepted: int = 0
    target_calls: int = 0

    @property
    def acceptance_rate(self) -> float:
        """accepted / drafted; NaN if nothing was drafted."""
        return self.accepted / self.drafted if self.drafted else math.nan


def speculative_generate(
    target: Model,
    draft: Model,
    prompt: PromptLike | None = None,
    *,
    max_new_tokens: int,
    num_draft: int = 4,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float | None = None,
    suppress: Sequence[int] = (),
    eos_id: int | Sequence[int] | None = None,
    stop: Sequence[int | Sequence[int]] = (),
    generator: Generator | None = None,
    use_cache: bool = True,
) -> SpeculativeGeneration:
    """Let a small model draft and a large one check; the text is as if the large one had written.

    Leviathan et al. 2023, Algorithm 1; Chen et al. 2023, Algorithm 2. The draft model proposes
    ``num_draft`` tokens. The target model reads them all in one call, which gives its distribution
    p for each place. A token x that was drawn from the draft's q is accepted with probability
    min(1, p(x)/q(x)); at the first that is not, a token is drawn from max(0, p − q), normalised,
    and the rest is dropped. If all are accepted, one more is drawn from the target. Each token
    then has the distribution p, whatever q is: a bad draft costs time, not quality.

    Batch of one: rows would accept different numbers of tokens.

    Args:
        target, draft: two models with one vocabulary; any model that `generate` takes.
        prompt: ids of one text, as a list, an (n,) or a (1, n) tensor; BOS alone if None.
        num_draft: how many tokens to draft at a time.
        temperature, top_k, top_p, min_p, repetition_penalty, suppress: filters on both models'
            logits. If none of the first four is given, the text is that of `greedy_search`.
        generator: see `sample`; one number is used for each token drafted, checked or drawn.

    The other arguments: see `generate`; the target's config gives eos_id and max_seq_len.

    Returns:
        a `SpeculativeGeneration`; its log_probs are the target's.

    Raises:
        TypeError, ValueError: see `generate`; several rows; unequal vocabularies.
    """
    check_positive("num_draft", num_draft)
    suppress = id_list("suppress", suppress)
    filters = make_filters(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        suppress=suppress,
    )
    sampling = any(value is not None for value in (temperature, top_k, top_p, min_p))
    rows = prompt_rows(target, prompt)
    if len(rows) != 1:
        raise ValueError(f"prompt must be one row for speculative decoding, got {len(rows)}")
    check_generators(generator, 1, sampling=sampling)
    for model in (target, draft):
        check_room(rows, max_new_tokens, model)
    endings = Endings(target, eos_id, stop)
    random: Generator | None = generator if sampling else lambda: 0.0  # greedy needs no chance
    new_ids: list[int] = []
    log_probs: list[float] = []
    drafted = accepted = target_calls = 0
    end: tuple[str, int] | None = None

    with evaluating(target, draft):
        writer, drafter = (
            _Side(model, rows, filters, sampling, endings, suppress, use_cache)
            for model in (target, draft)
        )
        _check_one_vocabulary(writer.vocab_size, drafter.vocab_size)
        while end is None and len(new_ids) < max_new_tokens:
            text = rows[0] + new_ids
            count = min(num_draft, max_new_tokens - len(new_ids) - 1)  # and one of the target's
            proposals: list[int] = []
            q: list[Tensor] = []  # what each was drawn from, (vocab_size,)
            for _ in range(count):
                probs = drafter.distributions(text + proposals, 1)[0][0]
                if probs.isnan().any():
                    break  # the draft finds nothing possible: its turn is over
                q.append(probs)
                proposals.append(_draw(probs, random))
            count = len(proposals)
            p, target_log_probs = writer.distributions(text + proposals, count + 1)
            target_calls += 1
            _check_one_vocabulary(writer.vocab_size, drafter.vocab_size)
            good = _num_accepted(p, q, proposals, random)
            drafted, accepted = drafted + count, accepted + good
            for place in range(good + 1):
                if place < good:
                    token_id = proposals[place]
                elif p[place].isnan().any():
                    raise ValueError(nothing_left(row=0, step=len(new_ids)))
                else:  # the target's own: instead of the first refused, or behind all
                    rest = p[place] if good == count else _rest(p[place], q[place])
                    token_id = _draw(rest, random)
                new_ids.append(token_id)
                log_probs.append(target_log_probs[place, token_id].item())
                end = endings.reached(new_ids)
                if end is not None:
                    break

    reason, stop_length = end or ("length", 0)
    return SpeculativeGeneration(
        token_ids=[new_ids],
        log_probs=[log_probs],
        finished=[reason],
        stop_lengths=[stop_length],
        drafted=drafted,
        accepted=accepted,
        target_calls=target_calls,
    )


def _check_one_vocabulary(target: int | None, draft: int | None) -> None:
    """Both models have the same number of tokens, as far as that is known yet."""
    if target is not None and draft is not None and target != draft:
        raise ValueError(
            f"target and draft must have one vocabulary, got {target} and {draft} tokens"
        )


def _num_accepted(
    p: Tensor, q: Sequence[Tensor], proposals: Sequence[int], generator: Generator | None
) -> int:
    """How many proposals stand before the first that is refused.

    Args:
        p: (count + 1, vocab_size); q: count times (vocab_size,).
    """
    for place, token_id in enumerate(proposals):
        u = uniforms(generator, 1).item()
        # u < p/q without a division; u is below 1, so p ≥ q always passes.
        if not u * q[place][token_id].item() < p[place, token_id].item():
            return place
    return len(proposals)


def _rest(p: Tensor, q: Tensor) -> Tensor:
    """max(0, p − q), from which the token comes that replaces a refused one: (vocab_size,)."""
    rest = (p - q).clamp(min=0)
    return rest if rest.any() else p  # p and q differ by rounding alone


def _draw(probs: Tensor, generator: Generator | None) -> int:
    """One token from (vocab_size,) weights."""
    u = uniforms(generator, 1).to(probs.device)
    return int(draw(probs.log()[None], u).item())


class _Side:
    """One of the two models: what it has read, and its distributions."""

    def __init__(
        self,
        model: Model,
        rows: list[list[int]],
        filters: dict[str, Filter],
        sampling: bool,
        endings: Endings,
        suppress: Sequence[int],
        use_cache: bool,
    ) -> None:
        self.reader = make_reader(model, rows, use_cache=use_cache, crop=True)
        self.filters = filters
        self.sampling = sampling
        self.endings = endings
        self.suppress = suppress
        self.vocab_size: int | None = config_of(model, "vocab_size")
        self.read: list[int] = []  # the text that the reader holds

    def distributions(self, text: list[int], count: int) -> tuple[Tensor, Tensor]:
        """What follows each of the last ``count`` tokens of a text.

        Returns:
            filtered probabilities (NaN where the filters leave nothing) and log-probabilities
            without filters, float64 (count, vocab_size) each.
        """
        logits = self._logits(text, count)
        self.vocab_size = logits.shape[-1]
        check_vocabulary(self.vocab_size, self.endings, self.suppress)
        filtered, seen = logits, None
        if "repetition_penalty" in self.filters:
            ends = range(len(text) - count + 1, len(text) + 1)
            seen = seen_tokens([text[:end] for end in ends], logits)
        for apply in self.filters.values():
            filtered = apply(filtered, seen)
        if not self.sampling:
            # Greedy is a distribution too: everything on the most probable token.
            most, best = filtered.max(dim=-1, keepdim=True)
            filtered = torch.full_like(filtered, -math.inf).scatter(-1, best, most)
        return filtered.softmax(dim=-1), logits.log_softmax(dim=-1)

    def _logits(self, text: list[int], count: int) -> Tensor:
        """Read what is new in the text, and at least its last ``count`` tokens."""
        common = 0
        limit = min(len(self.read), len(text) - count)
        while common < limit and self.read[common] == text[common]:
            common += 1
        if common < len(self.read):
            self.reader.crop(common)
        self.read = text
        new = torch.tensor([text[common:]], device=self.reader.device)
        logits = self.reader.read(new, count)[0]
        # In float32 p and q would each miss 1 by as much as they may differ.
        return logits.float() if logits.device.type == "mps" else logits.double()
