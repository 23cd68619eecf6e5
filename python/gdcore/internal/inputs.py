"""Inputs of a model: the array, and its column names if it was a frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .arrays import Array, Converted, NamedArray, in_order, to_array
from .features import FeatureNames, are_default, order_of
from .frames import frame_array, frame_names, is_frame

__all__ = ["Inputs", "to_inputs"]


@dataclass(frozen=True)
class Inputs(Converted):
    """Inputs as an array (rows, columns), and the column names, where known."""

    array: Array
    names: FeatureNames | None = None

    def part(self, rows: npt.NDArray[np.int64]) -> Inputs:
        """Return a copy of some of the rows."""
        return Inputs(self.array[rows], self.names)


def to_inputs(value: object, name: str, known: FeatureNames | None = None) -> Inputs:
    """Return inputs as a numeric array, the columns of a frame in the order of the `known` names.

    Parameters
    ----------
    value
        Whatever `to_array` takes, or `Inputs`, whose columns are put in order like those of a frame.
    name : str
        The argument's name, for messages.
    known : tuple of str, optional
        Names of the model's inputs. Arrays, and columns with default names (0, 1, 2, ...), are matched by position.

    Returns
    -------
    Inputs
        With the `known` names, or else those of the frame, unless they are the default 0, 1, 2, ...

    Raises
    ------
    TypeError
        If there is anything but numbers; names the column of a frame.
    ValueError
        If a frame lacks a column, has an unknown one, or two with one name.
    """
    framed = is_frame(value)
    names = value.names if isinstance(value, (Inputs, NamedArray)) else frame_names(value, name) if framed else None
    order = None if names is None or known is None else order_of(names, known, name)
    if isinstance(value, Inputs):
        array = value.array
    elif framed:
        array = frame_array(value, name)
    else:
        array = to_array(value, name)
    if known is None and names is not None and are_default(names):
        names = None
    return Inputs(in_order(array, order), known or names)
