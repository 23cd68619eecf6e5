"""Parquet files and their row groups: found, opened, and checked without reading a row."""

from __future__ import annotations

import copy
import glob
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..internal.checks import is_iterable, optional_module, shown
from ..internal.features import listed, refuse_duplicates
from ..internal.frames import TIMES

__all__ = [
    *("File", "Files", "MissingFile", "Reader", "RowGroup", "UnreadableFile", "meaning", "module", "readable"),
]

Numbers = npt.NDArray[np.int64]


def module(name: str = "pyarrow") -> Any:
    """Import pyarrow or a part of it, or raise an ImportError that names the extra."""
    return optional_module(name, "Parquet", "'gdcore[parquet]'")


class UnreadableFile(ValueError):
    """A file that has changed since it was found, or cannot be read."""


class MissingFile(FileNotFoundError):
    """A file that is no longer there."""


class File(NamedTuple):
    """A Parquet file: its footer, and the size and time of its last change when that was read."""

    path: str
    metadata: Any
    schema: Any
    stamp: tuple[int, int]


class RowGroup(NamedTuple):
    """A row group, or a part of it.

    Attributes
    ----------
    file, number : int
        The file, by its place among the files, and the number of the row group there.
    rows : int
        Number of rows.
    first : int
        Number of its first row in the row group.
    whole : bool
        Whether it is all of the row group.
    """

    file: int
    number: int
    rows: int
    first: int = 0
    whole: bool = True

    def parts(self, most: int) -> list[RowGroup]:
        """Return parts of nearly equal size, at most `most` rows each."""
        count = -(-self.rows // most)
        if count == 1:
            return [self]
        ends = [self.first + self.rows * i // count for i in range(count + 1)]
        return [
            RowGroup(self.file, self.number, end - first, first, whole=False) for first, end in itertools.pairwise(ends)
        ]


class Files:
    """The row groups of one or several files, in the order of the files' names.

    Attributes
    ----------
    files : list of File
        Those with rows.
    groups : list of RowGroup
        The row groups with rows, or parts of them.
    rows : ndarray of int64
        The number of rows of each.
    """

    def __init__(self, paths: object) -> None:
        self.files: list[File] = []
        self.groups: list[RowGroup] = []
        empty = []
        for path in _found(paths):
            file = _opened(path)
            sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
            if not any(sizes):
                empty.append(file)
                continue
            self.groups += [RowGroup(len(self.files), i, rows) for i, rows in enumerate(sizes) if rows > 0]
            self.files.append(file)
        if not self.files:
            raise ValueError(f"paths: got {shown([file.path for file in empty], 200)}, which have no rows")
        self.rows: Numbers = np.array([group.rows for group in self.groups], np.int64)

    def divided(self, most: int) -> Files:
        """Return the same files, with row groups of more than `most` rows in parts."""
        made = copy.copy(self)
        made.groups = [part for group in self.groups for part in group.parts(most)]
        made.rows = np.array([part.rows for part in made.groups], np.int64)
        return made

    @property
    def units(self) -> Numbers:
        """The number of the row group of each part, from 0."""
        return np.cumsum([group.first == 0 for group in self.groups]) - 1

    def where(self, group: int) -> str:
        """Return the path and the number of a row group, and the first row of a part, for messages."""
        found = self.groups[group]
        part = f", from its row {found.first} on" if found.first else ""
        return f"{self.files[found.file].path}, row group {found.number}{part}"

    def check_columns(self, names: Sequence[str], argument: str) -> None:
        """Raise ValueError for a column that a file lacks."""
        for file in self.files:
            missing = [name for name in names if name not in file.schema.names]
            if missing:
                there = shown(list(file.schema.names), 200)
                raise ValueError(f"{argument}: got {listed(missing)}, which {file.path} lacks; it has {there}")

    def check_types(self, names: Sequence[str], argument: str) -> None:
        """Raise TypeError for a column of anything but numbers and booleans."""
        for file in self.files:
            for name in names:
                kind = file.schema.field(name).type
                if not _numeric(kind):
                    expected = "numbers or booleans"
                    if argument.endswith("x"):
                        expected += " (leave the column out: x=[...], or train a gd.tables.TabularModel on any columns)"
                    raise TypeError(f"{argument}: {file.path} has {kind} in column {name!r}; expected {expected}")

    def check_meanings(
        self, names: Iterable[str], argument: str, others: Files | None = None, *, times: bool = False
    ) -> None:
        """Raise TypeError for a column whose values mean different things in two files, those of `others` included.

        With `times`, only times and durations must be the same: whether other values fit, they tell by themselves.
        """
        for name in dict.fromkeys(names):
            known: tuple[File, str] | None = None
            for file in (*self.files, *(() if others is None else others.files)):
                kind = file.schema.field(name).type if name in file.schema.names else None
                found = None if kind is None else meaning(kind)
                if found is None:
                    continue
                if known is not None and found != known[1] and not (times and {found, known[1]}.isdisjoint(TIMES)):
                    first = known[0].schema.field(name).type
                    raise TypeError(
                        f"{argument}: the files have different types in column {name!r}: {known[0].path} has {first} "
                        f"({known[1]}), {file.path} has {kind} ({found}); expected one meaning: cast the column in the "
                        "files"
                    )
                known = known or (file, found)

    def check_statistics(self, names: Sequence[str], argument: str, dtype: str) -> None:
        """Raise ValueError for missing values and numbers outside of `dtype`, where the files' statistics show them."""
        limit, smallest = float(np.finfo(dtype).max), float(np.finfo(dtype).tiny)
        wanted, most = set(names), dict.fromkeys(names, 0.0)
        known = dict.fromkeys(names, True)  # whether all row groups tell the largest number
        for index, group in enumerate(self.groups):
            if group.first:
                continue  # a part of a row group that has been seen
            for name, statistics in _statistics(self.files[group.file], group.number, wanted):
                if statistics is not None and statistics.has_null_count and statistics.null_count:
                    raise ValueError(
                        f"{argument}: {self.where(index)}: has {statistics.null_count} missing values in column "
                        f"{name!r}; expected finite numbers, none of them missing"
                    )
                largest = _largest(statistics)
                if largest is None:
                    known[name] = False
                    continue
                if not largest <= limit:
                    what = "expected finite numbers" if np.isinf(largest) else f"which {dtype} cannot represent"
                    raise ValueError(f"{argument}: {self.where(index)}: has {largest:g} in column {name!r}; {what}")
                most[name] = max(most[name], largest)
        for name in names:
            if known[name] and 0.0 < most[name] < smallest:
                raise ValueError(
                    f"{argument}: got numbers of at most {most[name]:g} in column {name!r}, which {dtype} rounds to "
                    "zero or subnormal numbers: scale the data"
                )


class Reader:
    """Reads row groups; keeps the last file open.

    Parameters
    ----------
    files : Files
        The files.
    columns : sequence of str
        The columns to read.
    threads : bool
        Whether the columns of a row group are decoded by several threads, those of pyarrow.
    """

    def __init__(self, files: Files, columns: Iterable[str], threads: bool) -> None:
        self._files, self._columns, self._threads = files, list(dict.fromkeys(columns)), threads
        self._open: tuple[int, Any] | None = None
        self._rest: _Rest | None = None

    def read(self, group: int) -> Any:
        """Return the columns of a row group, or of a part, a pyarrow.Table; parts are read one after the other.

        Raises
        ------
        MissingFile, UnreadableFile
            If the file is no longer the one that was found, or cannot be read.
        """
        file = self._files.files[self._files.groups[group].file]
        try:
            table = self._read(group)
        except Exception as error:  # whatever pyarrow raises for bytes that are no longer those of the footer
            _check_unchanged(file, error)
            raise
        _check_unchanged(file)
        return table

    def _read(self, group: int) -> Any:
        found = self._files.groups[group]
        file = self._files.files[found.file]
        with readable(file.path):
            if self._open is None or self._open[0] != found.file:
                self.close()
                parquet = module("pyarrow.parquet")  # whose default keeps the bytes of all that it has read
                opened = parquet.ParquetFile(file.path, metadata=file.metadata, pre_buffer=False)
                self._open = (found.file, opened)
            if found.whole:
                return self._open[1].read_row_group(found.number, self._columns, use_threads=self._threads)
            rest = self._rest
            if rest is None or rest.number != found.number or rest.row > found.first:
                options = {"row_groups": [found.number], "columns": self._columns, "use_threads": self._threads}
                rest = self._rest = _Rest(found.number, self._open[1].iter_batches(found.rows + 1, **options))
            for _ in rest.rows(found.first - rest.row):
                pass
            return module().Table.from_batches(list(rest.rows(found.rows)))

    def close(self) -> None:
        """Close the open file."""
        self._rest = None
        if self._open is not None:
            self._open[1].close()
            self._open = None


class _Rest:
    """The rows of a row group that are not read yet.

    Attributes
    ----------
    number, row : int
        The row group, and the number of its next row.
    """

    def __init__(self, number: int, batches: Iterator[Any]) -> None:
        self.number, self.row = number, 0
        self._batches = batches
        self._begun: Any = None  # a batch

    def rows(self, count: int) -> Iterator[Any]:
        """Yield the next rows as batches."""
        while count:
            batch = next(self._batches) if self._begun is None else self._begun
            part = batch.slice(0, count)
            self._begun = batch.slice(count) if len(batch) > count else None
            self.row, count = self.row + len(part), count - len(part)
            yield part


@contextmanager
def readable(path: str) -> Iterator[None]:
    """Raise ValueError, which names the file, where pyarrow cannot read it."""
    try:
        yield
    except (module().ArrowException, OSError) as error:
        if getattr(error, "errno", None) is not None:  # of the system
            raise
        raise UnreadableFile(f"{path}: is no Parquet file, or is damaged: {' '.join(str(error).split())}") from error


def _check_unchanged(file: File, error: Exception | None = None) -> None:
    """Raise an error if a file is not the one that was found; `error` is what reading it raised, if it did."""
    since = "since Parquet(...) was made"
    try:
        stamp = _stamp(file.path)
    except FileNotFoundError:
        raise MissingFile(
            f"{file.path}: has been deleted or renamed {since}; bring it back, or make another one"
        ) from error
    if stamp != file.stamp:
        size, now = file.stamp[0], stamp[0]
        how = f"from {size} to {now} bytes" if now != size else f"in place, or replaced, with {size} bytes as before"
        raise UnreadableFile(f"{file.path}: has changed {since}, {how}; make another one") from error


def _found(paths: object) -> list[str]:
    """Return the paths of one path or pattern, or of a sequence of them, in the order of their names."""
    given = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    if isinstance(given, (bytes, dict)) or not is_iterable(given):
        raise TypeError(f"paths: got {shown(paths)}; expected a path, a pattern such as 'rows/*.parquet', or a list")
    found: list[str] = []
    for item in given:
        if not isinstance(item, (str, os.PathLike)) or isinstance(os.fspath(item), bytes):
            raise TypeError(f"paths: got {shown(item)}; expected a path or a pattern such as 'rows/*.parquet'")
        path = str(os.fspath(item))
        if os.path.isdir(path):
            raise ValueError(f"paths: got the folder {path!r}; expected files: {os.path.join(path, '*.parquet')!r}")
        matches = [path] if os.path.exists(path) else sorted(glob.glob(path, recursive=True))
        matches = [match for match in matches if not os.path.isdir(match)]
        if not matches:
            raise FileNotFoundError(f"paths: there is no file {path!r}")
        found += matches
    if not found:
        raise ValueError("paths: got no path; expected at least one")
    refuse_duplicates([os.path.realpath(path) for path in found], "paths")
    return found


def _stamp(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


def _opened(path: str) -> File:
    stamp = _stamp(path)
    with readable(path):
        metadata = module("pyarrow.parquet").read_metadata(path)
        schema = metadata.schema.to_arrow_schema()
    refuse_duplicates(schema.names, path)
    return File(path, metadata, schema, stamp)


def _numeric(kind: Any) -> bool:
    types = module("pyarrow.types")
    if types.is_dictionary(kind):
        kind = kind.value_type
    numbers = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal)
    return any(is_of(kind) for is_of in numbers)


def meaning(kind: Any) -> str | None:
    """Return what the values of an Arrow type are; None for types without values and for nested ones."""
    types = module("pyarrow.types")
    if types.is_timestamp(kind):
        return TIMES[kind.tz is not None]
    tests = {
        "categories": (types.is_dictionary,),
        "booleans": (types.is_boolean,),
        "numbers": (types.is_integer, types.is_floating, types.is_decimal),
        TIMES[0]: (types.is_date,),
        TIMES[2]: (types.is_duration,),
        TIMES[3]: (types.is_time,),
        "text": (
            *(types.is_string, types.is_large_string),
            *(types.is_binary, types.is_large_binary, types.is_fixed_size_binary),
        ),
    }
    return next((what for what, test in tests.items() if any(is_of(kind) for is_of in test)), None)


def _statistics(file: File, number: int, wanted: set[str]) -> Iterator[tuple[str, Any]]:
    """Yield the name and the statistics, or None, of columns of a row group."""
    group = file.metadata.row_group(number)
    for i in range(group.num_columns):
        column = group.column(i)
        name = column.path_in_schema
        if name in wanted:
            yield name, column.statistics if column.is_stats_set else None


def _largest(statistics: Any) -> float | None:
    """Return the largest absolute value of a column of floats, None if it is not known."""
    if statistics is None or not statistics.has_min_max or not isinstance(statistics.min, float):
        return None
    return max(abs(float(statistics.min)), abs(float(statistics.max)))
