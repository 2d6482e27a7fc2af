"""Kill -9 on Ray: instances, the shard's process, a stalled one; what is published is heard, and its effects are there once.

Each test names the fault and the promise. The players are in `ray_players.py`.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import ensemble
from ensemble import Receipt, Unavailable
from ensemble.event import Frame
from ensemble.log import read_log
from ensemble.stage.on_ray.line import Line
from tests.conformance.home import at_home, home
from tests.conformance.stand import all_of, eventually
from tests.faults.kept import Kept
from tests.faults.ray_players import Fuse, answer, eats_memory, exits, hangs, stops_at
from tests.faults.witness import effect_faults
from tests.ray_keeper import is_alive

pytestmark = pytest.mark.patience(300)

PATIENCE_S = 90
KEYS = ("ann", "bob", "cid")
RETRY = {"attempts": 2, "first": "1ms", "factor": 1, "jitter": 0}


class Play:
    """A band of one player on Ray."""

    def __init__(self, kept: Kept) -> None:
        self.kept = kept
        self.store = kept.url
        self.bands: list[ensemble.Band] = []

    def begin(self, hear: Callable[..., Any], **says: Any) -> ensemble.Band:
        says.setdefault("section", {"min": 1, "max": 1, "batch": 20, "cpus": 0.1})
        document = {
            "ensemble": 1,
            "name": "test",
            "players": {"hear": {"on": "came", "emits": ["heard"], "retry": RETRY, **says}},
        }
        band = ensemble.open(document, stage="ray", store=self.store, players={"hear": hear})
        self.bands.append(band)
        return band

    def frames(self) -> list[Frame]:
        with closing(read_log(self.store)) as log:
            return list(log.frames())

    def heard(self) -> dict[str, list[int]]:
        """The numbers that were answered, by key, in order."""
        heard: defaultdict[str, list[int]] = defaultdict(list)
        for event in all_of(self.frames()):
            if event.topic == "heard":
                heard[event.key].append(event.data["number"])
        return dict(heard)

    def end(self) -> None:
        for band in self.bands:
            band.close()


@pytest.fixture
def play(cluster: None, kept: Kept) -> Iterator[Play]:
    play = Play(kept)
    yield play
    play.end()
    home.forget()


def publish(band: ensemble.Band, numbers: range) -> None:
    band.publish_many({"topic": "came", "key": KEYS[number % 3], "data": number} for number in numbers)


def by_key(numbers: Any) -> dict[str, list[int]]:
    expected: dict[str, list[int]] = {}
    for number in numbers:
        expected.setdefault(KEYS[number % 3], []).append(number)
    return expected


def assert_each_once(play: Play, band: ensemble.Band, numbers: Any) -> None:
    """Each of these was heard once, in the order of its key, with all its effects; and nothing else was."""
    assert effect_faults(play.frames(), {"hear": lambda topic: topic == "came"}) == []
    assert play.heard() == by_key(numbers)
    assert {key: state["heard"] for key, state in band.table("hear").items()} == by_key(numbers)


def attempts_of(play: Play) -> set[int]:
    return {event.data["attempt"] for event in all_of(play.frames()) if event.topic == "heard"}


def shard_pid(band: ensemble.Band) -> int:
    stage: Any = band._stage
    return int(stage._lines[0].ask("hello")["pid"])


def kill(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that stands still, as on a node that swaps; if it was not killed, it wakes when this ends."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked of shards, verb by verb: what is sent twice was not answered the first time."""
    sent: list[str] = []
    call = Line.call

    def counted(self: Line, verb: str, *given: Any) -> Any:
        ref = call(self, verb, *given)
        sent.append(verb)
        return ref

    monkeypatch.setattr(Line, "call", counted)
    return sent


class Publishing:
    """Somebody who publishes on a thread of his own, and waits for the receipts."""

    def __init__(self, band: ensemble.Band, numbers: range) -> None:
        self.receipts: dict[int, Receipt] = {}
        self.errors: list[BaseException] = []
        self._band, self._numbers = band, numbers
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for number in self._numbers:
                self.receipts[number] = self._band.publish("came", number, key=KEYS[number % 3])
        except BaseException as error:
            self.errors.append(error)

    def wait(self) -> dict[int, Receipt]:
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "it still waits for a receipt"
        assert not self.errors, self.errors
        return self.receipts


