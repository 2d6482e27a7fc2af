"""Moments as cron writes them: five fields, minute, hour, day of the month, month, day of the week.

Owns the one place that knows the cron library. Moments are microseconds since 1970; the fields are read in a time zone, UTC
unless another is named. Where clocks are put forward, a moment that is skipped is not made up for; where they are put back, one
with a fixed hour comes once.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache

from ensemble.event import EPOCH

MICROSECOND = timedelta(microseconds=1)


class Cron:
    """The moments of a line.

    Errors: ValueError, with a sentence, if it is no such line, or there is no such zone.
    """

    def __init__(self, text: str, zone: str = "UTC") -> None:
        from cronsim import CronSim, CronSimError

        self._zone = zone_of(zone)
        self._text = text
        self._sim = CronSim
        fields = text.split()
        if len(fields) != 5:
            raise ValueError(
                f"{text!r:.80} has {len(fields)} field{'' if len(fields) == 1 else 's'}; write five: minute, hour, day of the "
                "month, month and day of the week, as in '0 3 * * *' for three in the morning"
            )
        try:
            CronSim(text, EPOCH)
        except CronSimError as error:
            what = str(error).removeprefix("Bad ").replace("day-of-month", "day of the month").replace("day-of-week", "weekday")
            cure = "'0 3 * * 1-5' is three in the morning from Monday to Friday"
            raise ValueError(f"{text!r:.80}: no such {what}; {cure}") from None

    def after(self, us: int) -> int:
        """The first moment after one."""
        return self._us(next(self._sim(self._text, self._local(us))))

    def latest(self, us: int) -> int:
        """The last moment that is not after one."""
        before = self._local(us).replace(microsecond=0) + timedelta(seconds=1)
        return self._us(next(self._sim(self._text, before, reverse=True)))

    def _local(self, us: int) -> datetime:
        return (EPOCH + us * MICROSECOND).astimezone(self._zone)

    @staticmethod
    def _us(moment: datetime) -> int:
        return (moment.astimezone(UTC) - EPOCH) // MICROSECOND


@lru_cache(maxsize=64)
def zone_of(name: str) -> tzinfo:
    """A time zone by its name.

    Errors: ValueError if there is none.
    """
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise ValueError(f"there is no time zone {name!r:.80}; write one such as Europe/Vienna, or UTC") from None
