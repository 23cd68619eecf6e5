"""Saved `TabularModel`s: the encoding of the columns and the target as JSON beside the networks, those of an ensemble.

Format version 4 is version 3 with another entry of metadata, "table".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..internal import json_values
from ..internal.arrays import Array
from ..internal.checks import FormatError
from .destination import FileLike
from .ensembles import checked_ensemble, describe_ensemble, ensemble_from
from .tensor_file import KEY_OF_TABLE, TABLE_VERSION, write_file

if TYPE_CHECKING:
    from ..tables.encoding import Encoding
    from ..tables.model import TabularModel
    from ..tables.prediction import TablePredictor
    from ..tables.targets import Target

__all__ = ["save_table", "table_from"]


def save_table(model: TablePredictor, path: FileLike) -> None:
    """Write a model to a file; see `TabularModel.save`."""
    target, encoding, ensemble = model._parts()
    described = {"target": target.to_json(), "encoding": encoding.to_json(), "ignored": list(model._ignored)}
    tensors, metadata = describe_ensemble(ensemble)
    write_file(path, tensors, {**metadata, KEY_OF_TABLE: json.dumps(described)}, check=_checked, version=TABLE_VERSION)


def _checked(
    tensors: Mapping[str, Array], metadata: Mapping[str, str], where: str = "the file"
) -> tuple[Target, Encoding, tuple[str, ...]]:
    """Return target, encoding and ignored columns of a file, checked; nothing is built.

    Raises
    ------
    FormatError
        If the description is invalid, or does not fit the networks.
    """
    from ..tables.stored import read_encoding
    from ..tables.targets import Target

    title = f"{where}: {KEY_OF_TABLE}"
    checks = {
        "target": Target.from_json,
        "encoding": read_encoding,
        "ignored": lambda value, at: tuple(json_values.listing(value, at, json_values.text)),
    }
    given = json_values.entries(json_values.parse(metadata[KEY_OF_TABLE], title), title, checks)
    target, encoding = given["target"], given["encoding"]
    models, parts = checked_ensemble(tensors, metadata, where)
    for i, (model, part) in enumerate(zip(models["models"], parts, strict=True)):
        _check_sizes(model["layers"], part, encoding.width, target.outputs, f"{title}.models[{i}]")
    return target, encoding, given["ignored"]


def _check_sizes(layers: Any, tensors: Mapping[str, Array], inputs: int, outputs: int, where: str) -> None:
    """Raise FormatError unless a network has the inputs of the encoding and the outputs of the target."""
    from .. import _core
    from . import specs

    with json_values.entry(where):
        network = [specs.decode_layer(layer) for layer in layers]
        dense = [layer for layer in network if isinstance(layer, _core.Dense)]
    if not dense or dense[-1].out_features != outputs:
        raise FormatError(f"{where}: does not have {outputs} outputs, as the target")
    first = getattr(network[0], "in_features", getattr(network[0], "features", None))
    if first not in (None, inputs):
        raise FormatError(f"{where}: does not have {inputs} inputs, as the encoding")


def table_from(tensors: Mapping[str, Array], metadata: Mapping[str, str], where: str, **settings: Any) -> TabularModel:
    """Build the model that a file describes; raises what `saving.model_from` does."""
    from ..tables.model import TabularModel

    target, encoding, ignored = _checked(tensors, metadata, where)
    ensemble = ensemble_from(tensors, metadata, where, **settings)
    with json_values.entry(f"{where}: {KEY_OF_TABLE}"):
        return TabularModel._of(target, encoding, ensemble, ignored)