# Instances


def test_an_instance_killed_in_the_middle_of_a_batch_repeats_no_effect_and_keeps_the_order_of_keys(play: Play) -> None:
    fuse = Fuse()
    band = play.begin(stops_at({13}, fuse))

    publish(band, range(40))
    eventually(lambda: fuse.stopped, "the arrival at number 13", PATIENCE_S)
    kill(*fuse.stopped)
    band.settle(PATIENCE_S)

    assert_each_once(play, band, range(40))
    assert attempts_of(play) == {1}, "nobody was charged with an attempt: the one that kills was never found alone"
    assert not list(band.dead())


def test_all_instances_of_a_section_killed_at_once_repeat_no_effect(play: Play) -> None:
    fuse = Fuse(3)
    band = play.begin(stops_at(set(range(60)), fuse), section={"min": 3, "max": 3, "batch": 1, "cpus": 0.1})

    publish(band, range(60))
    eventually(lambda: len(fuse.stopped) == 3, "three that hear", PATIENCE_S)
    kill(*fuse.stopped)
    band.settle(PATIENCE_S)

    assert_each_once(play, band, range(60))
    assert len(set(fuse.stopped)) == 3


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_an_event_whose_player_kills_its_own_process_is_found_by_halves_and_becomes_a_dead_letter(play: Play, how: str) -> None:
    band = play.begin(exits(5, how), section={"min": 1, "max": 2, "batch": 8, "cpus": 0.1})

    publish(band, range(12))
    band.settle(PATIENCE_S)

    assert_each_once(play, band, [number for number in range(12) if number != 5])
    [dead] = band.dead()
    assert (dead.event.data, dead.player, dead.attempts) == (5, "hear", 2)
    assert dead.error.startswith("InstanceDied: the process of player hear died while it heard this event")
    assert attempts_of(play) == {1}, "only the one that kills was charged"


@pytest.mark.parametrize(("how", "batch"), [("asleep", 2), ("with the interpreter's lock", 1)])
def test_a_player_that_hangs_in_c_past_its_timeout_is_ended_and_its_event_becomes_a_dead_letter(
    play: Play, how: str, batch: int
) -> None:
    pids: list[int] = at_home([])
    band = play.begin(hangs(1, how, pids), timeout="300ms", section={"min": 1, "max": 1, "batch": batch, "cpus": 0.1})

    publish(band, range(4))
    band.settle(PATIENCE_S)

    assert_each_once(play, band, [0, 2, 3])
    [dead] = band.dead()
    assert (dead.event.data, dead.attempts) == (1, 2)
    assert "longer than its timeout of 0.3 s" in dead.error
    assert len(pids) >= 2
    eventually(lambda: not any(is_alive(pid) for pid in pids), "the end of the instances that hang", PATIENCE_S)


def test_a_player_that_gets_no_more_memory_fails_like_any_other(play: Play) -> None:
    band = play.begin(eats_memory(7))

    publish(band, range(12))
    band.settle(PATIENCE_S)

    assert_each_once(play, band, [number for number in range(12) if number != 7])
    [dead] = band.dead()
    assert (dead.event.data, dead.attempts) == (7, 2)
    assert dead.error.startswith("MemoryError")


# The shard's process


def test_a_shard_killed_before_its_write_has_its_publisher_get_the_receipt_after_recovery(play: Play, sent: list[str]) -> None:
    band = play.begin(answer)
    publish(band, range(6))
    band.settle(PATIENCE_S)
    pid = shard_pid(band)

    with stopped(pid):  # so that it does not even begin to write
        sent.clear()
        publishing = Publishing(band, range(6, 7))
        eventually(lambda: "publish" in sent, "a publication under way", PATIENCE_S)
        kill(pid)
    receipts = publishing.wait()
    band.settle(PATIENCE_S)

    assert sent.count("publish") > 1
    assert shard_pid(band) != pid
    assert_each_once(play, band, range(7))
    [came] = [event for event in band.events("came") if event.data == 6]
    assert (came.id, came.offset) == (receipts[6].id, receipts[6].offset)


