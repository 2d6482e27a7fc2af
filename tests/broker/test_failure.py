"""How failures are told and timed."""

from __future__ import annotations

from typing import Any

from ensemble.broker import Failure, Policy
from ensemble.broker.failure import DEAD, ERROR_MOST, backoff_us, end_of, obituary, one_line, token_of
from ensemble.errors import InvalidEvent
from ensemble.score.model import Emit, RetryPolicy
from ensemble.score.obituary import FIELDS

FAILURE = Failure(7, "k", "k", "said", 7, 7, "ValueError: no", "trace")


def test_an_obituary_has_the_fields_that_scores_are_checked_by() -> None:
    told = obituary("play", FAILURE, 3, is_held=True)

    assert list(told) == list(FIELDS)
    assert {name: type(value) for name, value in told.items()} == {name: type(value) for name, value in FIELDS.items()}
    assert (told["offset"], told["attempts"], told["held"]) == (7, 3, True)


def test_an_event_ends_as_its_policy_says() -> None:
    ends = [end_of("play", FAILURE, 1, Policy(on_failure=how)) for how in ("dead-letter", "hold", Emit("failed"))]

    assert [(end.topic, end.is_held) for end in ends] == [(DEAD, False), (DEAD, True), ("failed", False)]


def test_an_event_that_may_not_be_said_is_a_dead_letter_with_both_reasons() -> None:
    def refuse(data: Any) -> None:
        raise InvalidEvent("failed: data.offset: too odd")

    end = end_of("play", FAILURE, 1, Policy(on_failure=Emit("failed"), check=refuse))

    assert (end.topic, end.is_held) == (DEAD, False)
    assert end.data["error"] == "ValueError: no; and failed can't tell of it: failed: data.offset: too odd"


def test_a_token_follows_from_the_log_the_event_and_the_player_alone() -> None:
    token = token_of("log-7", "play")

    assert token == token_of("log-7", "play")
    assert len({token, token_of("other-7", "play"), token_of("log-8", "play"), token_of("log-7", "pay")}) == 4


def test_waits_grow_by_the_factor_up_to_the_most() -> None:
    policy = RetryPolicy(first_us=100, factor=3, most_us=1000, jitter=0)

    assert [backoff_us(policy, "token", attempt) for attempt in (1, 2, 3, 4, 40)] == [100, 300, 900, 1000, 1000]


def test_jitter_follows_from_the_token_and_the_attempt_and_stays_within_its_share() -> None:
    policy = RetryPolicy(first_us=1000, factor=1, jitter=0.2)

    waits = [backoff_us(policy, f"token-{n}", 1) for n in range(200)]

    assert waits == [backoff_us(policy, f"token-{n}", 1) for n in range(200)]
    assert 800 <= min(waits) < 850
    assert 1150 < max(waits) <= 1200
    assert backoff_us(policy, "token-0", 1) != backoff_us(policy, "token-0", 2)


def test_an_error_is_one_line_of_bounded_length_even_if_it_is_broken_itself() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert one_line(ValueError("no\n  such card")) == "ValueError: no such card"
    assert one_line(ValueError()) == "ValueError"
    assert one_line(ValueError("x" * 1000)) == f"ValueError: {'x' * ERROR_MOST}..."
    assert one_line(Broken()) == "Broken: (its text can't be shown)"
    assert one_line(ValueError("no"), named=False) == "no"
