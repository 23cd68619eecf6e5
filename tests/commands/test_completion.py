"""Promise: bash completes commands, arguments, files and the columns of the file that has been typed, as
docs/command-line.md says how to set it up."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("argcomplete")
pytest.importorskip("pyarrow")
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "command-line.md").read_text(encoding="utf-8")
PROGRAMS = {
    "gdcore": "gdcore",
    "register-python-argcomplete": "argcomplete.scripts.register_python_argcomplete",
}
SCRIPT = """
{setup}
COMP_LINE={line}
COMP_POINT=${{#COMP_LINE}}
COMP_WORDS=({line_words} {last})
COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
COMP_TYPE=9
$(complete -p gdcore | sed 's/.*-F \\([^ ]*\\) .*/\\1/') gdcore {last}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def completed(line: str, folder: Path) -> set[str]:
    """What bash offers after a line, in a shell that has done what the page says."""
    [setup] = re.findall(r'^eval "\$\(register-python-argcomplete gdcore\)"$', PAGE, re.MULTILINE)
    words, _, last = line.rpartition(" ")
    script = SCRIPT.format(setup=setup, line=shlex.quote(line), line_words=words, last=shlex.quote(last))
    done = subprocess.run(["bash", "--norc", "-c", script], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return {each.rstrip() for each in done.stdout.splitlines() if each.strip()}


@pytest.fixture
def folder(here: Path, monkeypatch: Any) -> Path:
    """The folder of the table and the model, with the two programs on PATH."""
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    programs = here / "programs"
    programs.mkdir()
    for name, module in PROGRAMS.items():
        # So that the programs find what this process imports.
        start = f"import runpy, sys; sys.path[:0] = {[path for path in sys.path if path]!r}; sys.argv[0] = {name!r}"
        start += f"; runpy.run_module({module!r}, run_name='__main__')"
        command = " ".join(map(shlex.quote, [sys.executable, "-P", "-c", start]))
        (programs / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return here


def test_bash_completes(folder: Path) -> None:
    (folder / "notes.txt").write_text("")
    assert completed("gdcore tr", folder) == {"train"}
    assert completed("gdcore train --tar", folder) == {"--target"}
    assert completed("gdcore train pe", folder) == {"people.csv"}
    assert completed("gdcore predict mo", folder) == {"model.safetensors"}
    columns = {"id", "age", "city", "member", "joined", "income", "buys"}
    assert completed("gdcore train people.csv --target ", folder) == columns
    assert completed("gdcore train people.csv --kind age=n", folder) == {"number"}
    assert completed("gdcore train people.csv --task c", folder) == {"classification"}
    assert {"f1", "roc_auc"} <= completed("gdcore evaluate model.safetensors people.csv --metric ", folder)
    assert completed("gdcore train notes.txt --target ", folder) == set()
