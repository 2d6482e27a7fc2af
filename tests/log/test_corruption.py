"""Damage to a directory store: every byte, every length, every file.

What may come of damage: LogCorrupt naming the file and a byte at or before the damage; or a tail that is cut and said,
which loses the last group at the most; or, where what was hit does not matter, nothing. Never a wrong event.
"""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.event import Frame
from ensemble.log import LogReader, Position, Snapshot
from ensemble.log.directory import DirectoryLog, open_directory, read_directory
from ensemble.log.frame import HEADER_BYTES
from ensemble.log.group import RECORD_BYTES, encode_record, peek_record
from tests.log.log_samples import Quick, append, contents, flat, frame, plain

GROUPS = ([2], [1, 0], [3], [1], [0, 1])
"""Events of each frame."""

SEGMENT_BYTES = 300
"""So that a segment holds two of these groups."""


def open_it(folder: Path) -> DirectoryLog:
    return open_directory(folder, name="band", log_id="log", files=Quick(), segment_bytes=SEGMENT_BYTES)


class Sample:
    """A small store, its files as bytes, and what it holds."""

    def __init__(self, folder: Path, snapshot_after: int | None = None) -> None:
        self.folder = folder
        log = open_it(folder)
        self.groups: list[list[dict[str, Any]]] = []
        for n, group in enumerate(GROUPS, 1):
            self.groups += append(log, group)
            if n == snapshot_after:
                log.save(Snapshot(log.end(), b"state"))
        log.close()
        self.shard = folder / "shard-0"
        self.segments = sorted(self.shard.glob("*.seg"))
        self.files = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
        self.places = {path: group_places(data) for path, data in self.files.items() if path.suffix == ".seg"}

    @property
    def told(self) -> list[dict[str, Any]]:
        return flat(self.groups)

    def restore(self) -> None:
        """What is there stays, since making a file costs more than all that a test looks at."""
        for path in self.folder.rglob("*"):
            if path.is_file() and path not in self.files:
                path.unlink()
        for path, data in self.files.items():
            if not path.is_file() or path.read_bytes() != data:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)

    def judge(self, damaged: Path, byte: int, *, lost_at_most: int = 1) -> str:
        """Open the store to read and to write, and hold what comes to the rules. What came is said in a word."""
        read, _ = self._look(lambda: read_directory(self.folder), damaged, byte, lost_at_most)
        written, notes = self._look(lambda: open_it(self.folder), damaged, byte, lost_at_most)
        if written == "cut":
            assert read == "cut", "the reader stops before what the writer cuts"
            assert len(notes) == 1
            assert notes[0].startswith(f"{damaged}: the last ")
            assert self._look(lambda: open_it(self.folder), damaged, byte, lost_at_most) == ("cut", [])
        return written

    def _look(self, make: Callable[[], Any], damaged: Path, byte: int, lost_at_most: int) -> tuple[str, list[str]]:
        try:
            log = make()
        except LogCorrupt as error:
            return named(error, damaged, byte), []
        try:
            found = contents(log)
        except LogCorrupt as error:
            return named(error, damaged, byte), []
        finally:
            log.close()
        kept = next((n for n in range(len(self.groups) + 1) if found == flat(self.groups[:n])), None)
        assert kept is not None, "what is left is no prefix of whole groups"
        assert len(self.groups) - kept <= lost_at_most
        return "whole" if kept == len(self.groups) else "cut", list(getattr(log, "notes", ()))


def named(error: LogCorrupt, damaged: Path, byte: int) -> str:
    """That the sentence names the file, a byte at or before the damage, and what to do."""
    found = re.match(r"(.*): byte (\d+): .*; .*restore this file", str(error))
    assert found, error
    assert found[1] == str(damaged), error
    assert int(found[2]) <= byte, error
    return "corrupt"


def all_of(make: Callable[[Path], LogReader], folder: Path) -> list[dict[str, Any]]:
    """Open a log, read all of it, close it."""
    log = make(folder)
    try:
        return contents(log)
    finally:
        log.close()


def group_places(data: bytes) -> list[int]:
    """Where the groups of a segment begin, and where the last one ends."""
    places = [0]
    while places[-1] < len(data):
        record = peek_record(data, places[-1])
        assert record is not None
        places.append(places[-1] + RECORD_BYTES + record.length)
    return places


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return Sample(tmp_path / "store")


