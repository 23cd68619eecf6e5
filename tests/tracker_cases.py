"""The three experiment trackers, and what their own formats contain after training, in one form."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gdcore as gd
import pytest


class Run(NamedTuple):
    """One run: its curves by column and epoch, its parameters as text, and how it ended."""

    curves: dict[str, dict[int, float]]
    parameters: dict[str, str]
    end: str


class Case(NamedTuple):
    """A tracker: makes a callback that writes into a folder, and reads all runs there, in order of time."""

    module: str
    extra: str
    make: Callable[..., Any]
    runs: Callable[[Path], list[Run]]


def isolate(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep all trackers in a folder, and off the network."""
    settings = {"MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}  # a store without a database
    settings |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    settings |= {"WANDB_X_SERVICE_WAIT": "300", "WANDB_INIT_TIMEOUT": "300"}  # seconds
    settings |= {f"WANDB_{name}_DIR": str(folder / name) for name in ("CACHE", "CONFIG", "DATA", "ARTIFACT")}
    for name, value in (settings | {"WANDB_ERROR_REPORTING": "false"}).items():
        monkeypatch.setenv(name, value)


# ---- TensorBoard ----------------------------------------------------------------------------------------------------
def tensorboard_runs(folder: Path) -> list[Run]:
    """Read with TensorBoard's own reader, which hides what a later run has replaced."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    found = []
    for path in sorted(path for path in (folder / "runs").glob("*") if path.is_dir()):
        events = EventAccumulator(str(path), size_guidance={"scalars": 0, "tensors": 0})
        events.Reload()
        columns = {name: {e.step: e.value for e in events.Scalars(name)} for name in events.Tags()["scalars"]}
        text = events.Tensors("parameters/text_summary")[-1].tensor_proto.string_val[0].decode()
        cells = [line.strip("| ").split(" | ", 1) for line in text.splitlines()[2:]]
        notes = events.summary_metadata
        ended = f"_hparams_/session_{'end' if '_hparams_/session_end_info' in notes else 'start'}_info" in notes
        started = HParamsPluginData.FromString(
            notes["_hparams_/session_start_info"].plugin_data.content
        ).session_start_info.hparams
        assert started.keys() == {name for name, _ in cells}
        end = "good" if ended and "_hparams_/session_end_info" in notes else "bad"
        found.append(Run({name: curve for name, curve in columns.items() if curve}, dict(cells), end))
    return found


# ---- MLflow ---------------------------------------------------------------------------------------------------------
def mlflow_runs(folder: Path) -> list[Run]:
    """Read with MLflow's client."""
    import mlflow

    client = mlflow.MlflowClient()
    everything = [experiment.experiment_id for experiment in client.search_experiments()]
    found = []
    for run in client.search_runs(everything, order_by=["attributes.start_time ASC"]):
        curves = {
            name: {metric.step: metric.value for metric in client.get_metric_history(run.info.run_id, name)}
            for name in run.data.metrics
        }
        end = {"FINISHED": "good", "FAILED": "bad", "KILLED": "stopped"}.get(run.info.status, run.info.status)
        found.append(Run(curves, dict(run.data.params), end))
    return found


# ---- Weights & Biases -----------------------------------------------------------------------------------------------
BLOCK, HEADER = 32768, 7


def finished(path: Path) -> list[Any]:
    """Return the records of a run that is over, whose last ones wandb's process may write a little later."""
    for _ in range(2000):
        found = list(records(path))
        if any(record.WhichOneof("record_type") == "exit" for record in found):
            return found
        time.sleep(0.05)
    raise AssertionError(f"{path} never ends")


def records(path: Path) -> Iterator[Any]:
    """Read the records of an offline run: LevelDB's log format after a header of its own."""
    from wandb.proto import wandb_internal_pb2

    data, at, whole = path.read_bytes(), HEADER, b""
    assert not data or data.startswith(b":W&B")
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        size, kind = struct.unpack("<HB", data[at + 4 : at + HEADER])
        if at + HEADER + size > len(data):  # of which a part is written
            return
        whole += data[at + HEADER : at + HEADER + size]
        at += HEADER + size
        if kind in (1, 4):  # the only part, or the last
            yield wandb_internal_pb2.Record.FromString(whole)
            whole = b""


def wandb_runs(folder: Path) -> list[Run]:
    """Read the offline folders; those of one run, continued, are one."""
    found: dict[str, Run] = {}

    def begun(path: Path) -> tuple[str, int]:
        return path.parent.name.split("-")[2], path.stat().st_mtime_ns  # names have the second

    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb"), key=begun):
        name = path.stem
        curves, parameters, end = found.get(name, Run({}, {}, ""))
        for record in finished(path):
            kind = record.WhichOneof("record_type")
            if kind in ("run", "config"):
                update = record.run.config.update if kind == "run" else record.config.update
                values = {item.key: json.loads(item.value_json) for item in update if item.key != "_wandb"}
                parameters |= {key: str(value) for key, value in values.items()}
            elif kind == "history":
                row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
                for key in row.keys() - {"epoch", "_step", "_runtime", "_timestamp"}:
                    curves.setdefault(key, {})[row["epoch"]] = float(row[key])
            elif kind == "exit":
                end = {0: "good", 255: "stopped"}.get(record.exit.exit_code, "bad")
        found[name] = Run(curves, parameters, end)
    return list(found.values())


CASES = {
    "TensorBoard": Case(
        "tensorboardX",
        "tensorboard",
        lambda folder, name="one", **options: gd.TensorBoard(folder / "runs" / name, **options),
        tensorboard_runs,
    ),
    "MLflow": Case("mlflow", "mlflow", lambda folder, name=None, **options: gd.MLflow(**options), mlflow_runs),
    "WandB": Case(
        "wandb", "wandb", lambda folder, name=None, **options: gd.WandB(dir=str(folder), **options), wandb_runs
    ),
}
