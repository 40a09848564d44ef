"""LSTM encoder–decoder, and for all of recurrent: dtypes, devices, dropout, taps, errors."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small_recurrent import BOS, EOS, PAD, V, ids, loud, lstm, nplm, seq2seq
from torch import Tensor, nn

from lmlib._tap import tracing
from lmlib.generation import beam_search, greedy_search
from lmlib.recurrent import LSTMCell, LSTMSeq2Seq, Seq2SeqConfig

torch.set_num_threads(1)


# ------------------------------------------------------------------ encoder and decoder


def test_the_decoder_begins_with_the_encoders_last_state() -> None:
    model, source, target = seq2seq(), ids(3, 5), ids(3, 4, seed=1)
    _, (h, c) = model.encoder(model.embedding(source))
    memory = model.encode(source)
    assert memory.shape == (3, 4, 6)
    torch.testing.assert_close(memory[:, :2], h.transpose(0, 1))
    torch.testing.assert_close(memory[:, 2:], c.transpose(0, 1))
    target_in = model.shift_right(target)
    assert torch.equal(target_in, F.pad(target, (1, 0), value=BOS)[:, :-1])
    expected, _ = model.decoder(model.target_embedding(target_in), (h, c))
    hidden = model.decode(target_in, memory, model.source_mask(source))
    torch.testing.assert_close(hidden, expected)
    torch.testing.assert_close(model(source, target_in), model.head(expected))


def test_source_padding_changes_nothing() -> None:
    model, target_in = seq2seq(), ids(3, 4, seed=1)
    lengths = [5, 2, 3]
    rows = [ids(1, length, seed=length) for length in lengths]
    right = torch.cat([F.pad(row, (0, 6 - row.shape[1]), value=PAD) for row in rows])
    left = torch.cat([F.pad(row, (6 - row.shape[1], 0), value=PAD) for row in rows])
    memory, logits = model.encode(right), model(right, target_in)
    torch.testing.assert_close(model.encode(left), memory)
    torch.testing.assert_close(model.encode(right, model.source_mask(right)), memory)
    for i, row in enumerate(rows):
        torch.testing.assert_close(memory[i : i + 1], model.encode(row))
        torch.testing.assert_close(logits[i : i + 1], model(row, target_in[i : i + 1]))
    nothing = torch.full((1, 3), PAD)
    torch.testing.assert_close(model.encode(nothing), torch.zeros(1, 4, 6).double())


def test_decoding_with_caches_gives_the_same() -> None:
    model, source, target_in = seq2seq(), ids(2, 5), ids(2, 6, seed=1)
    memory, mask = model.encode(source), model.source_mask(source)
    whole, caches = model.decode(target_in, memory, mask), model.new_caches()
    pieces = [
        model.decode(piece, memory, mask, caches=caches)
        for piece in target_in.split([1, 2, 3], dim=1)
    ]
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole)
    assert caches.length == 6


def test_beam_search_treats_it_as_a_transformer() -> None:
    model, sources = loud(seq2seq()), [[5, 6, 7], [4]]
    options: dict[str, Any] = {"max_new_tokens": 5, "eos_id": ()}
    for search, more in ((greedy_search, {}), (beam_search, {"num_beams": 3})):
        plain = search(
            model, source=sources, prompt=[[BOS]] * 2, use_cache=False, **more, **options
        )
        cached = search(model, source=sources, prompt=[[BOS]] * 2, **more, **options)
        assert cached.token_ids == plain.token_ids
        alone = search(model, source=[4], prompt=[BOS], **more, **options)
        assert alone.token_ids[0] == plain.token_ids[1]
        assert plain.token_ids[0] != plain.token_ids[1]


def test_it_learns_to_reverse() -> None:
    torch.manual_seed(0)
    model = LSTMSeq2Seq(Seq2SeqConfig(vocab_size=V, d_model=24, d_hidden=48))
    source = torch.cat([ids(64, 3), torch.full((64, 1), PAD)], dim=1)
    target = torch.cat([source[:, :3].flip(1), torch.full((64, 1), EOS)], dim=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(80):
        loss = F.cross_entropy(
            model(source, model.shift_right(target)).flatten(0, 1), target.flatten()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    written = greedy_search(model, source=source[:4], prompt=[[BOS]] * 4, max_new_tokens=5)
    assert written.token_ids == target[:4].tolist()


# ------------------------------------------------------------------ devices, dtypes, dropout


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_half_precision_and_meta(dtype: torch.dtype) -> None:
    text = F.pad(ids(2, 4), (0, 1), value=PAD)
    text[1, 3] = PAD
    for make in (nplm, lstm):
        logits = make().to(dtype)(text, text != PAD)
        assert logits.dtype == dtype
        exact = make()(text, text != PAD)
        torch.testing.assert_close(logits.double(), exact, rtol=0.05, atol=0.03)
    torch.testing.assert_close(
        seq2seq().to(dtype)(text, text).double(), seq2seq()(text, text), rtol=0.05, atol=0.03
    )
    on_meta = text.to("meta")
    for make in (nplm, lstm):
        model = make().to(dtype).to("meta")
        caches = model.new_caches()
        assert model(on_meta, caches=caches).shape == (2, 5, V)
        caches.reorder(torch.tensor([0, 0, 1], device="meta"))
        assert model(
            on_meta[:1].expand(3, -1), on_meta[:1].expand(3, -1) > 0, caches=caches
        ).is_meta
    assert seq2seq().to("meta")(on_meta, on_meta).shape == (2, 5, V)


@pytest.mark.parametrize("make", [nplm, lstm, seq2seq])
def test_dropout_acts_in_training_alone(make: Any) -> None:
    model = make(dropout=0.5)
    run = (lambda: model(ids(2, 4), ids(2, 4))) if make is seq2seq else (lambda: model(ids(2, 4)))
    torch.testing.assert_close(run(), run())
    plain = make()
    plain.load_state_dict(model.state_dict())
    same = plain(ids(2, 4), ids(2, 4)) if make is seq2seq else plain(ids(2, 4))
    torch.testing.assert_close(run(), same)
    model.train()
    assert not torch.equal(run(), run())


def test_dropout_stands_between_the_parts() -> None:
    """On what goes into a layer or the head: each of these is dropped once, and nothing else."""
    text, target_in = ids(2, 4), ids(2, 3)
    for model, inputs, widths in (
        (nplm(dropout=0.5), (text,), ["d_model", "d_hidden"]),
        (lstm(dropout=0.5), (text,), ["d_model", "d_hidden"]),
        (seq2seq(dropout=0.5), (text, target_in), ["d_model", "d_model", "d_hidden"]),
    ):
        seen: list[int] = []
        model.dropout.register_forward_hook(lambda _, x, y, to=seen: to.append(y.shape[-1]))
        model.train()(*inputs)
        assert seen == [getattr(model.config, width) for width in widths]
        assert all(part.dropout == 0.5 for part in model.modules() if isinstance(part, nn.LSTM))


def test_taps() -> None:
    def names(model: nn.Module, *inputs: Tensor) -> list[str]:
        seen: list[str] = []
        with tracing(model, lambda name, tensor: seen.append(name)):
            model(*inputs)
        return seen

    assert names(nplm(), ids(1, 3)) == ["windows", "x", "hidden", "logits"]
    assert names(lstm(), ids(1, 3)) == ["token_ids", "x", "hidden", "logits"]
    assert names(seq2seq(), ids(1, 3), ids(1, 2)) == [
        "source_ids", "source.x", "memory", "target_ids", "target.x", "hidden", "logits",
    ]  # fmt: skip


# ------------------------------------------------------------------ errors at the door


@pytest.mark.parametrize(
    ("make", "options", "error", "message"),
    [
        (nplm, {"order": 1}, ValueError, "order must be at least 2, a window of one token, got 1"),
        (nplm, {"d_hidden": 0}, ValueError, "d_hidden must be at least 1, got 0"),
        (nplm, {"bos_id": 11}, ValueError, "bos_id must lie in 0 … vocab_size − 1 = 10, got 11"),
        (nplm, {"d_model": 1.5}, TypeError, "d_model must be an int, got float"),
        (lstm, {"num_layers": 0}, ValueError, "num_layers must be at least 1, got 0"),
        (lstm, {"dropout": 1.0}, ValueError, "dropout must be at least 0 and below 1, got 1.0"),
        (lstm, {"tie_embeddings": True}, ValueError, "tie_embeddings needs d_model equal to d_hi"),
        (seq2seq, {"pad_id": 2}, ValueError, "pad_id must differ from bos_id and eos_id"),
    ],
)
def test_wrong_configs(
    make: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make(**options)


def test_configs_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        lstm().config.d_model = 5  # type: ignore[misc]


@pytest.mark.parametrize("make", [nplm, lstm])
def test_wrong_token_ids(make: Any) -> None:
    model, text = make(), ids(2, 3)
    caches = model.new_caches()
    model(text, caches=caches)
    for call, error, message in (
        (
            lambda: model([[3]]),
            TypeError,
            "token_ids must be a torch.Tensor of token ids, got list",
        ),
        (lambda: model(text.double()), TypeError, "token_ids must hold integer token ids"),
        (lambda: model(text[0]), ValueError, r"token_ids must have shape \(batch, n\), got \(3,\)"),
        (lambda: model(text[:, :0]), ValueError, "token_ids must have at least 1 token"),
        (lambda: model(text + V), ValueError, "token_ids must hold ids from 0 to 10, got"),
        (
            lambda: model(text, text),
            TypeError,
            r"mask must be boolean \(True = no padding\), got torch.int64",
        ),
        (lambda: model(text, text[:1] > 0), ValueError, "mask must have the shape of token_ids"),
        (lambda: model(text, num_logits=0), ValueError, "num_logits must be at least 1, got 0"),
        (lambda: model(text.to("meta")), ValueError, "token_ids must be on cpu like the model"),
        (
            lambda: caches.reorder(torch.tensor([2])),
            ValueError,
            "indices must hold ids from 0 to 1",
        ),
        (lambda: model(text[:1], caches=caches), ValueError, "token_ids must have as many rows as"),
    ):
        with pytest.raises(error, match=message):
            call()


def test_wrong_sources_targets_and_states() -> None:
    model, text = seq2seq(), ids(2, 3)
    with pytest.raises(TypeError, match="source_mask must be boolean"):
        model.encode(text, model.source_mask(text).long())
    memory = model.encode(text)
    cell = LSTMCell(2, 3)
    for call, message in (
        (lambda: model(text + V, text), "source must hold ids from 0 to 10"),
        (lambda: model(text[:, :0], text), "source must have at least 1 token"),
        (lambda: model(text, text + V), "target_in must hold ids from 0 to 10"),
        (lambda: model(text, text[:, :0]), "target_in must have at least 1 token"),
        (
            lambda: model.encode(text, model.source_mask(text[:, 1:])),
            r"source_mask must be broadcastable to \(2, 1, 1, 3\), got \(2, 1, 1, 2\)",
        ),
        (lambda: model(text, text[:1]), "target_in must have as many rows as the source, 2, got 1"),
        (lambda: model.decode(text, memory[:, :2]), "memory must have shape .* with two_layers=4"),
        (lambda: model.shift_right(text + V), "target must hold ids from 0 to 10"),
        (lambda: cell(torch.zeros(1, 3)), r"x must have shape \(batch, d_input\) with d_input=2"),
        (
            lambda: cell(torch.zeros(1, 2), (torch.zeros(1, 2), torch.zeros(1, 3))),
            r"h must have shape \(batch, d_hidden\) with d_hidden=3",
        ),
        (
            lambda: cell(torch.zeros(1, 2), (torch.zeros(1, 3), torch.zeros(2, 3))),
            r"c must have shape \(batch, d_hidden\) with batch=1",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
