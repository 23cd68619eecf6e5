"""Models in safetensors files: the arrays by name, and architecture, scaling and class names as JSON in the header.

A file is written beside its destination and renamed over it once it is safely on the disk, so a crash at any moment
leaves the old file or the new one, whole. A checksum over names, shapes, numbers and settings tells a damaged file.
Never pickle: a file from a stranger can hold wrong numbers but cannot run code.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import platform
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from . import _core, _specs
from ._arrays import Array
from ._checks import FormatError

if TYPE_CHECKING:
    from .model import Sequential

__all__ = ["FormatError", "checksum", "read_file", "read_tensors", "write_file"]

FORMAT_VERSION = 1
# NumPy's names of element types and safetensors' names.
DTYPES = {"<f4": "F32", "<f8": "F64", "<f2": "F16", "|b1": "BOOL", "|u1": "U8", "|i1": "I8"} | {
    f"<{kind}{size}": f"{kind.upper()}{8 * size}" for kind in "ui" for size in (2, 4, 8)
}
_serial = itertools.count()


def save_model(model: Sequential, path: str | os.PathLike[str]) -> None:
    """Write `model` to a file; see `gdcore.Sequential.save`."""
    write_file(path, model_tensors(model), {"model": json.dumps(describe(model))})


def model_tensors(model: Sequential) -> dict[str, Array | _core.DeviceArray]:
    """Return views of the parameters and buffers by name."""
    return {**model.parameters(), **model.buffers()}


def describe(model: Sequential) -> dict[str, Any]:
    """Return what rebuilds a model around its arrays, as a JSON value."""
    return {
        "layers": [_specs.encode(layer) for layer in model.layers],
        "dtype": model.dtype,
        "seed": model.seed,
        "classes": None if model.classes is None else list(model.classes),
        "outputs": model.outputs,
        "frozen": model.frozen(),
    }


def matching(path: str, model: Sequential, tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Return the arrays of a file that are the model's own, whatever numbers they hold: a saved nan comes back as one.

    Raises
    ------
    FormatError
        If one is missing, or of another shape or type.
    """
    own = model_tensors(model)
    for name, array in own.items():
        given = tensors.get(name)
        if given is None or given.shape != array.shape or given.dtype != array.dtype:
            got = "nothing" if given is None else f"{given.dtype} of shape {given.shape}"
            raise FormatError(f"{path}: {name}: got {got}; expected {array.dtype} of shape {array.shape}")
    return {name: tensors[name] for name in own}


def model_from(tensors: Mapping[str, Array], metadata: Mapping[str, str], path: str, **place: Any) -> Sequential:
    """Build the model that a file describes; raises FormatError where that cannot be done."""
    from .model import Sequential

    try:
        model = json.loads(metadata["model"])
        if not isinstance(model["seed"], int) or not isinstance(model["frozen"], list):
            raise TypeError("seed or frozen are of the wrong kind")
        layers = [_specs.decode_layer(layer) for layer in model["layers"]]
        settings = {name: model[name] for name in ("seed", "dtype", "classes")}
        settings["outputs"] = model.get("outputs")  # files of format version 1 do not say
        built = Sequential(*layers, **settings, **place)
        built.freeze(*model["frozen"])
        arrays = matching(path, built, tensors)
        for name, own in model_tensors(built).items():
            own[...] = arrays[name]
    except (_core.DeviceError, FormatError):
        raise  # for a device, the file is sound and this machine lacks it
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise FormatError(f"{path}: the description of the model does not fit its arrays: {error}") from error
    return built


