"""`sweep`: trainings with other settings, each from several seeds, compared on validation data."""

from __future__ import annotations

import inspect
import itertools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from .. import _core
from ..internal.arguments import explained
from ..internal.arrays import Data
from ..internal.checks import instance, integer, is_iterable, optional, shown
from ..metrics import Metrics
from ..model import Sequential
from ..trainer import Trainer
from .compare import callback_maker, compare, seeds_from
from .starts import Sweep, by_settings, ranked
from .trials import Maker, Trial

__all__ = ["Sweep", "sweep"]

Settings: TypeAlias = Mapping[str, Any]
OF_ALL = {"self", "x", "y", "sample_weight", "validation", "callbacks"}  # the same for all settings
FIT = frozenset(inspect.signature(Trainer.fit).parameters) - OF_ALL
SCHEDULE = "dropout_schedule"  # of the trainer
PARTS = {"loss": (_core.Loss, "gd.CrossEntropy()"), "optimizer": (_core.Optimizer, "gd.Adam(1e-3)")}


@explained
def sweep(
    build: Callable[..., Sequential],
    settings: Mapping[str, Iterable[Any]] | Iterable[Settings],
    x: Data,
    y: Data,
    *,
    validation: Sequence[Data] | float,
    loss: _core.Loss | Callable[..., _core.Loss] | None = None,
    optimizer: _core.Optimizer | Callable[..., _core.Optimizer] | None = None,
    seeds: int = 1,
    seed: int = 0,
    draws: int | None = None,
    metrics: Metrics = (),
    dropout_schedule: Callable[[int], float] | None = None,
    monitor: str | None = None,
    mode: str | None = None,
    n_jobs: int | None = None,
    threads: int = 1,
    within: str | None = None,
    executor: Any = None,
    keep_models: bool = False,
    folder: str | os.PathLike[str] | None = None,
    progress: bool = True,
    callbacks: Sequence[object] | Callable[..., Sequence[object]] = (),
    **fit: Any,
) -> Sweep:
    """Train with each of many settings, from several seeds; compare them on validation data, and keep the best model.

    ::

        def build(seed, width):
            return gd.Sequential(gd.Dense(20, width), gd.ReLU(), gd.Dense(width, 1), seed=seed)

        result = gd.sweep(build, {"width": [16, 32], "rate": [1e-2, 1e-3], "batch_size": [16, 64]}, x, y,
                          validation=(xv, yv), loss=gd.MeanSquaredError(), optimizer=lambda rate: gd.Adam(rate),
                          seeds=3, epochs=50)
        print(result); result.plot("widths.png"); result.best_setting; result.best.save("model.safetensors")

    Functions get the settings that they name as arguments, and the seed if they name it. A setting named as an argument
    of `Trainer.fit` replaces it; so do "loss", "optimizer" and "dropout_schedule".

    Parameters
    ----------
    build : function
        ``build(seed, ...)`` returns a new model that depends on its arguments alone. Several threads call it at once,
        as they do the other functions.
    settings : mapping, or sequence of mappings
        The values of each setting, of which all combinations are tried; or the combinations themselves.
    x, y : array
        Training data, as for `Trainer.fit`.
    validation : (x, y), (x, y, weights) or float
        Data to compare on, or the share of rows to set aside for it: the same rows for all.
    loss, optimizer
        As for `Trainer`; or a function of settings that returns it.
    seeds : int
        Number of seeds for each setting: ``seed``, ``seed + 1``, ...; they also shuffle the rows.
    draws : int, optional
        Number of random combinations to try instead of all. A setting may then be a function of a NumPy generator, as
        ``lambda rng: 10 ** rng.uniform(-4, -1)``. The seed determines them: more draws begin with the same. Equal
        ones are tried once.
    metrics, dropout_schedule
        As for `Trainer`.
    monitor : str, optional
        The measure to compare: "val_loss", or "val_" and a metric's name. By default that of the `EarlyStopping` among
        the callbacks, which must be the same for all; "val_loss" without one, or if it monitors neither "val_loss" nor
        one of `metrics`.
    mode : {"min", "max"}, optional
        Whether less or more is better; known for the loss and metrics by name, needed for others.
    seed : int
        The first seed.
    n_jobs, threads, within, executor
        Where and how many trainings run at a time: see `restarts`.
    keep_models : bool
        Whether to keep all models, not only the best.
    folder : path, optional
        Where to keep finished trainings and the best models; created if missing. Later calls do not compute them again;
        they may ask for more settings and seeds. docs/many-networks.md says which functions count as the same.
    progress : bool
        Whether to show a progress bar, on a terminal or in a notebook.
    callbacks : sequence, or function
        Callbacks, copied for every training; or a function of settings that returns them. It may be called twice.
    **fit
        Further arguments of `Trainer.fit`: ``epochs``, ``batch_size``, ``sample_weight``; not ``resume``, ``stratify``.

    Returns
    -------
    Sweep
        ``.best``, ``.best_setting``, ``.table()``, ``.summary()`` over seeds, ``.plot(path)``.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid; nothing uses a setting; and as for `restarts`.
    DivergenceError
        If every training diverges. (If some do, they are rows of the table with an infinite measure and a note.)
    ImportError
        If processes are wanted and joblib is not installed.
    RuntimeError
        If the process of a training ends three times. Once or twice, it is computed again.
    KeyboardInterrupt
        On Ctrl-C; no thread or process is left.

    Notes
    -----
    The best setting is that of the best mean over its seeds, after leaving out those with a training that diverged, if
    there are others. The best of many looks better on the validation data than it is: evaluate it on test data. The
    results are the same, bit for bit, wherever they are computed.
    """
    first = integer(seed, "seed")
    found = _combinations(settings, optional(_draws, draws, "draws"), first)
    count = integer(seeds, "seeds", minimum=1)
    trials = [Trial(each, given, group) for group, given in enumerate(found) for each in seeds_from(first, count)]
    uses = _Uses(trials[0])
    made = callback_maker(callbacks, len(trials), uses.call(callbacks, "callbacks"))
    maker = Maker(
        build=uses.call(build, "build"),
        loss=uses.part(loss, "loss"),
        optimizer=uses.part(optimizer, "optimizer"),
        dropout_schedule=lambda trial: trial.settings.get(SCHEDULE, dropout_schedule),
        callbacks=made,
        fit=lambda trial: fit | {name: trial.settings[name] for name in trial.settings if name in FIT},
    )
    uses.check()
    where = {"n_jobs": n_jobs, "threads": threads, "within": within, "executor": executor, "progress": progress}
    starts, best, by, direction = compare(
        maker,
        trials,
        x,
        y,
        what="sweep",
        others={1} if count > 1 else set(),
        validation=validation,
        sample_weight=fit.pop("sample_weight", None),
        metrics=metrics,
        monitor=monitor,
        mode=mode,
        keep_models=keep_models,
        folder=folder,
        **where,
    )
    groups = by_settings(starts)
    first_best = min(best, key=lambda group: (*ranked(groups[group], direction), group))
    return Sweep(*best[first_best].pair(starts), starts, by, direction)


