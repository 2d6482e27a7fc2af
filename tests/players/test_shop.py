"""The whole shop by its players alone: no engine, keys heard in an order drawn by chance, held to the oracle."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import some
from tests.players.oracle import Shop, faults, read_input, tables
from tests.players.tabletop import TableTop

SCORES = Path(__file__).parents[2] / "scores"
CARDS = ["tok_visa", "tok_expired", "tok_mistyped", "tok_amex", "tok_unknown", None]


def played(lines: list[dict[str, Any]], *, seed: int, rules: str = "A", spare: int = 0, at_once: bool = True) -> TableTop:
    band = TableTop(SCORES / "acme_fitness.yaml", {"payment": {"rules": rules}, "stock": {"spare": spare}}, Random(seed))
    for line in lines:
        band.say(line["topic"], line["data"], line.get("key"))
        if not at_once:
            band.settle()
    band.settle()
    return band


@pytest.mark.parametrize("rules", ["A", pytest.param("B", marks=pytest.mark.everywhere("as the other"))])
def test_real_orders_add_up_however_keys_are_interleaved(rules: str) -> None:
    lines = read_input(SCORES / "data/acme_small.jsonl.gz")
    shop = Shop(rules=rules).run(lines)

    for seed in range(some(3, 1)):
        assert faults(played(lines, seed=seed, rules=rules), shop) == []


def test_heard_one_line_after_the_other_every_order_ends_as_in_the_slow_shop() -> None:
    lines = read_input(SCORES / "data/acme_small.jsonl.gz")
    shop = Shop().run(lines)

    band = played(lines, seed=1, at_once=False)

    completed = {event.key for event in band.events("order.completed")}
    assert completed == {number for number, order in shop.orders.items() if order.outcome == "completed"}
    assert {name: row["available"] for name, row in band.table("stock").items()} == {
        name: product.available for name, product in shop.products.items()
    }


def test_with_enough_of_everything_each_order_has_one_possible_outcome_and_tables_are_always_the_same() -> None:
    lines = read_input(SCORES / "data/acme_small.jsonl.gz")
    shop = Shop(spare=1_000_000).run(lines)

    one, other = played(lines, seed=1, spare=1_000_000), played(lines, seed=2, spare=1_000_000)

    assert all(shop.is_certain(order) for order in shop.orders.values())
    assert faults(one, shop) == []
    assert tables(one) == tables(other)


def test_a_shop_that_loses_a_reservation_is_found_out() -> None:
    lines = read_input(SCORES / "data/acme_small.jsonl.gz")
    band = played(lines, seed=1)
    row = next(row for row in band.table("stock").values() if row["taken"])

    row["taken"] -= 1

    assert len(faults(band, Shop().run(lines))) == 2  # it does not add up, and it is not what was sold


QUANTITIES = st.integers(1, 5)
VISITS = st.lists(
    st.tuples(
        st.sampled_from("uvw"),
        st.dictionaries(st.sampled_from(["p1", "p2", "p3"]), QUANTITIES, max_size=3),
        st.sampled_from(CARDS),
    ),
    max_size=12,
)


@given(visits=VISITS, stocks=st.tuples(*[st.integers(0, 12)] * 3), seed=st.integers(0, 2**32), rules=st.sampled_from("AB"))
@settings(max_examples=some(60), deadline=None)
def test_any_visits_of_any_customers_keep_every_promise_of_the_shop(
    visits: list[tuple[str, dict[str, int], str | None]], stocks: tuple[int, ...], seed: int, rules: str
) -> None:
    lines = [listed(f"p{number}", stock) for number, stock in enumerate(stocks, 1)]
    for number, (user, items, card) in enumerate(visits):
        lines.append({"topic": "cart.replaced", "data": {"user_id": user, "items": [item(*pair) for pair in items.items()]}})
        lines.append(checked_out(user, f"o-{number}", card))

    shop = Shop(rules=rules).run(lines)

    assert faults(played(lines, seed=seed, rules=rules), shop) == []


def listed(product: str, stock: int) -> dict[str, Any]:
    return {
        "topic": "product.listed",
        "data": {"product_id": product, "name": product, "price": "9.99", "stock": stock},
    }


def item(product: str, quantity: int) -> dict[str, Any]:
    return {"item_id": product, "quantity": quantity, "price": "9.99"}


def checked_out(user: str, order: str, card: str | None) -> dict[str, Any]:
    data = {"user_id": user, "order_id": order, "country": "Wales", "delivery": "tractor", "card": card}
    return {"topic": "cart.checked_out", "data": data}
