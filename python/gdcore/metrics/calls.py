"""Calls of metrics, with the truth and the predictions in the form that each metric takes."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from numbers import Real
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ..internal import outputs as by_meaning
from ..internal.arguments import explained
from ..internal.arrays import Array
from ..internal.checks import by_key, has_keys, is_iterable, shown
from ..internal.labels import Classes, class_array
from . import of_sklearn, probabilities
from .names import KNOWN, by_function, direction, named

Metric: TypeAlias = Callable[..., Any]
Metrics: TypeAlias = str | Metric | Sequence[str | Metric] | Mapping[str, str | Metric]
TAKEN = ("loss", "epoch", "lr", "seconds")  # names of other columns


class On:
    """A function that takes another form of predictions; see `on_logits` and `on_labels`."""

    def __init__(self, function: Metric, takes: str) -> None:
        if not callable(function):
            raise TypeError(f"function: got {shown(function)}; expected a function of (y_true, y_pred)")
        self.function, self.takes = function, takes
        self.__name__ = _name(function)

    def __repr__(self) -> str:
        """Return the call that makes it."""
        return f"on_{self.takes}({self.function!r})"

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Call the function."""
        return self.function(*arguments, **options)


@explained
def on_logits(function: Metric) -> On:
    """Return a metric that calls `function` with the network's outputs as they are, such as logits of classes.

    Parameters
    ----------
    function : callable
        A function of ``(y_true, y_pred)``, with ``sample_weight=`` where it has that parameter. `y_pred` is (N, C) for
        classes, (N,) for one output, (N, K) for K answers.
    """
    return On(function, "logits")


@explained
def on_labels(function: Metric) -> On:
    """Return a metric that calls `function` with what ``model.predict_classes`` returns: class names, or answers.

    Parameters
    ----------
    function : callable
        A function of ``(y_true, y_pred)``, with ``sample_weight=`` where it has that parameter.
    """
    return On(function, "labels")


class Predictions:
    """Predictions of a model for some rows, and the truth, in the forms that metrics take.

    Parameters
    ----------
    outputs : ndarray
        What the network computes, (N, K).
    targets : ndarray
        The targets of the loss: class numbers (N,), soft targets (N, K), answers or numbers.
    weights : ndarray or None
        Weight of each row.
    meaning, classes
        Meaning of the model's outputs (None counts as numbers), and its class names.
    """

    def __init__(
        self,
        outputs: Array,
        targets: Array,
        weights: Array | None,
        meaning: str | None,
        classes: Classes | None,
    ) -> None:
        self.logits, self.weights, self.meaning, self.classes = outputs, weights, meaning, classes
        self.targets = targets.reshape(len(targets), -1)
        self.several = meaning == "yes_no" and outputs.shape[1] > 1
        self.count = max(outputs.shape[1], 2)  # classes, or answers
        self.binary = self.count == 2 and not self.several

    @cached_property
    def names(self) -> Array:
        """Class names, or numbers where there are none, (C,)."""
        return class_array(tuple(range(self.count)) if self.classes is None else self.classes)

    @cached_property
    def index(self) -> Array:
        """The truth: class numbers int64 (N,), or K answers of 0 and 1; the largest of soft targets."""
        if self.targets.shape[1] > 1 and not self.several:
            return np.asarray(self.targets.argmax(axis=1), np.int64)
        found = self.targets > 0.5 if self.meaning == "yes_no" else self.targets
        return (found if self.several else found[:, 0]).astype(np.int64)

    @cached_property
    def finite(self) -> bool:
        """Whether all outputs are finite numbers."""
        return bool(np.isfinite(self.logits).all())

    @cached_property
    def soft(self) -> bool:
        """Whether the targets are probabilities other than 0 and 1."""
        given, classes = self.targets, self.meaning == "classes"
        if self.meaning not in ("classes", "yes_no") or (classes and given.shape[1] == 1):
            return False
        return not ((given == 0) | (given == 1)).all() or (classes and bool((given.sum(axis=1) != 1).any()))

    @property
    def true(self) -> Array:
        """The truth with class names: y_true of metrics that are not gdcore's."""
        if self.meaning not in ("classes", "yes_no"):
            given = self.targets if self.targets.dtype.kind == "f" else self.targets.astype(np.float64)
            return given[:, 0] if given.shape[1] == 1 else given
        return self.named(self.index)

    def named(self, index: Array) -> Array:
        """Return class numbers as class names; answers are unchanged."""
        return index if self.several or self.classes is None else self.names[index]

    @property
    def numbers(self) -> Array:
        """The predictions of numbers and counts, the logits of classes and answers; (N,) where there is one."""
        given = by_meaning.expected_counts(self.logits) if self.meaning == "counts" else self.logits
        return given[:, 0] if given.shape[1] == 1 else given

    @cached_property
    def answers(self) -> Array:
        """Predicted class numbers int64 (N,), or K answers of 0 and 1."""
        given = by_meaning.answers(self.logits, self.meaning or "")
        return (given[:, 0] if self.meaning == "yes_no" and not self.several else given).astype(np.int64)

    @cached_property
    def probabilities(self) -> Array:
        """Probabilities: (N, C) of classes, (N,) of one yes, (N, K) of K yes."""
        given = by_meaning.probabilities(self.logits, self.meaning or "")
        return given[:, 0] if given.shape[1] == 1 else given

    def columns(self, takes: str) -> Array:
        """Return probabilities or logits of every class, (N, C), two for one yes/no answer."""
        given = self.probabilities if takes == "probabilities" else self.numbers
        no = 1 - given if takes == "probabilities" else np.zeros_like(given)
        return np.stack([no, given], axis=1) if given.ndim == 1 else given

    def prediction(self, takes: str) -> Array:
        """Return y_pred for a function that takes labels, probabilities, numbers or logits."""
        if takes == "labels":
            return self.named(self.answers)
        if takes == "logits":
            return self.logits[:, 0] if self.logits.shape[1] == 1 else self.logits
        return self.probabilities if takes == "probabilities" else self.numbers


