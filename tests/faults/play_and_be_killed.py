"""The process that the crash test kills: plays a score in a store to its end, and says where it stands.

    python play_and_be_killed.py SCORE STORE [SABOTAGE]

It says `playing` once the band is open and `done` once nothing is left to react to. SABOTAGE is a bug to plant in it.
"""

from __future__ import annotations

import sys
from typing import Any

import ensemble
from ensemble.broker import Broker


def forget_places() -> None:
    """Publish a source's lines without recording how far it was read."""
    publish = Broker.publish

    def without_places(self: Broker, publications: Any, now_us: int) -> Any:
        for publication in publications:
            publication.place = None
        return publish(self, publications, now_us)

    Broker.publish = without_places  # type: ignore[method-assign]


def hear_again() -> None:
    """Forget of each section the last of what it has heard, when the store is opened again."""
    from ensemble.stage import begin

    recover = begin.recover

    def carelessly(*given: Any) -> Any:
        state = recover(*given)
        for section in state.sections.values():
            section.position = max(0, section.position - 50)
        return state

    begin.recover = carelessly  # type: ignore[assignment]


SABOTAGES = {"forget places": forget_places, "hear again": hear_again}


def main(score: str, store: str, sabotage: str = "") -> None:
    if sabotage:
        SABOTAGES[sabotage]()
    with ensemble.open(score, store=store) as band:
        print("playing", flush=True)
        band.settle()
        print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
