"""Promise: the memory of a model of tables that is fitted to files and writes its predictions is bounded by window and
sample, whatever the number of rows, also where row groups are larger than a window."""

from __future__ import annotations

import json
from pathlib import Path

import helpers
import pytest

pytest.importorskip("pyarrow")
GROUP = 20_000

# Writes a file of so many row groups, one after the other, computes with it, and prints the growth of the memory.
CODE = f"""{helpers.MEMORY}
from dataclasses import replace
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
import gdcore as gd
from gdcore.tables import file_data, learning, model as models

path, groups = Path(sys.argv[1]), int(sys.argv[2])
rng = np.random.default_rng(0)
columns = {{f"c{{i}}": rng.normal(size={GROUP}) for i in range(3)}}
columns |= {{"name": np.char.add("n", rng.integers(0, 2**40, {GROUP}).astype(str))}}
columns |= {{"kind": rng.choice(["a", "b", "c"], {GROUP}), "y": rng.normal(size={GROUP})}}
with pq.ParquetWriter(path, pa.table(columns).schema) as writer:
    for _ in range(groups):
        writer.write_table(pa.table(columns), row_group_size={GROUP})
del columns
whole = models.recipe
models.recipe = lambda facts: replace(whole(facts), epochs=1, widths=(8,), members=1, batch_size=500)
learning.SAMPLE, learning.MOST, file_data.MEASURED = 2000, 4000, 2000
first = path.with_name("first.parquet")
pq.write_table(pq.ParquetFile(path).read_row_group(0), first)


def computed(path):
    rows = gd.data.Parquet(path, window=2000)
    made = gd.tables.TabularModel(progress=False, device="cpu").fit(rows, "y")
    rows.write_predictions(path.with_name("out.parquet"), made.predict)
    return rows.rows


for _ in range(2):  # imports, threads, and what each thread allocates once
    computed(first)
record()
rows = computed(path)
print(json.dumps([growth(), rows]))
"""


@pytest.mark.slow
def test_thirty_times_the_rows_take_no_more_memory(tmp_path: Path) -> None:
    """Of 40,000 rows and of 1,200,000, which are 270 MB as encoded rows; a window is 0.4 MB. What readers and pyarrow's
    allocator keep differs from run to run, by up to 15 MB."""
    grown = []
    for groups in (2, 60):
        found, rows = json.loads(helpers.must_run(CODE, str(tmp_path / f"{groups}.parquet"), str(groups)))
        assert rows == groups * GROUP
        grown.append(found / 2**20)
    assert max(grown) < 32, grown
