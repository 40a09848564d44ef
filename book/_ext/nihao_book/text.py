"""Chinese text and pictures as a browser should get them.

* A line break in the source of a Chinese paragraph is no space.
* A paragraph *图 1.1　…* below a figure is its caption.
* A picture carries its alternative text and its size, and loads when it comes into view.
* Code is marked up where the style sheet colours it, and nowhere else: half of its bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagesize  # type: ignore[import-untyped]
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

from . import notebook

logger = logging.getLogger(__name__)

CJK = "\u2e80-\u312f\u31a0-\u9fff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef\U00020000-\U0003ffff"
# A break beside a Chinese character or mark goes; what is left stands between Latin words.
_BREAK = re.compile(rf"(?<=[{CJK}])[ \t]*\n[ \t]*|[ \t]*\n[ \t]*(?=[{CJK}])")
_OPAQUE = (nodes.literal, nodes.math, nodes.raw, nodes.image)
_OBJECT = "\ufffc"
_PIXELS = re.compile(r"(\d+(?:\.\d+)?)(?:px)?")
_CSS_DPI = 96
# What Pygments marks and the theme leaves in the colour of the text.
PLAIN_TOKENS = ("n", "nn", "o", "p", "w")
_PLAIN_SPAN = re.compile(rf'<span class="(?:{"|".join(PLAIN_TOKENS)})">([^<]*)</span>')
_CODE = re.compile(r'<div class="highlight"><pre>.*?</pre>', re.DOTALL)


def join_lines(text: str) -> str:
    """Remove the line breaks that Chinese text does not turn into a space.

    >>> join_lines("语言\\n模型，\\nthe language\\nmodel")
    '语言模型，the language\\nmodel'
    """
    return _BREAK.sub("", text)


def _leaves(node: nodes.Node) -> Iterator[nodes.Node]:
    """Yield the text nodes of a paragraph, and what counts as one character in it, in order."""
    for child in node.children:
        if isinstance(child, (nodes.Text, *_OPAQUE)):
            yield child
        else:
            yield from _leaves(child)


def join_paragraph(block: nodes.TextElement) -> None:
    """Do what `join_lines` does, across the inline marks (emphasis, code, …) of a paragraph."""
    leaves = list(_leaves(block))
    parts = [leaf.astext() if isinstance(leaf, nodes.Text) else _OBJECT for leaf in leaves]
    whole = "".join(parts)
    dropped = {i for match in _BREAK.finditer(whole) for i in range(*match.span())}
    if not dropped:
        return
    start = 0
    for leaf, part in zip(leaves, parts, strict=True):
        span = range(start, start + len(part))
        start += len(part)
        if isinstance(leaf, nodes.Text) and not dropped.isdisjoint(span):
            kept = "".join(whole[i] for i in span if i not in dropped)
            # By identity: to docutils, two text nodes with the same text are equal.
            place = next(i for i, child in enumerate(leaf.parent.children) if child is leaf)
            leaf.parent[place] = nodes.Text(kept)


class JoinLines(SphinxPostTransform):
    """Join the lines of every paragraph, title, caption, term, … of a page."""

    default_priority = 800  # after references have got their text

    def run(self, **kwargs: Any) -> None:
        for block in list(self.document.findall(nodes.TextElement)):
            outermost = not isinstance(block.parent, nodes.TextElement)
            if outermost and not isinstance(block, (nodes.FixedTextElement, *_OPAQUE)):
                join_paragraph(block)


def is_caption(paragraph: nodes.paragraph) -> bool:
    """Is all of it one emphasis that begins like 图 1.1: how a notebook captions its figures?"""
    whole = len(paragraph) == 1 and isinstance(paragraph[0], nodes.emphasis)
    return whole and re.match(r"图 \d", paragraph.astext()) is not None


class MarkCaptions(SphinxPostTransform):
    """Captions of figures get a class of their own."""

    default_priority = 800

    def run(self, **kwargs: Any) -> None:
        for paragraph in self.document.findall(nodes.paragraph):
            if is_caption(paragraph):
                paragraph["classes"].append("figure-caption")


class CheckPictures(SphinxPostTransform):
    """A picture without alternative text is a warning."""

    default_priority = 800  # after MyST-NB has chosen what to show of each output
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        for picture in self.document.findall(nodes.image):
            if not picture.get("alt", "").strip():
                logger.warning(
                    "picture without alternative text (alt) that says what it shows",
                    location=picture,
                    type="nihao.alt",
                )


def _describe_pictures(app: Sphinx, doctree: nodes.document) -> None:
    """Give the pictures of a notebook the alternative text that is stored with them."""
    pictures = [node for node in doctree.findall(nodes.image) if not node.get("alt")]
    if not pictures:
        return
    alts = notebook.picture_alts(notebook.read(app.env, app.env.docname))
    for picture in pictures:
        picture["alt"] = alts.get(Path(picture["uri"]).stem, "")


def display_size(path: Path, width: float | None = None) -> tuple[int, int] | None:
    """Return the CSS pixels in which to show a picture, or None if its file does not tell.

    A picture drawn at more than 96 dots an inch is made for sharper screens: it takes as many
    inches, not more. With `width`, the height that belongs to it.
    """
    try:
        natural_width, natural_height = imagesize.get(path)
        dots, _ = imagesize.getDPI(path)
    except (OSError, ValueError):
        return None
    if natural_width <= 0 or natural_height <= 0:
        return None
    if width is None:
        width = natural_width * min(1, _CSS_DPI / dots if dots > 0 else 1)
    return round(width), round(width * natural_height / natural_width)


def _visit_image(writer: HTML5Translator, node: nodes.image) -> None:
    path = Path(writer.builder.srcdir, node["uri"])
    wished = _PIXELS.fullmatch(str(node.get("width", "")))
    attributes = 'loading="lazy" decoding="async"'
    if "scale" not in node and ("width" not in node or wished):
        size = display_size(path, float(wished[1]) if wished else None)
        if size is not None:
            # As attributes, not as a style: the page keeps the room free and may still shrink it.
            attributes = f'width="{size[0]}" height="{size[1]}" {attributes}'
            for key in ("width", "height"):
                node.attributes.pop(key, None)
    type(writer).visit_image(writer, node)
    writer.body[-1] = writer.body[-1].replace("<img", f"<img {attributes}", 1)


def _depart_image(writer: HTML5Translator, node: nodes.image) -> None:
    type(writer).depart_image(writer, node)


def thin_code(body: str) -> str:
    """Remove the marks of code that no style sheet uses.

    >>> thin_code('<div class="highlight"><pre><span class="n">x</span></pre></div>')
    '<div class="highlight"><pre>x</pre></div>'
    """
    return _CODE.sub(lambda code: _PLAIN_SPAN.sub(r"\1", code[0]), body)


def _thin_page(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    if "body" in context:
        context["body"] = thin_code(context["body"])


def _keep_quotes(app: Sphinx, config: Config) -> None:
    """Leave quotation marks as they are typed: Sphinx turns them by blanks, which Chinese lacks."""
    config.smartquotes = False


def setup(app: Sphinx) -> None:
    """Register the transforms and the way pictures are written."""
    app.connect("config-inited", _keep_quotes)
    app.add_post_transform(JoinLines)
    app.add_post_transform(MarkCaptions)
    app.add_post_transform(CheckPictures)
    app.connect("doctree-read", _describe_pictures)
    app.connect("html-page-context", _thin_page)
    app.add_node(nodes.image, override=True, html=(_visit_image, _depart_image))
