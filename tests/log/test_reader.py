"""Reading a directory store: beside a writer, from any place, at the cost of what is read."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.event import Frame
from ensemble.log import LogReader, Position, Snapshot
from ensemble.log import reader as readers
from ensemble.log import segment as segments
from ensemble.log.directory import DirectoryLog, open_directory, read_directory
from ensemble.log.group import RECORD_BYTES
from tests.log.log_samples import Quick, append, contents, flat, frame, plain
from tests.log.test_corruption import all_of


def open_it(folder: Path, segment_bytes: int = 1 << 20) -> DirectoryLog:
    return open_directory(folder, name="band", log_id="log", files=Quick(), segment_bytes=segment_bytes)


def only_segment(folder: Path) -> Path:
    (path,) = (folder / "shard-0").glob("*.seg")
    return path


@pytest.fixture
def bytes_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How much each read of a segment took."""
    told: list[int] = []
    kept = os.pread

    def pread(fd: int, size: int, place: int) -> bytes:
        data = kept(fd, size, place)
        told.append(len(data))
        return data

    monkeypatch.setattr(os, "pread", pread)
    return told


@pytest.fixture
def often() -> Iterator[None]:
    """Threads take turns as often as they can."""
    kept = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(kept)


# Half-written tails


def test_a_reader_stops_before_a_group_that_is_being_written_and_sees_it_when_it_is_there(tmp_path: Path) -> None:
    log = open_it(tmp_path)
    groups = append(log, [1])
    size = only_segment(tmp_path).stat().st_size
    groups += append(log, [2, 1])
    log.close()
    data = only_segment(tmp_path).read_bytes()
    only_segment(tmp_path).write_bytes(data[:size])
    reader = read_directory(tmp_path)

    for written in range(size, len(data)):
        only_segment(tmp_path).write_bytes(data[:written])
        assert contents(reader) == groups[0]
        assert reader.end().seq == 1
    only_segment(tmp_path).write_bytes(data)

    assert contents(reader) == flat(groups)


def test_a_reader_sees_no_group_of_which_some_bytes_have_not_come_yet(tmp_path: Path) -> None:
    """As a network file system may show it: the length is there, the bytes are not."""
    log = open_it(tmp_path)
    groups = append(log, [1])
    size = only_segment(tmp_path).stat().st_size
    groups += append(log, [2, 1])
    data = only_segment(tmp_path).read_bytes()
    reader = read_directory(tmp_path)

    for come in range(size, len(data) - 1):
        only_segment(tmp_path).write_bytes(data[:come].ljust(len(data), b"\x00"))
        if data[come:] != bytes(len(data) - come):
            assert contents(reader) == groups[0]
    only_segment(tmp_path).write_bytes(data)

    assert contents(reader) == flat(groups)


def test_a_group_that_is_finished_while_a_reader_looks_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_it(tmp_path)
    groups = append(log, [1])
    size = only_segment(tmp_path).stat().st_size
    groups += append(log, [1], [1])
    data = only_segment(tmp_path).read_bytes()
    only_segment(tmp_path).write_bytes(data[:size] + bytes(40) + data[size + 40 :])

    def finished_meanwhile(window: segments.Window, place: int, seq: int) -> str:
        only_segment(tmp_path).write_bytes(data)
        return "a later group follows"

    reader = read_directory(tmp_path)
    monkeypatch.setattr(readers, "proof", finished_meanwhile)

    assert contents(reader) == groups[0]
    assert contents(reader) == flat(groups)


def test_a_tail_that_a_new_writer_cut_and_wrote_anew_is_read_anew(tmp_path: Path) -> None:
    """What a writer wrote whole and could not sync is cut by it; a reader may have seen it."""
    log = open_it(tmp_path)
    groups = append(log, [1])
    size = only_segment(tmp_path).stat().st_size
    append(log, [1, 1])
    reader = read_directory(tmp_path)
    assert len(contents(reader)) == 3
    log.close()
    os.truncate(only_segment(tmp_path), size)

    again = open_it(tmp_path)
    groups += append(again, [4], [1])

    assert contents(reader) == flat(groups)


