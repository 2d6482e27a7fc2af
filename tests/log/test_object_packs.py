"""Packs in an object store: what is asked for, what a death in the middle leaves, what others do meanwhile, and damage."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from obstore.store import MemoryStore

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.event import Frame
from ensemble.log import Snapshot
from ensemble.log.audit.objects import audit_objects
from ensemble.log.base import Packing, Removal, Taken
from ensemble.log.objects import codec, merging
from ensemble.log.objects.log import ObjectLog, let_go, open_objects, read_objects
from ensemble.log.objects.protocol import STUB, Call, Log, Name
from ensemble.log.objects.store import Objects
from ensemble.log.retention import statement
from tests.conformance.stand import eventually
from tests.log.log_samples import Plug, append, contents, frame
from tests.log.object_samples import Unplugged

WHERE = "s3://bucket/band"
SMALL = Log("log", 4)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Blocks of four entries in each store that is made."""
    made = codec.new_manifest
    monkeypatch.setattr(codec, "new_manifest", lambda *given: made(*given)._replace(block=4))
    monkeypatch.setattr("ensemble.log.pack.BLOCK_BYTES", 250)
    yield MemoryStore()
    let_go(WHERE)


def objects(store: Any) -> Objects:
    return Objects(store, WHERE, pause=lambda seconds: None)


def opened(store: Any, given: Objects | None = None) -> ObjectLog:
    """The log, as another process opens it that knows nothing of those that have it open."""
    let_go(WHERE)
    return open_objects(given or objects(store), name="band", log_id="log")


def filled(log: ObjectLog) -> Packing:
    """A log of several blocks, all merged, with two snapshots at its end."""
    append(log, *([2] for _ in range(18)))
    for _ in range(2):
        append(log, [1])
        log.save(Snapshot(log.end(), b"state"))
    append(log, [1])
    eventually(lambda: log._merger.merged >= 5, "the merging of all that is whole")
    return log.packing()


def without_odd(kept: Frame) -> Taken:
    return Taken([ix for ix in range(kept.count) if (kept.first + ix) % 2 == 0], has_marks=True)


def say(log: ObjectLog, said: Any) -> None:
    at = log.end()
    log.append([log.seal(Frame(at.offset, at.time_us, None, {"removed": [said]}))])


def take_out(log: ObjectLog, ix: int) -> None:
    """What lies at odd offsets of a part goes, and it is said before."""
    packing = log.packing()
    part = packing.parts()[ix]
    made = packing.pack([part], without_odd, lambda: [Removal("odd", 5, part.first, part.end, 3)], compress=True)
    say(log, statement(made))
    packing.put(made)


def begin_later(log: ObjectLog, count: int) -> None:
    packing = log.packing()
    parts = packing.parts()[:count]
    removals = [Removal("retain: {time: 1d}", 5, parts[0].first, parts[-1].end, 8)]
    made = packing.pack(parts, lambda kept: Taken([], has_marks=False), lambda: removals, state=lambda: b"state there")
    say(log, statement(made))
    packing.put(made)


def names(store: Any, folder: str) -> list[str]:
    return [path.removeprefix(f"{folder}/log/") for path in objects(store).list(folder)]


# What is asked for


def test_packing_a_block_costs_a_create_a_list_and_a_stub_and_who_rests_asks_nothing(store: Any) -> None:
    log = opened(store)
    packing = filled(log)
    parts = packing.parts()
    log.objects.requests.clear()

    for part in parts[1:3]:
        packing.put(packing.pack([part], None, compress=True))

    assert log.objects.requests == {"put": 4, "list": 2, "get": log.objects.requests["get"]}
    assert log.objects.requests["get"] <= 2, "of what is not in memory the segment, and no more"
    log.objects.requests.clear()
    assert contents(log, parts[3].seq)
    assert (log.size_bytes() > 0, log.begin().seq, log.packing().parts()[1].is_packed) == (True, 0, True)
    assert log.objects.requests == {}


def test_opening_a_log_with_packs_lists_no_more_than_without(store: Any) -> None:
    asked = []
    for packs in (False, True):
        log = opened(store)
        packing = log.packing() if packs else filled(log)
        assert len(packing.parts()) > 3
        for part in packing.parts() if packs else ():
            packing.put(packing.pack([part], None))
        append(log, [1])
        log.save(Snapshot(log.end(), b"state"))
        log.close()
        given = objects(store)
        opened(store, given).close()
        asked.append(given.requests["list"])

    assert asked == [3, 3], "snapshots, packs, what is past"