def write_file(
    path: str | os.PathLike[str], tensors: Mapping[str, Array | _core.DeviceArray], metadata: Mapping[str, str]
) -> None:
    """Write arrays and metadata to a safetensors file, all or nothing.

    Raises
    ------
    OSError
        If the file cannot be written; the old one, if any, is then untouched.
    TypeError
        If an array is of a type that the format has no name for.
    """
    target = os.path.realpath(path)
    folder, name = os.path.split(target)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"path: there is no folder {folder!r} to save {name!r} in")
    if os.path.isdir(target):
        raise IsADirectoryError(f"path: {target!r} is a folder; expected the name of a file")
    arrays = {key: np.ascontiguousarray(tensors[key]) for key in sorted(tensors)}
    for key, array in arrays.items():
        if array.dtype.str not in DTYPES:
            raise TypeError(f"{key}: got an array of {array.dtype}, which cannot be saved; expected numbers")
    header = {
        "format": "gdcore",
        "format_version": str(FORMAT_VERSION),
        "gdcore_version": _core.__version__,
        **metadata,
    }
    header["checksum"] = checksum(arrays, header)
    _remove_stale(folder, name)
    temporary = os.path.join(folder, f".{name}.{platform.node()}.{os.getpid()}-{next(_serial)}.tmp")
    try:
        with open(temporary, "xb") as file:
            _write(file, arrays, header)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise OSError(error.errno, f"cannot be saved: {error.strerror}", target) from error
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)
    if os.name == "posix":
        _sync_folder(folder)


def _write(file: BinaryIO, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Write the safetensors format: the header's length, the header, and the arrays' bytes.

    Written here rather than by the safetensors package, which copies all arrays to memory first, orders the metadata
    by chance, and leaves temporary files under names of its own when it is killed.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    # The widest first, so that each array starts at a multiple of its element's size.
    order = sorted(arrays, key=lambda name: -arrays[name].itemsize)
    for name in order:
        array = arrays[name]
        start, end = end, end + array.nbytes
        header[name] = {"dtype": DTYPES[array.dtype.str], "shape": array.shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for name in order:
        file.write(arrays[name].reshape(-1).view(np.uint8).data)


def _sync_folder(path: str) -> None:
    """Wait until a folder's entries are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_stale(folder: str, name: str) -> None:
    """Remove what writers of this file left that were killed: temporary files of this machine's ended processes."""
    pattern = re.compile(rf"\.{re.escape(name)}\.{re.escape(platform.node())}\.(\d+)-\d+\.tmp")
    for entry in os.listdir(folder):
        match = pattern.fullmatch(entry)
        if match is not None and not _alive(int(match[1])):
            try:
                os.remove(os.path.join(folder, entry))
            except OSError:
                continue  # someone else was faster, or may not: it does no harm where it is


def _alive(process: int) -> bool:
    if os.name != "posix":
        return True  # signal 0 would end the process on other systems
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def checksum(tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> str:
    """Return the BLAKE2b digest of all names, types, shapes, numbers and metadata but the checksum itself."""
    digest = hashlib.blake2b(digest_size=32)
    for key in sorted(metadata):
        if key != "checksum":
            digest.update(json.dumps([key, metadata[key]]).encode())
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, str]]:
    """Return the arrays and the metadata of any safetensors file.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, PermissionError
        If the file cannot be opened.
    FormatError
        If it is no whole safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    path = os.fspath(path)  # a number would be taken for an open file
    with open(path, "rb"):  # the plain errors of the system, where they say it best
        pass
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, TypeError, KeyError, ValueError, UnicodeError, OverflowError) as error:
        raise FormatError(f"{path}: damaged, cut short, or not a safetensors file: {error}") from error


def read_file(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, str]]:
    """Return the arrays and the metadata of a file of gdcore's, checked.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, PermissionError
        If the file cannot be opened.
    FormatError
        If it is damaged, of a newer version, or not gdcore's.
    """
    tensors, metadata = read_tensors(path)
    name = os.fspath(path)
    if metadata.get("format") != "gdcore":
        raise FormatError(
            f"{name}: a safetensors file that gdcore did not write, without an architecture; build the model and take "
            "the arrays with model.load_parameters(path)"
        )
    version = metadata.get("format_version", "")
    if not version.isdecimal() or int(version) > FORMAT_VERSION:
        by = metadata.get("gdcore_version", "unknown")
        raise FormatError(
            f"{name}: of format version {version or 'unknown'}, written by gdcore {by}; this gdcore "
            f"{_core.__version__} reads up to version {FORMAT_VERSION}: update gdcore"
        )
    if metadata.get("checksum") != checksum(tensors, metadata):
        raise FormatError(f"{name}: damaged: the checksum does not fit its contents")
    if "model" not in metadata:
        raise FormatError(f"{name}: without the description of a model")
    return tensors, metadata
