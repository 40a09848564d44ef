"""Readers: one way to ask any model what comes next, with caches where it has them.

A reader holds a batch of texts. `read` appends tokens and returns the logits behind them;
`reorder` lets rows continue other rows (beam search), `crop` takes tokens back (speculative
decoding). `make_reader` chooses the reader that fits the model:

- `CachedReader`: the model has ``new_caches``, and reads each token once.
- `PlainReader`: any function from token ids to logits; the whole text is read again each time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from lmlib.generation._base import Model, PromptLike, config_of, device_of, has_encoder, id_rows

__all__ = ["CachedReader", "PlainReader", "Reader", "make_reader"]


class Reader(Protocol):
    """What generation needs of a model."""

    device: torch.device

    def begin(self, rows: list[list[int]]) -> Tensor:
        """Read the prompts; the logits behind each, (batch, vocab_size)."""
        ...

    def read(self, token_ids: Tensor, num_logits: int = 1) -> Tensor:
        """Read (batch, n) more tokens; the last logits, (batch, num_logits, vocab_size)."""
        ...

    def reorder(self, indices: Tensor) -> None:
        """Let row i continue row ``indices[i]``, (new_batch,)."""
        ...

    def crop(self, length: int) -> None:
        """Forget all but the first ``length`` tokens."""
        ...


class CachedReader:
    """Reads with caches. Rows of unequal length are padded on the left, under a mask.

    So all rows end in the same column, and the next token is one column for all. Positions count
    the real tokens alone, so that a row gets what it would get by itself.

    Args:
        model: a decoder with ``new_caches``, or a `_Conditioned` one.
        device: where it lies.
    """

    def __init__(self, model: Any, device: torch.device) -> None:
        self.model = model
        self.caches = model.new_caches()
        self.device = device
        self._step: Callable[[Tensor], Tensor | None] | None = None

    def begin(self, rows: list[list[int]]) -> Tensor:
        width = max(map(len, rows))
        padded = torch.tensor([[0] * (width - len(row)) + row for row in rows], device=self.device)
        if all(len(row) == width for row in rows):
            return self.read(padded)[:, -1]
        lengths = torch.tensor([len(row) for row in rows], device=self.device)
        mask = torch.arange(width, device=self.device) >= width - lengths[:, None]
        return self.model(padded, mask, caches=self.caches, num_logits=1)[:, -1]

    def read(self, token_ids: Tensor, num_logits: int = 1) -> Tensor:
        logits = None
        if token_ids.shape[1] == 1 and self.caches.length and hasattr(self.model, "decode_step"):
            if self._step is None:
                self._step = self.model.decode_step(self.caches)
            logits = self._step(token_ids)
        if logits is None:
            logits = self.model(token_ids, caches=self.caches, num_logits=num_logits)
        return logits

    def reorder(self, indices: Tensor) -> None:
        self.caches.reorder(indices)
        if isinstance(self.model, _Conditioned):
            self.model.reorder(indices)

    def crop(self, length: int) -> None:
        self.caches.crop(length)


class PlainReader:
    """Reads the whole text again for every token: for any causal ``model(token_ids) → logits``.

    Rows of unequal length end in columns of their own. What stands behind a row's end is
    filling, which a causal model does not see: so neither mask nor padding id is needed.

    Args:
        model: (batch, n) token ids → logits (batch, n, vocab_size).
        device: where it lies.
        batch: how many texts.
        window: show the model no more than so many tokens, the last ones.
    """

    def __init__(
        self, model: Model, device: torch.device, batch: int, window: int | None = None
    ) -> None:
        self.model = model
        self.device = device
        self.window = window
        # Ids, and how many of each row are text: (batch, width) and (batch,).
        self.token_ids = torch.zeros(batch, 0, dtype=torch.long, device=device)
        self.lengths = torch.zeros(batch, dtype=torch.long, device=device)

    def begin(self, rows: list[list[int]]) -> Tensor:
        width = max(map(len, rows))
        filled = [row + [0] * (width - len(row)) for row in rows]
        self.token_ids = torch.tensor(filled, device=self.device)
        self.lengths = torch.tensor([len(row) for row in rows], device=self.device)
        return self._logits(1)[:, -1]

    def read(self, token_ids: Tensor, num_logits: int = 1) -> Tensor:
        n = token_ids.shape[1]
        columns = self.lengths[:, None] + torch.arange(n, device=self.device)
        self.token_ids = torch.cat([self.token_ids, torch.zeros_like(token_ids)], dim=1)
        self.token_ids = self.token_ids.scatter(1, columns, token_ids)
        self.lengths = self.lengths + n
        return self._logits(num_logits)

    def _logits(self, num_logits: int) -> Tensor:
        shown, ends = self.token_ids, self.lengths
        if self.window is not None and shown.shape[1] > self.window:
            starts = (ends - self.window).clamp(min=0)
            columns = starts[:, None] + torch.arange(self.window, device=self.device)
            shown, ends = shown.gather(1, columns), ends - starts
        logits = self.model(shown)
        if not isinstance(logits, Tensor) or logits.shape[:-1] != shown.shape:
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(
                f"model must return logits (batch, n, vocab_size) for token ids (batch, n)="
                f"{tuple(shown.shape)}, got {got}"
            )
        columns = ends[:, None] - num_logits + torch.arange(num_logits, device=self.device)
        return logits.gather(1, columns[..., None].expand(-1, -1, logits.shape[-1]))

    def reorder(self, indices: Tensor) -> None:
        self.token_ids = self.token_ids.index_select(0, indices)
        self.lengths = self.lengths.index_select(0, indices)
        if isinstance(self.model, _Conditioned):
            self.model.reorder(indices)

    def crop(self, length: int) -> None:
        self.token_ids = self.token_ids[:, :length]
        self.lengths = self.lengths.clamp(max=length)


class _Conditioned:
    """An encoder–decoder that has read its source: the decoder as a model of its own.

    Args:
        model: a `Transformer`, whose memory is computed once, or any
            ``model(source, target_in) → logits``.
        source: (batch, n_source) token ids.
    """

    def __init__(self, model: Any, source: Tensor) -> None:
        self.inner = model
        self.source = source
        self.config = getattr(model, "config", None)
        self.has_memory = has_encoder(model)
        if self.has_memory:
            self.mask = model.source_mask(source)
            self.memory = model.encode(source, self.mask)
            self.new_caches = model.new_caches

    def __call__(
        self, token_ids: Tensor, *, caches: Any = None, num_logits: int | None = None
    ) -> Tensor:
        if not self.has_memory:
            return self.inner(self.source, token_ids)
        hidden = self.inner.decode(token_ids, self.memory, self.mask, caches=caches)
        return self.inner.head(hidden if num_logits is None else hidden[:, -num_logits:])

    def reorder(self, indices: Tensor) -> None:
        self.source = self.source.index_select(0, indices)
        if self.has_memory:
            self.mask = self.mask.index_select(0, indices)
            self.memory = self.memory.index_select(0, indices)


def make_reader(
    model: Model,
    rows: list[list[int]],
    *,
    source: PromptLike | None = None,
    use_cache: bool = True,
    window: int | None = None,
    crop: bool = False,
) -> Reader:
    """The reader for this model and these prompts.

    Args:
        rows: the prompts.
        source: for an encoder–decoder, (batch, n_source) token ids or a list of rows.
        use_cache: read with caches if the model has them.
        window: see `PlainReader`; it excludes caches, in which a token's position stays.
        crop: is `Reader.crop` needed? An LSTM's state cannot be cropped: it goes without caches.
    """
    reading: Any = model
    if source is not None:
        reading = _Conditioned(model, _source_tensor(model, source))
        # A decoder knows no mask for its own tokens: unequal prompts go without caches.
        use_cache = use_cache and len({len(row) for row in rows}) == 1
    use_cache = use_cache and window is None and hasattr(reading, "new_caches")
    if use_cache and (not crop or hasattr(reading.new_caches(), "crop")):
        return CachedReader(reading, device_of(model))
    return PlainReader(reading, device_of(model), len(rows), window)


def _source_tensor(model: Model, source: PromptLike) -> Tensor:
    """The rows of the source, filled up on the right: (batch, n_source)."""
    rows = id_rows("source", source)
    width, pad_id = max(map(len, rows)), config_of(model, "pad_id")
    if pad_id is None and any(len(row) < width for row in rows):
        raise ValueError("source must have rows of equal length, for the model has no pad_id")
    padded = [row + [pad_id] * (width - len(row)) for row in rows]
    return torch.tensor(padded, device=device_of(model))
