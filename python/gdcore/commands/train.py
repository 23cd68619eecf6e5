"""``gdcore train DATA --target COLUMN``: from a table in a file to a model in a file."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..internal.checks import optional_module, shown
from .evaluate import measures, predicted
from .reading import known_columns
from .shared import about, add_data, aligned, named, outputs_apart, say, seconds, source_of, warn

if TYPE_CHECKING:
    from ..tables import TabularModel
    from .evaluate import Predicted
    from .reading import Source

HELP = "learn to predict a column of a table"
MORE = (
    "Learn to predict a column of a table from the others, and write the model to a file. Prints measures on test "
    "rows, which are left out of training, and the columns that matter most. docs/command-line.md explains the details."
)
KINDS = ("number", "boolean", "category", "date")
SHOWN = 10  # columns
IMPORTANCE_CELLS, IMPORTANCE_ROWS = 2_000_000, 5000  # measured at most
MANY_COLUMNS = 1000  # which are shuffled once, not five times


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_data(parser)
    parser.add_argument("--target", metavar="COLUMN", required=True, help="the column to predict")
    parser.add_argument(
        "--task", choices=("classification", "regression"),
        help="needed for whole numbers of more than two values; otherwise the values of the target tell",
    )  # fmt: skip
    parser.add_argument(
        "--out", metavar="FILE", type=Path, default=Path("model.safetensors"), help="the model (%(default)s)"
    )
    parser.add_argument("--time", metavar="TIME", type=seconds, help="limit of training, such as 60s, 5m or 1h")
    parser.add_argument(
        "--test", metavar="SHARE", type=_share, default=0.2,
        help="share of the rows for the test (%(default)s); 0 trains on all of them",
    )  # fmt: skip
    parser.add_argument("--ensemble", metavar="K", type=_whole(1, 9999), help="networks that are averaged")
    parser.add_argument("--weights", metavar="COLUMN", help="the weight of each row; it is no input")
    parser.add_argument(
        "--groups", metavar="COLUMN", help="rows that belong together, such as those of a customer: test rows are of "
        "other groups than those trained on; it is no input",
    )  # fmt: skip
    parser.add_argument("--time-column", metavar="COLUMN", help="the time of each row: the test rows are the last ones")
    parser.add_argument(
        "--rows",
        metavar="N",
        type=_whole(3, 2**40),
        help="rows to draw at random from a file larger than the memory",
    )
    parser.add_argument(
        "--seed", metavar="N", type=_whole(0, 2**32 - 1), default=0, help="of test rows and networks (%(default)s)"
    )
    parser.add_argument(
        "--ignore", metavar="COLUMN", action="append", default=[], help="a column to leave out, such as a number of "
        "customers; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--kind", metavar="COLUMN=KIND", action="append", default=[], type=_kind,
        help=f"one of {', '.join(KINDS)}, where the values of a column mislead; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--curve", metavar="FILE", type=_picture, help="the learning curve, .png, .svg or .pdf; by default beside the "
        "model, if matplotlib is installed",
    )  # fmt: skip
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}; expected a share of the rows, from 0 to below 1")
    return share


def _whole(low: int, high: int) -> Callable[[str], int]:
    """Return the type of an argument: a whole number from `low` to `high`."""

    def whole(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"got {text!r}; expected a whole number from {low} to {high}")
        return int(text)

    return whole


def _kind(text: str) -> tuple[str, str]:
    column, _, kind = text.rpartition("=")
    if not column or kind not in KINDS:
        raise argparse.ArgumentTypeError(f"got {text!r}; expected COLUMN=KIND, with a kind of {', '.join(KINDS)}")
    return column, kind


def _picture(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise argparse.ArgumentTypeError(f"got {text!r}; expected a name that ends with .png, .svg or .pdf")
    return path


def run(options: argparse.Namespace) -> None:
    """Train, save, and print what came out."""
    if options.groups is not None and options.time_column is not None:
        options.parser.error("--time-column: got a column beside --groups; expected one of the two")
    outputs_apart(options, [options.data], {"--out": options.out, _curve_label(options): _curve_path(options)})
    source = source_of(options)
    kinds = dict(options.kind)
    names = _names(source, kinds, options)
    roles = {"y": options.target, "sample_weight": options.weights, "groups": options.groups}
    roles["time"] = options.time_column
    with about(source, whole=options.rows is None):
        table, total = _read(source, names, options)
        table = _typed(source, table, kinds, options)
    drawn = "" if table.num_rows == total else f", drawn from {total:,}"
    say(options, f"{source}: {table.num_rows:,} rows{drawn}, {len(names)} columns")
    task = _task(source, table.column(options.target), options)
    with about(source, 0, roles, whole=not options.test and options.rows is None):
        training, test = _split(table, task, options)
        say(options, f"training for {task} of {options.target!r} on {training.num_rows:,} rows")
        model, took = _fitted(training, task, kinds, options)
    model.save(options.out)
    curve = _draw_curve(model, options)
    found = None if test is None else predicted(model, *_given(model, test, options))
    print(aligned(_facts(model, training, found, took)))
    print(f"\n{_telling(model, training if test is None else test, options, test is not None)}\n")
    print(aligned({"model": str(options.out), **({} if curve is None else {"learning curve": str(curve)})}))


def _names(source: Source, kinds: dict[str, str], options: argparse.Namespace) -> list[str]:
    """Return the columns to read; raise ValueError if an argument names another one, or the target once more."""
    used = {"--weights": options.weights, "--groups": options.groups, "--time-column": options.time_column}
    given = {argument: [column] for argument, column in used.items() if column is not None}
    given |= {"--ignore": options.ignore, "--kind": list(kinds)}
    known_columns(source, "--target", [options.target])
    for argument, columns in given.items():
        known_columns(source, argument, columns)
        if options.target in columns:
            raise ValueError(f"{argument}: got {options.target!r}, the target; expected other columns")
    left_out = set(options.ignore) - {options.weights, options.groups, options.time_column}
    return [name for name in source.names if name not in left_out]


def _read(source: Source, names: list[str], options: argparse.Namespace) -> tuple[Any, int]:
    """Return the rows of a file, or some of them, drawn at random, and how many there are."""
    if options.rows is None:
        table = source.read(names)
        return table, table.num_rows
    import numpy as np

    random, kept, total = np.random.default_rng(options.seed), 0, 0
    rows: list[Any] = []
    keys: list[Any] = []
    last = 1.0  # of the smallest keys so far, which the drawn rows have
    for _, table in source.windows(names, max(options.rows, 1 << 12)):
        drawn = random.random(table.num_rows)
        taken = np.flatnonzero(drawn < last)
        rows.append(table.take(taken))
        keys.append(drawn[taken])
        kept, total = kept + len(taken), total + table.num_rows
        if kept > 2 * options.rows:
            rows, keys = _smallest(rows, keys, options.rows)
            kept, last = options.rows, keys[0].max()
    if not total:
        raise ValueError(f"{source}: has a header, but no rows")
    return _smallest(rows, keys, options.rows)[0][0], total


def _smallest(tables: list[Any], keys: list[Any], count: int) -> tuple[list[Any], list[Any]]:
    """Return the rows with the smallest keys, in their order, as one table, and these keys."""
    import numpy as np

    pyarrow = optional_module("pyarrow", "gdcore train", "gdcore[cli]")
    every = np.concatenate(keys)
    taken = np.sort(np.argsort(every, kind="stable")[:count])
    return [pyarrow.concat_tables(tables).take(taken).combine_chunks()], [every[taken]]


def _typed(source: Source, table: Any, kinds: dict[str, str], options: argparse.Namespace) -> Any:
    """Return the columns of a file in the types of their values."""
    from .typed import advice, as_kind, code_in, guessed, refuse_infinite, refuse_missing

    pyarrow = optional_module("pyarrow", "gdcore train", "gdcore[cli]")
    made = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = {"category": "text"}.get(kinds.get(name, ""), kinds.get(name))
        amounts = name == options.weights or (name == options.target and options.task == "regression")
        if amounts or (source.text and name == options.time_column and code_in(column, options.decimal)):
            kind = "number"
        where = f"{source}: column {name!r}"
        made[name] = column
        if source.text and kind is None:
            made[name] = guessed(column, options.decimal)
            hint = advice(made[name], options.decimal) if str(made[name].type) == "string" else ""
            if hint and name != options.groups:
                warn(options, f"{where}: {hint}")
                kinds[name] = "category"  # which the model need not say once more
        elif source.text and kind is not None:
            made[name] = as_kind(column, kind, where, decimal=options.decimal)
        refuse_infinite(made[name], where)
    for name in (options.target, options.weights, options.groups, options.time_column):
        if name is not None:
            refuse_missing(made[name], f"{source}: column {name!r}")
    return pyarrow.table(made)


def _task(source: Source, column: Any, options: argparse.Namespace) -> str:
    """Return the task: the given one, or the one that the values of the target tell."""
    if options.task is not None:
        return str(options.task)
    from .typed import code_in

    kind = str(column.type)
    if kind.startswith(("int", "uint")) or (kind == "string" and source.text and code_in(column, options.decimal)):
        if len(column.unique()) <= 2:
            return "classification"
        raise ValueError(
            f"{source}: column {options.target!r} has whole numbers, such as {column[0]}, which may be classes or "
            "amounts; say --task classification or --task regression"
        )
    return (
        "regression" if kind.startswith(("float", "halffloat", "double", "decimal", "duration")) else "classification"
    )


def _split(table: Any, task: str, options: argparse.Namespace) -> tuple[Any, Any]:
    """Return the rows for training and those for the test, None without a test.

    Test rows are whole groups, or the last ones in time; otherwise classes are divided evenly.
    """
    if not options.test:
        return table, None
    import numpy as np

    from ..tables.columns import read_column
    from ..tables.splitting import group_codes, split, time_order

    rows = table.num_rows
    if rows < 3:
        raise ValueError(f"got {rows} rows; expected at least three, or --test 0")
    labels = groups = moments = None
    if task == "classification":
        values = table.column(options.target).to_pylist()
        index = {value: code for code, value in enumerate(dict.fromkeys(values))}
        labels = np.array([index[value] for value in values])
    if options.groups is not None:
        groups = group_codes(read_column(table.column(options.groups), "groups"), "groups")
    if options.time_column is not None:
        moments = time_order(read_column(table.column(options.time_column), "time"), "time")
    training, held = split(rows, options.test, options.seed, labels, groups, moments)
    if labels is not None:  # a class is trained on before it is tested
        known = set(labels[training].tolist())
        held = held[[label in known for label in labels[held].tolist()]]
    if len(held) < 2:
        raise ValueError(
            f"--test: got {options.test:g} of {rows} rows, which is {len(held)}; expected at least two rows, or 0"
        )
    return table.take(training), table.take(held)


def _fitted(table: Any, task: str, kinds: dict[str, str], options: argparse.Namespace) -> tuple[TabularModel, float]:
    """Return the trained model, and the seconds that it took."""
    from ..tables import TabularModel

    started = time.monotonic()
    moments = None if options.time_column is None else table.column(options.time_column)
    table = table.drop_columns([name for name in options.ignore if name == options.time_column])
    inputs = set(table.column_names) - {options.target, options.weights, options.groups}
    model = TabularModel(
        task, ensemble=options.ensemble, time_limit=options.time, seed=options.seed, device=options.device,
        kinds={name: kind for name, kind in kinds.items() if name in inputs}, progress=not options.quiet,
    )  # fmt: skip
    model.fit(table, options.target, sample_weight=options.weights, groups=options.groups, time=moments)
    model._ignored += tuple(name for name in options.ignore if name not in model._ignored)  # in Python, as here
    return model, time.monotonic() - started


def _given(model: TabularModel, table: Any, options: argparse.Namespace) -> tuple[Any, Any, Any]:
    """Return inputs, answers and weights of some rows."""
    weights = None if options.weights is None else table.column(options.weights).to_numpy()
    return table.select(list(model.feature_names)), table.column(options.target), weights


def _facts(model: TabularModel, training: Any, test: Predicted | None, took: float) -> dict[str, str]:
    """Return what was trained, and how well it predicts."""
    columns = model.columns()
    kinds = Counter(columns["kind"])
    unused = [name for name, inputs in zip(columns["column"], columns["inputs"], strict=True) if not inputs]
    classes = "" if model.classes is None else f", {len(model.classes)} classes: {shown(model.classes.tolist())}"
    facts = {
        "task": f"{model.task}{classes}",
        "rows": f"{training.num_rows:,} trained on, {0 if test is None else len(test.answers):,} for the test",
        "columns": ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()),
    }
    if unused:
        facts["not used"] = f"{shown(unused, 100)}: one value, or text that never repeats"
    networks = len(model.ensemble)
    facts["networks"] = f"{networks}, trained in {took:.1f} s"
    if model.validation_metrics:
        found = {{"loss": "log_loss"}.get(name, name): value for name, value in model.validation_metrics.items()}
        facts |= {f"validation {name}": value for name, value in named(found).items()}
    if test is not None:
        facts |= {f"test {name}": value for name, value in measures(model, [test]).items()}
    return facts


def _telling(model: TabularModel, table: Any, options: argparse.Namespace, tested: bool) -> str:
    """Return the columns that the predictions depend on most, as a table."""
    import numpy as np

    repeats = 5 if len(model.feature_names) <= MANY_COLUMNS else 1
    most = min(max(IMPORTANCE_CELLS // len(model.feature_names), 100), IMPORTANCE_ROWS)
    if table.num_rows > most:
        table = table.take(np.sort(np.random.default_rng(options.seed).choice(table.num_rows, most, replace=False)))
    inputs, answers, weights = _given(model, table, options)
    found = model.importances(inputs, answers, sample_weight=weights, repeats=repeats, seed=options.seed)
    columns = model.columns()
    used = {name for name, inputs in zip(columns["column"], columns["inputs"], strict=True) if inputs}
    ranked = found.table()
    pairs = zip(ranked["column"], ranked["importance"], strict=True)
    lines = [(name, value) for name, value in pairs if name in used]
    where = f"{table.num_rows:,} {'test' if tested else 'training'} rows"
    title = f"How much worse {found.metric} becomes when a column is shuffled, on {where}"
    more = f"\n  and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    if not lines:
        return "No column is used, so that all predictions are the same"
    width = max(len(name) for name, _ in lines[:SHOWN])
    return title + "".join(f"\n  {name:<{width}}  {value:.4f}" for name, value in lines[:SHOWN]) + more


def _curve_label(options: argparse.Namespace) -> str:
    """Return what messages call the file of the learning curve, which need not have been asked for."""
    return "the learning curve" if options.curve is None else "--curve"


def _curve_path(options: argparse.Namespace) -> Path | None:
    """Return where the learning curve goes; None if it was not asked for and matplotlib is not installed."""
    if options.curve is not None:
        optional_module("matplotlib", "--curve", "gdcore[plot]")
        return Path(options.curve)
    import importlib.util

    if importlib.util.find_spec("matplotlib") is None:
        return None
    return Path(options.out).with_suffix(".curve.png")


def _draw_curve(model: TabularModel, options: argparse.Namespace) -> Path | None:
    path = _curve_path(options)
    if path is not None:
        from ..plotting.networks import networks_curve

        networks_curve([each.history for each in model.ensemble.training], path, _curve_label(options))
    return path
