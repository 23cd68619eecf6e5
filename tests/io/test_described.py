"""Promise: what an earlier run depended on is not mistaken for the same: values, functions and objects that act
otherwise have other descriptions; the same ones have the same, also in another process; what cannot be compared is
refused."""

from __future__ import annotations

import array
import collections
import datetime
import decimal
import fractions
import functools
import logging
import sys
import threading
import types
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore.io import described as module


def described(value: Any) -> str:
    return module.described(value, "folder")


class Own(gd.Callback):
    def __init__(self, value: Any) -> None:
        self.value = value


class Scale:
    def __init__(self, by: float) -> None:
        self.by = by

    def __call__(self, step: int) -> float:
        return self.by


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def closure(value: Any) -> Callable[[int], Any]:
    return lambda step: value


def model(seed: int = 0, **options: Any) -> gd.Sequential:
    return gd.Sequential(gd.Dense(2, 2), gd.BatchNorm(2), seed=seed, **options)


def average(mean: float) -> gd.Sequential:
    made = model()
    made.buffers()["layers.1.running_mean"][...] = mean
    return made


def frozen(name: str) -> gd.Sequential:
    made = model()
    made.freeze(name)
    return made


def metric(of_class: float) -> Any:
    class Metric:
        scale: ClassVar[float] = of_class

        def __call__(self, truth: Any, predictions: Any) -> float:
            return float(self.scale)

    return Metric()


FIRST, SECOND = TypeVar("FIRST"), TypeVar("SECOND")


def advanced(times: int) -> np.random.Generator:
    rng = np.random.default_rng(0)
    rng.random(times)
    return rng


MAKERS: dict[str, tuple[Callable[[Any], Any], tuple[Any, Any]]] = {
    "attribute": (Own, (1, 2)),
    "list": (Own, ([1], [2])),
    "dict": (Own, ({"a": 1}, {"a": 2})),
    "keys": (Own, ({"a": 1}, {"b": 1})),
    "set": (Own, ({1, 2}, {1, 3})),
    "list or tuple": (Own, ([1], (1,))),
    "whole or not": (Own, (1, 1.0)),
    "slots": (Slotted, (1, 2)),
    "optimizer": (Own, (gd.SGD(0.1), gd.SGD(0.2))),
    "function of an optimizer": (lambda value: gd.SGD(closure(value)), (1.0, 2.0)),
    "function of a loss": (lambda value: gd.CustomLoss(closure(value), name="a"), (1.0, 2.0)),
    "schedule": (lambda value: gd.schedules.warmup(closure(value), 3), (1.0, 2.0)),
    "closure": (lambda value: Own(closure([value])), (1, 2)),
    "callable object": (lambda value: closure(Scale(value)), (1.0, 2.0)),
    "partial": (lambda value: functools.partial(closure(value)), (1, 2)),
    "method": (lambda value: Scale(value).__call__, (1.0, 2.0)),
    "method of C": (lambda value: np.random.default_rng(value).normal, (1, 2)),
    "cache": (lambda value: functools.lru_cache(closure(value)), (1, 2)),
    "vectorize": (lambda value: np.vectorize(closure(value)), (1, 2)),
    "attribute of a class": (metric, (1.0, 2.0)),
    "base class": (lambda base: type("Of", (base,), {}), (Own, Scale)),
    "builtin": (lambda name: getattr(np, name), ("sin", "cos")),
    "kept by name": (lambda name: globals()[name], ("FIRST", "SECOND")),
    "array": (np.array, ([0.0], [1.0])),
    "dtype": (lambda kind: np.zeros(3, kind), ("f8", "f4")),
    "shape": (np.zeros, ((0, 2), (2, 0))),
    "number of NumPy": (np.float32, (1, 2)),
    "objects": (lambda value: np.array([[1, 2], None, value], object), (1, 2)),
    "objects in records": (lambda value: np.array([(1, value)], [("a", "i4"), ("b", object)]), ("a", "b")),
    "mask": (lambda mask: np.ma.array([1.0, 2.0], mask=mask), ([False, True], [True, False])),
    "Decimal": (decimal.Decimal, (1, 2)),
    "Fraction": (lambda value: fractions.Fraction(1, value), (2, 3)),
    "date": (lambda day: datetime.date(2020, 1, day), (1, 2)),
    "datetime": (lambda day: datetime.datetime(2020, 1, day), (1, 2)),
    "timedelta": (datetime.timedelta, (1, 2)),
    "deque": (collections.deque, ([1], [2])),
    "length of a deque": (lambda most: collections.deque([1], most), (1, 2)),
    "default": (collections.defaultdict, (int, list)),
    "array of Python": (lambda value: array.array("d", [value]), (1, 2)),
    "bytearray": (lambda value: bytearray([value]), (1, 2)),
    "memoryview": (lambda value: memoryview(bytes([value])), (1, 2)),
    "range": (range, (1, 2)),
    "slice": (slice, (1, 2)),
    "mapping proxy": (lambda value: types.MappingProxyType({"a": value}), (1, 2)),
    "Generator": (np.random.default_rng, (1, 2)),
    "state of a Generator": (advanced, (1, 2)),
    "RandomState": (np.random.RandomState, (1, 2)),
    "weights": (model, (1, 2)),
    "running averages": (average, (0.5, 1.5)),
    "frozen": (frozen, ("layers.0.bias", "layers.1.beta")),
    "class names": (lambda name: model(classes=["a", name]), ("b", "c")),
    "column names": (lambda name: model(feature_names=["a", name]), ("b", "c")),
    "target names": (lambda name: model(target_names=["a", name]), ("b", "c")),
    "FrozenPredictor": (lambda seed: model(seed).predictor(), (1, 2)),
    "Ensemble": (lambda seed: gd.Ensemble([model(seed)]), (1, 2)),
}


