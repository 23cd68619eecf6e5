"""`Ensemble`: models that predict together, wherever a `Sequential` predicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np
import numpy.typing as npt

from .. import _core
from ..internal.arguments import explained
from ..internal.arrays import Array, Data
from ..internal.attributes import Fixed
from ..internal.checks import choice, integer, seed_or_random
from ..internal.inputs import to_inputs
from ..metrics import Metrics
from ..model import Sequential
from ..network.frozen import FrozenPredictor
from ..network.prediction import ROWS
from .members import checked_models, checked_weights
from .prediction import MeanPredictor
from .summary import summary as table_of

if TYPE_CHECKING:
    from ..io.destination import FileLike
    from .training import MemberTraining

__all__ = ["Ensemble"]

AGAIN = "make another one: gd.Ensemble(models, weights=..., average=...)"


@explained
class Ensemble(MeanPredictor):
    """Several models that predict together: the mean of their probabilities, or of their outputs.

    It predicts as a `Sequential` does, with the same calls, and more accurately than its models on average.
    `Ensemble.train` trains its models, `select` chooses among them, `save` and ``gd.load`` keep it in one file.

    Parameters
    ----------
    models : sequence of Sequential
        At least one; not copied, so that later changes of a model are changes of the ensemble. They may differ in
        layers, dtype and device, but must have the same inputs and outputs: their number, the meaning of the outputs,
        names of classes, and names of columns where known.
    weights : sequence of float, optional
        Weight of each model in the mean, above 0; by default equal, or those of a given ensemble. They count relative
        to their sum.
    average : {"probabilities", "outputs"}
        What is averaged where outputs are logits. Means of probabilities (Breiman 1996, Lakshminarayanan et al. 2017)
        are less confident than their members; means of outputs are geometric means of the odds. Numbers, and outputs
        of unknown meaning, are averaged as they are in either case.

    Raises
    ------
    TypeError
        If a model is no `Sequential`.
    ValueError
        If models do not agree, which names the first that differs; or a weight does not fit.

    Notes
    -----
    Predictions are in the dtype of the models, float64 if some are float64. Sums are in float64, in the order of the
    models, so a row's prediction depends neither on the other rows nor on ``batch_size``. ``ensemble[0]`` is a model,
    ``ensemble[:3]`` an ensemble; ``len``, iteration, ``in``, copies and pickles work. ``gd.Ensemble(ensemble,
    average="outputs")`` has the same models and weights.
    """

    __slots__ = ("_training",)
    models: Fixed[tuple[Sequential, ...]] = Fixed("The models.", AGAIN)
    weights: Fixed[tuple[float, ...]] = Fixed("Weight of each model; they count relative to their sum.", AGAIN)
    average: Fixed[str] = Fixed('What is averaged: "probabilities" or "outputs".', AGAIN)
    training: Fixed[tuple[MemberTraining, ...]] = Fixed(
        "How each model was trained by `train`; empty for other ensembles. Files do not contain it.", "train sets it"
    )

    def __init__(
        self,
        models: Iterable[Sequential],
        *,
        weights: Sequence[float] | None = None,
        average: str = "probabilities",
    ) -> None:
        self._models = checked_models(models)
        if weights is None and isinstance(models, Ensemble):
            weights = models.weights
        self._weights = checked_weights(weights, len(self._models))
        self._average = choice(average, "average", ("probabilities", "outputs"))
        self._training: tuple[MemberTraining, ...] = ()
        weight = np.asarray(self._weights)
        self._shares = np.ones(len(weight)) if (weight == weight[0]).all() else weight / weight.sum()
        self._dtypes = sorted(model.dtype for model in self._models)

    def __len__(self) -> int:
        """Return the number of models."""
        return len(self._models)

    def __iter__(self) -> Iterator[Sequential]:
        """Iterate over the models."""
        return iter(self._models)

    @overload
    def __getitem__(self, index: int) -> Sequential: ...
    @overload
    def __getitem__(self, index: slice) -> Ensemble: ...
    def __getitem__(self, index: int | slice) -> Sequential | Ensemble:
        """Return a model, or the ensemble of some models."""
        if isinstance(index, slice):
            return self._of(range(len(self))[index])
        return self._models[index]

    def __repr__(self) -> str:
        """Return the number of models, and what they share."""
        size = f"{len(self)} models of {self.in_features} inputs and {self.out_features} outputs"
        return f"Ensemble({size}, average={self._average!r})"

    def summary(self) -> str:
        """Return a table of the models: layers, parameters, dtype, device, share of the mean."""
        return table_of(self).text()

    def _repr_html_(self) -> str:
        """Return the table for notebooks."""
        return table_of(self)._repr_html_()

    def predictor(self) -> FrozenPredictor:
        """Return a copy of the ensemble for serving, which only predicts, as `Sequential.predictor` does."""
        return FrozenPredictor(self)

    def evaluate(
        self,
        x: Data | Iterable[Any],
        y: Data | None = None,
        *,
        loss: _core.Loss | None = None,
        metrics: Metrics = (),
        sample_weight: Data | None = None,
        batch_size: int = ROWS,
    ) -> dict[str, float]:
        """Measure loss and metrics of the ensemble on data.

        Parameters
        ----------
        x, y : array
            Inputs (N, in_features) and targets, as for `Trainer.evaluate`; or, without `y`, an iterable of batches
            (x, y) or (x, y, weights).
        loss : Loss, optional
            By default the one for the meaning of the outputs: `MeanSquaredError`, `Poisson`, `CrossEntropy` or
            `BinaryCrossEntropy`.
        metrics : sequence or mapping
            As for `Trainer`.
        sample_weight : array, optional
            Weight of each row, shape (N,).
        batch_size : int
            Rows that a model computes at once.

        Returns
        -------
        dict
            "loss" and the metrics by name, of the outputs that `predict` returns, computed in float64.

        Raises
        ------
        TypeError, ValueError
            As `Trainer` and `Trainer.evaluate`; if an output is NaN or infinite, which names the row; or if no loss is
            given and the meaning of the outputs is unknown.
        """
        from .scoring import Judge

        judge = Judge(self, loss, metrics)

        def outputs(given: Any) -> Array:
            return self._outputs(given, batch_size, True, "evaluate")

        return judge.batches(outputs, x, sample_weight) if y is None else judge.measure(outputs(x), y, sample_weight)

    def out_of_bag(
        self,
        x: Data,
        y: Data,
        *,
        loss: _core.Loss | None = None,
        metrics: Metrics = (),
        sample_weight: Data | None = None,
    ) -> dict[str, float]:
        """Measure the ensemble on its own training rows: each is predicted by the models whose bootstrap left it out.

        Parameters
        ----------
        x, y, sample_weight : array
            The data that `train` got, (N, in_features) and N targets, in the same order.
        loss, metrics
            As for `evaluate`.

        Returns
        -------
        dict
            "loss" and the metrics by name, over the rows that some models left out: with n models of equal weight a
            share of about 1 - (1 - 1/e)ⁿ. A row has about 0.37 n models, so the measures are a little worse than those
            of the whole ensemble on new rows.

        Raises
        ------
        ValueError
            If the models were not trained by ``Ensemble.train(bootstrap=True)``, or `x` has another number of rows.
        """
        from .scoring import Judge

        masks = [training.left_out for training in self._training]
        left_out = np.array([mask for mask in masks if mask is not None])
        if not len(left_out):
            raise ValueError("out_of_bag: no rows were left out; expected models of gd.Ensemble.train(bootstrap=True)")
        inputs = to_inputs(x, "x", self.feature_names)
        if inputs.array.ndim != 2 or len(inputs.array) != left_out.shape[1]:
            raise ValueError(f"x: got shape {inputs.array.shape}; expected the {left_out.shape[1]} rows of training")
        judge = Judge(self, loss, metrics)
        columns = judge.trainer.model.out_features
        given = judge.prepared(np.zeros((len(inputs.array), columns)), y, sample_weight)
        rows: npt.NDArray[np.int64] = np.flatnonzero(left_out.any(axis=0))
        shares = left_out[:, rows] * np.asarray(self._weights)[:, None]
        outputs = self._outputs(inputs.part(rows), ROWS, True, "out_of_bag", shares)
        _, y, weights = given.part(rows)
        return judge.measure(outputs, y, weights)

    @classmethod
    @explained
    def train(
        cls,
        build: Callable[..., Sequential],
        n: int,
        x: Data,
        y: Data,
        *,
        loss: _core.Loss,
        optimizer: _core.Optimizer,
        validation: Sequence[Data] | float | None = None,
        metrics: Metrics = (),
        dropout_schedule: Callable[[int], float] | None = None,
        seed: int = 0,
        bootstrap: bool = False,
        resplit: bool = False,
        average: str = "probabilities",
        n_jobs: int | None = None,
        threads: int = 1,
        within: str | None = None,
        executor: Any = None,
        progress: bool = True,
        callbacks: Sequence[object] | Callable[..., Sequence[object]] = (),
        **fit: Any,
    ) -> Self:
        """Train models from different seeds, by choice on different rows, and return them as an ensemble.

        ::

            def build(seed):
                return gd.Sequential(gd.Dense(20, 50), gd.ReLU(), gd.Dense(50, 3), seed=seed)

            ensemble = gd.Ensemble.train(build, 8, x, y, validation=(xv, yv), loss=gd.CrossEntropy(),
                                         optimizer=gd.Adam(1e-3), epochs=50, callbacks=[gd.EarlyStopping()])
            ensemble.evaluate(x_test, y_test, metrics=["accuracy"])

        Parameters
        ----------
        build : function
            ``build(seed)`` returns a new model that depends on the seed alone; layers may depend on it too.
        n : int
            Number of models. Their seeds are ``seed``, ``seed + 1``, ...; they also shuffle the rows.
        x, y : array
            Training data, as for `Trainer.fit`.
        loss, optimizer, metrics, dropout_schedule
            As for `Trainer`.
        validation : (x, y), (x, y, weights) or float, optional
            Data to measure at the end of each epoch, for early stopping; or the share of rows to hold out for it.
        seed : int
            The first seed.
        bootstrap : bool
            Whether each model is trained on N rows drawn with replacement from its N training rows (bagging, Breiman
            1996). The rows themselves are drawn, not weights: batches then have their size, and rows that are left out
            have no part in the averages of `BatchNorm`. `out_of_bag` measures on the rows left out.
        resplit : bool
            Whether each model holds out its own share of rows, drawn by its seed, instead of the same rows.
        average : {"probabilities", "outputs"}
            As in `Ensemble`.
        n_jobs, threads, within, executor, progress, callbacks
            As for `gdcore.restarts`: the models are trained in threads by default. Callbacks are copied for every
            model, or made by a function of the seed.
        **fit
            Further arguments of `Trainer.fit`: ``epochs``, ``batch_size``, ...; not ``resume``, ``stratify``.

        Returns
        -------
        Ensemble
            With equal weights; its ``training`` has seed, history and seconds of each model. A model that diverges is
            left out, with a warning.

        Raises
        ------
        TypeError, ValueError
            If an argument is invalid, as in `gdcore.restarts`.
        DivergenceError
            If every model diverges.
        KeyboardInterrupt
            On Ctrl-C; no thread or process is left.

        Notes
        -----
        The results are the same, bit for bit, wherever the models are trained and with how many threads.
        """
        from .training import train

        choice(average, "average", ("probabilities", "outputs"))
        models, training = train(
            build,
            n,
            (x, y),
            settings={"loss": loss, "optimizer": optimizer, "metrics": metrics, "dropout_schedule": dropout_schedule},
            validation=validation,
            seed=seed,
            bootstrap=bootstrap,
            resplit=resplit,
            where={"n_jobs": n_jobs, "threads": threads, "within": within, "executor": executor, "progress": progress},
            callbacks=callbacks,
            fit=fit,
        )
        made = cls(models, average=average)
        made._training = tuple(training)
        return made

    def select(
        self,
        x: Data,
        y: Data,
        *,
        measure: Any = None,
        mode: str | None = None,
        sample_weight: Data | None = None,
        size: int = 20,
        bags: int = 1,
        seed: int = 0,
    ) -> Ensemble:
        """Choose models, with repetition, so that their mean is good on validation data (Caruana et al. 2004).

        The models are sorted by their own measure; the first are taken, as many as is best (sorted initialisation).
        Then the model whose addition is best is added, again and again; the best of all these choices is returned.
        It is deterministic: the first of equal models, the shortest of equal choices.

        Parameters
        ----------
        x, y : array
            Validation data, as for `evaluate`: rows on which no model was trained.
        measure : Loss, name or function, optional
            The measure: a loss, or a metric as for `Trainer`. By default the loss for the meaning of the outputs.
        mode : {"min", "max"}, optional
            Whether less or more of the measure is better; known for losses and metrics by name, needed for others.
        sample_weight : array, optional
            Weight of each row, shape (N,).
        size : int
            Most picks, each of one model.
        bags : int
            Number of repetitions with half of the models each, drawn by `seed`; their picks are added up. 1 uses all
            models, once. Several bags overfit the validation data less.
        seed : int
            Seed of these draws.

        Returns
        -------
        Ensemble
            The models that were picked, in their order here, each weighted by its number of picks. Its measure on
            these data looks better than it is: evaluate it on test data. The weights of this ensemble are ignored.

        Raises
        ------
        TypeError, ValueError
            As `evaluate`; or if the measure is finite for no choice.
        """
        from .scoring import Judge
        from .selection import counts

        size, bags = integer(size, "size", minimum=1), integer(bags, "bags", minimum=1)
        is_loss = measure is None or isinstance(measure, _core.Loss)
        judge = Judge(self, measure if is_loss else None, () if is_loss else [measure])
        picked = counts(
            judge, self._mean(), self._members(x), y, sample_weight,
            mode=mode, size=size, bags=bags, seed=seed_or_random(seed),
        )  # fmt: skip
        chosen = [i for i, count in enumerate(picked) if count]
        return self._of(chosen, [float(picked[i]) for i in chosen])

    def _of(self, chosen: Sequence[int], weights: Sequence[float] | None = None) -> Ensemble:
        """Return the ensemble of some models, with their own weights or new ones."""
        weights = [self._weights[i] for i in chosen] if weights is None else weights
        made = Ensemble([self._models[i] for i in chosen], weights=weights, average=self._average)
        made._training = tuple(self._training[i] for i in chosen) if self._training else ()
        return made

    # ---- Copies and files --------------------------------------------------------------------------------------------
    def clone(
        self, *, dtype: npt.DTypeLike | None = None, device: str | None = None, precision: str | None = None
    ) -> Ensemble:
        """Return a copy with other settings of all models; see `Sequential.clone`."""
        models = [model.clone(dtype=dtype, device=device, precision=precision) for model in self._models]
        made = Ensemble(models, weights=self._weights, average=self._average)
        made._training = self._training
        return made

    def save(self, path: FileLike) -> None:
        """Write all models, their weights and what is averaged to one safetensors file, which ``gd.load`` reads.

        Everything else is as for `Sequential.save`. The arrays of model 3 are called "models.3.layers.0.weight" and so
        on, so that ``model.load_parameters(path, prefix="models.3.")`` takes them.
        """
        from ..io.ensembles import save_ensemble

        save_ensemble(self, path)

    def save_onnx(self, path: FileLike, *, outputs: str = "raw") -> None:
        """Write the ensemble, with its mean, to one ONNX file; arguments and errors as for `Sequential.save_onnx`."""
        from ..io.onnx.files import save_ensemble

        save_ensemble(self, path, outputs)
