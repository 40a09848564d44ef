"""The recipe `bert_ablations`: its data, what it measures, a whole small run, and its numbers."""

from __future__ import annotations

import csv
import itertools
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lmlib.bert import IGNORED, BertForPreTraining, BertPreTrainingOutput
from lmlib.datasets import Poem
from lmlib.recipes import _ablation_measures, bert_ablations
from lmlib.recipes._ablation_card import readme, summary
from lmlib.recipes._ablation_measures import clozes, frozen, pairs, tuned, typos
from lmlib.recipes._poem_pairs import CLS, MASK, SEP
from lmlib.recipes._run import arguments, experiments_folder
from lmlib.recipes.bert_ablations import (
    VARIANTS,
    Collator,
    Variant,
    framed,
    make_corpus,
    pretrain,
)

FOLDER = experiments_folder() / "bert_ablations"
CHARACTERS = "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往"


def poem(number: int) -> Poem:
    """Poems of Tang are written with the first ten characters, those of Song with the others."""
    generator = torch.Generator().manual_seed(number)
    song = number % 3 == 0
    part = CHARACTERS[10:] if song else CHARACTERS[:10]
    draw = torch.randint(len(part), (4, 5), generator=generator).tolist()
    lines = tuple("".join(part[i] for i in row) for row in draw)
    return Poem("题", "某", "宋" if song else "唐", "五绝", lines, "")


POEMS = [poem(n) for n in range(90)]
CORPUS = make_corpus(POEMS, [poem(n) for n in range(90, 104)], labelled=12, min_count=1)


def draws(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Knowing(nn.Module):
    """Knows the poems of `CORPUS` that are held out, and which couplets follow each other.

    Args:
        copies: how sure it is of a character that it sees, whatever stands around it.
    """

    def __init__(self, copies: float = 0.0) -> None:
        super().__init__()
        self.config, self.copies = (
            replace(bert_ablations.MODEL, vocab_size=CORPUS.tokenizer.vocab_size),
            copies,
        )
        self.known = framed(CORPUS.held_out)[0]
        self.unused = nn.Parameter(torch.zeros(()))
        self.bert, self.nsp_head = self, nn.Identity()

    def forward(self, token_ids: Tensor, segments: Tensor, predict_at: Tensor) -> Any:
        assert torch.equal(segments[0].cpu(), framed(CORPUS.held_out)[1][0])
        same = (token_ids[:, None] == self.known[None]).sum(-1)  # (n, m)
        meant = self.known[same.argmax(1)]
        logits = 5.0 * nn.functional.one_hot(meant, self.config.vocab_size).float()
        seen = nn.functional.one_hot(token_ids, self.config.vocab_size).float()
        return BertPreTrainingOutput((logits + self.copies * seen)[predict_at], logits[:, 0, :2])

    def pooled(self, token_ids: Tensor, segments: Tensor) -> Tensor:
        follows = (token_ids[:, None] == self.known[None]).all(-1).any(-1).float()
        return torch.stack([4 * follows - 2, 2 - 4 * follows], dim=1)


# ------------------------------------------------------------------ data


def test_no_poem_is_read_and_classified() -> None:
    rows = [tuple(row) for part in (CORPUS.read, CORPUS.asked) for row in part.tolist()]
    assert Counter(rows) == Counter(tuple(CORPUS.tokenizer.encode(p.text)) for p in POEMS)
    assert len(CORPUS.asked) == 24
    dynasty = {p.text: p.dynasty for p in POEMS}
    for row, label in zip(CORPUS.asked.tolist(), CORPUS.labels.tolist(), strict=True):
        assert dynasty[CORPUS.tokenizer.decode(row)] == "唐宋"[label]


def test_a_poem_is_two_sentences() -> None:
    token_ids, segments = framed(CORPUS.read[:2])
    assert token_ids.shape == segments.shape == (2, 27)
    assert token_ids[:, [0, 13, 26]].tolist() == [[CLS, SEP, SEP]] * 2
    assert segments.tolist() == [[0] * 14 + [1] * 13] * 2
    kept = [i for i in range(27) if i not in (0, 13, 26)]
    assert torch.equal(token_ids[:, kept], CORPUS.read[:2])


def test_marks_and_specials_are_not_asked_for() -> None:
    ordinary = CORPUS.is_character
    assert {CORPUS.tokenizer.token_of(i) for i in ordinary.nonzero()[:, 0].tolist()} == set(
        CHARACTERS
    )
    batch = Collator(CORPUS, Variant(mask_rate=1.0))(range(20), generator=draws(0))
    whole, _ = framed(CORPUS.read[:20])
    assert torch.equal(batch.mlm_labels != IGNORED, ordinary[whole])
    assert torch.equal(batch.token_ids[~ordinary[whole]], whole[~ordinary[whole]])
    assert (batch.nsp_labels == IGNORED).all()


def test_each_variant_changes_one_thing() -> None:
    numbers = list(range(len(CORPUS.read))) * 20
    whole, _ = framed(CORPUS.read[numbers])

    def shares(name: str) -> tuple[float, float]:
        """Of the characters those that are asked for, and of these those that are [MASK]."""
        batch = Collator(CORPUS, VARIANTS[name])(numbers, generator=draws(1))
        asked = batch.mlm_labels != IGNORED
        masked = batch.token_ids[asked] == MASK
        return float(asked.sum() / CORPUS.is_character[whole].sum()), float(masked.double().mean())

    assert shares("base") == pytest.approx((0.3, 0.8), abs=0.02)
    assert shares("only [MASK]") == pytest.approx((0.3, 1.0), abs=0.02)
    assert VARIANTS["next sentence"] == replace(VARIANTS["base"], next_sentence=True)


def test_half_of_the_second_couplets_come_from_elsewhere() -> None:
    numbers = list(range(len(CORPUS.read)))
    variant = Variant(next_sentence=True, mask_rate=1e-9)
    batch = Collator(CORPUS, variant)(numbers, generator=draws(0))
    whole, _ = framed(CORPUS.read)
    assert torch.equal(batch.token_ids[:, :14], whole[:, :14])
    follows = batch.nsp_labels == 0
    assert torch.equal(batch.token_ids[follows], whole[follows])
    others = batch.token_ids[~follows, 14:]
    assert (others == whole[~follows, 14:]).all(1).double().mean() < 0.2
    known = {tuple(row) for row in whole[:, 14:].tolist()}
    assert all(tuple(row) in known for row in others.tolist())
    assert 0.3 < follows.double().mean() < 0.7


# ------------------------------------------------------------------ measures


def test_who_knows_the_poems_fills_them_in() -> None:
    found = clozes(Knowing(), CORPUS)  # type: ignore[arg-type]
    assert found["top1"] == found["echo"] == 1.0
    size = int((torch.arange(CORPUS.tokenizer.vocab_size) > MASK).sum())
    assert found["perplexity"] == pytest.approx(1 + (size - 1) * 2.718281828**-5, rel=1e-4)


def test_who_copies_what_it_sees_finds_no_typo_in_one_pass() -> None:
    knows = typos(Knowing(), CORPUS, 0)  # type: ignore[arg-type]
    assert knows == {"typo": 1.0, "typo_masked": 1.0}
    copies = Knowing(copies=50.0)
    assert clozes(copies, CORPUS)["echo"] == 1.0  # type: ignore[arg-type]
    found = typos(copies, CORPUS, 0)  # type: ignore[arg-type]
    assert found["typo_masked"] == 1.0
    assert found["typo"] < 0.5


def test_couplets_that_follow() -> None:
    assert pairs(Knowing(), CORPUS, 0) == {"nsp": 1.0, "order": 1.0}  # type: ignore[arg-type]


def test_dynasties_are_learned_from_some_and_judged_by_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_ablation_measures, "LEARNED_FROM", 12)
    monkeypatch.setattr(_ablation_measures, "EPOCHS", 30)
    torch.manual_seed(0)
    model = BertForPreTraining(
        replace(bert_ablations.MODEL, vocab_size=CORPUS.tokenizer.vocab_size)
    ).eval()
    assert frozen(model.bert, CORPUS) > 0.8  # they have no character in common
    # What it is judged by, it has not learned: turned labels of the second half are all wrong.
    turned = torch.where(torch.arange(24) < 12, CORPUS.labels, 1 - CORPUS.labels)
    assert frozen(model.bert, replace(CORPUS, labels=turned)) < 0.2
    before = model.bert.embedding.weight.clone()
    assert tuned(model.bert, CORPUS, 0) > 0.9
    assert not torch.equal(model.bert.embedding.weight, before)


