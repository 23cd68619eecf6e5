"""Promise: docs/command-line.md is true: its commands run in order on its table, print what it shows, and its lists of
arguments, endings and missing values are complete."""

from __future__ import annotations

import argparse
import gzip
import io
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from gdcore import cli

csv = pytest.importorskip("pyarrow.csv")
pytest.importorskip("pandas")
pytest.importorskip("onnx")
pytest.importorskip("matplotlib")
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "command-line.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def labels(text: str) -> list[str]:
    """The first column of printed lines."""
    return [re.split(r"  +", line.strip())[0] for line in text.splitlines() if "  " in line.strip()]


def test_its_commands_run(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    [tables, loading], [shown, *_] = blocks("python"), blocks("text")
    exec(tables, {})
    commands = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(commands) == 7
    for command in commands:
        [command] = [part for part in command.split(" | ") if part.startswith("gdcore ")]
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(Path("new.csv").read_bytes()))))
        program, *arguments = shlex.split(command)
        assert program == "gdcore" and cli.main(arguments) == 0, command
        out = capsys.readouterr().out
        if arguments[0] == "train":
            assert set(labels(out)) == set(labels(shown))
            pattern = re.compile(r"^test r2 +(.*)$", re.MULTILINE)
            numbers = [float(pattern.findall(text)[0]) for text in (out, shown)]
            assert numbers[0] == pytest.approx(numbers[1], abs=0.05)
    found: dict[str, Any] = {}
    exec(loading, found)
    assert found["dates"] == ["built"]
    assert found["predictions"].tolist() == csv.read_csv("predictions.csv").column("prediction").to_pylist()
    assert cli.main(["evaluate", "rent.safetensors", "new.csv", "-q"]) == 0
    found["measures"]["mean_squared_error"] = found["measures"].pop("loss")
    assert {name: f"{value:.6g}" for name, value in found["measures"].items()} == dict(
        line.split() for line in capsys.readouterr().out.splitlines()
    )
    model, frame = found["model"], found["frame"]
    assert model.predict(frame.assign(more=1)[list(model.feature_names)]).tolist() == found["predictions"].tolist()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"flats.csv", "new.csv", "rent.safetensors", "rent.curve.png", "predictions.csv", "rent.onnx"}


def test_its_lists_are_complete() -> None:
    from gdcore.commands.reading import FORMATS
    from gdcore.commands.typed import MISSING

    parser = cli._build()
    [commands] = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    for name in ("train", "evaluate", "predict", "export"):
        for action in commands.choices[name]._actions:
            for option in action.option_strings[-1:]:
                assert option == "--help" or option == "--quiet" or f"`{option}" in PAGE or f" {option}" in PAGE, option
    assert all(f"`gdcore {name}" in PAGE for name in commands.choices)
    assert all(f"`{ending}`" in PAGE for ending in FORMATS)
    assert all(f"`{text}`" in PAGE for text in MISSING if text)
