"""Checkpoints: the whole state of training in one file, written and read.

A checkpoint is a model file (see `gdcore.io.saving`, and `gdcore.io.tensor_file` for the format) with additional
entries: the optimiser's state, the number of steps, the epoch and the position in it, the seed of the shuffling, the
history, and the callbacks' states. Dropout needs no state, because its random numbers are a function of seed and step.
A file is read, checked completely, compared with the trainer, and only then applied: a refused file changes nothing.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import _core
from ..history import History
from ..internal import flat, json_values
from ..internal.arrays import Array
from ..internal.checks import FormatError, shown
from ..internal.class_weights import balanced, count_of
from ..internal.features import Columns
from ..training.callback_states import CallbackState, collect, read_states
from ..training.state import Position, TrainingState
from . import destination, saving, specs
from .destination import FileLike
from .saving import TRAINING

if TYPE_CHECKING:
    from ..model import Sequential

OPTIMIZER = f"{TRAINING}optimizer."
HISTORY = f"{TRAINING}history."
# The entries of a model's description that must equal those of the trainer that loads a checkpoint. The meaning of the
# outputs is not among them: the loss fixes it. Names of columns are compared only if both are known.
COMPARED = ("layers", "dtype", "classes")
OTHERS = ("loss", "optimizer", "dropout_schedule")  # likewise, of the training state
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"  # versions of it compile functions to other bytecode
FUNCTIONS = ("function", "hvp")  # of a custom loss, which older files lack
_LATER = {"CrossEntropy": {"gamma": 0.0}, "BinaryCrossEntropy": {"gamma": 0.0}}  # arguments that older files lack


def save(state: TrainingState, path: FileLike) -> None:
    """Write a state to a file; see `Trainer.save_checkpoint`. The caller must hold the model (`_hold`)."""
    tensors, metadata = contents(state)

    def check(arrays: dict[str, Array], read: dict[str, str]) -> None:
        from_contents(arrays, read, "the file", state.history)

    saving.write_file(path, tensors, metadata, check=check)


def contents(state: TrainingState) -> tuple[dict[str, Array | _core.DeviceArray], dict[str, str]]:
    """Return the arrays, as views, and the metadata of a checkpoint."""
    tensors = saving.model_tensors(state.model)
    tensors |= {f"{OPTIMIZER}{name}": array for name, array in state.states.items()}
    columns, arrays = _history_arrays(state.history)
    states, kept = collect(state.callbacks)
    training = {
        "steps": state.steps,
        "seed": state.seed,
        "lr_scale": state.lr_scale,
        "decay_scale": state.decay_scale,
        "stopped": state.stopped,
        "first_epoch": state.first_epoch,
        "position": list(state.position),
        "python": PYTHON,
        "settings": specs.encode(state.settings, "settings"),
        **{name: specs.encode(getattr(state, name), name) for name in OTHERS},
        "class_weights": None if state.class_weights is None else list(state.class_weights),
        "history": columns,
        "callbacks": states,
    }
    metadata = {"model": json.dumps(saving.describe(state.model)), "training": json.dumps(training)}
    return tensors | arrays | kept, metadata


def _weight(value: Any, where: str) -> float:
    return json_values.number(value, where, 0.0)


class Saved(NamedTuple):
    """Contents of a checkpoint file, each entry checked on its own."""

    where: str
    tensors: dict[str, Array]
    model: dict[str, Any]
    training: dict[str, Any]
    history: History
    callbacks: list[CallbackState]
    padded: bool  # whether flat vectors have padding, as in version 1

    @property
    def seed(self) -> int:
        """Seed of the shuffling."""
        return int(self.training["seed"])

    @property
    def position(self) -> Position:
        """Position in the epoch."""
        return Position(*self.training["position"])

    def columns(self, model: Sequential) -> Columns:
        """Return the names of the training columns, or None where their number differs from the model's."""
        targets, outputs = self.model["target_names"], model.out_features
        if targets and outputs % len(targets) == 0:
            outputs = len(targets)  # fewer than outputs: of targets with several quantiles each
        names = (self.model["feature_names"], model.in_features), (targets, outputs)
        return Columns(*(tuple(each) if each is not None and len(each) == count else None for each, count in names))


def _position(value: Any, where: str) -> list[Any]:
    given = json_values.listing(value, where, lambda item, _: item)
    if len(given) != 4:
        raise json_values.wrong(where, value, "4 numbers")
    batch = json_values.whole(given[0], f"{where}[0]")
    numbers = [
        json_values.number(v, f"{where}[{i}]", low) for i, (v, low) in enumerate(zip(given[1:], LOWEST, strict=True), 1)
    ]
    if batch == 0 and any(numbers[:2]):
        raise FormatError(f"{where}: got sums {numbers[:2]} of no batch; expected 0")
    return [batch, *numbers]


