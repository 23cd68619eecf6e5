"""Training of the estimators: batches in scikit-learn's order, its penalty, and its rules for rates and stopping."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sklearn.utils import shuffle as shuffled

from .. import _core
from ..callbacks import Callback
from ..custom_loss import CustomLoss
from ..internal.arrays import Array
from ..internal.layer_names import all_layers
from ..training.fit import Fit
from ..training.measure import CheckedBatches, CheckedData
from ..training.sources import SLICE_SECONDS, Source

if TYPE_CHECKING:
    from ..trainer import Trainer

RUN: dict[str, Any] = {"shuffle": None, "drop_last": False, "first_batch": 0, "seconds": math.inf}
ROWS = 1024  # rows of a sparse matrix that are dense at a time, in predictions and measurements


class Table(NamedTuple):
    """Inputs (N, features), dense or in CSR format, encoded targets, and a weight for each row or None."""

    x: Any
    y: Array
    weights: Array | None

    def part(self, rows: Any) -> Table:
        """Return some of the rows, given by an index array or a slice."""
        return Table(self.x[rows], self.y[rows], None if self.weights is None else self.weights[rows])

    def dense(self) -> Table:
        """Return the table with dense inputs."""
        return self._replace(x=self.x.toarray()) if hasattr(self.x, "toarray") else self

    def checked(self, trainer: Trainer, name: str = "") -> CheckedData | CheckedBatches:
        """Return the rows as data to measure; a sparse table is converted batch by batch."""
        if hasattr(self.x, "toarray"):
            return CheckedBatches(trainer.model, _DenseBatches(self), name)
        return CheckedData(trainer.model, trainer.loss, *self, name)


class _DenseBatches:
    """The rows of a sparse table in dense batches, anew in each iteration."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def __iter__(self) -> Any:
        for first in range(0, len(self._table.y), ROWS):
            x, y, weights = self._table.part(slice(first, first + ROWS)).dense()
            yield (x, y) if weights is None else (x, y, weights)


class Penalty(NamedTuple):
    """The penalty ½ alpha |W|² / S of a batch of weight S.

    `scale` is the factor of gdcore's gradient to scikit-learn's: 2/K for the squared error of K outputs, otherwise 1.
    """

    alpha: float
    scale: float

    def decay(self, weight: float) -> float:
        """Return the weight decay for a batch of this weight."""
        return self.scale * self.alpha / weight


