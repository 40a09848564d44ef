"""Figures that run a shipped model: what is in their state, and what a kernel sends."""

from __future__ import annotations

import json
from typing import Any

import pytest
import traitlets

from lmlib import viz
from lmlib.assets import path
from lmlib.export import pack
from lmlib.pretrained import load_pretrained, load_tokenizer
from lmlib.widgets import _models
from lmlib.widgets._models import ModelFigure, packed_model, shipped_models

Message = tuple[dict[str, Any], list[bytes]]


class Runner(ModelFigure):
    """The smallest figure that runs a model."""

    figure_name = "forward_pass"

    def _draw(self) -> viz.BookFigure:
        return viz.plot_distribution([0.5, 0.5], "你好", title=self.title)

    def _describe(self) -> dict[str, object]:
        return {"model": self.model}


def runner(model: str) -> tuple[Runner, list[Message]]:
    """A figure, and what it has sent."""
    figure = Runner(title="题", alt="说明", model=model)
    sent: list[Message] = []
    figure.send = lambda content, buffers=None: sent.append((content, buffers or []))  # type: ignore[method-assign]
    return figure, sent


def ask(figure: Runner, content: Any) -> None:
    """A message of the browser, the way ipywidgets 7 and 8 hand it on."""
    figure._handle_custom_msg(content, [])


def test_shipped_models() -> None:
    assert {"hello_world", "zh_en", "poem_gpt"} <= set(shipped_models())


def test_a_kernel_sends_the_packed_model_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_models, "PART_BYTES", 60_000)
    figure, sent = runner("hello_world")
    assert sent == []
    ask(figure, {"kind": "model", "name": "hello_world"})
    folder = path("models", "hello_world")
    data = pack(load_pretrained(folder), load_tokenizer(folder))
    assert b"".join(buffer for _, (buffer,) in sent) == data == packed_model("hello_world")
    parts = -(-len(data) // 60_000)
    assert [content for content, _ in sent] == [
        {"kind": "model", "name": "hello_world", "part": part, "parts": parts}
        for part in range(parts)
    ]
    assert parts >= 3


def test_the_state_holds_no_weights() -> None:
    figure, _ = runner("hello_world")
    state = figure.get_state()
    assert state["model"] == "hello_world"
    kept = {key: value for key, value in state.items() if key not in ("_esm", "_css", "layout")}
    assert len(json.dumps(kept)) < 1500


@pytest.mark.parametrize("name", ["zh_en", "", None, "../hello_world"])
def test_only_the_figures_own_model_is_sent(name: str | None) -> None:
    for own in ("hello_world", ""):
        figure, sent = runner(own)
        ask(figure, {"kind": "model", "name": name})
        ((content, buffers),) = sent
        assert content["error"].endswith("。")
        assert content["name"] == name
        assert buffers == []


@pytest.mark.parametrize("content", [None, "model", {}, {"kind": "click"}, ["model"]])
def test_other_messages_are_left_alone(content: Any) -> None:
    figure, sent = runner("hello_world")
    ask(figure, content)
    assert sent == []


def test_a_model_that_cannot_be_read_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> bytes:
        raise FileNotFoundError("model.safetensors is missing")

    monkeypatch.setattr(_models, "packed_model", broken)
    figure, sent = runner("hello_world")
    ask(figure, {"kind": "model", "name": "hello_world"})
    assert sent[0][0]["error"] == "模型「hello_world」没有读出来：model.safetensors is missing。"


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(traitlets.TraitError, match=r"model must be one of .*hello_world, .*'lost'"):
        Runner(title="题", alt="说明", model="lost")
    figure, _ = runner("")
    with pytest.raises(traitlets.TraitError, match="model must be one of"):
        figure.model = "../hello_world"
