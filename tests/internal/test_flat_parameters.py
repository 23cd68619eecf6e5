"""Promise: a model's parameters have one flat vector: `flat_parameters` returns it in the form of `gdcore.analysis`,
`set_flat_parameters` sets it or changes nothing, and no saved vector has padding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore import analysis
from gdcore.io.saving import read_tensors

MODELS: dict[str, Any] = {
    "linear": lambda **k: gd.Sequential(gd.Dense(3, 2), seed=0, **k),
    "norms": lambda **k: gd.Sequential(
        gd.Dense(3, 5), gd.BatchNorm(5), gd.Tanh(), gd.LayerNorm(5), gd.Dense(5, 2, bias=False), seed=1, **k
    ),
    "wide": lambda **k: gd.Sequential(gd.Dense(3, 70), gd.ReLU(), gd.Dense(70, 2), seed=2, **k),
}
FROZEN = ((), ("layers.0.bias",), ("layers.0",))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", MODELS)
def test_it_is_the_parameters_that_train_in_order(name: str, dtype: str, device: str) -> None:
    model = MODELS[name](dtype=dtype, device=device)
    model.backward(np.ones_like(model.forward(np.random.default_rng(0).standard_normal((8, 3)))))
    for frozen in FROZEN if name != "linear" else FROZEN[:2]:
        model.unfreeze()
        if frozen:
            model.freeze(*frozen)
        trained = [n for n in model.parameters() if n not in model.frozen()]
        for flat, views in ((model.flat_parameters(), model.parameters()), (model.flat_gradients(), model.gradients())):
            expected = np.concatenate([np.asarray(views[n]).ravel() for n in trained])
            assert type(flat) is np.ndarray and flat.flags.writeable
            helpers.same_bits(flat, expected)
        before = helpers.snapshot(model)
        model.flat_parameters()[...] = 7  # a copy
        helpers.same_bits(helpers.snapshot(model), before)
        other = MODELS[name](dtype=dtype, device=device)
        other.set_flat_parameters(np.zeros(other.flat_parameters().shape))
        if frozen:
            other.freeze(*frozen)
        other.set_flat_parameters(model.flat_parameters())
        for n, view in other.parameters().items():
            wanted = np.asarray(model.parameters()[n]) if n in trained else np.zeros(view.shape, dtype)
            helpers.same_bits(np.array(view), wanted)


@pytest.mark.parametrize("frozen", FROZEN)
@pytest.mark.parametrize("name", [name for name in MODELS if name != "linear"])
def test_it_is_what_analysis_takes_and_returns(name: str, frozen: tuple[str, ...], rng: helpers.Generator) -> None:
    model = MODELS[name](dtype="float64")
    if frozen:
        model.freeze(*frozen)
    loss, x, y = gd.CrossEntropy(), rng.standard_normal((20, 3)), rng.integers(0, 2, 20)
    objective = analysis.Objective(model, loss, x, y)
    flat = model.flat_parameters()
    helpers.same_bits(flat, objective.point)
    slope = analysis.gradient(model, loss, x, y)
    assert slope.shape == flat.shape == analysis.hvp(model, loss, x, y, flat).shape
    assert analysis.eigenvalues(model, loss, x, y, k=2).vectors.shape == (flat.size, 2)
    helpers.same_bits(analysis.QuadraticModel(model, loss, x, y).center, flat)
    model.forward(x)
    trainer = gd.Trainer(model, loss, optimizer=gd.SGD(1.0))
    trainer.step(x, y)
    np.testing.assert_allclose(model.flat_gradients(), slope, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(model.flat_parameters(), flat - slope, rtol=1e-12, atol=1e-15)


GIVEN: dict[str, Any] = {
    "list": lambda v: v.tolist(),
    "float64": lambda v: v.astype(np.float64),
    "whole numbers": lambda v: np.round(v).astype(np.int8),
    "big-endian": lambda v: v.astype(">f4"),
    "strided": lambda v: np.repeat(v, 2)[::2],
    "backwards": lambda v: v[::-1].copy()[::-1],
    "read-only": lambda v: np.frombuffer(v.tobytes(), v.dtype),
}


@pytest.mark.parametrize("form", GIVEN)
def test_any_vector_of_numbers_is_taken(form: str, device: str) -> None:
    model = MODELS["norms"](device=device)
    given = GIVEN[form](np.linspace(-3, 3, model.flat_parameters().size).astype(np.float32))
    model.set_flat_parameters(given)
    helpers.same_bits(model.flat_parameters(), np.asarray(given, np.float32))


SIZE = 50  # of MODELS["norms"]
REFUSED: dict[str, tuple[Any, type[Exception]]] = {
    "short": (np.ones(SIZE - 1), ValueError),
    "long": (np.ones(SIZE + 1), ValueError),
    "padded": (np.ones(256), ValueError),
    "column": (np.ones((SIZE, 1)), ValueError),
    "number": (1.0, ValueError),
    "nan": (np.r_[np.ones(SIZE - 1), np.nan], ValueError),
    "infinite": (np.r_[np.ones(SIZE - 1), -np.inf], ValueError),
    "too large": (np.r_[np.ones(SIZE - 1), 1e39], ValueError),
    "complex": (np.ones(SIZE, complex), TypeError),
    "text": (["1"] * SIZE, TypeError),
    "none": (None, TypeError),
    "arrays": ({"layers.0.bias": np.ones(5)}, TypeError),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_changes_nothing(name: str) -> None:
    model = MODELS["norms"]()
    before = helpers.snapshot(model)
    given, kind = REFUSED[name]
    helpers.refuses(lambda: model.set_flat_parameters(given), kind, r"^v\b")
    helpers.same_bits(helpers.snapshot(model), before)


def test_saved_vectors_have_no_padding(tmp_path: Path, rng: helpers.Generator) -> None:
    x, y = rng.standard_normal((30, 3)), rng.integers(0, 2, 30)
    model = MODELS["norms"]()
    trainer = gd.Trainer(model, gd.CrossEntropy(), optimizer=gd.Adam(0.01))
    stopping = gd.EarlyStopping()
    trainer.fit(x, y, epochs=2, validation=0.2, callbacks=[stopping, gd.Checkpoint(tmp_path / "run")])
    state = model.copy_state()
    assert state["parameters"].shape == (SIZE,) and state["buffers"].shape == (10,)
    tensors, _ = read_tensors(tmp_path / "run")
    states = [array.size for name, array in tensors.items() if name.startswith("training.optimizer.")]
    kept = [array.size for name, array in tensors.items() if name.startswith("training.callbacks.")]
    assert sum(states) == 2 * SIZE and sum(kept) == SIZE + 10 + stopping.state_dict()["shapes"].size
