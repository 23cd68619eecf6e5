"""Promise: the command line goes from a table in a file to a model, its measures and its predictions, which are those
of `TabularModel` to the bit; every format of files gives the same predictions, in order, in any size of windows."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path
from typing import Any

import gdcore as gd
import numpy as np
import pytest
from gdcore import cli
from gdcore.commands import reading, shared

pa = pytest.importorskip("pyarrow")
csv = pytest.importorskip("pyarrow.csv")
parquet = pytest.importorskip("pyarrow.parquet")
feather = pytest.importorskip("pyarrow.feather")


def run(*arguments: str) -> None:
    assert cli.main(list(arguments)) == 0


def facts(text: str) -> dict[str, str]:
    return {line.split("  ")[0]: line.split("  ")[-1].strip() for line in text.splitlines() if "  " in line}


def frame(path: str | Path) -> Any:
    """The table that the commands see, as pyarrow reads it by itself."""
    return csv.read_csv(path, convert_options=csv.ConvertOptions(strings_can_be_null=True))


def test_from_csv_to_predictions(here: Path, capsys: Any) -> None:
    run("train", "people.csv", "--target", "buys", "--ignore", "id", "--ensemble", "2", "--test", "0.25", "-q")
    out, error = capsys.readouterr()
    assert not error
    found = facts(out)
    assert found["task"] == "classification, 2 classes: ['no', 'yes']"
    assert found["rows"] == "180 trained on, 60 for the test"
    assert found["columns"] == "2 number, 1 category, 1 boolean, 1 date"
    assert float(found["test accuracy"]) > 0.75 and float(found["test roc_auc"]) > 0.85
    assert 0.5 < float(found["validation accuracy"]) <= 1 and found["model"] == "model.safetensors"
    lines = out.splitlines()
    title = next(i for i, line in enumerate(lines) if line.startswith("How much worse log_loss"))
    assert lines[title].endswith("on 60 test rows") and {line.split()[0] for line in lines[title + 1 : title + 3]} == {
        "age",
        "city",
    }
    run("predict", "model.safetensors", "people.csv", "--out", "out.csv", "--proba", "--keep", "id", "--keep", "age")
    assert capsys.readouterr() == ("", "240 rows predicted: out.csv\n")
    made, model, table = frame("out.csv"), gd.load("model.safetensors"), frame("people.csv")
    assert made.column_names == ["id", "age", "prediction", "probability_no", "probability_yes"]
    assert made.column("id").to_pylist() == [f"c{i:03d}" for i in range(240)]
    inputs = table.drop_columns(["id"])
    assert made.column("prediction").to_pylist() == model.predict(inputs).tolist()
    chances = np.stack([made.column(f"probability_{name}").to_numpy() for name in ("no", "yes")], axis=1)
    assert np.array_equal(chances.astype(np.float32), model.predict_proba(inputs))
    assert np.array_equal(model.predict_proba(table), model.predict_proba(inputs)), "columns ignored in training are"
    run("evaluate", "model.safetensors", "people.csv", "-q")
    found = facts(capsys.readouterr().out)
    right = np.mean(np.array(table.column("buys").to_pylist()) == model.predict(inputs))
    assert float(found["accuracy"]) == pytest.approx(right, rel=1e-5) and "log_loss" in found
    run("evaluate", "model.safetensors", "people.csv", "--metric", "f1_macro", "--target", "buys", "-q")
    assert list(facts(capsys.readouterr().out)) == ["f1_macro"], "no more than was asked for"
    run("evaluate", "model.safetensors", "people.csv", "--metric", "log_loss", "--metric", "accuracy", "-q")
    assert facts(capsys.readouterr().out).items() <= found.items()
    run("inspect", "model.safetensors")
    out = capsys.readouterr().out
    assert "table, " in out and "'buys'" in out and "joined      date" in out and facts(out)["ignored"] == "1: ['id']"


def test_the_model_is_that_of_the_library(here: Path) -> None:
    """On all rows: the same predictions, to the bit."""
    run(
        *[
            "train",
            "people.csv",
            "--target",
            "buys",
            "--ignore",
            "id",
            "--ensemble",
            "1",
            "--test",
            "0",
            "-q",
            "--seed",
            "3",
        ]
    )
    table = frame("people.csv").drop_columns(["id"])
    model = gd.tables.TabularModel(ensemble=1, seed=3, progress=False).fit(table, "buys")
    assert np.array_equal(gd.load("model.safetensors").predict_proba(table), model.predict_proba(table))


def test_regression_and_the_task(here: Path, capsys: Any) -> None:
    """Fractions are numbers, whole numbers of two values classes; others need the task."""
    lines = [f"{i % 7},{(i % 7) * 1.5 + 0.25},{i % 7 * 10},{i % 2}" for i in range(120)]
    Path("numbers.csv").write_text("a,half,ten,odd\n" + "\n".join(lines) + "\n")
    common = ["train", "numbers.csv", "--ensemble", "1", "-q"]
    run(*common, "--target", "half")
    found = facts(capsys.readouterr().out)
    assert found["task"] == "regression" and float(found["test r2"]) > 0.9
    assert {"test root_mean_squared_error", "test mean_absolute_error", "test mean_squared_error"} <= found.keys()
    run(*common, "--target", "odd")
    assert facts(capsys.readouterr().out)["task"] == "classification, 2 classes: [0, 1]"
    assert cli.main([*common, "--target", "ten"]) == 1
    error = capsys.readouterr().err
    assert "whole numbers" in error and "--task regression" in error and error.count("\n") == 1
    run(*common, "--target", "ten", "--task", "regression")
    run("predict", "model.safetensors", "numbers.csv", "--out", "out.parquet", "-q")
    made = parquet.read_table("out.parquet")
    assert made.column_names == ["prediction"] and str(made.schema.field(0).type) == "double"
    assert np.corrcoef(made.column(0).to_numpy(), frame("numbers.csv").column("ten").to_numpy())[0, 1] > 0.95
    assert cli.main(["predict", "model.safetensors", "numbers.csv", "--proba"]) == 1
    assert "--proba" in capsys.readouterr().err


FORMATS = ["csv", "csv.gz", "tsv", "parquet", "feather", "arrow"]


def write(path: Path, table: Any) -> None:
    """Write a table in the format of a path's ending, with other means than the commands."""
    if path.suffix == ".parquet":
        parquet.write_table(table, path, row_group_size=50)
    elif path.suffix == ".feather":
        feather.write_feather(table, path)
    elif path.suffix == ".arrow":
        with pa.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=70)
    else:
        separator = "\t" if path.suffix == ".tsv" else ","
        plain = path.with_suffix("") if path.suffix == ".gz" else path
        csv.write_csv(table, plain, csv.WriteOptions(delimiter=separator))
        if path.suffix == ".gz":
            path.write_bytes(gzip.compress(plain.read_bytes()))


