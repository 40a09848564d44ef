"""The static figures: what they draw, that they draw it alike each time, and for every reader."""

from __future__ import annotations

import base64
import hashlib
import io
import logging
import subprocess
import sys
import types
import warnings
from collections.abc import Callable
from functools import cache

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from lmlib import viz
from lmlib.transformer import TransformerConfig
from lmlib.viz import style

# What breaks fonts: ideographs, root, subscripts, transpose, minus, arrows, Greek, dashes.
HARD = "你好，√d_k ⊤ Qᵀ xᵢ₁ₖ −1 → × σ ≤ ∑ “引” —…"
SENTENCE = list("你好世界")
WORDS = ["The", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog"]


def softmax(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    raw = np.exp(np.random.default_rng(seed).normal(size=shape))
    return raw / raw.sum(-1, keepdims=True)


def config(**changes: object) -> TransformerConfig:
    return TransformerConfig(**{"vocab_size": 10_000, **changes})  # type: ignore[arg-type]


FIGURES: dict[str, Callable[[str], Figure]] = {
    "attention": lambda title: viz.plot_attention(
        softmax((4, 4)),
        ["你", "√", "⊤", "−"],
        title=title,
        mask=np.tril(np.ones((4, 4), bool)),
        query_label=HARD,
    ),
    "heads": lambda title: viz.plot_attention(softmax((8, 4, 4)), SENTENCE, title=title),
    "words": lambda title: viz.plot_attention(softmax((9, 9)), WORDS, title=title),
    "tensor": lambda title: viz.plot_tensor(
        np.random.default_rng(0).normal(size=(40, 512)), ["ᵢ"] * 40, title=title
    ),
    "distribution": lambda title: viz.plot_distribution(
        softmax((100,)), [HARD[i % len(HARD)] for i in range(99)] + ["界"], title=title, target="界"
    ),
    "positions": lambda title: viz.plot_positional_encoding(
        np.sin(np.arange(64)[:, None] / (1 + np.arange(32))), title=title
    ),
    "curves": lambda title: viz.plot_curves(
        {"√d_k ⊤": np.geomspace(9, 0.1, 50), "乙": np.random.default_rng(0).random((3, 50))},
        title=title,
        x_label=HARD,
        y_label="损失（奈特/词元）",
        baselines={"均匀分布 −": 9.2},
        log_y=True,
    ),
    "post-norm": lambda title: viz.plot_network(
        config(num_encoder_layers=1, num_decoder_layers=1), title=title
    ),
    "pre-norm": lambda title: viz.plot_network(
        config(norm_first=True, norm="rmsnorm", feed_forward="swiglu", positions="rotary"),
        title=title,
    ),
}
each_figure = pytest.mark.parametrize("name", FIGURES)


# ---------------------------------------------------------------- for every figure


@cache
def drawn(name: str) -> tuple[Figure, bytes, list[str]]:
    """A figure with a hard title, its picture, and what matplotlib had to complain of."""
    complaints: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: complaints.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("matplotlib")
    logger.addHandler(handler)  # inside $…$ a missing glyph is logged, elsewhere warned of
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        figure = FIGURES[name](HARD)
        png = viz.to_png(figure)
    logger.removeHandler(handler)
    return figure, png, [*complaints, *(str(warning.message) for warning in warned)]


@each_figure
def test_no_glyph_is_missing(name: str) -> None:
    assert drawn(name)[2] == []


def test_formulas_stand_beside_chinese(caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings():
        # A missing glyph is a UserWarning; what libraries say of each other's age is not meant.
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        viz.to_png(viz.plot_tensor([1.0], title=r"除以 $\sqrt{d_k}$，方差 $\sigma^2 \leq -1$"))
    assert not caplog.records


def test_a_missing_glyph_would_be_noticed() -> None:
    with pytest.warns(UserWarning, match="Glyph 173733"):
        viz.to_png(viz.plot_tensor([1.0], title="𪚥"))


@each_figure
def test_a_picture_is_small_and_as_wide_as_the_page(name: str) -> None:
    png = drawn(name)[1]
    assert len(png) < 64_000
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.width == round(style.PAGE_WIDTH * 200)
        assert "Software" not in picture.info
        assert "date" not in str(picture.info).lower()


@each_figure
def test_the_same_figure_gives_the_same_bytes(name: str) -> None:
    figure, png, _ = drawn(name)
    assert viz.to_png(figure) == png
    assert viz.to_png(FIGURES[name](HARD)) == png


def test_another_process_gives_the_same_bytes() -> None:
    script = (
        "import hashlib; from lmlib import viz;"
        "figure = viz.plot_tensor([[0.5, -1.5], [2.0, 0.0]], '你好', title='两行数');"
        "print(hashlib.sha256(viz.to_png(figure)).hexdigest())"
    )
    figure = viz.plot_tensor([[0.5, -1.5], [2.0, 0.0]], "你好", title="两行数")
    here = hashlib.sha256(viz.to_png(figure)).hexdigest()
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == here


@each_figure
def test_text_can_be_read_on_a_phone(name: str) -> None:
    figure, _, _ = drawn(name)
    points = [t.get_size() for t in figure.findobj(matplotlib.text.Text) if t.get_text()]
    on_phone = 330 / (style.PAGE_WIDTH * 72)  # CSS pixels a point takes, 330 px for the figure
    assert min(points) * on_phone >= 8.5


LONG_TITLE = "一句话说出发现，长得一行放不下，所以要在合适的地方折成两行来写"


@each_figure
def test_nothing_runs_out_of_the_card(name: str) -> None:
    figure = FIGURES[name](LONG_TITLE)
    figure.draw_without_rendering()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    slack = 0.02  # inches
    assert box.x0 >= -slack
    assert box.y0 >= -slack
    assert box.x1 <= width + slack
    assert box.y1 <= height + slack


@each_figure
def test_the_title_covers_nothing(name: str) -> None:
    figure = FIGURES[name](LONG_TITLE)
    figure.draw_without_rendering()
    title = next(t for t in figure.texts if t.get_text() == figure.get_suptitle())
    assert "\n" in title.get_text()
    bottom = title.get_window_extent().y0
    for axes in figure.axes:
        assert axes.get_tightbbox().y1 <= bottom


# ---------------------------------------------------------------- alternative text


def small() -> viz.BookFigure:
    return viz.plot_tensor([1.0, 2.0], title="两个数")


@pytest.fixture
def displayed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict, dict]]:
    """A notebook that notes what is displayed."""
    import IPython
    import IPython.display

    outputs: list[tuple[dict, dict]] = []
    monkeypatch.setattr(IPython, "get_ipython", lambda: types.SimpleNamespace())
    monkeypatch.setattr(
        IPython.display, "display", lambda data, metadata, raw: outputs.append((data, metadata))
    )
    return outputs


def test_show_in_a_notebook_gives_picture_and_text(displayed: list[tuple[dict, dict]]) -> None:
    figure = small()
    viz.show(figure, alt="两个格子，一个是 1，一个是 2。")
    [(data, metadata)] = displayed
    assert data["text/plain"] == "图：两个格子，一个是 1，一个是 2。"
    assert base64.b64decode(data["image/png"]) == viz.to_png(figure)
    assert metadata == {"image/png": {"alt": "两个格子，一个是 1，一个是 2。", "width": 600}}
    assert figure.alt == "两个格子，一个是 1，一个是 2。"


def test_show_elsewhere_prints_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    viz.show(small(), alt="两个数。")
    assert capsys.readouterr().out == "图：两个数。\n"


def test_show_works_without_ipython(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "IPython", None)
    viz.show(small(), alt="两个数。")
    assert capsys.readouterr().out == "图：两个数。\n"


def test_show_closes_a_pyplot_figure(capsys: pytest.CaptureFixture[str]) -> None:
    import matplotlib.pyplot as plt

    figure, _ = plt.subplots()
    number = figure.number
    viz.show(figure, alt="一张空图。")
    assert not plt.fignum_exists(number)


def test_show_demands_a_text() -> None:
    with pytest.raises(TypeError, match="alt"):
        viz.show(small())  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="alt must say what the figure shows"):
        viz.show(small(), alt=" ")
    with pytest.raises(TypeError, match="alt must be a string, got NoneType"):
        viz.show(small(), alt=None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="figure must be a matplotlib Figure, got str"):
        viz.show("图", alt="图")  # type: ignore[arg-type]


def test_a_figure_at_the_end_of_a_cell_shows_itself() -> None:
    figure = small()
    data, metadata = figure._repr_mimebundle_()
    assert data["text/plain"] == "图：两个数"
    assert metadata["image/png"]["alt"] == "两个数"
    figure.alt = "两个格子。"
    assert figure._repr_mimebundle_()[0]["text/plain"] == "图：两个格子。"


def test_figures_do_not_live_in_pyplot() -> None:
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    small()
    assert plt.get_fignums() == before
