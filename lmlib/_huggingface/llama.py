"""Today's decoders: `LlamaForCausalLM`, `Qwen2ForCausalLM` ↔ `GPT`."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from lmlib._huggingface.rows import (
    Row,
    cannot,
    over_layers,
    require,
    same,
    special_id,
    to_ours,
    to_theirs,
)
from lmlib._weights import built, fill
from lmlib.gpt import GPT, GPTConfig

CLASSES = ("LlamaForCausalLM", "Qwen2ForCausalLM")


def rows(config: GPTConfig) -> list[Row]:
    """Ours ↔ theirs. Qwen2 has biases in the projections to queries, keys and values alone."""
    maps = ("weight", "bias") if config.bias else ("weight",)
    qkv = ("weight", "bias") if config.bias or config.qkv_bias else ("weight",)
    attention = "layers.{i}.self_attention"
    layer = [
        *same("layers.{i}.norm_1", "model.layers.{i}.input_layernorm", "weight"),
        *same(f"{attention}.W_Q", "model.layers.{i}.self_attn.q_proj", *qkv),
        *same(f"{attention}.W_K", "model.layers.{i}.self_attn.k_proj", *qkv),
        *same(f"{attention}.W_V", "model.layers.{i}.self_attn.v_proj", *qkv),
        *same(f"{attention}.W_O", "model.layers.{i}.self_attn.o_proj", *maps),
        *same("layers.{i}.norm_2", "model.layers.{i}.post_attention_layernorm", "weight"),
        *same("layers.{i}.feed_forward.W_gate", "model.layers.{i}.mlp.gate_proj", *maps),
        *same("layers.{i}.feed_forward.W_up", "model.layers.{i}.mlp.up_proj", *maps),
        *same("layers.{i}.feed_forward.W_down", "model.layers.{i}.mlp.down_proj", *maps),
    ]
    return [
        *same("embedding.weight", "model.embed_tokens.weight"),
        *over_layers(config.num_layers, layer),
        *same("norm.weight", "model.norm.weight"),
        *same("head.weight", "lm_head.weight"),
    ]


def our_config(theirs: Any) -> GPTConfig:
    """The config of the same model.

    Raises:
        ValueError: they have something that `GPT` has not.
    """
    require(theirs, "hidden_act", "silu", "swish")
    if theirs.model_type == "qwen2":
        bias, qkv_bias = False, True
        _check_sliding_window(theirs)
    else:
        bias, qkv_bias = bool(getattr(theirs, "mlp_bias", False)), None
        # One switch of ours is both of theirs.
        require(theirs, "attention_bias", bias, default=False)
    d_model, num_heads = theirs.hidden_size, theirs.num_attention_heads
    head_dim = getattr(theirs, "head_dim", None) or d_model // num_heads
    vocab_size = theirs.vocab_size
    return GPTConfig.llama(
        vocab_size=vocab_size,
        max_seq_len=theirs.max_position_embeddings,
        d_model=d_model,
        num_layers=theirs.num_hidden_layers,
        num_heads=num_heads,
        num_kv_heads=theirs.num_key_value_heads,
        d_head=None if head_dim * num_heads == d_model else head_dim,
        d_ff=theirs.intermediate_size,
        rotary_base=float(_rope_theta(theirs)),
        norm_eps=theirs.rms_norm_eps,
        tie_embeddings=theirs.tie_word_embeddings,
        bias=bias,
        qkv_bias=qkv_bias,
        bos_id=special_id(theirs, "bos_token_id", vocab_size),
        eos_id=special_id(theirs, "eos_token_id", vocab_size),
        pad_id=special_id(theirs, "pad_token_id", vocab_size),
    )


def _rope_theta(config: Any) -> float:
    """The base of the rotary positions, unscaled ones: transformers 4 has a field of its own for
    it and maybe ``rope_scaling``, transformers 5 both in ``rope_parameters``."""
    field = "rope_parameters" if hasattr(config, "rope_parameters") else "rope_scaling"
    options = getattr(config, field, None) or {}
    kind = options.get("rope_type", options.get("type", "default"))
    if kind != "default":
        raise cannot(config, field, options, [{"rope_type": "default"}])
    for partial in (options, vars(config)):
        if partial.get("partial_rotary_factor") not in (None, 1.0):
            raise cannot(config, "partial_rotary_factor", partial["partial_rotary_factor"], [1.0])
    theta: float = options.get("rope_theta") or getattr(config, "rope_theta", None) or 10000.0
    return theta


def _check_sliding_window(config: Any) -> None:
    """A window that some layer has, and that is shorter than the longest sequence, is in effect."""
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        first = config.max_window_layers if config.use_sliding_window else config.num_hidden_layers
        slides = first < config.num_hidden_layers
    else:
        slides = "sliding_attention" in kinds
    if slides and window is not None and window < config.max_position_embeddings:
        raise cannot(config, "sliding_window", window, [None])


def to_lmlib(theirs: nn.Module) -> nn.Module:
    """`GPT` with their weights."""
    ours = our_config(theirs.config)
    tensors = to_ours(rows(ours), theirs.state_dict())
    model = built(lambda: GPT(ours))
    fill(model, tensors, "the transformers model")
    return model


def from_lmlib(model: GPT) -> tuple[nn.Module, dict[str, Tensor]]:
    """An untrained model of theirs of the same shape, and the weights that it is to get.

    It is a Qwen2 if queries, keys and values alone have a bias, else a Llama.
    """
    import transformers

    config = model.config
    for field, value in (
        ("positions", "rotary"),
        ("norm", "rmsnorm"),
        ("feed_forward", "swiglu"),
        ("norm_first", True),
    ):
        require(config, field, value)
    is_qwen = bool(config.qkv_bias) and not config.bias
    if not is_qwen:
        require(config, "qkv_bias", None, config.bias)
    parts: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.max_seq_len,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads or config.num_heads,
        "head_dim": config.head_width,
        "intermediate_size": config.ff_width,
        # The spelling of transformers 4, which transformers 5 moves into ``rope_parameters``.
        "rope_theta": config.rotary_base,
        "rms_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tie_embeddings,
        "bos_token_id": config.bos_id,
        "eos_token_id": config.eos_id,
        "pad_token_id": config.pad_id,
    }
    tensors = to_theirs(rows(config), model.state_dict())
    if is_qwen:
        qwen = transformers.Qwen2Config(**parts)
        return built(lambda: transformers.Qwen2ForCausalLM(qwen)), tensors
    if config.d_model % config.num_heads:
        raise cannot(config, "num_heads", config.num_heads, ["a divisor of d_model"])
    llama = transformers.LlamaConfig(**parts, attention_bias=config.bias, mlp_bias=config.bias)
    return built(lambda: transformers.LlamaForCausalLM(llama)), tensors
