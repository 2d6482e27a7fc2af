"""Kill -9 in a band of several shards that share their instances: nobody innocent is charged, and no effect is there twice.

Each test names the fault and the promise. The players are in `ray_players.py`.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import ensemble
from ensemble.broker.outbox import shard_of
from ensemble.log import read_log
from ensemble.stage.on_ray.troupe import SCALED
from tests.conformance.home import AtHome, at_home, home
from tests.conformance.stand import eventually
from tests.faults.ray_players import Fuse, answer, exits, hangs, stops_at
from tests.faults.witness import effect_faults
from tests.ray_keeper import is_alive

pytestmark = pytest.mark.patience(300)
ON_FAKES_TOO = pytest.mark.everywhere("tests/stage/on_ray/test_troupe.py and test_shared_instances.py promise it, on fakes")

PATIENCE_S = 90
SHARDS = 3
KEYS = ("ann", "bob", "ida", "dan", "eve", "fay")
RETRY = {"attempts": 2, "first": "1ms", "factor": 1, "jitter": 0}


class Play:
    """A band of one player in several shards, with its logs in a directory."""

    def __init__(self, folder: Path) -> None:
        self.store = folder / "store"
        self.bands: list[ensemble.Band] = []

    def begin(self, hear: Callable[..., Any], **says: Any) -> ensemble.Band:
        section = {"min": 1, "max": 2, "batch": 8, "cpus": 0.1, **says.pop("section", {})}
        document = {
            "ensemble": 1,
            "name": "test",
            "players": {"hear": {"on": "came", "emits": ["heard"], "retry": RETRY, "section": section, **says}},
            "stage": {"kind": "ray", "shards": SHARDS},
        }
        self.bands.append(ensemble.open(document, store=str(self.store), players={"hear": hear}))
        return self.bands[-1]

    @property
    def stage(self) -> Any:
        return self.bands[-1]._stage

    def pids_by_shard(self) -> list[list[int]]:
        """The instances, as each shard knows them."""
        return [list(line.ask("pids", "hear")) for line in self.stage._lines]

    def shard_pid(self, number: int) -> int:
        return int(self.stage._lines[number].ask("hello")["pid"])

    def end(self) -> None:
        for band in self.bands:
            band.close()


@pytest.fixture
def play(cluster: None, tmp_path: Path) -> Iterator[Play]:
    play = Play(tmp_path)
    yield play
    play.end()
    home.forget()


def publish(band: ensemble.Band, numbers: range) -> None:
    band.publish_many({"topic": "came", "key": KEYS[number % len(KEYS)], "data": number} for number in numbers)


def assert_each_once(play: Play, numbers: Any) -> None:
    """Each of these was heard once, in the order of its key, with all its effects; and nothing else was."""
    expected: dict[str, list[int]] = {}
    for number in numbers:
        expected.setdefault(KEYS[number % len(KEYS)], []).append(number)
    heard: dict[str, list[int]] = {}
    band = play.bands[-1]
    for event in band.events("heard"):
        heard.setdefault(event.key, []).append(event.data["number"])
    assert heard == expected
    assert {key: state["heard"] for key, state in band.table("hear").items()} == expected
    for shard in range(SHARDS):
        with closing(read_log(str(play.store), shard)) as log:
            assert effect_faults(list(log.frames()), {"hear": lambda topic: topic == "came"}) == []


def attempts_of(band: ensemble.Band) -> set[int]:
    return {event.data["attempt"] for event in band.events("heard")}


def each_shard_has(play: Play, count: int) -> bool:
    return [len(set(pids)) for pids in play.pids_by_shard()] == [count] * SHARDS


def test_the_keys_of_these_tests_belong_to_all_shards() -> None:
    assert {shard_of(key, SHARDS) for key in KEYS} == set(range(SHARDS))


@ON_FAKES_TOO
def test_all_shards_hear_with_the_same_instances_and_there_are_never_more_than_there_may_be(play: Play) -> None:
    band = play.begin(answer, section={"min": 0, "max": 2, "idle": "1s", "cooldown": "1s"})

    publish(band, range(600))
    band.settle(PATIENCE_S)

    counts = [event.data["to"] for event in band.events(SCALED)]
    assert counts
    assert max(counts) <= 2
    assert len({event.data["pid"] for event in band.events("heard")}) <= 2, "three shards, and two instances at the most"
    eventually(lambda: play.pids_by_shard() == [[]] * SHARDS, "the end of those that have nothing to do", PATIENCE_S)
    band.publish("came", 600, key=next(key for key in KEYS if shard_of(key, SHARDS) == 2))
    band.settle(PATIENCE_S)
    assert [event.data["number"] for event in band.events("heard")].count(600) == 1, "an event of any shard wakes them"


@ON_FAKES_TOO
def test_as_many_instances_as_a_user_asks_for_are_there_for_each_shard(play: Play) -> None:
    band = play.begin(answer, section={"max": 4})
    stage: Any = band._stage

    for count in (4, 1):
        stage.scale("hear", count)
        eventually(partial(each_shard_has, play, count), f"{count} instances in each shard", 40)  # before it looks by itself

    publish(band, range(60))
    band.settle(PATIENCE_S)
    [pid] = stage.pids("hear")
    assert {event.data["pid"] for event in band.events("heard")} == {pid}


@pytest.mark.everywhere("so does the test of an event that kills whoever hears it")
def test_an_instance_that_is_killed_while_all_shards_have_something_there_charges_nobody(play: Play) -> None:
    fuse = Fuse(2)
    band = play.begin(stops_at(set(range(60)), fuse), section={"min": 2, "max": 2})

    publish(band, range(60))
    eventually(lambda: len(fuse.stopped) == 2, "two that hear", PATIENCE_S)
    os.kill(fuse.stopped[0], signal.SIGKILL)
    os.kill(fuse.stopped[1], signal.SIGKILL)
    band.settle(PATIENCE_S)

    assert_each_once(play, range(60))
    assert attempts_of(band) == {1}
    assert not list(band.dead())


@pytest.mark.parametrize("most", [1, 2])
def test_an_event_that_kills_whoever_hears_it_is_found_among_those_of_all_shards_and_only_it_is_charged(
    play: Play, most: int
) -> None:
    band = play.begin(exits(5, "kill"), section={"max": most})

    publish(band, range(36))
    band.settle(PATIENCE_S)

    assert_each_once(play, [number for number in range(36) if number != 5])
    [dead] = band.dead()
    assert (dead.event.data, dead.attempts) == (5, 2)
    assert dead.error.startswith("InstanceDied")
    assert attempts_of(band) == {1}, "only the one that kills was charged"


@ON_FAKES_TOO
def test_an_event_that_hangs_with_the_interpreters_lock_is_found_and_only_it_is_charged(play: Play) -> None:
    pids: list[int] = at_home([])
    band = play.begin(hangs(1, "with the interpreter's lock", pids), timeout="1s")

    publish(band, range(18))
    band.settle(PATIENCE_S)

    assert_each_once(play, [number for number in range(18) if number != 1])
    [dead] = band.dead()
    assert (dead.event.data, dead.attempts) == (1, 2)
    assert attempts_of(band) == {1}
    eventually(lambda: not any(is_alive(pid) for pid in pids), "the end of the instances that hang", PATIENCE_S)


@pytest.mark.everywhere("test_shared_instances.py says it without Ray")
def test_when_the_shard_that_leads_is_killed_the_others_go_on_with_new_instances_and_nobody_is_charged(play: Play) -> None:
    fuse = Fuse()
    band = play.begin(stops_at(set(range(60)), fuse), section={"min": 1, "max": 1})

    publish(band, range(60))
    eventually(lambda: fuse.stopped, "one that hears", PATIENCE_S)
    os.kill(play.shard_pid(0), signal.SIGKILL)
    band.settle(PATIENCE_S)

    assert_each_once(play, range(60))
    assert attempts_of(band) == {1}
    eventually(lambda: not is_alive(fuse.stopped[0]), "the end of the old instance", PATIENCE_S)


class Diary(AtHome):
    """Who hears which number, and who began while another still heard it."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.twice: list[tuple[int, int]] = []
        self.is_open = False
        self._hearing: set[tuple[int, int]] = set()

    def begins(self, number: int, pid: int) -> None:
        self.twice += [each for each in self._hearing if each[0] == number and is_alive(each[1])]
        self.begun.append(number)
        self._hearing.add((number, pid))

    def ends(self, number: int, pid: int) -> None:
        self._hearing.discard((number, pid))

    def may_end(self) -> bool:
        return self.is_open


