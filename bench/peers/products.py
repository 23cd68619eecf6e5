"""The matrix products of dense layers: gdcore, PyTorch and NumPy's BLAS in one process, in turn, on the same arrays.

    python -m bench.peers.products --threads 1 --cpus 2

prints for each shape and product the GFLOP/s of each library and how many times as fast gdcore is as the best other.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import time
from collections.abc import Callable

import numpy as np

from .machine import describe

# Rows of a batch, inputs and outputs of a layer: of the networks of the benches, and of wider ones.
SHAPES = (
    (32, 64, 32),
    (64, 784, 128),
    (128, 30, 128),
    (128, 128, 128),
    (256, 54, 256),
    (256, 256, 256),
    (128, 784, 512),
    (128, 512, 512),
    (512, 100, 1024),
    (1024, 784, 100),
    (1024, 1024, 1024),
    (512, 2048, 1024),
)
KINDS = ("forward", "weights' gradient", "inputs' gradient")
Products = dict[str, Callable[[], object]]


def products(rows: int, inputs: int, outputs: int) -> dict[str, Products]:
    """Return each library's three products of one layer; they write to arrays of their own."""
    import gdcore as gd
    import torch

    ops = gd._core.ops
    rng = np.random.default_rng(0)
    x, weight, bias, dy = (
        rng.standard_normal(shape, dtype=np.float32)
        for shape in ((rows, inputs), (outputs, inputs), outputs, (rows, outputs))
    )
    y, dweight, dx = (np.empty_like(like) for like in (dy, weight, x))
    tx, tw, tb, tdy = (torch.from_numpy(array) for array in (x, weight, bias, dy))
    ty, tdw, tdx = (torch.empty_like(like) for like in (tdy, tw, tx))
    found: dict[str, Products] = {
        "gdcore": {
            "forward": lambda: ops.dense_forward(x, weight, bias, None, y, None),
            "weights' gradient": lambda: ops.dense_backward(x, weight, None, None, dy, None, dweight, None),
            "inputs' gradient": lambda: ops.dense_backward(x, weight, None, None, dy, dx, None, None),
        },
        "PyTorch": {
            "forward": lambda: torch.addmm(tb, tx, tw.t(), out=ty),
            "weights' gradient": lambda: torch.mm(tdy.t(), tx, out=tdw),
            "inputs' gradient": lambda: torch.mm(tdy, tw, out=tdx),
        },
        "BLAS": {
            "forward": lambda: np.add(np.dot(x, weight.T, out=y), bias, out=y),
            "weights' gradient": lambda: np.dot(dy.T, x, out=dweight),
            "inputs' gradient": lambda: np.dot(dy, weight, out=dx),
        },
    }
    for kind, ours, theirs in (("forward", y, ty), (KINDS[1], dweight, tdw), (KINDS[2], dx, tdx)):
        found["gdcore"][kind]()
        found["PyTorch"][kind]()
        if not np.allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-3):
            raise RuntimeError(f"{kind} of {rows} x {inputs} x {outputs}: gdcore and PyTorch differ")
    return found


def measure(found: dict[str, Products], kind: str, seconds: float, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of one product in each round, for each library."""
    times: dict[str, list[float]] = {name: [] for name in found}
    calls = {}
    for name, of in found.items():
        start = time.perf_counter()
        of[kind]()
        calls[name] = max(1, int(seconds / max(time.perf_counter() - start, 1e-6)))
    for turn in range(rounds):
        names = list(found)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            run = found[name][kind]
            start = time.perf_counter()
            for _ in range(calls[name]):
                run()
            times[name].append((time.perf_counter() - start) / calls[name])
    return times


def main() -> None:
    """Measure all shapes and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cpus", default="0", help="processors, as in 2,3")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.02, help="length of a library's timing in a round")
    options = parser.parse_args()
    cpus = tuple(int(cpu) for cpu in options.cpus.split(","))
    os.sched_setaffinity(0, cpus)
    import gdcore as gd
    import threadpoolctl
    import torch

    gd.set_num_threads(options.threads)
    torch.set_num_threads(options.threads)
    threadpoolctl.threadpool_limits(options.threads)
    libraries = [f"{p['internal_api']} {p['version']} ({p['num_threads']})" for p in threadpoolctl.threadpool_info()]
    print(describe(options.threads, cpus), "; ".join(libraries))
    print("| rows, inputs, outputs | product | gdcore | PyTorch | BLAS | times as fast as the best other |")
    print("|---|---|---|---|---|---|")
    ratios = []
    for rows, inputs, outputs in SHAPES:
        found = products(rows, inputs, outputs)
        for kind in KINDS:
            times = measure(found, kind, options.seconds, options.rounds)
            rates = {n: 2e-9 * rows * inputs * outputs / statistics.median(t) for n, t in times.items()}
            of_rounds = [min(others) / ours for ours, *others in zip(*times.values(), strict=True)]
            ratios.append(statistics.median(of_rounds))
            cells = " | ".join(f"{rate:.0f}" for rate in rates.values())
            print(f"| {rows}, {inputs}, {outputs} | {kind} | {cells} | {ratios[-1]:.2f} |", flush=True)
    mean = math.exp(statistics.fmean(math.log(ratio) for ratio in ratios))
    print(f"\nGFLOP/s. Geometric mean of the ratios {mean:.2f}, least {min(ratios):.2f}.")


if __name__ == "__main__":
    main()
