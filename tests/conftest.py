"""What all tests share: the stands on which bands play, and the flag that writes expected texts anew."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:  # so that `tests.…` and `players.…` are found however pytest was started
    sys.path.insert(0, str(ROOT))

from ensemble.log import open_log  # noqa: E402
from ensemble.testing import FaultyLog  # noqa: E402
from tests.conformance.stand import ON_DISK, SETUPS, Setup, Stand  # noqa: E402


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--regenerate", action="store_true", help="write the texts that tests expect anew")
    parser.addoption("--kills", type=int, default=None, help="how often the crash test kills a band")
    parser.addoption("--seed", type=int, default=None, help="the seed of tests that draw by chance")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "patience(seconds): how long a test may take before it counts as hanging (default 120)")


@pytest.fixture(autouse=True)
def no_test_hangs(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that waits for what never comes fails with its own traceback, and so does what tidies up after it."""
    marker = request.node.get_closest_marker("patience")
    seconds = 120 if marker is None else marker.args[0]

    def give_up(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"{request.node.name} hangs: it took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds, 30)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def log_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[], FaultyLog]:
    """Bands opened from now on write through a log with settable faults; gives that of the last one."""
    opened: list[FaultyLog] = []

    def open_faulty(url: str, **options: Any) -> FaultyLog:
        opened.append(FaultyLog(open_log(url, **options)))
        return opened[-1]

    monkeypatch.setattr("ensemble.opening.open_log", open_faulty)
    return lambda: opened[-1]


@pytest.fixture(params=SETUPS, ids=str)
def stand(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stand]:
    """A place to play on: every stage with every store."""
    yield from _stood(request.param, tmp_path)


@pytest.fixture(params=ON_DISK, ids=str)
def stand_on_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stand]:
    """A place to play on whose store outlives the process."""
    yield from _stood(request.param, tmp_path)


def _stood(setup: Setup, folder: Path) -> Iterator[Stand]:
    stand = Stand(setup, folder)
    yield stand
    stand.leave()
