"""The history for TensorBoard."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..internal.arguments import explained
from ..internal.attributes import Fixed
from ..io import destination
from ..table import Table
from .tracker import Tracker

if TYPE_CHECKING:
    from _typeshed import StrOrBytesPath

    from ..trainer import Trainer

__all__ = ["TensorBoard"]


@explained
class TensorBoard(Tracker):
    """Write the history and the parameters of a run for TensorBoard: ``tensorboard --logdir runs``.

    Every column is a curve of the epochs. The parameters are a text, and for comparing runs also in the tab HPARAMS.

    Parameters
    ----------
    path : path
        The run's folder, such as "runs/one", created if missing. A later `fit` of the same trainer continues its
        curves; another run there takes their place.
    parameters : dict, optional
        Parameters to write besides those of the trainer and its data.

    Raises
    ------
    ImportError
        When `fit` is called, if neither tensorboardX (``pip install "gdcore[tensorboard]"``) nor PyTorch's writer is
        installed.
    """

    __slots__ = ("_described", "_hparams", "_path", "_writer")
    _settings = ("_path",)
    path: Fixed[str] = Fixed("The run's folder.", "make another TensorBoard")

    def __init__(self, path: StrOrBytesPath, *, parameters: Mapping[str, Any] | None = None) -> None:
        self._path = destination.path_of(path, "path", "the path of a folder")
        super().__init__(parameters)

    def check_fit(self, trainer: Trainer) -> None:
        """Check that there is a writer, and that the path is no file."""
        if os.path.exists(self._path) and not os.path.isdir(self._path):
            raise NotADirectoryError(f"path: {self._path!r} is a file; expected a folder for TensorBoard")
        self._library()

    def _library(self) -> Any:
        """Return tensorboardX, or PyTorch's writer, which needs the package tensorboard."""
        try:
            return importlib.import_module("tensorboardX")
        except ImportError:
            try:
                return importlib.import_module("torch.utils.tensorboard")
            except ImportError:
                return self._module("tensorboardX", "tensorboard")

    def _begin(self, run: str | None) -> str:
        library = self._library()
        self._hparams = importlib.import_module(f"{library.__name__}.summary").hparams
        first = 0 if run is None else int(self._row["epoch"]) + 1  # events of the folder from there on are hidden
        self._writer = library.SummaryWriter(self._path, purge_step=first, filename_suffix=f".{time.time_ns()}")
        return self._path

    def _describe(self, parameters: dict[str, Any]) -> None:
        table = Table({"parameter": list(parameters), "value": list(parameters.values())})
        self._writer.add_text("parameters", table.to_markdown(), 0)
        kinds = (bool, int, float, str)
        self._described = {name: v if isinstance(v, kinds) else str(v) for name, v in parameters.items()}

    def _write(self, epoch: int, row: dict[str, float]) -> None:
        for name, value in row.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def _end(self, error: BaseException | None) -> None:
        experiment, start, end = self._hparams(self._described, dict.fromkeys(self._row.keys() - {"epoch"}, 0.0))
        for summary in (experiment, start) if error else (experiment, start, end):
            self._writer.file_writer.add_summary(summary)
        self._writer.close()

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: a resumed training writes the whole history again, as the folder may be another one."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take nothing."""
