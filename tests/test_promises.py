"""What event sourcing promises, one command each (docs/event-sourcing.md)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.shell import SHOP_PLAYERS, SHOP_SCORE, Shell

MENDED = SHOP_PLAYERS.replace('get("paid", 0) + 1', 'get("paid", 0) + event.data["total"]')


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shell]:
    """A shop that has played three orders. Its tally counts orders, where it should add up what was paid."""
    shell = Shell(tmp_path)
    shell.write_shop()
    shell.write_orders(5, 6, 7)
    assert shell.run("run", "shop.yaml", "--input", "orders.jsonl").code == 0
    yield shell
    shell.end()


def table(shell: Shell, player: str, *more: str) -> dict[str, object]:
    return {row["key"]: row["state"] for row in shell.run("table", player, "--json", *more).json_lines}


def test_a_service_that_comes_later_hears_all_that_was_said_before_it(shop: Shell) -> None:
    shop.write("later.py", "def to_2(data):\n    return {**data, 'cents': data['total'] * 100}\n\n"
               "def loyalty(order, ctx):\n    ctx.state['points'] = order.data['cents']\n")  # fmt: skip
    versioned = SHOP_SCORE.replace("    key: order_id\n", '    key: order_id\n    version: 2\n    upcast: ["later:to_2"]\n')
    shop.write("shop.yaml", versioned + '  loyalty: {play: "later:loyalty", on: order.placed}\n')

    assert shop.run("run", "shop.yaml").code == 0

    assert table(shop, "loyalty") == {"o-1": {"points": 500}, "o-2": {"points": 600}, "o-3": {"points": 700}}


def test_yesterdays_events_are_replayed_through_the_code_of_today(shop: Shell) -> None:
    shop.write("shop.py", MENDED.replace('total=order.data["total"]', 'total=order.data["total"] * 2'))

    ran = shop.run("replay", "shop.yaml", "--from", "0", "--take", "twice")

    assert ran.code == 0, ran.err
    assert table(shop, "tally", "--take", "twice") == {"o-1": {"paid": 10}, "o-2": {"paid": 12}, "o-3": {"paid": 14}}
    assert table(shop, "tally") == {f"o-{n}": {"paid": 1} for n in (1, 2, 3)}, "what is true is as it was"
    assert "different" in ran.out


def test_a_band_goes_on_from_before_what_went_wrong(shop: Shell) -> None:
    shop.write_orders(5000, name="wrong.jsonl")
    events = len(shop.run("events", "--json").json_lines)
    assert shop.run("run", "shop.yaml", "--input", "wrong.jsonl").code == 3

    assert shop.run("rollback", "--to", events).code == 0

    assert shop.run("dead", "list", "--json").json_lines == []
    assert len(shop.run("events", "--json").json_lines) == events
    shop.write_orders(8, name="right.jsonl")
    assert shop.run("run", "shop.yaml", "--input", "right.jsonl").code == 0
    assert table(shop, "tally")["o-1"] == {"paid": 2}, "it goes on from there"
    assert len(shop.run("dead", "list", "--take", "main", "--json").json_lines) == 1, "what was stays readable"


def test_all_tables_are_made_anew_from_the_log_alone(shop: Shell) -> None:
    shop.write("shop.py", MENDED)

    assert shop.run("rebuild", "shop.yaml", "--switch").code == 0

    assert table(shop, "tally") == {"o-1": {"paid": 5}, "o-2": {"paid": 6}, "o-3": {"paid": 7}}


def test_a_byte_that_was_changed_in_the_record_is_found(shop: Shell) -> None:
    assert shop.run("audit", ".ensemble/shop").code == 0
    [segment, *_] = sorted((shop.folder / ".ensemble/shop/shard-0").glob("*.seg"))
    data = bytearray(segment.read_bytes())
    place = data.index(b"o-2")
    data[place + 2 : place + 3] = b"9"
    segment.write_bytes(data)

    ran = shop.run("audit", ".ensemble/shop")

    assert ran.code == 4
    assert segment.name in ran.out + ran.err


def test_any_state_that_ever_was_can_be_looked_at(shop: Shell) -> None:
    first = next(event["offset"] for event in shop.run("events", "order.paid", "--json").json_lines)

    assert table(shop, "tally", "--at", str(first)) == {}
    assert len(table(shop, "tally")) == 3
    assert shop.run("status", "--at", str(first), "--json").json["sections"]["tally"]["heard"] == 0
