"""`TabularModel`: frames in, predictions out."""

from __future__ import annotations

import time as clock
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np

from .. import _core
from ..ensembles.ensemble import Ensemble
from ..internal.arguments import explained
from ..internal.arrays import Array
from ..internal.arrays import Data as DataLike
from ..internal.attributes import Fixed
from ..internal.checks import choice, flag, instance, integer, is_number, optional, real, seed_or_random, shown
from ..parquet.source import Parquet
from ..training.validation import check_parts
from .encoding import Encoding, fit, kinds_of
from .file_data import FileData, held_files
from .given import Given
from .learning import learn
from .odd_text import warn_of_odd_text
from .prediction import METRICS, TablePredictor, Turns
from .recipe import Facts, Recipe, chosen, completed, layout, recipe
from .roles import Roles
from .splitting import folds, split
from .targets import TASKS, Target
from .training import Arrays, Data, loss_of, train

__all__ = ["TabularModel"]


def _share(value: object, name: str) -> float:
    share = real(value, name, low=0, high=1)
    if share == 1:
        raise ValueError(f"{name}: got 1; expected a share of the rows below 1")
    return share


AGAIN = "make another one: TabularModel(...)"
FITTED = "fit sets it"


@explained
class TabularModel(TablePredictor):
    """Learns to predict a column of a table from the others.

    Columns of numbers, booleans, categories, text and dates are encoded, also with missing values; networks are
    trained on the encoded rows, and their predictions averaged. ``model.save(path)`` writes all of it to a file that
    ``gd.load`` reads. How columns are encoded and what is trained is described in docs/tables.md.

    ::

        model = TabularModel("regression").fit(frame, "price")
        model.predict(other_frame)

    Parameters
    ----------
    task : {"classification", "regression"}, optional
        Whether `y` are classes or numbers. Text, booleans, categories and dates are classes, fractions are numbers;
        whole numbers, floats too, may be either, so the task is needed for them.
    ensemble : int, optional
        Networks that are trained from different seeds and averaged; by default those of the recipe.
    time_limit : float, optional
        Seconds for a call of `fit`, after which training stops; one epoch of one network is always trained. How many
        epochs fit is measured, so that results differ from run to run.
    validation : float, optional
        Share of the rows that is held out of the training of all networks to choose their best epochs, where `fit` gets
        no validation data; 0 trains on all rows, for all epochs. By default each of k networks holds out a k-th of the
        rows of its own (cross-validation), or a fifth where that cannot be: for one network, or with `time`. Classes
        are divided in the same proportion, unless there are groups or times, and a row that is the only one of its
        class is trained on by all networks.
    class_weight : dict, "balanced" or None
        Weight of each class in the loss, 1 for missing ones; "balanced" as in `gdcore.CrossEntropy`.
    loss : Loss, optional
        By default `CrossEntropy` for classes, and `MeanSquaredError` of numbers that are scaled to deviation 1.
    kinds : mapping, optional
        Kind of columns by name, where it should be another than their values have: "number", "boolean", "category" or
        "date".
    recipe : mapping, optional
        Settings in place of those that are chosen by the number of rows: "widths", "activation", "dropout", "lr",
        "betas", "weight_decay", "label_smoothing", "batch_size", "epochs", "patience" (by default 15 of 40 epochs).
        After `fit`, ``recipe`` has all of them.
    seed : int, optional
        Seed of the validation rows and of the first network; None draws one.
    device : str
        As for `gdcore.Sequential`.
    n_jobs : int, optional
        Networks that are trained at a time, each with one thread; by default as many as there are threads.
    progress : bool
        Whether a bar is shown, on a terminal or in a notebook.

    Notes
    -----
    Results depend on the data and the arguments alone, not on the number of threads, except with `time_limit`.
    """

    __slots__ = (
        *("_chosen", "_class_weight", "_device", "_from_file", "_kinds", "_loss", "_members", "_n_jobs", "_progress"),
        *("_recipe", "_seed", "_task", "_time_limit", "_validation", "_validation_metrics", "__weakref__"),
    )
    time_limit: Fixed[float | None] = Fixed("Seconds for a call of fit.", AGAIN)
    validation: Fixed[float | None] = Fixed("Share of the rows held out.", AGAIN)
    class_weight: Fixed[Any] = Fixed("Weight of each class in the loss.", AGAIN)
    kinds: Fixed[Mapping[str, str]] = Fixed("Kinds that were given, by column.", AGAIN)
    seed: Fixed[int] = Fixed("Seed of the validation rows and of the first network.", AGAIN)
    device: Fixed[str] = Fixed("Device of the networks.", AGAIN)
    recipe: Fixed[Recipe | None] = Fixed(
        "How the networks were made and trained, all settings; files do not contain it.", FITTED
    )
    validation_metrics: Fixed[dict[str, float] | None] = Fixed(
        "Measures on the rows held out, each predicted by networks that were not trained on it. None if no rows were "
        "held out, and after ``gd.load``, as files do not contain them.",
        FITTED,
    )

    def __init__(
        self,
        task: str | None = None,
        *,
        ensemble: int | None = None,
        time_limit: float | None = None,
        validation: float | None = None,
        class_weight: Mapping[Any, float] | str | None = None,
        loss: _core.Loss | None = None,
        kinds: Mapping[str, str] | None = None,
        recipe: Mapping[str, Any] | None = None,
        seed: int | None = 0,
        device: str = "auto",
        n_jobs: int | None = None,
        progress: bool = True,
    ) -> None:
        self._task = None if task is None else choice(task, "task", TASKS)
        self._members = optional(lambda value, name: integer(value, name, minimum=1), ensemble, "ensemble")
        self._time_limit = optional(lambda v, name: real(v, name, low=0, open_low=True), time_limit, "time_limit")
        self._validation = optional(_share, validation, "validation")
        self._class_weight = class_weight
        _core.CrossEntropy(class_weight)  # which refuses other values
        self._loss = None if loss is None else instance(loss, _core.Loss, "loss", "gd.MeanSquaredError()")
        if kinds is not None and not isinstance(kinds, Mapping):
            raise TypeError(f"kinds: got {shown(kinds)}; expected a dict of kinds by column")
        self._kinds = {str(key): kind for key, kind in (kinds or {}).items()}
        self._chosen = chosen({} if recipe is None else recipe)
        if loss is not None and "label_smoothing" in self._chosen:
            raise ValueError("recipe: got label_smoothing beside a loss; expected it in the loss, label_smoothing=...")
        self._seed = seed_or_random(seed)
        self._device = choice(device, "device", ("auto", "cpu", "cuda"))
        self._n_jobs = n_jobs
        self._progress = flag(progress, "progress")
        self._target: Target | None = None
        self._encoding: Encoding | None = None
        self._ensemble: Ensemble | None = None
        self._ignored: tuple[str, ...] = ()
        self._turns = Turns()
        self._from_file = False
        self._recipe: Recipe | None = None
        self._validation_metrics: dict[str, float] | None = None

    def __repr__(self) -> str:
        """Return the task, and what was fitted."""
        if self._target is None or self._encoding is None or self._ensemble is None:
            return f"TabularModel(task={self._task!r}, not fitted)"
        size = f"{len(self._encoding.columns)} columns as {self._encoding.width} inputs"
        return f"TabularModel(task={self._target.task!r}, {size}, {len(self._ensemble)} networks)"

    @property
    def task(self) -> str | None:
        """The task: "classification" or "regression"; None if it is not known before `fit`."""
        return self._task if self._target is None else self._target.task

    # ---- Fitting ----------------------------------------------------------------------------------------------------
    def fit(
        self,
        x: Any,
        y: Any = None,
        *,
        sample_weight: DataLike | str | None = None,
        validation: Sequence[Any] | Parquet | None = None,
        groups: Any = None,
        time: Any = None,
    ) -> Self:
        """Learn from the rows of a table; an earlier fit is forgotten.

        Parameters
        ----------
        x : frame, dictionary of columns, array or Parquet
            The table: of pandas, polars or pyarrow, or another that narwhals takes; columns by name; or an array
            (rows, columns). Missing values are None, NaN, NaT or pandas.NA. `gdcore.data.Parquet` may be larger than
            memory; all other arguments are then names of its columns.
        y : str, list of str or array
            What is predicted: the name of a column of `x`, or names of several columns of numbers, which are then no
            inputs; or an array, series or list (rows,), or several numbers, (rows, K). For Parquet names, or nothing if
            the files have a `y`.
        sample_weight : array or str, optional
            Weight of each row, at least 0, or the name of a column. Rows of weight 0 have no influence at all.
        validation : (x, y), (x, y, weights) or Parquet, optional
            Rows to choose the best epoch with, instead of a share of `x`. Frames and files may stand beside each other;
            the targets of Parquet are its `y`, or else the column that `y` names.
        groups : array or str, optional
            The group of each row, or the name of a column, which is then no input: a group is held out as a whole.
        time : array or str, optional
            The time of each row, dates or numbers, or the name of a column: the last rows are held out.

        Returns
        -------
        TabularModel
            The model itself.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit; names the argument and the column. The model is unchanged then.
        DivergenceError
            If every network diverges.

        Warns
        -----
        UserWarning
            If a column of text looks like dates, numbers or codes with zeros in front, as it becomes categories.
        """
        if self._from_file:
            raise RuntimeError(
                "fit: this model comes from a file, which has no settings of fit; make a new TabularModel"
            )
        end = None if self._time_limit is None else clock.monotonic() + self._time_limit
        files = Roles.of(x, y, sample_weight, groups, time) if isinstance(x, Parquet) else None
        other = None if files is None else files.of_validation(validation)
        if files is not None and not files.in_memory(other):
            return self._fit_files(files, validation if other is None else other, end)
        given = Given.of(x, y, sample_weight, groups, time) if files is None else files.given()
        if files is None and isinstance(validation, Parquet):
            name = None if validation.y else given.target
            other = Roles.of(validation, name, None, name="validation: ", without=given.ignored)
        target = replace(Target.fit(given.y, self._task), name=given.target)
        kinds = kinds_of(given.frame, "x", self._kinds)
        warn_of_odd_text(given.frame.columns, self._kinds, stacklevel=4)
        facts = Facts(target.task, given.frame.rows, len(kinds), target.outputs)
        encoding = fit(given.frame, "x", kinds, layout(facts))
        wanted = self._recipe_for(facts)
        data = self._data(given, target, encoding, validation if other is None else other, wanted.members)
        return self._train(facts, wanted, target, encoding, data, end, given.ignored)

    def _recipe_for(self, facts: Facts) -> Recipe:
        found = completed(recipe(facts), self._chosen)
        return found if self._members is None else replace(found, members=self._members)

    def _fit_files(self, files: Roles, validation: Any, end: float | None) -> Self:
        """Learn from the rows of files that are larger than a window."""
        target, encoding, facts, group_rows, times = learn(files, self._task, self._kinds, self._seed)
        target = replace(target, name=files.target)
        wanted = self._recipe_for(facts)
        data = FileData.of(files, target, encoding, facts.rows, self._seed)
        if validation is not None:
            _one_choice(files)
            if isinstance(validation, Roles):
                data = data.validated(*held_files(validation, target, encoding, self._seed))
            else:
                arrays = _encoded(validation, target, encoding, files.ignored)
                data = data.validated(arrays, arrays)
        elif self._validation != 0:
            folded = self._validation is None and wanted.members > 1 and files.time is None
            share = 0.2 if self._validation is None else self._validation
            classes = None if target.classes is None else target.outputs
            data = data.divided(files, wanted.members if folded else None, share, group_rows, times, classes)
        return self._train(facts, wanted, target, encoding, data, end, files.ignored)

    def _train(
        self,
        facts: Facts,
        wanted: Recipe,
        target: Target,
        encoding: Encoding,
        data: Data | FileData,
        end: float | None,
        ignored: tuple[str, ...],
    ) -> Self:
        """Train the networks, and keep all that was learnt."""
        ensemble, used = train(
            replace(facts, inputs=encoding.width), wanted, data,
            loss_of(target, wanted, self._loss, self._class_weight),
            seed=self._seed, device=self._device, end=end, n_jobs=self._n_jobs, progress=self._progress,
        )  # fmt: skip
        self._target, self._encoding, self._ensemble = target, encoding, ensemble
        self._recipe, self._ignored = used, ignored
        self._validation_metrics = self._held_out(data)
        return self

    def _data(self, given: Given, target: Target, encoding: Encoding, validation: Any, members: int) -> Data:
        """Return the encoded rows to train on and to validate with."""
        all_rows = (encoding.encode(given.frame, "x"), target.encode(given.y), given.weights)
        if validation is not None:
            _one_choice(given)
            if isinstance(validation, Roles) and not validation.in_memory(None):
                return Data(all_rows, files=held_files(validation, target, encoding, self._seed))
            return Data(all_rows, _encoded(validation, target, encoding, given.ignored))
        rows, labels = given.frame.rows, None if target.classes is None else all_rows[1]
        if self._validation == 0 or _each_once(labels, given):
            return Data(all_rows)
        if self._validation is None and members > 1 and given.time is None:
            return Data(all_rows, splits=folds(rows, members, self._seed, labels, given.groups))
        share = 0.2 if self._validation is None else self._validation
        return Data(all_rows, splits=[split(rows, share, self._seed, labels, given.groups, given.time)])

    def _held_out(self, data: Data | FileData) -> dict[str, float] | None:
        """Return measures on the rows held out, each predicted by networks that were not trained on it."""
        target, _, ensemble = self._parts()
        found = data.held_out(ensemble, self._seed)
        if found is None:
            return None
        outputs, y, weights = found
        if target.classes is not None:
            return self._judged(outputs, target.class_array()[y], weights, METRICS[target.task])
        scaled = self._judged(outputs, y, weights, ("r2", "root_mean_squared_error"), scaled=True)
        error = {"root_mean_squared_error": scaled["root_mean_squared_error"] * target.scale[0]}
        return {"r2": scaled["r2"]} | (error if target.outputs == 1 else {})

    @classmethod
    def _of(cls, target: Target, encoding: Encoding, ensemble: Ensemble, ignored: tuple[str, ...]) -> Self:
        """Return a fitted model, as a file describes it."""
        made = cls(target.task)
        made._target, made._encoding, made._ensemble, made._ignored = target, encoding, ensemble, ignored
        made._from_file = True
        return made


def _each_once(labels: Array | None, given: Given) -> bool:
    """Return whether no class has a row to hold out."""
    free = given.groups is None and given.time is None
    return free and labels is not None and bool(np.bincount(labels).max() == 1)


def _one_choice(given: Given | Roles) -> None:
    """Raise ValueError for groups or times beside validation rows."""
    if given.groups is not None or given.time is not None:
        raise ValueError("validation: got rows beside groups or time, which choose them; expected one of these")


def _encoded(validation: Any, target: Target, encoding: Encoding, ignored: tuple[str, ...]) -> Arrays:
    """Return the rows of the argument `validation`, encoded; columns that are no inputs are ignored."""
    name = "validation: "
    if isinstance(validation, Roles):
        other = validation.given(name, ignored)
    else:
        hint = f"; a share is given to TabularModel(validation={validation})" if is_number(validation) else ""
        check_parts(validation, f"(x, y), (x, y, weights) or Parquet{hint}", files=True)
        weights = validation[2] if len(validation) == 3 else None
        other = Given.of(validation[0], validation[1], weights, name=name, also=ignored)
    frame = encoding.arranged(other.frame, f"{name}x")
    return encoding.encode(frame, f"{name}x"), target.encode(other.y, f"{name}y"), other.weights
