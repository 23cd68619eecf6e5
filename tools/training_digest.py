"""Print a digest of twenty training runs: layers, losses, optimisers, dtypes, orders of rows, and second derivatives.

A change that must not change results gives the same lines before and after, on the same machine with the same
GDCORE_CPU_ISA. `python tools/training_digest.py cuda` does the same on the GPU, or on the emulated one that
GDCORE_CUDA_LIBRARY names.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from typing import Any

import gdcore as gd
import numpy as np

ROWS, INPUTS, CLASSES = 301, 9, 4


def data(dtype: str) -> dict[str, Any]:
    """Return inputs and targets of every kind."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal((ROWS, INPUTS)).astype(dtype)
    labels = rng.integers(0, CLASSES, ROWS)
    shares = rng.random((ROWS, CLASSES))
    return {
        "x": x,
        "labels": labels,
        "numbers": rng.standard_normal((ROWS, 2)).astype(dtype),
        "shares": (shares / shares.sum(1, keepdims=True)).astype(dtype),
        "binary": rng.integers(0, 2, (ROWS, 2)).astype(dtype),
        "weights": rng.random(ROWS) + 0.1,
    }


def runs() -> Iterator[tuple[str, list[Any], Any, Any, str, str, dict[str, Any]]]:
    """Yield name, layers, loss, optimiser, targets, dtype and further arguments of fit."""
    classes, numbers = gd.CrossEntropy(), gd.MeanSquaredError()
    small = [gd.Dense(INPUTS, 16), gd.ReLU(), gd.Dense(16, CLASSES)]
    deep = [
        gd.Standardizer().fit(data("float64")["x"]),
        gd.Dense(INPUTS, 33),
        gd.BatchNorm(33),
        gd.GELU(),
        gd.Dropout(0.3),
        gd.Dense(33, 17),
        gd.LayerNorm(17),
        gd.Tanh(),
        gd.Dense(17, CLASSES),
    ]
    rules = {
        "SGD": gd.SGD(0.1),
        "Momentum": gd.Momentum(0.05),
        "AdaGrad": gd.AdaGrad(0.05),
        "RMSProp": gd.RMSProp(0.01),
        "Adam": gd.Adam(0.01),
    }
    for name, rule in rules.items():
        yield f"small, {name}", small, classes, rule, "labels", "float32", {}
        yield f"deep, {name}", deep, classes, rule, "labels", "float64" if name == "SGD" else "float32", {}
    decayed = gd.Adam(0.01, weight_decay=0.01, clip_norm=0.5, decay_biases=True)
    yield "clipped", deep, gd.CrossEntropy(label_smoothing=0.1), decayed, "shares", "float32", {}
    scheduled = gd.Momentum(gd.schedules.warmup(gd.schedules.cosine(0.1, 60), 10), nesterov=True)
    yield "schedule", small, gd.CrossEntropy(class_weights=[1, 2, 0.5, 1]), scheduled, "labels", "float32", {}
    head = [gd.Dense(INPUTS, 20, bias=False), gd.Softplus(), gd.Dense(20, 2)]
    yield "numbers", head, numbers, gd.Adam(0.01), "numbers", "float64", {"batch_size": 301}
    yield "binary", head, gd.BinaryCrossEntropy(pos_weight=[2.0, 0.5]), gd.SGD(0.1), "binary", "float32", {}
    yield "weighted", small, classes, gd.Adam(0.01), "labels", "float32", {"weighted": True}
    yield "as they lie", small, classes, gd.Adam(0.01), "labels", "float32", {"shuffle": False}
    yield "one row", head, numbers, gd.SGD(0.01), "numbers", "float32", {"batch_size": 1}
    yield "dropped", deep, classes, gd.Adam(0.01), "labels", "float32", {"drop_last": True, "batch_size": 64}
    yield "a part", deep, classes, gd.Adam(0.01), "labels", "float32", {"validation": 0.25}
    wide = [gd.Dense(INPUTS, 200), gd.LeakyReLU(0.1), gd.Dense(200, 150), gd.Sigmoid(), gd.Dense(150, CLASSES)]
    yield "wide", wide, classes, gd.RMSProp(0.001), "labels", "float32", {"batch_size": 100}


def digest_of(run: tuple[str, list[Any], Any, Any, str, str, dict[str, Any]], device: str) -> str:
    """Train; return the digest of parameters, buffers, states, losses, a prediction and a Hessian-vector product."""
    _, layers, loss, rule, target, dtype, given = run
    given = {"batch_size": 32, **given}
    all_data = data(dtype)
    x, y = all_data["x"], all_data[target]
    model = gd.Sequential(*layers, dtype=dtype, device=device, seed=3)
    trainer = gd.Trainer(model, loss, optimizer=rule, seed=11)
    if given.pop("weighted", False):
        given["sample_weight"] = all_data["weights"]
    history = trainer.fit(x, y, epochs=3, **given)
    objective = gd.analysis.Objective(gd.analysis.in_float64(model), loss, x, y)
    parts = [*model.parameters().values(), *model.buffers().values(), *trainer.core.state().values()]
    parts += [history["loss"], model.predict(x), objective.hvp(np.ones(objective.size))]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(np.ascontiguousarray(np.asarray(part)).tobytes())
    return digest.hexdigest()


def main() -> None:
    """Print a line for each run, and one for all."""
    device = sys.argv[1] if len(sys.argv) > 1 else "cpu"
    together = hashlib.sha256()
    for run in runs():
        digest = digest_of(run, device)
        together.update(digest.encode())
        print(f"{digest[:16]}  {run[0]}", flush=True)
    print(f"{together.hexdigest()[:16]}  all, {device}")


if __name__ == "__main__":
    main()
