"""The promises of `ensemble/log/base.py`, by their numbers, for every kind of store."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from ensemble.errors import OffsetError, Unavailable
from ensemble.event import Frame
from ensemble.log import Position, Snapshot
from ensemble.log.base import genesis
from tests.log.log_samples import append, contents, flat, frame, plain, rows

# 1. What was appended is there


def test_what_was_appended_is_there_when_the_log_is_opened_again(store: Any) -> None:
    log = store.open()
    groups = append(log, [2], [1, 0], [3])
    end = log.end()

    log.close()

    assert contents(store.open()) == flat(groups)
    assert store.read().end() == end


@pytest.mark.parametrize("durability", ["disk", "memory"])
def test_what_was_appended_is_there_after_the_writer_vanished(store: Any, durability: str) -> None:
    log = store.open(durability=durability)
    groups = append(log, [2], [1, 0], [3])

    store.forget(log)

    assert contents(store.open()) == flat(groups)


def test_what_was_sealed_and_not_appended_is_not_there(store: Any) -> None:
    log = store.open()
    groups = append(log, [2])
    log.seal(frame(log.end(), 1))

    log.close()

    assert contents(store.open()) == flat(groups)


# 2. A group is there whole, and as it was given


def test_frames_come_back_as_they_were_sealed(store: Any) -> None:
    log = store.open(id="log")
    given = frame(
        log.end(),
        3,
        marks={"heard": {"p": [1, 2, [], {"k": b"\x00"}]}, "fired": [1 << 40, -1], "place": {"f": None}},
        topics=["a", "b.c"],
        topic_ix=[1, 0, 1],
        sources=["/x", "/y"],
        source_ix=[0, 0, 1],
        keys=["", "ключ", "k"],
        causes=["other-7", 3, 4],
        roots=[0, 0, 0],
        extras={2: {"id": "mine", "time_us": 5}},
    )

    log.append([log.seal(given)])

    (back,) = log.frames()
    assert plain(back) == plain(given)
    assert (back.epoch, back.prev) == (given.epoch, given.prev) == (1, genesis("log", 0))
    assert back.rows is not None
    assert (back.rows.log_id, back.rows.extras, back.rows.roots) == ("log", {2: {"id": "mine", "time_us": 5}}, [0, 0, 0])
    assert back.rows.event(2).id == "mine"
    assert back.rows.event(1).id == "log-1"


def test_nothing_to_append_is_nothing_to_do(store: Any) -> None:
    log = store.open()
    before = log.end()

    log.append([])

    assert log.end() == before


def test_frames_are_numbered_and_chained_as_they_are_sealed(store: Any) -> None:
    log = store.open()
    first, second = frame(log.end(), 2), Frame(2, 9, None, {})

    sealed = [log.seal(first), log.seal(second)]
    log.append(sealed)

    assert (first.seq, second.seq) == (0, 1)
    assert [kept.prev for kept in log.frames()] == [genesis(log.id, 0), second.prev]
    assert log.end()[:2] == (2, 2)
    assert log.end().time_us == 9


@pytest.mark.parametrize(
    "wrong",
    [
        lambda at: Frame(at.offset + 1, at.time_us, None, {}),
        lambda at: Frame(at.offset, at.time_us - 1, None, {}),
        lambda at: Frame(at.offset, at.time_us, None, {"score": object()}),
        lambda at: Frame(at.offset, at.time_us, None, {"score": 1 << 70}),
        lambda at: Frame(at.offset, at.time_us, rows(2, at.offset, keys=["only one"]), {}),
        lambda at: Frame(at.offset, at.time_us, rows(2, at.offset, causes=[1]), {}),
    ],
    ids=["offset", "time", "type", "number", "keys", "causes"],
)
def test_a_frame_that_can_not_follow_is_refused_and_another_can_be_sealed(store: Any, wrong: Any) -> None:
    log = store.open()
    groups = append(log, [2])

    with pytest.raises((ValueError, TypeError, OverflowError)):
        log.seal(wrong(log.end()))

    groups += append(log, [1])
    assert contents(log) == flat(groups)


def test_frames_are_appended_in_the_order_of_sealing_or_not_at_all(store: Any) -> None:
    log = store.open()
    first = log.seal(frame(log.end(), 1))
    second = log.seal(Frame(1, 9, None, {}))

    with pytest.raises(ValueError, match="frame 1 can't be appended; frame 0"):
        log.append([second])
    log.append([first, second])
    with pytest.raises(ValueError, match="frame 0 can't be appended; frame 2"):
        log.append([first])

    assert log.end().seq == 2


# 4. One writer


def test_opening_to_write_raises_the_epoch(store: Any) -> None:
    epochs = []
    for _ in range(3):
        log = store.open()
        append(log, [1])
        epochs.append(log.epoch)
        log.close()

    assert epochs == [1, 2, 3]
    assert [kept.epoch for kept in store.read().frames()] == [1, 2, 3]


def test_a_second_writer_is_refused_while_the_first_one_has_the_log(store: Any) -> None:
    log = store.open()

    with pytest.raises(Unavailable, match="is being played"):
        store.open()

    assert append(log, [1])
    log.close()
    assert store.open().epoch == 2


def test_a_writer_that_was_replaced_can_append_no_more(store: Any) -> None:
    old = store.open()
    groups = append(old, [2])
    store.forget(old)
    new = store.open()

    sealed = old.seal(frame(old.end(), 1))
    with pytest.raises(Unavailable, match="taken over"):
        old.append([sealed])
    groups += append(new, [3])
    with pytest.raises(Unavailable, match="taken over"):
        old.append([sealed])

    assert contents(store.read()) == flat(groups)


# 5. Readers


def test_a_reader_sees_what_has_been_appended_since(store: Any) -> None:
    log = store.open()
    reader = store.read()
    assert contents(reader) == []
    assert reader.end() == Position(0, 0, genesis(log.id, 0), 0)

    told = []
    for group in ([1], [2, 0], [0], [5]):
        told += append(log, group)
        assert contents(reader) == flat(told)
        assert reader.end() == log.end()


def test_an_iterator_ends_where_the_log_ended_when_it_was_made(store: Any) -> None:
    log = store.open()
    groups = append(log, [1], [2])

    for kept in (log.frames(), store.read().frames()):
        begun = [plain(next(kept))]
        append(log, [3])
        assert begun + [plain(more) for more in kept] == flat(groups)


def test_frames_begin_with_any_number(store: Any) -> None:
    log = store.open()
    told = flat(append(log, [1], [2, 0, 3], [0], [4]))

    for reader in (log, store.read()):
        for seq in range(8):
            assert contents(reader, seq) == told[seq:]


def test_rows_begin_with_the_frame_that_holds_any_offset(store: Any) -> None:
    log = store.open()
    told = flat(append(log, [0], [1], [2, 0, 3], [0], [4], [0]))

    for reader in (log, store.read()):
        for offset in range(11):
            expected = [kept for kept in told if "events" in kept and kept["first"] + len(kept["events"]) > offset]
            assert [plain(kept) for kept in reader.rows(offset)] == expected
            if offset < 10:
                assert plain(reader.frame_at(offset)) == expected[0]


@pytest.mark.parametrize("offset", [-1, 4, 1 << 62])
def test_an_offset_outside_is_an_offset_error_that_says_what_there_is(store: Any, offset: int) -> None:
    log = store.open()
    append(log, [3])

    for reader in (log, store.read()):
        with pytest.raises(OffsetError, match="the offsets 0 to 2"):
            reader.rows(offset)
        with pytest.raises(OffsetError, match=f"no event {offset}"):
            reader.frame_at(offset)


def test_there_is_no_event_at_the_end_and_rows_from_there_are_none(store: Any) -> None:
    log = store.open()
    append(log, [3])

    assert list(log.rows(3)) == []
    with pytest.raises(OffsetError):
        log.frame_at(3)


def test_readers_need_no_writer_and_disturb_none(store: Any) -> None:
    log = store.open()
    groups = append(log, [1])
    readers = [store.read() for _ in range(3)]
    half_way = readers[0].frames()

    groups += append(log, [2])
    log.close()

    assert [contents(reader) for reader in readers] == [flat(groups)] * 3
    assert len(list(half_way)) == 1


# 6. The writer reads while it writes


def test_the_writer_reads_what_is_durable_while_another_thread_appends(store: Any) -> None:
    log = store.open(durability="memory")
    failures: list[Exception] = []

    def write() -> None:
        try:
            for _ in range(300):
                append(log, [3, 0, 1])
        except Exception as error:  # whatever the thread meets fails the test
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    seen = 0
    while writer.is_alive() or seen < 1200:
        assert not failures
        end = log.end()
        for kept in log.rows(seen):
            assert kept.first == seen
            seen = kept.end
        assert seen >= end.offset
        if seen:
            assert log.frame_at(seen // 2).first <= seen // 2
    writer.join()

    assert (seen, log.end().seq) == (1200, 900)


# 7. Snapshots


def test_a_log_has_no_snapshot_before_one_was_saved(store: Any) -> None:
    log = store.open()
    append(log, [1])

    assert log.snapshot() is None
    assert store.read().snapshot() is None


def test_the_newest_snapshot_comes_back_and_the_log_goes_on_after_it(store: Any) -> None:
    log = store.open()
    saved = []
    groups = append(log, [1], [2])
    for group in ([1], [0, 2], [3]):
        saved.append(Snapshot(log.end(), b"state of %d" % log.end().seq))
        log.save(saved[-1])
        groups += append(log, group)

    log.close()

    again = store.open()
    assert again.snapshot() == store.read().snapshot() == saved[-1]
    assert contents(again) == flat(groups)
    assert contents(again, saved[-1].at.seq) == flat(groups)[saved[-1].at.seq :]


def test_the_newest_snapshot_before_a_frame_comes_back_of_the_two_that_stay(store: Any) -> None:
    log = store.open()
    saved = []
    for _ in range(3):
        append(log, [1, 1])
        saved.append(Snapshot(log.end(), b"state of %d" % log.end().seq))
        log.save(saved[-1])

    for reading in (log, store.read()):
        assert [reading.snapshot(most) for most in (7, 6, 5, 4, 3)] == [saved[2], saved[2], saved[1], saved[1], None]


def test_a_snapshot_may_be_of_any_place_there_was(store: Any) -> None:
    log = store.open()
    append(log, [1], [2, 0, 3], [1])
    places = [Position(kept.seq, kept.first, kept.prev, kept.time_us - 1) for kept in log.frames()] + [log.end()]
    told = contents(log)

    for place in places:
        log.save(Snapshot(place, b"state"))
        assert store.read().snapshot().at in places
        log.close()
        log = store.open()
        assert contents(log) == told
        assert contents(store.read()) == told

    assert log.snapshot() == Snapshot(places[-1], b"state")


def test_a_snapshot_of_a_place_to_come_is_refused(store: Any) -> None:
    log = store.open()
    append(log, [1])

    with pytest.raises(ValueError, match="a log of 1 frames"):
        log.save(Snapshot(log.end()._replace(seq=2), b"state"))

    assert log.snapshot() is None


# The log itself


def test_a_log_keeps_the_id_and_name_that_it_was_made_with(store: Any) -> None:
    assert not store.exists()
    log = store.open(name="first", id="mine")
    log.close()
    again = store.open(name="second", id="other")

    assert store.exists()
    assert (again.id, again.name, again.shard) == ("mine", "first", 0)
    assert (store.read().id, store.read().name) == ("mine", "first")
    assert list(again.notes) == []


def test_an_id_is_made_where_none_is_given(store: Any) -> None:
    log = store.open()

    assert len(log.id) == 12
    assert log.id.isalnum()


def test_a_log_that_is_not_there_is_made_only_if_asked(store: Any) -> None:
    with pytest.raises(Unavailable, match="there is no"):
        store.open(create=False)
    with pytest.raises(Unavailable, match="there is no"):
        store.read()

    assert not store.exists()


def test_the_size_grows_with_what_is_appended(store: Any) -> None:
    log = store.open()
    sizes = [log.size_bytes()]
    for _ in range(3):
        append(log, [10])
        sizes.append(log.size_bytes())

    assert sizes == sorted(set(sizes))
    assert store.read().size_bytes() == sizes[-1]


def test_a_closed_log_says_so_and_may_be_closed_again(store: Any) -> None:
    log = store.open()
    sealed = log.seal(frame(log.end(), 1))
    reader = store.read()

    for closed in (log, reader):
        closed.close()
        closed.close()
        for call in (closed.end, closed.frames, closed.rows, closed.snapshot, closed.size_bytes):
            with pytest.raises(Unavailable, match="closed"):
                call()
    for call in (lambda: log.append([sealed]), lambda: log.save(Snapshot(Position(0, 0, b"", 0), b""))):
        with pytest.raises(Unavailable, match="closed"):
            call()
