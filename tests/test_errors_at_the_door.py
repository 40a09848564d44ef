"""Bad input is met at the door: one row each, what is called, the error, its whole sentence.

Each module's own tests have more of them; these are the promises that hold across the package.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import lmlib
from lmlib.attention import MultiHeadAttention
from lmlib.attention import scaled_dot_product_attention as sdpa
from lmlib.bert import BertConfig, BertModel
from lmlib.generation import (
    beam_search,
    generate,
    sample,
    speculative_generate,
    stream,
    temperature_filter,
    top_p_filter,
)
from lmlib.gpt import GPT, GPTConfig
from lmlib.layers import EncoderLayer, FeedForward, make_norm
from lmlib.metrics import bleu, perplexity
from lmlib.ngram import NGramModel
from lmlib.positions import LearnedPositionalEmbedding, RotaryEmbedding
from lmlib.pretrained import from_huggingface, load_pretrained, load_tokenizer, save_pretrained
from lmlib.recurrent import (
    NPLM,
    LSTMConfig,
    LSTMLanguageModel,
    LSTMSeq2Seq,
    NPLMConfig,
    Seq2SeqConfig,
)
from lmlib.tokenizers import BPETokenizer, CharTokenizer, WordPieceTokenizer
from lmlib.trace import trace
from lmlib.training import Batches, TrainConfig
from lmlib.transformer import Transformer, TransformerConfig

V, T = ValueError, TypeError
Row = tuple[Callable[[], object], type[Exception], str]


def ids(n: int, token_id: int = 5) -> Tensor:
    """One row of n equal tokens."""
    return torch.full((1, n), token_id)


def mask(*shape: int) -> Tensor:
    return torch.ones(shape, dtype=torch.bool)


# Twelve tokens, 0 to 11, and at most six of them in a sequence.
gpt = GPT(GPTConfig(vocab_size=12, max_seq_len=6, d_model=8, num_layers=1, num_heads=2))
transformer = Transformer(TransformerConfig(12, d_model=8, num_heads=2, d_ff=12, max_seq_len=6))
bert = BertModel(BertConfig(12, d_model=8, num_layers=1, num_heads=2, d_ff=12, max_seq_len=6))
nplm = NPLM(NPLMConfig(12))
lstm = LSTMLanguageModel(LSTMConfig(12))
seq2seq = LSTMSeq2Seq(Seq2SeqConfig(12))
attention = MultiHeadAttention(8, 2)
X = LOGITS = torch.zeros(1, 3, 8)
NUMBERS = torch.ones(1, 3)  # no mask


def write(prompt: Any = (1, 2), **options: Any) -> object:
    return generate(gpt, prompt, **{"max_new_tokens": 2, **options})


def ngram(**options: Any) -> NGramModel:
    return NGramModel(**{"order": 2, "vocab_size": 5, "bos_id": 1, "eos_id": 2, **options})


# ------------------------------------------------------------------ the vocabulary

OUTSIDE = "must hold ids from 0 to 11, got 12"
UNKNOWN = "must be below vocab_size=12 and not negative, got 12"
VOCABULARY: list[Row] = [
    (lambda: gpt(ids(3, 12)), V, f"token_ids {OUTSIDE}"),
    (lambda: bert(ids(3, 12)), V, f"token_ids {OUTSIDE}"),
    (lambda: nplm(ids(3, 12)), V, f"token_ids {OUTSIDE}"),
    (lambda: lstm(ids(3, 12)), V, f"token_ids {OUTSIDE}"),
    (lambda: transformer(ids(3, 12), ids(3)), V, f"source {OUTSIDE}"),
    (lambda: transformer(ids(3), ids(3, 12)), V, f"target_in {OUTSIDE}"),
    (lambda: seq2seq(ids(3, 12), ids(3)), V, f"source {OUTSIDE}"),
    (lambda: seq2seq(ids(3), ids(3, 12)), V, f"target_in {OUTSIDE}"),
    (lambda: write([12]), V, f"token_ids {OUTSIDE}"),
    (lambda: write(eos_id=12), V, f"eos_id {OUTSIDE}"),
    (lambda: gpt(ids(3, -1)), V, "token_ids must hold ids from 0 to 11, got -1"),
    (lambda: bert(ids(3), ids(3, 2)), V, "segment_ids must hold ids from 0 to 1, got 2"),
    (lambda: ngram().fit([[9]]), V, "sequences must hold ids from 0 to 4, got 9"),
    (lambda: perplexity(LOGITS, ids(3, 9)), V, "targets must hold ids from 0 to 7, got 9"),
    (lambda: GPTConfig(vocab_size=12, eos_id=12), V, f"eos_id {UNKNOWN}"),
    (lambda: TransformerConfig(12, bos_id=12), V, f"bos_id {UNKNOWN}"),
    (lambda: gpt(ids(3).float()), T, "token_ids must hold integer token ids, got torch.float32"),
    (lambda: gpt([[1, 2]]), T, "token_ids must be a torch.Tensor of token ids, got list"),
    (lambda: gpt(ids(3)[0]), V, "token_ids must have shape (batch, n), got (3,)"),
    (lambda: gpt(ids(3).to("meta")), V, "token_ids must be on cpu like the model, got meta"),
]

# ------------------------------------------------------------------ too long, and empty

LONG = "must have 1 to max_seq_len=6 tokens, got 7"
EMPTY = "must have at least 1 token, got shape (1, 0)"
LENGTHS: list[Row] = [
    (lambda: gpt(ids(7)), V, f"token_ids {LONG}"),
    (lambda: bert(ids(7)), V, f"token_ids {LONG}"),
    (lambda: transformer(ids(7), ids(1)), V, f"source {LONG}"),
    (lambda: transformer(ids(1), ids(7)), V, f"target_in {LONG}"),
    (
        lambda: write([1, 2, 3], max_new_tokens=4),
        V,
        "prompt and max_new_tokens must fit into max_seq_len=6, got 3 + 4",
    ),
    *(
        (
            lambda module=module: module(X),
            V,
            "the sequence must end within max_seq_len=2, got offset=0 and 3 positions",
        )
        for module in (LearnedPositionalEmbedding(2, 8), RotaryEmbedding(8, 2))
    ),
    (lambda: gpt(ids(0)), V, "token_ids must have 1 to max_seq_len=6 tokens, got 0"),
    (lambda: bert(ids(0)), V, "token_ids must have 1 to max_seq_len=6 tokens, got 0"),
    (lambda: lstm(ids(0)), V, f"token_ids {EMPTY}"),
    (lambda: nplm(ids(0)), V, f"token_ids {EMPTY}"),
    *(
        (call, V, "prompt must hold at least one token in each row, got an empty one (row 0)")
        for call in (
            lambda: write([]),
            lambda: sample(gpt, [], max_new_tokens=1),
            lambda: stream(gpt, [[], [1]], max_new_tokens=1),
            lambda: beam_search(gpt, [], max_new_tokens=1),
            lambda: speculative_generate(gpt, gpt, [], max_new_tokens=1),
        )
    ),
    (lambda: write(None), V, "prompt must be given, for the model's config has no bos_id"),
    (
        lambda: write("你好"),
        T,
        "prompt must be token ids, a list of such rows or an integer tensor, got str",
    ),
    (lambda: bleu([], []), V, "hypotheses must hold at least one text, got none"),
    (lambda: Batches([], batch_size=2), V, "dataset must have at least one example, got none"),
    (lambda: transformer.shift_right(ids(0)), V, f"target {EMPTY}"),
]

# ------------------------------------------------------------------ sizes that do not fit

UNEVEN = "d_model must be divisible by num_heads, got d_model=10, num_heads=4"
SIZES: list[Row] = [
    (lambda: MultiHeadAttention(10, 4), V, UNEVEN),
    (lambda: EncoderLayer(10, 4, 8), V, UNEVEN),
    (lambda: GPTConfig(d_model=10, num_heads=4), V, UNEVEN),
    (lambda: BertConfig(d_model=10, num_heads=4), V, UNEVEN),
    (lambda: TransformerConfig(12, d_model=10, num_heads=4), V, UNEVEN),
    (
        lambda: GPTConfig(num_kv_heads=5),
        V,
        "num_heads must be divisible by num_kv_heads, got num_heads=12, num_kv_heads=5",
    ),
    (lambda: RotaryEmbedding(5), V, "d_head must be even, for coordinates turn in pairs, got 5"),
    (lambda: GPTConfig(num_layers=0), V, "num_layers must be at least 1, got 0"),
    (lambda: GPTConfig(d_model=8.0), T, "d_model must be an int, got float"),
    (lambda: ngram(order=0), V, "order must be at least 1, got 0"),
    (lambda: TrainConfig(epochs=0), V, "epochs must be at least 1, got 0"),
]

# ------------------------------------------------------------------ masks

WIDER = "must be broadcastable to"
NOT_BOOLEAN = "must be boolean (True = may look at), got torch.float32"
NO_TOKEN_MASK = "mask must be boolean (True = no padding), got torch.float32"
OTHER_SHAPE = "mask must have the shape of token_ids, (1, 3), got (1, 2)"
MASKS: list[Row] = [
    (lambda: attention(X, mask=NUMBERS[0]), T, f"mask {NOT_BOOLEAN}"),
    (lambda: sdpa(X, X, X, NUMBERS[0]), T, f"mask {NOT_BOOLEAN}"),
    (lambda: transformer.encode(ids(3), NUMBERS), T, f"source_mask {NOT_BOOLEAN}"),
    (lambda: attention(X, mask=mask(2, 2)), V, f"mask {WIDER} (1, 2, 3, 3), got (2, 2)"),
    (lambda: sdpa(X, X, X, mask(2, 2)), V, f"mask {WIDER} (1, 3, 3), got (2, 2)"),
    (
        lambda: transformer.encode(ids(3), mask(1, 1, 1, 2)),
        V,
        f"source_mask {WIDER} (1, 2, 3, 3), got (1, 1, 1, 2)",
    ),
    (lambda: gpt(ids(3), NUMBERS), T, NO_TOKEN_MASK),
    (lambda: lstm(ids(3), NUMBERS), T, NO_TOKEN_MASK),
    (lambda: nplm(ids(3), NUMBERS), T, NO_TOKEN_MASK),
    (lambda: bert(ids(3), None, NUMBERS), T, "mask must be a boolean tensor, got torch.float32"),
    (lambda: gpt(ids(3), mask(1, 2)), V, OTHER_SHAPE),
    (lambda: bert(ids(3), None, mask(1, 2)), V, OTHER_SHAPE),
    (lambda: lstm(ids(3), mask(1, 2)), V, OTHER_SHAPE),
    (lambda: nplm(ids(3), mask(1, 2)), V, OTHER_SHAPE),
]

# ------------------------------------------------------------------ chance

RATE = "must be at least 0 and below 1, got 1.0"
SHARE = "must be above 0 and at most 1, got 0.0"
COLD = "temperature must be above 0, got 0.0; for temperature 0 use greedy_search"
CHANCE: list[Row] = [
    (lambda: write(temperature=0.0), V, COLD),
    (lambda: sample(gpt, [1], max_new_tokens=1, temperature=0.0), V, COLD),
    (lambda: stream(gpt, [1], max_new_tokens=1, temperature=0.0), V, COLD),
    (lambda: speculative_generate(gpt, gpt, [1], max_new_tokens=1, temperature=0.0), V, COLD),
    (lambda: temperature_filter(LOGITS, 0.0), V, COLD),
    (lambda: write(temperature=-1.0), V, "temperature must be above 0, got -1.0"),
    (lambda: write(top_p=0.0), V, f"top_p {SHARE}"),
    (lambda: write(top_p=1.5), V, "top_p must be above 0 and at most 1, got 1.5"),
    (lambda: top_p_filter(LOGITS, 0.0), V, f"top_p {SHARE}"),
    (lambda: write(min_p=0.0), V, f"min_p {SHARE}"),
    (lambda: write(top_k=0), V, "top_k must be at least 1, got 0"),
    (lambda: write(repetition_penalty=0.0), V, "repetition_penalty must be above 0, got 0.0"),
    (lambda: write(num_beams=0), V, "num_beams must be at least 1, got 0"),
    (lambda: write(max_new_tokens=0), V, "max_new_tokens must be at least 1, got 0"),
    (
        lambda: write(suppress=range(12)),
        V,
        "suppress must leave at least one of the 12 tokens, got all",
    ),
    (lambda: GPTConfig(dropout=1.0), V, f"dropout {RATE}"),
    (lambda: TrainConfig(epochs=1, label_smoothing=1.0), V, f"label_smoothing {RATE}"),
    (lambda: lmlib.seed_everything(-1), V, "seed must be an integer from 0 to 2**32 - 1, got -1"),
]

# ------------------------------------------------------------------ choices

ACTIVATION = "activation must be one of ['relu', 'gelu', 'gelu_tanh', 'silu'], got 'tanh'"
CHOICES: list[Row] = [
    (lambda: FeedForward(8, 8, activation="tanh"), V, ACTIVATION),
    (lambda: GPTConfig(activation="tanh"), V, ACTIVATION),
    (lambda: BertConfig(activation="tanh"), V, ACTIVATION),
    (
        lambda: make_norm("batchnorm", 8, 1e-5, True),
        V,
        "norm must be one of ['layernorm', 'rmsnorm'], got 'batchnorm'",
    ),
    (
        lambda: EncoderLayer(8, 2, 8, feed_forward="moe"),
        V,
        "feed_forward must be one of ['ffn', 'swiglu'], got 'moe'",
    ),
    (
        lambda: GPTConfig(positions="alibi"),
        V,
        "positions must be one of ['learned', 'rotary', 'sinusoidal', 'relative', 'none'], "
        "got 'alibi'",
    ),
    (
        lambda: ngram(smoothing="magic"),
        V,
        "smoothing must be one of ['mle', 'add_k', 'kneser_ney'], got 'magic'",
    ),
    (
        lambda: write(on_overflow="wrap"),
        V,
        "on_overflow must be one of ['error', 'slide'], got 'wrap'",
    ),
    (lambda: lmlib.device("tpu"), V, "prefer must be one of cuda, mps, cpu, got 'tpu'"),
    (lambda: trace(gpt, ids(3)), T, "model must be a Transformer, got GPT"),
    (
        lambda: from_huggingface(3),
        T,
        "source must be a model of transformers, a directory or a name on the hub, got int",
    ),
]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [*VOCABULARY, *LENGTHS, *SIZES, *MASKS, *CHANCE, *CHOICES],
)
def test_bad_input(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    assert str(caught.value) == message


# ------------------------------------------------------------------ files


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def damage(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (
            cut,
            ValueError,
            "{weights} has 5772 bytes, but {config} says 5872: "
            "it is cut off, or belongs to another model",
        ),
        (
            damage,
            ValueError,
            "{weights} has another SHA-256 than {config} says: "
            "it is damaged, or belongs to another model",
        ),
        (Path.unlink, FileNotFoundError, "{weights} is missing, which {config} speaks of"),
    ],
)
def test_bad_weights(
    tmp_path: Path, spoil: Callable[[Path], object], error: type[Exception], message: str
) -> None:
    save_pretrained(gpt, tmp_path)
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    spoil(weights)
    with pytest.raises(error) as caught:
        load_pretrained(tmp_path)
    assert str(caught.value) == message.format(weights=weights, config=config)


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        (CharTokenizer, "{}", 'is not a character vocabulary: "type" must be "char"'),
        (WordPieceTokenizer, "{}", 'is not a WordPiece vocabulary: "type" must be "wordpiece"'),
        (BPETokenizer, "x", "is not a JSON file: Expecting value: line 1 column 1 (char 0)"),
    ],
)
def test_bad_tokenizer_files(tmp_path: Path, kind: Any, content: str, message: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=f"^{re.escape(f'{path} {message}')}$"):
        kind.load(path)


def test_no_tokenizer(tmp_path: Path) -> None:
    save_pretrained(gpt, tmp_path)
    with pytest.raises(ValueError, match="this model was saved without a tokenizer"):
        load_tokenizer(tmp_path)
