"""Numbers far beyond any bound: retries that grow without end, delays that no calendar holds."""

from __future__ import annotations

import pytest

from ensemble import Event, Retry
from ensemble.broker.failure import backoff_us
from ensemble.score.model import RetryPolicy
from ensemble.testing import ManualClock
from tests.conformance.stand import Stand, part

pytestmark = pytest.mark.solo("a retry is reckoned by the same broker on every stage")


@pytest.mark.parametrize("factor", [2, 10, 1e300])
def test_backoff_stops_growing_at_most_however_often_it_was_tried(factor: float) -> None:
    policy = RetryPolicy(attempts=10**6, first_us=1, factor=factor, most_us=5_000_000, jitter=0)

    assert [backoff_us(policy, "token", attempt) for attempt in (500, 5_000, 10**6)] == [5_000_000] * 3


@pytest.mark.parametrize("after", [10**400, float("inf"), float("nan"), -1, "5 parsecs"])
def test_a_retry_after_what_is_no_duration_follows_the_policy(stand: Stand, after: float | str) -> None:
    def hear(event: Event) -> None:
        raise Retry(after=after)

    clock = ManualClock()
    policy = {"attempts": 2, "first": "1s", "jitter": 0}
    band = stand.play({"hear": part(hear, "said", retry=policy)}, clock=clock)
    band.publish("said")
    clock.advance(seconds=2)

    assert [letter.attempts for letter in band.dead()] == [2]
