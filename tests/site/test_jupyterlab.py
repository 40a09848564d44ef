"""Live figures in a real JupyterLab with a real kernel: shared state, links, boxes, two views."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import nbformat
import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from lmlib.widgets import AttentionHeatmap

START_SECONDS = 120
STEP_SECONDS = 40

FIGURE = """
import numpy as np
from lmlib.widgets import AttentionHeatmap

generator = np.random.default_rng(0)
query, key = generator.standard_normal((2, 1, 8, 4, 16))
figure = AttentionHeatmap(query, key, "你好世界", mask=np.array([True, True, True, False]))
"""
# The kernel writes down every change that it sees, and the test reads that.
OBSERVE = """
import json, pathlib
import ipywidgets

seen = []
def note(change):
    seen.append([change["name"], change["new"]])
    pathlib.Path("seen.json").write_text(json.dumps(seen))
figure.observe(note, ["head", "temperature", "mask_kind", "scaled", "query_index"])

slider = ipywidgets.IntSlider(description="head", min=0, max=7)
slider.observe(lambda change: note({"name": "slider", "new": change["new"]}), "value")
ipywidgets.jslink((slider, "value"), (figure, "head"))
figure.layout.width = "520px"
ipywidgets.VBox([slider, figure])
"""
IDLE = """() => {
  const panel = window.jupyterapp?.shell.currentWidget;
  return panel?.sessionContext?.session?.kernel?.status === "idle";
}"""
CELLS = [
    FIGURE + OBSERVE,
    'figure.temperature = 0.5; figure.mask_kind = "causal"; figure.query_index = 3',
    "figure",
    'figure.close(); print("closed")',
]

# The figure comes without the model, which the kernel sends when the reader touches the line.
MODEL_FIGURE = """
import torch
from lmlib.assets import path
from lmlib.pretrained import load_pretrained, load_tokenizer
from lmlib.trace import trace
from lmlib.widgets import ForwardPass

