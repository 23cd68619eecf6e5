"""Which peers there are, and what a peer has to offer."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol


class Peer(Protocol):
    """A library that trains the cases. Made with the number of threads; an ImportError says that it is missing."""

    def versions(self) -> dict[str, str]:
        """Versions of what it is made of."""

    def prepare(self, case: dict[str, Any], data: str, variant: str | None = None) -> dict[str, Any]:
        """Build a case (`Case.to_json`) from the numbers in a file.

        Of several ways to train it, take the one that is named, or else the fastest. Return {"variant": name,
        "variants": {name: microseconds}}, or {"unsupported": why}.
        """

    def curve(self, steps: int) -> list[float]:
        """Train from the initial weights; return the loss of each step."""

    def run(self, steps: int) -> dict[str, float]:
        """Start anew, train at least so many steps, and return {"seconds": ..., "steps": ...}."""


@dataclass(frozen=True)
class Entry:
    """Where a peer is found, and what it is called in tables."""

    target: str  # "module:Class"
    label: str
    distribution: str = ""  # as pip calls it


PEERS = {
    "gdcore": Entry("bench.peers.peer_gdcore:StepPeer", "gdcore", "gdcore"),
    "gdcore-fit": Entry("bench.peers.peer_gdcore:FitPeer", "gdcore fit"),
    "gdcore-predict": Entry("bench.peers.peer_gdcore:PredictPeer", "gdcore predict"),
    "torch": Entry("bench.peers.peer_torch:EagerPeer", "PyTorch", "torch"),
    "torch.compile": Entry("bench.peers.peer_torch:CompiledPeer", "torch.compile", "torch"),
    "jax": Entry("bench.peers.peer_jax:StepPeer", "JAX", "jax"),
    "jax-scan": Entry("bench.peers.peer_jax:ScanPeer", "JAX scan", "jax"),
    "sklearn": Entry("bench.peers.peer_sklearn:SklearnPeer", "scikit-learn", "scikit-learn"),
}
REFERENCE = "gdcore"
# Those that have all batches beforehand and are called once for many steps are compared among themselves: a loop in
# Python that hands over one batch after the other, and may look at each loss, is another way of training.
WHOLE_REFERENCE = "gdcore-fit"
WHOLE = (WHOLE_REFERENCE, "jax-scan", "sklearn")
OURS = (REFERENCE, WHOLE_REFERENCE)
# Predictions are compared with those of another build of gdcore alone (bench.guard).
PREDICTION = "gdcore-predict"
DEFAULT = tuple(name for name in PEERS if name != PREDICTION)


def reference(name: str) -> str:
    """Return which of our own a peer's times are divided by."""
    if base(name) == PREDICTION:
        return PREDICTION
    return WHOLE_REFERENCE if base(name) in WHOLE else REFERENCE


def base(name: str) -> str:
    """Return the name without a version: "gdcore" for "gdcore@v0.1.0", an earlier version in a folder of its own."""
    return name.partition("@")[0]


def label(name: str) -> str:
    """Return what tables call a peer."""
    return name.replace(base(name), PEERS[base(name)].label, 1) if base(name) in PEERS else name


def create(name: str, threads: int) -> Any:
    """Make a peer by its name, or by "module:Class" for one that is not in the list."""
    module, _, cls = (PEERS[name].target if name in PEERS else name).partition(":")
    return getattr(importlib.import_module(module), cls)(threads)


def best_seconds(run: Callable[[], float], stretches: int = 3) -> float:
    """Return the shortest of a few stretches: how variants of one peer are compared before the rounds begin."""
    times = []
    for _ in range(stretches):
        times.append(run())
        time.sleep(0.02)
    return min(times)
