"""Many trainings of one problem, each from its settings and its seed: shared by `restarts` and `sweep`."""

from __future__ import annotations

import contextlib
import copy
import inspect
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .. import _core
from ..callbacks.early_stopping import deciding
from ..internal.arrays import Array, Data
from ..internal.attributes import Closed
from ..internal.checks import choice, flag, instance, integer, seed_or_random, shown
from ..io.described import described
from ..metrics import Metrics, direction
from ..model import Sequential
from ..training.fit import EVENTS, checked_callbacks
from .kept import Kept
from .parallel import checked_workers, run_all
from .starts import Start
from .trials import Best, Maker, Split, Training, Trial

__all__ = ["callback_maker", "check_build", "check_call", "check_split", "compare", "placed", "seeds_from"]

EXAMPLE = "gd.Sequential(gd.Dense(2, 1), seed=seed)"


def compare(
    maker: Maker,
    trials: Sequence[Trial],
    x: Data,
    y: Data,
    *,
    what: str,
    others: set[int],
    validation: Sequence[Data] | float,
    sample_weight: Data | None,
    metrics: Metrics,
    monitor: str | None,
    mode: str | None,
    keep_models: bool,
    folder: str | os.PathLike[str] | None,
    **where: Any,
) -> tuple[tuple[Start, ...], dict[int, Best], str, str]:
    """Train a model for each trial; return all starts, the best of each group, and the measure with its direction.

    `others` are positions of trials that must have other weights than the first, `where` arguments of `run_all`; see
    `restarts` for the rest.
    """
    keep = flag(keep_models, "keep_models")
    where = placed(where)
    if "resume" in maker.fit(trials[0]):
        raise ValueError("resume: got one checkpoint for all starts; expected None, as each start is a new run")
    check_split(maker.fit(trials[0]))
    check_build(maker.build, trials, others)
    trainer = maker.trainer(trials[0], metrics)
    measures = dict(trainer.metrics)  # an iterator gives its metrics once
    monitor, mode = monitored(maker, trials, measures, monitor, mode)
    data = Split.of(trainer, x, y, sample_weight, validation, trials[0].seed)
    training = Training(maker, measures, data, monitor, mode, keep)
    kept = Kept(folder, training, trials)
    missing = [i for i in range(len(trials)) if i not in kept.starts]
    tasks = [(i, trials[i]) for i in missing]
    where = placed(where, trainer.model.device, training.together)
    names = [str(trials[i]) for i in missing]
    done = run_all(training, tasks, what=what, name=names.__getitem__, status=kept.status, **where)
    with contextlib.closing(done):
        for j, start in done:  # from a process, with copies of the settings
            kept.add(missing[j], replace(start, settings=trials[missing[j]].settings))
    starts = tuple(kept.starts[i] for i in range(len(trials)))
    if not kept.best:
        raise _nothing_to_compare(starts, monitor)
    return starts, kept.best, monitor, mode


# ---- Checks of arguments --------------------------------------------------------------------------------------------
def placed(where: dict[str, Any], device: str = "cpu", together: Any = None) -> dict[str, Any]:
    """Return arguments of `run_all`, checked; a GPU computes all trainings `together` unless told otherwise."""
    integer(where["threads"], "threads", minimum=1)
    checked_workers(where["n_jobs"], where["within"], where["executor"])
    if device != "cpu" and all(where[name] is None for name in ("n_jobs", "within", "executor")):
        return where | {"n_jobs": 1, "together": together}
    return where


def check_split(fit: dict[str, Any]) -> None:
    """Refuse ``stratify=`` of `Trainer.fit`: the share of rows is set aside for all trainings before they begin."""
    if "stratify" in fit:
        raise ValueError(
            "stratify: got it for many trainings; expected the validation data themselves, drawn with "
            "gd.train_validation_split(x, y, stratify=True)"
        )


def monitored(
    maker: Maker, trials: Sequence[Trial], metrics: Iterable[str], monitor: str | None, mode: str | None
) -> tuple[str, str]:
    """Return the measure to compare by, with its direction: as given, or as the trials' `EarlyStopping` has it.

    It is the validation loss where that watches nothing that can be compared, as a column of a callback.
    """
    known = [f"val_{name}" for name in ("loss", *metrics)]
    if monitor is None:
        first, direct = _watched(maker, trials[0], known, mode)
        for trial in trials[1:]:
            other = _watched(maker, trial, known, mode)
            if other != (first, direct):
                names = [f"{each[0]} ({each[1]})" for each in ((first, direct), other)]
                raise ValueError(
                    f"monitor: is needed, as the EarlyStopping of each would have it compared by another measure: "
                    f"{names[0]} for {trials[0]}, {names[1]} for {trial}; expected one for all, such as "
                    "monitor='val_loss'"
                )
    else:
        first = choice(monitor, "monitor", known)
        direct = direction(first, mode)
    groups = {trial.group: trial for trial in trials} if first == "val_loss" else {}
    _check_one_loss([maker.loss(trial) for trial in groups.values()])
    return first, direct


