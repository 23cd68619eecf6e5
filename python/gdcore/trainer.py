"""`Trainer`: trains a model with a loss and an optimiser, step by step or by epochs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core
from .history import History, StepHistory
from .internal.arguments import explained
from .internal.arrays import Array, Data
from .internal.attributes import Closed, Fixed, Setting
from .internal.checks import flag, instance, integer, seed_or_random, shown
from .internal.class_weights import trained
from .internal.features import UNNAMED
from .internal.outputs import meaning_of
from .metrics import Call, Metrics, called_metrics
from .model import Sequential
from .schedules import Rates
from .training.connection import Connected
from .training.data import DEFAULT_SIZE, Given, batch, is_plain, to_measure, training_data
from .training.fit import Fit, last_epoch
from .training.step_log import StepLog

if TYPE_CHECKING:
    from .io.destination import FileLike

__all__ = ["Trainer"]

FLOAT32, _ndarray = np.dtype(np.float32), np.ndarray  # looked up once: a small step takes 7 µs
MOST_STEPS = 2**62  # the largest count that a checkpoint can hold
ANOTHER = "make another one: gd.Trainer(model, loss, optimizer=...)"


@explained
class Trainer(Connected, Closed):
    """Trains a model with a loss and an optimiser.

    These attributes can be set and take effect from the next step or measurement on: ``metrics``, ``seed``,
    ``check_finite``, ``lr_scale``, ``decay_scale``, ``steps``, ``stop`` (True ends the running `fit`). A copy
    (copy.copy, copy.deepcopy, pickle, a worker process) has its own model, and trains on with the same bits.

    Parameters
    ----------
    model : Sequential
        The model to train, in place. If the meaning of its outputs is not set yet, the loss sets it: "classes" for
        `CrossEntropy`, "yes_no" for `BinaryCrossEntropy`, "counts" for `Poisson`, "numbers" for the others.
    loss : Loss
        The loss to minimise, such as ``gd.CrossEntropy()``.
    optimizer : Optimizer
        The update rule, such as ``gd.Adam(lr=1e-3)``. Its rate, weight decay and momentum may be functions of the step
        (`gdcore.schedules`). `fit` on arrays evaluates them for all steps of an epoch when the epoch begins.
    metrics : sequence, or mapping of columns to metrics
        Measures besides the loss: names ("accuracy", "roc_auc", ...) and functions of `gdcore.metrics`, of
        `sklearn.metrics` and of your own. They are called with (y_true, y_pred), and with ``sample_weight=`` if there
        are weights and the function has that parameter. See docs/metrics.md.
    seed : int, optional
        Seed of the shuffling. Defaults to the model's seed, so that one seed fixes the whole run.
    dropout_schedule : function, optional
        A factor on the p of all `Dropout` layers in a step, as a function of the step (0, 1, ...).
    check_finite : bool
        Whether data is checked for nan and infinity, once for each array. Without it, rows of weight 0 still are: their
        loss does not count, but their gradients would be nan.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If the loss or a metric does not fit the meaning of the model's outputs, or a metric's name is unknown.
    """

    __slots__ = (*("_history", "_metrics", "_seed", "_step_log", "_stop", "__weakref__"),)
    model: Fixed[Sequential] = Fixed("The model, trained in place.", ANOTHER)
    loss: Fixed[_core.Loss] = Fixed("The loss to minimise.", ANOTHER)
    optimizer: Fixed[_core.Optimizer] = Fixed("The update rule.", f"{ANOTHER}; lr_scale is a factor on the rate")
    history: Fixed[History] = Fixed("All epochs so far.", "it is what was measured")
    core: Fixed[_core.Trainer] = Fixed("The part in C++, which has the optimiser's state.", ANOTHER)
    rates: Fixed[Rates] = Fixed("The optimiser's rates before lr_scale, by step.", "they are the optimizer's")
    dropout_schedule: Fixed[Callable[[int], float] | None] = Fixed("Factor on dropout by step, or None.", ANOTHER)
    seed: Setting[int] = Setting("Seed of the shuffling, from the next epoch on.", seed_or_random)
    stop: Setting[bool] = Setting("Whether the running fit should end.", flag)

    def __init__(
        self,
        model: Sequential,
        loss: _core.Loss,
        *,
        optimizer: _core.Optimizer,
        metrics: Metrics = (),
        seed: int | None = None,
        dropout_schedule: Callable[[int], float] | None = None,
        check_finite: bool = True,
    ) -> None:
        self._model = instance(model, Sequential, "model", "Sequential(Dense(784, 10))")
        self._loss = instance(loss, _core.Loss, "loss", "CrossEntropy(), or CustomLoss(function)")
        self._optimizer = instance(optimizer, _core.Optimizer, "optimizer", "Adam(lr=1e-3)")
        meaning = meaning_of(loss, model)
        self.metrics = metrics
        self.seed = model.seed if seed is None else seed
        self._check_finite = flag(check_finite, "check_finite")
        self._history = History()
        self._step_log = StepLog()
        self.stop = False
        self._lr_scale = self._decay_scale = 1.0
        self._dropout_schedule = dropout_schedule
        self._complete: _core.Loss | None = None
        self._connect()
        if meaning is not None:
            model.outputs = meaning  # last: if the constructor raises, the model is unchanged

    @property
    def metrics(self) -> Mapping[str, Call]:
        """Measures besides the loss, by name."""
        return MappingProxyType(self._metrics)

    @metrics.setter
    def metrics(self, metrics: Metrics) -> None:
        meaning = meaning_of(self._loss, self._model) or self._model.outputs
        self._metrics = called_metrics(metrics, meaning, self._model.out_features)

    @property
    def check_finite(self) -> bool:
        """Whether data is checked for nan and infinity."""
        return self._check_finite

    @check_finite.setter
    def check_finite(self, value: bool) -> None:
        self._check_finite = flag(value, "check_finite")
        self._step = self._plain_step()

    @property
    def epoch(self) -> int:
        """Finished epochs, over all calls of `fit`."""
        return self._history._last_index()

    @property
    def first_epoch(self) -> int:
        """Finished epochs when the running `fit` began; the finished epochs outside `fit`."""
        return self.epoch if self._fit is None else self._fit.first_epoch

    @property
    def last_epoch(self) -> int:
        """Epoch at which the running `fit` ends, if nothing stops it earlier; the finished epochs outside `fit`."""
        return self.epoch if self._fit is None else self._fit.last_epoch

    @property
    def step_history(self) -> StepHistory:
        """Losses and rates by steps, a row for every so many steps of ``fit(log_every=...)``."""
        return self._step_log.history

    @property
    def steps(self) -> int:
        """Number of optimiser steps made; schedules, Adam's bias correction and dropout depend on it."""
        return self._core.steps

    @steps.setter
    def steps(self, steps: int) -> None:
        steps = integer(steps, "steps")
        if steps > MOST_STEPS:
            raise ValueError(f"steps: got {shown(steps)}; expected a whole number up to 2**62")
        self._core.steps = steps

    def step(self, x: Data, y: Data, sample_weight: Data | None = None) -> float:
        """Train on one batch.

        Parameters
        ----------
        x : array
            Inputs, shape (rows, in_features).
        y : array
            Targets: labels, shape (rows,), or an array of shape (rows, outputs).
        sample_weight : array, optional
            Weight of each row, shape (rows,).

        Returns
        -------
        float
            The batch's loss, before the step.

        Raises
        ------
        TypeError, ValueError
            If the batch does not fit; nothing is changed then. Nonzero inputs that all become zero in the model's dtype
            are refused. Only `fit`, which has all rows, also checks single columns for this.
        DivergenceError
            If the loss becomes nan or infinite.
        """
        step = self._step
        if (
            step is not None
            and sample_weight is None
            and type(x) is _ndarray
            and type(y) is _ndarray
            and self._model._classes is self._classes  # so the class weights are up to date too
            and (x.dtype is FLOAT32 or is_plain(x))
        ):
            try:
                return step(x, y, None)
            except (ValueError, TypeError, _core.DivergenceError):
                pass  # repeated below, where data is converted and every value is checked
        self._weigh()
        given = batch(self, x, y, sample_weight)
        arrays = (given.x.array, given.y.array, given.weights)
        loss = self._core.step(*arrays, rates=self._rates_of_step(), check_finite=self._check_finite)
        self._learn(given.columns)
        return loss

    def optimizer_step(self) -> None:
        """Make one step with the gradients that ``model.backward`` computed, for custom losses.

        Raises
        ------
        RuntimeError
            If no backward pass has computed gradients, or the trainer has a ``dropout_schedule``: the model's own
            forward pass does not follow it.
        """
        if self._dropout_schedule is not None:
            raise RuntimeError("optimizer_step: model.forward does not follow dropout_schedule; expected fit or step")
        self._core.optimizer_step(self._rates_of_step())

    def fit(
        self,
        x: Data | Iterable[Any],
        y: Data | None = None,
        *,
        epochs: int | None = None,
        until_epoch: int | None = None,
        batch_size: int | None = DEFAULT_SIZE,
        validation: Sequence[Data] | Iterable[Any] | float | None = None,
        stratify: bool | Data = False,
        callbacks: Sequence[object] = (),
        sample_weight: Data | None = None,
        shuffle: bool = True,
        drop_last: bool = False,
        steps_per_epoch: int | None = None,
        measure_training: bool = False,
        log_every: int | None = None,
        resume: FileLike | None = None,
    ) -> History:
        """Train for a number of epochs; a second call continues after the first.

        Parameters
        ----------
        x : array, Parquet or iterable
            Inputs, shape (N, in_features); a memory map stays on the disk. The column names of a frame are stored as
            ``model.feature_names``. Without `y`: `gdcore.data.Parquet`; or an iterable of batches (x, y) or (x, y,
            weights). It is iterated anew each epoch, and its batches are used unchanged.
        y : array
            Targets: labels, shape (N,), or an array of shape (N, outputs). Labels may be of any type and are looked up
            in the model's ``classes``; without ``classes`` they are integers from 0. The columns of a frame are
            reordered as the classes, or as the columns of the first frame of targets.
        epochs : int
            Number of further epochs to train. With `resume`, an unfinished epoch is the first of them.
            ``fit(epochs=5)`` twice is ``fit(epochs=10)``, bit for bit, if no callback restores weights and batches are
            not counted by `steps_per_epoch`.
        until_epoch : int
            Instead of `epochs`: train until the total number of epochs (``trainer.epoch``) is reached, earlier calls
            and the run of `resume` included. If it is reached already, nothing is trained.
        batch_size : int or None
            Rows in a batch, 32 by default. None, or a number above N, uses all rows: batch gradient descent. Must be
            left out for an iterable of batches.
        validation : (x, y), (x, y, weights), float, Parquet or iterable, optional
            Data to measure at the end of each epoch, also as batches; or the fraction of rows to hold out.
        stratify : bool or array
            True: a fraction is held out of each class of `y`, to the nearest row. An array (N,) gives other classes.
        callbacks : sequence
            Objects with some of the methods of `Callback`.
        sample_weight : array, optional
            Weight of each row in the loss, shape (N,).
        shuffle : bool
            Whether the rows are in a new random order each epoch.
        drop_last : bool
            Whether to leave out a last batch that is smaller than the others, if there are others. Otherwise a last
            batch of a single row is merged into the batch before it.
        steps_per_epoch : int, optional
            For an iterable: number of batches in an epoch. The iteration continues from epoch to epoch and restarts
            when it ends, so a generator may be endless. Another call of `fit` starts again at the iterable's first
            batch (an iterator continues).
        measure_training : bool
            Whether to measure loss and metrics on the training rows at the end of each epoch. Otherwise ``loss`` is the
            mean of the batch losses during training, which costs nothing.
        log_every : int, optional
            Steps between two rows of ``trainer.step_history``: the mean batch loss since the row before, and the rate.
        resume : path or binary file, optional
            A file of `Checkpoint`. The run that wrote it is continued as if it had never ended, for `epochs` more or up
            to `until_epoch`. All other arguments must be as before, functions by their code (docs/many-networks.md). A
            run that a callback had stopped stays stopped, with a UserWarning, unless `EarlyStopping` has more patience.

        Returns
        -------
        History
            All epochs so far, also those of earlier calls; the same object as ``trainer.history``.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit, before anything is changed. For a resumed run the message names the settings
            that differ.
        DivergenceError
            If the loss, the optimiser's state, or with ``check_finite=False`` a parameter in the end, is not finite.
        FileNotFoundError, ValueError
            If a Parquet file is deleted, changed or damaged meanwhile. The state is then as after KeyboardInterrupt.
        KeyboardInterrupt
            On Ctrl-C. Model and history stay usable. An unfinished epoch does not count; the next `fit` starts with it.
        """
        if self._fit is not None:
            raise RuntimeError("fit: this trainer is already training; call fit again after that")
        measure_training = flag(measure_training, "measure_training")
        log, every = (None, 1) if log_every is None else (self._step_log, integer(log_every, "log_every", minimum=1))
        seed, saved, known, first, done = self.seed, None, UNNAMED, self.epoch, self.epoch
        last_epoch(epochs, until_epoch, done)  # before a file is read
        if resume is not None:
            from .io import checkpoint  # here, to keep `import gdcore` fast

            saved = checkpoint.read(resume)
            seed, known = saved.seed, saved.columns(self.model)
            first, done = saved.training["first_epoch"], saved.history.last_epoch
        counts: dict[str, Any] = {"first_epoch": first, "last_epoch": last_epoch(epochs, until_epoch, done)}
        order = (batch_size, shuffle, drop_last, steps_per_epoch)
        given = Given(x, y, sample_weight, validation, stratify, *order, measure_training)
        source, data, columns = training_data(self, given, counts["last_epoch"] - first, seed, known)
        loss = trained(self.loss, self.model, source)
        fit = Fit(source, data, callbacks, **counts, metrics=self._metrics, measure_training=measure_training, log=log)
        fit.check(self)
        if saved is not None:
            self._resume(fit, saved)
        self._weigh(loss)
        self._learn(columns)
        self._step_log.every = every
        self._fit = fit
        try:
            fit.run(self)
        finally:
            self._fit = None
        if not self._check_finite and not np.isfinite(self._model.flat_parameters()).all():
            why = "probably by such values in the data, which check_finite=False leaves unchecked"
            raise _core.DivergenceError(f"[Trainer] the last step made parameters nan or infinite: {why}")
        return self.history

    def evaluate(
        self,
        x: Data | Iterable[Any],
        y: Data | None = None,
        *,
        sample_weight: Data | None = None,
        batch_size: int = 1024,
    ) -> dict[str, float]:
        """Measure loss and metrics on data in prediction mode (running averages, no dropout).

        Parameters
        ----------
        x, y : array
            Inputs (N, in_features) and targets; or, without `y`, `gdcore.data.Parquet` or an iterable of batches (x, y)
            or (x, y, weights).
        sample_weight : array, optional
            Weight of each row, shape (N,).
        batch_size : int
            Rows computed at once.

        Returns
        -------
        dict
            "loss" and the metrics by name.
        """
        self._weigh()
        rows = integer(batch_size, "batch_size", minimum=1)
        return to_measure(self, x, y, sample_weight).measure(self, batch_size=rows)

    @explained
    def predict(self, x: Data, *, batch_size: int = 1024) -> Array:
        """Return the model's outputs for the rows of `x`; see `Sequential.predict`."""
        return self.model.predict(x, batch_size=batch_size, check_finite=self.check_finite)

    def save_checkpoint(self, path: FileLike) -> None:
        """Write the whole state of training to a file; an old file is replaced only after the new one is on the disk.

        Parameters
        ----------
        path : path or binary file
            The file, as for `Sequential.save`. `gdcore.load` reads the model from it, ``fit(resume=path)`` resumes from
            it.

        Raises
        ------
        OSError, TypeError, ValueError
            If it cannot be written, or not be read again, for example because of a callback's state, or a schedule or
            custom loss uses something that cannot be pickled; an old file is then untouched.
        RuntimeError
            If `fit` runs in another thread, or a signal handler calls during a step: the state is inconsistent then.
            The callback `Checkpoint` saves only when the state is consistent.
        """
        from .io import checkpoint

        with self._model._hold(inside=False):  # another thread that trains waits
            self._check_thread("save_checkpoint", "give it the callback Checkpoint(path, seconds=...)")
            checkpoint.save(self._state(), path)

    def load_checkpoint(self, path: FileLike) -> None:
        """Restore the state of training from a file, for a custom loop; with `fit`, use ``resume=path``.

        Parameters
        ----------
        path : path or binary file
            A file of `Checkpoint` or `save_checkpoint`. If it was written inside an epoch, that epoch does not count.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        FormatError, ValueError
            If it is damaged, no checkpoint, or holds invalid values, or model (including names of classes and columns),
            loss, optimiser or ``dropout_schedule`` differ from those in the file; nothing is changed then.
        """
        from .io import checkpoint

        self._restore(checkpoint.fitting(checkpoint.read(path, name="path"), self._state()))
