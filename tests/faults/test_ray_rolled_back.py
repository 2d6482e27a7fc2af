"""A band in several shards is rolled back while it is up and spoken to; processes are killed in the middle of it.

Promise: all shards go on in the old take or all in the new one, what crosses between them is there once, and whoever was told
that his event is durable finds it in the take that its receipt names.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import ensemble
from ensemble import Event, emit, takes
from ensemble.broker.outbox import shard_of
from ensemble.errors import Unavailable
from ensemble.log import own_logs
from ensemble.stage.on_ray.line import Line
from tests.conformance.stand import eventually

pytestmark = pytest.mark.patience(300)

ROOT = Path(__file__).parents[2]
SHARDS = 2
NAME = "rolled-back"
KEYS = [next(f"k-{n}" for n in range(99) if shard_of(f"k-{n}", SHARDS) == shard) for shard in range(SHARDS)]
OTHER = dict(zip(KEYS, reversed(KEYS), strict=True))
SCORE: dict[str, Any] = {
    "ensemble": 1,
    "name": NAME,
    "players": {
        "answer": {"on": "asked", "emits": ["answered"], "section": {"cpus": 0.1}},
        "keep": {"on": "answered", "section": {"cpus": 0.1}},
    },
    "stage": {"kind": "ray", "shards": SHARDS},
}


def answer(event: Event) -> Any:
    """To a key of the other shard."""
    return emit("answered", event.data, key=OTHER[event.key])


def keep(event: Event, ctx: Any) -> None:
    ctx.state["numbers"] = [*ctx.state.get("numbers", ()), event.data]


class Publishing:
    """Somebody who asks, one number after the other, and notes the receipts."""

    def __init__(self) -> None:
        self.receipts: dict[int, ensemble.Receipt] = {}
        self.error: BaseException | None = None
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            with ensemble.connect(f"ray:{NAME}") as band:
                for number in range(1000, 100_000):
                    if self._is_over.is_set():
                        return
                    self.receipts[number] = band.publish("asked", number, key=KEYS[number % SHARDS])
        except BaseException as error:
            self.error = error

    def wait_for_more(self) -> None:
        least = len(self.receipts) + 10
        eventually(lambda: len(self.receipts) > least or self.error, "an answer to who publishes", 150)

    def end(self) -> None:
        self._is_over.set()
        self._thread.join(60)


@pytest.fixture(params=["directory", pytest.param("objects", marks=pytest.mark.everywhere("as in a directory"))])
def store(cluster: None, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    yield f"objects:{tmp_path / 'store'}" if request.param == "objects" else str(tmp_path / "store")
    ensemble.down(NAME)


@pytest.fixture
def band(store: str) -> Iterator[ensemble.Band]:
    with ensemble.up(SCORE, store=store, players={"answer": answer, "keep": keep}) as band:
        yield band


def middle_of(band: ensemble.Band) -> datetime:
    """A moment between what is said before it and after it, all of which is heard."""
    band.publish_many({"topic": "asked", "key": KEYS[number % SHARDS], "data": number} for number in range(20))
    band.settle(60)
    middle = max(event.written_at for event in band.events())
    eventually(lambda: datetime.now(middle.tzinfo) > middle, "a later moment")
    return datetime.now(middle.tzinfo)


def assert_true(store: str, band: ensemble.Band, receipts: dict[int, ensemble.Receipt]) -> None:
    """All shards play what is current; each receipt names an event; and what is current was answered and kept, each once."""
    stage: Any = band._stage
    current = next(each.name for each in takes.listed(store) if each.is_current)
    with ExitStack() as stack:
        logs = own_logs(store, current)
        for log in logs:
            stack.callback(log.close)
        assert [line.ask("log", "")["id"] for line in stage._lines] == [log.id for log in logs]
    band.settle(60)
    by_id: dict[str, Any] = {}
    for take in takes.listed(store):
        with ensemble.read(store, take=take.name) as reader:
            by_id |= {event.id: event.data for event in reader.events("asked")}
    assert {number: by_id.get(receipt.id) for number, receipt in receipts.items()} == {number: number for number in receipts}
    with ensemble.read(store) as reader:
        asked = Counter(event.data for event in reader.events("asked"))
        answered = Counter(event.data for event in reader.events("answered"))
        kept = Counter(number for state in reader.table("keep").values() for number in state["numbers"])
    assert asked == answered == kept
    assert set(asked.values()) == {1}
    assert set(range(20)) <= set(asked)


@pytest.mark.everywhere("the shard that dies goes back, too")
def test_a_band_that_is_spoken_to_goes_back_in_all_its_shards_and_on_from_there(store: str, band: ensemble.Band) -> None:
    middle = middle_of(band)
    publishing = Publishing()
    publishing.wait_for_more()

    made = takes.rollback(f"ray:{NAME}", middle)
    publishing.wait_for_more()
    publishing.end()

    assert publishing.error is None
    assert (made.name, made.parent, made.is_current) == ("rollback-1", "main", True)
    assert_true(store, band, publishing.receipts)
    with ensemble.read(store) as now, ensemble.read(store, take="main") as before:
        said = {event.data for event in now.events("asked")}
        left = {event.data for event in before.events("asked")} - said
    assert left, "what was said since is not in what is current"
    assert left | said == {*range(20), *publishing.receipts}
    assert list(band.events("asked"))[-1].id.rpartition("-")[0] in {made.id, *(shard.log.id for shard in band._shards)}
    assert band.table("keep")[KEYS[0]]["numbers"][0] == 1

    takes.use(f"ray:{NAME}", "main")

    assert {event.data for event in band.events("asked")} == {*range(20), *left}
    band.settle(60)


@pytest.mark.everywhere("the tests around it roll back, too")
def test_who_follows_a_band_is_told_when_it_goes_back(store: str, band: ensemble.Band) -> None:
    middle = middle_of(band)
    band.publish("asked", 20, key=KEYS[0])
    band.settle(60)
    following = band.tail("asked", since=0)
    assert {next(following).data for _ in range(21)} == set(range(21))

    takes.rollback(f"ray:{NAME}", middle)

    with pytest.raises(Unavailable, match=r"it was rolled back|it goes on in another log now"):
        next(following)
    assert {event.data for event in band.events("asked")} == set(range(20))


def pids(band: ensemble.Band) -> list[int]:
    stage: Any = band._stage
    return [int(line.ask("hello")["pid"]) for line in stage._lines]


@pytest.mark.parametrize("which", [pytest.param(0, marks=pytest.mark.everywhere("as of the other shard")), 1])
def test_a_shard_that_dies_in_the_middle_of_a_rollback_goes_where_the_others_go(
    store: str, band: ensemble.Band, which: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    middle, pid = middle_of(band), pids(band)[which]
    killed: list[int] = []
    call = Line.call

    def killing(self: Line, verb: str, *given: Any) -> Any:
        ref = call(self, verb, *given)
        if verb == "act" and not killed and "rolled_back" in repr(given):
            killed.append(pid)
            os.kill(pid, signal.SIGKILL)
        return ref

    monkeypatch.setattr(Line, "call", killing)
    publishing = Publishing()
    publishing.wait_for_more()

    made = takes.rollback(f"ray:{NAME}", middle)
    publishing.wait_for_more()
    publishing.end()

    assert killed and publishing.error is None
    assert [each.name for each in takes.listed(store) if each.is_current] == [made.name] == ["rollback-1"]
    assert_true(store, band, publishing.receipts)


@pytest.mark.everywhere("the test before it kills a shard at a moment that is known")
def test_shards_killed_at_random_moments_while_it_goes_back_again_and_again_go_on_together(
    store: str, band: ensemble.Band, chance: random.Random
) -> None:
    middle = middle_of(band)
    publishing = Publishing()

    def kill(chosen: list[int]) -> None:
        for pid in chosen:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    for _ in range(8):
        publishing.wait_for_more()
        killing = threading.Timer(chance.uniform(0, 0.7), kill, [chance.sample(pids(band), chance.choice([1, 2]))])
        killing.start()
        with suppress(Unavailable):  # it came to the take, and not to the pointer
            takes.rollback(f"ray:{NAME}", middle)
        killing.join()
    publishing.wait_for_more()
    publishing.end()

    assert publishing.error is None
    assert_true(store, band, publishing.receipts)


DRIVER = """
import datetime
import sys

