"""The matcher hears what the definition says, whatever the motif and the history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, assume, event, given, seed, settings
from hypothesis import strategies as st

from ensemble.broker.matching import runs
from ensemble.motif import leaves
from tests.broker.matching.histories import MINUTE, documents, hear, histories, read
from tests.broker.matching.oracle import Said, heard

LATER = 60 * MINUTE


def held_equal(document: Any, history: list[Said], torn: int) -> None:
    """The matcher, torn and mended on the way, hears what the oracle does."""
    try:
        motif = read(document)
    except ValueError:
        assume(False)
        raise
    assume(leaves(motif) is None)
    now_us = (history[-1].time_us if history else 0) + LATER
    told = heard(motif, history, now_us)
    event(f"matches: {min(len(told), 3)}")
    assert hear(motif, history, now_us, torn=torn) == told


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(documents(), histories(), st.integers(-1, 8))
def test_a_matcher_hears_what_the_definition_says(document: Any, history: list[Said], torn: int) -> None:
    held_equal(document, history, torn)


# Bugs planted in the matcher, each of which the property must see.


def hears_the_last_to_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several that are complete together the youngest is heard."""
    step = runs.Crowd.step
    monkeypatch.setattr(runs.Crowd, "step", lambda crowd, item, **how: list(reversed(step(crowd, item, **how))))


def lets_pass_what_must_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """`not` is not asked."""
    move = runs.SeqRun._set_stage

    def set_stage(run: runs.SeqRun) -> None:
        move(run)
        run.stage = msgspec.structs.replace(run.stage, without=None)

    monkeypatch.setattr(runs.SeqRun, "_set_stage", set_stage)


def takes_any_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    """`next` may come later."""
    monkeypatch.setattr(runs.SeqRun, "_is_begun", lambda run: True)


def merges_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """Partial matches that differ are taken for the same."""
    monkeypatch.setattr(runs.SeqRun, "place", lambda run: 0)


def forgets_what_it_wrote_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read back has lost the labels."""
    monkeypatch.setattr(runs, "_load_kept", lambda fields: [])


def counts_windows_from_their_first_event(monkeypatch: pytest.MonkeyPatch) -> None:
    def set_due(run: runs.WindowRun, time_us: int) -> None:
        run.due_us = time_us + (run.node.every_us or run.node.gap_us)

    monkeypatch.setattr(runs.WindowRun, "_set_due", set_due)


def asks_nothing_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """`where` of a seq or an all is not asked."""
    monkeypatch.setattr(runs, "seen", lambda bound: {label: {"data": {"x": 1}} for label in ("l0", "l1", "l2")})


BUGS = (
    hears_the_last_to_begin, lets_pass_what_must_not_come, takes_any_neighbour, merges_too_much,
    forgets_what_it_wrote_down, counts_windows_from_their_first_event, asks_nothing_of_the_whole,
)  # fmt: skip


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_found(bug: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    bug(monkeypatch)

    @seed(1)
    @settings(
        max_examples=20_000, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(documents(), histories(), st.integers(-1, 8))
    def property_(document: Any, history: list[Said], torn: int) -> None:
        held_equal(document, history, torn)

    with pytest.raises((AssertionError, ExceptionGroup, KeyError, AttributeError)):
        property_()
