"""What every kind of store makes of parts that are written anew: `Packing` of `ensemble/log/base.py`."""

from __future__ import annotations

from typing import Any

import pytest

from ensemble.errors import OffsetError
from ensemble.event import REMOVED, Frame
from ensemble.log import EventLog, LogReader, Snapshot
from ensemble.log.base import Packing, Part, Removal, Taken
from ensemble.log.directory import open_directory
from ensemble.log.objects import codec
from tests.log.log_samples import append, contents, plain


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of few frames."""
    monkeypatch.setitem(open_directory.__kwdefaults__ or {}, "segment_bytes", 600)
    monkeypatch.setattr("ensemble.log.memory_packing.PART_BYTES", 600)
    monkeypatch.setattr("ensemble.log.pack.BLOCK_BYTES", 250)
    made = codec.new_manifest
    monkeypatch.setattr(codec, "new_manifest", lambda *given: made(*given)._replace(block=4))


def filled(log: EventLog) -> Packing:
    """A log of several parts, with two snapshots at its end."""
    for _ in range(10):
        append(log, [2], [3, 1])
    for _ in range(2):
        append(log, [1])
        log.save(Snapshot(log.end(), b"state"))
    append(log, [1])
    packing = log.packing()
    assert packing is not None
    return packing


def without_odd(kept: Frame) -> Taken:
    return Taken([ix for ix in range(kept.count) if (kept.first + ix) % 2 == 0], has_marks=True)


def pack(packing: Packing, part: Part, *, odd: bool = False) -> None:
    """Write a part anew, without what lies at odd offsets if so said."""
    removals = [Removal("odd", 5, part.first, part.end, 1)] if odd else []
    packing.put(packing.pack([part], without_odd if odd else None, lambda: removals, compress=True))


def begin_later(packing: Packing, count: int, *needed: int) -> None:
    """Have the log begin after so many parts; of these only what lies at some offsets stays."""
    parts = packing.parts()[:count]

    def choose(kept: Frame) -> Taken:
        return Taken([offset - kept.first for offset in needed if kept.first <= offset < kept.end], has_marks=False)

    removals = [Removal("retain: {time: 1d}", 5, parts[0].first, parts[-1].end, 1)]
    packing.put(packing.pack(parts, choose, lambda: removals, state=lambda: b"the state there", compress=True))


def test_parts_follow_each_other_up_to_the_newest_snapshot_but_one(store: Any) -> None:
    log = store.open()
    append(log, *([2] for _ in range(20)))
    log.save(Snapshot(log.end(), b"state"))
    packing = log.packing()
    assert packing.parts() == ()

    limit = log.end().seq
    packing = filled(log)

    parts = packing.parts()
    assert len(parts) > 3
    assert [part.seq for part in parts[1:]] == [part.end_seq for part in parts[:-1]]
    assert [part.first for part in parts[1:]] == [part.end for part in parts[:-1]]
    assert parts[0].seq == 0
    assert limit <= parts[-1].end_seq < log.end().seq
    assert [frame.seq for part in parts for frame in packing.frames(part)] == list(range(parts[-1].end_seq))
    assert all(packing.until_us(part) >= max(frame.time_us for frame in packing.frames(part)) for part in parts)


def test_parts_that_are_written_anew_read_as_before(store: Any) -> None:
    log = store.open()
    packing = filled(log)
    early = store.read()
    before, end = contents(log), log.end()
    assert contents(early, 3) == before[3:]

    for part in packing.parts():
        pack(packing, part)

    for each in (log, early, store.read()):
        assert contents(each) == before
        assert (each.end(), each.begin().seq, each.base()) == (end, 0, None)
        for offset in range(end.offset):
            found = each.frame_at(offset)
            assert found.first <= offset < found.end
            assert next(each.rows(offset)).seq == found.seq
        for seq in range(0, end.seq, 5):
            assert contents(each, seq) == before[seq:]
    store.forget(log)
    log = store.open()
    assert contents(log) == before
    append(log, [2])
    assert contents(store.read()) == contents(log)
    assert all(part.is_packed for part in packing.parts())


def test_rows_that_went_leave_their_places_and_say_why(store: Any) -> None:
    log = store.open()
    packing = filled(log)
    early, before = store.read(), contents(log)
    reach = packing.parts()[-1].end

    for part in packing.parts():
        pack(packing, part, odd=True)

    early.end()
    for each in (log, early, store.read()):
        for frame, was in zip(each.frames(), before, strict=True):
            told = plain(frame)
            for ix, event in enumerate(was.get("events", ())):
                offset = frame.first + ix
                went = offset % 2 and offset < reach
                assert told["events"][ix][:3] == ((REMOVED, "", b"\xc0") if went else event[:3])
            assert (frame.seq, frame.first, frame.marks) == (was["seq"], was["first"], was["marks"])
        assert each.frame_at(2).first <= 2
        with pytest.raises(OffsetError, match="no event 3 any more: retention took it: odd on 1970-01-01"):
            each.frame_at(3)


def test_a_log_that_begins_later_has_a_state_there_and_what_was_needed(store: Any) -> None:
    log = store.open()
    packing = filled(log)
    early, before = store.read(), contents(log)

    begin_later(packing, 2, 1, 7)
    pack(packing, packing.parts()[1], odd=True)
    begin_later(packing, 3, 1, 7)

    begin = log.begin()
    assert packing.parts()[0].is_past
    assert begin.seq > 3
    for each in (log, early, store.read()):
        _has_begun_later(each, begin, before)
    log.close()
    store.forget(log)
    for each in (store.open(), store.read()):
        _has_begun_later(each, begin, before)


def _has_begun_later(log: LogReader, begin: Any, before: list[dict[str, Any]]) -> None:
    assert log.begin() == begin
    base = log.base()
    assert base is not None
    assert (base.at, base.state) == (begin, b"the state there")
    assert [frame.seq for frame in log.frames()] == list(range(begin.seq, log.end().seq))
    assert next(log.rows(0)).first >= begin.offset
    for offset in (1, 7):
        rows = log.frame_at(offset).rows
        assert rows is not None
        assert rows.data[offset - rows.first] == next(
            event for was in before for ix, event in enumerate(was.get("events", ())) if was["first"] + ix == offset
        )[2]
    with pytest.raises(OffsetError, match=rf"retain: {{time: 1d}} on .*; the log begins at offset {begin.offset} now"):
        log.frame_at(2)


def test_a_reader_in_the_middle_reads_on_when_what_it_reads_is_written_anew(store: Any) -> None:
    log = store.open()
    packing = filled(log)
    before = contents(log)
    for reader in (log, store.read()):
        reading = reader.frames()
        seen = [plain(next(reading)) for _ in range(6)]

        for part in packing.parts()[:3]:
            pack(packing, part)

        assert seen + [plain(kept) for kept in reading] == before
    reading = store.read().frames()
    for _ in range(3):
        next(reading)
    begin_later(packing, 4)
    numbers = [frame.seq for frame in reading]
    assert numbers == sorted(numbers)
    assert numbers[-1] == log.end().seq - 1


def test_what_is_dropped_or_belongs_to_a_take_stays_as_it_was(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    log = store.open()
    packing = filled(log)
    before, parts = contents(log), packing.parts()

    packing.drop(packing.pack([parts[1]], without_odd, lambda: [Removal("odd", 5, 0, 9, 1)]))

    assert contents(log) == contents(store.read()) == before
    assert packing.parts() == parts
    assert not packing.has_takes()
