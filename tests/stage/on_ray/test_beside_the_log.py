"""What lies beside the log, or goes from it, while a band plays on Ray: large data, people's keys, retention, anchors.

What solo's own tests say of them holds there as well. Those that play on a stand say it of both.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ensemble
from ensemble import Event, emit, takes
from ensemble.broker.outbox import shard_of
from ensemble.errors import LogCorrupt, OffsetError
from ensemble.event import encode
from ensemble.log.audit.anchor import new_key
from ensemble.log.directory import open_directory
from ensemble.stage.on_ray.line import Line
from ensemble.stage.on_ray.stage import RayStage
from ensemble.testing import ManualClock
from ensemble.trimming import trim_store
from tests.conformance.home import at_home
from tests.conformance.stand import Stand, eventually, part
from tests.test_auditing import cut_last_group

FORGOTTEN = "(forgotten)"
CPUS = {"cpus": 0.1}


ON_RAY = pytest.param("ray", marks=pytest.mark.everywhere("who begins a loop on Ray begins it as in solo"))


@pytest.fixture(params=["solo", ON_RAY])
def on(request: pytest.FixtureRequest, cluster: None) -> str:
    return str(request.param)


# Large data


def measure(event: Event, ctx: Any) -> Any:
    ctx.state["sizes"] = [*ctx.state.get("sizes", ()), len(event.data["text"])]
    return emit("measured", {"number": event.data["number"], "size": len(event.data["text"])})


async def measure_later(event: Event, ctx: Any) -> Any:
    return measure(event, ctx)


def measure_all(events: list[Event]) -> Any:
    return [emit("measured", {"number": event.data["number"], "size": len(event.data["text"])}) for event in events]


def glance(event: Event) -> Any:
    return emit("glanced", event.key)


MEASURING: dict[str, Callable[..., Any]] = {"one": measure, "later": measure_later, "batch": measure_all}
SIZES = (10, 2_000, 150_000, 2_000, 700_000)


def say(band: ensemble.Band, *sizes: int) -> None:
    for number, size in enumerate(sizes):
        band.publish("said", {"number": number, "text": chr(65 + number) * size}, key=f"k-{number % 3}")


def measured(band: ensemble.Reader) -> list[tuple[str, int, int]]:
    return sorted((event.source, event.data["number"], event.data["size"]) for event in band.events("measured"))


def test_large_data_reaches_every_kind_of_player_lately_said_or_long_ago(stand: Stand) -> None:
    store = {"blob_above": "1KiB"}
    parts = {name: part(call, "said", emits=["measured"], section=CPUS) for name, call in MEASURING.items()}
    band = stand.play(parts, store=store)
    say(band, *SIZES)
    band.settle(60)
    everybody = [(f"/test/{name}", number, size) for name in sorted(MEASURING) for number, size in enumerate(SIZES)]

    assert measured(band) == everybody
    assert [len(event.data["text"]) for event in band.events("said")] == list(SIZES)
    assert band.table("one")["k-1"] == {"sizes": [2_000, 700_000]}
    assert (band.status().bytes or 0) < 50_000

    late = {f"new-{name}": part(MEASURING[name], "said", emits=["measured"], section=CPUS) for name in ("later", "one")}
    band = stand.play(late, store=store)
    band.settle(60)

    everybody += [(f"/test/{name}", number, size) for name in late for number, size in enumerate(SIZES)]
    assert measured(band) == sorted(everybody)
    with stand.reader() as reader:
        assert [len(event.data["text"]) for event in reader.events("said")] == list(SIZES)


@pytest.mark.directory("its files are taken away")
def test_data_that_is_lost_is_the_failure_of_its_event_for_who_looks_at_it_and_of_nobody_else(stand: Stand) -> None:
    store = {"blob_above": "1KiB"}
    say(stand.play({}, store=store), 10, 5_000, 20)
    stand.leave()
    [lost] = stand.path.glob("**/blobs/*/*")
    lost.unlink()
    looks = {
        f"looks-{name}": part(call, "said", emits=["measured"], section=CPUS, retry={"attempts": 1})
        for name, call in MEASURING.items()
    }

    band = stand.play({**looks, "glance": part(glance, "said", emits=["glanced"], section=CPUS)}, store=store)
    band.settle(60)

    assert sorted(event.data for event in band.events("glanced")) == ["k-0", "k-1", "k-2"]
    assert sorted((number, size) for _, number, size in measured(band)) == [(0, 10)] * 3 + [(2, 20)] * 3
    assert {(letter.player, letter.event.key) for letter in band.dead()} == {(name, "k-1") for name in looks}
    assert all(f"{lost.name}: this data is missing" in letter.error for letter in band.dead())
    with pytest.raises(LogCorrupt, match="this data is missing"):
        _ = next(band.events("said", key="k-1")).data


OVER_S3 = pytest.param("s3", 1, marks=pytest.mark.everywhere("it needs a server; the nodes know nothing of it, as in a cloud"))


@pytest.mark.parametrize(("kind", "shards"), [("directory", 2), OVER_S3])
def test_an_instance_gets_large_data_itself_and_where_it_can_not_from_its_shard(
    cluster: None, tmp_path: Path, request: pytest.FixtureRequest, kind: str, shards: int
) -> None:
    store = str(tmp_path / "store") if kind == "directory" else request.getfixturevalue("s3").url()
    document: dict[str, Any] = {
        "ensemble": 1,
        "name": "large",
        "players": {"hear": {"on": "said", "emits": ["measured"], "section": CPUS}},
        "store": {"blob_above": "1KiB"},
        "stage": {"kind": "ray", "shards": shards},
    }
    seen: list[Any] = at_home([])

    def hear(event: Event) -> Any:
        rows: Any = event._rows.data
        claims = rows.fetch.func.__self__
        if event.data["number"] == 1:  # from here on as on another machine
            claims._url, claims._places = "nowhere", {}
        text = event.data["text"]
        asked = sorted(claims._peers._lines)
        seen.append((event.data["number"], len(text), asked))

    with ensemble.open(document, store=store, players={"hear": hear}) as band:
        for number in range(4):
            band.publish("said", {"number": number, "text": f"{number}" * 5_000}, key="k")
            band.settle(60)

    home = shard_of("k", shards)
    assert list(seen) == [(0, 5_000, []), (1, 5_000, []), (2, 5_000, [home]), (3, 5_000, [home])]


def test_a_take_has_the_large_data_of_its_past_and_of_its_own(on: str, tmp_path: Path) -> None:
    store, made = str(tmp_path / "store"), {"ensemble": 1, "name": "large", "store": {"blob_above": "1KiB"}}
    with ensemble.open(made, store=store) as band:
        say(band, 2_000, 10, 3_000)
    takes.new(store, "what-if", at=3)
    made["players"] = {"hear": {"on": "said", "emits": ["measured"], "section": CPUS}}

    with ensemble.open(made, stage=on, store=store, take="what-if", players={"hear": measure}) as band:
        say(band, 4_000)
        band.settle(60)

        assert [(number, size) for _, number, size in measured(band)] == [(0, 2_000), (0, 4_000), (1, 10), (2, 3_000)]
        assert [len(event.data["text"]) for event in band.events("said")] == [2_000, 10, 3_000, 4_000]


# People who are forgotten

PERSONAL: dict[str, Any] = {
    "order.placed": {"key": "who", "personal": {"subject": "who", "fields": ["name", "letter"]}},
    "letter.sent": {"personal": {"subject": "key"}},
}


def customers(order: Event, ctx: Any) -> Any:
    ctx.state["name"] = order.data["name"]
    ctx.state["orders"] = ctx.state.get("orders", 0) + 1
    if order.data.get("fails"):
        raise ensemble.Reject(f"can't serve {order.data['name']}")
    return emit("letter.sent", {"text": f"Dear {order.data['name']}", "size": len(order.data["letter"])}, key=order.data["who"])


def posted(letter: Event, ctx: Any) -> None:
    ctx.state["letters"] = ctx.state.get("letters", 0) + 1
    ctx.state["size"] = letter.data["size"]


def order(who: str, **more: Any) -> dict[str, Any]:
    return {"who": who, "name": f"SECRET-{who}", "letter": f"SECRET-{who}" * 1_000, **more}


def all_that_is_read(reader: ensemble.Reader) -> bytes:
    events = [*reader.events(), *reader.events("_band.>")]
    told = [[event.id, event.topic, event.key, event.data, event.forgotten] for event in events]
    dead = [[letter.error, letter.traceback, letter.event.data] for letter in reader.dead()]
    return encode([told, dead, dict(reader.table("customers").items()), str(reader.why(events[0].id))])


def test_who_is_forgotten_is_unreadable_while_the_band_plays_and_after(stand: Stand) -> None:
    parts = {
        "customers": part(
            customers, "order.placed", emits=["letter.sent"], section=CPUS,
            state={"personal": {"subject": "key", "fields": ["name"]}},
        ),
        "posted": part(posted, "letter.sent", section=CPUS),
    }  # fmt: skip
    band = stand.play(parts, events=PERSONAL, store={"blob_above": "1KiB"})
    for who in ("ella", "miles"):
        band.publish("order.placed", order(who))
        band.publish("order.placed", order(who, fails=True))
    band.settle(60)
    assert b"SECRET-ella" in all_that_is_read(band)
    assert {letter.error for letter in band.dead()} == {f"Reject: can't serve SECRET-{who}" for who in ("ella", "miles")}

    assert band.forget("ella") == 1

    read = all_that_is_read(band)
    assert b"SECRET-ella" not in read
    assert b"SECRET-miles" in read
    assert band.table("customers")["ella"] == {"name": FORGOTTEN, "orders": 1}
    assert {letter.event.key: letter.error for letter in band.dead()}["ella"] == FORGOTTEN
    assert [event.forgotten for event in band.events("order.placed", key="ella")] == [True, True]
    with pytest.raises(KeyError, match="no data of a subject 'ellla'"):
        band.forget("ellla")
    band.publish("order.placed", order("ella"))
    band.settle(60)
    assert band.table("customers")["ella"] == {"name": "SECRET-ella", "orders": 2}
    assert band.table("posted")["ella"] == {"letters": 2, "size": 11_000}
    assert band.forget("ella") == 1
    while_playing = all_that_is_read(band)
    stand.leave()

    if stand.setup.store != "memory":
        assert [path for path in stand.path.rglob("*") if path.is_file() and b"SECRET" in path.read_bytes()] == []
        assert ensemble.audit(stand.url, tables=True).findings == ()
    with stand.reader() as reader:
        assert all_that_is_read(reader) == while_playing


@pytest.mark.everywhere("the test of one shard says most of it")
def test_in_several_shards_nothing_of_who_is_forgotten_is_left_in_any(cluster: None, tmp_path: Path) -> None:
    """What is said of him crosses to the shard that is asked to forget first, and his letters from there to the others."""
    assert shard_of("chet", 3) == 0
    store = str(tmp_path / "store")
    events = {
        "order.placed": {"key": "n", "personal": {"subject": "who", "fields": ["name"]}},
        "letter.sent": {"personal": {"subject": "who"}},
    }
    document: dict[str, Any] = {
        "ensemble": 1,
        "name": "shop",
        "events": events,
        "players": {
            "customers": {
                "on": "order.placed", "by": "who", "emits": ["letter.sent"], "section": CPUS,
                "state": {"personal": {"subject": "key"}},
            },
            "posted": {"on": "letter.sent", "section": CPUS},
        },
        "stage": {"kind": "ray", "shards": 3},
    }  # fmt: skip

    def serve(order: Event, ctx: Any) -> Any:
        ctx.state["names"] = [*ctx.state.get("names", ()), order.data["name"]]
        return emit("letter.sent", {"who": order.data["who"], "text": order.data["name"]}, key=f"letter-{order.data['n']}")

    with ensemble.open(document, store=store, players={"customers": serve, "posted": glance_at}) as band:
        people = [("chet", "miles")[n % 2] for n in range(400)]
        orders = [{"who": who, "n": f"{n}", "name": f"SECRET-{who}"} for n, who in enumerate(people)]
        band.publish_many(orders, topic="order.placed")
        assert band.forget("chet") >= 1  # while his orders and letters are on their way between the shards
        band.settle(60)

        said = [str(event.data) for event in band.events()]
        assert not any("SECRET-chet" in each for each in said)
        assert sum("SECRET-miles" in each for each in said) == 400
        assert len(band.table("customers")["miles"]["names"]) == 200
        assert "SECRET" not in str(band.table("customers").get("chet"))
    with ensemble.read(store) as reader:
        assert not any("SECRET-chet" in str(event.data) for event in reader.events())
    assert ensemble.audit(store, tables=True).findings == ()


class FakeLine(Line):
    """A shard that has so many keys of somebody each time that it is asked."""

    def __init__(self, *keys: int) -> None:
        super().__init__(None, "shop")
        self.keys = list(keys)

    def ask(self, verb: str, *given: Any) -> Any:
        count = self.keys.pop(0)
        return [count, "" if count else "it has no data of such a subject"]


def test_all_shards_are_asked_again_until_none_has_anything_of_who_is_forgotten() -> None:
    stage = RayStage.__new__(RayStage)
    stage._is_closed = False
    lines = [FakeLine(1, 2, 0), FakeLine(0, 0, 0), FakeLine(3, 0, 0)]
    stage._lines = lines

    assert stage.forget("ella") == 6
    assert [line.keys for line in lines] == [[]] * 3
    stage._lines = [FakeLine(0), FakeLine(0)]
    with pytest.raises(KeyError, match="no data of such a subject"):
        stage.forget("ella")


def glance_at(event: Event) -> None: ...


# Retention


def tally(event: Event, ctx: Any) -> None:
    ctx.state["count"] = ctx.state.get("count", 0) + 1


@pytest.fixture
def long_ago(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of many small segments: 60 events of order.x and 100 of order.placed, a minute apart, of three keys."""
    clock = ManualClock("2026-01-01T00:00:00Z")
    store = tmp_path / "store"
    with monkeypatch.context() as patch:
        patch.setattr("ensemble.stage.loop.SNAPSHOT_BYTES", 2_000)
        patch.setitem(open_directory.__kwdefaults__ or {}, "segment_bytes", 2_000)
        made = document()
        with ensemble.open(made, players={"tally": tally}, store=str(store), clock=clock) as band:
            for n in range(160):
                topic = "order.x" if n < 60 else "order.placed"
                band.publish(topic, {"n": n, "note": "x" * 100}, key=f"k-{n % 3}")
                band.settle()
                clock.advance(minutes=1)
        ensemble.open(made, players={"tally": tally}, store=str(store), clock=clock).close()
    return store


