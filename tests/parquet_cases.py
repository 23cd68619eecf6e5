"""Parquet files of the tests: rows of known arrays, in several files and row groups of different sizes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gdcore as gd
import numpy as np
import pytest

ROWS, WIDTH = 1003, 5
NAMES = [f"c{i}" for i in range(WIDTH)]


def inputs(rows: int = ROWS) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(rows, WIDTH)).astype(np.float32)


def labels(x: np.ndarray) -> np.ndarray:
    return (x[:, 0] > 0).astype(np.int64) + (x[:, 1] > 0)


X = inputs()
Y = labels(X)
WEIGHTS = np.random.default_rng(1).random(ROWS)


def write(path: Path, columns: Mapping[str, Any], row_group_size: int | None = None, **options: Any) -> Path:
    """Write columns, arrays or those of pyarrow, to a file."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table(dict(columns)), path, row_group_size=row_group_size, **options)
    return path


def columns_of(rows: slice = slice(None), x: np.ndarray = X) -> dict[str, Any]:
    return {name: x[rows, i] for i, name in enumerate(NAMES)}


def write_rows(folder: Path, cuts: Sequence[int] = (0, 600, ROWS), sizes: Sequence[int] = (100, 77)) -> str:
    """Write the rows to files, with row groups of a size for each; return the pattern of their names."""
    for i, (first, last) in enumerate(itertools.pairwise(cuts)):
        rows = slice(first, last)
        others = {"label": Y[rows], "weight": WEIGHTS[rows]}
        write(folder / f"part{i}.parquet", columns_of(rows) | others, sizes[i % len(sizes)])
    return str(folder / "*.parquet")


def opened(folder: Path, *, window: int | None = None, weighted: bool = False, **cuts: Any) -> Any:
    """Return the rows as Parquet."""
    pattern = write_rows(folder, **cuts)
    weight = "weight" if weighted else None
    return gd.data.Parquet(pattern, NAMES, "label", sample_weight=weight, window=window)


def seeded(seed: int) -> gd.Sequential:
    return gd.Sequential(gd.Dense(WIDTH, 3), seed=seed, device="cpu")


def trainer(device: str = "cpu", *layers: gd.Layer, **settings: Any) -> gd.Trainer:
    network = layers or (gd.Dense(WIDTH, 8), gd.ReLU(), gd.Dense(8, 3))
    model = gd.Sequential(*network, seed=1, device=device)
    return gd.Trainer(model, gd.CrossEntropy(), optimizer=gd.Adam(1e-2), **settings)


def state(made: gd.Trainer) -> dict[str, Any]:
    """Return everything that training changes, but seconds."""
    arrays = {name: np.array(array) for name, array in made.model.parameters().items()}
    arrays |= {f"state {name}": np.array(array) for name, array in made._core.state().items()}
    history = {name: np.array(made.history[name]) for name in made.history if name != "seconds"}
    return arrays | {"steps": np.array(made.steps)} | history
