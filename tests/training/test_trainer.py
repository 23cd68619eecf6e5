"""Promise: fit, step, evaluate and predict agree: the same batches give the same bits through every call, losses are as
documented, a loss that is not finite raises an error with an explanation, and real data is learned."""

from __future__ import annotations

from typing import Any

import gdcore as gd
import helpers
import numpy as np
import oracle
import pytest


def model_of(device: str, seed: int = 0, dtype: str = "float64", norm: bool = True) -> gd.Sequential:
    norms = [gd.BatchNorm(12)] if norm else []
    return gd.Sequential(gd.Dense(6, 12), *norms, gd.Tanh(), gd.Dense(12, 3), seed=seed, dtype=dtype, device=device)


def trainer_of(device: str, **options: Any) -> gd.Trainer:
    return gd.Trainer(
        model_of(device, **options), loss=gd.CrossEntropy(), optimizer=gd.Adam(lr=1e-2, weight_decay=1e-3)
    )


@pytest.fixture
def data(rng: helpers.Generator) -> tuple[np.ndarray, np.ndarray]:
    x = rng.standard_normal((103, 6))
    return x, (x[:, 0] > 0).astype(np.int64) + (x[:, 1] > 0.5)


def parameters(trainer: gd.Trainer) -> np.ndarray:
    return np.array(trainer.model.flat_parameters())


def test_step_returns_the_loss_before_the_step(device: str, data: Any) -> None:
    trainer = trainer_of(device)
    x, y = data
    for weights in (None, np.linspace(0, 2, 103)):
        reference = helpers.reference_of(trainer.model)
        expected = oracle.loss(trainer.loss, reference.forward(x), y, weights).mean
        loss = trainer.step(x, y, weights)
        assert type(loss) is float and abs(loss - expected) < 1e-12
    assert trainer.steps == 2


