"""Promise: every function that takes a model, except gallery and experiments, works with a model on a GPU and returns
the same as on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore import analysis

pytestmark = pytest.mark.cuda
LOSS = gd.CrossEntropy()


def recorded(model: gd.Sequential, x: np.ndarray, y: np.ndarray) -> Any:
    """The path of a short training run."""
    path = analysis.PathRecorder()
    gd.Trainer(model, LOSS, optimizer=gd.SGD(0.1)).fit(x, y, epochs=2, batch_size=20, callbacks=[path])
    return path


def condition_of_a_line(model: gd.Sequential, x: np.ndarray, y: np.ndarray) -> Any:
    """A linear model on the same device: its error has a minimum, which a condition number needs."""
    line = gd.Sequential(gd.Dense(4, 1), seed=0, dtype="float64", device=model.device)
    return analysis.condition_number(line, gd.MeanSquaredError(), x, x[:, :1])


def trained_from_torch(model: gd.Sequential, x: np.ndarray, y: np.ndarray) -> Any:
    """Predictions after a round trip through PyTorch's names and tensors."""
    pytest.importorskip("torch")
    tensors = {name: tensor * 1.5 for name, tensor in model.to_torch().items()}
    model.from_torch(tensors)
    return model.predict(x)


def trained(model: gd.Sequential, x: np.ndarray, y: np.ndarray) -> Any:
    """A run with callbacks that read the model between epochs."""
    trainer = gd.Trainer(model, LOSS, optimizer=gd.Adam(gd.schedules.cosine(0.05, 40)), metrics=[gd.metrics.accuracy])
    stop = gd.EarlyStopping(patience=3)
    history = trainer.fit(x, y, epochs=6, batch_size=20, validation=0.25, callbacks=[stop])
    return [history["loss"], history["val_loss"], history["val_accuracy"]]


CALLS: dict[str, Callable[[gd.Sequential, np.ndarray, np.ndarray], Any]] = {
    "gradient": lambda m, x, y: analysis.gradient(m, LOSS, x, y),
    "hessian": lambda m, x, y: analysis.hessian(m, LOSS, x, y),
    "hvp": lambda m, x, y: analysis.hvp(m, LOSS, x, y, np.ones(analysis.Objective(m, LOSS, x, y).size)),
    "quadratic model": lambda m, x, y: analysis.QuadraticModel(m, LOSS, x, y).eigenvalues,
    "critical point": lambda m, x, y: analysis.classify_critical_point(m, LOSS, x, y).eigenvalues,
    "condition": condition_of_a_line,
    "in float64": lambda m, x, y: analysis.in_float64(m).predict(x),
    "stable rate": lambda m, x, y: analysis.max_stable_lr(m, LOSS, x, y),
    "convergence": lambda m, x, y: analysis.convergence_factors(m, LOSS, x, y, 0.1).factors,
    "effective parameters": lambda m, x, y: analysis.effective_parameters(m, LOSS, x, y, weight_decay=1.0),
    "gradient noise": lambda m, x, y: (
        analysis.gradient_noise(m, LOSS, x, y, batch_sizes=(1, 10), n_batches=20).measured
    ),
    "variances": lambda m, x, y: analysis.variance_by_layer(m, x, loss=LOSS, y=y).variance,
    "loss surface": lambda m, x, y: analysis.loss_surface(m, LOSS, x, y, span=0.5, points=5).values,
    "path": lambda m, x, y: recorded(m, x, y).path,
    "identical units": lambda m, x, y: list(analysis.identical_units(m).units.values()),
    "rates": lambda m, x, y: gd.lr_range_test(m, LOSS, x, y, steps=20, batch_size=20).loss,
    "consistent decay": lambda m, x, y: gd.consistent_weight_decay(m, 0.1, x_scale=2.0),
    "other units": lambda m, x, y: gd.transform_network(m, x_scale=2.0, y_shift=1.0).predict(2.0 * x),
    "torch": trained_from_torch,
    "training": trained,
}


@pytest.mark.parametrize("name", CALLS)
def test_finds_what_it_finds_on_the_cpu(name: str, rng: helpers.Generator) -> None:
    x = rng.standard_normal((60, 4))
    y = (x[:, 0] > 0).astype(np.int64) + (x[:, 1] > 0.5)
    found = []
    for device in ("cpu", "cuda"):
        layers = [gd.Dense(4, 5), gd.Tanh(), gd.Dense(5, 3)]
        model = gd.Sequential(*layers, seed=4, dtype="float64", device=device)
        found.append(np.asarray(CALLS[name](model, x, y), dtype=np.float64))
    assert found[0].size and np.isfinite(found[0]).all()
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6, atol=1e-9 * np.abs(found[0]).max())
