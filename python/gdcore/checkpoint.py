"""The whole state of training in one file, and back.

A checkpoint is a model file (see `gdcore.saving`) with more in it: the optimiser's state, the steps made, the epoch and
the place inside it, the seed of the shuffling, the history, and what callbacks keep. Dropout needs no state of its own,
for its random numbers are a function of seed and step. A file is read, checked whole, compared with the trainer, and
only then applied: one that is refused has changed nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import _core, _described, _destination, _flat, _specs, saving
from ._arrays import Array
from ._callback_states import CallbackState, MatchedStates, collect, read_states
from ._checks import FormatError, shown
from ._class_weights import balanced
from ._destination import FileLike
from ._features import Columns
from ._fit import Fit, Position
from .history import History
from .saving import TRAINING

if TYPE_CHECKING:
    from .model import Sequential
    from .trainer import Trainer

OPTIMIZER = f"{TRAINING}optimizer."
HISTORY = f"{TRAINING}history."
# The entries of a model's description that must be the same in the trainer that takes a checkpoint. What its outputs
# mean is not among them: the loss says it. Names of columns must be where both are known.
COMPARED = ("layers", "dtype", "classes")


def save(trainer: Trainer, path: FileLike) -> None:
    """Write the state of `trainer` to a file; see `Trainer.save_checkpoint`."""
    with trainer.model._hold(inside=False):  # another thread that trains waits
        trainer._check_thread("save_checkpoint", "give it the callback Checkpoint(path, seconds=...)")
        tensors, metadata = contents(trainer)

        def check(arrays: dict[str, Array], read: dict[str, str]) -> None:
            from_contents(arrays, read, "the file", trainer.history)

        saving.write_file(path, tensors, metadata, check=check)


def contents(trainer: Trainer) -> tuple[dict[str, Array | _core.DeviceArray], dict[str, str]]:
    """Return the arrays, as views, and the metadata that a checkpoint consists of."""
    fit = trainer._fit
    tensors = saving.model_tensors(trainer.model)
    tensors |= {f"{OPTIMIZER}{name}": array for name, array in trainer.core.state().items()}
    columns, arrays = _history_arrays(trainer.history)
    states, kept = collect([] if fit is None else fit.callbacks)
    training = {
        "steps": trainer.steps,
        "seed": trainer.seed,
        "lr_scale": trainer.lr_scale,
        "stopped": bool(trainer.stop),
        "first_epoch": trainer.first_epoch,
        "position": list(Position() if fit is None else fit.position),
        "settings": None if fit is None else fit.settings(),
        "loss": _specs.encode(trainer.loss),
        "optimizer": _specs.encode(trainer.optimizer),
        "class_weights": _class_weights(trainer),
        "history": columns,
        "callbacks": states,
    }
    metadata = {"model": json.dumps(saving.describe(trainer.model)), "training": json.dumps(training)}
    return tensors | arrays | kept, metadata


def _class_weights(trainer: Trainer) -> list[float] | None:
    """Return the numbers that "balanced" has become, which a loop of one's own could not count again."""
    loss = trainer._complete
    if not balanced(trainer.loss) or not isinstance(loss, _core.CrossEntropy) or loss.class_weights is None:
        return None
    return list(loss.class_weights)


def _weight(value: Any, where: str) -> float:
    return _described.number(value, where, 0.0)


class Saved(NamedTuple):
    """What a file of `save` holds, each entry checked by itself."""

    where: str
    tensors: dict[str, Array]
    model: dict[str, Any]
    training: dict[str, Any]
    history: History
    callbacks: list[CallbackState]
    padded: bool  # as the flat vectors of version 1 were

    @property
    def seed(self) -> int:
        """Seed of the shuffling."""
        return int(self.training["seed"])

    @property
    def position(self) -> Position:
        """Place inside the epoch."""
        return Position(*self.training["position"])

    def columns(self, model: Sequential) -> Columns:
        """Return the names of the columns that it was trained on, where they are as many as `model` has."""
        names = (self.model["feature_names"], model.in_features), (self.model["target_names"], model.out_features)
        return Columns(*(tuple(each) if each is not None and len(each) == count else None for each, count in names))


def _position(value: Any, where: str) -> list[Any]:
    given = _described.listing(value, where, lambda item, _: item)
    if len(given) != 4:
        raise _described.wrong(where, value, "4 numbers")
    batch = _described.whole(given[0], f"{where}[0]")
    numbers = [
        _described.number(v, f"{where}[{i}]", low) for i, (v, low) in enumerate(zip(given[1:], LOWEST, strict=True), 1)
    ]
    if batch == 0 and any(numbers[:2]):
        raise FormatError(f"{where}: got sums {numbers[:2]} of no batch; expected 0")
    return [batch, *numbers]


