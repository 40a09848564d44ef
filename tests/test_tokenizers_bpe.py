"""BPETokenizer: round trip, files, errors, and equality with Hugging Face's byte-level BPE."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from random_merges import random_merges
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from lmlib.tokenizers import BOS, EOS, PAD, BPETokenizer, Merge, _subword
from lmlib.tokenizers._bytes import ALPHABET, from_bytes, to_bytes
from lmlib.tokenizers._merges import apply_merges
from lmlib.tokenizers.bpe import GPT2_PATTERN

ROOT = Path(__file__).resolve().parents[1]
SPECIALS = (PAD, BOS, EOS)
any_text = st.text(st.characters(), max_size=40)  # lone surrogates too
TEXTS = [
    "你好，世界！Hello, world's 2025  — don't  stop.\n\n\tdef f(x):\n\t    return x ** 2\n",
    "é e\u0301 ñ 👩\u200d👩\u200d👧 🇨🇳 한국어 日本語 العربية",
    "\u3000全角　空格\r\n\x00\x07\ufeff\u2028",
    "1234567890 ١٢٣ ⅷ ½ a1b2 we'll they've I'd it's '",
    "    ",
    "",
]


def prose() -> list[str]:
    """Real text in Chinese and English, with code and formulas."""
    paths = [*sorted((ROOT / "book").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    texts = [path.read_text(encoding="utf-8") for path in paths]
    notebook = json.loads(
        (ROOT / "chapters" / "05_encoder_decoder.ipynb").read_text(encoding="utf-8")
    )
    return texts + ["".join(cell["source"]) for cell in notebook["cells"]]


def reference(texts: list[str], vocab_size: int, min_count: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_count,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def assert_equal(texts: list[str], vocab_size: int, min_count: int, probes: list[str]) -> None:
    theirs = reference(texts, vocab_size, min_count)
    ours = BPETokenizer.train(texts, vocab_size, min_count=min_count)
    merges = json.loads(theirs.to_str())["model"]["merges"]
    assert [[row.left, row.right] for row in ours.merges] == merges
    ids = theirs.get_vocab()
    assert list(ours.vocab) == sorted(ids, key=ids.__getitem__)
    for text in probes:
        assert ours.encode(text, allow_specials=True) == theirs.encode(text).ids


@pytest.fixture(scope="module")
def trained() -> BPETokenizer:
    return BPETokenizer.train(prose(), 1500)


# ------------------------------------------------------------------ equal to Hugging Face


@pytest.mark.parametrize(("vocab_size", "min_count"), [(1500, 2), (1 << 20, 3)])
def test_real_text_like_hugging_face(vocab_size: int, min_count: int) -> None:
    texts = prose()
    assert_equal(texts, vocab_size, min_count, [*texts, *TEXTS, "".join(texts)])


@settings(max_examples=100, deadline=None)
@given(
    texts=st.lists(st.text(st.sampled_from("aab 你"), max_size=60), min_size=1, max_size=4),
    extra=st.integers(0, 60),
    min_count=st.integers(1, 3),
)
@example(texts=["aaaaaaa aaaa"], extra=9, min_count=1)
def test_ties_and_repetitions_like_hugging_face(
    texts: list[str], extra: int, min_count: int
) -> None:
    assert_equal(texts, 259 + extra, min_count, [*texts, "".join(texts), "aaaaaaaaa"])


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=40))
def test_pieces_like_hugging_face(text: str) -> None:
    # Letters and digits that came into Unicode lately are unknown to one of the two.
    text = "".join(char for char in text if ord(char) < 0x3000 or "一" <= char <= "鿿")
    theirs = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(text)
    ours = BPETokenizer.train([], 259).pieces(text)
    assert ["".join(ALPHABET[byte] for byte in to_bytes(piece)) for piece in ours] == [
        piece for piece, _ in theirs
    ]


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_merges_in_any_order_like_hugging_face(seed: int) -> None:
    rng = random.Random(seed)
    tokens, merges = random_merges(rng, ["a", "b", "c"], tries=12)
    ours = BPETokenizer([*sorted(ALPHABET), *tokens], merges)
    theirs = Tokenizer(models.BPE({t: i for i, t in enumerate(ours.vocab)}, merges))
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    for length in (2, 5, 40):
        text = "".join(rng.choice("abc") for _ in range(length))
        assert ours.encode(text) == theirs.encode(text).ids
        assert list(ours.steps(text))[-1].token_ids == tuple(ours.encode(text))


def test_gpt2s_alphabet() -> None:
    assert sorted(ALPHABET) == sorted(pre_tokenizers.ByteLevel.alphabet())
    assert [ALPHABET[byte] for byte in b" \n\x00!\xad\xff"] == ["Ġ", "Ċ", "Ā", "!", "Ń", "ÿ"]


def test_tokenizer_json_of_hugging_face(tmp_path: Path) -> None:
    theirs = reference(prose(), 600, 2)
    theirs.save(str(tmp_path / "tokenizer.json"))
    ours = BPETokenizer.from_huggingface(tmp_path)
    assert ours == BPETokenizer.train(prose(), 600)
    # The way Llama 3, Qwen and others write it: a pattern of their own, then bytes.
    theirs.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pattern_of(r"\p{N}{1,3}|\p{L}+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    theirs.save(str(tmp_path / "other.json"))
    ours = BPETokenizer.from_huggingface(tmp_path / "other.json")
    assert ours.pattern == r"\p{N}{1,3}|\p{L}+"
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text).ids


def pattern_of(text: str):  # type: ignore[no-untyped-def]
    from tokenizers import Regex

    return Regex(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"type": "WordPiece", "vocab": {}}}, '"model" has no "merges"'),
        ({"model": {"merges": [], "ignore_merges": True}}, "asks for ignore_merges=True, which is"),
        ({"normalizer": {"type": "NFC"}}, "asks for a normalizer"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, r"must cut the text by ByteLevel"),
        ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}}, "must cut the text"),
        ({"added_tokens": [{"id": 999, "content": "<x>"}]}, "without gaps"),
    ],
)
def test_other_tokenizer_jsons(change: dict[str, object], message: str, tmp_path: Path) -> None:
    content = json.loads(reference(["a"], 259, 2).to_str()) | change
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        BPETokenizer.from_huggingface(tmp_path)


# ------------------------------------------------------------------ text and ids


@settings(max_examples=200, deadline=None)
@given(text=any_text)
@example(text="\ud83d\ude00 \ud800")
@example(text="<pad><bos>Ġ\ufffd\x00")
def test_decode_undoes_encode(text: str, trained: BPETokenizer) -> None:
    ids = trained.encode(text, add_bos=True, add_eos=True)
    assert (ids[0], ids[-1]) == (trained.bos_id, trained.eos_id)
    assert trained.decode(ids) == text
    assert trained.decode(ids, skip_specials=False) == f"<bos>{text}<eos>"
    assert b"".join(map(trained.token_bytes, ids)) == text.encode("utf-8", "surrogatepass")
    assert not set(ids[1:-1]) & {trained.pad_id, trained.bos_id, trained.eos_id}
    assert "".join(trained.pieces(text)) == text


@settings(max_examples=50, deadline=None)
@given(text=any_text, pattern=st.sampled_from([r"\p{L}+", r"a", r"x*", r"(?=b)", r".+"]))
def test_a_pattern_with_holes_loses_nothing(text: str, pattern: str) -> None:
    tokenizer = BPETokenizer.train([text, "aaab bb"], 270, pattern=pattern)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert "" not in tokenizer.pieces(text)


def test_incomplete_bytes_become_u_fffd(trained: BPETokenizer) -> None:
    bytes_of = {trained.token_bytes(i): i for i in range(3, 259)}
    assert trained.decode([bytes_of[b"\xe4"]]) == "\ufffd"
    assert trained.decode([bytes_of[b"\xe4"], bytes_of[b"\xbd"], bytes_of[b"a"]]) == "\ufffda"
    assert trained.decode([bytes_of[bytes([b])] for b in "你".encode()]) == "你"
    assert trained.decode([bytes_of[b"\xff"], bytes_of[b"\x80"]]) == "\ufffd\ufffd"
    # A special between the bytes of a character ends the text before it, if it is shown.
    cut = [bytes_of[b"\xe4"], trained.eos_id, bytes_of[b"\xbd"], bytes_of[b"\xa0"]]
    assert trained.decode(cut, skip_specials=False) == "\ufffd<eos>\ufffd\ufffd"
    assert trained.decode(cut) == "你"


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=12))
@example(b"\xed\xa0\x80\xed\xb0")
@example(b"\xed\xa0")
def test_bytes_without_surrogates_decode_as_python_does(data: bytes) -> None:
    try:
        expected = data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        expected = None
    if expected is not None:
        assert from_bytes(data) == expected
    elif b"\xed" not in data:
        assert from_bytes(data) == data.decode("utf-8", "replace")
    else:
        assert "\ufffd" in from_bytes(data)


def test_specials_are_read_out_of_text_only_if_asked() -> None:
    texts = ["<bos><bos><bos> <eos>", "<eos><eos><pad>"] * 9
    tokenizer = BPETokenizer.train(texts, 400, min_count=1, specials=("<eos>", "<bos>", "<eos>>"))
    for text in texts:
        assert not set(tokenizer.encode(text)) & {0, 1, 2}
        assert tokenizer.decode(tokenizer.encode(text)) == text
    ids = tokenizer.encode("a<bos>b<eos>><eos>", allow_specials=True)
    assert [tokenizer.token_of(i) for i in ids] == ["a", "<bos>", "b", "<eos>>", "<eos>"]
    plain = BPETokenizer.train(texts, 300, specials=())
    assert plain.encode("<bos>", allow_specials=True) == plain.encode("<bos>")
    with pytest.raises(ValueError, match="'<bos>' is not among"):
        plain.encode("a", add_bos=True)


def test_the_steps_end_in_the_encoding(trained: BPETokenizer) -> None:
    for text in [*TEXTS, prose()[0][:2000]]:
        last: dict[int, tuple[int, ...]] = {}
        for step in trained.steps(text):
            before = last.get(step.piece)
            if step.merge is None:
                assert before is None
                assert step.index is None
                assert set(step.token_ids) <= set(range(3, 259))
            else:
                assert before is not None
                assert step.index is not None
                i = step.index
                left, right = before[i], before[i + 1]
                pair = (trained.token_of(left), trained.token_of(right))
                assert pair == (step.merge.left, step.merge.right)
                assert trained.token_of(step.token_ids[i]) == step.merge.token
                assert step.token_ids == (*before[:i], step.token_ids[i], *before[i + 2 :])
            last[step.piece] = step.token_ids
        assert [i for piece in sorted(last) for i in last[piece]] == trained.encode(text)


def test_one_long_piece() -> None:
    tokenizer = BPETokenizer.train(["abababab" * 8], 262)
    assert [row.token for row in tokenizer.merges] == ["ab", "abab", "abababab"]
    text = "ab" * 50_001
    assert tokenizer.encode(text) == [tokenizer.id_of("abababab")] * 12_500 + [
        tokenizer.id_of("ab")
    ]
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_memory_of_pieces_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_subword, "_CACHED_PIECES", 10)
    monkeypatch.setattr(_subword, "_CACHED_LENGTH", 5)
    tokenizer = BPETokenizer.train(["hello world"] * 3, 270)
    words = [f"w{'x' * (i % 9)}" for i in range(200)] + [f"w{i:x}" for i in range(99)]
    once = [tokenizer.encode(" ".join(words)) for _ in range(2)]
    assert once[0] == once[1]
    assert 0 < len(tokenizer._cache) <= 10
    assert max(map(len, tokenizer._cache)) <= 5
    tokenizer.encode("hello").clear()  # what was given away is the caller's
    assert tokenizer.decode(tokenizer.encode("hello")) == "hello"


def test_decode_takes_tensors_and_arrays(trained: BPETokenizer) -> None:
    ids = trained.encode("世界")
    assert trained.decode(torch.tensor(ids)) == trained.decode(np.array(ids)) == "世界"


# ------------------------------------------------------------------ training


def test_the_merge_history() -> None:
    tokenizer = BPETokenizer.train(["low lower lowest"] * 9, 263, min_count=2)
    assert tokenizer.merges == (
        Merge(0, "l", "o", "lo", 27),
        Merge(1, "lo", "w", "low", 27),
        Merge(2, "Ġ", "low", "Ġlow", 18),
        Merge(3, "Ġlow", "e", "Ġlowe", 18),
    )
    assert tokenizer.vocab[:4] == (PAD, BOS, EOS, "!")
    assert tokenizer.vocab[259:] == ("lo", "low", "Ġlow", "Ġlowe")
    # Below min_count nothing is merged; without text nothing at all.
    assert len(BPETokenizer.train(["low"] * 3, 300, min_count=4)) == 259
    assert len(BPETokenizer.train([], 300)) == 259
    assert len(BPETokenizer.train(["ab ab"], 300, min_count=1)) == 261


def test_readable() -> None:
    tokenizer = BPETokenizer.train(["你好 你好 "] * 3, 259 + 6)
    assert [tokenizer.readable(row.token) for row in tokenizer.merges][-1] in ("你好", " 你好")
    assert tokenizer.readable("Ġ") == " "
    assert tokenizer.readable("ä") == "<E4>"
    assert tokenizer.readable(EOS) == EOS
    assert tokenizer.token_bytes(tokenizer.eos_id) == b""
    assert tokenizer.readable(tokenizer.merges[0].token).startswith("<")
    # U+FFFD is a text like any other if its three bytes stand there.
    replacement = BPETokenizer.train(["\ufffd"] * 9, 259 + 2)
    assert replacement.readable(replacement.vocab[-1]) == "\ufffd"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"vocab_size": 258}, ValueError, r"at least 259 \(256 bytes and 3 specials\), got 258"),
        ({"vocab_size": 3.5}, TypeError, "vocab_size must be an int, got float"),
        ({"min_count": 0}, ValueError, "min_count must be 1 or more, got 0"),
        ({"specials": ("x",)}, ValueError, "specials must have two characters"),
        ({"specials": ("<x>", "<x>")}, ValueError, "specials must all differ"),
        ({"specials": "<x>"}, TypeError, "specials must be a list"),
        ({"pattern": "("}, ValueError, r"pattern must be a regular expression, got '\('"),
        ({"pattern": None}, ValueError, "pattern must be a regular expression, got None"),
        ({"texts": "abc"}, TypeError, "not one string"),
        ({"texts": [b"abc"]}, TypeError, "texts must hold strings, got bytes"),
        ({"texts": 3}, TypeError, "texts must be an iterable of strings, got int"),
    ],
)
def test_bad_training(arguments: dict, error: type[Exception], message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(error, match=message):
        BPETokenizer.train(**({"texts": ["abc"], "vocab_size": 300} | arguments))


# ------------------------------------------------------------------ the vocabulary and its files


def test_saved_and_loaded(trained: BPETokenizer, tmp_path: Path) -> None:
    trained.save(tmp_path / "bpe.json")
    loaded = BPETokenizer.load(str(tmp_path / "bpe.json"))
    assert loaded == trained
    assert loaded.merges == trained.merges
    assert hash(loaded) == hash(trained)
    assert repr(loaded) == "BPETokenizer(vocab_size=1500)"
    assert [loaded.encode(text) for text in TEXTS] == [trained.encode(text) for text in TEXTS]
    other = BPETokenizer.train(["ab"] * 3, 300, specials=("\ud800<", "<你>"), pattern=r"\w+|.")
    other.save(tmp_path / "bpe.json")
    assert BPETokenizer.load(tmp_path / "bpe.json") == other


def test_equal_means_equal_in_everything() -> None:
    vocab = [*sorted(ALPHABET), "ab", "abc", "bc"]
    first = BPETokenizer(vocab, [("a", "b"), ("ab", "c"), ("b", "c")])
    assert first == BPETokenizer(vocab, [Merge(7, "a", "b", "ab", 3), ("ab", "c"), ("b", "c")])
    assert first != BPETokenizer(vocab, [("b", "c"), ("a", "b"), ("ab", "c")])
    assert first != BPETokenizer(vocab, [("a", "b"), ("ab", "c"), ("b", "c")], pattern="x")
    assert first != BPETokenizer(vocab, [("a", "b"), ("b", "c")], specials=("abc",))
    assert [row.rank for row in first.merges] == [0, 1, 2]


@pytest.mark.parametrize(
    ("vocab", "merges", "specials", "message"),
    [
        (["a"], [], (), "a token for each byte, but 'Ā' is missing"),
        ([*ALPHABET, "你"], [], (), r"vocab\[256\] must be a special or in the alphabet"),
        ([*ALPHABET, "a"], [], (), "'a' twice"),
        ([*ALPHABET], [], ("<x>",), "'<x>' is not among"),
        ([*ALPHABET], [("a", "b")], (), r"but 'ab' of merges\[0\] is none"),
        ([*ALPHABET, "ab"], [("a", "b")], ("ab",), r"but 'ab' of merges\[0\] is none"),
        ([*ALPHABET, "ab"], [("a", "b")] * 2, (), r"\('a', 'b'\) twice, first as 0"),
        ([*ALPHABET, "ab"], ["ab"], (), r"pairs of tokens, but merges\[0\] is 'ab'"),
        ([*ALPHABET, "ab"], [("a", "b", "c")], (), "pairs of tokens"),
    ],
)
def test_bad_vocabularies(
    vocab: list[str], merges: list[tuple[str, str]], specials: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        BPETokenizer(vocab, merges, specials=specials)


def test_damaged_files(trained: BPETokenizer, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    trained.save(path)
    whole = path.read_text(encoding="utf-8")
    content = json.loads(whole)
    damaged = [
        whole[:-20],
        "[]",
        '{"type": "char", "vocab": []}',
        json.dumps(content | {"merges": None}),
        json.dumps(content | {"merges": [["a"]]}),
        json.dumps(content | {"merges": [["a", "b", "x"]]}),
        json.dumps(content | {"merges": [[1, 2, 3]]}),
        json.dumps(content | {"vocab": content["vocab"][:-1]}),
        json.dumps(content | {"specials": ["<x>"]}),
        json.dumps(content | {"pattern": "("}),
    ]
    for text in damaged:
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=r"x\.json is not a"):
            BPETokenizer.load(path)
    path.write_bytes(b"\xff\xfe{")
    with pytest.raises(ValueError, match=r"x\.json is not a text file in UTF-8"):
        BPETokenizer.load(path)


def test_wrong_ids_and_types(trained: BPETokenizer) -> None:
    for wrong in (-1, 1500):
        with pytest.raises(ValueError, match=rf"lie in 0 … 1499, got {wrong}"):
            trained.decode([wrong])
        with pytest.raises(ValueError, match="lie in"):
            trained.token_bytes(wrong)
    with pytest.raises(TypeError, match="must be an integer"):
        trained.decode(["a"])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="text must be a string, got bytes"):
        trained.encode(b"a")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="text must be a string, got NoneType"):
        next(trained.steps(None))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'你' is not among the 1500"):
        trained.id_of("你")
    with pytest.raises(ValueError, match="'<unk>' is not among"):
        _ = trained.unk_id


def test_merging_nothing() -> None:
    assert apply_merges([], {}) == []
    assert apply_merges([7], {(7, 7): (0, 8)}) == [7]
    assert apply_merges([7, 7, 7], {(7, 7): (0, 8)}) == [8, 7]
    assert GPT2_PATTERN.startswith("'s|")


def test_a_special_that_the_text_holds_is_no_merge() -> None:
    tokenizer = BPETokenizer.train(["low low"] * 5, 300, specials=("low", "<x>"))
    assert "low" not in [row.token for row in tokenizer.merges]
    assert tokenizer.id_of("low") not in tokenizer.encode("low low")
    assert tokenizer.decode(tokenizer.encode("low low")) == "low low"
