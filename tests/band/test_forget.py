"""Somebody forgotten: nothing of theirs can be read anywhere, all else is as it was, and the band goes on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import ensemble
from ensemble.broker.outbox import Parcel, shard_of
from ensemble.broker.words import Publication, Said
from ensemble.errors import EnsembleError, InvalidEvent, Unavailable
from ensemble.event import encode
from ensemble.log import open_log
from ensemble.score.personal import personal
from ensemble.score.vocabulary import Vocabulary
from ensemble.stage.begin import begin
from ensemble.stage.solo import SoloCrew
from ensemble.testing import ManualClock
from tests.conformance.stand import eventually
from tests.effort import some

FORGOTTEN = "(forgotten)"

SCORE: dict[str, Any] = {
    "ensemble": 1,
    "name": "shop",
    "events": {
        "order.placed": {"key": "order", "personal": {"subject": "who", "fields": ["name", "items"]}},
        "letter.sent": {"personal": {"subject": "key"}},
        "reminder.due": {"personal": {"subject": "who", "fields": ["name"]}},
    },
    "motifs": {
        "twice": {
            "seq": [
                {"event": "order.placed", "as": "a"},
                {"event": "order.placed", "where": "data.name == a.data.name", "as": "b"},
            ],
            "by": "who",
            "within": "30d",
        }
    },
    "players": {
        "customers": {
            "on": "order.placed",
            "emits": ["letter.sent", "reminder.due"],
            "by": "who",
            "state": {"personal": {"subject": "key", "fields": ["name"]}},
            "retry": {"attempts": 2, "first": "1h", "most": "1h"},
        },
        "count": {"on": "letter.sent"},
        "pairs": {"on": "twice"},
        "due": {"on": "reminder.due"},
    },
}


def customers(order: Any, ctx: Any) -> Any:
    ctx.state["name"] = order.data["name"]
    ctx.state["orders"] = ctx.state.get("orders", 0) + 1
    if order.data.get("fails"):
        raise ValueError(f"can't serve {order.data['name']}")
    yield ensemble.emit("letter.sent", {"text": f"Dear {order.data['name']}"}, key=order.data["who"])
    yield ensemble.emit("reminder.due", {"who": order.data["who"], "name": order.data["name"]}, after="10d")


def count(letter: Any, ctx: Any) -> None:
    ctx.state["letters"] = ctx.state.get("letters", 0) + 1


def nothing(event: Any) -> None: ...


PLAYERS: dict[str, Any] = {"customers": customers, "count": count, "pairs": nothing, "due": nothing}


def opened(url: str, clock: ManualClock | None = None, score: dict[str, Any] = SCORE) -> ensemble.Band:
    return ensemble.open(score, store=url, players=PLAYERS, clock=clock or ManualClock())


def order(who: str, number: int, **more: Any) -> dict[str, Any]:
    return {"who": who, "order": number, "name": f"SECRET-{who}", "items": [f"SECRET-{who}"], **more}


def place(band: ensemble.Band, *whose: str, **more: Any) -> None:
    for number, who in enumerate(whose):
        band.publish("order.placed", order(who, number, **more))
    band.settle()


def secrets_in(folder: str, who: str) -> list[str]:
    """The files below a folder in which something of somebody can be read."""
    return [path.name for path in Path(folder).rglob("*") if path.is_file() and f"SECRET-{who}".encode() in path.read_bytes()]


def all_that_is_read(reader: ensemble.Reader) -> bytes:
    """All that any call gives."""
    events = [*reader.events(), *reader.events("_band.>"), *reader.events("_band.motif.>")]
    told = [[event.id, event.topic, event.key, event.data, str(event.cloudevent())] for event in events]
    dead = [[letter.error, letter.traceback, letter.event.data] for letter in reader.dead()]
    tables = [dict(reader.table(name).items()) for name in ("customers", "count")]
    past = [[hearing.player, hearing.error] for hearing in reader.history().hearings]
    why = [str(reader.why(event.id)) for event in events]
    failed = [list(reader.failures([event]).values()) for event in events]
    return encode([told, dead, tables, past, why, failed])


@pytest.fixture
def url(tmp_path: Path) -> str:
    return str(tmp_path / "shop")


def test_who_is_forgotten_is_unreadable_while_the_band_plays_and_after(url: str) -> None:
    clock = ManualClock()
    with opened(url, clock) as band:
        place(band, "ella", "miles", "ella")
        place(band, "ella", "miles", fails=True)
        clock.advance(hours=2)  # the second attempts: dead letters
        assert b"SECRET-ella" in all_that_is_read(band) and len(band.dead()) == 2

        assert band.forget("ella") == 1

        assert b"SECRET-ella" not in all_that_is_read(band) and b"SECRET-miles" in all_that_is_read(band)
        assert band.table("customers")["ella"] == {"name": FORGOTTEN, "orders": 2}
        assert {letter.event.data["who"]: letter.error for letter in band.dead()} == {
            "ella": FORGOTTEN,
            "miles": "ValueError: can't serve SECRET-miles",
        }
        clock.advance(days=11)  # its reminders are still said, of nobody
        reminders = [event.data["name"] for event in band.events("reminder.due")]
        assert reminders == [FORGOTTEN, "SECRET-miles", FORGOTTEN]
        while_playing = all_that_is_read(band)

    assert secrets_in(url, "ella") == secrets_in(url, "miles") == [], "it never was plain"
    with ensemble.read(url) as reader:
        assert all_that_is_read(reader) == while_playing
    assert ensemble.audit(url, tables=True).is_whole


def test_a_reader_that_was_open_before_reads_nothing_of_them_either(url: str) -> None:
    with opened(url) as band:
        place(band, "ella")
        with ensemble.read(url) as reader:
            assert b"SECRET-ella" in all_that_is_read(reader)
            band.forget("ella")
            assert all(event.forgotten for event in reader.events("order.placed"))
            assert b"SECRET-ella" not in all_that_is_read(reader)


def test_what_motifs_keep_of_events_is_forgotten_too(url: str) -> None:
    clock = ManualClock()
    with opened(url, clock) as band:
        place(band, "ella")
        band.forget("ella")
        place(band, "ella")
        matches = list(band.events("twice"))
        place(band, "ella")

        assert matches == [], "the first order says its name no more"
        assert len(list(band.events("twice"))) == 1


def test_who_was_not_forgotten_plays_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    told: list[Any] = []
    for forgets in (True, False):
        url = str(tmp_path / f"{forgets}")
        with opened(url) as band:
            place(band, "ella", "miles", "nina", "miles")
            if forgets:
                band.forget("ella")
            place(band, "miles", "nina")
            told.append(
                [(e.id, e.topic, e.data) for e in band.events() if b"miles" in encode(e.data) or b"nina" in encode(e.data)]
            )
            told.append([(key, state) for key, state in band.table("customers").items() if key != "ella"])
    assert told[:2] == told[2:]


@pytest.mark.parametrize("seed", range(some(12)))
def test_whatever_was_said_nothing_of_whom_was_forgotten_can_be_read_and_all_else_can(tmp_path: Path, seed: int) -> None:
    chance, url = random.Random(seed), str(tmp_path / "shop")
    people = ["ella", "miles", "nina", "coleman"]
    clock = ManualClock()
    gone: set[str] = set()
    band = opened(url, clock)
    try:
        for _ in range(chance.randrange(5, 40)):
            what = chance.random()
            if what < 0.7:
                who = chance.choice([each for each in people if each not in gone])
                place(band, who, fails=chance.random() < 0.3)
            elif what < 0.8:
                clock.advance(hours=chance.choice([1, 30, 300]))
            elif what < 0.9:
                band.close()
                if chance.random() < 0.5 and len(gone) < 3:
                    gone |= forget_some(url, chance, people, gone)
                band = opened(url, clock)
            elif len(gone) < 3:
                who = chance.choice([each for each in people if each not in gone])
                try:
                    band.forget(who)
                except KeyError:
                    continue
                gone.add(who)
        read = all_that_is_read(band)
    finally:
        band.close()
    for who in people:
        assert secrets_in(url, who) == [], (seed, who)
        assert (f"SECRET-{who}".encode() in read) <= (who not in gone), (seed, who)
    with ensemble.read(url) as reader:
        kept = [event for event in reader.events("order.placed") if event.data["who"] not in gone]
        assert all(event.data["name"] == f"SECRET-{event.data['who']}" and not event.forgotten for event in kept)
        assert all_that_is_read(reader) == read
    assert ensemble.audit(url, tables=True).findings == ()


def forget_some(url: str, chance: random.Random, people: list[str], gone: set[str]) -> set[str]:
    """Have somebody forgotten while nobody plays."""
    who = chance.choice([each for each in people if each not in gone])
    try:
        ensemble.forget(url, who)
    except KeyError:
        return set()
    return {who}


def test_what_is_in_flight_is_waited_for(tmp_path: Path) -> None:
    url = str(tmp_path / "shop")
    began, go = threading.Event(), threading.Event()

    def slow(order: Any, ctx: Any) -> Any:
        began.set()
        go.wait(10)
        return customers(order, ctx)

    with ensemble.open(SCORE, store=url, players={**PLAYERS, "customers": slow}) as band:
        band.publish("order.placed", order("ella", 1))
        began.wait(10)
        done: list[int] = []
        thread = threading.Thread(target=lambda: done.append(ensemble.forget(url, "ella")))  # through the band's door
        thread.start()
        stage: Any = band._stage
        eventually(lambda: stage._forgets, "the wish to forget")
        assert done == []
        go.set()
        thread.join(10)
        band.settle(timeout=10)

        assert done == [1]
        assert b"SECRET" not in all_that_is_read(band)


def test_what_is_on_its_way_to_another_shard_is_waited_for() -> None:
    score = ensemble.load({"ensemble": 1, "name": "shop", "events": {"letter.sent": {"personal": {"subject": "who"}}}})
    log = open_log("memory:", name="shop", personal=personal(score, Vocabulary(score)))
    under_way, arrives = threading.Event(), threading.Event()

    def carry(shard: int, first: int, parcels: Sequence[Parcel]) -> int:
        under_way.set()
        assert arrives.wait(20)
        return first + len(parcels)

    loop = begin(score, log, {}, SoloCrew({}, by_hand=False), shards=2, carry=carry)
    key = next(key for key in "abcd" if shard_of(key, 2) == 1)
    letter = Said(["letter.sent"], 0, [key], [encode({"who": "ella", "text": "SECRET"})])
    loop.publish(Publication(letter, "/shop"))
    assert under_way.wait(20)
    done: list[int] = []
    asking = threading.Thread(target=lambda: done.append(loop.forget("ella")))
    asking.start()
    asking.join(0.1)
    was_done = list(done)
    arrives.set()
    asking.join(20)
    loop.close()

    assert (was_done, done) == ([], [1])


def test_events_that_name_nobody_are_refused(url: str) -> None:
    with opened(url) as band:
        for data in ({"order": 1}, {"order": 1, "who": None}, {"order": 1, "who": ""}, {"order": 1, "who": {}}):
            with pytest.raises(InvalidEvent, match=r"data\.who, which says whose it is"):
                band.publish("order.placed", data)
        band.publish("order.placed", {"who": 4711, "order": 1, "name": "SECRET"})
        band.settle()
        assert band.forget("4711") == 1


def test_a_wrong_subject_is_told_with_the_one_that_is_near(url: str) -> None:
    with opened(url) as band:
        place(band, "coleman")
        with pytest.raises(KeyError, match="no data of a subject 'colman'; did you mean 'coleman'"):
            band.forget("colman")
        band.forget("coleman")
        with pytest.raises(KeyError, match="no data of a subject 'coleman'"):
            band.forget("coleman")


def test_where_nothing_is_personal_nobody_can_be_forgotten(url: str) -> None:
    plain = {"ensemble": 1, "name": "plain", "players": {"count": {"on": "x"}}}
    band = ensemble.open(plain, store=url, players={"count": count})
    with pytest.raises(KeyError, match="write personal:"):
        band.forget("ella")
    band.close()
    with pytest.raises(KeyError, match="nothing in it is personal"):
        ensemble.forget(url, "ella")
    with pytest.raises(Unavailable, match="there is no store"):
        ensemble.forget(f"{url}-other", "ella")


def test_a_player_can_not_have_somebody_forgotten(url: str) -> None:
    caught: list[BaseException] = []

    bands: list[ensemble.Band] = []

    def asks(order: Any) -> None:
        try:
            bands[0].forget("ella")
        except EnsembleError as error:
            caught.append(error)

    with ensemble.open(SCORE, store=url, players={**PLAYERS, "count": asks}) as band:
        bands.append(band)
        band.publish("order.placed", order("ella", 1))
        band.settle(timeout=10)

    assert "while it hears an event" in str(caught[0])


def test_what_is_personal_can_not_be_changed_while_the_band_plays(url: str) -> None:
    with opened(url) as band:
        band.add("more", nothing, on="letter.sent")
        with pytest.raises(Unavailable, match="what is personal can't be changed while it plays"):
            band.add("other", count, on="letter.sent", state={"personal": {"subject": "key"}})


def test_who_publishes_while_nobody_plays_leaves_nothing_plain(url: str) -> None:
    opened(url).close()
    with ensemble.connect(url) as guest:
        guest.publish("order.placed", order("ella", 1))

    assert secrets_in(url, "ella") == []
    with opened(url) as band:
        band.settle()
        assert band.table("customers")["ella"]["name"] == "SECRET-ella"


def test_a_table_that_is_rebuilt_is_encrypted_too(url: str) -> None:
    from ensemble.ready import ready
    from ensemble.rebuilding import rewrite

    def customers_again(order: Any, ctx: Any) -> None:
        ctx.state["name"] = order.data["name"] + "!"

    with opened(url) as band:
        place(band, "ella", "miles")
        band.forget("miles")
        band.rebuild("customers", customers_again).switch()
        assert {key: state["name"] for key, state in band.table("customers").items()} == {
            "ella": "SECRET-ella!",
            "miles": FORGOTTEN + "!",
        }
    assert secrets_in(url, "ella") == []
    rewrite(url, ready(SCORE, PLAYERS).players["customers"])

    assert secrets_in(url, "ella") == []
    with ensemble.read(url) as reader:
        assert reader.table("customers")["ella"]["name"] == "SECRET-ella"


def test_a_store_with_a_key_ring_is_not_divided_anew(url: str) -> None:
    from ensemble.resharding import reshard

    with opened(url) as band:
        place(band, "ella")
    with pytest.raises(Unavailable, match="has a key ring"):
        reshard(url, 2)
    assert ensemble.audit(url).is_whole


PLAIN = """
import sys, ensemble
score = {"ensemble": 1, "name": "plain", "players": {"hear": {"on": "said"}}}
with ensemble.open(score, store=sys.argv[1], players={"hear": print}) as band:
    band.publish("said", 1)
    band.settle(timeout=10)
