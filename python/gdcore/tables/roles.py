"""What the columns of Parquet files are for a model of tables: inputs, targets, weights, groups and times."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from ..internal.arrays import with_names
from ..internal.checks import shown
from ..internal.features import FeatureNames, refuse_duplicates
from ..parquet.columns import numbers
from ..parquet.files import Files
from ..parquet.source import Parquet
from .given import Given

__all__ = ["Roles"]

IN_MEMORY = 1 << 20  # values of a table that is one window, without a window


@dataclass(frozen=True)
class Roles:
    """The columns of files by what they are.

    Attributes
    ----------
    data : Parquet
        The files.
    x, y : tuple of str
        Columns of the inputs and of the targets.
    weight, groups, time : str or None
        Columns of weights, groups and times.
    """

    data: Parquet
    x: tuple[str, ...]
    y: tuple[str, ...]
    weight: str | None = None
    groups: str | None = None
    time: str | None = None

    @classmethod
    def of(
        cls,
        data: Parquet,
        y: Any,
        sample_weight: Any,
        groups: Any = None,
        time: Any = None,
        *,
        name: str = "",
        without: tuple[str, ...] = (),
    ) -> Self:
        """Return the columns that the arguments of a call name, or else the files; all but the others are inputs.

        Parameters
        ----------
        data : Parquet
            The files.
        y, sample_weight, groups, time
            Names of columns or None; `y` may be several.
        name : str
            Precedes the arguments in messages.
        without : tuple of str
            Columns that are no inputs either.

        Raises
        ------
        TypeError
            If an argument is no name, or a column means different things in two files.
        ValueError
            If it differs from that of the files, there are no targets, or a column has two roles or does not exist.
        """
        targets = _named(y, data.y, f"{name}y", several=True)
        if not targets:
            raise ValueError(
                f"{name}y: got None for Parquet; expected the name of a column, here or as Parquet(..., y=)"
            )
        weight = () if data.sample_weight is None else (data.sample_weight,)
        given = {
            "y": targets,
            "sample_weight": _named(sample_weight, weight, f"{name}sample_weight"),
            "groups": _named(groups, (), f"{name}groups"),
            "time": _named(time, (), f"{name}time"),
        }
        seen: set[str] = set()
        for argument, names in given.items():
            data._files.check_columns(names, f"{name}{argument}")
            if len(names) > 1:
                data._files.check_types(names, f"{name}{argument}")
            if seen & set(names):
                raise ValueError(
                    f"{name}{argument}: got {shown(names[0])}, which another argument has; expected others"
                )
            seen.update(names)
        if given["groups"] and given["time"]:
            raise ValueError("time: got times beside groups; expected one of the two")
        no_inputs = {*given["y"], *given["sample_weight"], *given["groups"], *without}
        x = tuple(column for column in data.x if column not in no_inputs)
        if not x:
            raise ValueError(f"{name}x: got no columns beside {shown(sorted(no_inputs))}; expected inputs")
        data._files.check_meanings((*x, *seen), f"{name}x", times=True)
        others = {"weight": given["sample_weight"], "groups": given["groups"], "time": given["time"]}
        return cls(data, x, targets, **{role: names[0] if names else None for role, names in others.items()})

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are read."""
        others = (name for name in (self.weight, self.groups, self.time) if name is not None)
        return tuple(dict.fromkeys((*self.x, *self.y, *others)))

    @property
    def ignored(self) -> tuple[str, ...]:
        """Columns of the table that are no inputs."""
        return tuple(name for name in (*self.y, self.weight, self.groups) if name is not None)

    @property
    def target(self) -> str | None:
        """The column of the target, if it is one."""
        return self.y[0] if len(self.y) == 1 else None

    @property
    def files(self) -> Files:
        """The files, in parts that are read at a time."""
        return self.data._pieces()[0]

    def of_validation(self, validation: Any) -> Roles | None:
        """Return the columns of other files, if `validation` is Parquet; those of the targets have the same names."""
        if not isinstance(validation, Parquet):
            return None
        y = None if validation.y else list(self.y)
        shared = [column for column in self.x if column in validation.x]
        self.data._files.check_meanings(shared, "validation: x", validation._files, times=True)
        return Roles.of(validation, y, None, name="validation: ", without=self.ignored)

    def in_memory(self, other: Roles | None) -> bool:
        """Return whether all rows are one window, and those of the `other` files, if any, too."""
        one = self.data.rows <= (self.data._given_window or IN_MEMORY // len(self.columns))
        return one and (other is None or other.in_memory(None))

    def given(self, name: str = "", also: tuple[str, ...] | None = None) -> Given:
        """Return all rows, read at once; the arguments are those of `Given.of`."""
        self.files.check_meanings(self.columns, f"{name}x")
        table = self.data._table(self.columns)
        y = table.column(self.y[0])
        if len(self.y) > 1:
            y = with_names(np.column_stack([numbers(table, column, f"{name}y") for column in self.y]), self.y)
        others = (None if column is None else table.column(column) for column in (self.weight, self.groups, self.time))
        found = Given.of(table.select(self.x), y, *others, name=name, also=also)
        return replace(found, target=self.target, ignored=self.ignored)


def _named(value: Any, own: FeatureNames, argument: str, *, several: bool = False) -> FeatureNames:
    """Return the columns that an argument names, or those of the files."""
    if value is None:
        return own
    names = (value,) if isinstance(value, str) else tuple(value) if several and isinstance(value, (list, tuple)) else ()
    if not names or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{argument}: got {shown(value)} beside Parquet; expected the name of a column")
    names = tuple(map(str, names))
    refuse_duplicates(names, argument)
    if own and names != own:
        raise ValueError(
            f"{argument}: got {shown(value)}, but Parquet has {argument.rpartition(' ')[2]}={shown(own[0])}; expected "
            "one of the two"
        )
    return names
