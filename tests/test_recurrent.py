"""NPLM and LSTMs: equal to the formulas and to torch.nn.LSTM; padding, caches."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from small_recurrent import BOS, PAD, V, ids, loud, lstm, nplm, seq2seq
from torch import nn

from lmlib._tap import tracing
from lmlib.generation import beam_search, greedy_search
from lmlib.recurrent import LSTMCell

torch.set_num_threads(1)


def load_cell(cell: LSTMCell, theirs: nn.LSTM, layer: int = 0) -> None:
    """Give a cell the weights of one layer of nn.LSTM."""
    own = dict(theirs.named_parameters())
    matrix = torch.cat([own[f"weight_ih_l{layer}"], own[f"weight_hh_l{layer}"]], dim=1)
    bias = own[f"bias_ih_l{layer}"] + own[f"bias_hh_l{layer}"]
    gates = (cell.W_i, cell.W_f, cell.W_g, cell.W_o)
    with torch.no_grad():
        for gate, rows, b in zip(gates, matrix.chunk(4), bias.chunk(4), strict=True):
            gate.weight.copy_(rows)
            gate.bias.copy_(b)


# ------------------------------------------------------------------ NPLM


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("order", [2, 4])
def test_nplm_is_equation_1(order: int, direct: bool) -> None:
    model, text = nplm(order=order, direct=direct), ids(2, 5)
    logits = model(text)
    assert logits.shape == (2, 5, V)
    for row, t in itertools.product(range(2), range(5)):
        read = [BOS] * order + text[row, : t + 1].tolist()
        # C(w_{t−1}), C(w_{t−2}) …: the newest first.
        x = torch.cat([model.C.weight[read[-i]] for i in range(1, order)])
        y = model.U.bias + model.U.weight @ torch.tanh(model.H.bias + model.H.weight @ x)
        if direct:
            y = y + model.W.weight @ x
        torch.testing.assert_close(logits[row, t], y)
    assert (model.W is not None) == direct


def test_nplm_counts_its_parameters_as_the_paper() -> None:
    # |V|(1 + nm + h) + h(1 + (n − 1)m) with direct connections, where nm counts C too (§2).
    n, m, h = 4, 3, 5
    size = sum(p.numel() for p in nplm(direct=True).parameters())
    assert size == V * (1 + n * m + h) + h * (1 + (n - 1) * m)


def test_nplm_sees_its_window_only() -> None:
    model, text = nplm(), ids(1, 6)
    other = text.clone()
    other[0, 0] = (other[0, 0] - 2) % 8 + 3
    same = [torch.equal(a, b) for a, b in zip(model(text)[0], model(other)[0], strict=True)]
    assert same == [False, False, False, True, True, True]


def test_nplm_takes_padding_on_the_left_for_bos() -> None:
    model, text = nplm(), ids(1, 4)
    padded = F.pad(text, (2, 0), value=PAD)
    torch.testing.assert_close(model(padded, padded != PAD)[:, 2:], model(text))


# ------------------------------------------------------------------ the cell


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 3),
    n=st.integers(1, 4),
    d_input=st.integers(1, 5),
    d_hidden=st.integers(1, 5),
    seed=st.integers(0, 2**16),
    begin=st.booleans(),
)
def test_the_cell_is_nn_lstm(
    batch: int, n: int, d_input: int, d_hidden: int, seed: int, begin: bool
) -> None:
    torch.manual_seed(seed)
    theirs = nn.LSTM(d_input, d_hidden, batch_first=True).double()
    cell = LSTMCell(d_input, d_hidden).double()
    load_cell(cell, theirs)
    x = torch.randn(batch, n, d_input, dtype=torch.float64, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    state = None
    if begin:
        state = tuple(torch.randn(batch, d_hidden, dtype=torch.float64) for _ in range(2))
    expected, (_, c) = theirs(y, None if state is None else (state[0][None], state[1][None]))
    outputs = []
    for t in range(n):
        state = cell(x[:, t], state)
        outputs.append(state[0])
    got = torch.stack(outputs, dim=1)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(state[1], c[0])
    weight = torch.randn_like(got)
    ((got * weight).sum() + state[1].sum()).backward()
    ((expected * weight).sum() + c.sum()).backward()
    torch.testing.assert_close(x.grad, y.grad)
    own = dict(theirs.named_parameters())
    gates = (cell.W_i, cell.W_f, cell.W_g, cell.W_o)
    gradient = torch.cat([gate.weight.grad for gate in gates])
    both = torch.cat([own["weight_ih_l0"].grad, own["weight_hh_l0"].grad], dim=1)
    torch.testing.assert_close(gradient, both)
    torch.testing.assert_close(torch.cat([g.bias.grad for g in gates]), own["bias_ih_l0"].grad)


def test_open_forget_gates_keep_the_memory() -> None:
    cell, seen = LSTMCell(1, 1), {}
    with torch.no_grad():
        for gate, bias in ((cell.W_i, -20), (cell.W_f, 20), (cell.W_g, 0), (cell.W_o, 20)):
            gate.weight.zero_()
            gate.bias.fill_(bias)
        state = (torch.zeros(1, 1), torch.tensor([[0.7]]))
        with tracing(cell, lambda name, tensor: seen.update({name: tensor})):
            for _ in range(100):
                state = cell(torch.ones(1, 1), state)
    torch.testing.assert_close(state[1], torch.tensor([[0.7]]))
    torch.testing.assert_close(state[0], torch.tensor([[0.7]]).tanh())
    assert list(seen) == ["i", "f", "g", "o", "c", "h"]


# ------------------------------------------------------------------ the language model


def test_the_language_model_step_by_step() -> None:
    model, text = lstm(), ids(2, 5)
    cells = [LSTMCell(4, 6).double(), LSTMCell(6, 6).double()]
    for layer, cell in enumerate(cells):
        load_cell(cell, model.lstm, layer)
    states: list[Any] = [None, None]
    for t in range(5):
        x = model.embedding.weight[text[:, t]]
        for layer, cell in enumerate(cells):
            states[layer] = cell(x, states[layer])
            x = states[layer][0]
        torch.testing.assert_close(model(text)[:, t], x @ model.head.weight.T + model.head.bias)


def test_forget_gates_begin_open() -> None:
    for layer in range(2):
        bias = lstm().lstm.get_parameter(f"bias_ih_l{layer}")
        other = lstm().lstm.get_parameter(f"bias_hh_l{layer}")
        assert torch.equal((bias + other).chunk(4)[1], torch.ones(6).double())
        assert not torch.equal(bias.chunk(4)[0], torch.ones(6).double())


def test_tied_embeddings_are_one_matrix() -> None:
    tied = lstm(tie_embeddings=True, d_model=6)
    assert tied.head.weight is tied.embedding.weight
    assert tied(ids(1, 3)).shape == (1, 3, V)
    both = seq2seq(tie_embeddings=True, d_model=6)
    assert both.head.weight is both.embedding.weight
    assert not hasattr(both, "target_embedding")
    free = seq2seq()
    assert free.target_embedding.weight is not free.embedding.weight


@settings(max_examples=30, deadline=None)
@given(data=st.data(), batch=st.integers(1, 4), n=st.integers(1, 6), begun=st.booleans())
def test_padding_anywhere_is_passed_by(
    data: st.DataObject, batch: int, n: int, begun: bool
) -> None:
    model, text = lstm(), ids(batch, n)
    flags = st.lists(st.booleans(), min_size=n, max_size=n)
    mask = torch.tensor([data.draw(flags) for _ in range(batch)])
    caches, first = model.new_caches(), ids(batch, 2, seed=7)
    if begun:
        model(first, caches=caches)
    logits = model(text, mask, caches=caches)
    assert caches.length == n + 2 * begun
    # At padding the hidden state is zero, so that nothing but the head's bias speaks.
    torch.testing.assert_close(logits[~mask], model.head.bias.expand_as(logits[~mask]))
    for row in range(batch):
        alone, kept = model.new_caches(), mask[row]
        if begun:
            model(first[row : row + 1], caches=alone)
        if kept.any():
            expected = model(text[row : row + 1, kept], caches=alone)
            torch.testing.assert_close(logits[row, kept], expected[0])
        zeros = torch.zeros(2, 6, dtype=torch.float64)
        h, c = (zeros, zeros) if alone.h is None else (alone.h[:, 0], alone.c[:, 0])
        torch.testing.assert_close(caches.h[:, row], h)
        torch.testing.assert_close(caches.c[:, row], c)


def test_gradients_past_padding() -> None:
    model, text = lstm(), ids(1, 3)
    padded = F.pad(text, (2, 1), value=PAD)
    mask = padded != PAD
    model(text).square().sum().backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    model(padded, mask)[mask].square().sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name])


@pytest.mark.parametrize("make", [nplm, lstm])
def test_caches_give_the_same(make: Any) -> None:
    model, text = make(), ids(3, 7)
    whole, caches = model(text), model.new_caches()
    assert caches.length == 0
    pieces = [model(piece, caches=caches) for piece in text.split([3, 1, 1, 2], dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole)
    assert caches.length == 7
    torch.testing.assert_close(model(text, num_logits=2), whole[:, -2:])

    caches = model.new_caches()
    model(text[:, :4], caches=caches)
    indices = torch.tensor([2, 0, 0, 1])
    caches.reorder(indices)
    got = model(text[:, 4:].index_select(0, indices), caches=caches)
    torch.testing.assert_close(got, whole[:, 4:].index_select(0, indices))


def test_only_the_window_can_be_cropped() -> None:
    assert hasattr(nplm().new_caches(), "crop")
    assert not hasattr(lstm().new_caches(), "crop")


def test_detach_stops_the_gradient() -> None:
    model, caches = lstm(), None
    caches = model.new_caches()
    model(ids(1, 3), caches=caches)
    assert caches.h.requires_grad
    caches.detach()
    assert not caches.h.requires_grad
    assert not caches.c.requires_grad


@pytest.mark.parametrize("make", [nplm, lstm])
def test_generation_with_and_without_caches(make: Any) -> None:
    model, prompts = loud(make()), [[5, 6, 7], [4], [9, 3]]
    options: dict[str, Any] = {"max_new_tokens": 6, "eos_id": ()}
    plain = greedy_search(model, prompts, use_cache=False, **options).token_ids
    assert greedy_search(model, prompts, **options).token_ids == plain
    alone = [greedy_search(model, prompt, **options).token_ids[0] for prompt in prompts]
    assert alone == plain
    assert len(set(map(tuple, plain))) == 3
    beams = beam_search(model, prompts, num_beams=3, use_cache=False, **options).token_ids
    assert beam_search(model, prompts, num_beams=3, **options).token_ids == beams
