"""What computes a task in a thread or a process: the function of a run, sent once, its threads, and its end."""

from __future__ import annotations

import contextlib
import importlib
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .. import _core
from ..internal.checks import optional_module
from ..threads import thread_limit

__all__ = ["Job", "jobs", "packed", "run_task"]

Packed: TypeAlias = npt.NDArray[np.uint8]
ALIGNED = 64  # bytes between the beginnings of arrays in a packed function
WATCH_SECONDS = 0.05  # between two looks of a process at the folder of its run


class Job:
    """The function that all tasks of a run call, in this process.

    Parameters
    ----------
    function : function
        Called with the arguments of a task.
    threads : int
        Threads that each task computes with.
    blas : bool
        Whether NumPy's linear algebra computes with one thread meanwhile.
    """

    def __init__(self, function: Callable[..., Any], threads: int, blas: bool) -> None:
        self.function, self.threads, self.blas = function, threads, blas
        self.sent = False  # whether the function came with a task
        self._flag, self._stopped = _core.InterruptFlag(), False

    def stop(self) -> None:
        """Stop all tasks soon; may be called by any thread."""
        self._stopped = True
        self._flag.set()

    def __call__(self, task: tuple[Any, ...], note: str) -> Any:
        """Compute a task; raises CancelledError soon after `stop`. An exception gets the note."""
        try:
            with thread_limit(self.threads), self._flag.watched(), blas_of_one_thread(self.blas):
                return self.function(*task)
        except KeyboardInterrupt:
            if self._stopped:  # no Ctrl-C, at which Dask ends a process
                raise futures.CancelledError from None
            raise
        except (futures.CancelledError, futures.BrokenExecutor) as error:  # of the function, not of its executor
            error.add_note(note)
            raise RuntimeError(f"{type(error).__name__}: {error}") from error
        except Exception as error:
            error.add_note(note)
            raise


jobs: dict[str, Job] = {}  # the runs that this process computes for, by their names
os.register_at_fork(after_in_child=jobs.clear)


def run_task(name: str, source: str | Packed, task: tuple[Any, ...], note: str) -> tuple[Any] | None:
    """Compute a task of the run called `name`, and return (result,); None if its function is not here.

    Parameters
    ----------
    name : str
        Name of the run.
    source : str or array
        The packed function, or the path of a file with it; used where this process does not have it yet.
    task : tuple
        The arguments of the function.
    note : str
        What the task is, for errors.
    """
    here = jobs.get(name)
    job = here or _received(name, source)
    try:
        return None if job is None else (job(task, note),)
    except Exception as error:
        if isinstance(source, str) and not source:  # in a thread of the run's process
            raise
        raise sendable(error) from None


def sendable(error: Exception) -> Exception:
    """Return an exception that another process can read: this one, or its text in a RuntimeError."""
    try:
        cloudpickle = _cloudpickle()
        cloudpickle.loads(cloudpickle.dumps(error))
    except Exception:
        lines = "".join(traceback.format_exception(error))
        return RuntimeError(f"{type(error).__name__}: {error}\n\n{lines}")
    return error


def _received(name: str, source: str | Packed) -> Job | None:
    """Unpack the function of a run. A file is mapped into memory: processes of one machine share large arrays."""
    if isinstance(source, str):
        try:
            data: Packed = np.memmap(source, np.uint8, "r").view(np.ndarray)
        except OSError:  # another machine, or the run has ended
            return None
    else:
        for earlier in [key for key, job in list(jobs.items()) if job.sent]:
            jobs.pop(earlier, None)  # nothing tells when an earlier run has ended
        data = source
    job = jobs[name] = Job(*_unpacked(data))
    job.sent = not isinstance(source, str)
    if isinstance(source, str):
        threading.Thread(target=_watch, args=(name, source, job), daemon=True).start()
    return job


def _watch(name: str, path: str, job: Job) -> None:
    """Stop the tasks of a run when its file disappears, and forget its function."""
    while os.path.exists(path):
        time.sleep(WATCH_SECONDS)
    job.stop()
    jobs.pop(name, None)


# ---- A function with its data as bytes ------------------------------------------------------------------------------
def packed(value: Any) -> Packed:
    """Return an object as bytes, with arrays at multiples of 64 bytes, so that `_unpacked` need not copy them."""
    buffers: list[Any] = []
    head = _cloudpickle().dumps(value, protocol=5, buffer_callback=lambda buffer: buffers.append(buffer.raw()))
    parts: list[Packed] = [np.asarray(memoryview(part)) for part in (head, *buffers)]
    starts = _starts([len(part) for part in parts])
    data = np.zeros(starts[-1], np.uint8)
    table = np.array([len(parts), *map(len, parts)], np.int64).view(np.uint8)
    for part, start in zip((table, *parts), (0, *starts), strict=False):
        data[start : start + len(part)] = part
    data.flags.writeable = False  # tasks share the arrays
    return data


def _unpacked(data: Packed) -> Any:
    count = int(data[:8].view(np.int64)[0])
    sizes = data[8 : 8 * (count + 1)].view(np.int64).tolist()
    parts = [data[start : start + size] for start, size in zip(_starts(sizes), sizes, strict=False)]
    return _cloudpickle().loads(parts[0], buffers=parts[1:])


def _starts(sizes: list[int]) -> list[int]:
    """Return where parts of these sizes begin after a table of them, and where the last ends."""
    starts = [8 * (len(sizes) + 1)]
    for size in sizes:
        starts[-1] += -starts[-1] % ALIGNED
        starts.append(starts[-1] + size)
    return starts


def _cloudpickle() -> Any:
    return optional_module("cloudpickle", "computing in processes", "gdcore[analysis]")


# ---- NumPy's linear algebra -----------------------------------------------------------------------------------------
_users, _held, _lock = 0, contextlib.ExitStack(), threading.Lock()


@contextlib.contextmanager
def blas_of_one_thread(wanted: bool) -> Iterator[None]:
    """Limit NumPy's linear algebra to one thread, as the number of threads changes rounding; needs threadpoolctl.

    The limit holds for the whole process. The first that needs it sets it, the last one restores the old number.
    """
    global _users
    try:
        limit = importlib.import_module("threadpoolctl").threadpool_limits if wanted else None
    except ImportError:
        limit = None
    if limit is None:
        yield
        return
    with _lock:
        _users += 1
        if _users == 1:
            _held.enter_context(limit(1, user_api="blas"))
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _held.close()
