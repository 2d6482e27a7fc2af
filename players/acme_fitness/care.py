"""Care: what a shop does about what did not happen, or happened too often. Each player hears a motif of the score.

The broker waits and counts, so these keep nothing: they say what a finished match comes to.
"""

from __future__ import annotations

from ensemble import Match
from players.acme_fitness.events import CustomerReminded, CustomerSuspected, OrderOverdue


def remind(abandoned: Match) -> CustomerReminded:
    return CustomerReminded(abandoned.key, abandoned.events[-1].time)


def suspect(fraud: Match) -> CustomerSuspected:
    return CustomerSuspected(fraud.key, [declined.data["order_id"] for declined in fraud["declined"]])


def alert(overdue: Match) -> OrderOverdue:
    paid = overdue["paid"]
    return OrderOverdue(paid.key, paid.data["user_id"], paid.time)
