"""Promise: a custom loss trains as a built-in one with the same formula, with weights, labels, callbacks, checkpoints
and second derivatives; the values that its function returns are checked, and its gradient on request."""

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

N, K = 37, 3


def squares(y: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the formula of MeanSquaredError."""
    return np.mean((y - t) ** 2, axis=1), 2 * (y - t) / y.shape[1]


def squares_hvp(y: np.ndarray, t: np.ndarray, direction: np.ndarray) -> np.ndarray:
    return 2 * direction / y.shape[1]


def softmax(y: np.ndarray) -> np.ndarray:
    e = np.exp(y - y.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def cross_entropy(y: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the formula of CrossEntropy for class numbers."""
    assert t.dtype == np.int64 and t.shape == (len(y),)
    p, rows = softmax(y.astype(np.float64)), np.arange(len(y))
    gradient = p.copy()
    gradient[rows, t] -= 1
    return -np.log(p[rows, t]), gradient


def cross_entropy_hvp(y: np.ndarray, t: np.ndarray, direction: np.ndarray) -> np.ndarray:
    p = softmax(y)
    return p * direction - p * (p * direction).sum(axis=1, keepdims=True)


OWN: dict[str, tuple[gd.CustomLoss, gd.Loss]] = {
    "numbers": (
        gd.CustomLoss(squares, outputs="numbers", hvp=squares_hvp, check_gradient=True),
        gd.MeanSquaredError(),
    ),
    "classes": (
        gd.CustomLoss(cross_entropy, outputs="classes", hvp=cross_entropy_hvp, check_gradient=True),
        gd.CrossEntropy(),
    ),
}
KINDS = pytest.mark.parametrize("kind", OWN)
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])


def data(kind: str, dtype: str = "float64") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((N, 4)).astype(dtype)
    y = rng.integers(0, K, N) if kind == "classes" else rng.standard_normal((N, K)).astype(dtype)
    return x, y, rng.uniform(0, 2, N) * (rng.random(N) > 0.2)


def network(dtype: str = "float64", device: str = "cpu", **settings: Any) -> gd.Sequential:
    return gd.Sequential(
        gd.Dense(4, 8), gd.Tanh(), gd.Dropout(0.1), gd.Dense(8, K), dtype=dtype, device=device, seed=1, **settings
    )


def trainer_of(loss: gd.Loss, *where: str, **settings: Any) -> gd.Trainer:
    return gd.Trainer(network(*where), loss, optimizer=gd.Adam(lr=0.01), seed=3, **settings)


@DTYPES
@KINDS
@pytest.mark.parametrize("weighted", [False, True])
def test_it_trains_as_the_built_in_one(kind: str, dtype: str, weighted: bool, device: str) -> None:
    x, y, weights = data(kind, dtype)
    own, known = (trainer_of(loss, dtype, device) for loss in OWN[kind])
    settings = {"sample_weight": weights if weighted else None, "epochs": 5, "batch_size": 8, "validation": 0.25}
    histories = [trainer.fit(x, y, **settings) for trainer in (own, known)]
    tolerance = 1e-4 if dtype == "float32" else 1e-10
    for column in ("loss", "val_loss"):
        np.testing.assert_allclose(*(history[column] for history in histories), rtol=tolerance)
    np.testing.assert_allclose(
        own.model.flat_parameters(), known.model.flat_parameters(), rtol=0, atol=tolerance * np.sqrt(own.steps)
    )
    given = (x, y, weights if weighted else None)
    assert own.step(*given) == pytest.approx(known.step(*given), rel=tolerance)
    assert own.evaluate(*given[:2])["loss"] == pytest.approx(known.evaluate(*given[:2])["loss"], rel=tolerance)
    assert own.model.outputs == known.model.outputs == kind


@KINDS
def test_the_same_seed_gives_the_same_bits(kind: str, device: str) -> None:
    x, y, weights = data(kind)
    runs = []
    for _ in range(2):
        trainer = trainer_of(OWN[kind][0], "float32", device)
        trainer.fit(x, y, sample_weight=weights, epochs=3, batch_size=7)
        runs.append(trainer.model.flat_parameters())
    helpers.same_bits(*runs)


