"""States of callbacks, as JSON values and arrays in a checkpoint: written, read and restored."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..callbacks import Callback
from ..internal import json_values
from ..internal.arrays import Array
from ..internal.checks import FormatError, shown

if TYPE_CHECKING:
    from .connection import Connected

ARRAYS = "training.callbacks."  # prefix of the names of callbacks' arrays
DEEPEST = json_values.DEEPEST - 6  # levels of the file: metadata, training, callbacks, the callback, its state, value


class CallbackState(NamedTuple):
    """The state of a callback in a file."""

    kind: str
    needed: bool
    values: dict[str, Any]
    arrays: list[str]  # names of the arrays in the file


def collect(callbacks: list[object]) -> tuple[list[dict[str, Any]], dict[str, Array]]:
    """Return the callbacks' states as JSON values, and their arrays by name.

    Raises
    ------
    TypeError
        If a state holds a value that a file cannot hold; the message names callback and entry.
    """
    states: list[dict[str, Any]] = []
    tensors: dict[str, Array] = {}
    for i, callback in enumerate(callbacks):
        get = getattr(callback, "state_dict", None)
        if get is None or getattr(get, "__func__", None) is Callback.state_dict:
            continue
        kind = type(callback).__qualname__
        values: dict[str, Any] = {}
        arrays: dict[str, str] = {}
        for key, value in get().items():
            where = f"callbacks[{i}]: {kind}.state_dict()"
            if not isinstance(key, str):
                raise TypeError(f"{where}: got the key {shown(key)}; expected text")
            if isinstance(value, np.ndarray):
                arrays[key] = f"{ARRAYS}{i}.{key}"
                tensors[arrays[key]] = value
            else:
                values[key] = _plain(value, f"{where}[{key!r}]")
        needed = not getattr(callback, "records", False)  # a callback that only records does not affect training
        states.append({"type": kind, "needed": needed, "state": values, "arrays": arrays})
    return states, tensors


def _plain(value: Any, where: str, depth: int = 0) -> Any:
    """Return `value` in types that JSON restores unchanged; tuples become lists."""
    if depth > DEEPEST:
        raise TypeError(
            f"{where:.80}...: got more than {DEEPEST} levels of lists and dictionaries, which a file cannot contain"
        )
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{where}: got a dictionary with the key {shown(key)}; expected text as keys")
        return {key: _plain(item, f"{where}[{key!r}]", depth + 1) for key, item in value.items()}
    raise TypeError(
        f"{where}: got {type(value).__name__} {shown(value)}, which a file cannot contain; expected numbers, text, "
        "lists, dictionaries of them, or, directly in the state, arrays"
    )


def read_states(entries: list[dict[str, Any]], tensors: Mapping[str, Array], where: str) -> list[CallbackState]:
    """Return the states in a file, including their arrays."""
    return [_read(entry, tensors, f"{where}.callbacks[{i}]") for i, entry in enumerate(entries)]


def _read(given: dict[str, Any], tensors: Mapping[str, Array], where: str) -> CallbackState:
    if "arrays" not in given:  # version 1 stored the names of arrays among the values
        values = json_values.mapping(given.get("state"), f"{where}.state")
        named = {key: v["array"] for key, v in values.items() if isinstance(v, dict) and v.keys() == {"array"}}
        given = given | {"arrays": named, "state": {key: v for key, v in values.items() if key not in named}}
    entries = {
        "type": json_values.text,
        "needed": json_values.flag,
        "state": json_values.mapping,
        "arrays": json_values.mapping,
    }
    checked = json_values.entries(given, where, entries)
    values = dict(checked["state"])
    for key, name in checked["arrays"].items():
        location = f"{where}.arrays.{shown(key)}"
        if not json_values.text(name, location).startswith(ARRAYS) or name not in tensors or key in values:
            raise json_values.wrong(location, name, "the name of an array of the file, for one entry")
        values[key] = tensors[name]
    return CallbackState(checked["type"], checked["needed"], values, list(checked["arrays"].values()))


@contextlib.contextmanager
def _named(where: str) -> Iterator[None]:
    """Add file and entry to the message of a callback's refusal."""
    try:
        with json_values.entry(where):
            yield
    except FormatError as error:
        raise FormatError(str(error) if str(error).startswith(where) else f"{where}: {error}") from error


class MatchedStates:
    """Pairs of callbacks and their states in a file, matched by class and then by order.

    Raises
    ------
    ValueError
        If the run that wrote the file had a callback that is missing now.
    """

    def __init__(self, states: list[CallbackState], callbacks: list[object], where: str) -> None:
        self._matched: list[tuple[Any, dict[str, Any], str]] = []
        left = list(callbacks)
        for i, state in enumerate(states):
            callback = next((c for c in left if type(c).__qualname__ == state.kind), None)
            lacks = [name for name in ("state_dict", "load_state_dict") if not callable(getattr(callback, name, None))]
            if callback is not None and lacks and state.needed:
                raise ValueError(
                    f"{where}: was written with other settings: the callback {state.kind} had a state; now it is "
                    f"without {' and '.join(lacks)}"
                )
            callback = None if lacks else callback
            if callback is not None:
                left.remove(callback)
                self._matched.append((callback, state.values, f"{where}: training.callbacks[{i}]"))
            elif state.needed:
                raise ValueError(f"{where}: was written with other settings: the callback {state.kind} is missing now")

    def restore(self) -> None:
        """Load the states into the callbacks."""
        for callback, values, where in self._matched:
            with _named(where):
                callback.load_state_dict(values)

    def rehearse(self, trainer: Connected) -> None:
        """Check that each callback accepts its state, before anything else is changed; restore the earlier states."""
        for callback, values, where in self._matched:
            check = getattr(callback, "check_state", None)
            if check is not None:
                with _named(where):
                    check(values, trainer)
        before = [(callback, copy.deepcopy(callback.state_dict())) for callback, _, _ in self._matched]
        try:
            self.restore()
        finally:
            for callback, state in before:
                with contextlib.suppress(Exception):  # a callback may fail to restore its own state at this point
                    callback.load_state_dict(state)
