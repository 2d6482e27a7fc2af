"""A log in which people can be forgotten: in it nothing personal is plain, out of it all is as it was, or gone."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from obstore.store import MemoryStore

from ensemble.broker.outbox import Outbox, Parcel
from ensemble.broker.state import MotifState, SectionState, State, Timer
from ensemble.errors import LogCorrupt, Unavailable
from ensemble.event import Event, Frame, Rows, decode, encode
from ensemble.log import EventLog, Position, Snapshot, open_log, read_log
from ensemble.log.envelope import envelope_of, is_encrypted
from ensemble.log.forgetting import ForgettingLog, ForgettingPacking, object_ring
from ensemble.log.forgetting.cipher import FORGOTTEN, decrypt, encrypt
from ensemble.log.forgetting.ring import MemoryRing
from ensemble.log.objects import store as stores
from ensemble.score import load
from ensemble.score.personal import Personal, Rule
from ensemble.score.vocabulary import Vocabulary
from tests.log.log_samples import plain

SCORE = load({
    "ensemble": 1,
    "name": "shop",
    "events": {
        "order.placed": {
            "schema": {"type": "object", "properties": {"city": {"type": "string"}}},
            "personal": {"subject": "who", "fields": ["name", "address.street", "guests"]},
        },
        "letter.*": {"personal": {"subject": "key"}},
    },
    "players": {
        "customers": {"on": "order.placed", "state": {"personal": {"subject": "key", "fields": ["name"]}}},
        "notes": {"on": "letter.*", "state": {"personal": {"subject": "who"}}, "on_failure": {"emit": "letter-lost"}},
        "count": {"on": "order.placed"},
    },
})  # fmt: skip
PERSONAL = Personal(SCORE, Vocabulary(SCORE))

ORDER = {
    "who": "ella",
    "name": "SECRET-1",
    "address": {"street": "SECRET-2", "city": "Wien"},
    "guests": [{"n": "SECRET-3"}],
    "n": 1,
}


# Bytes

plain_data = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=8)
    | st.binary(max_size=8) | st.datetimes(min_value=datetime(1980, 1, 1), timezones=st.just(UTC)),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.sampled_from("abcd"), below, max_size=3),
    max_leaves=12,
)  # fmt: skip
paths = st.lists(st.sampled_from("abcd"), min_size=1, max_size=3).map(tuple)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plain_data, st.lists(paths, max_size=3, unique=True).map(tuple))
def test_what_was_encrypted_comes_back_byte_for_byte(data: Any, fields: tuple[tuple[str, ...], ...]) -> None:
    payload, key = encode(data), MemoryRing().key_for("ella")

    kept = encrypt(payload, decode(payload), Rule(None, fields), key)

    assert is_encrypted(kept) != (kept == payload)
    assert (decrypt(kept, key) if is_encrypted(kept) else kept) == payload
    assert not is_encrypted(kept) or type(decode(envelope_of(kept).blank)) is type(decode(payload))


def test_what_is_left_keeps_types_and_declared_names_and_says_nothing() -> None:
    rule = PERSONAL.event("order.placed")
    assert rule is not None
    kept = encrypt(encode(ORDER), ORDER, rule, MemoryRing().key_for("ella"))

    assert b"SECRET" not in kept
    assert decode(envelope_of(kept).blank) == {
        "who": "ella",
        "name": FORGOTTEN,
        "address": {"street": FORGOTTEN, "city": "Wien"},
        "guests": [],
        "n": 1,
    }
    whole = {"name": "x", "age": 7, "is": True, "city": "Wien", "in": {"city": "Graz", "x": 1.5}}
    kept = encrypt(encode(whole), whole, Rule(None, names=rule.names), MemoryRing().key_for("ella"))
    assert decode(envelope_of(kept).blank) == {"city": FORGOTTEN}


def test_a_key_opens_nothing_of_another() -> None:
    ring = MemoryRing()
    kept = encrypt(b"\xa1x", "x", Rule(None), ring.key_for("ella"))

    with pytest.raises(LogCorrupt, match="can't be decrypted"):
        decrypt(kept, ring.key_for("miles"))


def test_an_event_may_be_a_time_or_anything_else_that_is_an_extension() -> None:
    given: tuple[Any, ...] = (datetime(2020, 1, 1, tzinfo=UTC), datetime(1900, 1, 1, 0, 0, 0, 1, tzinfo=UTC), {}, b"", None)
    assert not any(is_encrypted(encode(data)) for data in given)


# A log


@pytest.fixture(params=["memory", "directory", "objects"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "objects":
        kept = MemoryStore()
        monkeypatch.setattr(stores, "from_url", lambda url, **given: kept)
        monkeypatch.setattr(object_ring, "LOOK_S", 0.0)
        return f"s3://bucket/{tmp_path.name}"
    return f"memory:forgetting-{tmp_path.name}" if request.param == "memory" else str(tmp_path / "store")


def opened(url: str) -> ForgettingLog:
    log = open_log(url, name="shop", personal=PERSONAL)
    assert isinstance(log, ForgettingLog)
    return log


def say(log: EventLog, topic: str, *events: tuple[str, Any], marks: dict[str, Any] | None = None, **columns: Any) -> Frame:
    """Append a frame with these events; keys and data."""
    end = log.end()
    rows = Rows(
        log.id, 0, end.offset, end.time_us + 1, [topic], 0, [key for key, _ in events], [encode(data) for _, data in events],
        ["/shop"], 0, **columns,
    ) if events else None  # fmt: skip
    frame = Frame(end.offset, end.time_us + 1, rows, marks or {})
    log.append([log.seal(frame)])
    return frame


def kept_bytes(url: str) -> bytes:
    """All that is kept of a log anywhere."""
    if url.startswith("memory:"):
        from ensemble.log.memory import memory_store

        store = memory_store(url.removeprefix("memory:"))
        assert store is not None
        packs = [pack.data() for pack in store.held.packs]
        return b"".join([*store.held.data, *packs, *(snapshot.state for snapshot in store.snapshots)])
    if url.startswith("s3:"):
        objects = stores.objects_at(url)
        return b"".join(objects.get(path) for path in objects.list(""))
    return b"".join(path.read_bytes() for path in Path(url).rglob("*") if path.is_file())


def test_in_the_log_nothing_is_plain_and_out_of_it_all_is_as_it_was(url: str) -> None:
    log = opened(url)
    said = [
        say(log, "order.placed", ("o-1", ORDER), ("o-2", {"who": 7, "n": 2})),
        say(log, "letter.sent", ("ella", {"text": "SECRET-4"})),
        say(log, "stock.counted", ("s", {"n": 1})),
    ]
    told = [plain(frame) for frame in said]

    assert b"SECRET" not in kept_bytes(url)
    assert [plain(frame) for frame in log.frames()] == told
    assert [plain(frame) for frame in log.rows(1)] == told
    assert plain(log.frame_at(2)) == told[1]
    log.close()
    reader = read_log(url)
    assert [plain(frame) for frame in reader.frames()] == told
    assert [frame.prev for frame in reader.frames()] == [frame.prev for frame in said]
    reader.close()


def test_who_was_forgotten_is_unreadable_for_all_and_nobody_else_is(url: str) -> None:
    log = opened(url)
    say(log, "order.placed", ("o-1", ORDER), ("o-2", {**ORDER, "who": "miles"}))
    reader = read_log(url)
    before = [event.data for frame in reader.rows() for event in events_of(frame)]

    assert log.forget("ella") == 1
    after = [event for frame in reader.rows() for event in events_of(frame)]

    assert before[0] == ORDER and after[0].data["name"] == FORGOTTEN and after[0].forgotten
    assert after[1].data == before[1] and not after[1].forgotten
    assert log.frame_at(0).rows.event(0).data["address"] == {"street": FORGOTTEN, "city": "Wien"}  # type: ignore[union-attr]
    say(log, "order.placed", ("o-3", ORDER))
    assert log.frame_at(2).rows.event(0).data == ORDER, "who comes back has a new key"  # type: ignore[union-attr]
    log.close()
    reader.close()


def events_of(frame: Frame) -> list[Event]:
    assert frame.rows is not None
    return [frame.rows.event(row) for row in range(len(frame.rows))]


def test_marks_hold_nothing_plain_either(url: str) -> None:
    log = opened(url)
    say(log, "order.placed", ("o-1", ORDER))
    parcel = Parcel("/shop", ["order.placed"], 0, ["o-1"], [encode(ORDER)])
    match = {
        "as": "x", "at": [1, 5], "topic": "pair",
        "parts": [[3, 9, "o-1", encode(ORDER), {"topic": "order.placed"}]],
        "letter": [encode({"player": "p", "offset": 1, "error": "SECRET-5", "traceback": "SECRET-5"}), 1, 1, 1],
    }  # fmt: skip
    copy = Parcel("/shop", ["_band.by.p"], 0, ["o-1"], [encode({})], extras={0: match})
    kept = [1, "ella", "order.placed", encode(ORDER)]
    marks = {
        "wrote": {
            "customers": {"ella": encode({"name": "SECRET-6", "n": 1}), "gone": None},
            "notes": {"k": encode({"who": "ella", "x": "SECRET-7"})},
            "count": {"o-1": encode({"n": 1})},
        },
        "failed": {"count": [[0, 1, -1, "ValueError: SECRET-8"]]},
        "later": [[9, "order.placed", "o-1", encode(ORDER), 0, 0, "/shop"]],
        "out": {1: [parcel, copy]},
        "motif": {"m": [None, "m", 0, True, encode([0, 0, [0, {"ella": [True, [[1, {"first": kept}]]]}, [], []]])]},
    }
    dead = {
        "player": "count",
        "offset": 0,
        "topic": "order.placed",
        "attempts": 1,
        "error": "SECRET-9",
        "traceback": "SECRET-9",
    }
    frame = say(log, "_band.dead", ("o-1", dead), marks=marks, causes=[0], roots=[0])

    assert b"SECRET" not in kept_bytes(url)
    [_, read] = log.frames()
    assert normal(read.marks) == normal(frame.marks)
    assert events_of(read)[0].data == dead

    log.forget("ella")
    [_, read] = log.frames()
    assert events_of(read)[0].data == {**dead, "error": FORGOTTEN, "traceback": FORGOTTEN}
    assert read.marks["failed"] == {"count": [[0, 1, -1, FORGOTTEN]]}
    assert decode(read.marks["wrote"]["customers"]["ella"]) == {"name": FORGOTTEN, "n": 1}
    assert decode(read.marks["wrote"]["notes"]["k"]) == {}
    assert read.marks["wrote"]["customers"]["gone"] is None
    assert b"SECRET-5" in encode(normal(read.marks)), "whose a letter of another shard is can't be told: it is nobody's"
    log.forget("")
    [_, read] = log.frames()
    assert b"SECRET" not in encode(normal(read.marks))
    log.close()


def normal(marks: dict[str, Any]) -> Any:
    return msgspec.to_builtins(marks, builtin_types=(bytes,))


def test_what_is_encrypted_already_is_not_encrypted_again(url: str) -> None:
    log = opened(url)
    frame = say(log, "order.placed", ("o-1", ORDER), marks={"wrote": {"customers": {"ella": encode({"name": "SECRET"})}}})
    once = log._encrypting.frame(frame)

    twice = log._encrypting.frame(once)

    assert twice.rows is not None and once.rows is not None
    assert (twice.rows.data, twice.marks) == (once.rows.data, once.marks)
    log.close()


def test_a_failure_at_an_event_that_nobody_owns_is_told_in_plain(url: str) -> None:
    log = opened(url)
    say(log, "stock.counted", ("s", {"n": 1}))
    dead = {
        "player": "count",
        "offset": 0,
        "topic": "stock.counted",
        "attempts": 1,
        "error": "no such shelf",
        "traceback": "line 1",
    }
    say(log, "_band.dead", ("s", dead), marks={"failed": {"count": [[0, 1, -1, "no such shelf"]]}}, causes=[0], roots=[0])

    assert kept_bytes(url).count(b"no such shelf") == 2
    log.close()


def test_snapshots_hold_nothing_plain_and_forget_too(url: str) -> None:
    state = State()
    state.sections["customers"] = SectionState(
        table={"ella": encode({"name": "SECRET-1"}), "miles": encode({"name": "SECRET-2"})}
    )
    state.timers[3] = Timer(9, "order.placed", "o-1", encode(ORDER), 0, 0, "/shop")
    state.outbox[1] = Outbox(1, {0: Parcel("/shop", ["order.placed"], 0, ["o-1"], [encode(ORDER)])})
    waiting = [1, 2, "order.placed", "o-1", encode(ORDER), 0]
    state.motifs["m"] = MotifState(partial=encode([0, 0, [0, None, [waiting], []]]))
    log = opened(url)
    say(log, "stock.counted", ("s", {"n": 1}))
    log.save(Snapshot(log.end(), state.dump()))

    assert b"SECRET" not in kept_bytes(url)
    kept = log.snapshot()
    assert kept is not None and State.load(kept.state) == state

    log.forget("ella")
    kept = log.snapshot()
    assert kept is not None
    assert b"SECRET-1" not in kept.state and b"SECRET-2" in kept.state and b"SECRET-3" not in kept.state
    log.close()


@pytest.mark.parametrize(
    "kept",
    [encode(ORDER), [1, "order.placed", encode(ORDER)], {"a": [1, 2, 3, "o-1", encode(ORDER)]}],
    ids=["alone", "without its key", "in another order"],
)
def test_data_of_a_half_open_match_that_is_not_known_as_an_events_is_refused_and_not_kept_in_plain(kept: Any) -> None:
    log = opened("memory:")
    state = State(motifs={"m": MotifState(partial=encode([0, 0, kept]))})

    with pytest.raises(AssertionError, match="bytes are the data of events"):
        log.save(Snapshot(log.end(), state.dump()))
    log.close()


class Packing:
    """Stands in for a log's own: only asks for the state."""

    parts = put = drop = sweep = has_takes = until_us = frames = home = copy = carry = None

    def pack(self, parts: Any, choose: Any, removals: Any = tuple, *, state: Any = None, compress: bool = False) -> Any:
        return state()