@pytest.mark.parametrize("batch_size", [1, 10, 32, 103, None])
def test_fit_is_the_loop_over_minibatches(batch_size: int | None, device: str, data: Any) -> None:
    x, y = data
    fitted, looped = trainer_of(device, norm=batch_size != 1), trainer_of(device, norm=batch_size != 1)
    history = fitted.fit(x, y, epochs=3, batch_size=batch_size)
    batches = gd.MiniBatches(x, y, batch_size=batch_size or 103, seed=fitted.model.seed)
    for epoch in range(3):
        losses = [(looped.step(xb, yb), len(xb)) for xb, yb in batches]
        mean = sum(loss * n for loss, n in losses) / 103
        assert abs(history["loss"][epoch] - mean) < 1e-12
    helpers.same_bits(parameters(fitted), parameters(looped))
    assert fitted.steps == looped.steps == 3 * -(-103 // (batch_size or 103)) and fitted.epoch == 3


def test_two_fits_are_one(device: str, data: Any) -> None:
    x, y = data
    once, twice = trainer_of(device), trainer_of(device)
    once.fit(x, y, epochs=6, batch_size=16, validation=0.2)
    for _ in range(2):
        twice.fit(x, y, epochs=3, batch_size=16, validation=0.2)
    helpers.same_bits(parameters(once), parameters(twice))
    assert list(once.history["loss"]) == list(twice.history["loss"])
    assert list(once.history["val_loss"]) == list(twice.history["val_loss"])


@pytest.mark.parametrize("kind", ["fortran", "float32", "list", "memmap", "strided", "readonly", "frame", "torch"])
def test_the_container_does_not_matter(kind: str, device: str, data: Any, tmp_path: Any) -> None:
    x, y = data
    x = x.astype(np.float32).astype(np.float64)
    expected = trainer_of(device)
    expected.fit(x, y, epochs=2)
    given: tuple[Any, Any] = (x, y)
    if kind == "fortran":
        given = (np.asfortranarray(x), y.astype(np.int8))
    elif kind == "float32":
        given = (x.astype(np.float32), y.astype(np.uint16))
    elif kind == "list":
        given = (x.tolist(), y.tolist())
    elif kind == "memmap":
        np.save(tmp_path / "x.npy", x.astype(np.float32))
        given = (np.load(tmp_path / "x.npy", mmap_mode="r"), y)
    elif kind == "strided":
        given = (np.repeat(np.repeat(x, 2, 0), 3, 1)[::2, ::3], np.repeat(y, 5)[::5])
    elif kind == "readonly":
        for array in given:
            array.flags.writeable = False
    elif kind == "frame":
        pandas = pytest.importorskip("pandas")
        given = (pandas.DataFrame(x), pandas.Series(y))
    elif kind == "torch":
        torch = pytest.importorskip("torch")
        given = (torch.tensor(x), torch.tensor(y))
    trainer = trainer_of(device)
    trainer.fit(*given, epochs=2)
    helpers.same_bits(parameters(trainer), parameters(expected))


def test_an_iterable_of_batches(device: str, data: Any) -> None:
    x, y = data
    fitted, iterated = trainer_of(device), trainer_of(device)
    fitted.fit(x, y, epochs=2, batch_size=20, shuffle=False)
    batches = [(x[i : i + 20], y[i : i + 20]) for i in range(0, 103, 20)]
    history = iterated.fit(batches, epochs=2)
    helpers.same_bits(parameters(iterated), parameters(fitted))
    np.testing.assert_allclose(history["loss"], fitted.history["loss"], rtol=1e-12)
    weighted = trainer_of(device)
    weighted.fit([(xb, yb, np.ones(len(xb))) for xb, yb in batches], epochs=2)
    np.testing.assert_allclose(parameters(weighted), parameters(fitted), rtol=1e-9)


def test_drop_last_shuffle_and_sample_weight(device: str, data: Any) -> None:
    x, y = data
    trainer = trainer_of(device)
    trainer.fit(x, y, epochs=2, batch_size=20, drop_last=True)
    assert trainer.steps == 10
    ordered, shuffled = trainer_of(device), trainer_of(device)
    ordered.fit(x, y, epochs=1, batch_size=20, shuffle=False)
    shuffled.fit(x, y, epochs=1, batch_size=20)
    assert (parameters(ordered) != parameters(shuffled)).any()
    whole, part = trainer_of(device), trainer_of(device)
    keep = np.arange(103) < 60
    whole.fit(x, y, epochs=4, batch_size=None, sample_weight=np.ones(103), shuffle=False)
    part.fit(x, y, epochs=4, batch_size=None, shuffle=False)
    helpers.same_bits(parameters(whole), parameters(part))
    free, cut = trainer_of(device, norm=False), trainer_of(device, norm=False)
    free.fit(x, y, epochs=4, batch_size=None, sample_weight=keep.astype(float), shuffle=False)
    cut.fit(x[keep], y[keep], epochs=4, batch_size=None, shuffle=False)
    np.testing.assert_allclose(parameters(free), parameters(cut), rtol=1e-8)


def test_evaluate(device: str, data: Any) -> None:
    x, y = data
    model = model_of(device)
    trainer = gd.Trainer(model, gd.CrossEntropy([1.0, 2.0, 3.0]), optimizer=gd.SGD(0.1), metrics=[gd.metrics.accuracy])
    logits = helpers.reference_of(model).forward(x, training=False)
    before = helpers.snapshot(model)
    for weights in (None, np.linspace(0.5, 1.5, 103)):
        expected = oracle.loss(trainer.loss, logits, y, weights).mean
        for size in (1, 7, 103, 1024):
            result = trainer.evaluate(x, y, sample_weight=weights, batch_size=size)
            assert list(result) == ["loss", "accuracy"]
            assert abs(result["loss"] - expected) < 1e-12
            assert abs(result["accuracy"] - np.average(logits.argmax(1) == y, weights=weights)) < 1e-12
    helpers.same_bits(helpers.snapshot(model), before)
    helpers.same_bits(trainer.predict(x), model.predict(x))


def test_validation(device: str, data: Any) -> None:
    x, y = data
    trainer = trainer_of(device)
    history = trainer.fit(x[:80], y[:80], epochs=3, validation=(x[80:], y[80:]))
    assert history["val_loss"][-1] == pytest.approx(trainer.evaluate(x[80:], y[80:])["loss"], rel=1e-12)
    weights = np.linspace(0, 1, 23)
    weighted = trainer_of(device)
    history = weighted.fit(x[:80], y[:80], epochs=3, validation=(x[80:], y[80:], weights))
    expected = weighted.evaluate(x[80:], y[80:], sample_weight=weights)["loss"]
    assert history["val_loss"][-1] == pytest.approx(expected, rel=1e-12)
    helpers.same_bits(parameters(trainer), parameters(weighted))
    fraction = trainer_of(device)
    assert len(fraction.fit(x, y, epochs=2, batch_size=10, validation=0.25)["val_loss"]) == 2
    assert fraction.steps == 2 * 8  # 77 or 78 of 103 rows are left


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("how", ["step", "fit"])
def test_divergence_is_explained(how: str, dtype: str, device: str, rng: helpers.Generator) -> None:
    model = gd.Sequential(gd.Dense(4, 8), gd.Dense(8, 1), seed=0, dtype=dtype, device=device)
    trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.SGD(1e6))
    x, y = rng.standard_normal((40, 4)), rng.standard_normal((40, 1))
    with pytest.raises(gd.DivergenceError) as info:
        if how == "fit":
            trainer.fit(x, y, epochs=50, batch_size=10)
        else:
            for _ in range(200):
                trainer.step(x, y)
    message = str(info.value)
    assert "step" in message and "layers." in message and "weight" in message
    assert isinstance(info.value, ArithmeticError)


