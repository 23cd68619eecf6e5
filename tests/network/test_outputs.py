"""Promise: a model stores the meaning of its outputs, every copy keeps it, and probabilities and answers follow from
it or are refused."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore import analysis

LOSSES = {"numbers": gd.MeanSquaredError(), "classes": gd.CrossEntropy(), "yes_no": gd.BinaryCrossEntropy()}
PAIRS = [(a, b) for a in LOSSES for b in LOSSES if a != b]


def network(width: int = 3, **settings: Any) -> gd.Sequential:
    return gd.Sequential(gd.Dense(4, width), seed=0, **settings)


def trained(meaning: str, model: gd.Sequential) -> gd.Trainer:
    return gd.Trainer(model, LOSSES[meaning], optimizer=gd.SGD(0.1))


def through_file(model: gd.Sequential, path: Path) -> gd.Sequential:
    model.save(path / "m.safetensors")
    return gd.load(path / "m.safetensors")


def through_checkpoint(model: gd.Sequential, path: Path) -> gd.Sequential:
    trained(str(model.outputs), model).save_checkpoint(path / "c.safetensors")
    return gd.load(path / "c.safetensors")


COPIES: dict[str, Callable[[gd.Sequential, Path], gd.Sequential]] = {
    "copy": lambda model, _: copy.copy(model),
    "deepcopy": lambda model, _: copy.deepcopy(model),
    "pickle": lambda model, _: pickle.loads(pickle.dumps(model)),
    "settings": lambda model, _: gd.Sequential(*model.layers, **model.settings()),
    "file": through_file,
    "checkpoint": through_checkpoint,
    "in_float64": lambda model, _: analysis.in_float64(model),
    "transform_network": lambda model, _: gd.transform_network(model, x_scale=2.0, x_shift=1.0),
}


@pytest.mark.parametrize("meaning", LOSSES)
def test_the_first_loss_says_it(meaning: str) -> None:
    model = network()
    assert model.outputs is None
    trained(meaning, model)
    assert model.outputs == meaning
    trained(meaning, model)  # again


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("meaning", LOSSES)
def test_copies_keep_it(meaning: str, way: str, tmp_path: Path) -> None:
    assert COPIES[way](network(outputs=meaning), tmp_path).outputs == meaning


@pytest.mark.parametrize("way", [way for way in COPIES if way != "checkpoint"])
def test_copies_of_what_is_unknown_are_unknown(way: str, tmp_path: Path) -> None:
    assert COPIES[way](network(), tmp_path).outputs is None


def test_restarts_keep_it(rng: helpers.Generator) -> None:
    x = rng.standard_normal((40, 4))
    result = gd.restarts(
        lambda seed: gd.Sequential(gd.Dense(4, 2), seed=seed),
        2,
        x,
        (x[:, 0] > 0).astype(int),
        validation=0.25,
        loss=gd.CrossEntropy(),
        optimizer=gd.SGD(0.1),
        epochs=1,
        progress=False,
    )
    assert result.best.outputs == "classes"


@pytest.mark.parametrize(("meaning", "other"), PAIRS)
@pytest.mark.parametrize("by", ["argument", "attribute", "loss"])
def test_another_meaning_is_refused(meaning: str, other: str, by: str) -> None:
    model = network(3, outputs=meaning if by == "argument" else None)
    if by == "attribute":
        model.outputs = meaning
    elif by == "loss":
        trained(meaning, model)
    with pytest.raises(ValueError, match=rf"^loss: got .*'{other}'.*'{meaning}'"):
        trained(other, model)
    with pytest.raises(ValueError, match=f"^outputs: got '{other}'"):
        model.outputs = other
    assert model.outputs == meaning


def test_tools_refuse_another_meaning(rng: helpers.Generator) -> None:
    x, y = rng.standard_normal((40, 4)), rng.integers(0, 3, 40)
    model = network(outputs="numbers")
    with pytest.raises(ValueError, match=r"^loss: got CrossEntropy"):
        gd.lr_range_test(model, gd.CrossEntropy(), x, y, optimizer=gd.SGD(0.1))
    with pytest.raises(ValueError, match=r"^loss: got CrossEntropy"):
        gd.restarts(
            lambda seed: gd.Sequential(gd.Dense(4, 3), seed=seed, outputs="numbers"),
            *(2, x, y),
            validation=0.25,
            loss=gd.CrossEntropy(),
            optimizer=gd.SGD(0.1),
            epochs=1,
            progress=False,
        )


def test_a_trainer_that_is_refused_says_nothing() -> None:
    for model, loss, options in (
        (network(1), gd.CrossEntropy(), {}),
        (network(), gd.CrossEntropy([1.0, 2.0]), {}),
        (network(), gd.CrossEntropy(), {"metrics": ["no such"]}),
        (network(), gd.CrossEntropy(), {"seed": -1}),
    ):
        with pytest.raises((ValueError, TypeError)):
            gd.Trainer(model, loss, optimizer=gd.SGD(0.1), **options)
        assert model.outputs is None


@pytest.mark.parametrize("given", ["labels", "", 1, True, ["numbers"], gd.CrossEntropy()])
def test_bad_meanings(given: Any) -> None:
    with pytest.raises(ValueError, match=r"^outputs: got .* expected one of 'numbers', 'counts', 'classes', 'yes_no'"):
        network(outputs=given)
    model = network()
    with pytest.raises(ValueError, match=r"^outputs: got"):
        model.outputs = given
    assert model.outputs is None


def test_what_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"^outputs: .*yes_no"):
        network(1, outputs="classes")
    with pytest.raises(ValueError, match=r"^outputs: .*classes"):
        network(3, outputs="numbers", classes=["a", "b", "c"])
    named = network(classes=["a", "b", "c"])
    with pytest.raises(ValueError, match=r"^loss: .*classes"):
        trained("numbers", named)
    assert named.outputs is None


@pytest.mark.parametrize("method", ["predict_proba", "predict_classes"])
def test_neither_probabilities_nor_classes(method: str) -> None:
    x = np.zeros((2, 4))
    with pytest.raises(ValueError, match=rf"^{method}: outputs: the meaning.*Sequential\(\.\.\., outputs="):
        getattr(network(), method)(x)
    with pytest.raises(ValueError, match=f"^{method}: outputs: .*numbers"):
        getattr(network(3, outputs="numbers"), method)(x)
    late = network()
    late.outputs = "classes"
    getattr(late, method)(x)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_probabilities_and_answers(dtype: str, rng: helpers.Generator) -> None:
    x = 30 * rng.standard_normal((50, 4))
    tolerance = 1e-6 if dtype == "float32" else 1e-14
    for outputs, meaning, expected in (
        (3, "classes", lambda z: np.exp(z - z.max(1)[:, None]) / np.exp(z - z.max(1)[:, None]).sum(1)[:, None]),
        (3, "yes_no", lambda z: 1 / (1 + np.exp(-z))),
        (1, "yes_no", lambda z: np.hstack([1 / (1 + np.exp(z)), 1 / (1 + np.exp(-z))])),
    ):
        model = network(outputs, outputs=meaning, dtype=dtype)
        logits = model.predict(x).astype(np.float64)
        given = model.predict_proba(x)
        assert given.dtype == dtype
        np.testing.assert_allclose(given, expected(logits), rtol=0, atol=tolerance)
        chosen = model.predict_classes(x)
        if (outputs, meaning) == (3, "yes_no"):
            assert chosen.dtype == bool and chosen.shape == (50, 3) and (chosen == (logits > 0)).all()
        else:
            assert chosen.dtype == np.int64 and chosen.shape == (50,) and (chosen == given.argmax(1)).all()


@pytest.mark.parametrize("method", ["predict_proba", "predict_classes"])
@pytest.mark.parametrize("meaning", ["classes", "yes_no"])
@pytest.mark.parametrize("cause", ["inputs", "weights"])
def test_outputs_that_are_not_finite_are_no_class(method: str, meaning: str, cause: str) -> None:
    """Finite inputs may overflow in the network, and weights may be NaN: then no class is the most probable."""
    model = gd.Sequential(gd.Dense(3, 8), gd.ReLU(), gd.Dense(8, 3), seed=0, outputs=meaning, device="cpu")
    x = np.ones((5, 3), np.float32)
    if cause == "inputs":
        x[2] = 3e38
    else:
        model.parameters()["layers.2.bias"][1] = np.nan
    row, output = (2, 0) if cause == "inputs" else (0, 1)
    with pytest.raises(ValueError, match=rf"^{method}: output {output} of row {row} is "):
        getattr(model, method)(x)
    with np.errstate(all="ignore"):
        assert len(getattr(model, method)(x, check_finite=False)) == 5


def test_huge_logits_give_no_warning() -> None:
    model = network(2, outputs="yes_no")
    model.parameters()["layers.0.weight"][...] = [[1e30] * 4, [-1e30] * 4]
    np.testing.assert_array_equal(model.predict_proba(np.ones((1, 4))), [[1.0, 0.0]])


def test_names() -> None:
    x = np.eye(4)
    answers = network(3, outputs="yes_no", classes=["red", "round", "ripe"])
    assert answers.predict_classes(x).dtype == bool and answers.classes == ("red", "round", "ripe")
    one = network(1, outputs="yes_no", classes=["no", "yes"])
    assert set(one.predict_classes(x)) <= {"no", "yes"}
    mixed = network(2, outputs="classes", classes=["a", 1])
    assert set(mixed.predict_classes(x)) <= {"a", 1}


def test_units_are_of_numbers() -> None:
    for meaning in ("classes", "yes_no"):
        with pytest.raises(ValueError, match=r"^y_scale"):
            gd.transform_network(network(3, outputs=meaning), y_scale=2.0)
