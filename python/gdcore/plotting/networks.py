"""The figure of the learning curves of several networks: their loss by epoch, on training and on validation rows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .figures import BLUE, DASHED, VERMILION, dress, new_axes

if TYPE_CHECKING:
    from ..history import History


def networks_curve(histories: Sequence[History], path: Path, name: str) -> None:
    """Draw the losses of networks, one line each, into a file, whose old content stays if that fails.

    Parameters
    ----------
    histories : sequence of History
        The epochs of each network.
    path : Path
        The file; its ending gives the format.
    name : str
        Name of the argument, for messages.
    """
    from ..io import destination

    axes = new_axes(True, name)
    validated = all("val_loss" in history for history in histories)
    for i, history in enumerate(histories):
        for column, label, colour in (("loss", "training", BLUE), ("val_loss", "validation", VERMILION)):
            if column in history:
                style = {"color": colour, "lw": 1.2, "alpha": 0.8, "ls": DASHED if column == "loss" else "-"}
                marker = "o" if history.height == 1 else None
                axes.plot(history["epoch"], history[column], marker=marker, label=None if i else label, **style)
    title = "Loss of each network on its training rows"
    if validated:
        best = [history.best_epoch("val_loss") for history in histories]
        span = f"epoch {best[0]}" if min(best) == max(best) else f"epochs {min(best)} to {max(best)}"
        title = f"Validation loss is lowest after {span}"
    dress(axes, title, "epoch", "loss")
    form = path.suffix[1:].lower()
    destination.write(
        os.fspath(path), name, lambda file: axes.figure.savefig(file, format=form, dpi=150, facecolor="white")
    )
