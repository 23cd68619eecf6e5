"""Shared by the commands: arguments, checks of paths, models of tables, progress."""

from __future__ import annotations

import argparse
import codecs
import contextlib
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..internal.checks import optional_module, shown
from ..io.inspection import aligned
from .reading import ENDINGS, FORMS, STANDARD_INPUT, format_of, opened

if TYPE_CHECKING:
    from ..tables import TabularModel
    from ..tables.encoding import Encoded
    from .reading import Source

INPUTS = 1 << 24  # encoded numbers of a window at most
MOST_ROWS = 1 << 16  # of a window

__all__ = [
    "about", "add_data", "aligned", "columns_in", "inputs_of", "loaded", "model_of", "named", "outputs_apart", "say",
    "seconds", "source_of", "warn", "windows_of",
]  # fmt: skip


def seconds(text: str) -> float:
    """Return a time such as "90", "90s", "5m" or "1.5h" in seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*([smh]?)", text.strip())
    found = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]] if match else 0.0
    if not 0 < found < float("inf"):
        raise argparse.ArgumentTypeError(f"got {text!r}; expected a time above 0, such as 60s, 5m or 1h")
    return found


def encoding_name(text: str) -> str:
    """Return the name of an encoding of text, as Python calls it."""
    try:
        return codecs.lookup(text).name
    except LookupError:
        raise argparse.ArgumentTypeError(f"got {text!r}; expected an encoding, such as windows-1252") from None


def separator_sign(text: str) -> str:
    """Return the sign between two cells."""
    found = {"\\t": "\t", "tab": "\t"}.get(text, text)
    if len(found) != 1 or found in '"\r\n' or not found.isascii():
        raise argparse.ArgumentTypeError(f"got {text!r}; expected one sign, such as ; or tab")
    return found


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add the argument DATA, and how files are read."""
    parser.add_argument(
        "data", metavar="DATA", type=Path, help="table: CSV, TSV (also .gz), Parquet, Arrow; - is the standard input"
    )
    parser.add_argument("--format", choices=FORMS, help="of DATA; by default that of its ending, CSV for -")
    parser.add_argument(
        "--separator", type=separator_sign, help="between the cells of text; by default a comma, in TSV a tab"
    )
    parser.add_argument("--encoding", type=encoding_name, help="of text, such as windows-1252; by default UTF-8")
    parser.add_argument(
        "--decimal", choices=(".", ","), default=".", help="sign before the fraction of a number in text"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on the standard error output")


def source_of(options: argparse.Namespace) -> Source:
    """Return the table DATA, as the arguments say that it is read."""
    path = options.data
    if options.format is None and str(path) != STANDARD_INPUT and format_of(path) is None:
        options.parser.error(f"DATA: got {str(path)!r}; expected a name that ends with {ENDINGS}, or --format")
    return opened(path, form=options.format, separator=options.separator, encoding=options.encoding)


def outputs_apart(options: argparse.Namespace, inputs: Sequence[Path], outputs: dict[str, Path | None]) -> None:
    """Refuse an output that is an input, or another output, as bad usage; raise OSError if it cannot be written."""
    from ..io import destination

    taken = dict.fromkeys(map(os.path.realpath, inputs), "read too")
    for argument, path in outputs.items():
        if path is None:
            continue
        real = os.path.realpath(path)
        if real in taken or any(_same(path, other) for other in inputs):
            options.parser.error(
                f"{argument}: got {path}, which is {taken.get(real, 'read too')}; expected another file"
            )
        taken[real] = f"also that of {argument}"
    for argument, path in outputs.items():
        if path is not None:
            destination.check(os.fspath(path), argument)


def _same(path: Path, other: Path) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samefile(path, other)
    return False


def model_of(path: Path, device: str = "auto") -> TabularModel:
    """Return the model of tables in a file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, holds another kind of model, or one of a table without names of columns; or if its name is
        that of a table.
    """
    from ..tables import TabularModel

    if format_of(path) is not None:
        raise ValueError(f"MODEL: got {path}, a table by its name; expected a file of gdcore train, and DATA after it")
    model = loaded(path, device)
    if not isinstance(model, TabularModel):
        raise ValueError(
            f"{path}: holds a {type(model).__name__}; expected a TabularModel, as gdcore train writes; other models "
            "do not know how columns become inputs: load it in Python, gd.load(path)"
        )
    if not model._parts()[1].named:
        raise ValueError(f"{path}: was trained on an array, whose columns have no names; expected a model of a table")
    return model


def loaded(path: Path, device: str = "auto") -> Any:
    """Return what a file holds; every error begins with its path."""
    from ..io.loading import load

    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file")
    try:
        return load(path, device=device)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}".replace(f"{path}: {path}", str(path))) from error


