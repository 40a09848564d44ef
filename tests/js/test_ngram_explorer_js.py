"""The n-gram explorer's arithmetic in the browser's language = `lmlib.ngram`."""

from __future__ import annotations

import base64
import itertools
import math
import random
from typing import Any

import numpy as np
import pytest

from lmlib.ngram import NGramModel
from lmlib.tokenizers import CharTokenizer
from lmlib.widgets._ngram_explorer import gamma, to_bytes, truncated_binary
from lmlib.widgets.base import source
from lmlib.widgets.ngram_explorer import NGramExplorer

SOURCE = source("ngram_explorer", ".js")
ALPHABET = "你好世界天地玄黄宇宙"
UNSEEN = "洪荒"  # in the vocabulary, not in the text
SETTINGS: list[dict[str, Any]] = [
    {"smoothing": "mle", "k": 1.0},
    {"smoothing": "add_k", "k": 1.0},
    {"smoothing": "add_k", "k": 0.003},
    {"smoothing": "kneser_ney", "k": 1.0},
]
RELATIVE = 1e-9


def texts(count: int = 60, seed: int = 0) -> list[str]:
    """Texts of 0 to 9 characters, the first ones of the alphabet the more frequent."""
    draw = random.Random(seed)
    weights = [1 / (i + 1) for i in range(len(ALPHABET))]
    return ["".join(draw.choices(ALPHABET, weights, k=draw.randrange(10))) for _ in range(count)]


TOKENIZER = CharTokenizer.train([*texts(), UNSEEN])
V = len(TOKENIZER)


def fitted(order: int, **options: Any) -> NGramModel:
    return NGramModel(order, V, **options).fit(TOKENIZER.encode(text) for text in texts())


def state(figure: NGramExplorer) -> dict[str, Any]:
    counts = base64.b64encode(figure.counts).decode("ascii")
    return {"counts": counts, "shape": figure.shape, "discounts": figure.discounts}


def prefixes() -> list[str]:
    """Seen and unseen ones, with characters outside the vocabulary, and the empty one."""
    draw = random.Random(1)
    found = [
        "",
        "你",
        "你好世界",
        "洪",
        "洪荒",
        "猫",
        "你猫好",
        "你好猫",
        "猫猫猫猫猫",
        "宙宙宙宙宙",
    ]
    for length in range(1, 7):
        for letters in (ALPHABET, "你好世", ALPHABET + UNSEEN + "猫"):
            found.append("".join(draw.choices(letters, k=length)))
    return found


NUMBERS = """(figure, input, bytes) => {
  const tables = figure.ngUnpack(bytes(input.counts), input.shape);
  const eos = input.shape.eos_id;
  // JSON has no infinity and no NaN.
  const plain = (x) => (Number.isFinite(x) ? x : String(x));
  return input.cases.map(({ order, smoothing, k, ids }) => {
    const setting = { order, smoothing, k, discounts: input.discounts[order - 1] };
    const h = figure.ngHistory(tables, order, ids, ids.length);
    const p = figure.ngDistribution(tables, setting, h);
    const walks = [ids, [...ids, eos]].map((tokens) => figure.ngWalk(tables, setting, tokens));
    return {
      p: [...p],
      single: [...p].map((_, token) => figure.ngProbability(tables, setting, h, token)),
      factors: walks.map((walk) => walk.map((step) => step.p)),
      logs: walks.map((walk) => walk.map((step) => plain(step.logP))),
      sums: walks.map((walk) => walk.map((step) => plain(step.sum))),
      perplexities: walks.map((walk) => plain(figure.ngPerplexity(walk))),
      top: figure.ngTop(p, (id) => id > 3, 10),
    };
  });
}"""


def number(value: float | str) -> float:
    return float(str(value).replace("Infinity", "inf"))


def assert_equals(result: dict[str, Any], model: NGramModel, ids: list[int]) -> None:
    """What the page computed of one prefix is what a model of lmlib says."""
    start = [1] * (model.config.order - 1)
    expected = model.distribution(start + ids).numpy()
    np.testing.assert_allclose(result["p"], expected, rtol=RELATIVE)
    np.testing.assert_allclose(result["single"], expected, rtol=RELATIVE)
    log_p = model.token_log_probs(ids).numpy()
    for with_end in (0, 1):
        logs = log_p if with_end else log_p[:-1]
        got = [number(x) for x in result["logs"][with_end]]
        np.testing.assert_allclose(got, logs, rtol=RELATIVE, atol=1e-12)
        np.testing.assert_allclose(result["factors"][with_end], np.exp(logs), rtol=RELATIVE)
        sums = [number(x) for x in result["sums"][with_end]]
        np.testing.assert_allclose(sums, np.cumsum(logs), rtol=RELATIVE, atol=1e-12)
        perplexity = number(result["perplexities"][with_end])
        wanted = math.exp(-logs.mean()) if len(logs) else math.nan
        assert perplexity == pytest.approx(wanted, rel=RELATIVE, nan_ok=True)
    assert perplexity == pytest.approx(model.perplexity([ids]), rel=RELATIVE)


