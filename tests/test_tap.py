"""Taps: full names, replacement, nesting, and nothing left behind."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lmlib._tap import tap, tapping, tracing
from lmlib.attention import MultiHeadAttention, scaled_dot_product_attention


class Leaf(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.isnan().any():
            raise ValueError("nan")
        return tap("doubled", 2 * x)


class Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.leaves = nn.ModuleList([Leaf(), Leaf()])

    def forward(self, x: Tensor) -> Tensor:
        x = tap("before", x)
        for leaf in self.leaves:
            x = leaf(x)
        return tap("after", x)


class Tree(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.branch = Branch()

    def forward(self, x: Tensor) -> Tensor:
        return tap("root", self.branch(x))


ONE = torch.ones(1)
NAMES = [
    "branch.before",
    "branch.leaves.0.doubled",
    "branch.leaves.1.doubled",
    "branch.after",
    "root",
]


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_without_a_tracer_a_tap_is_nothing() -> None:
    assert not tapping()
    assert tap("x", ONE) is ONE


def test_names_and_order_are_those_of_the_modules() -> None:
    tree, seen = Tree(), []
    with tracing(tree, lambda name, tensor: seen.append((name, tensor.item()))):
        assert tapping()
        tree(ONE)
    assert seen == list(zip(NAMES, [1.0, 2.0, 4.0, 4.0, 4.0], strict=True))
    assert not tapping()
    assert hooks(tree) == 0
    tree(ONE)
    assert len(seen) == 5


def test_a_part_called_alone_keeps_its_name() -> None:
    tree, seen = Tree(), []
    with tracing(tree, lambda name, tensor: seen.append(name)):
        tree.branch.leaves[1](ONE)
        tap("outside", ONE)
    assert seen == ["branch.leaves.1.doubled", "outside"]


def test_a_replacement_goes_on() -> None:
    tree = Tree()

    def patch(name: str, tensor: Tensor) -> Tensor | None:
        return tensor + 10 if name == "branch.leaves.0.doubled" else None

    with tracing(tree, patch):
        assert tree(ONE).item() == 24.0
    assert tree(ONE).item() == 4.0


def test_a_replacement_of_another_shape_is_refused() -> None:
    tree = Tree()
    with (
        tracing(tree, lambda name, tensor: torch.ones(2)),
        pytest.raises(ValueError, match=r"branch.before must have its shape \(1,\), got \(2,\)"),
    ):
        tree(ONE)
    assert not tapping()
    assert hooks(tree) == 0


def test_tracers_nest_the_outer_one_first() -> None:
    tree, seen = Tree(), {}
    with (
        tracing(tree, lambda name, tensor: tensor + 1 if name == "root" else None),
        tracing(tree.branch, lambda name, tensor: seen.update({name: tensor.item()})),
    ):
        tree(ONE)
    # The inner tracer knows the branch only; the root's tap comes to it under its bare name.
    assert list(seen) == [name.removeprefix("branch.") for name in NAMES]
    assert seen["root"] == 5.0


def test_an_error_inside_leaves_no_trace() -> None:
    tree, seen = Tree(), []
    with tracing(tree, lambda name, tensor: seen.append(name)):
        with pytest.raises(ValueError, match="nan"):
            tree(ONE * float("nan"))
        seen.clear()
        tap("outside", ONE)
        tree(ONE)
    assert seen == ["outside", *NAMES]


def test_a_tracer_makes_the_scores_exist_and_can_patch_them() -> None:
    layer, x = MultiHeadAttention(8, 2), torch.randn(1, 3, 8)
    wanted, _ = layer(x, mask=torch.eye(3, dtype=torch.bool))
    seen = []

    def only_oneself(name: str, tensor: Tensor) -> Tensor | None:
        seen.append(name)
        return torch.eye(3).expand_as(tensor) if name == "weights" else None

    with tracing(layer, only_oneself):
        output, _ = layer(x)
    assert "scores" in seen
    torch.testing.assert_close(output, wanted)


def test_functions_are_traced_without_a_model() -> None:
    x, seen = torch.randn(1, 1, 3, 4), []
    with tracing(None, lambda name, tensor: seen.append(name)):
        scaled_dot_product_attention(x, x, x)
    assert seen == ["scores", "masked_scores", "weights", "heads"]
