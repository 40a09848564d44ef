"""One new token through a `GPT`, as plain calls on its weights: see `GPT.decode_step`.

For a small model the arithmetic of one token is the smaller half of its time. The rest is Python:
calls of modules, checks of arguments that generation itself has made. Here stands the same forward
pass for n = 1 without them. `GPT.forward` is the definition, and a test holds the two equal; where
somebody watches the modules (hooks, a tracer) or has changed one, generation goes back to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from lmlib._feed_forward import ACTIVATIONS, FeedForward, SwiGLU
from lmlib._kv_cache import KVCache
from lmlib._norms import LayerNorm, RMSNorm
from lmlib._tap import tapping
from lmlib.attention import MultiHeadAttention
from lmlib.layers import EncoderLayer
from lmlib.positions import (
    LearnedPositionalEmbedding,
    RelativePositionBias,
    RotaryEmbedding,
    SinusoidalPositionalEncoding,
)

# What one token turns by: cosines and sines, (1, d_head/2) each; None without rotary positions.
Turn = tuple[Tensor, Tensor]
TokenMap = Callable[[Tensor], Tensor]
CachedMap = Callable[[Tensor, KVCache, "Turn | None"], Tensor]

_KNOWN = (
    nn.Embedding, nn.Linear, nn.Dropout, nn.ModuleList, EncoderLayer, MultiHeadAttention,
    LayerNorm, RMSNorm, FeedForward, SwiGLU, LearnedPositionalEmbedding, RelativePositionBias,
    RotaryEmbedding, SinusoidalPositionalEncoding,
)  # fmt: skip


class Watch:
    """Would anybody notice if the calls of a model's modules were skipped?

    Args:
        model: a `GPT`, not of a subclass.

    Attributes:
        known: is every submodule as lmlib makes it, all of one dtype and device?
    """

    def __init__(self, model: nn.Module) -> None:
        modules = list(model.modules())
        parameters = list(model.parameters())
        self._kind = (parameters[0].dtype, parameters[0].device.type)
        # Subclasses (LoRA, quantised or parametrised layers) and a replaced `forward` are unknown.
        self.known = (
            all(type(m) in _KNOWN for m in modules[1:])
            and not any("forward" in vars(m) for m in modules)
            and all((p.dtype, p.device.type) == self._kind for p in parameters)
        )
        # The dictionaries themselves, which show hooks that come later, too.
        self._hooks: list[Mapping[int, object]] = [
            hooks for m in modules for hooks in (m._forward_hooks, m._forward_pre_hooks)
        ]
        self._hooks += [torch_module._global_forward_hooks, torch_module._global_forward_pre_hooks]

    def nobody(self) -> bool:
        """May the calls be skipped now?"""
        return (
            self.known
            and not any(self._hooks)
            and not tapping()
            and not torch.is_grad_enabled()
            and not torch.is_autocast_enabled(self._kind[1])
            and not torch.compiler.is_compiling()
        )


def layer_step(layer: EncoderLayer) -> CachedMap:
    """`EncoderLayer` for one token: x (batch, d_model) → (batch, d_model)."""
    attention = _attention_step(layer.self_attention)
    feed_forward = _feed_forward_step(layer.feed_forward)
    norm_1, norm_2 = norm_step(layer.norm_1), norm_step(layer.norm_2)

    def pre_norm(x: Tensor, cache: KVCache, turn: Turn | None) -> Tensor:
        x = x + attention(norm_1(x), cache, turn)
        return x + feed_forward(norm_2(x))

    def post_norm(x: Tensor, cache: KVCache, turn: Turn | None) -> Tensor:
        x = norm_1(x + attention(x, cache, turn))
        return norm_2(x + feed_forward(x))

    return pre_norm if layer.norm_first else post_norm


def norm_step(norm: LayerNorm | RMSNorm) -> TokenMap:
    """`LayerNorm` or `RMSNorm` by torch's kernel."""
    shape, eps, weight = (norm.d_model,), norm.eps, norm.weight
    if isinstance(norm, RMSNorm):
        return lambda x: torch.rms_norm(x, shape, weight, eps)
    bias = norm.bias
    return lambda x: torch.layer_norm(x, shape, weight, bias, eps)


def _feed_forward_step(feed_forward: FeedForward | SwiGLU) -> TokenMap:
    if isinstance(feed_forward, SwiGLU):
        gate, up = _linear(feed_forward.W_gate), _linear(feed_forward.W_up)
        down = _linear(feed_forward.W_down)
        return lambda x: down(F.silu(gate(x)) * up(x))
    activation = ACTIVATIONS[feed_forward.activation]
    first, second = _linear(feed_forward.W_1), _linear(feed_forward.W_2)
    return lambda x: second(activation(first(x)))


def _attention_step(attention: MultiHeadAttention) -> CachedMap:
    W_Q, W_K, W_V = _linear(attention.W_Q), _linear(attention.W_K), _linear(attention.W_V)
    W_O = _linear(attention.W_O)
    num_heads, num_kv_heads = attention.num_heads, attention.num_kv_heads
    d_head, grouped = attention.d_head, num_heads != num_kv_heads
    rotary, position_bias = attention.rotary, attention.position_bias

    def step(x: Tensor, cache: KVCache, turn: Turn | None) -> Tensor:
        batch = len(x)
        # For one token (batch, n, heads, d_head) and (batch, heads, n, d_head) are the same.
        Q = W_Q(x).view(batch, num_heads, 1, d_head)
        K = W_K(x).view(batch, num_kv_heads, 1, d_head)
        V = W_V(x).view(batch, num_kv_heads, 1, d_head)
        if rotary is not None and turn is not None:
            Q, K = rotary.rotate(Q, *turn), rotary.rotate(K, *turn)
        offset = cache.length
        K, V = cache.append_fitting(K, V)
        bias = None
        if position_bias is not None:
            bias = position_bias(1, offset + 1, offset).to(Q.dtype)
        heads = F.scaled_dot_product_attention(Q, K, V, attn_mask=bias, enable_gqa=grouped)
        return W_O(heads.view(batch, num_heads * d_head))

    return step


def _linear(linear: nn.Linear) -> TokenMap:
    weight, bias = linear.weight, linear.bias
    return lambda x: F.linear(x, weight, bias)
