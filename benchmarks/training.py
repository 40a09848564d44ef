"""Training: tokens a second of lmlib's GPT beside transformers' GPT-2 and torch's own layers.

All three have the same shapes, the same AdamW, no dropout, and the loss computed the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.harness import compare, memory_table, options
from lmlib.gpt import GPT, GPTConfig

SIZES = {"d_model": 192, "num_layers": 4, "num_heads": 6}
BATCH, LENGTH = 16, 128
QUICK_BATCH, QUICK_LENGTH = 2, 16
VOCABULARIES = (3785, 10_000)


class TorchDecoder(nn.Module):
    """A decoder-only model of torch's own layers."""

    def __init__(self, vocab_size: int, length: int) -> None:
        super().__init__()
        d_model, num_heads = SIZES["d_model"], SIZES["num_heads"]
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.positions = nn.Embedding(length, d_model)
        layer = nn.TransformerEncoderLayer(
            d_model, num_heads, 4 * d_model, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(
            layer, SIZES["num_layers"], nn.LayerNorm(d_model), enable_nested_tensor=False
        )
        self.head = nn.Linear(d_model, vocab_size, bias=False)
        self.head.weight = self.embedding.weight
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, token_ids: Tensor) -> Tensor:
        n = token_ids.shape[1]
        x = self.embedding(token_ids) + self.positions.weight[:n]
        return self.head(self.encoder(x, mask=self.mask[:n, :n], is_causal=True))


def gpt2(vocab_size: int, length: int) -> nn.Module:
    """transformers' GPT-2 in the shapes of `SIZES`, without dropout."""
    import transformers

    config = transformers.GPT2Config(
        vocab_size=vocab_size, n_positions=length, n_embd=SIZES["d_model"],
        n_layer=SIZES["num_layers"], n_head=SIZES["num_heads"],
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config)


def gpt(vocab_size: int, length: int) -> GPT:
    """lmlib's GPT in the same shapes."""
    return GPT(GPTConfig.gpt2(vocab_size=vocab_size, max_seq_len=length, **SIZES))


def step(kind: str, vocab_size: int, batch: int, length: int) -> Callable[[], object]:
    """One step of training: forward, loss, backward, AdamW."""
    torch.manual_seed(0)
    logits: Callable[[Tensor], Tensor]
    if kind == "transformers":
        model = gpt2(vocab_size, length)
        logits = lambda ids: model(ids, use_cache=False).logits  # noqa: E731
    else:
        model = {"lmlib": gpt, "torch": TorchDecoder}[kind](vocab_size, length)
        logits = model
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    ids = torch.randint(0, vocab_size, (batch, length + 1))

    def call() -> None:
        loss = F.cross_entropy(logits(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return call


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables."""
    found = options(argv, __doc__)
    torch.set_num_threads(found.threads)
    batch, length = (QUICK_BATCH, QUICK_LENGTH) if found.quick else (BATCH, LENGTH)
    kinds = {
        "lmlib GPT": "lmlib",
        "transformers GPT2LMHeadModel": "transformers",
        "nn.TransformerEncoder": "torch",
    }
    for vocab_size in VOCABULARIES[: 1 if found.quick else None]:
        shape = (vocab_size, batch, length)
        comparison = compare(
            f"one training step, {vocab_size} tokens in the vocabulary, {found.threads} threads",
            {label: step(kind, *shape) for label, kind in kinds.items()},
            repeats=2 if found.quick else 15,
            warmup=1 if found.quick else 3,
            work=batch * length,
            unit="tokens",
        )
        print(comparison)
        if not found.quick:
            targets: dict[str, tuple[str, tuple[object, ...]]] = {
                label: ("benchmarks.training:step", (kind, *shape)) for label, kind in kinds.items()
            }
            print(memory_table(targets))


if __name__ == "__main__":
    main()
