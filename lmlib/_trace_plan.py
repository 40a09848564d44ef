"""Which steps a `Transformer` takes, in order, and which step each one is computed from.

The plan follows the config. The tensors of the forward pass decide two things: a mask that hides
nothing (a source without padding) makes no step of its own, and what the decoder read is linked to
the target only if it was the target shifted right.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lmlib._trace_text import subscript
from lmlib.transformer import TransformerConfig


class Node(NamedTuple):
    """One step of the plan."""

    name: str
    kind: str
    place: str
    inputs: tuple[str, ...]
    fields: Mapping[str, Any]


def plan(config: TransformerConfig, tensors: Mapping[str, Tensor]) -> list[Node]:
    """The steps, each behind all of its inputs.

    Args:
        config: of the model.
        tensors: of its forward pass, by name.
    """
    return _Planner(config, tensors).nodes


class _Planner:
    def __init__(self, config: TransformerConfig, tensors: Mapping[str, Tensor]) -> None:
        self.config = config
        self.tensors = tensors
        self.nodes: list[Node] = []
        self.place = "编码器的输入"
        kv_heads = config.num_heads if config.num_kv_heads is None else config.num_kv_heads
        group = config.num_heads // kv_heads
        self.fields: dict[str, Any] = {
            **dataclasses.asdict(config),
            "d_head": config.d_head,
            "kv_heads": kv_heads,
            "groups": f"，每 {group} 个查询头共用一个键值头" if group > 1 else "",
            "head": "W_e" if config.tie_embeddings else "W_out",
            "head_bias": " + b_out" if config.head_bias else "",
        }
        # Where padding and BOS are one token, the first is BOS.
        first = int(config.pad_id == config.bos_id)
        padded = (tensors["target_in"][:, first:] == config.pad_id).any()
        self.causal = "j ≤ i，而且不是填充" if padded else "j ≤ i"
        source = self._input("source", self._add("source_ids", "source_ids"))
        memory = self._encoder(source)
        target = self._input("target", self._target())
        self._output(self._decoder(target, memory))

    def _add(self, name: str, kind: str, *inputs: str, **fields: object) -> str:
        """Append a step at the current place; returns its name."""
        self.nodes.append(Node(name, kind, self.place, inputs, {**self.fields, **fields}))
        return name

    # ------------------------------------------------------------------ both ends

    def _target(self) -> str:
        self.place = "解码器的输入"
        if "target_ids" not in self.tensors:
            return self._add("target_in", "target_in")
        target_ids = self._add("target_ids", "target_ids")
        target, target_in = self.tensors["target_ids"], self.tensors["target_in"]
        shifted = (target_in[:, 0] == self.config.bos_id).all() and torch.equal(
            target_in[:, 1:], target[:, :-1]
        )
        if shifted:
            return self._add("target_in", "shift_right", target_ids)
        return self._add("target_in", "target_in")

    def _input(self, stream: str, ids: str) -> str:
        config = self.config
        tables = ("W_e", "W_p")
        if stream == "target":
            tables = (
                "W_e" if config.tie_embeddings else "W_e′",
                "W_p" if config.tie_positions else "W_p′",
            )
        x = self._add(f"{stream}.embedding", "embedding", ids, table=tables[0])
        if config.scale_embeddings:
            x = self._add(f"{stream}.scaled", "scaled", x)
        addends = [x]
        if config.positions in ("sinusoidal", "sinusoidal_halves", "learned"):
            addends.append(self._add(f"{stream}.positional", config.positions, table=tables[1]))
        kind = "sum" if len(addends) == 2 else "alone"
        if not config.norm_embeddings:
            return self._add(f"{stream}.x", f"{stream}_{kind}", *addends)
        total = self._add(f"{stream}.sum", f"embedding_{kind}", *addends)
        return self._add(f"{stream}.x", f"{stream}_{config.norm}", total)

    def _output(self, hidden: str) -> None:
        self.place = "输出"
        probabilities = self._add(
            "probabilities", "probabilities", self._add("logits", "logits", hidden)
        )
        if "target_ids" in self.tensors:
            p = "token_probabilities"
            self._add(p, p, probabilities, "target_ids")
            log_p = "token_log_probabilities"
            self._add(log_p, log_p, "logits", "target_ids")
            self._add("sequence_log_probability", "sequence_log_probability", log_p)
            self._add("sequence_probability", "sequence_probability", p)

    # ------------------------------------------------------------------ the stacks

    def _encoder(self, x: str) -> str:
        for index in range(self.config.num_encoder_layers):
            x = self._layer(f"encoder.layers.{index}", f"编码器第 {index + 1} 层", x)
        self.place = "编码器的输出"
        return self._add("memory", "memory", self._final_norm("encoder", x))

    def _decoder(self, x: str, memory: str) -> str:
        for index in range(self.config.num_decoder_layers):
            x = self._layer(f"decoder.layers.{index}", f"解码器第 {index + 1} 层", x, memory)
        self.place = "解码器的输出"
        return self._final_norm("decoder", x)

    def _final_norm(self, stack: str, x: str) -> str:
        if not self.config.has_final_norm:
            return x
        return self._add(f"{stack}.norm.output", self.config.norm, x, k="")

    def _layer(self, path: str, place: str, x: str, memory: str | None = None) -> str:
        """One layer; with a memory, a decoder's."""
        sublayers = {"self_attention": "自注意力" if memory is None else "掩码自注意力"}
        if memory is not None:
            sublayers["cross_attention"] = "交叉注意力"
        sublayers["feed_forward"] = "前馈网络"
        for number, (sublayer, title) in enumerate(sublayers.items(), start=1):
            self.place = f"{place} · {title}"
            k = subscript(number)
            norm = f"{path}.norm_{number}.output"
            inner = self._add(norm, self.config.norm, x, k=k) if self.config.norm_first else x
            inner_path = f"{path}.{sublayer}"
            if sublayer == "feed_forward":
                output = self._feed_forward(inner_path, inner)
            elif sublayer == "cross_attention" and memory is not None:
                output = self._attention(inner_path, inner, memory, "不是填充")
            else:
                visible = "不是填充" if memory is None else self.causal
                output = self._attention(inner_path, inner, inner, visible)
            x = self._add(f"{path}.residual_{number}", "residual", x, output, k=k)
            if not self.config.norm_first:
                x = self._add(norm, self.config.norm, x, k=k)
        return x

    def _attention(self, path: str, x: str, other: str, visible: str) -> str:
        """Queries from x, keys and values from the other (in self-attention, x as well)."""
        positions = self.config.positions if x == other else "none"
        q = self._add(f"{path}.Q", "Q", x)
        k = self._add(f"{path}.K", "K", other)
        v = self._add(f"{path}.V", "V", other)
        if positions == "rotary":
            k = self._add(f"{path}.K_rotated", "K_rotated", k)
            q = self._add(f"{path}.Q_rotated", "Q_rotated", q)
        addends = []
        if positions == "relative":
            addends.append(self._add(f"{path}.position_bias", "position_bias"))
        addends.insert(0, self._add(f"{path}.scores", "scores", q, k))
        scores = self._masked(f"{path}.masked_scores", addends, visible)
        weights = self._add(f"{path}.weights", "weights", scores)
        heads = self._add(f"{path}.heads", "heads", weights, v)
        concat = self._add(f"{path}.concat", "concat", heads)
        return self._add(f"{path}.output", "attention_output", concat)

    def _masked(self, name: str, addends: list[str], visible: str) -> str:
        biased = len(addends) > 1
        if (self.tensors[name] == -math.inf).any():
            kind = "masked_biased_scores" if biased else "masked_scores"
            return self._add(name, kind, *addends, visible=visible)
        return self._add(name, "biased_scores", *addends) if biased else addends[0]

    def _feed_forward(self, path: str, x: str) -> str:
        if self.config.feed_forward == "swiglu":
            gate = self._add(f"{path}.gate", "gate", x)
            hidden = self._add(f"{path}.hidden", "swiglu", gate, self._add(f"{path}.up", "up", x))
            return self._add(f"{path}.output", "swiglu_output", hidden)
        u = self._add(f"{path}.pre_activation", "pre_activation", x)
        hidden = self._add(f"{path}.hidden", self.config.activation, u)
        return self._add(f"{path}.output", "ffn_output", hidden)
