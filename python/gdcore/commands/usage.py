"""Usage of the command line: its parser, and words that it does not know, each with the nearest one that it does."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import NoReturn

from ..internal.checks import shown, suggestion

__all__ = ["Parser", "commands_of", "parsed"]

CHOSEN = "it is chosen for the table (docs/tables.md); --time bounds the training"
# By command, options that others have: what to do instead.
INSTEAD = {
    "gdcore train": {
        **dict.fromkeys(("epochs", "max-epochs", "n-epochs", "max-iter", "patience", "early-stopping"), CHOSEN),
        **dict.fromkeys(("lr", "learning-rate", "batch-size", "optimizer", "weight-decay", "dropout"), CHOSEN),
        **dict.fromkeys(("metric", "metrics"), "gdcore evaluate MODEL FILE --metric NAME measures"),
        **dict.fromkeys(("n-estimators", "models"), "did you mean --ensemble?"),
        **dict.fromkeys(("validation", "test-size"), "did you mean --test?"),
    },
}
NUMBER = r"-\d+|-\d*\.\d+"  # which argparse takes as a value


class Parser(argparse.ArgumentParser):
    """A parser with errors of one line."""

    def error(self, message: str) -> NoReturn:
        """Write a line to the standard error output, and leave with status 2."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def commands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command."""
    [found] = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found.choices)


def parsed(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """Return the arguments in the words of a command line.

    Raises
    ------
    SystemExit
        With status 2 if they are wrong. What is misspelt is said before what is missing, as the one follows from the
        other.
    """
    commands = commands_of(parser)
    place = next((i for i, word in enumerate(words) if not word.startswith("-")), len(words))
    _refuse_unknown(parser, words[:place])
    if place < len(words):
        name = words[place]
        if name not in commands:
            near = suggestion(name, commands)
            parser.error(f"got the unknown command {shown(name)}; expected one of {', '.join(commands)}{near}")
        _refuse_unknown(commands[name], words[place + 1 :])
    options, more = parser.parse_known_args(words)
    if more:
        options.parser.error(f"got {shown(more[0])} beside all that the command takes; expected fewer arguments")
    return options


def _refuse_unknown(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Refuse words that look like options, and are none; unique beginnings of options are options."""
    known = [option for action in parser._actions for option in action.option_strings]
    long = [option.removeprefix("--") for option in known if option.startswith("--")]
    for word in words:
        if word == "--":
            return
        name = word.partition("=")[0]
        if name in ("", "-") or name[0] != "-" or " " in name or re.fullmatch(NUMBER, word):  # a value
            continue
        if name.startswith("--"):
            there = any(option.startswith(name) for option in known)
        else:  # one letter, or several of them, as -qh
            there = all(f"-{letter}" in known for letter in name[1:])
        if not there:
            there_is = INSTEAD.get(parser.prog, {}).get(name.lstrip("-").replace("_", "-"))
            near = f"; {there_is}" if there_is else suggestion(name.lstrip("-"), long).replace("mean ", "mean --")
            parser.error(f"got the unknown option {name}{near}")
