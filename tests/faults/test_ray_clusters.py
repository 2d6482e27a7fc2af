"""Kill -9 on a cluster of its own: who brought the band up, a node, everything. The band goes on; each effect is there once."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ensemble.log import has_log, read_log
from ensemble.stage.on_ray.memory import node_bytes
from tests.conformance.stand import eventually
from tests.faults.at_a_cluster import PLAYERS
from tests.faults.kept import Kept
from tests.faults.witness import effect_faults
from tests.ray_keeper import Keeper, is_alive
from tests.s3 import S3

pytestmark = pytest.mark.patience(420)

AT = Path(__file__).parent / "at_a_cluster.py"
HEAD = {"num_cpus": 8}
PATIENCE_S = 150


@pytest.fixture(scope="module")
def keeper() -> Iterator[Keeper]:
    """A cluster that all but one of these tests share: each adds the nodes of which it loses one."""
    keeper = Keeper(HEAD)
    yield keeper
    keeper.end()


class Place:
    """A folder with players, a store, and who plays it. `env` leads to the store, and the nodes don't have it."""

    def __init__(self, folder: Path, store: str, env: Mapping[str, str]) -> None:
        self.folder = folder / "band"
        self.folder.mkdir()
        self.store = store
        self.env = env
        (self.folder / "band_players.py").write_text(PLAYERS.replace("FOLDER", repr(str(folder))))
        self.signs = folder
        self.name = folder.name
        self._drivers: list[subprocess.Popen[str]] = []

    def up(self, keeper: Keeper, section: Mapping[str, Any], first: int, count: int, **says: Any) -> subprocess.Popen[str]:
        """A process that has brought the band up and published; it stays."""
        says["section"] = section
        process = self._start(keeper, "up", keeper.address, self.name, self.store, json.dumps(says), first, count)
        assert self._said(process) == "up"
        return process

    def speak(self, keeper: Keeper, number: int) -> str:
        """What another process is told who publishes one more."""
        return self._said(self._start(keeper, "speak", keeper.address, self.name, number))

    def settled(self, keeper: Keeper) -> Any:
        """What another process sees when all was heard."""
        return json.loads(self._said(self._start(keeper, "settle", keeper.address, self.name)))

    def _start(self, keeper: Keeper, *arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(AT), *map(str, arguments)],
            cwd=self.folder,
            env={**keeper.env, **self.env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._drivers.append(process)
        return process

    @staticmethod
    def _said(process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("> "):
                return line[2:].strip()
        raise AssertionError(process.communicate()[1])

    def came(self) -> set[int]:
        """The processes in which players were called."""
        return {int(path.name.removeprefix("came-")) for path in self.signs.glob("came-*")}

    def go(self) -> None:
        (self.signs / "go").touch()

    def assert_each_once(self, told: Any, count: int, but: Collection[int] = ()) -> None:
        numbers = [number for number in range(count) if number not in but]
        assert sorted(each["number"] for each in told["heard"]) == numbers
        assert told["table"] == {
            key: [each for each in numbers if f"k-{each % 7}" == key] for key in {f"k-{each % 7}" for each in numbers}
        }
        assert sorted(number for number, _ in told["dead"]) == sorted(but)
        with closing(read_log(self.store)) as log:
            assert effect_faults(log.frames(), {"hear": lambda topic: topic == "came"}) == []

    def end(self) -> None:
        for process in self._drivers:
            process.kill()
            process.communicate()


@pytest.fixture
def place(kept: Kept, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path, kept.url, request.getfixturevalue("s3").env if kept.url.startswith("s3:") else {})
    yield place
    place.end()


@pytest.fixture
def place_in_a_bucket(s3: S3, tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path, s3.url(), s3.env)
    yield place
    place.end()


@pytest.mark.everywhere("each command of tests/cli/test_cluster.py that brings one up ends")
def test_a_band_plays_on_when_who_brought_it_up_is_killed(place: Place, keeper: Keeper) -> None:
    driver = place.up(keeper, {"max": 2, "batch": 5, "cpus": 0.1}, 0, 60)
    eventually(place.came, "an instance that hears", PATIENCE_S)

    os.kill(driver.pid, signal.SIGKILL)
    driver.wait(30)
    place.go()

    place.assert_each_once(place.settled(keeper), 60)


def test_a_node_that_is_lost_with_its_instance_charges_nobody_and_the_band_goes_on(place: Place, keeper: Keeper) -> None:
    there = {f"there-{place.name}": 1}  # what another of these tests left is not there
    lost, _ = [keeper.add_node({"num_cpus": 0, "resources": there}) for _ in range(2)]
    section = {"min": 2, "max": 2, "batch": 1, "cpus": 0, "resources": there}
    place.up(keeper, section, 0, 2)  # one event each: who is alone with an instance that dies is charged with it
    eventually(lambda: len(place.came()) == 2, "an instance on each node", PATIENCE_S)

    both = place.came()
    keeper.remove_node(lost)
    eventually(lambda: not all(is_alive(pid) for pid in both), "the end of the instance on the node that is lost", PATIENCE_S)
    left = {pid for pid in both if is_alive(pid)}
    place.go()
    told = place.settled(keeper)

    place.assert_each_once(told, 2)
    assert {each["attempt"] for each in told["heard"]} == {1}
    assert {each["pid"] for each in told["heard"]} == left, "the other node's instance heard all"


@pytest.mark.everywhere("a cluster of its own; test_ray_faults.py has a player that gets no more memory")
def test_an_event_that_eats_its_node_s_memory_is_found_and_dead_lettered_and_nobody_else_suffers(
    place: Place, keeper: Keeper
) -> None:
    total, used = node_bytes()
    if total - used < 6 << 30:
        pytest.skip("there is too little memory on this machine to have some of it eaten")
    full = {"RAY_memory_usage_threshold": f"{(used + (3 << 29)) / total:.4f}", "RAY_memory_monitor_refresh_ms": "50"}
    keeper.add_node({"num_cpus": 0, "resources": {"full": 1}, "env": full})
    section = {"min": 1, "max": 1, "batch": 2, "cpus": 0, "resources": {"full": 1}}

    place.up(keeper, section, 0, 12, play="band_players:eat", retry={"attempts": 2, "first": "1ms"})
    told = place.settled(keeper)

    place.assert_each_once(told, 12, but=(3, 6))
    errors = dict(told["dead"])
    assert errors[3] == "MemoryError"  # what a process has for itself is bounded, what it shares is not
    assert errors[6].startswith("InstanceDied: the process of player hear died while it heard this event: ")
    assert "memory" in errors[6].lower()


def test_a_whole_cluster_that_is_killed_and_begun_anew_over_the_same_store_goes_on(place: Place) -> None:
    section = {"min": 2, "max": 2, "batch": 5, "cpus": 0.1}
    first = Keeper(HEAD)
    try:
        place.up(first, section, 0, 40)
        eventually(place.came, "an instance that hears", PATIENCE_S)
        place.go()
        eventually(lambda: has_log(place.store), "the log", PATIENCE_S)
    finally:
        first.kill()
    second = Keeper(HEAD)
    try:
        place.up(second, section, 40, 20)
        place.assert_each_once(place.settled(second), 60)
    finally:
        second.end()


@pytest.mark.everywhere("it starts two clusters; tests/log says the same of two writers")
def test_of_two_clusters_on_one_object_store_the_older_one_is_refused_and_told_by_whom_and_since_when(
    place_in_a_bucket: Place,
) -> None:
    place = place_in_a_bucket
    section = {"min": 1, "max": 1, "batch": 5, "cpus": 0.1}
    place.go()
    first = Keeper(HEAD)
    try:
        place.up(first, section, 0, 20)
        second = Keeper(HEAD)
        try:
            place.up(second, section, 20, 20)

            told = place.speak(first, 40)

            assert re.search(
                r"taken over by another writer \(process \d+ on \S+, since \d{4}-\d\d-\d\dT\S+Z, epoch \d+", told
            ), told
            assert place.speak(second, 40) == "said"
            place.assert_each_once(place.settled(second), 41)
        finally:
            second.end()
    finally:
        first.end()