class Batches(Source):
    """Source of the batches of `Fit`, in the order that scikit-learn draws.

    Parameters
    ----------
    trainer : Trainer
        Its optimiser has a constant weight decay: that of a batch of the usual weight.
    table : Table
        The rows to train on.
    batch_size : int
        Rows in a batch; the last one has the rest.
    penalty : Penalty
        The penalty of the weights.
    random : RandomState or None
        Draws the order of each epoch; None keeps the order.

    Notes
    -----
    A batch of the usual weight is one call of the core. For others (a smaller last batch, weighted rows) the gradient
    is completed here. Where the penalty needs not be known at every step, on a GPU or with alpha = 0, all batches of
    the usual weight are one call.
    """

    batches: int

    def __init__(self, trainer: Trainer, table: Table, batch_size: int, penalty: Penalty, random: Any) -> None:
        rows, model = len(table.y), trainer.model
        self._table, self._size, self._penalty, self._random = table, batch_size, penalty, random
        self._order = np.arange(rows)
        single = rows % batch_size == 1 < batch_size < rows
        if single and any(isinstance(layer, _core.BatchNorm) for layer in all_layers(model.layers)):
            self.batches, self._full = rows // batch_size, rows // batch_size - 1  # a single row has no variance
        else:
            self.batches, self._full = -(-rows // batch_size), rows // batch_size
        dense = not hasattr(table.x, "toarray")
        self._data = CheckedData(model, trainer.loss, *table, check="columns") if dense else None
        self._decay = float(trainer.optimizer.weight_decay)
        usual = dense and table.weights is None and batch_size > 1 and penalty.decay(batch_size) == self._decay
        self._stride = self._full if usual and (penalty.alpha == 0 or model.device != "cpu") else 1
        self._momentum = isinstance(trainer.optimizer, _core.Momentum)
        self.done = False

    def settings(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of the batches."""
        weighted = self._table.weights is not None
        return {"rows": len(self._order), "batch_size": self._size, "sample_weight": weighted}

    def begin(self, trainer: Trainer, first: int) -> None:
        """Draw the order of an epoch."""
        if self._random is not None:
            self._order = shuffled(self._order, random_state=self._random)
        parameters = trainer.model.parameters()
        self._weights = {name: view for name, view in parameters.items() if name.endswith(".weight")}
        self._next, self.done = 0, False

    def advance(
        self, trainer: Trainer, loss_sum: float, weight_sum: float, most: int | None = None, log: object = None
    ) -> tuple[int, float, float]:
        """Train for a slice of time and `most` batches at most.

        Returns the batches done in this epoch, and the sums of loss times rows and of rows, added to those given.
        """
        end, until = time.perf_counter() + SLICE_SECONDS, self.batches if most is None else self._next + most
        while not self.done and self._next < until and time.perf_counter() < end:
            count = max(1, min(self._stride, self._full - self._next, until - self._next))
            first = self._next * self._size
            last = first + count * self._size if self._next + count < self.batches else len(self._order)
            loss_sum += self._train(trainer, self._order[first:last], count) * (last - first)
            weight_sum += last - first
            self._next += count
            self.done = self._next == self.batches
        if self.done:
            self._weights = {}  # views make predictions slower
        return self._next, loss_sum, weight_sum

    def _train(self, trainer: Trainer, rows: Array, count: int) -> float:
        """Make `count` steps on as many batches; return the mean loss with the penalty, before each step."""
        if trainer.decay_scale != 1.0:
            raise ValueError("trainer.decay_scale: expected 1, as alpha is the same in all steps here")
        table, penalty = self._table, self._penalty
        weight = len(rows) / count if table.weights is None else float(table.weights[rows].sum())
        if weight == 0.0:
            return 0.0
        rates = trainer.rates.epoch(trainer.steps, count) * trainer.lr_scale
        rates = rates / penalty.scale if self._momentum else rates
        before = self._squares()
        missing = penalty.decay(weight) - self._decay
        if missing:
            loss = self._step(trainer, rows, float(rates[0]), missing)
        else:
            data, index = (self._data, rows) if self._data is not None else (self._of_sparse(trainer, rows), None)
            counts: dict[str, Any] = {"batch_size": self._size, "last_batch": count}
            _, total, of = trainer.core.run(data.dataset, index, **counts, rates=rates, **RUN)
            loss = total / of
        squares = before if count == 1 else (before + self._squares()) / 2
        return data_loss(trainer.loss, loss) + 0.5 * penalty.alpha * squares / weight

    def _of_sparse(self, trainer: Trainer, rows: Array) -> CheckedData:
        return CheckedData(trainer.model, trainer.loss, *self._table.part(rows).dense(), check="batch")

    def _squares(self) -> float:
        if self._penalty.alpha == 0:
            return 0.0
        return sum(_core.ops.sum_of_squares(np.asarray(view)) for view in self._weights.values())

    def _step(self, trainer: Trainer, rows: Array, rate: float, missing: float) -> float:
        """Make a step whose weight decay is larger than the optimiser's by `missing`; return the mean loss."""
        model, (x, y, weights) = trainer.model, self._table.part(rows).dense()
        outputs = np.array(model.forward(x, check_finite=False))
        loss, slopes = loss_and_slopes(trainer.loss, outputs, y, weights)
        if not math.isfinite(loss):
            raise _core.DivergenceError(f"fit: the loss became {loss} in step {trainer.steps}; expected smaller rates")
        model.backward(slopes)
        gradients = model.gradients()
        for name, view in self._weights.items():
            gradient = gradients[name]
            gradient[...] = np.asarray(gradient) + missing * np.asarray(view)
        trainer.core.optimizer_step(rate)
        return loss


def data_loss(loss: _core.Loss, value: float) -> float:
    """Return a mean loss of gdcore as scikit-learn defines it: half the squared error."""
    return value / 2 if isinstance(loss, _core.MeanSquaredError) else value


def loss_and_slopes(loss: _core.Loss, outputs: Array, y: Array, weights: Array | None) -> tuple[float, Array]:
    """Return the mean loss of outputs (N, K), and its gradient by them."""
    if isinstance(loss, CustomLoss):
        given: Array = np.ones(len(outputs)) if weights is None else weights
        losses, slopes = loss.function(outputs, y)
        total = given.sum()
        return float((given * losses).sum() / total), (slopes * (given / total)[:, None]).astype(outputs.dtype)
    if isinstance(loss, _core.CrossEntropy):
        y = np.eye(outputs.shape[1], dtype=outputs.dtype)[y]
    slopes = np.empty_like(outputs)
    of_rows = None if weights is None else weights.astype(outputs.dtype)
    total, weight = _core.ops.loss(loss, outputs, np.ascontiguousarray(y, outputs.dtype), of_rows, slopes)
    return total / weight, slopes


class Rules(Callback):
    """scikit-learn's rules at the end of an epoch: what is recorded, the next rate, and whether training ends.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        The estimator, whose attributes are updated.
    rows : int
        Training rows, by which ``t_`` grows.
    watched : str or None
        Column of the validation score in the logs.
    """

    def __init__(self, estimator: Any, rows: int, watched: str | None) -> None:
        self._of, self._rows, self._watched = estimator, rows, watched

    def on_train_begin(self, trainer: Trainer) -> None:
        """Start counting epochs."""
        self._of.n_iter_ = 0

    def on_epoch_end(self, trainer: Trainer, logs: dict[str, float]) -> None:
        """Record the epoch and decide how training goes on."""
        of = self._of
        of.n_iter_ += 1
        of.t_ += self._rows
        of.loss_ = logs["loss"]
        of.loss_curve_.append(of.loss_)
        score = None if self._watched is None else logs[self._watched]
        if of.verbose:
            print(f"epoch {of.n_iter_}: loss {of.loss_:.8f}" + ("" if score is None else f", score {score:.6f}"))
        of._waited = 0 if self._improved(trainer, score) else of._waited + 1
        if of.solver == "sgd" and of.learning_rate == "invscaling":
            trainer.lr_scale = float(of.t_ + 1) ** -of.power_t
        if of._waited > of.n_iter_no_change:
            self._end(trainer)

    def _improved(self, trainer: Trainer, score: float | None) -> bool:
        """Return whether the watched measure has improved by `tol`; keep the best values, and weights of the best."""
        of, improved = self._of, True
        if score is not None:
            of.validation_scores_.append(score)
            improved = not score < of.best_validation_score_ + of.tol
            if score > of.best_validation_score_:
                of.best_validation_score_ = score
                of._best = trainer.model.copy_state() if of.early_stopping else of._best
        if not of.early_stopping:
            improved = not of.loss_ > of.best_loss_ - of.tol
            of.best_loss_ = min(of.best_loss_, of.loss_)
        return improved

    def _end(self, trainer: Trainer) -> None:
        """Stop, or continue with a fifth of the rate where it is adaptive and large enough."""
        of = self._of
        adaptive = of.solver == "sgd" and of.learning_rate == "adaptive" and trainer.lr > 1e-6
        if adaptive:
            trainer.lr_scale /= 5
            of._waited = 0
        else:
            trainer.stop = True
        if of.verbose:
            what = f"rate {trainer.lr:g} from now on" if adaptive else "training ends"
            print(f"no improvement by {of.tol:g} in {of.n_iter_no_change} epochs: {what}")


def train(trainer: Trainer, source: Batches, validation: Any, callbacks: list[object], epochs: int) -> None:
    """Train for at most `epochs` epochs; ``trainer.stop`` then says whether a callback has ended the training."""
    options: dict[str, Any] = {"metrics": tuple(trainer.metrics), "measure_training": False, "log": None}
    options |= {"first_epoch": trainer.epoch, "last_epoch": trainer.epoch + epochs}
    fit = Fit(source, validation, callbacks, **options)
    fit.check(trainer)
    trainer._fit = fit
    try:
        fit.run(trainer)
    finally:
        trainer._fit = None
