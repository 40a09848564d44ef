"""Live figures in the published page, with no kernel behind it.

A widget of a notebook becomes a placeholder that shows the figure's picture. What the figure
needs to run is written once beside the page, as classic scripts that also load from disk:

* ``_static/figures/<model>.js``: the saved state of one figure;
* ``_static/figures/src-<name>.js`` and ``.css``: the source of one kind of figure.

``book/_static/widget_host.js`` loads them when the figure comes near the screen and runs it. The
weights of the models that figures run are in scripts of their own: see ``models.py``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from docutils import nodes
from myst_nb.sphinx_ import NbMetadataCollector
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxTranslator
from sphinx.writers.html5 import HTML5Translator

from . import models, notebook

logger = logging.getLogger(__name__)

FOLDER = "_static/figures"
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_NEEDS = re.compile(r"^// needs: ([a-z_]+)$", re.MULTILINE)
# What only ipywidgets' own manager needs; a figure's own traits have no such names.
_MANAGER_TRAITS = re.compile(
    r"_(model|view)_\w+|_esm|_css|_anywidget_id|_dom_classes|layout|tabbable|tooltip"
)


class live_figure(nodes.General, nodes.Element):  # noqa: N801 (docutils names nodes like this)
    """A placeholder for a live figure, around the picture of it."""


def strip_state(model: dict[str, Any]) -> dict[str, Any]:
    """Return what the page keeps of a saved widget: its traits and its binary buffers."""
    state = {k: v for k, v in model["state"].items() if not _MANAGER_TRAITS.fullmatch(k)}
    buffers = [[buffer["path"], buffer["data"]] for buffer in model.get("buffers", [])]
    return {"figure": state["_figure"], "state": state, "buffers": buffers}


def _call(function: str, *arguments: Any) -> str:
    """Return a classic script of one call."""
    values = ",".join(
        json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
        for value in arguments
    )
    return f"nlFigures.{function}({values});\n"


def read_source(folder: Path, name: str, suffix: str) -> str:
    """Return the source of one kind of figure: what all kinds share, what it needs, then its own.

    The same as `lmlib.widgets.base.source`, which the build does without (it would import torch).
    """
    main = folder / f"{name}.js"  # which may have been removed since the last build
    needed = _NEEDS.findall(main.read_text(encoding="utf-8")) if main.exists() else []
    files = [
        file
        for start in ("common", *needed, name)
        for file in sorted(folder.glob(f"{start}*{suffix}"))
    ]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


class LiveFigures:
    """The live figures of all pages, kept in Sphinx's environment between builds."""

    def __init__(self) -> None:
        self.pages: dict[str, dict[str, str]] = {}
        """For each page, its models: name of the model → script with its state."""
        self.names: dict[str, set[str]] = {}
        """For each page, the kinds of figures in it."""
        self.models: dict[str, dict[str, str]] = {}
        """For each page, its models (of Jupyter) that run a model of the book → name of that."""
        self.sources = ""
        """A digest of the sources and weights that the pages were written with."""

    def forget(self, docname: str) -> None:
        for by_page in (self.pages, self.names, self.models):
            by_page.pop(docname, None)

    def all_names(self) -> set[str]:
        """Return the kinds of figures in the whole book."""
        return set().union(*self.names.values())

    def all_weights(self) -> set[str]:
        """Return the names of the book's models that figures run."""
        return {name for page in self.models.values() for name in page.values()}


def _figures(env: BuildEnvironment) -> LiveFigures:
    if not hasattr(env, "nihao_figures"):
        env.nihao_figures = LiveFigures()
    return env.nihao_figures


def _source_folder(app: Sphinx) -> Path:
    return Path(app.srcdir, app.config.nihao_figure_sources)


def _model_folder(app: Sphinx) -> Path:
    return Path(app.srcdir, app.config.nihao_models)


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:10]


def _source_digest(app: Sphinx, names: Iterable[str]) -> str:
    folder = _source_folder(app)
    return _digest(
        *(read_source(folder, name, suffix) for name in sorted(names) for suffix in (".js", ".css"))
    )


def _drop_ipywidgets(env: BuildEnvironment, docname: str) -> None:
    """Take the widget state, and the scripts that would read it, off the page."""
    scripts = NbMetadataCollector.get_js_files(env, docname)
    for key in [key for key in scripts if key.startswith("ipywidgets_")]:
        del scripts[key]


def _child(bundle: nodes.container, mime_type: str) -> nodes.Element | None:
    for child in bundle.children:
        if isinstance(child, nodes.Element) and child.get("mime_type") == mime_type:
            return child
    return None


def _model_id(view: nodes.Element) -> str:
    """Return the id in the script element that MyST-NB makes of a widget view."""
    text = view.astext()
    return str(json.loads(text[text.index(">") + 1 : text.rindex("<")])["model_id"])


def _place_figures(app: Sphinx, doctree: nodes.document) -> None:
    """Replace each widget of a notebook by a placeholder, and keep its state for the build."""
    env, docname = app.env, app.env.docname
    figures = _figures(env)
    figures.forget(docname)
    _drop_ipywidgets(env, docname)
    bundles = [
        (node, view)
        for node in doctree.findall(nodes.container)
        if node.get("nb_element") == "mime_bundle"
        and (view := _child(node, notebook.WIDGET_VIEW)) is not None
    ]
    if not bundles:
        return
    saved = notebook.widget_models(notebook.read(env, docname))
    for bundle, view in bundles:
        model_id = _model_id(view)
        model = saved.get(model_id, {"state": {}})
        name, weights = (model["state"].get(trait, "") for trait in ("_figure", "model"))
        problem = _problem(app, name, weights, model_id in saved, bundle)
        if problem:
            logger.warning("widget %s: %s", model_id, problem, location=bundle, type="nihao.figure")
            bundle.remove(view)
            continue
        key = f"{docname.replace('/', '-')}-{model_id}"
        figures.pages.setdefault(docname, {})[key] = _call("addState", key, strip_state(model))
        figures.names.setdefault(docname, set()).add(name)
        if weights:
            figures.models.setdefault(docname, {})[key] = weights
        picture_box = _child(bundle, "image/png")
        assert picture_box is not None
        picture = picture_box.children[0].deepcopy()
        picture["alt"] = model["state"].get("alt", "")
        view.children = []
        view += live_figure("", picture, figure=name, model=key)


