"""Train the cases with gdcore and one other library, in a process of their own; a line of JSON for each result.

Usage: python -m bench.gpu.steps --out FILE --with torch|jax|none --seconds BUDGET [--skip N] [--dry]

What does not fit into the budget is left out and named in the file. `--skip` passes over the first cases: those that an
earlier process, which died, has done.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .cases import DRY, RUNS, TOLERANCE, Run
from .ours import Ours

STRETCH = 0.1  # seconds of one of the five stretches that a time is the median of
CURVE_STEPS, SHORT_CURVE_STEPS = 100, 20
CPU_FLOP = 2e11  # curves are compared with the CPU's where they take no more than this
TORCH_COST, COMPILE_COST, JAX_COST = 4.0, 25.0, 10.0  # seconds to expect of one way of training


class Worker:
    """Writes results and watches the clock."""

    def __init__(self, out: Path, seconds: float, dry: bool) -> None:
        self.out, self.dry, self.end = out, dry, time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds that remain."""
        return self.end - time.monotonic()

    def write(self, run: Run, **fields: Any) -> None:
        """Append a line to the file."""
        with self.out.open("a") as file:
            file.write(json.dumps({"run": run.name, **fields}) + "\n")

    def attempt(self, run: Run, peer: str, cost: float, work: Callable[[], dict[str, Any]]) -> None:
        """Do a piece of work if there is time, and write what came of it."""
        if self.left < cost:
            self.write(run, peer=peer, dropped="no time left")
            return
        started = time.monotonic()
        try:
            fields = work()
        except Exception as error:  # one way of training that fails is no reason to lose the others
            fields = {"failed": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
        self.write(run, peer=peer, took=round(time.monotonic() - started, 2), **fields)


def difference(losses: list[float], reference: list[float]) -> float:
    """Return the largest difference of two curves, relative to the reference where that is above 0.1."""
    a, b = np.array(losses), np.array(reference)
    return float(np.max(np.abs(a - b) / np.maximum(np.abs(b), 0.1)))


def check_ours(run: Run, dry: bool) -> dict[str, Any]:
    """Compare the GPU's losses with the CPU's, and two runs with each other bit by bit."""
    ours = Ours(run, run.draw())
    steps = 8 if dry else CURVE_STEPS
    losses = ours.curve(steps)
    fields: dict[str, Any] = {"first_loss": losses[0], "last_loss": losses[-1], "steps": steps}
    if run.flop * steps <= CPU_FLOP:
        apart = difference(losses, Ours(run, run.draw(), "cpu").curve(steps))
        fields |= {"curve_difference": apart, "curve_agrees": apart <= TOLERANCE[run.precision]}
    return fields | {"repeats_bitwise": ours.bits(2) == ours.bits(2)}


def time_peer(peer: Any, run: Run, reference: list[float], seconds: float) -> dict[str, Any]:
    """Return another library's times, and whether it trains the same."""
    apart = difference(peer.curve(len(reference)), reference)
    agrees = apart <= TOLERANCE[run.precision]
    return {"curve_difference": apart, "curve_agrees": agrees, **peer.seconds_per_step(seconds)}


def train(worker: Worker, run: Run, other: str) -> None:
    """Train a case: gdcore once, then each way of the other library."""
    data = run.draw()
    seconds = 0.01 if worker.dry else STRETCH
    curve: list[float] = []

    def ours() -> dict[str, Any]:
        made = Ours(run, data)
        curve.extend(made.curve(SHORT_CURVE_STEPS))
        return made.seconds_per_step(seconds)

    if other != "jax":
        worker.attempt(run, "gdcore", 0.0, lambda: check_ours(run, worker.dry) | {"is": "check"})
        worker.attempt(run, "gdcore", 2.0, ours)
    else:
        curve.extend(Ours(run, data).curve(SHORT_CURVE_STEPS))
    if other == "torch":
        from . import torch_steps

        for variant in torch_steps.VARIANTS:
            compiles = variant in torch_steps.NEEDS_COMPILER
            if compiles and not run.compiled:
                continue
            worker.attempt(
                run,
                f"PyTorch {variant}",
                COMPILE_COST if compiles else TORCH_COST,
                lambda v=variant: time_peer(torch_steps.TorchPeer(run, data, v), run, curve, seconds),
            )
    elif other == "jax":
        from . import jax_steps

        worker.attempt(run, "JAX scan", JAX_COST, lambda: time_peer(jax_steps.JaxPeer(run, data), run, curve, seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--with", dest="other", choices=("torch", "jax", "none"), required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--dry", action="store_true")
    options = parser.parse_args()
    worker = Worker(options.out, options.seconds, options.dry)
    for run in (DRY if options.dry else RUNS)[options.skip :]:
        if worker.left < 0:
            worker.write(run, peer="all", dropped="no time left")
            continue
        worker.write(run, started=True)
        train(worker, run, options.other)


if __name__ == "__main__":
    main()
