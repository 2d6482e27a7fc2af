"""Retention in a band that plays: what it must not take, and what plays on without what it took."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import ensemble
from ensemble import Match, takes
from ensemble.auditing import audit
from ensemble.errors import OffsetError, Unavailable
from ensemble.log import manifest as manifests
from ensemble.log import open_log
from ensemble.log.base import Packed, Taken
from ensemble.log.blobs import Blobs, DirectoryBlobs
from ensemble.log.directory import open_directory
from ensemble.log.memory import forget_memory_store, memory_store
from ensemble.log.memory_packing import MemoryPacking
from ensemble.log.objects.blobs import ObjectBlobs
from ensemble.log.objects.packing import ObjectPacking
from ensemble.log.objects.store import objects_at
from ensemble.resharding import reshard
from ensemble.score import load
from ensemble.testing import ManualClock
from ensemble.trimming import trim_store
from tests.conformance.stand import eventually

pytestmark = pytest.mark.usefixtures("small_parts")


@pytest.fixture(params=["directory", "objects", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where the band plays."""
    url = {"directory": str(tmp_path / "s"), "objects": f"objects:{tmp_path / 'o'}", "memory": f"memory:{request.node.nodeid}"}[
        request.param
    ]
    yield url
    forget_memory_store(url.removeprefix("memory:"))


def score(retain: Any = None, **more: Any) -> dict[str, Any]:
    players = {"tally": {"on": "order.*"}} | more.pop("players", {})
    said = {"ensemble": 1, "name": "shop", "players": players, **more}
    return said if retain is None else said | {"retain": retain}


def tally(event: Any, ctx: Any) -> None:
    ctx.state["count"] = ctx.state.get("count", 0) + 1
    if event.data.get("fails"):
        raise ensemble.Reject("it fails")


def say(band: Any, clock: ManualClock, count: int, topic: str = "order.placed", **data: Any) -> None:
    for ix in range(count):
        band.publish(topic, {"n": ix, "note": "x" * 100, **data}, key=f"k-{ix % 3}")
        band.settle()
        clock.advance(minutes=1)


def test_a_band_forgets_what_is_older_than_its_score_says_and_plays_on(store: str, clock: ManualClock) -> None:
    options: dict[str, Any] = {"store": store, "clock": clock}
    with ensemble.open(score({"time": "1h"}), players={"tally": tally}, **options) as band:
        say(band, clock, 200)

        left = list(band.events())
        assert 60 <= len(left) < 150
        assert left[-1].data["n"] == 199
        assert left[0].written_at <= clock.now() - 60 * (clock.now() - left[-1].written_at)
        assert sum(state["count"] for state in band.table("tally").values()) == 200
        assert (band.status().sections["tally"].lag, band.status().events) == (0, 200)
        with pytest.raises(OffsetError, match=r"retention took it: retain: \{time: 1h\} on 2026-01-01T0"):
            band.event(f"{band.id}-0")
        assert [event.offset for event in band.history().events] == [event.offset for event in left]
    with ensemble.read(store) as reader:
        assert [event.offset for event in reader.events()] == [event.offset for event in left]
    players = {"tally": tally, "late": tally}
    with ensemble.open(score({"time": "1h"}, players={"late": {"on": "order.*"}}), players=players, **options) as band:
        band.settle()
        begin = next(band.events()).offset
        assert sum(state["count"] for state in band.table("late").values()) == 200 - begin
        assert {name: section.lag for name, section in band.status().sections.items()} == {"tally": 0, "late": 0}


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # retention took it meanwhile
        return 0


