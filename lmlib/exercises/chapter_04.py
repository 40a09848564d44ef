"""Exercises of chapter 4."""

from __future__ import annotations

from lmlib.exercises._grading import Exercise

EXERCISES: dict[str, Exercise] = {}
"""The exercises by name."""
