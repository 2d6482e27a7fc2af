"""What requests cost, by the prices of a score."""

from __future__ import annotations

from typing import Any

import pytest

from ensemble.score.costs import cost_of, price


@pytest.mark.parametrize(
    ("written", "each"), [("0.005/1000", 5e-6), ("0.4 / 1_000_000", 4e-7), ("3", 3.0), (0.25, 0.25), (0, 0.0), ("0/10", 0.0)]
)
def test_a_price_is_so_much_for_so_many(written: Any, each: float) -> None:
    assert price(written) == pytest.approx(each)


@pytest.mark.parametrize("written", ["", "dear", "1/0", "1/00", "-1/2", -0.5, True, None, "1/2/3", float("nan"), "0.1/1.5"])
def test_what_is_no_price_is_told(written: Any) -> None:
    with pytest.raises(ValueError, match=r"is not a price; write a number, or 0.005/1000"):
        price(written)


@pytest.mark.parametrize(
    ("costs", "cost"),
    [
        ({"requests": {"put": "0.005/1000", "get": "0.0004/1000"}}, 0.0104),
        ({"requests": {"put": "0.005/1000"}}, 0.01),
        ({"requests": {}}, 0.0),
        ({"payment": 0.2}, None),
        ({"requests": "many"}, None),
        ({"requests": {"put": "dear"}}, None),
    ],
)
def test_requests_cost_what_their_kinds_do(costs: Any, cost: float | None) -> None:
    told = cost_of({"put": 2000, "get": 1000, "delete": 7}, costs)

    assert told == (None if cost is None else pytest.approx(cost))
