"""Promise: `gd.profile()` and GDCORE_PROFILE=1 report the time of each operation that ran within, and change no bit of
the results; without them, nothing is collected."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore import _core

ROWS, WIDTH = 64, 24


def network(device: str = "cpu") -> gd.Sequential:
    return gd.Sequential(
        gd.Dense(WIDTH, 48), gd.ReLU(), gd.BatchNorm(48), gd.Dropout(0.1), gd.Dense(48, 3), seed=0, device=device
    )


def trained(device: str, epochs: int = 2, loss: gd.Loss | None = None) -> gd.Trainer:
    rng = np.random.default_rng(1)
    trainer = gd.Trainer(network(device), loss or gd.CrossEntropy(), optimizer=gd.Adam(0.01))
    x, y = rng.standard_normal((ROWS, WIDTH)), rng.integers(0, 3, ROWS)
    trainer.fit(x, y, epochs=epochs, batch_size=16, validation=(x, y))
    return trainer


def by_operation(profile: gd.Profile) -> dict[str, dict]:
    return {row["operation"]: row for row in profile.table.rows}


def test_every_operation_is_counted() -> None:
    with gd.profile() as profile:
        trained("cpu")
    rows = by_operation(profile)
    steps, measured = 2 * ROWS // 16, 2
    counts = {name: row.get("calls") for name, row in rows.items()}
    assert counts["layers.0-1 Dense + ReLU (24 to 48), forward"] == steps + measured
    assert counts["layers.0-1 Dense + ReLU (24 to 48), backward"] == steps
    assert counts["layers.2 BatchNorm (48 to 48), backward"] == steps
    assert counts["layers.3 Dropout (48 to 48), forward"] == steps  # does nothing in prediction
    assert counts["optimiser"] == steps and counts["loss"] == counts["rows of the batch"] == steps + measured
    assert rows["layers.4 Dense (48 to 3), backward"]["GFLOP/s"] > 0
    assert rows["optimiser"]["GB/s"] > 0 and rows["optimiser"]["device"] == "cpu"
    assert rows["all else"]["seconds"] > 0


def test_shares_are_those_of_the_block() -> None:
    with gd.profile() as profile:
        trained("cpu")
    table = profile.table
    assert sum(table["share"]) == pytest.approx(1.0)
    assert sum(table["seconds"]) == pytest.approx(profile.seconds)
    assert table["seconds"][:-1] == sorted(table["seconds"][:-1], reverse=True)
    assert profile.table["seconds"] == table["seconds"]  # it has ended
    lines = str(profile).splitlines()
    assert len(lines) == table.height + 1 and lines[0].split()[:3] == ["operation", "device", "calls"]
    assert "%" in lines[1] and "forward" in profile._repr_html_()


def test_products_are_told_by_their_size() -> None:
    """A product takes 2 rows in out operations; the backward pass needs one in the first layer, two in the others."""
    x, y = np.ones((ROWS, WIDTH), np.float32), np.zeros((ROWS, 3), np.float32)
    model = gd.Sequential(gd.Dense(WIDTH, 48), gd.Dense(48, 3), seed=0)
    trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.SGD(0.1))
    with gd.profile() as profile:
        trainer.step(x, y)
    first, second = 2 * ROWS * WIDTH * 48, 2 * ROWS * 48 * 3
    expected = {
        "layers.0 Dense (24 to 48), forward": first,
        "layers.0 Dense (24 to 48), backward": first,
        "layers.1 Dense (48 to 3), forward": second,
        "layers.1 Dense (48 to 3), backward": 2 * second,
    }
    for name, operations in expected.items():
        row = by_operation(profile)[name]
        assert row["GFLOP/s"] * row["seconds"] * 1e9 == pytest.approx(operations), name


def test_it_changes_no_bit(device: str) -> None:
    plain = trained(device).model.flat_parameters()
    with gd.profile() as profile:
        seen = trained(device).model.flat_parameters()
    helpers.same_bits(plain, seen)
    assert {row.get("device") for row in profile.table.rows} == {device, None}


@pytest.mark.cuda
def test_steps_that_a_gpu_makes_by_itself_are_rows() -> None:
    with gd.profile() as profile:
        trained("cuda")
    assert any(name.startswith("recorded steps (") for name in by_operation(profile))
    own = gd.CustomLoss(lambda y, t: ((y - t).sum(axis=1), np.ones_like(y)))
    with gd.profile() as profile:
        trained("cuda", loss=own)
    rows = by_operation(profile)
    assert "loss of one's own" in rows and "optimiser" in rows


def test_blocks_may_overlap_and_follow_each_other() -> None:
    with gd.profile() as outer:
        trained("cpu", 1)
        with gd.profile() as inner:
            trained("cpu", 1)
    steps = ROWS // 16
    assert by_operation(outer)["optimiser"]["calls"] == 2 * steps
    assert by_operation(inner)["optimiser"]["calls"] == steps
    with inner:
        pass
    assert list(by_operation(inner)) == ["all else"]


def test_other_threads_are_seen() -> None:
    with gd.profile() as profile:
        threads = [threading.Thread(target=trained, args=("cpu", 1)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert by_operation(profile)["optimiser"]["calls"] == 3 * ROWS // 16


def test_nothing_is_collected_outside() -> None:
    with gd.profile():
        trained("cpu", 1)
    before = _core._profile_rows()
    trained("cpu", 1)
    with pytest.raises(ZeroDivisionError), gd.profile():
        raise ZeroDivisionError
    trained("cpu", 1)
    assert _core._profile_rows() == before


@pytest.mark.parametrize("value", ["1", "0", ""])
def test_the_environment_asks_for_the_whole_process(value: str) -> None:
    code = (
        "import gdcore as gd, numpy as np\n"
        "model = gd.Sequential(gd.Dense(3, 2), seed=0)\n"
        "trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.SGD(0.1))\n"
        "trainer.step(np.ones((4, 3)), np.ones((4, 2)))\n"
    )
    environment = os.environ | {"GDCORE_PROFILE": value}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert ("layers.0 Dense (3 to 2), forward" in done.stderr and "gdcore: operations of" in done.stderr) == (
        value == "1"
    )
