"""Tables, to the letter: when state goes, what a state of a type may be, and who may look up what (docs/tables.md)."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pydantic
import pytest

import ensemble
from ensemble import Context, Event, emit
from ensemble.event import Frame
from ensemble.testing import ManualClock
from tests.conformance.stand import Stand, part

pytestmark = pytest.mark.solo("a clock moved by hand; how state is read is the same code on every stage")

ONCE = {"attempts": 1}


def note(event: Event, ctx: Context) -> None:
    ctx.state["last"] = event.data


def expired(frames: list[Frame]) -> list[dict[str, list[str]]]:
    return [frame.marks["expired"] for frame in frames if "expired" in frame.marks]


# State that expires


def test_a_keys_state_goes_at_the_moment_and_a_write_puts_it_off(stand: Stand) -> None:
    clock = ManualClock()
    band = stand.play({"note": part(note, "said", state={"expire": "10s"})}, clock=clock)
    band.publish("said", 1, key="a")
    band.publish("said", 1, key="b")
    band.settle()
    clock.advance(seconds=6)
    band.publish("said", 2, key="a")
    band.settle()

    clock.advance(seconds=3.999)
    assert dict(band.table("note")) == {"a": {"last": 2}, "b": {"last": 1}}
    clock.advance(seconds=0.001)
    assert dict(band.table("note")) == {"a": {"last": 2}}
    clock.advance(seconds=6)
    assert dict(band.table("note")) == {}

    assert expired(stand.frames()) == [{"note": ["b"]}, {"note": ["a"]}]


def test_state_that_does_not_change_is_not_written_and_so_is_not_put_off(stand: Stand) -> None:
    clock = ManualClock()
    band = stand.play({"note": part(note, "said", state={"expire": "10s"})}, clock=clock)
    for _ in range(3):
        band.publish("said", 1, key="a")
        band.settle()
        clock.advance(seconds=5)

    assert dict(band.table("note")) == {"a": {"last": 1}}, "the third came when it had gone, and wrote it anew"
    assert len(expired(stand.frames())) == 1


def test_a_band_that_slept_through_the_moment_says_so_on_waking_once(stand: Stand) -> None:
    clock, parts = ManualClock(), {"note": part(note, "said", state={"expire": "10s"})}
    band = stand.play(parts, clock=clock)
    band.publish("said", 1, key="a")
    band.settle()
    stand.leave()

    clock.advance(days=1)
    for _ in range(2):
        band = stand.play(parts, clock=clock)
        band.settle()

    assert dict(band.table("note")) == {}
    assert expired(stand.frames()) == [{"note": ["a"]}]


def test_another_expire_counts_from_the_last_write_and_a_new_one_from_now(stand: Stand) -> None:
    clock = ManualClock()

    def play(**says: Any) -> ensemble.Band:
        return stand.play({"note": part(note, "said", **says)}, clock=clock)

    play().publish("said", 1, key="a")
    play().settle()
    clock.advance(seconds=100)
    play(state={"expire": "10s"})  # from now on: goes at 110
    clock.advance(seconds=5)
    play(state={"expire": "20s"})  # goes at 120
    clock.advance(seconds=14.999)
    assert list(play(state={"expire": "20s"}).table("note")) == ["a"]
    clock.advance(seconds=0.001)
    band = play(state={"expire": "20s"})
    band.settle()
    assert list(band.table("note")) == []

    band.publish("said", 1, key="b")
    band.settle()
    band = play()  # for ever again
    clock.advance(days=9)
    assert list(band.table("note")) == ["b"]


def test_ten_thousand_keys_go_together(stand: Stand) -> None:
    clock = ManualClock()
    band = stand.play({"note": part(note, "said", state={"expire": "1s"})}, clock=clock)
    band.publish_many({"topic": "said", "key": f"k-{n}", "data": 1} for n in range(12_000))
    band.settle()

    clock.advance(seconds=1)

    assert len(band.table("note")) == 0
    assert sum(len(mark["note"]) for mark in expired(stand.frames())) == 12_000
    assert len(expired(stand.frames())) < 20


def test_what_expired_is_gone_for_a_reader_that_begins_at_a_snapshot(stand: Stand) -> None:
    clock, parts = ManualClock(), {"note": part(note, "said", state={"expire": "10s"})}
    band = stand.play(parts, clock=clock)
    band.publish("said", 1, key="a")
    band.settle()
    stand.leave()  # which keeps a snapshot
    clock.advance(seconds=4)
    band = stand.play(parts, clock=clock)
    band.publish("said", 1, key="b")
    band.settle()
    clock.advance(seconds=6)

    with stand.reader() as reader:
        assert dict(reader.table("note")) == {"b": {"last": 1}}


# State of a type


class Struct(msgspec.Struct):
    seen: list[int] = []
    note: str = ""


@dataclass
class Data:
    seen: list[int] = field(default_factory=list)
    note: str = ""


class Model(pydantic.BaseModel):
    seen: list[int] = []
    note: str = ""


def see(event: Event, ctx: Context) -> None:
    ctx.state.seen.append(event.data)


def see_and_say(event: Event, ctx: Context) -> Any:
    return emit("saw", kind=type(ctx.state).__name__)


@pytest.mark.parametrize("kind", [Struct, Data, Model])
def test_a_type_may_be_a_struct_a_dataclass_or_a_model(stand: Stand, kind: Any) -> None:
    state = {"type": f"{__name__}:{kind.__name__}"}
    for n in range(2):
        band = stand.play({"see": part(see, "came", state=state)})
        band.publish("came", n, key="k")
        band.settle(30)

    assert dict(band.table("see")) == {"k": {"seen": [0, 1], "note": ""}}
    assert band.table("see", type=kind)["k"] == kind(seen=[0, 1])


def test_a_new_state_that_nothing_was_done_to_is_not_written(stand: Stand) -> None:
    state = {"type": f"{__name__}:Struct"}
    band = stand.play({"see": part(see_and_say, "came", emits=["saw"], state=state)})
    band.publish("came", key="k")
    band.settle(30)

    assert [event.data for event in band.events("saw")] == [{"kind": "Struct"}]
    assert dict(band.table("see")) == {}


def replace(event: Event, ctx: Context) -> None:
    ctx.state = event.data if event.data is None else Struct(note=event.data) if isinstance(event.data, str) else event.data


def test_a_look_at_a_state_that_another_type_wrote_leaves_it_as_it_is(stand: Stand) -> None:
    def write(event: Event, ctx: Context) -> None:
        ctx.state["old"] = event.data

    def look(event: Event, ctx: Context) -> None:
        assert ctx.state.note == ""

    band = stand.play({"see": part(write, "came")})
    band.publish("came", 1, key="k")
    band.settle(30)
    stand.leave()
    band = stand.play({"see": part(look, "came", state={"type": f"{__name__}:Struct"})})
    band.publish("came", 2, key="k")
    band.settle(30)

    assert band.dead() == []
    assert dict(band.table("see")) == {"k": {"old": 1}}


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_state_of_before_that_does_not_fit_may_be_replaced(stand: Stand, is_gone: bool) -> None:
    def write(event: Event, ctx: Context) -> None:
        ctx.state["note"] = 7

    def replace(event: Event, ctx: Context) -> None:
        ctx.state = None if is_gone else Struct(note="new")

    band = stand.play({"see": part(write, "came")})
    band.publish("came", key="k")
    band.settle(30)
    stand.leave()
    band = stand.play({"see": part(replace, "came", state={"type": f"{__name__}:Struct"}, retry=ONCE)})
    band.publish("came", key="k")
    band.settle(30)

    assert band.dead() == []
    assert dict(band.table("see")) == ({} if is_gone else {"k": {"seen": [], "note": "new"}})


@pytest.mark.parametrize("kind", ["Struct", "Data"])  # a model warns of it already when it is written
def test_a_state_that_its_type_could_not_read_again_fails_the_event_and_is_not_kept(stand: Stand, kind: str) -> None:
    def spoil(event: Event, ctx: Context) -> None:
        ctx.state.note = event.data

    band = stand.play({"spoil": part(spoil, "came", state={"type": f"{__name__}:{kind}"}, retry=ONCE)})
    for data in ("right", 7):
        band.publish("came", data, key="k")
        band.settle(30)

    assert f"ctx.state is no {kind} any more" in band.dead()[0].error
    assert band.table("spoil")["k"]["note"] == "right"


def test_a_state_is_replaced_by_one_of_its_type_or_taken_away_by_none(stand: Stand) -> None:
    says = {"state": {"type": f"{__name__}:Struct"}, "retry": ONCE}
    band = stand.play({"replace": part(replace, "came", **says)})
    band.publish("came", "x", key="kept")
    band.publish("came", "x", key="gone")
    band.publish("came", None, key="gone")
    band.publish("came", {"note": "a dict"}, key="wrong")
    band.settle(30)

    assert dict(band.table("replace")) == {"kept": {"seen": [], "note": "x"}}
    assert "the state of player replace is a Struct, or None: gone" in band.dead()[0].error


def test_a_state_without_a_type_is_taken_away_by_none_too(stand: Stand) -> None:
    def forget(event: Event, ctx: Context) -> None:
        ctx.state = {"n": 1} if event.data else None

    band = stand.play({"forget": part(forget, "came")})
    for data in (True, False):
        band.publish("came", data, key="k")
        band.settle(30)
        assert len(band.table("forget")) == int(data)


def test_a_state_without_a_type_that_was_taken_away_is_a_new_one_at_once(stand: Stand) -> None:
    def anew(event: Event, ctx: Context) -> None:
        ctx.state["old"] = True
        ctx.state = None
        ctx.state["new"] = True

    band = stand.play({"anew": part(anew, "came", retry=ONCE)})
    band.publish("came", key="k")
    band.settle(30)

    assert dict(band.table("anew")) == {"k": {"new": True}}


def test_state_of_before_that_does_not_fit_the_type_fails_the_event_and_stays(stand: Stand) -> None:
    def before(event: Event, ctx: Context) -> None:
        ctx.state["seen"] = "not a list"

    band = stand.play({"see": part(before, "came")})
    band.publish("came", 1, key="k")
    band.settle(30)

    band = stand.play({"see": part(see, "came", state={"type": f"{__name__}:Struct"}, retry=ONCE)})
    band.publish("came", 2, key="k")
    band.settle(30)

    error = band.dead()[0].error
    assert "what it remembers of this key is no Struct: Expected `array`, got `str` - at `$.seen`" in error
    assert dict(band.table("see")) == {"k": {"seen": "not a list"}}
    with pytest.raises(ensemble.PlayerError, match=r"at `\$.seen`"):
        band.table("see", type=Struct)["k"]


@pytest.mark.parametrize(
    ("name", "why"),
    [("Nothing", "has no 'Nothing'"), ("Bare", "Bare needs a, b to be made"), ("ONCE", "is no type of data")],
)
def test_a_type_that_state_can_not_have_is_refused_when_the_score_is_opened(stand: Stand, name: str, why: str) -> None:
    with pytest.raises(ensemble.ScoreError, match=why):
        stand.play({"see": part(see, "came", state={"type": f"{__name__}:{name}"})})


class Bare(msgspec.Struct):
    a: int
    b: int
    c: int = 0


# Looking up


def test_a_table_asked_for_by_a_types_name_says_to_give_the_type(stand: Stand) -> None:
    band = stand.play({"note": part(note, "said")})

    with pytest.raises(TypeError, match="give the type itself, not its name"):
        band.table("note", type=f"{__name__}:Struct")


def test_a_frame_keeps_the_key_though_a_state_has_a_field_of_that_name(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        DataFrame: Any = staticmethod(list)

    def name(event: Event, ctx: Context) -> None:
        ctx.state["key"] = event.data

    monkeypatch.setitem(sys.modules, "pandas", Library)
    band = stand.play({"name": part(name, "said")})
    band.publish("said", "C minor", key="k")
    band.settle(30)

    assert band.table("name").frame() == [{"key": "k", "state.key": "C minor"}]


def test_a_look_into_a_table_that_was_not_declared_says_what_to_write(stand: Stand) -> None:
    def peek(event: Event, ctx: Context) -> None:
        ctx.tables["other"]

    band = stand.play({"other": part(note, "said"), "peek": part(peek, "came", reads="note", retry=ONCE)})
    band.publish("came", key="k")
    band.settle(30)

    assert "player peek reads note; write reads: [other] in its score to look up 'other'" in band.dead()[0].error


def test_what_is_read_has_the_type_of_whose_state_it_is_and_is_a_copy(stand: Stand) -> None:
    def spoil(event: Event, ctx: Context) -> Any:
        ctx.tables["see"].seen.append(99)
        return emit("saw", kind=type(ctx.tables["see"]).__name__, seen=ctx.tables["see"].seen)

    parts = {
        "see": part(see, "came", state={"type": f"{__name__}:Struct"}),
        "spoil": part(spoil, "asked", emits=["saw"], reads=["see"]),
    }
    band = stand.play(parts)
    band.publish("came", 1, key="k")
    band.settle(30)
    band.publish_many(["", ""], topic="asked")
    band.publish("asked", key="k")
    band.settle(30)

    assert [event.data for event in band.events("saw", key="k")] == [{"kind": "Struct", "seen": [1, 99]}]
    assert dict(band.table("see")) == {"k": {"seen": [1], "note": ""}}


def test_a_batch_sees_other_tables_as_they_were_when_it_was_handed_out(stand: Stand) -> None:
    """All of it, though the other player writes between its first event and its last."""

    def slow(event: Event, ctx: Context) -> Any:
        return emit("saw", last=ctx.tables["note"].get("last"), now=ctx.now.timestamp())

    band = stand.play(
        {"note": part(note, "said"), "slow": part(slow, "said", emits=["saw"], reads=["note"])}, clock=ManualClock()
    )
    band.publish_many({"topic": "said", "key": "k", "data": n} for n in range(10))
    band.settle()

    seen = [event.data["last"] for event in band.events("saw")]
    assert len(set(seen)) == 1, "one batch, one moment"


def test_enrichment_by_a_field_that_is_not_there_or_a_player_that_never_played_is_none(stand: Stand) -> None:
    def tell(event: Event) -> Any:
        return emit("told", **event.data)

    enrich = {"a": "note[data.who.id]", "b": "nobody[key]", "c": "note[key]"}
    band = stand.play({"note": part(note, "said"), "tell": part(tell, "asked", emits=["told"], enrich=enrich)})
    band.publish("said", 7, key="k")
    band.settle(30)
    band.publish("asked", {"x": 1, "c": "its own"}, key="k")
    band.publish("asked", {"who": {"id": "k"}}, key="other")
    band.settle(30)

    assert [event.data for event in band.events("told")] == [
        {"x": 1, "a": None, "b": None, "c": {"last": 7}},
        {"who": {"id": "k"}, "a": {"last": 7}, "b": None, "c": None},
    ]


def test_enrichment_by_a_field_that_is_not_there_never_finds_what_is_kept_for_the_empty_key(stand: Stand) -> None:
    def tell(event: Event) -> Any:
        return emit("told", found=event.data["a"])

    enrich = {"a": "note[data.who]"}
    band = stand.play({"note": part(note, "said"), "tell": part(tell, "asked", emits=["told"], enrich=enrich)})
    band.publish("said", 7)
    band.settle(30)
    band.publish_many({"topic": "asked", "key": "k", "data": data} for data in ({}, {"who": None}, {"who": ""}))
    band.settle(30)

    assert [event.data["found"] for event in band.events("told")] == [None, None, {"last": 7}]


def test_a_player_that_reads_or_is_enriched_hears_the_same_event_again_after_a_failure(stand: Stand) -> None:
    """What one attempt did to what it was given is not seen by the next."""

    def spoil(event: Event, ctx: Context) -> Any:
        found = event.data["found"].pop("last")
        if ctx.attempt == 1:
            raise ValueError("once more")
        return emit("told", found=found)

    says = {"emits": ["told"], "enrich": {"found": "note[key]"}, "retry": {"attempts": 2, "first": 0}}
    band = stand.play({"note": part(note, "said"), "spoil": part(spoil, "asked", **says)})
    band.publish("said", 7, key="k")
    band.settle(30)
    band.publish("asked", {}, key="k")
    band.settle(30)

    assert [event.data for event in band.events("told")] == [{"found": 7}]


def test_in_several_shards_a_lookup_that_may_lie_elsewhere_is_refused() -> None:
    score = {
        "ensemble": 1,
        "name": "test",
        "stage": {"shards": 2},
        "players": {"note": {"on": "said"}, "tell": {"on": "asked", "enrich": {"found": "note[data.who]"}}},
    }

    with pytest.raises(ensemble.ScoreError, match="may lie in another than the event; write by: who"):
        ensemble.open(score, store="memory:", players={"note": note, "tell": note})
