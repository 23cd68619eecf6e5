"""Promise: text that looks like dates or numbers but becomes categories is warned of, once, in the caller's line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from gdcore.tables import TabularModel

N = 40
SIZE = np.random.default_rng(0).standard_normal(N)
Y = np.where(SIZE > 0, "large", "small")


def model(task: str | None = None, **options: Any) -> TabularModel:
    return TabularModel(task, **{"ensemble": 1, "progress": False, "device": "cpu"} | options)


TEXTS = {
    "days": [f"2020-01-{i % 28 + 1:02d}" for i in range(N)],
    "moments": [f"2020-01-{i % 28 + 1:02d} 10:{i:02d}:00" for i in range(N)],
    "days, one missing": [None, *["2020-01-01", "2020-01-02"] * (N // 2 - 1), "2020-01-01"],
    "days, half of them empty": ["", "2020-01-01", " ", "2020-01-02"] * (N // 4),
    "days, a few words": [*["soon"] * 3, *["2020-01-02"] * (N - 3)],
    "days, many words": [*["soon"] * 5, *["2020-01-02"] * (N - 5)],
    "codes": [f"2020-{i}" for i in range(N)],
    "times": ["10:30:00", "11:30:00"] * (N // 2),
    "words": Y,
    "days of Germany": [f"{i % 28 + 1}.5.2025" for i in range(N)],
    "days of America": [f"05/{i % 28 + 1:02d}/2025 10:30" for i in range(N)],
    "days with names": [f"May {i % 28 + 1}, 2025" for i in range(N)],
}
DAYS = {name for name in TEXTS if name.startswith(("days", "moments"))} - {"days, many words"}


@pytest.mark.parametrize("kind", [pd.DataFrame, pl.DataFrame, dict])
@pytest.mark.parametrize("name", TEXTS)
def test_text_that_looks_like_dates_is_warned_of(name: str, kind: Any, recwarn: Any) -> None:
    """In one line, which names the caller's file; not where the kind of the column has been decided."""
    columns = {"size": SIZE, "day": list(TEXTS[name])}
    model().fit(kind(columns), Y)
    told = [str(each.message) for each in recwarn if "looks like dates" in str(each.message)]
    if name not in DAYS:
        assert not told
        return
    assert told[0].startswith("column 'day' has text that looks like dates, and becomes categories; for dates c")
    assert len(told) == 1
    assert {each.filename for each in recwarn if "looks like" in str(each.message)} == {__file__}
    recwarn.clear()
    model(kinds={"day": "category"}).fit(kind(columns), Y)
    model().fit(pd.DataFrame(columns).astype({"day": "category"}), Y)
    assert not len(recwarn)


NUMBERS = {
    "decimal commas": [f"{i},5" for i in range(N)],
    "thousands": [f"{i + 1},250.0" for i in range(N)],
    "some thousands": [f"{i}" for i in range(N - 2)] + ["1,250", "2,250"],
    "percent": [f"{i}.5%" for i in range(N)],
    "money": [f"{i} €" for i in range(N)],
    "a question mark": [*map(str, range(N - 1)), "?"],
    "codes": [f"{i:05d}" for i in range(N)],
    "few numbers": ["1", "2"] * (N // 2),
    "few numbers and a word": ["1", "2", "3", "more"] * (N // 4),
    "many numbers": [*map(str, range(N))],
    "three decimals": [f"0.{i + 100}" for i in range(N)],
    "few of three decimals": ["0.125", "0.250"] * (N // 2),
    "few codes": ["01", "02"] * (N // 2),
    "versions": [f"1.{i}.2" for i in range(N)],
    "sizes": [f"{i} cm" for i in range(N)],
}


@pytest.mark.parametrize("name", NUMBERS)
def test_text_that_looks_like_numbers_is_warned_of(name: str, recwarn: Any) -> None:
    made = model().fit(pd.DataFrame({"size": SIZE, "cost": NUMBERS[name]}), Y)
    told = [str(each.message) for each in recwarn if "looks like" in str(each.message)]
    assert len(told) == (list(NUMBERS).index(name) < 7)
    if told:
        what = "codes with zeros in front" if name == "codes" else "numbers"
        assert told[0].startswith(f"column 'cost' has text that looks like {what}, and becomes categories; ")
    kind = made._encoding.columns[1].kind
    assert kind == ("number" if name in ("many numbers", "three decimals") else "category")
