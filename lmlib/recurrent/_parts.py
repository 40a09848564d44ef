"""What `lmlib.recurrent` is made of: configs, the cell, the state, a run that passes padding by."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lmlib._checks import check_ids, check_positive, check_probability, check_tensor
from lmlib._tap import tap

State = tuple[Tensor, Tensor]
INIT_RANGE = 0.1


@dataclass(frozen=True)
class NPLMConfig:
    """Everything that fixes the shape of an `NPLM`.

    Attributes:
        vocab_size: number of tokens.
        order: n; the window holds the last n − 1 tokens. At least 2.
        d_model: width of a token's vector (m in the paper).
        d_hidden: width of the hidden layer (h in the paper).
        direct: connect the vectors with the logits directly as well (W in the paper)?
        dropout: rate at which vectors and hidden units are dropped in training.
        bos_id, eos_id, pad_id: the special tokens.

    Raises:
        TypeError, ValueError: a value is not allowed, or two do not fit each other.
    """

    vocab_size: int
    order: int = 5
    d_model: int = 64
    d_hidden: int = 128
    direct: bool = False
    dropout: float = 0.0
    bos_id: int = 1
    eos_id: int = 2
    pad_id: int = 0

    def __post_init__(self) -> None:
        check_positive("order", self.order)
        if self.order < 2:
            raise ValueError(f"order must be at least 2, a window of one token, got {self.order}")
        _check(self)


@dataclass(frozen=True)
class LSTMConfig:
    """Everything that fixes the shape of an `LSTMLanguageModel`.

    Attributes:
        vocab_size: number of tokens.
        d_model: width of a token's vector.
        d_hidden: width of the state's h and c.
        num_layers: how many LSTM layers are stacked.
        dropout: rate at which what goes into a layer, or into the head, is dropped in training.
        tie_embeddings: embedding and head share one matrix; then d_model = d_hidden.
        bos_id, eos_id, pad_id: the special tokens.

    Raises:
        TypeError, ValueError: a value is not allowed, or two do not fit each other.
    """

    vocab_size: int
    d_model: int = 256
    d_hidden: int = 256
    num_layers: int = 1
    dropout: float = 0.0
    tie_embeddings: bool = False
    bos_id: int = 1
    eos_id: int = 2
    pad_id: int = 0

    def __post_init__(self) -> None:
        _check(self)
        check_positive("num_layers", self.num_layers)
        if self.tie_embeddings and self.d_model != self.d_hidden:
            raise ValueError(
                "tie_embeddings needs d_model equal to d_hidden, "
                f"got d_model={self.d_model}, d_hidden={self.d_hidden}"
            )


@dataclass(frozen=True)
class Seq2SeqConfig(LSTMConfig):
    """Everything that fixes the shape of an `LSTMSeq2Seq`: as `LSTMConfig`.

    ``num_layers`` is the number of layers of the encoder and of the decoder, and tied embeddings
    are those of source, target and head.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pad_id in (self.bos_id, self.eos_id):
            raise ValueError(
                f"pad_id must differ from bos_id and eos_id, for padding is never read, "
                f"got {self.pad_id}"
            )


