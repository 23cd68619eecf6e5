"""Sources and destinations of bytes: paths, special files, open files.

A regular file is written beside its destination and renamed over it once it is on the disk, so a crash at any moment
leaves the complete old or new file. For pipes, devices and file objects the bytes are copied from a temporary file.
"""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import os
import platform
import re
import stat
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from ..internal.checks import path_text

if TYPE_CHECKING:
    from _typeshed import StrOrBytesPath

FileLike: TypeAlias = "StrOrBytesPath | IO[bytes]"
PIECE = 1 << 20  # bytes copied at a time
_serial = itertools.count()


def path_of(file: Any, name: str, expected: str = "a path, or a file opened in binary mode") -> str:
    """Return the path as text; raise TypeError or ValueError if it is no path."""
    return path_text(file, name, expected)


def label(file: Any, name: str) -> str:
    """Return the name of a file in messages: its path, or the type of the file object."""
    return f"{name} ({type(file).__name__})" if is_stream(file) else path_of(file, name)


def is_stream(file: object) -> bool:
    """Return whether `file` is a file object, to read from or to write to."""
    return hasattr(file, "read") or hasattr(file, "write")


@contextlib.contextmanager
def reading(file: FileLike, name: str) -> Iterator[Any]:
    """Open `file` to read its bytes; an open file is read from its current position and stays open."""
    if is_stream(file):
        _check_open(file, name, "read", "readable", "rb")
        yield file
    else:
        with open(path_of(file, name), "rb") as opened:
            yield opened


def _check_open(file: Any, name: str, method: str, able: str, mode: str) -> None:
    """Raise TypeError or ValueError for a file object that is not open in binary mode, to read or to write."""
    kind, expected = type(file).__name__, f"expected a file opened in binary mode: open(path, {mode!r})"
    if getattr(file, "closed", False) is True:
        raise ValueError(f"{name}: got {kind} that is closed; {expected}")
    if not hasattr(file, method):
        raise TypeError(f"{name}: got {kind}, which has no {method}(); {expected}")
    if isinstance(file, io.TextIOBase):
        raise TypeError(f"{name}: got {kind}, which is open for text and refuses bytes; {expected}")
    if callable(getattr(file, able, None)) and not getattr(file, able)():
        raise TypeError(f"{name}: got {kind} that is not {able}; {expected}")


def write(file: FileLike, name: str, fill: Callable[[str], None]) -> None:
    """Call `fill` with a temporary path to write to, and move or copy the result to `file`, all or nothing.

    Raises
    ------
    OSError
        If it cannot be written; an old file is then untouched.
    TypeError
        If `file` is neither a path nor a file opened in binary mode.
    """
    if is_stream(file):
        _check_open(file, name, "write", "writable", "wb")
        _copy_to_stream(fill, file, name)
        return
    path = path_of(file, name)
    try:
        old = check(path, name)
        if old is None or stat.S_ISREG(old.st_mode):
            _replace(os.path.realpath(path), old, fill)
        else:
            _write_special(path, fill, name)
    except OSError as error:
        if error.filename is not None and error.strerror and error.strerror.startswith(name):
            raise  # the message has the name already
        raise OSError(error.errno, f"{name}: cannot be saved: {error.strerror or error}", path) from error


def check(path: str, name: str) -> os.stat_result | None:
    """Return the status of the file at `path`, or None if there is none; check that a file could be written there.

    Raises
    ------
    OSError
        If the folder is missing, `path` is a folder, a socket or a disk, or its name is longer than the system allows.
    """
    target = os.path.realpath(path)
    folder, last = os.path.split(target)
    try:
        found = os.stat(path)
    except FileNotFoundError:
        if path.endswith(os.sep) or not os.path.isdir(folder):
            folder = target if path.endswith(os.sep) else folder
            raise FileNotFoundError(
                errno.ENOENT, f"{name}: there is no folder {folder!r} to save {last!r} in", path
            ) from None
        return None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, f"{name}: got a folder; expected the name of a file", path)
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISFIFO(found.st_mode) or stat.S_ISCHR(found.st_mode)):
        raise OSError(errno.EINVAL, f"{name}: got a socket or a block device; expected the name of a file", path)
    return found


