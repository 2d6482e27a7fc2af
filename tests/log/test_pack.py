"""Packs and what is left of frames: their bytes, and that damage anywhere is found."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.event import REMOVED, Frame
from ensemble.log import Snapshot
from ensemble.log import manifest as manifests
from ensemble.log.base import Position, Removal, Taken, genesis
from ensemble.log.directory import DirectoryLog, open_directory, read_directory
from ensemble.log.pack import REMOVALS_MOST, summed
from ensemble.log.remnant import decode_remnant, encode_remnant, peek_remnant
from tests.log.log_samples import Quick, append, contents, flat, frame, plain


def opened(folder: Path) -> DirectoryLog:
    return open_directory(folder, name="band", log_id="log", files=Quick(), segment_bytes=600)


def filled(folder: Path) -> DirectoryLog:
    """A log of several segments, with two snapshots at its end."""
    log = opened(folder)
    for _ in range(8):
        append(log, [2], [3, 1])
    for _ in range(2):
        append(log, [1])
        log.save(Snapshot(log.end(), b"state"))
    append(log, [1])
    return log


def packed(log: DirectoryLog, *, compress: bool, odd: bool = False) -> None:
    """All finished parts as one pack, without the odd offsets if so said."""

    def choose(kept: Frame) -> Taken | None:
        return Taken([ix for ix in range(kept.count) if (kept.first + ix) % 2 == 0], has_marks=True) if odd else None

    packing = log.packing()
    parts = packing.parts()
    removals = [Removal("odd", 5, parts[0].first, parts[-1].end, 1)] if odd else []
    packing.put(packing.pack(parts, choose, lambda: removals, compress=compress))


@pytest.mark.parametrize("compress", [False, True])
def test_a_pack_of_whole_frames_reads_as_the_segments_did(tmp_path: Path, compress: bool) -> None:
    log = filled(tmp_path)
    before, end, size = contents(log), log.end(), log.size_bytes()

    packed(log, compress=compress)

    for each in (log, read_directory(tmp_path)):
        assert contents(each) == before
        assert (each.end(), each.begin(), each.base()) == (end, Position(0, 0, genesis("log", 0), 0), None)
        for offset in range(end.offset):
            found = each.frame_at(offset)
            assert found.first <= offset < found.end
            assert next(each.rows(offset)).seq == found.seq
    assert log.size_bytes() < size * (0.6 if compress else 1)
    assert len(list(tmp_path.glob("shard-0/*.pack"))) == 1
    log.close()
    log = opened(tmp_path)
    assert contents(log) == before
    assert contents(log, 7) == before[7:]
    assert list(log.notes) == []


def test_a_store_with_a_pack_has_format_2_and_one_without_has_format_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = filled(tmp_path)
    assert '"format": 1' in (tmp_path / "ensemble.json").read_text()

    packed(log, compress=False)

    assert '"format": 2' in (tmp_path / "ensemble.json").read_text()
    monkeypatch.setattr(manifests, "FORMAT", 1)
    with pytest.raises(Unavailable, match="it has format 2, this version of Ensemble knows formats up to 1"):
        read_directory(tmp_path)


def test_rows_that_went_leave_their_places(tmp_path: Path) -> None:
    log = filled(tmp_path)
    before = contents(log)
    reach = log.packing().parts()[-1].end

    packed(log, compress=True, odd=True)

    for each, was in zip(log.frames(), before, strict=True):
        told = plain(each)
        for ix, event in enumerate(was.get("events", ())):
            offset = each.first + ix
            if offset % 2 and offset < reach:
                assert told["events"][ix][:3] == (REMOVED, "", b"\xc0")
            else:
                assert told["events"][ix] == event
        assert (each.seq, each.first, each.marks) == (was["seq"], was["first"], was["marks"])
    assert sum(sum((each.removed or {}).values()) for each in log.frames()) == reach // 2


def test_a_reader_in_the_middle_reads_on_when_the_files_are_replaced(tmp_path: Path) -> None:
    log = filled(tmp_path)
    before = contents(log)
    for reader in (log, read_directory(tmp_path)):
        reading = reader.frames()
        seen = [plain(next(reading)) for _ in range(7)]

        packed(log, compress=False)

        assert seen + [plain(kept) for kept in reading] == before


@pytest.mark.parametrize("compress", [False, True])
def test_a_byte_that_is_flipped_in_a_pack_is_found(tmp_path: Path, compress: bool) -> None:
    log = filled(tmp_path)
    packed(log, compress=compress, odd=True)
    log.close()
    [path] = tmp_path.glob("shard-0/*.pack")
    whole = path.read_bytes()
    chance = random.Random(3)
    for place in sorted({*range(80), *chance.sample(range(len(whole)), 200), len(whole) - 1}):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << chance.randrange(8)]) + whole[place + 1 :])

        with pytest.raises(LogCorrupt, match=path.name):
            list(read_directory(tmp_path).frames())

    path.write_bytes(whole[:-1])
    with pytest.raises(LogCorrupt, match=path.name):
        list(read_directory(tmp_path).frames())
    path.unlink()
    with pytest.raises(LogCorrupt, match="missing"):
        read_directory(tmp_path).end()
    with pytest.raises(LogCorrupt, match="missing"):
        opened(tmp_path)


def test_a_log_without_snapshots_opens_over_packs(tmp_path: Path) -> None:
    log = filled(tmp_path)
    packed(log, compress=True)
    before = contents(log)
    log.close()
    for path in tmp_path.glob("shard-0/snapshots/*"):
        path.unlink()

    log = opened(tmp_path)

    assert contents(log) == before
    assert contents(log) + flat(append(log, [1])) == contents(log)


def test_what_a_writer_left_that_died_while_it_packed_is_removed(tmp_path: Path) -> None:
    log = filled(tmp_path)
    before = contents(log)
    segments = {path: path.read_bytes() for path in tmp_path.glob("shard-0/*.seg")}
    packing = log.packing()
    packing.pack(packing.parts(), None)
    assert list(tmp_path.glob("shard-0/*.tmp"))
    log.close()

    log = opened(tmp_path)
    assert not list(tmp_path.glob("shard-0/*.tmp"))
    packed(log, compress=False)
    log.close()
    for path, data in segments.items():  # as if it had died before it removed them
        if not path.exists():
            path.write_bytes(data)

    assert contents(read_directory(tmp_path)) == before
    log = opened(tmp_path)
    assert contents(log) == before
    assert len(list(tmp_path.glob("shard-0/*.seg"))) < len(segments)


def test_a_writer_that_was_replaced_puts_nothing_in_place(tmp_path: Path) -> None:
    log = filled(tmp_path)
    packing = log.packing()
    made = packing.pack(packing.parts(), None)
    (tmp_path / "lock").unlink()
    other = opened(tmp_path)

    with pytest.raises(Unavailable, match="taken over"):
        packing.put(made)

    assert not list(tmp_path.glob("shard-0/*.pack"))
    assert contents(other) == contents(read_directory(tmp_path))


def test_what_is_left_of_a_frame_keeps_the_hash_and_the_place_of_each_row() -> None:
    whole = frame(
        Position(3, 40, b"", 9), 4, topics=["a", "b"], topic_ix=[0, 1, 0, 1], keys=["k", "l", "m", "n"],
        causes=[1, "x-2", 3, 4], roots=[0, 0, 0, "r"], extras={1: {"id": "mine"}, 3: {"id": "gone"}},
    )  # fmt: skip
    whole.seq, whole.epoch, whole.prev = 3, 2, b"p" * 32

    data = encode_remnant(whole, b"h" * 32, [1, 2], has_marks=True)

    left = decode_remnant(data, "log", 0)
    assert peek_remnant(data)[1] == b"h" * 32
    rows = left.rows
    assert rows is not None
    assert [rows.topic(ix) for ix in range(4)] == [REMOVED, "b", "a", REMOVED]
    assert (list(rows.keys), rows.extras) == (["", "l", "m", ""], {1: {"id": "mine"}})
    assert list(rows.causes or ()) == [40, "x-2", 3, 43]
    assert (left.first, left.end, left.seq, left.epoch, left.prev, left.marks) == (40, 44, 3, 2, whole.prev, whole.marks)
    assert left.removed == {"a": 1, "b": 1}
    less = decode_remnant(encode_remnant(left, b"h" * 32, [2], has_marks=False), "log", 0)
    assert less.rows is not None
    assert [less.rows.topic(ix) for ix in range(4)] == [REMOVED, REMOVED, "a", REMOVED]
    assert (less.removed, less.marks) == ({"a": 1, "b": 2}, {})
    none = decode_remnant(encode_remnant(less, b"h" * 32, [], has_marks=True), "log", 0)
    assert (none.end, none.removed) == (44, {"a": 2, "b": 2})


def test_old_statements_are_summed_up_where_there_are_too_many() -> None:
    many = [Removal("ab"[day % 2], day, 10 * day, 10 * day + 10, day) for day in range(REMOVALS_MOST + 50)]

    few = summed(many)

    assert len(few) == REMOVALS_MOST
    assert few[0] == Removal("a; b", 50, 0, 510, sum(range(51)))
    assert few[1:] == many[51:]
    assert sum(each.rows for each in few) == sum(each.rows for each in many)
