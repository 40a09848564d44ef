"""Small language models of every family, and what else the tests of generation share."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_models import small_transformer
from torch import Tensor, nn
from torch_reference import randomize

from lmlib.generation import Generation, PortableGenerator
from lmlib.gpt import GPT, GPTConfig
from lmlib.ngram import NGramModel
from lmlib.recurrent import (
    NPLM,
    LSTMConfig,
    LSTMLanguageModel,
    LSTMSeq2Seq,
    NPLMConfig,
    Seq2SeqConfig,
)

V = 30  # as small_transformer
SPECIAL = {"pad_id": 0, "bos_id": 1, "eos_id": 2}
GPTS = ("learned", "rotary", "relative", "sinusoidal", "none")
DECODERS = (*GPTS, "nplm", "lstm", "ngram", "function")
PROMPTS = [[3, 4, 5, 6, 7], [8], [9, 10, 11]]
ENCODER_DECODERS = ("transformer", "rotary transformer", "lstm seq2seq", "function")


def small_gpt(positions: str = "learned", seed: int = 0, **options: Any) -> GPT:
    """A random GPT in float64 whose tokens differ."""
    sizes = {"vocab_size": V, "max_seq_len": 24, "d_model": 16, "num_layers": 2, "num_heads": 4}
    untied = {"tie_embeddings": False, "positions": positions}
    config = GPTConfig(**{**sizes, **SPECIAL, **untied, **options})
    model = GPT(config).double()
    randomize(model, torch.Generator().manual_seed(seed))
    return model.eval()


def plain_function(token_ids: Tensor) -> Tensor:
    """A causal model that is no module: logits from a hash of the last two tokens."""
    before = torch.nn.functional.pad(token_ids, (1, 0))[:, :-1]
    key = (7 * token_ids + 3 * before)[..., None] + 11 * torch.arange(V)
    return (key.double() * 12.9898).sin() * 3


def decoder(name: str) -> Any:
    """The language model of that name."""
    torch.manual_seed(3)
    if name in GPTS:
        return small_gpt(name)
    if name == "function":
        return plain_function
    if name == "ngram":
        text = torch.randint(3, V, (400,), generator=torch.Generator().manual_seed(1)).tolist()
        model = NGramModel(order=3, vocab_size=V, bos_id=1, eos_id=2)
        return model.fit([text[i : i + 20] for i in range(0, 400, 20)])
    module: Any
    if name == "nplm":
        module = NPLM(NPLMConfig(vocab_size=V, order=4, d_model=8, d_hidden=12, **SPECIAL))
    else:
        module = LSTMLanguageModel(LSTMConfig(vocab_size=V, d_model=8, d_hidden=12, **SPECIAL))
    module.double()
    randomize(module, torch.Generator().manual_seed(0))
    return module.eval()


def encoder_decoder(name: str) -> Any:
    """The model of that name, which reads a source."""
    if name == "transformer":
        return small_transformer(max_seq_len=24, tie_embeddings=False)
    if name == "rotary transformer":
        return small_transformer(max_seq_len=24, positions="rotary", tie_embeddings=False)
    if name == "lstm seq2seq":
        config = Seq2SeqConfig(vocab_size=V, d_model=8, d_hidden=12, num_layers=2, **SPECIAL)
        module = LSTMSeq2Seq(config).double()
        randomize(module, torch.Generator().manual_seed(0))
        return module.eval()
    return lambda source, target: plain_function(target) + source.double().sum(1)[:, None, None]


def successor(token_ids: Tensor) -> Tensor:
    """After i comes i + 1, of ten tokens."""
    return 9.0 * nn.functional.one_hot((token_ids + 1) % 10, 10).double()


def seeds(count: int) -> list[PortableGenerator]:
    """A generator for each of so many rows."""
    return [PortableGenerator(seed) for seed in range(count)]


def assert_equal(one: Generation, other: Generation) -> None:
    """The same texts, with the same reasons and, to rounding, the same probabilities."""
    assert one.token_ids == other.token_ids
    assert one.finished == other.finished
    assert one.stop_lengths == other.stop_lengths
    for row, again in zip(one.log_probs, other.log_probs, strict=True):
        assert row == pytest.approx(again, abs=1e-6)
    assert (one.scores is None) == (other.scores is None)
    assert one.scores is None or one.scores == pytest.approx(other.scores, abs=1e-6)
