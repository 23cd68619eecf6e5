"""The meaning of a model's outputs, and the probabilities and answers computed from them.

"numbers" are predictions of a regression. "counts" are logarithms of expected counts. "classes" are logits of mutually
exclusive classes, one output each. "yes_no" are logits of independent yes/no answers, one output each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .. import _core
from .arrays import Array
from .checks import choice, shown
from .labels import class_array

if TYPE_CHECKING:
    from ..ensembles.prediction import MeanPredictor
    from ..network.prediction import Predictor
    from .labels import Classes

MEANINGS = ("numbers", "counts", "classes", "yes_no")
QUANTITIES = ("numbers", "counts")  # without classes
OF_LOSS: dict[type[_core.Loss], str] = {
    _core.MeanSquaredError: "numbers",
    _core.MeanAbsoluteError: "numbers",
    _core.Huber: "numbers",
    _core.Quantile: "numbers",
    _core.Poisson: "counts",
    _core.CrossEntropy: "classes",
    _core.BinaryCrossEntropy: "yes_no",
}


def of_loss(loss: _core.Loss) -> str | None:
    """Return the meaning of outputs that a loss requires; None for a custom loss that states none."""
    known = next((meaning for kind, meaning in OF_LOSS.items() if isinstance(loss, kind)), None)
    return getattr(loss, "outputs", None) if known is None else known


def _new_model(meaning: str) -> str:
    return (
        f"a new model: new = Sequential(*model.layers, **(model.settings() | {{'outputs': {meaning!r}}})), whose "
        "weights are new; new.load_parameters(model) copies those of the model"
    )


def checked_meaning(meaning: object, model: Predictor) -> str:
    """Return `meaning` if the outputs of `model` can have it; raise ValueError otherwise."""
    name = choice(meaning, "outputs", MEANINGS)
    if model.outputs not in (None, name):
        raise ValueError(
            f"outputs: got {name!r} for a model whose outputs are {model.outputs!r}; expected the same "
            f"meaning, or {_new_model(name)}"
        )
    if name == "classes" and model.out_features == 1:
        raise ValueError(
            "outputs: got 'classes' for a network of 1 output; expected an output for each class, or outputs='yes_no'"
        )
    if name in QUANTITIES and model.classes is not None:
        raise ValueError(f"outputs: got {name!r} for a model with classes; expected 'classes' or 'yes_no', or no names")
    return name


def meaning_of(loss: _core.Loss, model: Predictor) -> str | None:
    """Return the meaning of the outputs of `model` that `loss` requires, None if it states none.

    Raises
    ------
    ValueError
        If the outputs of `model` have another meaning, or its targets names that do not fit.
    """
    meaning = of_loss(loss)
    check_target_names(loss, model)
    if meaning is None:
        return None
    name = type(loss).__name__
    if model.outputs not in (None, meaning):
        raise ValueError(
            f"loss: got {name}, which is for outputs={meaning!r}; the model's outputs are {model.outputs!r}: expected "
            f"{losses_for(model.outputs)}, or {_new_model(meaning)}"
        )
    if meaning in QUANTITIES and model.classes is not None:
        raise ValueError(
            f"loss: got {name}, which is for {meaning}; the model has classes: expected {losses_for('classes')} or "
            f"{losses_for('yes_no')}, or a model without classes"
        )
    return meaning


def check_target_names(loss: _core.Loss, model: Predictor) -> None:
    """Raise ValueError unless `model` names each target of `loss`, if any: only quantiles share a name.

    A custom loss may have any number of outputs for each target.
    """
    names = model.target_names
    if names is None or isinstance(loss, _core.CustomLoss):
        return
    levels = len(loss.levels) if isinstance(loss, _core.Quantile) else 1
    if len(names) * levels != model.out_features:
        one = f"{levels} outputs" if levels > 1 else "output"
        raise ValueError(
            f"target_names: got {len(names)} names, {shown(names)}, for {model.out_features} outputs and the loss "
            f"{type(loss).__name__}; expected {model.out_features // levels}, one for each {one} of the model"
        )


def losses_for(meaning: str | None) -> str:
    """Return the names of the losses for outputs of a meaning."""
    return " or ".join(kind.__name__ for kind, each in OF_LOSS.items() if each == meaning)


def probabilistic(model: Predictor | MeanPredictor, caller: str) -> str:
    """Return "classes" or "yes_no"; raise ValueError naming `caller` if the outputs are neither, or unknown."""
    meaning = model.outputs
    if meaning is None:
        raise ValueError(
            f"{caller}: outputs: the meaning of the model's outputs is unknown, as no Trainer has set it; expected "
            "model.outputs = 'classes' (one output for each class) or 'yes_no' (one answer for each output) first, or "
            "Sequential(..., outputs=...)"
        )
    if meaning in QUANTITIES:
        raise ValueError(
            f"{caller}: outputs: got {meaning!r}, which have neither classes nor probabilities; use predict"
        )
    return meaning


def not_finite(logits: Array, caller: str, first: int = 0) -> ValueError:
    """Return the error for the first output that is NaN or infinite: no class is the most probable one then.

    `first` is the number of the first row of `logits`.
    """
    row, output = divmod(_core.first_nonfinite(logits), logits.shape[1])
    return ValueError(
        f"{caller}: output {output} of row {first + row} is {logits[row, output]:g}; expected finite outputs: the "
        f"row's inputs or the model's weights are too large for {logits.dtype}, or not finite"
    )


def expected_counts(outputs: Array) -> Array:
    """Return e^y of logarithms of expected counts; infinite where the dtype cannot hold it."""
    with np.errstate(over="ignore"):
        counts: Array = np.exp(outputs)
    return counts


PROBABILITIES = {"classes": "classes", "yes_no": "yes"}  # the core's names


def probabilities(logits: Array, meaning: str) -> Array:
    """Return the probabilities of classes, (N, C) softmax, or of yes, (N, K) logistic function."""
    found = _core.probabilities(logits, PROBABILITIES[meaning], False)
    assert found is not None  # values are not checked
    return found


def answers(logits: Array, meaning: str) -> Array:
    """Return the most probable class, int64 (N,), or whether each answer is yes, bool (N, K)."""
    return logits > 0 if meaning == "yes_no" else logits.argmax(axis=1)


def named_answers(logits: Array, meaning: str, classes: Classes | None) -> Array:
    """Return what `Sequential.predict_classes` does: class names or indices (N,), or several answers, bool (N, K)."""
    given = answers(logits, meaning)
    if given.ndim == 2 and given.shape[1] > 1:
        return given
    index = given.reshape(len(given)).astype(np.int64, copy=False)
    return index if classes is None else class_array(classes)[index]