def test_a_fault_that_nobody_expected_is_told_and_the_log_is_made_smaller_when_that_is_over(
    store: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with ensemble.open(score({"size": "20KB"}, store={"linger": "0ms"}), players={"tally": tally}, store=store) as band:

        def is_true_once_more_was_said(what: Callable[[], bool]) -> bool:
            band.publish_many([{"n": 1, "note": "x" * 100}] * 20, topic="order.placed")
            return what()

        with monkeypatch.context() as odd:
            odd.setattr("ensemble.stage.keeper.needed", lambda *_: 1 / 0)
            told = "ZeroDivisionError: division by zero; the band plays on"
            eventually(lambda: is_true_once_more_was_said(lambda: told in caplog.text), "a word of it")
            assert next(band.events()).offset == 0
        eventually(lambda: is_true_once_more_was_said(lambda: next(band.events()).offset > 0), "room")


def test_a_band_on_threads_keeps_within_its_size(store: str) -> None:
    with ensemble.open(score({"size": "40KB"}, store={"linger": "0ms"}), players={"tally": tally}, store=store) as band:
        for _ in range(40):
            band.publish_many([{"n": 1, "note": "x" * 100}] * 20, topic="order.placed")
            band.settle(timeout=10)

        eventually(lambda: (band.status().bytes or 0) < 60_000)
        assert band.table("tally")[""] == {"count": 800}
        assert next(band.events()).offset > 0
    if store.startswith("memory:"):
        held = memory_store(store.removeprefix("memory:"))
        assert held is not None
        assert sum(map(len, held.held.data)) + sum(pack.whole for pack in held.held.packs) == held.size < 60_000
    elif not store.startswith("objects:"):
        assert sum(path.stat().st_size for path in (Path(store) / "shard-0").glob("*.*")) < 60_000
    else:
        folders = [Path(store.removeprefix("objects:")) / folder for folder in ("log", "segments", "packs", "past")]
        assert sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file()) < 80_000


def test_dead_letters_and_what_is_held_stay_and_can_be_heard_again(store: str, clock: ManualClock) -> None:
    made = score({"time": "10m"}, players={"strict": {"on": "order.placed", "on_failure": "hold"}})
    players: dict[str, Any] = {"tally": tally, "strict": tally}
    options: dict[str, Any] = {"store": store, "clock": clock}
    with ensemble.open(made, players=players, **options) as band:
        say(band, clock, 1, fails=True)
        say(band, clock, 120, "order.paid")

        assert next(band.events()).offset > 50
        letters = band.dead()
        assert {(letter.player, letter.event.offset, letter.event.data["fails"]) for letter in letters} == {
            ("strict", 0, True), ("tally", 0, True),
        }  # fmt: skip
    heard: list[Any] = []
    players = {"tally": lambda event: heard.append(event.data["n"]), "strict": lambda event: heard.append(event.key)}
    with ensemble.open(made, players=players, **options) as band:
        band.retry_dead()
        band.settle()
        assert sorted(map(str, heard)) == ["0", "k-0"]
        assert band.dead() == []
        say(band, clock, 60, "order.paid")
    with pytest.raises(OffsetError, match="retention took it"):
        ensemble.read(store).event(f"{band.id}-0")


def test_the_parts_of_an_open_match_stay(store: str, clock: ManualClock) -> None:
    heard: list[Any] = []

    def ship(match: Match) -> None:
        heard.append([event.data["n"] for event in match.events])

    motif = {"all": [{"event": "paid", "where": "data.n < 1000"}, "packed"]}
    made = score({"time": "10m"}, players={"ship": {"on": motif}})
    for _ in range(2):  # the second time the motif is as it was found in the store
        with ensemble.open(made, players={"tally": tally, "ship": ship}, store=store, clock=clock) as band:
            if not heard:
                band.publish("paid", {"n": 7}, key="ann")
                band.publish("paid", {"n": 8}, key="bob")
            say(band, clock, 100)
            band.publish("packed", {"n": 9}, key="bob" if heard else "ann")
            band.settle()
            assert next(band.events()).offset > 50
            assert [cause.data["n"] for cause in band.why(f"{band.id}-{band.status().events - 1}").causes] in ([7, 9], [8, 9])

    assert heard == [[7, 9], [8, 9]]


