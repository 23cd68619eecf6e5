"""A small table: named columns that print aligned, go to CSV and come back."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ._checks import FormatError, shown

__all__ = ["Table"]


class Table(Mapping[str, list[Any]]):
    """Rows of named values: ``table["lr"]`` is a column, ``print(table)`` shows them all, `to_csv` keeps them.

    Parameters
    ----------
    rows : iterable of dict
        The rows. Columns are the keys, strings, in the order in which they first appear; a row may leave some out.

    Attributes
    ----------
    rows : list of dict
        A copy of them.

    Raises
    ------
    TypeError
        If a row is no mapping of names to values.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        if not isinstance(rows, Iterable):
            raise TypeError(f"rows: got {shown(rows)}; expected dicts, one for each row")
        self.rows: list[dict[str, Any]] = []
        for i, row in enumerate(rows):
            if not isinstance(row, Mapping) or not all(isinstance(name, str) for name in row):
                raise TypeError(f"rows[{i}]: got {shown(row)}; expected a dict of values by the names of their columns")
            self.rows.append(dict(row))

    def __getitem__(self, column: str) -> list[Any]:
        """Return a column, with None where a row has no such value."""
        if column not in set(self):
            raise KeyError(f"{column!r}: the columns are {', '.join(self) or 'none yet'}")
        return [row.get(column) for row in self.rows]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the columns."""
        return iter(dict.fromkeys(name for row in self.rows for name in row))

    def __len__(self) -> int:
        """Return the number of columns."""
        return len(list(iter(self)))

    def __str__(self) -> str:
        """Return the table as text, numbers to the right, with six significant digits."""
        names = list(self)
        cells = [names, *([_text(row.get(name)) for name in names] for row in self.rows)]
        widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]
        return "\n".join(line.rstrip() for line in lines)

    def __repr__(self) -> str:
        """Return the numbers of rows and columns, and the columns' names."""
        return f"Table({len(self.rows)} rows of {', '.join(self) or 'no columns'})"

    def to_markdown(self) -> str:
        """Return the table in Markdown, with six significant digits; ``|`` and ends of lines do not break it."""
        names = list(self)
        lines = [names, ["---"] * len(names), *([_text(row.get(name)) for name in names] for row in self.rows)]
        return "\n".join(f"| {' | '.join(map(_escaped, line))} |" for line in lines)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the table to a CSV file (UTF-8) with a header; numbers are written so that they read back exactly."""
        names = list(self)
        with open(os.fspath(path), "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(names)
            writer.writerows([_cell(row.get(name)) for name in names] for row in self.rows)

    @classmethod
    def from_csv(cls, path: str | os.PathLike[str]) -> Table:
        """Read a table that `to_csv` wrote; empty cells are left out.

        A CSV file does not tell text from numbers: what reads as a number, True or False becomes one.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        FormatError
            If it is no text, has two columns of one name, or a line has more or fewer cells than the header.
        """
        try:
            with open(os.fspath(path), newline="", encoding="utf-8") as file:
                lines = list(csv.reader(file))
        except (UnicodeDecodeError, csv.Error) as error:
            raise FormatError(f"path: {shown(str(path))} is no CSV file ({error})") from error
        header, *body = lines or [[]]
        if len(set(header)) < len(header):
            raise FormatError(f"path: {shown(str(path))}: got columns {shown(header)}; expected no two of one name")
        for number, line in enumerate(body, 2):
            if len(line) != len(header):
                raise FormatError(
                    f"path: {shown(str(path))}, line {number}: got {len(line)} cells; expected {len(header)}"
                )
        rows = [{name: _value(cell) for name, cell in zip(header, line, strict=True) if cell != ""} for line in body]
        return cls(rows)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _escaped(text: str) -> str:
    return " ".join(text.replace("|", "\\|").splitlines())


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, (str, bool)) else repr(value.item() if hasattr(value, "item") else value)


def _value(cell: str) -> Any:
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return {"True": True, "False": False}.get(cell, cell)