def _problem(app: Sphinx, name: str, weights: str, saved: bool, bundle: nodes.container) -> str:
    """Return why a widget cannot run in the page, or ""."""
    if not saved:
        return "its state is not saved in the notebook (run the notebook and save it again)"
    if not name:
        return "it is no live figure (it has no _figure), so it would be dead in the page"
    if not _NAME.fullmatch(name) or not Path(_source_folder(app), f"{name}.js").exists():
        return f"{_source_folder(app)} has no {name}.js"
    if _child(bundle, "image/png") is None:
        return "it has no picture (image/png) to show where it cannot run"
    if weights and not (
        _NAME.fullmatch(weights) and (_model_folder(app) / weights / models.CONFIG).exists()
    ):
        return f"{_model_folder(app)} has no model {weights}"
    return ""


def _visit_live_figure(writer: HTML5Translator, node: live_figure) -> None:
    app = writer.builder.app
    script = _figures(app.env).pages[writer.builder.current_docname][node["model"]]
    # The browser may keep the scripts until their content, and so this number, changes.
    version = _digest(script, _source_digest(app, [node["figure"]]))
    data = {"figure": node["figure"], "model": node["model"], "version": version}
    weights = _figures(app.env).models.get(writer.builder.current_docname, {})
    if node["model"] in weights:
        # The version of the index of all models, not of this one alone.
        data["models"] = models.digest(_model_folder(app), _figures(app.env).all_weights())
    attributes = {f"data-{key}": value for key, value in data.items()}
    writer.body.append(writer.starttag(node, "div", CLASS="nl-live", **attributes))


def _depart_live_figure(writer: HTML5Translator, node: live_figure) -> None:
    writer.body.append("</div>\n")


def _show_picture_only(writer: SphinxTranslator, node: live_figure) -> None:
    """In a book without scripts (PDF, text), a live figure is its picture."""


def _outdated(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> set[str]:
    """Write the pages with figures again when the source of any has changed, or the weights."""
    figures = _figures(env)
    return set() if _all_sources(app) == figures.sources else set(figures.pages)


def _all_sources(app: Sphinx) -> str:
    figures = _figures(app.env)
    weights = models.digest(_model_folder(app), figures.all_weights())
    return _digest(_source_digest(app, figures.all_names()), weights)


def _note_sources(app: Sphinx, env: BuildEnvironment) -> None:
    _figures(env).sources = _all_sources(app)


def _forget(app: Sphinx, env: BuildEnvironment, docname: str) -> None:
    _figures(env).forget(docname)


def _merge(app: Sphinx, env: BuildEnvironment, docnames: set[str], other: BuildEnvironment) -> None:
    mine, theirs = _figures(env), _figures(other)
    for docname in docnames & theirs.pages.keys():
        mine.pages[docname] = theirs.pages[docname]
        mine.names[docname] = theirs.names[docname]
        mine.models[docname] = theirs.models.get(docname, {})


def _add_host(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    if pagename in _figures(app.env).pages:
        app.add_css_file("widget_host.css")
        app.add_js_file("widget_host.js", loading_method="defer")


def _write_files(app: Sphinx, error: Exception | None) -> None:
    """Write the scripts of all figures and models; remove those that no page uses any more."""
    if error is not None or app.builder.format != "html":
        return
    figures = _figures(app.env)
    files = {f"{key}.js": text for page in figures.pages.values() for key, text in page.items()}
    for name in figures.all_names():
        source, style = (read_source(_source_folder(app), name, end) for end in (".js", ".css"))
        files[f"src-{name}.js"] = _call("addSource", name, source)
        files[f"src-{name}.css"] = style
    _write_folder(Path(app.outdir, FOLDER), files)
    weights = models.scripts(_model_folder(app), figures.all_weights())
    _write_folder(Path(app.outdir, models.FOLDER), weights)


def _write_folder(folder: Path, files: dict[str, str]) -> None:
    """Make these the files of the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        if file.name not in files:
            file.unlink()
    for file_name, text in files.items():
        (folder / file_name).write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Register the placeholder and everything that fills it."""
    app.add_config_value("nihao_figure_sources", "lmlib/widgets/static", "env", [str])
    app.add_config_value("nihao_models", "lmlib/assets/models", "env", [str])
    picture_only = (_show_picture_only, _show_picture_only)
    app.add_node(
        live_figure,
        html=(_visit_live_figure, _depart_live_figure),
        latex=picture_only,
        text=picture_only,
    )
    # Before Sphinx collects the pictures of the page.
    app.connect("doctree-read", _place_figures, priority=400)
    app.connect("env-get-outdated", _outdated)
    app.connect("env-purge-doc", _forget)
    app.connect("env-merge-info", _merge)
    app.connect("env-updated", _note_sources)
    app.connect("html-page-context", _add_host)
    app.connect("build-finished", _write_files)
