"""The tokenizers of the shipped models in the browser's language = lmlib's."""

from __future__ import annotations

import itertools
import random
import unicodedata
from typing import Any

import pytest
from test_model_js import ENGINE

from lmlib.assets import path
from lmlib.datasets import load_date_pairs, load_grammar_pairs, load_poems, load_sentence_pairs
from lmlib.pretrained import load_tokenizer
from lmlib.tokenizers import BPETokenizer, CharTokenizer
from lmlib.tokenizers.bpe import GPT2_PATTERN
from lmlib.widgets.bpe_stepper import browser_pattern

ODD = [
    "", " ", "  ", "\n", "\t \r\n", "\u3000", "\ufeff", "\x00\x1f\x7f\x85", "a",
    "A b", "don't we'll", "🙂", "👩‍👩‍👧‍👦", "é", "e\u0301", "ﬁ", "𠮷野家", "你好，世界！",
    "２０２６年", "²³½", "<bos>", "<unk>", "\ud800", "a\udfffb", "\u2028", "न्दी",
    "العربية", "한국어", "ß", "…——", "0123456789" * 4,
]  # fmt: skip
ENCODE = """(figure, { content, texts, ids }) => {
  const tokenizer = figure.lmTokenizer(content);
  return {
    encoded: texts.map((text) => tokenizer.encode(text)),
    decoded: ids.map((some) => tokenizer.decode(some)),
    pieces: content.vocab.map((_, id) => tokenizer.piece(id)),
    unknown: texts.map((text) => tokenizer.unknown(text)),
    named: content.vocab.map((token) => tokenizer.idOf(token)),
  };
}"""


def content_of(tokenizer: Any) -> dict[str, Any]:
    from lmlib.export import _tokenizer_content

    return dict(_tokenizer_content(tokenizer))


def corpus() -> list[str]:
    """Some texts of each corpus, in both languages."""
    chosen = random.Random(0)
    pairs = [
        *chosen.sample(load_date_pairs().test, 60),
        *chosen.sample(load_grammar_pairs(2000).test, 60),
        *chosen.sample(load_sentence_pairs().test, 60),
    ]
    poems = [poem.text for poem in chosen.sample(load_poems().test, 40)]
    return [text for pair in pairs for text in pair] + poems


def random_texts(count: int = 300) -> list[str]:
    """Of letters, hanzi, signs, emoji and whatever else has been assigned for long."""
    chosen = random.Random(1)
    ranges = [(0x20, 0x7F), (0x4E00, 0x9FA6), (0x3000, 0x303F), (0x1F600, 0x1F640), (0xA0, 0x2000)]
    old = unicodedata.ucd_3_2_0
    texts = []
    for _ in range(count):
        some = (chr(chosen.randrange(*chosen.choice(ranges))) for _ in range(chosen.randrange(30)))
        texts.append("".join(c for c in some if old.category(c) != "Cn" or c > "\U0001f000"))
    return texts


def unknown_to(tokenizer: Any, text: str) -> list[int]:
    if isinstance(tokenizer, CharTokenizer):
        return [i for i, char in enumerate(text) if char not in tokenizer]
    return [
        i
        for i, char in enumerate(text)
        if not any(tokenizer.readable(t) == char for t in _tokens(tokenizer, char))
    ]


def _tokens(tokenizer: Any, char: str) -> list[str]:
    """The token of that character alone, if there is one; else its bytes."""
    whole = "".join(tokenizer.token_of(i) for i in tokenizer.encode(char))
    return [whole] if whole in tokenizer else []