assert not {"cryptography", "ensemble.log.forgetting", "ensemble.log.audit"} & sys.modules.keys()
"""


def test_a_band_that_has_nothing_personal_has_no_layer_no_ring_and_imports_nothing_of_it(url: str) -> None:
    subprocess.run([sys.executable, "-c", PLAIN, url], check=True, capture_output=True)

    assert not (Path(url) / "keys.ring").exists()


FORGETS = """
import sys, ensemble
for who in sys.argv[2:]:
    ensemble.forget(sys.argv[1], who)
    print(who, flush=True)
"""


def test_killed_around_a_forget_somebody_is_forgotten_or_not_and_all_is_whole(url: str) -> None:
    people = [f"p{number}" for number in range(60)]
    with opened(url) as band:
        place(band, *people)
    chance, told = random.Random(3), set[str]()
    for _ in range(4):
        left = [who for who in people if who not in told and is_known(url, who)]
        process = subprocess.Popen(
            [sys.executable, "-c", FORGETS, url, *left],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        )
        assert process.stdout is not None
        for _ in range(chance.randrange(1, 8)):
            told.add(process.stdout.readline().strip())
        time.sleep(chance.random() * 0.01)  # it is killed at any moment after what it told last
        process.send_signal(signal.SIGKILL)
        told |= {line.strip() for line in process.stdout.read().splitlines()}
        process.wait()
        process.stdout.close()

        with ensemble.read(url) as reader:
            for event in reader.events("order.placed"):
                is_gone = event.data["name"] == FORGOTTEN
                assert is_gone or event.data["name"] == f"SECRET-{event.data['who']}"
                assert is_gone or event.data["who"] not in told
        assert ensemble.audit(url, tables=True).is_whole
    assert 4 <= len(told) < len(people)


def is_known(url: str, who: str) -> bool:
    with ensemble.read(url) as reader:
        return any(event.data["who"] == who and not event.forgotten for event in reader.events("order.placed"))
