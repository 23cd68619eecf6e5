"""Tables in files: CSV, Parquet and Arrow, read at once or in windows of rows, by pyarrow.

Whatever is wrong with a file is a ValueError or OSError whose message begins with its path.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import os
import stat
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..internal.checks import optional_module, shown

__all__ = ["FORMATS", "Source", "format_of", "known_columns", "opened"]

# Formats by the ending of a name.
FORMATS = {
    ".csv": "csv", ".tsv": "csv", ".tab": "csv", ".parquet": "parquet", ".pq": "parquet", ".arrow": "arrow",
    ".feather": "arrow", ".ipc": "arrow",
}  # fmt: skip
ENDINGS = ".csv, .tsv (also with .gz), .parquet, .arrow or .feather"
BLOCK, LARGEST_BLOCK = 1 << 20, 1 << 28  # bytes of a text file that are read at a time: at least, at most


def format_of(path: Path) -> str | None:
    """Return "csv", "parquet" or "arrow", by the ending of a name; None for any other one."""
    endings = [ending.lower() for ending in path.suffixes]
    if endings[-1:] == [".gz"]:
        found = FORMATS.get(endings[-2]) if len(endings) > 1 else None
        return found if found == "csv" else None
    return FORMATS.get(endings[-1]) if endings else None


@dataclass(frozen=True)
class Source:
    """A table in a file.

    Attributes
    ----------
    path : Path
        The file.
    format : {"csv", "parquet", "arrow"}
        How it is read.
    names : tuple of str
        The columns.
    separator, encoding : str
        Of a text file.
    block : int
        Bytes of a text file that are read at a time.
    """

    path: Path
    format: str
    names: tuple[str, ...]
    separator: str = ","
    encoding: str = "utf-8"
    block: int = BLOCK

    @property
    def text(self) -> bool:
        """Whether all columns are read as text."""
        return self.format == "csv"

    def read(self, columns: Sequence[str]) -> Any:
        """Return some columns of all rows, a pyarrow.Table."""
        pyarrow = _pyarrow()
        windows = [table for _, table in self.windows(columns, 1 << 20)]
        if not windows:
            raise ValueError(f"{self.path}: has a header, but no rows")
        with _damaged(self.path, self.encoding):
            return pyarrow.concat_tables(windows)

    def windows(self, columns: Sequence[str], rows: int) -> Iterator[tuple[int, Any]]:
        """Yield some columns of all rows, in windows of at most `rows` rows, each with the number of its first row."""
        pyarrow, first = _pyarrow(), 0
        batches = {"csv": self._csv, "parquet": self._parquet, "arrow": self._arrow}[self.format](list(columns), rows)
        while True:
            with _damaged(self.path, self.encoding):
                batch = next(batches, None)
                table = None if batch is None else pyarrow.Table.from_batches([batch]).select(list(columns))
            if table is None:
                return
            for start in range(0, table.num_rows, rows):
                part = table.slice(start, rows)
                yield first, part
                first += part.num_rows

    def _csv(self, columns: list[str], rows: int) -> Iterator[Any]:
        pyarrow = _pyarrow()
        reader = optional_module("pyarrow.csv", "reading a CSV file", "gdcore[cli]")
        packed = "gzip" if self.path.suffix.lower() == ".gz" else None
        with pyarrow.input_stream(os.fspath(self.path), compression=packed) as stream:
            yield from reader.open_csv(
                stream,
                read_options=reader.ReadOptions(use_threads=False, block_size=self.block, encoding=self.encoding),
                parse_options=reader.ParseOptions(
                    delimiter=self.separator, newlines_in_values=True, ignore_empty_lines=len(self.names) > 1
                ),
                convert_options=reader.ConvertOptions(
                    column_types=dict.fromkeys(columns, pyarrow.string()), include_columns=columns
                ),
            )

    def _parquet(self, columns: list[str], rows: int) -> Iterator[Any]:
        parquet = optional_module("pyarrow.parquet", "reading a Parquet file", "gdcore[cli]")
        with parquet.ParquetFile(self.path) as file:
            yield from file.iter_batches(batch_size=rows, columns=columns)

    def _arrow(self, columns: list[str], rows: int) -> Iterator[Any]:
        with _arrow_file(self.path) as batches:
            yield from (batch.select(columns) for batch in batches)


def opened(path: Path, *, separator: str | None = None, encoding: str | None = None) -> Source:
    """Return the table in a file, of which the header alone has been read.

    Raises
    ------
    OSError
        If there is no such file, it is a folder, or it cannot be read.
    ValueError
        If it is empty or damaged, of another encoding, or has no header with a name of its own for each column.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such file") from None
    if not stat.S_ISREG(mode):
        raise OSError(f"{path}: is a {'folder' if stat.S_ISDIR(mode) else 'pipe or device'}; expected a file")
    found = format_of(path)
    assert found is not None, path
    with _damaged(path, encoding or "utf-8"):
        if os.path.getsize(path) == 0:
            raise ValueError(f"{path}: is empty; expected a table")
        if found == "parquet":
            names = optional_module("pyarrow.parquet", "reading a Parquet file", "gdcore[cli]").read_schema(path).names
        elif found == "arrow":
            with _arrow_file(path) as batches:
                names = batches.schema.names
        else:
            return _opened_csv(path, separator, encoding or "utf-8")
        _check_names(path, names)
    return Source(path, found, tuple(names))


