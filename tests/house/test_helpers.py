"""Promise: the tests can fail. Each comparer and guard is shown a wrong value and must reject it."""

from __future__ import annotations

import helpers
import numpy as np
import pytest
from oracle import Sized

ONE = Sized(np.ones(5), np.ones(5))


def test_within_accepts_the_bound_and_rejects_beyond() -> None:
    helpers.within(np.float64([1, 1, 1, 1, 1 + 2.9e-7]), ONE, 3e-7)
    with pytest.raises(pytest.fail.Exception, match=r"worst at \(4,\)"):
        helpers.within(np.float64([1, 1, 1, 1, 1 + 3.1e-7]), ONE, 3e-7)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_within_rejects_what_is_not_finite(wrong: float) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"worst at \(2,\)"):
        helpers.within(np.float64([1, 1, wrong, 1, 1]), ONE, 3e-7)


def test_within_rejects_another_shape() -> None:
    with pytest.raises(AssertionError, match="shape"):
        helpers.within(np.ones((5, 1)), ONE, 1.0)
    with pytest.raises(AssertionError, match="shape"):
        helpers.within(np.float64(1.0), ONE, 1.0)


def test_within_rejects_a_wrong_value_where_the_size_is_zero() -> None:
    with pytest.raises(pytest.fail.Exception):
        helpers.within(np.float64([1e-300]), Sized(np.zeros(1), np.zeros(1)), 1.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_close_rejects_a_tenth_of_a_millionth(dtype: type) -> None:
    with pytest.raises(pytest.fail.Exception):
        helpers.forward_close(dtype(np.ones(5)) * dtype(1 + 1e-6), ONE)
    with pytest.raises(pytest.fail.Exception):
        helpers.gradient_close(dtype(np.ones(5)) * dtype(1 + 1e-6), ONE)


def test_same_bits_rejects_one_bit() -> None:
    a = np.float32([1, 2, 3])
    helpers.same_bits(a, a.copy())
    helpers.same_bits(np.float32([np.nan]), np.float32([np.nan]))
    b = a.copy()
    b.view(np.uint32)[1] ^= 1
    with pytest.raises(pytest.fail.Exception, match="first at 1"):
        helpers.same_bits(a, b)
    with pytest.raises(pytest.fail.Exception):
        helpers.same_bits(np.float32([0.0]), np.float32([-0.0]))
    with pytest.raises(AssertionError):
        helpers.same_bits(a, a.astype(np.float64))
    with pytest.raises(AssertionError):
        helpers.same_bits({"a": a}, {"b": a})


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_pool_arrays_have_the_alignment_they_claim(dtype: type, aligned: bool) -> None:
    pool = helpers.Pool()
    for shape in [(1,), (3, 7), (33, 65)]:
        array = pool.copy(np.ones(shape), dtype, aligned)
        assert array.shape == shape and array.dtype == dtype and array.flags.c_contiguous
        assert array.ctypes.data % 256 == (0 if aligned else np.dtype(dtype).itemsize)
    assert np.isnan(pool.empty((4, 4))).all()
    pool.check()


@pytest.mark.parametrize("at", [-1, 15])
def test_pool_notices_a_write_outside(at: int) -> None:
    pool = helpers.Pool()
    pool.empty((3, 5))
    outside = np.ndarray((17,), np.float32, buffer=pool._buffers[0][0].data, offset=pool._buffers[0][1] - 4)
    outside[at + 1] = 0.0
    with pytest.raises(pytest.fail.Exception, match="before" if at < 0 else "behind"):
        pool.check()


def test_pool_notices_a_changed_input() -> None:
    pool = helpers.Pool()
    pool.mutable(np.ones(3))[0] = 2.0
    pool.check()
    pool.copy(np.ones(3))[0] = 2.0
    with pytest.raises(pytest.fail.Exception, match="changed an input"):
        pool.check()


def test_there_are_enough_shapes() -> None:
    assert len(helpers.WIDTHS) >= 17 and min(helpers.WIDTHS) == 1 and max(helpers.WIDTHS) == 1025
    assert len(helpers.ROWS) >= 3 and {31, 32, 33, 1000} <= set(helpers.WIDTHS)
    assert any(width == 1600 for _, width in helpers.SIZES) and any(rows == 1000 for rows, _ in helpers.SIZES)


def test_scripts_report_failure_and_crashes() -> None:
    assert helpers.must_run("print('fine')") == "fine\n"
    with pytest.raises(AssertionError, match="exit status 3"):
        helpers.must_run("raise SystemExit(3)")
    with pytest.raises(AssertionError, match="exit status -6"):
        helpers.must_run("import os; os.abort()")
    with pytest.raises(pytest.fail.Exception, match="no end"):
        helpers.must_run("import time; time.sleep(60)", timeout=0.5)
