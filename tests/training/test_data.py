"""Promise: every epoch uses every row once, in an order that the seed determines; splits are disjoint, complete and
stratified; Standardizer computes the training data's mean and deviation exactly and is part of the model."""

from __future__ import annotations

import decimal
import pickle
from fractions import Fraction
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st


@given(
    rows=st.integers(1, 200),
    size=st.integers(1, 200),
    shuffle=st.booleans(),
    drop=st.booleans(),
    seed=st.integers(0, 2**63 - 1),
)
def test_an_epoch_visits_every_row_once(rows: int, size: int, shuffle: bool, drop: bool, seed: int) -> None:
    size = min(size, rows)
    x, y = np.arange(rows * 2.0).reshape(rows, 2), np.arange(rows)
    batches = gd.MiniBatches(x, y, batch_size=size, seed=seed, shuffle=shuffle, drop_last=drop)
    for _ in range(2):
        seen = list(batches)
        assert len(seen) == len(batches)
        lengths = [len(xb) for xb, _ in seen]
        most = size + 1 if rows % size == 1 and not drop else size  # a row left over joins the batch before
        assert all(n == size for n in lengths[:-1]) and (lengths == [] or lengths[-1] <= most)
        assert drop or size == 1 or rows == 1 or 1 not in lengths
        order = np.concatenate([yb for _, yb in seen]) if seen else np.empty(0, int)
        assert len(set(order)) == len(order) == (rows // size * size if drop else rows)
        if not shuffle:
            assert (order == np.arange(len(order))).all()
        for xb, yb in seen:
            helpers.same_bits(xb, x[yb])


def test_epochs_differ_and_repeat() -> None:
    def orders(seed: int) -> list[tuple]:
        batches = gd.MiniBatches(np.arange(50), batch_size=7, seed=seed)
        return [tuple(np.concatenate(list(batches))) for _ in range(5)]

    assert orders(1) == orders(1) and len(set(orders(1) + orders(2))) == 10
    late = gd.MiniBatches(np.arange(50), batch_size=7, seed=1)
    late.set_epoch(3)
    assert tuple(np.concatenate(list(late))) == orders(1)[3]


def test_weights_and_shapes_of_batches() -> None:
    x, y, w = np.ones((10, 2, 3)), np.arange(10), np.arange(10.0)
    (xb, yb, wb), *_ = gd.MiniBatches(x, y, batch_size=4, sample_weight=w)
    assert xb.shape == (4, 2, 3)
    helpers.same_bits(wb, w[yb])
    assert next(iter(gd.MiniBatches(x, batch_size=4))).shape == (4, 2, 3)
    assert len(gd.MiniBatches(x, batch_size=None)) == 1


def test_a_memory_map_larger_than_what_is_read(tmp_path: Path) -> None:
    """A sparse file of 64 GiB: only the rows of the batches may be touched."""
    path = tmp_path / "huge"
    with open(path, "wb") as file:
        file.truncate(2**36)
    x = np.memmap(path, np.float32, "r", shape=(2**22, 4096))
    batch = next(iter(gd.MiniBatches(x, batch_size=64)))
    assert batch.shape == (64, 4096) and type(batch) is np.ndarray
    small = np.memmap(path, np.float32, "r", shape=(3000, 4096))
    model = gd.Sequential(gd.Dense(4096, 2), seed=0)
    trainer = gd.Trainer(model, gd.CrossEntropy(), optimizer=gd.SGD(0.1))
    trainer.fit(small, np.zeros(3000, int), epochs=1, batch_size=500)
    assert model.predict(x[2**22 - 5 :]).shape == (5, 2)


@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("rows", [20, 101, 1000])
def test_split(rows: int, fraction: float) -> None:
    x, y = np.arange(rows * 3.0).reshape(rows, 3), np.arange(rows)
    x_train, x_val, y_train, y_val = gd.train_validation_split(x, y, fraction=fraction, seed=1)
    assert len(y_val) == round(rows * fraction) and sorted([*y_train, *y_val]) == list(range(rows))
    helpers.same_bits(x_train, x[y_train])
    helpers.same_bits(x_val, x[y_val])
    again = gd.train_validation_split(x, y, fraction=fraction, seed=1)
    helpers.same_bits(again[3], y_val)
    assert (gd.train_validation_split(x, y, fraction=fraction, seed=2)[3] != y_val).any()


KINDS = {  # model, loss and targets of 90 rows, 9 of them of one kind
    "labels": (2, {}, gd.CrossEntropy(), lambda rare: rare.astype(int)),
    "names": (2, {"classes": ["no", "yes"]}, gd.CrossEntropy(), lambda rare: np.where(rare, "yes", "no")),
    "yes or no": (1, {}, gd.BinaryCrossEntropy(), lambda rare: rare[:, None].astype(float)),
    "counts": (1, {}, gd.MeanSquaredError(), lambda rare: rare * 3.0),
}


@pytest.mark.parametrize("by", ["True", "array"])
@pytest.mark.parametrize("kind", KINDS)
def test_fit_holds_out_a_share_of_each_class(kind: str, by: str, rng: helpers.Generator) -> None:
    """A stratified fraction of `fit` is the split of `train_validation_split`, bit for bit."""
    out, options, loss, targets = KINDS[kind]
    x, y = rng.standard_normal((90, 3)).astype(np.float32), targets(np.arange(90) % 10 == 7)
    trainers = [
        gd.Trainer(gd.Sequential(gd.Dense(3, out), seed=5, **options), loss, optimizer=gd.SGD(0.1)) for _ in range(2)
    ]
    xt, xv, yt, yv = gd.train_validation_split(x, y, fraction=0.2, seed=5, stratify=True)
    assert sorted(np.unique(yv, return_counts=True)[1]) == [2, 16]
    stratify = True if by == "True" else y
    trainers[0].fit(x, y, epochs=2, batch_size=16, validation=0.2, stratify=stratify)
    trainers[1].fit(xt, yt, epochs=2, batch_size=16, validation=(xv, yv))
    helpers.same_bits(trainers[0].model.flat_parameters(), trainers[1].model.flat_parameters())
    assert trainers[0].history["val_loss"] == trainers[1].history["val_loss"]


def test_stratify_is_refused_where_it_means_nothing(tmp_path: Path) -> None:
    x, y = np.ones((40, 2), np.float32), np.arange(40) % 4

    def trainer() -> gd.Trainer:
        return gd.Trainer(gd.Sequential(gd.Dense(2, 4), seed=0), gd.CrossEntropy(), optimizer=gd.SGD(0.1))

    for options, word in (
        ({"stratify": True}, "stratify"),
        ({"stratify": True, "validation": (x, y)}, "stratify"),
        ({"stratify": y[1:], "validation": 0.2}, "stratify"),
        ({"stratify": x, "validation": 0.2}, "stratify"),
    ):
        helpers.refuses(lambda options=options: trainer().fit(x, y, epochs=1, **options), ValueError, word)
    helpers.refuses(lambda: trainer().fit([(x, y)], epochs=1, validation=(x, y), stratify=True), ValueError, "stratify")
    numbers = gd.Trainer(gd.Sequential(gd.Dense(2, 1), seed=0), gd.MeanSquaredError(), optimizer=gd.SGD(0.1))
    helpers.refuses(lambda: numbers.fit(x, y + 0.5, epochs=1, validation=0.2, stratify=True), ValueError, "a class")
    path, settings = tmp_path / "c.safetensors", {"validation": 0.2, "epochs": 1}
    trainer().fit(x, y, **settings, stratify=True, callbacks=[gd.Checkpoint(path)])
    trainer().fit(x, y, **settings, stratify=True, resume=path)
    helpers.refuses(lambda: trainer().fit(x, y, **settings, resume=path), ValueError, "validation.*stratified")


@pytest.mark.parametrize("labels", ["numbers", "text"])
def test_stratified_split(labels: str, rng: helpers.Generator) -> None:
    kinds = rng.choice(5, 500, p=[0.5, 0.25, 0.15, 0.08, 0.02])
    y = kinds if labels == "numbers" else np.array(["a", "b", "c", "d", "e"])[kinds]
    x = np.arange(500)[:, None]
    x_train, x_val, _, y_val = gd.train_validation_split(x, y, fraction=0.2, stratify=y)
    assert len(x_val) == 100 and sorted([*x_train[:, 0], *x_val[:, 0]]) == list(range(500))
    for kind in np.unique(y):
        assert abs((y_val == kind).sum() - 0.2 * (y == kind).sum()) <= 1
    helpers.same_bits(gd.train_validation_split(x, y, fraction=0.2, stratify=True)[1], x_val)
    helpers.same_bits(gd.train_validation_split(x, kinds * 1.0, fraction=0.2, stratify=True)[1], x_val)
    for bad in (kinds + 0.5, np.where(kinds, kinds, np.nan)):
        with pytest.raises(ValueError, match=r"^y: got float64.*; expected a class for each row"):
            gd.train_validation_split(x, bad, stratify=True)
    table = np.ones((len(x), 2))
    for word, rest in (("y", (table, True)), ("stratify", (y, table))):
        with pytest.raises(ValueError, match=f"^{word}: got float64.*; expected a class for each row"):
            gd.train_validation_split(x, rest[0], stratify=rest[1])


@helpers.DTYPES
@pytest.mark.parametrize("offset", [0.0, 1e4, -1e6])
def test_standardizer(offset: float, dtype: Any, rng: helpers.Generator) -> None:
    x = (rng.standard_normal((5003, 7)) * np.logspace(-3, 3, 7) + offset).astype(dtype)
    x[:, 2] = 5.25
    scaler = gd.Standardizer(7)
    assert scaler.mean is None and scaler.std is None
    assert scaler.fit(x) is scaler
    exact = x.astype(np.float64)
    mean, std = exact.mean(0), exact.std(0)
    np.testing.assert_allclose(scaler.mean, mean, rtol=1e-13, atol=1e-14 * np.abs(exact).max())
    varied = std > 0  # float32 may have rounded the narrowest feature to a constant
    assert not varied[2]
    np.testing.assert_allclose(scaler.std[varied], std[varied], rtol=1e-9)
    assert scaler.std[2] == 1.0 and scaler.mean[2] == 5.25
    z = scaler.transform(x)
    np.testing.assert_allclose(z[:, varied].astype(np.float64).std(0), 1, rtol=2e-3)
    assert (z[:, 2] == 0).all()
    back = scaler.inverse_transform(z)
    np.testing.assert_allclose(back, x, rtol=1e-5, atol=1e-6 * np.abs(x).max())


def exact_moments(x: Any) -> tuple[float, float]:
    """Mean and standard deviation of float64 numbers, in exact arithmetic and rounded once."""
    numbers = [Fraction(float(value)) for value in x]
    mean = sum(numbers) / len(numbers)
    variance = sum((number - mean) ** 2 for number in numbers) / len(numbers)
    with decimal.localcontext(prec=60, Emin=-9999, Emax=9999):
        return float(mean), float((decimal.Decimal(variance.numerator) / variance.denominator).sqrt())


ANY_SIZE = [
    *[(0.0, 1e-307), (0.0, 1e-200), (0.0, 1e-154), (3e-155, 1e-155), (0.0, 1e154), (1e200, 1e200), (0.0, 4e307)],
    *[(1e10, 1.0), (1e14, 1.0), (-1e12, 2e-3), (1.7e15, 30.0), (1e300, 1e287), (1e-290, 1e-304)],
]


@pytest.mark.parametrize(("centre", "unit"), ANY_SIZE)
def test_standardizer_of_any_size(centre: float, unit: float, device: str, rng: helpers.Generator) -> None:
    """Squares of such numbers overflow or underflow, or their mean is huge beside the deviation."""
    x = np.stack([centre + unit * rng.standard_normal(101), rng.standard_normal(101)], axis=1)
    x[0, 0] = centre - 3 * unit
    scaler = gd.Standardizer().fit(x)
    for column in range(2):
        mean, std = exact_moments(x[:, column])
        assert scaler.mean[column] == pytest.approx(mean, rel=1e-15, abs=1e-15 * std)
        assert scaler.std[column] == pytest.approx(std, rel=1e-14)
    shift, (mean, std) = float(scaler.mean[0]), exact_moments(x[:, 0])
    expected = [float((Fraction(value) - Fraction(shift)) / Fraction(std)) for value in x[:, 0]]
    z = scaler.transform(x)
    np.testing.assert_allclose(z[:, 0], expected, rtol=1e-13)
    np.testing.assert_allclose(scaler.inverse_transform(z)[:, 0], x[:, 0], rtol=1e-15, atol=1e-15 * std)
    model = gd.Sequential(scaler, gd.Scale(2), dtype="float64", device=device)
    np.testing.assert_allclose(np.asarray(model.predict(x)), z, rtol=1e-13)
    np.testing.assert_allclose(np.asarray(model.forward(x)), z, rtol=1e-13)


def test_standardizer_of_constant_features() -> None:
    """They get deviation 1, also those of sums that differ by rounding; the smallest other ones do not."""
    shares = np.random.default_rng(0).random((500, 20))
    total = (shares / shares.sum(1, keepdims=True)).sum(1)
    assert len(set(total)) > 1, "rounded differently"
    x = np.stack([total, np.full(500, 1e-320), np.full(500, 0.1), np.full(500, -1.7e308), np.zeros(500)], axis=1)
    scaler = gd.Standardizer().fit(x)
    assert (scaler.std == 1).all() and (scaler.mean[1:] == x[0, 1:]).all()
    smallest = gd.Standardizer().fit(np.array([[0.0], [5e-324]]))
    assert smallest.std[0] == 5e-324 and (smallest.transform(np.array([[5e-324], [0.0]])) <= 1).all()


def test_standardizer_is_the_same_in_training_and_prediction(rng: helpers.Generator, tmp_path: Path) -> None:
    x = rng.standard_normal((200, 4)) * [1, 10, 100, 0.01] + [5, 0, -100, 3]
    scaler = gd.Standardizer().fit(x)
    model = gd.Sequential(scaler, gd.Dense(4, 3), seed=0, dtype="float64")
    plain = gd.Sequential(gd.Dense(4, 3), seed=0, dtype="float64")
    for mine, theirs in zip(plain.parameters().values(), model.parameters().values(), strict=True):
        mine[...] = theirs
    scaled = (x - x.mean(0)) / x.std(0)
    for out in (model.predict(x), model.forward(x), model.forward(x, training=False)):
        np.testing.assert_allclose(out, plain.predict(scaled), rtol=1e-10, atol=1e-12)
    model.forward(x)
    dx = model.backward(np.ones((200, 3)))
    np.testing.assert_allclose(
        dx, np.tile(plain.parameters()["layers.0.weight"].sum(0) / x.std(0), (200, 1)), rtol=1e-10
    )
    model.save(tmp_path / "m")
    helpers.same_bits(gd.load(tmp_path / "m").predict(x), model.predict(x))
    copy = pickle.loads(pickle.dumps(scaler))
    helpers.same_bits(copy.mean, scaler.mean)
    helpers.same_bits(copy.std, scaler.std)


def test_standardizer_reads_memory_maps_and_integers(tmp_path: Path, rng: helpers.Generator) -> None:
    x = rng.integers(-100, 100, (1000, 3)).astype(np.int16)
    np.save(tmp_path / "x.npy", x)
    for given_x in (x, np.load(tmp_path / "x.npy", mmap_mode="r"), x.astype(np.float32), x.tolist()):
        scaler = gd.Standardizer(3).fit(given_x)
        np.testing.assert_allclose(scaler.mean, x.mean(0), rtol=1e-13)
        np.testing.assert_allclose(scaler.std, x.std(0), rtol=1e-12)


def test_text_labels_are_looked_up_in_the_classes(rng: helpers.Generator) -> None:
    x, labels = rng.standard_normal((60, 3)), rng.integers(0, 3, 60)
    names = np.array(["red", "green", "blue"])
    models = [gd.Sequential(gd.Dense(3, 3), seed=0, classes=names) for _ in range(2)]
    for model, y in zip(models, (names[labels].astype(object), names[labels]), strict=True):
        gd.Trainer(model, gd.CrossEntropy(), optimizer=gd.SGD(0.1)).fit(x, y, epochs=2)
    helpers.same_bits(models[0].copy_state(), models[1].copy_state())
    predicted = models[0].predict_classes(x)
    assert set(predicted) <= set(names) and (predicted == names[models[0].predict(x).argmax(1)]).all()
    proba = models[0].predict_proba(x)
    np.testing.assert_allclose(proba.sum(1), 1, rtol=1e-6)
    assert (proba.argmax(1) == models[0].predict(x).argmax(1)).all()
    with pytest.raises(ValueError, match=r"label 0.*classes"):  # a name is no number
        gd.Trainer(models[0], gd.CrossEntropy(), optimizer=gd.SGD(0.1)).fit(x, labels * 0, epochs=1)
    with pytest.raises(ValueError, match="purple"):
        gd.Trainer(models[0], gd.CrossEntropy(), optimizer=gd.SGD(0.1)).fit(x, ["purple"] * 60, epochs=1)


@pytest.mark.parametrize("behind", [[], [gd.Tanh()], [gd.BatchNorm(2), gd.Dropout()]], ids=["last", "Tanh", "norm"])
def test_a_standardizer_that_would_scale_the_outputs_is_refused(behind: list[gd.Layer]) -> None:
    y = np.random.default_rng(1).standard_normal((20, 2)) * 100 + 7
    scaler = gd.Standardizer().fit(y)
    layers = [gd.Dense(3, 2), *behind]
    helpers.refuses(
        lambda: gd.Sequential(*layers, scaler), ValueError, rf"^layers\[{len(layers)}\]: got a Standardizer after"
    )
    helpers.refuses(lambda: gd.Sequential(gd.Dense(3, 2), scaler, *behind), ValueError, r"inverse_transform")
    gd.Sequential(gd.Dense(3, 2), scaler, gd.Dense(2, 1)).predict(y[:, :1].repeat(3, axis=1))  # of features, as before
    assert gd.Sequential(scaler).predict(y).std(axis=0) == pytest.approx(1.0, rel=1e-5)
