"""Promise: a Standardizer fitted to Parquet files has the scaling of the same rows in memory: the same bits in one
window, but for rounding in several, for numbers of any size; bad values are refused with file, row and column."""

from __future__ import annotations

from pathlib import Path

import gdcore as gd
import helpers
import numpy as np
import parquet_cases as cases
import pytest
from parquet_cases import NAMES, X

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

ROWS = 3000
RNG = np.random.default_rng(3)
NOISE = RNG.standard_normal(ROWS)
COLUMNS = {
    "plain": NOISE,
    "sorted": np.sort(NOISE) * 7,  # windows that differ most
    "far": 1e9 + NOISE,
    "huge": NOISE * 1e300,
    "tiny": NOISE * 1e-300,
    "constant": np.full(ROWS, 0.1),
    "constant in windows": np.repeat([3.0, 5.0, 5.5], ROWS // 3),
    "rounding alone": 1e6 * (1 + 2.0**-52 * (np.arange(ROWS) % 2)),
    "whole": np.arange(ROWS) * 10**6,
    "boolean": NOISE > 1,
}


def files(folder: Path, columns: dict[str, np.ndarray] = COLUMNS, window: int | None = None) -> gd.data.Parquet:
    table = pa.table(columns)
    for i in range(3):
        pq.write_table(table.slice(i * 1000, 1000), folder / f"rows{i}.parquet", row_group_size=300)
    return gd.data.Parquet(folder / "rows*.parquet", window=window)


@pytest.mark.parametrize("window", [None, 7, 300, 1000])
def test_scaling_is_that_of_the_rows(window: int | None, tmp_path: Path) -> None:
    found = gd.Standardizer().fit(files(tmp_path, window=window))
    expected = gd.Standardizer().fit(np.column_stack(list(COLUMNS.values())))
    assert found.feature_names == tuple(COLUMNS) and found.features == len(COLUMNS)
    if window is None:
        helpers.same_bits(found.mean, expected.mean)
        helpers.same_bits(found.std, expected.std)
    for name, mean, std, m, s in zip(COLUMNS, found.mean, found.std, expected.mean, expected.std, strict=True):
        assert abs(mean - m) <= 1e-14 * max(abs(m), s) and abs(std - s) <= 1e-13 * s, name
    assert found.std[5] == found.std[7] == 1.0


def test_the_columns_are_those_that_the_layer_has(tmp_path: Path) -> None:
    rows = cases.opened(tmp_path, window=100)
    names = [*reversed(NAMES)]
    fitted = gd.Standardizer(len(NAMES), feature_names=names).fit(rows)
    assert fitted.feature_names == tuple(names)
    np.testing.assert_allclose(fitted.mean, X[:, ::-1].mean(axis=0), rtol=1e-6, atol=1e-7)
    with pytest.raises(ValueError, match=r"x: .*lacks column"):
        gd.Standardizer(2, feature_names=["a", "b"]).fit(rows)
    for window in (100, None):
        with pytest.raises(ValueError, match=rf"x: got {len(NAMES)} columns; expected 2"):
            gd.Standardizer(2).fit(cases.opened(tmp_path, window=window))


def test_a_network_with_its_own_scaling(tmp_path: Path) -> None:
    """As docs/parquet.md shows it: fitted to windows, trained on windows."""
    rows = cases.opened(tmp_path, window=100)
    made = cases.trainer("cpu")
    layers = [gd.Standardizer().fit(rows), *made.model.layers]
    model = gd.Sequential(*layers, seed=0)
    trainer = gd.Trainer(model, made.loss, optimizer=gd.SGD(0.01))
    trainer.fit(rows, epochs=2)
    assert model.feature_names == tuple(NAMES)


@pytest.mark.parametrize("window", [None, 300])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bad_values_are_named_and_change_nothing(bad: float, window: int | None, tmp_path: Path) -> None:
    scaler = gd.Standardizer().fit(files(tmp_path, window=window))
    mean, std = scaler.mean, scaler.std
    columns = COLUMNS | {"plain": np.where(np.arange(ROWS) == 1700, bad, NOISE)}
    with pytest.raises(ValueError, match=r"x: .*rows1.parquet.* row .*'plain'"):
        scaler.fit(files(tmp_path, columns, window))
    helpers.same_bits(scaler.mean, mean)
    helpers.same_bits(scaler.std, std)
    with pytest.raises(TypeError, match=r"x: .*string .* column 'text'"):
        gd.Standardizer().fit(files(tmp_path, {"text": np.array(["a"] * ROWS)}, window))
