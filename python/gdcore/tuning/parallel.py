"""Independent runs, one after the other or in several processes: the same results either way."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Generator, Sequence
from typing import Any

from .. import _core
from ..callbacks.progress import visible
from ..internal.checks import integer, optional_module, shown

__all__ = ["job_count", "run_all"]


def job_count(n_jobs: object) -> int:
    """Return the number of processes of `n_jobs`; -1 means one for each processor.

    Raises
    ------
    TypeError, ValueError
        If it is not a whole number, or neither -1 nor at least 1.
    """
    expected = "a number of processes, or -1 for one on each processor,"
    number = integer(n_jobs, "n_jobs", minimum=-1, expected=expected)
    if number == 0:
        raise ValueError(f"n_jobs: got {shown(n_jobs)}; expected {expected} but not 0")
    return number if number > 0 else len(os.sched_getaffinity(0))


def run_all(
    function: Callable[..., Any],
    tasks: Sequence[tuple[Any, ...]],
    *,
    n_jobs: int,
    threads: int = 1,
    what: str,
    progress: bool = True,
) -> Generator[tuple[int, Any], None, None]:
    """Yield (i, ``function(*tasks[i])``) for each of the tasks, as soon as it is done.

    Every task computes with `threads` threads, in whichever process it runs, so that gdcore's results are the same bits
    for every `n_jobs`. An exception of a task, Ctrl-C, or closing the iterator ends all processes.

    Parameters
    ----------
    function : function
        Called in the worker processes; joblib sends it with cloudpickle, so it may be a lambda.
    tasks : sequence of tuples
        Its arguments. Large arrays are memory-mapped by joblib, not copied.
    n_jobs : int
        Processes, at least 1 (see `job_count`); 1 runs the tasks here, in order.
    threads : int
        Threads that each task computes with.
    what : str
        Name of the call, for the progress bar and the ImportError if joblib is missing.
    progress : bool
        Whether to show a bar on the standard error output, on a terminal or in a notebook.

    Raises
    ------
    ImportError
        If joblib is needed and not installed.
    """
    done = _results(function, tasks, min(n_jobs, len(tasks)), threads, what)
    with contextlib.closing(done), _bar(len(tasks), what, progress) as bar:
        for result in done:
            bar.update()
            yield result


def _bar(total: int, what: str, progress: bool) -> Any:
    """Return the progress bar; without a terminal or notebook, one that does nothing and needs no tqdm."""
    if not (progress and visible(sys.stderr)):
        return _NoBar()
    return optional_module("tqdm", what, "tqdm").tqdm(total=total, desc=what, file=sys.stderr, dynamic_ncols=True)


class _NoBar(contextlib.nullcontext[Any]):
    def __enter__(self) -> Any:
        return self

    def update(self) -> None:
        pass


def _results(
    function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], n_jobs: int, threads: int, what: str
) -> Generator[tuple[int, Any], None, None]:
    if n_jobs <= 1:
        for i, task in enumerate(tasks):
            yield _run(function, i, task, threads)
        return
    joblib = optional_module("joblib", f"{what} with n_jobs above 1", "gdcore[analysis]")
    run = joblib.delayed(_run)
    done = joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered")(
        run(function, i, task, threads) for i, task in enumerate(tasks)
    )
    with contextlib.closing(done):  # joblib ends its processes on every exit
        yield from done


def _run(function: Callable[..., Any], index: int, task: tuple[Any, ...], threads: int) -> tuple[int, Any]:
    before = _core.get_num_threads()
    _core.set_num_threads(threads)
    try:
        return index, function(*task)
    finally:
        _core.set_num_threads(before)
