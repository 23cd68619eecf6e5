"""gdcore on the GPU: whole epochs by `Trainer.fit`."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import gdcore as gd
import numpy as np

from bench.peers import cases
from bench.peers.cases import Data
from bench.peers.peer_gdcore import layers_of

from .cases import Run


def build(run: Run, data: Data, device: str) -> gd.Trainer:
    """Make the network with the given weights, and its trainer."""
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
    return gd.Trainer(model, loss=gd.CrossEntropy(), optimizer=gd.Adam(lr=case.rate, betas=cases.BETAS, eps=cases.EPS))


class Ours:
    """A trainer with its data."""

    def __init__(self, run: Run, data: Data, device: str = "cuda") -> None:
        self.run_, self.trainer = run, build(run, data, device)
        self.batches = len(data.x)
        self.x, self.y = data.x.reshape(-1, data.x.shape[-1]), data.y.reshape(-1)
        self.start = self.trainer.model.copy_state()

    def reset(self) -> None:
        """Go back to the initial weights."""
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

    def bits(self, epochs: int) -> bytes:
        """Train from the start and return everything that was learnt, as it is saved."""
        self.reset()
        self.fit(epochs, shuffle=False)  # the order would be another one in every epoch of a trainer's life
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.safetensors"
            self.trainer.model.save(path)
            return path.read_bytes()

    def fit(self, epochs: int, shuffle: bool = True) -> float:
        """Train, and return the seconds of the whole call."""
        started = time.perf_counter()
        self.trainer.fit(self.x, self.y, epochs=epochs, batch_size=self.run_.case.batch, shuffle=shuffle)
        return time.perf_counter() - started

    def seconds_per_step(self, seconds: float) -> dict[str, float]:
        """Return the time of a step in the long run, and that of a whole call with what belongs to its beginning."""
        self.reset()
        self.fit(1)
        short = self.fit(1)
        epochs = max(2, 1 + round(seconds / max(self.fit(2) - short, 1e-5)))
        shorts, longs = [], []
        for _ in range(5):
            self.reset()
            shorts.append(self.fit(1))
            longs.append(self.fit(1 + epochs))
        each = [(b - a) / (epochs * self.batches) for a, b in zip(shorts, longs, strict=True)]
        whole = float(np.median(longs)) / ((1 + epochs) * self.batches)
        return {"step": float(np.median(each)), "spread": float(np.ptp(each)), "call": whole}