@pytest.mark.parametrize("kept", ["directory"], indirect=True)  # tests/log loses the answer of every call to an object store
def test_a_shard_killed_between_its_write_and_its_answer_has_the_publication_once(play: Play, sent: list[str]) -> None:
    band = play.begin(answer)
    receipts: dict[int, Receipt] = {}
    is_between = False
    while not is_between:  # until one is in the log that was not answered
        assert len(receipts) < 20
        number, pid, before = len(receipts), shard_pid(band), play.kept.size()
        sent.clear()
        publishing = Publishing(band, range(number, number + 1))
        while play.kept.size() == before:
            assert not publishing.errors
        kill(pid)
        eventually(lambda pid=pid: not is_alive(pid), "the end of the shard's process", PATIENCE_S)  # type: ignore[misc]
        is_written = number in [event.data for event in all_of(play.frames()) if event.topic == "came"]
        receipts.update(publishing.wait())
        is_between = is_written and sent.count("publish") > 1
    band.settle(PATIENCE_S)

    assert_each_once(play, band, range(len(receipts)))
    came = {event.data: (event.id, event.offset) for event in band.events("came")}
    assert came == {number: (receipt.id, receipt.offset) for number, receipt in receipts.items()}


def test_a_shard_killed_again_and_again_while_many_publish_loses_and_repeats_nothing(play: Play) -> None:
    band = play.begin(answer, section={"min": 1, "max": 2, "batch": 5, "cpus": 0.1})
    ranges = [range(start, 60, 3) for start in range(3)]  # a key each

    publishers = [Publishing(band, numbers) for numbers in ranges]
    for least in (10, 20):
        pid = shard_pid(band)
        while sum(len(each.receipts) for each in publishers) < least:
            assert not any(each.errors for each in publishers)
        kill(pid)
    for publisher in publishers:
        publisher.wait()
    band.settle(PATIENCE_S)

    assert_each_once(play, band, range(60))


def test_a_stalled_shard_that_comes_back_after_another_took_its_store_writes_nothing(play: Play, sent: list[str]) -> None:
    band = play.begin(answer)
    publish(band, range(3))
    band.settle(PATIENCE_S)
    pid = shard_pid(band)

    with stopped(pid):
        sent.clear()
        publishing = Publishing(band, range(99, 100))
        eventually(lambda: "publish" in sent, "a publication under way", PATIENCE_S)
        play.kept.let_go()
        document = {"ensemble": 1, "name": "test", "players": {"hear": {"on": "came", "emits": ["heard"]}}}
        with ensemble.open(document, store=play.store, players={"hear": answer}) as solo:
            publish(solo, range(3, 6))
            solo.settle(60)
            os.kill(pid, signal.SIGCONT)
            publishing._thread.join(PATIENCE_S)

            assert [type(error) for error in publishing.errors] == [Unavailable]
            assert "taken over" in str(publishing.errors[0])
            with pytest.raises(Unavailable, match="taken over"):
                band.publish("came", 98, key="ann")
            publish(solo, range(6, 9))
            solo.settle(60)
            assert_each_once(play, solo, range(9))


def test_a_store_that_is_gone_is_said_in_a_sentence_and_what_was_not_durable_is_not_confirmed(play: Play) -> None:
    band = play.begin(answer)
    publish(band, range(3))
    band.settle(PATIENCE_S)

    def refused() -> str:
        try:
            band.publish("came", 3, key="ann")
        except Unavailable as error:
            return str(error)
        assert play.kept.is_missed_late, "it was confirmed"
        return ""

    play.kept.remove()

    assert "store" in eventually(refused, "the refusal", PATIENCE_S)
    with pytest.raises(Unavailable, match="store"):
        band.settle(60)


def test_a_store_that_cannot_be_made_is_said_when_the_band_is_opened(cluster: None, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")

    with pytest.raises(Unavailable, match="file"):
        ensemble.open({"ensemble": 1, "name": "test"}, stage="ray", store=str(tmp_path / "file" / "store"))