def read(path: Path) -> Any:
    if path.suffix == ".parquet":
        return parquet.read_table(path)
    if path.suffix in (".feather", ".arrow"):
        return feather.read_table(path)
    separator = "\t" if ".tsv" in path.suffixes else ","
    return csv.read_csv(path, parse_options=csv.ParseOptions(delimiter=separator))


@pytest.mark.parametrize("ending", FORMATS)
def test_every_format_gives_the_same_predictions(ending: str, here: Path, monkeypatch: Any, capsys: Any) -> None:
    """Read and written, in windows of 64 rows and blocks of text of a few rows, from a file with other columns too."""
    table = frame("people.csv")
    expected = gd.load("model.safetensors").predict_proba(table.drop_columns(["id"]))
    order = ["income", "id", "buys", "joined", "member", "city", "age"]
    data, out = here / f"data.{ending}", here / f"out.{ending}"
    write(data, table.select(order))
    monkeypatch.setattr(shared, "MOST_ROWS", 64)
    monkeypatch.setattr(reading, "BLOCK", 600)
    run("predict", "model.safetensors", str(data), "--out", str(out), "--proba", "--keep", "id")
    assert "240 rows" in capsys.readouterr().err
    made = read(out)
    assert made.column("id").to_pylist() == table.column("id").to_pylist()
    assert np.array_equal(made.column("probability_yes").to_numpy().astype(np.float32), expected[:, 1])
    run("evaluate", "model.safetensors", str(data), "-q")
    assert float(facts(capsys.readouterr().out)["accuracy"]) > 0.8


@pytest.mark.parametrize("ending", ["parquet", "feather"])
def test_training_reads_other_formats(ending: str, here: Path, capsys: Any) -> None:
    write(here / f"data.{ending}", frame("people.csv").drop_columns(["id"]))
    run("train", f"data.{ending}", "--target", "buys", "--ensemble", "1", "-q", "--out", "other.safetensors")
    run("predict", "other.safetensors", "people.csv", "-q")
    assert set(capsys.readouterr().out.splitlines()[-240:]) == {"yes", "no"}


def test_kept_categories_of_parquet(here: Path, monkeypatch: Any) -> None:
    """Row groups with other categories each: the dictionary of a column is no part of the output."""
    table = frame("people.csv")
    kept = pa.array([f"group {i // 60}" for i in range(240)])
    monkeypatch.setattr(shared, "MOST_ROWS", 64)
    with parquet.ParquetWriter(
        "groups.parquet", table.append_column("group", kept.dictionary_encode()).schema
    ) as writer:
        for first in range(0, 240, 60):
            part = kept[first : first + 60].dictionary_encode()
            writer.write_table(table.slice(first, 60).append_column("group", part))
    for out in ("out.arrow", "out.parquet", "out.csv"):
        run("predict", "model.safetensors", "groups.parquet", "--keep", "group", "--out", out, "-q")
        assert read(Path(out)).column("group").to_pylist() == kept.to_pylist()


