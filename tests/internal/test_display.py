"""Promise: whatever prints as a table or text is shown in notebooks with the same contents, all of it escaped, and
without colours of its own."""

from __future__ import annotations

import html
import inspect
import pickle
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import gdcore as gd
import numpy as np
import pytest
from gdcore import analysis, experiments
from gdcore.internal.display import Aligned, Shown

EVIL = "<script>alert('&')</script>"


class Checked(HTMLParser):
    """Collects text and tags; demands that all tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert tag in {"div", "table", "thead", "tbody", "tr", "th", "td", "p"}, tag
        assert all(name == "style" and not re.search(r"(^|[; ])(color|background)", value) for name, value in attrs)
        self.open.append(tag)
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data.split()


def model() -> gd.Sequential:
    return gd.Sequential(gd.Dense(3, 4), gd.ReLU(), gd.Dense(4, 1, name="head"), seed=0)


def swept() -> gd.Sweep:
    x = np.random.default_rng(0).standard_normal((30, 3))
    common: dict[str, Any] = {"validation": 0.3, "loss": gd.MeanSquaredError(), "optimizer": gd.SGD(0.01), "epochs": 1}

    def build(seed: int, kind: str) -> gd.Sequential:
        return gd.Sequential(gd.Dense(3, len(kind)), gd.Dense(len(kind), 1), seed=seed)

    return gd.sweep(build, {"kind": [EVIL, "b"]}, x, x[:, 0], **common, progress=False)


def range_test() -> gd.LRRange:
    x = np.random.default_rng(0).standard_normal((30, 3))
    return gd.lr_range_test(model(), gd.MeanSquaredError(), x, x[:, 0], optimizer=gd.SGD(0.1), steps=5)


def of_table() -> gd.tables.TabularModel:
    made = gd.tables.TabularModel("regression", ensemble=1, progress=False, device="cpu")
    return made.fit({EVIL: np.arange(20)}, np.arange(20))


THINGS: dict[str, Callable[[], Any]] = {
    "Ensemble": lambda: gd.Ensemble([model(), model()]),
    "Sequential": model,
    "Sweep": swept,
    "LRRange": range_test,
    "Table": lambda: gd.Table({EVIL: [EVIL, None, 0.5]}),
    "IdenticalUnits": lambda: analysis.identical_units(model()),
    "ConvergenceFactors": lambda: analysis.convergence_factors(analysis.QuadraticModel.from_arrays(np.eye(2)), lr=0.1),
    "TabularModel": of_table,
    "Importances": lambda: of_table().importances({EVIL: np.arange(20)}, np.arange(20)),
    "Aligned": lambda: Aligned([("", EVIL), (EVIL, "b")], (0,), (EVIL, "c")),
}


@pytest.mark.parametrize("name", THINGS)
def test_notebooks_show_what_is_printed(name: str) -> None:
    thing = THINGS[name]()
    printed = thing.summary() if name in ("Sequential", "Ensemble") else str(thing)
    shown = Checked(thing._repr_html_())
    missing = set(printed.split()) - set(shown.words) - {line for line in printed.split() if set(line) == {"-"}}
    assert not missing and EVIL not in thing._repr_html_()
    if name in ("Sweep", "Table", "Aligned", "TabularModel", "Importances"):
        assert html.escape(EVIL) in thing._repr_html_()


@pytest.mark.parametrize(
    "text", [model().summary(), gd.Ensemble([model()]).summary(), gd.Table({"a": [1]}).to_markdown()]
)
def test_consoles_show_tables_of_text_as_they_are_printed(text: str) -> None:
    assert "\n" in text and repr(text) == str(text) == f"{text}" and isinstance(text, str)
    assert pickle.loads(pickle.dumps(text)) == text


def test_text_keeps_its_lines() -> None:
    class Two(Shown):
        def _parts(self) -> tuple[Any, ...]:
            return gd.Table({"a": [1]}), "", f"first\n{EVIL}"

    assert str(Two()) == f"a\n1\n\nfirst\n{EVIL}"
    text = Two()._repr_html_()
    assert text.count("<p") == 2 and "white-space: pre-wrap" in text and Checked(text).tags.count("td") == 1


def test_every_result_that_prints_has_html() -> None:
    found = {
        kind
        for module in (gd, gd.tables, analysis, experiments)
        for kind in vars(module).values()
        if inspect.isclass(kind)
    }
    found |= {getattr(gd, name) for name in gd.__all__ if inspect.isclass(getattr(gd, name))}
    plain = (BaseException, tuple, gd.Layer, gd.Loss, gd.Optimizer, gd.Initializer, gd.DeviceArray)
    printing = [kind for kind in found if kind.__str__ is not object.__str__ and not issubclass(kind, plain)]
    assert len(printing) >= 15
    assert not [kind for kind in printing if not hasattr(kind, "_repr_html_")]