def test_the_state_with_which_a_log_begins_later_is_encrypted_and_never_of_who_was_forgotten_meanwhile(url: str) -> None:
    state = State(sections={"customers": SectionState(table={"ella": encode({"name": "SECRET"})})})
    log = opened(url)
    say(log, "order.placed", ("o-1", ORDER))
    packing = ForgettingPacking(Packing(), log._encrypting, log._decrypting, log.ring)  # type: ignore[arg-type]

    kept: Any = packing.pack([], None, state=state.dump)
    assert b"SECRET" not in kept
    assert State.load(log._decrypting.state(kept)) == state

    log.forget("ella")
    with pytest.raises(Unavailable, match="somebody was forgotten while"):
        packing.pack([], None, state=state.dump)
    log.close()


def test_the_state_of_a_player_that_the_score_has_no_more_stays_encrypted(tmp_path: Path) -> None:
    url = str(tmp_path / "store")
    log = opened(url)
    say(log, "stock.counted", ("s", {}), marks={"wrote": {"customers": {"ella": encode({"name": "SECRET-1", "n": 2})}}})
    log.close()
    log = opened(url)
    log.encrypt(None)

    [frame] = log.frames()
    state = State(sections={"customers": SectionState(table=frame.marks["wrote"]["customers"])})
    log.save(Snapshot(log.end(), state.dump()))

    assert b"SECRET" not in kept_bytes(url)
    kept = log.snapshot()
    assert kept is not None and State.load(kept.state) == state
    log.forget("ella")
    kept = log.snapshot()
    [frame] = log.frames()
    assert kept is not None and State.load(kept.state).sections["customers"].table == frame.marks["wrote"]["customers"]
    assert decode(frame.marks["wrote"]["customers"]["ella"]) == {"name": FORGOTTEN, "n": 2}

    log.save(Snapshot(log.end(), kept.state))  # nothing of hers is in it, so she gets no new key
    assert log.forget("ella") == 0
    log.close()


