"""Arrays that hold no negative numbers: standard deviations, variances, sums and averages of squares.

Which ones is known where they are declared: `Entry::range` of a layer's buffers, `squares` of an optimiser's rule.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import _core
from .arrays import Array
from .layer_names import path_of
from .numbers import unheld_scaling


def ranges_of(layers: Sequence[_core.Layer], dtype: str) -> dict[str, bool]:
    """Return the buffers of a network that hold no negative numbers, by name: whether 0 is excluded too."""
    ranges: dict[str, bool] = _core._ranges(layers)
    for i, layer in enumerate(layers):
        if unheld_scaling(layer, dtype) is not None:  # rounded to 0 in this dtype; data is refused then
            ranges[f"{path_of(layer, i)}.std"] = False
    return ranges


def out_of_range(array: Array, positive: bool) -> str:
    """Return what is wrong with an array of numbers >= 0, or > 0 where `positive`; an empty text if nothing is.

    NaN passes where 0 does: a run that diverged leaves it in running averages and in the optimiser's states.
    """
    wrong = ~(array > 0) if positive else array < 0
    if not wrong.any():
        return ""
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    return (
        f"got {array[at]} at [{', '.join(map(str, at))}]; expected numbers {'above' if positive else 'of at least'} 0"
    )