from ensemble import takes
from ensemble.stage.on_ray import bands

rest = bands._rest


def telling(*given):
    pids = rest(*given)
    print("they rest", flush=True)
    return pids


bands._rest = telling
takes.rollback(sys.argv[1], datetime.datetime.fromisoformat(sys.argv[2]))
"""
"""Who rolls back, and tells whenever all shards rest: when it asks for the take's name, for the rollback, and to go on."""


@pytest.mark.patience(600)
@pytest.mark.everywhere("it takes minutes until the shards believe that who told them to rest is gone")
def test_who_rolls_back_is_killed_at_any_moment_and_the_shards_go_on_together(
    store: str, band: ensemble.Band, chance: random.Random
) -> None:
    import ray

    middle = middle_of(band)
    address = ray.get_runtime_context().gcs_address
    publishing = Publishing()
    for moment in (chance.choice([1, 2]), 3):  # before the pointer, as a rule, and after it
        publishing.wait_for_more()
        driver = subprocess.Popen(
            [sys.executable, "-c", DRIVER, f"ray:{NAME}@{address}", middle.isoformat()],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert driver.stdout is not None
        for _ in range(moment):
            assert driver.stdout.readline() == b"they rest\n"
        threading.Event().wait(chance.uniform(0, 0.1))
        os.kill(driver.pid, signal.SIGKILL)
        driver.communicate()
        publishing.wait_for_more()
    publishing.end()

    assert publishing.error is None
    assert_true(store, band, publishing.receipts)