def test_the_sample_has_three_segments_and_the_last_has_one_group(sample: Sample) -> None:
    assert [len(places) - 1 for places in sample.places.values()] == [2, 2, 1]


@pytest.mark.parametrize(
    ("mask", "snapshot_after"),
    [
        (0xFF, None),
        *(
            pytest.param(*each, marks=pytest.mark.everywhere("as the others"))
            for each in ((0x01, 3), (0xFF, 5), (0x01, None), (0xFF, 3), (0x01, 5))
        ),
    ],
)
def test_every_byte_that_is_flipped_is_noticed_or_costs_the_last_group_at_most(
    tmp_path: Path, mask: int, snapshot_after: int | None
) -> None:
    sample = Sample(tmp_path / "store", snapshot_after)
    came: dict[str, set[str]] = {}
    for path in sample.segments:
        data = sample.files[path]
        for byte in range(len(data)):
            sample.restore()
            path.write_bytes(data[:byte] + bytes([data[byte] ^ mask]) + data[byte + 1 :])
            came.setdefault(path.name, set()).add(sample.judge(path, byte))

    # In a finished segment all damage is damage; in the last group, which nothing follows, it looks as torn as a crash.
    last = {"corrupt"} if snapshot_after == 5 else {"cut"}
    assert list(came.values()) == [{"corrupt"}, {"corrupt"}, last]


def test_every_byte_of_a_group_that_another_follows_in_its_segment_is_damage(tmp_path: Path) -> None:
    log = open_directory(tmp_path, name="band", log_id="log", files=Quick())
    append(log, [1], [2, 1], [1])
    log.close()
    (path,) = (tmp_path / "shard-0").glob("*.seg")
    data = path.read_bytes()
    places = group_places(data)

    for byte in range(places[2]):
        path.write_bytes(data[:byte] + bytes([data[byte] ^ 0x10]) + data[byte + 1 :])
        for make in (open_it, read_directory):
            with pytest.raises(LogCorrupt) as caught:
                all_of(make, tmp_path)
            assert named(caught.value, path, byte) == "corrupt"
        assert path.stat().st_size == len(data), "nothing is changed"


def test_every_truncation_of_the_last_segment_leaves_whole_groups_and_says_what_was_cut(sample: Sample) -> None:
    for path in sample.segments:
        data, is_last = sample.files[path], path == sample.segments[-1]
        before = sum(len(places) - 1 for p, places in sample.places.items() if p < path)
        for size in range(len(data)):
            sample.restore()
            path.write_bytes(data[:size])
            whole = sum(place <= size for place in sample.places[path]) - 1
            reader = read_directory(sample.folder)
            if is_last:
                assert contents(reader) == flat(sample.groups[: before + whole])
                log = open_it(sample.folder)
                assert contents(log) == flat(sample.groups[: before + whole])
                is_at_boundary = size in sample.places[path]
                assert len(log.notes) == (not is_at_boundary)
                assert is_at_boundary or f"from byte {sample.places[path][whole]} on" in log.notes[0]
                log.close()
            else:
                with pytest.raises(LogCorrupt, match=r"\.seg: byte"):
                    contents(reader)
                with pytest.raises(LogCorrupt, match=r"\.seg: byte"):
                    open_it(sample.folder)


def test_a_log_goes_on_after_a_cut(sample: Sample) -> None:
    path = sample.segments[-1]
    path.write_bytes(sample.files[path][:-3])

    log = open_it(sample.folder)
    kept = contents(log)
    (more,) = append(log, [2])
    log.close()

    again = open_it(sample.folder)
    assert list(again.notes) == []
    assert contents(again) == contents(read_directory(sample.folder)) == kept + more


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00" * 5000,
        random.Random(7).randbytes(5000),
        b"\x95\xce",
        b"\x95\xce" * 700,
        b"\x9a\xce" + b"\x00" * 200,
        b"not a log",
    ],
    ids=["zeros", "noise", "half a record", "many markers", "half a frame", "text"],
)
def test_garbage_after_the_last_group_is_cut_and_nothing_is_lost(sample: Sample, garbage: bytes) -> None:
    path = sample.segments[-1]
    path.write_bytes(sample.files[path] + garbage)
    reader = read_directory(sample.folder)
    assert contents(reader) == sample.told

    log = open_it(sample.folder)

    assert contents(log) == sample.told
    assert f"the last {len(garbage):,} bytes, from byte {len(sample.files[path])} on" in log.notes[0]
    assert path.read_bytes() == sample.files[path]