LOWEST = (-1e308, 0.0, 0.0)  # of a position's sums of loss and weight, and its seconds


def _spec(known: list[type]) -> Callable[[Any, str], dict[str, Any]]:
    names = sorted(cls.__name__ for cls in known)

    def check(value: Any, where: str) -> dict[str, Any]:
        given = _described.mapping(value, where)
        if given.get("type") not in names:
            raise _described.wrong(f"{where}.type", given.get("type"), f"one of {', '.join(names)}")
        return given

    return check


# The entries of a training state with their checks; `contents` writes them.
ENTRIES = {
    "steps": _described.whole,
    "seed": _described.seed,
    "lr_scale": lambda value, where: _described.number(value, where, 0.0),
    "stopped": _described.flag,
    "first_epoch": _described.whole,
    "position": _position,
    "settings": lambda value, where: None if value is None else _described.mapping(value, where),
    "loss": _spec(_core.Loss.__subclasses__()),
    "optimizer": _spec(_core.Optimizer.__subclasses__()),
    "class_weights": lambda value, where: None if value is None else _described.listing(value, where, _weight),
    "history": lambda value, where: _described.listing(value, where, lambda item, _: item),
    "callbacks": lambda value, where: _described.listing(value, where, _described.mapping),
}


def read(path: FileLike, *, name: str = "resume") -> Saved:
    """Read a file of `save` and check what can be checked without the trainer.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FormatError
        If the file is damaged, no checkpoint, or holds what makes no sense.
    """
    if not _destination.is_stream(path) and not os.path.exists(_destination.path_of(path, name)):
        hint = "; for a first run leave resume out" if name == "resume" else ""
        raise FileNotFoundError(f"{name}: there is no file {_destination.path_of(path, name)!r}{hint}")
    where = _destination.label(path, name)
    return from_contents(*saving.read_file(path, name=name), where)


def from_contents(
    tensors: dict[str, Array], metadata: Mapping[str, str], where: str, written: History | None = None
) -> Saved:
    """Return what `contents` gave, as it came back from somewhere, checked by itself.

    Where it is looked at before it is written, `written` is the history that it holds, which need not be read.
    """
    if "training" not in metadata:
        raise FormatError(f"{where}: a model without a state of training; expected a file of Checkpoint")
    model = saving.check_model(tensors, metadata, where)
    place = f"{where}: training"
    given = {"class_weights": None} | _described.mapping(_described.parse(metadata["training"], place), place)
    training = _described.entries(given, place, ENTRIES)
    first = metadata["format_version"] == "1"
    if written is not None and _in_order(tensors, training["history"]):
        history = written
    else:
        history = (_read_rows if first else _read_columns)(training["history"], tensors, f"{place}.history")
    if training["first_epoch"] > history.last_epoch:
        epochs = f"at most {history.last_epoch}, the epochs in the history"
        raise _described.wrong(f"{place}.first_epoch", training["first_epoch"], epochs)
    callbacks = read_states(training["callbacks"], tensors, place)
    known = {f"{HISTORY}{i}" for i in range(len(training["history"]))}.union(*(state.arrays for state in callbacks))
    for name in tensors:
        if name.startswith(TRAINING) and not name.startswith(OPTIMIZER) and name not in known:
            raise FormatError(f"{where}: has an array {shown(name)}, which belongs to nothing")
    return Saved(where, tensors, model, training, history, callbacks, first)


def _history_arrays(history: History) -> tuple[list[str], dict[str, Array]]:
    """Return the names of the columns, and the columns as arrays: a header would grow beyond what readers take."""
    columns = {name: np.asarray(column) for name, column in history.items()}
    arrays = {name: c if c.dtype == np.int64 else c.astype(np.float64, copy=False) for name, c in columns.items()}
    return list(arrays), {f"{HISTORY}{i}": array for i, array in enumerate(arrays.values())}


def _in_order(tensors: Mapping[str, Array], names: list[str]) -> bool:
    """Return whether the epochs of a history of ours are what a reader takes: whole numbers that ascend."""
    if not names:
        return True
    epochs = tensors[f"{HISTORY}{names.index('epoch')}"]
    return len(epochs) == 0 or bool(
        epochs[0] > 0 and epochs[-1] < 2**53 and (np.diff(epochs) > 0).all() and (epochs == np.floor(epochs)).all()
    )


