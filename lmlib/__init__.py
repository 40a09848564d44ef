"""lmlib: the PyTorch package behind 《你好，语言模型》.

Plain modules, one a topic, each held equal to its reference by a test. Import what
you need from the module that is named after it::

    from lmlib.attention import MultiHeadAttention, causal_mask

The package itself offers only what every script needs first: a device and a seed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__version__ = "0.1.0"
__all__ = ["__version__", "device", "seed_everything"]

# torch is imported inside the functions, so that `import lmlib` stays instant for code
# that only wants a path or a tokenizer.


def device(prefer: str | None = None) -> torch.device:
    """The best device of this machine: ``cuda``, else ``mps``, else ``cpu``.

    Args:
        prefer: ask for one kind instead (``"cuda"``, ``"cuda:1"``, ``"mps"``, ``"cpu"``).

    Raises:
        ValueError: ``prefer`` is unknown, or this machine does not have it.

    >>> device("cpu")
    device(type='cpu')
    """
    import torch

    count = {
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
        "cpu": 1,
    }
    available = [kind for kind, number in count.items() if number]
    if prefer is None:
        return torch.device(available[0])
    kind, _, index = prefer.partition(":")
    if kind not in count or (index and not index.isdecimal()):
        raise ValueError(f"prefer must be one of {', '.join(count)}, got {prefer!r}")
    if int(index or 0) >= count[kind]:
        raise ValueError(f"prefer={prefer!r}: not on this machine, which has {available}")
    return torch.device(prefer)


def seed_everything(seed: int = 0) -> torch.Generator:
    """Seed ``random``, NumPy and torch (every device), and return a fresh CPU generator.

    Args:
        seed: an integer, 0 ≤ seed < 2³² (NumPy allows no more).

    Raises:
        ValueError: the seed is out of that range.
    """
    import random

    import numpy as np
    import torch

    if not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be an integer from 0 to 2**32 - 1, got {seed!r}")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return torch.Generator().manual_seed(seed)
