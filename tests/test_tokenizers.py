"""CharTokenizer, and the shipped vocabulary of 10 000 tokens."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lmlib.assets
from lmlib.recipes import vocab as recipe
from lmlib.tokenizers import SPECIALS, CharTokenizer

anything = st.text(max_size=40)  # any code point but lone surrogates
surrogates_too = st.text(st.characters(), max_size=40)


@pytest.fixture(scope="module")
def hanzi() -> CharTokenizer:
    return CharTokenizer.load(lmlib.assets.vocab_path())


# ------------------------------------------------------------------ text and ids


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(surrogates_too, max_size=5), data=st.data())
def test_decode_undoes_encode(texts: list[str], data: st.DataObject) -> None:
    tokenizer = CharTokenizer.train(texts)
    text = data.draw(st.sampled_from([*texts, ""]))
    ids = tokenizer.encode(text, add_bos=True, add_eos=True)
    assert len(ids) == len(text) + 2
    assert (ids[0], ids[-1]) == (tokenizer.bos_id, tokenizer.eos_id)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(ids, skip_specials=False) == f"<bos>{text}<eos>"


def test_unknown_characters() -> None:
    tokenizer = CharTokenizer.train(["你好"])
    assert tokenizer.encode("你们好") == [
        tokenizer.id_of("你"),
        tokenizer.unk_id,
        tokenizer.id_of("好"),
    ]
    assert tokenizer.decode(tokenizer.encode("你们好")) == "你<unk>好"
    without = CharTokenizer.train(["你好"], specials=())
    assert without.encode("好你") == [without.id_of("好"), without.id_of("你")]
    with pytest.raises(ValueError, match="'们'"):
        without.encode("你们好")
    with pytest.raises(ValueError, match="'<bos>' is not among"):
        without.encode("你", add_bos=True)


def test_specials_are_never_read_out_of_text() -> None:
    tokenizer = CharTokenizer.train(["<pad>", "<bos>"])
    ids = tokenizer.encode("<bos>")
    assert len(ids) == 5
    assert tokenizer.bos_id not in ids
    assert tokenizer.decode(ids) == "<bos>"


def test_decode_takes_tensors_and_arrays() -> None:
    tokenizer = CharTokenizer.train(["你好世界"])
    ids = tokenizer.encode("世界")
    assert tokenizer.decode(torch.tensor(ids)) == "世界"
    assert tokenizer.decode(np.array(ids)) == "世界"


@pytest.mark.parametrize("wrong", [-1, 8, 10_000])
def test_ids_outside_the_vocabulary(wrong: int) -> None:
    tokenizer = CharTokenizer.train(["你好世界"])
    with pytest.raises(ValueError, match=rf"lie in 0 … 7, got {wrong}"):
        tokenizer.decode([wrong])


def test_wrong_types() -> None:
    tokenizer = CharTokenizer.train(["你好世界"])
    with pytest.raises(TypeError, match="must be an integer"):
        tokenizer.decode([1.5])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="text must be a string, got bytes"):
        tokenizer.encode("你好".encode())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not one string"):
        CharTokenizer.train("你好")
    with pytest.raises(TypeError, match="texts must hold strings, got int"):
        CharTokenizer.train([1])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="not one string"):
        CharTokenizer.from_vocab("你好")


# ------------------------------------------------------------------ training


def test_most_frequent_first_then_code_point() -> None:
    tokenizer = CharTokenizer.train(iter(["bca", "cab", "c", "z"]))
    assert tokenizer.vocab == (*SPECIALS, "c", "a", "b", "z")
    assert (tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id) == (0, 1, 2, 3)


def test_vocab_size_and_min_count() -> None:
    texts = ["aaabbc"]
    assert CharTokenizer.train(texts, min_count=2).vocab == (*SPECIALS, "a", "b")
    assert CharTokenizer.train(texts, vocab_size=5).vocab == (*SPECIALS, "a")
    assert CharTokenizer.train(texts, vocab_size=99).vocab_size == 7
    assert CharTokenizer.train(texts, specials=("<pad>", "[MASK]")).specials == ("<pad>", "[MASK]")
    with pytest.raises(ValueError, match="room for the 4 special tokens, got 3"):
        CharTokenizer.train(texts, vocab_size=3)
    with pytest.raises(ValueError, match="min_count must be 1 or more, got 0"):
        CharTokenizer.train(texts, min_count=0)
    with pytest.raises(ValueError, match="two characters or more"):
        CharTokenizer.train(texts, specials=("_",))


@pytest.mark.parametrize(
    ("vocab", "error", "message"),
    [
        ([], ValueError, "at least one"),
        (["a", ""], ValueError, r"empty token, but vocab\[1\]"),
        (["a", "b", "a"], ValueError, "'a' twice, as ids 0 and 2"),
        (["a", 3], TypeError, r"vocab\[1\] is 3"),
    ],
)
def test_bad_vocabularies(vocab: list[str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        CharTokenizer.from_vocab(vocab)


def test_the_vocabulary_can_be_asked() -> None:
    tokenizer = CharTokenizer.train(["你好世界"])
    assert len(tokenizer) == tokenizer.vocab_size == 8
    assert "你" in tokenizer
    assert "您" not in tokenizer
    assert [tokenizer.token_of(i) for i in range(8)] == list(tokenizer.vocab)
    assert repr(tokenizer) == "CharTokenizer(vocab_size=8)"
    assert tokenizer == CharTokenizer.from_vocab(tokenizer.vocab)
    assert tokenizer != CharTokenizer.from_vocab(["a"])
    assert len({tokenizer, CharTokenizer.from_vocab(tokenizer.vocab)}) == 1


# ------------------------------------------------------------------ files


@pytest.mark.parametrize("name", ["vocab.txt", "vocab.json"])
def test_saved_and_loaded(name: str, tmp_path: Path) -> None:
    awkward = ' \t\n\r\v\f\x00\x1c\x85\u2028\u3000\\\ud800\ufeff\U0001f600你"u'
    tokenizer = CharTokenizer.train([awkward, "\\u0020"])
    tokenizer.save(tmp_path / name)
    assert CharTokenizer.load(tmp_path / name) == tokenizer
    assert CharTokenizer.load(str(tmp_path / name)).encode(awkward) == tokenizer.encode(awkward)


@settings(max_examples=30, deadline=None)
@given(vocab=st.lists(surrogates_too.filter(bool), min_size=1, max_size=8, unique=True))
def test_every_vocabulary_survives_a_file(vocab: list[str], tmp_path_factory) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path_factory.getbasetemp() / "any.txt"
    tokenizer = CharTokenizer.from_vocab(vocab)
    tokenizer.save(path)
    assert CharTokenizer.load(path) == tokenizer


def test_files_of_another_kind(tmp_path: Path) -> None:
    for content in ("not json", "[]", '{"type": "bpe", "vocab": []}', '{"type": "char"}'):
        (tmp_path / "x.json").write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match=r"x\.json is not a"):
            CharTokenizer.load(tmp_path / "x.json")
    (tmp_path / "x.txt").write_text("a\n\nb\n", encoding="utf-8")
    with pytest.raises(ValueError, match="empty token"):
        CharTokenizer.load(tmp_path / "x.txt")


def test_a_file_with_windows_line_ends_is_the_same_vocabulary(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes("a\r\n你\r\n".encode())
    assert CharTokenizer.load(tmp_path / "x.txt").vocab == ("a", "你")


# ------------------------------------------------------------------ the shipped vocabulary


def test_hanzi_10000(hanzi: CharTokenizer) -> None:
    assert len(hanzi) == 10_000
    assert hanzi.vocab[:4] == SPECIALS
    assert hanzi.specials == SPECIALS
    assert all(hanzi.decode([hanzi.id_of(char)]) == char for char in map(chr, range(0x20, 0x7F)))
    text = "你好，世界！“Hello, world 2025”——他说。"
    assert hanzi.unk_id not in hanzi.encode(text)
    assert hanzi.decode(hanzi.encode(text)) == text
    assert not any(char.isspace() for char in hanzi.vocab if char not in (" ", "\u3000"))


def test_hanzi_10000_holds_the_common_characters(hanzi: CharTokenizer) -> None:
    # GB 2312 level 1: the 3755 characters that the standard calls common.
    level_1 = [
        bytes([row, column]).decode("gb2312")
        for row in range(0xB0, 0xD8)
        for column in range(0xA1, 0xFF)
        if not (row == 0xD7 and column > 0xF9)
    ]
    assert len(level_1) == 3755
    # 柒 (seven, on cheques) is in the dictionary only by itself, and too rare.
    assert [char for char in level_1 if char not in hanzi] == ["柒"]


def test_character_frequency_is_the_sum_over_words() -> None:
    lines = ["世界 10 n\n", "世世代代 3 i\n", "T恤 5 n\n"]
    assert recipe.character_frequencies(lines) == {"世": 16, "界": 10, "代": 6, "恤": 5}


def test_too_small_a_dictionary(tmp_path: Path) -> None:
    (tmp_path / "dict.txt").write_text("世界 10 n\n", encoding="utf-8")
    with pytest.raises(ValueError, match="but 10000 are needed"):
        recipe.build_vocab(tmp_path / "dict.txt")


@pytest.mark.skipif(importlib.util.find_spec("jieba") is None, reason="jieba is not installed")
def test_the_recipe_remakes_the_shipped_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "vocab.txt"
    monkeypatch.setattr("sys.argv", ["vocab", "--output", str(output)])
    recipe.main()
    assert output.read_bytes() == lmlib.assets.vocab_path().read_bytes()


def test_the_json_format_is_plain(tmp_path: Path) -> None:
    CharTokenizer.from_vocab(["<pad>", "你"]).save(tmp_path / "v.json")
    content = json.loads((tmp_path / "v.json").read_text(encoding="utf-8"))
    assert content == {"type": "char", "vocab": ["<pad>", "你"]}
