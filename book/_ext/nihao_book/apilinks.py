"""Code names become links to the API pages.

In the text of a page, the first mention of a name in each section: `MultiHeadAttention`,
`causal_mask(...)`, `lmlib.attention`. In its code, the names of an import. A word that could as
well be a variable (`trace`, `device`) is a link only with its module or with brackets behind it,
and a name that two modules have only with its module. In a notebook nothing is written for this.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.domains.python import ObjectEntry
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode

from .public_api import PACKAGE

_MEMBERS = ("attribute", "method", "property")
_CALL = re.compile(r"([\w.]+)\(.*\)", re.DOTALL)
_WORD = re.compile(r"[a-z]+[0-9]*")
_HIGHLIGHT = re.compile(r'<div class="highlight"><pre>.*?</pre>', re.DOTALL)
_KEYWORD = r'<span class="kn">%s</span> '
_IMPORT = re.compile(
    rf"{_KEYWORD % 'from'}({PACKAGE}[\w.]*) {_KEYWORD % 'import'}(\([^()]*\)|[^\n#]*)"
)
_NAME = re.compile(r"(?<![\w<&;=\"])\b[A-Za-z_]\w*\b(?![\w=\"])")


def objects(env: BuildEnvironment) -> dict[str, ObjectEntry]:
    """Return what the API pages document, by full name."""
    found: dict[str, ObjectEntry] = env.domains["py"].objects
    return {name: entry for name, entry in found.items() if name.split(".")[0] == PACKAGE}


def short_names(documented: dict[str, ObjectEntry]) -> dict[str, str]:
    """Return the names by which a thing can be meant, each with its full name.

    A name that could mean two things means none. (Sphinx also notes the private module that
    defines a class, as an alias.)
    """
    meant: dict[str, set[str]] = {}
    for fullname, entry in documented.items():
        if entry.aliased:
            continue
        meant.setdefault(fullname, set()).add(fullname)
        parts = fullname.split(".")
        if entry.objtype != "module":
            count = 2 if entry.objtype in _MEMBERS else 1
            meant.setdefault(".".join(parts[-count:]), set()).add(fullname)
    return {name: min(full) for name, full in meant.items() if len(full) == 1}


def meaning(code: str, names: dict[str, str]) -> str | None:
    """Return the full name of what a piece of code names, or None.

    >>> names = {"causal_mask": "lmlib.attention.causal_mask", "trace": "lmlib.trace.trace"}
    >>> meaning("causal_mask(4)", names), meaning("trace", names)
    ('lmlib.attention.causal_mask', None)
    """
    call = _CALL.fullmatch(code)
    name = call[1] if call else code
    if not call and _WORD.fullmatch(name):
        return None
    return names.get(name)


class LinkNames(SphinxPostTransform):
    """Link the first mention of each name in each section of a page."""

    default_priority = 700  # after references are resolved, before lines are joined
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        for reference in self.document.findall(nodes.reference):
            if reference.get("reftitle") == PACKAGE:
                del reference["reftitle"]  # it says no more than the link
        documented = objects(self.env)
        names = short_names(documented)
        linked: set[tuple[int, str]] = set()
        for literal, section in list(_plain_code(self.document)):
            fullname = meaning(literal.astext(), names)
            if fullname is None or (id(section), fullname) in linked:
                continue
            entry = documented[fullname]
            if entry.docname == self.env.docname:
                continue
            linked.add((id(section), fullname))
            literal.replace_self(
                make_refnode(
                    self.app.builder,
                    self.env.docname,
                    entry.docname,
                    entry.node_id,
                    literal.deepcopy(),
                    fullname,
                )
            )


def _plain_code(document: nodes.document) -> Iterator[tuple[nodes.literal, nodes.Node | None]]:
    """Yield the inline code that is not part of a link, a title or a signature."""
    apart = (nodes.reference, nodes.title, nodes.term, addnodes.desc, addnodes.pending_xref)
    for literal in document.findall(nodes.literal):
        section: nodes.Node | None = literal.parent
        while section is not None and not isinstance(section, (nodes.section, *apart)):
            section = section.parent
        if section is None or isinstance(section, nodes.section):
            yield literal, section


def _link_imports(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """Link the modules and names that the code of a page imports from lmlib."""
    body = context.get("body")
    if not body or doctree is None:
        return
    documented = objects(app.env)

    def link(fullname: str, shown: str) -> str:
        entry = documented.get(fullname)
        if entry is None or entry.docname == pagename or fullname == PACKAGE:
            return shown
        address = app.builder.get_relative_uri(pagename, entry.docname)
        return f'<a href="{address}#{entry.node_id}">{shown}</a>'

    def link_import(match: re.Match[str]) -> str:
        module, imported = match[1], match[2]
        linked = _NAME.sub(lambda name: link(f"{module}.{name[0]}", name[0]), imported)
        start = match[0][: match.start(1) - match.start()]
        between = match[0][match.end(1) - match.start() : match.start(2) - match.start()]
        return f"{start}{link(module, module)}{between}{linked}"

    context["body"] = _HIGHLIGHT.sub(lambda code: _IMPORT.sub(link_import, code[0]), body)


def _resolve(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, shown: nodes.Element
) -> nodes.Node | None:
    """Resolve a Python name in a docstring that Sphinx does not find where it looks for it.

    A class is documented where it is to be imported from, and its annotations name the module
    that defines it. What is not of lmlib, or private, stays plain code.
    """
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    inside = target.startswith(f"{PACKAGE}.")
    documented = objects(env)
    names = short_names(documented)
    fullname = None
    if inside or "." not in target:
        fullname = names.get(target) or names.get(target.rpartition(".")[2])
    elif node["reftype"] == "obj":
        fullname = names.get(target)
    if fullname is not None and (inside or not _WORD.fullmatch(target)):
        entry = documented[fullname]
        return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, shown)
    if inside and node["reftype"] == "obj" and "._" not in target:
        return None  # a name of lmlib that is not there (any more): Sphinx warns
    return shown


def setup(app: Sphinx) -> None:
    """Connect the links to the build."""
    app.add_post_transform(LinkNames)
    app.connect("missing-reference", _resolve)
    # After the marks of plain names are gone.
    app.connect("html-page-context", _link_imports, priority=600)
