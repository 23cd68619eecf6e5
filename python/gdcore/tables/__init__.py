"""Tables: frames in, strong predictions out. `TabularModel` encodes columns, trains networks, and keeps both in a file.

docs/tables.md describes it; `gdcore.sklearn` has it as estimators of scikit-learn.
"""

import typing as _typing

from .importance import Importances
from .model import TabularModel

__all__ = ["Importances", "TabularModel"]


if not _typing.TYPE_CHECKING:  # with a __getattr__, type checkers would accept any name

    def __getattr__(name: str) -> _typing.NoReturn:
        """Raise AttributeError with what to type instead."""
        from ..internal.foreign_names import missing  # here, to keep `import gdcore` fast

        raise missing(__name__, name, __all__)
