"""A log from which retention has taken something is replayed from where all that was heard is still there."""

from __future__ import annotations

from pathlib import Path
from threading import Event as Gate
from typing import Any

import pytest

import ensemble
from ensemble import Event, takes
from ensemble.errors import Unavailable
from ensemble.log.directory import open_directory
from ensemble.replay import replay
from ensemble.score import load
from ensemble.trimming import trim_store
from tests.replay.test_replay import PLAYERS, SHOP, places, price

COUNT = 40


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store of many segments, played three times: each time all is published before any of it is heard."""
    monkeypatch.setitem(open_directory.__kwdefaults__ or {}, "segment_bytes", 2_000)
    url = str(tmp_path / "store")
    for _ in range(3):
        gate = Gate()

        def waits(event: Event, gate: Gate = gate) -> Any:
            assert gate.wait(10)
            return price(event)

        with ensemble.open(SHOP, store=url, players={**PLAYERS, "price": waits}) as band:
            for n in range(COUNT):
                band.publish("ordered", {"n": n, "note": "x" * 200}, key="k")
            gate.set()
            band.settle(10)
    return url


def less(store: str, rule: str) -> Any:
    """A score by which events of the second time go that are heard in what stays."""
    if rule == "compact":
        return load({**SHOP, "events": {"ordered": {"compact": True}}})
    second = places(store)[COUNT : 2 * COUNT]
    wanted = range(second[5], second[-5])
    for size in range(1_000, 200_000, 1_000):
        score = load({**SHOP, "retain": {"size": f"{size}B"}})
        if trim_store(store, score, is_rehearsal=True).begins[0] in wanted:
            return score
    raise AssertionError("no bound cuts there")


@pytest.mark.parametrize("rule", ["retain", "compact"])
def test_where_events_of_a_batch_are_gone_it_says_from_where_on_to_replay(store: str, rule: str) -> None:
    assert trim_store(store, less(store, rule)).removed
    with ensemble.read(store) as reader:
        begin = next(iter(reader.events(">"))).offset

    with pytest.raises(Unavailable, match=r"retention took events that player '\w+' heard in .*; replay from \d+ on$") as told:
        replay(SHOP, begin, store=store, calls=PLAYERS)

    since = int(str(told.value).rpartition("replay from ")[2].split()[0])
    made = replay(SHOP, since, store=store, calls=PLAYERS)
    assert not made and 0 < made.difference.same == made.upto - since
    assert [each.name for each in takes.listed(store)] == ["main"]
