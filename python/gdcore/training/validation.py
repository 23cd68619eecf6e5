"""The argument `validation`: (x, y), (x, y, weights), the fraction of rows to hold out, or (some calls) batches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..data import split_rows
from ..internal.arrays import Array
from ..internal.checks import is_number, real, shown
from ..internal.frames import is_frame
from ..parquet.source import Parquet
from .batch_iterables import is_batches, parts_of

__all__ = ["Validation", "check_parts", "validation_of"]


class Validation(NamedTuple):
    """One of: a fraction of the training rows, these rows by number, arrays (x, y, weights), batches or Parquet."""

    share: float | None = None
    parts: tuple[Any, Any, Any] | None = None
    batches: Iterable[Any] | Parquet | None = None
    rows: npt.NDArray[np.int64] | None = None

    @property
    def holds_out(self) -> bool:
        """Whether training rows are held out."""
        return self.share is not None or self.rows is not None

    def split(
        self, rows: int, seed: int, labels: Array | None = None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the indices of the training and of the validation rows; `seed` draws a share, see `split_rows`.

        Raises
        ------
        ValueError
            If a part would be empty.
        """
        if self.rows is not None:
            return np.delete(np.arange(rows), self.rows), self.rows
        assert self.share is not None
        return split_rows(rows, self.share, seed, labels, name="validation")


def validation_of(validation: Any, *, batches: bool) -> Validation:
    """Return the validation data; `batches` says whether an iterable of batches is allowed.

    Raises
    ------
    TypeError
        If `validation` is of another kind.
    ValueError
        If a fraction is not between 0 and 1.
    """
    if isinstance(validation, Validation):
        return validation
    if is_number(validation):
        return Validation(share=real(validation, "validation", low=0, high=1))
    if batches and (isinstance(validation, Parquet) or is_batches(validation)):
        return Validation(batches=validation)
    others = "a fraction, Parquet, or an iterable of batches" if batches else "or a fraction"
    check_parts(validation, f"(x, y), (x, y, weights){',' if batches else ''} {others}", files=batches)
    return Validation(parts=parts_of(validation, "validation"))


def check_parts(validation: Any, expected: str, *, files: bool) -> None:
    """Raise TypeError unless the argument `validation` is (x, y) or (x, y, weights), without Parquet in it.

    `expected` is what the message asks for; `files` says whether Parquet is taken in place of all of it.
    """
    if is_frame(validation):
        got = f"a {type(validation).__name__} without targets"
        raise TypeError(f"validation: got {got}; expected {expected}")
    if not isinstance(validation, (tuple, list)) or len(validation) not in (2, 3):
        raise TypeError(f"validation: got {shown(validation)}; expected {expected}")
    if any(isinstance(part, Parquet) for part in validation):
        alone = "Parquet alone, which names its columns: gd.data.Parquet(paths, y='label')" if files else expected
        raise TypeError(f"validation: got Parquet in a {type(validation).__name__}; expected {alone}")
