from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from players.acme_fitness.money import cents, text


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        ("34.99", 3499),
        (34.99, 3499),
        (399.59, 39959),
        ("100", 10000),
        (4, 400),
        (" 0.1 ", 10),
        ("-2.5", -250),
        (4.5, 450),
    ],
)
def test_amounts_as_people_write_them_become_whole_cents(amount: str | float, expected: int) -> None:
    assert cents(amount) == expected


@pytest.mark.parametrize("amount", ["", "four", "1.005", 34.9900016784668, "NaN", "inf", "1,50"])
def test_what_is_no_whole_number_of_cents_is_refused_and_never_rounded(amount: str | float) -> None:
    with pytest.raises(ValueError, match=r"write it as 34\.99"):
        cents(amount)


@given(st.integers(-(10**12), 10**12))
def test_cents_written_and_read_again_are_the_same(amount: int) -> None:
    assert cents(text(amount)) == amount


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 1000)), max_size=50))
def test_a_sum_of_cents_is_the_sum_of_decimals(lines: list[tuple[int, int]]) -> None:
    exact = sum((Decimal(text(price)) * quantity for price, quantity in lines), Decimal(0))

    assert text(sum(price * quantity for price, quantity in lines)) == f"{exact:.2f}"
