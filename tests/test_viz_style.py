"""The style of the figures: fonts, colours for every eye, words and numbers."""

from __future__ import annotations

import itertools
import warnings

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb

from lmlib import viz
from lmlib.viz import style
from lmlib.viz.labels import count, plain, probability, text_width, wrapped

HARD = "你好，√d_k ⊤ Qᵀ xᵢ₁ₖ −1 → × σ"


# ---------------------------------------------------------------- style


def test_importing_sets_the_fonts_and_they_survive_a_reset() -> None:
    assert matplotlib.rcParams["font.family"] == ["Nihao Sans SC", "DejaVu Sans"]
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        viz.use_style()
        assert matplotlib.rcParams["font.family"] == ["Nihao Sans SC", "DejaVu Sans"]
        assert matplotlib.rcParams["axes.unicode_minus"]


def test_a_readers_own_pyplot_figure_has_the_font() -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots()
    axes.set_title(HARD)
    axes.plot([-1, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DeprecationWarning)  # of one library, for another's age
        viz.to_png(figure)
    plt.close(figure)


def contrast(first: object, second: object) -> float:
    light, dark = sorted(map(style.relative_luminance, (first, second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("color", viz.PALETTE)
def test_lines_stand_out_from_the_card(color: str) -> None:
    assert contrast(color, style.CARD) >= 3


@pytest.mark.parametrize("color", [style.INK, style.MUTED, *viz.PALETTE[:4]])
def test_text_stands_out_from_the_card(color: str) -> None:
    assert contrast(color, style.CARD) >= 4.5


# Machado, Oliveira, Fernandes 2009, severity 1.0: what is seen in linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def seen(color: object, vision: str) -> np.ndarray:
    """CIE Lab coordinates of a colour as a kind of eye sees it."""
    rgb = np.array(to_rgb(color))  # type: ignore[arg-type]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(VISION[vision]) @ linear, 0, 1)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = to_xyz @ linear / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", VISION)
def test_colours_are_told_apart_by_every_eye(vision: str) -> None:
    # The first four colours by themselves; all six together with their line patterns.
    for first, second in itertools.combinations(viz.PALETTE[:4], 2):
        assert np.linalg.norm(seen(first, vision) - seen(second, vision)) > 10, (first, second)
    assert len(set(zip(viz.PALETTE, style.LINE_STYLES, strict=True))) == 6
    for (a, a_line), (b, b_line) in itertools.combinations(
        zip(viz.PALETTE, style.LINE_STYLES, strict=True), 2
    ):
        apart = np.linalg.norm(seen(a, vision) - seen(b, vision))
        assert apart > 10 or a_line != b_line, (a, b)


@pytest.mark.parametrize("vision", VISION)
def test_colour_maps_are_ordered_for_every_eye(vision: str) -> None:
    def lightness(values: np.ndarray, cmap: matplotlib.colors.Colormap) -> np.ndarray:
        return np.array([seen(cmap(value), vision)[0] for value in values])

    assert (np.diff(lightness(np.linspace(0, 1, 33), viz.SEQUENTIAL)) < 0).all()
    assert (np.diff(lightness(np.linspace(0, 0.5, 33), viz.DIVERGING)) > 0).all()
    assert (np.diff(lightness(np.linspace(0.5, 1, 33), viz.DIVERGING)) < 0).all()


@pytest.mark.parametrize("cmap", [viz.SEQUENTIAL, viz.DIVERGING])
def test_numbers_can_be_read_on_every_cell(cmap: matplotlib.colors.Colormap) -> None:
    for value in np.linspace(0, 1, 65):
        color = cmap(value)
        assert contrast(style.text_on(color), color) >= 4.5


# ---------------------------------------------------------------- words and numbers


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        ("你", "你"),
        (" ", "␣"),
        ("a b\n", "a␣b↵"),
        ("\t", "⇥"),
        ("", "∅"),
        ("$", r"\$"),
        ("𪚥", "U+2A6A5"),
        ("\u200b", "U+200B"),
        ("<pad>", "<pad>"),
    ],
)
def test_every_token_has_a_visible_form(token: str, shown: str) -> None:
    assert viz.printable(token) == shown


@settings(max_examples=15, deadline=None)
@given(st.lists(st.text(max_size=3), min_size=2, max_size=2))
def test_any_tokens_can_be_drawn(tokens: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        viz.plot_attention(np.full((2, 2), 0.5), tokens, title="任何词元").draw_without_rendering()


def test_numbers_are_written_as_the_book_writes_them() -> None:
    assert count(10_000) == "10 000"
    assert [probability(p) for p in (1, 0.97123, 1e-4, 3.14e-9, 0)] == [
        "1", "0.971", "0.0001", "3.1e−09", "0",
    ]  # fmt: skip
    assert [plain(x, 2) for x in (123.4, 9_960, 3.96, 12e6, -0.0512, 3e-7, 0)] == [
        "120", "10 000", "4", "12 000 000", "−0.051", "0.0000003", "0",
    ]  # fmt: skip
    assert [plain(x) for x in (1 / 3, 2.0, 1000.25)] == ["0.3333333333", "2", "1 000.25"]


def test_titles_break_where_chinese_may_break() -> None:
    assert wrapped("短标题", 4, 12) == "短标题"
    assert (
        wrapped("前半句在这里结束，后半句在下一行", 2, 12) == "前半句在这里结束，\n后半句在下一行"
    )
    assert wrapped("一二三四五六七八九十", 1, 12) == "一二三四五六\n七八九十"
    assert wrapped("看看（括号）和 Transformer 词", 1, 12).split("\n")[1] == "和"


@settings(max_examples=50)
@given(st.text("你好，。（）ab1 ", min_size=1, max_size=40))
def test_breaking_loses_nothing_and_fits(text: str) -> None:
    lines = wrapped(text, 2.0, 10).split("\n")
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    for line in lines:
        stuck = not any("\u4e00" <= c <= "\u9fff" for c in line)  # no place to break at
        assert stuck or text_width(line, 10) <= 2.0 or any(c in line for c in "，。（）ab1")
    assert not any(line[:1] in "，。）" for line in lines[1:] if line)
