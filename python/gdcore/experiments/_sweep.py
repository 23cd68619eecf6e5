"""Sweeps: points computed in parallel, each saved to the disk as soon as it is finished."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from ..internal.arguments import explained
from ..internal.checks import FormatError, by_key, has_keys, is_iterable, shown
from ..io import specs
from ..table import Table
from ..tuning.parallel import job_count, run_all

__all__ = ["Point", "Rows", "Sweep", "run_sweep"]

Point: TypeAlias = Mapping[str, Any]
Rows: TypeAlias = Sequence[Mapping[str, Any]]

FILE = "sweep.jsonl"  # a line with the settings, then a line for each finished point
TABLE = "table.csv"


@dataclass(frozen=True)
class Sweep:
    """The result of a sweep.

    Attributes
    ----------
    table : Table
        The rows of all points, in the order of the points.
    cpu_seconds : float
        Total processor time of the points in seconds, including those that an earlier run computed.
    """

    table: Table
    cpu_seconds: float


@explained
def run_sweep(
    points: Iterable[Point],
    train_point: Callable[[Point], Rows],
    *,
    settings: Mapping[str, Any] | None = None,
    folder: str | os.PathLike[str] | None = None,
    n_jobs: int = 1,
    progress: bool = True,
) -> Sweep:
    """Compute rows for each of many points, in parallel; an interrupted sweep continues where it stopped.

    Parameters
    ----------
    points : iterable of dict
        The settings of each point (numbers, text, lists of them), including its seed; all different.
    train_point : function
        ``train_point(point)`` returns the rows of one point as dictionaries of numbers and text. It must depend on the
        point alone. With several jobs it runs in other processes: a function of a module, a ``functools.partial`` of
        one, or a lambda.
    settings : dict, optional
        All else that the rows depend on. Stored in `folder`, which refuses a sweep with other settings.
    folder : path, optional
        Where to keep finished points (``sweep.jsonl``) and the whole table (``table.csv``); created if missing. Points
        already in it are not computed again; later calls may add points.
    n_jobs : int
        Processes to use; -1: one for each processor. Each computes with one thread, so that the rows are the same, bit
        for bit, for any number: gdcore always, NumPy's linear algebra where threadpoolctl is installed (part of
        ``gdcore[experiments]``). Without it, results of NumPy's linear algebra may differ in the last digits.
    progress : bool
        Whether to count the finished points in a line, on a terminal or in a notebook.

    Returns
    -------
    Sweep
        The table of all rows, and the processor time.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid, two points are equal, or `folder` contains a sweep with other settings.
    FormatError
        If the file in `folder` is damaged. (An incomplete last line, left by a killed run, is allowed.)
    ImportError
        If `n_jobs` is not 1 and joblib is not installed.
    """
    listed = _checked_points(points)
    if not callable(train_point):
        raise TypeError(f"train_point: got {shown(train_point)}; expected a function of a point")
    jobs = job_count(n_jobs)
    store = _Store(folder, _plain(settings or {}, "settings"))
    missing = [key for key in listed if key not in store.finished]
    if missing:
        for key, (rows, seconds) in _computed({key: listed[key] for key in missing}, train_point, jobs, progress):
            store.add(key, listed[key], rows, seconds)
    results = [store.finished[key] for key in listed]
    table = Table(row for rows, _ in results for row in rows)
    if store.folder is not None:
        table.to_csv(store.folder / TABLE)
    return Sweep(table, sum(seconds for _, seconds in results))


class _Store:
    """The finished points, in memory and, if there is a folder, on the disk."""

    def __init__(self, folder: str | os.PathLike[str] | None, settings: Any) -> None:
        self.finished: dict[str, tuple[list[dict[str, Any]], float]] = {}
        self.folder = None if folder is None else _made(folder)
        if self.folder is None:
            return
        lines = self._lines()
        if not lines:
            self._append({"settings": settings})
            return
        differ = specs.differences(lines[0].get("settings"), settings)
        if differ:
            raise ValueError(
                f"folder: {self.folder} contains a sweep with other settings ({'; '.join(differ)}); expected the same, "
                "or another folder"
            )
        for line in lines[1:]:
            self.finished[_key(line["point"])] = (line["rows"], line["cpu_seconds"])

    def add(self, key: str, point: Point, rows: list[dict[str, Any]], seconds: float) -> None:
        """Keep a finished point; writes it to the disk first."""
        if self.folder is not None:
            self._append({"point": point, "rows": rows, "cpu_seconds": seconds})
        self.finished[key] = (rows, seconds)

    def _append(self, line: Mapping[str, Any]) -> None:
        assert self.folder is not None
        with open(self.folder / FILE, "ab") as file:
            file.write(json.dumps(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _lines(self) -> list[dict[str, Any]]:
        """Return the complete lines of the file; removes an incomplete last line of a killed run."""
        assert self.folder is not None
        path = self.folder / FILE
        data = path.read_bytes() if path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            os.truncate(path, len(whole))
        return [_parsed(line, number, path) for number, line in enumerate(whole.splitlines(), 1)]


def _parsed(line: bytes, number: int, path: Path) -> dict[str, Any]:
    """Return one line of the file, checked for its keys."""
    expected = {"settings"} if number == 1 else {"point", "rows", "cpu_seconds"}
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    if not isinstance(value, dict) or set(value) != expected:
        raise FormatError(f"folder: line {number} of {path} is damaged: got {shown(line)}; expected a line of a sweep")
    return value


def _computed(
    points: Mapping[str, Point], train_point: Callable[[Point], Rows], n_jobs: int, progress: bool
) -> Iterator[tuple[str, tuple[list[dict[str, Any]], float]]]:
    """Compute points; yields the key of each, its rows and seconds, in the order of completion."""
    keys = list(points)
    if n_jobs > 1:
        keys.reverse()  # later points tend to take longer: start with them, so that none runs alone at the end
    tasks = [(key, points[key], train_point) for key in keys]
    for i, result in run_all(_compute, tasks, n_jobs=n_jobs, what="sweep", progress=progress):
        yield keys[i], result


def _compute(key: str, point: Point, train_point: Callable[[Point], Rows]) -> tuple[list[dict[str, Any]], float]:
    """Compute one point: its rows, as they would be read from the disk, and its processor time."""
    started = time.process_time()
    try:
        with _one_thread():
            rows = _plain(list(train_point(point)), "train_point")
    except Exception as error:
        error.add_note(f"at the point {key} of the sweep")
        raise
    return rows, time.process_time() - started


def _one_thread() -> contextlib.AbstractContextManager[Any]:
    """Limit NumPy's linear algebra to one thread, as the thread count changes rounding; needs threadpoolctl.

    gdcore's own threads are limited by `run_all`.
    """
    try:
        limit = importlib.import_module("threadpoolctl").threadpool_limits
    except ImportError:
        return contextlib.nullcontext()
    limited: contextlib.AbstractContextManager[Any] = limit(1, user_api="blas")
    return limited


def _checked_points(points: Iterable[Point]) -> dict[str, Point]:
    """Return the points by their keys, in their order."""
    if isinstance(points, (str, bytes, Mapping)) or not is_iterable(points):
        raise TypeError(f"points: got {shown(points)}; expected a list of dictionaries")
    listed: dict[str, Point] = {}
    for i, point in enumerate(points):
        if not has_keys(point):
            raise TypeError(f"points[{i}]: got {shown(point)}; expected a dictionary of settings")
        plain = _plain(by_key(point, f"points[{i}]"), f"points[{i}]")
        if _key(plain) in listed:
            raise ValueError(f"points[{i}]: got {shown(plain)} a second time; expected points that differ")
        listed[_key(plain)] = plain
    if not listed:
        raise ValueError("points: got none; expected at least one")
    return listed


def _key(point: Point) -> str:
    return json.dumps(point, sort_keys=True)


def _plain(value: Any, name: str) -> Any:
    """Return `value` as read from a JSON file, so that computed and stored values are equal."""
    try:
        return json.loads(json.dumps(value, default=_item))
    except TypeError:
        raise TypeError(
            f"{name}: got {shown(value)}; expected numbers, text, and lists or dictionaries of them"
        ) from None


def _item(value: Any) -> Any:
    """Return a NumPy number or array as Python numbers, a mapping as a dictionary."""
    if has_keys(value):
        return by_key(value, "")
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError


def _made(folder: str | os.PathLike[str]) -> Path:
    """Return the folder, created if missing."""
    try:
        path = Path(folder)
    except TypeError:
        raise TypeError(f"folder: got {shown(folder)}; expected a path") from None
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise ValueError(f"folder: {path} is a file; expected a folder") from None
    return path
