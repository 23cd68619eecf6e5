"""The command line: its parser, and the commands ``info``, ``inspect``, ``gallery`` and ``reproduce``.

Those that work on tables, ``train``, ``evaluate``, ``predict`` and ``export``, are in `commands`, a module each.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import inspect
import os
import sys
import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from ._core import __version__
from .commands import evaluate, export, predict, train
from .commands.usage import Parser, parsed
from .internal.checks import suggestion

__all__ = ["main"]

PACKAGES = (
    "numpy", "scipy", "matplotlib", "joblib", "tqdm", "pandas", "pyarrow", "scikit-learn", "onnx", "mnist1d", "torch",
    "nvidia-cublas",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Without the program's name; those of the process when left out.

    Returns
    -------
    int
        The exit status: 0, or 1 after an error, reported on the standard error output. Bad arguments raise SystemExit
        with status 2, as in argparse; Ctrl-C gives 130.
    """
    parser = _build()
    if "_ARGCOMPLETE" in os.environ and arguments is None:  # the shell asks what may follow
        from .commands.completion import answer

        answer(parser)
    options = parsed(parser, sys.argv[1:] if arguments is None else arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: _say(options, f"warning: {message}")
            options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("gdcore: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # its reader, such as head, has seen enough
        with contextlib.suppress(OSError):  # nothing more can be written when the interpreter ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError:
        _say(options, "not enough memory")
        return 1
    except (ArithmeticError, ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
        _say(options, _message(error))
        return 1
    return 0


def _message(error: Exception) -> str:
    """Return what an error says, without the number that the system gives it."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.strerror}: {error.filename!r}"
    return str(error)


def _say(options: argparse.Namespace, message: str) -> None:
    """Write a message in one line to the standard error output."""
    print(f"gdcore {options.command}: {' '.join(message.split())}", file=sys.stderr)


def _build() -> argparse.ArgumentParser:
    parser = Parser(prog="gdcore", description="Feed-forward networks trained by gradient descent.")
    parser.add_argument("--version", action="version", version=f"gdcore {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, run: Callable[[argparse.Namespace], None], help: str, more: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=more)
        sub.set_defaults(run=run, parser=sub)
        return sub

    for module in (train, evaluate, predict, export):
        name = module.__name__.rpartition(".")[2]
        module.add(command(name, module.run, module.HELP, module.MORE))
    command(
        "info",
        _info,
        "show version, devices, threads, instruction sets, packages",
        "Show what runs here: version, threads, instruction sets, devices, the GPU (or why it is not used), packages.",
    )
    show = command(
        "inspect",
        _inspect,
        "show what a saved model, ensemble or checkpoint contains",
        "Show what a saved model, ensemble or checkpoint contains: layers, names of columns and classes, training.",
    )
    show.add_argument("model", metavar="MODEL", type=Path, help="a file of save, for any kind of model, or Checkpoint")
    gallery = command(
        "gallery",
        _gallery,
        "draw the chapter's pictures",
        "Draw the chapter's pictures as NAME.png, each from training runs made on the spot (a minute for all of them).",
    )
    gallery.add_argument("out", metavar="OUT", nargs="?", type=Path, help="folder for the pictures; made if need be")
    gallery.add_argument("--only", metavar="NAME", action="append", help="draw this one only; may be given repeatedly")
    gallery.add_argument("--list", action="store_true", help="show the names and what there is to see, draw nothing")
    reproduce = command(
        "reproduce",
        _reproduce,
        "compute a published result again",
        "Compute a published result again, print it beside the published numbers, and write NAME.png, NAME.csv and "
        "NAME.md.",
    )
    reproduce.add_argument("name", metavar="NAME", nargs="?", help="which one")
    reproduce.add_argument("out", metavar="OUT", nargs="?", type=Path, help="folder for the files; made if need be")
    reproduce.add_argument("--list", action="store_true", help="show the names, compute nothing")
    return parser


def _info(options: argparse.Namespace) -> None:
    """Print version, devices and installed optional packages; imports none of these."""
    from ._core import info

    facts = {name.replace("_", " "): value for name, value in info().items()}
    for several in ("instruction sets", "devices"):
        facts[several] = ", ".join(facts[several])
    facts["python"] = sys.version.split()[0]
    for package in PACKAGES:
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            facts[package] = "not installed"
    width = max(map(len, facts))
    for name, value in facts.items():
        first, *more = str(value).splitlines() or [""]
        print(f"{name:<{width}}  {first}")
        for line in more:
            print(f"{'':<{width}}  {line}")


def _inspect(options: argparse.Namespace) -> None:
    """Print what a file contains."""
    from .io.inspection import contents

    print(contents(options.model))


def _gallery(options: argparse.Namespace) -> None:
    """Draw the pictures, and print each path when done."""
    from .chapter import gallery

    if options.list:
        _print_list({name: gallery.shows(name) for name in gallery.PICTURES})
        return
    for name in options.only or ():
        _known(options, "--only", name, gallery.PICTURES)
    if options.out is None:
        options.parser.error("OUT: got none; expected a folder for the pictures")
    _folder(options)
    started = time.perf_counter()
    for path in gallery.draw(options.out, options.only):
        print(f"{path}  ({time.perf_counter() - started:.1f} s)", flush=True)
        started = time.perf_counter()


def _reproduce(options: argparse.Namespace) -> None:
    """Compute one published result, print it and the paths of its files."""
    from .chapter.reproductions import REPRODUCTIONS

    if options.list:
        _print_list({name: inspect.getdoc(run) or "" for name, run in REPRODUCTIONS.items()})
        return
    if options.name is None or options.out is None:
        options.parser.error("NAME OUT: expected what to reproduce, and a folder for the files")
    _known(options, "NAME", options.name, REPRODUCTIONS)
    _folder(options)
    result = REPRODUCTIONS[options.name](options.out)
    print(result)
    print(f"\nfigure, table and notes: {options.out / result.name}.png, .csv, .md")


def _known(options: argparse.Namespace, argument: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        near = suggestion(name, known)
        options.parser.error(f"{argument}: got {name!r}; expected one of {', '.join(known)}{near}")


def _folder(options: argparse.Namespace) -> None:
    if options.out.exists() and not options.out.is_dir():
        options.parser.error(f"OUT: {options.out} is a file; expected a folder")


def _print_list(lines: Mapping[str, str]) -> None:
    width = max(map(len, lines))
    for name, text in lines.items():
        print(f"{name:<{width}}  {text.partition(chr(10))[0]}")