def assert_equal(run_node: Any, tokenizer: Any, texts: list[str]) -> None:
    chosen = random.Random(2)
    ids = [chosen.choices(range(len(tokenizer)), k=k % 12) for k in range(200)]
    if isinstance(tokenizer, BPETokenizer):  # bytes that are no UTF-8, or a lone surrogate
        start = tokenizer.id_of("!")
        some = [chosen.choices(range(start, start + 256), k=8) for _ in range(300)]
        ids += some + [tokenizer.encode(text) for text in ODD]
    data = {"content": content_of(tokenizer), "texts": texts, "ids": ids}
    got = run_node(ENGINE, ENCODE, data, also=["lmTokenizer"])
    for text, found, places in zip(texts, got["encoded"], got["unknown"], strict=True):
        assert found == tokenizer.encode(text), ascii(text)
        assert places == unknown_to(tokenizer, text), ascii(text)
    for some, found in zip(ids, got["decoded"], strict=True):
        assert found == tokenizer.decode(some), some
    assert got["named"] == list(range(len(tokenizer)))
    if isinstance(tokenizer, BPETokenizer):
        assert got["pieces"] == [tokenizer.readable(token) for token in tokenizer.vocab]
    else:
        assert got["pieces"] == list(tokenizer.vocab)


@pytest.mark.parametrize("name", ["hello_world", "zh_en", "poem_gpt", "poem_bert"])
def test_a_shipped_tokenizer(run_node: Any, name: str) -> None:
    tokenizer = load_tokenizer(path("models", name))
    assert_equal(run_node, tokenizer, [*corpus(), *ODD, *random_texts()])


def test_merges_in_any_order(run_node: Any) -> None:
    """Ranks that no text taught: a later merge may make a pair that goes first."""
    chosen = random.Random(3)
    letters = "abcd"
    for _ in range(3):
        pairs = {"".join(p): p for n in (2, 3) for p in itertools.product(letters, repeat=n)}
        merges = [(token[:-1], token[-1]) for token in pairs if len(token) == 2]
        merges += [(token[:2], token[2]) for token in pairs if len(token) == 3]
        chosen.shuffle(merges)
        base = BPETokenizer.train([], 256, specials=())
        tokenizer = BPETokenizer([*base.vocab, *pairs], merges)
        texts = ["".join(chosen.choices(letters, k=k)) for k in range(40)]
        assert_equal(run_node, tokenizer, texts)


def test_a_vocabulary_without_unk_refuses(run_node: Any) -> None:
    content = content_of(CharTokenizer.from_vocab(["天", "地", "<bos>"]))
    script = """(figure, content) => {
      const tokenizer = figure.lmTokenizer(content);
      const said = (act) => {
        try { return act(); } catch (error) { return error.message; }
      };
      return [said(() => tokenizer.encode("天人")), said(() => tokenizer.idOf("<eos>"))];
    }"""
    said = run_node(ENGINE, script, content, also=["lmTokenizer"])
    assert said == ["词表里没有「人」，也没有代替它的词元。", "词表里没有「<eos>」。"]


PATTERNS = [
    GPT2_PATTERN,
    r"\p{Han}| ?\p{N}|'(?:s|t|re|ve|m|ll|d)\b| ?(?:(?!\p{Han})\p{L})+| ?[^\s\p{L}\p{N}]|\s",
    r"\S+\s?|(?<=a)b{2,3}?|(?i:x)|[^a-z]",
]
BAD_PATTERNS = [r"\X", r"\w+", r"a++", r"(?P<a>b)", r"a.b", r"\p{Thai}", r"[]a]", r"[\b]"]


def test_patterns_are_translated_as_in_python(run_node: Any) -> None:
    script = """(figure, patterns) => patterns.map((pattern) => {
      try { return figure.lmBrowserPattern(pattern); } catch (error) { return [error.message]; }
    })"""
    got = run_node(ENGINE, script, PATTERNS + BAD_PATTERNS, also=["lmBrowserPattern"])
    for pattern, found in zip(PATTERNS + BAD_PATTERNS, got, strict=True):
        if pattern in PATTERNS:
            assert found == browser_pattern(pattern)
            continue
        assert found == ["这个模型的分词器用了网页里没有的正则表达式。"], pattern
        with pytest.raises(ValueError, match="pattern"):
            browser_pattern(pattern)
