"""Small models of `lmlib.recurrent` for the tests, in float64, and token ids for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lmlib.recurrent import (
    NPLM,
    LSTMConfig,
    LSTMLanguageModel,
    LSTMSeq2Seq,
    NPLMConfig,
    Seq2SeqConfig,
)

V, BOS, EOS, PAD = 11, 1, 2, 0


def nplm(**options: Any) -> NPLM:
    torch.manual_seed(0)
    config = {"vocab_size": V, "order": 4, "d_model": 3, "d_hidden": 5, **options}
    return NPLM(NPLMConfig(**config)).double().eval()


def lstm(**options: Any) -> LSTMLanguageModel:
    torch.manual_seed(0)
    config = {"vocab_size": V, "d_model": 4, "d_hidden": 6, "num_layers": 2, **options}
    return LSTMLanguageModel(LSTMConfig(**config)).double().eval()


def seq2seq(**options: Any) -> LSTMSeq2Seq:
    torch.manual_seed(0)
    config = {"vocab_size": V, "d_model": 4, "d_hidden": 6, "num_layers": 2, **options}
    return LSTMSeq2Seq(Seq2SeqConfig(**config)).double().eval()


def ids(batch: int, n: int, seed: int = 0) -> Tensor:
    return torch.randint(3, V, (batch, n), generator=torch.Generator().manual_seed(seed))


def loud(model: Any) -> Any:
    """The same model with larger weights, so that what it writes depends on what it reads."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8)
    return model
