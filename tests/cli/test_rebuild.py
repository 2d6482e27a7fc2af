"""`rebuild` makes a table anew by the code of now, compares it, and puts it in place."""

from __future__ import annotations

import json

import pytest

from tests.cli.shell import SHOP_PLAYERS, Shell, interrupt


@pytest.fixture
def mended(shop: Shell) -> Shell:
    """A shop that has played three orders, and whose tally was mended since."""
    shop.write_orders(5, 6, 7)
    assert shop.run("run", "shop.yaml", "--input", "orders.jsonl").code == 0
    shop.write("shop.py", SHOP_PLAYERS.replace('get("paid", 0) + 1', 'get("paid", 0) + event.data["total"]'))
    return shop


def table(shell: Shell) -> dict[str, object]:
    return {row["key"]: row["state"] for row in shell.run("table", "tally", "--json").json_lines}


def test_what_would_differ_is_shown_and_nothing_is_changed(mended: Shell) -> None:
    ran = mended.run("rebuild", "shop.yaml", "tally")

    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[0] == "tally: 3 events heard again; 3 keys differ, and the answers to 0 of 0 events"
    assert ["o-2", '{"paid":1}', '{"paid":6}'] in [line.split() for line in ran.out.splitlines()]
    assert "--switch puts the rebuilt table in place" in ran.err
    assert table(mended) == {f"o-{n}": {"paid": 1} for n in (1, 2, 3)}


def test_where_no_table_is_it_says_so(mended: Shell) -> None:
    mended.write(
        "other.yaml",
        "ensemble: 1\nname: shop\nplayers: {other: {play: 'shop:tally', on: paid}}\nstore: {url: .ensemble/shop}\n",
    )

    ran = mended.run("rebuild", "other.yaml")

    assert (ran.code, ran.out) == (0, "")
    assert "there is nothing to rebuild" in ran.err


def test_who_is_muted_is_not_called(mended: Shell) -> None:
    sent = "    open('sent', 'a').write('!')\n"
    mended.write("shop.py", SHOP_PLAYERS.replace("def tally(event, ctx):\n", "def tally(event, ctx):\n" + sent))
    score = (mended.folder / "shop.yaml").read_text()
    mended.write("shop.yaml", score.replace('"shop:tally"', '"shop:tally", outside: mute'))

    all_of_them = mended.run("rebuild", "shop.yaml")
    assert (all_of_them.code, "tally: left out" in all_of_them.err) == (0, True)
    named = mended.run("rebuild", "shop.yaml", "tally")
    assert named.code == 1
    assert "player tally is not called where nothing is to be done outside (outside: mute)" in named.err
    assert not (mended.folder / "sent").exists()


def test_switch_puts_the_rebuilt_table_in_place_once_and_for_all(mended: Shell) -> None:
    assert mended.run("rebuild", "shop.yaml", "tally", "--switch").code == 0

    assert table(mended) == {"o-1": {"paid": 5}, "o-2": {"paid": 6}, "o-3": {"paid": 7}}
    again = mended.run("rebuild", "shop.yaml", "tally", "--json").json
    assert (again["same"], again["heard"], again["changes"]) == (True, 3, {})
    mended.write_orders(1, name="more.jsonl")
    assert mended.run("run", "shop.yaml", "--input", "more.jsonl").code == 0
    assert table(mended)["o-1"] == {"paid": 6}


def test_what_the_new_code_can_not_hear_ends_with_3_and_keeps_the_switch_back(mended: Shell) -> None:
    mended.write(
        "shop.py", SHOP_PLAYERS.replace("def tally(event, ctx):", "def tally(event, ctx):\n    1 / (event.data['total'] - 6)")
    )

    compared = mended.run("rebuild", "shop.yaml", "tally")
    assert compared.code == 3
    assert "(key 'o-2') can't be heard now: ZeroDivisionError: division by zero" in compared.out
    refused = mended.run("rebuild", "shop.yaml", "tally", "--switch")
    assert refused.code == 1
    assert "--skip-unheard" in refused.err
    assert len(table(mended)) == 3

    assert mended.run("rebuild", "shop.yaml", "tally", "--switch", "--skip-unheard").code == 3
    assert set(table(mended)) == {"o-1", "o-3"}


def test_a_store_that_is_played_can_be_compared_but_not_switched(mended: Shell) -> None:
    playing = mended.serve()

    compared = mended.run("rebuild", "shop.yaml", "tally", "--json")
    refused = mended.run("rebuild", "shop.yaml", "tally", "--switch")

    assert compared.json["heard"] == 3
    assert refused.code == 4
    assert "it is being played already" in refused.err
    interrupt(playing)


def test_unknown_players_are_refused_with_those_there_are(mended: Shell) -> None:
    ran = mended.run("rebuild", "shop.yaml", "taly")

    assert ran.code == 1
    assert "no player 'taly' has played" in ran.err
    assert "pay, tally" in ran.err


def test_without_a_name_all_tables_are_rebuilt(mended: Shell) -> None:
    ran = mended.run("rebuild", "shop.yaml", "--switch", "--json")

    assert [(each["player"], len(each["changes"])) for each in ran.json_lines] == [("pay", 0), ("tally", 3)]
    assert table(mended)["o-3"] == {"paid": 7}


def test_the_json_of_a_comparison_has_all_of_it(mended: Shell) -> None:
    ran = mended.run("rebuild", "shop.yaml", "tally", "--json")

    assert json.loads(ran.out)["changes"] == {f"o-{n}": [{"paid": 1}, {"paid": n + 4}] for n in (1, 2, 3)}
