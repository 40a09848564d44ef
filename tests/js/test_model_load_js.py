"""How a shipped model comes to a figure: from the page's host, or from Python in a kernel."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from test_model_js import ENGINE, packed_small

MAIN = """
  const view = bytes(input.data);
  const data = new Uint8Array(view.buffer, view.byteOffset, view.byteLength).slice();
  const said = async (act) => {
    try { const found = await act(); return [found.kind]; } catch (error) { return error.message; }
  };
  const listeners = [];
  const asked = [];
  const kernel = {
    on: (event, listener) => listeners.push([event, listener]),
    off: (event, listener) => {
      listeners.splice(listeners.findIndex(([e, f]) => e === event && f === listener), 1);
    },
    send: (content) => asked.push(content),
  };
  const tell = (content, buffer) => {
    const buffers = buffer ? [new DataView(buffer.slice().buffer)] : [];
    for (const [event, listener] of [...listeners]) {
      if (event === "msg:custom") listener(content, buffers);
    }
  };
  const part = (i) => {
    const some = data.subarray(1000 * i, i < 2 ? 1000 * (i + 1) : data.length);
    tell({ kind: "model", name: "tiny", part: i, parts: 3 }, some);
  };
"""


@pytest.fixture
def run(run_node: Any) -> Any:
    """`run(script)` → what the body of an async function returns, behind MAIN."""
    data = base64.b64encode(packed_small("int8")).decode("ascii")

    def run(script: str) -> Any:
        body = f"async (figure, input, bytes) => {{ {MAIN} {script} }}"
        return run_node(ENGINE, body, {"data": data}, also=["lmLoad"])

    return run


def test_the_page_hands_it_over_once(run: Any) -> None:
    got = run(
        """
        const calls = [];
        globalThis.nlFigures = {
          loadModel: async (name, onProgress) => {
            calls.push(name);
            onProgress(0.5);
            return data.buffer;
          },
        };
        const shares = [];
        const first = await figure.lmLoad(kernel, "tiny", (share) => shares.push(share));
        const second = await figure.lmLoad(kernel, "tiny", (share) => shares.push(share));
        return { calls, shares, same: first === second, kind: first.kind, asked };
        """
    )
    assert got == {
        "calls": ["tiny"],
        "shares": [0.5, 1, 1],
        "same": True,
        "kind": "Transformer",
        "asked": [],
    }


def test_a_page_that_cannot_load_it_says_so_and_may_try_again(run: Any) -> None:
    got = run(
        """
        let broken = true;
        console.warn = () => {};
        globalThis.nlFigures = {
          loadModel: async () => {
            if (broken) throw new Error("cannot load x.js");
            return data.buffer;
          },
        };
        const first = await said(() => figure.lmLoad(kernel, "tiny"));
        broken = false;
        return [first, await said(() => figure.lmLoad(kernel, "tiny"))];
        """
    )
    assert got[0].startswith("模型没有载入。")
    assert got[0].endswith("。")
    assert got[1] == ["Transformer"]


def test_a_damaged_file_is_told_as_such(run: Any) -> None:
    got = run(
        """
        globalThis.nlFigures = { loadModel: async () => data.slice(0, 100).buffer };
        return said(() => figure.lmLoad(kernel, "tiny"));
        """
    )
    assert got == "模型文件不完整：请刷新页面再试。"


def test_a_kernel_sends_it_in_parts_in_any_order(run: Any) -> None:
    got = run(
        """
        const shares = [];
        const loading = figure.lmLoad(kernel, "tiny", (share) => shares.push(share));
        tell({ kind: "model", name: "other", part: 0, parts: 1 }, data);
        tell({ kind: "weather" });
        tell("text");
        for (const i of [2, 0, 0, 1]) part(i);
        const { kind } = await loading;
        const again = await figure.lmLoad(kernel, "tiny");
        return { kind, asked, shares, left: listeners.length, again: again.kind };
        """
    )
    assert got["kind"] == got["again"] == "Transformer"
    assert got["asked"] == [{"kind": "model", "name": "tiny"}]
    assert got["shares"] == [0, 1 / 3, 2 / 3, 2 / 3, 1, 1]
    assert got["left"] == 0


def test_a_kernel_that_refuses_or_is_silent(run: Any) -> None:
    """The clock is the test's: waiting begins anew with each part."""
    got = run(
        """
        const clock = [];
        globalThis.setTimeout = (act, delay, ...rest) => clock.push([() => act(...rest), delay]);
        globalThis.clearTimeout = (id) => { if (id) clock[id - 1] = null; };
        const refused = said(() => figure.lmLoad(kernel, "tiny"));
        tell({ kind: "model", name: "tiny", error: "没有这个模型。" });
        const silent = said(() => figure.lmLoad(kernel, "tiny"));
        part(0);
        const running = clock.filter((timer) => timer);
        running[0][0]();
        const answers = [await refused, await silent];
        const left = listeners.length;
        const third = said(() => figure.lmLoad(kernel, "tiny"));
        for (const i of [0, 1, 2]) part(i);
        return { answers, running: running.map(([, delay]) => delay), left, third: await third };
        """
    )
    assert got["answers"][0] == "没有这个模型。"
    assert "内核没有回答" in got["answers"][1]
    assert got["running"] == [60_000]
    assert got["left"] == 0
    assert got["third"] == ["Transformer"]