def known_columns(source: Source, argument: str, columns: Sequence[str]) -> None:
    """Raise ValueError unless a file has the columns that an argument names."""
    for name in columns:
        if name not in source.names:
            listed = shown(list(source.names), 200)
            raise ValueError(f"{argument}: got {name!r}; expected a column of {source.path}, one of {listed}")


class _Batches:
    """The batches of an Arrow file, whether it is one with random access or a stream."""

    def __init__(self, path: Path) -> None:
        pyarrow = _pyarrow()
        ipc = optional_module("pyarrow.ipc", "reading an Arrow file", "gdcore[cli]")
        self._memory = pyarrow.memory_map(os.fspath(path))
        try:
            self._file = ipc.open_file(self._memory)
        except pyarrow.ArrowInvalid:
            self._file = None
            self._memory.seek(0)
            self._stream = ipc.open_stream(self._memory)
        self.schema = (self._file or self._stream).schema

    def __iter__(self) -> Iterator[Any]:
        if self._file is None:
            yield from self._stream
        else:
            yield from (self._file.get_batch(i) for i in range(self._file.num_record_batches))


@contextlib.contextmanager
def _arrow_file(path: Path) -> Iterator[_Batches]:
    batches = _Batches(path)
    try:
        yield batches
    finally:
        batches._memory.close()


def _opened_csv(path: Path, separator: str | None, encoding: str) -> Source:
    """Return the table in a text file, whose header is read here, for messages that pyarrow does not have."""
    endings = [ending.lower() for ending in path.suffixes]
    separator = separator or ("," if ".csv" in endings[-2:] else "\t")
    with open(path, "rb") as plain:
        start = plain.read(4)
        plain.seek(0)
        raw: Any = gzip.GzipFile(fileobj=plain) if endings[-1] == ".gz" else plain
        if encoding == "utf-8" and start[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise ValueError(f"{path}: is UTF-16, not UTF-8; say --encoding utf-16")
        if endings[-1] != ".gz" and start == b"PAR1":
            raise ValueError(f"{path}: is a Parquet file; expected text: rename it to .parquet")
        text = io.TextIOWrapper(raw, encoding="utf-8-sig" if encoding == "utf-8" else encoding, newline="")
        rows = csv.reader(text, delimiter=separator)
        names = next((row for row in rows if row), [])
        size = sum(map(len, names)) + len(names)
        filled = any(rows)
        text.detach()
    if not names:
        raise ValueError(f"{path}: is empty; expected a header and rows")
    if any("\0" in name for name in names):
        raise ValueError(f"{path}: is no text: its first line has bytes that are 0")
    other = next((sign for sign in (";", "\t", ",", "|") if len(names) == 1 and sign in names[0]), None)
    if other is not None:
        raise ValueError(
            f"{path}: got one column, {shown(names[0])}; if columns end with {other!r}, say --separator {other!r}"
        )
    _check_names(path, names)
    if not filled:
        raise ValueError(f"{path}: has a header, but no rows")
    if all(map(_is_number, names)):
        raise ValueError(f"{path}: its first line has numbers, {shown(names)}; expected a header with names of columns")
    return Source(path, "csv", tuple(names), separator, encoding, min(max(BLOCK, 64 * size), LARGEST_BLOCK))


def _check_names(path: Path, names: Sequence[str]) -> None:
    """Raise ValueError unless each column has a name of its own."""
    if not names:
        raise ValueError(f"{path}: has no columns")
    seen: set[str] = set()
    for position, name in enumerate(names):
        if not name.strip():
            raise ValueError(
                f"{path}: column {position + 1} has no name; give it one (for pandas: to_csv(path, index=False))"
            )
        if name in seen:
            raise ValueError(f"{path}: two columns are called {name!r}; expected a name of its own for each")
        seen.add(name)


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def _pyarrow() -> Any:
    return optional_module("pyarrow", "reading a table", "gdcore[cli]")


@contextlib.contextmanager
def _damaged(path: Path, encoding: str) -> Iterator[None]:
    """Raise ValueError with the path, and with what to do, for whatever the readers raise."""
    pyarrow = _pyarrow()
    try:
        yield
    except (
        pyarrow.ArrowException,
        OSError,
        EOFError,
        KeyError,
        LookupError,
        ValueError,
        csv.Error,
        zlib.error,
    ) as error:
        if isinstance(error, MemoryError):
            raise
        message = " ".join(str(error).split())
        if message.startswith(str(path)) or isinstance(error, PermissionError):
            raise
        if isinstance(error, UnicodeError) or "invalid UTF8" in message:
            message = f"is not {encoding.upper()} text; say --encoding NAME, such as windows-1252, or convert it"
        elif isinstance(error, LookupError) and "encoding" in message:
            message = f"--encoding: got {encoding!r}; expected the name of an encoding, such as windows-1252"
        else:
            message = f"is damaged, or has another format than its name says: {message}"
        raise ValueError(f"{path}: {message}") from error
