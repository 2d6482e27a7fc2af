"""Durations, sizes and rates as people write them."""

from __future__ import annotations

import re

import pytest

from ensemble.score.units import DURATION, RATE, SIZE, duration_us, rate, size_bytes


@pytest.mark.parametrize(
    ("written", "us"),
    [
        ("5us", 5),
        ("100ms", 100_000),
        ("1.5s", 1_500_000),
        ("1h30m", 5_400_000_000),
        ("7d", 604_800_000_000),
        (2.5, 2_500_000),
        (0, 0),
    ],
)
def test_a_duration_is_text_with_units_or_seconds(written: str | float, us: int) -> None:
    assert duration_us(written) == us
    assert not isinstance(written, str) or re.fullmatch(DURATION, written)


@pytest.mark.parametrize(
    "written",
    ["", "5", "s", "-5s", "5 s", "5S", "1e3s", "5s 3", float("nan"), float("inf"), 10**400, -1, True, None, [], "9" * 99 + "s"],
)
def test_what_is_no_duration_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match=r"is not a duration|out of bounds"):
        duration_us(written)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("written", "size"), [("64KiB", 65_536), ("1.5 GiB", 3 << 29), ("500MB", 500_000_000), ("7B", 7), (1024, 1024)]
)
def test_a_size_is_text_with_units_or_bytes(written: str | int, size: int) -> None:
    assert size_bytes(written) == size
    assert not isinstance(written, str) or re.fullmatch(SIZE, written)


@pytest.mark.parametrize(("written", "per_s"), [("500/s", 500.0), ("30/m", 0.5), ("36/h", 0.01), (2.5, 2.5)])
def test_a_rate_is_events_by_time_or_a_second(written: str | float, per_s: float) -> None:
    assert rate(written) == per_s
    assert not isinstance(written, str) or re.fullmatch(RATE, written)


@pytest.mark.parametrize("written", ["0/s", "5", "/s", "5/w", 0, -1, True, None, float("nan")])
def test_what_is_no_rate_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match=r"is not a rate|out of bounds"):
        rate(written)  # type: ignore[arg-type]