def test_a_player_that_comes_back_hears_what_is_left(store: str, clock: ManualClock) -> None:
    options: dict[str, Any] = {"store": store, "clock": clock}
    both = {"tally": tally, "other": tally}
    with_other = score({"time": "30m"}, events={"order.x": {"compact": True}}, players={"other": {"on": "order.*"}})
    without = score({"time": "30m"}, events={"order.x": {"compact": True}})
    with ensemble.open(with_other, players=both, **options) as band:
        say(band, clock, 3)
    with ensemble.open(without, players={"tally": tally}, **options) as band:
        say(band, clock, 100)
        say(band, clock, 15, "order.x")
        say(band, clock, 15)
    with ensemble.open(with_other, players=both, **options) as band:
        band.settle()
        left = [event.offset for event in band.events("order.*")]

        assert left[0] > 3
        assert sum(state["count"] for state in band.table("other").values()) == 3 + len(left)
        assert band.status().sections["other"].lag == 0


def test_of_a_compacted_topic_the_newest_of_each_key_stays(store: str, clock: ManualClock) -> None:
    made = score(events={"order.x": {"compact": True}, "order.y": {"retain": {"time": "20m"}}})
    options: dict[str, Any] = {"store": store, "clock": clock}
    with ensemble.open(made, players={"tally": tally}, **options) as band:
        say(band, clock, 60, "order.x")
        say(band, clock, 60, "order.y")
        say(band, clock, 60)
    done = trim_store(store)

    with ensemble.read(store) as reader:
        topics = [event.topic for event in reader.events()]
        assert [(event.key, event.data["n"]) for event in reader.events("order.x")][-3:] == [
            ("k-0", 57),
            ("k-1", 58),
            ("k-2", 59),
        ]
        assert topics.count("order.x") == 3
        assert topics.count("order.y") < 20
        assert topics.count("order.placed") == 60
        assert reader.status().topics["order.x"] == 60
        assert sum(state["count"] for state in reader.table("tally").values()) == 180
        assert len(reader.history().hearings) == len(topics)
    assert (done.name, done.begins) == ("shop", (0,))
    assert done.after <= done.before
    assert trim_store(store).removed == ()


def told(store: str) -> Any:
    """What a reader finds: where the log begins, all events, and how large it is."""
    with ensemble.read(store) as reader:
        [shard] = reader._shards
        return shard.log.begin(), [(event.offset, event.payload) for event in reader.events()], shard.log.size_bytes()


def test_a_rehearsal_tells_what_would_go_and_changes_nothing(store: str, clock: ManualClock) -> None:
    with ensemble.open(score(), players={"tally": tally}, store=store, clock=clock) as band:
        say(band, clock, 150)
    ensemble.open(score(), players={"tally": tally}, store=store, clock=clock).close()
    wanted = ensemble.load(score({"size": "20KB"}))
    before = told(store)

    would = trim_store(store, wanted, is_rehearsal=True)

    assert told(store) == before
    done = trim_store(store, wanted)
    assert would.removed == done.removed
    assert would.begins == done.begins
    assert would.before == done.before
    assert abs(would.after - done.after) < 500  # what is said of it takes room, too
    assert done.after < 24_000
    with ensemble.read(store) as reader:
        assert len(list(reader.events())) == 150 - done.removed[0].events


def test_a_store_whose_score_says_nothing_is_left_alone_and_one_that_lost_events_is_not_divided(
    tmp_path: Path, clock: ManualClock
) -> None:
    store = str(tmp_path / "s")
    with ensemble.open(score(), players={"tally": tally}, store=store, clock=clock) as band:
        say(band, clock, 150)
    with pytest.raises(Unavailable, match=r"its score says nothing of what goes; write retain: \{time: 90d\}"):
        trim_store(store)
    with pytest.raises(Unavailable, match="there is no store"):
        trim_store(str(tmp_path / "t"))
    with ensemble.open(score({"size": "10KB"}), players={"tally": tally}, store=store, clock=clock) as band:
        say(band, clock, 20)

    with pytest.raises(Unavailable, match="retention took events of this store"):
        reshard(store, 2)


