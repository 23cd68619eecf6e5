"""`MLPClassifier` and `MLPRegressor`."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import type_of_target, unique_labels
from sklearn.utils.validation import check_is_fitted

from .. import _core
from ..custom_loss import CustomLoss
from ..internal.arguments import explained
from ..internal.arrays import Array
from ..internal.checks import choice, shown
from ..internal.outputs import answers
from ..metrics import r2
from .base import MLPBase, constructor

__all__ = ["MLPClassifier", "MLPRegressor"]


def _has_batches(estimator: Any) -> bool:
    if estimator.solver == "lbfgs":
        raise AttributeError("partial_fit: got the solver 'lbfgs', which has no batches; expected 'sgd' or 'adam'")
    return True


@explained
class MLPClassifier(ClassifierMixin, MLPBase):  # type: ignore[misc]
    """A feed-forward classifier with the interface and the defaults of scikit-learn's `MLPClassifier`.

    Two classes have one output and a logistic function, several have a softmax, and y of shape (N, K) with elements 0
    and 1 has K independent answers. The loss is the cross-entropy.

    Parameters
    ----------
    hidden_layer_sizes, activation, solver, ... : as in `sklearn.neural_network.MLPClassifier`
        Names, defaults and meaning are those of scikit-learn, which documents them.
    dropout : float
        Probability with which the outputs of hidden layers are set to zero in training.
    norm : {None, "batch", "layer"}
        Normalisation of hidden layers, before the activation. Its γ and β are not penalised by `alpha`.
    schedule : callable, optional
        The learning rate as a function of the step (from 0), such as ``gd.schedules.cosine(1e-3, steps=2000)``. It
        replaces `learning_rate_init`.
    device : {"cpu", "cuda", "auto"}
        Where the network is trained. On a GPU with ``alpha > 0``, ``loss_`` contains the penalty of the mean of an
        epoch's first and last weights instead of each step's.
    callbacks : sequence
        Callbacks of gdcore, such as ``gd.Checkpoint``; they are used as they are, so a clone has copies of them.
    class_weight : dict, "balanced" or None
        Factors on the weights of the training rows by class, as in other classifiers of scikit-learn. Validation
        scores do not use it.

    Attributes
    ----------
    model_ : Sequential
        The network; its outputs are logits. ``model_.save(path)`` writes it to a file.
    coefs_, intercepts_ : tuple of ndarray
        Read-only copies; setting the whole attribute changes the network.
    classes_, loss_, loss_curve_, best_loss_, validation_scores_, best_validation_score_, t_, n_iter_, n_layers_,
    n_outputs_, out_activation_, n_features_in_, feature_names_in_
        As in scikit-learn.

    Notes
    -----
    The same `random_state` draws the same initial weights, order of rows and validation rows as scikit-learn. With
    solvers "sgd" and "lbfgs" the loss curve is the same up to rounding. What differs:

    - "adam" adds `epsilon` after the bias correction (Kingma & Ba 2014, Algorithm 1), scikit-learn before it. Updates
      differ where gradients are about as small as `epsilon`.
    - Probabilities are not clipped in the loss.
    - A batch whose rows all have weight 0 is skipped. With ``norm="batch"`` a last batch of one row joins the one
      before.
    - ``momentum``, ``beta_1`` and ``beta_2`` of 1 are refused.
    - If the loss is not finite, `fit` raises `gdcore.DivergenceError`.

    Weights have the dtype of X (float32 or float64), and float64 with "lbfgs".
    """

    __init__ = constructor({}, {"class_weight": None})

    def fit(self, X: Any, y: Any, sample_weight: Any = None, validation_data: Any = None) -> Self:
        """Train the network.

        Parameters
        ----------
        X : array, frame or sparse matrix
            Inputs, shape (N, features). A sparse matrix is converted batch by batch ("lbfgs": as a whole).
        y : array
            Labels, shape (N,), or zeros and ones of shape (N, K).
        sample_weight : array, optional
            Weight of each row, shape (N,).
        validation_data : tuple, optional
            (X, y) or (X, y, weights), measured after each epoch for ``validation_scores_``. `early_stopping` then uses
            it instead of holding out rows.

        Returns
        -------
        MLPClassifier
            The estimator itself.

        Raises
        ------
        TypeError, ValueError
            If a parameter or the data does not fit.
        """
        return self._fit(X, y, sample_weight, validation_data)

    @available_if(_has_batches)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """Train one epoch; the first call needs all `classes`, unless y has shape (N, K). Otherwise as `fit`."""
        if not hasattr(self, "classes_"):
            if classes is None and not type_of_target(y).startswith("multilabel"):
                raise ValueError("classes: got None in the first call to partial_fit; expected all classes")
            self._binarizer = LabelBinarizer().fit(y if type_of_target(y).startswith("multilabel") else classes)
            self.classes_ = self._binarizer.classes_
        elif classes is not None and not np.array_equal(self.classes_, unique_labels(classes)):
            raise ValueError(f"classes: got {shown(classes)}; expected those of the first call, {shown(self.classes_)}")
        return self._fit(X, y, sample_weight, incremental=True)

    def _encoded(self, y: Any, first: bool, incremental: bool) -> Array:
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if first and not incremental:
            self._binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._binarizer.classes_
        found = unique_labels(y)
        foreign = np.setdiff1d(found, self.classes_)
        if len(foreign) or (not incremental and len(found) != len(self.classes_)):
            raise ValueError(f"y: got the classes {shown(found)}; expected those of before, {shown(self.classes_)}")
        encoded = np.asarray(self._binarizer.transform(y))
        return encoded.argmax(axis=1) if self._binarizer.y_type_ == "multiclass" else encoded.astype(np.float32)

    def _head(self, y: Array) -> tuple[int, str, _core.Loss, str]:
        if y.ndim == 1:
            return len(self.classes_), "softmax", _core.CrossEntropy(), "classes"
        return y.shape[1], "logistic", _core.BinaryCrossEntropy(), "yes_no"

    def _score_metric(self) -> Any:
        return "accuracy"

    def _row_weights(self, y: Any, weights: Array | None, incremental: bool) -> Array | None:
        if self.class_weight is None:
            return weights
        if incremental and self.class_weight == "balanced":
            raise ValueError("class_weight: got 'balanced' for partial_fit, which has not all labels; expected a dict")
        by_class: Array = compute_sample_weight(self.class_weight, y)
        return by_class if weights is None else by_class * weights

    def _name_outputs(self) -> None:
        with suppress(TypeError, ValueError):  # of a kind, or a number, that a model has no names for
            self.model_.classes = self.classes_.tolist()

    def predict(self, X: Any) -> Array:
        """Return the most probable class of each row, (N,), or the answers 0 and 1, (N, K)."""
        logits = self._outputs(X)
        found = answers(logits, "classes" if self.out_activation_ == "softmax" else "yes_no").astype(np.int64)
        if self._binarizer.y_type_.startswith("multilabel"):
            return found
        index = np.minimum(found.reshape(len(found)), len(self.classes_) - 1)  # one class has an output too
        return np.asarray(self.classes_[index])

    def predict_proba(self, X: Any) -> Array:
        """Return the probability of each class, (N, C), or that each answer is 1, (N, K)."""
        logits = self._outputs(X)
        kind = "classes" if self.out_activation_ == "softmax" else "no_and_yes" if logits.shape[1] == 1 else "yes"
        found = _core.probabilities(logits, kind, False)
        assert found is not None
        return found

    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithm of `predict_proba`."""
        found = self.predict_proba(X)
        return np.log(found, out=found)

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags: several answers a row are accepted."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


