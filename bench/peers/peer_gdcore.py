"""gdcore: `Trainer.step` called from Python for each batch, whole epochs by `Trainer.fit`, and predictions."""

from __future__ import annotations

import platform
import time
from itertools import cycle, islice
from typing import Any

import gdcore as gd
import numpy as np

from . import cases
from .registry import Calls

FIT_BYTES, FIT_STEPS = 16 << 20, 2048  # most bytes of rows and most steps in an epoch of `fit`


def layers_of(case: cases.Case) -> list[Any]:
    """Return the layers of a case."""
    layers: list[Any] = []
    for i, (inputs, outputs) in enumerate(zip(case.widths[:-1], case.widths[1:], strict=True)):
        layers.append(gd.Dense(inputs, outputs))
        if i < case.hidden:
            if case.norm == "batch":
                layers.append(gd.BatchNorm(outputs, cases.NORM_DECAY, eps=cases.NORM_EPS))
            elif case.norm == "layer":
                layers.append(gd.LayerNorm(outputs, cases.NORM_EPS))
            layers.append(gd.ReLU())
    return layers


def build(case: cases.Case, data: cases.Data) -> gd.Trainer:
    """Make a trainer of the network with the given weights."""
    model = gd.Sequential(*layers_of(case), seed=0)
    parameters = model.parameters()
    weights = [name for name in parameters if name.endswith(".weight")]
    for name, weight, bias in zip(weights, data.weights, data.biases, strict=True):
        parameters[name][...] = weight
        parameters[name.removesuffix("weight") + "bias"][...] = bias
    loss = gd.MeanSquaredError() if case.loss == "mse" else gd.CrossEntropy()
    optimizer = gd.Adam(lr=case.rate, betas=cases.BETAS, eps=cases.EPS)
    return gd.Trainer(model, loss=loss, optimizer=optimizer)


class StepPeer:
    """A loop in Python around `Trainer.step`, which returns each batch's loss."""

    def __init__(self, threads: int) -> None:
        gd.set_num_threads(threads)

    def versions(self) -> dict[str, str]:
        info = gd._core.info()
        return {
            "gdcore": gd.__version__,
            "instruction set": str(info["instruction_set"]),
            "numpy": np.__version__,
            "python": platform.python_version(),
        }

    def prepare(self, case: dict[str, Any], data: str, variant: str | None = None) -> dict[str, Any]:
        self.case = cases.Case.from_json(case)
        numbers = cases.load(data)
        self.trainer = build(self.case, numbers)
        self.batches = list(zip(numbers.x, numbers.y, strict=True))
        self.start = self.trainer.model.copy_state()
        return {"variant": "step"}

    def reset(self) -> None:
        """Restore the initial weights."""
        self.trainer.model.restore_state(self.start)
        self.trainer.core.reset()

    def curve(self, steps: int) -> list[float]:
        self.reset()
        return [self.trainer.step(x, y) for x, y in islice(cycle(self.batches), steps)]

    def run(self, steps: int) -> dict[str, float]:
        self.reset()
        self.trainer.step(*self.batches[0])
        step = self.trainer.step
        batches = list(islice(cycle(self.batches), steps))
        started = time.perf_counter()
        for x, y in batches:
            step(x, y)
        return {"seconds": time.perf_counter() - started, "steps": steps}


class PredictPeer(Calls, StepPeer):
    """`Sequential.predict`."""

    def prepare(self, case: dict[str, Any], data: str, variant: str | None = None) -> dict[str, Any]:
        super().prepare(case, data)
        self.predict, self.batches = self.trainer.model.predict, [x for x, _ in self.batches]
        return {"variant": "predict"}


class FitPeer(StepPeer):
    """Whole calls of `Trainer.fit`, including checks of the data, shuffling and gathering of rows."""

    def curve(self, steps: int) -> list[float]:
        """Train each batch in a separate call, whose history has the batch's loss."""
        self.reset()
        losses = []
        for x, y in islice(cycle(self.batches), steps):
            history = self.trainer.fit(x, y, epochs=1, batch_size=None, shuffle=False)
            losses.append(float(history["loss"][-1]))
        return losses

    def run(self, steps: int) -> dict[str, float]:
        repeats, epochs = self._epochs(steps)
        x = np.concatenate([x for x, _ in self.batches] * repeats)
        y = np.concatenate([y for _, y in self.batches] * repeats)
        self.reset()
        self.trainer.step(*self.batches[0])
        started = time.perf_counter()
        self.trainer.fit(x, y, epochs=epochs, batch_size=self.case.batch)
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "steps": epochs * repeats * len(self.batches)}

    def _epochs(self, steps: int) -> tuple[int, int]:
        """Return the repetitions of the batches in an epoch, and the number of epochs for the steps."""
        count, size = len(self.batches), self.batches[0][0].nbytes
        most = max(1, min(FIT_STEPS, FIT_BYTES // size) // count)
        repeats = min(most, -(-steps // count))
        return repeats, -(-steps // (count * repeats))