def _draws(draws: object, name: str) -> int:
    return integer(draws, name, minimum=1)


def _combinations(settings: Any, draws: int | None, seed: int) -> list[dict[str, Any]]:
    """Return the settings to try, each by its names."""
    if isinstance(settings, Mapping):
        _check_names(settings, "settings")
        values = {str(name): _values(each, f"settings[{shown(name)}]", draws) for name, each in settings.items()}
        if draws is None:
            return [dict(zip(values, each, strict=True)) for each in itertools.product(*values.values())]
        rng = np.random.default_rng(seed)
        drawn = [{name: _drawn(each, rng) for name, each in values.items()} for _ in range(draws)]
        return [each for i, each in enumerate(drawn) if not any(equal(each, other) for other in drawn[:i])]
    if isinstance(settings, (str, bytes)) or not is_iterable(settings):
        raise TypeError(f"settings: got {shown(settings)}; expected a dict of lists, or a list of dicts")
    if draws is not None:
        raise ValueError(
            "draws: got a list of combinations to draw from; expected the values of each setting in a dict"
        )
    checked = [_check_names(each, f"settings[{i}]") for i, each in enumerate(settings)]
    listed = [{str(name): value for name, value in each.items()} for each in checked]
    if not listed:
        raise ValueError("settings: got none; expected at least one")
    for i, each in enumerate(listed):
        if each.keys() != listed[0].keys():
            raise ValueError(
                f"settings[{i}]: got {shown(list(each))}; expected {shown(list(listed[0]))}, as in the first"
            )
        if any(equal(each, other) for other in listed[:i]):
            raise ValueError(f"settings[{i}]: got {shown(each)} a second time; expected settings that differ")
    return listed