def document(**more: Any) -> dict[str, Any]:
    players = {"tally": {"on": "order.*", "section": CPUS}, **more.pop("players", {})}
    return {"ensemble": 1, "name": "shop", "players": players, **more}


def test_a_band_takes_what_its_score_lets_go_while_it_plays_and_late_players_hear_the_rest(on: str, long_ago: Path) -> None:
    made = document(retain={"size": "20KB"})

    with ensemble.open(made, stage=on, players={"tally": tally}, store=str(long_ago)) as band:
        band.settle(60)
        before = band.status().events
        band.publish("order.placed", {"n": 160}, key="k-1")
        eventually(lambda: next(band.events()).offset > 50, "the end of what may go", 60)
        band.settle(60)

        left = list(band.events())
        assert left[-1].data == {"n": 160}
        assert sum(state["count"] for state in band.table("tally").values()) == 161
        assert (before, band.status().topics["order.placed"], band.status().sections["tally"].lag) == (160, 101, 0)
        with pytest.raises(OffsetError, match=r"retention took it: retain: \{size: 20000B\} on 20"):
            band.event(f"{band.id}-0")
        played = [event for event in band.history().events if not event.topic.startswith("_band.")]
        assert [event.offset for event in played] == [event.offset for event in left]
    with ensemble.read(str(long_ago)) as reader:
        assert [event.offset for event in reader.events()] == [event.offset for event in left]
    made["players"]["late"] = {"on": "order.*", "section": CPUS}
    with ensemble.open(made, stage=on, players={"tally": tally, "late": tally}, store=str(long_ago)) as band:
        band.settle(60)
        assert sum(state["count"] for state in band.table("late").values()) == len(left)
    assert ensemble.audit(str(long_ago), tables=True).findings == ()


