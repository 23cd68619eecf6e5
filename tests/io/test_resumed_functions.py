"""Promise: a resumed run refuses other functions, as schedules and in a custom loss, by what they do; where they cannot
be compared, as with files of another version of Python or of gdcore, a warning says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore.io import checkpoint, saving


def data() -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(8).standard_normal((150, 6)).astype(np.float32)
    return x, (x[:, 0] > 0).astype(int) + (x[:, 1] > 0.3)


SCHEDULES = [lambda step: 1e-2, lambda step: 1e-1]  # with one name


def same_schedule() -> Any:
    return lambda step: 1e-2


def scheduled(where: str, schedule: Any) -> gd.Trainer:
    model = gd.Sequential(gd.Dense(6, 4), gd.Dropout(0.5), gd.Dense(4, 3), seed=0)
    lr = schedule if where == "lr" else 0.1
    betas = (schedule if where == "betas" else 0.9, 0.99)
    dropout = schedule if where == "dropout_schedule" else None
    return gd.Trainer(model, gd.CrossEntropy(), optimizer=gd.Adam(lr, betas), dropout_schedule=dropout)


@pytest.mark.parametrize("where", ["lr", "betas", "dropout_schedule"])
def test_schedules_that_are_functions_are_compared_by_what_they_do(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By code, not by name; a file of another version of Python, which has other code, is read with a warning."""
    (x, y), path = data(), tmp_path / "c"
    scheduled(where, SCHEDULES[0]).fit(x, y, epochs=1, callbacks=[gd.Checkpoint(path)])
    other = scheduled(where, SCHEDULES[1])
    for call in (lambda: other.fit(x, y, epochs=1, resume=path), lambda: other.load_checkpoint(path)):
        helpers.refuses(call, ValueError, f"other settings: .*{where}.*saved function.*now function")
    scheduled(where, same_schedule()).fit(x, y, epochs=1, resume=path)
    monkeypatch.setattr(checkpoint, "PYTHON", "3.99")
    words = r"was written with Python 3\.\d+, not 3\.99: functions are not compared"
    for call in (lambda: other.load_checkpoint(path), lambda: other.fit(x, y, epochs=1, resume=path)):
        with pytest.warns(UserWarning, match=words) as caught:
            call()
        assert [each.filename for each in caught] == [__file__]
    assert other.epoch == 2
    with pytest.raises(ValueError, match=f"other settings: .*{where}"):  # a number, or none, is compared as ever
        scheduled("", None).fit(x, y, epochs=1, resume=path)


def older(change: Callable[[dict[str, Any]], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `fit` and `load_checkpoint` read files as if their training state were changed."""
    read = saving.read_file

    def changed(*given: Any, **options: Any) -> Any:
        tensors, metadata = read(*given, **options)
        training = json.loads(metadata["training"])
        change(training)
        return tensors, metadata | {"training": json.dumps(training)}

    monkeypatch.setattr(saving, "read_file", changed)


NAMED = {"function": "tests.rate", "with": {"by": 2.0}}
OLD_FORMS = {"function": NAMED, "partial": {"type": "partial", "function": NAMED, "arguments": [], "keywords": {}}}


@pytest.mark.parametrize("form", OLD_FORMS)
def test_schedules_of_older_files_have_names_alone(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (x, y), path = data(), tmp_path / "c"
    scheduled("lr", SCHEDULES[0]).fit(x, y, epochs=1, callbacks=[gd.Checkpoint(path)])
    older(lambda training: (training.pop("python"), training["optimizer"].update(lr=OLD_FORMS[form])), monkeypatch)
    with pytest.warns(UserWarning, match=r"written by an earlier version of gdcore: functions are not compared"):
        scheduled("lr", SCHEDULES[0]).fit(x, y, epochs=1, resume=path)
    helpers.refuses(lambda: scheduled("lr", 0.1).fit(x, y, epochs=1, resume=path), ValueError, "optimizer.lr: saved")


def own_loss(scale: float) -> gd.Trainer:
    loss = gd.CustomLoss(lambda o, t: (scale * ((o - t) ** 2).sum(1), 2 * scale * (o - t)), name="squares")
    return gd.Trainer(gd.Sequential(gd.Dense(6, 1), seed=0), loss, optimizer=gd.SGD(0.01))


def test_custom_losses_of_older_files_have_names_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, path = data()[0], tmp_path / "c"
    own_loss(1.0).fit(x, x[:, 0], epochs=1, callbacks=[gd.Checkpoint(path)])
    words = "loss.function: saved function.*now function"
    helpers.refuses(lambda: own_loss(2.0).fit(x, x[:, 0], epochs=1, resume=path), ValueError, words)
    own_loss(1.0).fit(x, x[:, 0], epochs=1, resume=path)
    older(lambda training: [training["loss"].pop(name) for name in ("function", "hvp")], monkeypatch)
    with pytest.warns(UserWarning, match=r"written by an earlier version of gdcore: functions are not compared"):
        own_loss(2.0).fit(x, x[:, 0], epochs=1, resume=path)


def test_settings_without_functions_are_compared_across_versions_of_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = data()
    scheduled("lr", gd.schedules.exponential(0.05, 0.99)).fit(x, y, epochs=1, callbacks=[gd.Checkpoint(tmp_path / "c")])
    monkeypatch.setattr(checkpoint, "PYTHON", "3.99")
    scheduled("lr", gd.schedules.exponential(0.05, 0.99)).fit(x, y, epochs=1, resume=tmp_path / "c")
    with pytest.raises(ValueError, match="other settings: optimizer"):
        constant = scheduled("", None)
        gd.Trainer(constant.model, constant.loss, optimizer=gd.SGD(0.1)).fit(x, y, epochs=1, resume=tmp_path / "c")


def test_a_schedule_that_cannot_be_compared_is_refused_before_training(tmp_path: Path) -> None:
    x, y = data()
    for where in ("lr", "dropout_schedule"):
        rates = (0.5 for _ in range(100))
        trainer = scheduled(where, lambda step, rates=rates: next(rates))
        name = "optimizer" if where == "lr" else where
        with pytest.raises(TypeError, match=f"^{name}: .*generator"):
            trainer.fit(x, y, epochs=1, callbacks=[gd.Checkpoint(tmp_path / "c")])
        assert trainer.steps == 0
        helpers.refuses(lambda t=trainer: t.save_checkpoint(tmp_path / "c"), TypeError, f"^{name}: ")
