"""The matcher hears what the definition says, whatever the motif and the history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, assume, given, seed, settings
from hypothesis import strategies as st

from ensemble.broker.matching import runs
from ensemble.motif import Motif, leaves
from tests.broker.matching.histories import MINUTE, documents, hear, histories, read
from tests.broker.matching.oracle import Said, heard
from tests.effort import some

NO_CHECKS = list(HealthCheck)
LATER = 60 * MINUTE


def held_equal(motif: Motif, history: list[Said], torn: int) -> None:
    """The matcher, torn and mended on the way, hears what the oracle does."""
    now_us = (history[-1].time_us if history else 0) + LATER
    assert hear(motif, history, now_us, torn=torn) == heard(motif, history, now_us)


def composite(document: Any) -> Motif:
    """The motif of a document, if it is right and takes several events; else the example is passed over."""
    try:
        motif = read(document)
    except ValueError:
        assume(False)
        raise
    assume(leaves(motif) is None)
    return motif


@settings(max_examples=some(600), deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(documents(), histories(), st.integers(-1, 8))
def test_a_matcher_hears_what_the_definition_says(document: Any, history: list[Said], torn: int) -> None:
    held_equal(composite(document), history, torn)


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

    quick = runs.SeqRun.step_quick
    monkeypatch.setattr(runs.SeqRun, "step_quick", lambda run, offset, bits: quick(run, offset, bits) % runs.OVER)
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


def said(text: str) -> list[Said]:
    """A history: `A B(2) C` is one event a minute, with `x` in brackets."""
    made = []
    for at, word in enumerate(text.split()):
        topic, _, x = word.partition("(")
        made.append(Said(at, at * MINUTE, topic, "k", {"x": int(x.rstrip(")") or 1) if x else 1}))
    return made


LABELLED = {"seq": [{"event": "A", "as": "l0"}, {"event": "B", "as": "l1"}], "where": "l0.data.x == l1.data.x"}

BUGS: list[tuple[Callable[[pytest.MonkeyPatch], None], Any, str, int]] = [
    (hears_the_last_to_begin, {"seq": ["A", "B"], "within": "5m"}, "A A B", -1),
    (lets_pass_what_must_not_come, {"seq": ["A", {"not": "B"}, "C"]}, "A B C", -1),
    (takes_any_neighbour, {"seq": ["A", {"next": "B"}]}, "A A C A X A B A A B", -1),
    (merges_too_much, {"seq": ["A", "B", {"not": "D"}, "C"]}, "A B A D B C", -1),
    (forgets_what_it_wrote_down, LABELLED, "A(2) B(2)", 1),
    (counts_windows_from_their_first_event, {"every": "2m", "of": "A"}, "C A A A", -1),
    (asks_nothing_of_the_whole, LABELLED, "A(1) B(2) B(1)", -1),
]


@pytest.mark.parametrize(("bug", "document", "history", "torn"), BUGS, ids=lambda each: getattr(each, "__name__", ""))
def test_a_planted_bug_is_found(
    bug: Callable[[pytest.MonkeyPatch], None], document: Any, history: str, torn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_equal(read(document), said(history), torn)

    bug(monkeypatch)

    with pytest.raises((AssertionError, KeyError)):
        held_equal(read(document), said(history), torn)


def test_a_random_search_finds_a_planted_bug_too(monkeypatch: pytest.MonkeyPatch) -> None:
    lets_pass_what_must_not_come(monkeypatch)

    @seed(1)
    @settings(max_examples=5_000, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=NO_CHECKS)
    @given(documents(), histories(), st.integers(-1, 8))
    def property_(document: Any, history: list[Said], torn: int) -> None:
        held_equal(composite(document), history, torn)

    with pytest.raises((AssertionError, ExceptionGroup)):
        property_()
