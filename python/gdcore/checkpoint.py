"""The whole state of training in one file, and back.

A checkpoint is a model file (see `gdcore.saving`) with more in it: the optimiser's state, the steps made, the epoch and
the place inside it, the seed of the shuffling, the history, and what callbacks keep. Dropout needs no state of its own,
for its random numbers are a function of seed and step.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import _flat, _specs, saving
from ._arrays import Array
from ._checks import FormatError, shown
from ._core import DeviceArray
from ._fit import Fit, Position
from .callbacks import Callback
from .history import History

if TYPE_CHECKING:
    from .model import Sequential
    from .trainer import Trainer

ARRAYS = "training."  # what the names of all arrays beyond the model's begin with


def save(trainer: Trainer, path: str | os.PathLike[str]) -> None:
    """Write the state of `trainer` to a file; see `Trainer.save_checkpoint`."""
    fit = trainer._fit
    tensors = saving.model_tensors(trainer.model)
    tensors |= {f"{ARRAYS}optimizer.{name}": array for name, array in trainer.core.state().items()}
    training = {
        "steps": trainer.steps,
        "seed": trainer.seed,
        "lr_scale": trainer.lr_scale,
        "stopped": trainer.stop,
        "first_epoch": trainer.first_epoch,
        "position": list(Position() if fit is None else fit.position),
        "settings": None if fit is None else fit.settings(),
        "loss": _specs.encode(trainer.loss),
        "optimizer": _specs.encode(trainer.optimizer),
        "history": trainer.history.rows,
        "callbacks": [] if fit is None else _callback_states(fit.callbacks, tensors),
    }
    metadata = {"model": json.dumps(saving.describe(trainer.model)), "training": json.dumps(training)}
    saving.write_file(path, tensors, metadata)


class Saved(NamedTuple):
    """What a file of `save` holds."""

    path: str
    tensors: dict[str, Array]
    model: dict[str, Any]
    training: dict[str, Any]

    @property
    def seed(self) -> int:
        """Seed of the shuffling."""
        return int(self.training["seed"])


def read(path: str | os.PathLike[str]) -> Saved:
    """Read a file of `save`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FormatError
        If the file is damaged, or no checkpoint.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"resume: got {shown(path)}; expected the path of a checkpoint")
    name = os.fspath(path)
    if not os.path.exists(name):
        raise FileNotFoundError(f"resume: there is no file {name!r}; for a first run leave resume out")
    tensors, metadata = saving.read_file(name)
    if "training" not in metadata:
        raise FormatError(f"{name}: a model without a state of training; expected a file of Checkpoint")
    try:
        return Saved(name, tensors, json.loads(metadata["model"]), json.loads(metadata["training"]))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{name}: its description is no JSON: {error}") from error


def load(trainer: Trainer, path: str | os.PathLike[str]) -> None:
    """Give `trainer` back the state in a file; see `Trainer.load_checkpoint`."""
    saved = _unpadded(read(path), trainer.model)
    _compare(saved.path, _trainer_settings(trainer), _saved_settings(saved.model, saved.training))
    _take(trainer, saved)


def resume(trainer: Trainer, fit: Fit, saved: Saved) -> None:
    """Let `fit` go on where the run that wrote the file was.

    Raises
    ------
    ValueError
        If model, loss, optimiser or an argument of `fit` differ from those of that run; nothing is changed then.
    """
    saved = _unpadded(saved, trainer.model)
    training = saved.training
    present = _trainer_settings(trainer) | fit.settings()
    _compare(saved.path, present, _saved_settings(saved.model, training) | (training["settings"] or fit.settings()))
    states = _matched_states(saved.path, fit.callbacks, training["callbacks"], saved.tensors)

    def restore() -> None:
        for callback, state in states:
            callback.load_state_dict(state)

    restore()  # once before anything is changed, so that a callback may refuse; and again when the callbacks have begun
    _take(trainer, saved)
    fit.resume(int(training["first_epoch"]), Position(*training["position"]), bool(training["stopped"]), restore)


def _trainer_settings(trainer: Trainer) -> dict[str, Any]:
    """Return what a checkpoint must have in common with the trainer that takes it."""
    model = saving.describe(trainer.model)
    return {
        "layers": {"type": "layers"} | {str(i): layer for i, layer in enumerate(model["layers"])},
        "dtype": model["dtype"],
        "loss": _specs.encode(trainer.loss),
        "optimizer": _specs.encode(trainer.optimizer),
    }