@pytest.mark.parametrize("name", MAKERS)
def test_what_acts_otherwise_is_described_otherwise(name: str) -> None:
    make, values = MAKERS[name]
    one, other = map(make, values)
    assert described(one) != described(other)
    assert described(one) == described(make(values[0]))


FRAMES: dict[str, Callable[[Any, Any], Any]] = {
    "pandas Series": lambda pandas, value: pandas.Series([1.0, value]),
    "pandas text": lambda pandas, value: pandas.Series(["a", f"b{value}"]),
    "pandas name": lambda pandas, value: pandas.Series([1.0], name=str(value)),
    "pandas rows": lambda pandas, value: pandas.Series([1.0, 2.0], index=["a", f"b{value}"]),
    "pandas DataFrame": lambda pandas, value: pandas.DataFrame({"a": [1, value], "b": ["x", "y"]}),
    "pandas Index": lambda pandas, value: pandas.Index([1, value]),
    "polars Series": lambda polars, value: polars.Series("a", [1, value]),
    "polars DataFrame": lambda polars, value: polars.DataFrame({"a": [1, value], "b": ["x", "y"]}),
    "pyarrow array": lambda pyarrow, value: pyarrow.array(["a", str(value)]),
    "pyarrow table": lambda pyarrow, value: pyarrow.table({"a": [1, value]}),
    "scipy.special function": lambda special, value: (special.erf, special.erfc)[value - 1],
    "torch tensor": lambda torch, value: torch.tensor([1.0, value]),
    "torch dtype": lambda torch, value: torch.zeros(2, dtype=(torch.float32, torch.bfloat16)[value - 1]),
    "sklearn.linear_model estimator": lambda linear, value: linear.Ridge().fit([[1.0], [2.0]], [1.0, float(value)]),
    "sklearn.linear_model argument": lambda linear, value: linear.Ridge(alpha=value),
}


@pytest.mark.parametrize("name", FRAMES)
def test_frames_tensors_and_estimators(name: str) -> None:
    library = pytest.importorskip(name.split()[0])
    one, other, again = (FRAMES[name](library, value) for value in (1, 2, 1))
    assert described(one) == described(again) != described(other)


# ------------------------------------------------------------------------------------------------------------ functions
CHANGED = 1


def of_global(step: int) -> int:
    return step * CHANGED


