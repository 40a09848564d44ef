"""Greedy and beam search write the tokens of transformers' generate, with and without caches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lmlib.generation import Generation, generate, sample
from lmlib.gpt import GPT, GPTConfig

torch.set_num_threads(1)
V, D, LAYERS, HEADS, LENGTH = 61, 24, 2, 4, 96
PAD, BOS, EOS = 0, 1, 2
NEW = 50
SPECIAL = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}


def copy(mine: nn.Linear, weight: Tensor, bias: Tensor | None = None) -> None:
    mine.weight.copy_(weight)
    assert (mine.bias is None) == (bias is None)
    if bias is not None:
        mine.bias.copy_(bias)


@torch.no_grad()
def gpt2_pair() -> tuple[GPT, Any]:
    """A GPT-2 of ours and one of transformers with the same random weights."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=V, n_positions=LENGTH, n_embd=D, n_layer=LAYERS, n_head=HEADS,
        initializer_range=0.4, **SPECIAL,
    )  # fmt: skip
    theirs = GPT2LMHeadModel(config).eval()
    # Drawn here: what it draws itself is not the same in each version of transformers.
    generator = torch.Generator().manual_seed(1)
    for parameter in theirs.parameters():
        if parameter.dim() == 2:
            parameter.normal_(0.0, config.initializer_range, generator=generator)
    sizes = {"vocab_size": V, "max_seq_len": LENGTH, "d_model": D, "num_layers": LAYERS}
    ids = {"pad_id": PAD, "bos_id": BOS, "eos_id": EOS}
    mine = GPT(GPTConfig.gpt2(**sizes, num_heads=HEADS, **ids)).eval()
    stack = theirs.transformer
    mine.embedding.weight.copy_(stack.wte.weight)
    mine.get_parameter("positions.weight").copy_(stack.wpe.weight)
    mine.norm.load_state_dict(stack.ln_f.state_dict())
    for layer, block in zip(mine.layers, stack.h, strict=True):
        layer.norm_1.load_state_dict(block.ln_1.state_dict())
        layer.norm_2.load_state_dict(block.ln_2.state_dict())
        attention, weight, bias = layer.self_attention, *block.attn.c_attn.parameters()
        for i, linear in enumerate((attention.W_Q, attention.W_K, attention.W_V)):
            copy(linear, weight.T.split(D)[i], bias.split(D)[i])
        for linear, conv in (
            (attention.W_O, block.attn.c_proj),
            (layer.feed_forward.W_1, block.mlp.c_fc),
            (layer.feed_forward.W_2, block.mlp.c_proj),
        ):
            copy(linear, conv.weight.T, conv.bias)
    return mine, theirs


