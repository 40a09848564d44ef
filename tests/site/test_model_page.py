"""A shipped model in a page: it comes at the first touch, and the page says what is wrong."""

from __future__ import annotations

import base64
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Watch, serving
from figures import number, part, settled
from small_book import WIDGET, build, output, write_book

from lmlib.assets import path
from lmlib.export import load_packed
from lmlib.pretrained import load_tokenizer
from lmlib.trace import Trace, trace
from lmlib.widgets import ForwardPass
from lmlib.widgets._models import packed_model
from lmlib.widgets.base import STATIC

NAME = "hello_world"


def traced(text: str) -> Trace:
    """What the page should compute: the packed model copies the sentence."""
    model: Any = load_packed(packed_model(NAME))
    source = load_tokenizer(path("models", NAME)).encode(text)
    target = torch.tensor([[*source, model.config.eos_id]])
    return trace(model, torch.tensor([source]), target=target)


def saved(figure: ForwardPass) -> dict[str, Any]:
    """The figure as a notebook stores it."""
    state = figure.get_state()
    binary = {key: value for key, value in state.items() if isinstance(value, bytes)}
    plain = {k: v for k, v in state.items() if k not in binary and k not in ("_esm", "_css")}
    buffers = [
        {"encoding": "base64", "path": [key], "data": base64.b64encode(value).decode("ascii")}
        for key, value in binary.items()
    ]
    return {"model_name": "AnyModel", "state": plain, "buffers": buffers}


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A page with one figure that runs the model, the traced sentence 春暖花开."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("models") / "book"
    figure = ForwardPass(traced("春暖花开"), load_tokenizer(path("models", NAME)), model=NAME)
    picture = base64.b64encode(figure.png()).decode("ascii")
    view = {WIDGET: {"model_id": "a"}, "image/png": picture, "text/plain": "图：前向传播"}
    write_book(folder, ["# 前向传播", [output(view, "前向传播")]], {"a": saved(figure)})
    conf = folder / "conf.py"
    text = conf.read_text("utf-8").replace('"sources"', repr(str(STATIC)))
    conf.write_text(f"{text}\nnihao_models = {str(path('models'))!r}\n", encoding="utf-8")
    assert build(folder) == ""
    html = folder / "_build/html"
    (html / "favicon.ico").touch()  # which a browser asks for by itself
    return html


@pytest.fixture(params=["server", "disk"])
def address(request: pytest.FixtureRequest, book: pathlib.Path) -> Iterator[str]:
    if request.param == "disk":
        yield book.as_uri()
        return
    with serving(book) as found:
        yield found


@pytest.fixture
def open_figure(browser: Any, address: str) -> Iterator[Any]:
    """`open_figure(width)` → page, figure, watch."""
    contexts = []

    def open_(width: int = 1000) -> tuple[Any, Any, Watch]:
        context = browser.new_context(viewport={"width": width, "height": 800}, locale="zh-CN")
        contexts.append(context)
        watch = Watch(context, address)
        page = context.new_page()
        page.goto(f"{address}/chapter.html")
        page.locator(".nl-live").scroll_into_view_if_needed()
        figure = page.locator("[data-nl=figure]")
        figure.wait_for()
        return page, figure, watch

    yield open_
    for context in contexts:
        context.close()


def weights(watch: Watch) -> list[str]:
    return [url for url in watch.requests if "/_static/models/" in url]


def type_sentence(figure: Any, text: str) -> None:
    part(figure, "sentence").fill(text)


def chain(page: Any, figure: Any) -> float:
    """ln P(Y|X) of the last step."""
    last = part(figure, "step").locator("option").last.get_attribute("value")
    part(figure, "step").select_option(last)
    settled(page)
    return number(part(figure, "log-product").locator("td").last.inner_text())


@pytest.mark.parametrize("width", [360, 1000])
def test_the_model_comes_at_the_first_touch(open_figure: Any, width: int) -> None:
    page, figure, watch = open_figure(width)
    before = chain(page, figure)
    assert before == pytest.approx(
        float(traced("春暖花开")["sequence_log_probability"].tensor), abs=2e-3
    )
    assert weights(watch) == []
    assert not part(figure, "model-message").is_visible()

    part(figure, "sentence").focus()
    page.wait_for_function("() => document.querySelector('.lm-loader').dataset.state === 'ready'")
    assert not part(figure, "model-progress").is_visible()
    assert len(weights(watch)) == 3  # the index, and 203 KB in two parts

    for text in ("世界和平", "好", "一二三四五六七八九十千万人"):
        type_sentence(figure, text)
        expected = traced(text[:12])
        settled(page)
        total = float(expected["sequence_log_probability"].tensor)
        assert chain(page, figure) == pytest.approx(total, rel=2e-3, abs=2e-3)
        rows = part(figure, "chain").locator("tr").count()
        assert rows == 1 + len(text[:12]) + 1 + 3
        note = part(figure, "sentence-note")
        assert note.is_visible() == (len(text) > 12)
        part(figure, "step").select_option(str(list(expected).index("encoder.layers.0.residual_1")))
        settled(page)
        cells = part(figure, "numbers").locator("tr").all()[1:]
        shown = [[number(t) for t in row.locator("td").all_inner_texts()] for row in cells]
        true = expected["encoder.layers.0.residual_1"].tensor[0, :, : len(shown[0])]
        np.testing.assert_allclose(shown, true, atol=2e-3)
        box = figure.bounding_box()
        assert box["x"] + box["width"] <= width + 1

    type_sentence(figure, "你𠮷")
    assert "没有「𠮷」" in part(figure, "sentence-note").inner_text()
    type_sentence(figure, " ")
    assert part(figure, "sentence-note").inner_text() == "先写一个字。"
    part(figure, "sentence-back").click()
    assert part(figure, "sentence").input_value() == "春暖花开"
    assert chain(page, figure) == before
    assert not part(figure, "sentence-back").is_visible()
    assert len(weights(watch)) == 3
    watch.assert_clean()


def test_a_failure_is_told_and_can_be_mended(open_figure: Any, book: pathlib.Path) -> None:
    page, figure, watch = open_figure()
    (part_file,) = (book / "_static/models").glob(f"{NAME}.*.1.js")
    away = part_file.with_suffix(".away")
    part_file.rename(away)
    try:
        type_sentence(figure, "世界和平")
        retry = part(figure, "model-retry")
        retry.wait_for()
    finally:
        away.rename(part_file)
    message = part(figure, "model-message").inner_text()
    assert message.startswith("模型没有载入。")
    assert "_static/models" in message
    assert not part(figure, "model-progress").is_visible()
    asked = len(weights(watch))
    retry.click()
    page.wait_for_function("() => document.querySelector('.lm-loader').dataset.state === 'ready'")
    assert len(weights(watch)) == asked + 1  # only what is missing
    total = float(traced("世界和平")["sequence_log_probability"].tensor)
    assert chain(page, figure) == pytest.approx(total, rel=2e-3, abs=2e-3)
