"""What travels between actors is the same on the other side: batches, outcomes and publications."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble import Event, Reject, emit
from ensemble.broker import Batch, Outcome, Publication, Said
from ensemble.event import Frame, Match, Past, Ref, Rows, encode
from ensemble.motif import Topic
from ensemble.player import Hearing, Player, Work
from ensemble.score import Score
from ensemble.score.model import PlayerSpec
from ensemble.score.vocabulary import Vocabulary
from ensemble.stage.on_ray.wire import (
    Shared,
    pack_outcome,
    pack_publication,
    pack_work,
    shared,
    unpack_outcome,
    unpack_publication,
    unpack_work,
)
from ensemble.stage.tape import Tape
from ensemble.stage.workers import lanes_of

LOG_ID = "log"
TOPICS = ["came", "went", "came.back"]
KEYS = ["", "ann", "bob", "ängström 𝄞"]

unhurried = settings(deadline=None)

keys = st.sampled_from(KEYS)
payloads = st.one_of(
    st.integers(-(2**40), 2**40),
    st.text(max_size=8),
    st.dictionaries(st.text(max_size=3), st.none() | st.booleans(), max_size=3),
).map(encode)
refs: st.SearchStrategy[Ref] = st.integers(0, 10**6) | st.sampled_from(["their-1", "their-2"])
times = st.integers(0, 2**50)
own = st.fixed_dictionaries(
    {},
    optional={
        "id": st.text("abc-", min_size=1, max_size=5),
        "source": st.just("/theirs"),
        "time_us": times,
        "traceparent": st.just(f"00-{'ab' * 16}-{'cd' * 8}-01"),
        "causationid": st.just("their-cause"),
        "correlationid": st.just("their-root"),
    },
)


@st.composite
def rows(draw: st.DrawFn, first: int) -> Rows:
    count = draw(st.integers(1, 6))

    def column(each: st.SearchStrategy[Any]) -> Any:
        return draw(st.lists(each, min_size=count, max_size=count))

    is_answered = draw(st.booleans())
    extras = draw(st.dictionaries(st.integers(0, count - 1), own.filter(bool), max_size=3))
    return Rows(
        LOG_ID,
        0,
        first,
        draw(times),
        TOPICS,
        draw(st.integers(0, 2) | st.lists(st.integers(0, 2), min_size=count, max_size=count)),
        column(keys),
        column(payloads),
        ["/a", "/a/b"],
        draw(st.integers(0, 1) | st.lists(st.integers(0, 1), min_size=count, max_size=count)),
        column(refs) if is_answered else None,
        column(refs) if is_answered else None,
        extras or None,
    )


@st.composite
def works(draw: st.DrawFn) -> Work:
    """A batch out of one to four frames: all of them, or some, in any order, as after retries."""
    tape = Tape(None)  # type: ignore[arg-type]
    first = end = draw(st.integers(0, 2**33))
    past: Past = ()
    for number in range(draw(st.integers(1, 4))):
        frame_rows = draw(rows(end))
        if number and draw(st.booleans()):  # a take begins here
            past = (*past, (end, f"{LOG_ID}-{len(past)}"))
        frame_rows.log_id, frame_rows.past = f"{LOG_ID}-{len(past)}", past
        row = draw(st.integers(0, len(frame_rows) - 1))
        if end + row > first and draw(st.booleans()):  # a match, of some of what was said before it
            parts = sorted(draw(st.sets(st.integers(first, end + row - 1), min_size=1, max_size=3)))
            extras = frame_rows.extras or {}
            frame_rows.extras = {**extras, row: {**extras.get(row, {}), "causes": parts, "root": parts[0]}}
        tape.keep(Frame(end, frame_rows.time_us, frame_rows, {}), 1)
        end = frame_rows.first + len(frame_rows)
    offsets: Any = range(first, end)
    if draw(st.booleans()):
        lo = draw(st.integers(first, end - 1))
        offsets = range(lo, draw(st.integers(lo + 1, end)))
    if draw(st.booleans()):
        offsets = draw(st.lists(st.sampled_from(offsets), min_size=1, unique=True))
        offsets = offsets if draw(st.booleans()) else sorted(offsets)
    events, their_refs, roots = tape.events(offsets)
    lanes = [event.key for event in events] if draw(st.booleans()) else [draw(keys) for _ in events]
    attempts = draw(st.dictionaries(st.sampled_from(list(offsets)), st.integers(2, 9), max_size=2))
    table = {lane: encode({"count": draw(st.integers(0, 9))}) for lane in draw(st.sets(keys))}
    others = {name: dict.fromkeys(draw(st.sets(keys)), b"\x01") for name in draw(st.sets(st.sampled_from(["a", "b"])))}
    found = {field: [draw(st.none() | payloads) for _ in events] for field in draw(st.sets(st.sampled_from(["x", "y"])))}
    return Work(Batch("hear", offsets, lanes, attempts, draw(times)), events, their_refs, roots, table, others, found)


def told(event: Event) -> list[Any]:
    return [
        event.id, event.topic, event.key, event.payload, event.data, event.offset, event.shard, event.time, event.written_at,
        event.source, event.causationid, event.correlationid, event.traceparent,
        [told(part) for part in event.events] if isinstance(event, Match) else None,
    ]  # fmt: skip


def plain(outcome: Outcome) -> dict[str, Any]:
    """An outcome as plain data; what its events are is told event by event."""
    said = outcome.said
    events = None
    if said is not None:
        topics = [
            said.topics[said.topic_ix if isinstance(said.topic_ix, int) else said.topic_ix[ix]] for ix in range(len(said))
        ]
        columns: Iterable[Any] = zip(topics, said.keys, said.data, said.causes or (), said.roots or (), strict=True)
        events = [tuple(each) for each in columns], said.extras
    return {
        "section": outcome.section,
        "count": outcome.count,
        "keys": list(outcome.keys),
        "heard": list(outcome.heard),
        "said": events,
        "began_us": outcome.began_us,
        "wrote": outcome.wrote,
        "later": list(outcome.later),
        "failures": [
            (each.offset, each.key, each.lane, each.topic, each.ref, each.root, each.error, each.is_final, each.after_us)
            for each in outcome.failures
        ],
        "skipped": [tuple(each) for each in outcome.skipped],
    }  # fmt: skip


def player(answers: dict[int, str]) -> Player:
    """One that answers each event as its offset says."""

    def hear(event: Event, ctx: Any) -> Any:
        how = answers.get(event.offset, "one")
        if how == "none":
            return
        ctx.state["count"] = ctx.state.get("count", 0) + 1
        if how == "gone":
            ctx.state = {}
        yield emit("went", [event.id, ctx.attempt, ctx.state.get("count")])
        if how == "two":
            yield emit("came", event.causationid, key=event.topic)
        if how == "later":
            yield emit("came", event.correlationid, after="5s")
        if how == "fails":
            raise ValueError(f"not {event.offset}")
        if how == "rejects":
            raise Reject("never")

    spec = PlayerSpec(name="hear", on=Topic("came"), emits=("went", "came",))
    return Player(spec, hear, Vocabulary(Score(name="test")))


HOWS = ["none", "one", "two", "later", "fails", "rejects", "gone"]


def travelled(work: Work, shares: list[bool]) -> Work:
    """The batch on the other side, some of its frames by a reference."""
    along: list[Shared] = []
    which = iter(shares)

    def share(rows: Rows, ixs: Sequence[int]) -> int | None:
        if not next(which, False):
            return None
        buffers: list[Any] = []
        data = pickle.dumps(shared(rows), protocol=5, buffer_callback=buffers.append)
        assert len(buffers) == 1, "who reads it gets no copy"
        along.append(pickle.loads(data, buffers=buffers))
        return len(along) - 1

    packed = pack_work(work, share)
    return unpack_work(packed, along)


@unhurried
@given(works(), st.lists(st.booleans(), max_size=6))
def test_a_batch_is_heard_there_as_it_would_be_here(work: Work, shares: list[bool]) -> None:
    there = travelled(work, shares)

    assert [told(event) for event in there.events] == [told(event) for event in work.events]
    assert (list(there.refs), list(there.roots)) == (list(work.refs), list(work.roots))
    mine, theirs = work.batch, there.batch
    assert (theirs.section, theirs.attempts, theirs.began_us) == (mine.section, mine.attempts, mine.began_us)
    assert (list(theirs.offsets), list(theirs.keys)) == (list(mine.offsets), list(mine.keys))
    assert there.table == {lane: work.table[lane] for lane in mine.keys if lane in work.table}
    assert (there.reads, there.enriched) == (work.reads, work.enriched)


@unhurried
@given(works(), st.lists(st.sampled_from(HOWS), min_size=24, max_size=24), st.booleans(), st.booleans())
def test_what_comes_of_a_batch_there_is_what_would_have_come_of_it_here(
    work: Work, hows: list[str], is_spent: bool, is_shared: bool
) -> None:
    hear = player(dict(zip(sorted(work.batch.offsets), hows, strict=False)))

    there = travelled(work, [is_shared] * 24)
    outcome, was_spent = unpack_outcome(pack_outcome(hear.build().hear(there), there, is_spent=is_spent), work)

    assert plain(outcome) == plain(hear.build().hear(work))
    assert was_spent is is_spent


@unhurried
@given(works(), st.lists(st.sampled_from(HOWS), min_size=24, max_size=24))
def test_so_it_is_with_the_lanes_of_a_batch_one_by_one(work: Work, hows: list[str]) -> None:
    hear = player(dict(zip(sorted(work.batch.offsets), hows, strict=False)))
    there = unpack_work(pack_work(work))

    for lane, which in lanes_of(work, "key"):
        outcomes = []
        for each in (work, there):
            hearing = Hearing(hear.build(), each)
            hearing.one_by_one(which)
            outcomes.append(hearing.outcome([lane], len(which)))
        here, came = outcomes
        assert plain(unpack_outcome(pack_outcome(came, there), work)[0]) == plain(here)


@unhurried
@given(
    st.lists(st.tuples(st.integers(0, 2), keys, payloads, own), min_size=1, max_size=8),
    st.booleans(),
    st.none() | st.just("ab-7"),
)
def test_a_publication_says_there_what_it_says_here(said: list[Any], is_of_one_topic: bool, token: str | None) -> None:
    extras = {row: dict(each[3]) for row, each in enumerate(said) if each[3]}
    topic_ix: Any = 1 if is_of_one_topic else [each[0] for each in said]
    here = Said(TOPICS, topic_ix, [each[1] for each in said], [each[2] for each in said], extras=extras or None)

    there = unpack_publication(pack_publication(Publication(here, "/test", token=token)))

    assert (there.said, there.source, there.token, there.place) == (here, "/test", token, None)


def test_a_run_of_one_frame_travels_without_its_neighbours() -> None:
    count = 1000
    many = Rows(LOG_ID, 0, 0, 1, ["came"], 0, ["k"] * count, [encode("x" * 100)] * count, ["/a"], 0)
    tape = Tape(None)  # type: ignore[arg-type]
    tape.keep(Frame(0, 1, many, {}), 1)
    events, their_refs, roots = tape.events(range(500, 502))

    packed = pack_work(Work(Batch("hear", range(500, 502), ["k", "k"], {}, 0), events, their_refs, roots, {}))

    assert len(packed) < 600
    assert [event.offset for event in unpack_work(packed).events] == [500, 501]


def test_these_tests_can_fail_a_cause_that_is_lost_is_seen() -> None:
    tape = Tape(None)  # type: ignore[arg-type]
    tape.keep(Frame(5, 1, Rows(LOG_ID, 0, 5, 1, ["came"], 0, ["k"], [encode(1)], ["/a"], 0, [3], [2], {0: {"id": "x"}}), {}), 1)
    events, their_refs, roots = tape.events([5])
    work = Work(Batch("hear", [5], ["k"], {}, 0), events, their_refs, roots, {})
    hear = player({})

    lost = unpack_work(pack_work(work))
    lost.refs = [4]
    outcome, _ = unpack_outcome(pack_outcome(hear.build().hear(lost), lost), work)

    assert plain(outcome) == plain(hear.build().hear(work)), "who answers one each leaves the causes out: they are the batch's"
    lost.refs = ["other"]
    outcome = hear.build().hear(lost)
    assert outcome.said is not None
    outcome.said.causes = ["other"]
    with pytest.raises(AssertionError):
        assert plain(unpack_outcome(pack_outcome(outcome, lost), work)[0]) == plain(hear.build().hear(work))


# Versions


def versioned(count: int = 3) -> Rows:
    return Rows(
        LOG_ID, 0, 5, 1, TOPICS, [0, 1, 0][:count], ["a"] * count, [encode(n) for n in range(count)], ["/a"], 0,
        extras={1: {"version": 7}}, versions={"came": 2},
    )  # fmt: skip


@pytest.mark.parametrize("offsets", [range(5, 8), [5, 7], [6]])
@pytest.mark.parametrize("is_shared", [False, True])
def test_events_keep_the_version_in_which_they_were_said(offsets: Sequence[int], is_shared: bool) -> None:
    held = versioned()
    events = [held.event(offset - 5) for offset in offsets]
    work = Work(Batch("p", offsets, ["a"] * len(events), {}, 0), events, list(offsets), list(offsets), {})

    along: list[Shared] = []
    if is_shared:
        along.append(shared(held))
    there = unpack_work(pack_work(work, lambda rows, ixs: 0 if is_shared else None), along)

    assert [event.version for event in there.events] == [{5: 2, 6: 7, 7: 2}[offset] for offset in offsets]


def test_what_is_said_and_published_keeps_its_version() -> None:
    said = Said(["came"], 0, ["a"], [encode(1)], versions={"came": 2})
    assert unpack_publication(pack_publication(Publication(said, "/a"))).said.versions == {"came": 2}

    held = versioned(1)
    work = Work(Batch("p", [5], ["a"], {}, 0), [held.event(0)], [5], [5], {})
    answer = Said(["went"], 0, ["a"], [encode(1)], [5], [5], versions={"went": 3})
    outcome, _ = unpack_outcome(pack_outcome(Outcome("p", 1, ["a"], [5], answer, 0), work), work)
    assert outcome.said is not None
    assert outcome.said.versions == {"went": 3}
