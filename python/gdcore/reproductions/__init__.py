"""Published results computed again by gdcore: ``gdcore reproduce NAME OUT`` writes NAME.png, NAME.csv and NAME.md.

``REPRODUCTIONS[name](folder)`` does the same from Python and returns a `Reproduction`.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any

from ._result import Reproduction

__all__ = ["REPRODUCTIONS", "Reproduction"]

# the name on the command line, and the module whose run(folder, ...) draws the figure and returns the Reproduction
_MODULES = {
    "quadratic": "quadratic",
    "linear-samples": "linear_samples",
    "mnist1d": "mnist1d",
    "width": "width",
    "epochs": "epochs",
    "formulas": "formulas",
}


def _reproduction(module: str) -> Callable[..., Reproduction]:
    """Return a function that imports `module` when it is called, runs it and writes its table and notes."""

    def run(folder: str | os.PathLike[str], **options: Any) -> Reproduction:
        result: Reproduction = importlib.import_module(f"{__name__}.{module}").run(folder, **options)
        result.save(folder)
        return result

    run.__doc__ = f"Run `{module}`: write its figure, table and notes into `folder` (made if need be)."
    return run


REPRODUCTIONS: dict[str, Callable[..., Reproduction]] = {name: _reproduction(m) for name, m in _MODULES.items()}
