"""Both sets of card rules, with the exact messages and codes of the public shops."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from players.acme_fitness.cards import Card, Verdict, issuer, luhn, rules_a, rules_b

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
VISA = Card("4111111111111111", "12", "2030", "123", "Visa")


def refused_a(message: str, transaction_id: str) -> Verdict:
    return Verdict(False, 400, message, 0, transaction_id)


REFUSED_B = Verdict(False, 400, "error", 1999, "-1")


@pytest.mark.parametrize(
    ("card", "total", "verdict"),
    [
        (VISA, 1999, Verdict(True, 200, "transaction successful", 1999, "")),
        (None, 1999, refused_a("missing card info", "-1")),
        (None, None, refused_a("missing card info", "-1")),
        (VISA, None, refused_a("payment data is incomplete", "-1")),
        (replace(VISA, number=""), 1999, refused_a("payment data is incomplete", "-1")),
        (replace(VISA, number="  "), 1999, refused_a("payment data is incomplete", "-1")),
        (replace(VISA, exp_month=""), 1999, refused_a("payment data is incomplete", "-1")),
        (replace(VISA, exp_month="13"), 1999, refused_a("payment data is incomplete", "-1")),
        (replace(VISA, exp_year=""), 1999, refused_a("payment data is incomplete", "-1")),
        (replace(VISA, ccv=""), 1999, refused_a("payment data is incomplete", "-1")),
        (replace(VISA, number="34983479798"), 1999, refused_a("not a valid card number", "-2")),
        (replace(VISA, number="4222222222222"), 1999, refused_a("not a valid card number", "-2")),
        (replace(VISA, number="34983479798", exp_year="2020"), 1999, refused_a("not a valid card number", "-2")),
        (replace(VISA, exp_year="2020"), 1999, refused_a("card is expired", "-3")),
        (replace(VISA, exp_year="21"), 1999, refused_a("card is expired", "-3")),
        (replace(VISA, number="4111111111111112"), 1999, Verdict(True, 200, "transaction successful", 1999, "")),
        (replace(VISA, number="abcd", ccv="x"), 1999, Verdict(True, 200, "transaction successful", 1999, "")),
        (VISA, 0, Verdict(True, 200, "transaction successful", 0, "")),
    ],
)
def test_rules_a_say_what_the_first_shop_says(card: Card | None, total: int | None, verdict: Verdict) -> None:
    assert rules_a(card, total, NOW) == verdict


@pytest.mark.parametrize(
    ("card", "is_good"),
    [
        (VISA, True),
        (replace(VISA, type=""), True),
        (replace(VISA, number="4222222222222"), True),
        (replace(VISA, number="4111111111111112"), False),
        (replace(VISA, number="411111111111"), False),
        (replace(VISA, number="4111 1111 1111 1111"), False),
        (replace(VISA, type="visa"), False),
        (replace(VISA, type="Mastercard"), False),
        (replace(VISA, exp_year="2025"), False),
        (replace(VISA, exp_year="2201"), False),
        (replace(VISA, exp_year="1899"), False),
        (replace(VISA, exp_month="0"), False),
        (replace(VISA, exp_month="13"), False),
        (replace(VISA, ccv="1234"), False),
        (replace(VISA, ccv="12a"), False),
        (Card("378282246310005", "12", "2030", "1234", "American Express"), True),
        (Card("378282246310005", "12", "2030", "123", "American Express"), False),
        (Card("5555555555554444", "12", "2030", "123", "Mastercard"), True),
        (Card("3530111333300000", "12", "2030", "123", "JCB"), True),
        (Card("3530111333300000", "12", "2030", "123", "jcb"), False),
        (Card("9111111111111111", "12", "2030", "123"), False),
        (None, False),
    ],
)
def test_rules_b_say_no_more_than_success_or_error(card: Card | None, is_good: bool) -> None:
    assert rules_b(card, 1999, NOW) == (Verdict(True, 200, "success", 1999, "") if is_good else REFUSED_B)


@pytest.mark.parametrize(
    ("now", "a", "b"),
    [
        ("2026-05-31T23:59:59Z", True, True),
        ("2026-06-01T00:00:00Z", True, False),
        ("2026-06-01T23:59:59Z", True, False),
        ("2026-06-02T00:00:00Z", False, False),
        ("2026-06-02T01:00:00+02:00", True, False),  # still the first in UTC
    ],
)
def test_a_card_that_expires_this_month_ends_on_its_second_day_by_a_and_at_its_first_moment_by_b(
    now: str, a: bool, b: bool
) -> None:
    card = replace(VISA, exp_month="6", exp_year="2026")

    moment = datetime.fromisoformat(now)

    assert rules_a(card, 1, moment).success is a
    assert rules_b(card, 1, moment).success is b


@pytest.mark.parametrize(
    ("number", "name"),
    [
        ("4026000000000002", "Visa Electron"),
        ("4027000000000000", "Visa"),
        ("6500000000000002", "Discover"),
        ("6200000000000005", "China UnionPay"),
        ("30569309025904", "Diners Club International"),
        ("305693090259040", None),
        ("", None),
        ("٤111", None),
    ],
)
def test_the_issuer_is_known_by_the_first_digits(number: str, name: str | None) -> None:
    assert issuer(number) == name


@given(st.text("0123456789", min_size=12, max_size=18), st.integers(1, 9), st.data())
def test_luhn_accepts_one_check_digit_of_ten_and_finds_every_single_wrong_digit(
    body: str, change: int, data: st.DataObject
) -> None:
    good = [body + digit for digit in "0123456789" if luhn(body + digit)]
    place = data.draw(st.integers(0, len(body)))

    [number] = good
    wrong = number[:place] + str((int(number[place]) + change) % 10) + number[place + 1 :]

    assert not luhn(wrong)
