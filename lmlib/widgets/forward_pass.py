"""`ForwardPass`: walk through one forward pass of an encoder–decoder, tensor by tensor."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import traitlets
from matplotlib.axes import Axes

from lmlib import viz
from lmlib.pretrained import CONFIG_FILE, load_tokenizer
from lmlib.trace import Trace
from lmlib.viz.display import new_figure
from lmlib.viz.scales import set_scales
from lmlib.widgets._forward_pass import Numbers, plan, unpack
from lmlib.widgets._forward_pass_steps import IDS, boxes_of, describe_step, tokens_of
from lmlib.widgets._models import ModelFigure, model_folder


class ForwardPass(ModelFigure):
    """The forward pass of one sentence, every tensor of it: formula, shape, values, where it goes.

    Left the network as a diagram, right the current tensor. The figure ships embeddings, the
    outputs of matrix products and the logits as float16; sums, scores, masks, softmax, heads,
    norms, activations and the probabilities down to P(Y|X) are computed in the page.

    Traits shared with the browser, both ways: `index` (the step), `head` and `variant` (which
    trace), all from 0.

    With ``model`` the reader may type a sentence of their own: the page loads the shipped model at
    the first touch and runs it there, tensor by tensor. If the traced target is the source with
    EOS, as of a network that copies, then so it is for what the reader types; otherwise the target
    is what the network writes.

    Args:
        traces: one `Trace` of a single sentence (batch 1), or several of the same sentence by
            name, e.g. ``{"训练前": before, "训练后": after}``; the steps after the logits
            exist when they were traced with ``target``.
        vocab: the tokens in order of their ids, or a tokenizer with that list as ``vocab``.
        title, alt: Chinese heading, and the sentence that stands for the figure; computed if
            not given.
        model: the name of the shipped model that is traced, e.g. "hello_world"; "" for none.
        index, head, variant: start values.
        options: further traits of the ipywidget, e.g. ``layout``.

    Raises:
        TypeError, ValueError: no traces, traces of different sentences or networks, a batch of
            several sentences, or a vocabulary of another size than the model's; ``model`` is
            another network than the traced one, or its trace has padding or no target.
        traitlets.TraitError: an index outside its range.

    Example::

        figure = ForwardPass({"训练前": before, "训练后": after}, tokenizer)
        figure.index = figure.step_index("decoder.layers.0.cross_attention.weights")
    """

    figure_name = "forward_pass"

    steps = traitlets.List().tag(sync=True)
    boxes = traitlets.List().tag(sync=True)
    tensors = traitlets.Dict().tag(sync=True)
    stride = traitlets.Int().tag(sync=True)
    data = traitlets.Bytes().tag(sync=True)
    variants = traitlets.List(traitlets.Unicode()).tag(sync=True)
    vocabulary = traitlets.Unicode().tag(sync=True)

    index = traitlets.Int(0).tag(sync=True)
    head = traitlets.Int(0).tag(sync=True)
    variant = traitlets.Int(0).tag(sync=True)

    def __init__(
        self,
        traces: Trace | Mapping[str, Trace],
        vocab: Any,
        *,
        title: str = "前向传播：一个张量一个张量地走",
        alt: str | None = None,
        model: str = "",
        index: int = 0,
        head: int = 0,
        variant: int = 0,
        **options: Any,
    ) -> None:
        named = _as_traces(traces)
        first = next(iter(named.values()))
        tokens = _as_vocabulary(vocab, first.config.vocab_size)
        if model:
            _check_model(model, first, tokens)
        shipped = plan(list(named.values()))
        steps = [
            describe_step(step, first, tokens) | {"op": shipped.ops[name]}
            for name, step in first.items()
        ]
        super().__init__(
            title=title,
            alt=alt or _default_alt(first, tokens, list(named), len(steps), bool(model)),
            model=model,
            steps=steps,
            boxes=boxes_of(first, tokens),
            tensors=shipped.tensors,
            stride=shipped.stride,
            data=shipped.data,
            variants=list(named),
            vocabulary="\n".join(token.replace("\n", "⏎") for token in tokens),
            index=index,
            head=head,
            variant=variant,
            **options,
        )

    @traitlets.validate("index", "head", "variant")
    def _check_index(self, proposal: Any) -> int:
        name, value = proposal["trait"].name, proposal["value"]
        counts = {
            "index": len(self.steps),
            "head": self._num_heads(),
            "variant": len(self.variants),
        }
        # While the figure is being made the lists may not be there yet.
        if self.steps and self.variants and not 0 <= value < counts[name]:
            raise traitlets.TraitError(
                f"{name} must be from 0 to {counts[name] - 1} (the figure has {counts[name]}), "
                f"got {value}"
            )
        return value

    def _num_heads(self) -> int:
        return max((step["shape"][1] for step in self.steps if len(step["shape"]) == 4), default=1)

    def step_index(self, name: str) -> int:
        """The place of step `name` in the walk, for `index`."""
        for place, step in enumerate(self.steps):
            if step["name"] == name:
                return place
        raise ValueError(f"name must be a step of the trace, got {name!r}")

    def tensor(self, name: str, variant: int | None = None) -> np.ndarray:
        """The values of a step as the page computes them.

        Args:
            name: of the step.
            variant: from which trace; the chosen one if not given.

        Returns:
            float64 array of the shape that the step has.

        Raises:
            ValueError: there is no step of that name.
        """
        chosen = self.variant if variant is None else variant
        numbers = Numbers(
            ops={step["name"]: step["op"] for step in self.steps},
            shapes={step["name"]: tuple(step["shape"]) for step in self.steps},
            shipped=unpack(self.tensors, self.stride, self.data, chosen),
        )
        return numbers.tensor(self.steps[self.step_index(name)]["name"])

    def _describe(self) -> dict[str, object]:
        return {
            "variants": " / ".join(self.variants),
            "steps": len(self.steps),
            "tokens": " ".join(self.steps[0]["rows"]),
            "kilobytes": round(len(self.data) / 1024),
        }

    def _draw(self) -> viz.BookFigure:
        """A few stations of the walk, and the factors of P(Y|X) for every variant."""
        stations = _stations(self.steps)
        chain = next((step["chain"] for step in self.steps if step["chain"]), None)
        figure = new_figure(4.6 if chain else 2.4, self.title)
        grid = figure.add_gridspec(2 if chain else 1, len(stations))
        for column, step in enumerate(stations):
            self._draw_station(figure.add_subplot(grid[0, column]), step)
        if chain:
            self._draw_chain(figure.add_subplot(grid[1, :]), chain)
        return figure

    def _draw_station(self, axes: Axes, step: dict[str, Any]) -> None:
        values = self.tensor(step["name"])
        shown = values.reshape(-1, *values.shape[-2:])[0][:, :32]
        square = step["view"] == "square"
        reach = float(np.abs(shown[np.isfinite(shown)]).max(initial=0.0)) or 1.0
        low, high = (0.0, 1.0) if square else (-reach, reach)
        cmap = viz.SEQUENTIAL if square else viz.DIVERGING
        axes.imshow(shown, cmap=cmap, aspect="equal" if square else "auto", vmin=low, vmax=high)
        axes.set_yticks(range(len(step["rows"])), step["rows"])
        if square:
            axes.set_xticks(range(len(step["columns"])), step["columns"])
        shape = ", ".join(map(str, step["shape"]))
        note = "（第 1 个头）" if len(step["shape"]) == 4 else ""
        axes.set_title(f"{step['title']}{note}\n({shape})", fontsize=9)

    def _draw_chain(self, axes: Axes, chain: dict[str, Any]) -> None:
        vocabulary = self.vocabulary.split("\n")
        places = np.arange(len(chain["targets"]))
        width = 0.8 / len(self.variants)
        for variant, name in enumerate(self.variants):
            factors = self.tensor(chain["factors"], variant).ravel()
            total = float(np.log10(factors).sum()) if (factors > 0).all() else -math.inf
            axes.bar(
                places + (variant - (len(self.variants) - 1) / 2) * width,
                factors,
                0.9 * width,
                color=viz.PALETTE[variant % len(viz.PALETTE)],
                label=f"{name}：log₁₀ P(Y|X) = {total:.2f}".replace("-", "−"),
            )
        every = [self.tensor(chain["factors"], v) for v in range(len(self.variants))]
        # Where all are near 1, an axis that begins there would make much of little.
        axes.set_ylim(bottom=min(0.1, 0.5 * max(float(np.min(every)), 1e-30)))
        set_scales(axes, log_y=True)
        axes.minorticks_off()
        axes.set_xticks(
            places,
            [
                f"P({vocabulary[target]} | {'…' if i else ''}{chain['given'][i]})"
                for i, target in enumerate(chain["targets"])
            ],
            fontsize=8.5,
        )
        axes.set_ylabel("概率（对数轴）")
        # Wider than the axes, it would narrow the whole figure.
        axes.legend(
            loc="lower left",
            ncols=2,
            frameon=False,
            bbox_to_anchor=(0, 1.0),
            fontsize=9,
            columnspacing=1.0,
            handlelength=1.2,
        )


# ---------------------------------------------------------------- arguments


def _as_traces(traces: Trace | Mapping[str, Trace]) -> dict[str, Trace]:
    """Name → trace; all of one sentence through networks of one shape."""
    named = {"这套权重": traces} if isinstance(traces, Trace) else dict(traces)
    if not named:
        raise ValueError("traces must hold at least one trace, got none")
    for name, trace in named.items():
        if not isinstance(trace, Trace):
            raise TypeError(f"traces must be lmlib.trace.Trace, got {type(trace).__name__}")
        if trace["source_ids"].shape[0] != 1:
            raise ValueError(
                f"traces must be of one sentence (batch 1), got batch "
                f"{trace['source_ids'].shape[0]} in {name!r}"
            )
    first_name, first = next(iter(named.items()))
    for name, trace in named.items():
        if [(step.name, step.shape) for step in trace.values()] != [
            (step.name, step.shape) for step in first.values()
        ]:
            raise ValueError(
                f"traces must have the same steps and shapes, but {name!r} and {first_name!r} "
                f"differ"
            )
        for step in trace.values():
            if step.kind in IDS and not step.tensor.equal(first[step.name].tensor):
                raise ValueError(
                    f"traces must be of the same sentence, but {step.name} of {name!r} and "
                    f"{first_name!r} differ"
                )
    return named


def _as_vocabulary(vocab: Any, size: int) -> list[str]:
    tokens = list(getattr(vocab, "vocab", vocab))
    if not all(isinstance(token, str) for token in tokens):
        raise TypeError("vocab must be the tokens in order of their ids, or a tokenizer")
    if len(tokens) != size:
        raise ValueError(f"vocab must have the model's {size} tokens, got {len(tokens)}")
    return tokens


def _check_model(name: str, trace: Trace, tokens: Sequence[str]) -> None:
    """The shipped model can trace another sentence the same way."""
    folder = model_folder(name)
    description = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    if description["class"] != "Transformer" or description["config"] != asdict(trace.config):
        raise ValueError(f"model must be the network that is traced, but {name!r} is another one")
    if list(load_tokenizer(folder).vocab) != list(tokens):
        raise ValueError(f"vocab must be that of the model {name!r}, got another one")
    pad_id, bos_id = trace.config.pad_id, trace.config.bos_id
    ids = {kind: trace[kind].tensor[0].tolist() for kind in IDS if kind in trace}
    target = ids.get("target_ids", [])
    if pad_id in ids["source_ids"] + target or ids["target_in"] != [bos_id, *target[:-1]]:
        raise ValueError(
            "traces must have a target, shifted right, and no padding, so that the reader can "
            f"type, got {ids}"
        )
    if len(target) < 2:
        raise ValueError(f"traces must have a target of at least 2 tokens, got {target}")


# ---------------------------------------------------------------- texts


def _stations(steps: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The steps of the still picture: the input, the first attention, the memory."""
    names = ("source.x", "encoder.layers.0.self_attention.weights", "memory")
    return [step for step in steps if step["name"] in names]


def _default_alt(
    trace: Trace, vocab: Sequence[str], names: Sequence[str], count: int, typing: bool
) -> str:
    sentence = " ".join(tokens_of(trace, "source_ids", vocab))
    sets = f"，可在{'、'.join(f'「{name}」' for name in names)}之间切换" if len(names) > 1 else ""
    typed = "；可以换一句话，模型在页面里重算" if typing else ""
    return (
        f"可操作的前向传播图：左边是编码器—解码器网络，右边一步一步显示「{sentence}」"
        f"经过的 {count} 个张量，从词元编号到概率，每个都有公式、形状和数值{sets}{typed}。"
    )
