"""Promise: the memory of fit, evaluate and predictions that are written is bounded by the window, whatever the size of
the files; windows are read while others are trained on."""

from __future__ import annotations

import json
from pathlib import Path

import helpers
import pytest

pytest.importorskip("pyarrow")
WIDTH, GROUP = 32, 4096

# Writes a file of so many row groups, one after the other, computes with it, and prints the growth of the memory.
CODE = f"""{helpers.MEMORY}
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
import gdcore as gd

path, groups = Path(sys.argv[1]), int(sys.argv[2])
rng = np.random.default_rng(0)
names = [f"c{{i}}" for i in range({WIDTH})]
schema = pa.schema([(name, pa.float32()) for name in names] + [("y", pa.float32())])
table = pa.table({{name: rng.normal(size={GROUP}).astype(np.float32) for name in schema.names}})
with pq.ParquetWriter(path, schema, use_dictionary=False) as writer:
    for _ in range(groups):
        writer.write_table(table, row_group_size={GROUP})
del table
model = gd.Sequential(gd.Dense({WIDTH}, 1), seed=0, device="cpu")
trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.SGD(1e-3))
small = gd.data.Parquet(path, names, "y", window={4 * GROUP})
first = path.with_name("first.parquet")
pq.write_table(pq.ParquetFile(path).read_row_group(0), first)
begin = gd.data.Parquet(first, names, "y", window={4 * GROUP})
trainer.fit(begin, epochs=1, batch_size=256)  # imports, threads, and what is allocated once
begin.write_predictions(path.with_name("out.parquet"), model.predict)
record()
if sys.argv[3] == "fit":
    trainer.fit(small, epochs=1, batch_size=256)
elif sys.argv[3] == "evaluate":
    trainer.evaluate(small)
else:
    small.write_predictions(path.with_name("out.parquet"), model.predict)
print(json.dumps([growth(), small.rows]))
"""


def growth(folder: Path, groups: int, call: str) -> int:
    path = folder / f"{groups}.parquet"
    grown, rows = json.loads(helpers.must_run(CODE, str(path), str(groups), call))
    assert rows == groups * GROUP
    path.unlink()
    return int(grown)


@pytest.mark.slow
@pytest.mark.parametrize("call", ["fit", "evaluate", "write"])
def test_ten_times_the_rows_take_no_more_memory(call: str, tmp_path: Path) -> None:
    """Of 16 row groups, 8 MB as arrays, and of 160, 84 MB, in windows of four, 2.1 MB: two of these and a row group,
    the copies of pyarrow, and what its allocator keeps, which differs from run to run. Most runs take one to three
    windows; all rows are 40."""
    window = 4 * GROUP * WIDTH * 4
    few, many = growth(tmp_path, 16, call), growth(tmp_path, 160, call)
    assert max(few, many) < 12 * window, (few / window, many / window)
