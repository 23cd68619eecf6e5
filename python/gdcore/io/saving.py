"""Saved models: arrays and a description, written and read; `gdcore.io.tensor_file` has the file format.

Arrays have the names of the model's parameters and buffers. The description, in JSON, has all else that rebuilds the
model. A file is checked completely before a model is built: its arrays are compared with the shapes of its layers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .. import _core
from ..internal import json_values
from ..internal.arrays import Array
from ..internal.checks import FormatError, shown
from ..internal.labels import decode_classes, encode_classes
from ..internal.ranges import out_of_range, ranges_of
from . import specs
from .destination import FileLike
from .tensor_file import checksum, read_file, read_tensors, write_file

if TYPE_CHECKING:
    from ..model import Sequential

__all__ = ["FormatError", "checksum", "read_file", "read_tensors", "write_file"]

TRAINING = "training."  # prefix of the names of all arrays that are not the model's


def save_model(model: Sequential, path: FileLike) -> None:
    """Write `model` to a file; see `gdcore.Sequential.save`."""
    with model._hold():  # another thread that trains the model waits
        write_file(path, model_tensors(model), {"model": json.dumps(describe(model))}, check=check_model)


def model_tensors(model: Sequential) -> dict[str, Array | _core.DeviceArray]:
    """Return views of the parameters and buffers by name."""
    return {**model.parameters(), **model.buffers()}


def describe(model: Sequential) -> dict[str, Any]:
    """Return the description that rebuilds a model, without its arrays, as a JSON value; `ENTRIES` has the checks."""
    return {
        "layers": [specs.encode(layer) for layer in model.layers],
        "dtype": model.dtype,
        "seed": model.seed,
        "classes": encode_classes(model.classes),
        "outputs": model.outputs,
        "feature_names": None if model.feature_names is None else list(model.feature_names),
        "target_names": None if model.target_names is None else list(model.target_names),
        "frozen": model.frozen(),
    }


def _layer(value: Any, where: str) -> dict[str, Any]:
    with json_values.entry(where):
        specs.decode_layer(value)
    return json_values.mapping(value, where)


def _layers(value: Any, where: str) -> list[dict[str, Any]]:
    return json_values.listing(value, where, _layer)


def _dtype(value: Any, where: str) -> str:
    if value not in ("float32", "float64"):
        raise json_values.wrong(where, value, "'float32' or 'float64'")
    return str(value)


def _class_names(value: Any, where: str) -> list[Any] | None:
    if value is None:
        return None
    names = json_values.listing(value, where, lambda name, _: name)
    for i, name in enumerate(names):
        with json_values.entry(f"{where}[{i}]"):
            decode_classes([name])
        if not isinstance(name, (str, int, float, dict)) or name != name:
            raise json_values.wrong(f"{where}[{i}]", name, "text, a number or a date")
    return names


def _names(value: Any, where: str) -> list[str]:
    return json_values.listing(value, where, json_values.text)


# The entries of a description with their checks. A new entry needs a line here and one in `describe`. If a resumed run
# must have the same value, add its name to `checkpoint.COMPARED`.
ENTRIES: dict[str, Callable[[Any, str], Any]] = {
    "layers": _layers,
    "dtype": _dtype,
    "seed": json_values.seed,
    "classes": _class_names,
    "outputs": lambda value, where: None if value is None else json_values.text(value, where),
    "feature_names": lambda value, where: None if value is None else _names(value, where),
    "target_names": lambda value, where: None if value is None else _names(value, where),
    "frozen": _names,
}
FIRST_ENTRIES = {"layers", "dtype", "seed", "classes", "frozen"}  # of version 1; other entries are read as None


def read_description(metadata: Mapping[str, str], where: str) -> dict[str, Any]:
    """Return the description of the model in a file, checked.

    Raises
    ------
    FormatError
        If there is none, or an entry is invalid; the message names the entry.
    """
    if "model" not in metadata:
        raise FormatError(f"{where}: the description of a model is missing")
    where = f"{where}: model"
    given = json_values.mapping(json_values.parse(metadata["model"], where), where)
    later = dict.fromkeys(ENTRIES.keys() - FIRST_ENTRIES) if metadata.get("format_version") == "1" else {}
    return checked_description(later | given, where)


def checked_description(value: Any, where: str) -> dict[str, Any]:
    """Return what `describe` wrote, checked; raise FormatError otherwise."""
    return json_values.entries(value, where, ENTRIES)


def check_tensors(tensors: Mapping[str, Array], layers: list[dict[str, Any]], dtype: str, where: str) -> None:
    """Compare the arrays of a file with those that the layers need, before memory for a network is allocated.

    Raises
    ------
    FormatError
        If an array is missing, superfluous, or of another shape or dtype, or a variance or deviation is negative.
    """
    with json_values.entry(f"{where}: model.layers"):
        decoded = [specs.decode_layer(layer) for layer in layers]
        shapes = _core._shapes(decoded, dtype)
    for name, shape in shapes.items():
        given = tensors.get(name)
        if given is None or given.shape != shape or given.dtype != dtype:
            got = "nothing" if given is None else f"{given.dtype} of shape {given.shape}"
            raise FormatError(f"{where}: {name}: got {got}; expected {dtype} of shape {shape}")
    for name in tensors:
        if name not in shapes and not name.startswith(TRAINING):
            raise FormatError(f"{where}: got the array {shown(name)}, which this network does not have")
    check_ranges(tensors, ranges_of(decoded, dtype), where)


def check_model(tensors: Mapping[str, Array], metadata: Mapping[str, str], where: str = "the file") -> dict[str, Any]:
    """Return the description of a model from its arrays and metadata, checked; no model is built.

    Raises
    ------
    FormatError
        If the description is invalid or does not fit the arrays.
    """
    described = read_description(metadata, where)
    check_tensors(tensors, described["layers"], described["dtype"], where)
    return described


def check_ranges(tensors: Mapping[str, Array], ranges: Mapping[str, bool], where: str) -> None:
    """Raise FormatError naming the first array of a file that holds a value out of its range."""
    for name, positive in ranges.items():
        wrong = out_of_range(tensors[name], positive)
        if wrong:
            raise FormatError(f"{where}: {name}: {wrong}")


def model_from(
    tensors: Mapping[str, Array], metadata: Mapping[str, str], where: str, **device_settings: Any
) -> Sequential:
    """Build the model that a file describes.

    Raises
    ------
    FormatError
        If the description is invalid or does not fit the arrays.
    DeviceError
        If the device is not available.
    """
    return built(check_model(tensors, metadata, where), tensors, f"{where}: model", **device_settings)


def built(settings: dict[str, Any], tensors: Mapping[str, Array], where: str, **device_settings: Any) -> Sequential:
    """Build a model from its description and its arrays, both checked."""
    from ..model import Sequential

    settings["classes"] = decode_classes(settings["classes"])
    described, frozen = settings.pop("layers"), settings.pop("frozen")
    with json_values.entry(where):
        model = Sequential(*[specs.decode_layer(layer) for layer in described], **settings, **device_settings)
    with json_values.entry(f"{where}.frozen"):
        model.set_all_frozen(frozen, True)
    set_tensors(model, tensors)
    return model


def set_tensors(model: Sequential, tensors: Mapping[str, Array]) -> None:
    """Set all parameters and buffers to arrays that passed `check_tensors`; a saved nan is restored as nan."""
    with model._hold():
        for name, own in model_tensors(model).items():
            own[...] = tensors[name]
