"""A store is divided anew: it holds what it held, is the old or the new at any moment, and who may not do it is told why."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import ensemble
from ensemble import Event, Match, Reject, emit
from ensemble.broker.failure import token_of
from ensemble.errors import LogCorrupt, Unavailable
from ensemble.log import count_shards, division, open_log, pending
from ensemble.log.directory import open_directory
from ensemble.log.division import Division
from ensemble.log.own import own_at
from ensemble.resharding import reshard
from ensemble.testing import ManualClock
from tests.effort import some
from tests.log.log_samples import Failing, Plug, Quick, frame

ROOT = Path(__file__).parents[1]
SCORE: dict[str, Any] = {
    "ensemble": 1,
    "name": "shop",
    "players": {
        "pay": {"on": "order.placed", "emits": ["order.paid", "order.late"], "retry": {"attempts": 1}},
        "tally": {"on": "order.paid", "by": "country"},
    },
}


def pay(order: Event) -> Any:
    if order.data["total"] == 13:
        raise Reject("thirteen")
    yield emit("order.paid", country=order.data["country"])
    if order.data["total"] == 7:
        yield emit("order.late", after="9h")


def tally(paid: Event, ctx: Any) -> None:
    ctx.state["count"] = ctx.state.get("count", 0) + 1


PLAYERS: dict[str, Callable[..., Any]] = {"pay": pay, "tally": tally}


def orders(first: int, last: int) -> list[dict[str, Any]]:
    return [
        {"topic": "order.placed", "key": f"o-{n % 7}", "id": f"i-{n}", "data": {"total": n, "country": "NZ" if n % 2 else "AU"}}
        for n in range(first, last)
    ]


def played(store: Path, first: int, last: int) -> None:
    with ensemble.open(SCORE, store=str(store), players=PLAYERS, durability="memory") as band:
        band.publish_many(orders(first, last))
        band.settle(60)


def seen(store: Path) -> dict[str, Any]:
    """All that a reader can say of a store, but for where things lie."""
    with ensemble.read(str(store)) as reader:
        status = reader.status()
        events = [*reader.events(), *reader.events("_band.>")]
        return {
            "events": sorted((e.id, e.topic, e.key, e.source, str(e.causationid), str(e.time), str(e.data)) for e in events),
            "tables": {name: dict(reader.table(name)) for name in ("pay", "tally")},
            "dead": sorted((letter.id, letter.player, letter.error, str(letter.at)) for letter in reader.dead()),
            "sections": {name: (each.lag, each.heard, each.emitted, each.failed) for name, each in status.sections.items()},
            "timers": status.timers,
            "topics": status.topics,
        }


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """An undivided store, of forty orders."""
    played(tmp_path / "shop", 0, 40)
    return tmp_path / "shop"


def keys_of(store: Path) -> dict[str, list[str]]:
    keys: dict[str, list[str]] = {}
    with ensemble.read(str(store)) as reader:
        for event in reader.events("order.>"):
            keys.setdefault(event.key, []).append(event.id)
    return keys


# What it holds


def test_a_store_divided_anew_again_and_again_holds_what_it_held(store: Path) -> None:
    before, keys = seen(store), keys_of(store)

    for shards in (3, 2, 5, 1):
        done = reshard(str(store), shards, Quick())

        assert (done.name, done.shards, done.events) == ("shop", shards, len(before["events"]))
        assert count_shards(str(store)) == shards
        assert seen(store) == before
        assert keys_of(store) == keys


def test_chains_are_followed_over_new_and_old_names(store: Path) -> None:
    def chains(of: str) -> list[Any]:
        with ensemble.read(str(store)) as reader:
            chain = reader.why(of)
            return [
                chain.event.id,
                [cause.id for cause in chain.causes],
                sorted((each.event.id, each.player) for each in chain.tree.said),
            ]

    with ensemble.read(str(store)) as reader:
        paid = [event.id for event in reader.events("order.paid")][:3]
    before = [chains(id_) for id_ in ["i-3", "i-7", *paid]]

    reshard(str(store), 3, Quick())
    reshard(str(store), 2, Quick())

    assert [chains(id_) for id_ in ["i-3", "i-7", *paid]] == before


WATCHED: dict[str, Any] = {
    "ensemble": 1,
    "name": "shop",
    "motifs": {"ready": {"seq": [{"event": "paid", "as": "money"}, {"event": "packed", "as": "box"}]}},
    "players": {"ship": {"on": "ready"}, "see": {"on": {"seq": ["ready", "sent"]}}},
}


def watched(store: Path, *players: str, ear: list[Any] | None = None, **words: Any) -> None:
    """Play with these players only, say the words to every key, and have what `ship` and `see` hear written down."""

    def hear(match: Any) -> None:
        assert isinstance(match, Match)
        labels = {label: match[label].data for label in match.labels}
        (ear if ear is not None else []).append((match.topic, match.key, [event.data for event in match.events], labels))

    score = {**WATCHED, "players": {name: WATCHED["players"][name] for name in players}}
    with ensemble.open(score, store=str(store), players=dict.fromkeys(players, hear), durability="memory") as band:
        for topic, data in words.items():
            for key in ("ann", "bob", "eve"):
                band.publish(topic, data, key=key)
        band.settle(60)


def test_matches_that_nobody_has_heard_and_half_open_ones_go_on_and_are_heard_once(tmp_path: Path) -> None:
    store, ear = tmp_path / "shop", list[Any]()
    watched(store, "ship", "see", paid=1)
    reshard(str(store), 3, Quick())
    reshard(str(store), 1, Quick())
    watched(store, "see", packed=2)  # who ships is away: it has not heard that all is ready
    assert ear == []
    reshard(str(store), 2, Quick())
    reshard(str(store), 1, Quick())

    watched(store, "ship", "see", ear=ear, sent=3)
    reshard(str(store), 4, Quick())
    with ensemble.read(str(store)) as reader:
        parts = {match.key: [event.data for event in match.events] for match in reader.events("ready")}  # type: ignore[attr-defined]
        matches = len(list(reader.events("ready")))
        [seen] = [match for match in reader.events("_band.motif.see") if match.key == "ann"]
        causes = [cause.topic for cause in reader.why(seen.id).causes]
    reshard(str(store), 1, Quick())
    watched(store, "ship", "see", ear=ear)

    ready = [("ready", key, [1, 2], {"money": 1, "box": 2}) for key in ("ann", "bob", "eve")]
    assert sorted(each for each in ear if each[0] == "ready") == ready
    assert [each[1] for each in ear if each[0] != "ready"] == ["ann", "bob", "eve"]
    assert (matches, parts) == (3, {key: [1, 2] for key in ("ann", "bob", "eve")})
    assert causes == ["paid", "packed", "ready", "sent"]


def test_timers_and_windows_of_motifs_hold_over_a_division_and_so_does_event_time(tmp_path: Path) -> None:
    clock, heard = ManualClock(), list[Any]()
    score: dict[str, Any] = {
        "ensemble": 1,
        "name": "waits",
        "players": {
            "remind": {"on": {"seq": ["placed", {"not": "paid"}], "within": "15m"}},
            "sum": {"on": {"every": "10m", "of": "placed"}},
            "late": {"on": {"seq": ["placed", "sent"], "time": "event", "lateness": "5m"}},
        },
    }

    def hear(match: Any) -> None:
        heard.append((match.topic.rpartition(".")[2], match.key, len(match.events)))

    def play(minutes: int, *said: tuple[str, int]) -> None:
        players = dict.fromkeys(score["players"], hear)
        with ensemble.open(score, store=str(tmp_path / "store"), players=players, clock=clock, durability="memory") as band:
            for topic, at in said:
                for key in ("ann", "bob"):
                    band.publish(topic, key=key, time=begin + timedelta(minutes=at))
            clock.advance(minutes=minutes)
            band.settle()

    begin = clock.now()
    play(2, ("placed", 0))
    for shards in (3, 1):
        reshard(str(tmp_path / "store"), shards, Quick())
    assert heard == []
    play(20, ("sent", 3))
    for shards in (2, 1):
        reshard(str(tmp_path / "store"), shards, Quick())
    play(20, ("sent", 30))
    play(60)

    assert sorted(heard) == [
        *(("late", key, 2) for key in ("ann", "bob")),
        *(("remind", key, 1) for key in ("ann", "bob")),
        *(("sum", key, 1) for key in ("ann", "bob")),
    ]


def test_a_motif_by_something_else_than_the_key_is_carried_into_one_shard_only(tmp_path: Path) -> None:
    score = {"ensemble": 1, "name": "cards", "players": {"see": {"on": {"count": "paid", "times": 2, "by": "card"}}}}
    with ensemble.open(score, store=str(tmp_path / "store"), players={"see": print}, durability="memory") as band:
        band.publish("paid", {"card": 7}, key="ann")
        band.settle(60)

    why = r"band cards: the motif _band\.motif\.see is listened for by card: .* one shard only; the store is as it was"
    with pytest.raises(Unavailable, match=why):
        reshard(str(tmp_path / "store"), 3, Quick())

    with ensemble.read(str(tmp_path / "store")) as reader:
        assert len(list(reader.events())) == 1


def test_one_shard_again_is_played_on_and_knows_what_it_has_heard_and_taken_in(store: Path) -> None:
    reshard(str(store), 3, Quick())
    reshard(str(store), 1, Quick())

    played(store, 30, 50)  # ten of them were there before: their ids are known

    expected = store.with_name("other")
    played(expected, 0, 50)
    assert seen(store)["tables"] == seen(expected)["tables"]
    assert seen(store)["topics"] == seen(expected)["topics"]
    assert len(seen(store)["dead"]) == 1


def test_dead_letters_are_heard_again_where_they_came_to_lie(store: Path) -> None:
    reshard(str(store), 4, Quick())
    reshard(str(store), 1, Quick())
    forgiving = {**PLAYERS, "pay": lambda order: emit("order.paid", country=order.data["country"])}

    with ensemble.open(SCORE, store=str(store), players=forgiving) as band:
        assert band.retry_dead() == 1
        band.settle(60)

        assert band.dead() == []
        assert band.status().topics["order.paid"] == 40


def test_a_token_is_the_same_in_whatever_shard(store: Path) -> None:
    """What a player did outside before must not be done again."""
    tokens: list[tuple[str, str]] = []

    def told(order: Event, ctx: Any) -> None:
        tokens.append((order.id, ctx.token))

    score = {**SCORE, "players": {**SCORE["players"], "told": {"on": "order.>"}}}
    reshard(str(store), 3, Quick())
    reshard(str(store), 1, Quick())

    with ensemble.open(score, store=str(store), players={**PLAYERS, "told": told}) as band:
        band.settle(60)

    with ensemble.read(str(store / "generation-0/0")) as before:
        born = {event.id: f"{before.id}-{event.offset}" for event in before.events("order.>")}
    assert tokens
    assert dict(tokens) == {id_: token_of(name, "told") for id_, name in born.items()}


# Who may not


def test_data_that_lay_beside_the_log_is_there_in_the_new_shards_and_in_what_is_kept(tmp_path: Path) -> None:
    store = tmp_path / "store"
    said = {key: {"text": key * size} for key, size in (("a", 5_000), ("b", 10), ("c", 3_000), ("d", 5_000))}
    score = {"ensemble": 1, "name": "shop", "store": {"blob_above": "2KiB"}}

    def found(url: Path) -> dict[str, Any]:
        with ensemble.read(str(url)) as reader:
            return {event.key: event.data for event in reader.events()}

    with ensemble.open(score, store=str(store)) as band:
        for key, data in said.items():
            band.publish("said", data, key=key)

    reshard(str(store), 3)

    assert found(store) == said
    assert found(store / "generation-0/0") == said
    reshard(str(store), 1)
    with ensemble.open(score, store=str(store)) as band:
        band.publish("said", said["a"], key="again")
    reshard(str(store), 2)
    assert found(store) == said | {"again": said["a"]}


def test_what_all_shards_were_to_get_is_in_the_new_ones_and_what_is_left_of_it_concerns_nobody(store: Path) -> None:
    reshard(str(store), 3, Quick())
    before = len(seen(store)["events"])
    logs = [open_log(str(store), name="shop", shard=shard, shards=3) for shard in range(3)]
    pending.decide(own_at(str(store)).board(), logs, [[frame(log.end(), marks={}, topics=["note.made"])] for log in logs])
    for log in logs:
        log.close()
    left = (store / pending.PENDING).read_bytes()

    reshard(str(store), 4, Quick())

    with ensemble.read(str(store)) as reader:
        assert len(list(reader.events("note.made"))) == 3
    assert len(seen(store)["events"]) == before + 3 and not (store / pending.PENDING).exists()
    (store / pending.PENDING).write_bytes(left)  # as of who was killed before he took it away
    for shard in range(4):
        log = open_log(str(store), name="shop", shard=shard, shards=4)
        pending.clear(own_at(str(store)).board(), [log])
        log.close()
    assert len(seen(store)["events"]) == before + 3


def test_the_same_number_is_nothing_to_do(store: Path) -> None:
    done = reshard(str(store), 1)

    assert (done.kept, done.before, done.shards) == (None, 1, 1)
    assert division.read(store) is None


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (
            "ray:shop",
            "store ray:shop: this is a band that is up on Ray; take it down (ensemble down shop), and name the store that it "
            "plays",
        ),
        ("memory:x", "store memory:x: a log in memory can't be divided anew; only a store in a directory can"),
        ("none", "store none: there is no store; check the path, or play a score with this store first"),
        ("s3://x/y", "store s3://x/y: a log in an object store can't be divided anew"),
    ],
)
def test_what_is_no_store_in_a_directory_is_refused(
    url: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(Unavailable) as refused:
        reshard(url, 2)

    assert str(refused.value).startswith(said)


@pytest.mark.parametrize("shards", [0, -1, 1025])
def test_a_number_that_no_store_has_is_refused(store: Path, shards: int) -> None:
    with pytest.raises(ValueError, match=f"{shards} shards: a store has 1 to 1024 of them"):
        reshard(str(store), shards)


def test_a_store_that_is_played_is_refused_and_one_that_is_being_divided_is_not_played(store: Path) -> None:
    with (
        ensemble.open(SCORE, store=str(store), players=PLAYERS),
        pytest.raises(Unavailable, match=f"store {store}: it is being played already, by process {os.getpid()} on "),
    ):
        reshard(str(store), 2)

    held = open_directory(store, name="", log_id="", doing="divides it anew")
    with pytest.raises(Unavailable, match=r"it is in use, by process \d+ on .*, which divides it anew; wait until that is"):
        ensemble.open(SCORE, store=str(store), players=PLAYERS)
    held.close()
    assert division.read(store) is None


@pytest.mark.parametrize("shards", [1, 3])
def test_a_damaged_store_is_refused_and_stays_as_it_is(store: Path, shards: int) -> None:
    if shards > 1:
        reshard(str(store), shards, Quick())
    folder = store if shards == 1 else store / "generation-1/1"
    segment = next((folder / "shard-0").glob("*.seg"))
    data = bytearray(segment.read_bytes())
    data[data.index(b"o-3")] ^= 1
    segment.write_bytes(bytes(data))
    before = division.read(store)

    with pytest.raises((LogCorrupt, Unavailable)) as refused:
        reshard(str(store), 2, Quick())

    assert str(segment) in str(refused.value)
    assert division.read(store) == before
    assert not list(store.glob("*.tmp"))


# Interrupted


def sentence(take: Callable[[], object]) -> str | None:
    """What it is refused with; None if it is not."""
    try:
        take()
    except Unavailable as refused:
        return str(refused)
    return None


def steps_of(store: Path) -> int:
    """How many operations on the disk it takes."""
    counting = Failing(10**9, errno.EIO)
    reshard(str(store), 3, counting)
    return counting.done


@pytest.mark.patience(300)
@pytest.mark.parametrize("error", [None, errno.ENOSPC], ids=["the plug is pulled", "the disk is full"])
@pytest.mark.parametrize("divided", [False, True], ids=["undivided", "divided"])
def test_at_every_step_the_store_is_the_old_or_the_new(tmp_path: Path, error: int | None, divided: bool) -> None:
    first = tmp_path / "first"
    played(first, 0, 8)
    if divided:
        reshard(str(first), 2, Quick())
    before, old = seen(first), 1 + divided
    total, outcomes = steps_of(Path(shutil.copytree(first, tmp_path / "counted"))), set[int | None]()

    for step in range(1, total + 1, 1 if error is None else 3):
        store = Path(shutil.copytree(first, tmp_path / f"store-{step}"))
        with suppress(Plug):
            refused = sentence(lambda: reshard(str(store), 3, Failing(step, error)))  # noqa: B023 - called at once
            if refused is not None and count_shards(str(store)) == old:
                assert "the disk is full; make room" in refused
                assert not list(store.glob("generation-*.tmp"))
        shards = count_shards(str(store))
        outcomes.add(shards)
        assert shards in (old, 3), f"step {step} of {total}"
        assert seen(store) == before, f"step {step} of {total}"

        reshard(str(store), 1 if shards != 1 else 2, Quick())

        assert seen(store) == before, f"after step {step} of {total}"
        left = sorted(path.name for path in store.iterdir() if not path.name.startswith("generation-"))
        assert [name for name in left if name in ("ensemble.json", "shard-0", "shards.json.tmp")] == []

    assert outcomes == {1 + divided, 3}


@pytest.mark.patience(600)
def test_killed_at_random_moments_the_store_is_the_old_or_the_new(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """`--kills N` says how often (8 with --everywhere, else 5), `--seed N` draws the same moments again."""
    wanted = request.config.getoption("--kills") or some(8)
    seed = request.config.getoption("--seed")
    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    print(f"--kills {wanted} --seed {seed}")
    chance = random.Random(seed)
    store = tmp_path / "shop"
    played(store, 0, 6000)
    before, kills, longest = seen(store), 0, 1.0
    shards: int | None = 1

    while kills < wanted:
        into = chance.choice([each for each in (1, 2, 3, 4) if each != shards])
        command = [sys.executable, "-c", CHILD, str(store), str(into)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        try:
            process.wait(chance.uniform(0, longest))
        except subprocess.TimeoutExpired:
            process.kill()
        is_killed = process.wait(30) == -signal.SIGKILL
        process.stdout.close()
        kills += is_killed
        if not is_killed:
            longest = max(0.05, longest * 0.7)
        now = count_shards(str(store))
        assert now in ((shards, into) if is_killed else (into,)), f"after {kills} kills"
        assert seen(store) == before, f"after {kills} kills"
        shards = now

    assert isinstance(division.read(store), Division | None)


CHILD = """
import sys
from ensemble.resharding import reshard
from ensemble.testing import ManualClock
print("begun", flush=True)
reshard(sys.argv[1], int(sys.argv[2]))
"""


# By command


def test_the_command_says_what_it_did_and_what_is_next(store: Path) -> None:
    def ran(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ensemble", "reshard", str(store), *words],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip

    first, second, third = ran("3"), ran("3"), ran("2", "--json")

    assert first.stdout.startswith("shop: 3 shards instead of 1; ")
    assert first.stdout.endswith("next  play it with stage: {kind: ray, shards: 3}\n")
    assert f"what it was is kept in {store / 'generation-0'}; remove it when you need it no more" in first.stderr
    assert (second.returncode, second.stdout) == (0, "")
    assert f"store {store} has 3 shards already; nothing was changed" in second.stderr
    told = json.loads(third.stdout)
    assert (told["before"], told["shards"], told["kept"]) == (3, 2, str(store / "generation-1"))
    assert ran("0").returncode == 2
    assert "0 shards: a store has 1 to 1024 of them" in ran("0").stderr
