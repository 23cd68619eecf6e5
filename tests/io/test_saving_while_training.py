"""Promise: copying or setting a model's arrays while another thread trains it is consistent and does not change the
training; a call that cannot be consistent is refused; saving in a signal handler does not deadlock."""

from __future__ import annotations

import textwrap
from pathlib import Path

import helpers
import pytest

SETUP = """
    import copy, io, os, pickle, signal, sys, threading, time
    import numpy as np, gdcore as gd

    x = np.random.default_rng(0).standard_normal((512, 20)).astype("f")
    y = x[:, :4].argmax(1)

    def make():
        model = gd.Sequential(gd.Dense(20, 300), gd.BatchNorm(300), gd.ReLU(), gd.Dense(300, 4), seed=0, device="cpu")
        return gd.Trainer(model, loss=gd.CrossEntropy(), optimizer=gd.Adam(1e-3))

    def result(trainer):
        return {name: np.array(array) for name, array in trainer.model.parameters().items()}

    trainer = make()
    model = trainer.model
    failed = []
    rounds, enough = 0, threading.Event()  # how often it was trained; whether the other calls were made meanwhile

    def work():
        global rounds
        try:
            while not enough.is_set():
                TRAIN
                rounds += 1
        except BaseException as error:
            failed.append(error)
            raise
"""
TRAIN = {
    "fit": "trainer.fit(x, y, epochs=30)",
    "steps": "for i in range(400): trainer.step(x[:32], y[:32])",
}


def script(train: str, *parts: str) -> str:
    return textwrap.dedent(SETUP).replace("TRAIN", TRAIN[train]) + "\n".join(map(textwrap.dedent, parts))


CALLS = {
    "save to a path": "model.save(path); gd.load(path)",
    "save to memory": "f = io.BytesIO(); model.save(f); f.seek(0); gd.load(f)",
    "save_onnx": "model.save_onnx(io.BytesIO()); gd.Ensemble([model]).save_onnx(io.BytesIO())",
    "deepcopy": "copies.append(copy.deepcopy(model).copy_state())",
    "pickle": "copies.append(pickle.loads(pickle.dumps(model)).copy_state())",
    "copy_state": "copies.append(model.copy_state())",
    "copy_state into one": "copies[:] = [model.copy_state(copies[0] if copies else None)]",
    "restore_state": "copies.append(model.copy_state()); other.restore_state(copies[-1])",
    "load_parameters": "other.load_parameters(dict(fixed)); other.load_parameters(io.BytesIO(kept))",
}


@pytest.mark.parametrize("train", TRAIN)
@pytest.mark.parametrize("call", CALLS)
def test_calls_beside_training_wait(call: str, train: str, tmp_path: Path) -> None:
    """All calls succeed, and the trained weights equal those of an undisturbed run."""
    helpers.must_run(
        script(
            train,
            f"""
            path = os.path.join(sys.argv[1], "m.safetensors")
            other = copy.deepcopy(model)
            fixed = {{name: np.array(array) for name, array in {{**other.parameters(), **other.buffers()}}.items()}}
            file = io.BytesIO(); other.save(file); kept = file.getvalue()
            copies, calls = [], 0
            {CALLS[call]}  # which imports what it needs
            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            while thread.is_alive():
                {CALLS[call]}
                calls += 1
                del copies[:-1]
                if calls == 3:
                    enough.set()
            thread.join()
            assert not failed, failed
            assert calls >= 3
            disturbed, trainer = result(trainer), make()
            for _ in range(rounds):
                {TRAIN[train]}
            for name, array in result(trainer).items():
                np.testing.assert_array_equal(array, disturbed[name])
            """,
        ),
        str(tmp_path),
    )


