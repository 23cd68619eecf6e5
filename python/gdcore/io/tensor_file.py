"""Write and read arrays and metadata in safetensors files, whatever they represent.

Format version 2 has all metadata in one entry, as JSON with sorted keys, because the safetensors package writes several
entries in varying order; so the same content gives the same bytes. A checksum over names, shapes, values and metadata
detects damaged files. Version 1 had one entry for each key. Version 3 is version 2 with several models, version 4 is
version 3 with the encoding of a table; files of one model stay version 2, for earlier readers. Pickle is never used: an
untrusted file can hold wrong values but cannot run code.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from .. import _core
from ..internal import json_values
from ..internal.arrays import Array
from ..internal.checks import FormatError
from . import destination
from .destination import FileLike

FORMAT_VERSION, ENSEMBLE_VERSION, TABLE_VERSION = 2, 3, 4
KEY = "gdcore"  # key of the one metadata entry
KEY_OF_SEVERAL = "ensemble"  # its entry that describes several models
KEY_OF_TABLE = "table"  # its entry that describes the encoding of a table
HEADER_LIMIT = 100_000_000  # bytes; the safetensors package refuses longer headers
MOST_DIMENSIONS = 32
# Names of element types in safetensors and in NumPy; bfloat16, which NumPy lacks, is read as float32.
READ = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "C64": "<c8",
    "BOOL": "|b1",
    "U8": "|u1",
    "I8": "|i1",
} | {f"{kind}{8 * size}": f"<{kind.lower()}{size}" for kind in "IU" for size in (2, 4, 8)}
WRITTEN = {code for name, code in READ.items() if name not in ("BF16", "C64")}


class TensorInfo(NamedTuple):
    """Type, shape, offset and number of bytes of an array in a file."""

    type: str
    shape: tuple[int, ...]
    start: int
    size: int


Check: TypeAlias = Callable[[dict[str, Array], dict[str, str]], object]


class Other(NamedTuple):
    """Another format: what its files contain, how to write one, and how to use one."""

    what: str
    write: str = ""
    read: str = ""


PYTORCH = Other(
    "a module or arrays of PyTorch",
    "; torch.save(model.to_torch_module(), path) writes a module of PyTorch",
    "; gd.from_torch_module(module) converts a module that torch.load has read",
)
OTHERS = {
    ".onnx": Other("a network in ONNX", "; save_onnx writes ONNX", "; onnxruntime computes it"),
    **dict.fromkeys((".pt", ".pth"), PYTORCH),
    **dict.fromkeys((".h5", ".hdf5", ".keras"), Other("a model of Keras")),
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), Other("pickled objects", "", ", and never pickle")),
    ".npz": Other("arrays of NumPy"),
    **dict.fromkeys((".csv", ".parquet"), Other("a table")),
}
"""Formats by their endings."""


def _ending(path: FileLike) -> str:
    """Return the ending of a path if it promises another format, or empty text."""
    ending = os.path.splitext(path)[1] if isinstance(path, (str, os.PathLike)) else ""
    return ending.lower() if isinstance(ending, str) and ending.lower() in OTHERS else ""


def _check_ending(path: FileLike, name: str) -> None:
    """Refuse a path whose ending promises another format: the file might replace one that is in use."""
    ending = _ending(path)
    if ending:
        instead = OTHERS[ending].write
        raise ValueError(f"{name}: got a file with the ending {ending}; expected .safetensors, which it is{instead}")


def write_file(
    path: FileLike,
    tensors: Mapping[str, Array | _core.DeviceArray],
    metadata: Mapping[str, str],
    *,
    check: Check | None = None,
    name: str = "path",
    version: int = FORMAT_VERSION,
) -> None:
    """Write arrays and metadata to a safetensors file, all or nothing.

    `check` gets arrays and metadata as they would be read; it raises FormatError for contents that a reader would
    refuse.

    Raises
    ------
    OSError
        If the file cannot be written; an old file is then untouched.
    TypeError
        If an array has a dtype that the format lacks, or `path` is neither a path nor a file.
    ValueError
        If a reader would refuse the file, or its ending is that of another format; an old file is then untouched.
    """
    _check_ending(path, name)
    arrays = {key: np.asarray(tensors[key], order="C") for key in sorted(tensors)}
    for key, array in arrays.items():
        if array.dtype.str not in WRITTEN:
            raise TypeError(f"{key}: got an array of {array.dtype}, which cannot be saved; expected numbers")
    values = {
        "format": "gdcore",
        "format_version": str(version),
        "gdcore_version": _core.__version__,
        **{key: _text(_value(text)) for key, text in metadata.items()},
    }
    values["checksum"] = checksum(arrays, values)
    text = json.dumps({key: _value(text) for key, text in values.items()}, sort_keys=True)
    with _readable():
        read = _metadata(text, "the file")
        if check is not None:
            check(arrays, read)

    def fill(written: str) -> None:
        _save(arrays, written, {KEY: text})
        _check_written(written, values)

    destination.write(path, name, fill)


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    """Convert a reader's FormatError into the ValueError of a writer."""
    try:
        yield
    except FormatError as error:
        raise ValueError(f"cannot be saved, as it could not be read: {error}") from error


