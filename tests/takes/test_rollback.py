"""Rolling back makes a take current: it is played, live, where none is named."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest

import ensemble
from ensemble import emit, takes
from ensemble.errors import LogCorrupt, OffsetError, Unavailable
from ensemble.log import hold
from ensemble.log import takes as kept
from ensemble.replay import difference_of, promote, replay
from ensemble.trimming import trim_store
from tests.takes.conftest import PLAYERS, SCORE, played, said


def test_a_rollback_goes_on_from_there_and_keeps_what_was(store: str) -> None:
    played(store, 1, 2, 3)
    with ensemble.read(store) as reader:
        third = list(reader.events("ordered"))[2]

    made = takes.rollback(store, third.id)
    played(store, 10)

    assert (made.name, made.is_current, made.parent) == ("rollback-1", True, "main")
    assert [each["sum"] for each in said(store)] == [1, 3, 13]
    assert [each["sum"] for each in said(store, "main")] == [1, 3, 6]


def test_one_can_go_back_to_what_was_rolled_back(store: str) -> None:
    played(store, 1, 2)
    takes.rollback(store, 0, name="anew")
    assert said(store) == []

    takes.use(store, "main")

    assert [each["sum"] for each in said(store)] == [1, 3]
    takes.use(store, "anew")
    with pytest.raises(Unavailable, match="take 'anew' is current; make another one so first: ensemble take use main"):
        takes.drop(store, "anew")


def test_what_is_played_is_not_rolled_back(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    with ensemble.open(SCORE, store=store, players=PLAYERS) as band:
        band.publish("ordered", {"n": 1}, key="k")
        band.settle(10)

        with pytest.raises(Unavailable, match=r"'main' can't be rolled back now: .* that process; or, .* --store ray:NAME"):
            takes.rollback(store, 0)

        assert [each.name for each in takes.listed(store)] == ["main"]
    assert said(store) == [{"sum": 1}]


def test_where_no_store_is_it_says_so(store: str) -> None:
    for ask in (lambda: takes.rollback(store, 0), lambda: takes.use(store, "main"), lambda: takes.drop(store, "mine")):
        with pytest.raises(Unavailable, match=r"there is no store; check the \w+, or play a score into it first"):
            ask()


def test_takes_of_a_band_on_a_cluster_are_made_and_listed_at_its_store() -> None:
    for ask in (lambda: takes.new("ray:shop", "a"), lambda: takes.listed("ray:shop"), lambda: takes.drop("ray:shop", "a")):
        with pytest.raises(Unavailable, match="ray:shop: takes are made, listed and dropped at the store of a band"):
            ask()


def test_a_place_that_is_not_there_is_told_with_those_that_are(store: str) -> None:
    played(store)

    with pytest.raises(OffsetError, match="it has no events, and 0 stands for now"):
        takes.rollback(store, 7)


def test_a_pointer_that_was_damaged_is_told(tmp_path: Path) -> None:
    store = tmp_path / "store"
    played(str(store), 1)
    (store / "current").write_bytes(b"\x00\x01")

    with pytest.raises(LogCorrupt, match="names no take"):
        ensemble.read(str(store))
    assert said(str(store), "main") == [{"sum": 1}]


def charging(charged: list[Any]) -> Any:
    def charge(event: Any, ctx: Any) -> Any:
        if ctx.live:
            charged.append(event.data["n"])
        return emit("charged", live=ctx.live)

    return charge


def outside(says: Any = None) -> dict[str, Any]:
    spec: dict[str, Any] = {"on": "ordered", "emits": ["charged"]}
    return {"ensemble": 1, "name": "shop", "players": {"charge": spec if says is None else {**spec, "outside": says}}}


@pytest.mark.parametrize(
    ("says", "charged", "told"),
    [
        (None, [1], [True, False]),
        ("mute", [1], [True]),
        ("allow", [1, 2], [True, True]),
        ({"stub": "tests.takes.test_rollback:pretend"}, [1], [True, "pretended, False"]),
    ],
)
def test_what_is_done_outside_is_not_done_in_a_take(store: str, says: Any, charged: list[int], told: list[Any]) -> None:
    did: list[Any] = []
    players = {"charge": charging(did)}
    with ensemble.open(outside(says), store=store, players=players) as band:
        band.publish("ordered", {"n": 1}, key="k")
        band.settle(10)
    takes.new(store, "what-if")

    with ensemble.open(outside(says), store=store, take="what-if", players=players) as band:
        band.publish("ordered", {"n": 2}, key="k")
        band.settle(10)
        assert band.status().sections["charge"].heard == 2

    assert did == charged
    assert [each["live"] for each in said(store, "what-if", "charged")] == told


def pretend(event: Any, ctx: Any) -> Any:
    return emit("charged", live=f"pretended, {ctx.live}")


def test_the_current_take_is_live_and_main_is_then_not(store: str) -> None:
    did: list[Any] = []
    players = {"charge": charging(did)}
    with ensemble.open(outside(), store=store, players=players) as band:
        band.publish("ordered", {"n": 1}, key="k")
        band.settle(10)
    takes.rollback(store, 0)

    for take, number in ((None, 2), ("rollback-1", 3), ("main", 4)):
        with ensemble.open(outside(), store=store, take=take, players=players) as band:
            band.publish("ordered", {"n": number}, key="k")
            band.settle(10)

    assert did == [1, 2, 3]


def test_a_rollback_that_dies_before_it_points_has_rolled_nothing_back(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    played(store, 1, 2)

    def die(store: str, take: str) -> None:
        raise RuntimeError("killed")

    monkeypatch.setattr(kept, "make_current", die)
    with pytest.raises(RuntimeError, match="killed"):
        takes.rollback(store, 0)
    monkeypatch.undo()

    assert [each["sum"] for each in said(store)] == [1, 3]
    assert [(each.name, each.is_current) for each in takes.listed(store)] == [("main", True), ("rollback-1", False)]
    assert takes.rollback(store, 0).name == "rollback-2"
    assert said(store) == []


@pytest.fixture
def up(store: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A band that is up, and rests: what is to be done is done at its store, and once more where the answer was lost."""

    def at_rest(url: str) -> Any:
        def act(what: Any) -> Any:
            with suppress(RuntimeError):
                what(store)
            return what(store)

        return nullcontext(act)

    played(store, 1, 2)
    monkeypatch.setattr(takes, "_at_rest", at_rest)
    return "ray:shop"


