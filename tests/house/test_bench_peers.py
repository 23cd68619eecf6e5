"""Promise: the comparison with other libraries compares the same training, keeps all other results if one of them is
missing or crashes, and writes the data for its table and picture."""

from __future__ import annotations

import importlib.util
import json
import os
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import gdcore as gd
import numpy as np
import pytest

from bench import predictions, products
from bench.peers import __main__ as command
from bench.peers import cases, cores, footprint, measure, report
from bench.peers.client import PeerFailed, Worker

ROOT = Path(__file__).resolve().parents[2]
TINY = cases.Case((13, 8, 3), 4)
SHORT = measure.Settings(
    threads=1, cpus=(min(os.sched_getaffinity(0)),), rounds=3, seconds=0.002, curve_steps=6, pause=0.001
)
STRANGERS = """
import os, sys
from bench.peers.peer_gdcore import StepPeer

class Dying(StepPeer):
    def run(self, steps):
        print("out of luck", file=sys.stderr, flush=True)
        os._exit(3)

class Wrong(StepPeer):
    def curve(self, steps):
        return [loss * 1.01 for loss in super().curve(steps)]

class Talkative(StepPeer):
    def prepare(self, **arguments):
        print("this must not be taken for an answer")
        return super().prepare(**arguments)

class Missing:
    def __init__(self, threads):
        import a_library_that_nobody_has
"""


