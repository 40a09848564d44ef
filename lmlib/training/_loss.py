"""Loss functions, each a sum and what it is a sum over; use them from `lmlib.training`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmlib._checks import check_choice, check_ids, check_tensor
from lmlib._checks import check_probability as check_rate

IGNORE_ID = -100


class Loss(NamedTuple):
    """What a loss function returns: any pair (sum, targets) will do as well.

    A sum and not a mean, for the mean over all targets of a step can be put together from sums,
    however they are spread over batches and processes, and from means it cannot.

    Attributes:
        sum: scalar, the loss summed over the targets.
        targets: how many targets that were: an int or a scalar tensor.
        metrics: further sums over the same targets, by name, e.g. how many were predicted right.
    """

    sum: Tensor
    targets: Tensor | int
    metrics: Mapping[str, Tensor] = {}


LossFunction = Callable[..., "Loss | tuple[Tensor, Tensor | int]"]


def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    ignore_id: int = IGNORE_ID,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """−log softmax(logits)[target], averaged over the targets: the plain formula.

    Equal to ``torch.nn.functional.cross_entropy``, which the loss functions use, for it is faster.
    With label smoothing the target is not one token but a distribution, 1 − ε on the token and ε
    spread evenly over all (Szegedy et al. 2016, §7; Vaswani et al. 2017, §5.4).

    Args:
        logits: (..., vocab_size).
        targets: (...) token ids; those equal to ``ignore_id`` do not count.
        ignore_id: marks what is not to be predicted.
        label_smoothing: ε.
        reduction: "mean" over the targets that count (nan if there are none), "sum", or "none":
            (...), 0 where ignored.

    Raises:
        TypeError, ValueError: shapes or dtypes do not fit, an id is outside the vocabulary.
    """
    check_tensor("logits", logits, "..., vocab_size")
    check_rate("label_smoothing", label_smoothing)
    check_choice("reduction", reduction, ("mean", "sum", "none"))
    _check_targets(logits, targets)
    counts = targets != ignore_id
    index = targets.long().masked_fill(~counts, 0)
    check_ids("targets", index.flatten(), "count", logits.shape[-1])
    log_p = logits - logits.logsumexp(dim=-1, keepdim=True)  # (..., vocab_size)
    loss = -log_p.gather(-1, index.unsqueeze(-1)).squeeze(-1)  # (...)
    if label_smoothing:
        loss = (1 - label_smoothing) * loss - label_smoothing * log_p.mean(dim=-1)
    loss = loss.masked_fill(~counts, 0.0)
    if reduction == "none":
        return loss
    return loss.sum() / counts.sum() if reduction == "mean" else loss.sum()


def summed_cross_entropy(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Loss:
    """Cross-entropy as a `Loss`: summed over the targets that are not −100, and their number.

    Args:
        logits: (..., vocab_size); half precision is widened to float32.
        targets: (...) token ids, −100 for what is not to be predicted.
        label_smoothing: ε of `cross_entropy`.

    Raises:
        TypeError, ValueError: shapes or dtypes do not fit; on the CPU also: an id is outside the
            vocabulary.
    """
    _check_targets(logits, targets)
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    try:
        total = F.cross_entropy(
            logits.flatten(0, -2),
            targets.flatten().long(),
            ignore_index=IGNORE_ID,
            label_smoothing=label_smoothing,
            reduction="sum",
        )
    except IndexError as error:  # which only the CPU can raise
        raise ValueError(
            f"targets must hold ids from 0 to {logits.shape[-1] - 1}, or {IGNORE_ID} for no "
            f"target: {error}"
        ) from None
    return Loss(total, (targets != IGNORE_ID).sum())


def language_model_loss(model: nn.Module, batch: Any, *, label_smoothing: float = 0.0) -> Loss:
    """Each token is predicted from those before it.

    Args:
        model: from ids (batch, n) to logits (batch, n, vocab_size).
        batch: one of three.

            - token_ids (batch, n + 1): the model reads all but the last, the targets are all
              but the first;
            - (token_ids (batch, n + 1), mask (batch, n + 1) boolean): the same; False marks
              padding, on either side. The model is handed the mask, and a target is a token
              that follows a token;
            - (inputs (batch, n), targets (batch, n)): already shifted, −100 is no target. A mask
              of integers would be taken for targets: make it boolean.
        label_smoothing: ε of `cross_entropy`.

    Raises:
        TypeError, ValueError: another kind of batch, or shapes that do not fit.
    """
    if isinstance(batch, Tensor):
        inputs, targets = _shift(batch)
        return summed_cross_entropy(model(inputs), targets, label_smoothing)
    first, second = _pair(batch, "token_ids, (token_ids, mask) or (inputs, targets)")
    if second.dtype != torch.bool:
        return summed_cross_entropy(model(first), second, label_smoothing)
    if second.shape != first.shape:
        raise ValueError(
            f"mask must have the shape of token_ids, {tuple(first.shape)}, "
            f"got {tuple(second.shape)}"
        )
    inputs, targets = _shift(first)
    logits = model(inputs, second[:, :-1])
    targets = targets.masked_fill(~(second[:, :-1] & second[:, 1:]), IGNORE_ID)
    return summed_cross_entropy(logits, targets, label_smoothing)


def seq2seq_loss(model: nn.Module, batch: Any, *, label_smoothing: float = 0.0) -> Loss:
    """Each token of the target is predicted from the source and the target before it.

    Args:
        model: an encoder–decoder: ``model(source, target_in)`` gives logits (batch, n,
            vocab_size), ``model.shift_right`` makes target_in of the target, and
            ``model.config.pad_id`` is no target.
        batch: (source (batch, n_source), target (batch, n)); the target ends with EOS and has
            no BOS.
        label_smoothing: ε of `cross_entropy`.

    Raises:
        TypeError, ValueError: another kind of batch, or shapes that do not fit.
    """
    source, target = _pair(batch, "(source, target)")
    network: Any = model
    logits = network(source, network.shift_right(target))
    targets = target.masked_fill(target == network.config.pad_id, IGNORE_ID)
    return summed_cross_entropy(logits, targets, label_smoothing)


def classification_loss(model: nn.Module, batch: Any, *, label_smoothing: float = 0.0) -> Loss:
    """Each example has one class; the metric is the accuracy.

    Args:
        model: ``model(*inputs)`` gives logits (batch, num_classes).
        batch: ``(*inputs, labels)``, the labels (batch,); a label of −100 does not count.
        label_smoothing: ε of `cross_entropy`.

    Raises:
        TypeError, ValueError: another kind of batch, or shapes that do not fit.
    """
    if not isinstance(batch, (tuple, list)) or len(batch) < 2:
        raise TypeError(f"batch must be (*inputs, labels), got {type(batch).__name__}")
    *inputs, labels = batch
    logits = model(*inputs)
    loss = summed_cross_entropy(logits, labels, label_smoothing)
    right = (logits.argmax(dim=-1) == labels).sum()
    return loss._replace(metrics={"accuracy": right})


def checked_loss(returned: Any) -> Loss:
    """What a loss function returned, once it is seen to be a sum and a count."""
    good = isinstance(returned, tuple) and len(returned) in (2, 3)
    if not good or not isinstance(returned[0], Tensor) or returned[0].dim():
        raise TypeError(
            "loss_fn must return (sum, targets): the loss summed over the targets as a scalar "
            f"tensor, and their number; got {_describe(returned)}"
        )
    if isinstance(returned[1], float) or (isinstance(returned[1], Tensor) and returned[1].dim()):
        raise TypeError(
            "loss_fn must return a number of targets that is one integer, "
            f"got {_describe(returned[1])}"
        )
    return Loss(*returned)


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, tuple):
        return f"({', '.join(_describe(part) for part in value)})"
    return type(value).__name__


def _shift(token_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs and targets, each (batch, n), of ids (batch, n + 1)."""
    check_ids("token_ids", token_ids, "batch, n")
    if token_ids.shape[1] < 2:
        raise ValueError(f"token_ids must have at least 2 tokens a row, got {token_ids.shape[1]}")
    return token_ids[:, :-1], token_ids[:, 1:]


def _pair(batch: Any, wanted: str) -> tuple[Tensor, Tensor]:
    good = isinstance(batch, (tuple, list)) and len(batch) == 2
    if not good or not all(isinstance(part, Tensor) for part in batch):
        raise TypeError(f"batch must be {wanted}, got {type(batch).__name__}")
    return batch[0], batch[1]


def _check_targets(logits: Tensor, targets: Tensor) -> None:
    if targets.is_floating_point() or targets.is_complex():
        raise TypeError(f"targets must hold integer token ids, got {targets.dtype}")
    if logits.shape[:-1] != targets.shape:
        raise ValueError(
            f"targets must have the shape of logits without vocab_size, "
            f"{tuple(logits.shape[:-1])}, got {tuple(targets.shape)}"
        )