LOWEST = (-1e308, 0.0, 0.0)  # lower bounds of a position's loss sum, weight sum and seconds


def _spec(known: list[type]) -> Callable[[Any, str], dict[str, Any]]:
    names = sorted(cls.__name__ for cls in known)

    def check(value: Any, where: str) -> dict[str, Any]:
        given = json_values.mapping(value, where)
        if given.get("type") not in names:
            raise json_values.wrong(f"{where}.type", given.get("type"), f"one of {', '.join(names)}")
        return given

    return check


# The entries of a training state with their checks; `contents` writes them.
ENTRIES = {
    "steps": json_values.whole,
    "seed": json_values.seed,
    "lr_scale": _weight,
    "decay_scale": _weight,
    "stopped": json_values.flag,
    "first_epoch": json_values.whole,
    "position": _position,
    "python": lambda value, where: None if value is None else json_values.text(value, where),
    "settings": lambda value, where: None if value is None else json_values.mapping(value, where),
    "loss": _spec(_core.Loss.__subclasses__()),
    "optimizer": _spec(_core.Optimizer.__subclasses__()),
    "dropout_schedule": lambda value, where: None if value is None else json_values.mapping(value, where),
    "class_weights": lambda value, where: None if value is None else json_values.listing(value, where, _weight),
    "history": lambda value, where: json_values.listing(value, where, lambda item, _: item),
    "callbacks": lambda value, where: json_values.listing(value, where, json_values.mapping),
}


def read(path: FileLike, *, name: str = "resume") -> Saved:
    """Read a checkpoint file and make all checks that need no trainer.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FormatError
        If the file is damaged, no checkpoint, or holds invalid values.
    """
    if not destination.is_stream(path) and not os.path.exists(destination.path_of(path, name)):
        hint = "; for a first run leave resume out" if name == "resume" else ""
        raise FileNotFoundError(f"{name}: there is no file {destination.path_of(path, name)!r}{hint}")
    where = destination.label(path, name)
    return from_contents(*saving.read_file(path, name=name), where)


def from_contents(
    tensors: dict[str, Array], metadata: Mapping[str, str], where: str, written: History | None = None
) -> Saved:
    """Return a checkpoint from the arrays and metadata of `contents`, checked on their own.

    For the check before writing, `written` is the history in them, which then need not be read.
    """
    if "training" not in metadata:
        raise FormatError(f"{where}: got a model without a training state; expected a file that Checkpoint has written")
    model = saving.check_model(tensors, metadata, where)
    location = f"{where}: training"
    # Entries that earlier files lack.
    older = {"class_weights": None, "decay_scale": 1.0, "dropout_schedule": None, "python": None}
    given = older | json_values.mapping(json_values.parse(metadata["training"], location), location)
    training = json_values.entries(given, location, ENTRIES)
    first = metadata["format_version"] == "1"
    if written is not None and _in_order(tensors, training["history"]):
        history = written
    else:
        history = (_read_rows if first else _read_columns)(training["history"], tensors, f"{location}.history")
    if training["first_epoch"] > history.last_epoch:
        epochs = f"at most {history.last_epoch}, the epochs in the history"
        raise json_values.wrong(f"{location}.first_epoch", training["first_epoch"], epochs)
    callbacks = read_states(training["callbacks"], tensors, location)
    known = {f"{HISTORY}{i}" for i in range(len(training["history"]))}.union(*(state.arrays for state in callbacks))
    for name in tensors:
        if name.startswith(TRAINING) and not name.startswith(OPTIMIZER) and name not in known:
            raise FormatError(f"{where}: got the array {shown(name)}, to which no entry refers")
    return Saved(where, tensors, model, training, history, callbacks, first)


def _history_arrays(history: History) -> tuple[list[str], dict[str, Array]]:
    """Return the names of the columns, and the columns as arrays: in the header they could exceed readers' limits."""
    columns = {name: np.asarray(column) for name, column in history.items()}
    arrays = {name: c if c.dtype == np.int64 else c.astype(np.float64, copy=False) for name, c in columns.items()}
    return list(arrays), {f"{HISTORY}{i}": array for i, array in enumerate(arrays.values())}


