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

import copy
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmlib._checks import check_ids, check_positive, check_token_mask
from lmlib._decode_step import Watch, layer_step, norm_step
from lmlib._dropout import drop
from lmlib._gpt_config import GPTConfig
from lmlib._norms import make_norm
from lmlib._tap import tap
from lmlib.attention import KVCache, causal_mask
from lmlib.layers import EncoderLayer
from lmlib.positions import (
    LearnedPositionalEmbedding,
    RelativePositionBias,
    RotaryEmbedding,
    SinusoidalPositionalEncoding,
)

__all__ = ["GPT", "GPTCaches", "GPTConfig"]

INIT_STD = 0.02


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

    @property
    def batch(self) -> int | None:
        """Number of rows, None while empty."""
        key = self.layers[0].key
        return None if key is None else key.shape[0]

    def __copy__(self) -> GPTCaches:
        """Caches that go on by themselves from here."""
        twin = GPTCaches(0)
        twin.layers, twin.mask = [copy.copy(layer) for layer in self.layers], self.mask
        return twin

    def crop(self, length: int) -> None:
        """Forget all but the first ``length`` tokens."""
        for layer in self.layers:
            layer.crop(length)
        if self.mask is not None:
            self.mask = self.mask[:, :length] if length else None

    def reorder(self, indices: Tensor) -> None:
        """Let row i continue row ``indices[i]`` ((new_batch,) integer), as beam search does."""
        for layer in self.layers:
            layer.reorder(indices)
        if self.mask is not None:
            self.mask = self.mask.index_select(0, indices)


class GPT(nn.Module):
    """Embeddings, positions, a stack of `EncoderLayer` under a causal mask, and a head.

    Weights are drawn from N(0, 0.02²) (Radford et al. 2018, §4.1), those of the maps that end one
    of the 2 · num_layers residual branches from N(0, 0.02² / (2 · num_layers)) (Radford et al.
    2019, §2.3); biases are zero, the weights of the norms one.

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
            else:
                nn.init.ones_(parameter)  # of a norm

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
        if num_logits is not None:
            check_positive("num_logits", num_logits)
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
        n = self._check(token_ids, mask, caches, past)
        may_look, positions = _may_look_and_positions(token_ids, mask, caches, past)
        x = tap("embedding_out", self.embedding(tap("token_ids", token_ids).long()))
        if self.positions is not None:
            own = None if positions is None else positions[:, past:]
            x = self.positions(x, past, positions=own)
        x = tap("x", drop(self.dropout, x))
        attend = None
        if may_look is not None:  # made once, for all layers
            attend = causal_mask(n, past + n, device=x.device) & may_look[:, None, None, :]
        all_weights: dict[str, Tensor] = {}
        for i, layer in enumerate(self.layers):
            x, weights = layer(
                x,
                attend,
                causal=attend is None,
                positions=positions,
                cache=None if caches is None else caches.layers[i],
                need_weights=need_weights,
            )
            if weights is not None:
                all_weights[f"layers.{i}.self_attention"] = weights
        if self.norm is not None:
            x = self.norm(x)
        return x, all_weights if need_weights else None

    def new_caches(self) -> GPTCaches:
        """Empty caches for `forward`."""
        return GPTCaches(self.config.num_layers)

    def decode_step(self, caches: GPTCaches) -> Callable[[Tensor], Tensor | None]:
        """One token more for each row, as `forward` with these caches, in half the time.

        It calls torch on the weights and no submodule, and leaves out the checks of what
        generation knows. It reads the submodules once: those put in their place later are not
        seen.

        Args:
            caches: not empty.

        Returns:
            a function from token ids (batch, 1), known to lie in the vocabulary, to logits
            (batch, 1, vocab_size). It extends the caches; where it cannot stand in for `forward`
            (padding, gradients, hooks, a tracer, submodules that lmlib did not make), it leaves
            them alone and returns None.

        Raises:
            ValueError: of that function, when the caches already hold max_seq_len tokens.
        """
        watch = Watch(self)
        if type(self) is not GPT or not watch.known:
            return lambda token_ids: None
        stack = [layer for layer in self.layers if isinstance(layer, EncoderLayer)]
        layers = [layer_step(layer) for layer in stack]
        norm = (lambda x: x) if self.norm is None else norm_step(self.norm)
        rotary = stack[0].self_attention.rotary

        def step(token_ids: Tensor) -> Tensor | None:
            past = caches.length
            if caches.mask is not None or self.training or not watch.nobody():
                return None
            self._check_length(past, past + 1)
            x = self.embedding(token_ids)
            if self.positions is not None:
                x = self.positions(x, past)
            x = x[:, 0]  # (batch, d_model)
            turn = None if rotary is None else rotary.cos_sin(x, past, 1)
            for layer, cache in zip(layers, caches.layers, strict=True):
                x = layer(x, cache, turn)
            return F.linear(norm(x), self.head.weight)[:, None]

        return step

    def _check_length(self, past: int, length: int) -> None:
        if not past < length <= self.config.max_seq_len:
            raise ValueError(
                f"token_ids must have 1 to max_seq_len={self.config.max_seq_len} tokens, "
                f"got {length}"
            )

    def _check(
        self, token_ids: Tensor, mask: Tensor | None, caches: GPTCaches | None, past: int
    ) -> int:
        """Bad input is met before any cache is touched. Returns n."""
        check_ids("token_ids", token_ids, "batch, n", self.config.vocab_size)
        batch, n = token_ids.shape
        self._check_length(past, past + n)
        if token_ids.device != self.embedding.weight.device:
            raise ValueError(
                f"token_ids must be on {self.embedding.weight.device} like the model, "
                f"got {token_ids.device}"
            )
        if mask is not None:
            check_token_mask("mask", mask, token_ids)
        if caches is not None:
            if len(caches.layers) != len(self.layers):
                raise ValueError(
                    f"caches must be for {len(self.layers)} layers, got {len(caches.layers)}"
                )
            if past and caches.batch != batch:
                raise ValueError(
                    f"token_ids must have as many rows as the caches, {caches.batch}, got {batch}"
                )
        return n


def _may_look_and_positions(
    token_ids: Tensor, mask: Tensor | None, caches: GPTCaches | None, past: int
) -> tuple[Tensor | None, Tensor | None]:
    """Which tokens are none of padding, and where each stands: (batch, past + n), or None twice."""
    before = None if caches is None else caches.mask
    if mask is None and before is None:
        return None, None
    if mask is None:
        mask = torch.ones_like(token_ids, dtype=torch.bool)
    if past:
        if before is None:
            before = mask.new_ones(mask.shape[0], past)
        mask = torch.cat([before, mask], dim=1)
    if caches is not None:
        caches.mask = mask
    return mask, (mask.cumsum(dim=1) - 1).clamp(min=0)


def _added_positions(
    config: GPTConfig,
) -> SinusoidalPositionalEncoding | LearnedPositionalEmbedding | None:
    if config.positions == "sinusoidal":
        return SinusoidalPositionalEncoding(config.d_model, max_seq_len=config.max_seq_len)
    if config.positions == "learned":
        return LearnedPositionalEmbedding(config.max_seq_len, config.d_model)
    return None
