"""Setting parameters from other sources, by name or as one vector."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from ..internal import flat
from ..internal.arrays import Array, Data, to_array
from ..internal.checks import by_key, flag, has_keys, shown
from ..internal.ranges import out_of_range, ranges_of
from .destination import FileLike, is_stream

if TYPE_CHECKING:
    from ..model import Sequential


def load_parameters(
    model: Sequential,
    source: Sequential | Mapping[str, Data] | FileLike,
    *,
    prefix: str,
    rename: Mapping[str, str] | Callable[[str], str] | None,
    only: Iterable[str] | None,
    strict: bool,
) -> list[str]:
    """Set parameters and buffers of `model` by name; see `Sequential.load_parameters`."""
    own = {**model.parameters(), **model.buffers()}
    if not isinstance(prefix, str):
        raise TypeError(f"prefix: got {shown(prefix)}; expected text, such as 'encoder.'")
    if rename is not None and not callable(rename):
        if not has_keys(rename):
            raise TypeError(f"rename: got {shown(rename)}; expected a mapping of names, or a function of a name")
        rename = by_key(rename, "rename")
    strict = flag(strict, "strict")
    given = _renamed(_named_arrays(source), prefix, rename)
    if prefix and not given:
        raise ValueError(f"prefix: got {shown(prefix)}; no name of the source begins with it")
    wanted, ranges = _wanted(model, own, only), ranges_of(model.layers, model.dtype)
    ready: dict[str, Array] = {}
    for name in wanted:
        if name not in given:
            if strict:
                raise ValueError(f"source: got no array {name!r}; it contains {shown(sorted(given), 300)}")
            continue
        array = to_array(given[name], f"source[{name!r}]")
        if array.shape == own[name].shape:
            # A copy, because the source may be views of the parameters that are about to be set.
            ready[name] = held(array, model.dtype, f"source[{name!r}]").copy()
            wrong = out_of_range(ready[name], ranges[name]) if name in ranges else ""
            if wrong:
                raise ValueError(f"source[{name!r}]: {wrong}")
        elif strict:
            raise ValueError(f"source[{name!r}]: got shape {array.shape}; expected {own[name].shape}")
    extra = [name for name in given if name not in own]
    if strict and only is None and extra:
        raise ValueError(
            f"source: got {shown(extra[0])}, which this network does not have; expected some of "
            f"{shown(sorted(own), 300)}"
        )
    if not ready:
        raise ValueError(
            f"source: got no array that matches in name and shape: {shown(sorted(given), 200)}; expected "
            f"{shown(wanted, 200)}"
        )
    with model._hold():  # another thread that trains the model waits
        for name, array in ready.items():
            own[name][...] = array
    return list(ready)


def set_vector(views: flat.Views, v: object, name: str, dtype: str) -> None:
    """Set the trainable parameters to the values of a vector; see `Sequential.set_flat_parameters`."""
    size = flat.size_of(views)
    vector = to_array(v, name)
    if vector.shape != (size,):
        raise ValueError(
            f"{name}: got shape {vector.shape}; expected ({size},), one number for each trainable parameter"
        )
    flat.unpack(held(vector, dtype, name), views)


def _named_arrays(source: Sequential | Mapping[str, Data] | FileLike) -> Mapping[str, Data]:
    if isinstance(source, Mapping) or has_keys(source):
        named: dict[Any, Data] = by_key(source, "source")
        for name in named:
            if not isinstance(name, str):
                raise TypeError(f"source: got the name {shown(name)}; expected text, such as 'layers.0.weight'")
        return named
    if isinstance(source, _core.Network):
        with source._hold():  # another thread that trains the source waits
            return {name: np.array(array) for name, array in {**source.parameters(), **source.buffers()}.items()}
    if isinstance(source, (str, bytes, os.PathLike)) or is_stream(source):
        from .saving import TRAINING, read_tensors

        arrays = read_tensors(source, name="source")[0]
        return {name: array for name, array in arrays.items() if not name.startswith(TRAINING)}
    raise TypeError(
        f"source: got {type(source).__name__}; expected a model, a mapping of names to arrays, or a file's path"
    )


def _renamed(
    arrays: Mapping[str, Data], prefix: str, rename: Mapping[str, str] | Callable[[str], str] | None
) -> dict[str, Data]:
    """Return the arrays under their names in this network: `prefix` is removed, `rename` applied."""
    out: dict[str, Data] = {}
    for full, array in arrays.items():
        if not full.startswith(prefix):
            continue
        name = full[len(prefix) :]
        if callable(rename):
            name = rename(name)
        elif rename is not None:
            name = _longest(name, rename)
        if not isinstance(name, str):
            raise TypeError(f"rename: got {shown(name)} for {full!r}; expected a name")
        if name in out:
            raise ValueError(f"rename: two arrays of the source become {name!r}")
        out[name] = array
    return out


def _longest(name: str, rename: Mapping[str, str]) -> str:
    """Return `name` with its longest dotted prefix in `rename` replaced."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        head = ".".join(parts[:end])
        if head in rename:
            return ".".join([rename[head], *parts[end:]])
    return name


def _wanted(model: Sequential, own: Mapping[str, object], only: Iterable[str] | None) -> list[str]:
    if only is None:
        return list(own)
    try:
        if has_keys(only):  # ambiguous: keys or values
            raise TypeError
        prefixes = [only] if isinstance(only, str) else list(only)
    except TypeError:
        raise TypeError(f"only: got {shown(only)}; expected layers or parameters, such as ['layers.0']") from None
    if not prefixes:
        raise ValueError("only: got no names; expected layers or parameters, or None for all")
    chosen: set[str] = set()
    for prefix in prefixes:
        matching = model._matching(prefix) if isinstance(prefix, str) else ()
        if not matching:
            raise ValueError(
                f"only: got {shown(prefix)}; expected layers or parameters of this network: {shown(list(own), 300)}"
            )
        chosen.update(matching)
    return [name for name in own if name in chosen]


def held(array: Array, dtype: str, name: str) -> Array:
    """Return the array in another dtype, contiguous; raise ValueError naming it if a value is not finite there."""
    with np.errstate(over="ignore"):
        converted = np.ascontiguousarray(array, dtype=dtype)
    finite = np.isfinite(converted)
    if not finite.all():
        index = np.unravel_index(int(np.argmin(finite)), array.shape)
        position = ", ".join(str(int(i)) for i in index)
        raise ValueError(
            f"{name}: got {array[index]} at [{position}]; expected finite numbers that {dtype} can represent"
        )
    return converted
