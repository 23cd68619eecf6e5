"""Promise: copies keep the precision of a model's products, and invalid precisions are refused; training results
differ from the CPU's only by the rounding of the factors."""

from __future__ import annotations

import pickle
import re
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_copies_keep_the_precision(precision: str, device: str, tmp_path: Any) -> None:
    made = gd.Sequential(gd.Dense(3, 2), seed=0, device=device, precision=precision)
    copied = pickle.loads(pickle.dumps(made))
    changed = gd.transform_network(made, x_scale=2.0)
    assert made.precision == copied.precision == changed.precision == made.settings()["precision"] == precision
    made.save(tmp_path / "m.safetensors")
    assert gd.load(tmp_path / "m.safetensors", device=device).precision == "float32"
    assert gd.load(tmp_path / "m.safetensors", device=device, precision=precision).precision == precision
    if device == "cpu":
        x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
        helpers.same_bits(made.predict(x), gd.Sequential(gd.Dense(3, 2), seed=0, device=device).predict(x))


def test_precisions_that_are_refused(device: str) -> None:
    for bad in ("float16", "", "FLOAT32"):
        helpers.refuses(
            lambda bad=bad: gd.Sequential(gd.Dense(3, 2), device=device, precision=bad),
            ValueError,
            '"float32", "tf32" or "bfloat16"',
        )
    for bad in ("tf32", "bfloat16"):
        helpers.refuses(
            lambda bad=bad: gd.Sequential(gd.Dense(3, 2), dtype="float64", device=device, precision=bad),
            ValueError,
            "float64 model",
        )
    assert gd.Sequential(gd.Dense(3, 2), dtype="float64", device=device, precision="float32").precision == "float32"


# ---------------------------------------------------------------------------------------------------- the CPU
TRAINING = """
    import numpy as np, gdcore as gd
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((256, 100)).astype("f"), rng.integers(0, 8, 256)
    for precision in ("float32", "tf32", "bfloat16"):
        layers = [gd.Dense(100, 120), gd.ReLU(), gd.Dense(120, 80), gd.Tanh(), gd.Dense(80, 8)]
        model = gd.Sequential(*layers, seed=1, device="cpu", precision=precision)
        trainer = gd.Trainer(model, gd.CrossEntropy(), optimizer=gd.Adam(3e-3))
        losses = trainer.fit(x, y, epochs=4, batch_size=128)["loss"]
        assert all(model.predict(x[i : i + 1]).tobytes() == model.predict(x)[i].tobytes() for i in (0, 77, 255))
        print(*map(float, losses), sep=",", end=";")
    print("|", gd.info()["cpu_precisions"], "|", model.summary())
"""


def test_curves_on_matrix_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """As without them but for rounding: of sums in float32, of factors in the other precisions, if there are units."""
    curves = {}
    for name in ("baseline", "amx-emulated"):
        monkeypatch.setenv("GDCORE_CPU_ISA", name)
        numbers, precisions, summary = helpers.must_run(TRAINING).split("|", 2)
        curves[name] = np.array([line.split(",") for line in numbers.split(";")[:3]], float)
        units = name == "amx-emulated"
        assert ("tf32" in precisions and "bfloat16" in precisions) == units
        said = "products in bfloat16$" if units else "products in float32: .* none in bfloat16$"
        assert re.search(said, summary, re.MULTILINE)
    usual = curves["baseline"]
    assert (usual == usual[0]).all() and usual[0, -1] < 0.8 * usual[0, 0]
    errors = np.abs(curves["amx-emulated"] / usual - 1.0).max(axis=1)
    assert (errors > (0, 1e-7, 1e-5)).all() and (errors <= (2e-6, 1e-4, 2e-2)).all()


# ---------------------------------------------------------------------------------------------------- training
WIDE = [gd.Dense(200, 300), gd.ReLU(), gd.Dense(300, 8)]  # with a separate kernel for each operation
FUSED = [gd.Dense(24, 40), gd.ReLU(), gd.Dense(40, 33), gd.ReLU(), gd.Dense(33, 8)]  # in two launches a step


def sparse_whole_numbers(layers: list[Any], device: str, precision: str) -> gd.Sequential:
    """Return a model of weights 0, 1 and -1, two per row: its outputs and gradients are small whole numbers."""
    model = gd.Sequential(*layers, seed=0, device=device, precision=precision)
    for name, values in model.parameters().items():
        at = np.arange(values.size).reshape(values.shape)
        chosen = np.ones(values.shape, bool)
        if name.endswith("weight"):
            row, col = np.indices(values.shape)
            chosen = (col == (5 * row + 1) % values.shape[1]) | (col == (7 * row + 4) % values.shape[1])
        values[...] = np.where(chosen, np.where(at % 3 == 0, -1.0, 1.0), 0.0).astype(np.float32)
    return model


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
@pytest.mark.parametrize("rows", [16, 64, 2048])
@pytest.mark.parametrize("layers", [FUSED, WIDE], ids=["fused", "wide"])
@pytest.mark.cuda
def test_whole_numbers_are_exact(layers: list[Any], rows: int, precision: str) -> None:
    """Every precision holds small whole numbers, and all divisors are powers of two: nothing is rounded."""
    inputs = layers[0].in_features
    x = (np.arange(rows * inputs) ** 2 % 5 - 2.0).astype(np.float32).reshape(rows, inputs)
    y = (np.arange(rows * 8) % 3 - 1.0).astype(np.float32).reshape(rows, 8)
    ends = []
    for device, kind in (("cpu", "float32"), ("cuda", precision)):
        model = sparse_whole_numbers(layers, device, kind)
        before = {name: np.array(values) for name, values in model.parameters().items()}
        trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.SGD(0.125))
        trainer.fit(x, y, epochs=1, batch_size=rows, shuffle=False)
        assert all((np.array(values) != before[name]).any() for name, values in model.parameters().items())
        ends.append([np.array(trainer.history["loss"]), np.array(model.flat_parameters())])
    for host, there in zip(*ends, strict=True):
        helpers.same_bits(there, host)


@pytest.mark.parametrize(("precision", "most"), [("tf32", 1e-2), ("bfloat16", 5e-2)])
@pytest.mark.parametrize("layers", [FUSED, WIDE], ids=["fused", "wide"])
@pytest.mark.cuda
def test_the_curve_but_for_the_rounding_of_factors(
    layers: list[Any], precision: str, most: float, rng: helpers.Generator
) -> None:
    x = rng.standard_normal((200, layers[0].in_features)).astype(np.float32)
    y = rng.integers(0, 8, 200)
    curves = []
    for device, kind in (("cpu", "float32"), ("cuda", precision)):
        model = gd.Sequential(*layers, seed=1, device=device, precision=kind)
        trainer = gd.Trainer(model, gd.CrossEntropy(), optimizer=gd.Adam(3e-3))
        curves.append(np.array(trainer.fit(x, y, epochs=10, batch_size=33)["loss"]))
    assert curves[0][-1] < 0.8 * curves[0][0]
    np.testing.assert_allclose(curves[1], curves[0], rtol=most, atol=most / 10)
    assert (curves[1] != curves[0]).any()
