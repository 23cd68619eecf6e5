"""Fixtures: a small table with every kind of column, and a model trained on it by the command line."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gdcore import cli

ROWS = 240


def rows() -> list[list[str]]:
    """Rows of people: who buys depends on age and city alone."""
    random = np.random.default_rng(0)
    made = []
    for i in range(ROWS):
        age, city = int(random.integers(18, 80)), str(random.choice(["Bern", "Oslo", '"Rome, IT"']))
        day = datetime.date(2020, 1, 1) + datetime.timedelta(int(random.integers(0, 900)))
        income = str(random.choice(["", "NA", "NaN", "null"])) if i % 9 == 0 else f"{random.normal(50, 10):.2f}"
        member = str(random.random() < 0.5).lower()
        buys = "yes" if age + 20 * (city == "Oslo") > 50 else "no"
        made.append([f"c{i:03d}", str(age), city, member, str(day), income, buys])
    return made


HEADER = "id,age,city,member,joined,income,buys"


@pytest.fixture(scope="session")
def people() -> str:
    pytest.importorskip("pyarrow")
    return "\n".join([HEADER, *(",".join(row) for row in rows())]) + "\n"


@pytest.fixture(scope="session")
def trained(people: str, tmp_path_factory: Any) -> Path:
    """A folder with people.csv and model.safetensors."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "people.csv").write_text(people, encoding="utf-8")
    arguments = ["train", str(folder / "people.csv"), "--target", "buys", "--ignore", "id", "--ensemble", "2", "-q"]
    assert cli.main([*arguments, "--out", str(folder / "model.safetensors")]) == 0
    return folder


@pytest.fixture
def here(trained: Path, tmp_path: Path, monkeypatch: Any) -> Path:
    """An own working folder with copies of the two files."""
    for name in ("people.csv", "model.safetensors"):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path
