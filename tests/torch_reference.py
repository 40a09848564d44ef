"""Weights and gradients side by side: torch.nn's modules and lmlib's of the same meaning.

`pairs(mine, theirs)` lists which parameter of lmlib stands for which (part of a) parameter of
torch, so that a test can copy the weights over and compare the gradients afterwards.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lmlib.attention import MultiHeadAttention
from lmlib.layers import DecoderLayer, EncoderLayer, LayerNorm, RMSNorm
from lmlib.transformer import Decoder, Encoder, Transformer

TOLERANCE = {
    torch.float64: {"rtol": 1e-9, "atol": 1e-10},
    torch.float32: {"rtol": 1e-3, "atol": 1e-4},
}


class Pair(NamedTuple):
    """A parameter of lmlib, and the rows of one of torch that it stands for."""

    mine: nn.Parameter
    theirs: nn.Parameter
    rows: slice


def pairs(mine: nn.Module, theirs: nn.Module) -> list[Pair]:
    """All pairs of two modules, those of their parts included."""
    if isinstance(mine, MultiHeadAttention):
        return _attention(mine, theirs)
    parts: list[tuple[nn.Module, nn.Module]] = []
    if isinstance(mine, EncoderLayer | DecoderLayer):
        names = ["norm_1", "norm_2"]
        parts = [(mine.self_attention, theirs.self_attn)]
        if isinstance(mine, DecoderLayer):
            names.append("norm_3")
            parts.append((mine.cross_attention, theirs.multihead_attn))
        parts += [(getattr(mine, name), getattr(theirs, name.replace("_", ""))) for name in names]
        parts += [(mine.feed_forward.W_1, theirs.linear1), (mine.feed_forward.W_2, theirs.linear2)]
    elif isinstance(mine, Encoder | Decoder):
        parts = list(zip(mine.layers, theirs.layers, strict=True))
        assert (mine.norm is None) == (theirs.norm is None)
        if mine.norm is not None:
            parts.append((mine.norm, theirs.norm))
    elif isinstance(mine, Transformer):
        parts = [(mine.encoder, theirs.encoder), (mine.decoder, theirs.decoder)]
    else:
        assert isinstance(mine, nn.Linear | LayerNorm | RMSNorm)
        found = [Pair(mine.weight, theirs.weight, slice(None))]
        if getattr(mine, "bias", None) is not None:
            found.append(Pair(mine.bias, theirs.bias, slice(None)))
        return found
    return [pair for part in parts for pair in pairs(*part)]


def _attention(mine: MultiHeadAttention, theirs: nn.MultiheadAttention) -> list[Pair]:
    found = pairs(mine.W_O, theirs.out_proj)
    width = mine.d_model
    for index, linear in enumerate((mine.W_Q, mine.W_K, mine.W_V)):
        rows = slice(index * width, (index + 1) * width)
        found.append(Pair(linear.weight, theirs.in_proj_weight, rows))
        if linear.bias is not None:
            found.append(Pair(linear.bias, theirs.in_proj_bias, rows))
    return found


@torch.no_grad()
def randomize(module: nn.Module, generator: torch.Generator) -> None:
    """Give every parameter a random value, those too that begin as zeros or ones."""
    for parameter in module.parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        parameter.copy_(noise * 0.3 + (0.5 if parameter.dim() == 1 else 0.0))


@torch.no_grad()
def copy_weights(mine: nn.Module, theirs: nn.Module) -> None:
    """Give ``mine`` the weights of ``theirs``; every parameter of both must have its partner."""
    found = pairs(mine, theirs)
    assert {id(pair.mine) for pair in found} >= {id(p) for p in mine.parameters()}
    assert sum(pair.mine.numel() for pair in found) == sum(p.numel() for p in theirs.parameters())
    for pair in found:
        pair.mine.copy_(pair.theirs[pair.rows])


def assert_same_gradients(mine: nn.Module, theirs: nn.Module, **tolerance: float) -> None:
    """The gradients of all pairs are equal."""
    for pair in pairs(mine, theirs):
        assert pair.mine.grad is not None
        assert pair.theirs.grad is not None
        torch.testing.assert_close(pair.mine.grad, pair.theirs.grad[pair.rows], **tolerance)


def backward(output: Tensor, seed: int = 7) -> None:
    """Backpropagate the same random weighted sum of the output, whoever made it."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(output.shape, generator=generator, dtype=torch.float64)
    (output * weights.to(output.dtype)).sum().backward()
