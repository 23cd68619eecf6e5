"""`profile`: the time of each operation, as a table."""

from __future__ import annotations

import atexit
import sys
import time
from types import TracebackType
from typing import Any, Self

from . import _core
from .internal.attributes import Closed
from .table import Table

__all__ = ["Profile", "profile", "profile_process"]

Rows = dict[tuple[str, str], tuple[int, float, float, float]]


class Profile(Closed):
    """Time of operations within a ``with`` block; created by `profile`.

    ``print(profile)`` shows the table, longest operations first. Operations of all threads count, so the shares of
    several concurrent trainers may add up to more than 1. Each operation waits until its device is done.
    """

    __slots__ = ("_before", "_end", "_rows", "_start")

    def __init__(self) -> None:
        self._before: Rows = {}
        self._rows: Rows | None = None  # set at the end
        self._start = self._end = 0.0

    def __enter__(self) -> Self:
        """Start collecting."""
        _core._profile_start()
        self._before, self._rows = _core._profile_rows(), None
        self._start = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop collecting."""
        self._end = time.perf_counter()
        self._rows = _core._profile_rows()
        _core._profile_stop()

    @property
    def seconds(self) -> float:
        """Time within the block, so far while it runs."""
        return (self._end if self._rows is not None else time.perf_counter()) - self._start

    @property
    def table(self) -> Table:
        """A row for each operation, the longest first.

        Columns: "operation" (of which layers, with their widths, and which pass), "device", "calls", "seconds", "share"
        of the time within the block, and "GFLOP/s" of matrix products or "GB/s" of other operations, of what they have
        to do at least. The last row is the time outside them: Python, callbacks, files.
        """
        rows = self._rows if self._rows is not None else _core._profile_rows()
        whole, table = max(self.seconds, 1e-9), []
        for key, now in rows.items():
            then = self._before.get(key, (0, 0.0, 0.0, 0.0))
            calls, seconds, operations, size = (a - b for a, b in zip(now, then, strict=True))
            if calls:
                table.append(_row(key, calls, seconds, whole, operations, size))
        table.sort(key=lambda row: -float(row["seconds"]))
        rest = whole - sum(float(row["seconds"]) for row in table)
        if rest > 0:
            table.append({"operation": "all else", "seconds": rest, "share": rest / whole})
        columns = ("operation", "device", "calls", "seconds", "share", "GFLOP/s", "GB/s")
        return Table([{name: row.get(name) for name in columns} for row in table])

    def __str__(self) -> str:
        """Return the table as text."""
        return _rounded(self.table)

    def _repr_html_(self) -> str:
        """Return the table for notebooks."""
        return self.table._repr_html_()


def profile() -> Profile:
    """Collect the time of operations within a ``with`` block.

    On a GPU, operations are also NVTX ranges for NVIDIA's tools, and recorded steps are one row. Results do not change;
    timing takes a little itself, which shows in networks of few weights.

    Returns
    -------
    Profile
        Print it, or use its ``table``.

    Examples
    --------
    ::

        with gd.profile() as profile:
            trainer.fit(x, y, epochs=3)
        print(profile)
    """
    return Profile()


def profile_process() -> None:
    """Profile the process from now on, and print the table to stderr at its end."""
    whole = Profile()
    whole.__enter__()

    def show() -> None:
        whole.__exit__(None, None, None)
        print(f"gdcore: operations of {whole.seconds:.3g} s\n{whole}", file=sys.stderr)

    atexit.register(show)


def _row(
    key: tuple[str, str], calls: int, seconds: float, whole: float, operations: float, size: float
) -> dict[str, Any]:
    device, operation = key
    row = {"operation": operation, "device": device, "calls": calls, "seconds": seconds, "share": seconds / whole}
    if seconds > 0 and (operations or size):
        row["GFLOP/s" if operations else "GB/s"] = (operations or size) / seconds / 1e9
    return row


def _rounded(table: Table) -> str:
    """Return the table as text, with rounded numbers."""
    formats = {"seconds": ".4f", "share": ".1%", "GFLOP/s": ".1f", "GB/s": ".1f"}
    rows = [
        {name: format(row[name], formats[name]) if name in formats else row[name] for name in row} for row in table.rows
    ]
    return str(Table([{name: row.get(name) for name in table} for row in rows]))
