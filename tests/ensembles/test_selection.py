"""Promise: `select` picks the models that Caruana's greedy search picks, written here in NumPy, for losses and metrics
of every meaning of the outputs; it is deterministic, and never worse on its data than the best model."""

from __future__ import annotations

from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest

RNG = np.random.default_rng(4)
X = RNG.standard_normal((300, 4))
MODELS = 6


def ensemble(outputs: str, k: int, average: str = "probabilities") -> gd.Ensemble:
    models = []
    for seed in range(MODELS):
        layers = gd.Dense(4, 5), gd.Tanh(), gd.Dense(5, k, init=gd.Normal(0.5 + 0.3 * seed))
        dtype = "float64" if seed % 2 else "float32"
        models.append(gd.Sequential(*layers, seed=seed, dtype=dtype, outputs=outputs, device="cpu"))
    return gd.Ensemble(models, average=average)


def probabilities(z: np.ndarray, outputs: str) -> np.ndarray:
    if outputs == "yes_no":
        return 1 / (1 + np.exp(-z))
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def loss_of(p: np.ndarray, y: np.ndarray, w: np.ndarray, outputs: str) -> float:
    """The loss of mean probabilities, or of numbers."""
    if outputs == "numbers":
        rows = ((p - y) ** 2).mean(axis=1)
    elif outputs == "classes":
        rows = -np.log(p[np.arange(len(y)), y])
    else:
        rows = -(y * np.log(p) + (1 - y) * np.log(1 - p)).sum(axis=1)
    return float((w * rows).sum() / w.sum())


def greedy(terms: list[np.ndarray], value: Any, size: int, library: list[int]) -> list[int]:
    """Means of lists of picks, computed from nothing each time."""

    def of(picks: list[int]) -> float:
        return value(np.mean([terms[i] for i in picks], axis=0))

    order = sorted(library, key=lambda i: (round(of([i]), 12), i))
    tried = [order[:n] for n in range(1, min(size, len(order)) + 1)]
    best = min(tried, key=lambda picks: (round(of(picks), 12), len(picks)))
    picks = list(best)
    while len(picks) < size:
        picks = min(([*picks, i] for i in library), key=lambda p: (round(of(p), 12), p[-1]))
        if round(of(picks), 12) < round(of(best), 12):
            best = picks
    return best


KINDS = [("classes", 3), ("yes_no", 1), ("yes_no", 2), ("numbers", 2)]


def problem(outputs: str, k: int, average: str) -> tuple[gd.Ensemble, list[np.ndarray], np.ndarray, Any]:
    made = ensemble(outputs, k, average)
    y = RNG.integers(3, size=300) if outputs == "classes" else RNG.uniform(size=(300, k)).round()
    z = [np.asarray(m.predict(X), np.float64) for m in made]
    if outputs == "numbers":
        return made, z, y, lambda mean: mean
    if average == "outputs":
        return made, z, y, lambda mean: probabilities(mean, outputs)
    return made, [probabilities(each, outputs) for each in z], y, lambda mean: mean


@pytest.mark.parametrize("average", ["probabilities", "outputs"])
@pytest.mark.parametrize(("outputs", "k"), KINDS)
@pytest.mark.parametrize("size", [1, 4, 12])
def test_the_picks_are_those_of_a_search_in_numpy(outputs: str, k: int, average: str, size: int) -> None:
    made, terms, y, shown = problem(outputs, k, average)
    w = RNG.uniform(0.5, 2, size=300)

    def value(mean: np.ndarray) -> float:
        return loss_of(shown(mean), y, w, outputs)

    picks = greedy(terms, value, size, list(range(MODELS)))
    chosen = made.select(X, y, sample_weight=w, size=size)
    counts = {i: float(picks.count(i)) for i in sorted(set(picks))}
    assert dict(zip((made.models.index(m) for m in chosen), chosen.weights, strict=True)) == counts
    assert chosen.average == average
    found = chosen.evaluate(X, y, sample_weight=w)["loss"]
    assert found == pytest.approx(value(np.mean([terms[i] for i in picks], axis=0)), rel=1e-5)
    alone = min(made[i : i + 1].evaluate(X, y, sample_weight=w)["loss"] for i in range(MODELS))
    assert found <= alone * (1 + 1e-6)