def _check_one_loss(losses: Sequence[_core.Loss]) -> None:
    """Raise ValueError unless all losses are the same, as those must be that are compared by their values."""
    others = [loss for loss in losses if loss != losses[0]]
    if not others:
        return
    expected = "a metric: metrics=['mae'], monitor='val_mae'"
    try:
        different = len({described(loss, "loss") for loss in (losses[0], *others)}) > 1
    except TypeError as error:
        raise ValueError(
            f"monitor: got 'val_loss' for models with losses that may be different ({error}); expected one loss for "
            f"all, made once, or {expected}"
        ) from error
    if different:
        raise ValueError(
            f"monitor: got 'val_loss' for models with different losses, which cannot be compared; expected {expected}"
        )


def _watched(maker: Maker, trial: Trial, known: Sequence[str], mode: str | None) -> tuple[str, str]:
    """Return the measure that the `EarlyStopping` of a trial watches, or the validation loss, with its direction."""
    by = deciding(checked_callbacks(maker.callbacks(trial)))
    if by is None or by.monitor not in known:
        return "val_loss", direction("val_loss", mode)
    return by.monitor, by.mode if mode is None else direction(by.monitor, mode)


def seeds_from(seed: int, n: int) -> range:
    """Return `n` seeds, the first of them `seed`."""
    first = seed_or_random(seed)
    if first + n > 2**63:
        raise ValueError(f"seed: got {seed}; expected {n} seeds from there to be below 2**63")
    return range(first, first + n)


def check_call(build: Any, trial: Trial) -> None:
    """Check that `build` can be called for a trial."""
    if not callable(build) or isinstance(build, Sequential):  # which answers a call with what to call instead
        raise TypeError(f"build: got {shown(build)}; expected a function of the seed that returns a model")
    with contextlib.suppress(ValueError):  # a callable may have no signature
        try:
            inspect.signature(build).bind(trial.seed, *trial.settings.values())
        except TypeError as error:
            call = "build(seed, epsilon), as epsilon is given" if trial.settings else "build(seed)"
            raise TypeError(f"build: is called as {call}: {error}") from None


def check_build(build: Callable[[Trial], Sequential], trials: Sequence[Trial], others: set[int]) -> None:
    """Check that the model depends on the trial, and on nothing else.

    The trials at the positions `others` must have other weights.
    """

    def made(at: int) -> Sequential:
        return instance(build(trials[at]), Sequential, "build", EXAMPLE)

    def weights(at: int) -> Array:
        return made(at).copy_state()["parameters"]

    first, second = made(0), made(0)
    if first is second:
        raise ValueError(f"build: returned the same model twice for {trials[0]}; expected a new one in each call")
    again = first.copy_state()["parameters"]
    if not np.array_equal(second.copy_state()["parameters"], again):
        raise ValueError(
            f"build: returned different models for the same {trials[0]}; expected one that depends on its arguments "
            "alone: Sequential(..., seed=seed)"
        )
    for other in others:
        if other < len(trials) and np.array_equal(again, weights(other)):
            raise ValueError(
                f"build: returned the same weights for {trials[0]} and {trials[other]}; expected starts that differ: "
                "pass the seed to gd.Sequential, and epsilon to the initialisers"
            )


def callback_maker(
    callbacks: Any, trials: int, call: Callable[[Trial], Sequence[object]]
) -> Callable[[Trial], Sequence[object]]:
    """Return a function that makes the callbacks of a trial: `call` if they come from a function, or it copies them."""
    if callable(callbacks) and not any(hasattr(callbacks, event) for event in EVENTS):
        return call
    listed = checked_callbacks(callbacks)
    for i, callback in enumerate(listed):
        if trials > 1 and isinstance(callback, Closed) and getattr(callback, "path", None) is not None:
            raise ValueError(
                f"callbacks[{i}]: {type(callback).__name__} would write one file for all starts; expected a function "
                "of the seed that gives each a path: lambda seed: [...]"
            )
    try:
        copy.deepcopy(listed)
    except TypeError as error:
        raise TypeError(
            f"callbacks: cannot be copied for every start ({error}); expected a function that makes them"
        ) from error
    return lambda trial: copy.deepcopy(listed)


def _nothing_to_compare(starts: Sequence[Start], monitor: str) -> Exception:
    """Return the error if no start has a finite measure: the losses diverged, or only the measure is not finite."""
    there = next((start for start in starts if not start.diverged), None)
    if there is None:
        return _core.DivergenceError(f"every one of {len(starts)} starts diverged; the first: {starts[0].note}")
    return ValueError(f"monitor: no start has a finite {monitor}; with seed {there.seed} {there.note}")
