"""How well classes were predicted: accuracy, confusion matrix, F1; use `lmlib.metrics`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lmlib._checks import INTEGER_DTYPES, check_choice, check_not_negative

Ids = Tensor | Sequence[Any]


def accuracy(predictions: Ids, targets: Ids, ignore_id: int | None = None) -> float:
    """The share of predictions that are the target.

    Args:
        predictions: class or token ids, a tensor (...) or a list.
        targets: the same shape.
        ignore_id: where the target is this id nothing counts.

    Raises:
        TypeError, ValueError: not integers, shapes that differ, no target left.
    """
    predicted, wanted = _id_pairs(predictions, targets, ignore_id)
    return float((predicted == wanted).double().mean())


def confusion_matrix(
    predictions: Ids,
    targets: Ids,
    num_classes: int | None = None,
    ignore_id: int | None = None,
) -> Tensor:
    """How often class i (row) was taken for class j (column).

    Args:
        predictions, targets, ignore_id: as for `accuracy`; ids from 0 on.
        num_classes: C; one more than the largest id if not given.

    Returns:
        (C, C) int64.
    """
    predicted, wanted = _id_pairs(predictions, targets, ignore_id)
    highest, lowest = int(max(predicted.max(), wanted.max())), min(predicted.min(), wanted.min())
    if num_classes is None:
        num_classes = highest + 1
    if lowest < 0 or highest >= num_classes:
        raise ValueError(
            f"predictions and targets must hold ids from 0 to {num_classes - 1}, "
            f"got {int(lowest) if lowest < 0 else highest}"
        )
    cells = wanted * num_classes + predicted
    return torch.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def f1(
    predictions: Ids,
    targets: Ids,
    *,
    average: str = "binary",
    positive: int = 1,
    num_classes: int | None = None,
    ignore_id: int | None = None,
) -> float:
    """F1 = 2 TP / (2 TP + FP + FN), the harmonic mean of precision and recall.

    Args:
        predictions, targets, ignore_id: as for `accuracy`; ids from 0 on.
        average: "binary" is the F1 of the class ``positive``, of two; "macro" the mean of the F1
            of each class; "micro" the F1 of the TP, FP and FN of all classes together, which is
            the accuracy, where each prediction is of one class as here.
        positive: the class that "binary" looks for.
        num_classes: "macro" is over so many; if not given, over those that were predicted or
            wanted.

    Returns:
        in [0, 1]; a class that was neither predicted nor wanted has F1 0.
    """
    check_choice("average", average, ("binary", "macro", "micro"))
    check_not_negative("positive", positive)
    confusion = confusion_matrix(predictions, targets, num_classes, ignore_id)
    true_positives = confusion.diagonal().double()
    # 2 TP + FP + FN: all that were predicted and all that were wanted.
    both = (confusion.sum(dim=0) + confusion.sum(dim=1)).double()
    if average == "micro":
        return float(2 * true_positives.sum() / both.sum())
    scores = 2 * true_positives / both.clamp(min=1)
    if average == "macro":
        return float((scores if num_classes is not None else scores[both > 0]).mean())
    if int((both > 0).sum()) > 2 or (num_classes or 2) > 2:
        raise ValueError(
            "average must be 'macro' or 'micro' for more than two classes, got 'binary'"
        )
    return float(scores[positive]) if positive < len(scores) else 0.0


def _id_pairs(predictions: Ids, targets: Ids, ignore_id: int | None) -> tuple[Tensor, Tensor]:
    """What was predicted and what was wanted, where that is not ignored: (m,) each."""
    pair = []
    for name, ids in (("predictions", predictions), ("targets", targets)):
        ids = torch.as_tensor(ids)
        if ids.numel() and ids.dtype not in (*INTEGER_DTYPES, torch.bool):
            raise TypeError(f"{name} must hold integer ids, got {ids.dtype}: take the argmax")
        pair.append(ids)
    predicted, wanted = pair
    if predicted.shape != wanted.shape:
        raise ValueError(
            f"predictions must have the shape of targets, {tuple(wanted.shape)}, "
            f"got {tuple(predicted.shape)}"
        )
    kept = torch.ones_like(wanted, dtype=torch.bool) if ignore_id is None else wanted != ignore_id
    check_some(kept)
    return predicted.to(wanted.device)[kept].long(), wanted[kept].long()


def check_some(kept: Tensor) -> None:
    """``kept`` is True somewhere: an average over nothing is none."""
    if not bool(kept.any()):
        raise ValueError("targets must hold at least one that is not ignored, got none")
