"""Metrics by name: the input of each, and whether less or more is better."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

from ..internal.checks import shown
from . import labels, of_sklearn, probabilities, regression


class Known(NamedTuple):
    """A metric of gdcore: its function, its input ("labels", "probabilities", "numbers"), "min" or "max"."""

    function: Callable[..., float]
    takes: str
    better: str


KNOWN = {
    "accuracy": Known(labels.accuracy, "labels", "max"),
    "balanced_accuracy": Known(labels.balanced_accuracy, "labels", "max"),
    "binary_accuracy": Known(labels.binary_accuracy, "labels", "max"),
    "precision": Known(labels.precision, "labels", "max"),
    "recall": Known(labels.recall, "labels", "max"),
    "f1": Known(labels.f1, "labels", "max"),
    "roc_auc": Known(probabilities.roc_auc, "probabilities", "max"),
    "average_precision": Known(probabilities.average_precision, "probabilities", "max"),
    "log_loss": Known(probabilities.log_loss, "probabilities", "min"),
    "brier": Known(probabilities.brier, "probabilities", "min"),
    "r2": Known(regression.r2, "numbers", "max"),
    "mean_absolute_error": Known(regression.mean_absolute_error, "numbers", "min"),
    "mean_squared_error": Known(regression.mean_squared_error, "numbers", "min"),
    "root_mean_squared_error": Known(regression.root_mean_squared_error, "numbers", "min"),
}
KNOWN |= {
    f"{name}_{average}": Known(partial(KNOWN[name].function, average=average), "labels", "max")
    for name in ("precision", "recall", "f1")
    for average in ("macro", "micro", "weighted")
}
KNOWN |= {
    other: KNOWN[name]
    for other, name in {
        "auc": "roc_auc",
        "mae": "mean_absolute_error",
        "mse": "mean_squared_error",
        "rmse": "root_mean_squared_error",
    }.items()
}
SHOWN = (*KNOWN, "top_5 (or another k)")


def by_name(name: str) -> Known | None:
    """Return the metric of that name, None if there is none."""
    match = re.fullmatch(r"top_0*([1-9]\d*)", name)
    return Known(probabilities.top_k(int(match[1])), "probabilities", "max") if match else KNOWN.get(name)


def functions() -> dict[str, str]:
    """Return the name of the function for each name of a metric, also for those of other libraries."""
    from ..internal.foreign_names import METRICS  # here, to keep `import gdcore` fast

    whole = {name: known.function for name, known in KNOWN.items()}
    named = {name: each.func if isinstance(each, partial) else each for name, each in whole.items()}
    return {name: named[METRICS.get(name, name)].__name__ for name in (*KNOWN, *METRICS)}


def by_function(function: object) -> Known | None:
    """Return the entry of a function, also of one in a partial object; None if it is not gdcore's."""
    if isinstance(function, probabilities.TopK):
        return Known(function, "probabilities", "max")
    known = next((known for known in KNOWN.values() if known.function is function), None)
    return by_function(function.func) if known is None and isinstance(function, partial) else known


def closest(name: str, before: str = "") -> str:
    """Return a hint with the closest name, after the text `before`, or empty text."""
    theirs = [each for each in (name, f"{name}_score") if each in of_sklearn.KNOWN]
    if theirs:
        return f"the function itself, sklearn.metrics.{theirs[0]}, can be given. "
    found = [usual(name)] if usual(name) in KNOWN else []
    found = found or difflib.get_close_matches(name.lower(), (*KNOWN, "top_5"), n=1)
    return f"did you mean {f'{before}{found[0]}'!r}? " if found else ""


def usual(name: str) -> str:
    """Return gdcore's name of a metric that is spelt otherwise, or has another name elsewhere; else the name itself."""
    from ..internal.foreign_names import METRICS  # here, to keep `import gdcore` fast

    names = {each.replace("_", ""): METRICS.get(each, each) for each in (*METRICS, *KNOWN)}
    return names.get("".join(filter(str.isalnum, name.lower())), name)


def unmeasured(monitor: str, columns: Iterable[str]) -> str:
    """Return what to do about a column that is not measured: another name of a measured one, or a metric to add."""

    def known(column: str) -> Known | None:
        return by_name(usual(column.removeprefix("val_")))

    there, metric = sorted(columns), known(monitor)
    wanted = [monitor.lower(), f"val_{monitor.lower()}"]
    same = [each for each in there if each.lower() in wanted or (metric is not None and known(each) == metric)]
    same.sort(key=lambda each: not each.startswith("val_"))
    if same:
        return f"did you mean {same[0]!r}? Expected one of {', '.join(there)}"
    if metric is not None:
        name = usual(monitor.removeprefix("val_"))
        column = "" if monitor == f"val_{name}" else f" as {f'val_{name}'!r}"
        return f"Trainer(metrics=[{name!r}]) measures it{column}. Expected one of {', '.join(there)}"
    return f"expected one of {', '.join(there)}"


def direction(monitor: str, mode: str | None) -> str:
    """Return "min" or "max": `mode` itself, or the known direction of the column `monitor` if it is None.

    Raises
    ------
    ValueError
        If `mode` is neither, or it is None and `monitor` is no known metric.
    """
    if isinstance(mode, str) and mode in ("min", "max"):
        return str(mode)
    if not isinstance(monitor, str):
        raise TypeError(f"monitor: got {shown(monitor)}; expected the name of a column, such as 'val_loss'")
    if mode is not None:
        raise ValueError(f"mode: got {shown(mode)}; expected 'min', 'max', or None for measures that are known")
    name = monitor.removeprefix("val_")
    if name == "loss":
        return "min"
    known = by_name(name)
    if known is not None:
        return known.better
    if name in of_sklearn.KNOWN:
        return of_sklearn.KNOWN[name][1]
    raise ValueError(
        f"mode: needed for monitor={shown(monitor)}: {closest(name, 'val_')}'min' if less of it is better, 'max' if "
        f"more is (it is known for loss, {', '.join(SHOWN)} and the functions of sklearn.metrics)"
    )


def named(name: Any, where: str) -> Known:
    """Return the metric of a name; raise ValueError with all names if there is none."""
    if not isinstance(name, str):
        raise TypeError(f"{where}: got {shown(name)}; expected the name of a metric, such as 'accuracy'")
    known = by_name(name)
    if known is None:
        function = "" if where == "metric" else ", or a function"  # where one name is expected
        raise ValueError(f"{where}: got {shown(name)}; {closest(name)}Expected one of {', '.join(SHOWN)}{function}")
    return known