def keeps_a_diary(diary: Any) -> Callable[..., Any]:
    def hear(event: Any, ctx: Any) -> Any:
        diary.begins(event.data, os.getpid())
        while not diary.may_end():
            threading.Event().wait(0.02)
        diary.ends(event.data, os.getpid())
        return answer(event, ctx)

    return hear


@ON_FAKES_TOO
def test_a_shard_that_is_killed_hands_nothing_out_again_while_an_instance_still_hears_it(play: Play) -> None:
    diary = Diary()
    band = play.begin(keeps_a_diary(diary), section={"min": 2, "max": 2})
    key = next(key for key in KEYS if shard_of(key, SHARDS) == 1)
    band.publish("came", 7, key=key)
    eventually(lambda: diary.begun, "the first that hears", PATIENCE_S)
    before = play.shard_pid(1)

    os.kill(before, signal.SIGKILL)
    eventually(lambda: play.shard_pid(1) != before, "another process of the shard", PATIENCE_S)
    others = [key for key in KEYS if shard_of(key, SHARDS) != 1]
    band.publish("came", 8, key=others[0])
    eventually(lambda: 8 in diary.begun, "another shard that plays on meanwhile", PATIENCE_S)
    diary.is_open = True
    band.settle(PATIENCE_S)

    assert diary.begun.count(7) == 2, "it was run again"
    assert not diary.twice
    assert [event.data["attempt"] for event in band.events("heard") if event.data["number"] == 7] == [1]
