"""``gdcore predict MODEL DATA --out FILE``: a prediction for each row, in the order of the rows."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..internal.checks import optional_module
from .reading import ENDINGS, format_of, known_columns
from .shared import about, add_data, inputs_of, model_of, outputs_apart, say, source_of, windows_of

if TYPE_CHECKING:
    from ..tables import TabularModel
    from .reading import Source

HELP = "predict the rows of a table with a model of gdcore train"
MORE = (
    "Predict the rows of a table, in their order. The table is read in windows of rows, so that it may be larger than "
    "the memory. Columns that the model does not know are not read."
)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("model", metavar="MODEL", type=Path, help="a file of gdcore train, or of TabularModel.save")
    add_data(parser)
    parser.add_argument(
        "--out", metavar="FILE", type=table_path,
        help="CSV, TSV (also .gz), Parquet or Arrow, by the ending; by default CSV to the standard output",
    )  # fmt: skip
    parser.add_argument("--proba", action="store_true", help="also a column probability_CLASS for each class")
    parser.add_argument(
        "--keep", metavar="COLUMN", action="append", default=[], help="a column of DATA to copy; may be repeated"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")


def table_path(text: str) -> Path | None:
    """Return the path of a table, whose ending is a known one; None for ``-``, the standard output."""
    path = Path(text)
    if format_of(path) is None and text != "-":
        raise argparse.ArgumentTypeError(f"got {text!r}; expected a name that ends with {ENDINGS}")
    return None if text == "-" else path


def run(options: argparse.Namespace) -> None:
    """Predict."""
    from .writing import write_table

    outputs_apart(options, [options.model, options.data], {"--out": options.out})
    model = model_of(options.model, options.device)
    if options.proba and model.classes is None:
        raise ValueError(f"--proba: {options.model} predicts numbers, which have no probabilities")
    source = source_of(options)
    known_columns(source, "--keep", options.keep)
    rows = [0]
    write_table(options.out, _windows(model, source, options, rows))
    say(options, f"{rows[0]:,} rows predicted{'' if options.out is None else f': {options.out}'}")


def _windows(model: TabularModel, source: Source, options: argparse.Namespace, rows: list[int]) -> Iterator[Any]:
    """Yield the predictions of windows of rows, as tables; count the rows."""
    pyarrow = optional_module("pyarrow", "gdcore predict", "gdcore[cli]")
    for first, table in windows_of(model, source, options.keep):
        with about(source, first):
            found = _predicted(model, inputs_of(model, source, table, first, options.decimal), options.proba)
        made = {name: _plain(table.column(name)) for name in options.keep}
        clash = sorted(made.keys() & found.keys())
        if clash:
            raise ValueError(f"--keep: {clash[0]!r} is the name of a column of predictions; rename it in {source}")
        rows[0] += table.num_rows
        yield pyarrow.table({**made, **{name: pyarrow.array(value) for name, value in found.items()}})


def _plain(column: Any) -> Any:
    """Return a column without its dictionary, which may differ between windows."""
    pyarrow = optional_module("pyarrow", "gdcore predict", "gdcore[cli]")
    return column.cast(column.type.value_type) if pyarrow.types.is_dictionary(column.type) else column


def _predicted(model: TabularModel, inputs: Any, proba: bool) -> dict[str, Any]:
    """Return the columns of predictions by name."""
    if not proba:
        values = model.predict(inputs)
        if values.ndim == 1:
            return {"prediction": values}
        return {f"prediction_{i}": values[:, i] for i in range(values.shape[1])}
    chances, classes = model.predict_proba(inputs), model.classes
    assert classes is not None
    columns = {f"probability_{name}": chances[:, i] for i, name in enumerate(classes.tolist())}
    return {"prediction": classes[chances.argmax(axis=1)], **columns}
