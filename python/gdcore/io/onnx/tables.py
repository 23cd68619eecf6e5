"""ONNX files of models of tables: columns in, predictions out; the encoding of `gdcore.tables.encoding` in operators.

Each column that the model uses is an input of its name, of shape (rows,), with a value that stands for missing ones:

- float64 with NaN: numbers, booleans and categories that are numbers;
- int64 with -2^63: dates, as microseconds since 1970 (in UTC if they have a time zone), and whole numbers that float64
  does not hold;
- text with "": categories that are text. Where "" is itself one of the categories, nothing stands for missing ones.

As in the encoding, numbers are computed in float64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...internal.checks import choice
from ...internal.frames import EXACT
from ...tables.encoding import CLIP
from ..destination import FileLike
from .columns import shares
from .files import averaged, write
from .graph import ML, Graph
from .whole import Whole, difference, parts_of

if TYPE_CHECKING:
    from ...tables.encoding import Encoded, Encoding, Feature
    from ...tables.prediction import TablePredictor
    from ...tables.targets import Target

__all__ = ["encoded", "save_table"]

MISSING = -(2**63)  # NumPy's missing date, NaT
DONE = "and fit again"


def save_table(model: TablePredictor, path: FileLike, outputs: str) -> None:
    """Write a model of tables to an ONNX file; see `gdcore.tables.TabularModel.save_onnx`."""
    target, encoding, ensemble = model._parts()
    choice(outputs, "outputs", ("raw", "probabilities"))
    graph = Graph(ensemble.dtype)
    x = encoded(graph, encoding)
    found = averaged(graph, ensemble, graph.cast(x, ensemble.dtype), outputs)
    if target.classes is None:
        _numbers(graph, target, found)
    else:
        graph.output(outputs if outputs == "probabilities" else "outputs", found, ensemble.dtype, target.outputs)
        _labels(graph, target, found)
    facts: dict[str, Any] = {
        "outputs": ensemble.outputs,
        "classes": target.classes,
        "feature_names": list(graph.inputs),
    }
    facts["target_names"] = [target.name] if target.name is not None else list(target.names) or None
    used = [column for column in encoding.columns if column.width]
    facts["kinds"] = {column.name: column.kind for column in used}
    facts["meanings"] = {column.name: column.meaning for column in used if column.meaning}
    write(graph, type(model).__name__, facts, path)


# ---- Inputs ---------------------------------------------------------------------------------------------------------
def _type_of(column: Encoded) -> str:
    """Return the dtype of the input of a column; raise ValueError if ONNX has none for it."""
    name, keys = column.name, column.keys
    where = f"save_onnx: column {name!r}"
    if not name:
        raise ValueError(f"{where}: got an empty name, which no ONNX input may have; rename the column, {DONE}")
    _check_text(name, where, "rename the column")
    if column.kind == "date":
        return "int64"
    if column.kind != "category":
        if not column.offset:
            return "float64"
        if abs(column.offset) + 2 ** max(column.features[0].exponent - 1, 0) > -MISSING:
            raise ValueError(f"{where}: got whole numbers that int64 does not hold; divide them by a number, {DONE}")
        return "int64"
    if column.text:
        for key in keys:
            _check_text(str(key), where, "replace it")
        if column.missing and "" in keys:
            raise ValueError(
                f'{where}: got missing values and "", which stands for them in an ONNX file; replace one of the two, '
                f"such as by .fillna('none'), {DONE}"
            )
        return "O"
    if not column.numbers:
        raise ValueError(
            f"{where}: got text and numbers as categories, which are two types in ONNX; make text of the numbers, such "
            f"as by .astype(str), {DONE}"
        )
    if all(abs(key) <= EXACT for key in keys if isinstance(key, int)):
        return "float64"
    if not all(isinstance(key, int) and MISSING < key < -MISSING for key in keys):
        raise ValueError(
            f"{where}: got categories that neither float64 nor int64 hold; make text of them, such as by .astype(str), "
            f"{DONE}"
        )
    return "int64"


def _check_text(text: str, where: str, advice: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a pair of surrogates
        raise ValueError(f"{where}: got {text!r}, which UTF-8 does not have; {advice}, {DONE}") from None


class _Number(NamedTuple):
    """A number of the encoding: how it is scaled, the name of its values (rows, 1), and its first input."""

    feature: Feature
    values: str
    first: int


def encoded(graph: Graph, encoding: Encoding) -> str:
    """Add the inputs and what `Encoding.encode` does; return the name of the encoded rows, float32 (rows, width)."""
    types = {column.name: _type_of(column) for column in encoding.columns if column.width}
    if not types:
        raise ValueError("save_onnx: got a model that uses none of its columns; a file needs an input")
    for name, dtype in types.items():
        graph.input(name, dtype)
    numbers: list[_Number] = []
    blocks: list[str] = []
    places: list[int] = []  # where each column of the blocks belongs
    for column, (first, last) in zip(encoding.columns, encoding.spans, strict=True):
        if first == last:
            continue
        with graph.at(column.name, "float64"):
            if column.kind == "category":
                blocks.append(graph.cast(_indicators(graph, column, types[column.name]), "float32"))
                places += range(first, last)
                continue
            for feature, values in zip(column.features, _values(graph, column, types[column.name]), strict=True):
                numbers.append(_Number(feature, values, first))
                first += feature.width
    if numbers:
        with graph.at("numbers", "float64"):
            blocks[:0], places[:0] = _scaled(graph, numbers)
    with graph.at("encoded"):
        order = graph.constant("order", np.argsort(places), "int64")
        return graph.add("Gather", graph.add("Concat", *blocks, axis=1), order, axis=1)


def _column(graph: Graph, x: str) -> str:
    """Add a change of shape from (rows,) to (rows, 1)."""
    return graph.add("Unsqueeze", x, graph.constant("axis", [1], "int64"))


def _gone(graph: Graph, x: str, dtype: str) -> str:
    """Add whether each value of a column of numbers is missing."""
    if dtype == "float64":
        return graph.add("IsNaN", x)
    return graph.add("Equal", x, graph.constant("missing", MISSING, dtype))


def _values(graph: Graph, column: Encoded, dtype: str) -> list[str]:
    """Add the numbers that are made of a column, float64 (rows, 1) with NaN for missing ones."""
    x = _column(graph, column.name)
    if dtype == "float64":
        return [x]
    gone = _gone(graph, x, dtype)
    known = Whole(graph, graph.add("Where", gone, graph.constant("any", 0, "int64"), x))
    nan = graph.constant("nan", np.nan)
    if column.kind == "date":
        part = parts_of(known)
        found = [part(feature.part) for feature in column.features]
    else:
        found = [difference(known, column.offset)]
    return [graph.add("Where", gone, nan, each) for each in found]


def _scaled(graph: Graph, numbers: list[_Number]) -> tuple[list[str], list[int]]:
    """Add what `Feature.encode` does, for all numbers together; return the names of blocks, and their inputs."""
    x = graph.add("Concat", *(number.values for number in numbers), axis=1)
    features = [number.feature for number in numbers]
    gone = graph.add("IsNaN", x)
    exponents = np.array([feature.exponent for feature in features])
    for part in (exponents // 2, exponents - exponents // 2):  # 2^-1074 is no float64, nor is 2^1074
        x = graph.add("Mul", x, graph.constant("power", np.ldexp(1.0, -part)))
    x = graph.add("Sub", x, graph.constant("centre", [feature.centre for feature in features]))
    x = graph.add("Mul", x, graph.constant("scale", [feature.scale for feature in features]))
    z = graph.add("Clip", x, graph.constant("least", -1e100), graph.constant("most", 1e100))
    share = graph.add("Div", z, graph.constant("clip", CLIP))
    square = graph.add("Add", graph.add("Mul", share, share), graph.constant("one", 1.0))
    scaled = graph.add("Div", z, graph.add("Sqrt", square))
    scaled = graph.add("Where", gone, graph.constant("median", 0.0), scaled)
    blocks, places = [scaled], [number.first for number in numbers]
    edges = [np.array(feature.edges) for feature in features]
    counts = [max(len(each) - 1, 0) for each in edges]
    if any(counts):
        columns = np.repeat(np.arange(len(features)), counts)
        start, width = np.concatenate([each[:-1] for each in edges]), np.concatenate([np.diff(each) for each in edges])
        blocks.append(shares(graph, scaled, columns, {"start": start, "width": width}, (0.0, 1.0)))
        places += [number.first + 1 + k for number, count in zip(numbers, counts, strict=True) for k in range(count)]
    flagged = [i for i, feature in enumerate(features) if feature.missing]
    if flagged:
        blocks.append(graph.add("Gather", gone, graph.constant("flagged", flagged, "int64"), axis=1))
        places += [numbers[i].first + features[i].width - 1 for i in flagged]
    return [graph.cast(block, "float32") for block in blocks], places


def _indicators(graph: Graph, column: Encoded, dtype: str) -> str:
    """Add whether a column has each of its categories, (rows, width)."""
    count, width = len(column.keys), column.width
    if dtype == "O":
        codes = {"": count + column.rare if column.missing else width} | {key: i for i, key in enumerate(column.keys)}
        known: dict[str, Any] = {"keys_strings": list(codes), "values_int64s": list(codes.values())}
        known["default_int64"] = count if column.rare else width
        code = _column(graph, graph.add("LabelEncoder", column.name, domain=ML, **known))
        return graph.add("Equal", code, graph.constant("codes", np.arange(width), "int64"))
    x = _column(graph, column.name)
    gone = _gone(graph, x, dtype)
    blocks, other = [], gone
    if count:
        blocks.append(graph.add("Equal", x, graph.constant("keys", column.keys, dtype)))
        most = graph.add("ReduceMax", graph.cast(blocks[0], "float32"), axes=[1], keepdims=1)
        other = graph.add("Or", gone, graph.cast(most, "bool"))
    blocks += [graph.add("Not", other)] if column.rare else []
    blocks += [gone] if column.missing else []
    return graph.add("Concat", *blocks, axis=1)


# ---- Outputs --------------------------------------------------------------------------------------------------------
def _numbers(graph: Graph, target: Target, found: str) -> None:
    """Add numbers in the unit of the target, in the shape and type that `predict` returns."""
    with graph.at("target", "float64"):
        scaled = graph.add("Mul", graph.cast(found, "float64"), graph.constant("scale", target.scale))
        y = graph.cast(graph.add("Add", scaled, graph.constant("centre", target.centre)), target.dtype)
        if not target.columns:
            y = graph.add("Squeeze", y, graph.constant("axis", [1], "int64"))
    graph.output("outputs", y, target.dtype, *([target.columns] if target.columns else []))


def _labels(graph: Graph, target: Target, found: str) -> None:
    """Add the most probable class: text, a number or a boolean as `predict` returns it, and the text of a date."""
    labels = target.class_array()
    labels = np.array(labels.tolist()) if labels.dtype.kind == "O" else labels
    if labels.dtype.kind not in "biuf":
        names = [str(name) for name in target.classes or ()]
        for name in names:
            _check_text(name, "save_onnx: classes", "rename the class")
        labels = np.array(names, dtype=object)
    with graph.at("target"):
        best = graph.add("ArgMax", found, axis=1, keepdims=0)
        label = graph.add("Gather", graph.constant("classes", labels, labels.dtype.str), best, axis=0)
    graph.output("label", label, labels.dtype.str)