def test_windows_are_bounded_and_complete(here: Path, monkeypatch: Any) -> None:
    """A window has no more rows than it may, whatever the batches of the file; none is lost."""
    lines = "\n".join(str(i) for i in range(5000))
    Path("long.csv").write_text(f"number\n{lines}\n")
    parquet.write_table(pa.table({"number": list(range(5000))}), "long.parquet")
    feather.write_feather(pa.table({"number": list(range(5000))}), "long.feather")
    for name in ("long.csv", "long.parquet", "long.feather"):
        source = reading.opened(Path(name))
        parts = list(source.windows(["number"], 300))
        assert max(table.num_rows for _, table in parts) == 300 and len(parts) >= 5000 / 300
        values = [int(value) for _, table in parts for value in table.column(0).to_pylist()]
        starts = [first for first, _ in parts]
        assert values == list(range(5000)) and starts == [values[first] for first in starts]


def test_types_do_not_depend_on_the_first_rows(here: Path, capsys: Any) -> None:
    """A column of codes that look like numbers at first is text throughout; --kind makes codes of digits categories."""
    lines = [f"{'0' if i < 100 else ''}{i % 5 if i < 100 else 'x'},{i % 3:02d},{'ab'[i % 2]}" for i in range(200)]
    Path("codes.csv").write_text("code,zip,y\n" + "\n".join(lines) + "\n")
    run("train", "codes.csv", "--target", "y", "--ensemble", "1", "-q", "--kind", "zip=category")
    columns = gd.load("model.safetensors").columns()
    assert columns["kind"] == ["category", "category"]
    encoding = gd.load("model.safetensors")._parts()[1]
    assert set(encoding.columns[1].keys) == {"00", "01", "02"}
    Path("few.csv").write_text("code,zip\n01,02\n")
    run("predict", "model.safetensors", "few.csv", "-q")
    assert capsys.readouterr().out.splitlines()[-1] in ("a", "b")


def test_text_of_other_kinds(here: Path, people: str, capsys: Any) -> None:
    """A byte order mark, other encodings, semicolons and decimal commas give the same predictions."""
    run("predict", "model.safetensors", "people.csv", "-q")
    expected = capsys.readouterr().out
    Path("bom.csv").write_text(people, encoding="utf-8-sig")
    Path("wide.csv").write_text(people, encoding="utf-16")
    Path("windows.csv").write_text(people.replace("id,", "Größe,", 1), encoding="windows-1252", newline="\r\n")
    german = people.replace('"Rome, IT"', '"Rome: IT"').replace(",", ";").replace(".", ",").replace("Rome:", "Rome,")
    Path("german.csv").write_text(german)
    for name, options in {
        "bom": [],
        "wide": ["--encoding", "utf-16"],
        "windows": ["--encoding", "windows-1252"],
        "german": ["--separator", ";", "--decimal", ","],
    }.items():
        run("predict", "model.safetensors", f"{name}.csv", "-q", *options)
        assert capsys.readouterr().out == expected, name