class Call(NamedTuple):
    """A metric and how it is called."""

    name: str
    function: Metric
    takes: str
    whose: str  # "gdcore", "sklearn", or "user"
    weighted: bool

    def __call__(self, seen: Predictions) -> float:
        """Return the metric's value; it gets copies, which it may keep and change."""
        extra: dict[str, Any] = {}
        if not seen.finite:
            warnings.warn(f"metrics: {self.name!r} is nan, as the model's outputs hold nan or infinity", stacklevel=3)
            return math.nan
        if self.whose != "user" and seen.soft and self.takes in ("probabilities", "logits"):
            raise ValueError(
                f"metrics: {self.name!r} needs labels; y holds probabilities other than 0 and 1: expected labels, "
                "metrics of labels, or a function of your own"
            )
        if self.whose == "gdcore":
            true = seen.true if self.takes == "numbers" else seen.index
            pred = seen.answers if self.takes == "labels" else seen.prediction(self.takes)
            if self.takes != "numbers" and not seen.several:
                extra["classes"] = range(seen.count)
            if "positive" in getattr(self.function, "keywords", {}):  # the name of a class, as the user knows it
                true, pred, extra["classes"] = seen.true, seen.prediction("labels"), seen.names
        elif self.whose == "sklearn":
            inner, bound = _inner(self.function), getattr(self.function, "keywords", {})
            true, pred, extra = of_sklearn.arguments(inner.__name__, self.takes, _parameters(inner), bound, seen)
        else:
            soft = seen.soft and self.takes != "labels" and seen.meaning is not None
            true = seen.targets if soft else seen.true
            pred = seen.prediction(self.takes)
        if self.weighted and seen.weights is not None:
            extra["sample_weight"] = seen.weights.copy()
        try:
            value = self.function(true.copy(), pred.copy(), **extra)
        except Exception as error:
            error.add_note(f"metrics: {self.name!r} was called with y_true {true.shape} and y_pred {pred.shape}")
            raise
        return _number(value, self.name)


def _number(value: Any, name: str) -> float:
    single = getattr(value, "shape", ()) == () and not isinstance(value, (str, bytes)) and not np.ma.is_masked(value)
    try:
        if single and (isinstance(value, Real) or hasattr(value, "__float__")):
            return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise TypeError(f"metrics: {name!r} returned {type(value).__name__} {shown(value)}; expected a number")


def called_metrics(metrics: Any, meaning: str | None, outputs: int) -> dict[str, Call]:
    """Return the metrics by name, from names and functions, or a mapping of columns to names and functions.

    Parameters
    ----------
    metrics : sequence, mapping, name or function
        As `Trainer` takes them.
    meaning : str or None
        What the model's outputs mean.
    outputs : int
        How many there are.

    Raises
    ------
    TypeError
        If one of them is neither a name nor can be called, or has no name.
    ValueError
        If a name is unknown or occurs twice, or a metric does not fit the outputs.
    """
    if callable(metrics) or isinstance(metrics, str):
        metrics = [metrics]
    if isinstance(metrics, bytes) or not is_iterable(metrics):
        raise TypeError(f"metrics: got {shown(metrics)}; expected names or functions, such as ['accuracy']")
    pairs = by_key(metrics, "metrics").items() if has_keys(metrics) else [(None, metric) for metric in metrics]
    calls: dict[str, Call] = {}
    for i, (column, metric) in enumerate(pairs):
        where = f"metrics[{i}]" if column is None else f"metrics[{shown(column)}]"
        if column is not None and not isinstance(column, str):
            raise TypeError(f"metrics: got the name {shown(column)}; expected text")
        name = str(_name(metric) if column is None else column)
        call = _call(metric, name, where, meaning)
        if name in calls or name in TAKEN or name.startswith("val_"):
            raise ValueError(f"{where}: the name {name!r} is already used; give a dictionary with other names")
        _check_direction(call, where)
        _check_fits(call, where, meaning, outputs)
        calls[name] = call
    return calls