def _in_order(tensors: Mapping[str, Array], names: list[str]) -> bool:
    """Return whether a reader accepts the epochs of a history: ascending positive whole numbers."""
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
        if json_values.text(name, f"{where}[{i}]") in columns:
            raise json_values.wrong(f"{where}[{i}]", name, "a name that no other column has")
        if array is None or array.ndim != 1 or array.dtype not in (np.int64, np.float64):
            got = "nothing" if array is None else f"{array.dtype} of shape {array.shape}"
            raise FormatError(f"{where}[{i}] ({HISTORY}{i}): got {got}; expected numbers, one an epoch")
        heights.add(len(array))
        columns[name] = array.tolist()
    if len(heights) > 1:
        raise FormatError(f"{where}: got columns of {sorted(heights)} epochs; expected all of one length")
    return _history(columns, where)


def _read_rows(rows: list[Any], _: Mapping[str, Array], where: str) -> History:
    """Read the history of version 1, which is in the header."""
    names = dict.fromkeys(name for i, row in enumerate(rows) for name in json_values.mapping(row, f"{where}[{i}]"))
    return _history({name: [row.get(name, np.nan) for row in rows] for name in names}, where)


def _history(columns: dict[str, list[Any]], where: str) -> History:
    if columns:
        epochs = [_epoch(value, f"{where}: epoch of row {i}") for i, value in enumerate(columns.get("epoch", [None]))]
        columns = columns | {"epoch": epochs}
        if any(later <= earlier for earlier, later in pairwise(epochs)):
            raise FormatError(f"{where}: got epochs {shown(epochs)}; expected each above the one before")
    with json_values.entry(where):
        return History(columns)


def _epoch(value: Any, where: str) -> int:
    if not isinstance(value, (int, float)) or not 0 < value < 2**53 or value != int(value):
        raise json_values.wrong(where, value, "the number of an epoch")
    return int(value)


def fitting(saved: Saved, state: TrainingState) -> Saved:
    """Return a checkpoint in the form that `state`, the loading trainer's, needs.

    Raises
    ------
    ValueError
        If model, loss or optimiser differ from those of the checkpoint.
    """
    _compare(state, saved, {}, {}, stacklevel=5)  # the caller of `Trainer.load_checkpoint`
    saved = _unpadded(saved, state.model)
    _check_arrays(state, saved)
    return saved


def fitting_run(saved: Saved, state: TrainingState, of_fit: Mapping[str, Any], batches: int | None) -> Saved:
    """Return a checkpoint in the form that a run with the settings `of_fit` needs to resume from it.

    Raises
    ------
    ValueError
        If model, loss, optimiser or an argument of `fit` differ from those of the run that wrote the file.
    """
    of_fit = {name: specs.encode(value, name) for name, value in of_fit.items()}
    of_saved_fit = of_fit | (saved.training["settings"] or {})  # an older file has fewer
    _compare(state, saved, of_fit, of_saved_fit, stacklevel=6)  # the caller of `Trainer.fit`
    saved = _unpadded(saved, state.model)
    if batches is not None and saved.position.batch > batches:
        expected = f"at most {batches}, the batches of an epoch"
        raise json_values.wrong(f"{saved.where}: training.position[0]", saved.position.batch, expected)
    _check_arrays(state, saved)
    return saved


def _settings(state: TrainingState) -> dict[str, Any]:
    """Return the trainer's settings that a checkpoint must share."""
    others = {name: specs.encode(getattr(state, name), name) for name in OTHERS}
    return _named(saving.describe(state.model), others)


def _saved_settings(saved: Saved) -> dict[str, Any]:
    return _named(saved.model, {name: saved.training[name] for name in OTHERS})


