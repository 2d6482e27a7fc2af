"""What all tests share: the stands on which bands play, and the flag that writes expected texts anew."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any
from zlib import crc32

import pytest
from hypothesis import settings

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:  # so that `tests.…` and `players.…` are found however pytest was started
    sys.path.insert(0, str(ROOT))

from ensemble.log import open_log  # noqa: E402
from ensemble.testing import FaultyLog  # noqa: E402
from tests import effort  # noqa: E402
from tests.azure import PROGRAM, Azure  # noqa: E402
from tests.conformance.home import home  # noqa: E402
from tests.conformance.stand import ON_DISK, SETUPS, Setup, Stand, eventually  # noqa: E402
from tests.gcs import GCS  # noqa: E402
from tests.ray_keeper import descendants, is_alive  # noqa: E402
from tests.s3 import S3  # noqa: E402

OWN_CLUSTERS = ("test_cluster", "test_ray_clusters")
"""Where tests play on clusters in processes of their own."""
SERVERS = ("s3", "gcs", "azure")
"""Fixtures that give a server of objects, and parameters that ask for it."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--regenerate", action="store_true", help="write the texts that tests expect anew")
    parser.addoption("--kills", type=int, default=None, help="how often the crash test kills a band")
    parser.addoption(
        "--everywhere", action="store_true", help="play each test whole, with every kind of store, on Ray and in objects too"
    )
    parser.addoption("--shards", type=int, default=1, help="play each test on Ray in so many shards")
    parser.addoption("--takes", action="store_true", help="play each test that stands on a store that lasts in a take of it")
    parser.addoption("--seed", type=int, default=None, help="the seed of tests that draw by chance")


def pytest_configure(config: pytest.Config) -> None:
    effort.is_whole = _is_asked_for(config)
    settings.register_profile("unhurried", deadline=None, max_examples=effort.some(100))  # a busy machine is no failure
    settings.load_profile("unhurried")
    config.addinivalue_line("markers", "solo(reason): a test of what there is in one process only; it plays on no other stage")
    config.addinivalue_line("markers", "directory(reason): a test of what is in a directory store only")
    config.addinivalue_line("markers", "one_shard(reason): a test of what holds within one shard; not for several")
    config.addinivalue_line("markers", "everywhere(reason): a test that plays where --everywhere or it itself is asked for")
    config.addinivalue_line("markers", "planted: a test that plants a bug, to see that it is found; who names it so marks it")
    config.addinivalue_line("markers", "on_ray: a test that plays on the cluster that all share; what it asks for marks it so")
    config.addinivalue_line("markers", "own_cluster: a test that plays on a cluster of its own; its file marks it so")
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


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every stage with every store, but for tests that say why they are solo."""
    solo = metafunc.definition.get_closest_marker("solo")
    for name, setups in {"stand": SETUPS, "stand_on_disk": ON_DISK}.items():
        if name in metafunc.fixturenames:
            fitting = [setup for setup in setups if setup.stage == "solo" or not solo]
            if metafunc.definition.get_closest_marker("directory"):
                fitting = [setup for setup in fitting if setup.store == "directory"]
            metafunc.parametrize(name, fitting, ids=str, indirect=True)


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in the same hook
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On Ray, where opening a band takes a second, one test in eight plays, and of each promise one at least; each with one
    kind of store and one set of parameters.

    An object store is to a band a slower directory, so one test in eight plays there too; of what is asked of servers and of
    bugs that are planted, one in four. All play with all where that, or certain tests, are asked for.
    """
    for item in items:
        if "planted" in item.name:
            item.add_marker(pytest.mark.planted)
        if _is_on_ray(item):  # where several processes share the tests, one has all of these: they share a cluster
            is_apart = item.path.stem in OWN_CLUSTERS
            item.add_marker(pytest.mark.own_cluster if is_apart else pytest.mark.on_ray)
            item.add_marker(pytest.mark.xdist_group("clusters" if is_apart else "ray"))
            continue
        asked = {*getattr(item, "fixturenames", ()), *(each for each in _params(item).values() if isinstance(each, str))}
        for server in SERVERS:  # and these a server
            if server in asked:
                item.add_marker(pytest.mark.xdist_group(server))
    if config.getoption("--shards") > 1:
        items[:] = [item for item in items if not item.get_closest_marker("one_shard")]
    if _is_asked_for(config):
        return

    left_out = {item for item in items if item.get_closest_marker("everywhere") or _is_seldom_played(item)}
    on_ray: dict[Path, set[str]] = {}
    played: dict[str, pytest.Item] = {}
    for item in items:
        is_there = _stage(item) == "ray"
        if item in left_out or not (is_there or (_is_on_ray(item) and item.path.parent.name == "faults")):
            continue
        name = item.nodeid.partition("[")[0]
        if is_there:
            on_ray.setdefault(item.path, set()).add(name)
        first, later = sorted((played.setdefault(name, item), item), key=lambda each: _lot(each.nodeid))
        played[name] = first
        if first is not later:
            left_out.add(later)
    for path, names in on_ray.items():
        most = max(len(names) // 8, path.parent.name == "conformance")
        left_out |= {played[name] for name in sorted(names, key=_lot)[most:]}
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=list(left_out))


