"""What every room uses and users do not import: checks, arguments, arrays, frames, labels. Imports no other room."""

import importlib as _importlib
import sys as _sys

# cpp/bindings asks for these by the names that they had. `immutable` is last: it imports the core, which asks for
# `arguments` while it is being made.
for _name in ("checks", "arguments", "cuda", "immutable"):
    _sys.modules[f"gdcore._{_name}"] = _importlib.import_module(f"{__name__}.{_name}")
