"""What a page needs to know of its notebook beyond what MyST-NB hands on."""

from __future__ import annotations

import hashlib
import json
from binascii import a2b_base64
from pathlib import Path
from typing import Any

from sphinx.environment import BuildEnvironment

WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
_FIGURE_MARK = "图："


def read(env: BuildEnvironment, docname: str) -> dict[str, Any]:
    """Return the notebook of a page as JSON, or {} for a page that is no notebook."""
    path = Path(env.doc2path(docname))
    if path.suffix != ".ipynb":
        return {}
    return dict(json.loads(path.read_text(encoding="utf-8")))


def widget_models(notebook: dict[str, Any]) -> dict[str, Any]:
    """Return the saved widgets of a notebook, by model id."""
    widgets = notebook.get("metadata", {}).get("widgets", {})
    return dict(widgets.get(WIDGET_STATE, {}).get("state", {}))


def joined(value: str | list[str]) -> str:
    """Return a text that the notebook format may store as a list of its lines."""
    return value if isinstance(value, str) else "".join(value)


def alt_from_text(text: str) -> str:
    """Return the alternative text that stands for a picture as its text/plain, or "".

    >>> alt_from_text("图：d_k 越大，softmax 越尖")
    'd_k 越大，softmax 越尖'
    >>> alt_from_text("<Figure size 640x480 with 1 Axes>")
    ''
    """
    text = " ".join(text.split())
    return "" if text.startswith("<") else text.removeprefix(_FIGURE_MARK).strip()


def picture_alts(notebook: dict[str, Any]) -> dict[str, str]:
    """Return the alternative text of each picture, by the SHA-256 that MyST-NB names it with."""
    alts: dict[str, str] = {}
    for cell in notebook.get("cells", []):
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" not in data:
                continue
            metadata = output.get("metadata", {}).get("image/png", {})
            alt = metadata.get("alt") or alt_from_text(joined(data.get("text/plain", "")))
            digest = hashlib.sha256(a2b_base64(joined(data["image/png"]))).hexdigest()
            alts.setdefault(digest, alt)
    return alts
