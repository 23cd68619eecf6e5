"""Promise: the windows of an epoch have every row once and no more rows than allowed; order of windows and of rows
within them are functions of seed, epoch and sizes, different in each epoch, and those of arrays in a single window."""

from __future__ import annotations

import itertools

import gdcore as gd
import numpy as np
import pytest
from gdcore.parquet.order import Order

SIZES = [
    np.array([7]),
    np.array([100] * 10),
    np.array([3, 50, 1, 1, 80, 20, 20, 99]),
    np.arange(1, 60),
]


@pytest.mark.parametrize("shuffle", [None, (3, 0), (3, 12)], ids=str)
@pytest.mark.parametrize("most", [100, 137, 10_000])
@pytest.mark.parametrize("sizes", SIZES, ids=len)
def test_every_row_is_there_once(sizes: np.ndarray, most: int, shuffle: tuple[int, int] | None) -> None:
    order = Order.of(sizes, most, shuffle)
    groups = np.concatenate(order.windows)
    assert sorted(groups) == list(range(len(sizes)))
    total = 0
    for number, window in enumerate(order.windows):
        assert list(window) == sorted(window) and 0 < sizes[window].sum() <= most
        assert order.start(number) == total
        rows = order.rows(number)
        assert sorted(rows) == list(range(sizes[window].sum()))
        for row in (total, total + len(rows) - 1):
            assert order.window_of(row) == number
        total += len(rows)
        assert order.ends[number] == total
    if shuffle is None:
        assert list(groups) == sorted(groups)
        assert all((np.diff(order.rows(i)) == 1).all() for i in range(len(order.windows)))


def test_windows_are_as_full_as_their_order_allows() -> None:
    sizes = np.arange(1, 60)
    windows = Order.of(sizes, 100).windows
    assert all(sizes[a].sum() + sizes[b[0]] > 100 for a, b in itertools.pairwise(windows))


def test_seeds_and_epochs_differ() -> None:
    sizes = np.full(64, 10)
    keys = [(0, 0), (0, 1), (1, 0), (2**63 - 1, 7)]
    orders = [Order.of(sizes, 80, key) for key in keys]
    for i, one in enumerate(orders):
        again = Order.of(sizes, 80, keys[i])
        assert all(np.array_equal(a, b) for a, b in zip(one.windows, again.windows, strict=True))
        assert np.array_equal(one.rows(3), again.rows(3))
        for other in orders[:i]:
            assert not np.array_equal(np.concatenate(one.windows), np.concatenate(other.windows))
            assert not np.array_equal(one.rows(0), other.rows(0))
        assert len({one.rows(number).tobytes() for number in range(8)}) == 8


def test_one_window_has_the_order_of_arrays() -> None:
    order = Order.of(np.array([30, 40, 50]), 120, (5, 2))
    assert np.array_equal(order.windows[0], [0, 1, 2])
    assert np.array_equal(order.rows(0), gd._core.permutation(120, 5, 2))
