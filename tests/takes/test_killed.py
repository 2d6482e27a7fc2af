"""Kill -9 of who makes, drops, promotes and rolls back takes: each command is done, or not, and can be given again.

`--kills N` says how often.
"""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

import ensemble
from ensemble import takes
from ensemble.errors import Unavailable
from ensemble.log import open_log
from tests.log.faults.writers import said_by, writer
from tests.takes.taker import do, droppable

TAKER = Path(__file__).with_name("taker.py")
MOMENTS_S = 0.02
"""Somewhere in so long after a command began it is killed; each takes about as long."""
WAS_DONE = {
    "new": "there is a take '{}' already",
    "replay": "there is a take '{}' already",
    "drop": "there is no take '{}'",
    "rollback": "there is a take '{}' already",
    "promote": "take '{}' was promoted already",
}


@pytest.mark.patience(600)
@pytest.mark.parametrize("kind", ["directory", "objects"])
def test_a_command_that_is_killed_is_done_or_not_and_loses_no_event_of_main(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = f"objects:{tmp_path}/store" if kind == "objects" else str(tmp_path / "store")
    kills = request.config.getoption("--kills") or (15 if request.config.getoption("--everywhere") else 3)
    chance = random.Random(5)
    main: set[int] = set()
    for seed in range(kills):
        with writer(TAKER, url, seed) as process:
            lines: list[str] = []
            for _ in range(chance.randrange(3, 25)):
                lines.append(said_by(process).readline())
            while not lines[-1].startswith("begins"):
                lines.append(said_by(process).readline())
            threading.Event().wait(chance.uniform(0, MOMENTS_S))
            process.kill()
            lines += said_by(process).read().splitlines()
        words = [line.split() for line in lines]
        main |= {int(offset) for what, offset, *_ in words if what == "said"}
        begun = [each[1:] for each in words if each[0] == "begins"]
        is_done = words[-1][0] != "begins"

        assert_whole(url, main)
        play_once_more(url)
        give_again(url, *begun[-1], is_done=is_done)
        assert_whole(url, main)
        for name in droppable(url):
            if chance.random() < 0.5:
                takes.drop(url, name)


def assert_whole(url: str, main: set[int]) -> None:
    """All that was acknowledged is there, each take is whole, and nobody finds anything wrong."""
    listed = takes.listed(url)
    assert [each.is_current for each in listed].count(True) == 1
    assert {each.parent for each in listed} <= {None, *(each.name for each in listed)}
    with ensemble.read(url, take="main") as reader:
        events = {event.offset: event.id for event in reader.events("ordered")}
        corrected: dict[str, list[int]] = {}
        for event in reader.events("_band.corrected"):
            corrected.setdefault(event.data["take"], []).append(event.offset)
    count = 0
    for offsets in corrected.values():  # each order's price and sum were wrong, and are corrected once
        count += len(offsets)
        assert count == 2 * sum(offset < offsets[0] for offset in events)
    assert main <= events.keys()
    for each in listed:
        with ensemble.read(url, take=each.name) as reader:
            offsets = [event.offset for event in reader.events(">")]
            assert offsets == sorted(set(offsets))
            if each.parent == "main" and each.offset:
                assert [event.id for event in reader.events("ordered") if event.offset < each.offset] == [
                    id for offset, id in events.items() if offset < each.offset
                ]


def give_again(url: str, command: str, name: str, *, is_done: bool) -> None:
    there = {each.name: each for each in takes.listed(url)}
    if command == "drop":
        assert is_done <= (name not in there)
    elif command != "promote":
        assert is_done <= (name in there)
    if command == "rollback" and is_done:
        assert there[name].is_current
    refused = ""
    try:
        do(url, command, name)
    except Unavailable as error:
        refused = str(error)
    assert not refused or WAS_DONE[command].format(name) in refused


def play_once_more(url: str) -> None:
    """Open each take and close it, as who plays it does: what a kill tore off is cut, and it is known that nobody plays it."""
    for each in takes.listed(url):
        open_log(f"{url}#{each.name}", name="").close()
    audit = ensemble.audit(url, tables=True)
    assert audit.findings == ()