def test_a_copy_of_earlier_groups_after_the_last_is_foreign(sample: Sample) -> None:
    path = sample.segments[-1]
    path.write_bytes(sample.files[path] * 2)

    with pytest.raises(LogCorrupt, match=rf"byte {len(sample.files[path])}: the group of frame 7"):
        open_it(sample.folder)


def test_a_last_group_of_which_a_crash_kept_only_later_frames_is_torn_not_damaged(tmp_path: Path) -> None:
    log = open_it(tmp_path)
    groups = append(log, [1], [1, 1, 1])
    log.close()
    (path,) = (tmp_path / "shard-0").glob("*.seg")
    data = bytearray(path.read_bytes())
    begin = group_places(bytes(data))[1] + RECORD_BYTES
    data[begin : begin + HEADER_BYTES] = bytes(HEADER_BYTES)  # a page of the first frame never came to the disk
    path.write_bytes(data)

    log = open_it(tmp_path)

    assert contents(log) == groups[0]
    assert "torn end of a commit" in log.notes[0]


def test_a_torn_group_whose_payload_is_itself_a_log_is_cut(tmp_path: Path) -> None:
    inner = open_it(tmp_path / "inner")
    append(inner, *[[1]] * 9)
    inner.close()
    inside = b"".join(path.read_bytes() for path in sorted((tmp_path / "inner" / "shard-0").glob("*.seg")))
    log = open_it(tmp_path / "outer")
    groups = append(log, [1])
    log.append([log.seal(frame(log.end(), 1, data=[inside]))])
    log.close()
    (path,) = (tmp_path / "outer" / "shard-0").glob("*.seg")
    path.write_bytes(path.read_bytes()[:-4])

    log = open_it(tmp_path / "outer")

    assert contents(log) == flat(groups)


# Segments


def test_a_missing_segment_is_named(sample: Sample) -> None:
    for n, path in enumerate(sample.segments[:-1]):
        sample.restore()
        path.unlink()
        following = re.escape(str(sample.segments[n + 1]))
        for make in (lambda: open_it(sample.folder), lambda: contents(read_directory(sample.folder))):
            with pytest.raises(LogCorrupt, match=rf"{following}: byte 0: the segment with frame {int(path.stem)} is missing"):
                make()


def test_a_missing_last_segment_is_named_where_a_snapshot_knows_it(tmp_path: Path) -> None:
    sample = Sample(tmp_path / "store", snapshot_after=5)
    sample.segments[-1].unlink()

    with pytest.raises(LogCorrupt, match=rf"{re.escape(str(sample.segments[-1]))}: byte 0: this segment is missing"):
        read_directory(sample.folder).end()
    with pytest.raises(LogCorrupt, match=rf"{re.escape(str(sample.segments[-1]))}: byte 0: this segment is missing"):
        open_it(sample.folder)


def test_a_shortened_segment_is_noticed_at_once_where_a_snapshot_knows_it(tmp_path: Path) -> None:
    sample = Sample(tmp_path / "store", snapshot_after=5)
    for path in sample.segments:
        sample.restore()
        path.write_bytes(sample.files[path][:-1])

        with pytest.raises(LogCorrupt, match=rf"{re.escape(str(path))}: byte \d+: this segment has"):
            open_it(sample.folder)


def test_swapped_segments_are_damage(sample: Sample) -> None:
    first, second = sample.segments[:2]
    first.write_bytes(sample.files[second])
    second.write_bytes(sample.files[first])

    for make in (lambda: open_it(sample.folder), lambda: contents(read_directory(sample.folder))):
        with pytest.raises(LogCorrupt, match=rf"{re.escape(str(first))}: byte 0"):
            make()


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_segment_of_another_log_is_damage(sample: Sample, tmp_path: Path, which: int) -> None:
    other = open_directory(tmp_path / "other", name="band", log_id="log2", files=Quick(), segment_bytes=SEGMENT_BYTES)
    append(other, *GROUPS)
    other.close()
    path = sample.segments[which]
    shutil.copy(tmp_path / "other" / "shard-0" / path.name, path)

    for make in (lambda: open_it(sample.folder), lambda: contents(read_directory(sample.folder))):
        with pytest.raises(LogCorrupt, match="does not hold the hash of the frame before it"):
            make()