@pytest.mark.parametrize(("name", "measure", "least"), [("diabetes", "r2", 0.3), ("wine", "accuracy", 0.8)])
def test_a_known_table(name: str, measure: str, least: float, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    """From CSV to predictions by all commands."""
    datasets = pytest.importorskip("sklearn.datasets")
    monkeypatch.chdir(tmp_path)
    frame = getattr(datasets, f"load_{name}")(as_frame=True).frame
    frame.to_csv("table.csv", index=False)
    task = "regression" if measure == "r2" else "classification"
    run("train", "table.csv", "--target", "target", "--task", task, "--ensemble", "2", "-q")
    found = facts(capsys.readouterr().out)
    assert found["task"].startswith(task) and least < float(found[f"test {measure}"]) <= 1
    run("evaluate", "model.safetensors", "table.csv", "-q")
    measured = float(facts(capsys.readouterr().out)[measure])
    run("predict", "model.safetensors", "table.csv", "--out", "out.csv", "-q")
    y, predicted = frame["target"].to_numpy(), frame_of("out.csv")
    right = (predicted == y).mean() if measure == "accuracy" else 1 - ((predicted - y) ** 2).mean() / y.var()
    assert measured == pytest.approx(right, rel=1e-4)
    run("inspect", "model.safetensors")
    assert facts(capsys.readouterr().out)["target"] == f"'target', {task}"


def frame_of(path: str) -> Any:
    """The predictions of a file."""
    return csv.read_csv(path).column("prediction").to_numpy()


def test_export(here: Path, capsys: Any) -> None:
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    run("export", "model.safetensors", "--onnx", "model.onnx", "--networks", "--outputs", "probabilities")
    out = capsys.readouterr().out
    model, table = gd.load("model.safetensors"), frame("people.csv").drop_columns(["id"])
    x = model.encode(table)
    assert f"x, (rows, {x.shape[1]})" in out and "model.encode(frame)" in out and "no, yes" in out
    session = runtime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": x})[0], model.predict_proba(table), atol=1e-5)
    run("export", "model.safetensors", "--onnx", "whole.onnx", "--outputs", "probabilities")
    found = facts(capsys.readouterr().out)
    assert found["inputs"] == "age, city, member, joined, income: (rows,) each" and found["classes"] == "no, yes"
    assert found["output"] == "probabilities, (rows, 2); label, (rows,)"
    session = runtime.InferenceSession("whole.onnx", providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == ["age", "city", "member", "joined", "income"]
    gd.Sequential(gd.Dense(2, 3), seed=0, feature_names=["a", "b"]).save("plain.safetensors")
    run("export", "plain.safetensors", "--onnx", "plain.onnx")
    assert "x, (rows, 2)" in capsys.readouterr().out and Path("plain.onnx").stat().st_size > 100
    inputs, ages = table.drop_columns(["age", "buys"]), table.column("age").to_numpy()
    numbers = gd.tables.TabularModel("regression", ensemble=1, progress=False)
    numbers.fit(inputs, ages * 1.5).save("numbers.safetensors")
    run("export", "numbers.safetensors", "--onnx", "numbers.onnx", "--networks")
    formula = facts(capsys.readouterr().out)["prediction"]
    run("export", "numbers.safetensors", "--onnx", "all.onnx")
    assert facts(capsys.readouterr().out)["output"] == "outputs, the predictions"
    session = runtime.InferenceSession("numbers.onnx", providers=["CPUExecutionProvider"])
    outputs = session.run(None, {"x": numbers.encode(inputs)})[0]
    np.testing.assert_allclose(eval(formula, {"outputs": outputs}), numbers.predict(inputs), rtol=1e-4)


@pytest.mark.parametrize(("width", "kind"), [(1, "yes_no"), (3, "yes_no"), (3, "classes"), (2, "numbers")])
def test_export_prints_the_output_that_the_file_declares(
    width: int, kind: str, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    onnx = pytest.importorskip("onnx")
    monkeypatch.chdir(tmp_path)
    model = gd.Sequential(gd.Dense(2, width), seed=0, outputs=kind)
    model.save("net.safetensors")
    for outputs in ("raw", "probabilities") if kind != "numbers" else ("raw",):
        run("export", "net.safetensors", "--onnx", "net.onnx", "--outputs", outputs)
        [output] = onnx.load("net.onnx").graph.output
        rows, columns = output.type.tensor_type.shape.dim
        declared = f"{output.name}, ({rows.dim_param}, {columns.dim_value})"
        assert facts(capsys.readouterr().out)["output"] == declared


def test_the_curve(here: Path, capsys: Any) -> None:
    pytest.importorskip("matplotlib")
    common = ["train", "people.csv", "--target", "buys", "--ignore", "id", "--ensemble", "2", "-q"]
    run(*common)
    assert Path("model.curve.png").read_bytes().startswith(b"\x89PNG")
    run(*common, "--curve", "other.svg", "--test", "0")
    assert b"<svg" in Path("other.svg").read_bytes() and "240 training rows" in capsys.readouterr().out
    Path("folder.curve.png").mkdir()
    assert cli.main([*common, "--out", "folder.st"]) == 1, "nobody has typed --curve"
    assert capsys.readouterr().err.startswith("gdcore train: the learning curve: got a folder")


def test_the_time_limit(here: Path, capsys: Any) -> None:
    run("train", "people.csv", "--target", "buys", "--ignore", "id", "--time", "0.01s", "-q")
    assert facts(capsys.readouterr().out)["networks"].startswith("1, trained in ")


def test_output_can_be_piped(here: Path) -> None:
    """Nothing but the table on the standard output; a reader that leaves early is no error message."""
    command = [sys.executable, "-m", "gdcore", "predict", "model.safetensors", "people.csv"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode == 0 and done.stderr == "240 rows predicted\n"
    assert done.stdout.splitlines()[0] == "prediction" and len(done.stdout.splitlines()) == 241
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert "Traceback" not in (error := process.stderr.read()) and "Broken" not in error
    assert process.returncode == 1