def test_metrics_have_their_direction() -> None:
    made, _, y, _ = problem("classes", 3, "probabilities")
    best = made.select(X, y, measure="accuracy", size=10)
    top = best.evaluate(X, y, metrics=["accuracy"])["accuracy"]
    assert top >= max(made[i : i + 1].evaluate(X, y, metrics=["accuracy"])["accuracy"] for i in range(MODELS))

    def errors(true: np.ndarray, given: np.ndarray) -> float:
        return float((given.argmax(axis=1) != true).sum())

    same = made.select(X, y, measure=errors, mode="min", size=10)
    assert (same.models, same.weights) == (best.models, best.weights)
    worst = made.select(X, y, measure="accuracy", mode="min", size=1)
    assert worst.evaluate(X, y, metrics=["accuracy"])["accuracy"] < top
    weighted = gd.CrossEntropy(class_weights=[1, 5, 1])
    found = made.select(X, y, measure=weighted).evaluate(X, y, loss=weighted)["loss"]
    assert found <= made.select(X, y).evaluate(X, y, loss=weighted)["loss"] * (1 + 1e-9)


def test_the_search_is_deterministic_and_bags_add_up() -> None:
    made, terms, y, _ = problem("classes", 3, "probabilities")
    runs = [made.select(X, y, bags=9, size=5, seed=seed) for seed in (3, 3, 4)]
    assert (runs[0].models, runs[0].weights) == (runs[1].models, runs[1].weights)
    assert (runs[0].models, runs[0].weights) != (runs[2].models, runs[2].weights)
    rng, counts = np.random.default_rng(3), np.zeros(MODELS)
    for _ in range(9):
        library = sorted(rng.permutation(MODELS)[:3].tolist())
        for i in greedy(terms, lambda p: loss_of(p, y, np.ones(300), "classes"), 5, library):
            counts[i] += 1
    assert runs[0].weights == tuple(counts[counts > 0])
    assert runs[0].models == tuple(m for m, count in zip(made, counts, strict=True) if count)


def test_equal_models_and_choices() -> None:
    made, _, y, _ = problem("classes", 3, "probabilities")
    twins = gd.Ensemble([made[0], made[0].clone(), made[0].clone()])
    chosen = twins.select(X, y, size=7)
    assert chosen.models == (made[0],) and chosen.weights == (1.0,)
    assert gd.Ensemble([made[2]]).select(X, y).models == (made[2],)


def test_what_cannot_be_selected_is_refused() -> None:
    made, _, y, _ = problem("classes", 3, "probabilities")
    helpers.refuses(lambda: made.select(X, y, measure=lambda t, p: 0.0), ValueError, "mode: needed")
    helpers.refuses(
        lambda: made.select(X, y, measure=lambda t, p: np.nan, mode="max"), ValueError, "measure: no choice"
    )
    helpers.refuses(lambda: made.select(X, y, measure="r2"), ValueError, r"metrics\[0\]: 'r2'")
    helpers.refuses(lambda: made.select(X, y, mode="best"), ValueError, "mode: got 'best'")
    helpers.refuses(lambda: made.select(X, y, size=0), ValueError, "size: got 0")
    helpers.refuses(lambda: made.select(X, y, bags=0), ValueError, "bags: got 0")
    helpers.refuses(lambda: made.select(X, y[:9]), ValueError, "y: got 9 rows")
    helpers.refuses(lambda: made.select(X * np.nan, y), ValueError, "x: got nan in row 0")
    made[4].parameters()["layers.2.weight"][...] = np.nan
    helpers.refuses(lambda: made.select(X, y), ValueError, r"^models\[4\]: select: output 0 of row 0 is nan")


def test_an_ensemble_of_an_ensemble_has_its_weights() -> None:
    models = [gd.Sequential(gd.Dense(2, 3), seed=seed) for seed in range(3)]
    weighted = gd.Ensemble(models, weights=[3, 1, 2])
    assert gd.Ensemble(weighted, average="outputs").weights == (3.0, 1.0, 2.0)
    assert gd.Ensemble(weighted, weights=[1, 1, 1]).weights == (1.0, 1.0, 1.0)
