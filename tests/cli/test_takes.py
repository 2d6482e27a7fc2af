"""`ensemble take`, `rollback` and `replay`, as they are typed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.shell import Shell

STORE = ".ensemble/shop"


@pytest.fixture(scope="module")
def played_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a shop that was played."""
    shop = Shell(tmp_path_factory.mktemp("shop"))
    shop.write_shop()
    shop.write_orders(5)
    shop.run("run", "shop.yaml", "--input", "orders.jsonl")
    for number, total in ((2, 6), (3, 7)):  # each in a frame of its own
        shop.run("publish", "order.placed", f'{{"order_id": "o-{number}", "total": {total}}}')
    shop.run("run", "shop.yaml")
    return shop.folder


@pytest.fixture
def played(shell: Shell, played_once: Path) -> Shell:
    """A shell of its own beside that shop."""
    shutil.copytree(played_once, shell.folder, dirs_exist_ok=True)
    return shell


def mend(shop: Shell, old: str, new: str) -> None:
    path = shop.folder / "shop.py"
    path.write_text(path.read_text().replace(old, new))


def orders(shell: Shell, *options: str) -> list[str]:
    return [each["key"] for each in shell.run("events", "order.placed", "--json", *options).json_lines]


def test_a_take_is_made_listed_played_looked_into_and_dropped(played: Shell) -> None:
    second = played.run("events", "order.placed", "--json").json_lines[1]
    made = played.run("take", "new", "what-if", "--at", second["id"], "--json")
    published = played.run("publish", "order.placed", '{"order_id": "o-9", "total": 1}', "--take", "what-if")
    ran = played.run("run", "shop.yaml", "--take", "what-if", "--json")

    assert made.json["parent"] == "main"
    assert (published.code, ran.code) == (0, 0)
    assert orders(played, "--take", "what-if") == orders(played, "--store", f"{STORE}#what-if") == ["o-1", "o-9"]
    assert orders(played) == ["o-1", "o-2", "o-3"]
    listed = played.run("take", "list", "--json").json_lines
    assert [(each["name"], each["is_current"]) for each in listed] == [("main", True), ("what-if", False)]
    assert "what-if" in played.run("take", "list").out
    assert played.run("take", "drop", "what-if").code == 0
    gone = played.run("events", "--take", "what-if")
    assert gone.code == 4 and "there is no take 'what-if'" in gone.err


def test_a_take_that_would_begin_inside_of_a_frame_says_where_it_begins(shop: Shell) -> None:
    shop.write_orders(5, 6, 7)
    shop.run("run", "shop.yaml", "--input", "orders.jsonl")

    made = shop.run("take", "new", "what-if", "--at", "2")

    assert "leaves main at offset 0" in made.out
    assert "offset 2 stands inside of a frame, so the take begins before that frame" in made.err


def test_a_rollback_is_played_on_and_taken_back(played: Shell) -> None:
    second = played.run("events", "order.placed", "--json").json_lines[1]

    done = played.run("rollback", "--to", str(second["offset"]))

    assert done.code == 0 and "`ensemble take use main` goes back to it" in done.err
    assert orders(played) == ["o-1"]
    assert orders(played, "--take", "main") == ["o-1", "o-2", "o-3"]
    assert played.run("take", "use", "main").code == 0
    assert orders(played) == ["o-1", "o-2", "o-3"]


def test_a_replay_tells_what_differs_and_is_promoted(played: Shell) -> None:
    same = played.run("replay", "shop.yaml", "--from", "0")
    assert same.code == 0 and "nothing differs" in same.out
    mend(played, 'total=order.data["total"]', 'total=order.data["total"] + (order.key == "o-2")')

    told = played.run("replay", "shop.yaml", "--from", "0", "--take", "fixed")
    promoted = played.run("take", "promote", "fixed", "--json")

    assert told.code == 0
    assert '- order.paid  {"total":6' in told.out and '+ order.paid  {"total":7' in told.out
    assert promoted.json["corrections"] == 1
    [corrected] = played.run("events", "_band.corrected", "--json").json_lines
    assert corrected["key"] == "o-2"
    diff = played.run("take", "diff", "main", "fixed", "--json").json
    assert diff["players"]["pay"]["different"] == 1


