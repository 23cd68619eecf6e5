"""Names of a model's input columns: remembered from the first frame, checked and put in order afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from ._checks import shown

FeatureNames: TypeAlias = tuple[str, ...]


def feature_names(names: object, columns: int, argument: str = "feature_names") -> FeatureNames:
    """Return names of `columns` columns as a tuple of text; what is no text becomes ``str(name)``.

    Raises
    ------
    TypeError
        If `names` is no sequence of names.
    ValueError
        If there are not as many as columns, or two are alike.
    """
    if isinstance(names, (str, bytes)) or not isinstance(names, Iterable):
        raise TypeError(f"{argument}: got {shown(names)}; expected a sequence of names, one for each input")
    checked = tuple(str(name) for name in names)
    refuse_duplicates(checked, argument)
    if len(checked) != columns:
        raise ValueError(f"{argument}: got {len(checked)} names; expected {columns}, one for each input of the model")
    return checked


def refuse_duplicates(names: Sequence[str], argument: str) -> None:
    """Raise ValueError naming the names that occur more than once."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{argument}: got {listed(twice)} more than once; expected names that differ")


def order_of(given: Sequence[str], known: Sequence[str], argument: str) -> list[int] | None:
    """Return where each of the `known` columns stands among the `given` ones; None where the order is the same.

    Raises
    ------
    ValueError
        If a known column is missing, or a given one is unknown.
    """
    if tuple(given) == tuple(known):
        return None
    missing = [name for name in known if name not in set(given)]
    unknown = [name for name in given if name not in set(known)]
    if missing or unknown:
        parts = [
            f"{kind} {listed(names)}" for kind, names in (("lacks", missing), ("has the unknown", unknown)) if names
        ]
        raise ValueError(
            f"{argument}: the frame {' and '.join(parts)}; expected the columns of model.feature_names, in any order: "
            f"{shown(list(known), 200)}"
        )
    place = {name: i for i, name in enumerate(given)}
    return [place[name] for name in known]


def listed(names: Sequence[str], most: int = 5) -> str:
    """Return up to `most` names, quoted, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ("columns " if len(names) > 1 else "column ") + ", ".join(map(repr, names[:most])) + more
