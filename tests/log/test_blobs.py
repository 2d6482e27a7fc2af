"""Claim checks: large data lies beside the log, once, and is fetched when somebody looks at it."""

from __future__ import annotations

import threading
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.event import Frame, encode
from ensemble.log import EventLog, Snapshot, blobs_at, open_log, read_log
from ensemble.log import blobs as large
from ensemble.log.base import Removal, Taken
from ensemble.log.blobs import Claim, Claimed, ClaimLog, ClaimReader, DirectoryBlobs
from ensemble.log.directory import open_directory, read_directory
from ensemble.log.forgetting import ForgettingLog, ForgettingReader
from ensemble.log.forgetting.ring import MemoryRing
from ensemble.log.objects import codec
from ensemble.log.objects.log import let_go
from ensemble.score import load
from ensemble.score.personal import personal
from ensemble.score.vocabulary import Vocabulary
from tests.conformance.stand import returns_before
from tests.log.log_samples import Failing, Plug, Quick, contents, frame

LARGE = encode("x" * 5_000)
OTHER = encode("y" * 6_000)
SMALL = encode("small")


@pytest.fixture(params=["memory", "directory", "objects"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return {"memory": f"memory:{request.node.nodeid}", "directory": str(tmp_path / "s"), "objects": f"objects:{tmp_path}/o"}[
        request.param
    ]


def say(log: EventLog, *data: bytes) -> Frame:
    made = frame(log.end(), len(data), data=list(data), extras={0: {"traceparent": "t"}})
    log.append([log.seal(made)])
    return made


def payloads(log: Any) -> list[bytes]:
    return [kept.rows.data[ix] for kept in log.frames() for ix in range(kept.count)]


def blobs_of(store: Path) -> list[Path]:
    return [path for path in store.glob("blobs/*/*") if path.is_file()]


def test_large_data_is_kept_beside_the_log_and_reads_as_if_it_were_in_it(url: str) -> None:
    log = open_log(url, name="band", blob_above=1_000)
    early = read_log(url)
    said = [LARGE, SMALL, OTHER, LARGE, SMALL]

    first = say(log, *said[:3])
    say(log, *said[3:])

    assert first.rows is not None
    assert list(first.rows.data) == said[:3], "who said it has it as it was"
    assert log.size_bytes() < 2_000
    for each in (log, early, read_log(url)):
        assert payloads(each) == said
        assert each.frame_at(3).rows.data[0] == LARGE  # type: ignore[union-attr]
        assert [kept.rows.extras for kept in each.rows()] == [{0: {"traceparent": "t"}}] * 2  # type: ignore[union-attr]
        assert next(each.rows()).rows.pick([1, 2]).data == [SMALL, OTHER]  # type: ignore[union-attr]
        assert list(next(each.rows()).rows.between(1, 3).data) == [SMALL, OTHER]  # type: ignore[union-attr]
    log.close()
    log = open_log(url, name="band")  # a score that says nothing of it any more
    assert payloads(log) == said
    say(log, LARGE)
    assert log.size_bytes() > 5_000
    assert payloads(read_log(url)) == [*said, LARGE]
    log.close()


def test_the_same_data_is_kept_once_and_not_looked_at_before_somebody_does(tmp_path: Path) -> None:
    log = open_log(str(tmp_path), name="band", blob_above=1_000)
    for _ in range(3):
        say(log, LARGE, SMALL)
    [path] = blobs_of(tmp_path)
    assert path.name == sha256(LARGE).hexdigest()
    assert path.read_bytes() == LARGE
    assert '"format": 2' in (tmp_path / "ensemble.json").read_text()

    path.unlink()

    kept = next(read_log(str(tmp_path)).rows())
    assert kept.rows is not None
    assert (kept.rows.keys[0], kept.rows.data[1]) == ("o-0", SMALL)
    with pytest.raises(LogCorrupt, match=f"{path.name}: this data is missing"):
        _ = kept.rows.event(0).data
    path.write_bytes(LARGE[:-1])
    with pytest.raises(LogCorrupt, match=f"{path.name}: this data was changed"):
        _ = kept.rows.event(0).data


def test_it_can_be_got_without_the_log_by_who_reaches_the_store(url: str) -> None:
    log = open_log(url, name="band", blob_above=1_000)
    say(log, LARGE, SMALL)
    log.close()

    blobs = blobs_at(url)

    if url.startswith("memory:"):  # that is the business of its own process
        assert blobs is None
        return
    assert blobs is not None
    assert blobs.get(sha256(LARGE).digest()) == LARGE
    with pytest.raises(LogCorrupt, match="missing"):
        blobs.get(sha256(OTHER).digest())


def test_data_is_durable_before_the_frame_that_names_it(tmp_path: Path) -> None:
    for step in range(1, 200):
        folder = tmp_path / str(step)
        inner = open_directory(folder, name="band", log_id="log", files=Quick())
        say(inner, SMALL)
        disk = Failing(step, None)
        inner._files = disk
        log = ClaimLog(inner, DirectoryBlobs(folder, disk), 1_000)
        try:
            say(log, LARGE, OTHER)
        except Plug:
            inner.close()
            found = payloads(read_log(str(folder)))
            assert found in ([SMALL], [SMALL, LARGE, OTHER])
        else:
            assert disk.done > 8
            inner.close()
            return


def test_a_log_whose_data_could_not_be_put_away_takes_no_more(tmp_path: Path) -> None:
    class Full(DirectoryBlobs):
        def put(self, digest: bytes, data: bytes) -> None:
            raise Unavailable("the disk is full")

    inner = open_directory(tmp_path, name="band", log_id="log")
    log = ClaimLog(inner, Full(tmp_path), 1_000)
    sealed = [log.seal(frame(log.end(), 1, data=[LARGE]))]

    for why in ("the disk is full", "the disk is full; this log takes no more until it is opened again"):
        with pytest.raises(Unavailable, match=f"^{why}$"):
            log.append(sealed)

    assert payloads(read_log(str(tmp_path))) == []
    log.close()


def test_what_nothing_names_any_more_is_swept_away(tmp_path: Path) -> None:
    inner = open_directory(tmp_path, name="band", log_id="log", files=Quick(), segment_bytes=400)
    log = ClaimLog(inner, DirectoryBlobs(tmp_path, Quick()), 1_000)
    many = [encode(f"{n}" * 3_000) for n in range(1, 9)]
    for data in many:
        say(log, data, SMALL, LARGE)
    for _ in range(2):
        say(log, SMALL)
        log.save(Snapshot(log.end(), b"state"))
    say(log, OTHER)
    DirectoryBlobs(tmp_path).put(sha256(b"orphan").digest(), b"orphan")  # of a writer that died before its frame was there
    packing = log.packing()
    assert packing is not None
    parts = packing.parts()[:3]
    kept_offset = parts[0].first  # somebody needs it
    gone = [kept for part in parts for kept in packing.frames(part)]

    def choose(kept: Frame) -> Taken:
        return Taken([0] if kept.first == kept_offset else [], has_marks=False)

    removal = Removal("retain: {time: 1d}", 0, 0, parts[-1].end, 1)
    packing.put(packing.pack(parts, choose, lambda: [removal], state=lambda: b"\x80"))
    packing.sweep()

    left = {path.name for path in blobs_of(tmp_path)}
    names = [sha256(data).hexdigest() for data in many]
    assert left == {names[0], *names[len(gone) :], sha256(LARGE).hexdigest(), sha256(OTHER).hexdigest()}
    assert log.frame_at(kept_offset).rows.data[0] == many[0]  # type: ignore[union-attr]
    assert len(contents(log)) == len(many) + 3 - len(gone)
    log.close()


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of few frames."""
    monkeypatch.setattr("ensemble.log.memory_packing.PART_BYTES", 400)
    monkeypatch.setitem(open_directory.__kwdefaults__ or {}, "segment_bytes", 400)
    made = codec.new_manifest
    monkeypatch.setattr(codec, "new_manifest", lambda *given: made(*given)._replace(block=3))


def begin_later(log: EventLog, count: int, *needed: int) -> int:
    """Have a log begin after so many parts, and sweep. At which offset it begins comes back."""
    packing = log.packing()
    assert packing is not None
    parts = packing.parts()[:count]

    def choose(kept: Frame) -> Taken:
        return Taken([offset - kept.first for offset in needed if kept.first <= offset < kept.end], has_marks=False)

    removal = Removal("retain: {time: 1d}", 0, 0, parts[-1].end, 1)
    packing.put(packing.pack(parts, choose, lambda: [removal], state=lambda: b"\x80"))
    packing.sweep()
    return log.begin().offset


@pytest.mark.usefixtures("_small")
def test_what_went_takes_its_large_data_along_in_every_kind_of_store(url: str) -> None:
    log = open_log(url, name="band", blob_above=1_000)
    many = [encode(f"{n}" * 3_000) for n in range(1, 13)]
    for data in many:
        say(log, data, SMALL)
    for _ in range(2):
        say(log, SMALL)
        log.save(Snapshot(log.end(), b"state"))
    say(log, OTHER)

    begin = begin_later(log, 2, 2)

    assert begin > 4
    left = {sha256(data).digest() for data in [many[1], *many[begin // 2 :], OTHER]}
    assert {digest for digest, _ in log._blobs.copies()} == left  # type: ignore[attr-defined]
    log.close()
    log = open_log(url, name="band", blob_above=1_000)
    assert log.frame_at(2).rows.data[0] == many[1]  # type: ignore[union-attr]
    assert payloads(log)[: 2 * len(many) - begin : 2] == many[begin // 2 :]
    assert payloads(log) == payloads(read_log(url))
    log.close()


@pytest.mark.usefixtures("_small")
def test_a_sweep_that_stalls_until_its_writer_was_replaced_takes_nothing_that_was_said_since(tmp_path: Path) -> None:
    url = f"objects:{tmp_path}"
    old = open_log(url, name="band", blob_above=1_000)
    for _ in range(6):
        say(old, LARGE)
    for _ in range(4):
        say(old, SMALL)
        old.save(Snapshot(old.end(), b"state"))
    blobs = old._blobs  # type: ignore[attr-defined]
    drop, woken = blobs.drop, []

    def stall(digest: bytes, epoch: int = 0) -> None:
        """Another takes the log over, and says the same again, before this one goes on."""
        let_go(url)
        new = open_log(url, name="band", blob_above=1_000)
        say(new, LARGE)
        woken.append(new)
        drop(digest, epoch)

    blobs.drop = stall
    begin_later(old, 3)

    [new] = woken
    assert payloads(new)[-1] == payloads(read_log(url))[-1] == LARGE
    assert len(list(blobs.copies())) == 1
    new.close()


def test_data_that_was_put_away_before_epochs_were_in_its_name_is_found(tmp_path: Path) -> None:
    url = f"objects:{tmp_path}"
    for _ in range(2):  # each writer has it under its own epoch
        log = open_log(url, name="band", blob_above=1_000)
        say(log, LARGE, OTHER)
        log.close()
    names = sorted(path.name for path in (tmp_path / "blobs").iterdir())
    assert len(names) == 4
    for name in names:
        path = tmp_path / "blobs" / name
        path.rename(path.with_suffix(""))

    assert payloads(read_log(url)) == [LARGE, OTHER] * 2
    log = open_log(url, name="band", blob_above=1_000)
    assert payloads(log) == [LARGE, OTHER] * 2
    log.close()
    for path in (tmp_path / "blobs").iterdir():
        path.write_bytes(b"other")
    with pytest.raises(LogCorrupt, match="was changed"):
        payloads(read_log(url))
    for path in (tmp_path / "blobs").iterdir():
        path.unlink()
    with pytest.raises(LogCorrupt, match="this data is missing"):
        payloads(read_log(url))


def test_what_is_said_while_it_is_swept_stays(tmp_path: Path) -> None:
    inner = open_directory(tmp_path, name="band", log_id="log", files=Quick())

    class Late(DirectoryBlobs):
        def drop(self, digest: bytes, epoch: int = 0) -> None:
            raise AssertionError("it is named")

    blobs = Late(tmp_path, Quick())
    log = ClaimLog(inner, blobs, 1_000)
    blobs.put(sha256(LARGE).digest(), LARGE)  # an orphan, until it is said again
    packing = log.packing()
    assert packing is not None
    frames = inner.frames
    listed = iter(list(frames()))  # what a sweep sees, that looked before it was said
    inner.frames = lambda seq=0: (say(log, LARGE), listed)[1]  # type: ignore[method-assign]

    packing.sweep()

    inner.frames = frames  # type: ignore[method-assign]
    assert payloads(log) == [LARGE]
    log.close()


def test_a_column_is_fetched_row_by_row() -> None:
    asked: list[int] = []

    def fetch(claim: Claim) -> bytes:
        asked.append(claim.offset)
        return claim.digest * 2

    claims = {row: Claim(digest, 2, b"", 10 + row) for row, digest in ((1, b"B"), (3, b"D"))}
    column = Claimed([b"a", b"", b"c", b""], claims, fetch)

    assert (len(column), column[0], column[-2], asked) == (4, b"a", b"c", [])
    assert (column[1], column[-1], asked) == (b"BB", b"DD", [11, 13])
    assert column[0:1] == [b"a"]
    assert list(column[1:]) == [b"BB", b"c", b"DD"]
    assert column.bare() == [b"a", b"", b"c", b""]
    assert len(asked) == 4


class Counted(DirectoryBlobs):
    """Counts what is fetched."""

    got = 0

    def get(self, digest: bytes) -> bytes:
        self.got += 1
        return super().get(digest)


def test_what_was_put_away_last_is_at_hand_and_what_is_not_durable_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large, "RECENT_BYTES", 12_000)
    blobs = Counted(tmp_path, Quick())
    log = ClaimLog(open_directory(tmp_path, name="band", log_id="log", files=Quick()), blobs, 1_000)
    many = [encode(f"{n}" * 5_000) for n in range(6)]

    said = [say(log, data) for data in many]
    seen = [kept.rows.data[0] for kept in reversed(said)]  # type: ignore[union-attr]

    assert (seen, blobs.got) == (many[::-1], 4), "the last two were at hand"
    sealed, at = [], log.end()
    for _ in range(3):
        made = frame(at, 1, data=[many[0] + b"not yet"])
        sealed.append(log.seal(made))
        at = at._replace(seq=made.seq + 1, offset=made.end, time_us=made.time_us)
        assert made.rows is not None
        assert made.rows.data[0] == many[0] + b"not yet"
    assert blobs.got == 4
    log.append(sealed)
    assert log._recent._size <= 12_000
    log.close()


def test_who_seals_a_frame_does_not_wait_for_data_to_be_put_away(tmp_path: Path) -> None:
    began, goes_on = threading.Event(), threading.Event()

    class Slow(DirectoryBlobs):
        def put(self, digest: bytes, data: bytes) -> None:
            began.set()
            assert goes_on.wait(20)
            super().put(digest, data)

    log = ClaimLog(open_directory(tmp_path, name="band", log_id="log"), Slow(tmp_path), 1_000)
    first = frame(log.end(), 1, data=[LARGE])
    appending = threading.Thread(target=log.append, args=([log.seal(first)],))
    appending.start()
    assert began.wait(20)
    second = frame(log.end()._replace(seq=1, offset=1, time_us=first.time_us), 1, data=[OTHER])
    sealed: list[bytes] = []
    is_back = returns_before(lambda: sealed.append(log.seal(second)), goes_on)
    appending.join(20)

    assert is_back
    log.append(sealed)
    assert payloads(log) == [LARGE, OTHER]
    log.close()


# Of people


def people() -> Any:
    score = load({"ensemble": 1, "name": "band", "events": {"order.placed": {"personal": {"subject": "key"}}}})
    return personal(score, Vocabulary(score))


def test_what_is_encrypted_is_fetched_only_when_it_is_looked_at_and_its_frame_tells_whether_it_is_forgotten(
    tmp_path: Path,
) -> None:
    ring = MemoryRing()
    inner = open_directory(tmp_path, name="band", log_id="log", files=Quick())
    log = ForgettingLog(ClaimLog(inner, DirectoryBlobs(tmp_path, Quick()), 1_000), ring, people())
    first = say(log, LARGE, SMALL)
    say(log, OTHER, LARGE)
    assert first.rows is not None
    assert list(first.rows.data) == [LARGE, SMALL]
    assert all(LARGE[10:] not in path.read_bytes() for path in blobs_of(tmp_path))
    assert len(blobs_of(tmp_path)) == 3, "two people have the same data, encrypted each with a key of their own"
    blobs = Counted(tmp_path)
    reader = ForgettingReader(ClaimReader(read_directory(tmp_path), blobs), ring)

    kept = [event for each in reader.rows() if each.rows for event in map(each.rows.event, range(2))]
    told = [(event.topic, event.key, event.time.year, event.forgotten) for event in kept]

    assert blobs.got == 0
    assert told == [("order.placed", f"o-{n}", 1970, False) for n in range(4)]
    assert [event.payload for event in kept] == [LARGE, SMALL, OTHER, LARGE]
    assert blobs.got == 3
    assert log.forget("o-0") == 1
    kept = [event for each in reader.rows() if each.rows for event in map(each.rows.event, range(2))]
    assert [event.forgotten for event in kept] == [True, False, False, False]
    assert blobs.got == 3
    assert [event.data for event in kept][:2] == ["(forgotten)", "small"]
    log.close()


def test_a_frame_of_before_that_does_not_say_whether_its_data_is_encrypted_is_read_all_the_same(tmp_path: Path) -> None:
    ring = MemoryRing()
    inner = open_directory(tmp_path, name="band", log_id="log", files=Quick())
    log = ForgettingLog(ClaimLog(inner, DirectoryBlobs(tmp_path, Quick()), 1_000), ring, people())
    say(log, LARGE)
    [named] = [kept.rows.extras[0]["blob"] for kept in inner.frames()]  # type: ignore[union-attr, index]
    old = frame(log.end(), 2, data=[b"", SMALL], extras={0: {"blob": named[:2]}})
    inner.append([inner.seal(old)])

    assert payloads(log) == [LARGE, LARGE, SMALL]
    log.forget("o-0")
    assert [kept.rows.event(0).forgotten for kept in log.rows()] == [True, True]  # type: ignore[union-attr]
    log.close()


def test_data_that_went_since_its_event_was_read_is_told_in_every_kind_of_store(url: str) -> None:
    log = open_log(url, name="band", blob_above=1_000)
    say(log, LARGE)
    log.close()
    reader = read_log(url)
    read = reader.frame_at(0)
    blobs: Any = reader._blobs  # type: ignore[attr-defined]
    for digest, epoch in list(blobs.copies()):
        blobs.drop(digest, epoch)

    assert read.rows is not None
    with pytest.raises(LogCorrupt, match="this data is missing"):
        read.rows.data[0]
