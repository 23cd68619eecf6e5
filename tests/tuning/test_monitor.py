"""Promise: starts and settings are compared by what `EarlyStopping` monitors, if no measure is given; their best epoch
is the one whose weights were kept; tables have all metrics, and pictures say by which one an epoch was chosen."""

from __future__ import annotations

from typing import Any

import gdcore as gd
import numpy as np
import pytest

RNG = np.random.default_rng(3)
X = RNG.standard_normal((90, 3)).astype(np.float32)
Y = (X[:, 0] + 0.7 * RNG.standard_normal(90) > 0).astype(np.int64)


def build(seed: int) -> gd.Sequential:
    return gd.Sequential(gd.Dense(3, 16), gd.Tanh(), gd.Dense(16, 2), seed=seed)


class Adds(gd.Callback):
    """Adds a column that is compared by nothing else."""

    def on_epoch_end(self, trainer: gd.Trainer, logs: dict[str, float]) -> None:
        logs["val_custom"] = logs["val_loss"] ** 2


def run(**changes: Any) -> gd.Restarts:
    settings: dict[str, Any] = {
        "validation": (X[60:], Y[60:]),
        "loss": gd.CrossEntropy(),
        "optimizer": gd.Adam(0.1),
        "epochs": 8,
        "progress": False,
        "metrics": ["roc_auc", "accuracy"],
        "callbacks": [gd.EarlyStopping("val_roc_auc", patience=8)],
    }
    return gd.restarts(build, 4, X[:60], Y[:60], **settings | changes)


def test_early_stopping_says_what_starts_are_compared_by() -> None:
    result = run()
    assert (result.monitor, result.mode) == ("val_roc_auc", "max")
    table = result.table()
    assert list(table)[1:] == ["best_epoch", "epochs", "val_roc_auc", "val_loss", "val_accuracy", "loss", "seconds"]
    assert result.best_start.value == max(table["val_roc_auc"]) > min(table["val_roc_auc"])
    for start in result.starts:
        row = start.history.row(start.best_epoch - 1)
        assert start.best_epoch == start.history.best_epoch() == start.history.best_epoch("val_roc_auc")
        assert start.val_metrics == {name: row[f"val_{name}"] for name in ("roc_auc", "accuracy")}
    assert "val_accuracy" in str(result) and "best_epoch by" not in str(result)


@pytest.mark.parametrize(
    ("changes", "monitor"),
    [
        ({"monitor": "val_accuracy"}, "val_accuracy"),
        ({"callbacks": lambda seed: [gd.EarlyStopping("val_accuracy")]}, "val_accuracy"),
        ({"callbacks": [gd.EarlyStopping("loss")]}, "val_loss"),
        ({"callbacks": [gd.ReduceOnPlateau("val_roc_auc")]}, "val_loss"),
        ({"callbacks": []}, "val_loss"),
        ({"callbacks": lambda seed: [Adds(), gd.EarlyStopping("val_custom", mode="min")]}, "val_loss"),
        ({"metrics": iter(["accuracy"]), "callbacks": [gd.EarlyStopping("val_accuracy")]}, "val_accuracy"),
    ],
)
def test_what_is_given_wins_and_the_loss_is_the_last_resort(changes: dict[str, Any], monitor: str) -> None:
    assert run(epochs=1, **changes).monitor == monitor


def test_a_misspelt_monitor_is_not_hidden() -> None:
    with pytest.raises(ValueError, match="EarlyStopping monitors 'val_acuracy', which is not measured"):
        run(callbacks=[gd.EarlyStopping("val_acuracy", mode="max")])
    with pytest.raises(ValueError, match="monitor='val_acuracy' is not measured"):  # Adds might have added it
        run(callbacks=[Adds(), gd.EarlyStopping("val_acuracy", mode="max")])


@pytest.mark.parametrize(("other", "mode"), [("val_loss", "min"), ("val_roc_auc", "min")])
def test_settings_are_not_compared_by_what_the_first_one_monitors(other: str, mode: str) -> None:
    def sweep(**changes: Any) -> gd.Sweep:
        return gd.sweep(
            lambda seed: build(seed), {"monitor": [("val_roc_auc", "max"), (other, mode)]},
            X[:60], Y[:60], validation=(X[60:], Y[60:]), loss=gd.CrossEntropy(), optimizer=gd.Adam(0.1),
            metrics=["roc_auc"], epochs=1, progress=False,
            callbacks=lambda monitor: [gd.EarlyStopping(monitor[0], mode=monitor[1])], **changes,
        )  # fmt: skip

    with pytest.raises(ValueError, match=rf"monitor: is needed.* val_roc_auc \(max\) .* {other} \({mode}\) "):
        sweep()
    assert sweep(monitor="val_roc_auc").monitor == "val_roc_auc"


def test_a_sweep_is_compared_by_it_too() -> None:
    result = gd.sweep(
        lambda seed: build(seed), {"loss": [gd.CrossEntropy(), gd.CrossEntropy(label_smoothing=0.1)]},
        X[:60], Y[:60], validation=(X[60:], Y[60:]), optimizer=gd.Adam(0.1), metrics=["accuracy"], epochs=2,
        callbacks=[gd.EarlyStopping("val_accuracy")], progress=False,
    )  # fmt: skip
    assert (result.monitor, result.mode) == ("val_accuracy", "max")


def test_the_epoch_that_was_kept_is_named_whatever_is_compared(tmp_path: Any) -> None:
    """Compared by the loss, while the weights are those of the epoch with the greatest AUC."""
    result = run(monitor="val_loss", folder=tmp_path / "starts")
    assert any(start.best_epoch != start.history.best_epoch("val_loss") for start in result.starts)
    for start in result.starts:
        assert start.best_epoch == start.history.best_epoch("val_roc_auc")
        assert start.value == pytest.approx(start.history["val_loss"][start.best_epoch - 1], rel=1e-6)
    assert str(result).endswith("; best_epoch by val_roc_auc")
    pytest.importorskip("matplotlib").use("Agg")
    epoch = result.best_start.best_epoch
    again = run(monitor="val_loss", folder=tmp_path / "starts")  # from the folder
    assert again.table() == result.table()
    for each in (result, again):
        title = each.plot(tmp_path / "starts.png")[1].get_title(loc="left").replace("\n", " ")
        assert title == f"The best start's weights are those of epoch {epoch}, chosen by validation roc auc"
    # The epoch that is chosen is the worst one; the weights are those of the last.
    worst = [gd.EarlyStopping("val_log_loss", mode="max", patience=8, restore_best=False)]
    last = run(monitor="val_loss", callbacks=worst, metrics=["log_loss"])
    title = last.plot(tmp_path / "last.png")[1].get_title(loc="left").replace("\n", " ")
    worst_epoch = last.best_start.history.best_epoch("val_loss", "max")
    words = "The best start's weights are not those of epoch"
    assert title == f"{words} {worst_epoch}, chosen by validation log loss"
