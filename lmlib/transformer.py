"""The Transformer: an encoder that reads the source, a decoder that writes the target.

Vaswani et al. 2017, with the parts that later models changed as options of `TransformerConfig`.

>>> config = TransformerConfig(vocab_size=100, d_model=16, num_heads=2, d_ff=32)
>>> model = Transformer(config).eval()
>>> source = torch.tensor([[5, 6, 7, 8]])
>>> target = torch.tensor([[9, 10, 11]])
>>> model(source, model.shift_right(target)).shape  # logits for each token of the target
torch.Size([1, 3, 100])
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lmlib._checks import check_ids, check_mask, check_tensor
from lmlib._stacks import Decoder, DecoderCaches, Encoder, TransformerConfig
from lmlib._tap import tap
from lmlib.attention import padding_mask
from lmlib.layers import DecoderLayerWeights, make_norm
from lmlib.positions import LearnedPositionalEmbedding, SinusoidalPositionalEncoding

__all__ = [
    "Decoder",
    "DecoderCaches",
    "Encoder",
    "ParameterRow",
    "Transformer",
    "TransformerConfig",
    "parameter_table",
]


class Transformer(nn.Module):
    """Encoder and decoder with embeddings, positions and the head that gives logits.

    Embeddings are drawn from N(0, 0.02²), linear maps Xavier-uniform with zero biases. So an
    untrained model finds all tokens about equally likely.

    Attributes:
        embedding: token vectors; with tied embeddings the only ones, else those of the source.
        target_embedding: those of the target, if not tied.
        positions: the module that adds position vectors, or None where none are added.
        target_positions: that of the target, if not tied.
        embedding_norm, target_embedding_norm: with ``norm_embeddings``, of source and target.
        encoder, decoder: the stacks.
        head: from hidden states to logits.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = _make_embedding(config)
        if not config.tie_embeddings:
            self.target_embedding = _make_embedding(config)
        self.positions = _added_positions(config)
        if not config.tie_positions:
            self.target_positions = _added_positions(config)
        if config.norm_embeddings:
            self.embedding_norm = _make_norm(config)
            self.target_embedding_norm = _make_norm(config)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=config.head_bias)
        if config.head_bias:
            nn.init.zeros_(self.head.bias)
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight
        else:
            nn.init.xavier_uniform_(self.head.weight)

    def forward(
        self, source: Tensor, target_in: Tensor, *, need_weights: bool = False
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Logits for the token that follows each token of ``target_in``.

        Args:
            source: (batch, n_source) token ids. Padding (``pad_id``) is masked.
            target_in: (batch, n) token ids, the target behind BOS: see `shift_right`.
            need_weights: return the attention weights as well, by the name of the module they
                come from, e.g. "decoder.layers.0.cross_attention".

        Returns:
            logits (batch, n, vocab_size); with ``need_weights`` logits and weights.

        Raises:
            TypeError, ValueError: not integer ids, outside the vocabulary, too long, empty, or on
                another device than the model.
        """
        source_mask = self.source_mask(source)
        memory, encoder_weights = self._encode(source, source_mask, need_weights)
        hidden, decoder_weights = self._decode(target_in, memory, source_mask, None, need_weights)
        logits = tap("logits", self.head(hidden))
        if encoder_weights is None or decoder_weights is None:
            return logits
        weights: dict[str, Tensor] = {}
        for i, encoder_layer in enumerate(encoder_weights):
            weights[f"encoder.layers.{i}.self_attention"] = encoder_layer
        for i, decoder_layer in enumerate(decoder_weights):
            weights[f"decoder.layers.{i}.self_attention"] = decoder_layer.self_attention
            weights[f"decoder.layers.{i}.cross_attention"] = decoder_layer.cross_attention
        return logits, weights

    def source_mask(self, source: Tensor) -> Tensor:
        """Where the source is not padding: (batch, 1, 1, n_source) boolean."""
        check_ids("source", source, "batch, n", self.config.vocab_size)
        return padding_mask(source, self.config.pad_id)

    def encode(self, source: Tensor, source_mask: Tensor | None = None) -> Tensor:
        """
        Args:
            source: (batch, n_source) token ids.
            source_mask: boolean, True = may look at; `source_mask` of the source if not given.

        Returns:
            memory (batch, n_source, d_model).
        """
        mask = self.source_mask(source) if source_mask is None else source_mask
        return self._encode(source, mask, need_weights=False)[0]

    def decode(
        self,
        target_in: Tensor,
        memory: Tensor,
        source_mask: Tensor | None,
        *,
        caches: DecoderCaches | None = None,
    ) -> Tensor:
        """Hidden states of the target; ``model.head`` makes logits of them.

        With caches only the tokens not yet read are given, and the result is the same::

            caches = model.new_caches()
            for token in target_in.split(1, dim=1):
                hidden = model.decode(token, memory, source_mask, caches=caches)

        Args:
            target_in: (batch, n) token ids; padding among them is masked, except a first token
                that is ``bos_id``.
            memory: (batch, n_source, d_model), from `encode`.
            source_mask: `source_mask` of the source. None says that it holds no padding.
            caches: from `new_caches`; extended by ``target_in``.

        Returns:
            hidden (batch, n, d_model).
        """
        return self._decode(target_in, memory, source_mask, caches, need_weights=False)[0]

    def new_caches(self) -> DecoderCaches:
        """Empty caches for `decode`."""
        return DecoderCaches(self.config.num_decoder_layers)

    def shift_right(self, target: Tensor) -> Tensor:
        """BOS in front, the last token dropped: (batch, n) → (batch, n).

        So position i of the decoder reads what stands before target[:, i], and not that token.
        """
        check_ids("target", target, "batch, n", self.config.vocab_size)
        if target.shape[1] == 0:
            raise ValueError(f"target must have at least 1 token, got shape {tuple(target.shape)}")
        bos = target.new_full((target.shape[0], 1), self.config.bos_id)
        return torch.cat([bos, target[:, :-1]], dim=1)

    def _encode(
        self, source: Tensor, source_mask: Tensor, need_weights: bool
    ) -> tuple[Tensor, list[Tensor] | None]:
        x = self._embed("source", source, offset=0)
        batch, n = source.shape
        shape = (batch, self.config.num_heads, n, n)
        check_mask("source_mask", source_mask, shape, source.device)
        memory, weights = self.encoder(x, source_mask, need_weights=need_weights)
        return tap("memory", memory), weights

    def _decode(
        self,
        target_in: Tensor,
        memory: Tensor,
        source_mask: Tensor | None,
        caches: DecoderCaches | None,
        need_weights: bool,
    ) -> tuple[Tensor, list[DecoderLayerWeights] | None]:
        past = 0 if caches is None else caches.length
        y = self._embed("target_in", target_in, past)
        self._check_source(target_in, memory, source_mask, caches)
        may_look = padding_mask(target_in, self.config.pad_id)
        if past == 0 and self.config.pad_id == self.config.bos_id:
            is_first = torch.arange(target_in.shape[1], device=target_in.device) == 0
            may_look = may_look | is_first
        if caches is not None:
            if caches.may_look is not None:
                may_look = torch.cat([caches.may_look, may_look], dim=-1)
            caches.may_look = may_look
        return self.decoder(
            y, memory, may_look, source_mask, caches=caches, need_weights=need_weights
        )

    def _check_source(
        self,
        target_in: Tensor,
        memory: Tensor,
        source_mask: Tensor | None,
        caches: DecoderCaches | None,
    ) -> None:
        """Bad input is met before any cache is touched."""
        batch, n = target_in.shape
        check_tensor("memory", memory, "batch, n_source, d_model", d_model=self.config.d_model)
        if batch != memory.shape[0]:
            raise ValueError(
                f"target_in must have as many rows as the source, {memory.shape[0]}, got {batch}"
            )
        if source_mask is not None:
            shape = (batch, self.config.num_heads, n, memory.shape[1])
            check_mask("source_mask", source_mask, shape, target_in.device)
        if caches is None:
            return
        if len(caches.layers) != self.config.num_decoder_layers:
            raise ValueError(
                f"caches must be for {self.config.num_decoder_layers} layers, "
                f"got {len(caches.layers)}"
            )
        if caches.batch not in (None, batch):
            raise ValueError(
                f"target_in must have as many rows as the caches, {caches.batch}, got {batch}"
            )
        n_source = caches.layers[0].cross_attention.length
        if n_source not in (0, memory.shape[1]):
            raise ValueError(
                f"memory must be the one that the caches hold, of {n_source} tokens, "
                f"got {memory.shape[1]}"
            )

    def _embed(self, name: str, ids: Tensor, offset: int) -> Tensor:
        """(batch, n) token ids → (batch, n, d_model), with positions if those are added."""
        config, is_target = self.config, name == "target_in"
        table, positions = self.embedding, self.positions
        if is_target and not config.tie_embeddings:
            table = self.target_embedding
        if is_target and not config.tie_positions:
            positions = self.target_positions
        check_ids(name, ids, "batch, n", config.vocab_size)
        end = offset + ids.shape[1]
        if not offset < end <= config.max_seq_len:
            raise ValueError(
                f"{name} must have 1 to max_seq_len={config.max_seq_len} tokens, got {end}"
            )
        if ids.device != table.weight.device:
            raise ValueError(
                f"{name} must be on {table.weight.device} like the model, got {ids.device}"
            )
        stream, tap_name = ("target", name) if is_target else ("source", "source_ids")
        ids = tap(tap_name, ids)
        x = tap(f"{stream}.embedding", table(ids.long()))
        if config.scale_embeddings:
            x = tap(f"{stream}.scaled", x * math.sqrt(config.d_model))
        if positions is not None:
            x = positions(x, offset)
        if config.norm_embeddings:
            x = tap(f"{stream}.sum", x)
            x = self.target_embedding_norm(x) if is_target else self.embedding_norm(x)
        return tap(f"{stream}.x", self.dropout(x))


class ParameterRow(NamedTuple):
    """One row of `parameter_table`.

    Attributes:
        name: of the parameter, as in ``model.named_parameters()``.
        shape: its sizes.
        numel: how many numbers it has.
    """

    name: str
    shape: tuple[int, ...]
    numel: int


def parameter_table(model: nn.Module) -> list[ParameterRow]:
    """Every parameter of a model with its shape and size; one that is shared is counted once.

    The sizes add up to ``sum(p.numel() for p in model.parameters())``. Under
    ``torch.device("meta")`` a model of any size can be counted without holding it.

    >>> for row in parameter_table(nn.Linear(3, 2)):
    ...     print(row.name, row.shape, row.numel)
    weight (2, 3) 6
    bias (2,) 2
    """
    return [
        ParameterRow(name, tuple(parameter.shape), parameter.numel())
        for name, parameter in model.named_parameters()
    ]


def _make_embedding(config: TransformerConfig) -> nn.Embedding:
    embedding = nn.Embedding(config.vocab_size, config.d_model)
    nn.init.normal_(embedding.weight, std=0.02)
    return embedding


def _make_norm(config: TransformerConfig) -> nn.Module:
    return make_norm(config.norm, config.d_model, config.norm_eps, config.bias)


def _added_positions(
    config: TransformerConfig,
) -> SinusoidalPositionalEncoding | LearnedPositionalEmbedding | None:
    if config.positions in ("sinusoidal", "sinusoidal_halves"):
        return SinusoidalPositionalEncoding(
            config.d_model,
            max_seq_len=config.max_seq_len,
            interleaved=config.positions == "sinusoidal",
        )
    if config.positions == "learned":
        return LearnedPositionalEmbedding(config.max_seq_len, config.d_model)
    return None
