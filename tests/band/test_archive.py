"""A band that archives what its score lets go: who reads the archive, who audits both, and what a refusal comes to."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

import ensemble
from ensemble.errors import OffsetError, Unavailable
from ensemble.event import encode
from ensemble.log import repacking
from ensemble.log.audit import audit_log
from ensemble.log.audit.anchor import new_key
from ensemble.log.directory import open_directory
from ensemble.log.memory import forget_memory_store
from ensemble.log.remnant import encode_remnant
from ensemble.testing import ManualClock
from ensemble.trimming import trim_store
from tests.conformance.stand import eventually

pytestmark = pytest.mark.usefixtures("small_parts")


def score(archive: object, **more: Any) -> dict[str, Any]:
    retain = {"time": "1h", "archive": str(archive)}
    return {"ensemble": 1, "name": "shop", "players": {"tally": {"on": "order.*"}}, "retain": retain, **more}


def tally(event: Any, ctx: Any) -> None:
    ctx.state["count"] = ctx.state.get("count", 0) + 1


def play(made: dict[str, Any], store: object, clock: ManualClock, count: int = 120) -> None:
    with ensemble.open(made, players={"tally": tally}, store=str(store), clock=clock) as band:
        for ix in range(count):
            data = {"n": ix, "note": "a secret of theirs" + "x" * 100, "who": f"c-{ix % 3}"}
            band.publish("order.placed", data, key=f"k-{ix % 3}")
            band.settle()
            clock.advance(minutes=1)


def test_what_goes_is_read_where_it_was_archived(tmp_path: Path, clock: ManualClock) -> None:
    store, cold = tmp_path / "s", tmp_path / "cold"
    play(score(cold), store, clock)

    with ensemble.read(str(store)) as here, ensemble.read(str(cold)) as there:
        left, gone = list(here.events()), list(there.events())
        begin = left[0].offset
        assert begin > 20
        assert [event.data["n"] for event in gone[:begin]] == list(range(begin))
        assert [event.data["n"] for event in left] == list(range(begin, 120))
        with pytest.raises(OffsetError, match=rf"retain: \{{time: 1h\}}, archived in {cold} on 2026-01-01T"):
            here.event(gone[3].id)
        assert there.event(gone[3].id).data == gone[3].data
        assert there.status().events == begin
        heard = sum(state["count"] for state in there.table("tally").values())
        assert begin - heard in (0, 1), "the last was heard in a frame that may have come later"
        assert [each.offset for each in there.history().events] == list(range(begin))
    with pytest.raises(Unavailable, match="this is the archive of band shop"):
        ensemble.open(score(cold), players={"tally": tally}, store=str(cold))


def test_an_audit_goes_on_through_the_archive_as_one_chain(tmp_path: Path, clock: ManualClock) -> None:
    store, cold, key, heads = tmp_path / "s", tmp_path / "cold", tmp_path / "key.pem", str(tmp_path / "heads")
    new_key(key)
    play(score(cold), store, clock, 10)
    ensemble.audit(str(store), anchor=heads, sign=key)
    play(score(cold), store, clock)
    anchored = {"anchor": heads, "sign": key}

    found = ensemble.audit(str(store), **anchored)  # type: ignore[arg-type]

    assert (found.findings, found.notes) == ((), ())
    [past] = found.archives
    assert (past.url, past.begin.seq, past.shard) == (str(cold), 0, 0)
    assert past.end.seq >= found.logs[0].begin.seq > 0
    cold.rename(tmp_path / "moved")
    away = ensemble.audit(str(store), **anchored)  # type: ignore[arg-type]
    assert (away.findings, away.archives) == ((), ())
    assert "the archive of this log was not looked at: store " in away.notes[0]
    assert "one anchored place can't be looked at any more" in away.notes[1]
    moved = ensemble.audit(str(store), archive=str(tmp_path / "moved"), **anchored)  # type: ignore[arg-type]
    assert (moved.is_whole, len(moved.archives), moved.notes) == (True, 1, ())
    with pytest.raises(Unavailable, match="there is no store"):
        ensemble.audit(str(store), archive=str(cold))


def test_an_archive_that_is_not_what_was_archived_is_told(tmp_path: Path, clock: ManualClock) -> None:
    store, cold, other, heads = tmp_path / "s", tmp_path / "cold", tmp_path / "other", str(tmp_path / "heads")
    new_key(tmp_path / "key.pem")
    play(score(cold), store, clock, 10)
    ensemble.audit(str(store), anchor=heads, sign=tmp_path / "key.pem")
    play(score(cold), store, clock)
    play(score(other, name="another"), tmp_path / "t", clock)
    paths = sorted((cold / "shard-0").glob("*.pack"))

    def wrongs() -> list[str]:
        return [finding.wrong for finding in ensemble.audit(str(store)).findings]

    shutil.copytree(cold, tmp_path / "kept")
    paths[-1].unlink()
    assert "with which the log begins now; it ends before frame" in wrongs()[0]
    shutil.rmtree(cold)
    shutil.copytree(other, cold)
    assert "and the past of log" in wrongs()[0]
    shutil.rmtree(cold)
    shutil.copytree(tmp_path / "kept", cold)
    assert wrongs() == []
    data = paths[1].read_bytes()
    paths[1].write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    assert "checksum" in wrongs()[0]
    paths[1].write_bytes(data)
    log = open_directory(store, name="", log_id="", create=False)
    log.close()
    line = json.loads((tmp_path / "heads").read_text().splitlines()[0])
    assert line["seq"] < ensemble.audit(str(store)).logs[0].begin.seq, "what was anchored then lies in the archive alone"


def test_damage_in_a_log_that_has_an_archive_is_a_finding(tmp_path: Path, clock: ManualClock) -> None:
    store, cold = tmp_path / "s", tmp_path / "cold"
    play(score(cold), store, clock)
    files = sorted(path for path in (store / "shard-0").iterdir() if path.suffix in (".seg", ".pack"))
    assert len(files) > 2

    for path in files:
        data = path.read_bytes()
        for place in range(0, len(data), 199):
            path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
            assert not ensemble.audit(str(store), archive=str(cold)).is_whole, (path, place)
        path.write_bytes(data)


def test_what_is_archived_while_an_audit_looks_is_no_finding(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, cold = tmp_path / "s", tmp_path / "cold"
    play(score(cold), store, clock)
    look = audit_log

    def look_slowly(url: str, *given: Any) -> Any:
        found = look(url, *given)
        if url == str(cold):
            play(score(cold), store, clock)
        return found

    monkeypatch.setattr("ensemble.auditing.audit_log", look_slowly)
    found = ensemble.audit(str(store))

    assert found.findings == ()
    assert "more of the log was archived" in found.notes[0]
    monkeypatch.undo()
    again = ensemble.audit(str(store))
    assert (again.findings, again.notes) == ((), ())


def test_what_a_writer_left_otherwise_than_it_was_is_told_by_the_archive_alone(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "s"
    made = score(tmp_path / "cold", events={"order.x": {"compact": True}})
    made["retain"] = {"archive": made["retain"]["archive"]}
    with ensemble.open(made, players={"tally": tally}, store=str(store), clock=clock) as band:
        for ix in range(80):
            band.publish_many([{"n": ix}], topic="order.x")
            band.publish_many([{"topic": "order.x", "key": "k", "data": {"n": ix}}, {"topic": "order.y", "data": {"n": ix}}])
            band.settle()
    shutil.copytree(store, tmp_path / "copy")
    whole = encode_remnant

    def lie(frame: Any, digest: bytes, kept: Any, *, has_marks: bool) -> bytes:
        if kept and frame.rows is not None:
            frame.rows.data = [encode({"n": 1_000_000})] * len(frame.rows)
        return whole(frame, digest, kept, has_marks=has_marks)

    assert trim_store(str(store)).removed
    honest = ensemble.audit(str(store))
    assert (honest.findings, len(honest.archives)) == ((), 1)
    shutil.rmtree(store)
    shutil.copytree(tmp_path / "copy", store)
    monkeypatch.setattr(repacking, "encode_remnant", lie)
    assert trim_store(str(store)).removed

    assert "of a frame that lost others, is not what was archived" in ensemble.audit(str(store)).findings[0].wrong
    (tmp_path / "cold").rename(tmp_path / "away")
    assert ensemble.audit(str(store)).is_whole, "the log alone can't tell"


@pytest.mark.parametrize("kind", ["", "objects:", "memory:"])
def test_who_is_forgotten_is_so_in_the_archive_too_and_nobody_is_read_without_the_keys(
    tmp_path: Path, clock: ManualClock, kind: str
) -> None:
    store, cold = f"{kind}{tmp_path / 's'}", tmp_path / "cold"
    personal = {"order.placed": {"personal": {"subject": "who", "fields": ["note"]}}}
    made = score(cold, events=personal)
    play(made, store, clock)

    def read() -> set[str]:
        with ensemble.read(str(cold)) as archive:
            return {event.data["who"] for event in archive.events() if "secret" in event.data["note"]}

    assert all(b"secret" not in path.read_bytes() for path in cold.rglob("*") if path.is_file())
    assert read() == {"c-0", "c-1", "c-2"}

    with ensemble.open(made, players={"tally": tally}, store=str(store), clock=clock) as band:
        assert band.forget("c-1") == 1

    assert read() == {"c-0", "c-2"}
    assert ensemble.audit(str(store)).is_whole
    assert not list(cold.rglob("keys*"))
    if kind == "memory:":
        forget_memory_store(str(tmp_path / "s"))
    else:
        (tmp_path / "s").rename(tmp_path / "away")
    with pytest.raises(Unavailable, match=f"the key ring of store {store} is not here, and what is personal in its archive"):
        read()
    assert ensemble.audit(str(cold)).is_whole, "that it was not changed can be told without"


def test_an_archive_that_refuses_is_told_once_and_the_band_plays_on(
    tmp_path: Path, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    store, cold = tmp_path / "s", tmp_path / "cold"
    cold.write_text("a file")

    with caplog.at_level(logging.WARNING, "ensemble.stage"):
        play(score(cold), store, clock)

    [told] = caplog.records
    assert f"band shop: archive {cold}: store {cold}: this is a file" in told.getMessage()
    assert "; nothing is taken from the log until then; the band plays on" in told.getMessage()
    with ensemble.read(str(store)) as reader:
        assert [event.offset for event in reader.events()] == list(range(120))
    with pytest.raises(Unavailable, match=f"archive {cold}: "):
        trim_store(str(store))
    assert trim_store(str(store), is_rehearsal=True).removed[0].rule == f"retain: {{time: 1h}}, archived in {cold}"
    cold.unlink()
    assert trim_store(str(store)).begins[0] > 20
    with ensemble.read(str(cold)) as archive:
        assert [event.offset for event in archive.events()][:20] == list(range(20))


def test_a_band_on_threads_archives_beside_its_work(tmp_path: Path) -> None:
    made = score(tmp_path / "cold") | {"retain": {"size": "20KB", "archive": str(tmp_path / "cold")}}
    with ensemble.open(made, players={"tally": tally}, store=str(tmp_path / "s")) as band:
        for _ in range(20):
            band.publish_many([{"n": 1, "note": "x" * 100}] * 20, topic="order.placed")
            band.settle(timeout=10)
        eventually((tmp_path / "cold/ensemble.json").exists)

    found = ensemble.audit(str(tmp_path / "s"), archive=str(tmp_path / "cold"))
    assert found.findings == ()
    left, gone = (ensemble.read(str(tmp_path / where)).events() for where in ("s", "cold"))
    assert sorted({event.offset for event in left} | {event.offset for event in gone}) == list(range(400))


def test_large_data_is_archived_with_the_events_that_name_it(tmp_path: Path, clock: ManualClock) -> None:
    store, cold = tmp_path / "s", tmp_path / "cold"
    made = score(cold, store={"blob_above": "10KiB"})
    with ensemble.open(made, players={"tally": tally}, store=str(store), clock=clock) as band:
        for ix in range(120):
            band.publish("order.placed", {"n": ix, "note": f"{ix} " * 5_000 if ix % 10 == 0 else "x" * 100}, key="k")
            band.settle()
            clock.advance(minutes=1)

    with ensemble.read(str(cold)) as archive:
        assert [len(event.data["note"]) for event in archive.events()][:21:10] == [10_000, 15_000, 15_000]
    assert ensemble.audit(str(store)).is_whole
