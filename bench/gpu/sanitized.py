"""A few steps of small networks with the whole library, for compute-sanitizer.

MLPs with fused steps of two launches, in each precision; and a network with each norm, with at least one launch per
operation. The last batch is shorter; rows have weights.
"""

from __future__ import annotations

import gdcore as gd
import numpy as np

ROWS, BATCH, INPUTS, CLASSES = 150, 64, 20, 10


def main() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((ROWS, INPUTS)).astype(np.float32)
    labels, weights = rng.integers(CLASSES, size=ROWS), rng.uniform(0.5, 2.0, ROWS)
    shares = rng.dirichlet(np.ones(CLASSES), ROWS).astype(np.float32)
    scaler = gd.Standardizer(INPUTS, mean=x.mean(0).tolist(), std=x.std(0).tolist())

    def train(layers: list[object], precision: str = "float32", clip_norm: float | None = None) -> None:
        model = gd.Sequential(*layers, seed=0, device="cuda", precision=precision)
        trainer = gd.Trainer(model, gd.CrossEntropy(), optimizer=gd.Adam(1e-3, clip_norm=clip_norm))
        for y in (labels, shares):
            trainer.fit(x, y, epochs=1, batch_size=BATCH, sample_weight=weights)
            trainer.step(x[:BATCH], y[:BATCH])

    wide = [
        scaler,
        gd.Dense(INPUTS, 128),
        gd.ReLU(),
        gd.Dropout(0.2),
        gd.Dense(128, 33),
        gd.GELU(),
        gd.Dense(33, CLASSES),
    ]
    deep = [gd.Dense(INPUTS, 32), *(layer for _ in range(8) for layer in (gd.Tanh(), gd.Dense(32, 32)))]
    for precision in ("float32", "tf32", "bfloat16"):
        train(wide, precision)
        train([*deep, gd.ReLU(), gd.Dense(32, CLASSES)], precision)
    train([gd.Dense(INPUTS, 48), gd.BatchNorm(48), gd.ReLU(), gd.Dense(48, CLASSES)])
    train([gd.Dense(INPUTS, 48), gd.LayerNorm(48), gd.ReLU(), gd.Dense(48, CLASSES)], clip_norm=1.0)


if __name__ == "__main__":
    main()
