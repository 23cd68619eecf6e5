"""Promise: the code of docs/parquet.md runs, and its predictions are those of the rows as arrays and frames."""

from __future__ import annotations

import re
from pathlib import Path

import helpers
import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "parquet.md"
CHECK = """
table = pyarrow.parquet.read_table("rows2.parquet")
assert trainer.history["val_accuracy"][-1] > 0.9
assert list(kinds) == list(model.predict_classes(table.select(model.feature_names)))
assert pyarrow.parquet.read_table("kinds.parquet").column("kind").to_pylist() == list(kinds)
"""
TABLES = """
frame = pyarrow.parquet.read_table("sales.parquet")
found = pyarrow.parquet.read_table("sales-kinds.parquet").column("kind").to_pylist()
assert found == table.predict(frame).tolist() and table.score(sales) > 0.9
"""


def test_the_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(code) == 2
    helpers.must_run(code[0] + CHECK + code[1] + TABLES)
