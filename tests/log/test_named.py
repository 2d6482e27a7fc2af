"""The audit of what lies beside a log: data that events name, found without reading the frames that name none."""

from __future__ import annotations

from pathlib import Path

import pytest

from ensemble.errors import LogCorrupt, OffsetError
from ensemble.event import Frame, Rows, encode
from ensemble.log import open_log
from ensemble.log.audit import Audited, audit_log
from ensemble.log.audit.named import Named
from ensemble.log.base import EventLog
from ensemble.log.blobs import Beside, DirectoryBlobs, MemoryBlobs
from ensemble.log.frame import encode as encode_frame
from ensemble.log.group import encode_record
from ensemble.log.memory import memory_store
from ensemble.log.objects.blobs import ObjectBlobs
from ensemble.log.objects.store import objects_at
from tests.log.log_samples import frame

LARGE = [encode(f"{n}" * 3_000) for n in range(3)]
SMALL = encode({"blob": "a word that is no name of data"})


@pytest.fixture(params=["memory", "directory", "objects"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return {"memory": f"memory:{tmp_path}", "directory": f"{tmp_path}/s", "objects": f"objects:{tmp_path}/o"}[request.param]


@pytest.fixture
def log(url: str) -> EventLog:
    """One with large data in every other event; the first is said twice."""
    log = open_log(url, name="band", blob_above=1_000)
    for data in (*LARGE, LARGE[0]):
        log.append([log.seal(frame(log.end(), 2, data=[SMALL, data]))])
    return log


def beside(url: str) -> Beside:
    if url.startswith("memory:"):
        store = memory_store(url.removeprefix("memory:"))
        assert store is not None
        return MemoryBlobs(store.blobs)
    return ObjectBlobs(objects_at(url)) if url.startswith("objects:") else DirectoryBlobs(Path(url))


def change(url: str, where: str, data: bytes | None) -> None:
    """Put something else where data lies, or nothing."""
    if url.startswith("memory:"):
        store = memory_store(url.removeprefix("memory:"))
        assert store is not None
        digest = bytes.fromhex(where.split()[1])
        if data is None:
            del store.blobs[digest]
        else:
            store.blobs[digest] = data
        return
    path = Path(where.removeprefix("objects:"))
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)


def test_each_that_is_changed_or_missing_is_told_with_the_first_event_that_has_it(url: str, log: EventLog) -> None:
    whole = list(beside(url).lying())
    assert sorted(data for _, _, data in whole) == LARGE
    assert (audit_log(url).findings, audit_log(url).notes) == ([], [])
    for digest, where, data in whole:
        offset = 2 * LARGE.index(data) + 1
        for other, wrong in ((b"something else", "was changed"), (None, "is missing")):
            change(url, where, other)
            [finding] = audit_log(url).findings
            assert finding.wrong == f"this data {wrong}, and the event with offset {offset} has it"
            assert digest.hex() in finding.file
        if not url.startswith("objects:"):
            assert finding.file == where
        change(url, where, data)
    assert audit_log(url).findings == []


def test_what_no_event_has_is_a_note_unless_it_was_changed(url: str, log: EventLog) -> None:
    [digest, where, _] = next(iter(beside(url).lying()))
    other = where.replace(digest.hex(), "ab" * 32)
    if not url.startswith(("memory:", "objects:")):
        Path(url, "blobs/ab").mkdir(exist_ok=True)
        other = f"{url}/blobs/ab/{'ab' * 32}"
        Path(url, "blobs/letters.txt").write_text("none of ours")
        Path(url, "blobs/ab/letters.txt").write_text("none of ours")
    change(url, other, b"left over")

    found = audit_log(url)

    assert [finding.wrong for finding in found.findings] == ["this data was changed, and no event has it"]
    assert found.notes[0].startswith(f"{other}: no event has this data")


def test_frames_are_looked_into_only_where_they_may_name_data() -> None:
    def of(*rows: Rows | None) -> list[bytes]:
        return [encode_frame(Frame(7, 0, each, {}, 1, 1, bytes(32))) for each in rows]

    naming = Rows("log", 0, 7, 0, ["a"], 0, ["k"], [b""], ["/x"], 0, extras={0: {"blob": [bytes(32), 9]}})
    saying = Rows("log", 0, 7, 0, ["a"], 0, ["k"], [SMALL], ["/x"], 0)
    frames = of(None, saying, naming, None, naming, saying)
    groups = b"".join(encode_record(group) + b"".join(group) for group in (frames[:3], frames[3:]))
    for data in (b"".join(frames), groups):
        named = Named("log", 0)
        named.note(b"??" + data + b"blob", 2, 2 + len(data))
        assert named._events == {bytes(32): 7}


def test_data_that_retention_swept_away_while_an_audit_read_is_no_fault(tmp_path: Path) -> None:
    def gone(offset: int) -> Frame:
        raise OffsetError(f"retention took {offset}")

    def damaged(offset: int) -> Frame:
        raise LogCorrupt("told elsewhere")

    named = Named("log", 0)
    named._events[bytes(32)] = 7
    for frame_at, told in ((gone, 0), (damaged, 1), (lambda offset: Frame(offset, 0, None, {}), 1)):
        found = Audited(findings=[], notes=[])
        named.judge(DirectoryBlobs(tmp_path), frame_at, found)
        assert (len(found.findings), found.notes) == (told, [])