def helper(step: int) -> int:
    return step * CHANGED


class Method:
    def rate(self, step: int) -> int:
        return step * CHANGED


class Derived(Method):
    pass


own_module = types.ModuleType("own_module")
own_module.scale = 1  # type: ignore[attr-defined]

USING: dict[str, Any] = {
    "function": of_global,
    "lambda": lambda steps: map(lambda step: step * CHANGED, steps),
    "comprehension": lambda steps: [step * CHANGED for step in steps],
    "generator": lambda steps: sum(step * CHANGED for step in steps),
    "function within two": lambda steps: [[step * CHANGED for step in row] for row in steps],
    "default of a function": lambda steps, by=of_global: map(by, steps),
    "function that it calls": lambda step: [helper(each) for each in step],
    "method of an object": Method(),
    "class": lambda step: Derived().rate(step),
    "partial": functools.partial(of_global, 3),
}


@pytest.mark.parametrize("name", USING)
def test_a_global_that_is_used_counts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = described(USING[name])
    assert described(USING[name]) == before
    monkeypatch.setattr(f"{__name__}.CHANGED", 2)
    assert described(USING[name]) != before


def test_only_what_is_used_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attributes of a module of the user's count; a global with the name of an attribute does not."""
    used, unused = (lambda step: step * own_module.scale), (lambda step: step.CHANGED)
    before = described(used), described(unused)
    monkeypatch.setattr(own_module, "other", 3, raising=False)
    monkeypatch.setattr(f"{__name__}.CHANGED", 2)
    assert (described(used), described(unused)) == before
    monkeypatch.setattr(own_module, "scale", 2)
    assert described(used) != before[0]


def as_closure(module: Any) -> Any:
    return lambda step: step * module.scale


def as_nested_closure(module: Any) -> Any:
    return lambda steps: [(lambda step: step * module.scale)(each) for each in steps]


def as_default(module: Any) -> Any:
    return lambda step, module=module: step * module.scale


def as_other_name(step: int) -> int:
    module = own_module
    return step * module.scale  # type: ignore[no-any-return, attr-defined]


HOLDERS: dict[str, Callable[[Any], Any]] = {
    "closure": as_closure,
    "nested closure": as_nested_closure,
    "default": as_default,
    "other name": lambda module: as_other_name,
    "attribute": Scale,
    "element": lambda module: [module],
    "module within it": lambda module: outer_module,
}
outer_module = types.ModuleType("outer_module")
outer_module.inner, own_module.outer = own_module, outer_module  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", HOLDERS)
def test_a_module_counts_wherever_it_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = described(HOLDERS[name](own_module))
    assert described(HOLDERS[name](own_module)) == before
    monkeypatch.setattr(own_module, "scale", 2)
    assert described(HOLDERS[name](own_module)) != before


def test_of_a_module_in_a_closure_only_what_is_used_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = described(as_closure(own_module)), described(as_nested_closure(own_module))
    monkeypatch.setattr(own_module, "other", (each for each in "a"), raising=False)
    assert (described(as_closure(own_module)), described(as_nested_closure(own_module))) == before
    helpers.refuses(lambda: described(as_default(own_module)), TypeError, "^folder: .*generator")


def test_a_module_of_tests_can_be_described() -> None:
    assert described([sys.modules[__name__]]) == described([sys.modules[__name__]])


def test_code_counts_and_the_place_of_a_function_does_not() -> None:
    first, second, third = (lambda step: 1e-2), (lambda step: 1e-1), (lambda step: 1e-2)
    assert described(first) != described(second)
    assert described(first) == described(third) == described(AT_THE_TOP)
    assert described(lambda a, b=1: a) != described(lambda b, a=1: b)  # metrics are called by names
    assert described(lambda step: {0.5: "a"}[step]) != described(lambda step: {0.5: "b"}[step])


def test_attributes_of_a_function_count(monkeypatch: pytest.MonkeyPatch) -> None:
    before = described(of_global)
    monkeypatch.setattr(of_global, "limit", 3, raising=False)
    assert described(of_global) != before


