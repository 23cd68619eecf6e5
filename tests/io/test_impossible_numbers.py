"""Promise: values that training cannot produce (variances below 0, a deviation of 0 as divisor, sums of squares below
0) are refused by the entry's name, from a mapping, PyTorch, a copied state or a file, and nothing is changed then;
values that a run can produce are accepted, such as NaN in averages and a scaling that float32 rounds to 0."""

from __future__ import annotations

import copy
import io
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from damaged_cases import ALL, METADATA, TENSORS, X, Y, make, refusals, written

RUNNING = {"std": "running_std", "variance": "running_variance"}


def model(running: str = "std", dtype: str = "float32") -> gd.Sequential:
    scaling = gd.Standardizer(mean=[1.0, 2.0], std=[3.0, 4.0])
    layers = (scaling, gd.Dense(2, 3), gd.BatchNorm(3, running=running), gd.Dense(3, 2))
    return gd.Sequential(*layers, seed=0, dtype=dtype)


def named(made: gd.Sequential) -> dict[str, np.ndarray]:
    return helpers.copies({**made.parameters(), **made.buffers()})


# impossible values by buffer; 1e-60 is 0 in float32
BAD = [
    *[("layers.0.std", value) for value in (0.0, -0.0, -1.0, np.nan, np.inf, 1e-60, -1e-60)],
    *[(f"layers.2.{name}", value) for name in RUNNING.values() for value in (-1.0, -1e-30, np.nan, -np.inf)],
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_parameters_by_name(name: str, value: float) -> None:
    made = model("variance" if name.endswith("variance") else "std")
    given, before = {key: array.astype(np.float64) for key, array in named(made).items()}, helpers.snapshot(made)
    given[name][1] = value
    for call in (
        lambda: made.load_parameters(given),
        lambda: made.load_parameters({f"old.{key}": array for key, array in given.items()}, prefix="old."),
        lambda: made.load_parameters(given, only=[name]),
        lambda: made.load_parameters(given, strict=False),
    ):
        helpers.refuses(call, ValueError, rf"^source\['{name}'\]: got .* at \[1\]")
        helpers.same_bits(helpers.snapshot(made), before)


def test_a_variance_of_0_is_one() -> None:
    for running, name in RUNNING.items():
        made = model(running)
        made.load_parameters({f"layers.2.{name}": np.zeros(3)}, only=[f"layers.2.{name}"])
        assert not made.buffers()[f"layers.2.{name}"].any() and np.isfinite(made.predict(np.ones((2, 2)))).all()


@pytest.mark.torch
@pytest.mark.parametrize("running", RUNNING)
def test_variances_of_pytorch(running: str) -> None:
    pytest.importorskip("torch")
    made = model(running)
    before = helpers.snapshot(made)
    for name, values in (("0.running_var", (0.0, -1.0, np.nan)), ("2.running_var", (-1.0, np.nan))):
        for value in values:
            state = made.to_torch()
            state[name][1] = value
            helpers.refuses(lambda state=state: made.from_torch(state), ValueError, r"^source\['")
            helpers.same_bits(helpers.snapshot(made), before)
            if value == value:
                helpers.refuses(lambda state=state: made.from_torch(state), ValueError, rf"^source\['{name}'\]")


# ---------------------------------------------------------------------------------------------------- copied states
STATES: dict[str, tuple[Any, type[Exception], str]] = {
    "list": (lambda state: {**state, "parameters": state["parameters"].tolist()}, TypeError, "parameters"),
    "list of buffers": (lambda state: {**state, "buffers": state["buffers"].tolist()}, TypeError, "buffers"),
    "list of shapes": (lambda state: {**state, "shapes": state["shapes"].tolist()}, TypeError, "shapes"),
    "objects": (lambda state: {**state, "buffers": state["buffers"].astype(object)}, TypeError, "buffers"),
    "text": (lambda state: {**state, "buffers": state["buffers"].astype(str)}, TypeError, "buffers"),
    "complex": (lambda state: {**state, "parameters": state["parameters"] + 1j}, TypeError, "parameters"),
    "booleans": (lambda state: {**state, "buffers": state["buffers"] > 0}, TypeError, "buffers"),
    "too large": (
        lambda state: {**state, "parameters": with_last(state["parameters"], 1e39)},
        ValueError,
        "parameters",
    ),
    "too large later": (lambda state: {**state, "buffers": with_last(state["buffers"], 1e39)}, ValueError, "buffers"),
    "negative deviation": (
        lambda state: {**state, "buffers": with_last(state["buffers"], -1.0)},
        ValueError,
        "buffers",
    ),
    "no scaling": (lambda state: {**state, "buffers": state["buffers"] * 0}, ValueError, "layers.0.std"),
    "number": (lambda state: 3, TypeError, "state"),
    "missing": (lambda state: {name: state[name] for name in ("parameters", "shapes")}, ValueError, "buffers"),
}


def with_last(vector: np.ndarray, value: float) -> np.ndarray:
    out = vector.astype(np.float64)
    out[-1] = value
    return out


@pytest.mark.parametrize("name", STATES)
def test_states(name: str) -> None:
    change, kind, word = STATES[name]
    made, other = model(), model()
    other.initialize(5)
    before = helpers.snapshot(made)
    helpers.refuses(lambda: made.restore_state(change(other.copy_state())), kind, rf"^state.*{word}")
    helpers.same_bits(helpers.snapshot(made), before)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.uint16])
