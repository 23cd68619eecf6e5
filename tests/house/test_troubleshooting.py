"""Promise: the messages that docs/troubleshooting.md explains are those of the library, and its code runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gdcore as gd
import numpy as np
import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((60, 4)), np.arange(60) % 3
TABLE = {name: X[:, i] for i, name in enumerate("abcd")}


def trainer(**settings: Any) -> gd.Trainer:
    model = gd.Sequential(gd.Dense(4, 3), seed=0)
    return gd.Trainer(model, gd.CrossEntropy(), **{"optimizer": gd.Adam(1e-3)} | settings)


def resumed(folder: Path) -> None:
    trainer().fit(X, Y, epochs=1, callbacks=[gd.Checkpoint(folder / "run.safetensors")])
    trainer(optimizer=gd.Adam(1e-2)).fit(X, Y, epochs=1, resume=folder / "run.safetensors")


def tabular(**columns: Any) -> gd.tables.TabularModel:
    model = gd.tables.TabularModel(ensemble=1, progress=False, device="cpu")
    return model.fit(TABLE | columns, np.array(["u", "v", "w"])[Y])


DAYS = np.datetime64("2026-01-01") + np.arange(60)
MESSAGES: dict[str, Callable[[Path], Any]] = {
    "the meaning of the model's outputs is unknown": lambda _: gd.Sequential(gd.Dense(4, 3)).predict_proba(X),
    "got text labels": lambda _: trainer().fit(X, np.array(["u", "v", "w"])[Y], epochs=1),
    "got the label 3 in row 7; expected 0 to 2": lambda _: trainer().fit(
        X, np.where(np.arange(60) == 7, 3, Y), epochs=1
    ),
    "needed by EarlyStopping": lambda _: trainer().fit(X, Y, epochs=1, callbacks=[gd.EarlyStopping()]),
    "'val_accuracy': the columns are epoch, loss": lambda _: trainer().fit(X, Y, epochs=1)["val_accuracy"],
    "was written with other settings": resumed,
    "task: got None for whole numbers": lambda _: gd.tables.TabularModel().fit(TABLE, Y),
    "has the unknown column": lambda _: tabular().predict(TABLE | {"e": X[:, 0]}),
    "expected dates: convert text first": lambda _: tabular(e=DAYS).predict(TABLE | {"e": DAYS.astype(str)}),
}


def test_every_message_is_tried() -> None:
    [table] = re.findall(r"^## Messages\n+(.*?)^## ", PAGE, re.MULTILINE | re.DOTALL)
    assert re.findall(r"^\| `(.*?)` \|", table, re.MULTILINE) == list(MESSAGES)


@pytest.mark.parametrize("message", MESSAGES)
def test_messages_are_those_of_the_library(message: str, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=re.escape(message)):
        MESSAGES[message](tmp_path)


def test_its_code_runs() -> None:
    [code] = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    found: dict[str, Any] = {}
    exec(code, found)
    assert gd.metrics.r2(found["y"], found["predicted"]) > 0.9
