"""Check the typography of the book's Chinese: ``python -m tools.prose [files]``.

The text is taken out of its markup first: code and formulas become one Latin letter, since they
are spaced as a Latin word is. What is left is judged by AutoCorrect (the gap between Chinese and
Latin, full-width punctuation) and by the rules below, which it does not have. What stands
somewhere as it is, because the sentence is about just that, is listed in ``book/words.yml``.
"""

from __future__ import annotations

import argparse
import ast
import functools
import html
import io
import json
import re
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import autocorrect_py
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.colon_fence import colon_fence_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.front_matter import front_matter_plugin

ROOT = Path(__file__).resolve().parents[1]
HAN = "\u4e00-\u9fa5"
STOP = "，。、；：？！"
CODE = "x"  # stands for code or a formula
FILLED = "\ue000"  # stands for what a program fills in, Chinese or not

# A space of full width stands after a label alone: 「1　…」, 「小测 2　…」, 「图 3.1　…」.
LABEL = re.compile(r"\d+|小测 \d+|图 \d+(\.\d+)?|练习 \d+( ✎)?(（.*）)?|深入|延伸阅读|\([a-z]\).*")
RULES: dict[str, str] = {
    "标点用全角": rf"[{HAN}][,;:?!](?!\d)|[,;?!]\s?[{HAN}]",
    "字母、数字用半角": "[０-９Ａ-Ｚａ-ｚ％]",
    "括号用全角": rf"[{HAN}] ?\([^)]*[{HAN}]|(?<![A-Za-z∏γ√]) ?\([{HAN}]",
    "引号用「」": r"[“”‘’]",
    "省略号是……": rf"[{HAN}](…(?!…)|\.\.\.)|(?<!…)…[{HAN}]|\.\.\.[{HAN}]",
    "标点重复": rf"([，。、；：])[{STOP}]|([？！])\2",
    "标点旁不空格": rf"[{STOP}「」（）《》] | [{STOP}」）》]",
    "汉字之间不空格": rf"[{HAN}] +(?=[{HAN}])",
    "范围写「到」，复合词用—": rf"[{HAN}]\s?[-–~][{HAN}]|——|～",
}
# These hold for a page; in a figure or a message columns are set with blanks, and ** is a power.
PAGE_RULES = {
    "引号不用直的": rf"(?<=[{HAN}{STOP}])['\"]|['\"](?=[{HAN}])",
    "只空一格": r"\S  +\S",
    # 4096, 11 000, 12 476 416; what stands in a tuple is code.
    "四位数连着写": r"(?<![\d.])(?<!\d )\d \d{3}(?![\d.]| \d{3})",
    "五位起三位一空": r"(?<![\d.])(?<!, )\d{5,}",
    "加粗没有成对": rf"\*\*|[{HAN}]\*|\*[{HAN}]|(?<!_)__(?!_)",
}
PAIRS = (("「", "」"), ("『", "』"), ("《", "》"), ("（", "）"))


class Passage(NamedTuple):
    """A line of text without its markup, where it stands, and whether that is a page."""

    where: str
    text: str
    page: bool = False


@functools.cache
def _parser() -> MarkdownIt:
    """The Markdown of the book: tables, formulas, front matter, boxes with colons."""
    parser = MarkdownIt("commonmark", {"html": True}).enable("table")
    parser.use(dollarmath_plugin, double_inline=True)
    return parser.use(front_matter_plugin).use(colon_fence_plugin)


def _inline(children: list[Token]) -> str:
    """Text of a block, with the line breaks of its source."""
    text, inside = "", False
    for token in children:
        tag = re.match(r"<(/?)(code|kbd)\b", token.content) if token.type == "html_inline" else None
        if tag:
            inside = not tag[1]
            text += CODE if inside else ""
        elif inside:
            continue
        elif token.type in ("code_inline", "math_inline", "math_inline_double"):
            text += CODE
        elif token.type in ("softbreak", "hardbreak"):
            text += "\n"
        elif token.type in ("text", "image"):
            text += token.content
    return text


