"""`thread_limit`: the number of threads of one thread's computations."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from . import _core
from .internal.arguments import explained
from .internal.attributes import Closed
from .internal.checks import integer, shown

__all__ = ["thread_limit"]

MOST = 1024
P = ParamSpec("P")
T = TypeVar("T")


class _Entered(threading.local):
    def __init__(self) -> None:
        self.limits: list[thread_limit] = []  # entered by this thread and not left, in this order


_entered = _Entered()


@explained
class thread_limit(Closed):
    """A context manager: within it, computations of the calling thread use at most this number of threads.

    Other threads keep their number: a limit is inherited neither by threads that the block starts, nor do those of
    other threads change this one. With a limit of 1 a computation stays in its thread. Threads with limits of their own
    share the workers of one pool, so that many models train side by side, each in its thread, without more threads than
    processors. Results are the same bits for every limit.

    Limits nest, the innermost counts. One object may be entered again, and by several threads. As a decorator
    (``@gd.thread_limit(1)``) it limits every call of a function, but not what a generator or a coroutine does later.
    Within a generator or a coroutine a block holds for its thread, also while others run there: leave it before
    ``yield`` and ``await``.

    Parameters
    ----------
    threads : int
        1 to 1024. It may exceed the number that `set_num_threads` has set.

    Raises
    ------
    TypeError, ValueError
        If `threads` is not a whole number, or out of range.
    RuntimeError
        When another thread leaves the block than the one that entered it.
    """

    __slots__ = ("_threads",)

    def __init__(self, threads: int) -> None:
        self._threads = integer(threads, "threads", minimum=1)
        if self._threads > MOST:
            raise ValueError(f"threads: got {self._threads}; expected a whole number of at most {MOST}")

    @property
    def threads(self) -> int:
        """The number of threads."""
        return self._threads

    def __enter__(self) -> Self:
        """Limit the calling thread."""
        _entered.limits.append(self)
        _core._limit_threads(self._threads)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the limit; that of the block around counts again."""
        limits = _entered.limits
        mine = [i for i, limit in enumerate(limits) if limit is self]
        if not mine:
            raise RuntimeError("thread_limit: left in a thread that did not enter it; expected the thread that did")
        del limits[mine[-1]]
        _core._limit_threads(limits[-1]._threads if limits else 0)

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        """Return a function that is the given one with this limit in each call."""
        if not callable(function):
            raise TypeError(f"function: got {shown(function)}; expected a function to limit")

        @functools.wraps(function)
        def limited(*args: P.args, **kwargs: P.kwargs) -> T:
            with self:
                return function(*args, **kwargs)

        return limited
