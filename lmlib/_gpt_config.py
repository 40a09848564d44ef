"""What shapes a `GPT`; use it as `lmlib.gpt.GPTConfig`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lmlib._checks import (
    check_choice,
    check_divisible,
    check_positive,
    check_probability,
    check_special_id,
)
from lmlib._feed_forward import ACTIVATIONS, FEED_FORWARDS
from lmlib._norms import NORMS

POSITIONS = ("learned", "rotary", "sinusoidal", "relative", "none")


@dataclass(frozen=True)
class GPTConfig:
    """Everything that fixes the shape of a `GPT`. The defaults are GPT-2 small (124 M).

    Attributes:
        vocab_size: number of tokens.
        max_seq_len: the longest sequence to accept.
        d_model: width of a token's vector.
        num_layers: how many layers are stacked.
        num_heads: number of attention heads.
        num_kv_heads: key/value heads, fewer than num_heads for grouped-query attention.
        d_head: width of a head, d_model / num_heads if not given.
        d_ff: width inside the feed-forward networks; if not given 4 · d_model, and with "swiglu"
            8/3 · d_model rounded up to a multiple of 8, which has as many parameters.
        dropout: rate at which the sum of embeddings and positions, attention weights, hidden
            features and sublayer outputs are dropped in training.
        norm_first: pre-norm with a final norm, as all since GPT-2; GPT-1 had post-norm.
        positions: "learned", "rotary", "sinusoidal", "relative" or "none".
        rotary_base: of the rotary positions.
        norm: "layernorm" or "rmsnorm".
        norm_eps: their ε.
        feed_forward: "ffn" or "swiglu".
        activation: of an "ffn": "gelu_tanh", "gelu", "relu" or "silu".
        tie_embeddings: embedding and head share one matrix.
        bias: have the projections and the LayerNorms one?
        qkv_bias: have the projections to queries, keys and values one? As ``bias`` if not given.
        bos_id, eos_id, pad_id: the special tokens, where the vocabulary has them.

    Raises:
        TypeError, ValueError: a value is not allowed, or two do not fit each other.
    """

    vocab_size: int = 50257
    max_seq_len: int = 1024
    d_model: int = 768
    num_layers: int = 12
    num_heads: int = 12
    num_kv_heads: int | None = None
    d_head: int | None = None
    d_ff: int | None = None
    dropout: float = 0.0
    norm_first: bool = True
    positions: str = "learned"
    rotary_base: float = 10000.0
    norm: str = "layernorm"
    norm_eps: float = 1e-5
    feed_forward: str = "ffn"
    activation: str = "gelu_tanh"
    tie_embeddings: bool = True
    bias: bool = True
    qkv_bias: bool | None = None
    bos_id: int | None = None
    eos_id: int | None = None
    pad_id: int | None = None

    @classmethod
    def gpt2(cls, **options: Any) -> GPTConfig:
        """The parts of GPT-2; ``options`` set sizes and whatever is to differ."""
        return cls(**options)

    @classmethod
    def llama(cls, **options: Any) -> GPTConfig:
        """The parts of Llama: rotary positions, RMSNorm, SwiGLU, no biases, a head of its own."""
        parts: dict[str, Any] = {
            "positions": "rotary",
            "norm": "rmsnorm",
            "feed_forward": "swiglu",
            "bias": False,
            "tie_embeddings": False,
        }
        return cls(**{**parts, **options})

    def __post_init__(self) -> None:
        for name in ("vocab_size", "max_seq_len", "d_model", "num_layers", "num_heads"):
            check_positive(name, getattr(self, name))
        for name in ("num_kv_heads", "d_head", "d_ff"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))
        if self.d_head is None:
            check_divisible("d_model", self.d_model, "num_heads", self.num_heads)
        if self.num_kv_heads is not None:
            check_divisible("num_heads", self.num_heads, "num_kv_heads", self.num_kv_heads)
        check_probability("dropout", self.dropout)
        check_choice("positions", self.positions, POSITIONS)
        check_choice("norm", self.norm, NORMS)
        check_choice("feed_forward", self.feed_forward, FEED_FORWARDS)
        check_choice("activation", self.activation, ACTIVATIONS)
        if not self.norm_eps >= 0:
            raise ValueError(f"norm_eps must not be negative, got {self.norm_eps}")
        if not self.rotary_base > 0:
            raise ValueError(f"rotary_base must be above 0, got {self.rotary_base}")
        if self.positions == "rotary" and self.head_width % 2:
            raise ValueError(
                f"the width of a head must be even for positions='rotary', got {self.head_width}"
            )
        for name in ("bos_id", "eos_id", "pad_id"):
            if getattr(self, name) is not None:
                check_special_id(name, getattr(self, name), self.vocab_size)

    @property
    def head_width(self) -> int:
        """The width of one head."""
        return self.d_model // self.num_heads if self.d_head is None else self.d_head

    @property
    def ff_width(self) -> int:
        """The width inside the feed-forward networks."""
        if self.d_ff is not None:
            return self.d_ff
        return 4 * self.d_model if self.feed_forward == "ffn" else -(-self.d_model // 3) * 8
