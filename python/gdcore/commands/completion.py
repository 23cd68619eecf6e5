"""Completion of arguments by the shell, by argcomplete: also of columns, whose names are read from the file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..internal.checks import optional_module
from .reading import FORMATS, format_of, opened
from .train import KINDS
from .usage import commands_of

__all__ = ["answer"]

TABLES = [*(ending[1:] for ending in FORMATS), "csv.gz", "tsv.gz"]
MODELS = ["safetensors", "st", "ckpt"]


def answer(parser: argparse.ArgumentParser) -> None:
    """Answer the shell that asks for completions, as the environment variable _ARGCOMPLETE says, and end the process.

    Raises
    ------
    ImportError
        If argcomplete is not installed.
    """
    argcomplete = optional_module("argcomplete", "completion", "gdcore[cli]")
    for command in commands_of(parser).values():
        for action in command._actions:
            completer = _completer(action, argcomplete)
            if completer is not None:
                vars(action)["completer"] = completer
    argcomplete.autocomplete(parser, always_complete_options=False)


def _completer(action: argparse.Action, argcomplete: Any) -> Any:
    """Return what completes the values of an argument; None for those that argparse knows, and for paths."""
    if action.metavar in ("DATA", "MODEL"):
        return argcomplete.FilesCompleter(TABLES if action.metavar == "DATA" else MODELS)
    if action.metavar in ("COLUMN", "COLUMN=KIND"):
        return _columns if action.metavar == "COLUMN" else _kinds
    return {"metric": _metrics, "only": _pictures, "name": _results}.get(action.dest)


def _columns(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """Return the columns of the file that has been typed before."""
    path = Path(str(parsed_args.data))
    if not path.is_file() or (parsed_args.format or format_of(path)) is None:
        return []
    try:
        source = opened(
            path, form=parsed_args.format, separator=parsed_args.separator, encoding=parsed_args.encoding
        )  # fmt: skip
    except (ImportError, OSError, ValueError):
        return []  # the command itself will say what is wrong
    return list(source.names)


def _kinds(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    return [f"{name}={kind}" for name in _columns(parsed_args) for kind in KINDS]


def _metrics(**_: Any) -> list[str]:
    from ..metrics.names import KNOWN

    return list(KNOWN)


def _pictures(**_: Any) -> list[str]:
    from ..chapter import gallery

    return list(gallery.PICTURES)


def _results(**_: Any) -> list[str]:
    from ..chapter.reproductions import REPRODUCTIONS

    return list(REPRODUCTIONS)
