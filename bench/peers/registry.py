"""The list of peers, and the interface of a peer."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, Protocol


class Peer(Protocol):
    """A library that trains the cases. Constructed with the number of threads; raises ImportError if missing."""

    def versions(self) -> dict[str, str]:
        """Return the versions of its packages."""

    def prepare(self, case: dict[str, Any], data: str, variant: str | None = None) -> dict[str, Any]:
        """Build a case (`Case.to_json`) from the arrays in a file.

        With several variants, use the given one, or else the fastest. Return {"variant": name,
        "variants": {name: microseconds}}, or {"unsupported": why}.
        """

    def curve(self, steps: int) -> list[float]:
        """Train from the initial weights; return the loss of each step, or the first numbers of a prediction."""

    def run(self, steps: int) -> dict[str, float]:
        """Restore the start, train at least the given steps, and return {"seconds": ..., "steps": ...}."""


@dataclass(frozen=True)
class Entry:
    """Module, distribution and display name of a peer."""

    target: str  # "module:Class"
    label: str
    distribution: str = ""  # name for pip


PEERS = {
    "gdcore": Entry("bench.peers.peer_gdcore:StepPeer", "gdcore", "gdcore"),
    "gdcore-fit": Entry("bench.peers.peer_gdcore:FitPeer", "gdcore fit"),
    "gdcore-predict": Entry("bench.peers.peer_gdcore:PredictPeer", "gdcore predict"),
    "onnxruntime": Entry("bench.peers.peer_onnxruntime:PredictPeer", "onnxruntime", "onnxruntime"),
    "torch-predict": Entry("bench.peers.peer_torch:PredictPeer", "PyTorch predict", "torch"),
    "sklearn-predict": Entry("bench.peers.peer_sklearn:PredictPeer", "scikit-learn predict", "scikit-learn"),
    "torch": Entry("bench.peers.peer_torch:EagerPeer", "PyTorch", "torch"),
    "torch.compile": Entry("bench.peers.peer_torch:CompiledPeer", "torch.compile", "torch"),
    "jax": Entry("bench.peers.peer_jax:StepPeer", "JAX", "jax"),
    "jax-scan": Entry("bench.peers.peer_jax:ScanPeer", "JAX scan", "jax"),
    "sklearn": Entry("bench.peers.peer_sklearn:SklearnPeer", "scikit-learn", "scikit-learn"),
}
REFERENCE = "gdcore"
# Peers that get all batches in advance and are called once for many steps are compared only with each other: a loop in
# Python over single batches, with access to each loss, is a different way of training.
WHOLE_REFERENCE = "gdcore-fit"
WHOLE = (WHOLE_REFERENCE, "jax-scan", "sklearn")
OURS = (REFERENCE, WHOLE_REFERENCE)
# Peers that predict are compared only with each other (bench.predictions), and with another gdcore (bench.guard).
PREDICTION = "gdcore-predict"
PREDICTIONS = (PREDICTION, "onnxruntime", "torch-predict", "sklearn-predict")
DEFAULT = tuple(name for name in PEERS if name not in PREDICTIONS)


def reference(name: str) -> str:
    """Return the gdcore entry by whose times a peer's times are divided."""
    if base(name) in PREDICTIONS:
        return PREDICTION
    return WHOLE_REFERENCE if base(name) in WHOLE else REFERENCE


def base(name: str) -> str:
    """Return the name without a version: "gdcore" for "gdcore@v0.1.0", an earlier version in a folder of its own."""
    return name.partition("@")[0]


def label(name: str) -> str:
    """Return the name of a peer in tables."""
    return name.replace(base(name), PEERS[base(name)].label, 1) if base(name) in PEERS else name


def create(name: str, threads: int) -> Any:
    """Make a peer from its name, or from "module:Class" if it is not in the list."""
    module, _, cls = (PEERS[name].target if name in PEERS else name).partition(":")
    return getattr(importlib.import_module(module), cls)(threads)


class Calls:
    """Base of the peers that predict: a run's steps are calls of `predict`, one for each batch."""

    predict: Callable[[Any], Any]
    batches: list[Any]

    def curve(self, steps: int) -> list[float]:
        return [float(value) for row in self.predict(self.batches[0]) for value in row][:steps]

    def run(self, steps: int) -> dict[str, float]:
        predict, batches = self.predict, list(islice(cycle(self.batches), steps))
        predict(batches[0])
        predict(batches[0])  # what is prepared in the first calls is no part of the others
        started = time.perf_counter()
        for x in batches:
            predict(x)
        return {"seconds": time.perf_counter() - started, "steps": steps}


def best_seconds(run: Callable[[], float], stretches: int = 3) -> float:
    """Return the shortest of a few timings; compares variants of a peer before the rounds."""
    times = []
    for _ in range(stretches):
        times.append(run())
        time.sleep(0.02)
    return min(times)
