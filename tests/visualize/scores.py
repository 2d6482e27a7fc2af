"""Scores to draw: random ones of any size, and one with every kind of node."""

from __future__ import annotations

import random
from typing import Any

import ensemble
from ensemble.score import Score

WORDS = ("order", "cart", "stock", "user", "payment")
ENDS = ("placed", "paid", "came_in", "x", "registration_requested", "some_very_long_name_that_goes_on.and_on")
GROUPS = ("orders", "providers", "", '<b>&"bold"\'</b>', "מוזיקה", "注文と在庫", "a group of a length that nobody wanted " * 3)


def random_score(seed: int, size: int | None = None) -> Score:
    """A score of about so many events and players; of 3 to 150, where no size is given."""
    chance = random.Random(seed)
    size = chance.randint(3, 150) if size is None else size
    players = max(1, size // 3)
    topics = list(dict.fromkeys(f"{chance.choice(WORDS)}.{chance.choice(ENDS)}{i}" for i in range(max(2, size - players))))
    groups = chance.sample(GROUPS, chance.randint(1, 3))
    specs: dict[str, Any] = {}
    for i in range(players):
        before, after = topics[: 2 * i + 3], topics[max(0, 2 * i - 6) : 2 * i + 8] or topics
        on: Any = chance.sample(before, chance.randint(1, min(3, len(before))))
        on = [{"event": topic, "where": "data.total > 100"} if chance.random() < 0.1 else topic for topic in on]
        specs[f"player{i}" + "_with_a_long_name" * chance.choice((0, 0, 0, 4))] = {
            "play": "nowhere:play",
            "on": chance.choice((["order.*"], ["*.>"])) if chance.random() < 0.05 else on,
            "emits": chance.sample(after, chance.randint(0, min(3, len(after)))),
            "group": chance.choice(groups),
            "on_failure": {"emit": chance.choice(topics)} if chance.random() < 0.1 else "dead-letter",
            "section": {"max": chance.choice((1, 1, 8))},
        }
    return ensemble.load({
        "ensemble": 1,
        "name": f"random-{seed}",
        "about": "Made up. " * chance.randint(0, 40),
        "events": {topic: {} for topic in topics if chance.random() < 0.9},
        "players": specs,
        "sources": {"clock": {"every": "1h", "topic": topics[0]}},
    })  # fmt: skip


ALL_KINDS = """
ensemble: 1
name: all-kinds
about: Every kind of node that there is.
events:
  order.placed: {key: order_id, about: A customer has checked out., schema: {type: object, required: [order_id]}}
  order.paid: {}
motifs:
  too-late: {seq: [order.placed, {not: order.shipped}], within: 15m}
  great: {event: order.placed, where: data.total > 1000}
players:
  shipping: {play: "nowhere:ship", on: order.paid, emits: [order.shipped], group: back}
  payment:
    play: nowhere:pay
    on: order.placed
    emits: [order.paid]
    group: front
    by: customer
    section: {max: 8}
    on_failure: {emit: payment.failed}
  again: {play: "nowhere:again", on: payment.failed, emits: [order.placed], on_failure: hold}
  remind: {play: "nowhere:remind", on: [too-late, great], emits: [customer.reminded]}
  both: {play: "nowhere:both", on: {all: [order.paid, day.ended], within: 1h30m}}
  many: {play: "nowhere:many", on: {count: {event: payment.failed, where: data.total > 100}, times: 5, within: 1m}}
  sums: {play: "nowhere:sums", on: {every: 10s, of: [order.placed, order.paid]}, group: back}
  audit: {play: "nowhere:audit", on: "order.>"}
  all: {play: "nowhere:all", on: ">"}
sources:
  clock: {every: 90s, topic: day.ended}
"""


def score_of_all_kinds() -> Score:
    """A score with motifs, feedback, a failure that is answered, patterns, and an event from outside."""
    return ensemble.load(ALL_KINDS)
