"""Every public name of lmlib says what it takes, with shapes, what it gives, and its source."""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import importlib.util
import inspect
import pkgutil
import re
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import pytest
from small_book import REPOSITORY

import lmlib

from nihao_book import public_api  # isort: skip

MODULES = public_api.public_modules()
# What these modules teach stands in the literature.
TAUGHT = [
    *("tokenizers", "positions", "attention", "layers", "ngram", "recurrent"),
    *("transformer", "bert", "gpt", "training", "generation", "metrics"),
]
SECTIONS = ("Args", "Attributes", "Returns", "Yields", "Raises", "Examples", "Example", "Note")
# What torch prints of a module, and what every learner of Python knows.
SELF_EXPLANATORY = {"extra_repr", "main"}
# As torch has them everywhere.
CONVENTIONAL = {"device", "dtype"}
_SECTION = re.compile(rf"^({'|'.join(SECTIONS)}):$", re.MULTILINE)
_ENTRY = re.compile(r"^ {4}(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: \([^)]*\))?:(.*)", re.MULTILINE)
_SHAPE = re.compile(r"\([^()]*\)|broadcast|shape|same|scalar|like|likewise|vector|`", re.IGNORECASE)
_YEAR = re.compile(r"\b(?:19|20)\d\d\b")


def sections(docstring: str) -> dict[str, str]:
    """The sections of a docstring by name; all other text is in ""."""
    parts = _SECTION.split(inspect.cleandoc(docstring))
    found = {"": parts[0]}
    for name, text in zip(parts[1::2], parts[2::2], strict=True):
        # A section ends where the text is no longer indented.
        end = re.search(r"^\S", text, re.MULTILINE)
        found[name] = text[: end.start()] if end else text
        found[""] += "\n" + text[end.start() :] if end else ""
    return found


def entries(text: str) -> dict[str, str]:
    """What a section says of each name; `a, b: …` says it of both."""
    found: dict[str, str] = {}
    matches = list(_ENTRY.finditer(text))
    for match, following in zip_longest(matches, matches[1:]):
        end = following.start() if following else len(text)
        for name in match[1].split(", "):
            found[name.lstrip("*")] = text[match.start(2) : end].strip()
    return found


def parameters(value: Any) -> dict[str, inspect.Parameter]:
    """The parameters that a caller gives."""
    found = dict(inspect.signature(value).parameters)
    return {name: p for name, p in found.items() if name not in ("self", "cls", "_cls")}


def referred(docstring: str, where: str) -> Iterator[str]:
    """The docstrings of what a docstring names in backticks: the reader can follow the link."""
    for name in set(re.findall(r"`(\w+(?:\.\w+)*)`", docstring)):
        scopes = [where.rsplit(".", depth)[0] for depth in range(1, where.count("."))]
        for full in (f"{scope}.{name}" for scope in scopes):
            try:
                yield inspect.getdoc(public_api.find(full)) or ""
            except (AttributeError, ImportError):
                continue
        if name.startswith("lmlib."):
            yield inspect.getdoc(public_api.find(name)) or ""


def prose_names(docstring: str) -> set[str]:
    """What a docstring without Args speaks of, also as `self-attention` or `log probabilities`."""
    text = docstring.lower().replace("-", "_")
    words = set(re.findall(r"\w+", text))
    return words | set(re.findall(r"\w+", text.replace(" ", "_"))) | {f"{w}s" for w in words}


def lacks_of_function(value: Any, docstring: str, where: str, given: Any) -> Iterator[str]:
    """What the docstring of a function, or of a class about its ``__init__``, lacks."""
    parts = sections(docstring)
    own = documented(docstring)
    for name in entries(parts.get("Args", "")).keys() - given.keys():
        yield f"{where}: Args names {name}, which is no parameter"
    prose = set() if {"Args", "Attributes"} & parts.keys() else prose_names(docstring)
    elsewhere = set(CONVENTIONAL)
    for other in referred(docstring, where):
        elsewhere |= documented(other).keys()
    alone = len(given) == 1 and "Args" not in parts  # then the sentence is about it
    for name, parameter in given.items():
        if name.lower() not in prose and name not in own.keys() | elsewhere and not alone:
            yield f"{where}: {name} does not stand in Args"
        text = own.get(name, docstring if name.lower() in prose or alone else "`")
        if _is_tensor(parameter.annotation) and not _SHAPE.search(text):
            yield f"{where}: {name} has no shape"