def of_markdown(source: str, where: str) -> Iterator[Passage]:
    """Every line of prose in a Markdown text; fences, formulas and tags are left out."""
    for token in _parser().parse(source):
        first = token.map[0] + 1 if token.map else 1
        if token.type == "inline":
            text = _inline(token.children or [])
        elif token.type == "html_block":
            text = re.sub(r"<(code|kbd)>.*?</\1>|&lt;\S+?&gt;", CODE, token.content)
            text = html.unescape(re.sub(r"<[^>]*>", "", text))
        elif token.type == "front_matter":
            text = re.sub(r"^\w+:", "", token.content, flags=re.M)
        elif token.type == "colon_fence":
            yield from of_markdown(token.content, f"{where}:{first}")
            continue
        else:
            continue
        for number, line in enumerate(text.split("\n"), start=first):
            yield Passage(f"{where}:{number}", line, page=True)


def of_comments(source: str, where: str) -> Iterator[Passage]:
    """Every comment of Python code; the magics of a notebook are no Python."""
    source = re.sub(r"^(\s*)[%!].*", r"\1pass", source, flags=re.M)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield _string(token.string.lstrip("#"), f"{where}:{token.start[0]}")


def of_python(source: str, where: str) -> Iterator[Passage]:
    """Every string of a Python file but the docstrings; an f-string is one."""
    tree = ast.parse(source)
    skipped = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.JoinedStr):
            skipped |= {id(part) for part in node.values}
            parts = (str(p.value) if isinstance(p, ast.Constant) else FILLED for p in node.values)
            text = "".join(parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        for line in text.split("\n"):
            yield _string(line, f"{where}:{node.lineno}")


STRING = re.compile(r"//[^\n]*|'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"|`(?:[^`\\]|\\.)*`")


def of_javascript(source: str, where: str) -> Iterator[Passage]:
    """Every string of a JavaScript file; what a template fills in is unknown."""
    for match in STRING.finditer(source):
        text = match.group()[1:-1]
        if match.group().startswith("//"):
            continue
        while (shorter := re.sub(r"\$?\{[^{}]*\}", FILLED, text)) != text:
            text = shorter
        if "${" in text:  # a template in a template: no string of its own
            continue
        number = source.count("\n", 0, match.start()) + 1
        for line in re.sub(r"<[^>]*>", FILLED, text).replace("\\n", "\n").split("\n"):
            yield _string(line, f"{where}:{number}")


def _string(text: str, where: str) -> Passage:
    """A string of a program: its `names` are code, its blanks set columns."""
    return Passage(where, re.sub(r"`[^`]*`", CODE, text))


def of_yaml(source: str, where: str) -> Iterator[Passage]:
    """The value of each line of a plain list; the comments are English."""
    for number, line in enumerate(source.splitlines(), start=1):
        if not line.lstrip().startswith("#"):
            yield _string(re.sub(r"^[\s-]*\w+: ", "", line), f"{where}:{number}")


def of_notebook(path: Path, where: str) -> Iterator[Passage]:
    """The text of a chapter, the comments in its code, and what its pictures are said to show."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        place, source = f"{where} {cell['id']}", "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            yield from of_markdown(source, place)
            continue
        yield from of_comments(source, place)
        for output in cell.get("outputs", []):
            alt = output.get("metadata", {}).get("image/png", {}).get("alt", "")
            yield _string(alt, f"{place} alt")


def of_readme(path: Path, where: str) -> Iterator[Passage]:
    """The Chinese half of the README, which begins at the second title."""
    text = path.read_text(encoding="utf-8")
    start = text.index("\n# ")
    yield from of_markdown("\n" * text.count("\n", 0, start) + text[start:], where)


def _text(reader: Callable[[str, str], Iterator[Passage]]) -> Callable[..., Iterator[Passage]]:
    return lambda path, where: reader(path.read_text(encoding="utf-8"), where)


# What is read, and how. The code of lmlib is English but for what its figures and graders say.
SOURCES: dict[str, Callable[[Path, str], Iterator[Passage]]] = {
    "README.md": of_readme,
    "book/*.md": _text(of_markdown),
    "book/map.yml": _text(of_yaml),
    "book/api.yml": _text(of_yaml),
    "chapters/*.ipynb": of_notebook,
    "lmlib/_trace_text.py": _text(of_python),
    "lmlib/exercises/*.py": _text(of_python),
    "lmlib/viz/*.py": _text(of_python),
    "lmlib/widgets/*.py": _text(of_python),
    "lmlib/widgets/static/*.js": _text(of_javascript),
    "book/_ext/nihao_book/*.py": _text(of_python),
    "book/_static/*.js": _text(of_javascript),
}


def files(root: Path = ROOT) -> list[Path]:
    """Every file whose Chinese is read."""
    return [path for pattern in SOURCES for path in sorted(root.glob(pattern))]


@functools.cache
def passages(path: Path, root: Path = ROOT) -> tuple[Passage, ...]:
    """Every passage of a file that has Chinese words in it."""
    for pattern, reader in SOURCES.items():
        if path in root.glob(pattern):
            found = reader(path, path.relative_to(root).as_posix())
            return tuple(p for p in found if re.search(f"[{HAN}]", p.text))
    raise ValueError(f"{path} is none of {', '.join(SOURCES)}")


@functools.cache
def as_it_is() -> tuple[str, ...]:
    """What a sentence shows as it is, from book/words.yml; the longest first."""
    data = yaml.safe_load((ROOT / "book" / "words.yml").read_text(encoding="utf-8"))
    return tuple(sorted(data["as it is"], key=len, reverse=True))


@functools.cache
def _load_config() -> None:
    """Turn off what AutoCorrect does to English: a line of the book may be a name alone."""
    off = {"halfwidth-word": 0, "halfwidth-punctuation": 0, "spellcheck": 0}
    autocorrect_py.load_config(json.dumps({"rules": off}))  # type: ignore[attr-defined]


def _corrected(text: str) -> str:
    """What AutoCorrect makes of a text. It takes 「0.02：60 步」 for a time, so cut there."""
    _load_config()
    pieces = re.split(r"((?<=[A-Za-z0-9])：(?=\d))", text)
    return "".join(autocorrect_py.format(piece) for piece in pieces)


def complaints(passage: Passage, kept: tuple[str, ...] = ()) -> list[str]:
    """What is wrong with a line of Chinese text, in words.

    >>> complaints(Passage("", "看着前面的字，给下一个字一个概率。"))
    []
    >>> complaints(Passage("", "训练GPT 要数据"))
    ['训练GPT 要数据 → 训练 GPT 要数据']
    """
    text = passage.text
    for piece in kept:
        text = text.replace(piece, FILLED)
    found = []
    rules = RULES | PAGE_RULES if passage.page else RULES
    parts = [part.strip() for part in text.split("\u3000")]
    if passage.page and parts[1:] and not LABEL.fullmatch(parts[0].strip("# ")):
        found.append(f"全角空格只用在编号之后：{text[:40]}")
    for part in parts:
        if part != (better := _corrected(part)):
            found.append(f"{part} → {better}")
        for rule, pattern in rules.items():
            if match := re.search(pattern, part):
                found.append(f"{rule}：{part[max(0, match.start() - 8) : match.end() + 8]}")
    if passage.page:
        found += [f"{a}{b} 不成对：{text}" for a, b in PAIRS if text.count(a) != text.count(b)]
    return found


def check(path: Path) -> list[str]:
    """Everything wrong in a file: where, and what."""
    return [f"{p.where}  {said}" for p in passages(path) for said in complaints(p, as_it_is())]


def main(arguments: list[str] | None = None) -> int:
    """Command line: see the top of this file."""
    parser = argparse.ArgumentParser(description="Check the typography of the book's Chinese.")
    parser.add_argument("files", nargs="*", type=Path)
    named = [path.resolve() for path in parser.parse_args(arguments).files]
    found = [line for path in named or files() for line in check(path)]
    print("".join(f"{line}\n" for line in found), end="")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
