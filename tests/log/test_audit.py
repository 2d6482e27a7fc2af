"""The audit of a log: every change, removal, swap and truncation is told, and what is behind damage is looked at too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from zlib import crc32

import pytest

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.event import Frame
from ensemble.log import Position, Snapshot, open_log
from ensemble.log.audit import Audited, audit_log
from ensemble.log.audit.directory import audit_directory
from ensemble.log.base import Removal, Taken, genesis
from ensemble.log.chain import Chain
from ensemble.log.directory import open_directory
from ensemble.log.frame import peek
from ensemble.log.group import RECORD_BYTES, encode_record, peek_record
from ensemble.log.memory import memory_store
from ensemble.log.pack import MemorySource, Pack
from ensemble.log.retention import statement
from tests.log.log_samples import Quick, append, frame
from tests.log.test_corruption import Sample


def audited(sample: Sample, *known: Position) -> Audited:
    return audit_directory(sample.folder, 0, lambda log_id, shard: known)


def is_noticed(found: Audited) -> bool:
    """Whether it is told; or the places that were known are not there any more."""
    return bool(found.findings) or any(verdict != "held" for verdict in found.verdicts.values())


def head_of(sample: Sample) -> Position:
    return audited(sample).end


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return Sample(tmp_path / "store", snapshot_after=3)


# Whole


def test_a_store_that_nobody_touched_is_as_it_was_written(sample: Sample) -> None:
    found = audited(sample)

    assert found.findings == [] and found.notes == []
    assert (found.id, found.name, found.shard) == ("log", "band", 0)
    assert found.end.seq == len(sample.told)
    assert found.bytes == sum(len(sample.files[path]) for path in sample.segments)


def test_a_store_without_frames_is_as_it_was_written(tmp_path: Path) -> None:
    open_directory(tmp_path, name="band", log_id="log", files=Quick()).close()

    found = audit_directory(tmp_path, 0, lambda log_id, shard: [Position(0, 0, genesis("log", 0), 0)])

    assert found.findings == []
    assert list(found.verdicts.values()) == ["held"]


def test_where_there_is_no_store_there_is_nothing_to_audit(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="there is no store"):
        audit_directory(tmp_path, 0, lambda log_id, shard: ())


def test_the_log_goes_through_each_place_at_which_it_ever_was(tmp_path: Path) -> None:
    log = open_directory(tmp_path, name="band", log_id="log", files=Quick(), segment_bytes=300)
    chain = Chain(log.end(), log.epoch)  # as the log's own, to know the places inside of a group
    places = [chain.at]
    for group in ([1], [2, 1, 0], [1], [3, 1]):
        sealed = []
        for count in group:
            sealed.append(log.seal(frame(chain.at, count)))
            assert chain.seal(frame(chain.at, count)) == sealed[-1]
            places.append(chain.at)
        log.append(sealed)
    log.close()

    found = audit_directory(tmp_path, 0, lambda log_id, shard: places)

    assert set(found.verdicts.values()) == {"held"} and len(found.verdicts) == len(places)


# Changed


@pytest.mark.parametrize(
    "mask", [0x80, *(pytest.param(mask, marks=pytest.mark.everywhere("as the other")) for mask in (0x01, 0xFF))]
)
def test_every_byte_that_is_changed_is_told_with_its_file_and_a_byte_at_or_before_it(sample: Sample, mask: int) -> None:
    looked_at = [path for path in sample.files if path.suffix in (".seg", ".snap") or path.name == "ensemble.json"]
    assert len(looked_at) == 5
    for path in looked_at:
        data = sample.files[path]
        for byte in range(len(data)):
            sample.restore()
            path.write_bytes(data[:byte] + bytes([data[byte] ^ mask]) + data[byte + 1 :])

            findings = audited(sample).findings

            assert [f for f in findings if f.file == str(path) and f.byte <= byte], (path, byte, findings)


def test_an_epoch_that_is_changed_is_told_unless_it_is_only_higher(sample: Sample) -> None:
    path = sample.shard / "epoch"
    data = sample.files[path]
    for byte in range(len(data)):
        for value in set(range(256)) - {data[byte]}:
            changed = data[:byte] + bytes([value]) + data[byte + 1 :]
            path.write_bytes(changed)
            is_higher = changed.strip().isdigit() and changed.endswith(b"\n") and int(changed) > int(data)
            assert bool(audited(sample).findings) != is_higher, changed


def test_all_that_is_damaged_is_told_not_only_the_first(sample: Sample) -> None:
    first, second, third = sample.segments
    for path, byte in ((first, 60), (second, RECORD_BYTES + 90)):
        data = sample.files[path]
        path.write_bytes(data[:byte] + b"\xc1" + data[byte + 1 :])

    found = audited(sample)

    assert [finding.file for finding in found.findings] == [str(first), str(second)]
    assert "frame 0 is not to be trusted" in found.findings[0].wrong
    assert found.end.seq == len(sample.told), "it went on to the end"
    assert third.exists()


# Removed, and in another order


def test_every_file_that_is_removed_is_told_but_for_a_snapshot_and_the_last_segment_that_an_anchor_tells(
    tmp_path: Path,
) -> None:
    sample = Sample(tmp_path / "store")
    head = head_of(sample)
    for path in sample.files:
        if path.name == "lock":
            continue
        sample.restore()
        path.unlink()
        if path.name == "ensemble.json":
            assert "manifest is missing" in audited(sample, head).findings[0].wrong
        else:
            assert is_noticed(audited(sample, head)), path


def test_a_snapshot_tells_of_an_end_that_is_missing(tmp_path: Path) -> None:
    sample = Sample(tmp_path / "store", snapshot_after=5)
    sample.segments[-1].unlink()

    [finding] = audited(sample).findings

    assert "its end is missing" in finding.wrong


@pytest.mark.parametrize("change", ["remove", "repeat", "swap"])
def test_groups_that_are_removed_repeated_or_swapped_are_told(sample: Sample, change: str) -> None:
    head = head_of(sample)
    for path, places in sample.places.items():
        data = sample.files[path]
        groups = [data[begin:end] for begin, end in pairwise(places)]
        for changed in _changed(groups, change):
            sample.restore()
            path.write_bytes(b"".join(changed))
            found = audited(sample, head)
            assert is_noticed(found) or found.notes, (
                path,
                change,
            )  # behind the end of a finished segment it is no part of the log


@pytest.mark.parametrize("change", ["remove", "repeat", "swap"])
def test_frames_that_are_removed_repeated_or_swapped_are_told_though_their_group_says_so_too(
    sample: Sample, change: str
) -> None:
    head = head_of(sample)
    tried = 0
    for path, places in sample.places.items():
        data = sample.files[path]
        for begin, end in pairwise(places):
            for changed in _changed(_frames(data[begin:end]), change):
                sample.restore()
                group = encode_record(changed) + b"".join(changed) if changed else b""
                path.write_bytes(data[:begin] + group + data[end:])
                assert is_noticed(audited(sample, head)), (path, begin)
                tried += 1
    assert tried >= 2


def test_a_frame_that_was_written_anew_with_the_right_checksum_is_told_by_the_next(sample: Sample) -> None:
    head = head_of(sample)
    tried = 0
    for path, places in sample.places.items():
        data = sample.files[path]
        for begin, end in pairwise(places):
            frames = _frames(data[begin:end])
            for ix, one in enumerate(frames):
                sample.restore()
                changed = [*frames[:ix], forged(one), *frames[ix + 1 :]]
                path.write_bytes(data[:begin] + encode_record(changed) + b"".join(changed) + data[end:])
                found = audited(sample, head)
                if end == len(data) and path == sample.segments[-1] and ix + 1 == len(frames):
                    assert (found.findings, found.verdicts) == ([], {head: "other"}), "only the anchor has its hash"
                else:
                    assert "does not hold the hash of the frame before it" in found.findings[0].wrong
                tried += 1
    assert tried == len(sample.told)


def test_segments_that_change_places_are_told(sample: Sample) -> None:
    for one, other in ((0, 1), (1, 2), (0, 2)):
        sample.restore()
        a, b = sample.segments[one], sample.segments[other]
        a.write_bytes(sample.files[b])
        b.write_bytes(sample.files[a])
        assert audited(sample).findings


def test_a_frame_of_another_log_is_told(tmp_path: Path) -> None:
    Sample(tmp_path / "store")
    other = open_directory(tmp_path / "other", name="band", log_id="other", files=Quick(), segment_bytes=300)
    append(other, [2], [1, 0], [3], [1], [0, 1])
    other.close()
    for path in (tmp_path / "other/shard-0").glob("*.seg"):
        (tmp_path / "store/shard-0" / path.name).write_bytes(path.read_bytes())

    found = audit_directory(tmp_path / "store", 0, lambda log_id, shard: ())

    assert found.findings


# Cut off, and written anew


def test_every_truncation_is_told_by_the_bytes_or_by_the_head_that_is_known(sample: Sample) -> None:
    head = head_of(sample)
    for path in (*sample.segments, *(p for p in sample.files if p.suffix == ".snap"), sample.folder / "ensemble.json"):
        data = sample.files[path]
        for size in range(len(data)):
            sample.restore()
            path.write_bytes(data[:size])
            assert is_noticed(audited(sample, head)), (path, size)


def test_an_end_that_is_cut_off_between_groups_is_seen_by_an_anchor_alone(tmp_path: Path) -> None:
    sample = Sample(tmp_path / "store")
    head = head_of(sample)
    sample.segments[-1].write_bytes(b"")

    found = audited(sample, head)

    assert found.findings == []
    assert found.verdicts == {head: "beyond"}


def test_a_log_that_was_written_anew_from_a_place_on_is_seen_by_an_anchor_alone(sample: Sample, tmp_path: Path) -> None:
    log = open_directory(tmp_path / "forged", name="band", log_id="log", files=Quick(), segment_bytes=300)
    append(log, [2])
    before = log.end()
    kept, made = head_of(sample), Frame(before.offset, before.time_us + 1, None, {"heard": {"q": [1]}})
    log.append([log.seal(made)])
    log.close()

    found = audit_directory(tmp_path / "forged", 0, lambda log_id, shard: [before, kept])

    assert found.findings == []
    assert found.verdicts == {before: "held", kept: "beyond"}
    other = before._replace(seq=2, hash=b"\x00" * 32)
    assert audit_directory(tmp_path / "forged", 0, lambda log_id, shard: [other]).verdicts == {other: "other"}


def test_a_place_that_damage_hides_is_told_as_such(sample: Sample) -> None:
    data = sample.files[sample.segments[0]]
    sample.segments[0].write_bytes(data[:50] + b"\xc1" + data[51:])
    at = Position(1, 2, b"?" * 32, 1)

    assert audited(sample, at).verdicts == {at: "unread"}


def test_what_a_replaced_writer_left_behind_a_finished_segment_is_a_note(sample: Sample) -> None:
    path = sample.segments[0]
    path.write_bytes(sample.files[path] + b"late")

    found = audited(sample)

    assert found.findings == []
    assert "4 bytes from byte" in found.notes[0]


def test_a_snapshot_of_other_frames_is_told_though_its_checksum_holds(tmp_path: Path) -> None:
    sample = Sample(tmp_path / "store")
    log = open_directory(sample.folder, name="band", log_id="log", files=Quick())
    log.save(Snapshot(log.end()._replace(hash=b"\x07" * 32), b"state"))
    log.close()

    [finding] = audited(sample).findings

    assert finding.file.endswith(".snap") and "not those of which this snapshot was kept" in finding.wrong


def test_a_snapshot_under_the_name_of_another_is_told(sample: Sample) -> None:
    [path] = sample.shard.glob("snapshots/*.snap")
    path.rename(path.with_stem("0" * 20))

    assert "named after another" in audited(sample).findings[0].wrong


# In memory


def test_a_log_in_memory_is_audited_too() -> None:
    log = open_log("memory:audited", name="band")
    append(log, [2], [1, 0])
    log.close()
    head = log._store.held.ends[-1]  # type: ignore[attr-defined]

    found = audit_log("memory:audited", known=lambda log_id, shard: [head])
    assert (found.findings, found.verdicts, found.end) == ([], {head: "held"}, head)

    store = memory_store("audited")
    assert store is not None
    data = store.held.data
    data[1] = data[1][:-1] + bytes([data[1][-1] ^ 1])
    found = audit_log("memory:audited")
    assert "frame 1" in found.findings[0].file


def forged(frame: bytes) -> bytes:
    """A frame that says something else, its checksum made to fit."""
    data = bytearray(frame)
    data[-1] ^= 0x01
    data[7:11] = crc32(memoryview(data)[11:]).to_bytes(4, "big")
    return bytes(data)


def _changed(parts: Sequence[bytes], how: str) -> Iterator[list[bytes]]:
    """The parts with one of them removed, there twice, or in another's place."""
    for i in range(len(parts)):
        if how == "remove":
            yield [*parts[:i], *parts[i + 1 :]]
        elif how == "repeat":
            yield [*parts[: i + 1], *parts[i:]]
        elif i:
            yield [*parts[: i - 1], parts[i], parts[i - 1], *parts[i + 1 :]]


