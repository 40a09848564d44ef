"""The directive ``{bookmap}``: the whole book by its parts, with what can be read today.

Parts and chapters stand in a YAML file. Whether a chapter is finished is not written there:
it is when its notebook is a page of the book, so the map cannot promise what is missing.
"""

from __future__ import annotations

from typing import Any

import yaml
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

PLANNED = "编写中"


class BookMap(SphinxDirective):
    """Draw the map from the YAML file that the directive's argument names.

    The file is a list of parts, ``{part, chapters: [{file, title, question}]}``; `file` is the
    page's name from the book's root, without suffix.
    """

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the map: a heading line and a numbered list for each part."""
        relative, absolute = self.env.relfn2path(self.arguments[0])
        self.env.note_dependency(relative)
        with open(absolute, encoding="utf-8") as file:
            parts = yaml.safe_load(file)
        box = nodes.container(classes=["book-map"])
        number = 0
        for part in parts:
            box += nodes.paragraph("", part["part"], classes=["book-map-part"])
            chapters = nodes.enumerated_list(enumtype="arabic", start=number + 1)
            for chapter in part["chapters"]:
                chapters += self.item(chapter)
                number += 1
            box += chapters
        return [box]

    def item(self, chapter: dict[str, Any]) -> nodes.list_item:
        """Return one chapter's line: a link when it is a page, the mark 编写中 when not."""
        title: nodes.Node
        ready = chapter["file"] in self.env.found_docs
        if ready:
            title = addnodes.pending_xref(
                "",
                nodes.inline("", chapter["title"]),
                refdomain="std",
                reftype="doc",
                reftarget=f"/{chapter['file']}",
                refdoc=self.env.docname,
                refexplicit=True,
                refwarn=True,
            )
        else:
            title = nodes.inline("", chapter["title"])
        line = nodes.paragraph("", "", title, classes=["book-map-title"])
        if not ready:
            line += nodes.inline("", PLANNED, classes=["planned"])
        question = nodes.paragraph("", chapter["question"], classes=["book-map-question"])
        return nodes.list_item("", line, question, classes=["ready" if ready else "coming"])


def setup(app: Sphinx) -> None:
    """Register the directive."""
    app.add_directive("bookmap", BookMap)
