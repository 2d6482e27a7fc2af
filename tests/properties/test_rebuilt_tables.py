"""A table that is rebuilt by the code that made it is the same, for any history; so is what would be said.

Histories are those of `test_the_past`: they fail, retry, expire, set timers, close and open. Bugs that are planted in how the
shadow follows the log are found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

import ensemble
from ensemble.event import Frame
from ensemble.ready import ready
from ensemble.rebuilding import Rebuilding
from ensemble.stage.shadow import Shadow
from tests.effort import some
from tests.properties.test_the_past import SCORE, STEPS, Step, add_up, note, played


def check(steps: Sequence[Step]) -> None:
    players = ready(SCORE, {"sum": add_up, "all": note}).players
    with ensemble.read(played(steps)) as reader:
        for name, player in players.items():
            with Rebuilding(player, [shard.log for shard in reader._shards]) as rebuilding:
                compared = rebuilding.compare()
            assert compared.is_same, str(compared)
            assert compared.heard == reader.status().sections[name].heard


@settings(deadline=None, max_examples=some(40), suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_a_rebuilt_table_is_the_same_and_so_is_what_would_be_said(steps: list[Step]) -> None:
    check(steps)


heard_by, follow = Shadow._heard_by, Shadow._follow


def without_retried(self: Shadow, frame: Frame) -> list[int]:
    return [offset for offset in heard_by(self, frame) if offset not in self.section.attempts]


def twice(self: Shadow, frame: Frame) -> list[int]:
    return heard_by(self, frame) * 2


def never_expiring(self: Shadow, frame: Frame) -> None:
    before = dict(self.table)
    follow(self, frame)
    self.table.update((key, before[key]) for key in frame.marks.get("expired", {}).get("sum", ()) if key in before)


BUGS: dict[str, tuple[str, Callable[..., Any], list[Step]]] = {
    "what failed at first is not heard": ("_heard_by", without_retried, [("say", ("a", 6)), ("wait", 3)]),
    "heard twice": ("_heard_by", twice, [("say", ("a", 1))]),
    "nothing expires": ("_follow", never_expiring, [("say", ("a", 1)), ("wait", 7)]),
}
"""What is planted where, and a history that shows it."""


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_that_is_planted_is_found(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place, planted, steps = BUGS[bug]
    check(steps)
    monkeypatch.setattr(Shadow, place, planted)

    with pytest.raises((AssertionError, KeyError)):
        check(steps)
