"""What the shop says of carts that were left, cards that were declined, parcels that did not leave."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ensemble.testing import event, match
from players.acme_fitness.care import alert, remind, suspect
from players.acme_fitness.events import CustomerReminded, CustomerSuspected, OrderOverdue

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def said(topic: str, key: str, data: Any = None) -> Any:
    return event(topic, data, key=key, time=NOON)


def test_a_customer_is_reminded_of_what_was_left_and_when() -> None:
    assert remind(match("abandoned", said("cart.item.added", "jim"))) == CustomerReminded("jim", NOON)


def test_a_customer_is_suspected_for_the_orders_that_the_cards_were_to_pay() -> None:
    declined = [said("card.declined", "frank", {"order_id": f"frank-{number}"}) for number in (1, 2, 3)]

    answer = suspect(match("fraud", *declined, labels={"declined": [0, 1, 2]}))

    assert answer == CustomerSuspected("frank", ["frank-1", "frank-2", "frank-3"])


def test_an_alert_names_the_order_and_who_paid_it() -> None:
    paid = said("order.paid", "o-1", {"order_id": "o-1", "user_id": "han"})

    assert alert(match("overdue", paid, labels={"paid": 0})) == OrderOverdue("o-1", "han", NOON)
