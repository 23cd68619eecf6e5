"""Promise: every way to train refuses values that the model's dtype cannot hold, too large or all too small, and such a
scaling, before anything changes; a tiny column of a single batch is accepted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest

pd = pytest.importorskip("pandas")

X = np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 5.0], [1.0, 1.0, 3.0], [0.0, 0.0, 7.0], [1.0, 0.0, 4.0], [1.0, 1.0, 6.0]])
Y = np.array([0, 1, 1, 0, 1, 0])
NAMES = ["a", "b", "c"]


def model() -> gd.Sequential:
    return gd.Sequential(gd.Dense(3, 2), seed=0, device="cpu")


TRAINING: dict[str, Callable[[Callable[[], gd.Trainer], Any, Any], Any]] = {
    "fit": lambda make, x, y: make().fit(x, y, epochs=1),
    "fit batches": lambda make, x, y: make().fit([(x, y)], epochs=1),
    "MiniBatches": lambda make, x, y: make().fit(gd.MiniBatches(x, y, batch_size=3), epochs=1),
    "step": lambda make, x, y: make().step(x, y),
    "weighted step": lambda make, x, y: make().step(x, y, np.ones(len(x))),
    "step of a frame": lambda make, x, y: make().step(pd.DataFrame(x, columns=NAMES), y),
    "later step": lambda make, x, y: (trainer := make()).step(X, Y) and trainer.step(x, y),
    "lr_range_test": lambda make, x, y: gd.lr_range_test(make().model, make().loss, x, y, steps=3, batch_size=3),
    "restarts": lambda make, x, y: gd.restarts(
        lambda seed: make().model,
        1,
        x,
        y,
        validation=0.5,
        loss=make().loss,
        optimizer=gd.SGD(0.1),
        epochs=1,
        progress=False,
    ),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("train", TRAINING)
def test_every_way_to_train_refuses_what_the_dtype_does_not_hold(train: str, dtype: str) -> None:
    tiny, huge = {"float32": (1e-46, 1e40), "float64": (1e-316, np.inf)}[dtype]
    made: list[gd.Trainer] = []

    def make(*scaling: Any) -> gd.Trainer:
        network = gd.Sequential(*scaling, gd.Dense(3, 1), seed=0, device="cpu", dtype=dtype)
        made.append(gd.Trainer(network, gd.MeanSquaredError(), optimizer=gd.SGD(1e-80)))
        return made[-1]

    TRAINING[train](make, X, Y.astype(float))
    unrepresentable = [gd.Standardizer(mean=[0.0, 0.0, 0.0], std=[1.0, tiny, 1.0])]
    cases: list[tuple[Any, Any, Any, str]] = [
        (make, X * tiny, Y, f"x: got numbers of at most .*{dtype}"),
        (make, X, np.where(Y, huge, 0.5), "y: got .* in row"),
        (make, X, (Y + 1) * tiny, f"y: got numbers of at most .*{dtype}"),
    ]
    if train != "later step":
        cases.append((lambda: make(*unrepresentable), X, Y, f"Standardizer scales column .*{dtype}"))
    for build, x, y, match in cases:
        if "y: got numbers" in match and train in ("step", "later step"):
            continue  # targets of a plain array are checked only if the loss is not finite
        made.clear()
        with pytest.raises(ValueError, match=match):
            TRAINING[train](build, x, y)
        for trainer in made:
            again = gd.Sequential(*trainer.model.layers, seed=0, device="cpu", dtype=dtype)
            if train != "later step":
                helpers.same_bits(helpers.snapshot(trainer.model), helpers.snapshot(again))


def test_batches_may_hold_a_tiny_column() -> None:
    """Such values are harmless if other rows of the column are larger, and a batch does not contain all rows."""
    x = X * [1.0, 1.0, 1e-60]
    for rows in (x, np.full((1, 3), 1e-60), np.zeros((6, 3))):
        trainer = gd.Trainer(model(), gd.CrossEntropy(), optimizer=gd.SGD(0.1))
        assert np.isfinite(trainer.step(rows, Y[: len(rows)]))
        assert np.isfinite(trainer.fit([(rows, Y[: len(rows)])], epochs=1)["loss"][0])
    unchecked = gd.Trainer(model(), gd.CrossEntropy(), optimizer=gd.SGD(0.1), check_finite=False)
    assert np.isfinite(unchecked.step(X * 1e-60, Y))