def documented(docstring: str) -> dict[str, str]:
    """What a docstring says of each parameter or attribute."""
    parts = sections(docstring)
    return entries(parts.get("Args", "") + "\n" + parts.get("Attributes", ""))


def lacks_of_result(value: Any, docstring: str, where: str) -> Iterator[str]:
    """A function with Args says what it returns; a tensor comes with its shape."""
    annotation = inspect.signature(value).return_annotation
    parts = sections(docstring)
    if annotation in (None, "None", inspect.Signature.empty) or "NoReturn" in str(annotation):
        return
    text = parts.get("Returns", parts.get("Yields", ""))
    opening = parts[""].strip().split("\n\n")[0]
    if "Args" in parts and not text and not opening:
        yield f"{where}: has neither Returns nor a sentence that says what comes out"
    if _is_tensor(annotation) and not _SHAPE.search(text + parts[""]):
        yield f"{where}: the result has no shape"


def _home(value: Any) -> str:
    """The package that defines something; what a library adds to a class is not the book's."""
    return str(value.__module__).split(".")[0]


def _is_tensor(annotation: Any) -> bool:
    return bool(re.match(r"(torch\.)?Tensor\b", str(annotation)))


def lacks(value: Any, where: str) -> list[str]:
    """Everything that the docstring of a public function or class lacks."""
    docstring = value.__doc__
    if not docstring or not docstring.strip():
        return [f"{where}: has no docstring"]
    if not inspect.isclass(value):
        found = [*lacks_of_function(value, docstring, where, parameters(value))]
        return [*found, *lacks_of_result(value, docstring, where)]
    found = []
    if docstring.startswith(f"{value.__name__}("):  # what dataclass or NamedTuple made
        return [f"{where}: has no docstring"]
    given = {}
    if dataclasses.is_dataclass(value) or hasattr(value, "_fields"):
        given = parameters(value)
    elif "__init__" in vars(value) or "Args" in sections(docstring):
        given = parameters(value.__init__)
        docstring += "\n\n" + inspect.cleandoc(value.__init__.__doc__ or "")
    if list(given) != ["config"]:
        found += lacks_of_function(value, docstring, where, given)
    for name, member in vars(value).items():
        inner = f"{where}.{name}"
        if name.startswith("_") or name in SELF_EXPLANATORY:
            continue
        if isinstance(member, property):
            if not member.__doc__:
                found.append(f"{inner}: has no docstring")
        elif isinstance(member, (classmethod, staticmethod)):
            found += lacks(getattr(value, name), inner)
        elif inspect.isfunction(member) and _home(member) == _home(value):
            # What a method that overrides another says only once.
            documented = inspect.getdoc(getattr(value, name))
            if member.__doc__ or not documented or name == "forward":
                found += lacks(member, inner)
    return found


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_says_what_it_takes_and_gives(name: str) -> None:
    module = public_api.find(name)
    assert module.__doc__
    found = []
    for public in public_api.public_names(module):
        value = getattr(module, public)
        if inspect.isclass(value) or inspect.isroutine(value):
            if public not in SELF_EXPLANATORY:
                found += lacks(value, f"{name}.{public}")
        elif not public_api.constant_doc(name, public):
            found.append(f"{name}.{public}: no string below the constant says what it is")
    assert found == []


