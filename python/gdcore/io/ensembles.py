"""Saved ensembles: the arrays and descriptions of all models in one file; `gdcore.io.saving` has those of one model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..internal import json_values
from ..internal.arrays import Array
from ..internal.checks import FormatError, shown
from .destination import FileLike
from .saving import built, check_tensors, checked_description, describe, model_tensors
from .tensor_file import ENSEMBLE_VERSION, write_file

if TYPE_CHECKING:
    from ..ensembles.ensemble import Ensemble

__all__ = ["checked_ensemble", "describe_ensemble", "ensemble_from", "save_ensemble"]


def save_ensemble(ensemble: Ensemble, path: FileLike) -> None:
    """Write an ensemble to a file; see `gdcore.Ensemble.save`."""
    tensors, metadata = describe_ensemble(ensemble)
    write_file(path, tensors, metadata, check=checked_ensemble, version=ENSEMBLE_VERSION)


def describe_ensemble(ensemble: Ensemble) -> tuple[dict[str, Array], dict[str, str]]:
    """Return copies of the arrays of all models, and the entry of metadata that describes them."""
    from ..ensembles.members import checked_models

    checked_models(ensemble.models)  # which may have changed
    tensors: dict[str, Array] = {}
    models = []
    for i, model in enumerate(ensemble.models):
        with model._hold():  # one at a time, so that savers cannot wait for each other; hence copies
            tensors |= {f"models.{i}.{name}": np.array(view) for name, view in model_tensors(model).items()}
            models.append(describe(model))
    described = {"models": models, "weights": list(ensemble.weights), "average": ensemble.average}
    return tensors, {"ensemble": json.dumps(described)}


ENTRIES = {
    "models": lambda value, where: json_values.listing(value, where, checked_description),
    "weights": lambda value, where: json_values.listing(value, where, json_values.number),
    "average": json_values.text,
}


def checked_ensemble(
    tensors: Mapping[str, Array], metadata: Mapping[str, str], where: str = "the file"
) -> tuple[dict[str, Any], list[dict[str, Array]]]:
    """Return the description of an ensemble, and the arrays of each model, checked; nothing is built.

    Raises
    ------
    FormatError
        If the description is invalid or does not fit the arrays.
    """
    title = f"{where}: ensemble"
    given = json_values.entries(json_values.parse(metadata["ensemble"], title), title, ENTRIES)
    parts: list[dict[str, Array]] = [{} for _ in given["models"]]
    places = {f"models.{i}": part for i, part in enumerate(parts)}
    for name, array in tensors.items():
        first, second, own = (*name.split(".", 2), "", "")[:3]
        part = places.get(f"{first}.{second}")
        if part is None:
            raise FormatError(f"{where}: got the array {shown(name)}, which none of its {len(parts)} models has")
        part[own] = array
    for i, (model, part) in enumerate(zip(given["models"], parts, strict=True)):
        check_tensors(part, model["layers"], model["dtype"], f"{title}.models[{i}]")
    return given, parts


def ensemble_from(
    tensors: Mapping[str, Array], metadata: Mapping[str, str], where: str, **device_settings: Any
) -> Ensemble:
    """Build the ensemble that a file describes; raises what `saving.model_from` does."""
    from ..ensembles.ensemble import Ensemble

    given, parts = checked_ensemble(tensors, metadata, where)
    title = f"{where}: ensemble"
    models = [
        built(model, part, f"{title}.models[{i}]", **device_settings)
        for i, (model, part) in enumerate(zip(given["models"], parts, strict=True))
    ]
    with json_values.entry(title):
        return Ensemble(models, weights=given["weights"], average=given["average"])
