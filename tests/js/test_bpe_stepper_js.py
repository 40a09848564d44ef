"""Byte-pair encoding in the browser's language = `BPETokenizer`, merge by merge."""

from __future__ import annotations

import random
from collections import Counter
from functools import lru_cache
from itertools import chain, pairwise
from typing import Any

import pytest
from random_merges import random_merges

from lmlib import assets
from lmlib.tokenizers import BPETokenizer
from lmlib.tokenizers._bytes import ALPHABET, to_bytes
from lmlib.tokenizers.bpe import GPT2_PATTERN
from lmlib.widgets.base import source
from lmlib.widgets.bpe_stepper import DEFAULT_TEXT, BPEStepper, browser_pattern

SOURCE = source("bpe_stepper", ".js")

WRITTEN = [
    DEFAULT_TEXT,
    *("", " ", "a", "aa", "aaa", "aaaa aaaaa aaa", "abab ab ba", "aaab baaa", "你", "你你你你你"),
    "low low lower lowest newer newest",
    "你好，世界！你好，语言模型。\n世界，你好！",
    "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏",
    "the cat sat on the mat. The cat sat.",
    "we'll they've I'd it's '' 's's don't can't",
    "🙂🙂🙃🙂 👩\u200d👩\u200d👧 👩\u200d👩\u200d👧 🇨🇳🇨🇳",
    "\t\t  \n\n \r\n \r\n   a  b   c\u3000\u3000d\u00a0e\u0085f\ufeffg\u2028h\x00\x07\x1c",
    "  leading and trailing  ",
    "1234 1234 12 ١٢٣ ⅷ ½ a1b2a1b2",
    "é e\u0301 ñ é e\u0301 한국어 한국 日本語 日本 العربية",
    "ab cd ef ab cd ef",  # three pairs tie
    "zy yx zy yx",
    "zyx zyx",
    "Ġ Ġ ĠĠ Ċ Ā ÿ",
    "x = x ** 2; y = x ** 2  # x ** 2",
    "<pad><bos><eos><pad>",
    "\ud800 \udfff\ud800 \ud800",  # lone surrogates
    "ababcabcabcdababcd" * 4,
    "你好" * 40,
]


def drawn(seed: int) -> str:
    rng = random.Random(seed)
    letters = rng.choice(
        ["ab", "ab ", "abc 你好", "你好世界，\n", "aA1 .'\t\u3000🙂é", "的一是不了"]
    )
    return "".join(rng.choice(letters) for _ in range(rng.randint(1, 90)))


TEXTS = [*WRITTEN, *map(drawn, range(30))]

PATTERNS = [
    GPT2_PATTERN,
    r"\p{N}{1,3}|\p{L}+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"\p{Han}|[\p{Latin}\p{M}]+\b|\S",
    r"(?<=a)b+?|\bc",
]


@lru_cache(maxsize=1)
def of_the_book() -> BPETokenizer:
    return BPETokenizer.load(assets.path("models", "zh_en", "tokenizer.json"))


@lru_cache(maxsize=1)
def in_any_order() -> BPETokenizer:
    rng = random.Random(7)
    tokens, merges = random_merges(rng, ["a", "b", "c", "Ġ"], tries=25)
    vocab = [*ALPHABET, *tokens]
    rng.shuffle(vocab)
    return BPETokenizer(["<pad>", *vocab], merges, specials=["<pad>"])


def figure_with(name: str) -> BPEStepper:
    if name == "book":
        return BPEStepper("", of_the_book(), num_merges=5000)
    if name == "book, first 300":
        return BPEStepper("", of_the_book(), num_merges=300)
    if name == "any order":
        return BPEStepper("", in_any_order())
    pattern = PATTERNS[int(name)]
    texts = [text for text in TEXTS if "\ud800" not in text]
    return BPEStepper("", BPETokenizer.train(texts, 500, pattern=pattern))


# ------------------------------------------------------------------ training


def merged(symbols: list[str], left: str, right: str) -> list[str]:
    """One merge, written down plainly."""
    result: list[str] = []
    for symbol in symbols:
        if result and symbol == right and result[-1] == left:
            result[-1] = "\n" + left + right  # not to be taken for a `left` again
        else:
            result.append(symbol)
    return [symbol.lstrip("\n") for symbol in result]


