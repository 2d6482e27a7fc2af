"""Bands on a store that speaks S3: readers beside them, what they ask for, and what that costs."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

import ensemble
from ensemble.log import open_log
from ensemble.log.objects.log import let_go
from ensemble.log.objects.store import objects_at
from tests.s3 import S3

ROOT = Path(__file__).parents[2]
SCORE: dict[str, Any] = {
    "ensemble": 1,
    "name": "count",
    "events": {"said": {"key": "key"}},
    "players": {"count": {"on": "said", "emits": ["counted"]}},
    "store": {"linger": "5ms"},
    "costs": {"requests": {"put": "0.005/1000", "get": "0.0004/1000", "head": "0.0004/1000", "list": "0.005/1000"}},
}
PLAYS = """
import sys
import ensemble
from tests.band.test_object_store import SCORE, count

with ensemble.open(SCORE, store=sys.argv[1], players={"count": count}) as band:
    for line in sys.stdin:
        first, last = map(int, line.split())
        band.publish_many([{"key": f"k-{n % 5}", "n": n} for n in range(first, last)], topic="said")
        band.settle(30)
        print(last, flush=True)
"""


def count(event: ensemble.Event, ctx: Any) -> Any:
    ctx.state["n"] = ctx.state.get("n", 0) + 1
    return ensemble.emit("counted", ctx.state["n"])


class Player:
    """Another process, which plays the store and publishes so many numbers when told."""

    def __init__(self, url: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PLAYS, url], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def publish(self, first: int, last: int) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(first, last, file=self._process.stdin, flush=True)
        assert self._process.stdout.readline() == f"{last}\n"

    def end(self) -> None:
        out, _ = self._process.communicate(timeout=30)
        assert (out, self._process.returncode) == ("", 0)


@contextmanager
def playing(url: str) -> Iterator[Player]:
    player = Player(url)
    try:
        yield player
        player.end()
    finally:
        player._process.kill()


def numbers(events: Iterator[ensemble.Event], most: int) -> list[int]:
    return [event.data["n"] for event in islice(events, most)]


def test_readers_follow_a_band_of_another_process_from_the_start_a_place_a_time_and_now(s3: S3) -> None:
    url = s3.url()
    with playing(url) as player:
        player.publish(0, 20)
        with ensemble.read(url) as reader:
            middle = list(reader.events("said"))[10]
            tails = {
                "start": reader.tail("said", since=0),
                "place": reader.tail("said", since=middle.offset),
                "time": reader.tail("said", since=datetime.now(UTC) - timedelta(days=1)),
            }
            before = {name: numbers(tail, 20 if name != "place" else 10) for name, tail in tails.items()}
            heard_now: list[int] = []
            thread = threading.Thread(target=lambda: heard_now.extend(numbers(reader.tail("said"), 3)))
            thread.start()
            said = 20
            while thread.is_alive():  # when it began to listen only it knows
                player.publish(said, said + 1)
                said += 1

            assert before == {"start": [*range(20)], "place": [*range(10, 20)], "time": [*range(20)]}
            assert [numbers(tail, said - 20) for tail in tails.values()] == [[*range(20, said)]] * 3
            assert heard_now == [*range(heard_now[0], heard_now[0] + 3)] and heard_now[0] >= 20
            assert sum(state["n"] for state in reader.table("count").values()) == said


def test_a_band_goes_on_in_another_process_where_the_last_one_left(s3: S3) -> None:
    url = s3.url()
    with playing(url) as player:
        player.publish(0, 30)

    with ensemble.open(SCORE, store=url, players={"count": count}) as band:
        band.publish("said", {"key": "k-0", "n": 30})
        band.settle(30)

        assert [event.data["n"] for event in band.events("said")] == [*range(31)]
        assert band.table("count")["k-0"] == {"n": 7}


def test_status_tells_what_was_asked_and_what_that_costs(s3: S3) -> None:
    url = s3.url()
    with ensemble.open(SCORE, store=url, players={"count": count}) as band:
        for n in range(10):
            band.publish("said", {"key": "k", "n": n})
        band.settle(30)
        now = band.status()
    with ensemble.read(url) as reader:
        later = reader.status()

    assert now.requests["put"] >= 12  # the manifest, a beginning, each event
    assert now.cost == pytest.approx(
        sum(count * {"put": 5e-6, "list": 5e-6}.get(kind, 4e-7) for kind, count in now.requests.items())
    )
    assert later.requests["put"] >= now.requests["put"]
    assert later.cost is not None and now.cost is not None and later.cost >= now.cost


def test_without_prices_nothing_is_said_of_cost_and_a_directory_counts_nothing(tmp_path: Path) -> None:
    score = {"ensemble": 1, "name": "test"}
    with ensemble.open(score, store=f"objects:{tmp_path / 'a'}") as band:
        band.publish("said", 1)
        assert band.status().requests["put"] > 0
        assert band.status().cost is None
    with ensemble.open(score, store=str(tmp_path / "b")) as band:
        band.publish("said", 1)
        assert (dict(band.status().requests), band.status().cost) == ({}, None)


def test_a_store_opens_from_its_snapshot_with_fewer_than_20_requests_and_a_band_at_rest_asks_for_nothing(s3: S3) -> None:
    url = s3.url()
    with ensemble.open(SCORE, store=url, players={"count": count}) as band:
        band.publish_many([{"key": f"k-{n % 5}", "n": n} for n in range(3000)], topic="said")
        band.settle(60)
    before = sum(open_and_close(url).values())

    with ensemble.open(SCORE, store=url, players={"count": count}) as band:
        band.settle(30)
        opened = band.status().requests
        began = time.monotonic()
        while time.monotonic() < began + 1.2:  # more than a second: what is done by the second would be seen
            assert band.status().requests == opened

    assert sum(opened.values()) - before < 20


def open_and_close(url: str) -> dict[str, int]:
    """What had been asked when nothing was said any more: a log is opened and let go without a snapshot."""
    log = open_log(url, name="")
    asked = dict(log.requests())
    own = log.objects.requests  # type: ignore[attr-defined]
    log.close()
    let_go(url)
    return {kind: count - own[kind] for kind, count in asked.items()}


def test_a_snapshot_is_kept_after_so_many_commits_however_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ensemble.stage.loop.SNAPSHOT_GROUPS", 5)
    url = f"objects:{tmp_path / 'store'}"
    with ensemble.open({"ensemble": 1, "name": "test", "store": {"linger": "1ms"}}, store=url) as band:
        for n in range(40):
            band.publish("said", {"text": "x" * 100, "n": n})
        kept = objects_at(url).list(f"snapshots/{band.id}/")

        assert len(kept) == 2  # the newest two of several
        assert all(0 < int(name.rpartition("/")[2]) <= 40 + len(kept) for name in kept)


def test_a_lone_event_waits_no_longer_than_linger_and_a_round_trip(tmp_path: Path) -> None:
    score = {"ensemble": 1, "name": "test", "store": {"linger": "80ms"}}
    with ensemble.open(score, store=f"objects:{tmp_path / 'store'}") as band:
        band.publish("said", 0)
        took = []
        for n in range(1, 6):
            began = time.monotonic()
            band.publish("said", n)
            took.append(time.monotonic() - began)

    assert min(took) >= 0.08
    assert sorted(took)[2] < 0.2, took


def test_what_is_said_within_linger_is_one_object(tmp_path: Path) -> None:
    score = {"ensemble": 1, "name": "test", "store": {"linger": "300ms"}}
    url = f"objects:{tmp_path / 'store'}"
    with ensemble.open(score, store=url) as band:
        band.publish("said", "first")
        before = objects_at(url).list("log/")
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(20) as many:
            list(many.map(lambda n: band.publish("said", n), range(20)))

        assert len(objects_at(url).list("log/")) - len(before) <= 2
