"""The second stage of `review_bert`: which half of a review belongs to which."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmlib.bert import BertForPreTraining
from lmlib.recipes import _review_halves as halves
from lmlib.recipes import review_bert
from lmlib.recipes._review_data import CLS, MASK, PAD, SEP, train_tokenizer
from lmlib.training import Batches, TrainConfig, evaluate, train

TOKENIZER = train_tokenizer(["天地玄黄宇宙洪荒日月盈昃辰宿列张，。！"], 1)
TINY = replace(
    review_bert.MODEL,
    vocab_size=TOKENIZER.vocab_size,
    d_model=32,
    num_layers=1,
    num_heads=2,
    d_ff=64,
    max_seq_len=40,
)
TEXTS = [c * 9 + "，" + c * 9 + "。" for c in "天地玄黄宇宙洪荒日月盈昃辰宿列张"]


@given(st.text(alphabet="好坏，。！ ", max_size=40))
def test_a_cut_is_behind_a_pause_and_leaves_enough(text: str) -> None:
    for place in halves.cuts(text):
        assert text[place - 1] in "，。！ "
        assert text[place] not in "，。！ "
        assert min(place, len(text) - place) >= halves.SHORTEST


def test_every_such_place_is_found() -> None:
    assert halves.cuts("一二三四五六七，八九十。一二三四五六七八") == [8, 12]
    assert halves.cuts("一二三四五六，七八九十一二三四五六七") == []
    assert halves.divisible(["好，好", TEXTS[0]]) == [TEXTS[0]]


def test_the_halves_are_the_review(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halves, "MASKED", 1e-9)
    text = "天地玄黄宇宙洪，荒日月盈昃辰宿列，张天地玄黄宇宙洪。"
    collate = halves.HalvesCollator(TOKENIZER)
    seen = set()
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        first, second = (rows[0].tolist() for rows in collate([text], generator=generator))
        assert (first[0], first[-1], second[0], second[-1]) == (CLS, SEP, CLS, SEP)
        assert TOKENIZER.decode(first) + TOKENIZER.decode(second) == text
        seen.add(len(first))
    assert seen == {10, 19}  # 8 and 17 characters: both places are tried


def test_some_tokens_are_masked() -> None:
    batch = halves.HalvesCollator(TOKENIZER)(TEXTS, generator=torch.Generator().manual_seed(0))
    shares = [float((ids == MASK).sum() / (ids > SEP).sum()) for ids in batch]
    assert all(0.05 < share < 0.2 for share in shares)  # 80 % of those chosen show the mask


def test_the_loss_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three reviews: cosines 1 with the right half, 0.6 and 0 with the wrong ones."""
    first = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    rows = iter([3 * first, 7 * first])  # lengths do not count
    monkeypatch.setattr(halves, "mean_hidden", lambda bert, ids: next(rows))
    nothing = torch.zeros(3, 2, dtype=torch.long)
    loss = halves.halves_loss(BertForPreTraining(TINY), (nothing, nothing))
    cosines = [[1, 0.6, 0], [0.6, 1, 0.8], [0, 0.8, 1]]
    one_way = sum(
        math.log(sum(math.exp(c / halves.TEMPERATURE) for c in row)) - row[i] / halves.TEMPERATURE
        for i, row in enumerate(cosines)
    )
    torch.testing.assert_close(loss.sum, torch.tensor(2 * one_way), rtol=1e-4, atol=1e-5)
    assert int(loss.targets) == 6
    assert int(loss.metrics["accuracy"]) == 6


def test_it_learns_to_match() -> None:
    torch.manual_seed(0)
    model = BertForPreTraining(TINY)
    collate = halves.HalvesCollator(TOKENIZER)
    held_out = [collate(TEXTS, generator=torch.Generator().manual_seed(9))]
    train(
        model,
        Batches(TEXTS, len(TEXTS), collate=collate),
        TrainConfig(max_steps=60, learning_rate=3e-3, warmup_steps=5),
        loss_fn=halves.halves_loss,
        progress=False,
    )
    assert evaluate(model, held_out, halves.halves_loss)["accuracy"] > 0.9


def test_padding_does_not_count() -> None:
    torch.manual_seed(0)
    model = BertForPreTraining(TINY).eval()
    batch = halves.HalvesCollator(TOKENIZER)(TEXTS[:4], generator=torch.Generator())
    longer = [torch.nn.functional.pad(ids, (0, 5), value=PAD) for ids in batch]
    one, other = (halves.halves_loss(model, (a, b)).sum for a, b in (batch, longer))
    torch.testing.assert_close(one, other)
