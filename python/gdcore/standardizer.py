"""`Standardizer`: scaling of data as a layer, with the column names of the fitted data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from . import _core
from .internal.arguments import explained
from .internal.arrays import Array, Data, Windowed
from .internal.attributes import Hinted
from .internal.checks import by_key, has_keys
from .internal.features import FeatureNames, by_column, feature_names
from .internal.inputs import Inputs, to_inputs
from .internal.moments import Moments
from .internal.numbers import column_name

__all__ = ["Standardizer"]

HUGE = 1e300  # differences of larger numbers may overflow
ROUNDING = 2.0**-50  # deviation of a constant column in units of its mean


@explained
class Standardizer(Hinted, _core.Standardizer):
    """Scales data to mean 0 and standard deviation 1, feature by feature: (x - mean) / std.

    Fit it on the training data and make it a model's first layer: mean and std are then saved with the model and used
    for every prediction. A constant feature gets std 1, and so does one that differs by rounding alone: whose deviation
    is at most 2⁻⁵⁰ of its mean. As a layer of a float32 model it gets data already rounded to float32: values far from
    zero relative to their spread (timestamps) need transform(x) or a float64 model.

    Parameters
    ----------
    features : int
        Width; 0 is learned in `fit`.
    mean, std : sequence of float, mapping or pandas Series, optional
        Known values instead of `fit`, shape (features,); matched by column names if they have keys, like
        ``frame.mean()`` and ``frame.std()``.
    feature_names : sequence of str, optional
        Names of the columns; `fit` takes them from a frame. A model with this first layer adopts them.
    name : str, optional
        What its buffers are called by, "scaling.mean": an identifier. Without one, its number: "layers.0.mean".
    """

    __slots__ = ("_feature_names", "_sealed")
    _fields = ("features", "mean", "std", "feature_names", "name")

    def __init__(
        self,
        features: int = 0,
        *,
        mean: Sequence[float] | Mapping[Any, float] | None = None,
        std: Sequence[float] | Mapping[Any, float] | None = None,
        feature_names: Sequence[str] | None = None,
        name: str | None = None,
    ) -> None:
        self._sealed = False
        means, deviations, names = _by_feature(mean, std, feature_names)
        super().__init__(features, mean=means, std=deviations, name=name)
        self._feature_names = None if names is None else names_of(names, self.features)

    @property
    def feature_names(self) -> FeatureNames | None:
        """Column names of the fitted data, if any."""
        return self._feature_names

    def seal(self) -> None:
        """Refuse further calls of `fit`: the layer describes a model, which has its own copy of the values."""
        self._sealed = True

    def fit(self, x: Data) -> Self:
        """Learn mean and standard deviation of every column, in float64 and in blocks, for finite numbers of any size.

        Parameters
        ----------
        x : array
            Data of shape (rows, features); a memory map is read in blocks. Columns of a frame are put in the order of
            ``feature_names``, if these are known. `gdcore.data.Parquet` is read once, in windows: of several ones, the
            values are those of the same rows in memory but for rounding.

        Returns
        -------
        Standardizer
            Itself.

        Raises
        ------
        TypeError
            If `x` does not contain numbers only.
        ValueError
            If its shape does not fit, or a column contains NaN or infinity.
        RuntimeError
            If it is a layer of a model, whose scaling is fixed. A copy can be fitted, for another model.
        """
        if self._sealed:
            raise RuntimeError(
                "fit: got a layer of a model, whose scaling it would not change; expected fit before the model is "
                "made: Sequential(copy.copy(layer).fit(x), ...)"
            )
        if isinstance(x, Windowed):
            return self._fit_windows(x)
        inputs = to_inputs(x, "x", self._feature_names)
        try:
            super().fit(inputs.array)
        except ValueError:
            _refuse_column(inputs)
            raise
        self._feature_names = inputs.names
        return self

    def _fit_windows(self, x: Windowed) -> Self:
        count, windows = x.finite_inputs(self._feature_names)
        moments: Moments | None = None
        for inputs in windows:
            if self.features not in (0, inputs.array.shape[1]):
                raise ValueError(f"x: got {inputs.array.shape[1]} columns; expected {self.features}")
            if count == 1:  # as the same rows in memory
                super().fit(inputs.array)
                break
            if moments is None:  # differences from a row lose no digits where numbers are far from 0
                origin = np.where(np.abs(inputs.array[0]) < HUGE, inputs.array[0], 0.0)
            found = Moments.of(inputs.array - origin)
            moments = found if moments is None else moments.joined(found)
        if moments is not None:
            self._set(*moments._replace(mean=origin + moments.mean).scaling(ROUNDING))
        self._feature_names = inputs.names
        return self

    def transform(self, x: Data) -> Array:
        """Return (x - mean) / std of `x` (rows, features): float32 for float32, else float64."""
        return super().transform(to_inputs(x, "x", self._feature_names).array)

    def inverse_transform(self, x: Data) -> Array:
        """Return x · std + mean of `x` (rows, features): back to the data's own units."""
        return super().inverse_transform(to_inputs(x, "x", self._feature_names).array)


def _by_feature(mean: Any, std: Any, names: Sequence[str] | None) -> tuple[Any, Any, Sequence[str] | None]:
    """Return mean and std in the order of the columns, and their names if known."""
    keyed = [(value, name) for value, name in ((mean, "mean"), (std, "std")) if has_keys(value)]
    if keyed and names is not None:
        names = names_of(names, len(keyed[0][0]))
    elif len(keyed) == 2:
        given = list(by_key(*keyed[0]))
        names = None if given == list(range(len(given))) else [str(name) for name in given]
    return by_column(mean, names, "mean"), by_column(std, names, "std"), names


def _refuse_column(inputs: Inputs) -> None:
    """Raise ValueError naming the first column with NaN or infinity, if there is one."""
    if inputs.array.ndim != 2:
        return
    sound = np.isfinite(inputs.array).all(axis=0)
    if not sound.all():
        raise ValueError(
            f"x: {column_name(int(np.argmin(sound)), inputs.names)} contains NaN or infinity; expected finite numbers "
            "without missing values"
        )


names_of = feature_names  # alias: a parameter of the same name hides it
