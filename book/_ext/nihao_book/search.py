"""Search over the book's full text.

Sphinx indexes words, and Chinese text has none to split at: even with a segmenter, a phrase is
found only if query and text happen to be cut alike. This book is small enough to send its text
itself, which weighs less than an index of its characters and character pairs, finds every
phrase that stands in it and no other, and shows each place with what is around it, also in a
page opened from disk. ``book/_static/search.js`` does the searching.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from .tex_words import tex_words
from .text import join_lines

INDEX = "searchindex.js"
# What Sphinx's own search consists of.
STOCK_FILES = ("searchtools.js", "language_data.js")
_TAG = re.compile(r"<(script|style)\b.*?</\1>|<[^<]+?>", re.IGNORECASE | re.DOTALL)
_SKIPPED = (
    nodes.comment, nodes.meta, nodes.docinfo, nodes.system_message,
    nodes.substitution_definition, nodes.title, addnodes.index, addnodes.toctree,
)  # fmt: skip
# What is found by itself: a section, and an entry of the API pages.
_PLACES = (nodes.section, addnodes.desc)

Section = tuple[str, str, str]
"""Anchor ("" for the whole page), heading and text."""


def _is_unresolved(node: nodes.Node) -> bool:
    """Whether the text of a reference is only the name of its target, not what a reader sees."""
    if not isinstance(node, addnodes.pending_xref) or node.get("refdomain") == "py":
        return False
    return not node.get("refexplicit")


def _is_front_matter(node: nodes.Node) -> bool:
    """Whether a list of fields stands above a page, not in an entry of the API pages."""
    return isinstance(node, nodes.field_list) and not isinstance(node.parent, addnodes.desc_content)


def _output_words(bundle: nodes.Element) -> str:
    """Return the words of an output that the notebook stores in several forms."""
    forms = {child.get("mime_type"): child for child in bundle.children}
    for mime_type in ("image/png", "text/plain", "text/html", "text/markdown"):
        if mime_type in forms:
            return words(forms[mime_type])
    return ""


def words(node: nodes.Node) -> str:
    """Return the text that a reader sees of a node, without that of sections inside it."""
    if isinstance(node, nodes.Text):
        return node.astext()
    if isinstance(node, (*_PLACES, *_SKIPPED)) or _is_unresolved(node) or _is_front_matter(node):
        return ""
    if isinstance(node, (nodes.math, nodes.math_block)):
        return tex_words(node.astext())
    if isinstance(node, nodes.raw):
        between = "" if isinstance(node.parent, nodes.TextElement) else " "
        return _TAG.sub(between, node.astext()) if "html" in node.get("format", "") else ""
    if isinstance(node, nodes.image):
        return str(node.get("alt", ""))
    if isinstance(node, nodes.Element) and node.get("nb_element") == "mime_bundle":
        return _output_words(node)
    separator = "" if isinstance(node, nodes.TextElement) else " "
    text = separator.join(filter(None, (words(child) for child in node.children)))
    return text if isinstance(node, nodes.FixedTextElement) else join_lines(text)


def sections(doctree: nodes.document) -> Iterator[Section]:
    """Yield the sections of a page with their own text, in order; an API entry is one too."""
    for place in doctree.findall(lambda node: isinstance(node, _PLACES)):
        if isinstance(place, addnodes.desc):
            yield from _entry(place)
            continue
        title = place.next_node(nodes.title)
        heading = "".join(words(child) for child in title.children) if title is not None else ""
        anchor = "" if isinstance(place.parent, nodes.document) else place["ids"][0]
        text = " ".join(filter(None, (words(child) for child in place.children)))
        yield anchor, " ".join(heading.split()), " ".join(text.split())


def _entry(desc: addnodes.desc) -> Iterator[Section]:
    """Yield the entry of a class, function or method, under its full name."""
    signature = desc.next_node(addnodes.desc_signature)
    if signature is not None and signature["ids"]:
        anchor = signature["ids"][0]
        parts = [part for child in desc.children for part in child.children]
        text = " ".join(filter(None, (words(part) for part in parts)))
        yield anchor, anchor, " ".join(text.split())


def _pages(env: BuildEnvironment) -> dict[str, list[Section]]:
    if not hasattr(env, "nihao_search"):
        env.nihao_search = {}
    return env.nihao_search


def _collect(app: Sphinx, doctree: nodes.document) -> None:
    _pages(app.env)[app.env.docname] = list(sections(doctree))


def _forget(app: Sphinx, env: BuildEnvironment, docname: str) -> None:
    _pages(env).pop(docname, None)


def _merge(app: Sphinx, env: BuildEnvironment, docnames: set[str], other: BuildEnvironment) -> None:
    _pages(env).update({name: _pages(other)[name] for name in docnames if name in _pages(other)})


def _cited(env: BuildEnvironment, docname: str) -> str:
    """Return the text of a page's bibliography, which is known only when all pages are read."""
    if "cite" not in env.domains:
        return ""
    return " ".join(
        citation.formatted_entry.text.render_as("text")
        for citation in env.get_domain("cite").citations
        if citation.bibliography_key.docname == docname
    )


def index_script(app: Sphinx) -> str:
    """Return the index as a classic script, which also loads in a page opened from disk."""
    pages = []
    for docname, found in sorted(_pages(app.env).items()):
        if found and "nosearch" not in app.env.metadata[docname]:
            if cited := _cited(app.env, docname):
                anchor, heading, text = found[-1]
                found = [*found[:-1], (anchor, heading, f"{text} {cited}".strip())]
            pages.append({"url": app.builder.get_target_uri(docname), "sections": found})
    return f"bookSearch.load({json.dumps(pages, ensure_ascii=False, separators=(',', ':'))});\n"


def _replace_stock_search(app: Sphinx) -> None:
    if app.builder.format == "html":
        app.builder.search = False


def _search_page(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    yield "search", {"title": "搜索"}, "search.html"


def _write_index(app: Sphinx, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    Path(app.outdir, INDEX).write_text(index_script(app), encoding="utf-8")
    for name in STOCK_FILES:
        Path(app.outdir, "_static", name).unlink(missing_ok=True)


def setup(app: Sphinx) -> None:
    """Replace Sphinx's search by the book's own."""
    app.connect("builder-inited", _replace_stock_search)
    # After the pictures have got their alternative texts.
    app.connect("doctree-read", _collect, priority=900)
    app.connect("env-purge-doc", _forget)
    app.connect("env-merge-info", _merge)
    app.connect("html-collect-pages", _search_page)
    app.connect("build-finished", _write_index)
