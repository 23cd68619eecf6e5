"""The networks trained on the GPU, the most important first, with their initial weights and data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from bench.peers.cases import Case, Data, draw

DATASET_BYTES = 256 << 20
MOST_BATCHES, FEWEST_BATCHES = 64, 4
# Largest relative difference of loss curves: only rounding may differ.
TOLERANCE = {"float32": 1e-3, "tf32": 1e-2, "bfloat16": 5e-2}


@dataclass(frozen=True)
class Run:
    """A network and the precision of its matrix products; other libraries take long to compile it."""

    case: Case
    precision: str = "float32"
    compiled: bool = False

    @property
    def name(self) -> str:
        """Name in tables."""
        return f"{self.case.name} {self.precision}"

    @property
    def batches(self) -> int:
        """Batches of an epoch: a multiple of 32, or fewer than 32."""
        count = int(np.clip(DATASET_BYTES // (4 * self.case.batch * self.case.widths[0]), FEWEST_BATCHES, MOST_BATCHES))
        return count if count < 32 else count // 32 * 32

    @property
    def flop(self) -> float:
        """Floating-point operations of a step's products: forward, and two backward except for the inputs' gradient."""
        pairs = list(zip(self.case.widths[:-1], self.case.widths[1:], strict=True))
        return 2.0 * self.case.batch * (3 * sum(a * b for a, b in pairs) - pairs[0][0] * pairs[0][1])

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""
        return sum((a + 1) * b for a, b in zip(self.case.widths[:-1], self.case.widths[1:], strict=True))

    def draw(self) -> Data:
        """Return weights and an epoch of batches; the same for all precisions of a case."""
        return drawn(self.case, self.batches)


@lru_cache(maxsize=1)  # data of some cases takes a gigabyte, and seconds to generate
def drawn(case: Case, batches: int) -> Data:
    """Generate weights and data of a case; the last case is cached."""
    return draw(case, batches)


def deep(width: int, hidden: int, batch: int, norm: str = "") -> Case:
    """Return a network of equal layers with ten outputs."""
    return Case((width,) * (hidden + 1) + (10,), batch, norm)


RUNS = (
    Run(Case((784, 512, 512, 10), 128), compiled=True),
    Run(deep(64, 2, 64), compiled=True),
    Run(deep(64, 2, 64), "tf32"),
    Run(deep(64, 2, 64), "bfloat16"),
    Run(deep(1024, 4, 1024), compiled=True),
    Run(deep(1024, 4, 1024), "tf32", compiled=True),
    Run(deep(1024, 4, 1024), "bfloat16", compiled=True),
    Run(deep(128, 8, 16384)),
    Run(deep(128, 8, 16384), "tf32"),
    Run(deep(128, 8, 16384), "bfloat16"),
    Run(deep(4096, 2, 4096), "tf32"),
    Run(deep(4096, 2, 4096), "bfloat16"),
    Run(Case((784, 512, 512, 10), 128, "batch"), compiled=True),
    Run(Case((784, 512, 512, 10), 128, "layer"), compiled=True),
    Run(deep(32, 8, 32)),
    Run(deep(32, 8, 32), "tf32"),
    Run(deep(32, 8, 32), "bfloat16"),
    Run(deep(256, 4, 256)),
    Run(deep(256, 4, 256), "tf32"),
    Run(deep(2048, 2, 32)),
    Run(deep(2048, 2, 32), "bfloat16"),
    Run(deep(64, 2, 16384)),
    Run(deep(64, 2, 16384), "bfloat16"),
    Run(deep(2048, 8, 2048)),
    Run(deep(2048, 8, 2048), "tf32"),
    Run(deep(2048, 8, 2048), "bfloat16"),
    Run(deep(32, 2, 32), compiled=True),
    Run(deep(512, 8, 512)),
    Run(deep(32, 2, 16384), "tf32"),
    Run(deep(4096, 8, 16384), "bfloat16"),
    Run(deep(4096, 8, 16384), "tf32"),
)
DRY = (Run(deep(8, 2, 16)), Run(deep(8, 1, 8, "batch")), Run(deep(8, 1, 8), "bfloat16"))
