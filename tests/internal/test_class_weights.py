"""Promise: class weights given by class name or index, or as "balanced", train as the same weights given as a list, to
the last bit; unknown classes are refused, naming class_weights, and change nothing."""

from __future__ import annotations

import copy
import datetime
import pickle
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore import analysis
from sklearn.utils.class_weight import compute_class_weight

pd = pytest.importorskip("pandas")

RNG = np.random.default_rng(3)
X = RNG.standard_normal((60, 4)).astype(np.float32)
Y = np.repeat([0, 1, 2], [40, 15, 5])
NAMES = ("ant", "bee", "cat")
BALANCED = compute_class_weight("balanced", classes=np.arange(3), y=Y).tolist()


def fitted(weights: Any, y: Any = Y, classes: Any = None, optimizer: Any = None, **options: Any) -> gd.Trainer:
    model = gd.Sequential(gd.Dense(4, 5), gd.ReLU(), gd.Dense(5, 3), seed=0, classes=classes)
    loss = gd.CrossEntropy(weights, 0.1)
    trainer = gd.Trainer(model, loss, optimizer=optimizer or gd.Adam(0.01))
    trainer.fit(X, y, epochs=3, **options)
    return trainer


@pytest.mark.parametrize(
    ("given", "numbers", "classes"),
    [
        ({0: 1.0, 1: 5.0}, [1.0, 5.0, 1.0], None),
        ({np.int64(2): 3}, [1.0, 1.0, 3.0], None),
        ({"bee": 2.0, "cat": 0.0}, [1.0, 2.0, 0.0], NAMES),
        ("balanced", BALANCED, None),
        ("balanced", BALANCED, NAMES),
    ],
)
def test_the_same_as_numbers(given: Any, numbers: list[float], classes: Any) -> None:
    y = Y if classes is None else np.asarray(classes)[Y]
    one, other = fitted(given, y, classes), fitted(numbers, y, classes)
    helpers.same_bits(helpers.snapshot(one.model), helpers.snapshot(other.model))
    assert one.evaluate(X, y) == other.evaluate(X, y) and one.step(X, y) == other.step(X, y)
    assert one.loss.class_weights == given


def test_balanced_counts_the_training_rows_only() -> None:
    trainer = fitted("balanced", validation=0.5)
    rows = gd.data.split_rows(60, 0.5, trainer.seed, name="validation")[0]
    classes, counts = np.unique(Y[rows], return_counts=True)
    numbers = [1.0, 1.0, 1.0]
    for label, count in zip(classes, counts, strict=True):
        numbers[label] = len(rows) / (len(classes) * count)
    other = fitted(numbers, validation=0.5)
    helpers.same_bits(helpers.snapshot(trainer.model), helpers.snapshot(other.model))


def test_absent_classes_weigh_one_and_new_labels_are_counted_anew() -> None:
    trainer = fitted("balanced", np.repeat([0, 2], [50, 10]))
    other = fitted([60 / 100, 1.0, 60 / 20], np.repeat([0, 2], [50, 10]))
    helpers.same_bits(helpers.snapshot(trainer.model), helpers.snapshot(other.model))
    trainer.fit(X, Y, epochs=1)
    assert trainer.epoch == 4 and trainer.steps == 4 * 2
    assert trainer.evaluate(X, Y)["loss"] == pytest.approx(
        gd.Trainer(trainer.model, gd.CrossEntropy(BALANCED, 0.1), optimizer=gd.SGD(0.1)).evaluate(X, Y)["loss"]
    )


def test_copies_keep_what_was_counted() -> None:
    trainer = fitted("balanced")
    for other in (copy.deepcopy(trainer), pickle.loads(pickle.dumps(trainer))):
        assert other.evaluate(X, Y) == trainer.evaluate(X, Y)


CLASSES_LATER: dict[str, Any] = {
    "step": lambda trainer, y: (trainer.step(X, y), trainer.step(X, y)),
    "evaluate": lambda trainer, y: trainer.evaluate(X, y),
    "evaluate batches": lambda trainer, y: trainer.evaluate([(X, y)]),
    "fit": lambda trainer, y: trainer.fit(X, y, epochs=2)["loss"],
    "fit batches": lambda trainer, y: trainer.fit([(X, y)], epochs=2, validation=(X, y))["val_loss"],
    "copy": lambda trainer, y: copy.deepcopy(trainer).step(X, y),
    "pickle": lambda trainer, y: pickle.loads(pickle.dumps(trainer)).evaluate(X, y),
}


