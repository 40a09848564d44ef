"""Which half belongs to which: the second stage of `review_bert`'s pre-training.

Masked characters teach what stands beside what, but the mean of the hidden states need not say
what a review is about. So each review is cut in two, and the mean of one half must find the other
half among those of the batch. It is what next-sentence prediction was meant for, asked of many
candidates at once: Giorgi et al. 2021, "DeCLUTR", with halves for spans; Gao et al. 2021, "SimCSE",
eq. 1, for the loss. A good half goes with a good half, and nobody had to label it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from lmlib.bert import BertForPreTraining
from lmlib.recipes._review_data import masking, mean_hidden, review_ids
from lmlib.tokenizers import CharTokenizer
from lmlib.training import Loss, summed_cross_entropy

SHORTEST = 8
"""Characters that each half has at least."""

LONGEST = 64
"""Tokens that each half has at most, as `review_ids` cuts it."""

MASKED = 0.15
"""Share of the tokens that are masked, so that equal words are not all there is to go by."""

TEMPERATURE = 0.05
"""What cosines are divided by; SimCSE's."""

_PAUSE = re.compile(r"[，。！？；,.!?;~、\s]+")


def cuts(text: str) -> list[int]:
    """Where ``text`` may be cut: behind a pause that leaves `SHORTEST` characters on both sides.

    >>> cuts("房间很干净，服务也好。早餐一般，电梯慢。")
    [11]

    Args:
        text: a review.
    """
    ends = (pause.end() for pause in _PAUSE.finditer(text))
    return [end for end in ends if SHORTEST <= end <= len(text) - SHORTEST]


def divisible(texts: Iterable[str]) -> list[str]:
    """Those of the texts that can be cut.

    Args:
        texts: reviews.
    """
    return [text for text in texts if cuts(text)]


class HalvesCollator:
    """Reviews → the token ids of their first halves, and of their second halves.

    Args:
        tokenizer: of the network.
    """

    def __init__(self, tokenizer: CharTokenizer) -> None:
        self.tokenizer = tokenizer
        self.masking = masking(tokenizer, MASKED)

    def __call__(
        self, texts: Sequence[str], *, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """
        Args:
            texts: from `divisible`.
            generator: draws where each is cut, and what is masked.

        Returns:
            (batch, n) and (batch, m), <pad> behind.
        """
        halves: tuple[list[list[int]], list[list[int]]] = ([], [])
        for text in texts:
            places = cuts(text)
            place = places[int(torch.randint(len(places), (), generator=generator))]
            for side, half in zip(halves, (text[:place], text[place:]), strict=True):
                side.append(review_ids(self.tokenizer, half, LONGEST))
        first, second = (self.masking(side, generator=generator).token_ids for side in halves)
        return first, second


def halves_loss(model: BertForPreTraining, batch: tuple[Tensor, Tensor]) -> Loss:
    """Cross-entropy of finding the second half by the first one, and the first by the second.

    Args:
        model: whose body reads.
        batch: from `HalvesCollator`; the other reviews in it are the wrong answers.
    """
    first, second = (
        torch.nn.functional.normalize(mean_hidden(model.bert, ids).float(), dim=-1) for ids in batch
    )
    logits = first @ second.T / TEMPERATURE  # (batch, batch)
    both = torch.cat([logits, logits.T])  # (2 batch, batch)
    right = torch.arange(len(logits), device=logits.device).repeat(2)
    found = (both.argmax(dim=-1) == right).sum()
    return summed_cross_entropy(both, right)._replace(metrics={"accuracy": found})
