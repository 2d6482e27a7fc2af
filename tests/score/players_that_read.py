"""Players that ask for fields of what they hear, in all the ways that can be seen."""

from __future__ import annotations

from typing import Any

import msgspec

from ensemble import Event, Match


def by_name(order: Event) -> None:
    print(order.data["total"], order.data.get("note"))


def through_a_name(order: Event) -> None:
    data = order.data
    print(data["customer"]["id"])


def _tax(order: Event) -> Any:
    return order.data["rate"]


def through_a_function(order: Event) -> None:
    print(_tax(order))


def nothing_seen(order: Event) -> None:
    for name in order.data:
        print(order.data[name])


class Asks:
    def __call__(self, order: Event) -> None:
        print(order.data["total"])


def of_a_match(match: Match, ctx: Any) -> None:
    print(match["first"].data["total"], match.events)


class Order(msgspec.Struct):
    total: float
    note: str = ""


def typed(order: Order) -> None: ...


def keeps(order: Event, ctx: Any) -> None:
    ctx.state["n"] = 1


class Small(msgspec.Struct):
    n: int = 0


class Other(msgspec.Struct):
    n: str = ""
