"""Feed-forward networks, for each token by itself; use them from `lmlib.layers`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from lmlib._checks import check_choice, check_positive, check_probability, check_tensor
from lmlib._dropout import drop
from lmlib._tap import tap

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "silu": F.silu,
}
"""The activations of `FeedForward` by name; each keeps the shape of its argument."""

FEED_FORWARDS = ("ffn", "swiglu")
"""The feed-forward networks that `make_feed_forward` knows: `FeedForward` and `SwiGLU`."""


class FeedForward(nn.Module):
    """activation(x W_1 + b_1) W_2 + b_2 (Vaswani et al. 2017, eq. 2), each token by itself.

    Args:
        d_model: width of input and output.
        d_ff: width in between.
        activation: "relu"; "gelu" (Hendrycks & Gimpel 2016; exact, by erf), or "gelu_tanh", its
            approximation that GPT-2 uses; "silu" (x · sigmoid(x), also called swish).
        dropout: probability with which a hidden feature is dropped in training.
        bias: have the two projections one?
    """

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        *,
        activation: str = "relu",
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        check_positive("d_model", d_model)
        check_positive("d_ff", d_ff)
        check_choice("activation", activation, ACTIVATIONS)
        check_probability("dropout", dropout)
        self.activation = activation
        self.d_model = d_model
        self.W_1 = nn.Linear(d_model, d_ff, bias=bias)
        self.W_2 = nn.Linear(d_ff, d_model, bias=bias)
        self.dropout = nn.Dropout(dropout)
        _xavier(self.W_1, self.W_2)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d_model) → (..., d_model)."""
        check_tensor("x", x, "..., d_model", d_model=self.d_model)
        pre_activation = tap("pre_activation", self.W_1(x))  # (..., d_ff)
        hidden = tap("hidden", ACTIVATIONS[self.activation](pre_activation))
        return tap("output", self.W_2(drop(self.dropout, hidden)))

    def extra_repr(self) -> str:
        return f"activation={self.activation!r}"


class SwiGLU(nn.Module):
    """(SiLU(x W_gate) ⊙ x W_up) W_down (Shazeer 2020, eq. 6; there W, V and W_2).

    It has three matrices where `FeedForward` has two: d_ff = 8/3 · d_model, instead of
    4 · d_model, gives it as many parameters.

    Args:
        d_model: width of input and output.
        d_ff: width in between.
        dropout: probability with which a hidden feature is dropped in training.
        bias: have the three projections one?
    """

    def __init__(
        self, d_model: int, d_ff: int, *, dropout: float = 0.0, bias: bool = False
    ) -> None:
        super().__init__()
        check_positive("d_model", d_model)
        check_positive("d_ff", d_ff)
        check_probability("dropout", dropout)
        self.d_model = d_model
        self.W_gate = nn.Linear(d_model, d_ff, bias=bias)
        self.W_up = nn.Linear(d_model, d_ff, bias=bias)
        self.W_down = nn.Linear(d_ff, d_model, bias=bias)
        self.dropout = nn.Dropout(dropout)
        _xavier(self.W_gate, self.W_up, self.W_down)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d_model) → (..., d_model)."""
        check_tensor("x", x, "..., d_model", d_model=self.d_model)
        gate = tap("gate", self.W_gate(x))  # (..., d_ff)
        up = tap("up", self.W_up(x))  # (..., d_ff)
        hidden = tap("hidden", F.silu(gate) * up)
        return tap("output", self.W_down(drop(self.dropout, hidden)))


def make_feed_forward(
    feed_forward: str, d_model: int, d_ff: int, *, activation: str, dropout: float, bias: bool
) -> FeedForward | SwiGLU:
    """The feed-forward network of that name.

    Args:
        feed_forward: one of `FEED_FORWARDS`.
        d_model: width of input and output.
        d_ff: width in between.
        activation: of `FeedForward`, one of `ACTIVATIONS`; `SwiGLU` has its own.
        dropout: probability with which a hidden feature is dropped in training.
        bias: have the projections one?

    Raises:
        TypeError, ValueError: no network or activation has that name, or a number is not allowed.
    """
    check_choice("feed_forward", feed_forward, FEED_FORWARDS)
    if feed_forward == "ffn":
        return FeedForward(d_model, d_ff, activation=activation, dropout=dropout, bias=bias)
    return SwiGLU(d_model, d_ff, dropout=dropout, bias=bias)


def _xavier(*linears: nn.Linear) -> None:
    """Xavier-uniform weights (Glorot & Bengio 2010), zero biases."""
    for linear in linears:
        nn.init.xavier_uniform_(linear.weight)
        if linear.bias is not None:
            nn.init.zeros_(linear.bias)
