"""Column names of inputs and targets: taken from the first frame, then used to check and order the columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from .checks import by_key, has_keys, is_iterable, plain_repr, shown

if TYPE_CHECKING:
    from ..model import Sequential

FeatureNames: TypeAlias = tuple[str, ...]
INPUTS = "the columns of model.feature_names"
TARGETS = "the columns of the training targets"


class Columns(NamedTuple):
    """Column names of inputs and targets, each where known; names of a frame need not be text."""

    x: FeatureNames | None = None
    y: tuple[Any, ...] | None = None


UNNAMED = Columns()


class Learns:
    """Base of a trainer whose model learns the column names of its training data."""

    __slots__ = ("_model",)
    _model: Sequential

    def _learn(self, columns: Columns) -> None:
        """Store column names in the model, if it has none yet."""
        self._model.learn_names(columns)

    def _known(self, others: Columns = UNNAMED) -> Columns:
        """Return the column names of the model, or else `others`."""
        return Columns(self._model.feature_names or others.x, self._model.target_names or others.y)


def feature_names(
    names: object, columns: int | None, argument: str = "feature_names", what: str = "input"
) -> FeatureNames:
    """Return `columns` column names (None: any number) as a tuple of text; other types become ``str(name)``.

    Raises
    ------
    TypeError
        If `names` is not a sequence of names.
    ValueError
        If their number is not `columns`, or two are equal.
    """
    if isinstance(names, (str, bytes, Set, Mapping)) or not is_iterable(names):
        raise TypeError(f"{argument}: got {shown(names)}; expected a sequence of names, one for each {what}")
    checked = tuple(str(name) for name in names)
    refuse_duplicates(checked, argument)
    if columns is not None and len(checked) != columns:
        raise ValueError(f"{argument}: got {len(checked)} names; expected {columns}, one for each {what} of the model")
    return checked


def refuse_duplicates(names: Sequence[str], argument: str) -> None:
    """Raise ValueError listing the names that occur more than once."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        each = ", each" if len(twice) > 1 else ""
        raise ValueError(f"{argument}: got {listed(twice)}{each} more than once; expected names that differ")


def order_of(given: Sequence[str], known: Sequence[str], argument: str, whose: str = INPUTS) -> list[int] | None:
    """Return the position of each of the `known` columns among the `given` ones; None if no reordering is needed.

    Columns are matched by position if the order is the same, or if the given names are the default 0, 1, 2, ...

    Raises
    ------
    ValueError
        If a known column is missing, or a given one is unknown.
    """
    if tuple(given) == tuple(known) or (are_default(given) and set(given) != set(known)):
        return None
    missing = [name for name in known if name not in set(given)]
    unknown = [name for name in given if name not in set(known)]
    if missing or unknown:
        parts = [
            f"{kind} {listed(names)}" for kind, names in (("lacks", missing), ("has the unknown", unknown)) if names
        ]
        raise ValueError(
            f"{argument}: {' and '.join(parts)}; expected {whose}, in any order: {shown(list(known), 200)} (columns "
            "of an array are matched by position)"
        )
    index = {name: i for i, name in enumerate(given)}
    return [index[name] for name in known]


def are_default(names: Sequence[str]) -> bool:
    """Return whether names are 0, 1, 2, ..., the default names in pandas."""
    return all(name == str(i) for i, name in enumerate(names))


def by_column(value: Any, known: Sequence[str] | None, argument: str) -> Any:
    """Return the values of a mapping or pandas Series as a list in the order of the `known` columns.

    Any other `value` is returned unchanged. Keys 0, 1, 2, ... are matched by position, as in an array.

    Raises
    ------
    ValueError
        If the keys are not the column names, or these are not known.
    """
    if not has_keys(value):
        return value
    numbers = by_key(value, argument)
    if list(numbers) == list(range(len(numbers))):
        return list(numbers.values())
    given = [str(key) for key in numbers]
    if known is None or sorted(given) != sorted(known):
        expected = "numbers by position, as no names are known" if known is None else f"those of {listed(known)}"
        raise ValueError(f"{argument}: got numbers of {listed(given)}; expected {expected}")
    named = dict(zip(given, numbers.values(), strict=True))
    return [named[name] for name in known]


def listed(names: Sequence[str], most: int = 5) -> str:
    """Return up to `most` names, quoted, and the number of the others."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ("columns " if len(names) > 1 else "column ") + ", ".join(map(plain_repr, names[:most])) + more
