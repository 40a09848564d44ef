"""How an answer is judged: against the reference, then against the known mistakes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Mistake:
    """A wrong solution that people write, and the sentence that helps.

    Attributes:
        solution: the function with the mistake in it.
        advice: what to say to one who made it, in Chinese.
    """

    solution: Callable[..., Any]
    advice: str


@dataclass(frozen=True)
class Exercise:
    """A function to be written.

    Attributes:
        reference: the right solution.
        cases: the arguments that an answer is tried on, one tuple for each call.
        mistakes: those that are known; the first that equals an answer speaks.
    """

    reference: Callable[..., Any]
    cases: Sequence[tuple[Any, ...]]
    mistakes: Sequence[Mistake]


def judge(exercise: Exercise, answer: Callable[..., Any]) -> str | None:
    """What is wrong with the answer, in a Chinese sentence; None if it is right."""
    if not callable(answer):
        return f"这里要交一个函数，你交的是 {type(answer).__name__}。"
    results = []
    for case in exercise.cases:
        arguments = _copy(case)
        try:
            result = answer(*arguments)
        except Exception as error:  # the reader's code may raise anything
            return f"你的函数运行时报错 {type(error).__name__}：{error}"
        if result is None:
            return "还没有答案。把 return None 换成你的代码，再运行这一格。"
        if not _all_same(arguments, case):
            return "你的函数改动了传进来的张量。先用 clone() 复制一份，或者返回一个新的张量。"
        results.append(result)

    expected = _apply(exercise.reference, exercise.cases)
    if _all_same(results, expected):
        return None
    for mistake in exercise.mistakes:
        if _all_same(results, _apply(mistake.solution, exercise.cases)):
            return mistake.advice
    pairs = zip(results, expected, strict=True)
    return next(_difference(mine, right) for mine, right in pairs if not _same(mine, right))


def _apply(function: Callable[..., Any], cases: Sequence[tuple[Any, ...]]) -> list[Any]:
    return [function(*_copy(case)) for case in cases]


def _copy(case: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value.clone() if isinstance(value, Tensor) else value for value in case)


def _all_same(left: Sequence[Any], right: Sequence[Any]) -> bool:
    return all(_same(a, b) for a, b in zip(left, right, strict=True))


def _same(mine: Any, right: Any) -> bool:
    """Equal, up to the rounding of float32."""
    if isinstance(right, Tensor):
        return (
            isinstance(mine, Tensor)
            and mine.shape == right.shape
            and torch.allclose(_plain(mine), _plain(right), rtol=1e-4, atol=1e-5, equal_nan=True)
        )
    mine = _as_number(mine)
    if isinstance(mine, Tensor):
        return False
    if isinstance(right, float) and isinstance(mine, int | float):
        return math.isclose(mine, right, rel_tol=1e-4, abs_tol=1e-6) or (
            math.isnan(mine) and math.isnan(right)
        )
    return bool(mine == right)


def _as_number(mine: Any) -> Any:
    """A tensor of one number as that number; anything else as it is."""
    return mine.item() if isinstance(mine, Tensor) and mine.numel() == 1 else mine


def _difference(mine: Any, right: Any) -> str:
    """In what way an answer is wrong that is none of the known mistakes."""
    if not isinstance(right, Tensor):
        mine = _as_number(mine)
        if not isinstance(mine, int | float):
            return f"要返回一个数，你返回的是 {type(mine).__name__}。"
        if isinstance(right, float):
            return f"应当是 {right:.4g}，你的是 {mine:.4g}。"
        return f"应当是 {right:,}，你的是 {mine:,}。"
    if not isinstance(mine, Tensor):
        return f"要返回一个张量，你返回的是 {type(mine).__name__}。"
    if mine.shape != right.shape:
        return f"形状应当是 {tuple(right.shape)}，你的是 {tuple(mine.shape)}。"
    gap = (_plain(mine) - _plain(right)).abs().max().item()
    if math.isnan(gap):
        return "结果里有 NaN：看看有没有哪一行被掩码全部挡住，或者除以了 0。"
    return f"形状对了，数值不对：与正确答案最多相差 {gap:.3g}。"


def _plain(tensor: Tensor) -> Tensor:
    """Any tensor as something that can be compared: on the CPU, in float64."""
    return tensor.detach().cpu().double()
