"""Asking a poem BERT: what fits where [MASK] stands, and if a line follows another.

Public through `lmlib.recipes.poem_bert`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lmlib.bert import BertForPreTraining
from lmlib.recipes._poem_clozes import characters_only
from lmlib.recipes._poem_pairs import MASK, framed
from lmlib.tokenizers import Tokenizer

MASK_TOKEN = "[MASK]"
"""What stands in a text where a character is to be filled in."""


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of ``text``, in which `MASK_TOKEN` may stand, without [CLS] and [SEP].

    Args:
        tokenizer: from `make_tokenizer`.
        text: any.
    """
    head, *tail = text.split(MASK_TOKEN)
    return [*tokenizer.encode(head), *(i for part in tail for i in [MASK, *tokenizer.encode(part)])]


@torch.inference_mode()
def fill(
    model: BertForPreTraining, tokenizer: Tokenizer, text: str, top_k: int = 5
) -> list[list[tuple[str, float]]]:
    """The characters that fit best where ``text`` has [MASK].

    Args:
        model: in evaluation mode.
        tokenizer: its.
        text: such as 床前明月[MASK]，疑是地上霜。
        top_k: how many characters for each [MASK].

    Returns:
        For each [MASK], in order, characters and their probabilities, the best first.

    Raises:
        ValueError: there is no [MASK], or the text is too long for the model.
    """
    ids, _ = framed(encode(tokenizer, text))
    places = [i for i, index in enumerate(ids) if index == MASK]
    if not places:
        raise ValueError(f"text must have a {MASK_TOKEN}, got {text!r}")
    rows = masked_log_probs(model, [ids], [places])
    best, chosen = rows.exp().topk(top_k)
    return [
        [(tokenizer.token_of(i), p) for i, p in zip(indices, probs, strict=True)]
        for indices, probs in zip(chosen.tolist(), best.tolist(), strict=True)
    ]


@torch.inference_mode()
def follows(model: BertForPreTraining, tokenizer: Tokenizer, first: str, second: str) -> float:
    """The probability that ``second`` comes behind ``first`` in a poem.

    Args:
        model: in evaluation mode.
        tokenizer: its.
        first: a line or a couplet, with its punctuation.
        second: another one.
    """
    sentence_pair = framed(tokenizer.encode(first), tokenizer.encode(second))
    return float(nsp_logits(model, [sentence_pair]).softmax(dim=-1)[0, 0])


def masked_log_probs(
    model: BertForPreTraining, sequences: Sequence[list[int]], places: Sequence[list[int]]
) -> Tensor:
    """log P of all characters at some places: (num_places, vocab_size) float32, specials −inf.

    Args:
        model: in evaluation mode.
        sequences: framed ids, equally long.
        places: of each, in rising order.
    """
    ids = torch.tensor(sequences, device=next(model.parameters()).device)
    predict_at = torch.zeros_like(ids, dtype=torch.bool)
    for row, where in enumerate(places):
        predict_at[row, where] = True
    output: Any = model(ids, predict_at=predict_at)
    return characters_only(output.mlm_logits.float().cpu())


def nsp_logits(model: BertForPreTraining, pairs: Sequence[tuple[list[int], list[int]]]) -> Tensor:
    """Two numbers for each pair, "follows" and "random": (batch, 2) float32.

    Args:
        model: in evaluation mode.
        pairs: token and segment ids as `framed` gives them, equally long.
    """
    device = next(model.parameters()).device
    token_ids, segment_ids = (torch.tensor(x, device=device) for x in zip(*pairs, strict=True))
    return model.nsp_head(model.bert.pooled(token_ids, segment_ids)).float().cpu()
