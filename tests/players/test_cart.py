"""The cart as the public shops have it; emptied when its order is paid, as it was when the order is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensemble.event import Emission
from ensemble.testing import event
from players.acme_fitness.cart import cart_item_total, cart_total, keep
from tests.players.tabletop import context


def hear(ctx: Any, topic: str, **data: Any) -> Emission | None:
    return keep(event(topic, {"user_id": "eric", **data}), ctx)


def add(ctx: Any, item_id: str, quantity: int | str, price: float | str) -> None:
    hear(ctx, "cart.item.added", item_id=item_id, name=item_id, quantity=quantity, price=price)


def check_out(ctx: Any, order_id: str, **data: Any) -> Emission | None:
    return hear(ctx, "cart.checked_out", order_id=order_id, country="USA", delivery="tractor", card="tok_visa", **data)


def held(ctx: Any) -> dict[str, int]:
    return {item["item_id"]: item["quantity"] for item in ctx.state["items"]}


@pytest.fixture
def ctx() -> Any:
    ctx = context()
    add(ctx, "fitband", 1, 4.5)
    add(ctx, "redpant", 1, 400)
    return ctx


def test_the_first_carts_of_the_shop_have_two_pieces_for_404_50(ctx: Any) -> None:
    assert cart_item_total(ctx.state) == 2
    assert cart_total(ctx.state) == 40450


def test_the_seed_cart_of_nine_pieces_costs_728_70() -> None:
    ctx = context()

    for name, quantity, price in [("a", 1, "73.95"), ("b", 2, "94.12"), ("c", 5, "87.86"), ("d", 1, "27.21")]:
        add(ctx, name, quantity, price)

    assert (cart_item_total(ctx.state), cart_total(ctx.state)) == (9, 72870)


def test_adding_an_item_that_is_there_adds_to_its_quantity(ctx: Any) -> None:
    add(ctx, "fitband", "3", "4.50")

    assert held(ctx) == {"fitband": 4, "redpant": 1}


def test_modifying_replaces_the_quantity_and_zero_removes_the_item(ctx: Any) -> None:
    hear(ctx, "cart.item.modified", item_id="fitband", quantity="7")
    hear(ctx, "cart.item.modified", item_id="redpant", quantity=0)

    assert held(ctx) == {"fitband": 7}


def test_modifying_an_unknown_item_changes_nothing(ctx: Any) -> None:
    hear(ctx, "cart.item.modified", item_id="bike", quantity=3)

    assert held(ctx) == {"fitband": 1, "redpant": 1}


def test_modifying_where_there_is_no_cart_makes_none() -> None:
    ctx = context()

    hear(ctx, "cart.item.modified", item_id="bike", quantity=3)

    assert ctx.state == {}


def test_a_cart_is_replaced_as_a_whole_and_cleared_as_a_whole(ctx: Any) -> None:
    hear(ctx, "cart.replaced", items=[{"item_id": "bike", "quantity": 2, "price": "499.99"}])
    assert held(ctx) == {"bike": 2}

    hear(ctx, "cart.cleared")
    assert held(ctx) == {}


def test_checking_out_asks_for_an_order_of_what_is_in_the_cart(ctx: Any) -> None:
    said = check_out(ctx, "o-1")

    assert said is not None
    assert said.topic == "order.requested"
    assert (said.data["order_id"], said.data["total"], len(said.data["items"])) == ("o-1", 40450, 2)


def test_the_total_that_the_customer_was_shown_goes_with_the_order(ctx: Any) -> None:
    said = check_out(ctx, "o-1", total="100")

    assert said is not None
    assert said.data["total"] == 10000


def test_checking_out_without_a_cart_is_refused() -> None:
    said = check_out(context(), "o-1")

    assert said is not None
    assert (said.topic, said.data["reason"]) == ("checkout.refused", "no cart found for eric")


def test_pressing_the_button_twice_makes_one_order(ctx: Any) -> None:
    first, second = check_out(ctx, "o-1"), check_out(ctx, "o-1")

    assert first is not None
    assert second is None


def test_the_cart_is_emptied_when_its_order_is_paid(ctx: Any) -> None:
    check_out(ctx, "o-1")
    assert held(ctx) == {"fitband": 1, "redpant": 1}

    hear(ctx, "order.paid", order_id="o-1")
    assert held(ctx) == {}


def test_the_cart_stays_when_the_order_is_cancelled_and_can_be_ordered_again(ctx: Any) -> None:
    check_out(ctx, "o-1")

    hear(ctx, "order.cancelled", order_id="o-1", reason="payment refused: card is expired")

    assert held(ctx) == {"fitband": 1, "redpant": 1}
    again = check_out(ctx, "o-2")
    assert again is not None
    assert again.data["order_id"] == "o-2"


def test_what_becomes_of_an_earlier_order_leaves_the_cart_of_now_alone(ctx: Any) -> None:
    check_out(ctx, "o-1")
    add(ctx, "bike", 1, "499.99")  # a new cart, since the other is on its way
    assert held(ctx) == {"bike": 1}

    hear(ctx, "order.paid", order_id="o-1")
    assert held(ctx) == {"bike": 1}

    check_out(ctx, "o-2")
    hear(ctx, "order.paid", order_id="o-1")
    assert held(ctx) == {"bike": 1}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.booleans()), max_size=30))
def test_a_cart_holds_what_a_plain_dictionary_would(gestures: list[tuple[str, int, bool]]) -> None:
    ctx = context()
    expected: dict[str, int] = {}

    for item_id, quantity, is_added in gestures:
        if is_added and quantity:
            add(ctx, item_id, quantity, "1.10")
            expected[item_id] = expected.get(item_id, 0) + quantity
        elif not is_added:
            hear(ctx, "cart.item.modified", item_id=item_id, quantity=quantity)
            if item_id in expected:
                expected[item_id] = quantity
            expected = {name: count for name, count in expected.items() if count}

    assert {item["item_id"]: item["quantity"] for item in ctx.state.get("items", [])} == expected
    assert cart_total(ctx.state) == 110 * sum(expected.values())