def _read_columns(names: list[Any], tensors: Mapping[str, Array], where: str) -> History:
    columns: dict[str, list[Any]] = {}
    heights = set()
    for i, name in enumerate(names):
        array = tensors.get(f"{HISTORY}{i}")
        if _described.text(name, f"{where}[{i}]") in columns:
            raise _described.wrong(f"{where}[{i}]", name, "a name that no other column has")
        if array is None or array.ndim != 1 or array.dtype not in (np.int64, np.float64):
            got = "nothing" if array is None else f"{array.dtype} of shape {array.shape}"
            raise FormatError(f"{where}[{i}] ({HISTORY}{i}): got {got}; expected numbers, one an epoch")
        heights.add(len(array))
        columns[name] = array.tolist()
    if len(heights) > 1:
        raise FormatError(f"{where}: got columns of {sorted(heights)} epochs; expected all of one length")
    return _history(columns, where)


def _read_rows(rows: list[Any], _: Mapping[str, Array], where: str) -> History:
    """Read the history of version 1, which had it in the header."""
    names = dict.fromkeys(name for i, row in enumerate(rows) for name in _described.mapping(row, f"{where}[{i}]"))
    return _history({name: [row.get(name, np.nan) for row in rows] for name in names}, where)


def _history(columns: dict[str, list[Any]], where: str) -> History:
    if columns:
        epochs = [_epoch(value, f"{where}: epoch of row {i}") for i, value in enumerate(columns.get("epoch", [None]))]
        columns = columns | {"epoch": epochs}
        if any(later <= earlier for earlier, later in pairwise(epochs)):
            raise FormatError(f"{where}: got epochs {shown(epochs)}; expected each above the one before")
    with _described.entry(where):
        return History(columns)


def _epoch(value: Any, where: str) -> int:
    if not isinstance(value, (int, float)) or not 0 < value < 2**53 or value != int(value):
        raise _described.wrong(where, value, "the number of an epoch")
    return int(value)


def load(trainer: Trainer, path: FileLike) -> None:
    """Give `trainer` back the state in a file; see `Trainer.load_checkpoint`."""
    take(trainer, read(path, name="path"))


def take(trainer: Trainer, saved: Saved) -> None:
    """Give `trainer` a state that was read.

    Raises
    ------
    ValueError
        If model, loss or optimiser differ from those that it came from; nothing is changed then.
    """
    _compare(trainer, saved, {}, {})
    saved = _unpadded(saved, trainer.model)
    _check_fit(trainer, saved)
    _apply(trainer, saved)


def resume(trainer: Trainer, fit: Fit, saved: Saved) -> None:
    """Let `fit` go on where the run that wrote the file was.

    Raises
    ------
    ValueError
        If model, loss, optimiser or an argument of `fit` differ from those of that run; nothing is changed then.
    """
    training = saved.training
    of_fit = fit.settings()
    _compare(trainer, saved, of_fit, training["settings"] or of_fit)
    saved = _unpadded(saved, trainer.model)
    if fit.batches is not None and saved.position.batch > fit.batches:
        expected = f"at most {fit.batches}, the batches of an epoch"
        raise _described.wrong(f"{saved.where}: training.position[0]", saved.position.batch, expected)
    _check_fit(trainer, saved)
    states = MatchedStates(saved.callbacks, fit.callbacks, saved.where)
    states.rehearse(trainer)
    _apply(trainer, saved)
    fit.resume(training["first_epoch"], saved.position, training["stopped"], states.restore)


def _settings(trainer: Trainer) -> dict[str, Any]:
    """Return what a checkpoint must have in common with the trainer that takes it."""
    model = saving.describe(trainer.model)
    return _named(model, _specs.encode(trainer.loss), _specs.encode(trainer.optimizer))


def _saved_settings(saved: Saved) -> dict[str, Any]:
    return _named(saved.model, saved.training["loss"], saved.training["optimizer"])


def _named(model: Mapping[str, Any], loss: Any, optimizer: Any) -> dict[str, Any]:
    compared = {name: model[name] for name in COMPARED}
    compared["layers"] = {"type": "layers"} | {str(i): layer for i, layer in enumerate(model["layers"])}
    return compared | {"loss": loss, "optimizer": optimizer}


