"""gdcore on the GPU: whole epochs by `Trainer.fit`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import gdcore as gd
import numpy as np

from bench.peers import cases
from bench.peers.cases import Data
from bench.peers.peer_gdcore import layers_of

from .cases import Run

STRETCHES = 5
RECORDED_STEPS = 32  # most steps of one launch
MOST_EPOCHS = 100_000


def build(run: Run, data: Data, device: str, rate: float | None = None) -> gd.Trainer:
    """Make a trainer of the network with the given weights; `rate` replaces the case's learning rate."""
    case = run.case
    layers = layers_of(case)
    host = gd.Sequential(*layers, seed=0, device="cpu")
    parameters = host.parameters()
    weights = [name for name in parameters if name.endswith(".weight") and parameters[name].ndim == 2]
    for name, weight in zip(weights, data.weights, strict=True):
        parameters[name][...] = weight
    precision: dict[str, Any] = {} if device == "cpu" else {"precision": run.precision}
    model = gd.Sequential(*layers, seed=0, device=device, **precision)
    model.restore_state(host.copy_state())
    optimizer = gd.Adam(lr=rate or case.rate, betas=cases.BETAS, eps=cases.EPS)
    return gd.Trainer(model, loss=gd.CrossEntropy(), optimizer=optimizer)


class Stretches:
    """A callback that records the ends of epochs and stops the fit `seconds` after its first epoch."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.ends = seconds, list[float]()

    def on_epoch_end(self, trainer: gd.Trainer, logs: dict[str, float]) -> None:
        self.ends.append(time.perf_counter())
        trainer.stop = len(self.ends) > STRETCHES and self.ends[-1] - self.ends[0] > self.seconds


class Ours:
    """A trainer with its data."""

    def __init__(self, run: Run, data: Data, device: str = "cuda", rate: float | None = None) -> None:
        self.run_, self.trainer = run, build(run, data, device, rate)
        self.batches = len(data.x)
        self.x, self.y = data.x.reshape(-1, data.x.shape[-1]), data.y.reshape(-1)
        self.start = self.trainer.model.copy_state()

    def reset(self) -> None:
        """Restore the initial weights."""
        self.trainer.model.restore_state(self.start)
        self.trainer.core.reset()

    def curve(self, steps: int) -> list[float]:
        """Return the losses of the first steps, in the order of the data."""
        self.reset()
        size = self.run_.case.batch
        losses: list[float] = []
        for step in range(steps):
            first = step % self.batches * size
            losses.append(self.trainer.step(self.x[first : first + size], self.y[first : first + size]))
        return losses

    def recorded_curve(self, steps: int) -> list[float]:
        """Return the mean losses of short epochs of `fit`, with recorded steps; at least the given number of steps."""
        self.reset()
        batches = min(self.batches, RECORDED_STEPS)
        before = self.trainer.epoch
        self.fit(-(-steps // batches), batches, shuffle=False)
        return [float(loss) for loss in self.trainer.history["loss"][before:]]

    def bits(self, epochs: int) -> bytes:
        """Train from the initial weights and return the bytes of parameters and buffers."""
        self.reset()
        self.fit(epochs, shuffle=False)  # with shuffling, a trainer has a new order in each epoch
        state = self.trainer.model.copy_state()
        return np.asarray(state["parameters"]).tobytes() + np.asarray(state["buffers"]).tobytes()

    def fit(
        self, epochs: int, batches: int | None = None, shuffle: bool = True, callbacks: Sequence[object] = ()
    ) -> float:
        """Train on the first batches or all of them; return the seconds of the whole call."""
        size = self.run_.case.batch
        rows = size * (self.batches if batches is None else batches)
        x, y = self.x[:rows], self.y[:rows]
        started = time.perf_counter()
        self.trainer.fit(x, y, epochs=epochs, batch_size=size, shuffle=shuffle, callbacks=callbacks)
        return time.perf_counter() - started

    def seconds_per_step(self, seconds: float) -> dict[str, float]:
        """Return the time of a step in a long call of `fit`, and the time from its start to the end of an epoch.

        A measurement lasts from the end of an epoch to the end of a later one. So the checks and the copy of the data
        at the start of the call do not count, but every part of an epoch does.
        """
        self.reset()
        stretches = Stretches(STRETCHES * seconds)
        whole = self.fit(MOST_EPOCHS, callbacks=[stretches])
        at = np.linspace(0, len(stretches.ends) - 1, STRETCHES + 1).astype(int)
        each = np.diff(np.array(stretches.ends)[at]) / (np.diff(at) * self.batches)
        beginning = whole - (stretches.ends[-1] - stretches.ends[0])
        return {"step": float(np.median(each)), "spread": float(np.ptp(each)), "beginning": beginning}