# Beside what else is asked of a store


def test_a_store_that_lost_events_passes_its_audit_and_one_that_lost_more_does_not(tmp_path: Path, clock: ManualClock) -> None:
    store = tmp_path / "s"
    made = score({"time": "1h"}, events={"order.x": {"compact": True}})
    with ensemble.open(made, players={"tally": tally}, store=str(store), clock=clock) as band:
        say(band, clock, 60, "order.x")
        say(band, clock, 100)
    trim_store(str(store))

    audited = audit(str(store), tables=True, who=True)

    assert audited.findings == ()
    assert audited.logs[0].begin.offset > 0
    assert audited.tables == {"tally": 3}
    [past] = store.glob("shard-0/00000000000000000000.*.pack")
    whole = past.read_bytes()
    past.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "checksum" in audit(str(store)).findings[0].wrong
    past.write_bytes(whole)
    log = open_directory(store, name="", log_id="", create=False)  # somebody who has the right tools
    packing, base = log.packing(), log.base()
    assert base is not None
    packing.put(
        packing.pack(packing.parts()[:1], lambda frame: Taken([], has_marks=False), state=lambda: base.state, compress=True)
    )
    log.close()
    assert "nothing in the log says of this file that it takes their place" in audit(str(store)).findings[0].wrong


@pytest.mark.parametrize("store", ["objects", "memory"], indirect=True)
def test_an_audit_goes_across_what_went_in_other_kinds_of_store(store: str, clock: ManualClock) -> None:
    made = score({"time": "1h"}, events={"order.x": {"compact": True}})
    with ensemble.open(made, players={"tally": tally}, store=store, clock=clock) as band:
        say(band, clock, 60, "order.x")
        say(band, clock, 100)
    trim_store(store)

    audited = audit(store, tables=True, who=True)

    assert audited.findings == ()
    assert audited.logs[0].begin.offset > 0
    assert audited.tables == {"tally": 3}
    assert {count.topic for count in audited.who} >= {"order.placed"}
    with ensemble.open(score(), players={"tally": tally}, store=store, clock=clock) as band:
        say(band, clock, 60)
    with closing(open_log(store, name="", create=False)) as log:  # somebody who has the right tools
        packing = log.packing()
        assert packing is not None
        packing.put(packing.pack([packing.parts()[1]], lambda frame: Taken([], has_marks=True)))
    assert "nothing in the log says of this file that it takes their place" in audit(store).findings[0].wrong


def test_what_is_personal_stays_encrypted_in_packs_and_can_be_forgotten(tmp_path: Path, clock: ManualClock) -> None:
    store, secret = tmp_path / "s", "a secret of theirs"
    personal = {"order.placed": {"personal": {"subject": "key", "fields": ["note"]}}}
    made = score({"time": "1h"}, events=personal)
    made["players"]["tally"]["state"] = {"personal": {"subject": "key"}}

    def remember(event: Any, ctx: Any) -> None:
        ctx.state["note"] = event.data["note"]
        if event.data["n"] == 1:
            raise ensemble.Reject("it fails")

    with ensemble.open(made, players={"tally": remember}, store=str(store), clock=clock) as band:
        for ix in range(160):
            band.publish("order.placed", {"n": ix, "note": f"{secret} {'x' * 100}"}, key=f"k-{ix % 3}")
            band.settle()
            clock.advance(minutes=1)
        assert next(band.events()).offset > 0
        assert secret in band.dead()[0].event.data["note"]
    [past] = store.glob("shard-0/*.pack")
    assert secret.encode() not in past.read_bytes()
    with ensemble.read(str(store)) as reader:
        base = reader._shards[0].log.base()
        assert base is not None
        assert secret.encode() in base.state, "who reads it has the keys"
        assert audit(str(store), tables=True).findings == ()

    with ensemble.open(made, players={"tally": remember}, store=str(store), clock=clock) as band:
        band.forget("k-1")
        assert "note" not in band.dead()[0].event.data or secret not in band.dead()[0].event.data["note"]
        assert {event.key for event in band.events() if secret in str(event.data)} == {"k-0", "k-2"}
    assert audit(str(store)).findings == ()


