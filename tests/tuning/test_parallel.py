"""Promise: tasks give the same results in threads, processes, on executors and joblib's backends; a killed process
costs its tasks a repetition; an error, Ctrl-C and closing stop all tasks; data are sent once; no number of threads of
the caller changes."""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent import futures
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore.tuning import parallel, workers
from gdcore.tuning.parallel import checked_workers, run_all

DATA = np.arange(200_000.0)
PROCESSES = get_context("forkserver")  # which imports once
PROCESSES.set_forkserver_preload(["pytest", "numpy", "gdcore.tuning.sweep"])
FOREVER = {"epochs": 10**7, "batch_size": None}


@pytest.fixture(scope="module")
def dask() -> Iterator[Any]:
    """A client of two workers."""
    distributed = pytest.importorskip("distributed")
    given = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": 50}
    threads = os.environ.get("OMP_NUM_THREADS")
    with distributed.LocalCluster(**given) as cluster, distributed.Client(cluster) as client:
        yield client
    os.environ.pop("OMP_NUM_THREADS", None)  # which distributed sets
    os.environ.update({} if threads is None else {"OMP_NUM_THREADS": threads})


@contextlib.contextmanager
def place(name: str, client: Any = None) -> Iterator[dict[str, Any]]:
    """The arguments of a place where tasks run."""
    kind, _, number = name.partition(" ")
    if kind in ("threads", "processes"):
        yield {"within": kind, "n_jobs": int(number or 2)}
    elif kind == "ThreadPoolExecutor":
        with futures.ThreadPoolExecutor(2) as executor:
            yield {"executor": executor}
    elif kind == "ProcessPoolExecutor":
        with futures.ProcessPoolExecutor(2, PROCESSES) as executor:
            yield {"executor": executor}
    elif kind == "loky":
        executor = pytest.importorskip("joblib.externals.loky").get_reusable_executor(2, timeout=300)
        yield {"executor": executor}
        executor.shutdown()  # joblib would take it for its own
    elif kind == "joblib":
        with pytest.importorskip("joblib").parallel_config(backend=number, n_jobs=2):
            yield {"within": "joblib"}
    else:
        yield {"executor": client}


def values(function: Any, tasks: int = 6, **where: Any) -> list[Any]:
    found = dict(run_all(function, [(i,) for i in range(tasks)], what="a test", progress=False, **where))
    assert sorted(found) == list(range(tasks))
    return [found[i] for i in range(tasks)]


def of_data(i: int) -> tuple[float, int]:
    return float(DATA[i] + DATA.sum()), gd.get_num_threads()


HERE = ["threads 1", "threads 2", "threads 8", "ThreadPoolExecutor", "joblib threading"]
ELSEWHERE = ["processes", "loky", "ProcessPoolExecutor", "dask", "joblib multiprocessing"]


def build(seed: int, width: int, factor: float) -> gd.Sequential:
    model = gd.Sequential(gd.Dense(3, width), gd.ReLU(), gd.Dropout(0.1), gd.Dense(width, 1), seed=seed)
    model.parameters()["layers.0.weight"][...] *= factor
    return model


