"""Promise: weight decay keeps steep directions and not flat ones, consistent decay is the same in all units and plain
decay is not, the effective number of parameters grows during training, validation error falls and rises again."""

from __future__ import annotations

import gdcore as gd
import numpy as np
import pytest
from gdcore import analysis
from gdcore.analysis.problems import quadratic_problem, random_rotation
from gdcore.chapter.gallery import generalisation

SEEDS = pytest.mark.parametrize("seed", [0, 1])


@SEEDS
def test_decay_keeps_steep_directions_and_not_flat_ones(seed: int) -> None:
    """Slides 42-43: the end of training, on surfaces of random axes, and the minimum of E + λ/2 wᵀw that is drawn."""
    rng = np.random.default_rng(seed)
    basis = random_rotation(2, rng)
    problem = quadratic_problem([0.5, 8.0], basis, minimum=basis @ rng.uniform(1.0, 2.0, 2))
    ends = {strength: generalisation.decayed(problem, strength) for strength in (0.02, 2.0, 300.0)}
    (low, flat, none), (high, steep, little) = np.array([generalisation.shares(problem, w) for w in ends.values()]).T
    assert flat < 0.3 and steep > 0.7, "λ between the eigenvalues"
    assert min(low, high) > 0.9 and max(none, little) < 0.05, "λ far below and far above them"
    objective = problem.objective(2.0)
    assert np.linalg.norm(objective.gradient(ends[2.0])) < 1e-10
    around = ends[2.0] + 0.1 * rng.standard_normal((50, 2))
    assert all(objective.value(w) > objective.value(ends[2.0]) for w in around)


@SEEDS
def test_consistent_decay_is_the_same_in_all_units(seed: int) -> None:
    """Slides 44-46: after training to the minimum; plain decay differs by more than 3% of the range."""
    units = generalisation.trained_in_units((0.2, 1.0, 5.0), seed)
    assert units.steepness < 2e-4
    assert max(units.differences("consistent").values()) < 1e-9
    assert min(units.differences("plain")[a] for a in (0.2, 5.0)) > 0.03


@SEEDS
def test_effective_parameters_grow_during_training(seed: int) -> None:
    """Slide 50: from few to almost all, a share for each direction; with decay 1/(ηT) alike, also by the library."""
    growth = generalisation.growing_parameters(seed, directions=12)
    stopped, decayed = growth.stopped.sum(axis=1), growth.decayed.sum(axis=1)
    assert (np.diff(stopped) > 0).all() and stopped[0] < 0.15 * 12 and stopped[-1] > 0.95 * 12
    assert (np.diff(decayed) > 0).all() and (decayed < stopped).all() and (stopped - decayed).max() < 0.1 * 12
    steep = growth.eigenvalues > 10 / (growth.lr * growth.times[:, None])
    flat = growth.eigenvalues < 0.1 / (growth.lr * growth.times[:, None])
    for shares in (growth.stopped, growth.decayed):
        assert shares[steep].min() > 0.9 and shares[flat].max() < 0.1
    counts = analysis.effective_parameters(
        quadratic_problem(growth.eigenvalues).objective(), weight_decay=1 / (growth.lr * growth.times)
    )
    np.testing.assert_allclose(decayed, counts, rtol=1e-6)


@pytest.mark.parametrize("seed", [0, 2, 3])
def test_validation_error_falls_and_rises_again(seed: int) -> None:
    """Slides 48-49: training error falls almost always; early stopping leaves the weights of the lowest."""
    history, model, held = generalisation.learning_run(seed)
    training, validation = np.array(history["loss"]), np.array(history["val_loss"])
    best = int(validation.argmin())
    assert np.mean(np.diff(training) < 0) > 0.95 and training[-1] < 0.95 * training[best]
    assert validation[0] > 1.3 * validation[best] and validation[-1] > 1.1 * validation[best]
    assert history.best_epoch() == best + 1 == history.last_epoch - 1000
    trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.SGD(0.1))
    assert trainer.evaluate(*held)["loss"] == pytest.approx(validation[best], rel=1e-5)
