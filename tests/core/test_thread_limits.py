"""Promise: a limit belongs to the thread that entered it and changes no other's; results are the same bits for all
limits, with several threads at once; a flag interrupts the computations of threads that watch it, as Ctrl-C does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import gdcore as gd
import numpy as np
import pytest
from gdcore import _core, analysis


@pytest.fixture(autouse=True)
def default() -> Iterator[int]:
    """A default that no test limits to, and the old one afterwards."""
    before = gd.get_num_threads()
    gd.set_num_threads(4)
    yield 4
    assert gd.get_num_threads() == gd.info()["threads"]  # every limit has ended
    gd.set_num_threads(before)


def in_thread(function: Callable[[], Any]) -> Any:
    """Return what the function returns, or raise what it raises, in a thread of its own."""
    return in_threads(function)[0]


def in_threads(*functions: Callable[[], Any]) -> list[Any]:
    results: list[Any] = [None] * len(functions)

    def run(i: int) -> None:
        try:
            results[i] = functions[i]()
        except BaseException as error:
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
        assert not thread.is_alive()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def test_limits_nest_and_end() -> None:
    limit = gd.thread_limit(1)
    assert limit.threads == 1 and gd.get_num_threads() == 4
    with limit as entered:
        assert entered is limit and gd.get_num_threads() == 1 and gd.info()["threads"] == 1
        with gd.thread_limit(7), limit, limit:  # entered again
            assert gd.get_num_threads() == 1
        with gd.thread_limit(threads=np.int64(7)):
            assert gd.get_num_threads() == 7  # above the default
        assert gd.get_num_threads() == 1
    assert gd.get_num_threads() == 4
    with pytest.raises(KeyError), limit:
        raise KeyError
    assert gd.get_num_threads() == 4


def test_no_thread_changes_the_number_of_another() -> None:
    barrier = threading.Barrier(3)

    def limited(threads: int) -> list[int]:
        with gd.thread_limit(threads):
            seen = [gd.get_num_threads(), in_thread(gd.get_num_threads)]  # a new thread inherits nothing
            barrier.wait()  # all are inside
            seen.append(gd.get_num_threads())
            barrier.wait()
        return [*seen, gd.get_num_threads()]

    def changes() -> int:
        barrier.wait()
        gd.set_num_threads(5)
        barrier.wait()
        return gd.get_num_threads()

    first, second, third = in_threads(lambda: limited(2), lambda: limited(3), changes)
    assert (first[0], first[2], first[3]) == (2, 2, 5) and first[1] in (4, 5)
    assert (second[0], second[2], second[3]) == (3, 3, 5)
    assert third == 5
    with gd.thread_limit(2):
        gd.set_num_threads(6)
        assert gd.get_num_threads() == 2 and in_thread(gd.get_num_threads) == 6
    assert gd.get_num_threads() == 6


def test_limits_may_end_in_any_order() -> None:
    """Of generators, for example, that are suspended within their blocks."""

    def suspended(threads: int) -> Iterator[int]:
        with gd.thread_limit(threads):
            yield gd.get_num_threads()

    first, second = suspended(2), suspended(3)
    assert (next(first), next(second)) == (2, 3)
    assert list(first) == [] and gd.get_num_threads() == 3
    assert list(second) == [] and gd.get_num_threads() == 4


def test_decorator() -> None:
    @gd.thread_limit(2)
    def inner(depth: int = 0, *, fail: bool = False) -> list[int]:
        """Return the numbers at each depth."""
        if fail:
            raise KeyError
        return [gd.get_num_threads(), *(inner(depth - 1) if depth else [])]

    assert inner.__name__ == "inner" and inner.__doc__ == "Return the numbers at each depth."
    assert inner(2) == [2, 2, 2]
    assert in_threads(*[lambda: inner(1)] * 4) == [[2, 2]] * 4  # one object in several threads
    with pytest.raises(KeyError):
        inner(fail=True)
    with pytest.raises(TypeError, match=r"function: got 3; expected a function"):
        gd.thread_limit(2)(3)  # type: ignore[type-var]


def test_bad_limits() -> None:
    for bad in (0, -1, 1025, 10**30):
        with pytest.raises(ValueError, match=rf"threads: got {bad}; expected a whole number of at (least 1|most 1024)"):
            gd.thread_limit(bad)
    for wrong in (1.5, "2", None, True):
        with pytest.raises(TypeError, match=r"threads: got .*; expected a whole number of at least 1"):
            gd.thread_limit(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"\[thread_limit\] threads is missing"):
        gd.thread_limit()  # type: ignore[call-arg]
    assert gd.get_num_threads() == 4


def test_a_limit_cannot_be_left_elsewhere() -> None:
    limit = gd.thread_limit(2)

    def leave() -> None:
        with pytest.raises(RuntimeError, match=r"thread_limit: left in a thread that did not enter it; expected"):
            limit.__exit__(None, None, None)

    with limit:
        in_thread(leave)
        assert gd.get_num_threads() == 2
    leave()


def trained(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((900, 150), "f"), rng.integers(0, 5, 900)
    layers = [gd.Dense(150, 130), gd.BatchNorm(130), gd.ReLU(), gd.Dropout(0.1), gd.Dense(130, 5)]
    trainer = gd.Trainer(gd.Sequential(*layers, seed=seed), gd.CrossEntropy(), optimizer=gd.Adam(1e-3))
    trainer.fit(x, y, epochs=3, batch_size=300, validation=(x[:200], y[:200]))
    return trainer.model.flat_parameters().tobytes() + trainer.model.predict(x).tobytes()


def test_the_same_bits_for_all_limits_at_once() -> None:
    with gd.thread_limit(1):
        expected = [trained(seed) for seed in range(6)]
    for _ in range(2):
        limits = (1, 2, 3, 8, 2, 3)
        got = in_threads(*[lambda s=s, n=n: gd.thread_limit(n)(trained)(s) for s, n in enumerate(limits)])
        assert got == expected
    assert [trained(seed) for seed in range(2)] == expected[:2]


# ---- Interruption by a flag -----------------------------------------------------------------------------------------
def interrupted(work: Callable[[], Any], trainer: gd.Trainer | None = None) -> None:
    """Assert that the work, which lasts for minutes, raises KeyboardInterrupt soon after the flag is set.

    With a trainer the flag is set after it has made a step.
    """
    flag, begun, state = _core.InterruptFlag(), threading.Event(), {}

    def worker() -> None:
        with flag.watched():
            begun.set()
            with pytest.raises(KeyboardInterrupt):
                work()
            state["delay"] = time.monotonic() - state["set"]

    thread = threading.Thread(target=worker, daemon=True)
    thread.start()
    assert begun.wait(100)
    end = time.monotonic() + 100
    while trainer is not None and trainer.steps == 0 and thread.is_alive() and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.15)
    state["set"] = time.monotonic()
    flag.set()
    thread.join(100)
    assert 0 <= state["delay"] < 30  # some 20 ms on a quiet machine


def make(width: int = 64, dtype: str = "float32") -> gd.Trainer:
    layers = [gd.Dense(20, width), gd.BatchNorm(width), gd.ReLU(), gd.Dense(width, 3)]
    return gd.Trainer(gd.Sequential(*layers, dtype=dtype, seed=0), gd.CrossEntropy(), optimizer=gd.Adam(1e-3))


X = np.random.default_rng(0).standard_normal((4000, 20), "f")
Y = np.arange(4000) % 3


def forever(call: Callable[[], Any]) -> None:
    while True:
        call()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", ["fit", "fit of tiny steps", "fit of tiny epochs", "steps", "evaluate", "predict"])
def test_a_flag_interrupts(name: str, threads: int) -> None:
    trainer = make(900 if name in ("fit", "evaluate", "predict") else 16)
    work: dict[str, Callable[[], Any]] = {
        "fit": lambda: trainer.fit(X, Y, epochs=10**6, batch_size=1000),
        "fit of tiny steps": lambda: trainer.fit(X, Y, epochs=10**6, batch_size=2),
        "fit of tiny epochs": lambda: trainer.fit(X[:8], Y[:8], epochs=10**7, batch_size=8),
        "steps": lambda: forever(lambda: trainer.step(X[:8], Y[:8])),
        "evaluate": lambda: forever(lambda: trainer.evaluate(X, Y)),
        "predict": lambda: forever(lambda: trainer.model.predict(X[:3])),
    }
    trains = "fit" in name or name == "steps"
    interrupted(gd.thread_limit(threads)(work[name]), trainer if trains else None)
    steps = trainer.steps
    assert np.isfinite(trainer.model.flat_parameters()).all() and (steps > 0) == trains
    trainer.fit(X[:64], Y[:64], epochs=1, batch_size=32)
    assert trainer.steps == steps + 2 and trainer.model.predict(X[:3]).shape == (3, 3)


def test_a_flag_interrupts_an_analysis() -> None:
    trainer = make(50, dtype="float64")
    objective = analysis.Objective(trainer.model, trainer.loss, X, Y)
    v = np.ones(objective.size)
    interrupted(lambda: forever(lambda: objective.hvp(v)))
    assert np.isfinite(objective.hvp(v)).all()


def test_an_interrupted_step_has_changed_nothing() -> None:
    """As after Ctrl-C: the parameters are those after the counted steps."""
    trainer, twin = make(300), make(300)
    interrupted(lambda: forever(lambda: trainer.step(X, Y)), trainer)
    for _ in range(trainer.steps):
        twin.step(X, Y)
    assert trainer.steps > 0
    np.testing.assert_array_equal(trainer.model.flat_parameters(), twin.model.flat_parameters())


def test_each_set_interrupts_a_block_once() -> None:
    """What runs afterwards, such as the hooks at the end of a fit, computes; so do threads that do not watch."""
    flag, model, seen = _core.InterruptFlag(), make().model, []

    class Hooked(gd.Callback):
        def on_epoch_end(self, trainer: gd.Trainer, logs: dict[str, float]) -> None:
            flag.set()

        def on_train_end(self, trainer: gd.Trainer) -> None:
            seen.append(trainer.evaluate(X, Y))

    with flag.watched():
        model.predict(X)
        with flag.watched(), pytest.raises(KeyboardInterrupt):
            make().fit(X, Y, epochs=3, callbacks=[Hooked()])
        assert seen and model.predict(X).shape == (4000, 3)
        flag.set()
        in_thread(lambda: model.predict(X))
        with pytest.raises(KeyboardInterrupt):
            model.predict(X)
        model.predict(X)
    model.predict(X)
    with flag.watched():  # a block that begins later
        with pytest.raises(KeyboardInterrupt):
            model.predict(X)
        model.predict(X)


def test_a_block_cannot_be_left_elsewhere() -> None:
    flag, other = _core.InterruptFlag(), _core.InterruptFlag()
    watched = flag.watched()

    def leave() -> None:
        with pytest.raises(RuntimeError, match="left in a thread that did not enter it; expected the thread that did"):
            watched.__exit__(None, None, None)

    with watched, other.watched():
        in_thread(leave)
        flag.set()
        with pytest.raises(KeyboardInterrupt):
            make().model.predict(X)
    leave()
