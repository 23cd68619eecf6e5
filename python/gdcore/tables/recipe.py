"""The recipe of `TabularModel`: from facts about a table to its encoding, network, optimiser and training.

Pure functions, so that a search for a better recipe changes this file alone. docs/tables.md has the measurements.
"""

from __future__ import annotations

from dataclasses import dataclass

from .. import _core
from .encoding import Layout

__all__ = ["Facts", "Recipe", "layout", "recipe"]

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
        patience=15 * epochs // 40,
        members=6 if rows < 6000 else 4,
    )
