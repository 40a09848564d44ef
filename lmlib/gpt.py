"""GPT: a stack of self-attention layers that sees only the past, and the head that gives logits.

One class spans the family, from GPT-2 (Radford et al. 2019: learned positions, LayerNorm, GELU) to
today's decoder (Touvron et al. 2023: rotary positions, RMSNorm, SwiGLU, grouped key/value heads)::

    GPT(GPTConfig.gpt2(vocab_size=5000, d_model=192, num_layers=4, num_heads=6))
    GPT(GPTConfig.llama(vocab_size=5000, d_model=192, num_layers=4, num_heads=6, num_kv_heads=2))

>>> model = GPT(GPTConfig.gpt2(vocab_size=100, d_model=16, num_layers=2, num_heads=2)).eval()
>>> model(torch.tensor([[5, 6, 7]])).shape  # logits for the token that follows each
torch.Size([1, 3, 100])
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lmlib._checks import check_choice, check_divisible, check_ids, check_positive
from lmlib._checks import check_probability as check_rate
from lmlib._tap import tap
from lmlib.attention import KVCache, causal_mask
from lmlib.layers import ACTIVATIONS, FEED_FORWARDS, NORMS, EncoderLayer, make_norm
from lmlib.positions import (
    LearnedPositionalEmbedding,
    RelativePositionBias,
    RotaryEmbedding,
    SinusoidalPositionalEncoding,
)

__all__ = ["GPT", "GPTCaches", "GPTConfig"]

POSITIONS = ("learned", "rotary", "sinusoidal", "relative", "none")
INIT_STD = 0.02


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
        check_rate("dropout", self.dropout)
        check_choice("positions", self.positions, POSITIONS)
        check_choice("norm", self.norm, NORMS)
        check_choice("feed_forward", self.feed_forward, FEED_FORWARDS)
        check_choice("activation", self.activation, ACTIVATIONS)
        for name in ("bos_id", "eos_id", "pad_id"):
            index = getattr(self, name)
            if index is not None and not 0 <= index < self.vocab_size:
                raise ValueError(
                    f"{name} must be below vocab_size={self.vocab_size} and not negative, "
                    f"got {index}"
                )

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


class GPTCaches:
    """What a `GPT` remembers of the tokens it has read: see `GPT.forward`.

    Attributes:
        layers: the cache of each layer.
        mask: (batch, length) boolean, False where a token was padding; None if none was.
    """

    def __init__(self, num_layers: int) -> None:
        self.layers = [KVCache() for _ in range(num_layers)]
        self.mask: Tensor | None = None

    @property
    def length(self) -> int:
        """Number of tokens read, padding included."""
        return self.layers[0].length

    def crop(self, length: int) -> None:
        """Forget all but the first ``length`` tokens."""
        for layer in self.layers:
            layer.crop(length)
        if self.mask is not None:
            self.mask = self.mask[:, :length]

    def reorder(self, indices: Tensor) -> None:
        """Let row i continue row ``indices[i]`` ((new_batch,) integer), as beam search does."""
        for layer in self.layers:
            layer.reorder(indices)
        if self.mask is not None:
            self.mask = self.mask.index_select(0, indices)


class GPT(nn.Module):
    """Embeddings, positions, a stack of `EncoderLayer` under a causal mask, and a head.

    Weights are drawn from N(0, 0.02²), those of the maps that end a residual branch from
    N(0, 0.02² / (2 · num_layers)), biases are zero (Radford et al. 2019, §2.3).

    Attributes:
        embedding: token vectors.
        positions: the module that adds position vectors, or None where none are added.
        layers: the stack.
        norm: the final norm, or None with post-norm.
        head: from hidden states to logits, no bias.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.positions = _added_positions(config)
        self.dropout = nn.Dropout(config.dropout)
        rotary = position_bias = None
        if config.positions == "rotary":
            rotary = RotaryEmbedding(config.head_width, config.max_seq_len, config.rotary_base)
        if config.positions == "relative":
            position_bias = RelativePositionBias(config.num_heads, bidirectional=False)
        self.layers = nn.ModuleList(
            EncoderLayer(
                config.d_model,
                config.num_heads,
                config.ff_width,
                dropout=config.dropout,
                norm_first=config.norm_first,
                activation=config.activation,
                norm=config.norm,
                norm_eps=config.norm_eps,
                feed_forward=config.feed_forward,
                num_kv_heads=config.num_kv_heads,
                d_head=config.d_head,
                rotary=rotary,
                position_bias=position_bias,
                bias=config.bias,
                qkv_bias=config.qkv_bias,
            )
            for _ in range(config.num_layers)
        )
        self.norm = (
            make_norm(config.norm, config.d_model, config.norm_eps, config.bias)
            if config.norm_first
            else None
        )
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.reset_parameters()
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight

    def reset_parameters(self) -> None:
        """Draw all weights anew (see the class)."""
        residual_std = INIT_STD / math.sqrt(2 * self.config.num_layers)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif name.endswith(("W_O.weight", "W_2.weight", "W_down.weight")):
                nn.init.normal_(parameter, std=residual_std)
            elif parameter.dim() > 1:
                nn.init.normal_(parameter, std=INIT_STD)

    def forward(
        self,
        token_ids: Tensor,
        mask: Tensor | None = None,
        *,
        caches: GPTCaches | None = None,
        num_logits: int | None = None,
        need_weights: bool = False,
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Logits for the token that follows each token.

        Args:
            token_ids: (batch, n) token ids; with ``caches`` those that follow the tokens read.
            mask: (batch, n) boolean, False where a token is padding: nobody looks there, and
                positions count the others alone. Padding may stand on either side.
            caches: from `new_caches`; extended by ``token_ids``.
            num_logits: give logits for the last so many positions only.
            need_weights: return the attention weights as well, by the name of the module they
                come from, e.g. "layers.0.self_attention".

        Returns:
            logits (batch, n, vocab_size); with ``need_weights`` logits and weights.

        Raises:
            TypeError, ValueError: not integer ids, outside the vocabulary, too long, empty, or on
                another device than the model; a mask of another shape or dtype.
        """
        hidden, all_weights = self.hidden(token_ids, mask, caches=caches, need_weights=need_weights)
        if num_logits is not None:
            hidden = hidden[:, -num_logits:]
        logits = tap("logits", self.head(hidden))
        return logits if all_weights is None else (logits, all_weights)

    def hidden(
        self,
        token_ids: Tensor,
        mask: Tensor | None = None,
        *,
        caches: GPTCaches | None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        """What the head reads: (batch, n, d_model), and the weights or None. See `forward`."""
        past = 0 if caches is None else caches.length
        x, may_look = self._embed(token_ids, mask, caches, past)
        attend = causal_mask(token_ids.shape[1], past + token_ids.shape[1], device=x.device)
        if may_look is not None:
            attend = attend & may_look[:, None, None, :]
        all_weights: dict[str, Tensor] = {}
        for i, layer in enumerate(self.layers):
            cache = None if caches is None else caches.layers[i]
            x, weights = layer(x, attend, cache=cache, need_weights=need_weights)
            if weights is not None:
                all_weights[f"layers.{i}.self_attention"] = weights
        if self.norm is not None:
            x = self.norm(x)
        return x, all_weights if need_weights else None

    def new_caches(self) -> GPTCaches:
        """Empty caches for `forward`."""
        return GPTCaches(self.config.num_layers)

    def _embed(
        self, token_ids: Tensor, mask: Tensor | None, caches: GPTCaches | None, past: int
    ) -> tuple[Tensor, Tensor | None]:
        """Vectors (batch, n, d_model), and where to look (batch, past + n), or None: all."""
        check_ids("token_ids", token_ids, "batch, n", self.config.vocab_size)
        n = token_ids.shape[1]
        if not past < past + n <= self.config.max_seq_len:
            raise ValueError(
                f"token_ids must have 1 to max_seq_len={self.config.max_seq_len} tokens, "
                f"got {past + n}"
            )
        if token_ids.device != self.embedding.weight.device:
            raise ValueError(
                f"token_ids must be on {self.embedding.weight.device} like the model, "
                f"got {token_ids.device}"
            )
        may_look, positions = self._mask_and_positions(token_ids, mask, caches, past)
        x = tap("embedding_out", self.embedding(tap("token_ids", token_ids).long()))
        if self.positions is not None:
            x = self.positions(x, past, positions=positions)
        return tap("x", self.dropout(x)), may_look

    def _mask_and_positions(
        self, token_ids: Tensor, mask: Tensor | None, caches: GPTCaches | None, past: int
    ) -> tuple[Tensor | None, Tensor | None]:
        before = None if caches is None else caches.mask
        if mask is None and before is None:
            return None, None
        if mask is None:
            mask = torch.ones_like(token_ids, dtype=torch.bool)
        if mask.dtype != torch.bool:
            raise TypeError(f"mask must be boolean (True = no padding), got {mask.dtype}")
        if mask.shape != token_ids.shape:
            raise ValueError(
                f"mask must have the shape of token_ids, {tuple(token_ids.shape)}, "
                f"got {tuple(mask.shape)}"
            )
        if past:
            if before is None:
                before = mask.new_ones(mask.shape[0], past)
            mask = torch.cat([before, mask], dim=1)
        if caches is not None:
            caches.mask = mask
        positions = (mask.long().cumsum(dim=1) - 1).clamp(min=0)[:, past:]
        return mask, positions


def _added_positions(
    config: GPTConfig,
) -> SinusoidalPositionalEncoding | LearnedPositionalEmbedding | None:
    if config.positions == "sinusoidal":
        return SinusoidalPositionalEncoding(config.d_model, max_seq_len=config.max_seq_len)
    if config.positions == "learned":
        return LearnedPositionalEmbedding(config.max_seq_len, config.d_model)
    return None