def _replace(target: str, old: os.stat_result | None, fill: Callable[[str], None]) -> None:
    folder = os.path.dirname(target)
    with _temporary_folder(folder) as temporary:
        written = os.path.join(temporary, "file")
        fill(written)
        _copy_attributes(written, target, old)
        _sync(written)
        os.replace(written, target)
    if os.name == "posix":
        _sync(folder)


def _copy_attributes(written: str, target: str, old: os.stat_result | None) -> None:
    """Set owner, mode and attributes of a file to those of the file it replaces, or of any new file."""
    if old is None:
        probe = f"{written}.new"
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))  # its mode reflects umask and folder
        os.chmod(written, stat.S_IMODE(os.stat(probe).st_mode))
        return
    mode = stat.S_IMODE(old.st_mode)
    if hasattr(os, "chown"):
        with contextlib.suppress(PermissionError):
            os.chown(written, -1, old.st_gid)
        with contextlib.suppress(PermissionError):
            os.chown(written, old.st_uid, -1)  # allowed for root; otherwise the file belongs to the current user
        if os.stat(written).st_gid != old.st_gid:
            mode &= ~stat.S_IRWXG  # rights of the old group are not for another group
    if hasattr(os, "listxattr"):
        with contextlib.suppress(OSError):
            for attribute in os.listxattr(target):  # includes access control lists
                with contextlib.suppress(OSError):
                    os.setxattr(written, attribute, os.getxattr(target, attribute))
    os.chmod(written, mode)


def _write_special(path: str, fill: Callable[[str], None], name: str) -> None:
    """Write to a pipe or a device, without replacing it."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)  # a pipe without a reader would block
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        raise OSError(errno.ENXIO, f"{name}: this pipe has no reader; open it for reading first", path) from None
    os.set_blocking(descriptor, True)
    with open(descriptor, "wb", buffering=0) as special:
        _copy_to_stream(fill, special, name)


def _copy_to_stream(fill: Callable[[str], None], stream: Any, name: str) -> None:
    """Let `fill` write a temporary file, and copy it to a stream in pieces, to save memory."""
    import tempfile  # here, to keep `import gdcore` fast

    with _temporary_folder(tempfile.gettempdir()) as temporary:
        written = os.path.join(temporary, "file")
        fill(written)
        with open(written, "rb") as file:
            while piece := file.read(PIECE):
                rest = memoryview(piece)
                while rest:
                    try:
                        done = stream.write(rest)
                    except TypeError as error:
                        raise TypeError(
                            f"{name}: {type(stream).__name__}.write refuses bytes ({error}); expected a file opened in "
                            "binary mode: open(path, 'wb')"
                        ) from error
                    rest = rest[
                        len(rest) if done is None else done :
                    ]  # an unbuffered one may take less than it is given


@contextlib.contextmanager
def _temporary_folder(folder: str) -> Iterator[str]:
    """Create a folder for the temporary files of one call and remove it at the end; remove stale folders first.

    It is a folder because the safetensors package chooses its own names for temporary files. The folder's name does not
    contain the destination's name, which may be as long as the system allows.
    """
    _remove_stale(folder)
    while True:
        temporary = os.path.join(folder, f"{_prefix()}{os.getpid()}-{next(_serial)}")
        try:
            os.mkdir(temporary, 0o700)
            break
        except FileExistsError:  # left by a killed process with the same id
            continue
    try:
        yield temporary
    finally:
        _remove(temporary)


def _remove(folder: str) -> None:
    import shutil  # here, to keep `import gdcore` fast

    shutil.rmtree(folder, ignore_errors=True)  # the folder may belong to another user


def _prefix() -> str:
    """Return the prefix of this machine's temporary folders, which differs from other machines' on a shared disk."""
    import hashlib  # here, to keep `import gdcore` fast

    return f".gdcore-{hashlib.blake2b(platform.node().encode(), digest_size=4).hexdigest()}-"


def _remove_stale(folder: str) -> None:
    """Remove the temporary folders of this machine's ended processes."""
    pattern = re.compile(rf"{re.escape(_prefix())}(\d{{1,9}})-\d+")
    with contextlib.suppress(OSError):  # the folder may be writable but not listable
        for entry in os.listdir(folder):
            match = pattern.fullmatch(entry)
            if match is not None and not _alive(int(match[1])):
                _remove(os.path.join(folder, entry))


def _alive(process: int) -> bool:
    if os.name != "posix":
        return True  # on other systems signal 0 would end the process
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _sync(path: str) -> None:
    """Wait until a file, or a folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
