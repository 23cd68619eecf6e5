"""What `gdcore.load` does: reads a file, and builds what it describes: a model, an ensemble, or a model of tables."""

from __future__ import annotations

from typing import Any

from .destination import FileLike, label
from .tensor_file import KEY_OF_SEVERAL, KEY_OF_TABLE, read_file

__all__ = ["load"]


def load(path: FileLike, **settings: Any) -> Any:
    """Return what was saved in a file; `settings` are device and precision of its networks."""
    tensors, metadata = read_file(path)
    where = label(path, "path")
    if KEY_OF_TABLE in metadata:
        from .tables import table_from

        return table_from(tensors, metadata, where, **settings)
    if KEY_OF_SEVERAL in metadata:
        from .ensembles import ensemble_from

        return ensemble_from(tensors, metadata, where, **settings)
    from .saving import model_from

    return model_from(tensors, metadata, where, **settings)
