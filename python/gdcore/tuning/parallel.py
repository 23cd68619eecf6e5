"""Independent tasks in threads, in processes, or on an executor such as a cluster's: the same results anywhere."""

from __future__ import annotations

import collections
import contextlib
import functools
import os
import queue
import sys
import tempfile
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent import futures
from typing import Any, NamedTuple, TypeAlias

from .. import _core
from ..callbacks.progress import tqdm_bar, visible
from ..internal.checks import choice, integer, optional, optional_module, shown
from .workers import Job, Packed, blas_of_one_thread, jobs, packed, run_task

__all__ = ["Workers", "checked_workers", "run_all"]

Results: TypeAlias = Generator[tuple[int, Any], None, None]
KINDS = ("threads", "processes", "joblib")
LOST = 3  # times that a task's worker may end before the run does
IDLE_SECONDS = 300  # after which idle processes end
WAIT_SECONDS = 0.02  # after which a waiting thread looks for Ctrl-C
AHEAD = 64  # tasks given to an executor of unknown size


class Workers(NamedTuple):
    """Where tasks run: how many at a time (None: as many as there is room for), in what, or on which executor."""

    n_jobs: int | None
    within: str
    executor: Any

    def places(self, threads: int = 1) -> int:
        """Return the number of tasks at a time, each of so many threads: they share those of the caller."""
        return self.n_jobs or max(1, _core.get_num_threads() // threads)


def checked_workers(n_jobs: object, within: object = None, executor: Any = None) -> Workers:
    """Return where tasks run, from the arguments of a call.

    Raises
    ------
    TypeError, ValueError
        If `n_jobs` is neither None, -1 nor a whole number of at least 1; `within` is unknown, or given together with an
        `executor`; or `executor` has no method ``submit``.
    """
    expected = "a number of tasks at a time, or -1 for one on each processor,"
    number = optional(functools.partial(integer, minimum=-1, expected=expected), n_jobs, "n_jobs")
    if number == 0:
        raise ValueError(f"n_jobs: got {shown(n_jobs)}; expected {expected} but not 0")
    number = len(os.sched_getaffinity(0)) if number == -1 else number
    if executor is None:
        return Workers(number, "threads" if within is None else choice(within, "within", KINDS), None)
    if within is not None:
        raise ValueError(f"within: got {shown(within)} together with an executor; expected one of the two")
    executor = executor.get_executor() if hasattr(executor, "get_executor") else executor  # of Dask's Client
    if isinstance(executor, type) or not callable(getattr(executor, "submit", None)):
        raise TypeError(
            f"executor: got {shown(executor)}; expected an object with a method submit that returns futures, such as "
            "concurrent.futures.ProcessPoolExecutor(4)"
        )
    return Workers(number, "executor", executor)


def run_all(
    function: Callable[..., Any],
    tasks: Sequence[tuple[Any, ...]],
    *,
    n_jobs: int | None = None,
    threads: int = 1,
    what: str,
    name: Callable[[int], str] = "task {}".format,
    progress: bool = True,
    status: Callable[[], str] = str,
    within: str | None = None,
    executor: Any = None,
    blas: bool = False,
    together: Callable[[Sequence[Any], Callable[[int], str]], Iterator[tuple[int, Any]]] | None = None,
) -> Results:
    """Yield (i, ``function(*tasks[i])``) for each of the tasks, as soon as it is done.

    Every task computes with `threads` threads, wherever it runs, so that gdcore's results are the same bits. The number
    of threads of the caller does not change. An exception of a task, Ctrl-C, or closing the iterator stops all tasks.
    Results that are finished by then come first, except where the iterator is closed.

    Parameters
    ----------
    function : function
        Called in several threads at once, or in other processes. These get it once each, with all that it refers to, by
        cloudpickle: it may be a lambda, and should hold the data. Arrays in it are mapped into their memory.
    tasks : sequence of tuples
        Its arguments, small.
    n_jobs : int, optional
        Tasks at a time: of 1, each is computed by the caller, in order; -1: one for each processor. None: as many as
        the caller's threads (`get_num_threads`) are enough for; for an executor as many as it takes; for joblib the
        number of `joblib.parallel_config`, or all processors.
    threads : int
        Threads that each task computes with.
    what : str
        Name of the call, for the progress bar and for errors.
    name : function
        Returns the name of a task, for errors.
    progress : bool
        Whether to show a bar on the standard error output, on a terminal or in a notebook.
    status : function
        Returns text to show in the bar.
    within : {"threads", "processes", "joblib"}, optional
        Threads of this process (as when left out), processes of this machine, or what `joblib.parallel_config` selects.
    executor : object, optional
        Runs the tasks instead: anything with ``submit(function, *arguments)`` that returns futures, as in
        `concurrent.futures` and loky; or a Dask client.
    blas : bool
        Whether NumPy's linear algebra computes with one thread meanwhile, where threadpoolctl is installed.
    together : function, optional
        Gets the tasks and a function that names them; computes them itself, and yields what `run_all` yields.

    Raises
    ------
    ImportError
        If joblib is needed and not installed.
    RuntimeError
        If the process of a task ends three times, for example for lack of memory. Once or twice, it is repeated.
    """
    workers = checked_workers(n_jobs, within, executor)
    job = Job(function, threads, blas)
    run = _Run(uuid.uuid4().hex, job, tasks, lambda i: f"[{what}] {name(i)}")
    if together is not None:
        done: Results = (each for each in together(tasks, run.name))
    elif not tasks or (workers.within == "threads" and min(workers.places(threads), len(tasks)) == 1):
        done = ((i, job(task, run.name(i))) for i, task in enumerate(tasks))
    elif workers.within == "joblib":
        done = _with_joblib(run, workers)
    else:
        done = _with_executor(run, workers)
    return _shown(done, len(tasks), what, progress, status, blas and workers.within == "threads")


def _shown(done: Results, total: int, what: str, progress: bool, status: Callable[[], str], blas: bool) -> Results:
    """Yield all results, and show their number."""
    with contextlib.closing(done), blas_of_one_thread(blas), _bar(total, what, progress) as bar:
        for result in done:
            yield result
            bar.set_postfix_str(status(), refresh=False)
            bar.update()


def _bar(total: int, what: str, progress: bool) -> Any:
    """Return the progress bar; without a terminal or notebook, one that does nothing and needs no tqdm."""
    if not (progress and visible(sys.stderr)):
        return _NoBar()
    return tqdm_bar(what, sys.stderr, total=total, desc=what)


class _NoBar(contextlib.nullcontext[Any]):
    def __enter__(self) -> Any:
        return self

    def update(self) -> None:
        pass

    def set_postfix_str(self, text: str, refresh: bool) -> None:
        pass


class _Run(NamedTuple):
    """Tasks, the job that computes them, and names of both."""

    key: str
    job: Job
    tasks: Sequence[tuple[Any, ...]]
    name: Callable[[int], str]

    def packed(self) -> Packed:
        """Return the arguments of the job as bytes."""
        return packed((self.job.function, self.job.threads, self.job.blas))

    def ended(self, i: int) -> RuntimeError:
        """Return the error for a task whose process ended."""
        return RuntimeError(
            f"{self.name(i)}: the process that computed it was ended {LOST} times; the system may have ended it for "
            "lack of memory"
        )


# ---- Executors ------------------------------------------------------------------------------------------------------
class _Pool:
    """The executor of a run: our own threads or processes, or the one that was given."""

    def __init__(self, workers: Workers, run: _Run) -> None:
        self.own = workers.executor is None
        count = min(workers.places(run.job.threads), len(run.tasks))
        if workers.within == "threads":
            self.executor: Any = futures.ThreadPoolExecutor(count, "gdcore")
        else:
            self.executor = _processes(count) if self.own else workers.executor
        size = getattr(self.executor, "_max_workers", None)
        self.room = 2 * (count if self.own else size or AHEAD)  # tasks that it is given at a time
        if not self.own and workers.n_jobs is not None:
            self.room = workers.n_jobs

    def renew(self, error: BaseException) -> None:
        """Replace an executor that is broken since a process of it was killed; raises `error` if that is not known."""
        broken: Any = self.executor
        size = getattr(broken, "_max_workers", None)
        if isinstance(broken, futures.ProcessPoolExecutor):
            given = (broken._mp_context, broken._initializer, broken._initargs)
            self.executor, self.own = futures.ProcessPoolExecutor(size, *given), True
        elif type(broken).__module__.startswith(("joblib.externals.loky", "loky")):
            self.executor, self.own = _processes(size or 1), True
        else:
            raise error

    def close(self, running: Sequence[Any], *, failed: bool) -> None:
        """Wait until all tasks have ended, as far as they can be stopped; end threads and processes of our own."""
        left = [future for future in running if not future.cancel()]
        loky = hasattr(self.executor, "shutdown") and type(self.executor).__module__.startswith("joblib.externals.loky")
        if self.own and loky:
            if failed:
                self.executor.shutdown(wait=True, kill_workers=True)
            else:
                _keep(self.executor)
        elif self.own:
            self.executor.shutdown(wait=True, cancel_futures=True)
        elif left:
            futures.wait(left, None if isinstance(self.executor, futures.ThreadPoolExecutor) else 1.0)


_kept: list[Any] = []  # processes that no run uses, for the next one; not joblib's own, which it may end or change
os.register_at_fork(after_in_child=_kept.clear)


def _processes(count: int) -> Any:
    """Return an executor of our own: the one that is kept, if it has so many processes, or a new one."""
    loky = optional_module("joblib.externals.loky", "within='processes'", "gdcore[analysis]")
    with contextlib.suppress(IndexError):  # another thread may take it first
        executor = _kept.pop()
        if executor._max_workers == count:
            return executor
        executor.shutdown(wait=False)
    return loky.ProcessPoolExecutor(count, timeout=IDLE_SECONDS)


def _keep(executor: Any) -> None:
    _kept.append(executor)
    while len(_kept) > 1:
        _kept.pop(0).shutdown(wait=False)


def _with_executor(run: _Run, workers: Workers) -> Results:
    """Compute the tasks on an executor. Where a process was killed, repeat the tasks that had been given to it."""
    waiting = collections.deque(range(len(run.tasks)))
    running: dict[Any, tuple[int, Any]] = {}  # the futures, each with its task and its executor
    finished: queue.SimpleQueue[Any] = queue.SimpleQueue()
    lost: collections.Counter[int] = collections.Counter()  # how often, of tasks that are not done yet
    pool, failed = _Pool(workers, run), True
    jobs[run.key] = run.job
    try:
        with _Sender(run, pool.executor) as sender:
            while waiting or running:
                room = 1 if any(times > 1 for times in lost.values()) else pool.room  # to know which one ends processes
                while waiting and len(running) < room:
                    i = waiting.popleft()
                    try:
                        future = pool.executor.submit(run_task, run.key, sender.source(i), run.tasks[i], run.name(i))
                    except futures.BrokenExecutor as error:
                        waiting.appendleft(i)
                        pool.renew(error)
                        continue
                    running[future] = i, pool.executor
                    future.add_done_callback(finished.put)
                future = _next(finished)
                i, executor = running.pop(future)
                try:
                    result = future.result()
                except (futures.BrokenExecutor, futures.CancelledError) as error:
                    lost[i] += 1
                    if lost[i] == LOST:
                        raise run.ended(i) from error
                    waiting.appendleft(i)
                    if isinstance(error, futures.BrokenExecutor) and executor is pool.executor:
                        pool.renew(error)
                    continue
                except Exception as error:
                    if type(error).__name__ == "KilledWorker":  # Dask has repeated it
                        raise run.ended(i) from error
                    raise
                if result is None:
                    sender.missing.add(i)
                    waiting.appendleft(i)
                    continue
                lost.pop(i, None)
                yield i, result[0]
        failed = False
    except (Exception, KeyboardInterrupt):
        run.job.stop()
        yield from _left(finished, running)
        raise
    finally:
        jobs.pop(run.key, None)
        if failed:
            run.job.stop()
        pool.close(list(running), failed=failed)


def _next(finished: queue.SimpleQueue[Any]) -> Any:
    """Return the next future that is done.

    Waits in short turns: Ctrl-C does not end a wait where another library has a signal handler that restarts system
    calls, as polars has.
    """
    while True:
        with contextlib.suppress(queue.Empty):
            return finished.get(timeout=WAIT_SECONDS)


def _left(finished: queue.SimpleQueue[Any], running: dict[Any, tuple[int, Any]]) -> Results:
    """Yield the results of tasks that had finished when another one failed."""
    while not finished.empty():
        future = finished.get()
        if not future.cancelled() and future.exception() is None and future.result() is not None:
            yield running.pop(future)[0], future.result()[0]


class _Sender:
    """Gives the function of a run to other processes: in a file, or in a message to those that cannot read it.

    While the file exists, the run goes on: processes look for it.
    """

    def __init__(self, run: _Run, executor: Any) -> None:
        self._run, self._executor = run, executor
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._path = ""
        self._message: Any = None
        self.missing: set[int] = set()  # tasks that found no function

    def __enter__(self) -> _Sender:
        if not isinstance(self._executor, futures.ThreadPoolExecutor):
            self._folder = tempfile.TemporaryDirectory(prefix="gdcore-", ignore_cleanup_errors=True)
            self._path = os.path.join(self._folder.name, "function")
            self._run.packed().tofile(self._path)
        return self

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def source(self, i: int) -> Any:
        """Return where task `i` finds the function."""
        if i not in self.missing:
            return self._path
        if self._message is None:
            client = getattr(self._executor, "_client", None)  # of Dask: sends it to each of its workers once
            self._message = self._run.packed()
            self._message = client.scatter(self._message, broadcast=True) if client is not None else self._message
        return self._message


# ---- joblib ---------------------------------------------------------------------------------------------------------
def _with_joblib(run: _Run, workers: Workers) -> Results:
    """Compute the tasks with the backend of `joblib.parallel_config`; repeat those of killed processes."""
    joblib = optional_module("joblib", "within='joblib'", "gdcore[analysis]")
    backend, number = joblib.parallel.get_active_backend()
    order = "generator_unordered" if getattr(backend, "supports_return_generator", False) else "list"
    given: dict[str, Any] = {"return_as": order, "max_nbytes": 10_000}  # a larger function is sent in a file
    given["n_jobs"] = workers.n_jobs or number or -1
    source = "" if getattr(backend, "supports_sharedmem", False) else run.packed()
    left = set(range(len(run.tasks)))
    jobs[run.key] = run.job
    try:
        for attempt in range(1, LOST + 1):
            calls = [joblib.delayed(_numbered)(i, run.key, source, run.tasks[i], run.name(i)) for i in sorted(left)]
            try:
                for i, result in joblib.Parallel(**given)(calls):
                    left.remove(i)
                    yield i, result
                return
            except futures.BrokenExecutor as error:
                if attempt == LOST:
                    raise run.ended(min(left)) from error
    finally:
        jobs.pop(run.key, None)
        run.job.stop()


def _numbered(i: int, *arguments: Any) -> tuple[int, Any]:
    result = run_task(*arguments)
    assert result is not None  # the function came with the task
    return i, result[0]
