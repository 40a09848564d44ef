"""Generation: greedy with a key/value cache, beside transformers' ``generate``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from benchmarks.harness import compare, memory_table, options
from benchmarks.training import SIZES, gpt, gpt2
from lmlib.generation import greedy_search
from lmlib.gpt import GPT, GPTConfig

VOCAB_SIZE, PROMPT, NEW = 3785, 16, 100


def today(vocab_size: int, length: int) -> GPT:
    """A Llama-style GPT of the same sizes, with grouped key/value heads."""
    config = GPTConfig.llama(vocab_size=vocab_size, max_seq_len=length, num_kv_heads=2, **SIZES)
    return GPT(config)


def run(kind: str, batch: int, new: int) -> Callable[[], object]:
    """Continue ``batch`` prompts by ``new`` tokens."""
    torch.manual_seed(0)
    length = PROMPT + new
    prompt = torch.randint(0, VOCAB_SIZE, (batch, PROMPT))
    if kind == "transformers":
        from transformers.utils import logging

        logging.set_verbosity_error()
        model = gpt2(VOCAB_SIZE, length).eval()
        mask = torch.ones_like(prompt)
        return lambda: model.generate(
            prompt, attention_mask=mask, do_sample=False,
            max_new_tokens=new, min_new_tokens=new, pad_token_id=0,
        )  # fmt: skip
    own = {"lmlib": gpt, "lmlib today": today}[kind](VOCAB_SIZE, length).eval()
    return lambda: greedy_search(own, prompt, max_new_tokens=new)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables."""
    found = options(argv, __doc__)
    torch.set_num_threads(found.threads)
    new = 5 if found.quick else NEW
    kinds = {
        "lmlib GPT": "lmlib",
        "transformers generate": "transformers",
        "lmlib GPT, Llama's parts": "lmlib today",
    }
    for batch in (1, 8):
        comparison = compare(
            f"{new} new tokens for each of {batch} prompts, {found.threads} threads",
            {label: run(kind, batch, new) for label, kind in kinds.items()},
            repeats=2 if found.quick else 11,
            warmup=1 if found.quick else 2,
            work=batch * new,
            unit="tokens",
        )
        print(comparison)
        if not found.quick:
            targets: dict[str, tuple[str, tuple[object, ...]]] = {
                label: ("benchmarks.generation:run", (kind, batch, new))
                for label, kind in kinds.items()
            }
            print(memory_table(targets))


if __name__ == "__main__":
    main()
