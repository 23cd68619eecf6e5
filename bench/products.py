"""``python -m bench.products``: matrix products of dense layers by gdcore, PyTorch and NumPy's BLAS.

All run in one process, in turn, on the same arrays. The table has the GFLOP/s of each, and how many times as fast
gdcore is as the best other: the median over the rounds.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import time
from collections.abc import Callable

import numpy as np

from .peers import cores, machine

# Rows of a batch, inputs and outputs of a layer: of the networks of the benches, and of wider ones.
SHAPES = "32,64,32 64,784,128 128,30,128 128,128,128 256,54,256 256,256,256 128,784,512 128,512,512 512,100,1024 \
1024,784,100 1024,1024,1024 512,2048,1024"
PATIENCE = 30.0  # seconds in which rounds wait for a core for each processor
KINDS = ("forward", "weights' gradient", "inputs' gradient")
Calls = tuple[Callable[[], object], ...]


def calls(rows: int, inputs: int, outputs: int) -> dict[str, Calls]:
    """Return each library's products of one layer, in the order of KINDS. They write to arrays of their own."""
    import gdcore as gd

    ops, rng = gd._core.ops, np.random.default_rng(0)
    x, weight, bias, dy = (
        rng.standard_normal(shape, dtype=np.float32)
        for shape in ((rows, inputs), (outputs, inputs), outputs, (rows, outputs))
    )
    y, dweight, dx = (np.empty_like(like) for like in (dy, weight, x))
    y2, dweight2, dx2 = (np.empty_like(like) for like in (dy, weight, x))
    found: dict[str, Calls] = {
        "gdcore": (
            lambda: ops.dense_forward(x, weight, bias, None, y, None),
            lambda: ops.dense_backward(x, weight, None, None, dy, None, dweight, None),
            lambda: ops.dense_backward(x, weight, None, None, dy, dx, None, None),
        ),
        "BLAS": (
            lambda: np.add(np.dot(x, weight.T, out=y2), bias, out=y2),
            lambda: np.dot(dy.T, x, out=dweight2),
            lambda: np.dot(dy, weight, out=dx2),
        ),
    }
    for kind, ours, theirs in zip(KINDS, (y, dweight, dx), (y2, dweight2, dx2), strict=True):
        for products in found.values():
            products[KINDS.index(kind)]()
        if not np.allclose(ours, theirs, rtol=1e-4, atol=1e-3):
            raise RuntimeError(f"{kind} of {rows}, {inputs}, {outputs}: gdcore and BLAS differ")
    if importlib.util.find_spec("torch") is not None:
        import torch

        tx, tw, tb, tdy = (torch.from_numpy(array) for array in (x, weight, bias, dy))
        ty, tdw, tdx = (torch.empty_like(like) for like in (tdy, tw, tx))
        found["PyTorch"] = (
            lambda: torch.addmm(tb, tx, tw.t(), out=ty),
            lambda: torch.mm(tdy.t(), tx, out=tdw),
            lambda: torch.mm(tdy, tw, out=tdx),
        )
    return found


def settle() -> None:
    """Wait until no thread of this process computes: those of some libraries spin after their work, for up to 0.2 s."""
    pause, end = 0.01, time.monotonic() + 2.0
    while time.monotonic() < end:
        before = time.process_time()
        time.sleep(pause)
        if time.process_time() - before < 0.05 * pause:
            return


def measure(
    products: dict[str, Callable[[], object]], seconds: float, rounds: int, cpus: list[int]
) -> dict[str, list[float]]:
    """Return the seconds of one product in each round, for each library; the order changes with the round.

    A round begins when the processors have a core each, if they do in time.
    """
    times: dict[str, list[float]] = {name: [] for name in products}
    counts = {}
    for name, run in products.items():
        start = time.perf_counter()
        run()
        counts[name] = max(1, int(seconds / max(time.perf_counter() - start, 1e-6)))
    names, until = list(products), time.monotonic() + PATIENCE
    for turn in range(rounds):
        cores.wait_for_cores(cpus, until)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            settle()
            products[name]()  # wakes the library's threads
            start = time.perf_counter()
            for _ in range(counts[name]):
                products[name]()
            times[name].append((time.perf_counter() - start) / counts[name])
    return times


def set_threads(threads: int) -> str:
    """Give each library that many threads; return their names and numbers of threads as threadpoolctl finds them."""
    import gdcore as gd

    gd.set_num_threads(threads)
    if importlib.util.find_spec("torch") is not None:
        import torch

        torch.set_num_threads(threads)
    if importlib.util.find_spec("threadpoolctl") is None:
        return "threadpoolctl is missing: the threads of BLAS are those of its own setting"
    import threadpoolctl

    threadpoolctl.threadpool_limits(threads)
    return "; ".join(f"{p['internal_api']}: {p['num_threads']} threads" for p in threadpoolctl.threadpool_info())


def main(argv: list[str] | None = None) -> int:
    """Measure all shapes and print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.products", description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cpus", help="processors, as 2,3; default: those of this process")
    parser.add_argument("--shapes", default=SHAPES, help="rows,inputs,outputs, separated by blanks")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.02, help="length of a library's timing in a round")
    options = parser.parse_args(argv)
    if options.cpus:
        os.sched_setaffinity(0, {int(cpu) for cpu in options.cpus.split(",")})
    said = set_threads(options.threads)
    cpus = sorted(os.sched_getaffinity(0))[: options.threads]
    print(machine.describe(options.threads, tuple(cpus)), said)
    ratios = []
    for shape in options.shapes.split():
        rows, inputs, outputs = (int(part) for part in shape.split(","))
        found = calls(rows, inputs, outputs)
        if not ratios:
            print(f"| rows, inputs, outputs | product | {' | '.join(found)} | times as fast as the best other |")
            print("|---" * (len(found) + 3) + "|")
        for number, kind in enumerate(KINDS):
            times = measure({name: of[number] for name, of in found.items()}, options.seconds, options.rounds, cpus)
            ratios.append(statistics.median(min(others) / ours for ours, *others in zip(*times.values(), strict=True)))
            rates = (2e-9 * rows * inputs * outputs / statistics.median(of) for of in times.values())
            cells = " | ".join(f"{rate:.0f}" for rate in rates)
            print(f"| {shape.replace(',', ', ')} | {kind} | {cells} | {ratios[-1]:.2f} |", flush=True)
    print(f"\nGFLOP/s. Geometric mean of the ratios {statistics.geometric_mean(ratios):.2f}, least {min(ratios):.2f}.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
