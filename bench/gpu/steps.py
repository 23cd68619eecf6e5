"""Train the cases in one pass, in a separate process; write a line of JSON for each result.

Usage: python -m bench.gpu.steps --out FILE --with none|torch|compiled|jax|tuned-jax --seconds BUDGET [--skip N] [--dry]

`none` and `torch` check and time gdcore; `torch` also times PyTorch. `compiled` times PyTorch's compiled variants,
which take long to compile, one variant after the other. Tasks that do not fit into the budget are dropped and listed in
the file. `--skip` skips the first tasks, done by an earlier process that died.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .cases import DRY, RUNS, TOLERANCE, Run
from .ours import Ours

STRETCH = 0.1  # seconds of a measurement; a time is the median of five
CURVE_STEPS, SHORT_CURVE_STEPS = 100, 20
CPU_FLOP = 2e11  # curves are compared with the CPU's up to this amount of work
JAX_PASSES = {"jax": "scan", "tuned-jax": "scan with tuned flags"}  # flags are set for the whole process
# Expected seconds of one variant of a case.
COSTS = {"none": 0.0, "torch": 4.0, "compiled": 25.0, "jax": 10.0, "tuned-jax": 10.0}
# Allowed difference of float32 curves of the GPU and the CPU, per step (tests/device/test_device_agreement.py). At this
# learning rate float32 and float64 on the CPU differ by less than half of it. At 1e-3 two libraries on one CPU differ
# by 1e-2 after 100 steps: Adam's steps have full size even where gradients are only rounding errors.
ROUNDING, CHECK_RATE = 2e-6, 1e-4


class Worker:
    """Writes results and limits the time."""

    def __init__(self, out: Path, seconds: float, dry: bool) -> None:
        self.out, self.dry, self.end = out, dry, time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Remaining seconds."""
        return self.end - time.monotonic()

    def write(self, run: Run, **fields: Any) -> None:
        """Append a line to the file."""
        with self.out.open("a") as file:
            file.write(json.dumps({"run": run.name, **fields}) + "\n")

    def attempt(self, run: Run, peer: str, cost: float, work: Callable[[], dict[str, Any]]) -> None:
        """Do a piece of work if there is time, and write its result."""
        if self.left < cost:
            self.write(run, peer=peer, dropped="no time left")
            return
        started = time.monotonic()
        try:
            fields = work()
        except Exception as error:  # a failing variant must not stop the others
            fields = {"failed": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
        self.write(run, peer=peer, took=round(time.monotonic() - started, 2), **fields)


def difference(losses: list[float], reference: list[float]) -> float:
    """Return the largest difference of two curves, relative to the reference, or to 0.1 where that is larger."""
    a, b = np.array(losses), np.array(reference)
    return float(np.max(np.abs(a - b) / np.maximum(np.abs(b), 0.1)))


def check_ours(run: Run, dry: bool) -> dict[str, Any]:
    """Compare the GPU's losses with the CPU's, for single and recorded steps, and the bits of two runs."""
    steps = 8 if dry else CURVE_STEPS

    def curves(device: str) -> list[float]:
        trainer = Ours(run, run.draw(), device, CHECK_RATE)
        return trainer.curve(steps) + trainer.recorded_curve(steps)

    fields: dict[str, Any] = {}
    if 2 * run.flop * steps <= CPU_FLOP:
        losses = curves("cuda")
        apart = difference(losses, curves("cpu"))
        most = ROUNDING * CURVE_STEPS if run.precision == "float32" else TOLERANCE[run.precision]
        fields = {"first_loss": losses[0], "last_loss": losses[steps - 1], "steps": steps}
        fields |= {"curve_difference": apart, "curve_agrees": apart <= most}
    ours = Ours(run, run.draw())
    return fields | {"repeats_bitwise": ours.bits(2) == ours.bits(2)}


def time_peer(
    make: Callable[[], Any], run: Run, reference: Callable[[], list[float]], seconds: float
) -> dict[str, Any]:
    """Return another library's times, and the difference of its losses from gdcore's."""
    peer, losses = make(), reference()
    apart = difference(peer.curve(len(losses)), losses)
    agrees = apart <= TOLERANCE[run.precision]
    return {"curve_difference": apart, "curve_agrees": agrees, **peer.seconds_per_step(seconds)}


def tasks_of(other: str, runs: Sequence[Run]) -> list[tuple[Run, Sequence[str]]]:
    """Return the tasks of a pass in order: a case, and the other library's variants for it."""
    if other == "none":
        return [(run, ()) for run in runs]
    if other in JAX_PASSES:
        return [(run, (JAX_PASSES[other],)) for run in runs]
    from . import torch_steps

    if other == "torch":
        return [(run, torch_steps.VARIANTS) for run in runs]
    return [(run, (variant,)) for variant in torch_steps.COMPILED for run in runs if run.compiled]


def make_peer(other: str, run: Run, variant: str) -> Any:
    """Prepare a variant of another library for a case."""
    if other in JAX_PASSES:
        from . import jax_steps

        return jax_steps.JaxPeer(run, run.draw())
    from . import torch_steps

    return torch_steps.TorchPeer(run, run.draw(), variant)


def train(worker: Worker, run: Run, other: str, variants: Sequence[str]) -> None:
    """Train a case: gdcore, if this pass times it, then the other library's variants."""
    seconds = 0.01 if worker.dry else STRETCH
    curve: list[float] = []

    def reference() -> list[float]:
        if not curve:
            curve.extend(Ours(run, run.draw()).curve(SHORT_CURVE_STEPS))
        return curve

    if other in ("none", "torch"):
        worker.attempt(run, "gdcore", 0.0, lambda: check_ours(run, worker.dry) | {"is": "check"})
        worker.attempt(run, "gdcore", 2.0, lambda: Ours(run, run.draw()).seconds_per_step(seconds))
    for variant in variants:
        peer = f"{'JAX' if other in JAX_PASSES else 'PyTorch'} {variant}"
        work = partial(time_peer, partial(make_peer, other, run, variant), run, reference, seconds)
        worker.attempt(run, peer, COSTS[other], work)
    if other in ("torch", "compiled"):
        from . import torch_steps

        torch_steps.free()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--with", dest="other", choices=tuple(COSTS), required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--dry", action="store_true")
    options = parser.parse_args()
    worker = Worker(options.out, options.seconds, options.dry)
    for run, variants in tasks_of(options.other, DRY if options.dry else RUNS)[options.skip :]:
        if worker.left < 0:
            worker.write(run, peer=options.other, dropped="no time left")
            continue
        worker.write(run, started=True)
        train(worker, run, options.other, variants)


if __name__ == "__main__":
    main()
