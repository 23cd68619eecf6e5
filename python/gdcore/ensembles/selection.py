"""Greedy choice among models by a measure of their mean on validation data (Caruana et al. 2004, sections 2 and 4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ..internal.arrays import Data
from ..metrics import direction
from .averaging import Float64, Mean, log_of
from .scoring import Judge

__all__ = ["counts"]


def counts(
    judge: Judge, mean: Mean, terms: Float64, y: Data, weights: Data | None, *, mode: str | None, size: int, bags: int,
    seed: int,
) -> list[int]:  # fmt: skip
    """Return how often each model was picked.

    Parameters
    ----------
    judge : Judge
        Its first metric, or else its loss, is the measure.
    mean : Mean
        What is averaged.
    terms : ndarray of float64
        The terms of the mean, (M, N, ...).
    y, weights
        Targets of the N rows, and their weights or None.
    mode : {"min", "max"}, optional
        Whether less or more of a metric is better, if that is not known.
    size, bags, seed : int
        As for `gdcore.Ensemble.select`.

    Raises
    ------
    ValueError
        If the direction of a metric is unknown, or the measure is finite for no choice.
    """
    name = next(iter(judge.trainer.metrics), "loss")
    sign = 1.0 if direction(name, mode) == "min" else -1.0

    def outputs(total: Float64, picks: int) -> Float64:
        found: Float64 = total / picks
        return found if mean.of is None else log_of(found, mean.of)

    given = judge.prepared(outputs(terms[0], 1), y, weights)

    def value(total: Float64, picks: int) -> float:
        found = sign * judge.measure(outputs(total, picks), given.y, given.weights)[name]
        return found if math.isfinite(found) else math.inf

    library = np.arange(len(terms))
    rng = np.random.default_rng(seed)
    picked = np.zeros(len(terms), np.int64)
    for _ in range(bags):
        part = library if bags == 1 else np.sort(rng.permutation(library)[: max(1, len(library) // 2)])
        np.add.at(picked, _greedy(terms, part.tolist(), size, value), 1)
    if not picked.any():
        raise ValueError(f"measure: no choice of models has a finite {name}")
    return [int(count) for count in picked]


def _greedy(terms: Float64, library: Sequence[int], size: int, value: Callable[[Float64, int], float]) -> list[int]:
    """Return the picks, with repetition, of which `value` (less is better) is least, the fewest of equals."""
    alone = {i: value(terms[i], 1) for i in library}
    picks: list[int] = []
    best, length = math.inf, 0
    total = np.zeros_like(terms[0])
    for i in sorted(library, key=lambda i: (alone[i], i))[:size]:  # the first models: some of the best, by their value
        picks.append(i)
        total += terms[i]
        now = value(total, len(picks))
        if now < best:
            best, length = now, len(picks)
    del picks[length:]
    total = terms[picks].sum(axis=0)
    while picks and len(picks) < size:
        now, i = min((value(total + terms[i], len(picks) + 1), i) for i in library)
        picks.append(i)
        total += terms[i]
        if now < best:
            best, length = now, len(picks)
    return picks[:length]