@pytest.mark.parametrize("copied", ["checkpoint", "pickle", "deepcopy"])
def test_trainers_beside_steps_are_whole(copied: str) -> None:
    """Weights, states and step count are consistent: training from a copy continues from the moment of the copy."""
    helpers.must_run(
        script(
            "steps",
            f"""
            def checkpoint(trainer):
                file, other = io.BytesIO(), make()
                trainer.save_checkpoint(file)
                file.seek(0)
                other.load_checkpoint(file)
                return other

            calls = {{"checkpoint": checkpoint, "deepcopy": copy.deepcopy}}
            calls["pickle"] = lambda trainer: pickle.loads(pickle.dumps(trainer))
            copies = []
            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            while thread.is_alive():
                copies.append(calls["{copied}"](trainer))
                if len(copies) == 3:
                    enough.set()
            thread.join()
            assert not failed and len(copies) >= 3, failed
            end, last = result(trainer), trainer.steps
            assert last == 400 * rounds
            for trainer in copies[:: max(1, len(copies) // 5)]:
                for _ in range(last - trainer.steps):
                    trainer.step(x[:32], y[:32])
                for name, array in result(trainer).items():
                    np.testing.assert_array_equal(array, end[name])
            """,
        )
    )


# A fit that begins in another thread and goes on until `over` is set, and its end.
FITTING = """
    fitting, over, fitted = threading.Event(), threading.Event(), []

    class Goes(gd.Callback):
        def on_epoch_end(self, trainer, logs):
            fitting.set()
            trainer.stop = over.is_set()

    def work():
        trainer.fit(x, y, epochs=10**6, callbacks=[Goes()])
        fitted.append(trainer.epoch)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert fitting.wait(100)
"""
FITTED = """
    over.set()
    thread.join()
    assert fitted == [trainer.epoch]
"""


def test_checkpoints_beside_fit_are_refused() -> None:
    """Between two steps of another thread's fit an epoch may be unfinished."""
    helpers.must_run(
        script(
            "fit",
            FITTING,
            """
            for call in (lambda: trainer.save_checkpoint(io.BytesIO()), lambda: copy.deepcopy(trainer)):
                try:
                    call()
                except RuntimeError as error:
                    assert "another thread" in str(error), error
                else:
                    raise SystemExit("copied in the middle of another thread's fit")
            """,
            FITTED,
        )
    )


def test_checkpoints_are_not_loaded_while_another_thread_fits() -> None:
    helpers.must_run(
        script(
            "fit",
            "file = io.BytesIO(); trainer.save_checkpoint(file)",
            FITTING,
            """
            file.seek(0)
            try:
                trainer.load_checkpoint(file)
            except RuntimeError as error:
                assert "thread" in str(error)
            else:
                raise SystemExit("loaded in the middle of another thread's fit")
            """,
            FITTED,
        )
    )


def test_a_signal_handler_may_save() -> None:
    """During a step the weights are consistent, so a model is saved; a state of training is refused."""
    helpers.must_run(
        script(
            "fit",
            """
            outcomes = set()

            def handler(*_):
                file = io.BytesIO()
                model.save(file)
                file.seek(0)
                gd.load(file)
                copy.deepcopy(model)
                try:
                    trainer.save_checkpoint(io.BytesIO())
                    outcomes.add("saved")
                except RuntimeError as error:
                    assert "signal" in str(error), error
                    outcomes.add("refused")
                signal.setitimer(signal.ITIMER_REAL, 0.02)

            trainer.save_checkpoint(io.BytesIO())  # imports what it needs
            signal.signal(signal.SIGALRM, handler)
            # A step lasts far longer than the 20 ms between two looks at signals, on fast machines too.
            x, y = np.tile(x, (8, 1)), np.tile(y, 8)
            wide = gd.Sequential(
                gd.Dense(20, 1500), gd.ReLU(), gd.Dense(1500, 500), gd.ReLU(), gd.Dense(500, 4), seed=0, device="cpu"
            )
            trainer = gd.Trainer(wide, loss=gd.CrossEntropy(), optimizer=gd.Adam(1e-3))
            model = wide
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            start = time.monotonic()
            while "refused" not in outcomes and time.monotonic() < start + 60:
                trainer.fit(x, y, epochs=1, batch_size=len(x))
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert "refused" in outcomes, outcomes
            """,
        )
    )
