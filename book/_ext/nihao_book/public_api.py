"""What lmlib offers: its public modules, and the public names of each.

A module is public if no part of its name begins with an underscore. A package that lists its
names in ``__all__`` speaks for the modules inside it; one that does not is a shelf, and the
modules on it are public themselves, as those of ``lmlib.recipes``.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

PACKAGE = "lmlib"


def public_modules(package: str = PACKAGE) -> list[str]:
    """Return the names of the public modules, the package itself first."""
    return [package, *_below(importlib.import_module(package))]


def _below(package: ModuleType) -> Iterator[str]:
    for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if found.name.rpartition(".")[2].startswith("_"):
            continue
        yield found.name
        if found.ispkg:
            inner = importlib.import_module(found.name)
            if not hasattr(inner, "__all__"):
                yield from _below(inner)


def public_names(module: ModuleType) -> list[str]:
    """Return the public names of a module: what is defined in it first, each as in its source.

    These are the names in ``__all__``, or where there is none, the functions and classes that
    the module defines and that do not begin with an underscore.
    """
    listed = getattr(module, "__all__", None)
    if listed is None:
        return sorted(
            (name for name, value in vars(module).items() if _is_own(module, name, value)),
            key=lambda name: _place(module, name),
        )
    names = [name for name in listed if not (name.startswith("__") and name.endswith("__"))]
    return sorted(names, key=lambda name: _place(module, name))


def _is_own(module: ModuleType, name: str, value: Any) -> bool:
    callable_ = inspect.isfunction(value) or inspect.isclass(value)
    return callable_ and not name.startswith("_") and value.__module__ == module.__name__


def _place(module: ModuleType, name: str) -> tuple[bool, str, int]:
    """Sort key: is it imported, from which module, in which line does it stand there?"""
    value = getattr(module, name)
    home = home_of(value) or module.__name__
    found = definition(value)
    return home != module.__name__, home, found[1] if found else 0


def home_of(value: Any) -> str | None:
    """Return the module that defines a function or class; constants do not know theirs."""
    known = inspect.isclass(value) or inspect.isroutine(value)
    return getattr(value, "__module__", None) if known else None


def find(fullname: str) -> Any:
    """Return the module, or what stands in one, that has this name.

    >>> find("lmlib.attention.KVCache.crop").__qualname__
    'KVCache.crop'

    Raises:
        AttributeError, ModuleNotFoundError: there is none.
    """
    parts = fullname.split(".")
    value: Any = importlib.import_module(parts[0])
    for i, part in enumerate(parts[1:], start=2):
        if inspect.isclass(value):
            value = inspect.getattr_static(value, part)
            continue
        if inspect.ismodule(value) and not hasattr(value, part):
            importlib.import_module(".".join(parts[:i]))
        value = getattr(value, part)
    return value


def definition(value: Any) -> tuple[str, int, int] | None:
    """Return the file of a function, class, method or property, and its first and last line.

    None for what has no source of its own, as a constant.
    """
    if isinstance(value, property):
        value = value.fget
    if isinstance(value, (classmethod, staticmethod)):
        value = value.__func__
    try:
        value = inspect.unwrap(value)
        lines, first = inspect.getsourcelines(value)
        return inspect.getsourcefile(value) or "", first, first + len(lines) - 1
    except (OSError, TypeError, ValueError):
        return None


def constant_doc(module: str, name: str) -> str:
    """Return the string that stands below a constant, where it is defined, or "" if none does.

    The constant may come from another module of the package by ``from … import``.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return ""
    with open(spec.origin, encoding="utf-8") as file:
        body = ast.parse(file.read()).body
    for node, below in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names]:
            package = module if spec.submodule_search_locations else module.rpartition(".")[0]
            source = "." * node.level + (node.module or "")
            return constant_doc(importlib.util.resolve_name(source, package), name)
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            value = below.value if isinstance(below, ast.Expr) else None
            text = value.value if isinstance(value, ast.Constant) else None
            return inspect.cleandoc(text) if isinstance(text, str) else ""
    return ""