def test_a_reader_follows_from_segment_to_segment(tmp_path: Path) -> None:
    log = open_it(tmp_path, segment_bytes=300)
    reader = read_directory(tmp_path)
    told = []
    for _ in range(12):
        told += append(log, [1, 1])
        assert contents(reader) == flat(told)
        assert reader.end() == log.end()
        assert reader.size_bytes() == log.size_bytes()
    assert len(list((tmp_path / "shard-0").glob("*.seg"))) > 4


def test_a_reader_that_comes_to_a_begun_segment_without_groups_reads_what_is_before_it(tmp_path: Path) -> None:
    log = open_it(tmp_path, segment_bytes=300)
    groups = append(log, *[[1]] * 5)
    end = log.end()
    log.close()
    (tmp_path / "shard-0" / f"{end.seq:020d}.seg").touch()

    assert contents(read_directory(tmp_path)) == flat(groups)
    assert read_directory(tmp_path).end() == end
    assert open_it(tmp_path).end() == end


def test_many_threads_read_one_log(tmp_path: Path, often: None) -> None:
    log = open_it(tmp_path, segment_bytes=2000)
    told = flat(append(log, *[[1]] * 200))
    log.save(Snapshot(log.end(), b"state"))
    log.close()
    again, reader = open_it(tmp_path), read_directory(tmp_path)
    failures: list[Exception] = []

    def read(one: Any) -> None:
        try:
            for offset in range(0, 200, 7):
                assert plain(next(one.rows(offset))) == told[offset]
        except Exception as error:  # whatever a thread meets fails the test
            failures.append(error)

    threads = [threading.Thread(target=read, args=(one,)) for one in (again, reader) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []


# What it costs


def test_rows_cost_what_they_read_wherever_they_begin(tmp_path: Path, bytes_read: list[int]) -> None:
    log = open_it(tmp_path, segment_bytes=400_000)
    frames = 4000
    append(log, *[[1, 1, 1, 1]] * (frames // 4))
    total = log.size_bytes()
    reader = read_directory(tmp_path)
    assert plain(next(reader.rows(frames - 1)))["first"] == frames - 1
    next(reader.rows(0))
    for one in (log, reader):
        list(one.rows(0))  # all segments have been seen once
        bytes_read.clear()

        for offset in range(0, frames, 40):
            next(one.rows(offset))
            one.frame_at(offset)

        assert max(bytes_read) <= 4 * segments.READ_BYTES_MIN
        assert sum(bytes_read) / 200 < 3 * segments.SPACING_BYTES < total / 5


def test_a_frame_in_a_long_group_is_found_without_reading_the_group(tmp_path: Path, bytes_read: list[int]) -> None:
    log = open_it(tmp_path)
    at, sealed = log.end(), []
    for n in range(100):
        sealed.append(log.seal(Frame(n, 5, frame(at._replace(offset=n), 1, data=[bytes(50_000)]).rows, {})))
    log.append(sealed)
    log.save(Snapshot(log.end(), b"state"))
    log.close()

    for one in (open_it(tmp_path), read_directory(tmp_path)):
        next(one.rows(50))
        bytes_read.clear()
        for n in range(0, 100, 9):
            assert one.frame_at(n).first == n
        assert sum(bytes_read) < 12 * 200_000
        inside = one.frame_at(70)
        if isinstance(one, DirectoryLog):
            place = Position(inside.seq, inside.first, inside.prev, inside.time_us)
            one.save(Snapshot(place, b"inside"))
            one.close()
    assert open_it(tmp_path).snapshot().at.seq == 100  # type: ignore[union-attr]


def test_opening_reads_what_is_after_the_snapshot_and_no_more(tmp_path: Path, bytes_read: list[int]) -> None:
    log = open_it(tmp_path, segment_bytes=200_000)
    append(log, *[[1]] * 3000)
    log.save(Snapshot(log.end(), b"state"))
    groups = append(log, [1], [2])
    end, total = log.end(), log.size_bytes()
    log.close()

    for make in (open_it, read_directory):
        bytes_read.clear()
        log_or_reader: LogReader = make(tmp_path)
        assert log_or_reader.end() == end
        assert contents(log_or_reader, 3000) == flat(groups)
        assert sum(bytes_read) < total / 4
        log_or_reader.close()


@pytest.mark.parametrize("part", ["whole", "ends inside of a group", "of another segment", "does not fit"])
def test_a_reader_takes_a_snapshot_for_a_hint_only(tmp_path: Path, part: str) -> None:
    log = open_it(tmp_path, segment_bytes=1000)
    groups = append(log, [1], [1, 1, 1], [1])
    snapshots = {"whole": 4, "ends inside of a group": 2, "of another segment": 4, "does not fit": 4}
    kept = list(log.frames())[snapshots[part]]
    log.save(Snapshot(Position(kept.seq, kept.first, kept.prev, kept.time_us - 1), b"state"))
    if part == "of another segment":
        groups += append(log, *[[1]] * 9)
    log.close()
    if part == "does not fit":
        other = open_it(tmp_path / "other")
        groups = append(other, *[[5, 5]] * 3)
        other.close()
        only_segment(tmp_path).write_bytes(only_segment(tmp_path / "other").read_bytes())

    assert contents(read_directory(tmp_path)) == flat(groups)


# Damage


def test_damage_in_a_part_that_no_reader_has_looked_at_is_met_when_it_is_looked_at(tmp_path: Path) -> None:
    log = open_it(tmp_path)
    append(log, [1], [1], [1])
    log.save(Snapshot(log.end(), b"state"))
    log.close()
    path = only_segment(tmp_path)
    data = path.read_bytes()
    second = RECORD_BYTES + int.from_bytes(data[2:6], "big")

    for byte in range(second):
        path.write_bytes(data[:byte] + bytes([data[byte] ^ 0x04]) + data[byte + 1 :])
        for make in (open_it, read_directory):
            with pytest.raises(LogCorrupt, match=rf"{re.escape(str(path))}: byte (0|{RECORD_BYTES}): "):
                all_of(make, tmp_path)


def test_a_damaged_record_stops_a_snapshot_that_needs_it(tmp_path: Path) -> None:
    log = open_it(tmp_path)
    append(log, [1], [1], [1])
    (_, second, _) = log.frames()
    path = only_segment(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[:8] + b"\xff" + data[9:])

    with pytest.raises(LogCorrupt, match="byte 0: a group's record is damaged"):
        log.save(Snapshot(Position(second.seq, second.first, second.prev, 1), b"state"))


# Refusals


@pytest.mark.parametrize("gone", ["segment", "shard", "epoch is a folder"])
def test_a_store_that_goes_away_under_a_reader_is_refused_with_a_sentence(tmp_path: Path, gone: str) -> None:
    log = open_it(tmp_path / "store")
    append(log, [1])
    reader = read_directory(tmp_path / "store")
    frames = reader.frames()
    shard = tmp_path / "store" / "shard-0"
    if gone == "segment":
        only_segment(tmp_path / "store").unlink()
        with pytest.raises(Unavailable, match="can't be read: No such file"):
            list(frames)
    elif gone == "shard":
        shard.rename(tmp_path / "away")
        with pytest.raises(Unavailable, match=r"shard-0: can't be read: No such file"):
            reader.frames()
    else:
        (shard / "epoch").unlink()
        (shard / "epoch").mkdir()
        with pytest.raises(Unavailable, match=r"epoch: can't be read: Is a directory"):
            reader.frames()


def test_a_disk_that_fails_to_read_is_named_with_the_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_it(tmp_path)
    append(log, [1])
    frames = log.frames()

    def pread(fd: int, size: int, place: int) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", pread)

    with pytest.raises(Unavailable, match=r"byte 0 can't be read: Input/output error; the disk failed"):
        list(frames)
