"""Results of a run on the disk: a file to which each finished point is added, so that an interrupted run goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from ..internal.checks import FormatError, by_key, has_keys, shown
from ..io import specs

__all__ = ["Point", "Rows", "Store", "key_of", "plain"]

Point: TypeAlias = Mapping[str, Any]
Rows: TypeAlias = list[dict[str, Any]]

FILE = "sweep.jsonl"  # a line with the settings, then a line for each finished point


class Store:
    """The finished points, in memory and, if there is a folder, on the disk."""

    def __init__(self, folder: str | os.PathLike[str] | None, settings: Any) -> None:
        self.finished: dict[str, tuple[list[dict[str, Any]], float]] = {}
        self.folder = None if folder is None else _made(folder)
        if self.folder is None:
            return
        lines = self._lines()
        if not lines:
            self._append({"settings": settings})
            return
        differ = specs.differences(lines[0].get("settings"), settings)
        if differ:
            raise ValueError(
                f"folder: {self.folder} contains a run with other settings ({'; '.join(differ)}); expected the same, "
                "or another folder"
            )
        for line in lines[1:]:
            self.finished[key_of(line["point"])] = (line["rows"], line["cpu_seconds"])

    def add(self, key: str, point: Point, rows: list[dict[str, Any]], seconds: float) -> None:
        """Keep a finished point; writes it to the disk first."""
        if self.folder is not None:
            self._append({"point": point, "rows": rows, "cpu_seconds": seconds})
        self.finished[key] = (rows, seconds)

    def _append(self, line: Mapping[str, Any]) -> None:
        assert self.folder is not None
        with open(self.folder / FILE, "ab") as file:
            file.write(json.dumps(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _lines(self) -> list[dict[str, Any]]:
        """Return the complete lines of the file; removes an incomplete last line of a killed run."""
        assert self.folder is not None
        path = self.folder / FILE
        data = path.read_bytes() if path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            os.truncate(path, len(whole))
        return [_parsed(line, number, path) for number, line in enumerate(whole.splitlines(), 1)]


def _parsed(line: bytes, number: int, path: Path) -> dict[str, Any]:
    """Return one line of the file, checked for its keys."""
    expected = {"settings"} if number == 1 else {"point", "rows", "cpu_seconds"}
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    if not isinstance(value, dict) or set(value) != expected:
        raise FormatError(f"folder: line {number} of {path} is damaged: got {shown(line)}; expected a line of a run")
    return value


def key_of(point: Point) -> str:
    """Return the text by which a point is known; names of functions and objects do not count."""
    return json.dumps(specs.without_names(point), sort_keys=True)


def plain(value: Any, name: str) -> Any:
    """Return `value` as read from a JSON file, so that computed and stored values are equal."""
    try:
        return json.loads(json.dumps(value, default=_item))
    except TypeError:
        raise TypeError(
            f"{name}: got {shown(value)}; expected numbers, text, and lists or dictionaries of them"
        ) from None


def _item(value: Any) -> Any:
    """Return a NumPy number or array as Python numbers, a mapping as a dictionary."""
    if has_keys(value):
        return by_key(value, "")
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError


def _made(folder: str | os.PathLike[str]) -> Path:
    """Return the folder, created if missing."""
    try:
        path = Path(folder)
    except TypeError:
        raise TypeError(f"folder: got {shown(folder)}; expected a path") from None
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise ValueError(f"folder: {path} is a file; expected a folder") from None
    return path
