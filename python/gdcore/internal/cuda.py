"""Where the wheel of cuBLAS lies, told to the CUDA backend before it is first opened."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

VARIABLE = "GDCORE_CUBLASLT_WHEEL"


def tell_where_cublas_is() -> None:
    """Put the path of cuBLASLt in the environment, where Python would find its wheel.

    The backend looks beside its own folder; with ``--system-site-packages``, ``--user`` or an editable install the
    wheel may lie elsewhere. Only the paths are looked at; nothing is imported or opened.
    """
    if VARIABLE in os.environ:
        return
    try:
        found = importlib.util.find_spec("nvidia")
    except (ImportError, ValueError):
        return
    for folder in (found.submodule_search_locations or []) if found else []:
        for file in sorted(Path(folder).glob("*/lib/libcublasLt.so.13")):
            os.environ[VARIABLE] = str(file)
            return
