"""Conversion of arguments to NumPy arrays: arrays, frames, tensors, and objects with ``__array__`` or ``__dlpack__``.

Copies are avoided: a NumPy array, a memory-mapped file or a CPU tensor becomes a view. Booleans, integers of 8 to 64
bits and floats of 16 to 64 bits keep their type. The core converts them while it gathers a batch; a float16 array is
first copied to float32 as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast, runtime_checkable

import numpy as np
import numpy.typing as npt

from .._core import DeviceArray, DeviceError
from .checks import has_keys, shown
from .frames import frame_array, frame_columns, is_frame, is_series, object_numbers, refuse, series_array

if TYPE_CHECKING:
    from .features import FeatureNames
    from .inputs import Inputs

Array: TypeAlias = npt.NDArray[Any]


@runtime_checkable
class SupportsDLPack(Protocol):
    """An object that exports its memory through DLPack."""

    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any:
        """Return a DLPack capsule."""
        ...

    def __dlpack_device__(self) -> tuple[int, int]:
        """Return the kind and the number of the device that holds the memory."""
        ...


class NamedArray(np.ndarray):
    """The array of a batch with its column names; arrays computed from it have none."""

    names: tuple[Any, ...] | None

    def __array_finalize__(self, made_from: Any) -> None:
        """Drop the names: in a derived array, columns may be missing or in another order."""
        self.names = None


def with_names(array: Array, names: tuple[Any, ...] | None) -> Array:
    """Return an array with its column names, if known."""
    if names is None:
        return array
    named = array.view(NamedArray)
    named.names = names
    return named


class Converted:
    """Base of data that is already converted: `Inputs` and `Targets`."""

    __slots__ = ()


class Windowed(Converted):
    """Base of data that is larger than memory: `gdcore.data.Parquet`."""

    __slots__ = ()

    def predicted(
        self, predict: Callable[[Inputs], Array], known: FeatureNames | None, dtype: str, finite: bool
    ) -> Array:
        """Return what `predict` returns for the inputs of each window, in one array, rows in the order of the files.

        `known` are the names of the model's inputs, if any; `finite` says whether values outside of `dtype` are
        refused.
        """
        raise NotImplementedError

    def finite_inputs(self, known: FeatureNames | None) -> tuple[int, Iterator[Inputs]]:
        """Return the number of windows, and the inputs of each in float64, valid until the next ones are asked for.

        `known` are names that the columns must have, in their order.
        """
        raise NotImplementedError

    def __array__(self, *_: object, **__: object) -> Array:
        """Raise TypeError; NumPy, and with it scikit-learn, would make an array of one object instead."""
        raise TypeError(self._no_array())

    def _no_array(self) -> str:
        """Return why this is no array, for messages."""
        return (
            f"got {shown(self)}, which Standardizer.fit, and fit, evaluate and the predictions of a model read in "
            "windows; expected an array in memory: that of a window, `for x, y in data.windows()`, or "
            "pandas.read_parquet(path)"
        )


class TakesTables:
    """Base of models whose predictions take tables, with columns of any type."""

    __slots__ = ()


Data: TypeAlias = npt.ArrayLike | SupportsDLPack | Converted

_DLPACK_HOSTS = (1, 3, 11)  # kDLCPU, kDLCUDAHost, kDLROCMHost: memory that the CPU reads directly


def to_array(value: object, name: str, *, text: bool = False) -> Array:
    """Return `value` as a plain numeric NumPy array, as a view wherever possible.

    Every entry point that takes data converts it here.

    Parameters
    ----------
    value
        NumPy array or memory map, frame or series, CPU tensor, nested list, or anything with ``__array__`` or
        ``__dlpack__``.
    name : str
        The argument's name, for messages.
    text : bool
        Whether labels of other types are allowed too: text, dates, objects.

    Returns
    -------
    ndarray
        Of booleans, integers, or floats of 16 to 64 bits in native byte order. Longer floats and Python numbers are
        copied to float64, bfloat16 and shorter floats to float32.

    Raises
    ------
    TypeError
        If `value` is not an array of real numbers.
    ValueError
        If it is a ragged list, or a masked array with masked entries.
    DeviceError
        If its memory is not on the CPU.
    """
    if text:
        return to_any_array(value, name)
    array = value if type(value) is np.ndarray else _from_object(value, name)
    kind = array.dtype.kind
    if kind in "biu" or (kind == "f" and array.dtype.itemsize <= 8):
        return array if array.dtype.isnative else _converted(array, array.dtype.newbyteorder("="), value, name)
    if kind == "f":
        with np.errstate(over="ignore"):  # values beyond float64 become infinite, which is refused later
            return _converted(array, np.dtype(np.float64), value, name)
    if kind == "O":
        return object_numbers(array, name)
    if kind == "V" and array.dtype.name.startswith(("bfloat", "float")):  # of ml_dtypes
        return _converted(array, np.dtype(np.float32), value, name)
    refuse(array, array.dtype, name)


def to_any_array(value: object, name: str) -> Array:
    """Return `value` as a plain NumPy array of any type: numbers, text, dates or objects."""
    if type(value) is np.ndarray:
        return value
    if is_series(value):
        return series_array(value, name)
    if is_frame(value):
        columns = frame_columns(value, name)
        return columns[0].reshape(-1, 1) if len(columns) == 1 else frame_array(value, name)
    return _from_object(value, name)


def _converted(array: Array, dtype: np.dtype[Any], value: object, name: str) -> Array:
    if isinstance(value, np.memmap):
        raise TypeError(
            f"{name}: got a memory map of {array.dtype}, which requires a copy in memory; expected one of native "
            "floats of 16 to 64 bits, integers or booleans"
        )
    return array.astype(dtype)


def _from_object(value: object, name: str) -> Array:
    """Convert an object that is not a plain array; kinds are recognised by their attributes, without imports."""
    if isinstance(value, np.ma.MaskedArray):
        return _unmasked(value, name)
    if isinstance(value, (np.ndarray, DeviceArray)):
        return np.asarray(value)
    if hasattr(value, "toarray") and hasattr(value, "nnz"):
        raise TypeError(f"{name}: got a sparse {type(value).__name__}; expected a dense array: use {name}.toarray()")
    if isinstance(value, Windowed):
        raise TypeError(f"{name}: {value._no_array()}")
    if isinstance(value, (str, bytes, dict, set, frozenset, Iterator)) or value is None:
        raise TypeError(f"{name}: got {type(value).__name__} {shown(value)}; expected an array of numbers")
    if isinstance(value, SupportsDLPack) and not _on_host(value):
        raise DeviceError(
            f"{name}: got {type(value).__name__} on device {getattr(value, 'device', 'other than the CPU')}; "
            "expected memory of the CPU: copy it there first"
        )
    if is_frame(value):
        return frame_array(value, name)
    if is_series(value):
        return series_array(value, name)
    if isinstance(value, (list, tuple)):
        _check_items(value, name)
    try:
        if getattr(value, "requires_grad", False) and hasattr(value, "detach"):
            value = value.detach()
        if str(getattr(value, "dtype", "")) == "torch.bfloat16":
            value = cast(Any, value).float()  # exact; NumPy has no bfloat16
        if hasattr(value, "__array__") or not isinstance(value, SupportsDLPack):
            array = np.asanyarray(value)
        else:
            array = np.from_dlpack(value)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        raise type(error)(f"{name}: got {type(value).__name__}, which is no array of numbers: {error}") from None
    return _unmasked(array, name) if isinstance(array, np.ma.MaskedArray) else np.asarray(array)


def _unmasked(array: np.ma.MaskedArray[Any, Any], name: str) -> Array:
    """Return the data of a masked array; refuse masked entries, whose hidden values NumPy would return."""
    if np.ma.is_masked(array):
        raise ValueError(f"{name}: got a masked array with masked entries; expected no missing values")
    return np.asarray(array.data)


def _check_items(items: list[Any] | tuple[Any, ...], name: str) -> None:
    """Refuse a list of masked arrays, or of rows of a frame, whose masks and names NumPy would drop."""
    for i, item in enumerate(items):
        if type(item) in (float, int, str):
            continue
        if isinstance(item, (list, tuple)):
            _check_items(item, f"{name}[{i}]")
        elif isinstance(item, np.ma.MaskedArray):
            _unmasked(item, f"{name}[{i}]")
        elif has_keys(item) and hasattr(item, "index") and list(item.index) != list(range(len(item))):
            raise TypeError(
                f"{name}[{i}]: got {type(item).__name__} with the names {shown(list(item.index))} in a list of "
                "rows, where they are ignored; expected a frame: pandas.DataFrame(rows)"
            )


def _on_host(value: SupportsDLPack) -> bool:
    try:
        return value.__dlpack_device__()[0] in _DLPACK_HOSTS
    except (AttributeError, TypeError, ValueError, RuntimeError, BufferError):
        return True  # the conversion raises the error


def to_weights(value: object, name: str) -> Array:
    """Return one number per row, given with shape (rows,) or (rows, 1), as an array (rows,).

    Raises
    ------
    TypeError, ValueError
        If they are not numbers, or have another shape.
    """
    array = one_column(to_array(value, name))
    if array.ndim != 1:
        raise ValueError(f"{name}: got shape {array.shape}; expected one number for each row")
    return array


def one_column(array: Array) -> Array:
    """Return an array of one column (rows, 1) as a view (rows,); return any other unchanged."""
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def in_order(array: Array, order: list[int] | None) -> Array:
    """Return a table with its columns in `order`, or unchanged for None or another column count, refused later."""
    return array if order is None or array.ndim != 2 or array.shape[1] != len(order) else array[:, order]


def same_rows(name: str, array: Array, other: str, reference: Array) -> None:
    """Raise ValueError unless `array` and `reference` have the same number of rows."""
    if array.ndim == 0 or reference.ndim == 0 or len(array) != len(reference):
        rows = array.shape[0] if array.ndim else "no"
        expected = reference.shape[0] if reference.ndim else "no"
        raise ValueError(f"{name}: got {rows} rows; expected {expected}, as many as {other}")