def _metadata(text: str, title: str) -> dict[str, str]:
    """Return the metadata parsed from the one entry."""
    values = json_values.mapping(json_values.parse(text, f"{title}: {KEY}"), f"{title}: {KEY}")
    return {key: _text(value) for key, value in values.items()}


def _value(text: str) -> Any:
    """Return the object in a JSON text, to be nested in the metadata; other text is returned unchanged."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict) else text


def _text(value: Any) -> Any:
    """Return the JSON text of an object, identical before writing and after reading."""
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else value


def _save(arrays: Mapping[str, Array], path: str, metadata: Mapping[str, str]) -> None:
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    try:
        save_file(dict(arrays), path, dict(metadata))
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        code = int(number[1]) if number else 0
        raise OSError(code, os.strerror(code) if number else str(error)) from error


def _check_written(path: str, metadata: Mapping[str, str]) -> None:
    """Read a file back before it replaces an old one, so that a valid file is never replaced by an invalid one.

    Raises
    ------
    ValueError
        If a reader would refuse the file: too much metadata, or arrays that changed during writing.
    """
    with open(path, "rb") as file:
        with _readable():
            infos, _, begin = _header(file, os.fstat(file.fileno()).st_size, "the file")

        def pieces(info: TensorInfo) -> Iterator[bytes]:
            file.seek(begin + info.start)
            rest = info.size
            while rest > 0:
                yield (piece := file.read(min(rest, destination.PIECE)))
                rest -= len(piece) or rest

        described = ((name, READ[p.type], p.shape, pieces(p)) for name, p in sorted(infos.items()))
        if _digest(described, metadata) != metadata["checksum"]:
            raise ValueError("cannot be saved: the arrays changed while they were written; try again")


def checksum(tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> str:
    """Return the BLAKE2b digest of all names, types, shapes, values and metadata except the checksum itself."""
    arrays = ((name, tensors[name]) for name in sorted(tensors))
    return _digest(((n, a.dtype.str, a.shape, [a.reshape(-1).view(np.uint8).data]) for n, a in arrays), metadata)


def _digest(
    described: Iterable[tuple[str, str, tuple[int, ...], Iterable[bytes | memoryview]]], metadata: Mapping[str, str]
) -> str:
    import hashlib  # here, to keep `import gdcore` fast

    digest = hashlib.blake2b(digest_size=32)
    for key in sorted(metadata):
        if key != "checksum":
            digest.update(json.dumps([key, metadata[key]]).encode())
    for name, dtype, shape, pieces in described:
        digest.update(json.dumps([name, dtype, shape]).encode())
        for piece in pieces:
            digest.update(piece)
    return digest.hexdigest()


def read_tensors(path: FileLike, *, name: str = "path") -> tuple[dict[str, Array], dict[str, str]]:
    """Return the arrays and the metadata of any safetensors file; bfloat16 becomes float32.

    The safetensors package is not used for reading: it has no bfloat16 for NumPy, accepts no file objects, and maps the
    file, so the process dies if the file is shortened meanwhile.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, PermissionError
        If the file cannot be opened.
    FormatError
        If it is no complete safetensors file.
    """
    title = destination.label(path, name)
    with destination.reading(path, name) as file:
        length = _length(file)
        try:
            infos, metadata, _ = _header(file, length, title)
        except FormatError as error:
            if not _ending(path):
                raise
            other = OTHERS[_ending(path)]
            raise FormatError(
                f"{title}: by its ending {other.what}; gdcore reads .safetensors files, as model.save(path) writes "
                f"them{other.read}"
            ) from error
        arrays = {}
        for key, info in sorted(infos.items(), key=lambda item: (item[1].start, item[1].size)):
            raw = _bytes(file, info.size, length, f"{title}: {key}")
            with json_values.entry(f"{title}: {key}"):
                arrays[key] = _array(raw, info)
        if file.read(1):
            raise FormatError(f"{title}: damaged: there are bytes after its end")
    return arrays, metadata


def _length(file: Any) -> int | None:
    """Return the number of bytes left in a file, or None if unknown before reading."""
    try:
        if not file.seekable():
            return None
        at = file.tell()
        end = int(file.seek(0, os.SEEK_END))
        file.seek(at)
    except (AttributeError, OSError):
        return None
    return end - at if end > at else None  # the end of a device is meaningless


def _bytes(file: Any, count: int, length: int | None, where: str) -> bytearray:
    """Read exactly `count` bytes; memory grows as they arrive, because a file may claim more than it has."""
    if length is not None and count > length:
        raise FormatError(f"{where}: damaged or cut short: {count} bytes are claimed, but the file has {length}")
    read = bytearray()
    while len(read) < count:
        piece = file.read(min(count - len(read), destination.PIECE))
        if isinstance(piece, str):
            raise TypeError(
                f"{where}: got a file opened for text; expected one opened in binary mode: open(path, 'rb')"
            )
        if not piece:
            raise FormatError(f"{where}: damaged or cut short: it ends {count - len(read)} bytes early")
        read += piece
    return read


def _array(raw: bytearray, info: TensorInfo) -> Array:
    array = np.frombuffer(raw, READ[info.type])
    if info.type == "BF16":
        array = (array.astype("<u4") << 16).view("<f4")  # the upper half of a float32
    return array.reshape(info.shape)


def _header(file: Any, length: int | None, title: str) -> tuple[dict[str, TensorInfo], dict[str, str], int]:
    """Return a description of each array, the metadata, and the offset of the arrays, checked against the length."""
    kind = f"{title}: damaged, cut short, or not a safetensors file"
    size = int.from_bytes(_bytes(file, 8, length, kind), "little")
    if size > HEADER_LIMIT:
        raise FormatError(f"{kind}: got a header of {size} bytes; expected at most {HEADER_LIMIT}")
    header = json_values.mapping(json_values.parse(_bytes(file, size, length, kind), kind), kind)
    metadata = json_values.mapping(header.pop("__metadata__", {}), f"{kind}: __metadata__")
    for key, value in metadata.items():
        json_values.text(value, f"{kind}: __metadata__.{key}")
    infos = {key: _info(value, f"{kind}: {key}") for key, value in header.items()}
    end = 0
    for key, info in sorted(infos.items(), key=lambda item: (item[1].start, item[1].size)):
        if info.start != end:
            raise FormatError(f"{kind}: {key}: begins at byte {info.start}; expected {end}, without a gap or overlap")
        end = info.start + info.size
    if length is not None and length != 8 + size + end:
        raise FormatError(f"{kind}: has {length} bytes; expected {8 + size + end}, by its header")
    return infos, metadata, 8 + size


def _info(value: Any, where: str) -> TensorInfo:
    checks = {"dtype": json_values.text, "shape": _whole_numbers, "data_offsets": _whole_numbers}
    given = json_values.entries(value, where, checks)
    dtype, shape, offsets = given["dtype"], given["shape"], given["data_offsets"]
    if dtype not in READ:
        raise FormatError(f"{where}: got elements of type {dtype!r:.40}; expected one of {', '.join(READ)}")
    if len(shape) > MOST_DIMENSIONS:
        raise FormatError(f"{where}: got {len(shape)} dimensions; expected at most {MOST_DIMENSIONS}")
    size = math.prod(shape) * np.dtype(READ[dtype]).itemsize
    if len(offsets) != 2 or offsets[1] - offsets[0] != size:
        raise FormatError(f"{where}: got the offsets {offsets!r:.60}; expected {size} bytes, for shape {shape!r:.60}")
    return TensorInfo(dtype, tuple(shape), offsets[0], size)


def _whole_numbers(value: Any, where: str) -> list[int]:
    return json_values.listing(value, where, json_values.whole)


def read_file(path: FileLike, *, name: str = "path") -> tuple[dict[str, Array], dict[str, str]]:
    """Return the arrays and the metadata of a gdcore file, checked.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, PermissionError
        If the file cannot be opened.
    FormatError
        If it is damaged, of a newer version, or not written by gdcore.
    """
    tensors, metadata = read_tensors(path, name=name)
    title = destination.label(path, name)
    first = metadata.get("format_version")  # of version 1
    if KEY in metadata:
        metadata = _metadata(metadata[KEY], title)
        first = None
    if metadata.get("format") != "gdcore":
        raise FormatError(
            f"{title}: a safetensors file that gdcore did not write, without an architecture; build the model and take "
            "the arrays with model.load_parameters(path)"
        )
    version = metadata.get("format_version")
    versions = {KEY_OF_TABLE: TABLE_VERSION, KEY_OF_SEVERAL: ENSEMBLE_VERSION}
    expected = next((number for key, number in versions.items() if key in metadata), FORMAT_VERSION)
    if version != ("1" if first is not None else str(expected)):
        raise FormatError(
            f"{title}: of format version {version!r:.20}, written by gdcore {metadata.get('gdcore_version')!r:.20}; "
            f"this gdcore {_core.__version__} reads versions 1 to {TABLE_VERSION}: update gdcore"
        )
    for key, value in metadata.items():
        json_values.text(value, f"{title}: {key}")
    if metadata.get("checksum") != checksum(tensors, metadata):
        raise FormatError(f"{title}: damaged: the checksum does not match its contents")
    return tensors, metadata
