"""Checks of a model's weights that callbacks keep, as `Sequential.copy_state` returns them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..internal import flat, json_values
from ..internal.checks import instance
from ..internal.ranges import ranges_of

if TYPE_CHECKING:
    from ..model import Sequential

__all__ = ["STATE", "check_kept", "check_model"]

STATE = ("parameters", "buffers", "shapes")  # the arrays of Sequential.copy_state


def check_kept(kept: Mapping[str, Any], model: Sequential, who: str) -> None:
    """Raise if weights of a file, which may be none, are not of a model like `model`; see `flat.check_state`."""
    if kept:
        flat.check_state(model.parameters(), model.buffers(), kept, ranges_of(model.layers, model.dtype))
    for name, array in kept.items():
        expected = "int64" if name == "shapes" else model.dtype
        if array.size != 0 and array.dtype != expected:  # a model without running averages has no buffers
            raise json_values.wrong(f"{who}: {name}", str(array.dtype), expected)


def check_model(model: object) -> None:
    """Raise TypeError unless `model` is a `Sequential`."""
    from ..model import Sequential  # here, for it is there before the model's module is

    instance(model, Sequential, "model", "trainer.model")
