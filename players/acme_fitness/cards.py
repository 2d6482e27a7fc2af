"""Is a card good? Two sets of rules, both from public versions of the ACME Fitness Shop. Pure: today is an argument.

A, the first and the Spring version: is everything there, a plausible length, not expired. No check digit.
B, the serverless version: expiry, then the number by its issuer's rules and its check digit, then the CVV.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime

from msgspec import Struct


class Card(Struct, frozen=True):
    """What the customer typed in. Text, so that what is missing or mistyped can be told apart."""

    number: str = ""
    exp_month: str = ""
    exp_year: str = ""
    ccv: str = ""
    type: str = ""


class Verdict(Struct, frozen=True):
    success: bool
    status: int
    message: str
    amount: int
    transaction_id: str
    """"" where the bank is still to give one; "-1" and the like say why there is none."""


Rules = Callable[[Card | None, int | None, datetime], Verdict]


def rules_a(card: Card | None, total: int | None, now: datetime) -> Verdict:
    """The first rule that fails decides. A card that expires this month is expired from its second day on."""
    if card is None:
        return refuse_a("missing card info", "-1")
    month, year = whole(card.exp_month), whole(card.exp_year)
    if total is None or not card.number.strip() or not card.ccv.strip() or not is_month(month) or year is None:
        return refuse_a("payment data is incomplete", "-1")
    if len(card.number) % 4:
        return refuse_a("not a valid card number", "-2")
    if (year, month, 1) < day(now):
        return refuse_a("card is expired", "-3")
    return Verdict(True, 200, "transaction successful", total, "")


def refuse_a(message: str, transaction_id: str) -> Verdict:
    return Verdict(False, 400, message, 0, transaction_id)


def rules_b(card: Card | None, total: int | None, now: datetime) -> Verdict:
    """All failures read alike. A card that expires this month is expired from the first moment of it, UTC."""
    amount = total or 0
    if card is None or total is None or not (in_date(card, now) and is_numbered(card) and has_cvv(card)):
        return Verdict(False, 400, "error", amount, "-1")
    return Verdict(True, 200, "success", amount, "")


RULES: dict[str, Rules] = {"A": rules_a, "B": rules_b}


def in_date(card: Card, now: datetime) -> bool:
    month, year = whole(card.exp_month), whole(card.exp_year)
    if month is None or year is None or not is_month(month) or not 1900 <= year <= 2200:
        return False
    return (year, month) > day(now)[:2]


def is_numbered(card: Card) -> bool:
    name = issuer(card.number)
    return name is not None and card.type in ("", name) and 13 <= len(card.number) <= 19 and luhn(card.number)


def has_cvv(card: Card) -> bool:
    digits = 4 if issuer(card.number) == "American Express" else 3
    return is_digits(card.ccv) and len(card.ccv) == digits


ISSUERS: list[tuple[str, tuple[str, ...]]] = [
    ("American Express", ("34", "37")),
    ("Mastercard", ("51", "52", "53", "54", "55")),
    ("Visa Electron", ("4026", "417500", "4405", "4508", "4844", "4913", "4917")),
    ("Visa", ("4",)),
    ("Discover", ("6011", "644", "645", "646", "647", "648", "649", "65")),
    ("JCB", ("35",)),
    ("China UnionPay", ("62",)),
    ("Diners Club International", ("300", "301", "302", "303", "304", "305", "309", "36", "38", "39")),
]
"""Who issues numbers that begin so; the first that fits. The common ones; a number of any other issuer is refused."""


def issuer(number: str) -> str | None:
    if not is_digits(number):
        return None
    name = next((name for name, prefixes in ISSUERS if number.startswith(prefixes)), None)
    return None if name == "Diners Club International" and len(number) > 14 else name


def luhn(number: str) -> bool:
    """Whether the check digit is right.

    Source: Hans Peter Luhn, US patent 2,950,048 (1960); ISO/IEC 7812-1, annex B.
    """
    digits = [int(digit) for digit in reversed(number)]
    return (sum(digits[::2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[1::2])) % 10 == 0


def day(now: datetime) -> tuple[int, int, int]:
    today: date = now.astimezone(UTC).date()
    return today.year, today.month, today.day


def whole(text: str) -> int | None:
    return int(text) if is_digits(text.strip()) else None


def is_month(month: int | None) -> bool:
    return month is not None and 1 <= month <= 12


def is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()
