"""Money in whole cents: an int is exact, and MessagePack can carry it. A float never holds money here."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation


def cents(amount: str | float) -> int:
    """An amount as people write it ("34.99", 34.99, 35) in cents.

    Errors: ValueError if it is no number, or has parts of a cent; money is never rounded in silence.
    """
    try:
        exact = Decimal(str(amount).strip()) * 100  # through text: Decimal(34.99) would keep the float's error
    except InvalidOperation:
        raise ValueError(f"{amount!r} is no amount of money; write it as 34.99") from None
    if not exact.is_finite() or exact != exact.to_integral_value():
        raise ValueError(f"{amount!r} is no whole number of cents; write it as 34.99")
    return int(exact)


def text(amount: int) -> str:
    """Cents as people write them: 3499 is "34.99"."""
    sign = "-" if amount < 0 else ""
    return f"{sign}{abs(amount) // 100}.{abs(amount) % 100:02d}"
