"""``gdcore train DATA --target COLUMN``: from a table in a file to a model in a file."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..internal.checks import optional_module, shown
from .evaluate import measures, refuse_missing
from .reading import known_columns, opened
from .shared import about, add_data, aligned, named, outputs_apart, say, seconds

if TYPE_CHECKING:
    from ..tables import TabularModel
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
    parser.add_argument("--ensemble", metavar="K", type=_positive, help="networks that are averaged")
    parser.add_argument("--seed", metavar="N", type=_seed, default=0, help="of test rows and networks (%(default)s)")
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


def _positive(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 10_000:
        raise argparse.ArgumentTypeError(f"got {text!r}; expected a whole number from 1")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"got {text!r}; expected a whole number from 0 to 4294967295")
    return int(text)


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
    outputs_apart(options, [options.data], {"--out": options.out, "--curve": _curve_path(options)})
    source = opened(options.data, separator=options.separator, encoding=options.encoding)
    kinds = dict(options.kind)
    for argument, columns in (("--target", [options.target]), ("--ignore", options.ignore), ("--kind", list(kinds))):
        known_columns(source, argument, columns)
    for argument, columns in (("--ignore", options.ignore), ("--kind", list(kinds))):
        if options.target in columns:
            raise ValueError(f"{argument}: got {options.target!r}, the target; expected other columns")
    names = [name for name in source.names if name not in options.ignore]
    table = _typed(source, source.read(names), kinds, options)
    say(options, f"{options.data}: {table.num_rows:,} rows, {len(names)} columns")
    task = _task(source, table.column(options.target), options)
    with about(source, target=options.target, whole=not options.test):
        training, test = _split(table, task, options)
        say(options, f"training for {task} of {options.target!r} on {training.num_rows:,} rows")
        model, took = _fitted(training, task, {key: kinds[key] for key in kinds if key in names}, options)
    model.save(options.out)
    curve = _draw_curve(model, options)
    print(aligned(_facts(model, training, test, took, options)))
    print(f"\n{_telling(model, training if test is None else test, options, test is not None)}\n")
    print(aligned({"model": str(options.out), **({} if curve is None else {"learning curve": str(curve)})}))


def _typed(source: Source, table: Any, kinds: dict[str, str], options: argparse.Namespace) -> Any:
    """Return the columns of a file in the types of their values."""
    from .typed import as_kind, guessed, refuse_infinite

    pyarrow = optional_module("pyarrow", "gdcore train", "gdcore[cli]")
    made = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = {"category": "text"}.get(kinds.get(name, ""), kinds.get(name))
        where = f"{source.path}: column {name!r}"
        made[name] = column
        if source.text and kind is None:
            made[name] = guessed(column, options.decimal)
        elif source.text and kind is not None:
            made[name] = as_kind(column, kind, where, decimal=options.decimal)
        refuse_infinite(made[name], where)
    refuse_missing(made[options.target], f"{source.path}: column {options.target!r}")
    return pyarrow.table(made)


def _task(source: Source, column: Any, options: argparse.Namespace) -> str:
    """Return the task: the given one, or the one that the values of the target tell."""
    if options.task is not None:
        return str(options.task)
    kind = str(column.type)
    if kind.startswith(("int", "uint")):
        if len(column.unique()) <= 2:
            return "classification"
        raise ValueError(
            f"{source.path}: column {options.target!r} has whole numbers, such as {column[0]}, which may be classes or "
            "amounts; say --task classification or --task regression"
        )
    return (
        "regression" if kind.startswith(("float", "halffloat", "double", "decimal", "duration")) else "classification"
    )


def _split(table: Any, task: str, options: argparse.Namespace) -> tuple[Any, Any]:
    """Return the rows for training and those for the test, None without a test; classes are divided evenly."""
    if not options.test:
        return table, None
    from ..tables.splitting import split

    rows = table.num_rows
    if rows < 3:
        raise ValueError(f"got {rows} rows; expected at least three, or --test 0")
    labels = None
    if task == "classification":
        import numpy as np

        values = table.column(options.target).to_pylist()
        index = {value: code for code, value in enumerate(dict.fromkeys(values))}
        labels = np.array([index[value] for value in values])
    training, held = split(rows, options.test, options.seed, labels)
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
    model = TabularModel(
        task, ensemble=options.ensemble, time_limit=options.time, kinds=kinds, seed=options.seed, device=options.device,
        progress=not options.quiet,
    )  # fmt: skip
    return model.fit(table, options.target), time.monotonic() - started


def _facts(model: TabularModel, training: Any, test: Any, took: float, options: argparse.Namespace) -> dict[str, str]:
    """Return what was trained, and how well it predicts."""
    columns = model.columns()
    kinds = Counter(columns["kind"])
    unused = [name for name, inputs in zip(columns["column"], columns["inputs"], strict=True) if not inputs]
    classes = "" if model.classes is None else f", {len(model.classes)} classes: {shown(model.classes.tolist())}"
    facts = {
        "task": f"{model.task}{classes}",
        "rows": f"{training.num_rows:,} trained on, {0 if test is None else test.num_rows:,} for the test",
        "columns": ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()),
    }
    if unused:
        facts["not used"] = f"{shown(unused, 100)}: one value, or text that never repeats"
    networks = len(model.ensemble)
    facts["networks"] = f"{networks}, trained in {took:.1f} s"
    if model.validation_metrics:
        facts |= {f"validation {name}": value for name, value in named(model.validation_metrics).items()}
    if test is not None:
        found = measures(model, test.drop_columns([options.target]), test.column(options.target))
        facts |= {f"test {name}": value for name, value in found.items()}
    return facts


def _telling(model: TabularModel, table: Any, options: argparse.Namespace, tested: bool) -> str:
    """Return the columns that the predictions depend on most, as a table."""
    import numpy as np

    repeats = 5 if len(model.feature_names) <= MANY_COLUMNS else 1
    most = min(max(IMPORTANCE_CELLS // len(model.feature_names), 100), IMPORTANCE_ROWS)
    if table.num_rows > most:
        table = table.take(np.sort(np.random.default_rng(options.seed).choice(table.num_rows, most, replace=False)))
    found = model.importances(
        table.drop_columns([options.target]), table.column(options.target), repeats=repeats, seed=options.seed
    )
    columns = found.table()
    where = f"{table.num_rows:,} {'test' if tested else 'training'} rows"
    title = f"Loss of {found.metric} when a column is shuffled, on {where}"
    lines = list(zip(columns["column"][:SHOWN], columns["importance"][:SHOWN], strict=True))
    width = max(len(name) for name, _ in lines)
    more = f"\n  and {columns.height - SHOWN} more" if columns.height > SHOWN else ""
    return title + "".join(f"\n  {name:<{width}}  {value:.4f}" for name, value in lines) + more


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

        networks_curve([each.history for each in model.ensemble.training], path, "--curve")
    return path
