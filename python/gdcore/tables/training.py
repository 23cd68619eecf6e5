"""Training of the networks of a table: layers, loss and optimiser of a recipe, members in threads, the time limit."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from .. import _core
from ..callbacks import Callback, EarlyStopping
from ..ensembles.ensemble import Ensemble
from ..ensembles.training import Given, Members, MemberTraining, RowsOfModels, run_members
from ..internal.arrays import Array
from ..internal.checks import shown
from ..internal.class_weights import weighted
from ..internal.labels import index_of, key_of
from ..internal.outputs import of_loss
from ..internal.prepared import Prepared, prepared
from ..model import Sequential
from ..optimizers import AdamW
from ..schedules import coslog4
from ..trainer import Trainer
from ..training.validation import Validation
from ..tuning.compare import placed, seeds_from
from ..tuning.parallel import checked_workers
from ..tuning.trials import Trial
from .recipe import Facts, Recipe
from .splitting import Rows
from .targets import Target

if TYPE_CHECKING:
    from .file_data import FileData
    from .windows import TableRows

__all__ = ["Arrays", "Data", "Ready", "loss_of", "train"]

PROBE = 8  # batches, to measure the time of an epoch
SAFETY = 0.8  # share of the time limit that the epochs are planned for


@dataclass(frozen=True)
class Network:
    """Makes the networks of a table, by their seed."""

    facts: Facts
    recipe: Recipe
    device: str

    def __call__(self, seed: int) -> Sequential:
        """Return a new network; its last layer is zero, so that it begins with the same prediction for all rows."""
        facts, recipe = self.facts, self.recipe
        layers: list[_core.Layer] = []
        before = facts.inputs
        for width in recipe.widths:
            layers += [_core.Dense(before, width), recipe.activation()]
            if recipe.dropout:
                layers.append(_core.Dropout(recipe.dropout))
            before = width
        layers.append(_core.Dense(before, facts.outputs, init=_core.Constant(0.0)))
        meaning = "classes" if facts.task == "classification" else "numbers"
        return Sequential(*layers, seed=seed, device=self.device, outputs=meaning)


Arrays: TypeAlias = tuple[Array, Array, Array | None]  # encoded rows: inputs, targets and weights


class Ready(NamedTuple):
    """What the networks of a table are trained on.

    Attributes
    ----------
    given : RowsOfModels
        The rows of each network.
    rows : int
        Rows that a network is trained on.
    some : function
        ``some(count)`` returns so many of these rows, to measure the time that they take.
    validated : bool
        Whether there are rows for validation.
    """

    given: RowsOfModels
    rows: int
    some: Callable[[int], Prepared]
    validated: bool


@dataclass(frozen=True)
class Data:
    """Encoded rows: inputs, targets and weights.

    Attributes
    ----------
    rows : tuple of arrays
        The rows that were given.
    validation : tuple of arrays, optional
        Rows given for validation.
    files : (TableRows, TableRows), optional
        Rows of files given for it, and those of them that are measured after training.
    splits : sequence of (training, validation)
        Otherwise the rows that each network is trained on and validated with, by number; one pair holds for all
        networks, none: all rows are trained on.
    """

    rows: Arrays
    validation: Arrays | None = None
    files: tuple[TableRows, TableRows] | None = None
    splits: Sequence[tuple[Rows, Rows]] = ()

    def ready(self, lead: Sequential, loss: _core.Loss, seed: int) -> Ready:
        """Return what networks are trained on, the first of which has a seed and is like `lead`."""
        known = prepared(lead, loss, *self.rows)
        given: RowsOfModels = Folds(known, self.splits, seed)
        if len(self.splits) < 2:
            held = None if self.validation is None else prepared(lead, loss, *self.validation, "validation: ")
            for part, others in self.splits:
                known, held = known.part(part), known.part(others)
            given = Given(known, held, None, None, False) if self.files is None else Beside(known, self.files[0])
        rows = len(self.splits[0][0]) if self.splits else len(known.x.array)
        validated = bool(self.splits) or self.validation is not None or self.files is not None
        return Ready(given, rows, lambda count: known.part(np.arange(count)), validated)

    def held_out(self, ensemble: Ensemble, seed: int) -> Arrays | None:
        """Return outputs, targets and weights of the rows held out, each of networks that were not trained on it."""
        if self.validation is not None:
            inputs, y, weights = self.validation
            return ensemble.predict(inputs), y, weights
        if self.files is not None:
            return self.files[1].measured(ensemble.predict)
        if not self.splits:
            return None
        found = []
        for model, training in zip(ensemble, ensemble.training, strict=True):
            rows = self.splits[(training.seed - seed) % len(self.splits)][1]
            found.append((rows, model.predict(self.rows[0][rows])))
        if len(self.splits) == 1:
            found = [(found[0][0], ensemble.predict(self.rows[0][found[0][0]]))]
        rows = np.concatenate([part for part, _ in found])
        outputs, y = np.concatenate([part for _, part in found]), self.rows[1][rows]
        return outputs, y, None if self.rows[2] is None else self.rows[2][rows]


class Folds(NamedTuple):
    """The data of networks that each hold out rows of their own."""

    given: Prepared
    splits: Sequence[tuple[Rows, Rows]]
    first: int
    own_rows: bool = True

    def of(self, seed: int) -> tuple[Prepared, Validation, None]:
        """Return all rows, which are not copied, and those that the network of a seed holds out."""
        return self.given, Validation(rows=self.splits[(seed - self.first) % len(self.splits)][1]), None


class Beside(NamedTuple):
    """The data of networks that are all trained on rows in memory and validated with those of files."""

    given: Prepared
    held: TableRows
    own_rows: bool = False

    def of(self, seed: int) -> tuple[Prepared, TableRows, None]:
        """Return all rows, and those to validate with."""
        return self.given, self.held, None


class Deadline(Callback):
    """Stops the training at a time of `time.monotonic`."""

    def __init__(self, end: float) -> None:
        self._end = end

    def on_progress(self, trainer: Trainer, batch: int, batches: int | None, loss: float) -> None:
        """Stop during an epoch, if there is an earlier one."""
        if time.monotonic() > self._end and trainer.epoch > 0:
            trainer.stop = True

    def on_epoch_end(self, trainer: Trainer, logs: dict[str, float]) -> None:
        """Stop after an epoch."""
        trainer.stop = trainer.stop or time.monotonic() > self._end


def loss_of(target: Target, recipe: Recipe, loss: _core.Loss | None, class_weight: Any) -> _core.Loss:
    """Return the loss of a task: the given one or that of the recipe, with weights by class as weights by index.

    Raises
    ------
    ValueError
        If the loss is of another task, or there are class weights for numbers or beside a given loss.
    """
    if loss is not None:
        wanted = "numbers" if target.classes is None else "classes"
        if of_loss(loss) != wanted:
            raise ValueError(f"loss: got {loss}, of {of_loss(loss)}; expected a loss of {wanted}, for {target.task}")
        if isinstance(loss, _core.Quantile) and len(loss.levels) > 1:
            raise ValueError(
                f"loss: got {len(loss.levels)} levels; expected Quantile of one: fit a TabularModel for each level"
            )
        if class_weight is not None:
            raise ValueError("class_weight: got it beside a loss; expected it in the loss, class_weights=...")
        if isinstance(loss, _core.CrossEntropy) and isinstance(loss.class_weights, Mapping):
            return weighted(loss, by_class(loss.class_weights, target, "loss: class_weights"))
        return loss
    if target.classes is None:
        if class_weight is not None:
            raise ValueError(f"class_weight: got {shown(class_weight)} for regression; expected None")
        if recipe.label_smoothing:
            raise ValueError("recipe: got label_smoothing for regression; expected it for classes alone")
        return _core.MeanSquaredError()
    if isinstance(class_weight, Mapping):
        class_weight = by_class(class_weight, target, "class_weight")
    return _core.CrossEntropy(class_weight, recipe.label_smoothing)


def by_class(weights: Mapping[Any, float], target: Target, name: str) -> list[float]:
    """Return weights by class as one for each class, in their order: networks know the classes by their numbers."""
    assert target.classes is not None
    numbers, ordered = index_of(target.classes), [1.0] * target.outputs
    for label, weight in weights.items():
        key = key_of(label)
        if key not in numbers:
            classes = shown(list(target.classes), 200)
            raise ValueError(f"{name}: got the class {shown(label)}; expected some of {classes}")
        ordered[numbers[key]] = float(weight)
    return ordered


def train(
    facts: Facts,
    recipe: Recipe,
    data: Data | FileData,
    loss: _core.Loss,
    *,
    seed: int,
    device: str,
    end: float | None,
    n_jobs: int | None,
    progress: bool,
) -> tuple[Ensemble, Recipe]:
    """Return the trained networks of a table as an ensemble, and their recipe, which `end` may have shortened.

    Parameters
    ----------
    facts, recipe, data, loss
        What is trained.
    seed : int
        Seed of the first network; the others have the next ones.
    device : str
        As for `Sequential`.
    end : float, optional
        When training must end, by `time.monotonic`: the number of epochs is then chosen by a measurement.
    n_jobs, progress
        As for `run_all`.
    """
    build = Network(facts, recipe, device)
    lead = build(seed)
    ready = data.ready(lead, loss, seed)
    where = {"n_jobs": n_jobs, "threads": 1, "within": None, "executor": None, "progress": progress}
    callbacks: list[object] = []
    if end is not None:
        recipe = _in_time(build, loss, ready, end, n_jobs)
        callbacks.append(Deadline(end))
    if ready.validated:
        callbacks.append(EarlyStopping(patience=recipe.patience))
    size = min(recipe.batch_size, ready.rows)
    steps = recipe.epochs * math.ceil(ready.rows / size)
    optimizer = AdamW(coslog4(recipe.lr, steps), recipe.betas, weight_decay=recipe.weight_decay)
    members = Members(
        build=build,
        settings={"loss": loss, "optimizer": optimizer, "metrics": {}},
        given=ready.given,
        callbacks=_Copies(callbacks),
        fit={"epochs": recipe.epochs, "batch_size": size},
    )
    trials = [Trial(each, {}) for each in seeds_from(seed, recipe.members)]
    where = placed(where, lead.device, members.together)
    models, training = run_members(members, trials, where, what="TabularModel.fit")
    return trained(models, training), recipe


def trained(models: Sequence[Sequential], training: Sequence[MemberTraining]) -> Ensemble:
    """Return models as an ensemble that knows how they were trained."""
    made = Ensemble(models)
    made._training = tuple(training)
    return made


class _Copies:
    """Makes the callbacks of a network: copies."""

    def __init__(self, callbacks: Sequence[object]) -> None:
        self._callbacks = callbacks

    def __call__(self, trial: Trial) -> list[object]:
        return copy.deepcopy(list(self._callbacks))


def _in_time(build: Network, loss: _core.Loss, ready: Ready, end: float, n_jobs: int | None) -> Recipe:
    """Return the recipe with fewer epochs, and members where not even one epoch of each fits, to end in time."""
    recipe, rows = build.recipe, ready.rows
    size = min(recipe.batch_size, rows)
    some = ready.some(min(PROBE * size, rows))
    trainer = Trainer(build(0), loss, optimizer=AdamW(1e-6))
    started = time.monotonic()
    trainer.fit(*some[:2], sample_weight=some.weights, epochs=1, batch_size=size)
    epoch = max(time.monotonic() - started, 1e-6) * rows / len(some.x.array)
    left = SAFETY * (end - time.monotonic())
    rounds = math.ceil(recipe.members / checked_workers(n_jobs).places())
    if left < rounds * epoch:
        return replace(recipe, members=1, epochs=max(1, min(recipe.epochs, int(left / epoch))))
    return replace(recipe, epochs=max(1, min(recipe.epochs, int(left / (rounds * epoch)))))
