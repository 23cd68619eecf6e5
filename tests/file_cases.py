"""A model and a trainer to save, and functions that read them back."""

from __future__ import annotations

from typing import Any

import gdcore as gd
import numpy as np


def model(seed: int = 3) -> gd.Sequential:
    return gd.Sequential(gd.Dense(3, 4), gd.BatchNorm(4), gd.ReLU(), gd.Dense(4, 2), seed=seed, classes=["a", "b"])


def trainer(seed: int = 3, *, epochs: int = 0) -> gd.Trainer:
    made = gd.Trainer(model(seed), gd.CrossEntropy(), optimizer=gd.Adam(1e-2))
    x = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
    if epochs:
        made.fit(x, np.array(["a", "b"])[(x[:, 0] > 0).astype(int)], epochs=epochs)
    return made


def load_checkpoint(file: Any) -> gd.Trainer:
    made = trainer(9)
    made.load_checkpoint(file)
    return made
