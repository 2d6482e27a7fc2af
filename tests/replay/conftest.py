"""The stores of `tests/takes`: replays and promotions hold on every kind."""

from tests.takes.conftest import store

__all__ = ["store"]
