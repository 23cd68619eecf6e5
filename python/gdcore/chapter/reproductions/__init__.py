"""Published results reproduced by gdcore: ``gdcore reproduce NAME OUT`` writes NAME.png, NAME.csv and NAME.md.

``REPRODUCTIONS[name](folder)`` does the same from Python and returns a `Reproduction`. Models stay on the CPU, so
that figures do not depend on whether the machine has a GPU.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any

from ._result import Reproduction

__all__ = ["REPRODUCTIONS", "Reproduction"]

# for each name on the command line: the module with its run(folder, ...), and a description
_MODULES = {
    "quadratic": ("quadratic", "steps to converge on a quadratic: gradient descent and heavy ball"),
    "linear-samples": ("linear_samples", "sample-wise double descent in linear regression, exactly (Nakkiran 2019)"),
    "mnist1d": ("mnist1d", "test accuracy on MNIST-1D, with a validation split (Greydanus & Kobak 2020)"),
    "width": ("width", "model-wise double descent on MNIST-1D (Greydanus & Kobak 2020)"),
    "epochs": ("epochs", "epoch-wise double descent on two scales, and its removal (Heckel & Yilmaz 2020)"),
    "formulas": ("formulas", "four formulas of the chapter, measured"),
}


def _reproduction(module: str, what: str) -> Callable[..., Reproduction]:
    """Return a function that imports `module` when called, runs it and writes its table and notes."""

    def run(folder: str | os.PathLike[str], **options: Any) -> Reproduction:
        result: Reproduction = importlib.import_module(f"{__name__}.{module}").run(folder, **options)
        result.save(folder)
        return result

    run.__doc__ = what
    return run


REPRODUCTIONS: dict[str, Callable[..., Reproduction]] = {name: _reproduction(*m) for name, m in _MODULES.items()}