def test_states_of_other_numbers(dtype: Any) -> None:
    for own in ("float32", "float64"):
        made = model(dtype=own)
        state = {
            name: np.round(np.abs(a) + 1).astype(dtype) for name, a in made.copy_state().items() if name != "shapes"
        }
        made.restore_state({**state, "shapes": made.copy_state()["shapes"]})
        helpers.same_bits(made.copy_state()["parameters"], state["parameters"].astype(own))


# ---------------------------------------------------------------------------------------------------- files
def changed(name: str, value: float, place: int = 1) -> dict[str, np.ndarray]:
    array = TENSORS[name].copy()
    array.reshape(-1)[place] = value
    return {**TENSORS, name: array}


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, -np.inf])
def test_files_without_a_scaling(value: float) -> None:
    data = written(changed("layers.0.std", value), METADATA)
    assert refusals(data) == ALL
    with pytest.raises(gd.FormatError, match=r"layers\.0\.std: got .* at \[1\]; expected numbers above 0"):
        gd.load(io.BytesIO(data))


def test_files_with_a_negative_deviation() -> None:
    assert refusals(written(changed("layers.2.running_std", -1e-30), METADATA)) == ALL


def test_checkpoints_with_negative_squares() -> None:
    for name in TENSORS:
        if name.startswith("training.optimizer.1."):  # Adam's averages of squares
            data = written(changed(name, -1e-30, place=0), METADATA)
            assert refusals(data) == ALL[1:], name
            with pytest.raises(gd.FormatError, match=rf"{name}: got "):
                make().load_checkpoint(io.BytesIO(data))


def test_best_weights_without_a_scaling() -> None:
    """The state of EarlyStopping holds all buffers in one vector, of which the scaling is the first part."""
    vector = next(name for name in TENSORS if name.endswith(".buffers"))
    for place, value in ((3, 0.0), (3, -1.0), (3, np.nan), (len(TENSORS[vector]) - 1, -1.0)):
        assert refusals(written(changed(vector, value, place), METADATA)) == ["resume"]


@pytest.mark.parametrize(
    ("optimizer", "squares"),
    [(gd.SGD(0.1), ()), (gd.Momentum(0.1), ()), (gd.AdaGrad(0.1), "0"), (gd.RMSProp(0.1), "0"), (gd.Adam(0.1), "1")],
    ids=lambda value: type(value).__name__,
)
def test_which_states_are_squares(optimizer: gd.Optimizer, squares: Any) -> None:
    trainer = gd.Trainer(make().model, gd.CrossEntropy(), optimizer=optimizer)
    trainer.fit(X, Y, epochs=2)
    names = trainer.core._squares()
    assert set(names) == {name for name in trainer.core.state() if name[0] in squares}
    assert all((np.asarray(trainer.core.state()[name]) >= 0).all() for name in names)


# ---------------------------------------------------------------------------------------------------- what is taken
def test_a_run_that_diverged_is_kept() -> None:
    """NaN and infinities in weights, averages and states of the optimiser are restored from copies and files."""
    trainer = make()
    trainer.fit(X, Y, epochs=1)
    arrays = {**trainer.model.parameters(), **trainer.model.buffers(), **trainer.core.state()}
    for name, array in arrays.items():
        if not name.startswith("layers.0."):
            array[...] = np.nan
    for array in trainer.core.state().values():
        array[...] = np.inf
    file = io.BytesIO()
    trainer.save_checkpoint(file)
    file.seek(0)
    again = make(seed=3)
    again.load_checkpoint(file)
    restored = make(seed=4).model
    restored.restore_state(trainer.model.copy_state())
    for other in (again.model, copy.deepcopy(trainer).model, copy.copy(trainer.model), restored):
        helpers.same_bits(helpers.snapshot(other), helpers.snapshot(trainer.model))


def test_a_scaling_that_the_dtype_rounds_to_0_is_kept() -> None:
    """The data is refused then, with advice in the message; the file is as valid as the model."""
    made = gd.Sequential(gd.Standardizer(mean=[0.0], std=[1e-60]), gd.Dense(1, 1), seed=0)
    assert made.buffers()["layers.0.std"][0] == 0.0
    file = io.BytesIO()
    made.save(file)
    file.seek(0)
    for other in (gd.load(file), copy.deepcopy(made)):
        helpers.same_bits(helpers.snapshot(other), helpers.snapshot(made))
        other.restore_state(made.copy_state())
        helpers.refuses(lambda other=other: other.predict(np.ones((1, 1))), ValueError, "Standardizer")


def test_copies_hold_what_the_original_does() -> None:
    made = model()
    made.buffers()["layers.2.running_std"][0] = -1.0  # by hand
    helpers.same_bits(helpers.snapshot(copy.deepcopy(made)), helpers.snapshot(made))