def test_a_file_that_is_called_as_no_segment_is_named(sample: Sample) -> None:
    (sample.shard / "copy of 0.seg").write_bytes(b"")

    with pytest.raises(LogCorrupt, match=r"copy of 0\.seg: byte 0: a segment is called by"):
        open_it(sample.folder)


@pytest.mark.parametrize("change", ["time", "epoch", "offset", "marks"])
def test_a_frame_that_was_rewritten_with_a_right_checksum_breaks_the_chain(tmp_path: Path, change: str) -> None:
    log = open_it(tmp_path)
    append(log, [1])
    epoch = log.epoch
    good = frame(log.end(), 1)
    bad = {
        "time": lambda: Frame(good.first, 0, good.rows, good.marks),
        "epoch": lambda: Frame(good.first, good.time_us, good.rows, good.marks),
        "offset": lambda: Frame(good.first + 1, good.time_us, good.rows, good.marks),
        "marks": lambda: Frame(good.first, good.time_us, good.rows, {}),
    }[change]()
    at = log.end()
    log._chain.epoch = epoch - 1 if change == "epoch" else epoch
    log._chain.at = Position(at.seq, bad.first, bytes(32) if change == "marks" else at.hash, 0)
    sealed = log._chain.seal(bad)
    log.close()
    (path,) = (tmp_path / "shard-0").glob("*.seg")
    before = path.stat().st_size
    with path.open("ab") as file:
        file.write(encode_record([sealed]) + sealed)

    with pytest.raises(LogCorrupt, match=rf"byte {before}|byte {before + RECORD_BYTES}: "):
        open_it(tmp_path)


# Snapshots


def test_every_byte_of_a_snapshot_that_is_flipped_makes_it_passed_over(tmp_path: Path) -> None:
    sample = Sample(tmp_path / "store", snapshot_after=3)
    (path,) = sample.shard.glob("snapshots/*.snap")
    data = sample.files[path]
    for byte in range(len(data)):
        path.write_bytes(data[:byte] + bytes([data[byte] ^ 0xFF]) + data[byte + 1 :])
        log = open_it(sample.folder)
        assert log.snapshot() is None
        assert log.notes == [f"{path}: this snapshot is damaged and was passed over"]
        assert contents(log) == sample.told
        log.close()


def test_the_snapshot_before_a_damaged_one_is_taken(tmp_path: Path) -> None:
    log = open_it(tmp_path)
    saved = []
    for n in range(4):
        append(log, [1])
        saved.append(Snapshot(log.end(), b"%d" % n))
        log.save(saved[-1])
    log.close()
    older, newer = sorted((tmp_path / "shard-0" / "snapshots").iterdir())
    newer.write_bytes(newer.read_bytes()[:-1])

    log = open_it(tmp_path)

    assert log.snapshot() == read_directory(tmp_path).snapshot() == saved[2]
    assert str(newer) in log.notes[0]
    assert older.name == f"{3:020d}.snap"


def test_a_snapshot_of_another_log_is_passed_over(tmp_path: Path) -> None:
    sample = Sample(tmp_path / "store")
    other = open_directory(tmp_path / "other", name="band", log_id="log2", files=Quick())
    append(other, [1])
    other.save(Snapshot(other.end(), b"state"))
    other.close()
    shutil.copytree(tmp_path / "other/shard-0/snapshots", sample.shard / "snapshots", dirs_exist_ok=True)

    log = open_it(sample.folder)

    assert log.snapshot() is None
    assert contents(log) == sample.told