@pytest.mark.parametrize("call", CLASSES_LATER)
@pytest.mark.parametrize("optimizer", [gd.Adam(0.01), gd.Adam(gd.schedules.cosine(0.01, 100))], ids=["rate", "rates"])
def test_classes_set_later_are_those_that_weights_go_by(call: str, optimizer: Any) -> None:
    def made(classes: Any, weights: Any) -> gd.Trainer:
        model = gd.Sequential(gd.Dense(4, 3), seed=0, classes=classes)
        trainer = gd.Trainer(model, gd.CrossEntropy(weights), optimizer=optimizer)
        trainer.step(X, Y if classes is None else np.asarray(classes)[Y])
        return trainer

    orders: list[tuple[Any, Any, list[float]]] = [
        ([2, 0, 1], [0, 1, 2], [1.0, 5.0, 2.0]),
        ([2, 0, 1], None, [1.0, 5.0, 2.0]),
        (None, [2, 1, 0], [2.0, 5.0, 1.0]),
        (None, ["b", 1, 2], [1.0, 5.0, 2.0]),
    ]
    for before, after, numbers in orders:
        one, other = made(before, {1: 5.0, 2: 2.0}), made(before, {1: 5.0, 2: 2.0})
        one.model.classes = after
        y = Y if after is None else np.array(after, object)[Y] if "b" in after else np.asarray(after)[Y]
        expected = gd.Trainer(other.model, gd.CrossEntropy(numbers), optimizer=optimizer)
        other.model.classes = after
        expected.steps = other.steps
        for name, array in expected.core.state().items():
            array[...] = other.core.state()[name]
        for _ in range(2):
            assert CLASSES_LATER[call](one, y) == CLASSES_LATER[call](expected, y), (before, after)
        helpers.same_bits(helpers.snapshot(one.model), helpers.snapshot(expected.model))
        assert one.steps == expected.steps
        one.model.classes = ["x", "y", "z"]
        state = helpers.snapshot(one.model)
        with pytest.raises(ValueError, match="class_weights: got the class 1"):
            CLASSES_LATER[call](one, np.array(["x", "y", "z"])[Y])
        helpers.same_bits(helpers.snapshot(one.model), state)


def test_classes_set_while_fit_is_at_work() -> None:
    """Classes of equal weight may change; otherwise labels of this epoch and the next would mean other classes."""

    class Sets(gd.Callback):
        def __init__(self, classes: Any) -> None:
            self.classes = classes

        def on_epoch_end(self, trainer: gd.Trainer, logs: Any) -> None:
            trainer.model.classes = self.classes

    for classes in ([0, 1, 2], [2, 1, 0]):
        for data in ({"x": [(X, Y)]}, {"x": X, "y": Y, "validation": [(X, Y)]}):
            trainer = gd.Trainer(
                gd.Sequential(gd.Dense(4, 3), seed=0), gd.CrossEntropy({0: 3.0}), optimizer=gd.SGD(0.1)
            )
            if classes == [0, 1, 2]:
                trainer.fit(**data, epochs=3, callbacks=[Sets(classes)])
                continue
            with pytest.raises(RuntimeError, match="classes: got new ones while fit is running"):
                trainer.fit(**data, epochs=3, callbacks=[Sets(classes)])
            assert trainer.evaluate(X, Y) == trainer.evaluate([(X, Y)])


@pytest.mark.parametrize(
    ("classes", "keys"),
    [
        (NAMES, (b"bee", np.str_("bee"))),
        ([3, 1, 2], (1, 1.0, True, np.int8(1), np.float32(1))),
        (None, (1, 1.0, True, np.uint8(1))),
        (
            [datetime.date(2020, 1, day) for day in (3, 1, 2)],
            (
                datetime.date(2020, 1, 1),
                datetime.datetime(2020, 1, 1),
                np.datetime64("2020-01-01", "ns"),
                pd.Timestamp("2020-01-01"),
            ),
        ),
    ],
)
def test_keys_are_equal_to_classes_as_labels_are(classes: Any, keys: Any) -> None:
    for key in keys:
        trainer = fitted({key: 4.0}, Y if classes is None else np.asarray(classes)[Y], classes)
        other = fitted([1.0, 4.0, 1.0])
        helpers.same_bits(helpers.snapshot(trainer.model), helpers.snapshot(other.model))


