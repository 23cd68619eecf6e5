"""Promise: the regression guard reports slower cases, and no others."""

from __future__ import annotations

import json
import os
from pathlib import Path

import gdcore
import pytest

from bench import guard
from bench.peers import cases, machine

TINY = cases.Case((13, 8, 3), 4)
OPTIONS = ["--threads=1", "--rounds=2", "--seconds=0.002"]


@pytest.fixture(autouse=True)
def one_tiny_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """One network, and the library under test as the earlier version too."""
    monkeypatch.setitem(cases.SETS, "guard", (TINY,))
    monkeypatch.setattr(guard, "build", lambda ref, folder: Path(gdcore.__file__).parents[1])


def test_an_earlier_version_is_measured_beside_this_one(capsys: pytest.CaptureFixture[str]) -> None:
    """Promise: steps, fit and predictions are compared, each with its noise, and their means last."""
    assert guard.main(["--against=some", "--tolerance=50", *OPTIONS]) == 0
    printed = capsys.readouterr().out
    for what in ("gdcore@some", "gdcore fit@some", "gdcore predict@some"):
        assert printed.count(what) == 2
    assert printed.count(guard.MEAN) == 3 and guard.ITSELF not in printed and "SLOWER" not in printed


def found(name: str, ratios: dict[str, float], itself: float) -> dict[str, object]:
    """The measurement of a case, with the version "old" and the current one."""
    peers = {f"{peer}@old": {"ratio": ratio} for peer, ratio in ratios.items()}
    return {"name": name, "peers": peers | {f"{peer}@itself": {"ratio": itself} for peer in ratios}}


@pytest.mark.parametrize(
    ("ratio", "itself", "tolerance", "slower"),
    [
        (0.97, 1.0, 0.02, True),
        (0.99, 1.0, 0.02, False),
        (0.97, 1.05, 0.02, False),  # within the noise, whichever was faster
        (0.97, 1 / 1.05, 0.02, False),
        (0.94, 1 / 1.05, 0.02, True),
        (1.50, 1.0, 0.02, False),
        (0.97, 1.0, 0.1, False),
    ],
)
def test_what_counts_as_slower(ratio: float, itself: float, tolerance: float, slower: bool) -> None:
    """Promise: cases that lost more than the tolerance and more than the noise are reported."""
    (finding,) = guard.changes(found("net", {"gdcore": ratio}, itself), None)
    assert finding.slower(tolerance) == slower
    assert ("SLOWER" in guard.report([finding], tolerance)) == slower


def test_the_means_have_less_noise() -> None:
    """Promise: a loss in every case shows in the mean, though each is within the noise of its case."""
    findings: list[guard.Finding] = []
    for number in range(16):
        findings += guard.changes(found(str(number), {"gdcore": 0.97, "gdcore-fit": 1.0}, 1.04), None)
    assert not any(finding.slower(0.02) for finding in findings)
    steps, fit = guard.means(findings)
    assert steps.change == pytest.approx(0.97) and steps.noise == pytest.approx(0.01) and steps.slower(0.02)
    assert fit.change == pytest.approx(1.0) and not fit.slower(0.02)


def results(path: Path, ratio: float, processor: str | None = None) -> str:
    """Write an earlier run in which a peer had this ratio."""
    about = machine.describe(1, (min(os.sched_getaffinity(0)),))
    peers = {"gdcore": {"ratio": 1.0}, "gdcore-fit": {"ratio": 1.0}, "strangers:Steady": {"ratio": ratio}}
    case = {"name": TINY.name, "ratio": ratio, "peers": peers}
    path.write_text(json.dumps({"machine": about | ({"processor": processor} if processor else {}), "cases": [case]}))
    return f"--results={path}"


def test_the_lead_over_peers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Promise: a smaller lead fails, a larger one passes, results of another machine are refused."""
    (tmp_path / "strangers.py").write_text("from bench.peers.peer_gdcore import StepPeer as Steady\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")])))
    file = tmp_path / "run.json"
    assert guard.main([results(file, 0.01), *OPTIONS]) == 0
    assert guard.main([results(file, 100.0), *OPTIONS]) == 1
    assert "SLOWER" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="Abacus"):
        guard.main([results(file, 1.0, "Abacus"), *OPTIONS])


def test_what_cannot_be_compared_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise: an unknown commit, no tag and no network each end with a message that says what to do."""
    with pytest.raises(SystemExit, match="--only"):
        guard.main(["--against=some", "--only=nothing", *OPTIONS])
    monkeypatch.undo()
    with pytest.raises(SystemExit, match="--against"):
        guard.build("no-such-commit", tmp_path)
    monkeypatch.setattr(guard, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match="name a commit"):
        guard.last_tag()
