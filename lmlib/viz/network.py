"""The encoder–decoder, drawn from its configuration."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from matplotlib.artist import Artist
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path
from matplotlib.text import Text

from lmlib.viz.display import BookFigure, new_figure
from lmlib.viz.labels import count
from lmlib.viz.style import CARD, INK, MUTED, PALETTE, SMALL

if TYPE_CHECKING:
    from lmlib.transformer import TransformerConfig

Point = tuple[float, float]
Side = Literal["left", "center", "right"]

# Lengths in inches; the axes of the drawing measure inches too.
_HALF_BOX = 0.71
_GAP = 0.18  # the arrow between two parts
_ENTRY = 0.22  # the line from one sublayer to the branch of the next
_PLUS = 0.08  # radius of ⊕
_LINE_HEIGHT = 0.175  # of a box's text
_BOX_PADDING = 0.09
_BYPASS = 0.2  # from a box to the residual path beside it
_FRAME = 0.12  # from a layer's parts to its frame
_ENCODER_X, _DECODER_X = 1.14, 3.66

_NORM_NAMES = {"layernorm": "层归一化", "rmsnorm": "RMS 归一化"}
_FEED_FORWARD_NAMES = {"ffn": "前馈网络", "swiglu": "前馈网络（SwiGLU）"}
_ADDED_POSITIONS = {
    "sinusoidal": "位置编码",
    "sinusoidal_halves": "位置编码",
    "learned": "位置嵌入",
}

# (fill, edge) by kind of part; the text in each box says the same.
_COLORS = {
    "embedding": ("#e6f2ee", PALETTE[2]),
    "attention": ("#e3eef8", PALETTE[0]),
    "feed_forward": ("#fbeadf", PALETTE[1]),
    "norm": ("#f4f1e4", PALETTE[4]),
    "head": ("#f2e9f5", PALETTE[3]),
}


def plot_network(config: "TransformerConfig", *, title: str | None = None) -> BookFigure:
    """Draw encoder and decoder with their sublayers, residual paths, norms and shapes.

    n is the length of the source, m that of the target. Data flows from the bottom to the top.

    Args:
        config: sizes, and where and which the norms are.
        title: the finding; left out, it says where the norms stand.
    """
    if title is None:
        title = (
            "前归一化：先归一化，再进子层，最后加上残差"
            if config.norm_first
            else "后归一化：子层的输出先加残差，再归一化"
        )
    encoder = _Column(_ENCODER_X, side=-1, config=config, length="n")
    encoder.embed("源词元")
    encoder.layer("编码器层", ["多头自注意力"], config.num_encoder_layers)
    encoder.final_norm()

    decoder = _Column(_DECODER_X, side=1, config=config, length="m")
    decoder.embed("目标词元（右移一位）")
    attentions = ["掩码多头自注意力", "多头交叉注意力"]
    decoder.layer("解码器层", attentions, config.num_decoder_layers)
    decoder.final_norm()
    decoder.box("线性层（词表投影）", "head", carries=decoder.shape)
    logits = f"(m, {count(config.vocab_size)})"
    decoder.box("softmax", "head", carries=logits)
    decoder.end("下一个词元的概率", logits)

    figure = new_figure(decoder.y, title)
    figure.set_layout_engine("none")  # the axes measure inches
    width, height = figure.get_size_inches()
    axes = figure.add_axes((0, 0, 1, decoder.y / height))
    axes.set(xlim=(0, width), ylim=(0, decoder.y))
    axes.axis("off")
    legend = "n：源序列的长度\nm：目标序列的长度\n⊕：逐元素相加\n灰线：残差连接"
    artists = [*encoder.artists, *decoder.artists, *_memory(encoder, decoder)]
    artists.append(_text(0.15, decoder.y - 0.45, legend, MUTED))
    for artist in artists:
        axes.add_artist(artist)
    return figure


@dataclass
class _Column:
    """One of the two stacks, built upwards part by part.

    Attributes:
        x: where its middle line stands.
        side: −1 when the residual paths run on its left, 1 on its right.
        length: the name of its sequence length.
        y: how high it stands by now.
        artists: what has been drawn.
        attention_heights: the middle of each attention box.
    """

    x: float
    side: int
    config: "TransformerConfig"
    length: str
    y: float = 0.08
    artists: list[Artist] = field(default_factory=list)
    attention_heights: list[float] = field(default_factory=list)

    @property
    def shape(self) -> str:
        return f"({self.length}, {count(self.config.d_model)})"

    def embed(self, tokens: str) -> None:
        """Token ids, their embedding, and the positions where they are added to it."""
        self.artists.append(_text(self.x, self.y + 0.08, tokens, ha="center"))
        self.y += 0.2
        self.box("嵌入", "embedding", carries=f"({self.length},)")
        if self.config.positions not in _ADDED_POSITIONS:
            return  # rotary and relative positions act inside attention
        self._plus(carries=self.shape)
        middle = self.y - _PLUS
        outer = self.x + self.side * 0.42
        toward: Side = "left" if self.side > 0 else "right"
        name = _ADDED_POSITIONS[self.config.positions]
        self.artists += [
            _text(outer + self.side * 0.04, middle, name, ha=toward),
            _arrow([(outer, middle), (self.x + self.side * _PLUS, middle)]),
        ]

    def layer(self, name: str, attentions: list[str], repeats: int) -> None:
        """One layer in its frame, and how often it is repeated."""
        config = self.config
        self._line(_FRAME)
        bottom = self.y
        heads = f"{config.num_heads} 头 × {config.d_model // config.num_heads} 维"
        for attention in attentions:
            self._sublayer(f"{attention}\n{heads}", "attention")
        sizes = f"{config.d_model} → {config.d_ff} → {config.d_model}"
        self._sublayer(f"{_FEED_FORWARD_NAMES[config.feed_forward]}\n{sizes}", "feed_forward")
        self._line(_FRAME)
        reach = (_HALF_BOX + _BYPASS + _FRAME, _HALF_BOX + _FRAME)
        left, right = reach if self.side < 0 else reach[::-1]
        self.artists += [
            FancyBboxPatch(
                (self.x - left, bottom),
                left + right,
                self.y - bottom,
                boxstyle="round,pad=0,rounding_size=0.12",
                facecolor="none",
                edgecolor=MUTED,
                linewidth=0.9,
                linestyle=(0, (4, 2.5)),
                zorder=0,
            ),
            _text(self.x - left + 0.03, self.y + 0.1, f"{name} × {repeats}"),
        ]

    def box(self, text: str, kind: str, carries: str = "") -> None:
        """An arrow, with the shape of what it carries, into a box."""
        height = (text.count("\n") + 1) * _LINE_HEIGHT + _BOX_PADDING
        self._step(carries)
        fill, edge = _COLORS[kind]
        self.artists += [
            FancyBboxPatch(
                (self.x - _HALF_BOX, self.y),
                2 * _HALF_BOX,
                height,
                boxstyle="round,pad=0,rounding_size=0.06",
                facecolor=fill,
                edgecolor=edge,
                zorder=2,
            ),
            _text(self.x, self.y + height / 2, text, ha="center"),
        ]
        self.y += height

    def final_norm(self) -> None:
        """The norm behind the last layer, where there is one."""
        if self.config.has_final_norm:
            self._norm()

    def end(self, text: str, carries: str) -> None:
        """The arrow out of the top, and what comes out."""
        self._step(carries)
        self.artists.append(_text(self.x, self.y + 0.1, text, ha="center"))
        self.y += 0.22

    def _sublayer(self, text: str, kind: str) -> None:
        """A sublayer with its residual path, and the norm on the side the config says."""
        self.artists.append(_text(self.x + 0.06, self.y + _ENTRY / 2, self.shape, MUTED))
        self._line(_ENTRY)
        branch = self.y
        if self.config.norm_first:
            self._norm()
        below = self.y + _GAP
        self.box(text, kind)
        if kind == "attention":
            self.attention_heights.append((below + self.y) / 2)
        self._plus()
        outside, middle = self.x + self.side * (_HALF_BOX + _BYPASS), self.y - _PLUS
        inside = self.x + self.side * _PLUS
        path = [(self.x, branch), (outside, branch), (outside, middle), (inside, middle)]
        self.artists.append(_arrow(path, MUTED))
        if not self.config.norm_first:
            self._norm()

    def _norm(self) -> None:
        self.box(_NORM_NAMES[self.config.norm], "norm")

    def _plus(self, carries: str = "") -> None:
        self._step(carries)
        x, y, reach = self.x, self.y + _PLUS, 0.55 * _PLUS
        self.artists += [
            Circle((x, y), _PLUS, facecolor=CARD, edgecolor=INK, zorder=3),
            Line2D([x - reach, x + reach], [y, y], color=INK, linewidth=1.0, zorder=4),
            Line2D([x, x], [y - reach, y + reach], color=INK, linewidth=1.0, zorder=4),
        ]
        self.y += 2 * _PLUS

    def _step(self, carries: str = "") -> None:
        self.artists.append(_arrow([(self.x, self.y), (self.x, self.y + _GAP)]))
        if carries:
            self.artists.append(_text(self.x + 0.06, self.y + _GAP / 2, carries, MUTED))
        self.y += _GAP

    def _line(self, length: float) -> None:
        ends = [self.y, self.y + length]
        self.artists.append(Line2D([self.x, self.x], ends, color=INK, linewidth=1.0, zorder=1))
        self.y += length


def _memory(encoder: _Column, decoder: _Column) -> list[Artist]:
    """The encoder's output, carried into the decoder's cross-attention as keys and values."""
    cross = decoder.attention_heights[1]
    box = decoder.x - _HALF_BOX
    top, between = encoder.y + 0.32, box - _FRAME - 0.2
    path = [(encoder.x, encoder.y), (encoder.x, top), (between, top), (between, cross)]
    bottom = cross - _LINE_HEIGHT - _BOX_PADDING / 2 - _GAP / 2
    return [
        _arrow([*path, (box, cross)], _COLORS["attention"][1]),
        _text((encoder.x + between) / 2, top + 0.1, f"记忆 {encoder.shape}", ha="center"),
        _text(between - 0.06, cross + 0.2, "K、V", ha="right"),
        _text(decoder.x - 0.07, bottom, "Q", ha="right"),
    ]


def _text(x: float, y: float, text: str, color: str = INK, ha: Side = "left") -> Text:
    one_line = "\n" not in text
    return Text(
        x,
        y,
        text,
        color=color,
        horizontalalignment=ha,
        verticalalignment="center_baseline" if one_line else "center",
        fontsize=SMALL,
        linespacing=1.25,
        zorder=5,
    )


def _arrow(points: list[Point], color: str = INK) -> FancyArrowPatch:
    """A line through the points, with rounded corners and a head at its end."""
    vertices, codes = [points[0]], [Path.MOVETO]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        vertices += [_towards(corner, before), corner, _towards(corner, after)]
        codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
    vertices.append(points[-1])
    codes.append(Path.LINETO)
    return FancyArrowPatch(
        path=Path(vertices, codes),
        arrowstyle="-|>,head_length=3.2,head_width=1.8",
        color=color,
        linewidth=1.0,
        zorder=1,
    )


def _towards(corner: Point, end: Point) -> Point:
    """Return where the rounding of a corner begins, on the way to a neighbouring point."""
    dx, dy = end[0] - corner[0], end[1] - corner[1]
    distance = (dx * dx + dy * dy) ** 0.5
    radius = min(0.08, distance / 2)
    return corner[0] + dx / distance * radius, corner[1] + dy / distance * radius
