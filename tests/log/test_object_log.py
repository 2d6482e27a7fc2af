"""The log of objects over a real client and a store that misbehaves: what the suite of all stores does not ask."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from random import Random
from typing import Any

import obstore
import pytest
from obstore.store import MemoryStore

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.log import Fork, Position, Snapshot, count_shards, has_log, open_log, read_log
from ensemble.log.objects import codec, merging
from ensemble.log.objects import log as logs
from ensemble.log.objects import store as stores
from ensemble.log.objects.log import ObjectLog, let_go, open_objects, read_objects
from ensemble.log.objects.merging import merge
from ensemble.log.objects.protocol import Answer, Call, Log, Unknown
from ensemble.log.objects.store import PATIENCE, Objects
from ensemble.resharding import reshard
from tests.conformance.stand import eventually
from tests.log.log_samples import append, contents, flat, frame
from tests.log.object_samples import Stalling, Weather

WHERE = "s3://bucket/band"
SMALL = Log("log", 4)
"""The log of these tests, where its blocks are small."""


@pytest.fixture
def store() -> Any:
    yield MemoryStore()
    let_go(WHERE)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of four entries in each store that is made."""
    made = codec.new_manifest
    monkeypatch.setattr(codec, "new_manifest", lambda *given: made(*given)._replace(block=4))


def objects(store: Any) -> Objects:
    return Objects(store, WHERE, pause=lambda seconds: None)


def take_over(store: Any, given: Objects | None = None) -> ObjectLog:
    """Open the log as another process would, which knows nothing of those that this one has open."""
    let_go(WHERE)
    return open_objects(given or objects(store), name="band", log_id="log")


def names(store: Any) -> list[str]:
    return objects(store).list("")


