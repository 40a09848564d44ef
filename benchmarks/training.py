"""Training: tokens a second of lmlib's GPT beside transformers' GPT-2 and torch's own layers.

All have the same shapes, the same fused AdamW, no dropout, and the loss computed the same way. The
same few lines train three of them; the fourth is lmlib's GPT once more, under
`lmlib.training.train`: its ratio to the first is what that loop costs, which also clips, seeds and
looks for what is not finite.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.harness import compare, memory_table, options
from lmlib.gpt import GPT, GPTConfig
from lmlib.training import TrainConfig, train

SIZES = {"d_model": 192, "num_layers": 4, "num_heads": 6}
BATCH, LENGTH = 16, 128
QUICK_BATCH, QUICK_LENGTH = 2, 16
VOCABULARIES = (3785, 10_000)
# In one call, so that what `train` does once weighs as little as it does in a real run.
STEPS, QUICK_STEPS = 10, 2


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


def step(
    kind: str, vocab_size: int, batch: int, length: int, number: int = 1
) -> Callable[[], object]:
    """A call of it takes so many steps of training: forward, loss, backward, AdamW."""
    torch.manual_seed(0)
    ids = torch.randint(0, vocab_size, (batch, length + 1))
    if kind == "train":
        trained = gpt(vocab_size, length)
        config = TrainConfig(max_steps=number, learning_rate=1e-4, schedule="constant")
        return lambda: train(trained, [ids], config)
    logits: Callable[[Tensor], Tensor]
    if kind == "transformers":
        model = gpt2(vocab_size, length)
        logits = lambda ids: model(ids, use_cache=False).logits  # noqa: E731
    else:
        model = {"lmlib": gpt, "torch": TorchDecoder}[kind](vocab_size, length)
        logits = model
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def call() -> None:
        for _ in range(number):
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
        "lmlib GPT, by lmlib.training.train": "train",
    }
    number = QUICK_STEPS if found.quick else STEPS
    for vocab_size in VOCABULARIES[: 1 if found.quick else None]:
        shape = (vocab_size, batch, length)
        comparison = compare(
            f"{number} training steps, vocabulary of {vocab_size}, {found.threads} threads",
            {label: step(kind, *shape, number) for label, kind in kinds.items()},
            repeats=2 if found.quick else 9,
            warmup=1,
            work=number * batch * length,
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
