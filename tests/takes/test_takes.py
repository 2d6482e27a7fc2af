"""Takes share the past and go on by themselves, on every kind of store."""

from __future__ import annotations

import fcntl
import os
import threading
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

import ensemble
from ensemble import log, takes
from ensemble.errors import LogCorrupt, OffsetError, Unavailable
from ensemble.log import Fork, open_log
from ensemble.log import takes as kept
from ensemble.log.branch import Branch
from ensemble.log.own import Own, own_at
from ensemble.log.own.directory import OwnInDirectory
from ensemble.replay import promote, replay
from tests.takes.conftest import PLAYERS, SCORE, played, said, sums


def test_a_take_has_the_past_of_its_parent_and_a_future_of_its_own(store: str) -> None:
    played(store, 1, 2, 3)
    with ensemble.read(store) as reader:
        third = list(reader.events("ordered"))[2]
        ids = [event.id for event in reader.events() if event.offset < third.offset]

    made = takes.new(store, "what-if", third.offset)
    played(store, 10, take="what-if")

    assert (made.parent, made.offset, made.events) == ("main", third.offset, 0)
    assert [each["sum"] for each in said(store, "what-if")] == [1, 3, 13]
    assert [each["sum"] for each in said(store)] == [1, 3, 6]
    assert sums(store, "what-if") == {"k": {"sum": 13}}
    assert sums(store) == {"k": {"sum": 6}}
    with ensemble.read(store, take="what-if") as reader:
        events = list(reader.events())
        assert [event.id for event in events[: len(ids)]] == ids
        assert {event.id.rpartition("-")[0] for event in events[len(ids) :]} == {made.id}
        assert [event.offset for event in events] == list(range(len(events)))


def test_main_goes_on_while_a_take_of_it_is_played(store: str) -> None:
    played(store, 1, 2)
    takes.new(store, "what-if")

    with (
        ensemble.open(SCORE, store=store, players=PLAYERS) as main,
        ensemble.open(SCORE, store=store, take="what-if", players=PLAYERS) as other,
    ):
        main.publish("ordered", {"n": 100}, key="k")
        other.publish("ordered", {"n": 1000}, key="k")
        main.settle(10)
        other.settle(10)

        assert main.table("tally")["k"] == {"sum": 103}
        assert other.table("tally")["k"] == {"sum": 1003}


def test_a_take_may_leave_another_take(store: str) -> None:
    played(store, 1)
    takes.new(store, "a")
    played(store, 10, take="a")
    takes.new(f"{store}#a", "b")
    played(store, 100, take="b")
    played(store, 5, take="a")

    assert sums(store) == {"k": {"sum": 1}}
    assert sums(store, "a") == {"k": {"sum": 16}}
    assert sums(store, "b") == {"k": {"sum": 111}}
    assert [(each.name, each.parent) for each in takes.listed(store)] == [("main", None), ("a", "main"), ("b", "a")]
    with ensemble.read(store, take="b") as reader:
        assert len({event.id for event in reader.events()}) == 9
        assert all(reader.event(event.id) == event for event in reader.events())


def test_a_take_of_a_take_may_leave_it_before_it_left_its_parent(store: str) -> None:
    played(store, 1, 2)
    takes.new(store, "a")
    played(store, 10, take="a")

    assert takes.new(f"{store}#a", "b", 0).offset == 0

    takes.use(store, "a")
    assert takes.rollback(store, 0).parent == "a"
    assert said(store, "b") == said(store) == []


def test_what_answers_the_past_names_it_by_the_id_that_it_has_there(store: str) -> None:
    with ensemble.open({"ensemble": 1, "name": "shop"}, store=store) as band:
        receipt = band.publish("ordered", {"n": 1}, key="k")
    takes.new(store, "what-if")
    played(store, take="what-if")

    with ensemble.read(store, take="what-if") as reader:
        [answer] = reader.events("priced")
        assert answer.causationid == receipt.id
        assert answer.correlationid == receipt.id
        assert [each.event.topic for each in reader.why(receipt.id).tree.said[0].said] == ["tallied"]
        assert [each.id for each in reader.why(answer.id).causes] == [receipt.id]


