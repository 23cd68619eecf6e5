"""The machine's limits, measured through PyTorch, and the times of PyTorch's own kernels; JSON on standard output."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .torch_steps import versions


def seconds_of(work: Callable[[], Any], stretch: float = 0.05) -> float:
    """Return the device's time of one call, the median of five measurements."""
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def run(times: int) -> float:
        torch.cuda.synchronize()
        first.record()
        for _ in range(times):
            work()
        last.record()
        torch.cuda.synchronize()
        return first.elapsed_time(last) * 1e-3

    run(3)
    times = max(1, min(1000, round(stretch / max(run(1), 1e-6))))
    return statistics.median(run(times) / times for _ in range(5))


def copy_rate() -> float:
    """Return bytes per second of a copy within the device, read and written, 1 GiB each."""
    source = torch.randn(1 << 28, device="cuda")
    target = torch.empty_like(source)
    return 2 * 4 * source.numel() / seconds_of(lambda: target.copy_(source))


def product_rate(size: int, precision: str) -> float:
    """Return floating-point operations per second of a square product of random matrices."""
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    a, b = (torch.randn(size, size, device="cuda", dtype=dtype) for _ in range(2))
    return 2.0 * size**3 / seconds_of(lambda: torch.mm(a, b))


def node_seconds(nodes: int = 512) -> float:
    """Return the time of a kernel of one thread that only reads the clock, in a graph launched repeatedly."""
    torch.cuda._sleep(0)  # PyTorch's closest to an empty kernel; loaded before the capture
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(nodes):
            torch.cuda._sleep(0)
    return seconds_of(graph.replay) / nodes


def norm_times(rows: int, cols: int, compiled: bool) -> dict[str, float]:
    """Return seconds of PyTorch's norms, with the names of kernels.cpp; compiled if that is faster."""
    x, dy = (torch.randn(rows, cols, device="cuda") for _ in range(2))
    gamma, beta = torch.ones(cols, device="cuda"), torch.zeros(cols, device="cuda")
    everything = [True, True, True]
    _, mean, rstd = torch.native_layer_norm(x, (cols,), gamma, beta, 1e-5)
    by_row = (dy, x, (cols,), mean, rstd, gamma, beta, everything)
    _, mean, rstd = torch.native_batch_norm(x, gamma, beta, None, None, True, 0.1, 1e-5)
    by_column = (dy, x, gamma, None, None, mean, rstd, True, 1e-5, everything)
    calls: dict[str, Callable[[], Any]] = {
        "layer-norm/forward": lambda: torch.layer_norm(x, (cols,), gamma, beta),
        "layer-norm/backward": lambda: torch.ops.aten.native_layer_norm_backward(*by_row),
        "batch-norm/forward": lambda: functional.batch_norm(x, None, None, gamma, beta, training=True),
        "batch-norm/backward": lambda: torch.ops.aten.native_batch_norm_backward(*by_column),
    }
    times = {f"{name}/{rows}x{cols}": seconds_of(call) for name, call in calls.items()}
    if compiled:
        for name, call in calls.items():
            place = f"{name}/{rows}x{cols}"
            times[place] = min(times[place], seconds_of(torch.compile(call)))
    return times


def loss_seconds(rows: int, classes: int) -> float:
    """Return seconds of PyTorch's cross-entropy and its gradient."""
    logits = torch.randn(rows, classes, device="cuda", requires_grad=True)
    labels = torch.randint(classes, (rows,), device="cuda")

    def both() -> None:
        functional.cross_entropy(logits, labels).backward()
        logits.grad = None

    return seconds_of(both)


# Fused if PyTorch has a fused version.
OPTIMIZERS: dict[str, Callable[[list[Tensor]], torch.optim.Optimizer]] = {
    "Adam": lambda flat: torch.optim.Adam(flat, 1e-6, fused=True),
    "SGD": lambda flat: torch.optim.SGD(flat, 1e-6, fused=True),
    "Momentum": lambda flat: torch.optim.SGD(flat, 1e-6, momentum=0.9, fused=True),
    "AdaGrad": lambda flat: torch.optim.Adagrad(flat, 1e-6, foreach=True),
    "RMSProp": lambda flat: torch.optim.RMSprop(flat, 1e-6, foreach=True),
}


def optimizer_seconds(name: str, size: int) -> float:
    """Return seconds of a step of one of PyTorch's optimisers over one flat tensor."""
    flat = torch.nn.Parameter(torch.randn(size, device="cuda"))
    flat.grad = torch.randn_like(flat)
    return seconds_of(OPTIMIZERS[name]([flat]).step)


def kernel_times() -> dict[str, float]:
    """Return seconds of PyTorch's kernels for the operations of kernels.cpp, with the same names."""
    times: dict[str, float] = {}
    for cols in (1024, 256, 4096):
        times |= norm_times((64 << 20) // cols, cols, compiled=cols == 1024)  # compiling takes seconds each time
    for classes in (10, 100, 1000):
        rows = 100_000_000 // classes
        times[f"cross-entropy/{rows}x{classes}"] = loss_seconds(rows, classes)
    for name in OPTIMIZERS:
        times[f"optimizer/{name}/100000000"] = optimizer_seconds(name, 100_000_000)
    return times


def main() -> None:
    started = time.monotonic()
    found: dict[str, Any] = {"about": versions(), "copy": copy_rate(), "node": node_seconds()}
    found["products"] = {
        f"{precision} {size}": product_rate(size, precision)
        for size in (8192, 1024)
        for precision in ("float32", "tf32", "bfloat16")
    }
    found["kernels"] = kernel_times()
    found["took"] = time.monotonic() - started
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
