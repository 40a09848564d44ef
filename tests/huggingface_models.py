"""Small transformers models with random weights, and what both sides make of one batch.

`CASES` has one of every choice that a family's config offers. transformers draws biases as zeros
and norms as ones; here every parameter is random, so that one which is forgotten shows.
"""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

from lmlib._huggingface import bart, bert, gpt2, llama
from lmlib._huggingface.rows import Row

torch.set_num_threads(1)
logging.getLogger("transformers").setLevel(logging.ERROR)
IGNORED = -100
VOCAB, PAD = 37, 1

BERT = {
    "vocab_size": VOCAB, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
    "intermediate_size": 29, "max_position_embeddings": 17, "pad_token_id": PAD,
}  # fmt: skip
GPT2 = {
    "vocab_size": VOCAB, "n_positions": 19, "n_embd": 24, "n_layer": 2, "n_head": 3,
    "bos_token_id": 2, "eos_token_id": 3,
}  # fmt: skip
LLAMA = {
    "vocab_size": VOCAB, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 29, "max_position_embeddings": 19, "bos_token_id": 2, "eos_token_id": 3,
}  # fmt: skip
GROUPED = {**LLAMA, "num_key_value_heads": 2}
BART = {
    "vocab_size": VOCAB, "d_model": 24, "encoder_layers": 2, "decoder_layers": 1,
    "encoder_attention_heads": 3, "decoder_attention_heads": 3, "encoder_ffn_dim": 29,
    "decoder_ffn_dim": 29, "max_position_embeddings": 17, "pad_token_id": PAD,
    "bos_token_id": 2, "eos_token_id": 3, "decoder_start_token_id": 3,
}  # fmt: skip
MARIAN = {**BART, "decoder_start_token_id": PAD}
UNSHARED = {"share_encoder_decoder_embeddings": False, "tie_word_embeddings": False}

# name → class, config, arguments beside it
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "bert": ("BertModel", BERT, {}),
    "bert without pooler": ("BertModel", BERT, {"add_pooling_layer": False}),
    "bert one head": (
        "BertModel",
        {**BERT, "num_attention_heads": 1, "hidden_act": "gelu_new", "layer_norm_eps": 1e-3},
        {},
    ),
    "bert pre-training": ("BertForPreTraining", {**BERT, "type_vocab_size": 3}, {}),
    "bert pre-training relu": ("BertForPreTraining", {**BERT, "hidden_act": "relu"}, {}),
    "bert masked": ("BertForMaskedLM", BERT, {}),
    "bert classifier": ("BertForSequenceClassification", {**BERT, "num_labels": 5}, {}),
    "gpt2": ("GPT2LMHeadModel", GPT2, {}),
    "gpt2 bare": ("GPT2Model", GPT2, {}),
    "gpt2 untied": (
        "GPT2LMHeadModel",
        {**GPT2, "tie_word_embeddings": False, "n_inner": 31, "activation_function": "gelu"},
        {},
    ),
    "gpt2 relu": (
        "GPT2LMHeadModel",
        {**GPT2, "n_layer": 1, "activation_function": "relu", "layer_norm_epsilon": 1e-2},
        {},
    ),
    "llama": ("LlamaForCausalLM", LLAMA, {}),
    "llama grouped": (
        "LlamaForCausalLM",
        {**GROUPED, "head_dim": 10, "tie_word_embeddings": True, "rms_norm_eps": 1e-2},
        {},
    ),
    "llama biased": (
        "LlamaForCausalLM",
        {**LLAMA, "num_key_value_heads": 1, "attention_bias": True, "mlp_bias": True},
        {},
    ),
    "llama theta": (
        "LlamaForCausalLM",
        {**GROUPED, "rope_parameters": {"rope_type": "default", "rope_theta": 300.0}},
        {},
    ),
    "qwen2": ("Qwen2ForCausalLM", {**GROUPED, "tie_word_embeddings": True}, {}),
    "qwen2 wide heads": (
        "Qwen2ForCausalLM",
        {**GROUPED, "head_dim": 14, "use_sliding_window": True, "sliding_window": 19,
         "max_window_layers": 0},
        {},
    ),
    "qwen2 window unused": (
        "Qwen2ForCausalLM",
        {**LLAMA, "num_key_value_heads": 4, "use_sliding_window": True, "sliding_window": 4,
         "max_window_layers": 2},
        {},
    ),
    "bart": ("BartForConditionalGeneration", BART, {}),
    "bart scaled": (
        "BartForConditionalGeneration",
        {**BART, "scale_embedding": True, "activation_function": "relu", "decoder_layers": 3},
        {},
    ),
    "bart untied": ("BartForConditionalGeneration", {**BART, "tie_word_embeddings": False}, {}),
    "marian": ("MarianMTModel", {**MARIAN, "scale_embedding": True}, {}),
    "marian swish": (
        "MarianMTModel",
        {**MARIAN, "activation_function": "swish", "encoder_layers": 1, "decoder_layers": 2},
        {},
    ),
    "marian odd width": ("MarianMTModel", {**MARIAN, "d_model": 21}, {}),
    "marian other start": ("MarianMTModel", {**MARIAN, "decoder_start_token_id": 4}, {}),
    "marian untied": ("MarianMTModel", {**MARIAN, **UNSHARED}, {}),
}  # fmt: skip


def make(kind: str, config: dict[str, Any], **options: Any) -> Any:
    """A transformers model of that class with random weights, in evaluation mode."""
    cls: Any = getattr(transformers, kind)
    torch.manual_seed(0)
    model = cls(cls.config_class(**config), **options)
    randomize(model)
    return model.eval()