def test_a_key_is_durable_before_the_first_frame_that_it_encrypts(tmp_path: Path) -> None:
    url = str(tmp_path / "store")
    log = opened(url)
    ring = tmp_path / "store/keys.ring"
    end = log.end()
    rows = Rows(log.id, 0, 0, 1, ["letter.sent"], 0, ["ella"], [encode("SECRET")], ["/shop"], 0)
    sealed = log.seal(Frame(end.offset, 1, rows, {}))
    inner: Any = log._writing
    seen: list[bytes] = []
    append = inner.append

    def looking(group: list[bytes]) -> None:
        seen.append(ring.read_bytes())
        append(group)

    inner.append = looking

    log.append([sealed])

    assert b"ella" in seen[0]
    log.close()


def test_a_store_without_its_ring_is_damaged_and_not_forgotten(tmp_path: Path) -> None:
    url = str(tmp_path / "store")
    log = opened(url)
    say(log, "letter.sent", ("ella", "SECRET"))
    log.close()
    (tmp_path / "store/keys.ring").unlink()

    log = opened(url)
    with pytest.raises(LogCorrupt, match="restore the key ring"):
        list(log.frames())
    log.close()


def test_a_log_that_nothing_is_personal_in_has_no_layer_and_no_ring(tmp_path: Path) -> None:
    url = str(tmp_path / "store")
    log = open_log(url, name="shop")

    assert not isinstance(log, ForgettingLog)
    log.close()
    assert not (tmp_path / "store/keys.ring").exists()


def test_the_place_after_a_frame_is_that_of_what_is_kept(url: str) -> None:
    log = opened(url)
    first = say(log, "letter.sent", ("ella", "x"))
    second = say(log, "letter.sent", ("ella", "y"))

    end: Position = log.end()
    assert (first.seq, second.seq, end.seq, end.offset) == (0, 1, 2, 2)
    assert [frame.seq for frame in log.frames(1)] == [1]
    log.close()
