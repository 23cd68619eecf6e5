"""Tables in files: CSV, Parquet and Arrow, read at once or in windows of rows, by pyarrow.

Whatever is wrong with a file is a ValueError or OSError whose message begins with its path. The standard input, and
pipes, are copied to a temporary file first, as Parquet and Arrow are read from their ends.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import os
import shutil
import stat
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..internal.checks import optional_module, shown, suggestion

__all__ = ["FORMATS", "FORMS", "Source", "format_of", "known_columns", "opened"]

# Formats by the ending of a name.
FORMATS = {
    ".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".parquet": "parquet", ".pq": "parquet", ".arrow": "arrow",
    ".feather": "arrow", ".ipc": "arrow",
}  # fmt: skip
ENDINGS = ".csv, .tsv (also with .gz), .parquet, .arrow or .feather"
FORMS = ("csv", "tsv", "parquet", "arrow")  # what --format says
STANDARD_INPUT = "-"
GZIP = b"\x1f\x8b"  # how such a file begins
BLOCK, LARGEST_BLOCK = 1 << 20, 1 << 28  # bytes that are read at a time, of text up to 32 times: at least, at most
MOST_COLUMNS = 100_000  # that are read; pyarrow takes ten kilobytes for each
REPEATED = ("--ignore", "--keep", "--kind")  # arguments that take one column each time
MOST_COMPARED = 1000  # with a name that no column has


def format_of(path: Path) -> str | None:
    """Return one of FORMS, by the ending of a name; None for any other one."""
    endings = ["", "", *map(str.lower, path.suffixes)]
    if endings[-1] != ".gz":
        return FORMATS.get(endings[-1])
    found = FORMATS.get(endings[-2])
    return found if found in ("csv", "tsv") else None


@dataclass(frozen=True)
class Source:
    """A table in a file.

    Attributes
    ----------
    path : Path
        The file.
    label : str
        What messages call it.
    format : {"csv", "parquet", "arrow"}
        How it is read.
    names : tuple of str
        The columns.
    separator, encoding : str
        Of a text file.
    packed : bool
        Whether a text file is compressed by gzip.
    block : int
        Bytes of a text file that are read at a time.
    copy : object
        The temporary file, if it is one, which exists as long as this object does.
    """

    path: Path
    label: str
    format: str
    names: tuple[str, ...] = ()
    separator: str = ","
    encoding: str = "utf-8"
    packed: bool = False
    block: int = BLOCK
    copy: Any = None

    def __str__(self) -> str:
        """Return what messages call it."""
        return self.label

    @property
    def text(self) -> bool:
        """Whether all columns are read as text."""
        return self.format == "csv"

    def read(self, columns: Sequence[str]) -> Any:
        """Return some columns of all rows, a pyarrow.Table."""
        pyarrow = _pyarrow()
        windows = [table for _, table in self.windows(columns, 1 << 20)]
        if not windows:
            raise ValueError(f"{self}: has a header, but no rows")
        with _damaged(self):
            return pyarrow.concat_tables(windows)

    def windows(self, columns: Sequence[str], rows: int) -> Iterator[tuple[int, Any]]:
        """Yield some columns of all rows, in windows of at most `rows` rows, each with the number of its first row."""
        pyarrow, first = _pyarrow(), 0
        if len(columns) > MOST_COLUMNS:
            raise ValueError(
                f"{self}: got {len(columns):,} columns to read; expected at most {MOST_COLUMNS:,}: write a file of "
                "those that matter"
            )
        batches = {"csv": self._csv, "parquet": self._parquet, "arrow": self._arrow}[self.format](list(columns), rows)
        while True:
            with _damaged(self):
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
        packed = "gzip" if self.packed else None
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
        with parquet.ParquetFile(self.path, pre_buffer=False) as file:  # its default keeps all that it has read
            yield from file.iter_batches(batch_size=rows, columns=columns)

    def _arrow(self, columns: list[str], rows: int) -> Iterator[Any]:
        with _arrow_file(self.path) as batches:
            yield from (batch.select(columns) for batch in batches)


def opened(path: Path, *, form: str | None = None, separator: str | None = None, encoding: str | None = None) -> Source:
    """Return the table in a file, of which the header alone has been read.

    Parameters
    ----------
    path : Path
        The file; ``-`` is the standard input.
    form : {"csv", "tsv", "parquet", "arrow"}, optional
        Its format; by default that of its ending, and CSV of the standard input.
    separator, encoding : str, optional
        Of a text file; by default those of the format, and UTF-8.

    Raises
    ------
    OSError
        If there is no such file, it is a folder, or it cannot be read.
    ValueError
        If it is empty or damaged, of another encoding, or has no header with a name of its own for each column.
    """
    found = form or format_of(path) or "csv"
    label = "standard input" if str(path) == STANDARD_INPUT else str(path)
    copy = _copied(path, label)
    source = Source(
        path if copy is None else Path(copy.name), label, "csv" if found == "tsv" else found,
        separator=separator or ("\t" if found == "tsv" else ","), encoding=encoding or "utf-8", copy=copy,
    )  # fmt: skip
    with _damaged(source):
        if os.path.getsize(source.path) == 0:
            raise ValueError(f"{source}: is empty; expected a table")
        if source.text:
            return _opened_csv(source)
        if source.format == "parquet":
            parquet = optional_module("pyarrow.parquet", "reading a Parquet file", "gdcore[cli]")
            names = parquet.read_schema(source.path).names
        else:
            with _arrow_file(source.path) as batches:
                names = batches.schema.names
        _check_names(source, names)
    return replace(source, names=tuple(names))


def _copied(path: Path, label: str) -> Any:
    """Return a temporary copy of the standard input or of a pipe; None for a file, which needs none."""
    if str(path) == STANDARD_INPUT:
        if sys.stdin is None:
            raise OSError(f"{label}: is closed; expected a table")
        return _copy(sys.stdin.buffer)
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise FileNotFoundError(f"{label}: there is no such file") from None
    if stat.S_ISFIFO(mode):
        with open(path, "rb") as pipe:
            return _copy(pipe)
    if not stat.S_ISREG(mode):
        raise OSError(f"{label}: is a {'folder' if stat.S_ISDIR(mode) else 'device'}; expected a file")
    return None


def _copy(stream: Any) -> Any:
    copy = tempfile.NamedTemporaryFile(prefix="gdcore-")  # noqa: SIM115 - removed with the last reference to it
    shutil.copyfileobj(stream, copy, 1 << 20)
    copy.flush()
    return copy


def known_columns(source: Source, argument: str, columns: Sequence[str]) -> None:
    """Raise ValueError unless a file has the columns that an argument names."""
    for name in columns:
        if name not in source.names:
            listed = shown(list(source.names), 200)
            near = suggestion(name, source.names[:MOST_COMPARED])
            if argument in REPEATED and "," in name and any(part.strip() in source.names for part in name.split(",")):
                near = f"; for several columns repeat {argument}"
            raise ValueError(f"{argument}: got {name!r}; expected a column of {source}, one of {listed}{near}")


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


def _opened_csv(source: Source) -> Source:
    """Return the table in a text file, whose header is read here, for messages that pyarrow does not have."""
    with open(source.path, "rb") as plain:
        start = plain.read(6)
        plain.seek(0)
        for magic, name, called in ((b"PAR1", "parquet", "a Parquet"), (b"ARROW1", "arrow", "an Arrow")):
            if start.startswith(magic):
                raise ValueError(f"{source}: is {called} file, not text; say --format {name}")
        if source.encoding == "utf-8" and start[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise ValueError(f"{source}: is UTF-16, not UTF-8; say --encoding utf-16")
        packed = start.startswith(GZIP)
        raw: Any = gzip.GzipFile(fileobj=plain) if packed else plain
        encoding = "utf-8-sig" if source.encoding == "utf-8" else source.encoding
        text = io.TextIOWrapper(raw, encoding=encoding, newline="")
        rows = csv.reader(text, delimiter=source.separator)
        names = next((row for row in rows if row), [])
        first = next((row for row in rows if row), [])
        text.detach()
    if not names:
        raise ValueError(f"{source}: is empty; expected a header and rows")
    if any("\0" in name for name in names):
        raise ValueError(f"{source}: is no text: its first line has bytes that are 0")
    other = next((sign for sign in (";", "\t", ",", "|") if len(names) == 1 and sign in names[0]), None)
    if other is not None:
        shown_sign = {"\t": "tab"}.get(other, repr(other))
        raise ValueError(
            f"{source}: got one column, {shown(names[0])}; if columns end with {other!r}, say --separator {shown_sign}"
        )
    _check_names(source, names)
    if not first:
        raise ValueError(f"{source}: has a header, but no rows")
    if len(first) != len(names):
        raise ValueError(f"{source}: row 1 has {len(first):,} cells; expected {len(names):,}, as the header has names")
    if all(map(_is_number, names)):
        raise ValueError(
            f"{source}: its first line has numbers, {shown(names)}; expected a header with names of columns"
        )
    size = len(names) + max(sum(map(len, row)) for row in (names, first))  # a row must fit into a block
    return replace(source, names=tuple(names), packed=packed, block=min(max(BLOCK, 16 * size), LARGEST_BLOCK))


def _check_names(source: Source, names: Sequence[str]) -> None:
    """Raise ValueError unless each column has a name of its own."""
    if not names:
        raise ValueError(f"{source}: has no columns")
    seen: set[str] = set()
    for position, name in enumerate(names):
        if not name.strip():
            raise ValueError(
                f"{source}: column {position + 1} has no name; give it one (for pandas: to_csv(path, index=False))"
            )
        if name in seen:
            raise ValueError(f"{source}: two columns are called {name!r}; expected a name of its own for each")
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
def _damaged(source: Source) -> Iterator[None]:
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
        if message.startswith(f"{source}: "):
            raise
        if isinstance(error, PermissionError):
            raise PermissionError(f"{source}: cannot be read: {error.strerror}") from error
        if isinstance(error, UnicodeError) or "invalid UTF8" in message:
            message = f"is not {source.encoding.upper()} text; say --encoding NAME, such as windows-1252, or convert it"
        elif isinstance(error, LookupError) and "encoding" in message:
            message = f"--encoding: got {source.encoding!r}; expected the name of an encoding, such as windows-1252"
        else:
            message = f"is damaged, or has another format than its name says: {message}"
        raise ValueError(f"{source}: {message}") from error
