"""The audit of a log in an object store: every change, removal, swap and truncation of its objects is told."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from obstore.store import MemoryStore

from ensemble.errors import Unavailable
from ensemble.log import Position, Snapshot
from ensemble.log.audit import Audited
from ensemble.log.audit.objects import audit_objects
from ensemble.log.frame import peek
from ensemble.log.group import RECORD_BYTES
from ensemble.log.objects import codec
from ensemble.log.objects.log import ObjectLog, let_go, open_objects
from ensemble.log.objects.merging import merge
from ensemble.log.objects.protocol import Log
from ensemble.log.objects.store import Objects
from tests.log.log_samples import append
from tests.log.test_audit import forged

WHERE = "s3://bucket/band"


class Sample:
    """A small log: a merged block, a later writer, entries of their own, and a snapshot."""

    def __init__(self) -> None:
        self.kept = MemoryStore()
        self.objects = Objects(self.kept, WHERE, pause=lambda seconds: None)
        log = self.open()
        append(log, [2], [1, 0], [3])
        log = self.open()
        append(log, [1, 2])
        log.save(Snapshot(log.end(), b"state"))
        append(log, [1])
        log.close()
        merge(self.objects, Log("log", 4), 0)
        self.files = {path: self.objects.get(path) for path in self.objects.list("")}
        self.head = log._durable.end
        self.end = max(path for path in self.files if path.startswith("log/"))
        """The entry by which the writer said that it had closed the log. There are no frames in it, and nothing hangs on it."""

    def open(self) -> ObjectLog:
        let_go(WHERE)
        return open_objects(self.objects, name="band", log_id="log")

    def restore(self) -> None:
        there = {path: self.objects.get(path) for path in self.objects.list("")}
        for path in there.keys() - self.files.keys():
            self.objects.delete(path)
        for path, data in self.files.items():
            if there.get(path) != data:
                self.objects.put(path, data)

    def audited(self, *known: Position) -> Audited:
        return audit_objects(self.objects, 0, lambda log_id, shard: known)

    def is_noticed(self) -> bool:
        found = self.audited(self.head)
        return bool(found.findings) or found.verdicts[self.head] != "held"


@pytest.fixture
def sample(monkeypatch: pytest.MonkeyPatch) -> Any:
    made = codec.new_manifest
    monkeypatch.setattr(codec, "new_manifest", lambda *given: made(*given)._replace(block=4))
    yield Sample()
    let_go(WHERE)


def test_the_sample_has_a_segment_entries_a_snapshot_and_a_manifest(sample: Sample) -> None:
    kinds = [path.partition("/")[0] for path in sample.files]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {"ensemble.json": 1, "log": 4, "segments": 1, "snapshots": 1}


def test_a_store_that_nobody_touched_is_as_it_was_written(sample: Sample) -> None:
    found = sample.audited(sample.head)

    assert (found.findings, found.notes, found.verdicts) == ([], [], {sample.head: "held"})
    assert (found.id, found.name, found.end) == ("log", "band", sample.head)


def test_places_inside_of_groups_are_known_too(sample: Sample) -> None:
    with_places = list(sample.open().frames())
    places = [Position(f.seq, f.first, f.prev, with_places[f.seq - 1].time_us if f.seq else 0) for f in with_places]

    assert set(sample.audited(*places).verdicts.values()) == {"held"}


@pytest.mark.parametrize("mask", [0x01, pytest.param(0xFF, marks=pytest.mark.everywhere("as the other"))])
def test_every_byte_that_is_changed_is_told_with_its_object(sample: Sample, mask: int) -> None:
    for path, data in sample.files.items():
        for byte in range(len(data)):
            sample.objects.put(path, data[:byte] + bytes([data[byte] ^ mask]) + data[byte + 1 :])
            try:
                findings = sample.audited().findings
            except Unavailable:  # it says that it is of another kind, or of a newer format
                assert path == "ensemble.json"
                continue
            assert [finding for finding in findings if finding.file == f"{WHERE}/{path}"], (path, byte, findings)
        sample.objects.put(path, data)


def test_a_frame_that_was_written_anew_with_the_right_checksums_is_told_by_the_next(sample: Sample) -> None:
    for path in [path for path in sample.files if path.startswith("log/")][1:3]:
        entry = codec.decode_entry(path, sample.files[path])
        length = peek(entry.body, RECORD_BYTES).length
        frame = forged(entry.body[RECORD_BYTES : RECORD_BYTES + length])
        body = entry.body[:RECORD_BYTES] + frame + entry.body[RECORD_BYTES + length :]
        sample.restore()
        sample.objects.put(path, codec.encode_entry(entry._replace(body=body)))

        found = sample.audited(sample.head)

        is_told = any("does not hold the hash of the frame before it" in each.wrong for each in found.findings)
        assert is_told or found.verdicts == {sample.head: "other"}, path


def test_every_truncation_is_told(sample: Sample) -> None:
    for path, data in sample.files.items():
        for size in range(len(data)):
            sample.objects.put(path, data[:size])
            assert sample.is_noticed(), (path, size)
        sample.objects.put(path, data)


def test_every_object_that_is_removed_is_told_but_for_a_snapshot_and_the_mark_of_closing(sample: Sample) -> None:
    for path in sample.files:
        sample.restore()
        sample.objects.delete(path)
        if path == "ensemble.json":
            with pytest.raises(Unavailable, match="there is no store"):
                sample.audited()
        elif not path.startswith("snapshots/") and path != sample.end:
            assert sample.is_noticed(), path


def test_an_entry_that_is_missing_is_told_though_it_looks_like_the_end(sample: Sample) -> None:
    entries = [path for path in sample.files if path.startswith("log/")]
    for path in entries[:2]:
        sample.objects.delete(path)

    found = sample.audited()

    assert found.findings[0].file == f"{WHERE}/{entries[0]}"
    assert "2 entries from here on are missing, and later ones are there" in found.findings[0].wrong
    assert found.end.seq == sample.head.seq, "it went on behind them"


def test_objects_that_change_places_are_told(sample: Sample) -> None:
    paths = [path for path in sample.files if path != "ensemble.json"]
    for one, other in combinations(paths, 2):
        sample.restore()
        sample.objects.put(one, sample.files[other])
        sample.objects.put(other, sample.files[one])
        assert sample.audited().findings, (one, other)


def test_all_that_is_damaged_is_told_not_only_the_first(sample: Sample) -> None:
    entries = [path for path in sample.files if path.startswith("log/")]
    for path in (entries[1], entries[3]):  # that of a group, and that of the end
        sample.objects.put(path, sample.files[path][:-1] + b"\x07")

    told = [(finding.file.removeprefix(f"{WHERE}/"), finding.wrong) for finding in sample.audited().findings]
    assert told == [
        (entries[1], "its checksum does not fit"),
        (entries[2], "frames 4 to 5 are missing"),
        (entries[3], "its checksum does not fit"),
    ]


def test_an_end_that_was_removed_is_seen_by_the_anchor(sample: Sample) -> None:
    entries = [path for path in sample.files if path.startswith("log/")]
    for path in entries[-2:]:
        sample.objects.delete(path)

    found = sample.audited(sample.head)

    assert (found.findings, found.verdicts) == ([], {sample.head: "beyond"})