@pytest.mark.usefixtures("small_blocks")
def test_merged_blocks_are_read_as_before_and_the_log_goes_on(store: Any) -> None:
    log = take_over(store)
    groups = append(log, *([n % 3] for n in range(9)))
    early = read_objects(objects(store))
    begun = early.frames()
    first = next(begun)

    assert [merge(objects(store), SMALL, n) for n in range(3)] == [True, True, False]
    groups += append(log, [2], [1])

    assert "log/log/00000000000000000003" not in names(store)
    assert "log/log/00000000000000000008" in names(store)
    assert first.seq == 0
    assert len(list(begun)) == 8
    for reader in (log, early, read_objects(objects(store)), take_over(store)):
        assert contents(reader) == flat(groups)
        assert reader.frame_at(reader.end().offset // 2).first <= reader.end().offset // 2


@pytest.mark.usefixtures("small_blocks")
def test_a_writer_stalled_past_deletion_is_refused_and_leaves_nothing(store: Any) -> None:
    stalling = Stalling(store, WHERE, pause=lambda seconds: None)
    old = take_over(store, stalling)
    groups = append(old, [1])
    sealed = old.seal(frame(old.end(), 5))

    def meanwhile() -> None:
        new = take_over(store)
        groups.extend(append(new, [2], [3], [4]))
        eventually(lambda: merge(objects(store), SMALL, 0), "the merging of the block")  # the new writer merges it, too

    stalling.meanwhile = meanwhile
    with pytest.raises(Unavailable, match=r"taken over by another writer .while this one stalled"):
        old.append([sealed])
    with pytest.raises(Unavailable, match="taken over"):
        old.append([sealed])

    assert not [name for name in names(store) if name < "log/log/00000000000000000004" and name.startswith("log/")]
    assert contents(read_objects(objects(store))) == flat(groups)


def test_who_was_replaced_is_told_by_whom_and_since_when(store: Any) -> None:
    old = take_over(store)
    sealed = old.seal(frame(old.end(), 1))

    take_over(store)

    with pytest.raises(Unavailable, match=r"process \d+ on .*, since \d{4}-\d\d-\d\dT.*Z, epoch 2; our epoch is 1"):
        old.append([sealed])


class Silent(Objects):
    """From some time on no answer comes."""

    is_silent = False
    is_done = False

    def call(self, call: Call) -> Answer:
        if self.is_silent:
            if self.is_done:
                super().call(call)
            return Unknown()
        return super().call(call)


@pytest.mark.parametrize("is_done", [False, True])
def test_a_commit_without_an_answer_is_refused_and_whoever_opens_sees_what_came_of_it(store: Any, is_done: bool) -> None:
    silent = Silent(store, WHERE, pause=lambda seconds: None)
    log = take_over(store, silent)
    groups = append(log, [1])
    made = frame(log.end(), 2)
    sealed = log.seal(made)

    silent.is_silent, silent.is_done = True, is_done
    with pytest.raises(Unavailable, match=f"no answer {PATIENCE} times"):
        log.append([sealed])
    silent.is_silent = False
    with pytest.raises(Unavailable, match="takes no more"):
        log.append([sealed])

    assert log.end().seq == 1
    assert take_over(store).end().seq == 1 + is_done
    assert contents(read_objects(objects(store)))[:1] == flat(groups)


def test_a_log_opens_from_its_snapshot_with_few_requests(store: Any) -> None:
    log = take_over(store)
    append(log, *([2] for _ in range(400)))
    log.save(Snapshot(log.end(), b"state"))
    told = flat(append(log, [1], [2]))

    asked = objects(store)
    again = take_over(store, asked)

    assert sum(asked.requests.values()) < 20, asked.requests
    assert again.end().seq == 402
    assert contents(again, 400) == told
    assert again.size_bytes() == log.size_bytes()


def test_a_commit_is_one_put_and_one_look_and_a_log_at_rest_asks_nothing(store: Any) -> None:
    asked = objects(store)
    log = take_over(store, asked)
    asked.requests.clear()

    append(log, [3], [1, 2])
    list(log.frames())

    assert asked.requests == {"put": 2, "head": 2}


@pytest.mark.parametrize("at", [0, 3, 20, 60, -1])
def test_an_entry_that_was_changed_is_told_of_by_name(store: Any, at: int) -> None:
    log = take_over(store)
    append(log, [1], [2], [3])
    name = "log/log/00000000000000000002"
    data = bytearray(objects(store).get(name))
    data[at] ^= 1
    obstore.put(store, name, bytes(data))

    for read in (lambda: contents(read_objects(objects(store))), lambda: take_over(store)):
        with pytest.raises(LogCorrupt, match=f"^{WHERE}/{name}: byte 0: "):
            read()


def test_entries_that_were_swapped_are_told_of(store: Any) -> None:
    append(take_over(store), [1], [1], [1])
    one, two = (objects(store).get(f"log/log/{n:020d}") for n in (1, 2))
    obstore.put(store, f"log/log/{1:020d}", two)
    obstore.put(store, f"log/log/{2:020d}", one)

    with pytest.raises(LogCorrupt, match=r"log/log/0{19}1: byte 0: frame 0 should be here, frame 1 is"):
        read_objects(objects(store)).end()


def test_a_log_that_ends_before_its_snapshot_is_told_of(store: Any) -> None:
    log = take_over(store)
    append(log, [1], [1, 1])
    inside = next(log.frames(2))
    log.save(Snapshot(Position(2, 2, inside.prev, inside.time_us - 1), b"state"))  # inside the last group
    obstore.delete(store, "log/log/00000000000000000002")

    with pytest.raises(LogCorrupt, match="the log ends here, but a snapshot was kept of frame 2"):
        read_objects(objects(store)).end()


def test_a_damaged_snapshot_is_passed_over_and_said(store: Any) -> None:
    log = take_over(store)
    for _ in range(3):
        append(log, [1])
        log.save(Snapshot(log.end(), b"state %d" % log.end().seq))
    assert [name for name in names(store) if name.startswith("snap")] == [f"snapshots/log/{n:020d}" for n in (2, 3)]
    obstore.put(store, "snapshots/log/00000000000000000003", b"half")

    again = take_over(store)

    assert again.snapshot() == Snapshot(again.snapshot().at, b"state 2")  # type: ignore[union-attr]
    assert "snapshots/log/00000000000000000003" in again.notes[0] and "passed over" in again.notes[0]


def test_a_prefix_that_holds_something_else_is_left_alone(store: Any) -> None:
    obstore.put(store, "holiday.jpg", b"beach")

    with pytest.raises(Unavailable, match=r"other things are kept there \(holiday.jpg\)"):
        take_over(store)

    assert names(store) == ["holiday.jpg"]


@pytest.mark.parametrize(
    ("change", "error", "why"),
    [
        ({"format": 9}, Unavailable, "it has format 9, this version of Ensemble knows formats up to 1"),
        ({"name": "other"}, LogCorrupt, "its check does not fit"),
        ({"block": None}, LogCorrupt, "its check does not fit"),
    ],
)
def test_a_manifest_that_is_newer_or_was_changed_is_refused(store: Any, change: Any, error: Any, why: str) -> None:
    take_over(store)
    manifest = json.loads(objects(store).get("ensemble.json"))
    obstore.put(store, "ensemble.json", json.dumps(manifest | change).encode())

    with pytest.raises(error, match=why):
        take_over(store)
    with pytest.raises(error, match=why):
        read_objects(objects(store))


class Closed(Objects):
    """A bucket that was deleted: a create finds no bucket, and a look finds nothing."""

    is_gone = False

    def create(self, path: str, data: bytes) -> None:
        if self.is_gone:
            raise FileNotFoundError("NoSuchBucket")
        super().create(path, data)


def test_a_commit_into_a_bucket_that_is_gone_is_refused(store: Any) -> None:
    closed = Closed(store, WHERE, pause=lambda seconds: None)
    log = take_over(store, closed)
    closed.is_gone = True

    with pytest.raises(Unavailable, match=r"there is no such bucket; .* .it said: NoSuchBucket"):
        append(log, [1])

    assert log.end().seq == 0


def test_a_bucket_that_is_not_there_is_said(store: Any) -> None:
    closed = Closed(store, WHERE, pause=lambda seconds: None)
    closed.is_gone = True

    with pytest.raises(Unavailable, match="there is no such bucket"):
        take_over(store, closed)


class Careless(Objects):
    """Puts an object over another where it is asked not to: as stores do that do not know `If-None-Match`."""

    def create(self, path: str, data: bytes) -> None:
        self.put(path, data)


def test_a_store_that_does_not_create_only_where_there_is_none_is_refused_and_left_empty(store: Any) -> None:
    with pytest.raises(Unavailable, match=f"store {WHERE}: it puts an object over another though asked to create it only if"):
        take_over(store, Careless(store, WHERE))

    assert objects(store).list("") == []


@pytest.mark.parametrize("url", ["s3://bucket/band", "gs://bucket/band", "az://bucket/band"])
def test_urls_of_object_stores_lead_to_them(monkeypatch: pytest.MonkeyPatch, store: Any, url: str) -> None:
    monkeypatch.setattr(stores, "from_url", lambda given, **options: store)
    assert not has_log(url)
    with pytest.raises(Unavailable, match="there is no store"):
        read_log(url)

    log = open_log(url, name="band", durability="memory")
    told = flat(append(log, [2]))
    log.close()

    assert has_log(url)
    assert count_shards(url) == 1
    assert contents(read_log(url)) == told
    with pytest.raises(Unavailable, match=r"it has one shard, and 2 are asked for; .* can't be divided anew"):
        open_log(url, name="band", shards=2)


def test_where_a_store_lists_from_the_start_whatever_it_is_asked_what_comes_before_is_left_out(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Azurite does with `startFrom`, and some that speak S3 with `start-after`."""
    listed = obstore.list
    objects = Objects(store, WHERE)
    for number in range(6):
        objects.put(f"a/{number}", b"x")

    def list_all(*given: Any, offset: str | None, **options: Any) -> Any:
        return listed(*given, **options)

    monkeypatch.setattr(obstore, "list", list_all)

    assert list(objects.sizes("a", "a/2")) == ["a/3", "a/4", "a/5"]
    assert list(objects.sizes("a", "a/2", 2)) == ["a/3", "a/4"]


@pytest.mark.parametrize("url", ["s3:///prefix", "az://container/prefix"])
def test_a_url_that_can_not_be_right_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)

    with pytest.raises(Unavailable, match=f"store '{url}': "):
        read_log(url)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("seed", range(40))
def test_what_was_acknowledged_is_there_whatever_the_weather(store: Any, seed: int) -> None:
    chance, late = Random(seed), list[Any]()
    writers: list[ObjectLog] = []
    kept: dict[int, Any] = {}

    for _ in range(60):
        weather = Weather(store, WHERE, chance, late)
        try:
            match chance.choice(["open", "append", "append", "append", "append", "merge", "save"]):
                case "open":
                    writers.append(take_over(store, weather))
                case "append" if writers:
                    writer = writers.pop(chance.randrange(len(writers)))
                    (told,) = append(writer, [chance.randrange(3) for _ in range(chance.randint(1, 3))])
                    writers.append(writer)
                    assert not kept.keys() & {plain["seq"] for plain in told}
                    kept |= {plain["seq"]: plain for plain in told}
                case "merge" if writers:
                    block = 0
                    while merge(weather, SMALL, block):
                        block += 1
                case "save" if writers:
                    writer = chance.choice(writers)
                    writer.save(Snapshot(writer.end(), b"state"))
        except Unavailable:
            pass  # refused, or out of patience: then nothing was acknowledged

    there = {plain["seq"]: plain for plain in contents(take_over(store))}
    assert len(kept) > 5, f"seed {seed} acknowledged next to nothing"
    assert {seq: there.get(seq) for seq in kept} == kept, f"seed {seed}"


def test_a_frame_that_was_changed_under_a_checksum_made_anew_is_told_of(store: Any) -> None:
    append(take_over(store), [1], [2])
    name = f"log/log/{1:020d}"
    entry = codec.decode_entry(name, objects(store).get(name))
    obstore.put(store, name, codec.encode_entry(entry._replace(body=entry.body.replace(b"order.placed", b"order.pLaced"))))

    with pytest.raises(LogCorrupt, match=f"{name}: byte 0: the frame's checksum"):
        read_objects(objects(store)).end()


@pytest.mark.parametrize("is_inside", [False, True])
def test_a_log_that_is_not_the_one_of_its_snapshot_is_told_of(store: Any, is_inside: bool) -> None:
    other = MemoryStore()
    for each, marks in ((store, {"a": 1}), (other, {"a": 2})):
        log = take_over(each)
        log.append([log.seal(frame(log.end(), 1, marks))])
        append(log, [1, 1])
        inside = next(log.frames(2))
        place = Position(2, 2, inside.prev, inside.time_us - 1) if is_inside else log.end()
        log.save(Snapshot(place, b"state"))
        append(log, [1])
    for n in range(4):
        obstore.put(store, f"log/log/{n:020d}", objects(other).get(f"log/log/{n:020d}"))

    with pytest.raises(LogCorrupt, match=f"log/log/{2 if is_inside else 3:020d}: byte 0: .*frame"):
        read_objects(objects(store)).end()


# Merging


def held(store: Any, folder: str) -> list[int]:
    """The numbers of what there is of a kind."""
    return [int(name.rpartition("/")[2]) for name in names(store) if name.startswith(f"{folder}/log/")]


@pytest.mark.usefixtures("small_blocks")
def test_a_writer_merges_the_blocks_that_it_has_left_and_reads_nothing_for_it(store: Any) -> None:
    asked = objects(store)
    log = take_over(store, asked)
    asked.requests.clear()

    groups = append(log, *([1] for _ in range(9)))
    eventually(lambda: held(store, "log") == [8, 9], "the end of the merging")

    assert held(store, "segments") == [0, 1]
    assert {**asked.requests, "list": 0} == {"put": 11, "head": 9, "delete": 2, "list": 0}
    assert contents(read_objects(objects(store))) == contents(log) == flat(groups)
    assert log.notes == []


class NoSegments(Objects):
    """Whatever is to be a segment is refused, as long as told."""

    is_closed = True

    def create(self, path: str, data: bytes) -> None:
        if self.is_closed and path.startswith("segments/"):
            raise OSError("no room for segments")
        super().create(path, data)


@pytest.mark.usefixtures("small_blocks")
def test_a_merge_that_fails_is_said_and_made_up_for_with_the_next_one(store: Any) -> None:
    poor = NoSegments(store, WHERE, pause=lambda seconds: None)
    log = take_over(store, poor)

    groups = append(log, *([1] for _ in range(4)))
    eventually(lambda: log.notes, "a note")
    (note,) = log.notes
    poor.is_closed = False
    groups += append(log, *([1] for _ in range(4)))
    eventually(lambda: held(store, "log") == [8], "the end of the merging")

    assert "block 0 can't be merged now; it is tried again with the next one" in note
    assert "no room for segments" in note
    eventually(lambda: log.notes == [], "the end of the trouble")
    assert contents(log) == flat(groups)


@pytest.mark.usefixtures("small_blocks")
def test_a_merge_that_ends_on_a_fault_that_nobody_expected_is_said_and_made_up_for_too(
    store: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log = take_over(store)
    with monkeypatch.context() as odd:
        odd.setattr(merging, "merge", lambda *_: 1 / 0)
        groups = append(log, *([1] for _ in range(4)))
        eventually(lambda: log.notes, "a word of it")
        assert "a fault that nobody expected: ZeroDivisionError" in log.notes[0]
        assert "please report it with these lines" in caplog.text
    groups += append(log, *([1] for _ in range(4)))

    eventually(lambda: held(store, "log") == [8], "the end of the merging")
    eventually(lambda: log.notes == [], "the end of the trouble")
    assert contents(log) == flat(groups)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("is_saved", [False, True])
def test_what_a_writer_left_unmerged_the_next_one_merges(store: Any, is_saved: bool) -> None:
    poor = NoSegments(store, WHERE, pause=lambda seconds: None)
    log = take_over(store, poor)
    groups = append(log, *([1] for _ in range(9)))
    if is_saved:
        log.save(Snapshot(log.end(), b"state"))
    log.close()
    assert held(store, "segments") == []

    again = take_over(store)

    eventually(lambda: held(store, "log") == [8, 9, 10, 11], "the end of the merging")
    assert contents(again) == flat(groups)


@pytest.mark.usefixtures("small_blocks")
def test_a_block_of_large_entries_stays_as_it_is(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "SEGMENT_BYTES", 1000)
    log = take_over(store)

    groups = append(log, [100], [100], [1], *([1] for _ in range(6)))
    eventually(lambda: held(store, "segments") == [1], "the merging of the block that is small")

    assert held(store, "log") == [0, 1, 2, 3, 8, 9]
    assert contents(take_over(store)) == flat(groups)


def test_a_snapshot_of_a_long_log_is_small(store: Any) -> None:
    log = take_over(store)
    append(log, *([1] for _ in range(600)))

    log.save(Snapshot(log.end(), b"state"))

    assert len(objects(store).get("snapshots/log/00000000000000000600")) < 250


# Fetching


class Counting(Objects):
    """Knows how many calls there were at a time, at the most."""

    def __init__(self, store: Any, where: str) -> None:
        super().__init__(store, where, pause=lambda seconds: None)
        self.most = self.now = 0
        self._door = threading.Condition()

    def call(self, call: Call) -> Answer:
        with self._door:
            self.now += 1
            self.most = max(self.most, self.now)
            self._door.notify_all()
            self._door.wait_for(lambda: self.now > 1, timeout=0.01)  # time for others to come
        try:
            return super().call(call)
        finally:
            with self._door:
                self.now -= 1


def test_entries_are_fetched_side_by_side_and_who_waits_at_the_end_asks_for_one(store: Any) -> None:
    log = take_over(store)
    told = flat(append(log, *([1] for _ in range(60))))
    counting = Counting(store, WHERE)

    reader = read_objects(counting)
    assert contents(reader) == told
    eventually(lambda: counting.now == 0, "the end of what was fetched ahead")
    together, counting.most = counting.most, 0
    counting.requests.clear()
    reader.end()

    assert together > 4
    assert counting.most == 1
    assert counting.requests == {"get": 2}


@pytest.mark.usefixtures("small_blocks")
def test_merged_blocks_are_one_request_each(store: Any) -> None:
    log = take_over(store)
    told = flat(append(log, *([1] for _ in range(40))))
    eventually(lambda: len(held(store, "log")) == 1, "the end of the merging")

    asked = objects(store)
    reader = read_objects(asked)
    reader.end()
    to_the_end = sum(asked.requests.values())
    assert contents(reader) == told

    assert to_the_end < 10 + 10  # blocks; manifest, snapshots, the end, and what was tried


# Another store in its place


@pytest.mark.parametrize("is_anew", [False, True])
def test_the_writer_of_a_store_that_was_removed_is_told_and_harms_nothing(
    store: Any, is_anew: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "LOOK_EVERY_S", -1)
    old = take_over(store)
    append(old, [1], [2])
    at, sealed = old.end(), old.seal(frame(old.end(), 1))
    for name in names(store):
        obstore.delete(store, name)
    groups = []
    if is_anew:
        let_go(WHERE)
        new = open_objects(objects(store), name="band", log_id="new")
        groups = append(new, *([n % 3] for n in range(6)))

    with pytest.raises(Unavailable, match="was removed, or moved away, or made anew"):
        old.save(Snapshot(at, b"old"))
    with pytest.raises(Unavailable, match="was removed, or moved away, or made anew"):
        old.append([sealed])
    with pytest.raises(Unavailable, match="takes no more"):
        old.append([sealed])

    if is_anew:
        assert contents(read_objects(objects(store))) == flat(groups)
        groups += append(new, [1])
        assert contents(take_over(store)) == flat(groups)
    else:
        with pytest.raises(LogCorrupt, match=r"the manifest is missing, and log/log/0+3 is there.*removed on purpose"):
            take_over(store)


# Several shards


def test_who_only_wants_to_speak_takes_no_log_over_that_was_not_closed(store: Any) -> None:
    def visit() -> ObjectLog:
        let_go(WHERE)
        return open_objects(objects(store), name="band", log_id="log", takes_over=False)

    log = take_over(store)
    groups = append(log, [1])
    for is_saved in (False, True):
        if is_saved:
            log.save(Snapshot(log.end(), b"state"))
        with pytest.raises(Unavailable, match=r"it is played by process \d+ on .*, since 2.*Z, or that one was ended before"):
            visit()
        groups += append(log, [1])

    log.close()
    guest = visit()
    groups += append(guest, [2])
    guest.close()
    again = take_over(store)

    assert again.notes == []
    assert again.epoch == 3
    assert contents(again) == flat(groups)
    (note,) = take_over(store).notes
    assert "it was taken over from process" in note and "has not closed it" in note


def test_a_store_of_several_shards_keeps_each_apart_and_stays_as_many(tmp_path: Path) -> None:
    url = f"objects:{tmp_path / 'store'}"
    logs_ = [open_log(url, name="band", shard=shard, shards=3) for shard in (2, 0, 1)]
    told = {log.shard: flat(append(log, [log.shard + 1])) for log in logs_}

    assert count_shards(url) == 3
    assert len({log.id for log in logs_}) == 3
    for shard in range(3):
        assert read_log(url, shard).shard == shard
        assert contents(read_log(url, shard)) == told[shard]
    for shards, words in ((1, "one is"), (4, "4 are")):
        with pytest.raises(
            Unavailable, match=f"it has 3 shards, and {words} asked for; play it with stage: .kind: ray, shards: 3"
        ):
            open_log(url, name="band", shards=shards)
    with pytest.raises(Unavailable, match="can't be divided anew; only a store in a directory can"):
        reshard(url, 2)


def test_a_log_may_begin_where_another_was(store: Any) -> None:
    whole = take_over(store)
    told = flat(append(whole, [2], [1, 0], [3]))
    first = next(whole.frames(1))
    begin = Position(1, first.first, first.prev, first.time_us - 1)
    other = MemoryStore()
    manifest = codec.new_manifest("log", "branch", 0)._replace(fork=Fork("main", "log", begin))
    obstore.put(other, "ensemble.json", codec.encode_manifest(manifest))
    for n in range(3):  # its beginning, and the groups from frame 1 on
        name = f"log/log/{n + (n > 0):020d}"
        obstore.put(other, f"log/log/{n:020d}", objects(store).get(name))

    let_go(WHERE)
    branch = open_objects(objects(other), name="", log_id="")

    assert branch.begin() == begin
    assert contents(branch) == contents(read_objects(objects(other))) == told[1:]
    assert branch.end() == whole.end()
    assert contents(branch, 2) == told[2:]
    assert branch.frame_at(begin.offset).seq == 1