def test_a_take_begins_where_it_is_asked_to(store: str) -> None:
    played(store, 1, 2, 3)
    with ensemble.read(store) as reader:
        first, second, third = reader.events("ordered")
        end = reader.status().events

    assert takes.new(store, "by-offset", second.offset).offset == second.offset
    assert takes.new(store, "by-id", second.id).offset == second.offset
    assert takes.new(store, "by-time", second.written_at).offset == second.offset
    assert takes.new(store, "after", third.written_at + timedelta(days=1)).offset == end
    assert takes.new(store, "at-the-end").offset == end
    assert takes.new(store, "before-all", first.written_at - timedelta(days=1)).offset == 0
    assert said(store, "before-all", ">") == []
    assert [each["sum"] for each in said(store, "by-time")] == [1]


def test_a_take_does_not_begin_inside_of_a_frame(store: str) -> None:
    with ensemble.open(SCORE, store=store, players=PLAYERS) as band:
        band.publish_many([{"n": 1}], topic="ordered")
        band.settle(10)
        before = band.status().events
        band.publish_many([{"n": number} for number in range(50)], topic="ordered")
        band.settle(10)

    assert takes.new(store, "inside", before + 7).offset == before


def test_a_take_is_opened_again_where_it_was(store: str) -> None:
    played(store, 1)
    takes.new(store, "what-if")
    for number in (2, 3, 4):
        played(store, number, take="what-if")

    assert [each["sum"] for each in said(store, "what-if")] == [1, 3, 6, 10]
    assert said(store) == [{"sum": 1}]


def test_a_take_that_is_not_there_is_named_with_the_one_that_may_be_meant(store: str) -> None:
    played(store, 1)
    takes.new(store, "what-if")

    with pytest.raises(Unavailable, match="there is no take 'what-of'; did you mean 'what-if'"):
        ensemble.read(store, take="what-of")
    with pytest.raises(Unavailable, match="'xyzzy'; there is main, what-if; make it with: ensemble take new xyzzy"):
        ensemble.open(SCORE, store=store, take="xyzzy", players=PLAYERS)
    with pytest.raises(Unavailable, match="there is a take 'what-if' already"):
        takes.new(store, "what-if")
    with pytest.raises(Unavailable, match="a take is called by letters"):
        takes.new(store, "what/if")
    with pytest.raises(Unavailable, match="take 5: a take is called by letters"):
        takes.new(store, 5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="names the take 'a', and take='b'"):
        ensemble.read(f"{store}#a", take="b")


def test_a_place_that_is_not_there_is_refused_and_makes_nothing(store: str) -> None:
    played(store, 1)

    with pytest.raises(
        OffsetError, match="there was no moment before event 300; it has the offsets 0 to 2, and 3 stands for now"
    ):
        takes.new(store, "what-if", 300)
    with pytest.raises(OffsetError, match="there is no event 'nobody-1'"):
        takes.new(store, "what-if", "nobody-1")
    assert [each.name for each in takes.listed(store)] == ["main"]


def test_a_take_on_which_others_stand_is_not_dropped(store: str) -> None:
    played(store, 1)
    takes.new(store, "a")
    takes.new(f"{store}#a", "b")

    with pytest.raises(Unavailable, match="b stands on take 'a'; drop that first"):
        takes.drop(store, "a")
    takes.new(f"{store}#a", "c")
    with pytest.raises(Unavailable, match="b, c stand on take 'a'; drop those first"):
        takes.drop(store, "a")
    takes.drop(store, "c")
    with pytest.raises(Unavailable, match="main is the trunk"):
        takes.drop(store, "main")
    with pytest.raises(Unavailable, match=r"there is no take 'zz'; there is main, a, b$"):
        takes.drop(store, "zz")
    takes.drop(store, "b")
    takes.drop(store, "a")

    assert [each.name for each in takes.listed(store)] == ["main"]
    takes.new(store, "a")
    assert said(store, "a") == [{"sum": 1}]


