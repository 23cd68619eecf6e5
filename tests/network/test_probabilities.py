"""Promise: probabilities are those of float64 formulas, at any magnitude of the outputs and any number of classes."""

from __future__ import annotations

from typing import Any

import gdcore as gd
import numpy as np
import pytest


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def logistic(z: np.ndarray) -> np.ndarray:
    smaller = np.exp(-np.abs(z))
    return np.where(z < 0, smaller, 1.0) / (1.0 + smaller)


EXPECTED = {
    "classes": softmax,
    "yes": logistic,
    "no_and_yes": lambda z: np.hstack([logistic(-z), logistic(z)]),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 1e4])
@pytest.mark.parametrize(
    ("rows", "columns"), [(1, 1), (1, 3), (7, 2), (33, 10), (1000, 3), (3, 1024), (5, 1025), (2, 5000)]
)
def test_the_formulas(rows: int, columns: int, scale: float, dtype: Any, rng: Any) -> None:
    logits = (scale * rng.standard_normal((rows, columns))).astype(dtype)
    given = logits.copy()
    for meaning, formula in EXPECTED.items():
        if meaning == "no_and_yes" and columns > 1:
            continue
        found = gd._core.probabilities(given, meaning, True)
        assert found is not None and found.dtype == dtype
        expected = formula(logits.astype(np.float64))
        least = 2 * np.finfo(dtype).tiny  # smaller values may become zero
        np.testing.assert_allclose(found, expected, rtol=1e-6 if dtype == "float32" else 1e-14, atol=least)
        np.testing.assert_array_equal(given, logits)
    np.testing.assert_allclose(gd._core.probabilities(given, "classes", False).sum(axis=1), 1.0, atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("outputs", ["classes", "yes_no"])
def test_outputs_that_are_not_finite_are_refused(outputs: str, value: float) -> None:
    model = gd.Sequential(gd.Dense(2, 3), seed=0, outputs=outputs)
    x = np.ones((4, 2), np.float32)
    model.parameters()["layers.0.bias"][1] = value
    for call in (model.predict_proba, model.predict_classes):
        with pytest.raises(ValueError, match=f"{call.__name__}: output 1 of row 0 is"):
            call(x)
        call(x, check_finite=False)


def test_refused() -> None:
    with pytest.raises(ValueError, match="meaning: got"):
        gd._core.probabilities(np.ones((2, 2), np.float32), "numbers", True)
    with pytest.raises(ValueError, match="logits: got 2 columns"):
        gd._core.probabilities(np.ones((2, 2), np.float32), "no_and_yes", True)
    with pytest.raises(TypeError, match="logits: got dtype int64"):
        gd._core.probabilities(np.ones((2, 2), np.int64), "classes", True)