def test_a_reader_that_follows_the_end_lists_nothing(store: Any) -> None:
    log = opened(store)
    filled(log)
    given = objects(store)
    reader = read_objects(given)
    at = reader.end().seq
    given.requests.clear()

    for _ in range(3):
        append(log, [1])
        at += len(list(reader.frames(at)))

    assert at == log.end().seq
    assert given.requests["list"] <= 2, "only where a block became whole meanwhile"


@pytest.mark.parametrize("page", [1, 2, 3])
def test_packs_are_listed_page_by_page_and_all_are_found(store: Any, monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    log = opened(store)
    packing = filled(log)
    for part in packing.parts():
        packing.put(packing.pack([part], None))
    take_out(log, 1)
    before, size = contents(log), log.size_bytes()
    log.close()
    monkeypatch.setattr("ensemble.log.objects.packs.PAGE", page)

    given = objects(store)
    reader = read_objects(given)
    assert contents(reader) == before
    assert given.requests["list"] > 4
    assert [frame.seq for frame in reader.frames(before[9]["seq"])] == [kept["seq"] for kept in before[9:]]
    assert reader.size_bytes() == size
    for log in (opened(store), opened(store)):
        assert log.frame_at(4).first <= 4
        assert contents(log) == before
        assert (log.size_bytes(), all(part.is_packed for part in log.packing().parts())) == (size, True)


# What a death leaves


def test_whoever_dies_while_he_packs_leaves_the_old_or_the_new_and_the_next_sweep_takes_the_rest_away(store: Any) -> None:
    seen = set()
    for step in range(1, 60):
        store = MemoryStore()
        given = Unplugged(store, WHERE)
        log = opened(store, given)
        filled(log)
        take_out(log, 1)
        before = [kept["seq"] for kept in contents(log)]
        given.fails_at = given.done + step
        died = True
        with suppress(Plug):
            begin_later(log, 3)
            died = False
        log._merger.close()

        log = opened(store)
        begin = log.begin().seq
        seen.add(begin)
        assert [kept["seq"] for kept in contents(log) if kept["seq"] < 20] == [seq for seq in before if begin <= seq < 20]
        assert audit_objects(objects(store), 0, lambda log_id, shard: ()).findings == []
        log.packing().sweep()
        for block in range(log.packs.past().end_block if begin else 0):  # type: ignore[union-attr]
            assert objects(store).call(Call("get", SMALL.segment(block))).value == STUB  # type: ignore[union-attr]
            assert f"{block:020d}" not in " ".join(names(store, "packs"))
        assert len(names(store, "past")) == (begin > 0)
        assert contents(read_objects(objects(store))) == contents(log)
        assert audit_objects(objects(store), 0, lambda log_id, shard: ()).findings == []
        if not died:
            break
    assert not died
    assert len(seen) == 2


def test_a_block_that_is_too_large_to_be_merged_is_packed_and_its_entries_go(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "SEGMENT_BYTES", 500)
    monkeypatch.setattr("ensemble.log.objects.log.SEGMENT_BYTES", 500)
    monkeypatch.setattr("ensemble.log.objects.log.BEGINS_BYTES", 0)
    log = opened(store)
    packing = filled(log)
    before = contents(log)
    assert names(store, "segments") == []

    for part in packing.parts():
        packing.put(packing.pack([part], None, compress=True))

    assert names(store, "segments") == [f"{block:020d}" for block in range(5)]
    assert min(names(store, "log")) == f"{20:020d}"
    assert contents(log) == contents(read_objects(objects(store))) == before
    assert contents(opened(store)) == before


def test_a_log_without_snapshots_opens_over_packs_and_nobody_is_taken_for_gone_who_may_play(store: Any) -> None:
    log = opened(store)
    packing = filled(log)
    take_out(log, 1)
    begin_later(log, 1)
    for part in packing.parts()[2:]:
        packing.put(packing.pack([part], None))
    before, size = contents(log), log.size_bytes()
    for path in objects(store).list("snapshots"):
        objects(store).delete(path)

    let_go(WHERE)
    with pytest.raises(Unavailable, match="it is played by another writer, or that one was ended before"):
        open_objects(objects(store), name="band", log_id="log", takes_over=False)
    log = opened(store)

    assert contents(log) == before
    assert log.size_bytes() == size
    base = log.base()
    assert base == log.snapshot()
    assert base is not None
    assert base.state == b"state there"
    append(log, [1])
    assert contents(read_objects(objects(store))) == contents(log)


# Others meanwhile


def test_of_two_that_pack_one_block_the_first_counts_and_the_other_is_told(store: Any) -> None:
    old = opened(store)
    packing = filled(old)
    made = packing.pack([packing.parts()[1]], without_odd, lambda: [Removal("odd", 5, 0, 9, 3)])
    new = opened(store)
    before = contents(new)
    theirs = new.packing()
    theirs.put(theirs.pack([theirs.parts()[1]], None))

    with pytest.raises(Unavailable, match=r"another writer has packed the same blocks; if this one was taken over, close it"):
        packing.put(made)

    assert contents(new) == contents(old) == contents(read_objects(objects(store))) == before
    assert len(names(store, "packs")) == 1


def test_a_generation_that_was_deleted_and_is_made_anew_by_who_stalled_means_nothing(store: Any) -> None:
    old = opened(store)
    filled(old)
    stalled, late = old.packing(), [Removal("late", 5, 0, 9, 3)]
    made = stalled.pack(stalled.parts()[:4], lambda kept: Taken([], has_marks=False), lambda: late, state=lambda: b"late")
    new = opened(store)
    begin_later(new, 1)
    begin_later(new, 2)  # and the first was deleted
    before, begin = contents(new), new.begin()

    with pytest.raises(Unavailable, match="another writer has packed the same blocks"):
        stalled.put(made)

    assert names(store, "past") == ["00000000000000000002"]
    for each in (new, read_objects(objects(store)), opened(store)):
        assert (contents(each), each.begin()) == (before, begin)


def test_who_reads_a_pack_whose_name_another_has_by_now_goes_on_with_the_one_that_counts(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ensemble.log.objects.packs.AHEAD_BYTES", 64)
    log = opened(store)
    packing = filled(log)
    part = packing.parts()[1]
    packing.put(packing.pack([part], None))
    before = contents(log)
    reading = read_objects(objects(store)).frames(part.seq)
    seen = [next(reading).seq]
    old = objects(store).path(SMALL.pack(1, 1))

    packing.put(packing.pack([packing.parts()[1]], None, compress=True))
    objects(store).put(old, b"of who stalled")

    assert seen + [kept.seq for kept in reading] == [kept["seq"] for kept in before if kept["seq"] >= part.seq]


def test_a_writer_that_stalled_until_its_block_was_packed_is_refused(store: Any) -> None:
    old = opened(store)
    append(old, *([2] for _ in range(2)))
    sealed = old.seal(frame(old.end(), 1))
    new = opened(store)
    packing = filled(new)
    for part in packing.parts():
        packing.put(packing.pack([part], None))
    before = contents(new)

    with pytest.raises(Unavailable, match="taken over by another writer"):
        old.append([sealed])

    assert contents(new) == contents(read_objects(objects(store))) == before
    assert f"{3:020d}" not in names(store, "log")


def test_each_shard_has_packs_of_its_own_and_takes_of_the_store_hold_all_of_them_back(store: Any) -> None:
    logs = [open_objects(objects(store), name="band", log_id=f"log-{n}", shard=n, shards=2) for n in range(2)]
    packings = [filled(log) for log in logs]
    before = [contents(log) for log in logs]

    made = packings[1].pack([packings[1].parts()[1]], without_odd, lambda: [Removal("odd", 5, 0, 9, 3)])
    packings[1].put(made)
    objects(store).put("takes/unfinished/log/x", b"")
    assert not packings[0].has_takes()
    objects(store).put("takes/what-if/ensemble.json", b"{}")

    assert contents(logs[0]) == before[0]
    assert contents(logs[1]) != before[1]
    assert [path.split("/")[1] for path in objects(store).list("generation-0") if "/packs/" in path] == ["1"]
    for packing in packings:
        assert packing.has_takes()
        late = packing.pack([packing.parts()[0]], without_odd, lambda: [Removal("odd", 5, 0, 9, 3)])
        with pytest.raises(Unavailable, match="a take was made meanwhile"):
            packing.put(late)
    for log in logs:
        log.close()


# Older versions, and damage


def test_an_older_version_stops_at_a_snapshot_and_at_a_stub_with_both_numbers(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = opened(store)
    packing = filled(log)
    manifest = objects(store).get("ensemble.json")
    packing.put(packing.pack([packing.parts()[1]], None))
    append(log, [1])
    for _ in range(2):
        log.save(Snapshot(log.end(), b"state"))
        append(log, [1])
    log.close()
    assert objects(store).get("ensemble.json") == manifest
    opening = codec._opened
    monkeypatch.setattr(codec, "_opened", lambda path, data, decoder, formats=(1,): opening(path, data, decoder))

    let_go(WHERE)
    with pytest.raises(LogCorrupt, match=r"segments/log/0+1: byte 0: it has format 2, this version knows 1"):
        open_objects(objects(store), name="band", log_id="log")


class Sample:
    """A log with what is past, a pack that lost something, and one that did not."""

    def __init__(self, store: Any) -> None:
        self.objects = objects(store)
        log = opened(store)
        filled(log)
        begin_later(log, 1)
        take_out(log, 1)
        packing = log.packing()
        packing.put(packing.pack([packing.parts()[2]], None, compress=True))
        self.places = [log.end()]
        self.log = log
        log.close()
        self.files = {path: self.objects.get(path) for path in self.objects.list("")}

    def findings(self) -> list[Any]:
        return audit_objects(self.objects, 0, lambda log_id, shard: self.places).findings


def test_a_store_with_packs_that_nobody_touched_passes_its_audit(store: Any) -> None:
    sample = Sample(store)
    early = Name("entry", 0, "log")

    found = audit_objects(sample.objects, 0, lambda log_id, shard: sample.places)

    assert (found.findings, set(found.verdicts.values())) == ([], {"held"})
    assert found.begin.seq > 0
    assert sample.objects.path(early) not in sample.files


@pytest.mark.parametrize("folder", ["packs", "past", "segments"])
def test_a_byte_that_is_changed_in_a_pack_or_a_stub_is_told_and_what_is_missing_too(store: Any, folder: str) -> None:
    sample = Sample(store)
    chance = random.Random(5)
    for path, data in sample.files.items():
        if not path.startswith(f"{folder}/"):
            continue
        for byte in sorted({*range(min(len(data), 40)), *chance.sample(range(len(data)), min(len(data), 40)), len(data) - 1}):
            sample.objects.put(path, data[:byte] + bytes([data[byte] ^ 1 << chance.randrange(8)]) + data[byte + 1 :])
            assert [each for each in sample.findings() if each.file == f"{WHERE}/{path}"], (path, byte)
        sample.objects.put(path, data[:-1])
        assert sample.findings()
        sample.objects.delete(path)
        assert sample.findings(), path
        sample.objects.put(path, data)
    assert sample.findings() == []


def test_a_pack_that_was_put_there_by_hand_is_told_by_the_chain(store: Any) -> None:
    sample = Sample(store)
    log = opened(store)
    packing = log.packing()

    packing.put(packing.pack([packing.parts()[3]], without_odd, lambda: [Removal("odd", 5, 0, 9, 3)]))

    [finding] = sample.findings()
    assert "nothing in the log says of this file that it takes their place" in finding.wrong


def test_a_pack_that_is_missing_stops_who_reads(store: Any) -> None:
    sample = Sample(store)
    [path, _] = [path for path in sample.files if path.startswith("packs/")]
    sample.objects.delete(path)

    for read in _reading(store):
        with pytest.raises(LogCorrupt, match="its entries were packed, and no pack holds them: a pack is missing"):
            read()


def _reading(store: Any) -> list[Callable[[], Any]]:
    log = opened(store)
    return [lambda: contents(log), lambda: contents(read_objects(objects(store)))]


def test_a_reader_of_a_pack_that_is_written_anew_once_more_goes_on_with_the_new_one(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ensemble.log.objects.packs.AHEAD_BYTES", 64)
    log = opened(store)
    packing = filled(log)
    for part in packing.parts():
        packing.put(packing.pack([part], None))
    before = contents(log)
    for reader in (log, read_objects(objects(store))):
        reading = reader.frames(4)
        seen = [next(reading).seq for _ in range(2)]

        for part in packing.parts():
            packing.put(packing.pack([part], None, compress=True))

        assert seen + [kept.seq for kept in reading] == [kept["seq"] for kept in before[4:]]
        assert len(names(store, "packs")) == len(packing.parts())


def test_what_is_past_is_looked_up_anew_where_it_has_moved_on(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ensemble.log.objects.packs.AHEAD_BYTES", 64)
    log = opened(store)
    packing = filled(log)
    needed = log.frame_at(1)
    reader = read_objects(objects(store))
    reader.end()
    for count in (1, 2, 2):
        parts = packing.parts()[:count]
        packing.put(
            packing.pack(parts, lambda kept: Taken([1] if kept.first == 0 else [], has_marks=False), state=lambda: b"s" * 300)
        )
        for each in (log, reader):
            rows = each.frame_at(1).rows
            assert rows is not None
            assert needed.rows is not None
            assert rows.data[1] == needed.rows.data[1]
            base = each.base()
            assert base is not None
            assert (base.at, base.state) == (log.begin(), b"s" * 300)
        assert contents(reader)[0]["seq"] == log.begin().seq
