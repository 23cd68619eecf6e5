"""Promise: models and checkpoints are written to and read from everything that acts as a file (paths of every kind,
file objects, pipes, devices, links); a file's attributes are kept; leftovers of killed writers are removed."""

from __future__ import annotations

import io
import os
import socket
import stat
import subprocess
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from file_cases import load_checkpoint, model, trainer

root_only = pytest.mark.skipif(os.getuid() != 0, reason="only root gives files to others")


def resume(file: Any) -> gd.Trainer:
    made = trainer(9)
    x = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
    made.fit(x, np.array(["a", "b"])[(x[:, 0] > 0).astype(int)], until_epoch=2, resume=file)
    return made


def load_parameters(file: Any) -> gd.Sequential:
    made = model(9)
    made.load_parameters(file)
    return made


WRITERS: dict[str, Callable[[Any], None]] = {
    "save": lambda file: model().save(file),
    "save_checkpoint": lambda file: trainer(epochs=1).save_checkpoint(file),
}
READERS: dict[str, Callable[[Any], Any]] = {
    "load": gd.load,
    "load_parameters": load_parameters,
    "load_checkpoint": load_checkpoint,
    "fit(resume)": resume,
}
writers = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
readers = pytest.mark.parametrize("read", READERS.values(), ids=READERS)


class PathLike:
    def __init__(self, path: Any) -> None:
        self.path = path

    def __fspath__(self) -> Any:
        return self.path


KINDS: dict[str, Callable[[Path], Any]] = {
    "str": str,
    "Path": lambda path: path,
    "bytes": lambda path: os.fsencode(path),
    "PathLike of bytes": lambda path: PathLike(os.fsencode(path)),
    "not UTF-8": lambda path: os.fsencode(path.parent) + b"/\xff\xfe",
    "spaces and quotes": lambda path: path.with_name("a b'\"\n日本"),
    "the longest name": lambda path: path.with_name("m" * os.pathconf(path.parent, "PC_NAME_MAX")),
}


@pytest.mark.parametrize("kind", KINDS)
def test_paths_of_every_kind(kind: str, tmp_path: Path) -> None:
    path = KINDS[kind](tmp_path / "m")
    trainer(epochs=1).save_checkpoint(path)
    model().save(path)
    helpers.same_bits(gd.load(path).copy_state(), model().copy_state())
    trainer(epochs=1).save_checkpoint(path)
    for read in READERS.values():
        read(path)
    assert os.listdir(os.fsencode(tmp_path)) == [os.path.basename(os.fsencode(path))]


@writers
def test_paths_that_cannot_be(write: Callable[[Any], None], tmp_path: Path) -> None:
    cases = [tmp_path / "no" / "folder", tmp_path, f"{tmp_path}/missing/", "", "m" * 300, tmp_path / "loop"]
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for target in cases:
        with pytest.raises(OSError, match="path"):
            write(target)
    descriptor = os.open(os.devnull, os.O_RDWR)
    for bad in (None, descriptor, ["m"], 1.5, io.StringIO(), open(os.devnull), object()):  # noqa: SIM115
        with pytest.raises((TypeError, io.UnsupportedOperation), match=r"path|write"):
            write(bad)
        if hasattr(bad, "close"):
            bad.close()
    os.close(descriptor)  # it is still open: a number is no path
    assert os.listdir(tmp_path) == ["loop"]


