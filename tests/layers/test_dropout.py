"""Promise: dropout keeps each element with probability 1 - p, scales what it keeps by 1/(1 - p), uses the same mask
backward as forward, draws masks that are independent of each other, of shape and of alignment, and does nothing in
prediction."""

from __future__ import annotations

from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest

ops = gd._core.ops


def drop(x: np.ndarray, pool: helpers.Pool, device: str, *, p: float, aligned: bool = True, **key: int) -> np.ndarray:
    out = pool.empty(x.shape, x.dtype, aligned)
    ops.dropout(pool.copy(x, aligned=aligned), out, p=p, device=device, **({"seed": 1, "stream": 0} | key))
    pool.check()
    return out


@helpers.ALIGNED
@helpers.DTYPES
@helpers.LENGTH_SHAPES
def test_kept_elements_are_scaled_and_the_rest_is_zero(
    rows: int, width: int, dtype: Any, aligned: bool, pool: helpers.Pool, device: str, rng: helpers.Generator
) -> None:
    x = (rng.random((rows, width)) + 0.5).astype(dtype)
    out = drop(x, pool, device, p=0.3, aligned=aligned)
    kept = out != 0
    np.testing.assert_allclose(out[kept], x[kept] / 0.7, rtol=2e-7 if dtype == np.float32 else 4e-16)
    helpers.same_bits(drop(x, pool, device, p=0.3, aligned=not aligned), out)


@pytest.mark.parametrize("p", [0.0, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99])
@pytest.mark.parametrize("key", [{"seed": 0}, {"seed": 2**63 - 1, "stream": 12345}, {"stream": 2**32 + 1}], ids=repr)
def test_rate(p: float, key: dict, pool: helpers.Pool, device: str) -> None:
    n = 400_000
    kept = (drop(np.ones((400, 1000), np.float32), pool, device, p=p, **key) != 0).sum()
    assert abs(kept - n * (1 - p)) <= 5 * np.sqrt(n * p * (1 - p))


def test_rows_columns_and_neighbours_are_independent(pool: helpers.Pool, device: str) -> None:
    mask = (drop(np.ones((1000, 257), np.float32), pool, device, p=0.5) != 0).astype(np.float64)
    for counts, n in ((mask.sum(0), 1000), (mask.sum(1), 257)):
        z = (counts - n / 2) / np.sqrt(n / 4)
        assert np.abs(z).max() < 5.5 and 0.8 < z.std() < 1.2
    flat = 2 * mask.ravel() - 1
    for lag in (1, 2, 3, 4, 7, 8, 16, 32, 64, 128, 256, 257, 514, 1024, 4096):
        assert abs((flat[:-lag] * flat[lag:]).mean()) < 5 / np.sqrt(flat.size - lag)


def test_seeds_and_streams_give_unrelated_masks(pool: helpers.Pool, device: str) -> None:
    x = np.ones((100, 500), np.float32)
    keys = [(s, t) for s in (0, 1, 2, 1 << 32, 1 << 62) for t in (0, 1, 2, 3, 1 << 32)]
    masks = np.array([drop(x, pool, device, p=0.5, seed=s, stream=t).ravel() - 1.0 for s, t in keys])
    correlation = masks @ masks.T / x.size
    np.fill_diagonal(correlation, 0.0)
    assert np.abs(correlation).max() < 5.5 / np.sqrt(x.size)


def test_the_same_call_gives_the_same_bits_at_any_thread_count(pool: helpers.Pool, device: str, rng: Any) -> None:
    x = rng.standard_normal((999, 301)).astype(np.float32)
    threads = gd.get_num_threads()
    try:
        results = []
        for n in (1, 2, 3, 1):
            gd.set_num_threads(n)
            results.append(drop(x, pool, device, p=0.4))
    finally:
        gd.set_num_threads(threads)
    for other in results[1:]:
        helpers.same_bits(other, results[0])


@helpers.DTYPES
def test_network_masks(dtype: Any, device: str, rng: helpers.Generator) -> None:
    """Backward uses the mask of forward; the next step draws a new one; prediction keeps everything."""
    model = gd.Sequential(gd.Dropout(0.4), gd.Dense(60, 60), seed=5, dtype=np.dtype(dtype).name, device=device)
    model.parameters()["layers.1.weight"][...] = np.eye(60)
    x = np.ones((50, 60), dtype)
    forward = np.array(model.forward(x))
    backward = np.array(model.backward(np.ones((50, 60), dtype)))
    helpers.same_bits(forward, backward)
    assert set(np.unique(forward != 0)) == {False, True}
    helpers.same_bits(model.predict(x), x)
    helpers.same_bits(model.forward(x, training=False), x)


def test_layers_and_steps_have_their_own_masks(device: str) -> None:
    model = gd.Sequential(gd.Dropout(0.5), gd.Dense(40, 40, bias=False), gd.Dropout(0.5), seed=5, device=device)
    model.parameters()["layers.1.weight"][...] = np.eye(40)
    trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.SGD(0.0))
    x = np.ones((200, 40), np.float32)
    seen = []
    for _ in range(3):
        seen.append(np.array(model.forward(x)).ravel() != 0)
        assert abs(seen[-1].mean() - 0.25) < 0.03  # two independent halves; one shared mask would keep 0.5
        trainer.step(x, x)
    assert abs((seen[0] & seen[1]).mean() - 0.0625) < 0.02 and abs((seen[1] & seen[2]).mean() - 0.0625) < 0.02


def test_the_mean_is_kept(pool: helpers.Pool, device: str, rng: helpers.Generator) -> None:
    x = (rng.random((1000, 300)) + 1).astype(np.float32)
    for p in (0.1, 0.5, 0.8):
        ratio = drop(x, pool, device, p=p).astype(np.float64).mean() / x.astype(np.float64).mean()
        assert abs(ratio - 1) < 5 * np.sqrt(p / (1 - p) / x.size) * 1.1


def test_training_with_dropout_is_repeatable(device: str, rng: helpers.Generator) -> None:
    x, y = rng.standard_normal((90, 8)).astype(np.float32), rng.integers(0, 3, 90)

    def run(seed: int) -> np.ndarray:
        model = gd.Sequential(gd.Dense(8, 32), gd.ReLU(), gd.Dropout(0.5), gd.Dense(32, 3), seed=seed, device=device)
        gd.Trainer(model, gd.CrossEntropy(), optimizer=gd.Adam(1e-2)).fit(x, y, epochs=3, batch_size=20)
        return np.array(model.flat_parameters())

    helpers.same_bits(run(1), run(1))
    assert (run(1) != run(2)).any()
