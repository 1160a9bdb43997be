"""Every test runs under the watchdog and between two censuses."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Generator, Iterator

import pytest
from testkit import census
from testkit.census import Census
from testkit.watchdog import Watchdog

# Before numpy is imported: its threads come and go with forks, and the census counts threads.
for library in ("OPENBLAS", "OMP", "MKL"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")

LIMIT_S = float(os.environ.get("MILLPOND_TEST_LIMIT_S", "60"))
START_METHODS = ("fork", "spawn", "forkserver")
WATCHDOG = pytest.StashKey[Watchdog]()
FAILED = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "limit_s(seconds): how long the test may run before it is a hang"
    )
    config.addinivalue_line(
        "markers", "slow: takes minutes or gigabytes; deselect with -m 'not slow'"
    )
    config.addinivalue_line("markers", "no_census: leaves something behind by intent, and says why")
    # CPython 3.12 and later warn at each fork beside a thread; replacing a worker is just that.
    config.addinivalue_line(
        "filterwarnings", r"ignore:This process \(pid=\d+\) is multi-threaded:DeprecationWarning"
    )
    # Now, while standard error is not yet captured, so that a dump is seen at once.
    watchdog = Watchdog()
    census.ignored_pids.add(watchdog.pid)
    config.stash[WATCHDOG] = watchdog


def pytest_unconfigure(config: pytest.Config) -> None:
    watchdog = config.stash.get(WATCHDOG, None)
    if watchdog is not None:
        watchdog.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """The limit holds for a test with all its fixtures."""
    marker = item.get_closest_marker("limit_s")
    watchdog = item.config.stash[WATCHDOG]
    watchdog.arm(item.nodeid, float(marker.args[0]) if marker else LIMIT_S)
    try:
        return (yield)
    finally:
        watchdog.disarm()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember that the test itself failed, for the census after it."""
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


def forget_last_failure() -> None:
    """pytest keeps a failed test's traceback, and with it the test's pool, into the next test."""
    for name in ("last_type", "last_value", "last_traceback", "last_exc"):
        if hasattr(sys, name):
            delattr(sys, name)
    gc.collect()


@pytest.fixture(autouse=True)
def nothing_is_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """No descriptor, thread, child, mapping or name more, nor less, than before."""
    if request.node.get_closest_marker("no_census"):
        yield
        return
    forget_last_failure()
    before = Census.take()
    yield
    if request.node.stash.get(FAILED, False):
        return  # its traceback keeps its pool alive; one failure is told once
    left = before.settle()
    if left:
        pytest.fail("the test changed what the process holds:\n" + "\n".join(left), pytrace=False)


@pytest.fixture(params=START_METHODS)
def start_method(request: pytest.FixtureRequest) -> str:
    """All three ways to start a worker; two of them cost 0.2 s a worker, so use sparingly."""
    method: str = request.param
    return method
