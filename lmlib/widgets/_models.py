"""What the figures share that run a shipped model: its name, and the answer to who asks for it.

The weights are in no figure's state, so no notebook stores them. In the published page they lie
beside it (`book/_ext/nihao_book/models.py`). In a kernel the browser sends ``{"kind": "model",
"name": …}`` when the reader touches the figure, and gets the packed model in parts: for each
``{"kind": "model", "name": …, "part": 0, "parts": 9}`` and a buffer.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import traitlets

from lmlib.assets import path
from lmlib.export import pack
from lmlib.pretrained import CONFIG_FILE, load_pretrained, load_tokenizer
from lmlib.widgets.base import LiveFigure

PART_BYTES = 150_000
"""Of a message to the browser: small enough for the bar to move."""


def shipped_models() -> list[str]:
    """The names of the models that the package ships."""
    return sorted(file.parent.name for file in path("models").glob(f"*/{CONFIG_FILE}"))


def model_folder(name: str) -> Path:
    """Where a shipped model is.

    Args:
        name: of the model.

    Raises:
        ValueError: the package ships none of that name.
    """
    known = shipped_models()
    if name not in known:
        raise ValueError(f"model must be one of {', '.join(known)}, got {name!r}")
    return path("models", name)


@functools.cache
def packed_model(name: str) -> bytes:
    """A shipped model and its tokenizer as the page has them: int8, see `lmlib.export`.

    Args:
        name: of the model, one of `shipped_models`.
    """
    folder = model_folder(name)
    return pack(load_pretrained(folder), load_tokenizer(folder))


class ModelFigure(LiveFigure):
    """Base of the live figures that run a shipped model.

    The figure's JavaScript has the line ``// needs: model`` and calls ``lmLoad`` when the reader
    first touches it.

    Args:
        model: the name of the model, "" for none.
        traits: see `LiveFigure`.

    Raises:
        traitlets.TraitError: the package ships no such model.
    """

    model = traitlets.Unicode().tag(sync=True)

    def __init__(self, *, model: str = "", **traits: Any) -> None:
        super().__init__(model=model, **traits)
        self.on_msg(self._answer)

    @traitlets.validate("model")
    def _check_model(self, proposal: Any) -> str:
        name: str = proposal["value"]
        if name:
            try:
                model_folder(name)
            except ValueError as error:
                raise traitlets.TraitError(str(error)) from error
        return name

    def _answer(self, figure: Any, content: Any, buffers: Any) -> None:
        """Send the model that the browser asks for; only the figure's own."""
        if not isinstance(content, dict) or content.get("kind") != "model":
            return
        name = content.get("name")
        about = {"kind": "model", "name": name}
        if not name or name != self.model:
            self.send({**about, "error": f"这幅图没有名叫「{name}」的模型。"})
            return
        try:
            data = packed_model(name)
        except (OSError, ValueError) as error:
            self.send({**about, "error": f"模型「{name}」没有读出来：{error}。"})
            return
        starts = range(0, len(data), PART_BYTES)
        for part, start in enumerate(starts):
            chunk = data[start : start + PART_BYTES]
            self.send({**about, "part": part, "parts": len(starts)}, [chunk])
