"""What the steps of a trace are called: for each kind of step a title, a letter and a formula.

The formulas are the book's, in plain Unicode. Their fields are filled in by `render`:

- ``{a}``, ``{b}``: the letters of the step's inputs, in order;
- ``{k}``: the number of the sublayer in its layer, as a subscript;
- any field of the config, and what `lmlib.trace` adds to it;
- ``«…»`` stays only if the model has biases.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple


class StepText(NamedTuple):
    """How one kind of step is shown to the reader."""

    title: str
    symbol: str
    formula: str


TEXTS: dict[str, StepText] = {
    # ---- from characters to vectors
    "source_ids": StepText("源序列的编号", "s", "s = 每个字在词表里的编号"),
    "target_ids": StepText("目标序列的编号", "y", "y = 每个字在词表里的编号"),
    "target_in": StepText("解码器读到的编号", "y′", "y′ = 解码器读到的每个词元的编号"),
    "shift_right": StepText("右移一位的目标", "y′", "y′ = [<bos>, y₀, …, yₙ₋₂]"),
    "embedding": StepText("嵌入", "E", "E = {table}[{a}]"),
    "scaled": StepText("放大后的嵌入", "E′", "E′ = √d_model · {a}，d_model = {d_model}"),
    "sinusoidal": StepText(
        "位置编码",
        "PE",
        "PE[pos, 2i] = sin(pos / 10000^(2i / d_model))，PE[pos, 2i+1] = cos(同一个角)",
    ),
    "sinusoidal_halves": StepText(
        "位置编码",
        "PE",
        "PE[pos, i] = sin(pos / 10000^(2i / d_model))，PE[pos, ⌈d_model / 2⌉ + i] = cos(同一个角)",
    ),
    "learned": StepText("位置嵌入", "PE", "PE[pos] = {table}[pos]（学到的）"),
    "embedding_alone": StepText("归一化之前的输入", "E″", "E″ = {a}"),
    "embedding_sum": StepText("归一化之前的输入", "E″", "E″ = {a} + {b}"),
    "source_layernorm": StepText("编码器的输入", "X", "X = γ ⊙ ({a} − μ) / √(σ² + ε)« + β»"),
    "source_rmsnorm": StepText("编码器的输入", "X", "X = γ ⊙ {a} / √(mean({a}²) + ε)"),
    "target_layernorm": StepText("解码器的输入", "Y", "Y = γ ⊙ ({a} − μ) / √(σ² + ε)« + β»"),
    "target_rmsnorm": StepText("解码器的输入", "Y", "Y = γ ⊙ {a} / √(mean({a}²) + ε)"),
    "source_alone": StepText("编码器的输入", "X", "X = {a}"),
    "source_sum": StepText("编码器的输入", "X", "X = {a} + {b}"),
    "target_alone": StepText("解码器的输入", "Y", "Y = {a}"),
    "target_sum": StepText("解码器的输入", "Y", "Y = {a} + {b}"),
    # ---- attention
    "Q": StepText("查询", "Q", "Q = {a} W_Q« + b_Q»，拆成 {num_heads} 个头"),
    "K": StepText("键", "K", "K = {a} W_K« + b_K»，拆成 {kv_heads} 个头"),
    "V": StepText("值", "V", "V = {a} W_V« + b_V»，拆成 {kv_heads} 个头"),
    "Q_rotated": StepText("旋转后的查询", "Q̃", "Q̃[pos] = {a}[pos] 每两列转过 pos · θᵢ"),
    "K_rotated": StepText("旋转后的键", "K̃", "K̃[pos] = {a}[pos] 每两列转过 pos · θᵢ"),
    "position_bias": StepText("相对位置偏置", "B", "B[i, j] = 距离 j − i 所在的桶的偏置"),
    "scores": StepText("分数", "S", "S = {a} {b}ᵀ / √d_k，d_k = {d_head}{groups}"),
    "biased_scores": StepText("加上偏置的分数", "S′", "S′ = {a} + {b}"),
    "masked_scores": StepText(
        "遮住之后的分数", "S′", "S′[i, j] = {a}[i, j]（{visible}），其余是 −∞"
    ),
    "masked_biased_scores": StepText(
        "遮住之后的分数", "S′", "S′[i, j] = {a}[i, j] + {b}[i, j]（{visible}），其余是 −∞"
    ),
    "weights": StepText("注意力权重", "A", "A = softmax({a})，每行的和是 1"),
    "heads": StepText("每个头的输出", "head", "head = {a} {b}{groups}"),
    "concat": StepText("把头拼起来", "C", "C = [head₁, …, head_h]，h = {num_heads}"),
    "attention_output": StepText("注意力的输出", "Z", "Z = {a} W_O« + b_O»"),
    # ---- the rest of a layer
    "residual": StepText("残差连接", "R{k}", "R{k} = {a} + {b}"),
    "layernorm": StepText("层归一化", "N{k}", "N{k} = γ ⊙ ({a} − μ) / √(σ² + ε)« + β»"),
    "rmsnorm": StepText("均方根归一化", "N{k}", "N{k} = γ ⊙ {a} / √(mean({a}²) + ε)"),
    "pre_activation": StepText("前馈网络第一层", "U", "U = {a} W₁« + b₁»"),
    "relu": StepText("激活之后", "H", "H = max(0, {a})"),
    "gelu": StepText("激活之后", "H", "H = GELU({a}) = {a} ⊙ Φ({a})"),
    "gelu_tanh": StepText(
        "激活之后",
        "H",
        "H = {a} ⊙ (1 + tanh(√(2/π) · ({a} + 0.044715 {a}³))) / 2，是 GELU 的近似",
    ),
    "silu": StepText("激活之后", "H", "H = SiLU({a})，SiLU(u) = u · σ(u)"),
    "gate": StepText("门", "G", "G = {a} W_gate« + b_gate»"),
    "up": StepText("前馈网络第一层", "U", "U = {a} W_up« + b_up»"),
    "swiglu": StepText("激活之后", "H", "H = SiLU({a}) ⊙ {b}，SiLU(g) = g · σ(g)"),
    "ffn_output": StepText("前馈网络的输出", "F", "F = {a} W₂« + b₂»"),
    "swiglu_output": StepText("前馈网络的输出", "F", "F = {a} W_down« + b_down»"),
    "memory": StepText("记忆（编码器的输出）", "M", "M = {a}"),
    # ---- from vectors to probabilities
    "logits": StepText("对数几率（logits）", "L", "L = {a} {head}ᵀ{head_bias}"),
    "probabilities": StepText("下一个词元的概率", "P", "P = softmax({a})，每行的和是 1"),
    "token_probabilities": StepText("目标词元的概率", "p", "pᵢ = P[i, yᵢ] = P(yᵢ | y₀ … yᵢ₋₁, X)"),
    "token_log_probabilities": StepText(
        "目标词元的对数概率", "ln p", "ln pᵢ = L[i, yᵢ] − ln Σⱼ exp L[i, j]"
    ),
    "sequence_log_probability": StepText("整个序列的对数概率", "ln P(Y|X)", "ln P(Y|X) = Σᵢ ln pᵢ"),
    "sequence_probability": StepText(
        "整个序列的概率", "P(Y|X)", "P(Y|X) = ∏ᵢ pᵢ = ∏ᵢ P(yᵢ | y₀ … yᵢ₋₁, X)"
    ),
}

_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def subscript(number: int) -> str:
    """The number in small digits below the line."""
    return str(number).translate(_SUBSCRIPTS)


def render(kind: str, input_symbols: tuple[str, ...], fields: Mapping[str, object]) -> StepText:
    """The text of one step, its fields filled in; ``fields["bias"]`` decides about «…»."""
    title, symbol, formula = TEXTS[kind]
    formula = re.sub("«(.*?)»", r"\1" if fields["bias"] else "", formula)
    letters = dict(zip("ab", input_symbols, strict=False))
    return StepText(
        title, symbol.format_map(dict(fields)), formula.format_map({**fields, **letters})
    )
