"""Generation: greedy, sampling with filters, beam search, streaming, speculative decoding.

Works with any callable ``model(token_ids) → logits`` and, where the model has caches, with them;
with an encoder–decoder too (``source=``).

>>> import torch
>>> def counting(token_ids):  # a model of ten tokens: after i comes i + 1, almost surely
...     return 9.0 * torch.nn.functional.one_hot((token_ids + 1) % 10, 10)
>>> generate(counting, [3, 4], max_new_tokens=4).token_ids
[[5, 6, 7, 8]]
>>> seeded = PortableGenerator(1)
>>> sample(counting, [3, 4], max_new_tokens=4, temperature=9.0, generator=seeded).token_ids
[[5, 0, 4, 9]]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lmlib._checks import check_positive
from lmlib.generation._base import Generation, Model, PromptLike
from lmlib.generation._beam import beam_search
from lmlib.generation._draw import Generators, PortableGenerator, check_generators, draw
from lmlib.generation._samplers import (
    check_temperature,
    min_p_filter,
    repetition_penalty_filter,
    temperature_filter,
    top_k_filter,
    top_p_filter,
)
from lmlib.generation._speculative import SpeculativeGeneration, speculative_generate
from lmlib.generation._writer import Step, Writer

__all__ = [
    "Generation",
    "PortableGenerator",
    "SpeculativeGeneration",
    "Step",
    "beam_search",
    "draw",
    "generate",
    "greedy_search",
    "min_p_filter",
    "repetition_penalty_filter",
    "sample",
    "speculative_generate",
    "stream",
    "temperature_filter",
    "top_k_filter",
    "top_p_filter",
]


def generate(
    model: Model,
    prompt: PromptLike | None = None,
    *,
    max_new_tokens: int,
    source: PromptLike | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    num_beams: int = 1,
    generator: Generators = None,
    repetition_penalty: float | None = None,
    suppress: Sequence[int] = (),
    eos_id: int | Sequence[int] | None = None,
    stop: Sequence[int | Sequence[int]] = (),
    use_cache: bool = True,
    **options: Any,
) -> Generation:
    """Continue each prompt: the one entry to `greedy_search`, `sample` and `beam_search`.

    With ``num_beams`` above 1 it is beam search; else, if one of temperature, top_k, top_p, min_p
    is given, sampling; else greedy search.

    Args:
        model: token ids (batch, n) → logits (batch, n, vocab_size): a module, or any causal
            function. It is put into eval mode meanwhile, and back.
        prompt: ids of one text (a list or an (n,) tensor) or of several (a list of lists, of any
            lengths, or a (batch, n) tensor). Each row is continued as if it were alone. BOS
            alone if None. With ``source`` it is what the decoder reads first.
        max_new_tokens: how many tokens to write at most.
        source: for an encoder–decoder, the ids that its encoder reads, (batch, n_source) or rows.
        temperature, top_k, top_p, min_p: see the filter of that name.
        num_beams: how many continuations beam search pursues.
        generator: the source of random numbers: see `sample`.
        repetition_penalty: see `repetition_penalty_filter`; prompt and new tokens count.
        suppress: ids that are never written.
        eos_id: the id (or ids) that ends a text; the config's if None, ``()`` for none at all.
        stop: more ends: a list of ids and of lists of ids. Only new tokens make an end.
        use_cache: use the model's caches, if it has any. The tokens are the same.
        options: the rest of what the function knows that it comes to: on_overflow (see
            `greedy_search`); with beams num_return, length_penalty and early_stopping (see
            `beam_search`).

    Returns:
        a `Generation`: token_ids, log_probs, why each row ended.

    Raises:
        TypeError, ValueError: an argument is not allowed, or does not go with another; the text
            would outgrow the model's max_seq_len; nothing is left to draw.
    """
    check_positive("num_beams", num_beams)
    given = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    asked = [name for name, value in given.items() if value is not None]
    options = {
        "max_new_tokens": max_new_tokens,
        "source": source,
        "repetition_penalty": repetition_penalty,
        "suppress": suppress,
        "eos_id": eos_id,
        "stop": stop,
        "use_cache": use_cache,
        **options,
    }
    if num_beams > 1:
        if asked:
            raise ValueError(f"num_beams={num_beams} does not sample: it takes no {asked[0]}")
        if generator is not None:
            raise ValueError(f"num_beams={num_beams} does not sample: it takes no generator")
        return beam_search(model, prompt, num_beams=num_beams, **options)
    if asked:
        options.update({name: given[name] for name in asked})
        return sample(model, prompt, generator=generator, **options)
    check_generators(generator, batch=1, sampling=False)
    return greedy_search(model, prompt, **options)


def greedy_search(
    model: Model,
    prompt: PromptLike | None = None,
    *,
    max_new_tokens: int,
    source: PromptLike | None = None,
    repetition_penalty: float | None = None,
    suppress: Sequence[int] = (),
    eos_id: int | Sequence[int] | None = None,
    stop: Sequence[int | Sequence[int]] = (),
    use_cache: bool = True,
    on_overflow: str = "error",
) -> Generation:
    """Write the most probable token, again and again; of equals the smallest id.

    Args:
        on_overflow: what to do where prompt and max_new_tokens exceed the model's max_seq_len.
            "error" refuses; with "slide" the model sees its last max_seq_len tokens (without
            caches: each token's position changes).

    For the other arguments, what is returned and raised see `generate`.
    """
    return Writer(
        model,
        prompt,
        source,
        max_new_tokens,
        repetition_penalty=repetition_penalty,
        suppress=suppress,
        eos_id=eos_id,
        stop=stop,
        use_cache=use_cache,
        on_overflow=on_overflow,
    ).run()


def sample(
    model: Model,
    prompt: PromptLike | None = None,
    *,
    max_new_tokens: int,
    source: PromptLike | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    generator: Generators = None,
    repetition_penalty: float | None = None,
    suppress: Sequence[int] = (),
    eos_id: int | Sequence[int] | None = None,
    stop: Sequence[int | Sequence[int]] = (),
    use_cache: bool = True,
    on_overflow: str = "error",
) -> Generation:
    """Draw each token from the model's distribution, as far as the filters leave it.

    One uniform number is taken for each row at each step, in the order of rows, whether or not a
    row has ended; `draw` says how it decides. So a seed gives the same text everywhere, and what
    one row writes does not change another. With a generator for each row they write what they
    would write alone.

    Args:
        temperature, top_k, top_p, min_p: see the filter of that name. They follow the repetition
            penalty, in this order.
        generator: a ``torch.Generator``, anything with ``random()`` (a `PortableGenerator`,
            Python's ``random.Random``), a function that gives numbers in [0, 1), or a list of
            these, one for each row. torch's default generator if None.
        on_overflow: see `greedy_search`.

    For the other arguments, what is returned and raised see `generate`.
    """
    check_temperature(temperature)
    return Writer(
        model,
        prompt,
        source,
        max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        generator=generator,
        repetition_penalty=repetition_penalty,
        suppress=suppress,
        eos_id=eos_id,
        stop=stop,
        use_cache=use_cache,
        on_overflow=on_overflow,
    ).run()


def stream(
    model: Model,
    prompt: PromptLike | None = None,
    *,
    max_new_tokens: int,
    source: PromptLike | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    generator: Generators = None,
    repetition_penalty: float | None = None,
    suppress: Sequence[int] = (),
    eos_id: int | Sequence[int] | None = None,
    stop: Sequence[int | Sequence[int]] = (),
    use_cache: bool = True,
    on_overflow: str = "error",
    need_distributions: bool = False,
) -> Iterator[Step]:
    """The same tokens as `sample`'s or `greedy_search`'s, each as soon as it is written.

    It samples if one of temperature, top_k, top_p, min_p is given. The model runs, and is in eval
    mode, only while a step is being asked for. (Beam search has no stream: it writes no token for
    good till its end.)

    Args:
        on_overflow: see `greedy_search`.
        need_distributions: give with each step the probabilities before and after each filter.

    For the other arguments see `generate` and `sample`.

    Returns:
        an iterator of `Step`: one new token for each row that goes on. It ends with the last row.

    Raises:
        TypeError, ValueError: see `generate`. What can be known without the model is said at the
            call, the rest (an id outside the vocabulary, nothing left to draw) by the iterator.

    >>> import torch
    >>> def even(token_ids):
    ...     return torch.zeros(*token_ids.shape, 4)
    >>> for step in stream(even, [0], max_new_tokens=2, need_distributions=True, suppress=[0]):
    ...     print(step.token_ids, step.distributions["suppress"])
    [1] tensor([[0.0000, 0.3333, 0.3333, 0.3333]])
    [1] tensor([[0.0000, 0.3333, 0.3333, 0.3333]])
    """
    return Writer(
        model,
        prompt,
        source,
        max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        generator=generator,
        repetition_penalty=repetition_penalty,
        suppress=suppress,
        eos_id=eos_id,
        stop=stop,
        use_cache=use_cache,
        on_overflow=on_overflow,
    ).stream(need_distributions)
