"""`GPT.decode_step` is `GPT.forward` for one token, and steps aside where it would be noticed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_gpts import VARIANTS, small_gpt
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from lmlib._tap import tracing
from lmlib.generation import beam_search, greedy_search, sample, stream
from lmlib.gpt import GPT, GPTCaches


def read(model: GPT, n: int = 5, batch: int = 2) -> GPTCaches:
    """Caches that hold n tokens."""
    caches = model.new_caches()
    with torch.no_grad():
        model(ids(model, batch, n), caches=caches)
    return caches


def ids(model: GPT, batch: int, n: int) -> Tensor:
    torch.manual_seed(1)
    return torch.randint(0, model.config.vocab_size, (batch, n))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_equal_to_forward(variant: dict[str, Any], dtype: torch.dtype) -> None:
    model = small_gpt(**variant).to(dtype)
    caches = read(model)
    twin = copy.copy(caches)
    step = model.decode_step(caches)
    # Equal, but for the order in which a kernel may add.
    tolerance = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 0.04}[dtype]
    with torch.no_grad():
        for token_ids in ids(model, 2, 6).split(1, dim=1):
            logits = step(token_ids)
            expected = model(token_ids, caches=twin)
            assert logits is not None
            assert logits.dtype == dtype
            torch.testing.assert_close(logits, expected, rtol=0, atol=tolerance)
    assert caches.length == twin.length == 11
    for mine, other in zip(caches.layers, twin.layers, strict=True):
        torch.testing.assert_close(mine.key, other.key, rtol=0, atol=tolerance)
        torch.testing.assert_close(mine.value, other.value, rtol=0, atol=tolerance)


def test_weights_changed_in_place_are_seen() -> None:
    model = small_gpt()
    caches = read(model)
    twin, step = copy.copy(caches), model.decode_step(caches)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
        torch.testing.assert_close(step(ids(model, 2, 1)), model(ids(model, 2, 1), caches=twin))


def test_after_crop_and_reorder() -> None:
    model = small_gpt(positions="rotary")
    caches = read(model)
    twin, step = copy.copy(caches), model.decode_step(caches)
    with torch.inference_mode():
        for cache in (caches, twin):
            cache.crop(3)
            cache.reorder(torch.tensor([1, 1, 0]))
        token_ids = ids(model, 3, 1)
        torch.testing.assert_close(step(token_ids), model(token_ids, caches=twin))


def test_a_full_model_is_refused_and_nothing_written() -> None:
    model = small_gpt()
    caches = read(model, n=model.config.max_seq_len)
    step = model.decode_step(caches)
    length = model.config.max_seq_len
    with torch.no_grad(), pytest.raises(ValueError, match=f"{length} tokens, got {length + 1}"):
        step(ids(model, 2, 1))
    assert caches.length == length


class LoRA(nn.Linear):
    """A layer that lmlib did not make."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + 1.0


def hook_on(name: str) -> Callable[[GPT], object]:
    return lambda model: model.get_submodule(name).register_forward_hook(lambda *_: None)


def pre_hook(model: GPT) -> None:
    model.layers[0].norm_1.register_forward_pre_hook(lambda *_: None)


def other_class(model: GPT) -> None:
    old = model.layers[1].feed_forward.W_1
    model.layers[1].feed_forward.W_1 = LoRA(old.in_features, old.out_features)


class Wrapped(nn.Module):
    """A layer around another one, without a weight of its own, as adapters are made."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner(*args, **kwargs)


def wrapped_linear(model: GPT) -> None:
    model.layers[1].self_attention.W_Q = Wrapped(model.layers[1].self_attention.W_Q)


def wrapped_layer(model: GPT) -> None:
    model.layers[0] = Wrapped(model.layers[0])


def wrapped_head(model: GPT) -> None:
    model.head = Wrapped(model.head)  # type: ignore[assignment]


def other_forward(model: GPT) -> None:
    model.layers[0].self_attention.forward = lambda *a, **k: (a[0], None)  # type: ignore


def parametrised(model: GPT) -> None:
    nn.utils.parametrizations.weight_norm(model.layers[0].feed_forward.W_2)


def two_dtypes(model: GPT) -> None:
    model.head.float()


CHANGES = [
    hook_on(""), hook_on("layers.1"), hook_on("layers.0.self_attention.W_V"), hook_on("head"),
    pre_hook, other_class, wrapped_linear, wrapped_layer, wrapped_head, other_forward,
    parametrised, two_dtypes, lambda model: model.train(),
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_it_steps_aside(change: Callable[[GPT], object]) -> None:
    model = small_gpt(tie_embeddings=False)
    caches = read(model)
    change(model)
    with torch.no_grad():
        assert model.decode_step(caches)(ids(model, 2, 1)) is None
    assert caches.length == 5


def test_it_steps_aside_for_a_hook_that_comes_later_and_back_again() -> None:
    model = small_gpt()
    caches = read(model)
    step = model.decode_step(caches)
    with torch.no_grad():
        handle = model.layers[0].register_forward_hook(lambda *_: None)
        assert step(ids(model, 2, 1)) is None
        handle.remove()
        everywhere = register_module_forward_hook(lambda *_: None)
        assert step(ids(model, 2, 1)) is None
        everywhere.remove()
        for traced in (model, None):  # with hooks, and without
            with tracing(traced, lambda name, tensor: None):
                assert step(ids(model, 2, 1)) is None
        with torch.autocast("cpu", torch.bfloat16):
            assert step(ids(model, 2, 1)) is None
        with torch.enable_grad():
            assert step(ids(model, 2, 1)) is None
        assert caches.length == 5
        assert step(ids(model, 2, 1)) is not None
        caches.mask = torch.ones(2, 6, dtype=torch.bool)
        assert step(ids(model, 2, 1)) is None


def test_a_subclass_keeps_its_forward() -> None:
    class Louder(GPT):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return super().forward(*args, **kwargs) * 2.0

    louder = Louder(small_gpt().config).eval()
    caches = read(louder)
    with torch.no_grad():
        assert louder.decode_step(caches)(ids(louder, 2, 1)) is None


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_generation_goes_by_it_and_writes_the_same(
    variant: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_gpt(**variant)
    calls: list[int] = []
    forward = GPT.forward

    def counted(self: GPT, token_ids: Tensor, *args: Any, **kwargs: Any) -> Any:
        calls.append(token_ids.shape[1])
        return forward(self, token_ids, *args, **kwargs)

    def texts() -> list[object]:
        prompt = [[3, 4, 5], [7, 8, 9]]
        generator = torch.Generator().manual_seed(4)
        return [
            greedy_search(model, prompt, max_new_tokens=6).token_ids,
            sample(model, prompt, max_new_tokens=6, generator=generator).token_ids,
            beam_search(model, prompt, max_new_tokens=6, num_beams=3).token_ids,
            [step.token_ids for step in stream(model, prompt, max_new_tokens=6)],
        ]

    monkeypatch.setattr(GPT, "forward", counted)
    fast = texts()
    assert calls == [3] * 4  # the prompts alone went through the modules
    monkeypatch.setattr(GPT, "decode_step", lambda self, caches: lambda token_ids: None)
    assert texts() == fast


def test_a_hook_sees_every_token_of_a_generation() -> None:
    model = small_gpt()
    seen: list[int] = []
    model.get_submodule("layers.1.self_attention").register_forward_hook(
        lambda module, inputs, output: seen.append(inputs[0].shape[1])
    )
    greedy_search(model, [[3, 4, 5]], max_new_tokens=4)
    assert seen == [3, 1, 1, 1]
