"""What BERT is pre-trained on and by: batches with masked tokens, and the loss (`lmlib.bert`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmlib._checks import (
    check_ids,
    check_like_ids,
    check_positive,
    check_special_id,
    check_tensor,
)

IGNORED = -100
"""The label of a token that is not to be predicted; ``F.cross_entropy`` skips it."""


class PreTrainingBatch(NamedTuple):
    """One batch for `BertForPreTraining` and `pretraining_loss`.

    A DataLoader with ``pin_memory=True`` pins it as it is.

    Attributes:
        token_ids: (batch, n) integer, after masking.
        segment_ids: (batch, n) integer, 0 = sentence A, 1 = sentence B.
        mask: (batch, n) boolean, True = a real token.
        mlm_labels: (batch, n) integer, the token that stood there, or `IGNORED`.
        nsp_labels: (batch,) integer, 0 = B follows A, 1 = B is random; `IGNORED` without pairs.
    """

    token_ids: Tensor
    segment_ids: Tensor
    mask: Tensor
    mlm_labels: Tensor
    nsp_labels: Tensor

    def to(
        self, device: torch.device | str | int, *, non_blocking: bool = False
    ) -> PreTrainingBatch:
        """The same batch on another device.

        Args:
            device: where to.
            non_blocking: do not wait for the copy, as in ``Tensor.to``.
        """
        return PreTrainingBatch._make(
            tensor.to(device, non_blocking=non_blocking) for tensor in self
        )


class MaskingCollator:
    """Sequences of token ids → a padded batch with masked tokens (Devlin et al. 2019, §3.1, A.1).

    Each token that is not special is chosen with probability ``rate``. A chosen token is to be
    predicted, and is itself replaced by [MASK] (``mask_share`` of the chosen), by a random token
    that is not special (``random_share``), or left as it is (the rest).

    Each call draws anew. So collating the same sequences again in the next epoch is the dynamic
    masking of RoBERTa (Liu et al. 2019, §4.1); for BERT's static masking collate once and keep it.

    Args:
        vocab_size: number of tokens.
        mask_id: the id of [MASK].
        special_ids: ids that are never chosen, and never drawn as a random token: [CLS], [SEP]
            and so on. pad_id and mask_id are always among them.
        pad_id: the id that fills short sequences up.
        rate: share of the tokens to predict, above 0 and at most 1.
        mask_share: share of the chosen tokens that become [MASK].
        random_share: share of the chosen tokens that become a random token.
        at_least_one: choose one token, all alike, in a sequence where none was drawn. It raises
            the rate of short sequences: of 7 tokens none is drawn in 0.85⁷ = 32 % of the cases.
        generator: draws everything, so that a seed repeats the batches. torch's global generator
            if not given. (DataLoader workers hold copies of a generator, which begin anew each
            epoch: leave it out with ``num_workers > 0``, torch seeds the workers itself.)

    Raises:
        TypeError, ValueError: a special is not in the vocabulary, a rate or share is not allowed,
            or no token is left to draw.

    >>> collate = MaskingCollator(100, mask_id=3, special_ids=(1, 2), rate=1.0, mask_share=1.0,
    ...                           random_share=0.0)
    >>> batch = collate([[1, 50, 60, 2], [1, 70, 2]])
    >>> batch.token_ids
    tensor([[1, 3, 3, 2],
            [1, 3, 2, 0]])
    >>> batch.mlm_labels
    tensor([[-100,   50,   60, -100],
            [-100,   70, -100, -100]])
    """

    def __init__(
        self,
        vocab_size: int,
        mask_id: int,
        special_ids: Iterable[int] = (),
        *,
        pad_id: int = 0,
        rate: float = 0.15,
        mask_share: float = 0.8,
        random_share: float = 0.1,
        at_least_one: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        check_positive("vocab_size", vocab_size)
        specials = {pad_id, mask_id, *special_ids}
        check_special_id("mask_id", mask_id, vocab_size)
        check_special_id("pad_id", pad_id, vocab_size)
        for index in specials:
            check_special_id("each of special_ids", index, vocab_size)
        if not 0.0 < rate <= 1.0:
            raise ValueError(f"rate must be above 0 and at most 1, got {rate}")
        if min(mask_share, random_share) < 0.0 or mask_share + random_share > 1.0 + 1e-9:
            raise ValueError(
                "mask_share and random_share must not be negative and add up to at most 1, "
                f"got {mask_share} and {random_share}"
            )
        if len(specials) == vocab_size:
            raise ValueError(f"special_ids must leave a token to predict, got all {vocab_size}")
        self.vocab_size = vocab_size
        self.mask_id = mask_id
        self.pad_id = pad_id
        self.rate = rate
        self.mask_share = mask_share
        self.random_share = random_share
        self.at_least_one = at_least_one
        self.generator = generator
        self.special_ids = tuple(sorted(specials))
        self._is_special = torch.zeros(vocab_size, dtype=torch.bool)
        self._is_special[list(specials)] = True
        self._ordinary = (~self._is_special).nonzero().flatten()

    def __call__(
        self,
        sequences: Sequence[Sequence[int]],
        segment_ids: Sequence[Sequence[int]] | None = None,
        nsp_labels: Sequence[int] | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> PreTrainingBatch:
        """
        Args:
            sequences: token ids of each, special tokens included ([CLS] … [SEP]), not padded.
            segment_ids: as many for each sequence; all 0 if not given.
            nsp_labels: one for each sequence, or None.
            generator: draws in place of the collator's own (`lmlib.training.Batches` gives one).

        Returns:
            The batch, padded on the right to the longest sequence.

        Raises:
            TypeError, ValueError: no sequences, an empty one, ids outside the vocabulary, or
                segment ids or labels of another length.
        """
        token_ids = _padded("sequences", sequences, self.pad_id)
        check_ids("sequences", token_ids, "batch, n", self.vocab_size)
        lengths = torch.tensor([len(sequence) for sequence in sequences])
        mask = torch.arange(token_ids.shape[1]) < lengths[:, None]  # (batch, n)
        segments = torch.zeros_like(token_ids)
        if segment_ids is not None:
            if [len(row) for row in segment_ids] != lengths.tolist():
                raise ValueError("segment_ids must be as long as the sequences, one for one")
            segments = _padded("segment_ids", segment_ids, 0)
        labels = torch.full((len(sequences),), IGNORED)
        if nsp_labels is not None:
            labels = torch.tensor(list(nsp_labels))
            check_ids("nsp_labels", labels, "batch", 2)
            if labels.shape[0] != len(sequences):
                raise ValueError(
                    f"nsp_labels must be one for each of the {len(sequences)} sequences, "
                    f"got {labels.shape[0]}"
                )
        masked_ids, mlm_labels = self.mask_tokens(token_ids, mask, generator=generator)
        return PreTrainingBatch(masked_ids, segments, mask, mlm_labels, labels)

    def mask_tokens(
        self,
        token_ids: Tensor,
        mask: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """
        Args:
            token_ids: (batch, n) integer, on the generator's device.
            mask: (batch, n) boolean, False where a token must not be chosen. (Padding never is.)
            generator: draws in place of the collator's own.

        Returns:
            masked token_ids (batch, n) and mlm_labels (batch, n), `IGNORED` except where a token
            was chosen; both int64. The argument is not changed.

        Raises:
            TypeError, ValueError: not integer ids of the vocabulary, or a mask of another shape
                or kind.
        """
        check_ids("token_ids", token_ids, "batch, n", self.vocab_size)
        if mask is not None:
            check_token_mask("mask", mask, token_ids)
        token_ids = token_ids.long()
        device, ordinary = token_ids.device, self._ordinary.to(token_ids.device)
        may_choose = ~self._is_special.to(device)[token_ids]
        if mask is not None:
            may_choose = may_choose & mask
        generator = self.generator if generator is None else generator
        draw = torch.rand(token_ids.shape, generator=generator, device=device)
        draw = draw.masked_fill(~may_choose, 2.0)  # never below the rate
        chosen = draw < self.rate
        if self.at_least_one and token_ids.numel():
            # The lowest draw of a sequence: chosen already if any token is.
            chosen = chosen.scatter(1, draw.argmin(dim=1, keepdim=True), True) & may_choose
        labels = token_ids.masked_fill(~chosen, IGNORED)
        fate = torch.rand(token_ids.shape, generator=generator, device=device)
        index = torch.randint(len(ordinary), token_ids.shape, generator=generator, device=device)
        to_mask = chosen & (fate < self.mask_share)
        to_random = chosen & ~to_mask & (fate < self.mask_share + self.random_share)
        masked_ids = torch.where(to_random, ordinary[index], token_ids)
        return masked_ids.masked_fill(to_mask, self.mask_id), labels


def check_token_mask(name: str, mask: Tensor, token_ids: Tensor) -> None:
    """``mask`` is boolean, and says something about each token of ``token_ids``."""
    kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
    if kind != torch.bool:
        raise TypeError(f"{name} must be a boolean tensor, got {kind}")
    check_like_ids(name, mask, token_ids)


def _padded(name: str, rows: Sequence[Sequence[int]], fill: int) -> Tensor:
    """(batch, n), each row filled up on the right."""
    for row in rows:
        if not isinstance(row, Sequence | Tensor):
            kind = type(row).__name__
            raise TypeError(f"{name} must hold one list of ids for each sequence, got {kind}")
    if not len(rows) or min(len(row) for row in rows) == 0:
        raise ValueError(f"{name} must be at least one, each with at least one token")
    tensors = [torch.as_tensor(row) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=fill)


class BertPreTrainingOutput(NamedTuple):
    """What `BertForPreTraining` returns.

    Attributes:
        mlm_logits: (batch, n, vocab_size), or with ``predict_at`` (num_predicted, vocab_size).
        nsp_logits: (batch, 2), first for "B follows A", then for "B is random".
    """

    mlm_logits: Tensor
    nsp_logits: Tensor


class PreTrainingLoss(NamedTuple):
    """What `pretraining_loss` returns, in nats.

    Attributes:
        total: scalar, the sum of the other two.
        mlm: scalar, the mean over the labelled tokens.
        nsp: scalar, the mean over the labelled pairs.
    """

    total: Tensor
    mlm: Tensor
    nsp: Tensor


def pretraining_loss(
    output: BertPreTrainingOutput, mlm_labels: Tensor, nsp_labels: Tensor | None = None
) -> PreTrainingLoss:
    """The sum of both tasks' mean negative log-likelihoods (Devlin et al. 2019, §A.2).

    Args:
        output: of `BertForPreTraining`, with or without ``predict_at``.
        mlm_labels: (batch, n) integer, the token that stood there, or `IGNORED` (−100).
        nsp_labels: (batch,) integer, 0 = B follows A, 1 = B is random, or `IGNORED`; None leaves
            the task out, as RoBERTa does (Liu et al. 2019, §4.2).

    Returns:
        total, mlm and nsp in nats. mlm is the mean over the labelled tokens of the batch, nsp that
        over the labelled pairs; 0 if there are none (not NaN, as ``F.cross_entropy`` would say).
        Half precision is widened to float32 for the sums.

    Raises:
        TypeError, ValueError: labels of the wrong shape or kind, or not as many as logits.
    """
    logits = output.mlm_logits
    _check_labels("mlm_labels", mlm_labels, "batch, n", logits.shape[-1])
    labels = mlm_labels.flatten().long()
    if logits.dim() == 2:
        labels = labels[labels != IGNORED]
    logits = logits.flatten(end_dim=-2)
    if labels.shape[0] != logits.shape[0]:
        raise ValueError(
            f"mlm_labels must name one token for each of the {logits.shape[0]} rows of "
            f"mlm_logits, got {labels.shape[0]}"
        )
    mlm = _mean_loss(logits, labels)
    if nsp_labels is None:
        return PreTrainingLoss(mlm, mlm, torch.zeros_like(mlm))
    _check_labels("nsp_labels", nsp_labels, "batch", 2)
    check_tensor("nsp_logits", output.nsp_logits, "batch, 2", batch=nsp_labels.shape[0])
    nsp = _mean_loss(output.nsp_logits, nsp_labels.long())
    return PreTrainingLoss(mlm + nsp, mlm, nsp)


def bert_loss(model: nn.Module, batch: PreTrainingBatch) -> tuple[Tensor, Tensor]:
    """The loss of a batch as `lmlib.training.train` wants it: ``train(…, loss_fn=bert_loss)``.

    Only the masked tokens go through the MLM head.

    Args:
        model: a `BertForPreTraining`.
        batch: from a collator.

    Returns:
        The sum over the masked tokens, and their number (1 if there are none). The next-sentence
        loss, a mean over pairs, counts once for each masked token, so that the quotient is the
        ``total`` of `pretraining_loss`.
    """
    predict_at = batch.mlm_labels != IGNORED
    output = model(batch.token_ids, batch.segment_ids, batch.mask, predict_at=predict_at)
    num_masked = predict_at.sum().clamp(min=1)
    loss = pretraining_loss(output, batch.mlm_labels, batch.nsp_labels)
    return loss.total * num_masked, num_masked


def _mean_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean negative log-likelihood of the labels that are not `IGNORED`; 0 if there are none."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    total = F.cross_entropy(wide, labels, ignore_index=IGNORED, reduction="sum")
    return total / (labels != IGNORED).sum().clamp(min=1)


def _check_labels(name: str, labels: Tensor, dims: str, num_classes: int) -> None:
    """``labels`` are integers of these dimensions, each a class or `IGNORED`."""
    check_ids(name, labels, dims)
    check_ids(name, labels.masked_fill(labels == IGNORED, 0), dims, num_classes)
