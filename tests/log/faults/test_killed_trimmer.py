"""A process that trims its log is killed at any moment; and readers beside one that goes on."""

from __future__ import annotations

import random
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from ensemble.log import EventLog, Position, read_log
from ensemble.log.audit import audit_log
from ensemble.log.cut import goes_through
from ensemble.log.pieces import pieces_of
from tests.log.faults.trimming_writer import check, event, opened
from tests.log.faults.writers import killed, said_by, writer
from tests.log.past_samples import verify
from tests.s3 import S3

WRITER = Path(__file__).with_name("trimming_writer.py")


class Place(NamedTuple):
    """Where the log is, and how often its writer is killed."""

    url: str
    kills: int
    folder: Path | None = None
    """Of a directory."""


SAME = pytest.mark.everywhere("a directory shows the same")


@pytest.fixture(params=["directory", pytest.param("objects", marks=SAME), pytest.param("s3", marks=SAME)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "s3":
        server: S3 = request.getfixturevalue("s3")
        return Place(server.url(), 8)
    if request.param == "objects":
        return Place(f"objects:{tmp_path / 'store'}", 6)
    return Place(str(tmp_path / "store"), 15, tmp_path / "store")


def test_a_writer_killed_while_it_trims_loses_nothing_but_what_its_rules_take(place: Place) -> None:
    chance = random.Random(7)
    begins, midway = set(), 0
    for seed in range(place.kills):
        with writer(WRITER, place.url, seed) as process:
            acknowledged = 0
            for _ in range(chance.randrange(5, 100)):
                acknowledged = int(said_by(process).readline())
            acknowledged = killed(process, acknowledged)

        midway += place.folder is not None and _is_midway(place.folder / "shard-0")
        with closing(read_log(place.url)) as reader:
            check(reader, acknowledged)
        with closing(opened(place.url)) as log:
            check(log, acknowledged)
        _verify(place)
        with closing(read_log(place.url)) as reader:
            begins.add(reader.begin().offset)
    assert len(begins) > 2, "the log began later and later"
    assert midway > 0 or place.folder is None, "some were killed while a pack was on its way"


def test_a_writer_killed_while_it_archives_has_all_in_the_archive_or_in_its_log(place: Place, tmp_path: Path) -> None:
    chance = random.Random(11)
    cold = tmp_path / "cold"
    ends = set()
    for seed in range(5):
        with writer(WRITER, place.url, seed, cold) as process:
            acknowledged = 0
            for _ in range(chance.randrange(40, 100)):
                acknowledged = int(said_by(process).readline())
            acknowledged = killed(process, acknowledged)

        with closing(opened(place.url)) as log:
            check(log, acknowledged)
            if (cold / "ensemble.json").exists():
                ends.add(_archived_to(cold, log).seq)
    assert len(ends) > 1, "more and more was archived"


def _archived_to(cold: Path, log: EventLog) -> Position:
    """Where an archive ends that has all that was said until then, and from where on the log goes on whole."""
    archive = read_log(str(cold))
    end, at = archive.end(), 0
    for frame in archive.frames():
        for ix in range(frame.count):
            assert frame.rows is not None
            assert (frame.rows.topic(ix), frame.rows.keys[ix], frame.rows.data[ix]) == event(frame.first + ix)
        at = frame.end
    assert at == end.offset
    assert log.begin().seq <= end.seq
    assert goes_through(log, end)
    assert all(frame.removed is None for frame in log.frames(end.seq)), "what lost something is archived"
    assert audit_log(str(cold)).findings == []
    return end


def _verify(place: Place) -> None:
    if place.folder is not None:
        assert not list(place.folder.glob("shard-0/*.tmp"))
        verify(place.folder, "log")
    else:
        assert audit_log(place.url).findings == []


def _is_midway(shard: Path) -> bool:
    """Whether a pack was on its way, or what it takes the place of."""
    stale: list[Path] = []
    pieces_of(shard, "log", 0, stale=stale)
    return bool(stale) or any(shard.glob("*.tmp"))


def test_readers_beside_a_writer_that_trims_meet_no_damage(place: Place) -> None:
    with writer(WRITER, place.url, 3) as process:
        said_by(process).readline()
        reader = read_log(place.url)
        at, jumps = 0, 0
        while jumps < 2 or at < 800:
            for frame in reader.frames(at):
                assert frame.seq >= at
                jumps += frame.seq > at
                at = frame.seq + 1
            with closing(read_log(place.url)) as anew:
                there, begin = [frame.seq for frame in anew.frames()], anew.begin().seq
                assert begin >= at or there[-1] >= at - 1, "what was read is there, or is past by now"
                at = max(0, begin - 40) if at % 5 == 0 else at  # a reader that was away for long
        reader.close()