def _saved_settings(model: Mapping[str, Any], training: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "layers": {"type": "layers"} | {str(i): layer for i, layer in enumerate(model["layers"])},
        "dtype": model["dtype"],
        "loss": training["loss"],
        "optimizer": training["optimizer"],
    }


def _compare(path: str, present: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    # Through JSON and back, as the saved ones went: numbers and tuples then look the same.
    changed = _specs.differences(dict(saved), json.loads(json.dumps(present)))
    if changed:
        raise ValueError(f"resume: {path} was written with other settings: {'; '.join(changed)}")


def _take(trainer: Trainer, saved: Saved) -> None:
    """Set everything; what could be refused is checked first."""
    tensors, model, training = saved.tensors, saved.model, saved.training
    state = trainer.core.state()
    for name, array in state.items():
        given = tensors.get(f"{ARRAYS}optimizer.{name}")
        if given is None or given.shape != array.shape:
            got = "nothing" if given is None else f"shape {given.shape}"
            raise FormatError(f"resume: the optimiser's {name}: got {got}; expected shape {array.shape}")
    network = trainer.model
    arrays = saving.matching(saved.path, network, tensors)
    if network.seed != model["seed"]:
        network.initialize(model["seed"])  # dropout draws from it
    for name, own in saving.model_tensors(network).items():
        own[...] = arrays[name]
    network.unfreeze()
    network.freeze(*model["frozen"])
    for name, array in state.items():
        array[...] = tensors[f"{ARRAYS}optimizer.{name}"]
    trainer.steps = training["steps"]
    trainer.seed = training["seed"]
    trainer.lr_scale = training["lr_scale"]
    trainer.history.replace(History(training["history"]))


def _unpadded(saved: Saved, model: Sequential) -> Saved:
    """Return what a file of format version 1 holds without the padding that its flat vectors had.

    The optimiser's states become arrays by parameter, `EarlyStopping`'s best weights as `Sequential.copy_state` has
    them.
    """
    tensors = dict(saved.tensors)
    for number in ("0", "1"):
        vector = tensors.pop(f"{ARRAYS}optimizer.{number}", None)
        if vector is not None:
            states = _flat.parts(vector, model.parameters(), padded=True)
            tensors |= {f"{ARRAYS}optimizer.{number}.{name}": state for name, state in states}
    for i, callback in enumerate(saved.training["callbacks"]):
        for key, views in (("parameters", model.parameters()), ("buffers", model.buffers())):
            name = f"{ARRAYS}callbacks.{i}.{key}"
            if callback["type"] == "EarlyStopping" and name in tensors and tensors[name].size > _flat.size_of(views):
                tensors[name] = _flat.pack(dict(_flat.parts(tensors[name], views, padded=True)))
    return saved._replace(tensors=tensors)


def _callback_states(callbacks: list[object], tensors: dict[str, Array | DeviceArray]) -> list[dict[str, Any]]:
    """Return the callbacks' states as JSON values; their arrays go to `tensors`."""
    states = []
    for i, callback in enumerate(callbacks):
        get = getattr(callback, "state_dict", None)
        if get is None or getattr(get, "__func__", None) is Callback.state_dict:
            continue
        values: dict[str, Any] = {}
        for key, value in get().items():
            if isinstance(value, np.ndarray):
                name = f"{ARRAYS}callbacks.{i}.{key}"
                tensors[name] = value
                values[key] = {"array": name}
            else:
                values[key] = value.item() if isinstance(value, np.generic) else value
        needed = not getattr(callback, "records", False)  # who only records does not change what comes
        states.append({"type": type(callback).__qualname__, "needed": needed, "state": values})
    return states


def _matched_states(
    path: str, callbacks: list[object], saved: list[dict[str, Any]], tensors: Mapping[str, Array]
) -> list[tuple[Any, dict[str, Any]]]:
    """Return each callback that has a saved state, with it; the first of a class gets the first state of that class."""
    left = list(callbacks)
    matched = []
    for entry in saved:
        callback = next((c for c in left if type(c).__qualname__ == entry["type"]), None)
        if callback is None and not entry["needed"]:
            continue
        if callback is None:
            raise ValueError(f"resume: {path} was written with the callback {entry['type']}, which is not there now")
        left.remove(callback)
        state = {
            key: tensors[value["array"]] if isinstance(value, dict) and "array" in value else value
            for key, value in entry["state"].items()
        }
        matched.append((callback, state))
    return matched
