"""``gdcore evaluate MODEL DATA``: measures of the predictions of a table whose answers are known."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .reading import known_columns, opened
from .shared import about, add_data, aligned, columns_in, inputs_of, model_of, named, say

if TYPE_CHECKING:
    from ..tables import TabularModel
    from .reading import Source

HELP = "measure the predictions of a model on a table with known answers"
MORE = "Measure the predictions of a model on a table with known answers: a line for each measure, its name and value."


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("model", metavar="MODEL", type=Path, help="a file of gdcore train, or of TabularModel.save")
    add_data(parser)
    parser.add_argument("--target", metavar="COLUMN", help="the column of the answers; by default that of training")
    parser.add_argument(
        "--metric", metavar="NAME", action="append", help="a metric of docs/metrics.md, such as f1; may be repeated"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")


def run(options: argparse.Namespace) -> None:
    """Measure, and print."""
    model = model_of(options.model, options.device)
    target: str | None = options.target or model._parts()[0].name
    if target is None:
        raise ValueError(f"{options.model}: does not know the column of the answers; say --target COLUMN")
    source = opened(options.data, separator=options.separator, encoding=options.encoding)
    known_columns(source, "--target", [target])
    columns = columns_in(model, source)
    table = source.read(list(dict.fromkeys([*columns, target])))
    say(options, f"{table.num_rows:,} rows read")
    with about(source, target=target):
        answers = answers_of(model, source, table, target, options.decimal)
        inputs = inputs_of(model, source, table, 0, options.decimal)
        found = measures(model, inputs, answers, options.metric)
    print(aligned(found))


def answers_of(model: TabularModel, source: Source, table: Any, target: str, decimal: str) -> Any:
    """Return the column of the answers in the type of training; raise ValueError if one is missing."""
    from .typed import as_kind

    column, where = table.column(target), f"{source.path}: column {target!r}"
    if source.text:
        column = as_kind(column, _kind(model.classes), where, decimal=decimal)
    refuse_missing(column, where)
    return column


def refuse_missing(column: Any, where: str) -> None:
    """Raise ValueError if a value is missing in the column that is predicted."""
    gone = column.is_null(nan_is_null=True).to_pylist()
    if any(gone):
        row = gone.index(True)
        raise ValueError(
            f"{where}: has no value in {sum(gone):,} of {len(column):,} rows, the first in row {row + 1}; "
            "expected the answer in each row: leave out the others"
        )


def _kind(classes: Any) -> str:
    """Return what the text of the answers stands for."""
    if classes is None:
        return "number"
    return {"b": "boolean", "i": "number", "u": "number", "f": "number", "M": "date"}.get(classes.dtype.kind, "text")


def measures(model: TabularModel, inputs: Any, answers: Any, metrics: list[str] | None = None) -> dict[str, str]:
    """Return measures of the predictions, as text; by default those that fit the task."""
    if metrics is None:
        metrics = ["r2", "root_mean_squared_error", "mean_absolute_error"]
        if model.classes is not None:
            metrics = ["accuracy", *(["roc_auc"] if len(model.classes) == 2 else ["balanced_accuracy"])]
            distinct = len(answers.unique())
            metrics = metrics if distinct > 1 else ["accuracy"]  # the others are not defined
    found = model.evaluate(inputs, answers, metrics=metrics)
    loss = found.pop("loss")
    return named({**found, "log_loss" if model.classes is not None else "mean_squared_error": loss} | found)