@pytest.mark.parametrize("num_merges", [1000, 3])
def test_training_is_that_of_lmlib_at_every_step(run_node: Any, num_merges: int) -> None:
    """Merges and their counts; words and the counts of all pairs after each, counted plainly."""
    script = """(figure, { texts, ...settings }) => texts.map((text) => {
      const trained = figure.bpeTrain({ ...settings, text });
      return {
        ...trained,
        words: trained.states.map((_, step) => figure.bpeWordsAt(trained, step)),
        pairs: trained.states.map((_, step) => figure.bpePairsAt(trained, step)),
        lengths: trained.states.map((_, step) => figure.bpeLength(trained, step)),
      };
    })"""
    figure = BPEStepper("", num_merges=num_merges)
    settings = {
        "pattern": figure.pattern,
        "numMerges": figure.num_merges,
        "minCount": figure.min_count,
    }
    results = run_node(SOURCE, script, {"texts": TEXTS, **settings}, also=["bpeLength"])
    assert len(results) > 50
    for text, result in zip(TEXTS, results, strict=True):
        lmlib = BPETokenizer.train([text], 259 + num_merges)
        assert [(m["left"], m["right"], m["token"], m["count"]) for m in result["merges"]] == [
            (m.left, m.right, m.token, m.count) for m in lmlib.merges
        ], text
        assert result["symbols"] == list(lmlib.vocab[3:])

        pieces = lmlib.pieces(text)
        assert dict(zip(result["pieces"], result["counts"], strict=True)) == Counter(pieces)
        words = [[ALPHABET[byte] for byte in to_bytes(piece)] for piece in pieces]
        for step, shown in enumerate(result["words"]):
            if step:
                row = lmlib.merges[step - 1]
                words = [merged(word, row.left, row.right) for word in words]
            assert shown == [words[pieces.index(piece)] for piece in result["pieces"]], text
            assert result["lengths"][step] == sum(map(len, words))
            counts = Counter(pair for word in words for pair in pairwise(word))
            pairs = result["pairs"][step]
            assert {(p["left"], p["right"]): p["count"] for p in pairs} == counts, (text, step)
            assert [[lmlib.id_of(s) - 3 for s in (p["left"], p["right"])] for p in pairs] == [
                p["ids"] for p in pairs
            ]
            order = [(-p["count"], p["ids"]) for p in pairs]
            assert order == sorted(order)
        assert [*chain(*words)] == [lmlib.token_of(i) for i in lmlib.encode(text)]


def test_python_shows_the_same_words_and_pairs(run_node: Any) -> None:
    script = """(figure, { text, pattern }) => {
      const trained = figure.bpeTrain({ text, pattern, numMerges: 1000, minCount: 2 });
      return trained.states.map((_, step) => ({
        words: figure.bpeWordsAt(trained, step).map((word, i) => [word, trained.counts[i]]),
        pairs: figure.bpePairsAt(trained, step).map((p) => [p.left, p.right, p.count]),
      }));
    }"""
    for text in (DEFAULT_TEXT, *TEXTS[-6:]):
        figure = BPEStepper(text)
        steps = run_node(SOURCE, script, {"text": text, "pattern": figure.pattern})
        assert len(steps) == figure.num_steps + 1
        for step, shown in enumerate(steps):
            assert [[list(word), count] for word, count in figure.words(step)] == shown["words"]
            assert [list(pair) for pair in figure.pair_counts(step)] == shown["pairs"]


# ------------------------------------------------------------------ use


@pytest.mark.parametrize("name", ["book", "book, first 300", "any order", *"01234"])
def test_applying_a_tokenizer_is_that_of_lmlib_at_every_step(run_node: Any, name: str) -> None:
    """Which piece, rank and place come next; what every piece consists of then; the ids."""
    script = """(figure, { shipped, texts }) => {
      const tokenizer = figure.bpeTokenizer(shipped);
      return texts.map((text) => {
        const applied = figure.bpeApply(text, tokenizer);
        const at = Array.from({ length: applied.steps.length + 1 }, (_, step) =>
          figure.bpeAppliedAt(applied, tokenizer, step));
        return {
          steps: applied.steps,
          ids: at.map((pieces) => pieces.map((piece) => piece.map((s) => tokenizer.ids.get(s)))),
          candidates: applied.steps.map(({ piece }, step) =>
            figure.bpeCandidates(at[step][piece], tokenizer)),
          left: at.at(-1).flatMap((symbols) => figure.bpeCandidates(symbols, tokenizer)),
        };
      });
    }"""
    figure = figure_with(name)
    lmlib = figure.given
    assert lmlib is not None
    texts = [*TEXTS, "cab abcabc bcabca cab" * 3]
    results = run_node(SOURCE, script, {"shipped": figure.shipped, "texts": texts})
    for text, result in zip(texts, results, strict=True):
        rows = list(lmlib.steps(text))
        pieces = {row.piece: list(row.token_ids) for row in rows if row.merge is None}
        assert result["ids"][0] == list(pieces.values())
        walk = [row for row in rows if row.merge is not None]
        expected = [(row.piece, row.merge.rank, row.index) for row in walk if row.merge]
        assert [(s["piece"], s["rank"], s["index"]) for s in result["steps"]] == expected, text
        for step, row in enumerate(walk, start=1):
            first = result["candidates"][step - 1][0]
            assert row.merge is not None
            assert (first["rank"], first["index"]) == (row.merge.rank, row.index)
            pieces[row.piece] = list(row.token_ids)
            assert result["ids"][step] == list(pieces.values()), (text, step)
        assert [*chain(*result["ids"][-1])] == lmlib.encode(text)
        assert result["left"] == []
    assert any(result["steps"] for result in results)