def test_a_take_that_is_played_is_not_dropped(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    played(store, 1)
    takes.new(store, "a")

    with ensemble.open(SCORE, store=store, take="a", players=PLAYERS) as band:
        with pytest.raises(Unavailable, match=r"take 'a' can't be dropped now: .*, or stop that process$"):
            takes.drop(store, "a")
        band.publish("ordered", {"n": 2}, key="k")
        band.settle(10)
        assert band.table("tally")["k"] == {"sum": 3}


def test_a_parent_that_lost_its_end_is_not_taken_for_the_past(tmp_path: Path) -> None:
    store = tmp_path / "store"
    played(str(store), 1, 2)
    takes.new(str(store), "a")
    [segment] = (store / "shard-0").glob("*.seg")
    for snapshot in (store / "shard-0" / "snapshots").iterdir():
        snapshot.unlink()
    segment.write_bytes(segment.read_bytes()[:-40])
    open_log(str(store), name="").close()  # cuts the torn end

    with pytest.raises(LogCorrupt, match=r"a take leaves main after frame .* its end was lost, or it was changed"):
        ensemble.read(str(store), take="a")


def test_what_was_opened_is_closed_where_a_take_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = str(tmp_path / "store")
    played(store, 1)
    takes.new(store, "a")
    opened: list[Any] = []

    def noted(open_: Any) -> Any:
        def noting(*given: Any) -> Any:
            opened.append(open_(*given))
            return opened[-1]

        return noting

    def refuse(self: Branch, fork: Fork) -> None:
        raise LogCorrupt("the joint is wrong")

    for name in ("open", "read"):
        monkeypatch.setattr(OwnInDirectory, name, noted(getattr(OwnInDirectory, name)))
    monkeypatch.setattr(Branch, "_check_joint", refuse)

    for url_opener in (log.read_log, lambda url: open_log(url, name="")):
        with pytest.raises(LogCorrupt, match="the joint is wrong"):
            url_opener(f"{store}#a")

    assert len(opened) == 4
    for each in opened:
        with pytest.raises(Unavailable, match="closed"):
            each.end()


def test_the_own_log_of_a_take_gives_its_rows_to_who_asks_from_before_it_begins(store: str) -> None:
    played(store, 1)
    takes.new(store, "a")
    played(store, 2, take="a")

    [reader] = log.own_logs(store, "a")

    begin = reader.begin().offset
    assert begin > 0
    assert [frame.first for frame in reader.rows(0)] == [frame.first for frame in reader.rows(begin)] != []
    with pytest.raises(OffsetError, match="offset -1 lies outside"):
        reader.rows(-1)
    reader.close()


def test_another_take_made_current_while_a_band_comes_to_hold_its_log_is_what_it_plays(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    played(store, 1)
    takes.new(store, "other")
    opened: list[str] = []

    def late(url: str) -> Own:
        found = own_at(url)
        real = found.open

        def open_late(*given: Any) -> Any:
            if not opened:
                kept.make_current(store, "other")
            opened.append(url)
            return real(*given)

        monkeypatch.setattr(found, "open", open_late)
        return found

    monkeypatch.setattr(log, "own_at", late)
    played(store, 10)

    assert len(opened) == 2
    assert [each["sum"] for each in said(store, "other")] == [1, 11]
    assert [each["sum"] for each in said(store, "main")] == [1]


def test_the_own_log_of_a_take_is_no_store_by_itself(tmp_path: Path) -> None:
    store = tmp_path / "store"
    played(str(store), 1)
    takes.new(str(store), "a")

    with pytest.raises(Unavailable, match="this is the own log of a take"):
        ensemble.read(str(store / "takes" / "a"))


def test_what_a_crash_left_of_a_take_is_nobodys(tmp_path: Path) -> None:
    store = tmp_path / "store"
    played(str(store), 1)
    begun = store / "takes" / ".a" / "shard-0"
    begun.mkdir(parents=True)
    (begun / "junk").write_text("half of it")

    assert [each.name for each in takes.listed(str(store))] == ["main"]
    takes.new(str(store), "a")
    assert said(str(store), "a") == [{"sum": 1}]
    assert not (store / "takes" / ".a").exists()


def test_two_who_make_a_take_of_one_name_at_once_make_one(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    played(store, 1)
    has_begun, may_end = threading.Event(), threading.Event()
    refused: list[Unavailable] = []

    def slowly(place: str) -> None:
        Path(place).mkdir()
        (Path(place) / "first").touch()
        has_begun.set()
        assert may_end.wait(10)

    def late() -> None:
        try:
            kept.make(store, "what-if", lambda place: Path(place).mkdir())
        except Unavailable as error:
            refused.append(error)

    both = [threading.Thread(target=kept.make, args=(store, "what-if", slowly)), threading.Thread(target=late)]
    both[0].start()
    assert has_begun.wait(10)
    both[1].start()
    both[1].join(0.2)
    may_end.set()
    for each in both:
        each.join(10)

    assert [path.name for path in (tmp_path / "store/takes/what-if").iterdir()] == ["first"]
    assert "somebody else made this take just now, or it is no take; choose another name" in str(refused[0])


def test_a_take_that_could_not_be_made_leaves_nothing(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    played(store, 1)

    def refused(place: str) -> None:
        Path(place).mkdir()
        raise Unavailable("the disk is full")

    with pytest.raises(Unavailable, match="the disk is full"):
        kept.make(store, "what-if", refused)

    assert list((tmp_path / "store/takes").iterdir()) == []


def count_none_once(monkeypatch: pytest.MonkeyPatch, take: str) -> None:
    """Who looks whether there is such a take finds none, once: it is made right after that."""
    counts = iter([None])

    def late(url: str) -> Own:
        found = own_at(url)
        if take in url:
            monkeypatch.setattr(found, "count", lambda: next(counts, 0))
        return found

    monkeypatch.setattr(log, "own_at", late)


def test_who_comes_second_to_a_name_gets_no_take_of_another_place(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    played(store, 1, 2)
    first = takes.new(store, "what-if", 0)
    count_none_once(monkeypatch, "what-if")

    with pytest.raises(Unavailable, match=r"somebody else made .* take .*just now"):
        takes.new(store, "what-if")

    monkeypatch.undo()
    assert [(each.name, each.id, each.offset) for each in takes.listed(store)][1:] == [("what-if", first.id, 0)]


def test_who_comes_second_to_the_very_same_take_neither_takes_it_over_nor_away(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    played(store, 1, 2)
    takes.new(store, "what-if")
    with ensemble.open(SCORE, store=store, take="what-if", players=PLAYERS) as band:
        count_none_once(monkeypatch, "what-if")
        with pytest.raises(Unavailable):
            takes.new(store, "what-if")
        monkeypatch.undo()
        band.publish("ordered", {"n": 3}, key="k")
        band.settle(10)

    assert sums(store, "what-if") == {"k": {"sum": 6}}


def test_what_is_left_of_a_dropped_take_is_swept_while_nobody_makes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = str(tmp_path / "store")
    played(store, 1)
    takes.new(store, "a")
    swept = []

    def sweep(store: str, take: str) -> None:
        fd = os.open(tmp_path / "store" / "takes", os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(fd)
        swept.append(take)

    monkeypatch.setattr(kept, "sweep", sweep)
    takes.drop(store, "a")

    assert swept == ["a"]


@pytest.mark.parametrize("place", [1.5, True, date(2026, 11, 30)])
def test_what_is_no_place_is_said_to_be_none(store: str, place: Any) -> None:
    played(store, 1)

    for call in (lambda: takes.new(store, "a", place), lambda: takes.rollback(store, place), lambda: replay(SCORE, place)):
        with pytest.raises(TypeError, match=r"is no place in a log; give an offset \(int\), a time \(datetime, with"):
            call()
    assert [each.name for each in takes.listed(store)] == ["main"]


def test_a_url_that_names_another_take_than_the_one_that_is_asked_for_is_refused(store: str) -> None:
    played(store, 1)
    takes.new(store, "a")
    takes.new(store, "b")

    for call in (takes.use, takes.drop, promote):
        with pytest.raises(TypeError, match=r"names the take 'a', and 'b' is asked for; name one"):
            call(f"{store}#a", "b")
    takes.use(f"{store}#a", "a")
    takes.drop(f"{store}#b", "b")

    assert [(each.name, each.is_current) for each in takes.listed(store)] == [("main", False), ("a", True)]