@readers
def test_files_that_cannot_be_read(read: Callable[[Any], Any], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nothing")
    with pytest.raises(OSError):
        read(tmp_path)
    descriptor = os.open(os.devnull, os.O_RDWR)
    for bad in (descriptor, ["m"], 1.5, io.StringIO("text, and more of it")):
        with pytest.raises(TypeError):
            read(bad)
    os.close(descriptor)
    for bad in (io.BytesIO(), io.BytesIO(b"{}" * 50), os.devnull, "/dev/zero", "/dev/urandom"):
        with pytest.raises(gd.FormatError):
            read(bad)


class Slow(io.RawIOBase):
    """A file object without seek, which reads and writes a few bytes at a time."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.data += bytes(data[:1000])
        return min(len(data), 1000)

    def read(self, size: int = -1) -> bytes:
        piece, self.data = bytes(self.data[: min(size, 777)]), self.data[min(size, 777) :]
        return piece


@writers
def test_file_objects_get_the_same_bytes(write: Callable[[Any], None], tmp_path: Path) -> None:
    write(tmp_path / "m")
    expected = (tmp_path / "m").read_bytes()
    if write is WRITERS["save_checkpoint"]:  # its history holds the seconds of an epoch
        expected = b""
    memory, slow = io.BytesIO(b"kept"), Slow()
    memory.seek(4)
    for target in (memory, slow):
        write(target)
    with open(tmp_path / "opened", "wb") as file:
        write(file)
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive, archive.open("inside", "w") as file:
        write(file)
    with zipfile.ZipFile(tmp_path / "zip") as archive, archive.open("inside") as file:
        gd.load(file)
    contents = [memory.getvalue()[4:], bytes(slow.data), (tmp_path / "opened").read_bytes()]
    assert memory.getvalue()[:4] == b"kept" and all(expected in (b"", content) for content in contents)
    for content in contents:
        gd.load(io.BytesIO(content))
    assert sorted(os.listdir(tmp_path)) == ["m", "opened", "zip"]


@readers
def test_file_objects_are_read(read: Callable[[Any], Any], tmp_path: Path) -> None:
    trainer(epochs=1).save_checkpoint(tmp_path / "c")
    whole = (tmp_path / "c").read_bytes()
    with open(tmp_path / "c", "rb") as file:
        read(file)
    read(Slow(whole))
    for broken in (whole[:-1], whole + b"\0", whole[:100]):
        with pytest.raises(gd.FormatError):
            read(Slow(broken))
        with pytest.raises(gd.FormatError):
            read(io.BytesIO(broken))


@writers
@pytest.mark.parametrize("mode", [0o600, 0o664, 0o640, 0o444, 0o755])
def test_the_mode_stays(write: Callable[[Any], None], mode: int, tmp_path: Path) -> None:
    path = tmp_path / "m"
    for umask, expected in ((0o022, 0o644), (0o077, 0o600), (0o002, 0o664)):
        before = os.umask(umask)
        write(path)
        os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == expected  # of any new file
        path.unlink()
    write(path)
    path.chmod(mode)
    write(path)
    assert stat.S_IMODE(path.stat().st_mode) == mode


@root_only
@writers
def test_the_owner_stays(write: Callable[[Any], None], tmp_path: Path) -> None:
    write(tmp_path / "m")
    os.chown(tmp_path / "m", 12345, 23456)
    (tmp_path / "m").chmod(0o640)
    write(tmp_path / "m")
    found = (tmp_path / "m").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (12345, 23456, 0o640)


@writers
def test_attributes_stay(write: Callable[[Any], None], tmp_path: Path) -> None:
    write(tmp_path / "m")
    try:
        os.setxattr(tmp_path / "m", "user.origin", b"here")
    except OSError:
        pytest.skip("this file system has no attributes")
    write(tmp_path / "m")
    assert os.getxattr(tmp_path / "m", "user.origin") == b"here"


@writers
def test_links_stay(write: Callable[[Any], None], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/real")
    (tmp_path / "second").symlink_to(tmp_path / "link")
    for _ in range(2):
        write(tmp_path / "second")  # the first time the links are dangling
        assert (tmp_path / "second").is_symlink() and (tmp_path / "link").is_symlink()
        assert not (tmp_path / "folder" / "real").is_symlink() and (tmp_path / "folder" / "real").is_file()
    assert os.listdir(tmp_path / "folder") == ["real"] and len(os.listdir(tmp_path)) == 3


@writers
def test_pipes_are_written_to(write: Callable[[Any], None], tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="no reader"):
        write(pipe)
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE) as reader:
        kept = os.open(pipe, os.O_WRONLY)  # waits for the reader, which ends when the last writer does
        write(pipe)
        os.close(kept)
        gd.load(io.BytesIO(reader.communicate()[0]))
    assert stat.S_ISFIFO(pipe.stat().st_mode) and os.listdir(tmp_path) == ["pipe"]


@readers
def test_pipes_are_read(read: Callable[[Any], Any], tmp_path: Path) -> None:
    trainer(epochs=1).save_checkpoint(tmp_path / "c")
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes((tmp_path / "c").read_bytes()))
    writer.start()
    read(tmp_path / "pipe")
    writer.join()


@writers
def test_devices_are_written_to_or_refused(write: Callable[[Any], None], tmp_path: Path, monkeypatch: Any) -> None:
    before = os.stat("/dev/null")
    write("/dev/null")
    (tmp_path / "link").symlink_to("/dev/null")
    write(tmp_path / "link")
    assert os.path.samestat(before, os.stat("/dev/null")) and stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(OSError, match="No space"):
        write("/dev/full")
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(tmp_path)  # the path of a socket is a short one
        listening.bind("socket")
        with pytest.raises(OSError, match="socket"):
            write("socket")
    assert stat.S_ISSOCK((tmp_path / "socket").stat().st_mode)


def test_what_killed_writers_left_is_removed(tmp_path: Path) -> None:
    code = """
        import os, signal, sys, gdcore as gd
        os.replace = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
        gd.Sequential(gd.Dense(5, 5), seed=1).save(sys.argv[1])
    """
    helpers.run_python(code, str(tmp_path / "a"))
    left = os.listdir(tmp_path)
    assert len(left) == 1 and "a" not in left, left
    mine = tmp_path / left[0].replace(left[0].split("-")[2], str(os.getpid()))
    mine.mkdir()  # of a writer that is at work in another thread
    model().save(tmp_path / "c")
    assert sorted(os.listdir(tmp_path)) == sorted(["c", mine.name])


@pytest.mark.parametrize("call", [*WRITERS.values(), *READERS.values()], ids=[*WRITERS, *READERS])
def test_file_objects_that_cannot_be_used_are_refused_by_name(call: Callable[[Any], Any], tmp_path: Path) -> None:
    """Refuses files that are closed, in text mode or open for the other direction, and paths with a null character."""
    path, reads = tmp_path / "m", call in READERS.values()
    trainer(epochs=1).save_checkpoint(path)
    before = path.read_bytes()
    with open(path, "rb") as closed:
        pass
    for mode, words in (("ab" if reads else "rb", "not (read|writ)able"), ("r" if reads else "r+", "open for text")):
        with open(path, mode) as file:
            helpers.refuses(lambda f=file: call(f), TypeError, f"^(path|source|resume).*{words}.*binary mode")
    helpers.refuses(lambda: call(closed), ValueError, "^(path|source|resume).*closed")
    helpers.refuses(lambda: call(io.StringIO("text")), TypeError, "^(path|source|resume).*StringIO.*open for text")
    helpers.refuses(lambda: call(str(path) + "\0"), ValueError, "^(path|source|resume).*null character")
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["m"]
