"""What shapes a BERT; use it as `lmlib.bert.BertConfig`."""

from __future__ import annotations

from dataclasses import dataclass

from lmlib._checks import (
    check_choice,
    check_divisible,
    check_not_negative,
    check_positive,
    check_probability,
    check_special_id,
)
from lmlib._feed_forward import ACTIVATIONS


@dataclass(frozen=True)
class BertConfig:
    """Everything that fixes the shape of a BERT. The defaults are BERT-base, Chinese (102 M).

    Attributes:
        vocab_size: number of tokens.
        d_model: width of a token's vector.
        num_layers: how many layers are stacked.
        num_heads: number of attention heads.
        d_ff: width inside the feed-forward networks.
        max_seq_len: the longest sequence to accept, special tokens included.
        num_segments: kinds of segments (sentence A, sentence B); 0 for a model without segment
            embeddings (as DistilBERT), 1 where all tokens share one (as RoBERTa).
        dropout: rate at which the normed sum of embeddings, attention weights, the output of each
            sublayer and what a classifier reads are dropped in training.
        norm_eps: ε of the LayerNorms.
        activation: of the feed-forward networks and the MLM head: "gelu", "gelu_tanh", "relu"
            or "silu".
        pad_id: the id that fills short sequences up; None: the vocabulary has none.
        cls_id, sep_id, mask_id: the other special tokens, where the vocabulary has them.

    Raises:
        TypeError, ValueError: a value is not allowed, or two do not fit each other.
    """

    vocab_size: int = 21128
    d_model: int = 768
    num_layers: int = 12
    num_heads: int = 12
    d_ff: int = 3072
    max_seq_len: int = 512
    num_segments: int = 2
    dropout: float = 0.1
    norm_eps: float = 1e-12
    activation: str = "gelu"
    pad_id: int | None = 0
    cls_id: int | None = None
    sep_id: int | None = None
    mask_id: int | None = None

    def __post_init__(self) -> None:
        for name in ("vocab_size", "d_model", "num_layers", "num_heads", "d_ff", "max_seq_len"):
            check_positive(name, getattr(self, name))
        check_not_negative("num_segments", self.num_segments)
        check_divisible("d_model", self.d_model, "num_heads", self.num_heads)
        check_probability("dropout", self.dropout)
        if not self.norm_eps > 0.0:
            raise ValueError(f"norm_eps must be above 0, got {self.norm_eps}")
        check_choice("activation", self.activation, ACTIVATIONS)
        for name in ("pad_id", "cls_id", "sep_id", "mask_id"):
            index = getattr(self, name)
            if index is not None:
                check_special_id(name, index, self.vocab_size)
