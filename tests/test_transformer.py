"""The Transformer: equal to nn.Transformer, and what must hold of any."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import PAD
from small_models import random_ids as ids
from small_models import small_transformer as make
from torch import Tensor, nn
from torch_reference import (
    TOLERANCE,
    assert_same_gradients,
    backward,
    copy_weights,
    randomize,
)

from lmlib._tap import tracing
from lmlib.attention import causal_mask, padding_mask
from lmlib.transformer import (
    Decoder,
    Encoder,
    Transformer,
    TransformerConfig,
    parameter_table,
)

# ------------------------------------------------------------------ nn.Transformer


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@settings(max_examples=25, deadline=None)
@given(
    num_heads=st.sampled_from([1, 2, 4]),
    layers=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    norm_first=st.booleans(),
    activation=st.sampled_from(["relu", "gelu"]),
    bias=st.booleans(),
    lengths=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 2**16),
)
def test_the_stacks_are_nn_transformer(
    num_heads: int,
    layers: tuple[int, int],
    norm_first: bool,
    activation: str,
    bias: bool,
    lengths: tuple[int, int],
    dtype: torch.dtype,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    d_model, batch = 8, 3
    theirs = nn.Transformer(
        d_model, num_heads, *layers, 12, 0.0, activation,
        norm_first=norm_first, bias=bias, batch_first=True, dtype=dtype,
    )  # fmt: skip
    config = TransformerConfig(
        30, d_model, num_heads, 12, *layers, dropout=0.0,
        norm_first=norm_first, final_norm=True, activation=activation, bias=bias,
    )  # fmt: skip
    mine = nn.ModuleDict({"encoder": Encoder(config), "decoder": Decoder(config)}).to(dtype)
    randomize(theirs, generator)
    for name in ("encoder", "decoder"):
        copy_weights(mine[name], theirs.get_submodule(name))

    n_source, n = lengths
    kept = torch.randint(1, n_source + 1, (batch, 1), generator=generator)
    source_ids = (torch.arange(n_source) < kept).long()
    source = torch.randn(batch, n_source, d_model, generator=generator, dtype=dtype)
    target = torch.randn(batch, n, d_model, generator=generator, dtype=dtype)
    inputs = [source, target]
    mine_in, theirs_in = ([x.clone().requires_grad_() for x in inputs] for _ in range(2))

    source_mask = padding_mask(source_ids, PAD)
    memory, _ = mine["encoder"](mine_in[0], source_mask)
    output, _ = mine["decoder"](mine_in[1], memory, None, source_mask)
    hidden = source_ids == PAD
    expected = theirs(
        *theirs_in,
        tgt_mask=~causal_mask(n),
        src_key_padding_mask=hidden,
        memory_key_padding_mask=hidden,
    )
    torch.testing.assert_close(output, expected, **TOLERANCE[dtype])
    backward(output)
    backward(expected)
    for x, y in zip(mine_in, theirs_in, strict=True):
        torch.testing.assert_close(x.grad, y.grad, **TOLERANCE[dtype])
    for name in ("encoder", "decoder"):
        assert_same_gradients(mine[name], theirs.get_submodule(name), **TOLERANCE[dtype])


@pytest.mark.parametrize("norm_first", [False, True])
def test_the_papers_stack_is_nn_transformer_without_its_last_norms(norm_first: bool) -> None:
    model = make(norm_first=norm_first, final_norm=False)
    options: dict[str, Any] = {
        "dim_feedforward": 20, "dropout": 0.0, "norm_first": norm_first,
        "batch_first": True, "dtype": torch.float64,
    }  # fmt: skip
    theirs = nn.Transformer(
        16, 4, batch_first=True,
        custom_encoder=nn.TransformerEncoder(
            nn.TransformerEncoderLayer(16, 4, **options), 2, enable_nested_tensor=False
        ),
        custom_decoder=nn.TransformerDecoder(nn.TransformerDecoderLayer(16, 4, **options), 2),
    )  # fmt: skip
    randomize(theirs, torch.Generator().manual_seed(1))
    copy_weights(model.encoder, theirs.encoder)
    copy_weights(model.decoder, theirs.decoder)
    source, target_in = ids(2, 5), ids(2, 4, seed=1)
    # The embeddings, by hand: √d_model · E + PE (§3.4, §3.5).
    positions, columns = torch.arange(5.0, dtype=torch.float64)[:, None], torch.arange(0, 16, 2)
    angles = positions / 10000 ** (columns / 16)
    table = torch.zeros(5, 16, dtype=torch.float64)
    table[:, 0::2], table[:, 1::2] = angles.sin(), angles.cos()
    x = model.embedding.weight[source] * 16**0.5 + table
    y = model.embedding.weight[target_in] * 16**0.5 + table[:4]
    hidden = theirs(x, y, tgt_mask=~causal_mask(4))
    expected = hidden @ model.embedding.weight.T
    torch.testing.assert_close(model(source, target_in), expected)
    torch.testing.assert_close(model.encode(source), theirs.encoder(x))


# ------------------------------------------------------------------ parts


def test_attention_weights_by_module_name() -> None:
    model, source, target_in = make(), ids(2, 4), ids(2, 3, seed=1)
    logits, weights = model(source, target_in, need_weights=True)
    torch.testing.assert_close(logits, model(source, target_in))
    modules = dict(model.named_modules())
    assert len(weights) == 2 + 2 * 2
    for name, tensor in weights.items():
        assert name in modules
        torch.testing.assert_close(tensor.sum(-1), torch.ones(tensor.shape[:-1]).double())


def test_tied_embeddings_are_one_matrix() -> None:
    tied, free = make(), make(tie_embeddings=False)
    assert tied.head.weight is tied.embedding.weight
    assert not hasattr(tied, "target_embedding")
    shapes = [row.shape for row in parameter_table(free)]
    assert shapes.count((30, 16)) == 3
    assert [row.shape for row in parameter_table(tied)].count((30, 16)) == 1


def test_what_bart_adds() -> None:
    """A table of positions for each stack, a norm behind the embeddings, a bias in the head."""
    model = make(positions="learned", tie_positions=False, norm_embeddings=True, head_bias=True)
    source, target_in = ids(2, 4), ids(2, 3, seed=1)
    seen: dict[str, torch.Tensor] = {}
    with tracing(model, seen.__setitem__):
        logits = model(source, target_in)
    for stream, tokens, positions, norm in (
        ("source", source, model.positions, model.embedding_norm),
        ("target", target_in, model.target_positions, model.target_embedding_norm),
    ):
        x = model.embedding.weight[tokens] * 4.0 + positions.weight[: tokens.shape[1]]
        x = torch.nn.functional.layer_norm(x, (16,), norm.weight, norm.bias)
        torch.testing.assert_close(seen[f"{stream}.x"], x)
    with torch.no_grad():
        model.head.bias += 1.0
    torch.testing.assert_close(model(source, target_in), logits + 1.0)
    plain = make(positions="learned")
    for name in ("target_positions", "embedding_norm", "target_embedding_norm"):
        assert not hasattr(plain, name)
    assert plain.head.bias is None
    fresh = Transformer(TransformerConfig(30, 16, 4, 20, 1, 1, head_bias=True))
    assert (fresh.head.bias == 0).all()


def test_sinusoids_in_halves_are_the_papers_in_another_order() -> None:
    paper, halves = make(positions="sinusoidal"), make(positions="sinusoidal_halves")
    x = torch.zeros(1, 12, 16, dtype=torch.float64)
    order = [*range(0, 16, 2), *range(1, 16, 2)]
    torch.testing.assert_close(halves.positions(x), paper.positions(x)[..., order])


@pytest.mark.parametrize("cached", [False, True])
def test_a_target_may_begin_with_padding_where_that_is_bos(cached: bool) -> None:
    marian, plain = make(bos_id=PAD), make()
    source = ids(1, 4)

    def seen_weights(model: Transformer, target_in: torch.Tensor) -> torch.Tensor:
        memory, caches = model.encode(source), model.new_caches() if cached else None
        weights = {}
        with tracing(model, weights.__setitem__):
            for part in target_in.split(1, dim=1) if cached else [target_in]:
                model.decode(part, memory, None, caches=caches)
        return weights["decoder.layers.0.self_attention.weights"][0, :, -1]  # (num_heads, n)

    begins = torch.tensor([[PAD, 5, 6, PAD, 7]])
    assert marian.shift_right(begins).tolist() == [[PAD, PAD, 5, 6, PAD]]
    looked_at = (seen_weights(marian, begins) > 0).all(dim=0).tolist()
    assert looked_at == [True, True, True, False, True], "only the first is no padding"
    looked_at = (seen_weights(plain, begins) > 0).all(dim=0).tolist()
    assert looked_at == [False, True, True, False, True]


def test_embeddings_are_scaled_by_the_root_of_d_model() -> None:
    scaled = make(positions="none")
    plain = Transformer(dataclasses.replace(scaled.config, scale_embeddings=False)).double()
    plain.load_state_dict(scaled.state_dict())
    with torch.no_grad():
        plain.embedding.weight *= 4.0  # √16
    source = ids(1, 4)
    torch.testing.assert_close(plain.eval().encode(source), scaled.encode(source))


def test_an_untrained_model_has_no_favourites() -> None:
    torch.manual_seed(0)
    config = TransformerConfig(10_000, num_encoder_layers=1, num_decoder_layers=1)
    model = Transformer(config).eval()
    assert abs(model.embedding.weight.std().item() - 0.02) < 1e-3
    source = torch.tensor([[191, 241, 348, 471]])
    probabilities = model(source, model.shift_right(source)).softmax(-1)
    assert probabilities.median().item() == pytest.approx(1e-4, rel=0.2)
    assert probabilities.max() < 0.01


def test_shift_right() -> None:
    model = make()
    shifted = model.shift_right(torch.tensor([[5, 6, 7], [8, 9, PAD]]))
    assert shifted.tolist() == [[1, 5, 6], [1, 8, 9]]


def test_the_worked_example_counted_term_by_term() -> None:
    with torch.device("meta"):
        model = Transformer(TransformerConfig(10_000, num_encoder_layers=1, num_decoder_layers=1))
    vocab, d, d_ff = 10_000, 512, 2048
    attention = 4 * (d * d + d)
    feed_forward = (d * d_ff + d_ff) + (d_ff * d + d)
    norm = 2 * d
    encoder = attention + feed_forward + 2 * norm
    decoder = 2 * attention + feed_forward + 3 * norm
    total = vocab * d + encoder + decoder
    assert total == 12_476_416
    assert sum(row.numel for row in parameter_table(model)) == total
    assert sum(parameter.numel() for parameter in model.parameters()) == total
    assert parameter_table(model)[0] == ("embedding.weight", (vocab, d), vocab * d)


def test_ids_of_any_integer_type() -> None:
    model, source, target_in = make(), ids(2, 4), ids(2, 3, seed=1)
    expected = model(source, target_in)
    for dtype in (torch.int32, torch.int16, torch.uint8):
        torch.testing.assert_close(model(source.to(dtype), target_in.to(dtype)), expected)


def test_a_state_dict_restores_the_model() -> None:
    model, other = make(seed=0), make(seed=1)
    other.load_state_dict(model.state_dict())
    source, target_in = ids(2, 4), ids(2, 3, seed=1)
    torch.testing.assert_close(model(source, target_in), other(source, target_in))


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocab_size": 0}, "vocab_size must be at least 1, got 0"),
        ({"d_model": -4}, "d_model must be at least 1, got -4"),
        ({"num_encoder_layers": 0}, "num_encoder_layers must be at least 1"),
        ({"max_seq_len": 0}, "max_seq_len must be at least 1"),
        ({"num_heads": 3}, "d_model must be divisible by num_heads"),
        ({"num_kv_heads": 3}, "num_heads must be divisible by num_kv_heads"),
        ({"num_kv_heads": 0}, "num_kv_heads must be at least 1"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
        ({"activation": "swish"}, "activation must be one of .*'swish'"),
        ({"norm": "none"}, "norm must be one of .*'none'"),
        ({"feed_forward": "moe"}, "feed_forward must be one of .*'moe'"),
        ({"positions": "alibi"}, "positions must be one of .*'alibi'"),
        ({"positions": "rotary", "num_heads": 16}, "must be even for positions='rotary', got 1"),
        ({"norm_eps": -1e-5}, "norm_eps must not be negative"),
        ({"pad_id": 30}, "pad_id must be below vocab_size=30 and not negative, got 30"),
        ({"eos_id": -1}, "eos_id must be below vocab_size=30 .*got -1"),
        ({"eos_id": 0}, "pad_id must differ from eos_id.*got pad_id=0, eos_id=0"),
        ({"tie_positions": False}, "tie_positions=False is for positions='learned'.*'sinusoidal'"),
    ],
)
def test_bad_configs(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_sizes_are_integers() -> None:
    for name in ("d_ff", "eos_id"):
        with pytest.raises(TypeError, match=f"{name} must be an int, got float"):
            make(**{name: 20.0})
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().config.d_model = 8  # type: ignore[misc]


@pytest.mark.parametrize(
    ("source", "target_in", "error", "message"),
    [
        (
            ids(1, 4),
            torch.tensor([[30]]),
            ValueError,
            "target_in must hold ids from 0 to 29, got 30",
        ),
        (torch.tensor([[-1]]), ids(1, 3), ValueError, "source must hold ids from 0 to 29, got -1"),
        (ids(1, 4).float(), ids(1, 3), TypeError, "source must hold integer token ids"),
        (ids(1, 4), ids(1, 3).bool(), TypeError, "target_in must hold integer token ids"),
        ([[3, 4]], ids(1, 3), TypeError, "source must be a torch.Tensor of token ids, got list"),
        (ids(1, 4)[0], ids(1, 3), ValueError, r"source must have shape \(batch, n\), got \(4,\)"),
        (ids(1, 13), ids(1, 3), ValueError, "source must have 1 to max_seq_len=12 tokens, got 13"),
        (ids(1, 4), ids(1, 13), ValueError, "target_in must have 1 to max_seq_len=12 .*got 13"),
        (ids(1, 0), ids(1, 3), ValueError, "source must have 1 to max_seq_len=12 tokens, got 0"),
        (
            ids(1, 4),
            ids(2, 3),
            ValueError,
            "target_in must have as many rows as the source, 1, got 2",
        ),
        (ids(1, 4), ids(1, 3).to("meta"), ValueError, "target_in must be on cpu .*got meta"),
    ],
)
def test_bad_ids(source: Any, target_in: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()(source, target_in)


def test_bad_memory_and_masks() -> None:
    model, source, target_in = make(), ids(1, 4), ids(1, 3)
    memory, mask = model.encode(source), model.source_mask(source)
    with pytest.raises(ValueError, match=r"memory must have shape .* with d_model=16, got"):
        model.decode(target_in, memory[..., :8], mask)
    with pytest.raises(ValueError, match="mask must be broadcastable to"):
        model.decode(target_in, memory, mask[..., :2])
    with pytest.raises(TypeError, match="source_mask must be boolean"):
        model.encode(source, mask.float())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda y, m, s: (y[:1], m[:1], s[:1]),
            "target_in must have as many rows as the caches, 2",
        ),
        (lambda y, m, s: (y, m[:, :3], s[..., :3]), "memory must be the one .* of 4 tokens, got 3"),
        (lambda y, m, s: (y, m, s[..., :2]), "source_mask must be broadcastable to"),
        (lambda y, m, s: (y, m, s.to("meta")), "source_mask must be on cpu like the rest"),
        (lambda y, m, s: (y + 30, m, s), "target_in must hold ids from 0 to 29"),
    ],
)
def test_a_refused_token_leaves_the_caches_as_they_were(
    change: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]], message: str
) -> None:
    model, source, target_in = make(), ids(2, 4), ids(2, 3)
    memory, mask = model.encode(source), model.source_mask(source)
    caches = model.new_caches()
    model.decode(target_in[:, :2], memory, mask, caches=caches)
    with pytest.raises(ValueError, match=message):
        model.decode(*change(target_in[:, 2:], memory, mask), caches=caches)
    last = model.decode(target_in[:, 2:], memory, mask, caches=caches)
    torch.testing.assert_close(last, model.decode(target_in, memory, mask)[:, 2:])


def test_caches_of_another_model() -> None:
    model, source = make(), ids(1, 4)
    caches = make(num_decoder_layers=3).new_caches()
    with pytest.raises(ValueError, match="caches must be for 2 layers, got 3"):
        model.decode(ids(1, 2), model.encode(source), None, caches=caches)


def test_an_empty_target_cannot_be_shifted() -> None:
    with pytest.raises(ValueError, match=r"target must have at least 1 token, got shape \(2, 0\)"):
        make().shift_right(ids(2, 0))


def test_a_copy_of_the_caches_goes_on_by_itself() -> None:
    model, source, target_in = make(), ids(2, 4), ids(2, 5)
    memory, mask = model.encode(source), model.source_mask(source)
    caches = model.new_caches()
    model.decode(target_in[:, :2], memory, mask, caches=caches)
    twin = copy.copy(caches)
    other = (target_in + 1) % 30
    for tokens, own in ((other, caches), (target_in, twin)):
        last = model.decode(tokens[:, 2:], memory, mask, caches=own)
        whole = torch.cat([target_in[:, :2], tokens[:, 2:]], dim=1)
        torch.testing.assert_close(last, model.decode(whole, memory, mask)[:, 2:])
