"""Neural language models before attention: the window of Bengio et al., the LSTM, encoder–decoder.

- `NPLM` (Bengio et al. 2003): an n-gram model whose probabilities a neural network computes from
  the vectors of the last n − 1 tokens.
- `LSTMCell` (Hochreiter & Schmidhuber 1997): one step of an LSTM, gate by gate, to read. The models
  below run on ``torch.nn.LSTM``, which computes the same in one piece.
- `LSTMLanguageModel`: a state carries what was read, however long.
- `LSTMSeq2Seq` (Sutskever et al. 2014): the state behind the source is where the decoder begins. It
  has the methods of `lmlib.transformer.Transformer`.

>>> model = LSTMLanguageModel(LSTMConfig(vocab_size=100, d_model=16, d_hidden=32)).eval()
>>> model(torch.tensor([[5, 6, 7]])).shape  # logits for the token that follows each
torch.Size([1, 3, 100])
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lmlib._checks import check_ids, check_mask, check_positive, check_tensor, check_token_mask
from lmlib._tap import tap
from lmlib._token_caches import TokenCaches, check_not_empty, read_windows
from lmlib.attention import padding_mask
from lmlib.recurrent._parts import (
    LSTMCaches,
    LSTMCell,
    LSTMConfig,
    NPLMConfig,
    Seq2SeqConfig,
    check_device,
    make_embedding,
    make_lstm,
    run_lstm,
)

__all__ = [
    "NPLM",
    "LSTMCaches",
    "LSTMCell",
    "LSTMConfig",
    "LSTMLanguageModel",
    "LSTMSeq2Seq",
    "NPLMConfig",
    "Seq2SeqConfig",
]


class NPLM(nn.Module):
    """The neural probabilistic language model (Bengio et al. 2003, eq. 1), in their letters::

        y = b + W x + U tanh(d + H x),    x = (C(w_{t−1}), C(w_{t−2}), …, C(w_{t−n+1}))

    y are the logits of w_t. At the start of a sequence x is filled up with BOS.

    Attributes:
        C: token vectors, an embedding.
        H: the hidden layer; its bias is the d of the formula.
        U: from the hidden layer to the logits; its bias is the b of the formula.
        W: the direct connections, or None without them (§4.2 compares both).
    """

    def __init__(self, config: NPLMConfig) -> None:
        super().__init__()
        self.config = config
        d_x = (config.order - 1) * config.d_model
        self.C = make_embedding(config)
        self.dropout = nn.Dropout(config.dropout)
        self.H = nn.Linear(d_x, config.d_hidden)
        self.U = nn.Linear(config.d_hidden, config.vocab_size)
        self.W = nn.Linear(d_x, config.vocab_size, bias=False) if config.direct else None

    def forward(
        self,
        token_ids: Tensor,
        mask: Tensor | None = None,
        *,
        caches: TokenCaches | None = None,
        num_logits: int | None = None,
    ) -> Tensor:
        """Logits for the token that follows each token.

        Args:
            token_ids: (batch, n) token ids; with ``caches`` those that follow the tokens read.
            mask: (batch, n) boolean, False where a token is padding; it is read as BOS, so that
                padding belongs on the left.
            caches: from `new_caches`; extended by ``token_ids``.
            num_logits: give logits for the last so many positions only.

        Returns:
            logits (batch, n, vocab_size).

        Raises:
            TypeError, ValueError: not integer ids, outside the vocabulary, empty, or on another
                device than the model; a mask of another shape or dtype.
        """
        check_device("token_ids", token_ids, self.C.weight)
        windows = read_windows(
            token_ids,
            mask,
            caches,
            size=self.config.order - 1,
            num_logits=num_logits,
            vocab_size=self.config.vocab_size,
            bos_id=self.config.bos_id,
        )
        newest_first = tap("windows", windows.flip(-1))  # (batch, n, order − 1)
        # (batch, n, order − 1, d_model) → (batch, n, (order − 1) · d_model)
        x = tap("x", self.dropout(self.C(newest_first.long())).flatten(-2))
        hidden = tap("hidden", torch.tanh(self.H(x)))
        y = self.U(self.dropout(hidden))
        if self.W is not None:
            y = y + self.W(x)
        return tap("logits", y)

    def new_caches(self) -> TokenCaches:
        """Empty caches for `forward`."""
        return TokenCaches()


class LSTMLanguageModel(nn.Module):
    """Embedding, a stack of LSTM layers, and a head (Zaremba et al. 2014).

    Dropout acts on what goes up, from layer to layer, and never on what goes on in time.

    Attributes:
        embedding: token vectors.
        lstm: the stack, a ``torch.nn.LSTM``.
        head: from hidden states to logits.
    """

    def __init__(self, config: LSTMConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = make_embedding(config)
        self.dropout = nn.Dropout(config.dropout)
        self.lstm = make_lstm(config)
        self.head = nn.Linear(config.d_hidden, config.vocab_size)
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight

    def forward(
        self,
        token_ids: Tensor,
        mask: Tensor | None = None,
        *,
        caches: LSTMCaches | None = None,
        num_logits: int | None = None,
    ) -> Tensor:
        """Logits for the token that follows each token.

        To go on with a text, give the caches in which its state is kept::

            caches = model.new_caches()
            for token_ids in text.split(35, dim=1):
                logits = model(token_ids, caches=caches)
                caches.detach()  # truncated back-propagation through time

        Args:
            token_ids: (batch, n) token ids; with ``caches`` those that follow the tokens read.
            mask: (batch, n) boolean, False where a token is padding: the state passes by it as if
                it were not there, on either side. What the logits say there means nothing.
            caches: from `new_caches`; afterwards they hold the state behind the last token.
            num_logits: give logits for the last so many positions only.

        Returns:
            logits (batch, n, vocab_size).

        Raises:
            TypeError, ValueError: not integer ids, outside the vocabulary, empty, or on another
                device than the model; a mask of another shape or dtype.
        """
        check_ids("token_ids", token_ids, "batch, n", self.config.vocab_size)
        check_not_empty("token_ids", token_ids)
        check_device("token_ids", token_ids, self.embedding.weight)
        if mask is not None:
            check_token_mask("mask", mask, token_ids)
        if num_logits is not None:
            check_positive("num_logits", num_logits)
        x = tap("x", self.dropout(self.embedding(tap("token_ids", token_ids).long())))
        state = None if caches is None else caches.state_for(x)
        hidden, state = run_lstm(self.lstm, x, mask, state)
        if caches is not None:
            caches.update(state, token_ids.shape[1])
        hidden = tap("hidden", hidden)
        if num_logits is not None:
            hidden = hidden[:, -num_logits:]
        return tap("logits", self.head(self.dropout(hidden)))

    def new_caches(self) -> LSTMCaches:
        """The state before the first token, for `forward`."""
        return LSTMCaches()


class LSTMSeq2Seq(nn.Module):
    """An encoder LSTM reads the source; from its last state a decoder LSTM writes the target.

    All that the decoder learns of the source is that state, however long the source (Sutskever
    et al. 2014, §2): what attention was invented against. The methods are those of
    `lmlib.transformer.Transformer`, and what they call memory is that state::

        memory = model.encode(source)
        hidden = model.decode(model.shift_right(target), memory)
        logits = model.head(hidden)

    Attributes:
        embedding: token vectors; with tied embeddings the only ones, else those of the source.
        target_embedding: those of the target, if not tied.
        encoder, decoder: stacks of the same shape, ``torch.nn.LSTM`` both.
        head: from hidden states to logits.
    """

    def __init__(self, config: Seq2SeqConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = make_embedding(config)
        if not config.tie_embeddings:
            self.target_embedding = make_embedding(config)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder, self.decoder = make_lstm(config), make_lstm(config)
        self.head = nn.Linear(config.d_hidden, config.vocab_size)
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight

    def forward(self, source: Tensor, target_in: Tensor) -> Tensor:
        """Logits for the token that follows each token of ``target_in``: teacher forcing.

        Args:
            source: (batch, n_source) token ids. Padding (``pad_id``) is passed by.
            target_in: (batch, n) token ids, the target behind BOS: see `shift_right`.

        Returns:
            logits (batch, n, vocab_size).

        Raises:
            TypeError, ValueError: not integer ids, outside the vocabulary, empty, or on another
                device than the model.
        """
        hidden = self.decode(target_in, self.encode(source))
        return tap("logits", self.head(hidden))

    def source_mask(self, source: Tensor) -> Tensor:
        """Where the source is not padding: (batch, 1, 1, n_source) boolean."""
        check_ids("source", source, "batch, n", self.config.vocab_size)
        return padding_mask(source, self.config.pad_id)

    def encode(self, source: Tensor, source_mask: Tensor | None = None) -> Tensor:
        """
        Args:
            source: (batch, n_source) token ids.
            source_mask: broadcastable to (batch, 1, 1, n_source) boolean, True = a real token;
                `source_mask` of the source if not given.

        Returns:
            memory (batch, 2 · num_layers, d_hidden): h of each layer, then c of each.

        Raises:
            TypeError, ValueError: not integer ids, outside the vocabulary, empty, or on another
                device than the model; a mask of another shape, dtype or device.
        """
        x = self._embed("source", source, self.embedding)
        batch, n = source.shape
        mask = self.source_mask(source) if source_mask is None else source_mask
        check_mask("source_mask", mask, (batch, 1, 1, n), source.device)
        mask = mask.expand(batch, 1, 1, n)[:, 0, 0]  # (batch, n)
        _, (h, c) = run_lstm(self.encoder, x, mask, None)
        return tap("memory", torch.cat([h, c]).transpose(0, 1))

    def decode(
        self,
        target_in: Tensor,
        memory: Tensor,
        source_mask: Tensor | None = None,
        *,
        caches: LSTMCaches | None = None,
    ) -> Tensor:
        """Hidden states of the target; ``model.head`` makes logits of them.

        Args:
            target_in: (batch, n) token ids; with ``caches`` those that follow the tokens read.
            memory: (batch, 2 · num_layers, d_hidden), from `encode`.
            source_mask: as for `encode`, but not used: the memory knows nothing of single source
                tokens.
            caches: from `new_caches`; afterwards they hold the state behind the last token.

        Returns:
            hidden (batch, n, d_hidden).
        """
        y = self._embed("target_in", target_in, self._target_table)
        layers = self.config.num_layers
        sizes = {"two_layers": 2 * layers, "d_hidden": self.config.d_hidden}
        check_tensor("memory", memory, "batch, two_layers, d_hidden", **sizes)
        if target_in.shape[0] != memory.shape[0]:
            raise ValueError(
                f"target_in must have as many rows as the source, {memory.shape[0]}, "
                f"got {target_in.shape[0]}"
            )
        state = None if caches is None else caches.state_for(y)
        if state is None:
            h, c = memory.transpose(0, 1).contiguous().split(layers)
            state = (h, c)
        hidden, state = run_lstm(self.decoder, y, None, state)
        if caches is not None:
            caches.update(state, target_in.shape[1])
        return self.dropout(tap("hidden", hidden))

    def new_caches(self) -> LSTMCaches:
        """Empty caches for `decode`: before the first token it begins from the memory."""
        return LSTMCaches()

    def shift_right(self, target: Tensor) -> Tensor:
        """BOS in front, the last token dropped: (batch, n) → (batch, n)."""
        check_ids("target", target, "batch, n", self.config.vocab_size)
        bos = target.new_full((target.shape[0], 1), self.config.bos_id)
        return torch.cat([bos, target[:, :-1]], dim=1)

    @property
    def _target_table(self) -> nn.Embedding:
        return self.embedding if self.config.tie_embeddings else self.target_embedding

    def _embed(self, name: str, ids: Tensor, table: nn.Embedding) -> Tensor:
        """(batch, n) token ids → (batch, n, d_model)."""
        check_ids(name, ids, "batch, n", self.config.vocab_size)
        check_not_empty(name, ids)
        check_device(name, ids, table.weight)
        stream = "source" if name == "source" else "target"
        return tap(f"{stream}.x", self.dropout(table(tap(f"{stream}_ids", ids).long())))