def test_targets_may_have_columns_of_their_own(device: str) -> None:
    """The number of targets is neither 1 nor that of the outputs: here values and their certainty."""
    seen = []

    def certain(y: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen.append((y.dtype, t.dtype, t.shape[1]))
        losses, gradient = squares(y, t[:, :1])
        return losses * t[:, 1], gradient * t[:, 1:]

    x, y, _ = data("numbers")
    trainer = trainer_of(gd.CustomLoss(certain), "float32", device)
    trainer.fit(x, np.stack([y[:, 0], np.full(N, 0.5)], axis=1), epochs=2, batch_size=8)
    assert set(seen) == {(np.dtype("float32"), np.dtype("float32"), 2)}
    assert trainer.model.outputs is None


def test_one_column_of_targets_stays_a_column() -> None:
    """As a vector (N,) it would be broadcast over the outputs of (N, K)."""

    def absolute(y: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert t.shape == (len(y), 1)
        return np.abs(y - t).sum(axis=1), np.sign(y - t)

    x, y, _ = data("numbers")
    trainer = trainer_of(gd.CustomLoss(absolute))
    before = trainer.evaluate(x, y[:, 0])["loss"]
    trainer.fit(x, y[:, 0], epochs=30, batch_size=8)
    assert trainer.evaluate(x, y[:, 0])["loss"] < 0.8 * before


def test_class_names_are_looked_up() -> None:
    x, y, _ = data("classes")
    names = np.array(["no", "perhaps", "yes"])
    model = network(classes=list(names))
    trainer = gd.Trainer(model, OWN["classes"][0], optimizer=gd.Adam(0.05), metrics=["accuracy"])
    history = trainer.fit(x, names[y], epochs=60, batch_size=8)
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert set(model.predict_classes(x)) <= set(names)
    assert model.predict_proba(x).shape == (N, K)
    assert trainer.evaluate(x, names[y])["accuracy"] > 0.6


def test_the_function_may_keep_and_change_what_it_is_given(device: str) -> None:
    kept = []

    def greedy(y: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        answer = squares(y, t)
        kept.append((y, t))
        y[...], t[...] = np.nan, np.nan
        return answer

    x, y, _ = data("numbers")
    tidy, other = (trainer_of(gd.CustomLoss(f), "float64", device) for f in (squares, greedy))
    for trainer in (tidy, other):
        trainer.fit(x, y, epochs=2, batch_size=8)
    helpers.same_bits(tidy.model.flat_parameters(), other.model.flat_parameters())
    assert all(np.isnan(array).all() for pair in kept for array in pair)


@pytest.mark.parametrize("name", ["mine", None])
def test_a_run_goes_on_from_its_checkpoint(tmp_path: Path, name: str | None, device: str) -> None:
    """The name and the functions must be the same."""
    path, (x, y, _) = tmp_path / "run.safetensors", data("numbers")

    def run(function: Callable[..., Any], epochs: int, name: str | None, **more: Any) -> gd.Trainer:
        trainer = trainer_of(gd.CustomLoss(function, name=name, outputs="numbers"), "float32", device)
        trainer.fit(x, y, epochs=epochs, batch_size=8, **more)
        return trainer

    straight = run(squares, 4, name)
    run(squares, 2, name, callbacks=[gd.Checkpoint(path)])
    trainer = trainer_of(gd.CustomLoss(squares, name=name, outputs="numbers"), "float32", device)
    trainer.load_checkpoint(path)
    trainer.fit(x, y, epochs=2, batch_size=8)
    helpers.same_bits(trainer.model.flat_parameters(), straight.model.flat_parameters())

    def another(y: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return squares(y, t)

    changes: list[tuple[dict[str, Any], str]] = [
        ({"function": squares, "name": "other"}, f"loss.name: saved '{name or 'squares'}', now 'other'"),
        ({"function": another, "name": name or "squares"}, r"loss.function: saved function.*now function"),
        ({"function": squares, "name": name, "hvp": squares_hvp}, r"loss.hvp: saved None, now function"),
    ]
    for given, words in changes:
        other = trainer_of(gd.CustomLoss(**given, outputs="numbers"), "float32", device)
        before = helpers.snapshot(other.model, other)
        helpers.refuses(lambda t=other: t.load_checkpoint(path), ValueError, words)
        helpers.refuses(lambda t=other: t.fit(x, y, epochs=1, batch_size=8, resume=path), ValueError, words)
        helpers.same_bits(before, helpers.snapshot(other.model, other))


def test_a_function_that_cannot_be_compared_is_refused_before_training(tmp_path: Path) -> None:
    x, y, _ = data("numbers")
    weights = (1.0 for _ in range(100))
    loss = gd.CustomLoss(lambda y, t: [next(weights) * part for part in squares(y, t)])
    trainer = trainer_of(loss)
    call = lambda: trainer.fit(x, y, epochs=1, callbacks=[gd.Checkpoint(tmp_path / "c")])  # noqa: E731
    helpers.refuses(call, TypeError, "^loss: .*generator")
    assert trainer.steps == 0


def test_copies_and_pickles_are_equal() -> None:
    loss = OWN["numbers"][0]
    for made in (copy.copy(loss), copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert made == loss and hash(made) == hash(loss) and made.function is squares and made.hvp is squares_hvp
    assert loss != gd.CustomLoss(squares, outputs="numbers") != gd.CustomLoss(squares)
    assert repr(gd.CustomLoss(squares, name="mine")) == "CustomLoss(squares, name='mine')"
    x, y, _ = data("numbers")
    trainer = trainer_of(loss)
    trainer.fit(x, y, epochs=1, batch_size=8)
    clone = copy.deepcopy(trainer)
    for each in (trainer, clone):
        each.fit(x, y, epochs=1, batch_size=8)
    helpers.same_bits(trainer.model.flat_parameters(), clone.model.flat_parameters())
    helpers.refuses(lambda: setattr(loss, "name", "x"), AttributeError, "stays as it was made")


@KINDS
def test_analysis_takes_its_second_derivatives(kind: str) -> None:
    x, y, weights = data(kind)
    own, known = (
        analysis.Objective(network(), loss, x, y, mode="prediction", sample_weight=weights) for loss in OWN[kind]
    )
    v = np.random.default_rng(0).standard_normal(own.size)
    np.testing.assert_allclose(own.gradient(), known.gradient(), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(own.hvp(v), known.hvp(v), rtol=1e-11, atol=1e-13)


def test_analysis_without_products_is_refused() -> None:
    x, y, _ = data("numbers")
    objective = analysis.Objective(network(), gd.CustomLoss(squares, name="mine"), x, y)
    assert np.isfinite(objective.gradient()).all()
    helpers.refuses(lambda: objective.hvp(np.ones(objective.size)), ValueError, "'mine'.*hvp=")


def returns(losses: Any, gradient: Any) -> Callable[..., Any]:
    return lambda y, t: (losses(y), gradient(y))


BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "one array": (lambda y, t: np.zeros(len(y)), TypeError, "two arrays"),
    "mean": (returns(np.mean, np.zeros_like), ValueError, r"losses: got shape \(\).*not their sum or mean"),
    "losses of outputs": (
        returns(np.square, np.zeros_like),
        ValueError,
        r"losses: got shape \(8, 3\); expected \(8,\)",
    ),
    "gradient of rows": (
        returns(lambda y: y[:, 0], lambda y: y[:, 0]),
        ValueError,
        r"gradient: got shape \(8,\); expected \(8, 3\)",
    ),
    "NaN": (returns(lambda y: y[:, 0] * np.nan, np.zeros_like), ValueError, "losses: got nan in row 0.*finite"),
    "infinite gradient": (
        returns(lambda y: y[:, 0], lambda y: np.full(y.shape, 1e300)),
        ValueError,
        "gradient: got inf in row 0, output 0, in float32",
    ),
    "text": (returns(lambda y: ["a"] * len(y), np.zeros_like), TypeError, "losses"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("call", ["fit", "step", "evaluate"])
def test_what_it_returns_is_checked(case: str, call: str, device: str) -> None:
    function, error, message = BAD[case]
    x, y, _ = data("numbers")
    trainer = trainer_of(gd.CustomLoss(function, name="mine"), "float32", device)
    before = helpers.snapshot(trainer.model, trainer)
    keywords = {"fit": {"epochs": 1, "batch_size": 8}, "step": {}, "evaluate": {"batch_size": 8}}[call]
    rows = slice(0, 8) if call == "step" else slice(None)
    if case == "infinite gradient" and call == "evaluate":
        pytest.skip("measuring takes no gradient")
    helpers.refuses(lambda: getattr(trainer, call)(x[rows], y[rows], **keywords), error, f"'mine': .*{message}")
    helpers.same_bits(before, helpers.snapshot(trainer.model, trainer))


def test_errors_of_the_function_come_through() -> None:
    def breaks(y: np.ndarray, t: np.ndarray) -> Any:
        raise KeyError("of my own")

    x, y, _ = data("numbers")
    trainer = trainer_of(gd.CustomLoss(breaks))
    with pytest.raises(KeyError, match="of my own"):
        trainer.fit(x, y, epochs=1, batch_size=8)
    assert trainer.steps == 0
    trainer = trainer_of(gd.CustomLoss(squares))
    trainer.fit(x, y, epochs=1, batch_size=8)  # other losses work as usual


@pytest.mark.parametrize("lr", [1e12, 1e30])
def test_a_run_that_diverges_says_so(lr: float, device: str) -> None:
    """The losses become infinite before the outputs do, or the outputs first."""

    def large(y: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with np.errstate(over="ignore", invalid="ignore"):
            return squares(y, t)

    x, y, _ = data("numbers")
    trainer = gd.Trainer(network("float32", device), gd.CustomLoss(large), optimizer=gd.SGD(lr))
    with pytest.raises(gd.DivergenceError, match="step"):
        trainer.fit(x, y, epochs=5, batch_size=8)
    assert all(np.isfinite(array).all() for array in trainer.model.parameters().values())


@pytest.mark.parametrize("factor", [1 / N, 1.01, -1.0], ids=["divided by rows", "one percent off", "wrong sign"])
def test_a_wrong_gradient_is_found(factor: float) -> None:
    def wrong(y: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        losses, gradient = squares(y, t)
        return losses, gradient * factor

    x, y, _ = data("numbers")
    trainer = trainer_of(gd.CustomLoss(wrong, check_gradient=True), "float32")
    helpers.refuses(lambda: trainer.fit(x, y, epochs=1, batch_size=8), ValueError, "gradient of row.*differences")
    assert trainer.steps == 0
    trainer_of(gd.CustomLoss(wrong), "float32").fit(x, y, epochs=1, batch_size=8)  # only on request


def test_a_gradient_at_a_kink_is_taken() -> None:
    """At a kink, any value between both one-sided slopes passes: here the outputs equal the targets."""

    def absolute(y: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.abs(y - t).sum(axis=1), np.sign(y - t)

    x, _, _ = data("numbers")
    trainer = trainer_of(gd.CustomLoss(absolute, check_gradient=True))
    zero = gd.Sequential(gd.Dense(4, K, init=gd.Constant(0.0)))
    gd.Trainer(zero, trainer.loss, optimizer=gd.SGD(0.0)).step(x, np.zeros((N, K)))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"function": 3}, TypeError, "function: got 3"),
        ({"function": squares, "name": 3}, TypeError, "name: got 3"),
        ({"function": squares, "outputs": "logits"}, ValueError, "outputs: got 'logits'"),
        ({"function": squares, "hvp": 3}, TypeError, "hvp: got 3"),
        ({"function": squares, "check_gradient": "no"}, TypeError, "check_gradient"),
        ({"function": squares, "gradient": 1}, TypeError, "gradient"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    helpers.refuses(lambda: gd.CustomLoss(**arguments), error, message)


def test_a_bare_function_is_told_of_it() -> None:
    helpers.refuses(lambda: trainer_of(squares), TypeError, r"loss: .*CustomLoss\(function\)")
    model = network(outputs="classes")
    helpers.refuses(
        lambda: gd.Trainer(model, OWN["numbers"][0], optimizer=gd.SGD(0.1)), ValueError, "outputs.*'classes'"
    )
