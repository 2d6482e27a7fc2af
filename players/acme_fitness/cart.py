"""Carts: one a user. What the customer does is folded into a table; checking out asks for an order.

From checking out until the payment is known the cart is locked. Paid: it is emptied. Refused: it is as it was, to be
changed and tried again. A customer who adds something meanwhile begins a new cart.

The player's lane is the user (`by: user_id` in the score), so what becomes of an order reaches the cart of its user,
although events of orders are keyed by order.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from ensemble import Context, Emission, Event, emit
from players.acme_fitness.money import cents

Cart = MutableMapping[str, Any]


def keep(event: Event, ctx: Context) -> Emission | None:
    cart, said = ctx.state, event.data
    match event.topic:
        case "cart.item.added":
            unlock(cart)
            add(cart["items"], item_of(said))
        case "cart.item.modified":
            if not cart.get("is_locked"):
                modify(cart.get("items", []), said["item_id"], int(said["quantity"]))
        case "cart.replaced":
            unlock(cart)
            cart["items"] = [item_of(item) for item in said["items"]]
        case "cart.cleared":
            unlock(cart)
            cart["items"] = []
        case "cart.checked_out":
            return check_out(cart, said)
        case "order.paid" if cart.get("order_id") == said["order_id"] and cart["is_locked"]:
            cart.update(items=[], is_locked=False)
        case "order.cancelled" if cart.get("order_id") == said["order_id"]:
            cart["is_locked"] = False
    return None


def check_out(cart: Cart, said: dict[str, Any]) -> Emission | None:
    order_id = said["order_id"]
    if cart.get("order_id") == order_id:
        return None  # the customer pressed the button twice: the order is on its way already
    if cart.get("is_locked") or not cart.get("items"):
        reason = f"no cart found for {said['user_id']}"
        return emit("checkout.refused", user_id=said["user_id"], order_id=order_id, reason=reason)
    cart.update(order_id=order_id, is_locked=True)
    shown = said.get("total")
    return emit(
        "order.requested",
        order_id=order_id,
        user_id=said["user_id"],
        country=said["country"],
        delivery=said["delivery"],
        card=said.get("card"),
        items=cart["items"],
        total=cart_total(cart) if shown is None else cents(shown),
    )


def unlock(cart: Cart) -> None:
    """Make a cart that can be filled: a locked one goes its way to the order, and a new one begins."""
    if cart.get("is_locked") or "items" not in cart:
        cart.update(items=[], is_locked=False)


def add(items: list[dict[str, Any]], new: dict[str, Any]) -> None:
    """More of an item that is there already, or a new one."""
    for item in items:
        if item["item_id"] == new["item_id"]:
            item["quantity"] += new["quantity"]
            return
    items.append(new)


def modify(items: list[dict[str, Any]], item_id: str, quantity: int) -> None:
    """Replace an item's quantity; 0 removes it; one that isn't there changes nothing."""
    for item in items:
        if item["item_id"] == item_id:
            item["quantity"] = quantity
    items[:] = [item for item in items if item["quantity"] > 0]


def cart_item_total(cart: Cart) -> int:
    """How many pieces are in a cart."""
    return sum(item["quantity"] for item in cart.get("items", []))


def cart_total(cart: Cart) -> int:
    """What a cart costs, in cents."""
    return sum(item["quantity"] * item["price"] for item in cart.get("items", []))


def item_of(said: dict[str, Any]) -> dict[str, Any]:
    """An item as the cart keeps it. Quantity and price may come as text, as web forms send them."""
    return {
        "item_id": said["item_id"],
        "name": said.get("name", ""),
        "quantity": int(said["quantity"]),
        "price": cents(said["price"]),
        "is_goods": said.get("is_goods", True),
    }
