"""Anchors that stay what they are, and links to them that speak Chinese.

docutils makes an id from the Latin letters of a heading and numbers the headings that have none:
`id21` is another section as soon as one is inserted before it. Here a section is named by its
title, Chinese and all, without the number before it and the aside in brackets after it.
"""

from __future__ import annotations

import gettext
import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.transforms import SphinxTransform

from .tex_words import tex_words

# What stands in the title of a link to a place, and lacks in Sphinx's Chinese catalogue.
WORDS = {
    "Link to this code": "这段代码的链接",
    "Link to this definition": "这条定义的链接",
    "Link to this equation": "这个公式的链接",
    "Link to this heading": "本节的链接",
    "Link to this image": "这张图的链接",
    "Link to this table": "这张表的链接",
    "Link to this term": "这个术语的链接",
    "Link to this toctree": "这份目录的链接",
}
_NUMBER = re.compile(r"^\d+(\.\d+)*[.、\u3000]\s*")
_ASIDE = re.compile(r"(?<=.)（[^（）]*）$")


def anchor_of(title: str) -> str:
    """Return the anchor of a section: the letters and digits of its title, with - between.

    >>> anchor_of("9　层归一化弄错两处，代价多大？")
    '层归一化弄错两处-代价多大'
    >>> anchor_of("为什么要除以 √d_k？（S0 §4.2）")
    '为什么要除以-d_k'
    """
    named = _ASIDE.sub("", _NUMBER.sub("", title))
    return re.sub(r"\W+", "-", named).strip("-_").lower()


def _title_of(section: nodes.section) -> str:
    """Return the title of a section as a reader sees it."""
    title = section.next_node(nodes.title)
    if title is None:
        return ""
    parts = (
        tex_words(leaf.astext()) if isinstance(leaf.parent, nodes.math) else leaf.astext()
        for leaf in title.findall(nodes.Text)
    )
    return "".join(parts)


def name_sections(document: nodes.document) -> None:
    """Give each section of a page an id from its title; labels set by hand stay, and stay first."""
    by_hand = {document.nameids[name] for name, hand in document.nametypes.items() if hand}
    sections = [node for node in document.findall(nodes.section) if node["ids"]]
    made = {name for node in sections for name in node["ids"] if name not in by_hand}
    taken = document.ids.keys() - made
    new_of: dict[str, str] = {}
    for section in sections:
        labels = [name for name in section["ids"] if name in by_hand]
        wished = anchor_of(_title_of(section))
        if not wished:
            taken.update(section["ids"])
            continue
        anchor, count = wished, 1
        while anchor in taken and anchor not in labels:
            count += 1
            anchor = f"{wished}-{count}"
        taken.add(anchor)
        new_of |= {name: anchor for name in section["ids"] if name in made}
        section["ids"] = list(dict.fromkeys([*labels, anchor]))
    _follow(document, new_of, sections)


def _follow(
    document: nodes.document, new_of: dict[str, str], sections: list[nodes.section]
) -> None:
    """Let everything that knows a section by its old id know it by the new one."""
    for old in new_of:
        document.ids.pop(old, None)
    for section in sections:
        document.ids.update(dict.fromkeys(section["ids"], section))
    for name, target in document.nameids.items():
        document.nameids[name] = new_of.get(target, target)
    for node in document.findall(nodes.Element):
        if node.get("refid") in new_of:
            node["refid"] = new_of[node["refid"]]
    # By which MyST resolves links like [](page.md#slug); Sphinx's environment shares it.
    slugs: dict[str, tuple[int | None, str, str]] = getattr(document, "myst_slugs", {})
    for slug, (line, target, text) in slugs.items():
        slugs[slug] = (line, new_of.get(target, target), text)
    # What stands in the address of a page, such as a work's key, can be written in a link to it.
    for anchor, node in document.ids.items():
        text = _title_of(node) if isinstance(node, nodes.section) else anchor
        slugs.setdefault(anchor, (node.line, anchor, text))


class NameSections(SphinxTransform):
    """Name the sections of a page by their titles."""

    default_priority = 300  # after labels have moved to the sections below them (260, 261)

    def apply(self, **kwargs: object) -> None:
        name_sections(self.document)


class _Chinese(gettext.NullTranslations):
    """Answers what the catalogue before it does not know."""

    def gettext(self, message: str) -> str:
        return WORDS.get(message, message)


def _name_works(app: Sphinx, config: Config) -> None:
    """Name the entries of the bibliography by their keys, as in `#vaswani2017attention`."""
    if "bibtex_cite_id" in config:
        config.bibtex_cite_id = "{key}"


def setup(app: Sphinx) -> None:
    """Register the transform and the words."""
    app.add_transform(NameSections)
    app.translator.add_fallback(_Chinese())
    app.connect("config-inited", _name_works)
