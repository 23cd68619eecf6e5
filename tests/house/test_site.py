"""Promise: the documentation site has an entry for every public name and every page of docs/, and public docstrings are
numpydoc whose parameters are those of the signature."""

from __future__ import annotations

import importlib
import inspect
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import gdcore as gd
import pytest

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "docs" / "site"
# Modules whose names are public.
PUBLIC = [f"gdcore.{name}" for name in ("analysis", "analysis.problems", "experiments", "metrics", "schedules")]
PUBLIC += ["gdcore", "gdcore.data", "gdcore.sklearn", "gdcore.tables"]
# Docstrings that leave out parameters, and where they are explained. A line that is no longer needed must be removed.
ELSEWHERE = {
    **dict.fromkeys(("gdcore.sklearn.MLPClassifier", "gdcore.sklearn.MLPRegressor"), "those of scikit-learn's class"),
    "gdcore.analysis.variance_by_layer": "*misplaced is only for the message of an error",
}


def entries() -> list[str]:
    """Return the names in docs/site/api.md, with their modules."""
    module, found = "", []
    for line in (SITE / "api.md").read_text(encoding="utf-8").splitlines():
        module = line.removeprefix(".. currentmodule:: ") if line.startswith(".. currentmodule::") else module
        found += [f"{module}.{name}" for name in re.findall(r"^   (\w+)$", line)]
    return found


def load(name: str) -> object:
    module, _, last = name.rpartition(".")
    return getattr(importlib.import_module(module), last)


def documented() -> Iterator[str]:
    """Yield the entries, and the methods and properties of those that are classes."""
    for name in entries():
        yield name
        value = load(name)
        if inspect.isclass(value):
            for member in dir(value):
                kind = inspect.getattr_static(value, member)
                owner = next(each for each in value.__mro__ if member in vars(each))
                if not member.startswith("_") and owner.__module__.startswith("gdcore"):
                    yield from [f"{name}.{member}"] * (isinstance(kind, property) or inspect.isroutine(kind))


def test_every_public_name_has_one_entry() -> None:
    assert {value.__name__ for name in gd.__all__ if inspect.ismodule(value := getattr(gd, name))} <= set(PUBLIC)
    public = {f"{module}.{name}" for module in PUBLIC for name in importlib.import_module(module).__all__}
    public = {name for name in public if not name.endswith("__") and not inspect.ismodule(load(name))}
    public -= {f"gdcore.data.{name}" for name in gd.__all__}  # which are names of gdcore itself
    found = Counter(entries())
    assert not public - found.keys(), f"not in docs/site/api.md: {sorted(public - found.keys())}"
    assert not found.keys() - public, f"not public, but in docs/site/api.md: {sorted(found.keys() - public)}"
    assert set(found.values()) == {1}, f"twice in docs/site/api.md: {[name for name in found if found[name] > 1]}"


def test_pages_of_callbacks_leave_out_what_fit_calls() -> None:
    """The events are described once, on the page of `Callback`."""
    template = (SITE / "templates" / "autosummary" / "class.rst").read_text(encoding="utf-8")
    hidden = set(re.findall(r"\w+", re.sub("{%.*?%}", "", template).partition(":exclude-members:")[2]))
    events = {name for name in vars(gd.Callback) if not name.startswith("_")}
    assert events and events <= hidden and all(hasattr(gd.EarlyStopping, name) for name in hidden)


def test_every_page_is_in_one_menu() -> None:
    pages = [path for folder in (ROOT, ROOT / "docs", SITE) for path in folder.glob("*.md")]
    found = Counter({path.resolve(): 0 for path in pages})
    for path in SITE.glob("*.md"):
        text = path.read_text(encoding="utf-8")
        for menu in re.findall(r"^```{toctree}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            lines = [line for line in menu.splitlines() if line and not line.startswith(":")]
            linked = [re.sub(r".*<(.*)>", r"\1", line) for line in lines]  # a title, or none
            found.update((SITE / f"{each}.md").resolve() for each in linked)
    del found[SITE / "index.md"]
    wrong = [path.relative_to(ROOT) for path, count in found.items() if count != 1 and "*" not in path.name]
    assert not wrong, f"not in exactly one menu of docs/site/*.md: {sorted(map(str, wrong))}"


@pytest.mark.filterwarnings("error")
def test_docstrings_have_the_parameters_of_the_signature() -> None:
    """Each docstring is parsed without a warning; where it has a list of parameters, that list is complete."""
    validate = pytest.importorskip("numpydoc.validate").validate
    wrong, used, count = [], set(), 0
    for name in documented():
        errors = dict(validate(name)["errors"])
        listed = "\nParameters\n---" in (inspect.getdoc(load_member(name)) or "")
        count += listed
        for code in {"PR01", "PR02"} & errors.keys() if listed else ():  # left out, unknown
            if name in ELSEWHERE:
                used.add(name)
            else:
                wrong.append(f"{name}: {errors[code]}")
    assert count > 120 and not wrong, "\n".join(wrong)
    assert not ELSEWHERE.keys() - used, f"no longer needed in ELSEWHERE: {sorted(ELSEWHERE.keys() - used)}"


def load_member(name: str) -> object:
    """Return the object of an entry, or the method of a class."""
    try:
        return load(name)
    except ModuleNotFoundError:
        kind, _, member = name.rpartition(".")
        return getattr(load(kind), member)


def test_wrong_parameters_are_found() -> None:
    """The check finds what it is for, in a docstring that is wrong."""
    validator = pytest.importorskip("numpydoc.validate").Validator
    docstring = importlib.import_module("numpydoc.docscrape").get_doc_object(wrong_docstring)
    codes = [code for code, _ in validator(docstring).parameter_mismatches]
    assert set(codes) == {"PR01", "PR02"}


def wrong_docstring(present: int) -> None:
    """Do nothing.

    Parameters
    ----------
    absent : int
        Not in the signature.
    """
