"""The recipe of `TabularModel`: from facts about a table to its encoding, network, optimiser and training.

Pure functions, so that a search for a better recipe changes this file alone. docs/tables.md has the measurements.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from .. import _core
from ..internal.checks import integer, is_iterable, real, shown, suggestion
from .encoding import Layout

__all__ = ["Facts", "Recipe", "chosen", "completed", "layout", "recipe"]

ACTIVATIONS = (
    *(_core.ReLU, _core.LeakyReLU, _core.Tanh, _core.Sigmoid, _core.GELU, _core.Softplus, _core.SiLU, _core.Mish),
    *(_core.SELU, _core.ELU),
)
MOST_INPUTS = 4096  # of the piecewise-linear encoding of all numbers together


@dataclass(frozen=True)
class Facts:
    """What a recipe depends on.

    Attributes
    ----------
    task : {"classification", "regression"}
        Whether classes or numbers are predicted.
    rows : int
        Training rows, those for validation included.
    columns : int
        Columns of the table.
    outputs : int
        Outputs of the network: classes, or columns of numbers.
    inputs : int
        Inputs of the network; 0 before the table is encoded.
    """

    task: str
    rows: int
    columns: int
    outputs: int
    inputs: int = 0


@dataclass(frozen=True)
class Recipe:
    """How networks are made and trained.

    Attributes
    ----------
    widths : tuple of int
        Widths of the hidden layers.
    activation : type of Layer
        Their activation.
    dropout : float
        Probability of zero for their outputs in training.
    lr, betas, weight_decay : float
        Largest rate, β₁ and β₂, and decoupled decay (times the rate) of Adam. The rate falls and rises in four
        cosine waves, each twice as long as the one before (`gdcore.schedules.coslog4`): networks of noisy tables are
        best after a short one.
    label_smoothing : float
        That of the cross-entropy.
    batch_size, epochs : int
        Rows in a batch; epochs at most.
    patience : int
        Epochs without a smaller validation loss after which training ends.
    members : int
        Networks that are trained from different seeds and averaged.
    """

    widths: tuple[int, ...] = (256, 256)
    activation: type[_core.Layer] = _core.GELU
    dropout: float = 0.1
    lr: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    label_smoothing: float = 0.0
    batch_size: int = 64
    epochs: int = 40
    patience: int = 15
    members: int = 6


def layout(facts: Facts) -> Layout:
    """Return how the columns of a table are encoded.

    16 bins, fewer where many columns would make a wide network; a value of a category needs rows to learn from.
    """
    return Layout(bins=min(16, MOST_INPUTS // max(facts.columns, 1)), values=256, least=2 + facts.rows // 5000)


def recipe(facts: Facts) -> Recipe:
    """Return how the networks of a table are made and trained.

    Small batches, so that small tables have enough steps; large tables need fewer epochs and no dropout.
    """
    rows = facts.rows
    batch = 32 if rows < 1500 else 64 if rows < 12_000 else 128 if rows < 100_000 else 512
    epochs = 40 if rows < 12_000 else 32 if rows < 100_000 else 12
    return Recipe(
        dropout=0.1 if rows < 12_000 else 0.0,
        batch_size=batch,
        epochs=epochs,
        patience=patience_for(epochs),
        members=6 if rows < 6000 else 4,
    )


def patience_for(epochs: int) -> int:
    """Return the patience for so many epochs: the waves of the rate are as long as these are many."""
    return max(1, 15 * epochs // 40)


def completed(found: Recipe, given: Mapping[str, Any]) -> Recipe:
    """Return a recipe with the fields that `chosen` has checked; the patience follows given epochs."""
    made = replace(found, **given)
    return made if "patience" in given or "epochs" not in given else replace(made, patience=patience_for(made.epochs))


def chosen(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields of a `Recipe` that are given in place of those that `recipe` chooses, checked.

    Raises
    ------
    TypeError, ValueError
        If a name is no field, or a value does not fit; names it. The number of networks has an argument of its own.
    """
    if not isinstance(given, Mapping):
        raise TypeError(f"recipe: got {shown(given)}; expected a dict of settings, such as {{'lr': 1e-3}}")
    checks: dict[str, Callable[[Any, str], Any]] = {
        "widths": _widths,
        "activation": _activation,
        "dropout": _below_1,
        "lr": lambda value, name: real(value, name, low=0, open_low=True),
        "betas": _betas,
        "weight_decay": lambda value, name: real(value, name, low=0),
        "label_smoothing": _below_1,
        **dict.fromkeys(("batch_size", "epochs", "patience"), lambda value, name: integer(value, name, minimum=1)),
    }
    assert {*checks, "members"} == {each.name for each in fields(Recipe)}
    for name in given:
        if name == "members":
            raise ValueError("recipe: got members; expected the number of networks as TabularModel(ensemble=...)")
        if name not in checks:
            raise ValueError(
                f"recipe: got {shown(name)}; expected some of {', '.join(checks)}{suggestion(str(name), checks)}"
            )
    return {name: checks[name](value, f"recipe[{name!r}]") for name, value in given.items()}


def _below_1(value: Any, name: str) -> float:
    found = real(value, name, low=0, high=1)
    if found == 1:
        raise ValueError(f"{name}: got 1; expected a number below 1")
    return found


def _widths(value: Any, name: str) -> tuple[int, ...]:
    if isinstance(value, (str, set, frozenset)) or not is_iterable(value):
        raise TypeError(f"{name}: got {shown(value)}; expected the widths of the hidden layers, such as (256, 256)")
    return tuple(integer(each, name, minimum=1) for each in value)


def _betas(value: Any, name: str) -> tuple[float, float]:
    if isinstance(value, str) or not is_iterable(value) or len(found := tuple(value)) != 2:
        raise TypeError(f"{name}: got {shown(value)}; expected two numbers, such as (0.9, 0.95)")
    return _below_1(found[0], name), _below_1(found[1], name)


def _activation(value: Any, name: str) -> type[_core.Layer]:
    if not any(value is each for each in ACTIVATIONS):
        names = ", ".join(f"gdcore.{each.__name__}" for each in ACTIVATIONS)
        raise TypeError(f"{name}: got {shown(value)}; expected a class of activations: {names}")
    return value  # type: ignore[no-any-return]