def compared(**where: Any) -> list[Any]:
    """All numbers of a sweep over shapes, with early stopping and with starts that diverge."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((90, 3))
    result = gd.sweep(
        build,
        [{"width": 4, "factor": 1.0}, {"width": 17, "factor": 1.0}, {"width": 5, "factor": 1e15}],
        x,
        np.sin(x[:, :1]),
        validation=0.3,
        seeds=2,
        loss=gd.MeanSquaredError(),
        optimizer=gd.Momentum(0.05),
        epochs=15,
        callbacks=[gd.EarlyStopping(patience=2)],
        progress=False,
        **where,
    )
    rows = [start.history.rows for start in result.starts]
    assert [start.diverged for start in result.starts] == [False] * 4 + [True] * 2
    for row in (*[row for history in rows for row in history], *(table := result.table().rows)):
        row.pop("seconds")
    return [rows, table, result.best_setting, result.best_seed, result.best.flat_parameters().tobytes()]


@pytest.mark.parametrize("name", [*HERE, "threads 3", *ELSEWHERE])
def test_same_bits_everywhere(name: str, request: pytest.FixtureRequest) -> None:
    client = request.getfixturevalue("dask") if name == "dask" else None
    before = gd.get_num_threads()
    expected = compared(n_jobs=1)
    with place(name, client) as where:
        assert compared(**where) == expected
        assert compared(**where, keep_models=True) == expected
        assert values(of_data, threads=3, **where) == [(i + float(DATA.sum()), 3) for i in range(6)]
    assert gd.get_num_threads() == before
    assert not workers.jobs


def test_a_run_sent_by_another_process_leaves_the_own_ones() -> None:
    """A worker of a cluster may itself train networks in threads while it gets tasks of another run."""

    def task(i: int) -> list[list[str]]:
        seen = []
        for name in ("first", "second") if i else ():
            assert workers.run_task(name, workers.packed((pow, 1, False)), (2, i), "a task") == (2**i,)
            seen.append(sorted(workers.jobs))
        return seen

    (_, (first, second)) = values(task, 2, n_jobs=2)
    workers.jobs.pop("second")
    (own,) = set(first) - {"first"}
    assert second == sorted({own, "second"})
    assert not workers.jobs


def test_no_task_starts_nothing() -> None:
    for where in ({}, {"within": "processes"}, {"executor": Counting(None, 1)}):
        assert values(of_data, 0, **where) == []


def killed(i: int, folder: Path, times: int) -> int:
    """Kill the process of task 3, the first `times` times."""
    if i == 3 and len(list(folder.iterdir())) < times:
        (folder / f"{time.time_ns()}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.01)
    return i


@pytest.mark.parametrize("name", ["processes", "ProcessPoolExecutor", "dask"])
def test_a_killed_process_costs_a_repetition(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    client = request.getfixturevalue("dask") if name == "dask" else None
    with place(name, client) as where:
        assert values(lambda i: killed(i, tmp_path, 1), 12, **where) == list(range(12))
        assert len(list(tmp_path.iterdir())) == 1


def test_a_task_that_kills_each_process_is_named(tmp_path: Path) -> None:
    finished = []
    with place("ProcessPoolExecutor") as where:
        tasks = [(i, tmp_path, 99) for i in range(8)]
        done = run_all(killed, tasks, what="a test", name="number {}".format, progress=False, **where)
        with pytest.raises(RuntimeError, match=r"^\[a test\] number 3: the process that computed it was ended 3 times"):
            for i, _ in done:
                finished.append(i)
    assert len(list(tmp_path.iterdir())) == 3 and 3 not in finished


def endless(callbacks: Sequence[gd.Callback] = ()) -> None:
    """Train until interrupted."""
    model = gd.Sequential(gd.Dense(3, 8), gd.Tanh(), gd.Dense(8, 1), seed=0)
    x = np.zeros((50, 3))
    gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.SGD(0.01)).fit(x, x[:, :1], callbacks=callbacks, **FOREVER)


def fails_beside_endless(i: int) -> int:
    if i == 0:
        return 0
    if i < 3:
        endless()
    time.sleep(0.1)
    raise ArithmeticError("too wide")


@pytest.mark.parametrize("name", ["threads 3", "ThreadPoolExecutor", "ProcessPoolExecutor"])
def test_an_error_stops_the_others(name: str) -> None:
    order = [0, 1, 3] if "Executor" in name else [0, 1, 2, 3]  # of two workers
    done = []
    with place(name) as where, pytest.raises(ArithmeticError, match="too wide") as info:
        tasks = [(i,) for i in order]
        for i, _ in run_all(fails_beside_endless, tasks, what="a test", progress=False, **where):
            done.append(i)
    assert info.value.__notes__ == [f"[a test] task {len(order) - 1}"]
    assert done == [0] and not own_threads() and not workers.jobs


def own_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("gdcore")]


def test_closing_stops_all() -> None:
    complete: list[int] = []
    tasks = [(0,), (1,), (2,)]
    done = run_all(lambda i: i and (endless(), complete.append(i)), tasks, what="a test", n_jobs=3, progress=False)
    assert next(done) == (0, 0) and own_threads()
    done.close()
    assert not own_threads() and not complete


@pytest.mark.parametrize("number", [0, 2])
@pytest.mark.parametrize("place", ["submit", "start", "task", "epoch"])
def test_ctrl_c_leaves_no_thread(place: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sent when a task is submitted, when its thread has been started, when it begins, or when an epoch begins."""
    before, times, waiting = gd.get_num_threads(), itertools.count(), threading.Event()
    submit, start, wait = futures.ThreadPoolExecutor.submit, threading.Thread.start, parallel._next
    complete: list[int] = []

    def reached(here: str) -> None:
        if here == place and next(times) == number:
            assert place in ("submit", "start") or waiting.wait(100)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    def started(self: threading.Thread) -> None:
        start(self)
        if self.name.startswith("gdcore"):
            reached("start")

    class Tell(gd.Callback):
        def on_epoch_begin(self, trainer: gd.Trainer) -> None:
            reached("epoch")

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(futures.ThreadPoolExecutor, "submit", lambda *given: (reached("submit"), submit(*given))[1])
        patch.setattr(threading.Thread, "start", started)
        patch.setattr(parallel, "_next", lambda finished: (waiting.set(), wait(finished))[1])
        values(lambda i: (reached("task"), endless([Tell()]), complete.append(i)), n_jobs=3)
    end = time.monotonic() + 100
    while own_threads() and time.monotonic() < end:  # the one that was just starting
        time.sleep(0.01)
    assert not own_threads() and not complete and gd.get_num_threads() == before and not workers.jobs
    assert values(of_data, n_jobs=3)[0] == (DATA.sum(), 1)


class Counting:
    """An executor that counts the bytes of what it is given."""

    def __init__(self, executor: Any, number: int) -> None:
        self.executor, self.sizes, self._max_workers = executor, [], number

    def submit(self, *given: Any) -> Any:
        self.sizes.append(len(pickle.dumps(given)))
        return self.executor.submit(*given)


