"""`forget` makes one person's data unreadable, in a store that is played or not."""

from __future__ import annotations

from tests.cli.shell import SHOP_SCORE, Shell, interrupt

PERSONAL = SHOP_SCORE.replace("    key: order_id\n", "    key: order_id\n    personal: {subject: who, fields: [name]}\n")
LINES = "\n".join(
    f'{{"topic":"order.placed","data":{{"order_id":"o-{who}","total":5,"who":"{who}","name":"SECRET-{who}"}}}}'
    for who in ("ella", "miles")
)


def names(shop: Shell) -> list[str]:
    return [event["data"]["name"] for event in shop.run("events", "order.placed", "--json").json_lines]


def test_somebody_is_forgotten_in_a_store_that_nobody_plays(shop: Shell) -> None:
    shop.write("shop.yaml", PERSONAL)
    shop.write("orders.jsonl", LINES)
    assert shop.run("run", "shop.yaml", "--input", "orders.jsonl").code == 0

    ran = shop.run("forget", "ella")

    assert (ran.code, ran.out) == (0, "ella: forgotten in .ensemble/shop; 1 key destroyed\n")
    assert names(shop) == ["(forgotten)", "SECRET-miles"]
    assert ["forgotten" in event for event in shop.run("events", "order.placed", "--json").json_lines] == [True, False]
    wrong = shop.run("forget", "mils", "--json")
    assert wrong.code == 1 and "did you mean 'miles'" in wrong.err
    assert shop.run("audit", "--tables").code == 0


def test_somebody_is_forgotten_in_a_band_that_plays(shop: Shell) -> None:
    shop.write("shop.yaml", PERSONAL)
    process = shop.serve()
    shop.run("publish", "-", stdin=LINES)

    assert shop.run("forget", "miles", "--json").json == {"subject": "miles", "url": ".ensemble/shop", "keys": 1}
    assert names(shop) == ["SECRET-ella", "(forgotten)"]
    interrupt(process)
