"""BERT: an encoder that reads both ways, trained by filling in masked tokens, and its heads.

Devlin et al. 2019: token, segment and learned position embeddings, a stack of post-norm layers with
GELU, and on top of it what a task needs. `NextSentenceCollator` and `MaskingCollator` make the
batches for pre-training, with sentence pairs or without::

    masking = MaskingCollator(config.vocab_size, mask_id, (cls_id, sep_id))
    collate = NextSentenceCollator(masking, cls_id=cls_id, sep_id=sep_id, max_seq_len=128)
    batches = Batches(next_sentence_pairs(documents), batch_size=32, collate=collate)
    train(BertForPreTraining(config), batches, TrainConfig(epochs=10), loss_fn=bert_loss)

>>> config = BertConfig(vocab_size=100, d_model=16, num_layers=2, num_heads=2, d_ff=32)
>>> model = BertModel(config).eval()
>>> output = model(torch.tensor([[5, 6, 7, 0]]))  # 0 is padding
>>> output.hidden.shape, output.pooled.shape
(torch.Size([1, 4, 16]), torch.Size([1, 16]))
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lmlib._checks import check_ids, check_like_ids, check_positive
from lmlib._tap import tap, tapping
from lmlib.bert._config import BertConfig
from lmlib.bert._data import (
    IGNORED,
    BertPreTrainingOutput,
    MaskingCollator,
    PreTrainingBatch,
    PreTrainingLoss,
    bert_loss,
    check_token_mask,
    pretraining_loss,
)
from lmlib.bert._pairs import NextSentenceCollator, SentencePair, join_pair, next_sentence_pairs
from lmlib.layers import ACTIVATIONS, EncoderLayer, LayerNorm
from lmlib.positions import LearnedPositionalEmbedding

__all__ = [
    "IGNORED",
    "BertConfig",
    "BertForPreTraining",
    "BertForSequenceClassification",
    "BertModel",
    "BertOutput",
    "BertPreTrainingOutput",
    "MaskingCollator",
    "NextSentenceCollator",
    "PreTrainingBatch",
    "PreTrainingLoss",
    "SentencePair",
    "bert_loss",
    "join_pair",
    "next_sentence_pairs",
    "pretraining_loss",
]

INIT_STD = 0.02


class BertOutput(NamedTuple):
    """What `BertModel` returns.

    Attributes:
        hidden: (batch, n, d_model), the last layer's output.
        pooled: (batch, d_model), or None without a pooler.
        weights: "layers.0.self_attention" → (batch, num_heads, n, n) and so on, or None if they
            were not asked for.
    """

    hidden: Tensor
    pooled: Tensor | None
    weights: dict[str, Tensor] | None


class BertModel(nn.Module):
    """Embeddings and a stack of post-norm `EncoderLayer` (Devlin et al. 2019, §3 and Figure 2).

    Weights are drawn from N(0, 0.02²), biases are zero, those of the heads below too.

    Args:
        config: its shape.
        pooler: has it one? Sentence encoders, which average the hidden states, do without.

    Attributes:
        embedding: token vectors.
        segment_embedding: vectors of sentence A and B, or None with num_segments=0.
        positions: adds the learned position vectors.
        embedding_norm: normalises the sum of the three.
        layers: the stack.
        pooler: linear map of the first token's hidden state, before a tanh; or None.
    """

    def __init__(self, config: BertConfig, pooler: bool = True) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.segment_embedding = (
            nn.Embedding(config.num_segments, config.d_model) if config.num_segments else None
        )
        self.positions = LearnedPositionalEmbedding(config.max_seq_len, config.d_model)
        self.embedding_norm = LayerNorm(config.d_model, config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(_make_layer(config) for _ in range(config.num_layers))
        self.pooler = nn.Linear(config.d_model, config.d_model) if pooler else None
        _reset_parameters(self)

    def forward(
        self,
        token_ids: Tensor,
        segment_ids: Tensor | None = None,
        mask: Tensor | None = None,
        *,
        need_weights: bool = False,
    ) -> BertOutput:
        """
        Args:
            token_ids: (batch, n) integer. They stand at the positions 0 … n − 1, whether padding
                comes behind or in front of them.
            segment_ids: (batch, n) integer, 0 for sentence A, 1 for B; all 0 if not given.
            mask: (batch, n) boolean, True = a real token, one that may be looked at;
                ``token_ids != pad_id`` if not given.
            need_weights: return the attention weights as well, by the name of the module they
                come from, e.g. "layers.0.self_attention".

        Returns:
            hidden (batch, n, d_model); pooled (batch, d_model), the tanh of the pooler's map of
            the first token (usually [CLS]), or None; weights, or None. What stands in hidden where
            the mask is False has no meaning.

        Raises:
            TypeError, ValueError: not integer ids, outside the vocabulary, too long, empty, on
                another device than the model; segment ids or a mask of another shape or kind.
        """
        x, may_look = self._embed(token_ids, segment_ids, mask)
        all_weights: dict[str, Tensor] = {}
        for i, layer in enumerate(self.layers):
            x, weights = layer(x, may_look, need_weights=need_weights)
            if weights is not None:
                all_weights[f"layers.{i}.self_attention"] = weights
        hidden = tap("hidden", x)
        pooled = None
        if self.pooler is not None:
            pooled = tap("pooled", torch.tanh(self.pooler(hidden[:, 0])))
        return BertOutput(hidden, pooled, all_weights if need_weights else None)

    def pooled(
        self, token_ids: Tensor, segment_ids: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """The pooled vector of `forward` alone, (batch, d_model), with less work.

        It depends on the first token's hidden state and no other, so the last layer is computed
        for that token only; the others give it their keys and values. (Forward hooks of this
        module and of the last layer do not run.)

        Raises:
            TypeError, ValueError: see `forward`; or the model has no pooler.
        """
        if self.pooler is None:
            raise ValueError("pooled needs a model that was made with pooler=True")
        if tapping():  # Who looks inside shall find the last layer whole.
            return self(token_ids, segment_ids, mask).pooled
        x, may_look = self._embed(token_ids, segment_ids, mask)
        for layer in self.layers[:-1]:
            x, _ = layer(x, may_look)
        last: Any = self.layers[-1]
        first = x[:, :1]  # (batch, 1, d_model)
        attended, _ = last.self_attention(first, x, mask=may_look)
        first = last.norm_1(first + last.dropout(attended))
        first = last.norm_2(first + last.dropout(last.feed_forward(first)))
        return torch.tanh(self.pooler(first[:, 0]))

    def _embed(
        self, token_ids: Tensor, segment_ids: Tensor | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Vectors (batch, n, d_model), and where to look (batch, 1, 1, n), or None: everywhere."""
        mask = self._check(token_ids, segment_ids, mask)
        x = tap("embedding_out", self.embedding(tap("token_ids", token_ids).long()))
        if self.segment_embedding is not None:
            if segment_ids is None:
                segment_ids = torch.zeros_like(token_ids)
            segment = self.segment_embedding(tap("segment_ids", segment_ids).long())
            x = x + tap("segment_embedding_out", segment)
        x = self.embedding_norm(self.positions(x))
        return tap("x", self.dropout(x)), None if mask is None else mask[:, None, None, :]

    def _check(
        self, token_ids: Tensor, segment_ids: Tensor | None, mask: Tensor | None
    ) -> Tensor | None:
        """Meet wrong arguments at the door; return the mask to use, or None: no padding."""
        check_ids("token_ids", token_ids, "batch, n", self.config.vocab_size)
        if not 0 < token_ids.shape[1] <= self.config.max_seq_len:
            raise ValueError(
                f"token_ids must have 1 to max_seq_len={self.config.max_seq_len} tokens, "
                f"got {token_ids.shape[1]}"
            )
        if token_ids.device != self.embedding.weight.device:
            raise ValueError(
                f"token_ids must be on {self.embedding.weight.device} like the model, "
                f"got {token_ids.device}"
            )
        if segment_ids is not None:
            if self.segment_embedding is None:
                raise ValueError("segment_ids must not be given to a model with num_segments=0")
            check_ids("segment_ids", segment_ids, "batch, n", self.config.num_segments)
            check_like_ids("segment_ids", segment_ids, token_ids)
        if mask is not None:
            check_token_mask("mask", mask, token_ids)
        elif self.config.pad_id is not None:
            mask = token_ids != self.config.pad_id
        # Attention without a mask is faster. Only on the CPU does it cost nothing to look.
        if mask is not None and mask.device.type == "cpu" and not torch.compiler.is_compiling():
            mask = None if bool(mask.all()) else mask
        return mask


