"""The history as a run of Weights & Biases."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..internal.arguments import explained
from ..internal.attributes import Fixed
from .tracker import Tracker

if TYPE_CHECKING:
    from ..trainer import Trainer

__all__ = ["WandB"]

OURS = {"config": "parameters=", "reinit": "nothing", "resume": "Trainer.fit(resume=...), which continues the run"}
CTRL_C = 255  # the exit code by which Weights & Biases knows it


@explained
class WandB(Tracker):
    """Write the history and the parameters of a run to Weights & Biases.

    Without arguments, a `fit` after ``wandb.init()`` writes to that run and leaves it open. Otherwise it is a run of
    its own, which is marked as failed after an exception or Ctrl-C.

    Parameters
    ----------
    project : str, optional
        The project's name.
    parameters : dict, optional
        Parameters to write besides those of the trainer and its data.
    **init
        Further arguments of ``wandb.init``, such as ``name``, ``group``, ``tags``, ``dir``, ``mode="offline"``.

    Raises
    ------
    ImportError
        When `fit` is called, if wandb is not installed: ``pip install "gdcore[wandb]"``.
    TypeError
        If `init` has ``config``, ``reinit`` or ``resume``, which are the callback's.

    Notes
    -----
    Copies, as `restarts` makes for every start, write a run each. Curves are over the column "epoch". A training that
    resumes from a `Checkpoint` continues its run (offline in a second folder, which ``wandb sync`` adds to the run). In
    a run that has a parameter already, it stays as it is.
    """

    __slots__ = ("_columns", "_init", "_logger", "_project")
    _settings = ("_project", "_init")
    project: Fixed[str | None] = Fixed("The project's name.", "make another WandB")

    def __init__(self, project: str | None = None, *, parameters: Mapping[str, Any] | None = None, **init: Any) -> None:
        for name in OURS.keys() & init:
            raise TypeError(f"[WandB] {name}: is not passed on to wandb.init; expected {OURS[name]}")
        self._project, self._init = project, init
        super().__init__(parameters)

    def check_fit(self, trainer: Trainer) -> None:
        """Check that wandb is installed."""
        self._module("wandb", "wandb")

    def _begin(self, run: str | None) -> str:
        wandb, self._columns = self._module("wandb", "wandb"), set[str]()
        run = run if self._own else None
        self._own = wandb.run is None or self._copied or self._project is not None or bool(self._init)
        again = {}
        if run is not None and self._own:
            again = {"id": run, "resume": "allow"}
            time.sleep(
                1.0 - time.time() % 1.0
            )  # wandb names files by the second: this one would replace the one before
        arguments = {"project": self._project, "reinit": "create_new", **self._init, **again}
        self._logger = wandb.init(**arguments) if self._own else wandb.run
        return str(self._logger.id)

    def _describe(self, parameters: dict[str, Any]) -> None:
        self._logger.config.setdefaults(parameters)

    def _write(self, epoch: int, row: dict[str, float]) -> None:
        for name in row.keys() - self._columns:
            self._logger.define_metric(name, step_metric="epoch")
        self._columns |= row.keys()
        self._logger.log({"epoch": epoch, **row})

    def _end(self, error: BaseException | None) -> None:
        if self._own:
            self._logger.finish(exit_code=0 if error is None else 1 if isinstance(error, Exception) else CTRL_C)