@explained
class MLPRegressor(RegressorMixin, MLPBase):  # type: ignore[misc]
    """A feed-forward regressor with the interface and the defaults of scikit-learn's `MLPRegressor`.

    y has shape (N,), or (N, K) for several outputs.

    Parameters
    ----------
    loss : {"squared_error", "poisson"}
        Half the squared error; or half the Poisson deviance of e^z for the network's output z, with y of at least 0.
    hidden_layer_sizes, activation, solver, ... : as in `sklearn.neural_network.MLPRegressor`
        Names, defaults and meaning are those of scikit-learn, which documents them.
    dropout, norm, schedule, device, callbacks
        As in `MLPClassifier`.

    Attributes
    ----------
    model_ : Sequential
        The network. With ``loss="poisson"`` its outputs are the logarithms of the predictions.
    coefs_, intercepts_, loss_, loss_curve_, ...
        As in `MLPClassifier`, without ``classes_``.

    Notes
    -----
    The differences to scikit-learn are those of `MLPClassifier`. With several outputs, "lbfgs" minimises the sum of
    their losses, whose gradient all solvers use; scikit-learn combines this gradient with the value of the mean.
    ``loss_`` is the mean in both.
    """

    __init__ = constructor({"loss": "squared_error"}, {})

    def fit(self, X: Any, y: Any, sample_weight: Any = None, validation_data: Any = None) -> Self:
        """Train the network; the arguments are those of `MLPClassifier.fit`, y are numbers (N,) or (N, K)."""
        choice(self.loss, "loss", ("squared_error", "poisson"))
        return self._fit(X, y, sample_weight, validation_data)

    @available_if(_has_batches)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train one epoch; the arguments are those of `fit`."""
        choice(self.loss, "loss", ("squared_error", "poisson"))
        return self._fit(X, y, sample_weight, incremental=True)

    def _encoded(self, y: Any, first: bool, incremental: bool) -> Array:
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        y = y.reshape(len(y), -1)
        if self.loss == "poisson" and (y < 0).any():
            raise ValueError(f"y: got {y.min()} for the loss 'poisson'; expected numbers of at least 0")
        return np.asarray(y, y.dtype if y.dtype.kind == "f" else np.float64)

    def _head(self, y: Array) -> tuple[int, str, _core.Loss, str]:
        if self.loss == "poisson":
            return y.shape[1], "exp", CustomLoss(_poisson, outputs="numbers"), "numbers"
        return y.shape[1], "identity", _core.MeanSquaredError(), "numbers"

    def _score_metric(self) -> Any:
        return _poisson_r2 if self.loss == "poisson" else "r2"

    def predict(self, X: Any) -> Array:
        """Return the predicted numbers, (N,) or (N, K)."""
        check_is_fitted(self)
        outputs = self._outputs(X)
        outputs = np.exp(outputs) if self.out_activation_ == "exp" else outputs
        return outputs[:, 0] if self.n_outputs_ == 1 else outputs

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags: several outputs are accepted."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _poisson(outputs: Array, y: Array) -> tuple[Array, Array]:
    """Return y log(y / e^z) - y + e^z, summed over the outputs z, and its gradient e^z - y."""
    with np.errstate(over="ignore"):
        means = np.exp(outputs)
    logs = np.log(np.where(y > 0, y, 1))
    return (y * (logs - outputs) - y + means).sum(axis=1), means - y


def _poisson_r2(y_true: Array, y_pred: Array, sample_weight: Array | None = None) -> float:
    return r2(y_true, np.exp(y_pred), sample_weight=sample_weight)