@pytest.mark.parametrize("name", TAUGHT)
def test_what_is_taught_names_its_source(name: str) -> None:
    module = public_api.find(f"lmlib.{name}")
    values = [module, *(getattr(module, public) for public in public_api.public_names(module))]
    homes = {public_api.home_of(value) for value in values} - {None}
    # The API pages show the docstrings of the public modules inside a package, too.
    values += [public_api.find(home) for home in homes if home and "._" not in home]
    texts = [value.__doc__ or "" for value in values]
    assert any(_YEAR.search(text) for text in texts)


def every_module() -> list[str]:
    """All modules of lmlib, private ones too, whose source holds an example."""
    names = [info.name for info in pkgutil.walk_packages(lmlib.__path__, "lmlib.")]
    found = []
    for name in ["lmlib", *names]:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        with open(spec.origin, encoding="utf-8") as file:
            if ">>> " in file.read():
                found.append(name)
    return found


@pytest.mark.parametrize("name", every_module())
def test_the_examples_of_the_docstrings_hold(name: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0


# ------------------------------------------------------------------ the rules themselves


def good(x: Any, n: int = 1) -> int:
    """Do it.

    Args:
        x: what.
        n: how often,
            e.g. often: twice.

    Returns:
        the number.

    Not an argument: a sentence.
    """
    return n


def test_a_docstring_is_cut_into_its_sections() -> None:
    parts = sections(good.__doc__ or "")
    assert parts["Returns"].strip() == "the number."
    assert "a sentence" in parts[""]
    assert entries(parts["Args"]) == {
        "x": "what.",
        "n": "how often,\n        e.g. often: twice.",
    }
    assert entries("    a, *b: both.") == {"a": "both.", "b": "both."}


def function(docstring: str, arguments: str = "a: int, b: int, c: int", result: str = "int") -> Any:
    space: dict[str, Any] = {}
    exec(f"def f({arguments}) -> {result}: ...", space)  # annotations stay text, as everywhere
    made = space["f"]
    made.__doc__ = docstring
    return made


ARGS = "Add.\n\nArgs:\n    a: one.\n    b: two.\n    c: three.\n\nReturns:\n    the sum."


@pytest.mark.parametrize(
    ("value", "lack"),
    [
        (function(ARGS), ""),
        (function(""), "no docstring"),
        (function(ARGS.replace("    c: three.\n", "")), "c does not stand in Args"),
        (function(ARGS.replace("c: three", "c, d: three")), "Args names d"),
        (function("Add them."), "a does not stand in Args"),
        (function("Add ``a``, ``b`` and ``c``."), ""),
        (function("As `lmlib.attention.causal_mask`.", "n_q: int, n_k: int"), ""),
        (function("As `lmlib.attention.causal_mask`.", "n_q: int, b: int"), "b does not stand"),
        (function(ARGS, "a: Tensor, b: int, c: int"), "a has no shape"),
        (function(ARGS.replace("one", "(batch, n)"), "a: Tensor, b: int, c: int"), ""),
        (function("Negate ``a``.", "a: int"), ""),
        (function("Add.", "a: int, b: int"), "b does not stand in Args"),
        (function("(n, m) → (m, n).", "a: Tensor", "Tensor"), ""),
        (function("Turn.", "a: Tensor", "Tensor"), "a has no shape"),
        (function("Zeros.", "", "Tensor"), "the result has no shape"),
        (function(ARGS.split("\n\nReturns")[0][4:]), "neither Returns nor a sentence"),
    ],
)
def test_the_rules_find_what_is_missing(value: Any, lack: str) -> None:
    found = lacks(value, "f")
    assert any(lack in line for line in found) if lack else found == []


def test_the_rules_look_into_classes() -> None:
    class Tool:
        """A tool.

        Args:
            size: of it.
        """

        def __init__(self, size: int, weight: int) -> None: ...

        def use(self, hand: int) -> None: ...

        @property
        def name(self) -> str: ...

    found = lacks(Tool, "Tool")
    assert found == [
        "Tool: weight does not stand in Args",
        "Tool.use: has no docstring",
        "Tool.name: has no docstring",
    ]


def test_the_repository_is_the_one_that_is_tested() -> None:
    assert str(REPOSITORY) in str(lmlib.__file__)
