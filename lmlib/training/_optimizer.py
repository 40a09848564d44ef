"""AdamW, plainly, and which parameters decay; use them from `lmlib.training`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lmlib._checks import check_probability as check_rate


class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, Algorithm 2).

    The plain formula, for reading: equal to ``torch.optim.AdamW``, which `train` uses, for that
    does it in one fused pass. Like it, and unlike the paper, it multiplies λ by the whole learning
    rate. For a parameter θ with gradient g, at step t = 1, 2, …::

        m ← β₁ m + (1 − β₁) g            the mean gradient of late
        v ← β₂ v + (1 − β₂) g²           its mean square
        θ ← θ − η λ θ − η m̂ / (√v̂ + ε)    with m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ)

    Args:
        parameters: tensors with ``requires_grad``, or groups as `parameter_groups` makes them.
        learning_rate: η. The attribute may be set anew before each step.
        betas: β₁, β₂.
        eps: ε.
        weight_decay: λ, for groups that have none of their own.

    Raises:
        ValueError: a β is not in [0, 1), or there are no parameters.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor] | Iterable[dict[str, Any]],
        learning_rate: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        for beta in betas:
            check_rate("betas", beta)
        self.learning_rate, self.betas, self.eps = learning_rate, betas, eps
        self._decays: list[tuple[Tensor, float]] = []
        for part in parameters:
            if isinstance(part, Tensor):
                self._decays.append((part, weight_decay))
            else:
                decay = part.get("weight_decay", weight_decay)
                self._decays += [(parameter, decay) for parameter in part["params"]]
        if not self._decays:
            raise ValueError("parameters must hold at least one tensor, got none")
        # For each parameter that has had a gradient: its steps, m and v.
        self._state: dict[Tensor, tuple[int, Tensor, Tensor]] = {}

    @torch.no_grad()
    def step(self) -> None:
        """Change every parameter that has a gradient."""
        beta_1, beta_2 = self.betas
        for parameter, weight_decay in self._decays:
            gradient = parameter.grad
            if gradient is None:
                continue
            t, m, v = self._state.get(
                parameter, (0, torch.zeros_like(parameter), torch.zeros_like(parameter))
            )
            t += 1
            m = beta_1 * m + (1 - beta_1) * gradient
            v = beta_2 * v + (1 - beta_2) * gradient**2
            self._state[parameter] = (t, m, v)
            m_hat = m / (1 - beta_1**t)
            v_hat = v / (1 - beta_2**t)
            parameter -= self.learning_rate * weight_decay * parameter
            parameter -= self.learning_rate * m_hat / (v_hat.sqrt() + self.eps)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter, _ in self._decays:
            parameter.grad = None


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The parameters to train, in two groups: matrices decay, vectors do not.

    Matrices are the weights of linear maps and the embeddings; vectors are biases and the scales
    of norms, which decay would only pull away from where they act (as in Radford et al. 2018, §4.1,
    and most since). A parameter that two modules share appears once; one without ``requires_grad``
    not at all.

    Args:
        model: any module.
        weight_decay: λ for the matrices.

    Returns:
        Up to two dicts, each with "params" (tensors), "names" and "weight_decay".

    Raises:
        ValueError: the model has nothing to train.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if not named:
        raise ValueError("model has no parameter with requires_grad: there is nothing to train")
    groups = []
    for decays in (True, False):
        members = [(name, p) for name, p in named if (p.dim() >= 2) == decays]
        if members:
            groups.append(
                {
                    "params": [p for _, p in members],
                    "names": [name for name, _ in members],
                    "weight_decay": weight_decay if decays else 0.0,
                }
            )
    return groups
