"""What a file of gdcore contains, as text: ``gdcore inspect``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..internal.checks import shown
from . import checkpoint, specs
from .tensor_file import KEY_OF_SEVERAL, read_file

if TYPE_CHECKING:
    from _typeshed import StrPath

    from ..tables import TabularModel

__all__ = ["aligned", "contents"]

LONGEST = 100  # characters of a list of names


def contents(path: StrPath) -> str:
    """Return the kind of a file, its model's layers or its models, names of inputs and outputs, and training so far.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FormatError
        If it is damaged, of a newer version, or not written by gdcore.
    """
    from ..model import load
    from ..tables import TabularModel

    tensors, metadata = read_file(path)
    model = load(path, device="cpu")
    training = "training" in metadata
    size = f"{os.path.getsize(path):,} bytes, written by gdcore {metadata.get('gdcore_version')}"
    if isinstance(model, TabularModel):
        return _table(model, f"table, {size}")
    kind = "ensemble" if KEY_OF_SEVERAL in metadata else "checkpoint" if training else "model"
    facts = {"file": f"{kind}, {size}", "inputs": _names(model.in_features, model.feature_names)}
    facts["outputs"] = _names(model.out_features, model.target_names)
    facts["outputs"] += "" if model.outputs is None else f"; meaning: {model.outputs}"
    if model.classes is not None:
        facts["classes"] = shown(list(model.classes), LONGEST)
    if training:
        saved = checkpoint.from_contents(tensors, metadata, "path")
        history = saved.history
        facts["training"] = f"epochs {history.epochs}, steps {saved.training['steps']:,}, seed {saved.seed}"
        rules = {name: saved.training[name] for name in checkpoint.OTHERS}
        facts |= {name: specs.as_text(rule) for name, rule in rules.items() if rule is not None}
        if history.epochs:
            facts["last epoch"] = ", ".join(f"{name} {value:.6g}" for name, value in history.last.items())
    return f"{aligned(facts)}\n\n{model.summary()}"


def _table(model: TabularModel, file: str) -> str:
    target, networks = model._parts()[0], model.ensemble
    facts = {"file": file, "target": f"{'' if target.name is None else f'{target.name!r}, '}{target.task}"}
    if target.classes is not None:
        facts["classes"] = shown(list(target.classes), LONGEST)
    facts["inputs"] = _names(len(model.feature_names), model.feature_names)
    ignored = [name for name in model._ignored if name != target.name]  # they may be in a table, or not
    if ignored:
        facts["ignored"] = _names(len(ignored), tuple(ignored))
    return f"{aligned(facts)}\n\n{model.columns()}\n\n{networks.summary()}"


def aligned(facts: Mapping[str, str]) -> str:
    """Return facts as lines, their names in one column."""
    width = max(map(len, facts))
    return "\n".join(f"{name:<{width}}  {text}" for name, text in facts.items())


def _names(count: int, names: Sequence[str] | None) -> str:
    return f"{count}{'' if names is None else f': {shown(list(names), LONGEST)}'}"
