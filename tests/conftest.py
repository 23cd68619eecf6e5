"""Fixtures that every test file shares: the device, guarded arrays and random numbers."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import gdcore as gd
import helpers
import pytest
from hypothesis import HealthCheck, settings

# Background jobs of a shell ignore SIGINT; the tests send Ctrl-C to themselves.
signal.signal(signal.SIGINT, signal.default_int_handler)

# device="auto" is the CPU in tests, also on a machine with a GPU; tests for both devices use the fixture.
os.environ.setdefault("GDCORE_DEVICE", "cpu")

slow = [HealthCheck.too_slow]  # a slow machine is no failure
settings.register_profile(
    "gdcore", deadline=None, suppress_health_check=slow, derandomize=True, max_examples=40, database=None
)
settings.load_profile("gdcore")


def _devices() -> list[str]:
    try:
        gd.Sequential(gd.Dense(1, 1), seed=0, device="cuda")
    except (gd.DeviceError, ValueError):
        return ["cpu"]
    return ["cpu", "cuda"]


@pytest.hookimpl(tryfirst=True)  # before -m selects by marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests that run on CUDA, and skip them without CUDA; drop what need not be repeated."""
    has_cuda = "cuda" in gd.info()["devices"]
    if not has_cuda and (helpers.EMULATED or config.option.markexpr == "cuda"):
        raise pytest.UsageError(f"CUDA is {gd.info()['cuda']}")
    kept, dropped = [], []
    for item in items:
        given = getattr(getattr(item, "callspec", None), "params", {})
        device = given.get("device", "")
        if device == "cuda":
            item.add_marker("cuda")
        few = device and (helpers.FEW_SHAPES or (helpers.EMULATED and device == "cuda"))
        kept_shape = helpers.among_few(given) if few else helpers.on_a_gpu(device) or helpers.a_pair(given)
        if not kept_shape or (device == "cuda" and given.get("threads", 3) != 3):  # a GPU has no number of threads
            dropped.append(item)
            continue
        if not has_cuda and item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="no CUDA"))
        kept.append(item)
    config.hook.pytest_deselected(items=dropped)
    items[:] = kept


@pytest.fixture(scope="session", params=_devices())
def device(request: pytest.FixtureRequest) -> str:
    """Each device of this machine in turn."""
    return request.param


@pytest.fixture
def pool() -> Iterator[helpers.Pool]:
    """Guarded arrays; the guards are checked once more when the test ends."""
    arrays = helpers.Pool()
    yield arrays
    arrays.check()


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> helpers.Generator:
    """Random numbers that depend on the names of the test and its file only, not on the folder."""
    return helpers.generator(f"tests/{request.node.nodeid.rpartition('/')[2]}")
