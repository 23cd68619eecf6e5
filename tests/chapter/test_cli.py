"""Promise: the command line does what its help says; bad arguments are refused in one line with exit status 2, ordinary
errors are reported in one line with status 1, and neither shows a traceback or leaves files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import gdcore as gd
import helpers
import numpy as np
import pytest
from gdcore import cli
from gdcore.chapter import gallery
from gdcore.chapter.reproductions import REPRODUCTIONS

COMMANDS = ("train", "evaluate", "predict", "export", "info", "inspect", "gallery", "reproduce")


def test_the_module_runs_as_a_command() -> None:
    done = subprocess.run([sys.executable, "-m", "gdcore", "info"], capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode == 0 and not done.stderr
    facts = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if not line.startswith("instruction"))
    assert facts["version"] == gd.__version__ and int(facts["threads"]) >= 1 and "cpu" in facts["devices"]
    sets = dict(line.split("  ", 1) for line in done.stdout.splitlines() if line.startswith("instruction"))
    assert sets["instruction set"].strip() in sets["instruction sets"].strip().split(", ")
    assert sets["instruction sets"].endswith("baseline")
    assert facts["cuda"].startswith("not usable: ") or "compute capability" in facts["cuda"]


def test_info_names_the_packages_found(capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(cli, "PACKAGES", ("numpy", "surely-no-such-package"))
    assert cli.main(["info"]) == 0
    lines = capsys.readouterr().out.splitlines()
    numpy = sys.modules["numpy"].__version__
    assert [line.split(maxsplit=1)[1] for line in lines[-2:]] == [numpy, "not installed"]


def test_light_commands_import_nothing_heavy() -> None:
    heavy = "torch pyarrow onnx narwhals safetensors pandas matplotlib sklearn scipy joblib tqdm mnist1d"
    for arguments in (["info"], ["gallery", "--list"], ["reproduce", "--list"]):
        helpers.must_run(
            f"import sys; from gdcore.cli import main; assert main({arguments!r}) == 0; "
            f"assert not set('{heavy}'.split()) & set(sys.modules)"
        )


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help(command: list[str], capsys: Any) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main([*command, "--help"])
    out = capsys.readouterr().out
    assert left.value.code == 0 and out.startswith(" ".join(["usage: gdcore", *command]))
    if not command:
        assert all(name in out for name in (*COMMANDS, "--version"))


def test_lists(capsys: Any) -> None:
    for command, names in (("gallery", gallery.PICTURES), ("reproduce", REPRODUCTIONS)):
        assert cli.main([command, "--list"]) == 0
        assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(names)


BAD: dict[str, tuple[list[str], str]] = {
    "nothing": ([], "COMMAND"),
    "unknown command": (["draw"], "draw"),
    "unknown option": (["info", "--verbose"], "--verbose"),
    "info takes nothing": (["info", "x"], "x"),
    "inspect what": (["inspect"], "MODEL"),
    "inspect two": (["inspect", "a", "b"], "b"),
    "no folder": (["gallery"], "OUT"),
    "no folder but a name": (["gallery", "--only", "valley"], "OUT"),
    "unknown picture": (["gallery", "OUT", "--only", "vally"], "--only: got .vally.*ellipses"),
    "one unknown picture": (["gallery", "OUT", "--only", "valley", "--only", "vally"], "vally"),
    "only without name": (["gallery", "OUT", "--only"], "--only"),
    "two folders": (["gallery", "OUT", "OTHER"], "OTHER"),
    "no reproduction": (["reproduce"], "NAME OUT"),
    "reproduction without folder": (["reproduce", "quadratic"], "NAME OUT"),
    "unknown reproduction": (["reproduce", "cubic", "OUT"], "cubic.*quadratic"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments(name: str, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, word = BAD[name]
    with pytest.raises(SystemExit) as left:
        cli.main(arguments)
    out, error = capsys.readouterr()
    assert left.value.code == 2 and not out
    assert error.count("\n") == 1 and error.startswith("gdcore") and error.rstrip().endswith("--help)")
    helpers.refuses(lambda: _raise(error), RuntimeError, word)
    assert not list(tmp_path.iterdir())


def _raise(message: str) -> None:
    raise RuntimeError(message)


def one_line(capsys: Any, word: str) -> None:
    out, error = capsys.readouterr()
    assert error.count("\n") == 1 and error.startswith("gdcore") and word in error, error
    assert "Traceback" not in out + error


@pytest.mark.parametrize("arguments", [["gallery", "FILE", "--only", "valley"], ["reproduce", "quadratic", "FILE"]])
def test_a_folder_that_is_a_file(arguments: list[str], tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("kept")
    with pytest.raises(SystemExit) as left:
        cli.main(arguments)
    assert left.value.code == 2
    one_line(capsys, "OUT: FILE is a file; expected a folder")
    assert (tmp_path / "FILE").read_text() == "kept"


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert cli.main(["gallery", str(tmp_path / "out"), "--only", "valley"]) == 1
    one_line(capsys, "pip install gdcore[plot]")


@pytest.mark.parametrize(
    ("error", "status", "word"),
    [
        (KeyboardInterrupt(), 130, "stopped"),
        (gd.DivergenceError("loss: nan\nat step 3"), 1, "loss: nan at step 3"),
        (ValueError("x: got 3"), 1, "x: got 3"),
    ],
)
def test_what_goes_wrong_later(error: BaseException, status: int, word: str, monkeypatch: Any, capsys: Any) -> None:
    def fails(path: Any) -> None:
        raise error

    monkeypatch.setitem(gallery.PICTURES, "valley", fails)
    assert cli.main(["gallery", ".", "--only", "valley"]) == status
    one_line(capsys, word)


def test_version(capsys: Any) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["--version"])
    assert left.value.code == 0 and capsys.readouterr().out == f"gdcore {gd.__version__}\n"


def inspected(path: Path, capsys: Any) -> tuple[dict[str, str], str]:
    """The facts that ``gdcore inspect`` prints, by name, and the summary below."""
    assert cli.main(["inspect", str(path)]) == 0
    facts, _, summary = capsys.readouterr().out.partition("\n\n")
    pairs = (line.split("  ", 1) for line in facts.splitlines())
    return {name: text.strip() for name, text in pairs}, summary.rstrip("\n")


def test_inspect_shows_files_of_each_kind(tmp_path: Path, capsys: Any) -> None:
    names: dict[str, Any] = {"classes": ["no", "yes"], "feature_names": ["a", "b", "c"]}
    model = gd.Sequential(gd.Dense(3, 4), gd.ReLU(), gd.Dense(4, 2), seed=0, **names)
    x, y = np.random.default_rng(0).standard_normal((20, 3)), np.array(["no", "yes"] * 10)
    trainer = gd.Trainer(model, gd.CrossEntropy(), optimizer=gd.Adam(0.02))
    path = tmp_path / "model.safetensors"
    trainer.fit(x, y, epochs=3, batch_size=5, callbacks=[gd.Checkpoint(path)])
    facts, summary = inspected(path, capsys)
    assert summary == model.summary() and "26 parameters" in summary
    assert facts["file"].startswith("checkpoint, ") and f"by gdcore {gd.__version__}" in facts["file"]
    assert facts["inputs"] == "3: ['a', 'b', 'c']" and facts["outputs"] == "2; meaning: classes"
    assert facts["classes"] == "['no', 'yes']" and facts["training"] == "epochs 3, steps 12, seed 0"
    assert facts["loss"].startswith("CrossEntropy(") and "lr=0.02" in facts["optimizer"]
    assert facts["last epoch"].startswith("epoch 3, loss 0.")
    gd.Sequential(gd.Dense(3, 1), seed=0).save(path)
    facts, _ = inspected(path, capsys)
    assert facts.keys() == {"file", "inputs", "outputs"} and facts["file"].startswith("model, ")
    assert facts["inputs"] == "3" and facts["outputs"] == "1"
    ensemble = gd.Ensemble([model, model.clone(seed=1)])
    ensemble.save(path)
    facts, summary = inspected(path, capsys)
    assert facts["file"].startswith("ensemble, ") and summary == ensemble.summary()
    table = gd.tables.TabularModel(ensemble=2, progress=False)
    table.fit({"a": x[:, 0], "b": y, "kind": ["u", "v"] * 10}, "kind").save(path)
    facts, summary = inspected(path, capsys)
    assert facts["file"].startswith("table, ") and facts["target"] == "'kind', classification"
    assert facts["inputs"] == "2: ['a', 'b']" and facts["classes"] == "['u', 'v']"
    assert summary == f"{table.columns()}\n\n{table.ensemble.summary()}"


def test_inspect_refuses_other_files_in_one_line(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "model.safetensors"
    assert cli.main(["inspect", str(path)]) == 1
    one_line(capsys, "No such file")
    for content in (b"", b"a,b\n1,2\n", b"\x00" * 100):
        path.write_bytes(content)
        assert cli.main(["inspect", str(path)]) == 1
        one_line(capsys, "model.safetensors")


def test_gallery_draws_what_was_asked_for(tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "new" / "folder"
    assert cli.main(["gallery", str(out), "--only", "momentum_slope", "--only", "adam_bias"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["adam_bias.png", "momentum_slope.png"]
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == [str(out / "momentum_slope.png"), str(out / "adam_bias.png")]


def test_reproduce_writes_figure_table_and_notes(tmp_path: Path, capsys: Any) -> None:
    assert cli.main(["reproduce", "quadratic", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["quadratic.csv", "quadratic.md", "quadratic.png"]
    out = capsys.readouterr().out
    assert "published" in out and "measured" in out and str(tmp_path / "quadratic.png") in out
