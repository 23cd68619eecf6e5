"""`MLPBase`: what the two estimators share, from the parameters to fitting and raw outputs."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from .. import _core
from ..internal.arguments import misfit
from ..internal.arrays import Array, to_array
from ..internal.checks import choice, flag, integer, real, shown
from ..internal.frames import TABLES, is_frame
from ..model import Sequential
from ..trainer import Trainer
from .training import ROWS, Batches, Penalty, Rules, Table, data_loss, train

if TYPE_CHECKING:
    from numpy.random import RandomState

ACTIVATIONS: dict[str, Callable[[], _core.Layer] | None] = {
    "identity": None,
    "logistic": _core.Sigmoid,
    "tanh": _core.Tanh,
    "relu": _core.ReLU,
}
NORMS: dict[str, Callable[[int], _core.Layer]] = {"batch": _core.BatchNorm, "layer": _core.LayerNorm}
# The parameters with scikit-learn's defaults, then gdcore's own.
PARAMETERS: dict[str, Any] = {
    **{"hidden_layer_sizes": (100,), "activation": "relu", "solver": "adam", "alpha": 0.0001, "batch_size": "auto"},
    **{"learning_rate": "constant", "learning_rate_init": 0.001, "power_t": 0.5, "max_iter": 200, "shuffle": True},
    **{"random_state": None, "tol": 1e-4, "verbose": False, "warm_start": False, "momentum": 0.9},
    **{"nesterovs_momentum": True, "early_stopping": False, "validation_fraction": 0.1, "beta_1": 0.9},
    **{"beta_2": 0.999, "epsilon": 1e-8, "n_iter_no_change": 10, "max_fun": 15000},
    **{"dropout": 0.0, "norm": None, "schedule": None, "device": "cpu", "callbacks": ()},
}
_share = partial(real, low=0, high=1)
_positive, _not_negative = partial(real, low=0, open_low=True), partial(real, low=0)
_count = partial(integer, minimum=1)
CHECKS: dict[str, Callable[[Any, str], object]] = {
    "activation": partial(choice, options=ACTIVATIONS),
    "solver": partial(choice, options=("lbfgs", "sgd", "adam")),
    "learning_rate": partial(choice, options=("constant", "invscaling", "adaptive")),
    "device": partial(choice, options=("auto", "cpu", "cuda")),
    **dict.fromkeys(("alpha", "power_t", "tol"), _not_negative),
    **dict.fromkeys(("learning_rate_init", "epsilon"), _positive),
    **dict.fromkeys(("momentum", "validation_fraction", "beta_1", "beta_2", "dropout"), _share),
    **dict.fromkeys(("max_iter", "max_fun"), _count),
    **dict.fromkeys(("shuffle", "warm_start", "nesterovs_momentum", "early_stopping"), flag),
}


def constructor(first: Mapping[str, Any], last: Mapping[str, Any]) -> Callable[..., None]:
    """Return an ``__init__`` that stores its arguments: `first`, `PARAMETERS` and `last`, all with their defaults.

    The parameters up to ``activation`` can be given by position. scikit-learn reads the names from the signature.
    """
    defaults = {**first, **PARAMETERS, **last}
    kinds, by_position = inspect.Parameter, len(first) + 2
    parameters = [kinds("self", kinds.POSITIONAL_OR_KEYWORD)] + [
        kinds(name, kinds.POSITIONAL_OR_KEYWORD if i < by_position else kinds.KEYWORD_ONLY, default=value)
        for i, (name, value) in enumerate(defaults.items())
    ]
    signature = inspect.Signature(parameters)

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            bound = signature.bind(self, *args, **kwargs)
        except TypeError as error:
            kind = type(self)
            alone = signature.replace(parameters=parameters[1:])
            raise TypeError(misfit(kind.__name__, alone, args, kwargs, kind) or str(error)) from None
        bound.apply_defaults()
        del bound.arguments["self"]
        for name, value in bound.arguments.items():
            setattr(self, name, value)

    __init__.__signature__ = signature  # type: ignore[attr-defined]
    return __init__


def _refuse_other_columns(x: Any, other: str) -> None:
    """Raise TypeError for a column of a frame that has no numbers, with its name and the estimator that takes it."""
    try:
        to_array(x, "X")
    except TypeError as error:
        raise TypeError(str(error).replace(TABLES, f"{other} takes them")) from None


class MLPBase(BaseEstimator):  # type: ignore[misc]
    """Base of the estimators: a Sequential of Dense layers, trained by gdcore or by SciPy's L-BFGS."""

    model_: Sequential
    _loss: _core.Loss
    _random_state: RandomState

    # ---- What the two classes define ----------------------------------------------------------------------------
    def _encoded(self, y: Any, first: bool, incremental: bool) -> Array:
        """Return the targets as the loss takes them; learn the classes when `first`."""
        raise NotImplementedError

    def _head(self, y: Array) -> tuple[int, str, _core.Loss, str]:
        """Return the number of outputs, the output activation, the loss, and the meaning of the outputs."""
        raise NotImplementedError

    def _score_metric(self) -> Any:
        """Return the metric of the validation score."""
        raise NotImplementedError

    def _row_weights(self, y: Any, weights: Array | None, incremental: bool) -> Array | None:
        """Return the weights of the training rows."""
        return weights

    # ---- The fitted network --------------------------------------------------------------------------------------
    @property
    def coefs_(self) -> tuple[Array, ...]:
        """Weights of the Dense layers, copies of shape (inputs, outputs); can be set as a whole."""
        return tuple(_frozen(view.T) for view in self._parts("weight"))

    @coefs_.setter
    def coefs_(self, arrays: Any) -> None:
        self._set("weight", [np.asarray(array).T for array in arrays])

    @property
    def intercepts_(self) -> tuple[Array, ...]:
        """Biases of the Dense layers, copies of shape (outputs,); can be set as a whole."""
        return tuple(_frozen(view) for view in self._parts("bias"))

    @intercepts_.setter
    def intercepts_(self, arrays: Any) -> None:
        self._set("bias", arrays)

    def _parts(self, kind: str) -> list[Array]:
        parameters = self.model_.parameters()
        return [np.asarray(view) for name, view in parameters.items() if name.endswith(f".{kind}")]

    def _set(self, kind: str, arrays: Any) -> None:
        names = [name for name in self.model_.parameters() if name.endswith(f".{kind}")]
        given = dict(zip(names, arrays, strict=True))
        self.model_.load_parameters(given, only=names)

    # ---- Fitting -------------------------------------------------------------------------------------------------
    def _check(self) -> list[int]:
        """Check the parameters; return the widths of the hidden layers."""
        for name, check in CHECKS.items():
            check(getattr(self, name), name)
        if self.norm is not None:
            choice(self.norm, "norm", NORMS)
        if self.batch_size != "auto":
            _count(self.batch_size, "batch_size")
        if self.n_iter_no_change != np.inf:
            _count(self.n_iter_no_change, "n_iter_no_change")
        own = [name for name in ("schedule", "callbacks", "dropout") if getattr(self, name)]
        if self.solver == "lbfgs" and (own or self.norm == "batch"):
            name = own[0] if own else "norm"
            raise ValueError(
                f"{name}: got {shown(getattr(self, name))} for the solver 'lbfgs', which has neither batches nor "
                "epochs; expected 'sgd' or 'adam'"
            )
        if self.schedule is not None and self.learning_rate != "constant":
            raise ValueError(f"learning_rate: got {shown(self.learning_rate)} beside a schedule; expected 'constant'")
        sizes = self.hidden_layer_sizes
        sizes = sizes if hasattr(sizes, "__iter__") else [sizes]
        return [_count(size, "hidden_layer_sizes") for size in sizes]

    def _validated(self, x: Any, y: Any, first: bool) -> tuple[Any, Any]:
        options = {"accept_sparse": "csr", "dtype": (np.float64, np.float32), "reset": first}
        try:
            checked = validate_data(self, x, y, multi_output=True, y_numeric=not is_classifier(self), **options)
        except (TypeError, ValueError):
            if is_frame(x):
                _refuse_other_columns(x, "TabularClassifier" if is_classifier(self) else "TabularRegressor")
            raise
        return checked[0], checked[1].toarray() if hasattr(checked[1], "toarray") else checked[1]

    def _fit(
        self, X: Any, y: Any, sample_weight: Any = None, validation_data: Any = None, incremental: bool = False
    ) -> Self:
        widths = self._check()
        if incremental and self.early_stopping:
            raise ValueError("early_stopping: got True for partial_fit, which trains one epoch; expected False")
        first = not hasattr(self, "model_") or not (self.warm_start or incremental)
        X, y = self._validated(X, y, first)
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        encoded = self._encoded(y, first, incremental)
        self._random_state = check_random_state(self.random_state)
        kind = (widths, self.activation, self.norm, self.dropout, self.device, getattr(self, "loss", None))
        if first:
            self._build(X.shape[1], widths, encoded, X.dtype)
            self._kind = kind
        elif kind != self._kind:
            raise ValueError(
                "hidden_layer_sizes, activation, norm, dropout, device, loss: got others than those of the network "
                "that is trained further; expected the same, or fit with warm_start=False"
            )
        self.model_.classes = None  # targets are encoded
        table = Table(X, encoded, weights)
        held = self._held(validation_data, X.dtype)
        if self.solver == "lbfgs":
            if held is not None:
                raise ValueError("validation_data: got data for the solver 'lbfgs', which measures none; expected None")
            self._minimize(self._weighted(table, y, incremental))
        else:
            self._train(table, y, held, incremental)
        if not all(np.isfinite(np.asarray(view)).all() for view in self.model_.parameters().values()):
            raise ValueError("X: training gave weights that are not finite; expected inputs of about unit scale")
        self._name_outputs()
        return self

    def _weighted(self, table: Table, y: Any, incremental: bool) -> Table:
        """Return the training rows with their weights, checked."""
        weights = self._row_weights(y, table.weights, incremental)
        if weights is not None and not 0 < weights.sum() < np.inf:
            raise ValueError(f"sample_weight: got weights with the sum {weights.sum()}; expected a positive finite sum")
        return table._replace(weights=weights)

    def _name_outputs(self) -> None:
        """Give the model the names of the classes, where it can hold them."""

    def _held(self, validation_data: Any, dtype: Any) -> Table | None:
        """Return the validation data of a call, encoded."""
        if validation_data is None:
            return None
        if not isinstance(validation_data, tuple | list) or len(validation_data) not in (2, 3):
            raise TypeError(f"validation_data: got {shown(validation_data)}; expected (X, y) or (X, y, weights)")
        x, y = self._validated(validation_data[0], validation_data[1], False)
        weights = None if len(validation_data) == 2 else _check_sample_weight(validation_data[2], x)
        return Table(x.astype(dtype, copy=False), self._encoded(y, False, True), weights)

    def _build(self, inputs: int, widths: list[int], y: Array, dtype: Any) -> None:
        """Make the network with scikit-learn's initial weights, and reset what is recorded."""
        self.n_outputs_, self.out_activation_, self._loss, meaning = self._head(y)
        units = [inputs, *widths, self.n_outputs_]
        self.n_layers_ = len(units)
        layers: list[_core.Layer] = []
        coefs, intercepts = [], []
        for last, (before, after) in zip([False] * len(widths) + [True], pairwise(units), strict=True):
            bound = np.sqrt((2.0 if self.activation == "logistic" else 6.0) / (before + after))
            coefs.append(self._random_state.uniform(-bound, bound, (before, after)))
            intercepts.append(self._random_state.uniform(-bound, bound, after))
            layers.append(_core.Dense(before, after))
            activation = ACTIVATIONS[self.activation]
            if not last and self.norm is not None:
                layers.append(NORMS[self.norm](after))
            if not last and activation is not None:
                layers.append(activation())
            if not last and self.dropout:
                layers.append(_core.Dropout(self.dropout))
        # Drawn only where it is used: the order of the rows is then scikit-learn's.
        seed = int(self._random_state.randint(2**31 - 1)) if self.dropout else 0
        names = tuple(map(str, getattr(self, "feature_names_in_", ())))
        self.model_ = Sequential(
            *layers,
            seed=seed,
            dtype="float64" if self.solver == "lbfgs" else dtype,
            device=self.device,
            outputs=meaning,
            feature_names=names if names and len(set(names)) == inputs else None,
        )
        self.coefs_, self.intercepts_ = coefs, intercepts
        self.n_iter_ = self.t_ = 0
        for name in ("loss_curve_", "_trainer"):
            self.__dict__.pop(name, None)

    def _record(self, measured: bool) -> None:
        """Prepare what is recorded: anew for a new network, else only what is missing."""
        if not hasattr(self, "loss_curve_"):
            self.loss_curve_: list[float] = []
            self.best_loss_: float | None = None
            self.validation_scores_: list[float] | None = None
            self.best_validation_score_: float | None = None
            self._waited, self._best = 0, self.model_.copy_state()
        if not self.early_stopping and self.best_loss_ is None:
            self.best_loss_ = np.inf
        if measured and self.validation_scores_ is None:
            self.validation_scores_, self.best_validation_score_ = [], -np.inf

    def _penalty(self) -> Penalty:
        squared = isinstance(self._loss, _core.MeanSquaredError)
        return Penalty(float(self.alpha), 2 / self.n_outputs_ if squared else 1.0)

    def _trainer_of(self, penalty: Penalty, batch_size: int) -> Trainer:
        rate: Any = self.learning_rate_init if self.schedule is None else self.schedule
        decay = penalty.decay(batch_size)
        if self.solver == "sgd":
            momentum = {"momentum": self.momentum, "nesterov": self.nesterovs_momentum}
            optimizer: _core.Optimizer = _core.Momentum(rate, **momentum, weight_decay=decay)
        else:
            eps = self.epsilon * penalty.scale
            optimizer = _core.Adam(rate, betas=(self.beta_1, self.beta_2), eps=eps, weight_decay=decay)
        metrics = {"score": self._score_metric()}
        return Trainer(self.model_, self._loss, optimizer=optimizer, metrics=metrics, check_finite=True)

    def _train(self, table: Table, y: Any, held: Table | None, incremental: bool) -> None:
        """Train with batches, for one epoch if `incremental`."""
        if self.early_stopping and held is None:
            table, y, held = self._split(table, y)
        rows = len(table.y)
        table, penalty = self._weighted(table, y, incremental), self._penalty()
        if self.batch_size != "auto" and self.batch_size > rows:
            warnings.warn(f"batch_size: got {self.batch_size} for {rows} rows; all of them are used", stacklevel=4)
        size = min(200 if self.batch_size == "auto" else self.batch_size, rows)
        if not incremental or not hasattr(self, "_trainer"):
            self._trainer = self._trainer_of(penalty, size)
        trainer = self._trainer
        self._record(held is not None)
        source = Batches(trainer, table, size, penalty, self._random_state if self.shuffle else None)
        validation = None if held is None else held.checked(trainer, "validation_data")
        callbacks = list(self.callbacks) if hasattr(self.callbacks, "__iter__") else [self.callbacks]
        rules = Rules(self, rows, None if held is None else "val_score")
        try:
            train(trainer, source, validation, [rules, *callbacks], 1 if incremental else self.max_iter)
        except KeyboardInterrupt:
            warnings.warn("fit: interrupted; the estimator has the weights of the last step", stacklevel=4)
            return
        finally:
            if self.early_stopping:
                self.model_.restore_state(self._best)
        if not trainer.stop and not incremental:
            warnings.warn(
                f"max_iter: the loss still improved after {self.max_iter} epochs", ConvergenceWarning, stacklevel=4
            )

    def _split(self, table: Table, y: Any) -> tuple[Table, Any, Table]:
        """Return the training rows, their targets, and the rows held out, drawn as scikit-learn draws them."""
        stratify = table.y if is_classifier(self) and self.n_outputs_ == 1 else None
        options = {"random_state": self._random_state, "test_size": self.validation_fraction, "stratify": stratify}
        rows, others = train_test_split(np.arange(len(table.y)), **options)
        if len(others) < 2:
            raise ValueError(
                f"validation_fraction: got {self.validation_fraction} of {len(table.y)} rows; expected two rows or more"
            )
        return table.part(rows), y[rows], table.part(others)

    def _minimize(self, table: Table) -> None:
        """Minimise the loss of all rows by SciPy's L-BFGS-B."""
        from scipy.optimize import minimize

        from ..analysis import Objective

        if self.model_.dtype != "float64":
            self.model_ = self.model_.clone(dtype="float64")
        x, y, weights = table.dense()
        total = float(len(y) if weights is None else weights.sum())
        penalty = self._penalty()
        objective = Objective(self.model_, self._loss, x, y, sample_weight=weights, weight_decay=penalty.decay(total))

        def scaled(w: Array) -> tuple[float, Array]:
            value, gradient = objective.value_and_gradient(w)
            return value / penalty.scale, gradient / penalty.scale

        options = {"maxfun": self.max_fun, "maxiter": self.max_iter, "gtol": self.tol}
        found = minimize(scaled, objective.point, method="L-BFGS-B", jac=True, options=options)
        objective.move(found.x)
        self.n_iter_ = min(int(found.nit), self.max_iter)
        squares = 0.5 * float(objective.decay * found.x @ found.x)
        self.loss_ = data_loss(self._loss, found.fun * penalty.scale - squares) + squares / penalty.scale
        if self.verbose:
            print(f"L-BFGS: {found.nit} iterations, loss {self.loss_:.8f}")
        if found.status != 0:
            warnings.warn(f"solver: L-BFGS ended early: {found.message}", ConvergenceWarning, stacklevel=4)

    # ---- Predictions ---------------------------------------------------------------------------------------------
    def _outputs(self, X: Any) -> Array:
        """Return the network's outputs (N, K) before the output activation."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=(np.float64, np.float32), reset=False)
        if not hasattr(X, "toarray"):
            return self.model_.predict(X)
        parts = [self.model_.predict(X[first : first + ROWS].toarray()) for first in range(0, X.shape[0], ROWS)]
        return np.concatenate(parts)

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags: sparse inputs are accepted."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _frozen(view: Array) -> Array:
    copied = np.array(view)
    copied.flags.writeable = False
    return copied