def test_what_is_left_of_a_compacted_topic_is_read_from_afar_as_from_the_store(on: str, long_ago: Path) -> None:
    made = document(events={"order.x": {"compact": True}})

    with ensemble.open(made, stage=on, players={"tally": tally}, store=str(long_ago)) as band:
        eventually(lambda: len(list(band.events("order.x"))) == 3, "the end of all but the newest", 60)

        with ensemble.read(str(long_ago)) as reader:
            for each in (reader, band):
                newest = [(event.key, event.data["n"]) for event in each.events("order.x")]
                assert newest == [("k-0", 57), ("k-1", 58), ("k-2", 59)]
                assert each.status(at=57).topics == {"order.x": 57}
                assert each.table("tally", at=57) == {f"k-{n}": {"count": 19} for n in range(3)}
    trim_store(str(long_ago))
    assert ensemble.audit(str(long_ago), tables=True).findings == ()


# Anchors


@pytest.mark.parametrize("on", ["solo", ON_RAY], indirect=True)
def test_a_band_anchors_its_head_and_does_not_play_another_log(on: str, tmp_path: Path) -> None:
    new_key(tmp_path / "audit.pem")
    audit = {"anchor": str(tmp_path / "heads.jsonl"), "key": str(tmp_path / "audit.pem"), "every": "1h"}
    store = str(tmp_path / "store")

    with ensemble.open(document(audit=audit), stage=on, players={"tally": tally}, store=store) as band:
        band.publish("order.placed", {"n": 1}, key="k")
        band.settle(60)

    assert ensemble.audit(store, anchor=audit["anchor"], key=f"{audit['key']}.pub", tables=True).is_whole
    cut_last_group(store)
    assert not ensemble.audit(store, anchor=audit["anchor"], key=f"{audit['key']}.pub").is_whole
    with pytest.raises(LogCorrupt, match="its end was cut off, or it was written anew"):
        ensemble.open(document(audit=audit), stage=on, players={"tally": tally}, store=store)
