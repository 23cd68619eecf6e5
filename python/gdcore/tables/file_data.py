"""The rows of Parquet files that the networks of a table are trained on, and those that they are validated with."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from .. import _core
from ..ensembles.ensemble import Ensemble
from ..ensembles.training import DataOfModel
from ..internal.arrays import Array
from ..internal.checks import shown
from ..internal.prepared import prepared
from ..model import Sequential
from ..parquet.files import Files
from ..parquet.source import Parquet
from .columns import Key
from .division import Division, counted
from .encoding import Encoding
from .roles import Roles
from .splitting import folds_of_groups, groups_held_out, last_moments
from .strata import Strata
from .targets import Target
from .training import Arrays, Ready
from .windows import Coded, TableRows, columns_read, window_of

__all__ = ["FileData", "held_files"]

MEASURED = 1 << 18  # rows held out that are measured after training, about


class Views(NamedTuple):
    """The data of networks: rows to train on, and rows or arrays to validate with, in turn."""

    training: tuple[TableRows, ...]
    held: tuple[Any, ...]
    first: int
    own_rows: bool = True

    def of(self, seed: int) -> DataOfModel:
        """Return the rows of the network of a seed."""
        turn = seed - self.first
        held = self.held[turn % len(self.held)] if self.held else None
        return (self.training[turn % len(self.training)], None, None), held, None


@dataclass(frozen=True, eq=False)
class FileData:
    """Rows of files, as `training.Data` is rows in memory.

    Attributes
    ----------
    data : Parquet
        The files.
    coded : Coded
        How they are read.
    division : Division
        Into which folds.
    rows : int
        Rows of positive weight.
    training : tuple of TableRows
        The rows that networks are trained on, in turn; none: all rows.
    held : tuple
        The rows that they are validated with, as files or arrays; none without validation.
    measured : tuple
        As `held`, but not more than are measured after training.
    """

    data: Parquet
    coded: Coded
    division: Division
    rows: int
    training: tuple[TableRows, ...] = ()
    held: tuple[Any, ...] = ()
    measured: tuple[Any, ...] = ()

    @classmethod
    def of(cls, roles: Roles, target: Target, encoding: Encoding, rows: int, seed: int) -> Self:
        """Return all rows, to be trained on without validation."""
        names = columns_read(encoding, roles.x, (), "x")
        coded = Coded(encoding, names, roles.y, target.encode, roles.weight)
        return cls(roles.data, coded, Division(seed, weight=roles.weight), rows)

    def validated(self, held: TableRows | Arrays, measured: TableRows | Arrays) -> FileData:
        """Return the same with other rows to validate with, and those of them that are measured after training."""
        return replace(self, held=(held,), measured=(measured,))

    def divided(
        self,
        roles: Roles,
        folds: int | None,
        share: float,
        groups: Counter[Key] | None,
        times: Array | None,
        classes: int | None,
    ) -> FileData:
        """Return the same with folds that are held out in turn, or without `folds` one share of the rows.

        `groups`, `times` and the number of `classes` are those of the rows, if there are any.
        """
        cuts = (share,) if folds is None else tuple(i / folds for i in range(1, folds))
        division = replace(self.division, cuts=cuts, groups=roles.groups, time=roles.time)
        measured = min(1.0, MEASURED / (self.rows * (share if folds is None else 1.0)))
        division = replace(division, measured=measured)
        if times is not None:
            if times.min() == times.max():
                raise ValueError(f"time: got one time, {shown(times[0])}, in all rows; expected others too")
            division = replace(division, limit=last_moments(times, share))
        if groups is not None:
            if len(groups) < 2:
                raise ValueError(f"groups: got one group, {shown(next(iter(groups)))}; expected at least two")
            sizes = np.array(list(groups.values()), np.int64)
            if folds is None:
                found = 1 - groups_held_out(sizes, share, division.seed).astype(np.int64)
            else:
                found = folds_of_groups(sizes, folds, division.seed)
                division = replace(division, cuts=cuts[: int(found.max())])
            division = replace(division, of_group=dict(zip(groups, found.tolist(), strict=True)))
        if classes is not None and roles.groups is None and roles.time is None:
            assert self.coded.targets is not None
            strata = Strata.of(self._parts, roles.y[0], self.coded.targets, classes, roles.weight)
            if strata is not None and (strata.sizes < 2).all():
                return self  # no class has a row to hold out
            if strata is not None:
                strata = strata.divided(division.seed, folds, share)
                division, folds = replace(division, strata=strata), None if folds is None else strata.folds
        made = replace(self, division=division)
        held = [0] if folds is None else list(range(folds if division.strata else division.count))
        return replace(
            made,
            training=tuple(made._views(held, others=True)),
            held=tuple(made._views(held)),
            measured=tuple(made._views(held, whole=False)),
        )

    def _views(self, folds: list[int], *, others: bool = False, whole: bool = True) -> list[TableRows]:
        """Return the rows of each fold, or all `others`; if not `whole`, those that are measured."""
        count, made = self.division.count, []
        for fold in folds:
            taken = [each for each in range(count) if (each == fold) != others]
            taken += [each + count for each in taken] if whole else []
            rows = self._counts[:, taken].sum(axis=1)
            if not rows.any():
                raise ValueError(f"x: got {self.rows} rows, of which a fold of {count} has none; expected more rows")
            made.append(TableRows(self.data, replace(self.coded, division=self.division, taken=tuple(taken)), rows))
        return made

    @cached_property
    def _counts(self) -> npt.NDArray[np.int64]:
        return counted(self._parts, self.division)

    @property
    def _parts(self) -> Files:
        """The row groups in the parts that are read at a time."""
        return self.data._files.divided(window_of(self.data, self.coded.encoding))

    def ready(self, lead: Sequential, loss: _core.Loss, seed: int) -> Ready:
        """Return what networks are trained on; see `Ready`."""
        training = self.training or tuple(self._views([0]))
        views, first = Views(training, self.held, seed), training[0]

        def some(count: int) -> Any:
            with closing(first._passed(first._coded)) as windows:
                window = next(windows)
                weights = None if window.weights is None else window.weights[:count]
                assert window.y is not None
                return prepared(lead, loss, window.x[:count].copy(), window.y[:count], weights)

        return Ready(views, max(rows.rows for rows in training), some, bool(self.held))

    def held_out(self, ensemble: Ensemble, seed: int) -> tuple[Array, Array, Array | None] | None:
        """Return outputs, targets and weights of rows held out, each of networks that were not trained on it."""
        if not self.measured:
            return None
        if not isinstance(self.measured[0], TableRows):
            x, *rest = self.measured[0]
            return ensemble.predict(x), rest[0], rest[1]
        if len(self.measured) == 1:
            return self.measured[0].measured(ensemble.predict)
        pairs = zip(ensemble, ensemble.training, strict=True)
        turns = len(self.measured)
        found = [self.measured[(made.seed - seed) % turns].measured(model.predict) for model, made in pairs]
        weights = [each[2] for each in found if each[2] is not None]
        outputs, y = (np.concatenate([each[i] for each in found]) for i in (0, 1))
        return outputs, y, np.concatenate(weights) if weights else None


def held_files(roles: Roles, target: Target, encoding: Encoding, seed: int) -> tuple[TableRows, TableRows]:
    """Return rows of other files to validate with, and those of them that are measured after training."""
    names = columns_read(encoding, roles.x, (), "validation: x")
    coded = Coded(encoding, names, roles.y, target.encode, roles.weight, label="validation: ")
    division = Division(seed, weight=roles.weight, measured=min(1.0, MEASURED / roles.data.rows))
    there = FileData(roles.data, coded, division, roles.data.rows)
    return there._views([0])[0], there._views([0], whole=False)[0]