def _call(metric: Any, name: str, where: str, meaning: str | None) -> Call:
    """Return the call of one metric."""
    if isinstance(metric, Call):  # of another trainer's ``metrics``
        return metric._replace(name=name)
    if isinstance(metric, str):
        known = named(metric, where)
        return Call(name, known.function, known.takes, "gdcore", True)
    if has_keys(metric):
        raise TypeError(f"{where}: got {shown(metric)}; expected one mapping alone: metrics={{'f1': 'f1', 'my': my}}")
    if not callable(metric):
        raise TypeError(f"{where}: got {shown(metric)}; expected a name such as 'accuracy', or a function")
    if metric is probabilities.top_k:
        raise TypeError(f"{where}: got top_k itself; expected top_k(5) or another k")
    if not name:
        raise TypeError(f"{where}: {shown(metric)} has no __name__; give a dictionary of names to functions")
    takes = metric.takes if isinstance(metric, On) else ""
    function = metric.function if isinstance(metric, On) else metric
    own = by_function(function)
    if own is not None:
        return Call(name, function, takes or own.takes, "gdcore", True)
    weighted = "sample_weight" in _parameters(_inner(function))
    if _of_sklearn(function) and (not takes or _name(function) in of_sklearn.KNOWN):
        if _name(function) not in of_sklearn.KNOWN:
            raise TypeError(
                f"{where}: got {shown(metric)}, which is no measure of (y_true, y_pred); expected one of "
                f"{', '.join(of_sklearn.KNOWN)}, or a function of your own that calls it"
            )
        return Call(name, function, takes or of_sklearn.KNOWN[_name(function)][0], "sklearn", weighted)
    probable = meaning in ("classes", "yes_no")
    return Call(name, function, takes or ("probabilities" if probable else "numbers"), "user", weighted)


def _check_direction(call: Call, where: str) -> None:
    """Raise ValueError if a metric has the name of a known one with the opposite direction: callbacks use it."""
    own = by_function(call.function)
    inner = _name(call.function)
    better = own.better if own is not None else of_sklearn.KNOWN[inner][1] if call.whose == "sklearn" else None
    try:
        said = direction(call.name, None)
    except ValueError:  # an unknown name
        return
    if better is not None and said != better:
        more = {"max": "more", "min": "less"}
        raise ValueError(
            f"{where}: the name {call.name!r} says that {more[said]} of it is better, but "
            f"of {inner} {more[better]} is; give a dictionary with another name"
        )


def _check_fits(call: Call, where: str, meaning: str | None, outputs: int) -> None:
    """Raise ValueError if a metric does not fit the meaning of the model's outputs."""
    several = meaning == "yes_no" and outputs > 1
    if (call.takes == "numbers") != (meaning not in ("classes", "yes_no")) and call.takes != "logits":
        expected = "a metric of numbers, such as 'r2'" if call.takes != "numbers" else "one such as 'accuracy'"
        raise ValueError(f"{where}: {call.name!r} is not for outputs of {meaning!r}; expected {expected}")
    inner = _name(call.function)
    if call.whose == "sklearn" and (inner in of_sklearn.SEVERAL) and not several:
        raise ValueError(f"{where}: {inner} is for several yes/no answers a row; expected one for classes")
    if isinstance(call.function, probabilities.TopK) and (several or max(outputs, 2) < call.function.k):
        raise ValueError(f"{where}: {call.name!r} needs {call.function.k} classes; the model has {outputs} outputs")


def _inner(metric: Any) -> Any:
    """Return the function inside partial objects."""
    while isinstance(metric, partial):
        metric = metric.func
    return metric


def _name(metric: Any) -> str:
    if isinstance(metric, (str, Call)):
        return metric if isinstance(metric, str) else metric.name
    for name, known in KNOWN.items():
        if known.function is metric:
            return name
    found = getattr(_inner(metric), "__name__", "")
    return found if isinstance(found, str) else ""


def _of_sklearn(metric: Any) -> bool:
    inner = _inner(metric)
    return any(str(getattr(each, "__module__", "")).startswith("sklearn.metrics") for each in (inner, type(inner)))


def _parameters(metric: Any) -> Mapping[str, inspect.Parameter]:
    """Return a function's parameters by name, none if they are unknown; ``**options`` take sample_weight."""
    try:
        parameters = dict(inspect.signature(metric).parameters)
    except (TypeError, ValueError):
        return {}
    for parameter in list(parameters.values()):
        if parameter.kind is parameter.VAR_KEYWORD:
            parameters["sample_weight"] = parameter
    return {name: each for name, each in parameters.items() if each.kind is not each.POSITIONAL_ONLY}
