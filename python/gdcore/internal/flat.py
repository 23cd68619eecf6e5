"""Packs the arrays of a model into one flat vector, in the order of their dictionary, and unpacks them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from .._core import DeviceArray
from .arrays import Array
from .checks import shown
from .ranges import out_of_range

Views = Mapping[str, Array | DeviceArray]  # as Network.parameters() and Trainer.state() give them

ALIGNMENT = 256  # bytes; format version 1 starts each array at a multiple of it


def size_of(views: Views) -> int:
    """Return the total number of elements of the arrays."""
    return sum(view.size for view in views.values())


def pack(views: Views, out: Array | None = None) -> Array:
    """Return a copy of the arrays as one vector, in `out` if given."""
    if not views:
        return np.empty(0)
    return np.concatenate([np.asarray(view).reshape(-1) for view in views.values()], out=out)


def _packed(views: Views, room: Any) -> Array:
    """Return a copy of the arrays as one vector; reuse `room` if its shape and dtype fit."""
    types = {view.dtype for view in views.values()}
    fits = isinstance(room, np.ndarray) and room.shape == (size_of(views),) and {room.dtype} == types
    return pack(views, room if fits and room.flags.writeable else None)


def unpack(vector: Array, views: Views) -> None:
    """Set the arrays to the values of a vector as `pack` returns it."""
    for name, part in parts(vector, views):
        views[name][...] = part


def parts(vector: Array, views: Views, *, padded: bool = False) -> Iterator[tuple[str, Array]]:
    """Yield each array's name and its values in `vector`, in the array's shape.

    A `padded` vector is one of format version 1: each array starts at a multiple of `ALIGNMENT` bytes, and the length
    of the vector is a multiple too.
    """
    unit = ALIGNMENT // vector.itemsize if padded else 1
    start = 0
    for name, view in views.items():
        yield name, vector[start : start + view.size].reshape(view.shape)
        start += -(-view.size // unit) * unit


def copy_state(parameters: Views, buffers: Views, out: dict[str, Array] | None) -> dict[str, Array]:
    """Return a copy of parameters, buffers and their shapes; see `Sequential.copy_state`."""
    if out is not None and not isinstance(out, dict):
        raise TypeError(f"out: got {shown(out)}; expected an earlier copy, as copy_state() returns it")
    state = {} if out is None else out
    state["parameters"] = _packed(parameters, state.get("parameters"))
    state["buffers"] = _packed(buffers, state.get("buffers"))
    state["shapes"] = _shapes(parameters, buffers)
    return state


def restore_state(
    parameters: Views, buffers: Views, state: Mapping[str, Array], ranges: Mapping[str, bool] | None = None
) -> None:
    """Set parameters and buffers to a copy that `copy_state` made; see `Sequential.restore_state`."""
    check_state(parameters, buffers, state, ranges)
    unpack(state["parameters"], parameters)
    unpack(state["buffers"], buffers)


def check_state(
    parameters: Views, buffers: Views, state: Mapping[str, Array], ranges: Mapping[str, bool] | None = None
) -> None:
    """Raise TypeError or ValueError if `restore_state` cannot take `state`.

    `ranges` lists the buffers that hold no negative values, as `gdcore.internal.ranges.ranges_of` returns them.
    """
    if not isinstance(state, Mapping):
        raise TypeError(f"state: got {shown(state)}; expected the result of copy_state() of such a network")
    shapes = _shapes(parameters, buffers)
    sizes = {"shapes": shapes.size, "parameters": size_of(parameters), "buffers": size_of(buffers)}
    for name, size in sizes.items():
        if name not in state or np.shape(state[name]) != (size,):
            got = f"shape {np.shape(state[name])}" if name in state else "nothing"
            raise ValueError(
                f"state: {name}: got {got}; expected shape ({size},), as copy_state() of such a network returns"
            )
        if not isinstance(state[name], np.ndarray) or state[name].dtype.kind not in "fiu":
            raise TypeError(f"state: {name}: got {_kind_of(state[name])}; expected an array of real numbers")
    if not np.array_equal(state["shapes"], shapes):
        raise ValueError(
            "state: got one of a network of other shapes; expected one that copy_state() of such a network returns"
        )
    for name, views in (("parameters", parameters), ("buffers", buffers)):
        for own, part in parts(state[name], views):
            _check_fits(part, views[own].dtype, f"state: {name}: {own}")
    for own, part in parts(state["buffers"], buffers):
        wrong = "" if ranges is None or own not in ranges else out_of_range(part, ranges[own])
        if wrong:
            raise ValueError(f"state: buffers: {own}: {wrong}")


def check_held(views: Views, dtype: str, name: str) -> None:
    """Raise ValueError naming the first array with a finite value outside the range of `dtype`."""
    for own, view in views.items():
        _check_fits(np.asarray(view), np.dtype(dtype), f"{name}: {own}")


def _kind_of(value: object) -> str:
    return f"an array of {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"


def _check_fits(part: Array, dtype: np.dtype[Any], name: str) -> None:
    """Raise ValueError for a finite value outside the range of `dtype`; NaN and infinity pass."""
    if part.dtype == dtype:
        return
    with np.errstate(over="ignore"):
        lost = np.isfinite(part) & ~np.isfinite(part.astype(dtype))
    if lost.any():
        raise ValueError(f"{name}: got {part[lost][0]}; expected numbers that {dtype} can represent")


def _shapes(parameters: Views, buffers: Views) -> Array:
    """Return ndim and shape of every array in one vector; a state fits only a network with equal ones."""
    views = [*parameters.values(), *buffers.values()]
    return np.array([size for view in views for size in (view.ndim, *view.shape)], np.int64)
