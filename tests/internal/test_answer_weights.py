"""Promise: class weights of yes/no answers, as numbers, by class or "balanced", weigh rows as those of two classes do;
they last through copies, checkpoints and resumed runs, and what does not fit is refused by name."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore import analysis
from sklearn.utils.class_weight import compute_class_weight

RNG = np.random.default_rng(3)
X = RNG.standard_normal((60, 4))
Y = np.repeat([0, 1], [45, 15])
SEVERAL = np.stack([Y, np.roll(Y, 7) * (RNG.random(60) < 0.5), np.zeros(60, int)], axis=1)
NAMES = ("no", "yes")


def fitted(weights: Any, y: Any = Y, *, classes: Any = None, outputs: int = 1, gamma: float = 0.0) -> gd.Trainer:
    model = gd.Sequential(gd.Dense(4, 5), gd.SELU(), gd.Dense(5, outputs), seed=0, dtype="float64", classes=classes)
    loss = gd.BinaryCrossEntropy(class_weights=weights, gamma=gamma)
    trainer = gd.Trainer(model, loss, optimizer=gd.Adam(0.01))
    trainer.fit(X, y, epochs=3, batch_size=20)
    return trainer


def balance(y: np.ndarray) -> list[float]:
    return compute_class_weight("balanced", classes=np.arange(2), y=y).tolist()


@pytest.mark.parametrize("gamma", [0.0, 2.0])
@pytest.mark.parametrize(
    ("given", "numbers", "classes"),
    [
        ({1: 5.0}, [1.0, 5.0], None),
        ({True: 5.0, False: 2.0}, [2.0, 5.0], None),
        ({"yes": 2.0}, [1.0, 2.0], NAMES),
        ("balanced", balance(Y), None),
        ("balanced", balance(Y), NAMES),
    ],
)
def test_the_same_as_numbers(given: Any, numbers: list[float], classes: Any, gamma: float) -> None:
    y = Y if classes is None else np.asarray(classes)[Y]
    one = fitted(given, y, classes=classes, gamma=gamma)
    other = fitted(numbers, y, classes=classes, gamma=gamma)
    helpers.same_bits(helpers.snapshot(one.model), helpers.snapshot(other.model))
    assert one.evaluate(X, y) == other.evaluate(X, y) and one.step(X, y) == other.step(X, y)
    assert one.loss.class_weights == given


def test_each_of_several_answers_is_balanced_by_itself() -> None:
    numbers = [*balance(SEVERAL[:, 0]), *balance(SEVERAL[:, 1]), 1.0, 1.0]
    one, other = fitted("balanced", SEVERAL, outputs=3), fitted(numbers, SEVERAL, outputs=3)
    helpers.same_bits(helpers.snapshot(one.model), helpers.snapshot(other.model))


@pytest.mark.parametrize("gamma", [0.0, 1.5])
def test_one_answer_is_two_classes(gamma: float, device: str) -> None:
    """Logits 0 and z have the probabilities of an answer with logit z: the same loss, and gradient, in every batch."""
    for weights, scale in (([0.5, 4.0], 1.0), ([5.0, 40.0], 10.0)):
        z = RNG.standard_normal((60, 1))
        two = np.concatenate([np.zeros((60, 1)), z], axis=1)
        grads = [np.empty_like(z), np.empty_like(two)]
        s = RNG.uniform(0.5, 2.0, 60)
        compute = gd._core.ops.loss
        one = compute(
            gd.BinaryCrossEntropy(class_weights=weights, gamma=gamma), z, Y[:, None] * 1.0, s, grads[0], device=device
        )
        other = compute(gd.CrossEntropy(weights, gamma=gamma), two, Y.astype(np.int32), s, grads[1], device=device)
        np.testing.assert_allclose(one, other, rtol=1e-12)
        np.testing.assert_allclose(grads[0][:, 0], grads[1][:, 1], rtol=1e-10, atol=1e-15)
        assert one[1] == pytest.approx(scale * (s * np.where(Y == 1, 4.0, 0.5)).sum())


def test_only_ratios_of_weights_matter() -> None:
    one, other = fitted([0.5, 4.0]), fitted([5.0, 40.0])
    np.testing.assert_allclose(one.model.flat_parameters(), other.model.flat_parameters(), rtol=1e-9)


def test_copies_checkpoints_and_resumed_runs_keep_what_was_counted(tmp_path: Path) -> None:
    trainer = fitted("balanced")
    for other in (copy.deepcopy(trainer), pickle.loads(pickle.dumps(trainer))):
        assert other.evaluate(X, Y) == trainer.evaluate(X, Y)
    trainer.save_checkpoint(tmp_path / "c.safetensors")
    model = gd.Sequential(gd.Dense(4, 5), gd.SELU(), gd.Dense(5, 1), seed=0, dtype="float64")
    other = gd.Trainer(model, gd.BinaryCrossEntropy(class_weights="balanced"), optimizer=gd.Adam(0.01))
    other.load_checkpoint(tmp_path / "c.safetensors")
    assert other.evaluate(X, Y) == trainer.evaluate(X, Y) and other.step(X, Y) == trainer.step(X, Y)


CALLS: dict[str, Any] = {
    "lr_range_test": lambda model, loss, y: gd.lr_range_test(model, loss, X, y, steps=3).table(),
    "Objective": lambda model, loss, y: analysis.Objective(model, loss, X, y).value(),
    "hvp": lambda model, loss, y: analysis.hvp(model, loss, X, y, np.ones(31)).tolist(),
}


@pytest.mark.parametrize("call", CALLS)
def test_calls_that_take_a_loss_take_them(call: str) -> None:
    model = gd.Sequential(gd.Dense(4, 5), gd.Tanh(), gd.Dense(5, 1), seed=0, dtype="float64")
    for given, numbers in (({1: 3.0}, [1.0, 3.0]), ("balanced", balance(Y))):
        one, other = (CALLS[call](model, gd.BinaryCrossEntropy(class_weights=w), Y) for w in (given, numbers))
        assert one == other
    for gamma in (0.0, 2.0):
        plain = analysis.gradient_noise(model, gd.BinaryCrossEntropy(gamma=gamma), X, Y, batch_sizes=(1, 5))
        assert plain is not None


REFUSED: dict[str, tuple[Any, str]] = {
    "unknown class": (lambda: fitted({2: 1.0}), r"class_weights: got the class 2; expected some of \[0, 1\]"),
    "unknown name": (
        lambda: fitted({"maybe": 1.0}, np.asarray(NAMES)[Y], classes=NAMES),
        r"class_weights: got the class 'maybe'; expected some of \['no', 'yes'\]",
    ),
    "a dict for several": (lambda: fitted({0: 2.0}, SEVERAL, outputs=3), "class_weights: got a dict .* 3 yes/no"),
    "numbers for another width": (lambda: fitted([1.0] * 4, SEVERAL, outputs=3), "class_weights: got 4 numbers"),
    "only zeros": (lambda: fitted({0: 0.0, 1: 0.0}), "class_weights: got only zeros"),
    "balanced shares": (lambda: fitted("balanced", Y * 0.5), "class_weights: got 'balanced' for targets between"),
    "no weight in the data": (lambda: fitted([1.0, 0.0], np.ones(60)), "class_weights of the targets y: got the sum 0"),
    "focal loss of soft targets": (
        lambda: gd.Trainer(gd.Sequential(gd.Dense(4, 3)), gd.CrossEntropy(gamma=2.0), optimizer=gd.SGD(0.1)).step(
            X, np.full((60, 3), 1 / 3)
        ),
        r"\[CrossEntropy\] gamma: got 2 for soft targets; expected labels",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    call, word = REFUSED[case]
    helpers.refuses(call, ValueError, word)