class LSTMCell(nn.Module):
    """One step of an LSTM, for one token of each row::

        i = σ(W_i [x, h])    input gate: what of g to write
        f = σ(W_f [x, h])    forget gate: what of c to keep (Gers et al. 2000)
        g = tanh(W_g [x, h]) what could be written
        o = σ(W_o [x, h])    output gate: what of c to show
        c ← f ⊙ c + i ⊙ g
        h ← o ⊙ tanh(c)

    Each W has a bias. c, the constant error carousel of Hochreiter & Schmidhuber 1997, is changed
    by gates alone, so that its gradient does not vanish as long as f is near one.

    Args:
        d_input: width of x.
        d_hidden: width of h and c.
    """

    def __init__(self, d_input: int, d_hidden: int) -> None:
        super().__init__()
        check_positive("d_input", d_input)
        check_positive("d_hidden", d_hidden)
        self.d_input, self.d_hidden = d_input, d_hidden
        self.W_i = nn.Linear(d_input + d_hidden, d_hidden)
        self.W_f = nn.Linear(d_input + d_hidden, d_hidden)
        self.W_g = nn.Linear(d_input + d_hidden, d_hidden)
        self.W_o = nn.Linear(d_input + d_hidden, d_hidden)

    def forward(
        self, x: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """
        Args:
            x: (batch, d_input).
            state: h and c, (batch, d_hidden) each; zeros if not given.

        Returns:
            the new h and c, (batch, d_hidden) each.
        """
        check_tensor("x", x, "batch, d_input", d_input=self.d_input)
        if state is None:
            state = (x.new_zeros(x.shape[0], self.d_hidden),) * 2
        h, c = state
        for name, tensor in (("h", h), ("c", c)):
            sizes = {"batch": x.shape[0], "d_hidden": self.d_hidden}
            check_tensor(name, tensor, "batch, d_hidden", **sizes)
        xh = torch.cat([x, h], dim=-1)  # (batch, d_input + d_hidden)
        i = tap("i", torch.sigmoid(self.W_i(xh)))
        f = tap("f", torch.sigmoid(self.W_f(xh)))
        g = tap("g", torch.tanh(self.W_g(xh)))
        o = tap("o", torch.sigmoid(self.W_o(xh)))
        c = tap("c", f * c + i * g)
        h = tap("h", o * torch.tanh(c))
        return h, c


class LSTMCaches:
    """The state of an LSTM: all that it remembers of the tokens it has read.

    It has one size however much was read, and nothing of it can be taken back: unlike the caches
    of attention it has no ``crop``.

    Attributes:
        h, c: (num_layers, batch, d_hidden), or None before the first token.
        length: number of tokens read, padding included.
    """

    def __init__(self) -> None:
        self.h: Tensor | None = None
        self.c: Tensor | None = None
        self.length = 0

    def state_for(self, x: Tensor) -> State | None:
        """h and c, which fit vectors (batch, n, d_model) that are read next; None for zeros."""
        if self.h is None or self.c is None:
            return None
        if self.h.shape[1] != x.shape[0]:
            raise ValueError(
                f"token_ids must have as many rows as the caches, {self.h.shape[1]}, "
                f"got {x.shape[0]}"
            )
        return self.h, self.c

    def update(self, state: State, n: int) -> None:
        """Keep the state behind ``n`` more tokens."""
        self.h, self.c = state
        self.length += n

    def reorder(self, indices: Tensor) -> None:
        """Let row i continue row ``indices[i]`` ((new_batch,) integer), as beam search does."""
        if self.h is not None and self.c is not None:
            check_ids("indices", indices, "new_batch", vocab_size=self.h.shape[1])
            self.h = self.h.index_select(1, indices)
            self.c = self.c.index_select(1, indices)

    def detach(self) -> None:
        """Cut the state off from the graph that computed it: no gradient goes back further."""
        if self.h is not None and self.c is not None:
            self.h, self.c = self.h.detach(), self.c.detach()


def make_embedding(config: NPLMConfig | LSTMConfig) -> nn.Embedding:
    """Token vectors, uniform in ±0.1 (Zaremba et al. 2014)."""
    embedding = nn.Embedding(config.vocab_size, config.d_model)
    nn.init.uniform_(embedding.weight, -INIT_RANGE, INIT_RANGE)
    return embedding


def make_lstm(config: LSTMConfig) -> nn.LSTM:
    """A stack of LSTM layers whose forget gates begin open: their bias is 1.

    Gers et al. 2000 begin with a positive bias; that it be 1 is the advice of Jozefowicz et al.
    2015, "An Empirical Exploration of Recurrent Network Architectures".
    """
    lstm = nn.LSTM(
        config.d_model,
        config.d_hidden,
        config.num_layers,
        batch_first=True,
        # Between the layers, so with one layer there is none, and torch would warn.
        dropout=config.dropout if config.num_layers > 1 else 0.0,
    )
    forget = slice(config.d_hidden, 2 * config.d_hidden)  # the gates' order is i, f, g, o
    with torch.no_grad():
        for layer in range(config.num_layers):
            getattr(lstm, f"bias_ih_l{layer}")[forget] = 1.0
            getattr(lstm, f"bias_hh_l{layer}")[forget] = 0.0
    return lstm


def run_lstm(
    lstm: nn.LSTM, x: Tensor, mask: Tensor | None, state: State | None
) -> tuple[Tensor, State]:
    """Read vectors, passing padding by: the state behind it is the one before it.

    Args:
        x: (batch, n, d_model).
        mask: (batch, n) boolean, False for padding, on any side or in between.
        state: h and c, (num_layers, batch, d_hidden) each; zeros if not given.

    Returns:
        hidden (batch, n, d_hidden), zeros at padding, and the state behind the last token.
    """
    # Packing needs the lengths on the CPU: asked for once, and only where there is a mask.
    if mask is None or mask.is_meta or bool(mask.all()):
        hidden, state = lstm(x, state)
        return hidden, state
    batch, n, _ = x.shape
    if state is None:
        zeros = x.new_zeros(lstm.num_layers, batch, lstm.hidden_size)
        state = (zeros, zeros)
    # Real tokens to the front, in their order; then padding lies behind, where packing cuts it off.
    front = mask.logical_not().to(torch.uint8).argsort(dim=1, stable=True)  # (batch, n)
    lengths = mask.sum(dim=1)
    packed = pack_padded_sequence(
        x.gather(1, front[..., None].expand_as(x)),
        lengths.clamp(min=1).cpu(),  # a row of padding alone is put right below
        batch_first=True,
        enforce_sorted=False,
    )
    packed_hidden, (h, c) = lstm(packed, state)
    hidden, _ = pad_packed_sequence(packed_hidden, batch_first=True, total_length=n)
    back = front.argsort(dim=1)
    hidden = hidden.gather(1, back[..., None].expand_as(hidden))
    some = (lengths > 0)[:, None]
    h, c = torch.where(some, h, state[0]), torch.where(some, c, state[1])
    return hidden * mask[..., None], (h, c)


def check_device(name: str, ids: Tensor, weight: Tensor) -> None:
    """``ids`` lie where the model's weights do."""
    if isinstance(ids, Tensor) and ids.device != weight.device:
        raise ValueError(f"{name} must be on {weight.device} like the model, got {ids.device}")


def _check(config: NPLMConfig | LSTMConfig) -> None:
    for name in ("vocab_size", "d_model", "d_hidden"):
        check_positive(name, getattr(config, name))
    check_probability("dropout", config.dropout)
    for name in ("bos_id", "eos_id", "pad_id"):
        token_id = getattr(config, name)
        if not 0 <= token_id < config.vocab_size:
            raise ValueError(
                f"{name} must lie in 0 … vocab_size − 1 = {config.vocab_size - 1}, got {token_id}"
            )
