"""Sets the path of the cuBLAS wheel for the CUDA backend, before the backend is loaded."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

VARIABLE = "GDCORE_CUBLASLT_WHEEL"


def set_cublas_path() -> None:
    """Set the path of cuBLASLt in the environment, if Python finds its wheel.

    The backend searches next to its own folder; with ``--system-site-packages``, ``--user`` or an editable install the
    wheel may be elsewhere. Only paths are searched; nothing is imported or opened.
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
