"""Promise: all that a class defines counts in its description, but for the place where it was written and its text."""

from __future__ import annotations

import functools
import random
from typing import Any

import numpy as np
from gdcore.io import described as module


def described(value: Any) -> str:
    return module.described(value, "folder")


def test_all_of_a_class_counts() -> None:
    def kind(by: float, meta: type = type, **attributes: Any) -> Any:
        return meta("Own", (), {"__module__": "mine", "__doc__": str(by)} | attributes)

    def meta(by: float) -> Any:
        return type("Meta", (type,), {"__module__": "mine", "by": by})

    assert described(kind(1.0)) == described(kind(2.0))  # of which the text alone differs
    for made in (
        lambda by: kind(by, __call__=functools.partial(max, by)),
        lambda by: kind(by, __rate__=by),
        lambda by: kind(by, meta(by)),
    ):
        assert described(made(1.0)) == described(made(1.0)) != described(made(2.0))


def test_generators_that_all_share_count_by_their_name() -> None:
    for value in (np.random.normal, random.random):
        before = described(value)
        np.random.normal(size=3), random.random()
        assert described(value) == before
