"""``gdcore evaluate MODEL DATA``: measures of the predictions of a table whose answers are known."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..internal.checks import shown
from .reading import known_columns
from .shared import about, add_data, aligned, inputs_of, model_of, named, say, source_of, windows_of

if TYPE_CHECKING:
    from ..internal.arrays import Array
    from ..tables import TabularModel
    from .reading import Source

HELP = "measure the predictions of a model on a table with known answers"
MORE = (
    "Measure the predictions of a model on a table with known answers: a line for each measure, its name and value. "
    "The table is read in windows of rows, so that it may be larger than the memory."
)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("model", metavar="MODEL", type=Path, help="a file of gdcore train, or of TabularModel.save")
    add_data(parser)
    parser.add_argument("--target", metavar="COLUMN", help="the column of the answers; by default that of training")
    parser.add_argument("--weights", metavar="COLUMN", help="the weight of each row; by default all count the same")
    parser.add_argument(
        "--metric", metavar="NAME", action="append", type=_metric,
        help="a metric of docs/metrics.md, such as f1; may be repeated",
    )  # fmt: skip
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")


def _metric(text: str) -> str:
    if "," in text:
        raise argparse.ArgumentTypeError(f"got {text!r}; expected one name; for several metrics repeat --metric")
    return text


def run(options: argparse.Namespace) -> None:
    """Measure, and print."""
    model = model_of(options.model, options.device)
    target: str | None = options.target or model._parts()[0].name
    if target is None:
        raise ValueError(f"{options.model}: does not know the column of the answers; say --target COLUMN")
    source = source_of(options)
    if options.target is None and target not in source.names:
        raise ValueError(
            f"{source}: lacks the column {target!r}, the target of {options.model}; say --target COLUMN if the answers "
            f"have another name, one of {shown(list(source.names), 200)}"
        )
    known_columns(source, "--target", [target])
    weights = [] if options.weights is None else [options.weights]
    known_columns(source, "--weights", weights)
    parts, names = [], {"y": target, "sample_weight": options.weights}
    for first, table in windows_of(model, source, [target, *weights]):
        answers = answers_of(model, source, table, target, first, options.decimal)
        weight = None if not weights else weights_of(source, table, weights[0], first, options.decimal)
        with about(source, first, names):
            parts.append(predicted(model, inputs_of(model, source, table, first, options.decimal), answers, weight))
    say(options, f"{sum(len(part.answers) for part in parts):,} rows read")
    with about(source, 0, names):
        found = measures(model, parts, options.metric)
    print(aligned(found))


def answers_of(model: TabularModel, source: Source, table: Any, target: str, first: int, decimal: str) -> Any:
    """Return the column of the answers in the type of training; raise ValueError if one is missing."""
    from .typed import as_kind, refuse_missing

    column, where = table.column(target), f"{source}: column {target!r}"
    if source.text:
        column = as_kind(column, _kind(model.classes), where, decimal=decimal, first=first)
    refuse_missing(column, where, first)
    return column


def weights_of(source: Source, table: Any, name: str, first: int, decimal: str) -> Any:
    """Return the column of the weights as numbers; raise ValueError if one is missing or below 0."""
    from .typed import as_kind, refuse_infinite, refuse_missing

    column, where = table.column(name), f"{source}: column {name!r}"
    if source.text:
        column = as_kind(column, "number", where, decimal=decimal, first=first)
    refuse_missing(column, where, first)
    refuse_infinite(column, where, first)
    return column


def _kind(classes: Any) -> str:
    """Return what the text of the answers stands for."""
    if classes is None:
        return "number"
    return {"b": "boolean", "i": "number", "u": "number", "f": "number", "M": "date"}.get(classes.dtype.kind, "text")


class Predicted(NamedTuple):
    """The outputs of the networks for some rows, and their answers: indices of classes, or numbers."""

    outputs: Array
    answers: Array
    weights: Array | None


def predicted(model: TabularModel, inputs: Any, answers: Any, weights: Any = None) -> Predicted:
    """Return the predictions of some rows of a table beside their answers."""
    from ..tables.targets import read_target

    x, truth, found = model._measurable(inputs, answers, weights)
    if model.classes is not None:  # a small number for each row, not its text
        truth = model._parts()[0].encode(read_target(answers)).astype(np.int32)
    return Predicted(model._outputs(x), truth, found)


def measures(model: TabularModel, parts: Sequence[Predicted], metrics: list[str] | None = None) -> dict[str, str]:
    """Return measures of the predictions, as text; by default those that fit the task, and the loss."""
    outputs, truth = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    weights = [part.weights for part in parts if part.weights is not None]
    classes, chosen = model.classes, metrics
    if metrics is None:
        metrics = ["r2", "root_mean_squared_error", "mean_absolute_error"]
        if classes is not None:
            metrics = ["accuracy", *(["roc_auc"] if len(classes) == 2 else ["balanced_accuracy"])]
            metrics = metrics if (truth != truth[0]).any() else ["accuracy"]  # the others are not defined
    answers = truth if classes is None else classes[truth]
    found = model._judged(outputs, answers, np.concatenate(weights) if weights else None, metrics)
    loss = found.pop("loss")
    if chosen is not None:
        return named(found)
    return named({**found, "log_loss" if classes is not None else "mean_squared_error": loss})
