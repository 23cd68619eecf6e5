"""Promise: gather copies the given rows from any layout with exact type conversion, and refuses every index that is
not a row; permutation returns a permutation, a new one each epoch; first_nonfinite finds the first NaN or infinity."""

from __future__ import annotations

from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest

ops = gd._core.ops
SOURCES = [
    np.float32,
    np.float64,
    np.int8,
    np.uint8,
    np.int16,
    np.uint16,
    np.int32,
    np.uint32,
    np.int64,
    np.uint64,
    bool,
]


def source(rng: helpers.Generator, shape: tuple, dtype: Any) -> np.ndarray:
    if np.dtype(dtype).kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    if np.dtype(dtype).kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    info = np.iinfo(dtype)
    return rng.integers(max(info.min, -(2**24)), min(info.max, 2**24), shape).astype(dtype)


@helpers.ALIGNED
@helpers.DTYPES
@helpers.SHAPES
def test_same_type(rows: int, width: int, dtype: Any, aligned: bool, pool: helpers.Pool, rng: Any) -> None:
    x = source(rng, (50, width), dtype)
    index = rng.integers(0, 50, rows)
    out = pool.empty((rows, width), dtype, aligned)
    gd._core.gather(pool.copy(x, aligned=aligned), pool.copy(index), out)
    pool.check()
    helpers.same_bits(out, x[index])


@helpers.DTYPES
@pytest.mark.parametrize("kind", SOURCES, ids=lambda k: np.dtype(k).name)
@pytest.mark.parametrize("width", [1, 7, 16, 33, 64])
def test_conversion(width: int, kind: Any, dtype: Any, pool: helpers.Pool, rng: Any) -> None:
    x = source(rng, (40, width), kind)
    index = rng.permutation(40)
    out = pool.empty((40, width), dtype)
    gd._core.gather(pool.copy(x), index, out)
    pool.check()
    helpers.same_bits(out, x[index].astype(dtype))


@pytest.mark.parametrize("bad", [-1, 50, 2**31, -(2**63), 2**63 - 1])
@pytest.mark.parametrize("at", [0, 13, 31])
def test_indices_out_of_range_are_refused(bad: int, at: int, pool: helpers.Pool) -> None:
    index = np.arange(32)
    index[at] = bad
    out = pool.empty((32, 5))
    with pytest.raises((ValueError, IndexError), match="index"):
        gd._core.gather(np.ones((50, 5), np.float32), index, out)
    assert np.isnan(out).all()


@pytest.mark.parametrize("n", [1, 2, 3, 10, 1000, 4097])
def test_permutation(n: int) -> None:
    seen = [gd._core.permutation(n, seed, epoch) for seed in (0, 1, 2**63 - 1) for epoch in (0, 1, 2)]
    for p in seen:
        assert p.dtype == np.int64
        helpers.same_bits(np.sort(p), np.arange(n))
    helpers.same_bits(gd._core.permutation(n, 1, 2), gd._core.permutation(n, 1, 2))
    if n >= 10:
        assert len({p.tobytes() for p in seen}) == 9


def test_permutation_is_uniform() -> None:
    """Every value is equally likely at every position: chi-squared over 6,000 draws of 8 (49 degrees of freedom)."""
    counts = np.zeros((8, 8))
    for epoch in range(6000):
        counts[np.arange(8), gd._core.permutation(8, 7, epoch)] += 1
    assert (((counts - 750) ** 2) / 750).sum() < 49 + 6 * np.sqrt(2 * 49)


def test_permutations_of_three_are_equally_likely() -> None:
    draws = [tuple(gd._core.permutation(3, seed, epoch)) for seed in range(60) for epoch in range(100)]
    counts = np.array([draws.count(p) for p in set(draws)])
    assert len(counts) == 6 and (((counts - 1000) ** 2) / 1000).sum() < 5 + 6 * np.sqrt(10)


