"""Tables written to a file by windows of rows: CSV, Parquet and Arrow; all or nothing."""

from __future__ import annotations

import contextlib
import csv
import gzip
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..internal.checks import optional_module
from ..io import destination
from .reading import format_of

__all__ = ["write_table"]


def write_table(path: Path | None, windows: Iterator[Any]) -> None:
    """Write windows of a table, at least one, to a file by its ending; without a path, as CSV to the standard output.

    Parameters
    ----------
    path : Path, optional
        The file; an old one is replaced when the new one is complete.
    windows : iterator of pyarrow.Table
        Tables of one schema. An exception that it raises leaves an old file untouched.
    """
    if path is None:
        sys.stdout.flush()
        destination.write(sys.stdout.buffer, "standard output", lambda file: _csv(file, windows, ",", False))
        sys.stdout.buffer.flush()
        return
    form = format_of(path)
    if form in ("csv", "tsv"):
        separator, packed = "," if form == "csv" else "\t", path.suffix.lower() == ".gz"
        destination.write(path, "--out", lambda file: _csv(file, windows, separator, packed))
    else:
        destination.write(path, "--out", lambda file: _binary(file, windows, form))


def _csv(file: str, windows: Iterator[Any], separator: str, packed: bool) -> None:
    with open(file, "wb") as plain, contextlib.ExitStack() as stack:
        # The header of gzip has a time, and a name: left out, so that equal tables give equal bytes.
        raw: Any = stack.enter_context(gzip.GzipFile("", "wb", fileobj=plain, mtime=0)) if packed else plain
        for position, table in enumerate(windows):
            lines = _Lines(raw)
            writer = csv.writer(lines, delimiter=separator, lineterminator="\n")
            if position == 0:
                writer.writerow(table.column_names)
            writer.writerows(zip(*(_cells(column) for column in table.columns), strict=True))


class _Lines:
    """The text file that `csv` wants, over a binary one."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def write(self, text: str) -> None:
        self._raw.write(text.encode())


def _cells(column: Any) -> list[Any]:
    """Return a column as cells: floats as the shortest text of their type, missing values empty."""
    if str(column.type) in ("float", "double"):
        cells = column.to_numpy().astype(str).astype(object)
        cells[np.asarray(column.is_null())] = ""
        return cells.tolist()  # type: ignore[no-any-return]
    return column.to_pylist()  # type: ignore[no-any-return]


def _binary(file: str, windows: Iterator[Any], form: str | None) -> None:
    first = next(windows)
    if form == "parquet":
        parquet = optional_module("pyarrow.parquet", "writing a Parquet file", "gdcore[cli]")
        writer = parquet.ParquetWriter(os.fspath(file), first.schema)
    else:
        writer = optional_module("pyarrow.ipc", "writing an Arrow file", "gdcore[cli]").new_file(file, first.schema)
    with writer:
        writer.write_table(first)
        for table in windows:
            writer.write_table(table)