def _named(model: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    compared = {name: model[name] for name in COMPARED}
    # Initial values do not matter for a network that gets those of the file.
    layers = [{name: layer[name] for name in layer if name not in ("init", "bias_init")} for layer in model["layers"]]
    compared["layers"] = {"type": "layers"} | {str(i): layer for i, layer in enumerate(layers)}
    return {**compared, **others}


def _compare(
    state: TrainingState, saved: Saved, of_fit: Mapping[str, Any], of_saved_fit: Mapping[str, Any], stacklevel: int
) -> None:
    """Raise ValueError if settings of a checkpoint and of the loading trainer differ that must be the same."""
    present, past = {**_settings(state), **of_fit}, {**_saved_settings(saved), **of_saved_fit}
    past["loss"], unknown = _complete_loss(past["loss"], present["loss"])
    now = {"feature_names": state.columns.x, "target_names": state.columns.y}
    then = {name: saved.model[name] for name in now}
    for name in now:
        both = now[name] is not None and then[name] is not None
        present[name], past[name] = (now[name], then[name]) if both else (None, None)
    # Layers that the caller froze before a resumed run must be those of the file. Otherwise the file's are frozen.
    if of_fit and state.model.frozen():
        present["frozen"], past["frozen"] = sorted(state.model.frozen()), sorted(saved.model["frozen"])
    present = json.loads(json.dumps(present))  # as the saved settings: numbers and tuples then compare equal
    if saved.training["python"] != PYTHON and specs.without_values(present) != present:
        unknown = True
        past, present = specs.without_values(past), specs.without_values(present)
    with json_values.entry(f"{saved.where}: training"):
        changed = specs.differences(past, present)
    if changed:
        raise ValueError(f"{saved.where}: was written with other settings: {'; '.join(changed)}")
    if unknown:
        python = saved.training["python"]
        by = "by an earlier version of gdcore" if python in (None, PYTHON) else f"with Python {python}, not {PYTHON}"
        warnings.warn(
            f"{saved.where}: was written {by}: functions are not compared; they must be the same as before",
            stacklevel=stacklevel,
        )


def _complete_loss(saved: dict[str, Any], present: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return the loss of a file with the entries that older files lack, and whether its functions are unknown."""
    if saved["type"] == present["type"] == "CustomLoss" and "function" not in saved:
        return saved | {name: present[name] for name in FUNCTIONS}, True
    return _LATER.get(saved["type"], {}) | saved, False


def _unpadded(saved: Saved, model: Sequential) -> Saved:
    """Return a checkpoint without the padding in the flat vectors of format version 1.

    The optimiser's states become arrays by parameter; `EarlyStopping`'s best weights become vectors as in
    `Sequential.copy_state`.
    """
    if not saved.padded:
        return saved
    views = {"parameters": model.parameters(), "buffers": model.buffers()}
    tensors = dict(saved.tensors)
    with json_values.entry(f"{saved.where}: flat vectors"):
        for name in [name for name in tensors if name.startswith(OPTIMIZER)]:
            states = flat.parts(tensors.pop(name), views["parameters"], padded=True)
            tensors |= {f"{name}.{own}": state for own, state in states}
        for state in saved.callbacks:
            for key in views.keys() & state.values.keys():
                if state.kind == "EarlyStopping":
                    state.values[key] = flat.pack(dict(flat.parts(state.values[key], views[key], padded=True)))
    return saved._replace(tensors=tensors)


def _check_arrays(state: TrainingState, saved: Saved) -> None:
    """Check arrays and names against the model and the optimiser."""
    where, tensors = saved.where, saved.tensors
    with json_values.entry(f"{where}: model.feature_names"):
        state.model.checked_names(saved.model["feature_names"])
    _check_class_weights(state, saved)
    names = state.model.parameters()
    for i, name in enumerate(saved.model["frozen"]):
        if name not in names:
            raise json_values.wrong(f"{where}: model.frozen[{i}]", name, f"one of {shown(list(names), 200)}")
    states = {f"{OPTIMIZER}{name}": array for name, array in state.states.items()}
    for name in [*states, *(name for name in tensors if name.startswith(OPTIMIZER) and name not in states)]:
        array, given = states.get(name), tensors.get(name)
        got = "nothing" if given is None else f"{given.dtype} of shape {given.shape}"
        expected = "nothing" if array is None else f"{array.dtype} of shape {array.shape}"
        if got != expected:
            raise FormatError(f"{where}: {name}: got {got}; expected {expected}")
    saving.check_ranges(tensors, {f"{OPTIMIZER}{name}": False for name in state.squares}, where)


def _check_class_weights(state: TrainingState, saved: Saved) -> None:
    weights, where = saved.training["class_weights"], f"{saved.where}: training.class_weights"
    if weights is None:
        return
    if not balanced(state.loss) or len(weights) != count_of(state.loss, state.model):
        raise json_values.wrong(where, weights, "nothing, or, for class_weights='balanced', a number for each class")
    largest = max(weights)
    for i, weight in enumerate(weights):
        if not 1e-30 * max(largest, 1.0) < weight < 1e30:
            raise json_values.wrong(f"{where}[{i}]", weight, "the weight of a class, N / (K n_c)")


def apply(saved: Saved, state: TrainingState) -> None:
    """Set model and optimiser to a checkpoint that passed the checks. The caller must hold the model (`_hold`)."""
    model = state.model
    if model.seed != saved.model["seed"]:
        model.initialize(saved.model["seed"])  # dropout uses the seed
    saving.set_tensors(model, saved.tensors)
    model.unfreeze()
    model.set_all_frozen(saved.model["frozen"], True)
    for name, array in state.states.items():
        array[...] = saved.tensors[f"{OPTIMIZER}{name}"]
