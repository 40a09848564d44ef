"""Normalisation of each token by itself; use it from `lmlib.layers`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmlib._checks import check_choice, check_positive, check_tensor
from lmlib._tap import tap, tapping

NORMS = ("layernorm", "rmsnorm")
"""The normalisations that `make_norm` knows: `LayerNorm` and `RMSNorm`."""


class LayerNorm(nn.Module):
    """y = (x − μ) / √(σ² + ε) · weight + bias (Ba et al. 2016, eq. 4), each token by itself.

    μ and σ² are taken over the d_model features of one token. σ² is the *biased* variance (divided
    by d_model, not d_model − 1), and ε stands *inside* the root. float16 and bfloat16 are
    normalised in float32. Where nobody traces and x has the dtype of the weight, torch's fused
    kernel takes the place of the formula; the two agree to rounding.

    Args:
        d_model: number of features.
        eps: keeps the root away from zero.
        bias: has it a bias?

    Attributes:
        weight: (d_model,), ones at first.
        bias: (d_model,), zeros at first, or None.

    >>> LayerNorm(4)(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))[0].tolist()  # doctest: +ELLIPSIS
    [-1.3416..., -0.4472..., 0.4472..., 1.3416...]
    """

    def __init__(self, d_model: int, eps: float = 1e-5, bias: bool = True) -> None:
        super().__init__()
        check_positive("d_model", d_model)
        self.d_model = d_model
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., d_model) → the same shape and dtype."""
        check_tensor("x", x, "..., d_model", d_model=self.d_model)
        weight, bias = self.weight, self.bias
        if _may_fuse(x, weight):
            return torch.layer_norm(x, (self.d_model,), weight, bias, self.eps).to(x.dtype)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        centred = wide - wide.mean(dim=-1, keepdim=True)
        variance = centred.square().mean(dim=-1, keepdim=True)
        y = centred * torch.rsqrt(variance + self.eps) * self.weight
        if self.bias is not None:
            y = y + self.bias
        return tap("output", y.to(x.dtype))

    def extra_repr(self) -> str:
        return f"d_model={self.d_model}, eps={self.eps}, bias={self.bias is not None}"


class RMSNorm(nn.Module):
    """y = x / √(mean(x²) + ε) · weight (Zhang & Sennrich 2019, eq. 4): no mean, no bias.

    The paper has no ε. Half precision and torch's kernel are as in `LayerNorm`.

    Args:
        d_model: number of features.
        eps: keeps the root away from zero.

    Attributes:
        weight: (d_model,), ones at first.

    >>> RMSNorm(2, eps=0.0)(torch.tensor([[1.0, 7.0]]))
    tensor([[0.2000, 1.4000]], grad_fn=<MulBackward0>)
    """

    def __init__(self, d_model: int, eps: float = 1e-6) -> None:
        super().__init__()
        check_positive("d_model", d_model)
        self.d_model = d_model
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))

    def forward(self, x: Tensor) -> Tensor:
        """(..., d_model) → the same shape and dtype."""
        check_tensor("x", x, "..., d_model", d_model=self.d_model)
        if _may_fuse(x, self.weight):
            return F.rms_norm(x, (self.d_model,), self.weight, self.eps).to(x.dtype)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        y = wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + self.eps) * self.weight
        return tap("output", y.to(x.dtype))

    def extra_repr(self) -> str:
        return f"d_model={self.d_model}, eps={self.eps}"


def _may_fuse(x: Tensor, weight: Tensor) -> bool:
    """May torch's kernel take the place of the formula? It wants one dtype."""
    return x.dtype == weight.dtype and not tapping()


def make_norm(norm: str, d_model: int, eps: float, bias: bool) -> LayerNorm | RMSNorm:
    """The normalisation of that name.

    Args:
        norm: one of `NORMS`.
        d_model: number of features.
        eps: keeps the root away from zero.
        bias: has a `LayerNorm` one? `RMSNorm` never has.

    Raises:
        TypeError, ValueError: no normalisation has that name, or d_model is not an int ≥ 1.
    """
    check_choice("norm", norm, NORMS)
    return LayerNorm(d_model, eps, bias) if norm == "layernorm" else RMSNorm(d_model, eps)
