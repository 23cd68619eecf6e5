"""Whether processors have a core each: a virtual machine's may share one for seconds, at half the speed of each.

The system counts no stolen time then, as both processors do run. What shows it is that work on all processors at once
takes twice as long as on one of them.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence

import numpy as np

LIMIT = 1.4  # times as long at once as alone; a shared core gives about 2
PAUSE = 0.3  # seconds between two looks


def seconds_of_work(cpus: Sequence[int]) -> float:
    """Return the longest time that equal work on each of the processors takes at once: a few ms of square roots."""
    ready = threading.Barrier(len(cpus))
    took: list[float] = []

    def work(cpu: int) -> None:
        os.sched_setaffinity(threading.get_native_id(), {cpu})
        numbers = np.linspace(1.0, 2.0, 1 << 14)
        roots = np.empty_like(numbers)
        ready.wait()
        started = time.perf_counter()
        for _ in range(100):  # each releases the interpreter's lock
            np.sqrt(numbers, out=roots)
        took.append(time.perf_counter() - started)

    threads = [threading.Thread(target=work, args=(cpu,)) for cpu in cpus]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return max(took)


def share_cores(cpus: Sequence[int]) -> bool:
    """Return whether the processors are slower at once than alone, at the moment."""
    if len(cpus) < 2:
        return False
    alone = max(seconds_of_work([cpu]) for cpu in cpus)
    return seconds_of_work(cpus) > LIMIT * alone


def wait_for_cores(cpus: Sequence[int], until: float) -> bool:
    """Wait until the processors have a core each, at most until this time of `time.monotonic`; return whether."""
    while share_cores(cpus):
        if time.monotonic() >= until:
            return False
        time.sleep(PAUSE)
    return True
