"""The recipe zh_en: its data, its batches, its measurements, and a run of a few steps."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from lmlib.datasets import Pair
from lmlib.pretrained import load_pretrained, load_tokenizer
from lmlib.recipes import _zh_en_data, zh_en
from lmlib.recurrent import LSTMSeq2Seq
from lmlib.tokenizers import BPETokenizer
from lmlib.transformer import Transformer

SOME = {
    "dates": [Pair("2026年1月2日", "2 January 2026"), Pair("2026年11月12日", "12 November 2026")],
    "grammar": [Pair("我昨天买了书。", "I bought books yesterday.")],
    "sentences": [
        Pair("气温低，出门多穿衣服。", "It's cold out; dress warmly."),
        Pair("好。", "OK."),
    ],
}


@pytest.fixture(scope="module")
def tokenizer() -> BPETokenizer:
    return zh_en.make_tokenizer(SOME)


class Parrot(torch.nn.Module):
    """An encoder–decoder that knows the translations by heart, else writes the last one."""

    def __init__(self, tokenizer: BPETokenizer, pairs: list[Pair]) -> None:
        super().__init__()
        self.config = zh_en.TRANSFORMER
        self.answers = {pair.zh: tokenizer.encode(pair.en, add_eos=True) for pair in pairs}
        self.tokenizer = tokenizer

    def source_mask(self, source):
        return (source != self.config.pad_id)[:, None, None]

    def forward(self, source, target_in):
        logits = torch.zeros(*target_in.shape, self.config.vocab_size)
        for row, ids in enumerate(source.tolist()):
            text = self.tokenizer.decode(ids)
            answer = self.answers.get(text, list(self.answers.values())[-1])
            for i in range(target_in.shape[1]):
                logits[row, i, answer[min(i, len(answer) - 1)]] = 9.0
        return logits


def test_a_hanzi_is_a_token_and_nothing_is_lost(tokenizer: BPETokenizer) -> None:
    for corpus in SOME.values():
        for zh, en in corpus:
            hanzi = [char for char in zh if not char.isascii()]
            pieces = [tokenizer.readable(tokenizer.token_of(i)) for i in tokenizer.encode(zh)]
            assert [piece for piece in pieces if not piece.isascii()] == hanzi
            for text in (zh, en):
                assert tokenizer.decode(tokenizer.encode(text)) == text
    digits = [tokenizer.decode([i]) for i in tokenizer.encode("12 November 2026")]
    assert [d.strip() for d in digits if d.strip().isdigit()] == list("122026")
    unknown = "鑫 zebra"
    assert tokenizer.decode(tokenizer.encode(unknown)) == unknown


def test_both_models_are_as_large() -> None:
    with torch.device("meta"):
        sizes = [
            sum(p.numel() for p in model.parameters())
            for model in (Transformer(zh_en.TRANSFORMER), LSTMSeq2Seq(zh_en.LSTM))
        ]
    assert max(sizes) <= 1_310_000  # int8: 1.5 MB in the page
    assert abs(sizes[0] - sizes[1]) < 0.01 * sizes[0]


def test_embeddings_are_as_large_as_positions() -> None:
    torch.manual_seed(0)
    weight = zh_en.make_transformer().embedding.weight
    assert weight.square().sum(dim=1).mean().item() == pytest.approx(1, rel=0.02)


def test_batches_are_a_function_of_their_number(tokenizer: BPETokenizer) -> None:
    mixture = zh_en.Mixture(SOME, tokenizer, batch_size=8)
    numbers = [0, 17, 3, 16, 3]
    batches = {number: mixture(number) for number in numbers}
    again = zh_en.Mixture(SOME, tokenizer, batch_size=8)
    for number in sorted(batches):
        for one, other in zip(batches[number], again(number), strict=True):
            assert torch.equal(one, other)
    other_seed = zh_en.Mixture(SOME, tokenizer, batch_size=8, seed=7)
    assert [mixture(i)[0].tolist() for i in range(4)] != [
        other_seed(i)[0].tolist() for i in range(4)
    ]


def test_a_pool_has_the_shares_of_the_mixture_and_is_cut_by_length(
    tokenizer: BPETokenizer,
) -> None:
    mixture = zh_en.Mixture(SOME, tokenizer, batch_size=100)
    corpus_of = {pair.zh: name for name, corpus in SOME.items() for pair in corpus}
    counts: Counter[str] = Counter()
    texts: Counter[str] = Counter()
    spans = []
    for number in range(_zh_en_data.POOL):
        source, target = mixture(number)
        assert source.shape[0] == target.shape[0] == 100
        written = [tokenizer.decode([i for i in row if i]) for row in source.tolist()]
        texts.update(written)
        counts.update(corpus_of[text] for text in written)
        spans.append((min(map(len, written)), max(map(len, written))))
        for row, text in zip(target.tolist(), written, strict=True):
            (en,) = (p.en for corpus in SOME.values() for p in corpus if p.zh == text)
            assert [i for i in row if i] == tokenizer.encode(en, add_eos=True)
    total = sum(counts.values())
    for name, share in _zh_en_data.MIXTURE.items():  # five standard errors
        assert abs(counts[name] / total - share) < 5 * (share * (1 - share) / total) ** 0.5
    assert abs(texts["好。"] / counts["sentences"] - 0.5) < 0.1
    spans.sort()
    assert all(before[1] <= after[0] for before, after in pairwise(spans))


def test_shares_add_up() -> None:
    assert sum(_zh_en_data.MIXTURE.values()) == pytest.approx(1)


def test_nothing_held_out_is_trained_on() -> None:
    training = {pair.zh for corpus in zh_en.training_pairs().values() for pair in corpus}
    held_out = zh_en.held_out_pairs()
    for pairs in [*held_out.values(), *zh_en.validation_pairs().values()]:
        assert not training & {pair.zh for pair in pairs}
    assert {name: len(pairs) for name, pairs in held_out.items()} == {
        "dates": 1000,
        "grammar": 500,
        "unseen adjective–noun pairs": 500,
        "longer sentences": 500,
        "everyday sentences": 400,
    }


@pytest.fixture(scope="module")
def full_tokenizer() -> BPETokenizer:
    return zh_en.make_tokenizer(zh_en.training_pairs())


def test_every_hanzi_of_the_training_text_is_a_token(full_tokenizer: BPETokenizer) -> None:
    pairs, tokenizer = zh_en.training_pairs(), full_tokenizer
    assert len(tokenizer) == zh_en.VOCAB_SIZE
    for pair in pairs["sentences"]:
        assert len(tokenizer.encode(pair.zh)) == len(pair.zh)
    longest = max(
        pairs["grammar"] + zh_en.held_out_pairs()["longer sentences"], key=lambda p: len(p.en)
    )
    assert len(tokenizer.encode(longest.en)) <= 60  # what `translated` writes at most


def test_translations_come_in_the_order_of_the_texts(tokenizer: BPETokenizer) -> None:
    pairs = [pair for corpus in SOME.values() for pair in corpus]
    model = Parrot(tokenizer, pairs)
    texts = [pair.zh for pair in pairs] * 2
    assert zh_en.translated(model, tokenizer, texts) == [pair.en for pair in pairs] * 2


def test_measurements(tokenizer: BPETokenizer) -> None:
    pairs = [pair for corpus in SOME.values() for pair in corpus]
    wrong = [*pairs[:-1], Pair("好。", "It's cold out; dress warmly.")]
    model = Parrot(tokenizer, pairs)
    assert zh_en.exact_rate(model, tokenizer, wrong) == pytest.approx(4 / 5)
    found = zh_en.measured(
        model, tokenizer, {"dates": wrong, "everyday sentences": pairs}, "Parrot"
    )
    values = {metric.name: metric.value for metric in found}
    assert set(values) == {
        "Parrot: BLEU, dates",
        "Parrot: exact, dates",
        "Parrot: BLEU, everyday sentences",
    }
    assert values["Parrot: exact, dates"] == pytest.approx(0.8)
    assert values["Parrot: BLEU, everyday sentences"] == pytest.approx(100)
    assert 50 < values["Parrot: BLEU, dates"] < 100


def test_a_smoke_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_tokenizer: BPETokenizer
) -> None:
    """Two steps of both models: everything is written, and what is written loads."""
    small = {name: corpus[:2] for name, corpus in zh_en.held_out_pairs().items()}
    monkeypatch.setattr(zh_en, "held_out_pairs", lambda: small)
    monkeypatch.setattr(zh_en, "make_tokenizer", lambda pairs: full_tokenizer)
    monkeypatch.setattr(zh_en, "validation_pairs", lambda: SOME)
    monkeypatch.setattr(zh_en, "EXAMPLES", zh_en.EXAMPLES[:1])
    monkeypatch.setattr(zh_en, "MAX_NEW_TOKENS", 4)
    output = tmp_path / "model"
    work = tmp_path / "work"
    zh_en.main(["--max-steps", "2", "--output", str(output), "--work", str(work)])
    model, tokenizer = load_pretrained(output), load_tokenizer(output)
    assert isinstance(model, Transformer)
    card = json.loads((output / "card.json").read_text("utf-8"))
    assert [stage["stage"] for stage in card["training"]] == ["transformer", "lstm"]
    assert {metric["name"].split(":")[0] for metric in card["metrics"]} == {"Transformer", "LSTM"}
    assert card["check"]["value"] == zh_en.check(model, tokenizer)
    assert len(card["metrics"]) == 2 * 9
    log = (output / "log.csv").read_text("utf-8").splitlines()
    assert "validation_loss_sentences" in log[0]
    assert {line.split(",")[0] for line in log[1:]} == {"transformer", "lstm"}
    samples = json.loads((output / "samples.json").read_text("utf-8"))
    assert {page["stage"] for page in samples} == {"transformer", "lstm"}
