"""The networks that are compared, and the numbers that every peer starts from: weights and batches, drawn by NumPy."""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

BETAS, EPS = (0.9, 0.999), 1e-8  # of Adam
RATE, DEEP_RATE, DEEP = 1e-3, 1e-4, 3  # from so many hidden layers the second rate
NORM_EPS, NORM_DECAY = 1e-5, 0.9
DATA_BYTES = 8 << 20  # of all batches of a case together
MOST_BATCHES, FEWEST_BATCHES = 64, 4
NORMS = {"": "", "batch": " BatchNorm", "layer": " LayerNorm"}


@dataclass(frozen=True)
class Case:
    """A network (dense layers, each hidden one followed by the norm and ReLU) and how it is trained."""

    widths: tuple[int, ...]  # of the inputs, the hidden layers, the outputs
    batch: int
    norm: str = ""  # "", "batch" or "layer"
    loss: str = "cross-entropy"  # or "mse"
    group: str = "grid"  # or "six"

    @property
    def name(self) -> str:
        """How tables call it, such as ``784-512-512-10 BatchNorm [128]``."""
        loss = " MSE" if self.loss == "mse" else ""
        return f"{shape_name(self.widths)}{NORMS[self.norm]}{loss} [{self.batch}]"

    @property
    def hidden(self) -> int:
        """Number of hidden layers."""
        return len(self.widths) - 2

    @property
    def batches(self) -> int:
        """How many different batches there are; training walks through them again and again."""
        rows = DATA_BYTES // (4 * self.batch * self.widths[0])
        return int(np.clip(rows, FEWEST_BATCHES, MOST_BATCHES))

    @property
    def rate(self) -> float:
        """Learning rate, lower for deep networks.

        Rounding grows from layer to layer and from step to step, and with the rate: nine layers with BatchNorm at 1e-3
        are 2e-3 from float64 after 20 steps, whoever computes them, at 1e-4 less than 1e-4.
        """
        return RATE if self.hidden < DEEP else DEEP_RATE

    def to_json(self) -> dict[str, Any]:
        """Return the fields, for a worker."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Case:
        """Return what `to_json` was made of."""
        return cls(**{**fields, "widths": tuple(fields["widths"])})


def shape_name(widths: tuple[int, ...]) -> str:
    """Write the widths with dashes; three and more equal ones in a row as ``9x256``."""
    parts: list[str] = []
    i = 0
    while i < len(widths):
        j = i
        while j < len(widths) and widths[j] == widths[i]:
            j += 1
        count = j - i
        parts += [f"{count}x{widths[i]}"] if count > 3 else [str(widths[i])] * count
        i = j
    return "-".join(parts)


SIX = (
    Case((64, 32, 10), 32, group="six"),
    Case((784, 128, 10), 64, group="six"),
    Case((784, 512, 512, 10), 128, "batch", group="six"),
    Case((784, 512, 512, 10), 128, "layer", group="six"),
    Case((1024, 1024, 1024, 1024, 10), 1024, group="six"),
    Case((256,) * 10 + (10,), 256, "batch", group="six"),
)

# Widths from 8 to 2048, batches from 1 to 4096, one to six hidden layers; sizes that no vector or tile divides.
GRID = (
    Case((8, 8, 2), 1),
    Case((13, 8, 2), 1),
    Case((16, 16, 16, 4), 8),
    Case((8, 32, 8, 3), 16, "layer"),
    Case((20, 10, 10, 10, 10, 10, 10, 2), 10),
    Case((37, 53, 7), 19),
    Case((37, 53, 53, 7), 19, "batch"),
    Case((32, 64, 64, 10), 32, "batch"),
    Case((13, 64, 64, 1), 32, loss="mse"),
    Case((64, 128, 10), 1),
    Case((100, 101, 3), 257),
    Case((100, 101, 101, 3), 257, "layer"),
    Case((30, 64, 64, 64, 64, 5), 100, "batch"),
    Case((128,) * 7 + (10,), 64),
    Case((128,) * 7 + (10,), 64, "layer"),
    Case((784, 100, 10), 200),
    Case((784, 256, 10), 32, "layer"),
    Case((784, 256, 128, 10), 64),
    Case((256, 256, 256, 10), 16, "batch"),
    Case((16, 16, 4), 4096),
    Case((64, 64, 64, 10), 4096),
    Case((8, 128, 128, 128, 1), 1024, loss="mse"),
    Case((256, 512, 512, 10), 4096, "layer"),
    Case((1000, 500, 250, 100, 10), 333),
    Case((512, 512, 512, 512, 10), 256),
    Case((512, 512, 512, 10), 512, "batch"),
    Case((1024, 1024, 10), 1),
    Case((1024, 512, 100), 8, "layer"),
    Case((2048, 2048, 10), 64),
    Case((2048, 1024, 1000), 512),
    Case((2048, 2048, 2048, 10), 256, "batch"),
)

# What the guard looks at: the six, and predictions of one row and of a batch, where a call costs more than its numbers.
GUARD = (*SIX, Case((20, 64, 32, 3), 1), Case((20, 64, 32, 3), 256))

SETS = {"six": SIX, "grid": GRID, "all": SIX + GRID, "guard": GUARD}


@dataclass(frozen=True)
class Data:
    """Initial parameters, one pair for each dense layer, and the batches, stacked."""

    weights: list[np.ndarray]  # (out, in), float32
    biases: list[np.ndarray]
    x: np.ndarray  # (batches, rows, inputs), float32
    y: np.ndarray  # (batches, rows) int64 labels, or (batches, rows, outputs) float32


def draw(case: Case, batches: int | None = None) -> Data:
    """Draw a case's numbers; the same for the same case.

    Labels are random, so that the loss does not approach zero, where numbers become too small to be normalised and
    arithmetic slow in some libraries and not in others.
    """
    rng = np.random.default_rng(zlib.crc32(case.name.encode()))
    shapes = list(zip(case.widths[1:], case.widths[:-1], strict=True))
    weights = [(rng.standard_normal(s) * np.sqrt(2 / s[1])).astype(np.float32) for s in shapes]
    count = case.batches if batches is None else batches
    x = rng.standard_normal((count, case.batch, case.widths[0]), dtype=np.float32)
    if case.loss == "mse":
        y = rng.standard_normal((count, case.batch, case.widths[-1]), dtype=np.float32)
    else:
        labels = np.arange(count * case.batch, dtype=np.int64) % case.widths[-1]  # every class occurs
        y = rng.permutation(labels).reshape(count, case.batch)
    return Data(weights, [np.zeros(out, np.float32) for out, _ in shapes], x, y)


def save(data: Data, path: Path) -> None:
    """Write the numbers to an .npz file, from which every worker reads them."""
    arrays = {f"w{i}": w for i, w in enumerate(data.weights)} | {f"b{i}": b for i, b in enumerate(data.biases)}
    np.savez(path, x=data.x, y=data.y, **arrays)


def load(path: str | Path) -> Data:
    """Read what `save` wrote."""
    with np.load(path) as file:
        count = sum(name.startswith("w") for name in file.files)
        weights, biases = ([file[f"{kind}{i}"] for i in range(count)] for kind in "wb")
        return Data(weights, biases, file["x"], file["y"])