@pytest.mark.parametrize(
    ("most", "discount"), [(1, None), (2, 0.4), (3, None), (3, (0.1, 0.9, 0.6)), (4, None), (3, 0)]
)
def test_every_order_and_smoothing_equals_a_model_fitted_anew(
    run_node: Any, most: int, discount: Any
) -> None:
    figure = NGramExplorer(fitted(most, discount=discount), TOKENIZER)
    all_ids = [TOKENIZER.encode(prefix) for prefix in prefixes()]
    settings = list(itertools.product(range(1, most + 1), SETTINGS))
    cases = [
        {"order": order, **setting, "ids": ids}
        for (order, setting), ids in itertools.product(settings, all_ids)
    ]
    results = iter(run_node(SOURCE, NUMBERS, {**state(figure), "cases": cases}))
    unseen = 0
    for order, setting in settings:
        cut = discount[:order] if isinstance(discount, tuple) else discount
        model = fitted(order, discount=cut, **setting)
        figure.order, figure.smoothing, figure.k = order, setting["smoothing"], setting["k"]
        for i, ids in enumerate(all_ids):
            result = next(results)
            assert_equals(result, model, ids)
            unseen += "-Infinity" in result["logs"][1]
            if i % 7 == 0:
                # And the twin in Python says the same.
                figure.text, figure.with_end = prefixes()[i], i % 2 == 0
                logs = model.token_log_probs(ids).numpy()
                np.testing.assert_array_equal(figure.log_probs(), logs[: len(ids) + (i % 2 == 0)])
                names = [figure._name(token) for token in result["top"]]
                assert names == [name for name, _ in figure._top()]
    assert unseen > 5


def test_counts_are_those_of_the_model(run_node: Any) -> None:
    """c, N1+(• g) and where BOS stands, of every k-gram, through the page's own look-up."""
    model = fitted(4)
    grams = [
        (k, tokens.tolist(), int(c))
        for k in range(1, 5)
        for tokens, c in zip(*model.ngrams(k), strict=True)
    ]
    script = """(figure, input, bytes) => {
      const tables = figure.ngUnpack(bytes(input.counts), input.shape);
      return input.grams.map(([k, tokens]) => {
        const contexts = figure.ngContexts(tables, tokens.slice(0, -1));
        const number = figure.ngFind(tables, k, contexts[k - 1], tokens[k - 1]);
        const { count, continuation } = tables.levels[k];
        return [number, count[number], continuation?.[number] ?? null];
      });
    }"""
    figure = NGramExplorer(model, TOKENIZER)
    results = run_node(SOURCE, script, {**state(figure), "grams": grams})
    numbers: dict[int, list[int]] = {}
    for (k, tokens, c), (place, count, continuation) in zip(grams, results, strict=True):
        assert count == c == model.count(tokens)
        if k < 4:
            assert continuation == model.continuation_count(tokens)
        numbers.setdefault(k, []).append(place)
    assert [numbers[k] for k in range(1, 5)] == [list(range(n)) for n in model.num_ngrams]


