"""Range checks of arrays without negative values: standard deviations, variances, sums and averages of squares.

Their declarations in the core mark them: `Entry::range` of a layer's buffers, `squares` of an optimiser's rule.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import _core
from .arrays import Array
from .layer_names import path_of
from .numbers import unrepresentable_scaling


def ranges_of(layers: Sequence[_core.Layer], dtype: str) -> dict[str, bool]:
    """Return the buffers of a network without negative values, by name: True if 0 is excluded too."""
    ranges: dict[str, bool] = _core._ranges(layers, dtype)
    for i, layer in enumerate(layers):
        if unrepresentable_scaling(layer, dtype) is not None:  # rounded to 0 in this dtype; data is refused then
            ranges[f"{path_of(layer, i)}.std"] = False
    return ranges


def out_of_range(array: Array, positive: bool) -> str:
    """Return an error text unless all values are >= 0, or > 0 if `positive`; else an empty text.

    NaN passes unless `positive`: a diverged run leaves NaN in running averages and optimiser states.
    """
    wrong = ~(array > 0) if positive else array < 0
    if not wrong.any():
        return ""
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    return (
        f"got {array[at]} at [{', '.join(map(str, at))}]; expected numbers {'above' if positive else 'of at least'} 0"
    )
