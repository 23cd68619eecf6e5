"""`restarts`: independent random starts of the same training, compared on validation data (slide 12)."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import inspect
import math
import time
from collections.abc import Callable, Sequence, Set
from typing import Any, NamedTuple

import numpy as np

from .. import _core
from ..callbacks import Checkpoint, CSVLog
from ..internal.arguments import explained
from ..internal.arrays import Array, Data
from ..internal.checks import choice, flag, has_keys, instance, integer, is_iterable, real, seed_or_random, shown
from ..internal.prepared import Prepared, prepared
from ..metrics import Metrics, direction
from ..model import Sequential
from ..trainer import Trainer
from ..training.fit import EVENTS, checked_callbacks
from ..training.validation import validation_of
from .parallel import job_count, run_all
from .starts import Restarts, Spread, Start

__all__ = ["Restarts", "Spread", "Start", "restarts"]

EXAMPLE = "gd.Sequential(gd.Dense(2, 1), seed=seed)"


@explained
def restarts(
    build: Callable[..., Sequential],
    n: int,
    x: Data,
    y: Data,
    *,
    validation: Sequence[Data] | float,
    loss: _core.Loss,
    optimizer: _core.Optimizer,
    metrics: Metrics = (),
    epsilon: Sequence[float] | None = None,
    monitor: str = "val_loss",
    mode: str | None = None,
    seed: int = 0,
    n_jobs: int = 1,
    threads: int = 1,
    keep_models: bool = False,
    progress: bool = True,
    callbacks: Sequence[object] | Callable[..., Sequence[object]] = (),
    **fit: Any,
) -> Restarts:
    """Train from several random starts, compare the models on validation data, and keep the best (slide 12).

    ::

        def build(seed):
            return gd.Sequential(gd.Dense(20, 50), gd.ReLU(), gd.Dense(50, 1), seed=seed)

        result = gd.restarts(build, 10, x, y, validation=(xv, yv), loss=gd.MeanSquaredError(),
                             optimizer=gd.Adam(1e-3), epochs=50, callbacks=[gd.EarlyStopping()], n_jobs=2)
        print(result); result.plot("starts.png"); result.best.save("model.safetensors")

    Parameters
    ----------
    build : function
        ``build(seed)``, or ``build(seed, epsilon)`` where `epsilon` is given, returns a new model that depends on these
        alone. It may be a lambda.
    n : int
        Number of starts (for each ε). Their seeds are ``seed``, ``seed + 1``, ...; they also shuffle the rows.
    x, y : array
        Training data, as for `Trainer.fit`.
    validation : (x, y), (x, y, weights) or float
        Data to compare on, or the share of rows to set aside for it: the same rows for every start.
    loss, optimizer, metrics
        As for `Trainer`.
    epsilon : sequence of float, optional
        Scales of the initial weights to search over (slide 20): each is tried with the same `n` seeds. `build` uses
        them: ``gd.Dense(20, 50, init=gd.Normal(epsilon))``.
    monitor : str
        The measure to compare: "val_loss", or "val_" and a metric's name.
    mode : {"min", "max"}, optional
        Whether less or more is better; known for the loss and metrics by name, needed for others.
    seed : int
        The first seed.
    n_jobs : int
        Processes (by joblib, which memory-maps large arrays); -1: one for each processor.
    threads : int
        Threads that each start computes with, in whichever process.
    keep_models : bool
        Whether to keep the models of all starts, not only of the best.
    progress : bool
        Whether to show a progress bar over the starts, on a terminal or in a notebook.
    callbacks : sequence, or function
        Callbacks, copied for every start; or a function with the arguments of `build`
        that returns them, for separate files: ``lambda seed: [gd.CSVLog(f"{seed}.csv")]``.
    **fit
        Further arguments of `Trainer.fit`: ``epochs``, ``batch_size``, ``sample_weight``, ...

    Returns
    -------
    Restarts
        The best model and all starts; ``.table()``, ``.spread``, ``.plot(path)``.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid; `build` returns another model for the same seed, or the same for another seed or ε;
        callbacks would write to one file for all starts; no start has a finite measure, though its loss is finite; and
        errors of `Trainer.fit`.
    DivergenceError
        If every start diverges. (If some do, they are rows of the table with an infinite measure and a note.)
    ImportError
        If `n_jobs` is not 1 and joblib is not installed.
    KeyboardInterrupt
        On Ctrl-C; no process is left.

    Notes
    -----
    The models are compared as `fit` leaves them: with `EarlyStopping` with the weights of the best epoch, otherwise
    with those of the last. For the same `threads` the results are the same, bit for bit, for any `n_jobs`. The best of
    many starts looks better on the validation data than it is: evaluate it on test data.
    """
    count, jobs, threads = integer(n, "n", minimum=1), job_count(n_jobs), integer(threads, "threads", minimum=1)
    keep_models = flag(keep_models, "keep_models")
    if "resume" in fit:
        raise ValueError("resume: got one checkpoint for all starts; expected None, as each start is a new run")
    arguments = _arguments(count, seed, epsilon)
    model = _checked_build(build, arguments, count)
    settings: dict[str, Any] = {"loss": loss, "optimizer": optimizer, "metrics": metrics}
    trainer = Trainer(model, **settings)
    settings["metrics"] = dict(trainer.metrics)  # an iterator gives its metrics once
    mode = _checked_monitor(monitor, mode, trainer)
    run = functools.partial(
        _train,
        build=build,
        settings=settings,
        data=_data(trainer, x, y, fit.pop("sample_weight", None), validation, arguments[0][0]),
        monitor=monitor,
        mode=mode,
        callbacks=_callback_maker(callbacks, len(arguments)),
        fit=fit,
    )
    tasks = [(each,) for each in arguments]
    starts: dict[int, Start] = {}
    best = Best(math.inf, -1, None)
    done = run_all(run, tasks, n_jobs=jobs, threads=threads, what="restarts", progress=progress)
    with contextlib.closing(done):
        for i, start in done:
            if not start.note:
                key = start.value if mode == "min" else -start.value
                best = min(best, Best(key, i, start.model), key=lambda each: each[:2])
            starts[i] = start if keep_models else dataclasses.replace(start, model=None)
    listed = tuple(starts[i] for i in range(len(tasks)))
    if best.model is None:
        raise _nothing_to_compare(listed, monitor)
    return Restarts(best.model, listed[best.position], listed, monitor, mode)


class Best(NamedTuple):
    """The best start so far: its measure (less is better), its index, its model."""

    key: float
    position: int
    model: Sequential | None


class Split(NamedTuple):
    """The training and validation data of every start."""

    training: Prepared
    validation: Prepared


def _train(
    arguments: tuple[Any, ...],
    *,
    build: Callable[..., Sequential],
    settings: dict[str, Any],
    data: Split,
    monitor: str,
    mode: str,
    callbacks: Callable[..., Sequence[object]],
    fit: dict[str, Any],
) -> Start:
    """Train one start, and measure the result."""
    started = time.perf_counter()
    trainer = Trainer(build(*arguments), seed=arguments[0], **settings)
    (x, y, weights), validation = data
    training, measured, note = {"loss": math.inf}, {"loss": math.inf}, ""
    try:
        trainer.fit(x, y, sample_weight=weights, validation=validation, callbacks=callbacks(*arguments), **fit)
        training = trainer.evaluate(x, y, sample_weight=weights)
        measured = trainer.evaluate(validation.x, validation.y, sample_weight=validation.weights)
    except _core.DivergenceError as error:
        note = str(error)
    value = measured.get(monitor.removeprefix("val_"), math.nan)
    if not note and not math.isfinite(value):
        note = f"{monitor} is {value}"
    if note:
        value = math.inf if mode == "min" else -math.inf
    if note and not math.isfinite(measured["loss"]):
        training = measured = {"loss": math.inf}
    history = trainer.history
    ever = monitor in history and any(map(math.isfinite, history[monitor]))
    return Start(
        seed=arguments[0],
        epsilon=arguments[1] if len(arguments) > 1 else None,
        value=value,
        loss=training["loss"],
        val_loss=measured["loss"],
        best_epoch=history.best_epoch(monitor, mode) if ever else 0,
        epochs=history.last_epoch,
        seconds=time.perf_counter() - started,
        history=history,
        note=note,
        model=None if note else trainer.model,
    )


def _nothing_to_compare(starts: tuple[Start, ...], monitor: str) -> Exception:
    """Return the error if no start has a finite measure: the losses diverged, or only the measure is not finite."""
    there = next((start for start in starts if not start.diverged), None)
    if there is None:
        return _core.DivergenceError(f"every one of {len(starts)} starts diverged; the first: {starts[0].note}")
    return ValueError(f"monitor: no start has a finite {monitor}; with seed {there.seed} {there.note}")


def _arguments(n: int, seed: int, epsilon: Sequence[float] | None) -> list[tuple[Any, ...]]:
    """Return the arguments of `build` for each start."""
    first = seed_or_random(integer(seed, "seed"))
    if first + n > 2**63:
        raise ValueError(f"seed: got {seed}; expected {n} seeds from there to be below 2**63")
    seeds = range(first, first + n)
    if epsilon is None:
        return [(each,) for each in seeds]
    if isinstance(epsilon, (str, bytes, Set)) or has_keys(epsilon) or not is_iterable(epsilon):
        raise TypeError(f"epsilon: got {shown(epsilon)}; expected a list of scales to search over")
    scales = [real(value, f"epsilon[{i}]", low=0.0, open_low=True) for i, value in enumerate(epsilon)]
    if not scales or len(set(scales)) < len(scales):
        raise ValueError(f"epsilon: got {shown(epsilon)}; expected at least one scale, all of them different")
    return [(each, scale) for scale in scales for each in seeds]


def _checked_build(build: Callable[..., Sequential], arguments: list[tuple[Any, ...]], n: int) -> Sequential:
    """Return the first start's model; checks that it depends on the arguments, and on nothing else.

    There are `n` seeds for each ε: the second start differs from the first in the seed alone, the n-th in ε alone.
    """
    if not callable(build):
        raise TypeError(f"build: got {shown(build)}; expected a function of the seed that returns a model")
    with contextlib.suppress(ValueError):  # a callable may have no signature
        try:
            inspect.signature(build).bind(*arguments[0])
        except TypeError as error:
            call = "build(seed)" if len(arguments[0]) == 1 else "build(seed, epsilon), as epsilon is given"
            raise TypeError(f"build: is called as {call}: {error}") from None

    def weights(at: int) -> Array:
        return instance(build(*arguments[at]), Sequential, "build", EXAMPLE).copy_state()["parameters"]

    model = instance(build(*arguments[0]), Sequential, "build", EXAMPLE)
    again = weights(0)
    if not np.array_equal(model.copy_state()["parameters"], again):
        raise ValueError(
            f"build: returned different models for the same {arguments[0]}; expected one that depends on them alone: "
            "Sequential(..., seed=seed)"
        )
    for other in {1, n}:
        if other < len(arguments) and np.array_equal(again, weights(other)):
            raise ValueError(
                f"build: returned the same weights for {_called(arguments[0])} and {_called(arguments[other])}; "
                "expected starts that differ: pass the seed to gd.Sequential, and epsilon to the initialisers"
            )
    return model


def _called(arguments: tuple[Any, ...]) -> str:
    """Return the arguments of `build` as text: "seed 3", or "seed 3, epsilon 0.1"."""
    return ", ".join(f"{name} {value}" for name, value in zip(("seed", "epsilon"), arguments, strict=False))


def _checked_monitor(monitor: object, mode: str | None, trainer: Trainer) -> str:
    """Return the direction of the measure."""
    return direction(choice(monitor, "monitor", [f"val_{name}" for name in ("loss", *trainer.metrics)]), mode)


def _callback_maker(callbacks: Any, starts: int) -> Callable[..., Sequence[object]]:
    """Return a function that makes the callbacks of one start."""
    if callable(callbacks) and not any(hasattr(callbacks, event) for event in EVENTS):
        made: Callable[..., Sequence[object]] = callbacks
        return made
    listed = checked_callbacks(callbacks)
    for i, callback in enumerate(listed):
        if starts > 1 and isinstance(callback, (Checkpoint, CSVLog)):
            raise ValueError(
                f"callbacks[{i}]: {type(callback).__name__} would write one file for all starts; expected a function "
                "of the seed that gives each a file: lambda seed: [...]"
            )
    try:
        copy.deepcopy(listed)
    except TypeError as error:
        raise TypeError(
            f"callbacks: cannot be copied for every start ({error}); expected a function that makes them"
        ) from error
    return lambda *arguments: copy.deepcopy(listed)


def _data(
    trainer: Trainer, x: Data, y: Data, weights: Data | None, validation: Sequence[Data] | float, seed: int
) -> Split:
    """Return the data as arrays; validation data are the same for every start."""
    model, loss = trainer.model, trainer.loss
    given = prepared(model, loss, x, y, weights, check="columns")
    wanted = validation_of(validation, batches=False)
    if wanted.parts is None:
        training, other = wanted.split(len(given.x.array), seed)
        return Split(given.part(training), given.part(other))
    return Split(given, prepared(model, loss, *wanted.parts, "validation: ", known=given.columns))
