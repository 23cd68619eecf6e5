"""The chapter's pictures, each drawn from new training runs and analysis calls: ``gdcore gallery OUT``.

``PICTURES[name](path)`` draws one; `draw` draws some or all of them into a folder. Code and pictures: docs/gallery.md.
The pictures of paths use `gdcore.analysis.problems`. Models stay on the CPU, so that a picture does not
depend on whether the machine has a GPU.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ...internal.checks import choice, optional_module
from . import batches, data, descent, double_descent, generalisation, minima, normalisation, optimisers

__all__ = ["PICTURES", "draw", "shows"]

PathLike = str | os.PathLike[str]

# In the order of the chapter.
PICTURES: dict[str, Callable[[PathLike], None]] = {
    function.__name__: function
    for function in (
        minima.minima,
        descent.ellipses,
        minima.restarts_by_width,
        batches.single_points_escape,
        batches.duplicated_data,
        batches.order,
        data.gradient_noise,
        data.he_variance,
        descent.valley,
        descent.convergence,
        optimisers.momentum_ravine,
        optimisers.momentum_slope,
        optimisers.adaptive,
        optimisers.adagrad_halts,
        optimisers.adam_bias,
        data.normalised_inputs,
        normalisation.batch_norm_depth,
        normalisation.small_batches,
        generalisation.weight_decay,
        generalisation.consistent_decay,
        generalisation.learning_curve,
        generalisation.effective_parameters,
        generalisation.early_stopping,
        double_descent.random_labels,
        double_descent.double_descent_by_width,
        double_descent.double_descent_by_epochs,
        double_descent.double_descent_by_decay,
        double_descent.double_descent_by_samples,
    )
}


def shows(name: str) -> str:
    """Return the description of a picture, in one line with the chapter's slides."""
    return (inspect.getdoc(PICTURES[choice(name, "name", PICTURES)]) or "").partition("\n")[0]


def draw(folder: PathLike, only: Iterable[str] | None = None) -> Iterator[Path]:
    """Draw pictures as ``NAME.png`` into a folder, and yield the path of each when done.

    Parameters
    ----------
    folder : path
        Created if missing.
    only : iterable of str, optional
        Names of `PICTURES`; all when left out.

    Raises
    ------
    ValueError
        If a name is unknown, before anything is drawn.
    ImportError
        If matplotlib (or for some SciPy or joblib) is not installed.
    """
    names = list(PICTURES) if only is None else [choice(name, "only", PICTURES) for name in only]
    return _draw(Path(folder), names)


def _draw(folder: Path, names: list[str]) -> Iterator[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = folder / f"{name}.png"
        PICTURES[name](path)
        _slim(path)
        yield path


def _slim(path: Path) -> None:
    """Rewrite a PNG with a palette, which suffices for flat colours; the file is a third as large."""
    with optional_module("PIL.Image", "gallery", "gdcore[plot]").open(path) as image:
        small = image.convert("RGB").quantize(128)
    small.save(path, optimize=True)
