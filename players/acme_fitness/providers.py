"""The outside world, pretended: a card vault with a bank, and a carrier. Written as the clients of real ones are.

What matters is the idempotency key. A player may run twice for one event (it was killed before its answer was durable),
so the provider is given `ctx.token`, which is the same each time, and does its work once. A real provider remembers the
keys; these compute their answer from the key, which comes to the same and needs no memory.
"""

from __future__ import annotations

from uuid import UUID, uuid5
from zlib import crc32

from players.acme_fitness.cards import Card

NAMESPACE = UUID("6ba7b812-9dad-11d1-80b4-00c04fd430c8")

VAULT = {
    "tok_visa": Card("4111111111111111", "12", "2035", "123", "Visa"),
    "tok_mastercard": Card("5555555555554444", "7", "2034", "321", "Mastercard"),
    "tok_amex": Card("378282246310005", "10", "2035", "1234", "American Express"),
    "tok_visa_13": Card("4222222222222", "12", "2035", "123", "Visa"),
    "tok_expired": Card("4111111111111111", "12", "2022", "123", "Visa"),
    "tok_eleven_digits": Card("34983479798", "12", "2035", "123"),
    "tok_twelve_digits": Card("349834797981", "12", "2022", "123"),
    "tok_mistyped": Card("4111111111111112", "12", "2035", "123", "Visa"),
    "tok_jcb": Card("3530111333300000", "1", "2035", "123", "jcb"),
    "tok_no_cvv": Card("4111111111111111", "12", "2035", "", "Visa"),
}
"""Cards by token: numbers that card schemes publish for tests, and some that are wrong on purpose. No one's."""


class ProviderError(ConnectionError):
    """The provider did not answer; the same request may go through later."""


class Bank:
    """Holds the cards, so that the shop never sees a number, and charges them."""

    def __init__(self, flaky: float = 0.0) -> None:
        self._flaky = flaky
        self._is_open = True

    def card(self, token: str | None) -> Card | None:
        return None if token is None else VAULT.get(token)

    def charge(self, amount: int, *, idempotency_key: str, attempt: int) -> str:
        """Take the money. The transaction's id; the same key gives the same transaction."""
        if not self._is_open:
            raise ProviderError("the connection to the bank is closed")
        fail_sometimes(self._flaky, idempotency_key, attempt)
        return str(uuid5(NAMESPACE, f"charge {idempotency_key}"))

    def refund(self, amount: int, *, idempotency_key: str) -> str:
        return str(uuid5(NAMESPACE, f"refund {idempotency_key}"))

    def close(self) -> None:
        self._is_open = False


class Carrier:
    """Fetches parcels."""

    def __init__(self, flaky: float = 0.0) -> None:
        self._flaky = flaky

    async def fetch(self, order_id: str, delivery: str, *, idempotency_key: str, attempt: int) -> str:
        """Order a pick-up. The tracking number; the same key gives the same parcel."""
        fail_sometimes(self._flaky, idempotency_key, attempt)
        return str(uuid5(NAMESPACE, f"parcel {idempotency_key}"))


def fail_sometimes(share: float, key: str, attempt: int) -> None:
    """Be down for this share of attempts, by a hash of key and attempt: random to look at, the same on every run.

    A share below 1 is a bad day: the fourth attempt always goes through. 1 is down for good.
    """
    if share >= 1 or (attempt < 4 and crc32(f"{key}/{attempt}".encode()) < share * 2**32):
        raise ProviderError(f"no answer at attempt {attempt}")
