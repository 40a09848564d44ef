"""BERT fine-tuning: one step of lmlib's classifier beside transformers', on the CPU.

Both models have the same shape and weights of the same kind, read the same padded batch and are
trained by the same AdamW. Steps are interleaved in one process, so that whatever else the machine
does meets both alike. Prints medians, ratios (above 1: lmlib is faster), and the bytes that each
keeps for the backward pass::

    OMP_NUM_THREADS=1 python benchmarks/bert_finetune.py [--quick]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmlib.bert import BertConfig, BertForSequenceClassification

PARTS = ("forward", "backward", "optimizer", "step")


def models(config: BertConfig, num_labels: int) -> dict[str, nn.Module]:
    """Both models in training mode, of the same shape."""
    import transformers

    theirs = transformers.BertConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.d_model,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        intermediate_size=config.d_ff,
        max_position_embeddings=config.max_seq_len,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.dropout,
        num_labels=num_labels,
    )
    mine = BertForSequenceClassification(config, num_labels)
    other = transformers.BertForSequenceClassification(theirs)
    sizes = [sum(p.numel() for p in model.parameters()) for model in (mine, other)]
    assert sizes[0] == sizes[1], sizes
    return {"lmlib": mine.train(), "transformers": other.train()}


def losses(pair: dict[str, nn.Module], batch: tuple[Tensor, ...]) -> dict[str, Callable]:
    """For each model a function that makes its loss."""
    ids, segments, mask, labels = batch

    def mine() -> Tensor:
        return F.cross_entropy(pair["lmlib"](ids, segments, mask), labels)

    def theirs() -> Tensor:
        model = pair["transformers"]
        logits = model(ids, attention_mask=mask.long(), token_type_ids=segments).logits
        return F.cross_entropy(logits, labels)

    return {"lmlib": mine, "transformers": theirs}


def make_batch(config: BertConfig, batch: int, n: int, num_labels: int) -> tuple[Tensor, ...]:
    """Pairs of sentences, n/4 to n tokens long, padded on the right to n."""
    ids = torch.randint(5, config.vocab_size, (batch, n))
    lengths = torch.linspace(n // 4, n, batch).long()[:, None]
    at = torch.arange(n)
    mask = at < lengths
    segments = ((at >= lengths // 2) & mask).long()
    return ids.masked_fill(~mask, 0), segments, mask, torch.randint(num_labels, (batch,))


def timed_step(loss_of: Callable, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Seconds of each part of one step."""
    optimizer.zero_grad()
    start = time.perf_counter()
    loss = loss_of()
    forward = time.perf_counter()
    loss.backward()
    backward = time.perf_counter()
    optimizer.step()
    end = time.perf_counter()
    return dict(
        zip(
            PARTS,
            (forward - start, backward - forward, end - backward, end - start),
            strict=True,
        )
    )


def saved_bytes(loss_of: Callable, model: nn.Module) -> int:
    """What the forward pass keeps for the backward pass, parameters not counted."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    storages: dict[int, int] = {}
    kept = []  # alive until the end, so that no address is used twice

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss_of()
    return sum(storages.values())


def compare(config: BertConfig, batch: int, n: int, rounds: int, num_labels: int = 2) -> float:
    """Print one table; return how many times as fast as transformers a step of lmlib is."""
    torch.manual_seed(0)
    pair = models(config, num_labels)
    loss_of = losses(pair, make_batch(config, batch, n, num_labels))
    optimizers = {
        name: torch.optim.AdamW(model.parameters(), lr=2e-5) for name, model in pair.items()
    }
    times: dict[str, list[dict[str, float]]] = {name: [] for name in pair}
    for turn in range(rounds + 2):  # the first two warm up
        for name in pair if turn % 2 else reversed(pair):
            row = timed_step(loss_of[name], optimizers[name])
            if turn >= 2:
                times[name].append(row)
    medians = {
        name: {part: statistics.median(row[part] for row in rows) for part in PARTS}
        for name, rows in times.items()
    }
    print(
        f"d_model={config.d_model} num_layers={config.num_layers} num_heads={config.num_heads} "
        f"vocab_size={config.vocab_size} dropout={config.dropout} batch={batch} n={n} "
        f"threads={torch.get_num_threads()} rounds={rounds}"
    )
    print(f"{'ms':>12} {'lmlib':>9} {'transformers':>13} {'ratio':>6}")
    for part in PARTS:
        mine, theirs = medians["lmlib"][part], medians["transformers"][part]
        print(f"{part:>12} {mine * 1e3:9.1f} {theirs * 1e3:13.1f} {theirs / mine:6.2f}")
    kept = {name: saved_bytes(loss_of[name], model) / 2**20 for name, model in pair.items()}
    ratio = kept["transformers"] / kept["lmlib"]
    print(f"{'saved MiB':>12} {kept['lmlib']:9.1f} {kept['transformers']:13.1f} {ratio:6.2f}")
    return medians["transformers"]["step"] / medians["lmlib"]["step"]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small model and few rounds")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args(argv)
    if options.quick:
        config = BertConfig(vocab_size=500, d_model=64, num_layers=2, num_heads=2, d_ff=256)
        compare(config, batch=4, n=32, rounds=3)
        return
    for dropout in (0.1, 0.0):
        config = BertConfig(
            vocab_size=5000, d_model=192, num_layers=4, num_heads=6, d_ff=768, dropout=dropout
        )
        compare(config, batch=16, n=128, rounds=options.rounds)


if __name__ == "__main__":
    main()
