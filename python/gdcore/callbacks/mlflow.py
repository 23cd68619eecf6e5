"""The history as a run of MLflow."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..internal.arguments import explained
from ..internal.attributes import Fixed
from .tracker import Tracker

if TYPE_CHECKING:
    from ..trainer import Trainer

__all__ = ["MLflow"]

_making = threading.Lock()  # of experiments, which folders would contain twice


@explained
class MLflow(Tracker):
    """Write the history and the parameters of a run to MLflow: to the server of ``mlflow.set_tracking_uri``.

    Without arguments, a `fit` inside ``with mlflow.start_run():`` writes to that run and leaves it open. Otherwise it
    is a run of its own (nested, inside another): "FINISHED", "FAILED" after an exception, "KILLED" after Ctrl-C.

    Parameters
    ----------
    experiment : str, optional
        The experiment's name, created if missing; that of ``mlflow.set_experiment`` when left out.
    name : str, optional
        The run's name; MLflow invents one when left out.
    parameters : dict, optional
        Parameters to write besides those of the trainer and its data.

    Raises
    ------
    ImportError
        When `fit` is called, if MLflow is not installed; ``pip install "gdcore[mlflow]"`` suffices for a server.

    Notes
    -----
    Copies, as `restarts` makes for every start, write a run each. The step of a metric is the epoch. A training that
    resumes from a `Checkpoint` continues its run. In a run that has a parameter already, it stays as it is. Characters
    that MLflow does not take in names become "_".
    """

    __slots__ = ("_client", "_experiment", "_name", "_place")
    _settings = ("_experiment", "_name")
    experiment: Fixed[str | None] = Fixed("The experiment's name.", "make another MLflow")
    name: Fixed[str | None] = Fixed("The run's name.", "make another MLflow")

    def __init__(
        self,
        experiment: str | None = None,
        *,
        name: str | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        self._experiment, self._name = experiment, name
        self._place: tuple[str | None, ...] | None = None  # where a copy writes
        super().__init__(parameters)

    def __reduce__(self) -> tuple[Any, ...]:
        """Support copies and pickles: of the arguments, and of where to write, for other processes."""
        kind, (made, arguments, own) = super().__reduce__()
        return kind, (made, arguments | {"_place": self._place or _place()}, own)

    def check_fit(self, trainer: Trainer) -> None:
        """Check that MLflow is installed."""
        self._module("mlflow", "mlflow")

    def _begin(self, run: str | None) -> str:
        mlflow, (uri, *place) = self._module("mlflow", "mlflow"), self._place or _place()
        self._client = client = mlflow.MlflowClient(uri)
        active = mlflow.active_run()
        if active is not None and not self._copied and self._experiment is None and self._name is None:
            self._own = False
            return str(active.info.run_id)
        if run is None or not self._own:
            tags = self._module("mlflow.tracking.context.registry", "mlflow").resolve_tags()  # user, source, commit
            tags |= {} if active is None else {"mlflow.parentRunId": active.info.run_id}
            run = str(client.create_run(self._number(*place), run_name=self._name, tags=tags).info.run_id)
        else:
            client.update_run(run, status="RUNNING")
        self._own = True
        return run

    def _number(self, number: str | None, name: str | None) -> str:
        """Return the number of the experiment, made if it is missing; otherwise that of the environment."""
        name = self._experiment or (None if number else name)
        if name is None:
            return number or "0"
        with _making:
            found = self._client.get_experiment_by_name(name)
            if found is None:
                with contextlib.suppress(self._module("mlflow.exceptions", "mlflow").MlflowException):
                    return str(self._client.create_experiment(name))
                found = self._client.get_experiment_by_name(name)  # made by another process in between
            return str(found.experiment_id)

    def _describe(self, parameters: dict[str, Any]) -> None:
        entities = self._module("mlflow.entities", "mlflow")
        there = self._client.get_run(self._run).data.params
        new = [
            entities.Param(_name(name), str(value)) for name, value in parameters.items() if _name(name) not in there
        ]
        self._client.log_batch(self._run, params=new)

    def _write(self, epoch: int, row: dict[str, float]) -> None:
        entities, now = self._module("mlflow.entities", "mlflow"), int(time.time() * 1000)
        self._client.log_batch(self._run, metrics=[entities.Metric(_name(key), row[key], now, epoch) for key in row])

    def _end(self, error: BaseException | None) -> None:
        if self._own:
            status = "FINISHED" if error is None else "FAILED" if isinstance(error, Exception) else "KILLED"
            self._client.set_terminated(self._run, status)


def _name(name: str) -> str:
    return re.sub(r"[^\w/. -]", "_", name)


def _place() -> tuple[str | None, ...]:
    """Return where MLflow writes: its server, and number and name of the experiment, of which one may be set."""
    loaded = sys.modules.get("mlflow")
    uri = os.environ.get("MLFLOW_TRACKING_URI") if loaded is None else loaded.get_tracking_uri()
    return uri, os.environ.get("MLFLOW_EXPERIMENT_ID"), os.environ.get("MLFLOW_EXPERIMENT_NAME")