@torch.no_grad()
def llama_pair() -> tuple[GPT, Any]:
    """The same for a Llama with grouped heads."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=V, max_position_embeddings=LENGTH, hidden_size=D, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=2, intermediate_size=40,
        initializer_range=0.4, rms_norm_eps=1e-5, **SPECIAL,
    )  # fmt: skip
    theirs = LlamaForCausalLM(config).eval()
    sizes = {"vocab_size": V, "max_seq_len": LENGTH, "d_model": D, "num_layers": LAYERS, "d_ff": 40}
    ids = {"pad_id": PAD, "bos_id": BOS, "eos_id": EOS}
    mine = GPT(GPTConfig.llama(**sizes, num_heads=HEADS, num_kv_heads=2, **ids)).eval()
    mine.embedding.weight.copy_(theirs.model.embed_tokens.weight)
    copy(mine.head, theirs.lm_head.weight)
    mine.norm.weight.copy_(theirs.model.norm.weight)
    for layer, block in zip(mine.layers, theirs.model.layers, strict=True):
        layer.norm_1.weight.copy_(block.input_layernorm.weight)
        layer.norm_2.weight.copy_(block.post_attention_layernorm.weight)
        attention, forward = layer.self_attention, layer.feed_forward
        for linear, name in (("W_Q", "q"), ("W_K", "k"), ("W_V", "v"), ("W_O", "o")):
            copy(getattr(attention, linear), getattr(block.self_attn, f"{name}_proj").weight)
        for linear, name in (("W_gate", "gate"), ("W_up", "up"), ("W_down", "down")):
            copy(getattr(forward, linear), getattr(block.mlp, f"{name}_proj").weight)
    return mine, theirs


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def pair(request: pytest.FixtureRequest) -> tuple[GPT, Any]:
    return gpt2_pair() if request.param == "gpt2" else llama_pair()


def prompts(seed: int, batch: int = 3, n: int = 7) -> Tensor:
    return torch.randint(3, V, (batch, n), generator=torch.Generator().manual_seed(seed))


def theirs_generate(model: Any, ids: Tensor, mask: Tensor | None = None, **options: Any) -> Any:
    options = {"max_new_tokens": NEW, "do_sample": False, **options}
    mask = torch.ones_like(ids) if mask is None else mask.long()
    names = {"num_return": "num_return_sequences", "suppress": "suppress_tokens"}
    options = {names.get(name, name): value for name, value in options.items()}
    return model.generate(
        ids, attention_mask=mask, return_dict_in_generate=True, output_scores=True, **options
    )


def assert_same(mine: Generation, theirs: Any, n: int) -> None:
    """The same new tokens; behind an end theirs is filled up."""
    rows = theirs.sequences[:, n:].tolist()
    assert len(mine.token_ids) == len(rows)
    for row, other, why in zip(mine.token_ids, rows, mine.finished, strict=True):
        assert row == other[: len(row)]
        assert set(other[len(row) :]) <= {PAD, EOS}
        assert why == ("eos" if row[-1] == EOS else "length")
        assert EOS not in row[:-1]
        assert why == "eos" or len(row) == NEW
    if mine.scores is not None:
        torch.testing.assert_close(
            torch.tensor(mine.scores), theirs.sequences_scores, rtol=1e-4, atol=1e-5
        )


OPTIONS: list[dict[str, Any]] = [
    {},
    {"repetition_penalty": 1.5},
    {"suppress": [EOS, 5]},
    {"num_beams": 4},
    {"num_beams": 3, "num_return": 3, "length_penalty": 0.3, "early_stopping": True},
    {"num_beams": 5, "length_penalty": -1.0, "early_stopping": "never"},
    {"num_beams": 5, "length_penalty": 2.0, "early_stopping": "never", "num_return": 2},
    {"num_beams": 2, "length_penalty": 0.0},
    {"num_beams": 3, "length_penalty": 2.0, "early_stopping": True},
    {"num_beams": 4, "repetition_penalty": 1.7, "num_return": 4},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_same_tokens(pair: tuple[GPT, Any], options: dict[str, Any]) -> None:
    mine, theirs = pair
    ids = prompts(seed=2)
    reference = theirs_generate(theirs, ids, **options)
    for use_cache in (True, False):
        written = generate(mine, ids, max_new_tokens=NEW, use_cache=use_cache, **options)
        assert_same(written, reference, ids.shape[1])


def test_these_prompts_reach_both_ends() -> None:
    mine, _ = gpt2_pair()
    written = generate(mine, prompts(seed=2), max_new_tokens=NEW, num_beams=3, num_return=3)
    assert set(written.finished) == {"eos", "length"}


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}], ids=str)
def test_left_padding_is_transformers_left_padding(
    pair: tuple[GPT, Any], options: dict[str, Any]
) -> None:
    mine, theirs = pair
    rows = [prompts(seed=3, batch=1, n=n)[0].tolist() for n in (2, 7, 5)]
    ids = torch.tensor([[PAD] * (7 - len(row)) + row for row in rows])
    mask = torch.arange(7) >= 7 - torch.tensor([[len(row)] for row in rows])
    reference = theirs_generate(theirs, ids, mask, **options)
    assert_same(generate(mine, rows, max_new_tokens=NEW, **options), reference, 7)


def test_log_probs_are_transformers(pair: tuple[GPT, Any]) -> None:
    mine, theirs = pair
    ids = prompts(seed=4)
    reference = theirs_generate(theirs, ids, output_logits=True)
    logits = torch.stack(reference.logits, dim=1)
    written = generate(mine, ids, max_new_tokens=NEW)
    for row, log_probs, scores in zip(
        written.token_ids, written.log_probs, logits.log_softmax(-1), strict=True
    ):
        expected = [scores[step, token_id].item() for step, token_id in enumerate(row)]
        assert log_probs == pytest.approx(expected, abs=1e-4)


def test_samples_have_transformers_distributions(pair: tuple[GPT, Any]) -> None:
    """Draws differ, but each token drawn must be one that transformers' filters left."""
    mine, theirs = pair
    filters = {"temperature": 1.3, "top_k": 9, "top_p": 0.8, "min_p": 0.05}
    options = {**filters, "repetition_penalty": 1.4}
    ids = prompts(seed=5, batch=1)
    generator = torch.Generator().manual_seed(0)
    written = sample(
        mine, ids, max_new_tokens=20, generator=generator, eos_id=(), **options
    ).token_ids[0]
    text = ids
    for token_id in written:
        # One step of transformers from the same text: what its warpers leave.
        step = theirs_generate(theirs, text, max_new_tokens=1, **{**options, "do_sample": True})
        assert step.scores[0][0, token_id].isfinite()
        text = torch.cat([text, torch.tensor([[token_id]])], dim=1)