def test_candidates_are_all_pairs_that_were_learnt(run_node: Any) -> None:
    script = """(figure, { shipped, symbols }) =>
      figure.bpeCandidates(symbols, figure.bpeTokenizer(shipped))"""
    figure = figure_with("any order")
    assert figure.given is not None
    ranks = {(row.left, row.right): row.rank for row in figure.given.merges}
    symbols = [ALPHABET[byte] for byte in b"abcabcbbca"]
    found = run_node(SOURCE, script, {"shipped": figure.shipped, "symbols": symbols})
    expected = [(ranks[pair], i) for i, pair in enumerate(pairwise(symbols)) if pair in ranks]
    assert [(row["rank"], row["index"]) for row in found] == sorted(expected)
    assert len(expected) > 2


# ------------------------------------------------------------------ pieces, bytes, readable text


@pytest.mark.parametrize("pattern", PATTERNS)
def test_pieces_are_those_of_lmlib(run_node: Any, pattern: str) -> None:
    """White space of every kind, letters of many scripts, and what no part matches."""
    lmlib = BPETokenizer.train([], 256, specials=(), pattern=pattern)
    rng = random.Random(1)
    letters = (
        "ab c'S12 \t\n\r\u0085\u00a0\u200b\u200d\u2028\u3000\ufeff\x1c_．é\u0301你好カ한ñßſѢ٣🙂"
    )
    texts = TEXTS + ["".join(rng.choices(letters, k=30)) for _ in range(200)]
    script = "(figure, d) => d.texts.map((text) => figure.bpePieces(text, d.pattern))"
    data = {"texts": texts, "pattern": browser_pattern(pattern)}
    results = run_node(SOURCE, script, data, also=["bpePieces"])
    assert results == [lmlib.pieces(text) for text in texts]


def test_bytes_are_utf_8(run_node: Any) -> None:
    points = [
        0,
        0x7F,
        0x80,
        0x7FF,
        0x800,
        0xD7FF,
        0xD800,
        0xDFFF,
        0xE000,
        0xFFFF,
        0x10000,
        0x10FFFF,
    ]
    script = "(figure, texts) => texts.map((text) => figure.bpeBytes(text))"
    found = run_node(SOURCE, script, [*map(chr, points), *TEXTS], also=["bpeBytes"])
    assert found == [list(to_bytes(text)) for text in [*map(chr, points), *TEXTS]]


def test_a_chip_shows_the_text_or_the_bytes(run_node: Any) -> None:
    """As `BPETokenizer.readable`, but blanks and what cannot be seen become visible."""
    lmlib = of_the_book()
    symbols = [token for token in lmlib.vocab if token not in lmlib.specials]
    script = "(figure, symbols) => symbols.map(figure.bpeReadable)"
    found = run_node(SOURCE, script, symbols, also=["bpeReadable"])
    for symbol, shown in zip(symbols, found, strict=True):
        readable = lmlib.readable(symbol)
        assert shown["hex"] == lmlib.token_bytes(lmlib.id_of(symbol)).hex(" ").upper()
        if shown["text"] is None:
            assert readable == f"<{shown['hex']}>"
        elif readable.isprintable():
            assert shown["text"] == readable.replace(" ", "␣")
    assert {None, "你", "␣the", "a"} <= {shown["text"] for shown in found}
    hidden = ["\t", "\n", "\r", " a", "\u200d", "\u3000", "\ufeff", "👩\u200d👧", "🙂"]
    symbols = ["".join(ALPHABET[byte] for byte in to_bytes(text)) for text in hidden]
    found = run_node(SOURCE, script, symbols, also=["bpeReadable"])
    assert [shown["text"] for shown in found] == [
        *("⇥", "↵", "U+000D", "␣a", "U+200D", "U+3000", "U+FEFF", "👩U+200D👧", "🙂"),
    ]


def test_the_pair_is_marked_where_it_will_be_merged(run_node: Any) -> None:
    """From the left and without overlaps: a a a a a has two places."""
    script = """(figure, cases) => cases.map(([symbols, left, right]) =>
      figure.bpePlaces(symbols, left && { left, right }))"""
    cases = [
        [list("aaaaa"), "a", "a"],
        [list("abcab"), "a", "b"],
        [list("abcab"), "b", "a"],
        [list("ab"), None, None],
        [[], "a", "b"],
    ]
    found = run_node(SOURCE, script, cases, also=["bpePlaces"])
    assert found == [[0, 2], [0, 3], [], [], []]
