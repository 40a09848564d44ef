"""What a training run tells while it runs: rows in a CSV file, a bar; and what it is told: stop."""

from __future__ import annotations

import csv
import io
import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

Row = dict[str, Any]


class LogFile:
    """Rows of numbers, kept in a list and in a CSV file with one header line.

    Args:
        path: the file; None keeps the rows in the list alone.
        length: how many bytes of it count. What follows was written by a run that was killed
            after its last checkpoint; it is dropped, and will be written again.
        writes: False on a process that only reads.

    Raises:
        ValueError: the file is shorter than that.
    """

    def __init__(self, path: Path | None, length: int = 0, writes: bool = True) -> None:
        self.rows: list[Row] = []
        self._path = path if writes else None
        if path is None:
            return
        data = path.read_bytes() if path.exists() else b""
        if len(data) < length:
            raise ValueError(
                f"{path} must have the {length} bytes it had at the last checkpoint, "
                f"got {len(data)}: it was changed since"
            )
        self.rows = [
            {name: _number(text) for name, text in row.items()}
            for row in csv.DictReader(io.StringIO(data[:length].decode()))
        ]
        if writes:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                with open(path, "ab") as file:
                    file.truncate(length)

    def add(self, row: Row) -> None:
        """Append a row.

        Raises:
            ValueError: its columns are not those of the first.
        """
        if self.rows and list(self.rows[0]) != list(row):
            raise ValueError(
                f"a row must have the columns of the first, {list(self.rows[0])}, got {list(row)}"
            )
        if self._path is not None:
            with open(self._path, "a", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                if not self.rows:
                    writer.writerow(row)
                writer.writerow("" if value is None else repr(value) for value in row.values())
        self.rows.append(row)

    def sync(self) -> int:
        """Bring the file to the disk; its length in bytes."""
        if self._path is None or not self._path.exists():
            return 0
        with open(self._path, "ab") as file:
            os.fsync(file.fileno())
            return file.tell()


def _number(text: str) -> float | int | None:
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        return float(text)


def plain_numbers(values: Mapping[str, Any]) -> Row:
    """The same numbers as Python's own, which a row holds.

    Raises:
        TypeError: one is no number.
    """
    row: Row = {}
    for name, value in values.items():
        value = value.item() if hasattr(value, "item") else value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"{name} must be a number, got {type(value).__name__}")
        row[name] = value
    return row


class StopSignal:
    """Turns a request to stop into a wish that is granted between two steps.

    A request is SIGINT (Ctrl-C, a notebook's stop button) or SIGTERM (a cluster that wants its
    machine back; torchrun, when another process died). A second SIGINT has at once the effect that
    it has outside this block, and so has every signal in a process that was forked here. Outside
    the main thread, or where a signal is ignored (SIGINT in a background job), nothing changes.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.wanted = False
        self._process = os.getpid()
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            for number in self.SIGNALS:
                previous = signal.getsignal(number)
                if previous not in (signal.SIG_IGN, None):
                    self._previous[number] = previous
                    signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        while self._previous:
            signal.signal(*self._previous.popitem())

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # SIGTERM may well come twice: from the cluster, and from torchrun, which passes it on.
        again = self.wanted and number == signal.SIGINT
        if again or os.getpid() != self._process:
            self.__exit__()
            signal.raise_signal(number)
        self.wanted = True


def progress_bar(total: int, done: int, progress: bool | None, is_main: bool) -> Any:
    """A bar over the steps. ``progress`` None: only where standard error is a terminal."""
    from tqdm import tqdm

    hidden = None if progress is None else not progress  # None: tqdm looks for a terminal
    if not is_main:
        hidden = True
    return tqdm(total=total, initial=done, unit="step", disable=hidden, dynamic_ncols=True)