def case(name: str) -> Any:
    """The model of one of `CASES`."""
    kind, config, options = CASES[name]
    return make(kind, config, **options)


@torch.no_grad()
def randomize(model: nn.Module, seed: int = 1) -> None:
    """Random numbers for every parameter that learns, of a size that keeps the signal alive."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue  # Marian's sinusoids
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() > 1:
            parameter.copy_(noise / min(parameter.shape) ** 0.5)
        else:
            parameter.copy_(0.5 + 0.3 * noise)
    bias = getattr(model, "final_logits_bias", None)
    if bias is not None:
        bias.copy_(torch.randn(bias.shape, generator=generator))


class Batch(NamedTuple):
    """What both sides are given."""

    ids: Tensor  # (batch, n), with padding
    real: Tensor  # (batch, n) boolean
    second: Tensor  # (batch, m): segment ids, or what the decoder is to write


def batch(model: Any, padding: str) -> Batch:
    """Ids with padding on one side, or ``"no"``."""
    generator = torch.Generator().manual_seed(5)
    shape, lengths = (3, 9), torch.tensor([[9], [5], [7]])
    ids = torch.randint(5, VOCAB, shape, generator=generator)
    where = torch.arange(shape[1])
    real = torch.ones(shape, dtype=torch.bool)
    if padding != "no":
        real = (where if padding == "right" else where.flip(0)) < lengths
    kinds = getattr(model.config, "type_vocab_size", None)
    if kinds is not None:
        second = torch.randint(0, kinds, shape, generator=generator)
    else:
        second = torch.randint(5, VOCAB, (3, 6), generator=generator)
    return Batch(ids.masked_fill(~real, PAD), real, second)


def labels(given: Batch) -> Tensor:
    """The tokens, without padding and without the first of each row, which nothing predicts."""
    first = given.real & (given.real.cumsum(1) == 1)
    return given.ids.masked_fill(~given.real | first, IGNORED)


class Result(NamedTuple):
    """What comes out: the tensors where tokens are real, and the loss."""

    outputs: list[Tensor]
    loss: Tensor


def theirs(model: Any, given: Batch) -> Result:
    """Through transformers, whose own loss it is wherever it has one."""
    kind, real = type(model).__name__, given.real
    options: dict[str, Any] = {"input_ids": given.ids, "attention_mask": real.long()}
    if kind.startswith("Bert"):
        options["token_type_ids"] = given.second
        if kind == "BertModel":
            out = model(**options)
            tensors = [out.last_hidden_state[real]]
            tensors += [] if out.pooler_output is None else [out.pooler_output]
            return Result(tensors, _any_loss(tensors))
        if kind == "BertForSequenceClassification":
            out = model(**options, labels=torch.tensor([4, 0, 2]))
            return Result([out.logits], out.loss)
        if kind == "BertForMaskedLM":
            out = model(**options, labels=labels(given))
            return Result([out.logits[real]], out.loss)
        out = model(**options, labels=labels(given), next_sentence_label=torch.tensor([1, 0, 1]))
        return Result([out.prediction_logits[real], out.seq_relationship_logits], out.loss)
    if kind in bart.CLASSES:
        out = model(**options, labels=given.second)  # shifted to the right by the model
        return Result([out.logits], out.loss)
    # Where rows begin at different places, transformers is told so by its own `generate`.
    options["position_ids"] = (real.long().cumsum(1) - 1).clamp(min=0)
    if kind == "GPT2Model":
        logits = model(**options).last_hidden_state @ model.wte.weight.T
        return Result([logits[real]], _next_token_loss(logits, labels(given)))
    out = model(**options, labels=labels(given))
    return Result([out.logits[real]], out.loss)


def ours(model: Any, given: Batch, kind: str) -> Result:
    """Through lmlib; ``kind`` is the class of theirs."""
    real = given.real
    if kind.startswith("Bert"):
        out = model(given.ids, given.second, real)
        if kind == "BertModel":
            tensors = [out.hidden[real]] + ([] if out.pooled is None else [out.pooled])
            return Result(tensors, _any_loss(tensors))
        if kind == "BertForSequenceClassification":
            return Result([out], F.cross_entropy(out, torch.tensor([4, 0, 2])))
        loss = F.cross_entropy(out.mlm_logits.flatten(0, 1), labels(given).flatten())
        if kind == "BertForMaskedLM":
            return Result([out.mlm_logits[real]], loss)
        loss = loss + F.cross_entropy(out.nsp_logits, torch.tensor([1, 0, 1]))
        return Result([out.mlm_logits[real], out.nsp_logits], loss)
    if kind in bart.CLASSES:
        logits = model(given.ids, model.shift_right(given.second))
        return Result([logits], F.cross_entropy(logits.flatten(0, 1), given.second.flatten()))
    logits = model(given.ids, real)
    return Result([logits[real]], _next_token_loss(logits, labels(given)))


def _next_token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), targets[:, 1:].flatten())


def _any_loss(tensors: list[Tensor]) -> Tensor:
    """A number that depends on every element differently."""
    total = torch.zeros(())
    for tensor in tensors:
        weights = torch.arange(tensor.numel()).remainder(7).sub(3.0).view(tensor.shape)
        total = total + (tensor * weights).mean()
    return total


def rows(model: Any, kind: str) -> list[Row]:
    """The weight map between a model of lmlib and one of that class."""
    config = model.config
    if kind in bert.CLASSES:
        return bert.rows(config, kind, getattr(model, "bert", model).pooler is not None)
    if kind in gpt2.CLASSES:
        return gpt2.rows(config, "" if kind == "GPT2Model" else "transformer.")
    return (llama if kind in llama.CLASSES else bart).rows(config)
