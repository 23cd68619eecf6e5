"""The progress line."""

from __future__ import annotations

import importlib.util
import math
import sys
import time
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Self, TextIO, TypeVar

from ..internal.arguments import explained
from ..internal.attributes import Closed, Fixed
from ..internal.checks import flag, optional_module
from .callback import Callback
from .early_stopping import EarlyStopping
from .watch import watching

if TYPE_CHECKING:
    from ..trainer import Trainer

__all__ = ["Progress"]

P = TypeVar("P", bound="Progress")
SECONDS = 0.1  # between two drawings of the line


@explained
class Progress(Closed, Callback):
    """One line with the epoch, the time left, the speed, the learning rate, the losses, and the best value so far.

    The best value is that of each column which another callback monitors, and its epoch, if it is known.

    Parameters
    ----------
    force : bool
        Whether to show it without a terminal or notebook too; by default log files do not contain it.
    file : text file, optional
        Where to write; the standard error output when left out.

    Raises
    ------
    ImportError
        When `fit` is called, if tqdm is not installed.
    """

    __slots__ = ("_bar", "_drawn", "_file", "_first", "_first_step", "_force", "_measured", "_started", "_watching")
    records = True
    force: Fixed[bool] = Fixed("Whether it is shown without a terminal too.", "make another Progress")
    file: Fixed[TextIO | None] = Fixed("Where it is written.", "make another Progress")

    def __init__(self, *, force: bool = False, file: TextIO | None = None) -> None:
        self._force = flag(force, "force")
        self._file = file
        self._bar: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Support copies and pickles: of the arguments, not of the line on the screen."""
        return _rebuild, (type(self), self._force, self._file), getattr(self, "__dict__", None)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return a copy that writes to the same file."""
        copied = _rebuild(type(self), self._force, self._file)
        getattr(copied, "__dict__", {}).update(deepcopy(getattr(self, "__dict__", {}), memo))
        return copied

    def check_fit(self, trainer: Trainer) -> None:
        """Check that tqdm is installed, if the line is visible."""
        if self.force or visible(sys.stderr if self.file is None else self.file):
            optional_module("tqdm", "Progress", "tqdm")

    def on_train_begin(self, trainer: Trainer) -> None:
        """Draw the line, if it is visible."""
        file = sys.stderr if self.file is None else self.file
        self._bar = None
        if not (self.force or visible(file)):
            return
        self._measured: dict[str, float] = {}
        found = watching(trainer)
        by_column = {callback._watch.monitor: callback for callback in reversed(found)}
        self._watching: dict[str, Any] = by_column | {c.monitor: c for c in found if isinstance(c, EarlyStopping)}
        self._first = trainer.epoch
        self._drawn = self._started = time.monotonic()
        self._first_step = trainer.steps
        self._bar = tqdm_bar(
            "Progress",
            file,
            desc=f"epoch {trainer.epoch}/{trainer.last_epoch}",
            total=max(trainer.last_epoch - trainer.epoch, 0),
            bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
        )

    def on_progress(self, trainer: Trainer, batch: int, batches: int | None, loss: float) -> None:
        """Advance by the finished part of the epoch."""
        if self._bar is not None and time.monotonic() - self._drawn >= SECONDS:
            self._measured["loss"] = loss
            position = (
                f"epoch {trainer.epoch + 1}/{trainer.last_epoch}, batch {batch:,}{f'/{batches:,}' if batches else ''}"
            )
            self._draw(trainer, position, trainer.epoch + (batch / batches if batches else 0.0))

    def on_epoch_end(self, trainer: Trainer, logs: dict[str, float]) -> None:
        """Show the epoch's losses and metrics."""
        if self._bar is not None:
            self._measured = logs
            if time.monotonic() - self._drawn >= SECONDS:
                self._draw(trainer, f"epoch {trainer.epoch}/{trainer.last_epoch}", trainer.epoch)

    def on_train_end(self, trainer: Trainer) -> None:
        """Draw the line a last time and end it."""
        if self._bar is not None:
            self._draw(trainer, f"epoch {trainer.epoch}/{trainer.last_epoch}", trainer.epoch)
            self._bar.close()
            self._bar = None

    def _draw(self, trainer: Trainer, position: str, epochs: float) -> None:
        now = time.monotonic()
        speed = (trainer.steps - self._first_step) / max(now - self._started, 1e-9)
        numbers = [f"{speed:,.0f} batches/s", f"lr {trainer.lr:.3g}"]
        numbers += [
            f"{name} {value:.4g}" for name, value in self._measured.items() if name not in ("epoch", "lr", "seconds")
        ]
        for monitor, callback in self._watching.items():
            best, epoch = callback._watch.best, getattr(callback, "best_epoch", 0)
            if math.isfinite(best):
                numbers.append(f"best {monitor} {best:.4g}{f' (epoch {epoch})' if epoch else ''}")
        self._drawn = now
        self._bar.n = epochs - self._first
        self._bar.set_description_str(position, refresh=False)
        self._bar.set_postfix_str(", ".join(numbers), refresh=False)
        self._bar.refresh()


def _rebuild(kind: type[P], force: bool, file: TextIO | None) -> P:
    made = kind.__new__(kind)
    Progress.__init__(made, force=force, file=file)
    return made


def visible(file: Any) -> bool:
    """Return whether the output is visible: a terminal, or a notebook (which shows the line in place)."""
    isatty = getattr(file, "isatty", None)
    return bool(isatty is not None and isatty()) or in_notebook()


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    get_shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)
    return getattr(get_shell(), "kernel", None) is not None


def tqdm_bar(what: str, file: Any, bar_format: str | None = None, **options: Any) -> Any:
    """Return a progress bar of tqdm; in a notebook a widget, where ipywidgets is installed.

    It is what ``tqdm.auto`` chooses, without its warning if there are no widgets.
    """
    tqdm = optional_module("tqdm", what, "tqdm").tqdm
    if file is sys.stderr and in_notebook() and importlib.util.find_spec("ipywidgets") is not None:
        tqdm = importlib.import_module("tqdm.notebook").tqdm
    elif bar_format is not None:  # a short bar leaves room for the numbers
        bar_format = bar_format.replace("{bar}", "{bar:10}")
    return tqdm(file=file, dynamic_ncols=True, bar_format=bar_format, **options)
