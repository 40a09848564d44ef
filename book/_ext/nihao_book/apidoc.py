"""The API pages: every public name of lmlib, by Sphinx's autodoc from its docstring.

``book/api.yml`` is the one list of what stands on which page. The directive ``{api-modules}``
fills a page with its modules, ``{api-overview}`` lists all of them with their names.

The docstrings stay English, and say so to screen readers; what the book adds is Chinese. In them
a word in single backticks is a link if lmlib has such a name, and code if not.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from myst_parser.mocking import MockRSTParser
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.ext.autodoc import preserve_defaults
from sphinx.util import rst
from sphinx.util.docutils import SphinxDirective, new_document

from . import public_api

STYLE = "api.css"
# How autodoc and napoleon read docstrings, and how Sphinx sets signatures.
SETTINGS = {
    "add_function_parentheses": False,
    "add_module_names": False,
    "autodoc_member_order": "bysource",
    "autodoc_preserve_defaults": True,
    "autodoc_typehints_format": "short",
    "napoleon_numpy_docstring": False,
    "napoleon_use_ivar": True,
    "python_maximum_signature_line_length": 56,
    "python_use_unqualified_type_names": True,
}
# What stands in for Sphinx's words.
FIELDS = {"变量": "属性", "抛出": "报错"}
ENGLISH, CHINESE = "language-en", "language-zh-CN"
# Marks in signatures that no style sheet uses: a third of the bytes.
_NEEDLESS = re.compile(r'<span class="(?:pre|n|o|p|w|sig-paren|sig-return-icon)">([^<]*)</span>')
# A screen reader would announce a list of definitions that define nothing.
_LINES = {
    "<dl>": '<span class="sig-lines">', "</dl>": "</span>",
    "<dd>": '<span class="sig-line">', "</dd>": "</span>",
}  # fmt: skip
_SIGNATURE = re.compile(r'<dt class="sig.*?(?=<a class="headerlink"|\Z)', re.DOTALL)
_NAMED_TUPLE_FIELD = "Alias for field number"

Page = dict[str, Any]


def read_pages(file: Path) -> list[Page]:
    """Read the list of pages: ``[{file, title, modules: {module: Chinese title}}, …]``."""
    return list(yaml.safe_load(file.read_text(encoding="utf-8")))


def member_lines(module: str) -> list[str]:
    """Return the reStructuredText that lets autodoc document one module.

    >>> member_lines("lmlib.assets")[:4]
    ['.. automodule:: lmlib.assets', '   :no-members:', '', '.. autofunction:: lmlib.assets.path']
    """
    lines = [f".. automodule:: {module}", "   :no-members:", ""]
    loaded = public_api.find(module)
    told = {module}
    for name in public_api.public_names(loaded):
        value = getattr(loaded, name)
        home = public_api.home_of(value) or module
        # What a module inside a package says of itself stands before what comes from it.
        if home.startswith(f"{module}.") and "._" not in home and home not in told:
            told.add(home)
            lines += [f".. automodule:: {home}", "   :no-members:", "   :no-index:", ""]
        if inspect.isclass(value):
            options = [":members:", ":special-members: __call__", ":show-inheritance:"]
            lines += [f".. autoclass:: {module}.{name}", *(f"   {line}" for line in options), ""]
        elif inspect.isroutine(value):
            lines += [f".. autofunction:: {module}.{name}", ""]
        else:
            doc = public_api.constant_doc(module, name).splitlines()
            head = [f".. py:data:: {name}", f"   :module: {module}", ""]
            lines += [*head, *(f"   {line}" for line in doc), ""]
    return lines


class ApiModules(SphinxDirective):
    """Document the modules that the file in the argument lists for this page."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return a section for each module."""
        relative, absolute = self.env.relfn2path(self.arguments[0])
        self.env.note_dependency(relative)
        pages = {page["file"]: page["modules"] for page in read_pages(Path(absolute))}
        self.env.metadata[self.env.docname]["api"] = "page"
        return [self.section(*entry) for entry in pages[self.env.docname].items()]

    def section(self, module: str, title: str) -> nodes.section:
        """Return the section of one module."""
        heading = nodes.title("", "", nodes.Text(f"{title} "), nodes.literal("", module))
        section = nodes.section("", heading, names=[nodes.fully_normalize_name(module)])
        self.state.document.note_implicit_target(section, section)
        body = self.parse("\n".join(member_lines(module)))
        for node in body:
            if isinstance(node, (addnodes.desc, addnodes.index)):
                section += node
                continue
            if not isinstance(section[-1], nodes.container):
                section += nodes.container(classes=["api-module", ENGLISH])
            section[-1].append(node)
        for desc in section.findall(addnodes.desc):
            finish(desc, self.config.html_context.get("address"))
        return section

    def parse(self, text: str) -> list[nodes.Node]:
        """Parse reStructuredText, which docstrings are written in, in a page of Markdown."""
        document = new_document(self.state.document["source"], self.state.document.settings)
        document.reporter = self.state.document.reporter
        with rst.default_role(self.env.docname, "py:obj"):
            MockRSTParser().parse(text, document)
        for node in document.findall(nodes.Element):
            self.state.document.ids.update(dict.fromkeys(node["ids"], node))
        return list(document.children)


