"""What the page says of each step of a `ForwardPass`, and the boxes of its diagram."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lmlib.trace import Trace, TraceStep

#: What each axis of a tensor counts, by the tensor's kind; `_axes` knows the rest by its rank.
_AXES = {
    "pre_activation": "隐藏维度",
    "relu": "隐藏维度",
    "gelu": "隐藏维度",
    "gate": "隐藏维度",
    "up": "隐藏维度",
    "swiglu": "隐藏维度",
    "logits": "词表",
    "probabilities": "词表",
}
IDS = ("source_ids", "target_ids", "target_in", "shift_right")
_SQUARES = (
    "position_bias",
    "scores",
    "biased_scores",
    "masked_scores",
    "masked_biased_scores",
    "weights",
)
_CHAIN = (
    "token_probabilities",
    "token_log_probabilities",
    "sequence_log_probability",
    "sequence_probability",
)
_LONGEST_LABEL = 8  # tokens that fit into a box of the diagram


def tokens_of(trace: Trace, name: str, vocab: Sequence[str]) -> list[str]:
    return [vocab[token_id] for token_id in trace[name].tensor[0].tolist()]


def _side(name: str) -> str:
    """Whose tokens the rows of a step are: the source's or the target's."""
    from_source = name.startswith(("source", "encoder", "memory"))
    from_memory = ".cross_attention." in name and name.endswith((".K", ".V"))
    return "source" if from_source or from_memory else "target"


def _axes(step: TraceStep) -> list[str]:
    last = _AXES.get(step.kind, "维度")
    if step.kind in _SQUARES:
        return ["批", "头", "查询位置", "键位置"]
    if step.kind in IDS or step.kind in _CHAIN:
        return ["批", "位置"][: step.tensor.dim()]
    return {2: ["位置", last], 3: ["批", "位置", last], 4: ["批", "头", "位置", "每头维度"]}[
        step.tensor.dim()
    ]


def _view(step: TraceStep) -> str:
    if step.kind in IDS:
        return "tokens"
    if step.kind in _CHAIN:
        return "chain"
    if step.kind in _SQUARES:
        return "square"
    return "vocabulary" if step.kind in ("logits", "probabilities") else "matrix"


def describe_step(step: TraceStep, trace: Trace, vocab: Sequence[str]) -> dict[str, Any]:
    """All that the page needs to show a step, but its numbers."""
    sides = {
        "source": tokens_of(trace, "source_ids", vocab),
        "target": tokens_of(trace, "target_in", vocab),
    }
    view = _view(step)
    rows = tokens_of(trace, step.name, vocab) if view == "tokens" else sides[_side(step.name)]
    columns = sides["source"] if ".cross_attention." in step.name else sides[_side(step.name)]
    has_target = "target_ids" in trace
    targets = trace["target_ids"].tensor[0].tolist() if has_target else None
    return {
        "name": step.name,
        "title": step.title,
        "place": step.place,
        "symbol": step.symbol,
        "formula": step.formula,
        "shape": list(step.shape),
        "axes": _axes(step),
        "rows": rows,
        "columns": columns if view == "square" else None,
        "inputs": list(step.inputs),
        "feeds": list(step.feeds),
        "box": _box(step.name, trace),
        "view": view,
        "targets": targets if view == "vocabulary" else None,
        "chain": {
            "factors": "token_probabilities",
            "logs": "token_log_probabilities",
            "targets": targets,
            "given": sides["target"],
            "source": sides["source"],
            "vocab": trace.config.vocab_size,
        }
        if view == "chain"
        else None,
    }


# ---------------------------------------------------------------- the diagram


def _box(name: str, trace: Trace) -> str:
    """The box of the diagram that a step belongs to."""
    if name in ("source_ids", "target_ids", "target_in"):
        return "source.tokens" if name == "source_ids" else "target.tokens"
    if name in _CHAIN:
        return "chain"
    stem, _, leaf = name.rpartition(".")
    if stem in ("source", "target"):
        added = leaf == "positional" or (leaf == "x" and f"{stem}.positional" in trace)
        return f"{stem}.positional" if added else f"{stem}.embedding"
    if leaf.startswith("residual_") and not trace.config.norm_first:
        return f"{stem}.norm_{leaf.removeprefix('residual_')}"
    # A sum and the names above the layers (memory, logits, …) have a box to themselves.
    return name if leaf.startswith("residual_") or not stem else stem


def boxes_of(trace: Trace, vocab: Sequence[str]) -> list[dict[str, Any]]:
    """The boxes in walking order: ``{"id", "label", "kind", "column", "layer"}``."""
    found: dict[str, dict[str, Any]] = {}
    for name in trace:
        box = _box(name, trace)
        if box in found:
            continue
        kind, label = _box_text(box, trace, vocab)
        in_encoder = box.startswith(("source", "encoder")) or box == "memory"
        found[box] = {
            "id": box,
            "label": label,
            "kind": kind,
            "column": 0 if in_encoder else 1,
            "layer": _layer(box, trace),
        }
    return list(found.values())


def _layer(box: str, trace: Trace) -> str:
    stack, _, rest = box.partition(".layers.")
    if not rest:
        return ""
    name = {"encoder": "编码器", "decoder": "解码器"}[stack]
    config = trace.config
    count = {"encoder": config.num_encoder_layers, "decoder": config.num_decoder_layers}[stack]
    return f"{name}层" if count == 1 else f"{name}第 {int(rest.split('.')[0]) + 1} 层"


def _box_text(box: str, trace: Trace, vocab: Sequence[str]) -> tuple[str, str]:
    """(kind, label) of a box."""
    leaf = box.rpartition(".")[2]
    if leaf == "tokens":
        stream = box.partition(".")[0]
        tokens = tokens_of(trace, "source_ids" if stream == "source" else "target_in", vocab)
        label = "源序列" if stream == "source" else "右移的目标"
        return "tokens", " ".join(tokens) if len(tokens) <= _LONGEST_LABEL else label
    if leaf.startswith(("norm", "residual")):
        norm = "层归一化" if trace.config.norm == "layernorm" else "均方根归一化"
        if leaf.startswith("residual"):
            return "norm", "残差连接"
        return "norm", norm if trace.config.norm_first or leaf == "norm" else f"残差 ＋ {norm}"
    own = "掩码自注意力" if box.startswith("decoder") else "多头自注意力"
    return {
        "embedding": ("embedding", "嵌入"),
        "positional": ("position", "＋ 位置编码"),
        "self_attention": ("attention", own),
        "cross_attention": ("cross", "交叉注意力"),
        "feed_forward": ("ffn", "前馈网络"),
        "memory": ("memory", "记忆 M"),
        "logits": ("output", "线性层：logits"),
        "probabilities": ("output", "softmax：概率"),
        "chain": ("output", "链式法则：P(Y|X)"),
    }[leaf]