def test_data_are_not_sent_with_the_tasks() -> None:
    x = DATA.copy()
    with futures.ProcessPoolExecutor(2, PROCESSES) as executor:
        counting = Counting(executor, 2)
        found = values(lambda i: (x[i], os.getpid(), x.flags.writeable), 20, executor=counting)
    assert [value for value, *_ in found] == list(range(20)) and not any(writeable for *_, writeable in found)
    assert len(counting.sizes) == 20 and max(counting.sizes) < 500


class Far(Counting):
    """Workers that see no file of this machine, and are other processes as far as names tell."""

    def submit(self, function: Any, key: str, source: Any, *given: Any) -> Any:
        return super().submit(
            function, f"far {key}", f"/nowhere/{source}" if isinstance(source, str) else source, *given
        )


def test_processes_that_cannot_read_the_file_get_a_message() -> None:
    with futures.ThreadPoolExecutor(1) as executor:
        far = Far(executor, 1)
        x = DATA.copy()
        assert values(lambda i: x[i], 10, executor=far) == list(range(10))
    large = [size for size in far.sizes if size > x.nbytes]
    assert 1 <= len(large) <= 2  # of the tasks that had been given to it


def test_packed_arrays_are_aligned_and_equal() -> None:
    rng = np.random.default_rng(5)
    arrays = [rng.standard_normal(shape) for shape in [(0,), (3,), (5, 7)]] + [np.asfortranarray(np.ones((3, 4)))]
    arrays += [np.arange(12)[::2], np.float32([1.5]), np.array(["a", "bc"])]
    data = workers.packed((lambda i: i + 1, arrays))
    function, back = workers._unpacked(data)
    assert function(2) == 3
    for array, found in zip(arrays, back, strict=True):
        helpers.same_bits(found, array) if array.dtype.kind == "f" else np.testing.assert_array_equal(found, array)
    assert all(start % 64 == 0 for start in workers._starts([3, 100, 0, 64])[:-1])


def test_lapack_computes_with_one_thread_meanwhile() -> None:
    info = pytest.importorskip("threadpoolctl")

    def blas(i: int) -> int:
        time.sleep(0.01)
        found = [library["num_threads"] for library in info.threadpool_info() if library["user_api"] == "blas"]
        return max(found)

    with info.threadpool_limits(2, user_api="blas"):
        assert values(blas, n_jobs=3, blas=True) == [1] * 6
        assert blas(0) == 2 and values(blas, n_jobs=3) == [2] * 6


REFUSED: dict[str, tuple[dict[str, Any], type[BaseException], str]] = {
    "n_jobs": ({"n_jobs": 0}, ValueError, "^n_jobs: got 0"),
    "n_jobs -2": ({"n_jobs": -2}, ValueError, "^n_jobs: got -2"),
    "n_jobs kind": ({"n_jobs": 1.5}, TypeError, "^n_jobs"),
    "within": ({"within": "cloud"}, ValueError, "^within: got 'cloud'; expected one of 'threads', 'processes'"),
    "within kind": ({"within": 3}, ValueError, "^within"),
    "both": ({"within": "threads", "executor": Counting(None, 1)}, ValueError, "^within: .*together with an executor"),
    "executor": ({"executor": 3}, TypeError, "^executor: got 3; expected an object with a method submit"),
    "executor class": ({"executor": futures.ThreadPoolExecutor}, TypeError, "^executor"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    changes, kind, words = REFUSED[name]
    helpers.refuses(lambda: values(of_data, **changes), kind, words)


class TwoArguments(Exception):
    """Cannot be unpickled."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} and {other}")


@pytest.mark.parametrize("where", [{"n_jobs": 2}, {"n_jobs": 2, "within": "processes"}])
@pytest.mark.parametrize("error", [TwoArguments("a", "b"), futures.CancelledError("a and b")], ids=["odd", "cancelled"])
def test_errors_that_executors_use_or_cannot_send(error: Exception, where: dict[str, Any]) -> None:
    def fail(i: int) -> None:
        raise error

    with pytest.raises(Exception, match="a and b") as caught:
        list(run_all(fail, [(0,), (1,)], what="tests", **where))
    assert "lack of memory" not in str(caught.value)


def test_tasks_at_a_time_share_the_callers_threads() -> None:
    processors = len(os.sched_getaffinity(0))
    with gd.thread_limit(6):
        assert [checked_workers(None).places(threads) for threads in (1, 2, 4, 12)] == [6, 3, 1, 1]
        assert checked_workers(-1).places() == processors
        assert checked_workers(3).places(4) == 3
    with gd.thread_limit(1):
        me = threading.get_ident()
        assert [who for _, who in run_all(threading.get_ident, [(), ()], what="tests")] == [me, me]


def test_processes_are_not_those_of_joblib() -> None:
    """Each keeps its own for later calls."""
    joblib = pytest.importorskip("joblib")
    square = joblib.delayed(pow)
    for _ in range(2):
        assert dict(run_all(pow, [(2, 3), (3, 2)], n_jobs=2, within="processes", what="tests")) == {0: 8, 1: 9}
        assert joblib.Parallel(2)(square(i, 2) for i in range(3)) == [0, 1, 4]
