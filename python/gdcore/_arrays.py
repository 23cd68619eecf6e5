"""Arrays in: NumPy, DataFrames, tensors and whatever else has ``__array__`` or ``__dlpack__``.

Nothing is copied where it can be helped: a NumPy array, a memory-mapped file or a tensor on the CPU becomes a view. The
element types that the core converts while it gathers a batch (booleans, integers of 8 to 64 bits, floats of 16 to 64)
pass as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from ._checks import shown
from ._core import DeviceArray, DeviceError

Array: TypeAlias = npt.NDArray[Any]


@runtime_checkable
class SupportsDLPack(Protocol):
    """Anything that hands over its memory through DLPack."""

    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any:
        """Return a DLPack capsule."""
        ...

    def __dlpack_device__(self) -> tuple[int, int]:
        """Return the kind and the number of the device that holds the memory."""
        ...


Data: TypeAlias = npt.ArrayLike | SupportsDLPack

_DLPACK_HOSTS = (1, 3, 11)  # kDLCPU, kDLCUDAHost, kDLROCMHost: memory that the processor reads directly


def to_array(value: object, name: str, *, text: bool = False) -> Array:
    """Return `value` as a plain NumPy array, as a view wherever possible.

    Parameters
    ----------
    value
        NumPy array or memory map, DataFrame or Series, CPU tensor, nested list, or anything with ``__array__`` or
        ``__dlpack__``.
    name : str
        The argument's name, for messages.
    text : bool
        Whether strings are welcome too (class labels).

    Returns
    -------
    ndarray
        Of booleans, integers, or floats of 16 to 64 bits in native byte order (or strings, where welcome). Longer
        floats become float64, in a copy.

    Raises
    ------
    TypeError
        If `value` is no array of numbers.
    ValueError
        If it is a ragged list, or a masked array with masked entries.
    DeviceError
        If its memory is on another device than the processor.
    """
    array = value if type(value) is np.ndarray else _from_object(value, name)
    kind = array.dtype.kind
    if kind in "biu" or (kind == "f" and array.dtype.itemsize <= 8):
        return array if array.dtype.isnative else _converted(array, array.dtype.newbyteorder("="), value, name)
    if kind == "f":
        return _converted(array, np.dtype(np.float64), value, name)
    if text and (kind in "US" or (kind == "O" and all(isinstance(item, str) for item in array.ravel()))):
        return array
    hint = (
        f"; its first element is {shown(array.ravel()[0].item() if array.dtype.kind != 'O' else array.ravel()[0])}"
        if array.size
        else ""
    )
    raise TypeError(f"{name}: got an array of {array.dtype}{hint}; expected numbers")


def _converted(array: Array, dtype: np.dtype[Any], value: object, name: str) -> Array:
    if isinstance(value, np.memmap):
        raise TypeError(
            f"{name}: got a memory map of {array.dtype}, which would have to be copied whole; expected one of native "
            "floats of 16 to 64 bits, integers or booleans"
        )
    return array.astype(dtype)


def _from_object(value: object, name: str) -> Array:
    """Convert anything but a plain array; the kinds are told apart by what they offer, so none is imported."""
    if isinstance(value, np.ma.MaskedArray):
        if np.ma.is_masked(value):
            raise ValueError(f"{name}: got a masked array with masked entries; expected every value to be there")
        return np.asarray(value.data)
    if isinstance(value, (np.ndarray, DeviceArray)):
        return np.asarray(value)
    if hasattr(value, "toarray") and hasattr(value, "nnz"):
        raise TypeError(f"{name}: got a sparse {type(value).__name__}; expected a dense array: use {name}.toarray()")
    if isinstance(value, (str, bytes, dict, set, frozenset, Iterator)) or value is None:
        raise TypeError(f"{name}: got {type(value).__name__} {shown(value)}; expected an array of numbers")
    if isinstance(value, SupportsDLPack) and not _on_host(value):
        raise DeviceError(
            f"{name}: got a {type(value).__name__} on device {getattr(value, 'device', 'other than the CPU')}; "
            "expected memory of the CPU: copy it there first"
        )
    if hasattr(value, "to_numpy"):
        return _from_frame(value, name)
    try:
        if getattr(value, "requires_grad", False) and hasattr(value, "detach"):
            value = value.detach()
        if hasattr(value, "__array__") or not isinstance(value, SupportsDLPack):
            return np.asarray(value)
        return np.from_dlpack(value)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        raise type(error)(f"{name}: got {type(value).__name__}, which is no array of numbers: {error}") from None


def _on_host(value: SupportsDLPack) -> bool:
    try:
        return value.__dlpack_device__()[0] in _DLPACK_HOSTS
    except (AttributeError, TypeError, ValueError, RuntimeError, BufferError):
        return True  # let the conversion itself say what is wrong


def _from_frame(value: Any, name: str) -> Array:
    """Convert a DataFrame or Series; columns of mixed number types come as objects and are tried as float64."""
    array = np.asarray(value.to_numpy())
    if array.dtype.kind != "O" or all(isinstance(item, str) for item in array.ravel()):
        return array
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError):
        pass
    if array.ndim == 2 and hasattr(value, "columns"):
        for label, column in zip(value.columns, array.T, strict=True):
            try:
                column.astype(np.float64)
            except (TypeError, ValueError):
                raise TypeError(
                    f"{name}: column {label!r} holds {shown(column[0])}; expected numbers without missing values"
                ) from None
    raise TypeError(f"{name}: got {type(value).__name__} of objects; expected numbers without missing values")


def to_targets(value: object, name: str, classes: Sequence[object] | None) -> Array:
    """Return targets as an array; labels given as text become the index of their name in `classes`.

    Parameters
    ----------
    value
        Targets, shape (N,) or (N, K), or class names as text, shape (N,).
    name : str
        The argument's name, for messages.
    classes : sequence or None
        Class names of the model, where it has any.

    Returns
    -------
    ndarray
        Numbers, as `to_array` returns them; text labels as int32 of shape (N,).

    Raises
    ------
    TypeError
        If there are text labels and the model has no class names.
    ValueError
        If a label is no class name of the model.
    """
    array = to_array(value, name, text=True)
    if array.dtype.kind not in "USO":
        return array
    if classes is None:
        raise TypeError(
            f"{name}: got text labels; expected numbers (or give the model its names: Sequential(classes=...))"
        )
    names, inverse = np.unique(array.astype(str), return_inverse=True)
    index = {str(label): i for i, label in enumerate(classes)}
    unknown = [str(label) for label in names if str(label) not in index]
    if unknown:
        raise ValueError(f"{name}: got the label {unknown[0]!r}; expected one of {shown(list(classes), 200)}")
    return np.array([index[str(label)] for label in names], dtype=np.int32)[inverse.reshape(array.shape)]


def same_rows(name: str, array: Array, other: str, reference: Array) -> None:
    """Raise ValueError unless `array` and `reference` have as many rows as each other."""
    if array.ndim == 0 or reference.ndim == 0 or len(array) != len(reference):
        rows = array.shape[0] if array.ndim else "no"
        expected = reference.shape[0] if reference.ndim else "no"
        raise ValueError(f"{name}: got {rows} rows; expected {expected}, as many as {other}")