def columns_in(model: TabularModel, source: Source) -> list[str]:
    """Return the columns that a model predicts from; raise ValueError if a file lacks some."""
    wanted = list(model.feature_names)
    there = set(source.names)
    missing = [name for name in wanted if name not in there]
    if missing:
        raise ValueError(f"{source}: lacks the columns {shown(missing, 200)}, which the model predicts from")
    return wanted


def windows_of(model: TabularModel, source: Source, others: Sequence[str]) -> Iterator[tuple[int, Any]]:
    """Yield the columns that a model predicts from and others, in windows of rows, each with its first row's number.

    Raises
    ------
    ValueError
        If the file lacks a column, is damaged, or has no rows.
    """
    columns = list(dict.fromkeys([*columns_in(model, source), *others]))
    size, rows = min(max(INPUTS // max(model._parts()[1].width, 1), 64), MOST_ROWS), 0
    for first, table in source.windows(columns, size):
        yield first, table
        rows += table.num_rows
    if not rows:
        raise ValueError(f"{source}: has a header, but no rows")


def inputs_of(model: TabularModel, source: Source, table: Any, first: int, decimal: str) -> Any:
    """Return the columns that a model predicts from, of one window of a file, in the types of training."""
    from .typed import as_kind, refuse_infinite

    made = {}
    for column in model._parts()[1].columns:
        where, found = f"{source}: column {column.name!r}", table.column(column.name)
        if source.text:
            found = as_kind(found, _kind(column), where, decimal=decimal, first=first)
        if column.width:
            refuse_infinite(found, where, first)
        made[column.name] = found
    return optional_module("pyarrow", "reading a table", "gdcore[cli]").table(made)


def _kind(column: Encoded) -> str:
    """Return what the text of a column stands for."""
    if not column.width:
        return "text"  # not used
    if column.kind != "category":
        return column.kind
    if column.text or not column.keys:
        return "text"
    return "boolean" if all(isinstance(key, bool) for key in column.keys) else "number"


@contextlib.contextmanager
def about(
    source: Source, first: int = 0, columns: Mapping[str, str | None] | None = None, *, whole: bool = True
) -> Iterator[None]:
    """Put the file and names of columns into errors about rows, and count rows from 1 and from its first.

    Parameters
    ----------
    source : Source
        The file.
    first : int
        Number of the first row.
    columns : mapping, optional
        The column that an argument of `TabularModel.fit` has been given, such as y.
    whole : bool
        Whether rows are those of the file; otherwise their numbers are left out.
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        message = str(error)
        if message.startswith(f"{source}: "):
            if whole:
                raise
            raise ValueError(re.sub(r",? (the first )?in row \d+", "", message)) from error
        message = re.sub(r"^x: ", "", message)
        for argument, column in (columns or {}).items():
            if column is not None and message.startswith(f"{argument}: "):
                message = f"column {column!r}: {message.removeprefix(f'{argument}: ')}"
        message = re.sub(r" in row (\d+)", lambda row: f" in row {first + int(row[1]) + 1}" if whole else "", message)
        raise ValueError(f"{source}: {message}") from error


def named(values: dict[str, float]) -> dict[str, str]:
    """Return measures as text."""
    return {name: f"{value:.6g}" for name, value in values.items()}


def say(options: argparse.Namespace, text: str) -> None:
    """Write a line of progress to the standard error output."""
    if not options.quiet:
        print(text, file=sys.stderr, flush=True)


def warn(options: argparse.Namespace, text: str) -> None:
    """Write a warning to the standard error output, also if there is no progress."""
    print(f"gdcore {options.command}: warning: {text}", file=sys.stderr, flush=True)
