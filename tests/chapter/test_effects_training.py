"""Promise: the effects that the gallery shows for steps of single rows, doubled data, the order of the rows and norms
hold for other seeds than those of the pictures, with a margin."""

from __future__ import annotations

import gdcore as gd
import numpy as np
import pytest
from gdcore.chapter.gallery.batches import escapes, orders, progress
from gdcore.chapter.gallery.normalisation import SIZES, errors_by_size, signals, spreads


@pytest.mark.parametrize("seed", [1, 2])
def test_single_rows_leave_a_poor_minimum(seed: int) -> None:
    found = escapes(seed, runs=10)
    poor, good = np.interp(found.minima, found.grid, found.error)
    assert good < 0.8 * poor
    assert found.minima[0] < found.barrier < found.minima[1]
    assert (found.paths[:, :, 0] < found.barrier).all() and (found.paths[0, :, 0] == found.paths[1, :, 0]).all()
    shares = found.shares[:, -1]
    assert shares[0] == 0 and shares[1] >= 0.7
    np.testing.assert_allclose(found.paths[0, :, -1], found.minima[0], atol=0.02)


@pytest.mark.parametrize("seed", [1, 2])
def test_doubled_rows_cost_only_batch_descent_more(seed: int) -> None:
    once, twice = (progress(seed, copies, None) for copies in (1, 2))
    np.testing.assert_allclose(twice.error, once.error, rtol=1e-9)  # the same trajectory, a step costs twice
    assert twice.after(0.3) / once.after(0.3) == pytest.approx(2)
    single = [progress(seed, copies, 1, repeats=5) for copies in (1, 2)]
    assert 0.7 < single[1].after(0.3) / single[0].after(0.3) < 1.4
    assert single[0].rows[-1] == single[1].rows[-1]


def test_an_error_that_is_not_reached_has_no_cost() -> None:
    run = progress(0, 1, 1, repeats=1)
    assert np.isnan(run.after(0.0)) and np.isnan(run.after(100.0))


@pytest.mark.parametrize("norm", [False, True])
def test_a_fixed_order_trains_worse(norm: bool) -> None:
    """Sorted rows always; one random order only with batch norm, whose batches are then always the same."""
    ends = np.array([orders(seed, norm=norm)[:, -1] for seed in range(10, 18)])
    ranked, fixed, redrawn = ends.mean(axis=0)
    if norm:
        assert ranked > redrawn + 0.3 and fixed > redrawn + 0.02
        assert (ends[:, 1] > ends[:, 2]).mean() >= 0.8
    else:
        assert ranked > redrawn + 0.015 and abs(fixed - redrawn) < 0.02


@pytest.mark.parametrize("scale", [0.5, 2.0])
@pytest.mark.parametrize("seed", [1, 2])
def test_batch_norm_keeps_deep_signals(seed: int, scale: float) -> None:
    z, gradient = signals(seed, "none", scale)
    assert z[-1] < 1e-24 and gradient.max() < 1e-26 if scale < 1 else z[-1] > 1e6 and gradient.min() > 1e10
    for place, level in (("before", 0.5), ("after", 1.0)):
        z, gradient = signals(seed, place, scale)
        np.testing.assert_allclose(z[1:], level, rtol=0.1)
        growth = (gradient[0] / gradient[-1]) ** (1 / (len(gradient) - 1))
        assert 1.3 < growth < 1.6
        assert gradient.min() > 1e-6 and gradient.max() < 1e4


@pytest.mark.parametrize("seed", [1, 2])
def test_small_batches_disturb_batch_norm_only(seed: int) -> None:
    noise = spreads(gd.BatchNorm, seed, draws=5)
    assert (np.diff(noise) < 0).all() and noise[0] > 1 and noise[-1] < 0.25
    assert spreads(gd.LayerNorm, seed, draws=5).max() < 1e-6
    batch, layer = errors_by_size(gd.BatchNorm, seed), errors_by_size(gd.LayerNorm, seed)
    small, medium = 0, SIZES.index(8)
    assert batch[small] > batch[medium] + 0.1 and batch[small] > layer[small] + 0.1
    assert abs(layer[small] - layer[medium]) < 0.04
