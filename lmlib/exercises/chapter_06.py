"""Exercises of chapter 6."""

from __future__ import annotations

from lmlib.exercises._grading import Exercise

EXERCISES: dict[str, Exercise] = {}
"""The exercises by name."""
