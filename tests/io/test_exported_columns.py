"""Promise: layers of columns and blocks are exported with the numbers of the model; a value that is no code becomes NaN
in an ONNX file, and is refused by the module for PyTorch."""

from __future__ import annotations

import io
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import onnxruntime
import pytest

DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
NEAR = {"float32": 1e-5, "float64": 1e-12}


def embedded(dtype: str) -> gd.Sequential:
    codes = gd.Embedding((5, 3, 40), (2, None, 9), columns=(3, 0, 1), features=5)
    return gd.Sequential(
        codes, gd.PiecewiseLinear([[-1.0, 0.0, 2.0]], columns=[1]), gd.Dense(17, 2), seed=0, dtype=dtype
    )


def coded(dtype: str, rng: helpers.Generator, rows: int = 33) -> np.ndarray:
    x = rng.standard_normal((rows, 5))
    x[:, [3, 0, 1]] = rng.integers(0, (5, 3, 40), (rows, 3))
    return x.astype(dtype)


def exported(model: Any) -> Any:
    file = io.BytesIO()
    model.save_onnx(file)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x})[0]


def close(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape and found.dtype == expected.dtype
    limit = NEAR[str(expected.dtype)] * max(1.0, np.abs(expected).max(initial=0.0))
    assert (np.abs(found - expected) < limit).all()


@DTYPES
def test_codes_in_onnx(dtype: str, device: str, rng: helpers.Generator) -> None:
    model = embedded(dtype).clone(device=device)
    run, x = exported(model), coded(dtype, rng)
    for rows in (0, 1, 33):
        close(run(x[:rows]), np.array(model.predict(x[:rows])))
    for column, size in ((3, 5), (0, 3), (1, 40)):
        for value in (-1, size, 0.5, -0.5, np.nan, 1e30, -np.inf):
            wrong = x[:2].copy()
            wrong[0, column] = value
            found = run(wrong)
            assert np.isnan(found[0]).all() and np.isfinite(found[1]).all(), (column, value)


@pytest.mark.torch
@DTYPES
def test_codes_in_pytorch(dtype: str, rng: helpers.Generator) -> None:
    torch = pytest.importorskip("torch")
    model, x = embedded(dtype), coded(dtype, rng)
    helpers.randomize(model, rng)
    module = model.to_torch_module()
    close(module(torch.from_numpy(x)).detach().numpy(), model.predict(x))
    close(gd.from_torch_module(module).predict(x), model.predict(x))
    for column, value in ((3, -1), (3, 5), (0, 0.5), (1, 40)):
        wrong = x.copy()
        wrong[0, column] = value
        helpers.refuses(lambda wrong=wrong: module(torch.from_numpy(wrong)), ValueError, "codes of categories")


@DTYPES
def test_waves_of_large_numbers(dtype: str, rng: helpers.Generator) -> None:
    """Of 10⁵ turns, float32 would keep two digits of a turn."""
    for kind in ("pbld", "plr"):
        model = gd.Sequential(gd.Periodic(4, frequencies=9, dim=7, sigma=50.0, kind=kind), seed=0, dtype=dtype)
        x = (1e3 * rng.standard_normal((33, 4))).astype(dtype)
        close(exported(model)(x), model.predict(x))
        torch = pytest.importorskip("torch")
        close(model.to_torch_module()(torch.from_numpy(x)).detach().numpy(), model.predict(x))


@pytest.mark.torch
def test_blocks_are_frozen_and_trained_in_pytorch(rng: helpers.Generator) -> None:
    torch = pytest.importorskip("torch")
    inside = (
        gd.LayerNorm(6),
        gd.Dense(6, 9, name="wide"),
        gd.SiLU() if hasattr(gd, "SiLU") else gd.ReLU(),
        gd.Dense(9, 6),
    )
    parts = gd.Periodic(4, frequencies=3, dim=2), gd.Dense(8, 6), gd.Residual(*inside, name="tower"), gd.Dense(6, 2)
    model = gd.Sequential(*parts, seed=0, dtype="float64")
    model.freeze("wide", "tower.0.gamma", "layers.0.frequency")
    module = model.to_torch_module().train()
    fixed = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    assert fixed == {"0.frequency", "2.0.weight", "2.1.weight", "2.1.bias"}
    frozen = ["layers.0.frequency", "layers.2.0.gamma", "layers.2.1.weight", "layers.2.1.bias"]
    assert gd.from_torch_module(module).frozen() == frozen
    x, y = rng.standard_normal((40, 4)), rng.standard_normal((40, 2))
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.SGD(0.1))
    for _ in range(5):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(module(torch.from_numpy(x)), torch.from_numpy(y))
        loss.backward()
        optimizer.step()
        assert abs(trainer.step(x, y) - loss.item()) < 1e-12
    close(gd.from_torch_module(module).predict(x), model.predict(x))
