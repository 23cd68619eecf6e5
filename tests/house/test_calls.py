"""Promise: public calls have at most 8 parameters except for a few with a reason, and take all but the data by name
only; the common arguments of `gdcore.analysis` are explained once, and its calls explain arguments they lack."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import gdcore as gd
import pytest
from gdcore import analysis, experiments, metrics, schedules

MOST = 8
POSITIONAL = 5  # limit for calls with more than MOST: model, loss, x, y and one of their own

# Calls with more than MOST parameters, and the reason. A line that is no longer needed must be removed.
LONG = {
    "Adam": "the settings of an optimiser, named as in PyTorch",
    "Sequential": "what a model is, beside its layers: all of it is saved in files and returned by settings()",
    "Trainer.fit": "the data, the length and the order of a run, as checkpoints compare them",
    "Ensemble.train": "the arguments of Trainer and of fit, and how the models differ and where they are trained",
    "restarts": "the arguments of Trainer and of fit, and how often and where they are tried",
    "sweep": "those of restarts, and the settings to try",
    "lr_range_test": "the arguments of Trainer and of fit, and the rates to try",
    "analysis.classify_critical_point": "those of QuadraticModel, for which one may be given, and two tolerances",
    "analysis.convergence_factors": "those of QuadraticModel, for which one may be given, and the two of the optimiser",
    "analysis.effective_parameters": "those of QuadraticModel, for which one may be given, and the weight decay",
    "analysis.eigenvalues": "those of Objective, and four of the search",
    "analysis.gradient_noise": "those of Objective, and how batches are drawn",
    "analysis.loss_surface": "those of Objective, and which part of the surface is computed",
    "experiments.double_descent": "what is varied, how often, and where the runs are computed and kept",
    "experiments.double_descent_linear": "those of double_descent, and the problem",
    "experiments.random_labels": "those of double_descent, and the shares",
    "experiments.early_stopping_and_decay": "an experiment with all its settings, to be repeated from one line",
}


def is_result(kind: type) -> bool:
    """Return whether only the library makes objects of a class, so that users do not pass its fields."""
    return dataclasses.is_dataclass(kind) or hasattr(kind, "_asdict")


def calls() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield the public functions, classes and methods with the names that users call them by."""
    for module in (gd, analysis, experiments, metrics, schedules):
        module_name = module.__name__.removeprefix("gdcore").removeprefix(".")
        for name in module.__all__:
            value, full = getattr(module, name), f"{module_name}.{name}".lstrip(".")
            if inspect.isclass(value):
                own = [each for each in dir(value) if not each.startswith("_") and callable(getattr(value, each))]
                yield from ((f"{full}.{method}", getattr(value, method)) for method in own)
            if callable(value) and not (inspect.isclass(value) and is_result(value)):
                yield full, value


def parameters(call: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        given = inspect.signature(call).parameters.values()
    except ValueError:  # a class that cannot be called, or a method of dict
        return []
    return [parameter for parameter in given if parameter.name != "self"]


def test_calls_have_few_parameters() -> None:
    found = {name: len(parameters(call)) for name, call in calls()}
    assert len(found) > 200
    long = {name for name, count in found.items() if count > MOST}
    assert not long - LONG.keys(), f"more than {MOST} parameters: {sorted(long - LONG.keys())}"
    assert not LONG.keys() - long, f"listed in LONG without need: {sorted(LONG.keys() - long)}"


@pytest.mark.parametrize("name", [n for n in analysis.__all__ if not is_result(getattr(analysis, n))])
def test_an_unknown_argument_is_explained(name: str) -> None:
    with pytest.raises(TypeError, match=rf"^\[{name}\] l3 is not among its arguments; expected {name}\("):
        getattr(analysis, name)(l3=0.1)


@pytest.mark.parametrize("name", LONG)
def test_what_has_more_takes_them_by_name(name: str) -> None:
    call = dict(calls())[name]
    kinds = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    by_place = [parameter.name for parameter in parameters(call) if parameter.kind in kinds]
    assert len(by_place) <= POSITIONAL, by_place


EXPLAINED = ("sample_weight", "at", "mode", "memory_limit", "x", "loss")  # in Objective and QuadraticModel


@pytest.mark.parametrize("name", analysis.__all__)
def test_common_arguments_are_explained_once(name: str) -> None:
    call = getattr(analysis, name)
    if name in ("Objective", "QuadraticModel") or inspect.isclass(call):
        return
    section = re.search(r"Parameters\n-+\n(.*?)(?:\n\n[A-Z][a-z]+\n---|\Z)", inspect.getdoc(call) or "", re.DOTALL)
    entries = re.findall(r"^(\S.*)\n((?: +.*\n?)*)", section[1] if section else "", re.MULTILINE)
    for names, text in entries:
        common = set(re.split(r", | :", names)) & set(EXPLAINED)
        alone = name == "variance_by_layer" or (name, names) in OWN
        assert not common or alone or re.search("As for `(Objective|QuadraticModel)`", text), f"{names}: {text}"


# Arguments with a common name and their own meaning.
OWN = {
    ("hessian", "memory_limit : int"),  # QuadraticModel has the same
    ("loss_surface", "at : array, optional"),  # the centre of the grid
}