folder = path("models", "hello_world")
model, tokenizer = load_pretrained(folder), load_tokenizer(folder)
ids = tokenizer.encode("你好")
traced = trace(model, torch.tensor([ids]), target=torch.tensor([[*ids, tokenizer.eos_id]]))
ForwardPass(traced, tokenizer, model="hello_world")
"""


def expected_figure(**traits: Any) -> AttentionHeatmap:
    """The figure of the notebook, made here, to compare the numbers with."""
    scope: dict[str, Any] = {}
    exec(FIGURE, scope)
    figure: AttentionHeatmap = scope["figure"]
    for name, value in traits.items():
        setattr(figure, name, value)
    return figure


def free_port() -> int:
    with contextlib.closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """What `condition` returns once it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError, ValueError):
            if result := condition():
                return result
        time.sleep(0.2)
    raise AssertionError(f"waited {seconds} s for {what}")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, pathlib.Path]]:
    """Address and folder of a JupyterLab of its own, which shares no settings with the user's."""
    home = tmp_path_factory.mktemp("jupyter")
    work = home / "work"
    work.mkdir()
    config = home / "config" / "labconfig"
    config.mkdir(parents=True)
    news = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
    (config / "page_config.json").write_text(json.dumps(news), encoding="utf-8")
    environment = os.environ | {
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
    }
    port = free_port()
    options = [
        "--no-browser",
        "--allow-root",
        "--expose-app-in-browser",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        "--IdentityProvider.token=",
        f"--ServerApp.root_dir={work}",
    ]
    with (home / "server.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        address = f"http://127.0.0.1:{port}"
        try:

            def answers() -> bool:
                if server.poll() is not None:
                    raise AssertionError((home / "server.log").read_text()[-3000:])
                with urllib.request.urlopen(f"{address}/api/status", timeout=5) as response:
                    return response.status == 200

            wait_for(answers, START_SECONDS, "the server")
            yield address, work
        finally:
            server.terminate()
            server.wait(timeout=30)


class Notebook:
    """A notebook open in the browser."""

    def __init__(self, page: Page, folder: pathlib.Path) -> None:
        self.page = page
        self.folder = folder

    def run(self, number: int) -> None:
        """Run one cell; a click into an output has moved the selection before."""
        self.page.evaluate(
            "(n) => { jupyterapp.shell.currentWidget.content.activeCellIndex = n; }", number
        )
        self.command("notebook:run-cell")
        self.page.wait_for_function(IDLE)

    def command(self, name: str, **arguments: Any) -> None:
        self.page.evaluate(
            "([name, args]) => window.jupyterapp.commands.execute(name, args)", [name, arguments]
        )

    def view(self, number: int = 0) -> Locator:
        """The views of the figure, in the order of the page."""
        return self.page.locator('[data-nl="figure"]').nth(number)

    def seen(self, *change: Any) -> None:
        """Wait until the kernel has noted this change."""

        def noted() -> bool:
            return list(change) in json.loads((self.folder / "seen.json").read_text())

        wait_for(noted, STEP_SECONDS, f"{change} in the kernel")


@contextlib.contextmanager
def opened(
    browser: Browser, lab: tuple[str, pathlib.Path], texts: Sequence[str] = tuple(CELLS)
) -> Iterator[Notebook]:
    """A scratch notebook of these cells, not yet run, in a page and a kernel of its own."""
    address, folder = lab
    cells = [nbformat.v4.new_code_cell(text.strip()) for text in texts]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    book = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(book, folder / "scratch.ipynb")
    context = browser.new_context(viewport={"width": 1280, "height": 1400})
    page = context.new_page()
    page.set_default_timeout(STEP_SECONDS * 1000)
    page.goto(f"{address}/lab/tree/scratch.ipynb?reset")
    page.wait_for_function(IDLE, timeout=START_SECONDS * 1000)
    expect.set_options(timeout=STEP_SECONDS * 1000)
    try:
        yield Notebook(page, folder)
    finally:
        expect.set_options(timeout=5000)
        page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        context.close()


def expect_bars(view: Locator, **traits: Any) -> None:
    """The view shows the selected row of the figure with these traits."""
    figure = expected_figure(**traits)
    row, allowed = figure.weights()[figure.query_index], figure.allowed()[figure.query_index]
    texts = [
        f"{100 * weight:.1f}%" if open_ else "遮住"
        for weight, open_ in zip(row, allowed, strict=True)
    ]
    expect(view.locator('[data-nl="weights-value"]')).to_have_text(texts)


def test_figure_lives_in_jupyterlab(browser: Browser, lab: tuple[str, pathlib.Path]) -> None:
    """State shared both ways, links, boxes, two views, both themes.

    Now and then JupyterLab misses the kernel's word that a message was handled, and then sends
    no further change of that widget. So a first failure is tried again, in a new kernel.
    """
    with opened(browser, lab) as notebook, contextlib.suppress(AssertionError):
        operate(notebook)
        return
    with opened(browser, lab) as notebook:
        operate(notebook)


def operate(notebook: Notebook) -> None:
    """Every control, from the browser's side and from the kernel's."""
    notebook.run(0)
    view = notebook.view()
    expect(view).to_be_visible()
    expect_bars(view)
    box = view.bounding_box()
    assert box is not None
    assert box["width"] == pytest.approx(520, abs=8), "the layout's width is not kept"

    # Browser → Python
    view.locator('[data-nl="head-4"]').click()
    notebook.seen("head", 4)
    notebook.seen("slider", 4)
    view.locator('[data-nl="scaled"]').click()
    notebook.seen("scaled", False)
    view.locator('[data-nl="scaled"]').click()
    notebook.seen("scaled", True)
    view.locator('[data-nl="mask-both"]').click()
    notebook.seen("mask_kind", "both")
    view.locator('[data-nl="heatmap"]').focus()
    notebook.page.keyboard.press("ArrowDown")
    notebook.seen("query_index", 1)
    expect_bars(view, head=4, mask_kind="both", query_index=1)

    # ipywidgets' own slider ↔ figure, linked in the browser
    notebook.page.locator(".jupyter-widgets .noUi-handle").focus()
    notebook.page.keyboard.press("ArrowRight")
    notebook.seen("slider", 5)
    notebook.seen("head", 5)
    expect(view.locator('[data-nl="head-5"]')).to_have_attribute("aria-pressed", "true")

    # Python → browser
    notebook.run(1)
    expect(view.locator('[data-nl="temperature-value"]')).to_have_text("0.5")
    expect(view.locator('[data-nl="mask-causal"]')).to_have_attribute("aria-pressed", "true")
    then: dict[str, Any] = {"head": 5, "temperature": 0.5, "mask_kind": "causal", "query_index": 3}
    expect_bars(view, **then)

    # A second view shows and changes the same state
    notebook.run(2)
    second = notebook.view(1)
    expect(second).to_be_visible()
    expect(second.locator('[data-nl="temperature-value"]')).to_have_text("0.5")
    second.locator('[data-nl="head-2"]').click()
    notebook.seen("head", 2)
    for each in (view, second):
        expect(each.locator('[data-nl="head-2"]')).to_have_attribute("aria-pressed", "true")
        expect_bars(each, **{**then, "head": 2})

    # JupyterLab's own switch of theme
    expect(view).to_have_attribute("data-nl-theme", "light")
    notebook.command("apputils:change-theme", theme="JupyterLab Dark")
    expect(view).to_have_attribute("data-nl-theme", "dark")
    notebook.command("apputils:change-theme", theme="JupyterLab Light")

    # Both views go away with the figure
    notebook.run(3)
    expect(notebook.page.get_by_text("closed", exact=True)).to_be_visible()
    expect(notebook.page.locator('[data-nl="figure"]')).to_have_count(0)


def test_a_kernel_sends_the_shipped_model(browser: Browser, lab: tuple[str, pathlib.Path]) -> None:
    """At the first touch; then the figure walks through a sentence of the reader's own."""
    with opened(browser, lab, [MODEL_FIGURE]) as notebook:
        notebook.run(0)
        view = notebook.view()
        loader = view.locator(".lm-loader")
        expect(loader).to_have_attribute("data-state", "waiting")
        view.locator('[data-nl="sentence"]').fill("世界和平")
        expect(loader).to_have_attribute("data-state", "ready")
        expect(view.locator('[data-nl="tokens"] b')).to_have_text(list("世界和平"))
        view.locator('[data-nl="sentence-back"]').click()
        expect(view.locator('[data-nl="tokens"] b')).to_have_text(list("你好"))


def test_expected_numbers_differ_between_the_steps() -> None:
    """The comparisons above would see a figure that ignored its controls."""
    steps = [{}, {"head": 4}, {"head": 5, "temperature": 0.5}, {"mask_kind": "causal"}]
    rows = [expected_figure(**step, query_index=2).weights()[2] for step in steps]
    for i, row in enumerate(rows):
        for other in rows[i + 1 :]:
            assert np.abs(row - other).max() > 0.01
