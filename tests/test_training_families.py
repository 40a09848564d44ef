"""One loop for every model of the book: each family learns a batch by heart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from training_scripts.small_runs import random_ids, small_gpt

from lmlib.bert import (
    BertConfig,
    BertForPreTraining,
    BertForSequenceClassification,
    MaskingCollator,
    NextSentenceCollator,
    bert_loss,
    next_sentence_pairs,
)
from lmlib.gpt import GPT, GPTConfig
from lmlib.recurrent import (
    NPLM,
    LSTMConfig,
    LSTMLanguageModel,
    LSTMSeq2Seq,
    NPLMConfig,
    Seq2SeqConfig,
)
from lmlib.training import (
    Batches,
    TrainConfig,
    classification_loss,
    language_model_loss,
    seq2seq_loss,
    train,
)
from lmlib.transformer import Transformer, TransformerConfig

torch.set_num_threads(1)
V = 20
BERT = BertConfig(
    vocab_size=V, d_model=16, num_layers=1, num_heads=2, d_ff=32, max_seq_len=16,
    cls_id=1, sep_id=2, mask_id=3,
)  # fmt: skip


def pair_batches() -> Batches:
    """Masks and pairs are drawn by the generator that Batches gives."""
    documents = [[row.tolist() for row in random_ids(3, 4, seed=s) + 3] for s in range(3)]
    documents = [[[min(i, V - 1) for i in row] for row in rows] for rows in documents]
    pairs = next_sentence_pairs(documents, torch.Generator().manual_seed(0))
    masking = MaskingCollator(V, 3, (1, 2), at_least_one=True)
    collate = NextSentenceCollator(masking, cls_id=1, sep_id=2)
    return Batches(pairs, len(pairs), collate=collate, shuffle=False)


def translation() -> list[Any]:
    return [(random_ids(4, 6).clamp(min=3), random_ids(4, 5, seed=1).clamp(min=3))]


def text() -> list[Any]:
    return [random_ids(4, 8).clamp(min=3)]


FAMILIES: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any], Any]] = {
    "gpt": (lambda: small_gpt(torch.float32), text, language_model_loss),
    "llama": (
        lambda: GPT(GPTConfig.llama(vocab_size=V, d_model=16, num_layers=1, num_heads=2)),
        text,
        language_model_loss,
    ),
    "nplm": (lambda: NPLM(NPLMConfig(vocab_size=V)), text, language_model_loss),
    "lstm": (lambda: LSTMLanguageModel(LSTMConfig(vocab_size=V)), text, language_model_loss),
    "lstm seq2seq": (
        lambda: LSTMSeq2Seq(Seq2SeqConfig(vocab_size=V)),
        translation,
        seq2seq_loss,
    ),
    "transformer": (
        lambda: Transformer(
            TransformerConfig(vocab_size=V, d_model=16, num_heads=2, d_ff=32, dropout=0.0)
        ),
        translation,
        seq2seq_loss,
    ),
    "bert": (lambda: BertForPreTraining(BERT), pair_batches, bert_loss),
    "bert classifier": (
        lambda: BertForSequenceClassification(BERT, 2),
        lambda: [(random_ids(6, 5).clamp(min=4), torch.tensor([0, 1, 0, 1, 1, 0]))],
        classification_loss,
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_of_each_family_learns(family: str) -> None:
    torch.manual_seed(0)
    make, batches, loss_fn = FAMILIES[family]
    config = TrainConfig(max_steps=40, learning_rate=0.01, warmup_steps=5, log_every=1)
    result = train(make(), batches(), config, loss_fn=loss_fn)
    assert result.history[-1]["loss"] < 0.8 * result.history[0]["loss"]
