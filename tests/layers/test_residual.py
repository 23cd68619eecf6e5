"""Promise: a Residual is x + f(x), nested and anywhere in a network, with absorption and norms inside, in training,
prediction, files, names of parameters, freezing, decay, analysis and transfer to PyTorch."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore import analysis


def block(width: int, **settings: Any) -> gd.Residual:
    return gd.Residual(
        gd.LayerNorm(width), gd.Dense(width, width + 3), gd.ReLU(), gd.Dense(width + 3, width), **settings
    )


def build(device: str = "cpu", dtype: str = "float64", **settings: Any) -> gd.Sequential:
    return gd.Sequential(
        gd.Dense(4, 6), block(6), block(6, name="tower"), gd.Tanh(), gd.Dense(6, 2), seed=0, dtype=dtype, device=device
    )


@pytest.mark.parametrize("first", [True, False], ids=["first", "inside"])
@pytest.mark.parametrize("rows", [1, 33, 257])
def test_against_the_oracle(rows: int, first: bool, device: str, rng: Any) -> None:
    layers = [block(4), gd.Dense(4, 2)] if first else list(build().layers)
    model = gd.Sequential(*layers, seed=0, dtype="float64", device=device)
    helpers.randomize(model, rng)
    reference = helpers.reference_of(gd.Sequential(*[unnamed(layer) for layer in layers], seed=0, dtype="float64"))
    reference.parameters = dict(zip(reference.parameters, helpers.copies(model.parameters()).values(), strict=True))
    x, dout = rng.standard_normal((rows, 4)), rng.standard_normal((rows, 2))
    np.testing.assert_allclose(model.predict(x), reference.forward(x), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(model.forward(x), reference.forward(x), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(model.backward(dout), reference.backward(dout), rtol=1e-11, atol=1e-12)
    for own, expected in zip(model.gradients().values(), reference.parameters, strict=True):
        np.testing.assert_allclose(own, reference.gradients[expected], rtol=1e-11, atol=1e-12)


def unnamed(layer: Any) -> Any:
    return gd.Residual(*layer.layers) if isinstance(layer, gd.Residual) else layer


def test_a_block_of_nothing_trained_is_exact(device: str) -> None:
    model = gd.Sequential(gd.Dense(3, 3), gd.Residual(gd.ReLU()), seed=0, device=device)
    x = np.eye(3, dtype=np.float32)
    inner = gd.Sequential(gd.Dense(3, 3), seed=0, device=device).predict(x)
    helpers.same_bits(model.predict(x), inner + np.maximum(inner, 0))


def test_names_and_selection() -> None:
    model = build()
    names = list(model.parameters())
    assert names[:3] == ["layers.0.weight", "layers.0.bias", "layers.1.0.gamma"]
    assert "layers.1.3.weight" in names and "tower.1.weight" in names and names[-1] == "layers.4.bias"
    for prefix, count in (("layers.1", 6), ("tower", 6), ("layers.2", 6), ("tower.1", 2), ("layers.2.1", 2)):
        model.freeze(prefix)
        assert len(model.frozen()) == count, prefix
        model.unfreeze()
    model.freeze("tower.0.gamma", "layers.1.3.bias")
    assert model.frozen() == ["layers.1.3.bias", "tower.0.gamma"]
    inside = gd.Sequential(gd.Residual(gd.Dense(3, 3, name="head"), name="top"), seed=0)
    assert list(inside.parameters()) == ["head.weight", "head.bias"]
    for prefix in ("head", "top", "layers.0", "layers.0.0", "top.0"):
        inside.freeze(prefix)
        assert len(inside.frozen()) == 2
        inside.unfreeze()
    with pytest.raises(ValueError, match="prefixes"):
        inside.freeze("layers.0.1")
    helpers.refuses(
        lambda: gd.Sequential(gd.Dense(3, 3, name="a"), gd.Residual(gd.Dense(3, 3, name="a"))), ValueError, '"a"'
    )


def test_training_is_deterministic_and_decays_by_layer(device: str, rng: Any) -> None:
    x, y = rng.standard_normal((200, 4)), rng.standard_normal((200, 2))
    states = []
    for _ in range(2):
        model = build(device, "float32")
        decay = {"layers.1": 0.1, "tower.1": 0.2}
        trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.Adam(1e-3, weight_decay=decay))
        trainer.fit(x, y, epochs=3, batch_size=32)
        states.append(helpers.snapshot(model, trainer))
    helpers.same_bits(*states)
    five = gd.SGD(0.1, weight_decay=[0.1] * 6)  # one for each Dense
    gd.Trainer(build(), gd.MeanSquaredError(), optimizer=five).step(x, y)


def test_frozen_layers_before_a_block(device: str, rng: Any) -> None:
    """Gradients are those of the model without frozen layers."""
    x, dout = rng.standard_normal((20, 4)), rng.standard_normal((20, 2))
    model = build(device)
    model.forward(x)
    model.backward(dout)
    expected = helpers.copies(model.gradients())
    model.freeze("layers.0", "layers.1")
    trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.SGD(0.0))
    model.forward(x)
    model.backward(dout)
    for name, grad in model.gradients().items():
        frozen = name.startswith(("layers.0", "layers.1"))
        np.testing.assert_allclose(grad, np.zeros_like(grad) if frozen else expected[name], rtol=1e-12, atol=1e-15)
    trainer.step(x, dout)


def test_norms_and_dropout_inside(device: str, rng: Any) -> None:
    model = gd.Sequential(
        gd.Residual(gd.Dense(3, 3), gd.BatchNorm(3), gd.ReLU(), gd.Dropout(0.5)), gd.Dense(3, 1), seed=0, device=device
    )
    x, y = rng.standard_normal((64, 3)), rng.standard_normal((64, 1))
    before = helpers.copies(model.buffers())
    assert list(before) == ["layers.0.1.running_mean", "layers.0.1.running_std"]
    trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.SGD(0.01))
    trainer.step(x, y)
    assert (np.asarray(model.buffers()["layers.0.1.running_mean"]) != before["layers.0.1.running_mean"]).all()
    helpers.same_bits(model.predict(x), model.predict(x))
    with pytest.raises(ValueError, match="BatchNorm"):
        trainer.fit(x, y, epochs=1, batch_size=1)
    # masks of two blocks differ
    wide = [gd.Residual(gd.Dropout(0.5)), gd.Residual(gd.Dropout(0.5))]
    out = gd.Sequential(gd.Dense(1, 400, init=gd.Constant(1.0)), *wide, seed=0, device=device).forward(np.ones((1, 1)))
    assert set(np.unique(np.round(out))) == {1.0, 3.0, 9.0}


def test_saved_copied_and_shown(device: str, rng: Any) -> None:
    model, x = build(device, "float32"), rng.standard_normal((5, 4))
    file = io.BytesIO()
    model.save(file)
    loaded = gd.load(io.BytesIO(file.getvalue()), device=device)
    for other in (loaded, copy.copy(model), pickle.loads(pickle.dumps(model)), model.clone()):
        helpers.same_bits(other.predict(x), model.predict(x))
        assert other.layers == model.layers and list(other.parameters()) == list(model.parameters())
    summary = model.summary()
    assert "Residual" in summary and f"{sum(p.size for p in model.parameters().values()):,} parameters" in summary
    assert model.operations()[1:4] == ["LayerNorm", "Dense + ReLU", "Dense"] and "Residual" in model.operations()
    assert "Residual(layers=(LayerNorm(" in repr(model)
    spec = block(3, name="b")
    assert eval(repr(spec), vars(gd).copy()) == spec and spec != block(3) and pickle.loads(pickle.dumps(spec)) == spec


def test_summary_of_layers_of_columns_and_blocks() -> None:
    layers = [
        gd.Embedding([3, 4], [2, None], columns=[0, 2], features=4),
        gd.PiecewiseLinear([[0.0, 1.0]], columns=[1]),
        gd.Periodic(name="waves"),
        gd.Dense(32, 4),
        gd.ELU(0.5),
        gd.Residual(gd.Dense(4, 4), gd.SELU()),
    ]
    lines = gd.Sequential(*layers, seed=0).summary().splitlines()[2:8]
    expected = ["Embedding(2 columns)", "PiecewiseLinear(1 column)", "Periodic(all columns) waves", "Dense(32, 4)"]
    for line, word in zip(lines, [*expected, "ELU(0.5)", "Residual(2 layers)"], strict=True):
        assert f" {word} " in line


def test_analysis_knows_blocks(rng: Any) -> None:
    model, x = build(), rng.standard_normal((30, 4))
    report = analysis.variance_by_layer(model, x)
    assert report.layers[2] == "layers.1 Residual" and len(report.layers) == 6
    first = gd.Sequential(*model.layers[:2], seed=0, dtype="float64")
    first.load_parameters({n: np.array(v) for n, v in model.parameters().items() if n in first.parameters()})
    assert abs(report.mean_square[2] - np.square(first.predict(x)).mean()) < 1e-12
    helpers.refuses(lambda: analysis.identical_units(model), ValueError, "Residual")
    helpers.refuses(lambda: gd.consistent_weight_decay(model, [0.1] * 6), ValueError, "Residual")


def test_to_and_from_pytorch(rng: Any) -> None:
    torch = pytest.importorskip("torch")

    class Skip(torch.nn.Sequential):
        def forward(self, x: Any) -> Any:
            return x + super().forward(x)

    def theirs() -> Any:
        inside = [
            Skip(torch.nn.LayerNorm(6), torch.nn.Linear(6, 9), torch.nn.ReLU(), torch.nn.Linear(9, 6)) for _ in range(2)
        ]
        return torch.nn.Sequential(torch.nn.Linear(4, 6), *inside, torch.nn.Tanh(), torch.nn.Linear(6, 2))

    x = rng.standard_normal((7, 4)).astype(np.float32)
    module, model = theirs(), build(dtype="float32")
    module.load_state_dict(model.to_torch())
    np.testing.assert_allclose(module(torch.from_numpy(x)).detach(), model.predict(x), rtol=1e-4, atol=1e-5)
    other = theirs()
    model.from_torch(other)
    np.testing.assert_allclose(other(torch.from_numpy(x)).detach(), model.predict(x), rtol=1e-4, atol=1e-5)
    table = gd.Sequential(gd.Embedding([3], 2), seed=0)
    helpers.refuses(table.to_torch, ValueError, "Embedding")
    helpers.refuses(lambda: table.from_torch(other), ValueError, "Embedding")


BAD: list[tuple[Any, type[Exception], str]] = [
    (lambda: gd.Residual(), ValueError, "layers"),
    (lambda: gd.Residual(gd.Dense(3, 4)), ValueError, "4 outputs for 3 inputs"),
    (lambda: gd.Residual(gd.Dense(3, 4), gd.Dense(5, 3)), ValueError, r"layers\[1\]"),
    (lambda: gd.Residual(gd.ReLU), TypeError, r"layers\[0\]"),
    (lambda: gd.Residual([gd.ReLU()]), TypeError, r"layers\[0\]"),
    (lambda: gd.Residual(gd.ReLU(), layers=[gd.ReLU()]), TypeError, "by position and by name"),
    (lambda: gd.Residual(gd.Standardizer(2), gd.ReLU()), ValueError, "Standardizer"),
    (lambda: gd.Residual(gd.Embedding([2], 1)), ValueError, "Embedding"),
    (lambda: gd.Residual(gd.PiecewiseLinear([[0.0, 1.0]])), ValueError, "PiecewiseLinear"),
    (lambda: gd.Residual(gd.Periodic(3, columns=["a"])), ValueError, r"layers\[0\].* 'a' inside a block.* numbers of"),
    (lambda: gd.Residual(gd.Embedding([2], 1, columns=["a"])), ValueError, "got Embedding, .*before the block"),
    (lambda: gd.Residual(gd.ReLU(), name="layers"), ValueError, "name"),
    (lambda: gd.Residual(gd.ReLU(), width=3), TypeError, "width|argument"),
    (lambda: gd.Sequential(gd.Residual(gd.ReLU())), ValueError, "number of inputs"),
    (lambda: gd.Sequential(gd.Dense(2, 3), gd.Residual(gd.Dense(4, 4))), ValueError, "layers.1.*in_features"),
    (lambda: gd.Sequential(gd.Dense(3, 3), gd.Residual(gd.Residual(gd.Periodic(3)))), ValueError, "outputs"),
]


@pytest.mark.parametrize("i", range(len(BAD)))
def test_refused(i: int) -> None:
    helpers.refuses(*BAD[i])
