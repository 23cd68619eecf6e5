"""Promise: a folder of an earlier run is not mistaken for the same run: schedules, callbacks and functions that act
otherwise have other descriptions; the same ones have the same, also in another process."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore.tuning.described import described


class Own(gd.Callback):
    def __init__(self, value: Any) -> None:
        self.value = value


class Scale:
    def __init__(self, by: float) -> None:
        self.by = by

    def __call__(self, step: int) -> float:
        return self.by


def closure(value: Any) -> Callable[[int], Any]:
    return lambda step: value


CHANGED = 1


def of_global(step: int) -> int:
    return step * CHANGED


@pytest.mark.parametrize(
    ("make", "values"),
    [
        (Own, (1, 2)),
        (Own, ([1], [2])),
        (Own, ({"a": 1}, {"a": 2})),
        (Own, ({"a": 1}, {"b": 1})),
        (Own, (np.zeros(3), np.ones(3))),
        (Own, (np.zeros(3), np.zeros(3, np.float32))),
        (Own, (gd.SGD(0.1), gd.SGD(0.2))),
        (Own, ({1, 2}, {1, 3})),
        (Own, (closure([1]), closure([2]))),
        (closure, (Scale(1.0), Scale(2.0))),
        (functools.partial, (closure(1), closure(2))),
        (lambda value: Scale(value).__call__, (1.0, 2.0)),
    ],
)
def test_what_acts_otherwise_is_described_otherwise(make: Callable[[Any], Any], values: tuple[Any, Any]) -> None:
    one, other = (make(value) for value in values)
    assert described(one) != described(other)
    assert described(one) == described(make(values[0]))


def test_globals_and_objects_within_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    before, loop = described(of_global), Own(None)
    loop.value = [loop]
    assert described(loop) == described(loop)
    monkeypatch.setattr(f"{__name__}.CHANGED", 2)
    assert described(of_global) != before


def test_in_another_process() -> None:
    code = """
    import gdcore as gd, numpy as np
    from gdcore.tuning.described import described
    cut = {"b", "a", "c"}
    print(described([lambda step: step in cut, gd.SGD(lambda step: 0.5), np.arange(3), gd.EarlyStopping()]))
    """
    assert helpers.must_run(code) == helpers.must_run(code)