@pytest.mark.parametrize("name", [None, "anew"])
def test_a_band_is_rolled_back_though_a_shard_died_before_it_pointed(
    store: str, up: str, name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_current, died = kept.make_current, False

    def die_once(store: str, take: str) -> None:
        nonlocal died
        if not died:
            died = True
            raise RuntimeError("killed")
        make_current(store, take)

    monkeypatch.setattr(kept, "make_current", die_once)

    made = takes.rollback(up, 0, name)

    assert (made.name, made.is_current, died) == (name or "rollback-1", True, True)
    assert [each.name for each in takes.listed(store)] == ["main", made.name]
    assert said(store) == []


def test_a_band_is_not_rolled_back_into_a_take_that_there_is(store: str, up: str) -> None:
    takes.new(store, "anew")

    with pytest.raises(Unavailable, match="there is a take 'anew' already"):
        takes.rollback(up, 0, "anew")
    with pytest.raises(Unavailable, match=r"a take is called by letters"):
        takes.rollback(up, 0, "a b")

    assert [each["sum"] for each in said(store)] == [1, 3]


def test_a_take_that_is_current_and_was_removed_is_told_and_left(tmp_path: Path) -> None:
    store = tmp_path / "store"
    played(str(store), 1)
    (store / "current").write_text("gone\n")

    for ask in (
        lambda: said(str(store)),
        lambda: takes.rollback(str(store), 0),
        lambda: played(str(store), 2),
        lambda: trim_store(str(store)),
    ):
        with pytest.raises(Unavailable, match=r"'gone' is current, and is not there any more; .*ensemble take use main"):
            ask()
    takes.use(str(store), "main")

    assert said(str(store)) == [{"sum": 1}]


def test_what_is_done_at_a_store_only_says_so_where_a_band_on_a_cluster_is_named() -> None:
    for ask in (
        lambda: replay(SCORE, 0, store="ray:shop", calls=PLAYERS),
        lambda: promote("ray:shop", "a"),
        lambda: difference_of("ray:shop", "main", "a"),
        lambda: trim_store("ray:shop"),
        lambda: ensemble.open(SCORE, store="ray:shop", players=PLAYERS),
    ):
        with pytest.raises(
            Unavailable, match=r"store ray:shop.*: this is a band that is up on Ray, .* name the one that it plays"
        ):
            ask()


def test_who_comes_second_to_what_is_current_leaves_nobody_playing_behind(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    played(store, 1)
    takes.new(store, "a")
    takes.new(store, "b")

    def late(*given: Any) -> Any:
        kept.make_current(store, "a")  # by another process, between the look at the pointer and the lock
        return hold(*given)

    monkeypatch.setattr("ensemble.takes.hold", late)
    monkeypatch.setattr("ensemble.takes.shut", late)
    for ask in (lambda: takes.use(store, "b"), lambda: takes.rollback(store, 0)):
        kept.make_current(store, "main")
        with pytest.raises(Unavailable, match=r"'a' current just now, .* try again"):
            ask()
        assert kept.current(store) == "a"
    assert [each.name for each in takes.listed(store)] == ["main", "a", "b"]


def test_a_rollback_does_not_point_at_a_take_that_was_dropped_meanwhile(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    played(store, 1, 2)
    real = takes.new

    def new(*arguments: Any) -> Any:
        made = real(*arguments)
        takes.drop(store, made.name)
        return made

    monkeypatch.setattr(takes, "new", new)
    with pytest.raises(Unavailable, match="there is no take"):
        takes.rollback(store, 0)

    assert kept.current(store) == "main"


def test_in_an_object_store_a_take_that_is_being_dropped_does_not_become_current(tmp_path: Path) -> None:
    store = f"objects:{tmp_path}/shop"
    played(store, 1, 2)
    takes.new(store, "a")

    with kept.dropping(store, "a"):
        with pytest.raises(Unavailable, match="is being dropped"):
            takes.use(store, "a")
        assert kept.current(store) == "main"


def test_a_pointer_that_names_no_take_is_mended_by_making_one_current(store: str, tmp_path: Path) -> None:
    played(store, 1)
    takes.new(store, "a")
    for damaged in (b"", b"\x00\x01"):
        point(store, tmp_path, damaged)
        with pytest.raises(LogCorrupt, match="names no take; make one current: ensemble take use main"):
            ensemble.read(store)
        audit = ensemble.audit(store)
        assert [each.wrong.partition("; ")[2] for each in audit.findings] == ["make one current: ensemble take use main"]
        assert [log.take for log in audit.logs] == ["main", "a"]

        takes.use(store, "main")

        assert said(store) == [{"sum": 1}]
    assert ensemble.audit(store).is_whole


def test_a_pointer_that_names_no_take_is_not_mended_while_any_take_is_played(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    played(store, 1)
    takes.new(store, "a")
    takes.use(store, "a")

    with ensemble.open(SCORE, store=store, players=PLAYERS):
        point(store, tmp_path, b"")
        with pytest.raises(Unavailable, match="take 'a' can't be left now"):
            takes.use(store, "main")
    takes.use(store, "main")

    assert kept.current(store) == "main"


def test_a_folder_in_place_of_the_pointer_is_told_with_what_to_do(tmp_path: Path) -> None:
    store = tmp_path / "store"
    played(str(store), 1)
    (store / "current").mkdir()

    for ask in (lambda: takes.use(str(store), "main"), lambda: takes.listed(str(store)), lambda: ensemble.audit(str(store))):
        with pytest.raises(Unavailable, match=r"a folder is where the name .*; put it away, then .*: ensemble take use main"):
            ask()


def test_an_audit_tells_that_the_current_take_is_not_there(store: str, tmp_path: Path) -> None:
    played(store, 1)
    point(store, tmp_path, b"gone\n")

    done = ensemble.audit(store, who=True, tables=True)

    [finding] = done.findings
    assert (finding.file, not done.is_whole) == (f"{store}/current", True)
    assert finding.wrong.startswith("take 'gone' is current, and is not there any more; make another one current: ensemble")
    assert done.notes[-1] == "there is no current take, so who said what and the tables are not told; name one: STORE#main"
    assert [each.topic for each in ensemble.audit(f"{store}#main", who=True).who] == ["ordered", "priced", "tallied"]


def point(store: str, folder: Path, data: bytes) -> None:
    """Have the pointer to the current take say this."""
    if store.startswith("memory:"):
        if not kept.NAME.fullmatch(name := data.decode("ascii").removesuffix("\n")):
            pytest.skip("in memory no pointer is damaged")
        kept.make_current(store, name)
    else:
        (folder / ("shop" if store.startswith("objects:") else "store") / "current").write_bytes(data)


def test_of_two_who_roll_back_at_once_the_second_is_told_to_look_and_try_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = str(tmp_path / "store")
    played(store, 1, 2)
    told: list[str] = []

    def meanwhile(*given: Any) -> Any:
        monkeypatch.undo()  # the second comes while the first makes its take
        for ask in (lambda: takes.rollback(store, 0), lambda: takes.use(store, "main")):
            with pytest.raises(Unavailable) as refused:
                ask()
            told.append(str(refused.value))
        return takes.new(*given)

    monkeypatch.setattr("ensemble.takes.new", meanwhile)
    made = takes.rollback(store, 0)

    assert kept.current(store) == made.name
    for each in told:
        assert "which changes its takes; wait until that is done; then look which is current (ensemble take list), and" in each
        assert "publish" not in each
