"""`restarts`: independent random starts of the same training, compared on validation data (slide 12)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence, Set
from typing import Any

from .. import _core
from ..internal.arguments import explained
from ..internal.arrays import Data
from ..internal.checks import has_keys, integer, is_iterable, real, shown
from ..metrics import Metrics
from ..model import Sequential
from .compare import callback_maker, check_call, compare, seeds_from
from .starts import Restarts, Spread, Start
from .trials import Maker, Trial

__all__ = ["Restarts", "Spread", "Start", "restarts"]


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
    dropout_schedule: Callable[[int], float] | None = None,
    epsilon: Sequence[float] | None = None,
    monitor: str | None = None,
    mode: str | None = None,
    seed: int = 0,
    n_jobs: int | None = None,
    threads: int = 1,
    within: str | None = None,
    executor: Any = None,
    keep_models: bool = False,
    folder: str | os.PathLike[str] | None = None,
    progress: bool = True,
    callbacks: Sequence[object] | Callable[..., Sequence[object]] = (),
    **fit: Any,
) -> Restarts:
    """Train from several random starts, compare the models on validation data, and keep the best (slide 12).

    ::

        def build(seed):
            return gd.Sequential(gd.Dense(20, 50), gd.ReLU(), gd.Dense(50, 1), seed=seed)

        result = gd.restarts(build, 10, x, y, validation=(xv, yv), loss=gd.MeanSquaredError(),
                             optimizer=gd.Adam(1e-3), epochs=50, callbacks=[gd.EarlyStopping()])
        print(result); result.plot("starts.png"); result.best.save("model.safetensors")

    Parameters
    ----------
    build : function
        ``build(seed)``, or ``build(seed, epsilon)`` where `epsilon` is given, returns a new model that depends on these
        alone. It may be a lambda. Several threads call it at once, as they do `callbacks`, metrics and schedules.
    n : int
        Number of starts (for each ε). Their seeds are ``seed``, ``seed + 1``, ...; they also shuffle the rows.
    x, y : array
        Training data, as for `Trainer.fit`.
    validation : (x, y), (x, y, weights) or float
        Data to compare on, or the share of rows to set aside for it: the same rows for every start.
    loss, optimizer, metrics, dropout_schedule
        As for `Trainer`.
    epsilon : sequence of float, optional
        Scales of the initial weights to search over (slide 20): each is tried with the same `n` seeds. `build` uses
        them: ``gd.Dense(20, 50, init=gd.Normal(epsilon))``.
    monitor : str, optional
        The measure to compare: "val_loss", or "val_" and a metric's name. By default that of the `EarlyStopping` among
        the callbacks, which must be the same for all; "val_loss" without one, or if it monitors neither "val_loss" nor
        one of `metrics`.
    mode : {"min", "max"}, optional
        Whether less or more is better; known for the loss and metrics by name, needed for others.
    seed : int
        The first seed.
    n_jobs : int, optional
        Starts at a time; 1: one after the other, in the calling thread; -1: one for each processor. When left out: on
        the CPU as many as the caller's threads (`get_num_threads`) are enough for; on a GPU small networks that differ
        in seeds, rates and weight decay alone are trained together, others one after the other.
    threads : int
        Threads that each start computes with, wherever it runs.
    within : {"threads", "processes", "joblib"}, optional
        Threads of this process, as when left out; processes of this machine, which need joblib; or the backend that
        `joblib.parallel_config` selects. Functions that use global state, such as ``np.random.seed``, need processes.
    executor : object, optional
        Runs the starts instead: an object with ``submit(function, *arguments)`` that returns futures, as those of
        `concurrent.futures` and loky, or a Dask client. Its processes get the data once each.
    keep_models : bool
        Whether to keep the models of all starts, not only of the best.
    folder : path, optional
        Where to keep finished starts and the best model; created if missing. A call with the same arguments does not
        compute them again; it may ask for more starts. docs/many-networks.md says which functions count as the same.
    progress : bool
        Whether to show a progress bar over the starts, on a terminal or in a notebook.
    callbacks : sequence, or function
        Callbacks, copied for every start; or a function with the arguments of `build`
        that returns them, for separate files: ``lambda seed: [gd.CSVLog(f"{seed}.csv")]``. It may be called twice.
    **fit
        Further arguments of `Trainer.fit`: ``epochs``, ``batch_size``, ``sample_weight``; not ``resume``, ``stratify``.

    Returns
    -------
    Restarts
        The best model and all starts; ``.table()``, ``.spread``, ``.plot(path)``.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid; `build` returns another model for the same seed, or the same for another seed or ε;
        callbacks would write to one file for all starts; no start has a finite measure, though its loss is finite;
        `folder` has a run with other data, or something to compare with it cannot be pickled; and errors of
        `Trainer.fit`.
    DivergenceError
        If every start diverges. (If some do, they are rows of the table with an infinite measure and a note.)
    ImportError
        If processes are wanted and joblib is not installed.
    RuntimeError
        If the process of a start ends three times, as for lack of memory. Once or twice, it is computed again.
    KeyboardInterrupt
        On Ctrl-C; no thread or process is left.

    Notes
    -----
    The models are compared as `fit` leaves them: with `EarlyStopping` with the weights of the best epoch, otherwise
    with those of the last. The results are the same, bit for bit, wherever they are computed and with how many threads.
    The best of many starts looks better on the validation data than it is: evaluate it on test data.
    """
    count = integer(n, "n", minimum=1)
    seeds = seeds_from(integer(seed, "seed"), count)
    trials = [Trial(each, scale) for scale in _scales(epsilon) for each in seeds]
    check_call(build, trials[0])
    maker = Maker(
        build=lambda trial: build(trial.seed, *trial.settings.values()),
        loss=lambda trial: loss,
        optimizer=lambda trial: optimizer,
        dropout_schedule=lambda trial: dropout_schedule,
        callbacks=callback_maker(
            callbacks,
            len(trials),
            lambda trial: callbacks(trial.seed, *trial.settings.values()),  # type: ignore
        ),
        fit=lambda trial: fit,
    )
    # Among the trials are `n` seeds for each ε: the second differs from the first in the seed alone, the n-th in ε.
    where = {"n_jobs": n_jobs, "threads": threads, "within": within, "executor": executor, "progress": progress}
    starts, best, by, direction = compare(
        maker,
        trials,
        x,
        y,
        what="restarts",
        others={1, count},
        validation=validation,
        sample_weight=fit.pop("sample_weight", None),
        metrics=metrics,
        monitor=monitor,
        mode=mode,
        keep_models=keep_models,
        folder=folder,
        **where,
    )
    return Restarts(*best[0].pair(starts), starts, by, direction)


def _scales(epsilon: Sequence[float] | None) -> list[dict[str, Any]]:
    """Return the settings to search over: for each scale one, or one without any."""
    if epsilon is None:
        return [{}]
    if isinstance(epsilon, (str, bytes, Set)) or has_keys(epsilon) or not is_iterable(epsilon):
        raise TypeError(f"epsilon: got {shown(epsilon)}; expected a list of scales to search over")
    scales = [real(value, f"epsilon[{i}]", low=0.0, open_low=True) for i, value in enumerate(epsilon)]
    if not scales or len(set(scales)) < len(scales):
        raise ValueError(f"epsilon: got {shown(epsilon)}; expected at least one scale, all of them different")
    return [{"epsilon": scale} for scale in scales]