def test_a_replay_in_json_is_one_line(played: Shell) -> None:
    mend(played, 'ctx.state.get("paid", 0) + 1', 'ctx.state.get("paid", 0) + 2')

    told = played.run("replay", "shop.yaml", "--from", "0", "--players", "tally", "--json").json

    assert told["take"] == "replay-1"
    assert {(each["player"], each["now"]["paid"]) for each in told["tables"]} == {("tally", 2)}


def test_slips_are_told_with_what_to_type(played: Shell) -> None:
    assert "did you mean 'tally'" in played.run("replay", "shop.yaml", "--from", "0", "--players", "taly").err
    assert "there was no moment before event 5000" in played.run("take", "new", "a", "--at", "5000").err
    for typed in (("take", "new", "a", "--at=-30m"), ("rollback", "--to", "10:00"), ("table", "tally", "--at", "10:00")):
        none = played.run(*typed)
        assert none.code == 1 and "there is no event" in none.err, typed
        assert "a place is an offset (12), a time (2011-11-01T08:16:00Z, 2011-11-01), how long ago (30m), or the id" in none.err
    for typed in (("take", "new", "a/b"), ("events", "--take", "a/b"), ("events", "--store", f"{STORE}#-a")):
        bad = played.run(*typed)
        assert bad.code == 2 and "letters" in bad.err, typed
    none = played.run("take", "drop", "nope")
    assert none.code == 4 and "there is no take 'nope'; there is main" in none.err and "take new" not in none.err
    both = played.run("events", "--store", f"{STORE}#a", "--take", "b")
    assert both.code == 2 and "name one" in both.err


def test_a_number_that_is_no_offset_is_a_slip(played: Shell) -> None:
    for typed in (("take", "new", "a", "--at", "9" * 5000), ("replay", "shop.yaml", "--from", "9" * 5000)):
        bad = played.run(*typed)
        assert bad.code == 2 and "is no offset" in bad.err and len(bad.err) < 2000, typed


@pytest.mark.parametrize("command", ["use", "drop", "promote"])
def test_a_store_that_names_another_take_is_a_slip(played: Shell, command: str) -> None:
    played.run("take", "new", "a")
    played.run("take", "new", "b")

    slip = played.run("take", command, "b", "--store", f"{STORE}#a")

    assert slip.code == 2 and "--store names the take a, and b is asked for; name one" in slip.err
    assert len(played.run("take", "list", "--json").json_lines) == 3


def test_a_store_whose_current_take_is_gone_is_found_and_gets_another(played: Shell) -> None:
    (played.folder / STORE / "current").write_text("gone\n")

    lost = played.run("events")

    assert (lost.code, "make another one current: ensemble take use main" in lost.err) == (4, True)
    listed, audited = played.run("take", "list", "--json"), played.run("audit", STORE)
    assert (listed.code, [each["is_current"] for each in listed.json_lines]) == (0, [False])
    assert "take 'gone' is current, and is not there any more; make another one current: ensemble take use main" in listed.err
    assert (audited.code, "make another one current: ensemble take use main" in audited.out) == (4, True)
    assert played.run("take", "use", "main").code == 0
    assert orders(played) == ["o-1", "o-2", "o-3"]


def test_takes_that_can_not_be_read_are_told_beside_those_that_can(played: Shell) -> None:
    for name in "abc":
        played.run("take", "new", name)
    (played.folder / STORE / "takes/b/ensemble.json").write_text("x")

    listed = played.run("take", "list")

    assert [line.split()[0] for line in listed.out.splitlines()] == ["take", "main", "a", "c"]
    assert (listed.code, "take 'b' can't be read: " in listed.err, "ensemble take drop b" in listed.err) == (4, True, True)


def test_a_replay_of_several_shards_says_from_where_on_and_of_how_many(played: Shell) -> None:
    played.run("reshard", STORE, "3")
    since = played.run("replay", "shop.yaml", "--from", "0").err.split("--from ")[1].strip()

    replayed = played.run("replay", "shop.yaml", "--from", since)

    assert f"0 events in 3 shards, from {since} on, replayed in " in replayed.out


def test_a_take_is_not_compared_with_itself(played: Shell) -> None:
    same = played.run("take", "diff", "main", "main")

    assert same.code == 2 and "name two takes: ensemble take list tells which there are" in same.err