# ------------------------------------------------------------------ a whole run


def test_a_small_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bert_ablations, "load_corpus", lambda: CORPUS)
    monkeypatch.setattr(_ablation_measures, "LEARNED_FROM", 12)
    folders = ["--output", str(tmp_path / "out"), "--work", str(tmp_path / "work")]
    bert_ablations.main([*folders, "--max-steps", "2"])
    with (tmp_path / "out" / "runs.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["variant"], row["seed"]) for row in rows] == [(name, "0") for name in VARIANTS]
    assert all(row["steps"] == "2" and float(row["perplexity"]) > 5 for row in rows)
    assert [bool(row["nsp"]) for row in rows] == [v.next_sentence for v in VARIANTS.values()]
    written = json.loads((tmp_path / "out" / "card.json").read_text("utf-8"))
    whole = BertForPreTraining(
        replace(bert_ablations.MODEL, vocab_size=CORPUS.tokenizer.vocab_size)
    )
    assert written["model"]["parameters"] == sum(p.numel() for p in whole.parameters())

    def again(*_: Any) -> Any:
        raise AssertionError("what is there is not run again")

    monkeypatch.setattr(bert_ablations, "pretrain", again)
    bert_ablations.main([*folders, "--max-steps", "2"])


def test_a_seed_repeats_a_run(tmp_path: Path) -> None:
    options = arguments(
        "bert_ablations", ["--output", str(tmp_path), "--max-steps", "3"], folder=tmp_path / "x"
    )
    losses = [pretrain(options, CORPUS, Variant(), seed)[1]["loss"] for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


# ------------------------------------------------------------------ what is shipped


def runs() -> list[dict[str, Any]]:
    with (FOLDER / "runs.csv").open(encoding="utf-8", newline="") as file:
        return [
            {k: v if k == "variant" else float(v) if v else None for k, v in row.items()}
            for row in csv.DictReader(file)
        ]


def test_the_numbers_are_those_of_this_recipe() -> None:
    found = [(row["variant"], row["seed"]) for row in runs()]
    assert sorted(found) == sorted(itertools.product(VARIANTS, bert_ablations.SEEDS))
    assert {row["steps"] for row in runs()} == {bert_ablations.TRAINING.max_steps}
    card = json.loads((FOLDER / "card.json").read_text("utf-8"))
    assert [{**m, "value": float(m["value"])} for m in card["metrics"]] == summary(runs())
    assert (FOLDER / "README.md").read_text("utf-8") == readme(card)
    seconds = sum(row["seconds"] + row["measured_seconds"] for row in runs())
    assert card["training"][0]["core_hours"] == pytest.approx(seconds / 3600, abs=1e-3)
