"""The shapes of the events that players of the shop say to each other; the score names them with `type:`.

An event's topic says what happened, its fields say the rest. Amounts are cents. A card is a token that only the payment
provider can turn into a number, so no event can hold one.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct


class RegistrationRequested(Struct, frozen=True):
    user_id: str
    first_name: str = ""
    last_name: str = ""
    email: str = ""
    country: str = ""


class UserRegistered(Struct, frozen=True):
    user_id: str
    email: str = ""


class UserRefused(Struct, frozen=True):
    user_id: str
    reason: str


class PaymentRequested(Struct, frozen=True):
    order_id: str
    total: int | None = None
    card: str | None = None


class CardValidated(Struct, frozen=True):
    """The answer to every payment that was requested, good or bad."""

    order_id: str
    success: bool
    status: int
    message: str
    amount: int
    transaction_id: str


class RefundRequested(Struct, frozen=True):
    order_id: str
    user_id: str
    country: str
    amount: int


class PaymentRefunded(Struct, frozen=True):
    order_id: str
    user_id: str
    country: str
    amount: int
    transaction_id: str


class Shipment(Struct, frozen=True):
    """A parcel on its way (`shipment.sent`) or at the door (`shipment.delivered`)."""

    order_id: str
    tracking_number: str
    status: str


class StockAsked(Struct, frozen=True):
    """Something to be done to one product's stock for an order."""

    order_id: str
    product_id: str
    quantity: int


class StockCorrected(Struct, frozen=True):
    """A stock-taking found more (a positive quantity) or less."""

    product_id: str
    quantity: int
    note: str = ""


class OrderPaid(Struct, frozen=True):
    order_id: str
    user_id: str
    delivery: str
    """Who is to deliver it."""


class OrderShort(Struct, frozen=True):
    order_id: str
    short: list[str]


class OrderCompleted(Struct, frozen=True):
    order_id: str
    user_id: str
    country: str
    total: int


class OrderOverdue(Struct, frozen=True):
    """It was paid, and no parcel has left for too long."""

    order_id: str
    user_id: str
    paid_at: datetime


class CardDeclined(Struct, frozen=True):
    user_id: str
    order_id: str
    message: str


class CustomerReminded(Struct, frozen=True):
    """Of a cart in which things lie."""

    user_id: str
    left_at: datetime


class CustomerSuspected(Struct, frozen=True):
    """Of trying cards that are not theirs."""

    user_id: str
    orders: list[str]


class OrderCancelled(Struct, frozen=True):
    order_id: str
    user_id: str
    country: str
    reason: str
