"""Tables: frames in, strong predictions out. `TabularModel` encodes columns, trains networks, and keeps both in a file.

docs/tables.md describes it; `gdcore.sklearn` has it as estimators of scikit-learn.
"""

from .importance import Importances
from .model import TabularModel

__all__ = ["Importances", "TabularModel"]