@pytest.mark.parametrize("given", [{3: 1.0}, {-1: 1.0}, {"bee": 1.0}, {None: 1.0}, {(): 1.0}])
def test_keys_that_are_no_class(given: Any) -> None:
    model = gd.Sequential(gd.Dense(4, 3), seed=0)
    helpers.refuses(
        lambda: gd.Trainer(model, gd.CrossEntropy(given), optimizer=gd.SGD(0.1)), ValueError, "class_weights"
    )
    assert model.outputs is None


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({0: -1.0}, ValueError),
        ({0: np.nan}, ValueError),
        ({0: "x"}, TypeError),
        ({}, ValueError),
        ("balance", TypeError),
        (b"balanced", TypeError),
        (3, TypeError),
        ({1.0, 2.0}, TypeError),
    ],
)
def test_weights_that_are_none(given: Any, kind: type[Exception]) -> None:
    helpers.refuses(lambda: gd.CrossEntropy(given), kind, "class_weights")


def test_balanced_before_anything_is_counted() -> None:
    model = gd.Sequential(gd.Dense(4, 3), seed=0)
    trainer = gd.Trainer(model, gd.CrossEntropy("balanced"), optimizer=gd.SGD(0.1))
    for call in (
        lambda: trainer.step(X, Y),
        lambda: trainer.evaluate(X, Y),
        lambda: trainer.fit([(X, Y)], epochs=1),
        lambda: trainer.fit(X, np.full((60, 3), 1 / 3), epochs=1),
        lambda: gd._core.Trainer(model, trainer.loss, trainer.optimizer),
        lambda: gd._core.Dataset(X, Y, None, trainer.loss, model),
    ):
        before = helpers.snapshot(model)
        helpers.refuses(call, ValueError, "class_weights")
        helpers.same_bits(helpers.snapshot(model), before)
    assert trainer.steps == 0


CALLS: dict[str, Any] = {
    "lr_range_test": lambda model, loss, y: gd.lr_range_test(model, loss, X, y, steps=3).table(),
    "Objective": lambda model, loss, y: analysis.Objective(model, loss, X, y).value(),
    "gradient": lambda model, loss, y: analysis.gradient(model, loss, X, y).tolist(),
    "hvp": lambda model, loss, y: analysis.hvp(model, loss, X, y, np.ones(27)).tolist(),
    "QuadraticModel": lambda model, loss, y: analysis.QuadraticModel(model, loss, X, y).eigenvalues.tolist(),
    "variance_by_layer": lambda model, loss, y: analysis.variance_by_layer(model, X, loss=loss, y=y).gradient[-1],
    "restarts": lambda model, loss, y: gd.restarts(
        lambda seed: gd.Sequential(gd.Dense(4, 3), seed=seed, classes=model.classes),
        2,
        X,
        y,
        validation=0.25,
        loss=loss,
        optimizer=gd.SGD(0.1),
        epochs=2,
        progress=False,
    ).table()["val_loss"],
}


@pytest.mark.parametrize("call", CALLS)
def test_every_call_that_takes_a_loss_takes_them(call: str) -> None:
    layers = [gd.Dense(4, 3), gd.Tanh(), gd.Dense(3, 3)]
    for given, numbers, classes in (
        ({0: 1.0, 1: 5.0}, [1.0, 5.0, 1.0], None),
        ({"bee": 2.0, "cat": 0.5}, [1.0, 2.0, 0.5], NAMES),
        ("balanced", BALANCED, NAMES),
    ):
        if call == "restarts" and given == "balanced":
            continue  # counts only the training rows
        model = gd.Sequential(*layers, seed=0, dtype="float64", classes=classes)
        y = Y if classes is None else np.asarray(classes)[Y]
        for labels in (y, y[:, None]):
            one, other = (CALLS[call](model, gd.CrossEntropy(each, 0.1), labels) for each in (given, numbers))
            assert one == other
        with pytest.raises(ValueError, match="class_weights"):
            CALLS[call](model, gd.CrossEntropy({"dog": 1.0}), y)
    with pytest.raises(ValueError, match="class_weights"):
        CALLS[call](model, gd.CrossEntropy("balanced"), np.full((60, 3), 1 / 3))
