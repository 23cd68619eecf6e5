"""Promise: columns_to_rows writes columns of any types and strides as rows, with exact conversion and nothing beyond
them, finds the first value that is not finite in the dtype, and refuses columns that do not fit."""

from __future__ import annotations

from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest

TYPES = [np.float32, np.float64, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, bool]
# Around the ends of blocks of 64 rows and 16 columns, and of chunks of 512 rows.
SIZES = [(1, 1), (3, 2), (63, 15), (64, 16), (65, 17), (100, 33), (511, 5), (512, 16), (513, 31), (1100, 48)]


def columns(rng: Any, rows: int, width: int) -> list[np.ndarray]:
    kinds = [TYPES[i % len(TYPES)] for i in range(width)]
    return [(rng.normal(size=rows) * 50).astype(kind) if kind is not bool else rng.random(rows) > 0.5 for kind in kinds]


@helpers.ALIGNED
@helpers.DTYPES
@pytest.mark.parametrize(("rows", "width"), SIZES)
def test_any_types(rows: int, width: int, dtype: Any, aligned: bool, pool: helpers.Pool, rng: Any) -> None:
    with np.errstate(invalid="ignore"):  # negative numbers as unsigned ones
        given = columns(rng, rows, width)
    out = pool.empty((rows, width), dtype, aligned)
    assert gd._core.columns_to_rows([pool.copy(column) for column in given], out) == -1
    pool.check()
    helpers.same_bits(out, np.stack([column.astype(dtype) for column in given], axis=1))


def test_strides() -> None:
    table = np.arange(60.0).reshape(20, 3)
    out = np.empty((10, 3), np.float32)
    gd._core.columns_to_rows([table[::2, 2], table[:10, 0], table[::-2, 1]], out)
    helpers.same_bits(out, np.stack([table[::2, 2], table[:10, 0], table[::-2, 1]], axis=1).astype(np.float32))


@helpers.DTYPES
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("row", "column"), [(0, 0), (70, 16), (599, 17)])
def test_the_first_that_is_not_finite(row: int, column: int, value: float, dtype: Any) -> None:
    given = [np.zeros(600, dtype) for _ in range(18)]
    given[column][row] = value
    given[17][599] = value  # a later one, or the same
    assert gd._core.columns_to_rows(given, np.empty((600, 18), dtype)) == row * 18 + column


def test_numbers_beyond_float32_are_not_finite_there() -> None:
    given = [np.array([1.0, 1e300]), np.array([2**63 - 1, 5])]
    assert gd._core.columns_to_rows(given, np.empty((2, 2), np.float32)) == 2
    assert gd._core.columns_to_rows(given, np.empty((2, 2))) == -1


def test_no_columns_and_no_rows() -> None:
    assert gd._core.columns_to_rows([], np.empty((3, 0))) == -1
    assert gd._core.columns_to_rows([np.empty(0)], np.empty((0, 1))) == -1


@pytest.mark.parametrize(
    ("given", "out", "message"),
    [
        ([np.zeros(3)], np.empty((3, 2)), "2 columns"),
        ([np.zeros(3), np.zeros(4)], np.empty((3, 2)), "4 rows"),
        ([np.zeros((3, 2))], np.empty((3, 1)), "2 columns"),
        ([np.zeros(3)] * 2, np.empty((3, 4))[:, ::2], "C-contiguous"),
        ([np.zeros(3)], np.empty(3), "expected an array"),
        ([np.zeros(3)], np.empty((3, 1), np.int64), "int64"),
        ([np.array(["a", "b", "c"])], np.empty((3, 1)), "columns"),
    ],
)
def test_what_does_not_fit_is_refused(given: Any, out: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        gd._core.columns_to_rows(given, out)