def blobs_in(store: str) -> Iterator[bytes]:
    if store.startswith("memory:"):
        held = memory_store(store.removeprefix("memory:"))
        assert held is not None
        return iter(held.blobs)
    blobs: Blobs = ObjectBlobs(objects_at(store)) if store.startswith("objects:") else DirectoryBlobs(Path(store))
    return (digest for digest, _ in blobs.copies())


def test_large_data_goes_with_the_events_that_named_it(store: str, clock: ManualClock) -> None:
    made = score({"time": "1h"}, store={"blob_above": "10KiB"})
    heard: list[int] = []
    options: dict[str, Any] = {"players": {"tally": lambda event: heard.append(len(event.data["note"]))}, "store": store}
    with ensemble.open(made, clock=clock, **options) as band:
        for ix in range(160):
            note = f"{ix} " * 5_000 if ix % 10 == 0 else "x" * 100
            band.publish("order.placed", {"n": ix, "note": note}, key="k")
            band.settle()
            clock.advance(minutes=1)

        left = [event.data["n"] for event in band.events()]
        assert left[0] > 0
        large = [n for n in left if n % 10 == 0]
        assert len(list(blobs_in(store))) == len(large)
        assert [size for size in heard if size > 1_000] == [5_000 * len(f"{n} ") for n in range(0, 160, 10)]
        assert (band.status().bytes or 0) < 100_000
    with pytest.raises(ensemble.ScoreError, match="blob_above: 100B is too small; the least is 1024B"):
        ensemble.load(score(store={"blob_above": "100B"}))


def test_from_a_store_that_has_takes_nothing_is_taken(store: str, clock: ManualClock) -> None:
    options: dict[str, Any] = {"players": {"tally": tally}, "clock": clock}
    with ensemble.open(score(), store=store, **options) as band:
        say(band, clock, 100)
    takes.new(store, "what-if", at=20)
    with ensemble.open(score({"time": "10m"}), store=store, **options) as band:
        say(band, clock, 50)
        assert next(band.events()).offset == 0
    with ensemble.open(score(), store=f"{store}#what-if", **options) as band:
        assert [event.data["n"] for event in band.events()] == list(range(20))
        assert sum(state["count"] for state in band.table("tally").values()) == 20
    takes.drop(store, "what-if")

    done = trim_store(store)

    assert done.begins[0] > 50
    with pytest.raises(OffsetError, match=r"there was no moment before event 20; it has the offsets \d+ to 149"):
        takes.new(store, "too-late", at=20)
    takes.new(store, "in-time", at=147)
    with ensemble.open(score(), store=f"{store}#in-time", **options) as band:
        say(band, clock, 5)
        assert sum(state["count"] for state in band.table("tally").values()) == 152
        assert next(band.events()).offset == done.begins[0]


@pytest.mark.parametrize("had_takes", [False, True], ids=["the first", "another"])
def test_who_makes_a_take_while_retention_takes_what_is_before_it_is_refused(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, had_takes: bool
) -> None:
    store = str(tmp_path / "s")
    options: dict[str, Any] = {"players": {"tally": tally}, "clock": clock}
    with ensemble.open(score(), store=store, **options) as band:
        say(band, clock, 100)
    if had_takes:
        takes.new(store, "old")
        takes.drop(store, "old")
    raise_format = manifests.raise_format
    told: list[str] = []

    def make() -> None:
        try:
            takes.new(store, "early", 30)
        except Unavailable as error:
            told.append(str(error))

    maker = threading.Thread(target=make)

    def late(*given: Any) -> None:  # retention has seen that there are no takes
        monkeypatch.undo()
        maker.start()
        maker.join(3)
        raise_format(*given)

    monkeypatch.setattr(manifests, "raise_format", late)
    done = trim_store(store, load(score({"time": "1m"})))
    maker.join(60)

    assert done.begins[0] > 30
    assert len(told) == 1
    assert "retention took what was before this place just now; choose a later one" in told[0]
    assert [take.name for take in takes.listed(store)] == ["main"]