# ------------------------------------------------------------------ encoder–decoders


def seq2seq_pair(name: str) -> tuple[Any, Any]:
    """An encoder–decoder of ours and one of transformers with the same random weights."""
    from transformers import BartConfig, BartForConditionalGeneration, MarianConfig, MarianMTModel

    from lmlib.pretrained import from_huggingface

    torch.manual_seed(2)
    sizes = {"d_model": D, "encoder_layers": LAYERS, "decoder_layers": LAYERS, "vocab_size": V}
    heads = {"encoder_attention_heads": HEADS, "decoder_attention_heads": HEADS}
    widths = {"encoder_ffn_dim": 40, "decoder_ffn_dim": 40, "max_position_embeddings": LENGTH}
    options: dict[str, Any] = {**sizes, **heads, **widths, "init_std": 0.4, **SPECIAL}
    start = {"decoder_start_token_id": BOS if name == "bart" else PAD, "forced_eos_token_id": None}
    theirs: Any
    if name == "bart":
        theirs = BartForConditionalGeneration(BartConfig(**options, **start))
    else:
        theirs = MarianMTModel(MarianConfig(**options, **start, tie_word_embeddings=True))
    theirs.eval()
    return from_huggingface(theirs).eval(), theirs


@pytest.mark.parametrize(
    "options",
    [{}, {"num_beams": 4}, {"num_beams": 3, "num_return": 3, "length_penalty": 0.5}],
    ids=str,
)
@pytest.mark.parametrize("name", ["bart", "marian"])
def test_encoder_decoders_write_the_same_tokens(name: str, options: dict[str, Any]) -> None:
    mine, theirs = seq2seq_pair(name)
    rows = [prompts(seed=6, batch=1, n=n)[0].tolist() for n in (9, 4, 6)]
    ids = torch.tensor([row + [PAD] * (9 - len(row)) for row in rows])
    # Our decoder looks at no padding, theirs would: let neither write any.
    options = {"suppress": [PAD], **options}
    reference = theirs_generate(theirs, ids, ids != PAD, **options)
    for use_cache in (True, False):
        written = generate(mine, source=rows, max_new_tokens=NEW, use_cache=use_cache, **options)
        assert_same(written, reference, 1)