def _compare(trainer: Trainer, saved: Saved, of_fit: Mapping[str, Any], of_saved_fit: Mapping[str, Any]) -> None:
    """Raise ValueError for what a checkpoint and the trainer that takes it must have in common, and have not."""
    present, past = {**_settings(trainer), **of_fit}, {**_saved_settings(saved), **of_saved_fit}
    known = trainer._known()
    now = {"feature_names": known.x, "target_names": known.y}
    then = {name: saved.model[name] for name in now}
    for name in now:
        both = now[name] is not None and then[name] is not None
        present[name], past[name] = (now[name], then[name]) if both else (None, None)
    # Through JSON and back, as the saved ones went: numbers and tuples then look the same.
    with _described.entry(f"{saved.where}: training"):
        changed = _specs.differences(past, json.loads(json.dumps(present)))
    if changed:
        raise ValueError(f"{saved.where}: was written with other settings: {'; '.join(changed)}")


def _unpadded(saved: Saved, model: Sequential) -> Saved:
    """Return what a file of format version 1 holds without the padding that its flat vectors had.

    The optimiser's states become arrays by parameter, `EarlyStopping`'s best weights as `Sequential.copy_state` has
    them.
    """
    if not saved.padded:
        return saved
    views = {"parameters": model.parameters(), "buffers": model.buffers()}
    tensors = dict(saved.tensors)
    with _described.entry(f"{saved.where}: flat vectors"):
        for name in [name for name in tensors if name.startswith(OPTIMIZER)]:
            states = _flat.parts(tensors.pop(name), views["parameters"], padded=True)
            tensors |= {f"{name}.{own}": state for own, state in states}
        for state in saved.callbacks:
            for key in views.keys() & state.values.keys():
                if state.kind == "EarlyStopping":
                    state.values[key] = _flat.pack(dict(_flat.parts(state.values[key], views[key], padded=True)))
    return saved._replace(tensors=tensors)


def _check_fit(trainer: Trainer, saved: Saved) -> None:
    """Compare arrays and names with what they are for."""
    where, tensors = saved.where, saved.tensors
    with _described.entry(f"{where}: model.feature_names"):
        trainer.model.checked_names(saved.model["feature_names"])
    _check_class_weights(trainer, saved)
    names = trainer.model.parameters()
    for i, name in enumerate(saved.model["frozen"]):
        if name not in names:
            raise _described.wrong(f"{where}: model.frozen[{i}]", name, f"one of {shown(list(names), 200)}")
    states = {f"{OPTIMIZER}{name}": array for name, array in trainer.core.state().items()}
    for name in [*states, *(name for name in tensors if name.startswith(OPTIMIZER) and name not in states)]:
        array, given = states.get(name), tensors.get(name)
        got = "nothing" if given is None else f"{given.dtype} of shape {given.shape}"
        expected = "nothing" if array is None else f"{array.dtype} of shape {array.shape}"
        if got != expected:
            raise FormatError(f"{where}: {name}: got {got}; expected {expected}")
    saving.check_ranges(tensors, {f"{OPTIMIZER}{name}": False for name in trainer.core._squares()}, where)


def _check_class_weights(trainer: Trainer, saved: Saved) -> None:
    weights, where = saved.training["class_weights"], f"{saved.where}: training.class_weights"
    if weights is None:
        return
    if not balanced(trainer.loss) or len(weights) != trainer.model.out_features:
        raise _described.wrong(where, weights, "nothing, or, for class_weights='balanced', a number for each class")
    largest = max(weights)
    for i, weight in enumerate(weights):
        if not 1e-30 * max(largest, 1.0) < weight < 1e30:
            raise _described.wrong(f"{where}[{i}]", weight, "the weight of a class, N / (K n_c)")


def _apply(trainer: Trainer, saved: Saved) -> None:
    """Set everything, none of which can be refused any more."""
    network, training = trainer.model, saved.training
    with network._hold(inside=False):
        trainer._check_thread("load_checkpoint", "do it when that has ended")
        if network.seed != saved.model["seed"]:
            network.initialize(saved.model["seed"])  # dropout draws from it
        if training["class_weights"] is not None and isinstance(trainer.loss, _core.CrossEntropy):
            trainer._weigh(_core.CrossEntropy(training["class_weights"], trainer.loss.label_smoothing))
        saving.set_tensors(network, saved.tensors)
        network.unfreeze()
        network.set_all_frozen(saved.model["frozen"], True)
        for name, array in trainer.core.state().items():
            array[...] = saved.tensors[f"{OPTIMIZER}{name}"]
        trainer._learn(saved.columns(network))
        trainer.steps = training["steps"]
        trainer.seed = training["seed"]
        trainer.lr_scale = training["lr_scale"]
        trainer.history.replace(saved.history)
