"""Sweeps: points computed in parallel, each saved to the disk as soon as it is finished."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..internal.arguments import explained
from ..internal.checks import by_key, has_keys, is_iterable, shown
from ..table import Table
from ..tuning.parallel import checked_workers, run_all
from ..tuning.store import Point, Store, key_of, plain

__all__ = ["PointSweep", "Rows", "run_sweep"]

Rows: TypeAlias = Sequence[Mapping[str, Any]]

TABLE = "table.csv"


@dataclass(frozen=True)
class PointSweep:
    """The result of `run_sweep`.

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
    n_jobs: int | None = 1,
    within: str | None = None,
    executor: Any = None,
    progress: bool = True,
) -> PointSweep:
    """Compute rows for each of many points, in parallel; an interrupted sweep continues where it stopped.

    Parameters
    ----------
    points : iterable of dict
        The settings of each point (numbers, text, lists of them), including its seed; all different.
    train_point : function
        ``train_point(point)`` returns the rows of one point as dictionaries of numbers and text. It must depend on the
        point alone. Several threads call it at once.
    settings : dict, optional
        All else that the rows depend on. Stored in `folder`, which refuses a sweep with other settings.
    folder : path, optional
        Where to keep finished points (``sweep.jsonl``) and the whole table (``table.csv``); created if missing. Points
        already in it are not computed again; later calls may add points.
    n_jobs : int, optional
        Points at a time; 1: in their order; None or -1: one for each processor. Each computes with one thread, so that
        the rows are the same, bit for bit, for any number: gdcore always, NumPy's linear algebra where threadpoolctl is
        installed (part of ``gdcore[experiments]``). Without it, results of NumPy's linear algebra may differ in the
        last digits.
    within, executor
        Threads, processes or an executor, see `gdcore.restarts`. A function that uses global state, such as
        ``np.random.seed``, needs ``within="processes"``.
    progress : bool
        Whether to count the finished points in a line, on a terminal or in a notebook.

    Returns
    -------
    PointSweep
        The table of all rows, and the processor time.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid, two points are equal, or `folder` contains a sweep with other settings.
    FormatError
        If the file in `folder` is damaged. (An incomplete last line, left by a killed run, is allowed.)
    ImportError
        If processes are wanted and joblib is not installed.
    """
    listed = _checked_points(points)
    if not callable(train_point):
        raise TypeError(f"train_point: got {shown(train_point)}; expected a function of a point")
    workers = checked_workers(n_jobs, within, executor)
    store = Store(folder, plain(settings or {}, "settings"))
    keys = [key for key in listed if key not in store.finished]
    if workers.places() > 1:
        keys.reverse()  # later points tend to take longer: start with them, so that none runs alone at the end
    done = run_all(
        functools.partial(_compute, train_point=train_point),
        [(listed[key],) for key in keys],
        n_jobs=n_jobs,
        what="sweep",
        name=lambda i: f"the point {keys[i]}",
        progress=progress,
        within=within,
        executor=executor,
        blas=True,
    )
    with contextlib.closing(done):
        for i, (rows, seconds) in done:
            store.add(keys[i], listed[keys[i]], rows, seconds)
    results = [store.finished[key] for key in listed]
    table = Table(row for rows, _ in results for row in rows)
    if store.folder is not None:
        table.to_csv(store.folder / TABLE)
    return PointSweep(table, sum(seconds for _, seconds in results))


def _compute(point: Point, train_point: Callable[[Point], Rows]) -> tuple[list[dict[str, Any]], float]:
    """Compute one point: its rows, as they would be read from the disk, and its processor time."""
    started = time.thread_time()
    rows = plain(list(train_point(point)), "train_point")
    return rows, time.thread_time() - started


def _checked_points(points: Iterable[Point]) -> dict[str, Point]:
    """Return the points by their keys, in their order."""
    if isinstance(points, (str, bytes, Mapping)) or not is_iterable(points):
        raise TypeError(f"points: got {shown(points)}; expected a list of dictionaries")
    listed: dict[str, Point] = {}
    for i, point in enumerate(points):
        if not has_keys(point):
            raise TypeError(f"points[{i}]: got {shown(point)}; expected a dictionary of settings")
        settings = plain(by_key(point, f"points[{i}]"), f"points[{i}]")
        if key_of(settings) in listed:
            raise ValueError(f"points[{i}]: got {shown(settings)} a second time; expected points that differ")
        listed[key_of(settings)] = settings
    if not listed:
        raise ValueError("points: got none; expected at least one")
    return listed
