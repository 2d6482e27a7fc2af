"""What the requests to an object store cost, by the prices that a score names.

    costs:
      requests: {put: 0.005/1000, get: 0.0004/1000, head: 0.0004/1000, list: 0.005/1000, delete: 0}

Owns how prices are written. In which currency they are is the score's business.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

KINDS = ("put", "get", "head", "list", "delete")
"""Of requests, as the stores' own price lists tell them apart."""

_PRICE = re.compile(r"([0-9]+(?:\.[0-9]+)?)(?:/([0-9]+))?")


def price(value: str | float) -> float:
    """What one costs: a number, or text as in `0.005/1000`, so much for so many.

    Errors: ValueError if it is none, negative, or for none.
    """
    if isinstance(value, str):
        found = _PRICE.fullmatch(value.replace(" ", "").replace("_", ""))
        if found is not None and found[2] != "0" * len(found[2] or "1"):
            return float(found[1]) / int(found[2] or 1)
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e9:
        return float(value)
    raise ValueError(f"{value!r} is not a price; write a number, or 0.005/1000: so much for so many")


def cost_of(requests: Mapping[str, int], costs: Mapping[str, Any]) -> float | None:
    """What requests cost, counted by kind; None if the score names no prices. What has no price is free."""
    prices = costs.get("requests")
    if not isinstance(prices, Mapping):
        return None
    try:
        return sum(count * price(prices.get(kind, 0)) for kind, count in requests.items())
    except ValueError:  # a store that was played before this had a meaning
        return None