@pytest.fixture(autouse=True)
def strangers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Peers for the tests that workers can import."""
    (tmp_path / "strangers.py").write_text(STRANGERS)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")])))


def measured(names: list[str], case: cases.Case = TINY) -> tuple[dict[str, Any], dict[str, Any]]:
    """(information about the peers, the case's result)"""
    with measure.Team(names, SHORT) as team:
        return team.about, measure.CaseRun(case, team).measure()


def test_the_same_curve_and_all_fields(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    about, case = measured(["gdcore", "gdcore-fit", "strangers:Talkative"])
    assert all("versions" in entry for entry in about.values())
    assert not case["failures"] and set(case["peers"]) == set(about)
    for peer in case["peers"].values():
        assert peer["curve_difference"] <= 1e-3 and len(peer["rounds"]) == SHORT.rounds
        assert peer["microseconds"] > 0 and peer["steps"] >= SHORT.least_steps
        assert peer["ratio_quartiles"][0] <= peer["ratio"] <= peer["ratio_quartiles"][1]
    assert case["peers"]["gdcore"]["ratio"] == 1
    assert case["best_peer"] == "strangers:Talkative" and case["ratio"] > 0
    assert measured(["gdcore", "gdcore-fit"])[1]["best_peer"] is None


def test_processors_that_share_a_core_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = min(os.sched_getaffinity(0))
    assert 0 < cores.seconds_of_work([cpu]) < 60 and os.sched_getaffinity(0) >= {cpu}
    for together, shared in (1.05, False), (1.3, False), (1.9, True):
        monkeypatch.setattr(cores, "seconds_of_work", lambda cpus, t=together: t if len(cpus) > 1 else 1.0)
        assert cores.share_cores([0, 1]) == shared and not cores.share_cores([0])
    began = time.monotonic()
    assert not cores.wait_for_cores([0, 1], began + 0.1) and time.monotonic() >= began + 0.1


def test_a_timing_is_repeated_while_processors_share_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    first = iter([True, False, True])  # a wait before the first timing, and a repetition after it
    looks = 0

    def share(cpus: Any) -> bool:
        nonlocal looks
        looks += 1
        return next(first, False)

    monkeypatch.setattr(cores, "share_cores", share)
    monkeypatch.setattr(cores, "PAUSE", 0.001)
    _, case = measured(["gdcore"])
    assert case["repeated_timings"] == 1 and len(case["peers"]["gdcore"]["rounds"]) == SHORT.rounds
    assert looks == 1 + 2 * (SHORT.rounds + 1) and case["timings_on_shared_cores"] == 0
    monkeypatch.setattr(cores, "share_cores", lambda cpus: True)
    with measure.Team(["gdcore"], replace(SHORT, patience=0.01)) as team:
        case = measure.CaseRun(TINY, team).measure()
    assert case["timings_on_shared_cores"] == SHORT.rounds


def test_a_peer_whose_losses_differ_fails() -> None:
    _, case = measured(["gdcore", "strangers:Wrong"])
    assert list(case["peers"]) == ["gdcore"] and "curves differ" in case["failures"]["strangers:Wrong"]


def test_a_worker_that_dies_is_reported_and_started_again() -> None:
    with measure.Team(["gdcore", "strangers:Dying"], SHORT) as team:
        for _ in range(2):
            case = measure.CaseRun(TINY, team).measure()
            assert "status 3" in case["failures"]["strangers:Dying"]
            assert "out of luck" in case["failures"]["strangers:Dying"]
            assert len(case["peers"]["gdcore"]["rounds"]) == SHORT.rounds


def test_what_a_library_prints_is_no_answer_and_an_error_is() -> None:
    worker = Worker("strangers:Talkative", 1, list(SHORT.cpus))
    try:
        with pytest.raises(PeerFailed, match="No such file"):
            worker.call("prepare", case=TINY.to_json(), data="nowhere/case.npz")
        assert worker.alive
    finally:
        worker.close()


def test_the_command_writes_everything(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setitem(cases.SETS, "six", (TINY,))
    options = ["--threads=1", "--rounds=2", "--seconds=0.002", "--skip-footprint", "--skip-sklearn"]
    peers = "--peers=strangers:Missing,strangers:Talkative"
    assert command.main([f"--out={tmp_path / 'new' / 'run'}", peers, *options]) == 0
    printed = capsys.readouterr()
    for text in (printed.out, printed.err):
        assert "strangers:Missing is skipped: No module named 'a_library_that_nobody_has'" in text
    results = json.loads((tmp_path / "new" / "run.json").read_text())
    assert {"processor", "processors_used", "threads", "date"} <= set(results["machine"])
    assert "missing" in results["peers"]["strangers:Missing"] and results["peers"]["gdcore"]["versions"]["gdcore"]
    assert results["cases"][0]["best_peer"] == "strangers:Talkative"
    assert results["summary"]["all"]["geometric_mean"] == pytest.approx(results["cases"][0]["ratio"])
    assert (tmp_path / "new" / "run.png").read_bytes().startswith(b"\x89PNG")
    assert TINY.name in printed.out and report.text(results) in printed.out
    assert command.main([f"--out={tmp_path / 'wrong'}", "--peers=strangers:Wrong", *options]) == 1
    assert "FAILED" in capsys.readouterr().out


@pytest.mark.parametrize("peer", ["torch", "jax", "jax-scan", "sklearn"])
def test_each_peer_has_the_same_curve(peer: str, tmp_path: Path) -> None:
    """With each norm of the peer; torch.compile takes too long."""
    needed = {"jax-scan": "jax"}.get(peer, peer)
    if importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed")
    workers = [Worker(name, 1, list(SHORT.cpus)) for name in ("gdcore", peer)]
    try:
        for case in (
            TINY,
            *(cases.Case((13, 8, 3), 4, n) for n in ("batch", "layer")),
            cases.Case((5, 9, 2), 7, "", "mse"),
        ):
            cases.save(cases.draw(case), tmp_path / "case.npz")
            answers = [w.call("prepare", case=case.to_json(), data=str(tmp_path / "case.npz")) for w in workers]
            if "unsupported" in answers[1]:
                assert peer == "sklearn" and case is not TINY
                continue
            ours, theirs = (w.call("curve", steps=20) for w in workers)
            assert measure.curve_difference(theirs, ours) <= 1e-3, case.name
    finally:
        for worker in workers:
            worker.close()


@pytest.mark.parametrize(
    ("peer", "needed"), [("onnxruntime", "onnx"), ("torch-predict", "torch"), ("sklearn-predict", "sklearn")]
)
def test_each_peer_predicts_the_same(peer: str, needed: str) -> None:
    if importlib.util.find_spec(needed) is None or importlib.util.find_spec(peer.removesuffix("-predict")) is None:
        pytest.skip(f"{needed} is not installed")
    _, result = measured(["gdcore-predict", peer])
    assert not result["failures"]
    assert result["peers"][peer]["curve_difference"] <= 1e-5
    assert result["peers"][peer]["ratio"] > 0


def test_the_bench_of_predictions_writes_all_cases(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    options = ["--widths", "8", "--rows", "1,3", "--threads", "1", "--rounds", "1", "--seconds", "0.002"]
    assert predictions.main(["--out", str(tmp_path / "made.json"), "--peers", "gdcore-predict", *options]) == 0
    found = json.loads((tmp_path / "made.json").read_text())["runs"][0]["cases"]
    assert [case["name"] for case in found] == ["8-8-8-10 [1]", "8-8-8-10 [3]"]
    assert "8-8-8-10 [3]" in capsys.readouterr().out


def test_the_bench_of_products_compares_all_three(capsys: pytest.CaptureFixture[str]) -> None:
    """Products that differ from the BLAS's would be an error."""
    options = ["--shapes", "5,19,3 33,8,17", "--rounds", "1", "--seconds", "0.001"]
    assert products.main([*options, "--threads", str(gd.get_num_threads())]) == 0
    text = capsys.readouterr().out
    for shape in ("5, 19, 3", "33, 8, 17"):
        assert all(f"| {shape} | {kind} | " in text for kind in products.KINDS)
    assert "Geometric mean of the ratios" in text


def test_cases_are_what_is_promised() -> None:
    every = cases.SETS["all"]
    assert len({case.name for case in every}) == len(every) >= 6 + 24
    widths = [w for case in every for w in case.widths[:-1]]
    assert min(widths) == 8 and max(widths) == 2048
    assert {1, 4096} <= {case.batch for case in every} and {1, 6} <= {case.hidden for case in every}
    assert {case.norm for case in every} == {"", "batch", "layer"}
    assert not [case for case in every if case.norm == "batch" and case.batch < 2]
    data = cases.draw(TINY)
    assert set(np.unique(data.y)) == {0, 1, 2} and np.array_equal(data.x, cases.draw(TINY).x)


def test_numbers_of_the_report() -> None:
    assert [report.time_text(t) for t in (7.654, 999, 1234, 2.5e6)] == ["7.65 µs", "999 µs", "1.23 ms", "2.5 s"]
    assert cases.shape_name((1024,) * 4 + (10,)) == "4x1024-10" and cases.shape_name((8, 8, 2)) == "8-8-2"
    assert measure.curve_difference([2.0, 0.01], [1.0, 0.02]) == pytest.approx(1.0)
    for count in (1, 2, 5, 6):
        rounds = [measure.rotated([*range(count)], turn) for turn in range(2 * count)]
        assert all(sorted(order) == [*range(count)] for order in rounds)
        assert {order[0] for order in rounds} == {*range(count)}
        followed = {(a, b) for order in rounds for a, b in pairwise(order)}
        assert len(followed) == count * (count - 1)
    some = [{"name": str(r), "ratio": r, "group": "six"} for r in (1.0, 4.0)]
    assert measure.summary(some)["six"]["geometric_mean"] == pytest.approx(2)
    assert footprint.install_size("numpy") > 1 << 20
