"""A second, slow, obvious ACME shop: one loop, one order after the other, no events, Decimal pounds instead of cents.

It shares no code with the players. `Shop().run(lines)` reads the input of `scores/acme_fitness.yaml` and says what comes
of each order. A band hears different keys in no fixed order, so which of two customers gets the last piece is not fixed
either: `faults(reader, shop)` holds a band's log and tables only to what is true in every order, and to the shop's own
outcome wherever nothing scarce is involved.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zlib import crc32

HUNDRED_CARDS = ["visa"] * 55 + ["mastercard"] * 41 + ["expired", "amex", "eleven_digits", "mistyped"]
GOOD_CARDS = {
    "A": {"tok_visa", "tok_mastercard", "tok_mistyped"},
    "B": {"tok_visa", "tok_mastercard", "tok_amex", "tok_visa_13"},
}
SECRETS = re.compile(r"4111111111111111|5555555555554444|378282246310005|4222222222222|34983479798|411111111111111|cvv|ccv")


@dataclass
class Order:
    user: str
    country: str
    card: str | None
    total: Decimal
    shown: Decimal
    goods: Counter[str]
    outcome: str = ""
    reason: str = ""


@dataclass
class Product:
    came_in: int = 0
    """Listed, returned and found, less all that should be written off, whether it was there or not."""
    supply: int = 0
    """Listed, less all that should be written off: what is there in the worst case."""
    demand: int = 0
    available: int = 0
    missing: int = 0
    taken: int = 0


@dataclass
class Shop:
    rules: str = "A"
    spare: int = 0
    orders: dict[str, Order] = field(default_factory=dict)
    products: dict[str, Product] = field(default_factory=lambda: defaultdict(Product))
    users: set[str] = field(default_factory=set)
    carts: dict[str, list[list[Any]]] = field(default_factory=dict)
    """user -> [item, quantity, price] of a cart that was not bought."""
    last_order: dict[str, str] = field(default_factory=dict)
    refunds: dict[str, Decimal] = field(default_factory=dict)
    refused_checkouts: Counter[str] = field(default_factory=Counter)

    def run(self, lines: Iterable[Mapping[str, Any]]) -> Shop:
        for line in lines:
            getattr(self, line["topic"].replace(".", "_"))(line["data"])
        return self

    # What may be said from outside

    def product_listed(self, said: Mapping[str, Any]) -> None:
        product = self.products[said["product_id"]]
        product.came_in += said["stock"] + self.spare
        product.supply += said["stock"] + self.spare
        product.available += said["stock"] + self.spare

    def user_registration_requested(self, said: Mapping[str, Any]) -> None:
        self.users.add(said["user_id"])

    def cart_item_added(self, said: Mapping[str, Any]) -> None:
        cart = self.carts.setdefault(said["user_id"], [])
        for line in cart:
            if line[0] == said["item_id"]:
                line[1] += int(said["quantity"])
                return
        cart.append([said["item_id"], int(said["quantity"]), Decimal(str(said["price"]))])

    def cart_item_modified(self, said: Mapping[str, Any]) -> None:
        cart = self.carts.get(said["user_id"], [])
        for line in cart:
            if line[0] == said["item_id"]:
                line[1] = int(said["quantity"])
        cart[:] = [line for line in cart if line[1] > 0]

    def cart_replaced(self, said: Mapping[str, Any]) -> None:
        self.carts[said["user_id"]] = []
        for item in said["items"]:
            self.cart_item_added({"user_id": said["user_id"], **item})

    def cart_cleared(self, said: Mapping[str, Any]) -> None:
        self.carts[said["user_id"]] = []

    def cart_checked_out(self, said: Mapping[str, Any]) -> None:
        user, number = said["user_id"], said["order_id"]
        if number in self.orders:
            return
        if not self.carts.get(user):
            self.refused_checkouts[number] += 1
            return
        total = sum((price * quantity for _, quantity, price in self.carts[user]), Decimal(0))
        goods: Counter[str] = Counter()
        for item, quantity, _ in self.carts[user]:
            if not item[0].isupper():
                goods[item] += quantity
        shown = Decimal(said["total"]) if "total" in said else total
        self.orders[number] = Order(user, said["country"], said.get("card"), total, shown, goods)
        self.last_order[user] = number
        self.decide(self.orders[number])
        if self.orders[number].outcome == "completed":
            self.carts[user] = []

    def invoice_recorded(self, invoice: Mapping[str, Any]) -> None:
        number, customer, items = invoice["invoice"], invoice["customer"], invoice["items"]
        user = customer or "guest-" + number
        if number[0] == "C":
            self.refunds[number] = sum((-item["quantity"] * Decimal(str(item["unit_price"])) for item in items), Decimal(0))
            for item in items:
                if not item["sku"][0].isupper():
                    self.products[item["sku"]].came_in -= item["quantity"]
                    self.products[item["sku"]].available -= item["quantity"]
        elif customer is None and not any(item["unit_price"] for item in items):
            for item in items:
                self.correct(self.products[item["sku"]], item["quantity"])
        else:
            if customer is not None:
                self.users.add(customer)
            self.carts[user] = [[item["sku"], item["quantity"], Decimal(str(item["unit_price"]))] for item in items]
            card = "tok_" + HUNDRED_CARDS[crc32(user.encode()) % 100]
            self.cart_checked_out({"user_id": user, "order_id": number, "country": invoice["country"], "card": card})

    # What comes of it

    def correct(self, product: Product, quantity: int) -> None:
        product.came_in += quantity
        product.supply += min(quantity, 0)
        possible = max(quantity, -product.available)
        product.missing += possible - quantity
        product.available += possible

    def decide(self, order: Order) -> None:
        order.outcome = "cancelled"
        if order.shown != order.total:
            order.reason = "total"
            return
        for item, quantity in order.goods.items():
            self.products[item].demand += quantity
        if any(self.products[item].available < quantity for item, quantity in order.goods.items()):
            order.reason = "stock"
        elif order.card not in GOOD_CARDS[self.rules]:
            order.reason = "card"
        else:
            order.outcome = "completed"
            for item, quantity in order.goods.items():
                self.products[item].available -= quantity
                self.products[item].taken += quantity

    def is_certain(self, order: Order) -> bool:
        """Whether its outcome is the same in whatever order different keys are heard."""
        return order.reason == "total" or all(self.products[item].demand <= self.products[item].supply for item in order.goods)


def read_input(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def tables(reader: Any) -> dict[str, dict[str, Any]]:
    """All state of the shop. With `spare` so large that nothing runs short, it is the same after every run."""
    return {name: dict(reader.table(name).items()) for name in ("users", "catalog", "cart", "order", "stock", "books")}


def faults(reader: Any, shop: Shop) -> list[str]:
    """What is wrong with a band that has heard everything; empty if nothing is.

    Shapes: `reader` has `events(pattern)` and `table(name)`: a Band, or the Reader of a store.
    """
    return [
        *order_faults(reader, shop),
        *cart_faults(reader, shop),
        *stock_faults(reader, shop),
        *money_faults(reader, shop),
        *secret_faults(reader),
    ]


def order_faults(reader: Any, shop: Shop) -> Iterable[str]:
    outcomes: defaultdict[str, list[str]] = defaultdict(list)
    for topic in ("order.completed", "order.cancelled"):
        for event in reader.events(topic):
            outcomes[event.key].append(topic.removeprefix("order."))
    for number in shop.orders.keys() | outcomes.keys():
        if len(outcomes[number]) != 1 or number not in shop.orders:
            yield f"order {number} has the outcomes {outcomes[number]}, not exactly one"
        elif shop.is_certain(shop.orders[number]) and outcomes[number] != [shop.orders[number].outcome]:
            yield f"order {number} was {outcomes[number][0]}; it has to be {shop.orders[number].outcome}"
    for topic in ("payment.card.validated", "shipment.sent", "shipment.delivered"):
        for number, times in Counter(event.key for event in reader.events(topic)).items():
            if times != 1:
                yield f"order {number} has {times} events {topic}"
            if topic.startswith("shipment") and outcomes[number] != ["completed"]:
                yield f"order {number} has {topic} and was {outcomes[number]}"
    statuses = {number: order["status"] for number, order in reader.table("order").items()}
    for number, (outcome, *_) in outcomes.items():
        if statuses.get(number) != {"completed": "delivered", "cancelled": "cancelled"}[outcome]:
            yield f"order {number} was {outcome}, but the table says {statuses.get(number)}"
    if len(reader.table("picking")):
        yield f"picking still waits for {sorted(reader.table('picking'))}"
    users = set(reader.table("users"))
    if users != shop.users:
        yield f"users differ: {sorted(users ^ shop.users)}"


def care_faults(reader: Any, abandoned: Iterable[str] = ("jim",)) -> Iterable[str]:
    """What is wrong with what the shop says of carts that were left, cards that were declined and parcels that did not leave.

    It asks for times at which things were written, which a table top does not have.
    """
    left = [event.key for event in reader.events("customer.reminded")]
    if left != list(abandoned):
        yield f"reminded were {left}"
    declined: defaultdict[str, list[Any]] = defaultdict(list)
    suspected: list[tuple[str, list[str]]] = []
    for event in reader.events("card.declined"):
        recent = [each for each in declined[event.key] if event.written_at - each.written_at < timedelta(minutes=10)]
        declined[event.key] = [*recent, event]
        if len(declined[event.key]) == 3:
            suspected.append((event.key, [each.data["order_id"] for each in declined.pop(event.key)]))
    if sorted(suspected) != sorted((event.key, event.data["orders"]) for event in reader.events("customer.suspected")):
        yield f"suspected have to be {sorted(suspected)}"
    for topic in ("ready-to-ship", "order.overdue"):
        for number, times in Counter(event.key for event in reader.events(topic)).items():
            if times != 1:
                yield f"order {number} has {times} events {topic}"
    if [event.key for event in reader.events("order.overdue")]:
        yield "a parcel was overdue, though none waited for a day"


def cart_faults(reader: Any, shop: Shop) -> Iterable[str]:
    carts = reader.table("cart")
    for user, number in shop.last_order.items():
        held = [[item["item_id"], item["quantity"], Decimal(item["price"]) / 100] for item in carts[user]["items"]]
        if carts[user]["is_locked"]:
            yield f"the cart of {user} is still locked"
        if shop.is_certain(shop.orders[number]) and held != shop.carts[user]:
            yield f"the cart of {user} holds {held}; it has to be {shop.carts[user]}"


def stock_faults(reader: Any, shop: Shop) -> Iterable[str]:
    sold: Counter[str] = Counter()
    for event in reader.events("order.completed"):
        sold.update(shop.orders[event.key].goods)
    stock = reader.table("stock")
    for name in shop.products.keys() | set(stock):
        row, product = stock.get(name, {}), shop.products[name]
        if not row:
            yield f"product {name} has no stock row"
            continue
        if row["available"] < 0 or row["reserved"] != 0:
            yield f"product {name}: {row['available']} available, {row['reserved']} reserved; at rest there is none"
        if row["available"] + row["reserved"] + row["taken"] != row["came_in"]:
            yield f"product {name} does not add up: {row}"
        if row["came_in"] - row["missing"] != product.came_in:
            yield f"product {name}: {row['came_in'] - row['missing']} came in; it has to be {product.came_in}"
        if row["taken"] != sold[name]:
            yield f"product {name}: {row['taken']} taken, {sold[name]} sold"


def money_faults(reader: Any, shop: Shop) -> Iterable[str]:
    revenue: Counter[str] = Counter()
    charged = 0
    for event in reader.events("order.completed"):
        order = shop.orders[event.key]
        revenue[order.country] += int(order.total * 100)
        if event.data["total"] != order.total * 100:
            yield f"order {event.key} cost {event.data['total']} cents; it has to be {order.total * 100}"
    for event in reader.events("payment.card.validated"):
        charged += event.data["amount"] if event.data["success"] else 0
    if charged != sum(revenue.values()):
        yield f"{charged} cents were charged, {sum(revenue.values())} were earned"
    books = reader.table("books")
    for country in books:
        if books[country]["revenue"] != revenue[country]:
            yield f"the books of {country} have {books[country]['revenue']} cents; it has to be {revenue[country]}"
    refunded = {event.key: event.data["amount"] for event in reader.events("payment.refunded")}
    if refunded != {number: amount * 100 for number, amount in shop.refunds.items()}:
        yield "the refunds differ"


def secret_faults(reader: Any) -> Iterable[str]:
    for event in reader.events(">"):
        if found := SECRETS.search(json.dumps(event.data, default=str)):
            yield f"event {event.id} ({event.topic}) holds a secret: {found[0]}"
