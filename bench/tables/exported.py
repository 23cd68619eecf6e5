"""``python -m bench.tables.exported --out NAME``: models of the tables as ONNX files, beside themselves on test rows.

Each model is trained as by default, with ``--ensemble`` networks. ``NAME.md`` gets a line for each table: the largest
difference of the predictions (probabilities, or numbers divided by the largest), and how many labels differ.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.tables import tables

if TYPE_CHECKING:
    import pandas

HEAD = "| table | test rows | inputs | largest difference | other labels | kB |\n|---|---|---|---|---|---|\n"


def inputs(session: Any, frame: pandas.DataFrame) -> dict[str, np.ndarray]:
    """Return the columns of a frame as a file takes them: see docs/onnx.md."""
    made = {}
    for each in session.get_inputs():
        column = frame[each.name]
        if each.type == "tensor(string)":
            made[each.name] = column.astype(object).where(column.notna(), "").to_numpy()
        elif each.type == "tensor(int64)":
            made[each.name] = column.to_numpy("datetime64[us]").astype(np.int64)
        else:
            made[each.name] = column.to_numpy(np.float64, na_value=np.nan)
    return made


def measure(name: str, ensemble: int) -> str:
    """Train on a table, export, and return its line."""
    import onnxruntime
    from gdcore.tables import TabularModel

    split = tables.split(name, 0)
    task = "classification" if split.classes else "regression"
    model = TabularModel(task, ensemble=ensemble, progress=False).fit(split.x, split.y)
    file = io.BytesIO()
    model.save_onnx(file, outputs="probabilities" if split.classes else "raw")
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    found = session.run(None, inputs(session, split.x_test))
    expected = model.predict_proba(split.x_test) if split.classes else model.predict(split.x_test)
    difference = np.abs(found[0] - expected).max() / max(1.0, np.abs(expected).max())
    others = str((found[1] != model.predict(split.x_test)).sum()) if split.classes else ""
    used = len(session.get_inputs())
    return f"| {name} | {len(split.x_test)} | {used} | {difference:.1e} | {others} | {len(file.getvalue()) // 1000} |\n"


def main(argv: list[str] | None = None) -> None:
    """Measure the tables, write and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.tables.exported", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="path without ending")
    parser.add_argument("--tables", default=",".join(tables.EIGHT), help="names; default: the eight")
    parser.add_argument("--ensemble", type=int, default=2, help="networks of each model")
    options = parser.parse_args(argv)
    text = HEAD
    for name in options.tables.split(","):
        text += measure(name, options.ensemble)
        options.out.with_suffix(".md").write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
