"""Training of the models of an ensemble: own seeds and, by choice, own rows."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from .. import _core
from ..data import split_rows
from ..history import History
from ..internal.arrays import Data
from ..internal.checks import flag, integer
from ..internal.prepared import Prepared, prepared
from ..model import Sequential
from ..trainer import Trainer
from ..training.stack import batches_of, fit_all
from ..training.validation import Validation, validation_of
from ..tuning.compare import callback_maker, check_build, check_call, check_split, placed, seeds_from
from ..tuning.parallel import run_all
from ..tuning.trials import Trial, no_name

__all__ = ["MemberTraining", "train"]


@dataclass(frozen=True)
class MemberTraining:
    """How one model of an ensemble was trained.

    Attributes
    ----------
    seed : int
        The seed passed to `build`; it also shuffles and draws rows.
    history : History
        The epochs.
    seconds : float
        Time it took.
    left_out : ndarray or None
        Whether each row of the given data was left out by the bootstrap, bool (N,); None without it. Validation rows
        count as not left out, since they decide when training stops.
    """

    seed: int
    history: History
    seconds: float
    left_out: npt.NDArray[np.bool_] | None = None


Member: TypeAlias = tuple[Sequential | None, MemberTraining, str]  # the model, and why it diverged


# The training data (x, y, weights), `validation` of `Trainer.fit`, and which rows were left out, if that is kept.
DataOfModel: TypeAlias = tuple[tuple[Any, Any, Any], Any, npt.NDArray[np.bool_] | None]


class RowsOfModels(Protocol):
    """The data of all models."""

    @property
    def own_rows(self) -> bool:
        """Whether each model has rows of its own."""
        ...

    def of(self, seed: int) -> DataOfModel:
        """Return the training and validation data of a model, and which rows were left out, if that is kept."""
        ...


class Given(NamedTuple):
    """The data of all models, and how the rows of each are drawn from it."""

    training: Prepared
    validation: Prepared | None
    share: float | None  # to hold out of `training` for each model
    rows: npt.NDArray[np.int64] | None  # the given rows that `training` has, if not all
    bootstrap: bool

    @property
    def own_rows(self) -> bool:
        """Whether each model has rows of its own."""
        return self.bootstrap or self.share is not None

    def of(self, seed: int) -> DataOfModel:
        """Return the training and validation data of a model, and which of the given rows its bootstrap left out."""
        training, validation = self.training, self.validation
        count = len(training.x.array)
        rows, given = (np.arange(count), count) if self.rows is None else (self.rows, len(self.rows))
        if self.rows is not None and validation is not None:
            given += len(validation.x.array)
        if self.share is not None:
            rows, others = split_rows(count, self.share, seed, name="validation")
            training, validation = training.part(rows), training.part(others)
        if not self.bootstrap:
            return training, validation, None
        drawn = np.random.default_rng(seed).integers(len(rows), size=len(rows))
        left_out = np.zeros(given, np.bool_)
        left_out[np.delete(rows, drawn)] = True
        return training.part(np.sort(drawn)), validation, left_out


def train(
    build: Callable[..., Sequential],
    n: int,
    data: tuple[Data, Data],
    *,
    settings: dict[str, Any],
    validation: Sequence[Data] | float | None,
    seed: int,
    bootstrap: bool,
    resplit: bool,
    where: dict[str, Any],
    callbacks: Sequence[object] | Callable[..., Sequence[object]],
    fit: dict[str, Any],
) -> tuple[list[Sequential], list[MemberTraining]]:
    """Return the trained models of `gdcore.Ensemble.train`, and how they were trained, without those that diverged.

    `settings` are the arguments of `Trainer`, `where` those of `run_all`.
    """
    count = integer(n, "n", minimum=1)
    trials = [Trial(each, {}) for each in seeds_from(integer(seed, "seed"), count)]
    where, bootstrap, resplit = placed(where), flag(bootstrap, "bootstrap"), flag(resplit, "resplit")
    check_split(fit)
    if "resume" in fit:
        raise ValueError("resume: got one checkpoint for all models; expected None, as each is trained anew")
    check_call(build, trials[0])
    check_build(lambda trial: build(trial.seed), trials, {1, count})
    trainer = Trainer(build(trials[0].seed), **settings)
    settings = settings | {"metrics": dict(trainer.metrics)}  # an iterator gives its metrics once
    members = Members(
        build=build,
        settings=settings,
        given=_given(trainer, data, fit.pop("sample_weight", None), validation, seed, bootstrap, resplit),
        callbacks=callback_maker(callbacks, count, lambda trial: callbacks(trial.seed)),  # type: ignore
        fit=fit,
    )
    return run_members(members, trials, placed(where, trainer.model.device, members.together), what="Ensemble.train")


def run_members(
    members: Members, trials: Sequence[Trial], where: dict[str, Any], *, what: str
) -> tuple[list[Sequential], list[MemberTraining]]:
    """Return the models of all trials, in order, and how they were trained, without those that diverged.

    `where` are arguments of `run_all`; `what` is the name of the call, for the progress bar and for errors.

    Raises
    ------
    DivergenceError
        If every model diverges.
    """
    found: dict[int, Member] = {}
    tasks = [(trial,) for trial in trials]
    done = run_all(members, tasks, what=what, name=lambda i: str(trials[i]), **where)
    with contextlib.closing(done):
        found.update(done)
    kept = [(model, training) for _, (model, training, _) in sorted(found.items()) if model is not None]
    notes = [f"seed {training.seed}: {note}" for _, (_, training, note) in sorted(found.items()) if note]
    if not kept:
        raise _core.DivergenceError(f"every one of {len(trials)} models diverged; the first: {notes[0]}")
    if notes:
        warnings.warn(f"{len(notes)} of {len(found)} models diverged and are left out; {notes[0]}", stacklevel=5)
    return [model for model, _ in kept], [training for _, training in kept]


def _given(
    trainer: Trainer,
    data: tuple[Data, Data],
    weights: Data | None,
    validation: Sequence[Data] | float | None,
    seed: int,
    bootstrap: bool,
    resplit: bool,
) -> Given:
    """Return the data of all models, checked."""
    model, loss = trainer.model, trainer.loss
    wanted = Validation() if validation is None else validation_of(validation, batches=False)
    if resplit and wanted.share is None:
        raise ValueError("resplit: got True without a share of rows; expected validation=0.1, or another share")
    training = prepared(model, loss, *data, weights, check="columns")
    if wanted.share is not None:
        rows, others = wanted.split(len(training.x.array), seed)  # which refuses an empty part
        if resplit:
            return Given(training, None, wanted.share, None, bootstrap)
        return Given(training.part(rows), training.part(others), None, rows, bootstrap)
    if wanted.parts is None:
        return Given(training, None, None, None, bootstrap)
    given = prepared(model, loss, *wanted.parts, "validation: ", known=training.columns)
    return Given(training, given, None, None, bootstrap)


@dataclass(frozen=True)
class Members:
    """Trains models of an ensemble: what `train` was given."""

    build: Callable[..., Sequential]
    settings: dict[str, Any]
    given: RowsOfModels
    callbacks: Callable[[Trial], Sequence[object]]
    fit: dict[str, Any]

    def __call__(self, trial: Trial) -> Member:
        """Return a trained model (None if it diverged), how it was trained, and why it diverged."""
        return next(self.together([(trial,)]))[1]

    def together(
        self, tasks: Sequence[tuple[Trial]], name: Callable[[int], str] = no_name
    ) -> Iterator[tuple[int, Member]]:
        """Yield the number of each task and its result; on a GPU, trainings that are alike run at once."""
        for first, trainers, names in batches_of(tasks, self._made, name, alone=self.given.own_rows):
            some = tasks[first : first + len(trainers)]
            calls, left_out = [], []
            for (trial,) in some:
                (x, y, weights), validation, without = self.given.of(trial.seed)
                given = {"x": x, "y": y, "sample_weight": weights, "validation": validation}
                calls.append({**given, **self.fit, "callbacks": self.callbacks(trial)})
                left_out.append(without)
            for i, note, seconds in fit_all(trainers, calls, names):
                training = MemberTraining(some[i][0].seed, trainers[i].history, seconds, left_out[i])
                yield first + i, (None if note else trainers[i].model, training, note)

    def _made(self, task: tuple[Trial]) -> Trainer:
        return Trainer(self.build(task[0].seed), seed=task[0].seed, **self.settings)