def _is_asked_for(config: pytest.Config) -> bool:
    """Whether all is asked for, or certain tests are."""
    return bool(config.getoption("--everywhere") or config.option.keyword or any("::" in arg for arg in config.args))


def _lot(name: str) -> int:
    """By which one of several is chosen, the same each time."""
    return crc32(name.encode())


def _is_on_ray(item: pytest.Item) -> bool:
    """Whether a test plays on the shared cluster, or on one of its own."""
    is_named_so = "ray" in item.path.stem or item.path.parent.name == "on_ray" or item.path.stem == "test_cluster"
    return is_named_so or "cluster" in getattr(item, "fixturenames", ()) or any(each.stage == "ray" for each in _setups(item))


def _stage(item: pytest.Item) -> str:
    """The stage on which a test stands; empty if it stands on none."""
    return next((setup.stage for setup in _setups(item)), "")


def _is_seldom_played(item: pytest.Item) -> bool:
    """Whether a test that stands on an object store, asks a server, or plants a bug, is left to --everywhere."""
    if item.get_closest_marker("planted") or any(each in SERVERS for each in _params(item).values() if isinstance(each, str)):
        return _lot(item.nodeid) % 4 > 0
    where = {(setup.stage, setup.store) for setup in _setups(item)}
    if item.path.parent.name in ("takes", "replay") and "objects" in _params(item).values():
        where.add(("solo", "objects"))
    return ("ray", "objects") in where or (("solo", "objects") in where and _lot(item.nodeid) % 8 > 0)


def _setups(item: pytest.Item) -> list[Setup]:
    return [value for value in _params(item).values() if isinstance(value, Setup)]


def _params(item: pytest.Item) -> dict[str, Any]:
    return item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}


@pytest.fixture
def stand(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stand]:
    """A place to play on: every stage with every store."""
    yield from _stood(request, tmp_path)


@pytest.fixture
def stand_on_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stand]:
    """A place to play on whose store outlives the process."""
    yield from _stood(request, tmp_path)


def _stood(request: pytest.FixtureRequest, folder: Path) -> Iterator[Stand]:
    setup: Setup = request.param
    if setup.stage == "ray":
        request.getfixturevalue("cluster")
    stand = Stand(setup, folder, shards=request.config.getoption("--shards") if setup.stage == "ray" else 1)
    if request.config.getoption("--takes") and setup.store != "memory" and "takes" not in request.node.path.stem:
        stand.go_into_a_take()
    yield stand
    stand.end()
    home.forget()


def _cloud(name: str, kind: type[S3 | GCS | Azure]) -> tuple[Any, Any]:
    """Two fixtures: a server that all tests of a session share, and that server, which this process finds."""

    @pytest.fixture(scope="session", name=f"{name}_server")
    def shared() -> Iterator[S3 | GCS | Azure]:
        if kind is Azure and shutil.which(PROGRAM) is None:
            pytest.skip(f"{PROGRAM} is not here: npm install azurite, and put node_modules/.bin on the PATH")
        server = kind()
        yield server
        server.end()

    @pytest.fixture(name=name)
    def found(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> S3 | GCS | Azure:
        server: S3 | GCS | Azure = request.getfixturevalue(f"{name}_server")
        for variable, value in server.env.items():
            monkeypatch.setenv(variable, value)
        return server

    return shared, found


s3_server, s3 = _cloud("s3", S3)
gcs_server, gcs = _cloud("gcs", GCS)
azure_server, azure = _cloud("azure", Azure)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A small Ray cluster on this machine, shared by all tests of a session that play on one."""
    _be_the_only_one(tmp_path_factory)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - as where Ensemble starts Ray itself
    os.environ["RAY_LOG_MONITOR_MANY_FILES_THRESHOLD"] = "1"  # else it lists all of the session's logs all the time
    logging.getLogger("ray").setLevel(logging.ERROR)
    others = descendants(os.getpid())  # a server that other tests share, for instance
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Ray and its own libraries have to say to each other
        from ensemble.stage.on_ray.cluster import start

        ours = start(
            num_cpus=32,  # shares, not cores
            object_store_memory=200 << 20,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    started = descendants(os.getpid()) - others
    yield
    started |= {pid for each in started for pid in descendants(each)}
    ours.close()
    home.close()
    eventually(lambda: not [pid for pid in started if is_alive(pid)], f"the end of Ray's processes, {sorted(started)},")


def _be_the_only_one(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where several processes share the tests, see that no other has a cluster: two do not fit on two cores."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    try:
        (tmp_path_factory.getbasetemp().parent / "cluster").touch(exist_ok=False)
    except FileExistsError:
        pytest.fail(
            "another of these processes has a cluster already. Share the tests with --dist loadgroup; if that was said, this "
            "pytest-xdist groups no tests under this pytest: take the versions of constraints.txt (make clean setup)"
        )
