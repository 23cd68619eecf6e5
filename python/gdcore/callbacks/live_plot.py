"""Learning curves that are drawn while `fit` runs."""

from __future__ import annotations

import importlib
import io
import os
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ..internal.arguments import explained
from ..internal.attributes import Closed, Fixed
from ..internal.checks import flag, is_iterable, optional_module, real, shown
from ..io import destination
from ..metrics import direction
from .callback import Callback
from .progress import in_notebook
from .watch import watching

if TYPE_CHECKING:
    from _typeshed import StrOrBytesPath

    from ..trainer import Trainer

__all__ = ["LivePlot"]

L = TypeVar("L", bound="LivePlot")
WIDTH, HEIGHT, RESOLUTION = 7.0, 3.4, 150  # of a panel, in inches, and dots per inch


@explained
class LivePlot(Closed, Callback):
    """Draw the learning curves while `fit` runs: a figure in a notebook that is drawn anew, or a file.

    There is a panel for each measure, on training and validation data, with the best epoch marked.

    Parameters
    ----------
    path : path, optional
        The figure's file (.png, .svg, .pdf), which each drawing replaces. It is needed outside of notebooks; in one,
        the figure is then not shown.
    measures : sequence of str, optional
        What to draw, without "val_". By default the loss, and what other callbacks monitor.
    seconds : float
        Least time between two drawings, which take about 0.2 s for each measure. The last epoch is always drawn.
    log : bool
        Logarithmic vertical axes.

    Raises
    ------
    ImportError
        When `fit` is called, if matplotlib is not installed: ``pip install "gdcore[notebook]"``.
    ValueError
        When `fit` is called without `path`, if the process is no notebook's.
    """

    __slots__ = ("_drawn", "_handle", "_log", "_measures", "_path", "_seconds", "_stale")
    records = True
    path: Fixed[str | None] = Fixed("The figure's file, if there is one.", "make another LivePlot")
    measures: Fixed[tuple[str, ...] | None] = Fixed("What is drawn, if it was chosen.", "make another LivePlot")
    seconds: Fixed[float] = Fixed("Least time between two drawings.", "make another LivePlot")
    log: Fixed[bool] = Fixed("Whether the vertical axes are logarithmic.", "make another LivePlot")

    def __init__(
        self,
        path: StrOrBytesPath | None = None,
        *,
        measures: Sequence[str] | None = None,
        seconds: float = 2.0,
        log: bool = False,
    ) -> None:
        self._path = None if path is None else destination.path_of(path, "path", "a path")
        self._measures = None if measures is None else _names(measures)
        self._seconds, self._log = real(seconds, "seconds", low=0), flag(log, "log")
        self._handle: Any = None
        self._drawn, self._stale = 0.0, False

    def __reduce__(self) -> tuple[Any, ...]:
        """Support copies and pickles: of the arguments, not of the figure."""
        arguments = {name: getattr(self, name) for name in ("path", "measures", "seconds", "log")}
        return _rebuilt, (type(self), arguments, getattr(self, "__dict__", {}))

    def check_fit(self, trainer: Trainer) -> None:
        """Check that there is a place to draw, and that matplotlib is installed."""
        known = _figure((1, 1)).canvas.get_supported_filetypes()
        if self._path is not None:
            destination.check(self._path, "path")
            if _ending(self._path) not in known:
                endings = ", ".join(f".{ending}" for ending in sorted(known))
                raise ValueError(f"path: got {shown(self._path)}; expected a name that ends in one of {endings}")
        elif not in_notebook():
            raise ValueError("path: got None outside of a notebook; expected the figure's file: LivePlot('curves.png')")

    def on_train_begin(self, trainer: Trainer) -> None:
        """Begin another figure below the notebook's cell."""
        self._handle, self._stale, self._drawn = None, False, -float("inf")

    def on_epoch_end(self, trainer: Trainer, logs: dict[str, float]) -> None:
        """Draw when due."""
        self._stale = True
        if time.monotonic() - self._drawn >= self._seconds:
            self._draw(trainer)

    def on_train_end(self, trainer: Trainer) -> None:
        """Draw the last epochs."""
        if self._stale:
            self._draw(trainer)

    def _panels(self, trainer: Trainer) -> dict[str, str | None]:
        """Return the measures that have columns, and which direction of each is better, where it is known."""
        from ..plotting.learning_curve import columns_of

        watched = {each._watch.monitor.removeprefix("val_"): each._watch.mode for each in watching(trainer)}
        names = self._measures or dict.fromkeys(["loss", *watched])
        for name in names:
            if not columns_of(trainer.history, name):
                known = ", ".join(trainer.history)
                raise ValueError(
                    f"measures: no column {shown(name)} or {shown('val_' + name)}; the columns are {known}"
                )
        return {name: watched.get(name) or _direction(name) for name in names}

    def _draw(self, trainer: Trainer) -> None:
        from ..plotting.learning_curve import draw  # here, to keep `import gdcore` fast

        self._stale, panels = False, self._panels(trainer)
        figure = _figure((WIDTH, HEIGHT * len(panels)))
        for axes, (name, mode) in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels.items(), strict=True):
            draw(axes, trainer.history, name, self._log, mode)
        save = partial(figure.savefig, dpi=RESOLUTION, facecolor="white")
        if self._path is not None:
            destination.write(self._path, "path", partial(save, format=_ending(self._path)))
        else:
            image = io.BytesIO()
            save(image, format="png")
            self._show(image.getvalue())
        self._drawn = time.monotonic()

    def _show(self, image: bytes) -> None:
        """Show the figure in the notebook, in place of the one before."""
        display = importlib.import_module("IPython.display")
        picture = display.Image(image, format="png", width=int(WIDTH * 96))
        if self._handle is None:
            self._handle = display.display(picture, display_id=True)
        else:
            self._handle.update(picture)


def _figure(size: tuple[float, float]) -> Any:
    figures = optional_module("matplotlib.figure", "LivePlot", '"gdcore[notebook]"')
    return figures.Figure(figsize=size, layout="constrained")


def _ending(path: str) -> str:
    return os.path.splitext(path)[1].removeprefix(".").lower()


def _names(measures: Any) -> tuple[str, ...]:
    listed = list(measures) if is_iterable(measures) and not isinstance(measures, str) else []
    if not listed or not all(isinstance(name, str) for name in listed):
        raise TypeError(f"measures: got {shown(measures)}; expected a list of names, such as ['loss', 'accuracy']")
    return tuple(dict.fromkeys(name.removeprefix("val_") for name in listed))


def _direction(name: str) -> str | None:
    try:
        return direction(name, None)
    except ValueError:
        return None


def _rebuilt(kind: type[L], arguments: dict[str, Any], own: dict[str, Any]) -> L:
    made = kind.__new__(kind)
    LivePlot.__init__(made, **arguments)
    getattr(made, "__dict__", {}).update(own)
    return made