def test_damaged_counts_are_noticed(run_node: Any) -> None:
    script = """(figure, input, bytes) => {
      try { figure.ngUnpack(bytes(input.counts), input.shape); } catch (error) {
        return error.message;
      }
      return "";
    }"""
    figure = NGramExplorer(fitted(3), TOKENIZER)
    good = state(figure)
    assert run_node(SOURCE, script, good) == ""
    cut = {**good, "counts": base64.b64encode(figure.counts[: len(figure.counts) // 2]).decode()}
    assert run_node(SOURCE, script, cut) == "ngram_explorer: counts are damaged"
    one, two, three = figure.shape["num_ngrams"]
    for sizes in ([one + 1, two, three], [one, two - 1, three], [one, two, three - 1]):
        shape = {**figure.shape, "num_ngrams": sizes}
        message = run_node(SOURCE, script, {**good, "shape": shape})
        assert message == "ngram_explorer: counts are damaged", sizes


def test_codes_are_read_back(run_node: Any) -> None:
    """Gamma codes up to 2³¹, and places in rooms of every size up to 40."""
    draw = random.Random(2)
    numbers = [
        1,
        2,
        3,
        2**31 - 1,
        *(draw.randrange(1, 2 ** draw.randrange(1, 31)) for _ in range(99)),
    ]
    rooms = [(size, value) for size in range(1, 41) for value in range(size)]
    codes = [*map(gamma, numbers), *(truncated_binary(value, size) for size, value in rooms)]
    script = """(figure, input, bytes) => {
      const bits = figure.ngBits(new Uint8Array(bytes(input.data).buffer,
        bytes(input.data).byteOffset, bytes(input.data).byteLength));
      const numbers = Array.from({ length: input.count }, bits.gamma);
      const places = input.sizes.map((size) => {
        const into = [];
        bits.sorted(into, 0, 1, 0, size - 1);
        return into[0];
      });
      return [numbers, places];
    }"""
    data = base64.b64encode(to_bytes(codes)).decode("ascii")
    given = {"data": data, "count": len(numbers), "sizes": [size for size, _ in rooms]}
    assert run_node(SOURCE, script, given, also=["ngBits"]) == [
        numbers,
        [value for _, value in rooms],
    ]


def test_the_vocabulary_reads_text_as_the_tokenizer_does(run_node: Any) -> None:
    specials = ["<pad>", "<bos>", "<eos>", "<unk>", "<sep>"]
    tokenizer = CharTokenizer([*specials[:2], "你", *specials[2:], "\n", " ", "𪚥", '"', "好"])
    model = NGramModel(2, len(tokenizer), eos_id=3).fit([tokenizer.encode("你好 𪚥\n")])
    figure = NGramExplorer(model, tokenizer)
    script = """(figure, input) => {
      const { tokens, encode, writable } = figure.ngVocabulary(
        { get: (name) => input[name] }, input.shape);
      const ids = input.texts.map((text) => encode([...text]));
      return [tokens, ids, tokens.map((_, i) => writable(i))];
    }"""
    given = ["你好\n𪚥", "猫<unk>", '"', "", "\ud842 "]
    traits = {name: getattr(figure, name) for name in ("vocabulary", "specials", "shape")}
    tokens, ids, writable = run_node(
        SOURCE, script, {**traits, "texts": given}, also=["ngVocabulary"]
    )
    assert tuple(tokens) == tokenizer.vocab
    assert ids == [tokenizer.encode(text) for text in given]
    assert writable == [token not in specials for token in tokenizer.vocab]


def mulberry32(seed: int) -> tuple[float, int]:
    mask = 0xFFFFFFFF
    state = (seed + 0x6D2B79F5) & mask
    t = ((state ^ (state >> 15)) * (state | 1)) & mask
    t ^= (t + ((t ^ (t >> 7)) * (t | 61) & mask)) & mask
    return (t ^ (t >> 14)) / 2**32, state


def test_random_numbers_are_mulberry32(run_node: Any) -> None:
    script = """(figure, seed) => Array.from({ length: 200 }, () => {
      const { value, next } = figure.ngRandom(seed);
      seed = next;
      return [value, next];
    })"""
    for seed in (0, 1, 2**32 - 1):
        expected, state = [], seed
        for _ in range(200):
            value, state = mulberry32(state)
            expected.append([value, state])
        assert run_node(SOURCE, script, seed) == expected


def test_draws_follow_the_distribution(run_node: Any) -> None:
    p = [0.1, 0.2, 0.0, 0.3, 0.0, 0.4]
    script = """(figure, p) => {
      const counts = p.map(() => 0);
      for (let i = 0; i < 10000; i++) {
        counts[figure.ngDraw(p, (token) => token !== 1, (i + 0.5) / 10000)] += 1;
      }
      return counts;
    }"""
    assert run_node(SOURCE, script, p) == [1250, 0, 0, 3750, 0, 5000]


def test_evidence_says_what_was_counted(run_node: Any) -> None:
    """By hand: 你好世界 twice and 你好 once; 你 世 never side by side."""
    tokenizer = CharTokenizer.train(["你好世界"])
    model = NGramModel(3, len(tokenizer), smoothing="kneser_ney")
    model.fit(tokenizer.encode(text) for text in ("你好世界", "你好世界", "你好"))
    figure = NGramExplorer(model, tokenizer)
    script = """(figure, input, bytes) => {
      const tables = figure.ngUnpack(bytes(input.counts), input.shape);
      return input.cases.map(([smoothing, order, names, h, w]) => {
        const setting = { order, smoothing, k: 1, discounts: input.discounts[order - 1] };
        const token = figure.ngEvidence(tables, setting, h, w);
        const whole = figure.ngEvidence(tables, setting, h);
        return [
          figure.ngEvidenceText(token, setting, [...names]),
          figure.ngNextText(whole, setting, [...names]),
        ];
      });
    }"""

    def case(smoothing: str, h: str, w: str) -> list[Any]:
        return [smoothing, len(h) + 1, h, tokenizer.encode(h), tokenizer.encode(w)[0]]

    wanted = [
        (case("mle", "你好", "世"), "2/3", "「你好」后面见过 3 个词元，2 种：c(h •) = 3。"),
        (
            case("mle", "你世", "界"),
            "0/0，取 1/V",
            "没见过「你世」后面的字：c(h •) = 0，公式成了 0 ÷ 0",
        ),
        (case("add_k", "你好", "你"), "(0＋k) / (3＋kV)", "「你好」后面见过 3 个词元"),
        (case("add_k", "世你", "你"), "(0＋k) / (0＋kV)", "分子只剩 k，分母只剩 k V"),
        (case("kneser_ney", "你好", "世"), "2/3", "γ(h) = D × 2 ÷ 3 = "),
        (case("kneser_ney", "界好", "世"), "退到「好」 N₁₊ 1/2", "退到「好」，它后面见过 2 种。"),
        (case("kneser_ney", "你好", "你"), "退到单字 N₁₊ 1/6", "这么多概率留给「好」"),
        (case("kneser_ney", "好猫", "猫"), "没见过，只剩 1/V", "更短的也没有，退到单字。"),
        (case("mle", "", "好"), "3/13", "一元模型不看前文：全部 13 个词元里有 5 种。"),
        (case("kneser_ney", "好", "世"), "2/3", "这么多概率留给单字。"),
    ]
    cases = [given for given, _, _ in wanted]
    results = run_node(SOURCE, script, {**state(figure), "cases": cases})
    for (given, short, sentence), (got_short, got_sentence) in zip(wanted, results, strict=True):
        assert got_short == short, given
        assert sentence in got_sentence, given


def test_numbers_and_sentences_for_reading(run_node: Any) -> None:
    script = """(figure) => {
      const ln = Math.log;
      return [
        figure.ngPowerText(ln(0.5)), figure.ngPowerText(ln(0.00123)),
        figure.ngPowerText(ln(0.000264)), figure.ngPowerText(ln(9.999e-6)),
        figure.ngPowerText(-1000), figure.ngPowerText(-Infinity), figure.ngPowerText(0),
        figure.ngPerplexityText(NaN), figure.ngPerplexityText(Infinity),
        figure.ngPerplexityText(77.113), figure.ngPerplexityText(6961.7),
        figure.ngPerplexityText(2.5e7), figure.ngCountText(1234567).replaceAll("\\u00a0", " "),
        figure.ngLogText(-ln(8), "bits"), figure.ngLogText(-ln(8), "nats"),
        figure.ngLogText(-Infinity, "nats"),
        figure.ngTicks(-1), figure.ngTicks(-9), figure.ngTicks(-23), figure.ngTicks(-450),
        figure.ngUnknownText([]), figure.ngUnknownText(["猫", "狗", "猫"]),
        figure.ngSummaryText([], [], "nats"),
        figure.ngSummaryText([{ sum: ln(1 / 8) }, { sum: ln(1 / 64) }], ["你", "好"], "bits"),
        figure.ngZeroText("世", { whole: { total: 12 } }, { order: 2, smoothing: "mle" }, ["好"]),
      ];
    }"""
    assert run_node(SOURCE, script, None) == [
        *("0.500", "0.00123", "2.64×10⁻⁴", "1.00×10⁻⁵", "5.08×10⁻⁴³⁵", "0", "1.00"),
        *("—", "∞", "77.11", "6\u00a0962", "2.50×10⁷", "1 234 567", "−3.00", "−2.08", "−∞"),
        *([0, -1], [0, -5], [0, -10, -20], [0, -200, -400]),
        *("", "「猫」「狗」不在词表里：模型看到的都是同一个词元 <unk>。"),
        "前缀是空的：还没有因子可以乘。",
        "P(你好) = 0.0156，log P = −6.00 比特，困惑度 8.000",
        "「好」后面见过 12 个词元，没有一个是「世」："
        "P = 0，log P = −∞，乘到这里就是 0，困惑度是 ∞。",
    ]


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ({"order": 3, "smoothing": "mle"}, "P(w | h) = c(h w) ÷ c(h •)　h：前面 2 个字"),
        ({"order": 1, "smoothing": "mle"}, "P(w | h) = c(h w) ÷ c(h •)　没有 h：不看前文"),
        (
            {"order": 2, "smoothing": "add_k", "k": 0.1},
            "P(w | h) = ( c(h w) ＋ k ) ÷ ( c(h •) ＋ k V )　h：前面 1 个字，k = 0.1，V = 3785",
        ),
        (
            {"order": 2, "smoothing": "kneser_ney", "discounts": [0.5, 0.75]},
            "P(w | h) = max( c(h w) − D, 0 ) ÷ c(h •) ＋ γ(h) P(w | h′)　h：前面 1 个字，"
            "h′：少看最前面一个字，D = 0.750",
        ),
    ],
)
def test_formula_says_what_is_computed(run_node: Any, setting: dict[str, Any], text: str) -> None:
    script = "(figure, setting) => figure.ngFormulaText(setting, 3785)"
    assert run_node(SOURCE, script, setting) == text