@helpers.ALIGNED
@helpers.DTYPES
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_first_nonfinite(bad: float, dtype: Any, aligned: bool, pool: helpers.Pool) -> None:
    for n in (1, 2, 31, 32, 33, 1000, 1600):
        x = pool.mutable(np.full(n, np.finfo(dtype).max), dtype, aligned)
        assert gd._core.first_nonfinite(x) == -1
        for at in {0, n // 2, n - 1}:
            x[at] = bad
            assert gd._core.first_nonfinite(x) == at
            x[n - 1] = bad
            assert gd._core.first_nonfinite(x) == at
            x[...] = np.finfo(dtype).max
    pool.check()


@helpers.ALIGNED
@helpers.DTYPES
def test_lerp_and_sum_of_squares(dtype: Any, aligned: bool, pool: helpers.Pool, device: str, rng: Any) -> None:
    for n in (*helpers.WIDTHS, 1600, 100_003):
        a, b = rng.standard_normal(n).astype(dtype), rng.standard_normal(n).astype(dtype)
        average = pool.mutable(a, aligned=aligned)
        ops.lerp(average, pool.copy(b, aligned=aligned), 0.9, device=device)
        expected = 0.9 * a.astype(np.float64) + (1 - 0.9) * b.astype(np.float64)
        np.testing.assert_allclose(average, expected, atol=3e-7 if dtype == np.float32 else 2e-15, rtol=0)
        other = pool.mutable(a, aligned=aligned)
        squares = np.abs(b)
        ops.lerp(other, pool.copy(squares, aligned=aligned), 0.25, root=True, device=device)
        expected = 0.25 * a.astype(np.float64) + 0.75 * np.sqrt(squares.astype(np.float64))
        np.testing.assert_allclose(other, expected, atol=3e-7 if dtype == np.float32 else 2e-15, rtol=0)
        total = ops.sum_of_squares(pool.copy(a, aligned=aligned), device=device)
        assert abs(total / (a.astype(np.float64) ** 2).sum() - 1) < (3e-7 if dtype == np.float32 else 2e-15)
        pool.check()


@helpers.ALIGNED
@helpers.DTYPES
def test_moving_averages(dtype: Any, aligned: bool, pool: helpers.Pool, device: str, rng: Any) -> None:
    for n in (*helpers.WIDTHS, 1600, 100_003):
        a, b = rng.standard_normal(n).astype(dtype), rng.standard_normal(n).astype(dtype)
        for rate in (0.3, 1.0):
            average = pool.mutable(a, aligned=aligned)
            ops.average(average, pool.copy(b, aligned=aligned), rate, device=device)
            expected = a.astype(np.float64) + rate * (b.astype(np.float64) - a)
            np.testing.assert_allclose(average, expected, atol=6e-7 if dtype == np.float32 else 2e-15, rtol=0)
        helpers.same_bits(np.array(average), b)
        pool.check()


def test_gather_from_a_memory_map(tmp_path: Any, rng: helpers.Generator) -> None:
    x = rng.standard_normal((300, 17)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    out = np.full((10, 17), np.nan, np.float32)
    index = rng.integers(0, 300, 10)
    gd._core.gather(np.load(tmp_path / "x.npy", mmap_mode="r"), index, out)
    helpers.same_bits(out, x[index])


def test_positions_beyond_2_to_the_31(tmp_path: Any) -> None:
    """Rows at element offsets above 32 bits, in a sparse file."""
    rows, cols = 2**21 + 3, 1024
    with open(tmp_path / "x", "wb") as file:
        file.truncate(rows * cols)
    x = np.memmap(tmp_path / "x", np.uint8, "r+", shape=(rows, cols))
    last = np.arange(cols, dtype=np.uint8)
    x[rows - 1] = last
    out = np.full((2, cols), np.nan, np.float32)
    gd._core.gather(x, np.array([rows - 1, 0]), out)
    helpers.same_bits(out, np.stack([last, np.zeros(cols)]).astype(np.float32))
    model = gd.Sequential(gd.Dense(cols, 2), seed=0)
    helpers.same_bits(model.predict(x[rows - 1 :]), model.predict(last[None]))