def _check_names(settings: Any, name: str) -> Settings:
    if not isinstance(settings, Mapping) or not settings or not all(isinstance(key, str) for key in settings):
        raise TypeError(f"{name}: got {shown(settings)}; expected a dict with the names of settings")
    for key in ("seed", "callbacks"):
        if key in settings:
            raise ValueError(f"{name}: got {key!r}; expected settings beside the argument {key}")
    return settings


def _values(values: Any, name: str, draws: int | None) -> Any:
    """Return a setting's values as a list, or a function that draws one."""
    if draws is not None and callable(values) and not is_iterable(values):
        return values
    if isinstance(values, (str, bytes, Mapping)) or not is_iterable(values):
        what = "a list of values" if draws is None else "a list of values, or a function that draws one"
        raise TypeError(f"{name}: got {shown(values)}; expected {what}")
    listed = [value.item() if isinstance(value, np.generic) else value for value in values]
    if not listed or any(equal(value, other) for i, value in enumerate(listed) for other in listed[:i]):
        raise ValueError(f"{name}: got {shown(listed)}; expected at least one value, all of them different")
    return listed


def equal(one: Any, other: Any) -> bool:
    """Return whether two settings are equal; they may be arrays, or contain some."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return np.array_equal(one, other)
    return one is other or bool(one == other)


def _drawn(values: Any, rng: np.random.Generator) -> Any:
    value = values(rng) if callable(values) else values[rng.integers(len(values))]
    return value.item() if isinstance(value, np.generic) else value


class _Uses:
    """Calls functions with the settings that they name, and knows which settings nothing uses."""

    def __init__(self, trial: Trial) -> None:
        self._known = {"seed": trial.seed, **trial.settings}
        self._used = set(self._known) & (FIT | {SCHEDULE})

    def call(self, function: Any, name: str) -> Callable[[Trial], Any]:
        """Return a function of a trial that calls `function` with what it names."""
        if not callable(function) or isinstance(function, Sequential):
            if name == "build":
                raise TypeError(f"build: got {shown(function)}; expected a function of seed and settings")
            return lambda trial: function
        try:
            parameters = inspect.signature(function).parameters
        except ValueError:  # a callable may have no signature
            parameters = dict.fromkeys(self._known)  # type: ignore[assignment]
        kinds = [getattr(each, "kind", None) for each in parameters.values()]
        wanted = set(self._known) if inspect.Parameter.VAR_KEYWORD in kinds else set(self._known) & set(parameters)
        needed = [each for each in parameters.values() if each is not None and each.default is each.empty]
        for each in needed:
            if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL) and each.name not in wanted:
                raise TypeError(
                    f"{name}: has the argument {each.name!r}, which is no setting; expected some of "
                    f"{', '.join(self._known)}"
                )
        self._used |= wanted

        def called(trial: Trial) -> Any:
            given = {"seed": trial.seed, **trial.settings}
            return function(**{each: given[each] for each in given if each in wanted})

        return called

    def part(self, value: Any, name: str) -> Callable[[Trial], Any]:
        """Return a function of a trial that returns the loss or the optimiser."""
        kind, example = PARTS[name]
        if name in self._known:
            self._used.add(name)
            return lambda trial: instance(trial.settings[name], kind, f"settings[{name!r}]", example)
        if isinstance(value, (kind, type)) or not callable(value):
            instance(value, kind, name, example)
            return lambda trial: value
        call = self.call(value, name)
        return lambda trial: instance(call(trial), kind, name, example)

    def check(self) -> None:
        """Raise ValueError if nothing uses a setting."""
        for name in self._known:
            if name not in self._used and name != "seed":
                raise ValueError(
                    f"settings: {name!r} is an argument of neither build, loss, optimizer, callbacks nor Trainer.fit; "
                    "expected settings that something uses"
                )