AT_THE_TOP = lambda step: 1e-2  # noqa: E731


def test_objects_within_themselves_and_long_chains() -> None:
    loop = Own(None)
    loop.value = [loop]
    other = Own(None)
    other.value = [other, 1]
    assert described(loop) == described(loop) != described(other)
    inner: list[Any] = [1]
    for _ in range(50):  # read once each, not 2**50 times
        inner = [inner, inner]
    outer: list[Any] = [2]
    for _ in range(50):
        outer = [outer, outer]
    assert described(inner) != described(outer)
    for _ in range(sys.getrecursionlimit()):
        inner = [inner]
    helpers.refuses(lambda: described(inner), TypeError, "^folder: .*too deep")


def test_many_sets_of_one_another_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """To be read in every order, they would take hours; a large set of objects that refer to themselves is read."""
    own = [Own(None) for _ in range(30)]
    for each in own:
        each.value = set(own)
    monkeypatch.setattr(module, "MOST_DROPPED", 10**4)
    helpers.refuses(lambda: described(own), TypeError, "^folder: got sets of objects within one another, too many")
    for each in own:
        each.value = [each]
    assert described(set(own)) == described(set(own))


def test_what_cannot_be_compared_is_refused() -> None:
    rates = (0.1 for _ in range(3))

    def rate(step: int) -> float:
        return next(rates)

    helpers.refuses(lambda: described(rate), TypeError, "^folder: .*generator.*rate uses; expected values that can be")
    with open(__file__, encoding="utf-8") as file:
        helpers.refuses(lambda: described(Own(file)), TypeError, "^folder: .*TextIOWrapper")
    helpers.refuses(lambda: described(np.frompyfunc(abs, 1, 1)), TypeError, "^folder: .*not found by its name")


def test_errors_of_values_are_not_taken_for_variables_without_one() -> None:
    one, other = closure(10**5000), closure(10**5000 + 1)  # too long for their decimal digits
    assert described(one) == described(closure(10**5000)) != described(other)
    released = memoryview(b"a")
    released.release()
    helpers.refuses(lambda: described(closure(released)), TypeError, "^folder: .*released.*can be pickled")

    def unset(first: bool) -> Callable[[], Any]:
        if first:
            a = 1
        else:
            b = 1
        return lambda: (a, b)

    assert described(unset(True)) == described(unset(True)) != described(unset(False))


def test_what_has_no_effect_on_results_is_not_refused(tmp_path: Any) -> None:
    with open(tmp_path / "log", "w", encoding="utf-8") as file:
        for value in (threading.Lock(), threading.RLock(), file, logging.getLogger("a"), np):
            assert described(closure(value)) == described(closure(value))


def test_in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """With another hash seed: sets are in another order."""
    code = """
    import sys
    import gdcore as gd, numpy as np
    from gdcore.io.described import described
    cut = {"b", "a", "c"}
    class Own(gd.Callback):
        kinds = frozenset(["x", "y", "z"])
        def on_epoch_end(self, trainer, logs):
            trainer.stop = str(logs) in {"p", "q", "r"}
    values = [lambda step: step in cut, lambda step: step in {"u", "v", "w"}, Own(), gd.SGD(lambda step: 0.5)]
    class Node:
        def __init__(self, name):
            self.name, self.others = name, set()
        def __hash__(self):
            return hash(self.name)
    nodes = [Node(name) for name in "abcd"]
    for i, node in enumerate(nodes):
        node.others |= {*nodes[:i], *nodes[i + 1 :], ("x", nodes[i - 1])}
    values += [nodes, nodes[::-1], [{*nodes[2:]}, nodes], frozenset(nodes)]
    values += [np.arange(3), gd.EarlyStopping(), gd.metrics.f1, gd.Sequential(gd.Dense(2, 2), seed=0)]
    print(*(described(value, "a") for value in values), list(cut))
    """
    printed = []
    for seed in ("1", "2", "3"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        printed.append(helpers.must_run(code).split(" ["))
    assert len({descriptions for descriptions, _ in printed}) == 1
    assert len({order for _, order in printed}) > 1
