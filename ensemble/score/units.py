"""Durations, sizes and rates, as people write them.

duration_us("1h30m") == 5_400_000_000      size_bytes("64KiB") == 65_536      rate("500/s") == 500.0
"""

from __future__ import annotations

import re

_US = {"us": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_BYTES = {
    "B": 1,
    "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip

_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
DURATION = rf"(?:{_NUMBER}(?:us|ms|s|m|h|d))+"
SIZE = rf"{_NUMBER} ?(?:[KMGT]i?)?B"
RATE = rf"{_NUMBER}/(?:s|m|h|d)"
"""What each looks like, as regular expressions that hold in JSON Schema too."""

_PART = re.compile(rf"({_NUMBER})(us|ms|s|m|h|d)")
_DURATION, _SIZE, _RATE = re.compile(DURATION), re.compile(SIZE), re.compile(RATE)

MOST_DAYS = 36_500
MOST_US = MOST_DAYS * _US["d"]
MOST_BYTES = 2**60


def duration_us(value: str | float) -> int:
    """A duration in microseconds: text with units (`100ms`, `5s`, `1h30m`), or a number of seconds.

    Errors: ValueError if it is none, negative, or longer than a hundred years.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"{value!r} is not a duration; write it as 100ms, 5s, 30m, 24h or 7d")
    if isinstance(value, str):
        if not _DURATION.fullmatch(value):
            raise ValueError(f"{value!r} is not a duration; {_cure(value)}")
        us = sum(float(number) * _US[unit] for number, unit in _PART.findall(value))
    else:
        us = value * 1e6 if abs(value) <= MOST_US else -1.0  # an int may be beyond what a float holds; NaN is beyond all
    if not 0 <= us <= MOST_US:
        raise ValueError(f"{value!r} is out of bounds for a duration; it lies between 0 and {MOST_DAYS}d")
    return round(us)


def duration_text(us: int) -> str:
    """A duration as a score writes it: `1h30m`. `duration_us(duration_text(us)) == us`."""
    parts = []
    for unit in ("d", "h", "m", "s", "ms", "us"):
        count, us = divmod(us, _US[unit])
        parts += [f"{count}{unit}"] if count else []
    return "".join(parts) or "0s"


def size_bytes(value: str | int) -> int:
    """A size in bytes: text with units (`64KiB`, `1GiB`, `500MB`), or a whole number of bytes.

    Errors: ValueError if it is none or negative.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ValueError(f"{value!r} is not a size; write it as 64KiB, 512MiB or 1GiB")
    if isinstance(value, str):
        if not _SIZE.fullmatch(value):
            raise ValueError(f"{value!r} is not a size; write it as 64KiB, 512MiB or 1GiB")
        number = re.match(_NUMBER, value)
        assert number is not None
        size = float(number[0]) * _BYTES[value[number.end() :].strip()]
    else:
        size = value
    if not 0 <= size <= MOST_BYTES:
        raise ValueError(f"{value!r} is out of bounds for a size; it lies between 0 and 2**60 bytes")
    return round(size)


def rate(value: str | float) -> float:
    """Events a second: text (`500/s`, `30/m`, `10/h`, `1/d`), or the number itself.

    Errors: ValueError if it is none, or zero.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"{value!r} is not a rate; write it as 500/s, 30/m or 10/h")
    if isinstance(value, str):
        if not _RATE.fullmatch(value):
            raise ValueError(f"{value!r} is not a rate; write it as 500/s, 30/m or 10/h")
        number, _, unit = value.partition("/")
        per_s = float(number) * 1e6 / _US[unit]
    else:
        per_s = value if abs(value) <= 1e9 else 0.0
    if not 0 < per_s <= 1e9:
        raise ValueError(f"{value!r} is out of bounds for a rate; it is more than 0 and at most 1e9 a second")
    return float(per_s)


def _cure(text: str) -> str:
    """What to write in place of a text that is no duration."""
    spelled = re.fullmatch(rf"\s*({_NUMBER})\s*([A-Za-zµ]*)\.?\s*", text)
    if spelled is not None:
        number, word = spelled[1], spelled[2].lower()
        if not word:
            return f"it has no unit; write {number}ms, {number}s, {number}m or {number}h"
        for unit, names in _SPELLED.items():
            if word in names:
                return f"write {number}{unit}"
    return "write a number and one of us, ms, s, m, h, d, as in 100ms, 5s, 30m, 24h or 1h30m"


_SPELLED = {
    "us": ("us", "µs", "microsecond", "microseconds"),
    "ms": ("ms", "msec", "msecs", "milli", "millis", "millisecond", "milliseconds"),
    "s": ("s", "sec", "secs", "second", "seconds"),
    "m": ("m", "min", "mins", "minute", "minutes"),
    "h": ("h", "hr", "hrs", "hour", "hours"),
    "d": ("d", "day", "days"),
}
