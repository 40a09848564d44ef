"""Graders of the book's coding exercises: ``check(name, answer)``.

An exercise is a reference solution, a few inputs, and the mistakes that people really make, each
with the sentence that helps. A wrong answer is compared with every known mistake on the same
inputs: where it equals one, the reader is told which mistake it is; else, by how much it is off.

>>> check("05.shift_right", lambda target, bos_id: None)
✗ 05.shift_right：还没有答案。把 return None 换成你的代码，再运行这一格。

The exercises of a chapter stand in a module of their own (`chapter_05`, …); a new one is one more
entry in its ``EXERCISES``. tests/test_exercises.py then holds that the reference passes and that
each mistake gets its own sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmlib.exercises import (
    chapter_01,
    chapter_02,
    chapter_03,
    chapter_04,
    chapter_05,
    chapter_06,
    chapter_07,
    chapter_08,
    chapter_09,
)
from lmlib.exercises._grading import Exercise, Mistake, judge

__all__ = ["EXERCISES", "Exercise", "Mistake", "check", "grade"]

EXERCISES: dict[str, Exercise] = {
    **chapter_01.EXERCISES,
    **chapter_02.EXERCISES,
    **chapter_03.EXERCISES,
    **chapter_04.EXERCISES,
    **chapter_05.EXERCISES,
    **chapter_06.EXERCISES,
    **chapter_07.EXERCISES,
    **chapter_08.EXERCISES,
    **chapter_09.EXERCISES,
}
"""All exercises of the book by name, e.g. ``"05.layer_norm"``: chapter, then task."""


def check(name: str, answer: Callable[..., Any]) -> None:
    """Print ✓, or ✗ with a Chinese sentence that says what is wrong; a wrong answer never raises.

    Args:
        name: the exercise, as the chapter writes it, e.g. ``"05.layer_norm"``.
        answer: the reader's function.

    Raises:
        ValueError: there is no exercise of that name.
    """
    advice = grade(name, answer)
    print(f"✓ {name}：正确。" if advice is None else f"✗ {name}：{advice}")


def grade(name: str, answer: Callable[..., Any]) -> str | None:
    """What is wrong with an answer, in a Chinese sentence; None if it is right.

    Args:
        name: as in `check`.
        answer: the reader's function.

    Raises:
        ValueError: there is no exercise of that name.
    """
    if name not in EXERCISES:
        known = ", ".join(sorted(EXERCISES))
        raise ValueError(f"name must be one of the exercises ({known}), got {name!r}")
    return judge(EXERCISES[name], answer)
