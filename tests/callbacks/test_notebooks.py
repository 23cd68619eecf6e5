"""Promise: in a notebook, executed by a real kernel, results are tables that scroll, live curves are one figure that is
drawn anew, and the progress is a widget or a line, without warnings."""

from __future__ import annotations

import base64
import importlib.util
import sys
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest

CELLS = {
    "start": """
import gdcore as gd, numpy as np
from gdcore import analysis
rng = np.random.default_rng(0)
x = rng.standard_normal((300, 4))
y = np.sin(2 * x[:, 0]) + 0.2 * rng.standard_normal(300)
def build(seed, width=8):
    return gd.Sequential(gd.Dense(4, width, name="first"), gd.Tanh(), gd.Dense(width, 1), seed=seed)
model = build(0)
common = {"validation": 0.3, "loss": gd.MeanSquaredError(), "optimizer": gd.Adam(0.02), "epochs": 5}
""",
    "fit": """
trainer = gd.Trainer(model, gd.MeanSquaredError(), optimizer=gd.Adam(0.02), metrics=["mae", "r2"])
history = trainer.fit(x, y, epochs=12, validation=0.5, callbacks=[
    gd.LivePlot(seconds=0), gd.EarlyStopping("val_r2", patience=50), gd.Progress()])
""",
    "again": """
def error(y_true, y_pred):
    return abs(y_true - y_pred).mean()
trainer.metrics = [error]
trainer.fit(x, y, epochs=2, validation=0.5, callbacks=[gd.LivePlot(measures=["error", "loss"], log=True)]);
""",
    "model": "model",
    "deep": "gd.Sequential(*[gd.Dense(4, 4) for _ in range(100)], seed=0)",
    "history": "history",
    "restarts": "gd.restarts(build, 3, x, y, **common)",
    "sweep": 'gd.sweep(build, {"width": [2, 4]}, x, y, **common)',
    "ensemble": "gd.Ensemble([build(0), build(1)])",
    "rates": "gd.lr_range_test(model, gd.MeanSquaredError(), x, y, optimizer=gd.SGD(0.1), steps=20)",
    "variances": "analysis.variance_by_layer(model, x)",
    "table": 'gd.Table({"<i>": ["<script>", None]})',
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """The outputs of the cells."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    for module in ("ipykernel", "matplotlib"):
        pytest.importorskip(module)
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in CELLS.values()]
    notebook = nbformat.v4.new_notebook(cells=cells)
    folder = tmp_path_factory.mktemp("notebook")
    given = {"timeout": 600, "startup_timeout": 300, "resources": {"metadata": {"path": str(folder)}}}
    nbclient.NotebookClient(notebook, **given).execute()
    nbformat.write(notebook, folder / "executed.ipynb")
    made = {name: cell.outputs for name, cell in zip(CELLS, notebook.cells, strict=True)}
    return made | {"widgets": [nbformat.v4.new_output("stream", text=str(notebook.metadata.get("widgets")))]}


def html(outputs: dict[str, list[Any]], name: str) -> str:
    (output,) = (each for each in outputs[name] if each.output_type == "execute_result")
    text = "".join(output.data["text/html"])
    assert text.count("<table") == text.count("</table>") == text.count("overflow: auto")
    assert "color:" not in text.replace("border-bottom", "")  # the page's own colours, light or dark
    return text


def pictures(outputs: dict[str, list[Any]], name: str) -> list[bytes]:
    return [base64.b64decode(each.data["image/png"]) for each in outputs[name] if "image/png" in each.get("data", {})]


def test_no_cell_warns(outputs: dict[str, list[Any]]) -> None:
    for name, found in outputs.items():
        written = "".join(each.text for each in found if each.output_type == "stream")
        assert "arning" not in written and "rror" not in written, (name, written)


def test_live_curves_are_one_picture(outputs: dict[str, list[Any]]) -> None:
    for name in ("fit", "again"):
        (png,) = pictures(outputs, name)
        assert png.startswith(b"\x89PNG")
        width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
        assert (width, height) == (1050, 1020)  # two panels: the loss and what is monitored, or what was chosen


def test_the_progress_is_a_widget_or_a_line(outputs: dict[str, list[Any]]) -> None:
    widgets = [each for each in outputs["fit"] if "application/vnd.jupyter.widget-view+json" in each.get("data", {})]
    line = "".join(each.text for each in outputs["fit"] if each.get("name") == "stderr")
    if importlib.util.find_spec("ipywidgets") is None:
        assert not widgets and "epoch 12/12" in line and "best val_r2" in line
    else:
        assert len(widgets) == 1 and not line
        state = outputs["widgets"][0].text.replace("\\u2007", " ").replace("\u2007", " ")
        assert "epoch 12/12" in state and "best val_r2" in state and "success" in state
        assert all("widget-view" in str(outputs[name][0].data) for name in ("restarts", "sweep"))


def test_a_model_is_a_table_of_its_layers(outputs: dict[str, list[Any]]) -> None:
    text = html(outputs, "model")
    assert '<td style="text-align: left">Dense(4, 8) first</td><td>8</td><td>40</td>' in text
    assert "49 parameters, float32 on cpu" in text
    deep = html(outputs, "deep")
    assert deep.count("<tr>") == 101 and "max-height" in deep and "2,000 parameters" in deep


def test_results_are_tables(outputs: dict[str, list[Any]]) -> None:
    assert "History: 14 rows of 8 columns" in html(outputs, "history")
    restarts = html(outputs, "restarts")
    assert restarts.count("<tr>") == 4 and "val_loss: min" in restarts and "best: seed" in restarts
    sweep = html(outputs, "sweep")
    assert "<th>width</th>" in sweep and sweep.count("<tr>") == 3 and "best: width" in sweep
    ensemble = html(outputs, "ensemble")
    assert ensemble.count("4-8-1, 1 Tanh") == 2 and "98 parameters in 2 models" in ensemble
    assert "suggested lr" in html(outputs, "rates")
    assert "<th>layer</th>" in html(outputs, "variances")
    table = html(outputs, "table")
    assert "&lt;script&gt;" in table and "<script" not in table and "<i>" not in table


# ---- Outside of a notebook ------------------------------------------------------------------------------------------
X = np.random.default_rng(8).standard_normal((40, 3)).astype(np.float32)
Y = X.sum(1)


def build() -> gd.Trainer:
    return gd.Trainer(gd.Sequential(gd.Dense(3, 1), seed=0), gd.MeanSquaredError(), optimizer=gd.SGD(0.02))


@pytest.mark.parametrize(("name", "begins"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.PDF", b"%PDF")])
def test_a_script_draws_into_a_file(name: str, begins: bytes, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    seen: list[int] = []

    class Looks(gd.Callback):
        records = True

        def on_epoch_end(self, trainer: gd.Trainer, logs: dict[str, float]) -> None:
            seen.append(len((tmp_path / name).read_bytes()))

    with pytest.raises(KeyboardInterrupt):

        class Stops:
            def on_epoch_begin(self, trainer: gd.Trainer) -> None:
                if trainer.epoch == 3:
                    raise KeyboardInterrupt

        live = gd.LivePlot(tmp_path / name, seconds=1e6)
        build().fit(X, Y, epochs=4, callbacks=[live, Looks(), Stops()])
    drawn = (tmp_path / name).read_bytes()
    assert drawn.startswith(begins) and len(set(seen)) == 1 and len(seen) == 3  # at first, and at the end
    assert len(drawn) != seen[0]
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_live_curves_that_cannot_be_drawn_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    trainer = build()

    def fit(live: gd.LivePlot) -> Any:
        return lambda: trainer.fit(X, Y, epochs=2, callbacks=[live])

    helpers.refuses(
        fit(gd.LivePlot()), ValueError, r"^path: got None outside of a notebook; .*LivePlot\('curves.png'\)"
    )
    helpers.refuses(fit(gd.LivePlot(tmp_path / "a.txt")), ValueError, r"^path: .*\.png")
    helpers.refuses(fit(gd.LivePlot(tmp_path / "no" / "a.png")), FileNotFoundError, "^.*path: there is no folder")
    assert trainer.epoch == 0
    wrong = gd.LivePlot(tmp_path / "a.png", measures=["loss", "accuracy"])
    helpers.refuses(fit(wrong), ValueError, "^measures: no column 'accuracy' or 'val_accuracy'; the columns are epoch")
    for measures in ("loss", [], [1], 3):
        helpers.refuses(lambda measures=measures: gd.LivePlot(measures=measures), TypeError, "^measures: got")
    helpers.refuses(lambda: gd.LivePlot(seconds=-1), ValueError, "^seconds: got -1")
    assert gd.LivePlot(measures=["val_loss", "loss", "r2"]).measures == ("loss", "r2")


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    live, words = gd.LivePlot(tmp_path / "a.png"), r'^LivePlot needs matplotlib: pip install "gdcore\[notebook\]"$'
    helpers.refuses(lambda: build().fit(X, Y, epochs=1, callbacks=[live]), ImportError, words)
