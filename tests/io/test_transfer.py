"""Promise: parameters are transferred by name between networks, all or some of them, and to and from PyTorch; a refused
transfer changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest


def network(seed: int, width_out: int = 3) -> gd.Sequential:
    return gd.Sequential(gd.Dense(4, 6), gd.BatchNorm(6), gd.ReLU(), gd.Dense(6, width_out), seed=seed)


def test_all_by_mapping_model_or_file(tmp_path: Path) -> None:
    source = network(1)
    source.forward(np.random.default_rng(0).standard_normal((9, 4)).astype("f"))
    source.save(tmp_path / "m")
    for given in (source, {**source.parameters(), **source.buffers()}, tmp_path / "m", str(tmp_path / "m")):
        target = network(2)
        names = target.load_parameters(given)
        assert set(names) == {*source.parameters(), *source.buffers()}
        helpers.same_bits(helpers.snapshot(target), helpers.snapshot(source))


def test_part(tmp_path: Path) -> None:
    source, target = network(1), network(2, width_out=7)
    before = helpers.copies(target.parameters())
    names = target.load_parameters({**source.parameters(), **source.buffers()}, strict=False)
    assert "layers.3.weight" not in names and "layers.0.weight" in names
    helpers.same_bits(
        np.array(target.parameters()["layers.0.weight"]), np.array(source.parameters()["layers.0.weight"])
    )
    helpers.same_bits(np.array(target.parameters()["layers.3.weight"]), before["layers.3.weight"])
    only = network(3)
    assert only.load_parameters(source.parameters(), only=["layers.3"]) == ["layers.3.weight", "layers.3.bias"]
    untouched = network(3)
    for name, view in only.parameters().items():
        helpers.same_bits(np.array(view), np.array((source if "layers.3" in name else untouched).parameters()[name]))


def test_prefix_and_rename() -> None:
    source = network(1)
    names = {f"old.{n.replace('layers.3', 'head')}": a for n, a in {**source.parameters(), **source.buffers()}.items()}
    for rename in ({"head": "layers.3"}, lambda n: n.replace("head", "layers.3")):
        target = network(2)
        target.load_parameters(names, prefix="old.", rename=rename)
        helpers.same_bits(helpers.snapshot(target), helpers.snapshot(source))


def test_a_model_takes_its_own_parameters_under_other_names() -> None:
    model = gd.Sequential(gd.Dense(4, 4), gd.Dense(4, 4), seed=0)
    first, second = (np.array(model.parameters()[f"layers.{i}.weight"]) for i in (0, 1))
    swap = {"layers.0": "layers.1", "layers.1": "layers.0"}
    model.load_parameters(model, rename=swap)
    helpers.same_bits(np.array(model.parameters()["layers.0.weight"]), second)
    helpers.same_bits(np.array(model.parameters()["layers.1.weight"]), first)


def broken(**changes: Any) -> dict[str, Any]:
    source = network(1)
    arrays = {**source.parameters(), **source.buffers(), **changes}
    return {name: array for name, array in arrays.items() if array is not None}


def given(name: str, value: Any) -> Any:
    """A call that loads the other network's parameters with one of them replaced (or left out, for None)."""
    return lambda model: model.load_parameters(broken(**{name: value}))


