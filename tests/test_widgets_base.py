"""What every live figure shares: packing, the source text, the picture, the alt text, the repr."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import pytest
import torch
import traitlets
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from IPython.core.formatters import DisplayFormatter

from lmlib import viz, widgets
from lmlib.widgets import base
from lmlib.widgets.base import (
    STATIC,
    STUB_ESM,
    LiveFigure,
    as_float_array,
    as_tokens,
    pack_float16,
    source,
    unpack_float16,
)

FIGURES = [getattr(widgets, name).figure_name for name in widgets.__all__]


class Bars(LiveFigure):
    """The smallest figure: its size is a trait, its picture a distribution."""

    figure_name = "attention_heatmap"
    size = traitlets.Int(2).tag(sync=True)

    def _draw(self) -> viz.BookFigure:
        tokens = "你好世界"[: self.size]
        return viz.plot_distribution(np.full(self.size, 1 / self.size), tokens, title=self.title)

    def _describe(self) -> dict[str, object]:
        return {"size": self.size}


def bars(**traits: Any) -> Bars:
    return Bars(title="均匀分布", alt="两条一样长的条。", **traits)


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(max_dims=4, max_side=5),
        elements=st.floats(-65504, 65504, width=32),
    )
)
@settings(max_examples=50, deadline=None)
def test_float16_is_within_half_a_step(array: np.ndarray) -> None:
    """11 significant bits: relative error ≤ 2⁻¹¹, and 2⁻²⁵ where numbers are subnormal."""
    packed = pack_float16(array)
    assert len(packed) == 2 * array.size
    error = np.abs(unpack_float16(packed, array.shape) - array.astype(np.float64))
    assert (error <= np.maximum(np.abs(array) * 2.0**-11, 2.0**-25)).all()


def test_arrays_come_from_lists_numpy_and_tensors() -> None:
    parameter = torch.nn.Parameter(torch.tensor([[1.0, 2.0]], dtype=torch.bfloat16))
    for value in ([[1, 2]], np.array([[1, 2]], np.float64), parameter):
        array = as_float_array("query", value, ndim=2)
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, [[1.0, 2.0]])


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ("text", TypeError, r"query must be a numeric array or tensor, got str"),
        ([[1.0], [2.0, 3.0]], TypeError, r"query must be a numeric array or tensor, got list"),
        ([1.0], ValueError, r"query must have 2 or 3 dimensions, got shape \(1,\)"),
        (np.ones((0, 3)), ValueError, r"query must not be empty, got shape \(0, 3\)"),
        ([[np.nan]], ValueError, r"query must be finite"),
        ([[np.inf]], ValueError, r"query must be finite"),
        ([[70000.0]], ValueError, r"query must fit float16 \(at most ±65504\), got .* 70000"),
    ],
)
def test_bad_arrays_are_named(value: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        as_float_array("query", value, ndim=(2, 3))


def test_tokens() -> None:
    assert as_tokens("tokens", "你好", 2) == ["你", "好"]
    assert as_tokens("tokens", ("the", "fox"), 2) == ["the", "fox"]
    with pytest.raises(ValueError, match="tokens must have 3 tokens, one a position, got 2"):
        as_tokens("tokens", "你好", 3)
    with pytest.raises(TypeError, match="tokens must be texts, got int"):
        as_tokens("tokens", [1, 2], 2)  # type: ignore[list-item]


def test_title_and_alt_are_required() -> None:
    with pytest.raises(ValueError, match="alt must be a non-empty text, got ' '"):
        Bars(title="标题", alt=" ")
    with pytest.raises(ValueError, match="title must be a non-empty text, got None"):
        Bars(title=None, alt="说明")  # type: ignore[arg-type]


def test_repr_has_no_address() -> None:
    assert repr(bars(size=3)) == "Bars(size=3)"
    assert repr(bars()) == repr(bars())


def test_mimebundle_has_widget_picture_and_alt_text() -> None:
    figure = bars()
    data, metadata = figure._repr_mimebundle_()
    view = data["application/vnd.jupyter.widget-view+json"]
    assert view["model_id"] == figure.model_id
    assert data["text/plain"] == "图：两条一样长的条。"
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert metadata["image/png"]["alt"] == "两条一样长的条。"
    json.dumps([data, metadata])


def test_ipython_shows_the_mimebundle_whatever_ipywidgets_says() -> None:
    """ipywidgets 7 has `_ipython_display_`, which IPython would call instead."""
    assert LiveFigure._ipython_display_ is None
    data, metadata = DisplayFormatter().format(bars())
    assert {"text/plain", "image/png", "application/vnd.jupyter.widget-view+json"} <= set(data)
    assert metadata["image/png"]["alt"] == "两条一样长的条。"


def test_picture_is_the_same_bytes_again_and_follows_the_state() -> None:
    figure = bars()
    first = figure.png()
    assert first == bars().png()
    figure.size = 3
    assert figure.png() != first


def test_state_is_json_and_carries_the_name() -> None:
    state = bars().get_state()
    assert state["_figure"] == "attention_heatmap"
    json.dumps({k: v for k, v in state.items() if not isinstance(v, bytes)})


def test_objects_of_two_classes_keep_their_own_source() -> None:
    """anywidget derives a class for each object; that must not touch `_esm`."""
    first, second = bars(), bars()
    for figure in (first, second):
        assert figure._esm == source("attention_heatmap", ".js")
        assert figure._css == source("attention_heatmap", ".css")


def test_observe_link_and_boxes() -> None:
    figure, slider = bars(), ipywidgets.IntSlider(value=4)
    seen: list[int] = []
    figure.observe(lambda change: seen.append(change["new"]), "size")
    figure.size = 3
    ipywidgets.link((slider, "value"), (figure, "size"))
    slider.value = 1
    assert seen == [3, 4, 1]
    assert ipywidgets.jslink((slider, "value"), (figure, "size")).target[0] is figure
    assert figure in ipywidgets.VBox([slider, figure]).children
    assert figure.layout.width is None


@pytest.mark.parametrize("name", FIGURES)
def test_source_holds_shared_and_own_files(name: str) -> None:
    text = source(name, ".js")
    assert text.count("export default") == 1
    assert text.index("function nlSoftmax") < text.index("export default")
    for file in STATIC.glob("common*.js"):
        assert file.read_text(encoding="utf-8") in text
    assert ".nl-figure" in source(name, ".css")


def test_shared_script_declares_only_prefixed_names() -> None:
    for file in sorted(STATIC.glob("common*.js")):
        for line in file.read_text(encoding="utf-8").splitlines():
            if line[:1] in ("", " ", "}", "]", ")", "/"):
                continue
            assert re.match(r"(function|const) nl[A-Z]\w*", line), f"{file.name}: {line}"


def test_engine_declares_only_prefixed_names() -> None:
    files = sorted(STATIC.glob("model*.js"))
    assert len(files) >= 6
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            if line[:1] in ("", " ", "}", "]", ")", "/"):
                continue
            pattern = r"(async )?(function|const) (lm[A-Z]\w*|LM_[A-Z_]+)"
            assert re.match(pattern, line), f"{file.name}: {line}"


def test_a_figure_gets_the_engine_if_it_asks_for_it() -> None:
    for suffix, part in ((".js", "function lmNetwork("), (".css", ".lm-loader {")):
        for name, needs in (("forward_pass", True), ("attention_heatmap", False)):
            text = source(name, suffix)
            assert text.count(part) == needs
    text = source("forward_pass", ".js")
    common, engine = text.index("function nlSoftmax("), text.index("function lmReadPacked(")
    assert common < engine < text.index("function fpRender(")


def test_stub_says_what_to_do() -> None:
    assert len(STUB_ESM.encode()) < 300
    assert "运行这一格" in STUB_ESM
    assert STUB_ESM.startswith("export default { render(")


def test_widget_text_is_in_full_width_punctuation() -> None:
    """No half-width comma, colon or bracket between Chinese characters."""
    for file in sorted(STATIC.glob("*.js")):
        code = file.read_text(encoding="utf-8")
        assert not re.findall(r"[\u4e00-\u9fff][,:;?!()][\u4e00-\u9fff]", code), file.name


def css_variables(block: str) -> dict[str, tuple[float, float, float]]:
    pairs = re.findall(r"(--nl-[\w-]+):\s*#([0-9a-f]{6});", block)
    return {
        name: (int(h[:2], 16) / 255, int(h[2:4], 16) / 255, int(h[4:], 16) / 255)
        for name, h in pairs
    }


def contrast(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    def luminance(color: tuple[float, ...]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colors_meet_wcag_aa(theme: str) -> None:
    text = (STATIC / "common.css").read_text(encoding="utf-8")
    start = ".nl-figure {" if theme == "light" else '.nl-figure[data-nl-theme="dark"] {'
    colors = css_variables(text[text.index(start) : text.index("}", text.index(start))])
    wanted = {
        ("ink", "paper"): 7.0,
        ("ink", "raised"): 7.0,
        ("soft", "paper"): 4.5,
        ("soft", "raised"): 4.5,
        ("accent", "paper"): 4.5,
        ("accent", "accent-soft"): 4.5,
        ("control", "paper"): 3.0,
        ("bar", "raised"): 3.0,
    }
    for (front, back), least in wanted.items():
        ratio = contrast(colors[f"--nl-{front}"], colors[f"--nl-{back}"])
        assert ratio >= least, f"{theme}: {front} on {back} is {ratio:.2f} : 1"


def test_static_files_are_shipped() -> None:
    assert Path(base.__file__).parent / "static" == STATIC
    assert {"common.js", "common.css"} <= {file.name for file in STATIC.iterdir()}