@pytest.mark.parametrize("why", ["gradient", "rate"])
def test_a_step_that_fails_at_its_end_has_moved_nothing(why: str, device: str, rng: helpers.Generator) -> None:
    """A finite loss with an overflowing gradient, or a refused rate, changes nothing, not even BatchNorm's averages."""
    model = gd.Sequential(gd.Dense(3, 4), gd.BatchNorm(4), gd.Dense(4, 2), seed=0, device=device)
    trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.Adam(0.1, clip_norm=1.0))
    x, y = rng.standard_normal((16, 3)).astype(np.float32), (1e4 * rng.standard_normal((16, 2))).astype(np.float32)
    trainer.step(x, y)
    if why == "gradient":
        model.parameters()["layers.1.gamma"][...] = 1e37
        model.parameters()["layers.2.weight"][...] = 0
    before = helpers.snapshot(model, trainer)
    with pytest.raises(gd.DivergenceError if why == "gradient" else ValueError):
        trainer.core.step(x, y, rates=0.1 if why == "gradient" else -1.0)
    helpers.same_bits(helpers.snapshot(model, trainer), before)


def test_by_the_smallest_pieces(device: str, data: Any) -> None:
    """forward, backward and optimizer_step with a custom gradient equal a step."""
    x, y = data
    whole, pieces = trainer_of(device, norm=False), trainer_of(device, norm=False)
    for _ in range(5):
        loss = whole.step(x, y)
        out = pieces.model.forward(x)
        result = oracle.loss(gd.CrossEntropy(), out, y)
        dx = pieces.model.backward(result.grad.value)
        pieces.optimizer_step()
        assert abs(result.mean - loss) < 1e-12 and dx.shape == x.shape
    np.testing.assert_allclose(parameters(pieces), parameters(whole), rtol=1e-9, atol=1e-12)
    assert pieces.steps == 5


def test_order_of_calls(device: str, data: Any) -> None:
    x, _ = data
    trainer = trainer_of(device)
    with pytest.raises(RuntimeError, match="forward"):
        trainer.model.backward(np.ones((103, 3)))
    trainer.model.forward(x, training=False)
    with pytest.raises(RuntimeError, match="forward"):
        trainer.model.backward(np.ones((103, 3)))
    trainer.model.forward(x)
    with pytest.raises(ValueError, match="dout"):
        trainer.model.backward(np.ones((102, 3)))


def test_digits() -> None:
    """scikit-learn's digits, a fifth held out: test accuracy of at least 0.97 (mean of three splits)."""
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.load_digits(return_X_y=True)
    accuracies = []
    for seed in range(3):
        x_train, x_test, y_train, y_test = gd.train_validation_split(x, y, fraction=0.2, seed=seed, stratify=y)
        model = gd.Sequential(
            gd.Dense(64, 256), gd.BatchNorm(256), gd.ReLU(), gd.Dropout(0.3), gd.Dense(256, 10), seed=seed
        )
        trainer = gd.Trainer(model, gd.CrossEntropy(label_smoothing=0.05), optimizer=gd.Adam(2e-3))
        stopping = gd.EarlyStopping(patience=15)
        trainer.fit(x_train / 16, y_train, epochs=60, batch_size=64, validation=0.15, callbacks=[stopping])
        accuracies.append(gd.metrics.accuracy(y_test, model.predict_classes(x_test / 16)))
    assert np.mean(accuracies) >= 0.97, accuracies


def test_memory_does_not_grow() -> None:
    """10,000 steps, and 1,000 refused ones, do not increase the resident memory."""
    helpers.must_run("""
        import numpy as np, gdcore as gd

        def resident():
            return int(open("/proc/self/statm").read().split()[1]) * 4096

        model = gd.Sequential(gd.Dense(8, 16), gd.BatchNorm(16), gd.GELU(), gd.Dropout(0.1), gd.Dense(16, 2), seed=0)
        trainer = gd.Trainer(model, gd.CrossEntropy(), optimizer=gd.Adam(1e-3))
        x, y = np.random.default_rng(0).standard_normal((33, 8)).astype("f"), np.arange(33) % 2

        def work(n):
            for i in range(n):
                trainer.step(x[: 2 + i % 32], y[: 2 + i % 32])
                if i % 10 == 0:
                    try:
                        trainer.step(x, y[:5])
                    except ValueError:
                        pass
                    model.predict(x)
                    trainer.evaluate(x, y)

        work(2000)
        before = resident()
        work(10000)
        grown = resident() - before
        assert grown < 600_000, grown
        before = resident()
        leak = b"x" * 1_000_000
        assert resident() - before > 600_000, "the measurement would not notice a leak"
    """)