BAD: dict[str, Any] = {
    "missing": (given("layers.0.bias", None), ValueError, "layers.0.bias"),
    "extra": (given("layers.9.bias", np.ones(3)), ValueError, "layers.9.bias"),
    "shape": (given("layers.3.bias", np.ones(4)), ValueError, "layers.3.bias"),
    "scalar": (given("layers.3.bias", 1.0), ValueError, "layers.3.bias"),
    "transposed": (given("layers.0.weight", np.ones((4, 6))), ValueError, "layers.0.weight"),
    "nan": (given("layers.3.bias", np.array([1, np.nan, 1])), ValueError, "layers.3.bias"),
    "infinite": (given("layers.3.bias", np.array([1, np.inf, 1])), ValueError, "layers.3.bias"),
    "too large": (given("layers.3.bias", np.array([1, 1e39, 1])), ValueError, "layers.3.bias"),
    "text": (given("layers.3.bias", ["a", "b", "c"]), TypeError, "layers.3.bias"),
    "complex": (given("layers.3.bias", np.ones(3, complex)), TypeError, "layers.3.bias"),
    "none": (lambda m: m.load_parameters(None), TypeError, "source"),
    "number": (lambda m: m.load_parameters(5), TypeError, "source"),
    "other model": (lambda m: m.load_parameters(network(1, 5)), ValueError, "layers.3"),
    "numbers as names": (lambda m: m.load_parameters({0: np.ones((6, 4))}), TypeError, "source"),
    "a number among the names": (lambda m: m.load_parameters({**broken(), 0: np.ones(3)}), TypeError, "source"),
    "none as a name": (lambda m: m.load_parameters({None: np.ones(3)}, strict=False), TypeError, "source"),
    "list": (lambda m: m.load_parameters([np.ones(3)]), TypeError, "source"),
    "empty": (lambda m: m.load_parameters({}), ValueError, "source"),
    "nothing fits": (lambda m: m.load_parameters({"a": np.ones(3)}, strict=False), ValueError, "source"),
    "prefix": (lambda m: m.load_parameters(broken(), prefix="x."), ValueError, "source"),
    "prefix number": (lambda m: m.load_parameters(broken(), prefix=1), TypeError, "prefix"),
    "rename number": (lambda m: m.load_parameters(broken(), rename=1), TypeError, "rename"),
    "rename to number": (lambda m: m.load_parameters(broken(), rename=lambda n: 1), TypeError, "rename"),
    "only number": (lambda m: m.load_parameters(broken(), only=1), TypeError, "only"),
    "only": (lambda m: m.load_parameters(broken(), only=["layers.8"]), ValueError, "only"),
    "rename": (lambda m: m.load_parameters(broken(), rename=lambda n: "same"), ValueError, "rename"),
    "no file": (lambda m: m.load_parameters("/nonexistent/file"), FileNotFoundError, "file"),
    "freeze": (lambda m: m.freeze("layers.0", "layers.7"), ValueError, "prefixes"),
    "freeze nothing": (lambda m: m.freeze("layers"[:3]), ValueError, "prefixes"),
    "freeze number": (lambda m: m.freeze(0), ValueError, "prefixes"),
    "freeze prefix": (lambda m: m.freeze("layers.0.b"), ValueError, "prefixes"),
    "unfreeze": (lambda m: m.unfreeze("head"), ValueError, "prefixes"),
    "restore other": (lambda m: m.restore_state(network(1, 5).copy_state()), ValueError, "state"),
    "restore part": (lambda m: m.restore_state({"parameters": m.copy_state()["parameters"]}), ValueError, "state"),
    "torch none": (lambda m: m.from_torch(None), TypeError, "source"),
    "torch empty": (lambda m: m.from_torch({}), ValueError, "source"),
}


@pytest.mark.parametrize("name", BAD)
def test_refused(name: str) -> None:
    call, kind, word = BAD[name]
    model = network(2)
    before = helpers.snapshot(model)
    with pytest.raises(kind, match=word) as info:
        call(model)
    assert type(info.value) is kind
    helpers.same_bits(helpers.snapshot(model), before)
    assert model.frozen() == []


def torch_network(torch: Any, running: str) -> tuple[Any, gd.Sequential]:
    nn = torch.nn
    theirs = nn.Sequential(
        nn.BatchNorm1d(4, eps=0, affine=False), nn.Linear(4, 6), nn.BatchNorm1d(6), nn.GELU(),
        nn.Linear(6, 5, bias=False), nn.LayerNorm(5), nn.Linear(5, 2),
    ).double()  # fmt: skip
    x = np.random.default_rng(0).standard_normal((40, 4)) * 3 + 1
    ours = gd.Sequential(
        gd.Standardizer(4).fit(x), gd.Dense(4, 6), gd.BatchNorm(6, running=running), gd.GELU(),
        gd.Dense(6, 5, bias=False), gd.LayerNorm(5), gd.Dense(5, 2), seed=3, dtype="float64",
    )  # fmt: skip
    ours.forward(x)
    helpers.randomize(ours, np.random.default_rng(1))
    return theirs, ours


@pytest.mark.torch
@pytest.mark.parametrize("running", ["std", "variance"])
def test_to_and_from_torch(running: str) -> None:
    torch = pytest.importorskip("torch")
    theirs, ours = torch_network(torch, running)
    theirs.load_state_dict(ours.to_torch())
    x = np.random.default_rng(2).standard_normal((30, 4))
    theirs.eval()
    np.testing.assert_allclose(theirs(torch.tensor(x)).detach().numpy(), ours.predict(x), rtol=1e-10, atol=1e-12)
    for given in (theirs, theirs.state_dict(), {f"net.{k}": v for k, v in theirs.state_dict().items()}):
        _, fresh = torch_network(torch, running)
        helpers.randomize(fresh, np.random.default_rng(5))
        fresh.from_torch(given)
        np.testing.assert_allclose(fresh.predict(x), ours.predict(x), rtol=1e-12)
    tensors = ours.to_torch()
    tensors["1.weight"].zero_()
    assert (ours.parameters()["layers.1.weight"] != 0).any()


@pytest.mark.torch
def test_wrong_torch_modules_are_refused() -> None:
    torch = pytest.importorskip("torch")
    nn = torch.nn
    model = network(2)
    before = helpers.snapshot(model)
    for wrong in (
        nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3)),
        nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4)),
        nn.Sequential(nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)),
        nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 3)),
        nn.Sequential(nn.BatchNorm1d(6), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)),
    ):
        with pytest.raises(ValueError, match="source"):
            model.from_torch(wrong)
        helpers.same_bits(helpers.snapshot(model), before)
