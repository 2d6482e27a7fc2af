"""Stock by product: nothing is promised twice, nothing is lost."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ensemble.event import Emission
from ensemble.testing import event
from players.acme_fitness.picking import collect
from players.acme_fitness.stock import keep
from tests.players.tabletop import context


def hear(ctx: Any, topic: str, *, spare: int = 0, **data: Any) -> list[Emission]:
    return list(keep(event(topic, {"product_id": "mat", "order_id": "o-1", **data}), ctx, spare=spare))


def listed(pieces: int) -> Any:
    ctx = context()
    hear(ctx, "product.listed", stock=pieces)
    return ctx


def said(emissions: list[Emission]) -> list[str]:
    return [emission.topic for emission in emissions]


def test_what_is_there_is_reserved_for_the_order_that_asks() -> None:
    ctx = listed(5)

    [answer] = hear(ctx, "stock.requested", quantity=3)

    assert (answer.topic, answer.data) == ("stock.reserved", {"order_id": "o-1", "product_id": "mat", "quantity": 3})
    assert (ctx.state["available"], ctx.state["reserved"]) == (2, 3)


def test_more_than_is_there_is_short_and_reserves_nothing() -> None:
    ctx = listed(2)

    assert said(hear(ctx, "stock.requested", quantity=3)) == ["stock.short"]
    assert (ctx.state["available"], ctx.state["reserved"]) == (2, 0)


def test_a_product_that_was_never_listed_is_short() -> None:
    assert said(hear(context(), "stock.requested", quantity=1)) == ["stock.short"]


def test_the_shop_window_is_told_when_the_last_piece_goes_and_when_there_is_one_again() -> None:
    ctx = context()

    assert said(hear(ctx, "product.listed", stock=2)) == ["stock.came_in"]
    assert said(hear(ctx, "stock.requested", quantity=2)) == ["stock.reserved", "stock.ran_out"]
    assert said(hear(ctx, "stock.released", quantity=2)) == ["stock.came_in"]


def test_pieces_that_are_promised_are_not_written_off() -> None:
    ctx = listed(5)
    hear(ctx, "stock.requested", quantity=4)

    hear(ctx, "stock.corrected", quantity=-3)

    assert ctx.state == {"available": 0, "reserved": 4, "taken": 0, "came_in": 4, "missing": 2}


def test_spare_pieces_come_with_what_is_listed_and_may_be_given_as_text() -> None:
    ctx = context()

    hear(ctx, "product.listed", stock=1, spare="10")  # type: ignore[arg-type]  # the environment gives text

    assert ctx.state["available"] == 11


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["product.listed", "stock.requested", "stock.returned", "stock.corrected", "end"]),
            st.integers(1, 20),
            st.booleans(),
        ),
        max_size=60,
    )
)
def test_after_any_history_pieces_add_up_and_none_is_promised_twice(history: list[tuple[str, int, bool]]) -> None:
    ctx, came_in, taken = context(), 0, 0
    promised: list[int] = []

    for topic, quantity, flag in history:
        if topic == "end" and promised:
            hear(ctx, "stock.taken" if flag else "stock.released", quantity=promised[-1])
            taken += promised[-1] if flag else 0
            promised.pop()
        elif topic == "product.listed":
            hear(ctx, topic, stock=quantity)
            came_in += quantity
        elif topic == "stock.corrected":
            hear(ctx, topic, quantity=quantity if flag else -quantity)
            came_in += quantity if flag else -quantity
        elif topic != "end":
            answers = said(hear(ctx, topic, quantity=quantity))
            came_in += quantity if topic == "stock.returned" else 0
            promised += [quantity] if "stock.reserved" in answers else []
        stock = ctx.state
        if stock:
            assert stock["available"] >= 0
            assert (stock["reserved"], stock["taken"]) == (sum(promised), taken)
            assert stock["available"] + stock["reserved"] + stock["taken"] == stock["came_in"]
            assert stock["came_in"] - stock["missing"] == came_in


def test_picking_answers_once_all_products_have_answered_and_then_forgets() -> None:
    ctx = context()
    heard: list[tuple[str, dict[str, Any]]] = [
        ("order.placed", {"products": 3}),
        ("stock.short", {"product_id": "mat"}),
        ("stock.reserved", {"product_id": "bike"}),
        ("stock.short", {"product_id": "ball"}),
    ]

    answers = [collect(event(topic, {"order_id": "o-1", **data}), ctx) for topic, data in heard]

    assert answers[:3] == [None, None, None]
    assert answers[3] is not None
    assert answers[3].topic == "order.short"
    assert answers[3].data == {"order_id": "o-1", "short": ["ball", "mat"]}
    assert ctx.state == {}


def test_an_order_of_services_alone_waits_for_no_stock() -> None:
    answer = collect(event("order.placed", {"order_id": "o-1", "products": 0}), context())

    assert answer is not None
    assert answer.topic == "order.reserved"