class BertForPreTraining(nn.Module):
    """The two tasks of pre-training: masked tokens and next sentence (ibid., §3.1).

    Attributes:
        bert: the `BertModel`.
        mlm_dense, mlm_norm: the map, after an activation, and the norm before the MLM head.
        mlm_head: to the vocabulary; its weight is that of the token embedding.
        nsp_head: from the pooled vector to "follows" (0) and "random" (1).
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.bert = BertModel(config)
        self.mlm_dense = nn.Linear(config.d_model, config.d_model)
        self.mlm_norm = LayerNorm(config.d_model, config.norm_eps)
        self.mlm_head = nn.Linear(config.d_model, config.vocab_size)
        self.nsp_head = nn.Linear(config.d_model, 2)
        for module in (self.mlm_dense, self.mlm_head, self.nsp_head):
            _reset_parameters(module)
        self.mlm_head.weight = self.bert.embedding.weight

    def forward(
        self,
        token_ids: Tensor,
        segment_ids: Tensor | None = None,
        mask: Tensor | None = None,
        *,
        predict_at: Tensor | None = None,
        need_weights: bool = False,
    ) -> BertPreTrainingOutput | tuple[BertPreTrainingOutput, dict[str, Tensor]]:
        """
        Args:
            token_ids, segment_ids, mask: see `BertModel.forward`.
            predict_at: (batch, n) boolean. MLM logits are made at these positions only, in reading
                order. In training ``mlm_labels != IGNORED`` saves most of the head's work, which is
                as much as that of several layers. (On a GPU its result's size is waited for.)
            need_weights: return the attention weights as well, by the name of the module they
                come from, e.g. "bert.layers.0.self_attention".

        Returns:
            mlm_logits (batch, n, vocab_size), or with ``predict_at`` (num_predicted, vocab_size);
            nsp_logits (batch, 2). With ``need_weights`` a pair of that and the weights.

        Raises:
            TypeError, ValueError: see `BertModel.forward`.
        """
        output = self.bert(token_ids, segment_ids, mask, need_weights=need_weights)
        hidden = output.hidden
        if predict_at is not None:
            check_token_mask("predict_at", predict_at, token_ids)
            hidden = hidden[predict_at]  # (num_predicted, d_model)
        transformed = ACTIVATIONS[self.config.activation](self.mlm_dense(hidden))
        transformed = self.mlm_norm(tap("mlm_transformed", transformed))
        mlm_logits = tap("mlm_logits", self.mlm_head(transformed))
        logits = BertPreTrainingOutput(mlm_logits, tap("nsp_logits", self.nsp_head(output.pooled)))
        return (logits, _below_bert(output.weights)) if need_weights else logits


class BertForSequenceClassification(nn.Module):
    """One label for a sequence or a pair: dropout and a linear map of the pooled vector.

    Devlin et al. 2019, §4.1: the only new parameters of fine-tuning are the classifier's. The
    others come from pre-training::

        model.bert.load_state_dict(pretrained.bert.state_dict())

    Args:
        config: the shape of the BERT.
        num_labels: number of classes; 1 gives a score (regression).

    Attributes:
        bert: the `BertModel`.
        classifier: from the pooled vector to the logits.
    """

    def __init__(self, config: BertConfig, num_labels: int) -> None:
        super().__init__()
        check_positive("num_labels", num_labels)
        self.config = config
        self.num_labels = num_labels
        self.bert = BertModel(config)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.d_model, num_labels)
        _reset_parameters(self.classifier)

    def forward(
        self,
        token_ids: Tensor,
        segment_ids: Tensor | None = None,
        mask: Tensor | None = None,
        *,
        need_weights: bool = False,
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """
        Args:
            token_ids, segment_ids, mask: see `BertModel.forward`.
            need_weights: return the attention weights as well, by the name of the module they
                come from, e.g. "bert.layers.0.self_attention".

        Returns:
            logits (batch, num_labels); with ``need_weights`` logits and weights.

        Raises:
            TypeError, ValueError: see `BertModel.forward`.
        """
        if not need_weights:
            pooled = self.bert.pooled(token_ids, segment_ids, mask)
            return tap("logits", self.classifier(self.dropout(pooled)))
        output = self.bert(token_ids, segment_ids, mask, need_weights=True)
        logits = tap("logits", self.classifier(self.dropout(output.pooled)))
        return logits, _below_bert(output.weights)


def _make_layer(config: BertConfig) -> EncoderLayer:
    layer = EncoderLayer(
        config.d_model,
        config.num_heads,
        config.d_ff,
        dropout=config.dropout,
        activation=config.activation,
        norm_eps=config.norm_eps,
    )
    # BERT drops the sublayers' outputs, and nothing inside the feed-forward networks.
    layer.feed_forward.dropout.p = 0.0
    return layer


@torch.no_grad()
def _reset_parameters(model: nn.Module) -> None:
    """Weights of linear maps and embeddings from N(0, 0.02²), biases zero."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=INIT_STD)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)


def _below_bert(weights: dict[str, Tensor] | None) -> dict[str, Tensor]:
    return {f"bert.{name}": value for name, value in (weights or {}).items()}