def test_frames_that_are_not_those_of_the_snapshot_are_damage(tmp_path: Path) -> None:
    """The same places, other events: a store put together of two."""
    for n, name in enumerate(("one", "two")):
        log = open_directory(tmp_path / name, name="band", log_id="log", files=Quick())
        for group in range(3):
            at = log.end()
            sealed = [log.seal(frame(at, 1, data=[bytes([n])])), log.seal(Frame(at.offset + 1, at.time_us + 1, None, {}))]
            log.append(sealed)
            if group == 1:
                middle = Position(3, 2, sha256(sealed[0]).digest(), at.time_us + 1)
        log.save(Snapshot(middle, b"state"))
        log.close()
    (path,) = (tmp_path / "one/shard-0").glob("*.seg")
    shutil.copy(tmp_path / "two/shard-0" / path.name, path)

    with pytest.raises(LogCorrupt, match="are not those of which a snapshot was kept"):
        open_it(tmp_path / "one")


def test_a_cut_below_a_snapshot_inside_of_a_group_is_damage(tmp_path: Path) -> None:
    log = open_it(tmp_path)
    append(log, [1], [1, 1])
    (_, inside, _) = log.frames()
    second = list(log.frames())[2]
    log.save(Snapshot(Position(second.seq, second.first, second.prev, inside.time_us), b"state"))
    log.close()
    (path,) = (tmp_path / "shard-0").glob("*.seg")
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(LogCorrupt, match="the log ends here, but a snapshot was kept of frame 2"):
        open_it(tmp_path)


# The other files


@pytest.mark.parametrize("mask", [0xFF, 0x01])
def test_every_byte_of_the_manifest_that_is_flipped_is_noticed(sample: Sample, mask: int) -> None:
    path = sample.folder / "ensemble.json"
    data = sample.files[path]
    for byte in range(len(data)):
        path.write_bytes(data[:byte] + bytes([data[byte] ^ mask]) + data[byte + 1 :])
        for make in (open_it, read_directory):
            with pytest.raises((LogCorrupt, Unavailable)) as caught:
                make(sample.folder).close()
            if isinstance(caught.value, LogCorrupt):
                assert named(caught.value, path, byte) == "corrupt"


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff\xfe", b'{"format": 1}', b"null"])
def test_a_manifest_that_is_none_is_named(sample: Sample, content: bytes) -> None:
    path = sample.folder / "ensemble.json"
    path.write_bytes(content)

    with pytest.raises(LogCorrupt, match=rf"{re.escape(str(path))}: byte 0: the manifest"):
        open_it(sample.folder)


def test_a_store_without_its_manifest_is_damaged_not_empty(sample: Sample) -> None:
    (sample.folder / "ensemble.json").unlink()

    for make in (open_it, read_directory):
        with pytest.raises(LogCorrupt, match="the manifest is missing"):
            make(sample.folder)


def test_every_byte_of_the_epoch_that_is_flipped_changes_no_event(sample: Sample) -> None:
    path = sample.shard / "epoch"
    data = sample.files[path]
    for byte in range(len(data)):
        for mask in (0xFF, 0x01, 0x02):
            sample.restore()
            path.write_bytes(data[:byte] + bytes([data[byte] ^ mask]) + data[byte + 1 :])
            assert sample.judge(path, byte, lost_at_most=0) in ("whole", "corrupt")


def test_an_epoch_below_that_of_the_last_frame_is_raised_above_it(tmp_path: Path) -> None:
    for _ in range(3):
        log = open_it(tmp_path)
        append(log, [1])
        log.close()
    (tmp_path / "shard-0" / "epoch").unlink()

    log = open_it(tmp_path)

    assert log.epoch == 4
    append(log, [1])
    assert [kept.epoch for kept in log.frames()] == [1, 2, 3, 4]


# While it is read


def test_damage_that_comes_while_a_log_is_open_stops_the_reader_there(tmp_path: Path) -> None:
    log = open_directory(tmp_path, name="band", log_id="log", files=Quick())
    groups = append(log, [1], [1], [1])
    (path,) = (tmp_path / "shard-0").glob("*.seg")
    reader = read_directory(tmp_path)
    assert contents(reader) == flat(groups)
    data = path.read_bytes()
    places = group_places(data)

    for byte in range(places[1], places[2]):
        path.write_bytes(data[:byte] + bytes([data[byte] ^ 0x08]) + data[byte + 1 :])
        for one in (log, reader):
            frames = one.frames()
            assert plain(next(frames)) == groups[0][0]
            with pytest.raises(LogCorrupt, match=rf"byte ({places[1]}|{places[1] + RECORD_BYTES}): "):
                next(frames)