@pytest.mark.parametrize("store", ["objects", "memory"], indirect=True)
def test_who_makes_a_take_after_retention_looked_for_the_last_time_sees_what_it_said(
    store: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"players": {"tally": tally}, "clock": clock}
    with ensemble.open(score(), store=store, **options) as band:
        say(band, clock, 100)
    looks: list[bool] = []
    for kind in (ObjectPacking, MemoryPacking):

        def look(self: Any, has_takes: Callable[[Any], bool] = kind.has_takes) -> bool:
            looks.append(has_takes(self))
            if len(looks) == 2:
                with pytest.raises(Unavailable, match="retention has said in the log that it takes what was before this place"):
                    takes.new(store, "early", 30)
            return looks[-1]

        monkeypatch.setattr(kind, "has_takes", look)

    done = trim_store(store, load(score({"time": "1m"})))

    assert looks == [False, False]
    assert done.begins[0] > 30
    assert [take.name for take in takes.listed(store)] == ["main"]
    assert takes.new(store, "late", done.begins[0]).offset == done.begins[0]


@pytest.mark.parametrize("store", ["objects", "memory"], indirect=True)
def test_what_retention_said_and_did_not_do_keeps_takes_off_until_it_is_done(
    store: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"players": {"tally": tally}, "clock": clock}
    with ensemble.open(score(), store=store, **options) as band:
        say(band, clock, 100)

    def full(self: Any, packed: Packed) -> None:
        ends.append(packed.end.offset)
        raise Unavailable("no room")

    ends: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(ObjectPacking, "put", full)
        patch.setattr(MemoryPacking, "put", full)
        with pytest.raises(Unavailable, match="no room"):
            trim_store(store, load(score({"time": "1m"})))

    with pytest.raises(Unavailable, match="may be about to; choose a later one"):
        takes.new(store, "early", ends[0] - 1)
    assert [take.name for take in takes.listed(store)] == ["main"]
    takes.new(store, "late", ends[0])
    takes.drop(store, "late")
    assert trim_store(store, load(score({"time": "1m"}))).begins[0] >= ends[0]


def test_a_take_is_made_in_the_middle_of_what_the_rule_of_a_topic_took(store: str, clock: ManualClock) -> None:
    options: dict[str, Any] = {"players": {"tally": tally}, "clock": clock}
    with ensemble.open(score(), store=store, **options) as band:
        for _ in range(50):
            say(band, clock, 1, "order.placed")
            say(band, clock, 1, "order.looked-at")
    removed = trim_store(store, load(score(events={"order.looked-at": {"retain": {"time": "1m"}}}))).removed
    place = next(offset for each in removed for offset in range(each.first + 1, each.end) if offset > 20 and offset % 2 == 0)

    takes.new(store, "what-if", place)

    with ensemble.read(store, take="what-if") as reader:
        assert [event.offset for event in reader.events()] == list(range(0, place, 2))


def test_a_folder_called_takes_that_lies_beside_the_store_keeps_nothing_in_it(tmp_path: Path, clock: ManualClock) -> None:
    (tmp_path / "takes").mkdir()
    (tmp_path / "takes/one.wav").touch()

    with ensemble.open(
        score({"time": "10m"}), store=str(tmp_path / "bands/shop"), players={"tally": tally}, clock=clock
    ) as band:
        say(band, clock, 100)

        assert next(band.events()).offset > 50


def test_a_store_right_below_the_root_of_the_file_system_has_no_takes_above_it(tmp_path: Path) -> None:
    with closing(open_directory(tmp_path / "s", name="shop", log_id="abcdef")) as log:
        packing = log.packing()
        log.folder = Path("/such-a-store-is-not-there")
        has_takes = packing.has_takes()
        log.folder = tmp_path / "s"

    assert not has_takes