def finish(desc: addnodes.desc, address: Any) -> None:
    """Give what autodoc made of one name its language, its link to the source, its words."""
    inner = isinstance(desc.parent, addnodes.desc_content)
    for signature in desc.findall(addnodes.desc_signature):
        if signature.parent is not desc:
            continue
        if inner:  # the contents of a page list classes and functions
            signature["_toc_name"] = ""
        uri = source_uri(f"{signature['module']}.{signature['fullname']}", address)
        if uri:
            signature += nodes.reference(
                "", "源代码", internal=False, refuri=uri, classes=["source-link", CHINESE]
            )
    for content in desc.findall(addnodes.desc_content):
        if content.parent is desc and not inner:
            content["classes"].append(ENGLISH)
    for field in desc.findall(nodes.field_name):
        if CHINESE not in field["classes"]:
            field["classes"].append(CHINESE)
            field[0] = nodes.Text(FIELDS.get(field.astext(), field.astext()))
    for text in desc.findall(nodes.Text):
        if text == " -- " and isinstance(text.parent, nodes.paragraph):
            text.parent.replace(text, nodes.Text(" – "))


def source_uri(fullname: str, address: Any) -> str:
    """Return the address of the lines that define a name, or "" if it has none of its own."""
    try:
        found = public_api.definition(public_api.find(fullname))
    except AttributeError:  # an attribute that only instances have
        return ""
    root = Path(public_api.find(public_api.PACKAGE).__file__).parents[1]
    if address is None or found is None or not Path(found[0]).is_relative_to(root):
        return ""
    file, first, last = found
    return f"{address.blob(Path(file).relative_to(root).as_posix())}#L{first}-L{last}"


class ApiOverview(SphinxDirective):
    """List the pages, their modules and the names of each, all of them links."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return one list a page of the file in the argument."""
        relative, absolute = self.env.relfn2path(self.arguments[0])
        self.env.note_dependency(relative)
        self.env.metadata[self.env.docname]["api"] = "overview"
        overview = nodes.container(classes=["api-overview"])
        for page in read_pages(Path(absolute)):
            title = self.link("std", "doc", f"/{page['file']}", nodes.inline("", page["title"]))
            overview += nodes.paragraph("", "", title, classes=["api-overview-page"])
            modules = nodes.definition_list()
            overview += modules
            for module, heading in page["modules"].items():
                name = self.link("py", "mod", module, nodes.literal("", module))
                term = nodes.term("", "", name, nodes.Text(f" {heading}"))
                modules += nodes.definition_list_item(
                    "", term, nodes.definition("", self.names(module))
                )
        return [overview]

    def names(self, module: str) -> nodes.paragraph:
        """Return the public names of one module."""
        found = nodes.paragraph()
        for name in public_api.public_names(public_api.find(module)):
            if found.children:
                found += nodes.Text(" ")
            found += self.link("py", "obj", f"{module}.{name}", nodes.literal("", name))
        return found

    def link(self, domain: str, kind: str, target: str, shown: nodes.Node) -> nodes.Node:
        """Return a link that is resolved when all pages are read."""
        return addnodes.pending_xref(
            "",
            shown,
            refdomain=domain,
            reftype=kind,
            reftarget=target,
            refdoc=self.env.docname,
            refexplicit=True,
            refwarn=True,
        )


def _before_reading(app: Sphinx, env: BuildEnvironment, changed: list[str]) -> None:
    """Forget the pages that are to be read again at once: a module may move between them."""
    for docname in changed:
        env.domains["py"].clear_doc(docname)


def _skip(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what is not the book's: what a library made, and the fields of named tuples.

    The latter have a docstring that says nothing; what they are stands in that of the tuple.
    """
    home = (public_api.home_of(obj) or public_api.PACKAGE).split(".")[0]
    nothing = str(getattr(obj, "__doc__", "")).startswith(_NAMED_TUPLE_FIELD)
    return True if home != public_api.PACKAGE or nothing else None


def _default_source(lines: list[str], position: Any) -> str | None:
    """Return a default as it is written; Sphinx counts characters where Python counts bytes."""
    if position.lineno != position.end_lineno:
        return None
    line = lines[position.lineno - 1].encode()
    return line[position.col_offset : position.end_col_offset].decode()


def _set(app: Sphinx, config: Config) -> None:
    for name, value in SETTINGS.items():
        setattr(config, name, value)


def thin_signatures(body: str) -> str:
    """Remove the marks of signatures that no style sheet uses, and lists that list no terms.

    >>> thin_signatures('<dt class="sig"><span class="n"><span class="pre">x</span></span></dt>')
    '<dt class="sig">x</dt>'
    """

    def thin(signature: re.Match[str]) -> str:
        inner = _NEEDLESS.sub(r"\1", _NEEDLESS.sub(r"\1", signature[0]))
        for old, new in _LINES.items():
            inner = inner.replace(old, new)
        return inner

    return _SIGNATURE.sub(thin, body)


def _fill_page(app: Sphinx, pagename: str, templatename: str, context: Any, doctree: Any) -> None:
    if "api" in app.env.metadata.get(pagename, {}):
        app.add_css_file(STYLE)
        context["body"] = thin_signatures(context["body"])


def setup(app: Sphinx) -> None:
    """Register the directives and what they need of Sphinx."""
    app.setup_extension("sphinx.ext.autodoc")
    app.setup_extension("sphinx.ext.napoleon")
    preserve_defaults.get_default_value = _default_source
    app.add_directive("api-modules", ApiModules)
    app.add_directive("api-overview", ApiOverview)
    app.connect("config-inited", _set)
    app.connect("autodoc-skip-member", _skip)
    app.connect("env-before-read-docs", _before_reading)
    app.connect("html-page-context", _fill_page)