def _frames(group: bytes) -> list[bytes]:
    record, frames, byte = peek_record(group), [], RECORD_BYTES
    assert record is not None
    for _ in range(record.frames):
        length = peek(group, byte).length
        frames.append(group[byte : byte + length])
        byte += length
    return frames


def test_a_pack_in_memory_that_was_changed_is_told_and_stops_who_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ensemble.log.memory_packing.PART_BYTES", 300)
    log = open_log("memory:packed", name="band")
    append(log, *([2] for _ in range(9)))
    for _ in range(2):
        append(log, [1])
        log.save(Snapshot(log.end(), b"state"))
    packing = log.packing()
    assert packing is not None
    removal = Removal("odd", 5, 0, 9, 1)
    made = packing.pack([packing.parts()[1]], lambda kept: Taken([0], has_marks=True), lambda: [removal])
    at = log.end()
    log.append([log.seal(Frame(at.offset, at.time_us, None, {"removed": [statement(made)]}))])
    packing.put(made)
    assert audit_log("memory:packed").findings == []
    store = memory_store("packed")
    assert store is not None
    [pack] = store.held.packs

    changed = made.data[:-1] + bytes([made.data[-1] ^ 1])
    store.held.packs = (Pack(MemorySource(str(pack.path), changed), store.id, store.shard),)

    [finding] = audit_log("memory:packed").findings
    assert (finding.file, "its checksum fails" in finding.wrong) == (pack.path, True)
    with pytest.raises(LogCorrupt, match="its checksum fails"):
        list(log.frames())
    log.close()
